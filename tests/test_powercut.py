"""The power fails at any moment: what has a name is whole, what was said to be done is there."""
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
TEMPORARY = re.compile(r"(^|/)(\.csb-tmp-[^/]*|tmp_(obj|pack)_[^/]*|csb\.lock|COMMIT_EDITMSG|"
                       r"incoming\.lock)$")

EVERY = 7           # so many cuts are looked at to one after which the next run is tried


def tried(box, situation, given, rounds, seeded, figure, check, name):
    """Cut one run everywhere; the texts of what check(cut home, acknowledged) finds."""
    before, cut_home = box.kept, f"{box.folder}/cut"
    top, events, done = powercut.record(box, situation.words, given)
    assert done.rc == 0, done
    assert files_below(box.home) == final(top), "the trace does not say what the run did"
    every = list(powercut.states(top, events, seeded, TEMPORARY, *rounds((3, 2, 20), (6, 40, 130))))
    most = rounds(16, 2000)
    some = every if len(every) <= most else [
        *seeded.sample(every[:-most // 2], most // 2), *every[-most // 2:]]
    wrong = []
    for state in some:
        state.make(before, cut_home)
        bad = check(cut_home, state.cut == len(events), done)
        if bad:
            wrong.append((state.cut, len(events), state.story(), bad))
    figure(f"{name}: {len(some)} of {len(every)} states of {len(events)} events")
    assert not wrong, f"{len(wrong)} of {len(some)}:\n" + "\n".join(map(str, wrong[:20]))


def final(top):
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


@pytest.fixture
def prepared(tmp_path, home, tools):
    """prepared(situation): (its box, stdin), or a skip."""
    def prepare(situation):
        if reason := faults.missing(tmp_path):
            pytest.skip(reason)
        box = faults.Box(tmp_path, home, tools)
        given = situation.prepare(box)
        box.keep()
        return box, given
    return prepare


def elsewhere(box, home):
    """The box as it would be, were its home another directory."""
    return SimpleNamespace(env=box.env, home=home, backup=home + box.backup[len(box.home):],
                           claude=home + box.claude[len(box.home):], folder=box.folder)


@pytest.mark.soak
@pytest.mark.parametrize("tool", ["session_snapshot", "jsonl_snapshot"])
def test_a_snapshot_is_whole_or_not_there(tool, prepared, rounds, seeded, figure):
    """No cut leaves a name without all of its bytes (and its sidecar), nor no snapshot at all."""
    situation = SITUATIONS[tool]()
    box, given = prepared(situation)

    def check(home, acknowledged, done):
        shots, bad = situation.seen(elsewhere(box, home)), []
        for path, data in shots.items():
            if data not in (situation.old, situation.new):
                bad.append(f"{path} holds {data!r}")
            elif situation.end and "2020" not in path:
                side = files_below(home).get(os.path.relpath(path[:-3] + ".sha256", home), b"")
                with open(path, "rb") as file:
                    if hashlib.sha256(file.read()).hexdigest().encode() not in side:
                        bad.append(f"{path} has not its sidecar")
        said = home + json.loads(done.out)["path"][len(box.home):]
        if acknowledged and shots.get(said) != situation.new:
            bad.append(f"{said} was said to be there")
        return bad if shots else [*bad, "no snapshot is left"]
    tried(box, situation, given, rounds, seeded, figure, check, tool)


def whole(box, home, acknowledged, situation, ref="refs/heads/main"):
    """What is wrong with a store that was cut, or after the next run in it."""
    here = elsewhere(box, home)
    store = situation.store(here) if hasattr(situation, "store") else f"{here.backup}/git"
    tip = said_by_git(box, store, "rev-parse", "-q", "--verify", ref).stdout.strip()
    if acknowledged and tip != situation.new:
        return [f"the backup was said to be done, and the ref is {tip!r}"]
    if tip in (situation.old, situation.new) and tip:
        bad = unsound(box, store, ref)
        if bad:
            return bad
    situation.cuts = getattr(situation, "cuts", 0) + 1
    # A ref that is torn is the next run's to mend; else a sample of the next runs will do.
    if tip in (situation.old, situation.new) and situation.cuts % EVERY:
        return []
    return wrong_after_the_next_run(box, here, store, situation, ref)


def said_by_git(box, store, *words):
    """A finished git in a store."""
    return subprocess.run(["git", f"--git-dir={store}", *words], env=box.env, capture_output=True,
                          text=True)


def unsound(box, store, ref):
    """What is wrong with the objects that a ref reaches: all must be there, as their ids say."""
    listed = said_by_git(box, store, "rev-list", "--objects", ref)
    if listed.returncode:
        return [listed.stderr]
    oids = [line.split(" ")[0] for line in listed.stdout.splitlines()]
    done = subprocess.run(["git", f"--git-dir={store}", "cat-file", "--batch"], env=box.env,
                          input="\n".join(oids).encode(), capture_output=True)
    out, bad = io.BytesIO(done.stdout), []
    for oid in oids:
        words = out.readline().decode().split()
        if len(words) != 3:
            return [*bad, f"{oid} cannot be read: {done.stderr}"]
        data = out.read(int(words[2]) + 1)[:-1]
        if hashlib.sha1(f"{words[1]} {words[2]}\0".encode() + data).hexdigest() != oid:
            bad.append(f"{oid} has other bytes")
    return bad


def wrong_after_the_next_run(box, here, store, situation, ref):
    """The next run stores all there is, after the last commit that was ever acknowledged."""
    if os.path.exists(f"{store}/csb.lock"):
        os.unlink(f"{store}/csb.lock")      # it is a link to that of before the run
    next_run = SimpleNamespace(**vars(box))
    next_run.env = {**box.env, "CSB_HOME": here.backup, "CSB_GIT_DIR": store}
    if not os.path.isdir(store):
        del next_run.env["CSB_GIT_DIR"]     # a default store that is not there yet
    tool = lambda *words, given=b"": faults.Box.start(
        next_run, faults.Box.command(next_run, words), given, next_run.env)
    done = tool("csb-gitcommit", given=tool("csb-changes").out)
    if "torn by a power cut" in done.err:
        # csb-changes, which came before, did not know what was deleted.
        done = tool("csb-gitcommit", given=tool("csb-changes").out)
    if done.rc not in (0, 1) or "Traceback" in done.err:
        return [f"the next run: {done}"]
    wrong = []
    if situation.old:
        kept = said_by_git(box, store, "merge-base", "--is-ancestor", situation.old, ref)
        if kept.returncode:
            wrong.append(f"the next run lost the last backup: {kept.stderr}")
    tree = said_by_git(box, store, "ls-tree", "-r", "-z", ref).stdout.split("\0")[:-1]
    held = {line.split("\t", 1)[1]: line.split()[2] for line in tree}
    held.pop(".csb/changes.jsonl", None)
    there = {}
    for path, data in files_below(box.claude).items():
        if not path.startswith(".git/"):
            there[path] = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    if held != there:
        wrong.append(f"the next run left something out: {done.err}")
    wrong += unsound(box, store, ref)
    return [*wrong, done] if wrong else []


@pytest.mark.soak
@pytest.mark.long
def test_a_backup_is_whole_or_not_there(prepared, rounds, seeded, figure):
    """The ref names the old commit or the new one, with every object; after the end the new one.
    One that the cut has torn is the old or the new one again in the next run."""
    situation = SITUATIONS["csb-gitcommit"]()
    box, given = prepared(situation)
    situation.old = tip(box)

    def check(home, acknowledged, done):
        situation.new = json.loads(done.out.splitlines()[-1])["commit"]
        return whole(box, home, acknowledged, situation)
    tried(box, situation, given, rounds, seeded, figure, check, "csb-gitcommit")


def tip(box):
    """The commit of the store's ref."""
    return subprocess.run(["git", f"--git-dir={box.backup}/git", "rev-parse", "refs/heads/main"],
                          env=box.env, capture_output=True, text=True).stdout.strip()


@pytest.mark.long
@pytest.mark.soak
def test_the_first_backup_is_whole_or_not_there(prepared, rounds, seeded, figure):
    """The store itself is made in the run: after the end it is a store, with all in it."""
    situation = Store("csb-gitcommit", first=True)
    box, given = prepared(situation)
    situation.old = ""

    def check(home, acknowledged, done):
        situation.new = json.loads(done.out.splitlines()[-1])["commit"]
        return whole(box, home, acknowledged, situation)
    tried(box, situation, given, rounds, seeded, figure, check, "csb-gitcommit, first")


class Grown(Pack):
    """A large transcript with two generations of its pack, of which the run drops one."""

    def prepare(self, box):
        super().prepare(box)
        for lines in 1102, 1103:
            assert self.backup(box).rc == 0
            self.large(box, lines)
        self.old = tip(box)
        return box.tool("csb-changes").out


@pytest.mark.soak
def test_a_pack_that_grows_is_whole_or_not_there(prepared, rounds, seeded, figure):
    """Every version of a large transcript is there, whichever generations of its pack are."""
    situation = Grown("csb-gitcommit")
    box, given = prepared(situation)
    packs = os.listdir(f"{box.backup}/git/objects/pack")
    assert len([name for name in packs if name.endswith(".pack")]) == 2

    def check(home, acknowledged, done):
        situation.new = json.loads(done.out.splitlines()[-1])["commit"]
        return whole(box, home, acknowledged, situation)
    tried(box, situation, given, rounds, seeded, figure, check, "csb-gitcommit, a pack that grows")


class Trees(Many):
    """The same in so many folders that git makes a pack of their trees."""

    def prepare(self, box):
        for number in range(110):
            put(box.claude, f"file-history/{ONE}/{number}/file", f"{number}")
        return super().prepare(box)


@pytest.mark.soak
@pytest.mark.long
def test_many_files_are_whole_or_not_there(prepared, rounds, seeded, figure):
    """So is what comes in packs: many small files, and their trees."""
    situation = Trees("csb-gitcommit", first=True)
    box, given = prepared(situation)
    situation.old = ""

    def check(home, acknowledged, done):
        situation.new = json.loads(done.out.splitlines()[-1])["commit"]
        return whole(box, home, acknowledged, situation)
    tried(box, situation, given, rounds, seeded, figure, check, "csb-gitcommit, many files")


@pytest.mark.soak
def test_what_is_packed_is_not_lost(prepared, rounds, seeded, figure):
    """csb-gc removes nothing before what takes its place is on the disk."""
    situation = SITUATIONS["csb-gc"]()
    box, given = prepared(situation)

    def check(home, acknowledged, done):
        store = f"{elsewhere(box, home).backup}/git"
        return unsound(box, store, "refs/heads/main")
    tried(box, situation, given, rounds, seeded, figure, check, "csb-gc")


class Theirs(Store):
    """The first backup into the repository that the Claude directory is."""

    def prepare(self, box):
        subprocess.run(["git", "init", "-q", box.claude], env=box.env, check=True)
        put(box.claude, "settings.json", "{}\n")
        self.old = ""
        return box.tool("csb-changes").out

    def store(self, box):
        return f"{box.claude}/.git"


@pytest.mark.soak
def test_a_backup_into_their_repository_is_whole_or_not_there(prepared, rounds, seeded, figure):
    """So is the first one under refs/csb, where no directory of ours was yet."""
    situation = Theirs("csb-gitcommit")
    box, given = prepared(situation)

    def check(home, acknowledged, done):
        situation.new = json.loads(done.out.splitlines()[-1])["commit"]
        return whole(box, home, acknowledged, situation, "refs/csb/main")
    tried(box, situation, given, rounds, seeded, figure, check, "csb-gitcommit, their repository")


@pytest.mark.soak
def test_a_restored_file_is_whole_or_not_there(prepared, rounds, seeded, figure):
    """What has its name has its bytes; after the end all have."""
    situation = SITUATIONS["csb-restore"]()
    box, given = prepared(situation)

    def check(home, acknowledged, done):
        there = files_below(elsewhere(box, home).claude)
        bad = [f"{path} has other bytes" for path, data in there.items()
               if ONE in path and "/.csb-tmp-" not in path and situation.all.get(path) != data]
        return bad + [f"{path} was said to be there" for path in situation.all
                      if acknowledged and path not in there]
    tried(box, situation, given, rounds, seeded, figure, check, "csb-restore")
