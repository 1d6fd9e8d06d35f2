"""One bit turns over on the disk: found, or harmless,
and never other bytes with status 0"""
import collections
import hashlib
import json
import os
import shutil
import sqlite3
import uuid

import pytest
from conftest import files_below

pytestmark = [pytest.mark.logic, pytest.mark.soak]
IDS = [str(uuid.UUID(int=number << 96 | 77)) for number in range(1, 7)]


@pytest.fixture
def backed_up(sh, home, seeded):
    """Sessions of two versions and settings in a store; {path: bytes} as they were last
    (each transcript had been a beginning of that)."""
    data = {"settings.json": b"{}\n"}
    for number, name in enumerate(IDS):
        data[f"projects/-p/{name}.jsonl"] = transcript(seeded, name, number + 3)
        data[f"tasks/{name}/1.json"] = seeded.randbytes(40).hex().encode()
    data[f"tasks/{IDS[0]}/big"] = seeded.randbytes(20_000)
    for turn in "first", "second":
        for path in data:
            if turn == "second" and path.endswith(".jsonl"):
                data[path] += transcript(seeded, path[-41:-6], 2)
            (home.claude / path).parent.mkdir(parents=True, exist_ok=True)
            (home.claude / path).write_bytes(data[path])
        sh("csb-backup --quiet").ok()
    return data


def transcript(chance, session_id, count):
    """The bytes of some records."""
    found = b""
    for _ in range(count):
        record = {
            "type": "user",
            "sessionId": session_id,
            "uuid": chance.randbytes(16).hex(),
            "cwd": "/x",
            "timestamp": "2026-01-01T00:00:00.000Z",
            "message": {"role": "user", "content": chance.randbytes(60).hex()},
        }
        found += json.dumps(record).encode() + b"\n"
    return found


class Flip:
    """with Flip(path, chance): one bit of the file is another one meanwhile."""

    def __init__(self, path, chance, low=0):
        with open(path, "rb") as file:
            self.good = file.read()
        self.path, self.place, self.bit = path, chance.randrange(low, len(self.good)), (
            1 << chance.randrange(8))

    def __enter__(self):
        bad = bytearray(self.good)
        bad[self.place] ^= self.bit
        self.write(bad)
        return f"{os.path.basename(self.path)} byte {self.place} bit {self.bit}"

    def __exit__(self, *_):
        self.write(self.good)

    def write(self, data):
        os.chmod(self.path, 0o600)
        with open(self.path, "r+b") as file:
            file.write(data)


def files(top, end=""):
    """All files below a directory, in order."""
    return sorted(os.path.join(folder, name) for folder, _, names in os.walk(top)
                  for name in names if name.endswith(end))


def readable(sh, git, oids):
    """Does plain git give back every blob as its id says?"""
    for oid in oids:
        done = sh(f"{git} cat-file blob {oid}")
        data = done.out.encode("utf-8", "surrogateescape")
        if done.rc or hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest() != oid:
            return False
    return True


def restored(sh, home, data):
    """Restore all sessions beside: (all is as it was, stderr). What is not must have
    been named, and then it is an older version of a transcript, or not there."""
    done = sh(f"csb-restore --target-dir ~/out {' '.join(IDS)}")
    found = files_below(home.path / "out")
    for path, value in found.items():
        if value == data[path]:
            continue
        assert path.endswith(".jsonl") and path in done.err, f"{path} has other bytes"
        assert data[path].startswith(value) and value[-1:] == b"\n"
    sessions = {path: data[path] for path in data if path != "settings.json"}
    same = found == sessions
    assert same or done.err
    shutil.rmtree(home.path / "out", ignore_errors=True)
    return same, done.err


STORES = {"loose objects": ("", "objects"), "pack": ("git repack -adq", ".pack"),
          "idx": ("git repack -adq", ".idx")}


@pytest.mark.parametrize("kind", STORES)
@pytest.mark.few(1)
@pytest.mark.long
def test_a_flipped_bit_in_the_store(sh, home, backed_up, rounds, seeded, figure, kind):
    """csb-verify finds it, or every last version is there as it was; with --deep every
    object is. csb-restore brings back the original bytes, or says that it cannot."""
    git, (line, end) = f"git --git-dir={home.backup}/git", STORES[kind]
    if line:
        sh(line.replace("git ", git + " ")).ok()
    else:
        packs = f"{home.backup}/git/objects/pack"
        sh(f"""mv {packs} ~/p && mkdir {packs}
            for p in ~/p/*.pack; do
                [ ! -e $p ] || {git} unpack-objects -q <$p
            done""").ok()
    objects = home.backup / "git/objects"
    chosen = files(objects, "" if end == "objects" else end)
    oids = {hashlib.sha1(b"blob %d\0" % len(value) + value).hexdigest()
            for value in backed_up.values()}
    listed = sh(f"{git} cat-file --batch-all-objects --batch-check").ok().out
    every = [text.split()[0] for text in listed.splitlines() if " blob " in text]
    sh("csb-verify --deep").ok()
    count = rounds({"loose objects": 8}.get(kind, 6), 250)
    outcomes = collections.Counter()
    for _ in range(count):
        deep = seeded.random() < .3
        with Flip(seeded.choice(chosen), seeded) as where:
            print(where, deep)
            done = sh("csb-verify --deep" if deep else "csb-verify")
            if done.rc:
                assert done.rc == 1 and done.err
                outcomes["found"] += 1
            else:
                assert done.err == "" and all(record["ok"] for record in done.records)
                assert len(done.records) == len(backed_up)
                assert readable(sh, git, every if deep else oids), where
                outcomes["harmless"] += 1
            if not done.rc or seeded.random() < .3:
                same, err = restored(sh, home, backed_up)
                assert done.rc or not deep or (same and err == ""), (where, err)
    sh("csb-verify --deep").ok()
    figure(
        f"{count} flipped bits in {kind}: {outcomes['found']} found, "
        f"{outcomes['harmless']} harmless (all bytes as they were), 0 missed"
    )


@pytest.mark.parametrize("end", [".pack", ".keep"])
@pytest.mark.few(1)
def test_a_flipped_bit_in_a_pack_that_grows(sh, home, rounds, seeded, figure, end):
    """The generation before stays until the new one was read back:
    when the file has grown once more every version is there,
    whatever bit was hit on the disk meanwhile."""
    path, git = f"projects/-p/{IDS[0]}.jsonl", f"git --git-dir={home.backup}/git"
    file, oids, count = home.claude / path, [], rounds(2, 100)
    file.parent.mkdir(parents=True)
    line = "csb-changes | csb-gitcommit >/dev/null"

    def grow(size):
        with open(file, "ab") as out:
            out.write(seeded.randbytes(size // 2).hex().encode() + b"\n")
        data = file.read_bytes()
        oids.append(hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest())
    for size in (1_500_000, 5000, 5000):
        grow(size)
        sh(line).ok()
    grow(5000)
    packs = home.backup / "git/objects/pack"
    newest = max(packs.glob("*.pack"), key=lambda pack: pack.stat().st_mtime_ns)
    assert len(list(packs.glob("*.pack"))) == 2
    sh("cp -a .claude-backup kept").ok()
    for number in range(count):
        flip = Flip(newest.with_suffix(end), seeded)
        if number % 2:      # where it is seen at once that the file does not begin so
            flip.place = seeded.randrange(min(len(flip.good), 1500))
        where = f"byte {flip.place} bit {flip.bit}"
        flip.__enter__()
        done = sh(line)
        assert done.rc == 0, (where, done)
        assert readable(sh, git, oids), where
        tip = sh(f"{git} rev-parse main:{path}").ok().out.strip()
        assert tip == oids[-1], where
        # The next run, which may drop a generation, drops none that is needed.
        whole = file.read_bytes()
        with open(file, "ab") as out:
            out.write(b"more\n")
        assert sh(line).rc == 0
        assert readable(sh, git, oids), where
        file.write_bytes(whole)
        sh("rm -rf .claude-backup; cp -a kept .claude-backup").ok()
    figure(
        f"{count} flipped bits in the {end} of a pack that grows: no version was lost"
    )


def test_an_older_version_in_place_of_a_lost_one_is_no_success(sh, home, backed_up):
    """What is lost is said to be lost, and the status is 1,
    whatever comes back instead."""
    path, git = f"projects/-p/{IDS[0]}.jsonl", f"git --git-dir={home.backup}/git"
    oid = sh(f"{git} rev-parse main:{path}").ok().out.strip()
    os.unlink(home.backup / "git/objects" / oid[:2] / oid[2:])
    done = sh(f"csb-restore --target-dir ~/out {IDS[0]}")
    assert done.rc == 1 and path in done.err and "shrunk" not in done.err


def test_a_damaged_older_version_does_not_stand_before_the_newest(sh, home, backed_up):
    """What is sound and newest comes back."""
    path, git = f"projects/-p/{IDS[0]}.jsonl", f"git --git-dir={home.backup}/git"
    raw = sh(f"{git} log --format= --raw --no-abbrev main -- {path}").ok().out
    older = raw.split("\n")[1].split()[3]
    big = sh(f"{git} rev-parse main:tasks/{IDS[0]}/big").out.strip()
    loose = [home.backup / "git/objects" / oid[:2] / oid[2:] for oid in (older, big)]
    loose[0].chmod(0o600)
    # As a flipped bit in an idx can have it.
    loose[0].write_bytes(loose[1].read_bytes())
    sh(f"csb-restore --target-dir ~/out {IDS[0]}")
    assert (home.path / "out" / path).read_bytes() == backed_up[path]


@pytest.mark.parametrize("end", [".gz", ".sha256"])
@pytest.mark.few(1)
def test_a_flipped_bit_in_a_snapshot(sh, home, rounds, seeded, figure, end):
    """--restore says so and writes nothing, or what it writes are the
    original bytes."""
    (home.path / "f.jsonl").write_bytes(transcript(seeded, IDS[0], 20))
    good = (home.path / "f.jsonl").read_bytes()
    shot = sh("jsonl_snapshot --source f.jsonl --dest-dir out").ok().records[0]["path"]
    path, outcomes = shot.removesuffix(".gz") + end, collections.Counter()
    for _ in range(rounds(10, 250)):
        flip = Flip(path, seeded)
        with flip as where:
            done = sh(f"jsonl_snapshot --restore {shot} --target-dir t")
        if done.rc:
            assert done.err and not files_below(home.path / "t"), where
            outcomes["found"] += 1
        else:
            assert (home.path / "t/f.jsonl").read_bytes() == good, where
            said = done.records[0].get("source_match") != "ok"
            outcomes["restored as it was, and said" if said else "harmless"] += 1
            # Flags, time and system; bits that fill up a byte: of the last data
            # before the flush (00 00 ff ff), and of the empty block (03 00)
            # before the trailer of 8 bytes.
            size = len(flip.good)
            no_data = [*range(3, 10), size - 15, size - 9]
            assert end != ".gz" or flip.place in no_data, where
        shutil.rmtree(home.path / "t", ignore_errors=True)
    figure(f"flipped bits in a snapshot's {end}: {dict(outcomes)}, 0 missed")


@pytest.mark.long
def test_a_flipped_bit_in_the_index(sh, home, backed_up, rounds, seeded, figure):
    """The index can only fail to find something: no other bytes are ever restored,
    and it is made anew by --rebuild, mostly by the next run too."""
    index, outcomes = home.backup / "session-backup.db", collections.Counter()
    count = rounds(6, 200)
    good = sh("csb-list").ok()
    assert len(good.records) == len(IDS)
    sh("csb-find | csb-index >/dev/null").ok()
    pristine = files_below(home.backup)
    for number in range(count):
        flip = Flip(index, seeded)
        flip.__enter__()
        where = f"byte {flip.place} bit {flip.bit}"
        print(where)
        listed = sh("csb-list")
        sh("csb-list | csb-restore --target-dir ~/out")
        for path, value in files_below(home.path / "out").items():
            assert value == backed_up[path], where
        shutil.rmtree(home.path / "out", ignore_errors=True)
        if listed.rc:
            outcomes["failed"] += 1
        elif listed.out == good.out:
            outcomes["same"] += 1
        else:
            outcomes["other"] += 1
        usual = sh("csb-find | csb-index >/dev/null").rc if number % 2 else 1
        outcomes["mended by csb-find | csb-index"] += number % 2 and not usual
        if usual:
            assert sh("csb-index --rebuild >/dev/null").rc == 0, where
        again = sh("csb-list")
        assert again.rc == 0, (where, again)
        # The next run leaves a row that seems to be of another Claude directory.
        if usual:
            assert (again.err, again.records) == ("", good.records), (where, again)
        for name in files(home.backup):
            if os.path.basename(name).startswith("session-backup.db"):
                os.unlink(name)
        for name, value in pristine.items():
            if name.startswith("session-backup.db"):
                (home.backup / name).write_bytes(value)
    mended = outcomes["mended by csb-find | csb-index"]
    figure(
        f"{count} flipped bits in the index: "
        f"csb-list was right {outcomes['same']} times, failed {outcomes['failed']}, "
        f"had other words {outcomes['other']}; 0 wrong bytes; "
        f"--rebuild mends, of {count // 2} the next run mends {mended}"
    )


@pytest.mark.long
def test_an_index_whose_table_is_not_ours_is_made_anew(sh, home, backed_up):
    """A flipped bit in the name of a column that csb-index itself never asks
    for is found too."""
    index = home.backup / "session-backup.db"
    data = index.read_bytes()
    assert data.count(b"purge_at, words") == 1
    index.write_bytes(data.replace(b"purge_at, words", b"purge_ad, words"))
    assert sh("csb-find | csb-index >/dev/null").rc == 0
    assert len(sh("csb-list").ok().records) == len(IDS)


@pytest.mark.long
def test_an_index_with_a_spoilt_text_is_made_anew(sh, home, backed_up):
    """The next run mends it, whatever byte was hit."""
    db = sqlite3.connect(home.backup / "session-backup.db")
    with db:
        db.execute("UPDATE session SET seen = CAST(x'33ff' AS TEXT)")
    db.close()
    assert sh("csb-find | csb-index >/dev/null").rc == 0
    assert len(sh("csb-list").ok().records) == len(IDS)
