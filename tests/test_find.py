"""csb-find: one record a session on disk, nothing read, listed twice or passed over in silence;
and with --lost what git knows and the disk does not, whoever committed it, on whatever branch."""
import json
import os
import re
import shutil
import tarfile

import pytest
from conftest import SHARED, line, name, problems

pytestmark = pytest.mark.logic

STORE = "csb-changes | csb-gitcommit >/dev/null"
GIT = "git -c user.name=a -c user.email=a@b -c init.defaultBranch=master"
ADD = f"git add -A && {GIT} commit -qm x"
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
DATA = os.path.join(SHARED, "data", "transcripts.tar.xz")


def found(done):
    """(project, session_id, state) of what was listed."""
    return [(r["project"], r["session_id"], r.get("state")) for r in done.records
            if r["kind"] == "session"]


def end(done):
    """The last record, which must be the end."""
    record = done.records[-1]
    assert record["kind"] == "end"
    return record


def test_a_session_is_one_record(sh, home, put):
    put(f"projects/-b/{name(1)}.jsonl", "12345")
    put(f"projects/-a/{name(2)}.jsonl", "")
    put(f"projects/-a/{name(1)}.jsonl", "123", mtime=1767323046)
    put(f"projects/-a/{name(1)}/subagents/agent-x.jsonl", "1234567")
    put(f"projects/-a/{name(1)}/tool-results/deep/er/t.txt", "1")
    done = sh("csb-find").ok()
    root = os.path.realpath(home.claude)
    assert done.records == [
        {"kind": "session", "session_id": name(1), "project": "-a", "root": root,
         "transcript_path": f"{root}/projects/-a/{name(1)}.jsonl", "size": 3,
         "mtime": "2026-01-02T03:04:06.000000000Z", "files": 3, "bytes": 11,
         "purge_at": "2026-02-01T03:04:06Z"},
        {"kind": "session", "session_id": name(2), "project": "-a", "root": root,
         "transcript_path": f"{root}/projects/-a/{name(2)}.jsonl", "size": 0,
         "mtime": "2026-01-02T03:04:05.000000000Z", "files": 1, "bytes": 0,
         "purge_at": "2026-02-01T03:04:05Z"},
        {"kind": "session", "session_id": name(1), "project": "-b", "root": root,
         "transcript_path": f"{root}/projects/-b/{name(1)}.jsonl", "size": 5,
         "mtime": "2026-01-02T03:04:05.000000000Z", "files": 1, "bytes": 5,
         "purge_at": "2026-02-01T03:04:05Z"},
        {"kind": "end", "root": root, "count": 3, "complete": True}]


NO_SESSIONS = [
    f"projects/{name(1)}.jsonl", f"{name(1)}.jsonl", f"projects/-a/{name(1)}.jsonl.gz",
    f"projects/-a/{name(1)}0.jsonl", "projects/-a/agent-1.jsonl", "projects/-a/memory/MEMORY.md",
    "projects/-a/sessions-index.json", f"projects/-a/{name(1)}.json", f"todos/{name(1)}.jsonl",
    f"file-history/{name(1)}/x@v1"]


def test_what_is_no_session(sh, put):
    for path in [*NO_SESSIONS, "projects/-a/notes.txt"]:
        put(path)
    assert found(sh("csb-find").ok()) == []


def test_husks(sh, put, home):
    """A uuid without a transcript, for which there is a file below <uuid>/ or a flat agent."""
    owned = lambda number: json.dumps({"sessionId": name(number), "type": "user"}) + "\nx\n"
    put(f"projects/-a/{name(1)}/tool-results/a.txt", "12", mtime=1767323050)
    put(f"projects/-a/{name(1)}/b.txt", "123", mtime=1767323055)
    (home.claude / f"projects/-a/{name(2)}/subagents").mkdir(parents=True)     # no file in it
    put("projects/-a/agent-3.jsonl", owned(3), mtime=1767323060)
    put("projects/-a/agent-4.jsonl", owned(4))
    put(f"projects/-a/{name(4)}.jsonl", "x")
    put("projects/-b/agent-3.jsonl", owned(3))
    done = sh("csb-find").ok()
    assert found(done) == [("-a", name(1), "husk"), ("-a", name(3), "husk"), ("-a", name(4), None),
                           ("-b", name(3), "husk")]
    first, second = done.records[:2]
    assert (first["size"], first["files"], first["bytes"], first["mtime"]) == (
        0, 2, 5, "2026-01-02T03:04:15.000000000Z")
    assert (second["files"], second["bytes"], second["mtime"]) == (
        0, 0, "2026-01-02T03:04:20.000000000Z")
    assert first["transcript_path"].endswith(f"/projects/-a/{name(1)}.jsonl")


NOBODY = [b"", b"\n", b"garbage\n", b"[]\n", b'{"sessionId":1}\n', b"\xff\n",
          b'{"sessionId":"no uuid"}\n', b"{}\n", b"[" * 100000,
          b'{"sessionId":null}', b"x" * (3 << 20)]


def test_a_flat_agent_that_names_nobody(sh, put):
    for number, text in enumerate(NOBODY):
        put(f"projects/-a/agent-{number}.jsonl", text)
    put(f"projects/-a/{name(1)}.jsonl")
    assert found(sh("csb-find").ok()) == [("-a", name(1), None)]


def test_links_are_followed_once_and_out_only(sh, home, put, tmp_path):
    projects = home.claude / "projects"
    put(f"projects/-a/{name(1)}.jsonl", "x")
    other = tmp_path / "other"
    (other / name(9)).mkdir(parents=True)
    (other / f"{name(2)}.jsonl").write_text("xyz")
    (other / name(9) / "f").write_text("12")
    (other / name(9) / "loop").symlink_to(other)
    (projects / "-b").symlink_to(other)
    (projects / "-c").symlink_to(other)             # the same directory again
    (projects / "-d").symlink_to(projects / "-a")   # inside
    (projects / "-e").symlink_to(projects)          # a loop
    (projects / "-f").symlink_to(home.path)         # above
    (projects / "-g").symlink_to("-g")
    (projects / "-h").symlink_to(tmp_path / "nowhere")
    (projects / "-a" / "loop").symlink_to(projects)
    (tmp_path / "outside.jsonl").write_text("12345")
    (projects / "-a" / f"{name(3)}.jsonl").symlink_to(tmp_path / "outside.jsonl")
    done = sh("csb-find").ok()
    assert found(done) == [("-a", name(1), None), ("-a", name(3), None), ("-b", name(2), None),
                           ("-b", name(9), "husk")]
    assert [r["size"] for r in done.records[:3]] == [1, 5, 3]
    assert end(done)["complete"] is True


def test_projects_itself_is_a_link(sh, home, put, tmp_path):
    put(f"projects/-a/{name(1)}.jsonl", "x")
    shutil.move(home.claude / "projects", tmp_path / "big")
    (home.claude / "projects").symlink_to(tmp_path / "big")
    (tmp_path / "big" / "-again").symlink_to(tmp_path / "big" / "-a")
    done = sh("csb-find").ok()
    assert found(done) == [("-a", name(1), None)]
    path = f"{os.path.realpath(home.claude)}/projects/-a/{name(1)}.jsonl"
    assert done.records[0]["transcript_path"] == path


def test_a_link_to_the_claude_directory_is_the_same_root(sh, home, put, tmp_path):
    put(f"projects/-a/{name(1)}.jsonl", "x")
    (tmp_path / "link").symlink_to(home.claude)
    direct = sh("csb-find").ok().out
    assert sh(f"csb-find {tmp_path}/link").ok().out == direct
    assert sh(f"csb-find --claude-dir {tmp_path}/link").ok().out == direct
    assert sh(f"csb-find {tmp_path}/link {home.claude}").ok().out == direct


def test_a_transcript_whose_link_leads_nowhere_is_said(sh, home, put):
    put(f"projects/-a/{name(1)}.jsonl", "x")
    (home.claude / "projects/-a" / f"{name(2)}.jsonl").symlink_to("nowhere")
    (home.claude / "projects/-a" / f"{name(3)}.jsonl").symlink_to(f"{name(3)}.jsonl")
    (home.claude / "projects/-a" / f"{name(4)}.jsonl").symlink_to(home.claude / "projects/-a")
    done = sh("csb-find")
    assert done.rc == 1 and found(done) == [("-a", name(1), None)]
    assert done.err.count("\n") == 3 and all(name(n) in done.err for n in (2, 3, 4))


def test_neither_fifos_nor_directories_are_transcripts(sh, home, put):
    put(f"projects/-a/{name(1)}.jsonl", "x")
    for number in (2, 3):
        os.mkfifo(home.claude / "projects/-a" / f"{name(number)}.jsonl")
    os.mkfifo(home.claude / "projects/-a/agent-1.jsonl")
    (home.claude / "projects/-a" / f"{name(4)}.jsonl").mkdir()
    assert found(sh("csb-find").ok()) == [("-a", name(1), None)]


def test_no_transcript_is_read(sh, home, put):
    for number in range(3):
        put(f"projects/-a/{name(number)}.jsonl", "x")
        (home.claude / "projects/-a" / f"{name(number)}.jsonl").chmod(0)
    assert len(found(sh("csb-find").ok())) == 3


@pytest.mark.parametrize("path", ["projects/-a", f"projects/-b/{name(2)}/sub", "projects"])
def test_a_directory_that_cannot_be_listed(sh, home, put, path):
    put(f"projects/-a/{name(1)}.jsonl")
    put(f"projects/-b/{name(2)}.jsonl")
    put(f"projects/-b/{name(2)}/sub/x")
    (home.claude / path).chmod(0)
    try:
        done = sh("csb-find")
    finally:
        (home.claude / path).chmod(0o700)
    assert (done.rc, done.err.count("\n")) == (1, 1) and path in done.err
    assert "Permission denied" in done.err
    assert end(done)["complete"] is False and "empty" not in end(done)
    assert len(found(done)) == (0 if path == "projects" else 1 if path == "projects/-a" else 2)


@pytest.mark.parametrize("make, rc, empty", [
    ("rmdir ~/.claude", 1, True), ("rmdir ~/.claude; touch ~/.claude", 1, True), ("true", 1, True),
    ("mkdir -p ~/.claude/projects/-x", 0, False), ("mkdir ~/.claude/projects", 1, True),
    ("touch ~/.claude/settings.json", 0, True), ("touch ~/.claude/projects", 1, True),
    ("mkdir ~/.claude/projects; touch ~/.claude/settings.json", 0, True),
    ("ln -s nowhere ~/.claude/projects", 1, True)])
@pytest.mark.few(5)
def test_nothing_is_there(sh, home, make, rc, empty):
    """Without a file in it a Claude directory is a mistake; without a session it is not."""
    done = sh(f"{make}; csb-find")
    assert (done.rc, done.err.count("\n")) == (rc, rc), done
    assert done.records == [{"kind": "end", "root": os.path.realpath(home.claude), "count": 0,
                             "complete": not empty, **({"empty": True} if empty else {})}]


def test_several_roots(sh, home, put, tmp_path):
    put(f"projects/-a/{name(1)}.jsonl")
    shutil.copytree(home.claude, tmp_path / "two")
    done = sh(f"csb-find {tmp_path}/two {home.claude} {tmp_path}/none")
    assert done.rc == 1 and [(r["kind"], r["root"]) for r in done.records] == [
        (kind, str(root)) for root in (tmp_path / "two", home.claude)
        for kind in ("session", "end")] + [("end", str(tmp_path / "none"))]
    for word in (name(1), "3f4a", "0001"):
        roots = sh(f"csb-find --session {word} {tmp_path}/two {home.claude}").ok().records
        assert [r["root"] for r in roots] == [str(tmp_path / "two"), str(home.claude)]


def test_one_session(sh, put):
    put(f"projects/-a/{name(1)}.jsonl")
    put(f"projects/-b/{name(1)}.jsonl")
    put(f"projects/-b/{name(12)}.jsonl")
    put("projects/-b/aaaa9b10-0000-4000-8000-000000000001/f")
    for word, want in ((name(1), 2), (name(12), 1), ("aaaa", 1), ("000012", 1)):
        done = sh(f"csb-find --session {word}").ok()
        assert [r["kind"] for r in done.records] == ["session"] * want, word
    for word, rc in (("3f4a", 2), ("0001", 2), ("bbbb", 1), ("3f4", 1),
                     ("''", 1), ("'*'", 1), (name(3), 1)):
        done = sh(f"csb-find --session {word}")
        assert (done.rc, done.out, len(problems(done.err))) == (rc, "", 1), (word, done)
    assert all(name(n) in sh("csb-find --session 3f4a").err for n in (1, 12))


def test_ids_in_either_case(sh, put):
    """As the disk spells them, what lies beside a transcript in the other case, too."""
    loud = "3F4A9B10-0000-4000-8000-00000000ABCD"
    quiet = loud.lower()
    put(f"projects/-a/{loud}.jsonl", "12345")
    put(f"projects/-a/{quiet}/x", "123")
    put("projects/-a/agent-1.jsonl", json.dumps({"sessionId": quiet}) + "\n")
    put(f"projects/-b/{quiet}/x", "12")
    done = sh("csb-find").ok()
    assert found(done) == [("-a", loud, None), ("-b", quiet, "husk")]
    assert (done.records[0]["files"], done.records[0]["bytes"]) == (2, 8)
    assert found(sh(f"csb-find --session {loud}").ok()) == [("-a", loud, None)]
    assert found(sh(f"csb-find --session {quiet}").ok()) == [("-b", quiet, "husk")]
    put(f"projects/-b/{quiet}/x").unlink()
    for word in (quiet, "3f4A", "aBcD"):
        assert found(sh(f"csb-find --session {word}").ok()) == [("-a", loud, None)], word


def test_two_that_differ_in_their_case_alone(sh, put):
    loud = "3F4A9B10-0000-4000-8000-00000000ABCD"
    for session_id in (loud, loud.lower()):
        put(f"projects/-a/{session_id}.jsonl", "1")
        put(f"projects/-a/{session_id}/x", "22")
    done = sh("csb-find").ok()
    assert found(done) == [("-a", loud, None), ("-a", loud.lower(), None)]
    assert [r["bytes"] for r in done.records[:2]] == [3, 3]
    assert found(sh(f"csb-find --session {loud}").ok()) == [("-a", loud, None)]
    assert sh("csb-find --session ABCD").rc == 2


def test_names_that_are_hard(sh, put):
    names = [b"-a\nb", b"-\xff\xfe", b'-"quo\'tes"', b"- space ", "-\u00fc\U0001f600".encode(),
             b"-\x1b[31m", b"-\\x", b"-%s", b"-*"]
    for project in names:
        put(b"projects/" + project + b"/" + name(1).encode() + b".jsonl")
    records = sh("csb-find").ok().records
    assert sorted(os.fsencode(r["project"]) for r in records[:-1]) == sorted(names)
    assert all(os.path.exists(r["transcript_path"]) for r in records[:-1])
    assert records[-1]["count"] == len(names)


def test_stdin_is_left_alone(sh, put):
    put(f"projects/-a/{name(1)}.jsonl")
    assert sh("csb-find >/dev/null; cat", stdin=b"still here").ok().out == "still here"


@pytest.mark.long
@pytest.mark.skipif(not os.path.exists(DATA), reason="the real transcripts are not here")
def test_real_directories(sh, tmp_path):
    with tarfile.open(DATA) as file:
        file.extractall(tmp_path / "data")
    roots = sorted(path.parent for path in (tmp_path / "data").glob("*/projects"))
    assert len(roots) == 5
    for root in roots:
        expected = set()
        for parent, _, names in os.walk(root / "projects"):
            parts = os.path.relpath(parent, root / "projects").split(os.sep)
            for file in names:
                stem = file.removesuffix(".jsonl")
                if len(parts) == 1 and UUID.fullmatch(stem):
                    expected.add((parts[0], stem))
                elif len(parts) > 1 and UUID.fullmatch(parts[1]):
                    expected.add((parts[0], parts[1]))
                elif file.startswith("agent-"):
                    with open(os.path.join(parent, file), "rb") as agent:
                        expected.add((parts[0], json.loads(agent.readline())["sessionId"]))
        done = sh(f"csb-find {root}").ok()
        assert [r[:2] for r in found(done)] == sorted(expected)
        assert end(done) == {"kind": "end", "root": str(root), "count": len(expected),
                             "complete": True}
        for record in done.records[:-1]:
            if record.get("state") != "husk":
                assert record["size"] == os.path.getsize(record["transcript_path"])


# --- --lost ---------------------------------------------------------------------------


def lost(sh):
    """{(project, number): record} of what only the store knows."""
    records = sh("csb-find --lost").ok().records
    return {(r["project"], int(r["session_id"][-12:])): r for r in records}


def test_nothing_is_lost(sh, put, home):
    assert sh("csb-find --lost").ok().out == "", "no store"
    put(f"projects/-w/{name(1)}.jsonl", line())
    sh(STORE).ok()
    assert sh("csb-find --lost").ok().out == ""
    sh("git init -q --bare empty").ok()
    assert sh("csb-find --lost --git-dir empty").ok().out == ""
    (home.path / "no-store").mkdir()
    assert sh("csb-find --lost --git-dir no-store").rc == 3


def test_what_was_deleted(sh, put, home):
    """Last version, last mtime, all that was below <uuid>/, when it went."""
    path = put(f"projects/-w/{name(1)}.jsonl", line("one"))
    put(f"projects/-w/{name(2)}.jsonl", line("stays"))
    put(f"projects/-w/{name(1)}/tool-results/a", "123")
    early = put(f"projects/-w/{name(1)}/early", "1234")
    sh(STORE).ok()
    early.unlink()
    put(f"projects/-w/{name(1)}.jsonl", line("one") * 2, 1767323046)
    sh(STORE).ok()
    os.utime(path, (1767323047,) * 2)
    os.chmod(path, 0o640)
    sh(STORE).ok()
    path.unlink()
    sh(STORE).ok()
    when = sh('git --git-dir="$CSB_HOME/git" log -1 --format=%cd --date=format:%Y-%m-%dT%H:%M:%SZ '
              "main").ok().out.strip()
    put(f"projects/-w/{name(3)}.jsonl", "later")
    sh(STORE).ok()
    root = os.path.realpath(home.claude)
    size = 2 * len(line("one"))
    record = lost(sh)["-w", 1]
    assert len(record.pop("oid")) == 40
    assert record == {
        "kind": "session", "session_id": name(1), "project": "-w", "root": root,
        "transcript_path": f"{root}/projects/-w/{name(1)}.jsonl", "size": size,
        "mtime": "2026-01-02T03:04:07.000000000Z", "files": 3, "bytes": size + 7,
        "state": "deleted", "deleted_at": when}


def test_what_the_store_has_not_noticed_yet(sh, put):
    put(f"projects/-w/{name(1)}.jsonl", line())
    put(f"projects/-w/{name(2)}/x", "x")
    sh(STORE).ok()
    put(f"projects/-w/{name(1)}.jsonl").unlink()
    put(f"projects/-w/{name(2)}/x").unlink()
    assert {k: (r["state"], "deleted_at" in r) for k, r in lost(sh).items()} == {
        ("-w", 1): ("present", False), ("-w", 2): ("husk", False)}


def test_deleted_come_back_deleted_again(sh, put):
    """The newest version counts, and the last deletion."""
    for text in ("first", "second", "third"):
        path = put(f"projects/-w/{name(1)}.jsonl", line(text))
        sh(STORE).ok()
        path.unlink()
        sh(STORE).ok()
    assert sh("csb-index --rebuild").ok().records[0]["title"] == "third"


def test_what_is_refused_is_not_lost(sh, put, home):
    for number in (1, 2):
        put(f"projects/-p/{name(number)}.jsonl")
    sh(STORE).ok()
    for number in (1, 2):
        (home.claude / f"projects/-p/{name(number)}.jsonl").unlink()
    for number, change in ((1, "refused"), (2, "deleted")):
        path = f"projects/-p/{name(number)}.jsonl"
        record = {"kind": "change", "path": path, "change": change}
        sh("csb-gitcommit", (json.dumps(record) + "\n").encode()).ok()
    assert set(lost(sh)) == {("-p", 2)}


def test_lost_husks(sh, put):
    """Of <uuid>/ files, and of flat agent files that name their owner."""
    owned = lambda number: json.dumps({"sessionId": name(number)}) + "\nx\n"
    put(f"projects/-w/{name(1)}/sub/x", "12")
    put("projects/-w/agent-2.jsonl", owned(2))
    put("projects/-w/agent-3.jsonl", owned(3))
    put("projects/-w/agent-4.jsonl", "garbage")
    put("projects/-w/agent-5.jsonl", owned(5))
    put(f"projects/-w/{name(5)}.jsonl", line())
    put(f"projects/-w/{name(6)}/sub/x", "stays")
    put(f"projects/-w/{name(6)}/sub/y", "goes").unlink()
    sh(STORE).ok()
    agents = [f"projects/-w/agent-{number}.jsonl" for number in (2, 4, 5)]
    for path in (f"projects/-w/{name(1)}/sub/x", *agents):
        put(path).unlink()
    sh(STORE).ok()
    records = lost(sh)
    assert set(records) == {("-w", 1), ("-w", 2)}
    assert all(r["state"] == "deleted" and "oid" not in r and r["size"] == 0
               for r in records.values())
    assert [(r["files"], r["bytes"]) for r in records.values()] == [(1, 2), (0, 0)]


def test_an_older_tool_on_a_branch_of_the_user(sh, put, home):
    """Sessions in commits that are not ours, also on a branch that was left behind."""
    put(f"projects/-w/{name(1)}.jsonl", line("old tool"))
    put(f"projects/-w/{name(2)}.jsonl", line("still there"))
    put(f"projects/-w/{name(3)}.jsonl", line("never deleted in git"))
    sh(f"{GIT} init -q . && {ADD}", cwd=home.claude).ok()
    sh("git checkout -qb side", cwd=home.claude).ok()
    put(f"projects/-w/{name(4)}.jsonl", line("on a branch"))
    sh(f"{ADD} && git tag kept && git checkout -q master && git branch -qD side",
       cwd=home.claude).ok()
    put(f"projects/-w/{name(1)}.jsonl").unlink()
    sh(ADD, cwd=home.claude).ok()
    put(f"projects/-w/{name(3)}.jsonl").unlink()
    sh("git tag blob $(git rev-parse HEAD:projects) && git update-ref refs/notes/x HEAD",
       cwd=home.claude).ok()
    for before in ("true", STORE):
        sh(before).ok()
        records = lost(sh)
        assert {k: r["state"] for k, r in records.items()} == {
            ("-w", 1): "deleted", ("-w", 3): "present", ("-w", 4): "present"}
        assert all(len(r["mtime"]) == 30 for r in records.values())
    done = sh("csb-index --rebuild").ok()
    assert {int(r["session_id"][-12:]) for r in done.records if r["kind"] == "session"
            and r["change"] == "deleted"} == {1, 3, 4}
    listed = sh("csb-list --deleted").ok().records
    assert {r["title"] for r in listed} == {"old tool", "never deleted in git", "on a branch"}


def test_without_a_journal_the_mtime_is_when_it_was_stored(sh, put, home):
    """And not when it first was."""
    sh(f"{GIT} init -q .", cwd=home.claude).ok()
    for year in (2020, 2021, 2022):
        path = put(f"projects/-w/{name(1)}.jsonl", line() * year)
        if year == 2022:
            path.unlink()
        sh(ADD, cwd=home.claude, GIT_COMMITTER_DATE=f"{year}-02-03T04:05:06Z").ok()
    record = lost(sh)["-w", 1]
    assert record["mtime"] == "2021-02-03T04:05:06.000000000Z"
    assert (record["deleted_at"], record["size"]) == ("2022-02-03T04:05:06Z", 2021 * len(line()))


def test_merges(sh, put, home):
    """Deleted on one side, changed on none: deleted. Only on the side that was merged: there."""
    put(f"projects/-w/{name(1)}.jsonl", line("1"))
    sh(f"{GIT} init -q . && {ADD} && git checkout -qb side", cwd=home.claude).ok()
    put(f"projects/-w/{name(1)}.jsonl").unlink()
    put(f"projects/-w/{name(2)}.jsonl", line("2"))
    sh(f"{ADD} && git checkout -q master", cwd=home.claude).ok()
    put(f"projects/-w/{name(3)}.jsonl", line("3"))
    sh(f"{ADD} && {GIT} merge -q --no-edit side", cwd=home.claude).ok()
    assert {k: r["state"] for k, r in lost(sh).items()} == {("-w", 1): "deleted"}
    shutil.rmtree(home.claude / "projects")
    assert {k: r["state"] for k, r in lost(sh).items()} == {
        ("-w", 1): "deleted", ("-w", 2): "present", ("-w", 3): "present"}


def test_links_are_no_transcripts(sh, put, home):
    """As an older tool stores them: the text of a link is not what it led to."""
    path = put(f"projects/-w/{name(1)}.jsonl", line("1"))
    link = path.with_name(f"{name(2)}.jsonl")
    link.symlink_to("nowhere")
    sh(f"{GIT} init -q . && {ADD}", cwd=home.claude).ok()
    path.unlink()
    link.unlink()
    assert set(lost(sh)) == {("-w", 1)}
    sh(ADD, cwd=home.claude).ok()
    assert set(lost(sh)) == {("-w", 1)}


def test_a_title_in_a_file_beside_it(sh, put):
    path = put(f"projects/-w/{name(1)}.jsonl", line("prompt"))
    side = put(f"projects/-w/{name(1)}/custom-title.json", '{"customTitle":"given  name"}')
    sh(STORE).ok()
    path.unlink()
    side.unlink()
    sh(STORE).ok()
    done = sh("csb-index --rebuild").ok()
    assert [r["title"] for r in done.records if r["kind"] == "session"] == ["given name"]


def test_lost_names_that_are_hard(sh, put):
    projects = [b"-a\nb", b"-\xff\xfe", b'-"q\'"', "-\u00fc".encode()]
    for project in projects:
        put(f"projects/{os.fsdecode(project)}/{name(1)}.jsonl", line())
    sh(STORE).ok()
    for project in projects:
        put(f"projects/{os.fsdecode(project)}/{name(1)}.jsonl").unlink()
    sh(STORE).ok()
    records = lost(sh)
    assert sorted(os.fsencode(project) for project, _ in records) == sorted(projects)
    assert {r["state"] for r in records.values()} == {"deleted"}
    assert [r["title"] for r in sh("csb-index --rebuild").ok().records[:4]] == ["hello"] * 4


def test_a_clone_is_enough(sh, put, home):
    put(f"projects/-w/{name(1)}.jsonl", line("1"))
    sh(STORE).ok()
    put(f"projects/-w/{name(1)}.jsonl").unlink()
    sh(STORE).ok()
    direct = sh("csb-find --lost").ok().out
    sh('git clone -q --bare "$CSB_HOME/git" clone').ok()
    assert sh("csb-find --lost --git-dir clone").ok().out == direct and direct
    sh('git clone -q "$CSB_HOME/git" work').ok()
    assert sh("csb-find --lost --git-dir work").ok().out == direct


def test_it_can_be_told_to_an_index_that_is_there(sh, put):
    """A session that the index does not know is added, one that it knows stays as it is."""
    path = put(f"projects/-w/{name(1)}.jsonl", line("old"))
    sh(STORE).ok()
    path.unlink()
    sh(STORE).ok()
    put(f"projects/-w/{name(2)}.jsonl", line("new"))
    sh("git init -q --bare none && csb-find | csb-index --git-dir none").ok()
    assert [r["title"] for r in sh("csb-list --all").ok().records] == ["new"]
    for change in ("deleted", "same"):
        records = sh("csb-find --lost | csb-index").ok().records
        assert [(r["title"], r["change"], r["state"]) for r in records] == [
            ("old", change, "deleted")]
    assert len(sh("csb-list --all").ok().records) == 2


def test_one_that_is_lost(sh, put):
    """In either case, and its spelling as it was."""
    loud = "3F4A9B10-0000-4000-8000-00000000ABCD"
    put(f"projects/-w/{loud}.jsonl", line("loud"))
    put(f"projects/-w/{loud.lower()}/x", "123")
    put(f"projects/-w/{name(2)}.jsonl", line())
    sh(STORE).ok()
    sh("rm -r .claude/projects/*").ok()
    assert len(sh("csb-find --lost").ok().records) == 2
    for word in (loud, loud.lower(), "abcd"):
        [record] = sh(f"csb-find --lost --session {word}").ok().records
        assert (record["session_id"], record["files"]) == (loud, 2)
        assert record["transcript_path"].endswith(f"/{loud}.jsonl")
    for word, status in (("3f4a", 2), ("ffff", 1)):
        done = sh(f"csb-find --lost --session {word}")
        assert (done.rc, done.out, len(problems(done.err))) == (status, "", 1)
    assert sh("csb-find --lost ~/.claude").rc == 2


def test_what_cannot_be_looked_at_is_not_lost(sh, put, home):
    put(f"projects/-w/{name(1)}.jsonl", line())
    put(f"projects/-v/{name(2)}.jsonl", line()).unlink()
    put(f"projects/-w/{name(3)}.jsonl", line())
    sh(STORE).ok()
    put(f"projects/-w/{name(3)}.jsonl").unlink()
    (home.claude / "projects/-w").chmod(0)
    try:
        assert lost(sh) == {}
    finally:
        (home.claude / "projects/-w").chmod(0o700)
    assert set(lost(sh)) == {("-w", 3)}


MOVED = [
    # What each project holds before and after, what is lost then. None: no backup was
    # made after it.
    ({"-a": "1\n"}, {"-b": "1\n"}, []),
    ({"-a": "1\n"}, {"-b": "1\n2\n"}, []),
    ({"-a": "1\n2\n"}, {"-b": "1\n"}, ["-a"]),
    ({"-a": "1\n"}, {"-b": "2\n1\n"}, ["-a"]),
    ({"-a": "1\n", "-b": "1\n2\n"}, {"-b": "1\n2\n"}, []),
    ({"-a": "1\n"}, {}, ["-a"]),
    ({"-a": "1\n", "-b": "2\n"}, {}, ["-a", "-b"]),
    ({"-a": "1\n", "-b": "1\n2\n"}, {}, ["-b"]),
    ({"-a": "1\n", "-b": "1\n"}, {}, ["-a", "-b"]),
]


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("before, after, expected", MOVED)
@pytest.mark.few(2)
def test_a_session_that_moved_is_not_lost(sh, home, put, before, after, expected, stored):
    """Whether a backup has seen the move or not."""
    put(f"projects/-other/{name(9)}.jsonl")
    for project, text in before.items():
        put(f"projects/{project}/{name(1)}.jsonl", text)
    sh(STORE).ok()
    shutil.rmtree(home.claude / "projects")
    put(f"projects/-other/{name(9)}.jsonl")
    for project, text in after.items():
        put(f"projects/{project}/{name(1)}.jsonl", text)
    if stored:
        sh(STORE).ok()
    assert sorted(lost(sh)) == [(project, 1) for project in expected]


def test_what_stayed_behind_and_is_gone_is_lost(sh, put):
    """Else nobody would be told of the subagents that lay beside it."""
    path = put(f"projects/-a/{name(1)}.jsonl", line())
    side = put(f"projects/-a/{name(1)}/subagents/agent-1.jsonl", "{}\n")
    sh(STORE).ok()
    path.unlink()
    put(f"projects/-b/{name(1)}.jsonl", line())
    assert lost(sh) == {}
    side.unlink()
    assert set(lost(sh)) == {("-a", 1)}
    put(f"projects/-b/{name(1)}/subagents/agent-1.jsonl", "{}\n")
    assert lost(sh) == {}


def test_many_refs_take_no_more_of_git(sh, put, home):
    """One walk for all of them; an annotated tag of a tag counts as what it leads to."""
    put(f"projects/-w/{name(1)}.jsonl", line())
    sh(f"{GIT} init -q . && {ADD}", cwd=home.claude).ok()
    git = "git -c user.name=a -c user.email=a@b -c advice.nestedTag=false"
    sh(f"git checkout -q --orphan side && {ADD.replace('-qm', '--allow-empty -qm')} && "
       f"{git} tag -am x one && {git} tag -am x two one && git checkout -q master && "
       "git branch -qD side", cwd=home.claude).ok()
    wrapper = home.path / "bin/git"
    wrapper.parent.mkdir()
    wrapper.write_text('#!/bin/sh\necho >>~/started\nexec /usr/bin/git "$@"\n')
    wrapper.chmod(0o755)
    path = f"{wrapper.parent}:{home.env['PATH']}"
    sh("rm -r ~/.claude/projects").ok()
    counts = []
    for refs in (0, 300):
        sh("head=$(git rev-parse HEAD); "
           f"for n in $(seq {refs}); do echo create refs/x/$n $head; done | "
           "git update-ref --stdin", cwd=home.claude).ok()
        records = sh("csb-find --lost", PATH=path).ok().records
        assert [r["session_id"] for r in records] == [name(1)]
        counts.append((home.path / "started").read_text().count("\n"))
        (home.path / "started").unlink()
    assert counts[0] == counts[1]


def test_a_damaged_ref_among_many(sh, put, home):
    """Of it the newest tree is read, of the others all."""
    sh(f"{GIT} init -q .", cwd=home.claude).ok()
    for number in range(8):
        path = put(f"projects/-w/{name(number)}.jsonl", line(str(number)))
        sh(f"git checkout -q --orphan b{number} && {ADD}", cwd=home.claude).ok()
        path.unlink()
        put("other", str(number))
        sh(ADD, cwd=home.claude).ok()
    commit = sh("git rev-parse b5~", cwd=home.claude).ok().out.strip()
    (home.claude / ".git/objects" / commit[:2] / commit[2:]).unlink()
    done = sh("csb-find --lost")
    assert done.rc == 1 and done.err.count("\n") == 1 and "'refs/heads/b5'" in done.err
    assert [int(r["session_id"][-12:]) for r in done.records] == [0, 1, 2, 3, 4, 6, 7]


ODD = {
    "sub/{}.jsonl": "deeper",
    "{}.sync-conflict-20261102-101500-ABCDEFG.jsonl": "copy",
    "{} (conflicted copy 2026-11-02 101500).jsonl": "copy",
    "{} 2.jsonl": "copy",
    "{} (1).jsonl": "copy",
    "sub/er/{}.jsonl": "deeper",
    "sub/{} (1).jsonl": "deeper",
    f"{name(2)}/{{}}.jsonl": "deeper",
    "Copy of {}.jsonl": "copy",
    "old-{}.jsonl": "copy",
    "{}.jsonl.bak": "copy",
}


@pytest.mark.parametrize("path", ODD)
@pytest.mark.few(1)
def test_transcripts_where_claude_code_does_not_look(sh, put, home, path):
    """They are listed, as what they are; deleted, the store knows them."""
    own = put(1, line("own"))
    odd = own.parent / path.format(name(1))
    odd.parent.mkdir(parents=True, exist_ok=True)
    odd.write_text(line("odd") * 3)
    found = sh("csb-find").ok().records
    assert [r.get("place") for r in found[:-1]] == [ODD[path], None] or [
        r.get("place") for r in found[:-1]] == [None, ODD[path]]
    assert {r["transcript_path"] for r in found[:-1]} == {str(own), str(odd)}
    assert {r["session_id"] for r in found[:-1]} == {name(1)}
    assert found[-1]["count"] == 2
    for session in sh(f"csb-find --session {name(1)}").ok().records:
        assert session in found
    sh(STORE).ok()
    odd.unlink()
    lost = sh("csb-find --lost").ok().records
    assert [(r["transcript_path"], r["place"]) for r in lost] == [(str(odd), ODD[path])]
    own.write_text(line("odd") * 4)
    assert sh("csb-find --lost").ok().records == [], "somebody put it where it belongs"


def test_another_session_s_transcript_in_a_session_s_folder(sh, put):
    """It is the other one's alone; what else is there is the folder's."""
    put(f"projects/-a/{name(1)}/{name(2)}.jsonl", "12")
    put(f"projects/-a/{name(1)}/tool-results/t.txt", "12345")
    (husk,), (odd,) = (sh(f"csb-find --session {name(n)}").ok().records for n in (1, 2))
    assert (husk["session_id"], husk["files"], husk["bytes"]) == (name(1), 1, 5)
    assert (odd["session_id"], odd["files"], odd["bytes"]) == (name(2), 1, 2)


def test_what_is_no_odd_transcript(sh, put):
    """Of a session's own folder, and of other names."""
    own = put(1, line("own"))
    for path in (f"{name(1)}/{name(1)}.jsonl", f"{name(1)}/a/{name(2)}.jsonl", "a/b/x.jsonl",
                 f"{name(1)}/agent-{name(2)}.jsonl", f"{name(1)}/tool-results/{name(2)}.jsonl",
                 f"{name(2)}0.jsonl", f"a{name(2)}.jsonl", f"../{name(2)}.jsonl"):
        (own.parent / path).parent.mkdir(parents=True, exist_ok=True)
        (own.parent / path).write_text(line("no"))
    assert [r["session_id"] for r in sh("csb-find").ok().records[:-1]] == [name(1)]
