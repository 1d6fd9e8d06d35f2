"""csb-restore --deleted: all that are gone come back, and nothing is done in silence"""
import json
import os
import shlex
import time

import pytest
from conftest import backup, days_ago, line, name, put_into

pytestmark = pytest.mark.logic

GIT = "git --git-dir=$CSB_HOME/git"


def back_up_three(sh, home):
    """Three sessions of two files each, backed up."""
    for number in range(3):
        put_into(home, number, line(f"session {number}"), mtime=time.time())
        put_into(home, f"tasks/{name(number)}/1.json", "{}", mtime=time.time())
    put_into(home, "settings.json", "{}")
    backup(sh)


@pytest.fixture
def three(once):
    """Three sessions of two files each, backed up."""
    once(back_up_three)


def there(home):
    """The numbers of the sessions whose transcripts are on disk."""
    return sorted(
        int(path.stem[-12:]) for path in home.claude.rglob("projects/-w/*.jsonl")
    )


def lose(home, *numbers):
    for number in numbers:
        (home.claude / f"projects/-w/{name(number)}.jsonl").unlink()


GONE = {
    "one": lambda sh, home: lose(home, 1),
    "all but the folder": lambda sh, home: lose(home, 0, 1, 2),
    "all": lambda sh, home: sh("rm -r ~/.claude/projects ~/.claude/tasks"),
    "all in it": lambda sh, home: sh("rm -r ~/.claude/projects/*"),
    "the Claude directory": lambda sh, home: sh("rm -r ~/.claude"),
}


@pytest.mark.parametrize("gone", GONE)
@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.few(3)
def test_what_is_gone_comes_back(sh, home, listing, three, gone, stored):
    """Whether the store knows of it yet or not, and without an index."""
    before = listing(home.claude / "projects")
    GONE[gone](sh, home)
    if stored:
        sh("csb-changes --accept-deletions | csb-gitcommit")
    sh("rm -f $CSB_HOME/*.db*")
    done = sh("csb-restore --deleted --yes")
    assert done.rc == 0 and there(home) == [0, 1, 2]
    assert "are in the store and not in" in done.err or "is in the store" in done.err
    after = listing(home.claude / "projects")
    assert {path for path in after if after[path] != before[path]} <= {"-w"}
    assert (home.claude / f"tasks/{name(1)}/1.json").exists()

    done = sh("csb-restore --deleted --yes")
    assert done.rc == 0 and done.out == "" and "nothing to restore" in done.err


@pytest.mark.parametrize("thing", ["mkdir {}", "mkdir -p {}/sub", "mkfifo {}"])
@pytest.mark.few(1)
def test_what_is_no_file_is_no_transcript(sh, home, three, thing):
    """Something else has its name: the session is gone, and --force brings it back."""
    path = home.claude / f"projects/-w/{name(1)}.jsonl"
    was = path.read_bytes()
    lose(home, 1)
    sh(thing.format(shlex.quote(str(path)))).ok()
    for _ in range(2):
        done = sh("timeout 100 csb-restore --deleted --yes")
        assert done.rc == 1
        assert "another file is there (--force replaces it)" in done.err
        sh("csb-index --on-disk")
        assert name(1) in sh("csb-list --deleted").ok().out
        backup(sh)
    done = sh(f"timeout 100 csb-restore --force {name(1)}").ok()
    assert path.read_bytes() == was
    kept, = path.parent.glob("*.replaced")
    assert kept.is_dir() or kept.is_fifo()


def test_what_else_is_gone_is_named(sh, home, three):
    """Which files are of no session, and the line that brings them
    back, and no more."""
    for path in (
        "skills/a/SKILL.md",
        "skills/b c/SKILL.md",
        "old skills/x",
        "projects/-w/memory/MEMORY.md",
    ):
        put_into(home, path, "x", mtime=time.time())
    backup(sh)
    (home.claude / "old skills/x").unlink()
    sh("csb-backup").ok()
    sh("rm -r ~/.claude").ok()
    done = sh("csb-restore --deleted --yes")
    *_, last = done.err.splitlines()
    assert last == (
        "csb-restore: 4 files of no session are gone, too: csb restore --in-place "
        "--path projects/-w/memory --path settings.json --path skills"
    )
    assert not (home.claude / "settings.json").exists()
    assert sh(last.partition("too: ")[2].replace(" ", "-", 1)).rc == 0
    assert (home.claude / "settings.json").exists()
    assert (home.claude / "skills/b c/SKILL.md").exists()
    assert not (home.claude / "old skills/x").exists()
    lose(home, 1)
    done = sh("csb-restore --deleted --yes")
    assert there(home) == [0, 1, 2] and "gone, too" not in done.err


def test_the_last_line_leads_on(sh, home, three):
    """What came back is to be backed up; not what was put elsewhere, or was not put."""
    lose(home, 1, 2)
    lead = "\nBack up what came back: csb backup\n"
    assert lead not in sh("csb restore --deleted --dry-run").out
    assert lead not in sh("csb restore --deleted --yes --target-dir out").out
    assert sh("csb restore --deleted --yes").out.endswith(lead)
    lose(home, 1)
    done = sh("csb restore --deleted --yes")
    assert "csb resume" in done.out, "of one there is more to say"


def test_without_a_loss_it_says_so(sh, three):
    done = sh("csb-restore --deleted")
    assert (done.rc, done.out) == (0, "") and done.err.count("\n") == 1
    assert done.err.startswith("csb-restore: nothing to restore: ")


def test_an_empty_store_and_none(sh, home):
    done = sh("csb-restore --deleted --yes")
    assert done.rc == 3 and done.err.count("\n") == 1
    sh("csb-gitcommit --make >/dev/null")
    done = sh("csb-restore --deleted --yes")
    assert done.rc == 0 and "no session of the store is missing in" in done.err


@pytest.mark.parametrize("state", ["missing", "empty"])
def test_an_empty_place_may_be_a_disk_that_is_away(sh, home, three, state):
    """Without a person to ask nothing is written, by either way."""
    sh("rm -r ~/.claude/projects")
    if state == "empty":
        (home.claude / "projects").mkdir()
    before = sorted(os.listdir(home.claude))
    records = "".join(
        json.dumps({"session_id": name(number), "state": "missing"}) + "\n"
        for number in range(3)
    ).encode()
    for tool, stdin in (("csb-restore --deleted", b""), ("csb-restore", records)):
        done = sh(tool, stdin)
        assert (done.rc, done.out, done.err.count("\n")) == (1, "", 1), done
        assert "mounted?" in done.err and "--yes" in done.err
        assert sorted(os.listdir(home.claude)) == before and there(home) == []
        assert sh(f"{tool} --dry-run", stdin).rc == 0 and there(home) == []
        assert sh(f"{tool} --target-dir out", stdin).rc == 0
        sh("rm -r out")
    sh("csb-restore --yes", records).ok()
    assert there(home) == [0, 1, 2]


@pytest.mark.parametrize("link", ["projects", "projects/-w", ".", "above"])
@pytest.mark.parametrize(
    "words", ["--deleted --yes", name(1), f"--project=-w {name(1)}"]
)
@pytest.mark.few(5)
def test_nothing_is_made_where_a_link_leads_nowhere(sh, home, three, link, words):
    """The disk behind it may be away."""
    disk = home.path / "disk"
    disk.mkdir()
    if link == "above":
        (home.path / "way").symlink_to(disk)
        home.env["CLAUDE_CONFIG_DIR"] = str(home.path / "way/deep/.claude")
    else:
        path = home.claude / link if link != "." else home.claude
        path.rename(disk / "moved")
        path.symlink_to(disk / "moved")
    disk.rename(home.path / "away")
    done = sh(f"csb-restore {words}")
    assert done.rc in (1, 3) and "Traceback" not in done.err
    assert not disk.exists()
    assert "which is not there" in done.err or "to what is not there" in done.err
    if link != "projects/-w":
        assert done.err.count("\n") == 1 and done.out == ""


def test_what_is_said_of_a_disk_that_is_away_can_be_typed(sh, home, three):
    """Whoever says it: restore elsewhere, or remove the link if the disk
    is gone for good."""
    sh("csb-backup --quiet").ok()
    link = home.claude / "projects"
    link.rename(home.path / "away")
    link.symlink_to(home.path / "disk")
    for words, rc in (("backup", 1), ("backup --accept-deletions", 1), ("list", 0),
                      ("restore --deleted", 1), (f"restore {name(1)}", 1)):
        done = sh(f"csb {words}")
        assert done.rc == rc, done
        assert "its disk not mounted?" in done.err, done
        assert "--target-dir DIR" in done.err and "remove the link" in done.err, done
        assert "--accept-deletions" not in done.err, done
    assert sh("csb-restore --deleted --target-dir out").rc == 0
    assert len(list((home.path / "out/projects/-w").iterdir())) == 3
    link.unlink()
    assert sh("csb-restore --deleted --yes").rc == 0
    assert there(home) == [0, 1, 2]


def test_an_empty_disk_behind_a_link_is_accepted_without_the_link(sh, home, three):
    """A bare mount point: --accept-deletions alone would do nothing."""
    link = home.claude / "projects"
    link.rename(home.path / "away")
    (home.path / "disk").mkdir()
    link.symlink_to(home.path / "disk")
    done = sh("csb-changes")
    assert done.rc == 1 and "remove the link if they are really gone" in done.err
    assert "--accept-deletions" not in done.err


@pytest.mark.parametrize("words", ["--deleted --yes", name(1)])
def test_what_cannot_be_listed_is_not_gone(sh, home, three, words):
    if not sh("chmod 0 ~/.claude/projects; ls ~/.claude/projects").rc:
        pytest.skip("nothing is unreadable here")
    done = sh(f"csb-restore {words}")
    sh("chmod 700 ~/.claude/projects").ok()
    assert done.rc == 1 and "Permission denied" in done.err
    assert there(home) == [0, 1, 2]


@pytest.mark.parametrize("lost", [False, True])
def test_a_project_that_cannot_be_looked_into_is_named(sh, home, three, lost):
    """Of what is in there nobody can say that nothing is gone; the rest comes back."""
    other = home.claude / f"projects/-other/{name(5)}.jsonl"
    other.parent.mkdir()
    other.write_text(line("other"))
    sh("csb-backup --quiet").ok()
    if lost:
        other.unlink()
    if not sh("chmod 0 ~/.claude/projects/-w; ls ~/.claude/projects/-w").rc:
        pytest.skip("nothing is unreadable here")
    done = sh("csb-restore --deleted --yes")
    sh("chmod 700 ~/.claude/projects/-w").ok()
    assert done.rc == 1 and "cannot tell what is gone in" in done.err and other.exists()
    assert "nothing to restore" not in done.err and there(home) == [0, 1, 2]


@pytest.mark.parametrize("answer, restored", [
    ("y", True), ("YES", True), ("n", False), ("", False), ("maybe", False)])
@pytest.mark.few(3)
def test_a_person_is_asked(sh, home, three, answer, restored):
    """And told how much it is, and what was done."""
    lose(home, 1)
    done = sh(
        "python3 -c " + shlex.quote(ASK), answer.encode(), TERM="xterm")
    assert "1 session (" in done.out and "Restore it? [y/N]" in done.out
    assert (there(home) == [0, 1, 2]) == restored
    if restored:
        assert "Restored 1 session: 1 file (" in done.out
    else:
        assert "nothing was restored" in done.out


# A terminal at which somebody types the answer, once there is a question.
ASK = """
import os, pty, sys
answer = sys.stdin.buffer.read() + b"\\n"
child, fd = pty.fork()
if not child:
    os.execlp("csb", "csb", "restore", "--deleted")
text = b""
try:
    while True:
        text += os.read(fd, 1 << 16)
        if b"[y/N]" in text and answer:
            os.write(fd, answer)
            answer = b""
except OSError:
    pass
print(text.decode())
"""


@pytest.mark.parametrize(
    "since, expected",
    [
        (days_ago(9, "%Y-%m-%d"), [1, 2]),
        (days_ago(3), [2]),
        (days_ago(-1, "%Y-%m-%d"), []),
    ],
)
@pytest.mark.few(2)
def test_since(sh, home, three, since, expected):
    """What went since a time; of what the store does not know yet it is now."""
    lose(home, 1)
    day = days_ago(5)
    sh("csb-changes --accept-deletions | csb-gitcommit").ok()
    sh(f"""export GIT_COMMITTER_DATE={day} GIT_AUTHOR_DATE={day}
        commit=$({GIT} -c user.name=a -c user.email=a@b commit-tree main^{{tree}} \\
            -p main~1 -m x)
        {GIT} update-ref refs/heads/main $commit""").ok()
    lose(home, 2)
    sh("csb-changes --accept-deletions | csb-gitcommit").ok()
    done = sh(f"csb-restore --deleted --since {since}")
    assert done.rc == 0
    assert sorted({int(r["session_id"][-12:]) for r in done.records}) == expected
    if not expected:
        assert "nothing to restore" in done.err and "since then" in done.err


@pytest.mark.parametrize(
    "words",
    [
        "--target-dir '' 3f4a",
        "--since 2026-01-01",
        "--deleted 3f4a",
        "--deleted --at main",
        "--deleted --path x",
        "--deleted --since tomorrow",
    ],
)
@pytest.mark.few(2)
def test_misuse(sh, three, words):
    done = sh(f"csb-restore {words}")
    assert (done.rc, done.out, done.err.count("\n")) == (2, "", 1), done


def test_what_does_not_fit_is_not_begun(sh, home, three):
    """The disk is looked at first."""
    lose(home, 1)
    small = home.path / "small"
    small.mkdir()
    if sh(f"mount -t tmpfs -o size=4k none {small}").rc:
        pytest.skip("no file system can be made here")
    try:
        put_into(home, 1, line("x" * 100000))
        sh("csb-backup --quiet")
        lose(home, 1)
        done = sh("csb-restore --deleted --target-dir small/out")
        assert done.rc == 1 and "do not fit" in done.err and not os.listdir(small)
    finally:
        sh(f"umount {small}").ok()


def test_a_moved_session_is_not_gone(sh, home):
    """A worktree was left: its transcript went on in another project."""
    put_into(home, 1, line("a"), "-tree")
    backup(sh)
    path = home.claude / f"projects/-tree/{name(1)}.jsonl"
    put_into(home, 1, line("a") + line("b"), "-main")
    path.unlink()
    for _ in range(2):
        done = sh("csb-restore --deleted")
        assert (done.rc, done.out) == (0, "") and "nothing to restore" in done.err
        backup(sh)


def test_a_stub_does_not_keep_the_rescue_busy(sh, home):
    """What gave way is no loss: the next time there is nothing to do."""
    stub = '{"type":"worktree-state","sessionId":"%s"}\n'
    put_into(home, 1, stub, "-a", mtime=time.time())
    put_into(home, 1, line("a"), "-b", mtime=time.time())
    put_into(home, 2, line("a"), "-b", mtime=time.time())
    backup(sh)
    sh("rm -r ~/.claude/projects/-a").ok()
    lose_path = home.claude / f"projects/-b/{name(1)}.jsonl"
    lose_path.unlink()
    assert sh("csb-restore --deleted").rc == 0 and lose_path.exists()
    done = sh("csb-restore --deleted")
    assert done.rc == 0 and "nothing to restore" in done.err


@pytest.mark.parametrize("project", ["-w", "-v"])
def test_ids_that_differ_in_their_case_alone(sh, home, project):
    """Each is a session of its own."""
    ids = [name(0).replace("a", "A"), name(0)]
    for number, place in enumerate(("-w", project)):
        transcript = f"projects/{place}/{ids[number]}.jsonl"
        put_into(home, transcript, line(f"session {number}"))
    backup(sh)
    sh("rm -r ~/.claude/projects/*")
    assert "Restored 2 sessions" in sh("csb restore --deleted --yes").out
    assert {path.stem for path in home.claude.rglob("*.jsonl")} == set(ids)


def test_of_one_project(sh, home, three):
    put_into(home, 7, line("seven"), "-other", mtime=time.time())
    backup(sh)
    sh("rm -r ~/.claude/projects/*/*").ok()
    done = sh("csb-restore --deleted --project=-other")
    assert done.rc == 0 and {r["session_id"] for r in done.records} == {name(7)}
    done = sh("csb-restore --deleted --project=-other")
    assert done.rc == 0 and "nothing to restore" in done.err and "-other" in done.err
    sh("csb-restore --deleted --target-dir out")
    done = sh("csb-restore --deleted --target-dir out")
    assert done.rc == 0
    assert done.out == ""
    assert "'out'" not in done.err
    assert "/out'" in done.err


def test_an_empty_list_is_answered(sh, three):
    """Of a list that is older than the loss nothing comes, and a person must know."""
    done = sh("csb-restore", b"")
    assert (done.rc, done.out, done.err.count("\n")) == (0, "", 1)
    assert "nothing to restore" in done.err and "csb restore --deleted" in done.err


def test_a_dry_run_says_what_it_would_do(sh, home, three):
    lose(home, 1, 2)
    said = sh(f"csb restore --dry-run {name(1)} {name(2)}").out
    assert "Would restore 2 sessions: 2 files (" in said and "read back" not in said
    assert there(home) == [0]
    said = sh(f"csb restore {name(1)} {name(2)}").out
    assert "Restored 2 sessions: 2 files (" in said and "each read back" in said
    said = sh(f"csb restore {name(1)}").out
    assert "Restored nothing. Already there: 2 files." in said


def test_records_stay_records(sh, home, three):
    """Nothing is said where no person looks."""
    lose(home, 1)
    done = sh(f"csb-restore {name(1)}").ok()
    assert [r["result"] for r in done.records] == ["restored", "kept"]


@pytest.mark.parametrize(
    "words", ["--path '**'", "--path .config.json --path accounts"]
)
def test_what_csb_refuses_is_left_out(sh, home, words):
    """Also of a store that took it in, when there was no such rule,
    and never said so."""
    names = [".credentials.json.bak", ".config.json", "accounts/work/.credentials.json",
             "shell-snapshots/1.sh", f"session-env/{name(1)}/hook.sh", "skills/id_rsa"]
    good = [f"projects/-w/{name(1)}.jsonl", "CLAUDE.md", f"tasks/{name(1)}/1.json"]
    for path in names + good:
        put_into(home, path, "{}\n")
    sh("""git init -q --bare old && export GIT_DIR=$HOME/old GIT_WORK_TREE=$HOME/.claude
        git add -f . && git -c user.name=a -c user.email=a@b commit -qm x""").ok()
    sh("rm -r ~/.claude; mkdir ~/.claude").ok()
    done = sh(f"csb-restore --git-dir old {words} --target-dir out")
    assert done.rc == 0 and "left out: " in done.err
    sh(f"csb-restore --git-dir old {name(1)}")
    for path in names:
        assert not (home.claude / path).exists()
        assert not (home.path / "out" / path).exists()
    assert (home.claude / good[0]).exists() and (home.claude / good[2]).exists()
