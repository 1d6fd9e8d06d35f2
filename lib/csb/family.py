"""which session was forked from which, and which goes on in which

    forest = Forest(sessions(path))             those of csb.index
    member = forest.pick("3f4a9b2c")
    member.forks                                Members, in the order of their start
    for text in forest.texts(member): ...       the JSON of its records
"""
import json

from csb.session import is_id, key_of, pick, when_and_title

LAST = "~"                      # sorts behind every time


class Member:
    """A session of a family. key: its id without case."""

    def __init__(self, session_id):
        self.session_id = session_id
        self.key = key_of(session_id)
        self.started = LAST
        self.last_active = ""
        self.parent = None          # key
        self.forks = []             # Members, in order
        self.is_known = False

    def take(self, record):
        """Learn from a record of it: an id may lie in several projects."""
        self.is_known = True
        self.started = min(self.started, record.get("started") or LAST)
        self.last_active = max(self.last_active, record.get("last_active") or "")
        if self.parent is None:
            self.parent = other_id(record.get("parent_session_id"), self.key)


def other_id(value, key):
    """The key of the id in a field, None if there is none or it is one's own."""
    if not isinstance(value, str) or not is_id(value) or key_of(value) == key:
        return None
    return key_of(value)


def by_start(member):
    return member.started, member.key


class Forest:
    """All sessions, and who was forked from whom.

    members: {key: Member}. One that is just named as a parent, or as what a session
    was continued in, is not known.
    """

    def __init__(self, found):
        import sqlite3

        self.members = {}
        self._ids = set()           # as they are spelled
        self._continued = []        # (key, id of what it goes on in)
        # The records in a temporary database: they may be too much for memory.
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute("CREATE TABLE session (key, text)")
        self._database.execute("BEGIN")
        self._database.executemany(
            "INSERT INTO session VALUES (?, ?)", map(self._taken, found)
        )
        self._database.execute("CREATE INDEX by_key ON session (key)")
        self._link()

    def _taken(self, session):
        record = session.record
        self._ids.add(record["session_id"])
        member = self._member(record["session_id"])
        member.take(record)
        if other_id(record.get("continued_in"), member.key):
            self._continued.append((member.key, record["continued_in"]))
        return member.key, session.text

    def _member(self, session_id):
        key = key_of(session_id)
        if key not in self.members:
            self.members[key] = Member(session_id)
            self._ids.add(session_id)
        return self.members[key]

    def _link(self):
        # Whoever went on in a session is its parent for sure: what that copied may name
        # where the first of them began.
        for key, later in reversed(self._continued):
            self._member(later).parent = key
        for member in list(self.members.values()):
            if member.parent is not None:
                self._member(member.parent)
        for member in sorted(self.members.values(), key=by_start):
            if member.parent is not None:
                self.members[member.parent].forks.append(member)

    def pick(self, word):
        """The id that a word means, as it is spelled; Error if none, or several."""
        return pick(word, self._ids, self._about)

    def _about(self, session_id):
        for text in self.texts(self.members[key_of(session_id)]):
            record = json.loads(text)
            if record["session_id"] == session_id:
                return when_and_title(record.get("last_active"), record.get("title"))
        return ""               # it is just named by others

    def texts(self, member):
        """Yield the JSON of the records of a Member."""
        rows = self._database.execute(
            "SELECT text FROM session WHERE key = ? ORDER BY rowid", [member.key]
        )
        for (text,) in rows:
            yield text
