"""Markdown, as models and people write it: the lines of a text, the marks in a line

A line stays one, for people press Enter where they mean it. What is no Markdown is
text, and so are links and HTML.
"""
import re
from collections import namedtuple

LONGEST_MARKED = 10_000         # characters of a text in which marks are looked for

# kind: text, heading, item (of a list), quote, row (of a table), code, or fence, which
# stands above and below code. start: what the words stand behind, "  - ". Of a fence
# that is its marks, and words the whole line.
TextLine = namedtuple("TextLine", "kind start words")
# style: "" or letters: b bold, i italic, c code.
Span = namedtuple("Span", "text style")

_FENCE = re.compile(r"[ \t]{0,8}(```+(?=[^`]*$)|~~~+).*")
_START = re.compile(
    r"\s*(?:(?P<heading>#{1,6}\s+)|(?P<item>(?:[-*+]|\d{1,9}[.)])\s+)"
    r"|(?P<quote>(?:>\s?){1,99})|(?P<row>(?=\|.*\|)))"
)


def _each_line(text):
    """Yield the lines of a text, of which only one is held at a time."""
    start = 0
    while start <= len(text):
        end = text.find("\n", start)
        if end < 0:
            end = len(text)
        yield text[start:end]
        start = end + 1


def lines_in(text):
    fence = ""                  # of the code that is open
    for line in _each_line(text):
        if fence:
            if line.strip().startswith(fence) and not line.strip(" \t" + fence[0]):
                yield TextLine("fence", fence, line)
                fence = ""
            else:
                yield TextLine("code", "", line)
            continue
        opening = _FENCE.fullmatch(line)
        start = _START.match(line)
        if opening:
            fence = opening[1]
            yield TextLine("fence", fence, line)
        elif start:
            yield TextLine(start.lastgroup, start[0], line[start.end():])
        else:
            yield TextLine("text", "", line)


# The name of a group is the style of what it holds. Others are not looked for further
# than this: a text full of marks would take long.
_MARKED = re.compile(
    r"(?<!`)(?P<mark>`+)(?!`)(?P<c>.{1,1000}?)(?<!`)(?P=mark)(?!`)"
    r"|\*\*(?=\S)(?P<b>.{1,1000}?)(?<=\S)\*\*"
    r"|(?<![*\w])\*(?=[^\s*])(?P<i>[^*]{1,1000}?)(?<=\S)\*(?![*\w])",
    re.S,
)


def spans_in(text, style=""):
    """The Spans of a line, or of several."""
    found = []
    at = 0
    if len(text) < LONGEST_MARKED:
        for match in _MARKED.finditer(text):
            if match.start() > at:
                found.append(Span(text[at:match.start()], style))
            at = match.end()
            letter = match.lastgroup
            if letter == "c":
                found.append(Span(match["c"].strip(), style + "c"))
            else:
                found += spans_in(match[letter], style + letter)
    if at < len(text):
        found.append(Span(text[at:], style))
    return found


# Not those that may be part of a name.
_MARKS = re.compile(r"\*\*|```\w*\s*|`|(?<!\S)#{1,6} ")


def without_marks(text):
    """A text that stands in one line, without the marks that say nothing there."""
    return _MARKS.sub("", text)
