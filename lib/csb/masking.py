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

    def read(self, blocks):
        """Mask a stream, the blocks of bytes of a file."""
        self.line = 1
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
            record = _fields_decoder.decode(text.removeprefix("\ufeff"))
            texts = list(_secret_texts_in(record, _places_of_strings(text)))
        except (ValueError, RecursionError):
            number = self.line
            count = self.count
            self._text(line, 0, len(line))
            if self.count > count:
                self.is_no_json(number)
            return

        fields = dict(record) if isinstance(record, _Fields) else {}
        if self.takes_sessions and fields.get("kind") == "session":
            self.session(fields)
            self.write(line)
            self.line = 1
            return
        session_id = fields.get("sessionId")
        if not isinstance(session_id, str):
            session_id = None
        edits = []
        for one in texts:
            edits += self._edits_of(text, one, session_id)
        text = _edited_line(text, edits)
        self._pass_on(text.encode("utf-8", "surrogateescape"))

    def _pass_on(self, data):
        """Write bytes as they are."""
        self.line += data.count(b"\n")
        self.write(data)

    # --- what may be in a line ---

    def _edits_of(self, line, text, session_id):
        """[(start, end, mark)]: what to replace in a line for the secrets in a _Text.

        session_id: the one that the line says, or None.
        """
        edits = []
        end = 0
        places = {}             # {number of a piece: its _Places}
        for secret in _secrets_of_field(text.field, text.text):
            self._found(secret, text.text[end:secret.start], text.pointer, session_id)
            end = secret.end
            for number, start, stop in _parts_of_secret(text, secret):
                if number not in places:
                    places[number] = _Places(line, text.pieces[number])
                start = places[number].of(start)
                edits.append((start, places[number].of(stop), secret.mark))
        return edits

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


# --- the strings of a line ------------------------------------------------------------

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

# text: a string, or all strings of a list as lines. field: the name of the nearest
# field around it. pointer: to it. pieces: where in the line its strings are.
_Text = namedtuple("_Text", "text field pointer pieces")

# A string: where it begins in the text of its _Text; from where to where the line has
# what stands between its quotes.
_Piece = namedtuple("_Piece", "offset start end")

# What is one character of a string: two halves of a surrogate pair, or one escape.
_JSON_ESCAPE = re.compile(
    r"\\u[dD][89abAB]..\\u[dD][c-fC-F]..|\\u....|\\.", re.DOTALL
)


class _Fields(list):
    """An object of JSON: all its fields, as they stand there."""


_fields_decoder = json.JSONDecoder(object_pairs_hook=_Fields)


def _places_of_strings(line):
    """Yield (start, end) of each string in a line of JSON, without its quotes."""
    at = line.find('"')
    while at >= 0:
        _, end = _fields_decoder.raw_decode(line, at)
        yield at + 1, end - 1
        at = line.find('"', end)


def _secret_texts_in(value, places, field="", pointer="", is_input=False):
    """Yield a _Text for each string in a value that may be, or hold, a secret.

    places: those of the strings in the line, from the first of the value on. is_input:
    is it what a tool is given? There the names of fields mean nothing.
    """
    if isinstance(value, str):
        yield _Text(value, field, pointer, [_Piece(0, *next(places))])
    elif isinstance(value, _Fields):
        kind = str(dict(value).get("type"))
        for key, inner in value:
            next(places)        # of the key
            if isinstance(inner, str) and not is_input and _is_sealed(key, kind):
                next(places)
                continue
            name = key.replace("~", "~0").replace("/", "~1")    # RFC 6901
            inside = is_input or key == "input" and kind.endswith("tool_use")
            yield from _secret_texts_in(inner, places, key, f"{pointer}/{name}", inside)
    elif isinstance(value, list) and _holds_key(value):
        # Claude Code writes a patch so: the key is in all of its lines.
        pieces = []
        offset = 0
        for one in value:
            pieces.append(_Piece(offset, *next(places)))
            offset += len(one) + 1
        yield _Text("\n".join(value), field, pointer, pieces)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            place = f"{pointer}/{number}"
            yield from _secret_texts_in(inner, places, field, place, is_input)


def _is_sealed(key, kind):
    """Does a field of an object of that type hold no secrets?"""
    if key == "data" and kind in DATA_TYPES:
        return True
    return _SEALED.fullmatch(key) is not None


def _holds_key(values):
    """Is it a list of strings with a private key in it?"""
    is_key = False
    for value in values:
        if not isinstance(value, str):
            return False
        is_key = is_key or "PRIVATE KEY" in value
    return is_key


def _is_sealed_in_text(text, at):
    """Is a place in a line of JSON, which is not parsed, in a sealed field?"""
    quote = text.rfind('"', max(0, at - BEHIND), at)
    return _SEALED_BEFORE.search(text, max(0, quote - 60), quote + 1) is not None


def _secrets_of_field(name, text):
    """Yield the Secrets in the text of a field; name: what it is called."""
    before = f'{name}": "' if _TELLING.search(name) else ""
    for secret in secrets_in(before + text):
        start = secret.start - len(before)
        if start >= 0:
            yield secret._replace(start=start, end=secret.end - len(before))


def _parts_of_secret(text, secret):
    """Yield the parts of a Secret in the pieces of a _Text: (number, start, end)."""
    first = bisect_right(text.pieces, secret.start, key=_offset_of_piece) - 1
    for number in range(first, len(text.pieces)):
        offset = text.pieces[number].offset
        if offset >= secret.end:
            return
        start = max(secret.start, offset)
        end = secret.end
        if number + 1 < len(text.pieces):
            end = min(end, text.pieces[number + 1].offset - 1)
        # In a line of a diff its column stays.
        if secret.start < offset and text.text[start:start + 1] in ("+", "-", " "):
            start += 1
        if start < end:
            yield number, start - offset, end - offset


def _offset_of_piece(piece):
    return piece.offset


class _Places:
    """Where in a line the characters of a string stand, asked for in their order."""

    def __init__(self, line, piece):
        self.escapes = _JSON_ESCAPE.finditer(line, piece.start, piece.end)
        self.escape = next(self.escapes, None)
        self.shift = piece.start

    def of(self, offset):
        while self.escape and self.escape.start() < offset + self.shift:
            self.shift += len(self.escape[0]) - 1
            self.escape = next(self.escapes, None)
        return offset + self.shift


def _edited_line(line, edits):
    """The line with each (start, end, mark) of edits done."""
    pieces = []
    done = 0
    for start, end, mark in edits:
        pieces += line[done:start], mark
        done = end
    pieces.append(line[done:])
    return "".join(pieces)
