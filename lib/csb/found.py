"""the sessions that there are: on disk, and those that only the store knows, as records

Each is a dict, kind "session", as csb-find prints them (its manual names the fields).
"""
import json
import os
import stat

from csb import Error, utc, utc_ns, warn, why
from csb.copies import lost_sessions
from csb.files import has_nothing
from csb.git import sizes_of
from csb.held import StoredSessions, written_at
from csb.places import cleanup_days
from csb.refused import Refused
from csb.session import (
    ProjectLinks,
    Spellings,
    agent_file_owner,
    is_id,
    odd_transcript_in,
)

SECONDS_A_DAY = 86400


# --- on disk --------------------------------------------------------------------------


class SessionWalk:
    """The walk through one Claude directory: what it has to remember.

    beside: is all that lies beside transcripts looked at, or only what has none?
    """

    def __init__(self, root, beside=True):
        self.beside = beside
        self.projects = os.path.join(root, "projects")
        self.links = ProjectLinks(root)
        self.complete = True    # was everything listed?

    def entries(self, path):
        """The entries of a directory by name; one that cannot be listed has none."""
        try:
            with os.scandir(path) as listing:
                return sorted(listing, key=lambda entry: entry.name)
        except FileNotFoundError:
            return []
        except OSError as error:
            self.complete = False
            warn(f"cannot list '{path}': {why(error)}")
            return []

    def is_dir(self, entry):
        """Is the entry a directory to walk into?"""
        if not entry.is_symlink():
            return entry.is_dir()
        if not self.links.leads_out(entry.path):
            return False
        if not self.entries(entry.path):
            self.complete = False       # empty: is its disk away?
        return True

    def files_at(self, entry):
        """Yield the stat of an entry, or those of all files below it; links are files.
        """
        if self.is_dir(entry):
            for inner in self.entries(entry.path):
                yield from self.files_at(inner)
            return
        found = self.file_stat(entry)
        if found:
            yield found

    def file_stat(self, entry):
        """The stat of an entry that is a file or a link; None for what is neither.

        A link to a *.jsonl file stands for that file.
        """
        found = None
        try:
            found = entry.stat(follow_symlinks=False)
            if stat.S_ISLNK(found.st_mode) and entry.name.endswith(".jsonl"):
                target = os.stat(entry.path)
                if stat.S_ISREG(target.st_mode):
                    return target
        except FileNotFoundError:
            pass                # it went meanwhile, or is a link to nowhere
        except OSError as error:
            self.complete = False
            warn(f"cannot look at '{entry.path}': {why(error)}")
            return None
        if found and stat.S_IFMT(found.st_mode) in (stat.S_IFREG, stat.S_IFLNK):
            return found
        return None


def owner_of(path):
    """The session that the flat agent file at path names, else None."""
    try:
        return agent_file_owner(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        warn(f"cannot read '{path}': {why(error)}")
    return None


class FoundSession:
    """What a project holds of a session, as stats of its files.

    place: None, or that of an OddTranscript, whose file is all that it has.
    """

    def __init__(self, session_id, path, place=None):
        self.session_id = session_id
        self.path = path        # of the transcript, below the Claude directory
        self.place = place
        self.transcript = None
        self.beside = []        # what lies below <uuid>/
        self.agents = []        # flat agent files


class ProjectFolder:
    """What one directory below projects holds of the sessions that are wanted."""

    def __init__(self, walk, folder, is_wanted):
        self.walk = walk
        self.name = os.path.basename(folder)
        self._is_wanted = is_wanted
        self._found = {}        # {id: FoundSession}
        self._odd = []
        entries = walk.entries(folder)
        transcripts = []
        for entry in entries:
            stem = entry.name.removesuffix(".jsonl")
            if stem != entry.name and is_id(stem):
                transcripts.append(stem)
        self._transcripts = set(transcripts)
        self._spellings = Spellings(transcripts)
        for entry in entries:
            self._add(entry)

    def sessions(self):
        """Its FoundSessions, sorted."""
        return sorted([*self._found.values(), *self._odd], key=_by_id_and_path)

    def _session_of(self, session_id):
        session_id = self._spellings.of(session_id)
        if session_id not in self._found:
            path = f"projects/{self.name}/{session_id}.jsonl"
            self._found[session_id] = FoundSession(session_id, path)
        return self._found[session_id]

    def _add(self, entry):
        """Note what an entry is of a session."""
        stem = entry.name.removesuffix(".jsonl")
        if is_id(entry.name):
            if self.walk.is_dir(entry):
                self._add_own_folder(entry)
        elif stem == entry.name:
            self._add_deeper(entry, f"{self.name}/{entry.name}")
        elif is_id(stem):
            found = None
            if self._is_wanted(self.name, stem):
                found = self.walk.file_stat(entry)
            if found and stat.S_ISREG(found.st_mode):
                self._session_of(stem).transcript = found
            elif found:
                warn(f"cannot read '{entry.path}': the link leads to no file")
        elif stem.startswith("agent-"):
            found = self.walk.file_stat(entry)
            owner = None
            if found and stat.S_ISREG(found.st_mode):
                owner = owner_of(entry.path)
            if owner and self._is_wanted(self.name, owner):
                self._session_of(owner).agents.append(found)
        else:
            self._add_odd(entry, f"{self.name}/{entry.name}")

    def _add_own_folder(self, folder):
        """Note what lies in a session's own folder: another one's may be there, too."""
        is_wanted = self._is_wanted(self.name, folder.name)
        if not self.walk.beside and folder.name in self._transcripts:
            is_wanted = False
        files = []
        for entry in self.walk.entries(folder.path):
            name = f"{self.name}/{folder.name}/{entry.name}"
            if odd_transcript_in(f"projects/{name}") and entry.is_file():
                self._add_odd(entry, name)
            elif is_wanted:
                files += self.walk.files_at(entry)
        if files:
            self._session_of(folder.name).beside += files

    def _add_deeper(self, entry, name):
        """Note the transcripts at or below an entry."""
        if not self.walk.is_dir(entry):
            self._add_odd(entry, name)
            return
        for inner in self.walk.entries(entry.path):
            self._add_deeper(inner, f"{name}/{inner.name}")

    def _add_odd(self, entry, name):
        """Note a transcript that is not where Claude Code looks."""
        path = f"projects/{name}"
        odd = odd_transcript_in(path)
        if not odd or not self._is_wanted(self.name, odd.session_id):
            return
        found = self.walk.file_stat(entry)
        if found and stat.S_ISREG(found.st_mode):
            session = FoundSession(odd.session_id, path, odd.place)
            session.transcript = found
            self._odd.append(session)


def _by_id_and_path(session):
    return session.session_id, session.path


def on_disk(root, walk, is_wanted, projects=None):
    """Yield the records of the sessions of one Claude directory, sorted.

    is_wanted: a function that says of a project and an id whether that is asked for.
    projects: the names of those that are looked at, if not all are.
    """
    days = cleanup_days(root)
    folders = []
    for entry in walk.entries(walk.projects):
        if (projects is None or entry.name in projects) and walk.is_dir(entry):
            folders.append(entry)
    for entry in folders:
        for session in ProjectFolder(walk, entry.path, is_wanted).sessions():
            yield disk_record(root, entry.name, session, days)


def disk_record(root, project, session, days):
    """The record of a session; days: after how many Claude Code deletes it, or None."""
    transcript = session.transcript
    if transcript:
        files = [*session.beside, transcript]
        newest = transcript.st_mtime_ns
    else:
        files = session.beside
        newest = max(found.st_mtime_ns for found in files + session.agents)
    record = {
        "kind": "session",
        "session_id": session.session_id,
        "project": project,
        "root": root,
        "transcript_path": f"{root}/{session.path}",
        "size": transcript.st_size if transcript else 0,
        "mtime": utc_ns(newest),
        "files": len(files),
        "bytes": sum(found.st_size for found in files),
    }
    if session.place:
        record["place"] = session.place
    if days:
        record["purge_at"] = utc(newest // 10**9 + days * SECONDS_A_DAY)
    if not transcript:
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
    for record in on_disk(root, walk, is_any):
        yield record
        end["count"] += 1
    end["complete"] = walk.complete
    yield end


def is_any(project, session_id):
    """Wanted is every session."""
    return True


def check_claude_dir(root):
    """Warn if a Claude directory, whose projects/ holds nothing, holds nothing else."""
    try:
        names = os.listdir(root)
    except OSError as error:
        warn(f"cannot read the Claude directory '{root}': {why(error)}")
        return
    if names == ["projects"] and os.path.isdir(os.path.join(root, "projects")):
        names = []
    if not names:
        warn(f"cannot find sessions in '{root}': there is no file in it")


# --- in the store ---------------------------------------------------------------------


class LostSessions:
    """The sessions that a store knows and a Claude directory does not hold."""

    def __init__(self, store, root):
        self.root = root
        self._stored = StoredSessions(store, root, wanted=is_in_projects)
        self.held = self._stored.held
        self._store = store
        self._objects = self._stored.objects

    def records(self):
        """Yield their records, sorted by project and id."""
        versions = {}           # {path: the version that counts}
        main = {}               # {path: its object}, of those whose fate is a session's
        sessions = lost_sessions(self._stored)
        for session in sessions:
            for path in files_of(session):
                versions[path] = self.held.last(path)
            if session.transcript:
                versions[session.transcript] = self._last_good(session.transcript)
            for path in main_paths(session):
                versions.setdefault(path, self.held.last(path))
                main[path] = versions[path].oid
        sizes = sizes_of(self._store, {version.oid for version in versions.values()})
        refused = Refused()
        times = written_at(self.held, self._objects, main, refused)
        for session in sessions:
            if all(path in refused for path in main_paths(session)):
                continue        # it is no loss: csb stores it no more
            yield self._record(session, versions, sizes, times)

    def _last_good(self, path):
        """The last version of a transcript, but for stubs that came when it was gone.

        Of each life, which ends with a deletion, the last version counts, but it is
        the life of a stub if there never was a record in it.
        """
        lives = [[]]
        for version in self.held.versions(path):
            if version.deleted_at is not None and lives[-1]:
                lives.append([])
            lives[-1].append(version)
        if len(lives) == 1:
            return self.held.last(path)     # as of nearly all
        for life in lives[:-1]:
            if any(map(self._has_record, life)):
                return life[0]
        return lives[-1][0]

    def _has_record(self, version):
        """Has a version of a transcript a record in it?"""
        from csb.transcript import TranscriptLines, load

        try:
            for line in TranscriptLines(self._objects.blocks(version.oid)):
                if any(record.is_sound for record in load(line).records):
                    return True
        except Error:
            return True         # it is lost, and may have held anything
        return False

    def _record(self, session, versions, sizes, times):
        """The record of a session that is gone from disk."""
        own = session.transcript
        main = [versions[path] for path in main_paths(session)]
        deletions = [version.deleted_at for version in main]
        mtimes = []
        for path in main_paths(session):
            mtimes.append(times.get(path) or versions[path].seconds * 10**9)
        files = [versions[path] for path in files_of(session)]
        name = own or f"projects/{session.project}/{session.session_id}.jsonl"
        odd = odd_transcript_in(name)
        record = {
            "kind": "session",
            "session_id": session.session_id,
            "project": session.project,
            "root": self.root,
            "transcript_path": f"{self.root}/{name}",
            "size": sizes.get(versions[own].oid, 0) if own else 0,
            "mtime": utc_ns(max(mtimes)),
            "files": len(files),
            "bytes": sum(sizes.get(version.oid, 0) for version in files),
        }
        if odd:
            record["place"] = odd.place
        title = self._title(session)
        if title:
            record["title"] = title
            record["title_from"] = "file"
        if None not in deletions:
            record["state"] = "deleted"
            record["deleted_at"] = utc(max(deletions))
        elif own:
            record["state"] = "present"
        else:
            record["state"] = "husk"
        if own:
            record["oid"] = versions[own].oid
        return record

    def _title(self, session):
        """The title of a session's custom-title.json, "" if there is none."""
        from csb.transcript import one_line, title_in

        for path in session.beside:
            if path.split("/")[3:] == ["custom-title.json"]:
                try:
                    data = self._objects.read(self.held.last(path).oid)
                    return one_line(title_in(json.loads(data)))
                except (Error, ValueError, RecursionError):
                    return ""
        return ""


def is_in_projects(path):
    """Is it a path that may be a session's of its own?"""
    return path.startswith("projects/")


def main_paths(session):
    """The paths whose fate is that of a stored session: without a transcript all."""
    if session.transcript:
        return [session.transcript]
    return session.beside + session.agents


def files_of(session):
    """The transcript of a stored session, and all below <uuid>/."""
    if session.transcript:
        return [*session.beside, session.transcript]
    return session.beside
