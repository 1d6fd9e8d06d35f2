"""where the files of a session are that are read: on disk, or in the store

    finder = Finder(args)
    found = finder.find({"session_id": "3f4a9b2c"})     # a Found
    for block in found.transcript.blocks(): ...
    for agent in found.agents: ...

On disk is looked first. A session that is gone is taken from the store as it would be
restored: the last version, or the fullest, if it had shrunk. Of an earlier time it is
taken from the store as that was then.
"""
import json
import os
import re
from collections import namedtuple

from csb import ABSENT, FAILED, MISUSE, Error, say, utc, warn, why
from csb.files import StableFile, absolute
from csb.git import Objects, all_history, git, sizes_of
from csb.held import Held, Moves, first_line, is_gone
from csb.places import claude_dir, existing_store, read_json
from csb.reading import load_line
from csb.session import (
    Spellings,
    agent_file_owner,
    is_flat_agent,
    is_id,
    key_of,
    owner_of_agent,
    pick,
    transcript_in,
)
from csb.transcript import (
    TranscriptLines,
    call_of_agent,
    title_beside,
    title_in,
)

SMALL_FILE = 1 << 20            # bytes; what says something beside a transcript

_AGENT = re.compile(r"agent-([^/]*)\.jsonl")
_AGE = re.compile(r"([0-9]{1,6})([mhdw])")
_SECONDS = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}

# A subagent: its name, the id of the call that started it ("": unknown), its file.
Subagent = namedtuple("Subagent", "name call_id file")


class FileOnDisk:
    """A file on disk; name is what messages call it."""

    def __init__(self, path):
        self.name = path
        self.oid = None

    def blocks(self):
        with StableFile(self.name, may_be_replaced=True) as file:
            yield from file.blocks()


class FileInStore:
    """A file as the store holds it."""

    def __init__(self, readers, name, oid):
        self.name = name
        self.oid = oid
        self._readers = readers

    def blocks(self):
        return self._readers.blocks(self.oid)


class _Readers:
    """Reads objects, of which several may be read at a time."""

    def __init__(self, store):
        self.store = store
        self.idle = []          # Objects that nobody reads from

    def blocks(self, oid):
        if not self.idle:
            self.idle.append(Objects(self.store))
        objects = self.idle.pop()
        try:
            yield from objects.blocks(oid)
        finally:
            self.idle.append(objects)


class Found:
    """A session that was found.

    record: what it was asked by, and its session_id, project, transcript_path; state
    "husk" if it has no transcript; oid if that is in the store. transcript: a
    FileOnDisk or FileInStore, None of a husk. agents: a Subagent each. beside: the
    title that a file beside it gives.
    """

    def __init__(self, record, transcript, agents, beside, outputs):
        self.record = record
        self.transcript = transcript
        self.agents = agents
        self.beside = beside
        self._outputs = outputs

    def output_of_tool(self, name):
        """The file below tool-results/ with a name, None if there is none."""
        return self._outputs(name)


class Finder:
    """Finds sessions; disk and store are looked at when that is needed, and once.

    args: those of add_place_options(), and at: a commit or a time, or None.
    """

    def __init__(self, args):
        self.args = args
        self.root = claude_dir(args)
        self._disk = None
        self._stored = {}       # {commit or time: _Stored}

    def find(self, record):
        """The Found of a record with a session_id or transcript_path; else Error."""
        path = record.get("transcript_path")
        if not isinstance(path, str):
            path = ""
        path = os.path.expanduser(path)
        then = str(record.get("commit") or self.args.at or "")
        if path and not then and "oid" not in record:
            if os.path.isdir(path):
                raise Error(f"cannot read '{path}': Is a directory")
            if os.path.lexists(path) or record.get("state") == "husk":
                return _found_on_disk(path, record)

        word = record.get("session_id")
        if not isinstance(word, str) or not word:
            word = os.path.basename(path).removesuffix(".jsonl")
            if not is_id(word):
                raise Error(_why_no_session(path))
        project = record.get("project")
        if not project and path:
            project = os.path.basename(os.path.dirname(path))
        if then:
            return self._stored_then(then).find(word, project, record)
        return self._find_now(word, project, record)

    def _find_now(self, word, project, record):
        """On disk, else in the store, else what is left of it on disk."""
        if self._disk is None:
            self._disk = _Disk(self.root)
        path = self._disk.transcript(word, project)
        if path and _has_messages(FileOnDisk(path)):
            return _found_on_disk(path, record)
        try:
            found = self._stored_then("").find(word, project, record)
            if not path or _has_messages(found.transcript):
                return found
        except Error as error:
            left = path or self._disk.left_of(word, project)
            if not left and error.status == ABSENT:
                text = f"session '{word}' is not on disk; {error}"
                raise Error(text, ABSENT) from None
            if not left:
                raise
        return _found_on_disk(path or left, record)

    def _stored_then(self, then):
        if then not in self._stored:
            store = existing_store(self.args)
            commits = _commits_then(store, then) if then else ()
            self._stored[then] = _Stored(store, commits, self.root)
        return self._stored[then]


def each_found(finder, wanted, are_typed):
    """Yield the Found of each record of sessions, versions or hits, each once.

    What cannot be found is warned of. are_typed: the records are words of the command
    line, which may be paths.
    """
    done = set()
    for record in wanted:
        word = record.get("session_id")
        if are_typed and ("/" in word or word.endswith(".jsonl")):
            record = {"transcript_path": word}
        if record.get("kind", "session") not in ("session", "version", "hit"):
            continue
        try:
            found = finder.find(record)
        except Error as error:
            warn(str(error), error.status if are_typed else FAILED)
            continue
        except OSError as error:
            warn(f"cannot read '{error.filename}': {why(error)}")
            continue
        key = found.record["transcript_path"], found.record.get("oid")
        if key not in done:
            done.add(key)
            yield found


def _why_no_session(path):
    if path:
        return f"cannot read '{path}': No such file or directory"
    return "cannot find a session_id or transcript_path in a record"


def _has_messages(file):
    """Does a transcript hold a message? A stub, as worktrees leave it, does not."""
    if file is None:
        return False
    try:
        for line in TranscriptLines(file.blocks()):
            for record in load_line([line]).records:
                if record.is_message:
                    return True
    except (OSError, Error):
        pass                    # whoever reads it says so
    return False


# --- times ----------------------------------------------------------------------------


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


def _commits_then(store, then):
    """The commits at which the refs stood: a commit, or the last ones before a time."""
    try:
        words = ["rev-parse", "-q", "--verify", "--end-of-options", then + "^{commit}"]
        found = git(store, *words, allowed=range(256)).decode().split()
        if found:
            return found
        word = then
        if re.fullmatch(r"\d{4}-\d\d-\d\d", then):
            word += "T23:59:59"         # a day alone means all of it
        seconds = moment(word)
    except ValueError:          # also of what no process can be told, such as a NUL
        text = f"cannot find commit '{then}' in the store, and it is no time"
        raise Error(text) from None

    newest = {}
    refs = git(store, "for-each-ref", "--format=%(objectname)").decode().split()
    for ref in refs:
        words = ["rev-list", "-1", f"--before={utc(max(seconds, 0))}", ref, "--"]
        newest[git(store, *words, allowed=range(256)).decode().strip()] = None
    newest.pop("", None)
    if not newest:
        raise Error(f"cannot find a commit of a backup before {then}")
    return list(newest)


# --- on disk --------------------------------------------------------------------------


class _Disk:
    """The transcripts in a Claude directory, and what is left of others."""

    def __init__(self, root):
        self.projects = os.path.join(root, "projects")
        self.paths = {}         # {session id: [path]} of transcripts
        self.deeper = {}        # those a folder below a project
        self.left = {}          # of a folder <id>/: where its transcript would be
        for project in _entries(self.projects):
            for entry in _entries(project.path):
                self._add(entry)

    def _add(self, entry):
        session_id = entry.name.removesuffix(".jsonl")
        if session_id != entry.name:
            if is_id(session_id):
                self.paths.setdefault(session_id, []).append(entry.path)
        elif entry.is_dir():
            if is_id(session_id):
                self.left.setdefault(session_id, []).append(entry.path + ".jsonl")
                return
            for inner in _entries(entry.path):
                session_id = inner.name.removesuffix(".jsonl")
                if inner.name.endswith(".jsonl") and is_id(session_id):
                    self.deeper.setdefault(session_id, []).append(inner.path)

    def transcript(self, word, project):
        """The path of the transcript that a word means, "" if there is none."""
        for paths in (self.paths, self.deeper):
            found = _one_of(word, project, paths, _is_talk_on_disk)
            if found:
                return found
        return ""

    def left_of(self, word, project):
        """Where the transcript would be of a session without one; or ""."""
        return _one_of(word, project, self.left, _is_talk_on_disk)


def _entries(folder):
    """The entries of a folder by name; one that cannot be listed has none."""
    try:
        with os.scandir(folder) as listing:
            return sorted(listing, key=lambda entry: entry.name)
    except OSError:
        return []               # what is missing then is said


def _is_talk_on_disk(path):
    return _has_messages(FileOnDisk(path))


def _one_of(word, project, paths_of, is_talk):
    """The one path of the session that a word means, "" if none has such an id.

    paths_of: {session id: [path]}. Of several that of the project, or the one with
    messages; Error if that is not one.
    """
    try:
        session_id = pick(word, paths_of)
    except Error as error:
        if error.status == MISUSE:
            raise
        return ""
    paths = paths_of[session_id]
    in_project = [path for path in paths if path.split("/")[-2] == project]
    paths = in_project or paths
    if len(paths) > 1:
        paths = [path for path in paths if is_talk(path)] or paths
    if len(paths) > 1:
        raise _several(session_id, paths)
    return paths[0]


def _several(session_id, paths):
    names = " ".join(sorted(paths))
    text = f"session '{session_id}' is in several projects, name one of them by its"
    return Error(f"{text} path: {names}", MISUSE)


def _found_on_disk(path, record):
    """The Found of a transcript on disk, or of what is left beside its place."""
    path = absolute(path)
    session_id = os.path.basename(path).removesuffix(".jsonl")
    folder = os.path.dirname(path)
    root = os.path.dirname(os.path.dirname(folder))
    more = {
        "session_id": session_id,
        "transcript_path": path,
        "project": os.path.basename(folder),
    }
    transcript = FileOnDisk(path)
    if not os.path.lexists(path):
        transcript = None
        more["state"] = "husk"

    def output_on_disk(name):
        file = os.path.join(path.removesuffix(".jsonl"), "tool-results", name)
        return FileOnDisk(file) if os.path.isfile(file) else None

    beside = title_beside(root, path, session_id)
    agents = _agents_on_disk(folder, session_id)
    return Found({**record, **more}, transcript, agents, beside, output_on_disk)


def _agents_on_disk(folder, session_id):
    """The Subagents of a session, sorted by their paths."""
    import glob

    below = f"{glob.escape(folder)}/{session_id}/subagents/**/agent-*.jsonl"
    flat = f"{glob.escape(folder)}/agent-*.jsonl"
    agents = []
    for path in sorted(glob.glob(below, recursive=True) + glob.glob(flat)):
        call_id = ""
        try:
            if os.path.dirname(path) == folder:
                owner = agent_file_owner(path)
                if owner is None or key_of(owner) != key_of(session_id):
                    continue
            meta = path.removesuffix("jsonl") + "meta.json"
            if os.path.isfile(meta):
                call_id = call_of_agent(read_json(meta))
        except (OSError, ValueError) as error:
            warn(f"cannot read what is beside '{path}': {why(error)}")
        name = _AGENT.fullmatch(os.path.basename(path))[1]
        agents.append(Subagent(name, call_id, FileOnDisk(path)))
    return agents


# --- in the store ---------------------------------------------------------------------


def _is_read(path):
    """Is a path of the store one that reading a session needs?"""
    if not path.startswith("projects/"):
        return False
    if path.endswith((".jsonl", ".meta.json", "/custom-title.json")):
        return True
    return "/tool-results/" in path


class _Stored:
    """The sessions that the store holds, or held, now or at some commits."""

    def __init__(self, store, commits, root):
        self.store = store
        self.root = root
        self.is_exact = bool(commits)
        self.held = Held(all_history(store, *commits), _is_read)
        self.objects = Objects(store)
        self.readers = _Readers(store)
        self.chosen = {}        # {path: the FileInStore that is taken}
        self.paths = {}         # {session id: [path]}, of all that belongs to it
        transcripts = map(_id_of_transcript, self.held.paths())
        spellings = Spellings(filter(None, transcripts))
        for path in self.held.paths():
            session_id = _id_of(path)
            if session_id:
                session_id = spellings.of(session_id)
                self.paths.setdefault(session_id, []).append(path)

    def find(self, word, project, record):
        """The Found of the session that a word means; else Error."""
        session_id = pick(word, self.paths)
        mine = [path for path in self.paths[session_id] if self._is_file(path)]
        transcript = self._home(session_id, mine, project)
        more = {
            "session_id": session_id,
            "project": transcript.split("/")[1],
            "transcript_path": os.path.join(self.root, transcript),
        }
        file = None
        if transcript in mine:
            file = self._best(transcript)
            more["oid"] = file.oid
        else:
            more["state"] = "husk"

        folder = transcript.removesuffix(".jsonl") + "/"
        beside = self._small_object(folder + "custom-title.json")

        def output_in_store(name):
            path = f"{folder}tool-results/{name}"
            return self._best(path) if path in self.held else None

        agents = self._agents(session_id, transcript, mine)
        found = {**record, **more}
        return Found(found, file, agents, title_in(beside), output_in_store)

    def _is_file(self, path):
        return self.held.last(path).mode.startswith("100")

    def _home(self, session_id, mine, project):
        """Where the transcript of a session is, or would be, if it has none."""
        transcripts = [path for path in mine if _id_of_transcript(path)]
        if not transcripts:
            folders = {"/".join(path.split("/")[:2]) for path in mine}
            transcripts = [f"{folder}/{session_id}.jsonl" for folder in sorted(folders)]
        in_project = [path for path in transcripts if path.split("/")[1] == project]
        transcripts = in_project or transcripts
        if len(transcripts) > 1 and self.is_exact:
            there = [path for path in transcripts if not self._is_away(path)]
            transcripts = there or transcripts
        if len(transcripts) > 1:
            root = None if self.is_exact else self.root
            moves = Moves(self.held, self.objects, root, self._is_away)
            home = moves.home(session_id)
            if home in transcripts:
                transcripts = [home]
        if len(transcripts) > 1:
            talks = [path for path in transcripts if self._is_talk(path)]
            transcripts = talks or transcripts
        if len(transcripts) > 1:
            raise _several(session_id, transcripts)
        return transcripts[0]

    def _is_away(self, path):
        """Is a path gone: from the disk, or as the store was then?"""
        if self.is_exact:
            return self.held.last(path).deleted_at is not None
        return is_gone(self.root, path)

    def _is_talk(self, path):
        return path in self.held and _has_messages(self._best(path))

    def _best(self, path):
        """The FileInStore to take: the newest version that is there, or a fuller one.
        """
        if path not in self.chosen:
            self.chosen[path] = self._choose(path)
        return self.chosen[path]

    def _choose(self, path):
        versions = self.held.versions(path)
        if self.is_exact:
            versions = versions[:1]
        size_of = sizes_of(self.store, {version.oid for version in versions})
        there = [version.oid for version in versions if version.oid in size_of]
        if not there:
            raise Error(f"the store has lost '{path}'")
        newest = versions[0].oid
        fullest = max(there, key=lambda oid: size_of[oid])
        if newest not in size_of:
            text = f"the store has lost the newest version of '{path}'"
            warn(f"{text}: an older one is taken")
        elif size_of[fullest] > size_of[newest]:
            sizes = f"{size_of[fullest]} to {size_of[newest]} bytes"
            say(f"'{path}' had shrunk from {sizes}: the fullest is taken")
        return FileInStore(self.readers, path, fullest)

    def _small_object(self, path):
        """The value of JSON in the last version of a path, None if there is none."""
        if path not in self.held:
            return None
        try:
            data = self.objects.read(self.held.last(path).oid, SMALL_FILE)
            return json.loads(data)
        except (Error, ValueError, RecursionError):
            return None

    def _agents(self, session_id, transcript, mine):
        """The Subagents of a session, sorted by their paths."""
        project = transcript.split("/")[1]
        folder = transcript.removesuffix(".jsonl") + "/"
        paths = []
        for path in mine:
            if path.startswith(folder) and _AGENT.fullmatch(os.path.basename(path)):
                paths.append(path)
        for path in self.held.paths():
            if is_flat_agent(path) and path.split("/")[1] == project:
                owner = owner_of_agent(first_line(self.objects, self._oid(path)))
                if owner and key_of(owner) == key_of(session_id):
                    paths.append(path)
        agents = []
        for path in sorted(paths):
            name = _AGENT.fullmatch(os.path.basename(path))[1]
            meta = self._small_object(path.removesuffix("jsonl") + "meta.json")
            agents.append(Subagent(name, call_of_agent(meta), self._best(path)))
        return agents

    def _oid(self, path):
        return self.held.last(path).oid


def _id_of_transcript(path):
    """The id of the session whose transcript lies at a path, also a folder deeper."""
    found = transcript_in(path)
    if found:
        return found[1]
    parts = path.split("/")
    session_id = parts[-1].removesuffix(".jsonl")
    if len(parts) == 4 and not is_id(parts[2]) and is_id(session_id):
        return session_id
    return None


def _id_of(path):
    """The id of the session that a path below projects/ belongs to, None if to none."""
    session_id = _id_of_transcript(path)
    parts = path.split("/")
    if session_id is None and len(parts) > 3 and is_id(parts[2]):
        return parts[2]
    return session_id
