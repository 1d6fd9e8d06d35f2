"""csb-gitpack: a large transcript in a pack that grows with it, and nothing is lost by it"""
import glob
import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import threading
import time
import zlib

import corpus
import faults
import pytest

ID = "11111111-2222-4333-8444-{:012d}"
PIPE, BACKUP = "csb-changes | csb-gitpack | csb-gitcommit >/dev/null", "csb-backup --quiet"
BIG, SIZE, LINES, COST = 1 << 20, 1_150_000, 10_000, 20 << 10
logic = pytest.mark.logic


def text(r, size):
    """Lines of about size bytes, half of which compresses."""
    out = []
    while size > 0:
        part = r.randbytes(min(700, size // 2 + 1)).hex()
        out.append(b'{"type":"user","uuid":"%s","text":"%s"}\n' % (
            part[:16].encode(), part.encode()))
        size -= len(out[-1])
    return b"".join(out)


def blob(data):
    """The id that git gives to bytes."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Large:
    """A large transcript, its store, and what must come back: .acked[commit] = (path, id)."""

    def __init__(self, sh, home, r, number=1, project="-p"):
        self.sh, self.home, self.r, self.id = sh, home, r, ID.format(number)
        self.store, self.path = f"{home.backup}/git", f"projects/{project}/{self.id}.jsonl"
        self.file, self.ref, self.acked = home.claude / self.path, "main", {}
        self.file.parent.mkdir(parents=True, exist_ok=True)

    @property
    def folder(self):
        return f"{self.store}/objects/pack"

    def git(self, words, stdin=b""):
        """git's stdout (text) in the store."""
        done = subprocess.run(["git", f"--git-dir={self.store}", *words.split()], input=stdin,
                              env=self.home.env, capture_output=True, cwd=self.home.path)
        assert done.returncode == 0, done
        return done.stdout.decode().strip()

    def write(self, data=None):
        self.file.write_bytes(text(self.r, SIZE) if data is None else data)
        return self

    def append(self, size=LINES):
        """Lines come; their number of bytes."""
        data = text(self.r, size)
        with open(self.file, "ab") as file:
            file.write(data)
        return len(data)

    def backup(self, line=PIPE, **env):
        """A backup, which must succeed: what it cost the store, in bytes."""
        before = self.bytes()
        self.sh(line, **env).ok()
        self.note()
        return self.bytes() - before

    def note(self):
        """What the disk has is in the newest commit."""
        commit, oid = self.git(f"rev-parse {self.ref} {self.ref}:{self.path}").split()
        assert oid == self.digest(), "the newest commit is not what the disk has"
        self.acked[commit] = self.path, oid

    def digest(self):
        digest = hashlib.sha1(b"blob %d\0" % os.path.getsize(self.file))
        with open(self.file, "rb") as file:
            while block := file.read(BIG):
                digest.update(block)
        return digest.hexdigest()

    def bytes(self):
        """The sum of the sizes of the store's files."""
        return sum(os.path.getsize(os.path.join(folder, name))
                   for folder, _, names in os.walk(self.store) for name in names)

    def packs(self, kind=".pack"):
        """The packs of this file, without suffix."""
        key = hashlib.sha1(os.fsencode(self.path)).hexdigest()[:16]
        return sorted(name[:-len(kind)] for name in glob.glob(f"{self.folder}/pack-{key}*{kind}"))

    def said(self):
        """What the one .keep says."""
        (base,) = self.packs(".keep")
        with open(base + ".keep") as file:
            return json.loads(file.read().split(" ", 2)[2])

    def read(self, oid):
        """The id of the bytes that git gives for an id."""
        pipe = subprocess.Popen(["git", f"--git-dir={self.store}", "cat-file", "blob", oid],
                                env=self.home.env, stdout=-1, stderr=-3)
        data = pipe.communicate()[0]
        return blob(data) if pipe.returncode == 0 else None

    def intact(self, some=None):
        """Every acknowledged version is what it was, by git and by csb-restore; some: so many."""
        chosen = list(self.acked.items())
        chosen = self.r.sample(chosen, some) if some and some < len(chosen) else chosen
        with subprocess.Popen(["git", f"--git-dir={self.store}", "cat-file", "--batch"],
                              env=self.home.env, stdin=-1, stdout=-1) as pipe:
            for commit, (path, oid) in chosen:
                pipe.stdin.write(f"{commit}:{path}\n".encode())
                pipe.stdin.flush()
                head = pipe.stdout.readline().decode().split()
                assert [oid, "blob"] == head[:2], f"{commit} {oid}: {head}"
                assert blob(pipe.stdout.read(int(head[2]) + 1)[:-1]) == oid
        for commit, (path, oid) in self.r.sample(chosen, min(2, len(chosen))):
            out = self.home.path / "out"
            shutil.rmtree(out, ignore_errors=True)
            project, session = re.fullmatch("projects/(.*)/(.*).jsonl", path).groups()
            record = {"session_id": session, "project": project, "commit": commit}
            self.sh("csb-restore --target-dir ~/out >/dev/null", json.dumps(record).encode()).ok()
            assert blob((out / path).read_bytes()) == oid
        return self

    def sound(self):
        """git has nothing to complain of, each .idx is what git would write, nothing is left."""
        done = self.sh(f"git --git-dir={self.store} fsck --full --strict --no-dangling")
        assert (done.rc, done.out + done.err) == (0, ""), done
        for base in glob.glob(f"{self.folder}/pack-*.pack"):
            base = base[:-5]
            self.git(f"index-pack --strict --no-rev-index -o {self.home.path}/x.idx {base}.pack")
            same = self.data(base + ".idx") == self.data(self.home.path / "x.idx")
            assert same, "not the .idx that git would write"
            os.unlink(self.home.path / "x.idx")
        self.git(" ".join(["verify-pack", *glob.glob(f"{self.folder}/*.idx")]))
        left = [name for name in os.listdir(self.folder)
                if not re.fullmatch(r"pack-[0-9a-f]{40}\.(pack|idx|keep|rev|bitmap|mtimes)", name)]
        alone = [base for base in self.packs() + self.packs(".keep") + self.packs(".idx")
                 if not all(os.path.exists(base + end) for end in (".pack", ".idx"))]
        assert left + alone == []
        return self

    def by_gitpack(self, count=1):
        """Is the newest version in a pack of ours, of which there are count?"""
        assert len(self.packs(".keep")) == count, os.listdir(self.folder)
        with_it = [base for base in self.packs(".keep")
                   if bytes.fromhex(self.digest()) in self.data(base + ".idx")]
        return len(with_it) == 1

    def data(self, path):
        with open(path, "rb") as file:
            return file.read()


@pytest.fixture
def large(sh, home, seeded):
    """A large transcript that is not backed up yet."""
    return Large(sh, home, seeded).write()


def flip(path, at, mask=1):
    """Flip bits of a byte of a read-only file, which keeps its times."""
    times = os.stat(path)
    os.chmod(path, 0o600)
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ mask]))
    os.chmod(path, 0o400)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


# 1: appends

@pytest.mark.soak
@logic
@pytest.mark.parametrize("line, few", [(PIPE, 20), (BACKUP, 4)])
@pytest.mark.few(1)
@pytest.mark.long
def test_an_append_costs_its_lines(line, few, sh, home, seeded, rounds, figure):
    """Ten kilobytes cost twice that at most, every version comes back, git finds no fault."""
    big = Large(sh, home, seeded)
    if rounds(0, 1):
        corpus.make(home.path / "corpus", sessions=2, total_mb=66, big_mb=60, seed=1)
        shutil.copy(max(glob.glob(f"{home.path}/corpus/projects/*/*.jsonl"), key=os.path.getsize),
                    big.file)
    else:
        big.write(text(seeded, 2 * SIZE))
    big.backup(line)
    costs = []
    for step in range(rounds(few, 200)):
        if rounds(0, 1):
            corpus.append(big.file, LINES, seed=step)
        else:
            big.append()
        costs.append(big.backup(line))
        assert big.by_gitpack()
    figure(f"{len(costs)} x 10 KB on {os.path.getsize(big.file) >> 20} MB: the store grows by "
           f"{sum(costs) // len(costs)} bytes each, {max(costs)} at most")
    assert max(costs) <= COST
    assert len(big.packs()) == 1 and len(big.said()["versions"]) == len(costs) + 1
    big.sound().intact(rounds(None, 40))


@logic
def test_what_comes_is_compressed_with_what_was_there(large):
    """Lines that are like the last ones cost next to nothing."""
    large.backup()
    last = large.file.read_bytes()[-25000:]
    with open(large.file, "ab") as file:
        file.write(last)
    assert large.backup() <= 5000
    large.sound().intact()


@logic
@pytest.mark.parametrize("tidy, fresh", [
    ("git --git-dir=.claude-backup/git gc -q --prune=now --aggressive", False),
    ("git --git-dir=.claude-backup/git repack -adfq", False),
    ("git --git-dir=.claude-backup/git -c repack.writeBitmaps=true repack -adq", False),
    ("chmod u+w .claude-backup/git/objects/pack/*; rm .claude-backup/git/objects/pack/*.keep; "
     "git --git-dir=.claude-backup/git repack -adq", True),
    ("csb-gc --now >/dev/null", False)])
@pytest.mark.few(1)
def test_packed_in_the_middle(large, tidy, fresh):
    """Whoever packs the store: nothing is lost by it, and it goes on, after one copy at most."""
    small = large.home.claude / "settings.json"
    for step in range(2):
        small.write_text(f"{step}\n")
        large.append()
        large.backup()
    large.sh(tidy).ok()
    large.sound().intact(1)
    costs = []
    for _ in range(2):
        large.append()
        costs.append(large.backup())
        assert large.by_gitpack()
    assert costs[1] <= COST and (costs[0] <= COST) != fresh, costs
    large.sound().intact()


def given(large):
    """The records that csb-changes has for the next run."""
    return large.sh("csb-changes").ok().out.encode()


@pytest.mark.soak
@logic
@pytest.mark.long
def test_killed_at_any_write(large, tmp_path, home, tools, rounds, figure, sh):
    """Killed at a call that writes: no pack without its .keep, the next run goes on, all is there.
    """
    if reason := faults.missing(tmp_path):
        pytest.skip(reason)
    large.backup()
    large.append()
    large.backup()
    large.append()
    box, words, records = faults.Box(tmp_path, home, tools), ["csb-gitpack"], given(large)
    box.keep()
    marks = faults.trace(box, words, records)
    points = sorted({(mark.call, mark.number) for mark in marks if mark.process == "main"})
    (full,) = {call for call, _ in points if call in ("link", "linkat")}
    must = [(call, number) for call, number in points if call in (full, *rounds((), ["unlink"]))]
    rest = [point for point in points if point not in must]
    ran, at_idx = 0, 0
    for call, number in must + large.r.sample(rest, rounds(1, len(rest))):
        box.fresh()
        done = box.run(words, records, faults.Case("main", call, number, "KILL", "once"))
        assert done.hit, (call, number)
        ran += 1
        bare = set(large.packs()) - set(large.packs(".keep"))
        assert not bare, f"{call} {number}: a git gc may now remove {bare}"
        at_idx += bool(set(large.packs()) - set(large.packs(".idx")))
        acked = dict(large.acked)
        large.intact(1)
        if ran % 2:
            large.append()
        assert large.backup() <= 2 * COST, (call, number)
        large.append()
        assert large.backup() <= COST
        assert large.by_gitpack(), (call, number)
        made = [name for name in os.listdir(large.folder) if name.startswith(".csb-tmp-")]
        assert len(made) <= 2
        for name in made:       # csb-init removes these, a day later
            os.utime(f"{large.folder}/{name}", (0, 0))
        sh("csb-init >/dev/null").ok()
        large.sound().intact(1)
        large.acked = acked
    figure(f"killed at {ran} of {len(points)} calls, {at_idx} times between .pack and .idx")


@logic
def test_killed_between_pack_and_idx(large):
    """A pack whose .idx is not there yet: its version is not taken for stored, nor is it lost."""
    large.backup()
    large.append()
    large.sh("csb-changes | csb-gitpack >/dev/null").ok()
    for base in large.packs():
        os.unlink(base + ".idx")
    assert large.backup() < 2 * COST and large.by_gitpack()
    large.append()
    assert large.backup() <= COST and large.by_gitpack()
    large.sound().intact()


@logic
@pytest.mark.parametrize("call, number", [("link", 1), ("link", 2), ("link", 3), ("fsync", 5)])
@pytest.mark.few(2)
def test_an_error_leaves_nothing(large, tmp_path, home, tools, call, number):
    """No space for the .idx, say: no pack is left that nobody sees, and git does it."""
    if reason := faults.missing(tmp_path):
        pytest.skip(reason)
    large.backup()
    large.append()
    box, before = faults.Box(tmp_path, home, tools), set(os.listdir(large.folder))
    done = box.run(["csb-gitpack"], given(large), faults.Case("main", call, number, "ENOSPC",
                                                              "once"))
    assert done.hit and (done.rc, done.err) == (0, ""), done
    (record,) = map(json.loads, done.out.splitlines())
    assert "oid" not in record and set(os.listdir(large.folder)) == before
    large.sh("csb-gitcommit >/dev/null", done.out).ok()
    large.note()
    large.sound().intact()


# 2: rewritten, and the like

@logic
@pytest.mark.parametrize("how", ["shrunk", "truncated", "same length", "longer", "last byte",
                                 "blanked"])
@pytest.mark.few(1)
def test_rewritten(large, how):
    """The old versions stay readable in their pack, and what comes after is cheap again."""
    large.backup()
    large.append()
    large.backup()
    old, data = large.packs(), large.file.read_bytes()
    r = large.r
    new = {"shrunk": data[:BIG + 5000], "truncated": data[:5000], "same length": data[::-1],
           "longer": text(r, 4000) + data,
           "last byte": data[:-2] + b"]\n", "blanked": b""}[how]
    large.write(new)
    large.backup()
    large.intact()
    assert set(old) <= set(large.packs())
    if len(new) <= BIG:
        assert large.packs() == old
        large.write(new + text(r, SIZE))
        large.backup()
    elif how != "shrunk":
        assert large.by_gitpack(2)
    costs = []
    for _ in range(1 + (how == "shrunk")):
        large.append()
        costs.append(large.backup())
        assert large.by_gitpack(2)
    assert max(costs[how == "shrunk":]) <= COST, costs
    large.sound().intact()


@logic
@pytest.mark.long
def test_deleted_and_back_and_older(large):
    """A file that goes and comes back as it was, or older, costs nothing; its pack goes on."""
    old = large.file.read_bytes()
    large.backup()
    large.append()
    large.backup()
    new = large.file.read_bytes()
    keeper = Large(large.sh, large.home, large.r, 2)
    keeper.write(b"small\n")
    large.file.unlink()
    large.sh(PIPE).ok()
    large.write(new)
    assert large.backup() <= COST and large.by_gitpack()
    large.write(old)
    assert large.backup() <= COST and len(large.packs()) == 1
    large.write(new)
    large.append()
    assert large.backup() <= COST and large.by_gitpack()
    large.write(old)
    large.append()      # another branch of it: a copy, once
    large.backup()
    large.append()
    assert large.backup() <= COST and large.by_gitpack(2)
    large.sound().intact()


@logic
@pytest.mark.long
def test_forked_and_moved(large):
    """The same bytes at two paths are stored once, and have a pack each when they grow."""
    large.backup()
    fork = Large(large.sh, large.home, large.r, 2, "-q").write(large.file.read_bytes())
    assert fork.backup() <= COST and not fork.packs()
    both = [large, fork]
    for step in range(2):
        before = large.bytes()
        for one in both:
            one.append()
        large.sh(PIPE).ok()
        for one in both:
            one.note()
            assert one.by_gitpack()
        assert step == 0 or large.bytes() - before <= 2 * COST
    old, moved = large.path, Large(large.sh, large.home, large.r, 1, "-r")
    os.rename(large.file, moved.file)
    assert moved.backup() <= COST and not moved.packs()
    moved.append()
    moved.backup()
    moved.append()
    assert moved.backup() <= COST and moved.by_gitpack()
    large.path = old
    for one in (large, fork, moved):
        one.intact()
    moved.sound()


# 3: doubt

@logic
@pytest.mark.parametrize("where", ["middle", "head", "first", "last", "delta", "trailer"])
@pytest.mark.few(2)
def test_a_damaged_pack(large, where):
    """Bits flip in the old pack: no wrong byte is copied, and all versions are made anew."""
    large.backup()
    large.append()
    large.backup()
    (base,), said = large.packs(), large.said()
    at = {"head": 12, "first": 12 + said["head"], "middle": large.r.randrange(100, said["end"] - 6),
          "last": said["end"] - 1, "delta": said["end"] + 30,
          "trailer": os.path.getsize(base + ".pack") - 1}[where]
    flip(base + ".pack", at, 1 << large.r.randrange(8))
    large.append()
    large.backup()
    assert large.by_gitpack(), "the damaged pack is there still, or was copied"
    large.append()
    assert large.backup() <= COST
    large.sound().intact()


@logic
def test_what_was_mended_is_not_given_up_for_a_damaged_pack(large):
    """csb-gc believes no .idx: the pack must be what it was when it was written."""
    large.backup()
    large.append()
    large.backup()
    first = min(large.acked, key=lambda commit: list(large.acked).index(commit))
    (base,), said = large.packs(), large.said()
    flip(base + ".pack", large.r.randrange(100, said["end"] - 6))
    large.sh("csb-verify --repair >/dev/null")
    large.sh("csb-verify >/dev/null").ok()
    large.file.unlink()
    (large.file.parent / "other.jsonl").write_text("{}\n")
    large.sh("csb-backup --quiet").ok()
    done = large.sh("csb-gc --now")
    assert done.rc == 1 and "no sound one has" in done.err
    newest = list(large.acked.values())[-1][1]
    assert large.read(newest) == newest
    record = {"session_id": large.id, "commit": first}
    done = large.sh("csb-restore --target-dir ~/out", json.dumps(record).encode())
    whole = large.read(large.acked[first][1])
    assert (done.rc == 0) == (whole is not None), "csb-restore cannot read what git reads"


@logic
def test_a_multi_pack_index_is_forgotten(large):
    """It would name packs that csb-gc removes, and git would store whole copies for ever."""
    large.backup()
    large.git("multi-pack-index write")
    large.append()
    assert large.backup() > COST
    large.sh("csb-gc --now >/dev/null").ok()
    large.append()
    large.backup()
    large.append()
    assert large.backup() <= COST
    large.sound().intact()


@logic
@pytest.mark.parametrize("end", [".keep", ".idx"])
def test_a_damaged_or_missing_companion(large, end, rounds):
    """Each byte of a .keep, or some of an .idx: nothing wrong is stored, and it goes on."""
    large.backup()
    large.append()
    large.backup()
    (base,), records = large.packs(), None
    large.append()
    shutil.copytree(large.store, large.home.path / "sound")
    records, size = given(large), os.path.getsize(base + end)
    step = rounds(size // 6, 1) if end == ".keep" else size // rounds(3, 30)
    for at in [None, *range(large.r.randrange(step), size, step)]:
        shutil.rmtree(large.store)
        shutil.copytree(large.home.path / "sound", large.store, copy_function=shutil.copy2)
        if at is None:
            os.unlink(base + end)
        else:
            flip(base + end, at, 1 << large.r.randrange(8))
        (record,) = large.sh("csb-gitpack", records).ok().records
        assert record["oid"] == large.digest() == large.read(record["oid"]), at
        new = [one for one in large.packs() if one != base]
        assert len(new) == 1
        large.git(f"verify-pack {new[0]}.idx")
        assert (base in large.packs()) == (end == ".keep"), "the old versions are nowhere else"
    large.sh("csb-gitcommit >/dev/null", json.dumps(record).encode()).ok()
    large.note()
    large.append()
    assert large.backup() <= COST
    large.intact()


@logic
def test_other_things_of_that_name(large):
    """What is named like a pack of ours, and is none, is left alone."""
    large.backup()
    key = os.path.basename(large.packs()[0])[:21]
    folder, odd = f"{large.folder}/{key}", []
    os.mkdir(folder + "0" * 24 + ".pack")
    for number, end in enumerate((".pack", ".rev", ".idx", "")):
        odd.append(f"{folder}{'1' * 23}{number}{end}")
        with open(odd[-1], "wb") as file:
            file.write(b"mine")
    for end, mine in ((".pack", b""), (".idx", b""), (".keep", b"mine\n")):
        odd.append(f"{folder}{'2' * 24}{end}")
        with open(odd[-1], "wb") as file:
            file.write(mine)
    for _ in range(2):
        large.append()
        large.sh(PIPE).ok()
    assert [path for path in odd if not os.path.exists(path)] == []
    assert large.packs(".keep") and os.path.isdir(folder + "0" * 24 + ".pack")
    for path in odd:
        os.unlink(path)
    os.rmdir(folder + "0" * 24 + ".pack")
    large.sound().intact()
    os.mkdir(f"{folder}{'3' * 24}.keep")
    for end in (".pack", ".idx"):
        os.mkdir(f"{folder}{'3' * 24}{end}")
    large.append()
    large.sh(PIPE).ok()
    large.note()


@logic
@pytest.mark.parametrize("lie", ["b'x' + block[1:]", "b''", None])
def test_what_is_compressed_is_proven(large, tools, lie):
    """A library that compresses other bytes than it was given: nothing of it gets into the store.
    """
    large.backup()
    large.append()
    bad = "b'\\xff' * 9" if lie is None else f"self.real.compress({lie})"
    code = f"""if True:
        import runpy, sys, zlib
        real = zlib.compressobj
        class Liar:
            def __init__(self, *how):
                self.real = real(*how)
            def compress(self, block):
                return {bad}
            def flush(self, *how):
                return self.real.flush(*how)
        zlib.compressobj = Liar
        sys.argv[0] = sys.argv.pop(1)
        runpy.run_path(sys.argv[0], run_name='__main__')"""
    records, before = given(large), os.listdir(large.folder)
    done = subprocess.run([tools.python, "-I", "-c", code, f"{tools.bin}/csb-gitpack"],
                          input=records, env=large.home.env, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, records, b"")
    assert os.listdir(large.folder) == before


@logic
def test_a_keep_that_lies(large):
    """One whose checksum is right, but not what it says, harms nothing, and stops nothing."""
    large.backup()
    (base,) = large.packs()
    said = large.said()
    for lie in ([], {}, {"versions": []}, {**said, "versions": [["0" * 40, None]]},
                {**said, "head": None}):
        words = json.dumps(lie).encode()
        os.chmod(base + ".keep", 0o600)
        with open(base + ".keep", "wb") as file:
            file.write(b"csb-gitpack %d %s" % (zlib.crc32(words), words))
        large.append(500)
        large.backup()
        assert large.read(large.digest()) == large.digest() and os.path.exists(base + ".pack")
        for other in set(large.packs()) - {base}:
            for end in ".pack", ".idx", ".keep":
                os.rename(other + end, other[:-40] + hashlib.sha1(other.encode()).hexdigest() + end)
    large.sh(f"git --git-dir={large.store} fsck --full --strict --no-dangling").ok()
    large.intact()


@logic
@pytest.mark.parametrize("why", ["multi-pack-index", "multi-pack-index.d", "alternates", "sha256",
                                 "off", "pack directory not writable", "no pack directory"])
@pytest.mark.few(3)
def test_in_doubt_git_does_it(large, why):
    """What is not for it is passed on unchanged, and git stores it."""
    env, where = {}, large.folder
    if why == "sha256":
        large.sh("mkdir -p .claude-backup; git init -q --bare --object-format=sha256 -b main "
                 ".claude-backup/git").ok()
    else:
        large.backup()
        large.append()
    before = large.packs()
    if why == "multi-pack-index":
        large.git("multi-pack-index write")
    elif why == "multi-pack-index.d":
        os.mkdir(where + "/multi-pack-index.d")
    elif why == "alternates":
        large.sh(f"git init -q --bare other; echo ~/other/objects >{where}/../info/alternates")
    elif why == "off":
        env["CSB_NO_GITPACK"] = "1"
    elif why == "pack directory not writable":
        os.chmod(where, 0o500)
    elif why == "no pack directory":
        os.rename(where, where + "-away")
    if os.geteuid() == 0 and why == "pack directory not writable" and not shutil.which("setpriv"):
        pytest.skip("root writes everywhere")
    records = given(large)
    done = large.sh("csb-gitpack", records, **env).ok()
    assert done.out.encode() == records
    if why == "pack directory not writable":
        os.chmod(where, 0o700)
    elif why == "no pack directory":
        os.rename(where + "-away", where)
    assert large.packs() == before
    if why not in ("alternates", "sha256"):
        large.sh("csb-gitcommit >/dev/null", records).ok()
        large.note()
        large.intact()


@logic
def test_a_full_disk(large):
    """Space for the transcript once: the run that fails leaves nothing, one with space goes on."""
    if large.sh("unshare -rm mount -t tmpfs -o size=1m none /mnt").rc:
        pytest.skip("this machine lets nobody mount a tmpfs in a namespace of his own")
    store = "git --git-dir=$HOME/.claude-backup/git"
    done = large.sh(f"""unshare -rm bash -c '
        mkdir ~/.claude-backup; mount -t tmpfs -o size=3m none ~/.claude-backup
        csb-backup --quiet; echo "first $?"; head -c 1900000 /dev/zero >~/.claude-backup/fill
        cp {large.file} ~/old; echo more >>{large.file}
        csb-changes | csb-gitpack >~/out1; echo "pack $?"
        grep -c ,.oid ~/out1; ls ~/.claude-backup/git/objects/pack | grep -vc "^pack-"
        {store} cat-file blob main:{large.path} | cmp - ~/old && echo same
        rm ~/.claude-backup/fill; csb-backup --quiet; echo "second $?"
        {store} cat-file blob main:{large.path} | cmp - {large.file} && echo newest
        {store} fsck --full --strict --no-dangling && echo sound'""")
    assert done.out.split("\n")[:-1] == ["first 0", "pack 0", "0", "0", "same", "second 0",
                                         "newest", "sound"], done


@logic
def test_a_store_of_another_directory(large):
    """Status 3 and one line, as without csb-gitpack; nothing is written. A missing one is made."""
    large.sh("csb-changes | csb-gitpack >made").ok()
    assert large.packs(), "no store was made"
    large.sh("csb-gitcommit <made >/dev/null").ok()
    large.note()
    large.append()
    size = lambda: large.bytes() - os.path.getsize(large.store + "/csb.lock")
    before, other = size(), large.home.path / "other"
    shutil.copytree(large.home.claude, other)
    for line in (PIPE, PIPE.replace("csb-gitpack", "cat")):
        done = large.sh(line, CLAUDE_CONFIG_DIR=str(other))
        assert done.rc == 3 and done.err.count("\n") == 1
        assert "csb-init: cannot use the store" in done.err
        assert size() == before
    large.backup()
    large.sound().intact()


@logic
def test_a_store_that_is_gone_is_told(large):
    """csb-gitpack makes a new one before csb-gitcommit looks: that is said."""
    large.backup(BACKUP)
    shutil.rmtree(large.store)
    done = large.sh(BACKUP)
    assert done.rc == 1 and done.err.count("cannot find the store") == 1, done
    assert '"outcome":"failed"' in (large.home.backup / "backup.log").read_text().splitlines()[-1]
    large.sh(BACKUP).ok()


@logic
@pytest.mark.parametrize("what", ["no repository", "a damaged config"])
def test_a_store_that_is_none(large, what):
    """What the store's tools say of it is said once, and nothing is taken for stored."""
    if what == "no repository":
        os.makedirs(large.store)
    else:
        large.backup()
        with open(large.store + "/config", "a") as file:
            file.write("[core\n")
        large.append()
    records = large.sh("csb-changes").out.encode() or json.dumps({
        "kind": "change", "path": large.path, "class": "noise", "change": "new",
        "size": SIZE}).encode()
    done = large.sh("csb-gitpack | csb-gitcommit", records)
    without = large.sh("csb-gitcommit", records)
    assert done.rc == without.rc != 0 and done.out == ""
    assert done.err == without.err


@logic
def test_their_own_repository(sh, home, seeded):
    """Packs in it survive whatever its owner does, whose work is not touched."""
    sh("git init -q -b work; git config user.name u; git config user.email u@x; echo a >a; "
       "git add a; git commit -qm one; echo b >b; git add b; echo c >>a", cwd=home.claude).ok()
    large = Large(sh, home, seeded)
    large.store, large.ref = f"{home.claude}/.git", "refs/csb/main"
    large.write()
    state = ("export GIT_OPTIONAL_LOCKS=0; cat .git/HEAD; git status --porcelain=v2 -b; "
             "git for-each-ref | grep -v refs/csb/; sha1sum .git/index")
    large.file.parent.joinpath(".gitignore").write_text("*\n")
    before = sh(state, cwd=home.claude).ok().out
    large.backup()
    for words in ("gc -q --prune=now", "repack -adfq"):
        large.append()
        assert large.backup() <= COST
        assert large.by_gitpack()
        assert sh(state, cwd=home.claude).ok().out == before
        sh(f"git {words}", cwd=home.claude).ok()
        large.intact(1)
    assert sh(state, cwd=home.claude).ok().out == before
    large.intact().sound()


@pytest.mark.long
@pytest.mark.soak
@logic
def test_their_gc_meanwhile(sh, home, seeded, rounds, figure):
    """Its owner packs the repository all the time, as git gc does: no version is lost, none costs a
    copy. (repack -a, without -A, drops what anybody has just written: TRUST says so.)"""
    sh("git init -q -b work; git -c user.name=u -c user.email=u@x commit -q --allow-empty -m one",
       cwd=home.claude).ok()
    large = Large(sh, home, seeded)
    large.store, large.ref, stop, counts = f"{home.claude}/.git", "refs/csb/main", [], [0]
    large.write()
    large.backup()

    def owner():
        while not stop:
            subprocess.run(["git", "repack", "-Adq"], cwd=home.claude, env=home.env, stderr=-3)
            counts[0] += 1

    thread = threading.Thread(target=owner)
    thread.start()
    try:
        for _ in range(rounds(4, 100)):
            large.append()
            done = sh(PIPE)
            if done.rc == 0:
                large.note()
    finally:
        stop.append(True)
        thread.join()
    figure(f"{len(large.acked)} versions while {counts[0]} times all was packed")
    large.append()
    assert large.backup() <= COST and len(large.packs()) == len(large.packs(".keep")) == 1
    large.intact(rounds(None, 20)).sound()


# 4, 5, 6: at the same time

@pytest.mark.long
@pytest.mark.soak
@logic
def test_while_it_changes(large, rounds, figure):
    """One appends and one rewrites while backups run: each version is one that the file had."""
    lines = [b"%07d %s\n" % (n, large.r.randbytes(40).hex().encode()) for n in range(30000)]
    whole, stop, tops = b"".join(lines), threading.Event(), []
    other = Large(large.sh, large.home, large.r, 2)
    kinds = {bytes([c]) * 64: (bytes([c]) * 63 + b"\n") * 20000 for c in b"abc"}
    large.write(whole[:SIZE])
    other.write(kinds[b"a" * 64])
    r = random.Random(large.r.random())

    def appends():
        at = SIZE
        with open(large.file, "ab", 0) as file:
            while not stop.is_set() and at < len(whole):
                size = r.randrange(1, 3000)
                file.write(whole[at:at + size])
                at += size
                tops.append(at)
                time.sleep(0.02)

    def rewrites():
        while not stop.is_set():
            data = r.choice(list(kinds.values()))
            how = r.randrange(3)
            if how == 0:        # in place
                with open(other.file, "r+b", 0) as file:
                    file.write(data)
            elif how == 1:      # gone for a moment
                os.unlink(other.file)
                time.sleep(0.01)
                other.file.write_bytes(data)
            else:
                other.file.with_suffix(".new").write_bytes(data)
                os.replace(other.file.with_suffix(".new"), other.file)
            time.sleep(r.random() * 0.3)

    threads = [threading.Thread(target=one) for one in (appends, rewrites)]
    for one in threads:
        one.start()
    packed = 0
    try:
        for _ in range(rounds(6, 50)):
            done = large.sh(PIPE)
            assert done.rc in (0, 1) and all(
                "meanwhile" in line for line in done.err.splitlines()), done
            packed += len(large.packs(".keep")) > 0
    finally:
        stop.set()
        for one in threads:
            one.join()
    good = wrong = 0
    for commit in large.git("rev-list main").split():
        for one in (large, other):
            listed = large.git(f"ls-tree {commit} {one.path}").split()
            if not listed:
                continue
            data = subprocess.run(["git", f"--git-dir={large.store}", "cat-file", "blob",
                                   listed[2]], capture_output=True, env=large.home.env).stdout
            if one is large:
                fine = len(data) >= SIZE and whole.startswith(data)
            else:       # a write in place goes from the start on: a state is a mix at one point
                parts = re.sub(rb"(.)\1{62}\n", rb"\1", data)
                fine = len(parts) == len(data) / 64 and re.fullmatch(rb"(.)\1*((.)\3*)?", parts)
                fine = fine or (data == b"" or len(data) % 4096 == 0)
            good, wrong = good + bool(fine), wrong + (not fine)
    figure(f"{rounds(6, 50)} backups, {good} versions, {wrong} wrong")
    assert good and packed and not wrong
    large.sh(PIPE).ok()
    for one in (large, other):
        one.note()
    large.sound()


@pytest.mark.long
@pytest.mark.soak
@logic
def test_several_at_once(sh, home, seeded, rounds, figure):
    """Four pipelines on the same files: none lost, no fault, no packs pile up."""
    files = [Large(sh, home, seeded, number).write() for number in range(3)]
    sh(PIPE).ok()
    for one in files:
        one.note()
    start = files[0].bytes()
    runs = rounds(2, 10)
    loop = f"for n in $(seq {runs}); do {PIPE}; done"
    pipes = [subprocess.Popen(["bash", "-c", loop], env=home.env, cwd=home.path, stderr=-1)
             for _ in range(4)]
    grown = 0
    while any(pipe.poll() is None for pipe in pipes):
        grown += sum(one.append(1000) for one in files)
        time.sleep(0.1)
    said = b"".join(pipe.communicate()[1] for pipe in pipes).decode()
    assert [line for line in said.splitlines() if "meanwhile" not in line] == [], said
    sh(PIPE).ok()
    for one in files:
        one.note()
        assert one.by_gitpack()
        assert len(one.packs()) == 1, "packs are left over"
        for commit in one.git(f"rev-list main -- {one.path}").split():
            oid = one.git(f"rev-parse {commit}:{one.path}")
            one.acked[commit] = one.path, oid
        one.intact(rounds(4, None))
    files[0].sound()
    growth = files[0].bytes() - start
    commits = len(files[0].git("rev-list main").split())
    figure(f"4 x {runs} at once: {commits} commits, {grown} bytes came, the store grew by {growth}")
    assert growth <= grown + 3 * COST * commits


@pytest.mark.long
@pytest.mark.soak
@logic
def test_readers_meanwhile(large, rounds, figure):
    """Packs are replaced while others read: no object is ever missing, for none of them."""
    large.backup()
    large.append()
    large.backup()
    (first, _), stop, failed, counts = list(large.acked), threading.Event(), [], {}
    oids = [oid for _, oid in large.acked.values()]
    record = json.dumps({"session_id": large.id, "project": "-p", "commit": first})
    slow = subprocess.Popen(["git", f"--git-dir={large.store}", "cat-file", "--batch"],
                            env=large.home.env, stdin=-1, stdout=-1, stderr=-1)

    def ask(oid):
        slow.stdin.write(oid.encode() + b"\n")
        slow.stdin.flush()
        head = slow.stdout.readline().split()
        data = slow.stdout.read(int(head[2]) + 1)[:-1] if len(head) == 3 else b""
        return blob(data) == oid

    def git():
        return ask(large.r.choice(oids)) and large.read(oids[0]) == oids[0]

    def restore():
        shutil.rmtree(large.home.path / "look", ignore_errors=True)
        done = subprocess.run(["bash", "-c", "csb-restore --target-dir ~/look >/dev/null"],
                              input=record.encode(), env=large.home.env, cwd=large.home.path,
                              capture_output=True)
        return done.returncode == 0 and blob(
            (large.home.path / "look" / large.path).read_bytes()) == oids[0]

    def verify():
        done = subprocess.run(["bash", "-c", "csb-verify"], env=large.home.env,
                              cwd=large.home.path, capture_output=True)
        return done.returncode == 0 and b'"ok":false' not in done.stdout

    def loop(reader):
        while not stop.is_set():
            counts[reader.__name__] = counts.get(reader.__name__, 0) + 1
            if not reader():
                failed.append(reader.__name__)

    threads = [threading.Thread(target=loop, args=(reader,)) for reader in (git, restore, verify)]
    for one in threads:
        one.start()
    try:
        for _ in range(rounds(4, 100)):
            large.append()
            large.backup()
    finally:
        stop.set()
        for one in threads:
            one.join()
        slow.stdin.close()
        slow.wait()
    figure(f"{counts} reads while {rounds(4, 100)} packs were replaced, {len(failed)} failed")
    assert not failed and len(counts) == 3
    large.sound().intact(3)


# 7: records

ODD = [{"path": "projects/-p/a\0.jsonl"}, {"path": "projects/../x.jsonl"}, {"path": "/x.jsonl"},
       {"path": "projects//a.jsonl"}, {"path": "projects/./a.jsonl"}, {"path": 5}, {"path": None},
       {"path": ["a.jsonl"]}, {"path": "projects/-p/\ufffd.jsonl"},
       {"path": "projects/-p/\ud800.jsonl"}, {"size": str(SIZE)}, {"size": None}, {"size": True},
       {"size": 1e9}, {"size": -SIZE}, {"oid": "0" * 40}, {"link": "elsewhere.jsonl"},
       {"change": "deleted"}, {"change": "meta"}, {"change": "recheck"}, {"change": []},
       {"change": None}, {"kind": "refused"}, {"path": "projects/-p/folder.jsonl"},
       {"path": "projects/-p/fifo.jsonl"}, {"path": "projects/-p/gone.jsonl"},
       {"path": "top.jsonl"}, {"path": "projects/-p/x.jsonl/"},
       {"size": BIG}, {"size": 1 << 31}, {"path": "projects/-p/x.jsonl.gz"},
       {"path": "skills/x.jsonl"}]


@logic
def test_odd_records_are_passed_on(large):
    """What makes no sense, or is not for it, comes out as it went in, in a run that goes on."""
    folder = large.file.parent
    (folder / "folder.jsonl").mkdir()
    (large.home.claude / "skills").mkdir()
    for path in (folder / "x.jsonl.gz", large.home.claude / "skills/x.jsonl"):
        shutil.copy(large.file, path)
    os.mkfifo(folder / "fifo.jsonl")
    (large.home.claude / "top.jsonl").symlink_to(large.file)
    (sound,) = [record for record in map(json.loads, given(large).splitlines())
                if record["path"] == large.path]
    odd = [{**sound, **change, "mine": [1]} for change in ODD]
    lines = "".join(json.dumps(record) + "\n" for record in [*odd, sound])
    done = large.sh("csb-gitpack", lines.encode()).ok()
    *passed, last = done.records
    order = lambda records: sorted(map(json.dumps, records))
    assert order(passed) == order(odd)
    assert last == {**sound, **last} and last["oid"] == large.digest() and "known" not in last
    assert large.sh("csb-gitpack", json.dumps(sound).encode()).ok().records[0]["known"] is True
    large.sh("csb-gitcommit >/dev/null", json.dumps(last).encode()).ok()
    large.note()
    large.sound().intact()


def test_records_of_other_kinds(large):
    """Nothing in is nothing out; only strangers are an error; refused is passed on."""
    assert large.sh("csb-gitpack").ok().out == ""
    refused = '{"kind":"refused","path":"a","reason":"b"}\n'
    assert large.sh("csb-gitpack", refused.encode()).ok().out == refused
    assert not os.path.exists(large.store), "a store was made for nothing"
    done = large.sh("csb-gitpack", b'{"kind":"session","session_id":"1234"}\n')
    assert (done.rc, done.err) == (1, "csb-gitpack: cannot find a change record in the input\n")
    done = large.sh("csb-gitpack", b"no json\n")
    assert done.rc == 1 and done.err.count("\n") == 1
    assert large.sh("csb-gitpack --nonsense").rc == 2
    large.sh(PIPE).ok()
    large.note()
    assert large.by_gitpack()
    large.intact()


@logic
def test_a_dry_run_stores_nothing(large):
    """csb-gitcommit --dry-run does not start csb-gitpack."""
    assert large.sh("csb-changes | csb-gitcommit --dry-run").ok().records
    assert not os.path.exists(large.store)


# 8: memory

def peak(words, stdin, env, cwd):
    """(status, MB) of one process, by wait4: without what it starts. A child begins with the peak
    of its parent, so that is a small one."""
    small = ("import os, sys; pid = os.fork(); pid or os.execv(sys.argv[1], sys.argv[1:]); "
             "_, status, usage = os.wait4(pid, 0); "
             "print(status, usage.ru_maxrss >> 10, file=open('peak', 'w'))")
    with open(stdin, "rb") as file, open(cwd / "out", "wb") as out:
        subprocess.run([words[0], "-I", "-c", small, *words], stdin=file, stdout=out, env=env,
                       cwd=cwd, check=True)
    return tuple(map(int, (cwd / "peak").read_text().split()))


@pytest.mark.soak
@logic
def test_memory(large, rounds, figure, tools, seeded):
    """A transcript of any size takes 64 MB at most, on a machine of many cores too."""
    size = rounds(64, 1024)
    with open(large.file, "wb") as file:
        piece = text(seeded, BIG)
        for number in range(size):
            file.write(b"%d %s" % (number, piece))
    tool = f"{tools.bin}/csb-gitpack"
    many = ("import os, runpy, sys; os.cpu_count = lambda: 64; sys.argv[0] = sys.argv.pop(1); "
            "runpy.run_path(sys.argv[0], run_name='__main__')")
    found = {}
    for what in "first", "append":
        large.sh("csb-changes >in").ok()
        words = [tools.python, "-I", "-c", many, tool]
        status, found[what] = peak(words, large.home.path / "in", large.home.env, large.home.path)
        assert status == 0 and large.by_gitpack()
        large.sh("csb-gitcommit <out >/dev/null").ok()
        large.note()
        large.append()
    old = next(iter(large.acked))
    git = shutil.which("git")
    shim = large.home.path / "shim"
    shim.mkdir()
    (shim / "git").write_text(
        f"#!{tools.python} -I\nimport os, sys\npid = os.fork()\n"
        f"pid or os.execv('{git}', ['git', *sys.argv[1:]])\n_, status, usage = os.wait4(pid, 0)\n"
        f"print(usage.ru_maxrss >> 10, file=open('{large.home.path}/rss', 'a'))\n"
        "os._exit(os.waitstatus_to_exitcode(status) & 255)\n")
    (shim / "git").chmod(0o755)
    record = large.home.path / "record"
    record.write_text(json.dumps({"session_id": large.id, "commit": old}))
    env = {**large.home.env, "PATH": f"{shim}:{large.home.env['PATH']}"}
    words = [tools.python, "-I", f"{tools.bin}/csb-restore", "--target-dir", "seen"]
    status, found["restore"] = peak(words, record, env, large.home.path)
    assert status == 0
    assert blob((large.home.path / "seen" / large.path).read_bytes()) == large.acked[old][1]
    gits = max(map(int, (large.home.path / "rss").read_text().split()))
    figure(f"{size} MB: csb-gitpack {found['first']} MB, after an append {found['append']} MB, "
           f"csb-restore of the old version {found['restore']} MB, its git {gits} MB")
    assert max(found.values()) <= 64 and gits <= 100
