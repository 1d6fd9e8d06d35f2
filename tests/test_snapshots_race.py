"""session_snapshot and jsonl_snapshot against a source that moves, a kill, and each other."""
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
both = pytest.mark.parametrize("tool", [SESSION, JSONL])


def lines(count, start=0):
    """count lines of one length that do not pack to nothing."""
    return b"".join(LINE % (n, hashlib.sha256(b"%d" % n).hexdigest().encode())
                    for n in range(start, start + count))


def content(path):
    """The bytes that a snapshot holds."""
    with open(path, "rb") as file:
        data = file.read()
    return gzip.decompress(data) if path.endswith(".gz") else data


def shots(out):
    """The paths of the snapshots in a directory."""
    return sorted(path for path in glob.glob(f"{out}/2*") if not path.endswith(".sha256"))


@pytest.fixture
def start(home, tools):
    """Start a tool that can be stopped: start("jsonl_snapshot", ...)."""
    running = []

    def begin(tool, *words):
        running.append(subprocess.Popen(
            [tools.python, "-I", f"{tools.bin}/{tool}", *words], env=home.env, cwd=home.path,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
        return running[-1]
    yield begin
    for process in running:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.communicate()


def reads(pid, path):
    """Has a process the file at path open?"""
    fds = glob.glob(f"/proc/{pid}/fd/*")
    return not os.path.exists("/proc/self/fd") or str(path) in map(os.path.realpath, fds)


@pytest.fixture
def disturb(home, start):
    """Snapshot the file live, and stop the tool whenever it has begun a new hidden file, to act.

    disturb(tool, act, times): act(0), act(1) ... What a busy machine was too late for is tried
    again; with reading also if the tool has closed live by then. The exit status, stdout, stderr.
    """
    path, out = home.path / "live", home.path / "out"

    def attempt(tool, act, times, reading):
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        path.write_bytes(lines(80_000))
        process, seen = start(tool, "--source", "live", "--dest-dir", "out"), 0
        done = set()
        while process.poll() is None and seen < times:
            for new in set(glob.glob(f"{out}/.csb-tmp-*")) - done:
                with contextlib.suppress(FileNotFoundError):
                    if os.path.getsize(new):
                        process.send_signal(signal.SIGSTOP)
                        if not reading or reads(process.pid, path):
                            act(seen)
                            seen += 1
                        process.send_signal(signal.SIGCONT)
                        done.add(new)
        text, err = process.communicate(timeout=60)
        return seen, process.returncode, text.decode(), err.decode()

    def until_caught(tool, act, times=1, reading=False):
        for _ in range(20):
            seen, *result = attempt(tool, act, times, reading)
            if seen == times:
                return result
        raise AssertionError(f"caught the tool {seen} of {times} times: {result}")
    return until_caught


@both
def test_a_growing_file(sh, tool, home):
    """The snapshot is the exact prefix of the size that the record tells."""
    path, out = home.path / "live.jsonl", home.path / "out"
    path.write_bytes(lines(20_000))
    stop = threading.Event()

    def append():
        with open(path, "ab", buffering=0) as file:
            number = 20_000
            while not stop.is_set():
                file.write(lines(1, number)[:50])
                file.write(lines(1, number)[50:])
                number += 1
    writer = threading.Thread(target=append)
    writer.start()
    try:
        records = [sh(f"{tool} --source live.jsonl --dest-dir out").ok().records[0]
                   for _ in range(3)]
    finally:
        stop.set()
        writer.join()
    whole = path.read_bytes()
    sizes = [record["size"] for record in records]
    assert sizes == sorted(sizes) and sizes[-1] < len(whole)
    for record in records:
        data = content(record["path"])
        assert len(data) == record["size"] >= 20_000 * len(lines(1))
        assert data == whole[:len(data)]
        assert hashlib.sha256(data).hexdigest() == record["raw_sha256"]
    assert len(shots(out)) == 3 and not glob.glob(f"{out}/.csb-tmp-*")


def put_over(path, data):
    """Write data into the same file."""
    with open(path, "r+b" if os.path.exists(path) else "wb") as file:
        file.write(data)


def beside(path, data):
    """A new file with data, to be renamed."""
    with open(f"{path}.new", "wb") as file:
        file.write(data)
    return f"{path}.new"


CHANGES = {
    "truncated": lambda path, data: os.truncate(path, 1000),
    "rewritten": put_over,
    "replaced": lambda path, data: os.replace(beside(path, data), path),
    "removed and back": lambda path, data: (os.unlink(path), put_over(path, b"new\n")),
}


@both
@pytest.mark.parametrize("how", CHANGES)
@pytest.mark.few(3)
def test_changed_while_it_is_read(tool, home, disturb, how):
    """Read again: the snapshot is the whole new file, never a mixture."""
    path = home.path / "live"
    code, text, err = disturb(
        tool, lambda _: CHANGES[how](str(path), lines(80_000)[::-1]), reading=True)
    assert (code, err) == (0, "")
    assert content(json.loads(text)["path"]) == path.read_bytes()
    assert path.read_bytes() != lines(80_000)
    assert not glob.glob(f"{home.path}/out/.csb-tmp-*")


@pytest.mark.long
@both
@pytest.mark.parametrize("how, times", [("truncated", 5), ("replaced", 5), ("gone", 1)])
@pytest.mark.few(1)
def test_changed_again_and_again(tool, home, disturb, how, times):
    """After a few times status 1 with the reason, and nothing is left."""
    path, data = home.path / "live", lines(80_000)

    def change(count):
        if how == "gone":
            path.unlink()
        elif how == "replaced":
            os.replace(beside(path, data), path)
        else:
            os.truncate(path, len(data) - 1000 * (count + 1))
    for _ in range(20):
        code, text, err = disturb(tool, change, times)
        if code:
            break       # else the last change came when all was read: a good snapshot, try again
        assert hashlib.sha256(content(json.loads(text)["path"])).hexdigest() == json.loads(
            text)["raw_sha256"]
    assert (code, text) == (1, "")
    reason = "No such file" if how == "gone" else how
    assert re.fullmatch(rf"{tool}: cannot [^\n]*{path}[^\n]*{reason}[^\n]*\n", err)
    assert os.listdir(home.path / "out") == []


@both
def test_a_disk_that_does_not_keep_what_it_was_given(tool, home, disturb):
    """What was written is read back before it has a name: another byte in it, and it has none."""
    out = home.path / "out"

    def spoil(count):
        for path in glob.glob(f"{out}/.csb-tmp-*") if count else ():
            with open(path, "r+b") as file:
                file.seek(-5, 2)
                file.write(b"!!")
    for _ in range(20):
        code, text, err = disturb(tool, spoil, 2)
        if code:
            break       # else the byte changed when all was read back: try again
    assert (code, text) == (1, "") and err.startswith(f"{tool}: cannot "), err
    assert os.listdir(out) == []


@both
def test_killed(tool, home, start, seeded):
    """kill -9 at any moment: what has a name is whole and has its sidecar."""
    path, out = home.path / "f", home.path / "out"
    path.write_bytes(lines(20_000))
    began = time.monotonic()
    process = start(tool, "--source", "f", "--dest-dir", "out")
    assert process.wait() == 0
    usual = time.monotonic() - began
    for _ in range(8):
        process = start(tool, "--source", "f", "--dest-dir", "out", "--retain", "2")
        time.sleep(seeded.random() * usual * 1.1)
        process.kill()
        process.wait()
        for shot in shots(out):
            assert content(shot) == path.read_bytes()
            if tool == JSONL:
                with open(shot[:-3] + ".sha256") as file:
                    assert hashlib.sha256(path.read_bytes()).hexdigest() in file.readline()
    process = start(tool, "--source", "f", "--dest-dir", "out", "--retain", "2")
    assert process.wait() == 0


@both
def test_all_at_once(sh, tool, home):
    """Eight runs in a second: eight names, nothing overwritten."""
    for number in range(8):
        (home.path / f"{number}").mkdir()
        (home.path / f"{number}/f").write_text(f"{number}")
    done = sh(f"for n in {{0..7}}; do {tool} --retain 0 --source $n/f --dest-dir out & done; wait")
    assert done.ok() and len({record["path"] for record in done.records}) == 8
    assert {record["source"][-3] for record in done.records} == set("01234567")
    for record in done.records:
        assert content(record["path"]).decode() == record["source"][-3]
        if tool == JSONL:
            with open(record["path"][:-3] + ".sha256") as file:
                assert record["gz_sha256"] in file.read()
    assert len(shots(home.path / "out")) == 8


@both
def test_what_another_run_has_just_made_is_not_purged(sh, tool, home, start):
    """A run that is held up before its purge finds a newer snapshot: it is not its to delete."""
    (home.path / "f").write_text("x")
    for number in range(3):
        out = f"out{number}"
        process = start(tool, "--retain", "1", "--source", "f", "--dest-dir", out)
        while process.poll() is None and not shots(home.path / out):
            pass
        process.send_signal(signal.SIGSTOP)
        newer = sh(f"{tool} --retain 0 --source f --dest-dir {out}").ok().records[0]
        process.send_signal(signal.SIGCONT)
        assert process.communicate(timeout=60)[1] == b""
        assert os.path.exists(newer["path"])


@both
def test_a_file_that_comes_while_another_is_restored(sh, tool, home, start):
    """It is not overwritten; what a busy machine was too late for is tried again."""
    (home.path / "f").write_bytes(lines(80_000))
    shot = sh(f"{tool} --source f --dest-dir out").ok().records[0]["path"]
    target = home.path / "t"
    for _ in range(20):
        shutil.rmtree(target, ignore_errors=True)
        process = start(tool, "--restore", shot, "--target-dir", "t")
        while process.poll() is None and not glob.glob(f"{target}/.csb-tmp-*"):
            pass
        process.send_signal(signal.SIGSTOP)
        if caught := not (target / "f").exists():
            (target / "f").write_text("mine")
        process.send_signal(signal.SIGCONT)
        err = process.communicate(timeout=60)[1]
        if caught:
            break
    assert (process.returncode, b"File exists" in err) == (1, True), err
    assert (target / "f").read_text() == "mine" and os.listdir(target) == ["f"]


@both
@pytest.mark.skipif(not shutil.which("strace"), reason="no strace here")
def test_the_order_of_what_reaches_the_disk(tool, home, tools):
    """Synced, then named, then the directory synced; the sidecar first; then a purge."""
    (home.path / "f").write_text("x")
    words = [tools.python, "-I", f"{tools.bin}/{tool}", "--source", "f", "--dest-dir", "out",
             "--retain", "1"]
    subprocess.run(words, env=home.env, cwd=home.path, check=True, stdout=subprocess.DEVNULL)
    trace = ["strace", "-f", "-y", "-o", "trace", "-e", "trace=fsync,link,linkat,unlink,unlinkat"]
    if subprocess.run([*trace, "true"], cwd=home.path, stderr=subprocess.DEVNULL).returncode:
        pytest.skip("strace may not trace here")
    subprocess.run(trace + words, env=home.env, cwd=home.path, check=True,
                   stdout=subprocess.DEVNULL)
    said, begun = [], {}
    for line in (home.path / "trace").read_text().splitlines():
        thread, line = line.split(None, 1)
        if line.endswith("<unfinished ...>"):       # another thread's line came in between
            begun[thread] = line.removesuffix("<unfinished ...>").rstrip()
        if rest := re.match(r"<\.\.\. \w+ resumed>\s*(.*)", line):
            line = begun.pop(thread) + rest[1]
        if not (call := re.match(r"(fsync|link|unlink)(?:at)?\((.*)\) += 0$", line)):
            continue
        what = re.findall(r'<([^>]*)>|"([^"]*)"', call[2])
        name = os.path.basename([a or b for a, b in what if (a or b) not in (".", "")][-1])
        kind = ("dir" if name == "out" else "tmp" if name.startswith(".csb-tmp-")
                else "sidecar" if name.endswith(".sha256") else "shot")
        said.append(f"{call[1]} {kind}")
    text = ", ".join(said)
    staged = "fsync tmp, link tmp, unlink tmp, fsync dir, "
    beside = "fsync tmp, link sidecar, unlink tmp, fsync dir, "
    gone = ", unlink shot" + (", unlink sidecar" if tool == JSONL else "")
    assert text == (staged + (beside if tool == JSONL else "")
                    + "link shot, fsync dir, unlink tmp" + gone)


@pytest.mark.long
def test_memory_of_a_large_one(home, tools):
    """A file of 80 MB is packed, checked and restored within 64 MB; so is what was packed well."""
    path = home.path / "big"
    block = lines(10_000)
    with open(path, "wb") as file:
        for _ in range(80_000_000 // len(block)):
            file.write(block)
    report = ("import resource, subprocess, sys\n"
              "done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)\n"
              "print(done.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)")

    def peak(*words):
        done = subprocess.run([tools.python, "-c", report, tools.python, "-I",
                               f"{tools.bin}/{JSONL}", *words], env=home.env, cwd=home.path,
                              capture_output=True, check=True)
        status, kilobytes = map(int, done.stdout.split())
        assert status == 0, done
        return kilobytes
    assert peak("--source", "big", "--dest-dir", "out") < 64 << 10
    assert peak("--restore", shots(home.path / "out")[0], "--target-dir", "t") < 64 << 10
    shot = home.path / "20200101T000000Z__zeros.gz"
    shot.write_bytes(gzip.compress(bytes(100_000_000), 1))
    assert peak("--restore", str(shot), "--target-dir", "t") < 64 << 10
