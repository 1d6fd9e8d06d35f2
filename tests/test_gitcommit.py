"""csb-gitcommit: where the store is, what it leaves alone, what nothing may change"""
import contextlib
import fcntl
import json
import os
import random
import signal
import subprocess
import threading
import time

import pytest
from conftest import held, put_into

pytestmark = pytest.mark.logic

ID = "11111111-2222-4333-8444-555555555555"
NASTY = [
    b"",
    b"a\r\nb\r\n",
    b"\0" * 9,
    b"\xef\xbb\xbf{}\n",
    b"$Id$ \xe2\x80\xa8\n",
    b"\xff\xfe",
    b"no newline",
]


def fill(home):
    """A small Claude directory with what filters like to change; {path: bytes}."""
    data = {f"projects/-p/{ID}.jsonl": b'{"a":1}\n', "settings.json": b"{}\r\n"}
    for number, value in enumerate(NASTY):
        data[f"todos/{number}.txt"] = value
    data["TODOS/0.txt"] = b"in another directory"
    data["todos/0.TXT"] = b"another file"
    for name, value in data.items():
        (home.claude / name).parent.mkdir(parents=True, exist_ok=True)
        (home.claude / name).write_bytes(value)
    return data


def backup(sh, more=""):
    """csb-changes | csb-gitcommit, without the records of what is refused."""
    without_refused = "(grep -v '\"refused\"' || :)"
    return sh(f"csb-changes {more} | csb-gitcommit {more} | {without_refused}")


def executable(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def test_our_own_store(sh, home):
    data = fill(home)
    noise, user = backup(sh).ok().records
    assert (noise["class"], noise["ref"]) == ("noise", "refs/heads/main")
    assert (user["class"], user["ref"]) == ("user", "refs/heads/main")
    size = sum(len(data[name]) for name in data if name != "settings.json")
    assert (noise["files"], noise["bytes"]) == (10, size)

    store = home.backup / "git"
    git = f"git --git-dir={store}"
    assert held(sh, store, "main") == data
    assert sh(f"{git} fsck --full --strict").rc == 0
    subjects = sh(f"{git} log --format=%s").out.splitlines()
    assert subjects == ["user: 1 new (4 bytes)", f"noise: 10 new ({size} bytes)"]
    assert not (home.backup / "config.json").exists(), "the usual place needs no name"
    assert sh(f"{git} config csb.claudeDir").out.strip() == str(home.claude)
    for folder, folders, names in os.walk(home.backup):
        for name in folders + names:
            path = os.path.join(folder, name)
            assert os.stat(path).st_mode & 0o077 == 0, path

    row, = sh(f"{git} show main:.csb/changes.jsonl").records
    assert (row["path"], row["change"], row["size"]) == ("settings.json", "new", 4)
    fields = "kind path class change size mtime mode oid"
    assert set(row) == set(fields.split())


HOSTILE = """
[core]
 autocrlf = true
 eol = crlf
 safecrlf = true
 attributesFile = {home}/attr
 hooksPath = {home}/hooks
 fileMode = false
 symlinks = false
 quotePath = true
 bigFileThreshold = 1
 logAllRefUpdates = always
 fsyncMethod = writeout-only
 ignoreCase = true
 sharedRepository = world
[pack]
 indexVersion = 1
[commit]
 gpgSign = true
[tag]
 gpgSign = true
[gpg]
 program = false
[user]
 useConfigOnly = true
[color]
 ui = always
[log]
 showSignature = true
 showRoot = false
[diff]
 renames = copies
 noprefix = true
[i18n]
 commitEncoding = latin1
[filter "x"]
 clean = false
 smudge = false
 required = true
[gc]
 auto = 1
[init]
 defaultBranch = odd
 templateDir = {home}/hooks
[transfer]
 fsckObjects = true
[fastimport]
 unpackLimit = 1
[alias]
 log = !false
"""


def test_hostile_configuration_changes_no_byte(sh, home):
    data = fill(home)
    (home.path / ".gitconfig").write_text(HOSTILE.replace("{home}", str(home.path)))
    (home.path / "attr").write_text(
        "* text=auto eol=crlf ident filter=x working-tree-encoding=UTF-16\n")
    hooks = "pre-commit reference-transaction post-index-change commit-msg"
    for hook in hooks.split():
        path = home.path / "hooks" / hook
        executable(path, "#!/bin/sh\necho hook >&2\nexit 1\n")
    (home.claude / ".gitattributes").write_text("* text eol=crlf\n")
    (home.claude / ".gitignore").write_text("*\n")
    leak = {
        "GIT_DIR": str(home.path / "victim"),
        "GIT_INDEX_FILE": str(home.path / "index"),
        "GIT_WORK_TREE": "/",
        "GIT_OBJECT_DIRECTORY": "/nowhere",
        "GIT_NAMESPACE": "x",
        "GIT_AUTHOR_DATE": "rubbish",
    }
    sh("csb-changes | csb-gitcommit", **leak).ok()
    assert not (home.path / "victim").exists()
    assert not (home.path / "index").exists()
    sh("csb-gc --now").ok()
    readable = sh("find .claude-backup -perm /077").ok().out
    assert readable == "", "nobody else may read it"
    (home.path / ".gitconfig").unlink()
    found = held(sh, home.backup / "git", "main")
    assert {name: value for name, value in found.items() if ".git" not in name} == data
    assert sh("csb-restore --target-dir ~/out " + ID).ok()
    assert (home.path / f"out/projects/-p/{ID}.jsonl").read_bytes() == b'{"a":1}\n'


ONE = "git add -A; git commit -qm one"
# Two branches that cannot be merged without a person.
TWO = (
    f"{ONE}; git checkout -qb b; echo b > f; git add f; git commit -qm b;"
    " git checkout -q main; echo m > f; git add f; git commit -qm m"
)
HOOKS = (
    "mkdir -p .git/hooks; for h in pre-commit reference-transaction;"
    " do printf '#!/bin/sh\\nexit 1' > .git/hooks/$h; chmod +x .git/hooks/$h; done"
)
STATES = {
    "unborn": "",
    "clean": ONE,
    "staged": f"{ONE}; echo s > s; git add s; echo t > t",
    "merge": f"{TWO}; git merge -q b || true",
    "rebase": f"{TWO}; git rebase -q b || true",
    "cherry-pick": f"{TWO}; git cherry-pick b || true",
    "detached": f"{ONE}; git checkout -q --detach",
    "index.lock": f"{ONE}; touch .git/index.lock",
    "bisect": f"{ONE}; echo 2 > 2; git add 2; git commit -qm 2;"
              " git bisect start -q HEAD HEAD~1",
    "stash": f"{ONE}; echo 9 > settings.json; git stash -q",
    "failing hooks": f"{ONE}; {HOOKS}",
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.few(2)
def test_the_users_repository_is_left_as_it_was(sh, home, listing, state):
    data = fill(home)
    (home.path / ".gitconfig").write_text(
        "[user]\nname=u\nemail=u\n[init]\ndefaultBranch=main\n"
        "[advice]\ndetachedHead=false\n")
    status = "GIT_OPTIONAL_LOCKS=0 git status --porcelain=v2 --branch"
    sh(f"git init -q; {STATES[state]}", cwd=home.claude)
    before = listing(home.claude)
    told = sh(status, cwd=home.claude).out
    records = backup(sh).ok().records
    assert {r["ref"] for r in records} == {"refs/csb/main"}

    after = listing(home.claude)
    ours = [".git/objects", ".git/refs/csb", ".git/csb", ".git/config"]
    ours += [".git/logs/refs/csb"]
    for path in before.keys() | after.keys():
        if path in (".git", ".git/refs") or path.startswith(tuple(ours)):
            continue
        assert before.get(path) == after.get(path), path
    assert sh(status, cwd=home.claude).out == told

    found = held(sh, home.claude / ".git", "refs/csb/main")
    if state not in ("merge", "rebase", "cherry-pick", "stash"):
        assert data.items() <= found.items()
    for name in found:
        assert not name.startswith(".git/")
    assert not (home.backup / "git").exists()
    time.sleep(2.1)
    assert backup(sh).ok().records == [] or backup(sh).ok().out == ""


def test_a_later_git_init_changes_nothing(sh, home):
    """Until the store in use is gone: that is said, and the repository gets the next.
    """
    fill(home)
    sh("csb-backup --quiet").ok()
    sh("git init -q", cwd=home.claude)
    (home.claude / "todos/new").write_text("x")
    assert backup(sh).ok().records[0]["ref"] == "refs/heads/main"
    (home.backup / "git").rename(home.backup / "moved")
    done = backup(sh)
    assert (done.rc, done.err.count("\n")) == (1, 1)
    assert f"cannot find the store '{home.backup}/git'" in done.err
    assert "without the old versions" in done.err
    assert {r["ref"] for r in done.records} == {"refs/csb/main"}
    assert not (home.backup / "git").exists()
    (home.claude / "todos/newer").write_text("x")
    backup(sh).ok()


def test_a_linked_git_dir_of_the_claude_directory_is_found(sh, home):
    fill(home)
    sh("git init -q --separate-git-dir ~/real.git .", cwd=home.claude).ok()
    assert backup(sh).ok().records[0]["ref"] == "refs/csb/main"
    assert held(sh, home.path / "real.git", "refs/csb/main")[f"projects/-p/{ID}.jsonl"]


def test_a_repository_around_the_claude_directory_is_not_used(sh, home):
    fill(home)
    sh("git init -q ~").ok()
    assert backup(sh).ok().records[0]["ref"] == "refs/heads/main"
    assert (home.backup / "git/HEAD").exists()


def test_a_given_git_dir_is_used_once_and_not_remembered(sh, home):
    data = fill(home)
    sh("csb-gitcommit --make --git-dir ~/elsewhere").ok()
    backup(sh, "--git-dir ~/elsewhere").ok()
    assert held(sh, home.path / "elsewhere", "main") == data
    assert not home.backup.exists()
    sh("csb-gitcommit --make; csb-changes | csb-gitcommit",
       CSB_GIT_DIR=str(home.path / "third")).ok()
    assert held(sh, home.path / "third", "main") == data and not home.backup.exists()


def test_a_store_of_another_directory_is_refused(sh, home):
    fill(home)
    backup(sh).ok()
    home.claude.rename(home.path / "moved")
    env = {"CLAUDE_CONFIG_DIR": str(home.path / "moved")}
    (home.path / "moved/todos/new").write_text("x")
    done = sh("csb-changes | csb-gitcommit", **env)
    assert (done.rc, done.err.count("\n")) == (3, 1) and "--adopt" in done.err
    assert sh("csb-changes | csb-gitcommit --adopt", **env).ok().records
    (home.path / "moved/todos/new2").write_text("x")
    assert sh("csb-changes | csb-gitcommit", **env).ok().records


def test_a_store_inside_the_claude_directory_is_refused(sh, home):
    fill(home)
    done = sh("csb-changes", CSB_HOME=str(home.claude / "backup"))
    assert done.rc == 1 and "inside what it protects" in done.err
    done = sh("csb-gitcommit --make --git-dir ~/.claude/store.git")
    assert (done.rc, done.err.count("\n")) == (1, 1)
    assert "inside what it protects" in done.err
    assert not (home.claude / "store.git").exists()
    sh("git init -q --bare ~/.claude/store.git").ok()
    found = sh("csb-changes --git-dir ~/.claude/store.git").ok().records
    assert [r["path"] for r in found if r["kind"] == "refused"] == ["store.git"]


def test_none_is_made_there_for_a_repository_that_is_gone(sh, home):
    """One of the user, which config.json names: its history is lost."""
    fill(home)
    sh("cd ~/.claude && git init -q && csb-backup --quiet && rm -rf .git").ok()
    for line in (
        "csb-backup --quiet",
        "csb-changes | csb-gitcommit",
        "csb-gitcommit </dev/null",
    ):
        done = sh(line)
        assert done.rc == 3
        assert f"'{home.claude}/.git' that config.json names" in done.err
        assert not (home.claude / ".git").exists()


def test_sha256_and_bare_repositories(sh, home):
    data = fill(home)
    sh("git init -q --bare --object-format=sha256 ~/256").ok()
    backup(sh, "--git-dir ~/256").ok()
    assert held(sh, home.path / "256", "refs/csb/main") == data
    (home.claude / "todos/0.txt").write_bytes(b"more")
    assert [r["files"] for r in backup(sh, "--git-dir ~/256").ok().records] == [1]
    assert len(backup(sh, "--git-dir ~/256").ok().out) == 0
    sh(f"csb-restore --git-dir ~/256 --target-dir ~/out {ID}").ok()


def test_dry_run_writes_nothing(sh, home, listing):
    fill(home)
    before = listing(home.path)
    records = sh("csb-changes | csb-gitcommit --dry-run").ok().records
    assert [(r["class"], r["files"], r["dry_run"]) for r in records] == [
        ("noise", 10, True), ("user", 1, True)]
    assert all("commit" not in record for record in records)
    assert listing(home.path) == before
    backup(sh).ok()
    (home.claude / "todos/0.txt").write_bytes(b"1")
    before = listing(home.path)
    records = sh("csb-changes | csb-gitcommit --dry-run").ok().records
    assert [(r["class"], r["files"], r["bytes"]) for r in records] == [("noise", 1, 1)]
    assert listing(home.path) == before


def test_a_run_waits_while_another_holds_the_lock(sh, home):
    """Nothing is committed until the lock is free; then all is."""
    fill(home)
    backup(sh).ok()
    (home.claude / "todos/0.txt").write_bytes(b"1")
    changes = sh("csb-changes").out.encode()
    with open(home.backup / "git/csb.lock", "r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write("somebody\n")
        file.flush()
        seen = []

        def release():
            tip = sh("git --git-dir ~/.claude-backup/git rev-parse main").out
            seen.append(tip == before)
            fcntl.flock(file, fcntl.LOCK_UN)

        before = sh("git --git-dir ~/.claude-backup/git rev-parse main").ok().out
        timer = threading.Timer(3, release)
        timer.start()
        assert sh("csb-gitcommit", changes).ok().records
        timer.join()
        assert seen == [True]


@pytest.mark.long
def test_runs_side_by_side_lose_nothing(sh, home, seeded):
    fill(home)
    results = []

    def work(number):
        for turn in range(2):
            name = home.claude / f"todos/{number}-{turn}"
            name.write_bytes(seeded.randbytes(seeded.randrange(5000)))
            results.append(backup(sh))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [(r.rc, r.err) for r in results if r.rc or r.err] == []
    backup(sh).ok()
    found = held(sh, home.backup / "git", "main")
    for number in range(4):
        for turn in range(2):
            name = f"todos/{number}-{turn}"
            assert found[name] == (home.claude / name).read_bytes()
    assert sh(f"git --git-dir={home.backup}/git fsck --full --strict").rc == 0


@pytest.mark.long
def test_growing_and_truncated_files_are_stored_as_they_were_at_one_instant(sh, home):
    fill(home)
    path = home.claude / f"projects/-p/{ID}.jsonl"
    line = b'{"n":%08d}' + b"x" * 5000 + b"\n"
    stop = threading.Event()

    def append():
        number = 0
        with open(path, "ab", buffering=0) as file:
            while not stop.is_set():
                file.write(line % number)
                number += 1
                time.sleep(0.0005)

    thread = threading.Thread(target=append)
    thread.start()
    try:
        versions = []
        for _ in range(6):
            backup(sh).ok()
            found = held(sh, home.backup / "git", "main")
            versions.append(found[f"projects/-p/{ID}.jsonl"])
    finally:
        stop.set()
        thread.join()
    final = path.read_bytes()
    for version in versions:
        assert final.startswith(version)
    assert len(set(versions)) > 2


BROKEN_GIT = "#!/bin/sh\nexec /nowhere"
OLD_GIT = """#!/bin/sh
case "$*" in *version*) echo git version 2.30.2; exit;; esac
exec /usr/bin/git "$@"
"""


@pytest.mark.parametrize("text", [BROKEN_GIT, OLD_GIT], ids=["broken", "old"])
def test_a_missing_or_old_git_is_one_line(sh, home, text):
    fill(home)
    fake = home.path / "fake/git"
    executable(fake, text)
    done = sh("csb-changes | csb-gitcommit", PATH=f"{fake.parent}:{home.env['PATH']}")
    assert (done.rc, done.err.count("\n"), done.out) == (1, 1, "")
    assert not (home.backup / "git").exists()


def test_a_git_that_is_killed_leaves_no_keep(sh, home):
    """Beside a pack that it has not made yet: a later run could not make the same."""
    fill(home)
    store = home.backup / "git"
    git = sh("command -v git").ok().out.strip()
    keep = f"{store}/objects/pack/pack-{'0' * 40}.keep"
    fake = home.path / "fake/git"
    executable(
        fake,
        "#!/bin/sh\n"
        f"case $* in *fast-import*) touch {keep}; kill -9 $$;; esac\n"
        f'exec {git} "$@"\n')
    done = sh("csb-changes | csb-gitcommit", PATH=f"{fake.parent}:{home.env['PATH']}")
    assert done.rc == 1 and "cannot commit" in done.err
    assert sh(f"ls {store}/objects/pack | grep keep").out == ""
    backup(sh).ok()


def test_without_git_it_is_a_missing_tool(sh, home, tools):
    fill(home)
    backup(sh).ok()
    (home.path / "few").mkdir()
    (home.path / "few/python3").symlink_to(tools.python)
    (home.claude / "todos/0.txt").write_text("more")
    lines = ["csb-backup", "csb-verify", "csb-gc", "csb-push x"]
    for line in [*lines, "csb-restore --deleted"]:
        done = sh(f"PATH={tools.bin}:~/few; {line}")
        assert done.rc == 3, done
        assert "cannot run git: it is not installed" in done.err, done


def test_a_full_disk_is_said_and_the_next_run_succeeds(sh, home):
    data = fill(home)
    (home.claude / "todos/big").write_bytes(random.randbytes(3 << 20))
    done = sh("csb-changes > ~/c; ulimit -f 1024; csb-gitcommit < ~/c")
    assert done.rc == 1 and done.err.count("\n") == 1
    assert "cannot store 'todos/big': File too large" in done.err
    assert not list(home.backup.glob("git/**/.csb-tmp-*"))
    assert held(sh, home.backup / "git", "main") == data, "what there was room for"
    backup(sh).ok()
    data["todos/big"] = (home.claude / "todos/big").read_bytes()
    assert data.items() <= held(sh, home.backup / "git", "main").items()
    assert sh(f"git --git-dir={home.backup}/git fsck --full --strict").rc == 0


@pytest.mark.parametrize("damage", [b"", b"rubbish"])
def test_a_damaged_object_is_noticed_and_stored_anew(sh, home, damage):
    fill(home)
    backup(sh).ok()
    data = b"a new thought\n"
    store = f"{home.backup}/git"
    oid = sh(f"git --git-dir={store} hash-object -w --stdin", data).ok().out.strip()
    loose = home.backup / "git/objects" / oid[:2] / oid[2:]
    loose.chmod(0o600)
    loose.write_bytes(damage)
    (home.claude / "todos/thought").write_bytes(data)
    backup(sh).ok()
    assert held(sh, store, "main")["todos/thought"] == data
    assert sh(f"git --git-dir={store} fsck --full --strict").rc == 0


def begin_anew(sh, store):
    """A power cut took the ref and csb.seen: the store gets all of a backup again."""
    (store / "refs/heads/main").unlink()
    (store / "csb.seen").unlink()
    backup(sh).ok()
    sh(f"git --git-dir={store} fsck --full --strict").ok()


def test_a_pack_of_trees_that_a_power_cut_has_torn(sh, home):
    """git takes what it should hold for stored, and would never write it again."""
    for number in range(110):
        put_into(home, f"todos/{number}/file", f"{number}")
    backup(sh).ok()
    store = home.backup / "git"
    for pack in list(store.glob("objects/pack/*.pack")):
        if " tree " in sh(f"git verify-pack -v {pack.with_suffix('.idx')}").ok().out:
            pack.chmod(0o600)
            os.truncate(pack, pack.stat().st_size // 2)
    begin_anew(sh, store)


def test_a_journal_that_a_power_cut_has_torn(sh, home):
    """The next run makes the same one, and git takes it for stored by its name."""
    for number in range(30):
        put_into(home, f"todos/{number}/file", f"{number}")
    backup(sh).ok()
    store = home.backup / "git"
    journal = sh(f"git --git-dir={store} rev-parse main:.csb/changes.jsonl").ok().out
    for pack in store.glob("objects/pack/*.pack"):
        entries = sh(f"git verify-pack -v {pack.with_suffix('.idx')}").ok().out
        for entry in entries.splitlines():
            if not entry.startswith(journal.strip()):
                continue
            _, _, _, _, offset, *_ = entry.split()
            pack.chmod(0o600)
            with open(pack, "r+b") as file:
                file.seek(int(offset) + 20)
                file.write(bytes(40))
    begin_anew(sh, store)


def test_what_a_killed_run_left_is_swept_after_a_day(sh, home):
    """Temporary files of git and of ours, if they are old and their process is dead."""
    fill(home)
    backup(sh).ok()
    pack = home.backup / "git/objects/pack"
    pack.mkdir(exist_ok=True)
    folder = home.backup / "git.4194305.tmp"
    (folder / "objects/00").mkdir(parents=True)
    of_git = home.backup / "git/objects/ab/tmp_obj_old"
    of_git.parent.mkdir(exist_ok=True)
    old = [
        pack / "tmp_pack_old",
        of_git,
        home.backup / ".csb-tmp-4194305-00ff",
        home.backup / "git/.csb-tmp-4194305-00ff",
    ]
    new = [pack / "tmp_pack_new", home.backup / ".csb-tmp-4194305-00fe"]
    alive = home.backup / f".csb-tmp-{os.getpid()}-00ff"
    for path in (*old, *new, alive):
        path.write_bytes(b"x")
    yesterday = time.time() - 90000
    for path in (*old, folder, alive):
        os.utime(path, (yesterday, yesterday))

    (home.claude / "todos/0.txt").write_bytes(b"1")
    backup(sh).ok()
    there = [path for path in (*old, folder) if path.exists()]
    assert there == [of_git], "where git writes"
    sh("csb-gc").ok()
    assert [path for path in (*old, folder) if path.exists()] == []
    for path in (*new, alive):
        assert path.exists()


def test_a_copy_without_empty_directories_goes_on(sh, home):
    """As git itself, and some tools that copy, leave them out."""
    fill(home)
    backup(sh).ok()
    sh("find .claude-backup/git/objects -type d -empty -delete").ok()
    assert not (home.backup / "git/objects/pack").exists()
    (home.claude / "todos/0.txt").write_text("more")
    assert [r["files"] for r in backup(sh).ok().records] == [1]
    sh("rmdir .claude-backup/git/objects/pack")
    sh("csb-gc --now && csb-verify >/dev/null").ok()


@pytest.mark.parametrize("line", [
    "csb-restore --deleted --yes",
    "csb-verify",
    "csb-find --lost",
    "csb-backup --accept-deletions",
])
@pytest.mark.few(2)
def test_a_clone_that_was_copied_without_empty_directories_is_used(sh, home, line):
    """Its refs are packed: without their directory git would see no repository."""
    fill(home)
    backup(sh).ok()
    sh("cd .claude-backup; git clone -q --bare --no-local git copy; rm -r git "
       "~/.claude/projects/*; mv copy git; find git -type d -empty -delete").ok()
    assert not (home.backup / "git/refs").exists()
    done = sh(line)
    assert done.rc == 0 and done.records and "not a git" not in done.err, done


def test_a_home_that_has_moved_takes_its_store_along(sh, home):
    fill(home)
    unset = {"CLAUDE_CONFIG_DIR": None, "CSB_HOME": None}
    sh("csb-backup", **unset).ok()
    new = home.path / "moved"
    new.mkdir()
    for name in (".claude", ".claude-backup"):
        (home.path / name).rename(new / name)
    (new / ".claude/todos/0.txt").write_text("more")
    done = sh("csb-backup --quiet", HOME=str(new), **unset)
    assert done.rc == 3 and "--adopt" in done.err
    assert sh("csb-backup --adopt", HOME=str(new), **unset).rc == 0
    assert not (home.path / ".claude-backup").exists()
    assert sh(f"csb-restore --dry-run {ID}", HOME=str(new), **unset).ok().records


def test_a_linked_worktree_and_a_broken_git_directory(sh, home):
    (home.path / ".gitconfig").write_text("[user]\nname=u\nemail=u\n")
    sh("git init -q ~/repo; cd ~/repo; git commit -q --allow-empty -m 1;"
       " rmdir ~/.claude; git worktree add -q ~/.claude -b w").ok()
    fill(home)
    assert {r["ref"] for r in backup(sh).ok().records} == {"refs/csb/main"}
    assert held(sh, home.path / "repo/.git", "refs/csb/main")["settings.json"]


def test_an_empty_git_directory_is_no_repository(sh, home):
    fill(home)
    sh("git init -q ~; mkdir ~/.claude/.git").ok()
    assert {r["ref"] for r in backup(sh).ok().records} == {"refs/heads/main"}
    assert (home.backup / "git/HEAD").exists()


@pytest.mark.parametrize("year", ["12000", "0900"])
@pytest.mark.few(1)
def test_an_odd_date_stops_nothing(sh, home, year):
    data = fill(home)
    done = sh(f"touch -d {year}-01-01 ~/.claude/settings.json")
    if done.rc:
        pytest.skip(f"this file system keeps no date of the year {year}")
    backup(sh).ok()
    assert held(sh, home.backup / "git", "main") == data
    time.sleep(2.1)
    backup(sh).ok()
    assert backup(sh).ok().out == ""


def test_a_directory_becomes_a_link(sh, home):
    fill(home)
    (home.claude / "skills/x").mkdir(parents=True)
    (home.claude / "skills/x/f").write_text("1")
    backup(sh).ok()
    sh("mv ~/.claude/skills/x ~/x; ln -s ~/x ~/.claude/skills/x")
    backup(sh).ok()
    found = held(sh, home.backup / "git", "main")
    assert "skills/x/f" not in found
    assert found["skills/x"] == str(home.path / "x").encode()
    assert "skills/x/f" not in backup(sh).ok().out


@pytest.mark.parametrize("theirs", [False, True])
@pytest.mark.few(1)
def test_the_lock_of_a_killed_git_blocks_no_backup(sh, home, theirs):
    """git's lock on what is ours goes, for csb.lock is held; all others stay."""
    fill(home)
    if theirs:
        sh("git init -q", cwd=home.claude).ok()
        store, ref = home.claude / ".git", "refs/csb/main"
        ours = ["refs/csb/main.lock"]
        others = ["HEAD.lock", "index.lock", "refs/heads/main.lock"]
    else:
        store, ref = home.backup / "git", "main"
        ours = ["refs/heads/main.lock", "HEAD.lock", "config.lock", "packed-refs.lock"]
        others = []
    backup(sh).ok()
    for name in ours + others:
        (store / name).write_bytes(b"")
    (home.claude / "todos/0.txt").write_bytes(b"more")
    backup(sh).ok()
    assert [name for name in ours + others if (store / name).exists()] == others
    assert held(sh, store, ref)["todos/0.txt"] == b"more"


def test_a_lost_object_of_an_unchanged_file_is_stored_anew(sh, home):
    """Touched, copied: what the store should have is looked at, not believed."""
    fill(home)
    (home.claude / "link").symlink_to("nowhere")
    big = home.claude / "todos/big"
    big.write_bytes(random.randbytes(3 << 20))
    backup(sh).ok()
    store = home.backup / "git"
    for pack in store.glob("objects/pack/*"):
        pack.unlink()           # the large file's
    os.utime(big, (1, 1))
    for name in ("todos/0.txt", "link"):
        oid = sh(f"git --git-dir={store} rev-parse main:{name}").out.strip()
        (store / "objects" / oid[:2] / oid[2:]).unlink()
        os.utime(home.claude / name, (1, 1), follow_symlinks=False)
    backup(sh).ok()
    for record in sh("csb-verify").ok().records:
        assert record["ok"]


def test_a_damaged_large_object_is_no_proof_of_a_copy(sh, home):
    """A copy whose bytes the store has already, but spoilt, is stored once more."""
    fill(home)
    big = home.claude / "todos/big"
    big.write_bytes(random.randbytes(3 << 20))
    backup(sh).ok()
    store = home.backup / "git"
    pack, = store.glob("objects/pack/*.pack")
    pack.chmod(0o600)
    with open(pack, "r+b") as file:
        file.seek(1 << 20)
        file.write(b"rot")
    (home.claude / "todos/copy").write_bytes(big.read_bytes())
    (home.claude / "todos/other").write_bytes(b"fine")
    backup(sh).ok()
    other = sh(f"git --git-dir={store} cat-file blob main:todos/other").ok().out
    assert other == "fine"
    pack.unlink()
    assert held(sh, store, "main")["todos/copy"] == big.read_bytes()


def test_a_ref_that_is_gone_is_no_new_start(sh, home):
    """Who deletes our ref hides all history: that is said, and how to get it back."""
    fill(home)
    backup(sh).ok()
    git = f"git --git-dir={home.backup}/git"
    old = sh(f"{git} rev-parse main").ok().out.strip()
    sh(f"{git} update-ref -d refs/heads/main").ok()
    (home.claude / "todos/0.txt").write_bytes(b"more")
    done = backup(sh)
    assert done.rc == 1 and f"update-ref refs/heads/main {old}" in done.err
    sh(f"{git} update-ref refs/heads/main {old}").ok()
    assert backup(sh).ok().records


@pytest.mark.parametrize("loss", [
    "rm git/refs/heads/main",
    "rm -r git/refs",
    "rm -r git/refs/heads; >git/refs/heads",
])
@pytest.mark.few(2)
def test_what_a_ref_led_to_that_is_gone_comes_back(sh, home, loss):
    """csb.seen knows the commit: who reads the store says what is lost, and goes on."""
    fill(home)
    sh("csb-backup").ok()
    sh(loss, cwd=home.backup).ok()
    (home.claude / f"projects/-p/{ID}.jsonl").unlink()
    done = sh("csb-restore --deleted --yes")
    assert done.rc == 1 and "cannot find refs/heads/main any more" in done.err
    assert (home.claude / f"projects/-p/{ID}.jsonl").read_bytes() == b'{"a":1}\n'
    for line in ("csb-verify", f"csb-history {ID}"):
        done = sh(line)
        assert done.rc == 1 and done.records and "refs/heads/main" in done.err, done


@pytest.mark.parametrize("line", ["csb-backup", "csb-restore --deleted", "csb-verify"])
@pytest.mark.few(2)
def test_a_store_that_has_lost_its_head(sh, home, line):
    """What helps is said, and helps."""
    fill(home)
    backup(sh).ok()
    head = home.backup / "git/HEAD"
    text = head.read_text()
    head.unlink()
    done = sh(line)
    assert done.rc == 3
    assert f"echo {text.strip()} >{head} brings it back" in done.err
    head.write_bytes(b"\0" * 20)
    done = sh("csb-restore --deleted")
    assert done.rc == 3 and f"'{home.backup}/git' may have lost" in done.err
    assert text.strip() in done.err
    sh(f"echo {text.strip()} >{head}; csb-verify").ok()


@pytest.mark.parametrize("place", ["--git-dir .claude-backup/git", "--git-dir s", ""])
@pytest.mark.few(2)
def test_a_store_that_has_lost_its_configuration(sh, home, place):
    """What helps is said, and helps: the history goes on."""
    fill(home)
    if place:
        sh(f"csb-gitcommit --make {place}").ok()
        store = home.path / place.removeprefix("--git-dir ")
    else:       # the repository of a person
        sh("git init -q .claude").ok()
        store = home.claude / ".git"
    first = backup(sh, place).ok().records[0]
    (store / "config").unlink()
    (home.claude / "todos/0.txt").write_bytes(b"more")
    done = backup(sh, place)
    assert (done.rc, done.err.count("\n")) == (3, 1)
    assert f"the store '{store}': its file config is gone, git init" in done.err
    tidied = sh(f"csb-gc --now --git-dir={store}")
    assert tidied.rc == 3 and "config is gone, csb backup says what" in tidied.err
    sh(done.err.split("is gone, ")[1].split(" makes it")[0]).ok()
    again, = backup(sh, place).ok().records
    assert (again["ref"], again["files"]) == (first["ref"], 1)
    grown = f"merge-base --is-ancestor {first['commit']} {again['ref']}"
    sh(f"git --git-dir={store} {grown}").ok()


@pytest.mark.parametrize("line", [
    '{"kind":"change","oid":"abc"}',
    '{"kind":"change","path":["a"],"change":"new"}',
    '{"kind":"change","path":"a","change":[]}',
    '{"kind":"change","path":"a","change":{}}',
    '{"kind":"change","path":"a","oid":"-"}',
    '{"kind":"change","path":"a\\ud800b","change":"new"}',
    '{"kind":"change","path":"../a","change":"new","oid":"-","mode":"0700","size":0,'
    '"mtime":"2026-01-02T03:04:05Z"}',
])
@pytest.mark.few(2)
def test_a_record_that_makes_no_sense_costs_itself(sh, home, line):
    """It is named, and what else is in the input is stored."""
    fill(home)
    good = sh("csb-changes").ok().out
    done = sh("csb-gitcommit", (line + "\n" + good).encode("utf-8", "surrogateescape"))
    assert done.rc == 1 and done.err.startswith("csb-gitcommit: cannot store ")
    assert done.err.count("\n") == 1 and done.records


def read_so_far(process, path):
    """How far a process has come in a file that it has open."""
    fds = f"/proc/{process.pid}/fd"
    at = 0
    for fd in os.listdir(fds):
        with contextlib.suppress(FileNotFoundError):
            if os.readlink(f"{fds}/{fd}") == str(path):
                with open(f"{fds}info/{fd}") as info:
                    at = max(at, int(info.read().split()[1]))
    return at


def test_rewritten_and_longer_while_it_is_read(sh, home, tools):
    """A file that is rewritten in place is read again, never stored as a mixture."""
    path = home.claude / "todos/big"
    path.parent.mkdir()
    path.write_bytes(b"A" * (20 << 20))
    record = sh("csb-changes").ok().out
    process = subprocess.Popen(
        [tools.python, "-I", f"{tools.bin}/csb-gitcommit"],
        env=home.env,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        cwd=home.path,
    )
    process.stdin.write(record.encode())
    process.stdin.close()
    for _ in range(2000):       # until it is in the middle of the file
        if read_so_far(process, path) > 4 << 20:
            break
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGSTOP)
    with open(path, "r+b") as file:
        file.write(b"B" * (25 << 20))
    os.kill(process.pid, signal.SIGCONT)
    assert process.wait() == 0
    found = held(sh, home.backup / "git", "main")["todos/big"]
    # Whole or not: assert would print a difference of twenty megabytes.
    old = found == b"A" * (20 << 20)
    new = found == b"B" * (25 << 20)
    assert old or new, len(found)


RECORD = {
    "kind": "change",
    "path": "b.md",
    "class": "user",
    "change": "changed",
    "size": 2,
    "mtime": "2026-01-01T00:00:00.000000000Z",
    "mode": "0644",
}


@pytest.mark.parametrize("name", ["main", "main^{tree}", "main:projects"])
@pytest.mark.few(1)
def test_a_record_cannot_have_an_object_removed(sh, home, name):
    """An oid in a record is not believed: what is on disk is stored, and no more."""
    for letter in "ab":
        (home.claude / f"{letter}.md").write_text(letter)
    (home.claude / "projects").mkdir()
    (home.claude / "projects/x").write_text("x")
    sh("csb-changes | csb-gitcommit").ok()
    git = f"git --git-dir={home.backup}/git"
    oid = sh(f"{git} rev-parse {name}").ok().out.strip()
    sh("csb-gitcommit", json.dumps({**RECORD, "size": 5, "oid": oid}).encode()).ok()
    assert held(sh, home.backup / "git", "main")["b.md"] == b"b"
    (home.claude / "c.md").write_text("c")
    sh("csb-changes | csb-gitcommit").ok()
    assert sh(f"{git} fsck --full --strict").ok().err == ""


@pytest.mark.parametrize("field", [
    {"size": -1},
    {"size": "2"},
    {"size": True},
    {"mtime": 5},
    {"change": "nonsense"},
    {"change": None},
    {"path": ""},
    {"path": "/b.md"},
    {"path": "a//b"},
    {"path": ".csb/changes.jsonl"},
    {"path": "x/.GIT/config"},
    {"path": "a\0b"},
])
@pytest.mark.few(2)
def test_fields_that_cannot_be_true(sh, home, field):
    """They are named, and nothing of them is kept: the next run knows what it knew."""
    (home.claude / "b.md").write_text("b\n")
    sh("csb-changes | csb-gitcommit").ok()
    before = (home.backup / "git/csb.seen").read_bytes()
    done = sh("csb-gitcommit", json.dumps({**RECORD, **field}).encode())
    assert (done.rc, done.out, done.err.count("\n")) == (1, "", 1)
    assert done.err.startswith("csb-gitcommit: cannot store ")
    assert (home.backup / "git/csb.seen").read_bytes() == before
    sh("csb-changes | csb-gitcommit").ok()


@pytest.mark.parametrize("field", [
    {"mode": "-7777"},
    {"mode": "99"},
    {"mtime": "2026-01-01T00:00:00.-5Z"},
    {"inode": "a\0b c\n"},
    {"ctime": "junk"},
    {"oid": "-"},
    {"size": 10**15},
])
@pytest.mark.few(2)
def test_what_a_record_says_of_a_file_is_asked_of_the_disk(sh, home, field):
    """What is stored is what is there, with the times and the mode that it has."""
    path = home.claude / "b.md"
    path.write_text("b\n")
    sh("csb-changes | csb-gitcommit").ok()
    path.write_text("more\n")
    path.chmod(0o604)
    os.utime(path, (1767323045, 1767323045))
    sh("csb-gitcommit", json.dumps({**RECORD, **field}).encode()).ok()
    store = home.backup / "git"
    assert held(sh, store, "main")["b.md"] == b"more\n"
    line, = sh(f"git --git-dir={store} show main:.csb/changes.jsonl").records
    assert (line["size"], line["mode"]) == (5, "0604")
    assert line["mtime"] == "2026-01-02T03:04:05.000000000Z"
    assert {r["change"] for r in sh("csb-changes").ok().records} <= {"recheck"}


def test_objects_on_another_disk(sh, home, tmp_path):
    """A link where the objects are: they come aside on that disk."""
    here = os.stat(home.path).st_dev
    other = None
    for path in ("/var/tmp", "/dev/shm"):
        if os.path.isdir(path) and os.stat(path).st_dev != here:
            other = path
    if not other:
        pytest.skip("there is no second file system at /dev/shm or /var/tmp")
    (home.claude / "a.md").write_text("a\n")
    sh("csb-changes | csb-gitcommit").ok()
    away = f"{other}/csb-test-{os.getpid()}-{os.urandom(4).hex()}"
    try:
        objects = home.backup / "git/objects"
        sh(f"cp -a {objects} {away} && rm -rf {objects} && ln -s {away} {objects}").ok()
        (home.claude / "b.md").write_text("b\n")
        sh("csb-changes | csb-gitcommit").ok()
        checked = sh(f"git --git-dir={home.backup}/git fsck --full --strict").ok()
        assert checked.err == ""
    finally:
        sh(f"rm -rf {away}")


@pytest.fixture
def mixed(home, seeded):
    """A Claude directory of 130 files of all sorts, and what they hold by path."""
    made = {}
    for number in range(120):
        size = seeded.choice([0, 1, 15, 16, 2047, 2048, 70_000])
        name = f"{number:08d}-2222-4333-8444-555555555555.jsonl"
        data = seeded.randbytes(size // 2) + b"line\n" * (size // 10)
        made[f"projects/-p{number % 7}/{name}"] = data
    made["projects/-p1/x/tool-results/zeros"] = bytes(1 << 20)
    made["projects/-p1/x/tool-results/noise"] = seeded.randbytes(1 << 20)
    made["projects/-p1/x/tool-results/more"] = seeded.randbytes((1 << 20) + 1)
    made["projects/-p1/a b\n\xe9\u2028.jsonl"] = b"odd\r\n"
    made["history.jsonl"] = made["projects/-p2/twin"] = b"twice\n" * 9
    made["skills/s/SKILL.md"] = b"a skill\n"
    made["todos/one.json"] = b"[]"
    for path, data in made.items():
        file = home.claude / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return made


def left(home):
    """Names in the store that no whole object or pack has."""
    store = home.backup / "git"
    return [path for pattern in (".csb-tmp-*", "tmp_*", "fast_import_crash_*")
            for path in store.rglob(pattern)]


def test_many_small_files_are_one_pack(sh, home, mixed):
    """All come back from it; nothing is stored twice; the next run has nothing to do.
    """
    sh("csb-changes | csb-gitcommit").ok()
    store = home.backup / "git"
    assert held(sh, store, "main") == mixed
    checked = sh(f"git --git-dir={store} fsck --full --strict --no-dangling").ok()
    assert checked.out == ""
    of_blobs = []
    for pack in store.glob("objects/pack/*.pack"):
        listing = sh(f"git --git-dir={store} verify-pack -v {pack}").ok().out
        if " commit " not in listing:
            of_blobs.append(listing.count(" blob "))
        assert pack.stat().st_mode & 0o777 == 0o400
    small = {data for data in mixed.values() if len(data) <= 1 << 20}
    # One for the large file, one for all others.
    assert sorted(of_blobs) == [1, len(small)]
    assert sh(f"git --git-dir={store} prune-packed --dry-run").ok().out == ""
    assert not left(home)
    assert {r["change"] for r in sh("csb-changes").ok().records} <= {"recheck"}, "young"


@pytest.mark.parametrize("size", [30_000, 8 << 20])
def test_a_file_that_never_holds_still_leaves_nothing_behind(sh, home, size):
    """Each try that fails takes what it has written with it."""
    path = home.claude / "todos/restless"
    path.parent.mkdir()
    path.write_bytes(b"0" * size)
    (home.claude / "todos/other").write_bytes(b"fine")
    sh("csb-changes >~/in").ok()
    stop = threading.Event()

    def rewrite():
        number = 0
        while not stop.is_set():
            number += 1
            with open(path, "r+b") as file:
                file.write(b"%d" % (number % 10) * size)

    thread = threading.Thread(target=rewrite)
    thread.start()
    try:
        done = sh("csb-gitcommit <~/in")
    finally:
        stop.set()
        thread.join()
    store = home.backup / "git"
    assert held(sh, store, "main")["todos/other"] == b"fine"
    if size > 1 << 20:
        assert done.rc == 1
        assert "todos/restless': it was rewritten meanwhile" in done.err
    assert not left(home)
    assert sh(f"git --git-dir={store} fsck --full --unreachable").ok().out == ""
    backup(sh).ok()
    assert len(held(sh, store, "main")["todos/restless"]) == size


def test_a_name_with_a_replacement_character_is_deleted_like_others(sh, home):
    """As a real name; only what is new and missing was damaged on its way."""
    data = fill(home)
    path = home.claude / "odd\ufffd.md"
    path.write_text("x")
    backup(sh).ok()
    path.unlink()
    backup(sh).ok()
    assert held(sh, home.backup / "git", "main") == data
    record = {"kind": "change", "path": "new\ufffd.md", "change": "new"}
    done = sh("csb-gitcommit", json.dumps(record).encode())
    assert done.rc == 1 and "damaged in a pipe" in done.err


def test_a_lost_csb_seen_hides_no_deletion(sh, home):
    """A run for one session comes first, and does not know the other files."""
    fill(home)
    backup(sh).ok()
    (home.backup / "git/csb.seen").unlink()
    with open(home.claude / f"projects/-p/{ID}.jsonl", "a") as file:
        file.write("{}\n")
    sh(f"csb-changes --session {ID} | csb-gitcommit").ok()
    (home.claude / "todos/6.txt").unlink()
    backup(sh).ok()
    assert "todos/6.txt" not in held(sh, home.backup / "git", "main")
    journal = "git --git-dir=$CSB_HOME/git show main:.csb/changes.jsonl"
    row, = sh(journal).ok().records
    assert (row["path"], row["change"]) == ("todos/6.txt", "deleted")


def test_a_link_that_is_a_file_by_now_is_left_to_the_next_run(sh, home):
    fill(home)
    (home.claude / "todos/l").symlink_to("x")
    changes = sh("csb-changes").ok().out
    (home.claude / "todos/l").unlink()
    (home.claude / "todos/l").write_text("now a file")
    done = sh("csb-gitcommit", changes.encode())
    assert done.rc == 1 and done.err.count("\n") == 1
    assert "'todos/l': it is no link any more" in done.err
    assert "todos/l" not in held(sh, home.backup / "git", "main")
    backup(sh).ok()
    assert held(sh, home.backup / "git", "main")["todos/l"] == b"now a file"
