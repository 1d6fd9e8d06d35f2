"""csb.seen: of which ref and commit it is, read cheaply;
of another version it is made anew"""
import os
import sys

import pytest
from conftest import ROOT, backup

sys.path.insert(0, f"{ROOT}/lib")

from csb.seen import NO_HEAD, SEEN, read_head, read_seen, write_seen

pytestmark = pytest.mark.logic

REF = "refs/heads/main"
LINES = {"a b": b"- 40755 0 1 2 3", "c\nd": b"- 40755 0 4 5 6"}


@pytest.mark.parametrize("commit", ["1" * 40, ""])
@pytest.mark.parametrize("ref", [REF, "refs/csb/main", "refs/\udcff"])
def test_what_was_written_is_read(tmp_path, ref, commit):
    write_seen(tmp_path, ref, commit, LINES)
    head, entries = read_seen(tmp_path)
    assert (head.ref, head.commit, entries) == (ref, commit, LINES)
    assert read_head(tmp_path) == head
    write_seen(tmp_path, ref, commit, {})
    assert read_head(tmp_path).checksum != head.checksum


def test_the_head_is_read_without_the_rest(tmp_path):
    write_seen(tmp_path, REF, "1" * 40, LINES)
    head = read_head(tmp_path)
    path = tmp_path / SEEN
    text = path.read_bytes()
    path.write_bytes(text.replace(b" 1 2 3 ", b" 1 2 4 "))
    assert read_head(tmp_path) == head
    assert read_seen(tmp_path) == (NO_HEAD, {}), "the checksum is wrong"
    with open(path, "r+b") as file:
        file.seek(100)
        file.write(b"\0" * (1 << 20))
        file.truncate(1 << 40)
        file.seek(0, os.SEEK_END)
        file.write(b"end 5")
    assert read_head(tmp_path) == head._replace(checksum="5")


@pytest.mark.parametrize("text", [
    b"", b"end 0", b"csb.seen 2 x", b"csb.seen 1 1111\0end 3064107263",
    b"csb.seen 3 refs/heads/main 1111\0end 1", b"\0end 1", b"csb.seen 2\0end 1"])
def test_what_is_none(tmp_path, text):
    (tmp_path / SEEN).write_bytes(text)
    assert read_head(tmp_path) == NO_HEAD
    assert read_seen(tmp_path) == (NO_HEAD, {})
    assert read_head(tmp_path / "nowhere") == NO_HEAD


@pytest.mark.parametrize("ref, git_dir", [(REF, ""), ("refs/csb/main", ".claude/.git")])
def test_it_names_the_ref_that_it_is_of(sh, home, put, ref, git_dir):
    put("projects/-p/a")
    if git_dir:
        sh("git init -q .claude").ok()
    store = home.path / git_dir if git_dir else home.backup / "git"
    made = [r for r in backup(sh) if r["kind"] == "commit"]
    head = read_head(store)
    assert (head.ref, head.commit) == (ref, made[-1]["commit"])


def test_one_of_another_version_is_made_anew(sh, home, put):
    put("projects/-p/a")
    backup(sh)
    store = home.backup / "git"
    commit = read_head(store).commit
    (store / SEEN).write_bytes(f"csb.seen 1 {commit}\0end 5".encode())
    assert {r["change"] for r in sh("csb-changes").ok().records} == {"recheck"}
    assert backup(sh) == []
    assert read_head(store).commit == commit


def test_a_ref_that_vanished_is_no_new_history(sh, home, put):
    put("projects/-p/a")
    backup(sh)
    commit = read_head(home.backup / "git").commit
    sh(f"git --git-dir={home.backup}/git update-ref -d {REF}").ok()
    done = sh("csb-changes | csb-gitcommit")
    assert (done.rc, done.out, done.err.count("\n")) == (1, "", 1)
    assert f"update-ref {REF} {commit} brings it back" in done.err
    sh(f"git --git-dir={home.backup}/git update-ref {REF} {commit}").ok()
    assert backup(sh) == []
