"""run git in a clean environment, and read what a repository holds

Formats: git-cat-file(1) BATCH OUTPUT, git-diff(1) RAW OUTPUT FORMAT. Every option that
is used here is in git 2.34.
"""
import os
import re
import stat
from collections import namedtuple

from csb import ABSENT, LAST_SECOND, Error
from csb.files import BLOCK, blocks_of, lines, widen

LARGE = 1 << 20             # bytes; a delta above this is not left to git (see blocks)
MOST_ASKED = 200            # ids, whose answers fit into a pipe
LONGEST_FIELD = 1 << 30     # bytes of what git says at a time: a path

# The user's own settings could change bytes, run programs or cost memory.
SETTINGS = {
    "core.hooksPath": "/dev/null",
    "core.bigFileThreshold": "1m",
    "core.ignoreCase": "false",     # else fast-import takes A for a
    "core.packedGitWindowSize": "16m",
    "core.packedGitLimit": "32m",
    "core.fsync": "all",            # git before 2.36 ignores it
    "gc.auto": "0",
    "log.showSignature": "0",
    "pack.indexVersion": "2",
}

# A hook or an alias of git's may have left GIT_* variables in our environment. These
# may stay: they say where configuration and git itself are.
KEPT_VARIABLES = {
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_SYSTEM",
    "GIT_CONFIG_NOSYSTEM",
    "GIT_EXEC_PATH",
}

# What git never does for us: follow other names of objects, fetch, ask, run programs.
CLOSED = {
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ALLOW_PROTOCOL": "",
    "LC_ALL": "C",
}

OWN_REF = "refs/heads/main"         # where backups go in a store of our own
GUEST_REF = "refs/csb/main"         # where they go in a repository of the user's

# What git does not keep, mode, mtime and empty directories, stands in a file of each
# backup's commit, a record a line for each change.
JOURNAL = ".csb/changes.jsonl"

# What git never checks out, on any system, and newer ones do not even store: .git as
# HFS+ and NTFS understand it, and a link in the place of .gitmodules.
_NEVER = r"(?is)(\.git|git~1)[ .]*(:.*)?"
_NEVER_A_LINK = r"(?is)(\.gitmodules|gi\w+~\d+)[ .]*(:.*)?"
# Some file systems pass over these, so that .g<one of them>it is .git.
UNSEEN = "[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]"
REFUSED_NAME = "has a name that git refuses"

# As subprocess has them, which takes 4 to 9 ms: not every tool does start git.
PIPE = -1
DEVNULL = -3

Info = namedtuple("Info", "oid type size")
Commit = namedtuple("Commit", "oid seconds changes parents")
Change = namedtuple("Change", "status mode old_oid new_oid path")


class GitError(Error):
    """git failed; the text is what it said, in one line."""


# --- running --------------------------------------------------------------------------


def clean_environment():
    """Our environment without what would lead git elsewhere or make it ask."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GIT_") or name in KEPT_VARIABLES
    }
    return kept | CLOSED


def start_git(repository, *arguments, **streams):
    """A running git (a Popen), started in the repository, or in none (None)."""
    import subprocess

    command = ["git"]
    if repository is not None:
        command.append(f"--git-dir={repository}")
    for name, value in SETTINGS.items():
        command += ["-c", f"{name}={value}"]
    try:
        return subprocess.Popen(
            [*command, *arguments],
            env=clean_environment(),
            cwd=repository or "/",      # our own working directory may be gone
            **streams,
        )
    except FileNotFoundError:
        text = "cannot run git: it is not installed"
        if repository is not None and not os.path.isdir(repository):
            text = f"cannot find a store at '{repository}'"
        raise GitError(text, ABSENT) from None


def git(repository, *arguments, stdin=b"", allowed=(0,)):
    """What git prints (bytes). GitError if its status is none of those allowed."""
    process = start_git(
        repository, *arguments, stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    output, errors = process.communicate(stdin)
    if process.returncode in allowed:
        return output
    said = [line.strip().rstrip(":") for line in os.fsdecode(errors).split("\n")]
    words = ": ".join(filter(None, said)) or f"status {process.returncode}"
    verb = 0
    while arguments[verb] in ("-c", "-C"):
        verb += 2
    text = f"cannot run git {arguments[verb]}: {words}"
    if "not a git repo" not in words and "inside a git repo" not in words:
        raise GitError(text)
    if repository is not None and "extension" not in words:
        text += (
            f" ('{repository}' may have lost its objects or refs, or its HEAD: in a "
            f"store of csb's own that says ref: {OWN_REF})"
        )
    raise GitError(text, ABSENT)


def git_refuses(name, is_link=False):
    """Would git refuse a file, directory or link with this name?"""
    if name.isascii() and "gi" not in name.lower():
        return False                # as nearly all
    for part in re.sub(UNSEEN, "", name).split("\\"):
        if re.fullmatch(_NEVER, part):
            return True
        if is_link and re.fullmatch(_NEVER_A_LINK, part):
            return True
    return False


def quoted(path):
    """A path as git fast-import reads it."""
    escaped = path.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


# --- refs -----------------------------------------------------------------------------


def backup_ref(store):
    """The ref that backups go to: a repository of the user's keeps its main."""
    words = ["config", "--local", "--bool", "csb.store"]
    answer = git(store, *words, allowed=(0, 1))
    return OWN_REF if answer == b"true\n" else GUEST_REF


def plain_ref(store, ref):
    """The id that a ref's file, or packed-refs, has; None: only git can tell."""
    text = ""
    try:
        with open(os.path.join(store, ref), encoding="ascii") as file:
            text = file.read(100).removesuffix("\n")
    except FileNotFoundError:
        text = _packed_ref(store, ref)
    except (OSError, ValueError):
        pass
    return text if _is_oid(text) else None


def _packed_ref(store, ref):
    """The id that packed-refs has for a ref, "" if there is none."""
    try:
        with open(os.path.join(store, "packed-refs"), "rb") as file:
            for line in file:
                oid, _, name = os.fsdecode(line.rstrip(b"\n")).partition(" ")
                if name == ref:
                    return oid
    except OSError:
        pass
    return ""


def _is_oid(text):
    return len(text) in (40, 64) and not text.strip("0123456789abcdef")


def commit_of(store, ref):
    """The commit that a ref or other name leads to, "" if there is none."""
    answer = git(store, "rev-parse", "-q", "--verify", ref + "^0", allowed=(0, 1))
    return answer.decode().strip()


# --- objects --------------------------------------------------------------------------


def id_length(store):
    """How many bytes the ids of a store's objects have."""
    answer = git(store, "rev-parse", "--show-object-format")
    return 20 if answer == b"sha1\n" else 32


class Objects:
    """The objects of a repository, one at a time, in bounded memory.

    One git process tells what an object is, another one gives bytes. Each is started
    when it is first needed, and again after it gave up on a damaged object.
    """

    def __init__(self, repository):
        self.repository = repository
        self.teller = None
        self.reader = None
        self.told = {}          # {id: what was told of it}, of those asked for last
        self.unread = 0         # bytes of the last object, and its newline, in the pipe

    def info(self, name):
        """Info of an object by its id or by COMMIT:PATH; None if it is not there."""
        found = self._tell_of(name)
        return found and found[0]

    def infos(self, oids):
        """{id: Info} of those objects that are there, asked for many at a time.

        To wait for each answer takes a millisecond where all cores are at work.
        """
        found = {}
        oids = list(oids)
        for start in range(0, len(oids), MOST_ASKED):
            for told in self._tell(oids[start:start + MOST_ASKED]):
                if told:
                    info, _ = told
                    found[info.oid] = info
        return found

    def blocks(self, name):
        """Yield the bytes of an object in blocks. GitError if it is lost or damaged."""
        found = self._tell_of(name)
        if not found:
            raise GitError(f"cannot find object '{name}' in the store")
        info, base = found
        if base and info.size > LARGE and self._is_start_of(base, info):
            # To apply a large delta git would hold it and its base in memory. In the
            # packs that we write ourselves a delta is just the start of its base.
            yield from self._read(base, info.size)
        else:
            yield from self._read(info.oid, info.size)

    def read(self, name, limit=LARGE):
        """The bytes of a small object. GitError if it is lost, damaged or too large."""
        info = self.info(name)
        if info and info.size > limit:
            raise GitError(f"cannot read object '{name}': it has {info.size} bytes")
        return b"".join(self.blocks(name))

    def close(self):
        for process in (self.teller, self.reader):
            if process:
                process.stdin.close()
                process.stdout.close()
                process.wait()
        self.teller = self.reader = None

    def _is_start_of(self, base, info):
        """Does the object base begin with the bytes that info tells of?"""
        longer = self.info(base)
        if not longer or longer.size < info.size:
            return False
        try:
            return id_of(self._read(base, info.size), info) == info.oid
        except GitError:
            return False

    def expect(self, oids):
        """Ask at once for what will be asked for one by one: MOST_ASKED ids or less."""
        self.told = {told[0].oid: told for told in self._tell(oids) if told}

    def _tell_of(self, name):
        """What _tell() says of one object."""
        if name in self.told:
            return self.told[name]
        found, = self._tell([name])
        if found:
            self.told = {found[0].oid: found}
        return found

    def _tell(self, names):
        """(Info, id of its delta's base or None) of each object, None of a lost one."""
        if self.teller is None:
            self.teller = self._start("--batch-check=" + WHAT)
        _ask(self.teller, names)
        answers = [self.teller.stdout.readline() for _ in names]
        if all(answers):
            return [_told(answer) for answer in answers]
        self.teller = None          # git gave up on one of them
        if len(names) == 1:
            return [None]
        return [self._tell([name])[0] for name in names]

    def _read(self, oid, size):
        """Yield the first size bytes of an object."""
        if self.reader is None:
            self.reader = self._start("--batch")
            widen(self.reader.stdout)       # git works on while we work on a block
            self.unread = 0
        for _ in self._take(oid, self.unread):
            pass                # of the last object, which nobody read to its end
        _ask(self.reader, [oid])
        answer = self.reader.stdout.readline()
        if not answer or answer.endswith(b" missing\n"):
            self.reader = None
            raise GitError(f"cannot read object {oid}: it is lost or damaged")
        self.unread = int(answer.split()[2]) + 1
        yield from self._take(oid, size)

    def _take(self, oid, size):
        """Yield the next size bytes that the reader gives."""
        while size:
            block = self.reader.stdout.read(min(BLOCK, size))
            if not block:
                self.reader = None
                raise GitError(f"cannot read object {oid} to its end")
            self.unread -= len(block)
            size -= len(block)
            yield block

    def _start(self, *arguments):
        return start_git(
            self.repository, "cat-file", *arguments,
            stdin=PIPE, stdout=PIPE, stderr=DEVNULL,
        )


# What git tells of an object, and how _told() reads it.
WHAT = "%(objectname) %(objecttype) %(objectsize) %(deltabase)"


def _ask(process, names):
    """Send names of objects to a git cat-file; one that gave up gives no answer."""
    try:
        process.stdin.write(b"".join(os.fsencode(name) + b"\n" for name in names))
        process.stdin.flush()
    except BrokenPipeError:
        pass


def _told(answer):
    """(Info, id of its delta's base or None) in an answer of git's; None if lost."""
    fields = os.fsdecode(answer).rstrip("\n").split(" ")
    if len(fields) != 4 or not fields[2].isdigit():     # "missing", "ambiguous"
        return None
    oid, kind, size, base = fields
    return Info(oid, kind, int(size)), base if base.strip("0") else None


def git_mode(mode):
    """What git calls the mode of a file or link."""
    if stat.S_ISLNK(mode):
        return "120000"
    return "100755" if mode & stat.S_IXUSR else "100644"


def object_hash(info):
    """A running hash that becomes the id of an object of this type and size.

    info: an Info; its oid says which hash the repository uses.
    """
    import hashlib  # 2 to 3 ms

    digest = hashlib.sha1() if len(info.oid) == 40 else hashlib.sha256()
    digest.update(f"{info.type} {info.size}\0".encode())
    return digest


def id_of(blocks, info):
    """The id that blocks of bytes have as an object like info."""
    digest = object_hash(info)
    for block in blocks:
        digest.update(block)
    return digest.hexdigest()


def all_commits(store):
    """Yield the ids of all commits that the store holds, of no history as well."""
    process = start_git(
        store, "cat-file", "--batch-all-objects", "--unordered",
        "--batch-check=%(objecttype) %(objectname)",
        stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL,
    )
    for line in process.stdout:
        if line.startswith(b"commit "):
            yield line.decode().split()[1]
    process.wait()


# --- history --------------------------------------------------------------------------

LOG = (
    # Of 15,000 commits git would keep 146 MB of trees in memory, at the same speed.
    "-c core.deltaBaseCacheLimit=8m"
    " log --topo-order --raw -z -r --root --no-renames --no-abbrev --no-color"
    " --diff-merges=separate --encoding=none --format=%x00%H%x20%ct%x20%P"
    " -O/dev/null"
).split()


def history(store, *refs):
    """Yield a Commit for each commit that the refs reach, newest first.

    A ref that begins with "^" is left out with all that it reaches. The changes are
    those against the parent; a merge comes once for each parent. The mode of a deleted
    path is the one that it had. GitError, at the end, if the history is damaged.
    """
    process = start_git(
        store, *LOG, "--stdin",
        stdin=PIPE, stdout=PIPE, stderr=DEVNULL,
    )
    # On stdin, since there may be more refs than a command line holds. git reads them
    # all before it writes anything.
    try:
        with process.stdin as names:
            names.write(b"".join(os.fsencode(ref) + b"\n" for ref in refs))
    except BrokenPipeError:
        pass                    # git has given up on one of them: see its status

    commit = None
    fields = lines(blocks_of(process.stdout), b"\0", LONGEST_FIELD)
    for field in fields:
        head = field.lstrip(b"\n")      # git puts one between a commit and its changes
        if head.startswith(b":"):
            # ":OLDMODE NEWMODE OLDOID NEWOID STATUS", and the path is the next field.
            old_mode, new_mode, old_oid, new_oid, status = head[1:].decode().split(" ")
            mode = old_mode if status == "D" else new_mode
            path = os.fsdecode(next(fields, b""))
            commit.changes.append(Change(status, mode, old_oid, new_oid, path))
        elif head:
            # "OID SECONDS PARENT..."; a damaged commit may have no time, or an odd one.
            if commit:
                yield commit
            oid, seconds, *parents = head.decode().split(" ")
            time = min(max(int(seconds or 0), 0), LAST_SECOND)
            commit = Commit(oid, time, [], [name for name in parents if name])
    process.stdout.close()
    if process.wait() != 0:
        raise GitError(f"cannot read the whole history of {' '.join(refs)}")
    if commit:
        yield commit
