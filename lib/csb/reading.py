"""a session as it is read: its records in order, each once, with those of its subagents

    for part in parts_of(found):        # a Found of csb.locate
        a ReadLine      a record of a transcript, and its line
        a dict, which is what csb-cat prints between the lines, of the kind
            session     the first part: what is known of it
            agent       the next lines are those of a subagent, or of the session again
            gap         a line that could not be read, or not whole

What a subagent said follows the message whose tool call started it. What stands in a
session twice, by uuid, comes once.
"""
import json

from csb import Error, say, warn, why
from csb.transcript import BOM, TranscriptLines, given_title, load

DEEPEST = 20                    # levels of subagents that start each other

# The kinds of the records that our own tools write between the lines of transcripts.
OUR_KINDS = ("session", "agent", "gap", "turn", "version", "hit", "end")

# What became of the line of a gap, which stands alone or before the records in it.
FATES = {
    "damaged": "is damaged: it is left out",
    "cut": "is cut off at its end: it is left out",
    "large": "is too large: it is left out",
    "torn": "is damaged: what is whole in it follows",
    "shortened": "is very large: its pictures and its longest texts are shortened",
}


class ReadLine:
    """A record and the line that it stands in, of which number and size stay.

    Who needs no line sets it to None: it may be large.
    """

    __slots__ = ("record", "line", "number", "size")

    def __init__(self, record, line, number):
        self.record = record
        self.line = line
        self.number = number
        self.size = len(line)


def words_of_gap(gap, where):
    """What became of the line of a gap, in a sentence. where: what it is a line of."""
    fate = FATES.get(str(gap.get("what")), FATES["damaged"])
    return f"line {gap.get('line')} of {where} {fate}"


def gap_at(line, size, what):
    return {"kind": "gap", "line": line, "bytes": size, "what": what}


# --- sessions -------------------------------------------------------------------------


def parts_of(found, live=()):
    """Yield the ReadLines and dicts of a Found; what is wrong is said, too.

    live: hashes of the uuids of its own records that are wanted, if not all are.
    """
    # It may have been asked for by a version, or a hit.
    head = {"kind": "", **found.record} | {"kind": "session", "lines": True}
    title = found.beside
    if found.transcript:
        try:
            title = given_title(found.transcript.blocks, found.beside)
        except (OSError, Error):
            pass                # it is read again, and said then
    if title:
        head["title"] = title
    yield head
    reader = _Reader(found, live)
    if found.transcript:
        yield from reader.talk(found.transcript, "", 0)
    else:
        yield from reader.visit(reader.left, "", 0)


class _Reader:
    """Reads a session: what it has to remember meanwhile."""

    def __init__(self, found, live):
        self.live = live
        self.seen = set()       # hashes of uuids
        self.left = list(found.agents)      # the Subagents that have not come yet

    def talk(self, file, agent, depth):
        """Yield the parts of one transcript, and of the subagents that it started."""
        due = []                # subagents that come when the message is over
        message = None          # the id of the last answer
        for part in _parts_of_file(file):
            if isinstance(part, dict):
                yield part
                continue
            record = part.record
            if record.uuid:
                name = hash(record.uuid)
                is_rewound = depth == 0 and self.live and name not in self.live
                if name in self.seen or is_rewound:
                    continue
                self.seen.add(name)
            answered = set()    # the calls whose results it has
            if record.type == "user" and record.said:
                answered = {result.call_id for result in record.said.results}
            # An answer of several records is not torn apart.
            this = record.message_id or record.uuid
            is_answer = record.type == "assistant"
            if is_answer and this != message or record.type == "user" and not answered:
                yield from self.visit(due, agent, depth)
                due = []
            if is_answer:
                message = this
            yield part
            if answered and depth < DEEPEST:
                due += self._started(answered | {record.answering_agent})
            part = record = None    # what is large is not held meanwhile
        if depth == 0 and not self.live:
            due += self.left
            self.left = []
        yield from self.visit(due, agent, depth)

    def visit(self, agents, agent, depth):
        """Yield what subagents said, and that the one who started them is back."""
        for one in agents:
            yield {"kind": "agent", "depth": depth + 1, "subagent": one.name}
            yield from self.talk(one.file, one.name, depth + 1)
            back = {"kind": "agent", "depth": depth}
            if agent:
                back["subagent"] = agent
            yield back

    def _started(self, names):
        """The Subagents with these names, or calls; they are left no more."""
        names = names - {""}
        found = [one for one in self.left if {one.name, one.call_id} & names]
        self.left = [one for one in self.left if one not in found]
        return found


# --- lines ----------------------------------------------------------------------------


def _parts_of_file(file):
    """Yield the ReadLines and gaps of a file; what went wrong is said, in a line each.
    """
    bad = 0
    first = 0
    where = f"'{file.name}'"
    try:
        for part in read_lines(file.blocks()):
            if isinstance(part, ReadLine) and kind_of(part.record) in OUR_KINDS:
                part = gap_at(part.number, part.size, "damaged")   # it is forged
            if isinstance(part, dict) and part["what"] in ("damaged", "cut"):
                bad += 1
                first = first or part["line"]
            elif isinstance(part, dict):
                say(words_of_gap(part, where))
            yield part
            part = None
    except OSError as error:
        warn(f"cannot read {where}: {why(error)}")
    except Error as error:
        warn(str(error))
    if bad:
        many = "line" if bad == 1 else "lines"
        say(f"{bad} bad {many} of {where} left out, the first is line {first}")


def kind_of(record):
    """What a record of our own tools is; None for one of a transcript."""
    return record.fields.get("kind")


def read_lines(blocks, takes=None):
    """Yield the ReadLines and gaps of a stream. OSError or Error if it cannot be read.

    takes(line): does somebody else take this line?
    """
    lines = TranscriptLines(blocks)
    number = 0                  # enumerate() would hold the line
    for line in lines:
        number += 1
        if takes and line is not None and takes(line):
            continue
        size = lines.end - lines.offset - lines.complete
        records, damaged = load(line)
        what = _what_is_wrong(line, size, lines.complete, records, damaged)
        if what:
            yield gap_at(number, size, what)
        parts = []
        for record in records:
            if damaged:
                line = json.dumps(record.fields).encode()
            line = line.removeprefix(BOM).rstrip(b"\r")
            parts.append(ReadLine(record, line, number))
        line = records = record = None      # what is large is held by parts alone
        yield from parts
        parts = None


def _what_is_wrong(line, size, complete, records, damaged):
    """One of FATES, or ""."""
    if line is None or len(line) < size and not records:
        return "large"
    if len(line) < size:
        return "shortened"
    if not damaged:
        return ""
    if records:
        return "torn"
    return "damaged" if complete else "cut"
