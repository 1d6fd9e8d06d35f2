"""csb-timer: what a system is told runs csb-backup with these very paths, whatever is in them.

The texts are read by the system's own readers where Python or the machine has them.
"""
import json
import os
import plistlib
import re
import shutil
import subprocess

import pytest

pytestmark = pytest.mark.logic

KINDS = ("systemd", "cron", "launchd")
INTERVALS = (1, 5, 12, 15, 30, 60, 120, 180, 360, 720, 1440)


@pytest.fixture
def backup(tmp_path, stages):
    """A file in which a csb-backup notes its options and its environment."""
    said = tmp_path / "said"
    stages("csb-backup", f"import json\nwith open({str(said)!r}, 'w') as file:\n"
           "    json.dump([sys.argv[1:], dict(os.environ)], file)")
    return said


def command(kind, text):
    """The words that a system runs, from the text that it was given."""
    if kind == "cron":
        assert text.count("\n") == 1 and "%" not in text and text.isascii()
        return ["/bin/sh", "-c", text.rstrip("\n").split(" ", 5)[5]]
    if kind == "systemd":
        shell, option, word = re.search("^ExecStart=(.*)$", text, re.M)[1].split(" ", 2)
        assert word[0] == word[-1] == '"' and "%" not in word and word.isascii()
        word = re.sub(r"\\(.)", r"\1", word[1:-1])
        assert "$" not in word.replace("$$", "")
        return [shell, option, word.replace("$$", "$")]
    return plistlib.loads(text.encode())["ProgramArguments"]


NASTY = {"space": "a b", "percent": "100%d %%", "quotes": "it's \"so\"", "newline": "a\nb\n",
         "shell": "$HOME `x` $(y) ; & | # \\ \\n", "accents": "\u00e9\u20ac\U0001f600",
         "dashes": "--\t-->", "tags": "<a>&amp;<string>", "bytes": "\udcff\x01"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("word", NASTY.values(), ids=NASTY)
@pytest.mark.few(6)
def test_each_form_runs_the_tool_with_its_paths(home, backup, kind, word, tmp_path):
    """Home, Claude directory and store, with all that a file name may hold, come out as they are;
    so does the tool's own path."""
    env = {"CSB_HOME": f"{home.path}/{word}/h", "CSB_GIT_DIR": None, "CLAUDE_CONFIG_DIR":
           f"{home.path}/{word}/c"}
    (tmp_path / word).mkdir()
    shutil.move(tmp_path / "copy", tmp_path / word / "tools")
    env["PATH"] = home.env["PATH"].replace(f"{tmp_path}/copy", f"{tmp_path}/{word}/tools")
    for options, store in (([], None), ([f"--git-dir={word}/g", "--claude-dir=~/d"], "g")):
        done = subprocess.run([f"{tmp_path}/{word}/tools/bin/csb-timer", "--kind", kind, *options],
                              env={k: v for k, v in (home.env | env).items() if v}, cwd=home.path,
                              capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        unit = json.loads(done.stdout.splitlines()[0])
        words = command(kind, unit["text"])
        assert words == unit["command"] or kind == "cron" and words[2].startswith(
            unit["command"][2] + " # ")
        subprocess.run(words, env={"PATH": "/usr/bin:/bin"}, cwd="/", check=True)
        told, seen = json.loads(backup.read_text())
        assert told[:3] == ["--quiet", "--event", "timer"]
        assert seen["CSB_HOME"] == env["CSB_HOME"] and seen["HOME"] == str(home.path)
        assert seen.get("CLAUDE_CONFIG_DIR") == (None if store else env["CLAUDE_CONFIG_DIR"])
        assert told[3:] == ([f"--claude-dir={home.path}/d", f"--git-dir={home.path}/{word}/g"]
                            if store else [])


def test_a_git_of_another_place_is_found_again(sh, home, tmp_path):
    """Only then a PATH is written down."""
    assert "PATH=" not in sh("csb-timer --kind cron").ok().out
    (tmp_path / "brew").mkdir()
    (tmp_path / "brew" / "git").symlink_to("/usr/bin/git")
    done = sh("csb-timer --kind cron", PATH=f"{tmp_path}/brew:{home.env['PATH']}").ok()
    assert f" PATH={tmp_path}/brew:/usr/bin:/bin " in done.records[0]["text"]


@pytest.mark.parametrize("interval", INTERVALS)
def test_the_clocks_agree(sh, interval):
    """systemd, asked itself, goes off at the minutes of the cron line; so does next_at."""
    units = sh(f"csb-timer --kind systemd --interval {interval}; "
               f"csb-timer --kind cron --interval {interval}").ok().records
    minutes, hours = units[2]["text"].split(" ")[:2]
    spec = re.search("^OnCalendar=(.*)$", units[1]["text"], re.M)[1]
    found = []
    for field, most in ((minutes, 60), (hours, 24)):
        first, _, step = field.partition("/")
        start, _, end = first.replace("*", f"0-{most - 1}").partition("-")
        found.append(list(range(int(start), int(end or start) + 1, int(step or 1))))
    assert len(found[0]) * len(found[1]) == 1440 // interval
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    done = subprocess.run(["systemd-analyze", "calendar", "--iterations=4", spec],
                          env={"TZ": "UTC", "PATH": "/usr/bin:/bin"}, stdout=subprocess.PIPE,
                          text=True, check=True)
    times = re.findall(r"(\d\d):(\d\d):00 UTC", done.stdout)
    assert len(times) >= 4
    assert all(int(hour) in found[1] and int(minute) in found[0] for hour, minute in times)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
@pytest.mark.parametrize("word", NASTY.values(), ids=NASTY)
def test_systemd_takes_the_units(sh, tmp_path, word):
    for unit in sh("csb-timer --kind systemd --git-dir \"$W\"", W=f"/{word}").ok().records:
        path = tmp_path / os.path.basename(unit["path"])
        path.write_text(unit["text"])
    done = sh(f"systemd-analyze verify --user --man=no '{path}' 2>&1",
              XDG_RUNTIME_DIR=str(tmp_path), SYSTEMD_LOG_LEVEL="warning")
    assert not [line for line in done.out.splitlines() if "csb-backup" in line], done
