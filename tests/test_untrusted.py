"""a store that somebody else made writes nothing outside, and makes nobody wait"""
import contextlib
import json
import os
import signal
import stat
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

FOLDER = "40000"
OWN = "projects", "-p", EVIL        # what lies beside the evil transcript
RESTORE = "csb-restore --git-dir ~/evil --target-dir ~/out"
DATE = "2026-01-02T03:04:05.000000000Z"


@pytest.fixture
def forge(home):
    return evil_store(home)


@pytest.fixture
def survive(sh, home, listing, forge):
    return survivor(sh, home, listing)


@pytest.fixture
def away(home):
    """A place that no tool may touch: there is a file in it."""
    return home.path / "away"


def main_file(session):
    """The path of a transcript, as below() gives it."""
    return os.fsencode(f"projects/-p/{session}.jsonl")


def directory(path):
    """What a journal says of a directory."""
    return {"path": path, "oid": "-", "mode": "0700", "mtime": DATE}


UNSAFE = [
    b"..", b".", b"../evil", b"../../../../../away/evil", b".git", b".GIT", b"git~1",
    b".git ", b".git::$INDEX_ALLOCATION", b"GIT~1.", b"x" * 256, b"x" * 4096]
ODD = [
    b"new\nline", b"tab\t", b"\x1b]0;x\x07", b"\x1b[2J", "\u202egpj".encode(),
    b"\x9b2J", b"\xff", b"-rf", b"~root", b"$(touch ran)", b"`touch ran`",
    b";touch ran", b"|touch ran", b"*", b"A", b"a", b"x" * 255, b"con", b":(glob)",
    b"@{u}", b'"', b"\\", b" "]


def test_names(sh, home, away, forge, survive):
    """No name leads out of the target; every other name comes back as it is."""
    deep = forge.tree([(("deep",), FILE, b"deep")])
    for _ in range(499):
        deep = forge.tree([(("d",), FOLDER, deep)])

    files = [transcript(EVIL), ((*OWN, "d"), FOLDER, deep)]
    for name in UNSAFE:
        files.append(((*OWN, name, "x"), FILE, b"x"))
        files.append(((*OWN, name), RUN, b"y"))
    for name in ODD:
        files.append(((*OWN, name, "x"), FILE, name))
    for folder in (str(away), "..", "/", "tasks/../../away"):
        files.append(((folder, EVIL, "x"), FILE, b"x"))
    for project in ("..", "../.."):
        files.append((("projects", project, f"{EVIL}.jsonl"), FILE, b"{}\n"))
    files.append(((f"{away}/{EVIL}.jsonl",), FILE, b"x"))
    files.append(((".git", EVIL, "hooks"), RUN, b"x"))
    outside = (f"../{EVIL}/", f"/{EVIL}/", f"{EVIL}/../../", f"tasks/{EVIL}/.git/")
    files.append(journal(*map(directory, outside)))
    forge.commit(files)
    survive()

    wanted = {main_file(GOOD), main_file(EVIL)}
    wanted.add(os.fsencode(f"projects/-p/{EVIL}/{'d/' * 500}deep"))
    for name in ODD:
        wanted.add(os.path.join(os.fsencode("/".join(OWN)), name, b"x"))
    sh(f"{RESTORE} --force {GOOD}").ok()
    record = json.dumps({"session_id": EVIL, "project": "-p"})
    assert sh(RESTORE, record.encode()).rc == 1
    assert below(home.path / "out") == wanted
    assert os.listdir(away) == ["mine"]


@pytest.mark.parametrize("name", [
    "\u200c.git", ".g\u200cit", ".gi\ufefft", ".\u202egit"])
@pytest.mark.few(2)
def test_names_that_another_system_takes_for_git(sh, home, forge, name):
    """A copy on a Mac must not become the hooks of a repository."""
    forge.commit([transcript(EVIL), ((*OWN, name, "hooks", "x"), RUN, b"x")])
    done = sh(f"{RESTORE} {EVIL}")
    assert done.rc == 1 and "not safe" in done.err
    assert below(home.path / "out") == {main_file(EVIL)}


def test_kinds(home, forge, survive):
    """Neither devices nor repositories come out of a store, and no file is setuid."""
    files = [transcript(EVIL)]
    for mode in ("060000", "020000", "10000", "140000", "160000", "000000", "104755",
                 "106777"):
        files.append(((*OWN, mode), mode, b"x"))
    forge.commit(files)
    survive()
    out = home.path / "out"
    names = set()
    for path in below(out):
        mode = os.lstat(os.path.join(os.fsencode(out), path)).st_mode
        assert stat.S_ISREG(mode) and mode & 0o7000 == 0, path
        names.add(os.path.basename(os.fsdecode(path)))
    assert names == {"104755", "106777", f"{GOOD}.jsonl", f"{EVIL}.jsonl"}


def test_empty_names_and_rubbish_for_a_tree(sh, home, away, forge, listing):
    """A tree that git cannot read is said in a line, and costs what lies behind it."""
    trees = [b"100644 \0" + bytes(20), b"\0", b"x" * 99, b"100644 a\0short"]
    for number, tree in enumerate(trees):
        forge.tree = lambda files, tree=tree: forge.put("tree", tree)
        forge.commit([], ref=f"refs/heads/bad{number}", parent=False)
    before = listing(away)
    done = sh(f"{RESTORE} {GOOD}")
    assert done.rc == 1 and done.err.count("\n") <= 5
    assert not OBEYED.search(done.err)
    assert below(home.path / "out") == {main_file(GOOD)}
    for line in ("csb-verify", "csb-find --lost", "csb-index --rebuild"):
        done = sh(f"{line} --git-dir ~/evil")
        assert done.rc == 1 and done.err.count("\n") <= 5
    assert listing(away) == before


def test_links(sh, away, forge, survive):
    """No file is ever written through a link that the store brought along."""
    target = os.fsencode(away)
    through = [
        ("projects", "-p", uuid(1)), ("file-history", uuid(2)), ("tasks", uuid(3), "a")]
    links = [(names, LINK, target) for names in through]
    forge.commit([((*names, "evil.jsonl"), FILE, b"x") for names in through])
    forge.commit(links)

    beside = "projects", "-p", uuid(5)
    both = [((*names, "b"), FILE, b"x") for names in through]
    transcripts = [transcript(uuid(number)) for number in range(1, 6)]
    forge.commit([
        *both,
        *links,
        *transcripts,
        (("projects",), LINK, target),
        (("file-history",), LINK, target),
        (("projects", "-p"), LINK, target),
        transcript(uuid(4), LINK, target + b"/mine"),
        ((*beside, "custom-title.json"), LINK, target + b"/mine"),
        ((*beside, "self"), LINK, b"self"),
        ((*beside, "empty"), LINK, b"")])
    survive()
    for _ in range(2):
        sh(f"csb-find --lost --git-dir ~/evil | {RESTORE} --force")
    assert os.listdir(away) == ["mine"]
    assert (away / "mine").read_text() == "mine\n"


@pytest.mark.parametrize("both", [True, False])
def test_a_link_in_place_of_a_project_that_is_named_like_a_session(
        sh, away, forge, both):
    """The link at a project is followed only if it stood there before."""
    link = ("projects", EVIL), LINK, os.fsencode(away)
    inside = ("projects", EVIL, EVIL, "x"), FILE, b"x"
    files = [transcript(EVIL, project=EVIL), inside]
    if both:
        forge.commit([link, *files])
    else:
        forge.commit(files)
        forge.commit([link])
    sh(f"{RESTORE} {EVIL}")
    assert os.listdir(away) == ["mine"]


def is_read(fifo):
    """Does somebody wait to read a FIFO? Then he waits no more."""
    try:
        os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
    except OSError:
        return False
    return True


@pytest.mark.parametrize("name", [
    f"projects/-p/{EVIL}/custom-title.json", f"session-states/{EVIL}.json",
    f"sessions/{EVIL}.json", f"projects/-p/{uuid(1)}.jsonl"])
@pytest.mark.few(1)
def test_links_that_were_restored_make_nobody_wait(home, forge, name):
    """What the store linked to (a FIFO, a device) is not read by later runs."""
    fifo = home.path / "fifo"
    os.mkfifo(fifo)
    link = tuple(name.split("/")), LINK, os.fsencode(fifo)
    forge.commit([transcript(EVIL), link])
    for line in (f"csb-restore --git-dir ~/evil {EVIL} {uuid(1)}",
                 "csb-find | csb-index",
                 f"csb-restore --git-dir ~/evil {EVIL} {GOOD}",
                 "csb-changes | csb-gitcommit"):
        process = subprocess.Popen(
            ["bash", "-c", line], env=home.env, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        patience = time.monotonic() + 2
        while process.poll() is None:
            time.sleep(0.02)
            if time.monotonic() > patience and is_read(fifo):
                with contextlib.suppress(OSError):
                    os.killpg(process.pid, signal.SIGKILL)
                pytest.fail(f"{line} waits for the FIFO")
    assert (home.claude / f"projects/-p/{GOOD}.jsonl").exists()


def lies_about_types():
    """Lines of a journal in which no value is what it should be."""
    for path in (5, [], {}, None, True, f"projects/-p/{GOOD}.jsonl"):
        for oid in (5, [], "x", None):
            for mode in (5, [], "x", "0644"):
                for mtime in (5, [], "x", "2026"):
                    yield {"path": path, "oid": oid, "mode": mode, "mtime": mtime,
                           "size": mtime}


def many_lies():
    """A file that was everything."""
    for number in range(50_000):
        yield {"path": f"projects/-p/{GOOD}.jsonl", "oid": f"{number:040x}",
               "mode": "0777", "mtime": DATE, "size": number}


LIES = {
    "paths": [directory(path) for path in (
        f"../{EVIL}/", f"/{EVIL}/x/", f"projects/-p/{EVIL}.jsonl",
        f"projects/-p/{EVIL}/../..", "", f"projects/-p/{EVIL}//", EVIL, f"{EVIL}/\0/",
        "/".join([EVIL] * 200))],
    "types": list(lies_about_types()),
    "depth": ["[" * 100_000, '{"path":' * 100_000, '{"path": "x", "x": null}'],
    "rubbish": [
        "not json", "\x1b]0;x\x07", "null", "5", "[]", '"x"', "\x00", "\udcff", "{}",
        EVIL],
    "many": list(many_lies()),
}


@pytest.mark.parametrize("kind", LIES)
@pytest.mark.few(2)
def test_journals(forge, survive, kind):
    """Whatever a journal says, the sessions come back with their bytes, where asked."""
    forge.commit([transcript(EVIL), transcript(GOOD), journal(*LIES[kind])])
    survive(3)


def test_a_journal_that_calls_files_directories(sh, home, forge):
    """What is a file in the tree comes back as a file."""
    files = [transcript(GOOD), (("tasks", GOOD, "1"), FILE, b"x")]
    paths = ["/".join(names) for names, _, _ in files]
    forge.commit([*files, journal(*map(directory, paths))])
    sh(f"{RESTORE} {GOOD}")
    for path, (_, _, data) in zip(paths, files, strict=True):
        assert (home.path / "out" / path).read_bytes() == data


@pytest.mark.parametrize("mode, mtime", [
    ("07777", DATE),
    ("04755", DATE),
    ("-1", DATE),
    ("7" * 30, DATE),
    ("0o644", DATE),
    ("0600", "0001-01-01T00:00:00.000000000Z"),
    ("0600", "9999-12-31T23:59:59.999999999Z"),
    ("0600", "9999-99-99T99:99:99Z"),
    ("0600", DATE[:-1] + "9" * 99)])
@pytest.mark.few(2)
def test_modes_and_times_of_a_journal(home, forge, survive, mode, mtime):
    """No file comes back with more than permissions, no date stops a restore."""
    main, folder = f"projects/-p/{GOOD}.jsonl", f"tasks/{GOOD}"
    oid = forge.put("blob", TITLE.encode() + b"\n")
    said = {"mode": mode, "mtime": mtime}
    forge.commit([
        transcript(GOOD),
        (("tasks", GOOD, "1"), FILE, b"x"),
        journal({"path": main, "oid": oid, "size": 5, **said},
                {"path": folder + "/", "oid": "-", **said})])
    survive(3)
    for path in (main, folder, folder + "/1"):
        assert os.stat(home.path / "out" / path).st_mode & 0o7000 == 0
