"""csb-backup: whatever happens, the index learns all that is stored, and once only"""
import os
import time

import pytest
from conftest import backup_log, line, name, payload

pytestmark = pytest.mark.logic

SLUG = "-srv-app"


def said(number, text):
    return line(text, sessionId=name(number), cwd="/srv/app", uuid=f"{number} {text}")


def say_more(home, number, text="more"):
    path = home.claude / "projects" / SLUG / f"{name(number)}.jsonl"
    with open(path, "a") as file:
        file.write(said(number, text))
    return path


def three_backed_up(sh, home):
    """Three sessions that were stored, and are old enough to be trusted."""
    folder = home.claude / "projects" / SLUG
    folder.mkdir(parents=True)
    for number in range(3):
        path = say_more(home, number, f"question {number}")
        long_ago = time.time() - 3600
        os.utime(path, (long_ago, long_ago))
    time.sleep(2.1)         # until what is read is not too young
    sh("csb-backup --quiet").ok()
    sh("csb-backup --quiet").ok()


@pytest.fixture
def agreed(once):
    once(three_backed_up)


@pytest.fixture
def real(tools, stages):
    """real(tool, before, after): a tool with code before it, and after it has ended."""
    def replace(tool, before="", after=""):
        path = os.path.join(tools.bin, tool)
        stages(tool, f"""
import subprocess
{before}
command = [sys.executable, "-I", {path!r}, *sys.argv[1:]]
status = subprocess.run(command).returncode
{after}
sys.exit(status)""")
    return replace


KILL = "os.kill(os.getppid(), signal.SIGKILL); os.kill(os.getpid(), signal.SIGKILL)"


def hook(sh, over, number):
    sh("csb-hook", payload("SessionEnd", number=number)).ok()
    over()


# What happens to a session that grows: each a list of steps.
STEPS = {
    "a whole run": lambda go: go.run(),
    "its hook": lambda go: go.hook(),
    "a hook, then a run": lambda go: [go.hook(), go.run()],
    "a run, then a hook": lambda go: [go.run(), go.hook()],
    "the session alone": lambda go: go.sh("csb-backup --session " + name(1)).ok(),
    "a commit by hand": lambda go: go.sh("csb-changes | csb-gitcommit").ok(),
    "an index by hand": lambda go: go.sh("csb-find | csb-index").ok(),
    "two runs at once": lambda go: go.sh(
        "csb-backup & csb-backup; wait $!").ok(),
    "a run and a hook": lambda go: [go.sh(
        f"csb-backup --session {name(1)} & csb-backup; wait $!").ok(), go.run()],
    "a kill before the index": lambda go: [
        go.real("csb-index", before=KILL), go.sh("csb-backup"), go.over(), go.mend()],
    "a kill after the index": lambda go: [
        go.real("csb-index", after=KILL), go.sh("csb-backup"), go.over(), go.mend()],
    "a kill before the commit": lambda go: [
        go.real("csb-gitcommit", before=KILL), go.sh("csb-backup"), go.over(),
        go.mend()],
    "a kill after the commit": lambda go: [
        go.real("csb-gitcommit", after=KILL), go.sh("csb-backup"), go.over(),
        go.mend()],
    "an index that fails": lambda go: [
        go.stages("csb-index", "sys.stdin.read(); sys.exit(1)"), go.sh("csb-backup"),
        go.mend()],
    "a commit that fails": lambda go: [
        go.stages("csb-gitcommit", "sys.stdin.read(); sys.exit(1)"),
        go.sh("csb-backup"), go.mend()],
    "no index any more": lambda go: go.sh(
        "rm $CSB_HOME/session-backup.db; csb-backup --quiet").ok(),
    "no csb.seen any more": lambda go: go.sh(
        "rm $CSB_HOME/git/csb.seen; csb-backup --quiet").ok(),
    "no csb.seen and its hook": lambda go: [
        go.sh("rm $CSB_HOME/git/csb.seen").ok(), go.hook()],
    "an older index": lambda go: go.sh("""
        cp -p $CSB_HOME/session-backup.db ~/old; csb-backup --quiet
        cp -p ~/old $CSB_HOME/session-backup.db""").ok(),
    "a ref that went back": lambda go: go.sh("""
        csb-backup --quiet
        git --git-dir=$CSB_HOME/git update-ref refs/heads/main main~1""").ok(),
    "it grows while it is stored": lambda go: [
        go.real("csb-gitcommit", before=go.grow_more), go.run(), go.mend()],
    "it grows after it is stored": lambda go: [
        go.real("csb-gitcommit", after=go.grow_more), go.run(), go.mend()],
}


class Steps:
    """What a case of STEPS may do."""

    def __init__(self, sh, over, stages, real, home, tools):
        self.sh, self.over, self.stages, self.real = sh, over, stages, real
        self._home, self._tools = home, tools
        path = home.claude / "projects" / SLUG / f"{name(1)}.jsonl"
        self.grow_more = f"""
path = {str(path)!r}
if not os.path.exists(path + "/../../../grown"):
    open(path, "a").write({said(1, "while it was stored")!r})
    then = time.time() - 1800
    os.utime(path, (then, then))
    open(os.path.dirname(path) + "/../../grown", "w")"""

    def run(self):
        self.sh("csb-backup --quiet").ok()

    def hook(self):
        hook(self.sh, self.over, 1)

    def mend(self):
        """The tools are as they should be again."""
        copy = self._home.env["PATH"].partition(":")[0]
        for tool in ("csb-index", "csb-gitcommit"):
            path = os.path.join(self._tools.bin, tool)
            self.sh(f"rm {copy}/{tool} && cp -p {path} {copy}/{tool}").ok()


@pytest.mark.parametrize("case", STEPS)
@pytest.mark.few(2)
def test_the_index_is_right_after(
        sh, over, stages, real, home, tools, agreed, case):
    """It equals one that is made anew, once a run more has gone well."""
    say_more(home, 1)
    STEPS[case](Steps(sh, over, stages, real, home, tools))
    sh("csb-backup --quiet").ok()
    found = sh("csb-list --all --sort started").ok().records
    sh("csb-index --rebuild").ok()
    assert sh("csb-list --all --sort started").ok().records == found
    path = home.claude / "projects" / SLUG / f"{name(1)}.jsonl"
    (one,) = [one for one in found if one["session_id"] == name(1)]
    assert one["messages"] == path.read_text().count("\n")


@pytest.mark.parametrize("case", [
    "a whole run", "its hook", "a hook, then a run", "a run, then a hook",
    "two runs at once"])
@pytest.mark.few(1)
def test_the_walk_is_made_once(sh, over, stages, real, home, tools, agreed, case):
    """What csb-changes lists is all that the index needs: csb-find is not started."""
    sh("csb-backup --quiet").ok()       # a home that was copied has other inodes
    stages("csb-find", "sys.stderr.write('csb-find was started\\n'); sys.exit(1)")
    for number in range(2):
        say_more(home, 1, str(number))
        STEPS[case](Steps(sh, over, stages, real, home, tools))
    assert {run["outcome"] for run in backup_log(home)} == {"ok"}
    found = sh("csb-list").ok().records
    assert [one["messages"] for one in found if one["session_id"] == name(1)] == [3]


def the_same_made_anew(sh):
    """What csb-list says, which is what it says of an index that is made anew."""
    found = sh("csb-list --all --sort started").ok().records
    sh("csb-index --rebuild").ok()
    assert sh("csb-list --all --sort started").ok().records == found
    return found


@pytest.mark.parametrize("step", ["csb-list", "csb-changes | csb-index", "true"])
@pytest.mark.few(1)
def test_a_session_that_only_the_store_has_is_found(sh, home, agreed, step):
    """A hook stored it and was killed before the index knew it, then it was deleted."""
    path = say_more(home, 7, "stored, and never seen")
    sh(f"csb-backup --quiet --session {name(7)}").ok()
    path.unlink()
    sh(step).ok()
    sh("csb-backup --quiet").ok()
    (one,) = sh("csb-list --deleted").ok().records
    assert one["session_id"] == name(7) and one["messages"] == 1
    assert "stored, and never seen" in sh(f"csb-show {name(7)}").ok().out
    assert len(the_same_made_anew(sh)) == 4
    sh("csb-list --deleted | csb-restore").ok()
    assert path.exists()


def test_a_deletion_that_its_hook_stores_is_told_to_the_index(sh, home, agreed):
    """The first part of a run stored that it is gone,
    when the index did not know it."""
    path = say_more(home, 7, "stored, and never seen")
    sh(f"csb-backup --quiet --session {name(7)}").ok()
    path.unlink()
    sh(f"csb-backup --quiet --first {name(7)}").ok()
    (one,) = sh("csb-list --deleted").ok().records
    assert one["session_id"] == name(7)


@pytest.mark.parametrize("adopt", [
    "csb-backup --quiet --adopt", "csb-gitcommit --adopt </dev/null"])
@pytest.mark.few(1)
def test_a_directory_that_was_renamed_is_adopted(sh, home, agreed, adopt):
    """Until then each run says so, also where nothing else has changed."""
    (home.claude / "projects" / SLUG / f"{name(0)}.jsonl").unlink()
    say_more(home, 1).write_text(said(1, "rewritten"))
    time.sleep(2.1)         # until what is read is not too young
    sh("csb-backup --quiet").ok()
    sh("csb-backup --quiet").ok()
    before = sh("csb-list --all --sort started").ok().records
    assert {one["state"] for one in before} == {"present", "deleted"}
    assert any("rewritten_at" in one for one in before)

    new = home.path / "new"
    home.claude.rename(new)
    home.env.update(CLAUDE_CONFIG_DIR=str(new), CSB_HOME=str(home.backup))
    for _ in range(2):
        done = sh("csb-backup")
        assert done.rc == 3 and "--adopt" in done.err
    done = sh("csb-changes | csb-gitcommit")
    assert done.rc == 3 and "--adopt" in done.err

    sh(adopt).ok()
    sh("csb-backup --quiet").ok()
    done = sh("csb-list --all --sort started").ok()
    assert "disk" not in done.err + sh("csb list; csb status").err
    moved = [one | {"root": str(new), "transcript_path": one["transcript_path"].replace(
        str(home.claude), str(new), 1)} for one in before]
    assert done.records == moved
    assert the_same_made_anew(sh) == moved


def test_where_nothing_changed_two_interpreters_are_started(sh, stages, home):
    three_backed_up(sh, home)
    for tool in ("csb-gitcommit", "csb-find", "csb-index"):
        stages(tool, f"sys.stderr.write('{tool} was started\\n'); sys.exit(1)")
    sh("csb-backup --quiet").ok()


def test_without_an_agreement_everything_is_looked_at(sh, stages, home, agreed):
    """The check of the test above can fail."""
    sh("csb-backup --quiet").ok()
    (home.backup / "agreed").unlink()
    stages("csb-find", "sys.stderr.write('csb-find was started\\n'); sys.exit(1)")
    assert "csb-find was started" in sh("csb-backup --quiet").err
