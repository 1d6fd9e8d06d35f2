"""lib/build/squash: one readable file of a tool and of what it imports

The same for both forms, so it runs once.
"""
import os
import re
import subprocess

import pytest
from conftest import FORM, PYTHON, SAMPLE, put_tool

if FORM == "dist":
    pytest.skip("the same for both forms", allow_module_level=True)

SQUASH = "lib/build/squash bin/csb-try"
HEAD, TAIL = SAMPLE.split("\n\ndef main():\n")
TAIL = "\n\ndef main():\n" + TAIL
IMPORT = "from csb import Options, emit, run, warn\n"
KEY_OF = "from csb.session import key_of"


def test_it_makes_one_file(sh, house):
    """It runs alone and does the same; it is the same text every time."""
    done = sh(SQUASH, cwd=house).ok()
    assert sh(SQUASH, cwd=house).ok().out == done.out
    (house / "away").mkdir()
    (house / "away/csb-try").write_text(done.out, encoding="utf-8")
    (house / "away/csb-try").chmod(0o755)
    for words in ("", "--help", "--version", "--fail", "--wrong", ">/dev/full"):
        one = sh(f"away/csb-try {words}", cwd=house)
        two = sh(f"bin/csb-try {words}", cwd=house)
        assert (one.rc, one.out, one.err) == (two.rc, two.out, two.err)
    assert sh("away/csb-try --fail", cwd=house).rc == 1
    assert sh("away/csb-try", cwd=house).ok().records[0]["git"] == "git version"


def test_it_is_readable(sh, house):
    """It says what it is and where its parts come from, and keeps their comments."""
    lines = sh(SQUASH, cwd=house).ok().out.split("\n")
    assert lines[:2] == ["#!/usr/bin/env -S python3 -IS", '"""try things']
    made = "# Do not edit: made by lib/build/squash from bin/csb-try and lib/csb."
    assert lines.count(made) == 1
    heads = [line.strip("# =") for line in lines if line.startswith("# ====")]
    assert heads == [
        "lib/csb/__init__.py", "lib/csb/files.py", "lib/csb/git.py", "bin/csb-try"
    ]
    assert "# run git in a clean environment, and read what a repository holds" in lines
    assert "    # a comment that stays \u2713" in lines and "import stat" in lines
    assert lines.count("from csb import everything  # text, not code") == 1
    assert not [line for line in lines if re.match(r"\s*from csb[. ]", line)
                and "everything" not in line]
    assert not [line for line in lines if "/../lib" in line]
    with open(os.path.join(house, "lib/csb/git.py"), encoding="utf-8") as file:
        text = file.read()
    function = text[text.index("def start_git"):text.index("\n\ndef git(")]
    assert function in "\n".join(lines)


def test_a_tool_may_name_its_interpreter(sh, house):
    line = f"PYTHON='/usr/bin/python3 -IS' {SQUASH} | head -n 1"
    assert sh(line, cwd=house).ok().out == "#!/usr/bin/python3 -IS\n"


EXTRA = '''"""an extra module"""
import gzip
import zlib
from functools import wraps

from csb.files import BLOCK

# A heading.

# Of SIZE.
SIZE = 3 * BLOCK
LEFT, RIGHT = 1, 2
ALONE, TOGETHER = 3, 4
UNUSED = zlib.crc32(b"")
WORDS = []
WORDS.append("we speak")    # it does something, and stays; and is no call


def decorator(function):
    """Count the calls."""
    @wraps(function)
    def counted(*words):
        WORDS.append(function.__name__)
        return function(*words)
    return counted


# What is used.
@decorator
def used():
    return SIZE + LEFT + later()


def later():
    from csb.session import is_id   # of use here alone

    hidden = is_id("x")             # no function of that name
    return len(WORDS) + hidden + Talk().count


# --- what is not used ---


# What nobody calls.
@decorator
def lonely():
    return gzip, hidden()


def hidden():
    return hidden()


class Lonely:
    def method(self):
        return lonely()


# --- the end ---


class Words(list):
    """Its base may call all that it has."""

    def unheard(self):
        return 0


class Talk:
    """What it has is called by us alone."""

    # What nobody asks.
    @property
    def silent(self):
        return gzip, hidden()

    @property
    def count(self):
        return len(Words())

    def speak(self):
        return self.silent


class Used(Exception):
    """It is raised."""
'''
USES_EXTRA = HEAD + "\nfrom csb.extra import Used, used\n" + TAIL.replace(
    'emit({"kind"', 'try:\n        raise Used\n    except Used:\n        pass\n'
    '    emit({"used": used(), "kind"')


def test_what_nothing_calls_is_left_out(sh, house):
    """With its comment and its imports; the rest stays in its order and works."""
    (house / "lib/csb/extra.py").write_text(EXTRA)
    put_tool(house, USES_EXTRA)
    text = sh(SQUASH, cwd=house).ok().out
    part = text.partition("lib/csb/extra.py")[2].partition("bin/csb-try")[0]
    for word in ("gzip", "zlib", "ALONE", "UNUSED", "onely", "def hidden", "obody",
                 "not used", "from csb", "silent", "def speak"):
        assert word not in part, word
    order = (
        "# an extra module",
        "wraps",
        "# A heading.",
        "# Of SIZE.",
        "SIZE =",
        "LEFT, RIGHT",
        "WORDS = []",
        "WORDS.append",
        "def decorator",
        "# What is used.\n@decorator\ndef used",
        "def later():\n\n    hidden",
        "# --- the end",
        "class Words",
        "def unheard",
        "class Talk",
        (
            'us alone."""\n\n    @property\n    def count(self):\n'
            "        return len(Words())\n\n\nclass Used"
        ),
    )
    places = [part.index(word) for word in order]
    assert places == sorted(places)
    assert "\ndef replace_file" not in text and "\nclass Lock" not in text
    [one] = sh(f"{SQUASH} | python3 -I -", cwd=house).ok().records
    [two] = sh("bin/csb-try", cwd=house).ok().records
    assert one == two and one["used"] == 3 * (1 << 20) + 1 + 2


def test_a_traceback_names_the_line_of_the_file(sh, house):
    """In the tool's own text, and in that of a module."""
    extra = house / "lib/csb/extra.py"
    extra.write_text("\n# why\ndef divide():\n    return 1 / 0\n")
    text = HEAD + "\nfrom csb.extra import divide\n" + TAIL
    put_tool(house, text.replace("    run(main)", "    divide()    # here"))
    made = sh(SQUASH, cwd=house).ok().out
    (house / "alone").write_text(made, encoding="utf-8")
    command = [PYTHON, "-I", house / "alone"]
    done = subprocess.run(command, capture_output=True, text=True)
    numbers = re.findall(r'alone", line (\d+)', done.stderr)
    lines = [made.split("\n")[int(number) - 1].strip() for number in numbers]
    assert lines == ["divide()    # here", "return 1 / 0"], done.stderr


# What is refused: the tool, and the words that say why.
REFUSED = [
    (HEAD + "\ndef emit(x):\n    pass\n" + TAIL, "csb and csb-try both define emit"),
    (HEAD + "\nwarn = None\n" + TAIL, "both define warn"),
    (HEAD + "\nnice, VERSION = 1, 2\n" + TAIL, "both define VERSION"),
    (HEAD + "\nclass StableFile:\n    pass\n" + TAIL, "csb.files and csb-try both"),
    (HEAD + "\ndef _flushed():\n    pass\n" + TAIL, "both define _flushed"),
    (HEAD + "\nif TEXT:\n    TOOL = 1\n" + TAIL, "both define TOOL"),
    (HEAD + "\nfor DONE in ():\n    pass\n" + TAIL, "both define DONE"),
    (HEAD + "\nfrom zlib import crc32\n" + TAIL, "both define crc32"),
    (HEAD + "\nimport gzip as json\n" + TAIL, "both define json"),
    (HEAD + "\nsum = 3\n" + TAIL, "Python and csb-try both define sum"),
    (HEAD + f"\nif TEXT:\n    {KEY_OF}\n" + TAIL, "expected an indented block"),
    (HEAD + "\nfrom csb import nothing_like_it\n" + TAIL, "has no nothing_like_it"),
    (HEAD + "\nfrom csb.files import why\n" + TAIL, "csb.files has no why"),
    (HEAD + "\nfrom csb import files\n" + TAIL, "csb has no files"),
    (HEAD + "\nfrom csb.nothing import x\n" + TAIL, "nothing.py"),
    (HEAD + "\nfrom csb import say as tell\n" + TAIL, "'from csb import say as tell'"),
    (HEAD + "\nfrom csb import *\n" + TAIL, "'from csb import *'"),
    (HEAD + "\nimport csb\n" + TAIL, "'import csb'"),
    (HEAD + "\nimport csb.git\n" + TAIL, "'import csb.git'"),
    (HEAD + TAIL.replace("main():", "main():\n    import csb.git as x"),
     "'import csb.git as x'"),
    (HEAD + "def broken(:\n", "syntax"),
    (HEAD + "\nreturn 1\n", "outside function"),
    ("", "does not begin as the other tools do"),
]


def refused(sh, house, reason):
    """It says why in one line, and writes nothing."""
    done = sh(SQUASH, cwd=house)
    assert (done.rc, done.out, done.err.count("\n")) == (1, "", 1), done
    assert done.err.startswith("squash: cannot make one file of 'bin/csb-try': ")
    assert reason in done.err


@pytest.mark.parametrize("text, reason", REFUSED)
@pytest.mark.few(6)
def test_it_refuses_what_would_change_its_meaning(sh, house, text, reason):
    put_tool(house, text)
    refused(sh, house, reason)


# The same for a module that the tool imports.
REFUSED_MODULES = [
    ("BLOCK = 1\n", "csb.files and csb.extra both define BLOCK"),
    ("def main():\n    pass\n", "csb.extra and csb-try both define main"),
    ("def open():\n    pass\n", "Python and csb.extra both define open"),
    ("from csb.more import more\n", "recursion"),
    ("def f():\n    from csb.more import more\n    return more\n", "recursion"),
    ("import csb.more\n", "'import csb.more'"),
    ("from . import more\n", "it says 'from . import more'"),
    ("HERE = __file__\n", "uses __file__"),
    ("from csb.git import git as run_git\n", "'from csb.git import git as run_git'"),
    ("def broken(:\n", "extra.py, line "),
]


@pytest.mark.parametrize("text, reason", REFUSED_MODULES)
@pytest.mark.few(4)
def test_it_refuses_such_a_module(sh, house, text, reason):
    (house / "lib/csb/extra.py").write_text(text + "\n\ndef extra():\n    pass\n")
    (house / "lib/csb/more.py").write_text(
        "from csb.extra import extra\n\n\ndef more():\n    extra()\n")
    put_tool(house, HEAD + "\nfrom csb.extra import extra\n" + TAIL)
    refused(sh, house, reason)


def test_csb_itself_imports_no_other_module(sh, house):
    path = house / "lib/csb/__init__.py"
    path.write_text(path.read_text() + "\n\nfrom csb.session import key_of  # noqa\n")
    (house / "lib/csb/session.py").write_text(
        "from csb import say\n\n\ndef key_of():\n    say('')\n")
    refused(sh, house, "csb.session has no key_of")


def test_it_allows_what_cannot_clash(sh, house):
    """The same import in several files, and names of functions and arguments."""
    put_tool(house, HEAD + "import json\nimport os\nfrom binascii import crc32\n"
             "from csb.places import git_directory\n"
             "\n\ndef own(emit):\n    say = [run for run in emit]\n"
             "    return say, json, os, crc32, git_directory\n"
             "\n\nPAIRS = [lines for lines in 'ab']\n" + TAIL)
    done = sh(f"{SQUASH} | python3 -I - | jq -r .kind", cwd=house).ok()
    assert done.out == "try\n"


def test_every_module_fits_beside_every_other(sh, house):
    """No name stands for two things in the package, private ones neither."""
    imports = ""
    for file in sorted((house / "lib/csb").glob("*.py")):
        name = re.search(r"(?m)^(?:def|class) ([A-Za-z]\w*)", file.read_text())[1]
        if file.stem != "__init__":
            imports += f"from csb.{file.stem} import {name}\n"
    assert imports.count("\n") >= 5
    put_tool(house, HEAD + f"\n{imports}" + TAIL)
    sh(SQUASH, cwd=house).ok()


def test_misuse(sh, house):
    assert sh("lib/build/squash", cwd=house).rc == 2
    assert sh("lib/build/squash a b", cwd=house).rc == 2
    done = sh("lib/build/squash bin/missing", cwd=house)
    assert "No such file or directory" in done.err
    done = sh(f"{SQUASH} >/dev/full", cwd=house)
    assert done.rc == 1 and done.err.count("\n") == 1
    assert "record: none" in sh("lib/build/squash --help", cwd=house).ok().out
