"""What a run proves before it says that it is done; old formats stay readable"""
import gzip
import hashlib
import json
import os
import random
import shutil
import stat
import subprocess

import faults
import pytest
from conftest import blob

pytestmark = pytest.mark.logic

ID = "11111111-2222-4333-8444-555555555555"
MAIN = f"projects/-p/{ID}.jsonl"
LINE = b'{"type":"user","uuid":"u%d","message":{"content":"word %d"}}\n'


@pytest.fixture
def other_git(home):
    """other_git(text): make this script what is found as git; the PATH that does so."""
    def make(text):
        fake = home.path / "fake"
        fake.mkdir()
        (fake / "git").write_text(text.replace("{git}", shutil.which("git")))
        (fake / "git").chmod(0o755)
        return f"{fake}:{home.env['PATH']}"
    return make


# A git that loses an object at the last moment: when it is asked whether all is there.
FORGETS = """#!/bin/sh
case " $* " in *" rev-list "*)
    find ~/.claude-backup/git/objects -type f -size +900k -delete
esac
exec {git} "$@"
"""


def test_an_object_lost_before_the_ref_moves_is_no_backup(sh, put, other_git):
    """All objects of the new commits must be there before the ref names them."""
    def tip():
        return sh("git --git-dir ~/.claude-backup/git rev-parse main").ok().out

    put(MAIN, LINE % (0, 0))
    sh("csb-backup").ok()
    old = tip()
    put("projects/-p/big.jsonl", random.randbytes(3 << 20))
    done = sh("csb-changes | csb-gitcommit", PATH=other_git(FORGETS))
    assert (done.rc, done.out) == (1, "")
    assert "cannot prove the backup: the store lost 1 objects" in done.err
    assert tip() == old
    sh("csb-backup").ok()
    assert sh("csb-verify --deep").ok()


# A git whose first pack is not what it was when it is read back.
SPOILS = """#!/bin/sh
{git} "$@" || exit
case " $* " in *" fast-import "*)
    [ ! -e ~/spoilt ] || exit 0
    for idx in ~/.claude-backup/git/objects/pack/*.idx; do
        {git} show-index <$idx | grep -q $(cat ~/oid) || {
            chmod u+w ${idx%.idx}.pack
            printf rot | dd of=${idx%.idx}.pack bs=1 seek=40 conv=notrunc 2>~/spoilt
        }
    done
esac
"""


def test_trees_that_do_not_read_back_are_written_again(sh, home, put, other_git):
    """Those of many files are one pack of git's, proven before the ref moves."""
    for number in range(30):
        put(f"todos/{number}/file", "the same")
    (home.path / "oid").write_text(blob(b"the same"))
    sh("csb-changes | csb-gitcommit", PATH=other_git(SPOILS)).ok()
    assert "3 bytes" in (home.path / "spoilt").read_text()
    sh("git --git-dir=$CSB_HOME/git fsck --full --strict").ok()


def test_a_disk_that_does_not_keep_what_it_was_given(sh, home, put, tools, tmp_path):
    """A write that is acknowledged and lost is found: what is there is hashed again."""
    reason = faults.missing(tmp_path)
    if reason:
        pytest.skip(reason)
    data = b"".join(LINE % (number, number) for number in range(1234))
    path = put(MAIN, data)
    sh("csb-backup").ok()
    path.unlink()

    def restored(target, *inject):
        restore = [tools.python, "-IB", f"{tools.bin}/csb-restore", ID]
        trace = ["strace", "-qq", "-o", "log", "-e", "trace=write", *inject]
        return subprocess.run(
            [*trace, *restore, "--target-dir", target], env=home.env, cwd=home.path,
            capture_output=True, timeout=60)

    assert restored("good").returncode == 0
    calls = (home.path / "log").read_text().splitlines()
    writes = [call for call in calls if call.startswith("write(")]
    [whole] = [number for number, call in enumerate(writes, 1)
               if f" {len(data)}) = " in call]
    done = restored("bad", "-e", f"inject=write:retval={len(data)}:when={whole}")
    assert done.returncode == 1
    assert b"what was written reads back differently" in done.stderr
    assert not [path for path in (home.path / "bad").rglob("*") if path.is_file()]


# A store as version 0.1.0 writes it: the journal of a commit, field by field.
STORE = f"""blob
mark :1
data 25
{{"type":"user","n":1}}\r
\x00

blob
mark :2
data 8
../other
blob
mark :3
data %d
%s
commit refs/heads/main
mark :4
committer csb <csb> 1767323045 +0000
data 24
noise: 3 new (33 bytes)
M 100644 :1 {MAIN}
M 120000 :2 "projects/-p/{ID}/a \\"link\\""
M 100644 :3 .csb/changes.jsonl

"""
TEXT = b'{"type":"user","n":1}\r\n\0\n'
NEW = {"kind": "change", "class": "noise", "change": "new"}
JOURNAL = [
    {**NEW, "path": MAIN, "size": 25, "mode": "0640", "oid": blob(TEXT),
     "mtime": "2099-01-02T03:04:05.123456789Z"},
    {**NEW, "path": f'projects/-p/{ID}/a "link"', "size": 8, "mode": "0777",
     "mtime": "2099-01-02T03:04:05.000000001Z", "link": "../other",
     "oid": blob(b"../other")},
    {**NEW, "path": f"projects/-p/{ID}/empty/", "size": 0, "mode": "0710", "oid": "-",
     "mtime": "2099-01-02T03:04:05.000000002Z"}]


def test_a_store_of_version_0_1_0_is_restored(sh, home):
    """What an earlier version has stored comes back: bytes, modes, times, links, empty
    folders."""
    def mode_and_time(path):
        st = os.lstat(path)
        return stat.S_IMODE(st.st_mode), st.st_mtime_ns % 10**9

    encoder = json.JSONEncoder(separators=(",", ":"))
    text = "".join(encoder.encode(record) + "\n" for record in JOURNAL)
    stream = STORE % (len(text), text)
    sh("git init -q --bare old").ok()
    sh("git --git-dir old fast-import --quiet", stream.encode()).ok()
    sh(f"csb-restore --git-dir old {ID}").ok()

    main = home.claude / MAIN
    link = main.with_suffix("") / 'a "link"'
    assert main.read_bytes() == TEXT
    assert os.readlink(link) == "../other"
    assert mode_and_time(main) == (0o640, 123456789)
    assert mode_and_time(link) == (0o777, 1)
    assert mode_and_time(link.with_name("empty")) == (0o710, 2)
    assert len(sh("csb-verify --git-dir old").ok().records) == 2


SHOT = "20260102T030405Z.2__a b.jsonl"
SIDECAR = """\
raw_sha256:   {raw}  a b.jsonl (18 bytes)
gz_sha256:    {packed}  {shot}.gz ({size} bytes)
snapshot_at:  20260102T030405Z
source_path:  /home/u/a b.jsonl
"""


def test_snapshots_of_version_0_1_0_are_restored(sh, home):
    """The names and the sidecar as they were: what is told of them is, too."""
    data = b"a\n" * 9
    packed = gzip.compress(data)
    shots = home.path / "shots"
    shots.mkdir()
    (shots / f"{SHOT}.gz").write_bytes(packed)
    (shots / f"{SHOT}.sha256").write_text(SIDECAR.format(
        raw=hashlib.sha256(data).hexdigest(), shot=SHOT, size=len(packed),
        packed=hashlib.sha256(packed).hexdigest()))
    done = sh(f"jsonl_snapshot --restore 'shots/{SHOT}.gz' --target-dir out")
    assert done.rc == 0 and "source-match:        OK" in done.err
    assert (home.path / "out/a b.jsonl").read_bytes() == data

    memory = "20260102T030405Z__MEMORY.md"
    (shots / memory).write_bytes(data)
    assert sh(f"session_snapshot --restore shots/{memory} --target-dir out").rc == 0
    assert (home.path / "out/MEMORY.md").read_bytes() == data
