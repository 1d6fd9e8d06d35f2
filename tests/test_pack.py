"""csb.pack: packs that grow with a file, and nothing is lost by it, whatever happens

Most of it through the pipeline that backs up; formats and limits as functions.
"""
import glob
import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import threading
import time
import zlib

import corpus
import faults
import pytest
from conftest import blob

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../lib"))

import csb.pack
from csb import Error
from csb.files import Changed

ID = "11111111-2222-4333-8444-{:012d}"
PIPE = "csb-changes | csb-gitcommit >/dev/null"
BIG = 1 << 20
SIZE = 1_150_000
LINES = 10_000          # bytes that are appended at a time
CHEAP = 8_000           # bytes that 10 KB more of a transcript may cost
COST = 20_000           # bytes that 10 KB more of anything may cost
TMP = ".csb-tmp-"
logic = pytest.mark.logic
pytestmark = logic


def text(r, size):
    """Lines of about size bytes, which compress to a quarter, as transcripts do."""
    words = [r.randbytes(5).hex() for _ in range(16)]
    out = []
    while size > 0:
        body = " ".join(r.choices(words, k=60))
        out.append(b'{"type":"user","uuid":"%s","text":"%s"}\n' % (
            r.randbytes(8).hex().encode(), body.encode()))
        size -= len(out[-1])
    return b"".join(out)


class Large:
    """A large file, its store, and what must come back: .acked[commit] = (path, id)."""

    def __init__(self, sh, home, r, number=1, project="-p", path=None):
        self.sh, self.home, self.r = sh, home, r
        self.id = ID.format(number)
        self.store = f"{home.backup}/git"
        self.path = path or f"projects/{project}/{self.id}.jsonl"
        self.file = home.claude / self.path
        self.ref = "main"
        self.acked = {}
        self.file.parent.mkdir(parents=True, exist_ok=True)

    @property
    def folder(self):
        return f"{self.store}/objects/pack"

    def git(self, words, stdin=b""):
        """git's stdout (text) in the store."""
        done = subprocess.run(
            ["git", f"--git-dir={self.store}", *words.split()], input=stdin,
            env=self.home.env, capture_output=True, cwd=self.home.path)
        assert done.returncode == 0, done
        return done.stdout.decode().strip()

    def write(self, data=None):
        self.file.write_bytes(text(self.r, SIZE) if data is None else data)
        return self

    def append(self, size=LINES):
        """Lines come; their number of bytes."""
        with open(self.file, "ab") as file:
            return file.write(text(self.r, size))

    def backup(self, line=PIPE, **env):
        """A backup, which must succeed: what it cost the store, in bytes."""
        before = self.bytes()
        self.sh(line, **env).ok()
        self.note()
        return self.bytes() - before

    def grown(self, times=3):
        """Backed up, and again each time that it has grown."""
        for _ in range(times):
            self.append()
            self.backup()
        return self

    def note(self):
        """What the disk has is in the newest commit."""
        commit, oid = self.git(f"rev-parse {self.ref} {self.ref}:{self.path}").split()
        assert oid == self.digest(), "the newest commit is not what the disk has"
        self.acked[commit] = self.path, oid

    def digest(self):
        return blob(self.file.read_bytes())

    def bytes(self):
        """The sum of the sizes of the store's files."""
        return sum(os.path.getsize(os.path.join(folder, name))
                   for folder, _, names in os.walk(self.store) for name in names)

    def packs(self, end=".keep"):
        """The packs that grow, without an ending, the largest (the newest) last."""
        found = [name.removesuffix(end) for name in glob.glob(f"{self.folder}/*{end}")]
        return sorted(found, key=lambda path: os.path.getsize(path + ".pack"))

    def said(self, base):
        """What a .keep says."""
        with open(base + ".keep") as file:
            return json.loads(file.read().split(" ", 2)[2])

    def read(self, oid):
        """The id of the bytes that git gives for an id, None if it cannot."""
        done = subprocess.run(
            ["git", f"--git-dir={self.store}", "cat-file", "blob", oid],
            env=self.home.env, capture_output=True)
        return blob(done.stdout) if done.returncode == 0 else None

    def intact(self):
        """Every acknowledged version is what it was."""
        for commit, (path, oid) in self.acked.items():
            assert self.git(f"rev-parse {commit}:{path}") == oid
            assert self.read(oid) == oid, f"version {oid} of {path} is lost"
        return self

    def sound(self):
        """git finds no fault, each .idx is what git would write, nothing is left."""
        fsck = f"git --git-dir={self.store} fsck --full --strict --no-dangling"
        done = self.sh(fsck)
        assert (done.rc, done.out + done.err) == (0, ""), done
        for pack in glob.glob(f"{self.folder}/pack-*.pack"):
            idx = f"{self.home.path}/x.idx"
            self.git(f"index-pack --strict --no-rev-index -o {idx} {pack}")
            with open(idx, "rb") as file, open(pack[:-5] + ".idx", "rb") as ours:
                assert file.read() == ours.read(), "not the .idx that git would write"
            os.unlink(idx)
        self.git(" ".join(["verify-pack", *glob.glob(f"{self.folder}/*.idx")]))
        names = os.listdir(self.folder)
        assert [name for name in names if not re.fullmatch(
            r"pack-[0-9a-f]{40}\.(pack|idx|keep|rev|bitmap|mtimes)", name)] == []
        for name in names:
            base = name.partition(".")[0]
            assert {base + ".pack", base + ".idx"} <= set(names), names
        return self

    def is_in_a_pack(self):
        """Has a pack that grows the newest version?"""
        newest = [self.said(base)["versions"][0][0] for base in self.packs()]
        return self.digest() in newest


@pytest.fixture
def large(sh, home, seeded):
    """A large transcript that is not backed up yet."""
    return Large(sh, home, seeded).write()


def grow_three_times(sh, home):
    """A large transcript, backed up each time that it has grown;
    what is acknowledged."""
    large = Large(sh, home, random.Random(1)).write()
    return large.grown(3).acked


@pytest.fixture
def thrice(once, sh, home, seeded):
    """A large transcript that was backed up each time that it grew."""
    acked = once(grow_three_times)
    large = Large(sh, home, seeded)
    large.acked = acked
    return large


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


# --- appends --------------------------------------------------------------------------


@logic
def test_ten_kilobytes_more_of_a_transcript(sh, home, seeded, rounds, figure):
    """They cost 8 KB at most from the second time on; every version comes back."""
    large = Large(sh, home, seeded)
    corpus.make(home.path / "corpus", sessions=2, total_mb=3, big_mb=2, seed=1)
    files = glob.glob(f"{home.path}/corpus/projects/*/*.jsonl")
    shutil.copy(max(files, key=os.path.getsize), large.file)
    large.backup()
    costs = []
    for step in range(rounds(3, 200)):
        corpus.append(large.file, LINES, seed=step)
        costs.append(large.backup())
        assert large.is_in_a_pack()
    figure(f"{len(costs)} x 10 KB: {costs[0]} bytes, then {max(costs[1:])} at most")
    assert max(costs[1:]) <= CHEAP, costs
    assert len(large.packs()) == 2, "the newest generation, and the one before"
    assert len(large.said(large.packs()[-1])["versions"]) == len(costs) + 1
    large.sound().intact()


@pytest.mark.long
@logic
@pytest.mark.parametrize("path", ["history.log", "projects/-p/x/tool-results/out.txt"])
@pytest.mark.few(1)
def test_ten_kilobytes_more_of_any_file(sh, home, seeded, path, rounds):
    """A large text, whatever its name: it costs 20 KB from the second time on."""
    large = Large(sh, home, seeded, path=path)
    large.write(text(seeded, BIG) * rounds(4, 20))
    large.backup()
    assert not large.packs(), "nobody knows yet that it grows"
    costs = []
    for _ in range(3):
        large.append()
        costs.append(large.backup())
    assert max(costs[1:]) <= COST, costs
    assert len(large.packs()) == len(large.packs(".pack")) == 2
    large.sound().intact()


@logic
def test_what_comes_is_compressed_with_what_was_there(large):
    """Lines that are like the last ones cost next to nothing."""
    large.backup()
    large.grown(1)
    last = large.file.read_bytes()[-25000:]
    with open(large.file, "ab") as file:
        file.write(last)
    assert large.backup() <= 5000
    large.sound().intact()


@logic
def test_a_file_that_was_small(sh, home, seeded):
    """It grows above 1 MB: its pack has the small version, too."""
    large = Large(sh, home, seeded).write(text(seeded, 900_000))
    large.backup()
    large.append(200_000)
    large.backup()
    (base,) = large.packs()
    assert len(large.said(base)["versions"]) == 2
    large.grown(1)
    large.append()
    assert large.backup() <= COST
    large.sound().intact()


@logic
@pytest.mark.parametrize("tidy, fresh", [
    ("git --git-dir=.claude-backup/git gc -q --prune=now --aggressive", False),
    ("git --git-dir=.claude-backup/git repack -adfq", False),
    ("cd .claude-backup/git/objects/pack; chmod u+w *; rm *.keep; "
     "git --git-dir=$HOME/.claude-backup/git repack -adq", True),
    ("csb-gc --now >/dev/null", False)])
@pytest.mark.few(1)
def test_packed_in_the_middle(thrice, tidy, fresh):
    """Whoever packs the store: nothing is lost, and it goes on,
    after two copies at most."""
    large = thrice
    large.sh(tidy).ok()
    large.intact()
    costs = []
    for _ in range(4):
        large.append()
        costs.append(large.backup())
        assert large.is_in_a_pack()
    # csb-gc has removed the generation before: the next one is a copy more.
    assert max(costs[2 if fresh else 1:]) <= COST, costs
    large.sound().intact()


# --- rewritten, moved, and the like ---------------------------------------------------


@logic
@pytest.mark.parametrize("how", ["shrunk", "truncated", "same length", "longer",
                                 "last byte", "blanked"])
@pytest.mark.few(2)
def test_rewritten(thrice, how):
    """It starts anew, without a .keep; old versions stay; what comes after is cheap."""
    large = thrice
    old, data = large.packs(), large.file.read_bytes()
    large.write({
        "shrunk": data[:BIG + 5000],
        "truncated": data[:5000],
        "same length": data[::-1],
        "longer": text(large.r, 4000) + data,
        "last byte": data[:-2] + b"]\n",
        "blanked": b"",
    }[how])
    large.backup()
    if how != "last byte":      # that begins with the version of the generation before
        assert large.packs() == old, "what was rewritten got a pack that grows"
    large.intact()
    if large.file.stat().st_size <= BIG:
        large.append(SIZE)
        large.backup()
    large.grown(2)
    large.append()
    assert large.backup() <= COST
    assert large.is_in_a_pack()
    assert set(old) & set(large.packs()), "the old versions are nowhere else"
    large.sound().intact()


@logic
def test_a_database_has_no_pack_that_grows(sh, home, seeded):
    """A file of which some of the middle changes is stored as git does it."""
    large = Large(sh, home, seeded, path="things.db").write()
    data = bytearray(large.file.read_bytes())
    for step in range(3):
        large.write(bytes(data) + b"%d" % step * 500 * step)
        large.backup()
        assert large.packs() == []
        data[500 + step] ^= 1
    large.sound().intact()


@logic
@pytest.mark.long
def test_deleted_and_back_and_older(large):
    """A file that comes back as it was, or older, costs nothing; its pack goes on."""
    old = large.file.read_bytes()
    large.backup()
    large.grown(2)
    new = large.file.read_bytes()
    Large(large.sh, large.home, large.r, 2).write(b"small\n")
    large.file.unlink()
    large.sh(PIPE).ok()
    large.write(new)
    assert large.backup() <= COST
    large.write(old)
    large.backup()
    large.write(new)
    large.append()
    large.backup()
    assert large.is_in_a_pack()
    large.append()
    assert large.backup() <= COST
    large.sound().intact()


@logic
def test_moved_to_another_project(thrice):
    """A transcript that moved goes on in its pack: the session's id is its key."""
    large = thrice
    moved = Large(large.sh, large.home, large.r, 1, "-r")
    os.rename(large.file, moved.file)
    assert moved.backup() <= COST
    moved.append()
    assert moved.backup() <= COST and moved.is_in_a_pack()
    assert len(moved.packs()) == 2
    moved.sound().intact()
    large.intact()


@logic
def test_files_of_one_session_grow_in_one_portion(sh, home, seeded):
    """They share a key, and two are stored at a time: each has its versions, and one
    generation before, and nothing is left."""
    paths = [f"projects/-p/{ID.format(1)}/subagents/agent-{n}.jsonl" for n in range(4)]
    files = [Large(sh, home, seeded, path=path).write() for path in [None, *paths]]
    # One that begins as another does looks at the same packs.
    files.append(
        Large(sh, home, seeded, project="-q").write(files[0].file.read_bytes())
    )
    for _ in range(4):
        for one in files:
            one.append()
        sh(PIPE).ok()
        for one in files:
            one.note()
    for one in files:
        assert one.is_in_a_pack()
        one.intact()
    assert len(one.packs()) == 2 * len(files)
    one.sound()


@logic
def test_packs_of_the_first_design_go_on(thrice):
    """Their names came from the path."""
    large = thrice
    key = hashlib.sha1(os.fsencode(large.path)).hexdigest()[:16]
    for base in large.packs():
        for end in (".pack", ".idx", ".keep"):
            new = f"{large.folder}/pack-{key}{base[-24:]}{end}"
            assert new != base + end, "it is not the session's id that names them"
            os.rename(base + end, new)
    large.append()
    assert large.backup() <= COST
    large.append()
    assert large.backup() <= COST
    assert len(large.packs()) == 2
    large.sound().intact()


@logic
@pytest.mark.long
def test_a_fork(large):
    """The same bytes at two paths are stored once,
    and have packs each when they grow."""
    large.backup()
    fork = Large(large.sh, large.home, large.r, 2, "-q").write(large.file.read_bytes())
    assert fork.backup() <= COST
    for step in range(4):
        before = large.bytes()
        for one in (large, fork):
            one.append()
        large.sh(PIPE).ok()
        for one in (large, fork):
            one.note()
            assert one.is_in_a_pack()
        assert step < 2 or large.bytes() - before <= 2 * COST
    for one in (large, fork):
        one.sound().intact()


# --- damage ---------------------------------------------------------------------------


@logic
@pytest.mark.parametrize(
    "where", ["stream", "head", "first", "last", "delta", "trailer", "pack head", "idx"]
)
@pytest.mark.few(1)
def test_a_bit_flipped_in_the_newest_pack(thrice, where):
    """The generation before is still there, and the next backup makes all anew."""
    large = thrice
    (older, newest), said = large.packs(), large.said(large.packs()[-1])
    at = {
        "pack head": 11,
        "head": 12,
        "first": 12 + said["head"],
        "stream": large.r.randrange(100, said["end"] - 6),
        "last": said["end"] - 1,
        "delta": said["end"] + 30,
        "trailer": os.path.getsize(newest + ".pack") - 1,
        "idx": 8 + 1024 + 3,
    }[where]
    suffix = ".idx" if where == "idx" else ".pack"
    flip(newest + suffix, at, 1 << large.r.randrange(8))
    # What the file no longer begins with only the generation before has now.
    *older_versions, _ = [oid for _, oid in large.acked.values()]
    gone = f"{large.home.path}/gone"
    os.mkdir(gone)
    for end in (".pack", ".idx", ".keep"):
        os.rename(newest + end, f"{gone}/{os.path.basename(newest)}{end}")
    assert [large.read(oid) for oid in older_versions] == older_versions
    for end in (".pack", ".idx", ".keep"):
        os.rename(f"{gone}/{os.path.basename(newest)}{end}", newest + end)

    large.append()
    large.backup()
    assert older in large.packs(), "dropped before the new one was read back"
    large.append()
    large.backup()
    assert newest not in large.packs() and older not in large.packs()
    large.append()
    assert large.backup() <= COST
    large.sound().intact()


def silent_damage(stream):
    """A place whose last bit makes other text of a zlib stream's start,
    without an error."""
    text = zlib.decompressobj().decompress(stream, 4096)
    for at in range(20, 2000):
        stream[at] ^= 1
        try:
            other = zlib.decompressobj().decompress(stream, 4096)
        except zlib.error:
            other = text
        stream[at] ^= 1
        if other != text:
            return at
    raise AssertionError("no such place")


@logic
def test_the_only_pack_is_damaged_where_the_file_begins(thrice):
    """Its first bytes look like those of another file:
    all is made anew all the same."""
    large = thrice
    older, newest = large.packs()
    csb.pack.remove_pack(older)
    at = 12 + large.said(newest)["head"]
    with open(newest + ".pack", "rb") as file:
        stream = bytearray(file.read()[at:at + BIG])
    flip(newest + ".pack", at + silent_damage(stream), 1)
    large.append()
    large.backup()
    new = [base for base in large.packs() if base != newest]
    assert len(large.said(new[0])["versions"]) == 4
    large.append()
    large.backup()
    large.sound().intact()


@logic
def test_the_generation_before_goes_at_once_by_csb_gc(thrice):
    """It reads the new one back itself."""
    large = thrice
    older, newest = large.packs()
    large.sh("csb-gc --now >/dev/null").ok()
    assert large.packs() == [newest]
    large.sound().intact()


@logic
@pytest.mark.parametrize("end", [".keep", ".idx"])
def test_a_damaged_or_missing_companion(thrice, end, rounds):
    """Bytes of a .keep or an .idx: nothing wrong is stored, and it goes on."""
    large = thrice
    base = large.packs()[-1]
    large.append()
    shutil.copytree(large.store, large.home.path / "sound")
    size = os.path.getsize(base + end)
    step = size // rounds(2, 30)
    for at in [None, *range(large.r.randrange(step), size, step)]:
        shutil.rmtree(large.store)
        shutil.copytree(large.home.path / "sound", large.store)
        if at is None:
            os.unlink(base + end)
        else:
            flip(base + end, at, 1 << large.r.randrange(8))
        large.sh(PIPE).ok()
        assert large.read(large.digest()) == large.digest(), at
        new = large.packs()[-1]
        assert new != base and large.said(new)["versions"][0][0] == large.digest()
        large.git(f"verify-pack {new}.idx")
    large.grown(2)
    large.intact()


@pytest.mark.long
@logic
def test_a_keep_that_lies(large):
    """One whose checksum is right, but not what it says, harms and stops nothing."""
    large.backup()
    (base,) = large.packs()
    said = large.said(base)
    for lie in ([], {}, {"versions": []}, {**said, "versions": [["0" * 40, None]]},
                {**said, "versions": [[5, 5]]}, {**said, "head": None},
                {**said, "versions": [["0" * 40, 500]]}):
        words = json.dumps(lie).encode()
        os.chmod(base + ".keep", 0o600)
        with open(base + ".keep", "wb") as file:
            file.write(b"csb-gitpack %d %s" % (zlib.crc32(words), words))
        large.append(500)
        large.backup()
        assert os.path.exists(base + ".pack")
    large.intact()


# --- kills and errors -----------------------------------------------------------------


def half_packs(large):
    """Packs that git sees (it passes over an .idx alone) and that are not whole."""
    return [pack for pack in glob.glob(f"{large.folder}/*.pack") if subprocess.run(
        ["git", "verify-pack", pack], capture_output=True, env=large.home.env,
    ).returncode and os.path.exists(pack[:-5] + ".idx")]


@pytest.fixture
def appended(thrice, tmp_path, home, tools):
    """A file that has grown again: a Box for csb-gitcommit, and what is its input."""
    if reason := faults.missing(tmp_path):
        pytest.skip(reason)
    large = thrice
    large.append()
    records = large.sh("csb-changes").ok().out.encode()
    return faults.Box(tmp_path, home, tools), records


@logic
@pytest.mark.long
def test_killed_at_any_moment(large, appended, rounds, figure):
    """No pack without its .keep, none that is half there; the next run goes on."""
    box, records = appended
    words = ["csb-gitcommit"]
    box.keep()
    marks = faults.trace(box, words, records)
    points = sorted({(one.call, one.number) for one in marks if one.process == "main"})
    assert points
    must = [one for one in points if one[0].startswith(("rename", "unlink"))]
    rest = [one for one in points if one not in must]
    chosen = large.r.sample(must, rounds(min(5, len(must)), len(must)))
    chosen += large.r.sample(rest, rounds(3, len(rest)))
    acked = dict(large.acked)
    for call, number in chosen:
        box.fresh()
        large.acked = dict(acked)
        kill = faults.Case("main", call, number, "KILL", "once")
        done = box.run(words, records, kill)
        assert done.hit, (call, number)
        assert half_packs(large) == [], (call, number)
        for pack in glob.glob(f"{large.folder}/*.pack"):
            assert os.path.exists(pack[:-5] + ".keep"), "a git gc may now remove it"
        large.intact()
        for _ in range(3):
            large.append()
            cost = large.backup()
        assert cost <= COST and large.is_in_a_pack(), (call, number)
        for name in os.listdir(large.folder):
            if name.startswith(TMP):        # they go when they are a day old
                os.utime(f"{large.folder}/{name}", (0, 0))
        large.grown(1)
        large.sound().intact()
    figure(f"killed at {len(chosen)} of {len(points)} calls")


@logic
def test_killed_before_git_sees_it(thrice):
    """A pack that has no .idx yet: nothing is lost by it, and it goes in the end."""
    large = thrice
    large.append()
    before = set(large.packs())
    large.sh(PIPE).ok()
    (new,) = set(large.packs()) - before
    os.unlink(new + ".idx")
    large.git("update-ref refs/heads/main main~1")
    large.grown(3)
    assert new not in large.packs()
    large.sound().intact()


@logic
@pytest.mark.parametrize(
    "call, number",
    [
        ("rename", 1),
        ("rename", 2),
        ("rename", 3),
        ("fsync", 1),
        ("fsync", 3),
        ("fsync", 4),
    ],
)
@pytest.mark.few(1)
def test_an_error_leaves_nothing(large, appended, call, number):
    """No space for a part of it: it is said, and no pack is left that nobody sees."""
    box, records = appended
    before = set(os.listdir(large.folder))
    case = faults.Case("main", call, number, "ENOSPC", "once")
    done = box.run(["csb-gitcommit"], records, case)
    assert done.hit and done.rc == 1 and done.err.count("\n") == 1, done
    assert set(os.listdir(large.folder)) == before
    large.backup()
    large.grown(2)
    large.sound().intact()


@logic
def test_a_full_disk(large):
    """A run that has no space leaves nothing, one that has goes on."""
    if large.sh("unshare -rm mount -t tmpfs -o size=1m none /mnt").rc:
        pytest.skip("this machine lets nobody mount a tmpfs in a namespace of his own")
    large.write(large.r.randbytes(SIZE))
    git = "git --git-dir=$HOME/.claude-backup/git"
    done = large.sh(f"""unshare -rm bash -c '
        mkdir ~/.claude-backup; mount -t tmpfs -o size=5m none ~/.claude-backup
        {PIPE}; echo "first $?"; head -c 3200000 /dev/zero >~/.claude-backup/fill
        cp {large.file} ~/old; echo more >>{large.file}
        csb-changes | csb-gitcommit; echo "full $?"
        ls -A ~/.claude-backup/git/objects/pack | grep -vc "^pack-"
        ls ~/.claude-backup/git/objects/pack/*.keep | wc -l
        {git} cat-file blob main:{large.path} | cmp - ~/old && echo same
        rm ~/.claude-backup/fill; {PIPE}; echo "second $?"
        {git} cat-file blob main:{large.path} | cmp - {large.file} && echo newest
        {git} fsck --full --strict --no-dangling && echo sound'""")
    assert done.out.split("\n")[:-1] == [
        "first 0", "full 1", "0", "1", "same", "second 0", "newest", "sound"], done
    assert done.err.count("\n") == 1 and "No space left" in done.err, done


@logic
@pytest.mark.parametrize("lie", ["b'x' + block[1:]", "b''", None])
@pytest.mark.few(1)
def test_what_is_compressed_is_proven(large, tools, lie):
    """A library that compresses other bytes than it was given: nothing is stored."""
    large.grown(1)
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
    records = large.sh("csb-changes").ok().out.encode()
    before = os.listdir(large.folder)
    done = subprocess.run(
        [tools.python, "-I", "-c", code, f"{tools.bin}/csb-gitcommit"],
        input=records, env=large.home.env, capture_output=True)
    assert done.returncode == 1 and done.stdout == b"", done
    assert os.listdir(large.folder) == before
    large.backup()
    large.sound().intact()


# --- where no pack can grow -----------------------------------------------------------


@logic
@pytest.mark.parametrize("why", ["multi-pack-index", "alternates", "sha256"])
def test_where_no_pack_can_grow(large, why):
    """The bytes go where git puts them."""
    if why == "sha256":
        large.sh("mkdir -p .claude-backup; git init -q --bare --object-format=sha256 "
                 "-b main .claude-backup/git").ok()
    else:
        large.grown(2)
    before = large.packs()
    if why == "multi-pack-index":
        large.git("multi-pack-index write")
    elif why == "alternates":
        large.sh("git init -q --bare other; "
                 f"echo ~/other/objects >{large.folder}/../info/alternates").ok()
    large.append()
    large.sh(PIPE).ok()
    assert large.packs() == before
    stored = large.sh(f"git --git-dir={large.store} cat-file blob main:{large.path} | "
                      f"cmp - {large.file}")
    assert stored.rc == 0, stored


# --- beside others -------------------------------------------------------------------


@pytest.mark.long
@logic
def test_a_multi_pack_index_is_forgotten(large):
    """It would name packs that csb-gc removes,
    and git would store whole copies for ever."""
    large.backup()
    large.git("multi-pack-index write")
    large.append()
    assert large.backup() > COST
    large.sh("csb-gc --now >/dev/null").ok()
    large.grown(2)
    large.append()
    assert large.backup() <= COST
    large.sound().intact()


@logic
def test_what_was_mended_is_not_given_up_for_a_damaged_pack(thrice):
    """csb-gc believes no .idx: the pack must be what it was when it was written."""
    large = thrice
    first = next(iter(large.acked))
    older, base = large.packs()
    csb.pack.remove_pack(older)
    said = large.said(base)
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
    assert (done.rc == 0) == (whole is not None), (
        "csb-restore cannot read what git reads"
    )


@pytest.mark.long
@logic
def test_their_own_repository(sh, home, seeded):
    """Packs in it survive whatever its owner does, whose work is not touched."""
    sh(
        "git init -q -b work; git config user.name u; git config user.email u@x; "
        "echo a >a; git add a; git commit -qm one; echo b >b; git add b; echo c >>a",
        cwd=home.claude,
    ).ok()
    large = Large(sh, home, seeded)
    large.store, large.ref = f"{home.claude}/.git", "refs/csb/main"
    large.write()
    state = (
        "export GIT_OPTIONAL_LOCKS=0; cat .git/HEAD; git status --porcelain=v2 -b; "
        "git for-each-ref | grep -v refs/csb/; sha1sum .git/index"
    )
    large.file.parent.joinpath(".gitignore").write_text("*\n")
    before = sh(state, cwd=home.claude).ok().out
    large.grown(2)
    for words in ("gc -q --prune=now", "repack -adfq"):
        large.append()
        assert large.backup() <= COST
        assert large.is_in_a_pack()
        assert sh(state, cwd=home.claude).ok().out == before
        sh(f"git {words}", cwd=home.claude).ok()
        large.intact()
    assert sh(state, cwd=home.claude).ok().out == before
    large.intact().sound()


@pytest.mark.long
@pytest.mark.soak
@logic
def test_their_gc_meanwhile(sh, home, seeded, rounds, figure):
    """Its owner packs the repository all the time, as git gc does: no version is lost,
    none costs a copy. (repack -a, without -A, drops what anybody has just written:
    TRUST says so.)"""
    sh(
        "git init -q -b work; "
        "git -c user.name=u -c user.email=u@x commit -q --allow-empty -m one",
        cwd=home.claude,
    ).ok()
    large = Large(sh, home, seeded)
    large.store = f"{home.claude}/.git"
    large.ref = "refs/csb/main"
    stop = []
    counts = [0]
    large.write()
    large.grown(2)

    def owner():
        while not stop:
            subprocess.run(
                ["git", "repack", "-Adq"], cwd=home.claude, env=home.env, stderr=-3
            )
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
    large.sh(PIPE).ok()
    large.note()
    assert len(large.packs()) == 2
    large.intact().sound()


@pytest.mark.long
@pytest.mark.soak
@logic
def test_while_it_changes(large, rounds, figure):
    """One appends and one rewrites while backups run:
    each version is one that the file had."""
    lines = [
        b"%07d %s\n" % (n, large.r.randbytes(40).hex().encode()) for n in range(30000)
    ]
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
        for _ in range(rounds(3, 50)):
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
            data = subprocess.run(
                ["git", f"--git-dir={large.store}", "cat-file", "blob", listed[2]],
                capture_output=True,
                env=large.home.env,
            ).stdout
            if one is large:
                fine = len(data) >= SIZE and whole.startswith(data)
            else:
                # A write in place goes from the start on: each state is a mix at
                # one point.
                parts = re.sub(rb"(.)\1{62}\n", rb"\1", data)
                mixed = re.fullmatch(rb"(.)\1*((.)\3*)?", parts)
                fine = len(parts) == len(data) / 64 and mixed
                fine = fine or len(data) % 4096 == 0
            if fine:
                good += 1
            else:
                wrong += 1
    figure(f"{rounds(3, 50)} backups, {good} versions, {wrong} wrong")
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
    for _ in range(2):          # from then on only what comes costs
        for one in files:
            one.append(1000)
        sh(PIPE).ok()
    for one in files:
        one.note()
    start = files[0].bytes()
    runs = rounds(2, 10)
    loop = f"for n in $(seq {runs}); do {PIPE}; done"
    pipes = [
        subprocess.Popen(["bash", "-c", loop], env=home.env, cwd=home.path, stderr=-1)
        for _ in range(4)
    ]
    grown = 0
    while any(pipe.poll() is None for pipe in pipes):
        grown += sum(one.append(1000) for one in files)
        time.sleep(0.1)
    said = b"".join(pipe.communicate()[1] for pipe in pipes).decode()
    assert [line for line in said.splitlines() if "meanwhile" not in line] == [], said
    sh(PIPE).ok()
    for one in files:
        one.note()
        assert one.is_in_a_pack()
        assert len(one.packs()) <= 2 * len(files), "packs are left over"
        for commit in one.git(f"rev-list main -- {one.path}").split():
            oid = one.git(f"rev-parse {commit}:{one.path}")
            one.acked[commit] = one.path, oid
        one.intact()
    files[0].sound()
    growth = files[0].bytes() - start
    commits = len(files[0].git("rev-list main").split())
    figure(
        f"4 x {runs} at once: {commits} commits, {grown} bytes came, the store grew "
        f"by {growth}"
    )
    assert growth <= grown + 3 * COST * commits


@pytest.mark.soak
@logic
def test_readers_meanwhile(large, rounds, figure):
    """Packs are replaced while others read: no object is ever missing,
    for none of them."""
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
        done = subprocess.run(
            ["bash", "-c", "csb-restore --target-dir ~/look >/dev/null"],
            input=record.encode(),
            env=large.home.env,
            cwd=large.home.path,
            capture_output=True,
        )
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

    threads = [
        threading.Thread(target=loop, args=(reader,))
        for reader in (git, restore, verify)
    ]
    for one in threads:
        one.start()
    try:
        for _ in range(rounds(2, 100)):
            large.append()
            large.backup()
    finally:
        stop.set()
        for one in threads:
            one.join()
        slow.stdin.close()
        slow.wait()
    figure(
        f"{counts} reads while {rounds(4, 100)} packs were replaced, {len(failed)} "
        f"failed"
    )
    assert not failed and len(counts) == 3
    large.sound().intact()


# --- formats and limits, as functions -------------------------------------------------


@pytest.fixture
def store(home):
    """The path of an empty store."""
    path = f"{home.path}/store"
    subprocess.run(["git", "init", "-q", "--bare", path], env=home.env, check=True)
    os.makedirs(f"{path}/objects/pack", exist_ok=True)
    return path


def git(home, store, *words):
    return subprocess.run(
        ["git", f"--git-dir={store}", *words], env=home.env, check=True,
        capture_output=True).stdout


def put(store, path, last=None, grows=True, known=False):
    """Store a file as a transcript, and drop what that leaves; what was Written."""
    keys = ["a" * 16, "b" * 16]
    written = csb.pack.store_large(
        store, keys, str(path), True, last, grows, lambda oid: known)
    csb.pack.drop_needless(store, keys, written.needless)
    return written


def names(store):
    return sorted(os.listdir(f"{store}/objects/pack"))


@pytest.mark.parametrize("size", [0, 1, 15, 16, BIG - 1, BIG, BIG + 1, 1 << 24])
@pytest.mark.few(5)
def test_sizes_at_the_limits(home, store, seeded, size):
    """Of heads, blocks, windows and copies of deltas."""
    path = home.path / "file"
    whole = (seeded.randbytes(70_000) * (size // 70_000 + 2))[:size + 1]
    path.write_bytes(whole[:size])
    first = put(store, path)
    path.write_bytes(whole)
    second = put(store, path)
    assert [first.oid, second.oid] == [blob(whole[:size]), blob(whole)]
    assert git(home, store, "cat-file", "blob", first.oid) == whole[:size]
    assert git(home, store, "cat-file", "blob", second.oid) == whole
    keeps = [name for name in names(store) if name.endswith(".keep")]
    if size < BIG:
        assert len(keeps) == 0
    elif size == BIG:
        assert len(keeps) == 1
    else:
        assert len(keeps) == 2
    git(home, store, "fsck", "--full", "--strict")


def test_a_file_that_is_too_large_for_a_pack(home, store, seeded, monkeypatch):
    """It becomes a loose object, also if it has grown since somebody looked."""
    path = home.path / "file"
    path.write_bytes(seeded.randbytes(5000))
    monkeypatch.setattr(csb.pack, "HUGE", 5000)
    oid = put(store, path).oid
    assert names(store) == []
    assert git(home, store, "cat-file", "blob", oid) == path.read_bytes()


def test_the_same_bytes_twice_in_a_pack(home, store):
    """One entry; an empty blob, too."""
    with csb.pack.PackWriter(f"{store}/objects/pack") as pack:
        for data in (b"", b"one", b"one", b"two" * 9999, b""):
            pack.add(blob(data), len(data), csb.pack.deflated(data))
        pack.join("0" * 16)
    listed = git(home, store, "cat-file", "--batch-all-objects", "--batch-check")
    assert listed.count(b"\n") == 3
    git(home, store, "fsck", "--full", "--strict")
    assert [name.rpartition(".")[2] for name in names(store)] == ["idx", "pack"]


def test_a_pack_that_is_damaged_or_given_up(store, monkeypatch):
    """Nothing of it is left."""
    data = zlib.compress(b"one")
    with (
        pytest.raises(Error, match="reads back differently"),
        pack_of(store, data) as pack,
    ):
        pack.file.seek(-3, os.SEEK_END)
        pack.file.write(b"x")
        pack.file.seek(0, os.SEEK_END)
        pack.join("0" * 16)
    assert names(store) == []

    monkeypatch.setattr(csb.pack, "replace_file", full_disk)
    with pytest.raises(OSError), pack_of(store, data) as pack:
        pack.join("0" * 16)
    assert names(store) == []


def pack_of(store, stream):
    pack = csb.pack.PackWriter(f"{store}/objects/pack")
    pack.add(blob(b"one"), 3, stream)
    return pack


def full_disk(*words, **more):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("broken", ["replace_file", "idx_of", "copy_delta"])
def test_what_fails_in_the_middle_leaves_nothing(
    home, store, seeded, monkeypatch, broken
):
    path = home.path / "file"
    data = text(seeded, SIZE)
    path.write_bytes(data)
    put(store, path)
    before = names(store)
    path.write_bytes(data + b"more")
    monkeypatch.setattr(csb.pack, broken, full_disk)
    with pytest.raises(OSError):
        put(store, path)
    assert names(store) == before


def test_who_is_asked_fails(home, store, seeded):
    """The store cannot say whether it has the blob: no pack is left."""
    path = home.path / "file"
    path.write_bytes(text(seeded, SIZE))
    with pytest.raises(Error, match="no answer"):
        csb.pack.store_large(
            store, ["a" * 16], str(path), True, None, True, no_answer)
    assert names(store) == []


def no_answer(oid):
    raise Error("no answer")


def test_known_elsewhere(home, store, seeded):
    """What the store has already gets no pack."""
    path = home.path / "file"
    path.write_bytes(text(seeded, SIZE))
    put(store, path, known=True)
    assert names(store) == []


def test_rewritten_before_all_is_compressed_anew(home, store, seeded, monkeypatch):
    """No version becomes a difference to bytes that it is not the start of."""
    path = home.path / "file"
    data = text(seeded, SIZE)
    path.write_bytes(data)
    put(store, path)
    path.write_bytes(data + b"more")
    before = names(store)
    write_newest = csb.pack._write_newest

    def and_then_it_changes(pack, text, base=None):
        if not base:
            return write_newest(pack, text)
        times = os.stat(path)
        with open(path, "r+b") as out:
            out.write(b"x")
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        raise csb.pack.DamagedPack("it is damaged")

    monkeypatch.setattr(csb.pack, "_write_newest", and_then_it_changes)
    with pytest.raises(Changed, match="rewritten meanwhile"):
        put(store, path)
    assert names(store) == before


def test_leftovers_of_killed_runs(home, store, seeded):
    """A .keep or an .idx without a pack, as a kill leaves them, go at the next run.
    A pack whose .idx was lost stays: git can make that anew, and it may have what
    nothing else has.
    """
    path = home.path / "file"
    path.write_bytes(text(seeded, SIZE))
    put(store, path)
    folder = f"{store}/objects/pack"
    whole = names(store)
    base = f"{folder}/{whole[0].partition('.')[0]}"
    for number, ends in enumerate(([".keep"], [".pack"], [".idx"], [".idx", ".keep"])):
        for end in ends:
            shutil.copy(base + end, f"{folder}/pack-{'a' * 16}{str(number) * 24}{end}")
    assert len(names(store)) == 8
    put(store, path, known=True)
    lone = f"pack-{'a' * 16}{'1' * 24}.pack"
    assert sorted(names(store)) == sorted([*whole, lone])


def test_nothing_goes_while_files_are_being_stored(home, store, seeded):
    """Another one of the session may be growing from it, or be half way in."""
    path = home.path / "file"
    path.write_bytes(text(seeded, SIZE))
    put(store, path)
    lone = f"{store}/objects/pack/pack-{'a' * 16}{'0' * 24}.keep"
    with open(lone, "w"):
        pass
    for _ in range(3):
        before = set(names(store))
        with open(path, "ab") as file:
            file.write(text(seeded, LINES))
        keys = ["a" * 16]
        written = csb.pack.store_large(
            store, keys, str(path), True, None, True, lambda oid: False)
        assert before < set(names(store))
    csb.pack.drop_needless(store, keys, written.needless)
    assert not os.path.exists(lone)
    assert len(names(store)) == 6, "the newest pack, and the one before it"


def test_a_loose_object(home, store, seeded):
    """Proven, read-only, and over one that is damaged."""
    data = seeded.randbytes(3 * BIG)
    for blocks in ([data], [data[:BIG], data[BIG:]]):
        oid = csb.pack.write_loose(store, blocks, len(data))
        assert oid == blob(data)
    path = csb.pack.loose_path(store, oid)
    flip(path, 5000)
    csb.pack.write_loose(store, [data], len(data))
    assert git(home, store, "cat-file", "blob", oid) == data
    assert csb.pack.write_loose(store, [], 0) == blob(b"")
    for size in (len(data) - 1, len(data) + 1):
        with pytest.raises(Changed):
            csb.pack.write_loose(store, [data], size)
    git(home, store, "fsck", "--full", "--strict")
    left = [name for _, _, some in os.walk(f"{store}/objects") for name in some]
    assert [name for name in left if name.startswith(TMP)] == []


MEASURED = """
import resource, sys
sys.path.insert(0, sys.argv[1])
import csb.pack
csb.pack.os.cpu_count = lambda: 64
store, path = sys.argv[2:]
for size in (200 << 20, (200 << 20) + 5000):
    with open(path, "ab") as file:
        file.truncate(size)
    csb.pack.store_large(store, ["a" * 16], path, True, None, True, lambda oid: False)
csb.pack.drop_superseded(store + "/objects/pack")
csb.pack.write_loose(store, open(path, "rb"), size)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)
"""


@pytest.mark.long
def test_memory(home, store, tools):
    """200 MB of which most is a hole take less than 64 MB, on many cores too."""
    path = home.path / "file"
    with open(path, "wb") as file:
        for number in range(200):
            file.seek(number << 20)
            file.write(b"line %d\n" % number)
    small = "import subprocess, sys; subprocess.run(sys.argv[1:], check=True)"
    lib = os.path.dirname(os.path.dirname(csb.pack.__file__))
    done = subprocess.run(
        [tools.python, "-I", "-c", small, tools.python, "-I", "-c", MEASURED,
         os.path.dirname(lib) if os.path.basename(lib) == "csb" else lib, store, path],
        env=home.env, capture_output=True, check=True)
    assert int(done.stdout) < 64, done
    assert len(names(store)) == 3
    git(home, store, "fsck", "--full", "--strict")
