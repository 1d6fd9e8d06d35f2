"""What a backup meets on a bad day: a full disk, paths without end, strange owners, open masks"""
import os
import random
import shutil
import stat
import subprocess

import pytest
from conftest import held

pytestmark = pytest.mark.logic

ID = "11111111-2222-4333-8444-555555555555"
LINE = b'{"type":"user","uuid":"u%d","message":{"content":"word %d"}}\n'


@pytest.fixture
def transcript(home):
    """A transcript of five records; its path."""
    path = home.claude / f"projects/-p/{ID}.jsonl"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"".join(LINE % (n, n) for n in range(5)))
    return path


def test_a_disk_that_is_really_full(sh, home, transcript):
    """On a disk of 3 MB: said in a line, nothing of ours left to fill it, the store still works,
    and has what there is room for."""
    if sh("unshare -rm mount -t tmpfs -o size=1m none /mnt").rc:
        pytest.skip("this machine lets nobody mount a tmpfs in a namespace of his own")
    big = home.claude / "projects/-p/big.jsonl"
    big.write_bytes(random.randbytes(8 << 20))
    done = sh(f"""unshare -rm bash -c '
        mkdir ~/.claude-backup; mount -t tmpfs -o size=3m none ~/.claude-backup
        csb-backup; echo "first $?"
        git --git-dir=$HOME/.claude-backup/git ls-tree -r --name-only main projects
        df --output=used -k ~/.claude-backup | tail -1
        find ~/.claude-backup -name "tmp_*" -o -name ".csb-tmp-*" -o -name "*.lock.lock"
        rm {big}; csb-backup >~/said; echo "second $?"
        git --git-dir=$HOME/.claude-backup/git fsck --full --strict && echo sound
        git --git-dir=$HOME/.claude-backup/git cat-file -p main:projects/-p/{ID}.jsonl | cmp - {
            transcript} && echo same
        mv ~/.claude/projects/-p/{ID}.jsonl ~/lost; csb-restore {ID} | grep -c restored'""")
    *_, first, held, used, second, sound, same, restored = [
        line for line in done.out.splitlines() if not line.startswith("{")]
    assert held == f"projects/-p/{ID}.jsonl"
    assert (first, second, sound, same, restored) == ("first 1", "second 0", "sound", "same", "1")
    assert int(used) < 1000, "what could not be stored whole fills the disk"
    lines = sorted(done.err.splitlines())
    assert lines.pop(0).startswith("csb-gitcommit: cannot store "), done.err
    # csb-index works beside it, on the same disk: it may meet the moment at which that is full.
    assert lines == [] or (len(lines) == 1 and lines[0].startswith("csb-index: cannot ")), done.err


def test_a_path_that_no_system_call_takes_is_named(sh, home, transcript):
    """A file whose path is longer than the system allows is named, and costs itself only."""
    old, name = os.getcwd(), "d" * 200
    try:
        os.chdir(home.claude)
        for _ in range(25):
            os.mkdir(name)
            os.chdir(name)
        with open("deep", "w") as file:
            file.write("canary")
    finally:
        os.chdir(old)
    done = sh("csb-backup")
    assert done.rc == 1 and done.err.count("\n") == 1
    assert done.err.startswith("csb-changes: cannot ") and "File name too long" in done.err
    assert held(sh)[f"projects/-p/{ID}.jsonl"] == transcript.read_bytes()
    subprocess.run(["rm", "-rf", home.claude / name], check=True)


@pytest.mark.parametrize("mask", ["000", "022", "077"])
@pytest.mark.few(1)
def test_nobody_else_can_read_what_is_written(sh, home, transcript, mask):
    """Stores, databases, locks, logs, snapshots and restored files: 0600, folders 0700."""
    transcript.chmod(0o600)
    home.backup.mkdir()     # by hand, with the usual mask
    home.backup.chmod(0o755)
    work = home.path / "work"
    sh("git init -q work").ok()
    (home.claude / "settings.json").write_text("{}")
    done = sh(f"umask {mask}; csb-backup; csb-backup --quiet; csb-verify --deep --repair; "
              f"rm -r {transcript.parent}; csb-restore --yes {ID}; csb-restore {ID} --target-dir ~/out; "
              f"cd ~/work; jsonl_snapshot {transcript}; session_snapshot ~/.claude/settings.json")
    assert done.rc == 0 and done.err == ""
    for top in (home.backup, home.path / "out", work / "backup", home.claude / "projects"):
        for folder, _, names in os.walk(top):
            if folder != str(home.claude / "projects"):     # that was there
                assert stat.S_IMODE(os.stat(folder).st_mode) & 0o077 == 0, folder
            for name in names:
                mode = stat.S_IMODE(os.lstat(os.path.join(folder, name)).st_mode)
                assert mode & 0o077 == 0, (folder, name)


@pytest.mark.parametrize("how", ["truncated", "blanked", "rewritten", "rewritten and longer",
                                 "rewritten at the same size"])
@pytest.mark.few(1)
def test_a_rewritten_transcript_keeps_both_versions_and_is_told(sh, home, transcript, how):
    """Old bytes that are no longer a prefix raise the alarm, whatever the size; both are kept."""
    old = transcript.read_bytes()
    sh("csb-backup").ok()
    new = {"truncated": old[:len(LINE)], "blanked": b"", "rewritten": LINE % (9, 9),
           "rewritten and longer": old.replace(b"word 0", b"other") + old,
           "rewritten at the same size": old.replace(b"word 0", b"WORD 0")}[how]
    transcript.write_bytes(new)
    done = sh("csb-backup")
    assert done.rc == 0
    assert done.err == f"csb-backup: session {ID} was rewritten (both versions are kept)\n"
    assert "rewritten_at" in sh("csb-list").ok().records[0]
    both = sh(f"for c in main main~1; do git --git-dir={home.backup}/git show "
              f"$c:projects/-p/{ID}.jsonl; echo; done").out.encode()
    assert both == new + b"\n" + old + b"\n"
    commit = sh(f"git --git-dir={home.backup}/git rev-parse main~1").out.strip()
    record = f'{{"session_id":"{ID}","commit":"{commit}"}}'
    sh("csb-restore --target-dir ~/out", record.encode()).ok()
    assert (home.path / f"out/projects/-p/{ID}.jsonl").read_bytes() == old
    with open(transcript, "ab") as file:
        file.write(LINE % (10, 10))
    assert sh("csb-backup").ok() and "rewritten_at" in sh("csb-list").ok().records[0]


@pytest.mark.long
def test_an_append_is_no_rewrite(sh, home, transcript):
    """Growing, also in the middle of a line, raises no alarm."""
    for piece in (LINE[:7], LINE[7:], b"", LINE % (6, 6)):
        sh("csb-backup").ok()
        with open(transcript, "ab") as file:
            file.write(piece)
    assert "rewritten_at" not in sh("csb-list").ok().records[0]


def test_nothing_but_the_backup_is_written(sh, home, transcript, listing):
    """Whatever fails: the Claude directory stays as it is, to the nanosecond."""
    os.mkfifo(home.claude / "fifo")
    (home.claude / "projects/-p/bad.jsonl").write_bytes(b"\xff\0{")
    (home.claude / "skills").mkdir(mode=0o500)
    before = listing(home.path / ".claude")
    sh("csb-backup; csb-verify; csb-index --rebuild; csb-find --lost; "
       "csb-backup --accept-deletions")
    shutil.rmtree(home.backup)
    sh("csb-backup; ulimit -f 0; csb-backup")
    assert listing(home.path / ".claude") == before
