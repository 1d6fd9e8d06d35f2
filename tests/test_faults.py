"""Every tool that writes, killed or refused at each system call that writes.

Whatever happens: nothing that can be seen is corrupt, status 0 means done, any other has its line
on stderr, the next run does it all, and the Claude directory is as it was.
"""
import glob
import gzip
import hashlib
import io
import json
import os
import random
import re
import sqlite3
import subprocess
import tarfile

import faults
import pytest
from conftest import files_below

pytestmark = pytest.mark.logic

SOAK = bool(os.environ.get("CSB_SOAK"))
ONE, TWO = (f"{digit * 8}-2222-4333-8444-555555555555" for digit in "12")
LINE = '{"type":"user","sessionId":"%s","timestamp":"2026-01-01T00:00:0%dZ","uuid":"%d",' \
       '"message":{"role":"user","content":"%s"}}\n'


def put(folder, name, data):
    """Write a file, its directories too."""
    path = os.path.join(folder, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data if isinstance(data, bytes) else data.encode())
    return path


def fill(box):
    """A small Claude directory with one session and what belongs to it."""
    put(box.claude, f"projects/-p/{ONE}.jsonl", LINE % (ONE, 1, 1, "first"))
    put(box.claude, f"projects/-p/{ONE}/subagents/agent-1.jsonl", LINE % (ONE, 2, 2, "agent"))
    put(box.claude, f"file-history/{ONE}/a@v1", b"\0\r\n\xff")
    put(box.claude, "settings.json", '{"cleanupPeriodDays": 9999}\n')
    put(box.claude, "todos/gone.json", "[]")


def grow(box):
    """News for a backup: a transcript that grew, new files, one that is gone."""
    put(box.claude, f"projects/-p/{ONE}.jsonl", LINE % (ONE, 1, 1, "first") + LINE % (
        ONE, 3, 3, "second"))
    put(box.claude, f"projects/-p/{TWO}.jsonl", LINE % (TWO, 4, 4, "another"))
    put(box.claude, "skills/s/SKILL.md", "a skill\n")
    os.unlink(f"{box.claude}/todos/gone.json")


def git(box, *words, given=b""):
    """git in the store: a finished process."""
    return subprocess.run(["git", f"--git-dir={box.backup}/git", *words], input=given, env=box.env,
                          capture_output=True)


def held(box, ref="refs/heads/main"):
    """{path: bytes} that a ref of the store holds."""
    done = git(box, "archive", "--format=tar", ref)
    if done.returncode:
        return {}
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
        return {entry.name: tar.extractfile(entry).read() for entry in tar
                if entry.isfile() and not entry.name.startswith(".csb/")}


def store_faults(box):
    """What is wrong with the store: what refs reach must be whole."""
    if not os.path.isdir(f"{box.backup}/git"):
        return []
    done = git(box, "fsck", "--full", "--strict", "--no-dangling", "--no-progress")
    listed = git(box, "rev-list", "--objects", "--all")
    return [f"git {what}: {one.stderr.decode()}" for what, one in (("fsck", done), (
        "rev-list", listed)) if one.returncode or b"error" in one.stderr]


def index_faults(box):
    """What is wrong with the index, read where it is copied to, journal and all."""
    path = f"{box.backup}/session-backup.db"
    if not os.path.exists(path):
        return []
    copy = f"{box.folder}/copy.db"
    for end in "", "-journal":
        if os.path.exists(copy + end):
            os.unlink(copy + end)
        if os.path.exists(path + end):
            subprocess.run(["cp", path + end, copy + end], check=True)
    db = sqlite3.connect(copy)
    try:
        said = db.execute("PRAGMA integrity_check").fetchall()
        return [] if said == [("ok",)] else [f"index: {said}"]
    except sqlite3.Error as error:
        return [f"index: {error}"]
    finally:
        db.close()


def saw(done, what):
    """[what went wrong] unless a run without fault was status 0."""
    return [] if done.rc == 0 else [f"{what} without a fault: {done.rc} {done.err!r}"]


class Snapshot:
    """session_snapshot and jsonl_snapshot, with an old snapshot to purge."""

    def __init__(self, tool):
        self.words = (tool, "--source", "MEMORY.md", "--dest-dir", "out", "--retain", "1")
        self.end = ".gz" if tool == "jsonl_snapshot" else ""
        self.old, self.new = b"old bytes\n", b"new bytes\n" * 50

    def prepare(self, box):
        put(box.home, "MEMORY.md", self.old)
        shot = json.loads(box.tool(*self.words).out)["path"]
        for path in glob.glob(f"{box.home}/out/*"):
            start, end = os.path.basename(path).split("__")
            os.rename(path, f"{box.home}/out/20200101T000000Z__{end}")
        assert start in shot
        put(box.home, "MEMORY.md", self.new)
        return b""

    def seen(self, box):
        """{path: bytes or None} of the snapshots."""
        found = {}
        for path in glob.glob(f"{box.home}/out/2*{self.end}"):
            if not path.endswith(".sha256"):
                with open(path, "rb") as file:
                    data = file.read()
                try:
                    found[path] = gzip.decompress(data) if self.end else data
                except (OSError, EOFError):
                    found[path] = None
        return found

    def sound(self, box):
        bad, shots = [], self.seen(box)
        for path, data in shots.items():
            if data not in (self.old, self.new):
                bad.append(f"{path} holds {data!r}")
            if self.end and "2020" not in path:
                with open(path[:-3] + ".sha256") as file:
                    text = file.read()
                if hashlib.sha256(data or b"").hexdigest() not in text:
                    bad.append(f"the sidecar of {path} is another's")
        return bad if shots else ["no snapshot is left"]

    def done(self, box, done):
        path = json.loads(done.out)["path"]
        return [] if self.seen(box).get(path) == self.new else [f"{path} is not there"]

    def again(self, box):
        done = box.tool(*self.words)
        return saw(done, "the next run") or self.done(box, done) + self.sound(box)


class Store:
    """A backup into a store: by csb-gitcommit or csb-backup; first: there is none."""

    def __init__(self, *words, first=False):
        self.words, self.first = words, first
        self.parallel = words[0] == "csb-backup"

    def prepare(self, box):
        fill(box)
        changes = box.tool("csb-changes").out
        if not self.first:
            assert box.tool("csb-gitcommit", given=changes).rc == 0
            if self.parallel:
                assert box.tool("csb-backup").rc == 0
            grow(box)
            changes = box.tool("csb-changes").out
        return b"" if self.parallel else changes

    def sound(self, box):
        return store_faults(box) + index_faults(box)

    def done(self, box, done):
        bad = [] if held(box) == files_below(box.claude) else ["the backup was said to be done"]
        return bad + (self.listed(box) if self.parallel else [])

    def listed(self, box):
        """Does the index know what is on disk?"""
        ids = {json.loads(line)["session_id"] for line in box.tool("csb-list").out.splitlines()}
        true = {os.path.basename(path)[:-6]
                for path in glob.glob(f"{box.claude}/projects/*/*.jsonl")}
        return [] if ids == true else [f"the index lists {ids}"]

    def again(self, box):
        if self.parallel:
            done = box.tool("csb-backup", "--wait", "1")
        else:
            changes = box.tool("csb-changes")
            done = box.tool("csb-gitcommit", given=changes.out)
            done = changes if changes.rc else done
        return saw(done, "the next run") or self.sound(box) + [
            "the next run left something out"] * (held(box) != files_below(box.claude)) + (
                self.listed(box) if self.parallel else [])


class Many(Store):
    """The first backup of so many small files that they get a pack."""

    def prepare(self, box):
        for number in range(60):
            put(box.claude, f"tasks/{ONE}/{number}.json", f"{number}" * number)
        return super().prepare(box)


class Mixed(Many):
    """The same beside two large files of a session, all stored at the same time."""

    def prepare(self, box):
        for name in (f"{TWO}.jsonl", f"{TWO}/subagents/agent-1.jsonl"):
            put(box.claude, f"projects/-p/{name}", "".join(
                LINE % (TWO, 5, n, "x" * 900) for n in range(1100)))
        return super().prepare(box)


class Index(Store):
    """csb-find | csb-index, and --rebuild, on an index that is there."""

    def prepare(self, box):
        fill(box)
        assert box.tool("csb-backup").rc == 0
        grow(box)
        return b"" if self.words[1:] else box.tool("csb-find").out

    def done(self, box, done):
        return self.listed(box)

    def again(self, box):
        done = box.tool("csb-index", given=box.tool("csb-find").out)
        return saw(done, "the next run") or self.sound(box) + self.listed(box)


class Restore(Store):
    """csb-restore of a session that is gone."""

    def prepare(self, box):
        fill(box)
        assert box.tool("csb-backup").rc == 0
        self.all = {path: data for path, data in files_below(box.claude).items() if ONE in path}
        for path in self.all:
            self.mtime = os.stat(f"{box.claude}/{path}").st_mtime_ns
            os.unlink(f"{box.claude}/{path}")
        os.removedirs(f"{box.claude}/projects/-p/{ONE}/subagents")
        return b""

    def sound(self, box):
        return store_faults(box) + [
            f"{path} is there with other bytes" for path, data in files_below(box.claude).items()
            if ONE in path and "/.csb-tmp-" not in path and self.all.get(path) != data]

    def done(self, box, done):
        there = files_below(box.claude)
        return [f"{path} is not there" for path in self.all if path not in there]

    def again(self, box):
        done = box.tool(*self.words)
        if not os.listdir(f"{box.claude}/projects") and "--yes" in done.err:
            # The run before made projects/ and no more: it looks like a disk that is away.
            done = box.tool(*self.words, "--yes")
        return saw(done, "the next run") or self.sound(box) + self.done(box, done)


class Repair(Store):
    """csb-verify --repair of an object that the store has lost, while the disk has it."""

    def prepare(self, box):
        fill(box)
        assert box.tool("csb-backup").rc == 0
        oid = git(box, "rev-parse", f"main:projects/-p/{ONE}.jsonl").stdout.decode().strip()
        os.unlink(f"{box.backup}/git/objects/{oid[:2]}/{oid[2:]}")
        return b""

    def sound(self, box):
        done = git(box, "cat-file", "--batch-all-objects", "--batch-check")
        return [] if not done.returncode else [f"the store: {done.stderr}"]

    def done(self, box, done):
        return store_faults(box) + ["not repaired"] * (held(box) != files_below(box.claude))

    def again(self, box):
        return saw(box.tool(*self.words), "the next run") or self.done(box, None)


class Pack(Store):
    """csb-gitcommit, where a large transcript has grown, and its pack goes on."""

    def large(self, box, lines):
        put(box.claude, f"projects/-p/{TWO}.jsonl", "".join(
            LINE % (TWO, 5, n, "x" * 900) for n in range(lines)))

    def backup(self, box):
        return box.tool("csb-gitcommit", given=box.tool("csb-changes").out)

    def prepare(self, box):
        fill(box)
        self.large(box, 1100)
        assert self.backup(box).rc == 0
        self.old = held(box)
        self.large(box, 1101)
        return box.tool("csb-changes").out

    def sound(self, box):
        there = self.old in (held(box, "main"), held(box, "main~1"))
        return store_faults(box) + ["an old version is gone"] * (not there)

    def again(self, box):
        return saw(self.backup(box), "the next run") or self.sound(box) + [
            "the next run left something out"] * (held(box) != files_below(box.claude))


class Tidy(Pack):
    """csb-gc, of loose objects, packs, and one that grew and was left alone for long."""

    def prepare(self, box):
        super().prepare(box)
        assert self.backup(box).rc == 0
        for path in glob.glob(f"{box.backup}/git/objects/pack/*"):
            os.utime(path, (10**9, 10**9))
        self.all = self.objects(box)
        assert box.tool("csb-gc", "--dry-run", "--now").out
        return b""

    def objects(self, box):
        return set(git(box, "cat-file", "--batch-all-objects", "--batch-check").stdout.split(b"\n"))

    def sound(self, box):
        return store_faults(box) + ["objects are gone"] * (not self.all <= self.objects(box))

    def done(self, box, done):
        loose = glob.glob(f"{box.backup}/git/objects/[0-9a-f][0-9a-f]/*")
        return self.sound(box) + [f"{len(loose)} loose objects are left"] * bool(loose)

    def again(self, box):
        return saw(box.tool(*self.words), "the next run") or self.done(box, None)


SITUATIONS = {
    "session_snapshot": lambda: Snapshot("session_snapshot"),
    "jsonl_snapshot": lambda: Snapshot("jsonl_snapshot"),
    "csb-gitcommit": lambda: Store("csb-gitcommit"),
    "csb-gitcommit, first": lambda: Store("csb-gitcommit", first=True),
    "csb-gitcommit, many files": lambda: Many("csb-gitcommit", first=True),
    "csb-gitcommit, many files and large ones": lambda: Mixed("csb-gitcommit", first=True),
    "csb-gitcommit, portions": lambda: Store("csb-gitcommit", "--portion=300"),
    "csb-gitcommit, a pack that grows": lambda: Pack("csb-gitcommit"),
    "csb-index": lambda: Index("csb-index"),
    "csb-index --rebuild": lambda: Index("csb-index", "--rebuild"),
    "csb-restore": lambda: Restore("csb-restore", ONE),
    "csb-backup": lambda: Store("csb-backup"),
    "csb-gc": lambda: Tidy("csb-gc", "--now"),
    "csb-verify --repair": lambda: Repair("csb-verify", "--repair"),
}


# What was wrong once: the situation, a case that showed it, and what was said of it.
MENDED = [
    # csb-find failed and said nothing: nothing was done, and the status was 0.
    ("csb-index --rebuild", ("all", "write", 1, "ENOSPC", "once"), "the index lists"),
    # A stage was killed: status 1 without a reason.
    ("csb-gitcommit", ("all", "chmod", 1, "KILL", "once"), "not a word"),
    # What git says came through as it is.
    ("csb-verify --repair", ("all", "link", 1, "KILL", "once"), "on stderr"),
    # The half-made store, and git's report when it ends before its input is complete, stayed.
    ("csb-gitcommit, first", ("all", "fsync", 1, "ENOSPC", "ever"),
     r"git\.\d+\.tmp\b.*left over"),
    ("csb-gitcommit", ("all", "write", 2, "EIO", "ever"), "fast_import_crash_.*left over"),
    ("csb-gitcommit", ("all", "write", 3, "ENOSPC", "ever"), "fast_import_crash_.*left over"),
]
# Only an injected fault makes a pipe refuse. git cat-file loses an answer that it cannot write into
# its pipe, goes on, and is waited for; git fast-import, which gets no more, leaves a report, which
# is swept a day later. (call, what is said of it)
KNOWN = [("write", "it hangs"), ("write", r"\S+/fast_import_crash_\d+ was left over")]


def is_known(case, text):
    return any(case.call == call and re.fullmatch(said, text) for call, said in KNOWN)


def judge(box, situation, case, done, before, listing):
    """All that is wrong after a case, as texts."""
    bad = situation.sound(box) + ["it hangs"] * (done.rc == 124)
    if "Traceback" in done.err:
        bad.append("a traceback: " + done.err)
    if case.fault != "KILL" and done.rc < 0:
        bad.append(f"died of signal {-done.rc}")
    spoken = [line for line in done.err.splitlines()
              if not re.match(r"(csb-\w+|\w+_snapshot): \S", line)]
    if spoken:
        bad.append(f"on stderr: {spoken}")
    if done.rc == 0:
        bad += situation.done(box, done)
    elif done.rc not in (124, *range(-99, 0)) and not done.err and case.call != "write":
        bad.append(f"status {done.rc} and not a word")
    after = listing(box.home)
    mine = os.path.basename(box.claude)
    for path in {path for path in before if path.split("/")[0] == mine}:
        restored = isinstance(situation, Restore) and before[path][2] == "dir"
        if after.get(path) != before[path] and not restored:
            bad.append(f"{path} in the Claude directory is not as it was")
    left = faults.left_over(before, after)
    if not isinstance(situation, Restore):
        bad += [f"{path} came" for path in after if path not in before
                and path.split("/")[0] == mine]
    if case.fault != "KILL" and done.rc != 124 and not case.call.startswith(("unlink", "rmdir")):
        bad += [f"{path} was left over" for path in left.ours]
    return bad + situation.again(box)


def drawn(every, count, seed):
    """Some of the cases, by chance. It goes by what a case is, not by its place: another call in
    the trace leaves the draw as it was."""
    def chance(case):
        return random.Random(f"{seed} {tuple(case)}").random()
    return sorted(every, key=chance)[:count]


@pytest.mark.soak
@pytest.mark.parametrize("part", range(4 if SOAK else 1))
@pytest.mark.parametrize("name", SITUATIONS)
@pytest.mark.few(4)
def test_a_fault_at_any_write(name, part, tmp_path, home, tools, listing, seed, figure):
    """Killed, or refused, at any call: whole, honest, and mended by the next run."""
    if reason := faults.missing(tmp_path):
        pytest.skip(reason)
    situation, box = SITUATIONS[name](), faults.Box(tmp_path, home, tools)
    given = situation.prepare(box)
    box.keep()
    before = listing(box.home)
    every = faults.cases(faults.trace(box, situation.words, given),
                         getattr(situation, "parallel", False))
    some = every[part::4] if SOAK else drawn(every, 2, seed)
    ran, wrong = [], []
    for case in some:
        box.fresh()
        done = box.run(situation.words, given, case)
        ran.append((case, done))
        bad = [text for text in judge(box, situation, case, done, before, listing)
               if not is_known(case, text)]
        if bad:
            wrong.append((tuple(case), done.rc, done.err, bad))
    figure(f"{name}: {faults.tally(ran)}")
    assert not wrong, f"{len(wrong)} of {len(ran)}:\n" + "\n".join(map(str, wrong[:40]))


@pytest.mark.parametrize("name, case, text", MENDED)
@pytest.mark.few(3)
def test_what_was_wrong_once(name, case, text, tmp_path, home, tools, listing):
    """A fault that the tools did not stand."""
    if reason := faults.missing(tmp_path):
        pytest.skip(reason)
    situation, box = SITUATIONS[name](), faults.Box(tmp_path, home, tools)
    given = situation.prepare(box)
    box.keep()
    before, case = listing(box.home), faults.Case(*case)
    bad = judge(box, situation, case, box.run(situation.words, given, case), before, listing)
    assert not [one for one in bad if re.search(text, one)]
