"""csb-index: what changed is told, what is gone is known, all can be made anew."""
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import tarfile
import time

import pytest
from conftest import LONG, SHARED, STORE, WHEN, line, name, problems, put_into

pytestmark = pytest.mark.logic

DATA = os.path.join(SHARED, "data", "transcripts.tar.xz")
GROWTH = os.path.join(SHARED, "data", "growth.tar.xz")
INDEX = "csb-find | csb-index"
ALL = "csb-list --all --sort size"


@pytest.fixture
def unread(home):
    """unread(numbers): no run can read these sessions' transcripts from now on."""
    def close(numbers, project="-w"):
        for number in numbers:
            (home.claude / f"projects/{project}/{name(number)}.jsonl").chmod(0)
    return close


def processes(sh, line, tmp_path):
    """How many processes a command makes."""
    strace = shutil.which("strace")
    if strace is None or subprocess.run([strace, "-o", os.devnull, "true"]).returncode:
        pytest.skip("strace is not installed, or may not trace here")
    log = tmp_path / "log"
    sh(f"{strace} -f -qq -e trace=fork,vfork,clone,clone3 -o {log} {line}").ok()
    return log.read_text().count("= ")


def changes(done):
    """{number: change} of the sessions in what a tool said."""
    found = {}
    for record in done.records:
        if record["kind"] == "session":
            found[int(record["session_id"][-12:])] = record["change"]
    return found


def listed(sh, line=ALL):
    """{(project, session_id): record} of the index."""
    return {(r["project"], r["session_id"]): r for r in sh(line).ok().records}


def noted(home):
    """{number: state} of the index, whatever the disk says."""
    db = sqlite3.connect(home.backup / "session-backup.db")
    rows = db.execute("SELECT session_id, state FROM session").fetchall()
    db.close()
    return {int(json.loads(session_id)[-12:]): state for session_id, state in rows}


def get(sh, number):
    return listed(sh)["-w", name(number)]


def without(record, *fields):
    return {key: value for key, value in record.items() if key not in fields}


def kinds(done):
    return [record["kind"] for record in done.records]


def test_from_new_to_revived(sh, put, home):
    """Everything that can happen to a session, one after the other."""
    path = put(1, line("first") + line("second"))
    put(2, line("x"))
    done = sh(INDEX).ok()
    assert changes(done) == {1: "new", 2: "new"}
    assert kinds(done) == ["session", "session", "end"]
    want = {
        **sh("csb-find").ok().records[0],
        "title": "first",
        "title_from": "prompt",
        "cwd": "/w",
        "started": "2026-01-02T03:04:05.678Z",
        "last_active": "2026-01-02T03:04:05.678Z",
        "last_user_at": "2026-01-02T03:04:05.678Z",
        "messages": 2,
        "user_messages": 2,
        "tool_calls": 0,
        "folders": [{"path": "/w", "work": 2}],
        "bad_lines": 0,
        "state": "present",
        "purge_at": "2026-02-01T03:04:05Z",
    }
    assert without(done.records[0], "change") == want
    assert get(sh, 1) == want

    assert changes(sh(INDEX).ok()) == {1: "same", 2: "same"}
    put(1, path.read_text() + line("third"))
    assert changes(sh(INDEX).ok()) == {1: "grew", 2: "same"}
    assert get(sh, 1)["messages"] == 3
    put(1, path.read_text(), mtime=WHEN + 86400)
    assert changes(sh(INDEX).ok())[1] == "same"
    assert get(sh, 1)["purge_at"] == "2026-02-02T03:04:05Z"

    held, kept = path.read_text(), get(sh, 1)
    path.unlink()
    before = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    done = sh(INDEX).ok()
    assert changes(done) == {1: "deleted", 2: "same"}
    after = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 1))
    assert kinds(done) == ["session", "session", "end"]
    gone = get(sh, 1)
    assert gone["state"] == "deleted"
    assert before <= gone["deleted_at"] <= after
    assert without(gone, "state", "deleted_at") == without(kept, "state", "purge_at")
    assert changes(sh(INDEX).ok()) == {2: "same"}

    put(1, held, mtime=WHEN + 86400)
    assert changes(sh(INDEX).ok()) == {1: "revived", 2: "same"}
    assert get(sh, 1) == kept
    assert changes(sh(INDEX).ok()) == {1: "same", 2: "same"}


STUBS = ["", "\n", "garbage\n", "[]\n", "\0" * 5000, '{"torn']


def test_it_looks_at_the_disk_itself(sh, put):
    """--on-disk says what csb-find | csb-index says, and what is gone is gone."""
    put(1, line("first"))
    path = put(2, line("second"))
    assert changes(sh("csb-index --on-disk").ok()) == {1: "new", 2: "new"}
    assert sh("csb-index --on-disk </dev/null").ok().out == sh(INDEX).ok().out
    path.unlink()
    assert changes(sh("csb-index --on-disk").ok()) == {1: "same", 2: "deleted"}


def test_a_stub_revives_nothing(sh, put, unread):
    numbers = range(1, len(STUBS) + 1)
    put(0, line())
    for number in numbers:
        put(number, line("first") * 3)
    sh(INDEX).ok()
    for number in numbers:
        put(number, "").unlink()
    sh(INDEX).ok()
    gone = listed(sh)
    for number, stub in zip(numbers, STUBS, strict=True):
        put(number, stub)
    for _ in range(2):
        assert set(changes(sh(INDEX).ok()).values()) == {"same"}
        assert listed(sh) == gone
        unread(numbers)         # the stubs are parsed once
    for number in numbers:
        put(number, "").unlink()
        put(number, line("first") * 3)
    assert changes(sh(INDEX).ok()) == {0: "same", **dict.fromkeys(numbers, "revived")}
    for record in listed(sh).values():
        assert "rewritten_at" not in record


REWRITES = [
    (line("first"), "shrunk", True),
    ("", "shrunk", True),
    ("{}\n", "shrunk", True),
    (line("FIRST") * 3, "rewritten", True),
    (line("other") * 9, "rewritten", True),
    ("\0" * len(line("first")) * 3, "rewritten", True),
    (line("first") * 4, "grew", False),
]


def test_a_rewrite_is_news(sh, put):
    for number in range(len(REWRITES)):
        put(number, line("first") * 3)
    sh(INDEX).ok()
    for number, (text, _, _) in enumerate(REWRITES):
        put(number, text, mtime=WHEN + 1)
    found = changes(sh(INDEX).ok())
    before = listed(sh)
    for number, (text, change, marked) in enumerate(REWRITES):
        assert found[number] == change
        record = before["-w", name(number)]
        assert ("rewritten_at" in record) is marked, text
        first = json.loads(text.partition("\n")[0]) if text[:1] == "{" else {}
        assert record.get("cwd") == first.get("cwd"), "as its transcript says now"
        put(number, text + line("more"), mtime=WHEN + 2)
    sh(INDEX).ok()
    for key, record in listed(sh).items():
        assert record.get("rewritten_at") == before[key].get("rewritten_at")


def test_an_unfinished_line_may_change(sh, put):
    """What must hold is what stood up to the last newline."""
    put(1, line("a") + line("b")[:-5])
    sh(INDEX).ok()
    for text, change in (
        (line("a") + line("b")[:-9], "shrunk"),
        (line("a") + line("b")[:-1], "grew"),
        (line("a") + line("b")[:-3], "shrunk"),
    ):
        put(1, text, mtime=WHEN + len(text))
        assert changes(sh(INDEX).ok())[1] == change
        assert "rewritten_at" not in get(sh, 1), text


def test_only_what_changed_is_read(sh, put, unread):
    texts = {number: line("x") * number for number in range(1, 40)}
    for number, text in texts.items():
        put(number, text)
    sh(INDEX).ok()
    unread(texts)
    assert set(changes(sh(INDEX).ok()).values()) == {"same"}
    for number in (7, 8):
        put(number, "").unlink()
    put(7, texts[7] + line("more"))
    put(8, texts[8], mtime=WHEN + 5)
    assert changes(sh(INDEX).ok())[7] == "grew" and get(sh, 7)["messages"] == 8
    put(9, "").unlink()
    assert changes(sh(INDEX).ok())[9] == "deleted"


def test_only_what_was_appended_is_parsed(sh, put, home):
    """What the lines before said is taken from the index, not learned once more."""
    path = put(1, line("first") * 3)
    sh(INDEX).ok()
    db = sqlite3.connect(home.backup / "session-backup.db")
    (text,) = db.execute("SELECT facts FROM session").fetchone()
    known = json.loads(text)
    known["messages"] = 40
    with db:
        db.execute("UPDATE session SET facts = ?", [json.dumps(known)])
    db.close()
    put(1, path.read_text() + line("more"), mtime=WHEN + 1)
    sh(INDEX).ok()
    assert get(sh, 1)["messages"] == 41


@pytest.mark.parametrize("size, count", [(10, 0), (6000, min(os.cpu_count(), 4))])
def test_a_first_index_uses_all_cores(sh, put, tmp_path, size, count):
    """And one process, if it is little."""
    for number in range(4):
        put(number, line("x" * 1000) * size)
    sh("csb-find >found").ok()
    made = processes(sh, "csb-index <found", tmp_path)
    assert made == (count if count > 1 else 0)
    for record in listed(sh).values():
        assert record["messages"] == size


def test_deleted_only_if_all_was_seen(sh, put, home):
    """Part of the sessions, none of the end, an end that does not fit: no deletion."""
    for number in range(3):
        put(number, line(), f"-{number}")
    sh(INDEX).ok()
    whole = sh("csb-find").ok().out
    first, second, third, end = whole.splitlines(True)
    for path in (home.claude / "projects").glob("*/*"):
        path.unlink()
    for text in (
        first + second,
        second + third + end,
        end,
        first + end,
        first * 3 + end,
        whole.replace('"complete":true', '"x":1'),
        whole.replace("true", "false"),
        whole.replace("true", '"true"'),
    ):
        assert "deleted" not in changes(sh("csb-index", text.encode())).values(), text

    # A dangling link is no deletion.
    (home.claude / "projects" / "-0" / f"{name(0)}.jsonl").symlink_to("nowhere")
    assert changes(sh(INDEX)) == {1: "deleted", 2: "deleted"}


def test_a_directory_that_cannot_be_listed_keeps_its_sessions(sh, put, home):
    put(1, line(), "-a")
    path = put(2, line(), "-b")
    sh(INDEX).ok()
    path.unlink()
    (home.claude / "projects/-a").chmod(0)
    done = sh(INDEX)
    assert done.rc == 1 and "deleted" not in changes(done).values()
    (home.claude / "projects/-a").chmod(0o700)
    assert changes(sh(INDEX).ok()) == {1: "same", 2: "deleted"}


@pytest.mark.parametrize("make", [
    "rm -r ~/.claude/projects",
    "rm -r ~/.claude/projects/*",
    "mv ~/.claude/projects ~; ln -s nowhere ~/.claude/projects",
    "mv ~/.claude ~/away",
])
@pytest.mark.few(2)
def test_projects_that_are_not_there(sh, put, home, make):
    """Missing or empty: nobody deletes everything; who did must say so."""
    (home.claude / "settings.json").write_text("{}")
    put(1, line())
    put(2, line())
    sh(INDEX).ok()
    done = sh(f"{make}; {INDEX}")
    assert done.rc == 1 and changes(done) == {}
    lines = done.err.splitlines()
    said, = [text for text in lines if text.startswith("csb-index: ")]
    assert "2 sessions" in said
    assert set(noted(home).values()) == {"present"}
    if "ln -s" in make:         # its disk is away: nothing can be accepted
        assert "csb restore --deleted" in said
        return
    assert "--accept-deletions" in said
    assert changes(sh(f"{INDEX} --accept-deletions")) == {1: "deleted", 2: "deleted"}
    assert noted(home) == {1: "deleted", 2: "deleted"}
    assert "csb-index" not in sh(INDEX).err, "it was said once"


def test_a_damaged_index_without_projects(sh, put, home):
    """Made anew from the store, it doubts the same once."""
    put(1, line())
    sh("csb-backup").ok()
    (home.backup / "session-backup.db").write_bytes(b"no database" * 99)
    shutil.rmtree(home.claude / "projects")
    assert sh(INDEX).err.count("cannot tell whether") == 1


def test_unreadable_projects_are_no_deletion(sh, put, home):
    put(1, line())
    sh(INDEX).ok()
    (home.claude / "projects").chmod(0)
    done = sh(f"{INDEX} --accept-deletions")
    (home.claude / "projects").chmod(0o700)
    assert (done.rc, done.err.count("\n")) == (1, 1)
    assert len(sh("csb-list").ok().records) == 1


def test_all_gone_from_projects_that_are_there(sh, put):
    path = put(1, line())
    (path.parent / "memory").mkdir()
    sh(INDEX).ok()
    path.unlink()
    assert changes(sh(INDEX).ok()) == {1: "deleted"}


def test_husks(sh, put, home):
    folder = home.claude / "projects" / "-w"
    for number in (1, 2):
        (folder / name(number)).mkdir(parents=True)
        (folder / name(number) / "x").write_text("x")
    put(2, line("had a transcript"))
    sh(INDEX).ok()
    assert get(sh, 1)["state"] == "husk"
    assert get(sh, 2)["state"] == "present"
    (folder / f"{name(2)}.jsonl").unlink()
    assert changes(sh(INDEX).ok()) == {1: "same", 2: "deleted"}
    assert get(sh, 2)["state"] == "deleted"
    assert get(sh, 2)["title"] == "had a transcript"
    assert changes(sh(INDEX).ok()) == {1: "same", 2: "same"}
    put(2, line("had a transcript"))
    assert changes(sh(INDEX).ok()) == {1: "same", 2: "revived"}
    shutil.rmtree(folder / name(1))
    assert changes(sh(INDEX).ok()) == {1: "deleted", 2: "same"}
    (folder / name(1)).mkdir()
    (folder / name(1) / "x").write_text("x")
    assert changes(sh(INDEX).ok()) == {1: "revived", 2: "same"}
    put(1, line("now it has"))
    assert changes(sh(INDEX).ok()) == {1: "grew", 2: "same"}
    assert get(sh, 1)["state"] == "present" and get(sh, 1)["title"] == "now it has"


def test_a_transcript_never_read_is_no_husk_later(sh, put, home):
    path = put(1, line("secret"))
    (path.parent / name(1)).mkdir()
    (path.parent / name(1) / "x").write_text("x")
    path.chmod(0)
    done = sh(INDEX)
    assert (done.rc, done.err.count("\n")) == (1, 1) and changes(done) == {1: "new"}
    assert get(sh, 1)["state"] == "present", "listed all the same"
    path.chmod(0o600)
    assert changes(sh(INDEX).ok()) == {1: "same"} and get(sh, 1)["title"] == "secret"
    put(2, line("never read")).chmod(0)
    (path.parent / name(2)).mkdir()
    (path.parent / name(2) / "x").write_text("x")
    assert changes(sh(INDEX)) == {1: "same", 2: "new"}
    for number in (1, 2):
        put(number, "").unlink()
    assert changes(sh(INDEX).ok()) == {1: "deleted", 2: "deleted"}


def test_one_bad_file_costs_no_other(sh, put):
    """Each kind of trouble at once; one line a file that cannot be read."""
    put(1, line("fine"))
    put(2, line("fine") + "[]\n" + line("x", message=None) + line("x", cwd=1))
    put(3, b"\xff\xfe\0\n" * 10)
    put(4, "")
    put(5, line("torn")[:-5])
    put(6, line("x")).chmod(0)
    put(7, line("\ud83d lone", cwd="/\udcff"))
    put(8, b'{"x":"' + b"x" * (9 << 20) + b'"}\n' + line("after").encode())
    done = sh(INDEX)
    assert (done.rc, done.err.count("\n")) == (1, 1) and name(6) in done.err
    assert changes(done) == dict.fromkeys(range(1, 9), "new")
    records = listed(sh)
    bad_lines = [records["-w", name(n)].get("bad_lines") for n in range(1, 9)]
    assert bad_lines == [0, 3, 10, 0, 1, None, 0, 0]
    titles = [records["-w", name(n)].get("title") for n in (2, 7, 8)]
    assert titles == ["fine", "? lone", "after"]


def test_one_id_in_two_projects(sh, put):
    put(1, line("one"), "-a")
    put(1, line("two"), "-b")
    sh(INDEX).ok()
    titles = {project: r["title"] for (project, _), r in listed(sh).items()}
    assert titles == {"-a": "one", "-b": "two"}
    put(1, line("one"), "-a").unlink()
    done = sh(INDEX).ok()
    found = [(r["project"], r["change"]) for r in done.records if r["kind"] != "end"]
    assert found == [("-b", "same"), ("-a", "deleted")]


def test_names_that_are_no_utf8(sh, put, home):
    projects = [b"-\xff", b"-\xfe\n", "-\u00e9'\"%".encode()]
    for number, project in enumerate(projects):
        put(1, line(f"odd {number}"), os.fsdecode(project))
    sh(INDEX).ok()
    assert set(changes(sh(INDEX).ok()).values()) == {"same"}
    assert {os.fsencode(project) for project, _ in listed(sh)} == set(projects)
    first, *_ = projects
    shutil.rmtree(home.claude / "projects" / os.fsdecode(first))
    records = sh(INDEX).ok().records
    gone, = [r["project"] for r in records if r.get("change") == "deleted"]
    assert os.fsencode(gone) == first


SETTINGS = [
    (None, "2026-02-01"),
    ("{}", "2026-02-01"),
    ('{"cleanupPeriodDays":7}', "2026-01-09"),
    ('\ufeff{"cleanupPeriodDays":365}', "2027-01-02"),
    ('{"cleanupPeriodDays":0}', None),
    ('{"cleanupPeriodDays":"7"}', None),
    ('{"cleanupPeriodDays":7.5}', None),
    ("{", None),
    ('{"cleanupPeriodDays":true}', None),
    ("[]", None),
    ('{"cleanupPeriodDays":1e400}', None),
    ('{"cleanupPeriodDays":99999999999999}', None),
    ('{"cleanupPeriodDays":null}', None),
    ("", None),
    ("[" * 100000, None),
]


def test_purge_at(sh, put, home):
    put(1, line())
    roots = [home.path / f"claude{number}" for number in range(len(SETTINGS))]
    for root, (settings, _) in zip(roots, SETTINGS, strict=True):
        shutil.copytree(home.claude, root)
        if settings is not None:
            (root / "settings.json").write_text(settings)
    done = sh(f"csb-find {' '.join(map(str, roots))} | csb-index").ok()
    found = [r.get("purge_at") for r in done.records if r["kind"] == "session"]
    assert found == [day and day + "T03:04:05Z" for _, day in SETTINGS]


def test_purge_at_follows_the_settings(sh, put, home):
    put(1, line())
    sh(INDEX).ok()
    (home.claude / "settings.json").write_text('{"cleanupPeriodDays":1}')
    assert changes(sh(INDEX).ok()) == {1: "same"}
    assert get(sh, 1)["purge_at"] == "2026-01-03T03:04:05Z"
    (home.claude / "settings.json").chmod(0)
    sh(INDEX).ok()
    assert "purge_at" not in get(sh, 1)


# What comes in; the exit status, which is the number of messages, too.
INPUTS = [
    (b"", 0),
    (b"\n\n", 0),
    (name(1).encode() + b"\n", 1),
    (b"garbage\n", 1),
    (b'{"kind":"session"}\n', 1),
    (b'{"kind":"end"}\n', 0),
    (b'{"kind":"end","root":[],"count":0,"complete":true}\n', 0),
    (b'{"kind":"session","session_id":[],"root":{},"project":1}\n', 1),
]
# Values that no session has.
ODD = [
    ("size", -1),
    ("size", "1"),
    ("size", True),
    ("size", 1 << 70),
    ("mtime", 1),
    ("session_id", "x"),
    ("root", 1),
    ("project", None),
    ("transcript_path", []),
    ("purge_at", {}),
    ("purge_at", "\ud800"),
    ("purge_at", 1 << 70),
]


def test_other_input(sh, put, home):
    """Empty is nothing to do, other records alone are an error, nonsense is said."""
    for text, rc in INPUTS:
        done = sh("csb-index", text)
        assert (done.rc, done.err.count("\n")) == (rc, rc), (text, done)
    put(1, line())
    for text in (
        b'{"kind":"change","path":"x"}',
        b'{"kind":"refused","path":"x"}',
        b'{"kind":"change","path":1}',
        b'{"kind":"change"}',
    ):
        sh("csb-index", text).ok()

    (home.backup / "session-backup.db").unlink()
    record = sh("csb-find").ok().records[0]
    odd = [{**record, key: value} for key, value in ODD]
    for field in without(record, "kind", "files", "bytes", "purge_at"):
        odd.append(without(record, field))
    text = "".join(json.dumps(one) + "\n" for one in odd)
    done = sh("csb-index", text.encode())
    assert (done.rc, done.out) == (1, ""), done
    assert done.err.count("\n") == len(odd), done

    noted = json.dumps({**record, "note": "\u00e9"}).encode()
    done = sh("csb-index", b'{"kind":"hello","x":[1]}\n' + noted + b"\n").ok()
    hello, session = done.records
    assert hello == {"kind": "hello", "x": [1]}
    assert (session["note"], session["change"]) == ("\u00e9", "new")


def test_odd_values_of_a_record(sh, put):
    """They are no reason to fail, or to take the index for damaged."""
    put(1, line())
    record = sh("csb-find").ok().records[0]
    for number, odd in enumerate([
        {"title_from": "file"},
        {"state": "missing"},
        {"title_from": "file", "title": "\ud800 x"},
        {"title_from": "file", "title": 1},
        {"files": []},
        {"oid": "0" * 40, "state": {}},
        {"place": []},
    ]):
        record["mtime"] = f"2026-01-02T03:04:05.00000000{number}Z"
        done = sh("csb-index", json.dumps({**record, **odd}).encode())
        assert done.rc == 0 and "damaged" not in done.err, (odd, done)
    sh("csb-list --all").ok()


def test_each_session_once_a_run(sh, put):
    put(1, line())
    put(2, line())
    done = sh("(csb-find; csb-find; csb-find --session 000001) | csb-index").ok()
    assert kinds(done) == ["session", "session", "end", "end"]


def test_the_listing_can_be_piped_back(sh, put, home):
    for number in (1, 2):
        put(number, line("x"))
    sh(INDEX).ok()
    put(2, line("x")).unlink()
    sh(INDEX).ok()
    before = sh(ALL).ok().out
    assert changes(sh(f"{ALL} | csb-index").ok()) == {1: "same", 2: "same"}
    assert sh(ALL).ok().out == before


def test_it_is_for_its_owner_only(sh, put, home):
    put(1, line())
    sh(f"umask 0; {INDEX}").ok()
    path = home.backup / "session-backup.db"
    assert path.stat().st_mode & 0o777 == 0o600
    assert home.backup.stat().st_mode & 0o777 == 0o700
    path.chmod(0o644)
    sh(INDEX).ok()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_run_without_news_writes_nothing(sh, put, home):
    put(1, line())
    sh(INDEX).ok()
    before = (home.backup / "session-backup.db").stat()
    sh(INDEX).ok()
    after = (home.backup / "session-backup.db").stat()
    assert before.st_mtime_ns == after.st_mtime_ns and before.st_ino == after.st_ino


@pytest.mark.long
def test_many_at_once(sh, put):
    for number in range(20):
        put(number, line())
    sh("pids=; for n in 1 2 3 4 5 6; do csb-find | csb-index >/dev/null &"
       ' pids="$pids $!"; done; for p in $pids; do wait $p || exit $?; done').ok()
    assert len(listed(sh)) == 20


def test_a_busy_index_is_75_in_the_end(sh, put, home):
    put(1, line())
    sh(INDEX).ok()
    db = sqlite3.connect(home.backup / "session-backup.db")
    db.execute("BEGIN EXCLUSIVE")
    child = subprocess.Popen(
        ["bash", "-c", INDEX], env=home.env, stdout=subprocess.DEVNULL)
    time.sleep(0.3)
    assert child.poll() is None, "it waits"
    db.rollback()
    assert child.wait(LONG) == 0


def test_an_index_that_is_replaced_while_somebody_waits_for_it(sh, put, home):
    """What it has to say goes into the new one."""
    put(1, line())
    sh(INDEX).ok()
    path = home.backup / "session-backup.db"
    db = sqlite3.connect(path)
    db.execute("BEGIN EXCLUSIVE")
    put(2, line())
    child = subprocess.Popen(
        ["bash", "-c", INDEX], env=home.env, stdout=subprocess.DEVNULL)
    time.sleep(0.5)
    assert child.poll() is None, "it waits"
    shutil.copy(path, home.path / "new")
    os.replace(home.path / "new", path)
    db.rollback()
    assert child.wait(LONG) == 0
    assert len(sh("csb-list").ok().records) == 2


def sql(line):
    """A function that runs a line of SQL on a database file."""
    def run(path):
        db = sqlite3.connect(path)
        db.execute(line)
        db.commit()
        db.close()
    return run


def flip(path):
    """Change many bytes all over a file."""
    data = bytearray(path.read_bytes())
    for at in range(120, len(data), 97):
        data[at] ^= 0x5a
    path.write_bytes(data)


DAMAGES = {
    "empty": lambda path: path.write_bytes(b""),
    "noise": lambda path: path.write_bytes(b"x" * 9000),
    "flip": flip,
    "foreign": lambda path: (path.unlink(), sql("CREATE TABLE other (x)")(path)),
    "row": sql("UPDATE session SET record = '{'"),
    "no table": sql("DROP TABLE session"),
}


def test_a_damaged_index_is_made_anew(sh, put, home):
    """One line, deleted sessions included; nothing that was there is thrown away.

    One that is empty is what a killed run leaves: as if there were none.
    """
    for number in range(9):
        put(number, line(f"title {number}") * number)
    sh(f"{STORE}; {INDEX}").ok()
    put(3, "").unlink()
    put(4, "").unlink()
    sh(f"{STORE}; {INDEX}").ok()
    before = listed(sh)
    for kind in ("missing", *DAMAGES):
        copy = home.path / kind
        shutil.copytree(home.backup, copy)
        path = copy / "session-backup.db"
        if kind == "missing":
            path.unlink()
            left = b""
        else:
            DAMAGES[kind](path)
            left = path.read_bytes()
        if kind in ("noise", "no table"):
            done = sh("csb-list", CSB_HOME=str(copy))
            assert done.rc in (1, 3) and done.err.count("\n") == 1, (kind, done)
        done = sh(INDEX, CSB_HOME=str(copy))
        assert (done.rc, done.err.count("\n")) == (0, bool(left)), (kind, done)
        assert ("(.bad)" in done.err) == bool(left), done
        deleted = {n for n, change in changes(done).items() if change == "deleted"}
        assert deleted == {3, 4}, kind
        done = sh(ALL, CSB_HOME=str(copy)).ok()
        after = {(r["project"], r["session_id"]): r for r in done.records}
        for record in (*before.values(), *after.values()):
            record.pop("deleted_at", None)
        assert after == before, kind
        if left:
            assert (copy / "session-backup.db.bad").read_bytes() == left


def test_without_a_store_it_is_made_from_disk(sh, put, home):
    put(1, line())
    assert changes(sh("csb-index --rebuild").ok()) == {1: "new"}
    put(1, line()).unlink()
    sh(INDEX).ok()
    assert sh("csb-index --rebuild").ok().records[-1]["count"] == 0
    assert listed(sh) == {} and not (home.backup / "git").exists()


def test_rebuild_is_the_same_index(sh, put, home):
    """Present, grown, deleted, rewritten, husks, one id twice: as it was."""
    for number in range(1, 7):
        put(number, line(f"title {number}") * number)
    put(6, line("again"), "-v")
    folder = home.claude / "projects" / "-w"
    for number in (5, 8, 9):
        (folder / name(number)).mkdir()
        (folder / name(number) / "x").write_text("x" * number)
    sh(f"{STORE}; {INDEX}").ok()
    put(1, line("title 1") * 5)
    put(2, line("other") * 2)
    for path in (f"{name(3)}.jsonl", f"{name(5)}.jsonl", f"{name(9)}/x"):
        (folder / path).unlink()
    sh(f"{STORE}; {INDEX}").ok()
    before = listed(sh)
    assert [before["-w", name(n)]["state"] for n in (1, 3, 5, 8, 9)] == [
        "present", "deleted", "deleted", "husk", "deleted"]
    done = sh("csb-index --rebuild").ok()
    assert changes(done)[3] == "deleted"
    after = listed(sh)
    put(3, line("title 3") * 3)
    assert changes(sh(INDEX).ok())[3] == "revived", "also with the mtime that it had"
    put(3, "").unlink()
    sh(INDEX).ok()
    assert after["-w", name(2)]["rewritten_at"]
    assert after == before
    assert set(changes(sh(INDEX).ok()).values()) == {"same"}


def test_rebuild_of_a_store_that_is_behind(sh, put, home):
    """What was deleted since the last backup is deleted; with projects away nothing
    is."""
    for number in (1, 2):
        put(number, line(f"title {number}"))
    sh(STORE).ok()
    put(1, "").unlink()
    done = sh("csb-index --rebuild").ok()
    assert changes(done) == {1: "deleted", 2: "new"}
    assert kinds(done) == ["session", "session", "end"], "each once"
    os.rename(home.claude / "projects", home.path / "away")
    done = sh("csb-index --rebuild")
    assert done.rc == 1 and "--accept-deletions" in done.err
    assert noted(home) == {1: "present", 2: "present"}
    sh("csb-index --rebuild --accept-deletions")
    assert noted(home) == {1: "deleted", 2: "deleted"}


def test_a_rebuild_that_is_killed_leaves_the_old_index(sh, put, home, tools):
    for number in range(4):
        put(number, line("x" * 1000) * 3000)
    sh(INDEX).ok()
    before = sh(ALL).ok().out
    for pause in (0.05, 0.1, 0.15, 0.2, 0.25):
        child = subprocess.Popen(
            ["csb-index", "--rebuild"],
            env=home.env,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(pause)
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        assert sh(ALL).ok().out == before
    sh(INDEX).ok()


def test_a_rebuild_without_a_readable_store_changes_nothing(sh, put, home):
    put(1, line())
    sh(f"{STORE}; {INDEX}").ok()
    put(1, line()).unlink()
    sh(INDEX).ok()
    before = sh(ALL).ok().out
    shutil.rmtree(home.backup / "git" / "objects")
    done = sh("csb-index --rebuild")
    assert done.rc != 0 and sh(ALL).ok().out == before
    put(2, line())
    assert changes(sh(INDEX).ok()) == {2: "new"}, "and the disk needs no store"


def test_a_rewritten_session_keeps_its_mark(sh, put):
    put(1, line("a") * 3)
    sh(INDEX).ok()
    put(1, line("b"))
    sh(INDEX).ok()
    marked = get(sh, 1)["rewritten_at"]
    put(1, line("b") * 2)
    sh(INDEX).ok()
    put(1, "").unlink()
    sh(INDEX).ok()
    assert get(sh, 1)["rewritten_at"] == marked
    put(1, line("b") * 2)
    sh(INDEX).ok()
    assert get(sh, 1)["rewritten_at"] == marked


def test_a_listing_that_is_out_of_date(sh, put):
    """It came late: what has grown or come since is neither shrunk nor deleted."""
    put(1, line("a"))
    sh("csb-find >old").ok()
    put(1, line("a") * 3, mtime=WHEN + 1)
    put(2, line("b"))
    sh(INDEX).ok()
    assert changes(sh("csb-index <old").ok()) == {1: "same"}
    assert "rewritten_at" not in get(sh, 1) and get(sh, 2)["state"] == "present"
    assert changes(sh(INDEX).ok()) == {1: "same", 2: "same"}
    assert get(sh, 1)["messages"] == 3 and "rewritten_at" not in get(sh, 1)


def test_an_index_that_cannot_be_written(sh, put, home):
    put(1, line())
    (home.backup / "session-backup.db").mkdir(parents=True)
    done = sh(INDEX)
    assert (done.rc, done.out, done.err.count("\n")) == (1, "", 1), done
    done = sh("csb-list")
    assert done.rc in (1, 3) and done.err.count("\n") == 1


@pytest.mark.long
@pytest.mark.skipif(not os.path.exists(GROWTH), reason="no real transcripts")
def test_real_files_that_grow(sh, home, tmp_path):
    """Snapshot after snapshot makes the same index as the last one at once."""
    with tarfile.open(GROWTH) as file:
        file.extractall(tmp_path)
    sessions = {}
    for path in sorted((tmp_path / "growth").glob("*/*")):
        sessions[path.name] = sorted(path.glob("*.jsonl"))
    (home.claude / "projects" / "-g").mkdir(parents=True)
    for step in range(5):
        for session, paths in sessions.items():
            to = home.claude / "projects" / "-g" / f"{session}.jsonl"
            to.write_bytes(paths[min(step, len(paths) - 1)].read_bytes())
            os.utime(to, (WHEN + step, WHEN + step))
        done = sh(INDEX).ok()
        expected = {"grew", "same"} if step else {"new"}
        assert {r["change"] for r in done.records[:-1]} <= expected
    grown = sh(ALL).ok().out
    (home.backup / "session-backup.db").unlink()
    sh(INDEX).ok()
    assert sh(ALL).ok().out == grown and len(listed(sh)) == 8


@pytest.mark.long
@pytest.mark.skipif(not os.path.exists(DATA), reason="no real transcripts")
def test_real_directories(sh, home, tmp_path):
    """Index, back up, delete all, back up, rebuild: the same, from git alone."""
    with tarfile.open(DATA) as file:
        file.extractall(tmp_path / "data")
    roots = [path.parent for path in (tmp_path / "data").glob("*/projects")]

    def weight(root):
        return sum(path.stat().st_size for path in root.rglob("*"))

    for root in sorted(roots, key=weight)[:2]:      # the big ones would take too long
        env = {
            "CLAUDE_CONFIG_DIR": str(root),
            "CSB_HOME": str(tmp_path / "backup" / root.name),
        }
        sh(f"{STORE}; {INDEX}", **env).ok()
        present = sh(ALL, **env).ok().records
        for path in root.glob("projects/*/*"):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        assert present
        assert {r["state"] for r in present} <= {"present", "husk"}
        sh(f"{STORE}; {INDEX}", **env).ok()
        gone = [{**r, "state": "deleted"} for r in present]
        for expected in gone:
            expected.pop("purge_at")
        for again in ("true", "csb-index --rebuild"):
            records = sh(f"{again} >/dev/null; {ALL}", **env).ok().records
            for record in records:
                assert record.pop("deleted_at")
            assert records == gone, (root, again)


# --- change records -------------------------------------------------------------------

CHANGES = "csb-changes | csb-index"


def the_same_made_anew(sh, home):
    """The index is the same as one that is made anew, record by record."""
    before = listed(sh)
    sh("csb-index --rebuild").ok()
    assert listed(sh) == before


def test_changes_name_sessions(sh, put, home, unread):
    """Only these are looked at: what came, grew, was deleted, moved and came back."""
    for number in range(1, 6):
        put(number, line(f"title {number}"))
    assert set(changes(sh(CHANGES).ok()).values()) == {"new"}
    sh(STORE).ok()
    sh("csb-changes | csb-gitcommit").ok()
    unread([5])
    put(1, line("title 1") * 2)
    put(2, "").unlink()
    move(home, 3, "-w", "-v")
    put(6, line("title 6"))
    found = changes(sh(CHANGES))
    found = {number: change for number, change in found.items() if change != "same"}
    assert found == {1: "grew", 2: "deleted", 3: "moved", 6: "new"}
    (home.claude / f"projects/-w/{name(5)}.jsonl").chmod(0o600)
    sh(STORE).ok()
    assert {(r["project"], r["state"]) for r in listed(sh).values()} == {
        ("-w", "present"), ("-w", "deleted"), ("-v", "present")}
    the_same_made_anew(sh, home)
    put(2, line("title 2"))
    assert changes(sh(CHANGES).ok())[2] == "revived"


def test_changes_of_what_lies_beside_a_transcript(sh, put, home):
    """Files of the session, its title, flat agents, and how long sessions are kept."""
    put(1, line("title"))
    put(2, line("title"))
    sh(f"{STORE}; {INDEX}").ok()
    beside = home.claude / "projects/-w" / name(1)
    beside.mkdir()
    (beside / "custom-title.json").write_text('{"customTitle":"by hand"}')
    done = sh(CHANGES).ok()
    assert changes(done)[1] == "same"
    assert (get(sh, 1)["title"], get(sh, 1)["files"]) == ("by hand", 2)
    (home.claude / "session-states").mkdir()
    state = home.claude / "session-states" / f"{name(2)}.json"
    state.write_text('{"current_name":"two"}')
    assert changes(sh(CHANGES).ok())[2] == "same"
    assert get(sh, 2)["title"] == "two"
    agent = home.claude / "projects/-w/agent-1.jsonl"
    agent.write_text(json.dumps({"type": "user", "sessionId": name(3)}) + "\n")
    assert changes(sh(CHANGES).ok())[3] == "new"
    assert get(sh, 3)["state"] == "husk"
    sh(STORE).ok()
    agent.unlink()
    assert changes(sh(CHANGES).ok())[3] == "deleted"
    (home.claude / "settings.json").write_text('{"cleanupPeriodDays":1}')
    change = '{"kind":"change","path":"settings.json","change":"new"}'
    sh("csb-index", change.encode()).ok()
    assert get(sh, 1)["purge_at"] == "2026-01-03T03:04:05Z"
    sh(STORE).ok()
    the_same_made_anew(sh, home)


def test_what_is_left_of_a_session_that_the_index_never_knew(sh, put, home):
    """Files beside a transcript that nobody has seen: they were stored, and deleted."""
    put(1, line("title"))
    sh(f"{STORE}; {INDEX}").ok()
    left = put(f"projects/-w/{name(2)}/x", "x")
    sh(STORE).ok()
    left.unlink()
    assert changes(sh(CHANGES).ok())[2] == "deleted"
    assert get(sh, 2)["state"] == "deleted"
    sh(STORE).ok()
    the_same_made_anew(sh, home)


def test_a_deletion_that_was_stored_while_csb_index_was_killed(sh, put, home):
    """Neither csb-find nor csb-changes tells of it any more: the store is asked."""
    put(1, line("title"))
    sh(f"{STORE}; {INDEX}").ok()
    path = put(2, line("never seen"))
    sh(STORE).ok()
    path.unlink()
    sh(STORE).ok()
    assert changes(sh(INDEX).ok()) == {1: "same", 2: "deleted"}
    assert get(sh, 2)["title"] == "never seen"
    the_same_made_anew(sh, home)
    assert changes(sh(INDEX).ok()) == {1: "same"}, "it is asked once"


def test_changes_when_projects_is_away(sh, put, home):
    put(1, line("title"))
    (home.claude / "settings.json").write_text("{}")
    sh(f"{STORE}; {INDEX}").ok()
    shutil.rmtree(home.claude / "projects")
    done = sh(CHANGES)
    assert changes(done) == {} and noted(home) == {1: "present"}
    accept = "csb-changes --accept-deletions | csb-index"
    done = sh(accept)
    assert (done.rc, changes(done)) == (1, {}) and "--accept-deletions" in done.err
    assert changes(sh(f"{accept} --accept-deletions").ok()) == {1: "deleted"}


# --- sessions that move ---------------------------------------------------------------


def move(home, number, source, target):
    projects = home.claude / "projects"
    file = f"{name(number)}.jsonl"
    (projects / target).mkdir(exist_ok=True)
    (projects / source / file).rename(projects / target / file)


def test_a_session_that_moved_is_not_deleted(sh, put, home):
    """Claude Code moves it when a worktree is left, and goes on writing there."""
    put(1, line("title") * 3)
    put(2, line("other"))
    sh(f"{STORE}; {INDEX}").ok()
    move(home, 1, "-w", "-v")
    path = home.claude / "projects/-v" / f"{name(1)}.jsonl"
    path.write_text(path.read_text() + line("more"))
    done = sh(INDEX).ok()
    assert changes(done) == {1: "moved", 2: "same"}
    assert {key for key in listed(sh)} == {("-v", name(1)), ("-w", name(2))}
    assert listed(sh)["-v", name(1)]["messages"] == 4
    assert sh("csb-list --deleted").ok().records == []
    sh(STORE).ok()
    the_same_made_anew(sh, home)


def test_one_of_two_equal_transcripts_that_goes_is_not_deleted(sh, put, home):
    """It was in both places when the index last looked: the move was seen half done."""
    put(1, line("title") * 3)
    put(1, line("title") * 3, "-v")
    sh(INDEX).ok()
    assert len(listed(sh)) == 2
    put(1, "").unlink()
    assert changes(sh(INDEX).ok()) == {1: "same"}
    found = [(r["project"], r["state"]) for r in listed(sh).values()]
    assert found == [("-v", "present")]


def test_another_session_of_the_same_id_is_no_move(sh, put, home):
    put(1, line("title") * 3)
    sh(INDEX).ok()
    put(1, "").unlink()
    put(1, line("quite another") * 9, "-v")
    done = sh(INDEX).ok()
    assert {(r["project"], r["change"]) for r in done.records[:-1]} == {
        ("-v", "new"), ("-w", "deleted")}
    assert "rewritten_at" not in listed(sh)["-v", name(1)]


def facts_that_go():
    """Lines that say all that can be said of a session."""
    first = line("first", uuid="u1", timestamp="2025-01-01T00:00:00Z", cwd="/old")
    message = {
        "id": "m",
        "model": "claude",
        "content": [{"type": "tool_use", "name": "Bash"}],
        "usage": {"input_tokens": 5},
    }
    answer = line("x", "assistant", uuid="u2", requestSessionId=name(8),
                  version="2.0", message=message)
    more = [
        {"type": "custom-title", "customTitle": "by hand"},
        {"type": "pr-link", "prUrl": "http://x/1"},
        {"type": "continued-in", "continuedInSessionId": name(9)},
        {"type": "relocated", "relocatedCwd": "/new"},
        {"type": "ended-by-model"},
    ]
    return [first, answer, *(json.dumps(record) + "\n" for record in more)]


LATER = {
    "truncated": [lambda put, home: put(1, facts_that_go()[0])],
    "emptied": [lambda put, home: put(1, "")],
    "rewritten": [lambda put, home: put(1, line("other", cwd="/v") * 9)],
    "rewritten, and it goes on": [
        lambda put, home: put(1, line("other")),
        lambda put, home: put(1, line("other") * 2),
    ],
    "moved, then truncated": [
        lambda put, home: move(home, 1, "-w", "-v"),
        lambda put, home: put(1, facts_that_go()[0], "-v"),
    ],
    "moved and truncated at once": [
        lambda put, home: (move(home, 1, "-w", "-v"), put(1, facts_that_go()[0], "-v"))
    ],
    "truncated, then moved": [
        lambda put, home: put(1, facts_that_go()[0]),
        lambda put, home: move(home, 1, "-w", "-v"),
    ],
    "truncated, then deleted": [
        lambda put, home: put(1, facts_that_go()[0]),
        lambda put, home: put(1, "").unlink(),
    ],
    "emptied, then moved": [
        lambda put, home: put(1, ""),
        lambda put, home: move(home, 1, "-w", "-v"),
    ],
    "moved, then rewritten": [
        lambda put, home: move(home, 1, "-w", "-v"),
        lambda put, home: put(1, line("other") * 40, "-v"),
    ],
    "truncated, moved, deleted": [
        lambda put, home: put(1, facts_that_go()[0]),
        lambda put, home: move(home, 1, "-w", "-v"),
        lambda put, home: put(1, "", "-v").unlink(),
    ],
    "truncated, moved, rewritten": [
        lambda put, home: put(1, facts_that_go()[0]),
        lambda put, home: move(home, 1, "-w", "-v"),
        lambda put, home: put(1, line("other") * 40, "-v"),
    ],
    "deleted, and a stub that came is deleted, too": [
        lambda put, home: put(1, "").unlink(),
        lambda put, home: put(1, "garbage\n"),
        lambda put, home: put(1, "").unlink(),
    ],
}


@pytest.mark.parametrize("case", LATER)
@pytest.mark.few(2)
def test_what_a_transcript_says_no_more_is_gone_from_the_index(sh, put, home, case):
    """It is what the file says now, as if the index were made anew."""
    put(1, "".join(facts_that_go()))
    put(2, line("other"))
    sh(f"{STORE}; {INDEX}").ok()
    assert get(sh, 1)["continued_in"] == name(9)
    for step in LATER[case]:
        step(put, home)
        sh(f"{STORE}; {INDEX}").ok()
    assert "by hand" not in sh("csb-list").ok().out
    the_same_made_anew(sh, home)


def test_a_move_keeps_the_mark_of_a_rewrite(sh, put, home):
    put(1, line("a") * 3)
    sh(INDEX).ok()
    put(1, line("b"))
    sh(INDEX).ok()
    mark = get(sh, 1)["rewritten_at"]
    move(home, 1, "-w", "-v")
    sh(INDEX).ok()
    assert listed(sh)["-v", name(1)]["rewritten_at"] == mark


# --- where Claude Code does not look --------------------------------------------------


def test_odd_transcripts_are_indexed_and_marked(sh, put, home):
    own = put(1, line("own"))
    (own.parent / "deep").mkdir()
    (own.parent / "deep" / own.name).write_text(line("deeper"))
    copy = own.parent / f"{name(1)}.sync-conflict-20261102-101500-ABCDEFG.jsonl"
    copy.write_text(line("copy"))
    sh(f"{STORE}; {INDEX}").ok()
    records = sh(ALL).ok().records
    assert {(r["title"], r.get("place")) for r in records} == {
        ("own", None), ("deeper", "deeper"), ("copy", "copy")}
    copy.unlink()
    done = sh(INDEX).ok()
    gone, = [r for r in done.records if r.get("change") == "deleted"]
    assert gone["title"] == "copy"
    sh(STORE).ok()
    before = {r["transcript_path"]: r["state"] for r in records}
    sh("csb-index --rebuild").ok()
    after = {r["transcript_path"]: r["state"] for r in sh(ALL).ok().records}
    assert after == {**before, str(copy): "deleted"}


# --- what is carried over -------------------------------------------------------------


def test_a_damaged_index_that_hears_of_changes_alone(sh, put, home):
    """It is made from all that there is, not from what changed."""
    for number in (1, 2):
        put(number, line(f"title {number}"))
    sh(f"{STORE}; {INDEX}").ok()
    put(1, line("title 1") * 2)
    DAMAGES["noise"](home.backup / "session-backup.db")
    change = {
        "kind": "change",
        "path": f"projects/-w/{name(1)}.jsonl",
        "change": "grew",
    }
    done = sh("csb-index", json.dumps(change).encode())
    assert (done.rc, changes(done)) == (0, {1: "new", 2: "new"})
    assert {key[1] for key in listed(sh)} == {name(1), name(2)}


# --- what was rewritten, until it was seen --------------------------------------------


def rewrite_two_of_three(sh, home):
    """The times at which two sessions of three were rewritten; one of them is gone."""
    for number in (1, 2, 3):
        put_into(home, number, line("a") * 3)
    sh(f"{STORE}; {INDEX}").ok()
    for number in (1, 2):
        put_into(home, number, line("b"), mtime=WHEN + 1)
    sh(f"{STORE}; {INDEX}").ok()
    put_into(home, 2).unlink()
    sh(f"{STORE}; {INDEX}").ok()
    found = marks(sh)
    assert set(found) == {name(1), name(2)}
    return found


@pytest.fixture
def marked(once):
    """The times at which two sessions of three were rewritten."""
    return once(rewrite_two_of_three)


def marks(sh):
    return {
        r["session_id"]: r["rewritten_at"]
        for r in sh("csb-list --all").ok().records
        if "rewritten_at" in r
    }


def old_version(path):
    """Make an index look as if an older csb had made it."""
    db = sqlite3.connect(path)
    with db:
        db.execute("ALTER TABLE session DROP COLUMN words")
        db.execute("PRAGMA user_version = 1668506113")
    db.close()


@pytest.mark.long
@pytest.mark.parametrize("line", ["csb-index --rebuild", INDEX])
@pytest.mark.few(1)
def test_marks_survive(sh, marked, home, line):
    """git does not know them: an index that is made anew, or an old one, still does."""
    if line == INDEX:
        old_version(home.backup / "session-backup.db")
    done = sh(line)
    assert done.rc == 0
    assert marks(sh) == marked
    assert kinds(done) == ["session", "session", "session", "end"]
    assert changes(sh(INDEX).ok()) == {1: "same", 3: "same"}
    assert marks(sh) == marked


@pytest.mark.long
def test_marks_of_an_index_that_is_half_readable(sh, marked, home):
    """One row is spoilt: the marks of the others are kept, and nothing else."""
    path = home.backup / "session-backup.db"
    sql("UPDATE session SET record = '{\"rewritten_at\":7}'"
        f" WHERE session_id LIKE '%{name(3)}%'")(path)
    done = sh(INDEX)
    assert (done.rc, done.err.count("\n")) == (0, 1)
    assert marks(sh) == marked
    assert (home.backup / "session-backup.db.bad").exists()
    titles = {r["session_id"]: r["title"] for r in sh("csb-list").ok().records}
    assert titles == {name(1): "b", name(3): "a"}


def test_nothing_is_left_behind(sh, put, home):
    """No temporary file, and no empty index, whatever comes in."""
    for text in (b"", b"\n", b"{\n"):
        sh("csb-index", text)
        assert not (home.backup / "session-backup.db").exists(), text
    for where in ("mkdir -p ~/.claude/projects", "rm -r ~/.claude"):
        sh(f"{where}; {INDEX}")
        assert not (home.backup / "session-backup.db").exists(), where
    put(1, line())
    sh("csb-index --rebuild").ok()
    assert {path.name for path in home.backup.iterdir()} == {"session-backup.db"}


@pytest.mark.long
def test_seen(sh, marked, home):
    done = sh(f"csb-index --seen {name(1)}").ok()
    assert [r["session_id"] for r in done.records] == [name(1)]
    assert marks(sh) == {name(2): marked[name(2)]}
    for again in (INDEX, "csb-index --rebuild", INDEX):
        sh(again).ok()
        assert set(marks(sh)) == {name(2)}
    assert sh(f"csb-index --seen {name(1)} {name(3)}").ok().out == ""
    sh("csb-list --all | csb-index --seen").ok()
    assert marks(sh) == {}
    put_back = home.claude / "projects" / "-w" / f"{name(1)}.jsonl"
    put_back.write_text(line("c"))
    sh(INDEX).ok()
    assert set(marks(sh)) == {name(1)}, "what comes later is news again"


@pytest.mark.parametrize("line, rc", [
    ("csb-index --seen ffff", 1),
    ("csb-index --seen 3f4a", 2),
    ("echo 3f4a | csb-index --seen", 1),
    ("CSB_HOME=~/none csb-index --seen 3f4a", 3),
    ("echo '{}' | csb-index --seen", 1),
    ("csb-index --seen </dev/null", 0),
])
@pytest.mark.few(2)
def test_seen_of_what_is_not_there(sh, marked, line, rc):
    done = sh(line)
    assert (done.rc, done.out) == (rc, ""), done
    assert len(problems(done.err)) == (1 if rc else 0), done
    assert marks(sh) == marked


PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
"""


def make_many(home, count):
    """So many small sessions; each second one was forked from the one before."""
    folder = home.claude / "projects" / "-w"
    folder.mkdir(parents=True)
    for number in range(count):
        path = folder / f"{name(number)}.jsonl"
        text = "".join(line("x" * 50, cwd=f"/w/{n}") for n in range(20))
        if number % 2:
            text += line("x", "assistant", requestSessionId=name(number - 1))
        path.write_text(text)


@pytest.mark.long
def test_memory_of_very_many_sessions(sh, home, tmp_path):
    """What csb-find, csb-index and the readers take hardly grows with their number.

    All are to be parsed, nothing is new, all have another time, and all are gone.
    """
    count = 20000
    make_many(home, count)
    (tmp_path / "measure").write_text(PEAK)
    measure = f"python3 {tmp_path}/measure"

    def all_are(change):
        line = f"csb-find | {measure} csb-index >said; jq -r .change said"
        done = sh(f"{line} | sort | uniq -c", timeout=LONG)
        assert f"{count} {change}\n" in done.out
        assert int(done.err) <= 44 << 10, change

    all_are("new")
    for reader, said in (
        (f"csb-show {name(7)}", 1),
        ("csb-list --all", count),
        ("csb-scan / --all", count),
        ("csb-tree --all", count),
        ("csb-find", count + 1),
    ):
        done = sh(f"{measure} {reader} | wc -l", timeout=LONG)
        assert int(done.out) == said, (reader, done)
        assert int(done.err) <= 40 << 10, (reader, done)

    all_are("same")
    sh("find ~/.claude/projects -name '*.jsonl' -exec touch {} +").ok()
    all_are("same")
    for path in (home.claude / "projects").glob("*/*"):
        path.unlink()
    all_are("deleted")


def test_other_records_are_passed_on(sh, put):
    """Beside sessions, and beside changes, which are not."""
    put(1, line())
    hello = b'{"kind":"hello","x":[1]}\n'
    change = {"kind": "change", "path": f"projects/-w/{name(1)}.jsonl", "change": "new"}
    for expected in ("new", "same"):
        done = sh("csb-index", hello + json.dumps(change).encode() + b"\n" + hello).ok()
        found = [kind for kind in kinds(done) if kind != "end"]
        assert found == ["hello", "hello", "session"]
        assert changes(done) == {1: expected}
    done = sh("(echo '{\"kind\":\"hello\"}'; csb-find) | csb-index").ok()
    assert kinds(done) == ["hello", "session", "end"]


def test_no_room_for_temporary_files(sh, put):
    """What comes in is kept there until it has ended: one line says so."""
    put(1, line())
    padding = b"x" * 500
    many = b""
    for number in range(9000):
        many += b'{"kind":"hello","x":"%s%d"}\n' % (padding, number)
    done = sh("ulimit -f 100; csb-index | tail -n 0", many)
    assert done.rc == 1 and done.err.count("\n") == 1
    assert done.err.startswith("csb-index: cannot use the index '"), done
    sh("csb-find | csb-index").ok()
