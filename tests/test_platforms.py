"""the tools in a likeness of Windows and of macOS: without what these systems lack

without_posix.py takes it away, for every tool that a tool starts. This proves not that
csb works there, but what fails here would fail there.
"""
import fcntl
import json
import os
import re
import shlex
import subprocess
import time

import pytest
from conftest import PYTHON, ROOT, TOOLS, files_below, line, name, payload
from forge import EVIL, FILE, evil_store

pytestmark = pytest.mark.logic

LIKENESS = os.path.join(ROOT, "tests", "without_posix.py")
NOW = time.time_ns() - 3600 * 10**9
ID = name(0)
MAIN = f"projects/-srv-app/{ID}.jsonl"
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


def script(path, command):
    path.write_text(f"#!/bin/sh\n{command}\n")
    path.chmod(0o755)


@pytest.fixture
def other(home, tools, tmp_path):
    """A function: from now on sh runs the tools as if on that system."""
    def system(which):
        folder = tmp_path / which
        folder.mkdir()
        python = f"exec '{PYTHON}' -B -IS '{LIKENESS}' {which}"
        script(folder / "python3", f'{python} "$@"')
        for tool in TOOLS:
            script(folder / tool, f"""{python} '{tools.bin}/{tool}' "$@\"""")
        home.env["PATH"] = f"{folder}:{home.env['PATH']}"
        home.env["WITHOUT_POSIX"] = f"{folder}/python3"
    return system


def test_every_tool_has_its_help_on_windows():
    """No module, function or flag of POSIX is used before there is a need."""
    paths = [os.path.join(ROOT, "bin", tool) for tool in TOOLS]
    done = subprocess.run(
        [PYTHON, "-B", "-IS", "-c", EACH, LIKENESS, *paths],
        capture_output=True, text=True)
    ends = [f"{path}: SystemExit(0)" for path in paths]
    assert done.stderr.splitlines() == ends, done.stderr


TRY = r"""
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
for name in ("fork", "O_NONBLOCK", "fchmod", "getuid", "killpg"):
    if hasattr(os, name):
        print(name)
print(hasattr(select, "select"), hasattr(signal, "SIGHUP"), os.name)
print(os.path.exists("/proc"))
with open("held", "w") as held:
    refused(os.unlink, "held")
    refused(os.replace, "held", "other")
    refused(os.chmod, held.fileno(), 0o600)
    held.write("\n")
refused(os.open, ".", os.O_RDONLY)
refused(os.mkdir, "x", dir_fd=3)
print(os.stat("held").st_size)
refused(open("held", "w").write, "\u2713")
"""


def test_the_likeness_takes_away(sh, other, tmp_path):
    """Else the next test would show nothing."""
    other("windows")
    (tmp_path / "try").write_text(TRY)
    out = sh(f"python3 '{tmp_path}/try'", cwd=tmp_path).out
    assert out.splitlines() == [
        "False False nt", "False", "PermissionError", "PermissionError", "TypeError",
        "PermissionError", "NotImplementedError", "2", "UnicodeEncodeError"], out


@pytest.mark.long
@pytest.mark.parametrize("system", ["windows", "macos"])
@pytest.mark.few(1)
def test_a_life_on_another_system(home, sh, over, claude, other, system):
    """Backup, hook, list, search, history, proof, snapshots, what is to come back."""
    other(system)
    big = claude / f"{name(5)}.jsonl"
    small = claude / f"{ID}.jsonl"
    last = line("the last word")
    big.write_text(line("large " * 200) * 1200)
    small.write_text(line("a needle \u2713 in a haystack"), encoding="utf-8")
    sh("csb-backup --quiet").ok()
    with open(big, "a") as file:
        file.write(last)
    assert sh("csb-hook", payload(number=5)).ok().out == ""
    over()

    status = sh("csb status")
    assert (status.rc, status.err) == (1, ""), "there is neither a timer nor a hook"
    assert status.out.startswith(
        "Everything is backed up, but:\n! Nothing backs up by itself")
    history = sh(f"csb-history {name(5)}").ok().records
    size = big.stat().st_size
    assert [record["size"] for record in history] == [size, size - len(last)]
    assert "needle" in sh("csb list needle").ok().out
    for words in ("needle", "-F needle", "-E 'need+le'"):
        assert "haystack  3f4a9b10" in sh(f"csb search {words}").ok().out
    assert "the last word" in sh(f"csb log --last 1 {name(5)}").ok().out
    assert {record["ok"] for record in sh("csb-verify").ok().records} == {True}

    held = small.read_bytes()
    small.unlink()
    sh("csb-backup --quiet").ok()
    [lost] = sh("csb-find --lost").ok().records
    assert lost["session_id"] == ID
    version = sh(f"csb-history {ID}").ok().records[0]
    done = sh(f"git --git-dir '{home.backup}/git' archive "
              f"{version['commit']} {version['path']} | tar -x -O").ok()
    assert done.out.encode() == held
    sh(f"csb-restore {ID}").ok()
    assert small.read_bytes() == held

    done = sh(f"jsonl_snapshot --source '{big}' --dest-dir shots && "
              "jsonl_snapshot --restore shots/*.gz --target-dir back")
    assert done.rc == 0
    assert (home.path / "back" / big.name).read_bytes() == big.read_bytes()
    assert sh(f"session_snapshot --source '{big}' --dest-dir shots").rc == 0
    with open(home.backup / "lock") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        done = sh("csb-backup --wait 0.1")
        assert done.rc == 75
        assert re.search("^csb-backup: cannot lock .* held by ", done.err), done
    assert not list(home.backup.glob(".csb-tmp-*"))


@pytest.fixture
def gone(home, sh, put, claude, other):
    """A session with what belongs to it, one part of each mode, stored and deleted;
    then the machine is one with Windows. {path: mode}"""
    parts = {
        MAIN: 0o600,
        f"tasks/{ID}/1.json": 0o400,
        f"projects/-srv-app/{ID}/subagents/agent-1.jsonl": 0o644}
    for path, mode in parts.items():
        part = put(path, line("the words of " + path) + "{torn")
        part.chmod(mode)
        os.utime(part, ns=(NOW, NOW))
    (home.claude / f"session-data/{ID}").mkdir(parents=True)
    sh("csb-backup --quiet").ok()
    sh(f"cd ~/.claude && rm -r tasks session-data projects/*/{ID}*").ok()
    other("windows")
    return parts


@pytest.mark.long
def test_a_session_is_restored_on_windows(home, sh, gone):
    """Bytes, times, modes as far as they go; again, forced, repaired, elsewhere."""
    sh(f"csb-restore {ID}").ok()
    for path, mode in gone.items():
        st = os.stat(home.claude / path)
        assert (st.st_mode & 0o777, st.st_mtime_ns) == (mode, NOW), path
        text = (home.claude / path).read_text()
        assert text == line("the words of " + path) + "{torn"
    assert (home.claude / f"session-data/{ID}").is_dir()
    again = sh(f"csb-restore {ID}").ok().records
    assert {record["result"] for record in again} == {"kept"}

    main = home.claude / MAIN
    main.write_text("mine\n")
    assert sh(f"csb-restore {ID}").rc == 1
    assert main.read_text() == "mine\n"
    assert sh(f"csb-restore --force --repair {ID}").rc == 0
    assert main.read_text().endswith("{torn\n")
    [replaced] = main.parent.glob("*.replaced")
    assert replaced.read_text() == "mine\n"

    sh(f"csb-restore --target-dir out --map /w=/v --rewrite-cwd {ID}")
    there = home.path / f"out/projects/-v/{ID}.jsonl"
    assert '"cwd": "/v"' in there.read_text()
    assert not list(home.path.rglob(".csb-tmp-*"))


@pytest.mark.parametrize("link", ["tasks", f"tasks/{ID}", f"projects/-srv-app/{ID}"])
@pytest.mark.few(1)
def test_no_link_is_followed_on_windows(home, sh, gone, link):
    """Where no descriptor keeps a link away, each component is looked at; a project is
    followed."""
    away = home.path / "away"
    away.mkdir()
    (home.claude / link).parent.mkdir(parents=True, exist_ok=True)
    (home.claude / link).symlink_to(away)
    done = sh(f"csb-restore {ID}")
    assert done.rc == 1 and "is a link" in done.err
    assert os.listdir(away) == []
    assert (home.claude / MAIN).exists()

    sh("mv ~/.claude/projects ~/moved; ln -s ../moved ~/.claude/projects").ok()
    moved = home.path / f"moved/-srv-app/{ID}.jsonl"
    moved.unlink()
    sh(f"csb-restore {ID}")
    assert moved.exists()


GOOD = ["console", "com10", "a.con", "nul_", "con-1.jsonl"]
BAD = [
    "CON", "nul.txt", "com1", "Lpt9.a.b", "aux .x", "COM\u00b2", "conin$", "a:b",
    "a::$DATA", "x.", "x ", "a<b", "a>b", 'a"b', "a|b", "a?b", "a*b", "a\\b",
    "..\\..\\x", "a\nb", "C:", "git~1", ".."]


def test_names_that_windows_takes_otherwise(home, sh, other):
    """They are refused, each by name; what only looks like them is not."""
    files = [((f"{EVIL}-file", name), FILE, b"x") for name in BAD + GOOD]
    files += [((f"{EVIL}-folder", name, "x"), FILE, b"x") for name in BAD]
    evil_store(home).commit(files)
    other("windows")
    done = sh(f"csb-restore --git-dir ~/evil --target-dir out {EVIL}")
    assert done.rc == 1
    assert done.err.count("is not safe") == 2 * len(BAD)
    results = [record["result"] for record in done.records]
    assert results.count("refused") == 2 * len(BAD)
    assert results.count("restored") == len(GOOD)
    assert os.listdir(home.path / "out") == [f"{EVIL}-file"]
    assert sorted(files_below(home.path / f"out/{EVIL}-file")) == sorted(GOOD)


@pytest.mark.parametrize("said, rc", [
    ('"claude.exe","4242","Console","1","9,999 K"', 1),
    ("INFO: No tasks are running ...", 0)])
@pytest.mark.few(1)
def test_a_client_is_looked_for_on_windows(home, sh, put, gone, said, rc):
    """There os.kill(pid, 0) would be Ctrl-C: tasklist is asked."""
    folder = home.path / "tasklist-is-here"
    folder.mkdir()
    script(folder / "tasklist", f"echo {shlex.quote(said)}")
    put("sessions/4242.json", json.dumps({"pid": 4242, "sessionId": ID}))
    done = sh(f"csb-restore {ID}", PATH=f"{folder}:{home.env['PATH']}")
    assert done.rc == rc, done
    assert ("open in Claude Code" in done.err) == (rc == 1)


TASK = 'schtasks /create /tn "Claude Session Backup" /tr "csb backup --quiet'


def test_on_windows_a_timer_is_typed(sh, other):
    """Nothing is installed or removed: the line of csb 0.2.1 is shown, with what was
    asked for."""
    def shown(options=""):
        [text] = sh(f"csb-schedule --print {options}").ok().out.splitlines()
        return text

    other("windows")
    usual = f'{TASK}" /sc minute /mo'
    assert shown() == f"{usual} 15"
    assert shown("--interval 60") == f"{usual} 60"
    assert shown("--interval 1440").endswith(' /tr "csb backup --quiet" /sc daily')
    assert sh("csb-schedule --print --interval 7").rc == 2
    assert fr'{TASK} \"--git-dir=/a b\"" /sc' in shown("--git-dir '/a b'")

    done = sh("csb-schedule")
    assert (done.rc, done.out, done.err.count("\n")) == (3, "", 1)
    assert f"{usual} 15\n" in done.err
    assert sh("csb-schedule --status") == done
    done = sh("csb-schedule --remove")
    assert (done.rc, done.out, done.err.count("\n")) == (0, "", 1)
    assert 'schtasks /delete /tn "Claude Session Backup"\n' in done.err


def test_on_windows_setup_shows_the_line_to_type(sh, other, claude, home):
    """Hooks are put in, and the timer is what a person types."""
    settings = home.claude / "settings.json"
    other("windows")
    done = sh("csb-setup --yes")
    assert (done.rc, done.err) == (1, ""), done
    no = "  NO  cannot install or see a timer of Windows. Type: "
    assert f'{no}{TASK}" /sc minute /mo 15' in done.out.splitlines()
    assert "hooks back up when" in done.out
    assert "csb-hook" in settings.read_text()
    sh("csb-setup --undo")
    assert settings.read_text() == "{}\n"
