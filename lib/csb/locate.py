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

from csb import ABSENT, FAILED, MISUSE, Error, warn, why
from csb.copies import homes_of
from csb.files import StableFile, absolute
from csb.git import Objects
from csb.held import StoredSessions, commits_then
from csb.places import claude_dir, existing_store, read_json
from csb.reading import load_line
from csb.session import (
    agent_file_owner,
    is_id,
    key_of,
    odd_transcript_in,
    pick,
    project_of,
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

# A session that was found. record: what it was asked by, and its session_id, project,
# transcript_path; state "husk" if it has no transcript; oid if that is in the store.
# transcript: a FoundFile, None of a husk. agents: a Subagent each. beside: the title
# that a file beside it gives. output_of_tool: a function that gives the FoundFile below
# tool-results/ with a name, or None.
Found = namedtuple("Found", "record transcript agents beside output_of_tool")
# name: what messages call it. blocks: a function that yields its bytes.
FoundFile = namedtuple("FoundFile", "name blocks")
# A subagent: its name, the id of the call that started it ("": unknown), its FoundFile.
Subagent = namedtuple("Subagent", "name call_id file")


class Finder:
    """Finds sessions; disk and store are looked at when that is needed, and once.

    args: those of add_place_options(), and at: a commit or a time, or None.
    """

    def __init__(self, args):
        self.args = args
        self.root = claude_dir(args)
        self._disk = None       # what _sessions_on_disk() found
        self._stored = {}       # {commit or time: its _SessionsToRead}

    def find(self, record):
        """The Found of a record with a session_id or transcript_path; else Error."""
        path = record.get("transcript_path")
        path = os.path.expanduser(path) if isinstance(path, str) else ""
        then = str(record.get("commit") or self.args.at or "")
        if path and not then and "oid" not in record:
            if os.path.isdir(path):
                raise Error(f"cannot read '{path}': Is a directory")
            if os.path.lexists(path) or record.get("state") == "husk":
                return _found_on_disk(path, record)

        word = record.get("session_id")
        if not isinstance(word, str) or not word:
            word = os.path.basename(path).removesuffix(".jsonl")
            if not path:
                raise Error("cannot find a session_id or transcript_path in a record")
            if not is_id(word):
                raise Error(f"cannot read '{path}': No such file or directory")
        project = record.get("project")
        if not project and path:
            project = os.path.basename(os.path.dirname(path))
        if then:
            return self._stored_then(then).find(word, project, record)
        return self._find_now(word, project, record)

    def _find_now(self, word, project, record):
        """On disk, else in the store, else what is left of it on disk."""
        if self._disk is None:
            self._disk = _sessions_on_disk(self.root)
        path = _one_on_disk(self._disk.transcripts, word, project)
        if path and _has_messages(_file_on_disk(path)):
            return _found_on_disk(path, record)
        try:
            found = self._stored_then("").find(word, project, record)
            if not path or found.transcript and _has_messages(found.transcript):
                return found
        except Error as error:
            path = path or _one_on_disk(self._disk.left, word, project)
            if not path and error.status == ABSENT:
                text = f"session '{word}' is not on disk; {error}"
                raise Error(text, ABSENT) from None
            if not path:
                raise
        return _found_on_disk(path, record)

    def _stored_then(self, then):
        if then not in self._stored:
            store = existing_store(self.args)
            commits = commits_then(store, then) if then else ()
            self._stored[then] = _SessionsToRead(store, self.root, commits)
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


def _has_messages(file):
    """Does a transcript hold a message? A stub, as worktrees leave it, does not."""
    try:
        for line in TranscriptLines(file.blocks()):
            for record in load_line([line]).records:
                if record.is_message:
                    return True
    except (OSError, Error):
        pass                    # whoever reads it says so
    return False


def _the_one(session_id, paths):
    """The one path that there is; Error if there are several."""
    if len(paths) == 1:
        return paths[0]
    names = " ".join(sorted(paths))
    text = f"session '{session_id}' is in several projects, name one of them by its"
    raise Error(f"{text} path: {names}", MISUSE)


def _meta_of(path):
    """The path of the file that says something of the subagent whose file that is."""
    return path.removesuffix("jsonl") + "meta.json"


# --- on disk --------------------------------------------------------------------------

# {session id: [path]}: the transcripts in a Claude directory; and of folders <id>/
# where the transcripts would be.
_OnDisk = namedtuple("_OnDisk", "transcripts left")


def _sessions_on_disk(root):
    """The _OnDisk of a Claude directory.

    A transcript a folder deeper than Claude Code looks counts if there is no other.
    """
    found = _OnDisk({}, {})
    deeper = {}
    for project in _entries(os.path.join(root, "projects")):
        for entry in _entries(project.path):
            path = f"projects/{project.name}/{entry.name}"
            transcript = transcript_in(path)
            if transcript:
                found.transcripts.setdefault(transcript[1], []).append(entry.path)
            elif is_id(entry.name):
                found.left.setdefault(entry.name, []).append(entry.path + ".jsonl")
            elif entry.is_dir():
                for inner in _entries(entry.path):
                    odd = odd_transcript_in(f"{path}/{inner.name}")
                    if odd:
                        deeper.setdefault(odd.session_id, []).append(inner.path)
    for session_id, paths in deeper.items():
        found.transcripts.setdefault(session_id, paths)
    return found


def _entries(folder):
    """The entries of a folder by name; one that cannot be listed has none."""
    try:
        with os.scandir(folder) as listing:
            return sorted(listing, key=lambda entry: entry.name)
    except OSError:
        return []               # what is missing then is said


def _one_on_disk(paths_of, word, project):
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
        paths = [path for path in paths if _has_messages(_file_on_disk(path))] or paths
    return _the_one(session_id, paths)


def _found_on_disk(path, record):
    """The Found of a transcript on disk, or of what is left beside its place."""
    path = absolute(path)
    session_id = os.path.basename(path).removesuffix(".jsonl")
    folder = os.path.dirname(path)
    root = os.path.dirname(os.path.dirname(folder))
    found = {
        **record,
        "session_id": session_id,
        "transcript_path": path,
        "project": os.path.basename(folder),
    }
    transcript = _file_on_disk(path)
    if not os.path.lexists(path):
        transcript = None
        found["state"] = "husk"

    def output_on_disk(name):
        file = os.path.join(path.removesuffix(".jsonl"), "tool-results", name)
        return _file_on_disk(file) if os.path.isfile(file) else None

    beside = title_beside(root, path, session_id)
    agents = _agents_on_disk(folder, session_id)
    return Found(found, transcript, agents, beside, output_on_disk)


def _file_on_disk(path):
    def blocks():
        with StableFile(path, may_be_replaced=True) as file:
            yield from file.blocks()

    return FoundFile(path, blocks)


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
            if os.path.isfile(_meta_of(path)):
                call_id = call_of_agent(read_json(_meta_of(path)))
        except (OSError, ValueError) as error:
            warn(f"cannot read what is beside '{path}': {why(error)}")
        name = _AGENT.fullmatch(os.path.basename(path))[1]
        agents.append(Subagent(name, call_id, _file_on_disk(path)))
    return agents


# --- in the store ---------------------------------------------------------------------


def _is_read(path):
    """Is a path of the store one that reading a session needs?"""
    if not path.startswith("projects/"):
        return False
    if path.endswith((".jsonl", ".meta.json", "/custom-title.json")):
        return True
    return "/tool-results/" in path


class _SessionsToRead(StoredSessions):
    """The sessions that the store holds, or held, now or at some commits."""

    def __init__(self, store, root, commits):
        super().__init__(store, root, _is_read, commits)
        self._idle = []         # Objects that nobody reads from

    def find(self, word, project, record):
        """The Found of the session that a word means; else Error."""
        session_id = pick(word, self.sessions)
        mine = [path for path in self.sessions[session_id] if self.held.is_file(path)]
        if not mine:
            raise Error(f"cannot find a file of session '{session_id}' in the store")
        path = self._home(session_id, mine, project)
        found = {
            **record,
            "session_id": session_id,
            "project": project_of(path),
            "transcript_path": os.path.join(self.root, path),
        }
        transcript = None
        if path in mine:
            version = self._best(path)
            transcript = self._file(path, version)
            found["oid"] = version.oid
        else:
            found["state"] = "husk"
        folder = path.removesuffix(".jsonl") + "/"

        def output_in_store(name):
            output = f"{folder}tool-results/{name}"
            if output not in self.held:
                return None
            return self._file(output, self._best(output))

        beside = title_in(self._small_object(folder + "custom-title.json"))
        agents = self._agents(os.path.dirname(path), mine)
        return Found(found, transcript, agents, beside, output_in_store)

    def _home(self, session_id, mine, project):
        """Where the transcript of a session is, or would be, if it has none."""
        found = self.transcripts(session_id)
        if not found:
            for path in mine:
                home = project_of(path)
                found.setdefault(home, f"projects/{home}/{session_id}.jsonl")
                if odd_transcript_in(path):
                    found[home] = path
        if project in found:
            return found[project]
        homes = found
        if len(found) > 1:
            try:
                homes = homes_of(self, session_id).projects
            except Error:
                pass                # they differ: all are named
        return _the_one(session_id, [found[home] for home in homes if home in found])

    def _best(self, path):
        """The version that is taken of a path: the first that is not lost."""
        versions = self.versions(path)
        size_of = self.sizes(versions)
        there = [version for version in versions if version.oid in size_of]
        if not there:
            raise Error(f"the store has lost '{path}'")
        if there[0] != versions[0]:
            warn(f"the store has lost a version of '{path}': another one is taken")
        self.say_if_shrunk(path, there[0])
        return there[0]

    def _file(self, path, version):
        """The FoundFile of a version. Several may be read at a time."""
        def blocks():
            objects = self._idle.pop() if self._idle else Objects(self.store)
            try:
                yield from objects.blocks(version.oid)
            finally:
                self._idle.append(objects)

        return FoundFile(path, blocks)

    def _agents(self, folder, mine):
        """The Subagents of a session in a project's folder, sorted by their paths."""
        agents = []
        for path in mine:
            match = _AGENT.fullmatch(os.path.basename(path))
            if not match or not path.startswith(folder + "/"):
                continue
            try:
                file = self._file(path, self._best(path))
            except Error as error:
                warn(str(error))
                continue
            call_id = call_of_agent(self._small_object(_meta_of(path)))
            agents.append(Subagent(match[1], call_id, file))
        return agents

    def _small_object(self, path):
        """The value of JSON in the last version of a path, None if there is none."""
        if path not in self.held:
            return None
        try:
            return json.loads(self.objects.read(self.held.last(path).oid, SMALL_FILE))
        except (Error, ValueError, RecursionError):
            return None
