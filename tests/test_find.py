"""csb-find: one record a session on disk, nothing read, listed twice or passed over in silence."""
import json
import os
import re
import shutil
import tarfile

import pytest
from conftest import SHARED, name

pytestmark = pytest.mark.logic

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
DATA = os.path.join(SHARED, "data", "transcripts.tar.xz")


@pytest.fixture
def put(home):
    """put(path below the Claude directory, text): a file with an mtime of its own."""
    def write(path, text="{}\n", mtime=1767323045):
        path = os.path.join(os.fsencode(home.claude), os.fsencode(path))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(text if isinstance(text, bytes) else text.encode())
        os.utime(path, (mtime, mtime))
    return write


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
    put(f"projects/-a/{name(1)}.jsonl", "123", 1767323046)
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
    f"projects/{name(1)}.jsonl", f"{name(1)}.jsonl", f"projects/-a/b/{name(1)}.jsonl",
    f"projects/-a/{name(1).upper()}.jsonl", f"projects/-a/{name(1)}.jsonl.bak",
    f"projects/-a/{name(1)}x.jsonl", "projects/-a/agent-1.jsonl", "projects/-a/memory/MEMORY.md",
    "projects/-a/sessions-index.json", f"projects/-a/{name(1)}.json", f"todos/{name(1)}.jsonl",
    f"file-history/{name(1)}/x@v1"]


def test_what_is_no_session(sh, put):
    for path in [*NO_SESSIONS, "projects/-a/notes.txt"]:
        put(path)
    assert found(sh("csb-find").ok()) == []


def test_husks(sh, put, home):
    """A uuid without a transcript, for which there is a file below <uuid>/ or a flat agent."""
    owned = lambda number: json.dumps({"sessionId": name(number), "type": "user"}) + "\nx\n"
    put(f"projects/-a/{name(1)}/tool-results/a.txt", "12", 1767323050)
    put(f"projects/-a/{name(1)}/b.txt", "123", 1767323055)
    (home.claude / f"projects/-a/{name(2)}/subagents").mkdir(parents=True)     # no file in it
    put("projects/-a/agent-3.jsonl", owned(3), 1767323060)
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
    assert found(sh("csb-find", timeout=10).ok()) == [("-a", name(1), None)]


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
    ("touch ~/.claude/settings.json", 0, True), ("touch ~/.claude/projects", 0, True),
    ("mkdir ~/.claude/projects; touch ~/.claude/settings.json", 0, True),
    ("ln -s nowhere ~/.claude/projects", 0, True)])
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
    for word, rc in (("3f4a", 2), ("0001", 2), ("bbbb", 1), ("3f4", 1), (name(1).upper(), 1),
                     ("''", 1), ("'*'", 1), (name(3), 1)):
        done = sh(f"csb-find --session {word}")
        assert (done.rc, done.out, done.err.count("\n")) == (rc, "", 1), (word, done)
    assert all(name(n) in sh("csb-find --session 3f4a").err for n in (1, 12))


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
