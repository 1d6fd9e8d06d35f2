"""the whole loop on real transcripts: back up, notice a deletion, bring it back"""
import os
import random
import shutil
import time

import pytest
from conftest import DAY, files_below

PROJECTS = 5     # of the folders in the archive of transcripts are Claude directories
ID = "11111111-2222-4333-8444-555555555555"
MAIN = f"projects/-p/{ID}.jsonl"
GIT = "git --git-dir ~/.claude-backup/git"


def take(real, number, home):
    """Make a real Claude directory the home's own, with odd modes and times of the last
    20 days."""
    shutil.copytree(real.claude[number], home.claude, dirs_exist_ok=True, symlinks=True)
    chance = random.Random(number)
    for folder, _, names in os.walk(home.claude):
        os.chmod(folder, 0o700)
        for name in names:
            path = os.path.join(folder, name)
            stamp = time.time_ns() - chance.randrange(20 * DAY * 10**9)
            os.chmod(path, chance.choice((0o600, 0o644, 0o400)))
            os.utime(path, ns=(stamp, stamp))


def sessions(home):
    """{path: bytes} of the files below projects/."""
    found = files_below(home.claude / "projects")
    return {home.claude / "projects" / path: data for path, data in found.items()}


def delete_sessions(home):
    for path in sessions(home):
        path.unlink()


def ids(records):
    return {record["session_id"] for record in records}


def without_dates(found):
    """A listing without the times of directories, which no file system can keep."""
    entries = {}
    for path, (mode, mtime, what) in found.items():
        entries[path] = what if what == "dir" else (mode, mtime, what)
    return entries


@pytest.mark.logic
@pytest.mark.parametrize("number", range(PROJECTS))
@pytest.mark.parametrize("way", [
    "as it is", "without the index", "from a clone", "after git gc"])
@pytest.mark.few(4)
def test_what_is_deleted_comes_back_byte_for_byte(sh, home, real, listing, number, way):
    assert len(real.claude) == PROJECTS
    take(real, number, home)
    before = listing(home.claude)
    first = sh("csb-backup").ok().records
    assert listing(home.claude) == before, "a backup wrote into the Claude directory"
    wanted = ids(record for record in first if record["kind"] == "session")
    assert wanted

    delete_sessions(home)
    second = sh("csb-backup").ok().records
    gone = [record for record in second if record.get("change") == "deleted"]
    assert ids(gone) == wanted
    assert ids(sh("csb-list --deleted").ok().records) == wanted

    where = ""
    if way == "without the index":
        (home.backup / "session-backup.db").unlink()
        sh("csb-find | csb-index >/dev/null")
    if way == "after git gc":
        sh(f"{GIT} gc -q --prune=now --aggressive").ok()
    if way == "from a clone":
        sh("git clone -q --bare ~/.claude-backup/git ~/clone").ok()
        (home.backup / "git").rename(home.backup / "lost")
        where = "--git-dir ~/clone"
    results = set()
    for record in sh(f"csb-list --deleted | csb-restore {where}").ok().records:
        if "/projects/" in record["path"]:
            results.add((record["result"], os.path.isdir(record["path"])))
    # Of what is below projects/ only an empty folder may have been there.
    assert ("restored", False) in results
    assert results <= {("restored", False), ("restored", True), ("kept", True)}
    assert without_dates(listing(home.claude)) == without_dates(before)


@pytest.mark.parametrize("number", range(PROJECTS))
@pytest.mark.few(1)
def test_the_same_in_an_empty_environment(sh, home, real, listing, tools, number):
    take(real, number, home)
    before = listing(home.claude)
    clean = f"env -i PATH={tools.bin}:/usr/bin:/bin HOME={home.path}"
    sh(f"{clean} csb-backup").ok()
    delete_sessions(home)
    assert "deleted" in sh(f"{clean} csb-backup").ok().out
    sh(f"{clean} csb-list --deleted | {clean} csb-restore").ok()
    assert without_dates(listing(home.claude)) == without_dates(before)


@pytest.mark.logic
def test_every_version_of_a_growing_transcript_comes_back(sh, home, real):
    folder = home.claude / "projects/-p"
    folder.mkdir(parents=True)
    growing = {versions[0].parent.name: versions for versions in real.growth}
    assert len(growing) == 8
    turns = max(map(len, real.growth))
    commits = []
    for turn in range(turns):
        for name, versions in growing.items():
            if turn < len(versions):
                shutil.copy(versions[turn], folder / f"{name}.jsonl")
        commits.append(sh("csb-changes | csb-gitcommit").ok().records[-1]["commit"])
    delete_sessions(home)

    for turn, commit in enumerate(commits):
        wanted = [f'{{"session_id":"{name}","commit":"{commit}"}}' for name in growing]
        sh(f"csb-restore --target-dir ~/{turn}", "\n".join(wanted).encode()).ok()
        for name, versions in growing.items():
            restored = home.path / f"{turn}/projects/-p/{name}.jsonl"
            version = versions[:turn + 1][-1]
            assert restored.read_bytes() == version.read_bytes()
    assert sh("csb-restore", "\n".join(growing).encode()).rc == 0
    for name, versions in growing.items():
        assert (folder / f"{name}.jsonl").read_bytes() == versions[-1].read_bytes()


@pytest.mark.long
def test_the_way_to_a_new_machine(sh, home, put):
    """README: clone the store, bring the sessions back, go on with it."""
    main = put(MAIN)
    put("settings.json")
    sh("csb-backup").ok()
    home.backup.rename(home.path / "old")
    home.claude.rename(home.path / "dead")
    sh("umask 022; git clone -q --bare ~/old/git ~/.claude-backup/git").ok()
    assert sh("csb-find --lost | csb-restore").rc == 0
    assert main.read_text() == "{}\n"
    sh(f"mkdir ~/look; {GIT} archive main | tar -x -C ~/look").ok()
    assert (home.path / "look/settings.json").read_text() == "{}\n"

    main.write_text("{}\n{}\n")
    records = sh("csb-backup").records
    refs = {record["ref"] for record in records if record["kind"] == "commit"}
    assert refs == {"refs/heads/main"}
    assert os.stat(home.backup).st_mode & 0o777 == 0o700
    assert sh(f"{GIT} show main:{MAIN}").out == "{}\n{}\n"


@pytest.mark.logic
def test_sessions_that_an_older_tool_committed_are_found_and_restored(
        sh, home, put, real):
    take(real, 0, home)
    (home.path / ".gitconfig").write_text("[user]\nname=u\nemail=u@x\n")
    sh("git init -q; git add -A; git commit -qm one", cwd=home.claude).ok()
    before = sessions(home)
    delete_sessions(home)
    sh("git add -A; git commit -qm two", cwd=home.claude).ok()
    put(f"projects/-new/{ID}.jsonl")
    assert sh("csb-backup").rc == 0
    assert sh("csb-index --rebuild").rc == 0
    deleted = sh("csb-list --deleted").ok().records
    assert ids(deleted) == {path.name.removesuffix(".jsonl") for path in before}
    assert sh("csb-list --deleted | csb-restore").rc == 0
    for path, data in before.items():
        assert path.read_bytes() == data


@pytest.mark.logic
def test_only_the_restore_writes_into_the_claude_directory(sh, home, real, listing):
    take(real, 1, home)
    before = listing(home.claude)
    for line in (
            "csb-backup --no-commit",
            "csb-backup",
            "csb-changes",
            "csb-find",
            "csb-find | csb-index",
            "csb-index --rebuild",
            "csb-list --all",
            "csb list",
            "csb backup --quiet",
            f"csb-restore {ID[:4]}",
            "csb-list | csb-restore --dry-run",
            "csb-list | csb-restore --target-dir ~/out",
            "csb-list | jsonl_snapshot --dest-dir ~/shots",
            "csb-list | session_snapshot --dest-dir ~/notes",
            "csb-find --lost",
            "csb-verify",
            "csb-changes | csb-index",
            "csb-changes | csb-gitcommit --dry-run",
            "csb-changes | csb-gitcommit"):
        sh(line)
        assert listing(home.claude) == before, line


ASKED = b'{"type":"user","message":{"role":"user","content":"'


def bad_transcripts():
    """{what is wrong: bytes}"""
    return {
        "empty": b"",
        "torn": ASKED + b'hi"}}\n{"type":"us',
        "nul": b'{"a":1}\n' + b"\0" * 5000 + b"\n",
        "utf8": b'{"a":"\xff\xfe"}\n',
        "list": b"[1]\n",
        "null message": b'{"type":"user","message":null}\n',
        "integer time": ASKED + b'x"},"timestamp":5}\n',
        "huge line": ASKED + b"x" * 100_000_000 + b'"}}\n',
        "deep": b"[" * 100_000 + b"\n",
        "wrong types":
            b'{"type":5,"cwd":[],"sessionId":{},"customTitle":7,"timestamp":[]}\n'}


@pytest.mark.long
def test_bad_transcripts_cost_nothing_but_themselves(sh, put):
    bad = bad_transcripts()
    paths = {}
    for number, (what, data) in enumerate(bad.items()):
        session_id = f"{number:08d}-2222-4333-8444-555555555555"
        paths[what] = put(f"projects/-p/{session_id}.jsonl", data)
    put(MAIN, ASKED + b'a fine prompt"},"cwd":"/w",'
        b'"timestamp":"2026-01-02T03:04:05.000Z"}\n')
    put("projects/-p/00000099-2222-4333-8444-555555555555.jsonl").chmod(0)

    done = sh("csb-backup")
    assert done.rc == 1
    for line in done.err.splitlines():
        assert "00000099" in line, done.err
    listed = {row["session_id"]: row for row in sh("csb-list").records}
    assert {path.stem for path in paths.values()} <= set(listed)
    assert listed[ID]["title"] == "a fine prompt"
    assert listed[paths["nul"].stem]["bad_lines"] == 1
    for what, path in paths.items():
        path.unlink()
        sh(f"csb-restore {path.stem}")
        assert path.read_bytes() == bad[what], what
