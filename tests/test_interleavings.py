"""A person at work in the repository that the store lies in: backups change nothing of theirs"""
import hashlib
import os
import subprocess
import uuid

import pytest

pytestmark = [pytest.mark.logic, pytest.mark.soak]
CONFIG = "[user]\nname=u\nemail=u@x\n[init]\ndefaultBranch=main\n[advice]\ndetachedHead=false\n"
NASTY = [b"a b", b"new\nline", b'"quoted"', b"'single'", b"-dash", b"--", b"\xff\xfe", b"\xc3\xa9",
         b"e\xcc\x81", b"\xf0\x9f\x98\x80.md", b"back\\slash",
         b"tab\there", b"$(x)`y`", b"*", b"[a]", b":(top)x", b"%s", b".hidden", b"a.lock", b"#c",
         b"x" * 200, b"HEAD", b" lead", b"trail ", b"\x01", b"~", b"a;b", b"shared.md"]
FOLDERS = [b"p", b"a b", b"-d", b"\xff", b"e\xcc\x81", b"\xc3\xa9", b"n\nl"]
LINES = ["csb-backup --quiet", "csb-changes | csb-gitcommit >/dev/null",
         "csb-changes | csb-gitcommit --portion 2000 >/dev/null"]     # bytes: several portions
# What the person's state is made of, apart from index, refs and work tree.
STATES = """HEAD MERGE_HEAD MERGE_MSG MERGE_MODE CHERRY_PICK_HEAD REVERT_HEAD ORIG_HEAD AUTO_MERGE
    COMMIT_EDITMSG REBASE_HEAD BISECT_LOG index.lock""".split()
ASK = """export GIT_OPTIONAL_LOCKS=0
    git status --porcelain=v2 -b -z; echo; git stash list; git for-each-ref | grep -v refs/csb/
    git reflog show HEAD 2>&1; git config --get-regexp '^(user|core|branch|remote)'; true"""


class Person:
    """Somebody who works in the Claude directory, and what must be in the store."""

    def __init__(self, sh, home, chance):
        self.sh, self.claude, self.chance = sh, os.fsencode(home.claude), chance
        self.git = os.path.join(self.claude, b".git")
        self.acked, self.branches, self.done = set(), ["main"], []
        sh("git init -q", cwd=home.claude).ok()
        self.write(b"projects/-p/%s.jsonl" % str(uuid.UUID(int=1)).encode())
        for name in NASTY:
            self.write(b"skills/" + name)
        sh("git add -A; git commit -qm one", cwd=home.claude).ok()

    def run(self, line):
        """A line of git that may fail: people try things."""
        self.sh(line, cwd=os.fsdecode(self.claude))

    def write(self, path, mode="wb"):
        full = os.path.join(self.claude, path)
        if os.path.isdir(full) or not all(os.path.isdir(p) or not os.path.lexists(p) for p in [
                os.path.dirname(full), os.path.dirname(os.path.dirname(full))]):
            return
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, mode) as file:
            file.write(b'{"type":"user","n":"%s"}\n' % self.chance.randbytes(30).hex().encode()
                       * self.chance.randint(0 if mode == "ab" else 1, 9))

    def files(self):
        """The paths of all that is no part of .git."""
        found = []
        for folder, folders, names in os.walk(self.claude):
            folders[:] = [name for name in folders if name != b".git"]
            found += [os.path.relpath(os.path.join(folder, name), self.claude) for name in names]
        return sorted(found)

    def act(self):
        """Do one thing, at random."""
        chance = self.chance
        name = chance.choice(NASTY)
        locked = os.path.exists(os.path.join(self.git, b"index.lock"))
        what = "unlock" if locked and chance.random() < .4 else chance.choice(self.ACTIONS)
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
        self.write(self.chance.choice(self.files()), "ab")

    def share(self, name):
        self.write(b"skills/shared.md")

    def delete(self, name):
        keep = str(uuid.UUID(int=1)).encode()
        if found := [path for path in self.files() if keep not in path]:
            os.unlink(os.path.join(self.claude, self.chance.choice(found)))

    def add(self, name):
        chosen = [path for path in self.files() if self.chance.random() < .5]
        self.sh("git add --pathspec-from-file=- --pathspec-file-nul",
                b"".join(b":(literal)" + path + b"\0" for path in chosen),
                cwd=os.fsdecode(self.claude))

    def commit(self, name):
        self.run(self.chance.choice(["git commit -qm m", "git add -A; git commit -qm a"]))

    def stash(self, name):
        self.run(self.chance.choice(["git stash -q", "git stash -qu", "git stash pop"]))

    def branch(self, name):
        self.branches.append(f"b{len(self.branches)}")
        self.run(f"git checkout -qb {self.branches[-1]}")

    def checkout(self, name):
        self.run(f"git checkout -q {self.chance.choice(['', '--detach'])} "
                 f"{self.chance.choice(self.branches)}")

    def merge(self, name):
        how = self.chance.choice(["merge --no-edit", "rebase", "cherry-pick", "merge --no-commit"])
        self.run(f"git {how} {self.chance.choice(self.branches)}")

    def diverge(self, name):
        """Two branches that differ in one file, then a merge, rebase or pick that stops."""
        self.branch(name)
        self.share(name)
        self.run("git add -A; git commit -qm theirs; git checkout -q main")
        self.share(name)
        self.run("git add -A; git commit -qm ours")
        self.run(f"git {self.chance.choice(['merge', 'rebase', 'cherry-pick'])} "
                 f"{self.branches[-1]}")

    def settle(self, name):
        self.run(self.chance.choice([
            "git merge --abort; git rebase --abort; git cherry-pick --abort",
            "git add -A; git -c core.editor=true commit -qm settled",
            "git reset -q --hard", "git reset -q"]))

    def lock(self, name):
        with open(os.path.join(self.git, b"index.lock"), "wb"):
            pass

    def unlock(self, name):
        self.run("rm -f .git/index.lock")

    def collect(self, name):
        self.run("git gc -q --prune=now")

    ACTIONS = """new_transcript new_transcript new_skill new_skill append append append share delete
        add add commit commit stash branch checkout checkout merge diverge diverge settle settle
        lock collect""".split()

    def state(self):
        """A fingerprint of what is the person's own."""
        found = {"asked": self.sh(ASK, cwd=os.fsdecode(self.claude)).out}
        for name in ("index", *STATES):
            path = os.path.join(self.git, name.encode())
            if os.path.exists(path):
                with open(path, "rb") as file:
                    found[name] = hashlib.sha256(file.read()).hexdigest()
        for folder in (b"rebase-merge", b"rebase-apply", b"sequencer"):
            for where, _, names in os.walk(os.path.join(self.git, folder)):
                found[where] = sorted(names)
        return found

    def must_hold(self):
        """{path: oid} of all files as they lie on disk."""
        found = {}
        for path in self.files():
            with open(os.path.join(self.claude, path), "rb") as file:
                data = file.read()
            found[os.fsdecode(path)] = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        return found


def held(sh, home):
    """({path: oid} of the newest tree, all ids that the ref reaches)."""
    lines = sh("git ls-tree -r -z refs/csb/main", cwd=home.claude).ok().out.split("\0")[:-1]
    reached = sh("git rev-list --objects refs/csb/main", cwd=home.claude).ok().out.split("\n")
    return ({line.split("\t", 1)[1]: line.split()[2] for line in lines},
            {line[:40] for line in reached})


@pytest.mark.parametrize("gc", [False, True], ids=["in turn", "git gc meanwhile"])
@pytest.mark.few(1)
def test_a_person_and_backups_take_turns(sh, home, listing, rounds, seeded, figure, gc):
    """Status, index, HEAD, refs, stashes, what is in progress and every file are as they were,
    all files are stored as they are, and what was ever acknowledged stays reachable."""
    (home.path / ".gitconfig").write_text(CONFIG)
    turns, actions, backups, stopped = rounds(1, 5), rounds(14, 100), 0, [0, 0]
    for turn in range(turns):
        person = Person(sh, home, seeded)
        for _ in range(actions):
            person.act()
            if seeded.random() < .6:
                continue        # several actions from one backup to the next
            before, tree = person.state(), listing(home.claude, skip={".git"})
            cleaner = subprocess.Popen(["git", "gc", "-q"], cwd=home.claude, env=home.env,
                                       stderr=subprocess.DEVNULL) if gc else None
            line = seeded.choice(LINES)
            done = sh(line)
            if cleaner:
                cleaner.wait()
            assert done.rc == 0, (done, person.done)
            assert person.state() == before, person.done
            assert listing(home.claude, skip={".git"}) == tree, person.done
            wanted = person.must_hold()
            newest, reached = held(sh, home)
            newest.pop(".csb/changes.jsonl")
            assert newest == wanted, person.done
            person.acked |= set(wanted.values())
            assert person.acked <= reached, person.done
            backups += 1
            stopped[0] += bool({"MERGE_HEAD", "CHERRY_PICK_HEAD", "REBASE_HEAD"} & before.keys())
            stopped[1] += "index.lock" in before
        check = sh("git cat-file --batch-check", "\n".join(person.acked).encode(), cwd=home.claude)
        assert "missing" not in check.ok().out
        assert sh("git fsck --full --strict --no-progress", cwd=home.claude).rc == 0
        assert not os.path.exists(home.backup / "git")
        home.claude.rename(home.path / f"done{turn}")
        home.backup.rename(home.path / f"backup{turn}")
        home.claude.mkdir()
    assert backups
    figure(f"{turns * actions} actions in {turns} repositories, {backups} backups "
           f"({stopped[0]} in a merge, rebase or pick, {stopped[1]} beside an index.lock): "
           "0 violations")
