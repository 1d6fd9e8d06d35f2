"""the marks of Markdown within a line or paragraph: **bold**, *italic*, `code`"""
import re
from collections import namedtuple

LONGEST_MARKED = 10_000         # characters of a text in which marks are looked for

# style: "" or letters: b bold, i italic, c code.
Span = namedtuple("Span", "text style")

# than this: a text full of marks would take long.
_MARKED = re.compile(
    r"(?<!`)(?P<mark>`+)(?!`)(?P<c>.{1,1000}?)(?<!`)(?P=mark)(?!`)"
    r"|\*\*(?=\S)(?P<b>.{1,1000}?)(?<=\S)\*\*"
    r"|(?<![*\w])\*(?=[^\s*])(?P<i>[^*]{1,1000}?)(?<=\S)\*(?![*\w])",
    re.S,
)


def spans_in(text, style=""):
    """The Spans of a paragraph, heading or cell."""
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
