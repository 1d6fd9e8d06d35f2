"""csb-gc: many small objects become one pack, and nothing is lost by it, ever"""
import json
import os
import random
import shutil
import signal
import subprocess
import time
import zlib

import corpus
import pytest
from conftest import DAY

pytestmark = pytest.mark.logic

ID = "11111111-2222-4333-8444-{:012d}"
OURS = "csb-gitpack"        # forged() writes the .keep of a pack that grows
OLD = time.time() - 31 * DAY
CHANGES = "csb-changes | csb-gitcommit >/dev/null"


class Store:
    """The store, by plain git: store(words) -> stdout."""

    def __init__(self, sh, path):
        self.sh = sh
        self.path = path
        self.folder = path / "objects/pack"

    def __call__(self, words, stdin=b""):
        return self.sh(f"git --git-dir={self.path} {words}", stdin).ok().out.strip()

    def objects(self):
        """Every object with its type and size; git finds no fault."""
        self("fsck --full --strict")
        return self("cat-file --batch-all-objects --batch-check")

    def pack(self, name, end=".pack"):
        """The path of a pack, or of what lies beside it."""
        return self.folder / f"{name}{end}"

    def packs(self, end=".pack"):
        """The names of the packs that have such a file."""
        return {path.stem for path in self.folder.glob(f"*{end}")}

    def loose(self):
        """How many objects are in no pack."""
        return int(self("count-objects").split()[0])

    def names(self):
        """What is there: compared before and after where nothing is to be done."""
        return self.loose(), self.packs()

    def on_disk(self, ids):
        """The bytes that objects take, sorted."""
        asked = "cat-file --batch-check='%(objectsize:disk)'"
        return sorted(map(int, self(asked, "\n".join(ids).encode()).split()))

    def blobs_on_disk(self):
        """The bytes that all files take."""
        form = "%(objecttype) %(objectsize:disk)"
        lines = self(f"cat-file --batch-all-objects --batch-check='{form}'").split("\n")
        return sum(int(line.split()[1]) for line in lines if line.startswith("blob"))

    def versions(self):
        """The files of every commit."""
        commits = self("rev-list --all").split()
        return [self(f"ls-tree -r {commit}") for commit in commits]

    def add_pack(self, *texts):
        """A pack of its own for these files."""
        stream = "".join(f"blob\ndata {len(text)}\n{text}\n" for text in texts)
        self("-c fastimport.unpackLimit=1 fast-import --quiet", stream.encode())

    def add_loose(self, texts):
        """These files, each for itself."""
        stream = b"".join(b"blob\ndata %d\n%s\n" % (len(text), text) for text in texts)
        self("-c fastimport.unpackLimit=5000 fast-import --quiet", stream)


@pytest.fixture
def store(home, sh):
    return Store(sh, home.backup / "git")


def grow_five_times(sh, home):
    """A home with five sessions that were backed up five times while they grew."""
    full = home.path / "corpus"
    corpus.make(full, sessions=5, total_mb=0.6, big_mb=0, seed=7)
    paths = sorted(full.glob("projects/*/*.jsonl"))
    for step in range(1, 6):
        for path in paths:
            new = home.claude / path.relative_to(full)
            new.parent.mkdir(parents=True, exist_ok=True)
            data = path.read_bytes()
            new.write_bytes(data[:len(data) * step // 5])
        sh(CHANGES).ok()
    return [path.stem for path in paths]


@pytest.fixture
def grown(once):
    """The ids of five sessions that were backed up five times while they grew."""
    return once(grow_five_times)


def append(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        file.write(text)


def noise(size):
    """A line that does not pack to nothing."""
    return json.dumps({"text": random.randbytes(size).hex()}) + "\n"


@pytest.fixture
def transcript(home):
    """A function: the path of a session's transcript."""
    def path(number):
        return home.claude / f"projects/-p/{ID.format(number)}.jsonl"
    return path


@pytest.fixture
def growing(sh, store, transcript):
    """growing(number, age): the two packs that a transcript of 1.2 MB has once it was
    backed up as it grew, the larger one last."""
    def make(number, age):
        before = store.packs(".keep")
        for size in (600_000, 9000, 9000):
            append(transcript(number), noise(size))
            sh(CHANGES).ok()
        sh("csb-gc --dry-run").ok()
        made = store.packs(".keep") - before
        for name in made:
            os.utime(store.pack(name), (age, age))
        first, second = sorted(made, key=lambda name: store.pack(name).stat().st_size)
        return [first, second]
    return make


def keep_of(versions):
    """The .keep of a pack that grows, of these versions."""
    said = {"versions": versions, "head": 4, "end": 99, "crc": 1, "adler": 1}
    text = json.dumps(said).encode()
    return b"csb-gitpack %d %s" % (zlib.crc32(text), text)


@pytest.fixture
def forged(store):
    """A function: a pack as those that grow, of three versions of one large file that
    no commit refers to: its name, and the ids in it. keep: the words of its .keep, if
    it has one. count: of the small files beside them."""
    def make(keep, count=30, age=OLD):
        whole = random.randbytes(1_200_000)
        texts = [whole + b"line %d\n" % number for number in range(3)]
        texts += [b"small %d %d" % (number, age) for number in range(count)]
        ids = [store("hash-object -w --stdin", text) for text in texts]
        prefix = store.folder / "pack"
        pack = f"-c core.bigFileThreshold=9m pack-objects -q {prefix}"
        trailer = store(pack, "\n".join(ids).encode())
        name = f"pack-0123456789abcdef{trailer[16:]}"
        for end in (".pack", ".idx"):
            store.pack(f"pack-{trailer}", end).rename(store.pack(name, end))
        if keep is not None:
            words = keep.encode()
            if keep == OURS:
                words = keep_of([[oid, len(texts[0])] for oid in ids[2::-1]])
            store.pack(name, ".keep").write_bytes(words)
        os.utime(store.pack(name), (age, age))
        store("prune-packed")
        return name, ids
    return make


@pytest.fixture
def other_git(home, tmp_path):
    """other_git(text): make this script what is found as git; the PATH that does so."""
    def make(text):
        shim = tmp_path / "shim"
        shim.mkdir()
        (shim / "git").write_text(text)
        (shim / "git").chmod(0o755)
        return f"{shim}:{home.env['PATH']}"
    return make


def failed(done, status):
    """It did nothing, and said why in one line."""
    assert (done.rc, done.out, done.err.count("\n")) == (status, "", 1), done


def restored(sh, target):
    """Every session, as csb-restore brings it back: a listing of digests."""
    sh(f"csb-find | csb-restore --target-dir {target} >/dev/null")
    digests = f"cd {target} && find . -type f | sort | xargs sha256sum"
    return sh(digests).ok().out


def test_many_small_objects_become_one_pack(sh, store, grown):
    """A record says what was done; what is alike is stored as differences."""
    before = store.objects()
    there = restored(sh, "one")
    trees = store.versions()
    loose = store.loose()
    folders = set(os.listdir(store.path / "objects"))
    [record] = sh("csb-gc --now").ok().records
    assert list(record) == [
        "kind", "path", "loose", "packs", "folded", "bytes_before", "bytes_after"]
    assert (record["kind"], record["path"]) == ("gc", str(store.path))
    assert (record["loose"], record["packs"], record["folded"]) == (loose, 0, 0)
    assert record["bytes_after"] * 2 < record["bytes_before"], record

    assert store.loose() == 0
    assert len(store.packs()) == 1
    assert store.objects() == before and store.versions() == trees
    assert restored(sh, "two") == there and there.count("\n") == len(grown)
    assert {path.suffix for path in store.folder.iterdir()} == {".pack", ".idx"}
    left = set(os.listdir(store.path / "objects"))
    assert folders <= left, "git may be about to write there"
    assert sh("csb-gc --now").ok().out == ""
    assert sh("csb-verify >/dev/null").ok()


def test_sessions_that_are_alike_cost_little(sh, transcript):
    """Twenty sessions that begin in the same way."""
    start = random.randbytes(8000).hex()
    for number in range(20):
        record = {"type": "user", "uuid": f"{number}", "text": start}
        append(transcript(number), json.dumps(record) + "\n")
    sh("csb-backup --quiet").ok()
    [record] = sh("csb-gc --now").ok().records
    assert record["bytes_after"] * 8 < record["bytes_before"], record


def test_nothing_to_do(sh, store, grown):
    """Few objects and few packs: not a word, and not a byte."""
    before = store.objects(), store.names()
    assert sh("csb-gc").ok().out == ""
    [record] = sh("csb-gc --now --dry-run").ok().records
    assert (record["dry_run"], record["loose"]) == (True, store.loose())
    assert "bytes_after" not in record
    assert (store.objects(), store.names()) == before


def test_a_thousand_objects_are_many(sh, store, forged, grown):
    """Also those that no commit refers to yet; one fewer is not many. An .idx alone,
    which a kill has left, is in nobody's way."""
    name, _ = forged(None, count=1)
    store.pack(name).unlink()
    store.add_loose(b"%04d" % number for number in range(1000 - store.loose()))
    before = store.objects()
    assert store.loose() == 1000
    assert sh("csb-gc").ok().out == ""
    store("hash-object -w --stdin", b"one more")
    [record] = sh("csb-gc").ok().records
    assert record["loose"] == 1001
    assert (store.loose(), len(store.packs())) == (0, 1)
    assert set(before.split("\n")) < set(store.objects().split("\n"))
    assert sh("csb-gc").ok().out == ""


def test_what_no_commit_refers_to_stays(sh, store, forged, grown):
    """Loose or in a pack: a backup may be about to refer to it, and lost history may
    come back."""
    _, packed = forged(None)
    loose = store("hash-object -w --stdin", b"nobody knows me")
    last = store("rev-parse main")
    store("update-ref refs/heads/main main~3")
    before = store.objects()
    assert loose in before and packed[0] in before and last in before
    sh("csb-gc --now").ok()
    assert store.objects() == before
    assert store(f"cat-file blob {loose}") == "nobody knows me"
    assert (store.loose(), len(store.packs())) == (0, 1)
    store(f"update-ref refs/heads/main {last}")
    store.objects()


@pytest.mark.long
def test_more_than_twenty_packs_become_one(sh, store, forged, growing, grown):
    """Those with a .keep stay, but for those that grow no more: of a file that was
    rewritten, or has not grown for 30 days. No version becomes whole again."""
    def files_of(name):
        paths = [store.pack(name, end) for end in (".pack", ".idx", ".keep")]
        return [path.read_bytes() for path in paths]

    living = growing(1, time.time() - 29 * DAY)
    growing(2, OLD)
    foreign = {}
    for number, words in enumerate(("", "mine csb-gitpack", "csb-gitpac")):
        name, _ = forged(words, age=OLD - number)
        foreign[name] = files_of(name)
    old, ids = forged(OURS, age=time.time())
    size = store.pack(old).stat().st_size
    for number in range(17):
        store.add_pack(f"1 of {number:4d}", f"2 of {number:4d}")
    assert sh("csb-gc").ok().out == ""
    assert old in store.packs(".keep")

    forged(None, count=2)
    forged(None, count=2, age=OLD - 9)
    before = store.objects()
    [record] = sh("csb-gc").ok().records
    assert (record["packs"], record["folded"]) == (21, 2), record
    [stays] = store.packs(".keep") - foreign.keys()
    assert stays in living
    assert len(store.packs()) == len(foreign) + 2
    assert old not in store.packs()
    for name, files in foreign.items():
        assert files_of(name) == files
    assert store.objects() == before and set(ids) <= set(before.split())
    assert sum(store.on_disk(ids[:3])) < size


@pytest.mark.long
def test_the_generation_before_goes_when_the_new_one_was_read_back(sh, store, growing):
    """Of a transcript that is sound one pack is left, of one that is damaged both."""
    sound = growing(1, time.time())
    damaged = growing(2, time.time())
    path = store.pack(damaged[-1])
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.chmod(0o600)
    path.write_bytes(data)
    sh("csb-gc --now")
    [left] = store.packs(".keep") - set(damaged)
    assert left in sound
    assert set(damaged) < store.packs(".keep")


@pytest.mark.long
def test_versions_that_were_rewritten_become_differences(sh, store, transcript):
    """Rewrites of a transcript of 2 MB cost little once they are packed."""
    path = transcript(1)
    path.parent.mkdir(parents=True)
    lines = [noise(400) for _ in range(2500)]
    for number in range(5):
        lines[number * 500] = json.dumps({"rewritten": number}) + "\n"
        path.write_text("".join(lines))
        sh(CHANGES).ok()
    before = store.objects()
    assert path.stat().st_size > 2_000_000
    [record] = sh("csb-gc --now").ok().records
    assert record["bytes_before"] > 5_000_000, record
    assert record["bytes_after"] <= 2_000_000, record
    assert store.objects() == before
    sh("csb-verify --deep >/dev/null").ok()


@pytest.mark.long
def test_a_database_costs_no_more_than_with_git_alone(sh, home, store):
    """Ten inserts into an SQLite file of 20 MB."""
    import sqlite3

    path = home.claude / "things.db"
    sh("git init -q --bare alone").ok()
    base = sqlite3.connect(path)
    base.execute("create table t (a, b)")
    for count in (26_000, *[10] * 10):
        rows = [(number, random.randbytes(350).hex()) for number in range(count)]
        base.executemany("insert into t values (?, ?)", rows)
        base.commit()
        sh(CHANGES).ok()
        sh(f"git --git-dir=alone hash-object -w {path}").ok()
    base.close()
    assert path.stat().st_size > 20 << 20
    assert not store.packs(".keep")
    sh("csb-gc --now >/dev/null").ok()
    ours, alone = sh(f"du -sb {store.path}/objects alone/objects").out.splitlines()
    assert int(ours.split()[0]) <= int(alone.split()[0])


def test_what_was_compressed_in_haste_is_compressed_well_once(sh, home, store, forged):
    """The pack of a first backup gets smaller, the versions of a large file in an old
    pack stay differences; the packs of this tool are not compressed again."""
    corpus.make(home.claude, sessions=30, total_mb=3, big_mb=0, seed=8)
    sh(CHANGES).ok()
    _, ids = forged(OURS)
    assert store.on_disk(ids[:3])[1] < 1000, "two of the three are differences"
    before = store.objects()
    quick = store.blobs_on_disk()
    sh("csb-gc --now").ok()
    assert store.blobs_on_disk() < 0.97 * quick
    assert store.on_disk(ids[:3])[1] < 1000
    assert len(store.packs()) == 1 + len(store.packs(".keep"))
    assert store.objects() == before
    assert sh("csb-gc --now").ok().out == "", "once"


@pytest.mark.parametrize("again", ["a pack beside it", "alone"])
@pytest.mark.few(1)
def test_a_pack_of_versions_without_its_keep_stays_small(
        sh, store, forged, transcript, again):
    """It is not compressed anew, whatever zlib notes there: each version would become
    whole."""
    def size():
        return sum(path.stat().st_size for path in store.folder.glob("*.pack"))

    for _ in range(4):
        append(transcript(1), "".join(noise(300) for _ in range(2000)))
        sh(CHANGES).ok()
    for keep in store.folder.glob("*.keep"):
        keep.unlink()   # as csb-gc does when it is old, and is then killed
    if again != "alone":
        forged(None)
    objects, before = store.objects(), size()
    sh("csb-gc --now").ok()
    assert size() < before + 50_000
    assert store.objects() == objects


@pytest.mark.long
def test_a_repository_of_another(sh, home, store, grown):
    """It is not touched, and neither is a store that borrows its objects."""
    before = store.names()
    store("config --unset csb.store")
    done = sh("csb-gc --now")
    failed(done, 3)
    assert done.err.startswith("csb-gc: cannot tidy ")
    assert store.names() == before

    store("config csb.store true")
    borrowed = home.path / "borrowed"
    shutil.copytree(store.path / "objects", borrowed)
    info = store.path / "objects/info"
    info.mkdir(exist_ok=True)
    (info / "alternates").write_text(f"{borrowed}\n")
    assert sh("csb-gc --now").rc == 3
    assert store.names() == before
    shutil.rmtree(store.path)
    assert sh("csb-gc --now").rc == 3


@pytest.mark.long
def test_the_lock(sh, store, grown):
    """Held by another it is waited for, then the status is 75."""
    before = store.names()
    lock = store.path / "csb.lock"
    assert sh("csb-gc --now --wait nan").rc == 2
    failed(sh(f"flock {lock} csb-gc --now --wait 0.3"), 75)
    assert store.names() == before
    done = sh(f"(flock {lock} sleep 1 & sleep 0.3; csb-gc --now; wait)").ok()
    assert done.records[0]["kind"] == "gc"


# A git that, when it has packed, sees whether the lock is free, and backs up.
MEANWHILE = """#!/bin/sh
/usr/bin/env PATH=/usr/bin:/bin git "$@"
status=$?
case "$*" in *pack-objects*)
    flock -n $CSB_HOME/git/csb.lock touch ~/free
    echo '{}' >~/.claude/settings.json
    PATH={path}
    csb-changes | csb-gitcommit >~/made
esac
exit $status
"""


def test_backups_need_not_wait_while_git_packs(sh, home, store, grown, other_git):
    """A git that packs finds the lock free; what is stored meanwhile stays."""
    shim = other_git(MEANWHILE.replace("{path}", home.env["PATH"]))
    sh("csb-gc --now", PATH=shim).ok()
    assert (home.path / "free").exists()
    assert (home.path / "made").read_text()
    assert store("cat-file blob main:settings.json") == "{}"
    store.objects()
    assert 0 < store.loose() < 10


@pytest.mark.long
def test_two_at_once(sh, store, forged, grown):
    """One waits for the other: neither complains, nothing is lost."""
    forged(None)
    forged(OURS)
    before = store.objects()
    done = sh("csb-gc --now & csb-gc --now; wait $!").ok()
    assert 1 <= len(done.records) <= 2
    assert store.objects() == before
    assert (store.loose(), len(store.packs())) == (0, 1)


def test_halves_that_killed_runs_left(sh, store, forged, grown):
    """An .idx without a pack goes when it is a day old; a pack without .idx stays."""
    def half(end, digit, age):
        path = store.pack(f"pack-{digit * 40}", end)
        shutil.copy(store.pack(whole, end), path)
        os.utime(path, (age, age))
        return path

    whole, _ = forged(None, count=3)
    stay = [half(".pack", "1", OLD), half(".pack", "2", time.time()),
            half(".idx", "3", time.time())]
    goes = half(".idx", "4", OLD)
    sh("csb-gc").ok()
    for path in stay:
        assert path.exists()
    assert not goes.exists()
    assert whole in store.packs()


CONFIG = """
[repack]
 writeBitmaps = true
 packKeptObjects = true
[core]
 multiPackIndex = true
[pack]
 packSizeLimit = 1m
 threads = 8
 windowMemory = 1k
 indexVersion = 1
 depth = 0
 window = 0
 writeBitmaps = true
[gc]
 auto = 1
[uploadpack]
 x = y
"""


@pytest.mark.long
def test_git_is_told_nothing_by_a_configuration(sh, home, store, forged, grown):
    """No bitmap, no multi-pack-index, one pack, whatever ~/.gitconfig wants."""
    forged(None)
    (home.path / ".gitconfig").write_text(CONFIG)
    before = store.objects()
    files = (store.path / "objects").glob("??/*")
    loose = sum(path.stat().st_size for path in files)
    assert loose > 99999
    [record] = sh("csb-gc --now").ok().records
    assert record["bytes_before"] - record["bytes_after"] > loose / 2
    ends = sorted(path.suffix for path in store.folder.iterdir())
    assert ends == [".idx", ".pack"]
    assert store.objects() == before


@pytest.mark.long
def test_little_memory(sh, store, home, put):
    """Versions of a file of just under 1 MB, and larger ones, in less than 64 MB, git
    included."""
    if not shutil.which("time", path="/usr/bin"):
        pytest.skip("GNU time is not installed")
    put("settings.json")
    sh("csb-backup --quiet").ok()
    text = random.randbytes(500_000).hex().encode()
    texts = [text[number * 100:] for number in range(40)]
    texts += [text * 5 + b"%d" % number for number in range(3)]
    store.add_loose(texts)
    assert store.loose() > 40
    done = sh("/usr/bin/time -f %M -o peak csb-gc --now").ok()
    assert done.records[0]["loose"] > 40
    assert int((home.path / "peak").read_text()) < 64 << 10


@pytest.mark.long
def test_backups_meanwhile(sh, home, store, grown):
    """A backup and csb-gc at once, ten times: nothing is lost, none complains."""
    sessions = sorted(home.claude.glob("projects/*/*.jsonl"))
    for number in range(10):
        record = json.dumps({"type": "user", "n": number, "text": "x" * 99})
        for path in sessions:
            append(path, record + "\n")
        sh("csb-backup --quiet & csb-gc --now >/dev/null || exit; wait $!").ok()
        for path in sessions:
            name = path.relative_to(home.claude)
            assert store(f"rev-parse main:{name}") == store(f"hash-object {path}")
    before = store.objects()
    sh("csb-gc --now").ok()
    assert store.objects() == before
    sh("csb-verify --deep >/dev/null").ok()


@pytest.mark.parametrize("moment", [
    "0.1", "0.15", "0.2", "0.25", "0.35", "unlink 1", "unlink 9", "unlink 60"])
@pytest.mark.few(1)
def test_killed(sh, home, store, forged, grown, put, moment):
    """kill -9 at any time: every object is there, and the next runs succeed."""
    for number, keep in enumerate((None, OURS, OURS)):
        forged(keep, count=3, age=OLD - number)
    before = set(store.objects().split("\n"))
    when, _, call = moment.partition("unlink ")
    tool = "csb-gc --now"
    if call:
        if sh("strace -o try -e inject=unlink:error=EIO:when=9 true").rc:
            pytest.skip("no strace here")
        tool = f"strace -o log -e inject=unlink:signal=KILL:when={call} {tool}"
    process = subprocess.Popen(
        ["bash", "-c", f"exec {tool}"], env=home.env, cwd=home.path,
        start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if when:
        time.sleep(float(when))
        os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() in (-signal.SIGKILL, 0)
    assert set(store.objects().split("\n")) == before

    put("settings.json")
    sh("csb-backup --quiet").ok()
    sh("csb-verify >/dev/null").ok()
    sh("csb-gc --now >/dev/null").ok()
    assert before < set(store.objects().split("\n"))
    assert store.loose() == 0
    assert len(store.packs()) == len(store.packs(".idx")) == 1


# A git that leaves out what no commit refers to.
LEAVES_OUT = """#!/bin/bash
exec /usr/bin/env PATH=/usr/bin:/bin git "${@/--keep-unreachable/--quiet}"
"""


@pytest.mark.long
def test_old_packs_stay_if_the_new_one_lacks_something(
        sh, store, forged, grown, other_git):
    """What git leaves out is noticed before anything is removed."""
    forged(None)
    sh("csb-gc --now").ok()
    forged(None, age=OLD - 1)
    before = store.objects()
    done = sh("csb-gc --now", PATH=other_git(LEAVES_OUT))
    failed(done, 1)
    assert "no sound one has" in done.err
    assert store.objects() == before


@pytest.mark.long
def test_a_directory_that_cannot_be_written(sh, store, grown):
    """One line, status 1."""
    before = store.names()
    store.folder.chmod(0o500)
    done = sh("csb-gc --now")
    store.folder.chmod(0o700)
    failed(done, 1)
    assert "ermission denied" in done.err
    assert store.names() == before


@pytest.mark.long
def test_a_store_with_a_hole(sh, store, grown):
    """What git cannot walk it does not pack: one line, nothing is removed."""
    tree = store("rev-parse main~2^{tree}")
    (store.path / "objects" / tree[:2] / tree[2:]).unlink()
    before = store.names()
    failed(sh("csb-gc --now"), 1)
    assert store.names() == before


# In a namespace where the store is a disk of 11 MB that is full, for a while.
FULL = """
    store=$CSB_HOME/git
    cp -a $store ~/copy; mount -t tmpfs -o size=11m none $store; cp -a ~/copy/. $store
    head -c 9m /dev/zero >$store/fill 2>/dev/null
    csb-gc --now; echo "status $?"; find $store -name "tmp_*"
    rm $store/fill; csb-gc --now | grep -c bytes_after
    git --git-dir=$store fsck --full --strict --no-dangling
    git --git-dir=$store cat-file --batch-all-objects --batch-check"""


def test_a_full_disk(sh, store, grown):
    """One line; nothing is left to fill it, and the store works on."""
    if sh("unshare -rm mount -t tmpfs -o size=1m none /mnt").rc:
        pytest.skip("this machine lets nobody mount a tmpfs in a namespace of his own")
    store("hash-object -w --stdin", random.randbytes(3_000_000))
    before = store.objects()
    done = sh(f"unshare -rm bash -c '{FULL}'")
    status, packed, objects = done.out.split("\n", 2)
    assert (status, packed) == ("status 1", "1"), done
    assert objects.strip() == before
    assert done.err.count("\n") == 1 and "pack-objects: " in done.err, done.err
