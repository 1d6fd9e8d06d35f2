"""Many runs at once, runs that are killed, files that grow: nothing is lost"""
import contextlib
import gzip
import hashlib
import os
import random
import subprocess
import threading
import time
import uuid

import pytest
from conftest import DAY, blob, name

pytestmark = [pytest.mark.logic, pytest.mark.soak]

PIPE = "csb-changes | csb-gitcommit >/dev/null"
BACKUP = "csb-backup --quiet"
OWN = "csb-changes --session {} | csb-gitcommit >/dev/null"
PORTIONS = "csb-changes | csb-gitcommit --portion 10000 >/dev/null"      # bytes


class Store:
    """Questions to the store, by plain git."""

    def __init__(self, sh, home):
        self.sh = sh
        self.home = home
        self.path = home.backup / "git"
        self.ref = "main"

    def is_theirs(self):
        """From now on it is a repository of the person's own, which has a commit."""
        self.path = self.home.claude / ".git"
        self.ref = "refs/csb/main"
        commit = "commit -q --allow-empty -m theirs"
        self.sh("git init -q -b main && "
                f"git -c user.name=u -c user.email=u@x {commit}",
                cwd=self.home.claude).ok()

    def git(self, words):
        return self.sh(f"git --git-dir={self.path} {words}", timeout=300).ok().out

    def tip(self):
        """{path: oid} of the newest tree."""
        found = {}
        for line in self.git(f"ls-tree -r -z {self.ref}").split("\0")[:-1]:
            head, path = line.split("\t", 1)
            found[path] = head.split()[2]
        return found

    def versions(self):
        """The ids of all blobs that any commit brought."""
        lines = self.git(f"log --raw --no-abbrev --no-renames --format= {self.ref}")
        return {line.split()[3] for line in lines.splitlines()}

    def bytes(self, path):
        """What the newest tree has at a path."""
        text = self.git(f"cat-file blob {self.ref}:{path}")
        return text.encode("utf-8", "surrogateescape")

    def commits(self):
        return int(self.git(f"rev-list --count {self.ref}"))

    def not_stored(self, writers):
        """The transcripts that are not, as they are now, in the newest tree."""
        found = self.tip()
        return [str(writer) for writer in writers
                if found.get(writer.path) != writer.oid()]

    def is_faultless(self):
        fsck = "fsck --full --strict --no-progress --no-dangling"
        return self.sh(f"git --git-dir={self.path} {fsck}", timeout=300).rc == 0

    def sound(self):
        """git has nothing to complain of, and no run has left anything behind."""
        assert self.is_faultless()
        for top in (self.home.backup, self.path):
            for _, folders, names in os.walk(top):
                for left in folders + names:
                    assert not left.startswith(
                        (".csb-tmp-", "tmp_", "fast_import_crash", "csb.repair"))
                    assert not left.endswith((".tmp", ".keep"))
                    assert left == "csb.lock" or not left.endswith(".lock")


@pytest.fixture
def store(sh, home):
    return Store(sh, home)


class Writer:
    """A transcript of its own: .path, and .data, what it is now."""

    def __init__(self, home, number):
        self.session_id = str(uuid.UUID(int=number + 1))
        self.path = f"projects/-p{number % 3}/{self.session_id}.jsonl"
        self.file = home.claude / self.path
        self.data = b""
        self.file.parent.mkdir(parents=True, exist_ok=True)

    def __str__(self):
        return f"{self.path} of {len(self.data)} bytes"

    def oid(self):
        return blob(self.data)

    def write(self, chance):
        """Append some lines."""
        lines = []
        for _ in range(chance.randint(1, 5)):
            text = chance.randbytes(chance.randint(1, 4000)).hex()
            lines.append(b'{"type":"user","text":"%s"}\n' % text.encode())
        with open(self.file, "ab") as file:
            file.writelines(lines)
        self.data += b"".join(lines)


def at_once(work, writers, seeded):
    """Run work(writer, chance) for all writers at the same time."""
    threads = []
    for writer in writers:
        chance = random.Random(seeded.random())
        threads.append(threading.Thread(target=work, args=(writer, chance)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def usual_time(sh):
    """How long a backup takes."""
    began = time.monotonic()
    sh(BACKUP).ok()
    return time.monotonic() - began


@pytest.mark.parametrize(
    "line", [PIPE, PORTIONS, OWN, BACKUP],
    ids=["all files", "portions", "own file", "csb-backup"])
@pytest.mark.few(1)
def test_runs_at_once_lose_nothing(sh, home, store, rounds, seeded, figure, line):
    """What was written before a run that ended with 0 is stored when it ends; where it
    had nothing to do because another waited already, when all have ended. No run fails,
    none gives up."""
    count = rounds(4, 8)
    turns = rounds(2 if line in (PIPE, PORTIONS) else 3, 25)
    writers = [Writer(home, number) for number in range(count)]
    problems = []
    acked = set()
    Writer(home, count).write(seeded)
    usual = usual_time(sh)

    def all_covered():
        """Each run of this turn was covered by itself or by one that waited."""
        problems.extend(store.not_stored(writers))

    turn = threading.Barrier(count, all_covered)

    def work(writer, chance):
        for _ in range(turns):
            time.sleep(chance.random() * usual)     # while others begin, read, commit
            writer.write(chance)
            command = line.format(writer.session_id).removesuffix(" --quiet")
            done = sh(command, timeout=300)
            if done.rc or (done.err and "waits already" not in done.err):
                problems.append(done)
            elif not done.err:
                if writer.oid() not in store.versions():
                    problems.append(f"{writer} is in no commit")
                # No run ends with an older version than its own at the ref.
                problems.extend(store.not_stored([writer]))
            acked.add(writer.oid())
            if line == BACKUP:
                turn.wait()

    at_once(work, writers, seeded)
    assert problems == []
    if line != BACKUP:
        assert acked <= store.versions()
        sh(PIPE).ok()
    assert store.not_stored(writers) == []
    figure(f"{count} x {turns} runs at once: {store.commits()} commits, 0 lost, no run "
           "ended with an older version than its own at the ref")
    store.sound()


def test_runs_at_once_in_their_repository(sh, home, store, rounds, seeded, figure):
    """Where the store is a repository of the person's own, who collects garbage and
    prunes it: between the turns, and while all runs are at work. HEAD, index and refs
    stay theirs."""
    def mine():
        return sh("git for-each-ref refs/heads; cat .git/HEAD; git ls-files -s; "
                  "git stash list", cwd=home.claude).ok().out

    store.is_theirs()
    count = rounds(3, 6)
    turns = rounds(3, 25)
    writers = [Writer(home, number) for number in range(count)]
    problems = []
    before = mine()

    def collect():
        """All runs of this turn have ended."""
        if sh("git gc -q --prune=now", cwd=home.claude).rc:
            problems.append("git gc failed")
        versions = store.versions()
        for writer in writers:
            if writer.oid() not in versions:
                problems.append(f"{writer} is not stored")

    turn = threading.Barrier(count, collect, timeout=300)

    def work(writer, chance):
        for _ in range(turns):
            writer.write(chance)
            if writer is writers[0]:
                sh("git gc -q", cwd=home.claude)
            line = chance.choice([PIPE, PORTIONS, OWN])
            done = sh(line.format(writer.session_id), timeout=300)
            if done.rc or done.err:
                problems.append(done)
            turn.wait()

    at_once(work, writers, seeded)
    assert problems == []
    assert store.not_stored(writers) == []
    assert mine() == before
    assert not (home.backup / "git").exists()
    store.sound()
    figure(f"{count} x {turns} runs at once in their repository, {turns} times gc "
           f"--prune=now between, gc meanwhile: {store.commits()} commits, 0 lost")


def test_a_run_that_was_slow_does_not_undo_a_newer_one(sh, home, store, seeded):
    """The ref has the newest version, whichever of two runs gets to commit first: what
    was listed long ago is read when it is committed."""
    writer = Writer(home, 0)
    writer.write(seeded)
    sh("csb-changes >~/slow").ok()
    writer.write(seeded)
    sh(PIPE).ok()
    commits = store.commits()
    sh("csb-gitcommit <~/slow").ok()
    assert store.not_stored([writer]) == []
    assert store.commits() == commits, "nothing was new"


def descendants(pid):
    """The processes that a process has started, and theirs."""
    children = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        with contextlib.suppress(OSError), open(f"/proc/{entry}/stat") as file:
            parent = int(file.read().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry))
    found = list(children.get(pid, ()))
    for child in found:
        found += children.get(child, ())
    return found


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="no /proc here")
@pytest.mark.long
@pytest.mark.parametrize("whose", ["ours", "theirs"])
def test_a_run_that_was_killed_stops_no_other(
        sh, home, tools, store, rounds, seeded, figure, whose):
    """kill -9 of csb-backup, of one of its stages or of all: the next run does its work
    at once. Theirs: a repository of the person's own, who prunes what killed runs have
    left."""
    if whose == "theirs":
        store.is_theirs()
    writers = [Writer(home, number) for number in range(3)]
    turns = rounds(5, 100)
    hits = 0
    seeded.choice(writers).write(seeded)
    usual = usual_time(sh)
    for _ in range(turns):
        for writer in writers:
            writer.write(seeded)
        run = subprocess.Popen(
            [tools.python, "-I", f"{tools.bin}/csb-backup", "--quiet"], env=home.env,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(seeded.random() * usual)
        running = []
        if run.poll() is None:
            running = [run.pid, *descendants(run.pid)]
            hits += 1
        chosen = seeded.choice([running, running[:1], running[-1:], running[1:2]])
        for pid in chosen:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        if run.pid in chosen:
            # What is left of its stages may still be at work: the next run's affair.
            run.wait()
        if whose == "theirs":
            assert sh("git gc -q --prune=now", cwd=home.claude).rc == 0
        sh(BACKUP, timeout=90).ok()
        run.wait()
        assert store.not_stored(writers) == []
    assert hits
    figure(f"{turns} runs, {hits} of them killed at work ({whose}): 0 stuck, 0 lost")
    assert store.is_faultless()


class Growing:
    """A file to which several write whole lines and pieces of lines; .logs: all that it
    ever was, each log a beginning (what a truncation left, or a new file) and all that
    was appended to it."""

    def __init__(self, path, seeded, writers=4, most=6_000_000):
        self.path = path
        self.most = most
        self.logs = [bytearray()]
        self.lock = threading.Lock()
        self.stop = threading.Event()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        self.threads = []
        for _ in range(writers):
            chance = random.Random(seeded.random())
            self.threads.append(threading.Thread(target=self.append, args=(chance,)))

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def put(self, data):
        with self.lock, open(self.path, "ab", buffering=0) as file:
            if len(self.logs[-1]) < self.most:
                assert file.write(data) == len(data)
                self.logs[-1] += data

    def append(self, chance):
        while not self.stop.is_set():
            size = int(50 * 8000 ** chance.random())
            text = chance.randbytes(size // 2).hex()
            line = b'{"type":"user","text":"%s"}\n' % text.encode()
            if chance.random() < .5:
                cut = chance.randrange(len(line))
                self.put(line[:cut])
                self.put(line[cut:])
            else:
                self.put(line)
            self.stop.wait(chance.random() * .4)

    def shake(self, chance):
        """Truncate the file, or put another in its place."""
        with self.lock:
            if chance.random() < .5:
                size = chance.choice([0, chance.randrange(3000)])
                kept = bytes(self.logs[-1][:size])
                os.truncate(self.path, len(kept))
            else:
                text = chance.randbytes(99).hex()
                kept = b'{"type":"summary","n":"%s"}\n' % text.encode()
                other = self.path.with_name("other")
                other.write_bytes(kept)
                other.replace(self.path)
            self.logs.append(bytearray(kept))

    def was(self, data):
        """Has the file ever been these bytes?"""
        with self.lock:
            return any(log.startswith(data) for log in self.logs)


def content(path):
    """The bytes that a snapshot holds."""
    data = path.read_bytes()
    if path.suffix == ".gz":
        return gzip.decompress(data)
    return data


@pytest.mark.parametrize("tool", ["session_snapshot", "jsonl_snapshot"])
@pytest.mark.long
def test_snapshots_while_four_append(sh, home, rounds, seeded, figure, tool):
    """Each snapshot is an exact prefix of the file, of whole and of half lines."""
    total = rounds(10, 250)
    batch = 10
    sizes = set()
    for number in range(total // batch):
        path = home.path / f"live{number}.jsonl"
        line = f"{tool} --source {path} --dest-dir out{number} --retain 0"
        records = []
        with Growing(path, seeded) as growing:
            for _ in range(batch):
                records += sh(line).ok().records
        final = path.read_bytes()
        assert growing.logs == [final]
        for record in records:
            shot = home.path / record["path"]
            data = content(shot)
            assert final.startswith(data) and len(data) == record["size"]
            assert hashlib.sha256(data).hexdigest() == record["raw_sha256"]
            sizes.add((number, len(data)))
            shot.unlink()
        path.unlink()
    assert len(sizes) > total // 5
    figure(f"{total} snapshots, {len(sizes)} sizes, all exact prefixes, 4 appenders")


@pytest.mark.long
def test_backups_while_four_append_and_one_truncates(
        sh, home, store, rounds, seeded, figure):
    """Each stored version is a state that the file had, never a mixture of two."""
    path = f"projects/-p/{name(7)}.jsonl"
    turns = rounds(5, 50)
    seen = set()
    Writer(home, 0).write(seeded)
    with Growing(home.claude / path, seeded) as growing:
        is_over = threading.Event()

        def shake():
            chance = random.Random(seeded.random())
            while not is_over.wait(chance.random() * .3):
                growing.shake(chance)

        shaker = threading.Thread(target=shake)
        shaker.start()
        try:
            for _ in range(turns):
                done = sh(PIPE)
                assert done.rc == 0 or "cannot read" in done.err, done
                if path not in store.tip():
                    continue
                data = store.bytes(path)
                assert growing.was(data), f"{len(data)} bytes that the file never had"
                seen.add(blob(data))
        finally:
            is_over.set()
            shaker.join()
    assert len(seen) > turns // 5
    sh(PIPE).ok()
    assert (home.claude / path).read_bytes() == growing.logs[-1]
    assert store.bytes(path) == growing.logs[-1]
    figure(f"{turns} backups, {len(seen)} versions of {len(growing.logs)} lives of the "
           "file, all states that it had")


def given_stamp(shot, seconds):
    """A snapshot as if it had been made then: its path, after its sidecar was told."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(seconds))
    old = shot.name[:len(stamp)]
    new = shot.with_name(shot.name.replace(old, stamp, 1))
    sidecar, beside = shot.with_suffix(".sha256"), new.with_suffix(".sha256")
    assert not new.exists() and not beside.exists()
    if sidecar.exists():
        beside.write_text(sidecar.read_text().replace(old, stamp))
        sidecar.unlink()
    return shot.rename(new)


@pytest.mark.parametrize("tool", ["session_snapshot", "jsonl_snapshot"])
def test_two_weeks_of_snapshots(sh, home, rounds, seeded, figure, tool):
    """The clock steps back an hour and on by ten years, and bits rot: no snapshot is
    overwritten, one at most goes in a run, and never the last old one that is sound
    while another can go."""
    source = home.path / "f.jsonl"
    out = home.path / "out"
    is_checked = tool == "jsonl_snapshot"       # it knows which are sound
    turns = rounds(10, 500)
    most = 6
    good = {}       # {path: what it holds}
    rotten = set()
    odd = purged = bad = 0
    began = time.time() - turns * 1210
    out.mkdir()
    for turn in range(turns):
        source.write_bytes(b'{"n":%d}\n' % turn * 9)
        before = {path: path.read_bytes() for path in out.iterdir()}
        done = sh(f"{tool} --source f.jsonl --dest-dir out --retain {most}").ok()
        [record] = done.records
        gone = {home.path / path for path in record["purged"]}

        # The oldest went, or the next one if that is the only one that is sound.
        olds = sorted([*good, *rotten])
        if len(olds) < most:
            assert gone == set()
        elif is_checked and list(good) == olds[:1]:
            assert gone == {olds[1]}
        else:
            assert gone == {olds[0]}
        for path in gone:
            before.pop(path)
            before.pop(path.with_suffix(".sha256"), None)
            good.pop(path, None)
            rotten.discard(path)
            purged += 1
        for path, data in before.items():
            assert path.read_bytes() == data, path

        # The clock that made it was another one.
        shown = began + turn * 1210
        kind = seeded.random()
        if kind < .1:
            shown -= 3600
            odd += 1
        elif kind > .95:
            shown += 3650 * DAY
            odd += 1
        new = given_stamp(home.path / record["path"], shown)
        good[new] = source.read_bytes()
        if seeded.random() < .4:
            victim = seeded.choice(sorted(good))
            victim.write_bytes(victim.read_bytes()[:-3] + b"???")
            rotten.add(victim)
            del good[victim]
            bad += 1

    for path, data in good.items():
        assert content(path) == data
    said = (f"{turns} runs in two weeks, {odd} with a wrong clock, {purged} purged, "
            f"{bad} rotten: none overwritten, the oldest went")
    if is_checked:
        said += ", never the last sound one"
    figure(said)
