"""csb/terminal.py: widths, cutting, times and sizes for people, as tables of cases."""
import os
import pty
import re
import sys
import time

import pytest
from conftest import ROOT, width

sys.path.insert(0, f"{ROOT}/lib")
from csb import terminal

pytestmark = pytest.mark.logic

NOW = 1_767_323_045         # 2026-01-02T03:04:05Z, a Friday
MINUTE, HOUR, DAY = 60, 3600, 86_400
TEXTS = [
    "", "a", "plain words", "\u65e5\u672c\u8a9e", "e\u0301" * 30, "a" + "\u0301" * 500,
    "\U0001f600" * 9, "\u200b" * 30 + "x" * 9, "x" * 7 + "\u65e5", "x\u20dd" * 12,
    "\u65e5 " * 20, "word " * 20, "a " + "b" * 50 + " c", " ", "   ", "tab and end "]


@pytest.fixture(autouse=True)
def in_utc(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("text", TEXTS)
def test_columns(text):
    assert terminal.columns(text) == width(text)
    assert width(terminal.padded(text, 600)) == 600


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("room", [1, 2, 7, 8, 40])
def test_cutting(text, room):
    """It fits, and as much of it is left as there is room for."""
    start = terminal.cut(text, room)
    end = terminal.cut_start(text, room)
    if width(text) <= room:
        assert start == end == text
        return
    assert start.endswith("\u2026") and text.startswith(start[:-1])
    assert end.startswith("\u2026") and text.endswith(end[1:])
    for kept in start, end:
        assert room - 1 <= width(kept) <= room


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("room", [2, 7, 40])
def test_folding(text, room):
    """No line is too long and nothing but spaces is lost."""
    lines = terminal.wrap_text(text, room)
    assert max(map(width, lines)) <= room
    assert "".join("".join(lines).split()) == "".join(text.split())
    for start, end in terminal.wrap_spans(text, room):
        assert start < end


def test_lines_are_broken_between_words():
    assert terminal.wrap_text("one two three four", 9) == ["one two", "three", "four"]
    assert terminal.wrap_text("a " + "b" * 12, 8) == ["a bbbbbb", "bbbbbb"]
    assert terminal.wrap_text("one two", 7) == ["one two"]


@pytest.mark.parametrize(
    "path, shown",
    [
        ("/home/me", "~"),
        ("/home/me/code", "~/code"),
        ("/home/mean", "/home/mean"),
        ("x", "x"),
    ],
)
def test_folders(monkeypatch, path, shown):
    monkeypatch.setenv("HOME", "/home/me")
    assert terminal.with_tilde(path) == shown


def test_a_home_that_is_the_root_is_no_home(monkeypatch):
    monkeypatch.setenv("HOME", "/")
    assert terminal.with_tilde("/srv") == "/srv"


@pytest.mark.parametrize(
    "count, text",
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1000, "1.0 KB"),
        (62_600_000, "62.6 MB"),
        (999_960, "1.0 MB"),
        (5 * 10**15, "5000.0 TB"),
    ],
)
def test_sizes(count, text):
    assert terminal.human_size(count) == text


@pytest.mark.parametrize("count, text", [
    (0, "0 files"), (1, "1 file"), (2, "2 files"), (1269, "1,269 files")])
def test_counts(count, text):
    assert terminal.counted(count, "file") == text


@pytest.mark.parametrize(
    "seconds, long, short",
    [
        (0, "0 seconds", "1 min"),
        (59, "59 seconds", "1 min"),
        (61, "1 minute", "1 min"),
        (55 * MINUTE, "55 minutes", "55 min"),
        (2 * HOUR, "2 hours", "2 h"),
        (47 * HOUR, "1 day", "47 h"),
        (3 * DAY, "3 days", "3 d"),
        (800 * DAY, "2 years", "800 d"),
    ],
)
def test_spans(seconds, long, short):
    assert (terminal.span(seconds), terminal.short_span(seconds)) == (long, short)


@pytest.mark.parametrize(
    "seconds, text",
    [
        (-20, "just now"),
        (20, "just now"),
        (-61, "1 minute ago"),
        (-125, "2 minutes ago"),
        (-HOUR - 5, "1 hour ago"),
        (-45 * DAY, "1 month ago"),
        (3 * HOUR + 60, "in 3 hours"),
        (2 * DAY + 60, "in 2 days"),
    ],
)
def test_times_seen_from_now(seconds, text):
    assert terminal.from_now(NOW + seconds, NOW) == text


@pytest.mark.parametrize(
    "seconds, text",
    [
        (0, "today 03:04"),
        (-3 * HOUR, "today 00:04"),
        (-4 * HOUR, "yesterday 23:04"),
        (-27 * HOUR, "yesterday 00:04"),
        (-28 * HOUR, "31 Dec 23:04"),
        (DAY, "3 Jan 03:04"),
        (-100 * DAY, "24 Sep 03:04"),
        (-200 * DAY, "16 Jun 2025"),
        (200 * DAY, "21 Jul 03:04"),
        (-3000 * DAY, "16 Oct 2017"),
    ],
)
def test_the_clock(seconds, text):
    assert terminal.clock(NOW + seconds, NOW) == text


def test_times_are_local(monkeypatch):
    monkeypatch.setenv("TZ", "XXX-5")
    time.tzset()
    assert terminal.clock(NOW, NOW) == "today 08:04"
    monkeypatch.setenv("TZ", "XXX+5")
    time.tzset()
    assert terminal.clock(NOW, NOW) == "today 22:04"


@pytest.mark.parametrize(
    "done, total, shown",
    [
        (0, 10, "\u2591" * 24 + "   0%  0 of 10"),
        (5, 10, "\u2588" * 12 + "\u2591" * 12 + "  50%"),
        (20, 10, "\u2588" * 24 + " 100%  20 of 10"),
        (0, 0, "   0%  0 of 0"),
    ],
)
def test_how_far_work_has_come(done, total, shown):
    line = terminal.progress_line("Reading", done, total, str)
    assert line.startswith("Reading ") and shown in line


def test_a_pipe_is_no_screen(monkeypatch):
    monkeypatch.delenv(terminal.PAGED, raising=False)
    with open(os.devnull, "w") as stream:
        screen = terminal.Screen(stream)
        assert not (screen.terminal or screen.paged or screen.colour)
        assert (screen.width, screen.paint("1", "x")) == (80, "x")
        for odd in ("", "80", "x", "80x24x", "-1x2", "999999x9"):
            monkeypatch.setenv(terminal.PAGED, odd)
            assert not terminal.Screen(stream).terminal, odd
        monkeypatch.setenv(terminal.PAGED, "132x40")
        screen = terminal.Screen(stream)
        assert (screen.terminal, screen.paged) == (True, True)
        assert (screen.width, screen.height) == (132, 40)
        monkeypatch.setenv(terminal.PAGED, "3x3")
        assert terminal.Screen(stream).width == 40


def test_colour(monkeypatch):
    main, side = pty.openpty()
    monkeypatch.setenv(terminal.PAGED, "132x40")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    with os.fdopen(side, "w") as stream, os.fdopen(main):
        screen = terminal.Screen(stream)
        assert screen.colour and not screen.paged, "a terminal is no pager"
        assert screen.paint("1", "x") == "\x1b[1mx\x1b[0m"
        assert screen.paint("", "x") == "x" and screen.paint("1", "") == ""
        monkeypatch.setenv("NO_COLOR", "")
        assert not terminal.Screen(stream).colour
        monkeypatch.delenv("NO_COLOR")
        monkeypatch.setenv("TERM", "dumb")
        assert not re.search("\x1b", terminal.Screen(stream).paint("1", "x"))
