"""What a run proves before it says that it is done; old stores and snapshots stay readable"""
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
from conftest import put_into

pytestmark = pytest.mark.logic

ID = "11111111-2222-4333-8444-555555555555"
MAIN = f"projects/-p/{ID}.jsonl"
LINE = b'{"type":"user","uuid":"u%d","message":{"content":"word %d"}}\n'
# A git that loses an object at the last moment: when it is asked whether all is there.
FORGETS = """#!/bin/sh
case " $* " in *" rev-list "*) find ~/.claude-backup/git/objects -type f -size +900k -delete;; esac
exec {git} "$@"
"""


def test_an_object_lost_before_the_ref_moves_is_no_backup(sh, home):
    """All objects of the new commits must be there before the ref names them: status 1, old ref."""
    (home.claude / "projects/-p").mkdir(parents=True)
    (home.claude / MAIN).write_bytes(LINE % (0, 0))
    sh("csb-backup").ok()
    old = sh("git --git-dir ~/.claude-backup/git rev-parse main").ok().out
    (home.claude / "projects/-p/big.jsonl").write_bytes(random.randbytes(3 << 20))
    (home.path / "fake").mkdir()
    (home.path / "fake/git").write_text(FORGETS.replace("{git}", shutil.which("git")))
    (home.path / "fake/git").chmod(0o755)
    done = sh("csb-changes | csb-gitcommit", PATH=f"{home.path}/fake:{home.env['PATH']}")
    assert (done.rc, done.out) == (1, "")
    assert "cannot prove the backup: the store lost 1 objects" in done.err
    assert sh("git --git-dir ~/.claude-backup/git rev-parse main").ok().out == old
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


def test_trees_that_do_not_read_back_are_written_again(sh, home):
    """Those of many files are one pack of git's, which is proven before the ref moves."""
    for number in range(30):
        put_into(home, f"todos/{number}/file", "the same")
    sh("git hash-object todos/1/file >~/oid", cwd=home.claude).ok()
    (home.path / "fake").mkdir()
    (home.path / "fake/git").write_text(SPOILS.replace("{git}", shutil.which("git")))
    (home.path / "fake/git").chmod(0o755)
    sh("csb-changes | csb-gitcommit", PATH=f"{home.path}/fake:{home.env['PATH']}").ok()
    assert "3 bytes" in (home.path / "spoilt").read_text()
    sh("git --git-dir=$CSB_HOME/git fsck --full --strict").ok()


def test_a_disk_that_does_not_keep_what_it_was_given(sh, home, tools, tmp_path):
    """A write that is acknowledged and lost is found: what came back is hashed once more."""
    if reason := faults.missing(tmp_path):
        pytest.skip(reason)
    data = b"".join(LINE % (n, n) for n in range(1234))
    (home.claude / "projects/-p").mkdir(parents=True)
    (home.claude / MAIN).write_bytes(data)
    sh("csb-backup").ok()
    (home.claude / MAIN).unlink()

    def restored(target, *inject):
        words = ["strace", "-qq", "-o", home.path / "log", "-e", "trace=write", *inject,
                 tools.python, "-IB", f"{tools.bin}/csb-restore", ID, "--target-dir", target]
        return subprocess.run(words, env=home.env, capture_output=True, timeout=60,
                              cwd=home.path)

    assert restored("good").returncode == 0
    writes = (home.path / "log").read_text().splitlines()
    writes = [call for call in writes if call.startswith("write(")]
    mine = [number for number, call in enumerate(writes, 1) if f" {len(data)}) = " in call]
    assert len(mine) == 1, "the file is not written at once"
    lost = ["-e", f"inject=write:retval={len(data)}:when={mine[0]}"]
    done = restored("bad", *lost)
    assert done.returncode == 1 and b"what was written reads back differently" in done.stderr
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
JOURNAL = [
    {"kind": "change", "path": MAIN, "class": "noise", "change": "new", "size": 25,
     "mtime": "2099-01-02T03:04:05.123456789Z", "mode": "0640",
     "oid": hashlib.sha1(b'blob 25\0{"type":"user","n":1}\r\n\0\n').hexdigest()},
    {"kind": "change", "path": f'projects/-p/{ID}/a "link"', "class": "noise", "change": "new",
     "size": 8, "mtime": "2099-01-02T03:04:05.000000001Z", "mode": "0777", "link": "../other",
     "oid": hashlib.sha1(b"blob 8\0../other").hexdigest()},
    {"kind": "change", "path": f"projects/-p/{ID}/empty/", "class": "noise", "change": "new",
     "size": 0, "mtime": "2099-01-02T03:04:05.000000002Z", "mode": "0710", "oid": "-"}]


def test_a_store_of_version_0_1_0_is_restored(sh, home):
    """What an earlier version has stored comes back: bytes, modes, times, links, empty folders."""
    text = "".join(json.dumps(record, separators=(",", ":")) + "\n" for record in JOURNAL)
    stream = (STORE % (len(text), text)).encode()
    sh("git init -q --bare old").ok()
    sh("git --git-dir old fast-import --quiet", stream).ok()
    sh(f"csb-restore --git-dir old {ID}").ok()
    top = home.claude / "projects/-p"
    main, link, empty = top / f"{ID}.jsonl", top / ID / 'a "link"', top / ID / "empty"
    assert main.read_bytes() == b'{"type":"user","n":1}\r\n\0\n'
    assert os.readlink(link) == "../other"
    found = [(stat.S_IMODE(os.lstat(path).st_mode), os.lstat(path).st_mtime_ns % 10**9)
             for path in (main, link, empty)]
    assert found == [(0o640, 123456789), (0o777, 1), (0o710, 2)]
    assert len(sh("csb-verify --git-dir old").ok().records) == 2


def test_snapshots_of_version_0_1_0_are_restored(sh, home):
    """The names and the sidecar as they were: integrity and source-match are still told."""
    data, packed = b"a\n" * 9, gzip.compress(b"a\n" * 9)
    digest = [hashlib.sha256(one).hexdigest() for one in (data, packed)]
    (home.path / "shots").mkdir()
    (home.path / "shots/20260102T030405Z.2__a b.jsonl.gz").write_bytes(packed)
    (home.path / "shots/20260102T030405Z.2__a b.jsonl.sha256").write_text(
        f"raw_sha256:   {digest[0]}  a b.jsonl ({len(data)} bytes)\n"
        f"gz_sha256:    {digest[1]}  20260102T030405Z.2__a b.jsonl.gz ({len(packed)} bytes)\n"
        "snapshot_at:  20260102T030405Z\nsource_path:  /home/u/a b.jsonl\n")
    (home.path / "shots/20260102T030405Z__MEMORY.md").write_bytes(data)
    done = sh("jsonl_snapshot --restore 'shots/20260102T030405Z.2__a b.jsonl.gz' --target-dir out")
    assert done.rc == 0 and "source-match:        OK" in done.err
    assert (home.path / "out/a b.jsonl").read_bytes() == data
    done = sh("session_snapshot --restore shots/20260102T030405Z__MEMORY.md --target-dir out")
    assert done.rc == 0
    assert (home.path / "out/MEMORY.md").read_bytes() == data
