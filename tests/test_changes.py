"""csb-changes: what the store does not hold as it is, and csb-gitcommit making it so"""
import json
import os
import socket
import time

import pytest
from conftest import backup, held

pytestmark = pytest.mark.logic

ID = "11111111-2222-4333-8444-555555555555"
PLANTED = """
    .credentials.json .claude.json .claude.json.backup backups/a sessions/1.json
    channels/x/.env ide/1.lock daemon/roster.json daemon.log jobs/1/state.json
    secrets/a remote-settings.json policy-limits.json policy-limits.json.old
    mcp-needs-auth-cache.json plugins/cache/a plugins/marketplaces/m/a statsig/a
    cache/a local/a downloads/a telemetry/a .credentials.json.tmp.4242.a1b2c3
    .credentials.json.bak .credentials.work.json .config.json
    accounts/work/.credentials.json accounts/a debug/1.txt shell-snapshots/s.sh
    session-env/a/hook-0.sh session-backup.db session-backup.db-wal csb-fts.db
    skills/x/.credentials.json settings.json.tmp.71.0f skills/x/SKILL.md.tmp.9.aBc
    .env skills/.env skills/.env.local skills/x/server.pem hooks/deep/er/a.key
    agents/id_rsa id_rsa.old rules/id_ed25519 id_ecdsa themes/cert.p12 .netrc
    .Credentials.json credentials.json.bak skills/_credentials.json
    agents/.#.credentials.json KEY.PEM profiles/work/.claude.json .git-credentials
    rules/id_dsa .claude.sync-conflict-20261102-101500-ABCDEFG.json
    .config-LAPTOP.json
""".split()
PLANTED += [".claude 2.json", "skills/x/.claude (1).json"]
STORED = """
    skills/x/cache/a skills/.env.example projects/-p/secrets/server.pem
    a-new-thing/b projects/-p/.env settings.json todos/x.json commands/backups/a
    skills/debug/a id_map.json skills/x/accounts/a projects/-p/.credentials.json
    projects/-p/a.tmp.1.a agents/a.tmp.1.x skills/a.tmp.b agents/session-env/a
    session-backup-config.json
""".split()


def write(path, data=b"{}\n", age=60):
    """A file, last modified age seconds ago (its ctime stays young)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (time.time() - age,) * 2)
    return path


def settle(sh):
    """Back up until every stat is old enough to be trusted."""
    time.sleep(2.1)
    return backup(sh)


def paths(records, kind="change"):
    """The paths of the records of a kind."""
    return sorted(record["path"] for record in records if record["kind"] == kind)


def of_files(records):
    """The records but the one of a repository."""
    return [record for record in records if record["path"] != ".git"]


def stored(sh):
    """{path: text} of the newest commit of our own store."""
    return {path: os.fsdecode(data) for path, data in held(sh).items()}


def test_everything_is_new_at_first_and_nothing_is_later(sh, home):
    write(home.claude / f"projects/-p/{ID}.jsonl")
    write(home.claude / "skills/a/SKILL.md")
    (home.claude / f"session-data/{ID}").mkdir(parents=True)
    (home.claude / "link").symlink_to("nowhere")
    first = sh("csb-changes").ok().records
    assert paths(first) == ["link", f"projects/-p/{ID}.jsonl", f"session-data/{ID}/",
                            "skills/a/SKILL.md"]
    assert {record["change"] for record in first} == {"new"}
    assert {r["path"]: r["class"] for r in first}["skills/a/SKILL.md"] == "user"
    assert first[0]["link"] == "nowhere"
    assert all(r["mtime"].count(".") == 1 and len(r["mtime"]) == 30 for r in first)
    assert [r["class"] for r in backup(sh)] == ["noise", "user"]
    assert {r["change"] for r in sh("csb-changes").ok().records} <= {"recheck"}
    assert settle(sh) == []
    assert sh("csb-changes").ok().records == []


@pytest.mark.parametrize("change, act", [
    ("grew", lambda path: path.write_bytes(b"{}\n{}\n")),
    ("changed", lambda path: path.write_bytes(b"")),
    ("changed", lambda path: os.utime(path, (1, 1))),
    ("meta", lambda path: path.chmod(0o640)),
    ("deleted", lambda path: path.unlink()),
    ("changed", lambda path: (path.unlink(), path.symlink_to("..")))])
@pytest.mark.few(1)
def test_each_change_is_named_and_committed_once(sh, home, change, act):
    path = write(home.claude / f"projects/-p/{ID}.jsonl")
    write(home.claude / "projects/-p/other.txt")
    backup(sh)
    settle(sh)
    act(path)
    found = sh("csb-changes").ok().records
    assert [(r["path"], r["change"]) for r in found] == [
        (f"projects/-p/{ID}.jsonl", change)
    ]
    assert "old_oid" in found[0]
    assert [r["files"] for r in backup(sh)] == [1]
    assert settle(sh) == []


def test_refused_by_rule_never_reaches_an_object(sh, home):
    for name in PLANTED:
        write(home.claude / name, b"canary-" + name.encode())
    for name in STORED:
        write(home.claude / name, b"stored-" + name.encode())
    found = sh("csb-changes").ok().records
    refused = paths(found, "refused")
    for name in PLANTED:
        parts = name.split("/")
        prefixes = {"/".join(parts[:n]) for n in range(1, len(parts) + 1)}
        assert prefixes & set(refused), name
    assert paths(found) == sorted(STORED)
    backup(sh)
    objects = sh(
        f"git --git-dir={home.backup}/git cat-file --batch-all-objects --batch"
    ).out
    assert "canary" not in objects
    assert all(f"stored-{name}" in objects for name in STORED)


def store_by_hand(sh, paths):
    """Store what a version of csb stored that had no rule against it."""
    for path in paths:
        record = {"kind": "change", "path": path, "change": "new", "class": "noise"}
        sh("csb-gitcommit", (json.dumps(record) + "\n").encode()).ok()


def journal(sh, home):
    """{path: change} of the newest journal."""
    text = sh(f"git --git-dir={home.backup}/git show main:.csb/changes.jsonl").ok().out
    return {r["path"]: r["change"] for r in map(json.loads, text.splitlines())}


def changes(sh):
    """{path: change} of what csb-changes lists."""
    records = sh("csb-changes").ok().records
    return {r["path"]: r["change"] for r in records if r["kind"] == "change"}


@pytest.mark.parametrize("has_seen", [True, False])
def test_what_a_rule_refuses_now_leaves_the_tree(sh, home, has_seen):
    """Be it on disk or not, a file or an empty directory; history keeps the bytes."""
    files = [".credentials.json.bak", "debug/a", "debug/b", "todos/x/.credentials"]
    folder = f"session-env/{ID}/"
    write(home.claude / f"projects/-p/{ID}.jsonl")
    for path in files:
        write(home.claude / path, b"kept-" + path.encode())
    (home.claude / folder).mkdir(parents=True)
    sh(f"csb-changes --session {ID} | csb-gitcommit").ok()
    store_by_hand(sh, [*files, folder])
    (home.claude / "debug/a").unlink()
    (home.claude / ".credentials.json.bak").unlink()
    if not has_seen:
        (home.backup / "git/csb.seen").unlink()

    found = {p: c for p, c in changes(sh).items() if c != "recheck"}
    # The trees of git have no empty directory.
    expected = [*files, folder] if has_seen else files
    assert found == dict.fromkeys(expected, "refused")
    before = sh(f"git --git-dir={home.backup}/git rev-parse main").out.strip()
    count = sum(record.get("files", 0) for record in backup(sh))
    assert count == (5 if has_seen else 4)
    assert list(stored(sh)) == [f"projects/-p/{ID}.jsonl"]
    assert journal(sh, home) == dict.fromkeys(expected, "refused")
    for path in files:
        old = sh(f"git --git-dir={home.backup}/git show {before}:{path}").ok().out
        assert old == "kept-" + path
    assert set(changes(sh).values()) <= {"recheck"}


def test_what_the_user_refuses_stays_as_it_was_stored(sh, home):
    write(home.claude / f"projects/-p/{ID}.jsonl")
    write(home.claude / "mine/a", b"1\n")
    write(home.claude / "mine/x.pem", b"2\n")
    write(home.claude / "notes.txt", b"3\n")
    backup(sh)
    store_by_hand(sh, ["mine/x.pem"])
    (home.backup / "config.json").write_text('{"refuse": ["mine/", "notes.txt"]}')
    (home.claude / "mine/a").unlink()
    found = {p: c for p, c in changes(sh).items() if c != "recheck"}
    assert found == {"mine/x.pem": "refused"}
    backup(sh)
    assert set(stored(sh)) == {"mine/a", "notes.txt", f"projects/-p/{ID}.jsonl"}


def test_what_is_a_pipe_now_is_deleted(sh, home):
    """The file is gone: a rule that goes by names would keep it from being restored."""
    path = write(home.claude / "todos/a")
    write(home.claude / "todos/b/c")
    write(home.claude / f"projects/-p/{ID}.jsonl")
    backup(sh)
    path.unlink()
    (home.claude / "todos/b/c").unlink()
    (home.claude / "todos/b").rmdir()
    os.mkfifo(path)
    os.mkfifo(home.claude / "todos/b")
    assert {p: c for p, c in changes(sh).items() if c != "recheck"} == {
        "todos/a": "deleted", "todos/b/c": "deleted"}
    backup(sh)
    assert list(stored(sh)) == [f"projects/-p/{ID}.jsonl"]


def test_config_adds_to_the_refused(sh, home):
    write(home.claude / "mine/a")
    write(home.claude / "projects/-p/huge.bin")
    home.backup.mkdir()
    for wrong in (
        '{"refuse": ["mine/", 5]}',
        '{"refuse": "mine/"}',
        '{"refuse": [],}',
        "[1]",
    ):
        (home.backup / "config.json").write_text(wrong)
        done = sh("csb-changes")
        assert (done.rc, done.out, done.err.count("\n")) == (1, "", 1)
    (home.backup / "config.json").write_text(
        '{"refuse": ["mine/", "projects/*/*.bin"]}'
    )
    assert paths(sh("csb-changes").ok().records, "refused") == [
        "mine", "projects/-p/huge.bin"]


def test_what_is_no_file_is_refused_by_name_and_not_read(sh, home):
    os.mkfifo(home.claude / "fifo")
    with socket.socket(socket.AF_UNIX) as unix:
        old = os.getcwd()
        os.chdir(home.claude)
        unix.bind("socket")
        os.chdir(old)
    write(home.claude / "skills/x/.git/config", b"canary")
    write(home.claude / "skills/x/SKILL.md")
    write(home.claude / ".csb-tmp-1-2")
    found = sh("csb-changes").ok().records
    assert paths(found, "refused") == [
        ".csb-tmp-1-2", "fifo", "skills/x/.git", "socket"]
    assert paths(found) == ["skills/x/SKILL.md"]


def test_unreadable_files_and_folders_keep_their_last_version(sh, home):
    write(home.claude / f"projects/-p/{ID}.jsonl", b"1\n")
    write(home.claude / "projects/-q/a.txt", b"2\n")
    write(home.claude / "todos/b", b"3\n")
    backup(sh)
    write(home.claude / f"projects/-p/{ID}.jsonl", b"1\n1\n").chmod(0)
    (home.claude / "projects/-q").chmod(0)
    write(home.claude / "todos/b", b"33\n")
    done = sh("csb-changes | csb-gitcommit")
    (home.claude / "projects/-q").chmod(0o700)
    assert done.rc == 1
    assert sorted(done.err.splitlines()) == [
        "csb-changes: cannot list 'projects/-q': Permission denied",
        f"csb-gitcommit: cannot read 'projects/-p/{ID}.jsonl': Permission denied"]
    assert stored(sh) == {f"projects/-p/{ID}.jsonl": "1\n", "projects/-q/a.txt": "2\n",
                                "todos/b": "33\n"}


def test_nothing_is_deleted_when_projects_is_gone_or_empty(sh, home):
    write(home.claude / f"projects/-p/{ID}.jsonl")
    write(home.claude / "todos/a")
    backup(sh)
    os.rename(home.claude / "projects", home.path / "away")
    for _ in range(2):
        done = sh("csb-changes")
        assert done.rc == 1 and done.err.count("\n") == 1
        assert "the store knows 1 transcript:" in done.err
        assert "deleted" not in done.out
        (home.claude / "projects").mkdir(exist_ok=True)
    assert [r["change"] for r in sh("csb-changes --accept-deletions").ok().records
            if r["path"].endswith("jsonl")] == ["deleted"]


def test_deleted_is_applied_only_if_it_is_still_true(sh, home):
    path = write(home.claude / f"projects/-p/{ID}.jsonl")
    write(home.claude / "projects/-p/b")
    backup(sh)
    path.rename(home.path / "away")
    changes = sh("csb-changes").out.encode()
    os.rename(home.path / "away", path)
    assert "deleted" in changes.decode()
    assert sh("csb-gitcommit", changes).ok().records == []
    assert f"projects/-p/{ID}.jsonl" in stored(sh)


def test_links_are_followed_below_projects_and_stored_as_links_elsewhere(sh, home):
    away = home.path / "away"
    write(away / f"{ID}.jsonl", b"far\n")
    write(home.path / "one.jsonl", b"one\n")
    write(home.claude / "projects/-p/a.txt")
    (home.claude / "projects/far").symlink_to(away)
    (home.claude / "projects/far2").symlink_to(away)
    (away / "loop").symlink_to(home.claude)
    (home.claude / f"projects/-p/{ID}.jsonl").symlink_to(home.path / "one.jsonl")
    (home.claude / "projects/inside").symlink_to("-p")
    (home.claude / "skills").symlink_to(away)
    (home.claude / "projects/-p/dangling").symlink_to("gone")
    backup(sh)
    assert stored(sh) == {
        "projects/-p/a.txt": "{}\n",
        f"projects/far/{ID}.jsonl": "far\n",
        "projects/far2": str(away),
        "projects/far/loop": str(home.claude),
        f"projects/-p/{ID}.jsonl": "one\n",
        "projects/inside": "-p",
        "skills": str(away),
        "projects/-p/dangling": "gone",
    }
    away.rename(home.path / "unmounted")
    done = sh("csb-changes")
    assert done.rc == 1 and "cannot follow 'projects/far'" in done.err
    assert "deleted" not in done.out


def test_a_symlinked_projects_directory_is_followed(sh, home):
    write(home.path / f"disk/-p/{ID}.jsonl", b"far\n")
    (home.claude / "projects").symlink_to(home.path / "disk")
    backup(sh)
    assert stored(sh) == {f"projects/-p/{ID}.jsonl": "far\n"}


def test_one_session_only(sh, home):
    other = "99999999-2222-4333-8444-555555555555"
    agent = b'{"sessionId":"%s"}\n'
    write(home.claude / f"projects/-p/{ID}.jsonl", b'{"slug":"my-fine-plan"}\n')
    write(home.claude / f"projects/-p/{ID}/subagents/agent-1.jsonl")
    write(home.claude / "projects/-p/agent-2.jsonl", agent % ID.encode())
    write(home.claude / "projects/-p/agent-3.jsonl", agent % other.encode())
    write(home.claude / f"projects/-p/{other}.jsonl")
    write(home.claude / f"file-history/{ID}/a@v1")
    write(home.claude / f"todos/{ID}-agent-{ID}.json")
    write(home.claude / "plans/my-fine-plan.md")
    write(home.claude / "plans/other.md")
    expected = [
        f"file-history/{ID}/a@v1",
        f"projects/-p/{ID}.jsonl",
        f"projects/-p/{ID}/subagents/agent-1.jsonl",
        "projects/-p/agent-2.jsonl",
        f"todos/{ID}-agent-{ID}.json",
    ]
    for word in (ID, ID[:4], ID[-6:]) if ID[:4] != other[:4] else ():
        done = sh(f"csb-changes --session {word}")
        if word == ID[-6:]:
            assert (done.rc, "names 2 sessions" in done.err) == (2, True)
        else:
            assert paths(done.ok().records) == expected
    sh(f"csb-changes --session {ID} | csb-gitcommit").ok()
    rest = paths(sh("csb-changes").ok().records)
    assert f"projects/-p/{other}.jsonl" in rest
    assert sh("csb-changes --session abcd").rc == 1


NASTY = [
    b"new\nline",
    b'quo"te',
    b"back\\slash",
    b"\xff\xfe",
    b" ",
    b"tab\t",
    b"-dash",
    b"*?[",
    "é".encode(),
    "e\u0301".encode(),
    b"x" * 255,
    b"\x1b[31m",
    b":(glob)",
    b"~",
    b"@{u}",
]


def test_any_name_is_stored_as_it_is(sh, home):
    for name in NASTY:
        (home.claude / "todos").mkdir(exist_ok=True)
        with open(os.path.join(os.fsencode(home.claude), b"todos", name), "wb") as file:
            file.write(name)
    backup(sh)
    listed = sh(f"git --git-dir={home.backup}/git ls-tree -r -z --name-only main")
    names = listed.out.split("\0")
    assert set(names) - {"", ".csb/changes.jsonl"} == {
        "todos/" + os.fsdecode(n) for n in NASTY
    }
    settle(sh)
    assert sh("csb-changes").ok().records == []


@pytest.mark.parametrize(
    "name",
    [
        ".git",
        ".GIT",
        "git~1",
        ".git.",
        ".git ",
        ".gi\u200ct",
        "a\\.git",
        "GIT~1/a",
        ".git:x",
    ],
)
@pytest.mark.few(4)
def test_a_name_that_git_refuses_is_said(sh, home, name):
    """Not by a backup that fails for ever: it is refused by name,
    and csb-status notes it."""
    write(home.claude / "todos/b", b"fine\n")
    write(home.claude / "todos" / name, b"canary\n")
    done = sh("csb-changes | csb-gitcommit").ok()
    assert (list(stored(sh)), done.err) == (["todos/b"], "")
    (refused,) = [record for record in done.records if record["kind"] == "refused"]
    notes = " ".join(sh("csb-status").records[0]["notes"])
    if name.lower() == ".git":
        assert refused["reason"] == "belongs to a git repository"
        assert "git refuses" not in notes
    else:
        top = "todos/" + name.partition("/")[0]
        assert refused == {
            "kind": "refused",
            "path": top,
            "reason": "has a name that git refuses",
        }
        assert f"because git refuses the name: {top}" in notes
    record = {"kind": "change", "path": f"todos/{name}", "change": "new"}
    by_hand = sh("csb-gitcommit", json.dumps(record).encode())
    assert by_hand.rc == 1 and "git refuses the name" in by_hand.err


def test_a_link_that_newer_gits_refuse(sh, home):
    write(home.claude / "skills/a/.gitmodules")
    write(home.claude / "skills/b/x")
    (home.claude / "skills/b/.gitmodules").symlink_to("x")
    (home.claude / "skills/b/GITMOD~1").symlink_to("x")
    (home.claude / "skills/b/gilt~1").write_text("1")
    done = sh("csb-changes | csb-gitcommit").ok()
    assert list(stored(sh)) == ["skills/a/.gitmodules", "skills/b/gilt~1", "skills/b/x"]
    assert paths(done.records, "refused") == [
        "skills/b/.gitmodules", "skills/b/GITMOD~1"]


def test_a_path_damaged_in_a_pipe_is_an_error_and_no_deletion(sh, home):
    with open(os.path.join(os.fsencode(home.claude), b"\xff"), "wb") as file:
        file.write(b"1")
    backup(sh)
    os.unlink(os.path.join(os.fsencode(home.claude), b"\xff"))
    record = b'{"kind":"change","path":"\\ufffd","change":"deleted"}\n'
    done = sh("csb-gitcommit", record)
    assert done.rc == 1 and "damaged" in done.err and done.out == ""


@pytest.mark.parametrize(
    "path",
    [
        "../x",
        "/etc/passwd",
        "a/../../x",
        "",
        ".",
        "a//b",
        "a\\u0000b",
        ".csb/changes.jsonl",
        5,
        None,
    ],
)
@pytest.mark.few(5)
def test_a_path_outside_is_never_stored(sh, home, path):
    write(home.claude / "a")
    write(home.path / "x")
    text = f'"{path}"' if isinstance(path, str) else {None: "null"}.get(path, path)
    done = sh(
        "csb-gitcommit", f'{{"kind":"change","path":{text},"change":"new"}}\n'.encode()
    )
    assert done.rc == 1 and done.err.count("\n") == 1 and done.out == ""


def test_class_filter_in_the_pipe(sh, home):
    write(home.claude / "settings.json")
    write(home.claude / f"projects/-p/{ID}.jsonl")
    sh("csb-changes | grep '\"user\"' | csb-gitcommit").ok()
    assert list(stored(sh)) == ["settings.json"]
    assert f"projects/-p/{ID}.jsonl" in paths(sh("csb-changes").ok().records)
    (home.claude / f"projects/-p/{ID}.jsonl").unlink()
    sh("rm -r ~/.claude/projects")
    assert "deleted" not in sh("csb-changes").ok().out


def test_csb_seen_is_disposable(sh, home):
    write(home.claude / f"projects/-p/{ID}.jsonl").chmod(0o640)
    (home.claude / f"session-data/{ID}").mkdir(parents=True)
    (home.claude / "link").symlink_to("nowhere")
    backup(sh)
    settle(sh)
    seen = home.backup / "git/csb.seen"
    for damage in (
        seen.unlink,
        lambda: seen.write_bytes(b""),
        lambda: seen.write_bytes(b"rot\0"),
        lambda: seen.write_bytes(seen.read_bytes()[:-9]),
    ):
        damage()
        assert {r["change"] for r in sh("csb-changes").ok().records} == {"recheck"}
        assert backup(sh) == []
        assert sh("csb-changes").ok().records == []


def test_csb_seen_that_lost_a_line_hides_nothing(sh, home):
    """The checksum at its end tells: no deletion and no new file is hidden by
    a damaged cache."""
    write(home.claude / f"projects/-p/{ID}.jsonl")
    write(home.claude / "projects/-p/gone")
    backup(sh)
    settle(sh)
    (home.claude / "projects/-p/gone").unlink()
    seen = home.backup / "git/csb.seen"
    lines = seen.read_bytes().split(b"\0")
    kept = [line for line in lines if not line.endswith(b" projects/-p/gone")]
    assert len(kept) == len(lines) - 1
    seen.write_bytes(b"\0".join(kept))
    assert [r["files"] for r in backup(sh)] == [1]
    assert "projects/-p/gone" not in stored(sh)


def test_a_deletion_is_seen_without_csb_seen(sh, home):
    write(home.claude / f"projects/-p/{ID}.jsonl").chmod(0o640)
    write(home.claude / "projects/-p/b")
    backup(sh)
    settle(sh)
    (home.backup / "git/csb.seen").unlink()
    (home.claude / "projects/-p/b").unlink()
    assert ("projects/-p/b", "deleted") in [
        (r["path"], r["change"]) for r in sh("csb-changes").ok().records]
    backup(sh)
    assert list(stored(sh)) == [f"projects/-p/{ID}.jsonl"]


def test_a_file_becomes_a_directory_and_back(sh, home):
    write(home.claude / "todos/a", b"1")
    backup(sh)
    (home.claude / "todos/a").unlink()
    write(home.claude / "todos/a/b", b"2")
    backup(sh)
    assert stored(sh) == {"todos/a/b": "2"}
    sh("rm -r ~/.claude/todos/a")
    write(home.claude / "todos/a", b"3")
    backup(sh)
    assert stored(sh) == {"todos/a": "3"}


@pytest.mark.parametrize(
    "line, status",
    [
        ("csb-changes", 1),
        ("csb-changes --claude-dir ~/nowhere", 1),
        ("csb-changes </dev/null", 1),
        ("csb-gitcommit </dev/null", 0),
        ("echo '{\"kind\":\"session\"}' | csb-gitcommit", 1),
        ("echo rubbish | csb-gitcommit", 1),
        ("csb-changes --session", 2),
        ("csb-changes x", 2),
        ("csb-gitcommit --portion 0", 2),
        ("csb-gitcommit --portion=-1", 2),
    ],
)
def test_bad_input(sh, home, line, status):
    done = sh(line)
    assert done.rc == status
    assert done.err.count("\n") == (1 if status else 0)
    assert not home.backup.exists()


def test_an_unmounted_disk_behind_a_link_deletes_nothing(sh, home):
    """A project that links to a directory which is empty now:
    status 1, and all is kept."""
    write(home.path / f"disk/{ID}.jsonl")
    write(home.claude / "projects/-q/other.jsonl")
    (home.claude / "projects/-p").symlink_to("../../disk")
    sh("csb-backup").ok()
    (home.path / f"disk/{ID}.jsonl").unlink()
    done = sh("csb-backup")
    assert done.rc == 1 and "'projects/-p'" in done.err
    assert f"projects/-p/{ID}.jsonl" in stored(sh)
    listed = sh("csb-list --all").ok().records
    assert [r["state"] for r in listed if r["session_id"] == ID] == ["present"]


def test_one_session_in_either_case(sh, home):
    """However it is typed, and however what lies beside it spells it."""
    loud = "0122B4C2-C01E-41C6-98EC-C309D2B8EB5A"
    quiet = loud.lower()
    agent = json.dumps({"sessionId": quiet}) + "\n"
    mine = [
        f"projects/-p/{loud}.jsonl",
        f"projects/-p/{quiet}/x",
        "projects/-p/agent-1.jsonl",
        "projects/-p/agent-2.jsonl",
        f"todos/{quiet}-agent-{loud}.json",
        f"file-history/x{loud}/a@v1",
    ]
    for path in mine:
        write(home.claude / path, agent.encode())
    write(
        home.claude / "projects/-p/agent-2.jsonl", agent.replace(quiet, loud).encode()
    )
    write(home.claude / f"projects/-p/{ID}.jsonl")
    write(home.claude / f"projects/-{loud}/notes.txt")
    write(home.claude / f"todos/a{quiet}.json")
    for word in (loud, quiet, "0122b4C2", "Eb5a"):
        records = sh(f"csb-changes --session {word}").ok().records
        assert paths(records) == sorted(mine), word
    backup(sh)
    (home.claude / mine[0]).unlink()
    assert [(r["path"], r["change"]) for r in
            sh(f"csb-changes --session {quiet} | grep deleted").ok().records] == [
        (mine[0], "deleted")]


@pytest.fixture
def starts(home, sh, tmp_path):
    """starts(line): its records, and how often it started git."""
    log = tmp_path / "started"
    wrapper = tmp_path / "wrapped/git"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\necho >>{log}\nexec /usr/bin/git "$@"\n')
    wrapper.chmod(0o755)

    def run(line):
        log.write_text("")
        done = sh(line, PATH=f"{wrapper.parent}:{home.env['PATH']}").ok()
        return of_files(done.records), len(log.read_text().splitlines())
    return run


@pytest.mark.parametrize("place", ["own", "guest"])
def test_where_nothing_changed_git_is_not_started(sh, home, starts, place):
    write(home.claude / f"projects/-p/{ID}.jsonl")
    git = f"git --git-dir={home.backup}/git"
    if place == "guest":
        git = "git -C .claude"
        sh(f"{git} init -q").ok()
    backup(sh)
    settle(sh)
    assert starts("csb-changes") == ([], 0)
    sh(f"{git} pack-refs --all").ok()
    assert starts("csb-changes") == ([], 0)


def test_csb_seen_is_not_believed_of_another_commit(sh, home):
    """Be its ref loose or packed."""
    write(home.claude / f"projects/-p/{ID}.jsonl")
    backup(sh)
    settle(sh)
    git = f"git --git-dir={home.backup}/git -c user.name=a -c user.email=a"
    empty = f"$({git} commit-tree -m x $(: | {git} mktree))"
    sh(f"{git} update-ref refs/heads/a main").ok()
    sh(f"{git} update-ref refs/heads/main {empty}").ok()
    assert [r["change"] for r in sh("csb-changes").ok().records] == ["new"]
    sh(f"{git} pack-refs --all").ok()
    assert [r["change"] for r in sh("csb-changes").ok().records] == ["new"]


def test_a_claude_directory_that_cannot_be_listed_deletes_nothing(sh, home):
    """Not even if all deletions are accepted."""
    write(home.claude / f"projects/-p/{ID}.jsonl")
    backup(sh)
    home.claude.chmod(0o300)
    done = sh("csb-changes --accept-deletions")
    home.claude.chmod(0o700)
    assert (done.rc, done.out, done.err.count("\n")) == (1, "", 1)


def test_a_ref_of_the_user_is_not_that_of_the_backups(sh, home):
    """main of their repository may be at the same commit:
    refs/csb/main is what counts."""
    write(home.claude / f"projects/-p/{ID}.jsonl")
    sh("git -C .claude init -q -b main").ok()
    backup(sh)
    settle(sh)
    sh("git -C .claude update-ref refs/heads/main refs/csb/main").ok()
    assert of_files(sh("csb-changes").ok().records) == []
    sh("git -C .claude update-ref -d refs/csb/main").ok()
    assert [r["change"] for r in of_files(sh("csb-changes").ok().records)] == ["new"]


@pytest.mark.parametrize(
    "old, new", [("todos/a/b/c", "todos/a"), ("todos/a", "todos/a/b/c")]
)
def test_what_is_named_alone_takes_the_place_of_what_was(sh, home, old, new):
    """csb.seen tells of what the tree has, also if nobody named what went."""
    write(home.claude / f"projects/-p/{ID}.jsonl")
    write(home.claude / old, b"old")
    backup(sh)
    settle(sh)
    (home.claude / "todos").rename(home.path / "away")
    write(home.claude / new, b"new")
    sh("csb-changes | grep -v '\"deleted\"' | csb-gitcommit").ok()
    assert stored(sh) == {f"projects/-p/{ID}.jsonl": "{}\n", new: "new"}
    (home.claude / "todos").rename(home.path / "new")
    (home.path / "away").rename(home.claude / "todos")
    backup(sh)
    assert stored(sh) == {f"projects/-p/{ID}.jsonl": "{}\n", old: "old"}


def test_a_link_in_the_place_of_a_file_is_stored_as_a_link(sh, put, claude):
    note = put("projects/-w/memory/note.md")
    sh("csb-changes | csb-gitcommit").ok()
    note.unlink()
    note.symlink_to("/nowhere/at/all")
    sh("csb-changes | csb-gitcommit").ok()
    assert held(sh)["projects/-w/memory/note.md"] == b"/nowhere/at/all"


def test_an_output_that_takes_no_more_is_no_file_that_cannot_be_read(sh, home):
    for number in range(300):
        write(home.claude / f"todos/{number}")
    done = sh("csb-changes >/dev/full")
    assert (done.rc, done.err.count("\n")) == (1, 1) and "the output" in done.err
