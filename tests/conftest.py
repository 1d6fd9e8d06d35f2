"""How every test runs a tool: as a stranger would, in a home of its own.

sh("csb-list | jq .title") runs a shell line with pipefail, the tools on PATH and
nothing of the caller's environment. CSB_BIN=dist tests the one-file forms, copied to an
empty directory. CSB_PYTHON names another interpreter for the tools, CSB_GIT a directory
with another git. CSB_SOAK, the name of a file for the figures (make soak), has the
tests that repeat something do it as often as TRUST.md says. What they draw by chance is
the same in each run, so that none fails by a draw; make soak draws anew, and CSB_SEED=N
draws what N stands for. Under faketime the tools have the shifted clock, too
(shifted.py).
"""
import copy
import functools
import hashlib
import json
import os
import pty
import random
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
import unicodedata
from contextlib import suppress
from types import SimpleNamespace

import pytest
import shifted

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
FORM = os.environ.get("CSB_BIN", "bin")
SYSTEM = "/usr/bin/python3"
SHARED = os.path.join(os.path.dirname(ROOT), "shared")
GIT = os.environ.get("CSB_GIT")
SOAK = os.environ.get("CSB_SOAK")
SEED = int(os.environ.get("CSB_SEED") or (random.randrange(10**9) if SOAK else 1))
OURS = (
    "HOME",
    "CLAUDE_CONFIG_DIR",
    "CSB_HOME",
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_SYSTEM",
)


# What tests need most: all of it in the index (as csb-find | csb-index,
# with a program less), all of it in the store.
INDEX = "csb-index --on-disk"
STORE = "csb-changes | csb-gitcommit"
WHEN = 1767323045       # 2026-01-02T03:04:05Z
# A session of which a snapshot comes back to /tmp, where another run must not meet it.
OF_THIS_RUN = f"c84f8b1c-ad37-40a0-8e01-{os.getpid():012d}"
DAY = 86400             # seconds
# Seconds: what has not come by then does not come, on a busy machine either.
LONG = 120


def name(number):
    """A session's id; its last digits are the number."""
    return f"3f4a9b10-0000-4000-8000-{number:012d}"


def at(seconds):
    """A time seconds from now, as records give it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))


def line(text="hello", kind="user", **fields):
    """One record of a transcript, as a line: what a user or an assistant says."""
    content = text if kind == "user" else [{"type": "text", "text": text}]
    record = {"type": kind, "cwd": "/w", "timestamp": "2026-01-02T03:04:05.678Z",
              "message": {"role": kind, "content": content}}
    return json.dumps({**record, **fields}) + "\n"


def lines(*records):
    """Records as the bytes of a pipe."""
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def problems(err):
    """The lines of stderr that name a problem: candidates for an id stand below it."""
    return [text for text in err.splitlines() if ":   " not in text]


def width(text):
    """Columns of a terminal, counted independently of the tools."""
    columns = 0
    for character in text:
        if unicodedata.category(character) in ("Mn", "Me", "Cf"):
            continue
        wide = unicodedata.east_asian_width(character) in ("W", "F")
        columns += 2 if wide else 1
    return columns


def on_terminal(sh, home, tool, *records, setup="true", **env):
    """What a tool writes to a terminal, and leaves there: how far it has come it says
    only where the work takes more than a second, and takes that away."""
    (home.path / "in").write_bytes(lines(*records))
    spawn = f"import pty; pty.spawn(['sh', '-c', '{setup}; {tool} <in'])"
    done = sh(f"python3 -c {shlex.quote(spawn)}", **{"TERM": "xterm", **env})
    return re.sub(r"[^\n]*\r\x1b\[K", "", done.out).replace("\r", "")


def typed(home, text, keys=b"", *, asked=b"[Y/n]", **env):
    """Run a shell line in a terminal, with what is typed once it asks: status, screen.

    keys: a list of them if it asks several times.
    """
    waiting = [keys] if isinstance(keys, bytes) and keys else list(keys)
    pid, fd = pty.fork()
    if pid == 0:
        try:
            os.chdir(home.path)
            words = [*POWERLESS, "bash", "-o", "pipefail", "-c", text]
            os.execvpe(words[0], words, {**home.env, **env})
        finally:
            os._exit(127)
    screen = b""
    answered = 0
    while True:
        if not select.select([fd], [], [], LONG)[0]:
            os.kill(pid, signal.SIGKILL)
            pytest.fail(f"it waits for more than it was given: {screen}")
        try:
            part = os.read(fd, 1000)
        except OSError:     # it has ended
            break
        screen += part
        if waiting and screen.count(asked) > answered:
            os.write(fd, waiting.pop(0))
            answered += 1
    os.close(fd)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), screen.decode()


def backup(sh):
    """Back everything up; the records of csb-gitcommit."""
    return sh(STORE).ok().records


def held(sh, git_dir='"$CSB_HOME/git"', ref="main"):
    """{path: bytes} that a ref holds, by plain git; without the journal."""
    git = f"git --git-dir={git_dir}"
    entries = sh(f"{git} ls-tree -r -z {ref}").ok().out.split("\0")[:-1]
    oids = {}
    for entry in entries:
        head, path = entry.split("\t", 1)
        if not path.startswith(".csb/"):
            oids[path] = head.split()[2]

    asked = "".join(oid + "\n" for oid in oids.values()).encode()
    said = sh(f"{git} cat-file --batch", asked).ok().out
    rest = said.encode("utf-8", "surrogateescape")
    found = {}
    for path in oids:
        head, rest = rest.split(b"\n", 1)
        size = int(head.split()[2])
        found[path], rest = rest[:size], rest[size + 1:]
    return found


def blob(data):
    """The id that git gives to bytes."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def files_below(top):
    """{path: bytes} of the files below a directory."""
    found = {}
    for folder, _, names in os.walk(top):
        for name in names:
            path = os.path.join(folder, name)
            with open(path, "rb") as file:
                found[os.path.relpath(path, top)] = file.read()
    return found


def backup_log(home, kind="backup"):
    """The runs that backup.log knows; kind="tidy":
    those that looked after the store."""
    text = (home.backup / "backup.log").read_text()
    records = map(json.loads, text.splitlines())
    return [record for record in records if record["kind"] == kind]


def days_ago(days, form="%Y-%m-%dT%H:%M:%SZ"):
    """The time so many days before now, as records give it."""
    return time.strftime(form, time.gmtime(time.time() - days * 86400))


def payload(event="SessionEnd", number=0, **more):
    """What the client writes to the stdin of a hook."""
    return lines({
        "session_id": name(number),
        "hook_event_name": event,
        "cwd": "/",
        "transcript_path": f"/{name(number)}.jsonl",
        **more,
    })


def pytest_configure(config):
    """Have the times of files follow faketime's clock; the mask and the time zone are
    the same for everybody."""
    shifted.start_again(config)
    random.seed("collection")
    os.umask(0o022)
    os.environ["TZ"] = "UTC"
    time.tzset()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark as long what a test marked few(n) is not to take of its
    parameters in make test."""
    tables = {}
    for item in items:
        if item.get_closest_marker("few"):
            tables.setdefault((item.path, item.originalname), []).append(item)
    for table in tables.values():
        few = table[0].get_closest_marker("few").args[0]
        taken = {len(table) * number // few for number in range(few)}
        for number, item in enumerate(table):
            if number not in taken:
                item.add_marker("long")


def interpreter():
    """What runs the tools: CSB_PYTHON, else the system's python3 as for
    users, else ours."""
    test = "import sqlite3, sys; sys.exit(sys.version_info < (3, 10))"
    if os.environ.get("CSB_PYTHON"):
        return os.environ["CSB_PYTHON"]
    if os.path.exists(SYSTEM):
        if subprocess.run([SYSTEM, "-I", "-c", test]).returncode == 0:
            return SYSTEM
    return os.path.realpath(sys.executable)


PYTHON = interpreter()
# As root nothing is unreadable: take that power away,
# so that chmod 000 means what it says.
POWERLESS = ["setpriv", "--bounding-set=-dac_override,-dac_read_search",
             "--inh-caps=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []


@pytest.fixture(scope="session")
def tools(tmp_path_factory):
    """The directory that holds the tools under test, python3 among them."""
    folder = tmp_path_factory.mktemp("tools")
    if FORM == "dist":
        shutil.copytree(os.path.join(ROOT, "dist"), folder, dirs_exist_ok=True)
        where = str(folder)
    else:
        where = os.path.join(ROOT, "bin")
        # As it is after a person's first start; the tests' own writes no such files.
        library = os.path.join(ROOT, "lib", "csb")
        subprocess.run([PYTHON, "-m", "compileall", "-q", library], check=True)
    python = tmp_path_factory.mktemp("python")
    (python / "python3").symlink_to(PYTHON)
    for name in ("crontab", "launchctl", "systemctl"):     # not the machine's own
        (python / name).write_text(f"#!/bin/sh\necho no {name} for me >&2\nexit 1\n")
        (python / name).chmod(0o755)
    path = f"{where}:{python}:/usr/bin:/bin"
    if GIT:
        path = f"{GIT}:{path}"
        # Shims ask which git that is.
        os.environ["PATH"] = f"{GIT}:{os.environ['PATH']}"
    return SimpleNamespace(bin=where, path=path, python=PYTHON)


@pytest.fixture(scope="session")
def kept():
    """The homes that once() keeps: {what was made: (the copy, what was returned)}."""
    return {}


@pytest.fixture
def tmp_path(tmp_path, tmp_path_factory, request):
    """As pytest makes it. While a test runs that may get a copied home it is always in
    the same place, because a store and an index note whole paths."""
    if "once" not in request.fixturenames:
        yield tmp_path
        return

    place = tmp_path_factory.getbasetemp() / "place"
    place.mkdir()
    yield place
    place.rename(tmp_path)


@pytest.fixture
def home(tmp_path, tools):
    """A home of the test's own: .path, .claude (the Claude directory), .backup (its
    CSB_HOME), .env."""
    path = tmp_path / "home"
    claude = path / ".claude"
    claude.mkdir(parents=True)
    env = {
        "PATH": tools.path,
        "HOME": str(path),
        "LC_ALL": "C",
        "TZ": "UTC",
        "TMPDIR": str(tmp_path),
        "CLAUDE_CONFIG_DIR": str(claude),
        "CSB_HOME": str(path / ".claude-backup"),
        "GIT_CONFIG_GLOBAL": str(path / ".gitconfig"),
        "GIT_CONFIG_SYSTEM": os.devnull,
        **shifted.environment(),
    }
    return SimpleNamespace(
        path=path, claude=claude, backup=path / ".claude-backup", env=env
    )


@pytest.fixture
def sh(home, tmp_path):
    """Run a shell line: sh(line, stdin=b"", cwd=None, timeout=LONG, NAME=value).

    It returns rc, out and err; these are text (surrogateescape), .records the JSON
    lines of out. A value of None takes the variable out of the environment.
    """
    def run(line, stdin=b"", cwd=None, timeout=LONG, **env):
        env = {k: v for k, v in {**home.env, **env}.items() if v is not None}
        for name in ("HOME", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
            assert env.get(name), f"a test must not run without its own {name}"
        in_ours = env["HOME"].startswith(str(tmp_path))
        assert in_ours, "a test must not run in a real home"
        done = subprocess.run(
            [*POWERLESS, "bash", "-o", "pipefail", "-c", line],
            input=stdin,
            env=env,
            cwd=cwd or home.path,
            timeout=timeout,
            capture_output=True,
        )
        out = done.stdout.decode("utf-8", "surrogateescape")
        err = done.stderr.decode("utf-8", "surrogateescape")
        assert "Traceback (most recent call last)" not in err, err
        return Result(done.returncode, out, err)
    return run


@pytest.fixture
def once(home, sh, kept, tmp_path_factory):
    """once(make, *words): what make(sh, home, *words) returns,
    and the home as it leaves it.

    It is made for the first test that asks and copied for the others: for tests that
    need a backup and are not about it. To the tools a copy is a home that came from
    another disk: the same bytes and mtimes in the same place, but each file was
    touched. In a home that is no longer empty it is made in any case.
    """
    def untouched():
        return os.listdir(home.path) == [".claude"] and not os.listdir(home.claude)

    def run(make, *words):
        assert make.__closure__ is None, "what it makes must depend on the words alone"
        if not untouched():
            return make(sh, home, *words)

        key = (make.__module__, make.__qualname__, repr(words), repr(home.env))
        if key in kept:
            folder, value = kept[key]
            shutil.rmtree(home.path)
            subprocess.run(["cp", "-a", folder, home.path], check=True)
        else:
            value = make(sh, home, *words)
            folder = tmp_path_factory.mktemp("kept") / "home"
            subprocess.run(["cp", "-a", home.path, folder], check=True)
            kept[key] = folder, value
        return copy.deepcopy(value)
    return run


class Result(SimpleNamespace):
    """What a shell line did."""

    def __init__(self, rc, out, err):
        super().__init__(rc=rc, out=out, err=err)

    @property
    def records(self):
        """stdout as records."""
        return [json.loads(line) for line in self.out.splitlines()]

    def ok(self):
        """Itself, if it succeeded and said nothing on stderr."""
        assert (self.rc, self.err) == (0, ""), self
        return self


@pytest.fixture(scope="session")
def real(tmp_path_factory):
    """Real transcripts, unpacked: .claude are the Claude directories, .growth the
    snapshots of growing files, a list of files (oldest first) a session."""
    archives = [f"{SHARED}/data/{name}.tar.xz" for name in ("transcripts", "growth")]
    if not all(map(os.path.exists, archives)):
        pytest.skip(f"the real transcripts are not at {SHARED}/data")
    folder = tmp_path_factory.mktemp("real")
    for archive in archives:
        subprocess.run(["tar", "-xJf", archive, "-C", folder], check=True)
    sessions = sorted((folder / "growth").glob("*/*"))
    return SimpleNamespace(
        claude=sorted(path.parent for path in folder.glob("*/projects")),
        growth=[sorted(path.iterdir()) for path in sessions],
    )


@pytest.fixture
def listing():
    """A function: everything below a directory,
    {path: (mode, mtime, digest, link or "dir")}."""
    def entry(path):
        st = os.lstat(path)
        what = "dir"
        if os.path.islink(path):
            what = os.readlink(path)
        elif os.path.isfile(path):
            with open(path, "rb") as file:
                what = hashlib.sha256(file.read()).hexdigest()
        return oct(st.st_mode), st.st_mtime_ns, what

    def walk(top, skip=()):
        found = {}
        for folder, folders, names in os.walk(top):
            folders[:] = [name for name in folders if name not in skip]
            for name in folders + names:
                path = os.path.join(folder, name)
                found[os.path.relpath(path, top)] = entry(path)
        return found
    return walk


@pytest.fixture
def stages(tools, tmp_path, home):
    """A copy of the tools where they can be replaced:
    stages(name, python code or None: gone)."""
    folder = tmp_path / "copy" / "bin"
    shutil.copytree(tools.bin, folder)
    helper = os.path.join(os.path.dirname(tools.bin), "lib")
    if os.path.isdir(helper):
        # Another process may compile it right now, under names that go again.
        compiling = shutil.ignore_patterns("*.pyc.*")
        shutil.copytree(helper, tmp_path / "copy" / "lib", ignore=compiling)
    home.env["PATH"] = f"{folder}:" + home.env["PATH"].removeprefix(tools.bin + ":")
    start = '"""a\n\nrecord: x\n"""\nimport os, signal, sys, time\n'

    def replace(stage, code):
        (folder / stage).unlink(missing_ok=True)
        if code is not None:
            (folder / stage).write_text(f"{start}{code}\n")
    return replace


@pytest.fixture
def rounds():
    """A function: rounds(few, many), how often to repeat:
    few in make test, many in make soak."""
    return lambda few, many: many if SOAK else few


@pytest.fixture(autouse=True)
def seed():
    """What every test draws by chance begins with;
    it is printed when the test fails."""
    print(f"CSB_SEED={SEED}")
    random.seed(str(SEED))      # not what seeded draws
    return SEED


@pytest.fixture
def seeded(seed):
    """A random.Random of the test's own."""
    return random.Random(seed)


@pytest.fixture
def figure(request):
    """A function: figure("8 x 25 backups at once, 0 lost")
    notes a figure for TRUST.md."""
    def note(text):
        print(text)
        if SOAK:
            with open(SOAK, "a", encoding="utf-8") as file:
                file.write(f"{request.node.name}: {text}\n")
    return note


@pytest.fixture
def over(home):
    """over(): wait until all that the test has started in the background has ended;
    over.running() are the ids of those processes. What is left after the test is
    killed."""
    if not os.path.exists("/proc/self/environ"):
        pytest.skip("no /proc to see the background by")
    mark = f"CSB_HOME={home.backup}\0".encode()

    def look():
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:
                if mark in file.read():
                    found.append(int(pid))
        return found

    def running():
        found = look()
        if not found:           # a process that just becomes another one is not seen
            time.sleep(0.01)
            found = look()
        return found

    def wait():
        deadline = time.monotonic() + LONG
        while running():
            assert time.monotonic() < deadline, "it does not end"
            time.sleep(0.01)
    wait.running = running
    yield wait
    for pid in running():
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    wait()


def two_sessions(home):
    """Make a Claude directory with two sessions, and settings;
    the folder of their project."""
    folder = home.claude / "projects/-srv-app"
    folder.mkdir(parents=True)
    for number in range(2):
        question = {
            "type": "user",
            "sessionId": name(number),
            "cwd": "/srv/app",
            "uuid": str(number),
            "message": {"role": "user", "content": f"question {number}"},
        }
        (folder / f"{name(number)}.jsonl").write_bytes(lines(question))
    (home.claude / "settings.json").write_text("{}\n")
    return folder


def back_up_two_sessions(sh, home):
    """two_sessions(), stored and indexed."""
    folder = two_sessions(home)
    sh("csb-backup --quiet").ok()
    return folder


def put_into(home, what, text="{}\n", project="-w", mtime=WHEN):
    """Write a file in the Claude directory; its path. what is a path there,
    or the number of a session: then it is its transcript, in that project."""
    if isinstance(what, int):
        what = f"projects/{project}/{name(what)}.jsonl"
    path = home.claude / os.fsdecode(what)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    os.utime(path, (mtime, mtime))
    return path


@pytest.fixture
def put(home):
    """put(what, text, project, mtime): put_into() the home of the test."""
    return functools.partial(put_into, home)


@pytest.fixture
def claude(home):
    """A Claude directory with two sessions, and settings;
    the folder of their project."""
    return two_sessions(home)


@pytest.fixture
def backed_up(once):
    """The same, backed up; for tests that are not about the backup."""
    return once(back_up_two_sessions)


@pytest.fixture
def hook(sh, over):
    """hook(stdin, options): csb-hook, which prints nothing and succeeds."""
    def run(stdin, options="", **more):
        done = sh(f"csb-hook {options}", stdin, **more).ok()
        assert done.out == ""
    return run


@pytest.fixture
def dotfiles(home):
    """dotfiles(mode): settings.json as a link over a link to a file elsewhere,
    {"a": 1} of that mode, or not there (None); its path."""
    def make(mode):
        real = home.path / "dotfiles" / "claude.json"
        real.parent.mkdir()
        if mode is not None:
            real.write_text('{"a": 1}\n')
            real.chmod(mode)
        (home.path / "step").symlink_to("dotfiles/claude.json")
        (home.claude / "settings.json").symlink_to("../step")
        return real
    return make


@pytest.fixture
def unwritable(sh, home):
    """unwritable(line, "claude" or "backup"): what a line did that could not write
    there, with {"a": 1} as settings; it failed, and said one thing."""
    def run(line, folder):
        (home.claude / "settings.json").write_text('{"a": 1}')
        home.backup.mkdir()
        getattr(home, folder).chmod(0o500)
        done = sh(line)
        getattr(home, folder).chmod(0o700)
        assert (done.rc, done.out, done.err.count("\n")) == (1, "", 1), done
        return done
    return run


@pytest.fixture
def client(clients):
    """A real client, as the module's clients() makes one."""
    return clients("c")


@pytest.fixture
def tell(capsys):
    """Print a figure where a person sees it."""
    def say(text):
        with capsys.disabled():
            print(f"\n    {text}", end=" ", flush=True)
    return say


# What every tool begins with, after its first line and its docstring.
START = '''import os
import sys

here = os.path.dirname(os.path.realpath(__file__))
sys.path[:] = [path for path in sys.path if os.path.realpath(path) != here]
for lib in (f"{here}/../lib", f"{here}/lib"):
    if os.path.isfile(f"{lib}/csb/__init__.py"):
        sys.path.insert(0, lib)
        break
else:
    sys.exit("TOOL: cannot find lib/csb: lib/build/squash bin/TOOL "
             "makes one file of both")
'''

# A small tool that is written as ours are.
SAMPLE = '''#!/usr/bin/env -S python3 -IS
"""try things

examples:
  csb-try
  csb-try --fail

record: out  try  text mode git
"""
''' + START.replace("TOOL", "csb-try") + '''import stat

from csb import Options, emit, run, warn
from csb.git import git

TEXT = """
from csb import everything  # text, not code
sys.path[:] = []



three empty lines
"""


def main():
    # a comment that stays \u2713
    options = Options(__doc__)
    options.add_argument("--fail", action="store_true")
    if options.parse_args().fail:
        warn("cannot do 'x': no reason")
    version = git(None, "version").decode()
    emit({"kind": "try", "text": TEXT, "mode": stat.S_IFREG, "git": version[:11]})


if __name__ == "__main__":
    run(main)
'''


@pytest.fixture
def house(tmp_path):
    """A copy of what is built from, with SAMPLE as the one tool in bin/."""
    top = tmp_path / "house"
    (top / "bin").mkdir(parents=True)
    leave_out = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(os.path.join(ROOT, "lib"), top / "lib", ignore=leave_out)
    for name in ("Makefile", "README.md"):
        shutil.copy(os.path.join(ROOT, name), top)
    put_tool(top, SAMPLE)
    return top


def put_tool(top, text):
    """Make a text the tool csb-try of a house."""
    path = top / "bin" / "csb-try"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)


def names_of_tools():
    """The names of all tools, sorted."""
    names = os.listdir(os.path.join(ROOT, "bin"))
    return sorted(name for name in names
                  if not name.startswith((".", "__")) and not name.endswith("~"))


TOOLS = names_of_tools()
