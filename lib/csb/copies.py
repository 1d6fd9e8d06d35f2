"""a session in several projects: which copy counts, and which one was just moved

    session_id = pick_stored(word, stored)
    copies = Copies(stored, root)
    copies.homes(session_id).projects       where it is, or comes back
    copies.home(session_id)                 where it is, if it was just moved
    lost_sessions(stored)                   the sessions that are gone

Claude Code moves a session to another project, and may leave a stub of it behind; a
person may copy it, and go on with both. A copy without messages does not count, and one
of which all messages stand in another gives way to that. Two that truly differ are two
conversations.
"""
from collections import namedtuple
from functools import cached_property
from os.path import join

from csb import MISUSE, Error
from csb.files import BLOCK, Changed, StableFile
from csb.git import GitError, Info
from csb.held import begins_with, is_gone, start_of
from csb.session import (
    any_transcript_in,
    is_flat_agent,
    key_of,
    odd_transcript_in,
    pick,
    project_of,
    transcript_in,
    transcripts_on_disk,
)

# Where a session comes back: in which projects; those whose copies gave way to these;
# others where it is on disk, and says more.
Homes = namedtuple("Homes", "projects gave_way others")

# What a transcript says, as hashes: of its messages, by their uuids or what they say,
# or, if none of these is a part of the conversation (talks), of its other lines.
CopySays = namedtuple("CopySays", "talks hashes")

_LOST = Info("", "blob", 1 << 62)       # what is lost may have been the longest


def pick_stored(word, stored):
    """The one id of a StoredSessions that a word names, as csb.session.pick() does."""
    from csb.transcript import when_and_title_in

    def about(session_id):
        paths = stored.transcripts(session_id).values()
        found = (stored.read_sound(path, when_and_title_in) for path in paths)
        return next(filter(None, found), "")

    return pick(word, stored.sessions, about)


# --- a copy ---------------------------------------------------------------------------


class Copy:
    """A transcript of a session: in the store (a StoredSessions), on disk, or both.

    file: the path that it has on disk, None if it is not looked at there. is_there: is
    it on disk? went: how many commits ago the store saw it go, below 0; else 1.
    """

    def __init__(self, stored, path, file=None):
        self._stored = stored
        self.path = path
        self.project = project_of(path)
        self.file = file
        self.is_stored = stored is not None and path in stored.held
        self.is_there = file is not None or not is_gone(stored.root, path)
        self.went = 1
        if self.is_stored and stored.held.last(path).deleted_at is not None:
            self.went = -stored.held.age(path)

    def rank(self):
        """What orders copies that hold the same: the highest goes on with the others.

        That is one on disk, else in the last backup, else what went last, else the
        longest.
        """
        size = self.infos[0].size if self.infos else 0
        return self.is_there, self.went, size

    @cached_property
    def infos(self):
        """The Infos of its stored versions, the longest one first."""
        if not self.is_stored:
            return []
        oids = {version.oid for version in self._stored.held.versions(self.path)}
        found = self._stored.objects.infos(oids)
        infos = [found.get(oid, _LOST) for oid in oids]
        return sorted(infos, key=lambda info: -info.size)

    @cached_property
    def said(self):
        """What it says, a CopySays; None if it cannot be read, and may say anything."""
        try:
            return said_in(self._all_bytes())
        except (OSError, Changed, GitError):
            return None

    def _all_bytes(self):
        """Yield the bytes of what is stored of it, then those on disk."""
        if self.is_stored:
            version = self._stored.candidates(self.path)[0]
            yield from self._stored.objects.blocks(version.oid)
            yield b"\n"
        if self.file:
            with StableFile(self.file) as opened:
                yield from opened.blocks()

    def begins_with(self, start):
        """Does it begin, or did it once, with the bytes of an object (an Info)?"""
        try:
            if self.file:
                with StableFile(self.file) as opened:
                    if start_of(opened.blocks(), start):
                        return True
        except (OSError, Changed):
            pass                # what is stored of it has to do
        objects = self._stored.objects
        return any(begins_with(objects, info, start) for info in self.infos)


def said_in(blocks):
    """The CopySays of a transcript.

    A line that is too large is a message like no other.
    """
    from csb.transcript import TranscriptLines, load

    talks = False
    messages = set()
    others = set()
    for line in TranscriptLines(blocks):
        loaded = load(line)
        if line is None or loaded.damaged and len(line) > BLOCK:
            talks = True
            messages.add(object())
            continue
        said = [record for record in loaded.records if record.said is not None]
        for record in said:
            name = record.uuid or (record.time, str(record.voices()))
            messages.add(hash(name))
        talks = talks or any(record.is_message for record in loaded.records)
        if line.strip() and not said:
            others.add(hash(line))
    return CopySays(talks, messages if talks else others)


def those_that_count(copies):
    """The Copies that hold what no other one holds.

    A copy without messages does not count, if there is one with some. One that cannot
    be read may hold anything.
    """
    unread = [copy for copy in copies if copy.said is None]
    read = [copy for copy in copies if copy.said is not None]
    talking = [copy for copy in read if copy.said.talks]
    if talking or unread:
        read = talking

    read.sort(key=lambda copy: (len(copy.said.hashes), copy.rank()), reverse=True)
    standing = []
    for copy in read:
        if not any(copy.said.hashes <= other.said.hashes for other in standing):
            standing.append(copy)
    return standing + unread


def those_that_say_most(paths):
    """Those of the transcripts at some paths on disk that no other one holds."""
    copies = [Copy(None, path, path) for path in sorted(paths)]
    return [copy.path for copy in those_that_count(copies)]


# --- all copies -----------------------------------------------------------------------


class Copies:
    """The copies of the sessions of a store (a StoredSessions), one a project.

    target: the Claude directory whose transcripts are copies, too; None: none is.
    """

    def __init__(self, stored, target=None):
        self.stored = stored
        self.target = target or stored.root
        self.on_disk = transcripts_on_disk(target) if target else {}

    def of(self, session_id):
        paths = self.stored.transcripts(session_id)
        files = {}
        for path in self.on_disk.get(key_of(session_id), ()):
            project = project_of(path)
            paths.setdefault(project, path)
            files[project] = join(self.target, path)
        return [
            Copy(self.stored, paths[project], files.get(project))
            for project in sorted(paths)
        ]

    def homes(self, session_id, asked=None, chosen=None):
        """The Homes of a session. Error if a person has to say which is meant.

        asked: the project that a record names, which decides between copies that
        differ. chosen: the one that a person wants, whatever the others hold.
        """
        transcripts = self.stored.transcripts(session_id)
        found = {project_of(path) for path in self.stored.sessions[session_id]}
        known = set(transcripts) or found - {None}
        asked = chosen or asked
        if asked and asked not in known:
            raise Error(f"cannot find session {session_id} in project '{asked}'")
        if chosen or not transcripts:
            return Homes([asked] if asked else sorted(known), [], [])
        copies = self.of(session_id)
        if len(copies) == 1:
            return Homes(list(transcripts), [], [])

        standing = those_that_count(copies)
        here = [copy for copy in standing if copy.is_stored]
        projects = sorted(copy.project for copy in here)
        others = [copy.project for copy in standing if not copy.is_stored]
        is_there = any(copy.is_there for copy in here)
        went_together = len({copy.went for copy in here}) == 1 and not is_there
        if len(here) > 1 and not went_together and not all(copy.file for copy in here):
            if asked not in projects:
                raise Error(
                    f"session {session_id} is in several projects, and what was said "
                    f"differs (--project=NAME takes one): {' '.join(projects)}", MISUSE
                )
            others += [copy.project for copy in here if copy.file]
            projects = [asked]
        gave_way = [copy.project for copy in copies if copy not in standing]
        return Homes(projects, gave_way, others)

    def home(self, session_id):
        """The project of the one transcript of a session that was not moved.

        None if there is none, or several: these are different conversations.
        """
        copies = self.of(session_id)
        left = [one for one in copies if not self.is_moved(session_id, one.path)]
        return left[0].project if len(left) == 1 else None

    def is_moved(self, session_id, path):
        """Is a stored transcript gone, and goes on in another project?

        Claude Code moves one when a worktree is left, and on /cd. Then another one
        begins, or once began, with all of its bytes, at its fullest, and nothing that
        lay beside it is gone. A stub begins with nothing, so that it hides nothing.
        """
        others = [copy for copy in self.of(session_id) if copy.path != path]
        if not others or not is_gone(self.stored.root, path):
            return False
        copy = Copy(self.stored, path)
        for other in others:
            if other.rank() > copy.rank() and other.begins_with(copy.infos[0]):
                if not self.left_behind(session_id, copy.project, [other.project]):
                    return True
        return False

    def left_behind(self, session_id, project, homes):
        """The files beside a transcript that are gone, and went to no home of it."""
        found = []
        for path in self.stored.sessions[session_id]:
            if project_of(path) != project or not is_gone(self.stored.root, path):
                continue
            if any_transcript_in(path):
                continue
            rest = path.split("/", 2)[2]
            places = [f"projects/{home}/{rest}" for home in homes]
            held = [place for place in places if place in self.stored.held]
            if not held and all(is_gone(self.target, place) for place in places):
                found.append(path)
        return found


# --- which sessions are gone ----------------------------------------------------------


class Stored:
    """A session of a project by its paths: the transcript or None, what lies below
    <id>/ (beside), flat agent files. Where Claude Code does not look it is a transcript
    alone.
    """

    def __init__(self, project, session_id, transcript=None):
        self.project = project
        self.session_id = session_id
        self.transcript = transcript
        self.beside = []
        self.agents = []

    def main(self):
        """The paths whose fate is that of the session."""
        return [self.transcript] if self.transcript else self.beside + self.agents

    def files(self):
        """The transcript, and all below <id>/."""
        return self.beside + [self.transcript] if self.transcript else self.beside


def lost_sessions(stored):
    """The sessions of a StoredSessions that its root does not hold, each a Stored.

    Sorted by project and id. One that was just moved to another project is not lost.
    What csb refuses is for the caller to leave out (csb.refused.Refused).
    """
    root = stored.root
    copies = Copies(stored, root)
    lost = []
    for session_id in stored.sessions:
        for one in _in_projects(stored, session_id):
            if all(is_gone(root, path) for path in one.main()):
                own = one.transcript
                if not own or not copies.is_moved(session_id, own):
                    lost.append(one)

    def key(session):
        return session.project, session.session_id, session.transcript or ""

    return sorted(lost, key=key)


def _in_projects(stored, session_id):
    """What lies below projects/ of a session: a Stored for each project, and copy."""
    found = {}                  # {project: its Stored}
    odd_ones = []
    for path in stored.sessions[session_id]:
        project = project_of(path)
        if project is None or not stored.held.is_file(path):
            continue            # a link: its text is not what it led to
        odd = odd_transcript_in(path)
        if odd:
            if key_of(odd.session_id) == key_of(session_id):
                odd_ones.append(Stored(project, odd.session_id, path))
            continue
        one = found.get(project) or Stored(project, session_id)
        if transcript_in(path):
            one.transcript = path
        elif is_flat_agent(path):
            one.agents.append(path)
        elif key_of(path).startswith(key_of(f"projects/{project}/{session_id}/")):
            one.beside.append(path)
        else:
            continue
        found[project] = one
    return [*found.values(), *odd_ones]
