"""turns of a conversation as people are shown them: harmless texts, names, times

A turn is a record of csb-log: who spoke, when, the text, the tool calls with what came
of them. Its fields may be anything: it came out of a file, or through a pipe.
"""
import re

from csb import from_utc, printable
from csb.session import is_id

SHORT = 100                     # characters of a line
LONG_LINE_READ = 2000           # characters that are looked at for one line

_COLOURS = re.compile(r"\x1b\[[0-9;:]*[mK]")
_BETWEEN_LINES = re.compile("[^\t\n]+")


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


def seconds_of(turn):
    """When a turn was, in seconds since 1970; None if it does not say."""
    try:
        return from_utc(turn["at"]) // 10**9
    except (KeyError, TypeError, ValueError):
        return None


def local_time(turn, form="%Y-%m-%d %H:%M"):
    """When a turn was, as the clock on the wall shows it; "" if it does not say."""
    import time

    seconds = seconds_of(turn)
    if seconds is None:
        return ""
    try:
        return time.strftime(form, time.localtime(seconds))
    except (ValueError, OverflowError, OSError):
        return ""


def calls_of(turn):
    """The tool calls of a turn, a dict each."""
    calls = turn.get("tools")
    if not isinstance(calls, list):
        return []
    return [call for call in calls if isinstance(call, dict)]


def agent_of(turn):
    """What the subagent is called that speaks in a turn; "" if none does."""
    name = turn.get("subagent")
    if name:
        return line_of(f"subagent {name}")
    if turn.get("is_sidechain"):
        return "side chain"
    return ""


def title_of(turn, prompt=""):
    """What the session of a turn is called, or its first prompt, else its id."""
    title = line_of(turn.get("title"), 200) or line_of(prompt, 200)
    if not title:
        title = f"Session {short_id(turn.get('session_id'))}".strip()
    return title


def short_id(session_id):
    """An id as people see it: 8 digits. A name that is none is whole."""
    name = line_of(session_id)
    if is_id(name):
        return name[:8]
    return name


def outcome(call):
    """What came of a tool call, in a few words."""
    result = call.get("result")
    if not isinstance(result, str):
        return "no result"
    if call.get("is_error") is True:
        return f"failed: {line_of(result, 80)}"
    count = count_of_lines(result)
    if count:
        return number_of(count, "line")
    if call.get("images"):
        return "a picture"
    return "no output"


def number_of(count, noun):
    """A count and its noun: 1 line, 2 lines."""
    if count == 1:
        return f"1 {noun}"
    return f"{count} {noun}s"


def count_of_lines(text):
    """How many lines a text has; one without an end counts."""
    count = text.count("\n")
    if text and not text.endswith("\n"):
        count += 1
    return count


def tasks_done(tasks):
    """How far a list of Tasks is, in a few words."""
    done = sum(task.state == "completed" for task in tasks)
    return f"{done} of {len(tasks)} done"


def lines_changed(edits):
    """(lines that went, lines that came) of Edits."""
    went = 0
    came = 0
    for edit in edits:
        for line in diff_of(edit):
            if line.startswith("-"):
                went += 1
            elif line.startswith("+"):
                came += 1
    return went, came


MOST_COMPARED = 2000            # lines; to compare more takes long


def diff_of(edit):
    """The lines of an Edit, those that went after "-", those that came after "+"."""
    from difflib import SequenceMatcher  # 3 ms

    old = _lines_of_text(edit.old)
    new = _lines_of_text(edit.new)
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


def _lines_of_text(text):
    if not text:
        return []
    return text.split("\n")
