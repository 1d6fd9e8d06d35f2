"""tests/run: pytest processes side by side, their sums on one line"""
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT

pytestmark = pytest.mark.logic

GREEN = "def test_yes():\n    pass\n"
RED = "def test_no():\n    assert 'apple' == 'pear'\n"
SKIPS = "import pytest\n\ndef test_maybe():\n    pytest.skip('no moon tonight')\n"
DIES = "import os\n\ndef test_dies():\n    os.kill(os.getpid(), 9)\n"
BROKEN = "import nothing_of_this_name\n"
LEAVES = """
import pytest

@pytest.fixture
def wrong():
    yield 1
    raise OSError("cannot clear up")

def test_yes(wrong):
    pass

def test_no(wrong):
    assert not wrong, "wrong, too"
"""
FORM = """
import os

def test_form():
    assert os.environ["CSB_BIN"] == "dist"
"""
WAITS = """
import fcntl, os, subprocess

def test_waits():
    with open(f"{os.environ['LOCKS']}/{os.getpid()}", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        subprocess.run(["sleep", "300"], pass_fds=[file.fileno()])
"""


@pytest.fixture
def suite(tmp_path):
    """suite(a=text, ...): tests/test_a.py ... beside a copy of tests/run;
    how it is run."""
    top = tmp_path / "suite"
    (top / "tests").mkdir(parents=True)
    shutil.copy(os.path.join(ROOT, "tests", "run"), top / "tests")

    def make(**files):
        for name, text in files.items():
            # Large enough to have a process of its own.
            text += "#" * 100_000 + "\n"
            (top / "tests" / f"test_{name}.py").write_text(text)
        return [sys.executable, str(top / "tests" / "run"), "bin:"]

    return make


def run(command, **env):
    """Status, text before the closing line, closing line."""
    env = {**os.environ, "PYTEST_ADDOPTS": "-rs", **env}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert done.stderr == ""
    assert done.stdout.endswith("\n")
    text, _, closing = done.stdout[:-1].rpartition("\n")
    return done.returncode, text, closing


@pytest.mark.long
def test_the_sums_of_all_processes(suite):
    status, text, closing = run(suite(a=GREEN, b=GREEN + SKIPS, c=GREEN))
    assert (status, closing) == (0, "3 passed, 0 failed, 1 skipped")
    assert "no moon tonight" in text
    assert not re.search("passed|failed", text)


def test_failures_are_printed_last_and_whole(suite):
    status, text, closing = run(suite(a=RED, b=RED, c=GREEN, d=SKIPS))
    assert (status, closing) == (1, "1 passed, 2 failed, 1 skipped")
    place = max(text.index("bin: test_c.py"), text.index("bin: test_d.py"))
    reports = text[place:].split("= FAILURES =")[1:]
    assert len(reports) == 2 == text.count("= FAILURES =")
    names = [
        re.search(r"tests/test_(.)\.py:2: Assert", report)[1] for report in reports
    ]
    assert sorted(names) == ["a", "b"]


@pytest.mark.parametrize(
    "text, closing, reason",
    [
        (DIES, "1 passed, 1 failed, 0 skipped", "pytest was killed by signal 9"),
        (BROKEN, "1 passed, 1 failed, 0 skipped", "nothing_of_this_name"),
        (LEAVES, "1 passed, 3 failed, 0 skipped", "cannot clear up"),
        ("", "1 passed, 0 failed, 0 skipped", ""),
    ],
    ids=["dies", "broken", "leaves", "empty"],
)
@pytest.mark.few(1)
def test_what_is_no_failed_test_counts_too(suite, text, closing, reason):
    status, said, found = run(suite(a=text, b=GREEN))
    assert (status, found) == (int("0 failed" not in closing), closing)
    assert reason in said


@pytest.mark.long
def test_an_error_in_one_file_does_not_keep_others_from_running(suite, tmp_path):
    command = suite()
    (tmp_path / "suite/tests/test_a.py").write_text(BROKEN)
    (tmp_path / "suite/tests/test_b.py").write_text(GREEN)
    assert run(command)[2] == "1 passed, 1 failed, 0 skipped"


@pytest.mark.parametrize("text", ["", SKIPS], ids=["empty", "skips"])
@pytest.mark.few(1)
def test_no_test_at_all_is_a_failure(suite, text):
    status, _, closing = run(suite(a=text))
    assert (status, closing[:19]) == (1, "0 passed, 0 failed,")


def test_parts_and_files(suite):
    command = suite(a=FORM, b=RED, c=GREEN)
    assert run([*command, "tests/test_c.py"])[2] == "1 passed, 0 failed, 0 skipped"
    command[2] = "dist:"
    assert run([*command, "tests/test_a.py"])[2] == "1 passed, 0 failed, 0 skipped"
    both = [*command, "bin:", "tests/test_a.py"]
    assert run(both)[2] == "1 passed, 1 failed, 0 skipped"


@pytest.mark.parametrize("mark", ["pytest.mark.logic", "[\n    pytest.mark.logic]"])
@pytest.mark.few(1)
def test_a_file_of_which_a_part_takes_nothing_is_not_loaded(suite, mark):
    """In no other part is it left out."""
    logic = f"import pytest\npytestmark = {mark}\n{BROKEN}"
    command = [*suite(a=GREEN, b=logic), "tests/test_a.py", "tests/test_b.py"]
    assert run(command)[2] == "1 passed, 1 failed, 0 skipped"
    command[2] = "bin:not logic"
    assert run(command)[2] == "1 passed, 0 failed, 0 skipped"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.few(1)
def test_interrupted_it_ends_all_processes(suite, tmp_path, number):
    command = [*suite(a=WAITS, b=WAITS, c=WAITS), "--workers", "2"]
    locks = tmp_path / "locks"
    locks.mkdir()
    running = subprocess.Popen(
        command,
        env={**os.environ, "LOCKS": str(locks)},
        stdout=subprocess.PIPE,
        text=True,
    )
    while sum(map(held, locks.iterdir())) < 2:
        assert running.poll() is None
        time.sleep(0.02)
    running.send_signal(number)
    said = running.communicate(timeout=60)[0]
    assert running.returncode == 130
    assert said.endswith("interrupted: not all tests were run\n")
    assert len(os.listdir(locks)) == 2
    deadline = time.monotonic() + 30
    while any(map(held, locks.iterdir())):
        assert time.monotonic() < deadline, "some process goes on"
        time.sleep(0.02)


def held(path):
    """Does a process, or one that it has started, hold this lock?"""
    with open(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
