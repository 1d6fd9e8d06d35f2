"""a store that somebody else made runs nothing, fools no terminal, takes no memory"""
import contextlib
import json
import os
import pty
import shlex
import threading
import time

import pytest
from forge import (
    EVIL,
    FILE,
    GOOD,
    LINK,
    OBEYED,
    SAID,
    evil_store,
    journal,
    survivor,
    transcript,
    uuid,
)

pytestmark = pytest.mark.logic


@pytest.fixture
def forge(home):
    return evil_store(home)


@pytest.fixture
def survive(sh, home, listing, forge):
    return survivor(sh, home, listing)


@pytest.fixture
def evil(home):
    """Where the evil store is."""
    return home.path / "evil"


BOTH = f"{EVIL} {GOOD}"
HOOKS = """
    pre-commit post-commit reference-transaction post-checkout post-index-change update
    pre-receive post-receive post-update pre-auto-gc fsmonitor-watchman query-watchman
    """.split()
RUNS = """
[core]
 pager = X pager
 fsmonitor = X fsmonitor
 sshCommand = X ssh
 editor = X editor
 askPass = X askpass
 hooksPath = {evil}/hooks
 gitProxy = X proxy
 worktree = /
 alternateRefsCommand = X alternates
[pager]
 log = X pager-log
 cat-file = X pager-cat
 for-each-ref = X pager-refs
 rev-parse = true
 fsck = X pager-fsck
[alias]
 log = !X alias
 cat-file = !X alias-cat
[diff]
 external = X external
[diff "x"]
 textconv = X textconv
 command = X command
[filter "x"]
 clean = X clean
 smudge = X smudge
 process = X process
 required = true
[merge "x"]
 driver = X driver
[gpg]
 program = {evil}/gpg
[gpg "ssh"]
 program = X sshgpg
 defaultKeyCommand = X key
[log]
 showSignature = true
[credential]
 helper = !X credential
[uploadpack]
 packObjectsHook = X pack
[init]
 templateDir = {evil}/hooks
[maintenance]
 auto = true
[gc]
 auto = 1
 recentObjectsHook = X recent
[trace2]
 normalTarget = {ran}/trace
[include]
 path = more
[fsck]
 skipList = /dev/null
"""
SIGNED = "gpgsig -----BEGIN PGP SIGNATURE-----\n \n x\n -----END PGP SIGNATURE-----\n"
ATTRIBUTES = "* diff=x filter=x merge=x\n"
MODULES = b'[submodule "x"]\n path = x\n url = ext::x\n'


def script(path, command):
    path.write_text(f"#!/bin/sh\n{command}\n")
    path.chmod(0o755)


def configure(evil, config):
    """Add to the configuration of the evil store."""
    with open(evil / "config", "a", encoding="utf-8") as file:
        file.write(config + "\n")


def arm(home, evil, config):
    """Put a configuration into the evil store: X in it is a command that leaves a mark.
    The directory of the marks."""
    ran = home.path / "ran"
    ran.mkdir()
    script(home.path / "mark", f'touch "{ran}/$1"')
    script(evil / "gpg", f'touch "{ran}/gpg"')
    config = config.replace("X ", f"{home.path}/mark ")
    configure(evil, config.replace("{ran}", str(ran)).replace("{evil}", str(evil)))
    return ran


def test_nothing_of_its_configuration_is_run(home, forge, evil, survive):
    """Neither commands of the configuration and attributes nor hooks are started."""
    files = [transcript(EVIL), ((".gitattributes",), FILE, ATTRIBUTES.encode()),
             ((".gitmodules",), FILE, MODULES)]
    forge.commit(files, head=SIGNED)
    ran = arm(home, evil, RUNS)
    (evil / "info/attributes").write_text(ATTRIBUTES)
    (evil / "more").write_text(f"[core]\n pager = {home.path}/mark more\n")
    (evil / "hooks").mkdir()
    for name in HOOKS:
        script(evil / "hooks" / name, f'touch "{ran}/{name}"')
    survive()
    assert os.listdir(ran) == []


ELSEWHERE = """
[core]
 repositoryformatversion = 1
 sshCommand = X ssh
 gitProxy = {evil}/gpg
[extensions]
 partialClone = origin
[protocol]
 allow = always
[protocol "ext"]
 allow = always
[remote "origin"]
 promisor = true
"""


@pytest.mark.parametrize("remote", [
    "url = {evil}\n uploadpack = X uploadpack",
    "url = x@y:z",
    "url = ext::X ext",
    "url = git://127.0.0.1:9/x",
    "url = file://{evil}\n uploadpack = X uploadpack"])
@pytest.mark.few(2)
def test_objects_that_are_missing_are_not_fetched(home, forge, evil, survive, remote):
    """A store that promises its objects elsewhere does not make git go there."""
    lost = "0123456789abcdef" * 2 + "01234567"
    changes = (".csb", "changes.jsonl"), FILE, lost[::-1]
    forge.commit([transcript(EVIL, data=lost), changes])
    ran = arm(home, evil, ELSEWHERE + remote)
    # git itself notes a filter there
    survive(3, may=("home/evil", "home/evil/config"))
    assert os.listdir(ran) == []


@pytest.mark.parametrize("config", [
    "[i18n]\n logOutputEncoding = UTF-16",
    "[diff]\n orderFile = /nowhere",
    "[log]\n diffMerges = combined",
    "[log]\n diffMerges = off",
    "[log]\n diffMerges = remerge",
    "[diff]\n relative = true\n submodule = log\n ignoreSubmodules = all\n"
    " noprefix = true\n wsErrorHighlight = all\n colorMoved = zebra\n"
    " statGraphWidth = 3\n algorithm = patience",
    "[log]\n follow = true\n mailmap = true\n date = raw\n decorate = full\n"
    " abbrevCommit = true\n graphColors = red\n[format]\n pretty = %B\n[notes]\n"
    " displayRef = refs/heads/*\n[core]\n abbrev = 4\n logAllRefUpdates = always\n"
    "[color]\n ui = always\n[column]\n ui = always\n[advice]\n statusHints = true\n"
    "[versionsort]\n suffix = x\n[tag]\n sort = -x"])
@pytest.mark.few(2)
def test_a_configuration_that_changes_what_git_prints(sh, home, forge, evil, config):
    """What git log prints stays what is expected, also of a session that only a merge
    added."""
    first = forge.tip
    good, bad = transcript(GOOD), transcript(EVIL)
    forge.commit([good], parent=False)
    forge.commit([good, bad], more=f"parent {first}\n")
    configure(evil, config)
    sh(f"csb-restore --git-dir ~/evil --target-dir ~/out {BOTH}")
    for session in (EVIL, GOOD):
        assert (home.path / f"out/projects/-p/{session}.jsonl").read_bytes() == SAID
    assert len(sh("csb-verify --git-dir ~/evil").ok().records) == 2
    assert len(sh("csb-find --lost --git-dir ~/evil").ok().records) == 2


NOBODY = "0123456789" * 4
COMMITS = {
    "no committer": {"raw": "tree {tree}\nauthor x <x> 1 +0000\n\nx\n"},
    "nothing": {"raw": "tree {tree}\n\n"},
    "a committer of rubbish": {"who": "rubbish"},
    "no date": {"who": "x <x>"},
    "a date beyond all clocks": {"who": f"x <x> {1 << 62} +0000"},
    "a date beyond all numbers": {"who": f"x <x> {'9' * 40} +0000"},
    "the year 20000": {"who": "x <x> 568971820800 +0000"},
    "a date before the first": {"who": "x <x> -5 -9999"},
    "UTF-16": {"head": "encoding UTF-16\n"},
    "escapes": {
        "who": "\x1b]0;x\x07 <\x1b[2J> 1767323045 +0000",
        "head": "encoding \x1b[2J\n"},
    "a parent that is missing": {"more": f"parent {NOBODY}\n"},
}


@pytest.mark.parametrize("kind", COMMITS)
@pytest.mark.few(2)
def test_commits_that_git_would_not_make(forge, evil, survive, kind):
    """A commit that makes no sense costs itself; what another ref has comes back."""
    given = COMMITS[kind]
    if "raw" in given:
        text = given["raw"].format(tree=forge.tree([transcript(EVIL)]))
        commit = forge.put("commit", text.encode())
        (evil / "refs/heads/main").write_text(commit + "\n")
    else:
        forge.commit([transcript(EVIL)], **given)
    survive(3)


@pytest.mark.parametrize("who", [
    "rubbish", "x <x>", "x <x> -5 +0000", f"x <x> {'9' * 40} +0000"])
@pytest.mark.few(2)
def test_the_status_of_a_store_with_an_odd_date(sh, forge, who):
    forge.commit([transcript(EVIL)], who=who)
    sh("git --git-dir ~/evil update-ref refs/csb/main main").ok()
    done = sh("csb-status --git-dir ~/evil")
    assert done.rc == 1 and done.records[0]["commits"] == 2
    assert "cannot go on" not in done.err, done


def test_refs_that_mislead(home, forge, evil, survive):
    """A ref is read by its full name or not at all; none is an option or a command."""
    good = forge.tip
    tip = forge.commit([transcript(EVIL)])
    tag = f"object {tip}\ntype commit\ntag x\ntagger x\n\nx\n"
    refs = {
        "tags/blob": forge.put("blob", b"x"),
        "tags/tree": forge.tree([transcript(EVIL)]),
        "tags/tag": forge.put("tag", tag.encode()),
        "heads/loop": "ref: refs/heads/loop",
        "heads/out": "ref: ../../../away/mine",
        "heads/rubbish": "\x1b]0;x\x07"}
    for name in (
            "heads/-x", "heads/--output=ran", "heads/$(touch ran)", "tags/;touch-ran",
            "heads/\u202egpj", "heads/main.lock", "HEAD", "heads/refs/heads/good",
            f"replace/{good}", "stash", "csb/other"):
        refs[name] = tip
    for name, text in refs.items():
        path = evil / "refs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    (evil / "refs/heads/link").symlink_to(home.path / "away/mine")
    survive(3)


READERS = ("csb-find --lost", "csb-verify", f"csb-restore --target-dir ~/out {BOTH}",
           f"csb-history {BOTH}")


def read_both(sh, status):
    """Each tool that reads a store ends so on the evil one, and tells of both."""
    for line in READERS:
        done = sh(f"{line} --git-dir ~/evil")
        assert done.rc == status, (line, done)
        assert {row["session_id"] for row in done.records} == {EVIL, GOOD}, line


def test_a_ref_that_leads_nowhere_blocks_no_tool(sh, forge, evil):
    """What the other refs hold is found, verified and restored; the bad one is said."""
    forge.commit([transcript(EVIL)])
    (evil / "refs/heads/gone").write_text(NOBODY + "\n")
    read_both(sh, 1)


@pytest.mark.parametrize("name", [b"\xff", b"a\xc2\xa0b", b"\xe2\x80\xa8"])
@pytest.mark.few(1)
def test_a_ref_whose_name_is_no_plain_text(sh, forge, evil, name):
    """A branch of any name that git allows stops no tool, and is read."""
    forge.commit([transcript(EVIL)])
    (evil / "refs/heads/main").rename(evil / "refs/heads" / os.fsdecode(name))
    read_both(sh, 0)


@pytest.mark.parametrize("where, text", [
    ("info/grafts", "{evil} {evil}\n{good} {evil}\n"),
    ("info/grafts", "rubbish \x1b[2J\n"),
    ("shallow", "{evil}\n"),
    ("objects/info/alternates", "/nowhere\n../objects\n\x1b[2J\n{away}\n"),
    ("objects/info/http-alternates", "http://127.0.0.1:9/\n"),
    ("commondir", "."),
    ("objects/info/commit-graph", "CGPH rubbish"),
    ("objects/pack/multi-pack-index", "MIDX x"),
    ("refs/replace/{good}", "{evil}\n"),
    ("index", "DIRC rubbish"),
    ("MERGE_HEAD", "\x1b[2J")])
@pytest.mark.few(1)
def test_files_that_bend_the_history(home, forge, evil, survive, where, text):
    """Grafts, replacements, alternates and their like take no good session away."""
    words = {
        "good": forge.tip,
        "evil": forge.commit([transcript(EVIL)], parent=False),
        "away": home.path / "away"}
    path = evil / where.format(**words)
    path.parent.mkdir(exist_ok=True)
    path.write_text(text.format(**words))
    survive(3)


HOSTILE = "\x1b]0;x\x07\x1b[2J\x9b31m\u202eabc\u2066\r\b\x7f\x00x" + "y" * 300
WORD = shlex.quote(HOSTILE.replace("\0", ""))
PROJECT = "-\x1b[2J\r"
TYPED = (
    "csb-restore --git-dir ~/evil eeee aaaa",
    f"csb-restore --git-dir ~/evil {EVIL} {uuid(1)} | csb-fmt",
    f"csb restore --force --git-dir ~/evil {uuid(1)}",
    "csb list --all --git-dir ~/evil",
    "csb-list --all | csb-fmt --oneline",
    "csb-find | csb-fmt",
    "csb-find --lost --git-dir ~/evil | csb-fmt --top 9",
    "csb backup",
    f"csb history --git-dir ~/evil {EVIL} {uuid(1)}",
    "csb scan /",
    f"csb show --git-dir ~/evil {EVIL} {uuid(1)}",
    "csb tree --all",
    "csb scan $'/\\e[2J'",
    f"csb history --git-dir ~/evil --path {WORD}",
    "csb verify",
    f"csb-restore {WORD}",
    "csb $'\\e[2J'",
    "csb-verify --git-dir ~/evil$'\\e[2J'")


def screen_of(line, env):
    """What a line wrote to the terminal that it ran in: stdout and stderr."""
    child, fd = pty.fork()
    if not child:
        os.execvpe("bash", ["bash", "-c", line], env)
    text = b""
    with contextlib.suppress(OSError):      # EIO: the last one has left the terminal
        while True:
            text += os.read(fd, 1 << 16)
    os.close(fd)
    os.waitpid(child, 0)
    return text.decode()


@pytest.mark.long
def test_no_terminal_is_told_what_to_do(home, forge):
    """Titles, folders, branches, paths: nothing reaches a terminal raw."""
    said = dict.fromkeys(
        ("gitBranch", "slug", "sessionId", "version", "timestamp"), HOSTILE)
    text = json.dumps({"type": "user", "cwd": "/" + HOSTILE, **said,
                       "message": {"role": "user", "content": HOSTILE}})
    title = json.dumps({"type": "custom-title", "customTitle": HOSTILE})
    lines = "\n".join([text, text.replace('"timestamp"', '"time"'), title])
    beside = "projects", PROJECT, uuid(1), "custom-title.json"
    forge.commit([
        transcript(EVIL, data=lines.encode()),
        transcript(uuid(1), project=PROJECT),
        (beside, FILE, title.encode())])
    env = {**home.env, "NO_COLOR": "1", "TERM": "xterm", "PAGER": "cat"}
    for line in TYPED:
        screen = screen_of(line, env).replace("\r\n", "\n")
        assert not OBEYED.search(screen), (line, screen)
    assert (home.claude / f"projects/-p/{EVIL}.jsonl").exists()


BIG = 100       # MB
KINDS = {
    "transcript": transcript(EVIL),
    "link": (("tasks", EVIL, "x"), LINK, b""),
    "title": (("projects", "-p", EVIL, "custom-title.json"), FILE, b""),
    "journal": journal(),
    "agent": (("projects", "-p", "agent-1.jsonl"), FILE, b"")}
# The tools, and what of these each of them reads.
READ = {
    "csb-find --lost": ("transcript", "title", "agent"),
    "csb-verify": ("transcript", "journal"),
    f"csb-restore --target-dir out {BOTH}": tuple(KINDS),
    "csb-index --rebuild": ("transcript", "agent"),
    f"csb-history --files {BOTH}": ("transcript", "agent"),
    f"csb-show {BOTH}": ("transcript", "agent")}
MEASURE = """
import resource, subprocess, sys
subprocess.call(sys.argv[1:])
with open("most", "w") as file:
    file.write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
"""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.few(1)
def test_a_line_of_100_mb_takes_no_memory(sh, home, forge, kind, tools, figure):
    """Each tool, git included, stays below 64 MB, however long a store's lines are."""
    start, end = b'{"type":"user","message":{"content":"', b'"}}\n'

    def blocks():
        yield start
        for _ in range(BIG):
            yield b"a" * (1 << 20)
        yield end

    names, mode, _ = KINDS[kind]
    big = forge.put("blob", blocks, len(start) + (BIG << 20) + len(end))
    files = [(names, mode, big)]
    if kind != "transcript":
        files.append(transcript(EVIL))
    forge.commit(files)

    (home.path / "measure").write_text(MEASURE)
    most = {}
    for line, kinds in READ.items():
        if kind not in kinds:
            continue
        tool = f"{tools.python} -I {tools.bin}/{line} --git-dir ~/evil"
        sh(f"{tools.python} measure {tool}")
        most[line.split()[0]] = int((home.path / "most").read_text()) >> 10
    figure(f"a {kind} of {BIG} MB: {most} MB")
    assert (home.path / f"out/projects/-p/{GOOD}.jsonl").read_bytes() == SAID
    assert max(most.values()) < 64, most


@pytest.mark.soak
@pytest.mark.parametrize("where", ["projects/-p/{}", "file-history", "tasks/{}/a"])
@pytest.mark.few(2)
def test_a_parent_is_swapped_for_a_link(sh, home, forge, where, rounds, figure):
    """Whenever a directory becomes a link while files are restored into it, none goes
    through."""
    files = [transcript(EVIL)]
    for folder in (("projects", "-p", EVIL, "a"), ("file-history", EVIL, "a"),
                   ("tasks", EVIL, "a")):
        for number in range(40):
            files.append(((*folder, str(number)), FILE, b"evil"))
    forge.commit(files)

    path = home.path / "out" / where.format(EVIL)
    away = home.path / "away"
    stop = threading.Event()
    swaps = 0

    def swap():
        nonlocal swaps
        while not stop.is_set():
            with contextlib.suppress(OSError):
                os.rename(path, f"{path}.{time.monotonic_ns()}")
                path.symlink_to(away)
                swaps += 1
                time.sleep(0.002)
                path.unlink()

    refused = 0
    thread = threading.Thread(target=swap)
    end = time.monotonic() + rounds(1, 20)
    thread.start()
    try:
        while time.monotonic() < end or not swaps:
            done = sh(f"csb-restore --git-dir ~/evil --target-dir ~/out --force {EVIL}")
            results = [row["result"] for row in done.records]
            refused += results.count("refused")
            assert os.listdir(away) == ["mine"]
    finally:
        stop.set()
        thread.join()
    figure(f"{swaps} swaps of {where.format('ID')}, {refused} files refused, 0 outside")
    assert (away / "mine").read_text() == "mine\n"
