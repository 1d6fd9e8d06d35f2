"""csb.held: the versions of paths that a history tells of, and whose they are."""
import sys

import pytest
from conftest import ROOT, name

sys.path.insert(0, f"{ROOT}/lib")
from csb.git import Change, Commit
from csb.held import Held, fullest_first

pytestmark = pytest.mark.logic

PATH = f"projects/-w/{name(1)}.jsonl"
ZERO = "0" * 40


def oid(letter):
    return letter.encode().hex() * 20


def commit(number, *changes, seconds=None, parents=None):
    """A commit, whose parent is the one of the number below, unless that is said."""
    if parents is None:
        parents = [number - 1] if number > 1 else []
    return Commit(
        f"c{number}",
        number if seconds is None else seconds,
        [one if isinstance(one, Change) else change(*one.split()) for one in changes],
        [f"c{parent}" for parent in parents],
    )


def change(status, letter, path=PATH, mode="100644"):
    """A change: "A a" adds the bytes a, "D a" deletes them."""
    if status == "D":
        return Change("D", mode, oid(letter), ZERO, path)
    return Change(status, mode, ZERO, oid(letter), path)


def told(versions):
    """A letter, a commit and a time of deletion for each version."""
    return [
        (bytes.fromhex(one.oid)[:1].decode(), one.commit, one.deleted_at)
        for one in versions
    ]


HISTORIES = {
    "newest first": (
        [commit(3, "M c"), commit(2, "M b"), commit(1, "A a")],
        [("c", "c3", None), ("b", "c2", None), ("a", "c1", None)],
    ),
    "deleted": (
        [commit(3), commit(2, "D a"), commit(1, "A a")],
        [("a", "c1", 2)],
    ),
    "deleted, and back, and deleted": (
        [commit(4, "D b"), commit(3, "A b"), commit(2, "D a"), commit(1, "A a")],
        [("b", "c3", 4), ("a", "c1", 2)],
    ),
    "the same bytes twice are two versions": (
        [commit(3, "A a"), commit(2, "D a"), commit(1, "A a")],
        [("a", "c3", None), ("a", "c1", 2)],
    ),
    "a merge names it once more": (
        [
            commit(4, parents=[2, 3]), commit(4, "A a", parents=[2, 3]),
            commit(3, parents=[1]), commit(2, "A a", parents=[1]), commit(1),
        ],
        [("a", "c2", None)],
    ),
    "a merge deletes for both parents": (
        [
            commit(4, "D a", parents=[2, 3]), commit(4, "D b", parents=[2, 3]),
            commit(3, "M b", parents=[1]), commit(2, "A a", parents=[]),
        ],
        [("b", "c3", 4), ("a", "c2", None)],
    ),
    "only the deletion is left": (
        [commit(3, "D a")],
        [("a", "c3", 3)],
    ),
    "the clock went back": (
        [commit(3, "M c", seconds=20), commit(2, "M b", seconds=10),
         commit(1, "A a", seconds=30)],
        [("c", "c3", None), ("b", "c2", None), ("a", "c1", None)],
    ),
    "the clock went back, and histories meet": (
        [commit(4, "M d", seconds=10, parents=[1]),
         commit(3, "M c", seconds=40, parents=[1]),
         commit(1, "A a", seconds=30)],
        [("c", "c3", None), ("d", "c4", None), ("a", "c1", None)],
    ),
    "another history is newer": (
        [commit(2, "M b"), commit(1, "A a"), commit(9, "A z", parents=[])],
        [("z", "c9", None), ("b", "c2", None), ("a", "c1", None)],
    ),
    "the tree of a broken ref": (
        [commit(2, "M b"), Commit("refs/x", 0, [change("A", "a"), change("A", "b")], [])],
        [("b", "c2", None), ("a", "refs/x", None)],
    ),
    "a submodule is no version": (
        [commit(2, change("M", "s", mode="160000")), commit(1, "A a")],
        [("a", "c1", None)],
    ),
}


@pytest.mark.parametrize("case", HISTORIES)
def test_versions(case):
    commits, expected = HISTORIES[case]
    assert told(Held(commits).versions(PATH)) == expected


def test_the_last_version_is_that_of_the_first_history():
    held = Held([commit(1, "A a"), commit(9, "A z", parents=[])])
    assert told([held.last(PATH)]) == [("a", "c1", None)]


def test_only_what_is_wanted():
    commits = [commit(1, "A a", change("A", "b", "x"))]
    held = Held(commits, wanted=lambda path: path == "x")
    assert list(held.paths()) == ["x"]


def test_fullest_first():
    commits = [commit(n, f"A {letter}") for n, letter in ((4, "d"), (3, "c"), (2, "b"))]
    versions = Held([*commits, commit(1, "A d")]).versions(PATH)
    size_of = {oid("d"): 1, oid("b"): 3}
    assert told(fullest_first(versions, size_of)) == [
        ("c", "c3", None), ("b", "c2", None), ("d", "c4", None)]
