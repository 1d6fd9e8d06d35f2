"""what tests/bench measures, and how: csb, the tools that could be used instead, a shell line

A tool is a name, a version, an environment, the directory that holds what it stores (store), its
Claude directory (claude), and shell lines: what is measured (lines), and what runs before and after
it without being measured (before, after). They are found on PATH; claude-session-backup is
installed with pip into the temporary directory.
"""
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from types import SimpleNamespace

ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
FORM = os.path.join(ROOT, os.environ.get("CSB_BIN", "bin"))
SYSTEM = "/usr/bin/python3"
CORPUS = [sys.executable, os.path.join(ROOT, "tests", "corpus.py")]
FRESH = 3       # seconds: files that were written just now are read again by rule
PEERS = ("git", "claude-session-backup", "restic", "borg")
GIT = 'git --git-dir="$TOP/peer" --work-tree="$CLAUDE_CONFIG_DIR"'
EMPTY = 'rm -rf "$TARGET" && mkdir "$TARGET"'
SAME = 'cmp "$(find "$TARGET" -name "$ID.jsonl")" "$CLAUDE_CONFIG_DIR/$BIG"'
ROWS = {    # the row, what it is called, the line of the tool, what csb is to need at most
    "store": ("first backup, without the index", "store", None),
    "first": ("first backup", "backup", 3.0),
    "noop": ("no-op backup", "backup", 0.15),
    "quiet": ("no-op backup, as hooks run it", "quiet", 0.15),
    "append": ("backup after 10 KB more in the largest", "backup", 0.4),
    "list": ("list of 20 sessions", "list", 0.05),
    "restore": ("restore of the largest session", "restore", 0.4),
    "rebuild": ("rebuild of the index", "rebuild", 2.0),
    "text": ("first index of all text", "text", 5.0),
    "search": ("search, index warm", "search", 0.08)}


class Failed(Exception):
    """A step did not do what it should; the text says which and why."""


def interpreter():
    """The Python that is measured: CSB_PYTHON, else the system's as for users, else ours."""
    test = "import sqlite3, sys; sys.exit(sys.version_info < (3, 10))"
    good = os.path.exists(SYSTEM) and not subprocess.run([SYSTEM, "-I", "-c", test]).returncode
    return os.environ.get("CSB_PYTHON") or (SYSTEM if good else os.path.realpath(sys.executable))


def environment(top, python):
    """The environment of a machine that has nothing but the tools, and a short PATH."""
    folder = os.path.join(top, "python")
    os.mkdir(folder)
    os.mkdir(os.path.join(top, "home"))
    os.symlink(python, os.path.join(folder, "python3"))
    found = [os.path.dirname(shutil.which(name) or SYSTEM) for name in ("git", "restic", "borg")]
    path = dict.fromkeys([FORM, folder, "/usr/bin", "/bin", *found])
    return {"HOME": os.path.join(top, "home"), "TOP": top, "LC_ALL": "C", "TZ": "UTC",
            "TMPDIR": top, "TARGET": os.path.join(top, "target"), "PATH": os.pathsep.join(path),
            "CLAUDE_CONFIG_DIR": os.path.join(top, "claude"), "CSB_HOME": os.path.join(top, "csb"),
            "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull,
            # What git would do after its end is work too.
            "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "gc.autoDetach",
            "GIT_CONFIG_VALUE_0": "false", "GIT_AUTHOR_NAME": "x", "GIT_AUTHOR_EMAIL": "x",
            "GIT_COMMITTER_NAME": "x", "GIT_COMMITTER_EMAIL": "x"}


def moved():
    """(bytes read, bytes written) by this process and those that it has waited for, or zeros."""
    try:
        with open("/proc/self/io") as file:
            lines = dict(line.split(": ") for line in file)
        return int(lines["rchar"]), int(lines["wchar"])
    except (OSError, KeyError, ValueError):
        return 0, 0


def measure(env, line):
    """Run a shell line, which has to succeed: seconds, CPU seconds, peak MB, bytes read, written.

    CPU and bytes are those of all processes, the peak is that of the largest one.
    """
    with open(os.path.join(env["TOP"], "said"), "w+b") as said:
        before, start = moved(), time.perf_counter()
        shell = subprocess.Popen(["sh", "-c", line], env=env, cwd=env["HOME"], stdout=said,
                                 stderr=said, stdin=subprocess.DEVNULL)
        _, status, usage = os.wait4(shell.pid, 0)
        seconds, after = time.perf_counter() - start, moved()
        shell.returncode = os.waitstatus_to_exitcode(status)
        said.seek(max(0, said.seek(0, 2) - 2000))
        words = said.read().decode(errors="replace").replace(env["TOP"], "TOP").split("\n")
    if shell.returncode:
        text = next((word for word in reversed(words) if word.strip()), "")
        raise Failed(f"status {shell.returncode}: {text.strip()[:300]}")
    peak = usage.ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
    return SimpleNamespace(seconds=seconds, cpu=usage.ru_utime + usage.ru_stime, peak=peak,
                           read=after[0] - before[0], wrote=after[1] - before[1], said=words)


def size(path):
    """The sum of the sizes of the files below path, in bytes."""
    return sum(os.lstat(os.path.join(folder, name)).st_size
               for folder, _, names in os.walk(path) for name in names)


def amount(count):
    """Bytes for people."""
    for unit, power in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if abs(count) >= power:
            return f"{count / power:.1f} {unit}"
    return f"{count:.0f} B"


def medians(results):
    """{what: median} over results of measure()."""
    return {what: statistics.median(getattr(result, what) for result in results)
            for what in vars(results[0]) if what != "said"}


def corpus(out, args):
    """Make a corpus; (its largest transcript, relative to it, number of files)."""
    words = [f"--{name.replace('_', '-')}={value}" for name, value in args.items()]
    done = subprocess.run([*CORPUS, "--out", out, *words], check=True, capture_output=True)
    return json.loads(done.stdout)["big"], sum(len(names) for _, _, names in os.walk(out))


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
        subprocess.run([*CORPUS, "--append", first, "10000", "--seed", str(1000 + self.count)],
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
    result = measure(tool.env, tool.lines[ROWS[row][1]])
    result.growth = size(tool.store) - before
    if row in tool.after:
        measure(tool.env, tool.after[row])
    return result


def in_turn(page, tools, row, runs, append):
    """{name of the tool: medians, or the word failed} of a row, the tools one after the other."""
    tools = [tool for tool in tools if ROWS[row][1] in tool.lines]
    results, failed = {tool.name: [] for tool in tools}, {}
    for number in range(runs):
        if sys.stderr.isatty():
            print(f"bench: {ROWS[row][0]}, {number + 1} of {runs}", file=sys.stderr)
        if row == "append":
            append()
        turn = number % len(tools)
        for tool in tools[turn:] + tools[:turn]:
            if tool.name not in failed:
                try:
                    results[tool.name].append(once(tool, row))
                except Failed as error:
                    failed[tool.name] = page.failed(f"{tool.name}, {ROWS[row][0]}", error)
    return {name: failed.get(name) or medians(all_of) for name, all_of in results.items()}


def number(env, line):
    """The version number that a line prints."""
    found = re.search(r"\d+\.\d[\w.]*", " ".join(measure(env, line).said))
    return found[0].rstrip(".") if found else "?"


def tool(name, env, store, lines, before=None, after=None, version=""):
    return SimpleNamespace(name=name, env=env, store=os.path.join(env["TOP"], store), lines=lines,
                           claude=env["CLAUDE_CONFIG_DIR"], before=before or {}, after=after or {},
                           version=version)


def csb(env):
    return tool("csb", env, "csb/git", {
        "backup": "csb backup", "quiet": "csb backup --quiet", "list": "csb-list -n 20",
        "store": "csb-changes | csb-gitcommit",
        "restore": 'csb-restore --target-dir "$TARGET" "$ID"', "rebuild": "csb-index --rebuild",
        "text": 'csb-search "$WORD"', "search": 'csb-search "$WORD"'},
        {"store": 'rm -rf "$CSB_HOME"', "first": 'rm -rf "$CSB_HOME"', "restore": EMPTY,
         "text": 'rm -f "$CSB_HOME"/search.db*', "search": 'csb-search "$WORD"'},
        {"restore": SAME}, number(env, "csb-backup --version"))


def git(env, install):
    """git add && git commit, in a repository outside of the Claude directory."""
    backup = f"{GIT} add -A && {GIT} commit -q --allow-empty -m x"
    anew = ('rm -rf "$TOP/peer" && git init -q --bare "$TOP/peer" && '
            'git --git-dir="$TOP/peer" config core.bare false')
    return tool("git", env, "peer", {
        "backup": backup, "store": backup,
        "restore": f'{GIT} archive HEAD -- "$BIG" "${{BIG%.jsonl}}" | tar -x -C "$TARGET"'},
        {"store": anew, "first": anew, "restore": EMPTY},
        {"restore": SAME}, number(env, "git --version"))


def claude_session_backup(env, install):
    """In a home of its own: it works in a repository that is the Claude directory."""
    home, venv = os.path.join(env["TOP"], "rival"), os.path.join(env["TOP"], "venv")
    python = os.path.join(env["TOP"], "python", "python3")
    pip = [os.path.join(venv, "bin", "python"), "-m", "pip", "install", "-q"]
    where = os.environ | {"HOME": env["HOME"], "PIP_NO_INPUT": "1"}
    for command in ([python, "-m", "venv", venv], [*pip, "claude-session-backup"]):
        done = subprocess.run(command, env=where, capture_output=True, timeout=300,
                              stdin=subprocess.DEVNULL)
        if done.returncode:
            raise Failed("cannot be installed: pip or venv does not work here, or reaches no "
                         "registry")
    env = env | {"HOME": home, "CLAUDE_CONFIG_DIR": os.path.join(home, ".claude"),
                 "PATH": os.pathsep.join([os.path.join(venv, "bin"), "/usr/bin", "/bin"])}
    del env["CSB_HOME"]
    os.mkdir(home)
    return tool("claude-session-backup", env, "rival/.claude/.git", {
        "backup": "csb backup", "quiet": "csb backup --quiet", "list": "csb list -n 20",
        "restore": 'csb restore --force "$ID"', "rebuild": "csb update rebuild-index",
        "text": "csb update build-fts5", "search": 'csb search "$WORD"'},
        {"first": "cd .claude && rm -rf .git* csb-fts session-backup.db* && git init -q",
         "restore": 'cd .claude && rm -rf "$BIG" "${BIG%.jsonl}"',
         "text": "rm -rf .claude/csb-fts"},
        {"restore": 'cmp "$HOME/.claude/$BIG" "$TOP/claude/$BIG"'}, number(env, "csb --version"))


def restic(env, install):
    env = env | {"RESTIC_REPOSITORY": os.path.join(env["TOP"], "restic"), "RESTIC_PASSWORD": "x",
                 "RESTIC_CACHE_DIR": os.path.join(env["TOP"], "restic-cache")}
    found("restic", "restic", install)
    return tool("restic", env, "restic", {
        "backup": 'restic backup -q "$CLAUDE_CONFIG_DIR"',
        "restore": 'restic restore latest -q --target "$TARGET" --include '
                   '"$CLAUDE_CONFIG_DIR/$BIG" --include "$CLAUDE_CONFIG_DIR/${BIG%.jsonl}"'},
        {"first": 'rm -rf "$RESTIC_REPOSITORY" "$RESTIC_CACHE_DIR" && restic init -q',
         "restore": EMPTY}, {"restore": SAME}, number(env, "restic version"))


def borg(env, install):
    env = env | {"BORG_REPO": os.path.join(env["TOP"], "borg"),
                 "BORG_BASE_DIR": os.path.join(env["TOP"], "borg-base"),
                 "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes"}
    found("borg", "borgbackup", install)
    return tool("borg", env, "borg", {
        "backup": 'now=$(date +%s%N) && borg create "::$now" "$CLAUDE_CONFIG_DIR" && '
                  'echo "$now" >"$TOP/borg-last"',
        "restore": 'cd "$TARGET" && in=${CLAUDE_CONFIG_DIR#/}/$BIG && '
                   'borg extract "::$(cat "$TOP/borg-last")" "$in" "${in%.jsonl}"'},
        {"first": 'rm -rf "$BORG_REPO" "$BORG_BASE_DIR" && borg init -e none', "restore": EMPTY},
        {"restore": SAME}, number(env, "borg --version"))


def found(name, package, install):
    """Failed unless the command name is here, or (with install) can be had from Debian."""
    if not shutil.which(name) and install:
        subprocess.run(["apt-get", "install", "-y", "-q", "--no-install-recommends", package],
                       env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"}, check=False,
                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
    if not shutil.which(name):
        raise Failed("apt-get could not install it" if install else
                     "is not on PATH (--install asks apt-get for it)")


def peers(env, names, install):
    """(the peers that can be had, why the others cannot: a list of texts)."""
    make = {"git": git, "claude-session-backup": claude_session_backup, "restic": restic,
            "borg": borg}
    here, reasons = [], []
    for name in names:
        try:
            here.append(make[name](env, install))
        except (Failed, OSError, subprocess.SubprocessError) as error:
            text = str(error) if isinstance(error, Failed) else "cannot be installed"
            reasons.append(f"{name} was left out: {text}")
    return here, reasons
