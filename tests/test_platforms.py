"""the tools in a likeness of Windows and of macOS: without what these systems lack

without_posix.py takes it away, for every tool that a tool starts. This proves not that csb works
there, but what fails here would fail there.
"""
import fcntl
import os
import re
import subprocess

import pytest
from conftest import PYTHON, ROOT, line, name, payload

pytestmark = pytest.mark.logic
LIKENESS = os.path.join(ROOT, "tests", "without_posix.py")
TOOLS = sorted(tool for tool in os.listdir(os.path.join(ROOT, "bin")) if "~" not in tool)
EACH = """
import runpy, sys
from contextlib import redirect_stdout
from io import StringIO
likeness, *tools = sys.argv[1:]
runpy.run_path(likeness)["windows"]()
for tool in tools:
    sys.argv[:] = [tool, "--help"]
    try:
        runpy.run_path(tool, run_name="__main__")
    except BaseException as error:
        print(f"{tool}: {error!r}", file=sys.stderr)
"""


@pytest.fixture
def other(home, tools, tmp_path):
    """A function: from now on sh runs the tools as if on that system."""
    def system(which):
        folder = tmp_path / which
        folder.mkdir()
        python = f"exec '{PYTHON}' -B -IS '{LIKENESS}' {which}"
        for tool, command in [("python3", python), *(
                (tool, f"{python} '{tools.bin}/{tool}'") for tool in TOOLS)]:
            (folder / tool).write_text(f'#!/bin/sh\n{command} "$@"\n')
            (folder / tool).chmod(0o755)
        home.env |= {"PATH": f"{folder}:{home.env['PATH']}", "WITHOUT_POSIX": f"{folder}/python3"}
    return system


def test_every_tool_has_its_help_on_windows():
    """No module of POSIX is imported, and no function or flag used, before there is a need."""
    done = subprocess.run([PYTHON, "-B", "-IS", "-c", EACH, LIKENESS, *(
        os.path.join(ROOT, "bin", tool) for tool in TOOLS)], capture_output=True, text=True)
    assert done.stderr.splitlines() == [
        f"{ROOT}/bin/{tool}: SystemExit(0)" for tool in TOOLS], done.stderr


def test_the_likeness_takes_away(home, sh, other, tmp_path):
    """Else the next test would show nothing."""
    other("windows")
    (tmp_path / "try").write_text("""
import os, select, signal, subprocess, sys
def refused(what, *args, **more):
    try:
        what(*args, **more)
    except (OSError, NotImplementedError, TypeError, ValueError) as error:
        print(type(error).__name__)
for name in ("fcntl", "pwd", "resource", "termios"):
    try:
        __import__(name)
        print(name)
    except ImportError:
        pass
print([name for name in ("fork", "O_NONBLOCK", "fchmod", "getuid", "killpg") if hasattr(os, name)],
      hasattr(select, "select"), hasattr(signal, "SIGHUP"), os.name, os.path.exists("/proc"))
with open("held", "w") as held:
    refused(os.unlink, "held")
    refused(os.replace, "held", "other")
    refused(os.chmod, held.fileno(), 0o600)
    held.write("\\n")
refused(os.open, ".", os.O_RDONLY)
refused(os.mkdir, "x", dir_fd=3)
print(os.stat("held").st_size)
refused(open("held", "w").write, "\\u2713")
""")
    out = sh(f"python3 '{tmp_path}/try'", cwd=tmp_path).out
    assert out.splitlines() == [
        "[] False False nt False", "PermissionError", "PermissionError", "TypeError",
        "PermissionError", "NotImplementedError", "2", "UnicodeEncodeError"], out


@pytest.mark.parametrize("system", ["windows", "macos"])
@pytest.mark.few(1)
def test_a_life_on_another_system(home, sh, over, claude, other, tmp_path, system):
    """Backup, hook, list, search, history, proof, snapshots, and what there is to bring back."""
    other(system)
    big, small = claude / f"{name(5)}.jsonl", claude / f"{name(0)}.jsonl"
    big.write_text(line("large " * 200) * 1200)
    small.write_text(line("a needle \u2713 in a haystack"), encoding="utf-8")
    sh("csb-backup --quiet").ok()
    with open(big, "a") as file:
        file.write(line("the last word"))
    assert sh("csb-hook", payload(number=5)).ok().out == ""
    over()
    assert sh("csb status").ok().out.startswith("Everything is backed up")
    assert [record["size"] for record in sh(f"csb-history {name(5)}").ok().records] == [
        big.stat().st_size, big.stat().st_size - len(line("the last word"))]
    assert "needle" in sh("csb list needle").ok().out
    for words in ("needle", "-F needle", "-E 'need+le'"):
        assert name(0) in sh(f"csb search {words}").ok().out
    assert "the last word" in sh(f"csb log --last 1 {name(5)}").ok().out
    assert {record["ok"] for record in sh("csb-verify").ok().records} == {True}
    held = small.read_bytes()
    small.unlink()
    sh("csb-backup --quiet").ok()
    assert [record["session_id"] for record in sh("csb-lost").ok().records] == [name(0)]
    version = sh(f"csb-history {name(0)}").ok().records[0]
    done = sh(f"git --git-dir '{home.backup}/git' archive {version['commit']} {version['path']} | "
              "tar -x -O").ok()
    assert done.out.encode() == held
    done = sh(f"csb-restore {name(0)}")
    if system == "windows":
        assert (done.rc, done.err.count("\n"), small.exists()) == (1, 1, False)
        assert "Platforms" in done.err
    else:
        assert (done.rc, done.err, small.read_bytes()) == (0, "", held)
    done = sh(f"jsonl_snapshot --source '{big}' --dest-dir shots && "
              "jsonl_snapshot --restore shots/*.gz --target-dir back")
    assert done.rc == 0 and (home.path / "back" / big.name).read_bytes() == big.read_bytes()
    assert sh(f"session_snapshot --source '{big}' --dest-dir shots").rc == 0
    with open(home.backup / "lock") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        done = sh("csb-backup --wait 0.1")
        assert done.rc == 75 and re.search("^csb-backup: cannot lock .* held by ", done.err), done
    assert not [name for name in os.listdir(home.backup) if name.startswith(".csb-tmp-")]
