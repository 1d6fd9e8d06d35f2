"""What a backup meets on a bad day: a full disk, endless paths, open masks"""
import os
import random
import shutil
import stat
import subprocess

import pytest
from conftest import held

pytestmark = pytest.mark.logic

ID = "11111111-2222-4333-8444-555555555555"
MAIN = f"projects/-p/{ID}.jsonl"
LINE = b'{"type":"user","uuid":"u%d","message":{"content":"word %d"}}\n'


@pytest.fixture
def transcript(home):
    """A transcript of five records; its path."""
    path = home.claude / MAIN
    path.parent.mkdir(parents=True)
    path.write_bytes(b"".join(LINE % (n, n) for n in range(5)))
    return path


def append(path, data):
    with open(path, "ab") as file:
        file.write(data)


def mode(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


# In a namespace where CSB_HOME is a disk of 3 MB. Each step prints one line.
ON_A_SMALL_DISK = f"""
    git="git --git-dir=$CSB_HOME/git"
    mkdir ~/.claude-backup; mount -t tmpfs -o size=3m none ~/.claude-backup
    csb-backup >/dev/null; echo "first $?"
    $git ls-tree -r --name-only main projects
    df --output=used -k ~/.claude-backup | tail -1
    find ~/.claude-backup -name "tmp_*" -o -name ".csb-tmp-*" -o -name "*.lock.lock"
    rm ~/.claude/projects/-p/big.jsonl; csb-backup >/dev/null; echo "second $?"
    $git fsck --full --strict && echo sound
    $git cat-file -p main:{MAIN} | cmp - ~/.claude/{MAIN} && echo same
    mv ~/.claude/{MAIN} ~/lost; csb-restore {ID} | grep -c restored"""


def test_a_disk_that_is_really_full(sh, transcript):
    """On a disk of 3 MB: said in a line, nothing of ours left to fill it, the store
    still works, and has what there is room for."""
    if sh("unshare -rm mount -t tmpfs -o size=1m none /mnt").rc:
        pytest.skip("this machine lets nobody mount a tmpfs in a namespace of his own")
    transcript.with_name("big.jsonl").write_bytes(random.randbytes(8 << 20))
    done = sh(f"unshare -rm bash -c '{ON_A_SMALL_DISK}'")
    first, held, used, *rest = done.out.splitlines()
    assert (first, held) == ("first 1", MAIN)
    assert int(used) < 1000, "what could not be stored whole fills the disk"
    assert rest == ["second 0", "sound", "same", "1"]

    store, *index = sorted(done.err.splitlines())
    assert store.startswith("csb-gitcommit: cannot store "), done.err
    # csb-index works beside it, on the same disk: it may meet the moment at which that
    # is full.
    assert len(index) <= 1, done.err
    assert all(line.startswith("csb-index: cannot ") for line in index), done.err


def test_a_path_that_no_system_call_takes_is_named(sh, home, transcript):
    """A file whose path is longer than the system allows costs itself only."""
    there = os.getcwd()
    name = "d" * 200
    try:
        os.chdir(home.claude)
        for _ in range(25):
            os.mkdir(name)
            os.chdir(name)
        with open("deep", "w") as file:
            file.write("canary")
    finally:
        os.chdir(there)
    done = sh("csb-backup")
    assert done.rc == 1 and done.err.count("\n") == 1
    assert done.err.startswith("csb-changes: cannot ")
    assert "File name too long" in done.err
    assert held(sh)[MAIN] == transcript.read_bytes()
    subprocess.run(["rm", "-rf", home.claude / name], check=True)


@pytest.mark.parametrize("mask", ["000", "022", "077"])
@pytest.mark.few(1)
def test_nobody_else_can_read_what_is_written(sh, home, transcript, mask):
    """Stores, databases, locks, logs, snapshots, restored files: 0600, folders 0700."""
    transcript.chmod(0o600)
    home.backup.mkdir()     # by hand, with the usual mask
    home.backup.chmod(0o755)
    work = home.path / "work"
    sh("git init -q work").ok()
    (home.claude / "settings.json").write_text("{}")
    done = sh(f"""umask {mask}
        csb-backup && csb-backup --quiet && csb-verify --deep --repair
        rm -r {transcript.parent}
        csb-restore --yes {ID} && csb-restore {ID} --target-dir ~/out
        cd ~/work && jsonl_snapshot {transcript}
        session_snapshot ~/.claude/settings.json""")
    assert done.rc == 0 and done.err == ""

    projects = home.claude / "projects"
    for top in (home.backup, home.path / "out", work / "backup", projects):
        for folder, _, names in os.walk(top):
            paths = [os.path.join(folder, name) for name in names]
            if folder != str(projects):     # that was there
                paths.append(folder)
            for path in paths:
                assert mode(path) & 0o077 == 0, path


@pytest.mark.parametrize("how", [
    "truncated", "blanked", "rewritten", "rewritten and longer",
    "rewritten at the same size"])
@pytest.mark.few(1)
def test_a_rewritten_transcript_keeps_both_versions_and_is_told(
        sh, home, transcript, how):
    """Old bytes that are no longer a prefix raise the alarm, whatever the size."""
    old = transcript.read_bytes()
    sh("csb-backup").ok()
    transcript.write_bytes({
        "truncated": old[:len(LINE)],
        "blanked": b"",
        "rewritten": LINE % (9, 9),
        "rewritten and longer": old.replace(b"word 0", b"other") + old,
        "rewritten at the same size": old.replace(b"word 0", b"WORD 0")}[how])
    done = sh("csb-backup")
    assert done.rc == 0
    assert done.err == (
        f"csb-backup: session {ID} was rewritten (both versions are kept)\n")
    assert "rewritten_at" in sh("csb-list").ok().records[0]
    assert held(sh)[MAIN] == transcript.read_bytes()
    assert held(sh, ref="main~1")[MAIN] == old

    commit = sh(f"git --git-dir={home.backup}/git rev-parse main~1").out.strip()
    record = f'{{"session_id":"{ID}","commit":"{commit}"}}'
    sh("csb-restore --target-dir ~/out", record.encode()).ok()
    assert (home.path / "out" / MAIN).read_bytes() == old
    append(transcript, LINE % (10, 10))
    sh("csb-backup").ok()
    assert "rewritten_at" in sh("csb-list").ok().records[0]


@pytest.mark.long
def test_an_append_is_no_rewrite(sh, transcript):
    """Growing, also in the middle of a line, raises no alarm."""
    for piece in (LINE[:7], LINE[7:], b"", LINE % (6, 6)):
        sh("csb-backup").ok()
        append(transcript, piece)
    assert "rewritten_at" not in sh("csb-list").ok().records[0]


def test_nothing_but_the_backup_is_written(sh, home, transcript, listing):
    """Whatever fails: the Claude directory stays as it is, to the nanosecond."""
    os.mkfifo(home.claude / "fifo")
    transcript.with_name("bad.jsonl").write_bytes(b"\xff\0{")
    (home.claude / "skills").mkdir(mode=0o500)
    before = listing(home.claude)
    sh("csb-backup; csb-verify; csb-index --rebuild; csb-find --lost; "
       "csb-backup --accept-deletions")
    shutil.rmtree(home.backup)
    sh("csb-backup; ulimit -f 0; csb-backup")
    assert listing(home.claude) == before
