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
        self.counts = {}            # {(noun, what became of them): how many}
        self.bytes = 0              # of what was restored
        self.sessions = {}          # those of the files
        self.is_dry = False
        self._others = False        # files of no session, too

    def add(self, record):
        """Count a record. What became of its file; None if it is unknown."""
        result = record.get("result")
        if result not in ("restored", "kept", "refused"):
            return None
        if result == "kept" and record.get("reason", ALREADY_THERE) == ALREADY_THERE:
            result = "already there"
        noun = "file"
        if str(record.get("path")).endswith("/"):
            noun = "folder"
        key = noun, result
        self.counts[key] = self.counts.get(key, 0) + 1
        self.is_dry = self.is_dry or record.get("dry_run") is True
        session_id = record.get("session_id")
        if isinstance(session_id, str):
            self.sessions[session_id[:36]] = None
        else:
            self._others = True
        size = record.get("size")
        if result == "restored" and type(size) is int and 0 <= size < 10**18:
            self.bytes += size
        return result

    def sentence(self):
        """All that became of them."""
        text = "Restored"
        if self.is_dry:
            text = "Would restore"
        restored = self.some("restored")
        if restored:
            text += f" {self._whose()}{restored}"
        else:
            text += " nothing"
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
            some = self.some(result)
            if some:
                text += f" {begin}: {some}."
        if self.is_dry:
            text += " Nothing was written."
        return text

    def some(self, result):
        """How many files and folders became that; "" if none."""
        parts = []
        for noun in ("file", "folder"):
            count = self.counts.get((noun, result))
            if count:
                parts.append(counted(count, noun))
        return " and ".join(parts)

    def _whose(self):
        """Of how many sessions they are; "" if of none."""
        if not self.sessions:
            return ""
        whose = counted(len(self.sessions), "session")
        if self._others:
            whose += " and other files"
        return whose + ": "
