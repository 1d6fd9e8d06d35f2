"""where the store is: what names it, what is done when it is away, and when nobody
knows where one is
"""
import json
import os
import shutil
from types import SimpleNamespace

import pytest
from conftest import line, name, payload

ID = name(1)
READERS = (
    "csb-changes",
    "csb-status",
    f"csb-restore {ID}",
    f"csb-restore --dry-run {ID}",
    "csb-index --rebuild",
    "csb-find | csb-index",
    "csb-verify",
    "csb-find --lost",
)
WRITERS = (
    "csb-backup",
    "csb-backup --quiet",
    "csb-gitcommit",
    "csb-changes | csb-gitcommit",
    "csb-gc",
)
NAMES = ("--git-dir", "CSB_GIT_DIR", "config.json")


@pytest.fixture
def session(home):
    """A Claude directory with one session; its transcript."""
    path = home.claude / "projects" / "-w" / f"{ID}.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text(line("a question"))
    return path


@pytest.fixture
def named(sh, home):
    """named(who, path): a function that runs a line with the store at path named so."""
    def make(who, path):
        env = {"CSB_GIT_DIR": str(path)} if who == "CSB_GIT_DIR" else {}
        if who == "config.json":
            home.backup.mkdir(exist_ok=True)
            (home.backup / "config.json").write_text(json.dumps({"git_dir": str(path)}))

        def run(words, **more):
            if who == "--git-dir":
                words = " | ".join(
                    part if part == "csb-find" else f"{part} --git-dir '{path}'"
                    for part in words.split(" | "))
            return sh(words, **env, **more)
        return run
    return make


@pytest.fixture
def disk(home, sh, session):
    """A store on a disk of its own, with one backup:
    .store its path, .unmount(), .mount()."""
    mount_point = home.path / "media"
    mounted = home.path / "elsewhere"
    mount_point.mkdir()
    store = mount_point / "csb.git"
    sh(
        f"csb-gitcommit --make --git-dir {store} && csb-backup --quiet --git-dir "
        f"{store}"
    ).ok()
    shutil.rmtree(home.backup)

    def unmount():
        mount_point.rename(mounted)
        mount_point.mkdir()

    def mount():
        mount_point.rmdir()
        mounted.rename(mount_point)
    return SimpleNamespace(store=store, point=mount_point, mount=mount, unmount=unmount)


def subjects(sh, store):
    """The subjects of the commits of a store, the newest first."""
    return sh(f"git --git-dir='{store}' log --format=%s main").ok().out.splitlines()


def without_the_log(listing, top):
    """Everything below a directory but backup.log, which may say what failed,
    and its folder's times."""
    found = listing(top)
    rest = (path for path in found if not path.endswith("backup.log"))
    return {path: found[path][::2] for path in rest}


@pytest.mark.soak
@pytest.mark.logic
@pytest.mark.parametrize("who", NAMES)
def test_a_named_store_that_is_away_is_said_and_none_is_made(
        sh, home, disk, named, listing, rounds, who):
    """Not even where another store lies in the usual place:
    what went there the one that is away would never know of."""
    sh("csb-backup --quiet").ok()
    usual = subjects(sh, home.backup / "git")
    run = named(who, disk.store)
    disk.unmount()
    (home.claude / "new.md").write_text("new")
    before = without_the_log(listing, home.path)
    every = (*WRITERS, *READERS)[::rounds(2, 1)]
    for words in every if who == "config.json" else ("csb-status", "csb-backup"):
        done = run(words)
        lines = done.err.splitlines()
        assert (done.rc, done.out) == (3, ""), (words, done)
        for text in lines:
            assert f"'{disk.store}' that {who} names" in text, words
        assert len(lines) == words.count(" | csb-gitcommit") + 1, (words, lines)
        assert "Is its disk mounted?" in lines[0] and "--make" in lines[0]
        assert without_the_log(listing, home.path) == before, words
    assert subjects(sh, home.backup / "git") == usual
    disk.mount()
    assert run("csb-status").rc == 1, "there is something new"
    run("csb-backup --quiet").ok()
    assert run("csb-status").records[0]["covered"] is True


@pytest.mark.logic
@pytest.mark.parametrize(
    "who, there",
    [
        ("--git-dir", "empty"),
        ("CSB_GIT_DIR", "missing"),
        ("config.json", "full"),
        ("config.json", "empty"),
    ],
)
@pytest.mark.few(2)
def test_a_directory_without_a_repository_is_no_store(
    sh, home, session, named, listing, who, there
):
    """A bare mount point above all."""
    path = home.path / "media"
    if there != "missing":
        path.mkdir()
    if there == "full":
        (path / "holiday.jpg").write_text("x")
    run = named(who, path)
    before = without_the_log(listing, home.path)
    for words in ("csb-backup", "csb-changes", "csb-status", f"csb-restore {ID}",
                  "csb-gitcommit </dev/null"):
        done = run(words)
        assert (done.rc, done.out, done.err.count("\n")) == (3, "", 1), (words, done)
    assert without_the_log(listing, home.path) == before
    done = run("csb-gitcommit --make")
    if there == "full":
        assert (done.rc, done.err.count("\n")) == (1, 1), done
        assert "not empty" in done.err
        assert os.listdir(path) == ["holiday.jpg"]
        return
    store, = done.ok().records
    assert (store["kind"], store["path"]) == ("store", str(path))
    assert run("csb-gitcommit --make").ok().out == "", "it is there"
    run("csb-backup --quiet").ok()
    assert run("csb-status").records[0]["store"] == str(path)
    assert not (home.backup / "git").exists()


@pytest.mark.logic
def test_what_failed_is_told_at_the_next_start(sh, home, disk, named, hook, over):
    named("config.json", disk.store)
    disk.unmount()
    hook(payload("SessionEnd", 1))
    over()
    last = json.loads((home.backup / "backup.log").read_text().splitlines()[-1])
    assert last["outcome"] == "failed" and "Is its disk mounted?" in last["reason"]
    said = sh("csb-hook", payload("SessionStart", 1, source="startup")).ok()
    over()
    assert "Is its disk mounted?" in said.records[0]["systemMessage"]
    assert os.listdir(disk.point) == [] and not (home.backup / "git").exists()


@pytest.mark.logic
def test_the_index_that_is_there_still_answers(sh, home, disk, named):
    """With the store away sessions are listed, searched, shown and read,
    from index and disk."""
    run = named("config.json", disk.store)
    run("csb-find | csb-index && csb-search question").ok()
    disk.unmount()
    for words in ("csb list", "csb search question", f"csb show {ID}", f"csb log {ID}"):
        done = run(words)
        assert done.rc == 0 and "question" in done.out, (words, done)


@pytest.mark.logic
def test_the_order(sh, home, session):
    """--git-dir, CSB_GIT_DIR, config.json, CSB_HOME/git, the repository that the Claude
    directory is, else CSB_HOME/git."""
    def used(line="csb-status", **env):
        return sh(line, **env).records[0]["store"]

    usual = str(home.backup / "git")
    assert used() == usual
    sh("git init -q .claude").ok()
    assert used() == str(home.claude / ".git")
    sh("git init -q --bare $CSB_HOME/git").ok()
    assert used() == usual
    for store in ("one", "two", "three"):
        sh(f"csb-gitcommit --make --git-dir {store}.git").ok()
    sh("csb-config git_dir one.git").ok()
    assert used() == str(home.path / "one.git")
    two = {"CSB_GIT_DIR": str(home.path / "two.git")}
    assert used(**two) == str(home.path / "two.git")
    assert used("csb-status --git-dir three.git", **two) == str(home.path / "three.git")


@pytest.mark.logic
def test_a_repository_above_the_claude_directory_is_not_used(sh, home, session):
    sh("git init -q .").ok()
    assert sh("csb-status").records[0]["store"] == str(home.backup / "git")


@pytest.mark.logic
def test_a_place_that_was_noted_on_first_use_is_no_name(sh, home, session):
    """Earlier versions wrote the usual place into config.json; a store that vanished
    there is made anew, and that is said."""
    home.backup.mkdir()
    config = {"git_dir": str(home.backup / "git"), "interval": 30}
    (home.backup / "config.json").write_text(json.dumps(config))
    sh("csb-backup --quiet").ok()
    shutil.rmtree(home.backup / "git")
    done = sh("csb-backup --quiet")
    assert (done.rc, done.err.count("\n")) == (1, 1) and "a new one is made" in done.err
    assert json.loads((home.backup / "config.json").read_text()) == config


@pytest.mark.logic
def test_a_usual_store_that_vanished_is_made_anew_and_status_says_so(
        sh, over, home, session):
    sh("csb-backup --quiet").ok()
    assert "made anew" not in sh("csb-status").out
    shutil.rmtree(home.backup / "git")
    done = sh("csb-backup --quiet")
    assert (done.rc, done.err.count("\n")) == (1, 1)
    assert "without the old versions" in done.err
    sh("csb-backup --quiet").ok()
    status, = sh("csb-status").records
    assert status["covered"] is True
    note, = [note for note in status["notes"] if "made anew" in note]
    assert "what was backed up before is not in it" in note
    event = {"hook_event_name": "SessionStart", "source": "startup"}
    start = json.dumps(event).encode()
    assert "made anew" in sh("csb-hook", start).ok().out
    over()
    assert "made anew" not in sh("csb-status --seen").out
    assert "made anew" not in sh("csb-status").out
    assert sh("csb-hook", start).ok().out == ""
    over()


@pytest.mark.logic
@pytest.mark.parametrize("line, rc", [
    ("csb-backup", 3), ("csb-restore --deleted", 3), ("csb-verify", 3), ("csb-gc", 3)])
@pytest.mark.few(2)
def test_a_store_that_may_not_be_read_is_there(sh, home, session, line, rc):
    """As sudo csb backup would leave it: no word of making one, where one is."""
    sh("csb-backup").ok()
    store = home.backup / "git"
    store.chmod(0)
    done = sh(line)
    store.chmod(0o700)
    assert done.rc == rc
    assert f"cannot read the store '{store}': Permission denied" in done.err
    assert "make" not in done.err


@pytest.mark.logic
def test_a_first_store_is_nothing_to_speak_of(sh, home, session):
    """After backups that failed, and after an index without a store."""
    sh("csb-backup --no-commit --quiet").ok()
    (home.backup / "backup.log").write_text('{"kind":"backup","outcome":"failed"}\n')
    sh("csb-backup --quiet").ok()
    assert not (home.backup / "config.json").exists()


@pytest.mark.logic
@pytest.mark.parametrize("how", ["cp -r", "mv"])
@pytest.mark.few(1)
def test_a_name_inside_csb_home_goes_where_it_goes(sh, home, session, how):
    """A home that was moved, or copied, has its own store, not that of the old one."""
    inside = home.backup / "stores" / "one.git"
    sh(f"csb-gitcommit --make --git-dir {inside} && csb-config git_dir {inside}").ok()
    config = json.loads((home.backup / "config.json").read_text())
    assert config == {"git_dir": "stores/one.git"}
    assert sh("csb-config git_dir").ok().out == f"{inside}\n"
    sh("csb-backup --quiet").ok()
    other = home.path / "other"
    sh(f"{how} $CSB_HOME {other}").ok()
    old = subjects(sh, other / "stores" / "one.git")
    (home.claude / "new.md").write_text("new")
    sh("csb-backup --quiet", CSB_HOME=str(other)).ok()
    assert len(subjects(sh, other / "stores" / "one.git")) == len(old) + 1
    (record,) = sh("csb-status", CSB_HOME=str(other)).records
    assert record["store"].startswith(str(other))
    assert how == "mv" or subjects(sh, inside) == old


@pytest.mark.long
@pytest.mark.logic
def test_a_repository_of_ones_own_goes_with_its_home(sh, home, session):
    """A home that was copied does not store into the repository of the old one."""
    sh("git init -q .claude && csb-backup --quiet").ok()
    new = home.path / "copy"
    new.mkdir()
    sh(f"cp -r .claude .claude-backup {new}").ok()
    there = {"HOME": str(new), "CLAUDE_CONFIG_DIR": None, "CSB_HOME": None}
    status, = sh("csb-status", **there).records
    assert status["store"] == str(new / ".claude" / ".git")
    done = sh("csb-backup --quiet", **there)
    assert done.rc == 3 and "--adopt" in done.err and str(new) in done.err
    assert sh("csb-status").records[0]["store"] == str(home.claude / ".git")


@pytest.mark.logic
def test_a_name_inside_csb_home_is_a_name(sh, home, session):
    """The usual place too, if a person named it."""
    usual = home.backup / "git"
    sh(f"csb-gitcommit --make --git-dir {usual} && csb-config git_dir {usual}").ok()
    sh("csb-backup --quiet").ok()
    usual.rename(home.path / "gone")
    done = sh("csb-backup --quiet")
    assert (done.rc, done.err.count("\n")) == (3, 1) and "config.json names" in done.err
    assert not usual.exists()


@pytest.mark.logic
def test_setup_makes_the_store_that_it_is_given(sh, home, session):
    """Once: when its hooks know the store, the next setup takes one that
    is gone for away."""
    store = home.path / "media" / "csb.git"
    done = sh(f"csb-setup --dry-run --git-dir {store}")
    assert done.rc == 0 and "(a new store)" in done.out and not store.exists()
    done = sh(f"csb-setup --yes --git-dir {store}")
    assert "csb verify has read back" in done.out and store.is_dir(), done
    assert f"csb config git_dir {store}\n" in done.out, (
        "csb restore would look elsewhere"
    )
    store.rename(home.path / "gone")
    before = (home.claude / "settings.json").read_bytes()
    done = sh(f"csb-setup --yes --git-dir {store}")
    assert (done.rc, done.err.count("\n")) == (3, 1)
    assert "Is its disk mounted?" in done.err
    assert not store.exists() and (home.claude / "settings.json").read_bytes() == before
    undone = sh(f"csb-setup --undo --git-dir {store}").ok()
    assert "stays" not in undone.out, "it is not there"
    assert not (home.claude / "settings.json").exists(), "as it was"


@pytest.mark.logic
@pytest.mark.parametrize("who", ["CSB_GIT_DIR", "config.json"])
def test_setup_makes_no_store_that_something_else_names(sh, home, session, named, who):
    done = named(who, home.path / "media" / "csb.git")("csb-setup --yes")
    assert (done.rc, done.out, done.err.count("\n")) == (3, "", 1)
    assert not (home.path / "media").exists()
    assert not (home.claude / "settings.json").exists()


def commands(sh, home):
    """What the hooks and a line of cron run, as they are installed."""
    settings = json.loads((home.claude / "settings.json").read_text())
    hook = settings["hooks"]["SessionEnd"][0]["hooks"][0]["command"]
    timer = sh("csb-schedule --print --kind cron").ok().out
    return hook, timer.split(" ", 5)[5].partition(" # ")[0]


@pytest.mark.logic
def test_what_is_installed_names_a_store_that_is_there(sh, home, session, over):
    """With all of CSB_HOME on a disk that is not mounted there is no config.json to say
    so: its bare mount point must not be taken for a first run."""
    home.backup.mkdir()
    assert "hooks back up when" in sh("csb-setup --yes").out
    lines = commands(sh, home)
    home.backup.rename(home.path / "unmounted")
    home.backup.mkdir()
    for words in lines:
        done = sh(
            words, payload("SessionEnd", 1), CSB_HOME=None, CLAUDE_CONFIG_DIR=None
        )
        over()
        assert done.rc == (0 if "csb-hook" in words else 3), done
        assert set(os.listdir(home.backup)) <= {"backup.log"}, words
    home.backup.joinpath("backup.log").unlink(missing_ok=True)
    home.backup.rmdir()
    (home.path / "unmounted").rename(home.backup)
    for number, words in enumerate(lines):
        (home.claude / f"{number}.md").write_text("new")
        sh(words, payload("SessionEnd", 1), CSB_HOME=None, CLAUDE_CONFIG_DIR=None).ok()
        over()
    found = subjects(sh, home.backup / "git")
    assert len([line for line in found if "noise" in line]) == 3
    sh("csb-setup --undo").ok()
    assert not (home.claude / "settings.json").exists()


GONE = 'mkdir gone && cd gone && rmdir ../gone && {{ {}; }}'


@pytest.mark.soak
@pytest.mark.logic
def test_the_working_directory_was_removed(sh, home, session, rounds):
    """git refuses to start there; what has absolute names needs no such directory."""
    some = slice(None, None, rounds(3, 1))
    sh("csb-backup --quiet").ok()
    (home.claude / "new.md").write_text("new")
    sh(GONE.format("csb-backup --quiet")).ok()
    (home.claude / "newer.md").write_text("newer")
    for words in (
        "csb-changes",
        "csb-list",
        "csb-search question",
        f"csb-restore --dry-run {ID}",
        f"csb-verify {ID}",
        f"csb-log {ID}",
        f"csb-show {ID}",
        "csb-config",
        "csb-setup --dry-run",
        "csb list",
        "csb-gitcommit --make --git-dir ~/new.git",
        f"jsonl_snapshot --dest-dir ~/shots ~/.claude/projects/-w/{ID}.jsonl",
    )[some]:
        assert sh(GONE.format(words)).ok().out, words
    for words in (f"csb-history {ID}", "csb-hook --foreground -- csb-list", "csb-gc",
                  "csb-find | csb-index", "csb-index --rebuild")[some]:
        sh(GONE.format(words)).ok()
    for words in ("csb-status", "csb status")[some]:
        done = sh(GONE.format(words))
        assert done.rc == 1 and "1 file" in done.out and done.err == "", done
    writers = ("csb-hook --foreground", "csb backup", "csb-backup")[some]
    for number, words in enumerate(writers):
        (home.claude / f"{number}.md").write_text("newest")
        done = sh(GONE.format(words)).ok()
        assert done.out or "csb-hook" in words
        assert sh("csb-status").records[0]["covered"] is True


@pytest.mark.soak
@pytest.mark.logic
def test_a_relative_name_needs_the_working_directory(sh, home, session, rounds):
    """One line that says so."""
    sh("csb-backup --quiet && csb-search question; touch ~/a").ok()
    for words in (
        "csb-backup --git-dir x",
        "csb-list --claude-dir x",
        "csb-changes --git-dir ./x",
        "CSB_GIT_DIR=x csb-status",
        "CSB_HOME=x csb-list",
        "CLAUDE_CONFIG_DIR=x csb-search hi",
        "csb-config git_dir x",
        "csb-search --folder x hi",
        "jsonl_snapshot --dest-dir x ~/a",
        "jsonl_snapshot --dest-dir ~/b x",
        "session_snapshot --dest-dir ~/b x",
        "csb-hook --git-dir x",
    )[:: rounds(2, 1)]:
        done = sh(GONE.format(words))
        assert done.rc in (1, 2, 3), done
        assert (done.out, done.err.count("\n")) == ("", 1), done
        assert "working directory" in done.err and "'the output'" not in done.err, done


@pytest.mark.logic
def test_a_relative_name_is_taken_from_where_one_is(sh, home, session):
    (home.path / "deep").mkdir()
    sh(
        "csb-gitcommit --make --git-dir ../new.git && csb-backup --quiet --git-dir "
        "../new.git",
        cwd=home.path / "deep",
    ).ok()
    assert len(subjects(sh, home.path / "new.git")) == 1


@pytest.mark.logic
@pytest.mark.parametrize("value", ["5", "[]", '{"a": 1}', "true"])
@pytest.mark.few(1)
def test_a_store_that_is_named_by_no_text_is_no_reason_for_another(
    sh, claude, home, value
):
    home.backup.mkdir()
    (home.backup / "config.json").write_text(f'{{"git_dir": {value}}}\n')
    done = sh("csb-backup --quiet")
    assert done.rc == 3 and "git_dir" in done.err
    assert not (home.backup / "git").exists()
