"""turns of a conversation as people are shown them

A turn is a record of csb-log: who spoke, when, the text, the tool calls with what came
of them. Its fields may be anything: it came out of a file, or through a pipe. What a
Turn says of them is of the right type, and text that no terminal obeys.

    writer = Page(sys.stdout.buffer)    # or another Writer
    for record in records: writer.take(record)
    writer.end()
"""
import json
import re
import time
from functools import cached_property

from csb import from_utc, printable
from csb.markdown import without_marks
from csb.session import is_id
from csb.terminal import counted, with_tilde
from csb.transcript import edit_in, tasks_in

SHORT = 100                     # characters of a line
LONGEST_TITLE = 120
LONG_LINE_READ = 2000           # characters that are looked at for one line
PIECE = 1 << 16                 # characters that are looked at at a time
MOST_COMPARED = 2000            # lines; to compare more takes long

ROLES = {
    "user": "User",
    "assistant": "Assistant",
    "tool": "Tool",
    "summary": "Summary",
    "meta": "Claude Code",
    "system": "Note",
}
BULLET = "\u2022"
CHANGE = "change"               # the label of the lines that a tool has changed

_COLOURS = re.compile(r"\x1b\[[0-9;:]*[mK]")
_BETWEEN_LINES = re.compile("[^\t\n]+")


# --- texts ----------------------------------------------------------------------------


def harmless(text):
    """A text without what acts: lines and tabs stay, the rest is written out."""
    if not isinstance(text, str):
        return ""
    if "\x1b" in text:
        text = _COLOURS.sub("", text)
    text = text.replace("\r\n", "\n")
    # Most texts are fine: only of others each line is looked at.
    for start in range(0, len(text), PIECE):
        flat = text[start:start + PIECE].replace("\n", " ").replace("\t", " ")
        if printable(flat) != flat:
            return _BETWEEN_LINES.sub(lambda part: printable(part[0]), text)
    return text


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


# --- turns ----------------------------------------------------------------------------


def dicts_in(value):
    """The objects in what should be a list of them."""
    if not isinstance(value, list):
        return []
    return [one for one in value if isinstance(one, dict)]


class Turn:
    """A turn.

    role, session_id: a line. agent: what the subagent is called that speaks, "" if none
    does.
    """

    def __init__(self, record):
        self.record = record
        self.role = line_of(record.get("role"), 40)
        self.session_id = line_of(record.get("session_id"))
        self.agent = ""
        if record.get("subagent"):
            self.agent = line_of(f"subagent {record['subagent']}")
        elif record.get("is_sidechain"):
            self.agent = "side chain"

    @property
    def name(self):
        """Who speaks."""
        return ROLES.get(self.role) or self.role or "?"

    @cached_property
    def text(self):
        return harmless(self.record.get("text")).strip("\n")

    @property
    def thinking(self):
        return harmless(self.record.get("thinking"))

    @property
    def images(self):
        """[{media_type, data}]"""
        return dicts_in(self.record.get("images"))

    @cached_property
    def calls(self):
        return list(map(ToolCall, dicts_in(self.record.get("tools"))))

    @property
    def seconds(self):
        """When it was, in seconds since 1970; None if it does not say."""
        try:
            seconds = from_utc(self.record["at"]) // 10**9
            time.localtime(seconds)         # can the clock here show it?
            return seconds
        except (KeyError, TypeError, ValueError, OverflowError, OSError):
            return None

    def time(self, form="%Y-%m-%d %H:%M"):
        """When it was, as the clock on the wall shows it; "" if it does not say."""
        seconds = self.seconds
        if seconds is None:
            return ""
        return time.strftime(form, time.localtime(seconds))

    @property
    def title(self):
        """What the session is called that it begins, or its prompt, else its id."""
        title = self.record.get("title")
        if not title and self.role == "user":
            title = self.record.get("text")
        title = unmarked_line(title, LONGEST_TITLE)
        return title or f"Session {self.short_id}".strip()

    @property
    def short_id(self):
        """The id as people see it: 8 digits. A name that is none is whole."""
        return self.session_id[:8] if is_id(self.session_id) else self.session_id

    @property
    def place(self):
        """The folder, else the project, and the branch of the session."""
        folder = with_tilde(line_of(self.record.get("cwd"), 300))
        folder = folder or line_of(self.record.get("project"))
        branch = line_of(self.record.get("git_branch"), 60)
        return " \u00b7 ".join(filter(None, (folder, branch)))


class ToolCall:
    """A tool call of a turn, and what came of it.

    name: of the tool. tasks: see tasks_in(). edit: an Edit, or None. result: None if
    there is none.
    """

    def __init__(self, fields):
        self.name = line_of(fields.get("name"), 60) or "?"
        self.tasks = tasks_in(fields.get("input"))
        self.edit = edit_in(fields.get("input"))
        self.images = dicts_in(fields.get("images"))
        self.failed = fields.get("is_error") is True
        self.result = fields.get("result")
        if not isinstance(self.result, str):
            self.result = None
        self._given = fields.get("input")
        self._brief = fields.get("brief")

    @property
    def brief(self):
        """What the tool was called with, on a line."""
        if self.tasks:
            done = sum(task.state == "completed" for task in self.tasks)
            return f"{done} of {len(self.tasks)} done"
        return line_of(self._brief, 200)

    @property
    def outcome(self):
        """What came of it, in a few words."""
        if self.result is None:
            return "no result"
        if self.failed:
            return f"failed: {line_of(self.result, 80)}"
        if self.edit:
            marks = [line[:1] for line in _diff_of(self.edit)]
            return f"+{marks.count('+')} \u2212{marks.count('-')}"
        if self.result:
            return counted(self.result.removesuffix("\n").count("\n") + 1, "line")
        return "a picture" if self.images else "no output"

    def parts(self):
        """Yield (label, text) of what the tool got and gave.

        Of an edit the lines that changed, of a list of tasks nothing.
        """
        given = self._given
        if not isinstance(given, dict):
            given = {"input": given}
        for name, value in given.items():
            is_text = isinstance(value, str)
            if value is None or not is_text and (self.edit or self.tasks):
                continue
            if self.edit and value in self.edit:
                continue
            if not is_text:
                value = json.dumps(value, ensure_ascii=False)
            yield line_of(name, 60), harmless(value)
        if self.edit:
            yield CHANGE, harmless("\n".join(_diff_of(self.edit)))
        if self.result is not None:
            yield "error" if self.failed else "result", harmless(self.result)


def _diff_of(edit):
    """The lines of an Edit, those that went after "-", those that came after "+"."""
    from difflib import unified_diff  # 3 ms

    old = edit.old.split("\n") if edit.old else []
    new = edit.new.split("\n") if edit.new else []
    if len(old) + len(new) > MOST_COMPARED:
        return ["-" + line for line in old] + ["+" + line for line in new]
    lines = unified_diff(old, new, n=MOST_COMPARED, lineterm="")
    return list(lines)[3:]              # without its head


# --- writing --------------------------------------------------------------------------


class Writer:
    """Writes turns for people, as they come. How, the classes below it say:

    head(turn)          a session begins
    enter_agent(turn)   a subagent begins to speak
    leave_agent()       it is done
    show(turn)
    """

    def __init__(self):
        self.session = None     # the id of the present session
        self.agent = ""         # the subagent that speaks at present

    def take(self, record):
        """Write a turn."""
        turn = Turn(record)
        # A first turn says where it was: also that of another copy of a session.
        is_first = turn.session_id != self.session or "project" in record
        if self.agent and (is_first or turn.agent != self.agent):
            self.leave_agent()
            self.agent = ""
        if is_first:
            self.head(turn)
            self.session = turn.session_id
        if turn.agent and not self.agent:
            self.enter_agent(turn)
            self.agent = turn.agent
        self.show(turn)

    def end(self):
        if self.agent:
            self.leave_agent()
