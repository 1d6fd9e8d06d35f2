"""csb-fmt: what people see of records, whatever stands in them."""
import re
import time

import pytest
from conftest import at, lines, name, on_terminal, width

pytestmark = pytest.mark.logic

ID = "3f4a9b10-0000-4000-8000-00000000c0de"
OTHER = "beef9b10-0000-4000-8000-00000000c0de"
HOUR, DAY = 3600, 86400
LONG_AGO = "2001-02-03T04:05:06.000000007Z"     # shown as 3 Feb 2001 on any day from 2002 on


def session(**fields):
    return {"kind": "session", "session_id": ID, **fields}


def day(utc):
    """The day of a time that is neither today's nor yesterday's, where the tests are: UTC."""
    parsed = time.strptime(utc[:10], "%Y-%m-%d")
    return f"{parsed.tm_mday} {time.strftime('%b', parsed)}"


def test_a_session_takes_two_lines(sh, home):
    last = at(-3 * DAY)
    record = session(
        title="Mend the parser", cwd=f"{home.path}/code", last_active=last, messages=124,
        started=at(-3 * DAY - 2 * HOUR - 60), state="deleted", deleted_at=at(-2 * DAY),
        folders=[{"path": f"{home.path}/code", "work": 50},
                 {"path": f"{home.path}/code/src", "work": 41},
                 {"path": f"{home.path}/fruit", "work": 3}, {"path": "/srv/d", "work": 1}])
    assert sh("csb-fmt --top 4", lines(record)).ok().out == f"""\
Mend the parser
  3f4a9b10  {day(last)} {last[11:16]} \u00b7 2 h \u00b7 124 messages \u00b7 ~/code \u00b7 \
deleted {day(at(-2 * DAY))}
""", "where there is no room it is the folders that are left out"
    del record["state"], record["deleted_at"]
    assert sh("csb-fmt --top 4", lines(record)).ok().out.endswith(
        "~/code (src, ~/fruit, /srv/d)\n")


def test_a_short_folder_is_shown_where_it_has_room(sh):
    record = session(cwd="/w/a", messages=4, started=at(-10 * DAY - 60), place="deeper",
                     last_active=at(-10 * DAY))
    shown = sh("csb-fmt", lines(record)).ok().out
    assert shown.endswith("4 messages \u00b7 /w/a \u00b7 in a folder too deep\n")


@pytest.mark.parametrize("top, shown", [
    ("0", "/f"), ("1", "/f (0)"), ("2", "/f (0, 1)"), ("99", "/f (0, 1, 2, 3)")])
def test_top_folders(sh, top, shown):
    record = session(cwd="/f", folders=[{"path": f"/f/{n}", "work": 9 - n} for n in range(4)])
    assert sh(f"csb-fmt --top {top}", lines(record)).ok().out.endswith(f" \u00b7 {shown}\n")


def entries(sh, records, options=""):
    """What csb-fmt makes of each session, in one run."""
    shown = sh(f"csb-fmt {options}", lines(*records)).ok().out.splitlines()
    assert len(shown) == 2 * len(records)
    return shown[1::2]


def test_when_it_expires(sh):
    table = [(30 * DAY + 60, ""), (6 * DAY + 60, "expires in 6 days"),
             (5 * HOUR + 60, "expires in 5 hours"), (-3 * DAY - 60, "expired 3 days ago")]
    records = [session(purge_at=at(seconds)) for seconds, _ in table]
    for (_, words), shown in zip(table, entries(sh, records), strict=True):
        assert shown.endswith(words) and ("expire" in shown) == bool(words)
    assert "expires in 30 days" in entries(sh, records, "--verbose")[0]
    for shown in entries(sh, [{**record, "state": "deleted"} for record in records]):
        assert "expire" not in shown


def test_what_is_special_is_not_cut_off(sh):
    """Of a long session, rather than its size."""
    record = session(last_active=at(-9 * DAY), started=at(-9 * DAY - 3000), messages=12345,
                     bytes=162_500_000, purge_at=at(29 * DAY + 60), ended_by_model=True)
    shown = sh("csb-fmt --verbose", lines(record)).ok().out
    assert shown.endswith("50 min \u00b7 12,345 messages \u00b7 ended \u00b7 expires in 29 days\n")


def test_what_is_special(sh):
    table = [({"state": "deleted", "deleted_at": LONG_AGO}, "deleted 3 Feb 2001"),
             ({"state": "deleted"}, "deleted"), ({"rewritten_at": LONG_AGO}, "rewritten 3 Feb"),
             ({"state": "husk"}, "no transcript"), ({"state": "missing"}, "missing"),
             ({"place": "copy"}, "a copy"), ({"place": "deeper"}, "in a folder too deep"),
             ({"relocated_to": "/srv/x"}, "goes on in /srv/x"), ({"ended_by_model": True}, "ended"),
             ({"continued_in": OTHER}, "went on in beef9b10")]
    records = [session(**fields) for fields, _ in table]
    short = sh("csb-fmt --oneline", lines(*records)).ok().out.splitlines()
    plain, *_ = entries(sh, [session(state="present", open=False)])
    for (_, mark), *shown in zip(table, entries(sh, records), short, strict=True):
        assert f" \u00b7 {mark}" in shown[0] and f"  [{mark}" in shown[1] and mark not in plain


def test_times_are_local(sh):
    when = at(-10 * DAY)[:11] + "22:04:05Z"
    for zone, clock in (("UTC0", "22:04"), ("XXX-5", "03:04"), ("XXX+5", "17:04")):
        assert clock in sh("csb-fmt", lines(session(last_active=when)), TZ=zone).ok().out


TITLES = [
    "x" * 200, "word " * 50, "\u65e5\u672c\u8a9e" * 40, "e\u0301" * 60, "e\u0301" * 90,
    "\U0001f600" * 50, "a" + "\u0301" * 5000, "\u200b" * 300 + "x" * 90, "x" * 79 + "\u65e5",
    "x\u20dd" * 80]


def test_lines_fit_80_columns(sh):
    long = "/srv/" + "\u65e5\u672c" * 50 + "/very/deep/" * 20 + "end"
    records = [
        session(title=title, cwd=long, folders=[{"path": long + "/x", "work": 10**6}] * 3,
                last_active=at(-9), messages=10**6, size=10**9, bytes=10**10)
        for title in TITLES]
    shown = sh("csb-fmt", lines(*records)).ok().out.splitlines()
    assert max(map(width, shown)) <= 80
    for title, head, below in zip(TITLES, shown[::2], shown[1::2], strict=True):
        assert below.endswith("/end"), "of a folder the end is what matters"
        assert ("\u2026" in head) == (width(title) > 80)
    special = {"deleted_at": at(-9), "rewritten_at": at(-9), "purge_at": at(-9), "open": True}
    out = sh("csb-fmt", lines(*[{**record, **special} for record in records])).ok().out
    assert max(map(width, out.splitlines())) <= 80


def test_ids_are_as_long_as_they_must_be(sh):
    """Eight digits where they tell one from all others in the list, shown or not."""
    short = lambda *ids: [text.split()[0] for text in sh("csb-fmt -n 2 --oneline", lines(
        *({"kind": "session", "session_id": one} for one in ids))).ok().out.splitlines()[:2]]
    assert short(ID, OTHER, ID) == ["3f4a9b10", "beef9b10"]
    alike = ID[:8] + OTHER[8:-1] + "0"
    assert short(ID, OTHER, alike) == [ID, "beef9b10"]
    assert short("no-uuid-of-some-length", ID) == ["no-uuid-of-some-length", "3f4a9b10"]


COMMIT = "a1b2c3d4e5f6" + "0" * 28

# A record and what is shown of it.
KINDS = [
    ({"kind": "commit", "commit": COMMIT, "class": "noise", "ref": "refs/heads/main", "files": 1,
      "bytes": 2048}, "Backed up 1 file (2.0 KB), read back and verified.\n"),
    ({"kind": "change", "path": "projects/-x/a b.jsonl", "class": "noise", "change": "grew",
      "size": 12, "mtime": LONG_AGO},
     "grew        12 bytes  projects/-x/a b.jsonl\nThe next backup stores 1 file (12 bytes).\n"),
    ({"kind": "change", "path": "x", "change": "recheck", "size": 12},
     "recheck     12 bytes  x\nThe next backup stores no file.\n"),
    ({"kind": "refused", "path": "id_rsa", "reason": "a key"},
     "refused   id_rsa: a key\nThe next backup stores no file.\n"),
    ({"kind": "snapshot", "path": "b.gz", "source": "a", "size": 999, "snapshot_at": LONG_AGO,
      "purged": ["c", "d"], "dry_run": False},
     "snapshot: a  999 bytes  3 Feb 2001  c, d purged  b.gz\n"),
    ({"kind": "version", "path": "p", "commit": COMMIT, "at": LONG_AGO, "size": 5,
      "change": "new"}, "p\n   1  3 Feb 2001          5 bytes  a1b2c3d4  new\n"),
    ({"kind": "store", "path": "/s", "ref": "refs/heads/main", "claude_dir": "/c"},
     "Made the store /s.\n"),
    ({"kind": "gc", "path": "/s", "loose": 1, "packs": 3, "folded": 0, "bytes_before": 2000,
      "bytes_after": 1000, "dry_run": False},
     "Packed 1 small object and 3 packs: 1.0 KB, was 2.0 KB.\n"),
    ({"kind": "gc", "path": "/s", "loose": 1204, "packs": 0, "bytes_before": 2000,
      "bytes_after": 1000, "dry_run": True}, "Would pack 1,204 small objects.\n"),
    ({"kind": "push", "remote": "nas:x", "branch": "main", "commits": 2, "files": 1},
     "Pushed 2 commits with 1 changed file to nas:x (branch main).\n"),
    ({"kind": "push", "remote": "nas:x", "branch": "main", "commits": 0, "files": 0},
     "Nothing new: nas:x has it all.\n"),
    ({"kind": "finding", "session_id": ID, "path": "p/x.jsonl", "line": 7, "what": "aws-key",
      "preview": "k=[..]"}, "finding: line 7  aws-key  k=[..]  p/x.jsonl\n"),
    ({"kind": "timer", "timer": "cron", "installed": True, "running": False, "interval": 15,
      "last_success": LONG_AGO},
     "  timer        cron\n  installed    yes\n  running      no\n"
     "  interval     every 15 minutes\n  last success 3 Feb 2001\n"),
    ({"kind": "backup", "at": LONG_AGO, "event": "timer", "outcome": "ok", "seconds": 0.31,
      "bytes": 2000}, "backup: 3 Feb 2001  timer  ok  0.31 seconds  2.0 KB\n"),
    ({"kind": "setting", "key": "interval", "value": 15, "from": "default", "meaning": "minutes"},
     "interval  15\n    minutes\n"),
    ({"kind": "setting", "key": "refuse", "value": ["a", "b"], "from": "file"},
     "refuse  a, b (from file)\n"),
    ({"kind": "end", "root": "/x", "count": 3, "complete": True}, ""),
    ({"kind": "nobody knows", "a": [1, {"b": None}], "c": "d"},
     "nobody knows: 2 a  d\n"),
    ({}, "record:\n"), ({"kind": ["x"]}, "x:\n"), ({"cwd": "/x", "ok": True}, "record: /x  ok\n"),
    ({"kind": "refused", "path": "a\n\x1b[2J\udcff\x9b", "reason": "x"},
     "refused   a\\n\\x1b[2J\\udcff\\x9b: x\nThe next backup stores no file.\n")]


@pytest.mark.parametrize("record, text", KINDS)
def test_other_kinds(sh, record, text):
    """In words, never as JSON."""
    out = sh("csb-fmt", lines(record)).ok().out
    assert re.sub(r"\d+ years ago", "LONG AGO", out) == text


def test_other_kinds_in_one_line(sh):
    """Those that have no other form come as they are."""
    for record, text in KINDS[::4]:
        out = sh("csb-fmt --oneline", lines(record)).ok().out
        assert re.sub(r"\d+ years ago", "LONG AGO", out) == text


def version(**fields):
    return {"kind": "version", "session_id": ID, "project": "-x", "path": f"projects/-x/{ID}.jsonl",
            "commit": COMMIT, "at": LONG_AGO, **fields}


def test_versions_stand_below_what_they_are_versions_of(sh):
    """The path once, no path cut in each row."""
    records = [version(size=5000, change="grew", deleted_at=LONG_AGO),
               version(size=3000, change="shrunk"), version(size=4000, change="revived"),
               version(size=10, change="new"), version(path="b", size=1, change="new")]
    assert sh("csb-fmt", lines(*records)).ok().out == """\
projects/-x/3f4a9b10-0000-4000-8000-00000000c0de.jsonl
   1  3 Feb 2001           5.0 KB  a1b2c3d4  grew, deleted 3 Feb 2001
   2  3 Feb 2001           3.0 KB  a1b2c3d4  shrunk
   3  3 Feb 2001           4.0 KB  a1b2c3d4  revived
   4  3 Feb 2001         10 bytes  a1b2c3d4  new

b
   1  3 Feb 2001           1 byte  a1b2c3d4  new
"""


def check(number, ok, **more):
    return {"kind": "check", "session_id": name(number), "path": f"p/{number}", "ok": ok, **more}


def test_of_what_was_checked_the_failures_are_listed(sh):
    good = [check(number, True) for number in range(3)]
    assert sh("csb-fmt", lines(*good)).ok().out == "3 of 3 read back: all can be restored.\n"
    bad = check(9, False, reason="it is lost")
    assert sh("csb-fmt", lines(*good, bad)).ok().out == (
        "BAD       p/9: it is lost\n3 of 4 read back: 1 cannot be restored.\n")
    assert sh("csb-fmt --verbose", lines(*good)).ok().out.startswith("good      p/0\ngood ")
    assert sh("csb-fmt", lines(check(1, 1))).ok().out.startswith("BAD"), "only true is true"


def file(result, number=1, path="/h/x", **more):
    """A file record of session number; of none, if that is None."""
    mine = {} if number is None else {"session_id": name(number)}
    return {"kind": "file", **mine, "result": result, "path": path, **more}


SAME, DIFFERENT, DRY = ({"reason": "it is there"}, {"reason": "another file is there"},
                        {"dry_run": True})


@pytest.mark.parametrize("records, rows, said", [
    ([file("restored", size=1000)], 0,
     "Restored 1 session: 1 file (1.0 KB), each read back."),
    ([file("restored"), file("restored"), file("kept", 2, **DIFFERENT), file("refused", 3)] * 2, 4,
     "Restored 3 sessions: 4 files, each read back. Different ones are there, and were left "
     "alone: 2 files. Refused: 2 files."),
    ([file("kept", **SAME)] * 3, 0, "Restored nothing. Already there: 3 files."),
    ([file("kept")], 0, "Restored nothing. Already there: 1 file."),
    ([file("restored", **DRY)] * 2 + [file("kept", **DRY, **SAME), file("kept", **DRY, **DIFFERENT),
                                      file("refused", **DRY)], 2,
     "Would restore 1 session: 2 files. Already there: 1 file. Different ones are there, and were "
     "left alone: 1 file. Refused: 1 file. Nothing was written."),
    ([file("restored"), file("restored", path="/h/tasks/"), file("refused", path="/h/y/")], 1,
     "Restored 1 session: 2 files, each read back. Refused: 1 file."),
    ([file("restored", None)] * 2, 0, "Restored 2 files, each read back."),
    ([file("restored"), file("refused", None)], 1,
     "Restored 1 session: 1 file, each read back. Refused: 1 file."),
    ([file("restored", session_id=number, path=number) for number in (7, [], None)], 0,
     "Restored 3 files, each read back.")])
@pytest.mark.few(5)
def test_what_became_of_files_is_said_in_a_sentence(sh, records, rows, said):
    """Those that went wrong are listed."""
    *shown, last = sh("csb-fmt", lines(*records)).ok().out.splitlines()
    assert (len(shown), last) == (rows, said)
    assert len(sh("csb-fmt --verbose", lines(*records)).ok().out.splitlines()) == len(records) + 1


def test_lines_that_are_cut_off_are_told(sh):
    assert sh("csb-fmt", lines(file("restored", torn=True))).ok().out.splitlines() == [
        "restored  /h/x: its last line is cut off", "Restored 1 session: 1 file, each read back."]


def test_files_of_which_nobody_knows_what_became(sh):
    records = [file("exploded"), file(None), file(["restored"]), file({})]
    assert sh("csb-fmt", lines(*records)).ok().out == "unknown   /h/x\n" * 4


def test_a_backup_ends_with_what_it_did(sh):
    sessions = [session(change="new", title="a"), session(change="grew"), session(change="same")]
    commit = {"kind": "commit", "commit": COMMIT, "class": "user", "files": 6, "bytes": 3_100_000,
              "stored": 4, "deleted": 2, "sessions": {"new": 1, "changed": 2, "deleted": 1}}
    said = ("Backed up 1 new session and 2 changed sessions: 4 files (3.1 MB), read back and\n"
            "verified. 1 session gone from disk: kept in the backup (csb restore --deleted).\n")
    for records in ([commit, *sessions], [*sessions, commit]):
        assert sh("csb-fmt", lines(*records)).ok().out == said
        assert sh("csb-fmt --verbose", lines(*records)).ok().out == (
            f"stored a1b2c3d4  4 files (3.1 MB)  your files\n{said}")
    assert sh("csb-fmt", lines(commit)).ok().out == said, "whatever the index knew"
    moved = {**commit, "stored": 1, "sessions": {"new": 1, "deleted": 1}}
    out = sh("csb-fmt", lines(moved, session(change="moved"))).ok().out
    assert "Backed up 1 changed session: 1 file" in out and "gone" not in out
    dry = {**commit, "dry_run": True}
    assert sh("csb-fmt", lines(dry)).ok().out.startswith("Would back up 1 new session and ")
    assert sh("csb-fmt", lines(*sessions)).ok().out == "Read 3 sessions for the index.\n"
    gone = {**commit, "bytes": 0, "stored": 0, "sessions": {"deleted": 104}}
    assert " ".join(sh("csb-fmt", lines(gone)).ok().out.split()) == (
        "No file is new. 104 sessions gone from disk: kept in the backup (csb restore --deleted).")
    gone["sessions"] = {}
    assert sh("csb-fmt", lines(gone)).ok().out == (
        "No file is new. 2 files gone from disk: kept in the backup.\n")


def test_oneline_is_made_for_choosing(sh, home):
    title = "a title of more than eighty columns, " * 4
    record = session(title=title, last_active=LONG_AGO, cwd=f"{home.path}/x")
    records = lines(record, session(state="deleted"), {"kind": "session"})
    assert sh("csb-fmt --oneline", records).ok().out == (
        f"3f4a9b10  3 Feb 2001   {title.strip()}  ~/x\n"
        f"3f4a9b10  -            (untitled)  [deleted]\n"
        "(no id)  -            (untitled)\n")


def test_a_tree_is_a_line_a_session(sh):
    """Whatever the option; forks are indented."""
    table = [(0, "root"), (1, "\u2514 child"), (2, "  \u2514 grandchild"), (True, "odd"),
             (-1, "odd"), (10**9, "  " * 19 + "\u2514 deep")]
    records = lines(*[session(depth=depth, title=text.strip(" \u2514")) for depth, text in table])
    for option in ("", "--oneline"):
        assert sh(f"csb-fmt {option}", records).ok().out == "".join(
            f"3f4a9b10  -            {text}\n" for _, text in table)


@pytest.mark.parametrize("option, shown, last", [
    ("", 5, ""), ("-n 0", 5, ""), ("-n 5", 5, ""), ("-n 9", 5, ""),
    ("-n 2", 2, "2 of 5. All of them: -n 0\n"),
    ("-n 1 --oneline", 1, "1 of 5. All of them: -n 0\n")])
def test_n_says_how_many_more(sh, option, shown, last):
    out = sh(f"csb-fmt {option}", lines(*[session()] * 5)).ok().out
    assert out.count("3f4a9b10") == shown
    assert out.endswith(last) and (" of 5" in out) == bool(last)


def test_whether_there_was_anything(sh):
    for text, status in ((b"", 4), (lines({"kind": "end"}), 4), (lines(session()), 0)):
        assert sh("csb-fmt --some", text).rc == status
        assert sh("csb-fmt", text).rc == 0


def test_hostile_records_never_break_it(sh, seeded):
    values = [None, True, False, 0, -1, 1.5, 10**400, 1e308, "", "x", "\x00\x1b]0;x\x07", "\ud800",
              "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2026-13-01T00:00:00Z", "Z", "12", [],
              {}, [[]], [None, 1, {"path": 1}, {"path": "\x1b", "work": "x"}], {"a": {"b": []}},
              float("inf"), float("nan"), "\u202e" * 9, "\r\n"]
    keys = ("session_id title cwd started last_active messages size bytes mtime folders state"
            " change deleted_at rewritten_at purge_at path result reason commit class files ref ok"
            " at snapshot_at purged dry_run source").split()
    kinds = "session commit change refused file snapshot check version other end".split()
    many = []
    for _ in range(600):
        some = {key: seeded.choice(values) for key in seeded.sample(keys, 12)}
        many.append({"kind": seeded.choice(kinds), **some})
    for option in ("", "--oneline", "--top 1 -n 3"):
        out = sh(f"csb-fmt {option}", lines(*many)).ok().out
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]", out)


@pytest.mark.parametrize("line", [b"garbage", b"[1]", b"\xff\xfe", b'{"kind":', b"9" * 6000,
                                  b"[" * 200000])
def test_a_bad_line_is_reported_and_the_rest_is_shown(sh, line):
    done = sh("csb-fmt", lines(session()) + line + b"\n" + lines(session()))
    assert (done.rc, done.out.count("3f4a9b10"), done.err.count("\n")) == (1, 2, 1)
    assert "line 2" in done.err


@pytest.mark.parametrize("line, rc, err", [
    ("csb-fmt --top x", 2, 1), ("csb-fmt -n -1", 2, 1), ("csb-fmt word", 2, 1),
    ("csb-fmt --nope", 2, 1), ("csb-fmt", 0, 0), ("csb-fmt >/dev/full <in", 1, 1),
    ("csb-fmt <in | true", 141, 0)])
def test_status(sh, home, line, rc, err):
    (home.path / "in").write_bytes(lines(*[session(title="x" * 70)] * 2000))
    done = sh(line)
    assert (done.rc, done.err.count("\n"), done.out) == (rc, err, "")


def test_any_locale(sh):
    record = lines(session(title="\u65e5\u672c \u00e9"))
    for locale in ("C", "POSIX", "C.UTF-8"):
        done = sh("csb-fmt", record, LC_ALL=locale, PYTHONUTF8="0", PYTHONIOENCODING="cp1252").ok()
        assert done.out.splitlines()[0] == "\u65e5\u672c \u00e9"


def test_colour_only_on_a_terminal(sh, home):
    record = session(title="T" * 100, state="deleted", folders=[{"path": "/a", "work": 1}])
    shown = on_terminal(sh, home, "csb-fmt", record)
    assert "\x1b[31m \u00b7 deleted\x1b[0m" in shown
    plain = re.sub(r"\x1b\[[\d;]*m", "", shown).replace("\r", "")
    assert plain == sh("csb-fmt", lines(record)).ok().out
    for quiet in ({"NO_COLOR": "1"}, {"NO_COLOR": ""}, {"TERM": "dumb"}):
        assert "\x1b" not in on_terminal(sh, home, "csb-fmt", record, **quiet)


def test_a_path_is_cut_to_the_terminal(sh, home):
    record = {"kind": "check", "path": f"projects/{'x' * 90}/{ID}.jsonl"}
    out = on_terminal(sh, home, "csb-fmt", record, setup="stty cols 99", NO_COLOR="1")
    out = out.splitlines()[0]
    assert len(out) == 99 and out.endswith(f"x/{ID}.jsonl") and "\u2026x" in out
    assert "x" * 90 in sh("csb-fmt", lines(record)).ok().out


def test_one_line_on_a_terminal(sh, home):
    """The folder is left out, then the title is cut, and what is special last."""
    record = session(title="t" * 50, cwd="/srv/app", state="deleted", depth=1)
    for columns, tail in ((140, "t  [deleted]  /srv/app"), (90, "t  [deleted]"),
                          (80, "t\u2026  [deleted]"), (50, "t\u2026  [deleted]")):
        out = on_terminal(sh, home, "csb-fmt", record, setup=f"stty cols {columns}", NO_COLOR="1")
        assert out.startswith("3f4a9b10  -            \u2514 ttt") and len(out) <= columns + 1
        assert out.endswith(f"{tail}\n")
    out = on_terminal(sh, home, "csb-fmt", record)
    assert out.startswith("\x1b[31m3f4a9b10"), "what is gone is red"


def shown_on(sh, home, count, **env):
    """The numbers of sessions in the order in which a terminal shows them, and the footer."""
    records = [session(title=f"number {number}") for number in range(count)]
    out = on_terminal(sh, home, "csb-fmt -n 4", *records, NO_COLOR="1", **env)
    return [int(number) for number in re.findall(r"number (\d+)", out)], " of " in out


def test_the_newest_is_where_the_eye_is(sh, home):
    """Nearest to the prompt, but first where a pager is needed, and in a pipe."""
    assert shown_on(sh, home, 3) == ([2, 1, 0], False)
    assert shown_on(sh, home, 6) == ([3, 2, 1, 0], True)
    out = sh("csb-fmt", lines(session(title="number 0"), session(title="number 1"))).ok().out
    assert out.index("number 0") < out.index("number 1")
    records = lines(*(session(title=f"number {number}") for number in range(9)))
    for size, order in (("80x40", [8, 0]), ("80x20", [8, 0]), ("80x19", [0, 8]), ("80x9", [0, 8])):
        out = sh("csb-fmt", records, CSB_PAGED=size).ok().out
        found = [int(number) for number in re.findall(r"number (\d+)", out)]
        assert [found[0], found[-1]] == order, size


def test_the_width_of_the_terminal(sh, home):
    record = session(title="T" * 300, cwd="/srv" * 90, deleted_at=at(-1), rewritten_at=at(-1))
    for columns in (50, 132):
        out = on_terminal(sh, home, "csb-fmt", record, setup=f"stty cols {columns}", NO_COLOR="1")
        assert max(map(len, out.replace("\r", "").split("\n"))) == columns
