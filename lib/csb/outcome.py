"""what became of files that were restored, counted, and said in sentences

    outcome = Outcome()
    for record in ...: outcome.add(record)      the records of csb-restore
    print(outcome.sentence())
"""
from csb.terminal import counted, human_size

ALREADY_THERE = "it is there"   # a reason to keep a file: it has the same bytes


class Outcome:
    """Counts what became of files. What makes no sense in a record is passed over."""

    def __init__(self):
        self.counts = {}            # {what became of them: how many files}
        self.bytes = 0              # of what was restored
        self.sessions = {}          # those of the files
        self.is_dry = False

    def add(self, record):
        """Count a record. What became of its file; None if it is unknown."""
        result = record.get("result")
        if result not in ("restored", "kept", "refused"):
            return None
        if result == "kept" and record.get("reason", ALREADY_THERE) == ALREADY_THERE:
            result = "already there"
        self.counts[result] = self.counts.get(result, 0) + 1
        self.is_dry = self.is_dry or record.get("dry_run") is True
        session_id = record.get("session_id")
        if isinstance(session_id, str):
            self.sessions[session_id[:36]] = None
        size = record.get("size")
        if result == "restored" and type(size) is int and 0 <= size < 10**18:
            self.bytes += size
        return result

    def sentence(self):
        """All that became of them."""
        text = "Would restore" if self.is_dry else "Restored"
        restored = self.counts.get("restored")
        if restored and self.sessions:
            text += f" {counted(len(self.sessions), 'session')}:"
        text += f" {counted(restored, 'file')}" if restored else " nothing"
        if self.bytes:
            text += f" ({human_size(self.bytes)})"
        if restored and not self.is_dry:
            text += ", each read back"
        text += "."
        for result, begin in (
            ("already there", "Already there"),
            ("kept", "Different ones are there, and were left alone"),
            ("refused", "Refused"),
        ):
            if result in self.counts:
                text += f" {begin}: {counted(self.counts[result], 'file')}."
        if self.is_dry:
            text += " Nothing was written."
        return text
