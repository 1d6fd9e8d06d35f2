"""what tests/bench measures, and how: csb, and the tools that could be used instead

They are found on PATH; claude-session-backup is installed with pip into the temporary
directory. What is measured is a shell line of theirs.
"""
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections import namedtuple
from types import SimpleNamespace

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
FORM = os.path.join(ROOT, os.environ.get("CSB_BIN", "bin"))
SYSTEM = "/usr/bin/python3"
CORPUS = [sys.executable, os.path.join(ROOT, "tests", "corpus.py")]
FRESH = 3       # seconds: files that were written just now are read again by rule
PEERS = ("git", "claude-session-backup", "restic", "borg")
PACKAGES = {"restic": "restic", "borg": "borgbackup"}      # of Debian
GIT = 'git --git-dir="$TOP/peer" --work-tree="$CLAUDE_CONFIG_DIR"'
EMPTY = 'rm -rf "$TARGET" && mkdir "$TARGET"'
SAME = 'cmp "$(find "$TARGET" -name "$ID.jsonl")" "$CLAUDE_CONFIG_DIR/$BIG"'

# line: which line of a tool is measured; goal: the seconds that csb is to need at most.
Row = namedtuple("Row", "title line goal")
ROWS = {
    "store": Row("first backup, without the index", "store", 2.4),
    "first": Row("first backup", "backup", 3.8),
    "noop": Row("no-op backup", "backup", 0.08),
    "quiet": Row("no-op backup, as hooks run it", "quiet", 0.08),
    "append": Row("backup after 10 KB more in the largest", "backup", 0.3),
    "list": Row("list of 20 sessions", "list", 0.03),
    "restore": Row("restore of the largest session", "restore", 0.33),
    "rebuild": Row("rebuild of the index", "rebuild", 1.8),
    "text": Row("first index of all text", "text", 1.3),
    "search": Row("search, index warm", "search", 0.07),
}


class Failed(Exception):
    """A step did not do what it should; the text says which and why."""


class Tool:
    """A tool, its version, and the shell lines that are measured.

    env: where these run. store: the directory that holds what the tool stores.
    before, after: {row: a line that runs around it, and is not measured}.
    """

    def __init__(self, name, env, store, lines, *, version, before, after):
        self.name = name
        self.env = env
        self.store = os.path.join(env["TOP"], store)
        self.claude = env["CLAUDE_CONFIG_DIR"]
        self.lines = lines
        self.version = number_in(env, version)
        self.before = before
        self.after = after


def interpreter():
    """The Python that is measured: CSB_PYTHON, else the system's, else ours."""
    asked_for = os.environ.get("CSB_PYTHON")
    if asked_for:
        return asked_for
    if os.path.exists(SYSTEM):
        test = "import sqlite3, sys; sys.exit(sys.version_info < (3, 10))"
        if subprocess.run([SYSTEM, "-I", "-c", test]).returncode == 0:
            return SYSTEM
    return os.path.realpath(sys.executable)


def environment(top, python):
    """The environment of a machine that has nothing but the tools, and a short PATH."""
    folder = os.path.join(top, "python")
    os.mkdir(folder)
    os.mkdir(os.path.join(top, "home"))
    os.symlink(python, os.path.join(folder, "python3"))

    path = [FORM, folder, "/usr/bin", "/bin"]
    for name in ("git", *PACKAGES):
        found = shutil.which(name)
        if found and os.path.dirname(found) not in path:
            path.append(os.path.dirname(found))
    return {
        "TOP": top,
        "TMPDIR": top,
        "HOME": os.path.join(top, "home"),
        "TARGET": os.path.join(top, "target"),
        "CLAUDE_CONFIG_DIR": os.path.join(top, "claude"),
        "CSB_HOME": os.path.join(top, "csb"),
        "PATH": os.pathsep.join(path),
        "LC_ALL": "C",
        "TZ": "UTC",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_SYSTEM": os.devnull,
        # What git would do after its end is work too.
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "gc.autoDetach",
        "GIT_CONFIG_VALUE_0": "false",
        "GIT_AUTHOR_NAME": "x",
        "GIT_AUTHOR_EMAIL": "x",
        "GIT_COMMITTER_NAME": "x",
        "GIT_COMMITTER_EMAIL": "x",
    }


def moved():
    """(bytes read, bytes written) by us and those that we waited for, or zeros."""
    try:
        with open("/proc/self/io") as file:
            lines = dict(line.split(": ") for line in file)
        return int(lines["rchar"]), int(lines["wchar"])
    except (OSError, KeyError, ValueError):
        return 0, 0


def measure(env, line):
    """Run a shell line, which has to succeed.

    What it took: seconds, cpu (seconds), peak (MB), read and wrote (bytes), and what it
    said. CPU and bytes are those of all processes, the peak is that of the largest one.
    """
    with open(os.path.join(env["TOP"], "said"), "w+b") as said:
        read, wrote = moved()
        start = time.perf_counter()
        shell = subprocess.Popen(
            ["sh", "-c", line], env=env, cwd=env["HOME"],
            stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        _, status, usage = os.wait4(shell.pid, 0)
        seconds = time.perf_counter() - start
        read_after, wrote_after = moved()
        shell.returncode = os.waitstatus_to_exitcode(status)
        length = said.seek(0, os.SEEK_END)
        said.seek(max(0, length - 2000))
        text = said.read().decode(errors="replace")
    lines = text.replace(env["TOP"], "TOP").split("\n")

    if shell.returncode:
        spoken = [one.strip() for one in lines if one.strip()]
        reason = spoken[-1][:300] if spoken else ""
        raise Failed(f"status {shell.returncode}: {reason}")
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return SimpleNamespace(
        seconds=seconds,
        cpu=usage.ru_utime + usage.ru_stime,
        peak=usage.ru_maxrss / unit,
        read=read_after - read,
        wrote=wrote_after - wrote,
        said=lines)


def number_in(env, line):
    """The version number that a line prints."""
    text = " ".join(measure(env, line).said)
    found = re.search(r"\d+\.\d[\w.]*", text)
    return found[0].rstrip(".") if found else "?"


def size(path):
    """The sum of the sizes of the files below path, in bytes."""
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            total += os.lstat(os.path.join(folder, name)).st_size
    return total


def amount(count):
    """Bytes for people."""
    for unit, power in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if abs(count) >= power:
            return f"{count / power:.1f} {unit}"
    return f"{count:.0f} B"


def medians(results):
    """{what: median} over results of measure()."""
    found = {}
    for what in vars(results[0]):
        if what != "said":
            figures = [getattr(result, what) for result in results]
            found[what] = statistics.median(figures)
    return found


def corpus(out, shape):
    """Make a corpus; (its largest transcript, relative to it, number of files)."""
    options = []
    for name, value in shape.items():
        options.append(f"--{name.replace('_', '-')}={value}")
    done = subprocess.run(
        [*CORPUS, "--out", out, *options], check=True, capture_output=True)
    files = sum(len(names) for _, _, names in os.walk(out))
    return json.loads(done.stdout)["big"], files


class Appender:
    """Adds 10 KB of new messages to a transcript, the same ones in every copy of it."""

    def __init__(self, big, directories):
        self.paths = [os.path.join(directory, big) for directory in directories]
        self.count = 0

    def __call__(self):
        """One more; the bytes."""
        first, *others = self.paths
        self.count += 1
        before = os.path.getsize(first)
        seed = str(1000 + self.count)
        subprocess.run(
            [*CORPUS, "--append", first, "10000", "--seed", seed],
            check=True, capture_output=True)
        with open(first, "rb") as file:
            file.seek(before)
            added = file.read()
        for path in others:
            with open(path, "ab") as file:
                file.write(added)
        return added


def once(tool, row):
    """One measured run of a row's line; .growth is what the store has grown by."""
    if row in tool.before:
        measure(tool.env, tool.before[row])
    before = size(tool.store)
    result = measure(tool.env, tool.lines[ROWS[row].line])
    result.growth = size(tool.store) - before
    if row in tool.after:
        measure(tool.env, tool.after[row])
    return result


def in_turn(page, tools, row, runs, append):
    """{name of the tool: medians, or the word failed} of a row, the tools in turn."""
    title, line, _ = ROWS[row]
    tools = [tool for tool in tools if line in tool.lines]
    results = {tool.name: [] for tool in tools}
    failed = {}
    for number in range(runs):
        if sys.stderr.isatty():
            print(f"bench: {title}, {number + 1} of {runs}", file=sys.stderr)
        if row == "append":
            append()
        # Each run begins with another tool.
        turn = number % len(tools)
        for tool in tools[turn:] + tools[:turn]:
            if tool.name in failed:
                continue
            try:
                results[tool.name].append(once(tool, row))
            except Failed as error:
                failed[tool.name] = page.failed(f"{tool.name}, {title}", error)

    found = {}
    for name, all_of_it in results.items():
        found[name] = failed.get(name) or medians(all_of_it)
    return found


def csb(env):
    anew = 'rm -rf "$CSB_HOME"'
    search = 'csb-search "$WORD"'
    return Tool(
        "csb", env, "csb/git", {
            "store": "csb-changes | csb-gitcommit",
            "backup": "csb backup",
            "quiet": "csb backup --quiet",
            "list": "csb-list -n 20",
            "restore": 'csb-restore --target-dir "$TARGET" "$ID"',
            "rebuild": "csb-index --rebuild",
            "text": search,
            "search": search,
        },
        version="csb-backup --version",
        before={
            "store": anew,
            "first": anew,
            "restore": EMPTY,
            "text": 'rm -f "$CSB_HOME"/search.db*',
            "search": search,
        },
        after={"restore": SAME})


def git(env):
    """git add && git commit, in a repository outside of the Claude directory."""
    backup = f"{GIT} add -A && {GIT} commit -q --allow-empty -m x"
    archive = f'{GIT} archive HEAD -- "$BIG" "${{BIG%.jsonl}}"'
    anew = (
        'rm -rf "$TOP/peer" && git init -q --bare "$TOP/peer" && '
        'git --git-dir="$TOP/peer" config core.bare false')
    return Tool(
        "git", env, "peer", {
            "backup": backup,
            "store": backup,
            "restore": f'{archive} | tar -x -C "$TARGET"',
        },
        version="git --version",
        before={"store": anew, "first": anew, "restore": EMPTY},
        after={"restore": SAME})


def claude_session_backup(env):
    """In a home of its own: it works in a repository that is the Claude directory."""
    top = env["TOP"]
    home = os.path.join(top, "rival")
    venv = os.path.join(top, "venv")
    install_from_pip(env, venv, "claude-session-backup")
    env = dict(env)
    env["HOME"] = home
    env["CLAUDE_CONFIG_DIR"] = os.path.join(home, ".claude")
    env["PATH"] = os.pathsep.join([os.path.join(venv, "bin"), "/usr/bin", "/bin"])
    del env["CSB_HOME"]
    os.mkdir(home)
    return Tool(
        "claude-session-backup", env, "rival/.claude/.git", {
            "backup": "csb backup",
            "quiet": "csb backup --quiet",
            "list": "csb list -n 20",
            "restore": 'csb restore --force "$ID"',
            "rebuild": "csb update rebuild-index",
            "text": "csb update build-fts5",
            "search": 'csb search "$WORD"',
        },
        version="csb --version",
        before={
            "first": "cd .claude && rm -rf .git* csb-fts session-backup.db* && "
                     "git init -q",
            "restore": 'cd .claude && rm -rf "$BIG" "${BIG%.jsonl}"',
            "text": "rm -rf .claude/csb-fts",
        },
        after={"restore": 'cmp "$HOME/.claude/$BIG" "$TOP/claude/$BIG"'})


def install_from_pip(env, venv, package):
    """Make a virtual environment with a package in it."""
    python = os.path.join(env["TOP"], "python", "python3")
    pip = [os.path.join(venv, "bin", "python"), "-m", "pip", "install", "-q"]
    where = os.environ | {"HOME": env["HOME"], "PIP_NO_INPUT": "1"}
    for command in ([python, "-m", "venv", venv], [*pip, package]):
        done = subprocess.run(
            command, env=where, capture_output=True, timeout=300,
            stdin=subprocess.DEVNULL)
        if done.returncode:
            raise Failed(
                "cannot be installed: pip or venv does not work here, or reaches no "
                "registry")


def restic(env):
    env = env | {
        "RESTIC_REPOSITORY": os.path.join(env["TOP"], "restic"),
        "RESTIC_CACHE_DIR": os.path.join(env["TOP"], "restic-cache"),
        "RESTIC_PASSWORD": "x",
    }
    anew = 'rm -rf "$RESTIC_REPOSITORY" "$RESTIC_CACHE_DIR" && restic init -q'
    return Tool(
        "restic", env, "restic", {
            "backup": 'restic backup -q "$CLAUDE_CONFIG_DIR"',
            "restore": 'restic restore latest -q --target "$TARGET" '
                       '--include "$CLAUDE_CONFIG_DIR/$BIG" '
                       '--include "$CLAUDE_CONFIG_DIR/${BIG%.jsonl}"',
        },
        version="restic version",
        before={"first": anew, "restore": EMPTY},
        after={"restore": SAME})


def borg(env):
    env = env | {
        "BORG_REPO": os.path.join(env["TOP"], "borg"),
        "BORG_BASE_DIR": os.path.join(env["TOP"], "borg-base"),
        "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
    }
    anew = 'rm -rf "$BORG_REPO" "$BORG_BASE_DIR" && borg init -e none'
    return Tool(
        "borg", env, "borg", {
            "backup": 'now=$(date +%s%N) && '
                      'borg create "::$now" "$CLAUDE_CONFIG_DIR" && '
                      'echo "$now" >"$TOP/borg-last"',
            "restore": 'cd "$TARGET" && in=${CLAUDE_CONFIG_DIR#/}/$BIG && '
                       'borg extract "::$(cat "$TOP/borg-last")" '
                       '"$in" "${in%.jsonl}"',
        },
        version="borg --version",
        before={"first": anew, "restore": EMPTY},
        after={"restore": SAME})


MAKE = {
    "git": git,
    "claude-session-backup": claude_session_backup,
    "restic": restic,
    "borg": borg,
}


def look_for(name, install):
    """Failed unless a command is here, or (with install) can be had from Debian."""
    if shutil.which(name):
        return
    if not install:
        raise Failed("is not on PATH (--install asks apt-get for it)")
    words = ["apt-get", "install", "-y", "-q", "--no-install-recommends"]
    subprocess.run(
        [*words, PACKAGES[name]], check=False,
        env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if not shutil.which(name):
        raise Failed("apt-get could not install it")


def peers(env, names, install):
    """(the peers that can be had, why the others cannot: a list of texts)."""
    here = []
    reasons = []
    for name in names:
        try:
            if name in PACKAGES:
                look_for(name, install)
            here.append(MAKE[name](env))
        except Failed as error:
            reasons.append(f"{name} was left out: {error}")
        except (OSError, subprocess.SubprocessError):
            reasons.append(f"{name} was left out: cannot be installed")
    return here, reasons
