"""Run the tests on another day: faketime '+400 days' make test.

faketime alone will not do: the times that the kernel gives to files stay those of
today, so that what was written just now is 400 days old. Under faketime pytest starts
itself again with shifted.c in its place, which shifts both; that needs a C compiler and
Linux. make soak runs the tests so (test_calendar.py).
"""
import os
import subprocess
import sys

import pytest

HERE = os.path.dirname(os.path.realpath(__file__))
LIBRARY = os.path.join(os.path.dirname(HERE), "build", "shifted.so")


def environment():
    """The variables that shift the clock of a program; empty on an ordinary day."""
    names = ("CSB_SHIFT", "LD_PRELOAD")
    if "CSB_SHIFT" not in os.environ:
        return {}
    return {name: os.environ[name] for name in names}


def build():
    """Compile the library aside, so that no half file is ever there."""
    os.makedirs(os.path.dirname(LIBRARY), exist_ok=True)
    aside = f"{LIBRARY}.{os.getpid()}"
    source = os.path.join(HERE, "shifted.c")
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", aside, source], check=True)
    os.replace(aside, LIBRARY)


def put_python(folder, python):
    """Have folder/python3 be a Python with the shifted clock, whatever environment it
    is started in: a timer's is empty. sys.executable is its own path, so that what it
    starts has it, too."""
    if not environment():
        return
    settings = " ".join(f"{name}='{value}'" for name, value in environment().items())
    path = os.path.join(folder, "python3")
    with open(path, "w", encoding="utf-8") as file:
        file.write(
            f"#!/bin/bash\nexport {settings}\nexec -a \"$0\" '{python}' \"$@\"\n"
        )
    os.chmod(path, 0o755)


def start_again(config):
    """Under faketime: this pytest anew, with our library instead of faketime's."""
    word = os.environ.get("FAKETIME")
    if word is None:
        return
    try:
        shift = int(word)
    except ValueError:
        pytest.exit(
            f"under faketime the tests need a shift such as '+400 days', not {word}", 3
        )
    try:
        build()
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.exit(f"under faketime the tests need a C compiler: {error}", 3)

    for name in list(os.environ):
        if name.startswith("FAKETIME"):
            del os.environ[name]
    os.environ.update(LD_PRELOAD=LIBRARY, CSB_SHIFT=str(shift))
    # pytest has put its own stdout and stderr in place:
    # the new one is to have the real ones.
    config.pluginmanager.getplugin("capturemanager").stop_global_capturing()
    os.execv(sys.executable, sys.orig_argv)
