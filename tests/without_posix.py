"""run a tool as on another system: without_posix.py windows|macos [-IS] TOOL [WORD ...]

What that system lacks is taken away or refuses, by the documentation of Python. On
macos: what is of Linux alone, and /proc. On windows also: modules, functions, flags and
signals of POSIX, descriptors in the place of paths (dir_fd), directories that are
opened, files that are removed or replaced while this process has them open, select() on
pipes; and text goes out in cp1252 with CRLF. The tools that a tool starts run in the
same way. It is a likeness: paths, command lines, links and modes are what they are
here, and so is git.
"""
import builtins
import errno
import fcntl
import os
import runpy
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import namedtuple
from types import SimpleNamespace

LINUX = """memfd_create pipe2 posix_fadvise posix_fallocate copy_file_range splice
eventfd getrandom fdatasync getxattr setxattr listxattr removexattr pidfd_open
sched_getaffinity sched_setaffinity setresuid setresgid getresuid getresgid O_TMPFILE
O_PATH O_NOATIME O_LARGEFILE O_DIRECT""".split()
MODULES = """fcntl grp pwd resource termios tty pty syslog posix crypt spwd readline
curses""".split()
POSIX = """fork forkpty setsid getsid getpgid getpgrp setpgid setpgrp getuid geteuid
getgid getegid setuid seteuid setgid setegid setreuid setregid getgroups setgroups
initgroups getgrouplist killpg nice getpriority setpriority posix_spawn posix_spawnp
pread pwrite preadv pwritev readv writev mkfifo mknod chown fchown lchown chroot
fchdir fchmod openpty sendfile statvfs fstatvfs sync sysconf fpathconf pathconf
confstr ttyname tcgetpgrp tcsetpgrp uname wait wait3 wait4 waitid lockf set_blocking
get_blocking ctermid getloadavg makedev major minor environb getenvb fwalk
register_at_fork O_NONBLOCK O_NOFOLLOW O_DIRECTORY O_CLOEXEC O_SYNC O_DSYNC O_RSYNC
O_NOCTTY O_NDELAY O_ASYNC O_ACCMODE WNOHANG WIFEXITED WEXITSTATUS WIFSIGNALED
WTERMSIG""".split()
SIGNALS = "SIGABRT SIGFPE SIGILL SIGINT SIGSEGV SIGTERM SIG_DFL SIG_IGN".split()
OF_SIGNALS = "alarm setitimer getitimer pause pthread_kill pthread_sigmask".split()
FLAGS = """DETACHED_PROCESS CREATE_NEW_PROCESS_GROUP BELOW_NORMAL_PRIORITY_CLASS
CREATE_BREAKAWAY_FROM_JOB CREATE_NO_WINDOW""".split()

# Functions of os. closed: how many of the arguments are files that must not be open;
# takes_fd: may the first one be a descriptor?
Guard = namedtuple("Guard", "closed takes_fd")
GUARDED = {
    "open": Guard(0, True), "stat": Guard(0, True), "truncate": Guard(0, True),
    "unlink": Guard(1, False), "remove": Guard(1, False),
    "rename": Guard(2, False), "replace": Guard(2, False)}
OTHERS = """mkdir rmdir link symlink readlink lstat chmod utime listdir scandir
access""".split()
GUARDED |= dict.fromkeys(OTHERS, Guard(0, False))

REAL = SimpleNamespace(**{name: getattr(os, name) for name in dir(os)})
FLOCK = fcntl.flock
OPEN = builtins.open
KILLED = signal.SIGKILL
TEMPORARY = 1 << 29     # the flag of a file that is removed when it is closed


def busy(path):
    """PermissionError if this process has the file open."""
    if not REAL.path.isfile(path):
        return
    target = REAL.path.realpath(os.fsdecode(path))
    for fd in REAL.listdir("/proc/self/fd"):
        if REAL.path.realpath(f"/proc/self/fd/{fd}") == target:
            raise PermissionError(errno.EACCES, "it is used by a process", path)


def guarded(name, guard):
    """A function of os as Windows has it."""
    real = getattr(REAL, name)

    def refuse(what):
        raise NotImplementedError(f"{name}: {what} unavailable on this platform")

    def function(*args, **more):
        for key in ("dir_fd", "src_dir_fd", "dst_dir_fd"):
            if more.get(key) is not None:
                refuse("dir_fd")
        follows = more.get("follow_symlinks") is not False
        if not follows and name in ("utime", "link", "chmod"):
            refuse("follow_symlinks")
        if not guard.takes_fd and args and isinstance(args[0], int):
            raise TypeError(
                f"{name}: path should be string, bytes or os.PathLike, not int")
        for path in args[:guard.closed]:
            busy(path)
        if name == "open":
            return open_file(*args, **more)
        return real(*args, **more)
    return function


def open_file(path, flags, *args, **more):
    """os.open(), which opens no directories."""
    if REAL.path.isdir(path):
        raise PermissionError(errno.EACCES, "Permission denied", path)
    fd = REAL.open(path, flags & ~TEMPORARY, *args, **more)
    if flags & TEMPORARY:
        REAL.unlink(path)
    return fd


def opened(file, mode="r", buffering=-1, encoding=None, errors=None, newline=None,
           **more):
    """open() with the code page and line ends of Windows, unless it is told others."""
    if "b" not in mode:
        encoding = encoding or "cp1252"
        if newline is None and set(mode) & set("wax"):
            newline = "\r\n"
    return OPEN(file, mode, buffering, encoding, errors, newline, **more)


class Popen(subprocess.Popen):
    """Takes the flags of Windows, which has no sessions; knows one way to end."""

    def __init__(self, *args, **more):
        assert not more.pop("preexec_fn", None)
        assert not more.pop("pass_fds", None)
        flags = more.pop("creationflags", 0)
        assert not flags & more.pop("start_new_session", 0)
        super().__init__(*args, **more)

    def kill(self):
        if self.poll() is None:
            REAL.kill(self.pid, KILLED)
    terminate = kill


def kill(pid, number):
    """os.kill(), where 0 is Ctrl-C and any other number the end."""
    raise AssertionError(f"os.kill({pid}, {number}) would stop that process")


def locking(fd, mode, count):
    """msvcrt.locking() with what is there."""
    assert (mode, count) == (2, 1)
    try:
        FLOCK(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise OSError(errno.EACCES, "Permission denied") from None


def temporary_file(mode="w+b", **_):
    """tempfile.TemporaryFile(), whose files have no name that could be left behind."""
    return OPEN(REAL.memfd_create("x"), mode)


def take_away(module, names):
    for name in names:
        vars(module).pop(name, None)


def windows():
    """Take away what Windows lacks, and put there what it has."""
    for name in MODULES:
        sys.modules[name] = None
    take_away(os, POSIX)
    take_away(select, ["poll", "epoll", "select"])
    take_away(signal, OF_SIGNALS)
    for name in dir(signal):
        if name.startswith("SIG") and name not in SIGNALS:
            take_away(signal, [name])

    for name, guard in GUARDED.items():
        setattr(os, name, guarded(name, guard))
    os.supports_dir_fd = set()
    os.supports_fd = {os.stat}
    os.kill = kill
    os.linesep = "\r\n"
    os.O_TEMPORARY = TEMPORARY
    os.O_BINARY = 0
    os.O_NOINHERIT = 0
    shutil._use_fd_functions = False
    shutil.rmtree.avoids_symlink_attacks = False

    builtins.open = opened
    tempfile.TemporaryFile = temporary_file
    if sys.stdin:
        sys.stdin.reconfigure(encoding="cp1252")
    for stream in (sys.stdout, sys.stderr):
        if stream:
            stream.reconfigure(encoding="cp1252", newline="\r\n")

    sys.modules["msvcrt"] = SimpleNamespace(locking=locking, LK_NBLCK=2, LK_LOCK=1)
    for number, name in enumerate(FLAGS):
        setattr(subprocess, name, 1 << number)
    # How a process is waited for is the business of the Python that Windows has.
    subprocess.Popen = Popen
    subprocess.os = REAL
    os.name = "nt"


def outside_of_proc(real):
    """A function of os.path that says of /proc that it is not there."""
    def function(path):
        return not str(path).startswith("/proc") and real(path)
    return function


def linux():
    """Take away what is of Linux alone."""
    take_away(os, LINUX)
    tempfile._O_TMPFILE_WORKS = False
    for name in ("exists", "lexists", "isdir", "isfile"):
        setattr(os.path, name, outside_of_proc(getattr(os.path, name)))


def main():
    system, *words = sys.argv[1:]
    while words[0].startswith("-"):
        words.pop(0)
    sys.argv[:] = words
    sys.executable = os.environ["WITHOUT_POSIX"]
    if system == "windows":
        windows()
    else:
        sys.platform = "darwin"
    linux()
    runpy.run_path(words[0], run_name="__main__")


if __name__ == "__main__":
    main()
