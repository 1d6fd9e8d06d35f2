"""which session was forked from which, and which goes on in which

    forest = Forest(sessions(path))             those of csb.index
    member = forest.pick("3f4a9b2c")
    member.forks                                Members, in the order of their start
    for text in member.texts: ...               the JSON of its records
"""
import json

from csb.session import is_id, key_of, pick, when_and_title

LAST = "~"                      # sorts behind every time


class Member:
    """A session of a family: an id, which may lie in several projects.

    texts: the JSON of its records; none if it is just named by others. parent: a key,
    as key is that of its own id, or None. forks: Members.
    """

    def __init__(self, session_id):
        self.session_id = session_id
        self.key = key_of(session_id)
        self.texts = []
        self.started = LAST
        self.last_active = ""
        self.parent = None
        self.forks = []

    def take(self, record, text):
        self.texts.append(text)
        self.started = min(self.started, record.get("started") or LAST)
        self.last_active = max(self.last_active, record.get("last_active") or "")
        if self.parent is None:
            self.parent = other_key(record.get("parent_session_id"), self.key)


def other_key(value, key):
    """The key of the id in a field, None if there is none or it is one's own."""
    if not isinstance(value, str) or not is_id(value) or key_of(value) == key:
        return None
    return key_of(value)


def by_start(member):
    return member.started, member.key


class Forest:
    """All sessions, and who was forked from whom. members: {key: Member}."""

    def __init__(self, found):
        self.members = {}
        self._members_of = {}       # {id, as it is spelled: Member}
        continued = []              # (key, id of what it goes on in)
        for session in found:
            record = session.record
            member = self._member(record["session_id"])
            member.take(record, session.text)
            later = record.get("continued_in")
            if other_key(later, member.key):
                continued.append((member.key, later))

        # Whoever went on in a session is its parent for sure: what that copied may name
        # where the first of them began.
        for key, later in reversed(continued):
            self._member(later).parent = key
        for member in list(self.members.values()):
            if member.parent is not None:
                self._member(member.parent)
        for member in sorted(self.members.values(), key=by_start):
            if member.parent is not None:
                self.members[member.parent].forks.append(member)

    def _member(self, session_id):
        member = self.members.setdefault(key_of(session_id), Member(session_id))
        return self._members_of.setdefault(session_id, member)

    def pick(self, word):
        """The id that a word means, as it is spelled; Error if none, or several."""
        return pick(word, self._members_of, self._about)

    def _about(self, session_id):
        for record in map(json.loads, self._members_of[session_id].texts):
            return when_and_title(record.get("last_active"), record.get("title"))
        return ""               # it is just named by others
