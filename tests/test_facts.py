"""csb-index: what a transcript says, in any number of parts, whatever is wrong."""
import hashlib
import json
import os
import re
import sqlite3
import tarfile

import conftest
import pytest
from conftest import SHARED, name
from learning import Learning

pytestmark = pytest.mark.logic

WHEN = "2026-01-02T03:04:05.000000000Z"
GROWTH = os.path.join(SHARED, "data", "growth.tar.xz")
FOUND = ("facts", "parsed", "prefix")       # what the next run goes on from


def line(*words, **fields):
    """One record of a transcript, as the bytes of a line."""
    return conftest.line(*words, **fields).encode()


def other(kind, **fields):
    """One record that is no message."""
    return json.dumps({"type": kind, **fields}).encode() + b"\n"


def custom(title):
    """The title that a person gave."""
    return other("custom-title", customTitle=title)


def ai(title):
    """The title that the model gave."""
    return other("ai-title", aiTitle=title)


def summary(text, uuid):
    """A summary of what led to a message."""
    return other("summary", summary=text, leafUuid=uuid)


def session(path, root, **fields):
    """A record of csb-find, as a line."""
    record = {
        "kind": "session", "session_id": path.stem, "project": "-w", "root": str(root),
        "transcript_path": str(path), "size": 1, "mtime": WHEN}
    return json.dumps({**record, **fields}).encode() + b"\n"


def only(fields, record):
    """Those fields of a record."""
    return {field: record[field] for field in fields}


@pytest.fixture
def facts(sh, tmp_path):
    """facts([bytes or (bytes, what was said before), ...]): what it says now."""
    return Learning(sh, tmp_path)


def test_a_transcript(facts):
    text = b"".join([
        other("mode", mode="normal"),
        line("  What   is\nthis? ", cwd="/b"),
        line("A test.", "assistant", cwd="/a", timestamp="2026-01-02T03:04:01Z"),
        line("and\tnow", cwd="/a", timestamp="2026-01-02T05:04:09.5+02:00"),
        line("meta", isMeta=True),
        line("side", isSidechain=True),
        line("x", "progress"),
        b"\r\n",
        b"  \n"])
    record = facts([text])[0]
    assert record["shown"] == {
        "title": "What is this?", "title_from": "prompt", "cwd": "/b",
        "started": "2026-01-02T03:04:01.000Z",
        "last_active": "2026-01-02T03:04:09.500Z",
        "last_user_at": "2026-01-02T03:04:09.500Z",
        "messages": 3, "user_messages": 2, "tool_calls": 0, "bad_lines": 0,
        "folders": [
            {"path": "/a", "work": 1},
            {"path": "/b", "work": 1},
            {"path": "/w", "work": 0}]}
    assert record["facts"]["events"] == 7
    assert record["parsed"] == len(text)
    assert record["prefix"] == hashlib.sha1(text).hexdigest()
    assert record["rewritten"] is False


BLOCKS = [{"type": "text", "text": "<ide_opened_file>x</ide_opened_file>"},
          {"type": "image", "source": {}}, {"type": "text", "text": "real"}]
RESULT = [{"type": "tool_result", "content": "x"}, {"type": "text", "text": "no"}]
ODD = [1, None, {"type": "text"}, {"type": "text", "text": 1}]

# What it is: the title, where it comes from, the transcript.
TITLES = {
    "nothing": (None, None, b""),
    "only metadata": (None, None, other("mode", mode="x")),
    "the last custom title": (
        "b", "custom", line() + custom("a") + ai("z") + custom("b")),
    "a custom title taken back": (
        "p", "prompt", custom("a") + line("p") + custom("")),
    "the last ai title": ("b", "ai", line() + ai("a") + ai("b")),
    "a foreign summary": ("p", "prompt", summary("s", "x") + line("p", uuid="y")),
    "a local summary": ("s", "summary", summary("s", "x") + line("p", uuid="x")),
    "a local summary after it": (
        "s", "summary", line("p", uuid="x") + summary("s", "x")),
    "the last local summary": (
        "2", "summary", summary("1", "x") + summary("2", "y") + summary("3", "z")
        + line(uuid="x") + line(uuid="y")),
    "an id that is only quoted": (
        "p", "prompt", summary("s", "x") + line("p", "user", data={"uuid": "x"})),
    "an id in a bad line": (
        "p", "prompt", line(uuid="x", cwd=1) + summary("s", "x") + line("p")),
    "a summary without newline": (
        "s", "summary", line("p", uuid="x") + summary("s", "x")[:-1]),
    "a title without newline": ("t", "custom", line() + custom("t")[:-1]),
    "a torn title": ("p", "prompt", line("p") + custom("t")[:-2]),
    "not the first record": (
        "p", "prompt", line("<local-command-stdout>x")
        + line("[Request interrupted by user]") + line("  <tick>")
        + line("m", isMeta=True) + line("c", isCompactSummary=True)
        + line("s", isSidechain=True) + line("<session-start-hook>")
        + line("p") + line("q")),
    "blocks": (
        "real", "prompt",
        line(message={"content": RESULT}) + line(message={"content": BLOCKS})),
    "odd blocks": ("p", "prompt", line(message={"content": ODD}) + line("p")),
    "a slash command": (
        "/do it now", "command", line(
            "<command-message>do</command-message>\n<command-name>/do</command-name>"
            "<command-args>it  now</command-args>")
        + line("<command-name>/clear</command-name>")),
    "a prompt after a slash command": (
        "p", "prompt", line("<command-name>/clear</command-name>") + line("p")),
    "a long one": ("x" * 199 + "\u2026", "prompt", line("x" * 1000)),
    "a lone surrogate": ("a?b c", "prompt", line("a\ud83db \x00c")),
    "U+2028": ("a b c", "prompt", line("|").replace(b"|", "a\u2028b\u0085c".encode())),
    "other types": (
        None, None, other("custom-title", aiTitle="x")
        + other("ai-title", customTitle="y") + other("summary", summary="z")
        + other("tag", customTitle=1)),
}


def test_titles(facts):
    """In one go, and parsed up to the end of every line first."""
    cases = []
    starts = []
    for what, (_, _, text) in TITLES.items():
        for end in [0, *(newline.end() for newline in re.finditer(b"\n", text))]:
            cases.append(what)
            starts.append(text[:end])

    wholes = [TITLES[what][2] for what in cases]
    done = facts(list(zip(wholes, facts(starts), strict=True)))
    for what, record in zip(cases, done, strict=True):
        title, title_from, _ = TITLES[what]
        assert record["shown"].get("title") == title, what
        assert record["shown"].get("title_from") == title_from, what


@pytest.mark.parametrize("path, text", [
    (f"learned/{name(0)}/custom-title.json", '{"customTitle":" a  b "}'),
    (f"session-states/{name(0)}.json", '\ufeff{"current_name":"a b"}')])
def test_a_title_beside_the_transcript(facts, tmp_path, path, text):
    def title(transcript):
        return facts([transcript])[0]["shown"].get("title")

    beside = tmp_path / path
    beside.parent.mkdir(parents=True)
    beside.write_text(text)
    assert title(line("p") + ai("x")) == "a b"
    assert title(line("p") + custom("c")) == "c"
    numbers = '{"customTitle":1,"current_name":1}'
    for wrong in ("", "[]", "{", numbers, "[" * 100000):
        beside.write_text(wrong)
        assert title(line("p")) == "p", wrong


BAD = {
    "torn": line()[:40] + b"\n",
    "text": b"x\n",
    "NUL": b"\0" * 5000 + b"\n",
    "a list": b"[]\n",
    "a number": b"1\n",
    "null": b"null\n",
    "a string": b'"x"\n',
    "message null": line(message=None),
    "message a string": line(message="x"),
    "content a number": line(message={"content": 1}),
    "cwd a number": line(cwd=1),
    "cwd a list": line(cwd=["/"]),
    "type a list": line(type=[]),
    "deep": b'{"a":' * 100000 + b"1" + b"}" * 100000 + b"\n",
    "a tab in a string": b'{"a":"\t"}\n',
    "a huge number": b'{"type":"user","cwd":1' + b"0" * 5000 + b"}\n",
    "redacted": b'{"a":[REDACTED]312}\n',
}


def test_a_bad_line_costs_itself_only(facts):
    """In front, in the middle, at the end, without newline: all else stands."""
    def shown(record):
        fields = set(record["shown"]) - {"folders", "cwd"}
        return only(fields, record["shown"])

    good = line("p", uuid="1") + custom("t")
    more = line("q", "assistant", cwd="/v")
    expected = {**shown(facts([good + more])[0]), "bad_lines": 1}
    for texts in ([bad + good + more for bad in BAD.values()],
                  [good + bad + more for bad in BAD.values()],
                  [good + more + bad for bad in BAD.values()]):
        for what, record in zip(BAD, facts(texts), strict=True):
            assert shown(record) == expected, what

    texts = [good + bad.rstrip(b"\n") for bad in BAD.values()]
    for what, record in zip(BAD, facts(texts), strict=True):
        assert record["shown"]["bad_lines"] == 1, what
        assert record["shown"]["title"] == "t"
        assert record["parsed"] == len(good)


FINE = {
    "CRLF": line().replace(b"\n", b"\r\n"),
    "spaces": b" " + line(),
    "null fields": line(cwd=None, timestamp=None, uuid=None),
    "no content": line(message={}),
    "empty": b"{}\n",
    "unknown": other("brand-new", message=None, customTitle=1, summary=[]),
    "not UTF-8": line("?").replace(b"?", b"\xe9"),
    "a surrogate as UTF-8": line("?").replace(b"?", b"\xed\xa0\x80"),
    "an integer timestamp": line(timestamp=1),
    "no time": line(timestamp="yesterday"),
    "no such day": line(timestamp="2026-02-30T00:00:00Z"),
    "no such hour": line(timestamp="2026-02-03T24:00:01Z"),
    "before the first year": line(timestamp="0001-01-01T00:00:00+02:00"),
    "a title that is a number": custom(1),
    "an ai title that is a list": ai(["x"]),
    "a summary that is none": summary({}, "x"),
    "escapes": line("\ud800 \x1b[31m"),
    "raw U+2028": line("?").replace(b"?", b"\xe2\x80\xa8"),
}


def test_what_is_unusual_but_fine(facts):
    for what, record in zip(FINE, facts(list(FINE.values())), strict=True):
        assert record["shown"]["bad_lines"] == 0, what
        assert record["facts"]["events"] == 1, what


def test_what_is_whole_in_a_bad_line_is_read(facts):
    """After a record that was cut, after NULs, and beside another one."""
    whole = line("c", sessionId=name(0))
    texts = [line("a") + line("b")[:40] + whole,
             line("a") + b"\0" * 900 + whole,
             line("a").strip() + whole]
    for known in facts(texts):
        assert known["shown"]["messages"] == 2
        assert known["shown"]["bad_lines"] == 1


def test_all_parts_make_the_same_whole(facts):
    """Cut after any byte, parsed to there and then on: nothing tells of two times."""
    text = b"".join([
        summary("s", "u2"),
        line("\u00e9", uuid="u1"),
        b"\xff\n\n",
        summary("t", "u1"),
        line("a", "assistant", uuid="u2", timestamp="2025-01-01T00:00:00Z"),
        b"\0\0\n",
        ai("x"),
        line("end", cwd="/z").rstrip()])
    whole = facts([text])[0]
    first = facts([text[:cut] for cut in range(len(text))])
    second = facts([(text, before) for before in first])
    for cut, record in enumerate(second):
        for field in (*FOUND, "shown"):
            assert record[field] == whole[field], cut
        assert record["rewritten"] is False, cut
    assert whole["shown"]["title"] == "x"
    assert whole["facts"]["titles"]["summary"] == "s"

    after = facts([(text + b"\n", whole)])[0]
    assert after["shown"] == whole["shown"]
    assert after["parsed"] == len(text) + 1


def test_only_what_was_appended_is_parsed(facts):
    """Facts that were handed in are taken as they are: their bytes are just hashed."""
    text = line("one") + line("two")
    before = facts([text])[0]
    before["facts"]["messages"] = 40
    before["facts"]["titles"]["prompt"] = "told"
    facts.keep(before)
    after = facts([(text + line("three", cwd="/v"), before)])[0]["shown"]
    assert (after["messages"], after["title"]) == (41, "told")


@pytest.mark.parametrize("change, rewritten", [
    (lambda text: text, False),
    (lambda text: text + line(), False),
    (lambda text: text + b"x", False),
    (lambda text: text[:-5], False),
    (lambda text: text[:-5] + b"{}\n", False),
    (lambda text: text[:text.rindex(b"\n") + 1], False),
    (lambda text: text[:-5] + b"{}\n" + b" " * 9, False),
    (lambda text: text[:text.rindex(b"\n")], True),
    (lambda text: b"", True),
    (lambda text: b"\0" * len(text), True),
    (lambda text: b"\0" * 2 * len(text), True),
    (lambda text: b" " + text, True),
    (lambda text: text.replace(b"one", b"ONE"), True),
    (lambda text: text[:100], True),
    (lambda text: line("x") * 9, True)])
@pytest.mark.few(2)
def test_a_rewrite_is_noticed(facts, change, rewritten):
    text = line("one") + line("two" * 500000) + line("tail").rstrip()
    before = facts([text])[0]
    after, fresh = facts([(change(text), before), change(text)])
    assert after["rewritten"] is rewritten
    assert only(FOUND, after) == only(FOUND, fresh)
    assert fresh["shown"].items() <= after["shown"].items(), "and what it was before"


# A message around its text, and the list of a record around its values.
OPEN, CLOSE = line("|").split(b"|")
LIST, END = b'{"x":[', b"0]}\n"
SMILE = "\U0001f600"
MB = 1 << 20


def large(start, part, times, end, copies=1):
    """How a large file is made: copies of a start, a part many times, and an end."""
    return lambda: (start + part * times + end) * copies


def many(values):
    """A line of 8 MB with very many values, and a message."""
    return large(LIST, values, 8388000 // len(values), END + line("p"))


def cut(text):
    """A title that was longer."""
    return text[:199] + "\u2026"


# What makes the file; its bad lines, events, title.
LARGE = [
    (large(b'{"x":"', b"x", 100 * MB, b'"}\n' + line("p")), (0, 2, "p")),
    (large(b"", b"\0", 100 * MB, b""), (1, 0, None)),
    (large(b"", line("x" * 3000), 8000, b""), (0, 8000, cut("x" * 200))),
    (large(OPEN + f"\u00e9{SMILE}".encode(), b"x", 8300000, CLOSE, copies=2),
     (0, 2, cut(f"\u00e9{SMILE}" + "x" * 200))),
    (large(OPEN + b"the end", b"x", 20 * MB, CLOSE),
     (0, 1, cut("the end" + "x" * 200))),
    (large(b'{"x":"', b"x", 8 * MB - 8, b'"}\n'), (0, 1, None)),
    (large(b'{"x":"', b"x", 8 * MB - 7, b'"}\n'), (0, 1, None)),
    (large(OPEN, rb'[{,\"\\', 400000, CLOSE), (0, 1, cut('[{,"\\' * 40))),
    (many(b"[],"), (1, 1, "p")),
    (many(b"{},"), (1, 1, "p")),
    (many(b'{"a":[1]},'), (1, 1, "p")),
    (many(b'"ab",'), (1, 1, "p")),
    (many(b'"\\u1234",'), (1, 1, "p")),
    (many(b"1.5,"), (1, 1, "p")),
    (large(LIST, b"[],", 340000, END, copies=4), (0, 4, None)),
    (large(OPEN, SMILE.encode(), 2_097_000, CLOSE), (0, 1, cut(SMILE * 200))),
    (large(OPEN + rb"\ud83d\ude00", b"x y ", 2_097_000, CLOSE),
     (0, 1, cut(SMILE + "x y " * 50))),
    (large(OPEN + "\u00e9 ".encode() * 1_390_000 + rb"\ud83d\ude00", b"x y ", 1_000_000,
           CLOSE), (0, 1, cut("\u00e9 " * 100))),
]
MEASURE = """
import resource, subprocess, sys
subprocess.run(['csb-index'])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
"""


@pytest.mark.parametrize("make, shown_as", LARGE, ids=range(len(LARGE)))
@pytest.mark.few(2)
def test_memory(sh, home, tmp_path, make, shown_as):
    """Whatever the file, 64 MB at most; a line above 8 MB is shortened, and one above
    1 MB with very many values is not decoded."""
    path = tmp_path / f"{name(1)}.jsonl"
    path.write_bytes(make())
    (tmp_path / "measure").write_text(MEASURE)
    found = session(path, tmp_path, size=path.stat().st_size)
    done = sh(f"python3 {tmp_path}/measure", found)
    record = done.records[0]
    db = sqlite3.connect(home.backup / "session-backup.db")
    facts = json.loads(db.execute("SELECT facts FROM session").fetchone()[0])
    assert (record["bad_lines"], facts["events"], record.get("title")) == shown_as
    assert int(done.err) <= 64 << 10, done.err


def test_files_that_cannot_be_read(sh, tmp_path):
    """A line each, the others are parsed; what is gone is no failure."""
    paths = [tmp_path / f"{name(number)}.jsonl" for number in range(7)]
    good, pipe, forbidden, folder, _, link, empty = paths
    good.write_bytes(line("p"))
    os.mkfifo(pipe)
    forbidden.write_bytes(b"x")
    forbidden.chmod(0)
    folder.mkdir()
    link.symlink_to("nowhere")
    empty.write_bytes(b"")

    done = sh("csb-index", b"".join(session(path, tmp_path) for path in paths))
    assert done.rc == 1
    messages = {row["session_id"]: row.get("messages") for row in done.records}
    assert list(messages) == [path.stem for path in paths]
    assert messages.pop(good.stem) == 1
    assert messages.pop(empty.stem) == 0
    assert set(messages.values()) == {None}
    named = [path for path in paths if path.stem in done.err]
    assert named == [pipe, forbidden, folder]
    assert done.err.count("\n") == 3, done.err


def test_a_version_in_the_store(sh, tmp_path):
    """By its object id, whole; one that is missing is said."""
    sh("git init -q --bare store").ok()
    text = line("p") * 3 + line("tail").rstrip()
    oid = sh("git --git-dir=store hash-object -w --stdin", text).ok().out.strip()
    nowhere = tmp_path / "nowhere"
    rows = []
    for number, value in enumerate((oid, "0" * 40, oid)):
        path = nowhere / f"{name(number)}.jsonl"
        rows.append(session(path, nowhere, oid=value, state="deleted"))
    done = sh("csb-index --git-dir store", b"".join(rows))
    assert done.rc == 1 and "0" * 40 in done.err, done
    assert [row.get("messages") for row in done.records] == [4, None, 4]
    assert sh("csb-index --git-dir none", rows[0]).rc == 3


@pytest.mark.skipif(
    not os.path.exists(GROWTH), reason="the real transcripts are not here")
@pytest.mark.long
def test_real_files_that_grow(facts, tmp_path, seeded):
    """Snapshot after snapshot, and cut at random as well: the end is the same."""
    with tarfile.open(GROWTH) as file:
        file.extractall(tmp_path)
    folders = sorted((tmp_path / "growth").glob("*/*"))
    sessions = [[path.read_bytes() for path in sorted(folder.glob("*.jsonl"))]
                for folder in folders]
    assert len(sessions) == 8
    texts = [snapshots[-1] for snapshots in sessions]
    whole = facts(texts)

    def taken(step):
        """The lengths of the snapshots; the last is taken when there is no more."""
        return [len(snapshots[:step + 1][-1]) for snapshots in sessions]

    def drawn():
        cuts = []
        for text in texts:
            some = [seeded.randint(0, len(text)) for _ in range(4)]
            cuts.append([*sorted(some), len(text)])
        return list(zip(*cuts, strict=True))

    for steps in (list(map(taken, range(5))), drawn()):
        known = [{}] * 8
        for lengths in steps:
            now = [text[:length] for text, length in zip(texts, lengths, strict=True)]
            known = facts(list(zip(now, known, strict=True)))
            assert not any(record["rewritten"] for record in known)
        for record, expected in zip(known, whole, strict=True):
            for field in (*FOUND, "shown"):
                assert record[field] == expected[field]
