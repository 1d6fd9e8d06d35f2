"""csb.index: what its readers say of a session is true when they say it."""
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time

import pytest
from conftest import INDEX, LONG, ROOT, STORE, line, name, put_into

sys.path.insert(0, f"{ROOT}/lib")

from csb import Error
from csb.index import sessions

pytestmark = pytest.mark.logic

GONE = f"projects/-w/{name(1)}.jsonl"


def make_indexed(sh, home):
    """Two sessions of one project, one of another one, stored and indexed."""
    put_into(home, 1, line("one") * 3)
    put_into(home, 2, line("two"))
    put_into(home, 3, line("three"), "-v")
    (home.claude / "settings.json").write_text("{}")
    sh(f"{STORE}; {INDEX}").ok()


@pytest.fixture
def indexed(once, home):
    """The path of their index."""
    once(make_indexed)
    return str(home.backup / "session-backup.db")


def states(path, **how):
    """{number: (project, state)} of the sessions of an index."""
    found = {}
    for session in sessions(path, **how):
        record = session.record
        assert record["state"] == session.state
        number = int(record["session_id"][-12:])
        found[number] = (record["project"], session.state)
    return found


HERE = {1: ("-w", "present"), 2: ("-w", "present"), 3: ("-v", "present")}
CASES = {
    "nothing": ("true", {}),
    "a transcript is gone": (f"rm {GONE}", {1: ("-w", "deleted")}),
    "its project is gone": ("rm -r projects/-v", {3: ("-v", "deleted")}),
    "a folder has its place": (f"rm {GONE}; mkdir {GONE}", {1: ("-w", "deleted")}),
    "a FIFO has its place": (f"rm {GONE}; mkfifo {GONE}", {1: ("-w", "deleted")}),
    "a link to nowhere has its place": (f"rm {GONE}; ln -s nowhere {GONE}", {}),
    "a file has the place of its project": (
        "rm -r projects/-v; touch projects/-v",
        {3: ("-v", "deleted")},
    ),
    "its project cannot be listed": (f"rm {GONE}; chmod 0 projects/-w", {}),
    "its project can be entered, but not listed": (
        f"rm {GONE}; chmod 100 projects/-w",
        {},
    ),
    "its project is a disk that is away": (
        "mv projects/-v ../v; ln -s nowhere projects/-v",
        {},
    ),
    "its project is an empty mount point": (
        "mv projects/-v ../v; mkdir ../e; ln -s ../../e projects/-v",
        {},
    ),
    "no project can be listed": ("chmod 0 projects", {}),
    "it was moved": (f"mv {GONE} projects/-v", {1: ("-v", "present")}),
    "it was moved and goes on": (
        f"mv {GONE} projects/-v; echo x >>projects/-v/{name(1)}.jsonl",
        {1: ("-v", "present")},
    ),
    "another one of its id is elsewhere": (
        f"rm {GONE}; echo '{{}}' >projects/-v/{name(1)}.jsonl",
        {1: ("-w", "deleted")},
    ),
}
ALL_AWAY = {
    "projects is gone": "rm -r projects",
    "projects is empty": "rm -r projects/*",
    "projects is a link to nowhere": "mv projects ..; ln -s nowhere projects",
    "all is gone": "rm -r ~/.claude",
}


@pytest.mark.parametrize("what", CASES)
@pytest.mark.few(7)
def test_the_disk_decides(sh, indexed, what):
    """Unless it cannot be asked: then the index's word counts."""
    lines, changed = CASES[what]
    sh(f"cd ~/.claude; {lines}").ok()
    # As the tools see it, root or not: in a process that may be refused.
    script = (f"import sys; sys.path[:0] = ['{ROOT}/lib', '{ROOT}/tests']; "
              "import json; from csb.index import sessions; "
              f"print(json.dumps([s.record for s in sessions('{indexed}')]))")
    done = sh(f"python3 -c \"{script}\"").ok()
    found = {}
    for record in json.loads(done.out):
        number = int(record["session_id"][-12:])
        assert number not in found
        found[number] = record["project"], record["state"]
        path = f"/projects/{record['project']}/{record['session_id']}.jsonl"
        assert record["transcript_path"].endswith(path)
        if record["state"] == "deleted":
            assert "purge_at" not in record
    sh("chmod 700 ~/.claude/projects ~/.claude/projects/-w 2>/dev/null; true")
    assert found == {**HERE, **changed}


@pytest.mark.parametrize("what", ALL_AWAY)
@pytest.mark.few(2)
def test_where_all_is_away_each_is_missing(sh, home, capfd, what):
    """One line asks for the disk, and says what brings them back:
    once a process and directory."""
    make_indexed(sh, home)
    indexed = str(home.backup / "session-backup.db")
    sh(f"cd ~/.claude; {ALL_AWAY[what]}").ok()
    assert states(indexed) == {
        number: (project, "missing") for number, (project, _) in HERE.items()}
    said = capfd.readouterr().err
    assert said.count("\n") == 1
    assert "csb restore --deleted" in said
    assert "mounted" in said


def test_what_the_index_holds_as_deleted(sh, put, home, indexed):
    """It is back, or a stub of its id is there, or it went on elsewhere."""
    put(1, "").unlink()
    sh(INDEX).ok()
    assert states(indexed)[1] == ("-w", "deleted")
    put(1, '{"type":"custom-title","customTitle":"x"}\n')
    assert states(indexed)[1] == ("-w", "deleted"), "a stub"
    put(1, line("one") * 3)
    assert states(indexed)[1] == ("-w", "present")
    put(1, "").unlink()
    put(1, line("one") * 4, "-v")
    assert states(indexed)[1] == ("-v", "present")


def test_a_session_that_moved_comes_once(sh, put, home, indexed):
    """Although the index has it in both places."""
    put(1, line("one") * 3, "-v")
    sh(INDEX).ok()
    put(1, "").unlink()
    found = [s.record["project"] for s in sessions(indexed)
             if s.record["session_id"] == name(1)]
    assert found == ["-v"]


def test_nobody_waits_for_a_reader(sh, put, home, indexed):
    """What lies in front of a pager holds no lock, and nothing of the database."""
    reading = sessions(indexed)
    next(reading)
    db = sqlite3.connect(indexed, timeout=0)
    db.execute("BEGIN EXCLUSIVE")
    db.execute("UPDATE session SET words = ''")
    db.commit()
    db.close()
    os.unlink(indexed)
    assert len(list(reading)) == 2


def test_a_reader_waits_for_a_writer(home, indexed):
    db = sqlite3.connect(indexed)
    db.execute("BEGIN EXCLUSIVE")
    script = (
        f"import sys; sys.path[:0] = ['{ROOT}/lib']; from csb.index import sessions; "
        f"print(len(list(sessions('{indexed}'))))"
    )
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    time.sleep(0.3)
    assert child.poll() is None
    db.rollback()
    assert child.communicate(timeout=LONG)[0] == b"3\n"


def test_which_sessions(sh, put, home, indexed):
    put(10, line("upper"), "-u").rename(
        home.claude / "projects/-u" / f"{name(10).upper()}.jsonl")
    sh(INDEX).ok()
    ids = {session.record["session_id"] for session in sessions(indexed)}
    assert ids == {name(1), name(2), name(3), name(10).upper()}
    assert set(states(indexed, project="-w")) == {1, 2}
    assert set(states(indexed, session_id=name(2))) == {2}
    assert set(states(indexed, session_id=name(10))) == {10}, "in either case"
    assert set(states(indexed, words=["TWO"])) == {2}
    assert set(states(indexed, words=["000003"])) == {3}
    assert set(states(indexed, words=["3f4a9b10", "upper"])) == {10}
    assert states(indexed, words=["two", "three"]) == {}
    assert list(states(indexed, order="-size"))[0] == 1
    assert list(states(indexed, order="size"))[-1] == 1


def test_words_are_compared_in_one_spelling(sh, put, indexed):
    """macOS gives names and texts with the accents beside their letters."""
    put(4, line("cafe\u0301 Stra\u00dfe"))
    sh(INDEX).ok()
    for word in ("caf\u00e9", "CAFE\u0301", "strasse"):
        assert set(states(indexed, words=[word])) == {4}


def damage(path):
    with open(path, "r+b") as file:
        file.write(b"x" * 9000)


NO_INDEX = {
    "missing": (os.unlink, 1, "cannot use"),
    "damaged": (damage, 1, "csb-index --rebuild"),
    "of another version": (
        lambda path: sqlite3.connect(path).execute("PRAGMA user_version = 7"), 1,
        "csb-index --rebuild"),
    "a directory": (lambda path: (os.unlink(path), os.mkdir(path)), 1, "cannot use"),
}


@pytest.mark.parametrize("what", NO_INDEX)
@pytest.mark.few(2)
def test_an_index_that_cannot_be_read(indexed, what):
    """One sentence that says what to type, before anything is yielded."""
    spoil, status, said = NO_INDEX[what]
    spoil(indexed)
    with pytest.raises(Error) as error:
        sessions(indexed)
    assert error.value.status == status and said in str(error.value)
    assert "\n" not in str(error.value)


def test_what_only_the_index_of_a_lost_store_knows(sh, put, home, indexed):
    """The rescue pipe: deleted since the last backup, and nothing was indexed since."""
    put(1, "").unlink()
    shutil.rmtree(home.backup / "git")
    assert states(indexed)[1] == ("-w", "deleted")


def test_without_an_index_a_store_is_enough_to_make_one(sh, put, home):
    """Where all is gone nobody asks whether Claude Code is installed."""
    put(1)
    sh("csb-backup; rm -r ~/.claude/projects ~/.claude-backup/session-backup.db").ok()
    done = sh("csb-list --deleted")
    assert done.rc == 3 and "csb restore --deleted brings it back" in done.err, done
    sh("rm -r ~/.claude-backup/git")
    assert "is Claude Code installed?" in sh("csb-list --deleted").err
