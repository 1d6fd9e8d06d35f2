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
ME = "[user]\nname=u\nemail=u\n"


@pytest.fixture
def put(put):
    """put(path, text): a file of the Claude directory, 0600, two days old; its path."""
    def write(path, text=LINE % "hello"):
        path = put(path, text, mtime=time.time() - 2 * DAY)
        path.chmod(0o600)
        return path
    return write


@pytest.fixture
def files(home, listing):
    """files(): {path: mode, time and contents} of the Claude directory's files now."""
    def look():
        found = listing(home.claude)
        return {path: entry for path, entry in found.items() if entry[2] != "dir"}
    return look


def tree(sh, git_dir=".claude-backup/git", ref="main"):
    """{path: mode} of what a ref holds, by plain git; without the journal."""
    done = sh(f"git --git-dir={git_dir} ls-tree -r -z --full-tree {ref}").ok()
    found = {}
    for line in done.out.split("\0")[:-1]:
        head, path = line.split("\t", 1)
        if not path.startswith(".csb/"):
            found[path] = head.split()[0]
    return found


def of_kind(kind, done):
    return [record for record in done.records if record["kind"] == kind]


def commits(done):
    """{class: files} of the commits that a run speaks of."""
    return {record["class"]: record["files"] for record in of_kind("commit", done)}


def changes(done):
    """What a run says has become of its sessions."""
    return [record["change"] for record in of_kind("session", done)]


def deleted(sh):
    """The ids of the sessions that are deleted."""
    return [row["session_id"] for row in sh("csb-list --deleted").ok().records]


OBSTACLES = {
    "no identity": "git config --global user.useConfigOnly true",
    "a hook that fails":
        "cd .git/hooks; printf '#!/bin/sh\\nexit 1\\n' |"
        "tee pre-commit commit-msg reference-transaction >/dev/null; chmod +x *",
    "a stale index.lock": "touch .git/index.lock",
    "ignored by .gitignore": "printf '*.jsonl\\nsettings.json\\n' > .gitignore",
    "ignored by info/exclude": "echo '*' > .git/info/exclude",
    "ignored by core.excludesFile":
        "echo '*' > ~/all; git config --global core.excludesFile ~/all",
    "a merge in progress":
        "echo 0123456789012345678901234567890123456789 > .git/MERGE_HEAD",
    "sparse checkout":
        "git config core.sparseCheckout true; echo /x > .git/info/sparse-checkout",
}


@pytest.mark.parametrize("obstacle", OBSTACLES)
@pytest.mark.few(1)
def test_what_is_said_to_be_stored_is_stored(sh, put, home, obstacle):
    """Where git add and git commit would do nothing, or fail, the backup is made."""
    prepare = f"git init -q; mkdir -p .git/hooks .git/info; {OBSTACLES[obstacle]}"
    sh(prepare, cwd=home.claude).ok()
    put(MAIN)
    put("settings.json", "{}\n")
    done = sh("csb-backup").ok()
    found = tree(sh, ".claude/.git", "refs/csb/main")
    assert {MAIN, "settings.json"} <= found.keys()
    assert sum(commits(done).values()) == len(found)
    assert [row["session_id"] for row in sh("csb-list").ok().records] == [ID]
    text = sh(f"git --git-dir .claude/.git show refs/csb/main:{MAIN}").ok().out
    assert text == LINE % "hello"
    assert all(record["ok"] for record in sh("csb-verify").ok().records)


@pytest.mark.parametrize("break_it", [
    "chmod -R a-w ~/.claude-backup/git",
    "rm -r ~/.claude-backup/git/objects",
    "echo [rubbish > ~/.claude-backup/git/config",
    "mkdir ~/.claude-backup/git/refs/heads/main.lock"])
@pytest.mark.few(1)
def test_a_backup_that_cannot_be_made_is_never_called_one(sh, put, break_it):
    """No commit record, a status that is not 0, a line that says why; list works."""
    put(MAIN)
    sh("csb-backup").ok()
    put(MAIN, LINE % "hello" + LINE % "more")
    done = sh(f"{break_it}; csb-backup")
    assert done.rc not in (0, 2)
    assert commits(done) == {} and done.err
    assert sh(f"csb-backup --quiet; {break_it} 2>/dev/null; csb-list").rc == 0
    assert sh("csb-backup --quiet").rc not in (0, 2)


INTO_THEIRS = """
rm -r ~/.claude-backup
cd ~/.claude
git init -q
git add -A 2>/dev/null
git commit -qm gitlinks
"""


def test_repositories_inside_are_stored_file_by_file(sh, put, home):
    """A skill that was cloned is stored with its contents, not as a commit's id."""
    (home.path / ".gitconfig").write_text(ME)
    put(MAIN)
    cloned = ["skills/x", "agents/y", "projects/-p/memory", "a-new-thing"]
    for folder in cloned:
        put(f"{folder}/SKILL.md", folder)
        clone = "git init -q && git add -A && git commit -qm 1"
        sh(clone, cwd=home.claude / folder).ok()
    put("skills/z/.git", "gitdir: /elsewhere\n")
    put("skills/z/SKILL.md", "z")

    for prepare, git_dir, ref in (
            ("", ".claude-backup/git", "main"),
            (INTO_THEIRS, ".claude/.git", "refs/csb/main")):
        sh(prepare)
        done = sh("csb-backup").ok()
        found = tree(sh, git_dir, ref)
        for folder in (*cloned, "skills/z"):
            assert f"{folder}/SKILL.md" in found
        for path, mode in found.items():
            assert mode != "160000" and ".git" not in path.split("/")
        assert sum(commits(done).values()) == len(found)

    refused = {row["path"] for row in of_kind("refused", sh("csb-changes"))}
    assert {"skills/x/.git", "skills/z/.git"} <= refused


STORED = """
    keybindings.json output-styles/a.md hooks/h.sh rules/r.md workflows/w.yml
    statusline.sh distilled/a.md session-backup-config.json .gitattributes .gitignore
    brand-new.bin brand/new/dir/x memory/a.md .hidden/x PROJECTS/x Projects.jsonl
    """.split()


def test_what_nobody_has_heard_of_is_stored(sh, put):
    """No list of known names decides what is backed up; what is refused is listed with
    a reason."""
    for path in STORED:
        put(path, path)
    for path in ("ide/1.lock", "statsig/x", ".credentials.json"):
        put(path, "canary")
    put(MAIN)
    sh("csb-backup").ok()
    assert tree(sh).keys() == {*STORED, MAIN}
    refused = of_kind("refused", sh("csb-changes").ok())
    paths = [record["path"] for record in refused]
    assert sorted(paths) == [".credentials.json", "ide", "statsig"]
    assert all(record["reason"] for record in refused)
    everything = "git --git-dir=.claude-backup/git cat-file --batch-all-objects --batch"
    assert "canary" not in sh(everything).out


@pytest.mark.parametrize("autocrlf", ["true", "input"])
@pytest.mark.few(1)
def test_line_ends_come_back(sh, put, files, autocrlf):
    """Tool results, file history, plans are the same bytes, whatever git would do."""
    for path in (MAIN, f"projects/-p/{ID}/tool-results/a.txt",
                 f"file-history/{ID}/b@v1", f"tasks/{ID}/1.json",
                 f"session-data/{ID}/x.sh"):
        put(path, b"one\r\ntwo\nthree\rfour\r\n\xff\xfe\0\x1a")
    before = files()
    sh(f"""git config --global core.autocrlf {autocrlf}
        git config --global core.eol crlf
        git config --global core.safecrlf true
        echo '* text=auto' > ~/.claude/.gitattributes
        csb-backup""").ok()
    sh(f"""cd ~/.claude; mv projects file-history tasks session-data ~
        mkdir projects
        csb-restore --yes {ID}""").ok()
    assert before.items() <= files().items()


def test_deleted_restored_continued_and_deleted_again(sh, put):
    """The newest text comes back, also if no backup has seen the second deletion."""
    put("projects/-p/stay", "x")
    path = put(MAIN, LINE % "one")
    sh("csb-backup").ok()
    path.unlink()
    sh("csb-backup").ok()
    sh(f"csb-restore {ID}").ok()
    newest = LINE % "one" + LINE % "two"
    path.write_text(newest)
    assert changes(sh("csb-backup").ok()) == ["revived"]
    path.unlink()
    sh(f"csb-restore {ID}").ok()
    assert path.read_text() == newest
    path.unlink()
    sh("csb-backup").ok()
    sh("csb-list --deleted | csb-restore").ok()
    assert path.read_text() == newest


@pytest.mark.long
@pytest.mark.parametrize("left", ["", LINE % "one", '{"type":"us'])
@pytest.mark.few(1)
def test_a_transcript_that_was_cut_is_news_and_comes_back_whole(sh, put, left):
    """Cut or emptied and backed up so: it is told, listed, its fullest is restored."""
    whole = LINE % "one" + LINE % "two" + LINE % "three"
    path = put(MAIN, whole)
    sh("csb-backup").ok()
    path.write_text(left)
    done = sh("csb-backup")
    assert done.rc == 0 and "rewritten" in done.err
    assert changes(done) == ["shrunk"]
    assert "rewritten_at" in sh("csb-list").ok().records[0]
    commit = of_kind("commit", done)[0]["commit"]

    done = sh(f"csb-restore --force {ID}")
    assert done.rc == 0 and "had shrunk" in done.err
    assert path.read_text() == whole
    record = json.dumps({"session_id": ID, "commit": commit})
    sh("csb-restore --force", record.encode()).ok()
    assert path.read_text() == left


@pytest.mark.long
def test_eighty_at_once(sh, put, files):
    """There is no number of sessions above which something stays behind."""
    for number in range(80):
        project = f"projects/-p{number % 7}"
        put(f"{project}/{name(number)}.jsonl", LINE % number)
        put(f"{project}/{name(number)}/subagents/agent-1.jsonl", "{}\n")
        put(f"{project}/{name(number)}/tool-results/a.txt", str(number))
        put(f"file-history/{name(number)}/a@v1", str(number))
    put("projects/-p/stay", "x")
    before = files()
    sh("csb-backup").ok()
    sh("rm -r ~/.claude/projects/-p? ~/.claude/file-history; csb-backup").ok()
    assert len(deleted(sh)) == 80

    done = sh("csb-list --deleted | csb-restore").ok()
    restored = [record for record in done.records
                if record["result"] == "restored" and record["path"][-1] != "/"]
    assert len(restored) == 320
    assert before.items() <= files().items()
    sessions = of_kind("session", sh("csb-backup && csb-list").ok())
    states = {record["state"] for record in sessions if "state" in record}
    assert states == {"present"}


ODD = [
    "\u00e9", "e\u0301", 'quo"te', "back\\slash", "new\nline", "tab\t", " ", "-x", "*",
    "[a]", "?", ":(top)", "~", "\u65e5\u672c\u8a9e", "a'b", "$(x)", "\udcff"]


@pytest.mark.long
def test_names_that_git_quotes(sh, put, files):
    """Every name comes back, of files and of projects, and so does its time."""
    for number, odd in enumerate(ODD):
        text = odd.encode(errors="replace")
        put(f"projects/-{odd}/{name(number)}.jsonl")
        put(f"projects/-{odd}/{name(number)}/tool-results/{odd}", text)
        put(f"file-history/{name(number)}/{odd}/{odd}")
    put("projects/stay/x")
    before = files()
    sh("csb-backup").ok()
    sh("rm -r ~/.claude/projects/-* ~/.claude/file-history; csb-backup").ok()
    assert len(deleted(sh)) == len(ODD)
    sh("csb-list --deleted | csb-restore").ok()
    assert before.items() <= files().items()


@pytest.mark.long
def test_a_deletion_is_no_rename(sh, put):
    """A session purged in the backup that brings a near copy of it is deleted."""
    text = "".join(LINE % f"line {number}" for number in range(200))
    path = put(f"projects/-p/{name(1)}.jsonl", text)
    sh("csb-backup").ok()
    path.unlink()
    put(f"projects/-p/{name(2)}.jsonl", text + LINE % "forked")
    put(f"projects/-q/{name(3)}.jsonl", text)
    sh("git config --global diff.renames copies").ok()
    sh("csb-backup").ok()
    assert deleted(sh) == [name(1)]
    sh("csb-index --rebuild").ok()
    assert deleted(sh) == [name(1)]
    sh(f"csb-restore {name(1)}").ok()
    assert path.read_text() == text


@pytest.mark.parametrize("more", ["", "--git-dir ~/.git"])
@pytest.mark.few(1)
def test_a_repository_in_the_home_directory(sh, put, home, files, more):
    """Paths are those of the Claude directory, all comes back, HOME's files stay."""
    (home.path / ".gitconfig").write_text(ME + "[init]\ndefaultBranch=main\n")
    (home.path / "mine").write_text("mine\n")
    sh("git init -q; git add mine; git commit -qm mine").ok()
    sh("echo >> mine; git add mine").ok()
    put(MAIN)
    put(f"projects/-p/{ID}/tool-results/a").chmod(0o640)
    put("projects/-p/stay", "x")
    before = files()
    status = sh("git status --porcelain=v2 -- mine").out
    sh(f"csb-backup {more}").ok()
    sh(f"rm -r ~/.claude/projects/-p/{ID}*; csb-backup {more}").ok()
    sh(f"csb-restore {more} {ID}").ok()
    assert files() == before
    assert sh("git status --porcelain=v2 -- mine").out == status
    assert MAIN in sh(f"csb-verify {more}").ok().out
    if more:
        assert "mine" not in tree(sh, ".git", "refs/csb/main")


def test_what_a_person_wrote_can_be_had_from_git_alone(sh, put):
    """Memory, settings and skills are there with git show, every version of them."""
    paths = ("projects/-p/memory/MEMORY.md", "settings.json", "skills/x/SKILL.md",
             "CLAUDE.md")
    for text in ("first\n", "second\n"):
        for path in paths:
            put(path, text)
        assert commits(sh("csb-backup").ok()) == {"user": len(paths)}
    show = "git --git-dir=.claude-backup/git show"
    for path in paths:
        assert sh(f"{show} main:{path}").ok().out == "second\n"
        assert sh(f"{show} main~1:{path}").ok().out == "first\n"


def test_nothing_becomes_readable_for_others(sh, put, home):
    """Whatever the umask: what was private is so in store and index, and back."""
    put(MAIN)
    put(f"projects/-p/{ID}/a")
    put("projects/-p/stay", "x")
    sh(f"umask 000; csb-backup >/dev/null && rm -r ~/.claude/projects/-p/{ID}* && "
       f"csb-backup && csb-restore {ID}").ok()
    for top in (home.backup, home.claude / f"projects/-p/{ID}"):
        for folder, folders, names in os.walk(top):
            for inside in (".", *folders, *names):
                path = os.path.join(folder, inside)
                assert os.lstat(path).st_mode & 0o077 == 0, path
    assert (home.claude / MAIN).stat().st_mode & 0o777 == 0o600


@pytest.mark.long
def test_a_backup_during_a_restore_spoils_nothing(sh, home, put):
    """What a backup saw half restored is whole in the next one."""
    texts = {MAIN: LINE % "hello"}
    for number in range(60):
        texts[f"projects/-p/{ID}/tool-results/{number}"] = f"{number}\n" * 99
    for path, text in texts.items():
        put(path, text)
    put("projects/-p/stay", "x")
    sh("csb-backup").ok()
    sh(f"rm -r ~/.claude/projects/-p/{ID}*; csb-backup").ok()

    done = []
    restore = threading.Thread(target=lambda: done.append(sh(f"csb-restore {ID}")))
    restore.start()
    while restore.is_alive():
        assert sh("csb-changes | csb-gitcommit").rc == 0
    done[0].ok()
    sh("csb-backup").ok()
    for path, text in texts.items():
        assert (home.claude / path).read_text() == text
    assert texts.keys() < tree(sh).keys()
    assert sh("csb-verify").ok()


@pytest.mark.parametrize("text", [
    '{"pid": {pid}, "host": "x"}',
    "csb-backup, process {pid}, since 2099-01-01T00:00:00Z\n",
    "",
    "\xff\0"])
@pytest.mark.few(1)
def test_what_a_lock_file_says_blocks_nobody(sh, put, home, text):
    """A dead run's lock, its process id now another program's, holds nobody up."""
    put(MAIN)
    sh("csb-backup").ok()
    put(MAIN, LINE % "hello" + LINE % "more")
    text = text.replace("{pid}", str(os.getpid()))
    in_2100 = 4102444800
    for lock in ("lock", "next", "git/csb.lock"):
        path = home.backup / lock
        path.write_text(text, encoding="latin-1")
        os.utime(path, (in_2100, in_2100))
    assert commits(sh("csb-backup --wait 0").ok()) == {"noise": 1}


def test_a_repository_of_another_user_is_neither_used_nor_made_anew(
        sh, put, home, listing):
    """git's own words about dubious ownership, and the repository as it was."""
    put(MAIN)
    sh("git init -q", cwd=home.claude).ok()
    if os.geteuid():
        pytest.skip("only root can give a directory to another user")
    sh("chown -R 12345:12345 ~/.claude; chmod -R 777 ~/.claude").ok()
    before = listing(home.claude)
    done = sh("csb-backup")
    assert done.rc not in (0, 2)
    assert "dubious ownership" in done.err
    assert commits(done) == {}
    assert listing(home.claude) == before
    assert not (home.backup / "git").exists()
    sh(f"git config --global --add safe.directory {home.claude}").ok()
    assert commits(sh("csb-backup").ok()) == {"noise": 1}


def test_a_claude_directory_behind_a_link(sh, put, home):
    """By its link or by its real path, it is one directory with one store."""
    put(MAIN)
    disk = home.path / "disk"
    home.claude.rename(disk)
    home.claude.symlink_to(disk)
    assert commits(sh("csb-backup").ok()) == {"noise": 1}
    done = sh("csb-backup", CLAUDE_CONFIG_DIR=str(disk)).ok()
    assert "deleted" not in [record.get("change") for record in done.records]
    (disk / MAIN).rename(home.path / "gone")
    (disk / "projects/-p/stay").touch()
    sh("csb-backup").ok()
    sh("csb-list --deleted | csb-restore").ok()
    assert (disk / MAIN).read_text() == LINE % "hello"


def test_a_byte_order_mark_on_stdin(sh, put):
    """What a Windows shell puts before the first record does not hide it."""
    put(MAIN)
    sh("csb-backup").ok()
    record = b"\xef\xbb\xbf" + json.dumps({"session_id": ID}).encode() + b"\r\n"
    rows = sh("csb-restore --dry-run", record).ok().records
    assert {row["session_id"] for row in rows} == {ID}


@pytest.mark.long
def test_a_stub_in_place_of_a_session_gives_way_only_by_force(sh, put):
    """A stub neither counts as the session nor is it lost when that comes back."""
    whole = LINE % "one" * 3
    path = put(MAIN, whole)
    put("projects/-p/stay", "x")
    sh("csb-backup").ok()
    path.unlink()
    sh("csb-backup").ok()
    path.write_text('{"type":"file-history-snapshot"')
    sh("csb-backup")
    [row] = sh("csb-list --all").ok().records
    assert row["state"] == "deleted"
    assert sh(f"csb-restore {ID}").rc == 1
    assert sh(f"csb-restore --force {ID}").rc == 0
    assert path.read_text() == whole
    assert len(list(path.parent.glob("*.replaced"))) == 1
