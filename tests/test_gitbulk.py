"""csb-gitbulk: the small files of a first backup in one pack, and nothing is lost by it"""
import glob
import hashlib
import json
import os
import shutil
import signal
import subprocess
import threading

import pytest

logic = pytest.mark.logic
PIPE = "csb-changes | csb-gitpack | csb-gitcommit"
SMALL = 1 << 20


@pytest.fixture
def many(home, seeded):
    """A Claude directory of 130 files of all sorts, and what they hold by path."""
    r, made = seeded, {}
    for number in range(120):
        size = r.choice([0, 1, 15, 16, 2047, 2048, 70_000])
        made[f"projects/-p{number % 7}/{number:08d}-2222-4333-8444-555555555555.jsonl"] = (
            r.randbytes(size // 2) + b"line\n" * (size // 10))
    made["projects/-p1/x/tool-results/zeros"] = bytes(SMALL)
    made["projects/-p1/x/tool-results/noise"] = r.randbytes(SMALL)
    made["projects/-p1/x/tool-results/more"] = r.randbytes(SMALL + 1)
    made["projects/-p1/a b\n\xe9\u2028.jsonl"] = b"odd\r\n"
    made["history.jsonl"] = made["projects/-p2/twin"] = b"twice\n" * 9
    made["skills/s/SKILL.md"] = b"a skill\n"
    made["todos/one.json"] = b"[]"
    for path, data in made.items():
        file = home.claude / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return made


class Store:
    """The store of a home, asked with git."""

    def __init__(self, home):
        self.home, self.path = home, f"{home.backup}/git"

    def git(self, *words):
        done = subprocess.run(["git", f"--git-dir={self.path}", *words], env=self.home.env,
                              capture_output=True)
        assert done.returncode == 0, done
        return done.stdout

    def packs(self):
        return glob.glob(f"{self.path}/objects/pack/*.pack")

    def loose(self):
        return glob.glob(f"{self.path}/objects/??/*")

    def left(self):
        return glob.glob(f"{self.path}/objects/csb.*")

    def holds(self, made):
        """All of that, and git finds nothing wrong."""
        assert self.git("fsck", "--full", "--strict", "--no-dangling") == b""
        names = self.git("ls-tree", "-rz", "--name-only", "main").decode().split("\0")[:-1]
        assert {*names} - {".csb/changes.jsonl"} == made.keys()
        for path, data in made.items():
            assert self.git("cat-file", "blob", f"main:{path}") == data, path


@pytest.fixture
def store(home):
    return Store(home)


def lines(text):
    """The lines of a text, in an order of their own."""
    return sorted(text.splitlines())


def ready(sh):
    """A store, and the change records on a first run."""
    sh("csb-init >/dev/null").ok()
    return sh("csb-changes").ok().out.encode()


def test_a_first_backup(sh, home, store, many):
    """All comes back, on the one pack of the small files; the next run has nothing to do."""
    sh(PIPE).ok()
    store.holds(many)
    (bulk,) = [path for path in store.packs() if not os.path.exists(path[:-5] + ".keep")
               and b"blob" in store.git("verify-pack", "-v", path[:-5] + ".idx")
               and b"commit" not in store.git("verify-pack", "-v", path[:-5] + ".idx")]
    held = store.git("verify-pack", "-v", bulk[:-5] + ".idx").decode().split("\n")
    assert sum(" blob " in line for line in held) == len({*many.values()}) - 1, "one is too large"
    assert oct(os.stat(bulk).st_mode)[-3:] == "400" and not store.left()
    assert {record["change"] for record in sh("csb-changes").ok().records} <= {"recheck"}, "young"
    sh("csb-verify >/dev/null").ok()


@pytest.mark.parametrize("way", ["CSB_NO_GITPACK=1 csb-gitcommit", "csb-gitcommit",
                                 "csb-gitbulk | csb-gitblob | csb-gitcommit"])
def test_the_same_tree_in_every_way(sh, home, store, many, way):
    """With and without it, and by hand: the same trees, and the same records in the journal."""
    changes = ready(sh)
    shutil.copytree(store.path, home.path / "fresh")
    journal = lambda: [line for commit in ("main", "main^") for line in sorted(
        store.git("cat-file", "blob", f"{commit}:.csb/changes.jsonl").splitlines())]
    trees = lambda: store.git("rev-parse", "main^{tree}:projects", "main^{tree}:skills")
    sh(f"{way} >/dev/null", changes).ok()
    one = trees(), journal()
    assert b'"proven"' not in b"".join(one[1])
    shutil.rmtree(store.path)
    shutil.copytree(home.path / "fresh", store.path)
    sh("csb-gitblob | csb-prove | csb-gitcommit >/dev/null", changes).ok()
    assert (trees(), journal()) == one
    store.holds(many)


@logic
def test_only_what_is_sound_and_small_is_taken(sh, home, store, many):
    """Links, what is gone, large, no file, unreadable or of another kind comes out as it came."""
    changes = ready(sh)
    (sound,) = [record for record in map(json.loads, changes.splitlines())
                if record["path"] == "history.jsonl"]
    folder = home.claude / "projects/-p1"
    (folder / "link.txt").symlink_to(home.claude / "history.jsonl")
    os.mkfifo(folder / "fifo")
    (home.claude / "plans").symlink_to(home.claude / "todos")
    odd = [{**sound, **change} for change in (
        {"path": "projects/-p1/link.txt"}, {"path": "projects/-p1/fifo"}, {"path": "projects/-p1"},
        {"path": "projects/-p1/gone"}, {"path": "plans/one.json"}, {"path": "../x"},
        {"path": "/etc/passwd"}, {"path": "a\0b"},
        {"path": ""}, {"path": None}, {"path": "projects/-p1/x/"}, {"link": "history.jsonl"},
        {"size": SMALL + 1}, {"size": None}, {"size": "9"}, {"change": "deleted"},
        {"change": "grew"}, {"change": "recheck"}, {"kind": "refused"}, {"kind": None},
        {"path": "projects/-p1/x/tool-results/more"}, {"path": "\udcff"}, {"mine": 1, "oid": "-"})]
    text = "".join(json.dumps(record) + "\n" for record in [*odd, sound])
    done = sh("csb-gitbulk", text.encode()).ok()
    *passed, last = done.records
    order = lambda records: sorted(map(json.dumps, records))
    assert order(passed) == order(odd)
    assert last["proven"] is True and last["oid"] == hashlib.sha1(
        b"blob 54\0" + many["history.jsonl"]).hexdigest()
    assert store.git("cat-file", "blob", last["oid"]) == many["history.jsonl"]


@logic
@pytest.mark.parametrize("prepare", [
    "true", "touch $CSB_HOME/git/objects/pack/.csb-tmp-1-of_gitpack",
    "touch $CSB_HOME/git/objects/pack/pack-1.pack $CSB_HOME/git/objects/pack/pack-1.keep; "
    "mkdir $CSB_HOME/git/objects/csb.of_gitpack; touch $CSB_HOME/git/objects/csb.of_gitpack/pack",
    "CSB_NO_GITPACK=1; export CSB_NO_GITPACK", "set -- --dry-run", "set -- --adopt",
    "echo x | git --git-dir=$CSB_HOME/git hash-object -w --stdin >/dev/null",
    "git --git-dir=$CSB_HOME/git config csb.claudeDir /another",
    "echo /x >$CSB_HOME/git/objects/info/alternates", "touch $CSB_HOME/git/objects/.DS_Store",
    "echo [ >>$CSB_HOME/git/config",
    "rm -rf $CSB_HOME/git", "rm -rf $CSB_HOME/git && git init -q --bare --object-format=sha256 "
    "$CSB_HOME/git && git --git-dir=$CSB_HOME/git config csb.claudeDir $HOME/.claude"])
def test_only_into_an_empty_store_of_ours(sh, store, many, prepare):
    """Where it has something, is of another directory, or is none, all is for csb-gitblob."""
    changes = ready(sh)
    done = sh(f'{prepare}; csb-gitbulk "$@"', changes).ok()
    taken = prepare == "true" or "of_gitpack" in prepare    # which is at work, or was
    assert any("proven" in record for record in done.records) == taken
    if not taken:
        assert lines(done.out.encode()) == lines(changes)
        assert not store.packs() and not store.left()


def test_what_was_packed_is_asked_for_no_more(sh, store, many):
    """A second run finds objects, so that it leaves the rest to git; nothing is there twice."""
    changes = ready(sh)
    sh("csb-gitbulk >/dev/null", changes).ok()
    sh("csb-gitcommit >/dev/null", changes).ok()
    store.holds(many)
    assert len(store.packs()) == 1, "the rest is loose"
    assert store.git("prune-packed", "--dry-run") == b"", "what is loose is in no pack"


@logic
@pytest.mark.parametrize("where", ["12", "99", "size // 2", "size - 3"])
def test_a_pack_that_is_not_read_back_is_none(sh, store, many, stages, tmp_path, where):
    """What was written is changed before it is read: all of it is for git, and nothing is left."""
    changes = ready(sh)
    tool = tmp_path / "copy/bin/csb-gitbulk"
    text, written = tool.read_text(), "        total = hashlib.sha1()\n"
    assert text.count(written) == 1
    tool.write_text(text.replace(written, f"""{written}\
        self.file.flush()
        file, size = self.file.fileno(), os.fstat(self.file.fileno()).st_size
        os.pwrite(file, bytes([os.pread(file, 1, {where})[0] ^ 4]), {where})
"""))
    done = sh("csb-gitbulk", changes).ok()
    assert not store.packs() and not store.left()
    assert lines(done.out.encode()) == lines(changes)
    sh("csb-gitcommit >/dev/null", changes).ok()
    store.holds(many)


@logic
@pytest.mark.parametrize("entry", [
    "zlib.compress(data[::-1], 1)", "zlib.compress(data, 1)[:-4]", "zlib.compress(data, 1) + b'x'",
    "zlib.compress(data + b'x', 1)", "b''"])
def test_an_entry_that_is_not_what_was_read(sh, store, many, stages, tmp_path, entry):
    """Other bytes of the same length, too few or too many: such a pack is none either."""
    changes = ready(sh)
    tool = tmp_path / "copy/bin/csb-gitbulk"
    text, made = tool.read_text(), "zlib.compress(data, 1)"
    assert text.count(made) == 1
    tool.write_text(text.replace(made, entry))
    done = sh("csb-gitbulk", changes).ok()
    assert not store.packs() and not store.left()
    assert lines(done.out.encode()) == lines(changes)


@logic
def test_an_idx_shows_a_whole_pack(sh, store, many, stages, tmp_path):
    """Killed between the two names: git sees no pack, so that the next run stores all of it."""
    changes = ready(sh)
    tool = tmp_path / "copy/bin/csb-gitbulk"
    text, moved = tool.read_text(), "            os.replace(f"
    assert text.count(moved) == 1
    tool.write_text(text.replace(moved, "            kind == 'idx' and os.kill(os.getpid(), 9)\n"
                                 + moved))
    assert sh("csb-gitbulk", changes).rc in (-9, 137)
    assert len(store.packs()) == 1 and not glob.glob(f"{store.path}/objects/pack/*.idx")
    sh("csb-gitcommit >/dev/null", changes).ok()
    store.holds(many)


@logic
@pytest.mark.parametrize("limit", [0, 1, 64, 1024])
def test_no_room_for_it(sh, store, many, limit):
    """A disk that takes no more: all is for git, nothing is left."""
    changes = ready(sh)
    done = sh(f"ulimit -f {limit}; csb-gitbulk | cat", changes).ok()
    assert lines(done.out.encode()) == lines(changes) and not store.packs() and not store.left()


@logic
def test_the_room_is_free_before_git_needs_it(sh, home, store, many):
    """What was written of a pack that takes no more is gone when the first record comes out."""
    changes = [json.loads(line) for line in ready(sh).splitlines()]
    text = "".join(json.dumps({**record, "mine": "x" * 2000}) + "\n" for record in changes)
    (home.path / "in").write_text(text)     # more than a pipe holds
    with subprocess.Popen("ulimit -f 64; exec csb-gitbulk <in", shell=True, stdout=-1,
                          env=home.env, cwd=home.path) as tool:
        assert b"proven" not in tool.stdout.readline() and not store.left()
        assert len(tool.stdout.read().splitlines()) == len(changes) - 1


@logic
@pytest.mark.parametrize(("code", "status", "words"), [
    ("sys.exit(3)", 3, ""), ("sys.exit(75)", 75, ""),
    ("os.kill(os.getpid(), signal.SIGKILL)", 1, "killed by signal 9")])
def test_why_a_later_stage_ended(sh, many, stages, code, status, words):
    """csb-gitcommit ends with the status of csb-gitblob, not with that of the broken pipe to it."""
    changes = [json.loads(line) for line in ready(sh).splitlines()]
    text = "".join(json.dumps({**record, "mine": "x" * 2000}) + "\n" for record in changes)
    stages("csb-gitblob", code)
    done = sh("csb-gitcommit", text.encode())       # more than a pipe holds
    assert done.rc == status and words in done.err and not done.out


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_killed(sh, home, store, many, number):
    """Half of it came: nothing is in the store then, and the next run does it all."""
    changes = ready(sh)
    with subprocess.Popen(["csb-gitbulk"], stdin=-1, stdout=-1, env=home.env) as tool:
        tool.stdin.write(b"".join(changes.splitlines(keepends=True)[:60]))
        tool.stdin.flush()
        while not glob.glob(f"{store.path}/objects/csb.aside.*/pack"):
            assert tool.poll() is None
        tool.send_signal(number)
        tool.wait()
        assert tool.stdout.read() == b""
    assert not store.packs() and bool(store.left()) == (number == signal.SIGKILL)
    sh(f"{PIPE} >/dev/null").ok()
    store.holds(many)
    for path in store.left():
        os.utime(path, (1, 1))
    sh("csb-init >/dev/null").ok()
    assert not store.left()


def test_files_that_do_not_hold_still(sh, home, store, many):
    """They are replaced while it reads: each is stored as it was at one instant, or later."""
    changes, going = ready(sh), threading.Event()
    paths = sorted(path for path in many if path.startswith("projects/-p3/"))
    held = {path: {many[path]} for path in paths}

    def churn():
        number = 0
        while not going.is_set():
            path = paths[number % len(paths)]
            data = many[path] + b"more\n" * (number % 5 * 1000)
            held[path].add(data)
            other = home.claude / "new"
            other.write_bytes(data)
            os.replace(other, home.claude / path)
            number += 1

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        done = sh("csb-gitcommit >/dev/null", changes)
    finally:
        going.set()
        thread.join()
    assert done.rc in (0, 1)
    for path in store.git("ls-tree", "-rz", "--name-only", "main").decode().split("\0")[:-1]:
        if path in held:
            assert store.git("cat-file", "blob", f"main:{path}") in held[path]
    sh(f"{PIPE} >/dev/null").ok()
    many.update({path: (home.claude / path).read_bytes() for path in paths})
    store.holds(many)


@pytest.mark.long
def test_its_memory_is_bounded(sh, home, store, seeded):
    """Files of 1 MB that do not compress: no more than 64 MB, however many there are."""
    for number in range(100):
        (home.claude / f"projects/-p/{number}").parent.mkdir(parents=True, exist_ok=True)
        (home.claude / f"projects/-p/{number}").write_bytes(seeded.randbytes(SMALL))
    changes = ready(sh)
    done = sh("python3 -c 'import resource, subprocess; subprocess.run([\"csb-gitbulk\"]); "
              "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)'", changes).ok()
    assert sum("proven" in line for line in done.out.splitlines()) == 100
    assert int(done.out.splitlines()[-1]) <= 64 << 10


@pytest.mark.long
def test_its_memory_is_bounded_for_many_files(sh, home, store):
    """So it is for small ones without end: a pack is closed before their records are too many."""
    (home.claude / "projects/-p").mkdir(parents=True)
    for number in range(1000):
        (home.claude / f"projects/-p/{number}").write_bytes(b"%d\n" % number)
    changes = [json.loads(line) for line in ready(sh).splitlines()]
    text = "".join(json.dumps({**record, "mine": "x" * 4000}) + "\n" for record in changes)
    done = sh("python3 -c 'import resource, subprocess; subprocess.run([\"csb-gitbulk\"]); "
              "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)'",
              text.encode() * 12).ok()
    assert sum("proven" in line for line in done.out.splitlines()) == 12_000
    assert int(done.out.splitlines()[-1]) <= 64 << 10
    assert store.git("fsck", "--full", "--strict", "--no-dangling") == b"" and not store.left()


@logic
def test_nobody_else_says_that_it_is_proven(sh, home, store, many):
    """A record that comes with it is read back all the same, if csb-gitblob stores the bytes."""
    given = sh("csb-changes").ok().out.replace('"kind"', '"proven":true,"kind"').encode()
    done = sh("csb-gitblob", given).ok()
    assert len(done.records) == len(many) and "proven" not in done.out
