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
from collections import namedtuple

from csb import Error, encode, why
from csb.files import (
    BLOCK,
    STALE,
    Changed,
    StableFile,
    is_stale,
    move_over,
    remove_file,
    replace_file,
    sweep,
    sync,
    temporary_in,
)

BLOB, REF_DELTA = 3, 7          # types of entries
PACK_HEAD = 12                  # bytes
SHA1_LENGTH = 20                # bytes
READ_ONLY = 0o400
MOST_COPIED = 0xFFFFFF          # bytes that one copy of a delta can be of
GROWING = 1 << 20               # bytes; below, git does as well
HUGE = 1 << 31                  # bytes; such a file has no pack that grows
LARGE_OFFSET = 1 << 31          # in an .idx; from there on it stands in a second table
FEW_IDS = 1 << 14               # ids that are read from an .idx at once
WINDOW = 1 << 15                # bytes that deflate looks back
PIECE = 1 << 19                 # bytes that are compressed at a time
FAST, GOOD = 1, 6               # levels of compression: of much, of little
ADLER_START = 1                 # the Adler-32 of nothing
ZLIB_HEAD = b"\x78\x01"         # a stream with the largest window
LAST_BLOCK = b"\x03\x00"        # an empty block that says that it is the last
RAW = -15                       # zlib's word for a deflate stream without its frame
DAMAGED_BACK = 60               # seconds by which a damaged pack becomes older
COMPARED = 4096                 # bytes that are compared before all are hashed

_KEEP = re.compile(rb"csb-gitpack (\d+) (.*)")
_OID = re.compile("[0-9a-f]{40}")
_MAGIC = {".pack": b"PACK", ".idx": b"\xfftOc"}

PackEntry = namedtuple("PackEntry", "oid crc offset")           # the id in bytes
Written = namedtuple("Written", "oid stat known")         # what became of a file


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
    """Writes the entries of a pack to a file, and knows what its .idx needs."""

    def __init__(self, file, count):
        self.file = file
        self.total = new_hash()
        self.at = 0
        self.crc = 0
        self.started = 0
        self.entries = []
        self.write(pack_head(count))

    def write(self, data):
        """Write bytes of the entry that was started last."""
        self.file.write(data)
        self.total.update(data)
        self.crc = zlib.crc32(data, self.crc)
        self.at += len(data)

    def start(self, kind, size, base=b""):
        """Start an entry; base is the id (bytes) of what a delta is made of."""
        self.started = self.at
        self.crc = 0
        self.write(entry_head(kind, size) + base)

    def end(self, oid):
        """Say that the entry is whole: it is the object of this id (hex)."""
        self.entries.append(PackEntry(bytes.fromhex(oid), self.crc, self.started))

    def finish(self):
        """Write the trailer; make all of it durable."""
        trailer = self.total.digest()
        self.file.write(trailer)
        self.file.flush()
        os.fsync(self.file.fileno())
        return trailer


def idx_of(entries, trailer):
    """The bytes of the .idx (version 2) of a pack with this trailer."""
    entries = sorted(entries)
    firsts = [entry.oid[0] for entry in entries]
    # The fan-out table: how many ids begin with at most this byte.
    fan = [bisect(firsts, byte) for byte in range(256)]
    oids = b"".join(entry.oid for entry in entries)
    crcs = b"".join(struct.pack(">I", entry.crc) for entry in entries)
    offsets = []
    large = []
    for entry in entries:
        offset = entry.offset
        if offset >= LARGE_OFFSET:
            offset = LARGE_OFFSET + len(large)      # its number in the second table
            large.append(struct.pack(">Q", entry.offset))
        offsets.append(struct.pack(">I", offset))
    data = b"\xfftOc\0\0\0\x02" + struct.pack(">256I", *fan)
    data += oids + crcs + b"".join([*offsets, *large, trailer])
    return data + new_hash(data=data).digest()


def idx_ids(path, length=SHA1_LENGTH):
    """Yield the ids (bytes) that an .idx (version 2) lists, in order.

    length: bytes of an id. Error if it is of another version.
    """
    few = b""
    with open(path, "rb") as file:
        count = _idx_count(file, path)
        if count <= FEW_IDS:
            few = file.read(count * length)     # no open file for each of many packs
        else:
            for _ in range(count):
                yield file.read(length)
    for start in range(0, len(few), length):
        yield few[start:start + length]


def _idx_count(file, path):
    """How many entries an open .idx has; it is read up to the first."""
    head = file.read(8 + 4 * 256)
    if head[:8] != b"\xfftOc\0\0\0\x02" or len(head) < 8 + 4 * 256:
        raise Error(f"cannot read '{path}': it is no index of version 2")
    return int.from_bytes(head[-4:], "big")


def read_idx(path, length=SHA1_LENGTH):
    """The entries that an .idx (version 2) lists, sorted by id.

    length: bytes of an id. Error if it is of another version, or cut off.
    """
    with open(path, "rb") as file:
        count = _idx_count(file, path)
        oids = file.read(count * length)
        crcs = file.read(count * 4)
        offsets = file.read(count * 4)
        large = file.read()
    if len(offsets) < count * 4:
        raise Error(f"cannot read '{path}': it is cut off")
    entries = []
    for number in range(count):
        oid = oids[number * length:(number + 1) * length]
        crc, = struct.unpack_from(">I", crcs, number * 4)
        offset, = struct.unpack_from(">I", offsets, number * 4)
        if offset >= LARGE_OFFSET:
            number_there = offset - LARGE_OFFSET
            offset, = struct.unpack_from(">Q", large, number_there * 8)
        entries.append(PackEntry(oid, crc, offset))
    return entries


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
    try:
        oid = _write_loose_aside(aside, blocks, size, hash_name)
        prove_loose(aside, oid, hash_name)
        path = loose_path(store, oid)
        folder = os.path.dirname(path)
        if not os.path.isdir(folder):
            os.makedirs(folder, 0o700, exist_ok=True)
            sync(objects)
        move_over(aside, path)      # one that was there may have been damaged
        sync(folder)
        return oid
    finally:
        remove_file(aside)


def _write_loose_aside(aside, blocks, size, hash_name):
    digest = blob_hash(size, hash_name)
    packer = zlib.compressobj(FAST if size > GROWING else GOOD)
    rest = size
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
    return digest.hexdigest()


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


# --- a single object in a pack --------------------------------------------------------


def write_object_pack(folder, info, blocks, mtime):
    """Write a pack of one blob (its Info) into a folder of packs, durable.

    mtime: the time that it gets, in seconds: git asks the newest pack first. Changed if
    the blocks are not those of the blob: then there is no pack.
    """
    aside = temporary_in(folder)
    try:
        with open(aside, "xb") as out:
            pack = PackWriter(out, 1)
            pack.start(BLOB, info.size)
            packer = zlib.compressobj(FAST)
            digest = blob_hash(info.size)
            for block in blocks:
                digest.update(block)
                pack.write(packer.compress(block))
            pack.write(packer.flush())
            if digest.hexdigest() != info.oid:
                raise Changed(f"cannot store {info.oid}: it was rewritten meanwhile")
            pack.end(info.oid)
            trailer = pack.finish()
        os.utime(aside, (mtime, mtime))
        _give_names(aside, pack.entries, trailer)
    finally:
        remove_file(aside)


def _give_names(aside, entries, trailer):
    """Give a whole and durable pack its name, and an .idx: git sees it then."""
    folder = os.path.dirname(aside)
    path = os.path.join(folder, f"pack-{trailer.hex()}")
    os.chmod(aside, READ_ONLY)
    was_there = os.path.exists(path + ".idx")
    move_over(aside, path + ".pack")
    try:
        # One that is there tells of the same entries, if it is not damaged.
        replace_file(path + ".idx", [idx_of(entries, trailer)], READ_ONLY)
    except BaseException:
        if not was_there:
            remove_file(path + ".pack")     # the disk may be full as it is
        raise


# --- many small files in one pack -----------------------------------------------------


class Bundle:
    """A pack of small files on its way into the store: whole, proven, or not at all."""

    def __init__(self, store):
        self.aside = temporary_in(os.path.join(store, "objects", "pack"))
        self.file = open(self.aside, "xb+")
        self.file.write(pack_head(0))       # the number of entries is not known yet
        self.placed = {}                    # {id: (offset, size of the text)}

    def add(self, oid, size, stream):
        """Add a blob, of which stream is the zlib stream, unless it is there."""
        if oid not in self.placed:
            self.placed[oid] = (self.file.tell(), size)
            self.file.write(entry_head(BLOB, size) + stream)

    def join(self):
        """Read all of it back, and give it its place. Error if it differs."""
        total = new_hash()
        self.file.seek(8)
        self.file.write(struct.pack(">I", len(self.placed)))
        entries = list(self._read_back(total))
        self.file.write(total.digest())
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        _give_names(self.aside, entries, total.digest())

    def _read_back(self, total):
        """Yield the PackEntry of each blob as it lies there; total takes all of it."""
        offsets = [offset for offset, _ in self.placed.values()]
        offsets.append(self.file.seek(0, os.SEEK_END))
        self.file.seek(0)
        total.update(self.file.read(PACK_HEAD))
        for number, (oid, (offset, size)) in enumerate(self.placed.items()):
            data = self.file.read(offsets[number + 1] - offset)
            total.update(data)
            head = entry_head(BLOB, size)
            digest = blob_hash(size)
            try:
                digest.update(zlib.decompress(data[len(head):]))
            except zlib.error as error:
                raise Error(f"cannot prove {oid}: {error}") from None
            if not data.startswith(head) or digest.hexdigest() != oid:
                raise Error(f"cannot prove {oid}: it reads back differently")
            yield PackEntry(bytes.fromhex(oid), zlib.crc32(data), offset)

    def discard(self):
        """Remove what did not join the store."""
        try:
            self.file.close()
        except OSError:
            pass                # the disk is full; the rest is not needed any more
        finally:
            remove_file(self.aside)


# --- packs that grow ------------------------------------------------------------------


class Grown:
    """A pack that grows with a file: what its .keep says of it."""

    def __init__(self, path, said, idx=None):
        self.path = path                    # without an ending
        self.idx = idx                      # the bytes of an .idx that is to be written
        self.versions = [tuple(version) for version in said["versions"]]
        self.head = said["head"]
        self.end = said["end"]
        self.crc = said["crc"]
        self.adler = said["adler"]
        self.was_read = False               # all of compressed(), and it was sound?

    def set_back(self):
        """Have git ask the other packs first: this one is damaged."""
        before = os.path.getmtime(self.path + ".pack") - DAMAGED_BACK
        os.utime(self.path + ".pack", (before, before))

    def show(self):
        """Give a new pack its .idx: git sees it from now on."""
        replace_file(self.path + ".idx", [self.idx], READ_ONLY)

    @property
    def newest(self):
        """(id, size) of its newest version."""
        return self.versions[0]

    def has_all_of(self, other):
        """Are all versions of another pack in this one?"""
        return set(other.versions) <= set(self.versions)

    def compressed(self):
        """Yield the newest version's stream, open at its end, without its head.

        Error if a byte of the entry is not what it was, or cannot be read. What is
        read comes from the disk, not from memory, where the system can.
        """
        try:
            yield from self._stream()
        except OSError as error:
            raise Error(f"cannot use '{self.path}.pack': {why(error)}") from None

    def _stream(self):
        with open(self.path + ".pack", "rb") as file:
            _forget_cache(file)
            file.seek(PACK_HEAD)
            crc = zlib.crc32(file.read(self.head))
            closing = len(LAST_BLOCK) + 4       # the last block, and the Adler-32
            rest = self.end - PACK_HEAD - self.head - closing
            while rest > 0:
                block = file.read(min(BLOCK, rest))
                if not block:
                    break
                rest -= len(block)
                crc = zlib.crc32(block, crc)
                yield block
            if rest or zlib.crc32(file.read(closing), crc) != self.crc:
                raise Error(f"cannot use '{self.path}.pack': it is damaged")
        self.was_read = True

    def begins_like(self, start):
        """May the file with these first bytes begin with the newest version?"""
        try:
            with open(self.path + ".pack", "rb") as file:
                file.seek(PACK_HEAD + self.head)
                text = zlib.decompressobj().decompress(file.read(BLOCK), COMPARED)
        except (OSError, zlib.error):
            return True         # damaged: the id of the newest version will tell
        length = min(len(text), len(start))
        return text[:length] == start[:length]

    def can_be_read(self):
        """Is the newest version's stream on the disk as it was written?"""
        try:
            for _ in self.compressed():
                pass
        except Error:
            return False
        return True

    def is_sound(self):
        """Is all of it on the disk as it was written, and gives the newest version?"""
        try:
            return self.rest_is_sound() and _hash_of_newest(self) == self.newest[0]
        except (Error, zlib.error):
            return False

    def rest_is_sound(self):
        """Is all but the newest version's stream on the disk as it was written?"""
        try:
            with open(self.path + ".idx", "rb") as file:
                idx = file.read()
            if new_hash(data=idx[:-SHA1_LENGTH]).digest() != idx[-SHA1_LENGTH:]:
                return False
            entries = read_idx(self.path + ".idx")
            listed = {entry.oid.hex() for entry in entries}
            if listed != {oid for oid, _ in self.versions}:
                return False
            trailer = idx[-2 * SHA1_LENGTH:-SHA1_LENGTH]
            with open(self.path + ".pack", "rb") as file:
                _forget_cache(file)
                return self._rest_is_like(file, entries, trailer)
        except (OSError, Error, struct.error):
            return False

    def _rest_is_like(self, file, entries, trailer):
        """Are head, deltas and trailer of an open pack those that its .idx tells of?"""
        if file.read(PACK_HEAD) != pack_head(len(entries)):
            return False        # git would not open it
        by_offset = sorted(entries, key=lambda entry: entry.offset)
        end = file.seek(0, os.SEEK_END) - SHA1_LENGTH
        ends = [entry.offset for entry in by_offset[1:]] + [end]
        if by_offset[0].offset != PACK_HEAD or ends[0] != self.end:
            return False
        for entry, stop in list(zip(by_offset, ends, strict=True))[1:]:
            file.seek(entry.offset)
            if zlib.crc32(file.read(stop - entry.offset)) != entry.crc:
                return False
        file.seek(end)
        return file.read() == trailer


def _forget_cache(file):
    """Have the next reads come from the disk, where the system can do that."""
    if hasattr(os, "posix_fadvise"):
        try:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        except OSError:
            pass                # a file system that has no cache to forget


def _hash_of_newest(grown):
    """The id of a pack's newest version as its stream inflates."""
    digest = blob_hash(grown.newest[1])
    unpacker = zlib.decompressobj()
    for block in grown.compressed():
        while block:            # a little at a time: it may be a thousand times as much
            digest.update(unpacker.decompress(block, BLOCK))
            block = unpacker.unconsumed_tail
    return digest.hexdigest()


def pack_key(name):
    """The start of the names of the packs of a session's id, or of a path."""
    return new_hash(data=os.fsencode(name)).hexdigest()[:16]


def grown_packs(folder, keys=("",)):
    """The packs that grow whose names begin with one of the keys, as Grown."""
    found = []
    for base, ending in _pack_names(folder, keys):
        path = os.path.join(folder, base)
        if ending == ".keep" and os.path.isfile(path + ".pack"):
            said = _read_keep(path + ".keep")
            if said:            # without an .idx git does not see it, but we do
                found.append(Grown(path, said))
    return found


def _pack_names(folder, keys):
    """(name without its ending, ending) of what has one of the keys."""
    starts = tuple(f"pack-{key}" for key in keys)
    pairs = [os.path.splitext(name) for name in os.listdir(folder)]
    return [pair for pair in pairs if pair[0].startswith(starts)]


def _read_keep(path):
    """What a .keep of ours says, None if it is another's, or damaged."""
    try:
        with open(path, "rb") as file:
            match = _KEEP.fullmatch(file.read())
        if not match or int(match[1]) != zlib.crc32(match[2]):
            return None
        said = json.loads(match[2])
    except (OSError, ValueError):
        return None
    return said if _makes_sense(said) else None


def _makes_sense(said):
    """Has what a .keep says all that we need?"""
    if not isinstance(said, dict):
        return False
    for name in ("head", "end", "crc", "adler"):
        if type(said.get(name)) is not int:
            return False
    versions = said.get("versions")
    if not isinstance(versions, list) or not versions:
        return False
    for version in versions:
        if not isinstance(version, list) or len(version) != 2:
            return False
        oid, size = version
        if not isinstance(oid, str) or not _OID.fullmatch(oid):
            return False
        if type(size) is not int or size < 0:
            return False
    return True


def remove_pack(path):
    """Remove a pack (its path without an ending).

    In this order what is left by a kill is no pack, or a whole one.
    """
    for ending in (".pack", ".idx", ".keep"):
        remove_file(path + ending)


def remove_leftovers(folder, keys):
    """Remove what killed runs left of packs with these keys.

    Call it under the store's lock: a pack that is being written looks the same.
    """
    for base, ending in _pack_names(folder, keys):
        path = os.path.join(folder, base)
        there = set()
        for end in (".pack", ".idx", ".keep"):
            if os.path.lexists(path + end):
                there.add(end)
        if ending == ".keep" and ".pack" not in there and _read_keep(path + ending):
            remove_pack(path)
        elif there == {ending} and _begins_with(path + ending, _MAGIC.get(ending)):
            remove_file(path + ending)


def _begins_with(path, magic):
    """Is it a file that begins with these bytes, and not somebody else's thing?"""
    try:
        with open(path, "rb") as file:
            return file.read(4) == magic
    except OSError:
        return False


def remove_unfinished(folder):
    """Remove what git, and we, were writing in a folder and left there a day ago."""
    sweep(folder)
    for entry in list(os.scandir(folder)):
        if entry.name.startswith(("tmp_", "fast_import_crash_")) and is_stale(entry):
            remove_file(entry.path)


def remove_halves(folder):
    """Remove packs without an .idx, and .idx without a pack, that are a day old.

    For a store of our own: who was killed there left them.
    """
    partner = {".pack": ".idx", ".idx": ".pack"}
    for base, ending in _pack_names(folder, [""]):
        path = os.path.join(folder, base)
        if ending not in partner or os.path.lexists(path + ".keep"):
            continue
        if os.path.lexists(path + partner[ending]):
            continue
        age = time.time() - os.lstat(path + ending).st_mtime
        if age > STALE and os.path.isfile(path + ending):
            remove_file(path + ending)


def store_large(store, keys, path, follow, last, grows, has_object):
    """Store a file in a pack of its own, which is kept for its next version; a Written.

    keys: those of its packs, the first for a new one. last: (id, size) of the version
    before, or None. The pack is kept if the file begins with the last version, which
    it then has, too, or, where there is none, if grows says so; else it is an ordinary
    one of git's.
    has_object(oid): has the store this blob already? Changed if the file is being
    rewritten, OSError as it comes. Call it under the store's lock.
    """
    folder = os.path.join(store, "objects", "pack")
    remove_leftovers(folder, keys)
    packs = grown_packs(folder, keys)
    with StableFile(path, follow, may_be_replaced=True) as file:
        size = file.stat.st_size
        if size >= HUGE:        # it has grown since somebody looked
            oid = write_loose(store, file.blocks(), size)
            return Written(oid, file.stat, False)
        start = _find_start(file, packs)
        if start:
            return _store_next(folder, keys, file, start, packs)

        older = []
        is_kept = False
        if size > GROWING:      # else it shrank since somebody looked
            older = _last_in(file, last)
            is_kept = bool(older) or grows and not last
        start = Beginning(size, older[0] if older else None, is_kept)
        new = _write_pack(folder, keys[0], file, start, older)
        oid = new.newest[0]
        try:
            known = has_object(oid)
            if not known:
                new.show()
        except BaseException:
            remove_pack(new.path)
            raise
        if known:
            remove_pack(new.path)
        return Written(oid, file.stat, known)


def _last_in(file, last):
    """[last] if a file begins with that version, (id, size), and goes on; else []."""
    if not last or not 0 < last[1] < file.stat.st_size:
        return []               # git reads no delta of nothing
    file.file.seek(0)
    prefix = Prefix(*last)
    for block in file.blocks():
        prefix.feed(block)
        if prefix.is_whole():
            break
    return [last] if prefix.is_true() else []


def _store_next(folder, keys, file, start, packs):
    """Store a file in the pack after the one that has its start; a Written."""
    base = start.pack
    oid, _ = base.newest
    if oid == start.file_oid and os.path.exists(base.path + ".idx"):
        return Written(oid, file.stat, True)
    new = _go_on(folder, keys[0], file, start)
    try:
        new.show()
    except BaseException:
        remove_pack(new.path)
        raise
    if base.was_read and base.rest_is_sound():
        _drop_older(folder, keys, base, packs)
    else:
        base.set_back()
    return Written(new.newest[0], file.stat, False)


def _find_start(file, packs):
    """The longest Continuation that a file allows, None if none."""
    candidates = _alike(file, packs)
    ahead = []
    behind = []                 # generations before one that is there, too
    for pack in candidates:
        if any(is_behind(pack, other) for other in candidates):
            behind.append(pack)
        else:
            ahead.append(pack)
    for some in (ahead, behind):
        if some:
            file.file.seek(0)
            start = _examine(file, some)
            if start:
                return start
    return None


def is_behind(pack, other):
    """Has another pack all versions of this one, and more?"""
    return other.has_all_of(pack) and len(other.versions) > len(pack.versions)


def _alike(file, packs):
    """The packs whose newest version begins as the file does, or is damaged."""
    start = file.file.read(COMPARED)
    fitting = [pack for pack in packs if pack.newest[1] <= file.stat.st_size]
    found = [pack for pack in fitting if pack.begins_like(start)]
    if not found:
        return [pack for pack in fitting if not pack.can_be_read()]
    for pack in fitting:
        # One that goes on where another ends begins as that does, or is damaged.
        if pack not in found and any(is_behind(other, pack) for other in found):
            found.append(pack)
    return found


class Prefix:
    """Whether a file, as its blocks come, begins with the blob of an id and size."""

    def __init__(self, oid, size):
        self.oid = oid
        self.size = size
        self.proof = blob_hash(size)
        self.at = 0

    def feed(self, block):
        """Take in the next block; how much of it belongs to the blob."""
        part = block[:self.size - self.at]
        self.proof.update(part)
        self.at += len(part)
        return len(part)

    def is_whole(self):
        return self.at == self.size

    def is_true(self):
        return self.is_whole() and self.proof.hexdigest() == self.oid


class Beginning:
    """Where a new pack's first entry goes on: at the start, with nothing."""

    pack = None                     # the Grown that has what is before
    at = 0                          # bytes of the file that it has
    window = b""                    # the last of them
    adler = ADLER_START

    def __init__(self, size, last=None, is_kept=False, file_oid=None):
        """last: (id, size) of a version that the file began with when it was looked at;
        file_oid: the id of all of it, if that is known."""
        self.digest = blob_hash(size)
        self.last = None
        if last:
            self.last = Prefix(*last)
        self.is_kept = is_kept      # for the next version of the file
        self.file_oid = file_oid

    def feed(self, block):
        """Take in the next block of the file."""
        self.digest.update(block)
        if self.last:
            self.last.feed(block)

    def is_true(self, oid):
        """Was the file, which has this id, what it was when it was looked at?"""
        if self.last and not self.last.is_true():
            return False
        return self.file_oid in (None, oid)


class Continuation:
    """Where it goes on: behind a pack's newest version, which the file begins with."""

    is_kept = True

    def __init__(self, pack, digest, window):
        self.pack = pack
        self.at = pack.newest[1]
        self.window = window
        self.adler = pack.adler
        self.digest = digest        # of the file up to there
        self.file_oid = None

    def feed(self, block):
        self.digest.update(block)

    def is_true(self, oid):
        return self.file_oid == oid


def _examine(file, packs):
    """Read a file once; the longest Continuation that it allows, None if none."""
    whole = blob_hash(file.stat.st_size)
    open_ones = []
    for pack in sorted(packs, key=lambda pack: pack.newest[1]):
        open_ones.append((pack, Prefix(*pack.newest)))
    last = b""
    best = None
    for block in file.blocks():
        for pack, prefix in list(open_ones):
            length = prefix.feed(block)
            if not prefix.is_whole():
                continue
            open_ones.remove((pack, prefix))
            if prefix.is_true():            # of several the longest is the last
                part = block[:length]
                digest = whole.copy()
                digest.update(part)
                best = Continuation(pack, digest, (last + part)[-WINDOW:])
        whole.update(block)
        last = (last + block)[-WINDOW:]
    if best:
        best.file_oid = whole.hexdigest()
    return best


def _go_on(folder, key, file, start):
    """Write the next pack of a file after a Continuation; a Grown.

    If the old pack is damaged all is compressed anew: the file begins with what that
    held, so that no version is lost.
    """
    older = [version for version in start.pack.versions if version[0] != start.file_oid]
    try:
        return _write_pack(folder, key, file, start, older)
    except Changed:
        raise
    except (Error, zlib.error):
        size = file.stat.st_size
        anew = Beginning(size, is_kept=True, file_oid=start.file_oid)
        return _write_pack(folder, key, file, anew, older)


def _write_pack(folder, key, file, start, older):
    """Write a pack of a file and of older versions, [(id, size)]; a Grown.

    git does not see it before its .show().
    """
    path = os.path.join(folder, f"pack-{key}{os.urandom(12).hex()}")
    aside = temporary_in(folder)
    try:
        with open(aside, "xb") as out:
            pack = PackWriter(out, 1 + len(older))
            said = _write_newest(pack, file, start)
            newest = said["versions"][0]
            for oid, length in older:
                _write_delta(pack, newest, oid, length)
            trailer = pack.finish()
        idx = idx_of(pack.entries, trailer)
        os.chmod(aside, READ_ONLY)

        said["versions"] += older
        if start.is_kept:
            # The .keep is there first: else somebody's git gc may take the pack.
            text = encode(said).encode()
            mark = b"csb-gitpack %d " % zlib.crc32(text)
            replace_file(path + ".keep", [mark, text], READ_ONLY)
        os.replace(aside, path + ".pack")
        sync(folder)
    except BaseException:
        remove_pack(path)       # the disk may be full as it is
        raise
    finally:
        remove_file(aside)
    return Grown(path, said, idx)


def _write_newest(pack, file, start):
    """Write a file whole, from where start says on; what the .keep says of it."""
    size = file.stat.st_size
    pack.start(BLOB, size)
    head = pack.at - pack.started
    if start.pack:
        for block in start.pack.compressed():
            pack.write(block)
    else:
        pack.write(ZLIB_HEAD)

    rest = size - start.at
    level = GOOD if rest < BLOCK else FAST
    tail = Tail(file, start)
    for block in deflated_blocks(tail.blocks(), level, start.window, rest > BLOCK):
        pack.write(block)
    oid = start.digest.hexdigest()
    if not start.is_true(oid):
        raise Changed(f"cannot read '{file.path}': it was rewritten meanwhile")
    pack.write(LAST_BLOCK + tail.adler.to_bytes(4, "big"))
    pack.end(oid)
    return {
        "versions": [(oid, size)],
        "end": pack.at,
        "head": head,
        "crc": pack.crc,
        "adler": tail.adler,
    }


def _write_delta(pack, newest, oid, size):
    """Write a version as the first size bytes of the newest one."""
    delta = copy_delta(newest[1], size)
    pack.start(REF_DELTA, len(delta), bytes.fromhex(newest[0]))
    pack.write(zlib.compress(delta))
    pack.end(oid)


class Tail:
    """The bytes of a file from a place on; hashes and Adler-32 go on with them."""

    def __init__(self, file, start):
        self.file = file
        self.at = start.at
        self.feed = start.feed
        self.adler = start.adler

    def blocks(self):
        """Yield them in pieces, as many as there were when the file was opened."""
        for block in self._read():
            for start in range(0, len(block), PIECE):
                piece = block[start:start + PIECE]
                self.feed(piece)
                self.adler = zlib.adler32(piece, self.adler)
                yield piece

    def _read(self):
        self.file.file.seek(self.at)
        if self.at == 0:
            yield from self.file.blocks()       # which sees whether it holds still
            return
        rest = self.file.stat.st_size - self.at
        while rest:
            block = self.file.file.read(min(BLOCK, rest))
            if not block:
                raise Changed(f"cannot read '{self.file.path}': it was truncated")
            rest -= len(block)
            yield block


def deflated_blocks(blocks, level, window, is_much):
    """Yield each block compressed, such that more can follow; if there is much, on all
    cores.

    window: the text before, which the first block may refer to.
    """
    if not is_much:
        for block in blocks:
            yield deflate_open(block, level, window)
            window = (window + block)[-WINDOW:]
        return
    from concurrent.futures import ThreadPoolExecutor  # 12 ms

    cores = min(os.cpu_count() or 1, 4)     # each holds some blocks in memory
    jobs = []
    with ThreadPoolExecutor(cores) as pool:
        for block in blocks:
            jobs.append(pool.submit(deflate_open, block, level, window))
            window = (window + block)[-WINDOW:]
            if len(jobs) > 4 * cores:
                yield jobs.pop(0).result()
        for job in jobs:
            yield job.result()


def deflate_open(block, level, window):
    """A block compressed so that more can follow it; inflated again to prove that."""
    packer = zlib.compressobj(level, zlib.DEFLATED, RAW, 8, 0, window)
    packed = packer.compress(block) + packer.flush(zlib.Z_SYNC_FLUSH)
    if zlib.decompressobj(RAW, window).decompress(packed) != block:
        raise Error("cannot compress: what comes back is not what went in")
    return packed


def _drop_older(folder, keys, base, packs):
    """Remove the packs before the one that the new pack was made of.

    That one, which has just been read back, stays until the new one was read back in
    turn: one bad write loses no version.
    """
    for pack in packs:
        if pack is not base and base.has_all_of(pack):
            remove_pack(pack.path)
    # The first versions of a file that was not known to grow.
    its_oids = {bytes.fromhex(oid) for oid, _ in base.versions}
    for name, ending in _pack_names(folder, keys):
        path = os.path.join(folder, name)
        if ending != ".idx" or os.path.lexists(path + ".keep"):
            continue
        try:
            is_needed = set(idx_ids(path + ending)) - its_oids
        except (OSError, Error):
            continue
        if not is_needed and path != base.path:
            remove_pack(path)


def drop_superseded(folder):
    """Remove each pack whose versions are all in another one that is sound on the disk.

    Call it under the store's lock.
    """
    packs = grown_packs(folder)
    for pack in packs:
        for other in packs:
            if other is not pack and other.has_all_of(pack) and other.is_sound():
                remove_pack(pack.path)
                break
