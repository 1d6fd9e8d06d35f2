"""The tests on other days: none of them may know the date on which it was written."""
import os
import shutil
import subprocess
import sys
import time

import pytest
import shifted
from conftest import FORM, ROOT

pytestmark = [
    pytest.mark.logic,
    pytest.mark.skipif(sys.platform != "linux", reason="shifted.c is for Linux")]
DAY = 86400


def needs(*programs):
    """Skip a test where it cannot shift the clock."""
    for program in programs:
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed")
    if "CSB_SHIFT" in os.environ:
        pytest.skip("this is another day already")


@pytest.mark.long
@pytest.mark.parametrize("shift", ["+400 days", "-200 days"])
def test_the_suite_passes_on_another_day(shift):
    """What make test runs of this form, where the tests and the tools have
    a shifted clock."""
    needs("faketime", "cc")
    env = {**os.environ, "CSB_BIN": FORM}
    env.pop("CSB_SOAK", None)
    words = ["faketime", shift, sys.executable, "-m", "pytest"]
    words += ["-q", "-m", "not long", "tests"]
    done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]


@pytest.mark.parametrize("days", [400, -200])
@pytest.mark.few(1)
def test_tools_and_files_have_the_shifted_clock(sh, home, days):
    """Else the test above proves nothing. A time that is set stays what it is."""
    needs("cc")
    shifted.build()
    path = home.claude / "projects/-w/3f4a9b10-0000-4000-8000-000000000001.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("{}\n")
    line = """csb-backup >/dev/null && csb-list | jq -r .mtime | date -f - +%s
        git --git-dir=$CSB_HOME/git log -1 --format=%ct
        touch -d @1000000000 old && cp -p old copy && stat -c %Y copy"""
    done = sh(line, LD_PRELOAD=shifted.LIBRARY, CSB_SHIFT=str(days * DAY)).ok()
    listed, committed, copied = map(int, done.out.split())
    then = time.time() + days * DAY
    assert abs(listed - then) < DAY and abs(committed - then) < DAY
    assert copied == 1_000_000_000


def test_the_tools_have_the_clock_of_the_tests(sh):
    """On an ordinary day, and under faketime, where the true clock is another."""
    shift = int(os.environ.get("CSB_SHIFT", 0))
    done = sh("date +%s; LD_PRELOAD= date +%s").ok()
    tools, true = map(int, done.out.split())
    assert abs(tools - time.time()) < DAY
    assert abs(true + shift - time.time()) < DAY
