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

from csb import ABSENT, FAILED, MISUSE, TOOL, Error, warn, why
from csb.copies import Copies, pick_stored, those_that_say_most
from csb.files import StableFile, absolute
from csb.git import GitError, Objects
from csb.held import StoredSessions, commits_then, unless_blank
from csb.places import claude_dir, existing_store
from csb.session import (
    ProjectLinks,
    any_transcript_in,
    is_id,
    key_of,
    odd_transcript_in,
    owner_of,
    pick,
    project_of,
    word_in,
)
from csb.transcript import all_records, call_of_agent, title_in, when_and_title_in

_AGENT = re.compile(r"agent-([^/]*)\.jsonl")

# A session that was found. record: what it was asked by, and its session_id, project,
# transcript_path; state "husk" if it has no transcript; oid if that is in the store.
# transcript: a FoundFile, None of a husk. agents: a Subagent each. beside: the title
# that a file beside it gives. output: a function that gives the FoundFile below
# tool-results/ with a name, or None.
Found = namedtuple("Found", "record transcript agents beside output")
# name: what messages call it. blocks: a function that yields its bytes. oid: in the
# store, None on disk.
FoundFile = namedtuple("FoundFile", "name blocks oid")
# A subagent: its name, the id of the call that started it ("": unknown), its FoundFile.
Subagent = namedtuple("Subagent", "name call_id file")


class Finder:
    """Finds sessions; disk and store are looked at when that is needed, and once.

    args: those of add_place_options(), and at: a commit or a time, or None.
    """

    def __init__(self, args):
        self.args = args
        self.disk = _Disk(claude_dir(args))
        self.stores = {}        # {commit or time: its _Store}

    def find(self, record):
        """The Found of a record with a session_id or transcript_path; else Error."""
        path = record.get("transcript_path")
        path = os.path.expanduser(path) if isinstance(path, str) else ""
        then = str(record.get("commit") or self.args.at or "")
        if path and not then and "oid" not in record:
            if os.path.lexists(path) or record.get("state") == "husk":
                return _found_at(self.disk, absolute(path), record)

        word = word_in(record)
        if not word and path:
            raise Error(f"cannot read '{path}': No such file or directory")
        if not word:
            raise Error("cannot find a session_id or transcript_path in a record")
        project = record.get("project") or os.path.basename(os.path.dirname(path))
        if then:
            return self._store(then).find(word, project, record)

        path = ""               # on disk, else in the store, else what is left on disk
        if not odd_transcript_in(_inner(record, self.disk.root)):
            path = self.disk.find(word, project)
        if path and _has_messages(self.disk.file(path)):
            return _found_at(self.disk, path, record)
        try:
            found = self._store("").find(word, project, record)
            if not path or _has_messages(found.transcript):
                return found
        except Error as error:
            if not path and error.status == ABSENT:
                text = f"session '{word}' is not on disk; {error}"
                raise Error(text, ABSENT) from None
            if not path:
                raise
        return _found_at(self.disk, path, record)

    def _store(self, then):
        if then not in self.stores:
            store = existing_store(self.args)
            commits = commits_then(store, then) if then else ()
            self.stores[then] = _Store(store, self.disk.root, commits)
        return self.stores[then]


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
            warn(error, error.status if are_typed else FAILED)
            continue
        except OSError as error:
            warn(f"cannot read '{error.filename}': {why(error)}")
            continue
        key = found.record["transcript_path"], found.record.get("oid")
        if key not in done:
            done.add(key)
            yield found


def _found_at(files, path, record):
    """The Found of the transcript at a path, or of what is left beside it.

    files: a _Disk or a _Store.
    """
    full = os.path.join(files.root, path)
    folder = path.removesuffix(".jsonl")
    top, session_id = os.path.split(folder)
    project = os.path.basename(top)
    odd = odd_transcript_in(_inner({**record, "transcript_path": full}, files.root))
    if odd:
        project, session_id, _ = odd
    found = {
        **record,
        "session_id": session_id,
        "project": project,
        "transcript_path": full,
    }
    transcript = files.file(path)
    if transcript is None:
        found["state"] = "husk"
    elif transcript.oid:
        found["oid"] = transcript.oid

    root = os.path.dirname(os.path.dirname(top))
    states = os.path.join(root, f"session-states/{session_id}.json")
    named = _value_in(files.file(f"{folder}/custom-title.json"))
    beside = title_in(named) or title_in(_value_in(files.file(states)))
    agents = []
    for agent in files.agents_of(path, session_id):
        name = _AGENT.fullmatch(os.path.basename(agent))[1]
        file = files.file(agent)
        meta = files.file(agent.removesuffix("jsonl") + "meta.json")
        if file:
            agents.append(Subagent(name, call_of_agent(_value_in(meta)), file))

    def output(name):
        if name in (".", ".."):
            return None
        return files.file(f"{folder}/tool-results/{name}")

    return Found(found, transcript, agents, beside, output)


def _inner(record, root):
    """The path of a record's transcript below its Claude directory, or below root."""
    path = str(record.get("transcript_path") or "")
    return path.removeprefix(os.path.join(record.get("root") or root, ""))


def _value_in(file):
    """The value of JSON in a small FoundFile, None if it has none."""
    try:
        return json.loads(next(file.blocks())) if file else None
    except (OSError, ValueError, RecursionError, StopIteration, Error):
        return None


def _has_messages(file):
    """Does a transcript hold a message? A stub, as worktrees leave it, does not."""
    if file is None:
        return False
    try:
        return any(record.is_message for record in all_records(file.blocks()))
    except (OSError, Error):
        return False            # whoever reads it says so


def _the_one(session_id, paths, root):
    """The one path that there is; Error if there are several."""
    if len(paths) == 1:
        return paths[0]
    full = [os.path.join(root, path) for path in sorted(paths)]
    raise Error(
        f"session {session_id} is in several places, and what was said differs "
        f"({TOOL} PATH takes one): {' '.join(full)}", MISUSE
    )


# --- on disk --------------------------------------------------------------------------


class _Disk:
    """The files of sessions in a Claude directory, by their absolute paths."""

    def __init__(self, root):
        self.root = root
        self._sessions = None   # {id: [path of a transcript]}, once they are listed
        self._flat = {}         # {folder: {key of an id: [its flat agent files]}}

    def find(self, word, project):
        """The path of the transcript of the session that a word means, "" if none is.

        Of several that of the project, or the one that says what the others say; Error
        if that is not one.
        """
        if self._sessions is None:
            self._sessions = self._listed()
        try:
            session_id = pick(word, self._sessions, self._about)
        except Error as error:
            if error.status == MISUSE:
                raise
            return ""
        paths = self._sessions[session_id]
        inside = [path for path in paths if path.split("/")[-2] == project] or paths
        if len(inside) > 1:
            inside = those_that_say_most(inside)
        return _the_one(session_id, inside, self.root)

    def _about(self, session_id):
        for path in self._sessions[session_id]:
            try:
                return when_and_title_in(self.file(path).blocks())
            except (OSError, Error):
                continue            # whoever reads it says so
        return ""

    def _listed(self):
        """{id: [paths]}. One where Claude Code does not look counts if there is no
        other, and where one would be whose session has just a folder."""
        own = {}
        odd = {}
        left = {}
        links = ProjectLinks(self.root)
        top = os.path.join(self.root, "projects")
        for folder, folders, names in os.walk(top, followlinks=True):
            for name in names:
                path = os.path.join(folder, name)
                inner = path.removeprefix(os.path.join(self.root, ""))
                found = any_transcript_in(inner)
                if found:
                    places = odd if found.place else own
                    places.setdefault(found.session_id, []).append(path)
            kept = []
            for name in folders:
                path = os.path.join(folder, name)
                if is_id(name) and os.path.dirname(folder) == top:
                    left.setdefault(name, []).append(path + ".jsonl")
                # What is below a session's own folder is no other one's.
                if not is_id(os.path.basename(folder)):
                    if not os.path.islink(path) or links.leads_out(path):
                        kept.append(name)
            folders[:] = kept
        known = set(map(key_of, own))
        left = {name: left[name] for name in left if key_of(name) not in known}
        return {**left, **odd, **own}

    def file(self, path):
        """The FoundFile at a path, None if there is none."""
        def blocks():
            with StableFile(path, may_be_replaced=True) as file:
                yield from file.blocks()

        return FoundFile(path, blocks, None) if os.path.lexists(path) else None

    def agents_of(self, path, session_id):
        """The paths of what the subagents of a session said."""
        from glob import escape, glob

        folder = os.path.dirname(path)
        place = escape(folder)
        below = f"{place}/{session_id}/subagents/**/agent-*.jsonl"
        if folder not in self._flat:
            self._flat[folder] = {}
            for flat in sorted(glob(f"{place}/agent-*.jsonl")):
                owner = key_of(owner_of(flat) or "")
                self._flat[folder].setdefault(owner, []).append(flat)
        flat = self._flat[folder].get(key_of(session_id), [])
        return sorted(glob(below, recursive=True)) + flat


# --- in the store ---------------------------------------------------------------------


def _is_read(path):
    """Is a path of the store one that reading a session needs?"""
    return path.startswith(("projects/", "session-states/"))


class _Store(StoredSessions):
    """The files of sessions that the store holds, or held, now or at some commits."""

    def __init__(self, store, root, commits):
        super().__init__(store, root, _is_read, commits)
        self._idle = []         # Objects that nobody reads from
        self._said = set()      # the versions of which something was said

    def find(self, word, project, record):
        """The Found of the session that a word means; else Error."""
        session_id = pick_stored(word, self)
        path = _inner(record, self.root)
        if not odd_transcript_in(path) or path not in self.held:
            path = self._home(session_id, project)
        return _found_at(self, path, record)

    def _home(self, session_id, project):
        """Where the transcript of a session is, or would be, if it has none."""
        found = self.transcripts(session_id)
        if not found:
            for path in self.sessions[session_id]:
                home = project_of(path)
                if odd_transcript_in(path):
                    found[home] = path
                elif home:
                    found.setdefault(home, f"projects/{home}/{session_id}.jsonl")
        if not found:
            raise Error(f"cannot find a file of session '{session_id}' in the store")
        if project in found:
            return found[project]
        paths = found.values()
        if len(found) > 1:
            try:
                homes = Copies(self).homes(session_id).projects
                paths = [found[home] for home in homes if home in found]
            except Error:
                pass                # they differ: all are named
        return _the_one(session_id, [*paths], self.root)

    def file(self, path):
        """The FoundFile of a path, None if there is none.

        Several files may be read at a time.
        """
        if path not in self.held or not self.held.is_file(path):
            return None
        versions = self.candidates(path)
        self.say_if_shrunk(path, versions[0])

        def blocks():
            objects = self._idle.pop() if self._idle else Objects(self.store)
            try:
                yield from self._first_that_is_sound(path, versions, objects)
            except GitError as error:
                raise GitError(f"cannot read '{path}': {error}") from None
            finally:
                self._idle.append(objects)

        return FoundFile(path, blocks, versions[0].oid)

    def _first_that_is_sound(self, path, versions, objects):
        """Yield the blocks of the version that a restore would take."""
        *others, last = versions
        for version in others:
            blocks = unless_blank(objects.blocks(version.oid))
            try:
                first = next(blocks, b"")
            except GitError as error:
                if version.oid not in self._said:       # a file is read twice
                    warn(f"cannot read a version of '{path}': {error}")
                    self._said.add(version.oid)
                continue
            yield first
            yield from blocks
            return
        yield from objects.blocks(last.oid)

    def agents_of(self, path, session_id):
        """The paths of what the subagents of a session said."""
        below = os.path.dirname(path) + "/"
        found = []
        for one in self.sessions.get(session_id, ()):
            is_agent = _AGENT.fullmatch(os.path.basename(one))
            if one.startswith(below) and is_agent and self.held.is_file(one):
                found.append(one)
        return found
