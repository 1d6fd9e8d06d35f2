"""a store that somebody else made writes nothing outside, through no link, and makes nobody wait"""
import contextlib
import json
import os
import signal
import subprocess
import time

import pytest
from forge import (
    EVIL,
    FILE,
    GOOD,
    LINK,
    OBEYED,
    RUN,
    TITLE,
    below,
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


UNSAFE = [b"..", b".", b"../evil", b"../../../../../away/evil", b".git", b".GIT", b"git~1",
          b".git ", b".git::$INDEX_ALLOCATION", b"GIT~1.", b"x" * 256, b"x" * 4096]
ODD = [b"new\nline", b"tab\t", b"\x1b]0;x\x07", b"\x1b[2J", "\u202egpj".encode(), b"\x9b2J",
       b"\xff", b"-rf", b"~root", b"$(touch ran)", b"`touch ran`", b";touch ran", b"|touch ran",
       b"*", b"A", b"a", b"x" * 255, b"con", b":(glob)", b"@{u}", b'"', b"\\", b" "]


def test_names(sh, home, forge, survive):
    """No name leads out of the target; every name that a file system takes comes back as it is."""
    deep = forge.tree([(("deep",), FILE, b"deep")])
    for _ in range(499):
        deep = forge.tree([(("d",), "40000", deep)])
    files = [(("projects", "-p", EVIL, name, "x"), FILE, b"x") for name in UNSAFE]
    files += [(("projects", "-p", EVIL, name), RUN, b"y") for name in UNSAFE]
    files += [(("projects", "-p", EVIL, name, "x"), FILE, name) for name in ODD]
    files += [((f"{home.path}/away", EVIL, "x"), FILE, b"x"), (("..", EVIL, "x"), FILE, b"x"),
              ((f"{home.path}/away/{EVIL}.jsonl",), FILE, b"x"), (("/", EVIL, "x"), FILE, b"x"),
              (("tasks/../../away", EVIL, "x"), FILE, b"x"), ((".git", EVIL, "hooks"), RUN, b"x"),
              (("projects", "..", f"{EVIL}.jsonl"), FILE, b"{}\n"),
              (("projects", "../..", f"{EVIL}.jsonl"), FILE, b"{}\n"),
              (("projects", "-p", EVIL, "d"), "40000", deep)]
    forge.commit([*files, transcript(EVIL), journal(*({
        "path": path, "oid": "-", "mode": "0700", "mtime": "2026-01-02T03:04:05.000000000Z"}
        for path in (f"../{EVIL}/", f"/{EVIL}/", f"{EVIL}/../../", f"tasks/{EVIL}/.git/")))])
    survive()
    wanted = {os.path.join(os.fsencode(f"projects/-p/{EVIL}"), name, b"x") for name in ODD}
    wanted |= {os.fsencode(path) for path in (
        f"projects/-p/{GOOD}.jsonl", f"projects/-p/{EVIL}.jsonl",
        f"projects/-p/{EVIL}/{'d/' * 500}deep")}
    sh(f"csb-restore --git-dir ~/evil --target-dir ~/out --force {GOOD}").ok()
    record = json.dumps({"session_id": EVIL, "project": "-p"}).encode()
    assert sh("csb-restore --git-dir ~/evil --target-dir ~/out", record).rc == 1
    assert below(home.path / "out") == wanted
    assert set(os.listdir(home.path / "away")) == {"mine"}


@pytest.mark.parametrize("name", ["\u200c.git", ".g\u200cit", ".gi\ufefft", ".\u202egit"])
@pytest.mark.few(2)
def test_names_that_another_system_takes_for_git(sh, home, forge, name):
    """A copy on a Mac must not become the hooks of a repository."""
    forge.commit([transcript(EVIL), (("projects", "-p", EVIL, name, "hooks", "x"), RUN, b"x")])
    done = sh(f"csb-restore --git-dir ~/evil --target-dir ~/out {EVIL}")
    assert done.rc == 1 and "not safe" in done.err
    assert below(home.path / "out") == {os.fsencode(f"projects/-p/{EVIL}.jsonl")}


def test_kinds(sh, home, forge, survive):
    """Neither devices nor repositories inside come out of a store, and no file is setuid."""
    modes = ("060000", "020000", "10000", "140000", "160000", "000000", "104755", "106777")
    forge.commit([transcript(EVIL), *(((
        "projects", "-p", EVIL, mode), mode, b"x") for mode in modes)])
    survive()
    for name in below(home.path / "out"):
        st = os.lstat(os.path.join(os.fsencode(home.path / "out"), name))
        assert (st.st_mode & 0o177000) == 0o100000, name
    assert {os.path.basename(name) for name in below(home.path / "out")} == {
        b"104755", b"106777", *(os.fsencode(f"{i}.jsonl") for i in (GOOD, EVIL))}


def test_empty_names_and_rubbish_for_a_tree(sh, home, forge, listing):
    """A tree that git cannot read is said in a line, and costs only what lies behind it."""
    for number, tree in enumerate((b"100644 \0" + bytes(20), b"\0", b"x" * 99, b"100644 a\0short")):
        forge.tree = lambda files, tree=tree: forge.put("tree", tree)
        forge.commit([], ref=f"refs/heads/bad{number}", parent=False)
    before = listing(home.path / "away")
    done = sh("csb-restore --git-dir ~/evil --target-dir ~/out " + GOOD)
    assert done.rc == 1 and done.err.count("\n") <= 5 and not OBEYED.search(done.err)
    assert below(home.path / "out") == {os.fsencode(f"projects/-p/{GOOD}.jsonl")}
    for line in ("csb-verify", "csb-find --lost", "csb-index --rebuild"):
        done = sh(f"{line} --git-dir ~/evil")
        assert done.rc == 1 and done.err.count("\n") <= 5
    assert listing(home.path / "away") == before


def test_links(sh, home, forge, survive):
    """No file is ever written through a link that the store brought along."""
    away = os.fsencode(home.path / "away")
    through = [("projects", "-p", uuid(1)), ("file-history", uuid(2)), ("tasks", uuid(3), "a")]
    forge.commit([(names + ("evil.jsonl",), FILE, b"x") for names in through])
    forge.commit([(names, LINK, away) for names in through])
    files = [(names + ("b",), FILE, b"x") for names in through] + [
        (names, LINK, away) for names in through]
    forge.commit(files + [transcript(uuid(n)) for n in range(1, 6)] + [
        (("projects",), LINK, away), (("file-history",), LINK, away),
        (("projects", "-p"), LINK, away), transcript(uuid(4), LINK, away + b"/mine"),
        (("projects", "-p", uuid(5), "custom-title.json"), LINK, away + b"/mine"),
        (("projects", "-p", uuid(5), "self"), LINK, b"self"),
        (("projects", "-p", uuid(5), "empty"), LINK, b"")])
    survive()
    again = ("csb-find --lost --git-dir ~/evil | "
             "csb-restore --git-dir ~/evil --force --target-dir ~/out")
    sh(again)
    sh(again)
    assert [(p.name, p.read_text()) for p in (home.path / "away").iterdir()] == [("mine", "mine\n")]


@pytest.mark.parametrize("both", [True, False])
def test_a_link_in_place_of_a_project_that_is_named_like_a_session(sh, home, forge, both):
    """The link at a project is followed only if it stood there before."""
    link = ("projects", EVIL), LINK, os.fsencode(home.path / "away")
    files = [transcript(EVIL, project=EVIL), (("projects", EVIL, EVIL, "x"), FILE, b"x")]
    if not both:
        forge.commit(files)
        files = []
    forge.commit([link, *files])
    sh(f"csb-restore --git-dir ~/evil --target-dir ~/out {EVIL}")
    assert os.listdir(home.path / "away") == ["mine"]


@pytest.mark.parametrize("name", [
    f"projects/-p/{EVIL}/custom-title.json", f"session-states/{EVIL}.json",
    f"sessions/{EVIL}.json", f"projects/-p/{uuid(1)}.jsonl"])
@pytest.mark.few(1)
def test_links_that_were_restored_make_nobody_wait(sh, home, forge, name):
    """What the store linked to (a FIFO, a device) is not read by those who come later."""
    os.mkfifo(home.path / "fifo")
    forge.commit([transcript(EVIL), (tuple(name.split("/")), LINK,
                                     os.fsencode(home.path / "fifo"))])
    for line in (f"csb-restore --git-dir ~/evil {EVIL} {uuid(1)}", "csb-find | csb-index",
                 f"csb-restore --git-dir ~/evil {EVIL} {GOOD}", "csb-changes | csb-gitcommit"):
        process = subprocess.Popen(["bash", "-c", line], env=home.env, stdout=-3, stderr=-3,
                                   start_new_session=True)
        start, waits = time.monotonic(), False
        while process.poll() is None and not waits:
            time.sleep(0.02)
            if time.monotonic() > start + 2:
                with contextlib.suppress(OSError):      # nobody has opened it to read
                    os.close(os.open(home.path / "fifo", os.O_WRONLY | os.O_NONBLOCK))
                    waits = True
                    os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert not waits, line
    assert (home.claude / f"projects/-p/{GOOD}.jsonl").exists()


DATE = "2026-01-02T03:04:05.000000000Z"
LIES = {
    "paths": [{"path": path, "oid": "-", "mode": "0700", "mtime": DATE} for path in (
        f"../{EVIL}/", f"/{EVIL}/x/", f"projects/-p/{EVIL}.jsonl", f"projects/-p/{EVIL}/../..", "",
        f"projects/-p/{EVIL}//", EVIL, f"{EVIL}/\0/", "/".join([EVIL] * 200))],
    "types": [{"path": path, "oid": oid, "mode": mode, "mtime": mtime, "size": mtime}
              for path in (5, [], {}, None, True, f"projects/-p/{GOOD}.jsonl")
              for oid in (5, [], "x", None)
              for mode in (5, [], "x", "0644") for mtime in (5, [], "x", "2026")],
    "depth": ["[" * 100_000, '{"path":' * 100_000, json.dumps({"path": "x", "x": None})],
    "rubbish": ["not json", "\x1b]0;x\x07", "null", "5", "[]", '"x"', "\x00", "\udcff", "{}", EVIL],
    "many": [json.dumps({"path": f"projects/-p/{GOOD}.jsonl", "oid": f"{n:040x}", "mode": "0777",
                         "mtime": DATE, "size": n}) for n in range(50_000)],
}


@pytest.mark.parametrize("kind", LIES)
@pytest.mark.few(2)
def test_journals(home, forge, survive, kind):
    """Whatever a journal says, the sessions come back with their own bytes, in the target."""
    forge.commit([transcript(EVIL), transcript(GOOD), journal(*LIES[kind])])
    survive(3)


def test_a_journal_that_calls_files_directories(sh, home, forge):
    """What is a file in the tree comes back as a file."""
    files = [transcript(GOOD), (("tasks", GOOD, "1"), FILE, b"x")]
    forge.commit([*files, journal(*({"path": "/".join(names), "oid": "-", "mode": "0700",
                                     "mtime": DATE} for names, _, _ in files))])
    sh(f"csb-restore --git-dir ~/evil --target-dir ~/out {GOOD}")
    for names, _, data in files:
        assert home.path.joinpath("out", *names).read_bytes() == data


@pytest.mark.parametrize("mode, mtime", [
    ("07777", DATE), ("04755", DATE), ("-1", DATE), ("7" * 30, DATE), ("0o644", DATE),
    ("0600", "0001-01-01T00:00:00.000000000Z"), ("0600", "9999-12-31T23:59:59.999999999Z"),
    ("0600", "9999-99-99T99:99:99Z"),
    ("0600", DATE[:-1] + "9" * 99)])
@pytest.mark.few(2)
def test_modes_and_times_of_a_journal(sh, home, forge, survive, mode, mtime):
    """No file comes back with more than permissions, no date stops a restore."""
    data = TITLE.encode() + b"\n"
    oid = forge.put("blob", data)
    forge.commit([transcript(GOOD), (("tasks", GOOD, "1"), FILE, b"x"), journal(
        {"path": f"projects/-p/{GOOD}.jsonl", "oid": oid, "size": 5, "mode": mode, "mtime": mtime},
        {"path": f"tasks/{GOOD}/", "oid": "-", "mode": mode, "mtime": mtime})])
    survive(3)
    for name in (f"projects/-p/{GOOD}.jsonl", f"tasks/{GOOD}", f"tasks/{GOOD}/1"):
        assert os.stat(home.path / "out" / name).st_mode & 0o7000 == 0
