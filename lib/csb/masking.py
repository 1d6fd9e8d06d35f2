"""the secrets in a stream of lines: masked in their place, and told of one by one

Lines of JSON (transcripts, records of csb) are looked at string by string, as what they
mean: no escape hides anything. Other text is looked at as it stands. Everything but the
secrets stays as it is, byte for byte, and so do the numbers of lines.
"""
import json
import re
from bisect import bisect_right
from collections import namedtuple

from csb.secret import end_of_keys, secrets_in, signs_in

PARSED_LIMIT = 1 << 20      # bytes of a line; a longer one is not parsed: it is text
OVERLAP = 32 << 10          # bytes; no secret is longer than that
BEHIND = 64 << 10           # bytes before a secret that may say what it stands in
PREVIEW = 24                # characters before a secret that are shown

# line: its number. pointer: a JSON pointer, None in text. session_id: what the record
# itself says, or None. mark: what stands for the secret. preview: the end of what
# stands before it, and the mark.
Finding = namedtuple("Finding", "line pointer session_id what mark preview")

_SESSION_RECORD = re.compile(r'\{"kind":"session"')
# A character that is escaped, which it need not be: the line has to be parsed.
_NEEDLESS_ESCAPE = re.compile(r"\\u00[2-7]|\\/")


def finding_record(finding, session_id, path):
    """The record of a Finding in a file of that session and path, if they are known."""
    record = {"kind": "finding"}
    session_id = session_id or finding.session_id
    if session_id:
        record["session_id"] = session_id
    if path:
        record["path"] = path
    record["line"] = finding.line
    # A name on the way to it may be a secret, too.
    if finding.pointer and not any(secrets_in(finding.pointer)):
        record["pointer"] = finding.pointer
    record["what"] = finding.what
    record["preview"] = finding.preview
    return record


class Masker:
    """Masks the secrets in streams of lines, in bounded memory.

    What becomes of them a subclass says: these methods do nothing here.
    """

    takes_sessions = False      # do session records say whose the next lines are?

    def __init__(self):
        self.line = 1               # the number of the line that is written next
        self.count = 0              # secrets that were found

    def write(self, data):
        """Takes all the bytes, masked, in order."""

    def found(self, finding):
        """Takes each Finding, in order."""

    def is_no_json(self, line):
        """Takes the number of a line that had to be masked as text."""

    def session(self, record):
        """Takes a session record, if takes_sessions is true. Lines count from there."""

    # --- streams ---

    def read(self, blocks, line=1):
        """Mask a stream, blocks of bytes, that begins with that line of its file."""
        self.line = line
        blocks = iter(blocks)
        rest = b""
        for block in blocks:
            rest += block
            end = _end_of_whole_lines(rest)
            self._lines(rest[:end])
            rest = rest[end:]
            if len(rest) > PARSED_LIMIT:
                # What was kept for the sake of a key is no part of the long line.
                end = rest.rfind(b"\n") + 1
                self._lines(rest[:end])
                rest = self._long_line(rest[end:], blocks)
        self._lines(rest)

    def _long_line(self, data, blocks):
        """Mask a long line as text, in parts; what was read of the lines behind it.

        data: its beginning. blocks: what follows.
        """
        done = 0                    # so much of data is written
        while True:
            end = data.find(b"\n", done) + 1
            if end:
                break
            if len(data) - done > PARSED_LIMIT:
                done = self._text(data, done, len(data) - OVERLAP)
                start = max(0, done - BEHIND)
                data = data[start:]
                done -= start
            block = next(blocks, b"")
            if not block:
                end = len(data)
                break
            data += block
        self._text(data[:end], done, end)
        return data[end:]

    def _lines(self, data):
        """Mask whole lines: only those in which something may be are looked at."""
        text = data.decode("latin-1")           # one character a byte
        done = 0
        for at, shape in self._suspects(text):
            if at < done or shape and not shape.match(text, at):
                continue
            start = max(done, text.rfind("\n", done, at) + 1)
            self._pass_on(data[done:start])
            end = text.find("\n", at) + 1 or len(data)
            done = end_of_keys(text, start, end)
            self._one_line(data[start:done])
        self._pass_on(data[done:])

    def _suspects(self, text):
        """Where a line has to be looked at: [(place, the Shape that may be there)].

        The Shape is None where it is for another reason.
        """
        places = [(sign.at, sign.shape) for sign in signs_in(text)]
        for match in _NEEDLESS_ESCAPE.finditer(text):
            places.append((match.start(), None))
        if self.takes_sessions:
            for match in _SESSION_RECORD.finditer(text):
                places.append((match.start(), None))
        places.sort(key=lambda place: place[0])
        return places

    def _one_line(self, line):
        """Mask a line, or the lines over which a private key goes in plain text."""
        if len(line) > PARSED_LIMIT:
            self._text(line, 0, len(line))
            return

        text = line.decode("utf-8", "surrogateescape")
        try:
            record = json.loads(text.removeprefix("\ufeff"))
        except (ValueError, RecursionError):
            number = self.line
            count = self.count
            self._text(line, 0, len(line))
            if self.count > count:
                self.is_no_json(number)
            return

        if not isinstance(record, dict):
            record = {}
        if self.takes_sessions and record.get("kind") == "session":
            self.session(record)
            self.write(line)
            self.line = 1
            return
        session_id = record.get("sessionId")
        if not isinstance(session_id, str):
            session_id = None
        text = self._json(text, session_id)
        self._pass_on(text.encode("utf-8", "surrogateescape"))

    def _pass_on(self, data):
        """Write bytes as they are."""
        self.line += data.count(b"\n")
        self.write(data)

    # --- what may be in a line ---

    def _json(self, text, session_id):
        """A line that is JSON, masked. session_id: the one that it says, or None."""
        # Only at its end is it known which types the objects have.
        suspects = []
        for value in _values_in(text):
            secrets = _secrets_of_field(value.field, value.text)
            if secrets:
                suspects.append((value, secrets))

        edits = []
        for value, secrets in suspects:
            if _is_sealed(value):
                continue
            pointer = _json_pointer(value)
            end = 0
            for secret in secrets:
                before = value.text[end:secret.start]
                self._found(secret, before, pointer, session_id)
                end = secret.end
            edits += _edits_in_line(text, value, secrets)
        return _edited_line(text, edits)

    def _text(self, data, done, limit):
        """Mask data as text from done to the limit, and write it.

        What begins before the limit is masked whole. Returns how far it came.
        """
        text = data.decode("latin-1")
        for secret in secrets_in(text, done):
            if secret.sign >= limit:
                break
            if _is_sealed_in_text(text, secret.start):
                continue
            before = data[done:secret.start]
            self._pass_on(before)
            # A character may have four bytes.
            shown = before[-4 * PREVIEW:].decode("utf-8", "replace")
            self._found(secret, shown)
            self.line += text.count("\n", secret.start, secret.end)
            self.write(secret.mark.encode())
            done = secret.end
        if done < limit:
            self._pass_on(data[done:limit])
            done = limit
        return done

    def _found(self, secret, before, pointer=None, session_id=None):
        """Count a Secret in the line that comes next, and tell of it."""
        preview = re.sub(r"\s+", " ", before[-PREVIEW:]) + secret.mark
        self.count += 1
        self.found(Finding(
            self.line, pointer, session_id, secret.kind, secret.mark, preview
        ))


def _end_of_whole_lines(data):
    """Where the last whole line of data ends; before a private key that may go on."""
    end = data.rfind(b"\n") + 1
    key = data.rfind(b"-----BEGIN", max(0, end - OVERLAP), end)
    if key >= 0 and data.find(b"-----END", key, end) < 0:
        return data.rfind(b"\n", 0, key) + 1
    return end


# --- fields ---------------------------------------------------------------------------

# Fields that hold no secrets, though what is in them may look so: it is random, or
# Claude Code could not go on without it.
SEALED_NAME = (
    r"signature|base64|encrypted_\w+|id"
    r"|(?!\w*[kK]ey)\w*(?:[uU]uid|Id|ID|_id)"        # but AccessKeyId
)
_SEALED = re.compile(SEALED_NAME)
_SEALED_BEFORE = re.compile(rf'"(?:{SEALED_NAME})"\s*:\s*"$')
# The types of objects whose field "data" is such a one.
DATA_TYPES = ("base64", "redacted_thinking")

# A field whose name is the word before the secret.
_TELLING = re.compile("secret|session_?token|authorization", re.IGNORECASE)


def _secrets_of_field(name, text):
    """The Secrets in the text of a field; name: what it is called."""
    if not _TELLING.search(name):
        return list(secrets_in(text))
    before = f'{name}": "'
    found = []
    for secret in secrets_in(before + text):
        start = secret.start - len(before)
        end = secret.end - len(before)
        if start >= 0:
            found.append(secret._replace(start=start, end=end))
    return found


def _is_sealed(value):
    """Is a value in a field that holds no secrets?"""
    around = value.around
    if value.is_list or not around.is_object or _is_input(around):
        return False
    if value.key == "data" and around.type in DATA_TYPES:
        return True
    return _SEALED.fullmatch(value.key) is not None


def _is_input(container):
    """Is it a part of what a tool is given? There the names of fields mean nothing."""
    while container.around:
        around = container.around
        if container.key == "input" and around.type.endswith("tool_use"):
            return True
        container = around
    return False


def _is_sealed_in_text(text, at):
    """Is a place in a line of JSON, which is not parsed, in such a field?"""
    quote = text.rfind('"', max(0, at - BEHIND), at)
    return _SEALED_BEFORE.search(text, max(0, quote - 60), quote + 1) is not None


def _json_pointer(value):
    """The JSON pointer (RFC 6901) to a value."""
    parts = []
    key = value.key
    container = value.around
    while container.around:
        parts.append(str(key).replace("~", "~0").replace("/", "~1"))
        key = container.key
        container = container.around
    return "".join("/" + part for part in reversed(parts))


# --- the strings of a line ------------------------------------------------------------

# text: the string, or all strings of a list as lines. field: the name of the nearest
# field around it. around: the _Container that it is in, key: its name or number there.
# pieces: where in the line its strings are.
_Value = namedtuple("_Value", "text field around key pieces is_list")

# A string: where it begins in the text of its _Value; from where to where the line has
# what stands between its quotes.
_Piece = namedtuple("_Piece", "offset start end")

_JSON_PUNCTUATION = re.compile(r'["{}\[\],]')
_JSON_DECODER = json.JSONDecoder()
# What is one character of a string: two halves of a surrogate pair, or one escape.
_JSON_ESCAPE = re.compile(
    r"\\u[dD][89abAB]..\\u[dD][c-fC-F]..|\\u....|\\.", re.DOTALL
)


class _Container:
    """An object or a list in a line of JSON, while that is gone through."""

    def __init__(self, around, is_object):
        self.around = around        # what it is in; None for what is around the record
        self.is_object = is_object
        self.key = None             # its name or number in there
        self.field = ""             # the name of the nearest field around it
        self.type = ""              # what the field "type" of an object says
        self.next_key = None        # of what comes next in it; None: a name comes
        self.lines = None           # the strings of a list, where they may be a key
        if not is_object:
            self.next_key = 0
        if around:
            self.key = around.next_key
            self.field = around.field_of_next()

    def field_of_next(self):
        """The name of the nearest field around what comes next."""
        if self.is_object:
            return self.next_key
        return self.field

    def go_on(self):
        """Go on to the next field or element, after a comma."""
        if self.is_object:
            self.next_key = None
        else:
            self.next_key += 1


def _values_in(line):
    """Yield a _Value for each string in a line of JSON that is no name of a field.

    A private key in a list of strings is in all of them, as the lines of a text: Claude
    Code writes a patch so. Such a list is one value.
    """
    may_have_key = "KEY" in line or _NEEDLESS_ESCAPE.search(line)
    container = _Container(None, False)
    token = _JSON_PUNCTUATION.search(line)
    while token:
        sign = token[0]
        end = token.end()

        if sign == '"':
            text, end = _JSON_DECODER.raw_decode(line, token.start())
            if container.next_key is None:
                container.next_key = text
            else:
                value = _string_value(container, text, token.end(), end - 1)
                if container.lines is None:
                    yield value
                else:
                    container.lines.append(value)
        elif sign in "{[":
            if container.lines:
                yield from container.lines
            container.lines = None          # there is more in it than strings
            container = _Container(container, sign == "{")
            if sign == "[" and may_have_key:
                container.lines = []
        elif sign == ",":
            container.go_on()
        else:
            if container.lines:
                yield from _joined_lines(container)
            container = container.around

        token = _JSON_PUNCTUATION.search(line, end)


def _string_value(container, text, start, end):
    """The _Value of the string that comes next in a container."""
    if container.next_key == "type":
        container.type = text
    pieces = [_Piece(0, start, end)]
    field = container.field_of_next()
    return _Value(text, field, container, container.next_key, pieces, False)


def _joined_lines(container):
    """The strings of a list: as they are, or as one with a private key in it."""
    lines = container.lines
    if not any("PRIVATE KEY" in value.text for value in lines):
        return lines
    offset = 0
    pieces = []
    for value in lines:
        pieces.append(value.pieces[0]._replace(offset=offset))
        offset += len(value.text) + 1
    text = "\n".join(value.text for value in lines)
    around = container.around
    return [_Value(text, container.field, around, container.key, pieces, True)]


def _edits_in_line(line, value, secrets):
    """[(start, end, mark)]: what to replace in a line for the Secrets of a _Value."""
    spans = {}                  # {number of a piece: [(start, end, mark) in its text]}
    for secret in secrets:
        for number, start, end in _parts_of_secret(value, secret):
            spans.setdefault(number, []).append((start, end, secret.mark))

    edits = []
    for number, parts in spans.items():
        offsets = []
        for start, end, _ in parts:
            offsets += start, end
        places = iter(_places_in_json(line, value.pieces[number], offsets))
        for _, _, mark in parts:
            edits.append((next(places), next(places), mark))
    return edits


def _parts_of_secret(value, secret):
    """Yield the parts of a Secret in the pieces of a _Value: (number, start, end)."""
    first = bisect_right(value.pieces, secret.start, key=_offset_of_piece) - 1
    for number in range(first, len(value.pieces)):
        offset = value.pieces[number].offset
        if offset >= secret.end:
            return
        start = max(secret.start, offset)
        end = secret.end
        if number + 1 < len(value.pieces):
            end = min(end, value.pieces[number + 1].offset - 1)
        # In a line of a diff its column stays.
        if secret.start < offset and value.text[start:start + 1] in ("+", "-", " "):
            start += 1
        if start < end:
            yield number, start - offset, end - offset


def _offset_of_piece(piece):
    return piece.offset


def _places_in_json(line, piece, offsets):
    """Where in the line the characters of a string stand.

    offsets: their places in the string, ascending.
    """
    places = []
    shift = piece.start
    escapes = _JSON_ESCAPE.finditer(line, piece.start, piece.end)
    escape = next(escapes, None)
    for offset in offsets:
        while escape and escape.start() < offset + shift:
            shift += len(escape[0]) - 1
            escape = next(escapes, None)
        places.append(offset + shift)
    return places


def _edited_line(line, edits):
    """The line with each (start, end, mark) of edits done."""
    pieces = []
    done = 0
    for start, end, mark in sorted(edits):
        pieces += line[done:start], mark
        done = end
    pieces.append(line[done:])
    return "".join(pieces)
