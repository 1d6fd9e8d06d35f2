"""what a person sees at a terminal: sizes, and how far long work has come"""
import os
import sys
import time

UNITS = ("bytes", "KB", "MB", "GB", "TB")
PATIENCE = 1.0              # seconds of work after which a person wants to see it
PAUSE = 0.1                 # seconds between two drawings


def human_size(count):
    """A number of bytes for people: 62.6 MB. One MB is 1,000,000 bytes."""
    size = float(count)
    for unit in UNITS:
        if size < 999.95 or unit == UNITS[-1]:
            break
        size /= 1000
    return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"


class Progress:
    """A line on a terminal that says how far work has come; nothing anywhere else.

        with Progress("reading back", total=len(files)) as progress:
            for file in files:
                ...
                progress.add(1)

    It is drawn on stderr, only while that is a terminal and once the work takes more
    than a second, and is gone at the end.
    """

    def __init__(self, what, total, unit=str):
        self.what = what
        self.total = total
        self.unit = unit            # makes text of a count: str, or human_size
        self.done = 0
        self.shown = False
        self.next_time = time.monotonic() + PATIENCE
        self.visible = sys.stderr is not None and sys.stderr.isatty()

    def __enter__(self):
        return self

    def __exit__(self, *problem):
        self.clear()

    def add(self, count):
        """Say that so much more is done."""
        self.done += count
        if self.visible and time.monotonic() >= self.next_time:
            self._draw()

    def clear(self):
        """Take the line away, for a message or at the end."""
        if self.shown:
            _to_terminal("\r\x1b[K")
            self.shown = False

    def _draw(self):
        share = 100 * self.done // max(self.total, 1)
        done = self.unit(self.done)
        total = self.unit(self.total)
        _to_terminal(f"\r\x1b[K{self.what}: {done} of {total} ({min(share, 100)} %)")
        self.shown = True
        self.next_time = time.monotonic() + PAUSE


def _to_terminal(text):
    try:
        os.write(sys.stderr.fileno(), text.encode())
    except OSError:
        pass                        # the terminal is gone
