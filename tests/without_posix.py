"""run a tool as if on another system: without_posix.py {windows,macos} [-IS] TOOL [WORD ...]

What that system lacks is taken away or refuses, by the documentation of Python. On macos: what is
of Linux alone, and /proc. On windows also: modules, functions, flags and signals of POSIX,
descriptors in the place of paths (dir_fd), directories that are opened, files that are removed or
replaced while this process has them open, select() on pipes; and text goes out in cp1252 with CRLF.
The tools that a tool starts run in the same way. It is a likeness: paths, command lines, links and
modes are what they are here, and so is git.
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
from types import SimpleNamespace

LINUX = """memfd_create pipe2 posix_fadvise posix_fallocate copy_file_range splice eventfd getrandom
fdatasync getxattr setxattr listxattr removexattr pidfd_open sched_getaffinity sched_setaffinity
setresuid setresgid getresuid getresgid O_TMPFILE O_PATH O_NOATIME O_LARGEFILE O_DIRECT""".split()
MODULES = "fcntl grp pwd resource termios tty pty syslog posix crypt spwd readline curses".split()
POSIX = """fork forkpty setsid getsid getpgid getpgrp setpgid setpgrp getuid geteuid getgid getegid
setuid seteuid setgid setegid setreuid setregid getgroups setgroups initgroups getgrouplist killpg
nice getpriority setpriority posix_spawn posix_spawnp pread pwrite preadv pwritev readv writev
mkfifo mknod chown fchown lchown chroot fchdir fchmod openpty sendfile statvfs fstatvfs sync sysconf
fpathconf pathconf confstr ttyname tcgetpgrp tcsetpgrp uname wait wait3 wait4 waitid lockf
set_blocking get_blocking ctermid getloadavg makedev major minor environb getenvb fwalk
register_at_fork O_NONBLOCK O_NOFOLLOW O_DIRECTORY O_CLOEXEC O_SYNC O_DSYNC O_RSYNC O_NOCTTY
O_NDELAY O_ASYNC O_ACCMODE WNOHANG WIFEXITED WEXITSTATUS WIFSIGNALED WTERMSIG""".split()
SIGNALS = {"SIGABRT", "SIGFPE", "SIGILL", "SIGINT", "SIGSEGV", "SIGTERM", "SIG_DFL", "SIG_IGN"}
# Functions of os: how many of the arguments are files that must not be open, and whether the first
# may be a descriptor.
GUARDED = {"open": (0, True), "stat": (0, True), "truncate": (0, True), "unlink": (1, False),
           "remove": (1, False), "rename": (2, False), "replace": (2, False), **dict.fromkeys(
               ("mkdir", "rmdir", "link", "symlink", "readlink", "lstat", "chmod", "utime",
                "listdir", "scandir", "access"), (0, False))}
REAL = SimpleNamespace(**{name: getattr(os, name) for name in dir(os)})
FLOCK, OPEN, TEMPORARY = fcntl.flock, builtins.open, 1 << 29


def busy(path):
    """PermissionError if this process has the file open."""
    target = REAL.path.realpath(os.fsdecode(path))
    for fd in REAL.listdir("/proc/self/fd") if REAL.path.isfile(path) else ():
        if REAL.path.realpath(f"/proc/self/fd/{fd}") == target:
            raise PermissionError(errno.EACCES, "it is used by a process", path)


def guarded(name, paths, descriptors):
    """A function of os as Windows has it."""
    real = getattr(REAL, name)

    def function(*args, **more):
        if any(more.get(key) is not None for key in ("dir_fd", "src_dir_fd", "dst_dir_fd")):
            raise NotImplementedError(f"{name}: dir_fd unavailable on this platform")
        if more.get("follow_symlinks") is False and name in ("utime", "link", "chmod"):
            raise NotImplementedError(f"{name}: follow_symlinks unavailable on this platform")
        if not descriptors and args and isinstance(args[0], int):
            raise TypeError(f"{name}: path should be string, bytes or os.PathLike, not int")
        for path in args[:paths]:
            busy(path)
        if name == "open" and REAL.path.isdir(args[0]):
            raise PermissionError(errno.EACCES, "Permission denied", args[0])
        if name == "open" and args[1] & TEMPORARY:      # removed when it is closed
            fd = real(args[0], args[1] & ~TEMPORARY, *args[2:], **more)
            REAL.unlink(args[0])
            return fd
        return real(*args, **more)
    return function


def opened(file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, **more):
    """open() with the code page and the line ends of Windows, unless others are asked for."""
    if "b" not in mode:
        encoding = encoding or "cp1252"
        newline = "\r\n" if newline is None and set(mode) & set("wax") else newline
    return OPEN(file, mode, buffering, encoding, errors, newline, **more)


class Popen(subprocess.Popen):
    """Takes the flags of Windows, where sessions are not known, and knows one way to end."""

    def __init__(self, *args, **more):
        assert not more.pop("preexec_fn", None) and not more.pop("pass_fds", None)
        assert not (more.pop("creationflags", 0) & more.pop("start_new_session", 0))
        super().__init__(*args, **more)

    def kill(self):
        if self.poll() is None:
            REAL.kill(self.pid, 9)
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


def windows():
    """Take away what Windows lacks."""
    for name in MODULES:
        sys.modules[name] = None
    for name in POSIX:
        vars(os).pop(name, None)
    for name, how in GUARDED.items():
        setattr(os, name, guarded(name, *how))
    for module, names in ((select, ("poll", "epoll", "select")), (signal, [
            "alarm", "setitimer", "getitimer", "pause", "pthread_kill", "pthread_sigmask", *(
                name for name in dir(signal) if name[:3] == "SIG" and name not in SIGNALS)])):
        for name in names:
            vars(module).pop(name, None)
    os.supports_dir_fd, os.supports_fd, os.kill, os.linesep = set(), {os.stat}, kill, "\r\n"
    os.O_TEMPORARY, os.O_BINARY, os.O_NOINHERIT = TEMPORARY, 0, 0
    builtins.open = opened
    for stream in filter(None, (sys.stdin, sys.stdout, sys.stderr)):
        stream.reconfigure(encoding="cp1252", newline=None if stream is sys.stdin else "\r\n")
    shutil._use_fd_functions = shutil.rmtree.avoids_symlink_attacks = False
    tempfile.TemporaryFile = lambda mode="w+b", **_: OPEN(REAL.memfd_create("x"), mode)
    sys.modules["msvcrt"] = SimpleNamespace(locking=locking, LK_NBLCK=2, LK_LOCK=1)
    for number, name in enumerate(("DETACHED_PROCESS", "CREATE_NEW_PROCESS_GROUP",
                                   "BELOW_NORMAL_PRIORITY_CLASS", "CREATE_BREAKAWAY_FROM_JOB",
                                   "CREATE_NO_WINDOW")):
        setattr(subprocess, name, 1 << number)
    # How a process is waited for is the business of the Python that Windows has.
    subprocess.Popen, subprocess.os, os.name = Popen, REAL, "nt"


def linux():
    """Take away what is of Linux alone."""
    for name in LINUX:
        vars(os).pop(name, None)
    tempfile._O_TMPFILE_WORKS = False
    for name in ("exists", "lexists", "isdir", "isfile"):
        real = getattr(os.path, name)
        setattr(os.path, name, lambda path, real=real: not str(path).startswith("/proc")
                and real(path))


def main():
    system, *words = sys.argv[1:]
    while words[0].startswith("-"):
        words.pop(0)
    sys.argv[:], sys.executable = words, os.environ["WITHOUT_POSIX"]
    if system == "windows":
        windows()
    else:
        sys.platform = "darwin"
    linux()
    runpy.run_path(words[0], run_name="__main__")


if __name__ == "__main__":
    main()
