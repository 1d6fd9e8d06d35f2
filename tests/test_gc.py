"""csb-gc: many small objects become one pack, and nothing is lost by it, whatever happens"""
import glob
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

pytestmark = pytest.mark.logic

ID = "11111111-2222-4333-8444-{:012d}"
OURS = "csb-gitpack"        # forged() writes the .keep of a pack that grows
OLD = time.time() - 31 * 86400


@pytest.fixture
def store(home, sh):
    """The store, by plain git: store(words) -> stdout; .path, .objects() and .packs()."""
    path = home.backup / "git"

    def git(words, stdin=b""):
        return sh(f"git --git-dir={path} {words}", stdin).ok().out.strip()

    def objects():
        """Every object with its type and size, and git finds no fault."""
        git("fsck --full --strict")
        return git("cat-file --batch-all-objects --batch-check")
    git.path, git.objects = path, objects
    git.packs = lambda end=".pack": {name for name in os.listdir(path / "objects/pack")
                                     if name.endswith(end)}
    git.loose = lambda: int(git("count-objects").split()[0])
    return git


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
        sh("csb-changes | csb-gitcommit >/dev/null").ok()
    return [path.stem for path in paths]


@pytest.fixture
def grown(once):
    """The ids of five sessions that were backed up five times while they grew."""
    return once(grow_five_times)


def keep_of(versions):
    """The .keep of a pack that grows, of these versions."""
    said = {"versions": versions, "head": 4, "end": 99, "crc": 1, "adler": 1}
    text = json.dumps(said).encode()
    return b"csb-gitpack %d %s" % (zlib.crc32(text), text)


def transcript(sh, home, number, age, runs=3):
    """The pack, without an ending, of a transcript of 1.2 MB that was backed up as it grew."""
    path = home.claude / f"projects/-p/{ID.format(number)}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = home.backup / "git/objects/pack"
    before = set(folder.glob("*.keep"))
    for step in range(runs):
        with open(path, "a") as file:
            file.write(json.dumps({"text": random.randbytes(9000 if step else 600_000).hex()}) + "\n")
        sh("csb-changes | csb-gitcommit >/dev/null").ok()
    sh("csb-gc --dry-run").ok()
    for keep in set(folder.glob("*.keep")) - before:
        os.utime(keep.with_suffix(".pack"), (age, age))
    return sorted(keep.stem for keep in set(folder.glob("*.keep")) - before)


def forged(store, keep, count=30, age=OLD):
    """A pack as those that grow, of versions of one large file that no commit refers to: its
    name, and the ids in it. keep: the words of its .keep, if it has one."""
    whole = random.randbytes(1_200_000)
    ids = [store("hash-object -w --stdin", whole + b"line %d\n" % n) for n in range(3)]
    ids += [store("hash-object -w --stdin", b"small %d %d" % (n, age)) for n in range(count)]
    folder = store.path / "objects/pack"
    trailer = store(f"-c core.bigFileThreshold=9m pack-objects -q {folder}/pack",
                    "\n".join(ids).encode())
    name = f"pack-{'0123456789abcdef'}{trailer[16:]}"
    for end in "pack", "idx":
        os.rename(folder / f"pack-{trailer}.{end}", folder / f"{name}.{end}")
    if keep is not None:
        words = keep.encode()
        if keep == OURS:
            words = keep_of([[oid, 1_200_000 + 7] for oid in ids[2::-1]])
        (folder / f"{name}.keep").write_bytes(words)
    os.utime(folder / f"{name}.pack", (age, age))
    store("prune-packed")
    return name, ids


def restored(sh, target):
    """Every version of every session, as csb-restore brings it back: a listing of digests."""
    sh(f"rm -rf {target}; csb-find >ids; csb-restore --target-dir {target} <ids >/dev/null")
    return sh(f"cd {target} && find . -type f | sort | xargs sha256sum").ok().out


def versions(store):
    """The bytes of every file of every commit."""
    commits = store("rev-list --all").split()
    return [store(f"ls-tree -r {commit}") for commit in commits]


def test_many_small_objects_become_one_pack(home, sh, store, grown):
    """A record says what was done; versions and sessions that are alike are differences."""
    before, there, trees = store.objects(), restored(sh, "one"), versions(store)
    loose, folders = store.loose(), set(os.listdir(store.path / "objects"))
    record, = sh("csb-gc --now").ok().records
    assert list(record) == "kind path loose packs folded bytes_before bytes_after".split()
    assert (record["kind"], record["path"]) == ("gc", str(store.path))
    assert (record["loose"], record["packs"], record["folded"]) == (loose, 0, 0)
    assert record["bytes_after"] * 2 < record["bytes_before"], record
    assert (store.loose(), len(store.packs())) == (0, 1)
    assert store.objects() == before and versions(store) == trees
    assert restored(sh, "two") == there and there.count("\n") == len(grown)
    assert {path.suffix for path in (store.path / "objects/pack").iterdir()} == {".pack", ".idx"}
    assert folders <= set(os.listdir(store.path / "objects")), "git may be about to write there"
    assert sh("csb-gc --now").ok().out == ""
    assert sh("csb-verify >/dev/null").ok()


def test_sessions_that_are_alike_cost_little(home, sh, store):
    """Twenty sessions that begin in the same way."""
    start = random.randbytes(8000).hex()
    for number in range(20):
        path = home.claude / f"projects/-p/{ID.format(number)}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"type": "user", "uuid": f"{number}", "text": start}) + "\n")
    sh("csb-backup --quiet").ok()
    record, = sh("csb-gc --now").ok().records
    assert record["bytes_after"] * 8 < record["bytes_before"], record


def test_nothing_to_do(home, sh, store, grown):
    """Few objects and few packs: not a word, and not a byte."""
    names = store.objects(), store.loose(), store.packs()
    assert sh("csb-gc").ok().out == ""
    record, = sh("csb-gc --now --dry-run").ok().records
    assert (record["dry_run"], record["loose"]) == (True, store.loose())
    assert "bytes_after" not in record
    assert (store.objects(), store.loose(), store.packs()) == names


def test_a_thousand_objects_are_many(home, sh, store, grown):
    """Also those that no commit refers to yet; one fewer is not many. An .idx alone, which a kill
    has left, is in nobody's way."""
    name = forged(store, None, count=1)[0]
    (store.path / f"objects/pack/{name}.pack").unlink()
    text = "".join(f"blob\ndata 4\n{n:04d}\n" for n in range(1000 - store.loose())).encode()
    store("-c fastimport.unpackLimit=5000 fast-import --quiet", text)
    before = store.objects()
    assert store.loose() == 1000 and sh("csb-gc").ok().out == ""
    store("hash-object -w --stdin", b"one more")
    record, = sh("csb-gc").ok().records
    assert (record["loose"], store.loose(), len(store.packs())) == (1001, 0, 1)
    assert set(before.split("\n")) < set(store.objects().split("\n"))
    assert sh("csb-gc").ok().out == ""


def test_what_no_commit_refers_to_stays(sh, store, grown):
    """Loose or in a pack: a backup may be about to refer to it, and lost history may come back."""
    packed = forged(store, None)[1]
    loose = store("hash-object -w --stdin", b"nobody knows me")
    last = store("rev-parse main")
    store("update-ref refs/heads/main main~3")
    before = store.objects()
    assert loose in before and packed[0] in before and last in before
    sh("csb-gc --now").ok()
    assert store.objects() == before and store("cat-file blob " + loose) == "nobody knows me"
    assert (store.loose(), len(store.packs())) == (0, 1)
    store("update-ref refs/heads/main " + last)
    store.objects()


@pytest.mark.long
def test_more_than_twenty_packs_become_one(sh, home, store, grown):
    """Those with a .keep stay, but for those that grow no more: of a file that was rewritten, or
    has not grown for 30 days. No version becomes whole again."""
    living = transcript(sh, home, 1, time.time() - 29 * 86400)
    silent = transcript(sh, home, 2, OLD)
    assert len(living) == len(silent) == 2, "the generation before stays"
    kept = {forged(store, words, age=OLD - n)[0] for n, words in enumerate(("", "mine csb-gitpack",
                                                                            "csb-gitpac"))}
    kept_bytes = {name: [(store.path / f"objects/pack/{name}{end}").read_bytes()
                         for end in (".pack", ".idx", ".keep")] for name in kept}
    old, ids = forged(store, OURS, age=time.time())
    for number in range(17):
        text = "".join(f"blob\ndata 9\n{n} of {number:4d}\n" for n in (1, 2)).encode()
        store("-c fastimport.unpackLimit=1 fast-import --quiet", text)
    size = (store.path / f"objects/pack/{old}.pack").stat().st_size
    before = store.objects()
    assert sh("csb-gc").ok().out == "" and old + ".keep" in store.packs(".keep")
    forged(store, None, count=2)
    forged(store, None, count=2, age=OLD - 9)
    before = store.objects()
    record, = sh("csb-gc").ok().records
    assert (record["packs"], record["folded"]) == (21, 2), record
    stays = store.packs(".keep") - {name + ".keep" for name in kept}
    assert len(stays) == 1 and stays < {name + ".keep" for name in living}
    assert len(store.packs()) == len(kept) + 2 and old + ".pack" not in store.packs()
    for name, files in kept_bytes.items():
        assert files == [(store.path / f"objects/pack/{name}{end}").read_bytes()
                         for end in (".pack", ".idx", ".keep")]
    assert store.objects() == before and set(ids) <= set(before.split())
    sizes = store("cat-file --batch-check='%(objectsize:disk)'", "\n".join(ids[:3]).encode())
    assert sum(map(int, sizes.split())) < size


@pytest.mark.long
def test_the_generation_before_goes_when_the_new_one_was_read_back(sh, home, store):
    """Of a transcript that is sound one pack is left, of one that is damaged both."""
    first = transcript(sh, home, 1, time.time())
    second = transcript(sh, home, 2, time.time())
    assert len(first) == len(second) == 2
    new = max(second, key=lambda name: (store.path / f"objects/pack/{name}.pack").stat().st_size)
    path = store.path / f"objects/pack/{new}.pack"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.chmod(0o600)
    path.write_bytes(data)
    sh("csb-gc --now")
    left = {name.removesuffix(".keep") for name in store.packs(".keep")}
    assert set(second) < left and len(left) == 3 and len(left & set(first)) == 1


@pytest.mark.long
def test_versions_that_were_rewritten_become_differences(sh, home, store):
    """Rewrites of a transcript of 2 MB cost little once they are packed."""
    path = home.claude / f"projects/-p/{ID.format(1)}.jsonl"
    path.parent.mkdir(parents=True)
    lines = [json.dumps({"n": n, "text": random.randbytes(400).hex()}) + "\n" for n in range(2500)]
    for number in range(5):
        lines[number * 500] = json.dumps({"rewritten": number}) + "\n"
        path.write_text("".join(lines))
        sh("csb-changes | csb-gitcommit >/dev/null").ok()
    before = store.objects()
    assert path.stat().st_size > 2_000_000
    record, = sh("csb-gc --now").ok().records
    assert record["bytes_after"] <= 2_000_000 < 5_000_000 < record["bytes_before"], record
    assert store.objects() == before
    sh("csb-verify --deep >/dev/null").ok()


@pytest.mark.long
def test_a_database_costs_no_more_than_with_git_alone(sh, home, store):
    """Ten inserts into an SQLite file of 20 MB."""
    import sqlite3

    path = home.claude / "things.db"
    alone = home.path / "alone"
    sh(f"git init -q --bare {alone}").ok()
    base = sqlite3.connect(path)
    base.execute("create table t (a, b)")
    for step in range(11):
        rows = [(n, random.randbytes(350).hex()) for n in range(10 if step else 26_000)]
        base.executemany("insert into t values (?, ?)", rows)
        base.commit()
        sh("csb-changes | csb-gitcommit >/dev/null").ok()
        sh(f"git --git-dir={alone} hash-object -w {path}").ok()
    base.close()
    assert path.stat().st_size > 20 << 20 and not store.packs(".keep")
    sh("csb-gc --now >/dev/null").ok()
    sizes = [int(sh(f"du -sb {place}/objects").out.split()[0]) for place in (store.path, alone)]
    assert sizes[0] <= sizes[1], sizes


def test_what_was_compressed_in_haste_is_compressed_well_once(sh, home, store):
    """The pack of a first backup gets smaller, the versions of a large file in an old pack stay
    differences; the packs of this tool are not compressed again."""
    corpus.make(home.claude, sessions=30, total_mb=3, big_mb=0, seed=8)
    sh("csb-changes | csb-gitcommit >/dev/null").ok()
    ids = forged(store, OURS)[1][:3]
    disk = "cat-file --batch-check='%(objectsize:disk)'"
    large = sorted(store(disk, "\n".join(ids).encode()).split(), key=int)
    assert int(large[1]) < 1000, "two of the three are differences"
    before = store.objects()
    blobs = store("cat-file --batch-all-objects --batch-check='%(objecttype) %(objectsize:disk)'")
    sizes = [int(line.split()[1]) for line in blobs.split("\n") if line.startswith("blob")]
    quick = sum(sizes)
    sh("csb-gc --now").ok()
    sizes = store("cat-file --batch-all-objects --batch-check='%(objecttype) %(objectsize:disk)'")
    well = sum(int(line.split()[1]) for line in sizes.split("\n") if line.startswith("blob"))
    assert well < 0.97 * quick
    again = sorted(store(disk, "\n".join(ids).encode()).split(), key=int)
    kept = glob.glob(f"{store.path}/objects/pack/*.keep")
    assert int(again[1]) < 1000 and len(store.packs()) == 1 + len(kept), (large, again)
    assert store.objects() == before
    assert sh("csb-gc --now").ok().out == "", "once"


@pytest.mark.parametrize("again", ["a pack beside it", "alone"])
@pytest.mark.few(1)
def test_a_pack_of_versions_without_its_keep_stays_small(sh, home, store, again):
    """It is not compressed anew, whatever zlib notes there: each version would become whole."""
    file = home.claude / f"projects/-p/{ID.format(1)}.jsonl"
    file.parent.mkdir(parents=True)
    for _ in range(4):
        with open(file, "a") as out:
            out.write("".join(f'{{"text":"{random.randbytes(300).hex()}"}}\n' for _ in range(2000)))
        sh("csb-changes | csb-gitcommit >/dev/null").ok()
    for keep in (store.path / "objects/pack").glob("*.keep"):
        keep.unlink()   # as csb-gc does when it is old, and is then killed
    if again != "alone":
        forged(store, None)
    before, size = store.objects(), sum(p.stat().st_size for p in store.path.rglob("*.pack"))
    sh("csb-gc --now").ok()
    assert sum(p.stat().st_size for p in store.path.rglob("*.pack")) < size + 50_000
    assert store.objects() == before


@pytest.mark.long
def test_a_repository_of_another(sh, home, store, grown):
    """It is not touched, and neither is a store that borrows its objects."""
    store("config --unset csb.store")
    names = store.loose(), store.packs()
    done = sh("csb-gc --now")
    assert (done.rc, done.out, done.err.count("\n")) == (3, "", 1), done
    assert done.err.startswith("csb-gc: cannot tidy ") and (store.loose(), store.packs()) == names
    store("config csb.store true")
    shutil.copytree(store.path / "objects", home.path / "borrowed")
    (store.path / "objects/info").mkdir(exist_ok=True)
    (store.path / "objects/info/alternates").write_text(f"{home.path}/borrowed\n")
    assert sh("csb-gc --now").rc == 3 and (store.loose(), store.packs()) == names
    shutil.rmtree(store.path)
    assert sh("csb-gc --now").rc == 3


@pytest.mark.long
def test_the_lock(sh, store, grown):
    """Held by another it is waited for, then the status is 75."""
    names = store.loose(), store.packs()
    assert sh("csb-gc --now --wait nan").rc == 2
    done = sh(f"flock {store.path}/csb.lock csb-gc --now --wait 0.3")
    assert (done.rc, done.out, done.err.count("\n")) == (75, "", 1), done
    assert (store.loose(), store.packs()) == names
    done = sh(f"(flock {store.path}/csb.lock sleep 1 & sleep 0.3; csb-gc --now; wait)")
    assert done.ok().records[0]["kind"] == "gc"


def test_backups_need_not_wait_while_git_packs(sh, home, store, grown, tmp_path):
    """A git that is asked to pack finds the lock free, and what is stored meanwhile stays."""
    (tmp_path / "shim").mkdir()
    (tmp_path / "shim/git").write_text(f"""#!/bin/sh
/usr/bin/env PATH=/usr/bin:/bin git "$@"
status=$?
case "$*" in *pack-objects*)
    flock -n {store.path}/csb.lock touch {tmp_path}/free
    echo '{{}}' >{home.claude}/settings.json
    PATH={home.env["PATH"]} csb-changes | PATH={home.env["PATH"]} csb-gitcommit >{tmp_path}/made;;
esac
exit $status
""")
    (tmp_path / "shim/git").chmod(0o755)
    sh("csb-gc --now", PATH=f"{tmp_path}/shim:{home.env['PATH']}").ok()
    assert (tmp_path / "free").exists() and (tmp_path / "made").read_text()
    assert store("cat-file blob main:settings.json") == "{}"
    store.objects()
    assert 0 < store.loose() < 10


@pytest.mark.long
def test_two_at_once(sh, home, store, grown):
    """One waits for the other: neither complains, nothing is lost."""
    forged(store, None)
    forged(store, OURS)
    before = store.objects()
    done = sh("csb-gc --now & csb-gc --now; wait $!").ok()
    assert 1 <= len(done.records) <= 2
    assert store.objects() == before and store.loose() == 0 and len(store.packs()) == 1


def test_halves_that_killed_runs_left(sh, store, grown):
    """An .idx without a pack goes when it is a day old; a pack whose .idx was lost stays."""
    whole = forged(store, None, count=3)[0]
    halves = []
    for number, end in enumerate((".pack", ".idx")):
        for age in (OLD, time.time()):
            path = store.path / f"objects/pack/pack-{number}{'5' * 38}{int(age == OLD)}{end}"
            shutil.copy(store.path / f"objects/pack/{whole}{end}", path)
            os.utime(path, (age, age))
            halves.append(path)
    sh("csb-gc").ok()
    assert [path.exists() for path in halves] == [True, True, False, True]
    assert whole + ".pack" in store.packs()


@pytest.mark.long
def test_git_is_told_nothing_by_a_configuration(sh, home, store, grown):
    """No bitmap, no multi-pack-index, one pack, whatever ~/.gitconfig wants."""
    forged(store, None)
    (home.path / ".gitconfig").write_text(
        "[repack]\n writeBitmaps = true\n packKeptObjects = true\n[core]\n multiPackIndex = true\n"
        "[pack]\n packSizeLimit = 1m\n threads = 8\n windowMemory = 1k\n indexVersion = 1\n"
        " depth = 0\n window = 0\n writeBitmaps = true\n[gc]\n auto = 1\n[uploadpack]\n x = y\n")
    before, loose = store.objects(), sum(
        path.stat().st_size for path in (store.path / "objects").glob("??/*"))
    record, = sh("csb-gc --now").ok().records
    assert record["bytes_before"] - record["bytes_after"] > loose / 2 and loose > 99999
    assert sorted(path.suffix for path in (store.path / "objects/pack").iterdir()) == [
        ".idx", ".pack"]
    assert store.objects() == before


@pytest.mark.long
def test_little_memory(sh, store, home):
    """Versions of a file of just under 1 MB, and larger ones, in less than 64 MB, git included."""
    if not shutil.which("time", path="/usr/bin"):
        pytest.skip("GNU time is not installed")
    text = random.randbytes(500_000).hex().encode()
    path = home.claude / f"projects/-p/{ID.format(1)}.jsonl"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"{}\n")
    sh("csb-backup --quiet").ok()
    texts = [text[n * 100:] for n in range(40)] + [text * 5 + b"%d" % n for n in range(3)]
    stream = b"".join(b"blob\ndata %d\n%s\n" % (len(data), data) for data in texts)
    store("-c fastimport.unpackLimit=500 fast-import --quiet", stream)
    assert store.loose() > 40
    done = sh("/usr/bin/time -f %M -o peak csb-gc --now").ok()
    assert done.records[0]["loose"] > 40
    assert int((home.path / "peak").read_text()) < 64 << 10


@pytest.mark.long
def test_backups_meanwhile(sh, home, store, grown):
    """A backup and csb-gc at the same time, ten times: nothing is lost, neither complains."""
    sessions = sorted(home.claude.glob("projects/*/*.jsonl"))
    for number in range(10):
        for path in sessions:
            with open(path, "a") as file:
                file.write(json.dumps({"type": "user", "n": number, "text": "x" * 99}) + "\n")
        sh("csb-backup --quiet & csb-gc --now >/dev/null || exit; wait $!").ok()
        for path in sessions:
            name = path.relative_to(home.claude)
            assert store(f"rev-parse main:{name}") == store(f"hash-object {path}")
    before = store.objects()
    sh("csb-gc --now").ok()
    assert store.objects() == before
    sh("csb-verify --deep >/dev/null").ok()


@pytest.mark.parametrize("moment", ["0.1", "0.15", "0.2", "0.25", "0.35", "unlink 1", "unlink 9",
                                    "unlink 60"])
@pytest.mark.few(1)
def test_killed(sh, home, store, grown, moment):
    """kill -9 at any time: every object is there, the next backup and the next csb-gc succeed."""
    for number in range(3):
        forged(store, OURS if number else None, count=3, age=OLD - number)
    before = set(store.objects().split("\n"))
    line = "exec csb-gc --now"
    if moment.startswith("unlink"):
        if sh("strace -o try -e inject=unlink:error=EIO:when=9 true").rc:
            pytest.skip("no strace here")
        fault = f"inject=unlink:signal=KILL:when={moment.split()[1]}"
        line = f"exec strace -o log -e {fault} csb-gc --now"
    process = subprocess.Popen(["bash", "-c", line], env=home.env, cwd=home.path,
                               start_new_session=True, stdout=-3, stderr=-3)
    if not moment.startswith("unlink"):
        time.sleep(float(moment))
        os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() in (-9, 0)
    assert set(store.objects().split("\n")) == before
    (home.claude / "settings.json").write_text("{}\n")
    sh("csb-backup --quiet").ok()
    sh("csb-verify >/dev/null").ok()
    sh("csb-gc --now >/dev/null").ok()
    assert before < set(store.objects().split("\n"))
    assert (store.loose(), len(store.packs()), len(store.packs(".idx"))) == (0, 1, 1)


@pytest.mark.long
def test_old_packs_stay_if_the_new_one_lacks_something(sh, home, store, grown, tmp_path):
    """What git leaves out is noticed before anything is removed."""
    forged(store, None)
    sh("csb-gc --now").ok()
    forged(store, None, age=OLD - 1)
    before = store.objects()
    (tmp_path / "shim").mkdir()
    (tmp_path / "shim/git").write_text("""#!/bin/bash
exec /usr/bin/env PATH=/usr/bin:/bin git "${@/--keep-unreachable/--quiet}"
""")
    (tmp_path / "shim/git").chmod(0o755)
    done = sh("csb-gc --now", PATH=f"{tmp_path}/shim:{home.env['PATH']}")
    assert (done.rc, done.out, done.err.count("\n")) == (1, "", 1), done
    assert "no sound one has" in done.err and store.objects() == before


@pytest.mark.long
def test_a_directory_that_cannot_be_written(sh, store, grown):
    """One line, status 1."""
    names = store.loose(), store.packs()
    (store.path / "objects/pack").chmod(0o500)
    done = sh("csb-gc --now")
    (store.path / "objects/pack").chmod(0o700)
    assert (done.rc, done.out, done.err.count("\n")) == (1, "", 1), done
    assert "ermission denied" in done.err and (store.loose(), store.packs()) == names


@pytest.mark.long
def test_a_store_with_a_hole(sh, store, grown):
    """What git cannot walk it does not pack: one line, nothing is removed."""
    tree = store("rev-parse main~2^{tree}")
    (store.path / "objects" / tree[:2] / tree[2:]).unlink()
    names = store.loose(), store.packs()
    done = sh("csb-gc --now")
    assert (done.rc, done.out, done.err.count("\n")) == (1, "", 1), done
    assert (store.loose(), store.packs()) == names


def test_a_full_disk(sh, home, store, grown):
    """One line; nothing is left to fill it, and the store works on."""
    if sh("unshare -rm mount -t tmpfs -o size=1m none /mnt").rc:
        pytest.skip("this machine lets nobody mount a tmpfs in a namespace of his own")
    store("hash-object -w --stdin", random.randbytes(3_000_000))
    before = store.objects()
    done = sh(f"""unshare -rm bash -c '
        cp -a {store.path} ~/copy; mount -t tmpfs -o size=11m none {store.path}
        cp -a ~/copy/. {store.path}; head -c 9m /dev/zero >{store.path}/fill 2>/dev/null
        csb-gc --now; echo "status $?"; find {store.path} -name "tmp_*"
        rm {store.path}/fill; csb-gc --now | grep -c bytes_after; cd {store.path}
        git --git-dir=. fsck --full --strict --no-dangling
        git --git-dir=. cat-file --batch-all-objects --batch-check'""")
    lines = done.out.split("\n", 2)
    assert lines[:2] == ["status 1", "1"] and lines[2].strip() == before, done
    assert done.err.count("\n") == 1 and "pack-objects: " in done.err, done.err
