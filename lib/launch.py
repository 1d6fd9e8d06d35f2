"""the commands that pip installs: launch.csb_find() runs the tool csb-find of the package"""
import os
import runpy
import sys

BIN = os.path.join(os.path.dirname(os.path.realpath(__file__)), os.pardir, "bin")


def __getattr__(name):
    """The function that runs the tool of that name, - for _ where no tool is called just so."""
    for tool in (name, name.replace("_", "-")):
        path = os.path.normpath(os.path.join(BIN, tool))
        if os.path.isfile(path):
            break
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def start():
        sys.argv[0] = tool
        runpy.run_path(path, run_name="__main__")
    return start
