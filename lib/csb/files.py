"""files that others write: reading one as it is; writing one that survives a power cut

Also the lines of a stream in bounded memory, and locks.
"""
import errno
import os
import signal
import stat
import sys
import time
from binascii import crc32

from csb import DAY, RETRY, TOOL, Error, utc, warn, why

BLOCK = 1 << 20                 # bytes that are read at a time
LINE_LIMIT = 8 << 20            # bytes of a line; a longer one is not kept in memory
TEMPORARY = ".csb-tmp-"         # the start of the name of a file that is being written
LONGEST_WAIT = 10**8            # seconds that a timer is set to
STALE = DAY                     # seconds after which such a file is taken for left over


def absolute(path):
    """An absolute path; Error where a relative one has nothing to be relative to."""
    try:
        return os.path.abspath(os.path.expanduser(path))
    except FileNotFoundError:
        raise Error(
            f"cannot tell where '{path}' is: the working directory is gone, name it "
            "from / on"
        ) from None


def is_file_or_link(status):
    """Is the stat (not followed) one of a file or link: of no directory, FIFO, ...?"""
    return stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode)


def without_waiting(path, flags):
    """An opener for open(): a FIFO does not make it wait for who writes there."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def has_nothing(folder):
    """Is a directory missing, or without any entry?"""
    try:
        return not os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False


# --- reading --------------------------------------------------------------------------


class Changed(Error):
    """The file was not one thing while it was read."""


class Crc:
    """A CRC-32 in the manner of hashlib, which takes 2 to 3 ms to load."""

    def __init__(self, value=0):
        self.value = value

    def update(self, data):
        self.value = crc32(data, self.value)

    def digest(self):
        return self.value

    def copy(self):
        return Crc(self.value)


class StableFile:
    """A regular file that somebody may be writing, read as it was when it was opened.

        with StableFile(path) as file:
            size = file.stat.st_size
            for block in file.blocks(): ...

    OSError if it cannot be opened, or is no regular file. follow=False refuses a link;
    may_be_replaced allows that another file takes its name meanwhile.
    """

    def __init__(self, path, follow=True, may_be_replaced=False):
        self.path = path
        self.follow = follow
        self.may_be_replaced = may_be_replaced

        flags = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
        if not follow:
            flags |= getattr(os, "O_NOFOLLOW", 0)
        fd = without_waiting(path, flags)
        self.stat = os.fstat(fd)
        if not stat.S_ISREG(self.stat.st_mode):
            os.close(fd)
            raise OSError(errno.EINVAL, "not a regular file", path)
        self.file = os.fdopen(fd, "rb", 0)

    def __enter__(self):
        return self

    def __exit__(self, *problem):
        self.file.close()

    def blocks(self, digest=None):
        """Yield the bytes that it had at the open, in blocks.

        Changed, at their end, if they may be a mixture of two states. A file that just
        grew is fine: it is read a second time, to see that it still begins so.
        digest: a running hash, which learns of the blocks; without one a CRC-32 is
        compared with that of the second time.
        """
        first = digest or Crc()
        again = first.copy()
        for block in self.start():
            first.update(block)
            yield block

        after = os.fstat(self.file.fileno())
        if after.st_size > self.stat.st_size:
            self.file.seek(0)
            for block in self.start():
                again.update(block)
            is_same = again.digest() == first.digest()
        else:
            is_same = after.st_mtime_ns == self.stat.st_mtime_ns
        if not is_same:
            raise self._changed("rewritten")
        if self.may_be_replaced:
            return
        try:
            named = os.stat(self.path, follow_symlinks=self.follow)
        except FileNotFoundError:
            raise self._changed("removed") from None
        if not os.path.samestat(named, self.stat):
            raise self._changed("replaced")

    def start(self):
        """Yield the first bytes, as many as there were at the open.

        Unlike blocks() it does not look whether they were changed meanwhile. It is for
        readers that keep a hash of them, and compare that when the file has changed.
        """
        rest = self.stat.st_size
        for block in read_blocks(self.file, rest):
            rest -= len(block)
            yield block
        if rest or os.fstat(self.file.fileno()).st_size < self.stat.st_size:
            raise self._changed("truncated")

    def _changed(self, how):
        return Changed(f"cannot read '{self.path}': it was {how} meanwhile")


def read_blocks(file, rest):
    """Yield the next rest bytes of a file in blocks; fewer if it ends before."""
    while rest > 0:
        block = file.read(min(BLOCK, rest))
        if not block:
            return
        rest -= len(block)
        yield block


def blocks_of(stream):
    """Yield what a pipe or file gives, as it comes, in blocks."""
    while True:
        block = stream.read1(BLOCK)
        if not block:
            return
        yield block


def blocks_at(path):
    """Yield the blocks of a file, of stdin if it is None; what cannot be read is said.
    """
    if path is None:
        yield from blocks_of(sys.stdin.buffer)
        return
    try:
        with open(path, "rb") as file:
            yield from blocks_of(file)
    except OSError as error:
        warn(f"cannot read '{path}': {why(error)}")


def widen(pipe):
    """Let a pipe hold a block, where the system can: by itself it holds 64 KB."""
    try:
        from fcntl import F_SETPIPE_SZ, fcntl

        fcntl(pipe, F_SETPIPE_SZ, BLOCK)
    except (ImportError, OSError):
        pass


def lines(blocks, end=b"\n", limit=LINE_LIMIT):
    """Yield the lines of a stream of blocks, without their ends.

    A line above the limit comes as None, and is never in memory as a whole. What
    follows the last end is a line, too, if there is anything.
    """
    rest = b""
    for block in blocks:
        first, *others = block.split(end)
        if rest is not None:
            rest = _within(limit, rest + first)
        for line in others:
            yield rest
            rest = _within(limit, line)
    if rest != b"":
        yield rest


def _within(limit, line):
    return line if len(line) <= limit else None


def bytes_below(folder):
    """The sum of the sizes of all files below a directory."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(parent, name)).st_size
            except OSError:
                continue            # another run has just made something else of it
    return total


# --- writing --------------------------------------------------------------------------


def write_new(path, blocks):
    """Write a file whole and durable, or not at all. Never over another one."""
    _write(path, blocks, 0o600, os.link)
    sync(os.path.dirname(path) or ".")


def replace_file(path, blocks, mode=0o600, is_last=True):
    """Write a file whole and durable, or leave the one that is there as it is.

    is_last: else its name is made durable with that of the last one in its folder.
    """
    _write(path, blocks, mode, os.replace)
    if is_last:
        sync(os.path.dirname(path) or ".")


def _write(path, blocks, mode, give_name):
    aside = temporary_in(os.path.dirname(path) or ".")
    try:
        with open(aside, "xb") as file:
            file.writelines(blocks)
            file.flush()
            os.chmod(aside if os.name == "nt" else file.fileno(), mode)
            os.fsync(file.fileno())
        give_name(aside, path)
    finally:
        remove_file(aside)


def move_over(path, target):
    """Give a file another name, also that of a file which is read-only."""
    if os.name == "nt" and os.path.exists(target):
        os.chmod(target, 0o600)
    os.replace(path, target)


def remove_file(path):
    """Remove a file if it is there, also one that is read-only."""
    try:
        if os.name == "nt":
            os.chmod(path, 0o600)
        os.unlink(path)
    except FileNotFoundError:
        pass


def temporary_in(folder):
    """A new name in a folder for what is being written. sweep() knows such names."""
    name = f"{TEMPORARY}{os.getpid()}-{os.urandom(4).hex()}"
    return os.path.join(folder, name)


def sweep(folder, starts=TEMPORARY):
    """Remove what runs that died a day ago left in a folder under temporary names.

    starts: of the names, one or a tuple.
    """
    for entry in list(os.scandir(folder)):
        if not entry.name.startswith(starts):
            continue
        writer = entry.name[len(TEMPORARY):].split("-")[0]
        try:
            if is_stale(entry) and not os.path.exists("/proc/" + writer):
                os.unlink(entry.path)
        except OSError:
            continue            # another run was faster


def is_stale(entry):
    """Is what a directory's entry names as old as what runs that died have left?"""
    try:
        status = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return False
    return time.time() - status.st_mtime > STALE


def sync(path):
    """Make a file's bytes, or the names in a directory, durable, if the system can.

    path: a path, or an open descriptor.
    """
    if os.name == "nt":         # it opens no directory
        return
    fd = os.dup(path) if isinstance(path, int) else os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(fd)


def make_dirs(path):
    """Make a directory and what is missing above it, durably."""
    if os.path.lexists(path):
        return
    parent = os.path.dirname(path)
    make_dirs(parent)
    os.makedirs(path, 0o700, exist_ok=True)
    sync(parent)


# --- locks ----------------------------------------------------------------------------


class _TimeIsOver(Exception):
    """Ends the wait for a lock."""


def _time_is_over(*signal_and_frame):
    raise _TimeIsOver


class Lock:
    """A lock file, held by one process at a time and let go when that ends.

        with Lock(path, wait=60): ...

    The kernel owns it: nothing is ever stale. The file stays; its text is for people.
    Error with status 75 if another process holds it for more than wait seconds.
    """

    def __init__(self, path, wait=60.0):
        self.path = path
        self.wait = wait
        self.file = None

    def __enter__(self):
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        self.file = open(fd, "r+b", buffering=0)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            self.file.close()
            raise OSError(errno.EINVAL, "not a regular file", self.path)
        try:
            if not (self._take() or self._wait()):
                raise Error(
                    f"cannot lock '{self.path}' in {self.wait:g} s: "
                    f"held by {self._holder()}", RETRY
                )
        except BaseException:
            self.file.close()
            raise
        self._say_who()
        return self

    def __exit__(self, *problem):
        self.file.close()

    def _say_who(self):
        """Write into the file who has it. On a full disk nobody is told."""
        text = f"{TOOL}, process {os.getpid()}, since {utc(time.time())}"
        try:
            self.file.truncate(0)
            self.file.write(text.encode())
        except OSError:
            pass

    def _holder(self):
        if os.name == "nt":     # nobody else may read there
            return "another run"
        return self.file.read(200).decode("utf-8", "replace") or "another run"

    def _take(self):
        """Try once; have we got it?"""
        try:
            if os.name == "nt":
                import msvcrt
                msvcrt.locking(self.file.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                import fcntl
                fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
                return False
            raise Error(f"cannot lock '{self.path}': {why(error)}") from None
        return True

    def _wait(self):
        """Wait until it is free or the time is over; have we got it?

        In the kernel, which gives the lock to one who waits as soon as it is free: who
        just looks now and then is starved by who takes it again at once.
        """
        if os.name == "nt":
            deadline = time.monotonic() + self.wait
            while time.monotonic() < deadline:
                time.sleep(0.05)
                if self._take():
                    return True
            return False
        if self.wait <= 0:
            return False
        import fcntl

        before = signal.signal(signal.SIGALRM, _time_is_over)
        try:
            signal.setitimer(signal.ITIMER_REAL, min(self.wait, LONGEST_WAIT))
            try:
                fcntl.flock(self.file, fcntl.LOCK_EX)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except _TimeIsOver:
            pass
        finally:
            signal.signal(signal.SIGALRM, before)
        return self._take()     # which does nothing if we have it
