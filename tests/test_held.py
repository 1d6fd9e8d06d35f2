"""csb.held: the versions of paths that a history tells of, whose they are,
and what was moved."""
import shutil
import sys

import pytest
from conftest import ROOT, name

sys.path.insert(0, f"{ROOT}/lib")
from csb.copies import Copies
from csb.git import Change, Commit
from csb.held import Held, StoredSessions, fullest_first

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
    "deleted": ([commit(3), commit(2, "D a"), commit(1, "A a")], [("a", "c1", 2)]),
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
            commit(4, parents=[2, 3]),
            commit(4, "A a", parents=[2, 3]),
            commit(3, parents=[1]),
            commit(2, "A a", parents=[1]),
            commit(1),
        ],
        [("a", "c2", None)],
    ),
    "a merge deletes for both parents": (
        [
            commit(4, "D a", parents=[2, 3]),
            commit(4, "D b", parents=[2, 3]),
            commit(3, "M b", parents=[1]),
            commit(2, "A a", parents=[]),
        ],
        [("b", "c3", 4), ("a", "c2", None)],
    ),
    "only the deletion is left": ([commit(3, "D a")], [("a", "c3", 3)]),
    "the clock went back": (
        [
            commit(3, "M c", seconds=20),
            commit(2, "M b", seconds=10),
            commit(1, "A a", seconds=30),
        ],
        [("c", "c3", None), ("b", "c2", None), ("a", "c1", None)],
    ),
    "the clock went back, and histories meet": (
        [
            commit(4, "M d", seconds=10, parents=[1]),
            commit(3, "M c", seconds=40, parents=[1]),
            commit(1, "A a", seconds=30),
        ],
        [("c", "c3", None), ("d", "c4", None), ("a", "c1", None)],
    ),
    "another history is newer": (
        [commit(2, "M b"), commit(1, "A a"), commit(9, "A z", parents=[])],
        [("z", "c9", None), ("b", "c2", None), ("a", "c1", None)],
    ),
    "the tree of a broken ref": (
        [
            commit(2, "M b"),
            Commit("refs/x", 0, [change("A", "a"), change("A", "b")], []),
        ],
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


# --- moves ----------------------------------------------------------------------------

A, B, C = "1\n", "2\n", "3\n"
LOUD = "ABCDEF01-0000-4000-8000-00000000ABCD"
# (backups of the transcripts in each project, what is on disk now, the projects that it
# was moved from, the project that is home)
MOVES = [
    ([{"-a": A}], {"-a": A}, set(), "-a"),
    ([{"-a": A}], {}, set(), "-a"),
    ([{"-a": A}], {"-b": A}, {"-a"}, "-b"),
    ([{"-a": A}], {"-b": A + B}, {"-a"}, "-b"),
    ([{"-a": A}, {"-b": A}], {}, {"-a"}, "-b"),
    ([{"-b": A}, {"-a": A}, {}], {}, {"-b"}, "-a"),
    ([{"-a": A}, {"-b": A + B}], {"-b": A + B + C}, {"-a"}, "-b"),
    ([{"-a": A}, {"-b": A + B}, {"-c": A + B + C}], {}, {"-a", "-b"}, "-c"),
    ([{"-a": A}, {"-b": A + B}], {"-a": A + B + C}, {"-b"}, "-a"),
    ([{"-a": A, "-b": A + B}], {}, {"-a"}, "-b"),
    ([{"-a": A, "-b": A + B}, {"-b": A + B}, {}], {}, {"-a"}, "-b"),
    # What is there longer goes on with the other,
    # whether a backup has seen it go or not.
    ([{"-a": A, "-b": A}, {"-b": A}], {}, {"-a"}, "-b"),
    ([{"-a": A, "-b": A}, {"-b": A}, {}], {}, {"-a"}, "-b"),
    ([{"-a": A, "-b": A + B}, {"-a": A}, {}], {}, set(), None),
    ([{"-a": A, "-b": A + B}, {"-a": A}], {}, set(), None),
    ([{"-a": A, "-b": A}], {}, set(), None),
    ([{"-a": A, "-b": A}], {"-a": A, "-b": A}, set(), None),
    ([{"-a": A, "-b": A + B}], {"-a": A, "-b": A + B}, set(), None),
    ([{"-a": A}], {"-b": A, "-c": A + B}, {"-a"}, None),
    ([{"-a": A}], {"-b": B}, set(), None),
    ([{"-a": A + B}], {"-b": A}, set(), None),
    ([{"-a": A + C}, {"-a": A}, {"-b": A + B}], {}, set(), None),
    # It was moved, and truncated since: what is stored of it begins so.
    ([{"-a": A + B}, {"-b": A + B + C}], {"-b": ""}, {"-a"}, "-b"),
    # It was moved, and rewritten since.
    ([{"-a": A}, {"-b": A + B}, {"-b": C * 9}], {"-b": C * 9}, {"-a"}, "-b"),
    ([{"-a": A, "-b": B}], {"-b": B + A}, set(), None),
    ([{"-a": ""}], {"-b": A}, {"-a"}, "-b"),
]


def put_all(home, session_id, texts):
    """Let the disk hold a session's transcripts, {project: text}, and those alone."""
    shutil.rmtree(home.claude / "projects", ignore_errors=True)
    for project, text in {"-other": "", **texts}.items():
        one = name(9) if project == "-other" else session_id
        path = home.claude / f"projects/{project}/{one}.jsonl"
        path.parent.mkdir(parents=True)
        path.write_text(text)


def copies_in(home):
    stored = StoredSessions(home.backup / "git", str(home.claude))
    return Copies(stored, str(home.claude))


def moved_from(copies, session_id):
    """The projects of the stored transcripts of a session that were moved."""
    found = copies.stored.transcripts(session_id).items()
    return {project for project, path in found if copies.is_moved(session_id, path)}


@pytest.mark.parametrize("session_id", [name(1), LOUD])
@pytest.mark.parametrize("backups, disk, went, lives", MOVES)
@pytest.mark.few(3)
def test_moves(sh, home, backups, disk, went, lives, session_id):
    for texts in backups:
        put_all(home, session_id, texts)
        sh("csb-changes | csb-gitcommit").ok()
    put_all(home, session_id, disk)
    copies = copies_in(home)
    assert moved_from(copies, session_id) == went
    assert copies.home(session_id) == lives


@pytest.mark.parametrize("where, moved", [
    ("-a", True), ("-b", True), (None, False), ("stored in -b", True)])
def test_a_move_takes_along_what_lies_beside(sh, home, where, moved):
    """What stayed is no hindrance; what is gone is one."""
    side = f"{name(1)}/subagents/agent-1.jsonl"

    def put_side(project):
        path = home.claude / f"projects/{project}/{side}"
        path.parent.mkdir(parents=True)
        path.write_text("{}\n")

    put_all(home, name(1), {"-a": A})
    put_side("-a")
    sh("csb-changes | csb-gitcommit").ok()
    put_all(home, name(1), {"-b": A})
    if where == "stored in -b":
        put_side("-b")
        sh("csb-changes | csb-gitcommit").ok()
        shutil.rmtree(home.claude / f"projects/-b/{name(1)}")
    elif where:
        put_side(where)
    assert moved_from(copies_in(home), name(1)) == ({"-a"} if moved else set())


def test_what_cannot_be_read_is_compared_as_it_is_stored(sh, home):
    put_all(home, name(1), {"-a": A})
    sh("csb-changes | csb-gitcommit").ok()
    put_all(home, name(1), {"-b": A + B})
    path = home.claude / f"projects/-b/{name(1)}.jsonl"
    for lost in (["-a"], []):
        path.chmod(0)
        records = sh("csb-find --lost").ok().records
        path.chmod(0o600)
        assert [record["project"] for record in records] == lost
        sh("csb-changes | csb-gitcommit").ok()
