"""csb-push: the store elsewhere, whole, without secrets, nobody's work lost."""
import json
import os
import re
import subprocess

import pytest
from conftest import ROOT, line, name, typed

pytestmark = pytest.mark.logic

GITHUB = "ghp_1b2c3d4e5f6g7h8i9j0k1b2c3d4e5f6g7h8i9j"
URL = "https://anna:Tr0ub4dor@example.org"
STORE = 'git --git-dir="$CSB_HOME/git"'
GIT = f"{STORE} --work-tree=$CLAUDE_CONFIG_DIR -c user.name=a -c user.email=a@b"
COMMIT = f"{GIT} add -A $CLAUDE_CONFIG_DIR && {GIT} commit -qm x"
HOST = "csb/$(uname -n | cut -d. -f1 | tr A-Z a-z | tr -c a-z0-9\\\\n -)"
# What stands for ssh: it runs the command here.
SSH = '#!/bin/sh\necho "$@" >>"$HOME/ssh.log"\nshift $(($# - 1))\nexec sh -c "$1"\n'

PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


@pytest.fixture
def remote(sh, home):
    """An empty bare repository: its path."""
    sh("git init -q --bare remote.git").ok()
    return home.path / "remote.git"


@pytest.fixture
def before_push(sh, home):
    """before_push(line): run a shell line between csb-push's look and its push."""
    real = sh("command -v git").ok().out.strip()
    folder = home.path / "first"
    folder.mkdir()
    home.env["PATH"] = f"{folder}:{home.env['PATH']}"

    def run(line):
        script = folder / "git"
        script.write_text(
            '#!/bin/sh\n'
            f'case " $* " in *" push "*)\n{line}\nesac\n'
            f'exec {real} "$@"\n')
        script.chmod(0o755)

    return run


@pytest.fixture
def ssh(home):
    """The same by ssh: its address."""
    path = home.path / "ssh"
    path.write_text(SSH)
    path.chmod(0o755)
    home.env["GIT_SSH_COMMAND"] = str(path)
    return f"ssh://nowhere{home.path}/remote.git"


def backup(sh, **env):
    sh("csb-changes | csb-gitcommit >/dev/null", **env).ok()


def store(sh):
    """A commit of all that is there, as git alone makes it: faster than a backup."""
    sh(f"[ -d $CSB_HOME/git ] || csb-gitcommit --make >/dev/null; {COMMIT}").ok()


def branches(sh, path="remote.git"):
    """{branch: commit} of a repository."""
    refs = f"git --git-dir={path} for-each-ref --format='%(refname) %(objectname)'"
    found = {}
    for row in sh(refs).ok().out.splitlines():
        ref, commit = row.split()
        found[ref.removeprefix("refs/heads/")] = commit
    return found


def refuse(remote):
    """From now on the remote takes nothing."""
    hook = remote / "hooks/pre-receive"
    hook.write_text("#!/bin/sh\necho too large >&2\nexit 1\n")
    hook.chmod(0o755)


def other_machine(home, tmp_path, number):
    """The environment of another machine: an empty home."""
    path = tmp_path / f"machine{number}"
    (path / ".claude").mkdir(parents=True)
    return {
        "HOME": str(path),
        "CLAUDE_CONFIG_DIR": str(path / ".claude"),
        "CSB_HOME": str(path / ".claude-backup"),
    }


def bring_back(sh, remote, env):
    """What a new machine does to get everything from the remote."""
    clone = f"git clone -q --bare {remote} $CSB_HOME/git"
    done = sh(f"{clone} && csb-find --lost | csb-restore", **env)
    assert done.rc == 0, done


def bytes_of(paths):
    """What those of these files hold that are there."""
    return [path.read_bytes() for path in paths if path.exists()]


def contents(listed):
    """Mode and content of each file in what listing() gives."""
    files = {}
    for path, (mode, _, what) in listed.items():
        if what != "dir":
            files[path] = (mode, what)
    return files


def only_push(done):
    """The one record of a push that went well."""
    record, = done.ok().records
    assert record["kind"] == "push"
    return record


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.few(1)
def test_a_new_machine(sh, home, claude, remote, listing, tmp_path, own):
    """Everything comes back from the remote alone; beside work of one's own, too."""
    if not own:
        git = "git -c user.name=a -c user.email=a@b"
        sh("cd .claude && git init -q -b main && git add settings.json &&"
           f" {git} commit -qm mine && git push -q ../remote.git main").ok()
    results = claude / f"{name(0)}/tool-results"
    results.mkdir(parents=True)
    (results / "a.txt").write_bytes(b"\xff\r\n")
    backup(sh)
    (claude / f"{name(1)}.jsonl").write_text(line("more") * 50)
    backup(sh)

    before = contents(listing(home.claude / "projects"))
    configs = [home.path / ".claude/.git/config", home.backup / "git/config"]
    config = bytes_of(configs)
    record = only_push(sh("csb-push remote.git"))
    want = "main" if own else "csb/main"
    assert (record["branch"], record["remote"]) == (want, str(remote))
    assert branches(sh)[want] == record["commit"]
    assert len(branches(sh)) == (1 if own else 2)
    assert bytes_of(configs) == config

    new = other_machine(home, tmp_path, 2)
    bring_back(sh, remote, new)
    assert contents(listing(f"{new['CLAUDE_CONFIG_DIR']}/projects")) == before
    assert len(before) == 3
    projects = tmp_path / "machine2/.claude/projects"
    (projects / f"-srv-app/{name(2)}.jsonl").write_text(line("new"))
    backup(sh, **new)
    only_push(sh("csb-push origin", **new))
    assert sh("csb-find --lost", **new).ok().out == ""


def test_again(sh, home, claude, remote):
    """Only what is new goes, if anything is; --dry-run changes nothing."""
    store(sh)
    first = only_push(sh("csb-push --dry-run remote.git"))
    assert first["dry_run"] is True
    assert branches(sh) == {}
    done = only_push(sh("csb-push remote.git"))
    assert {**done, "dry_run": True} == first
    assert (done["files"], done["commits"]) == (3, 1)
    assert only_push(sh("csb-push remote.git")) == {**done, "commits": 0, "files": 0}
    (claude / f"{name(0)}.jsonl").write_text(line("a") * 3)
    store(sh)
    record = only_push(sh(f"csb-push file://{remote}"))
    assert (record["commits"], record["files"], record["branch"]) == (1, 1, "main")
    assert sh(f"{STORE} remote; {STORE} for-each-ref refs/remotes").ok().out == ""


def test_secrets_stay(sh, home, claude, remote):
    """Wherever they are: nothing is pushed, each is listed; --allow-secrets insists."""
    path = claude / f"{name(0)}.jsonl"
    text = line("a") + line(f"key {GITHUB}") + "x" * 99
    path.write_text(text)
    output = claude / name(1) / "out.txt"
    output.parent.mkdir()
    output.write_text(f"\n\nT={GITHUB}\n" + '{"kind":"session"}\n' * 3)
    (home.claude / "settings.json").write_text(f'{{\n  "env": {{"T": "{GITHUB}"}}\n}}')
    store(sh)
    for options in ("", "--dry-run"):
        done = sh(f"csb-push {options} remote.git")
        assert done.rc == 1
        assert branches(sh) == {}
        assert GITHUB not in done.out + done.err
        message = "csb-push: nothing is pushed: there are secrets in what is new"
        assert done.err.startswith(message)
        found = [(r["path"], r["line"], r.get("session_id")) for r in done.records]
        assert sorted(found) == [
            (f"projects/-srv-app/{name(0)}.jsonl", 2, name(0)),
            (f"projects/-srv-app/{name(1)}/out.txt", 3, name(1)),
            ("settings.json", 2, None),
        ]
        assert done.err.endswith("; with --allow-secrets they are pushed, too\n")
    only_push(sh("csb-push --allow-secrets remote.git"))

    another = "ghp_" + GITHUB[:3:-1]
    path.write_text(text + f"y\n{GITHUB}\n" + line(another))
    store(sh)
    record, = sh("csb-push remote.git").records
    assert record["line"] == 5, "what the remote has is not listed again"


def test_versions(sh, home, claude, remote):
    """A secret in an older version is found; one that several begin with once."""
    path = claude / f"{name(0)}.jsonl"
    for text in (
        line(GITHUB),
        line(GITHUB) + line("b"),
        line(GITHUB) + line("b") * 2,
        line("rewritten"),
        line("rewritten") + line("c") * 9,
        line("d"),
        "",
    ):
        path.write_text(text)
        store(sh)
    found = sh("csb-push remote.git").records
    assert [(one["line"], one["what"]) for one in found] == [(1, "github-token")]
    path.write_text(line("x"))
    only_push(sh("csb-push --allow-secrets remote.git"))
    for text in (line("x") + "torn", line("x") + "torn " + GITHUB):
        path.write_text(text)
        store(sh)
    one, = sh("csb-push remote.git").records
    assert one["line"] == 2


def test_a_key_that_grew(sh, home, claude, remote):
    """Its first lines are there already: it is found where it begins, and once."""
    begin = "-----BEGIN RSA PRIVATE KEY-----\n"
    body = "".join(f"{char}1{GITHUB[4:]}{GITHUB[4:24]}\n" for char in "abcdefgh")
    path = claude / f"{name(0)}/tool-results/a.txt"
    path.parent.mkdir(parents=True)

    def push_with(text):
        with open(path, "a") as file:
            file.write(text)
        store(sh)
        return sh("csb-push remote.git")

    for text in ("one\n", begin, body[:30]):
        only_push(push_with(text))
    done = push_with(body[30:])
    one, = done.records
    assert (done.rc, one["what"], one["line"]) == (1, "private-key", 2)

    transcript = claude / f"{name(1)}.jsonl"
    transcript.write_text(line(begin + body))
    store(sh)
    only_push(sh("csb-push --allow-secrets remote.git"))

    # The key itself is there already.
    transcript.write_text(line(begin + body) + line("more"))
    only_push(push_with("-----END RSA PRIVATE KEY-----\n" + line("more")))


@pytest.mark.few(2)
@pytest.mark.parametrize("branch", ["@{-1}", "a//b", "a..b", "''"])
def test_no_branch(sh, claude, remote, branch):
    store(sh)
    done = sh(f"csb-push --branch={branch} remote.git")
    assert done.rc == 1 and done.err.count("\n") == 1 and "invalid refspec" in done.err


def test_a_branch_that_git_would_take_for_something_else(sh, claude, remote):
    store(sh)
    for branch in ("refs/heads/y", "HEAD", "@", "-x"):
        done = sh(f"csb-push --branch={branch} remote.git")
        assert done.rc == 2 and "is no name of a branch" in done.err
    assert branches(sh) == {}


@pytest.mark.long
def test_machines(sh, home, claude, remote, tmp_path):
    """Each machine has its branch, the same each time, and overwrites no other."""
    backup(sh)
    only_push(sh("csb-push remote.git"))
    host = sh(f"echo {HOST}").ok().out.strip()
    told = branches(sh)
    second = other_machine(home, tmp_path, 2)
    third = other_machine(home, tmp_path, 3)
    for number, env in ((2, second), (3, third), (2, second)):
        folder = tmp_path / f"machine{number}/.claude/projects/-p"
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / f"{name(number)}.jsonl", "a") as file:
            file.write(line(f"of {number}"))
        backup(sh, **env)
        if number == 3:         # its host has the same name
            done = sh(f"csb-push {remote}", **env)
            assert done.rc == 1 and "--branch names one for this machine" in done.err
            only_push(sh(f"csb-push --branch third {remote}", **env))
        else:
            assert only_push(sh(f"csb-push {remote}", **env))["branch"] == host
    now = branches(sh)
    assert now["main"] == told["main"] and len(now) == 3
    (claude / f"{name(0)}.jsonl").write_text(line("a"))
    backup(sh)
    assert only_push(sh("csb-push remote.git"))["branch"] == "main"
    done = sh(f"csb-push --branch main {remote}", **second)
    assert done.rc == 1
    assert "'main': it holds what this store does not" in done.err
    record = only_push(sh(f"csb-push --branch x/y {remote}", **second))
    assert record["branch"] == "x/y"

    bring_back(sh, remote, other_machine(home, tmp_path, 9))
    found = (tmp_path / "machine9").glob(".claude/projects/*/*.jsonl")
    of_all_machines = [name(0), name(1), name(2), name(3)]
    assert sorted(path.stem for path in found) == of_all_machines


def test_a_new_machine_from_a_repository_of_ones_own(
        sh, home, claude, remote, tmp_path):
    """As README says it: what was once committed by hand does not come back."""
    git = "git -c user.name=a -c user.email=a@b"
    sh(f"cd {home.claude} && git init -q && git add -A && {git} commit -qm x"
       " && git push -q ~/remote.git HEAD:refs/heads/main").ok()
    (home.claude / "settings.json").write_text('{"new": 1}\n')
    (claude / f"{name(0)}.jsonl").write_text(line("the newest"))
    backup(sh)
    assert only_push(sh("csb-push remote.git"))["branch"] == "csb/main"
    with open(f"{ROOT}/README.md", encoding="utf-8") as file:
        steps = re.findall(r"^    (git .*csb/main .*)$", file.read(), re.M)
    new = other_machine(home, tmp_path, 2)
    for step in steps:
        sh(step.replace("clone", "clone -q").replace("REMOTE", str(remote)), **new).ok()
    assert len(steps) == 2
    sh("csb-find --lost | csb-restore", **new).ok()
    sh("csb-restore --in-place --path settings.json", **new).ok()
    there = tmp_path / "machine2/.claude"
    assert (there / "settings.json").read_text() == '{"new": 1}\n'
    project = there / "projects/-srv-app"
    assert (project / f"{name(0)}.jsonl").read_text() == line("the newest")
    (project / f"{name(5)}.jsonl").write_text(line("five"))
    backup(sh, **new)
    sh(f"{STORE} merge-base --is-ancestor {branches(sh)['csb/main']} main", **new).ok()
    record = only_push(sh(f"csb-push {remote}", **new))
    assert record["branch"] == sh(f"echo {HOST}").out.strip()


def test_a_clone_goes_on(sh, home, claude, remote, tmp_path):
    """Two machines that share a beginning: the first to push has main."""
    backup(sh)
    only_push(sh("csb-push remote.git"))
    new = other_machine(home, tmp_path, 2)
    bring_back(sh, remote, new)
    project = tmp_path / "machine2/.claude/projects/-srv-app"
    (project / f"{name(5)}.jsonl").write_text(line("five"))
    backup(sh, **new)
    assert only_push(sh(f"csb-push {remote}", **new))["branch"] == "main"
    (claude / f"{name(6)}.jsonl").write_text(line("six"))
    backup(sh)
    record = only_push(sh(f"csb-push {remote}"))
    assert record["branch"] == sh(f"echo {HOST}").out.strip()


def test_what_makes_a_repository_is_said(sh, home, claude):
    """Of a path where none is; what is typed then works, and spoils no folder."""
    store(sh)
    (home.path / "full").mkdir()
    (home.path / "full/mine").touch()
    (home.path / "empty").mkdir()
    for where in ["new/copy", "empty", "full", "full/mine", "it's"]:
        done = sh(f'csb-push "{where}"')
        assert (done.rc, done.out) == (1, ""), done
        assert done.err.count("\n") == 1, done
        advice = "(git init --bare .*) makes one, then (csb push .*)"
        make, push = re.search(advice, done.err).groups()
        assert sh(make).rc == 0
        assert "Pushed 1 commit" in sh(push).ok().out
    assert sorted(os.listdir(home.path / "full")) == ["csb.git", "mine", "mine.git"]


def test_what_git_says(sh, home, claude, remote):
    """In its own words, in one line; no password of an address is shown."""
    store(sh)
    for where, words in (
        ("ext::sh", "transport 'ext' not allowed"),
        ("nosuch://x", "'remote-nosuch' is not a git command"),
        ("https://me:geheim1@localhost:1/x", "Failed to connect"),
        ("-x", "pathname '-x' blocked"),
    ):
        done = sh(f"csb-push -- {where}")
        assert (done.rc, done.out) == (1, ""), done
        assert done.err.count("\n") == 1, done
        assert words in done.err
        assert "geheim1" not in done.err
        assert done.err.startswith("csb-push: cannot read '")

    refuse(remote)
    done = sh("csb-push remote.git")
    assert (done.rc, done.err.count("\n")) == (1, 1)
    assert branches(sh) == {}
    assert "[remote rejected]" in done.err
    assert "(pre-receive hook declined)" in done.err
    assert "remote: too large" in done.err


def test_no_backup(sh, home, claude):
    assert sh("csb-push x").rc == 3
    sh("csb-gitcommit --make").ok()
    done = sh("csb-push x")
    assert done.rc == 3 and "there is no backup in it" in done.err
    assert sh("csb-push").rc == 2


@pytest.mark.long
def test_what_a_person_sees(sh, home, claude, remote):
    """How far git has come, then one sentence; git's reason and ours if it fails."""
    store(sh)
    status, screen = typed(home, "csb push remote.git", TERM="xterm")
    assert status == 0 and "Writing objects" in screen
    assert screen.splitlines()[-1].startswith("Pushed 1 commit with ")

    refuse(remote)
    (claude / f"{name(0)}.jsonl").write_text(line("new"))
    store(sh)
    status, screen = typed(home, "csb-push remote.git", TERM="xterm")
    assert status == 1
    assert "too large" in screen
    assert "(pre-receive hook declined)" in screen
    last = f"csb-push: cannot push to '{remote}': git ended with status 1\r\n"
    assert screen.endswith(last)


def test_a_race(sh, home, claude, remote, before_push):
    """What another pushed in between stays; what was backed up then goes next time."""
    git = "git -c user.name=a -c user.email=a@b --git-dir=remote.git"
    store(sh)
    commit = sh(f"{STORE} rev-parse main").out.strip()
    other = f"$({git} commit-tree -m x $({git} mktree </dev/null))"
    before_push(f"{git} update-ref refs/heads/main {other}")
    done = sh("csb-push remote.git")
    assert done.rc == 1
    assert "fetch first" in done.err
    assert branches(sh)["main"] != commit

    sh("git --git-dir=remote.git update-ref -d refs/heads/main")
    (claude / f"{name(0)}.jsonl").write_text(line("new"))
    before_push(COMMIT)
    record = only_push(sh("csb-push remote.git"))
    assert record["commit"] == commit == branches(sh)["main"]
    assert sh(f"{STORE} rev-parse main").out.strip() != commit


def test_no_other_tool(sh, home, claude, remote, stages):
    """It searches by itself."""
    stages("csb-redact", None)
    (claude / f"{name(0)}.jsonl").write_text(line(f"key {GITHUB}"))
    store(sh)
    done = sh("csb-push remote.git")
    assert (done.rc, [one["what"] for one in done.records]) == (1, ["github-token"])
    assert branches(sh) == {}


def test_each_secret_once(sh, home, claude, remote):
    """However often it stands in versions of a file; what it means comes first."""
    result = {"stdout": f"T={GITHUB}", "url": URL}
    told = line(f"T={GITHUB}", toolUseResult=result, note=URL)
    path = claude / f"{name(0)}.jsonl"
    path.write_text(line("a") + told)
    for number in (0, 1000, 2000):
        text = f'{{"n": {number},\n"env": {{"T": "{GITHUB}"}},\n"u": "{URL}"}}'
        (home.claude / "settings.json").write_text(text)
        store(sh)
    path.write_text(told + line(f"T={GITHUB}") + line("Bearer " + GITHUB[::-1]))
    store(sh)
    done = sh("csb-push remote.git")
    found = [(one["path"], one["line"], one["what"]) for one in done.records]
    transcript = f"projects/-srv-app/{name(0)}.jsonl"
    assert sorted(found) == [
        (transcript, 1, "github-token"),
        (transcript, 1, "password"),
        (transcript, 3, "authorization"),
        ("settings.json", 2, "github-token"),
        ("settings.json", 3, "password"),
    ]

    done = sh("csb push remote.git 2>&1")
    first, *rows = done.out.splitlines()
    assert done.rc == 1
    assert "nothing is pushed: there are secrets in what is new" in first
    assert len(rows) == len(set(rows)) == 5
    for row in rows:
        assert "[REDACTED" in row


def test_ssh(sh, home, claude, remote, ssh):
    """By the user's own ssh, whatever the environment holds; a remote may have a name.
    """
    store(sh)
    env = {"GIT_DIR": "/x", "GIT_WORK_TREE": "/y", "GIT_INDEX_FILE": "/z"}
    record = only_push(sh(f"csb-push {ssh}", **env))
    assert record["remote"] == ssh and branches(sh)["main"] == record["commit"]
    assert "git-receive-pack" in (home.path / "ssh.log").read_text()
    sh(f"{STORE} remote add nas {ssh}").ok()
    (claude / f"{name(0)}.jsonl").write_text(line("a"))
    store(sh)
    record = only_push(sh("csb-push nas"))
    assert record["remote"] == ssh and branches(sh)["main"] == record["commit"]
    tracking = sh(f"{STORE} for-each-ref refs/remotes").ok().out
    assert tracking == "", "not even for a remote it has"


def test_the_config_of_a_person(sh, home, claude, remote):
    """Nothing else is pushed, signed or run; no tag, no hook."""
    hook = home.path / "hooks/pre-push"
    hook.parent.mkdir()
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    for key, value in (
        ("push.followTags", "true"),
        ("push.gpgSign", "true"),
        ("push.default", "matching"),
        ("core.hooksPath", hook.parent),
        ("push.recurseSubmodules", "check"),
        ("color.ui", "always"),
        ("remote.pushDefault", "x"),
    ):
        sh(f"git config --global {key} {value}").ok()
    store(sh)
    sh(f"{STORE} -c user.name=a -c user.email=a@b tag -am x v1 main").ok()
    only_push(sh("csb-push remote.git"))
    assert set(branches(sh)) == {"main"}


def test_a_damaged_store(sh, home, claude, remote):
    """An object that is lost is an error, before anything is pushed."""
    store(sh)
    oid = sh(f"{STORE} rev-parse main:settings.json").out.strip()
    path = home.backup / "git/objects" / oid[:2] / oid[2:]
    if not path.exists():
        sh("cd .claude-backup/git && mv objects/pack/*.pack . &&"
           " for p in *.pack; do git unpack-objects -q <$p; done &&"
           " rm -f objects/pack/*.idx")
    os.unlink(path)
    done = sh("csb-push remote.git")
    assert done.rc == 1 and "the store has lost" in done.err and oid in done.err
    assert branches(sh) == {}


@pytest.mark.long
def test_memory(sh, home, claude, remote, tools):
    """Many versions of a large file: at most 64 MB, but for git at the other end."""
    path = claude / f"{name(0)}.jsonl"
    for _ in range(4):
        with open(path, "ab") as file:
            file.write(json.dumps({"a": "word " * 2000}).encode() + b"\n")
            file.write(b'{"a":"b"}\n' * (1 << 20))
        backup(sh)
    command = [f"{tools.bin}/csb-push", "--dry-run", "remote.git"]
    peak = subprocess.check_output(
        [tools.python, "-c", PEAK, *command], cwd=home.path, env=home.env)
    assert int(peak) < 64 << 10
