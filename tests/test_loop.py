"""the whole loop on real transcripts: back up, notice a deletion, bring it back"""
import os
import random
import shutil
import time

import pytest

PROJECTS = 5     # of the folders in the archive of transcripts are Claude directories
ID = "11111111-2222-4333-8444-555555555555"


def take(real, number, home):
    """One real Claude directory as the home's own, with modes and times of the last 20 days."""
    shutil.copytree(real.claude[number], home.claude, dirs_exist_ok=True, symlinks=True)
    chance = random.Random(number)
    for folder, _, names in os.walk(home.claude):
        os.chmod(folder, 0o700)
        for name in names:
            path = os.path.join(folder, name)
            stamp = time.time_ns() - chance.randrange(20 * 86400 * 10**9)
            os.chmod(path, chance.choice((0o600, 0o644, 0o400)))
            os.utime(path, ns=(stamp, stamp))


def sessions(home):
    """The files below projects/."""
    return [os.path.join(folder, name) for folder, _, names in os.walk(home.claude / "projects")
            for name in names]


def without_dates(found):
    """A listing without the times of directories, which no file system can keep."""
    return {path: entry if entry[2] != "dir" else entry[2] for path, entry in found.items()}


@pytest.mark.logic
@pytest.mark.parametrize("number", range(PROJECTS))
@pytest.mark.parametrize("way", ["as it is", "without the index", "from a clone", "after git gc"])
@pytest.mark.few(4)
def test_what_is_deleted_comes_back_byte_for_byte(sh, home, real, listing, number, way):
    assert len(real.claude) == PROJECTS
    take(real, number, home)
    before = listing(home.claude)
    first = sh("csb-backup").ok()
    assert listing(home.claude) == before, "a backup wrote into the Claude directory"
    wanted = {r["session_id"] for r in first.records if r["kind"] == "session"}
    assert wanted
    for path in sessions(home):
        os.unlink(path)
    second = sh("csb-backup").ok().records
    assert {r["session_id"] for r in second if r.get("change") == "deleted"} == wanted
    assert {r["session_id"] for r in sh("csb-list --deleted").ok().records} == wanted
    if way == "without the index":
        (home.backup / "session-backup.db").unlink()
        sh("csb-find | csb-index >/dev/null")
    where = ""
    if way == "after git gc":
        sh("git --git-dir ~/.claude-backup/git gc -q --prune=now --aggressive").ok()
    if way == "from a clone":
        sh("git clone -q --bare ~/.claude-backup/git ~/clone").ok()
        (home.backup / "git").rename(home.backup / "lost")
        where = "--git-dir ~/clone"
    done = sh(f"csb-list --deleted | csb-restore {where}").ok().records
    done = [(r["result"], os.path.isdir(r["path"])) for r in done if "/projects/" in r["path"]]
    assert {*done} - {("kept", True)} <= {("restored", True), ("restored", False)}
    assert ("restored", False) in done, "only an empty folder may have been there"
    assert without_dates(listing(home.claude)) == without_dates(before)


@pytest.mark.parametrize("number", range(PROJECTS))
@pytest.mark.few(1)
def test_the_same_in_an_empty_environment(sh, home, real, listing, tools, number):
    take(real, number, home)
    before = listing(home.claude)
    clean = f"env -i PATH={tools.bin}:/usr/bin:/bin HOME={home.path}"
    sh(f"{clean} csb-backup").ok()
    for path in sessions(home):
        os.unlink(path)
    assert "deleted" in sh(f"{clean} csb-backup").ok().out
    sh(f"{clean} csb-list --deleted | {clean} csb-restore").ok()
    assert without_dates(listing(home.claude)) == without_dates(before)


@pytest.mark.logic
def test_every_version_of_a_growing_transcript_comes_back(sh, home, real):
    folder = home.claude / "projects/-p"
    folder.mkdir(parents=True)
    sessions = {versions[0].parent.name: versions for versions in real.growth}
    assert len(sessions) == 8
    commits = []
    for turn in range(max(map(len, real.growth))):
        for name, versions in sessions.items():
            if turn < len(versions):
                shutil.copy(versions[turn], folder / f"{name}.jsonl")
        commits.append(sh("csb-changes | csb-gitcommit").ok().records[-1]["commit"])
    for path in folder.iterdir():
        path.unlink()
    for turn, commit in enumerate(commits):
        wanted = "".join(f'{{"session_id":"{name}","commit":"{commit}"}}\n' for name in sessions)
        sh(f"csb-restore --target-dir ~/{turn}", wanted.encode()).ok()
        for name, versions in sessions.items():
            restored = home.path / f"{turn}/projects/-p/{name}.jsonl"
            assert restored.read_bytes() == versions[min(turn, len(versions) - 1)].read_bytes()
    assert sh("csb-restore", "\n".join(sessions).encode()).rc == 0
    for name, versions in sessions.items():
        assert (folder / f"{name}.jsonl").read_bytes() == versions[-1].read_bytes()


@pytest.mark.long
def test_the_way_to_a_new_machine(sh, home, listing):
    """README: clone the store, bring the sessions back, go on with it."""
    folder = home.claude / "projects/-p"
    folder.mkdir(parents=True)
    (folder / f"{ID}.jsonl").write_text("{}\n")
    (home.claude / "settings.json").write_text("{}\n")
    sh("csb-backup").ok()
    home.backup.rename(home.path / "old")
    home.claude.rename(home.path / "dead")
    sh("umask 022; git clone -q --bare ~/old/git ~/.claude-backup/git").ok()
    assert sh("csb-find --lost | csb-restore").rc == 0
    assert (folder / f"{ID}.jsonl").read_text() == "{}\n"
    sh("mkdir ~/look; git --git-dir ~/.claude-backup/git archive main | tar -x -C ~/look").ok()
    assert (home.path / "look/settings.json").read_text() == "{}\n"
    (folder / f"{ID}.jsonl").write_text("{}\n{}\n")
    assert {r["ref"] for r in sh("csb-backup").records if r["kind"] == "commit"} == {
        "refs/heads/main"}
    assert os.stat(home.backup).st_mode & 0o777 == 0o700
    assert sh(f"git --git-dir ~/.claude-backup/git show main:projects/-p/{ID}.jsonl").out == (
        "{}\n{}\n")


@pytest.mark.logic
def test_sessions_that_an_older_tool_committed_are_found_and_restored(sh, home, real):
    take(real, 0, home)
    (home.path / ".gitconfig").write_text("[user]\nname=u\nemail=u@x\n")
    line = "git init -q; git add -A; git commit -qm one"
    sh(line, cwd=home.claude).ok()
    bytes_before = {path: open(path, "rb").read() for path in sessions(home)}
    names = {os.path.basename(path).removesuffix(".jsonl") for path in bytes_before}
    for path in bytes_before:
        os.unlink(path)
    sh("git add -A; git commit -qm two", cwd=home.claude).ok()
    (home.claude / "projects/-new").mkdir()
    (home.claude / f"projects/-new/{ID}.jsonl").write_text("{}\n")
    assert sh("csb-backup").rc == 0
    done = sh("csb-index --rebuild")
    assert done.rc == 0
    assert {r["session_id"] for r in sh("csb-list --deleted").ok().records} == names
    assert sh("csb-list --deleted | csb-restore").rc == 0
    assert {path: open(path, "rb").read() for path in bytes_before} == bytes_before


@pytest.mark.logic
def test_only_the_restore_writes_into_the_claude_directory(sh, home, real, listing):
    take(real, 1, home)
    before = listing(home.claude)
    for line in ("csb-backup --no-commit", "csb-backup", "csb-changes", "csb-find",
                 "csb-find | csb-index", "csb-index --rebuild", "csb-list --all",
                 "csb list", "csb backup --quiet", f"csb-restore {ID[:4]}",
                 "csb-list | csb-restore --dry-run", "csb-list | csb-restore --target-dir ~/out",
                 "csb-list | jsonl_snapshot --dest-dir ~/shots",
                 "csb-list | session_snapshot --dest-dir ~/notes", "csb-find --lost", "csb-verify",
                 "csb-changes | csb-index", "csb-changes | csb-gitcommit --dry-run",
                 "csb-changes | csb-gitcommit"):
        sh(line)
        assert listing(home.claude) == before, line


BAD = {
    "empty": b"", "torn": b'{"type":"user","message":{"role":"user","content":"hi"}}\n{"type":"us',
    "nul": b'{"a":1}\n' + b"\0" * 5000 + b"\n", "utf8": b'{"a":"\xff\xfe"}\n', "list": b"[1]\n",
    "null message": b'{"type":"user","message":null}\n',
    "integer time": b'{"type":"user","timestamp":5,"message":{"role":"user","content":"x"}}\n',
    "huge line": b'{"type":"user","message":{"role":"user","content":"'
                 + b"x" * 100_000_000 + b'"}}\n', "deep": b"[" * 100_000 + b"\n",
    "wrong types": b'{"type":5,"cwd":[],"sessionId":{},"customTitle":7,"timestamp":[]}\n'}


@pytest.mark.long
def test_bad_transcripts_cost_nothing_but_themselves(sh, home):
    folder = home.claude / "projects/-p"
    folder.mkdir(parents=True)
    ids = {}
    for number, (name, data) in enumerate(BAD.items()):
        ids[name] = f"{number:08d}-2222-4333-8444-555555555555"
        (folder / f"{ids[name]}.jsonl").write_bytes(data)
    good = f"{ID}"
    (folder / f"{good}.jsonl").write_bytes(
        b'{"type":"user","message":{"role":"user","content":"a fine prompt"},"cwd":"/w",'
        b'"timestamp":"2026-01-02T03:04:05.000Z"}\n')
    (folder / "00000099-2222-4333-8444-555555555555.jsonl").write_bytes(b"{}\n")
    (folder / "00000099-2222-4333-8444-555555555555.jsonl").chmod(0)
    done = sh("csb-backup")
    assert done.rc == 1
    assert all("00000099" in line for line in done.err.splitlines()), done.err
    listed = {r["session_id"]: r for r in sh("csb-list").records}
    assert set(ids.values()) | {good} <= set(listed)
    assert listed[good]["title"] == "a fine prompt"
    assert listed[ids["nul"]]["bad_lines"] == 1
    for name, data in BAD.items():
        (folder / f"{ids[name]}.jsonl").unlink()
        sh(f"csb-restore {ids[name]}")
        assert (folder / f"{ids[name]}.jsonl").read_bytes() == data, name
