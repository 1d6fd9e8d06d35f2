"""the tools in a likeness of Windows and of macOS: without what these systems lack

without_posix.py takes it away, for every tool that a tool starts. This proves not that csb works
there, but what fails here would fail there.
"""
import fcntl
import json
import os
import re
import subprocess
import time

import pytest
from conftest import PYTHON, ROOT, line, name, payload
from forge import EVIL, FILE, evil_store

pytestmark = pytest.mark.logic
LIKENESS = os.path.join(ROOT, "tests", "without_posix.py")
NOW = time.time_ns() - 10**9 * 3600
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


@pytest.mark.long
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
    status = sh("csb status")
    assert (status.rc, status.err) == (1, ""), "there is neither a timer nor a hook"
    assert status.out.startswith("Everything is backed up, but:\n! Nothing backs up by itself")
    assert [record["size"] for record in sh(f"csb-history {name(5)}").ok().records] == [
        big.stat().st_size, big.stat().st_size - len(line("the last word"))]
    assert "needle" in sh("csb list needle").ok().out
    for words in ("needle", "-F needle", "-E 'need+le'"):
        assert "haystack  3f4a9b10" in sh(f"csb search {words}").ok().out
    assert "the last word" in sh(f"csb log --last 1 {name(5)}").ok().out
    assert {record["ok"] for record in sh("csb-verify").ok().records} == {True}
    held = small.read_bytes()
    small.unlink()
    sh("csb-backup --quiet").ok()
    assert [record["session_id"] for record in sh("csb-find --lost").ok().records] == [name(0)]
    version = sh(f"csb-history {name(0)}").ok().records[0]
    done = sh(f"git --git-dir '{home.backup}/git' archive {version['commit']} {version['path']} | "
              "tar -x -O").ok()
    assert done.out.encode() == held
    sh(f"csb-restore {name(0)}").ok()
    assert small.read_bytes() == held
    done = sh(f"jsonl_snapshot --source '{big}' --dest-dir shots && "
              "jsonl_snapshot --restore shots/*.gz --target-dir back")
    assert done.rc == 0 and (home.path / "back" / big.name).read_bytes() == big.read_bytes()
    assert sh(f"session_snapshot --source '{big}' --dest-dir shots").rc == 0
    with open(home.backup / "lock") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        done = sh("csb-backup --wait 0.1")
        assert done.rc == 75 and re.search("^csb-backup: cannot lock .* held by ", done.err), done
    assert not [name for name in os.listdir(home.backup) if name.startswith(".csb-tmp-")]


@pytest.fixture
def gone(home, sh, claude, other):
    """A session with what belongs to it, one part of each mode, stored and deleted; then the
    machine is one with Windows."""
    parts = {f"projects/-srv-app/{name(0)}.jsonl": 0o600, f"tasks/{name(0)}/1.json": 0o400,
             f"projects/-srv-app/{name(0)}/subagents/agent-1.jsonl": 0o644}
    for path, mode in parts.items():
        (home.claude / path).parent.mkdir(parents=True, exist_ok=True)
        (home.claude / path).write_text(line("the words of " + path) + "{torn")
        (home.claude / path).chmod(mode)
        os.utime(home.claude / path, ns=(NOW, NOW))
    (home.claude / f"session-data/{name(0)}").mkdir(parents=True)
    sh("csb-backup --quiet").ok()
    sh(f"rm -r ~/.claude/tasks ~/.claude/session-data ~/.claude/projects/*/{name(0)}*").ok()
    other("windows")
    return parts


@pytest.mark.long
def test_a_session_is_restored_on_windows(home, sh, gone):
    """Bytes, times, and modes as far as they go; again, forced, repaired, under another folder."""
    sh(f"csb-restore {name(0)}").ok()
    for path, mode in gone.items():
        st = os.stat(home.claude / path)
        assert (st.st_mode & 0o777, st.st_mtime_ns) == (mode, NOW), path
        assert (home.claude / path).read_text() == line("the words of " + path) + "{torn"
    assert (home.claude / f"session-data/{name(0)}").is_dir()
    assert {r["result"] for r in sh(f"csb-restore {name(0)}").ok().records} == {"kept"}
    main = home.claude / f"projects/-srv-app/{name(0)}.jsonl"
    main.write_text("mine\n")
    assert sh(f"csb-restore {name(0)}").rc == 1 and main.read_text() == "mine\n"
    assert sh(f"csb-restore --force --repair {name(0)}").rc == 0
    assert main.read_text().endswith("{torn\n")
    assert [path.read_text() for path in main.parent.glob("*.replaced")] == ["mine\n"]
    done = sh(f"csb-restore --target-dir out --map /w=/v --rewrite-cwd {name(0)}")
    assert (home.path / f"out/projects/-v/{name(0)}.jsonl").read_text().count('"cwd": "/v"'), done
    assert not [path for path in home.path.rglob(".csb-tmp-*")]


@pytest.mark.parametrize("link", ["tasks", f"tasks/{name(0)}", f"projects/-srv-app/{name(0)}"])
@pytest.mark.few(1)
def test_no_link_is_followed_on_windows(home, sh, gone, link):
    """Where no descriptor keeps a link away, each component is looked at; a project is followed."""
    away = home.path / "away"
    away.mkdir()
    (home.claude / link).parent.mkdir(parents=True, exist_ok=True)
    (home.claude / link).symlink_to(away)
    done = sh(f"csb-restore {name(0)}")
    assert done.rc == 1 and "is a link" in done.err
    assert os.listdir(away) == []
    assert (home.claude / f"projects/-srv-app/{name(0)}.jsonl").exists()
    sh("mv ~/.claude/projects ~/moved; ln -s ../moved ~/.claude/projects").ok()
    (home.path / f"moved/-srv-app/{name(0)}.jsonl").unlink()
    sh(f"csb-restore {name(0)}")
    assert (home.path / f"moved/-srv-app/{name(0)}.jsonl").exists()


BAD = ["CON", "nul.txt", "com1", "Lpt9.a.b", "aux .x", "COM\u00b2", "conin$", "a:b", "a::$DATA",
       "x.", "x ", "a<b", "a>b", 'a"b', "a|b", "a?b", "a*b", "a\\b", "..\\..\\x", "a\nb", "C:",
       "git~1", ".."]


def test_names_that_windows_takes_otherwise(home, sh, other):
    """They are refused, each by name; what only looks like them is not."""
    good = ["console", "com10", "a.con", "nul_", "con-1.jsonl"]
    files = [((f"{EVIL}-file", bad), FILE, b"x") for bad in BAD + good]
    files += [((f"{EVIL}-folder", bad, "x"), FILE, b"x") for bad in BAD]
    evil_store(home).commit(files)
    other("windows")
    done = sh(f"csb-restore --git-dir ~/evil --target-dir out {EVIL}")
    assert done.rc == 1 and done.err.count("is not safe") == 2 * len(BAD)
    results = [r["result"] for r in done.records]
    assert results.count("refused") == 2 * len(BAD) and results.count("restored") == 5
    assert os.listdir(home.path / "out") == [f"{EVIL}-file"]
    assert sorted(os.listdir(home.path / f"out/{EVIL}-file")) == sorted(good)


@pytest.mark.parametrize("said, rc", [
    ('"claude.exe","4242","Console","1","9,999 K"', 1), ("INFO: No tasks are running ...", 0)])
@pytest.mark.few(1)
def test_a_client_is_looked_for_on_windows(home, sh, gone, said, rc):
    """There os.kill(pid, 0) would be Ctrl-C: tasklist is asked."""
    folder = home.path / "tasklist-is-here"
    folder.mkdir()
    (folder / "tasklist").write_text(f"#!/bin/sh\necho '{said}'\n")
    (folder / "tasklist").chmod(0o755)
    (home.claude / "sessions").mkdir()
    (home.claude / "sessions/4242.json").write_text(json.dumps(
        {"pid": 4242, "sessionId": name(0)}))
    done = sh(f"csb-restore {name(0)}", PATH=f"{folder}:{home.env['PATH']}")
    assert done.rc == rc and ("open in Claude Code" in done.err) == bool(rc), done


def test_on_windows_a_timer_is_typed(home, sh, other):
    """Nothing is installed or removed: the line of csb 0.2.1 is shown, with what was asked for."""
    other("windows")
    usual = 'schtasks /create /tn "Claude Session Backup" /tr "csb backup --quiet" /sc minute /mo'
    shown = lambda options: sh(f"csb-schedule --print {options}").ok().out.splitlines()
    assert shown("") == [f"{usual} 15"] and shown("--interval 60") == [f"{usual} 60"]
    assert shown("--interval 1440")[0].endswith(' /tr "csb backup --quiet" /sc daily')
    assert sh("csb-schedule --print --interval 7").rc == 2
    assert r'/tr "csb backup --quiet \"--git-dir=/a b\"" /sc' in shown("--git-dir '/a b'")[0]
    done = sh("csb-schedule")
    assert (done.rc, done.out, done.err.count("\n")) == (3, "", 1) and f"{usual} 15\n" in done.err
    assert sh("csb-schedule --status") == done
    done = sh("csb-schedule --remove")
    assert (done.rc, done.out, done.err.count("\n")) == (0, "", 1)
    assert 'schtasks /delete /tn "Claude Session Backup"\n' in done.err


def test_on_windows_setup_shows_the_line_to_type(home, sh, other, claude):
    """Hooks are put in, and the timer is what a person types."""
    other("windows")
    done = sh("csb-setup --yes")
    assert (done.rc, done.err) == (1, ""), done
    line = 'schtasks /create /tn "Claude Session Backup" /tr "csb backup --quiet" /sc minute /mo 15'
    bad = "  NO  cannot install or see a timer of Windows. Type: " + line
    assert bad in done.out.splitlines()
    assert "hooks back up when" in done.out
    assert "csb-hook" in (home.claude / "settings.json").read_text()
    sh("csb-setup --undo")
    assert (home.claude / "settings.json").read_text() == "{}\n"
