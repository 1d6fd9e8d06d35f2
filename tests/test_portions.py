"""csb-gitcommit works in portions: in which order,
and what a run that is killed leaves"""
import glob
import json
import os
import re
import shutil
import signal
import subprocess
import time

import pytest
from conftest import held, name, put_into

pytestmark = pytest.mark.logic

MB = 1 << 20
PORTION = 10**6         # bytes


def put(home, path, data, age=0):
    """Write a file of the Claude directory, an age in seconds ago."""
    put_into(home, path, data, mtime=time.time() - age)


def commits(sh, home):
    """[(class, paths)] of all commits, the first one first."""
    store = home.backup / "git"
    words = "log --reverse --root --name-only --no-renames --format=:%s main"
    found = []
    for line in sh(f"git --git-dir={store} {words}").ok().out.splitlines():
        if line.startswith(":"):
            found.append((line[1:].split(":")[0], []))
        elif line and not line.startswith(".csb/"):
            found[-1][1].append(line)
    return found


def test_conversations_first(sh, home, seeded):
    """The newest first, then what a person wrote, then the rest;
    each has its commit."""
    def data():
        return seeded.randbytes(600_000)

    older = f"projects/-p/{name(1)}.jsonl"
    newer = f"projects/-p/{name(2)}.jsonl"
    history = f"file-history/{name(1)}/1"
    put(home, "todos/rest", data(), age=0)
    put(home, "CLAUDE.md", data(), age=5)
    put(home, older, data(), age=30)
    put(home, newer, data(), age=10)
    put(home, history, data(), age=20)
    sh(f"csb-changes | csb-gitcommit --portion {PORTION}").ok()
    assert commits(sh, home) == [
        ("noise", [newer]), ("noise", [history]), ("noise", [older]),
        ("user", ["CLAUDE.md"]), ("noise", ["todos/rest"])]


def test_what_fits_into_one_portion_is_two_commits(sh, home, seeded):
    put(home, "todos/rest", seeded.randbytes(100_000))
    put(home, "CLAUDE.md", b"mine\n")
    put(home, f"projects/-p/{name(1)}.jsonl", seeded.randbytes(100_000))
    sh(f"csb-changes | csb-gitcommit --portion {PORTION}").ok()
    assert [is_of for is_of, _ in commits(sh, home)] == ["noise", "user"]


def test_a_deletion_goes_with_what_takes_its_place(sh, home, seeded):
    """A file becomes a directory and a directory a file, in portions of one file."""
    put(home, "todos/one", b"a file")
    put(home, "todos/two/deep/inside", b"in a directory")
    put(home, "todos/gone", b"x")
    sh("csb-changes | csb-gitcommit").ok()
    sh("cd ~/.claude/todos && rm -r one two gone && mkdir one").ok()
    put(home, "todos/one/inside", seeded.randbytes(1000), age=10)
    put(home, "todos/two", seeded.randbytes(1000), age=20)
    sh("csb-changes | csb-gitcommit --portion 1").ok()
    assert set(held(sh, home.backup / "git", "main")) == {
        "todos/one/inside",
        "todos/two",
    }
    assert commits(sh, home)[1:] == [
        ("noise", ["todos/one", "todos/one/inside"]),
        ("noise", ["todos/two", "todos/two/deep/inside"]),
        ("noise", ["todos/gone"])]
    sh(f"git --git-dir={home.backup}/git fsck --full --strict").ok()
    assert {r["change"] for r in sh("csb-changes").ok().records} <= {"recheck"}


@pytest.fixture
def many(home, seeded):
    """200 files of 50 KB that do not compress, old enough to be believed; by path."""
    made = {}
    for number in range(200):
        path = f"projects/-p/{name(number)}.jsonl"
        made[path] = seeded.randbytes(50_000)
        put(home, path, made[path])
    time.sleep(2.1)         # the stat of a younger file proves nothing
    return made


def start_writer(home, tools):
    """Start a csb-gitcommit of many portions, of the changes in the file ~/in."""
    words = [
        tools.python, "-I", f"{tools.bin}/csb-gitcommit", "--portion", str(PORTION)
    ]
    with open(home.path / "in", "rb") as source:
        return subprocess.Popen(
            words, stdin=source, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=home.env, cwd=home.path)


@pytest.fixture
def at_work(sh, home, tools, many):
    """A csb-gitcommit that has many portions, and has committed the first of them."""
    changes = sh("csb-changes").ok().out
    (home.path / "in").write_text(changes)
    process = start_writer(home, tools)
    assert b'"commit"' in process.stdout.readline()
    yield process
    process.kill()
    process.communicate()


def left_over(home):
    """Names in the store that no whole object or pack has."""
    return [path for pattern in ("**/.csb-tmp-*", "**/tmp_*", "fast_import_crash_*")
            for path in glob.glob(f"{home.backup}/git/{pattern}", recursive=True,
                                  include_hidden=True)]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.few(1)
def test_a_run_that_is_killed_goes_on_where_it_was(sh, home, many, at_work, number):
    at_work.send_signal(number)
    at_work.wait()
    if number == signal.SIGTERM:
        assert at_work.returncode == 143 and not left_over(home)
    store = home.backup / "git"
    done = held(sh, store, "main")
    assert 0 < len(done) < len(many)
    files = sum(r["files"] for r in sh("csb-changes | csb-gitcommit").ok().records)
    # A kill between the ref and csb.seen has the files of one portion read again, but
    # they make no commit.
    assert files == len(many) - len(done)
    assert held(sh, store, "main") == many
    sh(f"git --git-dir={store} fsck --full --strict").ok()
    assert sh("csb-changes | csb-gitcommit").ok().out == ""


def test_another_run_gets_its_turn_between_two_portions(sh, home, many, at_work):
    put(home, "CLAUDE.md", b"meanwhile\n")
    record = {"kind": "change", "path": "CLAUDE.md", "class": "user", "change": "new"}
    sh("csb-gitcommit", json.dumps(record).encode()).ok()
    _, errors = at_work.communicate()
    assert (at_work.returncode, errors) == (0, b"")
    order = [paths for _, paths in commits(sh, home)]
    assert ["CLAUDE.md"] in order[:-1], "not after all of them"
    assert held(sh, home.backup / "git", "main") == {
        **many,
        "CLAUDE.md": b"meanwhile\n",
    }
    again = [r for r in sh("csb-changes").ok().records if r["change"] != "recheck"]
    assert again == [], "csb.seen knows what the other run stored"


def test_who_waits_too_long_says_for_whom(sh, home):
    put(home, "CLAUDE.md", b"x")
    sh("csb-changes | csb-gitcommit").ok()
    put(home, "CLAUDE.md", b"more")
    done = sh("""csb-changes >~/in; exec 9>>~/.claude-backup/git/csb.lock; flock 9
        echo somebody else >~/.claude-backup/git/csb.lock
        csb-gitcommit --wait 0.3 <~/in 9>&-""")
    assert (done.rc, done.out, done.err.count("\n")) == (75, "", 1)
    assert "held by somebody else" in done.err
    assert sh("csb-gitcommit --wait 0 <~/in").ok().records


def test_the_same_twice_is_one_commit(sh, home):
    """What two runs have listed the one that comes second finds stored."""
    put(home, "todos/a", b"a")
    put(home, "todos/gone", b"b")
    (home.claude / "todos/link").symlink_to("a")
    (home.claude / "skills/empty").mkdir(parents=True)
    (home.claude / "skills/other").mkdir()
    several = """cd ~/.claude && echo more >>todos/a && rm todos/gone &&
        ln -sfn b todos/link && rmdir skills/empty && chmod 700 skills/other"""
    for change in ("true", several):
        sh(change).ok()
        sh("csb-changes >~/in && csb-gitcommit <~/in").ok()
        assert sh("csb-gitcommit <~/in").ok().out == ""
    journal = sh("git --git-dir=$CSB_HOME/git log --format= -p main -- .csb").ok().out
    assert journal.count('"change":"deleted"') >= 2


def test_the_rest_waits_for_room(sh, home, seeded):
    """On a disk that is nearly full conversations are stored,
    and what waits is named."""
    if sh("unshare -rm mount -t tmpfs none /mnt").rc:
        pytest.skip("no mount namespace here")
    transcript = f"projects/-p/{name(1)}.jsonl"
    put(home, transcript, seeded.randbytes(2 * MB))
    put(home, "CLAUDE.md", b"mine")
    put(home, "todos/small", b"small")
    put(home, "todos/large", seeded.randbytes(36 * MB))
    home.backup.mkdir(mode=0o700)
    done = sh(f"""unshare -rm bash -c '
        mount -t tmpfs -o size=40m none ~/.claude-backup
        csb-changes | csb-gitcommit >/dev/null; echo "first ${{PIPESTATUS[1]}}"
        git --git-dir=$HOME/.claude-backup/git ls-tree -r --name-only main |
            grep -v csb/
        rm ~/.claude/todos/large; echo more >~/.claude/todos/small
        csb-changes | csb-gitcommit >/dev/null; echo "second ${{PIPESTATUS[1]}}"
        git --git-dir=$HOME/.claude-backup/git cat-file -p main:{transcript} |
            cmp - ~/.claude/{transcript} && echo same'""")
    assert done.out.splitlines() == [
        "first 1", "CLAUDE.md", transcript, "todos/small", "second 0", "same"], done
    assert done.err.count("\n") == 1 and "of 'todos' (36 MB) yet" in done.err
    assert "2 MB stay free" in done.err


MEASURED = """python3 -c 'import resource, subprocess, sys
status = subprocess.call(["csb-gitcommit"], stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(status)' <~/in"""


@pytest.mark.parametrize("count, size, large", [
    (70, 600_000, 20 * MB), (70, MB, 0), (31_000, 100, 0)])
@pytest.mark.few(1)
def test_its_memory_is_bounded(sh, home, seeded, count, size, large):
    """64 MB, git included, for files that do not compress, beside a large one,
    and for very many.
    """
    put(home, f"file-history/{name(1)}/large", seeded.randbytes(large))
    for number in range(count):
        put(
            home,
            f"projects/-p{number % 50}/{name(number)}.jsonl",
            seeded.randbytes(size),
        )
    sh("csb-changes >~/in").ok()
    done = sh(MEASURED, timeout=600).ok()
    assert int(done.out) <= 64 << 10, "KB"
    listed = "git --git-dir=$CSB_HOME/git ls-tree -r --name-only main projects"
    assert sh(listed).ok().out.count("\n") == count


@pytest.mark.long
def test_others_beside_a_first_backup(sh, home, tools, many, rounds, seeded, figure):
    """200 files, portions of 1 MB, three that come again and again, and one of four
    runs is killed: what was acknowledged stays, and in the end all is stored, each
    version once."""
    import threading
    store, acked, problems, killed = home.backup / "git", set(), [], [0]
    sh("csb-changes >~/in").ok()
    stop = threading.Event()

    def come(number, chance):
        """One session's own backup, as a hook starts it."""
        path, turn = f"projects/-q/{name(1000 + number)}.jsonl", 0
        while not stop.is_set() or not turn:
            turn += 1
            put(home, path, f"{number} {turn}\n".encode() * 50)
            done = sh(f"csb-changes --session {name(1000 + number)} | csb-gitcommit")
            if done.rc or done.err:
                problems.append(done)
            stored = held(sh, store, "main")[path]
            if not stored.startswith(f"{number} {turn}\n".encode()):
                problems.append(f"{path} is not stored")
    others = [
        threading.Thread(target=come, args=(number, seeded)) for number in range(3)
    ]
    for turn in range(rounds(4, 12)):
        process = start_writer(home, tools)
        if not turn:
            process.stdout.readline()
            for other in others:
                other.start()
        time.sleep(seeded.random() * .4)
        killed[0] += process.poll() is None
        process.kill()
        process.communicate()
        there = set(held(sh, store, "main"))
        assert acked <= there, "what was acknowledged is gone"
        acked = there
        if turn % 4 == 3:       # from the start
            for path in many:
                put(home, path, seeded.randbytes(50_000))
            time.sleep(2.1)
            sh("csb-changes >~/in").ok()
    stop.set()
    for other in others:
        other.join()
    assert problems == []
    sh("csb-changes | csb-gitcommit >/dev/null").ok()
    on_disk = {path: (home.claude / path).read_bytes() for path in many}
    found = held(sh, store, "main")
    assert {path: found[path] for path in many} == on_disk
    assert sh(f"git --git-dir={store} fsck --full --strict --no-dangling").rc == 0
    figure(
        f"{turn + 1} first backups of 200 files in portions of 1 MB, "
        f"{killed[0]} killed at work, three others beside them: "
        "each got its turn, 0 lost"
    )


def read_below(home, trace):
    """The sum of what the reads in a trace (strace -y)
    of files of the Claude directory gave."""
    total = 0
    place = re.escape(str(home.claude))
    pattern = re.compile(rf"p?read\w*\(\d+<{place}/.* = (\d+)$")
    with open(trace, errors="replace") as file:
        for line in file:
            found = pattern.search(line)
            total += int(found[1]) if found else 0
    return total


@pytest.mark.long
def test_a_first_backup_of_2_gb_that_is_killed(sh, home, tools, seeded, figure):
    """With the portions that everybody has: killed when it has read 80 %, the next run
    reads no more than 40 % of the files. Meanwhile one session after the other comes
    with a line of its own, and each gets its turn within 10 s, every time."""
    if not shutil.which("strace") or subprocess.run(
            ["strace", "-o", "/dev/null", "true"], stderr=-3).returncode:
        pytest.skip("strace may not trace here, or there is none")
    if shutil.disk_usage(home.path).free < 8 << 30:
        pytest.skip("there are no 8 GB of room")
    total = 0
    own = f"projects/-q/{name(1)}.jsonl"
    bases = [seeded.randbytes(12_000).hex().encode() + b"\n" for _ in range(50)]
    for number in range(1000):
        size = MB if number % 2 else 200_000
        if number % 100 == 9:
            size = 130 * MB
        path = home.claude / f"projects/-p/{name(number + 10)}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as file:
            while file.tell() < size:
                base = bases[(number + file.tell()) % 50]
                file.write(b"%d " % file.tell() + base * 8)
            total += file.tell()
        os.utime(path, (time.time() - number,) * 2)
    assert total > 1.9e9
    sh("csb-changes >~/in").ok()
    with open(home.path / "in", "rb") as source:
        process = subprocess.Popen(
            [tools.python, "-I", f"{tools.bin}/csb-gitcommit"], stdin=source,
            stdout=open(home.path / "said", "wb"), stderr=subprocess.PIPE, env=home.env,
            cwd=home.path)
    store, longest, portions = home.backup / "git", [], []
    while sum(portions) < .7 * total:
        assert process.poll() is None, "it was done before it was killed"
        time.sleep(.1)
        portions = portions_done(home)
        if portions:
            put(home, own, b'{"turn":%d}\n' % len(longest))
            began = time.monotonic()
            done = sh(
                f"csb-changes --session {name(1)} | csb-gitcommit --wait 300",
                timeout=400,
            )
            longest.append(time.monotonic() - began)
            assert (done.rc, done.err) == (0, "")
            assert [record["files"] for record in done.records] == [1]
            count = len(portions_done(home))
            assert count <= len(portions) + 2, "others came before it"
            portions = portions_done(home)
    time.sleep(.5)      # into the next portion
    process.kill()
    process.communicate()
    assert len(longest) > 3
    done = held_names(sh, store)
    stored = sum((home.claude / path).stat().st_size for path in done)
    assert 0.6 * total < stored < total
    words = [
        "strace",
        "-f",
        "-y",
        "-s",
        "0",
        "--seccomp-bpf",
        "-e",
        "trace=read,pread64,readv",
        "-o",
        f"{home.path}/trace",
        tools.python,
        "-I",
        f"{tools.bin}/csb-gitcommit",
    ]
    sh("csb-changes >~/in").ok()
    with open(home.path / "in", "rb") as source:
        again = subprocess.run(words, stdin=source, stdout=-3, stderr=subprocess.PIPE,
                               env=home.env, cwd=home.path)
    assert (again.returncode, again.stderr) == (0, b"")
    part = read_below(home, home.path / "trace") / total
    assert .1 < part < .4, part
    assert len(held_names(sh, store)) == 1001
    walk = f"git --git-dir={store} rev-list --objects --quiet main"
    assert sh(walk, timeout=600).rc == 0
    figure(
        f"a first backup of {total / 1e9:.1f} GB, "
        f"killed after {sum(portions) / total:.0%}: the next run reads {part:.0%}; "
        f"{len(longest)} commits of another beside it, "
        f"the slowest took {max(longest):.1f} s"
    )


def portions_done(home):
    """The bytes of each portion that csb-gitcommit has committed,
    as it says in ~/said."""
    text = (home.path / "said").read_text().splitlines(True)
    return [json.loads(line)["bytes"] for line in text if line.endswith("\n")]


def held_names(sh, store):
    """The paths in the newest tree."""
    listed = sh(f"git --git-dir={store} ls-tree -r -z --name-only main").ok()
    lines = listed.out.split("\0")
    return [path for path in lines if path and not path.startswith(".csb/")]
