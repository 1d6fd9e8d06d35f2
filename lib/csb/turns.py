"""turns of a conversation as people are shown them: harmless texts, names, times

A turn is a record of csb-log: who spoke, when, the text, the tool calls with what came
of them. Its fields may be anything: it came out of a file, or through a pipe.
"""
import json
import re
import time

from csb import from_utc, printable, warn
from csb.markdown import without_marks
from csb.session import is_id
from csb.terminal import counted, with_tilde
from csb.transcript import edits_in, tasks_in

SHORT = 100                     # characters of a line
LONGEST_TITLE = 120
LONG_LINE_READ = 2000           # characters that are looked at for one line
MOST_COMPARED = 2000            # lines; to compare more takes long

ROLES = {
    "user": "User",
    "assistant": "Assistant",
    "tool": "Tool",
    "summary": "Summary",
    "meta": "Claude Code",
    "system": "Note",
}
# What stands before the tasks of a list.
BOXES = {"completed": "\u2611", "in_progress": "\u25b8"}
TO_DO = "\u2610"
CHANGE = "change"               # the label of the lines that a tool has changed

_COLOURS = re.compile(r"\x1b\[[0-9;:]*[mK]")
_BETWEEN_LINES = re.compile("[^\t\n]+")


def give_out(turns, take):
    """Have each turn taken by a function; what is none is warned of."""
    for turn in turns:
        try:
            take(turn)
        except (TypeError, ValueError, AttributeError, RecursionError):
            warn("cannot show a turn: it is not as csb-log --json makes them")
        turn = None             # it may be large: it is not held meanwhile


# --- texts ----------------------------------------------------------------------------


def harmless(text):
    """A text without what acts: lines and tabs stay, the rest is written out."""
    if not isinstance(text, str):
        return ""
    if "\x1b" in text:
        text = _COLOURS.sub("", text)
    text = text.replace("\r\n", "\n")
    # Most texts are fine: only of others each line is looked at.
    flat = text.replace("\n", " ").replace("\t", " ")
    if printable(flat) == flat:
        return text
    return _BETWEEN_LINES.sub(lambda part: printable(part[0]), text)


def line_of(text, width=SHORT):
    """The start of a text on one line; "" if it is none."""
    if not isinstance(text, str):
        return ""
    line = " ".join(harmless(text[:LONG_LINE_READ]).split())
    if len(line) > width:
        line = line[:width - 1] + "\u2026"
    return line


def unmarked_line(text, width):
    """As line_of(), without the marks of Markdown."""
    if not isinstance(text, str):
        return ""
    return line_of(without_marks(text[:LONG_LINE_READ]), width)


def local_time(turn, form="%Y-%m-%d %H:%M"):
    """When a turn was, as the clock on the wall shows it; "" if it does not say."""
    seconds = seconds_of(turn)
    if seconds is None:
        return ""
    return time.strftime(form, time.localtime(seconds))


def seconds_of(turn):
    """When a turn was, in seconds since 1970; None if it does not say."""
    try:
        seconds = from_utc(turn["at"]) // 10**9
        time.localtime(seconds)         # can the clock here show it?
        return seconds
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        return None


# --- whose a turn is ------------------------------------------------------------------


def agent_of(turn):
    """What the subagent is called that speaks in a turn; "" if none does."""
    name = turn.get("subagent")
    if name:
        return line_of(f"subagent {name}")
    if turn.get("is_sidechain"):
        return "side chain"
    return ""


def title_of(turn):
    """What the session is called that a turn begins, or its prompt, else its id."""
    title = turn.get("title")
    if not title and turn.get("role") == "user":
        title = turn.get("text")
    title = unmarked_line(title, LONGEST_TITLE)
    return title or f"Session {short_id(turn.get('session_id'))}".strip()


def short_id(session_id):
    """An id as people see it: 8 digits. A name that is none is whole."""
    name = line_of(session_id)
    return name[:8] if is_id(name) else name


def place_of(turn):
    """The folder, else the project, and the branch of the session of a turn."""
    folder = with_tilde(line_of(turn.get("cwd"), 300)) or line_of(turn.get("project"))
    branch = line_of(turn.get("git_branch"), 60)
    return " \u00b7 ".join(filter(None, (folder, branch)))


# --- tool calls -----------------------------------------------------------------------


def calls_of(turn):
    """The tool calls of a turn, a dict each."""
    calls = turn.get("tools")
    if not isinstance(calls, list):
        return []
    return [call for call in calls if isinstance(call, dict)]


def name_of_call(call):
    return line_of(call.get("name"), 60) or "?"


def brief_of(call):
    """What a tool was called with, on a line."""
    tasks = tasks_in(call.get("input"))
    if tasks:
        done = sum(task.state == "completed" for task in tasks)
        return f"{done} of {len(tasks)} done"
    return line_of(call.get("brief"), 200)


def outcome(call):
    """What came of a tool call, in a few words."""
    result = call.get("result")
    if not isinstance(result, str):
        return "no result"
    if call.get("is_error") is True:
        return f"failed: {line_of(result, 80)}"
    edits = edits_in(call.get("input"))
    if edits:
        lines = [line[:1] for edit in edits for line in diff_of(edit)]
        return f"+{lines.count('+')} \u2212{lines.count('-')}"
    if result:
        return counted(result.removesuffix("\n").count("\n") + 1, "line")
    return "a picture" if call.get("images") else "no output"


def given_and_got(call):
    """Yield (label, text) of what a tool got and gave.

    Of an edit the lines that changed, of a list of tasks nothing: see tasks_in().
    """
    given = call.get("input")
    edits = edits_in(given)
    tasks = tasks_in(given)
    if not isinstance(given, dict):
        given = {"input": given}
    for name, value in given.items():
        is_text = isinstance(value, str)
        is_shown = (edits or tasks) and not is_text
        if value is None or is_shown or any(value in edit for edit in edits):
            continue
        if not is_text:
            value = json.dumps(value, ensure_ascii=False)
        yield line_of(name, 60), value
    for edit in edits:
        yield CHANGE, "\n".join(diff_of(edit))
    if isinstance(call.get("result"), str):
        label = "error" if call.get("is_error") is True else "result"
        yield label, call["result"]


def diff_of(edit):
    """The lines of an Edit, those that went after "-", those that came after "+"."""
    from difflib import SequenceMatcher  # 3 ms

    old = edit.old.split("\n") if edit.old else []
    new = edit.new.split("\n") if edit.new else []
    if len(old) + len(new) > MOST_COMPARED:
        return ["-" + line for line in old] + ["+" + line for line in new]
    lines = []
    matcher = SequenceMatcher(None, old, new, autojunk=False)
    for tag, start, end, new_start, new_end in matcher.get_opcodes():
        if tag == "equal":
            lines += [" " + line for line in old[start:end]]
        else:
            lines += ["-" + line for line in old[start:end]]
            lines += ["+" + line for line in new[new_start:new_end]]
    return lines
