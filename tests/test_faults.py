"""Every tool that writes, killed or refused at each system call that writes.

Whatever happens: nothing that can be seen is corrupt, status 0 means done, any other
has its line on stderr, the next run does it all, and the Claude directory is as it was.
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
PARTS = 4 if SOAK else 1
ONE = "11111111-2222-4333-8444-555555555555"
TWO = "22222222-2222-4333-8444-555555555555"
LINE = (
    '{"type":"user","sessionId":"%s","timestamp":"2026-01-01T00:00:0%dZ","uuid":"%d",'
    '"message":{"role":"user","content":"%s"}}\n')


def put(folder, name, data):
    """Write a file, its directories too."""
    path = os.path.join(folder, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if isinstance(data, str):
        data = data.encode()
    with open(path, "wb") as file:
        file.write(data)
    return path


def fill(box):
    """A small Claude directory with one session and what belongs to it."""
    agent = f"projects/-p/{ONE}/subagents/agent-1.jsonl"
    put(box.claude, f"projects/-p/{ONE}.jsonl", LINE % (ONE, 1, 1, "first"))
    put(box.claude, agent, LINE % (ONE, 2, 2, "agent"))
    put(box.claude, f"file-history/{ONE}/a@v1", b"\0\r\n\xff")
    put(box.claude, "settings.json", '{"cleanupPeriodDays": 9999}\n')
    put(box.claude, "todos/gone.json", "[]")


def grow(box):
    """News for a backup: a transcript that grew, new files, one that is gone."""
    grown = LINE % (ONE, 1, 1, "first") + LINE % (ONE, 3, 3, "second")
    put(box.claude, f"projects/-p/{ONE}.jsonl", grown)
    put(box.claude, f"projects/-p/{TWO}.jsonl", LINE % (TWO, 4, 4, "another"))
    put(box.claude, "skills/s/SKILL.md", "a skill\n")
    os.unlink(f"{box.claude}/todos/gone.json")


def put_large(box, name, lines):
    """A file of a session that is above 1 MB from 1,100 lines on."""
    text = "".join(LINE % (TWO, 5, number, "x" * 900) for number in range(lines))
    put(box.claude, f"projects/-p/{name}", text)


def git(box, *words):
    """git in the store: a finished process."""
    return subprocess.run(
        ["git", f"--git-dir={box.backup}/git", *words], env=box.env,
        capture_output=True)


def held(box, ref="refs/heads/main"):
    """{path: bytes} that a ref of the store holds."""
    done = git(box, "archive", "--format=tar", ref)
    found = {}
    if done.returncode:
        return found
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
        for entry in tar:
            if entry.isfile() and not entry.name.startswith(".csb/"):
                found[entry.name] = tar.extractfile(entry).read()
    return found


def unlike_the_disk(box, text):
    """[text] unless the store holds what the disk has."""
    return [] if held(box) == files_below(box.claude) else [text]


def store_faults(box):
    """What is wrong with the store: what refs reach must be whole."""
    if not os.path.isdir(f"{box.backup}/git"):
        return []
    bad = []
    for words in (
            ("fsck", "--full", "--strict", "--no-dangling", "--no-progress"),
            ("rev-list", "--objects", "--all")):
        done = git(box, *words)
        if done.returncode or b"error" in done.stderr:
            bad.append(f"git {words[0]}: {done.stderr.decode()}")
    return bad


def index_faults(box):
    """What is wrong with the index, read where it is copied to, journal and all."""
    path = f"{box.backup}/session-backup.db"
    if not os.path.exists(path):
        return []
    copy = f"{box.folder}/copy.db"
    for end in ("", "-journal"):
        if os.path.exists(copy + end):
            os.unlink(copy + end)
        if os.path.exists(path + end):
            subprocess.run(["cp", path + end, copy + end], check=True)
    db = sqlite3.connect(copy)
    try:
        said = db.execute("PRAGMA integrity_check").fetchall()
    except sqlite3.Error as error:
        said = error
    finally:
        db.close()
    return [] if said == [("ok",)] else [f"index: {said}"]


def failed(done, what="the next run"):
    """[what went wrong] unless a run without fault was status 0."""
    return [] if done.rc == 0 else [f"{what} without a fault: {done.rc} {done.err!r}"]


class Situation:
    """A tool's command line (words), and what it has to do.

    Each gives what is wrong, as texts:
    sound(box)      whatever has happened;
    done(box, done) what must be there when the tool said that it is done;
    again(box)      when there was a fault, after the next run.
    """

    parallel = False        # do gits run side by side?
    restores = False        # does it write into the Claude directory?

    def __init__(self, *words):
        self.words = words

    def prepare(self, box):
        """Make what the tool finds; what it gets on stdin."""
        raise NotImplementedError

    def sound(self, box):
        return store_faults(box) + index_faults(box)

    def again(self, box):
        """The same command, once more."""
        done = box.tool(*self.words)
        return failed(done) or self.sound(box) + self.done(box, done)


class Snapshot(Situation):
    """session_snapshot and jsonl_snapshot, with an old snapshot to purge."""

    old = b"old bytes\n"
    new = b"new bytes\n" * 50

    def __init__(self, tool):
        super().__init__(
            tool, "--source", "MEMORY.md", "--dest-dir", "out", "--retain", "1")
        self.end = ".gz" if tool == "jsonl_snapshot" else ""

    def prepare(self, box):
        put(box.home, "MEMORY.md", self.old)
        made = json.loads(box.tool(*self.words).out)["path"]
        for path in glob.glob(f"{box.home}/out/*"):
            start, end = os.path.basename(path).split("__")
            assert start in made
            os.rename(path, f"{box.home}/out/20200101T000000Z__{end}")
        put(box.home, "MEMORY.md", self.new)
        return b""

    def has_sidecar(self, path):
        """Must there be one? That of the old snapshot goes before it does."""
        return bool(self.end) and "2020" not in path

    def seen(self, box):
        """{path: bytes or None} of the snapshots."""
        found = {}
        for path in glob.glob(f"{box.home}/out/2*{self.end}"):
            if path.endswith(".sha256"):
                continue
            with open(path, "rb") as file:
                found[path] = file.read()
            if self.end:
                try:
                    found[path] = gzip.decompress(found[path])
                except (OSError, EOFError):
                    found[path] = None
        return found

    def sound(self, box):
        shots = self.seen(box)
        bad = [] if shots else ["no snapshot is left"]
        for path, data in shots.items():
            if data not in (self.old, self.new):
                bad.append(f"{path} holds {data!r}")
            if self.has_sidecar(path):
                with open(path.removesuffix(".gz") + ".sha256") as file:
                    text = file.read()
                if hashlib.sha256(data or b"").hexdigest() not in text:
                    bad.append(f"the sidecar of {path} is another's")
        return bad

    def done(self, box, done):
        path = json.loads(done.out)["path"]
        return [] if self.seen(box).get(path) == self.new else [f"{path} is not there"]


class Store(Situation):
    """A backup into a store: by csb-gitcommit or csb-backup; first: there is none."""

    def __init__(self, *words, first=False):
        super().__init__(*words)
        self.first = first
        self.parallel = words[0] == "csb-backup"

    def prepare(self, box):
        fill(box)
        if not self.first:
            assert self.backup(box).rc == 0
            if self.parallel:
                assert box.tool("csb-backup").rc == 0
            grow(box)
        return b"" if self.parallel else box.tool("csb-changes").out

    def backup(self, box):
        """csb-changes | csb-gitcommit."""
        changes = box.tool("csb-changes")
        done = box.tool("csb-gitcommit", given=changes.out)
        return changes if changes.rc else done

    def done(self, box, done):
        return self.stored(box, "the backup was said to be done")

    def stored(self, box, text):
        """Does the store hold what is on disk, and the index know of it?"""
        bad = unlike_the_disk(box, text)
        if self.parallel:
            bad += self.listed(box)
        return bad

    def listed(self, box):
        """Does the index know what is on disk?"""
        said = box.tool("csb-list").out.splitlines()
        ids = {json.loads(line)["session_id"] for line in said}
        paths = glob.glob(f"{box.claude}/projects/*/*.jsonl")
        there = {os.path.basename(path).removesuffix(".jsonl") for path in paths}
        return [] if ids == there else [f"the index lists {ids}"]

    def again(self, box):
        if self.parallel:
            done = box.tool("csb-backup", "--wait", "1")
        else:
            done = self.backup(box)
        return failed(done) or self.sound(box) + self.stored(
            box, "the next run left something out")


class Many(Store):
    """The first backup of so many small files that they get a pack."""

    def prepare(self, box):
        for number in range(60):
            put(box.claude, f"tasks/{ONE}/{number}.json", f"{number}" * number)
        return super().prepare(box)


class Mixed(Many):
    """The same beside two large files of a session, all stored at the same time."""

    def prepare(self, box):
        put_large(box, f"{TWO}.jsonl", 1100)
        put_large(box, f"{TWO}/subagents/agent-1.jsonl", 1100)
        return super().prepare(box)


class Index(Store):
    """csb-find | csb-index, and --rebuild, on an index that is there."""

    def prepare(self, box):
        fill(box)
        assert box.tool("csb-backup").rc == 0
        grow(box)
        return b"" if "--rebuild" in self.words else box.tool("csb-find").out

    def done(self, box, done):
        return self.listed(box)

    def again(self, box):
        done = box.tool("csb-index", given=box.tool("csb-find").out)
        return failed(done) or self.sound(box) + self.listed(box)


class Restore(Situation):
    """csb-restore of a session that is gone."""

    restores = True

    def prepare(self, box):
        fill(box)
        assert box.tool("csb-backup").rc == 0
        self.all = {}
        for path, data in files_below(box.claude).items():
            if ONE in path:
                self.all[path] = data
                os.unlink(f"{box.claude}/{path}")
        os.removedirs(f"{box.claude}/projects/-p/{ONE}/subagents")
        return b""

    def other_bytes(self, there):
        """What of the session is there with other bytes than it had."""
        bad = []
        for path, data in there.items():
            if ONE in path and "/.csb-tmp-" not in path and self.all.get(path) != data:
                bad.append(f"{path} is there with other bytes")
        return bad

    def sound(self, box):
        return store_faults(box) + self.other_bytes(files_below(box.claude))

    def done(self, box, done):
        there = files_below(box.claude)
        return [f"{path} is not there" for path in self.all if path not in there]

    def again(self, box):
        done = box.tool(*self.words)
        if not os.listdir(f"{box.claude}/projects") and "--yes" in done.err:
            # The run before made projects/ and no more, as if a disk were away.
            done = box.tool(*self.words, "--yes")
        return failed(done) or self.sound(box) + self.done(box, done)


class Repair(Situation):
    """csb-verify --repair of an object that the store has lost and the disk has."""

    def prepare(self, box):
        fill(box)
        assert box.tool("csb-backup").rc == 0
        said = git(box, "rev-parse", f"main:projects/-p/{ONE}.jsonl").stdout
        oid = said.decode().strip()
        os.unlink(f"{box.backup}/git/objects/{oid[:2]}/{oid[2:]}")
        return b""

    def sound(self, box):
        done = git(box, "cat-file", "--batch-all-objects", "--batch-check")
        return [f"the store: {done.stderr}"] if done.returncode else []

    def done(self, box, done):
        return store_faults(box) + unlike_the_disk(box, "not repaired")


class Pack(Store):
    """csb-gitcommit, where a large transcript has grown, and its pack goes on."""

    def large(self, box, lines):
        put_large(box, f"{TWO}.jsonl", lines)

    def prepare(self, box):
        fill(box)
        self.large(box, 1100)
        assert self.backup(box).rc == 0
        self.before = held(box)
        self.large(box, 1101)
        return box.tool("csb-changes").out

    def sound(self, box):
        bad = store_faults(box)
        if self.before not in (held(box, "main"), held(box, "main~1")):
            bad.append("an old version is gone")
        return bad


class Tidy(Pack):
    """csb-gc, of loose objects, packs, and one that grew and rested for long."""

    def prepare(self, box):
        super().prepare(box)
        assert self.backup(box).rc == 0
        for path in glob.glob(f"{box.backup}/git/objects/pack/*"):
            os.utime(path, (10**9, 10**9))
        self.all = self.objects(box)
        assert box.tool("csb-gc", "--dry-run", "--now").out
        return b""

    def objects(self, box):
        """The lines of all objects of the store."""
        done = git(box, "cat-file", "--batch-all-objects", "--batch-check")
        return set(done.stdout.split(b"\n"))

    def sound(self, box):
        bad = store_faults(box)
        if not self.all <= self.objects(box):
            bad.append("objects are gone")
        return bad

    def done(self, box, done):
        loose = glob.glob(f"{box.backup}/git/objects/[0-9a-f][0-9a-f]/*")
        bad = self.sound(box)
        if loose:
            bad.append(f"{len(loose)} loose objects are left")
        return bad

    def again(self, box):
        return Situation.again(self, box)


SITUATIONS = {
    "session_snapshot": lambda: Snapshot("session_snapshot"),
    "jsonl_snapshot": lambda: Snapshot("jsonl_snapshot"),
    "csb-gitcommit": lambda: Store("csb-gitcommit"),
    "csb-gitcommit, first": lambda: Store("csb-gitcommit", first=True),
    "csb-gitcommit, many files": lambda: Many("csb-gitcommit", first=True),
    "csb-gitcommit, many files and large ones":
        lambda: Mixed("csb-gitcommit", first=True),
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
    # The half-made store, and git's report when it ends before its input is complete.
    ("csb-gitcommit, first", ("all", "fsync", 1, "ENOSPC", "ever"),
     r"git\.\d+\.tmp\b.*left over"),
    ("csb-gitcommit", ("all", "write", 2, "EIO", "ever"),
     "fast_import_crash_.*left over"),
    ("csb-gitcommit", ("all", "write", 3, "ENOSPC", "ever"),
     "fast_import_crash_.*left over"),
]
# Only an injected fault makes a pipe refuse. git cat-file loses an answer that it
# cannot write into its pipe, goes on, and is waited for; git fast-import, which gets no
# more, leaves a report, which is swept a day later. (call, what is said of it)
KNOWN = [("write", "it hangs"), ("write", r"\S+/fast_import_crash_\d+ was left over")]


def is_known(case, text):
    for call, said in KNOWN:
        if case.call == call and re.fullmatch(said, text):
            return True
    return False


def judge(box, situation, case, done, before, listing):
    """All that is wrong after a case, as texts."""
    bad = situation.sound(box)
    bad += ill_said(case, done)
    if done.rc == 0:
        bad += situation.done(box, done)
    after = listing(box.home)
    bad += claude_changes(box, situation, before, after)
    may_stay = case.fault == "KILL" or case.call.startswith(("unlink", "rmdir"))
    if done.rc != 124 and not may_stay:
        ours = faults.left_over(before, after).ours
        bad += [f"{path} was left over" for path in ours]
    return bad + situation.again(box)


def ill_said(case, done):
    """What is wrong with the status of a run and with its words."""
    bad = []
    if done.rc == 124:
        bad.append("it hangs")
    if "Traceback" in done.err:
        bad.append("a traceback: " + done.err)
    if case.fault != "KILL" and done.rc < 0:
        bad.append(f"died of signal {-done.rc}")
    lines = done.err.splitlines()
    odd = [line for line in lines if not re.match(r"(csb-\w+|\w+_snapshot): \S", line)]
    if odd:
        bad.append(f"on stderr: {odd}")
    # It may have been stderr that was refused.
    if done.rc > 0 and done.rc != 124 and not done.err and case.call != "write":
        bad.append(f"status {done.rc} and not a word")
    return bad


def claude_changes(box, situation, before, after):
    """What is not as it was in the Claude directory."""
    top = os.path.basename(box.claude)
    bad = []
    for path in sorted(before.keys() | after.keys()):
        if path.split("/")[0] != top:
            continue
        if path not in before:
            if not situation.restores:
                bad.append(f"{path} came")
        elif after.get(path) != before[path]:
            _, _, what = before[path]
            if not situation.restores or what != "dir":
                bad.append(f"{path} in the Claude directory is not as it was")
    return bad


def drawn(every, count, seed):
    """Some of the cases, by chance.

    It goes by what a case is, not by its place: another call in the trace leaves the
    draw as it was.
    """
    def chance(case):
        return random.Random(f"{seed} {tuple(case)}").random()
    return sorted(every, key=chance)[:count]


@pytest.fixture
def prepared(tmp_path, home, tools, listing):
    """prepared(name): two functions of a situation, or a skip.

    The first tries a case: (Done, all that is wrong). The other gives every case.
    """
    def prepare(name):
        reason = faults.missing(tmp_path)
        if reason:
            pytest.skip(reason)
        situation = SITUATIONS[name]()
        box = faults.Box(tmp_path, home, tools)
        given = situation.prepare(box)
        box.keep()
        before = listing(box.home)

        def run(case):
            box.fresh()
            done = box.run(situation.words, given, case)
            return done, judge(box, situation, case, done, before, listing)

        def every():
            marks = faults.trace(box, situation.words, given)
            return faults.cases(marks, situation.parallel)
        return run, every
    return prepare


@pytest.mark.soak
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("name", SITUATIONS)
@pytest.mark.few(4)
def test_a_fault_at_any_write(name, part, prepared, seed, figure):
    """Killed, or refused, at any call: whole, honest, and mended by the next run."""
    run, every = prepared(name)
    some = every()[part::PARTS] if SOAK else drawn(every(), 2, seed)
    ran = []
    wrong = []
    for case in some:
        done, bad = run(case)
        ran.append((case, done))
        bad = [text for text in bad if not is_known(case, text)]
        if bad:
            wrong.append((tuple(case), done.rc, done.err, bad))
    figure(f"{name}: {faults.tally(ran)}")
    shown = "\n".join(map(str, wrong[:40]))
    assert not wrong, f"{len(wrong)} of {len(ran)}:\n{shown}"


@pytest.mark.parametrize("name, case, text", MENDED)
@pytest.mark.few(3)
def test_what_was_wrong_once(name, case, text, prepared):
    """A fault that the tools did not stand."""
    run, _ = prepared(name)
    _, bad = run(faults.Case(*case))
    assert not [one for one in bad if re.search(text, one)]
