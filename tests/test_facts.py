"""csb-index: what a transcript says, the same in any number of parts, whatever is wrong in it."""
import hashlib
import json
import os
import sqlite3
import tarfile

import conftest
import pytest
from conftest import SHARED, name
from learning import Learning

pytestmark = pytest.mark.logic

WHEN = "2026-01-02T03:04:05.000000000Z"
GROWTH = os.path.join(SHARED, "data", "growth.tar.xz")
SAME = ("facts", "parsed", "prefix", "shown")


def line(*words, **fields):
    """One record of a transcript, as the bytes of a line."""
    return conftest.line(*words, **fields).encode()


def other(kind, **fields):
    """One record that is no message."""
    return json.dumps({"type": kind, **fields}).encode() + b"\n"


@pytest.fixture
def facts(sh, tmp_path):
    """facts([bytes or (bytes, what was said before), ...]): what it says now of each."""
    return Learning(sh, tmp_path)


def shown(record):
    return {k: v for k, v in record["shown"].items() if k not in ("folders", "cwd")}


def test_a_transcript(facts):
    text = (other("mode", mode="normal") + line("  What   is\nthis? ", cwd="/b")
            + line("A test.", "assistant", cwd="/a", timestamp="2026-01-02T03:04:01Z")
            + line("and\tnow", timestamp="2026-01-02T05:04:09.5+02:00", cwd="/a")
            + line("meta", isMeta=True) + line("side", isSidechain=True)
            + line("x", "progress") + b"\r\n" + b"  \n")
    record = facts([text])[0]
    assert record["shown"] == {
        "title": "What is this?", "title_from": "prompt", "cwd": "/b", "messages": 3,
        "started": "2026-01-02T03:04:01.000Z", "last_active": "2026-01-02T03:04:09.500Z",
        "last_user_at": "2026-01-02T03:04:09.500Z", "user_messages": 2, "tool_calls": 0,
        "folders": [{"path": "/a", "work": 1}, {"path": "/b", "work": 1},
                    {"path": "/w", "work": 0}],
        "bad_lines": 0}
    assert record["facts"]["events"] == 7
    assert record["parsed"] == len(text)
    assert record["prefix"] == hashlib.sha1(text).hexdigest() and record["rewritten"] is False


BLOCKS = [{"type": "text", "text": "<ide_opened_file>x</ide_opened_file>"},
          {"type": "image", "source": {}}, {"type": "text", "text": "real"}]
RESULT = [{"type": "tool_result", "content": "x"}, {"type": "text", "text": "no"}]
TITLES = {
    "nothing": (b"", None), "only metadata": (other("mode", mode="x"), None),
    "the last custom title": (line() + other("custom-title", customTitle="a")
                              + other("ai-title", aiTitle="z")
                              + other("custom-title", customTitle="b"), ("b", "custom")),
    "a custom title taken back": (other("custom-title", customTitle="a") + line("p")
                                  + other("custom-title", customTitle=""), ("p", "prompt")),
    "the last ai title": (line() + other("ai-title", aiTitle="a") + other("ai-title", aiTitle="b"),
                          ("b", "ai")),
    "a foreign summary": (other("summary", summary="s", leafUuid="x") + line("p", uuid="y"),
                          ("p", "prompt")),
    "a local summary": (other("summary", summary="s", leafUuid="x") + line("p", uuid="x"),
                        ("s", "summary")),
    "a local summary after it": (line("p", uuid="x") + other("summary", summary="s", leafUuid="x"),
                                 ("s", "summary")),
    "the last local summary": (other("summary", summary="1", leafUuid="x")
                               + other("summary", summary="2", leafUuid="y")
                               + other("summary", summary="3", leafUuid="z")
                               + line(uuid="x") + line(uuid="y"), ("2", "summary")),
    "an id that is only quoted": (other("summary", summary="s", leafUuid="x")
                                  + line("p", "user", data={"uuid": "x"}), ("p", "prompt")),
    "an id in a bad line": (line(uuid="x", cwd=1) + other("summary", summary="s", leafUuid="x")
                            + line("p"), ("p", "prompt")),
    "a summary without newline": (line("p", uuid="x")
                                  + other("summary", summary="s", leafUuid="x")[:-1],
                                  ("s", "summary")),
    "a title without newline": (line() + other("custom-title", customTitle="t")[:-1],
                                ("t", "custom")),
    "a torn title": (line("p") + other("custom-title", customTitle="t")[:-2], ("p", "prompt")),
    "not the first record": (line("<local-command-stdout>x") + line("[Request interrupted by user]")
                             + line("  <tick>") + line("m", isMeta=True)
                             + line("c", isCompactSummary=True) + line("s", isSidechain=True)
                             + line("<session-start-hook>") + line("p") + line("q"),
                             ("p", "prompt")),
    "blocks": (line(message={"content": RESULT}) + line(message={"content": BLOCKS}),
               ("real", "prompt")),
    "odd blocks": (line(message={"content": [1, None, {"type": "text"},
                                             {"type": "text", "text": 1}]}) + line("p"),
                   ("p", "prompt")),
    "a slash command": (line("<command-message>do</command-message>\n<command-name>/do"
                             "</command-name><command-args>it  now</command-args>")
                        + line("<command-name>/clear</command-name>"), ("/do it now", "command")),
    "a prompt after a slash command": (line("<command-name>/clear</command-name>") + line("p"),
                                       ("p", "prompt")),
    "a long one": (line("x" * 1000), ("x" * 199 + "\u2026", "prompt")),
    "a lone surrogate": (line("a\ud83db \x00c"), ("a?b c", "prompt")),
    "U+2028": (line("").replace(b'""', '"a\u2028b\u0085c"'.encode()), ("a b c", "prompt")),
    "other types": (other("custom-title", aiTitle="x") + other("ai-title", customTitle="y")
                    + other("summary", summary="z") + other("tag", customTitle=1), None),
}


def test_titles(facts):
    """In one go, and parsed up to the end of every line first."""
    texts = [(text, at) for text, _ in TITLES.values()
             for at in (0, *(at + 1 for at, byte in enumerate(text) if byte == 10))]
    whats = [what for what, (text, _) in TITLES.items() for _ in range(1 + text.count(b"\n"))]
    first = facts([text[:at] for text, at in texts])
    last = facts([(text, before) for (text, _), before in zip(texts, first, strict=True)])
    for what, record in zip(whats, last, strict=True):
        title = record["shown"].get("title"), record["shown"].get("title_from")
        assert title == (TITLES[what][1] or (None, None)), what


@pytest.mark.parametrize("path, text", [
    (f"learned/{name(0)}/custom-title.json", '{"customTitle":" a  b "}'),
    (f"session-states/{name(0)}.json", '\ufeff{"current_name":"a b"}')])
def test_a_title_beside_the_transcript(facts, tmp_path, path, text):
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text(text)
    title = lambda texts: [r["shown"].get("title") for r in facts(texts)]
    assert title([line("p") + other("ai-title", aiTitle="x")]) == ["a b"]
    assert title([line("p") + other("custom-title", customTitle="c")]) == ["c"]
    for wrong in ("", "[]", "{", '{"customTitle":1,"current_name":1}', "[" * 100000):
        (tmp_path / path).write_text(wrong)
        assert title([line("p")]) == ["p"], wrong


BAD = {
    "torn": line()[:40] + b"\n", "text": b"x\n",
    "NUL": b"\0" * 5000 + b"\n", "a list": b"[]\n",
    "a number": b"1\n", "null": b"null\n", "a string": b'"x"\n',
    "message null": line(message=None), "message a string": line(message="x"),
    "content a number": line(message={"content": 1}),
    "cwd a number": line(cwd=1), "cwd a list": line(cwd=["/"]), "type a list": line(type=[]),
    "deep": b'{"a":' * 100000 + b"1" + b"}" * 100000 + b"\n", "a tab in a string": b'{"a":"\t"}\n',
    "a huge number": b'{"type":"user","cwd":1' + b"0" * 5000 + b"}\n",
    "redacted": b'{"a":[REDACTED]312}\n',
}


def test_a_bad_line_costs_itself_only(facts):
    """In front, in the middle, at the end, without newline: it is counted, all else stands."""
    good = line("p", uuid="1") + other("custom-title", customTitle="t")
    more = line("q", "assistant", cwd="/v")
    whole = shown(facts([good + more])[0])
    texts = [text for bad in BAD.values()
             for text in (bad + good + more, good + bad + more, good + more + bad)]
    for number, record in enumerate(facts(texts)):
        assert shown(record) == {**whole, "bad_lines": 1}, list(BAD)[number // 3]
    for what, record in zip(BAD, facts([good + bad.rstrip(b"\n") for bad in BAD.values()]),
                            strict=True):
        assert record["shown"]["bad_lines"] == 1, what
        assert record["shown"]["title"] == "t" and record["parsed"] == len(good)


FINE = {"CRLF": line().replace(b"\n", b"\r\n"), "spaces": b" " + line(), "null fields": line(
    cwd=None, timestamp=None, uuid=None), "no content": line(message={}), "empty": b"{}\n",
    "unknown": other("brand-new", message=None, customTitle=1, summary=[]),
    "not UTF-8": line("?").replace(b"?", b"\xe9"),
    "a surrogate as UTF-8": line("?").replace(b"?", b"\xed\xa0\x80"),
    "an integer timestamp": line(timestamp=1), "no time": line(timestamp="yesterday"),
    "no such day": line(timestamp="2026-02-30T00:00:00Z"),
    "no such hour": line(timestamp="2026-02-03T24:00:01Z"),
    "before the first year": line(timestamp="0001-01-01T00:00:00+02:00"),
    "a title that is a number": other("custom-title", customTitle=1),
    "an ai title that is a list": other("ai-title", aiTitle=["x"]),
    "a summary that is none": other("summary", summary={}, leafUuid="x"),
    "escapes": line("\ud800 \x1b[31m"), "raw U+2028": line("?").replace(b"?", b"\xe2\x80\xa8")}


def test_what_is_unusual_but_fine(facts):
    for what, record in zip(FINE, facts(list(FINE.values())), strict=True):
        assert (record["shown"]["bad_lines"], record["facts"]["events"]) == (0, 1), what


def test_what_is_whole_in_a_bad_line_is_read(facts):
    """After a record that was cut, after NULs, and beside another one."""
    lines = [line("a") + line("b")[:40] + line("c", sessionId=name(0)),
             line("a") + b"\0" * 900 + line("c", sessionId=name(0)),
             line("a").strip() + line("c", sessionId=name(0))]
    for known in facts(lines):
        assert known["shown"]["messages"] == 2 and known["shown"]["bad_lines"] == 1


def test_all_parts_make_the_same_whole(facts):
    """Cut after any byte, parsed up to there and then on: nothing tells that it was two times."""
    text = (other("summary", summary="s", leafUuid="u2") + line("\u00e9", uuid="u1") + b"\xff\n\n"
            + other("summary", summary="t", leafUuid="u1") + line("a", "assistant", uuid="u2",
            timestamp="2025-01-01T00:00:00Z") + b"\0\0\n" + other("ai-title", aiTitle="x")
            + line("end", cwd="/z").rstrip())
    whole = facts([text])[0]
    first = facts([text[:cut] for cut in range(len(text))])
    for cut, record in enumerate(facts([(text, before) for before in first])):
        assert {k: record[k] for k in SAME} == {k: whole[k] for k in SAME}, cut
        assert record["rewritten"] is False, cut
    assert whole["shown"]["title"] == "x" and whole["facts"]["titles"]["summary"] == "s"
    after = facts([(text + b"\n", whole)])[0]
    assert after["shown"] == whole["shown"] and after["parsed"] == len(text) + 1


def test_only_what_was_appended_is_parsed(facts):
    """Facts that were handed in are taken as they are: the bytes before are hashed, no more."""
    text = line("one") + line("two")
    before = facts([text])[0]
    before["facts"]["messages"] = 40
    before["facts"]["titles"]["prompt"] = "told"
    facts.keep(before)
    after = facts([(text + line("three", cwd="/v"), before)])[0]["shown"]
    assert (after["messages"], after["title"]) == (41, "told")


@pytest.mark.parametrize("change, rewritten", [
    (lambda text: text, False), (lambda text: text + line(), False),
    (lambda text: text + b"x", False),
    (lambda text: text[:-5], False), (lambda text: text[:-5] + b"{}\n", False),
    (lambda text: text[:text.rindex(b"\n") + 1], False),
    (lambda text: text[:-5] + b"{}\n" + b" " * 9, False),
    (lambda text: text[:text.rindex(b"\n")], True), (lambda text: b"", True),
    (lambda text: b"\0" * len(text), True), (lambda text: b"\0" * 2 * len(text), True),
    (lambda text: b" " + text, True), (lambda text: text.replace(b"one", b"ONE"), True),
    (lambda text: text[:100], True), (lambda text: line("x") * 9, True)])
@pytest.mark.few(2)
def test_a_rewrite_is_noticed(facts, change, rewritten):
    text = line("one") + line("two" * 500000) + line("tail").rstrip()
    before = facts([text])[0]
    after, fresh = facts([(change(text), before), change(text)])
    assert after["rewritten"] is rewritten
    assert {k: after[k] for k in SAME[:-1]} == {k: fresh[k] for k in SAME[:-1]}
    assert fresh["shown"].items() <= after["shown"].items(), "and what it was found by before"


@pytest.mark.parametrize("text, shown_as", [
    (b'{"x":"' + b"x" * (100 << 20) + b'"}\n' + line("p"), (0, 2, "p")),
    (b"\0" * (100 << 20), (1, 0, None)),
    (line("x" * 3000) * 8000, (0, 8000, "x" * 199 + "\u2026")),
    (line("").replace(b'""', '"\u00e9\U0001f600'.encode() + b"x" * 8300000 + b'"') * 2,
     (0, 2, "\u00e9\U0001f600" + "x" * 197 + "\u2026")),
    (line("the end" + "x" * (20 << 20)), (0, 1, "the end" + "x" * 192 + "\u2026")),
    (b'{"x":"' + b"x" * ((8 << 20) - 8) + b'"}\n', (0, 1, None)),
    (b'{"x":"' + b"x" * ((8 << 20) - 7) + b'"}\n', (0, 1, None)),
    (line('[{,"\\' * 400000), (0, 1, ('[{,"\\' * 40)[:199] + "\u2026")),
    *((b'{"x":[%b0]}\n' % (values * (8388000 // len(values))) + line("p"), (1, 1, "p"))
      for values in (b"[],", b"{},", b'{"a":[1]},', b'"ab",', b'"\\u1234",', b"1.5,")),
    (b'{"x":[%b0]}\n' % (b"[]," * 340000) * 4, (0, 4, None)),
    *((line("").replace(b'""', b'"' + text + b'"'), (0, 1, title)) for text, title in (
        ("\U0001f600".encode() * 2_097_000, "\U0001f600" * 199 + "\u2026"),
        (rb"\ud83d\ude00" + b"x y " * 2_097_000, "\U0001f600x" + " y x" * 49 + " \u2026"),
        ("\u00e9 ".encode() * 1_390_000 + rb"\ud83d\ude00" + b"x y " * 1_000_000,
         "\u00e9 " * 99 + "\u00e9\u2026")))], ids=range(18))
@pytest.mark.few(2)
def test_memory(sh, home, tmp_path, text, shown_as):
    """Whatever the file, 64 MB at most; a line above 8 MB is shortened, and one above 1 MB with very
    many values is not decoded."""
    path = tmp_path / f"{name(1)}.jsonl"
    path.write_bytes(text)
    record = {"kind": "session", "session_id": name(1), "project": "-w", "root": str(tmp_path),
              "transcript_path": str(path), "size": len(text), "mtime": WHEN}
    (tmp_path / "measure").write_text(
        "import resource, subprocess, sys\nsubprocess.run(['csb-index'])\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)\n")
    done = sh(f"python3 {tmp_path}/measure", json.dumps(record).encode())
    found = done.records[0]
    db = sqlite3.connect(home.backup / "session-backup.db")
    facts = json.loads(db.execute("SELECT facts FROM session").fetchone()[0])
    events = facts["events"]
    assert (found["bad_lines"], events, found.get("title")) == shown_as
    assert int(done.err) <= 64 << 10, done.err


def test_files_that_cannot_be_read(sh, tmp_path):
    """A line each, the others are parsed; what is gone is no failure."""
    lines = []
    for number, make in enumerate((lambda p: p.write_bytes(line("p")), lambda p: os.mkfifo(p),
                                   lambda p: (p.write_bytes(b"x"), p.chmod(0)), lambda p: p.mkdir(),
                                   lambda p: None, lambda p: p.symlink_to("nowhere"),
                                   lambda p: p.write_bytes(b""))):
        path = tmp_path / f"{name(number)}.jsonl"
        make(path)
        lines.append(json.dumps({"kind": "session", "session_id": name(number), "project": "-w",
                                 "root": str(tmp_path), "transcript_path": str(path),
                                 "size": 1, "mtime": WHEN}))
    done = sh("csb-index", "\n".join(lines).encode())
    assert done.rc == 1 and [r.get("messages") for r in done.records] == [
        1, None, None, None, None, None, 0]
    assert [name(n) in done.err for n in range(7)] == [False, True, True, True, False, False, False]
    assert done.err.count("\n") == 3, done.err


def test_a_version_in_the_store(sh, tmp_path):
    """By its object id, whole; one that is missing is said."""
    sh("git init -q --bare store").ok()
    text = line("p") * 3 + line("tail").rstrip()
    oid = sh("git --git-dir=store hash-object -w --stdin", text).ok().out.strip()
    lines = [json.dumps({
        "kind": "session", "session_id": name(number), "project": "-w", "root": "/nowhere",
        "transcript_path": f"/nowhere/{name(number)}.jsonl", "size": 1, "mtime": WHEN, "oid": value,
        "state": "deleted"}).encode() for number, value in enumerate((oid, "0" * 40, oid))]
    done = sh("csb-index --git-dir store", b"\n".join(lines))
    assert done.rc == 1 and "0" * 40 in done.err, done
    assert [r.get("messages") for r in done.records] == [4, None, 4]
    assert sh("csb-index --git-dir none", lines[0]).rc == 3


@pytest.mark.skipif(not os.path.exists(GROWTH), reason="the real transcripts are not here")
@pytest.mark.long
def test_real_files_that_grow(sh, facts, tmp_path, seeded):
    """Snapshot after snapshot, and cut at random as well: the end is the same."""
    with tarfile.open(GROWTH) as file:
        file.extractall(tmp_path)
    sessions = [sorted(path.glob("*.jsonl")) for path in sorted((tmp_path / "growth").glob("*/*"))]
    assert len(sessions) == 8
    texts = [paths[-1].read_bytes() for paths in sessions]
    whole = facts(texts)
    for cut in ("as they were", "at random"):
        known, lengths = [{}] * 8, [0] * 8
        for step in range(5):
            if cut == "at random":
                lengths = [seeded.randint(length, len(text)) if step < 4 else len(text)
                           for length, text in zip(lengths, texts, strict=True)]
            else:
                lengths = [os.path.getsize(paths[min(step, len(paths) - 1)]) for paths in sessions]
            now = [text[:length] for text, length in zip(texts, lengths, strict=True)]
            known = facts(list(zip(now, known, strict=True)))
            assert not any(record["rewritten"] for record in known)
        for one, other_one in zip(known, whole, strict=True):
            assert {k: one[k] for k in SAME} == {k: other_one[k] for k in SAME}
