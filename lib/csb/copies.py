"""a session in several projects: which copy counts, and which one was just moved

    session_id = pick_stored(word, stored)
    homes = homes_of(stored, session_id, asked, chosen, on_disk)
    homes.projects                          where it is, or comes back
    lost_sessions(held, objects, root)      the sessions that are gone
    Moves(held, objects, root).home(session_id)     where a session is that was moved

Claude Code moves a session to another project, and may leave a stub of it behind; a
person may copy it, and go on with both. A copy without messages does not count, and one
of which all messages stand in another gives way to that. Two that truly differ are two
conversations.
"""
import os
from collections import namedtuple

from csb import MISUSE, Error
from csb.files import BLOCK, Changed, StableFile
from csb.git import GitError, Info
from csb.held import begins_with, is_gone, owners_of, start_of
from csb.session import (
    is_flat_agent,
    key_of,
    odd_transcript_in,
    pick,
    project_of,
    transcript_in,
    transcripts_on_disk,
)

# Where a session comes back: in which projects; those whose copies gave way to these,
# and those of them that were just moved; others where it is on disk, and says more.
Homes = namedtuple("Homes", "projects gave_way moved others")

# A copy of a session: a transcript in a project. is_there: is it on disk? age: how many
# commits came since it changed, or went. went: the later, the more: -age if the store
# knows that it is gone, else 1. size: in bytes. lines: its CopyLines, None if it cannot
# be read, or is not to be.
Copy = namedtuple("Copy", "project path is_there is_stored went age size lines")

# What a transcript consists of, as sets of hashes: its messages, by their uuids or by
# what they say, and its other lines. talks: is one a part of the conversation?
CopyLines = namedtuple("CopyLines", "talks messages others")

# A session of a project by its paths: the transcript or None, what lies below <id>/,
# flat agent files. Where Claude Code does not look it is a transcript alone.
Stored = namedtuple("Stored", "project session_id transcript beside agents")

_LOST = Info("", "blob", 1 << 62)       # what is lost may have been the longest


# --- which session, and which copy ----------------------------------------------------


def pick_stored(word, stored):
    """The one id of a StoredSessions that a word names, as csb.session.pick() does."""
    from csb.transcript import when_and_title_in

    def about(session_id):
        for path in stored.transcripts(session_id).values():
            found = stored.read(path, when_and_title_in)
            if found:
                return found
        return ""

    return pick(word, stored.sessions, about)


def homes_of(stored, session_id, asked=None, chosen=None, on_disk=(), target=None):
    """The Homes of a session that a StoredSessions holds.

    asked: the project that a record names, which decides between copies that differ.
    chosen: the one that a person wants, whatever the others hold. on_disk: the paths of
    the session's transcripts in the directory target.
    """
    transcripts = stored.transcripts(session_id)
    found = (project_of(path) for path in stored.sessions[session_id])
    known = set(transcripts) or set(found) - {None}
    asked = chosen or asked
    if asked and asked not in known:
        raise Error(f"cannot find session {session_id} in project '{asked}'")
    if chosen or not transcripts:
        return Homes([asked] if asked else sorted(known), [], [], [])
    path_on_disk = {project_of(path): path for path in on_disk}
    if len({*transcripts, *path_on_disk}) == 1:
        return Homes(list(transcripts), [], [], [])

    copies = []
    for project in sorted({*transcripts, *path_on_disk}):
        path = path_on_disk.get(project)
        file = path and os.path.join(target, path)
        copies.append(_copy_read(stored, transcripts.get(project), path, file))
    standing = those_that_count(copies)
    here = [copy for copy in standing if copy.is_stored]
    projects = sorted(copy.project for copy in here)
    others = [copy.project for copy in standing if not copy.is_stored]
    if len(here) > 1 and not _come_together(here, path_on_disk):
        if asked not in projects:
            raise Error(
                f"session {session_id} is in several projects, and what was said "
                f"differs (--project=NAME takes one): {' '.join(projects)}", MISUSE
            )
        others += set(projects).intersection(path_on_disk)
        projects = [asked]

    gave_way = [copy for copy in copies if copy not in standing]
    moved = []
    for copy in gave_way:
        is_said = copy.is_stored and copy.lines.talks
        if is_said and all(home.went >= copy.went for home in here):
            moved.append(copy)
    return Homes(
        projects, [copy.project for copy in gave_way], [copy.project for copy in moved],
        others,
    )


def _come_together(copies, path_on_disk):
    """Are all of these copies on disk, or all gone since one and the same backup?"""
    if all(copy.project in path_on_disk for copy in copies):
        return True
    if any(copy.is_there for copy in copies):
        return False
    return len({copy.went for copy in copies}) == 1


def _copy_at(held, path, is_there, size, lines=None):
    """The Copy at a path, of which a history may know."""
    project = project_of(path)
    if path not in held:
        return Copy(project, path, is_there, False, 1, 0, size, lines)
    age = held.age(path)
    went = 1 if held.last(path).deleted_at is None else -age
    return Copy(project, path, is_there, True, went, age, size, lines)


def _copy_read(stored, path, path_on_disk, file):
    """The Copy that is stored at a path, on disk at another one, a file, or both.

    If it is in one place alone the others are None.
    """
    version = None
    size = 0
    is_there = file is not None or not is_gone(stored.root, path)
    if path:
        version = stored.versions(path)[0]
        size = stored.sizes([version]).get(version.oid, 0)
    lines = _copy_lines(stored.objects, version, file)
    return _copy_at(stored.held, path or path_on_disk, is_there, size, lines)


def _copy_lines(objects, version, file):
    """The CopyLines of a stored version and of a file; None if one cannot be read."""
    lines = CopyLines(False, set(), set())
    try:
        if version:
            lines = lines_of_copy(objects.blocks(version.oid), lines)
        if file:
            with StableFile(file) as opened:
                lines = lines_of_copy(opened.blocks(), lines)
    except (OSError, Changed, GitError):
        return None
    return lines


def those_that_say_most(paths):
    """Those of the transcripts at some paths on disk that no other one holds."""
    copies = []
    for path in sorted(paths):
        copies.append(_copy_at((), path, True, 0, _copy_lines(None, None, path)))
    return [copy.path for copy in those_that_count(copies)]


def those_that_count(copies):
    """The Copies that hold what no other one holds.

    A copy without messages does not count, if there is one with some. One that cannot
    be read may hold anything.
    """
    unread = [copy for copy in copies if copy.lines is None]
    read = [copy for copy in copies if copy.lines is not None]
    talking = [copy for copy in read if copy.lines.talks]
    if talking or unread:
        read = talking

    read.sort(key=lambda copy: (len(_compared(copy)), _rank(copy)), reverse=True)
    standing = []
    for copy in read:
        if not any(_compared(copy) <= _compared(other) for other in standing):
            standing.append(copy)
    return standing + unread


def _rank(copy):
    """What orders copies that hold the same: the highest goes on with the others.

    That is one on disk, else in the last backup, else what went last, else the longest.
    """
    return copy.is_there, copy.is_stored, copy.went, copy.size, -copy.age


def _compared(copy):
    """What tells a copy from others: of one that talks its messages."""
    return copy.lines.messages if copy.lines.talks else copy.lines.others


def lines_of_copy(blocks, lines):
    """The CopyLines with those of a transcript (blocks of bytes) added.

    A line that is too large is a message like no other.
    """
    from csb.transcript import TranscriptLines, load

    talks, messages, others = lines
    for line in TranscriptLines(blocks):
        loaded = load(line)
        if line is None or loaded.damaged and len(line) > BLOCK:
            talks = True
            messages.add(object())
            continue
        says = False
        for record in loaded.records:
            talks = talks or record.is_message
            if record.said is not None:
                says = True
                name = record.uuid or (record.time, str(record.voices()))
                messages.add(hash(name))
        if line.strip() and not says:
            others.add(hash(line))
    return CopyLines(talks, messages, others)


# --- which sessions are gone ----------------------------------------------------------


def lost_sessions(held, objects, root, sessions=None):
    """The sessions of a history that are gone from a Claude directory, each a Stored.

    Sorted by project and id. One that was just moved to another project is not lost.
    sessions: those of owners_of(), if they are known. No path below projects is refused
    by its name: whether a journal says so of one is for the caller to ask
    (csb.refused.Refused).
    """
    moves = Moves(held, objects, root, sessions)
    lost = []
    for session in moves.sessions:
        if session.transcript:
            gone = is_gone(root, session.transcript) and not moves.moved_to(session)
        else:
            gone = all(is_gone(root, path) for path in session.beside + session.agents)
        if gone:
            lost.append(session)
    return lost


def _stored_sessions(held, sessions):
    """What lies below projects/ of the sessions of owners_of(), each a Stored.

    Sorted by project and id.
    """
    transcripts = {}            # {(project, id): path}
    beside = {}                 # {(project, id): paths}
    agents = {}
    odd_ones = []
    for session_id, paths in sessions.items():
        for path in paths:
            project = project_of(path)
            if project is None or not held.is_file(path):
                continue        # a link: its text is not what it led to
            home = project, session_id
            below = f"projects/{project}/{session_id}/"
            odd = odd_transcript_in(path)
            if odd:
                if key_of(odd.session_id) == key_of(session_id):
                    odd_ones.append(Stored(project, odd.session_id, path, [], []))
            elif transcript_in(path):
                transcripts[home] = path
            elif is_flat_agent(path):
                agents.setdefault(home, []).append(path)
            elif key_of(path).startswith(key_of(below)):
                beside.setdefault(home, []).append(path)
    found = []
    for home in {*transcripts, *beside, *agents}:
        more = beside.get(home, []), agents.get(home, [])
        found.append(Stored(*home, transcripts.get(home), *more))
    return sorted([*found, *odd_ones], key=_by_project_and_id)


def _by_project_and_id(session):
    return session.project, session.session_id, session.transcript or ""


class Moves:
    """Which transcripts that are gone from a Claude directory were just moved.

    Claude Code moves a transcript to another project when a worktree is left, and on
    /cd. A transcript that is gone was moved if one of the same id in another project
    begins, or once began, with all of its bytes, at its fullest, and if nothing that
    lay beside it is gone and not in the other project as well. Which one goes on with
    which says _rank(). A stub begins with nothing, so that it hides nothing. root is
    that directory, sessions those of owners_of(), if they are known.
    """

    def __init__(self, held, objects, root, sessions=None):
        if sessions is None:
            sessions = owners_of(held, objects).sessions
        self.sessions = _stored_sessions(held, sessions)    # each a Stored, sorted
        self._held = held
        self._objects = objects
        self._root = root
        self._stored = {}       # {key of an id: the Stored of all projects}
        for session in self.sessions:
            if not _is_odd(session):
                self._stored.setdefault(key_of(session.session_id), []).append(session)
        self._on_disk = None    # {key of an id: transcripts on disk}, when it is needed
        self._copies = {}       # {path: its Copy}

    def of(self, session_id):
        """The Stored of a session, one a project; its id is compared without case."""
        return self._stored.get(key_of(session_id), [])

    def home(self, session_id):
        """The path of the one transcript of a session that was not moved.

        None if there is none, or several: these are different conversations.
        """
        homes = self._transcripts(session_id)
        for session in self.of(session_id):
            if session.transcript and self.moved_to(session):
                homes.remove(session.transcript)
        return homes[0] if len(homes) == 1 else None

    def moved_to(self, session):
        """The path of the transcript that goes on with that of a Stored.

        None if the transcript is not gone, or was not moved.
        """
        others = []
        for path in self._transcripts(session.session_id):
            if _is_odd(session) or project_of(path) != session.project:
                others.append(path)
        if not others:
            return None             # most sessions lie in one project
        start = self._copy(session.transcript)
        if start.is_there:
            return None
        copies = sorted(map(self._copy, others), key=_rank, reverse=True)
        for copy in copies:
            if _rank(copy) <= _rank(start):
                break
            if self._left_behind(session, copy.project):
                continue
            if self._begins_with(copy, self._infos(start.path)[0]):
                return copy.path
        return None

    def _transcripts(self, session_id):
        """The transcripts of a session, those that are stored and those on disk."""
        if self._on_disk is None:
            self._on_disk = transcripts_on_disk(self._root)
        found = [one.transcript for one in self.of(session_id) if one.transcript]
        found += self._on_disk.get(key_of(session_id), ())
        return list(dict.fromkeys(found))

    def _copy(self, path):
        if path not in self._copies:
            size = max((info.size for info in self._infos(path)), default=0)
            is_there = not is_gone(self._root, path)
            try:
                if is_there:
                    size = os.stat(os.path.join(self._root, path)).st_size
            except OSError:
                pass            # what is stored has to do
            self._copies[path] = _copy_at(self._held, path, is_there, size)
        return self._copies[path]

    def _infos(self, path):
        """The Infos of the stored versions of a path, the longest one first."""
        if path not in self._held:
            return []
        oids = {version.oid for version in self._held.versions(path)}
        found = self._objects.infos(oids)
        infos = [found.get(oid, _LOST) for oid in oids]
        return sorted(infos, key=lambda info: -info.size)

    def _begins_with(self, copy, start):
        """Does a transcript begin with the bytes of an object (an Info)?"""
        if copy.is_there:
            try:
                with StableFile(os.path.join(self._root, copy.path)) as file:
                    if start_of(file.blocks(), start):
                        return True
            except (OSError, Changed):
                pass
        # It may be truncated, or rewritten, since: what is stored of it has to do.
        infos = self._infos(copy.path)
        return any(begins_with(self._objects, info, start) for info in infos)

    def _left_behind(self, session, project):
        """Is something gone that lay beside a transcript, and not in that project?"""
        for path in session.beside:
            there = f"projects/{project}/" + path.split("/", 2)[2]
            if there in self._held or not is_gone(self._root, path):
                continue
            if is_gone(self._root, there):
                return True
        return False


def _is_odd(session):
    """Is a Stored a transcript where Claude Code does not look?"""
    return session.transcript is not None and transcript_in(session.transcript) is None
