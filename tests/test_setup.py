"""csb-setup: one command and all is set up, proven, and can be undone;
else it says what is not.

crontab and ps are stand-ins, as in test_schedule.py; all else is real.
"""
import json
import os
import random
import shlex
import subprocess

import pytest
import shifted
from conftest import POWERLESS, PYTHON, backup_log

pytestmark = pytest.mark.logic

ID = "11111111-2222-4333-8444-{:012d}"
LINE = b'{"type":"user","message":{"role":"user","content":"word"}}\n'
CRONTAB = """case $1 in -r) rm tab;; -) cat >new && mv new tab;;
    -l) [ -e tab ] || { echo no crontab for me >&2; exit 1; }; cat tab;; esac"""


@pytest.fixture
def machine(tmp_path, home):
    """A home with a session, settings and a cron that runs; its .tab, and .settings."""
    folder = tmp_path / "system"
    folder.mkdir()
    for name, code in (("crontab", CRONTAB), ("ps", "[ ! -e daemon ] || echo cron"),
                       ("systemctl", "exit 1"), ("launchctl", "exit 1")):
        (folder / name).write_text(f"#!/bin/sh\ncd '{folder}' || exit\n{code}\n")
        (folder / name).chmod(0o755)
    (folder / "daemon").touch()
    shifted.put_python(folder, PYTHON)
    home.env["PATH"] = f"{folder}:" + home.env["PATH"]
    (home.claude / "projects/-w").mkdir(parents=True)
    (home.claude / f"projects/-w/{ID.format(1)}.jsonl").write_bytes(LINE)
    home.settings = home.claude / "settings.json"
    home.tab = folder / "tab"
    home.system = folder
    home.settings.write_bytes(b'{\r\n\t"model": "x"\r\n}')
    return home


def marks(done):
    """The checklist: [(mark, text)]."""
    lines = done.out.split("How it stands:\n")[1].splitlines()
    return [(line[2:4], line[6:]) for line in lines if line.startswith("  ")]


@pytest.mark.long
def test_an_age_that_was_none_comes_back_as_it_was(sh, machine):
    machine.settings.write_text('{"cleanupPeriodDays": "7"}')
    assert sh("csb-setup --yes --keep-days 400").rc == 0
    done = sh("csb-setup --undo").ok()
    assert 'cleanupPeriodDays is "7" again.' in done.out and " 0 days" not in done.out


def test_set_up_undo_and_again(sh, machine, listing, rounds):
    """Everything is there, proven and said; again nothing changes;
    undone, all is as it was."""
    before = machine.settings.read_bytes()
    times = rounds(1, 2)
    for _ in range(times):
        done = sh("csb-setup --yes --keep-days 3650")
        assert (done.rc, done.err) == (0, ""), done
        assert [mark for mark, _ in marks(done)] == ["ok"] * 4 + ["--"]
        assert "read back 2 of 2 files" in done.out
        last = done.out.splitlines()[-1]
        assert last.startswith("Everything is protected. csb status ")
        assert "every 15 minutes" in done.out and "\x1b" not in done.out
        after, tab = listing(machine.claude), machine.tab.read_bytes()
        again = sh("csb setup --yes --keep-days 3650")
        assert again.rc == 0 and marks(again)[1:3] == marks(done)[1:3]
        assert listing(machine.claude) == after and machine.tab.read_bytes() == tab
        done = sh("csb-setup --undo")
        assert (done.rc, done.err) == (0, "") and "The store stays" in done.out, done
        assert "cleanupPeriodDays is 30 again" in done.out
        assert machine.settings.read_bytes() == before and not machine.tab.exists()
        assert sh("csb-verify").rc == 0
    sh("mv $CSB_HOME/git away").ok()
    done = sh("csb-setup --undo")
    assert done.rc == 0 and machine.settings.read_bytes() == before
    assert "The store stays" not in done.out, "there is none"
    runs = [run["event"] for run in backup_log(machine)]
    assert runs == ["setup", "timer"] * 2 * times


@pytest.mark.parametrize(
    "event, more",
    [
        ("SessionEnd", " --foreground"),
        ("PreCompact", ""),
        ("SessionStart", " --foreground"),
    ],
)
@pytest.mark.few(1)
def test_a_hook_runs_as_it_stands_there(sh, machine, event, more):
    """The client hands it to a shell, with a payload,
    in a directory and a PATH of its own."""
    machine.env["CSB_HOME"] = str(machine.path / "it's a $HOME")
    assert sh("csb-setup --yes").rc == 0
    hook = json.loads(machine.settings.read_text())["hooks"][event][0]["hooks"][0]
    assert hook["type"] == "command"
    new = machine.claude / f"projects/-w/{ID.format(2)}.jsonl"
    new.write_bytes(LINE * 2)
    payload = {
        "hook_event_name": event,
        "session_id": ID.format(2),
        "source": "startup",
        "transcript_path": str(new),
        "cwd": "/",
    }
    done = sh(
        f"sh -c {shlex.quote(hook['command'] + more)}",
        json.dumps(payload).encode(),
        cwd="/",
        CSB_HOME=None,
        PATH="/usr/bin:/bin",
    )
    assert (done.rc, done.out, done.err) == (0, "", "")
    store = shlex.quote(machine.env["CSB_HOME"] + "/git")
    stored = sh(f"git --git-dir={store} show 'main:projects/-w/{new.name}'").ok().out
    assert stored.encode() == LINE * 2
    sh("csb-backup --quiet").ok()  # waits for what the hook has left in the background


def test_nothing_is_done_unless_it_is_wanted(sh, machine, listing):
    before = listing(machine.path)
    for words, rc in (("", 2), ("--dry-run", 0), ("--dry-run --yes --keep-days 99", 0),
                      ("--print-hooks", 0)):
        done = sh(f"csb-setup {words}")
        assert (done.rc, done.err.count("\n")) == (rc, rc // 2), done
        assert done.out
        assert "protected" not in done.out
        assert listing(machine.path) == before
    assert "--yes" in sh("csb-setup").err and sh("csb-setup <&-").rc == 2
    hooks = json.loads(sh("csb-setup --print-hooks").ok().out)["hooks"]
    assert list(hooks) == ["SessionStart", "PreCompact", "SessionEnd"]
    for words in ("--keep-days 0", "--keep-days -- -1", "--undo --dry-run", "x"):
        done = sh(f"csb-setup --yes {words}")
        assert (done.rc, done.out, done.err.count("\n")) == (2, "", 1), done
    assert listing(machine.path) == before and not machine.tab.exists()


@pytest.mark.parametrize(
    "answers, days",
    [
        ("y\ny\n", 3650),
        ("\n\n", 3650),
        ("yes\nno\n", None),
        ("n\n", 0),
        ("\x04", 0),
        ("what?\n", 0),
    ],
)
@pytest.mark.few(2)
def test_a_person_at_a_terminal_is_asked(machine, answers, days):
    import pty
    end, terminal = pty.openpty()
    os.write(end, answers.encode())
    done = subprocess.run([*POWERLESS, "csb-setup"], env=machine.env, stdin=terminal,
                          capture_output=True, text=True)
    os.close(end)
    os.close(terminal)
    assert (done.returncode, done.stderr) == (0, ""), done
    found = json.loads(machine.settings.read_text())
    all_is_set_up = days != 0
    assert ("hooks" in found) == all_is_set_up
    assert machine.tab.exists() == machine.backup.exists() == all_is_set_up
    assert found.get("cleanupPeriodDays") == (days or None)


def hooks(machine):
    return "hooks" in json.loads(machine.settings.read_text())


def test_no_timer(sh, machine):
    """Said, with what mends it; the rest is done."""
    (machine.system / "daemon").unlink()
    done = sh("csb-setup --yes")
    assert (done.rc, done.err) == (1, "")
    assert [mark for mark, _ in marks(done)] == ["ok", "ok", "NO", "ok", "--", "--"]
    assert "cron: no cron daemon is at work" in marks(done)[2][1]
    assert marks(done)[2][1].endswith("install cron or start it, then csb setup")
    assert done.out.splitlines()[-1] == "1 line says NO, and what to do about it."
    assert hooks(machine) and "launchd" not in done.out + done.err
    assert "protected" not in done.out and not machine.tab.exists()


def test_no_git(sh, machine, listing):
    """One line; nothing else is there afterwards."""
    folder = machine.path.parent / "few"
    folder.mkdir()
    for name in ("sh", "id", "python3"):
        path = subprocess.run(
            ["which", name], env=machine.env, capture_output=True, text=True
        )
        (folder / name).symlink_to(path.stdout.strip())
    before = listing(machine.path)
    tools = machine.env["PATH"].split(":")[1]
    done = sh("/usr/bin/env " + f"PATH={folder}:{tools} csb-setup --yes")
    assert (done.rc, done.err.count("\n")) == (1, 1)
    assert "git is not installed" in done.err
    assert listing(machine.path) == before and not machine.tab.exists()
    assert "protected" not in done.out


@pytest.mark.skipif(
    os.geteuid() == 0 and not POWERLESS, reason="root may write anywhere"
)
def test_a_home_that_cannot_be_written(sh, machine, listing):
    before = listing(machine.path)
    machine.path.chmod(0o500)
    done = sh("csb-setup --yes", cwd="/")
    machine.path.chmod(0o700)
    assert (done.rc, done.err.count("\n")) == (1, 1), done
    assert str(machine.backup) in done.err
    assert listing(machine.path) == before and not machine.tab.exists()


@pytest.mark.skipif(
    os.geteuid() == 0 and not POWERLESS, reason="root may write anywhere"
)
def test_settings_that_cannot_be_written(sh, machine):
    """One line; the backup and the timer are there all the same."""
    before = machine.settings.read_bytes()
    machine.claude.chmod(0o500)
    done = sh("csb-setup --yes")
    machine.claude.chmod(0o700)
    assert (done.rc, done.err) == (1, "")
    assert f"cannot write '{machine.claude}" in marks(done)[1][1]
    assert machine.settings.read_bytes() == before and machine.tab.exists()
    assert [mark for mark, _ in marks(done)][:4] == ["ok", "NO", "ok", "ok"]


def test_a_full_disk(sh, machine):
    if sh("unshare -rm mount -t tmpfs -o size=1m none /mnt").rc:
        pytest.skip("this machine lets nobody mount a tmpfs in a namespace of his own")
    before = machine.settings.read_bytes()
    for number in range(9):
        (machine.claude / f"projects/-w/{number}.jsonl").write_bytes(
            random.randbytes(1 << 20)
        )
    done = sh(
        "unshare -rm bash -c 'mkdir ~/.claude-backup; mount -t tmpfs -o size=400k none "
        "~/.claude-backup; csb-setup --yes'"
    )
    assert (done.rc, done.err.count("\n")) == (1, 1), done
    assert machine.settings.read_bytes() == before and not machine.tab.exists()
    assert "protected" not in done.out


@pytest.mark.parametrize(
    "text, said",
    [
        (b'{\n // mine\n "a": 1\n}', "comments are no JSON"),
        (b'{"hooks": []}', "another shape"),
    ],
)
@pytest.mark.few(1)
def test_settings_of_another_shape(sh, machine, listing, text, said):
    """They are named and nothing is done; what belongs there can be printed."""
    machine.settings.write_bytes(text)
    before = listing(machine.path)
    done = sh("csb-setup --yes --keep-days 99")
    assert (done.rc, done.out, done.err.count("\n")) == (1, "", 1), done
    assert said in done.err
    assert listing(machine.path) == before and not machine.tab.exists()
    snippet = json.loads(sh("csb-setup --print-hooks --keep-days 99").ok().out)
    assert snippet["cleanupPeriodDays"] == 99
    assert list(snippet["hooks"]) == ["SessionStart", "PreCompact", "SessionEnd"]
    sh("csb-setup --undo")
    assert machine.settings.read_bytes() == text


def test_what_cannot_be_read_back_is_not_called_protected(sh, machine):
    """A damaged object of an older backup: said, with what mends it."""
    sh("csb-backup --quiet").ok()
    transcript = machine.claude / f"projects/-w/{ID.format(1)}.jsonl"
    oid = sh(f"git hash-object --no-filters {transcript}").ok().out.strip()
    path = machine.backup / "git/objects" / oid[:2] / oid[2:]
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:9])
    transcript.unlink()                 # else the backup of csb-setup mends it
    done = sh("csb-setup --yes")
    assert done.rc == 1 and "protected" not in done.out, done
    assert any(
        mark == "NO" and "(csb verify --repair)" in text for mark, text in marks(done)
    )


@pytest.mark.long
def test_one_file_that_cannot_be_read(sh, machine):
    """It is named, the rest is set up."""
    if os.geteuid() == 0 and not POWERLESS:
        pytest.skip("root may read anything")
    (machine.claude / "notes.md").write_text("x")
    (machine.claude / "notes.md").chmod(0)
    done = sh("csb-setup --yes")
    assert done.rc == 1
    assert "notes.md" in done.out
    assert hooks(machine)
    assert machine.tab.exists()
    assert "protected" not in done.out


@pytest.mark.long
def test_the_plugin_is_there(sh, machine):
    machine.settings.write_text('{"enabledPlugins": {"csb@csb-tools": true}}')
    done = sh("csb-setup --yes")
    assert done.rc == 0 and marks(done)[1][0] == "ok" and not hooks(machine)
    assert "leave the hooks to the plugin csb@csb-tools" in done.out
    assert "claude plugin uninstall" in sh("csb-setup --undo").out


@pytest.mark.long
def test_hooks_that_are_switched_off(sh, machine):
    machine.settings.write_text('{"disableAllHooks": true}')
    done = sh("csb-setup --yes")
    assert done.rc == 1
    assert marks(done)[1][0] == "NO"
    assert "disableAllHooks" in marks(done)[1][1]


@pytest.mark.parametrize("line", ["rm -r ~/.claude", "rm -r ~/.claude/*"])
def test_nothing_to_back_up(sh, machine, line):
    done = sh(f"{line}; csb-setup --yes")
    assert (done.rc, done.err.count("\n")) == (1, 1) and not machine.tab.exists(), done


@pytest.mark.long
def test_two_stores(sh, machine):
    """Each has its hooks and its timer, and goes alone."""
    assert sh("csb-setup --yes").rc == 0
    one, tab = machine.settings.read_bytes(), machine.tab.read_bytes()
    assert sh("csb-setup --yes --git-dir 'other store' --claude-dir .claude").rc == 0
    both = machine.settings.read_bytes()
    assert both.count(b"csb-hook") == 2 * one.count(b"csb-hook")
    sh("csb-setup --undo --git-dir 'other store' --claude-dir .claude").ok()
    assert (machine.settings.read_bytes(), machine.tab.read_bytes()) == (one, tab)


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "line", ["csb backup --quiet", "/usr/local/bin/csb backup --quiet &"]
)
def test_the_hooks_of_another_csb_are_replaced(sh, machine, line):
    """Those of the manual of csb 0.2.1: one hook for each event,
    and the undo knows of them."""
    group = [{"hooks": [{"type": "command", "command": line}]}]
    text = json.dumps({"hooks": {"PreCompact": group, "SessionEnd": group}})
    machine.settings.write_text(text)
    done = sh("csb-setup --yes")
    assert f"(in place of: {line})" in done.out and done.rc == 0, done
    found = json.loads(machine.settings.read_text())["hooks"]
    for groups in found.values():
        (entry,) = [entry for group in groups for entry in group["hooks"]]
        assert "csb-hook" in entry["command"]
    assert len(found) == 3
    done = sh("csb-setup --undo").ok()
    assert "Removed 3 hooks" in done.out and machine.settings.read_text() == text
    assert f"stays: SessionEnd: {line}\n" in done.out


@pytest.mark.long
def test_a_repository_of_ones_own(sh, machine):
    """Sessions do not go where its owner looks for them:
    that is said, with the way to push."""
    sh("git init -q ~/.claude").ok()
    done = sh("csb-setup --yes", CSB_HOME=None)
    notes = [text for mark, text in marks(done) if mark == "--"]
    assert any(
        "refs/csb/main" in text and "'csb push' does" in text for text in notes
    ), done
    assert "--mirror" not in done.out


def test_copies_elsewhere_are_made_by_csb_push(sh, machine):
    """Each of the two commands works as it stands there."""
    done = sh("csb-setup --yes").ok()
    assert "(git init --bare DIR and csb push DIR keep" in done.out
    assert "--mirror" not in done.out
    done = sh("git init -q --bare disk && csb-push disk").ok()
    assert done.records[0]["kind"] == "push"


def test_tools_that_are_missing(sh, machine, stages, tools):
    """All are named in one line, and nothing is changed."""
    machine.env["PATH"] = machine.env["PATH"].replace(f":{tools.bin}:", ":")
    for tool in ("csb-verify", "csb-status", "csb-hook"):
        stages(tool, None)
    done = sh("csb-setup --yes")
    assert (done.rc, done.out) == (3, ""), done
    assert done.err.startswith(
        "csb-setup: cannot find csb-verify, csb-status, csb-hook beside "
    )
    assert not hooks(machine) and not machine.backup.exists()
