"""what three tools and more share: behaviour, places, ids, footprint, git, lock, read, write"""
import os
import sys

sys.excepthook = lambda *e: os._exit(130) if e[0] is KeyboardInterrupt else sys.__excepthook__(*e)
sys.unraisablehook = lambda e: sys.excepthook(*e[:3])   # Ctrl-C, in a __del__ too: not a word more
import argparse
import errno
import json
import re
import stat
import time
from binascii import crc32
from contextlib import suppress
from itertools import chain

VERSION = "0.2.0"
DONE, FAILED, MISUSE, ABSENT, RETRY = 0, 1, 2, 3, 75
TOOL = re.sub(r"\.(py|exe)$", "", os.path.basename(sys.argv[0]))
UUID = re.compile("-".join(f"[0-9a-fA-F]{{{count}}}" for count in (8, 4, 4, 4, 12)))
worst, BLOCK, TMP = DONE, 1 << 20, ".csb-tmp-"
ENCODE = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
GIT = ("git -c core.hooksPath=/dev/null -c core.fsync=all -c gc.auto=0 -c core.bigFileThreshold=1m "
       "-c core.packedGitWindowSize=16m -c core.packedGitLimit=32m -c log.showSignature=0").split()
KEPT = ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM", "GIT_EXEC_PATH")
if sys.version_info < (3, 10):
    sys.exit(f"{TOOL}: cannot run on Python {sys.version.split()[0]}: 3.10 or newer is needed")
class Error(Exception):
    """Stops the tool: its text is the one line on stderr, status the exit status."""
    def __init__(self, text, status=FAILED):
        self.args, self.status = (text,), status
class Options(argparse.ArgumentParser):
    """The command line; the tool's docstring is its manual. Misuse is status 2, in one line."""
    def __init__(self, doc, store=False):
        first, _, rest = doc.strip().partition("\n")
        style = lambda prog: argparse.RawDescriptionHelpFormatter(prog, width=79)
        super().__init__(TOOL, None, first, rest.strip("\n"), [], style, allow_abbrev=False)
        self.add_argument("--version", action="version", version=f"{TOOL} {VERSION}")
        if store:
            self.add_argument("--claude-dir", metavar="DIR", help="instead of ~/.claude")
            self.add_argument("--git-dir", metavar="DIR", help="the store, if not the usual one")
    def error(self, message):
        raise Error(f"{message} ({TOOL} --help lists the options)", MISUSE)
def printable(text):
    """text without what a terminal would obey: control characters and stray bytes as \\x1b."""
    return re.sub("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]",
                  lambda match: match[0].encode("unicode_escape").decode(), text)
def say(text):
    """One line of news on stderr; the exit status stays."""
    with suppress(OSError, AttributeError):     # stderr may be closed
        os.write(sys.stderr.fileno(), f"{TOOL}: {printable(text)}\n".encode())
def warn(text, status=FAILED):
    """Report a failure in one line and go on; the tool exits with status (or a higher one)."""
    global worst
    worst = max(worst, status)
    say(text)
why = lambda error: getattr(error, "strerror", None) or str(error)      # in the system's words
def emit(record):
    """One record (a dict, kind first) as a line on stdout."""
    sys.stdout.write(ENCODE(record) + "\n")
def records(stream=None, bare="session_id"):
    """The records of a pipe, a dict a line; what is none is reported and passed over. A line
    [0-9a-f-]{4,36} is {"session_id": line}; with bare="path" any line without { is a path."""
    for number, line in enumerate(sys.stdin.buffer if stream is None else stream, 1):
        line = (line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line).rstrip(b"\r\n")
        if bare == "path" and line and not line.startswith(b"{"):
            yield {"path": os.fsdecode(line)}
        elif re.fullmatch(rb"\s*[0-9a-f-]{4,36}\s*", line):
            yield {"session_id": line.decode().strip()}
        elif line.strip():
            try:
                yield {**json.loads(line)}
            except (ValueError, TypeError, RecursionError) as error:
                warn(f"cannot read line {number} of the input as a record: {error}")
def operands(options, words, bare="session_id"):
    """The operands as records, else the records on stdin; a terminal there is misuse."""
    if not words and (sys.stdin is None or sys.stdin.isatty()):
        options.error("operands are missing, and nothing is piped in")
    return ({bare: word} for word in words) if words else records(bare=bare)
def run(main):
    """Run a tool: what main returns (None is 0) or the worst that happened is the exit status."""
    os.umask(0o077)
    sys.stdout = sys.stdout or open(os.open(os.devnull, os.O_RDONLY), "w")     # closed: no writing
    try:
        status = main() or DONE
    except SystemExit as stop:
        status = stop.code or DONE
    except Error as error:
        say(str(error))
        status = error.status
    except BrokenPipeError:
        status = 141
    except Exception as error:
        what = "the output" if isinstance(error, OSError) else type(error).__name__
        name = os.fsdecode(getattr(error, "filename", None) or what)
        say(f"cannot go on with '{name}': {why(error)}")
        status = FAILED
    try:
        sys.stdout.flush()
    except (OSError, ValueError, AttributeError) as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if status == DONE and not isinstance(error, BrokenPipeError):
            say(f"cannot write the output: {why(error)}")
        status = status or (141 if isinstance(error, BrokenPipeError) else FAILED)
    sys.exit(status or worst)
def sibling(name):
    """The command (a list) of another tool: beside this one, in BRINGS (lib/squash), or on PATH."""
    main = sys.modules["__main__"]
    path = os.path.join(os.path.dirname(os.path.realpath(main.__file__)), name)
    text = None if (there := os.path.isfile(path)) else getattr(main, "BRINGS", {}).get(name)
    if there or text:
        return [sys.executable, "-IS", *(["-c", text] if text else [path])]
    import shutil
    if not (path := shutil.which(name)):
        raise Error(f"cannot find '{name}' beside {TOOL} or on PATH", ABSENT)
    return [path]
utc = lambda seconds: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))     # RFC 3339
def utc_ns(ns):
    """RFC 3339 UTC with nine digits, from nanoseconds (st_mtime_ns); years 1000 to 9999."""
    ns = min(max(ns, -30610224000 * 10**9), 253402300800 * 10**9 - 1)
    return f"{utc(ns // 10**9)[:-1]}.{ns % 10**9:09d}Z"
def from_utc(text):
    """Nanoseconds since 1970 of an RFC 3339 UTC time; ValueError if it is none."""
    from datetime import datetime
    whole = int(datetime.fromisoformat(text[:19] + "+00:00").timestamp())
    return whole * 10**9 + int(text[19:].strip(".Z")[:9].ljust(9, "0"))
def absolute(path, tilde=True):
    """A path that a person wrote, from the root on; ~ is the home directory (unless tilde=False).
    """
    try:
        return os.path.abspath(os.path.expanduser(path) if tilde else path)
    except OSError:     # a relative one needs the working directory
        raise Error(f"cannot tell where '{path}' is: the working directory is gone, "
                    "name it from / on") from None
def claude_dir(options):
    """The Claude directory's absolute path: --claude-dir, CLAUDE_CONFIG_DIR, ~/.claude."""
    return absolute(options.claude_dir or os.environ.get("CLAUDE_CONFIG_DIR") or "~/.claude")
def csb_home(options):
    """CSB_HOME, by default the Claude directory's path + -backup; never inside that directory."""
    claude = claude_dir(options)
    path = absolute(os.environ.get("CSB_HOME") or claude + "-backup")
    if (os.path.realpath(path) + os.sep).startswith(os.path.realpath(claude) + os.sep):
        raise Error(f"cannot keep a backup inside what it protects: CSB_HOME is '{path}'")
    return path
def config(options):
    """config.json of CSB_HOME as a dict; Error if it cannot be read: it may refuse files."""
    path = os.path.join(csb_home(options), "config.json")
    try:
        return read_json(path) if os.path.lexists(path) else {}
    except (OSError, ValueError) as error:
        raise Error(f"cannot read '{path}': {why(error)}") from None
def is_repository(path):
    """Is a git repository at path, or a work tree of one? An empty mount point is none."""
    return any(os.path.lexists(os.path.join(path, name)) for name in ("HEAD", ".git"))
def named_store(options, away=False):
    """The path of the store that --git-dir, CSB_GIT_DIR or config.json names; None if none does.

    One that is away is an Error (unless away): maybe its disk is not mounted, and what another
    store, or a new one, would get in its place this one would never know of.
    """
    name, path = "--git-dir", options.git_dir
    if not path:
        name, path = "CSB_GIT_DIR", os.environ.get("CSB_GIT_DIR")
    if not path:
        home = csb_home(options)
        name, path = "config.json", config(options).get("git_dir")
        if not path or not isinstance(path, str) or path == os.path.join(home, "git"):
            return None     # earlier versions noted the usual place there when they had made it
        path = os.path.join(home, os.path.expanduser(path))
    path = absolute(path)
    if away or is_repository(path):
        return path
    try:
        reason = "no git repository is there" if os.listdir(path) else "the directory is empty"
    except OSError as error:
        reason = why(error)
    import shlex
    more = f" --git-dir {shlex.quote(path)}" if name == "--git-dir" else ""
    raise Error(f"cannot find the store '{path}' that {name} names: {reason}. Is its disk mounted? "
                f"(csb gitcommit --make{more} makes a new one there)", ABSENT)
def git_dir(options, there=False, away=False):
    """The path where the store is, or would be made: the one that is named (see there), else
    CSB_HOME/git, the repository of the Claude directory, else CSB_HOME/git. there: 3 if not."""
    named, own = named_store(options, away), os.path.join(csb_home(options), "git")
    path = named or own
    top = path if named or os.path.exists(own) else os.path.realpath(claude_dir(options))
    if os.path.isfile(top + "/.git") or os.path.exists(top + "/.git/HEAD"):
        path = os.fsdecode(git(None, "-C", top, "rev-parse", "--path-format=absolute",
                               "--git-common-dir")[:-1])
    if there and not os.path.isdir(path):
        raise Error(f"cannot find a store at '{path}': 'csb backup' makes one", ABSENT)
    return path
def own_ref(path):
    """(where backups go: main in our own store, refs/csb/main in another's; its commit or '')."""
    own = git(path, "config", "--bool", "csb.store", ok=(0, 1)) == b"true\n"
    ref = "refs/heads/main" if own else "refs/csb/main"
    return ref, git(path, "rev-parse", "-q", "--verify", ref + "^0", ok=(0, 1)).decode().strip()
def git_start(path, *args, env=None, **streams):
    """A running git (subprocess.Popen) in the repository at path, its environment made clean. It
    starts in /: git refuses to work in a directory that was removed."""
    import subprocess
    streams.setdefault("cwd", os.sep)
    clean = {k: v for k, v in os.environ.items() if not k.startswith("GIT_") or k in KEPT}
    clean.update(GIT_OPTIONAL_LOCKS="0", GIT_LITERAL_PATHSPECS="1", GIT_NO_REPLACE_OBJECTS="1",
                 GIT_TERMINAL_PROMPT="0", GIT_ALLOW_PROTOCOL="", GIT_NO_LAZY_FETCH="1", LC_ALL="C",
                 **(env or {}))
    try:
        return subprocess.Popen([*GIT, *([f"--git-dir={path}"] if path else []), *args],
                                env=clean, **streams)
    except FileNotFoundError:
        raise Error("cannot run git: it is not installed") from None
def git(path, *args, stdin=b"", env=None, ok=(0,), cwd=os.sep):
    """git's stdout (bytes); Error in git's own words when its status is not among ok."""
    process = git_start(path, *args, env=env, cwd=cwd, stdin=-1, stdout=-1, stderr=-1)
    out, err = process.communicate(stdin)
    if process.returncode not in ok:
        words = os.fsdecode(err).strip().replace("\n", ": ") or f"status {process.returncode}"
        raise Error(f"cannot run git {args[0]}: {words}", 3 if "not a git repo" in words else 1)
    return out
class Blobs:
    """Objects of a store, read one after the other as streams (git cat-file)."""
    def __init__(self, path):
        self.path, self.rest, self.want = path, 0, 0    # bytes to come in the pipe, and to yield
        words = "--batch-command=%(objectname) %(objecttype) %(objectsize) %(deltabase)"
        self.pipe = git_start(path, "cat-file", words, stdin=-1, stdout=-1, stderr=-3)
        with suppress(OSError, ImportError):    # F_SETPIPE_SZ of Linux: fewer turns
            __import__("fcntl").fcntl(self.pipe.stdout, 1031, BLOCK)
    def ask(self, command, name):
        """git's answer, [oid, type, size, delta base]; None if the store has lost the object."""
        sum(1 for _ in self.blocks())       # to the end of the one before
        try:
            self.pipe.stdin.write(b"%s %s\n" % (command, os.fsencode(name)))
            self.pipe.stdin.flush()
            oid, *head = self.pipe.stdout.readline().decode("utf-8", "replace").split()
        except (BrokenPipeError, ValueError):
            return self.__init__(self.path)     # git has given up: the object is damaged
        if len(head) != 3 or not head[1].isdigit():
            return None
        size = int(head[1])
        self.want, self.rest = (size, size + 1) if command == b"contents" else (0, 0)
        return oid, head[0], size, head[2]
    def find(self, name, info=False):
        """(oid, type, size) of an object by id or COMMIT:PATH, None if it is lost; info: no bytes.
        A large delta is read as the start of its base, if it is: git would hold both in memory."""
        if not (head := self.ask(b"info", name)) or info:
            return head and head[:3]
        oid, _, size, base = head
        if size > BLOCK and base.strip("0") and self.ask(b"contents", base):
            self.want, digest = size, oid_hash(len(oid), size)
            with suppress(Error):
                any(map(digest.update, self.blocks()))
            name = base if digest.hexdigest() == oid else oid
        found, self.want = self.ask(b"contents", name), min(self.want, size)
        return found and head[:3]
    def blocks(self):
        """The bytes of the object found last, in blocks; what is left of it."""
        while self.rest:
            if not (block := self.pipe.stdout.read(min(BLOCK, self.rest))):
                self.__init__(self.path)
                raise Error("cannot read an object to its end: git cat-file ended")
            self.rest -= len(block)
            if block := block[:self.want]:
                self.want -= len(block)
                yield block
def oid_hash(length, size):
    """A running hash that becomes the id (length hex digits) of a blob of size bytes."""
    import hashlib
    return hashlib.new("sha1" if length == 40 else "sha256", b"blob %d\0" % size)
def all_history(path, *refs):
    """What each commit changed, newest first: (commit, seconds, [(status, mode, old, new, path)]):
    A, M, T or D (mode: what was), ids; a merge once for each parent. Of refs, else refs/csb/main,
    main, others. Of a ref that cannot be walked, which is said, its newest tree comes last."""
    flags = ("log --topo-order --raw -z -r --diff-merges=separate --root --no-renames --no-abbrev "
             "--no-color --format=%x00%H%x20%ct --encoding=none -O/dev/null --end-of-options")
    done, found = [], os.fsdecode(git(path, "for-each-ref", "--format=%(refname)")).split("\n")
    found.sort(key=lambda ref: (ref != "refs/csb/main", ref != "refs/heads/main"))
    for ref in refs or filter(None, found):
        pipe = git_start(path, *flags.split(), ref, *done, stdin=-3, stdout=-1, stderr=-3)
        fields, commit, changes = chain(split(pipe.stdout), [b"end"]), (), []
        for field in fields:
            if field.lstrip(b"\n").startswith(b":"):
                *modes, old, new, status = field.decode().strip("\n:").split(" ")
                changes.append((status, modes[status != "D"], old, new, os.fsdecode(next(fields))))
            elif field:
                if commit:
                    yield (*commit, changes)
                name, seconds = (field + b" 0").decode().split()[:2]
                commit, changes = (name, min(max(int(seconds), 0), 253402300799)), []
        pipe.stdout.close()
        if not pipe.wait():
            done.append("^" + ref)
            continue
        lines = os.fsdecode(git(path, "ls-tree", "-rz", "--full-tree", ref, ok=range(256)))
        names = [line.partition("\t") for line in lines.split("\0")[:-1]]
        yield ref, 0, [("A", head[:6], "", head.split(" ")[2], name) for head, _, name in names]
        warn(f"cannot read all of '{ref}': only its newest tree was read ({len(names)} files)")
def split(blocks, end=b"\0"):
    """The parts of a stream (blocks of bytes, or a pipe) between NULs, without reading it whole."""
    rest = b""
    for block in blocks if not hasattr(blocks, "read1") else iter(lambda: blocks.read1(BLOCK), b""):
        *parts, rest = (rest + block).split(end)
        yield from parts
        if len(rest) > 8 * BLOCK:
            return warn(f"cannot read on after a line of {len(rest)} bytes in the store")
    yield from filter(None, [rest])
def belongs(path, session_id, project):
    """Is path (relative to the Claude directory) of the session's footprint, by its name?"""
    parts = path.split("/")
    return (any(part.lower().startswith(session_id.lower()) for part in parts)
            and (parts[0] != "projects" or parts[1:2] == [project]))
def agent_owner(first_line):
    """The session that a flat agent-*.jsonl belongs to: its first record's sessionId, or None."""
    with suppress(ValueError, TypeError, KeyError, RecursionError):
        return UUID.fullmatch(json.loads(first_line)["sessionId"])[0]
def plan_slugs(blocks):
    """The plans that a transcript names: the set of the words in its "slug" fields."""
    found, rest = set(), b""
    for block in blocks:
        rest = rest[-220:] + block
        found.update(re.findall(rb'"slug": ?"([\w-]{1,200})"', rest))
    return {word.decode() for word in found}
def pick(word, ids):
    """The one id of ids that word names: whole, or a prefix or suffix of 4 hex digits and more."""
    ids, size, key = set(ids), len(word), word.lower()
    found = sorted({i for i in ids if i == word} or {i for i in ids if i.lower() == key} or {
        i for i in ids if size >= 4 and key in (i[:size].lower(), i[-size:].lower())})
    if len(found) == 1:
        return found[0]
    text = f"'{word}' names {len(found)} sessions: {' '.join(found[:20])}"
    raise Error(text if found else f"cannot find session '{word}'", MISUSE if found else FAILED)
def lock(path, wait=60.0):
    """Hold the lock file at path (never deleted) until the file returned is closed; its text is for
    people. Held by another for wait seconds: status 75, with wait=0 None at once."""
    file = open(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+", errors="replace")
    deadline = time.monotonic() + wait
    while True:
        try:
            if os.name == "nt":
                __import__("msvcrt").locking(file.fileno(), 2, 1)       # LK_NBLCK
            else:
                __import__("fcntl").flock(file, 2 | 4)      # LOCK_EX | LOCK_NB
            break
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
                raise Error(f"cannot lock '{path}': {why(error)}") from None
        if not wait:
            return file.close()
        if time.monotonic() >= deadline:
            text = "another run" if os.name == "nt" else file.read(200)     # nobody may read there
            raise Error(f"cannot lock '{path}' in {wait:g} s: held by {text}", RETRY)
        time.sleep(0.05)
    file.truncate(0)
    print(f"{TOOL}, process {os.getpid()}, since {utc(time.time())}", file=file, flush=True, end="")
    return file
class Changed(Error):
    """The file was not one thing while it was read."""
def stable(path, follow=True, strict=True):
    """Yield the fstat of the file at path, then that many bytes in blocks; no mmap, no waiting.
    OSError if it cannot be read, Changed if it was rewritten (strict: or replaced, removed)."""
    more = getattr(os, "O_NONBLOCK", 0) | (0 if follow else getattr(os, "O_NOFOLLOW", 0))
    with open(path, "rb", 0, opener=lambda name, flags: os.open(name, flags | more)) as file:
        before, first = os.fstat(file.fileno()), None
        if not stat.S_ISREG(before.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        yield before
        while True:
            rest, total = before.st_size, 0
            while rest and (block := file.read(min(BLOCK, rest))):
                rest, total = rest - len(block), crc32(block, total)
                if first is None:
                    yield block
            after = os.fstat(file.fileno())
            if first is not None or rest or after.st_size <= before.st_size:
                break
            first = total       # it has grown: does it still begin with what was read?
            file.seek(0)
    what = "removed" if strict and not os.path.lexists(path) else None
    with suppress(OSError):
        same = os.path.samestat(os.stat(path, follow_symlinks=follow), after)
        what = "replaced" if strict and not same else None
    if rest or after.st_size < before.st_size:
        what = "truncated"
    elif first is None and after.st_mtime_ns != before.st_mtime_ns or first not in (None, total):
        what = "rewritten"
    if what:
        raise Changed(f"cannot read '{path}': it was {what} meanwhile")
def read_json(path):
    """The object in a small JSON file, as a dict; OSError or ValueError if there is none."""
    try:
        _, *blocks = (part for part, _ in zip(stable(path), range(9), strict=False))
        return {**json.loads(b"".join(blocks).decode("utf-8-sig"))}
    except (TypeError, RecursionError, Changed) as error:
        raise ValueError(str(error)) from None
def sweep(folder):
    """Remove from a directory (path or descriptor) what runs that died a day ago left there."""
    for entry in [entry for entry in os.scandir(folder) if entry.name.startswith(TMP)]:
        with suppress(OSError):
            old = entry.stat(follow_symlinks=False).st_mtime < time.time() - 86400
            if old and not os.path.exists("/proc/" + entry.name[len(TMP):].split("-")[0]):
                os.unlink(entry.path, dir_fd=None if isinstance(folder, str) else folder)
def fsync_dir(path):
    """Make the names in a directory, or a file (path or descriptor), durable, if the system can."""
    if os.name == "nt":     # which opens no directory, and writes no file that is open for reading
        return
    fd = os.open(path, os.O_RDONLY) if isinstance(path, str) else os.dup(path)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(fd)
def make_dirs(path):
    """Make a directory and what is missing above it, durably."""
    if not os.path.lexists(path):
        make_dirs(os.path.dirname(path))
        os.makedirs(path, 0o700, exist_ok=True)
        fsync_dir(os.path.dirname(path))
def put(path, blocks, mode=0o600, replace=False):
    """Put a file at path: whole, durable, mode set, or not at all. One that is there is
    FileExistsError, unless replace."""
    tmp = os.path.join(os.path.dirname(path), f"{TMP}{os.getpid()}-{os.urandom(4).hex()}")
    try:
        with open(tmp, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.writelines(blocks)
            file.flush()
            os.chmod(tmp if os.name == "nt" else file.fileno(), mode)
            os.fsync(file.fileno())
        (os.replace if replace else os.link)(tmp, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(tmp)
    fsync_dir(os.path.dirname(path) or ".")
