"""The power fails at any moment: what has a name is whole, what was said is there."""
import copy
import hashlib
import io
import json
import os
import re
import subprocess
from types import SimpleNamespace

import faults
import powercut
import pytest
from conftest import files_below
from test_faults import ONE, SITUATIONS, Many, Pack, Store, put

pytestmark = pytest.mark.logic

# Names that no tool looks at: a cut that differs in them alone is not another one.
TEMPORARY = re.compile(
    r"(^|/)(\.csb-tmp-[^/]*|tmp_(obj|pack)_[^/]*|csb\.lock|COMMIT_EDITMSG|"
    r"incoming\.lock)$")
EVERY = 7       # so many cuts are looked at to one after which the next run is tried
MAIN = "refs/heads/main"


@pytest.fixture
def prepared(tmp_path, home, tools):
    """prepared(situation): (its box, stdin), or a skip."""
    def prepare(situation):
        reason = faults.missing(tmp_path)
        if reason:
            pytest.skip(reason)
        box = faults.Box(tmp_path, home, tools)
        given = situation.prepare(box)
        box.keep()
        return box, given
    return prepare


@pytest.fixture
def cut(rounds, seeded, figure):
    """cut(name, box, words, given, check): cut one run everywhere.

    check(the home that was cut, was the end acknowledged, what the run said) gives what
    is wrong, as texts.
    """
    def cut(name, box, words, given, check):
        top, events, done = powercut.record(box, words, given)
        assert done.rc == 0, done
        assert files_below(box.home) == at_the_end(top), "the trace is not the run"

        limits = rounds((3, 2, 20), (6, 40, 130))
        every = list(powercut.states(top, events, seeded, TEMPORARY, *limits))
        most = rounds(16, 2000)
        some = every
        if len(every) > most:
            half = most // 2        # of the last ones, where a run says that it is done
            some = seeded.sample(every[:-half], half) + every[-half:]

        home = f"{box.folder}/cut"
        wrong = []
        for state in some:
            state.make(box.kept, home)
            bad = check(home, state.cut == len(events), done)
            if bad:
                wrong.append((state.cut, len(events), state.story(), bad))
        figure(f"{name}: {len(some)} of {len(every)} states of {len(events)} events")
        shown = "\n".join(map(str, wrong[:20]))
        assert not wrong, f"{len(wrong)} of {len(some)}:\n{shown}"
    return cut


def at_the_end(top):
    """{path: bytes} at the end of the run, as the trace says."""
    found = {}

    def walk(node, path):
        for name, child in node.names.items():
            if child.folder:
                walk(child, f"{path}{name}/")
            else:
                found[path + name] = child.data
    walk(top, "")
    return found


def place(path, box, home):
    """Where a path of the box is in a home that was cut."""
    return home + path[len(box.home):]


@pytest.mark.soak
@pytest.mark.parametrize("tool", ["session_snapshot", "jsonl_snapshot"])
def test_a_snapshot_is_whole_or_not_there(tool, prepared, cut):
    """No cut leaves a name without all its bytes (and its sidecar), nor no snapshot."""
    situation = SITUATIONS[tool]()
    box, given = prepared(situation)

    def check(home, acknowledged, done):
        shots = situation.seen(SimpleNamespace(home=home))
        bad = [] if shots else ["no snapshot is left"]
        for path, data in shots.items():
            if data not in (situation.old, situation.new):
                bad.append(f"{path} holds {data!r}")
            elif situation.has_sidecar(path) and not names(path):
                bad.append(f"{path} has not its sidecar")
        said = place(json.loads(done.out)["path"], box, home)
        if acknowledged and shots.get(said) != situation.new:
            bad.append(f"{said} was said to be there")
        return bad

    def names(path):
        """Does the sidecar know the bytes of a snapshot?"""
        side = path.removesuffix(".gz") + ".sha256"
        if not os.path.isfile(side):
            return False
        with open(path, "rb") as file, open(side) as text:
            return hashlib.sha256(file.read()).hexdigest() in text.read()
    cut(tool, box, situation.words, given, check)


class Stored:
    """Looks at stores that were cut: is it the old backup or the new one, and whole?"""

    def __init__(self, box, old="", store=None, ref=MAIN):
        self.box = box
        self.old = old      # the commit before the run
        self.store = store or f"{box.backup}/git"
        self.ref = ref
        self.cuts = 0

    def wrong(self, home, acknowledged, done):
        """What is wrong with a store that was cut, or after the next run in it."""
        store = place(self.store, self.box, home)
        new = json.loads(done.out.splitlines()[-1])["commit"]
        tip = tip_of(self.box, store, self.ref)
        if acknowledged and tip != new:
            return [f"the backup was said to be done, and the ref is {tip!r}"]
        if tip and tip in (self.old, new):
            bad = unsound(self.box, store, self.ref)
            if bad:
                return bad
        self.cuts += 1
        # A ref that is torn is the next run's to mend; else a sample of these will do.
        if tip in (self.old, new) and self.cuts % EVERY:
            return []
        return self.wrong_after_the_next_run(home, store)

    def wrong_after_the_next_run(self, home, store):
        """It stores all there is, after the last commit that was ever acknowledged."""
        done = self.next_run(home, store)
        if done.rc not in (0, 1) or "Traceback" in done.err:
            return [f"the next run: {done}"]
        bad = []
        if self.old:
            kept = git(
                self.box, store, "merge-base", "--is-ancestor", self.old, self.ref)
            if kept.returncode:
                bad.append(f"the next run lost the last backup: {kept.stderr}")
        if blobs_of(self.box, store, self.ref) != blobs_on_disk(self.box.claude):
            bad.append(f"the next run left something out: {done.err}")
        bad += unsound(self.box, store, self.ref)
        return [*bad, done] if bad else []

    def next_run(self, home, store):
        """Back up into the store that was cut; Done."""
        if os.path.exists(f"{store}/csb.lock"):
            os.unlink(f"{store}/csb.lock")      # it is a link to that of before the run
        box = copy.copy(self.box)
        box.env = {**box.env, "CSB_HOME": place(box.backup, box, home)}
        if os.path.isdir(store):    # else it is the default one, not there yet
            box.env["CSB_GIT_DIR"] = store
        done = box.tool("csb-gitcommit", given=box.tool("csb-changes").out)
        if "torn by a power cut" in done.err:
            # csb-changes, which came before, did not know what was deleted.
            done = box.tool("csb-gitcommit", given=box.tool("csb-changes").out)
        return done


def git(box, store, *words):
    """A finished git in a store."""
    return subprocess.run(
        ["git", f"--git-dir={store}", *words], env=box.env, capture_output=True,
        text=True)


def tip_of(box, store, ref=MAIN):
    """The commit of a ref, nothing if there is none."""
    return git(box, store, "rev-parse", "-q", "--verify", ref).stdout.strip()


def blobs_of(box, store, ref):
    """{path: the id of its bytes} that a ref holds, without the journal."""
    tree = git(box, store, "ls-tree", "-r", "-z", ref).stdout
    found = {}
    for line in tree.split("\0")[:-1]:
        about, path = line.split("\t", 1)
        _, _, found[path] = about.split()
    found.pop(".csb/changes.jsonl", None)
    return found


def blobs_on_disk(claude):
    """{path: the id of its bytes} of a Claude directory."""
    found = {}
    for path, data in files_below(claude).items():
        if not path.startswith(".git/"):
            head = f"blob {len(data)}\0".encode()
            found[path] = hashlib.sha1(head + data).hexdigest()
    return found


def unsound(box, store, ref):
    """What is wrong with the objects of a ref: all must be there, as their ids say."""
    listed = git(box, store, "rev-list", "--objects", ref)
    if listed.returncode:
        return [listed.stderr]
    oids = [line.split(" ")[0] for line in listed.stdout.splitlines()]
    done = subprocess.run(
        ["git", f"--git-dir={store}", "cat-file", "--batch"], env=box.env,
        input="\n".join(oids).encode(), capture_output=True)
    out = io.BytesIO(done.stdout)
    bad = []
    for oid in oids:
        words = out.readline().decode().split()
        if len(words) != 3:
            return [*bad, f"{oid} cannot be read: {done.stderr}"]
        _, kind, size = words
        data = out.read(int(size))
        out.read(1)     # the end of the line
        head = f"{kind} {size}\0".encode()
        if hashlib.sha1(head + data).hexdigest() != oid:
            bad.append(f"{oid} has other bytes")
    return bad


@pytest.mark.soak
@pytest.mark.long
def test_a_backup_is_whole_or_not_there(prepared, cut):
    """The ref names the old commit or the new one, with every object; after the end the
    new one. One that the cut has torn is the old or the new one in the next run."""
    situation = SITUATIONS["csb-gitcommit"]()
    box, given = prepared(situation)
    stored = Stored(box, tip_of(box, f"{box.backup}/git"))
    cut("csb-gitcommit", box, situation.words, given, stored.wrong)


@pytest.mark.long
@pytest.mark.soak
def test_the_first_backup_is_whole_or_not_there(prepared, cut):
    """The store itself is made in the run: after the end it is one, with all in it."""
    situation = Store("csb-gitcommit", first=True)
    box, given = prepared(situation)
    cut("csb-gitcommit, first", box, situation.words, given, Stored(box).wrong)


class Grown(Pack):
    """A large transcript with two generations of its pack; the run drops one."""

    def prepare(self, box):
        super().prepare(box)
        for lines in (1102, 1103):
            assert self.backup(box).rc == 0
            self.large(box, lines)
        return box.tool("csb-changes").out


@pytest.mark.soak
def test_a_pack_that_grows_is_whole_or_not_there(prepared, cut):
    """Every version of a large transcript is there, whichever packs of it are."""
    situation = Grown("csb-gitcommit")
    box, given = prepared(situation)
    store = f"{box.backup}/git"
    packs = os.listdir(f"{store}/objects/pack")
    assert len([name for name in packs if name.endswith(".pack")]) == 2
    stored = Stored(box, tip_of(box, store))
    name = "csb-gitcommit, a pack that grows"
    cut(name, box, situation.words, given, stored.wrong)


class Trees(Many):
    """The same in so many folders that git makes a pack of their trees."""

    def prepare(self, box):
        for number in range(110):
            put(box.claude, f"file-history/{ONE}/{number}/file", f"{number}")
        return super().prepare(box)


@pytest.mark.soak
@pytest.mark.long
def test_many_files_are_whole_or_not_there(prepared, cut):
    """So is what comes in packs: many small files, and their trees."""
    situation = Trees("csb-gitcommit", first=True)
    box, given = prepared(situation)
    name = "csb-gitcommit, many files"
    cut(name, box, situation.words, given, Stored(box).wrong)


@pytest.mark.soak
def test_what_is_packed_is_not_lost(prepared, cut):
    """csb-gc removes nothing before what takes its place is on the disk."""
    situation = SITUATIONS["csb-gc"]()
    box, given = prepared(situation)

    def check(home, acknowledged, done):
        return unsound(box, place(f"{box.backup}/git", box, home), MAIN)
    cut("csb-gc", box, situation.words, given, check)


class Theirs(Store):
    """The first backup into the repository that the Claude directory is."""

    def prepare(self, box):
        subprocess.run(["git", "init", "-q", box.claude], env=box.env, check=True)
        put(box.claude, "settings.json", "{}\n")
        return box.tool("csb-changes").out


@pytest.mark.soak
def test_a_backup_into_their_repository_is_whole_or_not_there(prepared, cut):
    """So is the first one under refs/csb, where no directory of ours was yet."""
    situation = Theirs("csb-gitcommit")
    box, given = prepared(situation)
    stored = Stored(box, store=f"{box.claude}/.git", ref="refs/csb/main")
    name = "csb-gitcommit, their repository"
    cut(name, box, situation.words, given, stored.wrong)


@pytest.mark.soak
def test_a_restored_file_is_whole_or_not_there(prepared, cut):
    """What has its name has its bytes; after the end all have."""
    situation = SITUATIONS["csb-restore"]()
    box, given = prepared(situation)

    def check(home, acknowledged, done):
        there = files_below(place(box.claude, box, home))
        bad = situation.other_bytes(there)
        for path in situation.all:
            if acknowledged and path not in there:
                bad.append(f"{path} was said to be there")
        return bad
    cut("csb-restore", box, situation.words, given, check)
