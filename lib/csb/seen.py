"""csb.seen: what the store holds, by the stats that the files had when they were read

It lies in the git directory and is disposable. "csb.seen 2 REF COMMIT", then for every
path of that commit "OID MODE SIZE MTIME CTIME INODE PATH", each ended by NUL; then
"end " and the CRC-32 of all before, in decimal. MODE is octal and has the file's type,
times are nanoseconds. OID is "-" for an empty directory, whose PATH ends in "/". CTIME
and INODE are 0 where the stat was too young to prove anything later.
"""
import os
from binascii import crc32
from collections import namedtuple

from csb import Error
from csb.files import blocks_of, lines, read_blocks, replace_file, without_waiting
from csb.git import PIPE, backup_ref, commit_of, plain_ref, start_git

SEEN = "csb.seen"
SEEN_VERSION = b"csb.seen 2"
LONGEST_HEAD = 1000
LONGEST_END = len("end 4294967295")
FRESH = 2 * 10**9               # ns; a ctime as young proves nothing later
UNKNOWN = 0                     # the mtime of what git alone knows
NOT_THERE = "-"                 # the id of what is no object: an empty directory

# What is known of a path. mode has the file's type.
Entry = namedtuple("Entry", "oid mode size mtime ctime inode")

# Of which ref's commit a csb.seen is, "" for none, and its checksum, in decimal.
Head = namedtuple("Head", "ref commit checksum")
NO_HEAD = Head("", "", "")

# {path: packed entry} of what a store holds; is_exact: it is all that csb.seen can say.
Known = namedtuple("Known", "entries is_exact")


def read_head(store):
    """The Head of a store's csb.seen; NO_HEAD if there is none.

    Only the two ends of the file are read: whether the checksum is right is not known.
    """
    try:
        with _opened(store) as file:
            head, _ = _ends_of(file)
            return head
    except (OSError, ValueError):
        return NO_HEAD


def read_seen(store):
    """(Head, {path: packed entry}) of a store's csb.seen.

    (NO_HEAD, {}) if there is none, or none that is whole and of this version. Packed,
    as its line has it without the path, since there may be very many:
    unpacked() makes an Entry of it.
    """
    entries = {}
    try:
        with _opened(store) as file:
            head, length = _ends_of(file)
            file.seek(0)
            total = 0
            for block in read_blocks(file, length):
                total = crc32(block, total)
            if total != int(head.checksum):
                return NO_HEAD, {}
            file.seek(0)
            found = lines(read_blocks(file, length), b"\0")
            next(found)             # the head
            for line in found:
                path = line.split(b" ", 6)[6]
                entries[os.fsdecode(path)] = line[:-len(path) - 1]
            return head, entries
    except (OSError, ValueError, IndexError):
        return NO_HEAD, {}


def _opened(store):
    return open(os.path.join(store, SEEN), "rb", opener=without_waiting)


def _ends_of(file):
    """(Head, length of all before the end); ValueError if it is not of this version."""
    first = file.read(LONGEST_HEAD).partition(b"\0")[0]
    version, ref, commit = first.rsplit(b" ", 2)
    if version != SEEN_VERSION:
        raise ValueError("it is of another version")
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - LONGEST_END))
    end = file.read()
    start = end.index(b"end ")
    head = Head(os.fsdecode(ref), commit.decode(), end[start + 4:].decode())
    return head, size - len(end) + start


def packed(entry):
    """An Entry in the form of a line."""
    oid, mode, size, mtime, ctime, inode = entry
    return f"{oid} {mode:o} {size} {mtime} {ctime} {inode}".encode()


def unpacked(line):
    """The Entry of such a form."""
    oid, mode, *numbers = line.decode().split(" ")
    return Entry(oid, int(mode, 8), *map(int, numbers))


def oid_in(line):
    """The object id in such a form."""
    return line.partition(b" ")[0].decode()


def is_of(line, status):
    """Has such a form all that a stat says? Then nothing has changed since."""
    return line.endswith(
        b" %o %d %d %d %d" % (
            status.st_mode,
            status.st_size,
            status.st_mtime_ns,
            status.st_ctime_ns,
            status.st_ino,
        )
    )


def in_tree(store, commit):
    """{path: packed entry} of the files in a commit's tree: git knows no times."""
    words = ["ls-tree", "-r", "-z", "-l", "--full-tree", commit]
    process = start_git(store, *words, stdout=PIPE)
    found = {}
    for line in lines(blocks_of(process.stdout), b"\0"):
        head, _, path = os.fsdecode(line).partition("\t")
        mode, _, oid, size = head.split()
        if not path.startswith(".csb/"):
            size = int(size) if size.isdigit() else 0
            found[path] = packed(Entry(oid, int(mode, 8), size, UNKNOWN, 0, 0))
    if process.wait() != 0:
        raise Error(f"cannot read the tree of {commit}: git ls-tree failed")
    return found


def last_backup(store):
    """The id of the commit of the last backup, "" if there is none.

    It stands in files, which are read if they are as git writes them: to ask git takes
    longer than to find out that nothing has changed. The commit is not looked at.
    """
    ref = read_head(store).ref
    commit = ref and plain_ref(store, ref)
    return commit or commit_of(store, backup_ref(store))


def known_entries(store, commit):
    """The Known of a commit: from csb.seen, or, where that is of another one, from git.

    A line of csb.seen is believed if its object is the one in the tree: a run that was
    killed has moved the ref, and not noted it.
    """
    if not commit:
        return Known({}, True)
    head, seen = read_seen(store)
    if head.commit == commit:
        return Known(seen, True)
    found = in_tree(store, commit)
    for path, line in seen.items():
        oid = oid_in(line)
        if oid == NOT_THERE or path in found and oid_in(found[path]) == oid:
            found[path] = line
    return Known(found, False)


def write_seen(store, ref, commit, entries):
    """Write the csb.seen of a ref's commit, durable; its Head.

    entries: {path: packed entry}.
    """
    head = [SEEN_VERSION, os.fsencode(ref), commit.encode()]
    parts = [b" ".join(head) + b"\0"]
    for path, line in entries.items():
        parts.append(line + b" " + os.fsencode(path) + b"\0")
    total = 0
    for part in parts:
        total = crc32(part, total)
    parts.append(b"end %d" % total)
    replace_file(os.path.join(store, SEEN), parts)
    return Head(ref, commit, str(total))


def seen_entry(oid, status, size, read_at):
    """The Entry of what was read at a time (ns), with the stat from before."""
    entry = Entry(oid, status.st_mode, size, status.st_mtime_ns, 0, 0)
    if read_at - status.st_ctime_ns > FRESH:
        return entry._replace(ctime=status.st_ctime_ns, inode=status.st_ino)
    return entry
