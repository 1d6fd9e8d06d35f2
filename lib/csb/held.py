"""what the store holds, or held: versions of paths, sessions, and what git forgets

Every answer comes from one walk over a history:

    held = Held(all_history(store))
    for path in held.paths():
        version = held.last(path)
        for version in held.versions(path): ...

    objects = Objects(store)
    owners = owners_of(held, objects)           which paths belong to which session
    for noted in notes(objects, held.journals): ...    modes, times, empty directories
    Moves(held, objects, root).home(session_id)     where a session is that was moved

Paths are relative to the Claude directory, as in the store's trees. Submodules, which
have no bytes, are left out.
"""
import os
import stat
import struct
from collections import namedtuple

from csb import from_utc, records, warn
from csb.files import Changed, StableFile, lines
from csb.git import JOURNAL, GitError, Info, object_hash, sizes_of
from csb.session import (
    Spellings,
    ids_in,
    is_flat_agent,
    is_id,
    key_of,
    odd_transcript_in,
    owner_of_agent,
    project_of,
    transcript_in,
    transcripts_on_disk,
)

SUBMODULE = "160000"
AT_ONCE = 10_000                # objects whose sizes are asked for at once

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


# --- versions -------------------------------------------------------------------------


class Held:
    """What a history holds, or held, of every path.

    commits: what git.history() or git.all_history() yields. wanted: a function that
    says of a path whether it is to be known, if not all are.

    journals: the ids of the journals, newest first.
    """

    def __init__(self, commits, wanted=None):
        self._wanted = wanted
        self._commits = []      # a _Named each, in the order of the walk
        self._latest = {}       # {commit that is to come: the time of those after it}
        self._changes = {}      # {path: its changes, packed, in the order of the walk}
        self._form = None       # of a packed change, once an object's id was seen
        journals = {}
        for commit in commits:
            self._add_commit(commit)
            for change in commit.changes:
                if change.path != JOURNAL:
                    self._add_change(change)
                elif change.status != "D":
                    journals[change.new_oid] = None
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
        changes = sorted(self._changes_of(path), key=_latest_first)
        return list(_versions(changes))

    def _add_commit(self, commit):
        if self._commits and self._commits[-1].oid == commit.oid:
            return              # a merge comes once for each parent
        # Clocks go back: no commit counts as later than those that came after it.
        latest = self._latest.pop(commit.oid, commit.seconds)
        latest = min(latest, commit.seconds)
        self._commits.append(_Named(commit.oid, commit.seconds, latest))
        for parent in commit.parents:
            self._latest[parent] = min(latest, self._latest.get(parent, latest))

    def _add_change(self, change):
        """Note a change that the newest of the commits made."""
        if change.mode == SUBMODULE:
            return
        if self._wanted and not self._wanted(change.path):
            return
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
        for entry in self._form.iter_unpack(self._changes[path]):
            number, mode, deletes, oid = entry
            commit = self._commits[number]
            found.append(_PathChange(commit, f"{mode:06o}", deletes, oid.hex()))
        return found


_Named = namedtuple("_Named", "oid seconds latest")     # a commit, its time in order
_PathChange = namedtuple("_PathChange", "commit mode deletes oid")


def _latest_first(change):
    return -change.commit.latest


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


def measured(store, held, paths):
    """Yield (path, its versions newest first, {object id: bytes}) of paths.

    An object that the store has lost has no size. Many are asked for at once.
    """
    waiting = []
    count = 0
    for path in paths:
        versions = held.versions(path)
        waiting.append((path, versions))
        count += len(versions)
        if count >= AT_ONCE:
            yield from _measured_now(store, waiting)
            waiting = []
            count = 0
    yield from _measured_now(store, waiting)


def _measured_now(store, waiting):
    if not waiting:
        return
    oids = {version.oid for _, versions in waiting for version in versions}
    size_of = sizes_of(store, oids)
    for path, versions in waiting:
        yield path, versions, size_of


def fullest_first(versions, size_of):
    """The versions of a transcript in the order in which a restore tries them.

    The longest comes first, since a transcript only grows, unless it was damaged; what
    is lost leads: it may have been that. Equal bytes come once.
    """
    distinct = {}
    for version in versions:
        distinct.setdefault(version.oid, version)
    lost = [version for oid, version in distinct.items() if oid not in size_of]
    there = [version for oid, version in distinct.items() if oid in size_of]
    there.sort(key=lambda version: -size_of[version.oid])
    return lost + there


# --- sessions -------------------------------------------------------------------------


def owners_of(held, objects, refused=()):
    """The Owners of all paths, by their names, and flat agent files by what they hold.

    An id is spelled as its transcript is named. The plans that a transcript names are
    among the others: to know them it has to be read. refused: a csb.refused.Refused,
    whose paths nobody owns.
    """
    paths = sorted(path for path in held.paths() if path not in refused)
    transcripts = (transcript_in(path) for path in paths)
    spellings = Spellings(found[1] for found in transcripts if found)
    owners = Owners({}, [])
    for path in paths:
        ids = ids_in(path)
        if is_flat_agent(path):
            owner = owner_of_agent(first_line(objects, held.last(path).oid))
            ids += [owner] if owner else []
        names = {spellings.of(session_id): None for session_id in ids}
        for session_id in names:
            owners.sessions.setdefault(session_id, []).append(path)
        if not names:
            owners.others.append(path)
    return owners


def first_line(objects, oid):
    """The first line of an object, as far as its first block goes; b"" if lost."""
    try:
        for block in objects.blocks(oid):
            return block.partition(b"\n")[0]
    except GitError:
        pass
    return b""


# --- what is lost ---------------------------------------------------------------------

# A session of a project by its paths: the transcript or None, what lies below <id>/,
# flat agent files. Where Claude Code does not look it is a transcript alone.
Stored = namedtuple("Stored", "project session_id transcript beside agents")


def lost_sessions(held, objects, root):
    """The sessions of a history that are gone from a Claude directory, each a Stored.

    Sorted by project and id. One that was just moved to another project is not lost.
    No path below projects is refused by its name: whether a journal says so of one is
    for the caller to ask (csb.refused.Refused).
    """
    moves = Moves(held, objects, root)
    lost = []
    for session in moves.sessions:
        if session.transcript:
            gone = is_gone(root, session.transcript) and not moves.moved_to(session)
        else:
            gone = all(is_gone(root, path) for path in session.beside + session.agents)
        if gone:
            lost.append(session)
    return lost


def is_gone(root, path):
    """Is nothing at a path below a directory? What cannot be looked at is there."""
    try:
        os.lstat(os.path.join(root, path))
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False
    return False


def _stored_sessions(held, objects):
    """The sessions below projects/, sorted by project and id."""
    transcripts = {}            # {(project, id): path}
    beside = {}                 # {(project, id): [path]}
    agents = {}
    stored_odd = []
    for path in sorted(held.paths()):
        if not held.is_file(path):
            continue            # a link: its text is not what it led to
        parts = path.split("/")
        found = transcript_in(path)
        odd = odd_transcript_in(path)
        if found:
            transcripts[found] = path
        elif odd:
            stored_odd.append(Stored(odd.project, odd.session_id, path, [], []))
        elif is_flat_agent(path):
            owner = owner_of_agent(first_line(objects, held.last(path).oid))
            if owner:
                agents.setdefault((parts[1], owner), []).append(path)
        elif parts[0] == "projects" and len(parts) > 3 and is_id(parts[2]):
            beside.setdefault((parts[1], parts[2]), []).append(path)

    # What lies beside a transcript may spell its id in another case.
    spellings = {}              # {project: Spellings}
    ids_of = {}
    for project, session_id in transcripts:
        ids_of.setdefault(project, []).append(session_id)
    sessions = {}

    def session_of(project, session_id):
        if project not in spellings:
            spellings[project] = Spellings(ids_of.get(project, ()))
        key = project, spellings[project].of(session_id)
        if key not in sessions:
            sessions[key] = Stored(*key, transcripts.get(key), [], [])
        return sessions[key]

    for key in transcripts:
        session_of(*key)
    for key, paths in beside.items():
        session_of(*key).beside.extend(paths)
    for key, paths in agents.items():
        session_of(*key).agents.extend(paths)
    return sorted([*sessions.values(), *stored_odd], key=_by_project_and_id)


def _by_project_and_id(session):
    return session.project, session.session_id, session.transcript or ""


def is_odd(session):
    """Is a Stored a transcript where Claude Code does not look?"""
    return session.transcript is not None and transcript_in(session.transcript) is None


# Where a transcript lies: fullest is the Info of its longest stored version, None if
# none is stored; size, in bytes, is that on disk, else that of the fullest; age counts
# the commits since it changed; deleted says whether the store knows that it is gone.
_Place = namedtuple("_Place", "path gone fullest size age deleted")

_LOST = Info("", "blob", 1 << 62)       # what is lost may have been the longest


class Moves:
    """Which transcripts that are gone from a Claude directory were just moved.

    Claude Code moves a transcript to another project when a worktree is left, and on
    /cd. A transcript that is gone was moved if one of the same id in another project
    begins with all of its bytes, at its fullest, and if nothing that lay beside it is
    gone and not in the other project as well. One on disk goes on with those that are
    gone; of those that are gone the longest goes on with the others, else what went
    last. A stub begins with nothing, so that it hides nothing. root is that directory.
    """

    def __init__(self, held, objects, root):
        self.sessions = _stored_sessions(held, objects)     # each a Stored, sorted
        self._held = held
        self._objects = objects
        self._root = root
        self._stored = {}       # {key of an id: the Stored of all projects}
        for session in self.sessions:
            if not is_odd(session):
                self._stored.setdefault(key_of(session.session_id), []).append(session)
        self._on_disk = None    # {key of an id: transcripts on disk}, when it is needed
        self._places = {}       # {path: its _Place}

    def of(self, session_id):
        """The Stored of a session, one a project; its id is compared without case."""
        return self._stored.get(key_of(session_id), [])

    def home(self, session_id):
        """The path of the one transcript of a session that was not moved.

        None if there is none, or several: these are different conversations.
        """
        moved = set()
        for session in self.of(session_id):
            if session.transcript and self.moved_to(session):
                moved.add(session.transcript)
        homes = [path for path in self._transcripts(session_id) if path not in moved]
        return homes[0] if len(homes) == 1 else None

    def moved_to(self, session):
        """The path of the transcript that goes on with that of a Stored.

        None if the transcript is not gone, or was not moved.
        """
        others = []
        for path in self._transcripts(session.session_id):
            if is_odd(session) or project_of(path) != session.project:
                others.append(self._place(path))
        if not others:
            return None             # most sessions lie in one project
        start = self._place(session.transcript)
        if not start.gone:
            return None
        others = [place for place in others if _rank(place) > _rank(start)]
        for place in sorted(others, key=_rank, reverse=True):
            if self._left_behind(session, project_of(place.path)):
                continue
            if self._begins_with(place, start.fullest):
                return place.path
        return None

    def _transcripts(self, session_id):
        """The transcripts of a session, those that are stored and those on disk."""
        found = {}
        for session in self.of(session_id):
            if session.transcript and transcript_in(session.transcript):
                found[session.transcript] = None
        if self._on_disk is None:
            self._on_disk = transcripts_on_disk(self._root)
        for path in self._on_disk.get(key_of(session_id), ()):
            found[path] = None
        return list(found)

    def _place(self, path):
        if path not in self._places:
            fullest = None
            age = 0
            deleted = False
            if path in self._held:
                versions = self._held.versions(path)
                infos = [self._objects.info(one.oid) or _LOST for one in versions]
                fullest = max(infos, key=lambda info: info.size)
                age = self._held.age(path)
                deleted = versions[0].deleted_at is not None
            size = fullest.size if fullest else 0
            gone = is_gone(self._root, path)
            if not gone:
                size = self._size_on_disk(path, size)
            self._places[path] = _Place(path, gone, fullest, size, age, deleted)
        return self._places[path]

    def _size_on_disk(self, path, stored_size):
        try:
            return os.stat(os.path.join(self._root, path)).st_size
        except OSError:
            return stored_size

    def _begins_with(self, place, start):
        """Does a transcript begin with the bytes of an object (an Info)?"""
        if not place.gone:
            try:
                with StableFile(os.path.join(self._root, place.path)) as file:
                    if start_of(file.blocks(), start):
                        return True
            except (OSError, Changed):
                pass
        # It may be truncated since: what is stored of it has to do.
        return place.fullest is not None and begins_with(
            self._objects, place.fullest, start
        )

    def _left_behind(self, session, project):
        """Is something gone that lay beside a transcript, and not in that project?"""
        for path in session.beside:
            there = f"projects/{project}/" + path.split("/", 2)[2]
            if there in self._held or not is_gone(self._root, path):
                continue
            if is_gone(self._root, there):
                return True
        return False


def _rank(place):
    return not place.gone, place.size, -place.age, not place.deleted


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
    digest = object_hash(info)
    rest = info.size
    for block in blocks:
        digest.update(block[:rest])
        rest -= min(rest, len(block))
        if not rest:
            break
    return digest.hexdigest() == info.oid


# --- what git forgets -----------------------------------------------------------------


def journal_of(commit):
    """The ids of the journals that a commit brings: one, or none."""
    return [
        change.new_oid
        for change in commit.changes
        if change.path == JOURNAL and change.status != "D"
    ]


def notes(objects, journals, wanted=None):
    """Yield what journals (object ids, newest first) say: a Noted for each change.

    wanted: the set of the paths that are asked for, if not all are; it may change
    meanwhile. A journal that cannot be read is warned of, and what makes no sense is
    passed over.
    """
    for oid in journals:
        try:
            for record in records(_whole(lines(objects.blocks(oid)))):
                path = record.get("path")
                if not isinstance(path, str):
                    continue
                if wanted is None or path in wanted:
                    yield _noted(path, record)
        except GitError as error:
            warn(f"cannot read the times and modes of a backup: {error}")


def _whole(found):
    """The lines but those that were too large to be kept."""
    return (line for line in found if line is not None)


def _noted(path, record):
    """The Noted of a journal's record."""
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
