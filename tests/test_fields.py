"""What a session is made of: tokens, folders by work, where it comes from, models and
links; and all of it, on real transcripts, as a slow script counts it. And what the
record: lines of the tools say of fields."""
import ast
import json
import os
import random
import re
import sys

import pytest
import slow_facts
from conftest import ROOT
from learning import Learning

sys.path[:0] = [os.path.join(ROOT, "lib"), os.path.join(ROOT, "lib/build")]
from described import records_of  # noqa: E402

pytestmark = pytest.mark.logic

OWN, OTHER, THIRD = (f"3f4a9b10-0000-4000-8000-{number:012d}" for number in (1, 2, 3))
COUNTED = ["input", "output", "cache_read", "cache_write"]


def record(kind="assistant", content="x", message=None, **fields):
    """One line of a transcript."""
    found = {
        "type": kind,
        "cwd": "/home/me/p",
        "sessionId": OWN,
        "uuid": random.randbytes(8).hex(),
        "message": {"role": kind, "content": content, **(message or {})},
        **fields,
    }
    return json.dumps(found) + "\n"


def call(tool, cwd="/home/me/p", **given):
    """The line of an answer that calls a tool."""
    return record(content=[{"type": "tool_use", "name": tool, "input": given}], cwd=cwd)


def said(key, *numbers, **fields):
    """The line of an answer, and what it has cost so far."""
    names = ("input_tokens", "output_tokens", "cache_read_input_tokens",
             "cache_creation_input_tokens")
    return record(
        message={"id": key, "usage": dict(zip(names, numbers, strict=False)), **fields}
    )


@pytest.fixture
def learn(sh, tmp_path):
    """learn(text, before): what csb-index knows of a transcript."""
    learning = Learning(sh, tmp_path)

    def run(text, before=None):
        text = text if isinstance(text, bytes) else text.encode()
        return learning([(text, before)], ids=[OWN])[0]
    return run


USAGE = {
    "one answer": ([said("a", 1, 2, 3, 4)], [1, 2, 3, 4]),
    "in three records, the last counts": (
        [said("a", 1, 1, 9, 9), said("a", 1, 5, 9, 9), said("a", 1, 7, 8, 0)],
        [1, 7, 8, 0],
    ),
    "answers in turn": (
        [said("a", 1), said("b", 10), said("a", 2), said("b", 20)],
        [22, 0, 0, 0],
    ),
    "no id: each counts": ([said(None, 1), said(None, 1), said(7, 1)], [3, 0, 0, 0]),
    "no numbers": (
        [said("a", "1", -1, 1.5, True), said("b", None, [], {}, 1 << 60)],
        [0] * 4,
    ),
    "no usage": (
        [record(message={"id": "a"}), record(message={"id": "a", "usage": []})],
        None,
    ),
    "a side chain": (
        [said("a", 1), said("b", 2).replace('"sessionId"', '"isSidechain":true,"s"')],
        [3, 0, 0, 0],
    ),
    "not of a person": (
        [record("user", message={"id": "a", "usage": {"input_tokens": 5}})],
        None,
    ),
    "30 at the same time": (
        [said(str(n), step) for step in (1, 2) for n in range(30)],
        [60, 0, 0, 0],
    ),
}


@pytest.mark.parametrize("what", USAGE)
@pytest.mark.few(2)
def test_tokens(learn, what):
    """Once an answer; and the same when each line is read by a run of its own."""
    lines, total = USAGE[what]
    expected = total and dict(zip(COUNTED, total, strict=True))
    assert learn("".join(lines))["shown"].get("tokens") == expected
    before = None
    for count in range(1, len(lines) + 1):
        before = learn("".join(lines[:count]), before)
    assert before["shown"].get("tokens") == expected


P, W = "/home/me/p", "C:\\Users\\me\\p"
# What is called, from where, and the folders in which that is work.
FOLDERS = [
    ("Read", P, {"file_path": "/home/me/q/a.py"}, ["/home/me/q"]),
    ("Edit", P, {"file_path": "src/a.py"}, [P + "/src"]),
    ("Edit", P, {"file_path": "./a/../b//c"}, [P + "/b"]),
    ("Write", P, {"file_path": "~/x/y.txt"}, [P]),
    ("NotebookEdit", P, {"notebook_path": "/home/me/n/a.ipynb"}, ["/home/me/n"]),
    ("Read", P, {"file_path": "/home/me/app/[slug]/page.tsx"}, ["/home/me/app/[slug]"]),
    ("Read", P, {"file_path": "/home/me/a b/c"}, ["/home/me/a b"]),
    ("Read", P, {"file_path": "/dev/null"}, [P]),
    ("Read", P, {"file_path": "https://x.org/a/b"}, [P]),
    ("Read", P, {"file_path": "/home/me/*.py"}, [P]),
    ("Read", P, {"file_path": "$HOME/x/y"}, [P]),
    ("Read", P, {"file_path": ".../x"}, [P]),
    ("Read", P, {"file_path": ""}, [P]),
    ("Read", P, {"file_path": ["/home/x/y"]}, [P]),
    ("Read", P, {"file_path": "/home/me/\u0000/y"}, [P]),
    ("Read", P, {"file_path": "/home/" + "x" * 2000 + "/y"}, [P]),
    ("Read", "", {"file_path": "src/a.py"}, []),
    ("Read", W, {"file_path": "C:\\Users\\me\\q\\a.txt"}, ["C:\\Users\\me\\q"]),
    ("Read", W, {"file_path": "C:/Users/me/q/a.txt"}, ["C:\\Users\\me\\q"]),
    ("Read", W, {"file_path": "src\\a.txt"}, [W + "\\src"]),
    ("Read", W, {"file_path": "\\\\host\\share\\a\\b.txt"}, ["\\\\host\\share\\a"]),
    ("Read", P, {"file_path": "D:\\q\\a.txt"}, ["D:\\q"]),
    ("Grep", P, {"path": "src", "pattern": "/etc/x"}, [P + "/src"]),
    ("Grep", P, {"path": "src/a.py"}, [P + "/src"]),
    ("Grep", P, {"path": "/home/me/.github"}, ["/home/me/.github"]),
    ("Glob", P, {"path": "/home/me/v1.2", "pattern": "**/*.py"}, ["/home/me/v1.2"]),
    ("Glob", P, {"pattern": "/home/me/q/*.py"}, [P]),
    ("LS", P, {"path": ".."}, ["/home/me"]),
    ("TodoWrite", P, {"path": "/home/me/q"}, [P]),
    ("mcp__x__get", P, {"path": "/v1/users", "command": "cd /home/me/q"}, [P]),
    ("Bash", P, {"command": "make"}, [P]),
    ("Bash", P, {"command": "cd /srv/x && make"}, [P]),
    ("Bash", P, {"command": "cat /srv/x/a.txt"}, [P]),
    ("Bash", P, {"command": None}, [P]),
    ("Bash", W, {"command": "dir \"C:\\Users\\me\\q\\a.txt\""}, [W]),
]


def test_folders(sh, tmp_path):
    """Each call is work in the folders that it names, else in its cwd."""
    texts = [call(tool, cwd, **given).encode() for tool, cwd, given, _ in FOLDERS]
    found = Learning(sh, tmp_path)(texts)
    for (tool, cwd, given, expected), one in zip(FOLDERS, found, strict=True):
        folders = {f["path"]: f["work"] for f in one["shown"]["folders"] if f["work"]}
        assert folders == dict.fromkeys(expected, 1), (tool, cwd, given)


@pytest.mark.long
def test_folders_are_bounded(learn):
    text = "".join(call("Read", "/w", file_path=f"/srv/{n}/x") for n in range(20000))
    assert len(learn(text)["shown"]["folders"]) == 10000


def test_each_cwd_is_listed_and_prompts_are_work(learn):
    text = (
        record("user", "do", cwd="/a")
        + record(cwd="/b")
        + record("user", "it", cwd="/a")
        + call("Read", "/b", file_path="/c/x")
        + call("TodoWrite", "/a")
    )
    assert learn(text)["shown"]["folders"] == [
        {"path": "/a", "work": 3}, {"path": "/c", "work": 1}, {"path": "/b", "work": 0}]


FORK = {"forkedFrom": {"sessionId": OTHER, "messageUuid": "x"}}
PARENTS = {
    "none": (record(), None),
    "a fork": (record(**FORK) + record(), OTHER),
    "a fork of a fork": (
        record(**FORK) + record(forkedFrom={"sessionId": THIRD}),
        THIRD,
    ),
    "a fork of itself": (record(forkedFrom={"sessionId": OWN}), None),
    "a fork of nothing": (
        record(forkedFrom="x")
        + record(forkedFrom={"sessionId": 1})
        + record(forkedFrom={"sessionId": "../x"}),
        None,
    ),
    "records of another in front": (record(sessionId=OTHER) * 2 + record(), OTHER),
    "of two others": (
        record(sessionId=THIRD) + record(sessionId=OTHER) + record(),
        OTHER,
    ),
    "of another later": (record() + record(sessionId=OTHER), None),
    "its own mark in front": (
        json.dumps({"type": "queue-operation", "sessionId": OWN})
        + "\n"
        + record(sessionId=OTHER)
        + record(),
        OTHER,
    ),
    "a fork counts more": (
        record(sessionId=THIRD) + record(**FORK) + record(sessionId=THIRD),
        OTHER,
    ),
    "nothing of its own": (record(sessionId=OTHER), OTHER),
    "no id": (record(sessionId="x") + record(sessionId=None) + record(), None),
}


@pytest.mark.parametrize("what", PARENTS)
@pytest.mark.few(2)
def test_parent(learn, what):
    text, parent = PARENTS[what]
    assert learn(text)["shown"].get("parent_session_id") == parent
    cut = text.index("\n") + 1
    assert learn(text, learn(text[:cut]))["shown"].get("parent_session_id") == parent


def test_the_last_that_is_said_counts(learn):
    def link_to(url):
        return json.dumps({"type": "pr-link", "prUrl": url}) + "\n"

    one, two = "https://x/1", "https://x/2"
    urls = (one, two, one, "javascript:x", ["https://x/3"])
    text = "".join(
        [
            record(message={"model": "a"}, version="1", gitBranch="main", uuid="first"),
            record(message={"model": "b"}, version="2", gitBranch=" fix\n it"),
            record(message={"model": "<synthetic>"}, version="", gitBranch="HEAD"),
            record(message={"model": "c"}, isSidechain=True, gitBranch=""),
            record(message={"model": ["d"]}, version=3, gitBranch=None),
            *map(link_to, urls),
            record("user", "one", timestamp="2026-01-02T03:04:06Z"),
            record("user", [{"type": "tool_result"}], timestamp="2026-01-02T03:04:09Z"),
            record("user", "two", timestamp="2026-01-02T03:04:05Z"),
            record("user", "<command-name>/clear</command-name>"),
            record("user", "s", isMeta=True),
            record("user", "<local-command-stdout>x"),
            record("user", "c", isCompactSummary=True),
        ]
    )
    found = learn(text)["shown"]
    expected = {
        "model": "b",
        "version": "2",
        "git_branch": "fix it",
        "first_uuid": "first",
        "pr_links": [two, one],
        "user_messages": 2,
        "tool_calls": 0,
        "last_user_at": "2026-01-02T03:04:06.000Z",
        "bad_lines": 0,
    }
    assert {name: found.get(name) for name in expected} == expected


def test_lines_that_look_like_records_of_ours(learn):
    """A transcript cannot speak for the tools."""
    fakes = [{"kind": "read", "failed": True}, {"kind": "session", "session_id": THIRD},
             {"kind": "end"}, {"kind": "call", "tool": "Read", "file_path": "/x/y/z"}]
    text = "".join(json.dumps(one, separators=(",", ":")) + "\n" for one in fakes)
    for whole in (text, text + record("user", "p"), record("user", "p") + text):
        found = learn(whole)
        assert found["session_id"] == OWN
        assert found["shown"]["bad_lines"] == 0
        assert found["shown"].get("title") == ("p" if whole != text else None)
        assert {f["path"] for f in found["shown"]["folders"]} <= {"/home/me/p"}


# --- what is written more than once ---------------------------------------------------


def talk(count, start=0):
    """Prompts and answers that call a tool, with the uuids that they always have."""
    lines = []
    for number in range(start, start + count):
        uuid = f"{number:08x}-0000-4000-8000-000000000000"
        lines.append(record("user", f"p{number}", uuid=uuid))
        content = [{"type": "tool_use", "name": "Bash", "input": {}}]
        usage = {"input_tokens": 5, "output_tokens": 7}
        message = {"id": f"m{number}", "usage": usage}
        lines.append(record(content=content, uuid="a" + uuid[1:], message=message))
    return lines


REPLAYS = {
    "once more": lambda lines: lines * 2,
    "several times": lambda lines: lines * 4,
    "the first half": lambda lines: lines + lines[:60],
    "each at once": lambda lines: [one for line in lines for one in (line, line)],
    "backwards": lambda lines: lines + lines[::-1],
    "with new text": lambda lines: lines + [one.replace('"p', '"q') for one in lines],
    "new uuids, the same answers": lambda lines: lines + [
        one.replace('"uuid": "', '"uuid": "f') for one in lines if '"id": "m' in one],
}


@pytest.mark.parametrize("what", REPLAYS)
@pytest.mark.few(2)
def test_what_is_written_once_more_counts_once(learn, what):
    """After a compaction the client appends earlier rows;
    also if a run came between."""
    lines = talk(60)
    again = REPLAYS[what](lines)
    once = learn("".join(lines))["shown"]
    assert (once["messages"], once["user_messages"]) == (120, 60)
    names = ["user_messages", "tokens", "started", "last_active", "folders", "title"]
    if what == "new uuids, the same answers":
        names.remove("folders")         # its calls count, for they have new ids
    else:
        names += ["messages", "tool_calls"]
    before = learn("".join(again[:130]))
    for found in (learn("".join(again)), learn("".join(again), before)):
        for name in names:
            assert found["shown"].get(name) == once.get(name)


def test_what_is_written_once_more_in_the_unfinished_line(learn):
    """It is read twice, as it is and as a whole line, and counts once."""
    lines = talk(3)
    for last in (lines[0], talk(1, 9)[0]):
        text = "".join(lines) + last.rstrip()
        count = 6 + (last != lines[0])
        before = learn(text)
        assert before["shown"]["messages"] == count
        assert learn(text + "\n", before)["shown"]["messages"] == count
        after = learn(text + "\n" + "".join(talk(1, 20)), before)
        assert after["shown"]["messages"] == count + 2


@pytest.mark.long
def test_many_replays(learn):
    """Of more than are remembered those that came last count once all the same."""
    lines = talk(22_500)
    shown = learn("".join(lines + lines[-8000:]))["shown"]
    assert (shown["messages"], shown["user_messages"]) == (45_000, 22_500)


# --- where a session came from and went -----------------------------------------------


def test_it_goes_on_in_another_session(learn):
    end = {"type": "continued-in", "sessionId": OWN, "continuedInSessionId": OTHER}
    text = record("user", "p") + json.dumps(end) + "\n"
    assert learn(text)["shown"]["continued_in"] == OTHER
    end = {"type": "relocated", "sessionId": OWN, "relocatedCwd": "/home/me/main"}
    text = record("user", "p") + json.dumps(end) + "\n"
    assert learn(text)["shown"]["relocated_to"] == "/home/me/main"
    shown = learn(text, learn(record("user", "p")))["shown"]
    assert shown["relocated_to"] == "/home/me/main"


MACHINES = [
    '<teammate-message teammate_id="a">\nPlease count.\n</teammate-message>',
    (
        "Another Claude session sent a message: "
        '<agent-message from="b">\nok\n</agent-message>'
    ),
    "<cross-session-message from=\"x\">ping</cross-session-message>",
    "Stop hook feedback:\n- run the tests",
    (
        "Caveat: The messages below were generated by the user "
        "while running local commands."
    ),
    "<task-notification>\n<task-id>1</task-id>\n</task-notification>",
    "<ci-monitor-event>x</ci-monitor-event>",
    "<new-diagnostics>x</new-diagnostics>",
    "[Subagent hand-back] x",
    "Base directory for this skill: /x",
    "<command-name>/clear</command-name>",
    "/compact",
    "[Request interrupted by user]",
]


@pytest.mark.parametrize("text", MACHINES)
@pytest.mark.few(7)
def test_what_a_machine_says_is_no_prompt(learn, text):
    """It is counted as a message, but not as a person's, and is no title."""
    shown = learn(record("user", text) + record() + record("user", "typed"))["shown"]
    assert (shown["messages"], shown["user_messages"]) == (3, 1)
    assert (shown["title"], shown["title_from"]) == ("typed", "prompt")


def test_what_wraps_a_persons_words_is_peeled(learn):
    text = (
        '<channel source="plugin:telegram" chat_id="7">\nfix the login page\n</channel>'
    )
    shown = learn(record("user", text) + record())["shown"]
    assert (shown["title"], shown["user_messages"]) == ("fix the login page", 1)


def test_the_fields_decide_who_wrote_it(learn):
    human = {"origin": {"kind": "human"}, "promptSource": "typed"}
    text = record("user", "ping", origin={"kind": "peer"})
    text += record("user", "mine", **human)
    shown = learn(text)["shown"]
    assert (shown["title"], shown["user_messages"]) == ("mine", 1)


# --- real transcripts -----------------------------------------------------------------


def transcripts(real):
    """All transcripts of the real directories."""
    return sorted(
        path for root in real.claude for path in root.glob("projects/*/*-*-*-*-*.jsonl")
    )


NOT_LEARNED = """kind session_id project root transcript_path size mtime files bytes
    purge_at state change""".split()


@pytest.mark.long
def test_all_real_sessions_as_the_slow_script_counts_them(sh, real, figure):
    """Every one is found; counts, dates, folders, tokens and all else are the same."""
    roots = " ".join(map(str, real.claude))
    done = sh(f"csb-find {roots} | csb-index", timeout=300).ok()
    found = [one for one in done.records if one.get("state") == "present"]
    on_disk = {str(path) for path in transcripts(real)}
    assert {r["transcript_path"] for r in found} == on_disk
    assert len(found) == len(on_disk) > 90
    titles = {"none": 0}
    for one in found:
        shown = {field: one[field] for field in one if field not in NOT_LEARNED}
        source, title = shown.pop("title_from", "none"), shown.pop("title", None)
        titles[source] = titles.get(source, 0) + 1
        order = [-f["work"] for f in shown["folders"]]
        assert order == sorted(order)
        shown["folders"] = {f["path"]: f["work"] for f in shown["folders"]}
        expected = slow_facts.facts(one["transcript_path"])
        assert shown == expected, one["transcript_path"]
        assert title or not expected["user_messages"]
    assert sum(len(one["folders"]) for one in found) > 200
    assert titles["none"] <= len(found) * 0.05
    figure(f"{len(found)} real sessions, titles from {titles}")


@pytest.mark.long
def test_real_sessions_in_pieces(sh, real, seeded, tmp_path):
    """Cut anywhere, read up to there and on: nothing tells that it was many times."""
    paths = [path for path in transcripts(real) if 9000 < path.stat().st_size < 1 << 21]
    texts = [path.read_bytes() for path in seeded.sample(paths, 12)]
    learning = Learning(sh, tmp_path)
    known = [None] * len(texts)
    ends = [0] * len(texts)
    for step in range(6):
        for number, text in enumerate(texts):
            at = seeded.randrange(ends[number], len(text) + 1)
            if seeded.random() < 0.5:
                at = text.find(b"\n", at) + 1 or len(text)
            ends[number] = len(text) if step == 5 else at
        now = [text[:end] for text, end in zip(texts, ends, strict=True)]
        known = learning(list(zip(now, known, strict=True)))
        assert not any(one["rewritten"] for one in known)
    fresh = learning(texts)
    for one, other in zip(known, fresh, strict=True):
        for field in ("facts", "parsed", "prefix", "shown"):
            assert one[field] == other[field], field


# --- what docstrings say of records ---------------------------------------------------

SAYING = {tool: records_of(os.path.join(ROOT, "bin", tool))
          for tool in sorted(os.listdir(os.path.join(ROOT, "bin")))
          if os.path.isfile(os.path.join(ROOT, "bin", tool))}

# What makes records of all kinds, each by the last tool of a line.
# ID was deleted, and OLD is there.
MAKING = """
csb-changes
csb-changes --session 99999999
csb-backup
echo x >~/.claude/CLAUDE.md; csb-changes | csb-gitcommit --tell-seen
echo y >~/.claude/CLAUDE.md; csb-changes | csb-gitcommit --dry-run
csb-gitcommit --make --git-dir $HOME/more.git </dev/null
csb-find
csb-find --lost
csb-find | csb-index
csb-find --lost | csb-index
csb-list --all --end
csb-scan ~/code --all
csb-tree --all
csb-show 3f4a9b2c 99999999
csb-history 3f4a9b2c
csb-history --files 99999999
csb-search parser
csb-search -C 1 -F fix
csb-search -l parser
csb-cat 99999999
csb-log --json 99999999
csb-cat 99999999 | csb-redact --scan
csb-config
csb-status
csb-status --runs
csb-verify
csb-gc --now
csb-push --dry-run --allow-secrets ~/remote.git
csb-push --dry-run ~/remote.git
csb-push --allow-secrets ~/remote.git
csb-schedule --status
csb-restore --target-dir ~/out 3f4a9b2c
csb-restore --deleted --dry-run
csb-find | jsonl_snapshot --dest-dir ~/shots
csb-find | session_snapshot --dest-dir ~/memory
jsonl_snapshot --restore $HOME/shots/*.gz --target-dir ~/again
session_snapshot --restore $HOME/memory/*.md --target-dir ~/again
""".strip().splitlines()


def fields_said(tool, kind):
    """The words by which a tool tells the fields of a kind;
    those of the tools that it names, too."""
    words = {"kind"}
    for said in SAYING[tool]:
        if said.way == "in":
            continue
        if kind not in said.kinds and f"{kind}, as " not in said.text:
            continue
        text = re.sub(r"\([^()]*\)|\{[^{}]*\}", " ", said.text)
        words.update(re.findall(r"\w+", text))
        others = re.findall(r"\bas (csb-\w+)", text)
        if text.startswith("what came in"):
            others += ["csb-find"]
        for other in others:
            words |= fields_said(other, kind)
    return words


def secret_line():
    """A prompt with what has the shape of a secret."""
    return record("user", "fix the parser ghp_" + "a1B2" * 9)


@pytest.fixture
def of_all_kinds(sh, home):
    """A home with a session that was deleted, one with a subagent and
    memory, and a remote."""
    project = home.claude / "projects/-code"
    (project / "memory").mkdir(parents=True)
    (project / "memory/notes.md").write_text("x")
    code = str(home.path / "code")
    old = "99999999-0000-4000-8000-000000000001"
    gone = "3f4a9b2c-0000-4000-8000-000000000001"
    for name in (old, gone):
        text = (secret_line() + record(content="ok")).replace("/home/me/p", code)
        (project / f"{name}.jsonl").write_text(text.replace(OWN, name) + "no record\n")
    agent = project / old / "subagents/agent-1.jsonl"
    agent.parent.mkdir(parents=True)
    look = record("user", "look")
    agent.write_text(look.replace('"uuid"', '"isSidechain":true,"uuid"'))
    (home.claude / ".credentials.json").write_text("{}")
    sh(
        "git init -q --bare ~/remote.git; csb-backup --tidy; csb-backup --event timer"
    ).ok()
    (project / f"{gone}.jsonl").unlink()
    (home.claude / "settings.json").write_text("{}\n")
    return home


def test_the_record_lines_name_every_field(sh, of_all_kinds):
    """Of every kind that any tool says that it makes."""
    made = {}
    for line in MAKING:
        tool = re.findall(r"(?:^|[|;] )([\w-]+)", line)[-1]
        done = sh(line)
        assert done.out, (line, done.err)
        for found in map(json.loads, done.out.splitlines()):
            if "kind" in found:
                made.setdefault((tool, found["kind"]), set()).update(found)
    promised = {(tool, kind) for tool, lines in SAYING.items() for said in lines
                if said.way == "out" for kind in said.kinds}
    assert promised - set(made) == set(), "MAKING makes none of these"
    wrong = []
    for (tool, kind), fields in made.items():
        more = fields - fields_said(tool, kind)
        if (tool, kind) in promised and more:
            wrong.append(f"{tool}: {kind}: {more}")
        if (tool, kind) not in promised:
            words = re.findall(r"\w+", " ".join(
                f"{' '.join(said.kinds)} {said.text}" for said in SAYING[tool]))
            passed_on = "other records are passed on" in " ".join(words)
            if kind not in words and not passed_on:
                wrong.append(f"{tool}: nothing about {kind}")
    assert not wrong


def words_of_code(path):
    """What stands in a program, without its docstring."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    manual = ast.get_docstring(ast.parse(text), clean=False) or ""
    return set(re.findall(r"\w+", text.replace(manual, "", 1)))


def test_no_record_line_names_a_field_that_is_gone():
    """Each name of two words stands somewhere in the code."""
    known = set()
    for folder in ("bin", "lib/csb"):
        for name in os.listdir(os.path.join(ROOT, folder)):
            path = os.path.join(ROOT, folder, name)
            if os.path.isfile(path):
                known |= words_of_code(path)
    for tool, lines in SAYING.items():
        text = " ".join(said.text for said in lines)
        named = set(re.findall(r"\b[a-z0-9]+(?:_[a-z0-9]+)+\b", text))
        assert named <= known, (tool, named - known)
