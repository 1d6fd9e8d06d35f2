"""csb-hook: what it says at the start of a session,
and other commands than the backup."""
import json
import os
import shutil
import time

import pytest
from conftest import name, payload

pytestmark = pytest.mark.logic

DAY = 86400
EVENTS = "SessionStart Stop PreCompact SessionEnd NobodyKnows".split()


def at(seconds):
    """A time seconds from now, as records give it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))


def run(seconds, outcome="ok", **more):
    """A line of backup.log."""
    record = {
        "kind": "backup",
        "at": at(seconds),
        "event": "timer",
        "outcome": outcome,
        "seconds": 0.1,
        "bytes": 0,
        **more,
    }
    return json.dumps(record) + "\n"


OLD, FAILED = (
    run(-3 * DAY),
    run(-60, "failed", reason="the \x1b[31mdisk is full" + "!" * 9999),
)


@pytest.mark.parametrize(
    "lines, older, words",
    [
        (None, None, ""),
        ("", None, ""),
        ("nonsense\n[]\n\x00\n", None, ""),
        (run(-60), None, ""),
        (run(-DAY + 7200), OLD, ""),
        (OLD, None, "3 days ago"),
        ("", OLD, "3 days ago"),
        (OLD + run(-60), None, ""),
        (OLD + run(-60, "busy"), None, "3 days"),
        (FAILED, None, "failed: the "),
        (FAILED, OLD, "failed: the "),
        (FAILED + run(-30), OLD, ""),
        (run(-9) + run(-5, "failed"), None, "backup failed (csb status"),
        (run(9 * DAY), None, ""),
        (run(-9) + run(-5, "failed", reason=[]), None, "backup failed (csb status"),
        (run(-2 * DAY + 60), None, ""),
        (run(-2 * DAY - 60), None, "2 days ago"),
        (OLD + "{" + run(-5), None, ""),
        (OLD + run(0, at=3) + run(0, at="x") + run(0, at=None), None, "3 days ago"),
        (FAILED + run(-5, "busy"), None, "failed: the "),
        (OLD * 30000, None, "3 days ago"),
        (FAILED + "nonsense\n" + '{"kind":3}\n', None, "failed"),
    ],
)
@pytest.mark.few(2)
def test_the_message_at_the_start_of_a_session(
    sh, over, claude, stages, home, lines, older, words
):
    stages("csb-backup", "")
    home.backup.mkdir()
    for file, text in (("backup.log", lines), ("backup.log.1", older)):
        if text is not None:
            (home.backup / file).write_text(text)
    done = sh("csb-hook", payload("SessionStart", source="resume")).ok()
    said = [json.loads(line)["systemMessage"] for line in done.out.splitlines()]
    assert len(said) == bool(words) and len(done.out) < 600, done
    assert all(words in text and text.startswith("csb: ") for text in said), said
    assert "\x1b" not in "".join(said)
    for event in ("SessionEnd", "Stop", "PreCompact"):
        assert sh("csb-hook", payload(event)).ok().out == ""
    assert sh("csb-hook", payload("SessionStart", source="compact")).ok().out == ""
    assert sh("csb-hook -- true", payload("SessionStart")).ok().out == ""
    over()


@pytest.mark.parametrize("has_csb, plugin, advice", [
    (True, "", "csb status says more"), (True, "/p", "csb status says more"),
    (False, "/p", "/csb:csb-status says more")])
def test_the_message_names_what_there_is(
        sh, over, claude, stages, home, tmp_path, has_csb, plugin, advice):
    """Who has the plugin alone cannot type csb."""
    stages("csb-backup", "")
    if not has_csb:
        stages("csb", None)
    home.backup.mkdir()
    (home.backup / "backup.log").write_text(FAILED)
    where = {"CLAUDE_PLUGIN_ROOT": plugin} if plugin else {}
    done = sh("csb-hook", payload("SessionStart"), **where).ok()
    assert json.loads(done.out)["systemMessage"].endswith(f"({advice})")
    over()


def test_without_git_the_first_session_hears_of_it(
    sh, over, claude, stages, home, tmp_path
):
    folder = tmp_path / "without git"
    folder.mkdir()
    for tool in ("sh", "bash", "env", "cat"):
        (folder / tool).symlink_to(shutil.which(tool))
    python = os.path.realpath(shutil.which("python3", path=home.env["PATH"]))
    (folder / "python3").symlink_to(python)
    stages("csb-backup", "")
    copy = home.env["PATH"].split(":")[0]
    start = payload("SessionStart", source="startup")
    done = sh(f"PATH='{copy}:{folder}' csb-hook", start).ok()
    assert "git is missing" in json.loads(done.out)["systemMessage"]
    assert sh("csb-hook", start).ok().out == ""
    over()


@pytest.mark.parametrize("spoil, words", [
    ("chmod 500 ~/.claude-backup", "cannot be written to"),
    ("chmod 000 ~/.claude-backup", "cannot be written to"),
    ("chmod 000 ~/.claude-backup/backup.log", "cannot read"),
    ("rm -r ~/.claude-backup; touch ~/.claude-backup", "is no directory"),
    ("rm -r ~/.claude-backup; ln -s /away ~/.claude-backup", "is no directory"),
    ("touch ~/.claude-backup/other", "")])
@pytest.mark.few(2)
def test_where_no_failure_can_be_noted(sh, over, claude, stages, home, spoil, words):
    """A home that root made, once: no run can leave a line in backup.log there."""
    stages("csb-backup", "")
    home.backup.mkdir()
    (home.backup / "backup.log").write_text(run(-60))
    sh(spoil).ok()
    done = sh("csb-hook", payload("SessionStart", source="startup")).ok()
    if home.backup.is_dir():
        home.backup.chmod(0o700)
    said = [json.loads(line)["systemMessage"] for line in done.out.splitlines()]
    assert len(said) == bool(words) and all(words in text for text in said), done
    over()


@pytest.mark.parametrize(
    "newer, said", [(None, False), ("projects/-srv-app", True), ("history.jsonl", True)]
)
def test_a_machine_that_was_off_is_not_unprotected(
    sh, over, claude, stages, home, newer, said
):
    stages("csb-backup", "")
    home.backup.mkdir()
    (home.backup / "backup.log").write_text(OLD)
    (home.claude / "history.jsonl").write_text("{}\n")
    for path in ("history.jsonl", "projects", "projects/-srv-app"):
        age = 2 if path == newer else 4
        os.utime(home.claude / path, (time.time() - age * DAY,) * 2)
    assert bool(sh("csb-hook", payload("SessionStart")).ok().out) == said
    over()


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.few(2)
def test_another_command(sh, hook, over, claude, stages, home, event):
    """It gets the JSON, whatever it is, in the directory of the hook;
    no backup runs."""
    # The client waits for PreCompact, if the JSON is not too large to be understood.
    for stdin in (payload(event), payload(event, text="x" * 10**7), b"no JSON\n"):
        hook(stdin, "-- sh -c 'cat >got; pwd >where; echo noise; exit 2'")
        if event != "PreCompact" or stdin != payload(event):
            over()
        assert (home.path / "got").read_bytes() == stdin
        assert (home.path / "where").read_text() == f"{home.path}\n"
        (home.path / "got").unlink()
    assert not home.backup.exists()


def test_the_command_is_found_beside_the_hook_first(sh, hook, over, claude, home):
    """A snapshot of the project's memory, into the repository in which
    the client works."""
    (claude / "memory").mkdir()
    (claude / "memory" / "MEMORY.md").write_text("remember\n")
    sh("git init -q app").ok()
    hook(payload("PreCompact", transcript_path=f"{claude}/{name(0)}.jsonl"),
         "-- session_snapshot", cwd=home.path / "app")
    (copy,) = (home.path / "app" / "backup" / "sessions").glob("*__MEMORY.md")
    assert copy.read_text() == "remember\n"


def test_a_command_that_is_read_from_no_more(hook, over, claude, home):
    hook(payload("PreCompact", text="x" * 10**6), "-- sh -c 'exec <&-; touch there'")
    assert (home.path / "there").exists()
