"""csb-restore: which version it takes, of which session,
and whether --dry-run says so"""
import json
import os
import time

import pytest
from conftest import put_into

pytestmark = pytest.mark.logic

ID = "11111111-2222-4333-8444-555555555555"


def back_up_one(sh, home):
    """A session of one line, backed up."""
    put_into(home, f"projects/-p/{ID}.jsonl", mtime=time.time())
    sh("csb-backup").ok()


@pytest.fixture
def stored(once):
    """A session of one line, backed up."""
    once(back_up_one)


@pytest.mark.long
def test_a_blank_version_is_the_last_to_be_tried(sh, home):
    """A transcript that was overwritten with as many NULs comes back
    as it was before."""
    path = home.claude / f"projects/-p/{ID}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    good = b'{"type":"user","message":{"role":"user","content":"kept"}}\n' * 9
    path.write_bytes(good)
    sh("csb-backup").ok()
    path.write_bytes(bytes(len(good)))
    sh("csb-backup --quiet").ok()
    path.unlink()
    sh("csb-backup").ok()
    done = sh(f"csb-restore {ID}")
    assert done.rc == 1 and "is blank" in done.err and path.read_bytes() == good
    blank = sh("git --git-dir=$CSB_HOME/git rev-list main").ok().out.split()[1]
    line = json.dumps({"session_id": ID, "commit": blank})
    sh("csb-restore --target-dir out", line.encode()).ok()
    out = home.path / f"out/projects/-p/{ID}.jsonl"
    assert out.read_bytes() == bytes(len(good)), "that version was asked for"


@pytest.mark.long
def test_a_dry_run_says_what_the_run_does(sh, home):
    """Kept, refused or replaced: the same results and the same status."""
    path = home.claude / f"projects/-p/{ID}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"{}\n" * 3)
    (path.parent / path.stem).mkdir()
    (path.parent / path.stem / "x.txt").write_text("x")
    sh("csb-backup").ok()
    path.write_bytes(b"{}\n" * 2)
    for words in ("", "--force", "--target-dir /dev/null/x", "--target-dir out"):
        runs = [sh(f"csb-restore {ID} {words} {more}") for more in ("--dry-run", "")]
        assert runs[0].rc == runs[1].rc, words
        plain = [[(r["path"], r["result"]) for r in run.records] for run in runs]
        assert plain[0] == plain[1] or not plain[1], words


def test_another_project_is_not_taken_in_silence(sh, home, stored):
    line = json.dumps({"session_id": ID.format(9), "project": "-nope"})
    done = sh("csb-restore --target-dir out", line.encode())
    assert (done.rc, done.out) == (1, "") and "in project '-nope'" in done.err


@pytest.mark.parametrize(
    "commit",
    ["nothere", "f" * 40, "main:projects", "--all", "a\0b", "\ud800", ["main"], 7],
)
@pytest.mark.few(3)
def test_a_commit_that_is_none_is_said_in_one_line(sh, home, commit, stored):
    """And costs nobody else anything."""
    lines = json.dumps({"session_id": ID, "commit": commit}) + f"\n{ID}\n"
    done = sh("csb-restore --target-dir out", lines.encode())
    assert (done.rc, len(done.records), done.err.count("\n")) == (1, 1, 1), done
    assert "commit" in done.err and "embedded" not in done.err


def test_what_is_open_here_can_be_placed_elsewhere(sh, home):
    """A copy in another directory is in nobody's way."""
    path = home.claude / f"projects/-p/{ID}.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("{}\n")
    (home.claude / "sessions").mkdir()
    (home.claude / "sessions/1.json").write_text(json.dumps(
        {"pid": os.getpid(), "sessionId": ID}))
    sh("csb-backup --quiet").ok()
    path.unlink()
    done = sh(f"csb-restore {ID}")
    assert done.rc == 1 and not path.exists()
    assert f"it is open in Claude Code (process {os.getpid()})" in done.err
    sh(f"csb-restore {ID} --target-dir look").ok()
    assert (home.path / f"look/projects/-p/{ID}.jsonl").read_text() == "{}\n"
