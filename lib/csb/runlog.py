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
import stat
import time

from csb import encode, from_utc, why

BACKUP_LOG = "backup.log"
OLD_BACKUP_LOG = "backup.log.1"
MUCH = 1 << 20                  # bytes: then it becomes OLD_BACKUP_LOG
LOOKED_AT = 1 << 21             # bytes of a log, at most
DAY = 86400                     # seconds
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
        with open(fd, "rb+", buffering=0) as file:
            line = encode(record) + "\n"
            if _is_torn(file):
                line = "\n" + line
            file.write(line.encode())
    except OSError:
        pass                    # the disk is full, and somebody has said so


def _is_torn(file):
    """Is the last line of a file without an end? A full disk cut it; what is added
    must not become a part of it."""
    size = file.seek(0, os.SEEK_END)
    if not size:
        return False
    file.seek(size - 1)
    return file.read(1) != b"\n"


class RunLog:
    """The log in a CSB_HOME. complaints: why a part of it could not be read."""

    def __init__(self, home):
        self.complaints = []
        self._home = home
        self._read = {}             # {name: its lines}, of what was read already

    def runs(self, kind="backup"):
        """Yield (seconds since 1970, record) of its runs, the newest first."""
        limit = time.time() + DAY
        for name in (BACKUP_LOG, OLD_BACKUP_LOG):
            if name not in self._read:
                self._read[name] = self._lines(os.path.join(self._home, name))
            for line in reversed(self._read[name]):
                found = _run(line, kind)
                if found is not None and 0 <= found[0] < limit:
                    yield found

    def _lines(self, path):
        try:
            if not stat.S_ISREG(os.stat(path).st_mode):
                return []                       # a FIFO would keep us waiting
            with open(path, "rb") as file:
                file.seek(max(0, os.path.getsize(path) - LOOKED_AT))
                return file.read(LOOKED_AT).splitlines()
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            self.complaints.append(f"cannot read '{path}': {why(error)}")
            return []


def _run(line, kind):
    """(seconds, record) of a line, None if it is none of that kind."""
    try:
        record = json.loads(line)
        if not isinstance(record, dict) or record.get("kind") != kind:
            return None
        if record.get("outcome") not in OUTCOMES:
            return None
        return from_utc(record.get("at")) // 10**9, record
    except (ValueError, TypeError, RecursionError):
        return None


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
        self.runs_last_day = 0
        times = []
        yesterday = time.time() - DAY
        for at, record in log.runs():
            if self.last_success is None:
                self._take(at, record)
            elif at <= yesterday and len(times) > RECENT:
                break               # what is older says nothing more
            if at > yesterday:
                self.runs_last_day += 1
            times.append(at)
        self.run_every = _usual_gap(times[:RECENT])

    def _take(self, at, record):
        outcome = record["outcome"]
        if not self.last_outcome:
            self.last_outcome = outcome
            self.last_reason = _reason_in(record)
        if outcome == "ok":
            self.last_success = at
        if outcome == "failed":
            self.failures += 1
            if self.failures == 1:
                self.failure_reason = _reason_in(record)


def _usual_gap(times):
    """The median of the seconds between times, the newest first; None of less than two.
    """
    gaps = [later - at for later, at in zip(times, times[1:], strict=False)]
    if not gaps:
        return None
    return sorted(gaps)[len(gaps) // 2]


def _reason_in(record):
    """Why a run failed, "" if that is unknown."""
    reason = record.get("reason")
    return reason[:LONGEST_REASON] if isinstance(reason, str) else ""
