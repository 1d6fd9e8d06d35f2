"""csb-list: what the index holds, the words as they are, in an order that is always the same."""
import os
import sqlite3
import sys
import time

import pytest
from conftest import DAY, INDEX, ROOT, WHEN, line, name

sys.path.insert(0, f"{ROOT}/lib")
from csb.index import unusable_index

pytestmark = pytest.mark.logic



def numbers(done):
    """The sessions in what csb-list said."""
    return [int(r["session_id"][-12:]) for r in done.ok().records]


@pytest.mark.long
def test_words(sh, put):
    """All of them, in title, project, start folder, folders and id; nothing is a wildcard."""
    put(1, line("Fix the PARSER bug", cwd="/home/u/alpha"), "-home-u-alpha")
    put(2, line("fix 100% of_it", cwd="/srv/%x") + line("x", cwd="/srv/Parser-Lib"), "-srv")
    put(3, line("Straße ÉCOLE \U0001f600", cwd="/a b"), "-a-b")
    put(4, line("nul \x00 here") + line("x", cwd="/\ud800"), "-d")
    put(5, "", "-empty")
    sh(INDEX).ok()
    for words, expected in (
            ("", {1, 2, 3, 4, 5}), ("parser", {1, 2}), ("FIX parser", {1, 2}), ("fix bug", {1}),
            ("bug fix alpha", {1}), ("fix nothing", set()), ("%", {2}), ("_", {2}), ("'*'", set()),
            ("'['", set()), ("'100%'", {2}), ("'1%0'", set()), ("straße", {3}), ("STRASSE", {3}),
            ("école", {3}), ("\U0001f600", {3}), ("/a", {1, 3}), ("'a b'", {3}),
            ("-- -home-u", {1}), ("fix -n 9 bug --all -- -home", {1}),
            ("empty", {5}), ("here", {4}), ("3f4a", {1, 2, 3, 4, 5}), ("3f4", set()),
            ("000003", {3}), ("0003", {3}), ("003", set()), (name(2), {2}), (name(2).upper(), {2}),
            ("3f4a9b10 parser", {1, 2}), ("000000 parser", set()), ("''", {1, 2, 3, 4, 5}),
            ("\"' OR 1 --\"", set())):
        assert set(numbers(sh(f"csb-list {words}"))) == expected, words


def test_states_and_projects(sh, put, home):
    for number, project in ((1, "-a"), (2, "-a"), (3, "-a-b"), (3, "-b"), (4, "-\udcff")):
        put(number, line("x"), project)
    (home.claude / "projects" / "-b" / name(5)).mkdir()
    (home.claude / "projects" / "-b" / name(5) / "x").write_text("x")
    sh(INDEX).ok()
    put(2, "", "-a").unlink()
    sh(INDEX).ok()
    for options, expected in (
            ("", [1, 3, 3, 4, 5]), ("--deleted", [2]), ("--all", [1, 2, 3, 3, 4, 5]),
            ("--project -a", [1]), ("--project=-a --all", [1, 2]), ("--all --project -a x", [1, 2]),
            ("--project -b", [3, 5]), ("--project a", []), ("--project ''", []),
            ("--project $'-\\xff'", [4]), ("--deleted --project -b", []), ("--project '-%'", []),
            ("x --deleted", [2]), ("--deleted --sort size x", [2])):
        assert sorted(numbers(sh(f"csb-list {options}"))) == expected, options
    two = sh("csb-list --project -b; csb-list --project -a-b").ok().records
    assert [(r["project"], r["session_id"]) for r in two if r["session_id"] == name(3)] == [
        ("-b", name(3)), ("-a-b", name(3))], "one id in two projects is two sessions"


def test_order(sh, put):
    """Each key in its own direction, those without it last, equal ones by id."""
    put(1, line("one", timestamp="2026-01-01T00:00:00Z")
        + line("b", timestamp="2026-01-09T00:00:00Z"), mtime=WHEN + 3 * DAY)
    put(2, line("a" * 5000, timestamp="2026-01-05T00:00:00Z"), mtime=WHEN + 1 * DAY)
    put(3, line("a", timestamp="2026-01-05T00:00:00Z") * 3, mtime=WHEN + 2 * DAY)
    put(4, "x\n", mtime=WHEN + 9 * DAY)
    # Found before 3.
    put(6, line("a", timestamp="2026-01-05T00:00:00Z") * 3, "-a", mtime=WHEN + 2 * DAY)
    put(5, line("one", timestamp="2026-01-07T00:00:00Z"))
    sh(INDEX).ok()
    put(5, "").unlink()
    sh(INDEX).ok()
    for order, expected in (
            ("last-used", [1, 5, 2, 3, 6, 4]), ("expiration", [2, 3, 6, 1, 4, 5]),
            ("started", [5, 2, 3, 6, 1, 4]), ("oldest", [1, 2, 3, 6, 5, 4]),
            ("messages", [3, 6, 1, 2, 5, 4]), ("size", [2, 3, 6, 1, 5, 4])):
        assert numbers(sh(f"csb-list --all --sort {order}")) == expected, order
        present = [number for number in expected if number != 5]
        assert numbers(sh(f"csb-list --sort {order}")) == present, order
    assert numbers(sh("csb-list")) == [1, 2, 3, 6, 4]
    assert numbers(sh("csb-list -n 2")) == [1, 2]
    assert numbers(sh("csb-list -n2 on --all")) == [1, 5]
    assert numbers(sh("csb-list -n 0")) == numbers(sh("csb-list -n 99")) == [1, 2, 3, 6, 4]


@pytest.fixture
def aged(home, put):
    """Transcripts that the client, which keeps 30 days, purges in so many hours."""
    for number, hours in ((1, 100), (2, -50), (3, 10), (4, 500), (5, 10), (6, 3)):
        path = put(number, line("parser" if number == 3 else "x"))
        os.utime(path, (time.time() + hours * 3600 - 30 * 86400,) * 2)
    folder = home.claude / "projects" / "-w" / name(7)
    folder.mkdir()
    (folder / "left").touch()
    os.utime(folder / "left", (0, 0))


def test_what_expires(sh, aged, home):
    """Overdue first, soonest first; what is gone from disk, and husks, cannot be saved any more."""
    sh(INDEX).ok()
    (home.claude / "projects" / "-w" / f"{name(6)}.jsonl").unlink()     # since the index was made
    for options, expected in (
            ("7d", [2, 3, 5, 1]), ("2w", [2, 3, 5, 1]), ("12h", [2, 3, 5]), ("9h", [2]),
            ("0d", [2]), ("999999w", [2, 3, 5, 1, 4]), ("7d -n 2", [2, 3]),
            ("7d -n 0", [2, 3, 5, 1]), ("7d parser", [3]), ("7d --project -v", []),
            ("7d --sort oldest", [1, 2, 3, 5])):
        assert numbers(sh(f"csb-list --expiring {options}")) == expected, options
    done = sh("csb-list --expiring 12h | jsonl_snapshot --dest-dir ~/shots | jq -r .kind").ok()
    assert done.out == "snapshot\n" * 3


@pytest.mark.parametrize("settings", ["{", '{"cleanupPeriodDays": "x"}',
                                      '{"cleanupPeriodDays": 0}'])
@pytest.mark.few(1)
def test_when_it_expires_may_not_be_known(sh, aged, home, settings):
    (home.claude / "settings.json").write_text(settings)
    sh(INDEX).ok()
    done = sh("csb-list --expiring 7d")
    assert (done.rc, done.out, done.err.count("\n")) == (0, "", 1)
    assert "deletes 6 more is not known" in done.err


def test_every_row_unless_told_otherwise(sh, put):
    for number in range(60):
        put(number, line("x"))
    sh(INDEX).ok()
    assert numbers(sh("csb-list")) == list(range(60))


def test_a_row_is_the_record_that_csb_index_said(sh, put):
    put(1, line("x", cwd="/\u00e9\u2028"))
    said = sh("csb-find | csb-index").ok().records[0]
    listed = sh("csb-list").ok()
    assert listed.out.isascii()
    assert said.pop("change") == "new" and listed.records == [said]


@pytest.mark.parametrize("options", ["-n -1", "-n x", "-n 1.5", "--sort name", "--deleted --all",
                                     "--project", "-n",
                                     "--expiring", "--expiring x", "--expiring 7",
                                     "--expiring 1.5d", "--expiring -1d", "--expiring 7d --deleted",
                                     "--expiring 7d --all", "--expiring 9999999d"])
@pytest.mark.few(8)
def test_misuse(sh, options):
    done = sh(f"csb-list {options}")
    assert (done.rc, done.out, done.err.count("\n")) == (2, "", 1), done


@pytest.mark.parametrize("make", ["true", "mkdir $CSB_HOME",
                                  "mkdir $CSB_HOME; touch $CSB_HOME/session-backup.db"])
def test_without_an_index(sh, home, make):
    done = sh(f"{make}; csb-list")
    assert (done.rc, done.out, done.err.count("\n")) == (3, "", 1), done
    path = home.backup / "session-backup.db"
    assert not path.exists() or not path.stat().st_size, "a reader makes nothing"


def test_it_reads_while_others_write(sh, put, home):
    put(1, line("x"))
    sh(INDEX).ok()
    db = sqlite3.connect(home.backup / "session-backup.db", isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    db.execute("DELETE FROM session")
    assert numbers(sh("csb-list")) == [1]
    db.rollback()


def test_odd_places(sh, put, home):
    """A path with what URIs make something of; an index that only may be read."""
    put(1, line("x"))
    odd = home.path / "a?b#c%41 \u00e9;&"
    sh(INDEX, CSB_HOME=str(odd)).ok()
    assert numbers(sh("csb-list", CSB_HOME=str(odd))) == [1]
    where = f"--claude-dir '{home.claude}' --git-dir /x"
    assert numbers(sh(f"csb-list {where}", CSB_HOME=str(odd))) == [1]
    (odd / "session-backup.db").chmod(0o400)
    odd.chmod(0o500)
    try:
        assert numbers(sh("csb-list", CSB_HOME=str(odd))) == [1]
    finally:
        odd.chmod(0o700)


def test_of_a_full_disk_it_is_said_that_it_may_be_that_of_temporary_files():
    full = unusable_index("/x", sqlite3.OperationalError("database or disk is full"))
    assert "'/x': database or disk is full (its own, or" in str(full)
    assert "TMPDIR" in str(full)
