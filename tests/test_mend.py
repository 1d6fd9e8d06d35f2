"""csb-verify --repair: backups go on after a lost directory,
and what is left is kept"""
import shutil

import pytest
from conftest import STORE

pytestmark = pytest.mark.logic

ID = "11111111-2222-4333-8444-555555555555"
MAIN = f"projects/-p/{ID}.jsonl"


def back_up_twice(sh, home):
    """Two backups: a session with a subagent, a skill, a link,
    an empty directory; MAIN's path."""
    for path in (
        MAIN,
        f"projects/-p/{ID}/subagents/agent-1.jsonl",
        "skills/a/SKILL.md",
        "skills/b",
        "skills-x.md",
        "settings.json",
    ):
        (home.claude / path).parent.mkdir(parents=True, exist_ok=True)
        (home.claude / path).write_text(f'{{"path":"{path}"}}\n')
    (home.claude / "skills/b").chmod(0o755)
    (home.claude / "link").symlink_to("settings.json")
    (home.claude / f"projects/-p/{ID}/tool-results").mkdir()
    sh(STORE).ok()
    with open(home.claude / MAIN, "a") as file:
        file.write("{}\n")
    sh(STORE).ok()
    return home.claude / MAIN


@pytest.fixture
def stored(once):
    """Two backups, as back_up_twice() makes them; MAIN's path."""
    return once(back_up_twice)


@pytest.fixture
def git(sh, home):
    """A function: git(words) in the store, its words in answer."""
    def run(words):
        return sh(f"git --git-dir={home.backup}/git {words}").ok().out.strip()
    return run


@pytest.fixture
def lose(home, git):
    """A function: lose(names, data), remove the loose objects,
    or put data in their place."""
    def spoil(*names, data=None):
        files = [home.backup / "git/objects" / oid[:2] / oid[2:]
                 for oid in [git(f"rev-parse {name}") for name in names]]
        for file in files:
            file.chmod(0o600)
            file.unlink() if data is None else file.write_bytes(data)
    return spoil


def test_the_fullest_version_of_a_transcript_is_verified(sh, stored, git, lose):
    """csb-restore prefers it to a last version that had shrunk."""
    stored.write_text("{}\n" * 30)
    sh(STORE).ok()
    stored.write_text("{}\n")
    sh(STORE).ok()
    fullest = git("rev-parse main~1")
    checks = [r for r in sh(f"csb-verify {ID}").ok().records if r["path"] == MAIN]
    assert [r["commit"] for r in checks] == [git("rev-parse main"), fullest]
    with open(stored, "a") as file:  # of the size of the fullest, and other: no damage
        file.write("[]\n" * 29)
    sh("csb-verify").ok()
    lose(f"main~1:{MAIN}", data=b"")
    done = sh("csb-verify")
    assert done.rc == 1 and f"an older version of '{MAIN}'" in done.err
    assert [r["commit"] for r in done.records if not r["ok"]] == [fullest]
    lose(f"main~1:{MAIN}")
    done = sh("csb-verify")
    reasons = [r["reason"] for r in done.records if not r["ok"]]
    assert reasons == ["the store has lost it"]
    assert sh("csb-verify --repair").rc == 1


def test_a_version_that_was_outgrown_is_not_read(sh, stored):
    assert [r["path"] for r in sh(f"csb-verify {ID}").ok().records].count(MAIN) == 1


@pytest.mark.parametrize("data", [None, b"", b"rubbish"])
@pytest.mark.parametrize("lost", [["main:projects"], ["main:skills/a", "main:skills"]])
@pytest.mark.few(1)
def test_lost_trees_come_out_the_same(sh, stored, git, lose, lost, data):
    ids = [git(f"rev-parse {name}") for name in lost]
    lose(*lost, data=data)
    with open(stored, "a") as file:
        file.write("{}\n")
    # The next commit takes that as it is.
    assert sh(STORE).rc or lost[-1] == "main:skills"
    tip = git("rev-parse main")
    done = sh("csb-verify")
    assert done.rc == 1 and any(oid in done.err for oid in ids)
    done = sh("csb-verify --repair")
    assert done.rc == 0 and {*ids} <= {r.get("oid") for r in done.records if r["ok"]}
    assert git("rev-parse main") == tip
    git("fsck --full --strict")
    sh("csb-verify --repair").ok()
    sh(STORE).ok()
    assert git(f"show main:{MAIN}") == stored.read_text().strip()
    sh("csb-verify").ok()


@pytest.mark.parametrize("data", [None, b"", b"\xfftOc\0\0\0\2" + b"\0" * 1064])
@pytest.mark.few(1)
def test_a_lost_idx_is_made_anew(sh, home, stored, git, data):
    """All of it is in the pack: no version is lost, and no history begins anew."""
    (home.claude / "CLAUDE.md").write_text("1\n")
    sh(STORE).ok()
    (home.claude / "CLAUDE.md").unlink()
    sh(STORE).ok()
    sh("csb-gc --now").ok()
    before = git("rev-list --objects --all")
    (idx,) = (home.backup / "git/objects/pack").glob("*.idx")
    idx.chmod(0o600)
    idx.unlink() if data is None else idx.write_bytes(data)
    assert sh("csb-verify").rc == 1
    mended = sh("csb-verify --repair")
    assert mended.rc == 0 and "is made anew from its pack" in mended.err
    assert git("rev-list --objects --all") == before and git("fsck --full") == ""
    sh("csb-verify --repair").ok()


@pytest.mark.parametrize(("lost", "base"), [
    ("main:projects", "main~1"), ("main", "main~1"), ("main:skills", None),
    ("main^{tree}", "main~1"), ("main:.csb", "main~1")])
@pytest.mark.few(1)
def test_what_cannot_come_back_is_set_aside(sh, home, stored, git, lose, lost, base):
    """Without csb.seen: the newest commit that is whole is followed, and all of the
    disk stored. What is left of the others holds nothing up."""
    tip, oid = git("rev-parse main"), git(f"rev-parse {lost}")
    base = base and git(f"rev-parse {base}")
    lose(lost)
    (home.backup / "git/csb.seen").unlink()
    done = sh("csb-verify")
    assert done.rc == 1 and oid in done.err and "csb-verify --repair" in done.err
    shutil.move(home.claude, home.path / "away")
    done = sh("csb-verify --repair")
    assert done.rc == 1
    assert "directory is there" in done.err.replace(f" '{home.claude}'", "")
    assert "nothing was changed" in done.err
    shutil.move(home.path / "away", home.claude)
    done = sh("csb-verify --repair")
    assert "run csb backup now" in done.err
    broken = git("for-each-ref --format='%(objectname) %(refname)' refs/csb").split()
    assert bool(broken) == (lost not in ("main", "main^{tree}")), (
        "if a file of it is left"
    )
    sh(STORE).ok()
    assert git("show main:" + MAIN) == stored.read_text().strip()
    assert git("rev-list main").split()[-1]
    assert not base or git("merge-base main " + base) == base
    assert not broken or tip in git(f"log -1 --format=%B {broken[0]}")
    for line in (
        "csb-verify",
        f"csb-history {ID}",
        f"csb-restore --dry-run {ID}",
        "csb-gc --now",
        "csb-index --rebuild",
    ):
        sh(line).ok()
    assert f"missing tree {oid}" not in git("fsck --full") or lost == "main:skills"


@pytest.mark.long
def test_backups_go_on_over_damaged_trees(sh, home, stored, git, lose):
    """git believes that it has an object whose file is empty,
    and would never store it again."""
    for data in (b"", b"x\x9c", None):
        trees = []
        listed = git("cat-file --batch-all-objects --batch-check")
        for line in listed.split("\n"):
            oid, kind, _ = line.split()
            if kind == "tree":
                trees.append(oid)
        lose(*trees, data=data)
        (home.backup / "git/csb.seen").unlink()
        assert "starts a new history" in sh("csb-verify --repair").err
        for line in (
            STORE,
            "csb-verify",
            f"csb-restore --dry-run {ID}",
            "csb-index --rebuild",
        ):
            sh(line).ok()
        assert git("show main:" + MAIN) == stored.read_text().strip()


def test_what_is_left_before_a_lost_commit(sh, home, stored, git, lose):
    """The newest commit, and a tree of each other one:
    what was deleted is still found."""
    stored.unlink()
    (home.claude / f"projects/-p/{ID[:-1]}6.jsonl").write_text("{}\n")
    for _ in range(2):
        sh(STORE).ok()
        (home.claude / "skills-x.md").write_text("other\n")
    commits = git("rev-list main").split()
    lose("main", *{git(f"rev-parse {oid}:.csb") for oid in commits})
    (home.backup / "git/csb.seen").unlink()
    assert "is kept as refs/csb/broken-" in sh("csb-verify --repair").err
    sh(STORE).ok()
    for line in ("csb-verify", f"csb-restore {ID}", "csb-index --rebuild"):
        sh(line).ok()
    assert stored.exists()


def test_what_is_left_comes_in_its_order(sh, home, git, lose):
    """Whatever the clock said, of a history without its newest commit."""
    sh("csb-gitcommit --make").ok()
    stream = ""
    for number, seconds in enumerate((5, 5, 9, 5, 1, 5, 5), 1):
        stream += f"commit refs/heads/main\ncommitter csb <csb> {seconds} +0000\n"
        stream += "data 2\nx\n\n"
        for path in (MAIN, "skills/a"):
            text = f"{number}" * number
            stream += f"M 100644 inline {path}\ndata {len(text)}\n{text}\n"
    sh(f"git --git-dir={home.backup}/git fast-import --quiet", stream.encode()).ok()
    (home.claude / "settings.json").write_text("{}\n")
    lose("main", *(f"main~{number}:skills" for number in range(7)))
    assert "starts a new history" in sh("csb-verify --repair").err
    ref = git("for-each-ref --format='%(refname)' refs/csb")
    commits = git(f"rev-list --reverse {ref}").split()
    left = [git(f"show {oid}:{MAIN}") for oid in commits]
    assert left == [f"{number}" * number for number in range(1, 7)]


def test_what_is_left_of_a_damaged_history(sh, home, stored, git, lose):
    """Each file that can be read, and a lost directory as it was in
    the backup before."""
    for number in range(3):
        for path in (
            stored,
            home.claude / "skills/a/SKILL.md",
            home.claude / "skills-x.md",
        ):
            path.write_text(path.read_text() + f"{number}\n")
        sh(STORE).ok()
    tip, before, base = git("rev-list -3 main").split()
    lose("main:projects/-p", "main:skills")
    (home.backup / "git/csb.seen").unlink()
    stored.unlink()
    sh("csb-verify --repair")
    sh(STORE).ok()
    ref = git("for-each-ref --format='%(refname)' refs/csb")
    assert git(f"merge-base main {ref}") == base
    assert git(f"rev-list --count {base}..{ref}") == "2"
    assert before in git(f"log -1 --format=%B {ref}~1")
    assert tip in git(f"log -1 --format=%B {ref}")
    for path, last in (
        (MAIN, "1"),
        ("skills/a/SKILL.md", "1"),
        ("skills-x.md", "2"),
    ):
        assert git(f"show {ref}:{path}")[-1] == last
    git("fsck --full --strict")
    sh("csb-verify && csb-gc --now").ok()
    sh(f"csb-restore {ID}").ok()
    assert stored.read_text().endswith("1\n")


def test_nothing_to_check_names_what_is_lost(sh, stored, git, lose):
    oid = git("rev-parse main^{tree}")
    lose("main^{tree}")
    sh("git clone -q --bare --no-local ~/.claude-backup/git ~/clone")
    sh("cp -r ~/.claude-backup/git ~/copy").ok()
    sh("git --git-dir ~/copy config csb.store false").ok()
    for store in ("~/.claude-backup/git", "~/copy"):
        done = sh(f"csb-verify --git-dir {store}")
        assert done.rc == 1 and oid in done.err and "nothing to check" in done.err
    sh("csb-verify --repair --git-dir ~/copy")
    assert sh("git --git-dir ~/copy for-each-ref").out.count("\n") == 1


def test_sha256(sh, home, tmp_path):
    """The ids of trees have the store's own length."""
    (home.claude / "projects").mkdir()
    (home.claude / "projects/a").write_text("a\n")
    sh("git init -q --bare --object-format=sha256 ~/s").ok()
    sh("git --git-dir ~/s config csb.store true").ok()
    sh("export CSB_GIT_DIR=~/s; csb-changes | csb-gitcommit").ok()
    sh("cd ~/s; rm -f $(git rev-parse main:projects | sed 's,^..,objects/&/,')").ok()
    done = sh("csb-verify --repair --git-dir ~/s")
    assert done.rc == 0
    assert done.records[0]["path"] == "projects/"
    assert done.records[0]["ok"]
    sh("csb-verify --git-dir ~/s").ok()
