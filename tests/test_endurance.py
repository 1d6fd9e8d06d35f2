"""Many runs at once, runs that are killed, files that grow meanwhile: nothing is lost"""
import contextlib
import gzip
import hashlib
import os
import subprocess
import threading
import time
import uuid

import pytest
from conftest import blob

pytestmark = [pytest.mark.logic, pytest.mark.soak]
PIPE, BACKUP = "csb-changes | csb-gitcommit >/dev/null", "csb-backup --quiet"
OWN = "csb-changes --session {} | csb-gitcommit >/dev/null"
PORTIONS = "csb-changes | csb-gitcommit --portion 10000 >/dev/null"      # bytes


class Store:
    """Questions to the store, by plain git: .tip(), .versions(path), .bytes(path), .sound()."""

    def __init__(self, sh, home):
        self.sh, self.home = sh, home
        self.path, self.ref = home.backup / "git", "main"

    def is_theirs(self):
        """From now on it is a repository of the person's own, which has a commit of theirs."""
        self.path, self.ref = self.home.claude / ".git", "refs/csb/main"
        self.sh("git init -q -b main && git -c user.name=u -c user.email=u@x commit -q "
                "--allow-empty -m theirs", cwd=self.home.claude).ok()

    def git(self, words):
        return self.sh(f"git --git-dir={self.path} {words}", timeout=300).ok().out

    def tip(self):
        """{path: oid} of the newest tree."""
        lines = self.git(f"ls-tree -r -z {self.ref}").split("\0")[:-1]
        return {line.split("\t", 1)[1]: line.split()[2] for line in lines}

    def versions(self):
        """The ids of all blobs that any commit brought."""
        lines = self.git(f"log --raw --no-abbrev --no-renames --format= {self.ref}")
        return {line.split()[3] for line in lines.splitlines()}

    def bytes(self, path):
        """What the newest tree has at a path."""
        return self.git(f"cat-file blob {self.ref}:{path}").encode("utf-8", "surrogateescape")

    def commits(self):
        return int(self.git(f"rev-list --count {self.ref}"))

    def sound(self):
        """git has nothing to complain of, and no run has left anything behind."""
        assert self.sh(f"git --git-dir={self.path} fsck --full --strict --no-progress "
                       "--no-dangling", timeout=300).rc == 0
        left = [name for top in (self.home.backup, self.path)
                for _, folders, names in os.walk(top) for name in folders + names
                if name.startswith((".csb-tmp-", "tmp_", "fast_import_crash", "csb.repair"))
                or name.endswith((".tmp", ".keep"))
                or (name.endswith(".lock") and name != "csb.lock")]
        assert left == []


@pytest.fixture
def store(sh, home):
    return Store(sh, home)


class Writer:
    """A transcript of its own, and the versions of it that a backup has acknowledged."""

    def __init__(self, home, number):
        self.path = f"projects/-p{number % 3}/{uuid.UUID(int=number + 1)}.jsonl"
        self.file, self.data = home.claude / self.path, b""
        self.file.parent.mkdir(parents=True, exist_ok=True)

    def write(self, chance):
        """Append some lines."""
        for _ in range(chance.randint(1, 5)):
            self.data += b'{"type":"user","text":"%s"}\n' % (
                chance.randbytes(chance.randint(1, 4000)).hex().encode())
        with open(self.file, "ab") as file:
            file.write(self.data[file.tell():])


@pytest.mark.parametrize("line", [PIPE, PORTIONS, OWN, BACKUP],
                         ids=["all files", "portions", "own file", "csb-backup"])
@pytest.mark.few(1)
def test_runs_at_once_lose_nothing(sh, home, store, rounds, seeded, figure, line):
    """What was written before a run that ended with 0 is stored when it ends; where it had nothing
    to do because another waited already, when all have ended. No run fails, none gives up."""
    count, turns = rounds(4, 8), rounds(2 if line in (PIPE, PORTIONS) else 3, 25)
    writers = [Writer(home, number) for number in range(count)]
    problems, acked, older = [], [], []

    def all_covered():
        """All runs of this turn have ended: each was covered by itself or by one that waited."""
        final = store.tip()
        problems.extend(f"{writer.path} of {len(writer.data)} bytes is not stored"
                        for writer in writers if final.get(writer.path) != blob(writer.data))
    turn, began = threading.Barrier(count, all_covered), time.monotonic()
    Writer(home, count).write(seeded)
    sh(BACKUP).ok()
    usual = time.monotonic() - began

    def work(writer, seed):
        chance = type(seeded)(seed)
        for _ in range(turns):
            time.sleep(chance.random() * usual)     # come while others begin, read and commit
            writer.write(chance)
            done = sh(line.format(writer.file.stem).removesuffix(" --quiet"), timeout=300)
            if done.rc or (done.err and "waits already" not in done.err):
                problems.append((done.rc, done.err))
            elif not done.err:
                if blob(writer.data) not in store.versions():
                    problems.append(f"{writer.path} of {len(writer.data)} bytes is not stored")
                older.append(store.tip()[writer.path] != blob(writer.data))
            acked.append(blob(writer.data))
            if line == BACKUP:
                turn.wait()
    threads = [threading.Thread(target=work, args=(writer, seeded.random())) for writer in writers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert not any(older)
    if line != BACKUP:      # see test_a_run_that_was_slow_... for what the last run may have done
        assert set(acked) <= store.versions()
        sh(PIPE).ok()
    final = store.tip()
    assert [writer.path for writer in writers if final[writer.path] != blob(writer.data)] == []
    figure(f"{count} x {turns} runs at once: {store.commits()} commits, 0 lost, no run ended with an "
           "older version than its own at the ref")
    store.sound()


def test_runs_at_once_in_their_repository(sh, home, store, rounds, seeded, figure):
    """Where the store is a repository of the person's own, who collects garbage and prunes it:
    between the turns, and while all runs are at work. HEAD, index and refs stay theirs."""
    store.is_theirs()
    count, turns, lines = rounds(3, 6), rounds(3, 25), [PIPE, PORTIONS, OWN]
    writers, problems = [Writer(home, number) for number in range(count)], []
    mine = "for-each-ref refs/heads; cat .git/HEAD; git ls-files -s; git stash list"
    before = sh(f"git {mine}", cwd=home.claude).ok().out

    def collect():
        """All runs of this turn have ended."""
        problems.extend(done for done in [sh("git gc -q --prune=now", cwd=home.claude)] if done.rc)
        held = store.versions()
        problems.extend(f"{writer.path} of {len(writer.data)} bytes is not stored"
                        for writer in writers if blob(writer.data) not in held)
    turn = threading.Barrier(count, collect, timeout=300)

    def work(number, writer, chance):
        for _ in range(turns):
            writer.write(chance)
            if number == 0:
                sh("git gc -q", cwd=home.claude)
            done = sh(chance.choice(lines).format(writer.file.stem), timeout=300)
            if done.rc or done.err:
                problems.append((done.rc, done.err))
            turn.wait()
    threads = [threading.Thread(target=work, args=(number, writer, type(seeded)(seeded.random())))
               for number, writer in enumerate(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    final = store.tip()
    assert [writer.path for writer in writers if final[writer.path] != blob(writer.data)] == []
    assert sh(f"git {mine}", cwd=home.claude).ok().out == before
    assert not (home.backup / "git").exists()
    store.sound()
    figure(f"{count} x {turns} runs at once in their repository, {turns} times gc --prune=now "
           f"between, gc meanwhile: {store.commits()} commits, 0 lost")


def test_a_run_that_was_slow_does_not_undo_a_newer_one(sh, home, store, seeded):
    """The ref has the newest version, whichever of two runs gets to commit first: what was listed
    long ago is read when it is committed."""
    writer = Writer(home, 0)
    writer.write(seeded)
    sh("csb-changes >~/slow").ok()
    writer.write(seeded)
    sh(PIPE).ok()
    commits = store.commits()
    sh("csb-gitcommit <~/slow").ok()
    assert store.tip()[writer.path] == blob(writer.data)
    assert store.commits() == commits, "nothing was new"


def descendants(pid):
    """The processes that a process has started, and theirs."""
    parents = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{name}/stat") as file:
            parents.setdefault(int(file.read().rpartition(")")[2].split()[1]), []).append(int(name))
    found = list(parents.get(pid, ()))
    for child in found:
        found += parents.get(child, ())
    return found


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="no /proc here")
@pytest.mark.long
@pytest.mark.parametrize("whose", ["ours", "theirs"])
def test_a_run_that_was_killed_stops_no_other(sh, home, tools, store, rounds, seeded, figure,
                                              whose):
    """kill -9 of csb-backup, of one of its stages or of all: the next run does its work at once.
    Theirs: a repository of the person's own, who prunes what killed runs have left."""
    if whose == "theirs":
        store.is_theirs()
    writers, turns, hits = [Writer(home, number) for number in range(3)], rounds(5, 100), 0
    seeded.choice(writers).write(seeded)
    began = time.monotonic()
    sh(BACKUP).ok()
    usual = time.monotonic() - began
    for _ in range(turns):
        for writer in writers:
            writer.write(seeded)
        run = subprocess.Popen([tools.python, "-I", f"{tools.bin}/csb-backup", "--quiet"],
                               env=home.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(seeded.random() * usual)
        running = [run.pid, *descendants(run.pid)] if run.poll() is None else []
        hits += bool(running)
        chosen = seeded.choice([running, running[:1], running[-1:], running[1:2]])
        for pid in chosen:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        if run.pid in chosen:
            run.wait()      # what is left of its stages may still be at work: the next run's affair
        if whose == "theirs":
            assert sh("git gc -q --prune=now", cwd=home.claude).rc == 0
        sh(BACKUP, timeout=90).ok()
        run.wait()
        final = store.tip()
        assert all(final[writer.path] == blob(writer.data) for writer in writers)
    assert hits or not turns
    figure(f"{turns} runs, {hits} of them killed at work ({whose}): 0 stuck, 0 lost")
    assert sh(f"git --git-dir={store.path} fsck --full --strict --no-progress --no-dangling").rc == 0


class Growing:
    """A file to which several write whole lines and pieces of lines; .logs: all that it ever was,
    each log a beginning (what a truncation left, or a new file) and all that was appended to it."""

    def __init__(self, path, seeded, writers=4, most=6_000_000):
        self.path, self.logs, self.lock, self.most = path, [bytearray()], threading.Lock(), most
        self.stop = threading.Event()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        self.threads = [threading.Thread(target=self.append, args=(type(seeded)(seeded.random()),))
                        for _ in range(writers)]

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
            line = b'{"type":"user","text":"%s"}\n' % chance.randbytes(size // 2).hex().encode()
            cut = chance.randrange(len(line)) if chance.random() < .5 else len(line)
            self.put(line[:cut])
            self.put(line[cut:]) if line[cut:] else None
            self.stop.wait(chance.random() * .4)

    def shake(self, chance):
        """Truncate the file, or put another in its place."""
        with self.lock:
            kept = bytes(self.logs[-1][:chance.choice([0, chance.randrange(3000)])])
            if chance.random() < .5:
                os.truncate(self.path, len(kept))
            else:
                kept = b'{"type":"summary","n":"%s"}\n' % chance.randbytes(99).hex().encode()
                other = self.path.with_name("other")
                other.write_bytes(kept)
                os.replace(other, self.path)
            self.logs.append(bytearray(kept))

    def was(self, data):
        """Has the file ever been these bytes?"""
        with self.lock:
            return any(log.startswith(data) for log in self.logs)


@pytest.mark.parametrize("tool", ["session_snapshot", "jsonl_snapshot"])
@pytest.mark.long
def test_snapshots_while_four_append(sh, home, rounds, seeded, figure, tool):
    """Each snapshot is an exact prefix of the file, of whole and of half lines."""
    total, batch, sizes = rounds(10, 250), 10, set()
    for number in range(total // batch):
        path, out = home.path / f"live{number}.jsonl", home.path / f"out{number}"
        with Growing(path, seeded) as growing:
            records = [sh(f"{tool} --source {path} --dest-dir {out} --retain 0").ok().records[0]
                       for _ in range(batch)]
        final = path.read_bytes()
        assert growing.logs == [final]
        for record in records:
            with (gzip.open if tool == "jsonl_snapshot" else open)(record["path"], "rb") as file:
                data = file.read()
            assert final.startswith(data) and len(data) == record["size"]
            assert hashlib.sha256(data).hexdigest() == record["raw_sha256"]
            sizes.add((number, len(data)))
            os.unlink(record["path"])
        path.unlink()
    assert len(sizes) > total // 5
    figure(f"{total} snapshots, {len(sizes)} sizes, all exact prefixes, 4 appenders")


@pytest.mark.long
def test_backups_while_four_append_and_one_truncates(sh, home, store, rounds, seeded, figure):
    """Each stored version is a state that the file had, never a mixture of two."""
    name, turns, seen = f"projects/-p/{uuid.UUID(int=7)}.jsonl", rounds(5, 50), set()
    Writer(home, 0).write(seeded)
    with Growing(home.claude / name, seeded) as growing:
        disturb = threading.Event()

        def shaking(chance):
            while not disturb.wait(chance.random() * .3):
                growing.shake(chance)
        shaker = threading.Thread(target=shaking, args=(type(seeded)(seeded.random()),))
        shaker.start()
        try:
            for _ in range(turns):
                done = sh(PIPE)
                assert done.rc == 0 or "cannot read" in done.err, done
                if name in store.tip():
                    data = store.bytes(name)
                    assert growing.was(data), f"{len(data)} bytes that the file never had"
                    seen.add(blob(data))
        finally:
            disturb.set()
            shaker.join()
    assert len(seen) > turns // 5
    sh(PIPE).ok()
    assert store.bytes(name) == growing.logs[-1] == (home.claude / name).read_bytes()
    figure(f"{turns} backups, {len(seen)} versions of {len(growing.logs)} lives of the file, all "
           "states that it had")


@pytest.mark.parametrize("tool", ["session_snapshot", "jsonl_snapshot"])
def test_two_weeks_of_snapshots(sh, home, rounds, seeded, figure, tool):
    """The clock steps back an hour and on by ten years, and bits rot: no snapshot is overwritten,
    one at most goes in a run, and never the last old one that is sound while another can go."""
    source, out, packed = home.path / "f.jsonl", home.path / "out", tool == "jsonl_snapshot"
    turns, purged, rotten, good, bad = rounds(10, 500), 0, set(), {}, 0
    now, odd = time.time(), 0
    for turn in range(turns):
        source.write_bytes(b'{"n":%d}\n' % turn * 9)
        before = {path: path.read_bytes() for path in out.iterdir()} if turn else {}
        record = sh(f"{tool} --source f.jsonl --dest-dir out --retain 6").ok().records[0]
        gone = {home.path / path for path in record["purged"]}
        beside = {path.with_suffix(".sha256") for path in gone} if packed else set()
        for path, value in before.items():
            assert path in gone | beside or path.read_bytes() == value, path
        assert len(gone) == (len(good) + len(rotten) >= 6)
        olds, was = sorted([*good, *rotten]), set(good) - gone
        if gone:    # the oldest, or the next one if it is the only one that is sound
            only = packed and set(good) == {olds[0]}
            assert gone == {olds[only]}
        purged, rotten = purged + len(gone), rotten - gone
        good = {path: good[path] for path in was}
        # The clock that made it was another one: give it, and what is in its sidecar, that stamp.
        kind = seeded.random()
        shown = now + (turn - turns) * 1210 + (kind < .1) * -3600 + (kind > .95) * 3.2e8
        odd += not .1 <= kind <= .95
        stamp, new = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(shown)), home.path / record["path"]
        for path in [new, new.with_suffix(".sha256")] if packed else [new]:
            name = path.name.replace(path.name[:16], stamp, 1)
            assert not (out / name).exists()
            if path != new:
                path.write_text(path.read_text().replace(new.name[:16], stamp))
            path.rename(out / name)
        new = new.with_name(new.name.replace(new.name[:16], stamp, 1))
        good[new] = source.read_bytes()
        if seeded.random() < .4:
            victim = seeded.choice(sorted(good))
            victim.write_bytes(victim.read_bytes()[:-3] + b"???")
            rotten.add(victim)
            del good[victim]
            bad += 1
    for path, value in good.items():
        assert (gzip.decompress(path.read_bytes()) if packed else path.read_bytes()) == value
    figure(f"{turns} runs in two weeks, {odd} with a wrong clock, {purged} purged, {bad} rotten: "
           "none overwritten, the oldest went" + ", never the last sound one" * packed)
