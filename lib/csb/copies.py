"""which copy of a session counts, where several projects hold one

    homes = homes_of(stored, session_id, asked, chosen, on_disk)
    homes.projects              where it is, or comes back

Claude Code moves a session to another project, and may leave a stub of it behind; a
person may copy it, and go on with both. A copy without messages does not count, and one
of which all messages stand in another gives way to that. Two that truly differ are two
conversations.
"""
import os
from collections import namedtuple

from csb import MISUSE, Error
from csb.files import BLOCK, Changed, StableFile
from csb.git import GitError
from csb.held import is_gone
from csb.session import project_of
from csb.transcript import TranscriptLines, load

# Where a session comes back: in which projects; those whose copies gave way to these,
# and those of them that were just moved; why it must not come back, or None.
Homes = namedtuple("Homes", "projects gave_way moved refusal")

# A copy of a session: words tell it apart (see words_of), None if it cannot be read.
# size and age are the stored transcript's. is_there: is it on disk, now or elsewhere?
# deleted: does the store know that it is gone?
Copy = namedtuple("Copy", "project words size age is_stored is_there deleted")
TALKS = "talks"                 # among the words of a copy that has messages


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
    moved = [copy for copy in gave_way if copy.is_stored and TALKS in copy.words]
    return Homes(
        projects, [copy.project for copy in gave_way], [copy.project for copy in moved],
        in_the_way(others, projects),
    )


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
    words = set()
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
            words |= words_of(stored.objects.blocks(version.oid))
        if file:
            with StableFile(file) as opened:
                words |= words_of(opened.blocks())
    except (OSError, Changed, GitError):
        words = None
    return Copy(project, words, size, age, path is not None, is_there, deleted)


def those_that_count(copies):
    """The Copies that hold what no other one holds.

    A copy without messages does not count, if there is one with some. One that cannot
    be read may hold anything.
    """
    unread = [copy for copy in copies if copy.words is None]
    read = [copy for copy in copies if copy.words is not None]
    talking = [copy for copy in read if TALKS in copy.words]
    if talking or unread:
        read = talking

    # Of several that hold the same the first stays: one that is on disk, else in the
    # last backup, else the longest, else what went last.
    read.sort(key=lambda copy: (
        -len(_compared(copy)), not copy.is_there, not copy.is_stored, copy.deleted,
        -copy.size, copy.age))
    standing = []
    for copy in read:
        if not any(_compared(copy) <= _compared(other) for other in standing):
            standing.append(copy)
    return standing + unread


def words_of(blocks):
    """What a transcript consists of: a set with a number for each line, and TALKS.

    That of a message is odd and comes from its uuid, else from what it says: it is the
    same in each copy. A line that is too large is a message like no other.
    """
    found = set()
    for number, line in enumerate(TranscriptLines(blocks)):
        loaded = load(line)
        if line is None or loaded.damaged and len(line) > BLOCK:
            found.update((TALKS, hash((id(found), number)) | 1))
            continue
        says = False
        for record in loaded.records:
            if record.is_message:
                found.add(TALKS)
            if record.said is not None:
                says = True
                name = record.uuid or (record.time, str(record.voices()))
                found.add(hash(name) | 1)
        if line.strip() and not says:
            found.add(hash(line) & ~1)
    return found


def _compared(copy):
    """The words of a copy that tell it from others: of one that talks its messages."""
    if TALKS not in copy.words:
        return copy.words
    return {word for word in copy.words if word == TALKS or word & 1}
