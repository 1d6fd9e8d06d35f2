"""what a store holds, or held, of sessions: now, or as it was at some time

    stored = StoredSessions(store, root)        or those of commits_then(store, word)
    for path in stored.sessions[session_id]:
        first, *others = stored.versions(path)  what is taken, and if that is lost

Paths are relative to the Claude directory.
"""
import re

from csb import FAILED, Error, say, utc
from csb.git import Objects, all_history, git
from csb.held import Held, fullest_first, owners_of
from csb.session import project_of, transcript_in

_AGE = re.compile(r"([0-9]{1,6})([mhdw])")
_SECONDS = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def moment(word):
    """Seconds since 1970 of a time that a person typed, else ValueError.

    7d and 12h: so long ago. 2026-01-31, 2026-01-31T12:00: the clock here, or with Z.
    """
    import time
    from datetime import datetime

    age = _AGE.fullmatch(word)
    if age:
        return int(time.time()) - int(age[1]) * _SECONDS[age[2]]
    return int(datetime.fromisoformat(re.sub("Z$", "+00:00", word)).timestamp())


def commits_then(store, word, status=FAILED):
    """The commits at which the refs stood: a commit, or the last before a time.

    status: that of the Error if the word is neither.
    """
    try:
        words = ["rev-parse", "-q", "--verify", "--end-of-options", word + "^{commit}"]
        found = git(store, *words, allowed=(0, 1, 128)).decode().split()
        if found:
            return found
        is_day = re.fullmatch(r"\d{4}-\d\d-\d\d", word)    # which means all of it
        seconds = moment(word + "T23:59:59" if is_day else word)
    except ValueError:          # also of what no process can be told, such as a NUL
        text = f"'{word}' is no commit here, and no time (2026-11-20T18:00)"
        raise Error(text, status) from None

    newest = {}
    refs = git(store, "for-each-ref", "--format=%(objectname)").decode().split()
    if seconds > 0:
        for ref in refs:
            words = ["rev-list", "-1", f"--before={utc(seconds)}", ref, "--"]
            newest[git(store, *words, allowed=(0, 128)).decode().strip()] = None
    newest.pop("", None)
    if not newest:
        raise Error(f"cannot find a commit of a backup made before {word}")
    return list(newest)


# --- the sessions ---------------------------------------------------------------------


class StoredSessions:
    """What a store holds, or held: all of it, or the history of some commits.

    root: the Claude directory. wanted: a function that says of a path whether it may be
    asked for, if not all are. refused: a csb.refused.Refused, whose paths nobody owns.

    sessions: {session's id: [its paths]}.
    """

    def __init__(self, store, root, wanted=None, commits=(), refused=()):
        self.store = store
        self.root = root
        self.is_exact = bool(commits)
        self.objects = Objects(store)
        self.held = Held(all_history(store, *commits), wanted)
        self.sessions = owners_of(self.held, self.objects, refused).sessions

    def transcripts(self, session_id):
        """{project: path} of the transcripts of a session."""
        found = {}
        for path in self.sessions[session_id]:
            if transcript_in(path):
                found[project_of(path)] = path
        return found

    def versions(self, path):
        """The Versions of a path in the order in which they are tried.

        Of a transcript that had shrunk the fullest comes first, unless it is asked for
        as it was then.
        """
        last = self.held.last(path)
        if self.is_exact or not transcript_in(path) or not self.held.is_file(path):
            return [last]
        versions = self.held.versions(path)
        files = [version for version in versions if version.mode.startswith("100")]
        return fullest_first(files, self.sizes(files))

    def sizes(self, versions):
        """{object id: bytes} of versions, of those that are not lost."""
        found = {}
        for version in versions:
            info = self.objects.info(version.oid)
            if info:
                found[version.oid] = info.size
        return found

    def say_if_shrunk(self, path, taken):
        """Say so if the version that is taken is fuller than the last one."""
        last = self.held.last(path)
        if last.oid == taken.oid:
            return
        size_of = self.sizes([last, taken])
        if len(size_of) == 2 and size_of[last.oid] < size_of[taken.oid]:
            sizes = f"{size_of[taken.oid]} to {size_of[last.oid]} bytes"
            say(f"'{path}' had shrunk from {sizes}: the fullest is taken")
