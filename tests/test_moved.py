"""csb-moved, and csb-restore by id: a session that was moved to another project."""
import time

import pytest
from conftest import line, name, put_into

pytestmark = pytest.mark.logic

ID = name(1)
A, B, C = line("a"), line("b"), line("c")


def live(sh, home, states):
    """A backup of each state, {project: transcript}; then the disk is empty."""
    for state in states:
        sh("rm -rf .claude/projects; mkdir -p .claude/projects/-other").ok()
        put_into(home, 9, line(), "-other", mtime=time.time())
        for project, text in state.items():
            put_into(home, 1, text, project, mtime=time.time())
        sh("csb-backup --quiet").ok()
    sh("rm -rf .claude/projects").ok()


@pytest.fixture
def lives(once):
    """lives([{project: transcript}, ...]): a backup of each state; then the disk is empty."""
    return lambda states: once(live, states)


@pytest.mark.parametrize("states, project", [
    ([{"-a": A}, {"-b": A}], "-b"), ([{"-a": A}, {"-b": A + B}], "-b"),
    ([{"-a": A}, {"-b": A}, {"-b": A + B}, {}], "-b"),
    ([{"-a": A}, {"-b": A + B}, {"-c": A + B + C}, {}], "-c"),
    ([{"-a": A}, {"-b": A + B}, {"-a": A + B + C}], "-a"),
    ([{"-a": A, "-b": A + B}, {"-b": A + B}], "-b"), ([{"-a": A}, {}], "-a"),
    ([{"-a": A}, {"-b": B}], None), ([{"-a": A + B}, {"-b": A}], None),
    ([{"-a": A}, {"-b": B + A}, {}], None), ([{"-a": A, "-b": A}], None),
    ([{"-a": A, "-b": A}, {}], None), ([{"-a": A}, {"-b": A, "-c": A}], None),
    ([{"-a": A + C}, {"-a": A}, {"-b": A + B}, {}], None)])
@pytest.mark.few(2)
def test_where_it_is_now(sh, home, lives, states, project):
    """Of what was moved the one home is taken; of two conversations none."""
    lives(states)
    moved, done = sh(f"csb-moved {ID[-6:]}"), sh(f"csb-restore {ID} --target-dir out")
    out = sorted(path.parent.name for path in (home.path / "out").rglob("*.jsonl"))
    assert done.rc == 2 * (project is None) and out == [project] * bool(project)
    assert moved.rc == (project is None)
    assert [one["project"] for one in moved.records] == [project] * bool(project)
    if project is None:
        assert done.err.count("\n") == 1 and "several projects" in done.err
    if project == "-b":
        assert f"moved to project -b from {min(states[0])}" in done.err


@pytest.mark.parametrize("left", [True, False])
def test_what_lies_beside_it(sh, home, left):
    """Subagents that stayed in the old project would not come back: a person has to choose."""
    for project in ("-a", "-b"):
        sh("rm -rf .claude/projects").ok()
        path = home.claude / f"projects/{project}/{ID}.jsonl"
        path.parent.mkdir(parents=True)
        path.write_text(A + B * (project == "-b"))
        if project == "-a" or not left:
            agent = path.parent / ID / "subagents/agent-1.jsonl"
            agent.parent.mkdir(parents=True)
            agent.write_text("{}\n")
        sh("csb-backup --quiet").ok()
    sh("rm -r .claude/projects").ok()
    done = sh(f"csb-restore {ID} --target-dir out")
    assert done.rc == 2 * left and ("several projects" in done.err) == left
    assert len(list((home.path / "out").rglob("*.jsonl"))) == 2 * (not left)


def test_what_stayed_behind_makes_no_second_conversation(sh, home, lives):
    """Files beside a transcript that was moved may still be where it was."""
    lives([{"-a": A}, {"-b": A + B}])
    side = home.claude / f"projects/-a/{ID}/tool-results/1.txt"
    side.parent.mkdir(parents=True)
    side.write_text("x")
    sh("csb-backup --quiet --accept-deletions").ok()
    assert sh(f"csb-moved {ID}").records[0]["project"] == "-b"
    done = sh(f"csb-restore {ID} --target-dir out")
    assert done.rc == 0 and f"/projects/-b/{ID}.jsonl" in done.out and "1.txt" not in done.out


@pytest.mark.long
def test_what_the_store_has_lost_is_no_reason_to_guess(sh, home, lives):
    lives([{"-a": A}, {"-b": A + B}])
    oid = sh(f"csb-history {ID} | jq -r 'select(.project == \"-a\").oid'").ok().out.strip()
    (home.backup / f"git/objects/{oid[:2]}/{oid[2:]}").unlink()
    done = sh(f"csb-restore {ID} --target-dir out")
    assert done.rc == 2 and "several projects" in done.err and done.out == ""


@pytest.mark.long
def test_at_a_time_nothing_is_chosen(sh, home, lives):
    """What holds today says nothing of that day."""
    lives([{"-a": A}, {"-b": A + B}, {"-a": A + B + C}])
    commits = sh("git --git-dir=$CSB_HOME/git rev-list main").ok().out.split()
    assert sh(f"csb-restore --at {commits[1]} {ID} --target-dir out").rc == 2


def test_many_and_none(sh, lives):
    lives([{"-a": A}, {"-b": A + B}])
    done = sh("csb-moved", f"{ID}\n{name(9)}\n".encode())
    assert done.rc == 0 and {one["project"] for one in done.records} == {"-b", "-other"}
    assert sh("csb-moved ffffffff").rc == 1 and sh("csb-moved", b"").ok().out == ""
