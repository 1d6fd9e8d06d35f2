"""the secrets in a stream of text: masked in their place, and told of one by one

A line of JSON (of a transcript, or a record of csb) is text like any other. Everything
but the secrets stays as it is, byte for byte.
"""
import json
import re

from csb.files import BLOCK
from csb.secret import secrets_in

OVERLAP = 32 << 10          # bytes; no secret is longer than that
BEHIND = 64 << 10           # bytes that are kept before what is looked at
PARSED_LINE = 128 << 10     # characters of a line; in a longer one no pointer is told
PREVIEW = 24                # characters before a secret that are shown

_HERE = "\0csb\0"           # stands for a secret while its line is parsed


class Masker:
    """Masks the secrets in streams of bytes, in bounded memory.

    What becomes of them a subclass says: the first two methods do nothing here.
    """

    def __init__(self):
        self.line = 1               # the number of the line that is written next
        self.count = 0              # secrets that were found

    def write(self, data):
        """Takes all the bytes, masked, in order."""

    def found(self, text, done, secret):
        """Takes each Secret in a text; done: where the one before it ended.

        The text has one character a byte.
        """

    def read(self, blocks):
        """Mask a stream, the blocks of bytes of a file."""
        self.line = 1
        text = ""
        done = 0
        for block in blocks:
            text += block.decode("latin-1")
            if len(text) - done < BLOCK:
                continue
            last = len(text) - OVERLAP
            limit = text.rfind("\n", done, last) + 1    # 0: the line is longer
            done = self._mask(text, done, limit or last)
            start = max(0, done - BEHIND)
            text = text[start:]
            done -= start
        self._mask(text, done, len(text))

    def _mask(self, text, done, limit):
        """Write a text masked from done to the limit; how far that came.

        A secret that begins before the limit is masked whole.
        """
        for secret in secrets_in(text, done):
            if secret.sign >= limit:
                break
            self._pass_on(text[done:secret.start])
            self.count += 1
            self.found(text, done, secret)
            self.line += text.count("\n", secret.start, secret.end)
            self.write(secret.mark.encode())
            done = secret.end
        self._pass_on(text[done:limit])
        return max(done, limit)

    def _pass_on(self, text):
        self.line += text.count("\n")
        self.write(text.encode("latin-1"))

    def finding(self, text, done, secret, session_id, path):
        """The record of what found() takes.

        session_id, path: whose and which file it is, or None.
        """
        start = text.rfind("\n", 0, secret.start) + 1
        end = text.find("\n", secret.end)
        if end < 0:
            end = len(text)
        pointer = None
        if end - start <= PARSED_LINE:
            line = text[start:secret.start] + _HERE + text[secret.end:end]
            pointer, own_id = _place_in_json(utf_8(line))
            session_id = session_id or own_id
        before = utf_8(text[max(start, done):secret.start]).rpartition('"')[2]

        record = {"kind": "finding"}
        if session_id:
            record["session_id"] = session_id
        if path:
            record["path"] = path
        record["line"] = self.line
        # A name on the way to it may be a secret, too.
        if pointer and not any(secrets_in(pointer)):
            record["pointer"] = pointer
        record["what"] = secret.kind
        record["preview"] = re.sub(r"\s+", " ", before[-PREVIEW:]) + secret.mark
        return record


def utf_8(text):
    """What a text with a character a byte means."""
    return text.encode("latin-1").decode("utf-8", "surrogateescape")


def _place_in_json(line):
    """(the JSON pointer to _HERE in a line, the session that it tells), else None."""
    try:
        record = json.loads(line.removeprefix("\ufeff"), strict=False)
    except (ValueError, RecursionError):
        return None, None
    session_id = record.get("sessionId") if isinstance(record, dict) else None
    if not isinstance(session_id, str):
        session_id = None
    return _pointer_in(record), session_id


def _pointer_in(value):
    """The JSON pointer (RFC 6901) to the string with _HERE in a value, or None."""
    if isinstance(value, str):
        return "" if _HERE in value else None
    items = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, inner in items:
        below = _pointer_in(inner)
        if below is not None:
            name = str(key).replace("~", "~0").replace("/", "~1")
            return f"/{name}{below}"
    return None
