"""snapshots: verified copies of single files that need no store

What session_snapshot and jsonl_snapshot share. A snapshot is a file named

    <stamp>[.N]__<name of the source><ending>

The stamp is the UTC second in which the source was opened (20260414T173000Z); N counts
the further ones of that second. Taken as numbers they sort in order of time. A file
with such a name is complete, durable and verified.
"""
import os
import re
import sys
import time
from collections import namedtuple
from contextlib import contextmanager

from csb import (
    ABSENT,
    FAILED,
    MISUSE,
    Error,
    emit,
    operands,
    utc,
    utc_ns,
    warn,
    whole_number,
    why,
)
from csb.files import (
    Changed,
    StableFile,
    absolute,
    make_dirs,
    remove_file,
    sweep,
    sync,
    temporary_in,
    write_new,
)
from csb.git import git

STAMP = "%Y%m%dT%H%M%SZ"
PAUSES = (0.1, 0.2, 0.4, 0.8)       # seconds before a file that changed is read again

_NAME = re.compile(
    r"([0-9]{4}[01][0-9][0-3][0-9]T[0-2][0-9][0-5][0-9][0-5][0-9]Z)"
    r"(?:\.([1-9][0-9]*))?__(.+)", re.S
)

# What the name of a snapshot tells. base: the name of its source.
Snapshot = namedtuple("Snapshot", "stamp number base")


class Shelf:
    """The snapshots in one directory, those that a dry run only plans among them.

    A tool's own shelf says how a snapshot is written, and what belongs to it.
    """

    ending = ""                 # of the names of snapshots
    retain = 5                  # snapshots of a file that are kept
    usual_place = ()            # names of directories below the top of the repository
    restored_to = ""            # where files come back without DIR, for people
    intact = "OK  (it was read to its end)"

    def __init__(self, options):
        """options: Options of a tool, to which those of both tools are added."""
        self.options = options
        self.args = self.parse_options(options)
        self.folder = None          # where snapshots, or files, go: known at the first
        self.ours = set()           # Snapshots that this run made or planned
        self.purged = set()         # names of sources of which one went in this run

    # What a tool's own shelf does in its own way. It has folder_for_restored(), too: of
    # the path of a snapshot, where its file comes back without DIR.

    def files_of(self, record, path, is_typed):
        """The paths that a record with a path stands for."""
        return [absolute(path)]

    def prepare(self):
        make_dirs(self.folder)
        sweep(self.folder)

    def packed(self, blocks):
        """Yield the bytes of a snapshot of blocks."""
        return blocks

    def unpacked(self, path):
        """Yield the bytes that a snapshot holds; Error if it is damaged."""
        return file_blocks(path)

    def place(self, aside, path, source, facts):
        """Give what lies aside its name; fields of the record beside its facts.

        FileExistsError if the name is taken.
        """
        os.link(aside, path)
        return {}

    def is_sound(self, path):
        """Does an older snapshot verify?"""
        return True

    def remove(self, path):
        """Delete a snapshot and what belongs to it, as far as it is there."""
        remove_file(path)

    def compare(self, path, raw):
        """Fields of the record of a restore: does a snapshot hold what its source had?

        raw: the SHA-256 of what it holds. Error if not.
        """
        return {}

    # The command line.

    def parse_options(self, options):
        add = options.add_argument
        one = options.add_mutually_exclusive_group()
        one.add_argument(
            "files", metavar="FILE", nargs="*", default=[], help="like --source FILE"
        )
        for option, meaning in (
            ("--source", "make a snapshot of this file"),
            ("--restore", "bring back this snapshot"),
        ):
            one.add_argument(option, metavar="FILE", action="append", help=meaning)
        usual = f"instead of the usual directory (--restore: {self.restored_to})"
        add("--dest-dir", "--target-dir", metavar="DIR", dest="folder", help=usual)
        keep = self.retain
        number = f"keep N of each file ({keep}; 0: all)"
        add("--retain", metavar="N", type=whole_number, default=keep, help=number)
        options.flag("--force", "restore over another file")
        options.flag("--dry-run", "only say what would be done")
        args = options.parse_args()
        if args.folder == "":
            options.error("DIR is empty")
        return args

    def work(self):
        """Emit the record of each file; report what fails and go on.

        Records that name no file are passed on.
        """
        args = self.args
        words = args.files or args.source or args.restore
        done = set()
        for record in operands(self.options, words, bare="path"):
            path = record.get("path", record.get("transcript_path"))
            if not isinstance(path, str):
                emit(record)
                continue
            for file in self.files_of(record, path, bool(words)):
                if file not in done:
                    done.add(file)
                    self.do(file, MISUSE if words else FAILED)

    def do(self, path, status):
        """Take the snapshot of the file at a path, or bring back that snapshot.

        status: if it is no file.
        """
        try:
            StableFile(path).file.close()
        except (OSError, ValueError) as error:      # ValueError: a NUL in the path
            if isinstance(error, PermissionError):
                status = FAILED
            warn(f"cannot read '{path}': {why(error)}", status)
            return

        task, work = "snapshot", self.snapshot
        if self.args.restore is not None:
            task, work = "restore", self.restore
            self.folder = self.args.folder or self.folder_for_restored(path)
        elif self.folder is None:
            self.folder = self.args.folder or below_git_root(*self.usual_place)
        self.folder = absolute(self.folder)
        try:
            if self.args.folder:
                # It may be on a disk that is away: what it lies in must be there.
                os.stat(os.path.dirname(self.folder))
            emit(work(path))
        except (Error, OSError, ValueError) as error:
            warn(f"cannot {task} '{path}' to '{self.folder}': {why(error)}")

    # Making them.

    def snapshot(self, source):
        """Make a snapshot, and delete a surplus one of the same source; the record."""
        base = os.path.basename(source)
        if self.args.dry_run:
            taken = time.time()
            facts = {"size": os.stat(source).st_size, "dry_run": True}
            new = self._next(base, taken)
        else:
            self.prepare()
            with aside_in(self.folder) as aside:
                taken, facts = self._write_settled(source, aside)
                check_same(self.unpacked(aside), facts["raw_sha256"])
                new = self._next(base, taken)
                while True:
                    try:
                        facts |= self.place(aside, self._path(new), source, facts)
                        break
                    except FileExistsError:
                        new = new._replace(number=new.number + 1)
        self.ours.add(new)
        return {
            "kind": "snapshot",
            "path": self._path(new),
            "source": source,
            **facts,
            "snapshot_at": utc(taken),
            "purged": self._thin_out(base, new),
        }

    def _write_settled(self, source, aside):
        """_write(), again while the source is being rewritten."""
        for pause in PAUSES:
            try:
                return self._write(source, aside)
            except (Changed, FileNotFoundError):
                time.sleep(pause)
        return self._write(source, aside)

    def _write(self, source, aside):
        """Write a snapshot of a file aside; (when, its facts)."""
        from hashlib import sha256

        digest = sha256()
        with StableFile(source) as file:
            taken = time.time()
            write_new(aside, self.packed(file.blocks(digest)))
        return taken, {"size": file.stat.st_size, "raw_sha256": digest.hexdigest()}

    def _next(self, base, taken):
        """The Snapshot that comes next in its second."""
        stamp = time.strftime(STAMP, time.gmtime(taken))
        numbers = [one.number for one in self._of(base) if one.stamp == stamp]
        return Snapshot(stamp, max(numbers, default=-1) + 1, base)

    def _of(self, base):
        """The snapshots of the sources with a name, in order of time."""
        found = set(self.ours)
        if os.path.lexists(self.folder):
            for name in os.listdir(self.folder):
                if is_plain_file(os.path.join(self.folder, name)):
                    found.add(parse_name(name, self.ending))
        return sorted(one for one in found if one and one.base == base)

    def _path(self, snapshot):
        extra = f".{snapshot.number}" if snapshot.number else ""
        name = f"{snapshot.stamp}{extra}__{snapshot.base}{self.ending}"
        return os.path.join(self.folder, name)

    def _thin_out(self, base, new):
        """Delete a snapshot of a source if there are too many; [its path].

        The oldest, so that a mistake stays small one a run of each source; never one
        that this run made, nor the last older one that verifies while another can go.
        """
        group = self._of(base)
        if base in self.purged or not 0 < self.args.retain < len(group):
            return []
        # A later one than ours is another run's new one, unless its time is still to
        # come: then the clock was set back.
        now = time.strftime(STAMP, time.gmtime())
        others = [one for one in group if one < new or one.stamp > now]
        old = [self._path(one) for one in others if one not in self.ours]
        if not old:
            return []

        path, *others = old
        if others and not any(map(self.is_sound, reversed(others))):
            if self.is_sound(path):
                path = others[0]
        self.purged.add(base)
        if self.args.dry_run:
            return [path]
        try:
            self.remove(path)
        except OSError as error:
            warn(f"cannot delete '{error.filename}': {why(error)}")
        return [] if os.path.lexists(path) else [path]

    # Bringing them back.

    def restore(self, path):
        """Bring the snapshot at path back into .folder; the record."""
        target = os.path.join(self.folder, self.name_within(path))
        record = {"kind": "file", "path": target}
        if self.args.dry_run:
            record["dry_run"] = True
        try:
            raw = self.examined(path)
            match = self.compare(path, raw)
            record["result"] = self._bring_back(target, path, raw)
        except Error as error:
            emit({**record, "result": "refused", "reason": str(error)})
            raise
        if record["result"] == "kept" or not self.args.dry_run:
            now = os.stat(target)
            record["size"] = now.st_size
            record["mode"] = f"{now.st_mode & 0o7777:04o}"
            record["mtime"] = utc_ns(now.st_mtime_ns)
        return {**record, **match}

    def name_within(self, path):
        """The name of what a snapshot holds, also of one that was named by hand."""
        name = os.path.basename(path)
        snapshot = parse_name(name, self.ending)
        if snapshot:
            return snapshot.base
        base = name.removesuffix(self.ending)
        if not self.ending or base in (name, "", ".", ".."):
            raise Error(f"it is not named <stamp>__<name>{self.ending}")
        return base

    def examined(self, path):
        """The SHA-256 of what a snapshot holds; says whether it is intact."""
        try:
            raw = sha256_of(self.unpacked(path))
        except Error as error:
            claim("archive integrity:", f"FAIL  ({error})")
            raise
        claim("archive integrity:", self.intact)
        return raw

    def _bring_back(self, target, path, raw):
        """Write what a snapshot holds to a target, and read that again; the result.

        raw: its SHA-256. Error if another file is there.
        """
        if is_plain_file(target) and sha256_of(file_blocks(target)) == raw:
            return "kept"
        if os.path.lexists(target) and not self.args.force:
            raise Error(f"another file is at '{target}' (--force replaces it)")
        if not self.args.dry_run:
            make_dirs(self.folder)
            with aside_in(self.folder) as aside:
                write_new(aside, self.unpacked(path))
                check_same(file_blocks(aside), raw)
                give_name = os.replace if self.args.force else os.link
                give_name(aside, target)
        return "restored"


@contextmanager
def aside_in(folder):
    """The path of a file that is written, read back, and named by who uses it.

    At the end the names in the folder are durable, and this one is gone.
    """
    path = temporary_in(folder)
    try:
        yield path
        sync(folder)
    finally:
        remove_file(path)


def below_git_root(*parts):
    """A path below the top of the git repository around the working directory.

    Without one the tool ends with status 3.
    """
    try:
        top = git(None, "-C", os.getcwd(), "rev-parse", "--show-toplevel")
    except (Error, OSError) as error:
        text = f"cannot tell where to write without --dest-dir: {why(error)}"
        raise Error(text, ABSENT) from None
    return os.path.join(os.fsdecode(top).removesuffix("\n"), *parts)


def parse_name(name, ending):
    """The Snapshot that the name of a file tells of, else None."""
    if not name.endswith(ending):
        return None
    match = _NAME.fullmatch(name[:len(name) - len(ending)])
    if not match or match[3] in (".", ".."):
        return None
    return Snapshot(match[1], int(match[2] or 0), match[3])


# --- files ----------------------------------------------------------------------------


def is_plain_file(path):
    return os.path.isfile(path) and not os.path.islink(path)


def check_same(blocks, raw):
    """Error unless blocks, which come back from the disk, have this SHA-256."""
    if sha256_of(blocks) != raw:
        raise Error("what was written reads back differently")


def file_blocks(path):
    """Yield the bytes of a file in blocks; Changed if it is rewritten meanwhile."""
    with StableFile(path) as file:
        yield from file.blocks()


def sha256_of(blocks):
    """The SHA-256 of blocks of bytes, in hex."""
    from hashlib import sha256

    digest = sha256()
    for block in blocks:
        digest.update(block)
    return digest.hexdigest()


def claim(label, text):
    """One of the claims of a restore, for people."""
    try:
        sys.stderr.write(f"{label:21}{text}\n")
    except (OSError, AttributeError):
        pass                        # stderr is closed
