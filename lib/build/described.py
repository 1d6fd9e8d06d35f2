"""what a tool says of itself: its manual, and the options that it takes"""
import argparse
import ast
import os
import runpy
import sys

from csb import Error

READERS = ("parse_args", "parse_known_args", "parse_intermixed_args")


class Found(BaseException):
    """Carries the options of a tool out of it: nothing there catches this."""

    def __init__(self, options):
        super().__init__()
        self.options = options


def manual_of(path):
    """The docstring of a tool, as it stands there."""
    with open(path, encoding="utf-8") as file:
        tree = ast.parse(file.read(), path)
    return (ast.get_docstring(tree, clean=False) or "").strip()


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
        # The helper is loaded once, and took its name from the first tool.
        found.options.prog = name
        return found.options
    except SystemExit:
        pass
    raise Error(f"cannot find the options of '{path}': it looks at no command line")


def _stop(parser, *words):
    raise Found(parser)


def values_of(option):
    """What stands behind an option, or in the place of an operand; "" for nothing."""
    if option.option_strings and option.nargs == 0:
        return ""
    if option.metavar:
        return option.metavar
    if option.choices:
        return "{" + ",".join(option.choices) + "}"
    return option.dest.upper()
