"""what a tool says of itself: its manual, its records, and the options that it takes"""
import argparse
import ast
import os
import re
import runpy
import sys
import textwrap
from collections import namedtuple

from csb import Error

# What a docstring says of records. way: in, out or none. kinds: those that it is about,
# none where it is about something else, such as lines of a transcript.
Said = namedtuple("Said", "way kinds text")

READERS = ("parse_args", "parse_known_args", "parse_intermixed_args")


class Found(BaseException):
    """Carries the options of a tool out of it: nothing there catches this."""


def manual_of(path):
    """The docstring of a tool, as it stands there."""
    with open(path, encoding="utf-8") as file:
        tree = ast.parse(file.read(), path)
    return (ast.get_docstring(tree, clean=False) or "").strip()


def records_of(path):
    """What a tool says of the records that it takes and makes: [Said]."""
    found = []
    for block in re.findall(r"(?ms)^record: .*?(?=\n\n|\Z)", manual_of(path)):
        for said in re.split(r"(?m)^record: *", block)[1:]:
            found.append(_record_line(said.rstrip()))
    return found


def _record_line(text):
    """A record: line and those that go on with it; kinds end with two spaces."""
    way, rest = re.fullmatch(r"(in|out|none)\b[ ;]*(.*)", text, re.S).groups()
    kinds, fields = (), rest
    match = re.match(r"(\w+(?:, \w+)*) {2,}(?=\S)", rest)
    if match:
        kinds = tuple(match[1].split(", "))
        fields = rest[match.end():]
    first, _, others = fields.partition("\n")
    others = textwrap.dedent(others)
    return Said(way, kinds, f"{first}\n{others}".rstrip())


def options_of(path):
    """The parser that a tool has made by the time it reads its command line.

    None for csb, which hands its command line on. Error for a tool that looks at none.
    """
    name = os.path.basename(path)
    if name == "csb":
        return None
    for reader in READERS:
        setattr(argparse.ArgumentParser, reader, _stop)
    sys.argv[:] = [path]
    # Whatever it may do before: not in the home of whoever makes a page.
    for variable in ("HOME", "CLAUDE_CONFIG_DIR", "CSB_HOME"):
        os.environ[variable] = os.devnull

    try:
        runpy.run_path(path, run_name="__main__")
    except Found as found:
        options, = found.args
        # The helper is loaded once, and took its name from the first tool.
        options.prog = name
        return options
    except SystemExit:
        pass
    raise Error(f"cannot find the options of '{path}': it looks at no command line")


def _stop(parser, *words):
    raise Found(parser)
