"""what is known to have gone wrong in tools of this kind, each done here once more"""
import json
import os
import threading
import time

import pytest
from conftest import DAY, name

pytestmark = pytest.mark.logic

ID = "11111111-2222-4333-8444-555555555555"
MAIN = f"projects/-p/{ID}.jsonl"
LINE = '{"type":"user","message":{"role":"user","content":"%s"}}\n'


@pytest.fixture
def put(put):
    """put(path, text): a file of the Claude directory, 0600 and two days old; its path."""
    def write(path, text=LINE % "hello"):
        path = put(path, text, mtime=time.time() - 2 * DAY)
        path.chmod(0o600)
        return path
    return write


def tree(sh, git_dir=".claude-backup/git", ref="main"):
    """{path: (mode, oid)} of what a ref holds, by plain git."""
    lines = sh(f"git --git-dir={git_dir} ls-tree -r -z --full-tree {ref}").ok().out.split("\0")
    found = (line.split("\t", 1) for line in lines if line)
    return {path: tuple(head.split(" ")[::2]) for head, path in found if path[:5] != ".csb/"}


def commits(done):
    """{class: files} of the commits that a run speaks of."""
    return {r["class"]: r["files"] for r in done.records if r["kind"] == "commit"}


OBSTACLES = {
    "no identity": "git config --global user.useConfigOnly true",
    "a hook that fails": "printf '#!/bin/sh\\nexit 1\\n' | tee .git/hooks/pre-commit "
                         ".git/hooks/commit-msg .git/hooks/reference-transaction >/dev/null;"
                         "chmod +x .git/hooks/*",
    "a stale index.lock": "touch .git/index.lock",
    "ignored by .gitignore": "printf '*.jsonl\\nsettings.json\\n' > .gitignore",
    "ignored by info/exclude": "echo '*' > .git/info/exclude",
    "ignored by core.excludesFile": "echo '*' > ~/all; git config --global core.excludesFile ~/all",
    "a merge in progress": "echo 0123456789012345678901234567890123456789 > .git/MERGE_HEAD",
    "sparse checkout": "git config core.sparseCheckout true; echo /x > .git/info/sparse-checkout",
}


@pytest.mark.parametrize("obstacle", OBSTACLES)
@pytest.mark.few(1)
def test_what_is_said_to_be_stored_is_stored(sh, put, home, obstacle):
    """Where git add and git commit would do nothing, or fail, the backup is made all the same."""
    sh(f"git init -q; mkdir -p .git/hooks .git/info; {OBSTACLES[obstacle]}", cwd=home.claude).ok()
    put(MAIN)
    put("settings.json", "{}\n")
    done = sh("csb-backup").ok()
    found = tree(sh, ".claude/.git", "refs/csb/main")
    assert {MAIN, "settings.json"} <= found.keys()
    assert sum(commits(done).values()) == len(found)
    assert [r["session_id"] for r in sh("csb-list").ok().records] == [ID]
    assert sh(f"git --git-dir .claude/.git show refs/csb/main:{MAIN}").ok().out == LINE % "hello"
    assert all(r["ok"] for r in sh("csb-verify").ok().records)


@pytest.mark.parametrize("break_it", [
    "chmod -R a-w ~/.claude-backup/git", "rm -r ~/.claude-backup/git/objects",
    "echo [rubbish > ~/.claude-backup/git/config",
    "mkdir ~/.claude-backup/git/refs/heads/main.lock"])
@pytest.mark.few(1)
def test_a_backup_that_cannot_be_made_is_never_called_one(sh, put, break_it):
    """No commit record, a status that is not 0, a line that says why; the next list still works."""
    put(MAIN)
    sh("csb-backup").ok()
    put(MAIN, LINE % "hello" + LINE % "more")
    done = sh(f"{break_it}; csb-backup")
    assert done.rc not in (0, 2) and commits(done) == {} and done.err
    assert sh(f"csb-backup --quiet; {break_it} 2>/dev/null; csb-list").rc == 0
    assert sh("csb-backup --quiet").rc not in (0, 2)


def test_repositories_inside_are_stored_file_by_file(sh, put, home):
    """A skill that was cloned is stored with its contents, not as a link to a commit."""
    (home.path / ".gitconfig").write_text("[user]\nname=u\nemail=u\n")
    put(MAIN)
    for folder in ("skills/x", "agents/y", "projects/-p/memory", "a-new-thing"):
        put(f"{folder}/SKILL.md", folder)
        sh(f"git init -q {folder}; git -C {folder} add -A; git -C {folder} commit -qm 1",
           cwd=home.claude).ok()
    put("skills/z/.git", "gitdir: /elsewhere\n")
    put("skills/z/SKILL.md", "z")
    for init, git_dir, ref in (("", ".claude-backup/git", "main"),
                               ("rm -r ~/.claude-backup; git init -q ~/.claude; git -C ~/.claude "
                                "add -A 2>/dev/null; git -C ~/.claude commit -qm gitlinks",
                                ".claude/.git", "refs/csb/main")):
        sh(init)
        done = sh("csb-backup").ok()
        found = tree(sh, git_dir, ref)
        assert {f"{f}/SKILL.md" for f in ("skills/x", "agents/y", "projects/-p/memory",
                                          "a-new-thing", "skills/z")} <= found.keys()
        assert not any(mode == "160000" or ".git" in path.split("/")
                       for path, (mode, _) in found.items())
        assert sum(commits(done).values()) == len(found)
    refused = [r["path"] for r in sh("csb-changes").records if r["kind"] == "refused"]
    assert {"skills/x/.git", "skills/z/.git"} <= set(refused)


def test_what_nobody_has_heard_of_is_stored(sh, put):
    """No list of known names decides what is backed up; what is refused is listed with a reason."""
    stored = """keybindings.json output-styles/a.md hooks/h.sh rules/r.md workflows/w.yml
        statusline.sh distilled/a.md session-backup-config.json .gitattributes .gitignore
        brand-new.bin brand/new/dir/x memory/a.md .hidden/x PROJECTS/x Projects.jsonl""".split()
    for path in stored:
        put(path, path)
    refused = {"ide/1.lock": "ide", "statsig/x": "statsig"} | dict([[".credentials.json"] * 2])
    for path in refused:
        put(path, "canary")
    put(MAIN)
    sh("csb-backup").ok()
    found = tree(sh)
    assert set(found) == {*stored, MAIN}
    assert {r["path"]: bool(r["reason"]) for r in sh("csb-changes").records
            if r["kind"] == "refused"} == dict.fromkeys(refused.values(), True)
    assert "canary" not in sh("git --git-dir=.claude-backup/git cat-file --batch-all-objects "
                              "--batch").out


@pytest.mark.parametrize("autocrlf", ["true", "input"])
@pytest.mark.few(1)
def test_line_ends_come_back(sh, put, home, listing, autocrlf):
    """Tool results, file history and plans are the same bytes, whatever git would do to text."""
    for path in (MAIN, f"projects/-p/{ID}/tool-results/a.txt", f"file-history/{ID}/b@v1",
                 f"tasks/{ID}/1.json", f"session-data/{ID}/x.sh"):
        put(path, b"one\r\ntwo\nthree\rfour\r\n\xff\xfe\0\x1a")
    before = {path: entry for path, entry in listing(home.claude).items() if entry[2] != "dir"}
    sh(f"git config --global core.autocrlf {autocrlf}; git config --global core.eol crlf;"
       "git config --global core.safecrlf true; echo '* text=auto' > ~/.claude/.gitattributes").ok()
    sh("csb-backup").ok()
    sh("mv ~/.claude/projects ~/.claude/file-history ~/.claude/tasks ~/.claude/session-data ~; "
       f"mkdir ~/.claude/projects; csb-restore --yes {ID}").ok()
    after = listing(home.claude)
    assert {path: after[path] for path in before} == before


def test_deleted_restored_continued_and_deleted_again(sh, put, home):
    """The newest text comes back, also if no backup has seen the second deletion."""
    put("projects/-p/stay", "x")
    path = put(MAIN, LINE % "one")
    sh("csb-backup").ok()
    path.unlink()
    sh("csb-backup").ok()
    sh(f"csb-restore {ID}").ok()
    with path.open("a") as file:
        file.write(LINE % "two")
    newest = path.read_text()
    done = sh("csb-backup").ok().records
    assert [r["change"] for r in done if r["kind"] == "session"] == ["revived"]
    path.unlink()
    sh(f"csb-restore {ID}").ok()
    assert path.read_text() == newest and "two" in newest
    path.unlink()
    sh("csb-backup").ok()
    sh("csb-list --deleted | csb-restore").ok()
    assert path.read_text() == newest


@pytest.mark.long
@pytest.mark.parametrize("left", ["", LINE % "one", '{"type":"us'])
@pytest.mark.few(1)
def test_a_transcript_that_was_cut_is_news_and_comes_back_whole(sh, put, left):
    """Cut or emptied and backed up like that: it is told, listed, and its fullest is restored."""
    whole = "".join(LINE % word for word in ("one", "two", "three"))
    path = put(MAIN, whole)
    sh("csb-backup").ok()
    path.write_text(left)
    done = sh("csb-backup")
    assert done.rc == 0 and "rewritten" in done.err
    assert [r["change"] for r in done.records if r["kind"] == "session"] == ["shrunk"]
    assert "rewritten_at" in sh("csb-list").ok().records[0]
    commit = [r["commit"] for r in done.records if r["kind"] == "commit"][0]
    done = sh(f"csb-restore --force {ID}")
    assert done.rc == 0 and "had shrunk" in done.err and path.read_text() == whole
    record = json.dumps({"session_id": ID, "commit": commit}).encode()
    sh("csb-restore --force", record).ok()
    assert path.read_text() == left


@pytest.mark.long
def test_eighty_at_once(sh, put, home, listing):
    """There is no number of sessions above which something stays behind."""
    for number in range(80):
        put(f"projects/-p{number % 7}/{name(number)}.jsonl", LINE % number)
        put(f"projects/-p{number % 7}/{name(number)}/subagents/agent-1.jsonl", "{}\n")
        put(f"projects/-p{number % 7}/{name(number)}/tool-results/a.txt", str(number))
        put(f"file-history/{name(number)}/a@v1", str(number))
    put("projects/-p/stay", "x")
    before = {path: entry for path, entry in listing(home.claude).items() if entry[2] != "dir"}
    sh("csb-backup").ok()
    sh("rm -r ~/.claude/projects/-p? ~/.claude/file-history; csb-backup").ok()
    assert len(sh("csb-list --deleted").ok().records) == 80
    done = sh("csb-list --deleted | csb-restore").ok().records
    assert sum(r["result"] == "restored" and not r["path"].endswith("/") for r in done) == 320
    after = listing(home.claude)
    assert {path: after[path] for path in before} == before
    assert all(r["state"] == "present" for r in sh("csb-backup && csb-list").ok().records
               if "state" in r)


ODD = ["é", "e\u0301", 'quo"te', "back\\slash", "new\nline", "tab\t", " ", "-x", "*", "[a]", "?",
       ":(top)", "~", "日本語", "a'b", "$(x)", "\udcff"]


@pytest.mark.long
def test_names_that_git_quotes(sh, put, home, listing):
    """Every name comes back, of files and of projects, and so does its time."""
    for number, odd in enumerate(ODD):
        put(f"projects/-{odd}/{name(number)}.jsonl")
        put(f"projects/-{odd}/{name(number)}/tool-results/{odd}", odd.encode(errors="replace"))
        put(f"file-history/{name(number)}/{odd}/{odd}")
    put("projects/stay/x")
    before = {path: entry for path, entry in listing(home.claude).items() if entry[2] != "dir"}
    sh("csb-backup").ok()
    sh("rm -r ~/.claude/projects/-* ~/.claude/file-history; csb-backup").ok()
    assert len(sh("csb-list --deleted").ok().records) == len(ODD)
    sh("csb-list --deleted | csb-restore").ok()
    after = listing(home.claude)
    assert {path: after[path] for path in before} == before


@pytest.mark.long
def test_a_deletion_is_no_rename(sh, put):
    """A session purged in the backup that brings a near copy of it is deleted, not renamed."""
    text = "".join(LINE % f"line {number}" for number in range(200))
    path = put(f"projects/-p/{name(1)}.jsonl", text)
    sh("csb-backup").ok()
    path.unlink()
    put(f"projects/-p/{name(2)}.jsonl", text + LINE % "forked")
    put(f"projects/-q/{name(3)}.jsonl", text)
    sh("git config --global diff.renames copies").ok()
    sh("csb-backup").ok()
    for _ in range(2):
        assert [r["session_id"] for r in sh("csb-list --deleted").ok().records] == [name(1)]
        sh("csb-index --rebuild").ok()
    sh(f"csb-restore {name(1)}").ok()
    assert path.read_text() == text


@pytest.mark.parametrize("more", ["", "--git-dir ~/.git"])
@pytest.mark.few(1)
def test_a_repository_in_the_home_directory(sh, put, home, listing, more):
    """Paths are those of the Claude directory, modes and times come back, HOME's files stay."""
    (home.path / ".gitconfig").write_text("[user]\nname=u\nemail=u\n[init]\ndefaultBranch=main\n")
    (home.path / "mine").write_text("mine\n")
    sh("git init -q; git add mine; git commit -qm mine; echo >> mine; git add mine").ok()
    put(MAIN)
    put(f"projects/-p/{ID}/tool-results/a").chmod(0o640)
    put("projects/-p/stay", "x")
    before = listing(home.claude)
    status = sh("git status --porcelain=v2 -- mine").out
    sh(f"csb-backup {more}").ok()
    sh(f"rm -r ~/.claude/projects/-p/{ID}*; csb-backup {more}").ok()
    sh(f"csb-restore {more} {ID}").ok()
    after = listing(home.claude)
    assert {p: e for p, e in after.items() if e[2] != "dir"} == {
        p: e for p, e in before.items() if e[2] != "dir"}
    assert sh("git status --porcelain=v2 -- mine").out == status
    assert MAIN in "".join(sh(f"csb-verify {more}").ok().out)
    if more:
        assert "mine" not in tree(sh, ".git", "refs/csb/main")


def test_what_a_person_wrote_can_be_had_from_git_alone(sh, put):
    """Memory, settings and skills are there with git show, every version of them."""
    paths = ("projects/-p/memory/MEMORY.md", "settings.json", "skills/x/SKILL.md", "CLAUDE.md")
    for text in ("first\n", "second\n"):
        for path in paths:
            put(path, text)
        assert commits(sh("csb-backup").ok()) == {"user": len(paths)}
    for path in paths:
        for ref, text in (("main", "second\n"), ("main~1", "first\n")):
            assert sh(f"git --git-dir=.claude-backup/git show {ref}:{path}").ok().out == text


def test_nothing_becomes_readable_for_others(sh, put, home):
    """Whatever the umask: what was private is private in the store, the index and restored."""
    for path in (MAIN, f"projects/-p/{ID}/a"):
        put(path)
    put("projects/-p/stay", "x")
    sh(f"umask 000; csb-backup >/dev/null && rm -r ~/.claude/projects/-p/{ID}* && csb-backup && "
       f"csb-restore {ID}").ok()
    for top in (home.backup, home.claude / f"projects/-p/{ID}"):
        for folder, folders, names in os.walk(top):
            for path in (os.path.join(folder, n) for n in [".", *folders, *names]):
                assert os.lstat(path).st_mode & 0o077 == 0, path
    assert (home.claude / MAIN).stat().st_mode & 0o777 == 0o600


@pytest.mark.long
def test_a_backup_during_a_restore_spoils_nothing(sh, put, home):
    """What a backup saw half restored is whole in the next one."""
    paths = [put(f"projects/-p/{ID}/tool-results/{n}", f"{n}\n" * 99) for n in range(60)]
    paths.append(put(MAIN))
    put("projects/-p/stay", "x")
    sh("csb-backup").ok()
    texts = {path: path.read_bytes() for path in paths}
    sh(f"rm -r ~/.claude/projects/-p/{ID}*; csb-backup").ok()
    done = []
    restore = threading.Thread(target=lambda: done.append(sh(f"csb-restore {ID}")))
    restore.start()
    while restore.is_alive():
        assert sh("csb-changes | csb-gitcommit").rc == 0
    done[0].ok()
    sh("csb-backup").ok()
    assert {path: path.read_bytes() for path in paths} == texts
    assert {os.path.relpath(path, home.claude) for path in paths} < tree(sh).keys()
    assert sh("csb-verify").ok()


@pytest.mark.parametrize("text", [
    '{"pid": {pid}, "host": "x"}', "csb-backup, process {pid}, since 2099-01-01T00:00:00Z\n",
    "", "\xff\0"])
@pytest.mark.few(1)
def test_what_a_lock_file_says_blocks_nobody(sh, put, home, text):
    """A dead run's lock, its process id now another program's, holds nobody up."""
    put(MAIN)
    sh("csb-backup").ok()
    put(MAIN, LINE % "hello" + LINE % "more")
    for path in (home.backup / "lock", home.backup / "next", home.backup / "git/csb.lock"):
        path.write_text(text.replace("{pid}", str(os.getpid())), encoding="latin-1")
        os.utime(path, (4102444800, 4102444800))
    assert commits(sh("csb-backup --wait 0").ok()) == {"noise": 1}


def test_a_repository_of_another_user_is_neither_used_nor_made_anew(sh, put, home, listing):
    """git's own words about dubious ownership, and the repository as it was."""
    put(MAIN)
    sh("git init -q", cwd=home.claude).ok()
    if os.geteuid():
        pytest.skip("only root can give a directory to another user")
    for folder, folders, names in os.walk(home.claude):
        for path in [folder, *(os.path.join(folder, n) for n in folders + names)]:
            os.chown(path, 12345, 12345)
            os.chmod(path, 0o777)
    before = listing(home.claude)
    done = sh("csb-backup")
    assert done.rc not in (0, 2) and "dubious ownership" in done.err and commits(done) == {}
    assert listing(home.claude) == before and not (home.backup / "git").exists()
    sh(f"git config --global --add safe.directory {home.claude}").ok()
    assert commits(sh("csb-backup").ok()) == {"noise": 1}


def test_a_claude_directory_behind_a_link(sh, put, home):
    """By its link or by its real path, it is one directory with one store."""
    put(MAIN)
    os.rename(home.claude, home.path / "disk")
    home.claude.symlink_to(home.path / "disk")
    assert commits(sh("csb-backup").ok()) == {"noise": 1}
    done = sh("csb-backup", CLAUDE_CONFIG_DIR=str(home.path / "disk")).ok()
    assert [r for r in done.records if r.get("change") == "deleted"] == []
    (home.path / "disk" / MAIN).rename(home.path / "gone")
    (home.path / "disk/projects/-p/stay").touch()
    sh("csb-backup").ok()
    sh("csb-list --deleted | csb-restore").ok()
    assert (home.path / "disk" / MAIN).read_text() == LINE % "hello"


def test_a_byte_order_mark_on_stdin(sh, put):
    """What a Windows shell puts before the first record does not hide it."""
    put(MAIN)
    sh("csb-backup").ok()
    record = b"\xef\xbb\xbf" + json.dumps({"session_id": ID}).encode() + b"\r\n"
    assert {r["session_id"] for r in sh("csb-restore --dry-run", record).ok().records} == {ID}


@pytest.mark.long
def test_a_stub_in_place_of_a_session_gives_way_only_by_force(sh, put, home):
    """A stub neither counts as the session nor is it lost when the session comes back."""
    path = put(MAIN, LINE % "one" * 3)
    put("projects/-p/stay", "x")
    sh("csb-backup").ok()
    path.unlink()
    sh("csb-backup").ok()
    path.write_text('{"type":"file-history-snapshot"')
    sh("csb-backup")
    assert [r["state"] for r in sh("csb-list --all").ok().records] == ["deleted"]
    assert sh(f"csb-restore {ID}").rc == 1
    assert sh(f"csb-restore --force {ID}").rc == 0
    assert path.read_text() == LINE % "one" * 3
    assert len([p for p in path.parent.iterdir() if p.name.endswith(".replaced")]) == 1
