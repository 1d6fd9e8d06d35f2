"""What every tool has in common: its manual, its exit status, what it loads, how it is
copied.

The tools are those in bin/: a new one is tested from its first day, and needs a row in
WORKS.
"""
import ast
import fcntl
import functools
import glob
import os
import re
import shutil
import signal
import struct
import subprocess
import termios
import time

import pytest
from conftest import FORM, LONG, POWERLESS, ROOT

RUN = '{"kind":"backup","at":"2026-01-02T03:04:05Z","outcome":"failed"}'
TOOLS = sorted(name for name in os.listdir(os.path.join(ROOT, "bin"))
               if not name.startswith((".", "__")))
SLOW = set("pathlib dataclasses typing logging tempfile asyncio concurrent".split())
HEAVY = set("sqlite3 hashlib subprocess gzip datetime shutil".split())
SHEBANG = "#!/usr/bin/env -S python3 -IS"
ID = "11111111-2222-4333-8444-{:012d}"
FIRST = ID.format(1)
PATH = f"$CLAUDE_CONFIG_DIR/projects/-work/{FIRST}.jsonl"
STORED = "csb-changes | csb-gitcommit >/dev/null"
INDEXED = "csb-find | csb-index >/dev/null"


# tool: what must have run before, then a line in which the tool writes to stdout
WORKS = {
    "csb": (INDEXED, "csb list -n 0 --json"),
    "csb-backup": ("", "csb-backup"),
    "csb-cat": ("", f"csb-cat {FIRST}"),
    "csb-changes": ("", "csb-changes"),
    "csb-config": ("", "csb-config"),
    "csb-find": ("", "csb-find"),
    "csb-fmt": ("csb-find >in", "csb-fmt <in"),
    "csb-gc": (STORED, "csb-gc --now"),
    "csb-gitcommit": ("csb-changes >in", "csb-gitcommit <in"),
    "csb-history": (STORED, f"csb-history {FIRST}"),
    "csb-hook": (f"mkdir $CSB_HOME && echo '{RUN}' >$CSB_HOME/backup.log",
                 "echo '{\"hook_event_name\":\"SessionStart\"}' | csb-hook"),
    "csb-html": (f"csb-log --json {FIRST} >turns", "csb-html <turns"),
    "csb-index": ("csb-find >in", "csb-index <in"),
    "csb-list": (INDEXED, "csb-list"),
    "csb-log": ("", f"csb-log {FIRST}"),
    "csb-push": (f"{STORED} && git init -q --bare remote", "csb-push remote"),
    "csb-redact": ("", f"csb-redact {PATH}"),
    "csb-remap": ("", f"csb-remap /work=/w {PATH}"),
    "csb-restore": (STORED, f"csb-restore --target-dir there {FIRST}"),
    "csb-resume": ("", f"csb-resume --print --cwd . {FIRST}"),
    "csb-schedule": ("", "csb-schedule --print --kind cron"),
    "csb-setup": ("", "csb-setup --print-hooks"),
    "csb-scan": (INDEXED, "csb-scan /"),
    "csb-search": ("", "csb-search -n 0 word"),
    "csb-show": (INDEXED, f"csb-show {FIRST}"),
    "csb-status": ("csb-backup --event=hook >/dev/null", "csb-status"),
    "csb-tree": (INDEXED, "csb-tree --all"),
    "csb-verify": (STORED, "csb-verify"),
    "jsonl_snapshot": ("", f"jsonl_snapshot --source {PATH} --dest-dir there"),
    "session_snapshot": ("", f"session_snapshot --source {PATH} --dest-dir there"),
}
NO_STDIN = """
    csb csb-backup csb-changes csb-config csb-find csb-gc csb-list csb-push csb-scan
    csb-schedule csb-search csb-setup csb-status csb-tree csb-verify
""".split()
SOURCES = [name for name in TOOLS if name in NO_STDIN]
# Sources that need one, a timer, a terminal or an operand.
INDEX = "csb-list csb-push csb-scan csb-schedule csb-search csb-setup csb-tree".split()
FILTERS = [name for name in TOOLS if name not in SOURCES and name != "csb-hook"]
CLOSED_PIPE = "exec 3> >(:); wait $!; "

each = pytest.mark.parametrize("tool", TOOLS)
of_the_form = pytest.mark.skipif(
    FORM == "bin", reason="what a form can break: tried on dist/"
)


def make_sessions(home):
    """Thirty sessions of two lines, an hour old."""
    folder = home.claude / "projects" / "-work"
    folder.mkdir(parents=True)
    for number in range(1, 31):
        path = folder / (ID.format(number) + ".jsonl")
        with open(path, "w") as file:
            for n in (1, 2):
                file.write(
                    f'{{"type":"user","uuid":"{ID.format(n)}",'
                    f'"sessionId":"{ID.format(number)}",'
                    f'"cwd":"/work/a project with quite a long name/{number}",'
                    f'"timestamp":"2026-01-02T03:04:{n:02d}.000Z",'
                    f'"message":{{"role":"user","content":"word {n}"}}}}\n'
                )
        os.utime(path, (time.time() - 3600,) * 2)


def source(tool):
    """A tool's path in bin/ and its text, whatever form is under test."""
    path = os.path.join(ROOT, "bin", tool)
    with open(path, encoding="utf-8") as file:
        return path, file.read()


def manual(tool):
    """The docstring of a tool."""
    return ast.get_docstring(ast.parse(source(tool)[1]), clean=False).strip()


def make_ready(sh, home, before):
    """make_sessions(), and what must run before."""
    make_sessions(home)
    if before:
        done = sh(before)
        assert done.rc == 0, done


@pytest.fixture(autouse=True)
def sessions(home, request):
    """The sessions are there in every test."""
    if "ready" not in request.fixturenames:
        make_sessions(home)


@pytest.fixture
def ready(once, tool, request):
    """What the tool needs has run; its line."""
    if tool == "csb-hook":
        request.getfixturevalue("over")     # which ends what a hook leaves at work
    before, line = WORKS[tool]
    once(make_ready, before)
    return line


def works(sh, line, tail=""):
    """Run the line of a tool, with tail for its stdout."""
    return sh(f"{CLOSED_PIPE if '3' in tail else ''}{line} {tail}")


def one_line(err, tool):
    """Is this what a tool says when it gives up: one line, 'tool: ...'?"""
    return err.count("\n") == 1 and err.startswith(f"{tool}: ")


@of_the_form
@each
def test_help_is_the_manual(sh, tool):
    """--help prints the docstring: what it does, examples,
    and the records in and out."""
    line = "csb help csb" if tool == "csb" else f"{tool} --help"
    doc, done = manual(tool), sh(line).ok()
    first, *rest = doc.split("\n")
    assert first in done.out.split("\n")
    assert "\n".join(rest).strip("\n") in done.out
    assert "\nexamples:\n" in doc
    assert re.search("^record: " if tool != "csb" else " records", doc, re.M)
    assert not first.endswith(".") and first[0].islower()
    assert all(len(line) <= 80 for line in done.out.split("\n"))


@pytest.mark.logic
@each
@pytest.mark.parametrize("word", ["-?", "--versio", "--claude-dir=", "--git-dir="])
@pytest.mark.few(12)
def test_misuse_is_2_and_one_line(sh, tool, word):
    """1 where 2 would block the client of a hook."""
    done = sh(f"{tool} {word}")
    assert (done.rc, done.out) == (1 if tool == "csb-hook" else 2, ""), done
    assert one_line(done.err, tool), done


@pytest.mark.parametrize("line", [
    "csb-show", "csb-history", "csb-log 3f4a", "csb-cat",
    "csb-resume", "csb-index --seen", "jsonl_snapshot --dest-dir here",
])
def test_an_empty_word_is_misuse(sh, line):
    """As a variable leaves it that is not set."""
    done = sh(f"{line} ''")
    assert (done.rc, done.out) == (2, "") and "an empty word names" in done.err, done


@pytest.mark.logic
@each
@pytest.mark.few(6)
def test_reader_that_left(sh, tool, ready):
    """A pipe that nobody reads any more ends the tool without a word."""
    done = sh(f"{CLOSED_PIPE}{tool} --help >&3")
    assert (done.rc, done.err) == (141, "")
    done = works(sh, ready, ">&3")
    assert done.rc in ((0, 141) if tool == "csb" else (141,)) and done.err == "", done


@pytest.mark.logic
@each
@pytest.mark.few(8)
def test_full_disk(sh, tool, ready):
    """Output that cannot be written is an error, in one line."""
    done = sh(f"{tool} --help >/dev/full")
    assert done.rc == 1 and one_line(done.err, tool), done
    done = works(sh, ready, ">/dev/full")
    assert done.rc == 1 and done.err.count("No space left on device") == 1, done


@pytest.mark.logic
@each
@pytest.mark.few(6)
def test_closed_streams(sh, tool, ready):
    """Without stdin, stdout or stderr at all:
    the same work, or an error, never a mess."""
    assert sh(f"{tool} --no-such-option 2>&-").out == ""
    done = works(sh, ready, ">&-")
    assert done.rc == 1 and done.err, done
    done = sh(f"{tool} <&-")
    well = 1 if tool == "csb-status" else 0     # nothing backs up by itself
    assert done.rc == (well if tool in SOURCES and tool not in INDEX else done.rc)
    assert done.rc in (well, 0, 2, 3), done


def start(home, line, **streams):
    """A shell line in a process group of its own, in which Ctrl-C works."""
    return subprocess.Popen(
        [*POWERLESS, "bash", "-o", "pipefail", "-c", line], env=home.env, cwd=home.path,
        start_new_session=True, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL), **streams)


def interrupt(process):
    """Press Ctrl-C until it works; (what was said, exit status).

    Once may not do: Python sees a signal that comes as a read ends only after the next
    write, and that one may block.
    """
    for _ in range(20):
        try:
            os.killpg(process.pid, signal.SIGINT)
            return process.communicate(timeout=3)[1], process.returncode
        except subprocess.TimeoutExpired:
            pass
    os.killpg(process.pid, signal.SIGKILL)
    raise AssertionError(f"Ctrl-C does not end it: {process.communicate()}")


@pytest.mark.logic
@pytest.mark.parametrize("tool", [
    name for name in FILTERS if name not in ("csb-redact", "csb-remap")])
@pytest.mark.few(6)
def test_ctrl_c_while_reading(home, sh, tool, ready):
    """130 and not a word. (The tool reads its input once it complains of the first
    line, which is as good as any other to csb-redact and csb-remap.)"""
    process = start(home, f"exec {tool}", stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL)
    process.stdin.write(b"{no record\n")
    process.stdin.flush()
    said = process.stderr.readline().decode()
    assert said.startswith(f"{tool}: cannot read line 1 of the input"), said
    assert interrupt(process) == (b"", 130)


@pytest.mark.logic
def test_ctrl_c_in_a_del(home):
    """Where Python itself would only say that it ignored it, and go on."""
    text = (
        f"import os, signal, sys\nsys.path.append({ROOT + '/lib'!r})\nimport csb\n"
        "class Child:\n    def __del__(self):\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        sum(range(10**6))\n"
        "def main():\n    sys.stdout.write('before')\n    Child()\n"
        "    print('and on')\n"
        "csb.run(main)\n"
    )
    done = subprocess.run(
        ["python3", "-c", text],
        env=home.env,
        cwd=home.path,
        capture_output=True,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.logic
@pytest.mark.parametrize("tool", [
    name for name in SOURCES if name not in (
        "csb-config", "csb-gc", "csb-push", "csb-schedule",
        "csb-setup", "csb-status")])
@pytest.mark.few(4)
def test_ctrl_c_while_writing(home, sh, ready):
    """130 and not a word, into a pipe too small for the output, that nobody reads."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    process = start(home, f"exec {ready}", stdin=subprocess.DEVNULL, stdout=writer)
    waiting, deadline = 0, time.monotonic() + LONG
    while waiting < 3000 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
        waiting = struct.unpack("i", fcntl.ioctl(reader, termios.FIONREAD, b"1234"))[0]
    assert waiting >= 3000 and process.poll() is None
    assert interrupt(process) == (b"", 130)
    os.close(reader)
    os.close(writer)


@functools.cache
def loaded(*words):
    """What Python prints when started so, and the packages that it then has loaded."""
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    names = {
        line.split("|")[2].strip().partition(".")[0]
        for line in done.stderr.splitlines()
        if line.startswith("import time:")
    }
    return done.stdout, names


@of_the_form
@each
def test_version_and_what_is_loaded_for_it(tools, tool):
    """Nothing slow to import, and nothing heavy that the tool does not name itself."""
    python = (tools.python, "-I", "-S", "-X", "importtime")
    said, names = loaded(*python, f"{tools.bin}/{tool}", "--version")
    with open(os.path.join(ROOT, "lib/csb/__init__.py"), encoding="utf-8") as file:
        version = re.search('^VERSION = "(.+)"$', file.read(), re.M)[1]
    assert said == f"{tool} {version}\n"

    names -= loaded(*python, "-c", "pass")[1]
    top = {alias.name for node in ast.parse(source(tool)[1]).body for alias in
           getattr(node, "names", ()) if isinstance(node, ast.Import)}
    top |= {node.module for node in ast.parse(source(tool)[1]).body
            if isinstance(node, ast.ImportFrom)}
    assert "argparse" in names and not names & SLOW
    assert "shutil" in top or not names & HEAVY - top


@of_the_form
@each
def test_it_can_be_started(tools, tool):
    """A #! line and the executable bits, in both forms."""
    path = os.path.join(tools.bin, tool)
    with open(path, encoding="utf-8") as file:
        assert file.readline().rstrip() == SHEBANG
    assert os.stat(path).st_mode & 0o777 == 0o755


@functools.cache
def old_pythons():
    """Interpreters that are too old, as far as the machine has them."""
    names = [shutil.which(f"python3.{minor}") for minor in (8, 9)]
    for minor in (8, 9):
        names += glob.glob(
            os.path.expanduser(f"~/.pyenv/versions/3.{minor}.*/bin/python3")
        )
    found = {os.path.realpath(name) for name in names if name}
    return sorted(path for path in found if subprocess.run(
        [path, "-c", "import sys; assert (3, 8) <= sys.version_info < (3, 10)"],
        capture_output=True).returncode == 0)


@of_the_form
def test_too_old_a_python(tools):
    """One line instead of a riddle: the syntax has to be good for 3.8, and each tool
    looks at the version before it loads what that may not have."""
    pythons = old_pythons()
    if not pythons:
        pytest.skip("no Python 3.8 or 3.9 on this machine")
    start = """import runpy, sys
for path in sys.argv[1:]:
    sys.argv = [path]
    try:
        runpy.run_path(path, run_name="__main__")
    except SystemExit as error:
        print(error.code)
"""
    paths = [os.path.join(tools.bin, tool) for tool in TOOLS]
    for python in pythons:
        done = subprocess.run([python, "-I", paths[0]], capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (1, ""), done
        assert one_line(done.stderr, TOOLS[0]), done
        done = subprocess.run(
            [python, "-I", "-c", start, *paths], capture_output=True, text=True
        )
        assert done.stderr == ""
        for tool, said in zip(TOOLS, done.stdout.splitlines(), strict=True):
            assert said.startswith(f"{tool}: "), said
            assert said.endswith(": 3.10 or newer is needed"), said
