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
from csb.held import begins_with, is_gone, start_of, stored_agent_owner
from csb.session import (
    is_flat_agent,
    is_id,
    key_of,
    odd_transcript_in,
    pick,
    project_of,
    transcript_in,
    transcripts_on_disk,
)

# Where a session comes back: in which projects; those whose copies gave way to these,
# and those of them that were just moved; why it must not come back, or None.
Homes = namedtuple("Homes", "projects gave_way moved refusal")

# A copy of a session: lines, its CopyLines, tell it apart; None if it cannot be read.
# size and age are the stored transcript's. is_there: is it on disk, where it was or
# where sessions are restored to? deleted: does the store know that it is gone?
Copy = namedtuple("Copy", "project lines size age is_stored is_there deleted")

# What a transcript consists of, as sets of hashes: its messages, by their uuids or by
# what they say, and its other lines. talks: is one a part of the conversation?
CopyLines = namedtuple("CopyLines", "talks messages others")

# A session of a project by its paths: the transcript or None, what lies below <id>/,
# flat agent files. Where Claude Code does not look it is a transcript alone.
Stored = namedtuple("Stored", "project session_id transcript beside agents")

# Where a transcript lies: stored are the Infos of its stored versions, the longest one
# first; size, in bytes, is that on disk, else that of the longest; age counts the
# commits since it changed; deleted says whether the store knows that it is gone.
_Place = namedtuple("_Place", "path gone stored size age deleted")

_LOST = Info("", "blob", 1 << 62)       # what is lost may have been the longest


# --- which session, and which copy ----------------------------------------------------


def pick_stored(word, stored):
    """The one id of a StoredSessions that a word names, as csb.session.pick() does."""
    from csb.transcript import when_and_title_in

    def about(session_id):
        for path in stored.transcripts(session_id).values():
            for version in stored.versions(path):
                try:
                    return when_and_title_in(stored.objects.blocks(version.oid))
                except GitError:
                    continue            # it is lost
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
        return Homes([asked] if asked else sorted(known), [], [], None)
    path_on_disk = {project_of(path): path for path in on_disk}
    if len({*transcripts, *path_on_disk}) == 1:
        return Homes(list(transcripts), [], [], None)

    copies = []
    for project in sorted({*transcripts, *path_on_disk}):
        path = path_on_disk.get(project)
        file = path and os.path.join(target, path)
        copies.append(_copy_in(stored, project, transcripts.get(project), file))
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
        if is_said and not any(_went_before(home, copy) for home in here):
            moved.append(copy)
    return Homes(
        projects, [copy.project for copy in gave_way], [copy.project for copy in moved],
        in_the_way(others, projects),
    )


def _went_before(one, other):
    """Did a Copy, or a _Place, go before another one did, as far as the store knows?"""
    return one.deleted and (not other.deleted or one.age > other.age)


def _come_together(copies, path_on_disk):
    """Are all of these copies on disk, or all gone since one and the same backup?"""
    if all(copy.project in path_on_disk for copy in copies):
        return True
    if any(copy.is_there for copy in copies):
        return False
    return len({copy.age if copy.deleted else None for copy in copies}) == 1


def in_the_way(others, projects):
    """Why a session must not be restored into projects, None if it may.

    others: projects that have it, too, and other messages.
    """
    others = sorted(set(others) - set(projects))
    if not others or not projects:
        return None
    return (
        f"project '{others[0]}' has it already, with other messages "
        f"(--project={projects[0]} brings this one back, too)"
    )


def _copy_in(stored, project, path, file):
    """The Copy in a project. path: its transcript's in the store; file: that on disk.

    Of the two there may be one alone: the other is None.
    """
    lines = CopyLines(False, set(), set())
    size = age = 0
    deleted = False
    is_there = file is not None
    try:
        if path:
            version = stored.versions(path)[0]
            size = stored.sizes([version]).get(version.oid, 0)
            age = stored.held.age(path)
            deleted = stored.held.last(path).deleted_at is not None
            is_there = is_there or not is_gone(stored.root, path)
            lines = lines_of_copy(stored.objects.blocks(version.oid), lines)
        if file:
            with StableFile(file) as opened:
                lines = lines_of_copy(opened.blocks(), lines)
    except (OSError, Changed, GitError):
        lines = None
    return Copy(project, lines, size, age, path is not None, is_there, deleted)


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

    read.sort(key=_rank_of_copy, reverse=True)
    standing = []
    for copy in read:
        if not any(_compared(copy) <= _compared(other) for other in standing):
            standing.append(copy)
    return standing + unread


def _rank_of_copy(copy):
    """What orders copies: of several that hold the same the highest stays.

    That is one on disk, else in the last backup, else the longest, else what went last.
    """
    return (
        len(_compared(copy)),
        copy.is_there,
        copy.is_stored,
        not copy.deleted,
        copy.size,
        -copy.age,
    )


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


def _stored_sessions(held, objects):
    """The sessions below projects/, sorted by project and id, each a Stored."""
    sessions = {}               # {(project, id): its Stored}
    others = []
    odd_ones = []
    for path in sorted(held.paths()):
        if not held.is_file(path):
            continue            # a link: its text is not what it led to
        found = transcript_in(path)
        odd = odd_transcript_in(path)
        if found:
            sessions[found] = Stored(*found, path, [], [])
        elif odd:
            odd_ones.append(Stored(odd.project, odd.session_id, path, [], []))
        else:
            others.append(path)

    # What lies beside a transcript may spell its id in another case.
    spelled = {}                # {(project, key of an id): id}
    for project, session_id in sessions:
        spelled.setdefault((project, key_of(session_id)), session_id)

    def session_of(project, session_id):
        key = project, session_id
        if key not in sessions:
            key = project, spelled.setdefault((project, key_of(session_id)), session_id)
        return sessions.setdefault(key, Stored(*key, None, [], []))

    for path in others:
        parts = path.split("/")
        if is_flat_agent(path):
            owner = stored_agent_owner(held, objects, path)
            if owner:
                session_of(parts[1], owner).agents.append(path)
        elif parts[0] == "projects" and len(parts) > 3 and is_id(parts[2]):
            session_of(parts[1], parts[2]).beside.append(path)
    return sorted([*sessions.values(), *odd_ones], key=_by_project_and_id)


def _by_project_and_id(session):
    return session.project, session.session_id, session.transcript or ""


class Moves:
    """Which transcripts that are gone from a Claude directory were just moved.

    Claude Code moves a transcript to another project when a worktree is left, and on
    /cd. A transcript that is gone was moved if one of the same id in another project
    begins, or once began, with all of its bytes, at its fullest, and if nothing that
    lay beside it is gone and not in the other project as well. One on disk goes on with
    those that are gone; of those that are gone the longest goes on with the others,
    else what went last, unless it went before they did. A stub begins with nothing, so
    that it hides nothing. root is that directory.
    """

    def __init__(self, held, objects, root):
        self.sessions = _stored_sessions(held, objects)     # each a Stored, sorted
        self._held = held
        self._objects = objects
        self._root = root
        self._stored = {}       # {key of an id: the Stored of all projects}
        for session in self.sessions:
            if not _is_odd(session):
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
            if _is_odd(session) or project_of(path) != session.project:
                others.append(self._place(path))
        if not others:
            return None             # most sessions lie in one project
        start = self._place(session.transcript)
        if not start.gone:
            return None
        others = [place for place in others if _rank(place) > _rank(start)]
        for place in sorted(others, key=_rank, reverse=True):
            if place.gone and _went_before(place, start):
                continue        # both were there, and were deleted one by one
            if self._left_behind(session, project_of(place.path)):
                continue
            if self._begins_with(place, start.stored[0]):
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
            stored = []
            age = 0
            deleted = False
            if path in self._held:
                versions = self._held.versions(path)
                stored = [self._objects.info(one.oid) or _LOST for one in versions]
                stored.sort(key=lambda info: -info.size)
                age = self._held.age(path)
                deleted = versions[0].deleted_at is not None
            size = stored[0].size if stored else 0
            gone = is_gone(self._root, path)
            if not gone:
                size = self._size_on_disk(path, size)
            self._places[path] = _Place(path, gone, stored, size, age, deleted)
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
        # It may be truncated, or rewritten, since: what is stored of it has to do.
        return any(begins_with(self._objects, info, start) for info in place.stored)

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


def _rank(place):
    """What orders _Places: a transcript goes on in one with a higher rank."""
    return not place.gone, place.size, -place.age, not place.deleted
