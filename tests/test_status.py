"""csb-status: it says that all is backed up when the store holds it, and only then."""
import functools
import json
import os
import shutil
import sqlite3
import time

import pytest
from conftest import at, line, name, put_into

pytestmark = pytest.mark.logic

DAY = 86400
ALONE = "nothing backs up by itself: there is neither a timer nor a hook (csb setup)"


def make_session(home, number, days=1.0, text="hello"):
    """A session of two messages, last written to so many days ago; its path."""
    said = [line(text, role, timestamp=at(-days * DAY), uuid=f"{number}{role}")
            for role in ("user", "assistant")]
    return put_into(home, number, "".join(said), mtime=time.time() - days * DAY)


@pytest.fixture
def put(home):
    """put(number, days, text): make_session() in the home of the test."""
    return functools.partial(make_session, home)


def back_up_one(sh, home):
    """A session, backed up."""
    make_session(home, 1)
    sh("csb-backup").ok()


@pytest.fixture
def backed_up(once):
    """A session, backed up."""
    once(back_up_one)


@pytest.fixture
def status(sh):
    """status(): (exit status, the one record) of csb-status;
    err: what it says on stderr."""
    def ask(options="", err=""):
        done = sh(f"csb-status {options}")
        assert err in done.err and bool(done.err) == bool(err), done
        (record,) = done.records
        assert (done.rc == 1) == bool(record["warnings"]) and done.rc in (0, 1), record
        # These homes have neither a timer nor a hook;
        # what else is there is the subject.
        alone, = [text for text in record["warnings"] if text.startswith(ALONE)]
        record["warnings"].remove(alone)
        done.rc = 1 if record["warnings"] else 0
        assert (record.get("covered") is True) <= (record.get("uncovered_files") == 0)
        return done.rc, record
    return ask


def test_an_empty_folder_is_no_file_without_a_backup(backed_up, status, home):
    (home.claude / "agents").mkdir()
    rc, record = status()
    assert (rc, record["covered"], record["uncovered_files"]) == (0, True, 0)


def test_from_nothing_to_covered_and_back(sh, put, status, home):
    path = put(1)
    rc, record = status()
    assert (rc, record["covered"], record["uncovered_files"]) == (1, False, 1)
    assert record["uncovered"] == [
        {
            "path": f"projects/-w/{name(1)}.jsonl",
            "change": "new",
            "size": path.stat().st_size,
        }
    ]
    assert "there is no store" in record["warnings"][0]
    assert "csb backup" in record["warnings"][0]
    assert len(record["warnings"]) == 1, "that no file is stored goes without saying"
    assert not home.backup.exists(), "a reader makes nothing"
    sh("csb-backup").ok()
    rc, record = status()
    assert (rc, record["covered"]) == (0, True)
    assert record["warnings"] == record["uncovered"] == []
    assert (record["files"], record["commits"]) == (1, 1)
    assert record["ref"] == "refs/heads/main"
    assert record["store"] == str(home.backup / "git") and record["store_bytes"] > 1000
    assert record["sessions"] == {"present": 1, "deleted": 0, "husk": 0, "rewritten": 0}
    for field in ("last_commit_at", "last_stored_at", "last_run_at", "last_success_at"):
        assert at(-60) <= record[field] <= at(0), field
    with open(path, "a") as file:
        file.write("{}\n")
    (home.claude / "settings.json").write_text("{}")
    rc, record = status()
    assert (rc, record["covered"], record["uncovered_bytes"]) == (
        1, False, path.stat().st_size + 2)
    assert [one["change"] for one in record["uncovered"]] == ["new", "grew"]
    assert record["warnings"][0].startswith("2 files (")
    put(2)
    sh("csb-backup").ok()
    path.unlink()
    rc, record = status()
    assert (rc, record["covered"], record["gone"]) == (0, True, 1), "the store holds it"


def test_the_first_ten_of_many(put, status):
    for number in range(25):
        put(number)
    record = status()[1]
    assert record["uncovered_files"] == 25
    assert [one["path"][-6:] for one in record["uncovered"]] == [
        f"{number}.jsonl"[-6:] for number in range(10)]


@pytest.mark.parametrize(
    "spoil, words",
    [
        ("rm -rf $CSB_HOME/git", "there is no store"),
        ("rm -rf $CSB_HOME/git && git init -q --bare $CSB_HOME/git", "holds no backup"),
        (
            "git --git-dir $CSB_HOME/git update-ref -d refs/heads/main",
            "holds no backup",
        ),
        (
            "cd $CSB_HOME && git clone -q --bare git copy && rm -r git && mv copy git",
            "none that csb made here (csb restore --deleted",
        ),
        ("git --git-dir $CSB_HOME/git update-ref refs/heads/main main~1", "1 file ("),
        ("find $CSB_HOME/git/objects -type f -delete", "holds no backup"),
        (
            "cd $CSB_HOME/git && oid=$(git rev-parse main:projects/-w) && "
            "rm objects/${oid:0:2}/${oid:2}",
            "cannot read the newest commit of the store",
        ),
        (
            "cd $CSB_HOME/git && "
            "for oid in $(git ls-tree main:projects/-w | cut -c13-52); do "
            "rm objects/${oid:0:2}/${oid:2}; done",
            "the store has lost the bytes of 2 files, first of",
        ),
    ],
)
@pytest.mark.few(1)
def test_the_index_says_all_is_well_and_the_store_does_not_hold_it(
    sh, backed_up, put, status, spoil, words
):
    """A fresh index, a fresh csb.seen: neither is believed."""
    put(2)
    sh("csb-backup").ok()
    assert status()[0] == 0
    sh(spoil).ok()
    rc, record = status()
    assert rc == 1 and record.get("covered") is not True
    assert any(words in text for text in record["warnings"]), record["warnings"]
    sessions = record.get("sessions", {})
    assert sessions.get("present") == 2, "which is what the index says"


def test_an_index_alone_is_no_backup(sh, put, status):
    put(1)
    sh("csb-backup --no-commit").ok()
    rc, record = status()
    assert (rc, record["covered"], record["sessions"]["present"]) == (1, False, 1)
    assert "last_stored_at" not in record and "last_commit_at" not in record


@pytest.mark.parametrize("spoil", ["rm $CSB_HOME/session-backup.db*",
                                   "echo damage > $CSB_HOME/session-backup.db"])
@pytest.mark.few(1)
def test_without_an_index(sh, backed_up, status, spoil):
    sh(spoil).ok()
    rc, record = status()
    assert (rc, record["covered"]) == (0, True) and "sessions" not in record
    assert record["notes"][0].startswith("nothing is known of the sessions: cannot ")


@pytest.mark.parametrize(
    "spoil", ["rm -r ~/.claude", "rm -r ~/.claude/*", "chmod 000 ~/.claude"]
)
@pytest.mark.few(2)
def test_nothing_to_compare_with(sh, backed_up, status, home, spoil):
    sh(spoil).ok()
    try:
        rc, record = status()
    finally:
        if home.claude.exists():
            home.claude.chmod(0o700)
    assert rc == 1
    assert "covered" not in record
    assert str(home.claude) in record["warnings"][0]
    assert ("csb restore --deleted" in record["warnings"][0]) == ("chmod" not in spoil)


def test_projects_that_vanished(sh, put, status, home):
    put(1)
    (home.claude / "CLAUDE.md").write_text("x")
    sh("csb-backup").ok()
    shutil.rmtree(home.claude / "projects")
    rc, record = status()
    assert rc == 1 and "covered" not in record and "projects" in record["warnings"][0]
    assert "csb restore --deleted" in record["warnings"][0]


def test_what_cannot_be_read(sh, backed_up, status, home):
    locked = home.claude / "projects" / "-locked"
    for number in range(3):
        (home.claude / "projects" / f"-{number}").mkdir()
        (home.claude / "projects" / f"-{number}").chmod(0)
    locked.mkdir(mode=0)
    rc, record = status()
    assert (rc, record["unreadable"]) == (1, 4) and "covered" not in record
    assert "Permission denied (and 3 lines more)" in record["warnings"][0]


def test_what_is_by_rule_is_no_warning(sh, put, status, home, tmp_path):
    put(1)
    (tmp_path / "far").write_text("x")
    (home.claude / "skills").mkdir()
    (home.claude / "near").write_text("x")
    for link, target in (
        ("CLAUDE.md", tmp_path / "far"),
        ("skills/far", tmp_path / "gone"),
        ("skills/near", "../near"),
        ("self", "self"),
    ):
        (home.claude / link).symlink_to(target)
    (home.claude / "id_rsa").write_text("x")
    (home.claude / ".credentials.json").write_text("x")
    assert status()[1]["links"] == ["CLAUDE.md", "skills/far"], "before the backup"
    sh("csb-backup").ok()
    rc, record = status()
    assert (rc, record["covered"]) == (0, True)
    assert (record["refused"], record["links_outside"]) == (2, 2)
    assert "CLAUDE.md, skills/far" in record["notes"][0]
    (home.backup / "config.json").write_text('{"refuse": ["CLAUDE.md", "skills/far"]}')
    rc, record = status()
    assert rc == 0 and "links_outside" in record, "the store still holds the links"
    (home.backup / "config.json").write_text("{")
    done = sh("csb-status")
    assert (done.rc, done.out, done.err.count("\n")) == (1, "", 1)


def test_too_young_is_covered(sh, put, status, home):
    """What was written less than 2 s before it was read;
    a slow machine gets more than one try."""
    put(1)
    for number in range(9):
        (home.claude / "new").write_text(str(number))
        sh("csb-backup").ok()
        rc, record = status()
        assert (rc, record["covered"]) == (0, True)
        if record["recheck"]:
            break
    assert record["recheck"] >= 1


def test_states_of_sessions(sh, put, status, home):
    for number, days in ((1, 1), (2, 25), (3, 29.5), (4, 40), (5, 3), (6, 2)):
        put(number, days)
    husk = home.claude / "projects" / "-w" / name(7)
    husk.mkdir()
    (husk / "x").write_text("x")
    sh("csb-backup").ok()
    put(5).unlink()
    put(6, text="rewritten")
    assert sh("csb-backup").rc == 0
    rc, record = status()
    assert record["sessions"] == {"present": 5, "deleted": 1, "husk": 1, "rewritten": 1}
    assert record["rewritten"] == [name(6)] and name(6) in record["notes"][0]
    assert (rc, record["purge_soon"], record["cleanup_days"]) == (0, 3, 30)
    assert at(-11 * DAY) < record["purge_next_at"] < at(-9 * DAY), "the client is late"


@pytest.mark.long
def test_other_claude_directories_are_not_counted(sh, put, status, home, tmp_path):
    put(1)
    (tmp_path / "other" / "projects" / "-x").mkdir(parents=True)
    shutil.copy(put(1), tmp_path / "other" / "projects" / "-x" / f"{name(9)}.jsonl")
    sh(f"csb-backup; csb-find --claude-dir {tmp_path}/other | csb-index").ok()
    assert len(sh("csb-list").ok().records) == 2
    assert status()[1]["sessions"]["present"] == 1
    where = f"--claude-dir {tmp_path}/other --git-dir {tmp_path}/store"
    sh(f"csb-gitcommit --make {where}").ok()
    assert status(where)[1]["store"] == str(tmp_path / "store")


@pytest.mark.parametrize(
    "text, days",
    [
        (None, 30),
        ("{}", 30),
        ('{"cleanupPeriodDays": 365}', 365),
        ('{"cleanupPeriodDays": 0}', None),
        ('{"cleanupPeriodDays": "7"}', None),
        ('{"cleanupPeriodDays": true}', None),
        ('{"cleanupPeriodDays": 1e9}', None),
        ("{", None),
        ("[]", None),
        ("\x00", None),
    ],
)
@pytest.mark.few(1)
def test_the_setting_of_the_client(sh, put, status, home, text, days):
    put(1)
    if text is not None:
        (home.claude / "settings.json").write_text(text)
    sh("csb-backup").ok()
    rc, record = status()
    assert (rc, record.get("cleanup_days")) == (0, days)
    said = any("cannot tell when Claude Code" in note for note in record["notes"])
    assert said == (days is None)


def test_days(sh, put, status):
    for number, days in ((1, 0.001), (2, 5), (3, 5), (4, 28), (5, 70)):
        put(number, days)
    sh("csb-backup").ok()
    days = status()[1]["days"]
    assert len(days) == 30
    assert [day["day"] for day in days] == sorted(day["day"] for day in days)
    found = {day["day"]: day for day in days}
    assert found[at(-5 * DAY)[:10]] == {
        "day": at(-5 * DAY)[:10],
        "commits": 0,
        "sessions": 2,
        "messages": 4,
    }
    assert sum(day["sessions"] for day in days) == 4
    assert sum(day["commits"] for day in days) == 1


def test_the_age_of_the_last_backup(sh, put, status, home):
    """Without a log csb.seen and the commit are the signs."""
    put(1)
    sh("csb-backup && rm $CSB_HOME/backup.log").ok()
    seen = home.backup / "git" / "csb.seen"
    sh("""cd $CSB_HOME/git && export GIT_COMMITTER_DATE="2020-01-01T00:00:00Z" &&
          git -c user.name=x -c user.email=x commit-tree -m x main^{tree} >old &&
          git update-ref refs/heads/main $(cat old)""").ok()
    for days, rc in ((3.5, 1), (-9, 1), (0.5, 0)):
        os.utime(seen, (time.time() - days * DAY,) * 2)
        found, record = status()
        assert (found, record["covered"]) == (rc, True)
        assert record["last_commit_at"] == "2020-01-01T00:00:00Z"
        assert ("last_stored_at" in record) == (days > 0), "a time to come is no sign"
        if days > 1:
            warning = record["warnings"][0]
            assert warning.startswith("no backup has succeeded for 3 days (csb ")


def test_a_store_of_another_directory(sh, backed_up, status, home, tmp_path):
    """The home has another name now: no backup can be made until csb is told so."""
    old = str(home.claude)
    sh(f"git --git-dir=$CSB_HOME/git config csb.claudeDir {tmp_path}/before").ok()
    rc, record = status()
    text, = record["warnings"]
    assert rc == 1 and not record["covered"]
    assert f"backs up '{tmp_path}/before', not '{old}' (csb backup --adopt" in text
    sh("csb-backup --adopt")
    assert status() == (0, {**status()[1], "covered": True, "warnings": []})


def test_a_repository_of_ones_own(sh, put, status, home):
    put(1)
    sh("git init -q ~/.claude && csb-backup").ok()
    rc, record = status()
    assert (rc, record["ref"], record["covered"]) == (0, "refs/csb/main", True)
    assert record["store"] == str(home.claude / ".git")


def test_it_writes_nothing(sh, backed_up, put, status, home, listing):
    put(2)
    before = listing(home.path)
    assert status()[0] == 1
    assert listing(home.path) == before


def test_it_waits_for_nobody(sh, backed_up, status, home):
    db = sqlite3.connect(home.backup / "session-backup.db", isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    with (
        open(home.backup / "lock") as lock,
        open(home.backup / "git" / "csb.lock") as other,
    ):
        import fcntl
        fcntl.flock(lock, fcntl.LOCK_EX)
        fcntl.flock(other, fcntl.LOCK_EX)
        assert status()[0] == 0
    db.rollback()


@pytest.mark.parametrize(
    "stage, code, words",
    [
        (
            "csb-changes",
            "os.kill(os.getpid(), signal.SIGKILL)",
            "csb-changes ended with status -9",
        ),
        ("csb-changes", "sys.exit(75)", "csb-changes ended with status 75"),
        ("csb-changes", "sys.exit(1)", "csb-changes ended with status 1"),
        (
            "csb-changes",
            "sys.stderr.write('csb-changes: a\\nb\\n')",
            "a (and 1 line more)",
        ),
        (
            "csb-changes",
            "sys.stderr.write('csb-changes: a\\nb\\n' * 9)",
            "a (and 17 lines more)",
        ),
    ],
)
@pytest.mark.few(2)
def test_a_comparison_that_failed_is_no_proof(
    sh, backed_up, stages, status, stage, code, words
):
    stages(stage, code)
    rc, record = status()
    assert rc == 1
    assert record.get("covered") is not True
    assert words in record["warnings"][0]


def test_sessions_that_may_be_gone_are_news_until_that_is_said(sh, put, status, home):
    """All of them: until --seen; one that goes later is news again."""
    path = put(1)
    put(2)
    sh("csb-backup").ok()
    path.unlink()
    sh("csb-backup").ok()
    assert status() == status()
    assert status()[0] == 0, "another one is there"
    (home.claude / f"projects/-w/{name(2)}.jsonl").unlink()
    put_into(home, "projects/-w/memory/a.md", "a")
    sh("csb-backup").ok()
    rc, record = status()
    assert (rc, record["lost"]) == (1, 2)
    assert record["warnings"][0].endswith(
        "csb restore --deleted. To hear no more of them: csb status --seen")
    rc, record = status("--seen")
    assert rc == 0 and "lost" not in record
    assert status() == (0, record)
    put(3)
    sh("csb-backup").ok()
    time.sleep(1.1)         # times of deletions have whole seconds
    (home.claude / f"projects/-w/{name(3)}.jsonl").unlink()
    sh("csb-backup").ok()
    rc, record = status()
    assert (rc, record["lost"]) == (1, 1)


def test_a_missing_tool_is_status_3(sh, put, stages):
    put(1)
    stages("csb-changes", None)
    stages("csb-schedule", None)
    done = sh("csb-status")
    assert (done.rc, done.out, done.err.count("\n")) == (3, "", 1)
    assert "cannot find csb-changes, csb-schedule" in done.err


# --- what backs up by itself ----------------------------------------------------------

HOOK = '{"hooks": {"SessionEnd": [{"hooks": [{"type": "command", "command": "%s"}]}]}}'


@pytest.mark.parametrize("settings, found", [
    ("{}", []),
    (HOOK % "csb backup --quiet", ["hooks"]),
    (HOOK % "csb-hook", ["hooks"]),
    (HOOK % "echo done", []),
    ('{"enabledPlugins": {"csb@csb-tools": true}}', ["plugin"]),
    ('{"enabledPlugins": {"csb@csb-tools": false}}', []),
    ((HOOK % "csb-hook").replace("{", '{"disableAllHooks": true, ', 1), []),
    ('{"enabledPlugins": {"csb@csb-tools": true}, "disableAllHooks": true}', []),
])
@pytest.mark.few(2)
def test_what_backs_up_by_itself(sh, backed_up, home, settings, found):
    (home.claude / "settings.json").write_text(settings)
    sh("csb-backup").ok()
    done = sh("csb-status")
    (record,) = done.records
    assert record["automatic"] == found
    assert record["warnings"] == ([] if found else [ALONE])
    assert done.rc == (0 if found else 1)


def log_runs(home, *runs):
    """Have backup.log tell of runs: (hours ago, event), the oldest last."""
    text = [json.dumps({"kind": "backup", "at": at(-hours * 3600), "event": event,
                        "outcome": "ok"}) + "\n" for hours, event in reversed(runs)]
    (home.backup / "backup.log").write_text("".join(text))


SAYS_NOTHING = "sys.exit(3)"
A_TIMER = """print('{"kind":"timer","installed":true}')"""
NO_TIMER = """print('{"kind":"timer","installed":false}'); sys.exit(1)"""


@pytest.mark.parametrize(
    "schedule, runs, found",
    [
        (A_TIMER, [], ["timer"]),
        (NO_TIMER, [(0, "hand"), (1, "timer"), (2, "SessionEnd"), (2, "setup")], []),
        (SAYS_NOTHING, [(0, "hand"), (1, "timer")], []),
        (SAYS_NOTHING, [(0, "setup"), (0, "hand"), (1, "SessionEnd")], []),
    ],
)
@pytest.mark.few(2)
def test_a_timer_counts_if_it_is_there(
    sh, backed_up, home, stages, schedule, runs, found
):
    """Runs are no sign: what began them may be gone."""
    stages("csb-schedule", schedule)
    log_runs(home, *runs)
    assert sh("csb-status").records[0]["automatic"] == found


@pytest.mark.parametrize("available, found", [("true", ["timer"]), ("false", [])])
@pytest.mark.few(1)
def test_a_timer_that_does_not_run_is_noted(sh, backed_up, stages, available, found):
    """Its line is a comment, or the daemon that reads it is not at work."""
    record = ('{"kind":"timer","timer":"cron","installed":true,"running":false,'
              f'"available":{available},"reason":"so"}}')
    stages("csb-schedule", f"print('{record}'); sys.exit(1)")
    status = sh("csb-status").records[0]
    assert status["automatic"] == found
    note = "the timer (cron) is installed, but not running: so (csb schedule)"
    assert note in status["notes"]


@pytest.mark.long
def test_after_an_undo_nothing_backs_up(sh, backed_up, home):
    sh("csb-setup --yes")
    assert sh("csb-status").records[0]["automatic"]
    sh("csb-setup --undo; csb-backup")
    record = sh("csb-status").records[0]
    assert record["automatic"] == [] and ALONE in record["warnings"]


def test_where_the_sessions_of_ones_own_repository_are(sh, put, status, home):
    put(1)
    sh("git init -q ~/.claude && csb-backup").ok()
    note, = [note for note in status()[1]["notes"] if "refs/csb/main" in note]
    assert "'git push' does not send them, 'csb push' does" in note


def test_what_was_found_when_the_store_was_looked_after(sh, backed_up, status, home):
    with open(home.backup / "backup.log", "a") as log:
        record = {
            "kind": "tidy",
            "at": at(-60),
            "outcome": "failed",
            "reason": "a is lost",
        }
        log.write(json.dumps(record) + "\n")
    rc, record = status()
    assert (rc, record["last_tidy_outcome"]) == (1, "failed")
    said = "something was wrong: a is lost (csb verify --repair, "
    assert said in record["warnings"][0]
