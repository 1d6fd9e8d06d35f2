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

from csb import FIRST_SECOND, LAST_SECOND, utc
from csb.places import read_json
from csb.session import is_id, key_of, when_and_title

LONGEST_LINE = 8 << 20          # bytes; a longer line is never held as it is
LONG_LINE = 1 << 20             # bytes; a longer line is shortened to be parsed
TEXT_PARSED = 2 << 20           # bytes of all texts of such a line together; half as
                                # many if they have emoji or CJK, which take more memory
SHORT_TEXT = 64                 # bytes that are kept of each text in any case
SHORT_DATA = 4096               # bytes of an encoded picture, above LONGEST_LINE
MOST_VALUES = 1 << 18           # in a long line: a value of two bytes takes 80
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
Title = namedtuple("Title", "source text")              # source: as Titles.best()
Usage = namedtuple("Usage", "message_id tokens")


# --- lines ----------------------------------------------------------------------------


class TranscriptLines:
    """The lines of a transcript (a stream of blocks of bytes), without their ends.

    offset and end say where the present line begins and where the next one does;
    complete is False for what follows the last newline. A line above LONGEST_LINE
    comes shortened, see shortened_line(). If even that is too large it comes as None.
    """

    def __init__(self, blocks, offset=0):
        self.offset = offset
        self.end = offset
        self.complete = True
        self._blocks = blocks
        self._held = []             # parts of the present line; None: it is too large
        self._length = 0            # bytes of it in the file, so far

    def __iter__(self):
        for block in self._blocks:
            *ended, rest = block.split(b"\n")
            for part in ended:
                self.offset = self.end
                self.end += self._length + len(part) + 1
                if self._length or len(part) > LONGEST_LINE:
                    self._hold(part)
                    yield self._taken()
                else:
                    yield part      # as most do
            self._hold(rest)
        if self._length:
            self.offset = self.end
            self.end += self._length
            self.complete = False
            yield self._taken()

    def _hold(self, part):
        self._length += len(part)
        if part and self._held is not None:
            self._held.append(part)
            if sum(map(len, self._held)) > LONGEST_LINE:
                self._shorten()

    def _shorten(self):
        line = shortened_line(b"".join(self._held), SHORT_DATA)
        self._held = None
        if line is not None and len(line) <= LONGEST_LINE // 2:
            self._held = [line]

    def _taken(self):
        """The line, which is not held here any more."""
        if self._held and self._length > LONGEST_LINE:
            self._shorten()
        line = self._held and b"".join(self._held)
        self._held = []
        self._length = 0
        return line


_UP_TO_QUOTE = re.compile(rb'[^"]*"?')
_ENCODED = re.compile(rb"[A-Za-z0-9+/=_-]*")
_WIDE = re.compile(rb"[\xe3-\xf4]|\\u[3-9a-dA-D]")         # from U+3000 on
_CUT = b" [the rest is left out]"
_HALF_ESCAPE = re.compile(rb"\\(?:u[0-9a-fA-F]{0,3})?\Z")


def shortened_line(line, most_data, part=None):
    """A line of JSON, or its beginning, with its long texts cut, which say so.

    A text may take half of the room that is left for all of them: what follows a long
    one may be what a person typed. Of one that has nothing but the characters of
    base64 most_data bytes are kept. None if the line has more values than memory holds.

    part: a range of bytes of the line. Then of a long text its start is kept, which
    says whose it is, and what lies in the range.
    """
    # As long as it, and its quotes all begin or end a text.
    flat = line.replace(b"\\\\", b"\\_").replace(b'\\"', b"\\_")
    kept = bytearray()
    room = TEXT_PARSED
    values = 0
    is_text = False
    for match in _UP_TO_QUOTE.finditer(flat):
        start, end = match.span()
        if not is_text:
            values += sum(flat.count(mark, start, end) for mark in (b"[", b"{", b","))
            if values > MOST_VALUES:
                return None
        elif end - start > SHORT_TEXT:
            text_end = end - flat.endswith(b'"', start, end)
            most = most_data
            mark = b""
            if part:
                most = SHORT_TEXT
                first = start + most
                if first < part.start:
                    mark = b"\\n"
                    first = part.start
                last = _before_half_escape(flat, min(part.stop, text_end))
                mark += line[_before_half_escape(flat, first):last]
            elif not _ENCODED.fullmatch(flat, start, text_end):
                weight = 2 if _WIDE.search(flat, start, text_end) else 1
                most = max(SHORT_TEXT, room // 2 // weight)
                mark = _CUT
                room -= min(most, text_end - start) * weight
            if text_end - start > most:
                cut = _before_half_escape(flat, start + most)
                before = flat.find(_CUT, cut - 5, cut + len(_CUT))
                if before >= 0:
                    cut = before        # as in the line's beginning, which was longer
                kept += line[start:cut] + mark
                start = _before_half_escape(flat, text_end)
        kept += line[start:end]
        is_text = not is_text
    return kept


def _before_half_escape(flat, end):
    half = _HALF_ESCAPE.search(flat, max(0, end - 5), end)
    return half.start() if half else end


def may_be_talk(line):
    """May a line hold what people said, or a title? By its bytes: it is parsed if so.
    """
    if b'"content":[{' in line and b'"text":' not in line:
        # What tools were given, and answered: most of a transcript. In it a person
        # speaks only where Claude has asked a question.
        return b"the user said:" in line or b"User has answered" in line
    return any(word in line for word in _OF_TALK)


_OF_TALK = (
    b'"user"', b'"assistant"', b'"queued_command"', b'"enqueue"', b'-title"',
)


# --- records --------------------------------------------------------------------------

_MESSAGES = ("user", "assistant")           # types of the records that hold messages
# Types of what stands in the content of a message.
_PARTS = ("text", "thinking", "image", "document", "tool_use", "tool_result")

_AROUND = "\ufeff \t\r\n"                   # what may stand around a record: a BOM, too
_NOT_ASCII = re.compile(rb"[\x80-\xff]+")
_PIECE = re.compile(rb".{1,65536}[\x80-\xbf]*", re.S)      # tears no character

_decode = json.JSONDecoder().raw_decode


def load(line):
    """The records in a line, and whether the line is damaged: Loaded.

    A line is one record; but a whole record that follows a cut one, or NULs, is found
    as well. None, as a line that is too large: no record. Blank: none, and no damage.
    """
    if line is None:
        return Loaded([], True)
    if len(line) > LONG_LINE:
        line = _bearable(line)
    # What is no UTF-8 becomes U+FFFD, as Claude Code reads it.
    text = line.decode("utf-8", "replace").strip(_AROUND)
    if not text:
        return Loaded([], False)
    try:
        value, end = _decode(text)
        if end == len(text) and type(value) is dict:
            return Loaded([Record(value)], False)
    except (ValueError, RecursionError):
        pass
    return Loaded(_records_within(text.strip("\0" + _AROUND)), True)


def all_records(blocks):
    """Yield the records of a transcript (blocks of bytes)."""
    for line in TranscriptLines(blocks):
        yield from load(line).records


def _bearable(line):
    """A long line with as much text as little memory can hold, and in ASCII: one emoji
    would make all of it four times as large. b"?" if it has too many values.
    """
    line = shortened_line(line, LONGEST_LINE)
    if line is None or line.isascii():
        return line or b"?"
    whole = bytearray()
    for piece in _PIECE.finditer(line):
        whole += _NOT_ASCII.sub(_as_escapes, piece[0])
    return whole


def _as_escapes(match):
    return json.dumps(match[0].decode("utf-8", "replace"))[1:-1].encode()


def _records_within(text):
    found = []
    at = text.find('{"')
    for _ in range(MOST_TRIES):
        if at < 0:
            break
        end = at + 2
        try:
            value, end = _decode(text, at)
        except (ValueError, RecursionError):
            value = None
        if type(value) is dict and _is_whole(value, at == 0 or end == len(text)):
            found.append(Record(value))
        at = text.find('{"', end)
    return found


def _is_whole(value, is_at_an_end):
    """Is an object a record, and not a part of one?

    is_at_an_end: the line begins or ends with it.
    """
    kind = _text(value.get("type"))
    if not kind or kind in _PARTS:
        return False
    if "sessionId" in value or "leafUuid" in value:
        return True
    # What a subagent said stands within a record on how far it has come, too.
    return is_at_an_end and "parentToolUseID" not in value


def _text(value):
    """A text that may be anything else."""
    return value if isinstance(value, str) else ""


def _table(value):
    """An object that may be anything else."""
    return value if isinstance(value, dict) else {}


def _field(outer, *names):
    """A property of a Record: the text in a field, or in one of what stands in a field;
    "" if there is none."""

    def text_of(record):
        value = record.fields.get(outer)
        for name in names:
            value = _table(value).get(name)
        return value if type(value) is str else ""

    return property(text_of)


def _flag(name):
    """A property of a Record: does a field say yes?"""
    return property(lambda record: bool(record.fields.get(name)))


class Record:
    """One record of a transcript. A text that it has not is "", another value None.

    fields: as parsed, for who needs it whole. type: user, assistant, system,
    attachment, custom-title ... message: the object that stands in it, {} if none does.
    """

    __slots__ = ("fields", "type", "uuid", "cwd", "message")

    def __init__(self, fields):
        self.fields = fields
        self.type = _text(fields.get("type"))
        self.uuid = _text(fields.get("uuid"))
        self.cwd = _text(fields.get("cwd"))
        self.message = _table(fields.get("message"))

    # Of the answer that it is a part of: one is written as several records.
    message_id = _field("message", "id")
    parent_uuid = _field("parentUuid")
    # The session that it was written in. A fork's copies may name another one.
    session_id = _field("sessionId")
    agent_id = _field("agentId")            # the subagent that it belongs to
    version = _field("version")             # of Claude Code
    # The session that it was copied from, and the one whose request a copied answer
    # was to.
    forked_from = _field("forkedFrom", "sessionId")
    requested_by = _field("requestSessionId")
    # The subagent whose answer the tool's result in it is.
    answering_agent = _field("toolUseResult", "agentId")
    # The session that the talk goes on in, and the folder.
    continued_in = _field("continuedInSessionId")
    relocated_to = _field("relocatedCwd")

    # Does it belong to the talk of a subagent, in the session's own transcript? Is it
    # Claude Code's, in the user's name? Does it stand for what was compacted?
    is_sidechain = _flag("isSidechain")
    is_meta = _flag("isMeta")
    is_summary = _flag("isCompactSummary")

    @property
    def follows(self):
        """The uuid of the record before it in the talk, across a compaction, too."""
        return self.parent_uuid or _text(self.fields.get("logicalParentUuid"))

    @property
    def original_uuid(self):
        """The uuid of the record that it is a copy of; its own if it is none."""
        source = _table(self.fields.get("forkedFrom"))
        return _text(source.get("messageUuid")) or self.uuid

    @property
    def time(self):
        """When it was written, in RFC 3339 with three digits; "" if that is unknown."""
        return utc_of(self.fields.get("timestamp"))

    @property
    def setting(self):
        """What says where it was written, and by what: of a value to be compared."""
        fields = self.fields
        return self.cwd, fields.get("version"), fields.get("gitBranch")

    @property
    def git_branch(self):
        branch = _text(self.fields.get("gitBranch"))
        return "" if branch == "HEAD" else branch

    @property
    def model(self):
        """The model that answered, "" for what Claude Code said in its place."""
        if self.type != "assistant":
            return ""
        model = _text(self.message.get("model"))
        return "" if model == "<synthetic>" else model

    @property
    def pr_link(self):
        """The URL of a pull request that the session made."""
        url = _text(self.fields.get("prUrl"))
        return one_line(url) if url.startswith("http") else ""

    @property
    def is_sound(self):
        """Has what we rely on the right type, if it is there?"""
        fields = self.fields
        if not (self.type and self.uuid and self.cwd):
            for name in ("type", "uuid", "cwd"):
                if not isinstance(fields.get(name, ""), (str, type(None))):
                    return False
        if self.type not in _MESSAGES:
            return True
        content = self.message.get("content", "")
        return isinstance(fields.get("message"), dict) and isinstance(
            content, (str, list)
        )

    @property
    def is_message(self):
        """Is it part of the talk of the user, or of a tool, with the model?"""
        if self.type not in _MESSAGES:
            return False
        fields = self.fields
        return not (fields.get("isMeta") or fields.get("isSidechain"))

    @property
    def usage(self):
        """Usage: what its answer has cost so far, None if it does not say.

        tokens: {input output cache_read cache_write}. The last record of an answer
        counts, not the sum of them.
        """
        usage = self.message.get("usage")
        if self.type != "assistant" or not isinstance(usage, dict):
            return None
        tokens = {}
        for name, field in _TOKENS:
            count = usage.get(field)
            if type(count) is not int or not 0 <= count < 1 << 50:
                count = 0
            tokens[name] = count
        return Usage(self.message_id, tokens)

    # What it holds.

    @property
    def said(self):
        """Said: the parts of the message in it, None if it holds none."""
        content = self._content()
        return None if content is None else Said(content)

    def _content(self):
        fields = self.fields
        kind = self.type
        if kind in _MESSAGES:
            return self.message.get("content", "")
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
        content = self.message.get("content")
        return [Call(part) for part in _parts_of(content, "tool_use")]

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
        texts = [text for text in said.texts if text.strip()]
        role = self._role()
        if role:
            return [Voice(role, text) for text in texts]
        voices = []
        for text in texts:
            voices += voices_in(text, self._is_persons())
        return voices

    def _role(self):
        """The one who says all that is in it, "" if that depends on the text."""
        if self.type in ("assistant", "system"):
            return self.type
        if self.is_summary:
            return "summary"
        if self.is_meta or self._is_persons() is False:
            return "meta"
        return ""

    def _is_persons(self):
        """Did a person write a user's message, by its fields? None if unknown."""
        for fields in (_table(self.fields.get("attachment")), self.fields):
            kind = _text(_table(fields.get("origin")).get("kind"))
            if kind:
                return kind in _PERSONS_ORIGINS
            if fields.get("commandMode") == "task-notification":
                return False
        source = _text(self.fields.get("promptSource"))
        if source:
            return source != "system"
        if self.fields.get("rowSource") == "harness":
            return False
        return None

    def prompts(self):
        """[(source, text)]: what a person typed in a message, each on one line.

        source is "prompt", "command" for a slash command, or "picture" for one without
        a word. A message that holds a tool's result holds no prompt; nor is a document
        one, which stands beside it.
        """
        found = []
        if self.type != "user" or _parts_of(self.message.get("content"), "tool_result"):
            return found
        said = self.said
        if said is None or not self.is_message or self.is_summary:
            return found
        for voice in self.voices(said):
            line = one_line(voice.text)
            if line and voice.role in _SOURCES and voice.text not in said.others:
                found.append((_SOURCES[voice.role], line))
        if not found and said.images and self._role() != "meta":
            found.append(("picture", "(a picture)"))
        return found

    @property
    def queued(self):
        """[Voice] of a person who typed while the model was at work.

        Most of it is said soon after, in a message of its own.
        """
        fields = self.fields
        if self.type != "queue-operation" or fields.get("operation") != "enqueue":
            return []
        found = []
        for text in Said(fields.get("content")).texts:
            if not text.startswith('{"'):       # else it is what a task has to tell
                found += voices_in(text)
        return [voice for voice in found if voice.role in _SOURCES]


# What a person typed, by the role of a Voice, and what it counts as for a title.
_SOURCES = {"user": "prompt", "command": "command"}
_TOKENS = (
    ("input", "input_tokens"),
    ("output", "output_tokens"),
    ("cache_read", "cache_read_input_tokens"),
    ("cache_write", "cache_creation_input_tokens"),
)


# --- what a message holds -------------------------------------------------------------


def _parts_of(content, ending):
    """The parts of what a message holds whose type ends so."""
    found = []
    if isinstance(content, list):
        for part in content:
            if isinstance(part, dict) and _text(part.get("type")).endswith(ending):
                found.append(part)
    return found


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


# The arguments of tools that tell most, the most telling first.
_TELLING_ARGUMENTS = (
    "command", "file_path", "notebook_path", "pattern", "query", "url", "path",
    "description", "prompt", "skill", "subject", "text", "message",
)


class Result:
    """What a tool answered."""

    __slots__ = ("call_id", "text", "images", "is_error")

    def __init__(self, part):
        content = part.get("content")
        content = [content] if isinstance(content, dict) else content
        inner = Said(content, is_inner=True)
        self.call_id = _text(part.get("tool_use_id"))
        self.text = "\n".join(inner.texts)
        self.images = inner.images
        self.is_error = part.get("is_error") is True

    @property
    def persons_words(self):
        """What a person typed who refused the call, or whom it asked; "" if nothing."""
        if self.text.startswith(_ANSWERED):
            return self.text
        _, is_said, words = self.text.partition(_REFUSED)
        return words.strip() if is_said and self.is_error else ""

    def saved_as(self):
        """The file that holds all of it, where it was too large: below tool-results/
        of the session. "" if it is whole as it is."""
        if "<persisted-output>" not in self.text[:1000]:
            return ""
        match = re.search(_SAVED_TO, self.text[:10_000])
        if match is None:
            return ""
        return re.split(r"[/\\]", match[1].strip())[-1]


_ANSWERED = "User has answered your questions: "
_REFUSED = "To tell you how to proceed, the user said:\n"
_SAVED_TO = r"saved to: ([^\r\n]{1,4000})"


class Said:
    """The parts of a message, each list in their order.

    texts, thoughts: str; images: Image; calls: Call; results: Result. A part of an
    unknown type is a text that names it; in others as well.
    """

    __slots__ = ("texts", "thoughts", "images", "calls", "results", "others")

    def __init__(self, content, is_inner=False):
        self.texts = []
        self.thoughts = []
        self.images = []
        self.calls = []
        self.results = []
        self.others = []
        if isinstance(content, str):
            self.texts.append(content)
        elif isinstance(content, list):
            for part in content:
                if isinstance(part, dict):
                    self._add(part, is_inner)

    def _add(self, part, is_inner):
        kind = _text(part.get("type"))
        if kind == "text":
            self.texts.append(_text(part.get("text")))
        elif kind == "thinking":
            self.thoughts.append(_text(part.get("thinking")))
        elif kind == "image":
            source = _table(part.get("source"))
            data = _text(source.get("data"))
            self.images.append(Image(_text(source.get("media_type")), data))
        # Calls and results within a result are none, however deep they go.
        elif kind.endswith("tool_use") and not is_inner:
            self.calls.append(Call(part))
        elif kind.endswith("tool_result") and not is_inner:
            self.results.append(Result(part))
        elif kind != "redacted_thinking":
            self.others.append(_named(kind, part))
            self.texts.append(self.others[-1])


def _named(kind, part):
    """What stands for a part of an unknown type: what it is, and what it says."""
    words = [f"[{kind or '?'}]"]
    texts = _parts_of(part.get("content"), "text")
    for one in (part, _table(part.get("resource")), *texts):
        for name in ("title", "url", "uri", "source", "tool_name", "text", "content"):
            words.append(_text(one.get(name)))
    source = _table(part.get("source"))
    if source.get("type") == "text":        # else it is encoded
        words.append(_text(source.get("data")))
    return " ".join(filter(str.strip, words))


Edit = namedtuple("Edit", "old new")            # a text, and what took its place
Task = namedtuple("Task", "text state")         # state: pending, in_progress, completed


def edit_in(given):
    """The Edit that the input of a call of Edit makes, None of another."""
    given = _table(given)
    old, new = given.get("old_string"), given.get("new_string")
    if isinstance(old, str) and isinstance(new, str):
        return Edit(old, new)
    return None


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
# Of such an element all is a machine's, up to its end; without one, up to the text's.
_INSERTED_BEFORE = re.compile(
    rf"\s*<({_INSERTED})(?:\s[^>]*)?>(?:.*?</\1>|.*)", re.S
)
_REMINDER = "<system-reminder>"
_REMINDER_END = "</system-reminder>"

# What others say in the user's name. Who begins so wrote all of it: "Read the output
# file ..." stands behind some.
_OTHERS = (
    r"task-notification|(?:teammate|agent|cross-session|peer|coordinator)-message|"
    r"ci-monitor-event|background-task-[a-z]+|fork-boilerplate|"
    r"mcp-(?:resource|polling)-update"
)
_HOOKS = (
    r"(?:Pre|Post)(?:ToolUse\w*|Compact)|UserPromptSubmit|Session\w+|(?:Subagent)?Stop"
)
_OTHERS_WORDS = re.compile(
    rf"\s*(?:<(?:{_OTHERS})(?:\s[^>]*)?>|[A-Z][A-Za-z]+(?::\S+)? hook feedback:|"
    rf"(?:{_HOOKS})(?::\S+)? hook (?:success|additional context|(?:\S+ )?error)|"
    r"\[Request interrupted by user|\[Subagent hand-back\]|Caveat: The |"
    r"Another Claude session sent a message:|Base directory for this skill:|"
    r"This session is being continued from a previous conversation|"
    r"Your claude\.ai usage limit has reset)"
)

# What wraps words that a person wrote.
_WRAPPER = re.compile(r"</?(?:channel(?:-message)?|pasted_content)(?:\s[^<>]*)?>")

_COMMAND = re.compile(r"\s*<command-(?:name|message|args)>")
_SHELL_COMMAND = re.compile(r"\s*<bash-input>(.*?)</bash-input>\s*", re.S)
_BARE_COMMAND = re.compile(r"/[a-z][\w-]*(?::[\w-]+)*(?:\s|\Z)")


def voices_in(text, is_persons=False):
    """[Voice] in a text of a user's message: user, command and meta, as voices().

    is_persons: the record says that a person wrote it. Looked for is then only what
    Claude Code itself inserts.
    """
    if _COMMAND.match(text):
        words = [_in_element(text, f"command-{part}") for part in ("name", "args")]
        if any(words):
            return [Voice("command", " ".join(words).strip())]
        return [Voice("meta", text)]
    shell = _SHELL_COMMAND.fullmatch(text)
    if shell:
        return [Voice("command", "! " + shell[1].strip())]

    start = 0
    inserted = _INSERTED_BEFORE.match(text)
    while inserted:
        start = inserted.end()
        inserted = _INSERTED_BEFORE.match(text, start)
    if not is_persons and _OTHERS_WORDS.match(text, start):
        return [Voice("meta", text)]
    end = len(text)
    begin = end
    while begin >= 0:
        end = begin
        last = end              # of what is not blank; there may be many reminders
        while last > start and text[last - 1].isspace():
            last -= 1
        begin = -1
        if text.endswith(_REMINDER_END, start, last):
            begin = text.rfind(_REMINDER, start, last)
    words = text[start:end]
    if "<" in words:
        words = _WRAPPER.sub("", words)
    words = words.strip()
    role = "command" if _BARE_COMMAND.match(words) else "user"
    voices = [
        Voice("meta", text[:start].strip()),
        Voice(role, words),
        Voice("meta", text[end:].strip()),
    ]
    return [voice for voice in voices if voice.text]


def _in_element(text, tag):
    """What stands in the first element of a kind; "" if there is none, or no end."""
    # A regular expression would look for an end from each start on.
    _, _, rest = text.partition(f"<{tag}>")
    words, end, _ = rest.partition(f"</{tag}>")
    return words.strip() if end else ""


# --- ids ------------------------------------------------------------------------------

# Below 2^61, and no neighbour of a power of 2: ids that differ in a digit or two shall
# not have the same number.
LARGE_PRIME = 1618033988749894853


def id_number(text):
    """A number below 2^61 for an id, at little cost."""
    data = text.encode("utf-8", "surrogatepass")
    return int.from_bytes(data, "big") % LARGE_PRIME


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
_TITLE_SOURCES = (
    "custom", "file", "ai", "summary", "prompt", "queued", "command", "picture",
)
# What is known beside these, and what it counts as.
_SHOWN_AS = {"queued": "prompt", "picture": "prompt"}
# {type of a record that gives a title: (source, field)}.
_TITLES = {"custom-title": ("custom", "customTitle"), "ai-title": ("ai", "aiTitle")}


class Titles:
    """What a session is called, learned from one record after the other.

    known: what was learned so far; it can be written as JSON and handed in again. It
    has the last text of a source, the first of what was typed; waiting: summaries by
    the uuid that they are about. is_above(uuid): does such a record stand above?
    """

    def __init__(self, known=None, is_above=None):
        self.known = known if known is not None else {}
        self._is_above = is_above

    def take(self, record):
        """Learn from the next record; did a person type a prompt in it?"""
        kind = record.type
        is_prompt = False
        if kind == "user":
            for source, text in record.prompts():
                is_prompt = is_prompt or source != "command"
                self.known.setdefault(source, text)
        elif kind in ("attachment", "queue-operation"):
            for role, text in record.queued or record.voices():
                if role == "user" and one_line(text):
                    self.known.setdefault("queued", one_line(text))
        elif kind in _TITLES:
            source, field = _TITLES[kind]
            if isinstance(record.fields.get(field), str):
                self.known[source] = one_line(record.fields[field])
        elif kind == "summary":
            self._take_summary(record.fields)
        # A summary may stand above the record that it is about.
        waiting = self.known.get("waiting")
        if waiting and record.uuid in waiting:
            self.known["summary"] = waiting.pop(record.uuid)
        return is_prompt

    def _take_summary(self, fields):
        # Most of them are about other transcripts.
        uuid = _text(fields.get("leafUuid"))
        text = one_line(_text(fields.get("summary")))
        if self._is_above and self._is_above(uuid):
            self.known["summary"] = text
        elif uuid and text:
            waiting = self.known.setdefault("waiting", {})
            waiting[uuid] = text
            if len(waiting) > MOST_WAITING:
                del waiting[next(iter(waiting))]

    def awaits(self, uuids):
        """Is a summary about one of the records with these uuids, in bytes?"""
        waiting = self.known.get("waiting", ())
        return any(uuid.decode("utf-8", "replace") in waiting for uuid in uuids)

    def best(self, beside=""):
        """Title: what it is called, None if there is nothing to call it by.

        source: custom, file, ai, summary, prompt, command. beside is the title in a
        file beside the transcript (title_beside).
        """
        found = {**self.known, "file": one_line(beside)}
        for source in _TITLE_SOURCES:
            if found.get(source):
                return Title(_SHOWN_AS.get(source, source), found[source])
        return None


_NAMING = re.compile(rb'"(?:custom-title|ai-title|summary)"')
_UUID = re.compile(rb'"uuid": ?"([^"]{1,100})"')
_TIMESTAMP = re.compile(rb'"timestamp": ?"([^"]{1,100})"')


def given_title(open_blocks, beside=""):
    """What a session was called, "" if nobody and nothing gave it a name.

    That is the best of its Titles but for what a person typed. open_blocks: a function
    that gives the blocks of its transcript. beside: as in Titles.best().
    """
    title = _skimmed(open_blocks())[0].best(beside)
    if title is None or title.source in _SOURCES.values():
        return ""
    return title.text


def when_and_title_in(blocks):
    """when_and_title() of a transcript, for a person who has to choose one."""
    titles, last = _skimmed(blocks)
    title = titles.best()
    return when_and_title(last, title and title.text)


def _skimmed(blocks):
    """(Titles, the last time) of a transcript, few lines of which are parsed: those
    that name it, those that a summary is about, and those up to the first prompt."""
    above = set()               # hashes of the uuids of records
    titles = Titles({}, lambda uuid: hash(uuid.encode()) in above)
    timed = b""
    for line in TranscriptLines(blocks):
        if line is None or len(line) > LONG_LINE:
            continue            # none of these names it
        uuids = _UUID.findall(line)
        may_name = _NAMING.search(line) or titles.awaits(uuids)
        if may_name or "prompt" not in titles.known and may_be_talk(line):
            for record in load(line).records:
                titles.take(record)
        above.update(map(hash, uuids))
        if b'"timestamp"' in line:
            timed = line
    times = _TIMESTAMP.findall(timed) or [b""]
    return titles, times[-1].decode("utf-8", "replace")


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
    fields = _table(value)
    return _text(fields.get("customTitle")) or _text(fields.get("current_name"))


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
        fields = record.fields
        if record.uuid:
            is_copy = "forkedFrom" in fields or "requestSessionId" in fields
            if is_copy or "own" not in known:       # as hardly any
                self._take_parent(record)
            if "first_uuid" not in known and record.type in _MESSAGES:
                known["first_uuid"] = record.uuid[:36]
        if record.type in _TALK:
            return
        if self._is_other(record.continued_in):
            known["continued_in"] = record.continued_in
        if record.relocated_to:
            known["relocated_to"] = record.relocated_to
        if record.type == "ended-by-model":
            known["ended_by_model"] = True

    def _take_parent(self, record):
        # The surest first: a copied answer names the session that asked for it. What a
        # fork says may be inherited, and names its grandparent then. Older versions
        # began with records of the session before.
        known = self.known
        asker = record.requested_by
        if asker and record.type == "assistant" and self._is_other(asker):
            self._note(asker, "request")
        source = record.forked_from
        if source and known.get("parent_by") != "request" and self._is_other(source):
            self._note(source, "fork")
        elif not known.get("own") and known.get("parent_by") in (None, "start"):
            if key_of(record.session_id) == self._own:
                known["own"] = True
            elif self._is_other(record.session_id):
                self._note(record.session_id, "start")

    def _note(self, session_id, by):
        self.known["parent_session_id"] = session_id
        self.known["parent_by"] = by

    def _is_other(self, session_id):
        return is_id(session_id) and key_of(session_id) != self._own


# --- times ----------------------------------------------------------------------------

# Few need it: it is compiled when one does.
_TIME = (
    r"(\d{4}-\d\d-\d\d)"
    r"(?:[T ](\d\d:\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?\s*(Z|[+-]\d\d:?\d\d)?)?"
)
# As nearly all are, and as they shall be: for this a look is enough.
_USUAL_TIME = re.compile(
    r"(?!0000)\d{4}-(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1\d|2[0-8])"
    r"|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)"
    r"T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d\.\d{3}Z",
    re.ASCII,
)


def utc_of(value):
    """A time as a record has it in RFC 3339, UTC, with three digits; "" if it is none.

    As Claude Code reads it: milliseconds since 1970, a date (in UTC), a time with a
    zone or without one (the machine's), a date as in a mail.
    """
    if isinstance(value, str):
        if _USUAL_TIME.fullmatch(value):
            return value
        value = _thousandths_of(value)
    if type(value) not in (int, float) or not abs(value) < 1e15:
        return ""
    seconds, thousandths = divmod(int(value // 1), 1000)
    if not FIRST_SECOND <= seconds <= LAST_SECOND:
        return ""
    return f"{utc(seconds)[:-1]}.{thousandths:03d}Z"


def _thousandths_of(text):
    """Milliseconds since 1970 of a date or time, None if it is none."""
    from datetime import datetime

    match = re.fullmatch(_TIME, text, re.ASCII)
    try:
        if match is None:
            from email.utils import parsedate_to_datetime

            return int(parsedate_to_datetime(text).timestamp()) * 1000
        day, minute, second, fraction, zone = match.groups()
        if minute is None or zone == "Z":
            zone = "+00:00"
        elif zone:
            zone = f"{zone[:3]}:{zone[-2:]}"
        iso = f"{day}T{minute or '00:00'}:{second or '00'}{zone or ''}"
        seconds = int(datetime.fromisoformat(iso).timestamp())
    except (TypeError, ValueError, IndexError, OverflowError, OSError):
        return None
    return seconds * 1000 + int((fraction or "")[:3].ljust(3, "0"))
