"""csb-log and the stages below it: what was said in a session, whatever stands in the file."""
import itertools
import json
import random
import re
import time

import pytest
from conftest import lines, on_terminal, put_into, width

pytestmark = pytest.mark.logic

ID = "3f4a9b10-0000-4000-8000-00000000c0de"
OTHER = "3f4a9b11-0000-4000-8000-00000000beef"
MB = 1 << 20
PEAK = ("import resource, subprocess, sys; rc = subprocess.call(sys.argv[1:]); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr); "
        "sys.exit(rc)")


class Chat:
    """Writes transcripts as the client does: each record has a uuid and a parent."""

    def __init__(self):
        self.count, self.parent, self.records = itertools.count(1), None, []

    def add(self, kind, content=None, mid=None, **fields):
        number = next(self.count)
        message = {"message": {"role": kind, "content": content, **({"id": mid} if mid else {})}}
        message = message if kind in ("user", "assistant") else {"content": content}
        record = {"parentUuid": self.parent, "isSidechain": False, "uuid": uuid(number),
                  "timestamp": f"2026-01-02T03:{number:02d}:00.000Z", "sessionId": ID,
                  "cwd": "/w", "type": kind, **(message if content is not None else {}), **fields}
        self.records.append(record)
        self.parent = record["uuid"]
        return record["uuid"]

    def user(self, text, **fields):
        return self.add("user", text, **fields)

    def says(self, text, mid=None, **fields):
        return self.add("assistant", [{"type": "text", "text": text}], mid, **fields)

    def calls(self, name, mid=None, tool="Bash", value=None, **fields):
        part = {"type": "tool_use", "id": name, "name": tool, "input": value or {"command": "ls"}}
        return self.add("assistant", [part], mid, **fields)

    def gives(self, name, text, error=False, **fields):
        part = {"type": "tool_result", "tool_use_id": name, "content": text, "is_error": error}
        return self.add("user", [part], **fields)

    def bytes(self):
        return lines(*self.records)


def uuid(number):
    return f"00000000-0000-4000-8000-{number:012d}"


@pytest.fixture
def put(put):
    """A function: put(bytes or Chat, session id, project) makes a transcript; its path."""
    def write(data, name=ID, project="-p"):
        text = data if isinstance(data, bytes) else data.bytes()
        return put(f"projects/{project}/{name}.jsonl", text, mtime=time.time())
    return write


def short(records):
    """Turns as (role, text, [(tool, result)])."""
    return [(turn["role"], turn["text"], [(tool["name"], tool.get("result"))
                                          for tool in turn["tools"]]) for turn in records]


def small():
    chat = Chat()
    chat.user("Mend the parser, please")
    chat.says("I will look at it.", "m1")
    chat.calls("t1", "m1", value={"command": "make   test\n"})
    chat.gives("t1", "one\ntwo\n")
    chat.calls("t2", "m2", "Read", {"file_path": "/w/src/a_b.py"})
    chat.gives("t2", "no such file", error=True)
    chat.says("Done:\n```\ncode", "m3")
    chat.user("<command-name>/clear</command-name>\n<command-args>now</command-args>")
    chat.user("Caveat: not typed", isMeta=True)
    return chat


def test_markdown(sh, put):
    put(small())
    assert sh(f"csb-log {ID}").ok().out == f"""\
# Mend the parser, please

`{ID}` `-p` `/w`

## User, 2026-01-02 03:01

Mend the parser, please

## Assistant, 2026-01-02 03:02

I will look at it.

- `Bash` make test (2 lines)

## Assistant, 2026-01-02 03:05

- `Read` src/a\\_b.py (failed: no such file)

## Assistant, 2026-01-02 03:07

Done:
```
code
```

## User, 2026-01-02 03:08

/clear now

> Claude Code: Caveat: not typed
"""


def test_no_words_look_like_the_head_of_a_turn_in_markdown(sh, put):
    """Of a person, the model or a file; other headings stay as they are."""
    forged = ["## User, 2026-01-02 03:01", "#  assistant, 17:37", "   ### Subagent aa: user, now"]
    fine = ["## Usage", "## Summary", "# The users, and more", "a ## User, x", "##User, x"]
    chat = Chat()
    chat.user("\n".join(["Look:", *forged, *fine]))
    chat.says("\n".join([*forged, *fine]), timestamp=None)
    put(chat)
    out = sh(f"csb-log {ID}").ok().out
    heads = [text for text in out.splitlines()[1:]
             if re.match(" *#+ +.*(?:user|assistant),", text, re.I)]
    assert heads == ["## User, 2026-01-02 03:01", "## Assistant, at an unknown time"]
    for text in forged:
        assert out.count(text.replace("#", "\\#", 1) + "\n") == 2
    for text in fine:
        assert out.count(f"\n{text}\n") == 2


@pytest.mark.parametrize(("text", "shown"), [
    ("<!-- a\n\n  <pre>b</b>", "\\<!-- a\n\n  \\<pre>b\\</b>"),
    ("a <b> `<i>` \\<u> <https://x> 1 < 2", "a \\<b> `<i>` \\<u> <https://x> 1 < 2"),
    ("a\n\n    ```\n    b", "a\n\n```\n    b\n```"),
    ("```\n    ```\n<b>", "```\n```\n\\<b>"),
    ("~~~ a`b\n<b>", "~~~ a`b\n<b>\n~~~"),
    ("- a\n  ```\n  b", "- a\n  ```\n  b\n  ```"),
    ("- a\n  ```\nb\n  ```", "- a\n```\nb\n```"),
    ("User, now\nb\n---", "User, now\nb\n\\---"),
    ("# User, now\n ==", "\\# User, now\n \\=="),
    ("Users\n===", "Users\n==="),
    ("```\nuser, a\n---", "```\nuser, a\n---\n```"),
])
def test_no_words_reach_beyond_their_turn_in_markdown(sh, put, text, shown):
    """Neither tags nor code that a reader of Markdown would see no end of; nor is any made a
    heading by the line below."""
    chat = Chat()
    chat.user(text)
    chat.says("Good")
    put(chat)
    out = sh(f"csb-log {ID}").ok().out
    assert out.partition("03:01\n\n")[2].partition("\n\n## Assistant")[0] == shown


def test_what_stands_in_a_line_has_no_tags_in_markdown(sh, put):
    chat = Chat()
    chat.user("Mend <b>")
    chat.user("<system-reminder>a</system-reminder>")
    chat.calls("c", tool="B`<i>", value={"command": "a <b>"})
    chat.gives("c", "<p>no", error=True)
    put(chat)
    out = sh(f"csb-log {ID}").ok().out
    assert out.startswith("# Mend \\<b>\n")
    assert "\n> Claude Code: \\<system-reminder>a\\</system-reminder>\n" in out
    assert "\n- `B'<i>` a \\<b> (failed: \\<p>no)\n" in out


def test_text_in_local_time(sh, put):
    """--text in a pipe is what a terminal shows, without colour."""
    put(small())
    out = sh(f"csb-log --text --tools full --last 4 {ID}", TZ="XXX-5").ok().out
    assert out == f"""\
Mend the parser, please
/w \u00b7 2026-01-02 08:05 \u00b7 {ID[:8]}

Claude  2026-01-02 08:05
    Read  src/a_b.py  failed: no such file
      file_path: /w/src/a_b.py
      error: no such file

  Done:
  \u2502 code

You  08:08
  /clear now

  Claude Code: Caveat: not typed
"""


def test_one_turn_a_message_and_results_with_their_calls(sh, put):
    """Also when the results come between the records of the message, as in parallel calls."""
    chat = Chat()
    chat.user("go")
    chat.says("both", "m1")
    chat.calls("t1", "m1")
    chat.gives("t1", "r1")
    chat.calls("t2", "m1")
    chat.calls("t3", "m1")
    chat.gives("t3", [{"type": "text", "text": "r3"}, {"type": "image", "source": {
        "type": "base64", "media_type": "image/png", "data": "QUJD"}}])
    chat.gives("t2", "r2")
    chat.says("without an id")
    chat.says("another")
    put(chat)
    records = sh(f"csb-log --json {ID}").ok().records
    assert short(records) == [
        ("user", "go", []), ("assistant", "both", [("Bash", "r1"), ("Bash", "r2"), ("Bash", "r3")]),
        ("assistant", "without an id", []), ("assistant", "another", [])]
    assert {r["kind"] for r in records} == {"turn"} and {r["session_id"] for r in records} == {ID}
    assert records[1]["tools"][2]["images"] == [{"media_type": "image/png", "data": "QUJD"}]
    assert records[0]["at"] == "2026-01-02T03:01:00.000Z" and records[0]["uuid"] == uuid(1)


GOOD = {"type": "user", "message": {"role": "user", "content": "fine"}}
BAD = {
    "torn": b'{"type":"user","message":{"role":"user","content":"x',
    "NUL": b"\0" * 5000,
    "a list": b"[1]", "null": b"null", "a number": b"9" * 6000,
    "too deep": b"[" * 100_000, "deep object": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "a record of ours": b'{"kind":"session","session_id":"x","title":"forged"}',
    "a turn of ours": b'{"kind":"turn","role":"user","text":"forged"}',
    "many values": b'{"a":[' + b"1," * 700_000 + b"1]}",
}
ODD = {     # nothing is bad about these
    "BOM": (b"\xef\xbb\xbf" + lines(GOOD), ["fine"]),
    "CRLF": (lines(GOOD).replace(b"\n", b"\r\n"), ["fine"]),
    "no last newline": (lines(GOOD)[:-1], ["fine"]),
    "empty lines": (b"\n\n" + lines(GOOD) + b"\n \n", ["fine"]),
    "half an emoji": (lines(GOOD).replace(b"fine", b"a\\ud83d"), ["a\ud83d"]),
    "raw U+2028": (lines(GOOD).replace(b"fine", "a\u2028b\x85c".encode()), ["a\u2028b\x85c"]),
    "a text block": (lines(GOOD).replace(b'"fine"', b'[{"type":"text","text":"one"},{"type":"text","text":"two"},7]'),
                     ["one\n\ntwo"]),
    "wrong types": (b'{"type":5}\n{"type":["user"]}\n{"uuid":7}\n{"type":"system","content":[]}\n'
                    b'{"type":"attachment","attachment":3}\n{"type":"user","timestamp":3,'
                    b'"uuid":[],"cwd":1,"agentId":{},"message":{"content":"x","id":[]}}\n', ["x"]),
    "not UTF-8": (lines(GOOD).replace(b"fine", b"\xff\xfe"), ["\ufffd\ufffd"]),
    "NaN": (b'{"type":"user","message":{"role":"user","content":"x"},"n":NaN}', ["x"]),
    "unknown": (b'{"type":"dance","message":{}}\n' + lines(GOOD), ["fine"]),
    "a new kind of block": (lines(GOOD).replace(b'"fine"', b'[{"type":"video"}]'), ["[video]"]),
    "null message": (b'{"type":"user","message":null}\n', []),
    "a text as message": (b'{"type":"assistant","message":"x"}\n', []),
    "an empty file": (b"", []), "only metadata": (b'{"type":"mode","mode":"normal"}\n', []),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.few(5)
def test_a_bad_line_costs_itself(sh, put, name):
    """It is left out, and said in one line; the lines around it are there.

    And where it stood is a note.
    """
    put(lines(GOOD) + BAD[name] + b"\n" + lines(GOOD) + BAD[name] + b"\n")
    done = sh(f"csb-log --json {ID}")
    notes = [f"Line {number} of the transcript is damaged: it is left out."
             for number in (2, 4)]
    assert [(turn["role"], turn["text"]) for turn in done.records] == [
        ("user", "fine"), ("system", notes[0]), ("user", "fine"), ("system", notes[1])]
    assert (done.rc, done.err.count("\n")) == (0, 1)
    assert re.search(r"2 bad lines of '.*' left out, the first is line 2\n", done.err)
    assert done.records[0]["title"] == "fine"


@pytest.mark.parametrize("name", ODD)
@pytest.mark.few(2)
def test_what_is_odd_but_good(sh, put, name):
    data, texts = ODD[name]
    put(data)
    for form in ("--json", "--md", "--text", "--html"):
        done = sh(f"csb-log {form} {ID}")
        assert done.rc == 0 and done.err.count("\n") <= (not texts)
        assert form != "--json" or [turn["text"] for turn in done.records] == texts


def test_hostile_records_never_break_it(sh, put, seeded):
    """Any value in any place: the same number of good turns, nothing but lines on stderr."""
    values = [None, True, 0, -1, 1.5, 1e308, "", "x", "\x00\x1b]0;x\x07", "\ud800", [], {}, [[]],
              [None, 1, {"type": "text", "text": 3}], {"type": "tool_use", "input": [1]},
              [{"type": "tool_result", "tool_use_id": [], "content": {"a": 1}}],
              [{"type": "tool_use", "id": {}, "name": [], "input": {"command": 7}}],
              [{"type": "image", "source": {"data": 1}}], {"a": {"b": []}}, "2026-13-01T00:00:00Z"]
    keys = ("type uuid parentUuid logicalParentUuid isSidechain timestamp cwd agentId isMeta "
            "toolUseResult isCompactSummary attachment content subtype sessionId").split()
    chat = []
    for _ in range(400):
        record = {key: seeded.choice(values) for key in seeded.sample(keys, 8)}
        record["type"] = seeded.choice(["user", "assistant", "system", "attachment", "progress"])
        record["message"] = {key: seeded.choice(values) for key in ("content", "id", "model")}
        chat.append(record)
    put(lines(*chat, GOOD))
    for form in ("--json", "--md --subagents --tools full", "--text", "--html", "--live-branch"):
        done = sh(f"csb-log {form} {ID}")
        assert done.rc in (0, 1) and "cannot go on" not in done.err, done.err
        assert form == "--json" and "fine" in done.records[-1]["text"] or form != "--json"


def test_other_records_that_speak(sh, put):
    chat = Chat()
    chat.add("system", subtype="compact_boundary", content="Conversation compacted")
    chat.user("This session is being continued", isCompactSummary=True)
    chat.add("system", subtype="turn_duration", durationMs=3)
    chat.add("attachment", attachment={"type": "queued_command", "prompt": "typed meanwhile"})
    chat.add("attachment", attachment={"type": "todo_reminder", "content": []})
    chat.add("assistant", [{"type": "thinking", "thinking": "hm"}], "m1")
    chat.says("well", "m1", message={"role": "assistant", "id": "m1", "model": "the-model",
                                     "content": [{"type": "text", "text": "well"}]})
    put(chat)
    found = sh(f"csb-log --json {ID}").ok().records
    assert [(turn["role"], turn["text"]) for turn in found] == [
        ("system", "Conversation compacted"), ("summary", "This session is being continued"),
        ("user", "typed meanwhile"), ("assistant", "well")]
    assert found[3]["thinking"] == "hm"


def test_a_session_of_which_only_an_output_is_left(sh, home):
    put_into(home, f"projects/-w/{ID}/tool-results/a.txt", "x")
    done = sh(f"csb-log {ID}")
    assert (done.rc, done.out) == (1, "") and "cannot find the transcript" in done.err


@pytest.mark.parametrize("form", ["--md", "--text"])
def test_a_session_in_which_nothing_was_said(sh, put, form):
    put(lines({"type": "mode", "mode": "normal"}))
    done = sh(f"csb-log {form} {ID}")
    assert (done.rc, done.out) == (0, "")
    assert done.err == "csb-log: nothing was said: there is no turn to show\n"


def test_what_was_queued_is_said_once(sh, put):
    """In the message in which it was sent; what never was comes last."""
    chat = Chat()
    for words in ("never sent", "sent", "sent later"):
        chat.add("queue-operation", operation="enqueue", content=words)
    chat.user("sent")
    chat.add("attachment", attachment={"type": "queued_command", "prompt": "sent later"})
    chat.says("well", "m1")
    put(chat)
    found = sh(f"csb-log --json {ID}").ok().records
    assert [turn["text"] for turn in found] == ["sent", "sent later", "well", "never sent"]


def test_what_a_person_told_a_tool(sh, put):
    chat = Chat()
    refused = "x. To tell you how to proceed, the user said:\nuse pnpm"
    chat.user([{"type": "tool_result", "tool_use_id": "t", "content": refused, "is_error": True}])
    put(chat)
    found = sh(f"csb-log --json {ID}").ok().records
    assert [(turn["role"], turn["text"]) for turn in found] == [("tool", ""), ("user", "use pnpm")]


def test_results_without_a_call_and_calls_without_a_result(sh, put):
    chat = Chat()
    chat.gives("t9", "nobody asked")
    chat.says("so", "m1")
    chat.calls("t2", "m2")
    chat.user("stop that")
    put(chat)
    assert short(sh(f"csb-log --json {ID}").ok().records) == [
        ("tool", "", [("?", "nobody asked")]), ("assistant", "so", []),
        ("assistant", "", [("Bash", None)]), ("user", "stop that", [])]
    assert "(no result)" in sh(f"csb-log {ID}").ok().out


@pytest.mark.long
def test_a_result_that_never_comes_does_not_stop_the_stream(sh, put):
    """Turns leave when much has gathered behind a call, not only at the end of the file."""
    chat = Chat()
    chat.calls("never", "m0")
    for number in range(1500):
        chat.user(f"prompt {number}", timestamp="2026-01-02T03:04:05.000Z")
    put(chat)
    first = sh(f"(csb-cat {ID}; sleep 9) | timeout 8 csb-log --json | head -1")
    assert json.loads(first.out)["tools"][0]["id"] == "never"
    assert len(sh(f"csb-log --json {ID}").ok().records) == 1501


def test_what_stands_there_twice_is_shown_once(sh, put):
    chat = small()
    put(chat.bytes() * 3)
    assert len(sh(f"csb-log --json {ID}").ok().records) == 6


def texts(sh, line):
    return [turn["text"] for turn in sh(line).ok().records]


def test_live_branch_leaves_out_what_was_rewound(sh, put):
    chat = Chat()
    first = chat.user("first")
    chat.says("wrong", "m1")
    chat.user("no, not that")
    chat.parent = first
    chat.add("progress", data={"type": "hook_progress"})
    chat.says("right", "m2")
    chat.user("thanks")
    chat.user("a side chain", isSidechain=True)
    chat.add("system", subtype="turn_duration", durationMs=3)
    put(chat)
    assert texts(sh, f"csb-log --json --live-branch {ID}") == ["first", "right", "thanks"]
    assert len(texts(sh, f"csb-log --json {ID}")) == 6


def test_live_branch_has_all_parallel_calls(sh, put):
    chat = Chat()
    chat.user("go")
    one = chat.calls("t1", "m1")
    two = chat.calls("t2", "m1")
    chat.gives("t1", "r1", parentUuid=one)
    chat.gives("t2", "r2", parentUuid=two)
    chat.parent = chat.records[-1]["uuid"]
    chat.says("done", "m2")
    put(chat)
    assert short(sh(f"csb-log --json --live-branch {ID}").ok().records) == [
        ("user", "go", []), ("assistant", "", [("Bash", "r1"), ("Bash", "r2")]),
        ("assistant", "done", [])]


def test_live_branch_goes_on_before_a_compaction(sh, put):
    chat = Chat()
    before = chat.user("before")
    chat.parent = None
    chat.add("system", subtype="compact_boundary", content="compacted", logicalParentUuid=before)
    chat.user("summary", isCompactSummary=True)
    chat.user("after")
    put(chat)
    found = texts(sh, f"csb-log --json --live-branch {ID}")
    assert found == ["before", "compacted", "summary", "after"]


CYCLES = {"itself": {3: 3}, "two": {2: 3, 3: 2}, "all": {1: 4}, "a stranger": {1: 99},
          "not yet": {2: 5, 1: 2}}


@pytest.mark.parametrize("name", CYCLES)
def test_live_branch_survives_cycles(sh, put, name):
    chat = Chat()
    for number in range(1, 5):
        chat.user(f"u{number}")
    for number, parent in CYCLES[name].items():
        chat.records[number - 1]["parentUuid"] = uuid(parent)
    put(chat)
    found = texts(sh, f"csb-log --json --live-branch {ID}")
    assert found[-1] == "u4" and len(found) == len(set(found))
    assert found == {"itself": ["u3", "u4"], "two": ["u2", "u3", "u4"],
                     "not yet": ["u2", "u3", "u4"]}.get(name, ["u1", "u2", "u3", "u4"])


def agent(name, *words):
    chat = Chat()
    chat.count = itertools.count(sum(name.encode()) * 100)
    chat.user(words[0], isSidechain=True, agentId=name)
    for word in words[1:]:
        chat.says(word, f"{name}-{word}", isSidechain=True, agentId=name)
    for record in chat.records:
        record["timestamp"] = "2026-01-02T04:00:00.000Z"
    return chat.bytes()


def with_subagents(put, home):
    """Two called in one message, one known by its meta file; one within; one that nobody called."""
    chat = Chat()
    chat.user("go")
    chat.calls("t1", "m1", "Task")
    chat.calls("t2", "m1", "Task")
    chat.gives("t1", "r1", toolUseResult={"agentId": "aa"})
    chat.gives("t2", "r2")
    chat.says("done", "m2")
    path = put(chat)
    folder = path.with_suffix("") / "subagents"
    folder.mkdir(parents=True)
    (folder / "agent-aa.jsonl").write_bytes(agent("aa", "to a", "from a") + lines(
        {"type": "assistant", "message": {"content": [
            {"type": "tool_use", "id": "in", "name": "Task", "input": {}}]}},
        {"type": "user", "toolUseResult": {"agentId": "cc"}, "message": {"content": [
            {"type": "tool_result", "tool_use_id": "in", "content": "r"}]}}))
    (folder / "deep").mkdir()
    (folder / "deep" / "agent-cc.jsonl").write_bytes(agent("cc", "to c"))
    (folder / "agent-bb.jsonl").write_bytes(agent("bb", "to b", "from b"))
    (folder / "agent-bb.meta.json").write_text('{"toolUseId": "t2"}')
    (path.parent / "agent-flat.jsonl").write_bytes(agent("flat", "to flat"))
    (path.parent / "agent-not-ours.jsonl").write_bytes(
        agent("not", "to another").replace(ID.encode(), OTHER.encode()))
    return path


SUBAGENTS = [("go", None, None), ("", None, None), ("to a", "aa", 1), ("from a", "aa", 1),
             ("", "aa", 1), ("to c", "cc", 2), ("to b", "bb", 1), ("from b", "bb", 1),
             ("done", None, None), ("to flat", "flat", 1)]


def test_live_branch_has_the_subagents_that_its_calls_started(sh, put, home):
    path = with_subagents(put, home)
    chat = Chat()
    chat.count = itertools.count(50)
    chat.parent = uuid(1)
    chat.calls("t9", "m9", "Task")
    chat.gives("t9", "r9", toolUseResult={"agentId": "bb"})
    with open(path, "ab") as file:
        file.write(chat.bytes())
    (path.with_suffix("") / "subagents" / "agent-bb.meta.json").unlink()
    found = texts(sh, f"csb-log --json --live-branch {ID}")
    assert found == ["go", "", "to b", "from b"]


def test_subagents_follow_the_call_that_started_them(sh, put, home):
    with_subagents(put, home)
    found = sh(f"csb-log --json {ID}").ok().records
    assert [(t["text"], t.get("subagent"), t.get("depth")) for t in found] == SUBAGENTS
    assert [t["text"] for t in found if t.get("is_sidechain")] == [
        text for text, name, _ in SUBAGENTS if name]
    assert {t["session_id"] for t in found} == {ID}


def test_a_message_that_starts_subagents_stays_whole(sh, put, home):
    """Also when the client wrote each call after the result of the one before."""
    chat = Chat()
    for name in ("aa", "bb"):
        chat.calls(name, "m1", "Task")
        chat.gives(name, f"r {name}", toolUseResult={"agentId": name})
    chat.says("and so", "m1")
    chat.says("done", "m2")
    folder = put(chat).with_suffix("") / "subagents"
    folder.mkdir(parents=True)
    for name in ("aa", "bb"):
        (folder / f"agent-{name}.jsonl").write_bytes(agent(name, f"to {name}"))
    assert short(sh(f"csb-log --json {ID}").ok().records) == [
        ("assistant", "and so", [("Task", "r aa"), ("Task", "r bb")]), ("user", "to aa", []),
        ("user", "to bb", []), ("assistant", "done", [])]


def test_subagents_are_one_line_or_whole(sh, put, home):
    with_subagents(put, home)
    brief = sh(f"csb-log {ID}").ok().out
    assert "> subagent aa: 3 turns, --subagents shows them\n" in brief and "from a" not in brief
    whole = sh(f"csb-log --subagents {ID}").ok().out
    assert "### Subagent aa: assistant, 2026-01-02 04:00\n\nfrom a\n" in whole


@pytest.mark.parametrize("way", ["deleted", "husk", "transcript only"])
@pytest.mark.few(2)
def test_subagents_of_what_is_gone(sh, put, home, way):
    path = with_subagents(put, home)
    if way != "husk":
        sh("csb-backup").ok()
    path.unlink()
    if way == "deleted":
        sh(f"rm -r {home.claude}/projects/*")
    found = sh(f"csb-log --json {ID}").ok().records
    wanted = SUBAGENTS if way != "husk" else [(text, name, 1) for text, name, _ in sorted(
        (one for one in SUBAGENTS if one[1] in ("aa", "bb", "cc", "flat")), key=lambda one: one[1])]
    if way == "husk":
        assert sorted(t["text"] for t in found) == sorted(text for text, _, _ in wanted)
    else:
        assert [(t["text"], t.get("subagent"), t.get("depth")) for t in found] == wanted


def test_subagents_that_call_each_other(sh, put):
    """Each is shown once."""
    chat = Chat()
    chat.calls("t", "m", "Task")
    chat.gives("t", "r", toolUseResult={"agentId": "x"})
    path = put(chat)
    folder = path.with_suffix("") / "subagents"
    folder.mkdir(parents=True)
    for name, other in (("x", "y"), ("y", "x")):
        (folder / f"agent-{name}.jsonl").write_bytes(agent(name, f"to {name}") + lines(
            {"type": "user", "toolUseResult": {"agentId": other}, "message": {"content": [
                {"type": "tool_result", "tool_use_id": "q", "content": "r"}]}}))
    found = texts(sh, f"csb-log --json {ID}")
    assert found.count("to x") == found.count("to y") == 1


def test_side_chains_in_the_transcript_itself(sh, put):
    chat = Chat()
    chat.calls("t", "m", "Task")
    chat.user("to it", isSidechain=True)
    chat.says("from it", "s1", isSidechain=True)
    chat.gives("t", "r")
    put(chat)
    found = sh(f"csb-log --json {ID}").ok().records
    assert short(found) == [("assistant", "", [("Task", "r")]), ("user", "to it", []),
                            ("assistant", "from it", [])]
    assert [t.get("is_sidechain", False) for t in found] == [False, True, True]
    assert "> side chain: 2 turns" in sh(f"csb-log {ID}").ok().out


def back_up_three_versions(sh, home):
    """A session backed up at one, two and three prompts; the commits."""
    commits, chat = [], Chat()
    for number in (1, 2, 3):
        chat.user(f"u{number}")
        put_into(home, f"projects/-p/{ID}.jsonl", chat.bytes(), mtime=time.time())
        made = sh("csb-backup").ok().records
        commits += [record["commit"] for record in made if record["kind"] == "commit"]
    return commits


@pytest.fixture
def three_versions(once):
    """The commits of a session that was backed up at one, two and three prompts."""
    return once(back_up_three_versions)


@pytest.mark.long
def test_any_version_in_the_store(sh, put, three_versions):
    for number, commit in enumerate(three_versions, 1):
        wanted = [f"u{n}" for n in range(1, number + 1)]
        assert texts(sh, f"csb-log --json --at {commit} {ID}") == wanted
        record = lines({"session_id": ID, "commit": commit})
        assert [t["text"] for t in sh("csb-log --json", record).ok().records] == wanted
    assert texts(sh, f"csb-log --json --at main~1 {ID}") == ["u1", "u2"]


@pytest.mark.long
def test_a_deleted_session(sh, put, three_versions):
    put(b"").unlink()
    for _ in range(2):
        assert texts(sh, f"csb-log --json {ID}") == ["u1", "u2", "u3"]
        assert texts(sh, f"csb-log --json --live-branch {ID[-6:]}") == ["u1", "u2", "u3"]
        sh("csb-backup").ok()
    assert texts(sh, "csb-list --deleted | csb-log --json") == ["u1", "u2", "u3"]


@pytest.mark.long
def test_a_session_that_had_shrunk(sh, put, three_versions):
    path = put(lines(GOOD))
    sh("csb-backup")
    path.unlink()
    sh("csb-backup").ok()
    done = sh(f"csb-log --json {ID}")
    assert [t["text"] for t in done.records] == ["u1", "u2", "u3"]
    assert done.rc == 0 and "the fullest is taken" in done.err and done.err.count("\n") == 1


def test_a_session_that_a_power_cut_left_blank(sh, put):
    """The version before it is read, as it would be restored; on disk it is still blank."""
    path = put(lines(GOOD))
    sh("csb-backup").ok()
    put(b"\0" * 2 * path.stat().st_size)
    sh("csb-backup")
    for _ in range(2):
        done = sh(f"csb-log --json {ID}")
        assert [turn["text"] for turn in done.records] == ["fine"], done
        assert (done.rc, done.err.count("\n")) == (1, 1) and "is blank" in done.err
        assert sh(f"csb-cat {ID}").out.count("\n") == 2
        path.unlink(missing_ok=True)


def test_several_in_a_pipe(sh, put, home):
    put(small())
    path = put(lines(GOOD), OTHER)
    payload = {"session_id": ID, "transcript_path": str(home.claude / f"projects/-p/{ID}.jsonl"),
               "cwd": "/", "hook_event_name": "Stop"}
    given = lines(payload) + OTHER[:8].encode() + b"\n" + lines({"transcript_path": str(path)})
    found = sh("csb-log --json", given).ok().records
    assert [r["session_id"] for r in found] == [ID] * 6 + [OTHER]
    assert sh("csb-find | csb-log").ok().out.count("\n`3f4a") == 2
    assert sh(f"csb-log {OTHER} {ID}").ok().out.count("\n`3f4a") == 2


def test_any_path(sh, put, home):
    (home.path / "my talk.jsonl").write_bytes(small().bytes())
    (home.path / "-x.jsonl").write_bytes(lines(GOOD))
    assert len(sh("csb-log --json 'my talk.jsonl'").ok().records) == 6
    assert len(sh(f"csb-log --json {home.path}/*.jsonl").ok().records) == 7
    assert len(sh("csb-log --json -- ./-x.jsonl").ok().records) == 1


def test_turns_can_be_piped_into_it(sh, put):
    put(small())
    line = f"csb-log --json {ID} | grep '\"user\"' | csb-log --text"
    assert sh(line).ok().out.count("\nYou  ") == 2


MISUSE = [("csb-log 3f4a9b1", 2, "names 2 sessions"), ("csb-log 3f4a9b1", 2, f"csb-log:   {ID}  "),
          ("csb log 3f4a9b1", 2, f"csb log:   {OTHER}  "),
          ("csb log <&-", 2, "csb log: which session? csb log 3f4a"),
          ("csb-log <&-", 2, "such as: csb-list --deleted | csb-log"),
          ("csb log ffff", 1, "csb list --all shows them, csb search WORDS looks in what was said"),
          ("csb-log ffff", 1, "cannot find session"),
          ("echo 3f4a9b1 | csb-log", 1, "names 2 sessions"),
          ("echo 3f4a9b1 | csb-log --json", 1, "names 2 sessions"),
          ("csb-log none.jsonl", 1, "No such file"), ("csb-log ./", 1, "not a regular file"),
          (f"csb-log --at nope {ID}", 1, "nope"), ("csb-log --last x ffff", 2, "--last"),
          ("csb-log --since x ffff", 2, "--since"),
          ("csb-log --md --text ffff", 2, "not allowed"),
          ("csb-log --tools some ffff", 2, "--tools"), ("mkfifo f.jsonl; csb-log f.jsonl", 1, "f"),
          (f"csb-log {ID[:8]} {OTHER[:8]} ffff >/dev/null", 1, "cannot find session")]


@pytest.mark.parametrize("line, rc, words", MISUSE)
@pytest.mark.few(2)
def test_status(sh, put, line, rc, words):
    put(small())
    put(lines(GOOD), OTHER)
    sh("csb-backup").ok()
    done = sh(line)
    candidates = 2 * ("names 2 sessions" in done.err)       # below it, an id a line
    assert (done.rc, done.err.count("\n")) == (rc, 1 + candidates), done
    assert words in done.err, done


def test_one_id_in_two_projects(sh, put):
    put(lines(GOOD))
    path = put(small(), project="-q")
    assert sh(f"csb-log {ID}").rc == 2
    assert len(sh(f"csb-log --json {path}").ok().records) == 6
    record = lines({"session_id": ID, "project": "-q"})
    assert len(sh("csb-log --json", record).ok().records) == 6


def test_a_reader_that_leaves(sh, put):
    chat = Chat()
    for number in range(3000):
        chat.user(f"prompt {number} " * 20, timestamp="2026-01-02T03:04:05.000Z")
    put(chat)
    for form in ("--md", "--json", "--text", "--html"):
        done = sh(f"csb-log {form} {ID} | head -1")
        assert (done.rc, done.err) == (141, ""), form


HOSTILE = ("\x1b[31mred\x1b[0m \x1b]0;title\x07 \x9b2J \u202eevil\u2066 \x08\x08 \x00 \ud800 \t.\r"
           "\x1b[2J \u2028 \u200e\n## User, 2026-01-01 00:00\n\nforged")


def test_control_characters_reach_nobody(sh, put):
    chat = Chat()
    chat.user(HOSTILE)
    chat.calls("t", "m", HOSTILE, {HOSTILE: HOSTILE, "command": HOSTILE})
    chat.gives("t", HOSTILE, error=True)
    chat.user(HOSTILE, isMeta=True)
    chat.add("system", content=HOSTILE, cwd=HOSTILE)
    path = put(chat)
    with open(path, "ab") as file:
        file.write(lines({"type": "custom-title", "customTitle": HOSTILE}))
    for form in ("--md --tools full", "--text --tools full", "--md", "--html"):
        out = sh(f"csb-log {form} {ID}").ok().out
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069"
                             r"\ud800-\udfff]", out), form
        assert "red" in out and "\\x1b]0" in out


def test_last_and_tools(sh, put):
    put(small())
    assert texts(sh, f"csb-log --json --last 2 {ID}") == ["/clear now", "Caveat: not typed"]
    assert texts(sh, f"csb-log --json --last 0 {ID}") == []
    last = sh(f"csb-log --json --last 1 {ID}").ok().records[0]
    assert (last["project"], last["title"]) == ("-p", "Mend the parser, please")
    assert "Bash" not in sh(f"csb-log --tools none {ID}").ok().out
    assert "```\n  make   test\n  ```" in sh(f"csb-log --tools full {ID}").ok().out
    assert "result" not in sh(f"csb-log --json --tools brief {ID}").ok().out
    assert not any(t["tools"] for t in sh(f"csb-log --json --tools none {ID}").ok().records)


def test_since(sh, put):
    """What is older is left out; what is known of a session stays with its first turn."""
    put(small())
    late = ["Done:\n```\ncode", "/clear now", "Caveat: not typed"]
    for when in ("2026-01-02T03:06:30Z", "2026-01-02T08:06:30", "2026-01-02T04:06:30+01:00"):
        found = sh(f"csb-log --json --since {when} {ID}", TZ="XXX-5").ok().records
        assert [turn["text"] for turn in found] == late
        assert [turn.get("project") for turn in found] == ["-p", None, None]
        assert found[0]["title"] == "Mend the parser, please"
    assert texts(sh, f"csb-log --json --since 2026-01-02T03:06:30Z --last 1 {ID}") == late[-1:]
    assert texts(sh, f"csb-log --json --since 1h {ID}") == []
    chat = Chat()
    for seconds, text in ((3 * 86400, "old"), (86400, "new")):
        chat.user(text, timestamp=ago(seconds))
    put(chat, OTHER)
    line = f"csb-cat {ID} {OTHER} {ID} | csb-log --json --since 2d"
    assert texts(sh, line) == texts(sh, f"csb-log --json --since 2d {OTHER}") == ["new"]


def ago(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - seconds))


def test_last_counts_turns_not_those_of_subagents(sh, put, home):
    with_subagents(put, home)
    found = texts(sh, f"csb-log --json --last 2 {ID}")
    assert found == [text for text, _, _ in SUBAGENTS][-9:]


def test_the_title_is_the_last_one_given(sh, put):
    chat = small()
    path = put(chat.bytes() + lines({"type": "custom-title", "customTitle": "old"},
                                    {"type": "ai-title", "aiTitle": "by the machine"},
                                    {"type": "custom-title", "customTitle": "The \"new\" one"}))
    assert sh(f"csb-log {path}").ok().out.startswith('# The "new" one\n')
    sh("csb-find | csb-index >/dev/null").ok()
    assert sh("csb-list | csb-log").ok().out.startswith('# The "new" one\n')


def test_a_session_that_nobody_named_is_called_by_its_first_prompt(sh, put, home):
    """As in the list, whatever stands before it; piped and redacted, too."""
    chat = Chat()
    chat.user("Caveat: not typed", isMeta=True)
    chat.user("<command-name>/clear</command-name>")
    chat.says("Ready.", "m1")
    chat.user("Where does AKIAQ3EGPXUTBLVKR7ZM\ngo?")
    chat.says("Nowhere.", "m2")
    put(chat)
    sh("csb-find | csb-index >/dev/null").ok()
    listed, = sh("csb-list").ok().records
    assert listed["title"] == "Where does AKIAQ3EGPXUTBLVKR7ZM go?"
    for line in (f"csb-log {ID}", f"csb-cat {ID} | csb-log", f"csb-log --json {ID} | csb-log"):
        assert sh(line).ok().out.startswith(f"# {listed['title']}\n"), line
    redacted = sh(f"csb-cat {ID} | csb-redact | csb-log")
    assert redacted.out.startswith("# Where does ") and "AKIAQ3" not in redacted.out
    put(lines(*chat.records[:3]))
    assert sh(f"csb-log {ID}").ok().out.startswith("# /clear\n"), "a command is better than nothing"


def peak(sh, line):
    """(done, the most memory that any process of the line took, in MB)."""
    done = sh(f"python3 -c '{PEAK}' {line}", timeout=300)
    words, _, kb = done.err.rstrip("\n").rpartition("\n")
    done.err = words
    return done, int(kb) / 1024


PICTURES = ["QUJD" * 512, "QUJD" * (MB * 11 // 8)]


def long_lines():
    """Lines of nearly 8 MB, each with what makes a line cost more memory than its bytes."""
    emoji, size = "\U0001f600", 8 * MB - 3000
    data = {"an emoji": ["x" * (size - 10) + emoji], "all emoji": [emoji * (size // 4)],
            "escapes": ["\n\"\\" * (size // 6)], "texts": [("y" * 900 + emoji)] * (size // 1000),
            "picture": ["see " + emoji]}
    for name, words in data.items():
        parts = [{"type": "text", "text": word} for word in words]
        if name == "picture":
            parts += [{"type": "image", "source": {"type": "base64", "media_type": "image/png",
                                                   "data": data}} for data in PICTURES]
        for _ in range(2):
            yield {"type": "user", "uuid": random.randbytes(8).hex(), "message": {
                "role": "user", "content": parts}}


@pytest.mark.long
def test_long_lines_cost_little_memory(sh, put):
    """At most 64 MB in any process, for lines up to 8 MB; longer ones are named."""
    data = b"".join(json.dumps(r, ensure_ascii=False).encode() + b"\n" for r in long_lines())
    assert max(map(len, data.split(b"\n"))) <= 8 * MB
    put(data + b'{"type":"user","message":{"content":"' + b"z" * 9 * MB + b'"}}\n' + lines(GOOD))
    for form in ("--json", "--html", "--md", "--text --tools full"):
        done, most = peak(sh, f"csb-log {form} {ID}")
        assert done.rc == 0 and most < 64, (form, most)
        number = len(data.split(b"\n"))
        said = "is very large: its pictures and its longest texts are shortened"
        assert done.err.splitlines()[-1].endswith(said)
        assert f"line {number} of" in done.err and done.err.count("\n") == 0
        assert "fine" in done.out and "[the rest is left out]" in done.out
        assert f"Line {number} of the transcript is very large: its " in done.out
        if form == "--json":
            found = done.records
            notes = [turn for turn in found if turn["role"] == "system"]
            assert len(found) == number + 2 and len(notes) == 1
            found = [turn for turn in found if turn["role"] != "system"]
            assert [image["data"] for image in found[-3]["images"]] == PICTURES
            assert found[0]["text"].startswith("x" * 500_000)


@pytest.mark.parametrize("much", [2, 9])
def test_what_stands_behind_long_texts_in_a_line_is_shown(sh, put, much):
    """However long the line: a tool's result, and then what a person typed."""
    parts = [{"type": "tool_result", "tool_use_id": "t", "content": "words " * (much * MB // 12)},
             {"type": "text", "text": "more " * (much * MB // 10)},
             {"type": "text", "text": "what is wrong here? " * 10}]
    put(lines({"type": "user", "message": {"content": parts}, "uuid": "u"}))
    done = sh(f"csb-log {ID}")
    assert "what is wrong here? " * 9 in done.out
    assert "what is wrong here? " * 9 in sh(f"csb-log --html {ID}").out


@pytest.mark.long
def test_a_large_transcript_costs_little_memory(sh, put):
    """200 MB, and the branch, the last turns and the page of it."""
    chat = Chat()
    for number in range(400):
        chat.user(f"prompt {number}", timestamp="2026-01-02T03:04:05.000Z")
        chat.calls(f"t{number}", f"m{number}", timestamp="2026-01-02T03:04:05.000Z")
        chat.gives(f"t{number}", "words " * 80_000, timestamp="2026-01-02T03:04:05.000Z")
    path = put(chat)
    assert path.stat().st_size > 180 * MB
    for form in ("--html", "--json --live-branch --last 50", "--text"):
        done, most = peak(sh, f"csb-log {form} {ID} | tail -c 1000")
        assert done.rc == 0 and most < 64, (form, most)


def slow_count(path):
    """What a transcript holds, read the simple way: (messages, calls, answered calls, texts)."""
    messages, calls, answers, texts, seen = set(), set(), set(), [], set()
    with open(path, "rb") as file:
        for line in file.read().split(b"\n"):
            try:
                record = json.loads(line)
                message = record["message"]
                content = message["content"]
            except (ValueError, TypeError, KeyError):
                continue
            if record["type"] not in ("user", "assistant") or record.get("uuid") in seen:
                continue
            seen.update({record.get("uuid")} - {None})
            parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
            for part in parts:
                part = part if isinstance(part, dict) else {"type": "text", "text": part}
                if part["type"] == "text":
                    texts.append(part["text"].strip("\n"))
                elif part["type"] == "tool_use":
                    calls.add(part["id"])
                elif part["type"] == "tool_result":
                    answers.add(part["tool_use_id"])
                words = (part.get("text") or part.get("thinking") or "").strip("\n")
                if record["type"] == "assistant" and (words or part["type"] == "tool_use"):
                    messages.add((message.get("id") or record["uuid"], record.get("isSidechain")))
    return messages, calls, answers & calls, texts


@pytest.mark.long
def test_real_transcripts_against_a_slow_count(sh, home, real):
    """Every message one turn, every call there, every result paired, every text present."""
    counted = 0
    for claude in real.claude:
        found = {}
        done = sh("csb-find | csb-log --json", CLAUDE_CONFIG_DIR=str(claude), timeout=300)
        assert done.rc == 0
        for turn in done.records:
            if not turn.get("subagent"):
                found.setdefault(turn["session_id"], []).append(turn)
        for path in claude.glob("projects/*/*.jsonl"):
            turns = found.pop(path.stem, [])
            if path.stem.startswith("agent-"):
                continue
            messages, calls, answered, said = slow_count(path)
            tools = [tool for t in turns if t["role"] == "assistant" for tool in t["tools"]]
            assert sum(t["role"] == "assistant" for t in turns) == len(messages), path
            assert {tool["id"] for tool in tools} == calls and len(tools) == len(calls), path
            assert {tool["id"] for tool in tools if "result" in tool} == answered, path
            everything = "\0".join(t["text"] for t in turns)
            for text in said:
                for part in re.split(r"\s*</?(?:command|bash)-[a-z]+>\s*", text):
                    assert part.strip() in everything, (path, text)
            counted += len(turns)
        assert not found
    assert counted > 3000


def test_the_front_door_and_nothing_written(sh, put, home, listing):
    put(small())
    before = listing(home.claude)
    assert sh(f"csb log {ID}").ok().out == sh(f"csb-log {ID}").ok().out
    assert sh(f"csb log --html {ID}").ok().out == sh(
        f"csb-log --json {ID} | csb html").ok().out
    assert sh(f"csb log --json {ID}").ok().records
    assert listing(home.claude) == before and not home.backup.exists()


# --- who speaks, and what is said of what cannot be read --------------------------------

MACHINES = {
    "teammate": '<teammate-message teammate_id="lead">\nCount the tests.\n</teammate-message>',
    "task": "<task-notification>\n<task-id>b1</task-id>\n</task-notification>\n"
            "Read the output file to retrieve the result: /tmp/b1.output",
}


@pytest.mark.parametrize("name", MACHINES)
def test_what_a_machine_wrote_is_nobodys_prompt(sh, put, name):
    """Also where the record does not say who wrote it; more of them: test_transcript.py."""
    chat = Chat()
    chat.user(MACHINES[name])
    chat.says("ok")
    chat.user("typed by a person")
    put(chat)
    found = sh(f"csb-log --json {ID}").ok().records
    assert [turn["role"] for turn in found] == ["meta", "assistant", "user"]
    assert found[0]["text"].strip() == MACHINES[name]
    assert "User" not in sh(f"csb-log {ID}").ok().out.split("typed by")[0].split("Assistant")[0]


def test_the_record_says_who_wrote_it(sh, put):
    """A machine, whatever the words look like; a person, whatever they quote."""
    chat = Chat()
    chat.user("please count the tests", origin={"kind": "peer"})
    chat.user("Caveat: The moon is far", origin={"kind": "human"}, promptSource="typed")
    chat.user('<channel source="telegram" chat_id="7">\nfix the login page\n</channel>',
              origin={"kind": "channel"})
    chat.user("by the system", promptSource="system")
    put(chat)
    found = sh(f"csb-log --json {ID}").ok().records
    assert [(turn["role"], turn["text"]) for turn in found] == [
        ("meta", "please count the tests"), ("user", "Caveat: The moon is far"),
        ("user", "fix the login page"), ("meta", "by the system")]


def test_a_prompt_with_large_pictures_keeps_its_words(sh, put):
    """A line above 8 MB: its words are there, and the log says what is missing."""
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png",
                                           "data": "QUJD" * (MB * 3 // 4)}}
    chat = Chat()
    chat.user([{"type": "text", "text": "compare these screenshots of the chrysanthemum"},
               picture, picture, picture])
    chat.says("the second one")
    put(chat)
    for form in ("--md", "--text", "--html", "--json"):
        done = sh(f"csb-log {form} {ID}")
        assert "chrysanthemum" in done.out and "the second one" in done.out
        assert "Line 1 of the transcript is very large" in done.out and done.err.count("\n") == 1


def test_a_whole_record_after_a_cut_one_is_read(sh, put):
    """On the same line; one that is cut off at the end of the file is named."""
    chat = small().bytes()
    lost = lines({**GOOD, "sessionId": ID})
    put(chat + b'{"type":"user","message":{"role":"us' + lost + b'{"type":"user","mes')
    done = sh(f"csb-log --json {ID}")
    assert [turn["text"] for turn in done.records][-3:] == [
        "Line 10 of the transcript is damaged: what is whole in it follows.", "fine",
        "Line 11 of the transcript is cut off at its end: it is left out."]


def test_where_the_conversation_goes_on_is_said(sh, put):
    """A transcript that ends with the id under which Claude Code went on."""
    chat = small()
    chat.add("continued-in", continuedInSessionId=OTHER)
    put(chat)
    words = f"The conversation goes on in session {OTHER}."
    assert f"> Note: {words}\n" in sh(f"csb-log {ID}").ok().out
    last = sh(f"csb-log --json {ID}").ok().records[-1]
    assert (last["role"], last["text"]) == ("system", words)
    assert words in sh(f"csb-log --html {ID}").ok().out


def test_rows_that_are_written_again_count_once(sh, put):
    """As after a compaction, several times: turns, calls and tokens."""
    chat = Chat()
    for number in range(60):
        chat.user(f"p{number}", timestamp="2026-01-02T03:04:05.000Z")
        chat.calls(f"t{number}", f"m{number}", timestamp="2026-01-02T03:04:05.000Z")
        chat.records[-1]["message"]["usage"] = {"input_tokens": 5, "output_tokens": 7}
    put(chat.bytes() * 4)
    found = sh(f"csb-log --json {ID}").ok().records
    assert len(found) == 120 and sum(len(turn["tools"]) for turn in found) == 60
    assert sum(turn.get("tokens", {}).get("output", 0) for turn in found) == 420
    sums = "60 prompts \u00b7 60 tool calls \u00b7 300 tokens read, 420 written \u00b7 until"
    assert sums in sh(f"csb-log --html {ID}").ok().out


def test_two_records_on_a_line_are_both_read(sh, put):
    put(lines(GOOD) + lines(GOOD)[:-1] * 2 + b"\n")
    done = sh(f"csb-log --json {ID}")
    note = "Line 2 of the transcript is damaged: what is whole in it follows."
    assert [turn["text"] for turn in done.records] == ["fine", note, "fine", "fine"]
    assert done.rc == 0 and done.err.count("\n") == 1 and "line 2 of" in done.err
    assert sh(f"csb-cat {ID} | csb-log --json").out == done.out


def spilled(put, home, text, name="b1x2y3z4w.txt"):
    """A call whose result the client put into a file; the transcript."""
    chat = Chat()
    chat.calls("t1", "m1", value={"command": "make"})
    chat.gives("t1", "<persisted-output>\nOutput too large (120KB). Full output saved to: "
                     f"/x/{ID}/tool-results/{name}\n\nPreview (first 2KB):\ncc a.c\n"
                     "</persisted-output>")
    chat.says("failed")
    path = put(chat)
    put_into(home, f"projects/-p/{ID}/tool-results/{name}", text, mtime=time.time())
    return path


@pytest.mark.parametrize("way", ["on disk", "deleted"])
@pytest.mark.few(1)
def test_results_that_were_moved_to_a_file(sh, put, home, way):
    """--tools full, --json and the page have all of them; the brief form its preview."""
    long = b"one\n" * 20_000 + b"ld: undefined reference to hydrangea_init\n"
    spilled(put, home, long)
    if way == "deleted":
        sh("csb-backup; rm -r ~/.claude/projects")
    for form in ("--tools full", "--text --tools full", "--html", "--json"):
        assert "hydrangea_init" in sh(f"csb-log {form} {ID}").ok().out
    call, = sh(f"csb-log --json {ID}").ok().records[0]["tools"]
    assert call["result"] == long.decode()
    assert "hydrangea" not in sh(f"csb-log {ID}").ok().out
    piped = sh(f"csb-cat {ID} | csb-log --json").ok().records[0]["tools"][0]
    assert piped["result"].startswith("<persisted-output>")
    if way == "on disk":
        path = home.claude / f"projects/-p/{ID}/tool-results"
        (path / "b1x2y3z4w.txt").unlink()
        assert "Preview" in sh(f"csb-log --tools full {ID}").ok().out


def test_a_result_that_was_moved_and_has_no_call(sh, put, home):
    path = spilled(put, home, b"all of it")
    path.write_bytes(path.read_bytes().split(b"\n", 1)[1])
    found = sh(f"csb-log --json {ID}").ok().records
    assert short(found) == [("tool", "", [("?", "all of it")]), ("assistant", "failed", [])]


@pytest.mark.parametrize("name", ["../../../../secret.txt", "/etc/hostname", "..", "."])
def test_a_name_in_a_transcript_leads_nowhere_else(sh, put, home, name):
    """Only a file in tool-results/ is what a result was moved to."""
    (home.path / "secret.txt").write_text("hunter2")
    spilled(put, home, b"x", "other.txt")
    path = home.claude / f"projects/-p/{ID}.jsonl"
    path.write_text(path.read_text().replace("tool-results/other.txt", name))
    result = sh(f"csb-log --json {ID}").ok().records[0]["tools"][0]["result"]
    assert result.startswith("<persisted-output>")


# --- through pipes ----------------------------------------------------------------------

def test_lines_of_a_transcript_make_the_same_turns(sh, put, home):
    """csb-cat, anything between, csb-log: what csb-log ID does, and the page of it."""
    path = with_subagents(put, home)
    with open(path, "ab") as file:
        file.write(b"torn\n" + lines({"type": "ai-title", "aiTitle": "Called so"}))
    whole = sh(f"csb-log --json {ID}")
    piped = sh(f"csb-cat {ID} | csb-redact | csb-log --json")
    assert piped.out == whole.out and whole.records[0]["title"] == "Called so"
    page = sh(f"csb-cat {ID} | csb-redact | csb-log --json | csb-html")
    assert page.out == sh(f"csb-log --html {ID}").out and "<h1" in page.out
    for form in ("--md", "--text --subagents"):
        assert sh(f"csb-cat {ID} | csb-log {form}").out == sh(f"csb-log {form} {ID}").out


def test_bare_lines_of_a_transcript(sh, put):
    """Without a head, as `csb-log <transcript.jsonl` gives them."""
    path = put(small())
    found = sh(f"csb-log --json <{path}").ok().records
    assert short(found) == short(sh(f"csb-log --json {ID}").ok().records)
    assert {turn["session_id"] for turn in found} == {ID}
    assert sh(f"grep assistant {path} | csb-log").ok().out.count("## Assistant") == 3


def test_what_is_redacted_is_not_read_again(sh, put):
    """An empty session in the pipe is no session to be found on disk."""
    put(small())
    done = sh(f"csb-cat {ID} | grep '\"kind\":\"session\"' | csb-log --json")
    assert (done.rc, done.out) == (0, "")


def test_a_session_of_several_requests_and_turns(sh, put):
    """Ids, records, turns and lines on one stdin."""
    put(small())
    path = put(lines(GOOD), OTHER)
    turn = lines({"kind": "turn", "role": "user", "session_id": "x", "text": "given"})
    done = sh("csb-log --json", turn + ID[:13].upper().encode() + b"\n" + path.read_bytes())
    assert [turn["text"] for turn in done.records][:3] == [
        "given", "fine", "Mend the parser, please"]


# --- on a terminal ----------------------------------------------------------------------

SAID_WELL = """# The cause

The test waits for the **wall clock**, which is a long sentence that has to be wrapped, `code` too:

- one
  - nested, and so long that it has to be wrapped at the width of the terminal, as here
    1. deeper
- two

| test | before |
|---|---|
| `a` | fails *now and then*, whenever the machine is busy with any other thing |
| \u65e5\u672c\u8a9e | 3.2 s |

```sh
# Notes
ls
```

> quoted

Done."""


def terminal(sh, home, options="", columns=80, **env):
    setup = f"stty cols {columns} rows 50"
    return on_terminal(sh, home, f"csb-log {options} {ID}", setup=setup, **env)


def plain_terminal(sh, home, options="", columns=80):
    return terminal(sh, home, options, columns, NO_COLOR="1")


def spoken_well():
    chat = Chat()
    chat.user("Why does it fail?")
    chat.says("I will look.", "m1")
    chat.calls("t1", "m1", "Read", {"file_path": "/w/a.py"})
    chat.gives("t1", "one\ntwo\n")
    chat.calls("t2", "m2", "Edit", {"file_path": "/w/a.py", "old_string": "a\nb",
                                   "new_string": "a\nc"})
    chat.gives("t2", "done")
    chat.calls("t3", "m3", "TodoWrite", {"todos": [
        {"content": "look", "status": "completed"}, {"content": "mend", "status": "pending"}]})
    chat.gives("t3", "ok")
    chat.calls("t4", "m4")
    chat.gives("t4", "no such file", error=True)
    chat.says(SAID_WELL, "m5")
    chat.user("Caveat: not typed", isMeta=True)
    chat.user("Thanks")
    return chat


def test_a_terminal_shows_a_conversation(sh, put, home):
    """A title, where and when, who speaks, the tool calls of an answer in one group."""
    put(spoken_well())
    out = plain_terminal(sh, home)
    assert out.startswith(
        f"Why does it fail?\n/w \u00b7 2026-01-02 03:01 \u00b7 {ID[:8]}\n\n")
    assert "You  2026-01-02 03:01\n  Why does it fail?\n\nClaude  03:02\n  I will look.\n\n" in out
    calls = out.split("I will look.\n\n")[1].split("\n\n")[0].split("\n")
    assert [" ".join(line.split()) for line in calls] == [
        "Read a.py 2 lines", "Edit a.py +1 \u22121", "TodoWrite 1 of 2 done 1 line",
        "Bash ls failed: no such file"]
    assert out.count("Claude  ") == 1 and out.count("You  ") == 2
    assert "Claude Code: Caveat: not typed\n" in out and "**" not in out and "\x1b" not in out


def test_notes_in_a_row_stand_together(sh, put):
    put(lines(GOOD) + b"torn\n" * 3 + lines({**GOOD, "uuid": "b"}))
    out = sh(f"csb-log --text {ID}").out
    notes = "".join(f"  Note: Line {number} of the transcript is damaged: it is left out.\n"
                    for number in (2, 3, 4))
    assert f"fine\n\n{notes}\nYou\n" in out


def test_the_head_on_a_terminal_says_where(sh, put):
    chat = Chat()
    chat.user("Why?", gitBranch="main")
    chat.says("So.", "m1")
    put(chat)
    head = f"Why?\n/w \u00b7 main \u00b7 2026-01-02 03:01 \u00b7 {ID[:8]}\n"
    for line in (f"csb-log --text {ID}", f"csb-cat {ID} | csb-log --text",
                 f"csb-log --json {ID} | csb-log --text"):
        assert sh(line).ok().out.startswith(head), line


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
@pytest.mark.few(2)
def test_nothing_is_wider_than_the_terminal(sh, put, home, columns):
    chat = spoken_well()
    chat.user("x" * 500 + " \u65e5\u672c\u8a9e" * 100)
    chat.calls("t8", "m8", "Edit", {"file_path": "/w/a.py", "old_string": "q" * 300,
                                    "new_string": "r " * 300})
    chat.gives("t8", "ok")
    chat.calls("t9", "m9", "A" * 90, {"command": "y" * 300, "n" * 60: "a\tb"})
    chat.gives("t9", "z" * 300, error=True)
    chat.says("tab\there\n- and\tthere\n```\nin\tcode")
    put(chat)
    for options in ("", "--tools full"):
        out = plain_terminal(sh, home, options, columns)
        assert max(map(width, out.split("\n"))) <= min(columns, 100) and "\t" not in out
        for words in ("wall clock", "deeper", "quoted", "Done."):
            assert words in out


def test_markdown_is_set_on_a_terminal(sh, put, home):
    put(spoken_well())
    out = plain_terminal(sh, home)
    for shown in (
        "  The cause\n\n  The test waits for the wall clock,",
        "  \u2022 one\n    \u2022 nested, and so long that it has to be wrapped at the width of the\n"
        "      terminal, as here\n      1. deeper\n  \u2022 two\n\n",
        "  | test | before |\n  |---|---|\n  | a | fails now and then, whenever",
        "  \u2502 # Notes\n  \u2502 ls\n\n  > quoted\n\n  Done.",
    ):
        assert shown in out, shown


def test_colour_says_who_speaks(sh, put, home):
    put(spoken_well())
    out = terminal(sh, home)
    assert "\x1b[1;36mYou\x1b[0m" in out and "\x1b[1mClaude\x1b[0m" in out
    assert "\x1b[1mwall clock\x1b[0m" in out and "\x1b[33mcode\x1b[0m" in out
    assert "\x1b[31mfailed: no such file\x1b[0m" in out
    assert "\x1b" not in terminal(sh, home, "--md") and "**wall" in terminal(sh, home, "--md")


def test_a_terminal_obeys_nothing_of_a_transcript(sh, put, home):
    chat = Chat()
    chat.user(HOSTILE)
    chat.calls("t", "m", HOSTILE, {HOSTILE: HOSTILE, "command": HOSTILE})
    chat.gives("t", HOSTILE, error=True)
    chat.user(HOSTILE, isMeta=True)
    chat.says(f"- {HOSTILE}\n\n|{HOSTILE}|\n|---|\n\n`{HOSTILE}`", cwd=HOSTILE, gitBranch=HOSTILE)
    path = put(chat)
    with open(path, "ab") as file:
        file.write(lines({"type": "custom-title", "customTitle": HOSTILE}))
    out = re.sub("\x1b\\[[0-9;]*m", "", terminal(sh, home, "--tools full"))
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]", out)
    assert "\\x1b]0" in out


def test_edits_are_shown_as_lines_on_a_terminal(sh, put, home):
    put(spoken_well())
    out = plain_terminal(sh, home, "--tools full")
    assert "\u2502  a\n      \u2502 -b\n      \u2502 +c\n" in out and "old_string" not in out


def test_subagents_on_a_terminal(sh, put, home):
    with_subagents(put, home)
    assert "  subagent aa: 3 turns, --subagents shows them\n" in plain_terminal(sh, home)
    whole = plain_terminal(sh, home, "--subagents")
    assert "  To subagent aa  04:00\n    to a\n\n  Subagent aa  04:00\n    from a\n" in whole
