"""session_snapshot and jsonl_snapshot against a moving source, a kill, each other."""
import contextlib
import glob
import gzip
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time

import pytest

pytestmark = pytest.mark.logic

SESSION, JSONL = "session_snapshot", "jsonl_snapshot"
LINE = b'{"type":"user","n":%09d,"text":"%s"}\n'
TRIES = 20      # how often a busy machine may be too late
both = pytest.mark.parametrize("tool", [SESSION, JSONL])


def lines(count, start=0):
    """count lines of one length that do not pack to nothing."""
    made = []
    for number in range(start, start + count):
        digest = hashlib.sha256(b"%d" % number).hexdigest()
        made.append(LINE % (number, digest.encode()))
    return b"".join(made)


def content(path):
    """The bytes that a snapshot holds."""
    with open(path, "rb") as file:
        data = file.read()
    if path.endswith(".gz"):
        return gzip.decompress(data)
    return data


def sidecar(shot):
    """What stands beside a snapshot of jsonl_snapshot."""
    with open(shot.removesuffix(".gz") + ".sha256") as file:
        return file.read()


def shots(out):
    """The paths of the snapshots in a directory."""
    paths = glob.glob(f"{out}/2*")
    return sorted(path for path in paths if not path.endswith(".sha256"))


def unfinished(out):
    """The paths of what is being written there."""
    return set(glob.glob(f"{out}/.csb-tmp-*"))


@contextlib.contextmanager
def paused(process):
    """Hold it up for a while."""
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


@pytest.fixture
def start(home, tools):
    """Start a tool that can be stopped: start("jsonl_snapshot", ...)."""
    running = []

    def begin(tool, *words):
        process = subprocess.Popen(
            [tools.python, "-I", f"{tools.bin}/{tool}", *words], env=home.env,
            cwd=home.path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE)
        running.append(process)
        return process

    yield begin
    for process in running:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.communicate()


def reads(process, path):
    """Has it the file open?"""
    if not os.path.exists("/proc/self/fd"):
        return True
    fds = glob.glob(f"/proc/{process.pid}/fd/*")
    return str(path) in map(os.path.realpath, fds)


@pytest.fixture
def disturb(home, start):
    """Snapshot the file live, and stop the tool whenever it has begun a new hidden
    file, to act.

    disturb(tool, act, times): act(0), act(1) ... What a busy machine was too late for
    is tried again; with reading also if the tool has closed live by then. The exit
    status, stdout, stderr.
    """
    path = home.path / "live"
    out = home.path / "out"

    def attempt(tool, act, times, reading):
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        path.write_bytes(lines(80_000))
        process = start(tool, "--source", "live", "--dest-dir", "out")
        acted = 0
        done = set()
        while process.poll() is None and acted < times:
            for new in unfinished(out) - done:
                with contextlib.suppress(FileNotFoundError):
                    if os.path.getsize(new) == 0:
                        continue
                    with paused(process):
                        if not reading or reads(process, path):
                            act(acted)
                            acted += 1
                    done.add(new)
        text, err = process.communicate(timeout=60)
        return acted, (process.returncode, text.decode(), err.decode())

    def until_caught(tool, act, times=1, reading=False):
        for _ in range(TRIES):
            acted, result = attempt(tool, act, times, reading)
            if acted == times:
                return result
        raise AssertionError(f"caught the tool {acted} of {times} times: {result}")
    return until_caught


@both
def test_a_growing_file(sh, tool, home):
    """The snapshot is the exact prefix of the size that the record tells."""
    path = home.path / "live.jsonl"
    out = home.path / "out"
    path.write_bytes(lines(20_000))
    stop = threading.Event()

    def append():
        number = 20_000
        with open(path, "ab", buffering=0) as file:
            while not stop.is_set():
                file.write(lines(1, number)[:50])
                file.write(lines(1, number)[50:])
                number += 1

    writer = threading.Thread(target=append)
    writer.start()
    records = []
    try:
        for _ in range(3):
            records += sh(f"{tool} --source live.jsonl --dest-dir out").ok().records
    finally:
        stop.set()
        writer.join()

    whole = path.read_bytes()
    sizes = [record["size"] for record in records]
    assert sizes == sorted(sizes)
    assert sizes[0] >= len(lines(20_000)) and sizes[-1] < len(whole)
    for record in records:
        data = content(record["path"])
        assert data == whole[:record["size"]]
        assert hashlib.sha256(data).hexdigest() == record["raw_sha256"]
    assert len(shots(out)) == 3 and not unfinished(out)


def truncate(path, data):
    os.truncate(path, 1000)


def rewrite(path, data):
    """Write into the same file."""
    with open(path, "r+b") as file:
        file.write(data)


def replace(path, data):
    """Give a new file the name."""
    new = path.with_suffix(".new")
    new.write_bytes(data)
    new.rename(path)


def remove(path, data):
    path.unlink()
    path.write_bytes(b"new\n")


CHANGES = {
    "truncated": truncate, "rewritten": rewrite, "replaced": replace,
    "removed and back": remove}


@both
@pytest.mark.parametrize("how", CHANGES)
@pytest.mark.few(3)
def test_changed_while_it_is_read(tool, home, disturb, how):
    """Read again: the snapshot is the whole new file, never a mixture."""
    def change(_):
        CHANGES[how](path, lines(80_000)[::-1])

    path = home.path / "live"
    code, text, err = disturb(tool, change, reading=True)
    assert (code, err) == (0, "")
    assert content(json.loads(text)["path"]) == path.read_bytes()
    assert path.read_bytes() != lines(80_000)
    assert not unfinished(home.path / "out")


@pytest.mark.long
@both
@pytest.mark.parametrize("how, times", [("truncated", 5), ("replaced", 5), ("gone", 1)])
@pytest.mark.few(1)
def test_changed_again_and_again(tool, home, disturb, how, times):
    """After a few times status 1 with the reason, and nothing is left."""
    path = home.path / "live"
    data = lines(80_000)

    def change(count):
        if how == "gone":
            path.unlink()
        elif how == "replaced":
            replace(path, data)
        else:
            os.truncate(path, len(data) - 1000 * (count + 1))

    for _ in range(TRIES):
        code, text, err = disturb(tool, change, times)
        if code:
            break
        # The last change came when all was read: a good snapshot, try again.
        record = json.loads(text)
        shot = content(record["path"])
        assert hashlib.sha256(shot).hexdigest() == record["raw_sha256"]
    assert (code, text) == (1, "")
    reason = "No such file" if how == "gone" else how
    assert re.fullmatch(rf"{tool}: cannot [^\n]*{path}[^\n]*{reason}[^\n]*\n", err)
    assert os.listdir(home.path / "out") == []


@both
def test_a_disk_that_does_not_keep_what_it_was_given(tool, home, disturb):
    """What was written is read back before it has a name: another byte in it, and it
    has none."""
    out = home.path / "out"

    def spoil(count):
        if count == 0:
            return
        for path in unfinished(out):
            with open(path, "r+b") as file:
                file.seek(-5, os.SEEK_END)
                file.write(b"!!")

    for _ in range(TRIES):
        code, text, err = disturb(tool, spoil, 2)
        if code:
            break       # else the byte changed when all was read back: try again
    assert (code, text) == (1, "")
    assert err.startswith(f"{tool}: cannot "), err
    assert os.listdir(out) == []


@both
def test_killed(tool, home, start, seeded):
    """kill -9 at any moment: what has a name is whole and has its sidecar."""
    path = home.path / "f"
    path.write_bytes(lines(20_000))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    began = time.monotonic()
    assert start(tool, "--source", "f", "--dest-dir", "out").wait() == 0
    usual = time.monotonic() - began

    again = tool, "--source", "f", "--dest-dir", "out", "--retain", "2"
    for _ in range(8):
        process = start(*again)
        time.sleep(seeded.random() * usual * 1.1)
        process.kill()
        process.wait()
        for shot in shots(home.path / "out"):
            assert content(shot) == path.read_bytes()
            if tool == JSONL:
                assert digest in sidecar(shot).splitlines()[0]
    assert start(*again).wait() == 0


@both
def test_all_at_once(sh, tool, home):
    """Eight runs in a second: eight names, nothing overwritten."""
    sources = {}
    for number in range(8):
        path = home.path / str(number) / "f"
        path.parent.mkdir()
        path.write_text(str(number))
        sources[str(path)] = path.read_bytes()
    once = f"{tool} --retain 0 --source $n/f --dest-dir out"
    records = sh(f"for n in {{0..7}}; do {once} & done; wait").ok().records
    assert sorted(record["source"] for record in records) == sorted(sources)
    for record in records:
        assert content(record["path"]) == sources[record["source"]]
        if tool == JSONL:
            assert record["gz_sha256"] in sidecar(record["path"])
    assert shots(home.path / "out") == sorted(record["path"] for record in records)


@both
def test_what_another_run_has_just_made_is_not_purged(sh, tool, home, start):
    """A run that is held up before its purge finds a newer snapshot: it stays."""
    (home.path / "f").write_text("x")
    for number in range(3):
        out = home.path / f"out{number}"
        words = "--source", "f", "--dest-dir", str(out)
        process = start(tool, "--retain", "1", *words)
        while process.poll() is None and not shots(out):
            pass
        with paused(process):
            done = sh(f"{tool} --retain 0 {' '.join(words)}").ok()
        assert process.communicate(timeout=60)[1] == b""
        assert os.path.exists(done.records[0]["path"])


@both
def test_a_file_that_comes_while_another_is_restored(sh, tool, home, start):
    """It is not overwritten; what a busy machine was too late for is tried again."""
    (home.path / "f").write_bytes(lines(80_000))
    shot = sh(f"{tool} --source f --dest-dir out").ok().records[0]["path"]
    target = home.path / "t"
    path = target / "f"
    for _ in range(TRIES):
        shutil.rmtree(target, ignore_errors=True)
        process = start(tool, "--restore", shot, "--target-dir", "t")
        while process.poll() is None and not unfinished(target):
            pass
        with paused(process):
            is_caught = not path.exists()
            if is_caught:
                path.write_text("mine")
        _, err = process.communicate(timeout=60)
        if is_caught:
            break
    assert process.returncode == 1
    assert b"File exists" in err
    assert path.read_text() == "mine"
    assert os.listdir(target) == ["f"]


def calls(trace):
    """The system calls that succeeded, and the last path of each: "link", "/x/f"."""
    begun = {}
    for line in trace.splitlines():
        thread, line = line.split(None, 1)
        if line.endswith("<unfinished ...>"):   # another thread's line came in between
            begun[thread] = line.removesuffix("<unfinished ...>").rstrip()
        rest = re.match(r"<\.\.\. \w+ resumed>\s*(.*)", line)
        if rest:
            line = begun.pop(thread) + rest[1]
        call = re.match(r"(fsync|link|unlink)(?:at)?\((.*)\) += 0$", line)
        if call:
            found = re.findall(r'<([^>]*)>|"([^"]*)"', call[2])
            paths = [descriptor or text for descriptor, text in found]
            yield call[1], [path for path in paths if path not in ("", ".")][-1]


def kind(path):
    """What a path is to a snapshot tool that writes to out."""
    name = os.path.basename(path)
    if name == "out":
        return "dir"
    if name.startswith(".csb-tmp-"):
        return "tmp"
    if name.endswith(".sha256"):
        return "sidecar"
    return "shot"


ORDER = {
    SESSION: """
        fsync tmp, link tmp, unlink tmp, fsync dir
        link shot, fsync dir, unlink tmp
        unlink shot""",
    JSONL: """
        fsync tmp, link tmp, unlink tmp, fsync dir
        fsync tmp, link sidecar, unlink tmp, fsync dir
        link shot, fsync dir, unlink tmp
        unlink shot, unlink sidecar"""}


@both
@pytest.mark.skipif(not shutil.which("strace"), reason="no strace here")
def test_the_order_of_what_reaches_the_disk(sh, tool, home, tools):
    """Synced, then named, then the directory synced; sidecar first; then a purge."""
    (home.path / "f").write_text("x")
    snapshot = (f"{tools.python} -I {tools.bin}/{tool} --source f --dest-dir out "
                "--retain 1")
    trace = "strace -f -y -o trace -e trace=fsync,link,linkat,unlink,unlinkat"
    sh(snapshot).ok()
    if sh(f"{trace} true").rc:
        pytest.skip("strace may not trace here")
    sh(f"{trace} {snapshot}").ok()
    done = calls((home.path / "trace").read_text())
    said = [f"{call} {kind(path)}" for call, path in done]
    assert said == re.findall(r"\w+ \w+", ORDER[tool])


MEASURE = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)
print(done.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


@pytest.mark.long
def test_memory_of_a_large_one(sh, home, tools):
    """A file of 80 MB is packed, checked and restored within 64 MB; so is what was
    packed well."""
    def peak(words):
        tool = f"{tools.python} -I {tools.bin}/{JSONL}"
        done = sh(f"{tools.python} measure {tool} {words}")
        status, kilobytes = map(int, done.out.split())
        assert status == 0, done
        return kilobytes

    (home.path / "measure").write_text(MEASURE)
    block = lines(10_000)
    with open(home.path / "big", "wb") as file:
        for _ in range(80_000_000 // len(block)):
            file.write(block)
    assert peak("--source big --dest-dir out") < 64 << 10
    [shot] = shots(home.path / "out")
    assert peak(f"--restore '{shot}' --target-dir t") < 64 << 10
    zeros = "20200101T000000Z__zeros.gz"
    (home.path / zeros).write_bytes(gzip.compress(bytes(100_000_000), 1))
    assert peak(f"--restore {zeros} --target-dir t") < 64 << 10
