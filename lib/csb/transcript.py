"""Claude Code's transcripts: the one place that knows what stands in their records

A transcript is a file of JSON Lines, one record a line, to which Claude Code appends
while it talks. Its format is internal to Claude Code and changes between versions, so
that nothing is taken for granted here: what has another type than expected is as good
as not there, what is unknown is passed over, and a bad line costs that line only.

    for line in TranscriptLines(blocks):
        records, damaged = load(line)
        for record in records:
            for role, text in record.voices(): ...

What people said is a small part of it: a record of type "user" may be a person's
prompt, a tool's result, a note of Claude Code or a message of another session. Who
speaks is decided in voices() alone.
"""
import json
import re
from collections import namedtuple

from csb import utc
from csb.places import read_json
from csb.session import is_id, key_of

LONGEST_LINE = 8 << 20          # bytes held of one line; see TranscriptLines
LONG_LINE = 1 << 20             # bytes; above it memory is watched while it is parsed
MOST_VALUES = 1 << 18           # in a long line: a value of two bytes takes 80
PIECE_OF_DATA = 4096            # bytes by which an encoded picture is told from a text
LONGEST_TEXT = 4 << 20          # bytes kept of a text in a line that is too long
LONGEST_WIDE_TEXT = 2 << 20     # bytes kept of one that is not ASCII, in a long line
MOST_TRIES = 1000               # to find a whole record in a damaged line
TITLE_LENGTH = 200              # characters
MOST_WAITING = 10_000           # summaries about records that have not come yet

# The fields that name a folder in which Claude Code works: of a record, and of what
# stands in its field WORKTREE.
FOLDERS = ("cwd", "relocatedCwd", "worktreePath")
WORKTREE = "worktreeSession"
FOLDERS_OF_WORKTREE = ("originalCwd", "preEnterOriginalCwd", "worktreePath")

BOM = b"\xef\xbb\xbf"

Loaded = namedtuple("Loaded", "records damaged")
Voice = namedtuple("Voice", "role text")
Image = namedtuple("Image", "media_type data")          # data: base64
Title = namedtuple("Title", "source text")              # source: custom, ai
Summary = namedtuple("Summary", "uuid text")            # uuid: of what it is about
Usage = namedtuple("Usage", "message_id tokens")


# --- lines ----------------------------------------------------------------------------


class TranscriptLines:
    """The lines of a transcript (a stream of blocks of bytes), without their ends.

    offset and end say where the present line begins and where the next one does;
    complete is False for what follows the last newline. A line above LONGEST_LINE
    comes shortened: of encoded pictures and files only a beginning is kept, of any
    other text LONGEST_TEXT. If even that is too large it comes as None.
    """

    def __init__(self, blocks, offset=0):
        self.offset = offset
        self.end = offset
        self.complete = True
        self._blocks = blocks

    def __iter__(self):
        held = _HeldLine()
        for block in self._blocks:
            first, *others = block.split(b"\n")
            held.add(first)
            for part in others:
                yield self._next(held, True)
                held = _HeldLine()
                held.add(part)
        if held.length:
            yield self._next(held, False)

    def _next(self, held, complete):
        self.offset = self.end
        self.end += held.length + complete
        self.complete = complete
        return held.line()


class _HeldLine:
    """A line as it comes in: whole, or shortened from where it gets too long."""

    def __init__(self):
        self.length = 0             # bytes of the line as it is in the file
        self._parts = []
        self._held = 0
        self._shortener = None

    def add(self, part):
        self.length += len(part)
        if self._shortener is None and self.length > LONGEST_LINE:
            self._shortener = _Shortener()
            self._shorten_what_came()
        if self._shortener is not None:
            part = self._shortener.shortened(part)
        if self._held <= LONGEST_LINE:
            self._parts.append(part)
            self._held += len(part)

    def _shorten_what_came(self):
        self._held = 0
        for number, part in enumerate(self._parts):
            self._parts[number] = self._shortener.shortened(part)
            self._held += len(self._parts[number])

    def line(self):
        parts = self._parts
        self._parts = []        # who gets the line need not share memory with them
        if self._held > LONGEST_LINE:
            return None
        return b"".join(parts)


class _Shortener:
    """Cuts the long texts in a line of JSON that comes in parts."""

    _TOKEN = re.compile(rb'"|[^"\\]+|\\u[0-9a-fA-F]{4}|\\[^u]|(\\u?.{0,3})\Z', re.S)
    _ENCODED = re.compile(rb"[A-Za-z0-9+/=_-]*")

    def __init__(self):
        self._rest = b""            # of an escape sequence that the last part cut
        self._inside = False        # are we in a text?
        self._kept = []             # of that text
        self._size = 0
        self._limit = PIECE_OF_DATA

    def shortened(self, part):
        """What is left of the next part."""
        data = self._rest + part
        self._rest = b""
        out = []
        for match in self._TOKEN.finditer(data):
            token = match[0]
            if match[1] is not None:
                self._rest = token
                break
            if token == b'"':
                self._inside = not self._inside
                self._start_text()
            elif self._inside:
                token = self._kept_of(token)
            out.append(token)
        return b"".join(out)

    def _start_text(self):
        self._kept = []
        self._size = 0
        self._limit = PIECE_OF_DATA

    def _kept_of(self, token):
        """What is kept of the next token of a text."""
        kept = self._cut(token)
        if self._size < PIECE_OF_DATA or self._limit != PIECE_OF_DATA:
            return kept
        # Now there is enough of the text to see what it is.
        if self._ENCODED.fullmatch(b"".join(self._kept)):
            self._limit = 0
            return kept
        self._kept = []
        self._limit = LONGEST_TEXT
        return kept + self._cut(token[len(kept):])

    def _cut(self, token):
        room = self._limit - self._size
        if room <= 0:
            return b""
        if len(token) > room and token.startswith(b"\\"):
            room = 0                # no half of an escape sequence
        while 0 < room < len(token) and token[room] & 0xC0 == 0x80:
            room -= 1               # no part of a character
        kept = token[:room]
        self._size += len(kept)
        if len(kept) < len(token):
            self._size = self._limit        # what comes next is not joined to it
        if self._limit == PIECE_OF_DATA:
            self._kept.append(kept)
        return kept


def may_be_talk(line):
    """May a line hold what people said, or a title? By its bytes: it is parsed if so.

    Most of a transcript is what tools were given and answered.
    """
    if b'"text":' in line or b'"content":[{' not in line:
        if b'"user"' in line or b'"assistant"' in line:
            return True
    return b'"queued_command"' in line or b'-title"' in line


# --- records --------------------------------------------------------------------------

_decode = json.JSONDecoder().decode
_VALUES = re.compile(rb'"[^"]*"|[\[{,]')
_LATIN_RUN = re.compile("[\x80-\xff]{2,}")
_BEYOND_16_BITS = re.compile(rb"[\xf0-\xf4][\x80-\xbf]{3}")


def load(line):
    """The records in a line, and whether the line is damaged: Loaded.

    A line is one record; but a whole record that follows a cut one, or NULs, is found
    as well. None, as a line that is too large: no record. Blank: none, and no damage.
    """
    if line is None:
        return Loaded([], True)
    try:
        if len(line) > LONG_LINE:
            value = _decoded_long(line)
        else:
            value = _decode(line.decode())
    except (ValueError, RecursionError, OverflowError):
        return _salvaged(line)
    if type(value) is dict:
        return Loaded([Record(value)], False)
    return Loaded([], True)


def _decoded_long(line):
    """The value of a long line, with an eye on memory.

    One emoji makes a text four times as large in memory as its bytes are: the line is
    parsed as Latin-1, and its texts are put right one by one.
    """
    if _has_too_many_values(line):
        raise ValueError("it has too many values")
    if line.isascii():
        return _decode(line.decode())
    return json.loads(line.decode("latin-1"), object_pairs_hook=_object_from_latin)


def _object_from_latin(pairs):
    return {_from_latin(key): _from_latin(value) for key, value in pairs}


def _from_latin(value):
    """A text that was parsed as Latin-1 as it is in UTF-8; other values as they are.

    In a text above LONG_LINE U+FFFD stands for a character that takes four bytes; of
    one above LONGEST_WIDE_TEXT that is kept.
    """
    if type(value) is list:
        return [_from_latin(one) for one in value]
    if type(value) is not str or value.isascii():
        return value
    if len(value) > LONGEST_WIDE_TEXT:
        value = value[:LONGEST_WIDE_TEXT]
    try:
        data = value.encode("latin-1")
    except UnicodeEncodeError:
        # Some of it was written as escapes, and is right already.
        return _LATIN_RUN.sub(_right_run, value)
    if len(data) > LONG_LINE:
        data = _BEYOND_16_BITS.sub(b"\xef\xbf\xbd", data)
    return data.decode("utf-8", "replace")


def _right_run(match):
    return match[0].encode("latin-1").decode("utf-8", "replace")


def _has_too_many_values(line):
    plain = line.replace(b"\\\\", b"").replace(b'\\"', b"")
    for count, _ in enumerate(_VALUES.finditer(plain)):
        if count == MOST_VALUES:
            return True
    return False


def _whole_number(digits):
    """A number of any length: what Claude Code reads as infinite is."""
    return int(digits) if len(digits) < 300 else float(digits)


# Types of what stands in the content of a message.
_PARTS = ("text", "thinking", "image", "document", "tool_use", "tool_result")

# Control characters in texts, and numbers of any length.
_lenient = json.JSONDecoder(strict=False, parse_int=_whole_number)


def _salvaged(line):
    """The records in a line that is not simply one: Loaded."""
    line = line.removeprefix(BOM)
    if not line.strip():
        return Loaded([], False)
    if len(line) > LONG_LINE and _has_too_many_values(line):
        return Loaded([], True)
    text = line.decode("utf-8", "replace")      # as Claude Code reads it
    try:
        value = _decode(text)
    except (ValueError, RecursionError, OverflowError):
        return Loaded(_records_within(text), True)
    if type(value) is dict:
        return Loaded([Record(value)], False)
    return Loaded([], True)


def _records_within(text):
    """The whole records in a damaged line."""
    found = []
    text = text.strip("\0 \t\r\n")
    length = len(text)
    at = text.find('{"')
    tries = 0
    while at >= 0 and tries < MOST_TRIES:
        tries += 1
        end = at + 2
        try:
            value, end = _lenient.raw_decode(text, at)
        except (ValueError, RecursionError, OverflowError):
            value = None
        if type(value) is dict:
            at_an_end = at == 0 or end == length
            if _is_whole(value, at_an_end):
                found.append(Record(value))
        at = text.find('{"', end)
    return found


def _is_whole(value, at_an_end):
    """Is an object a record, and not a part of one?

    at_an_end: the line begins or ends with it.
    """
    if not isinstance(value.get("type"), str) or value["type"] in _PARTS:
        return False
    if isinstance(value.get("sessionId"), str) or "leafUuid" in value:
        return True
    # What a subagent said stands within a record on how far it has come, too.
    return at_an_end and "parentToolUseID" not in value


def _text(value):
    """A text that may be anything else."""
    return value if isinstance(value, str) else ""


def _table(value):
    """An object that may be anything else."""
    return value if isinstance(value, dict) else {}


class Record:
    """One record of a transcript. A text that it has not is "", another value None.

    fields: as parsed, for who needs it whole. type: user, assistant, system,
    attachment, custom-title ...
    """

    __slots__ = ("fields", "type", "uuid")

    def __init__(self, fields):
        self.fields = fields
        self.type = _text(fields.get("type"))
        self.uuid = _text(fields.get("uuid"))

    # What it is.

    @property
    def parent_uuid(self):
        return _text(self.fields.get("parentUuid"))

    @property
    def follows(self):
        """The uuid of the record before it in the talk, across a compaction, too."""
        return self.parent_uuid or _text(self.fields.get("logicalParentUuid"))

    @property
    def session_id(self):
        """The session that it was written in. A fork's copies may name another one."""
        return _text(self.fields.get("sessionId"))

    @property
    def time(self):
        """When it was written, in RFC 3339 with three digits; "" if that is unknown."""
        return utc_of(self.fields.get("timestamp"))

    @property
    def agent_id(self):
        """The subagent that it belongs to."""
        return _text(self.fields.get("agentId"))

    @property
    def is_sound(self):
        """Has everything in it that we rely on the right type?"""
        fields = self.fields
        if not (self.uuid and self.type and self.cwd):
            for name in ("type", "cwd", "uuid"):
                if not isinstance(fields.get(name, ""), (str, type(None))):
                    return False
        if self.type in ("user", "assistant"):
            message = fields.get("message")
            if not isinstance(message, dict):
                return False
            return isinstance(message.get("content", ""), (str, list))
        return True

    @property
    def is_sidechain(self):
        """Does it belong to the talk of a subagent, in the session's own transcript?"""
        return bool(self.fields.get("isSidechain"))

    @property
    def is_meta(self):
        """Is it Claude Code's, in the user's name?"""
        return bool(self.fields.get("isMeta"))

    @property
    def is_summary(self):
        """Does it stand in the place of what was compacted?"""
        return bool(self.fields.get("isCompactSummary"))

    @property
    def is_message(self):
        """Is it part of the talk of the user, or of a tool, with the model?"""
        if self.type not in ("user", "assistant"):
            return False
        return not (self.is_meta or self.is_sidechain)

    # Where and with what.

    @property
    def cwd(self):
        return _text(self.fields.get("cwd"))

    @property
    def git_branch(self):
        branch = _text(self.fields.get("gitBranch"))
        return "" if branch == "HEAD" else branch

    @property
    def version(self):
        """The version of Claude Code."""
        return _text(self.fields.get("version"))

    @property
    def model(self):
        """The model that answered, "" for what Claude Code said in its place."""
        if self.type != "assistant":
            return ""
        model = _text(_table(self.fields.get("message")).get("model"))
        return "" if model == "<synthetic>" else model

    @property
    def message_id(self):
        """The answer that it is a part of: one is written as several records."""
        return _text(_table(self.fields.get("message")).get("id"))

    @property
    def usage(self):
        """Usage: what its answer has cost so far, None if it does not say.

        tokens: {input output cache_read cache_write}. The last record of an answer
        counts, not the sum of them.
        """
        usage = _table(self.fields.get("message")).get("usage")
        if self.type != "assistant" or not isinstance(usage, dict):
            return None
        tokens = {}
        for name, field in _TOKENS:
            count = usage.get(field)
            if type(count) is not int or not 0 <= count < 1 << 50:
                count = 0
            tokens[name] = count
        return Usage(self.message_id, tokens)

    # What it says of the session.

    @property
    def title(self):
        """Title: what it says that the session is called, None if it says nothing."""
        for source, kind, field in _TITLES:
            if self.type == kind and isinstance(self.fields.get(field), str):
                return Title(source, one_line(self.fields[field]))
        return None

    @property
    def summary(self):
        """Summary: what older versions called the talk that ends with a record.

        Most of them are about other transcripts.
        """
        uuid = _text(self.fields.get("leafUuid"))
        text = self.fields.get("summary")
        if self.type != "summary" or not uuid or not isinstance(text, str):
            return None
        return Summary(uuid, one_line(text))

    @property
    def pr_link(self):
        url = _text(self.fields.get("prUrl"))
        if self.type == "pr-link" and url.startswith("http"):
            return one_line(url)
        return ""

    # Where the session came from, and where it went.

    @property
    def forked_from(self):
        """The session that the record was copied from."""
        return _text(_table(self.fields.get("forkedFrom")).get("sessionId"))

    @property
    def original_uuid(self):
        """The uuid of the record that it is a copy of; its own if it is none."""
        original = _text(_table(self.fields.get("forkedFrom")).get("messageUuid"))
        return original or self.uuid

    @property
    def requested_by(self):
        """The session whose request a copied answer was to."""
        return _text(self.fields.get("requestSessionId"))

    @property
    def continued_in(self):
        """The session that the talk goes on in: this transcript is at its end."""
        if self.type == "continued-in":
            return _text(self.fields.get("continuedInSessionId"))
        return ""

    @property
    def ended_by_model(self):
        """Did the model end the session? Claude Code does not resume it then."""
        return self.type == "ended-by-model"

    @property
    def relocated_to(self):
        """The folder that the session goes on in."""
        if self.type == "relocated":
            return _text(self.fields.get("relocatedCwd"))
        return ""

    # What it holds.

    @property
    def said(self):
        """Said: the parts of the message in it, None if it holds none."""
        content = self._content()
        return None if content is None else Said(content)

    def _content(self):
        fields = self.fields
        kind = self.type
        if kind in ("user", "assistant"):
            return _table(fields.get("message")).get("content", "")
        if kind == "attachment":
            inner = _table(fields.get("attachment"))
            if inner.get("type") == "queued_command":
                return inner.get("prompt")
        if kind == "system" and _text(fields.get("content")):
            return fields["content"]
        return None

    @property
    def calls(self):
        """[Call]: the tools that it calls; the same as said.calls, and faster."""
        content = self._content()
        found = []
        if isinstance(content, list):
            for part in content:
                if isinstance(part, dict) and _text(part.get("type")).endswith(
                    "tool_use"
                ):
                    found.append(Call(part))
        return found

    @property
    def answering_agent(self):
        """The subagent whose answer the tool's result in it is."""
        return _text(_table(self.fields.get("toolUseResult")).get("agentId"))

    def voices(self, said=None):
        """[Voice(role, text)]: who says what in it, in their order.

        user        a person's words, without what wraps them
        command     a slash command, or one of a shell, that a person typed
        meta        Claude Code, a hook, another session, in the user's name
        summary     Claude Code, in the place of what it compacted
        assistant   the model
        system      Claude Code

        said is the record's, if it is at hand.
        """
        said = said or self.said
        if said is None:
            return []
        if self.type == "assistant":
            role = "assistant"
        elif self.type == "system":
            role = "system"
        elif self.is_summary:
            role = "summary"
        elif self.is_meta:
            role = "meta"
        else:
            return self._voices_of_user(said)
        return [Voice(role, text) for text in said.texts if text.strip()]

    def _voices_of_user(self, said):
        who = self._written_by()
        voices = []
        for text in said.texts:
            if not text.strip():
                continue
            if who == "machine":
                voices.append(Voice("meta", text))
            else:
                voices += voices_in(text, who == "person")
        return voices

    def _written_by(self):
        """Who wrote a user's message by its fields: person, machine, "" if unknown."""
        fields = _table(self.fields.get("attachment")) or self.fields
        for one in (fields, self.fields):
            kind = _text(_table(one.get("origin")).get("kind"))
            if kind:
                return "person" if kind in _PERSONS_ORIGINS else "machine"
            if one.get("commandMode") == "task-notification":
                return "machine"
        source = _text(self.fields.get("promptSource"))
        if source:
            return "machine" if source == "system" else "person"
        if self.fields.get("rowSource") == "harness":
            return "machine"
        return ""

    def prompts(self):
        """[(source, text)]: what a person typed in a message, each on one line.

        source is "prompt", or "command" for a slash command. A message that holds a
        tool's result holds no prompt.
        """
        if self.type != "user" or not self.is_message or self.is_summary:
            return []
        said = None if _holds_result(self._content()) else self.said
        if said is None:
            return []
        found = []
        for voice in self.voices(said):
            line = one_line(voice.text)
            if not line:
                continue
            if voice.role == "user":
                found.append(("prompt", line))
            elif voice.role == "command":
                found.append(("command", line))
        return found


_TOKENS = (
    ("input", "input_tokens"),
    ("output", "output_tokens"),
    ("cache_read", "cache_read_input_tokens"),
    ("cache_write", "cache_creation_input_tokens"),
)
_TITLES = (
    ("custom", "custom-title", "customTitle"),
    ("ai", "ai-title", "aiTitle"),
)


# --- what a message holds -------------------------------------------------------------


def _holds_result(content):
    """Does a tool's result stand in what a message holds?"""
    if not isinstance(content, list):
        return False
    for part in content:
        if isinstance(part, dict) and _text(part.get("type")).endswith("tool_result"):
            return True
    return False


class Call:
    """A tool that the model called."""

    __slots__ = ("id", "name", "input")

    def __init__(self, part):
        self.id = _text(part.get("id"))
        self.name = _text(part.get("name")) or "?"
        self.input = part.get("input")      # of any type; most often an object

    def argument(self):
        """The most telling text of its input, "" if there is none."""
        given = _table(self.input)
        for name in _TELLING_ARGUMENTS:
            if _text(given.get(name)).strip():
                return given[name]
        return ""

    def files(self):
        """[(path, is_folder)]: the paths that it names, as they stand there."""
        given = _table(self.input)
        found = []
        for name in ("file_path", "notebook_path"):
            if _text(given.get(name)):
                found.append((given[name], False))
        if self.name in ("Grep", "Glob", "LS") and _text(given.get("path")):
            found.append((given["path"], True))
        return found


class Result:
    """What a tool answered."""

    __slots__ = ("call_id", "text", "images", "is_error")

    def __init__(self, part):
        content = part.get("content")
        inner = Said([content] if isinstance(content, dict) else content)
        self.call_id = _text(part.get("tool_use_id"))
        self.text = "\n".join(inner.texts)
        self.images = inner.images
        self.is_error = part.get("is_error") is True

    def saved_as(self):
        """The file that holds all of it, where it was too large: below tool-results/
        of the session. "" if it is whole as it is."""
        if "<persisted-output>" not in self.text[:1000]:
            return ""
        match = _SAVED_TO.search(self.text, 0, 10_000)
        if match is None:
            return ""
        return re.split(r"[/\\]", match[1].strip())[-1]


class Said:
    """The parts of a message, each list in their order.

    texts, thoughts: str; images: Image; calls: Call; results: Result. A part of an
    unknown type is a text that names it.
    """

    __slots__ = ("texts", "thoughts", "images", "calls", "results")

    def __init__(self, content):
        self.texts = []
        self.thoughts = []
        self.images = []
        self.calls = []
        self.results = []
        if isinstance(content, str):
            self.texts.append(content)
        elif isinstance(content, list):
            for part in content:
                self._add(part)

    def _add(self, part):
        if not isinstance(part, dict):
            if _text(part):
                self.texts.append(part)
            return
        kind = _text(part.get("type"))
        if kind == "text":
            self.texts.append(_text(part.get("text")))
        elif kind == "thinking":
            self.thoughts.append(_text(part.get("thinking")))
        elif kind == "image":
            source = _table(part.get("source"))
            data = _text(source.get("data"))
            self.images.append(Image(_text(source.get("media_type")), data))
        elif kind.endswith("tool_use"):
            self.calls.append(Call(part))
        elif kind.endswith("tool_result"):
            self.results.append(Result(part))
        elif kind != "redacted_thinking":
            self.texts.append(f"[{kind or 'nothing'}]")


# The arguments of tools that tell most, the most telling first.
_TELLING_ARGUMENTS = (
    "command", "file_path", "notebook_path", "pattern", "query", "url", "path",
    "description", "prompt", "skill", "subject", "text", "message",
)
_SAVED_TO = re.compile(r"saved to: ([^\r\n]{1,4000})")


Edit = namedtuple("Edit", "old new")            # a text, and what took its place
Task = namedtuple("Task", "text state")         # state: pending, in_progress, completed


def edits_in(given):
    """[Edit]: what the input of a call of Edit or MultiEdit changes; [] of another."""
    given = _table(given)
    several = given.get("edits")
    found = []
    for one in several if isinstance(several, list) else [given]:
        one = _table(one)
        old, new = one.get("old_string"), one.get("new_string")
        if isinstance(old, str) and isinstance(new, str):
            found.append(Edit(old, new))
    return found


def tasks_in(given):
    """[Task]: the list that the input of a call of TodoWrite makes; [] of another."""
    listed = _table(given).get("todos")
    found = []
    for one in listed if isinstance(listed, list) else []:
        one = _table(one)
        text = _text(one.get("content"))
        if text:
            found.append(Task(text, _text(one.get("status"))))
    return found


def call_of_agent(value):
    """The id of the call that started a subagent, by what its .meta.json holds; or "".
    """
    return _text(_table(value).get("toolUseId"))


def said_of_agent(value):
    """The agent_type and the description of a subagent, by its .meta.json; as known."""
    fields = _table(value)
    found = {
        "agent_type": _text(fields.get("agentType")),
        "description": _text(fields.get("description")),
    }
    return {name: text for name, text in found.items() if text}


# --- who speaks -----------------------------------------------------------------------

_PERSONS_ORIGINS = ("human", "channel")

# What Claude Code inserts into what a person typed, in a text of its own or around it.
_INSERTED = (
    r"system-reminder|ide_[a-z_]+|new-diagnostics|[a-z-]+-hook|tick|goal|"
    r"local-command-[a-z]+|bash-std(?:out|err)|command-contents|user-memory-input"
)
# What others say in the user's name.
_OTHERS = (
    r"task-notification|(?:teammate|agent|cross-session|peer|coordinator)-message|"
    r"ci-monitor-event|background-task-[a-z]+"
)
_OTHERS_WORDS = (
    "[Request interrupted by user",
    "[Subagent hand-back]",
    "Another Claude session sent a message:",
    "Base directory for this skill:",
    "Caveat: The ",
    "Stop hook feedback:",
    "This session is being continued from a previous conversation",
    "Your claude.ai usage limit has reset",
)
# Of such an element all is a machine's, up to its end; without one, up to the text's.
_INSERTED_AT_START = re.compile(rf"\s*<({_INSERTED})(?:\s[^>]*)?>(?:.*?</\1>|.*)", re.S)
# Who begins so wrote all of it: "Read the output file ..." stands behind some.
_OTHERS_AT_START = re.compile(rf"\s*<(?:{_OTHERS})(?:\s[^>]*)?>")
_REMINDER = "<system-reminder>"
_REMINDER_END = "</system-reminder>"

# What wraps words that a person wrote.
_WRAPPER = re.compile(r"</?(?:channel|pasted_content)(?:\s[^>]*)?>")

_COMMAND = re.compile(r"\s*<command-(?:name|message|args)>")
_COMMAND_NAME = re.compile(r"<command-name>([^<]{1,200})</command-name>")
_COMMAND_ARGS = re.compile(r"<command-args>(.*?)</command-args>", re.S)
_SHELL_COMMAND = re.compile(r"\s*<bash-input>(.*?)</bash-input>\s*", re.S)
_BARE_COMMAND = re.compile(r"/[a-z][\w-]*(?::[\w-]+)*(?:\s|\Z)")


def voices_in(text, is_persons=False):
    """[Voice] in a text of a user's message: user, command and meta, as voices().

    is_persons: the record says that a person wrote it. Looked for is then only what
    Claude Code itself inserts.
    """
    command = _command_in(text)
    if command is not None:
        return [command]
    if not is_persons and text.lstrip().startswith(_OTHERS_WORDS):
        return [Voice("meta", text)]

    before, start = _inserted_before(text)
    if not is_persons and _OTHERS_AT_START.match(text, start):
        return [*before, Voice("meta", text[start:])]
    behind, end = _inserted_behind(text, start)
    words = text[start:end]
    if "<" in words:
        words = _WRAPPER.sub("", words)
    if not words.strip():
        return before + behind
    if words != text:
        words = words.strip()
    is_command = _BARE_COMMAND.match(words.lstrip()) is not None
    return [*before, Voice("command" if is_command else "user", words), *behind]


def _command_in(text):
    """The Voice of a command that was typed, as Claude Code notes it; else None."""
    if _COMMAND.match(text):
        name = _COMMAND_NAME.search(text)
        if name is None:
            return Voice("meta", text)
        words = [name[1].strip()]
        for given in _COMMAND_ARGS.findall(text):
            words.append(given.strip())
        return Voice("command", " ".join(words).strip())
    shell = _SHELL_COMMAND.fullmatch(text)
    if shell is not None:
        return Voice("command", "! " + shell[1].strip())
    return None


def _inserted_before(text):
    """([Voice] of what stands before a person's words, where they begin)."""
    voices = []
    start = 0
    while True:
        match = _INSERTED_AT_START.match(text, start)
        if match is None:
            return voices, start
        start = match.end()
        voices.append(Voice("meta", match[0].strip()))


def _inserted_behind(text, start):
    """([Voice] of what stands behind a person's words, where they end)."""
    voices = []
    end = len(text)
    while text[start:end].rstrip().endswith(_REMINDER_END):
        begin = text.rfind(_REMINDER, start, end)
        if begin < 0:
            break
        voices.insert(0, Voice("meta", text[begin:end].strip()))
        end = begin
    return voices, end


# --- what a session is called ---------------------------------------------------------


def one_line(text):
    """A text on one line, at most TITLE_LENGTH characters of it, fit for any database.
    """
    words = " ".join(text.lstrip()[:1000].replace("\0", " ").split())
    if len(words) > TITLE_LENGTH:
        words = words[:TITLE_LENGTH - 1] + "\u2026"
    return words.encode("utf-8", "replace").decode()


# Types of most records: they say nothing of the session as a whole.
_TALK = frozenset(("user", "assistant", "attachment", "progress", "system"))

# The surest first.
_TITLE_SOURCES = ("custom", "file", "ai", "summary", "prompt", "command")


class Titles:
    """What a session is called, learned from one record after the other.

    known: what was learned so far; it can be written as JSON and handed in again.
    """

    def __init__(self, known=None):
        self.known = known if known is not None else {}

    def take(self, record, is_above, prompts=None):
        """Learn from the next record. is_above(uuid): does such a record stand above?

        prompts: the record's, if they are at hand.
        """
        kind = record.type
        if kind == "user":
            for source, text in record.prompts() if prompts is None else prompts:
                self.known.setdefault(source, text)
        elif kind not in _TALK:
            self._take_title(record, is_above)
        waiting = self.known.get("waiting")
        if waiting and record.uuid in waiting:
            self._settle(waiting.pop(record.uuid))

    def _take_title(self, record, is_above):
        title = record.title
        if title is not None:
            self.known[title.source] = title.text
        summary = record.summary
        if summary is not None:
            self._take_summary(summary, is_above)

    def _take_summary(self, summary, is_above):
        # The last one that is about this transcript counts, wherever that stands.
        number = self.known["summaries"] = self.known.get("summaries", 0) + 1
        if is_above(summary.uuid):
            self._settle([number, summary.text])
            return
        waiting = self.known.setdefault("waiting", {})
        waiting.pop(summary.uuid, None)
        waiting[summary.uuid] = [number, summary.text]
        if len(waiting) > MOST_WAITING:
            del waiting[next(iter(waiting))]

    def _settle(self, numbered):
        if numbered[0] > self.known.get("summary", [0])[0]:
            self.known["summary"] = numbered

    def best(self, beside=""):
        """Title: what it is called, None if there is nothing to call it by.

        source: custom, file, ai, summary, prompt, command. beside is the title in a
        file beside the transcript (title_beside).
        """
        for source in _TITLE_SOURCES:
            text = self.known.get(source)
            if source == "file":
                text = one_line(beside)
            elif source == "summary" and text:
                text = text[1]
            if text:
                return Title(source, text)
        return None


_NAMING = (b'"custom-title"', b'"ai-title"', b'"summary"')
_UUIDS = re.compile(rb'"uuid": ?"([^"]{1,100})"')


def given_title(open_blocks, beside=""):
    """What a session was called, "" if nobody and nothing gave it a name.

    That is the best of its Titles but for what a person typed. Few of its lines are
    parsed. open_blocks: a function that gives the blocks of its transcript from their
    start; it is called twice at most. beside: as in Titles.best().
    """
    titles = Titles()
    for line in TranscriptLines(open_blocks()):
        if _is_short(line) and any(word in line for word in _NAMING):
            for record in load(line).records:
                titles.take(record, _unknown)
    waiting = {uuid.encode() for uuid in titles.known.get("waiting", ())}
    if waiting and not {"custom", "ai"} & titles.known.keys():
        for line in TranscriptLines(open_blocks()):
            if line is None or waiting.isdisjoint(_UUIDS.findall(line)):
                continue
            if _is_short(line):
                for record in load(line).records:
                    if record.summary is None:
                        titles.take(record, _unknown)
    title = titles.best(beside)
    if title is None or title.source in ("prompt", "command"):
        return ""
    return title.text


def _is_short(line):
    """Is it no longer than any line that names a session?"""
    return line is not None and len(line) <= LONG_LINE


def _unknown(uuid):
    return False


def title_beside(root, transcript_path, session_id):
    """The title that a file beside a transcript gives to its session, else ""."""
    folder = transcript_path.removesuffix(".jsonl")
    for path in (
        f"{folder}/custom-title.json",
        f"{root}/session-states/{session_id}.json",
    ):
        try:
            title = title_in(read_json(path))
        except (OSError, ValueError):
            continue
        if title:
            return title
    return ""


def title_in(value):
    """The title in such a file, whose value of JSON this is, else ""."""
    for name in ("customTitle", "current_name"):
        title = _text(_table(value).get(name))
        if title:
            return title
    return ""


# --- where a session came from, and where it went -------------------------------------


class Lineage:
    """Where a session came from and where it goes on, learned record by record.

    known can be written as JSON and handed in again; it has, if there is any

    parent_session_id  the session that it was forked from, or goes on with
    first_uuid         of its first message: copies of one session have the same
    continued_in       the session that goes on with it
    relocated_to       the folder that it goes on in
    ended_by_model     True: Claude Code does not resume it
    """

    def __init__(self, session_id, known=None):
        self.known = known if known is not None else {}
        self._own = key_of(session_id)

    def take(self, record):
        """Learn from the next record."""
        known = self.known
        if record.uuid:
            self._take_parent(record)
        if record.type in _TALK:
            if record.uuid and record.type in ("user", "assistant"):
                known.setdefault("first_uuid", record.uuid[:36])
            return
        if record.continued_in and self._is_other(record.continued_in):
            known["continued_in"] = record.continued_in
        if record.relocated_to:
            known["relocated_to"] = record.relocated_to
        if record.ended_by_model:
            known["ended_by_model"] = True

    def _take_parent(self, record):
        # The surest first: a copied answer names the session that asked for it. What a
        # fork says may be inherited, and names its grandparent then. Older versions
        # began with records of the session before.
        known = self.known
        fields = record.fields
        if record.type == "assistant" and "requestSessionId" in fields:
            if self._is_other(record.requested_by):
                known["parent_session_id"] = record.requested_by
                known["parent_by"] = "request"
        if known.get("own") and "forkedFrom" not in fields:
            return
        by = known.get("parent_by")
        if by != "request" and self._is_other(record.forked_from):
            known["parent_session_id"] = record.forked_from
            known["parent_by"] = "fork"
        elif by in (None, "start") and not known.get("own"):
            if key_of(record.session_id) == self._own:
                known["own"] = True
            elif self._is_other(record.session_id):
                known["parent_session_id"] = record.session_id
                known["parent_by"] = "start"

    def _is_other(self, session_id):
        return is_id(session_id) and key_of(session_id) != self._own


# --- times ----------------------------------------------------------------------------

_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)"
    r"(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?\s*(Z|[+-]\d\d:?\d\d)?)?",
    re.ASCII,
)
# As nearly all are, and as they shall be: for this a look is enough.
_USUAL_TIME = re.compile(
    r"(?!0000)\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|1\d|2[0-8])"
    r"T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d\.\d{3}Z",
    re.ASCII,
)
_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def utc_of(value):
    """A time as a record has it in RFC 3339, UTC, with three digits; "" if it is none.

    As Claude Code reads it: milliseconds since 1970, a date (in UTC), a time with a
    zone or without one (the machine's), a date as in a mail.
    """
    if isinstance(value, str):
        if _USUAL_TIME.fullmatch(value):
            return value
        match = _TIME.fullmatch(value)
        if match is None:
            return _utc_of_mail(value)
        if match[8] == "Z" and _is_usual(match):
            fraction = (match[7] or "")[:3].ljust(3, "0")
            return f"{value[:10]}T{value[11:19]}.{fraction}Z"
        return _utc_of_parts(match)
    if type(value) in (int, float) and abs(value) < 1e15:
        return _utc_of_seconds(value / 1000)
    return ""


def _is_usual(match):
    """Is it a time of a day that there is, to the second?"""
    if match[6] is None or not "0001" <= match[1]:
        return False
    month = int(match[2])
    if not 1 <= month <= 12 or not 1 <= int(match[3]) <= _DAYS[month - 1]:
        return False
    if match[2] == "02" and match[3] == "29":
        return False            # not in each year
    return match[4] < "24" and match[5] < "60" and match[6] < "60"


def _utc_of_parts(match):
    from datetime import datetime

    date = f"{match[1]}-{match[2]}-{match[3]}"
    seconds = match[6] or "00"
    try:
        time = datetime.fromisoformat(date)
        if match[4] is not None:
            clock = f"{match[4]}:{match[5]}:{seconds}"
            time = datetime.fromisoformat(f"{date}T{clock}")
        zone = match[8]
        if zone == "Z" or match[4] is None:
            time = datetime.fromisoformat(time.isoformat() + "+00:00")
        elif zone:
            time = datetime.fromisoformat(f"{time.isoformat()}{zone[:3]}:{zone[-2:]}")
        seconds = int(time.timestamp())
    except (ValueError, OverflowError, OSError):
        return ""
    if not _FIRST_SECOND <= seconds <= _LAST_SECOND:
        return ""
    fraction = (match[7] or "")[:3].ljust(3, "0")
    return f"{utc(seconds)[:-1]}.{fraction}Z"


def _utc_of_mail(text):
    from email.utils import parsedate_to_datetime

    try:
        return _utc_of_seconds(parsedate_to_datetime(text).timestamp())
    except (ValueError, TypeError, IndexError, OverflowError, OSError):
        return ""


_FIRST_SECOND = -30_610_224_000         # the year 1000
_LAST_SECOND = 253_402_300_799          # the end of 9999


def _utc_of_seconds(seconds):
    if not _FIRST_SECOND <= seconds <= _LAST_SECOND:
        return ""
    thousandths = int(seconds * 1000 // 1)
    return f"{utc(thousandths // 1000)[:-1]}.{thousandths % 1000:03d}Z"
