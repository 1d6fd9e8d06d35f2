"""a session as it is read: its records in order, each once, with those of its subagents

    for part in parts_of(found):        # a Found of csb.locate
        a ReadLine      a record of a transcript
        a Speaker   the next lines are those of a subagent, or of the session again
        a Gap       lines that could not be read, or not whole

What a subagent said follows the message whose tool call started it. What stands in a
session twice, by uuid, comes once.
"""
import re
from collections import deque, namedtuple

from csb import Error, encode, printable, say, warn, why
from csb.files import BLOCK
from csb.transcript import BOM, LONG_LINE, TranscriptLines, given_title, load

DEEPEST = 20                    # levels of subagents that start each other
MANY_VALUES = 1 << 17           # in a long line, before it is parsed
MOST_TEXT = LONG_LINE - 1024    # bytes of all long texts in a long line
LONG_TEXT = 64                  # bytes; a shorter one is left alone
FIRST_LINES = 200               # in which folder and first prompt are looked for
LAST_LINES = 30                 # in which the last time is looked for
SHORT_LINE = 1 << 16            # bytes; longer ones say nothing of the last time

# The kinds of the records that our own tools write between the lines of transcripts.
OUR_KINDS = ("session", "agent", "gap", "turn", "version", "hit", "end")

# data: the line as it is to be printed, None if nobody asked for it.
ReadLine = namedtuple("ReadLine", "record data")
Speaker = namedtuple("Speaker", "agent depth")      # "" and 0: the session itself
# line: the number of the first; count: how many. what: damaged, cut (it has no end),
# large (left out), torn (what is whole in it follows) or shortened (it follows, without
# its pictures and longest texts).
Gap = namedtuple("Gap", "line count size what")


def parts_of(found, only_live=False, with_data=False):
    """Yield the Lines, Speakers and Gaps of a Found; what is wrong is said, too.

    only_live: the last message and those before it; what was rewound is left out.
    """
    reader = _Reader(found, with_data)
    if only_live and found.transcript:
        reader.live = reader.memory.learn_branch(_lines_of(found.transcript, False))
    if found.transcript:
        yield from reader.talk(found.transcript, "", 0)
    elif not only_live:
        yield from reader.visit(reader.left, "", 0)


class _Reader:
    """Reads a session: what it has to remember meanwhile."""

    def __init__(self, found, with_data):
        self.memory = _Memory()
        self.live = False       # is only the last branch asked for?
        self.left = list(found.agents)      # the Subagents that have not come yet
        self.with_data = with_data

    def talk(self, file, agent, depth):
        """Yield the parts of one transcript, and of the subagents that it started."""
        due = []
        message = None          # the id of the last answer
        only_live = self.live and depth == 0
        for part in _said_lines_of(file, self.with_data):
            if isinstance(part, Gap):
                yield part
                continue
            record = part.record
            if only_live and not self.memory.is_live(record.uuid):
                continue
            if not self.memory.is_new(record.uuid):
                continue
            answered = []
            if (self.left or due) and record.type in ("user", "assistant"):
                answered = _answered(record)
                # An answer of several records is not torn apart.
                this = record.message_id or record.uuid
                if not answered and (record.type == "user" or this != message):
                    yield from self.visit(due, agent, depth)
                    due = []
                if record.type == "assistant":
                    message = this
            yield part
            if depth < DEEPEST:
                due += self._started(record, answered)
            part = record = None    # what is large is not held meanwhile
        if depth == 0 and not self.live:
            due += self.left
            self.left = []
        yield from self.visit(due, agent, depth)

    def visit(self, agents, agent, depth):
        """Yield what subagents said, and that the one who started them is back."""
        for one in agents:
            yield Speaker(one.name, depth + 1)
            yield from self.talk(one.file, one.name, depth + 1)
            yield Speaker(agent, depth)

    def _started(self, record, answered):
        """The Subagents whose call is answered by a record; they are left no more."""
        if not answered:
            return []
        names = {record.answering_agent, *answered} - {""}
        found = [one for one in self.left if names & {one.name, one.call_id}]
        self.left = [one for one in self.left if one not in found]
        return found


def _answered(record):
    """The ids of the calls whose results a record has."""
    said = record.said
    return [result.call_id for result in said.results]


# --- lines ----------------------------------------------------------------------------


def _said_lines_of(file, with_data):
    """Yield the Lines and Gaps of a file; what went wrong is said, in a line each."""
    bad = 0
    first = 0
    try:
        for part in _lines_of(file, with_data):
            if isinstance(part, Gap):
                if part.what in ("large", "shortened", "torn"):
                    say(f"{place_of(part)} of '{file.name}' {fate_of(part)}")
                else:
                    bad += part.count
                    first = first or part.line
            yield part
    except OSError as error:
        warn(f"cannot read '{file.name}': {why(error)}")
    except Error as error:
        warn(str(error))
    if bad:
        many = "line" if bad == 1 else "lines"
        text = f"{bad} bad {many} of '{file.name}' left out"
        say(f"{text}, the first is line {first}")


def place_of(gap):
    """Which lines a Gap is about: line 7, lines 7 to 9."""
    if gap.count == 1:
        return f"line {gap.line}"
    return f"lines {gap.line} to {gap.line + gap.count - 1}"


def fate_of(gap):
    """What became of the lines of a Gap."""
    size = f"{gap.size:,} bytes"
    if gap.what == "shortened":
        return f"has {size}: its pictures and its longest texts are shortened"
    if gap.what == "torn":
        return "is damaged: what is whole in it follows"
    if gap.what == "large":
        return f"has {size}: it is left out"
    if gap.what == "cut":
        return "is cut off at its end: it is left out"
    if gap.count == 1:
        return "is damaged: it is left out"
    return "are damaged: they are left out"


def _lines_of(file, with_data):
    """Yield the Lines and Gaps of a file. OSError or Error if it cannot be read."""
    lines = TranscriptLines(file.blocks())
    number = 0                  # enumerate() would hold the line
    bad = None                  # the Gap that goes on so far
    for line in lines:
        number += 1
        size = lines.end - lines.offset - lines.complete
        what = _what_is_wrong(line, size, lines.complete)
        # Nobody but load_line() is to hold a long line while it is parsed.
        given = [line]
        if not with_data:
            line = None
        records, damaged = load_line(given)
        records = [record for record in records if _is_of_transcript(record)]
        if not records and what == "shortened":
            what = "large"
        if not records and (damaged or what == "damaged"):
            bad, done = _grown(bad, Gap(number, 1, size, what))
            if done:
                yield done
        if records and bad:
            yield bad
            bad = None
        if records and damaged and what != "shortened":
            what = "torn"
        if records and what in ("torn", "shortened"):
            yield Gap(number, 1, size, what)
        yield from _found_in(line, records, damaged)
        line = records = None
    if bad:
        yield bad


def _what_is_wrong(line, size, complete):
    """What a Gap is to say of a line if it holds no record, or even if it does."""
    if line is None:
        return "large"
    if len(line) < size:
        return "shortened"
    if not complete:
        return "cut"
    return "damaged" if line.strip(BOM + b" \t\r") else "blank"


def _grown(bad, gap):
    """(the Gap that goes on with this one, the one before if it ended)."""
    if bad and bad.what == gap.what == "damaged" and bad.line + bad.count == gap.line:
        return Gap(bad.line, bad.count + 1, bad.size + gap.size, gap.what), None
    return gap, bad


def _found_in(line, records, damaged):
    """Yield the Lines of one line of a file; line: None if it is not to be printed."""
    if line is not None and damaged:
        for record in records:
            yield ReadLine(record, encode_whole(record.fields))
        return
    for record in records:
        yield ReadLine(record, line and line.removeprefix(BOM).rstrip(b"\r"))


def encode_whole(fields):
    """A record as a line, also one with numbers that JSON does not know."""
    try:
        return encode(fields).encode()
    except ValueError:
        return b"{}"


def _is_of_transcript(record):
    """Is it a record of a transcript that makes sense, and none that we write?"""
    if record.fields.get("kind") in OUR_KINDS:
        return False
    if record.type in ("user", "assistant") and not record.is_sound:
        return _says_anything(record.said)
    return True


def _says_anything(said):
    if said is None:
        return False
    if any(said.texts) or said.thoughts or said.images:
        return True
    return bool(said.calls or said.results)


def load_line(given):
    """As csb.transcript.load, with at most 1 MB of text of a long line.

    given: a list with the line, which is taken out of it: it may be large.
    """
    line = given.pop()
    if line is not None and len(line) > LONG_LINE:
        line = _with_less_text(line)
    return load(line)


_TEXTS_AND_VALUES = re.compile(rb'"[^"]*"|[\[{,]')
_DATA = b'"data":'


def _with_less_text(line):
    """A long line with MOST_TEXT bytes of its long texts; pictures stay as they are.

    None if it has too many values.
    """
    flat = _without_escapes(line)
    kept = []
    at = 0
    room = MOST_TEXT
    for count, match in enumerate(_TEXTS_AND_VALUES.finditer(flat)):
        start, end = match.span()
        if count > MANY_VALUES:
            return None
        size = end - start
        if size <= LONG_TEXT:
            continue
        if flat[start - 8:start].rstrip().endswith(_DATA):
            continue
        if size > room:
            cut = _end_of_character(line, flat, start, start + 1 + room)
            kept.append(line[at:cut])
            kept.append(b' [%d bytes more]"' % (end - 1 - cut))
            at = end
        room = max(0, room - size)
    kept.append(line[at:])
    return b"".join(kept)


def _without_escapes(line):
    """A line of equal length whose quotes all begin or end a text.

    It is made piece by piece, since it is long.
    """
    if b"\\" not in line:
        return line
    flat = bytearray(line)
    start = 0
    while start < len(line):
        end = _end_of_escape(line, min(start + BLOCK, len(line)))
        piece = line[start:end].replace(b"\\\\", b"__")
        flat[start:end] = piece.replace(b'\\"', b"__")
        start = end
    return flat


def _end_of_escape(line, end):
    """The place at or before an end that tears no backslash from what it escapes."""
    before = end
    while line[before - 1:before] == b"\\":
        before -= 1
    # Of an odd number of backslashes the last one belongs to what follows.
    return end - (end - before) % 2


def _end_of_character(line, flat, start, cut):
    """The place at or before cut where no character, or escape, is torn apart."""
    while line[cut] & 0xC0 == 0x80:
        cut -= 1
    escape = flat.rfind(b"\\", max(cut - 6, start), cut)
    if escape >= 0:
        return escape
    return _end_of_escape(line, cut)


# --- memory ---------------------------------------------------------------------------


class _Memory:
    """What was seen of a session, in a temporary database.

    Objects of Python's for each uuid would be too much.
    """

    def __init__(self):
        import sqlite3

        self.sql = sqlite3.connect("", isolation_level=None).execute
        self.sql("PRAGMA journal_mode = OFF")
        self.sql("CREATE TABLE seen (uuid INTEGER PRIMARY KEY)")
        self.sql(
            "CREATE TABLE link (uuid INTEGER PRIMARY KEY, parent INTEGER,"
            " message INTEGER)"
        )
        self.sql("CREATE TABLE live (uuid INTEGER PRIMARY KEY)")
        self.sql("BEGIN")

    def is_new(self, uuid):
        """Is it the first record with this uuid? What has none is new."""
        if not uuid:
            return True
        insert = "INSERT OR IGNORE INTO seen VALUES (?)"
        return self.sql(insert, (hash(uuid),)).rowcount == 1

    def learn_branch(self, parts):
        """Find the records of the branch that ends with the last message: is there one?

        Calls in parallel fork the chain: all records of an answer belong to it, and so
        do all results.
        """
        leaf = None
        try:
            for part in parts:
                if isinstance(part, Gap) or not part.record.uuid:
                    continue
                record = part.record
                self._learn_link(record)
                if record.type in ("user", "assistant") and not record.is_sidechain:
                    leaf = hash(record.uuid)
        except (OSError, Error):
            pass                # it is read again, and said then
        self._mark_branch(leaf)
        return leaf is not None

    def _learn_link(self, record):
        """Note what a record follows, and the answer or result that it is a part of."""
        message = record.message_id
        if record.type == "user" and _answered(record):
            message = record.parent_uuid
        values = [record.uuid, record.follows, message]
        hashes = [hash(value) if value else None for value in values]
        self.sql("INSERT OR IGNORE INTO link VALUES (?, ?, ?)", hashes)

    def _mark_branch(self, leaf):
        self.sql("CREATE INDEX message ON link (message)")
        self.sql(
            "INSERT INTO live WITH RECURSIVE branch (uuid) AS (VALUES (?) UNION"
            " SELECT parent FROM link JOIN branch USING (uuid) WHERE parent NOT NULL)"
            " SELECT uuid FROM branch WHERE uuid NOT NULL",
            (leaf,),
        )
        self.sql(
            "INSERT OR IGNORE INTO live SELECT uuid FROM link WHERE message IN"
            " (SELECT message FROM link JOIN live USING (uuid))"
        )
        self.sql(
            "INSERT OR IGNORE INTO live SELECT link.uuid FROM link JOIN live"
            " ON link.message = live.uuid"
        )

    def is_live(self, uuid):
        """Is a record on that branch?"""
        if not uuid:
            return False
        select = "SELECT 1 FROM live WHERE uuid = ?"
        return self.sql(select, (hash(uuid),)).fetchone() is not None


# --- at a glance ----------------------------------------------------------------------


def glance(found):
    """(the title that a Found was given or "", what else is known of it as a dict).

    What else: cwd, git_branch, started, last_active, and prompt, the first thing that a
    person typed. Where it cannot be seen quickly it is left out.
    """
    look = _Glance()
    if found.transcript is None:
        return found.beside, {}

    def blocks():
        return look.watch(found.transcript.blocks())

    try:
        title = given_title(blocks, found.beside)
    except (OSError, Error):
        title = found.beside    # it is read again, and said then
    return title, look.facts()


class _Glance:
    """What the first and the last lines of a transcript say, while it is read."""

    def __init__(self):
        self.is_watching = True
        self.first = []         # the first lines
        self.room = LONG_LINE   # bytes that may be kept of them
        self.last = deque(maxlen=LAST_LINES)

    def watch(self, blocks):
        """Yield blocks, and look at what goes by, the first time."""
        rest = b""
        for block in blocks:
            yield block
            if self.is_watching:
                *lines, rest = (rest + block).split(b"\n")
                self._keep(lines)
                if len(rest) > LONG_LINE:
                    rest = b"x"     # and its end makes no record of it
        if self.is_watching:
            self._keep([rest])
        self.is_watching = False

    def _keep(self, lines):
        for line in lines[:FIRST_LINES - len(self.first)]:
            if len(line) <= self.room:
                self.first.append(line)
                self.room -= len(line)
        for line in lines[-LAST_LINES:]:
            if len(line) <= SHORT_LINE:
                self.last.append(line)

    def facts(self):
        found = {}
        for line in self.first:
            for record in load(line).records:
                _learn_start(found, record)
            if all(map(found.get, _AT_START)):
                break
        for line in self.last:
            for record in load(line).records:
                if record.time:
                    found["last_active"] = record.time
        return {name: value for name, value in found.items() if value}


_AT_START = ("cwd", "git_branch", "started", "prompt")


def _learn_start(found, record):
    found.setdefault("cwd", record.cwd)
    found["cwd"] = found["cwd"] or record.cwd
    if not found.get("git_branch"):
        found["git_branch"] = record.git_branch
    if not found.get("started"):
        found["started"] = record.time
    if not found.get("prompt"):
        for source, text in record.prompts():
            if source == "prompt":
                found["prompt"] = printable(text)
                break
