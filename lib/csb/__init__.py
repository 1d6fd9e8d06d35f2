"""how every csb tool behaves: options, records, messages, times and exit status

The one helper that all tools share. It knows nothing of sessions, git or files.
"""
import os
import sys

if sys.version_info < (3, 10):
    sys.exit(
        f"{os.path.basename(sys.argv[0])}: cannot run on Python "
        f"{sys.version.split()[0]}: 3.10 or newer is needed"
    )


def end_on_interrupt(kind, error, trace):
    """End at Ctrl-C with no traceback, also while the modules below are loaded."""
    if issubclass(kind, KeyboardInterrupt):
        os._exit(130)
    sys.__excepthook__(kind, error, trace)


sys.excepthook = end_on_interrupt

import argparse
import gc
import json
import re
import time

VERSION = "0.3.0"

# Exit statuses. In a Claude Code hook 2 blocks the client.
DONE = 0
FAILED = 1              # something failed and was named; the rest was done
MISUSE = 2              # the command line is wrong
ABSENT = 3              # no store, no index, no repository, a missing tool
NOTHING = 4             # csb-fmt --some: there was nothing to show
RETRY = 75              # another run holds the lock
INTERRUPTED = 130
BROKEN_PIPE = 141

# csb puts "PID csb NAME" here when a person typed that: NAME speaks as what was typed.
TYPED = "CSB_TYPED"


def _name_of_tool():
    """What the tool calls itself: as its file is named, or as it was typed.

    Only csb itself is believed: the process that started us, or that became us. The
    stages of a tool speak as the tool that started them does.
    """
    pid, _, typed = os.environ.pop(TYPED, "").partition(" ")
    if typed and re.fullmatch("csb [a-z_-]+", typed):
        if pid == str(os.getpid()):
            return typed        # csb-resume, which starts Claude Code, keeps it
        if pid == str(os.getppid()):
            os.environ[TYPED] = f"{os.getpid()} {typed}"
            return typed
    name = os.path.basename(sys.argv[0])
    return name.removesuffix(".exe").removesuffix(".py")


TOOL = _name_of_tool()

DAY = 86400             # seconds
YEAR = 366 * DAY        # nobody waits for so long

# ASCII, so that the locale of a hook or a cron job does not matter; lone surrogates,
# which stand for bytes of file names, come back as they were.
encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode

# What a terminal would obey, or show as something that it is not: control characters,
# marks that turn the direction of text, and halves of surrogate pairs. (A text: most
# runs do not need it compiled.)
_UNPRINTABLE = (
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)

_worst_status = DONE


class Error(Exception):
    """Stops the tool: the text is its one line on stderr, the status its status.

    below: more lines, of what there is to choose from.
    """

    def __init__(self, text, status=FAILED, below=()):
        super().__init__(text)
        self.status = status
        self.below = below


# --- the command line -----------------------------------------------------------------


class Options(argparse.ArgumentParser):
    """The options of a tool, whose docstring is its manual. Misuse is status 2."""

    def __init__(self, manual):
        self.manual = manual or ""      # PYTHONOPTIMIZE=2 drops it
        summary, _, details = self.manual.strip().partition("\n")
        super().__init__(
            prog=TOOL,
            description=summary,
            epilog=details.strip("\n"),
            formatter_class=_help_formatter,
            allow_abbrev=False,
        )
        self.add_argument("--version", action="version", version=f"{TOOL} {VERSION}")

    def flag(self, name, meaning):
        """Add an option that is given or not."""
        self.add_argument(name, action="store_true", help=meaning)

    def error(self, message):
        # It would name the function that reads the value.
        message = re.sub("invalid [a-z_]+ value:", "it cannot be", message)
        raise Error(f"{message} ({self.prog} --help lists the options)", MISUSE)


def _help_formatter(prog):
    # A fixed width: to ask for the terminal's would import shutil, 2 ms.
    return argparse.RawDescriptionHelpFormatter(prog, width=79)


def seconds(text):
    """A length of time, as an option gives it."""
    number = float(text)
    if not 0 <= number <= YEAR:
        raise ValueError("it is no length of time")
    return number


def whole_number(text):
    """A number from 0 on, as an option gives it."""
    if not re.fullmatch("[0-9]{1,9}", text):
        raise ValueError("it is no whole number")
    return int(text)


def before_dashes(words):
    """(the words before "--", where options may stand, those behind it)."""
    at = words.index("--") if "--" in words else len(words)
    return words[:at], words[at + 1:]


def operands(options, words, bare="session_id"):
    """The records that a filter works on: from the command line, else from stdin.

    A word on the command line becomes the record {bare: word}.
    """
    if words:
        if "" in words:
            options.error("an empty word names nothing")
        return ({bare: word} for word in words)
    require_input(options)
    return records(sys.stdin.buffer, bare)


def require_input(options):
    """Error when nothing is piped in; it shows what was meant."""
    if sys.stdin is not None and not is_terminal(sys.stdin):
        return
    name = TOOL.replace(" ", "-")
    text = "what should it work on? Name it, or pipe it in"
    if TOOL != name and re.search(f"^  {name} 3f4a9b2c", options.manual, re.M):
        # A person typed "csb log", and may not care for pipes.
        text = f"which session? {TOOL} 3f4a9b2c, for one (csb list shows them)"
    else:
        pipe = re.search(rf"^  (\S.*\| {name}.*?)(?:   |$)", options.manual, re.M)
        if pipe:
            text += f", such as: {pipe[1]}"
    raise Error(text, MISUSE)


def is_terminal(stream):
    """Is a stream, which may be closed (None), a terminal?"""
    return stream is not None and stream.isatty()


# --- records --------------------------------------------------------------------------


def emit(record):
    """Write one record (a dict, "kind" first) as a line on stdout."""
    try:
        sys.stdout.write(encode(record) + "\n")
    except BrokenPipeError:
        # Nobody reads any more. No OSError from here on, which a tool might take for
        # one of the file that it is at work on.
        raise SystemExit(BROKEN_PIPE) from None


def records(lines, bare="session_id"):
    """Yield the records of a stream of lines (bytes).

    A line that is just an id is the record {"session_id": id}. With bare="path" any
    line that does not begin with "{" is a path. What is no record is reported and
    passed over.
    """
    for number, line in enumerate(lines, 1):
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")   # PowerShell begins so
        record = None
        if not line.startswith(b"{"):   # most do: to look closer takes a while
            if not line.strip():
                continue
            record = _bare_record(line.rstrip(b"\r\n"), bare)
        if record is None:
            record = _json_record(line, number)
        if record is not None:
            yield record


def _bare_record(line, bare):
    if bare == "path":
        return {"path": os.fsdecode(line)}
    word = line.decode("ascii", "replace").strip()
    if re.fullmatch("[0-9a-fA-F-]{4,36}", word):
        return {"session_id": word}
    return None


def _json_record(line, number):
    problem = "it is no object"
    try:
        record = json.loads(line)
        if isinstance(record, dict):
            return record
    except (ValueError, RecursionError) as error:
        problem = error
    warn(f"cannot read line {number} of the input as a record: {problem}")
    return None


# --- messages -------------------------------------------------------------------------


def say(text, tool=TOOL):
    """News on stderr, in a line; all of an Error. The exit status stays as it is."""
    news = f"{tool}: {printable(str(text))}\n"
    for line in getattr(text, "below", ()):
        news += f"{tool}:   {printable(line)}\n"
    try:
        os.write(sys.stderr.fileno(), news.encode())    # one write: lines stay whole
    except (OSError, AttributeError, ValueError):
        pass                                            # nobody listens


def warn(text, status=FAILED):
    """Report a failure in one line and go on. The worst status becomes the tool's."""
    global _worst_status
    _worst_status = max(_worst_status, status)
    say(text)


def worst_status():
    """The worst that was warned of until now."""
    return _worst_status


def why(error):
    """An exception in the system's words, without its number and file name."""
    return getattr(error, "strerror", None) or str(error)


def printable(text):
    """The text with everything that a terminal would obey written out, as \\x1b."""
    return re.sub(
        _UNPRINTABLE, lambda match: match[0].encode("unicode_escape").decode(), text
    )


# --- times ----------------------------------------------------------------------------

# Of the years 1000 to 9999, in seconds since 1970: RFC 3339 has four digits.
FIRST_SECOND = -30_610_224_000
LAST_SECOND = 253_402_300_799


def utc(seconds):
    """Seconds since 1970 as RFC 3339: 2026-11-30T02:15:40Z.

    What lies outside of the years 1000 to 9999 becomes the nearest time within.
    """
    seconds = min(max(seconds, FIRST_SECOND), LAST_SECOND)
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def utc_ns(nanoseconds):
    """Nanoseconds since 1970 (st_mtime_ns) as RFC 3339 with nine digits; as utc()."""
    first, last = FIRST_SECOND * 10**9, LAST_SECOND * 10**9 + 999_999_999
    seconds, rest = divmod(min(max(nanoseconds, first), last), 10**9)
    return f"{utc(seconds)[:-1]}.{rest:09d}Z"


def stamp():
    """The time as it stands in names of files: 20261130T021540Z."""
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())


def from_utc(text):
    """Nanoseconds since 1970 of a time of utc() or utc_ns(), else ValueError."""
    from datetime import datetime  # 2 ms: not every tool needs it

    if not isinstance(text, str):
        raise ValueError(f"{text!r} is no time")
    whole = datetime.fromisoformat(text[:19] + "+00:00")
    fraction = text[19:].strip(".Z")[:9].ljust(9, "0")
    return int(whole.timestamp()) * 10**9 + int(fraction)


# --- running --------------------------------------------------------------------------


def replace_closed_streams():
    """Put something in place of the streams that the caller has closed (2>&-).

    Else the next files that are opened, locks and databases, would have their numbers.
    """
    number = 0
    while number <= 2:
        number = os.open(os.devnull, os.O_RDONLY)
    os.close(number)
    if sys.stdout is None:      # writing there has to fail
        sys.stdout = open(1, "w")
    if sys.stderr is None:      # nobody wants to know
        sys.stderr = open(os.devnull, "w")


def run(main):
    """Run a tool and exit: with what main returns, or the worst that it warned of."""
    # Python would ignore a Ctrl-C that comes while an object is deleted, and go on.
    sys.unraisablehook = lambda problem: end_on_interrupt(*problem[:3])
    # What is loaded by now stays: to look for garbage in it would take 3 ms.
    gc.freeze()
    os.umask(0o077)             # what we write is for its owner alone
    replace_closed_streams()
    name = ""                   # of what could not be read or written
    try:
        status = main() or DONE
    except SystemExit as stop:  # --help, --version, nobody reads our output
        status = stop.code or DONE
    except KeyboardInterrupt:
        os._exit(INTERRUPTED)   # at once, whatever threads are still at
    except BrokenPipeError:
        status = BROKEN_PIPE
    except Error as error:
        say(error)
        status = error.status
    except OSError as error:    # one that nobody expected where it came up
        name = "the output"
        if isinstance(error.filename, (str, bytes)):    # a number is a descriptor
            name = os.fsdecode(error.filename)
        say(f"cannot go on with '{name}': {why(error)}")
        status = FAILED
    except Exception as error:  # a fault of ours, or of the machine: no traceback
        say(f"cannot go on: {type(error).__name__}: {error}")
        status = FAILED
    status = status or _worst_status
    sys.exit(_flushed(status, is_said=name == "the output"))


def _flushed(status, is_said):
    """The exit status once stdout is written: a full disk is no success.

    is_said: that it cannot be written.
    """
    try:
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        status = status or BROKEN_PIPE
    except (OSError, ValueError) as error:
        if not is_said:
            say(f"cannot write the output: {why(error)}")
        status = status or FAILED
    # Python flushes once more when it ends; let that go nowhere.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status
