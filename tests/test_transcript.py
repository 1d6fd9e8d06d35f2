"""csb.transcript: Claude Code's format, as tables of what stands in real transcripts"""
import json
import os
import sys
import tarfile

import pytest
from conftest import ROOT, SHARED, name

sys.path.insert(0, f"{ROOT}/lib")
from csb.transcript import (
    LONGEST_LINE,
    Lineage,
    Record,
    Result,
    Said,
    Titles,
    TranscriptLines,
    given_title,
    load,
    may_be_talk,
    one_line,
    title_beside,
    utc_of,
    voices_in,
)

pytestmark = pytest.mark.logic

DATA = os.path.join(SHARED, "data", "transcripts.tar.xz")
OWN = name(1)
OTHER = name(2)
THIRD = name(3)


def encoded(**fields):
    return json.dumps(fields).encode()


def loaded(line):
    """([what the records of a line are], is it damaged)."""
    records, damaged = load(line)
    return [record.fields for record in records], damaged


def user(content, **fields):
    return Record({"type": "user", "message": {"content": content}, **fields})


def assistant(content, **fields):
    return Record({"type": "assistant", "message": {"content": content}, **fields})


def attached(prompt, kind="queued_command", **more):
    attachment = {"type": kind, "prompt": prompt, **more}
    return Record({"type": "attachment", "attachment": attachment})


def words(text):
    """A part of a message: text."""
    return {"type": "text", "text": text}


def roles(record):
    return [tuple(voice) for voice in record.voices()]


# --- lines ----------------------------------------------------------------------------


def in_blocks(data, size):
    return [data[start:start + size] for start in range(0, len(data), size)]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("data, wanted", [
    (b"", []),
    (b"\n", [(b"", 0, 1, True)]),
    (b"a\nbc\n", [(b"a", 0, 2, True), (b"bc", 2, 5, True)]),
    (b"a\r\n\n", [(b"a\r", 0, 3, True), (b"", 3, 4, True)]),
    (b"a\n  b", [(b"a", 0, 2, True), (b"  b", 2, 5, False)]),
    ("x\u2028y\x85z\n".encode(), [("x\u2028y\x85z".encode(), 0, 9, True)]),
])
def test_lines_end_at_newlines_alone(data, wanted, size):
    stream = TranscriptLines(in_blocks(data, size))
    found = [(line, stream.offset, stream.end, stream.complete) for line in stream]
    assert found == wanted


def test_lines_from_the_middle_of_a_file():
    stream = TranscriptLines([b"b\nc"], 10)
    assert [(line, stream.offset) for line in stream] == [(b"b", 10), (b"c", 12)]
    assert stream.end == 13


def picture(size):
    return {
        "type": "image",
        "source": {"media_type": "image/png", "data": "QUJD" * size},
    }


@pytest.mark.parametrize("size", [1 << 20, 65_537, 4093])
def test_a_line_with_large_pictures_keeps_its_words(size):
    words = 'compare \u00e9 "these" \\ \U0001f600\nscreens'
    content = [{"type": "text", "text": words}, *[picture(1_100_000)] * 3,
               {"type": "text", "text": "end"}]
    line = json.dumps({"type": "user", "message": {"content": content}, "uuid": "u"},
                      ensure_ascii=False).encode()
    assert len(line) > LONGEST_LINE
    stream = TranscriptLines(in_blocks(line + b"\n{}\n", size))
    short, _ = list(stream)
    assert stream.end == len(line) + 4 and len(short) < 100_000
    (record,), damaged = load(short)
    assert (record.said.texts, record.uuid, damaged) == ([words, "end"], "u", False)
    assert len(record.said.images) == 3


LEFT_OUT = " [the rest is left out]"


@pytest.mark.parametrize("text", [
    "plain words ", "w\u00f6rter \U0001f600 ", 'a "quote" \\ and\n\tmore ', "\x01\x02"])
@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.few(2)
def test_a_text_that_is_too_long_is_cut(text, ascii_only):
    whole = text * (9_000_000 // len(text.encode()))
    line = json.dumps({"type": "user", "message": {"content": whole}, "uuid": "u"},
                      ensure_ascii=ascii_only).encode()
    short, = TranscriptLines(in_blocks(line, 1 << 20))
    assert len(short) <= LONGEST_LINE
    (record,), damaged = load(short)
    kept = record.said.texts[0]
    assert kept.endswith(LEFT_OUT) and not damaged and record.uuid == "u"
    kept = kept.removesuffix(LEFT_OUT).replace("\ufffd", "\U0001f600")
    assert whole.startswith(kept) and len(kept) > 150_000


# What stands before a question in a line above 8 MB, and takes all room if it is let.
BEFORE = {
    "words": "plain words " * 800_000,
    "other letters": "\u00e9\u6f22\U0001f600" * 1_100_000,
    "base64 with line ends": ("QUJD" * 19 + "\n") * 120_000,
    "a picture's URL": "data:image/png;base64," + "QUJD" * 2_300_000,
    "escapes": "\n" * 4_500_000,
}


@pytest.mark.parametrize("before", BEFORE)
def test_a_question_behind_a_long_text_is_kept(before):
    question = "what is \u00e9 wrong with this? " * 20
    content = [{"type": "text", "text": BEFORE[before]}] * 2
    content.append({"type": "text", "text": question})
    line = json.dumps({"type": "user", "message": {"content": content}, "uuid": "u"},
                      ensure_ascii=False).encode()
    assert len(line) > LONGEST_LINE
    short, = TranscriptLines(in_blocks(line, 1 << 20))
    (record,), damaged = load(short)
    assert record.said.texts[2] == question and not damaged
    kept = record.said.texts[0].removesuffix(LEFT_OUT).rstrip("\ufffd")
    assert BEFORE[before].startswith(kept) and len(kept) > 150_000


@pytest.mark.long
def test_what_is_too_large_even_then():
    line = b'{"x":[' + b'"ab",' * 2_000_000 + b"0]}"
    assert list(TranscriptLines(in_blocks(line, 1 << 20))) == [None]
    assert load(None) == ([], True)


# --- from a line to records -----------------------------------------------------------

GOOD = {"type": "user", "sessionId": OWN, "message": {"content": "x"}}
WHOLE = encoded(**GOOD)


@pytest.mark.parametrize(
    "line, wanted",
    [
        (WHOLE, ([GOOD], False)),
        (b" " + WHOLE + b"\r", ([GOOD], False)),
        (b"", ([], False)),
        (b" \t\r", ([], False)),
        (b"\xef\xbb\xbf" + WHOLE, ([GOOD], False)),
        (b"\xef\xbb\xbf", ([], False)),
        (b"{}", ([{}], False)),
        (b"[]", ([], True)),
        (b"null", ([], True)),
        (b"1", ([], True)),
        (b"x", ([], True)),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, ([], True)),
        (b"\0" * 5000, ([], True)),
        (b'{"type":"mode"', ([], True)),
        # As Claude Code, which takes what is not UTF-8 for U+FFFD.
        (b'{"type":"user","x":"\xe9"}', ([{"type": "user", "x": "\ufffd"}], False)),
        # What Claude Code does not read.
        (b"\0\0" + WHOLE, ([GOOD], True)),
        (b"\0\0" + WHOLE + b"\0\0", ([GOOD], True)),
        (b'{"type":"pr-link","sessionId":"a","prNu' + WHOLE, ([GOOD], True)),
        (
            b'{"type":"user","message":{"content":[{"type":"text","text":"cut' + WHOLE,
            ([GOOD], True),
        ),
        (WHOLE + WHOLE, ([GOOD, GOOD], True)),
        (WHOLE[:-5] + WHOLE + WHOLE[:20], ([GOOD], True)),
        (b'{"type":"user","x":"a\tb"}', ([], True)),
        (b'{"type":"mode"}{"type":"tag"}', ([{"type": "mode"}, {"type": "tag"}], True)),
        # A part of a record is none.
        (
            b'{"type":"assistant","message":{"content":[{"type":"text","text":"a"}',
            ([], True),
        ),
        (b'{"a":{"type":"user"},"b":[REDACTED]}', ([], True)),
    ],
)
def test_the_records_in_a_line(line, wanted):
    assert loaded(line) == wanted


@pytest.mark.parametrize(
    "text", ["\u00e9\U0001f600", "\u65e5\u672c", "\xe9\\u2014\xff"]
)
def test_a_long_line_has_the_same_texts(text):
    fields = {"type": "user", "a": text, "b": [text, {"c": text}], "d": "x" * 1_100_000}
    for line in (json.dumps(fields).encode(),
                 json.dumps(fields, ensure_ascii=False).encode()):
        assert loaded(line) == ([fields], False)


def test_too_many_values_are_not_parsed():
    assert load(b'{"x":[' + b"[]," * 400_000 + b"0]}").damaged


# --- who speaks -----------------------------------------------------------------------

REMINDER = "<system-reminder>\nbe brief\n</system-reminder>"


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("plain words\nof a person ", [("user", "plain words\nof a person")]),
        ("look at <b>this</b>", [("user", "look at <b>this</b>")]),
        ("</tick>", [("user", "</tick>")]),
        ("<ticket>7</ticket>", [("user", "<ticket>7</ticket>")]),
        # What Claude Code or a program says.
        *(
            (text, [("meta", text)])
            for text in (
                '<teammate-message teammate_id="a">\nCount.\n</teammate-message>',
                '<agent-message from="b">all done</agent-message>',
                '<cross-session-message from="x">ping</cross-session-message>',
                "<ci-monitor-event>red</ci-monitor-event>",
                "<task-notification>\n<task-id>1</task-id>\n</task-notification>",
                (
                    "<task-notification>x</task-notification>\n"
                    "Read the output file to retrieve it: /t"
                ),
                "<new-diagnostics>x</new-diagnostics>",
                "<local-command-stdout>",
                "<local-command-caveat>Caveat: ...</local-command-caveat>",
                "<bash-stdout>a</bash-stdout><bash-stderr></bash-stderr>"[:26],
                "<session-start-hook>",
                "<user-prompt-submit-hook>x</user-prompt-submit-hook>",
                "<tick>",
                "<goal>win</goal>",
                "<ide_opened_file>The user opened /x</ide_opened_file>",
                "<ide_selection>a line</ide_selection>",
                REMINDER,
                "[Request interrupted by user]",
                "[Request interrupted by user for tool use]",
                "[Subagent hand-back] done",
                "Base directory for this skill: /x",
                'Another Claude session sent a message: <agent-message from="b">\nx',
                "Stop hook feedback:\n- run the tests",
                "SubagentStop hook feedback:\n- run the tests",
                "TeammateIdle hook feedback:\n- go on",
                "PreToolUse:Bash hook feedback:\n- no",
                "SessionStart:startup hook additional context: x",
                "UserPromptSubmit hook success: ok",
                "PostToolUse:Edit hook blocking error from command: \"x\": y",
                "<fork-boilerplate>\nx\n</fork-boilerplate>\n\nYour directive: y",
                '<mcp-resource-update server="x">y</mcp-resource-update>',
                "Caveat: The messages below were generated by the user",
                "Your claude.ai usage limit has reset",
            )
        ),
        # Words of a person, with what is around them.
        (
            '<channel source="plugin:telegram" chat_id="7">\nfix the page\n</channel>',
            [("user", "fix the page")],
        ),
        ('<pasted_content id="1">log</pasted_content> why?', [("user", "log why?")]),
        (f"{REMINDER}\nfix it", [("meta", REMINDER), ("user", "fix it")]),
        (f"fix it\n{REMINDER}\n", [("user", "fix it"), ("meta", REMINDER)]),
        (
            f"<ide_selection>x</ide_selection>{REMINDER} a\n{REMINDER}{REMINDER}",
            [
                ("meta", f"<ide_selection>x</ide_selection>{REMINDER}"),
                ("user", "a"),
                ("meta", REMINDER * 2),
            ],
        ),
        (f"{REMINDER}\nCaveat: The x", [("meta", f"{REMINDER}\nCaveat: The x")]),
        # Commands.
        (
            "<command-message>do</command-message>\n<command-name>/do</command-name>"
            "<command-args>it  now</command-args>",
            [("command", "/do it  now")],
        ),
        (
            "<command-name>/clear</command-name>\n<command-args></command-args>",
            [("command", "/clear")],
        ),
        (
            "<command-message>do</command-message>",
            [("meta", "<command-message>do</command-message>")],
        ),
        ("/compact", [("command", "/compact")]),
        ("/plugin:do it", [("command", "/plugin:do it")]),
        ("/home/x/y.py is wrong", [("user", "/home/x/y.py is wrong")]),
        ("/ is full", [("user", "/ is full")]),
        ("<bash-input>ls -l</bash-input>", [("command", "! ls -l")]),
    ],
)
def test_voices_in_a_text(text, wanted):
    assert [tuple(voice) for voice in voices_in(text)] == wanted


@pytest.mark.parametrize("fields, role", [
    ({"origin": {"kind": "human"}}, "user"),
    ({"origin": {"kind": "channel"}}, "user"),
    *(({"origin": {"kind": kind}}, "meta") for kind in (
        "task-notification", "teammate", "peer", "coordinator", "hook", "brand-new")),
    ({"origin": {"kind": "peer"}, "promptSource": "typed"}, "meta"),
    ({"origin": {"kind": "human"}, "promptSource": "system"}, "user"),
    ({"promptSource": "typed"}, "user"),
    ({"promptSource": "sdk"}, "user"),
    ({"promptSource": "system"}, "meta"),
    ({"rowSource": "local"}, "user"),
    ({"rowSource": "harness"}, "meta"),
    ({"origin": "x", "promptSource": 1, "rowSource": []}, "user"),
    ({"isMeta": True, "origin": {"kind": "human"}}, "meta"),
    ({"isCompactSummary": True}, "summary"),
])
def test_the_record_says_who_speaks(fields, role):
    record = user("plain words", **fields)
    assert roles(record) == [(role, "plain words")]
    prompts = [("prompt", "plain words")] if role == "user" else []
    assert record.prompts() == prompts


@pytest.mark.parametrize("start, again", [
    ("", "<command-name>"), ("", "<command-name>/x</command-name> <command-args>"),
    ("", "<tick></tick>"), ("a ", "<channel "), ("a ", "</pasted_content b"),
    ("a ", "<system-reminder>b</system-reminder>\n"), ("a ", "</system-reminder> "),
])
def test_who_speaks_is_told_of_any_text_in_one_pass(start, again):
    """What begins a million times and never ends is not looked through each time:
    that would take hours, and csb-index would wait."""
    text = start + again * (1_000_000 // len(again))
    voices = voices_in(text)
    assert 1 <= len(voices) <= 2
    assert max(len(voice.text) for voice in voices) <= len(text)


def test_what_a_person_types_may_look_like_a_machines_words():
    assert roles(user("React hook error: what is wrong?"))[0][0] == "user"
    text = "Stop hook feedback: why does it say so?"
    assert roles(user(text)) == [("meta", text)]
    assert roles(user(text, origin={"kind": "human"})) == [("user", text)]
    tagged = "<task-notification> is a tag, of what?"
    assert roles(user(tagged, promptSource="typed")) == [("user", tagged)]
    wrapped = f"{REMINDER}\nhello"
    assert roles(user(wrapped, promptSource="typed"))[-1] == ("user", "hello")


def test_a_document_is_shown_and_is_no_prompt():
    """A person's question stands beside it. What it is called is a part
    of what was said."""
    page = {
        "type": "document",
        "title": "report.pdf",
        "source": {"type": "base64", "data": "QUJD"},
    }
    record = user([page, {"type": "text", "text": "is this right?"}])
    assert record.prompts() == [("prompt", "is this right?")]
    assert roles(record) == [
        ("user", "[document] report.pdf"),
        ("user", "is this right?"),
    ]
    found = {"type": "web_search_tool_result", "tool_use_id": "t", "content": [
        {"type": "web_search_result", "title": "All of it", "url": "https://x/y"}]}
    result, = user([found]).said.results
    assert result.text == "[web_search_result] All of it https://x/y"


@pytest.mark.parametrize(
    "part, wanted",
    [
        (
            {
                "type": "search_result",
                "title": "T",
                "source": "https://x",
                "content": [words("a"), words("b")],
            },
            "[search_result] T https://x a b",
        ),
        (
            {
                "type": "resource",
                "resource": {"uri": "file:///r", "text": "a", "blob": "QUJD"},
            },
            "[resource] file:///r a",
        ),
        (
            {"type": "tool_result", "content": [words("inner")]},
            "[tool_result] inner",
        ),
        ({"type": "tool_reference", "tool_name": "Grep"}, "[tool_reference] Grep"),
        (
            {"type": "document", "source": {"type": "text", "data": "words"}},
            "[document] words",
        ),
        (
            {"type": "document", "source": {"type": "base64", "data": "QUJD"}},
            "[document]",
        ),
        ({"text": "x"}, "[?] x"),
    ],
)
def test_what_stands_within_a_part_of_an_unknown_type(part, wanted):
    assert Result({"content": [part]}).text == wanted


@pytest.mark.parametrize(
    "record, wanted",
    [
        (
            assistant(
                [
                    {"type": "thinking", "thinking": "hm"},
                    words("yes"),
                    {"type": "tool_use", "id": "t", "name": "Bash", "input": {}},
                ]
            ),
            [("assistant", "yes")],
        ),
        (assistant("yes", isMeta=True), [("assistant", "yes")]),
        (
            Record({"type": "system", "content": "Conversation compacted"}),
            [("system", "Conversation compacted")],
        ),
        (Record({"type": "system", "subtype": "turn_duration", "durationMs": 1}), []),
        (attached("and this"), [("user", "and this")]),
        (attached("x", origin={"kind": "peer"}), [("meta", "x")]),
        (attached("x", commandMode="task-notification"), [("meta", "x")]),
        (attached([words("and this")]), [("user", "and this")]),
        (attached("x", "todo"), []),
        *(
            (Record({"type": kind, "content": "x", "message": {"content": "x"}}), [])
            for kind in (
                "progress",
                "queue-operation",
                "file-history-snapshot",
                "mode",
                "summary",
                "brand-new",
            )
        ),
        (user(""), []),
        (user(" \n"), []),
        (user(None), []),
        (user(7), []),
        (
            user([1, None, {"text": "x"}, {"type": "text"}, words(1)]),
            [("user", "[?] x")],
        ),
        (Record({"type": "user", "message": "x"}), []),
        (Record({"type": ["user"], "message": {"content": "x"}}), []),
    ],
)
def test_voices(record, wanted):
    assert roles(record) == wanted


@pytest.mark.parametrize(
    "record, wanted",
    [
        (user("  What   is\nthis? "), [("prompt", "What is this?")]),
        (
            user(
                [
                    words("<ide_opened_file>x</ide_opened_file>"),
                    {"type": "image"},
                    words("real"),
                ]
            ),
            [("prompt", "real")],
        ),
        (user([{"type": "tool_result", "content": "x"}, words("no")]), []),
        (user("/rename it"), [("command", "/rename it")]),
        (user("p", isSidechain=True), []),
        (user("p", isMeta=True), []),
        (user("p", isCompactSummary=True), []),
        (assistant("p"), []),
    ],
)
def test_prompts(record, wanted):
    assert record.prompts() == wanted


# --- what a message holds -------------------------------------------------------------


def test_the_parts_of_a_message():
    said = Said([
        {"type": "text", "text": "a"}, {"type": "thinking", "thinking": "b"},
        {"type": "redacted_thinking", "data": "x"}, {"type": "document"},
        {"type": "image", "source": {"media_type": "image/png", "data": "QQ=="}},
        {"type": "server_tool_use", "id": "s", "name": "web", "input": {"query": "q"}},
        {"type": "tool_use", "id": 1, "input": [1]},
        {"type": "web_search_tool_result", "tool_use_id": "s", "content": "found"},
        {"type": "tool_result", "tool_use_id": "t", "is_error": True, "content": [
            {"type": "text", "text": "one"}, {"type": "text", "text": "two"},
            {"type": "image", "source": {"data": "Qg=="}}]},
    ])
    assert (said.texts, said.thoughts) == (["a", "[document]"], ["b"])
    assert [tuple(image) for image in said.images] == [("image/png", "QQ==")]
    calls = [(call.id, call.name, call.argument()) for call in said.calls]
    assert calls == [("s", "web", "q"), ("", "?", "")]
    results = [(one.call_id, one.text, one.is_error, len(one.images))
               for one in said.results]
    assert results == [("s", "found", False, 0), ("t", "one\ntwo", True, 1)]


@pytest.mark.parametrize("tool, given, argument, files", [
    ("Read", {"file_path": "/a/b", "limit": 1}, "/a/b", [("/a/b", False)]),
    ("Bash", {"description": "d", "command": "ls /x"}, "ls /x", []),
    ("NotebookEdit", {"notebook_path": "n.ipynb"}, "n.ipynb", [("n.ipynb", False)]),
    ("Grep", {"pattern": "p", "path": "src"}, "p", [("src", True)]),
    ("Other", {"path": "src"}, "src", []),
    ("Other", {"command": " ", "text": "t", "file_path": 1}, "t", []),
    ("Other", "a text", "", []),
    ("Other", None, "", []),
])
def test_what_a_call_names(tool, given, argument, files):
    part = {"type": "tool_use", "name": tool, "input": given}
    call = Said([part]).calls[0]
    assert (call.argument(), call.files()) == (argument, files)


@pytest.mark.parametrize("text, name_of_file", [
    ("<persisted-output>\nOutput too large (120KB). Full output saved to: "
     "/h/.claude/projects/-w/x/tool-results/b1x.txt\n\nPreview:\ncc", "b1x.txt"),
    ("<persisted-output>\nFull output saved to: C:\\Users\\x\\tool-results\\t.txt\r\n",
     "t.txt"),
    ("<persisted-output>\nno path", ""),
    ("it was saved to: /x/y.txt", ""),
])
def test_where_a_large_output_is(text, name_of_file):
    assert Result({"content": text}).saved_as() == name_of_file


@pytest.mark.parametrize(
    "text, is_error, words",
    [
        (
            "The user doesn't want to proceed with this tool use. "
            "The tool use was rejected. "
            "To tell you how to proceed, the user said:\nuse pnpm\nand no more",
            True,
            "use pnpm\nand no more",
        ),
        (
            "The user doesn't want to proceed with this tool use. "
            "STOP what you are doing.",
            True,
            "",
        ),
        ("a file: To tell you how to proceed, the user said:\nno", False, ""),
        (
            'User has answered your questions: "Which?"="Both".',
            False,
            'User has answered your questions: "Which?"="Both".',
        ),
        ("", False, ""),
    ],
)
def test_what_a_person_told_a_tool(text, is_error, words):
    assert Result({"content": text, "is_error": is_error}).persons_words == words


def test_what_an_answer_cost():
    usage = {"input_tokens": 5, "output_tokens": True, "cache_read_input_tokens": -1,
             "cache_creation_input_tokens": 7}
    record = Record({"type": "assistant", "message": {"id": "m", "usage": usage}})
    assert record.usage == ("m", {
        "input": 5, "output": 0, "cache_read": 0, "cache_write": 7})
    assert Record({"type": "assistant", "message": {"usage": 1}}).usage is None
    assert Record({"type": "user", "message": {"usage": usage}}).usage is None


# --- titles ---------------------------------------------------------------------------


def called(*records, beside=""):
    """What a session of these records is called: (source, text)."""
    above = set()
    titles = Titles({}, above.__contains__)
    for fields in records:
        record = Record(fields)
        titles.take(record)
        above.add(record.uuid)
        titles = Titles(json.loads(json.dumps(titles.known)), above.__contains__)
    return titles.best(beside)


def prompt(text, **fields):
    return {"type": "user", "message": {"content": text}, **fields}


def custom(text):
    return {"type": "custom-title", "customTitle": text}


def by_model(text):
    return {"type": "ai-title", "aiTitle": text}


def summary(text, uuid):
    return {"type": "summary", "summary": text, "leafUuid": uuid}


def queued(text, **fields):
    return {
        "type": "queue-operation",
        "operation": "enqueue",
        "content": text,
        **fields,
    }


PICTURE = {"type": "image", "source": {"type": "base64", "data": "QUJD"}}


@pytest.mark.parametrize(
    "wanted, kind, more",
    [
        (True, "user", {"content": "hello"}),
        (
            True,
            "assistant",
            {"content": [{"type": "thinking"}, words("hi")]},
        ),
        (False, "assistant", {"content": [{"type": "tool_use", "input": '"enqueue"'}]}),
        (
            False,
            "user",
            {"content": [{"type": "tool_result", "content": '{"text": "x"}'}]},
        ),
        (
            True,
            "user",
            {"content": [{"type": "tool_result", "content": "the user said:\nno"}]},
        ),
        (
            True,
            "user",
            {"content": [{"type": "tool_result", "content": "User has answered ..."}]},
        ),
    ],
)
def test_what_tools_were_given_and_answered_is_no_talk(wanted, kind, more):
    line = json.dumps({"type": kind, "message": more}, separators=(",", ":"))
    assert may_be_talk(line.encode()) is wanted


@pytest.mark.parametrize(
    "records, wanted",
    [
        ([], None),
        ([{"type": "mode", "mode": "x"}], None),
        # What a person typed while the model was at work: it may be all that there is.
        ([queued("later"), prompt("/clear")], ("prompt", "later")),
        ([queued([words("later")])], ("prompt", "later")),
        ([queued("later"), prompt("first")], ("prompt", "first")),
        (
            [
                {
                    "type": "attachment",
                    "attachment": {"type": "queued_command", "prompt": "q"},
                }
            ],
            ("prompt", "q"),
        ),
        (
            [
                queued("<task-notification>x</task-notification>"),
                queued('{"task_id": "x"}'),
                queued(7),
                queued("x", operation="remove"),
                queued("x", operation=["enqueue"]),
            ],
            None,
        ),
        ([prompt([PICTURE]), prompt("/clear")], ("command", "/clear")),
        ([prompt([PICTURE]), by_model("")], ("prompt", "(a picture)")),
        ([prompt([PICTURE]), prompt("a cat?")], ("prompt", "a cat?")),
        ([prompt([PICTURE], isMeta=True)], None),
        ([prompt([PICTURE], origin={"kind": "peer"})], None),
        ([prompt([{"type": "tool_result", "content": [PICTURE]}])], None),
        (
            [prompt("p"), custom("a"), by_model("z"), custom(" b\n c")],
            ("custom", "b c"),
        ),
        ([custom("a"), prompt("p"), custom("")], ("prompt", "p")),
        ([prompt("p"), by_model("a"), by_model("b")], ("ai", "b")),
        ([summary("s", "x"), prompt("p", uuid="y")], ("prompt", "p")),
        ([summary("s", "x"), prompt("p", uuid="x")], ("summary", "s")),
        ([prompt("p", uuid="x"), summary("s", "x")], ("summary", "s")),
        (
            [summary("1", "x"), summary("2", "z"), prompt("p", uuid="x")],
            ("summary", "1"),
        ),
        (
            [summary("1", "x"), summary("2", "x"), prompt("p", uuid="x")],
            ("summary", "2"),
        ),
        ([prompt("first"), prompt("second")], ("prompt", "first")),
        ([prompt("/clear"), prompt("p")], ("prompt", "p")),
        ([prompt("/clear"), prompt("/do it")], ("command", "/clear")),
        ([prompt("<tick>"), prompt("x", isMeta=True)], None),
        (
            [prompt("<teammate-message>x</teammate-message>"), prompt("p")],
            ("prompt", "p"),
        ),
        (
            [{"type": "ai-title", "aiTitle": 1}, {"type": "custom-title"}, prompt("p")],
            ("prompt", "p"),
        ),
    ],
)
def test_titles(records, wanted):
    assert called(*records) == wanted


@pytest.mark.parametrize(
    "records, wanted",
    [
        ([prompt("p", uuid="x"), summary("s", "x")], "s"),
        ([summary("s", "x"), prompt("p", uuid="x")], "s"),
        (
            [
                summary("1", "x"),
                prompt("p", uuid="x"),
                prompt("q", uuid="y"),
                summary("2", "y"),
            ],
            "2",
        ),
        ([prompt("p", uuid="x"), summary("1", "x"), summary("2", "z")], "1"),
        ([prompt("p", uuid="x"), summary("s", "x"), by_model("a")], "a"),
        ([prompt("p", uuid="x")], ""),
        ([queued("q"), prompt([PICTURE])], ""),
    ],
)
def test_a_given_title_is_that_of_the_index(records, wanted):
    """Wherever a summary stands."""
    lines = "".join(json.dumps(record) + "\n" for record in records).encode()
    assert given_title(lambda: iter([lines])) == wanted
    source, text = called(*records)
    assert wanted == ("" if source in ("prompt", "command") else text)


def test_a_title_in_a_file_stands_between_the_custom_and_the_others(tmp_path):
    assert called(prompt("p"), by_model("a"), beside=" f ") == ("file", "f")
    assert called(prompt("p"), custom("c"), beside="f") == ("custom", "c")


@pytest.mark.parametrize("path, text, wanted", [
    (f"-w/{OWN}/custom-title.json", '{"customTitle":"a","by":"user","at":1}', "a"),
    (f"session-states/{OWN}.json", '\ufeff{"current_name":"b"}', "b"),
    (f"session-states/{OWN}.json", '{"current_name":1}', ""),
    (f"session-states/{OWN}.json", "[", ""),
    ("other", "{}", ""),
])
def test_a_title_beside_the_transcript(tmp_path, path, text, wanted):
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).write_text(text)
    assert title_beside(str(tmp_path), f"{tmp_path}/-w/{OWN}.jsonl", OWN) == wanted


@pytest.mark.parametrize("text, wanted", [
    ("x" * 1000, "x" * 199 + "\u2026"), ("a\ud83db \x00c", "a?b c"),
    ("a\u2028b\u0085c", "a b c"), ("  \n", "")])
def test_one_line(text, wanted):
    assert one_line(text) == wanted


# --- lineage --------------------------------------------------------------------------


def answer(**fields):
    return {"type": "assistant", "message": {"content": "x"}, "uuid": "a", **fields}


@pytest.mark.parametrize(
    "records, wanted",
    [
        ([prompt("p", uuid="u", sessionId=OWN)], {}),
        # Each copied record names the source.
        (
            [prompt("p", uuid="u", sessionId=OWN, forkedFrom={"sessionId": OTHER})],
            OTHER,
        ),
        # A fork of a fork: what it inherited names the grandparent.
        (
            [
                prompt("p", uuid="u", sessionId=OWN, forkedFrom={"sessionId": OTHER}),
                answer(requestSessionId=THIRD, forkedFrom={"sessionId": OTHER}),
            ],
            THIRD,
        ),
        ([answer(requestSessionId=OTHER), answer(requestSessionId=THIRD)], THIRD),
        ([answer(requestSessionId=OWN)], {}),
        ([answer(requestSessionId=OWN.upper())], {}),
        # Older versions: the new file begins with records of the session before.
        (
            [
                prompt("p", uuid="u", sessionId=OTHER),
                prompt("p", uuid="v", sessionId=OWN),
            ],
            OTHER,
        ),
        (
            [
                prompt("p", uuid="u", sessionId=OWN),
                prompt("p", uuid="v", sessionId=OTHER),
            ],
            {},
        ),
        (
            [
                {"type": "mode", "sessionId": OTHER},
                prompt("p", uuid="u", sessionId=OWN),
            ],
            {},
        ),
        ([prompt("p", uuid="u", sessionId="no id", forkedFrom={"sessionId": 1})], {}),
    ],
)
def test_where_a_session_came_from(records, wanted):
    lineage = Lineage(OWN)
    for fields in records:
        lineage.take(Record(fields))
        lineage = Lineage(OWN, json.loads(json.dumps(lineage.known)))
    assert lineage.known.get("parent_session_id", {}) == wanted


@pytest.mark.parametrize("record, name_of_fact, wanted", [
    ({"type": "continued-in", "continuedInSessionId": OTHER}, "continued_in", OTHER),
    ({"type": "continued-in", "continuedInSessionId": OWN}, "continued_in", None),
    ({"type": "continued-in", "continuedInSessionId": 1}, "continued_in", None),
    ({"type": "relocated", "relocatedCwd": "/v"}, "relocated_to", "/v"),
    ({"type": "ended-by-model"}, "ended_by_model", True),
    (prompt("p", uuid="u"), "first_uuid", "u"),
])
def test_where_a_session_goes_on(record, name_of_fact, wanted):
    lineage = Lineage(OWN)
    lineage.take(Record(record))
    assert lineage.known.get(name_of_fact) == wanted


def test_a_copy_knows_the_record_that_it_is_of():
    record = Record(
        {"uuid": "new", "forkedFrom": {"sessionId": OTHER, "messageUuid": "old"}}
    )
    assert (record.original_uuid, record.forked_from) == ("old", OTHER)
    assert Record({"uuid": "new"}).original_uuid == "new"


# --- times ----------------------------------------------------------------------------


@pytest.mark.parametrize("value, wanted", [
    ("2026-01-02T03:04:05.678Z", "2026-01-02T03:04:05.678Z"),
    ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000Z"),
    ("2026-01-02T03:04:05.6789123Z", "2026-01-02T03:04:05.678Z"),
    ("2026-01-02T03:04Z", "2026-01-02T03:04:00.000Z"),
    ("2026-01-02T05:04:05.5+02:00", "2026-01-02T03:04:05.500Z"),
    ("2026-01-02 05:04:05+0200", "2026-01-02T03:04:05.000Z"),
    ("2026-01-02", "2026-01-02T00:00:00.000Z"),
    ("2024-02-29T00:00:00Z", "2024-02-29T00:00:00.000Z"),
    ("2026-02-29T00:00:00Z", ""),
    ("2026-02-30T00:00:00Z", ""),
    ("2026-13-01T00:00:00Z", ""),
    ("2026-02-03T25:00:00Z", ""),
    ("0001-01-01T00:00:00+02:00", ""),
    ("Fri, 02 Jan 2026 03:04:05 GMT", "2026-01-02T03:04:05.000Z"),
    ("yesterday", ""),
    ("", ""),
    (1767323045678, "2026-01-02T03:04:05.678Z"),
    (1767323045678.9, "2026-01-02T03:04:05.678Z"),
    (-1, "1969-12-31T23:59:59.999Z"),
    (10**15, ""),
    (float("nan"), ""),
    (float("inf"), ""),
    (True, ""),
    (None, ""),
    (["2026-01-02T03:04:05Z"], ""),
])
def test_times(value, wanted):
    assert utc_of(value) == wanted


def test_a_time_without_a_zone_is_the_machines(monkeypatch):
    import time

    monkeypatch.setenv("TZ", "UTC-5")       # five hours before Greenwich, as TZ counts
    time.tzset()
    try:
        assert utc_of("2026-01-02T08:04:05") == "2026-01-02T03:04:05.000Z"
        assert utc_of("2026-01-02T08:04:05Z") == "2026-01-02T08:04:05.000Z"
        assert utc_of("2026-01-02") == "2026-01-02T00:00:00.000Z"
    finally:
        monkeypatch.undo()
        time.tzset()


# --- anything -------------------------------------------------------------------------

NAMES = """type message content uuid sessionId timestamp agentId cwd gitBranch version
customTitle aiTitle leafUuid summary prUrl slug forkedFrom requestSessionId
continuedInSessionId relocatedCwd worktreeSession attachment toolUseResult origin
promptSource usage""".split()
ODD = [
    None,
    True,
    0,
    -1.5,
    "",
    "x",
    [],
    [[]],
    {},
    {"type": 1},
    [{"type": []}],
    ["x", 1],
]
KINDS = ["user", "assistant", "system", "attachment", "summary", "custom-title",
         "ai-title", "pr-link", "continued-in", "relocated", "worktree-state", "x", 1]


def looked_at(record):
    """Everything that can be asked of a record."""
    for what in dir(Record):
        if not what.startswith("_"):
            value = getattr(record, what)
            if callable(value):
                value()
    Titles({}, bool).take(record)
    Lineage(OWN).take(record)


@pytest.mark.parametrize("kind", KINDS)
def test_no_record_is_too_odd(kind):
    looked_at(Record({"type": kind}))
    for field in NAMES:
        for value in ODD:
            looked_at(Record({"type": kind, field: value}))
            looked_at(Record({"type": kind, "message": {field: value}}))
            looked_at(Record({"type": kind, "attachment": {
                "type": "queued_command", field: value}}))


@pytest.mark.skipif(
    not os.path.exists(DATA), reason="the real transcripts are not here"
)
@pytest.mark.long
def test_real_transcripts(tmp_path):
    """Every line is read, and nothing that is asked of a record goes wrong."""
    with tarfile.open(DATA) as file:
        file.extractall(tmp_path)
    count = 0
    for path in sorted(tmp_path.rglob("*.jsonl")):
        with open(path, "rb") as file:
            stream = TranscriptLines(iter(lambda: file.read(100_003), b""))
            for line in stream:
                for record in load(line).records:
                    looked_at(record)
                    count += 1
        assert stream.end == path.stat().st_size
    assert count > 10_000
