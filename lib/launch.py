"""the commands that pip installs: launch.csb_find() runs the tool csb-find"""
import os
import runpy
import sys

BIN = os.path.join(os.path.dirname(os.path.realpath(__file__)), os.pardir, "bin")


def __getattr__(name):
    """The function that runs the tool of a name: csb_find, session_snapshot."""
    tool = tool_named(name)
    if tool is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    path = os.path.normpath(os.path.join(BIN, tool))

    def start():
        sys.argv[0] = tool
        runpy.run_path(path, run_name="__main__")

    return start


def tool_named(name):
    """The tool that a function stands for; None if there is none.

    No function has a "-" in its name, and some tools have a "_".
    """
    for tool in (name, name.replace("_", "-")):
        if os.path.isfile(os.path.join(BIN, tool)):
            return tool
    return None
