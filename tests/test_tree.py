"""csb-tree: families of forks in order, whatever the ids say of each other."""
import json
import sqlite3
from contextlib import closing

import pytest
from conftest import name, problems, put_into

pytestmark = pytest.mark.logic


def made_index(sh, home):
    """Make an index, if there is none, that knows no session; its path."""
    path = home.backup / "session-backup.db"
    if path.exists():
        return path

    put_into(home, 0)
    sh("csb-find | csb-index >/dev/null").ok()
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("DELETE FROM session")
    return path


def record_of(number, parent, project, root):
    """The record of a session, started in the order of its number."""
    hours, minutes = number // 3600 % 24, number // 60 % 60
    at = f"2026-01-02T{hours:02}:{minutes:02}:{number % 60:02}.000Z"
    record = {"kind": "session", "session_id": name(number), "project": project,
              "root": root, "started": at, "last_active": at, "state": "present"}
    if type(parent) is int:
        parent = name(parent)
    if parent is not None:
        record["parent_session_id"] = parent
    return record


def add_to(db, record, path):
    """Add a session to the index, with a transcript unless it is gone."""
    record["transcript_path"] = str(path)
    if record["state"] == "present":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}\n")

    row = {key: json.dumps(record[key]) for key in ("root", "project", "session_id")}
    row["path"] = json.dumps(str(path))
    for key in ("state", "started", "last_active"):
        row[key] = record.get(key)
    row["words"] = ""
    row["record"] = json.dumps(record, separators=(",", ":"))

    marks = ", ".join("?" * len(row))
    db.execute(f"INSERT INTO session ({', '.join(row)}) VALUES ({marks})",
               list(row.values()))


@pytest.fixture
def index(home, sh):
    """index({number: parent}, **more): sessions in an index, started in their order.

    Each was used last when it started. A parent may be any value.
    more: {number: fields of its record}; None takes a field away.
    """
    def make(parents, project="-w", more=None):
        with closing(sqlite3.connect(made_index(sh, home))) as db, db:
            for number, parent in parents.items():
                record = record_of(number, parent, project, str(home.claude))
                record.update((more or {}).get(number, {}))
                for key in [key for key in record if record[key] is None]:
                    del record[key]
                folder = home.claude / "projects" / project
                add_to(db, record, folder / f"{name(number)}.jsonl")
    return make


def tree(sh, words=""):
    """[(number, depth)] of what csb-tree says."""
    found = sh(f"csb-tree {words}").ok().records
    return [(int(record["session_id"][-12:]), record["depth"]) for record in found]


def test_a_session_comes_before_its_forks(sh, index):
    """Forks by start, deep ones first; the family used last leads.

    Those without a family are left out.
    """
    index({1: None, 2: 1, 3: 1, 4: 2, 5: None, 6: 5, 7: None, 8: 3})
    family = [(1, 0), (2, 1), (4, 2), (3, 1), (8, 2)]
    assert tree(sh) == [*family, (5, 0), (6, 1)]
    assert tree(sh, "--all") == [*family, (7, 0), (5, 0), (6, 1)]
    for number in (1, 2, 4, 8):
        assert tree(sh, name(number)) == family
    assert tree(sh, name(7)) == tree(sh, f"--all {name(7)}") == [(7, 0)]
    index({9: 6})
    assert tree(sh) == [(5, 0), (6, 1), (9, 2), *family]


def test_a_record_is_the_one_of_csb_list_and_its_depth(sh, index):
    index({1: None, 2: 1}, more={1: {"title": "\u00e9 \ud800 }", "folders": []}})
    listed = sh("csb-list").ok().records
    of = {record["session_id"]: record for record in listed}
    assert sh("csb-tree").ok().records == [
        {**of[name(1)], "depth": 0}, {**of[name(2)], "depth": 1}]


def test_what_is_purged_keeps_its_place(sh, index):
    """A deleted ancestor as the index knows it; one that nobody knows by its id."""
    index({1: None, 2: 1, 3: 2, 5: 4, 6: 4},
          more={2: {"state": "deleted"}})
    assert tree(sh) == [(4, 0), (5, 1), (6, 1), (1, 0), (2, 1), (3, 2)]
    records = sh("csb-tree").ok().records
    assert records[0] == {
        "kind": "session", "session_id": name(4), "state": "unknown", "depth": 0}
    assert records[4]["state"] == "deleted"
    assert tree(sh, name(4)) == tree(sh, name(6)) == [(4, 0), (5, 1), (6, 1)]


@pytest.mark.parametrize("parents, expected", [
    ({1: 1}, []), ({1: 1, 2: 1}, [(1, 0), (2, 1)]),
    ({1: 2, 2: 1}, [(1, 0), (2, 1)]), ({1: 3, 2: 1, 3: 2}, [(1, 0), (2, 1), (3, 2)]),
    ({1: 3, 2: 3, 3: 2, 4: 1}, [(2, 0), (3, 1), (1, 2), (4, 3)]),
    ({1: 2, 2: 1, 3: 4, 4: 3, 5: 4}, [(3, 0), (4, 1), (5, 2), (1, 0), (2, 1)]),
    ({1: "", 2: "x", 3: 7.5, 4: [1], 5: {"a": 1}, 6: "\ud800\x1b"}, []),
    ({1: None, 2: name(1).upper()}, [(1, 0), (2, 1)]),
])
@pytest.mark.few(2)
def test_circles_and_nonsense(sh, index, parents, expected):
    """Each session once, whoever names whom."""
    index(parents)
    assert tree(sh) == expected
    assert sorted(number for number, _ in tree(sh, "--all")) == sorted(parents)
    for number in parents:
        assert (number, 0) in tree(sh, name(number)) or expected


def test_what_a_session_goes_on_in_is_its_child(sh, index):
    """Whatever the new one says, or does not say, of where it came from."""
    index({1: None, 2: None, 3: 2}, more={1: {"continued_in": name(2)}})
    assert tree(sh) == [(1, 0), (2, 1), (3, 2)]
    # What was copied twice names the first one in both.
    index({6: None, 7: 6, 8: 6}, more={6: {"continued_in": name(7)},
                                       7: {"continued_in": name(8)}})
    assert tree(sh, name(8)) == [(6, 0), (7, 1), (8, 2)]
    index({4: None, 5: None}, more={4: {"continued_in": name(9)},
                                    5: {"continued_in": "x"}})
    assert tree(sh, name(4)) == tree(sh, name(9)) == [(4, 0), (9, 1)]
    assert sh(f"csb-tree {name(9)}").records[1]["state"] == "unknown"


@pytest.mark.long
def test_a_deep_chain(sh, index):
    index({number: number - 1 or None for number in range(1, 5001)})
    chain = [(number, number - 1) for number in range(1, 5001)]
    assert tree(sh, name(2500)) == tree(sh) == chain


def test_one_id_in_two_projects_and_without_times(sh, index):
    index({1: None, 2: 1, 3: 1, 4: 1},
          more={3: {"started": None, "last_active": None}})
    index({2: None, 1: None}, project="-x")
    assert tree(sh) == [(1, 0), (1, 0), (2, 1), (2, 1), (4, 1), (3, 1)]


def test_ids(sh, index, home):
    index({1: None, 2: 1, 12: 1})
    assert tree(sh, "0000012") == tree(sh, name(2)) == [(1, 0), (2, 1), (12, 1)]
    for word, status in (("3f4a", 2), ("abcd", 1), ("2", 1)):
        done = sh(f"csb-tree {word}")
        assert (done.rc, done.out, len(problems(done.err))) == (status, "", 1), done
    (home.backup / "session-backup.db").unlink()
    done = sh("csb-tree")
    assert (done.rc, done.out, done.err.count("\n")) == (3, "", 1)
