"""A person at work in the repository that has the store: nothing of theirs changes"""
import os
import subprocess
import uuid

import pytest
from conftest import blob, files_below

pytestmark = [pytest.mark.logic, pytest.mark.soak]

CONFIG = """
[user]
 name = u
 email = u@x
[init]
 defaultBranch = main
[advice]
 detachedHead = false
"""
NASTY = [
    b"a b", b"new\nline", b'"quoted"', b"'single'", b"-dash", b"--", b"\xff\xfe",
    b"\xc3\xa9", b"e\xcc\x81", b"\xf0\x9f\x98\x80.md", b"back\\slash", b"tab\there",
    b"$(x)`y`", b"*", b"[a]", b":(top)x", b"%s", b".hidden", b"a.lock", b"#c",
    b"x" * 200, b"HEAD", b" lead", b"trail ", b"\x01", b"~", b"a;b", b"shared.md"]
FOLDERS = [b"p", b"a b", b"-d", b"\xff", b"e\xcc\x81", b"\xc3\xa9", b"n\nl"]
FIRST = b"projects/-p/%s.jsonl" % str(uuid.UUID(int=1)).encode()
LINES = [
    "csb-backup --quiet",
    "csb-changes | csb-gitcommit >/dev/null",
    "csb-changes | csb-gitcommit --portion 2000 >/dev/null"]  # bytes: several portions
# What the person's state is made of, apart from index, refs and work tree.
STATES = """
    HEAD MERGE_HEAD MERGE_MSG MERGE_MODE CHERRY_PICK_HEAD REVERT_HEAD ORIG_HEAD
    AUTO_MERGE COMMIT_EDITMSG REBASE_HEAD BISECT_LOG index.lock
    """.split()
IN_PROGRESS = {"MERGE_HEAD", "CHERRY_PICK_HEAD", "REBASE_HEAD"}
ASK = """
    export GIT_OPTIONAL_LOCKS=0
    git status --porcelain=v2 -b -z
    echo; git stash list
    git for-each-ref | grep -v refs/csb/
    git reflog show HEAD 2>&1
    git config --get-regexp '^(user|core|branch|remote)'; true"""
ACTIONS = """
    new_transcript new_transcript new_skill new_skill append append append share delete
    add add commit commit stash branch checkout checkout merge diverge diverge settle
    settle lock collect
    """.split()


class Person:
    """Somebody who works in the Claude directory, and what must be in the store."""

    def __init__(self, sh, home, chance):
        self.sh = sh
        self.folder = home.claude
        self.chance = chance
        self.claude = os.fsencode(home.claude)
        self.lock_file = home.claude / ".git/index.lock"
        self.acked = set()
        self.branches = ["main"]
        self.done = []
        self.run("git init -q").ok()
        self.write(FIRST)
        for name in NASTY:
            self.write(b"skills/" + name)
        self.run("git add -A; git commit -qm one").ok()

    def run(self, line, stdin=b""):
        """A line of git; it may fail: people try things."""
        return self.sh(line, stdin, cwd=self.folder)

    def run_one_of(self, *lines):
        self.run(self.chance.choice(lines))

    def write(self, path, mode="wb", least=1):
        """Write some lines, unless a file stands where a directory should be, or the
        other way round."""
        full = os.path.join(self.claude, path)
        above = os.path.dirname(full)
        for folder in (above, os.path.dirname(above)):
            if os.path.lexists(folder) and not os.path.isdir(folder):
                return
        if os.path.isdir(full):
            return
        os.makedirs(above, exist_ok=True)
        line = b'{"type":"user","n":"%s"}\n' % self.chance.randbytes(30).hex().encode()
        with open(full, mode) as file:
            file.write(line * self.chance.randint(least, 9))

    def files(self):
        """{path: bytes} of all that is no part of .git."""
        found = {}
        for path, data in files_below(self.folder).items():
            if not path.startswith(".git/"):
                found[os.fsencode(path)] = data
        return found

    def act(self):
        """Do one thing, at random."""
        name = self.chance.choice(NASTY)
        what = self.chance.choice(ACTIONS)
        if self.lock_file.exists() and self.chance.random() < .4:
            what = "unlock"
        self.done.append((what, name))
        getattr(self, what)(name)

    def new_transcript(self, name):
        folder = b"projects/-%s/" % self.chance.choice(FOLDERS)
        session_id = str(uuid.UUID(int=self.chance.getrandbits(128))).encode()
        self.write(folder + session_id + b".jsonl")
        self.write(folder + b"memory/" + name)

    def new_skill(self, name):
        self.write(b"skills/" + self.chance.choice(FOLDERS) + b"/" + name)

    def append(self, name):
        self.write(self.chance.choice(sorted(self.files())), "ab", least=0)

    def share(self, name):
        self.write(b"skills/shared.md")

    def delete(self, name):
        others = sorted(self.files().keys() - {FIRST})
        if others:
            os.unlink(os.path.join(self.claude, self.chance.choice(others)))

    def add(self, name):
        chosen = [path for path in sorted(self.files()) if self.chance.random() < .5]
        paths = b"".join(b":(literal)" + path + b"\0" for path in chosen)
        self.run("git add --pathspec-from-file=- --pathspec-file-nul", paths)

    def commit(self, name):
        self.run_one_of("git commit -qm m", "git add -A; git commit -qm a")

    def stash(self, name):
        self.run_one_of("git stash -q", "git stash -qu", "git stash pop")

    def branch(self, name):
        self.branches.append(f"b{len(self.branches)}")
        self.run(f"git checkout -qb {self.branches[-1]}")

    def checkout(self, name):
        branch = self.chance.choice(self.branches)
        self.run_one_of(
            f"git checkout -q {branch}", f"git checkout -q --detach {branch}")

    def merge(self, name):
        branch = self.chance.choice(self.branches)
        self.run_one_of(
            f"git merge --no-edit {branch}", f"git rebase {branch}",
            f"git cherry-pick {branch}", f"git merge --no-commit {branch}")

    def diverge(self, name):
        """Two branches that differ in one file; a merge, rebase or pick that stops."""
        self.branch(name)
        theirs = self.branches[-1]
        self.share(name)
        self.run("git add -A; git commit -qm theirs; git checkout -q main")
        self.share(name)
        self.run("git add -A; git commit -qm ours")
        self.run_one_of(
            f"git merge {theirs}", f"git rebase {theirs}", f"git cherry-pick {theirs}")

    def settle(self, name):
        self.run_one_of(
            "git merge --abort; git rebase --abort; git cherry-pick --abort",
            "git add -A; git -c core.editor=true commit -qm settled",
            "git reset -q --hard",
            "git reset -q")

    def lock(self, name):
        self.lock_file.touch()

    def unlock(self, name):
        self.lock_file.unlink()

    def collect(self, name):
        self.run("git gc -q --prune=now")

    def state(self):
        """What is the person's own."""
        git = self.folder / ".git"
        found = {"asked": self.run(ASK).out}
        for name in ("index", *STATES):
            if (git / name).exists():
                found[name] = (git / name).read_bytes()
        for folder in ("rebase-merge", "rebase-apply", "sequencer"):
            found[folder] = sorted(git.glob(f"{folder}/**/*"))
        return found

    def must_hold(self):
        """{path: oid} of all files as they lie on disk."""
        return {os.fsdecode(path): blob(data) for path, data in self.files().items()}


def stored(person):
    """{path: oid} of the newest tree, and all ids that the ref reaches."""
    newest = {}
    for line in person.run("git ls-tree -r -z refs/csb/main").ok().out.split("\0")[:-1]:
        head, path = line.split("\t", 1)
        newest[path] = head.split()[2]
    newest.pop(".csb/changes.jsonl")
    lines = person.run("git rev-list --objects refs/csb/main").ok().out.split("\n")
    return newest, {line[:40] for line in lines}


@pytest.mark.parametrize("gc", [False, True], ids=["in turn", "git gc meanwhile"])
@pytest.mark.few(1)
def test_a_person_and_backups_take_turns(sh, home, listing, rounds, seeded, figure, gc):
    """Status, index, HEAD, refs, stashes, what is in progress and every file are as
    they were, all files are stored as they are, what was ever acknowledged stays
    reachable."""
    (home.path / ".gitconfig").write_text(CONFIG)
    turns = rounds(1, 5)
    actions = rounds(14, 100)
    backups = stopped = locked = 0
    for turn in range(turns):
        person = Person(sh, home, seeded)
        for _ in range(actions):
            person.act()
            if seeded.random() < .6:
                continue        # several actions from one backup to the next
            before = person.state()
            tree = listing(home.claude, skip={".git"})
            if gc:
                cleaner = subprocess.Popen(
                    ["git", "gc", "-q"], cwd=home.claude, env=home.env,
                    stderr=subprocess.DEVNULL)
            done = sh(seeded.choice(LINES))
            if gc:
                cleaner.wait()
            assert done.rc == 0, (done, person.done)
            assert person.state() == before, person.done
            assert listing(home.claude, skip={".git"}) == tree, person.done

            wanted = person.must_hold()
            newest, reached = stored(person)
            assert newest == wanted, person.done
            person.acked.update(wanted.values())
            assert person.acked <= reached, person.done
            backups += 1
            stopped += not IN_PROGRESS.isdisjoint(before)
            locked += "index.lock" in before

        acked = "\n".join(person.acked).encode()
        check = person.run("git cat-file --batch-check", acked).ok()
        assert "missing" not in check.out
        assert person.run("git fsck --full --strict --no-progress").rc == 0
        assert not (home.backup / "git").exists()
        home.claude.rename(home.path / f"done{turn}")
        home.backup.rename(home.path / f"backup{turn}")
        home.claude.mkdir()
    assert backups
    figure(f"{turns * actions} actions in {turns} repositories, {backups} backups "
           f"({stopped} in a merge, rebase or pick, {locked} beside an index.lock): "
           "0 violations")
