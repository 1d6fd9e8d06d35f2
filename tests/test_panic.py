"""The minutes after a loss: whatever a person types works, or says what to type

A table: how the index is, what has become of projects/, and a command. Of its cells
make test takes some, make soak all.
"""
import os
import re
import shutil

import pytest
from conftest import INDEX, line, name, put_into, typed

pytestmark = pytest.mark.logic

FIRST = name(1)
LINK = "a link that leads nowhere"
AWAY = ("gone", "empty", LINK, "no Claude directory")


def back_up_both(sh, home):
    """Two sessions, backed up."""
    for number in (1, 2):
        put_into(home, number, line(f"question {number}"))
    sh("csb-backup --quiet").ok()


@pytest.fixture
def both(once):
    """Two sessions, backed up."""
    once(back_up_both)


# --- what has happened ----------------------------------------------------------------


def one_deleted(home, projects):
    (projects / f"-w/{FIRST}.jsonl").unlink()


def gone(home, projects):
    shutil.rmtree(projects)


def empty(home, projects):
    shutil.rmtree(projects / "-w")


def unreadable(home, projects):
    projects.chmod(0)


def a_link_that_leads_nowhere(home, projects):
    shutil.rmtree(projects)
    projects.symlink_to(home.path / "disk")


def no_claude_directory(home, projects):
    shutil.rmtree(home.claude)


LOSSES = {
    "one deleted": one_deleted,
    "gone": gone,
    "empty": empty,
    "unreadable": unreadable,
    LINK: a_link_that_leads_nowhere,
    "no Claude directory": no_claude_directory,
}


def fresh(sh, home):
    sh(INDEX)                   # what it says is not what is tried here


def stale(sh, home):
    pass                        # it was made before the loss


def missing(sh, home):
    (home.backup / "session-backup.db").unlink()


def damaged(sh, home):
    (home.backup / "session-backup.db").write_bytes(b"no database\n" * 400)


INDEXES = {"fresh": fresh, "stale": stale, "missing": missing, "damaged": damaged}


# --- what a person types --------------------------------------------------------------

WHAT_TO_TYPE = re.compile(r"csb[- ](restore|index|setup|backup|gitcommit)\b|--yes\b")
# If the cause is named it is plain what to do about it.
CAUSE = re.compile("Permission denied|mounted[?]")


def transcripts(home):
    """The numbers of the sessions that are on disk."""
    found = home.claude.glob("projects/-w/*.jsonl")
    return sorted(int(path.stem[-12:]) for path in found)


def of_csb(done, home, loss, index):
    assert done.rc == 0
    if loss in AWAY:
        assert "csb restore --deleted" in " ".join(done.out.split())


def of_status(done, home, loss, index):
    assert done.rc == 1 and "backed up" in done.out
    if loss in AWAY:
        said = " ".join((done.out + done.err).split())
        assert said.count("csb restore --deleted") == 1, done


def says_it_once(done):
    """Is there one line on what to type, and none that says the same otherwise?"""
    lines = done.err.splitlines()
    return len(lines) == 1 and "csb restore --deleted" in lines[0]


def of_list(done, home, loss, index):
    shown = re.findall("question ([12])", done.out)
    if loss in AWAY:
        assert shown == [] and says_it_once(done)
    elif loss == "one deleted":
        assert (done.rc, shown) == (0, ["2"])
    elif index in ("fresh", "stale"):
        assert (done.rc, sorted(shown)) == (0, ["1", "2"])


def of_list_deleted(done, home, loss, index):
    shown = sorted(re.findall("question ([12])", done.out))
    if loss in AWAY:
        assert (done.rc, shown) == (0, ["1", "2"]) and says_it_once(done)
    elif loss == "one deleted":
        assert (done.rc, shown) == (0, ["1"])


def of_restore(done, home, loss, index):
    if loss in ("one deleted", "gone", "no Claude directory"):
        assert done.rc == 0 and 1 in transcripts(home) and "csb resume" in done.out
    else:
        assert done.rc == 1


def of_restore_deleted(done, home, loss, index):
    if loss == "one deleted":
        assert done.rc == 0 and transcripts(home) == [1, 2]
    else:
        assert done.rc == 1


def of_the_pipe(done, home, loss, index):
    if loss == "one deleted" and index in ("fresh", "stale"):
        assert done.rc == 0 and transcripts(home) == [1, 2]
    elif loss != "unreadable":
        assert done.rc in (1, 3)


COMMANDS = {
    "csb": of_csb,
    "csb status": of_status,
    "csb list": of_list,
    "csb list --deleted": of_list_deleted,
    f"csb restore {FIRST}": of_restore,
    "csb restore --deleted": of_restore_deleted,
    "csb-list --deleted | csb-restore": of_the_pipe,
}


@pytest.mark.parametrize("index", INDEXES)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.few(8)
def test_whatever_is_typed_works_or_says_what_to_type(
        sh, home, both, index, loss, command):
    projects = home.claude / "projects"
    LOSSES[loss](home, projects)
    INDEXES[index](sh, home)
    before = transcripts(home)
    done = sh(command)
    if loss == "unreadable":
        projects.chmod(0o700)

    said = done.out + done.err
    assert said.strip()
    COMMANDS[command](done, home, loss, index)
    has_worked = done.out and done.rc == 0
    assert has_worked or WHAT_TO_TYPE.search(said) or CAUSE.search(said), done
    assert done.err.count("mounted?") <= 2, "each of two programs says it once"
    assert "Claude Code installed?" not in said
    if loss == LINK:
        assert projects.is_symlink() and not (home.path / "disk").exists()
    if loss == "empty" or "--deleted" in command and loss in AWAY:
        assert transcripts(home) == before == []
    if loss == "empty":
        assert os.listdir(projects) == []


@pytest.mark.parametrize("command", [
    f"csb restore {FIRST}", "csb restore --deleted",
    "csb-list --deleted 2>/dev/null | csb-restore"])
@pytest.mark.few(1)
def test_with_yes_an_empty_place_is_filled(sh, home, both, command):
    empty(home, home.claude / "projects")
    assert sh(command).rc == 1 and transcripts(home) == []
    assert sh(f"{command} --yes").rc == 0 and 1 in transcripts(home)


@pytest.mark.parametrize("words", [FIRST, "--deleted"])
def test_nothing_is_put_below_a_link_even_with_yes(sh, home, both, words):
    a_link_that_leads_nowhere(home, home.claude / "projects")
    done = sh(f"csb restore {words} --yes")
    assert done.rc == 1 and "mounted?" in done.err
    assert not (home.path / "disk").exists()


@pytest.mark.parametrize("words", [FIRST, "--deleted"])
def test_a_person_is_asked_before_an_empty_place_is_filled(home, both, words):
    empty(home, home.claude / "projects")
    for keys, there in ((b"\n", False), (b"n\n", False), (b"y\n", True)):
        status, screen = typed(home, f"csb restore {words}", keys, asked=b"[y/N]")
        assert status == 0 and "mounted?" in screen
        assert (1 in transcripts(home)) == there
        assert there or "nothing was restored" in screen


@pytest.mark.parametrize("gone", [False, True])
@pytest.mark.parametrize("tool", [
    "csb-cat", "csb-log", "csb-history", "csb-restore", "csb-show", "csb-tree"])
@pytest.mark.few(3)
def test_what_an_id_may_mean_is_told_apart(sh, home, both, tool, gone):
    """By date and title, from the disk or from the store;
    an index is just for its readers."""
    sh("csb-index --rebuild").ok()
    if gone:
        for number in (1, 2):
            (home.claude / f"projects/-w/{name(number)}.jsonl").unlink()
    if tool not in ("csb-show", "csb-tree"):
        (home.backup / "session-backup.db").unlink()
    done = sh(f"{tool} {FIRST[:8]}")
    assert (done.rc, done.out) == (2, "")
    assert done.err.splitlines()[1:] == [
        f"{tool}:   {name(number)}  2026-01-02 03:04  question {number}"
        for number in (1, 2)
    ]


@pytest.mark.parametrize("loss", ["gone", LINK, "unreadable"])
def test_a_backup_says_once_why_nothing_can_be_told(sh, home, both, loss):
    LOSSES[loss](home, home.claude / "projects")
    for words in ("backup", "backup --quiet"):
        done = sh(f"csb {words}")
        assert done.rc == 1 and done.err.count("\n") == 1, done
        assert "accept" not in done.err or loss == "gone", done


@pytest.mark.parametrize("words, rc", [
    ("list", 0), ("list --deleted", 0), ("tree", 0), ("search question", 0),
    (f"show {FIRST}", 0), ("status", 3)])
def test_that_the_store_is_away_is_said_once(sh, home, both, words, rc):
    sh("mv $CSB_HOME/git store; csb config git_dir $PWD/store; mv store away").ok()
    done = sh(f"csb {words}")
    assert (done.rc, done.err.count("\n")) == (rc, 1), done
    assert "Is its disk mounted?" in done.err


@pytest.mark.parametrize("words, said", [
    ("restore", "csb restore --deleted brings all of them back"),
    ("hook", "csb backup for people")])
def test_a_command_alone_says_what_to_type(home, both, words, said):
    assert said in typed(home, f"csb {words}")[1]
