"""session_snapshot and jsonl_snapshot: names, proof, retention, restore, bad input.

Most tests run for both tools. Only jsonl_snapshot knows gzip and sidecars.
"""
import datetime
import gzip
import hashlib
import json
import os
import random
import re
import shutil
import stat
import subprocess
import time
import zlib

import pytest
from conftest import OF_THIS_RUN, ROOT, SHARED

pytestmark = pytest.mark.logic

SESSION = "session_snapshot"
JSONL = "jsonl_snapshot"
ID = OF_THIS_RUN
OLD = "20200101T{:06d}Z"
STAMP = re.compile(r"[0-9]{8}T[0-9]{6}Z")
INTACT = "archive integrity:   OK  ("
MATCH = "source-match:        OK  ("
LOST = "source-match:        [WARNING] UNVERIFIABLE — sidecar .sha256 missing\n"
OTHER = "source-match:        FAIL  ("
BROKEN = "archive integrity:   FAIL  ("
NASTY = [
    b"plain.jsonl",
    b"two words",
    b"new\nline.jsonl",
    b"back\\slash\\n",
    b"caf\xe9 \xff",
    "été".encode(),
    b"a__b",
    b"tab\tbell\x07esc\x1b[31m\x7f",
    b" x ",
    b"-rf",
    b"x (5 bytes)",
    b"20200101T000000Z__again.md",
    b"%b%s{}{0}",
    b"'quote\"",
    b"..md",
    b"r\rn",
    b"n" * 220,
    b"a.gz",
    b"b.sha256",
]
both = pytest.mark.parametrize("tool", [SESSION, JSONL])


@pytest.fixture
def source(home):
    """A file worth a snapshot."""
    path = home.path / "notes.md"
    path.write_bytes(b"".join(b'{"n":%d}\n' % n for n in range(5000)))
    return path


@pytest.fixture
def out(home):
    """Where snapshots go, not made yet."""
    return home.path / "out"


@pytest.fixture
def repo(sh, home):
    """A git repository with a directory in it."""
    sh("git init -q repo && mkdir repo/deep").ok()
    return home.path / "repo"


def sha(data):
    return hashlib.sha256(data).hexdigest()


def content(path):
    """The bytes that a snapshot holds, read by another program."""
    data = path.read_bytes()
    if path.name.endswith(".gz"):
        return gzip.decompress(data)
    return data


def names(folder):
    """Everything in a directory but sidecars, in the order of names."""
    return sorted(name for name in os.listdir(folder) if not name.endswith(".sha256"))


def fake(tool, folder, root, data=b"old", base="notes.md", sidecar=True, spoil=False):
    """A snapshot as an earlier run made it; the path of its data."""
    folder.mkdir(exist_ok=True)
    if tool == SESSION:
        path = folder / f"{root}__{base}"
        packed = data
    else:
        path = folder / f"{root}__{base}.gz"
        packed = gzip.compress(data)
        if sidecar:
            (folder / f"{root}__{base}.sha256").write_text(
                f"raw_sha256:   {sha(data)}  {base} ({len(data)} bytes)\n"
                f"gz_sha256:    {sha(packed)}  {path.name} ({len(packed)} bytes)\n"
                f"snapshot_at:  {root}\n"
                f"source_path:  /somewhere/{base}\n")
    if spoil:
        packed = packed[:-3] + b"???"
    path.write_bytes(packed)
    return path


def take(sh, tool, source, out, more="", **env):
    """Make a snapshot without a word on stderr; its record."""
    line = f'{tool} --source "$S" --dest-dir "$D" {more}'
    return sh(line, S=str(source), D=str(out), **env).ok().records[0]


def back(sh, tool, path, target, more=""):
    """Restore."""
    line = f'{tool} --restore "$P" --target-dir "$D" {more}'
    return sh(line, P=str(path), D=str(target))


def time_of(stamp):
    at = datetime.datetime.strptime(stamp, "%Y%m%dT%H%M%SZ")
    return at.replace(tzinfo=datetime.timezone.utc)


def is_now(at):
    now = datetime.datetime.now(datetime.timezone.utc)
    return abs((now - at).total_seconds()) < 60


# -- the snapshot --------------------------------------------------------------------

@both
def test_snapshot(sh, tool, source, out):
    data, before = source.read_bytes(), source.stat()
    record = take(sh, tool, source, out)
    assert list(record)[0] == "kind"
    assert record["kind"] == "snapshot"
    path = out / os.path.basename(record["path"])
    assert str(path) == record["path"]
    assert content(path) == data

    stamp = STAMP.match(path.name)[0]
    at = time_of(stamp)
    assert is_now(at)
    assert record["snapshot_at"] == f"{at:%Y-%m-%dT%H:%M:%SZ}"
    assert record["source"] == str(source)
    assert (record["size"], record["raw_sha256"]) == (len(data), sha(data))
    assert record["purged"] == []
    assert "dry_run" not in record
    after = source.stat()
    assert after.st_mtime_ns == before.st_mtime_ns
    assert after.st_ctime_ns == before.st_ctime_ns

    if tool == SESSION:
        assert os.listdir(out) == [f"{stamp}__notes.md"]
        return
    sidecar = f"{stamp}__notes.md.sha256"
    assert sorted(os.listdir(out)) == [f"{stamp}__notes.md.gz", sidecar]
    packed, size = record["gz_sha256"], record["gz_size"]
    assert packed == sha(path.read_bytes())
    assert size == path.stat().st_size < len(data)
    assert (out / sidecar).read_text() == (
        f"raw_sha256:   {sha(data)}  notes.md ({len(data)} bytes)\n"
        f"gz_sha256:    {packed}  {path.name} ({size} bytes)\n"
        f"snapshot_at:  {stamp}\n"
        f"source_path:  {source}\n")


@both
@pytest.mark.parametrize("zone", ["PST8", "IST-5:30"])
def test_the_stamp_is_utc(sh, tool, source, out, zone):
    name = os.path.basename(take(sh, tool, source, out, TZ=zone)["path"])
    assert is_now(time_of(STAMP.match(name)[0]))


@both
def test_modes_under_any_umask(sh, tool, source, repo):
    """Files 0600, directories 0700, whatever the umask says."""
    for umask in ("000", "027", "777"):
        line = f'umask {umask}; {tool} --source "$S"'
        own = f'--dest-dir "$PWD/own{umask}"'
        sh(f"{line} {own}", S=str(source), cwd=repo).ok()
        sh(line, S=str(source), cwd=repo).ok()
    sh("rmdir deep && mv .git ../git", cwd=repo).ok()

    folders = 0
    for top, _, files in os.walk(repo):
        if top == str(repo):
            continue
        folders += 1
        assert stat.S_IMODE(os.stat(top).st_mode) == 0o700, top
        for name in files:
            assert stat.S_IMODE(os.stat(f"{top}/{name}").st_mode) == 0o600, name
    assert folders == (6 if tool == JSONL else 5)


@both
def test_default_place(sh, tool, source, repo):
    """Below the top of the repository, from anywhere in it.

    What is compressed git ignores; an ignore file that lies there is left alone.
    """
    line = f'{tool} --source "$S"'
    done = sh(line, S=str(source), cwd=repo / "deep").ok()
    path = done.records[0]["path"]
    status = sh("git status --porcelain -uall", cwd=repo).ok().out
    ignores = list(repo.rglob(".gitignore"))
    if tool == SESSION:
        assert os.path.dirname(path) == f"{repo}/backup/sessions"
        assert status == f"?? backup/sessions/{os.path.basename(path)}\n"
        assert ignores == []
        return

    ignore = repo / "backup/sessions/raw/.gitignore"
    assert os.path.dirname(path) == str(ignore.parent)
    assert status == ""
    assert ignores == [ignore]
    assert ignore.read_text() == "*\n"
    ignore.write_text("# mine\n")
    sh(line, S=str(source), cwd=repo).ok()
    assert ignore.read_text() == "# mine\n"


@both
def test_default_place_is_that_of_the_working_directory(sh, tool, source, repo, home):
    """Not of the source, nor of what a calling hook left in the environment."""
    sh("git init -q other").ok()
    of_the_hook = {"GIT_DIR": str(repo / ".git"), "GIT_WORK_TREE": str(repo)}
    line = f'{tool} --source "$S"'
    done = sh(line, S=str(source), cwd=home.path / "other", **of_the_hook).ok()
    path = done.records[0]["path"]
    assert path.startswith(f"{home.path}/other/backup/sessions/")
    assert sorted(os.listdir(repo)) == [".git", "deep"]


@both
def test_no_ignore_file_where_the_user_says(sh, tool, source, repo):
    take(sh, tool, source, repo / "mine")
    assert not (repo / "mine/.gitignore").exists()


@both
def test_no_default_outside_git(sh, tool, source, home):
    done = sh(f"{tool} --source notes.md")
    assert (done.rc, done.out) == (3, "")
    message = f"{tool}: cannot .*--dest-dir.*not a git repository.*\n"
    assert re.fullmatch(message, done.err)
    sh("git init -q --bare bare").ok()
    assert sh(f'{tool} --source "$S"', S=str(source), cwd=home.path / "bare").rc == 3
    assert sh(f"{tool}", stdin=b"notes.md\nnotes.md\n").rc == 3
    assert sh(f"{tool} --source missing").rc == 2
    assert sh(f"{tool}", stdin=b"").ok().out == ""


@both
@pytest.mark.parametrize("name", ["--dest-dir", "--target-dir"])
@pytest.mark.few(2)
def test_directory_of_the_user(sh, tool, source, home, name):
    """It is made, its parent is not; the two options are one."""
    sh(f"{tool} --source notes.md {name} rel").ok()
    assert len(names(home.path / "rel")) == 1
    done = sh(f"{tool} --source notes.md {name} unmounted/disk")
    assert (done.rc, done.out) == (1, "")
    assert done.err == (
        f"{tool}: cannot snapshot '{source}' to '{home.path}/unmounted/disk': "
        "No such file or directory\n"
    )
    assert not (home.path / "unmounted").exists()
    done = sh(f"{tool} --source notes.md {name} notes.md")
    assert done.rc == 1 and "Not a directory" in done.err
    assert sh(f"{tool} --source notes.md {name} ''").rc == 2
    shot = home.path / "rel" / names(home.path / "rel")[0]
    sh(f'{tool} --restore "$P" {name} again', P=str(shot))
    assert (home.path / "again/notes.md").read_bytes() == source.read_bytes()


@both
@pytest.mark.few(1)
def test_any_name_comes_back(sh, tool, home, out, tmp_path):
    """Also through a pipe of records; a sidecar tells the name in one line."""
    quoted = ""
    for name in NASTY:
        (home.path / os.fsdecode(name)).write_bytes(b"what it held\n" + name)
        quoted += " $'" + "".join(f"\\x{byte:02x}" for byte in name) + "'"
    done = sh(f"{tool} --dest-dir out --{quoted}").ok()

    target = tmp_path / "target"
    end = ".gz" if tool == JSONL else ""
    for name, record in zip(NASTY, done.records, strict=True):
        base, path = os.fsdecode(name), record["path"]
        assert record["source"] == f"{home.path}/{base}"
        assert os.path.basename(path)[18:] == base + end
        again = back(sh, tool, path, target)
        assert again.rc == 0
        assert again.records[0]["path"] == f"{target}/{base}"
        assert (target / base).read_bytes() == b"what it held\n" + name
        if tool == JSONL:
            check_sidecar(path[:-3] + ".sha256", os.fsencode(record["source"]))

    sources = [record["source"] for record in done.records]
    if tool == SESSION:     # it takes a pipe's .jsonl for a transcript
        sources = [path for path in sources if not path.endswith(".jsonl")]
    stdin = "".join(json.dumps({"path": path}) + "\n" for path in sources)
    done = sh(f"{tool} --dest-dir out2", stdin=stdin.encode()).ok()
    assert len(done.records) == len(sources)


def check_sidecar(path, source):
    """Four lines without control characters; a shell reads the source's name there."""
    with open(path, "rb") as file:
        raw, packed, stamp, place, end = file.read().split(b"\n")
    assert raw.startswith(b"raw_sha256:   ")
    assert packed.startswith(b"gz_sha256:    ")
    assert stamp.startswith(b"snapshot_at:  ")
    assert place.startswith(b"source_path:  ")
    assert end == b""
    assert not re.search(rb"[\x00-\x1f\x7f]", raw + packed + stamp + place)
    assert (b"/new\\0012line.jsonl" in place) == (b"\n" in source)

    line = """printf '%b.' "$(sed -n 's/^source_path:  //p' "$P")" """
    env = {"P": path, "PATH": "/usr/bin:/bin"}
    told = subprocess.check_output(["bash", "-c", line], env=env)
    assert told == source + b"."


@both
@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 5 << 20])
@pytest.mark.few(6)
def test_sizes(sh, tool, home, out, tmp_path, size):
    (home.path / "f").write_bytes(random.Random(size).randbytes(size))
    record = take(sh, tool, home.path / "f", out)
    assert record["size"] == size
    assert back(sh, tool, record["path"], tmp_path / "t").rc == 0
    assert (tmp_path / "t/f").read_bytes() == (home.path / "f").read_bytes()


def test_by_hand(sh, home, out):
    """gunzip and sha256sum restore a snapshot; it is one member, as gzip makes it."""
    raw = b""
    for number in range(40_000):
        digest = sha(b"%d" % number).encode()
        raw += b'{"n":%d,"x":"%s"}\n' % (number, digest)
    path = home.path / "big.jsonl"
    path.write_bytes(raw)
    record = take(sh, JSONL, path, out)
    sh("cd out && gunzip -t *.gz && gunzip -c *.gz | cmp - ../big.jsonl").ok()
    sums = sh("cd out && sha256sum <*.gz && gunzip -c *.gz | sha256sum").ok().out
    assert sums.split() == [record["gz_sha256"], "-", record["raw_sha256"], "-"]

    with open(record["path"], "rb") as file:
        packed = file.read()
    unpack = zlib.decompressobj(31)
    assert unpack.decompress(packed) == raw
    assert unpack.eof
    assert not unpack.unused_data
    assert len(packed) < 1.03 * len(gzip.compress(raw, 6))


# -- what is no source ---------------------------------------------------------------

@both
@pytest.mark.parametrize("make, rc", [
    (":", 2),
    ("mkdir f", 2),
    ("mkfifo f", 2),
    ("ln -s f f", 2),
    ("ln -s /dev/null f", 2),
    ("touch x && ln -s x/y f", 2),
    ("touch f && chmod 000 f", 1),
    ("mkdir d && touch d/f && ln -s d/f f && chmod 000 d", 1),
])
@pytest.mark.few(6)
def test_no_file(sh, tool, home, make, rc):
    """One line, nothing on stdout, nothing made.

    The status is 2 if FILE is no file, 1 if a pipe names it.
    """
    sh(make).ok()
    message = rf"{tool}: cannot read '{home.path}/f': [^\n]+\n"
    for name in ("--source", "--restore"):
        done = sh(f"timeout 100 {tool} {name} f --dest-dir out")
        assert (done.rc, done.out) == (rc, "")
        assert re.fullmatch(message, done.err)
    done = sh(f"timeout 100 {tool} --dest-dir out", stdin=b"f\n")
    assert (done.rc, done.out) == (1, "")
    assert re.fullmatch(message, done.err)
    sh("chmod -f 700 d; true")
    assert not (home.path / "out").exists()


@both
def test_a_link_is_followed(sh, tool, source, out):
    sh("ln -s notes.md link.md").ok()
    record = take(sh, tool, source.parent / "link.md", out)
    assert "__link.md" in record["path"]
    assert content(out / names(out)[0]) == source.read_bytes()


@both
@pytest.mark.parametrize("line", [
    "--retain -1 --source notes.md",
    "--retain x",
    "--source notes.md --restore notes.md",
    "--source",
    "--restore notes.md notes.md",
    "--source ''",
    "--sou notes.md",
])
@pytest.mark.few(8)
def test_misuse(sh, tool, source, out, line):
    done = sh(f"{tool} --dest-dir out {line}")
    assert (done.rc, done.out) == (2, "")
    assert done.err.startswith(f"{tool}: ")
    assert done.err.count("\n") == 1
    assert not out.exists()


@both
def test_places_that_cannot_be_written(sh, tool, source, home):
    sh("mkdir ro && chmod 500 ro").ok()
    done = sh(f"{tool} --source notes.md --dest-dir ro")
    assert (done.rc, done.out) == (1, "")
    assert done.err == (f"{tool}: cannot snapshot '{source}' to '{home.path}/ro': "
                        "Permission denied\n")
    assert os.listdir(home.path / "ro") == []
    done = sh(f"{tool} --source notes.md --dest-dir ro/below")
    assert done.rc == 1 and "Permission denied" in done.err
    sh("chmod 700 ro")


@both
def test_a_full_disk_leaves_nothing(sh, tool, home, out):
    """A file size limit stands for it: the write fails half-way."""
    (home.path / "f").write_bytes(random.Random(1).randbytes(3 << 20))
    done = sh(f"ulimit -f 1024; {tool} --source f --dest-dir out")
    assert (done.rc, done.out) == (1, "") and "File too large" in done.err
    assert os.listdir(out) == []


# -- several of them -----------------------------------------------------------------

@both
def test_paths_and_records_on_stdin(sh, tool, home, out):
    """Bare lines, records with path; a bad one stops no other; each file once."""
    for name in ("a.md", "b.md", "c.md"):
        (home.path / name).write_text(name)
    lines = [
        "a.md",
        "missing.md",
        json.dumps({"kind": "x", "path": str(home.path / "b.md")}),
        '{"kind":"end","count":3}',
        "{broken",
        "./a.md",
        '{"path":"no\\u0000name"}',
        '{"path":"\\ud83d"}',
        '{"path":null}',
        "",
        "c.md",
    ]
    done = sh(f"{tool} --dest-dir out", stdin="\n".join(lines).encode())
    assert done.rc == 1 and done.err.count("\n") == 4, done.err
    assert "missing.md" in done.err and "line 5" in done.err
    made = [record for record in done.records if record.get("kind") == "snapshot"]
    assert [os.path.basename(r["source"]) for r in made] == ["a.md", "b.md", "c.md"]
    assert {"kind": "end", "count": 3} in done.records
    assert {"path": None} in done.records
    assert len(names(out)) == 3


@both
def test_operands_are_sources(sh, tool, home):
    (home.path / "a.md").write_text("a")
    (home.path / "b.md").write_text("b")
    done = sh(f"{tool} a.md b.md --dest-dir out").ok()
    assert [os.path.basename(r["source"]) for r in done.records] == ["a.md", "b.md"]
    done = sh(f"{tool} a.md nowhere b.md --dest-dir out")
    assert done.rc == 2 and len(done.records) == 2


@both
def test_several_by_option(sh, tool, home):
    """None is dropped because another was named, too; each goes to its own place."""
    for folder in "ab":
        (home.path / f"{folder}.md").write_text(folder)
        (home.path / folder).mkdir()
    made = []
    for folder in "ab":
        line = f"{tool} --source a.md --source b.md --dest-dir {folder}"
        made += [record["path"] for record in sh(line).ok().records]
    first, _, _, last = made
    if tool == SESSION:
        done = sh(f"{tool} --restore {first} --restore {last}")
        paths = [record["path"] for record in done.records]
        assert paths == [f"{home.path}/a/a.md", f"{home.path}/b/b.md"]


def payload(path):
    """What a hook gets on stdin."""
    record = {
        "session_id": ID,
        "transcript_path": str(path),
        "cwd": "/",
        "hook_event_name": "SessionEnd",
        "reason": "exit",
    }
    return json.dumps(record).encode() + b"\n"


@pytest.fixture
def transcript(home):
    """A transcript with two memory files beside it, and files there that are none."""
    folder = home.claude / "projects/-w"
    (folder / "memory").mkdir(parents=True)
    for name in ("MEMORY.md", "b topic.md", ".hidden.md", "data.json", "x.md.swp"):
        (folder / "memory" / name).write_text(name)
    (folder / f"{ID}.jsonl").write_text("{}\n")
    return folder / f"{ID}.jsonl"


def test_a_hook_payload(sh, transcript, out):
    for path in (transcript, f"~/.claude/projects/-w/{ID}.jsonl"):
        done = sh(f"{JSONL} --dest-dir out", stdin=payload(path)).ok()
        assert done.records[0]["source"] == str(transcript)
    sh("rm -r out").ok()
    done = sh(f"{SESSION} --dest-dir out", stdin=payload(transcript)).ok()
    memory = ["MEMORY.md", "b topic.md"]
    assert [os.path.basename(r["source"]) for r in done.records] == memory
    assert [name.split("__")[1] for name in names(out)] == memory


@pytest.mark.parametrize("line", ["payload", "bare", "path", "tilde", "twice"])
def test_memory_never_the_transcript(sh, transcript, out, line):
    """However a pipe names the transcript, a tracked directory gets the memory."""
    ways = {
        "payload": payload(transcript),
        "bare": f"{transcript}\n".encode(),
        "path": json.dumps({"path": str(transcript)}).encode(),
        "tilde": payload(f"~/.claude/projects/-w/{ID}.jsonl"),
        "twice": payload(transcript) * 2,
    }
    done = sh(f"{SESSION} --dest-dir out", stdin=ways[line]).ok()
    assert len(done.records) == len(names(out)) == 2
    for name in names(out):
        assert ID not in name


def test_no_memory_is_nothing_to_do(sh, transcript, home):
    """Nor need the transcript be there yet."""
    shutil.rmtree(transcript.parent / "memory")
    assert sh(f"{SESSION} --dest-dir out", stdin=payload(transcript)).ok().out == ""
    transcript.unlink()
    assert sh(f"{SESSION} --dest-dir out", stdin=payload(transcript)).ok().out == ""
    (transcript.parent / "memory").mkdir(mode=0)
    done = sh(f"{SESSION} --dest-dir out", stdin=payload(transcript) + b"\n{}\n")
    assert done.rc == 1 and "Permission denied" in done.err and done.out == "{}\n"
    done = sh(f"{JSONL} --dest-dir out", stdin=payload(transcript))
    assert done.rc == 1 and "No such file" in done.err


def test_memory_of_two_projects(sh, transcript, home, out):
    """Two files of one name in one second and one run: none evicts the other."""
    shutil.copytree(transcript.parent, home.claude / "projects/-v")
    other = home.claude / "projects/-v" / transcript.name
    (other.parent / "memory/MEMORY.md").write_text("the other")
    stdin = payload(transcript) + payload(other)
    done = sh(f"{SESSION} --retain 1 --dest-dir out", stdin=stdin).ok()
    assert len({r["path"] for r in done.records}) == len(names(out)) == 4
    held = {content(out / name) for name in names(out) if "MEMORY" in name}
    assert held == {b"MEMORY.md", b"the other"}


# -- names and retention -------------------------------------------------------------

@both
def test_more_in_the_same_second(sh, tool, home, out):
    """.1, .2 ... .10 after .9, in the order in which they were made."""
    for number in range(13):
        (home.path / f"{number}").mkdir()
        (home.path / f"{number}/notes.md").write_text(f"version {number}")
    done = sh(f"{tool} --retain 0 --dest-dir out {{0..12}}/notes.md").ok()
    made = [os.path.basename(record["path"]) for record in done.records]

    def order(name):
        stamp, number = re.match(r"([0-9TZ]+)(?:\.([0-9]+))?__", name).groups()
        return stamp, int(number or 0)

    assert sorted(names(out), key=order) == made
    for number, name in enumerate(made):
        assert content(out / name).decode() == f"version {number}"
        if tool == JSONL:
            assert (out / (name[:-3] + ".sha256")).exists()
    assert len(made) == 13


def many(tool, out):
    """Snapshots of all the seconds that the next run may fall into."""
    now = datetime.datetime.now(datetime.timezone.utc)
    for seconds in range(20):
        at = now + datetime.timedelta(seconds=seconds)
        yield fake(tool, out, f"{at:%Y%m%dT%H%M%SZ}")


@both
@pytest.mark.parametrize("kind", ["file", "directory", "dangling link"])
def test_what_is_there_is_never_overwritten(sh, tool, source, out, home, kind):
    """Whatever it is that has the name already; nor is a sidecar that lost its .gz."""
    out.mkdir()
    for path in many(tool, out):
        path.unlink()
        if kind == "file" and tool == JSONL:
            continue  # the sidecar alone holds the name
        if kind == "directory":
            path.mkdir()
        elif kind == "file":
            path.write_bytes(b"foreign")
        else:
            path.symlink_to(home.path / "victim")
        if tool == JSONL:
            os.unlink(str(path)[:-3] + ".sha256")
    before = set(os.listdir(out))
    record = take(sh, tool, source, out)
    assert ".1__" in record["path"]
    assert content(out / os.path.basename(record["path"]))
    assert not (home.path / "victim").exists()
    new = set(os.listdir(out)) - before
    assert len(new) == (2 if tool == JSONL else 1)
    for name in new:
        assert ".1__" in name


@both
@pytest.mark.parametrize("retain, there, left", [
    ("", 2, 3),
    ("--retain 3", 2, 3),
    ("--retain 3", 3, 3),
    ("--retain 3", 9, 9),
    ("--retain 1", 1, 1),
    ("--retain 1", 4, 4),
    ("--retain 0", 9, 10),
    ("--retain 99", 9, 10),
    ("", 4, None),
    ("", 5, None),
])
@pytest.mark.few(10)
def test_retention(sh, tool, source, out, retain, there, left):
    """The single oldest goes, with its sidecar: one a run."""
    if left is None:
        keep = 3 if tool == JSONL else 5
        left = there + 1 if there < keep else there
    old = [fake(tool, out, OLD.format(n)) for n in range(there)]
    record = take(sh, tool, source, out, retain)
    gone = [str(old[0])] if left == there else []
    assert record["purged"] == gone
    expected = [path.name for path in old if str(path) not in gone]
    expected.append(os.path.basename(record["path"]))
    assert names(out) == expected and len(expected) == left
    if tool == JSONL:
        assert {n[:-7] for n in os.listdir(out) if n.endswith(".sha256")} == {
            n[:-3] for n in expected}


@both
@pytest.mark.few(1)
def test_the_oldest_by_number(sh, tool, source, out):
    root = OLD.format(1)
    old = [fake(tool, out, root + end) for end in ("", ".1", ".2", ".9", ".10", ".11")]
    for path in old:
        assert take(sh, tool, source, out, "--retain 2")["purged"] == [str(path)]


@both
def test_only_snapshots_of_this_source_count(sh, tool, source, out):
    """What has another name, or that of no snapshot, is neither counted nor deleted."""
    out.mkdir()
    end = ".gz" if tool == JSONL else ""
    fake(tool, out, OLD.format(1), base="other.md")
    fake(tool, out, OLD.format(1), base="my notes.md")
    fake(tool, out, OLD.format(1), base="notes.md.md")
    foreign = [
        f"20200101T000000Z_notes.md{end}",
        f"20200101T000000__notes.md{end}",
        f"99990101T000000z__notes.md{end}",
        f"20209901T000000Z__notes.md{end}",
        f"20200101T000000Z.x__notes.md{end}",
        f"20200101T000000Z.01__notes.md{end}",
        f"20200101T000000Z.0__notes.md{end}",
        f"x20200101T000000Z__notes.md{end}",
        f"20200101T000000Z__notes.md{end}~",
        f"notes.md{end}",
        "README",
        ".csb-tmp-x",
        "20200101T000000Z__",
    ]
    for name in foreign:
        (out / name).write_text("foreign")
    (out / f"20200101T000009Z__notes.md{end}").mkdir()
    (out / f"20200101T000008Z__notes.md{end}").symlink_to(source)
    before = {name: os.lstat(out / name).st_ino for name in os.listdir(out)}
    record = take(sh, tool, source, out, "--retain 1")
    assert record["purged"] == []
    old = fake(tool, out, OLD.format(1))
    assert take(sh, tool, source, out, "--retain 2")["purged"] == [str(old)]
    after = {name: os.lstat(out / name).st_ino for name in os.listdir(out)}
    assert {name: after.get(name) for name in before} == before


@both
def test_clock_set_back(sh, tool, source, out):
    """Snapshots from the future do not make the new one the oldest."""
    future = [fake(tool, out, f"2999010{n}T000000Z") for n in range(1, 4)]
    record = take(sh, tool, source, out, "--retain 3")
    assert record["purged"] == [str(future[0])]
    assert content(out / os.path.basename(record["path"])) == source.read_bytes()
    record = take(sh, tool, source, out, "--retain 1")
    assert os.path.exists(record["path"]) and record["path"] not in record["purged"]


@both
def test_one_a_run_of_each_name(sh, tool, home, out):
    """Also when a run brings several of one name, from several directories."""
    for folder in "abc":
        (home.path / folder).mkdir()
        (home.path / folder / "notes.md").write_text(folder)
    (home.path / "a/else.md").write_text("else")
    old = [fake(tool, out, OLD.format(n)) for n in range(5)]
    fake(tool, out, OLD.format(9), base="else.md")
    stdin = b"a/notes.md\nb/notes.md\na/else.md\nc/notes.md\n"
    done = sh(f"{tool} --retain 1 --dest-dir out", stdin=stdin).ok()
    assert [len(r["purged"]) for r in done.records] == [1, 0, 1, 0]
    assert done.records[0]["purged"] == [str(old[0])]
    assert all(os.path.exists(r["path"]) for r in done.records)
    done = sh(f"{tool} --retain 1 --dest-dir new {{a,b,c}}/notes.md").ok()
    assert len(names(home.path / "new")) == 3, "what a run made it does not delete"


@pytest.mark.parametrize("sidecars", [True, False])
def test_the_last_one_that_verifies_stays(sh, source, out, sidecars):
    """While another can go: a sound old snapshot outlives spoilt newer ones."""
    sound = fake(JSONL, out, OLD.format(0), sidecar=sidecars)
    first = fake(JSONL, out, OLD.format(1), sidecar=sidecars, spoil=True)
    second = fake(JSONL, out, OLD.format(2), sidecar=sidecars, spoil=True)
    for retain, gone in ((3, first), (1, second), (1, sound)):
        record = take(sh, JSONL, source, out, f"--retain {retain}")
        assert record["purged"] == [str(gone)]
        os.unlink(record["path"])


def test_a_spoilt_sidecar_does_not_verify(sh, source, out):
    old = [fake(JSONL, out, OLD.format(n)) for n in range(3)]
    for path in old[1:]:
        (out / (path.name[:-3] + ".sha256")).write_text("nonsense")
    assert take(sh, JSONL, source, out)["purged"] == [str(old[1])]


def test_a_snapshot_that_cannot_be_deleted(sh, source, out):
    """The new one stays and is told; the old one is named."""
    old = fake(JSONL, out, OLD.format(1), sidecar=False)
    (out / f"{OLD.format(1)}__notes.md.sha256").mkdir()
    done = sh(f"{JSONL} --retain 1 --source notes.md --dest-dir out")
    assert done.rc == 1 and done.err.startswith(f"{JSONL}: cannot delete '{out}/")
    assert done.records[0]["purged"] == [str(old)] and not old.exists()


@both
@pytest.mark.parametrize("there", [False, True])
def test_dry_run(sh, tool, source, out, repo, listing, there):
    """It says what it would write and delete, and touches nothing at all."""
    purged = []
    if there:
        purged = [str(fake(tool, out, OLD.format(0)))]
        fake(tool, out, OLD.format(1))
    before = listing(source.parent)
    record = take(sh, tool, source, out, "--dry-run --retain 2")
    assert record["dry_run"] is True
    assert record["size"] == source.stat().st_size
    assert record["purged"] == purged
    assert re.fullmatch(rf"{out}/{STAMP.pattern}__notes.md(\.gz)?", record["path"])
    assert "raw_sha256" not in record
    done = sh(f'{tool} --dry-run --source "$S"', S=str(source), cwd=repo).ok()
    assert done.records[0]["path"].startswith(f"{repo}/backup/sessions/")
    assert listing(source.parent) == before


@both
def test_a_dry_run_that_would_fail_says_so(sh, tool, source, home):
    old = fake(tool, home.path, OLD.format(1))
    for line in ("--source notes.md", f"--restore {old}"):
        done = sh(f"{tool} --dry-run {line} --dest-dir away/disk")
        assert (done.rc, done.out) == (1, "") and "No such file" in done.err


@both
def test_dry_run_of_several(sh, tool, home, out):
    """The names that it tells are all different, as the real ones would be."""
    for folder in "abc":
        (home.path / folder).mkdir()
        (home.path / folder / "notes.md").write_text(folder)
    done = sh(f"{tool} --dry-run --dest-dir out a/notes.md b/notes.md c/notes.md").ok()
    assert len({r["path"] for r in done.records}) == 3 and not out.exists()


# -- restore -------------------------------------------------------------------------

@both
def test_restore(sh, tool, source, out, tmp_path):
    path = take(sh, tool, source, out)["path"]
    done = back(sh, tool, path, tmp_path / "t")
    target = tmp_path / "t/notes.md"
    assert done.rc == 0
    assert target.read_bytes() == source.read_bytes()
    st = os.stat(target)
    assert stat.S_IMODE(st.st_mode) == 0o600
    assert stat.S_IMODE(os.stat(tmp_path / "t").st_mode) == 0o700
    assert os.listdir(tmp_path / "t") == ["notes.md"]

    written = datetime.datetime.fromtimestamp(int(st.st_mtime), datetime.timezone.utc)
    want = {
        "kind": "file",
        "path": str(target),
        "size": st.st_size,
        "mtime": f"{written:%FT%T}.{st.st_mtime_ns % 10**9:09d}Z",
        "mode": "0600",
        "result": "restored",
    }
    if tool == JSONL:
        want["source_match"] = "ok"
    assert done.records[0] == want

    lines = done.err.splitlines()
    if tool == SESSION:
        intact, = lines
        assert intact.startswith(INTACT)
    else:
        intact, match = lines
        assert intact == "archive integrity:   OK  (gunzip round-trip succeeded)"
        assert match.startswith(MATCH)


def test_default_target(sh, source, out, tmp_path):
    """The backup's own directory; /tmp for what was compressed."""
    path = take(sh, SESSION, source, out)["path"]
    assert sh(f'{SESSION} --restore "$P"', P=path, cwd="/").rc == 0
    assert (out / "notes.md").read_bytes() == source.read_bytes()
    name = f"csb-test-{os.getpid()}-{os.urandom(6).hex()}.jsonl"
    (tmp_path / name).write_text("x")
    path = take(sh, JSONL, tmp_path / name, out)["path"]
    try:
        done = sh(f'{JSONL} --restore "$P"', P=path)
        assert done.records[0]["path"] == f"/tmp/{name}"
        with open(f"/tmp/{name}") as file:
            assert file.read() == "x"
    finally:
        os.unlink(f"/tmp/{name}")


@both
def test_restore_onto_a_file(sh, tool, source, out, tmp_path):
    """The same bytes: kept. Others: refused, unless --force."""
    path = take(sh, tool, source, out)["path"]
    target = tmp_path / "t/notes.md"
    target.parent.mkdir()
    target.write_bytes(source.read_bytes())
    inode = target.stat().st_ino
    for more in ("", "--force"):
        done = back(sh, tool, path, tmp_path / "t", more)
        assert done.rc == 0 and done.records[0]["result"] == "kept"
        assert target.stat().st_ino == inode
    target.write_bytes(b"mine")
    done = back(sh, tool, path, tmp_path / "t")
    assert done.rc == 1 and done.records[0]["result"] == "refused"
    assert "--force" in done.records[0]["reason"]
    assert "--force" in done.err.splitlines()[-1]
    assert target.read_bytes() == b"mine"
    done = back(sh, tool, path, tmp_path / "t", "--force")
    assert done.rc == 0 and done.records[0]["result"] == "restored"
    assert target.read_bytes() == source.read_bytes()
    assert os.listdir(tmp_path / "t") == ["notes.md"]


@both
def test_restore_onto_a_link_or_a_directory(sh, tool, source, out, tmp_path):
    """A link is another file, even to the same bytes, and is never written through."""
    path = take(sh, tool, source, out)["path"]
    target = tmp_path / "t/notes.md"
    target.parent.mkdir()
    victim = tmp_path / "victim"

    def replaces_the_link():
        target.symlink_to(victim)
        assert back(sh, tool, path, target.parent).rc == 1
        assert back(sh, tool, path, target.parent, "--force").rc == 0
        assert not target.is_symlink()
        assert target.read_bytes() == source.read_bytes()
        target.unlink()

    for data in (source.read_bytes(), b"mine"):
        victim.write_bytes(data)
        replaces_the_link()
        assert victim.read_bytes() == data
    victim.unlink()
    replaces_the_link()
    assert not victim.exists()

    target.mkdir()
    for more in ("", "--force"):
        assert back(sh, tool, path, target.parent, more).rc == 1
        assert target.is_dir()
    assert os.listdir(tmp_path / "t") == ["notes.md"]


@pytest.mark.parametrize("tool, name", [
    (SESSION, "notes.md"),
    (SESSION, "20200101T000000Z_notes.md"),
    (SESSION, "20200101T000000Z__"),
    (SESSION, "T__x"),
    (SESSION, "20200101T000000Z__.."),
    (SESSION, "20200101T000000Z__."),
    (JSONL, "notes.md"),
    (JSONL, "20200101T000000Z__notes.md"),
    (JSONL, "20200101T000000Z__.."),
    (JSONL, "..gz"),
    (JSONL, "...gz"),
])
@pytest.mark.few(6)
def test_a_backup_must_say_what_it_was(sh, tool, home, tmp_path, name):
    """Nor may it say that it was .. or the directory itself."""
    (home.path / name).write_bytes(gzip.compress(b"x"))
    done = back(sh, tool, home.path / name, tmp_path / "t")
    assert (done.rc, done.out) == (1, "") and "is not named" in done.err
    assert not (tmp_path / "t").exists()


def test_a_gz_without_a_stamp_is_restored(sh, home, tmp_path):
    """Somebody renamed it, or made it with gzip: gunzip would give it back."""
    data = b'{"type":"user"}\n'
    (home.path / "talk.jsonl.gz").write_bytes(gzip.compress(data))
    done = back(sh, JSONL, home.path / "talk.jsonl.gz", tmp_path / "t")
    assert done.rc == 0 and LOST in done.err
    assert done.records[0]["source_match"] == "unverifiable"
    assert (tmp_path / "t/talk.jsonl").read_bytes() == data

    (home.path / "talk.jsonl.sha256").write_text(
        f"raw_sha256:   {sha(data)}  talk.jsonl (16 bytes)\n")
    done = back(sh, JSONL, home.path / "talk.jsonl.gz", tmp_path / "t")
    assert done.rc == 0 and done.records[0]["source_match"] == "ok"


def test_what_cannot_be_verified_is_said_in_the_words_of_the_contract(
        sh, home, tmp_path):
    contract = os.path.join(SHARED, "contract", "jsonl_snapshot.txt")
    if not os.path.exists(contract):
        pytest.skip(f"the contract is not at {contract}")
    with open(contract, encoding="utf-8") as file:
        text = file.read()
    start = text.index("archive integrity:   OK")
    end = text.index("matters.\n", start) + len("matters.\n")
    (home.path / "talk.jsonl.gz").write_bytes(gzip.compress(b"x"))
    done = back(sh, JSONL, home.path / "talk.jsonl.gz", tmp_path / "t")
    assert done.err == text[start:end]


def test_a_wrong_sidecar_is_named_with_the_way_around_it(sh, home, tmp_path):
    (home.path / "talk.jsonl.gz").write_bytes(gzip.compress(b"x"))
    sidecar = home.path / "talk.jsonl.sha256"
    sidecar.write_text("raw_sha256: damaged\n")
    done = back(sh, JSONL, home.path / "talk.jsonl.gz", tmp_path / "t")
    assert done.rc == 1 and f"move '{sidecar}' away" in done.err
    sidecar.rename(home.path / "elsewhere")
    done = back(sh, JSONL, home.path / "talk.jsonl.gz", tmp_path / "t")
    assert done.rc == 0 and (tmp_path / "t/talk.jsonl").read_bytes() == b"x"


@both
def test_dry_run_of_a_restore(sh, tool, source, out, home, listing):
    path = take(sh, tool, source, out)["path"]
    before = listing(home.path)
    done = back(sh, tool, path, home.path / "t", "--dry-run")
    want = {
        "kind": "file",
        "path": f"{home.path}/t/notes.md",
        "dry_run": True,
        "result": "restored",
    }
    if tool == JSONL:
        want["source_match"] = "ok"
    assert done.rc == 0
    assert done.records == [want]
    assert listing(home.path) == before


@pytest.mark.parametrize("force", ["", "--force"])
def test_without_its_sidecar(sh, source, out, tmp_path, force):
    path = take(sh, JSONL, source, out)["path"]
    os.unlink(path[:-3] + ".sha256")
    done = back(sh, JSONL, path, tmp_path / "t", force)
    assert done.rc == 0 and done.records[0]["source_match"] == "unverifiable"
    assert done.err.startswith(INTACT) and LOST in done.err
    assert len(done.err.splitlines()) > 3, "what it means is told"
    assert (tmp_path / "t/notes.md").read_bytes() == source.read_bytes()


SPOILT = {
    "other digest": lambda text: text.replace("raw_sha256:   ", "raw_sha256:   0", 1),
    "empty": lambda text: "",
    "nonsense": lambda text: "\0\1\2",
    "sha256sum": lambda text: text.split()[1] + "  notes.md\n",
    "short": lambda text: text[:40],
    "twice": lambda text: text + "raw_sha256:   " + "0" * 64 + "  x (1 bytes)\n",
    "without raw": lambda text: text.split("\n", 1)[1],
    "swapped": lambda text: text.replace("raw_", "tmp_").replace("gz_", "raw_"),
}


@pytest.mark.parametrize("how", [*SPOILT, "directory", "fifo", "unreadable", "loop"])
@pytest.mark.few(6)
def test_a_sidecar_that_differs(sh, out, tmp_path, how):
    """Or that cannot be read: nothing is put in place, not even over a file."""
    path = fake(JSONL, out, OLD.format(1))
    sidecar = out / f"{OLD.format(1)}__notes.md.sha256"
    if how in SPOILT:
        sidecar.write_text(SPOILT[how](sidecar.read_text()))
    elif how == "unreadable":
        sidecar.chmod(0)
    else:
        sidecar.unlink()
        if how == "directory":
            sidecar.mkdir()
        elif how == "fifo":
            os.mkfifo(sidecar)
        else:
            sidecar.symlink_to(sidecar)
    done = back(sh, JSONL, path, tmp_path / "t")
    assert done.rc == 1 and INTACT in done.err and OTHER in done.err
    assert [r["result"] for r in done.records] == ["refused"]
    assert "source_match" not in done.records[0]
    assert done.err.splitlines()[-1].startswith(f"{JSONL}: cannot restore '{path}' to ")
    assert not (tmp_path / "t").exists()
    (tmp_path / "t").mkdir()
    (tmp_path / "t/notes.md").write_bytes(b"mine")
    assert back(sh, JSONL, path, tmp_path / "t", "--force").rc == 1
    assert (tmp_path / "t/notes.md").read_bytes() == b"mine"


def flipped(data, at, bits):
    """data with these bits of one byte turned over."""
    copy = bytearray(data)
    copy[at] ^= bits
    return bytes(copy)


DAMAGE = {
    "garbage": lambda d: d + b"garbage",
    "one byte": lambda d: d + b"\n",
    "zeros": lambda d: d + b"\0" * 8,
    "two members": lambda d: d + gzip.compress(b"more"),
    "empty member": lambda d: d + gzip.compress(b""),
    "twice": lambda d: d + d,
    "empty": lambda d: b"",
    "header": lambda d: d[:10],
    "no trailer": lambda d: d[:-8],
    "half a trailer": lambda d: d[:-4],
    "last byte": lambda d: d[:-1],
    "half": lambda d: d[:len(d) // 2],
    "crc": lambda d: flipped(d, -8, 1),
    "size": lambda d: flipped(d, -1, 1),
    "a bit": lambda d: flipped(d, len(d) // 2, 16),
    "plain": lambda d: b"not gzip at all",
    "first byte": lambda d: b"x" + d[1:],
}


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.few(9)
def test_a_damaged_archive(sh, out, tmp_path, how):
    """With a sidecar or without: refused, nothing left behind."""
    path = fake(JSONL, out, OLD.format(1), b"some text\n" * 500, sidecar=len(how) % 2)
    path.write_bytes(DAMAGE[how](path.read_bytes()))
    done = back(sh, JSONL, path, tmp_path / "t")
    assert done.rc == 1
    assert done.err.startswith(BROKEN)
    assert "source-match" not in done.err
    assert done.records[0]["result"] == "refused"
    assert done.records[0]["reason"] in done.err
    assert done.err.splitlines()[-1].startswith(f"{JSONL}: cannot restore '{path}' to ")
    assert not (tmp_path / "t").exists()


@pytest.mark.parametrize("size", [(1 << 20) - 400, (2 << 20) - 400])
@pytest.mark.parametrize("more", [b"x", gzip.compress(b"second", mtime=0)])
def test_what_follows_a_member_at_a_block_s_end(sh, home, tmp_path, size, more):
    """The member ends where the reader's block does."""
    raw = random.Random(size).randbytes(size)
    data = gzip.compress(raw, 0)
    while len(data) % (1 << 20) != 0:
        raw += b"x"
        data = gzip.compress(raw, 0)
        assert len(raw) < size + 2000
    path = home.path / f"{OLD.format(1)}__x.gz"
    path.write_bytes(data)
    assert back(sh, JSONL, path, tmp_path / "good").rc == 0
    assert (tmp_path / "good/x").read_bytes() == raw
    path.write_bytes(data + more)
    assert back(sh, JSONL, path, tmp_path / "t").rc == 1


@pytest.mark.parametrize(
    "command", ["gzip -1", "gzip -9", "gzip -n", "gzip --rsyncable"])
@pytest.mark.few(2)
def test_what_gzip_itself_made(sh, source, out, tmp_path, command):
    """A .gz of another program is as good, also one that unpacks to much more."""
    data = source.read_bytes()
    if command == "gzip -9":
        data = b"\0" * 50_000_000
    out.mkdir()
    (out / "x").write_bytes(data)
    path = out / f"{OLD.format(1)}__x.gz"
    sh(f'{command} <out/x >"$P"', P=str(path)).ok()
    assert back(sh, JSONL, path, tmp_path / "t").rc == 0
    sh("cmp out/x ../t/x").ok()


def test_a_moved_pair_is_restored(sh, source, out, tmp_path):
    """On other storage, under another root."""
    path = take(sh, JSONL, source, out)["path"]
    (tmp_path / "disk").mkdir()
    new = tmp_path / "disk/20210101T000000Z.7__renamed"
    shutil.move(path, f"{new}.gz")
    shutil.move(path[:-3] + ".sha256", f"{new}.sha256")
    done = back(sh, JSONL, f"{new}.gz", tmp_path / "t")
    assert done.rc == 0 and done.records[0]["source_match"] == "ok"
    assert (tmp_path / "t/renamed").read_bytes() == source.read_bytes()


@both
def test_restore_where_nothing_can_be_written(sh, tool, source, out, home):
    path = take(sh, tool, source, out)["path"]
    sh("mkdir ro && chmod 500 ro").ok()
    for target, reason in (
        ("ro", "Permission denied"),
        ("no/such", "No such file or directory"),
        ("notes.md", "Not a directory"),
    ):
        done = back(sh, tool, path, home.path / target)
        assert (done.rc, done.out) == (1, "") and done.err.endswith(f"{reason}\n")
    assert os.listdir(home.path / "ro") == [] and not (home.path / "no").exists()


# -- as modules, as printed ----------------------------------------------------------

@both
@pytest.mark.parametrize("optimized", [None, "2"])
def test_as_a_module(sh, tool, source, out, home, optimized):
    """python -m, with lib/ on the path; the exit status comes through."""
    lib = {"PYTHONPATH": os.path.join(ROOT, "lib"), "PYTHONOPTIMIZE": optimized}
    done = sh(f"python3 -m {tool} --source notes.md --dest-dir out", **lib).ok()
    assert content(out / names(out)[0]) == source.read_bytes()
    assert done.records[0]["kind"] == "snapshot"
    assert sh(f"python3 -m {tool} --help", **lib).rc == 0
    for line, rc in (
        ("--wrong", 2),
        ("--source missing", 2),
        ("--source notes.md", 3),
        ("--restore notes.md", 1),
        ("x --retain -1", 2),
    ):
        done = sh(f"python3 -m {tool} {line}", **lib)
        assert done.rc == rc
        assert done.err.startswith(f"{tool}: ")
    assert sh(f"cd / && python3 -c 'import {tool}'", **lib).ok().out == ""


def printed():
    """The command lines of the published document."""
    path = os.path.join(SHARED, "contract", "jsonl_snapshot.txt")
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as file:
        text = file.read().replace(" \\\n", " ")
    commands = r"^(?:(?:python -m )?jsonl_snapshot|gunzip|sha256sum) .*"
    found = re.findall(commands, text, re.M)
    return [line for line in found if "[--source" not in line]


@pytest.fixture
def published(sh, repo, home, tmp_path):
    """A repository with a snapshot of a session, and a function that fills in a line.
    """
    path = home.claude / "projects/-w" / f"{ID}.jsonl"
    path.parent.mkdir(parents=True)
    path.write_bytes(b'{"type":"user"}\n' * 1000)
    shot = sh(f'{JSONL} --source "$S"', S=str(path), cwd=repo).ok().records[0]["path"]

    def fill(line):
        line = line.replace("/tmp/", f"{tmp_path}/").replace("<uuid>", ID)
        line = line.replace("~/.claude/projects/.../c84f8b1c-....jsonl", str(path))
        line = re.sub(r"\S*20260414T173000Z__\S+?\.jsonl\.gz|<backup\.gz>", shot, line)
        line = line.replace("<file>", str(path))
        line = line.replace("/Volumes/External", str(tmp_path))
        return line.replace("python ", "python3 ")

    return fill, path, shot


@pytest.mark.skipif(not printed(), reason="the published document is not there")
@pytest.mark.parametrize("line", printed() or [""])
def test_printed_lines(sh, published, repo, tmp_path, line):
    """Each command line of the document, typed as printed, does what it says."""
    fill, path, shot = published
    if line.startswith("sha"):
        (tmp_path / f"{ID}.jsonl").write_bytes(path.read_bytes())
    count = len(os.listdir(repo / "backup/sessions/raw"))
    done = sh(fill(line), cwd=repo, PYTHONPATH=os.path.join(ROOT, "lib"))
    try:
        assert done.rc == 0, done
        grown = len(os.listdir(repo / "backup/sessions/raw")) - count
        if "--restore" in line:
            target = done.records[0]["path"]
            assert target.endswith(f"/{ID}.jsonl")
            with open(target, "rb") as file:
                assert file.read() == path.read_bytes()
            assert INTACT in done.err and MATCH in done.err
            folder = f"{tmp_path}/recovery" if "--target-dir" in line else "/tmp"
            assert os.path.dirname(target) == folder
        elif "--source" in line:
            assert grown == (0 if "--dry-run" in line else 2) and done.err == ""
            assert done.records[0].get("dry_run", False) == ("--dry-run" in line)
        elif line.startswith("gunzip"):
            assert (tmp_path / f"{ID}.jsonl").read_bytes() == path.read_bytes()
        else:
            with open(shot[:-3] + ".sha256") as file:
                assert done.out.split()[0] in file.readline()
    finally:
        if os.path.exists(f"/tmp/{ID}.jsonl"):
            os.unlink(f"/tmp/{ID}.jsonl")


@pytest.mark.long
@pytest.mark.skipif(
    not os.path.isdir(os.path.join(SHARED, "data")), reason="no real transcripts")
def test_real_transcripts(sh, real, out, tmp_path):
    """What users' files really hold comes back byte for byte."""
    paths = []
    for folder in real.claude:
        paths += sorted(folder.rglob("*.jsonl"))
    del paths[40:]
    stdin = b"".join(os.fsencode(str(path)) + b"\n" for path in paths)
    done = sh(f"{JSONL} --retain 0 --dest-dir out", stdin=stdin).ok()
    assert len(done.records) == len(paths)
    for record, path in zip(done.records, paths, strict=True):
        assert content(out / os.path.basename(record["path"])) == path.read_bytes()


@both
def test_what_a_killed_run_left_is_swept_after_a_day(sh, tool, source, out):
    """A killed run leaves its half copy; a later one removes it, if nobody writes it.
    """
    out.mkdir()
    swept = out / ".csb-tmp-4194305-00ff"
    of_one_that_runs = out / f".csb-tmp-{os.getpid()}-00ff"
    young = out / ".csb-tmp-4194305-00fe"
    for path, age in ((swept, 90000), (of_one_that_runs, 90000), (young, 10)):
        path.write_bytes(b"half")
        at = time.time() - age
        os.utime(path, (at, at))
    sh(f"{tool} {source} --dest-dir {out}").ok()
    assert not swept.exists()
    assert of_one_that_runs.exists()
    assert young.exists()
