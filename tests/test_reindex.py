"""csb-reindex and csb-seen: an index made anew knows what the old one knew, and who has seen a
rewrite need not be told again; csb-index in little memory."""
import sqlite3

import pytest
from conftest import INDEX, STORE, WHEN, line, name, put_into

pytestmark = pytest.mark.logic



def rewrite_two_of_three(sh, home):
    """Two sessions that were rewritten (one of them is gone), one that was not: the times."""
    for number in (1, 2, 3):
        put_into(home, number, line("a") * 3)
    sh(f"{STORE}; {INDEX}").ok()
    for number in (1, 2):
        put_into(home, number, line("b"), mtime=WHEN + 1)
    sh(f"{STORE}; {INDEX}").ok()
    put_into(home, 2).unlink()
    sh(f"{STORE}; {INDEX}").ok()
    found = marks(sh)
    assert set(found) == {name(1), name(2)}
    return found


@pytest.fixture
def marked(once):
    """The times at which two sessions of three were rewritten."""
    return once(rewrite_two_of_three)


def marks(sh):
    return {r["session_id"]: r["rewritten_at"] for r in sh("csb-list --all").ok().records
            if "rewritten_at" in r}


def old_version(path):
    """Make an index look as if an older csb had made it."""
    db = sqlite3.connect(path)
    with db:
        db.execute("ALTER TABLE session DROP COLUMN words")
        db.execute("PRAGMA user_version = 1668506113")
    db.close()


@pytest.mark.long
@pytest.mark.parametrize("line", [
    "csb-index --rebuild", "csb-reindex", "csb-find | csb-reindex --given", INDEX])
@pytest.mark.few(1)
def test_marks_survive(sh, marked, home, line):
    """git does not know them: made anew, or of an older version, the index still does."""
    if line == INDEX:
        old_version(home.backup / "session-backup.db")
    done = sh(line)
    assert done.rc == 0 and marks(sh) == marked
    assert [r["kind"] for r in done.records] == ["session"] * 3 + ["end"]
    again = sh(INDEX).ok().records
    assert [r["change"] for r in again[:-1]] == ["same", "same"] and marks(sh) == marked


@pytest.mark.long
def test_marks_of_an_index_that_is_half_readable(sh, marked, home):
    """One row is spoilt: the marks of the others are kept, and nothing else is taken from it."""
    path = home.backup / "session-backup.db"
    db = sqlite3.connect(path)
    with db:
        db.execute("UPDATE session SET record = '{\"rewritten_at\":7}' WHERE session_id LIKE ?",
                   (f"%{name(3)}%",))
    db.close()
    done = sh(INDEX)
    assert (done.rc, done.err.count("\n")) == (0, 1) and marks(sh) == marked
    assert (home.backup / "session-backup.db.bad").exists()
    assert {r["session_id"]: r["title"] for r in sh("csb-list").ok().records} == {
        name(1): "b", name(3): "a"}


def test_nothing_is_left_behind(sh, put, home):
    """No temporary file, and no empty index, whatever comes in."""
    for text in (b"", b"\n", b"{\n"):
        sh("csb-reindex --given", text)
        assert not (home.backup / "session-backup.db").exists(), text
    put(1, line())
    sh("csb-reindex").ok()
    assert {path.name for path in home.backup.iterdir()} == {"session-backup.db"}


@pytest.mark.long
def test_seen(sh, marked, home):
    done = sh(f"csb-seen {name(1)}").ok()
    assert [r["session_id"] for r in done.records] == [name(1)]
    assert marks(sh) == {name(2): marked[name(2)]}
    for again in (INDEX, "csb-index --rebuild", INDEX):
        sh(again).ok()
        assert set(marks(sh)) == {name(2)}
    assert sh(f"csb-seen {name(1)} {name(3)}").ok().out == ""
    sh("csb-list --all | csb-seen").ok()
    assert marks(sh) == {}
    put_back = home.claude / "projects" / "-w" / f"{name(1)}.jsonl"
    put_back.write_text(line("c"))
    sh(INDEX).ok()
    assert set(marks(sh)) == {name(1)}, "what comes later is news again"


@pytest.mark.parametrize("line, rc", [
    ("csb-seen ffff", 1), ("csb-seen 3f4a", 2), ("echo 3f4a | csb-seen", 1),
    ("CSB_HOME=~/none csb-seen 3f4a", 3), ("echo '{}' | csb-seen", 1), ("csb-seen </dev/null", 0)])
@pytest.mark.few(2)
def test_seen_of_what_is_not_there(sh, marked, line, rc):
    done = sh(line)
    assert (done.rc, done.out, done.err.count("\n")) == (rc, "", int(rc > 0)), done
    assert marks(sh) == marked


@pytest.mark.long
def test_memory_of_ten_thousand_sessions(sh, home, tmp_path):
    """64 MB at most, with all to be parsed, with nothing new, and with all gone."""
    text = "".join(line("x" * 50, cwd=f"/w/{n}") for n in range(20))
    for number in range(10000):
        path = home.claude / "projects" / f"-w{number % 10}" / f"{name(number)}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "measure").write_text(
        "import resource, subprocess, sys\nsubprocess.run(['csb-index'])\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)\n")
    for change in ("new", "same", "deleted"):
        if change == "deleted":
            for path in (home.claude / "projects").glob("*/*"):
                path.unlink()
        done = sh(f"csb-find | python3 {tmp_path}/measure", timeout=120)
        assert [r.get("change") for r in done.records].count(change) == 10000
        assert int(done.err) <= 64 << 10, change
