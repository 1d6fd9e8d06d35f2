"""csb.seen: what the last backup saw of every file, so that the next need not read it

A file in the store's git directory. It can be deleted at any time: git knows the same,
but slower. Its fields end with NUL:

    csb.seen 1 COMMIT                           what it belongs to
    OID MODE SIZE MTIME CTIME INODE PATH        for every path of the commit's tree, and
                                                for every empty directory (path/, OID -)
    end CRC                                     the CRC-32 of all before

MODE is octal with the type of file, times are nanoseconds. CTIME and INODE are 0 if the
file had changed less than two seconds before it was read: such a stat proves nothing.
"""
import os
from binascii import crc32
from collections import namedtuple

NAME = "csb.seen"
MARK = "csb.seen 1"

Seen = namedtuple("Seen", "oid mode size mtime ctime inode")


class SeenFiles:
    """The content of a csb.seen: .commit ("" if there is none), .files {path: Seen}."""

    def __init__(self, commit="", files=None):
        self.commit = commit
        self.files = files or {}


def seen_path(store):
    return os.path.join(store, NAME)


def read_seen(store):
    """The SeenFiles of a store; empty if it is missing or damaged."""
    try:
        with open(seen_path(store), "rb") as file:
            text, _, end = file.read().rpartition(b"end ")
    except OSError:
        return SeenFiles()
    if not end.isdigit() or int(end) != crc32(text):
        return SeenFiles()
    head, *lines = os.fsdecode(text).split("\0")
    mark, _, commit = head.rpartition(" ")
    if mark != MARK:
        return SeenFiles()
    files = {}
    try:
        for line in lines[:-1]:
            oid, mode, size, mtime, ctime, inode, path = line.split(" ", 6)
            files[path] = Seen(
                oid, int(mode, 8), int(size), int(mtime), int(ctime), int(inode)
            )
    except ValueError:
        return SeenFiles()
    return SeenFiles(commit, files)
