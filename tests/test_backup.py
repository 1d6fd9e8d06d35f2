"""csb-backup: both pipelines, one run at a time, whatever breaks."""
import os
import shutil
import signal
import subprocess
import time

import faults
import pytest
from conftest import LONG, backup_log, held, line, name, payload

pytestmark = pytest.mark.logic

SLUG = "-srv-app"
LOCK = 'exec 9>"$CSB_HOME/lock"; flock 9;'


def said(number, text):
    """One line of a transcript."""
    return line(text, sessionId=name(number), cwd="/srv/app", uuid=text)


@pytest.fixture
def claude(home):
    """A Claude directory with three sessions and settings."""
    folder = home.claude / "projects" / SLUG
    folder.mkdir(parents=True)
    for number in range(3):
        (folder / f"{name(number)}.jsonl").write_text(
            said(number, f"question {number}")
        )
    (home.claude / "settings.json").write_text("{}\n")
    return folder


def kinds(done):
    return [(r["kind"], r.get("class") or r.get("change")) for r in done.records]


def test_it_stores_and_indexes_and_says_what_is_new(sh, claude):
    done = sh("csb-backup").ok()
    commits = [("commit", "noise"), ("commit", "user")]
    assert sorted(kinds(done)) == commits + [("session", "new")] * 3
    for number in range(3):
        assert f"projects/{SLUG}/{name(number)}.jsonl" in held(sh)
    assert sh("csb-backup").ok().out == "", "nothing changed, nothing to say"
    with open(claude / f"{name(1)}.jsonl", "a") as file:
        file.write(said(1, "more"))
    assert sorted(kinds(sh("csb-backup").ok())) == [
        ("commit", "noise"), ("session", "grew")]
    (claude / f"{name(2)}.jsonl").unlink()
    assert sorted(kinds(sh("csb-backup").ok())) == [
        ("commit", "noise"), ("session", "deleted")]


def test_it_does_what_the_pipelines_do_by_hand(sh, claude, tmp_path):
    sh("csb-backup").ok()
    other = {"CSB_HOME": str(tmp_path / "other")}
    sh("csb-find | csb-index && csb-changes | csb-gitcommit", **other).ok()
    tree = 'git --git-dir="$CSB_HOME/git" ls-tree -r main | grep -v .csb/'
    assert sh(tree).ok().out == sh(tree, **other).ok().out
    listed = sh("csb-list --sort started").ok().out
    assert sh("csb-list --sort started", **other).ok().out == listed


def test_the_index_alone(sh, claude, home):
    assert kinds(sh("csb-backup --no-commit").ok()) == [("session", "new")] * 3
    assert not (home.backup / "git").exists()
    assert len(sh("csb-list").ok().records) == 3
    assert os.stat(home.backup).st_mode & 0o777 == 0o700


@pytest.mark.long
def test_quiet(sh, claude):
    assert sh("csb-backup --quiet").ok().out == ""
    assert sh("csb-backup --quiet").ok().out == ""
    path = claude / f"{name(1)}.jsonl"
    path.write_text(path.read_text() + said(1, "more"))
    path.chmod(0)
    done = sh("csb-backup --quiet")
    assert (done.rc, done.out) == (1, "")
    assert f"{name(1)}.jsonl" in done.err and "Permission denied" in done.err
    loud = sh("csb-backup")
    assert loud.rc == 1
    assert sorted(loud.err.splitlines()) == sorted(done.err.splitlines())
    path.chmod(0o600)
    (claude / f"{name(2)}.jsonl").write_text("")
    assert sh("csb-backup --quiet").ok().out == "", "a rewrite is news, not a failure"


@pytest.mark.parametrize(
    "make",
    [
        "rmdir ~/.claude",
        "rmdir ~/.claude && touch ~/.claude",
        "true",
        "git init -q ~/.claude",
    ],
)
def test_no_claude_directory_is_one_line(sh, home, make):
    sh(make).ok()
    options = ["", "--no-commit", "--quiet", "--accept-deletions"]
    for option in options if "rmdir" in make else options[:3]:
        done = sh(f"csb-backup {option}")
        assert (done.rc, done.out, done.err.count("\n")) == (1, "", 1), done
        assert str(home.claude) in done.err
        assert not home.backup.exists()


def test_where_all_is_gone_it_names_the_way_back(sh, claude, home):
    sh("csb-backup").ok()
    for loss in ("rm -r ~/.claude/projects", "rm ~/.claude/*", "rmdir ~/.claude"):
        sh(loss).ok()
        done = sh("csb-backup --quiet")
        assert done.rc == 1 and "csb restore --deleted brings" in done.err, done


def test_projects_behind_a_link(sh, home, tmp_path):
    (tmp_path / "big" / SLUG).mkdir(parents=True)
    (tmp_path / "big" / SLUG / f"{name(0)}.jsonl").write_text(said(0, "x"))
    (home.claude / "projects").symlink_to(tmp_path / "big")
    assert ("session", "new") in kinds(sh("csb-backup").ok())


def test_a_lock_that_is_held_past_the_wait(sh, claude, home):
    home.backup.mkdir()
    for option in ("--wait 0", "--wait 0.1", "--quiet --wait 0"):
        done = sh(f"{LOCK} csb-backup {option}")
        assert (done.rc, done.out, done.err.count("\n")) == (75, "", 1), done
    assert not (home.backup / "git").exists()
    assert sh("csb-backup").ok().out, "a lock file that nobody holds is no lock"


def test_no_run_answers_for_another_one(sh, claude, home):
    """Of those that wait none says that all is well because another will see to it."""
    home.backup.mkdir()
    script = LOCK + """
        csb-backup --wait 0.5 9>&- & first=$!
        csb-backup --wait 0.5 --quiet 9>&-; echo $?
        wait $first; echo $?"""
    done = sh(script)
    assert done.out == "75\n75\n" and done.err.count("\n") == 2, done
    assert [run["outcome"] for run in backup_log(home)] == ["busy", "busy"]
    assert not (home.backup / "git").exists()


def test_each_that_waits_does_its_own_run(sh, claude, home):
    home.backup.mkdir()
    script = LOCK + """
        csb-backup --quiet 9>&- & first=$!
        csb-backup --quiet 9>&- & second=$!
        sleep 0.5
        echo late >~/.claude/late
        flock -u 9
        wait $first && wait $second"""
    sh(script).ok()
    assert "late" in held(sh)
    assert [run["outcome"] for run in backup_log(home)] == ["ok", "ok"]
    assert sorted(run["bytes"] > 0 for run in backup_log(home)) == [False, True]


@pytest.mark.long
def test_many_at_once(sh, claude, home):
    sh("""pids=
        for n in 1 2 3 4 5 6; do
            echo $n >~/.claude/file$n
            csb-backup --quiet &
            pids="$pids $!"
        done
        for p in $pids; do wait $p || exit $?; done""").ok()
    assert {f"file{n}" for n in range(1, 7)} <= set(held(sh))
    sh('git --git-dir="$CSB_HOME/git" fsck --strict 2>/dev/null').ok()


@pytest.mark.parametrize("line, rc, err", [
    ("exec 3> >(:); wait $!; csb-backup >&3", 141, 0), ("csb-backup >/dev/full", 1, 1),
    ("csb-backup 2>/dev/full", 0, 0)])
@pytest.mark.few(2)
def test_a_broken_stdout_does_not_stop_the_backup(sh, claude, line, rc, err):
    done = sh(line)
    assert (done.rc, done.err.count("\n")) == (rc, err), done
    assert f"projects/{SLUG}/{name(2)}.jsonl" in held(sh)
    assert len(sh("csb-list").ok().records) == 3


FATES = [
    ("sys.exit(2)", 1, "ended with status 2"),
    ("sys.exit(3)", 3, "with status 3"),
    ("sys.exit(75)", 75, "with status 75"),
    ("sys.exit(5)", 1, "ended with status 5"),
    ("os.kill(os.getpid(), signal.SIGKILL)", 1, "was killed by signal 9"),
    ("sys.exit('csb-x: no')", 1, "csb-x: no"),
]


@pytest.mark.parametrize("stage, code, rc, words", [
    *(("csb-index", *fate) for fate in FATES), ("csb-find", *FATES[4])])
@pytest.mark.few(2)
def test_an_index_that_fails_does_not_keep_the_commit_from_happening(
        sh, claude, stages, stage, code, rc, words):
    stages(stage, code)
    done = sh("csb-backup")
    assert (done.rc, done.err.count("\n")) == (rc, 1) and words in done.err, done
    assert {("commit", "noise"), ("commit", "user")} <= set(kinds(done))
    assert f"projects/{SLUG}/{name(2)}.jsonl" in held(sh)
    if stage == "csb-index":
        quiet = sh("csb-backup --quiet")
        assert (quiet.rc, quiet.out, quiet.err) == (rc, "", done.err)


@pytest.mark.parametrize("stage, code, rc, words", [
    *(("csb-gitcommit", *fate) for fate in FATES), ("csb-changes", *FATES[4])])
@pytest.mark.few(2)
def test_a_commit_that_fails_does_not_keep_the_index_from_being_made(
        sh, claude, stages, stage, code, rc, words):
    stages(stage, code)
    done = sh("csb-backup")
    assert (done.rc, done.err.count("\n")) == (rc, 1) and words in done.err, done
    assert kinds(done) == [("session", "new")] * 3


def test_tools_that_are_missing(sh, claude, home, stages):
    """All are named in one line, and nothing is done without them."""
    for tool in ("csb-index", "csb-verify"):
        stages(tool, None)
    done = sh("csb-backup")
    assert (done.rc, done.out, done.err.count("\n")) == (3, "", 1)
    assert "cannot find csb-index, csb-verify beside csb-backup" in done.err
    assert not (home.backup / "git").exists()


def test_quiet_keeps_what_stages_say_until_something_fails(sh, claude, stages):
    said = "sys.stdin.read()\nprint('some news', file=sys.stderr)\n"
    stages("csb-index", said)
    assert sh("csb-backup").err == "some news\n"
    sh("csb-backup --quiet").ok()
    stages("csb-index", said + "sys.exit(1)")
    assert sh("csb-backup --quiet").err == "some news\n"
    stages("csb-index", said * 3000 + "sys.exit(1)")
    assert sh("csb-backup --quiet").err == "some news\n" * 3000


def test_the_worst_status_wins(sh, claude, stages):
    stages("csb-index", "sys.exit(75)")
    stages("csb-gitcommit", "sys.exit(1)")
    assert sh("csb-backup").rc == 1, "trying again would not help"
    stages("csb-gitcommit", "sys.exit(3)")
    assert sh("csb-backup").rc == 3


def test_much_of_both_pipelines_comes_out_in_whole_lines(sh, claude, stages):
    record = '{{"kind":"{}","change":"new","n":%d,"x":"{}"}}\\n'
    for stage, kind in (("csb-index", "session"), ("csb-gitcommit", "commit")):
        text = record.format(kind, kind[0] * 900)
        write = f"for n in range(3000): sys.stdout.write('{text}' % n)"
        stages(stage, f"sys.stdin.read()\n{write}")
    done = sh("csb-backup").ok()
    for kind in ("session", "commit"):
        assert [r["n"] for r in done.records if r["kind"] == kind] == list(range(3000))


def test_only_commits_and_sessions_that_changed_come_out(sh, claude, stages):
    stages(
        "csb-index",
        """sys.stdin.read()\nprint('''{"kind":"session","n":1,"change":"same"}
{"kind":"session","n":3,"title":"\\\\"change\\\\":\\\\"same\\\\"","change":"new"}
{"kind":"end"}
[1]
garbage''')""",
    )
    stages(
        "csb-gitcommit", """sys.stdin.read()\nprint('{"kind":"refused","path":"x"}')"""
    )
    assert [r.get("n") for r in sh("csb-backup").ok().records] == [3]


def test_a_rewrite_is_told(sh, claude):
    sh("csb-backup").ok()
    (claude / f"{name(0)}.jsonl").write_text(said(0, "another question"))
    (claude / f"{name(1)}.jsonl").write_text("")
    done = sh("csb-backup")
    assert (done.rc, done.err.count("\n")) == (0, 2), done
    for number in (0, 1):
        text = f"session {name(number)} was rewritten (both versions are kept)"
        assert f"csb-backup: {text}\n" in done.err
    assert {("session", "rewritten"), ("session", "shrunk")} <= set(kinds(done))
    assert sh("csb-backup").ok().out == ""


@pytest.mark.long
def test_options_reach_the_stages(sh, claude, home, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(home.claude, moved)
    store = tmp_path / "store.git"
    sh(
        f"csb-gitcommit --make --claude-dir {moved} --git-dir {store} && "
        f"csb-backup --claude-dir {moved} --git-dir {store}",
        CLAUDE_CONFIG_DIR=None,
    ).ok()
    assert store.is_dir() and not (home.backup / "git").exists()
    assert {r["root"] for r in sh("csb-list").ok().records} == {str(moved)}
    refused = sh(f"csb-backup --git-dir {store}")
    assert refused.rc == 3, "a store of another directory"
    sh(f"csb-backup --git-dir {store} --adopt").ok()


def test_several_claude_directories_are_kept_apart(sh, claude, home):
    """Each has a backup beside it, whether an option or the environment names it."""
    work = home.path / ".claude-work"
    shutil.copytree(home.claude, work)
    (work / "projects" / SLUG / f"{name(0)}.jsonl").rename(
        work / "projects" / SLUG / f"{name(7)}.jsonl")
    (work / "sessions").mkdir()
    (work / "sessions" / "1.key").write_text("secret")

    sh(f"csb-backup --claude-dir {work}", CSB_HOME=None).ok()
    sh("csb-backup", CSB_HOME=None).ok()

    usual = {name(0), name(1), name(2)}
    listed = sh("csb-list", CSB_HOME=None).ok().records
    assert {record["session_id"] for record in listed} == usual
    expected = usual - {name(0)} | {name(7)}
    for words in (
        f"csb-list --claude-dir {work}",
        f"CLAUDE_CONFIG_DIR={work} csb-list",
    ):
        listed = sh(words, CSB_HOME=None).ok().records
        assert {record["session_id"] for record in listed} == expected
    held = sh(f"git --git-dir={work}-backup/git ls-tree -r --name-only main").ok().out
    assert f"projects/{SLUG}/{name(7)}.jsonl" in held and ".key" not in held


def test_backup_log(sh, claude, home, stages):
    """Each run that was to store something says who called,
    how it ended and what it stored."""
    began = time.time()
    sh("csb-backup --event SessionEnd --quiet; csb-backup; csb-backup --no-commit").ok()
    first, second = backup_log(home)
    assert (first["event"], first["outcome"], second["event"]) == (
        "SessionEnd", "ok", "hand")
    assert first["bytes"] > 0 == second["bytes"]
    for one in first, second:
        assert list(one)[:4] == ["kind", "at", "event", "outcome"]
        assert 0 <= one["seconds"] < 60 and not {"env", "reason"} & one.keys()
        assert time.strftime("%Y-%m-%dT%H:%M", time.gmtime(began)) <= one["at"]
    assert (home.backup / "backup.log").stat().st_mode & 0o777 == 0o600
    assert sh(f"{LOCK} csb-backup --wait 0.1").rc == 75
    stages("csb-gitcommit", "sys.exit(1)")
    (home.claude / "new").write_text("new")
    assert sh("csb-backup").rc == 1
    assert sh("csb-backup --claude-dir /nowhere/there").rc == 1
    runs = backup_log(home)
    assert [one["outcome"] for one in runs] == ["ok", "ok", "busy", "failed", "failed"]
    assert "lock" in runs[2]["reason"]


def test_backup_log_is_rotated_and_never_stops_a_backup(sh, claude, home):
    home.backup.mkdir(exist_ok=True)
    path = home.backup / "backup.log"
    path.write_text("x" * (1 << 20) + "\n")
    sh("csb-backup; csb-backup").ok()
    assert len(backup_log(home)) == 2, "what filled it is with the old ones"
    assert path.with_name("backup.log.1").stat().st_size > 1 << 20
    path.unlink()
    path.mkdir()
    sh("csb-backup").ok()


def test_deletions_of_everything_must_be_confirmed(sh, claude, home):
    sh("csb-backup").ok()
    shutil.rmtree(home.claude / "projects")
    done = sh("csb-backup")
    assert done.rc == 1 and f"projects/{SLUG}/{name(0)}.jsonl" in held(sh)
    assert len(sh("csb-list --deleted").records) == 3, "they are missing"
    done = sh("csb-backup --accept-deletions").ok()
    assert kinds(done).count(("session", "deleted")) == 3
    assert f"projects/{SLUG}/{name(0)}.jsonl" not in held(sh)


@pytest.mark.parametrize(
    "number, rc", [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)]
)
@pytest.mark.few(2)
def test_a_signal_ends_the_stages_too(sh, claude, home, stages, number, rc, tmp_path):
    stages("csb-index", f"open({str(tmp_path / 'there')!r}, 'w')\ntime.sleep(60)")
    def heard():
        # Not so under nohup.
        signal.signal(getattr(signal, number), signal.SIG_DFL)

    tool = subprocess.Popen(["csb-backup"], env=home.env, stderr=subprocess.PIPE,
                            preexec_fn=heard)
    while not (tmp_path / "there").exists():
        assert tool.poll() is None
        time.sleep(0.01)
    # Until csb-backup knows it too: one just started ends when its input does.
    time.sleep(0.5)
    tool.send_signal(getattr(signal, number))
    assert tool.wait(LONG) == rc
    started = time.monotonic()
    assert tool.stderr.read() == b"", "a stage that still runs has it open"
    took = time.monotonic() - started
    assert took < 30, "one that was just started ends when its input does"
    sh('flock -n "$CSB_HOME/lock" true').ok()


def test_while_it_works_and_after_it_was_killed(sh, claude, home, stages, tmp_path):
    there = tmp_path / "there"
    stages("csb-index", f"open({str(there)!r}, 'w')\nsys.stdin.read()\ntime.sleep(9)")
    tool = subprocess.Popen(["csb-backup"], env=home.env, stderr=subprocess.DEVNULL)
    while not there.exists():
        assert tool.poll() is None
        time.sleep(0.01)
    assert sh('flock -n "$CSB_HOME/lock" true').rc == 1
    tool.kill()
    tool.wait()
    # A stage that was just being started has the lock's descriptor until it is itself.
    sh('flock -w 5 "$CSB_HOME/lock" true').ok()


@pytest.mark.parametrize("options", [
    "--wait x", "--wait -1", "--wait nan", "word", "--nope", "--no-commit --session x",
    "--session ''", "--session x --first y"])
@pytest.mark.few(2)
def test_misuse(sh, claude, home, options):
    done = sh(f"csb-backup {options}")
    assert (done.rc, done.out, done.err.count("\n")) == (2, "", 1)
    # As a hook: 2 would block Claude Code.
    assert sh(f"csb backup --quiet {options}").rc == 1
    assert not home.backup.exists()


@pytest.mark.parametrize(
    "make",
    [
        "touch ~/.claude-backup",
        "mkdir -m 500 ~/.claude-backup",
        "mkdir -p ~/.claude-backup/lock",
    ],
)
def test_a_home_that_cannot_be_used(sh, claude, home, make):
    done = sh(f"{make}; csb-backup")
    assert (done.rc, done.out, done.err.count("\n")) == (1, "", 1), done
    assert str(home.backup) in done.err


def test_no_fifo_in_the_home_keeps_a_backup_waiting(sh, claude, home):
    sh("csb-backup").ok()
    for file in ("agreed", "backup.log", "tidied", "git/csb.seen", "made-anew"):
        place = home.backup / file
        place.unlink(missing_ok=True)
        os.mkfifo(place)
    (claude / f"{name(3)}.jsonl").write_text(said(3, "more"))
    assert ("session", "new") in kinds(sh("csb-backup --tidy").ok())
    for lock in ("git/csb.lock", "lock"):
        (home.backup / lock).unlink()
        os.mkfifo(home.backup / lock)
        (claude / f"{name(4)}.jsonl").write_text(said(4, lock))
        done = sh("csb-backup")
        assert (done.rc, done.err.count("\n")) == (1, 1) and f"{lock}'" in done.err


def test_a_home_inside_the_claude_directory(sh, claude, home):
    assert sh("csb-backup", CSB_HOME=str(home.claude / "backup")).rc == 1
    assert not (home.claude / "backup").exists()


@pytest.mark.long
def test_how_many_programs_are_started(sh, claude, home, tools, tmp_path):
    """A fork that goes on counts, a thread does not."""
    reason = faults.missing(tmp_path)
    if reason:
        pytest.skip(reason)
    log = tmp_path / "log"
    strace = (f"strace -f -qq -o {log} -e status=successful "
              "-e trace=?execve,?clone,?clone3,?fork,?vfork")

    def started(words, stdin=b""):
        sh(f"{strace} {tools.bin}/{words}", stdin, PATH="/usr/bin:/bin").ok()
        programs = []
        forks = set()
        for process, call in faults.joined(log.read_text().splitlines()):
            if call.startswith("execve("):
                programs.append(process)
            elif "fork(" in call or "clone" in call and "CLONE_THREAD" not in call:
                forks.add(call.rpartition(" = ")[2])
        return len(programs) + len(forks.difference(programs))

    large = claude / f"{name(0)}.jsonl"
    large.write_text(said(0, "x" * (2 << 20)))
    time.sleep(2.1)         # until what is read is not too young
    sh("csb-backup && csb-backup").ok()
    assert started("csb-backup --quiet") <= 3
    (home.claude / "notes.txt").write_text("x")
    assert started("csb-backup --quiet") <= 12
    for number in 1, 2:     # the second time its pack grows
        with open(large, "a") as file:
            file.write(said(0, str(number) * 10000))
        assert started("csb-backup --quiet") <= 12
    time.sleep(2.1)         # nothing but the line is new, and that is
    sh("csb-backup").ok()
    with open(large, "a") as file:
        file.write(said(0, "more"))
    assert started("csb-hook", payload("SessionEnd")) <= 14


# --- looking after the store ----------------------------------------------------------


def tidied(home):
    return [run["outcome"] for run in backup_log(home, "tidy")]


@pytest.mark.parametrize("event, is_due", [
    ("timer", True), ("SessionStart", True), ("SessionEnd", False), ("hand", False)])
@pytest.mark.few(2)
def test_the_store_is_looked_after_once_a_day(sh, claude, home, event, is_due):
    expected = ["ok"] if is_due else []
    for _ in range(2):
        sh(f"csb-backup --quiet --event {event}").ok()
        assert tidied(home) == expected
    if is_due:
        assert backup_log(home, "tidy")[0]["checked"] >= 1
        yesterday = time.time() - 86400 - 60
        os.utime(home.backup / "tidied", (yesterday, yesterday))
        sh(f"csb-backup --quiet --event {event}").ok()
        assert tidied(home) == ["ok", "ok"]
    sh("csb-backup --quiet --tidy").ok()
    assert len(tidied(home)) == (3 if is_due else 1)


def test_many_loose_objects_do_not_wait_for_the_next_day(sh, claude, home):
    sh("csb-backup --quiet --event timer").ok()
    blobs = home.path / "blobs"
    blobs.mkdir()
    for number in range(510):
        (blobs / str(number)).write_text(str(number))
    sh("ls ~/blobs/* | git --git-dir=$CSB_HOME/git hash-object -w --stdin-paths").ok()
    sh("csb-backup --quiet --event timer").ok()
    assert tidied(home) == ["ok", "ok"]
    count = "git --git-dir=$CSB_HOME/git count-objects"
    assert sh(count).ok().out.startswith("0 objects")


def test_damage_that_is_found_is_noted_and_is_no_failed_backup(
    sh, claude, home, stages
):
    stages("csb-verify", "sys.exit('csb-verify: the store lost an object')")
    done = sh("csb-backup --event timer")
    assert (done.rc, done.err) == (0, "csb-verify: the store lost an object\n")
    (record,) = backup_log(home, "tidy")
    assert record["outcome"] == "failed"
    assert record["reason"] == "csb-verify: the store lost an object"
    assert backup_log(home)[0]["outcome"] == "ok"


def test_after_damage_all_is_read_back(sh, claude, home, stages):
    """Another sample might miss what was found, and say that all is well."""
    note = "open(os.environ['CSB_HOME'] + '/asked', 'a').write(f'{sys.argv[1:]}\\n')\n"
    for code, how in (("sys.exit(1)", "--percent"), ("", "[]"), ("", "--percent")):
        stages("csb-verify", note + code)
        sh("csb-backup --quiet --tidy")
        assert how in (home.backup / "asked").read_text().splitlines()[-1]
    assert tidied(home) == ["failed", "ok", "ok"]


def test_a_repository_of_the_users_is_theirs_to_pack(sh, claude, home, stages):
    sh("git init -q ~/.claude").ok()
    stages("csb-gc", "sys.exit('csb-gc: it was started')")
    sh("csb-backup --quiet --event timer").ok()
    assert tidied(home) == ["ok"]


def test_the_reason_of_a_failure_is_in_the_log(sh, claude, home, stages):
    stages("csb-gitcommit", "sys.exit('csb-gitcommit: the disk is full')")
    sh("csb-backup --quiet")
    stages("csb-gitcommit", None)
    sh("csb-backup --quiet")
    stages("csb-gitcommit", "os.kill(os.getpid(), 9)")
    sh("csb-backup")
    reasons = [run["reason"] for run in backup_log(home)]
    assert reasons[0] == "csb-gitcommit: the disk is full"
    assert reasons[1].startswith("cannot find csb-gitcommit ")
    assert reasons[2] == "csb-backup: csb-gitcommit was killed by signal 9"


def test_what_could_not_be_stored_is_the_reason(sh, claude, home, stages):
    """On a full disk the index complains, too, and most often first."""
    stages("csb-gitcommit", "sys.stdin.read(); time.sleep(1); sys.exit('cannot store')")
    stages("csb-index", "sys.exit('cannot index')")
    done = sh("csb-backup --quiet")
    assert done.err == "cannot index\ncannot store\n"
    assert backup_log(home)[0]["reason"] == "cannot store"


def test_the_wait_holds_for_the_lock_of_the_store(sh, claude, home, put):
    sh("csb-backup --quiet").ok()
    put(7)
    done = sh("exec 9>>$CSB_HOME/git/csb.lock; flock 9; csb-backup --wait 0.1 9>&-")
    assert done.rc == 75 and "lock" in done.err
