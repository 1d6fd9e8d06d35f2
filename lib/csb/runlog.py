"""backup.log: the runs of csb-backup, what they came to and why they failed

It lies in CSB_HOME, one record a line, and is disposable:

    backup  at event outcome(ok,failed,busy) seconds bytes reason
    tidy    at outcome(ok,failed) checked reason: the store was packed, a sample of it
            read back

A run that was killed is not in it. A line that cannot be understood, or is of a time to
come, is passed over.
"""
import json
import os
import time

from csb import DAY, encode, from_utc, why
from csb.files import without_waiting

BACKUP_LOG = "backup.log"
OLD_BACKUP_LOG = "backup.log.1"
MUCH = 1 << 20                  # bytes: then it becomes OLD_BACKUP_LOG
LOOKED_AT = 1 << 21             # bytes of a log, at most
RECENT = 20                     # runs, to see how often there is one
LONGEST_REASON = 500            # characters
OUTCOMES = ("ok", "failed", "busy")


def note_run(home, record):
    """Add a record to the log. That nothing can be written there fails no backup."""
    path = os.path.join(home, BACKUP_LOG)
    try:
        if os.path.exists(path) and os.path.getsize(path) > MUCH:
            os.replace(path, os.path.join(home, OLD_BACKUP_LOG))
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        with open(fd, "wb", 0) as file:
            file.write(f"{encode(record)}\n".encode())
    except OSError:
        pass                    # the disk is full, and somebody has said so


class RunLog:
    """The log in a CSB_HOME, read once. complaints: why a part of it could not be read.
    """

    def __init__(self, home):
        self.complaints = []
        self._lines = []        # the newest first
        for name in (BACKUP_LOG, OLD_BACKUP_LOG):
            self._lines += reversed(self._read(os.path.join(home, name)))

    def runs(self, kind="backup"):
        """Yield (seconds since 1970, record) of its runs, the newest first."""
        limit = time.time() + DAY
        for line in self._lines:
            # A line that a full disk cut may stand before a whole one.
            start = max(line.rfind(b'{"kind":'), 0)
            try:
                record = json.loads(line[start:])
                at = from_utc(record["at"]) // 10**9
                is_run = record["kind"] == kind and record["outcome"] in OUTCOMES
            except (ValueError, TypeError, KeyError, RecursionError):
                continue
            if is_run and 0 <= at < limit:
                yield at, record

    def _read(self, path):
        try:
            with open(path, "rb", opener=without_waiting) as file:
                file.seek(max(0, os.path.getsize(path) - LOOKED_AT))
                return file.read(LOOKED_AT).splitlines()
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            self.complaints.append(f"cannot read '{path}': {why(error)}")
            return []


class RunSummary:
    """What the runs in the log come to.

    last_outcome, last_reason  of the last run; "" if there was none, or no reason
    last_success               seconds since 1970, None if there was none
    failures                   since the last success; a run that found another one at
                               work is none, and ends none
    failure_reason             of the last of them; "" if there is none
    runs_last_day
    run_every                  median of the seconds between the last runs, or None
    """

    def __init__(self, log):
        self.last_outcome = ""
        self.last_reason = ""
        self.last_success = None
        self.failures = 0
        self.failure_reason = ""
        times = []
        yesterday = time.time() - DAY
        for at, record in log.runs():
            times.append(at)
            outcome = record["outcome"]
            reason = _reason_in(record)
            if len(times) == 1:
                self.last_outcome, self.last_reason = outcome, reason
            if self.last_success is not None:
                if at <= yesterday and len(times) > RECENT:
                    break           # what is older says nothing more
            elif outcome == "ok":
                self.last_success = at
            elif outcome == "failed":
                if not self.failures:
                    self.failure_reason = reason
                self.failures += 1
        self.runs_last_day = sum(at > yesterday for at in times)
        recent = times[:RECENT]
        gaps = [later - at for later, at in zip(recent, recent[1:], strict=False)]
        self.run_every = sorted(gaps)[len(gaps) // 2] if gaps else None


def _reason_in(record):
    """Why a run failed, "" if that is unknown."""
    reason = record.get("reason")
    return reason[:LONGEST_REASON] if isinstance(reason, str) else ""
