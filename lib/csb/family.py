"""which session was forked from which, and which goes on in which

    forest = Forest(sessions(path))             those of csb.index
    member = forest.member(forest.pick("3f4a9b2c"))
    member.forks                                Members, in the order of their start
    for text in member.texts: ...               the JSON of its records
"""
import json
from functools import cached_property

from csb.index import scratch
from csb.session import is_id, key_of, pick, when_and_title

LAST = "~"                      # sorts behind every time


class Member:
    """A session of a family: an id, which may lie in several projects.

    parent: the key of an id, or None. forks: Members.
    """

    def __init__(self, session_id, records):
        self.session_id = session_id
        self.key = key_of(session_id)
        self.parent = None
        self.forks = []
        self._records = records
        (self.started,) = records.execute(
            "SELECT coalesce(min(started), ?) FROM record WHERE key = ?",
            [LAST, self.key],
        ).fetchone()

    @property
    def texts(self):
        """The JSON of its records; none if it is just named by others."""
        query = "SELECT text FROM record WHERE key = ? ORDER BY rowid"
        return [text for (text,) in self._records.execute(query, [self.key])]


def other_id(value, key):
    """The id in a field, None if there is none or it is one's own."""
    if not isinstance(value, str) or not is_id(value) or key_of(value) == key:
        return None
    return value


def by_start(member):
    return member.started, member.key


class Forest:
    """All sessions, and who was forked from whom.

    members: {key: Member} of those that have a parent or a fork.
    """

    def __init__(self, found):
        self.members = {}
        self._records = scratch("record (key, session_id, started, text)")
        parents = {}                # {id: that of its parent}
        continued = []              # (id of what it goes on in, id)
        for session in found:
            record = session.record
            session_id = record["session_id"]
            key = key_of(session_id)
            row = [key, session_id, record.get("started"), session.text]
            self._records.execute("INSERT INTO record VALUES (?, ?, ?, ?)", row)
            parent = other_id(record.get("parent_session_id"), key)
            if parent:
                parents.setdefault(key, parent)
            later = other_id(record.get("continued_in"), key)
            if later:
                continued.append((later, session_id))
        self._records.execute("CREATE INDEX of_key ON record (key)")

        # Whoever went on in a session is its parent for sure: what that copied may name
        # where the first of them began.
        for later, session_id in reversed(continued):
            parents.pop(key_of(later), None)
            parents[later] = session_id
        for session_id, parent in parents.items():
            self._join(session_id).parent = self._join(parent).key
        for member in sorted(self.members.values(), key=by_start):
            if member.parent is not None:
                self.members[member.parent].forks.append(member)

    def _join(self, session_id):
        return self.members.setdefault(key_of(session_id), self.member(session_id))

    def member(self, session_id):
        """The Member of an id, which may be related to none."""
        key = key_of(session_id)
        if key in self.members:
            return self.members[key]
        query = "SELECT session_id FROM record WHERE key = ? ORDER BY rowid"
        known = self._records.execute(query, [key]).fetchone()
        return Member(known[0] if known else session_id, self._records)

    def keys(self):
        """Yield the key of each session that is known, in the order in which they came.
        """
        for (key,) in self._records.execute("SELECT key FROM record ORDER BY rowid"):
            yield key

    @cached_property
    def _ids(self):
        rows = self._records.execute("SELECT DISTINCT session_id FROM record")
        ids = {session_id for (session_id,) in rows}
        return ids.union(member.session_id for member in self.members.values())

    def pick(self, word):
        """The id that a word means, as it is spelled; Error if none, or several."""
        return pick(word, self._ids, self._about)

    def _about(self, session_id):
        for record in map(json.loads, self.member(session_id).texts):
            return when_and_title(record.get("last_active"), record.get("title"))
        return ""               # it is just named by others
