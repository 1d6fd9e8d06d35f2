"""csb-cat: the lines of a session's transcript, wherever it is, and was

Where a session is found is the same for csb-log: what holds for both is tried on both.
"""
import json
import os
import re
import time

import pytest
from conftest import WHEN, line, lines, put_into

pytestmark = pytest.mark.logic

ID = "3f4a9b10-0000-4000-8000-00000000c0de"
UPPER = "3F4A9B11-0000-4000-8000-0000000BEEF0"
MB = 1 << 20


def transcript(*words, **fields):
    """Prompts as a transcript; the uuid of each is its word."""
    return b"".join(
        line(word, uuid=word, sessionId=ID, **fields).encode() for word in words)


@pytest.fixture
def put(home):
    """A function: put(bytes, id, project) makes a transcript on disk; its path."""
    def write(data, session_id=ID, project="-p"):
        path = f"projects/{project}/{session_id}.jsonl"
        return put_into(home, path, data, mtime=time.time())
    return write


def said(sh, command, given=b""):
    """The prompts that csb-cat or csb-log --json prints, in their order."""
    done = sh(command, given)
    assert done.rc == 0, done
    found = []
    for record in done.records:
        if record.get("type") == "user":
            found.append(record["message"]["content"])
        elif record.get("kind") == "turn":
            found.append(record["text"])
    return found


both = pytest.mark.parametrize("tool", ["csb-cat", "csb-log --json"])


def test_the_lines_are_as_they_are(sh, put):
    """Byte for byte, with spaces, escapes and order of keys, under a head."""
    data = (
        b'{ "type": "user",  "message": {"content": "a\\u00e9\xc3\xa9"}, "x": 1.50 }\n'
    )
    path = put(data + transcript("b") + b'{"type":"mode","mode":"x"}\n')
    head, rest = sh(f"csb-cat {ID}").ok().out.encode().split(b"\n", 1)
    assert rest == path.read_bytes()
    record = json.loads(head)
    assert record == {
        "kind": "session",
        "session_id": ID,
        "project": "-p",
        "lines": True,
        "transcript_path": str(path),
    }


def test_what_cannot_be_read_is_named_where_it_stood(sh, put):
    """Lines that are none, one that is ours, one that has no end."""
    put(transcript("a") + b"x\ny\n" + transcript("b") + lines({"kind": "session"})
        + b'{"type":"us')
    done = sh(f"csb-cat {ID}")
    assert done.err.endswith("4 bad lines of '" + done.records[0]["transcript_path"]
                             + "' left out, the first is line 2\n")
    shape = [record.get("kind") or record["uuid"] for record in done.records]
    assert shape == ["session", "a", "gap", "gap", "b", "gap", "gap"]
    assert [record for record in done.records if record.get("kind") == "gap"] == [
        {"kind": "gap", "line": 2, "bytes": 1, "what": "damaged"},
        {"kind": "gap", "line": 3, "bytes": 1, "what": "damaged"},
        {"kind": "gap", "line": 5, "bytes": 19, "what": "damaged"},
        {"kind": "gap", "line": 6, "bytes": 11, "what": "cut"}]


def test_a_whole_record_after_nuls_or_a_cut_one_is_printed(sh, put):
    put(b"\0" * 4096 + transcript("a") + b'{"type":"user","mess' + transcript("b"))
    assert said(sh, f"csb-cat {ID}") == ["a", "b"]


def test_a_line_above_8_mb_is_shortened_and_named(sh, put):
    """What is left is a record, with its words."""
    picture = {"type": "image", "source": {"data": "QUJD" * (3 * MB)}}
    words = {"type": "text", "text": "compare these"}
    record = {"type": "user", "uuid": "u", "message": {"content": [words, picture]}}
    put(lines(record))
    done = sh(f"csb-cat {ID}")
    gap, short = done.records[1:]
    assert gap["what"] == "shortened" and gap["bytes"] > 12 * MB
    assert short["message"]["content"][0] == words and len(done.out) < 100_000
    assert "its pictures and its longest texts are shortened" in done.err


@both
@pytest.mark.parametrize(
    "word", [ID, ID.upper(), ID[:8], ID[:8].upper(), ID[-6:].upper()]
)
@pytest.mark.few(2)
def test_an_id_in_either_case(sh, put, tool, word):
    put(transcript("a"))
    assert said(sh, f"{tool} {word}") == ["a"]
    assert said(sh, tool, word.encode() + b"\n") == ["a"]


@both
@pytest.mark.parametrize("word", [UPPER, UPPER.lower(), UPPER[:8].lower()])
@pytest.mark.parametrize("way", ["on disk", "deleted"])
@pytest.mark.few(2)
def test_a_session_with_a_name_in_upper_case(sh, put, tool, word, way):
    """As --session-id with macOS' uuidgen makes it."""
    put(transcript("a"), UPPER)
    if way == "deleted":
        sh("csb-backup; rm -r ~/.claude/projects")
    assert said(sh, f"{tool} {word}") == ["a"]
    assert sh(f"csb-cat {word}").ok().records[0]["session_id"] == UPPER


def back_up_a_move(sh, home):
    """A session that was moved to another project, grew there, and was deleted.

    Subagent and saved output went along. The path of its first transcript.
    """
    first = f"projects/-old/{ID}"
    now = time.time()
    put_into(home, 7, project="-another", mtime=now)
    put_into(home, f"{first}.jsonl", transcript("a", "b"), mtime=now)
    put_into(home, f"{first}/subagents/agent-x.jsonl", transcript("agent"), mtime=now)
    sh("csb-backup").ok()
    sh("cd ~/.claude/projects && mv -T -- -old -new").ok()
    put_into(home, f"projects/-new/{ID}.jsonl", transcript("a", "b", "c"), mtime=now)
    sh("csb-backup").ok()
    sh("rm -r ~/.claude/projects/-new").ok()
    sh("csb-backup").ok()
    return str(home.claude / f"{first}.jsonl")


@both
@pytest.mark.few(1)
def test_a_session_that_moved_and_was_deleted(sh, home, once, tool):
    """It is one session, by its id and by either path; what it was before, too."""
    path = once(back_up_a_move)
    whole = ["a", "b", "c", "agent"]
    assert said(sh, f"{tool} {ID}") == whole
    assert said(sh, tool, lines({"session_id": ID})) == whole
    assert said(sh, f"{tool} {path}") == ["a", "b", "agent"]
    new = path.replace("-old", "-new")
    assert said(sh, f"{tool} {new}") == whole
    assert said(sh, tool, lines({"session_id": ID, "project": "-new"})) == whole
    assert said(sh, f"{tool} --at main~2 {ID}") == ["a", "b", "agent"]
    assert said(sh, f"{tool} --at main~1 {ID}") == whole
    head = sh(f"csb-cat {ID}").ok().records[0]
    assert (head["project"], head["transcript_path"]) == ("-new", new)


@both
def test_flat_agent_files_are_looked_at_once(sh, put, tool):
    """However many sessions of a project are read: what cannot be read is said once."""
    for word, session_id in (("a", ID), ("b", UPPER)):
        folder = put(transcript(word), session_id).parent
        (folder / f"agent-{word}.jsonl").write_text(
            line(f"{word} agent", uuid=f"{word}-1", sessionId=session_id))
    (folder / "agent-c.jsonl").write_text("{}\n")
    (folder / "agent-c.jsonl").chmod(0)
    done = sh(f"{tool} {ID} {UPPER}")
    assert done.rc == 1 and done.err.count("cannot read") == 1, done
    told = re.findall('"(?:content|text)": ?"([^"]*)"', done.out)
    assert told == ["a", "a agent", "b", "b agent"]


@both
@pytest.mark.few(1)
def test_a_version_that_is_lost_is_said(sh, home, put, tool):
    """The one before it is read, as it would be restored; but that is no success."""
    for words in (["a"], ["a", "b"]):
        put(transcript(*words))
        sh("csb-backup").ok()
    oid = sh(f"csb-history {ID} | head -1 | jq -r .oid").out.strip()
    (home.backup / "git/objects" / oid[:2] / oid[2:]).unlink()
    sh("rm -r ~/.claude/projects").ok()
    done = sh(f"{tool} {ID}")
    assert done.rc == 1 and done.err.count("cannot read a version of") == 1
    assert transcript("a").strip() in done.out.encode() or '"text":"a"' in done.out

    oid = sh(f"csb-history {ID} | tail -1 | jq -r .oid").out.strip()
    (home.backup / "git/objects" / oid[:2] / oid[2:]).unlink()
    done = sh(f"{tool} {ID}")
    assert done.rc == 1 and f"'projects/-p/{ID}.jsonl'" in done.err.splitlines()[-1]


@both
def test_a_moved_session_by_the_path_that_it_had(sh, home, put, tool):
    """A record of an index that does not know of the move yet."""
    put(transcript("a"), project="-new")
    record = {"session_id": ID, "project": "-old",
              "transcript_path": f"{home.claude}/projects/-old/{ID}.jsonl"}
    assert said(sh, tool, lines(record)) == ["a"]


@both
@pytest.mark.few(1)
def test_a_stub_hides_nothing(sh, home, put, tool):
    """A copy without messages, on disk or stored, beside the one that was deleted."""
    put(transcript("a", "b"))
    stub = lines({"type": "mode", "mode": "normal", "sessionId": ID})
    put(stub, project="-p--worktree")
    assert said(sh, f"{tool} {ID}") == ["a", "b"]
    sh("csb-backup; rm -r ~/.claude/projects/-p").ok()
    assert said(sh, f"{tool} {ID}") == ["a", "b"]
    sh("rm -r ~/.claude/projects").ok()
    assert said(sh, f"{tool} {ID}") == ["a", "b"]


@both
@pytest.mark.few(1)
def test_two_that_truly_differ_are_not_chosen_between(sh, put, tool):
    put(transcript("a", "b"))
    put(transcript("x", "y"), project="-q")
    sh("csb-backup; rm -r ~/.claude/projects").ok()
    done = sh(f"{tool} {ID}")
    assert (done.rc, done.out) == (2, "") and "is in several places" in done.err
    assert done.err.count("\n") == 1
    assert said(sh, tool, lines({"session_id": ID, "project": "-q"})) == ["x", "y"]
    told = re.search(r"\((.*) takes one\): (.*) (.*)\n", done.err)
    how, first, second = told.groups()
    for path, words in ((first, ["a", "b"]), (second, ["x", "y"])):
        typed = how.replace("PATH", path).replace(tool.split()[0], tool)
        assert said(sh, typed) == words


@both
def test_one_that_says_what_the_others_say_is_read(sh, put, tool):
    """Of several on disk; of two that truly differ none is chosen."""
    put(transcript("a"))
    put(transcript("a", "b"), project="-q")
    assert said(sh, f"{tool} {ID}") == ["a", "b"]
    put(transcript("x"))
    done = sh(f"{tool} {ID}")
    assert (done.rc, done.out) == (2, "") and "takes one): " in done.err


@both
@pytest.mark.few(1)
def test_a_transcript_deeper_than_claude_code_looks(sh, home, tool):
    """People and programs put them there; it is found, now and once it is gone."""
    put_into(home, f"projects/-p/kept/{ID}.jsonl", transcript("a"), mtime=time.time())
    assert said(sh, f"{tool} {ID[:8]}") == ["a"]
    sh("csb-backup; rm -r ~/.claude/projects").ok()
    assert said(sh, f"{tool} {ID[:8]}") == ["a"]


@both
@pytest.mark.few(1)
def test_as_it_was_at_a_time(sh, home, tool):
    """A commit, or the last one before a time; a day means all of it."""
    store = "git --git-dir=$CSB_HOME/git"
    names = (
        "GIT_AUTHOR_NAME",
        "GIT_AUTHOR_EMAIL",
        "GIT_COMMITTER_NAME",
        "GIT_COMMITTER_EMAIL",
    )
    parent = ""
    for number, words in enumerate((["a"], ["a", "b"]), 1):
        put_into(home, f"projects/-p/{ID}.jsonl", transcript(*words), mtime=WHEN)
        sh("csb-changes | csb-gitcommit").ok()
        env = dict.fromkeys(names, "x")
        env["GIT_COMMITTER_DATE"] = f"{WHEN + number * 86_400} +0000"
        tree = "-m x main^{tree}"
        made = sh(f"{store} commit-tree {parent} {tree}", **env).ok().out.strip()
        parent = f"-p {made}"
    sh(f"{store} update-ref refs/heads/then {made}").ok()
    sh(f"{store} update-ref -d refs/heads/main").ok()
    for then, words in (
        ("2026-01-03", ["a"]),
        ("2026-01-04", ["a", "b"]),
        ("2026-01-04T03:04:04Z", ["a"]),
        ("2026-01-04T08:04:05+05:00", ["a", "b"]),
        ("then", ["a", "b"]),
        ("then~1", ["a"]),
    ):
        assert said(sh, f"{tool} --at {then} {ID}") == words, then
    for then, problem in (
        ("2026-01-02", "no backup was made"),
        ("nope", "commit"),
        ("''x", "commit"),
    ):
        done = sh(f"{tool} --at {then} {ID}")
        assert done.rc == 1 and done.err.count("\n") == 1 and problem in done.err


@both
def test_nothing_but_git_is_needed(sh, home, put, tool, tools):
    """No index, no text index, and of a session on disk no store."""
    put(transcript("a"))
    assert said(sh, f"{tool} {ID}") == ["a"]
    assert not home.backup.exists()
    done = sh(f"{tool} ffff")
    assert done.rc == 3 and done.err.count("\n") == 1
    assert "session 'ffff' is not on disk; cannot find a store at" in done.err
    assert "csb backup makes one" in done.err


def test_each_session_comes_once(sh, put):
    put(transcript("a"))
    assert said(sh, f"csb-cat {ID} {ID[:8]} {ID.upper()}") == ["a"]


def test_two_versions_side_by_side(sh, home, put):
    """What README says of diff."""
    put(transcript("a"))
    sh("csb-backup").ok()
    put(transcript("a", "b"))
    sh("csb-backup").ok()
    done = sh(f"diff <(csb-cat --at main~1 {ID}) <(csb-cat {ID}) | grep '^[<>]'")
    assert [text for text in done.out.splitlines() if '"kind"' not in text] == [
        "> " + transcript("b").decode().rstrip("\n")]


TITLES = {
    "custom over ai": (
        [
            {"type": "ai-title", "aiTitle": "x"},
            {"type": "custom-title", "customTitle": "mine"},
            {"type": "ai-title", "aiTitle": "y"},
        ],
        "mine",
    ),
    "the last": (
        [{"type": "ai-title", "aiTitle": "x"}, {"type": "ai-title", "aiTitle": "y"}],
        "y",
    ),
    "a summary of this": ([{"type": "summary", "summary": "s", "leafUuid": "a"}], "s"),
    "a summary of another": (
        [{"type": "summary", "summary": "s", "leafUuid": "z"}],
        None,
    ),
    "none": ([], None),
}


@pytest.mark.parametrize("name", TITLES)
@pytest.mark.parametrize("filler", [0, 300_000])
@pytest.mark.few(2)
def test_the_title_is_known_wherever_it_stands(sh, put, name, filler):
    """Also far from the end; a prompt is none that somebody gave, but heads a log."""
    records, title = TITLES[name]
    more = lines({"type": "progress", "text": "x" * filler})
    put(lines(*records) + transcript("a") + more)
    assert sh(f"csb-cat {ID}").ok().records[0].get("title") == title
    head = f"# {title or 'a'}\n"
    assert sh(f"csb-log {ID}").ok().out.startswith(head)
    sh("csb-backup; rm -r ~/.claude/projects").ok()
    assert sh(f"csb-cat {ID}").ok().records[0].get("title") == title


def test_the_title_in_a_file_beside_it(sh, home, put):
    put(transcript("a") + lines({"type": "ai-title", "aiTitle": "x"}))
    put_into(home, f"projects/-p/{ID}/custom-title.json", b'{"customTitle":"mine"}')
    assert sh(f"csb-log {ID}").ok().out.startswith("# mine\n")
    sh("csb-backup; rm -r ~/.claude/projects").ok()
    assert sh(f"csb-log {ID}").ok().out.startswith("# mine\n")


def test_what_is_forged_in_a_transcript_is_no_head(sh, put):
    """A line that looks like what csb-cat writes between them does not get through."""
    message = {"type": "user", "message": {"content": "x"}}
    forged = lines({"kind": "session", "lines": True, "session_id": "x", **message},
                   {"kind": "session", "lines": True, "session_id": "x"},
                   {"kind": "agent", "depth": 1, "subagent": "x"},
                   {"kind": "turn", "role": "user", "text": "forged", **message})
    put(transcript("a") + forged + transcript("b"))
    done = sh(f"csb-cat {ID} | csb-log --json")
    assert "forged" not in done.out
    assert {record["session_id"] for record in done.records} == {ID}


def test_a_link_for_a_transcript_is_read(sh, home, put):
    path = put(transcript("a"))
    os.rename(path, home.path / "elsewhere.jsonl")
    path.symlink_to(home.path / "elsewhere.jsonl")
    assert said(sh, f"csb-cat {ID}") == ["a"]
