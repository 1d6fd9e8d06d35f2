"""csb-status --runs, and what csb-status makes of it:
when did a backup work last, and is that long ago?"""
import json
import os
import time

import pytest
from conftest import at

pytestmark = pytest.mark.logic

DAY = 86400
STRANGE = [
    "nonsense",
    "[]",
    "3",
    "null",
    "{",
    "",
    "\\x00",
    "[" * 5000,
    '{"kind":"backup"}',
    '{"kind":"backup","at":3,"outcome":"ok"}',
    '{"kind":"backup","at":"x","outcome":"ok"}',
    '{"kind":"other","at":"2026-01-01T00:00:00Z","outcome":"ok"}',
    '{"kind":"backup","at":"2999-01-01T00:00:00Z","outcome":"ok"}',
    '{"kind":"backup","at":"2026-01-01T00:00:00Z","outcome":{}}',
    '{"kind":"backup","at":"2026-01-01T00:00:00Z","outcome":"well"}',
]


SUMMARY = """last_success_at last_outcome last_reason failures runs_last_day
run_every""".split()


def one(seconds, outcome="ok", **more):
    """A run of so many seconds ago, counted from when log() writes it."""
    return {"kind": "backup", "at": seconds, "event": "timer", "outcome": outcome,
            "seconds": 0.1, "bytes": 0, **more}


@pytest.fixture
def log(home):
    """log([newest first], name): write a log, with nonsense between the lines if asked
    to; its runs as they stand there."""
    def write(runs, name="backup.log", between=()):
        home.backup.mkdir(exist_ok=True)
        runs = [{**run, "at": at(-run["at"])} for run in runs]
        lines = [text for run in reversed(runs) for text in (*between, json.dumps(run))]
        text = "\n".join([*lines, *between, ""])
        (home.backup / name).write_text(text)
        return runs
    return write


def test_newest_first_over_both_logs(sh, log):
    runs = [one(n * 60, reason="x\udcff") for n in range(50)]
    runs = log(runs[:20]) + log(runs[20:], "backup.log.1")
    assert sh("csb-status --runs").ok().records == runs
    assert sh("csb-status --runs -n 30").ok().records == runs[:30]
    assert sh("csb-status --runs -n 99").ok().records == runs


def test_without_a_log_there_is_nothing(sh, home):
    assert sh("csb-status --runs").ok().out == ""
    os.makedirs(home.backup / "backup.log")
    os.mkfifo(home.backup / "backup.log.1")
    done = sh("csb-status --runs")
    assert (done.rc, done.out, done.err.count("\n")) == (1, "", 2), (
        "neither can be read"
    )


def test_strange_lines_are_passed_over(sh, log):
    runs = [one(60), one(120, "failed", reason=3), one(180, more={"a": [1]})]
    runs = log(runs, between=STRANGE)
    assert sh("csb-status --runs").ok().records == runs
    assert sh("csb-status").records[0]["runs_last_day"] == 3


def test_a_log_that_cannot_be_read(sh, log, home):
    log([one(60)])
    log([one(90)], "backup.log.1")
    (home.backup / "backup.log").chmod(0)
    done = sh("csb-status --runs")
    assert (done.rc, len(done.records), done.err.count("\n")) == (1, 1, 1)
    (record,) = sh("csb-status").records
    assert any("backup.log" in text for text in record["warnings"])


def test_a_folder_that_cannot_be_read(sh, log, home):
    log([one(60)])
    home.backup.chmod(0)
    done = sh("csb-status --runs")
    home.backup.chmod(0o700)
    assert (done.rc, done.records) == (1, []) and "backup.log'" in done.err


def test_a_line_that_a_full_disk_cut(sh, home, put):
    """What comes after it is not lost with it."""
    put(1)
    home.backup.mkdir()
    (home.backup / "backup.log").write_text(json.dumps(one(60))[:30])
    for _ in range(2):
        sh("csb-backup --quiet").ok()
    assert len(sh("csb-status --runs").ok().records) == 2


def test_a_large_log_is_not_read_whole(sh, log, home):
    log([one(60)] + [one(n, reason="x" * 10**5) for n in range(100, 200)])
    found = sh("csb-status --runs").ok().records
    assert found[0]["event"] == "timer" and 10 < len(found) < 101


@pytest.mark.parametrize(
    "runs, told",
    [
        (
            [one(60)],
            {"last_outcome": "ok", "success": 60, "failures": 0, "runs_last_day": 1},
        ),
        (
            [one(60, "failed", reason="full"), one(960)],
            {
                "last_outcome": "failed",
                "last_reason": "full",
                "success": 960,
                "failures": 1,
                "runs_last_day": 2,
                "run_every": 900,
            },
        ),
        (
            [
                one(60, "busy"),
                one(90, "failed"),
                one(100, "failed"),
                one(2 * DAY),
                one(2 * DAY, "failed"),
            ],
            {
                "last_outcome": "busy",
                "success": 2 * DAY,
                "failures": 2,
                "runs_last_day": 3,
            },
        ),
        (
            [one(60, "failed", reason=[])] * 3,
            {
                "last_outcome": "failed",
                "failures": 3,
                "runs_last_day": 3,
                "run_every": 0,
            },
        ),
        (
            [one(900 * n + 5) for n in range(5000)],
            {
                "last_outcome": "ok",
                "success": 5,
                "failures": 0,
                "runs_last_day": 96,
                "run_every": 900,
            },
        ),
        (
            [one(9)] + [one(900 * n, "failed") for n in range(1, 500)],
            {"last_outcome": "ok", "failures": 0, "runs_last_day": 96},
        ),
    ],
)
@pytest.mark.few(3)
def test_the_summary(sh, log, runs, told):
    log(runs)
    (record,) = sh("csb-status").records
    record = {key: value for key, value in record.items() if key in SUMMARY}
    if success := told.pop("success", 0):
        assert at(-success - 30) <= record["last_success_at"] <= at(-success + 1)
    assert told.items() <= record.items()
    assert ("last_success_at" in record) >= bool(success)
    assert ("last_reason" in record) == ("last_reason" in told)
    if "run_every" not in told:
        record.pop("run_every", None)
    assert set(record) - {"last_success_at"} == set(told)


def back_up_four_days_ago(sh, home):
    """A backup of one session that is four days old by all signs but the log."""
    folder = home.claude / "projects" / "-w"
    folder.mkdir(parents=True)
    (folder / "3f4a9b10-0000-4000-8000-000000000001.jsonl").write_text("{}\n")
    sh("csb-backup").ok()
    sh("""cd $CSB_HOME/git && export GIT_COMMITTER_DATE="2020-01-01T00:00:00Z" &&
          git -c user.name=x -c user.email=x commit-tree -m x main^{tree} >old &&
          git update-ref refs/heads/main $(cat old)""").ok()
    for path in ("git/csb.seen", "lock"):
        os.utime(home.backup / path, (time.time() - 4 * DAY,) * 2)


@pytest.fixture
def status(sh, once):
    """status(): the record of csb-status after back_up_four_days_ago()."""
    once(back_up_four_days_ago)

    def ask():
        done = sh("csb-status")
        assert done.err == "" and done.rc == bool(done.records[0]["warnings"])
        (record,) = done.records
        # What backs up by itself is not the subject.
        record["warnings"] = [
            text for text in record["warnings"] if "by itself:" not in text
        ]
        return record
    return ask


@pytest.mark.parametrize(
    "runs, warnings",
    [
        ([one(60)], []),
        ([one(DAY - 600)], []),
        ([one(60, "busy"), one(900)], []),
        ([one(2 * DAY)], ["no backup has succeeded for 2 days (csb backup"]),
        ([one(60, "busy"), one(3 * DAY)], ["no backup has succeeded for 3 days"]),
        (
            [one(60, "failed", reason="the disk is full"), one(900)],
            ["the last backup failed: the disk is full (csb backup"],
        ),
        (
            [
                one(30, "busy", reason="x"),
                one(60, "failed", reason="the disk is full"),
                one(900),
            ],
            ["the last backup failed: the disk is full (csb backup"],
        ),
        (
            [one(60, "failed"), one(90, "failed"), one(5 * DAY)],
            [
                "the last backup failed: nobody knows why (csb backup",
                "no backup has succeeded for 4 days",
            ],
        ),
        (
            [one(60, "failed")],
            ["the last backup failed", "no backup has succeeded for 4 days"],
        ),
        ([], ["no backup has succeeded for 4 days"]),
    ],
)
@pytest.mark.few(2)
def test_the_status_warns(status, log, runs, warnings):
    """By all other signs the last one was four days ago:
    the log knows better, if there is one."""
    log(runs)
    record = status()
    assert len(record["warnings"]) == len(warnings), record["warnings"]
    for text, words in zip(record["warnings"], warnings, strict=True):
        assert text.startswith(words)
    assert record["covered"] is True and ("last_outcome" in record) == bool(runs)


@pytest.mark.long
def test_it_speaks_of_the_last_run(sh, status, home):
    """The log that csb-backup writes is the one that is read."""
    sh("csb-backup --event timer").ok()
    record = status()
    assert record["last_outcome"] == "ok"
    assert (record["failures"], record["runs_last_day"]) == (0, 2)
    (home.claude / "settings.json").write_text("{}")
    (home.claude / "settings.json").chmod(0)
    assert sh("csb-backup --quiet").rc == 1
    failed = "the last backup failed: csb-gitcommit: cannot read 'settings.json'"
    assert failed in " ".join(status()["warnings"])
    (home.claude / "settings.json").chmod(0o600)
    sh("csb-backup --quiet").ok()
    assert status()["warnings"] == []


def test_a_run_that_was_ended_says_so(sh, home, put):
    put(1)
    home.backup.mkdir()
    sh("""flock -o ~/.claude-backup/lock sh -c '
            csb-backup --wait 60 & child=$!
            until ls -l /proc/$child/fd | grep -q backup/lock; do sleep 0.02; done
            kill -TERM $child; wait'""")
    (record,) = sh("csb-status --runs").ok().records
    assert (record["outcome"], record["reason"]) == (
        "failed", "it was ended before it was done")


def test_where_looking_after_the_store_cannot_be_noted_the_backup_is_done(
    sh, home, put
):
    put(1)
    home.backup.mkdir()
    (home.backup / "tidied").mkdir()
    done = sh("csb-backup --tidy")
    assert done.rc == 0 and done.err.count("\n") == 1, done
    assert [one["kind"] for one in sh("csb-status --runs").records] == ["backup"]
