"""what a person sees at a terminal: width, colour, cutting, times, sizes, progress

Columns are those of a terminal: a wide character takes two, an accent that stands on
the letter before it none.
"""
import os
import re
import sys
import time

from csb import DAY, is_terminal

UNITS = ("KB", "MB", "GB", "TB")
WIDTH = 80                  # columns where nothing else is known
NARROWEST = 40              # columns; what is narrower is written as if it were not
PATIENCE = 1.0              # seconds of work after which a person wants to see it
PAUSE = 0.1                 # seconds between two drawings

_MINUTE = 60                # seconds, as are the next
_HOUR = 3600
_YEAR = 31_557_600
_UNITS_OF_TIME = [
    ("year", _YEAR), ("month", _YEAR // 12), ("day", DAY), ("hour", _HOUR),
    ("minute", _MINUTE),
]

BOLD = "1"
DIM = "2"
RED = "31"
GREEN = "32"
YELLOW = "33"
CYAN = "36"

# csb says so when a pager shows what a tool writes: the terminal's columns and lines.
PAGED = "CSB_PAGED"


class Screen:
    """What a tool writes to: a terminal, csb's pager on one, or anything else.

    terminal, paged: is it so? width, height: in columns and lines; 80 and None if it is
    no terminal. colour: is it wanted?
    """

    def __init__(self, stream):
        size = re.fullmatch(r"(\d{1,5})x(\d{1,5})", os.environ.get(PAGED, ""))
        self.terminal = is_terminal(stream)
        self.paged = bool(size) and not self.terminal
        self.width = WIDTH
        self.height = None
        if self.paged:
            self.terminal = True
            self.width, self.height = int(size[1]), int(size[2])
        elif self.terminal:
            self.width, self.height = os.get_terminal_size(stream.fileno())
        self.width = max(self.width or WIDTH, NARROWEST)
        is_unwanted = "NO_COLOR" in os.environ or os.name == "nt" or is_dumb()
        self.colour = self.terminal and not is_unwanted

    def paint(self, code, text):
        """The text in a colour (or bold, or both: "1;32"), if colour is wanted."""
        if self.colour and code and text:
            return f"\x1b[{code}m{text}\x1b[0m"
        return text


def is_dumb():
    """Does the terminal, such as a shell in Emacs, just show what it is given?"""
    return os.environ.get("TERM") == "dumb"


def can_draw(stream):
    """Is a stream a terminal on which a line can be drawn again?"""
    return is_terminal(stream) and not is_dumb()


def write_out(text):
    """The text on stdout, in UTF-8 whatever the locale, and at once.

    So people see what there is, and a Ctrl-C leaves nothing behind that is yet to be
    written.
    """
    block = text.encode("utf-8", "replace")
    while block:
        block = block[os.write(1, block):]


# --- width ----------------------------------------------------------------------------


def columns(text):
    """How many columns the text takes."""
    if text.isascii():
        return len(text)
    return sum(map(_columns_of, text))


def _columns_of(char):
    if char.isascii():
        return 1
    from unicodedata import category, east_asian_width

    if category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if east_asian_width(char) in "WF" else 1


def fitting(text, width):
    """How many characters of the text fit into so many columns."""
    if text.isascii():
        return min(len(text), max(width, 0))
    for count, char in enumerate(text):
        width -= _columns_of(char)
        if width < 0:
            return count
    return len(text)


def cut(text, width):
    """The text in at most width columns, with an ellipsis where it is cut."""
    if columns(text) <= width:
        return text
    return text[:fitting(text, width - 1)] + "\u2026"


def cut_start(text, width):
    """As cut(), but the end is what is kept."""
    if columns(text) <= width:
        return text
    backwards = text[::-1]
    return "\u2026" + backwards[:fitting(backwards, width - 1)][::-1]


def padded(text, width):
    """The text with spaces behind it, so that it takes width columns."""
    return text + " " * (width - columns(text))


def wrap_spans(text, width):
    """Yield (start, end) of each line of at most width columns that a text becomes.

    It is broken between words, if one is not longer than half of a line.
    """
    start = 0
    while start < len(text):
        # A line has few characters that take no column: not all of the rest is copied.
        end = start + max(fitting(text[start:start + 4 * width], width), 1)
        if end < len(text) and text[end] != " ":
            space = text.rfind(" ", start, end)
            if space > (start + end) // 2:
                end = space
        yield start, end
        start = end
        if text[end:end + 1] == " ":
            start += 1


def wrap_text(text, width):
    """The lines of at most width columns that a text becomes; one at least."""
    lines = [text[start:end] for start, end in wrap_spans(text, width)]
    return lines or [""]


def wrap_painted(parts, width, paint):
    """Yield the lines that texts in their colours become together: [(text, code)].

    paint: that of a Screen.
    """
    whole = "".join(text for text, _ in parts)
    for start, end in wrap_spans(whole, width):
        line = ""
        at = 0
        for text, code in parts:
            line += paint(code, text[max(start - at, 0):max(end - at, 0)])
            at += len(text)
        yield line


# --- folders --------------------------------------------------------------------------


def with_tilde(path):
    """A path with the home directory as ~."""
    home = os.path.expanduser("~")
    if len(home) > 1 and (path == home or path.startswith(home + os.sep)):
        return "~" + path[len(home):]
    return path


# --- numbers and times ----------------------------------------------------------------


def human_size(count):
    """A number of bytes for people: 62.6 MB. One MB is 1,000,000 bytes."""
    if count < 1000:
        return counted(int(count), "byte")
    size = count / 1000
    for unit in UNITS:
        if size < 999.95 or unit == UNITS[-1]:
            break
        size /= 1000
    return f"{size:.1f} {unit}"


def capital(text):
    return text[:1].upper() + text[1:]


def counted(count, noun):
    """A count and its noun: 1 file, 1,269 files."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def short_count(count):
    """A large number in few digits: 1.2M."""
    units = ["", "k", "M", "G"]
    while count >= 1000 and len(units) > 1:
        count /= 1000
        units.pop(0)
    if units[0] and count < 100:
        return f"{count:.1f}{units[0]}"
    return f"{count:.0f}{units[0]}"


def span(seconds):
    """A length of time in its largest unit: 4 minutes."""
    for name, length in _UNITS_OF_TIME:
        if seconds >= length:
            return counted(int(seconds // length), name)
    return counted(int(seconds), "second")


def short_span(seconds):
    """A length of time in few letters: 4 min, 2 h, 3 d."""
    if seconds < _HOUR:
        return f"{max(int(seconds // _MINUTE), 1)} min"
    if seconds < 2 * DAY:
        return f"{int(seconds // _HOUR)} h"
    return f"{int(seconds // DAY)} d"


def every(minutes):
    """How often what comes again after so many minutes does: every 15 minutes."""
    if minutes == 60:
        return "every hour"
    if minutes % 60 == 0:
        return f"every {counted(minutes // 60, 'hour')}"
    return f"every {counted(minutes, 'minute')}"


def from_now(seconds, now):
    """A time as seen from now: 3 hours ago, in 2 days, just now."""
    if abs(now - seconds) < _MINUTE:
        return "just now"
    if seconds > now:
        return f"in {span(seconds - now)}"
    return f"{span(now - seconds)} ago"


def day_of(seconds, now):
    """The day of a time, here: today, yesterday, 12 Nov, 12 Nov 2025."""
    there = time.localtime(seconds)
    here = time.localtime(now)
    if there[:3] == here[:3]:
        return "today"
    if there[:3] == time.localtime(now - DAY)[:3]:
        return "yesterday"
    day = f"{there.tm_mday} {_MONTHS[there.tm_mon - 1]}"
    if abs(now - seconds) < _YEAR / 2 or there.tm_year == here.tm_year:
        return day
    return f"{day} {there.tm_year}"


_MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()


def clock(seconds, now):
    """A time on the clock here: today 14:02, 12 Nov 09:15; 12 Nov 2025 if long ago."""
    day = day_of(seconds, now)
    if day[-5:].strip().isdecimal():        # a year: the hour does not matter any more
        return day
    return f"{day} {time.strftime('%H:%M', time.localtime(seconds))}"


# --- progress -------------------------------------------------------------------------


class Progress:
    """A line on a terminal that says how far work has come; nothing anywhere else.

        with Progress("Reading back", total=len(files)) as progress:
            for file in files:
                ...
                progress.add(1)

    It is drawn on stderr, only while that is a terminal and once the work takes more
    than a second, and is gone at the end.
    """

    BAR = 24                        # columns

    def __init__(self, what, total, unit=str):
        self.what = what
        self.total = total
        self.unit = unit            # makes text of a count: str, or human_size
        self.done = 0
        self.shown = False
        self.next_time = time.monotonic() + PATIENCE
        self.visible = can_draw(sys.stderr)

    def __enter__(self):
        return self

    def __exit__(self, *problem):
        self.clear()

    def add(self, count):
        """Say that so much more is done."""
        self.done += count
        if self.visible and time.monotonic() >= self.next_time:
            line = progress_line(self.what, self.done, self.total, self.unit)
            width = os.get_terminal_size(sys.stderr.fileno()).columns or WIDTH
            _to_terminal("\r\x1b[K" + cut(line, width - 1))
            self.shown = True
            self.next_time = time.monotonic() + PAUSE

    def clear(self):
        """Take the line away, for a message or at the end."""
        if self.shown:
            _to_terminal("\r\x1b[K")
            self.shown = False


def progress_line(what, done, total, unit):
    """How far work has come: what, a bar, a share, and both counts."""
    share = min(done / max(total, 1), 1)
    full = int(share * Progress.BAR)
    bar = "\u2588" * full + "\u2591" * (Progress.BAR - full)
    return f"{what} {bar} {share:4.0%}  {unit(done)} of {unit(total)}"


def _to_terminal(text):
    try:
        os.write(sys.stderr.fileno(), text.encode())
    except OSError:
        pass                        # the terminal is gone
