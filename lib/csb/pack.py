"""how git keeps objects: loose ones, packs, and packs that grow with a file

A loose object is a file objects/xx/yyyy... named by its id; it is the zlib stream of
"blob SIZE\\0" and the bytes. A pack holds many objects:

    "PACK", version 2, number of entries        12 bytes
    an entry for each object                    head, then a zlib stream
    SHA-1 of all before                         20 bytes

The head says the type and the size when inflated. A blob is whole, a delta (REF_DELTA)
says how to make an object out of another one, whose id stands before its stream. The
.idx beside a pack lists ids, CRC-32 of entries and where they begin; git sees a pack
once it has one. A .keep beside it tells git's gc to leave it alone.

Packs that grow. A transcript is only appended to, but git would store it whole for each
line that comes. A deflate stream can be cut where a byte ends (a sync flush) and go on
later. So the pack of a file holds its newest version whole, as a stream that can be
continued, and each older version as a delta that copies its first bytes out of the
newest. When the file has grown the next pack is made of the old compressed bytes, the
compressed tail, and one more delta. Its .keep, one line, says what the next one needs:

    "csb-gitpack", the CRC-32 of the rest, and as JSON
    versions    [[id, size]], newest first
    head, end   the length of the first entry's head; where that entry ends in the pack
    crc, adler  CRC-32 of that entry; Adler-32 of the text (of its zlib stream)

Formats: gitformat-pack(5); RFC 1950, 1951.
"""
import json
import os
import re
import struct
import time
import zlib
from bisect import bisect
from collections import deque, namedtuple

from csb import Error, encode, why
from csb.files import (
    BLOCK,
    TEMPORARY,
    Changed,
    StableFile,
    make_dirs,
    move_over,
    read_blocks,
    remove_file,
    replace_file,
    sync,
    temporary_in,
)

BLOB, REF_DELTA = 3, 7          # types of entries
PACK_HEAD = 12                  # bytes
SHA1_LENGTH = 20                # bytes
READ_ONLY = 0o400
ENDINGS = (".pack", ".idx", ".keep")
MOST_COPIED = 0xFFFFFF          # bytes that one copy of a delta can be of
GROWING = 1 << 20               # bytes; below, git does as well
HUGE = 2 * 10**9                # bytes; a pack that grows with a larger file would
                                # need an .idx with offsets of 64 bits
FEW_IDS = 1 << 14               # ids that are read from an .idx at once
WINDOW = 1 << 15                # bytes that deflate looks back
FAST, GOOD = 1, 6               # levels of compression: of much, of little
ADLER_START = 1                 # the Adler-32 of nothing
ZLIB_HEAD = b"\x78\x01"         # a stream with the largest window
LAST_BLOCK = b"\x03\x00"        # an empty block that says that it is the last
RAW = -15                       # zlib's word for a deflate stream without its frame
DAMAGED_BACK = 60               # seconds by which a damaged pack becomes older

# The names of what we, and git, are writing in the directories of a store.
UNFINISHED = (TEMPORARY, "tmp_", "fast_import_crash_")

_KEEP = re.compile(rb"csb-gitpack (\d+) (.*)")

PackEntry = namedtuple("PackEntry", "oid crc offset")           # the id in bytes

# What became of a file. needless: packs whose versions are all in the one before.
Written = namedtuple("Written", "oid stat needless")


# --- the pieces of a pack -------------------------------------------------------------


def varint(number):
    """A number as packs have it: seven bits a byte, the lowest first."""
    data = bytearray()
    while number > 127:
        data.append(number & 127 | 128)
        number >>= 7
    data.append(number)
    return bytes(data)


def entry_head(kind, size):
    """The head of an entry: its type, and its size when inflated.

    Four bits of the size stand in the first byte, seven in each further one.
    """
    first = kind << 4 | size & 15
    rest = size >> 4
    if not rest:
        return bytes([first])
    return bytes([first | 128]) + varint(rest)


def copy_delta(base, size):
    """A delta that makes the first size bytes of a base (its size) out of it."""
    delta = bytearray(varint(base) + varint(size))
    for start in range(0, size, MOST_COPIED):
        length = min(size - start, MOST_COPIED)
        # A copy: four bytes of where it begins and three of its length follow.
        delta += b"\xff" + start.to_bytes(4, "little") + length.to_bytes(3, "little")
    return bytes(delta)


def pack_head(count):
    return struct.pack(">4sII", b"PACK", 2, count)


class PackWriter:
    """A pack on its way into a folder of packs.

        with PackWriter(folder) as pack:
            pack.start(BLOB, size)
            pack.write(stream)          as often as need be
            pack.end(oid)
            pack.join(key)              else nothing of it stays
    """

    def __init__(self, folder):
        self.folder = folder
        self.aside = temporary_in(folder)
        self.file = open(self.aside, "xb+")
        self.file.write(pack_head(0))       # the number of entries is not known yet
        self.at = PACK_HEAD
        self.started = 0
        self.crc = 0
        self.entries = []
        self.added = set()                  # ids of blobs that were added whole

    def __enter__(self):
        return self

    def __exit__(self, *problem):
        try:
            self.file.close()
        except OSError:
            pass                # the disk is full; the rest is not needed any more
        finally:
            remove_file(self.aside)

    def start(self, kind, size, base=b""):
        """Start an entry; base is the id (bytes) of what a delta is made of."""
        self.started = self.at
        self.crc = 0
        self.write(entry_head(kind, size) + base)

    def write(self, data):
        """Write bytes of the entry that was started last."""
        self.file.write(data)
        self.crc = zlib.crc32(data, self.crc)
        self.at += len(data)

    def end(self, oid):
        """Say that the entry is whole: it is the object of this id (hex)."""
        self.entries.append(PackEntry(bytes.fromhex(oid), self.crc, self.started))

    def add(self, oid, size, stream):
        """Add a whole blob, of which stream is the zlib stream, unless it is there."""
        if oid not in self.added:
            self.added.add(oid)
            self.start(BLOB, size)
            self.write(stream)
            self.end(oid)

    def join(self, key, keep=b""):
        """Make it durable and give it a name that begins with a key; its path, without
        an ending. keep: what its .keep says, b"" for none.

        git sees it when all is there, since its .pack comes last.
        """
        trailer = self._finish()
        path = os.path.join(self.folder, f"pack-{key}{os.urandom(12).hex()}")
        try:
            if keep:
                replace_file(path + ".keep", [keep], READ_ONLY, is_last=False)
            idx = idx_of(self.entries, trailer)
            replace_file(path + ".idx", [idx], READ_ONLY, is_last=False)
            os.replace(self.aside, path + ".pack")
            sync(self.folder)
        except BaseException:
            remove_pack(path)   # the disk may be full as it is
            raise
        return path

    def _finish(self):
        """Complete its head, read all back, write the trailer, which is returned."""
        self.file.seek(0)
        self.file.write(pack_head(len(self.entries)))
        self.file.seek(0)
        total = new_hash(data=self.file.read(PACK_HEAD))
        ends = [entry.offset for entry in self.entries[1:]] + [self.at]
        for entry, end in zip(self.entries, ends, strict=True):
            crc = 0
            for block in read_blocks(self.file, end - entry.offset):
                total.update(block)
                crc = zlib.crc32(block, crc)
            if crc != entry.crc:
                oid = entry.oid.hex()
                raise Error(f"cannot prove {oid}: it reads back differently")
        self.file.write(total.digest())
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        os.chmod(self.aside, READ_ONLY)
        return total.digest()


def idx_of(entries, trailer):
    """The bytes of the .idx (version 2) of a pack with this trailer."""
    entries = sorted(entries)
    firsts = [entry.oid[0] for entry in entries]
    # The fan-out table: how many ids begin with at most this byte.
    fan = [bisect(firsts, byte) for byte in range(256)]
    oids = b"".join(entry.oid for entry in entries)
    crcs = b"".join(struct.pack(">I", entry.crc) for entry in entries)
    # 31 bits: above that offsets stand in another table, which no pack of ours needs.
    offsets = b"".join(struct.pack(">i", entry.offset) for entry in entries)
    data = b"\xfftOc\0\0\0\x02" + struct.pack(">256I", *fan)
    data += oids + crcs + offsets + trailer
    return data + new_hash(data=data).digest()


def idx_ids(path, length=SHA1_LENGTH):
    """Yield the ids (bytes) that an .idx (version 2) lists, in order.

    length: bytes of an id. Error if it is of another version.
    """
    few = b""
    with open(path, "rb") as file:
        head = file.read(8 + 4 * 256)
        if head[:8] != b"\xfftOc\0\0\0\x02" or len(head) < 8 + 4 * 256:
            raise Error(f"cannot read '{path}': it is no index of version 2")
        count = int.from_bytes(head[-4:], "big")
        if count <= FEW_IDS:
            few = file.read(count * length)     # no open file for each of many packs
        else:
            for _ in range(count):
                yield file.read(length)
    for start in range(0, len(few), length):
        yield few[start:start + length]


def is_sound(path, length=SHA1_LENGTH):
    """Is a pack (its path without an ending) on the disk as it was written?

    It and its .idx end in a hash of themselves, of so many bytes. What is read comes
    from the disk, not from memory, where the system can do that.
    """
    ends = []
    _forget_cache(path)
    for ending in (".pack", ".idx"):
        digest = new_hash("sha1" if length == SHA1_LENGTH else "sha256")
        try:
            with open(path + ending, "rb") as file:
                rest = file.seek(0, os.SEEK_END) - length
                file.seek(0)
                for block in read_blocks(file, rest):
                    digest.update(block)
                if digest.digest() != file.read():
                    return False
                file.seek(rest - length)
                ends.append(file.read())
        except (OSError, ValueError):
            return False        # gone, unreadable, or too short
    end_of_pack, end_of_idx = ends
    return end_of_idx[:length] == end_of_pack[length:]      # it is that of this pack


def _forget_cache(path):
    """Have a pack be read from the disk from now on, where the system can do that."""
    if not hasattr(os, "posix_fadvise"):
        return
    for ending in (".pack", ".idx"):
        try:
            with open(path + ending, "rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        except OSError:
            continue            # gone, or on a file system that has no cache


def remove_pack(path):
    """Remove a pack (its path without an ending).

    In this order what is left by a kill is no pack, or a whole one.
    """
    for ending in ENDINGS:
        remove_file(path + ending)


def new_hash(hash_name="sha1", data=b""):
    """A running hash, as git names them."""
    import hashlib  # 2 to 3 ms

    return hashlib.new(hash_name, data)


def blob_hash(size, hash_name="sha1"):
    """A running hash that becomes the id of a blob of size bytes."""
    return new_hash(hash_name, b"blob %d\0" % size)


# --- loose objects --------------------------------------------------------------------


def loose_path(store, oid):
    """Where an object lies if it is loose."""
    return os.path.join(store, "objects", oid[:2], oid[2:])


def all_loose(store):
    """Yield the ids of all loose objects."""
    objects = os.path.join(store, "objects")
    for first in os.listdir(objects):
        if len(first) != 2:
            continue
        for rest in os.listdir(os.path.join(objects, first)):
            if len(rest) in (38, 62):       # else git is writing it
                yield first + rest


def write_loose(store, blocks, size, hash_name="sha1"):
    """Store a blob of size bytes as a loose object, proven and durable; its id.

    What raises while the blocks are read leaves nothing behind.
    """
    objects = os.path.join(store, "objects")
    aside = temporary_in(objects)
    digest = blob_hash(size, hash_name)
    packer = zlib.compressobj(FAST if size > GROWING else GOOD)
    rest = size
    try:
        with open(aside, "xb") as file:
            file.write(packer.compress(b"blob %d\0" % size))
            for block in blocks:
                rest -= len(block)
                digest.update(block)
                file.write(packer.compress(block))
            if rest:
                raise Changed("it had another size than it said")
            file.write(packer.flush())
            file.flush()
            os.chmod(aside, READ_ONLY)
            os.fsync(file.fileno())
        oid = digest.hexdigest()
        prove_loose(aside, oid, hash_name)
        path = loose_path(store, oid)
        folder = os.path.dirname(path)
        make_dirs(folder)
        move_over(aside, path)      # one that was there may have been damaged
        sync(folder)
        return oid
    finally:
        remove_file(aside)


def prove_loose(path, oid, hash_name):
    """Error unless a loose object reads back as what its id says."""
    digest = new_hash(hash_name)
    unpacker = zlib.decompressobj()
    with open(path, "rb") as file:
        while not unpacker.eof:
            block = unpacker.unconsumed_tail or file.read(BLOCK)
            if not block:
                break
            digest.update(unpacker.decompress(block, BLOCK))
    if digest.hexdigest() != oid or not unpacker.eof:
        raise Error(f"cannot prove object {oid}: it reads back differently")


# --- compressing ----------------------------------------------------------------------


def deflated(data):
    """A zlib stream of some bytes; inflated again to prove that."""
    stream = zlib.compress(data, FAST)
    if zlib.decompress(stream, bufsize=len(data) or 1) != data:
        raise Error("cannot compress: what comes back is not what went in")
    return stream


def deflate_open(piece, window, level):
    """A piece compressed so that more can follow it; inflated again to prove that.

    window: the text before, which it may refer to.
    """
    packer = zlib.compressobj(level, zlib.DEFLATED, RAW, 8, 0, window)
    packed = packer.compress(piece) + packer.flush(zlib.Z_SYNC_FLUSH)
    if zlib.decompressobj(RAW, window).decompress(packed) != piece:
        raise Error("cannot compress: what comes back is not what went in")
    return packed


def deflated_pieces(text):
    """Yield the rest of a Text compressed, such that more can follow."""
    level = GOOD if text.size - text.at < BLOCK else FAST
    for job in on_all_cores(deflate_open, with_windows(text, level)):
        yield job.result()


def with_windows(text, level):
    """Yield what deflate_open() takes of each piece of the rest of a Text."""
    for piece in text.pieces:
        text.adler = zlib.adler32(piece, text.adler)
        yield piece, text.window, level


class Beside:
    """Work that is done in a thread of its own: zlib and hashlib let others go on."""

    def __init__(self, work, *words):
        from threading import Thread

        self.value = self.error = None
        self.thread = Thread(target=self._do, args=(work, *words))
        self.thread.start()

    def _do(self, work, *words):
        try:
            self.value = work(*words)
        except BaseException as error:
            self.error = error

    def result(self):
        """What the work has given, or raised."""
        self.thread.join()
        if self.error:
            raise self.error
        return self.value


def on_all_cores(work, inputs, most=4):
    """Yield, in order, a Beside of work(*input) for each of the inputs.

    most: so many at a time, since each of them holds its input in memory.
    """
    most = min(os.cpu_count() or 1, most)
    due = deque()
    try:
        for words in inputs:
            due.append(Beside(work, *words))
            if len(due) >= most:
                yield due.popleft()
        while due:
            yield due.popleft()
    finally:
        for one in due:
            one.thread.join()


class Text:
    """The bytes of a file as they are read, once, and what is known of them so far."""

    def __init__(self, file, start=None):
        """start: (id, size) of a version that the file may begin with, or None."""
        self.path = file.path
        self.size = file.stat.st_size
        self.at = 0
        self.window = b""           # the end of what was read: deflate may refer to it
        self.adler = ADLER_START    # of what was passed, or compressed
        self.digest = blob_hash(self.size)
        self._start_id, self._start_size = start or ("", 0)
        self._start_digest = blob_hash(self._start_size)
        self._hashing = None        # Beside: the start's last piece
        file.file.seek(0)
        self.pieces = self._pieces(file)

    def _pieces(self, file):
        """Yield the bytes in pieces, of which one ends where the start does."""
        for block in file.blocks(self.digest):
            rest = max(0, self._start_size - self.at)
            of_start, behind = block[:rest], block[rest:]
            if of_start:
                # While the next block is read, and hashed with the whole.
                self._wait()
                self._hashing = Beside(self._start_digest.update, of_start)
            for piece in (of_start, behind):
                if piece:
                    self.at += len(piece)
                    yield piece
                    self.window = (self.window + piece[-WINDOW:])[-WINDOW:]

    def pass_start(self, adler):
        """Read on until the start is over, whose Adler-32 is known."""
        self.adler = adler
        for _ in self.pieces:
            if self.at == self._start_size:
                return

    def _wait(self):
        if self._hashing:
            self._hashing.result()

    def has_start(self):
        """Does the file, which was read so far, begin with that version?"""
        self._wait()
        return self._start_digest.hexdigest() == self._start_id


# --- packs that grow ------------------------------------------------------------------


class DamagedPack(Error):
    """A pack is not what it was when it was written."""


class Grown:
    """A pack that grows with a file: what its .keep says of it."""

    def __init__(self, path):
        """path: without an ending. OSError, ValueError, TypeError or LookupError if its
        .keep is not there, not ours, or damaged."""
        self.path = path
        with open(path + ".keep", "rb") as file:
            match = _KEEP.fullmatch(file.read())
        if not match or int(match[1]) != zlib.crc32(match[2]):
            raise ValueError("it is not ours, or damaged")
        said = json.loads(match[2])
        self.versions = []                  # [(id, size)], newest first
        for oid, size in said["versions"]:
            self.versions.append((bytes.fromhex(oid).hex(), int(size)))
        self.newest = self.versions[0]
        self.head = int(said["head"])
        self.end = int(said["end"])
        self.crc = int(said["crc"])
        self.adler = int(said["adler"])

    def has_all_of(self, other):
        """Are all versions of another pack in this one?"""
        return set(other.versions) <= set(self.versions)

    def is_behind(self, other):
        """Has another pack all versions of this one, and more?"""
        return other.has_all_of(self) and len(other.versions) > len(self.versions)

    def compressed(self):
        """Yield the newest version's stream, open at its end, without its head.

        DamagedPack, in the end, if a byte of the entry is not what it was.
        """
        closing = len(LAST_BLOCK) + 4           # the last block, and the Adler-32
        try:
            with open(self.path + ".pack", "rb") as file:
                file.seek(PACK_HEAD)
                crc = zlib.crc32(file.read(self.head))
                rest = self.end - PACK_HEAD - self.head - closing
                for block in read_blocks(file, rest):
                    crc = zlib.crc32(block, crc)
                    yield block
                crc = zlib.crc32(file.read(closing), crc)
        except OSError as error:
            raise DamagedPack(f"cannot use '{self.path}.pack': {why(error)}") from None
        if crc != self.crc:
            raise DamagedPack(f"cannot use '{self.path}.pack': it is damaged")

    def is_proven(self):
        """Is all of it sound, and its newest version what its id says?"""
        if not is_sound(self.path):
            return False
        oid, size = self.newest
        digest = blob_hash(size)
        unpacker = zlib.decompressobj()
        try:
            for block in self.compressed():
                while block:    # a little at a time: it may be a thousand times as much
                    digest.update(unpacker.decompress(block, BLOCK))
                    block = unpacker.unconsumed_tail
        except (Error, zlib.error):
            return False
        return digest.hexdigest() == oid


def pack_key(name):
    """The start of the names of the packs of a session's id, or of a path."""
    return new_hash(data=os.fsencode(name)).hexdigest()[:16]


def grown_packs(folder, keys=("",)):
    """The packs that grow whose names begin with one of the keys, as Grown."""
    found = []
    for path in _pack_paths(folder, keys):
        # Without an .idx git does not see it, but we do.
        if os.path.isfile(path + ".pack"):
            try:
                found.append(Grown(path))
            except (OSError, ValueError, TypeError, LookupError):
                continue        # git's, somebody's, or damaged
    return found


def _pack_paths(folder, keys):
    """The paths, without their endings, of all that has one of the keys."""
    starts = tuple(f"pack-{key}" for key in keys)
    names = [name for name in os.listdir(folder) if name.startswith(starts)]
    return {os.path.join(folder, os.path.splitext(name)[0]) for name in names}


def remove_leftovers(folder, keys=("",), age=0):
    """Remove what killed runs left of packs with these keys, if it is so old (seconds).

    A .pack is never removed: without its .idx git can make that anew.
    Without an age call it under the store's lock: a pack that somebody is writing looks
    the same.
    """
    for path in _pack_paths(folder, keys):
        if os.path.lexists(path + ".pack"):
            continue
        for ending in (".idx", ".keep"):
            try:
                if time.time() - os.stat(path + ending).st_mtime >= age:
                    remove_file(path + ending)
            except OSError:
                continue        # not there, or no file


def store_large(store, keys, path, follow, last, grows, has_object, hash_name="sha1"):
    """Store a file in a pack of its own, which is kept for its next version; a Written.

    keys: those of its packs, the first for a new one. last: (id, size) of the version
    before, or None. The pack is kept if the file begins with the last version, which
    it then has, too, or, where there is none, if grows says so; else it is an ordinary
    one of git's. Where no pack can grow it becomes a loose object.
    has_object(oid): has the store this blob already? Changed if the file is being
    rewritten, OSError as it comes. Call it under the store's lock; it may be at work on
    several files at a time, since it removes nothing: that is for drop_needless().
    """
    folder = os.path.join(store, "objects", "pack")
    with StableFile(path, follow, may_be_replaced=True) as file:
        size = file.stat.st_size
        if not GROWING < size < HUGE or not _can_grow(folder, hash_name):
            oid = write_loose(store, file.blocks(), size, hash_name)
            return Written(oid, file.stat, [])

        packs = grown_packs(folder, keys)
        shorter = [pack for pack in packs if pack.newest[1] <= size]
        for base in sorted(shorter, key=lambda pack: pack.newest[1], reverse=True):
            text = Text(file, base.newest)
            text.pass_start(base.adler)
            if text.has_start():
                needless = _go_on(folder, keys, file, text, base, packs, has_object)
                return Written(text.digest.hexdigest(), file.stat, needless)

        start = None
        if last and 0 < last[1] < size:     # git reads no delta of nothing
            start = last
        text = Text(file, start)
        with PackWriter(folder) as pack:
            said = _write_newest(pack, text)
            written = Written(text.digest.hexdigest(), file.stat, [])
            if not has_object(written.oid):
                older = [start] if text.has_start() else []
                is_kept = bool(older) or grows and not last
                _join(pack, keys[0], said, older, is_kept)
            return written


def _can_grow(folder, hash_name):
    """May packs of ours lie in this folder of packs?"""
    alternates = os.path.join(os.path.dirname(folder), "info", "alternates")
    if hash_name != "sha1" or os.path.exists(alternates):
        return False
    return not os.path.exists(os.path.join(folder, "multi-pack-index"))


def _go_on(folder, keys, file, text, base, packs, has_object):
    """Store a file in the pack after a base, behind whose newest version the Text is,
    unless there is nothing more in it; the paths of packs that are needless then."""
    if text.at == text.size:
        for _ in text.pieces:   # the end: does it hold still?
            pass
        if has_object(text.digest.hexdigest()):
            return []
    # First: what is read to be copied would else be in memory when it is proven.
    _forget_cache(base.path)
    sound = Beside(is_sound, base.path)
    try:
        _write_next(folder, keys[0], text, base.versions, base)
    except DamagedPack:
        # All is compressed anew. The file begins with what that pack held: no version
        # is lost.
        anew = Text(file, base.newest)
        _write_next(folder, keys[0], anew, base.versions)
        text.digest = anew.digest
    if sound.result():
        return _older_than(folder, keys, base, packs)
    # git asks the newest pack first.
    before = os.path.getmtime(base.path + ".pack") - DAMAGED_BACK
    os.utime(base.path + ".pack", (before, before))
    return []


def _write_next(folder, key, text, versions, base=None):
    """Write the next pack of a Text that begins with the first of some versions.

    base: the pack behind whose newest version the Text is; else all is compressed.
    """
    with PackWriter(folder) as pack:
        said = _write_newest(pack, text, base)
        if not text.has_start():
            raise Changed(f"cannot read '{text.path}': it was rewritten meanwhile")
        oid, _ = said["versions"][0]
        older = [version for version in versions if version[0] != oid]
        _join(pack, key, said, older, is_kept=True)


def _write_newest(pack, text, base=None):
    """Write a Text whole; what the .keep says of it. DamagedPack if the base is."""
    pack.start(BLOB, text.size)
    head = pack.at - pack.started
    if base:
        for block in base.compressed():
            pack.write(block)
    else:
        pack.write(ZLIB_HEAD)
    for block in deflated_pieces(text):
        pack.write(block)
    pack.write(LAST_BLOCK + text.adler.to_bytes(4, "big"))
    oid = text.digest.hexdigest()
    pack.end(oid)
    return {
        "versions": [(oid, text.size)],
        "end": pack.at,
        "head": head,
        "crc": pack.crc,
        "adler": text.adler,
    }


def _join(pack, key, said, older, is_kept):
    """Add older versions to the newest one of a pack, and let it join the others."""
    newest_id, newest_size = said["versions"][0]
    for oid, size in older:
        # Its first bytes are those of the newest one.
        delta = copy_delta(newest_size, size)
        pack.start(REF_DELTA, len(delta), bytes.fromhex(newest_id))
        pack.write(zlib.compress(delta))
        pack.end(oid)
    said["versions"] += older
    keep = b""
    if is_kept:
        text = encode(said).encode()
        keep = b"csb-gitpack %d %s" % (zlib.crc32(text), text)
    pack.join(key, keep)


def _older_than(folder, keys, base, packs):
    """The paths of the packs before the one that the new pack was made of.

    That one, which has just been read back, stays until the new one was read back in
    turn: one bad write loses no version.
    """
    older = []
    for pack in packs:
        if pack is not base and base.has_all_of(pack):
            older.append(pack.path)
    # The first versions of a file that was not known to grow.
    its_oids = {bytes.fromhex(oid) for oid, _ in base.versions}
    for path in _pack_paths(folder, keys):
        if os.path.lexists(path + ".keep"):
            continue
        try:
            if set(idx_ids(path + ".idx")) <= its_oids:
                older.append(path)
        except (OSError, Error):
            continue
    return older


def drop_needless(store, keys, paths):
    """Remove the packs at these paths, which store_large() has found needless, and what
    killed runs left of packs with these keys.

    Call it under the store's lock, when no pack is being written.
    """
    for path in paths:
        remove_pack(path)
    if keys:
        remove_leftovers(os.path.join(store, "objects", "pack"), keys)


def drop_superseded(folder):
    """Remove each pack whose versions are all in another one that is sound on the disk.

    Call it under the store's lock.
    """
    packs = grown_packs(folder)
    for pack in packs:
        for other in packs:
            if other is not pack and other.has_all_of(pack) and other.is_proven():
                remove_pack(pack.path)
                break
