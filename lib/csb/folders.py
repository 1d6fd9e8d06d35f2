"""the working directories that a transcript names: reading them, rewriting them

Claude Code notes in each record where it is (cwd), and in a few where it was or goes.
Of these fields a rewrite changes the values alone: not a byte of anything else.
"""
import json
import re
from collections import namedtuple

from csb import warn
from csb.files import BLOCK, LINE_LIMIT, lines
from csb.session import slugs_of
from csb.transcript import (
    FOLDERS,
    FOLDERS_OF_WORKTREE,
    LONG_LINE,
    WORKTREE,
    load,
    shortened_line,
)

MOST_FOLDERS = 50_000           # of one transcript, that are looked at
SAID_AT_MOST = 3                # folders that no OLD matches

_CWD = re.compile(rb'"cwd" ?: ?"((?:[^"\\]|\\.)*)"')
_ANY_FIELD = re.compile(f'"(?:{"|".join([*FOLDERS, WORKTREE])})"'.encode())

# JSON, of which values that are not looked at are not kept.
_MEMBER = re.compile(r'[{,][ \t\r\n]*"((?:[^"\\]|\\.){0,200})"[ \t\r\n]*:[ \t\r\n]*')
_SPACE = re.compile(r"[ \t\r\n]*")
_skip_value = json.JSONDecoder(
    object_pairs_hook=len, parse_int=len, parse_float=len
).raw_decode

_Member = namedtuple("_Member", "key start end")        # where its value stands


# --- reading --------------------------------------------------------------------------


def started_in(blocks, project, projects):
    """The folder that a session was started in, None if its transcript names none.

    Claude Code finds a session by that folder. It is the first cwd that is called like
    the session's project, else the first of all. projects: that directory's path.
    """
    first = None
    seen = set()                # folders, as they stand in lines that name no other
    for line in lines(blocks, limit=BLOCK):
        named = _CWD.findall(line or b"")
        if seen.issuperset(named):      # as in most lines
            continue
        if len(named) == 1:
            seen.update(named)
        for record in load(line).records:
            if record.cwd and project in slugs_of(record.cwd, projects):
                return record.cwd
            first = first or record.cwd or None
        if len(seen) >= MOST_FOLDERS:
            break
    return first


# --- rewriting ------------------------------------------------------------------------


class Rewriter:
    """Rewrites the working directories of transcripts by a FolderMap.

    changed: was there anything to rewrite? unmatched: some of the folders that no OLD
    matches.
    """

    def __init__(self, folder_map):
        self.folder_map = folder_map
        self.changed = False
        self.unmatched = {}

    def blocks(self, blocks, name):
        """Yield the bytes of a transcript, rewritten.

        A line that memory cannot bear stays as it is, which is said. name: what to call
        the transcript then.
        """
        number = 0
        begins = True           # does a line begin here?
        for piece in _pieces(blocks):
            number += begins
            is_whole = begins and len(piece) <= LINE_LIMIT
            if is_whole and not _ANY_FIELD.search(piece):
                yield piece
            elif is_whole and _is_bearable(piece):
                yield from self._line(piece)
            else:
                if begins:
                    warn(f"cannot look into line {number} of {name}: it is too large, "
                         "and stays")
                yield piece
            begins = piece.endswith(b"\n")

    def _line(self, line):
        """Yield the parts of a line, rewritten; as it is if it is no record."""
        try:
            found = _folder_values(line)
            olds = [json.loads(line[start:end].decode()) for start, end in found]
        except (ValueError, RecursionError):
            yield line
            return
        at = 0
        for (start, end), old in zip(found, olds, strict=True):
            new = self.folder_map.new_path(old)
            if new is None and len(self.unmatched) < SAID_AT_MOST:
                self.unmatched[old[:200]] = None
            if new is not None and new != old:
                self.changed = True
                yield line[at:start]
                yield _as_json(new)
                at = end
        yield line[at:]


def _pieces(blocks):
    """Yield the lines of a stream with their ends; one above LINE_LIMIT in pieces."""
    rest = b""
    for block in blocks:
        *ended, more = block.split(b"\n")
        for line in ended:
            yield rest + line + b"\n"
            rest = b""
        rest += more
        if len(rest) > LINE_LIMIT:
            yield rest
            rest = b""
    if rest:
        yield rest


def _is_bearable(line):
    """Can the values of a line be held in memory?"""
    return len(line) <= LONG_LINE or shortened_line(line, 0) is not None


def _folder_values(line):
    """[(start, end)] of the values in a line that name a working directory.

    ValueError if the line is no record. A byte is read as a character: what is looked
    for is ASCII.
    """
    text = line.decode("latin-1")
    found, end = _members(text, _SPACE.match(text).end())
    if _SPACE.match(text, end).end() != len(text):
        raise ValueError("more than one object")
    wanted = []
    for member in found:
        if member.key in FOLDERS:
            wanted.append(member)
        elif member.key == WORKTREE and text[member.start] == "{":
            inner, _ = _members(text, member.start)
            wanted += [one for one in inner if one.key in FOLDERS_OF_WORKTREE]
    return sorted((one.start, one.end) for one in wanted if text[one.start] == '"')


def _members(text, at):
    """The _Members of the object that begins there, and where it ends."""
    found = []
    expected = "{"
    while True:
        match = _MEMBER.match(text, at)
        if not match or match[0][0] != expected:
            break
        expected = ","
        _, end = _skip_value(text, match.end())
        found.append(_Member(match[1], match.end(), end))
        at = _SPACE.match(text, end).end()
    if text[at:at + 1] != "}":
        raise ValueError("no object")
    return found, at + 1


def _as_json(text):
    """A text in JSON as Claude Code writes it: UTF-8, lone surrogates escaped."""
    quoted = json.dumps(text, ensure_ascii=False)
    return quoted.encode("utf-8", "backslashreplace")
