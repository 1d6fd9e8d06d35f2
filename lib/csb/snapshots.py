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

from csb import ABSENT, FAILED, MISUSE, Error, emit, operands, utc, utc_ns, warn, why
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


# --- the command line -----------------------------------------------------------------


def parse_snapshot_options(options, retain, restored_to):
    """Add the options that both tools have; what was typed.

    retain: how many snapshots of a file to keep; restored_to: where --restore writes,
    for people.
    """
    one = options.add_mutually_exclusive_group()
    one.add_argument(
        "files", metavar="FILE", nargs="*", default=[], help="like --source FILE"
    )
    for option, meaning in (
        ("--source", "make a snapshot of this file"),
        ("--restore", "bring back this snapshot"),
    ):
        one.add_argument(option, metavar="FILE", action="append", help=meaning)
    options.add_argument(
        "--dest-dir", "--target-dir", metavar="DIR", dest="folder",
        help=f"instead of the usual directory (--restore: {restored_to})",
    )
    options.add_argument(
        "--retain", metavar="N", type=int, default=retain,
        help=f"keep N of each file ({retain}; 0: all)",
    )
    options.add_argument(
        "--force", action="store_true", help="restore over another file"
    )
    options.add_argument(
        "--dry-run", action="store_true", help="only say what would be done"
    )
    args = options.parse_args()
    if args.retain < 0:
        options.error("N is less than 0")
    if args.folder == "":
        options.error("DIR is empty")
    if args.folder:
        args.folder = absolute(args.folder)
    return args


def given_paths(options, args):
    """(the records to work on, whether a person typed their paths)."""
    words = args.files or args.source or args.restore
    return operands(options, words, bare="path"), bool(words)


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


# --- the shelf ------------------------------------------------------------------------


class Shelf:
    """The snapshots in one directory, those that a dry run only plans among them.

    A tool's own shelf says how a snapshot is written, and what belongs to it.
    """

    ending = ""

    def __init__(self, args):
        self.args = args
        self.folder = args.folder   # None until it is known which is the usual one
        self.ours = set()           # Snapshots that this run made or planned
        self.purged = set()         # names of sources of which one went in this run

    # What a tool's own shelf does in its own way.

    def usual_folder(self, path):
        """Where a snapshot, or a restored file, of the one at path goes without DIR."""
        raise NotImplementedError

    def packed(self, blocks):
        """Yield the bytes of a snapshot of blocks."""
        return blocks

    def unpacked(self, path):
        """Yield the bytes that a snapshot holds; Error if it is damaged."""
        return file_blocks(path)

    def facts_of(self, aside):
        """What else the record says of a snapshot that was just written."""
        return {}

    def place(self, aside, path, source, facts):
        """Give what lies aside its name; FileExistsError if that is taken."""
        os.link(aside, path)

    def is_sound(self, path):
        """Does an older snapshot verify?"""
        return True

    def remove(self, path):
        """Delete a snapshot and what belongs to it."""
        os.unlink(path)

    def name_within(self, path):
        """The name of what a snapshot holds."""
        snapshot = parse_name(os.path.basename(path), self.ending)
        if not snapshot:
            raise Error("it is not named <stamp>__<name>")
        return snapshot.base

    def examine(self, path):
        """(SHA-256 of what a snapshot holds, fields of its record); Error if damaged.
        """
        return sha256_of(self.unpacked(path)), {}

    # What is common.

    def work(self, paths, typed):
        """Emit the record of each path; report what fails and go on.

        typed: a person typed the paths, so that one which is no file is misuse.
        """
        task, do = "snapshot", self.snapshot
        if self.args.restore is not None:
            task, do = "restore", self.restore
        for path in dict.fromkeys(paths):
            if not is_readable(path, typed):
                continue
            if not self.args.folder and (self.folder is None or self.args.restore):
                self.folder = self.usual_folder(path)
            try:
                if self.args.folder:
                    # One that was named may be on a disk that is away: what it lies in
                    # must be there.
                    os.stat(os.path.dirname(self.folder))
                emit(do(path))
            except (Error, OSError, ValueError) as error:
                warn(f"cannot {task} '{path}' to '{self.folder}': {why(error)}")

    def snapshot(self, source):
        """Make a snapshot, and delete a surplus one of the same source; the record."""
        base = os.path.basename(source)
        taken = time.time()
        if self.args.dry_run:
            facts = {"size": os.stat(source).st_size, "dry_run": True}
            new = self._add(base, taken, lambda path: None)
        else:
            self.prepare()
            aside = temporary_in(self.folder)
            try:
                taken, facts = self._write_settled(source, aside)
                new = self._add(
                    base, taken, lambda path: self.place(aside, path, source, facts)
                )
                sync(self.folder)
            finally:
                remove_file(aside)
        return {
            "kind": "snapshot",
            "path": self._path(new),
            "source": source,
            **facts,
            "snapshot_at": utc(taken),
            "purged": self._thin_out(base, new),
        }

    def prepare(self):
        """Make the directory."""
        make_dirs(self.folder)
        sweep(self.folder)

    def _write_settled(self, source, aside):
        """_write(), again while the source is being rewritten."""
        for pause in PAUSES:
            try:
                return self._write(source, aside)
            except (Changed, FileNotFoundError):
                time.sleep(pause)
        return self._write(source, aside)

    def _write(self, source, aside):
        """Write a snapshot of a file aside, and read it back; (when, its facts)."""
        from hashlib import sha256

        digest = sha256()
        with StableFile(source) as file:
            taken = time.time()
            size = file.stat.st_size
            write_new(aside, self.packed(hashed(file.blocks(), digest)))
        if sha256_of(self.unpacked(aside)) != digest.hexdigest():
            raise Damaged
        facts = {"size": size, "raw_sha256": digest.hexdigest()}
        return taken, {**facts, **self.facts_of(aside)}

    def _add(self, base, taken, place):
        """Give a snapshot the next free name of its second; the Snapshot.

        place(path) puts it there; FileExistsError if another run was faster.
        """
        stamp = time.strftime(STAMP, time.gmtime(taken))
        numbers = [one.number for one in self._of(base) if one.stamp == stamp]
        number = max(numbers, default=-1) + 1
        while True:
            new = Snapshot(stamp, number, base)
            try:
                place(self._path(new))
            except FileExistsError:
                number += 1
                continue
            self.ours.add(new)
            return new

    def _of(self, base):
        """The snapshots of the sources with a name, in order of time."""
        found = {one for one in self.ours if one.base == base}
        try:
            with os.scandir(self.folder) as entries:
                for entry in entries:
                    snapshot = parse_name(entry.name, self.ending)
                    if not snapshot or snapshot.base != base:
                        continue
                    if entry.is_file(follow_symlinks=False):
                        found.add(snapshot)
        except FileNotFoundError:
            pass
        return sorted(found)

    def _path(self, snapshot):
        extra = f".{snapshot.number}" if snapshot.number else ""
        name = f"{snapshot.stamp}{extra}__{snapshot.base}{self.ending}"
        return os.path.join(self.folder, name)

    def _thin_out(self, base, new):
        """Delete the oldest snapshot if there are too many; the list of what went."""
        path = self._surplus(base, new)
        if path is None:
            return []
        self.purged.add(base)
        if self.args.dry_run:
            return [path]
        try:
            self.remove(path)
        except FileNotFoundError:
            pass                    # another run was faster
        except OSError as error:
            warn(f"cannot delete '{error.filename}': {why(error)}")
        return [] if os.path.lexists(path) else [path]

    def _surplus(self, base, new):
        """The one path to delete so that enough are kept, None if nothing is to go.

        One a run of each source, so that a mistake stays small; never one that this run
        made, nor the last older one that verifies while another can go.
        """
        group = self._of(base)
        if not 0 < self.args.retain < len(group) or base in self.purged:
            return None

        # A later one than ours is another run's new one, unless its time is still to
        # come: then the clock was set back.
        now = time.strftime(STAMP, time.gmtime())
        older = []
        for one in group:
            is_older = one < new or one.stamp > now
            if is_older and one not in self.ours:
                older.append(self._path(one))
        if not older:
            return None
        oldest, *others = older
        if not others or any(self.is_sound(path) for path in reversed(others)):
            return oldest
        return others[0] if self.is_sound(oldest) else oldest

    # Bringing them back.

    def restore(self, path):
        """Bring the snapshot at path back into .folder; the record."""
        target = os.path.join(self.folder, self.name_within(path))
        record = {"kind": "file", "path": target}
        if self.args.dry_run:
            record["dry_run"] = True
        try:
            raw, facts = self.examine(path)
            back = self._bring_back(target, path, raw)
        except Error as error:
            emit({**record, "result": "refused", "reason": str(error)})
            raise
        return {**record, **back, **facts}

    def _bring_back(self, target, path, raw):
        """Write what a snapshot holds to a target, and read that again; the fields.

        raw: its SHA-256. Error if another file is there, Damaged if what was written
        reads back differently.
        """
        args = self.args
        same = has_bytes(target, raw)
        if os.path.lexists(target) and not same and not args.force:
            raise Error(f"another file is at '{target}' (--force replaces it)")
        if not same and not args.dry_run:
            self._write_proven(target, path, raw)
        fields = {}
        if same or not args.dry_run:
            now = os.stat(target)
            fields["size"] = now.st_size
            fields["mode"] = f"{now.st_mode & 0o7777:04o}"
            fields["mtime"] = utc_ns(now.st_mtime_ns)
        fields["result"] = "kept" if same else "restored"
        return fields

    def _write_proven(self, target, path, raw):
        """Write a file aside, read it back, and only then give it its name."""
        folder = os.path.dirname(target)
        make_dirs(folder)
        aside = temporary_in(folder)
        try:
            write_new(aside, self.unpacked(path))
            if not has_bytes(aside, raw):
                raise Damaged
            give_name = os.replace if self.args.force else os.link
            give_name(aside, target)
            sync(folder)
        finally:
            remove_file(aside)


def parse_name(name, ending):
    """The Snapshot that the name of a file tells of, else None."""
    if not name.endswith(ending):
        return None
    match = _NAME.fullmatch(name[:len(name) - len(ending)])
    if not match or match[3] in (".", ".."):
        return None
    return Snapshot(match[1], int(match[2] or 0), match[3])


# --- files ----------------------------------------------------------------------------


class Damaged(Error):
    """What was written reads back differently: the disk or the memory is not sound."""

    def __init__(self):
        super().__init__("what was written reads back differently")


def is_readable(path, typed):
    """Is there a file at the path that can be read? If not it is reported."""
    try:
        StableFile(path).file.close()
        return True
    except PermissionError as error:
        warn(f"cannot read '{path}': {why(error)}")
    except (OSError, ValueError) as error:      # ValueError: a NUL in the path
        status = MISUSE if typed else FAILED
        warn(f"cannot read '{path}': {why(error)}", status)
    return False


def has_bytes(path, raw):
    """Is a regular file, and no link, at the path that has this SHA-256?"""
    if os.path.islink(path) or not os.path.isfile(path):
        return False
    return sha256_of(file_blocks(path)) == raw


def file_blocks(path):
    """Yield the bytes of a file in blocks; Changed if it is rewritten meanwhile."""
    with StableFile(path) as file:
        yield from file.blocks()


def hashed(blocks, digest):
    """Yield the blocks as they are; the digest takes them in."""
    for block in blocks:
        digest.update(block)
        yield block


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
