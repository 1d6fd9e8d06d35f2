"""csb-fmt: what people see of records, whatever stands in them."""
import random
import re

import pytest
from conftest import at, lines, on_terminal, width

pytestmark = pytest.mark.logic

ID = "3f4a9b10-0000-4000-8000-00000000c0de"
HOUR, DAY = 3600, 86400


def wall(utc):
    """A time of a record as the clock shows it where the tests are: UTC."""
    return utc[:16].replace("T", " ")


def session(**fields):
    return {"kind": "session", "session_id": ID, **fields}


def test_an_entry_has_all_that_people_ask_for(sh, home):
    last = at(-3 * HOUR - 60)
    record = session(
        title="Mend the parser", cwd=f"{home.path}/code", last_active=last, messages=124,
        size=3_400_000, bytes=5_400_000, purge_at=at(12 * DAY + 60), state="present", folders=[
            {"path": "/srv/b", "work": 3}, {"path": f"{home.path}/code/src", "work": 41},
            {"path": "/h/me2", "work": 2}, {"path": "/srv/d", "work": 1}])
    assert sh("csb-fmt", lines(record)).ok().out == f"""\
Mend the parser
  3 hours ago, {wall(last)}  124 messages  3.4 MB of 5.4 MB  purge in 12d
  start ~/code
      * ~/code/src (41)
        /srv/b (3)
        /h/me2 (2)
  {ID}

"""


@pytest.mark.parametrize("top, shown", [("0", 0), ("1", 1), ("2", 2), ("99", 4)])
def test_top_folders(sh, top, shown):
    record = session(folders=[{"path": f"/f/{n}", "work": 9 - n} for n in range(4)])
    out = sh(f"csb-fmt --top {top}", lines(record)).ok().out
    assert re.findall(r"/f/(\d)", out) == [str(n) for n in range(shown)]
    assert out.count("*") == min(shown, 1)


def entries(sh, records):
    """What csb-fmt makes of each session, in one run."""
    shown = sh("csb-fmt", lines(*records)).ok().out.split("\n\n")
    assert len(shown) == len(records) + 1
    return shown


def test_relative_dates(sh):
    table = [(-20, "just now"), (-61, "1 minute ago"), (-125, "2 minutes ago"),
             (-HOUR - 5, "1 hour ago"), (-2 * DAY - 60, "2 days ago"), (-45 * DAY, "1 month ago"),
             (-800 * DAY, "2 years ago"), (3 * HOUR + 60, "in 3 hours")]
    records = [session(last_active=at(seconds)) for seconds, _ in table]
    for record, (_, words), shown in zip(records, table, entries(sh, records), strict=False):
        assert f"\n  {words}, {wall(record['last_active'])}\n" in shown


def test_days_to_purge(sh):
    table = [(30 * DAY + 60, "purge in 30d"), (DAY + 60, "purge in 1d"),
             (5 * HOUR + 60, "purge in 5h"), (-60, "OVERDUE by 0h"),
             (-3 * DAY - 60, "OVERDUE by 3d")]
    records = [session(purge_at=at(seconds)) for seconds, _ in table]
    for (_, words), shown in zip(table, entries(sh, records), strict=False):
        assert f"  {words}\n" in shown
    for shown in entries(sh, [{**record, "state": "deleted"} for record in records]):
        assert "purge" not in shown and "OVERDUE" not in shown


def test_marks(sh):
    when = "2026-01-02T03:04:05Z"
    table = [({"state": "deleted", "deleted_at": when}, "DELETED 2026-01-02 03:04"),
             ({"state": "deleted"}, "DELETED"), ({"rewritten_at": when}, "REWRITTEN 2026-01-02"),
             ({"state": "husk"}, "HUSK"), ({"change": "new"}, "new"), ({"change": "grew"}, "grew")]
    records = [session(**fields) for fields, _ in table]
    short = sh("csb-fmt --oneline", lines(*records)).ok().out.splitlines()
    plain, *_ = entries(sh, [session(change="same", state="present")])
    for (_, mark), *shown in zip(table, entries(sh, records), short, strict=False):
        assert mark in shown[0] and mark in shown[1] and mark not in plain


def test_times_are_local(sh):
    out = sh("csb-fmt", lines(session(last_active="2026-01-02T03:04:05Z")), TZ="XXX-5").ok().out
    assert "2026-01-02 08:04" in out


@pytest.mark.parametrize("title", [
    "x" * 200, "word " * 50, "\u65e5\u672c\u8a9e" * 40, "e\u0301" * 60, "e\u0301" * 90,
    "\U0001f600" * 50, "a" + "\u0301" * 5000, "\u200b" * 300 + "x" * 90, "x" * 79 + "\u65e5",
    "x\u20dd" * 80])
def test_lines_fit_80_columns(sh, title):
    long = "/srv/" + "\u65e5\u672c" * 50 + "/very/deep/" * 20 + "end"
    record = session(title=title, cwd=long, folders=[{"path": long, "work": 10**6}] * 3,
                     last_active=at(-9), messages=10**6, size=10**9, bytes=10**10, purge_at=at(9),
                     deleted_at=at(-9), rewritten_at=at(-9), change="rewritten")
    out = sh("csb-fmt", lines(record)).ok().out
    assert max(map(width, out.splitlines())) <= 80
    assert out.count("/end") == 4, "of a folder the end is what matters"
    assert ("\u2026" in out.splitlines()[0]) == (width(title) > 80)
    assert f"\n  {ID}\n" in out


def test_an_id_is_never_cut_or_wrapped(sh):
    name = "0123456789abcdef" * 10
    assert f"\n  {name}\n" in sh("csb-fmt", lines({**session(), "session_id": name})).ok().out
    assert sh("csb-fmt --oneline", lines({**session(), "session_id": name})).out.startswith(name)


COMMIT = "a1b2c3d4e5f6" + "0" * 28
WHEN = "2026-01-02T03:04:05.000000006Z"


KINDS = [
    ({"kind": "commit", "commit": COMMIT, "class": "noise", "ref": "refs/heads/main", "files": 1,
      "bytes": 2048}, "commit  a1b2c3d4e5f6  noise  1 file  2.0 KB  refs/heads/main\n"),
    ({"kind": "change", "path": "projects/-x/a b.jsonl", "class": "noise", "change": "grew",
      "size": 12, "mtime": WHEN}, "change  grew  noise  12 B  projects/-x/a b.jsonl\n"),
    ({"kind": "refused", "path": "id_rsa", "reason": "a key"}, "refused  id_rsa  a key\n"),
    ({"kind": "file", "session_id": ID, "path": "projects/-x/y", "size": 1000, "mode": "0600",
      "mtime": WHEN, "result": "restored"}, "file  restored  1.0 KB  projects/-x/y\n"),
    ({"kind": "file", "path": "y", "result": "refused", "reason": "it is there"},
     "file  refused  y  it is there\n"),
    ({"kind": "snapshot", "path": "b.gz", "source": "a", "size": 999, "snapshot_at": WHEN,
      "purged": ["c", "d"], "dry_run": False},
     "snapshot  2026-01-02 03:04  999 B  b.gz  a  2 purged\n"),
    ({"kind": "check", "session_id": ID, "path": "p", "commit": COMMIT, "ok": True},
     f"check  ok  {ID}  a1b2c3d4e5f6  p\n"),
    ({"kind": "check", "path": "p", "ok": False, "reason": "gone"}, "check  FAILED  p  gone\n"),
    ({"kind": "version", "session_id": ID, "path": "p", "commit": COMMIT, "at": WHEN, "size": 5,
      "change": "new"}, f"version  2026-01-02 03:04  a1b2c3d4e5f6  5 B  new  p  {ID}\n"),
    ({"kind": "version", "session_id": ID, "path": f"projects/-x/{ID}.jsonl", "commit": COMMIT,
      "size": 5}, f"version  a1b2c3d4e5f6  5 B  projects/-x/{ID}.jsonl\n"),
    ({"kind": "hit", "session_id": ID, "role": "user", "at": WHEN, "snippet": "a\x1b b"},
     f"{ID}  2026-01-02 03:04  user  a\\x1b b\n"),
    ({"kind": "store", "path": "/s", "ref": "refs/heads/main", "claude_dir": "/c"},
     "store  /s  refs/heads/main  /c\n"),
    ({"kind": "gc", "path": "/s", "loose": 1, "packs": 3, "folded": 0, "bytes_before": 2000,
      "bytes_after": 1000, "dry_run": True}, "gc  /s  1 loose object  3 packs  0 folded packs  "
     "2.0 KB before  1.0 KB after  (dry run)\n"),
    ({"kind": "status", "covered": False, "uncovered_files": 2, "store": "/s"},
     "status  NOT covered  2 uncovered files  /s\n"),
    ({"kind": "indexed", "session_id": ID, "parsed": 7, "texts": 1}, f"indexed  {ID}  7  1 text\n"),
    ({"kind": "end", "root": "/x", "count": 3, "complete": True}, ""),
    ({"kind": "nobody knows", "a": [1]}, '{"kind":"nobody knows","a":[1]}\n'),
    ({"kind": "commit"}, '{"kind":"commit"}\n'), ({}, "{}\n"),
    ({"kind": ["x"]}, '{"kind":["x"]}\n'),
    ({"session_id": ID, "cwd": "/x"}, f'{{"session_id":"{ID}","cwd":"/x"}}\n'),
    ({"kind": "commit", "commit": 7, "files": "many", "bytes": -1}, "commit  7  many  -1\n"),
    ({"kind": "refused", "path": "a\n\x1b[2J\udcff\x9b", "reason": "\u2028"},
     "refused  a\\n\\x1b[2J\\udcff\\x9b  \\u2028\n"),
    ({"kind": "end"}, "1 session and other files: 1 file restored, 1 refused\n1 of 2\n")]  # last


def test_other_kinds_take_one_line(sh):
    records = lines(*(record for record, _ in KINDS))
    for option in ("", "--oneline"):
        assert sh(f"csb-fmt {option}", records).ok().out == "".join(text for _, text in KINDS)


def test_oneline_is_made_for_choosing(sh, home):
    title = "a title of more than eighty columns, " * 4
    record = session(title=title, last_active="2026-01-02T03:04:05Z", cwd=f"{home.path}/x")
    records = lines(record, session(state="deleted"), {"kind": "session"})
    assert sh("csb-fmt --oneline", records).ok().out == (
        f"{ID}  2026-01-02 03:04  {title.strip()}  ~/x\n"
        f"{ID}  -                 (untitled)  [DELETED]\n"
        "-  -                 (untitled)\n")


def test_a_tree_is_a_line_a_session(sh):
    """Whatever the option; forks are indented, and an id is never cut."""
    table = [(0, "root"), (1, "\u2514 child"), (2, "  \u2514 grandchild"), (True, "odd"),
             (-1, "odd"), (10**9, "  " * 19 + "\u2514 deep")]
    records = lines(*[session(depth=depth, title=text.strip(" \u2514")) for depth, text in table])
    for option in ("", "--oneline"):
        assert sh(f"csb-fmt {option}", records).ok().out == "".join(
            f"{ID}  -                 {text}\n" for _, text in table)


@pytest.mark.parametrize("option, shown, last", [
    ("", 5, ""), ("-n 0", 5, ""), ("-n 5", 5, ""), ("-n 9", 5, ""),
    ("-n 2", 2, "2 shown, 3 more (-n 0 shows all)\n"),
    ("-n 1 --oneline", 1, "1 shown, 4 more (-n 0 shows all)\n")])
def test_n_says_how_many_more(sh, option, shown, last):
    mixed = lines(*[session(), {"kind": "refused", "path": "x", "reason": "y"}] * 5)
    out = sh(f"csb-fmt {option}", mixed).ok().out
    assert (out.count(ID), out.count("refused")) == (shown, 5)
    assert out.endswith(last) and ("more" in out) == bool(last)


def test_hostile_records_never_break_it(sh):
    seed = random.randrange(10**9)
    print("seed", seed)
    rnd = random.Random(seed)
    values = [None, True, False, 0, -1, 1.5, 10**400, 1e308, "", "x", "\x00\x1b]0;x\x07", "\ud800",
              "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2026-13-01T00:00:00Z", "Z", "12", [],
              {}, [[]], [None, 1, {"path": 1}, {"path": "\x1b", "work": "x"}], {"a": {"b": []}},
              float("inf"), float("nan"), "\u202e" * 9, "\r\n"]
    keys = ("session_id title cwd started last_active messages size bytes mtime folders state"
            " change deleted_at rewritten_at purge_at path result reason commit class files ref ok"
            " at snapshot_at purged dry_run source").split()
    kinds = "session commit change refused file snapshot check version other end".split()
    many = [{"kind": rnd.choice(kinds), **{key: rnd.choice(values) for key in rnd.sample(keys, 12)}}
            for _ in range(600)]
    for option in ("", "--oneline", "--top 1 -n 3"):
        out = sh(f"csb-fmt {option}", lines(*many)).ok().out
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]", out)


@pytest.mark.parametrize("line", [b"garbage", b"[1]", b"\xff\xfe", b'{"kind":', b"9" * 6000,
                                  b"[" * 200000])
def test_a_bad_line_is_reported_and_the_rest_is_shown(sh, line):
    done = sh("csb-fmt", lines(session()) + line + b"\n" + lines(session()))
    assert (done.rc, done.out.count(ID), done.err.count("\n")) == (1, 2, 1)
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
    for name in ("C", "POSIX", "C.UTF-8"):
        done = sh("csb-fmt", record, LC_ALL=name, PYTHONUTF8="0", PYTHONIOENCODING="cp1252").ok()
        assert done.out.splitlines()[0] == "\u65e5\u672c \u00e9"


def test_colour_only_on_a_terminal(sh, home):
    record = session(title="T" * 100, state="deleted", folders=[{"path": "/a", "work": 1}])
    shown = on_terminal(sh, home, "csb-fmt", record)
    assert "\x1b[31mDELETED\x1b[0m" in shown
    plain = re.sub(r"\x1b\[[\d;]*m", "", shown).replace("\r", "")
    assert plain == sh("csb-fmt", lines(record)).ok().out
    for quiet in ({"NO_COLOR": "1"}, {"NO_COLOR": ""}, {"TERM": "dumb"}):
        assert "\x1b" not in on_terminal(sh, home, "csb-fmt", record, **quiet)


def test_a_path_is_cut_to_the_terminal(sh, home):
    record = {"kind": "version", "at": WHEN, "commit": COMMIT, "size": 5, "session_id": ID,
              "path": f"projects/{'x' * 90}/{ID}.jsonl"}
    out = on_terminal(sh, home, "csb-fmt", record, setup="stty cols 99", NO_COLOR="1")
    assert len(out) == 100 and out.endswith(f"x/{ID}.jsonl\n") and "\u2026x" in out
    assert "x" * 90 in sh("csb-fmt", lines(record)).ok().out


def test_one_line_on_a_terminal(sh, home):
    """The title comes first: what says less is left out before it is cut short."""
    record = session(title="t" * 99, cwd="/srv/app", state="deleted", depth=1)
    for columns, tail in ((140, "  /srv/app  [DELETED]"), (100, "  [DELETED]"), (80, "")):
        out = on_terminal(sh, home, "csb-fmt", record, setup=f"stty cols {columns}", NO_COLOR="1")
        assert len(out) == columns + 1 and out.startswith(f"{ID}  -                 \u2514 ttt")
        assert out.endswith(f"t\u2026{tail}\n")
    out = on_terminal(sh, home, "csb-fmt", record)
    assert out.startswith(f"\x1b[31m{ID}"), "what is gone is red"


def test_the_width_of_the_terminal(sh, home):
    record = session(title="T" * 300, cwd="/srv" * 90, deleted_at=at(-1), rewritten_at=at(-1))
    for columns in (50, 132):
        out = on_terminal(sh, home, "csb-fmt", record, setup=f"stty cols {columns}", NO_COLOR="1")
        assert max(map(len, out.replace("\r", "").split("\n"))) == columns
