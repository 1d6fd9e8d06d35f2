"""csb-schedule: a timer for each store, installed where one runs, or it is said.

systemctl, crontab, launchctl and ps are stand-ins that keep their state in files: what
they are asked for is ours to get right, what they do is the system's.
"""
import json
import os
import plistlib
import re
import shutil
import subprocess
import time
from types import SimpleNamespace

import pytest
from conftest import ROOT

pytestmark = pytest.mark.logic

KINDS = ("systemd", "cron", "launchd")
INTERVALS = (1, 5, 12, 15, 30, 60, 120, 180, 360, 720, 1440)
OTHERS = (b"MAILTO=me\n# csb-backup is nice\n\n5 4 * * * a%%b # mine\r\n\x00\xff\t\n"
          b"0 0 * * * x # csb-backup-00\n")
FAKES = {
    "crontab": """case $1 in
        -l) [ -e no ] && { echo not allowed >&2; exit 1; }
            [ -e tab ] || { echo no crontab for me >&2; exit 1; }; cat tab;;
        -r) rm tab;;
        -) [ -e deaf ] && exec cat >/dev/null; cat >new && mv new tab;; esac""",
    "ps": "echo init; echo crontab; [ ! -e daemon ] || echo /usr/sbin/cron",
    "systemctl": """echo "$@" >>asked; case $2 in
        is-system-running) cat state; [ "$(cat state)" = running ];;
        restart) [ ! -e broken ] || { echo Unit is masked. >&2; exit 1; }
            touch "on-$3";;
        is-active) [ -e "on-$3" ] && echo active || { echo inactive; exit 3; };;
        disable) rm -f "on-$4";; esac""",
    "loginctl": "cat linger",
    "launchctl": """echo "$@" >>asked; case $1 in
        bootstrap) cp "$3" loaded;;
        print) [ -e loaded ] || [ "$2" = "gui/$(id -u)" ];;
        bootout) rm loaded;; esac""",
}


@pytest.fixture
def system(tmp_path, home, stages):
    """system(kinds): a machine on which these run;
    csb-backup notes how it was called in .said."""
    folder, said = tmp_path / "system", tmp_path / "said"
    folder.mkdir()

    def make(*kinds):
        for name, code in FAKES.items():
            if name in ("ps", "loginctl") or {"crontab": "cron", "systemctl": "systemd",
                                              "launchctl": "launchd"}[name] in kinds:
                (folder / name).write_text(
                    f"#!/bin/sh\ncd '{folder}' || exit\n{code}\n"
                )
                (folder / name).chmod(0o755)
        (folder / "daemon").touch()
        (folder / "state").write_text(
            "running\n" if "systemd" in kinds else "offline\n"
        )
        (folder / "linger").write_text("yes\n")
        return SimpleNamespace(
            path=folder, said=said, tab=folder / "tab", settings=home.backup
        )

    # Before everything else: a test must not reach the machine's own.
    for name in FAKES:
        (folder / name).write_text("#!/bin/sh\necho there is none >&2\nexit 1\n")
        (folder / name).chmod(0o755)
    home.env["PATH"] = f"{folder}:" + home.env["PATH"]
    stages("csb-backup", f"import json\nwith open({str(said)!r}, 'a') as file:\n"
           "    file.write(json.dumps([sys.argv[1:], dict(os.environ)]) + '\\n')")
    home.env["PATH"] = f"{folder}:" + home.env["PATH"].replace(f"{folder}:", "")
    return make


def calls(machine):
    """How csb-backup was called: [(words, environment)]."""
    return [json.loads(line) for line in machine.said.read_text().splitlines()]


def test_the_crontab_of_a_user(sh, home, system):
    """Two stores are two lines; all else stays, byte for byte, and where it was."""
    machine = system("cron")
    machine.tab.write_bytes(OTHERS + b"last, without an end")
    timer, = sh("csb-schedule").ok().records
    one = machine.tab.read_bytes()
    assert one.startswith(OTHERS + b"last, without an end\n")
    assert one.count(b" # csb-backup-") == 2
    assert (timer["timer"], timer["installed"], timer["running"]) == (
        "cron", True, True)
    other = home.path / "other store"
    name, = (r["name"] for r in sh(f"csb-schedule --git-dir '{other}'").ok().records)
    both = machine.tab.read_bytes()
    assert both.startswith(one) and both.count(b"\n") == one.count(b"\n") + 1
    assert name != timer["name"] and name.encode() in both
    sh("csb-schedule --interval 60").ok()
    again = machine.tab.read_bytes()
    assert again.startswith(OTHERS + b"last, without an end\n" + both[len(one):])
    assert again.count(b"\n") == both.count(b"\n")
    assert b" every 60 minutes from " in again
    removed, = sh("csb-schedule --remove").ok().records
    assert removed["installed"] is False and "next_at" not in removed
    left = machine.tab.read_bytes()
    assert left == OTHERS + b"last, without an end\n" + both[len(one):]
    done = sh("csb-schedule --remove")
    assert (done.rc, done.out) == (0, "") and "no timer of this store" in done.err
    sh(f"csb-schedule --remove --git-dir '{other}'").ok()
    assert machine.tab.read_bytes() == OTHERS + b"last, without an end\n"


def test_no_crontab_before_none_afterwards(sh, system):
    machine = system("cron")
    sh("csb-schedule && csb-schedule && csb-schedule --remove").ok()
    assert not machine.tab.exists()


@pytest.mark.parametrize("flaw, said", [("no", "not allowed"), ("deaf", "was written")])
def test_a_crontab_that_cannot_be_had(sh, system, flaw, said):
    """It is not taken for an empty one, and what was not written is not said to be."""
    machine = system("cron")
    machine.tab.write_bytes(OTHERS)
    (machine.path / flaw).touch()
    done = sh("csb-schedule")
    assert done.rc == (3 if flaw == "no" else 1) and done.err.count("\n") == 1, done
    assert done.out == "" and said in done.err
    assert machine.tab.read_bytes() == OTHERS and not machine.said.exists()
    done = sh("csb-schedule --remove")
    assert (done.rc, done.err.count("\n")) == (1 if flaw == "no" else 0, 1), done


@pytest.mark.parametrize(
    "kinds, daemon, state, options, expected",
    [
        (("systemd", "cron"), True, "running", "", "systemd"),
        (("systemd", "cron"), True, "degraded", "", "systemd"),
        (("systemd", "cron"), True, "offline", "", "cron"),
        (("systemd", "cron"), True, "running", "--kind cron", "cron"),
        (("launchd", "cron"), True, "", "", "cron"),
        (("launchd", "cron"), True, "", "--kind launchd", "launchd"),
        (
            ("systemd", "cron"),
            False,
            "offline",
            "",
            (
                "csb-schedule: no timer runs here "
                "(systemd: its user manager is not at work (offline); "
                "cron: no cron daemon is at work): "
                "install cron or start it, then csb schedule\n"
            ),
        ),
        (("cron",), False, "", "--kind cron", "no cron daemon is at work"),
        (("systemd", "cron"), True, "offline", "--kind systemd", "(offline)"),
        ((), True, "", "--kind launchd", "launchd: you are not logged in"),
    ],
)
@pytest.mark.few(4)
def test_which_timer(sh, system, kinds, daemon, state, options, expected):
    """The first that runs, or none: nothing is put where nothing would run it."""
    machine = system(*kinds)
    (machine.path / "state").write_text(state + "\n")
    if not daemon:
        (machine.path / "daemon").unlink()
    done = sh(f"csb-schedule {options}")
    if expected in KINDS:
        assert done.rc == 0 and [r["timer"] for r in done.records] == [expected], done
        assert done.records[0]["running"] and len(calls(machine)) == 1
    else:
        assert (done.rc, done.out, done.err.count("\n")) == (3, "", 1)
        assert expected in done.err
        assert not machine.tab.exists() and not machine.said.exists()


def test_systemd(sh, home, system):
    """Units, enabled and started; lingering is spoken of; all gone again afterwards."""
    machine = system("systemd")
    (machine.path / "linger").write_text("no\n")
    done = sh("csb-schedule")
    assert done.rc == 0 and "enable-linger" in done.err and done.err.count("\n") == 1
    name = done.records[0]["name"]
    units = home.path / ".config/systemd/user"
    assert sorted(os.listdir(units)) == [f"{name}.service", f"{name}.timer"]
    asked = (machine.path / "asked").read_text()
    assert re.search(
        f"daemon-reload\n.*enable {name}.timer\n.*restart {name}.timer", asked, re.S
    )
    assert "Persistent=true" in (units / f"{name}.timer").read_text()
    assert sh("csb-schedule --status").ok().records[0]["running"]
    (machine.path / f"on-{name}.timer").unlink()
    done = sh("csb-schedule --status")
    assert done.rc == 1 and "installed, but not running: inactive" in done.err
    (units / "csb-backup-00000000.timer").touch()
    sh("csb-schedule --remove").ok()
    assert os.listdir(units) == ["csb-backup-00000000.timer"]
    assert f"disable --now {name}.timer\n" in (machine.path / "asked").read_text()
    (machine.path / "broken").touch()
    done = sh("csb-schedule")
    assert (done.rc, done.out, done.err.count("\n")) == (1, "", 1)
    assert "masked" in done.err


def test_launchd(sh, home, system):
    """What launchctl would be asked, and given; the rest nobody has seen."""
    machine = system("launchd")
    done = sh("csb-schedule --kind launchd").ok()
    assert done.records[0]["running"] and done.records[0]["interval"] == 15
    assert "next_at" not in done.records[0]
    agent = plistlib.loads((machine.path / "loaded").read_bytes())
    assert agent["StartInterval"] == 900 and agent["Label"] == done.records[0]["name"]
    path, = (home.path / "Library/LaunchAgents").iterdir()
    assert path.name == agent["Label"] + ".plist"
    (removed,) = sh("csb-schedule --remove --kind launchd").ok().records
    assert removed["installed"] is False
    assert not (machine.path / "loaded").exists()


@pytest.mark.long
def test_another_kind_takes_over(sh, system):
    """One timer a store: what ran before is removed, once the new one stands."""
    machine = system("systemd", "cron")
    sh("csb-schedule --kind cron").ok()
    sh("csb-schedule").ok()
    assert not machine.tab.exists()
    assert [r["timer"] for r in sh("csb-schedule --status").ok().records] == ["systemd"]


def test_the_first_run(sh, home, system, stages):
    """It is the timer's own: the environment of this shell is not there;
    its failure is said."""
    machine = system("cron")
    sh("csb-schedule", API_KEY="secret").ok()
    (words, env), = calls(machine)
    assert words == ["--quiet", "--event", "timer"] and "API_KEY" not in env
    assert env["CSB_HOME"] == str(home.backup) and env["PATH"] == "/usr/bin:/bin"
    stages("csb-backup", "sys.exit('csb-backup: cannot find git\\nand more')")
    done = sh("csb-schedule")
    assert done.rc == 1
    assert done.err.count("\n") == 1
    assert "cannot find git (and 1 l" in done.err
    assert done.records[0]["installed"]
    stages("csb-backup", "sys.exit(75)")
    sh("csb-schedule").ok()


def test_print_where_no_timer_runs(sh, home, system):
    """What is the best here: someone may want to install it elsewhere."""
    machine = system("cron", "systemd")
    (machine.path / "state").write_text("offline\n")
    (machine.path / "daemon").unlink()
    best = sh("csb-schedule --print").ok().out
    assert "csb-backup" in best
    assert best == sh("csb-schedule --print --kind systemd").ok().out


@pytest.mark.parametrize("kind", KINDS)
def test_print_changes_nothing(sh, home, system, kind, listing):
    machine = system("cron", "systemd")
    before = listing(home.path)
    done = sh(f"csb-schedule --print --kind {kind} --interval 30").ok()
    assert "csb-backup" in done.out and done.out.endswith("\n")
    assert listing(home.path) == before
    assert not machine.said.exists()
    assert not machine.tab.exists()
    if kind == "cron":
        sh("csb-schedule --kind cron --interval 30").ok()
        assert machine.tab.read_text() == done.out


@pytest.mark.long
def test_the_interval(sh, home, system):
    """Of the command line, and kept; of csb-config; 15;
    a bad one is named and does no harm."""
    system("cron")
    path = home.backup / "config.json"
    assert sh("csb-schedule").ok().records[0]["interval"] == 15 and not path.exists()
    assert sh("csb-schedule --interval 60").ok().records[0]["interval"] == 60
    assert json.loads(path.read_text()) == {"interval": 60}
    assert sh("csb-schedule").ok().records[0]["interval"] == 60
    sh("csb-config interval 5").ok()
    (timer,) = sh("csb-schedule --status").ok().records
    assert timer["interval"] == 60, "as it is installed"
    assert sh("csb-schedule").ok().records[0]["interval"] == 5
    path.write_text('{"interval": "soon"}')
    done = sh("csb-schedule")
    assert (done.rc, done.out) == (1, "") and '"soon"' in done.err
    for word in ("0", "7", "90", "2880", "x", "-1"):
        done = sh(f"csb-schedule --interval={word}")
        assert (done.rc, done.out, done.err.count("\n")) == (2, "", 1), done
    path.write_text("{")
    assert sh("csb-schedule").rc == 1 and sh("csb-schedule --status").rc == 0


def test_status(sh, home, system):
    """Installed, running, the last success, the next run;
    status 1 for one that does not run."""
    machine = system("cron")
    done = sh("csb-schedule --status")
    timer, = done.records
    assert (timer["installed"], timer["running"], timer["available"]) == (
        False, False, True)
    assert done.rc == 1 and done.err == (
        "csb-schedule: no timer backs this up: csb schedule installs one\n")
    sh("csb-schedule").ok()
    log = home.backup / "backup.log"
    home.backup.mkdir(exist_ok=True)
    begin = time.time()

    def stamp(ago):
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(begin - ago))

    def said(*entries):
        with open(log, "w") as file:
            for ago, event, outcome in entries:
                run = {"kind": "backup", "at": stamp(ago), "event": event}
                file.write(json.dumps({**run, "outcome": outcome}) + "\n")
            file.write('x\n[]\n{"at": 1}\n')
            file.write('{"at": "x", "event": "timer", "outcome": "ok"}\n')
        return sh("csb-schedule --status")

    timer, = said((90, "hand", "ok"), (60, "timer", "failed")).ok().records
    assert timer["last_success"] == stamp(90)
    assert stamp(0) < timer["next_at"] <= stamp(begin - time.time() - 15 * 60 - 1)
    done = said((7200, "timer", "ok"), (10, "hand", "ok"))
    assert done.rc == 1 and "has not begun a backup since" in done.err
    assert done.records[0]["running"] is False and "next_at" not in done.records[0]
    said((10, "timer", "busy")).ok()
    machine.tab.write_bytes(b"#" + machine.tab.read_bytes())
    done = sh("csb-schedule --status")
    assert done.rc == 1 and "no timer backs this up" in done.err
    sh("csb-schedule").ok()
    (machine.path / "daemon").unlink()
    done = sh("csb-schedule --status")
    assert done.rc == 1 and "installed, but not running: no cron daemon" in done.err


@pytest.mark.parametrize("kinds", [(), ("cron",), ("systemd", "cron")])
def test_status_where_nothing_could_be_a_timer(sh, system, kinds):
    """Status 1, what is wrong with each, what to do;
    a Mac's launchd is no matter here."""
    machine = system(*kinds)
    (machine.path / "state").write_text("offline\n")
    (machine.path / "daemon").unlink()
    done = sh("csb-schedule --status")
    assert (done.rc, done.err.count("\n")) == (1, 1), done
    assert "no timer runs here (systemd: " in done.err
    assert "install cron or " in done.err
    assert done.records[0]["available"] is False and done.records[0]["reason"]
    assert "launch" not in done.out + done.err
    assert "launch" not in sh("csb-schedule").err


def test_a_mac_has_launchd_and_cron(sh, home, system, tmp_path):
    machine = system("launchd", "cron")
    home.env["WITHOUT_POSIX"] = os.path.join(home.env["PATH"].split(":")[-3], "python3")
    likeness = os.path.join(ROOT, "tests", "without_posix.py")
    tool = shutil.which("csb-schedule", path=home.env["PATH"])
    tool = f"python3 -B -IS '{likeness}' macos {tool}"
    assert [r["timer"] for r in sh(f"{tool} --kind cron").ok().records] == ["cron"]
    assert [r["timer"] for r in sh(tool).ok().records] == ["launchd"]
    assert not machine.tab.exists(), "one timer a store"
    (machine.path / "loaded").unlink()
    done = sh(f"{tool} --status")
    assert (done.rc, done.records[0]["timer"]) == (1, "launchd")
    assert "systemd" not in done.out + done.err


def test_a_timer_that_begins_no_backup_does_not_run(sh, home, system):
    """Whatever the system says of it: not even its first one stands in the log."""
    system("cron")
    home.backup.mkdir(exist_ok=True)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 400 * 86400))
    (home.backup / "backup.log").write_text(json.dumps(
        {"kind": "backup", "at": stamp, "event": "timer", "outcome": "ok"}) + "\n")
    assert sh("csb-schedule").records[0]["running"] is False
    done = sh("csb-schedule --status")
    assert done.rc == 1 and f"it has not begun a backup since {stamp}" in done.err


def test_tools_that_are_missing(sh, system, stages):
    """One line that names them all, and nothing was changed."""
    machine = system("cron")
    stages("csb-backup", None)
    stages("csb-config", None)
    done = sh("csb-schedule")
    assert (done.rc, done.out) == (3, ""), done
    assert done.err == (
        "csb-schedule: cannot find csb-backup, csb-config "
        "beside csb-schedule or on PATH\n"
    )
    assert not machine.tab.exists()


def test_a_home_that_is_a_link_names_the_store(sh, home, system):
    """CSB_HOME is the usual one, but on another disk, which may be away when the timer
    runs: its bare mount point is no first run."""
    system("cron")
    real = home.path / "disk"
    real.mkdir()
    home.backup.symlink_to(real)
    words = "csb-schedule --print --kind cron"
    assert "CSB_GIT_DIR" not in sh(words, CSB_HOME=None).ok().out, "there is none yet"
    sh(f"git init -q --bare {real}/git")
    assert f"CSB_GIT_DIR={home.backup}/git " in sh(words, CSB_HOME=None).ok().out
    home.backup.unlink()
    real.rename(home.backup)
    assert "CSB_GIT_DIR" not in sh(words, CSB_HOME=None).ok().out


# --- what the system is told ----------------------------------------------------------
# Its own readers read it, where Python or the machine has them.


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
        assert text.count("\n") == 1 and "%" not in text
        return ["/bin/sh", "-c", text.rstrip("\n").split(" ", 5)[5]]
    if kind == "systemd":
        shell, option, word = re.search("^ExecStart=(.*)$", text, re.M)[1].split(" ", 2)
        assert word[0] == word[-1] == '"' and "%" not in word
        word = re.sub(r"\\(.)", r"\1", word[1:-1])
        assert "$" not in word.replace("$$", "")
        return [shell, option, word.replace("$$", "$")]
    return plistlib.loads(text.encode())["ProgramArguments"]


NASTY = {"space": "a b", "quotes": "it's \"so\"",
         "shell": "$HOME `x` $(y) ; & | # \\ \\n", "accents": "\u00e9\u20ac\U0001f600",
         "dashes": "-- -->", "tags": "<a>&amp;<string>"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("word", NASTY.values(), ids=NASTY)
@pytest.mark.few(3)
def test_each_form_runs_the_tool_with_its_paths(home, backup, kind, word, tmp_path):
    """Home, Claude directory and store, with all that a file name may hold,
    come out as they are; so does the tool's own path."""
    env = {
        "CSB_HOME": f"{home.path}/{word}/h",
        "CSB_GIT_DIR": None,
        "CLAUDE_CONFIG_DIR": f"{home.path}/{word}/c",
    }
    (tmp_path / word).mkdir()
    shutil.move(tmp_path / "copy", tmp_path / word / "tools")
    env["PATH"] = home.env["PATH"].replace(
        f"{tmp_path}/copy", f"{tmp_path}/{word}/tools"
    )
    for options, store in (
        ([], None),
        ([f"--git-dir={word}/g", "--claude-dir=~/d"], "g"),
    ):
        done = subprocess.run(
            [
                f"{tmp_path}/{word}/tools/bin/csb-schedule",
                "--print",
                "--kind",
                kind,
                *options,
            ],
            env={k: v for k, v in (home.env | env).items() if v},
            cwd=home.path,
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stderr) == (0, "")
        words = command(kind, done.stdout)
        subprocess.run(words, env={"PATH": "/usr/bin:/bin"}, cwd="/", check=True)
        told, seen = json.loads(backup.read_text())
        assert told[:3] == ["--quiet", "--event", "timer"]
        assert seen["CSB_HOME"] == env["CSB_HOME"] and seen["HOME"] == str(home.path)
        if store:
            stores = f"--git-dir={home.path}/{word}/g"
            assert told[3:] == [f"--claude-dir={home.path}/d", stores]
            assert "CLAUDE_CONFIG_DIR" not in seen
        else:
            assert told[3:] == []
            assert seen["CLAUDE_CONFIG_DIR"] == env["CLAUDE_CONFIG_DIR"]


@pytest.mark.parametrize("word", ["100%d", "a\nb", "\udcff", "a\tb"])
def test_what_no_timer_takes_is_said(sh, system, word):
    machine = system("cron")
    done = sh("csb-schedule --git-dir \"$W\"", W=f"/{word}")
    assert (done.rc, done.out, done.err.count("\n")) == (1, "", 1), done
    assert "no timer takes a %" in done.err and not machine.tab.exists()


def test_a_git_of_another_place_is_found_again(sh, home, tmp_path):
    """Only then a PATH is written down."""
    assert "PATH=" not in sh("csb-schedule --print --kind cron").ok().out
    (tmp_path / "brew").mkdir()
    (tmp_path / "brew" / "git").symlink_to("/usr/bin/git")
    done = sh(
        "csb-schedule --print --kind cron", PATH=f"{tmp_path}/brew:{home.env['PATH']}"
    ).ok()
    assert f" PATH={tmp_path}/brew:/usr/bin:/bin " in done.out


@pytest.mark.parametrize("interval", INTERVALS)
@pytest.mark.few(6)
def test_the_clocks_agree(sh, interval):
    """systemd, asked itself, goes off at the minutes of the cron line."""
    print_it = f"csb-schedule --print --interval {interval} --kind"
    minutes, hours = sh(f"{print_it} cron").ok().out.split(" ")[:2]
    spec = re.search("^OnCalendar=(.*)$", sh(f"{print_it} systemd").ok().out, re.M)[1]
    found = []
    for field, most in ((minutes, 60), (hours, 24)):
        first, _, step = field.partition("/")
        start, _, end = first.replace("*", f"0-{most - 1}").partition("-")
        found.append(list(range(int(start), int(end or start) + 1, int(step or 1))))
    assert len(found[0]) * len(found[1]) == 1440 // interval
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    done = subprocess.run(
        ["systemd-analyze", "calendar", "--iterations=4", spec],
        env={"TZ": "UTC", "PATH": "/usr/bin:/bin"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    times = re.findall(r"(\d\d):(\d\d):00 UTC", done.stdout)
    assert len(times) >= 4
    assert all(
        int(hour) in found[1] and int(minute) in found[0] for hour, minute in times
    )


@pytest.mark.skipif(
    not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed"
)
@pytest.mark.parametrize("word", NASTY.values(), ids=NASTY)
@pytest.mark.few(5)
def test_systemd_takes_the_units(sh, tmp_path, word):
    words = 'csb-schedule --print --kind systemd --git-dir "$W"'
    text = sh(words, W=f"/{word}").ok().out
    units = re.findall("^# (/.*)\n(\\[Unit\\]\n(?:(?!# /).*\n)*)", text, re.M)
    for path, unit in units:
        path = tmp_path / os.path.basename(path)
        path.write_text(unit)
    done = sh(f"systemd-analyze verify --user --man=no '{path}' 2>&1",
              XDG_RUNTIME_DIR=str(tmp_path), SYSTEMD_LOG_LEVEL="warning")
    assert not [line for line in done.out.splitlines() if "csb-backup" in line], done
