"""Stores that the first design wrote (first_design.py) are verified,
restored from, extended"""
import hashlib
import json
import os
import random
import shutil
import subprocess
import tarfile

import pytest
from conftest import held
from first_design import GONE, LARGE, OUT, SMALL, on_disk

pytestmark = pytest.mark.logic

REFUSED = {"debug/log.txt", "shell-snapshots/one.sh"}      # by today's rules
REFS = {"own": "main", "moved": "main", "theirs": "refs/csb/main"}
LINE = "csb-changes | csb-gitcommit"


def sha256(data):
    return hashlib.sha256(data).hexdigest()


class Old:
    """A home with a store that the first design wrote,
    and what is known of its files."""

    def __init__(self, sh, home, case):
        self.sh, self.home, self.case, self.ref = sh, home, case, REFS[case]
        home.claude.rmdir()
        with tarfile.open(OUT) as tar:
            mine = [info for info in tar if info.name.startswith(f"{case}/")]
            for info in mine:
                info.name = info.name.removeprefix(f"{case}/")
            tar.extractall(home.path, mine, filter="fully_trusted")
        with open(home.path / "record.json") as file:
            self.known = json.load(file)
        self.store = home.claude / ".git" if case == "theirs" else home.backup / "git"
        self.git = f"git --git-dir={self.store}"
        self.large = next(path for path in self.known["disk"] if LARGE in path)
        self.oids = self.objects()
        self.tip = self.said(f"rev-parse {self.ref}")

    def at_home(self):
        """As if it had always lain here."""
        self.sh(f"{self.git} config csb.claudeDir {self.home.claude}").ok()
        (self.home.backup / "config.json").write_text(
            json.dumps({"git_dir": str(self.store)})
        )
        return self

    def said(self, words):
        return self.sh(f"{self.git} {words}").ok().out.strip()

    def objects(self):
        words = "cat-file --batch-all-objects --batch-check='%(objectname)'"
        return set(self.said(words).split())

    def stored(self):
        """{path: sha256} of the newest tree, by plain git."""
        return {path: sha256(data) for path, data in
                held(self.sh, self.store, self.ref).items()}

    def is_sound(self):
        """git has nothing to say, nothing is lost,
        and history goes on from where it was."""
        fsck = f"{self.git} fsck --full --strict --no-dangling --no-progress"
        assert self.sh(fsck).rc == 0
        assert self.oids <= self.objects()
        self.said(f"merge-base --is-ancestor {self.tip} {self.ref}")

    def disk(self):
        return {path: sha256(data) for path, data in on_disk(self.home.claude).items()}


def keep_for_ever(claude):
    """Whatever day it is, nothing in this Claude directory is too old
    for Claude Code."""
    claude.mkdir(exist_ok=True)
    (claude / "settings.json").write_text('{"cleanupPeriodDays": 100000}')


@pytest.fixture(params=["own", "theirs", "moved"])
def any_old(sh, home, request):
    return Old(sh, home, request.param).at_home()


@pytest.fixture
def old(sh, home):
    """old(case): the Old that is asked for."""
    return lambda case: Old(sh, home, case)


def test_the_fixture_is_what_it_says(any_old):
    """Three versions of a large transcript in a pack that grew,
    and what was there is there."""
    versions = any_old.known["versions"][any_old.large]
    assert len(versions) >= (1 if any_old.case == "moved" else 3)
    assert list((any_old.store / "objects/pack").glob("*.keep"))
    assert any_old.disk() == any_old.known["disk"]
    files = any_old.stored()
    disk = any_old.known["disk"]
    assert {path: files.get(path) for path in disk} == disk
    any_old.is_sound()


@pytest.mark.parametrize("options", ["", "--deep"])
@pytest.mark.few(2)
def test_it_is_verified(sh, any_old, options):
    done = sh(f"csb-verify {options}").ok()
    checked = {record["path"] for record in done.records if record["kind"] == "check"}
    assert checked >= any_old.known["disk"].keys() - REFUSED
    assert all(record["ok"] for record in done.records)


def test_damage_in_it_is_found(sh, any_old):
    """The same with one bit turned over in the pack of the first design."""
    pack = next((any_old.store / "objects/pack").glob("*.pack"))
    data = bytearray(pack.read_bytes())
    data[len(data) // 3] ^= 4
    pack.chmod(0o600)
    pack.write_bytes(data)
    done = sh("csb-verify")
    assert done.rc == 1 and os.path.basename(any_old.large) in done.err


def test_sessions_come_back(sh, home, any_old):
    """Those that are there, into a new place;
    the one that was deleted, into its own."""
    keep_for_ever(home.path / "out")
    done = sh(f"csb-restore --target-dir ~/out {LARGE} {SMALL}")
    assert done.rc == 0 and not done.err
    (home.path / "out/settings.json").unlink()
    wanted = {path: digest for path, digest in any_old.known["disk"].items()
              if LARGE in path or SMALL in path}
    there = on_disk(home.path / "out")
    assert {path: sha256(data) for path, data in there.items()} == wanted
    assert os.stat(home.path / "out" / any_old.large).st_mode & 0o777 == 0o640
    keep_for_ever(home.claude)
    sh(f"csb-restore {GONE}").ok()
    gone = any_old.known["gone"]
    assert len(gone) == 2 and gone.items() <= any_old.disk().items()


@pytest.mark.few(1)
def test_every_version_of_the_large_one_comes_back(sh, home, any_old):
    """As the history lists them, the moved one's under its old path and its new one."""
    records = sh(f"csb-history {LARGE}").ok().records
    found = []
    for record in reversed(records):
        shutil.rmtree(home.path / "out", ignore_errors=True)
        keep_for_ever(home.path / "out")
        done = sh("csb-restore --target-dir ~/out", json.dumps(record).encode())
        assert done.rc == 0 and not done.err, done
        found += [sha256(data) for path, data in on_disk(home.path / "out").items()
                  if path.endswith(f"{LARGE}.jsonl")]
    wanted = [digest for path, digests in any_old.known["versions"].items()
              if path.endswith(f"{LARGE}.jsonl") for digest in digests]
    assert set(found) == set(wanted)


@pytest.mark.few(1)
def test_it_is_extended(sh, home, any_old):
    """A backup stores what is new, and a large transcript that grows goes
    on in its pack."""
    def more():
        """What the store grows by when 10 KB are appended."""
        before = size(any_old.store)
        with open(home.claude / any_old.large, "ab") as file:
            file.write(
                b'{"type":"user","n":"%s"}\n' % random.randbytes(5000).hex().encode()
            )
        sh(f"{LINE} >/dev/null").ok()
        return size(any_old.store) - before

    (home.claude / "CLAUDE.md").write_text("count them twice\n")
    assert more() < 150_000
    files, disk = any_old.stored(), any_old.disk()
    assert {path: files.get(path) for path in disk.keys() - REFUSED} == {
        path: disk[path] for path in disk.keys() - REFUSED}
    any_old.is_sound()
    sh("csb-verify").ok()
    # Once there are two generations of its pack 10 KB more cost no more than that.
    more()
    assert more() < 15_000
    assert any_old.stored()[any_old.large] == any_old.disk()[any_old.large]
    any_old.is_sound()
    sh("csb-verify --deep").ok()
    assert {record.get("change", "recheck")
            for record in sh("csb-changes").ok().records} <= {"recheck"}


@pytest.mark.few(1)
def test_what_is_refused_today_leaves_the_tree(sh, any_old):
    """History keeps it: what the rules of today refuse, and those of then did not."""
    assert REFUSED <= any_old.stored().keys()
    sh(f"{LINE} >/dev/null").ok()
    assert not REFUSED & any_old.stored().keys()
    for path in REFUSED:
        any_old.said(f"cat-file -e {any_old.tip}:{path}")
    any_old.is_sound()


def size(folder):
    """Bytes of the files below it."""
    return sum(os.path.getsize(os.path.join(top, name))
               for top, _, names in os.walk(folder) for name in names)


@pytest.mark.parametrize("case", ["own", "moved"])
@pytest.mark.few(1)
def test_it_is_packed(sh, home, old, case):
    """csb-gc, before and after a backup by today's writer: all objects stay."""
    one = old(case).at_home()
    sh("csb-gc --now").ok()
    one.is_sound()
    sh(f"{LINE} >/dev/null").ok()
    sh("csb-gc --now").ok()
    one.is_sound()
    assert sh("csb-verify --deep").ok().records


def test_a_person_and_their_gc_go_on(sh, home, old):
    """In a repository of their own: nothing of theirs changes,
    and their gc takes nothing."""
    one = old("theirs").at_home()
    ask = f"{one.git} for-each-ref | grep -v csb; cat .git/HEAD; sha256sum .git/index"
    before = sh(ask, cwd=home.claude).ok().out
    for text in "one", "two":
        (home.claude / "CLAUDE.md").write_text(text)
        sh(f"{LINE} >/dev/null").ok()
        assert sh(ask, cwd=home.claude).ok().out == before
        sh("git gc -q --prune=now", cwd=home.claude).ok()
    one.is_sound()
    assert one.stored()[one.large] == one.disk()[one.large]
    assert not (home.backup / "git").exists(), "the store is theirs"


@pytest.mark.parametrize("case", REFS)
@pytest.mark.few(2)
def test_a_home_that_moved_is_adopted(sh, home, old, case):
    """Until then nothing is stored: status 3, and what to do is said. The first design
    noted whole paths in config.json: they lead to where the home was."""
    one = old(case)
    done = sh(LINE)
    assert done.rc == 3 and "/home/ada/" in done.err
    assert "If your home has moved: csb gitcommit --adopt" in done.err
    assert one.said(f"rev-parse {one.ref}") == one.tip
    sh("csb-gitcommit --adopt </dev/null").ok()
    (home.claude / "CLAUDE.md").write_text("moved\n")
    sh(f"{LINE} >/dev/null").ok()
    one.is_sound()
    assert one.stored()["CLAUDE.md"] == sha256(b"moved\n")
    # It may move again, without a word.
    assert str(home.path) not in (home.backup / "config.json").read_text()


def test_a_named_store_that_is_away_is_not_adopted_for_another(sh, home, old):
    """--adopt is no reason to leave a store that an option names."""
    one = old("own").at_home()
    done = sh("csb-gitcommit --adopt --git-dir ~/away </dev/null")
    assert done.rc == 3 and "--adopt" not in done.err
    assert one.said(f"rev-parse {one.ref}") == one.tip


def test_a_session_that_moved_goes_on_in_its_pack(sh, home, old):
    """The same bytes below another project."""
    one = old("moved").at_home()
    sh(f"{LINE} >/dev/null").ok()
    folder = home.claude / os.path.dirname(one.large)
    folder.rename(folder.with_name("-srv-app"))
    for _ in range(2):
        transcript = home.claude / "projects/-srv-app" / os.path.basename(one.large)
        with open(transcript, "ab") as file:
            file.write(b"{}\n")
        before = size(one.store / "objects/pack")
        sh(f"{LINE} >/dev/null").ok()
        assert size(one.store / "objects/pack") < 2 * before + 20_000
    one.is_sound()
    sh("csb-verify").ok()
    versions = sh(f"csb-history {LARGE}").ok().records
    assert len({record["oid"] for record in versions}) == 6


def test_a_killed_writer_of_the_first_design_is_followed(sh, home, old):
    """What it left where it was killed: a csb.seen of the commit before,
    locks, half files."""
    one = old("own").at_home()
    seen = (one.store / "csb.seen").read_bytes()
    assert one.tip.encode() in seen
    sh(f"{one.git} update-ref refs/heads/main main~1").ok()
    (one.store / "refs/heads/main.lock").touch()
    (one.store / "csb.12345.tmp").mkdir()
    done = sh(f"{LINE} >/dev/null")
    assert done.rc == 0, done
    assert one.stored()[one.large] == one.disk()[one.large]
    assert subprocess.run(["git", f"--git-dir={one.store}", "fsck", "--full"],
                          capture_output=True).returncode == 0
