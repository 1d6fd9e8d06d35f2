"""Faults in the system calls of a tool and of the git that it runs, one by one, with strace.

    marks = trace(box, words, given)            what a sound run writes, and how
    for case in cases(marks):                   every call, every fault
        box.fresh(); done = box.run(words, given, case)

A case names where (the main process, one git, or all), the call, which of its occurrences in each
process, and the fault: KILL, or an error, once, some times in a row or for ever after. Occurrences
are counted in each process by itself, so that in "all" the Nth of every process is hit.
"""
import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections import namedtuple
from types import SimpleNamespace

Case = namedtuple("Case", "where call number fault times")
Mark = namedtuple("Mark", "process git call number")
Done = namedtuple("Done", "rc out err hit")
# Calls that write, as strace groups them; one that the machine has not is left out by "?".
CALLS = ("openat", "write", "pwrite64", "fsync", "fdatasync", "rename", "renameat", "renameat2",
         "link", "linkat", "unlink", "unlinkat", "rmdir", "symlink", "symlinkat", "mkdir",
         "mkdirat", "ftruncate", "chmod", "fchmod", "fchmodat", "utimensat", "flock")
ERRORS = "ENOSPC", "EIO", "EDQUOT"
ROW = 20        # so often in a row EINTR is injected: no program can live with it for ever
HANGS = 30      # seconds: what has not ended by then never ends, on a busy machine either
MOST = 24       # occurrences of one call: the first and last ones, and some between
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
    words = ["strace", "-f", "--seccomp-bpf", "-o", f"{folder}/try", "-e", "trace=write",
             "-e", "inject=write:error=EIO:when=1..2", "true"]
    if subprocess.run(words, stderr=subprocess.DEVNULL).returncode:
        return "strace may not trace here, or is too old"
    return None


def end_all(pid):
    """Kill a process and all that descends from it: stages lead groups of their own."""
    pairs, family = [], {pid}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{name}/stat") as file:
            pairs.append((int(name), int(file.read().rpartition(")")[2].split()[1])))
    while new := {child for child, parent in pairs if parent in family} - family:
        family |= new
    for one in family:
        with contextlib.suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)


class Box:
    """A home that is prepared once and made afresh, at the same path, for every case."""

    def __init__(self, folder, home, tools):
        self.folder, self.home, self.tools = str(folder), str(home.path), tools
        self.env, self.claude, self.backup = dict(home.env), str(home.claude), str(home.backup)
        self.log, self.kept = f"{folder}/strace.log", f"{folder}/prepared"

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
        """Run a command; one that hangs is ended, with all that it started: status 124."""
        with subprocess.Popen(words, stdin=-1, stdout=-1, stderr=-1, env=env, cwd=self.home,
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
        fault = "signal=KILL" if case.fault == "KILL" else f"error={case.fault}"
        when = {"once": "", "row": f"..{case.number + ROW - 1}", "ever": "+"}[case.times]
        inject = f"inject={case.call}:{fault}:when={case.number}{when}"
        strace = ["strace", "-o", self.log, "-e", f"trace={case.call}", "-e", inject]
        command, env = self.command(words), dict(self.env)
        if case.where == "all":     # with --seccomp-bpf, which is faster, no signal is injected
            fast = [] if case.fault == "KILL" else ["--seccomp-bpf"]
            command = [*strace, "-f", *fast, *command]
        elif case.where == "main":
            command = [*strace, *command]
        else:
            env["PATH"] = f"{self.shim(case.where, strace)}:{env['PATH']}"
        done = self.start(command, given, env)
        log = ""
        if os.path.exists(self.log):
            with open(self.log, errors="replace") as file:
                log = file.read()
        return done._replace(hit="INJECTED" in log or "killed by SIGKILL" in log)

    def shim(self, which, strace):
        """A directory with a git that puts one of the gits of a run, by number, under strace."""
        folder = os.path.join(self.folder, "shim")
        shutil.rmtree(folder, ignore_errors=True)
        os.mkdir(folder)
        words = " ".join(f"'{word}'" for word in [*strace, "-f", "--seccomp-bpf"])
        git = shutil.which("git", path=self.env["PATH"])
        with open(f"{folder}/git", "w") as file:
            file.write(SHIM.format(folder=folder, which=which, git=git, strace=words))
        os.chmod(f"{folder}/git", 0o755)
        return folder


def joined(lines):
    """(process, line) of a strace log, with the calls that were interrupted in one line."""
    begun = {}
    for line in lines:
        process, _, line = line.partition(" ")
        line = line.strip()
        if line.endswith("<unfinished ...>"):
            begun[process] = line.removesuffix("<unfinished ...>").rstrip()
            continue
        if rest := re.match(r"<\.\.\. \w+ resumed>\s*(.*)", line):
            line = begun.pop(process, "") + rest[1]
        yield process, line


def writes(call, text):
    """Is a call one that writes? What only opens to read, or the null device, is not."""
    if call != "openat":
        return True
    return bool(re.search(r"O_(CREAT|WRONLY|RDWR)", text)) and '"/dev/' not in text


def trace(box, words, given):
    """The Marks of a sound run, one for each call that writes."""
    names = ",".join(f"?{name}" for name in (*CALLS, "execve"))
    command = ["strace", "-f", "--seccomp-bpf", "-o", box.log, "-e", f"trace={names}",
               *box.command(words)]
    done = box.start(command, given, box.env)
    assert done.rc == 0, done
    main, gits, counts, marks = None, {}, {}, []
    with open(box.log, errors="replace") as file:
        for process, line in joined(file):
            main = main or process
            if not (found := re.match(r"(\w+)\((.*)", line)):
                continue
            call, text = found.groups()
            if call == "execve":
                if re.match(r'"[^"]*/bin/git", ', text) and re.search(r"= 0$", text):
                    gits[process] = len(gits) + 1
                continue
            counts[process, call] = number = counts.get((process, call), 0) + 1
            if writes(call, text):
                marks.append(Mark("main" if process == main else process, gits.get(process), call,
                                  number))
    return marks


def thinned(numbers):
    """At most MOST of many occurrences."""
    numbers = sorted(numbers)
    if len(numbers) <= MOST:
        return numbers
    step = (len(numbers) - 12) / (MOST - 12)
    return numbers[:8] + [numbers[8 + int(n * step)] for n in range(MOST - 12)] + numbers[-4:]


def cases(marks, parallel=False):
    """Every call of the marks with every fault.

    An error of openat is injected in one process alone, for the same number would hit another
    program while it is loaded; where gits run side by side (parallel) in the main one only.
    """
    points = {}
    for mark in marks:
        points.setdefault(("all", mark.call), set()).add(mark.number)
        if mark.call == "openat" and mark.process == "main":
            points.setdefault(("main", mark.call), set()).add(mark.number)
        elif mark.call == "openat" and mark.git and not parallel:
            points.setdefault((mark.git, mark.call), set()).add(mark.number)
    found = []
    for (where, call), numbers in sorted(points.items(), key=str):
        for number in thinned(numbers):
            if where == "all":
                found.append(Case(where, call, number, "KILL", "once"))
            if where != "all" or call != "openat":
                found += [Case(where, call, number, error, times)
                          for error in ERRORS for times in ("once", "ever")]
                found += [Case(where, call, number, "EINTR", times) for times in ("once", "row")]
    return found


def tally(ran):
    """How many cases there were and how many came to their fault, as a figure."""
    hit = [case for case, done in ran if done.hit]
    kinds = {"KILL": 0, "ENOSPC": 0, "EIO": 0, "EDQUOT": 0, "EINTR": 0}
    for case in hit:
        kinds[case.fault] += 1
    return f"{len(ran)} cases, {len(hit)} met: " + ", ".join(
        f"{kind} {count}" for kind, count in kinds.items())


def left_over(before, after):
    """The names that a run added, sorted into ours and others: (ours, git's own, the rest)."""
    ours = re.compile(r"(^|/)(\.csb-tmp-|csb\.repair\.\d+|git\.\d+\.tmp|fast_import_crash_)")
    gits = re.compile(r"(^|/)tmp_(obj|pack|idx|rev)_|\.lock$|-journal$")
    new = SimpleNamespace(ours=[], git=[], rest=[])
    for path in sorted(after.keys() - before.keys()):
        (new.ours if ours.search(path) else new.git if gits.search(path) else new.rest).append(path)
    return new
