"""a store that somebody else made runs nothing, fools no terminal, and takes no memory"""
import contextlib
import json
import os
import pty
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


HOOKS = """pre-commit post-commit reference-transaction post-checkout post-index-change update
    pre-receive post-receive post-update pre-auto-gc fsmonitor-watchman query-watchman""".split()
RUNS = """[core]\n pager = X pager\n fsmonitor = X fsmonitor\n sshCommand = X ssh
 editor = X editor\n askPass = X askpass\n hooksPath = {evil}/hooks
 gitProxy = X proxy\n worktree = /\n alternateRefsCommand = X alternates\n[pager]
 log = X pager-log\n cat-file = X pager-cat
 for-each-ref = X pager-refs\n rev-parse = true\n fsck = X pager-fsck\n[alias]\n log = !X alias
 cat-file = !X alias-cat\n[diff]\n external = X external\n[diff "x"]\n textconv = X textconv
 command = X command\n[filter "x"]\n clean = X clean\n smudge = X smudge\n process = X process
 required = true\n[merge "x"]\n driver = X driver\n[gpg]\n program = {evil}/gpg\n[gpg "ssh"]
 program = X sshgpg\n defaultKeyCommand = X key\n[log]\n showSignature = true\n[credential]
 helper = !X credential\n[uploadpack]\n packObjectsHook = X pack\n[init]
 templateDir = {evil}/hooks\n[maintenance]\n auto = true\n[gc]\n auto = 1
 recentObjectsHook = X recent\n[trace2]\n normalTarget = {ran}/trace
[include]\n path = more\n[fsck]\n skipList = /dev/null\n"""
SIGNED = "gpgsig -----BEGIN PGP SIGNATURE-----\n \n x\n -----END PGP SIGNATURE-----\n"


def arm(home, config):
    """Put a configuration into the evil store: X in it is a command that leaves a mark."""
    ran = home.path / "ran"
    ran.mkdir()
    (home.path / "mark").write_text(f'#!/bin/sh\ntouch "{ran}/$1"\n')
    (home.path / "mark").chmod(0o755)
    (home.path / "evil/gpg").write_text(f'#!/bin/sh\ntouch "{ran}/gpg"\n')
    (home.path / "evil/gpg").chmod(0o755)
    with open(home.path / "evil/config", "a", encoding="utf-8") as file:
        file.write(config.replace("X ", f"{home.path}/mark ").replace("{ran}", str(ran))
                   .replace("{evil}", str(home.path / "evil")))
    return ran


def test_nothing_of_its_configuration_is_run(home, forge, survive):
    """Neither commands of the configuration and attributes nor hooks are started."""
    forge.commit([transcript(EVIL), ((".gitattributes",), FILE, b"* diff=x filter=x merge=x\n"),
                  ((".gitmodules",), FILE, b'[submodule "x"]\n path = x\n url = ext::x\n')],
                 head=SIGNED)
    ran = arm(home, RUNS)
    (home.path / "evil/info/attributes").write_text("* diff=x filter=x merge=x\n")
    (home.path / "evil/more").write_text(f"[core]\n pager = {home.path}/mark more\n")
    (home.path / "evil/hooks").mkdir()
    for name in HOOKS:
        (home.path / "evil/hooks" / name).write_text(f'#!/bin/sh\ntouch "{ran}/{name}"\n')
        (home.path / "evil/hooks" / name).chmod(0o755)
    survive()
    assert os.listdir(ran) == []


@pytest.mark.parametrize("remote", [
    "url = {evil}\n uploadpack = X uploadpack", "url = x@y:z", "url = ext::X ext",
    "url = git://127.0.0.1:9/x", "url = file://{evil}\n uploadpack = X uploadpack"])
@pytest.mark.few(2)
def test_objects_that_are_missing_are_not_fetched(home, forge, survive, remote):
    """A store that promises its objects elsewhere does not make git go there."""
    lost = "0123456789abcdef" * 2 + "01234567"
    forge.commit([transcript(EVIL, data=lost), ((".csb", "changes.jsonl"), FILE, lost[::-1])])
    ran = arm(home, f"""[core]\n repositoryformatversion = 1\n sshCommand = X ssh
 gitProxy = {{evil}}/gpg\n[extensions]\n partialClone = origin\n[remote "origin"]\n promisor = true
 {remote}\n[protocol]\n allow = always\n[protocol "ext"]\n allow = always\n""")
    survive(3, may=("home/evil", "home/evil/config"))     # git itself notes a filter there
    assert os.listdir(ran) == []


@pytest.mark.parametrize("config", [
    "[i18n]\n logOutputEncoding = UTF-16",
    "[diff]\n orderFile = /nowhere",
    "[log]\n diffMerges = combined",
    "[log]\n diffMerges = off",
    "[log]\n diffMerges = remerge",
    "[diff]\n relative = true\n submodule = log\n ignoreSubmodules = all\n noprefix = true\n"
    " wsErrorHighlight = all\n colorMoved = zebra\n statGraphWidth = 3\n algorithm = patience",
    "[log]\n follow = true\n mailmap = true\n date = raw\n decorate = full\n abbrevCommit = true\n"
    " graphColors = red\n[format]\n pretty = %B\n[notes]\n displayRef = refs/heads/*\n[core]\n"
    " abbrev = 4\n logAllRefUpdates = always\n[color]\n ui = always\n[column]\n ui = always\n"
    "[advice]\n statusHints = true\n[versionsort]\n suffix = x\n[tag]\n sort = -x"])
@pytest.mark.few(2)
def test_a_configuration_that_changes_what_git_prints(sh, home, forge, config):
    """What git log prints stays what is expected, also of a session that only a merge added."""
    one, tree = forge.tip, [transcript(EVIL)]
    forge.commit([transcript(GOOD)], parent=False)
    forge.commit([transcript(GOOD), *tree], head="", more=f"parent {one}\n")
    with open(home.path / "evil/config", "a", encoding="utf-8") as file:
        file.write(config + "\n")
    sh(f"csb-restore --git-dir ~/evil --target-dir ~/out {EVIL} {GOOD}")
    for session in (EVIL, GOOD):
        assert (home.path / f"out/projects/-p/{session}.jsonl").read_bytes() == SAID
    assert len(sh("csb-verify --git-dir ~/evil").ok().records) == 2
    assert len(sh("csb-find --lost --git-dir ~/evil").ok().records) == 2


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
    "escapes": {"who": "\x1b]0;x\x07 <\x1b[2J> 1767323045 +0000", "head": "encoding \x1b[2J\n"},
    "a parent that is missing": {"more": "parent 0123456789012345678901234567890123456789\n"},
}


@pytest.mark.parametrize("kind", COMMITS)
@pytest.mark.few(2)
def test_commits_that_git_would_not_make(forge, survive, kind):
    """A commit that makes no sense costs itself; the session on another ref comes back."""
    given = dict(COMMITS[kind])
    if raw := given.pop("raw", None):
        tree = forge.tree([transcript(EVIL)])
        (forge.path / "refs/heads/main").write_text(
            forge.put("commit", raw.format(tree=tree).encode()) + "\n")
    else:
        forge.commit([transcript(EVIL)], **given)
    survive(3)


@pytest.mark.parametrize("who", ["rubbish", "x <x>", "x <x> -5 +0000", f"x <x> {'9' * 40} +0000"])
@pytest.mark.few(2)
def test_the_status_of_a_store_with_an_odd_date(sh, home, forge, who):
    forge.commit([transcript(EVIL)], who=who)
    sh("git --git-dir ~/evil update-ref refs/csb/main main").ok()
    done = sh("csb-status --git-dir ~/evil")
    assert done.rc == 1 and done.records[0]["commits"] == 2 and "cannot go on" not in done.err, done


def test_refs_that_mislead(home, forge, survive):
    """A ref is read by its full name or not at all; none is taken for an option or a command."""
    good = forge.tip
    tip = forge.commit([transcript(EVIL)])
    for name in ("heads/-x", "heads/--output=ran", "heads/$(touch ran)", "tags/;touch ran".replace(
            " ", "-"), "heads/\u202egpj", "heads/main.lock", "HEAD", "heads/refs/heads/good",
            f"replace/{good}", "stash", "csb/other"):
        (home.path / "evil/refs" / name).parent.mkdir(parents=True, exist_ok=True)
        (home.path / "evil/refs" / name).write_text(tip + "\n")
    tags = {"blob": forge.put("blob", b"x"), "tree": forge.tree([transcript(EVIL)]),
            "tag": forge.put("tag", f"object {tip}\ntype commit\ntag x\ntagger x\n\nx\n".encode())}
    (home.path / "evil/refs/tags").mkdir(exist_ok=True)
    for name, oid in tags.items():
        (home.path / "evil/refs/tags" / name).write_text(oid + "\n")
    for name, text in (("loop", "ref: refs/heads/loop"), ("out", "ref: ../../../away/mine"),
                       ("rubbish", "\x1b]0;x\x07")):
        (home.path / "evil/refs/heads" / name).write_text(text + "\n")
    (home.path / "evil/refs/heads/link").symlink_to(home.path / "away/mine")
    survive(3)


def test_a_ref_that_leads_nowhere_blocks_no_tool(sh, home, forge):
    """What the other refs hold is found, verified and restored; the bad one is said."""
    forge.commit([transcript(EVIL)])
    (home.path / "evil/refs/heads/gone").write_text("0123456789" * 4 + "\n")
    for line in ("csb-find --lost", "csb-verify", f"csb-restore --target-dir ~/out {EVIL} {GOOD}",
                 f"csb-history {EVIL} {GOOD}"):
        done = sh(f"{line} --git-dir ~/evil")
        assert done.rc == 1 and {r["session_id"] for r in done.records} == {EVIL, GOOD}, line


@pytest.mark.parametrize("name", [b"\xff", b"a\xc2\xa0b", b"\xe2\x80\xa8"])
@pytest.mark.few(1)
def test_a_ref_whose_name_is_no_plain_text(sh, home, forge, name):
    """A branch of any name that git allows stops no tool, and is read."""
    tip = forge.commit([transcript(EVIL)])
    (home.path / "evil/refs/heads/main").unlink()
    with open(os.path.join(os.fsencode(home.path), b"evil/refs/heads", name), "w") as file:
        file.write(tip + "\n")
    for line in ("csb-find --lost", "csb-verify", f"csb-restore --target-dir ~/out {EVIL} {GOOD}",
                 f"csb-history {EVIL} {GOOD}"):
        done = sh(f"{line} --git-dir ~/evil")
        assert done.rc == 0 and {r["session_id"] for r in done.records} == {EVIL, GOOD}, line


@pytest.mark.parametrize("where, text", [
    ("info/grafts", "{evil} {evil}\n{good} {evil}\n"), ("info/grafts", "rubbish \x1b[2J\n"),
    ("shallow", "{evil}\n"), ("objects/info/alternates", "/nowhere\n../objects\n\x1b[2J\n{away}\n"),
    ("objects/info/http-alternates", "http://127.0.0.1:9/\n"), ("commondir", "."),
    ("objects/info/commit-graph", "CGPH rubbish"), ("objects/pack/multi-pack-index", "MIDX x"),
    ("refs/replace/{good}", "{evil}\n"), ("index", "DIRC rubbish"), ("MERGE_HEAD", "\x1b[2J")])
@pytest.mark.few(1)
def test_files_that_bend_the_history(home, forge, survive, where, text):
    """Grafts, replacements, alternates and their like do not take the good session away."""
    words = {"good": forge.tip, "evil": forge.commit([transcript(EVIL)], parent=False),
             "away": home.path / "away"}
    path = home.path / "evil" / where.format(**words)
    path.parent.mkdir(exist_ok=True)
    path.write_text(text.format(**words))
    survive(3)


HOSTILE = "\x1b]0;x\x07\x1b[2J\x9b31m\u202eabc\u2066\r\b\x7f\x00x" + "y" * 300


def spawn(line, env):
    """(exit status, what a line wrote to the terminal that it ran in: stdout and stderr)."""
    child, fd = pty.fork()
    if not child:
        os.execvpe("bash", ["bash", "-c", line], env)
    text = b""
    with contextlib.suppress(OSError):      # EIO: the last one has left the terminal
        while block := os.read(fd, 1 << 16):
            text += block
    os.close(fd)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), text.decode()


@pytest.mark.long
def test_no_terminal_is_told_what_to_do(sh, home, forge):
    """Titles, folders, branches, paths: nothing of a transcript reaches a terminal raw."""
    text = json.dumps({"type": "user", "cwd": "/" + HOSTILE, "gitBranch": HOSTILE, "slug": HOSTILE,
                       "sessionId": HOSTILE, "version": HOSTILE, "timestamp": HOSTILE,
                       "message": {"role": "user", "content": HOSTILE}})
    title = {"type": "custom-title", "customTitle": HOSTILE}
    lines = [text, text.replace('"timestamp"', '"time"'), json.dumps(title)]
    forge.commit([transcript(EVIL, data="\n".join(lines).encode()),
                  transcript(uuid(1), data=SAID, project="-\x1b[2J\r"),
                  (("projects", "-\x1b[2J\r", uuid(1), "custom-title.json"), FILE,
                   json.dumps(title).encode())])
    env = {**home.env, "NO_COLOR": "1", "TERM": "xterm", "PAGER": "cat"}
    for line in ("csb-restore --git-dir ~/evil eeee aaaa", f"csb-restore --git-dir ~/evil {EVIL} "
                 f"{uuid(1)} | csb-fmt", f"csb restore --force --git-dir ~/evil {uuid(1)}",
                 "csb list --all --git-dir ~/evil", "csb-list --all | csb-fmt --oneline",
                 "csb-find | csb-fmt", "csb-find --lost --git-dir ~/evil | csb-fmt --top 9",
                 "csb backup", f"csb history --git-dir ~/evil {EVIL} {uuid(1)}", "csb scan /",
                 f"csb show --git-dir ~/evil {EVIL} {uuid(1)}", "csb tree --all",
                 "csb scan $'/\\e[2J'", f"csb history --git-dir ~/evil --path {HOSTILE!r}",
                 "csb verify", f"csb-restore {HOSTILE[:9]!r}",
                 "csb $'\\e[2J'", "csb-verify --git-dir ~/evil$'\\e[2J'"):
        _, said = spawn(line, env)
        assert not OBEYED.search(said.replace("\r\n", "\n")), (line, said)
    assert "a fine prompt" in said or (home.claude / f"projects/-p/{EVIL}.jsonl").exists()


BIG = 100 << 20
KINDS = {"transcript": transcript(EVIL), "link": (("tasks", EVIL, "x"), LINK, b""),
         "title": (("projects", "-p", EVIL, "custom-title.json"), FILE, b""),
         "journal": journal(), "agent": (("projects", "-p", "agent-1.jsonl"), FILE, b"")}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.few(1)
def test_a_line_of_100_mb_takes_no_memory(sh, home, forge, kind, tools, figure):
    """Each tool, git included, stays below 64 MB, however long the lines of a store are."""
    def blocks():
        yield b'{"type":"user","message":{"content":"'
        for _ in range(BIG >> 20):
            yield b"a" * (1 << 20)
        yield b'"}}\n'

    names, mode, _ = KINDS[kind]
    big = forge.put("blob", blocks, BIG + 41)
    forge.commit([transcript(EVIL)] * (kind != "transcript") + [(names, mode, big)])
    measure = (f"{tools.python} -c 'import resource, subprocess, sys; subprocess.call(sys.argv[1:])"
               "; print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, "
               "file=open(sys.argv[1], \"w\"))'").replace("open(sys.argv[1]", "open(\"most\"")
    most = {}
    lines = {"csb-find --lost --git-dir ~/evil": "transcript title agent",
             "csb-verify --git-dir ~/evil":
             "transcript journal", f"csb-restore --git-dir ~/evil --target-dir ~/out {EVIL} {GOOD}":
             kind, "csb-index --rebuild --git-dir ~/evil": "transcript agent",
             f"csb-history --files --git-dir ~/evil {EVIL} {GOOD}": "transcript agent",
             f"csb-show --git-dir ~/evil {EVIL} {GOOD}": "transcript agent"}
    for line in [line for line, kinds in lines.items() if kind in kinds]:
        sh(f"{measure} {tools.python} -I {tools.bin}/{line}")
        most[line.split(" ")[0]] = int((home.path / "most").read_text()) >> 10
    figure(f"a {kind} of 100 MB: {most} MB")
    assert (home.path / f"out/projects/-p/{GOOD}.jsonl").read_bytes() == SAID
    assert max(most.values()) < 64, most


@pytest.mark.soak
@pytest.mark.parametrize("where", ["projects/-p/{}", "file-history", "tasks/{}/a"])
@pytest.mark.few(2)
def test_a_parent_is_swapped_for_a_link(sh, home, forge, where, rounds, figure):
    """Whenever a directory becomes a link while files are restored into it, none goes through."""
    names = [(("projects", "-p", EVIL, "a"), FILE), (("file-history", EVIL, "a"), FILE),
             (("tasks", EVIL, "a"), FILE)]
    forge.commit([((*top, f"{number}"), mode, b"evil") for top, mode in names
                  for number in range(40)] + [transcript(EVIL)])
    path, stop, swaps = home.path / "out" / where.format(EVIL), threading.Event(), []

    def swap():
        while not stop.is_set():
            with contextlib.suppress(OSError):
                os.rename(path, f"{path}.{time.monotonic_ns()}")
                path.symlink_to(home.path / "away")
                swaps.append(1)
                time.sleep(0.002)
                path.unlink()
    thread, refused, end = threading.Thread(target=swap), 0, time.monotonic() + rounds(1, 20)
    thread.start()
    try:
        while time.monotonic() < end or not swaps:
            done = sh(f"csb-restore --git-dir ~/evil --target-dir ~/out --force {EVIL}")
            refused += sum(r["result"] == "refused" for r in done.records)
            assert os.listdir(home.path / "away") == ["mine"]
    finally:
        stop.set()
        thread.join()
    figure(f"{len(swaps)} swaps of {where.format('ID')}, {refused} files refused, 0 outside")
    assert swaps and (home.path / "away/mine").read_text() == "mine\n"
