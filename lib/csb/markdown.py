"""Markdown, as models and people write it, in blocks and spans

    for block in blocks_in(text):
        a Paragraph, Heading, Code, Quote, Listing, Table or Rule

What is no Markdown is a paragraph; lines keep their ends, for people press Enter where
they mean it. Links and HTML are text like any other.
"""
import re
from collections import namedtuple

DEEPEST_BLOCK = 12              # lists and quotes within each other
TAB = 4                         # columns
LONGEST_MARKED = 10_000         # characters of a text in which marks are looked for

Paragraph = namedtuple("Paragraph", "lines")
Heading = namedtuple("Heading", "level text")
Code = namedtuple("Code", "lines")
Quote = namedtuple("Quote", "blocks")
Listing = namedtuple("Listing", "items")
Item = namedtuple("Item", "mark blocks")        # mark: "-", "*", "+" or "1."
Table = namedtuple("Table", "rows")             # of cells; the first is the head
Rule = namedtuple("Rule", "")

# style: "" or letters: b bold, i italic, c code.
Span = namedtuple("Span", "text style")

_FENCE = re.compile(r"( {0,8})(?:(`{3,})([^`]*)|(~{3,})(.*))")
_HEADING = re.compile(r" {0,3}(#{1,6})\s+(\S.*)")
_RULE = re.compile(r" {0,3}(?:(?:-\s*){3,}|(?:\*\s*){3,}|(?:_\s*){3,})")
_ITEM = re.compile(r"(\s*)([-*+]|\d{1,9}[.)])(\s+)(\S.*)")
_QUOTE = re.compile(r" {0,3}> ?")
_DELIMITERS = re.compile(r"[\s|:-]*-[\s|:-]*")
_BAR = re.compile(r"(?<!\\)\|")


def blocks_in(text):
    """The blocks of a text."""
    return _blocks(text.split("\n"), 0)


def _blocks(lines, depth):
    """The blocks of lines; depth: how many lists and quotes are around them."""
    found = []
    at = 0
    while at < len(lines):
        if not lines[at].strip():
            at += 1
            continue
        block, at = _block_at(lines, at, depth)
        found.append(block)
    return found


def _block_at(lines, at, depth):
    """(the block that begins at a line which is not blank, where it ends)."""
    line = lines[at]
    if _FENCE.fullmatch(line):
        return _code_at(lines, at)
    heading = _HEADING.fullmatch(line)
    if heading:
        return Heading(len(heading[1]), heading[2]), at + 1
    if _RULE.fullmatch(line):
        return Rule(), at + 1
    if _is_table(lines, at):
        return _table_at(lines, at)
    if depth < DEEPEST_BLOCK:
        if _QUOTE.match(line):
            return _quote_at(lines, at, depth)
        if _ITEM.fullmatch(line):
            return _list_at(lines, at, depth)
    return _paragraph_at(lines, at, depth)


def _paragraph_at(lines, at, depth):
    end = at + 1
    while end < len(lines) and not _starts_block(lines, end, depth):
        end += 1
    return Paragraph([line.rstrip() for line in lines[at:end]]), end


def _starts_block(lines, at, depth):
    """Does something else than more of a paragraph begin at a line?"""
    line = lines[at]
    if not line.strip() or _FENCE.fullmatch(line) or _HEADING.fullmatch(line):
        return True
    if _RULE.fullmatch(line) or _is_table(lines, at):
        return True
    if depth >= DEEPEST_BLOCK:
        return False
    return bool(_QUOTE.match(line) or _ITEM.fullmatch(line))


# --- code -----------------------------------------------------------------------------


def _code_at(lines, at):
    """The code from a fence to its end, or to the text's.

    Markdown within a fence has fences of its own: one that names a language begins
    one, and the next end is its.
    """
    opening = _FENCE.fullmatch(lines[at])
    mark = opening[2] or opening[4]
    language = (opening[3] or opening[5] or "").strip().lower()
    indent = len(opening[1])
    has_inner = language in ("markdown", "md")
    inner = 0
    found = []
    for end in range(at + 1, len(lines)):
        line = lines[end]
        fence = _FENCE.fullmatch(line)
        is_end = fence and _ends(fence, mark)
        if is_end and not inner:
            return Code(found), end + 1
        if is_end:
            inner -= 1
        elif fence and has_inner and (fence[3] or fence[5] or "").strip():
            inner += 1
        found.append(_without_indent(line, indent))
    return Code(found), len(lines)


def _ends(fence, mark):
    closing = fence[2] or fence[4]
    words = fence[3] or fence[5] or ""
    return closing.startswith(mark) and not words.strip()


def _without_indent(line, indent):
    """A line without so many columns of indent, as far as it has them."""
    at = 0
    while indent > 0 and line[at:at + 1] in (" ", "\t"):
        indent -= TAB if line[at] == "\t" else 1
        at += 1
    return line[at:]


# --- quotes and lists -----------------------------------------------------------------


def _quote_at(lines, at, depth):
    inner = []
    while at < len(lines) and _QUOTE.match(lines[at]):
        inner.append(_QUOTE.sub("", lines[at], count=1))
        at += 1
    return Quote(_blocks(inner, depth + 1)), at


def _list_at(lines, at, depth):
    """A list: the items that are not indented as far as the text of the one before."""
    items = []
    while at < len(lines):
        match = _ITEM.fullmatch(lines[at])
        if not match or _RULE.fullmatch(lines[at]):
            break
        content = _indent_of(match[1] + "x") + len(match[2] + match[3])
        inner = [match[4]]
        at += 1
        while at < len(lines) and _is_of_item(lines, at, match, inner, depth):
            inner.append(_without_indent(lines[at], content))
            at += 1
        while inner and not inner[-1].strip():
            inner.pop()
        items.append(Item(match[2], _blocks(inner, depth + 1)))
    return Listing(items), at


def _is_of_item(lines, at, item, inner, depth):
    """Does a line belong to the item (its match) above, of which inner are lines?"""
    line = lines[at]
    if not line.strip():
        # Of a blank line the next one decides.
        rest = (one for one in lines[at + 1:at + 4] if one.strip())
        following = next(rest, "")
        return _indent_of(following) > _indent_of(item[1] + "x") + 1
    if _indent_of(line) > _indent_of(item[1] + "x") + 1:
        return True
    last = inner[-1]
    if not last.strip() or _FENCE.fullmatch(last):
        return False
    return not _starts_block(lines, at, depth)


def _indent_of(line):
    """How many columns of space a line begins with."""
    start = line[:len(line) - len(line.lstrip(" \t"))]
    return len(start.expandtabs(TAB))


# --- tables ---------------------------------------------------------------------------


def _is_table(lines, at):
    """Does a table begin at a line: does it stand between bars, or above a rule?"""
    line = lines[at].strip()
    if "|" not in line:
        return False
    if line.startswith("|") and line.endswith("|") and len(line) > 2:
        return True
    below = lines[at + 1] if at + 1 < len(lines) else ""
    return "|" in below and _DELIMITERS.fullmatch(below) is not None


def _table_at(lines, at):
    rows = []
    while at < len(lines) and "|" in lines[at]:
        line = lines[at].strip()
        if not _DELIMITERS.fullmatch(line):
            rows.append(_cells(line))
        at += 1
    return Table(rows), at


def _cells(line):
    line = line.removeprefix("|")
    if line.endswith("|") and not line.endswith("\\|"):
        line = line[:-1]
    return [cell.strip().replace("\\|", "|") for cell in _BAR.split(line)]


# --- spans ----------------------------------------------------------------------------

_CODE_SPAN = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.S)
_MARKED = re.compile(
    r"\*\*\*(?=\S)(?P<bi>[^*]+?)(?<=\S)\*\*\*"
    r"|\*\*(?=\S)(?P<b>[^*]+?(?:\*(?!\*)[^*]*?)*?)(?<=\S)\*\*"
    r"|(?<!\w)__(?=\S)(?P<b_>[^_]+?)(?<=\S)__(?!\w)"
    r"|(?<![*\w])\*(?=[^\s*])(?P<i>[^*]+?)(?<=\S)\*(?![*\w])"
    r"|(?<!\w)_(?=[^\s_])(?P<i_>[^_]+?)(?<=\S)_(?!\w)",
    re.S,
)
_CODE_PLACE = "\0"              # stands for code while other marks are looked for


def spans_in(text):
    """The Spans of a paragraph, heading or cell."""
    if len(text) > LONGEST_MARKED:
        return [Span(text, "")]
    if not re.search("[*_`]", text):
        return [Span(text, "")]
    codes = []

    def put_aside(match):
        code = match[2]
        if code.startswith(" ") and code.endswith(" ") and code.strip():
            code = code[1:-1]
        codes.append(code)
        return _CODE_PLACE

    text = _CODE_SPAN.sub(put_aside, text.replace(_CODE_PLACE, "\ufffd"))
    marked = _marked(text, "")
    found = []
    codes.reverse()
    for span in marked:
        parts = span.text.split(_CODE_PLACE)
        for number, part in enumerate(parts):
            if number:
                found.append(Span(codes.pop(), span.style + "c"))
            if part:
                found.append(Span(part, span.style))
    return found


def _marked(text, style):
    """The Spans of a text in which bold and italic are looked for."""
    found = []
    at = 0
    for match in _MARKED.finditer(text):
        name = match.lastgroup
        letters = name.rstrip("_")
        if letters in style:
            continue
        if match.start() > at:
            found.append(Span(text[at:match.start()], style))
        found += _marked(match[name], style + letters)
        at = match.end()
    if at < len(text):
        found.append(Span(text[at:], style))
    return found


# Not those that may be part of a name.
_MARKS = re.compile(r"\*\*|```\w*\s*|`|(?<!\S)#{1,6} ")


def without_marks(text):
    """A text that stands in one line, without the marks that say nothing there."""
    return _MARKS.sub("", text)


def plain(text):
    """A text without its marks."""
    return "".join(span.text for span in spans_in(text))
