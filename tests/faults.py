"""Faults in the system calls of a tool and of the git that it runs, one by one.

    marks = trace(box, words, given)            what a sound run writes, and how
    for case in cases(marks):                   every call, every fault
        box.fresh(); done = box.run(words, given, case)

A case names where (the main process, one git, or all), the call, which of its
occurrences in each process, and the fault: KILL, or an error, once, some times in a row
or for ever after. Occurrences are counted in each process by itself, so that in "all"
the Nth of every process is hit. strace does it.
"""
import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections import namedtuple
from types import SimpleNamespace

# where: "main", "all", or the number of a git; times: "once", "row" or "ever".
Case = namedtuple("Case", "where call number fault times")
# process: "main", or its id; git: its number if it is a git, else None.
Mark = namedtuple("Mark", "process git call number")
# hit: did it come to its fault?
Done = namedtuple("Done", "rc out err hit")
# Calls that write; one that the machine has not is left out by a "?" before it.
CALLS = (
    "openat", "write", "pwrite64", "fsync", "fdatasync", "rename", "renameat",
    "renameat2", "link", "linkat", "unlink", "unlinkat", "rmdir", "symlink",
    "symlinkat", "mkdir", "mkdirat", "ftruncate", "chmod", "fchmod", "fchmodat",
    "utimensat", "flock")
ERRORS = ("ENOSPC", "EIO", "EDQUOT")
ROW = 20        # so often in a row comes EINTR: no program can live with it for ever
HANGS = 30      # seconds: what has not ended by then never ends, however busy we are
# Of many occurrences of one call some are tried.
FIRST, BETWEEN, LAST = 8, 12, 4
# The names of what a run may leave behind: of ours, and of git's.
OURS = re.compile(
    r"(^|/)(\.csb-tmp-|csb\.repair\.\d+|git\.\d+\.tmp|fast_import_crash_)")
GITS = re.compile(r"(^|/)tmp_(obj|pack|idx|rev)_|\.lock$|-journal$")
SHIM = """#!/bin/sh
number=$(($(cat '{folder}/count' 2>/dev/null || echo 0) + 1))
echo $number >'{folder}/count'
[ $number = '{which}' ] || exec '{git}' "$@"
exec {strace} '{git}' "$@"
"""


def missing(folder):
    """Why there can be no faults here, or None."""
    if not shutil.which("strace"):
        return "no strace here"
    words = [
        "strace", "-f", "--seccomp-bpf", "-o", f"{folder}/try", "-e", "trace=write",
        "-e", "inject=write:error=EIO:when=1..2", "true"]
    if subprocess.run(words, stderr=subprocess.DEVNULL).returncode:
        return "strace may not trace here, or is too old"
    return None


def end_all(pid):
    """Kill a process and all that descends from it: stages lead groups of their own."""
    children = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat") as file:
                parent = file.read().rpartition(")")[2].split()[1]
                children.setdefault(int(parent), []).append(int(name))
    family = [pid]
    for one in family:      # it grows meanwhile
        family += children.get(one, [])
    for one in family:
        with contextlib.suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)


class Box:
    """A home, prepared once and made afresh, at the same path, for every case."""

    def __init__(self, folder, home, tools):
        self.folder = str(folder)
        self.home = str(home.path)
        self.claude = str(home.claude)
        self.backup = str(home.backup)
        self.env = dict(home.env)
        self.tools = tools
        self.log = f"{folder}/strace.log"
        self.kept = f"{folder}/prepared"

    def keep(self):
        """The home is prepared: what it is now is what fresh() brings back."""
        subprocess.run(["cp", "-a", self.home, self.kept], check=True)

    def fresh(self):
        """The home as it was prepared, bytes, modes and times."""
        shutil.rmtree(self.home)
        subprocess.run(["cp", "-a", self.kept, self.home], check=True)

    def command(self, words):
        """A tool's command line, on the interpreter itself."""
        name, *rest = words
        return [self.tools.python, "-I", f"{self.tools.bin}/{name}", *rest]

    def tool(self, *words, given=b""):
        """Run a tool without a fault; Done."""
        return self.start(self.command(words), given, self.env)

    def start(self, words, given, env):
        """Run a command; one that hangs is ended with all that it started, as 124."""
        pipe = subprocess.PIPE
        with subprocess.Popen(
                words, stdin=pipe, stdout=pipe, stderr=pipe, env=env, cwd=self.home,
                start_new_session=True) as process:
            try:
                out, err = process.communicate(given, timeout=HANGS)
            except subprocess.TimeoutExpired:
                end_all(process.pid)
                out, err = process.communicate()
                return Done(124, out, "", None)
        return Done(process.returncode, out, err.decode(errors="replace"), None)

    def run(self, words, given, case):
        """Run a tool with one fault; .hit says whether it came to it."""
        if os.path.exists(self.log):
            os.unlink(self.log)
        strace = self.strace(case)
        command = self.command(words)
        env = dict(self.env)
        if case.where == "main":
            command = [*strace, *command]
        elif case.where == "all":
            strace.append("-f")
            if case.fault != "KILL":    # it is faster, but injects no signal
                strace.append("--seccomp-bpf")
            command = [*strace, *command]
        else:
            env["PATH"] = f"{self.shim(case.where, strace)}:{env['PATH']}"
        done = self.start(command, given, env)
        log = ""
        if os.path.exists(self.log):
            with open(self.log, errors="replace") as file:
                log = file.read()
        return done._replace(hit="INJECTED" in log or "killed by SIGKILL" in log)

    def strace(self, case):
        """The command that injects a fault into what follows it."""
        fault = f"error={case.fault}"
        if case.fault == "KILL":
            fault = "signal=KILL"
        when = str(case.number)
        if case.times == "row":
            when += f"..{case.number + ROW - 1}"
        elif case.times == "ever":
            when += "+"
        return [
            "strace", "-o", self.log, "-e", f"trace={case.call}",
            "-e", f"inject={case.call}:{fault}:when={when}"]

    def shim(self, which, strace):
        """A folder with a git that puts one git of a run, by number, under strace."""
        folder = os.path.join(self.folder, "shim")
        shutil.rmtree(folder, ignore_errors=True)
        os.mkdir(folder)
        words = " ".join(f"'{word}'" for word in [*strace, "-f", "--seccomp-bpf"])
        git = shutil.which("git", path=self.env["PATH"])
        text = SHIM.format(folder=folder, which=which, git=git, strace=words)
        with open(f"{folder}/git", "w") as file:
            file.write(text)
        os.chmod(f"{folder}/git", 0o755)
        return folder


def joined(lines):
    """(process, line) of a strace log; a call that was interrupted is in one line."""
    begun = {}
    for line in lines:
        process, _, line = line.partition(" ")
        line = line.strip()
        if line.endswith("<unfinished ...>"):
            begun[process] = line.removesuffix("<unfinished ...>").rstrip()
            continue
        rest = re.match(r"<\.\.\. \w+ resumed>\s*(.*)", line)
        if rest:
            line = begun.pop(process, "") + rest[1]
        yield process, line


def writes(call, text):
    """Is a call one that writes? What opens to read, or the null device, is not."""
    if call != "openat":
        return True
    return bool(re.search(r"O_(CREAT|WRONLY|RDWR)", text)) and '"/dev/' not in text


def trace(box, words, given):
    """The Marks of a sound run, one for each call that writes."""
    names = ",".join(f"?{name}" for name in (*CALLS, "execve"))
    done = box.start(
        ["strace", "-f", "--seccomp-bpf", "-o", box.log, "-e", f"trace={names}",
         *box.command(words)], given, box.env)
    assert done.rc == 0, done

    main = None
    gits = {}       # {process: its number among the gits}
    counts = {}     # {(process, call): how many there were}
    marks = []
    with open(box.log, errors="replace") as file:
        for process, line in joined(file):
            main = main or process
            found = re.match(r"(\w+)\((.*)", line)
            if not found:
                continue
            call, text = found.groups()
            if call == "execve":
                if re.match(r'"[^"]*/bin/git", ', text) and text.endswith("= 0"):
                    gits[process] = len(gits) + 1
                continue
            number = counts.get((process, call), 0) + 1
            counts[process, call] = number
            if writes(call, text):
                where = "main" if process == main else process
                marks.append(Mark(where, gits.get(process), call, number))
    return marks


def thinned(numbers):
    """Of many occurrences the first and last ones, and some between."""
    numbers = sorted(numbers)
    if len(numbers) <= FIRST + BETWEEN + LAST:
        return numbers
    step = (len(numbers) - FIRST - LAST) / BETWEEN
    between = [numbers[FIRST + int(n * step)] for n in range(BETWEEN)]
    return numbers[:FIRST] + between + numbers[-LAST:]


def cases(marks, parallel=False):
    """Every call of the marks with every fault.

    An error of openat is injected in one process alone, for the same number would hit
    another program while it is loaded; where gits run side by side (parallel) in the
    main one only.
    """
    points = {}
    for mark in marks:
        places = ["all"]
        if mark.call == "openat" and mark.process == "main":
            places.append("main")
        elif mark.call == "openat" and mark.git and not parallel:
            places.append(mark.git)
        for where in places:
            points.setdefault((where, mark.call), set()).add(mark.number)

    found = []
    for (where, call), numbers in sorted(points.items(), key=str):
        for number in thinned(numbers):
            if where == "all":
                found.append(Case(where, call, number, "KILL", "once"))
            if where == "all" and call == "openat":
                continue
            for error in ERRORS:
                found.append(Case(where, call, number, error, "once"))
                found.append(Case(where, call, number, error, "ever"))
            found.append(Case(where, call, number, "EINTR", "once"))
            found.append(Case(where, call, number, "EINTR", "row"))
    return found


def tally(ran):
    """How many cases there were and how many came to their fault, as a figure.

    ran: (Case, Done) of each.
    """
    kinds = dict.fromkeys(("KILL", *ERRORS, "EINTR"), 0)
    for case, done in ran:
        if done.hit:
            kinds[case.fault] += 1
    each = ", ".join(f"{kind} {count}" for kind, count in kinds.items())
    return f"{len(ran)} cases, {sum(kinds.values())} met: {each}"


def left_over(before, after):
    """The names that a run added: .ours, .git (git's own), .rest."""
    new = SimpleNamespace(ours=[], git=[], rest=[])
    for path in sorted(after.keys() - before.keys()):
        if OURS.search(path):
            new.ours.append(path)
        elif GITS.search(path):
            new.git.append(path)
        else:
            new.rest.append(path)
    return new
