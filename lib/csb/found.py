"""the sessions that there are: on disk, and those that only the store knows, as records

Each is a dict, kind "session", as csb-find prints them (its manual names the fields).
"""
import json
import os
import stat

from csb import DAY, Error, utc, utc_ns, warn, why
from csb.copies import lost_sessions
from csb.files import has_nothing, is_file_or_link
from csb.held import StoredSessions, written_at
from csb.places import cleanup_days
from csb.refused import Refused
from csb.session import (
    ProjectLinks,
    any_transcript_in,
    is_flat_agent,
    is_id,
    key_of,
    owner_of,
    transcript_in,
)


def common_record(root, path, size, mtime, files, all_bytes):
    """What is said of every session. path: of its transcript, below the root; size,
    mtime (nanoseconds): of that; files, all_bytes: of it and all below <uuid>/."""
    project, session_id, place = any_transcript_in(path)
    record = {
        "kind": "session",
        "session_id": session_id,
        "project": project,
        "root": root,
        "transcript_path": f"{root}/{path}",
        "size": size,
        "mtime": utc_ns(mtime),
        "files": files,
        "bytes": all_bytes,
    }
    if place:
        record["place"] = place
    return record


# --- on disk --------------------------------------------------------------------------


def is_any(project, session_id):
    """Wanted is every session."""
    return True


class SessionWalk:
    """The walk through one Claude directory: what it has to remember.

    beside: is all that lies beside transcripts looked at, or only what has none?
    """

    def __init__(self, root, beside=True):
        self.root = root
        self.beside = beside
        self.projects = os.path.join(root, "projects")
        self.links = ProjectLinks(root)
        self.complete = True    # was everything listed?

    def records(self, is_wanted=is_any, projects=None):
        """Yield the records of the sessions, sorted.

        is_wanted: a function that says of a project and an id whether that is asked
        for. projects: the names of those that are looked at, if not all are.
        """
        days = cleanup_days(self.root)
        names = []
        for entry in self.entries(self.projects):
            if (projects is None or entry.name in projects) and self.is_dir(entry):
                names.append(entry.name)
        for name in names:
            found = ProjectFolder(self, name, is_wanted).found
            for path in sorted(found, key=lambda path: (found[path].session_id, path)):
                whole = f"projects/{name}/{path}"
                yield disk_record(self.root, whole, found[path], days)

    def entries(self, path):
        """The entries of a directory by name; one that cannot be listed has none."""
        return sorted(self.unsorted(path), key=lambda entry: entry.name)

    def unsorted(self, path):
        """Yield the same in any order: there may be very many."""
        try:
            with os.scandir(path) as listing:
                yield from listing
        except FileNotFoundError:
            pass
        except OSError as error:
            self.complete = False
            warn(f"cannot list '{path}': {why(error)}")

    def is_dir(self, entry):
        """Is the entry a directory to walk into?"""
        if not entry.is_symlink():
            return entry.is_dir()
        if not self.links.leads_out(entry.path):
            return False
        if not self.entries(entry.path):
            self.complete = False       # empty: is its disk away?
        return True

    def file_stat(self, entry):
        """The stat of an entry that is a file or a link; None for what is neither.

        A link to a *.jsonl file stands for that file.
        """
        try:
            found = entry.stat(follow_symlinks=False)
            if stat.S_ISLNK(found.st_mode) and entry.name.endswith(".jsonl"):
                if os.path.isfile(entry.path):
                    found = os.stat(entry.path)
        except FileNotFoundError:
            return None         # it went meanwhile
        except OSError as error:
            self.complete = False
            warn(f"cannot look at '{entry.path}': {why(error)}")
            return None
        return found if is_file_or_link(found) else None


class FoundSession:
    """What a project holds of a session.

    size: of the transcript, None if there is none. mtime: of that, in nanoseconds, else
    the newest one of what is left of it. files, bytes: the transcript and all below
    <uuid>/.
    """

    __slots__ = ("session_id", "size", "mtime", "files", "bytes")

    def __init__(self, session_id):
        self.session_id = session_id
        self.size = None
        self.mtime = self.files = self.bytes = 0

    def take_transcript(self, status):
        self.size = status.st_size
        self.mtime = status.st_mtime_ns
        self._count(status)

    def take_beside(self, status):
        """A file below <uuid>/."""
        self.take_agent(status)
        self._count(status)

    def take_agent(self, status):
        """A flat agent file."""
        if self.size is None:
            self.mtime = max(self.mtime, status.st_mtime_ns)

    def _count(self, status):
        self.files += 1
        self.bytes += status.st_size


class ProjectFolder:
    """What one directory below projects holds of the sessions that are wanted.

    found: {path of a transcript, below the directory: FoundSession}.
    """

    def __init__(self, walk, name, is_wanted):
        self.walk = walk
        self.found = {}
        self._name = name
        self._start = f"projects/{name}/"
        self._is_wanted = is_wanted
        self._spelled = {}          # {key of an id: the id}, where they may differ
        others = []
        for entry in walk.unsorted(os.path.join(walk.projects, name)):
            own = transcript_in(self._start + entry.name)
            if own and entry.is_file(follow_symlinks=False):
                self._add_transcript(entry, own.session_id, entry.name)
            else:
                others.append(entry)
        for entry in sorted(others, key=lambda entry: entry.name):
            self._add(entry, entry.name)

    def _add(self, entry, path, owner=None):
        """Note what is, or lies below, an entry.

        path: below this directory. owner: the id of the session in whose own folder
        that is.
        """
        if not self.walk.is_dir(entry):
            self._add_file(entry, path, owner)
        elif owner is None or self._is_walked(owner):
            if path == entry.name and is_id(path):
                owner = path
            for inner in self.walk.entries(entry.path):
                self._add(inner, f"{path}/{inner.name}", owner)

    def _is_walked(self, owner):
        """Is all in a session's own folder looked at, and not just for the transcripts
        of others?"""
        session = self.found.get(self._path_of(owner))
        has_transcript = session is not None and session.size is not None
        is_needed = self.walk.beside or not has_transcript
        return is_needed and self._is_wanted(self._name, owner)

    def _path_of(self, session_id):
        """Where the transcript of an id, in either case, lies or would lie."""
        key = key_of(session_id)
        spelled = self._spelled.get(key, session_id)
        for one in (session_id, key):
            if f"{one}.jsonl" in self.found:
                spelled = one
                break
        return f"{spelled}.jsonl"

    def _of(self, session_id):
        """The FoundSession of an id to which a file beside transcripts belongs."""
        path = self._path_of(session_id)
        if path not in self.found:
            self._spelled[key_of(session_id)] = session_id
            self.found[path] = FoundSession(session_id)
        return self.found[path]

    def _add_file(self, entry, path, owner):
        whole = self._start + path
        transcript = any_transcript_in(whole)
        if transcript:
            self._add_transcript(entry, transcript.session_id, path)
        elif is_flat_agent(whole):
            status = self._transcript_stat(entry)
            owner = owner_of(entry.path) if status else None
            if owner and self._is_wanted(self._name, owner):
                self._of(owner).take_agent(status)
        elif owner and self._is_walked(owner):
            status = self.walk.file_stat(entry)
            if status:
                self._of(owner).take_beside(status)

    def _add_transcript(self, entry, session_id, path):
        if self._is_wanted(self._name, session_id):
            status = self._transcript_stat(entry)
            if status:
                session = self.found.setdefault(path, FoundSession(session_id))
                session.take_transcript(status)
                if session_id != key_of(session_id):
                    self._spelled.setdefault(key_of(session_id), session_id)

    def _transcript_stat(self, entry):
        """The stat of an entry that is a file, or leads to one; else None."""
        status = self.walk.file_stat(entry)
        if status and stat.S_ISLNK(status.st_mode):
            warn(f"cannot read '{entry.path}': the link leads to no file")
            return None
        return status


def disk_record(root, path, session, days):
    """The record of a FoundSession; days: after how many Claude Code deletes it, or
    None."""
    record = common_record(
        root, path, session.size or 0, session.mtime, session.files, session.bytes
    )
    if days:
        record["purge_at"] = utc(session.mtime // 10**9 + days * DAY)
    if session.size is None:
        record["state"] = "husk"
    return record


def all_on_disk(root):
    """Yield the records of all sessions of one Claude directory, and its end record."""
    walk = SessionWalk(root)
    end = {"kind": "end", "root": root, "count": 0, "complete": False}
    if has_nothing(walk.projects):
        check_claude_dir(root)
        yield {**end, "empty": True}
        return
    for record in walk.records():
        yield record
        end["count"] += 1
    end["complete"] = walk.complete
    yield end


def check_claude_dir(root):
    """Warn if a Claude directory, whose projects/ holds nothing, holds nothing else."""
    try:
        if not {"projects"}.issuperset(os.listdir(root)):
            return
        reason = "there is no file in it"
    except OSError as error:
        reason = why(error)
    warn(f"cannot find sessions in '{root}': {reason}")


# --- in the store ---------------------------------------------------------------------


class LostSessions(StoredSessions):
    """The sessions that a store knows and a Claude directory does not hold."""

    def __init__(self, store, root):
        super().__init__(store, root, wanted=is_in_projects)

    def records(self):
        """Yield their records, sorted by project and id."""
        versions = {}           # {path: the version that counts}
        main = {}               # {path: its object}, of those whose fate is a session's
        sessions = lost_sessions(self)
        for session in sessions:
            for path in session.files() + session.main():
                versions[path] = self.held.last(path)
            if session.transcript:
                versions[session.transcript] = self._last_good(session.transcript)
            for path in session.main():
                main[path] = versions[path].oid
        sizes = self.sizes(versions.values())
        refused = Refused()
        times = written_at(self.held, self.objects, main, refused)
        for session in sessions:
            if not all(path in refused for path in session.main()):
                yield self._record(session, versions, sizes, times)

    def _last_good(self, path):
        """The last version of a transcript, but for stubs that came when it was gone.

        Of each of its lives the last version counts; it is that of a stub if there is
        no record in it.
        """
        last, *others = self.held.versions(path)
        before = [version for version in others if version.deleted_at is not None]
        if not before:
            return self.held.last(path)     # as of nearly all
        for version in [last, *before]:
            if self._has_record(version):
                return version
        return last

    def _has_record(self, version):
        """Has a version of a transcript a record in it?"""
        from csb.transcript import all_records

        try:
            records = all_records(self.objects.blocks(version.oid))
            return any(record.is_sound for record in records)
        except Error:
            return True         # it is lost, and may have held anything

    def _record(self, session, versions, sizes, times):
        own = session.transcript
        main = session.main()
        deletions = [versions[path].deleted_at for path in main]
        mtimes = [
            times.get(path) or versions[path].seconds * 10**9 for path in main
        ]
        size_of = {path: sizes.get(versions[path].oid, 0) for path in session.files()}
        record = common_record(
            self.root, own or f"projects/{session.project}/{session.session_id}.jsonl",
            size_of[own] if own else 0, max(mtimes),
            len(size_of), sum(size_of.values()),
        )
        title = self._title(session)
        if title:
            record["title"] = title
            record["title_from"] = "file"
        record["state"] = "present" if own else "husk"
        if None not in deletions:
            record["state"] = "deleted"
            record["deleted_at"] = utc(max(deletions))
        if own:
            record["oid"] = versions[own].oid
        return record

    def _title(self, session):
        """The title of a session's custom-title.json, "" if there is none."""
        from csb.transcript import one_line, title_in

        for path in session.beside:
            if path.split("/")[3:] == ["custom-title.json"]:
                try:
                    data = self.objects.read(self.held.last(path).oid)
                    return one_line(title_in(json.loads(data)))
                except (Error, ValueError, RecursionError):
                    break
        return ""


def is_in_projects(path):
    """Is it a path that may be a session's of its own?"""
    return path.startswith("projects/")
