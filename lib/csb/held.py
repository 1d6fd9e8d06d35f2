"""what a store holds, or held: versions of paths, sessions, and what git forgets

Every answer comes from one walk over a history:

    held = Held(all_history(store))
    for path in held.paths():
        version = held.last(path)

    stored = StoredSessions(store, root)        or those of commits_then(store, word)
    for path in stored.sessions[session_id]:
        first, *others = stored.candidates(path)    what is taken, and if it is lost

Paths are relative to the Claude directory, as in the store's trees. Submodules, which
have no bytes, are left out.
"""
import os
import re
import stat
import struct
import time
from collections import namedtuple
from itertools import chain

from csb import FAILED, LAST_SECOND, Error, from_utc, records, say, utc, warn
from csb.files import is_file_or_link, lines
from csb.git import (
    GUEST_REF,
    JOURNAL,
    MOST_ASKED,
    OWN_REF,
    Change,
    Commit,
    GitError,
    Objects,
    git,
    history,
    id_of,
)
from csb.seen import read_head
from csb.session import (
    Spellings,
    ids_in,
    is_flat_agent,
    owner_of_agent,
    plans_named,
    project_of,
    transcript_in,
)

SUBMODULE = "160000"
AT_ONCE = 100                   # paths whose versions are measured at once

# A version of a path. oid and mode are git's. commit: the first one that holds it, or,
# if it is known by its deletion alone, the one that deleted it. seconds: that commit's
# time, 0 if it is unknown. deleted_at: the time of the first commit without it, None if
# it was not deleted but replaced, or is there still.
Version = namedtuple("Version", "oid mode commit seconds deleted_at")

# What a journal says of a change. size, mode (an int, permissions alone) and mtime (in
# nanoseconds) are None where it does not say. An empty directory's path ends in "/",
# its oid is "-".
Noted = namedtuple("Noted", "path oid change size mode mtime")

# {session's id: [its paths]}, and the paths that belong to no session, all sorted.
Owners = namedtuple("Owners", "sessions others")

_SECONDS = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}


# --- history --------------------------------------------------------------------------


def all_history(store, *refs):
    """Yield a Commit for each commit of the refs, else of all, newest first in a ref.

    Of all refs those of backups come first, then the user's. One of backups that is
    gone is said, and read all the same. Of a ref that cannot be walked, which is said,
    its newest tree comes last, as one Commit of the time 0 whose oid is the ref's name.
    """
    waiting = [[ref] for ref in refs] or _backups_first(store)
    done = []                   # the refs that were walked, as git leaves them out
    known = set()               # ids of the commits that have come
    while waiting:
        # The user's refs in one walk: one a ref would be quadratic. Only if that fails
        # each is walked, to see which of them is damaged.
        group = waiting.pop(0)
        now = []
        try:
            for commit in history(store, *group, *done):
                now.append(commit.oid)
                if commit.oid not in known:
                    yield commit
            done += ["^" + ref for ref in group]
        except GitError:
            if len(group) == 1:
                yield _newest_tree(store, group[0])
            else:
                waiting[:0] = [[ref] for ref in group]
        known.update(now)


def _backups_first(store):
    """The refs of a store as they are walked: each of backups, then all others."""
    # In this order: a first backup may make both meanwhile, the ref first.
    ref, commit, _ = read_head(store)
    listing = git(store, "for-each-ref", "--format=%(refname)")
    refs = os.fsdecode(listing).split("\n")[:-1]
    groups = []
    if commit and ref not in refs:
        warn(f"cannot find {ref} any more: it was {commit} (csb backup says more)")
        groups.append([commit])
    groups += [[ref] for ref in (GUEST_REF, OWN_REF) if ref in refs]
    others = [ref for ref in refs if [ref] not in groups]
    if others:
        groups.append(others)
    return groups


def _newest_tree(store, ref):
    """All files of a ref's newest tree, as far as it can be read, as one Commit."""
    listing = git(store, "ls-tree", "-rz", "--full-tree", ref, allowed=range(256))
    changes = []
    for entry in os.fsdecode(listing).split("\0")[:-1]:
        head, _, path = entry.partition("\t")
        mode, _, oid = head.split(" ")
        changes.append(Change("A", mode, "", oid, path))
    count = len(changes)
    warn(f"cannot read all of '{ref}': only its newest tree was read ({count} files)")
    return Commit(ref, 0, changes, [])


# --- versions -------------------------------------------------------------------------


class Held:
    """What a history holds, or held, of every path.

    commits: what all_history() yields, or history() of csb.git. wanted: a function that
    says of a path whether it is to be known, if not all are.

    journals: the ids of the journals, newest first.
    """

    def __init__(self, commits, wanted=None):
        self._commits = []      # a _Named each, in the order of the walk
        self._changes = {}      # {path: its changes, packed, in the order of the walk}
        self._form = None       # of a packed change, once an object's id was seen
        latest = {}             # {commit that is to come: the time of those after it}
        journals = {}
        for commit in commits:
            if not self._commits or self._commits[-1].oid != commit.oid:
                # Else it is a merge, which comes once for each parent. Clocks go back:
                # no commit counts as later than those that came after it.
                seconds = min(latest.pop(commit.oid, LAST_SECOND), commit.seconds)
                named = _Named(commit.oid, commit.seconds, seconds)
                self._commits.append(named)
                for parent in commit.parents:
                    latest[parent] = min(named.latest, latest.get(parent, named.latest))
            for change in commit.changes:
                if change.path == JOURNAL:
                    if change.status != "D":
                        journals[change.new_oid] = None
                elif change.mode != SUBMODULE and (not wanted or wanted(change.path)):
                    self._add(change)
        self.journals = list(journals)

    def paths(self):
        """All paths, those that changed last first."""
        return self._changes.keys()

    def __contains__(self, path):
        return path in self._changes

    def age(self, path):
        """How many commits of the walk came after the last that changed a path."""
        number, *_ = self._form.unpack_from(self._changes[path])
        return number

    def is_file(self, path):
        """Is the last version of a path a file, and no link?"""
        _, mode, *_ = self._form.unpack_from(self._changes[path])
        return stat.S_ISREG(mode)

    def last(self, path):
        """The last version of a path: where histories differ, that of the first."""
        changes = self._changes_of(path)
        if len(changes) == 1 and not changes[0].deletes:
            return _version_of(changes[0], None)    # most paths never change
        return next(_versions(changes))

    def versions(self, path):
        """All versions of a path, newest first, those of all histories by time."""
        changes = self._changes_of(path)
        changes.sort(key=lambda change: -change.commit.latest)
        return list(_versions(changes))

    def _add(self, change):
        """Note a change that the newest of the commits made."""
        deletes = change.status == "D"
        oid = bytes.fromhex(change.old_oid if deletes else change.new_oid)
        if self._form is None:
            self._form = struct.Struct(f">IH?{len(oid)}s")
        # Packed, since there may be very many.
        number = len(self._commits) - 1
        entry = self._form.pack(number, int(change.mode, 8), deletes, oid)
        self._changes.setdefault(change.path, bytearray()).extend(entry)

    def _changes_of(self, path):
        """The changes of a path, unpacked, in the order of the walk."""
        found = []
        for number, mode, deletes, oid in self._form.iter_unpack(self._changes[path]):
            commit = self._commits[number]
            found.append(_PathChange(commit, f"{mode:06o}", deletes, oid.hex()))
        return found


_Named = namedtuple("_Named", "oid seconds latest")     # a commit, its time in order
_PathChange = namedtuple("_PathChange", "commit mode deletes oid")


def _versions(changes):
    """Yield the versions of a path that its changes, newest first, tell of."""
    known = {change.oid for change in changes if not change.deletes}
    yielded = set()
    version = None              # its first commit may be still to come
    deleted_at = None
    for change in changes:
        commit = change.commit
        if change.deletes:
            if version:
                yield version
                version = None
            deleted_at = commit.seconds
            if change.oid not in known:         # the history is damaged
                known.add(change.oid)
                yield _version_of(change, deleted_at)
        elif version and version.oid == change.oid:
            if commit.seconds:
                version = version._replace(commit=commit.oid, seconds=commit.seconds)
        elif commit.seconds or change.oid not in yielded:   # else a broken ref's tree
            if version:
                yield version
            version = _version_of(change, deleted_at)
            deleted_at = None
            yielded.add(change.oid)
    if version:
        yield version


def _version_of(change, deleted_at):
    commit = change.commit
    return Version(change.oid, change.mode, commit.oid, commit.seconds, deleted_at)


def measured(objects, held, paths):
    """Yield (path, its versions newest first, {object id: Info}) of paths.

    Of an object that the store has lost there is none. Many are asked for at once.
    """
    paths = list(paths)
    for start in range(0, len(paths), AT_ONCE):
        some = paths[start:start + AT_ONCE]
        found = [held.versions(path) for path in some]
        infos = objects.infos({version.oid for version in chain(*found)})
        for path, versions in zip(some, found, strict=True):
            yield path, versions, infos


def fullest_first(versions, size_of):
    """The versions of a transcript in the order in which a restore tries them.

    The longest comes first, since a transcript only grows, unless it was damaged; what
    is lost leads: it may have been that. Equal bytes come once.
    """
    distinct = {}
    for version in versions:
        distinct.setdefault(version.oid, version)
    return sorted(
        distinct.values(),
        key=lambda version: -size_of.get(version.oid, float("inf")),
    )


# --- sessions -------------------------------------------------------------------------


def owners_of(held, objects, refused=()):
    """The Owners of all paths, by their names, and flat agent files by what they hold.

    An id is spelled as its transcript is named. The plans that a transcript names are
    among the others: to know them it has to be read. refused: a csb.refused.Refused,
    whose paths nobody owns.
    """
    paths = sorted(path for path in held.paths() if path not in refused)
    transcripts = (transcript_in(path) for path in paths)
    spellings = Spellings(found.session_id for found in transcripts if found)
    owners = Owners({}, [])
    for path in paths:
        ids = ids_in(path)
        if is_flat_agent(path):
            ids += _agent_owner(held, objects, path)
        for session_id in dict.fromkeys(map(spellings.of, ids)):
            owners.sessions.setdefault(session_id, []).append(path)
        if not ids:
            owners.others.append(path)
    return owners


def _agent_owner(held, objects, path):
    """[the id of the session that a flat agent file names], [] if none, or it is lost.
    """
    try:
        block = next(objects.blocks(held.last(path).oid), b"")
    except GitError:
        return []
    owner = owner_of_agent(block.partition(b"\n")[0])
    return [owner] if owner else []


class StoredSessions:
    """What a store holds, or held: all of it, or the history of some commits.

    root: the Claude directory. wanted: a function that says of a path whether it may be
    asked for, if not all are. refused: a csb.refused.Refused, whose paths nobody owns.

    sessions: {session's id: [its paths]}; others: the paths that belong to none.
    """

    def __init__(self, store, root, wanted=None, commits=(), refused=()):
        self.store = store
        self.root = root
        self.is_exact = bool(commits)
        self.objects = Objects(store)
        self.held = Held(all_history(store, *commits), wanted)
        owners = owners_of(self.held, self.objects, refused)
        self.sessions = owners.sessions
        self.others = owners.others
        self._plans = {path for path in owners.others if path.startswith("plans/")}

    def transcripts(self, session_id):
        """{project: path} of the transcripts of a session."""
        found = {}
        for path in self.sessions[session_id]:
            if transcript_in(path):
                found[project_of(path)] = path
        return found

    def candidates(self, path):
        """The Versions of a path in the order in which a restore tries them.

        Of a transcript that had shrunk the fullest comes first, unless it is asked for
        as it was then.
        """
        last = self.held.last(path)
        if self.is_exact or not transcript_in(path) or not self.held.is_file(path):
            return [last]
        versions = self.held.versions(path)
        files = [version for version in versions if version.mode.startswith("100")]
        if len(files) == 1:
            return files
        return fullest_first(files, self.sizes(files))

    def plans_named_in(self, paths):
        """The paths of the plans of the store that transcripts name, sorted."""
        named = set()
        for path in paths:
            if self._plans and transcript_in(path):
                slugs = self.read_sound(path, plans_named) or ()
                named.update(f"plans/{slug}.md" for slug in slugs)
        return sorted(self._plans & named)

    def read_sound(self, path, reader):
        """What reader() makes of the blocks of a path, as a restore would take them.

        None if all its versions are lost.
        """
        for version in self.candidates(path):
            try:
                return reader(unless_blank(self.objects.blocks(version.oid)))
            except GitError:
                continue        # the one before it will be restored
        return None

    def sizes(self, versions):
        """{object id: bytes} of versions, of those that are not lost."""
        infos = self.objects.infos({version.oid for version in versions})
        return {oid: info.size for oid, info in infos.items()}

    def say_if_shrunk(self, path, taken):
        """Say so if the version that is taken is fuller than the last one."""
        last = self.held.last(path)
        if last.oid == taken.oid:
            return
        size_of = self.sizes([last, taken])
        if len(size_of) == 2 and size_of[last.oid] < size_of[taken.oid]:
            sizes = f"{size_of[taken.oid]} to {size_of[last.oid]} bytes"
            say(f"'{path}' had shrunk from {sizes}: the fullest is taken")


def is_gone(root, path):
    """Is nothing at a path below a directory? What cannot be looked at is there.

    A directory or FIFO that has the name of a file is not that file.
    """
    try:
        found = os.lstat(os.path.join(root, path))
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False
    return not (path.endswith("/") or is_file_or_link(found))


def unless_blank(blocks):
    """Yield blocks. GitError if the first is what a power cut may leave of them: then
    the version before counts."""
    first = next(blocks, None)
    if first is None:
        return
    if not first.strip(b"\0 \n"):
        raise GitError("it is blank")
    yield first
    yield from blocks


# --- times ----------------------------------------------------------------------------


def moment(word):
    """Seconds since 1970 of a time that a person typed, else ValueError.

    7d and 12h: so long ago. 2026-01-31, 2026-01-31T12:00: the clock here, or with Z.
    today and yesterday: since they began.
    """
    from datetime import date, datetime, timedelta

    age = re.fullmatch("([0-9]{1,6})([mhdw])", word)
    if age:
        return int(time.time()) - int(age[1]) * _SECONDS[age[2]]
    if word == "today":
        word = str(date.today())
    elif word == "yesterday":
        word = str(date.today() - timedelta(days=1))
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
    before = f"--before={utc(max(seconds, 0))}"
    for ref in git(store, "for-each-ref", "--format=%(objectname)").decode().split():
        answer = git(store, "rev-list", "-1", before, ref, "--", allowed=(0, 128))
        newest.update(dict.fromkeys(answer.decode().split()))
    if not newest:
        raise Error(
            f"no backup was made before {word} (csb history ID lists the versions of a "
            "session)"
        )
    return list(newest)


# --- what git forgets -----------------------------------------------------------------


def notes(objects, journals, wanted=None):
    """Yield what journals (object ids, newest first) say: a Noted for each change.

    wanted: a function that says of a path whether it is asked for, if not all are. A
    journal that cannot be read is warned of, and what makes no sense is passed over.
    """
    for number, oid in enumerate(journals):
        if number % MOST_ASKED == 0:
            objects.expect(journals[number:number + MOST_ASKED])
        found = lines(objects.blocks(oid))
        try:
            for record in records(line for line in found if line is not None):
                path = record.get("path")
                if isinstance(path, str) and (wanted is None or wanted(path)):
                    yield _noted(path, record)
        except GitError as error:
            warn(f"cannot read the times and modes of a backup: {error}")


def _noted(path, record):
    oid = record.get("oid")
    if not isinstance(oid, str):
        oid = None
    size = record.get("size")
    if type(size) is not int:
        size = None
    try:
        mode = int(record["mode"], 8) & 0o7777
    except (KeyError, ValueError, TypeError):
        mode = None
    try:
        mtime = from_utc(record["mtime"])
    except (KeyError, ValueError):
        mtime = None
    return Noted(path, oid, record.get("change"), size, mode, mtime)


def written_at(held, objects, oids, refused=None):
    """{path: nanoseconds}: when versions of paths were written, as far as journals say.

    oids: {path: the version's}. refused: a csb.refused.Refused, which learns of these.
    """
    times = {}
    missing = set(oids)
    journals = held.journals if oids else []
    for noted in notes(objects, journals, missing.__contains__):
        if refused is not None:
            refused.note(noted)
        if noted.oid == oids[noted.path] and noted.mtime is not None:
            times[noted.path] = noted.mtime
            missing.remove(noted.path)
        if not missing:
            break
    return times


# --- what begins with what ------------------------------------------------------------


def begins_with(objects, info, start):
    """Has an object (an Info) the bytes of another one at its start?"""
    if not info.oid or not start.oid or start.size > info.size:
        return False
    if info.oid == start.oid:
        return True
    try:
        return start_of(objects.blocks(info.oid), start)
    except GitError:
        return False


def start_of(blocks, info):
    """Do blocks of bytes begin with the bytes of an object (its Info)?"""
    return id_of(_first_of(blocks, info.size), info) == info.oid


def _first_of(blocks, rest):
    for block in blocks:
        yield block[:rest]
        rest -= len(block)
        if rest <= 0:
            return
