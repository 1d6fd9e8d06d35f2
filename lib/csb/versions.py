"""the versions of sessions and paths that a store holds, as csb-history lists them

    history = History(store, root)
    lines = history.lines_of(session_id, project)       or files_of()
    for line, placed in placed_versions(history, lines):
        for record in version_records(line, placed): ...

A session that Claude Code moved to another project has one history. Paths are relative
to the Claude directory. The manual of csb-history names the fields of the records.
"""
from collections import namedtuple
from functools import cached_property

from csb import utc, utc_ns, warn
from csb.copies import Copies
from csb.held import StoredSessions, measured, written_at
from csb.session import project_of, transcript_in
from csb.terminal import counted

# The history of one path, or of a transcript that was moved: the paths where it lay,
# the last one first. session_id is None for a path of no session.
Line = namedtuple("Line", "session_id paths")

# A version, and where it lay.
Placed = namedtuple("Placed", "path version size")


class History(StoredSessions):
    """What a store holds of sessions and paths, as Lines."""

    @cached_property
    def copies(self):
        return Copies(self, self.root)

    def lines_of(self, session_id, project):
        """The Lines of a session: of its transcripts, else of its other files.

        project: the only one that counts, if the session lies there; or None.
        """
        paths, left = self._paths_of(session_id, project)
        inside = sorted(path for path in paths if project_of(path) is not None)
        transcripts = [path for path in inside if transcript_in(path)]
        if left:
            left = sorted(left, key=self.held.age)
            return [Line(session_id, [*transcripts, *left])]
        return [Line(session_id, [path]) for path in transcripts or inside]

    def files_of(self, session_id, project):
        """The Lines of all files of a session, one each; project: as above."""
        paths, _ = self._paths_of(session_id, project)
        paths = sorted({*paths, *self.plans_named_in(paths)})
        return [Line(session_id, [path]) for path in paths]

    def _paths_of(self, session_id, project):
        """(the paths of a session, transcripts in the projects it was moved from).

        Of a session that was moved what lies in others is left out if it lies in this
        one, too.
        """
        paths = self.sessions[session_id]
        inside = [path for path in paths if project_of(path) in (None, project)]
        if project is not None and any(map(project_of, inside)):
            return inside, []
        home = self.copies.home(session_id)
        if home is None:
            return paths, []
        kept = [path for path in paths if project_of(path) in (None, home)]
        rest = [path for path in paths if project_of(path) not in (None, home)]
        left = [path for path in rest if transcript_in(path)]
        inside = {_below_project(path) for path in kept if project_of(path)}
        for path in rest:
            if not transcript_in(path) and _below_project(path) not in inside:
                kept.append(path)
        return kept, left


def _below_project(path):
    return path.split("/", 2)[2]


def placed_versions(history, lines):
    """Yield (line, its Placed newest first) for Lines; what is lost is said."""
    paths = [path for line in lines for path in line.paths]
    found = measured(history.objects, history.held, paths)
    for line in lines:
        placed = []
        for _ in line.paths:
            path, versions, infos = next(found)
            there = [one for one in versions if one.oid in infos]
            if len(there) < len(versions):
                count = counted(len(versions) - len(there), "version")
                warn(f"the store has lost {count} of '{path}'")
            for version in there:
                placed.append(Placed(path, version, infos[version.oid].size))
        yield line, placed


def version_records(line, placed):
    """Yield a record for each Placed of a Line: what became of the one before it."""
    for newer, older in zip(placed, [*placed[1:], None], strict=True):
        record = _version_record(line, newer)
        record["change"] = _change_of(newer, older)
        if newer is not placed[0]:
            record.pop("deleted_at", None)
        yield record


def own_times(history, lines):
    """{path: nanoseconds}: when the last versions of files were written, where known.

    The journals of the store say so.
    """
    oids = {}
    for line in lines:
        for path in line.paths:
            oids[path] = history.held.last(path).oid
    return written_at(history.held, history.objects, oids)


def file_record(line, placed, times):
    """The record of the last version of a file; times: what own_times() knows."""
    record = _version_record(line, placed)
    if placed.path in times:
        record["mtime"] = utc_ns(times[placed.path])
    return record


def _version_record(line, placed):
    """What is said of a version in any case."""
    record = {"kind": "version"}
    if line.session_id is not None:
        record["session_id"] = line.session_id
    project = project_of(placed.path)
    if project is not None:
        record["project"] = project
    record["path"] = placed.path
    record["commit"] = placed.version.commit
    record["oid"] = placed.version.oid
    if placed.version.seconds:
        record["at"] = utc(placed.version.seconds)
    record["size"] = placed.size
    if placed.version.deleted_at:
        record["deleted_at"] = utc(placed.version.deleted_at)
    return record


def _change_of(newer, older):
    """What became of the older Placed of a Line in the newer one."""
    if older is None:
        return "new"
    if newer.path != older.path:
        if newer.version.oid == older.version.oid:
            return "moved"
    elif older.version.deleted_at:
        return "revived"
    if not newer.path.endswith(".jsonl"):
        return "changed"
    if newer.size < older.size:
        return "shrunk"
    if newer.size == older.size:
        return "rewritten"
    return "grew"
