"""the plugin in the real client: every way in which a conversation
ends, and what it costs

make test-client brings the client (releases.py). CSB_ENDS=50 asks for that many ends in
the test that counts them.
"""
import json
import os
import shlex
import signal
import statistics
import subprocess
import time

import pytest
from client import CLOSE, ROOT, Client, until
from releases import CLIENT, RELEASES, client_of

if not CLIENT:
    pytest.skip("the real client: make test-client", allow_module_level=True)

ENDS = int(os.environ.get("CSB_ENDS", "8"))
CANCELLED = "Hook cancelled"


@pytest.fixture(scope="session")
def binary():
    """The path of the client."""
    return client_of(RELEASES[0])


@pytest.fixture
def clients(binary, tmp_path):
    """A function that makes a client, with the plugin of this repository or without."""
    made = []

    def make(name, plugin=ROOT):
        client = Client(binary, tmp_path / name)
        made.append(client.__enter__())
        if plugin:
            client.run("plugin", "marketplace", "add", plugin)
            client.run("plugin", "install", "csb@csb-tools")
        return client
    yield make
    for client in made:
        client.__exit__()
        assert not client.stub.refused, "it looked for other hosts"


def stored(client, path):
    """The bytes that the store has of a file of the Claude directory;
    none if it has not."""
    name = shlex.quote(f"main:{path.relative_to(client.config)}")
    done = subprocess.run(
        ["bash", "-c", f"git --git-dir {client.backup}/git show {name}"],
        env=client.env(),
        capture_output=True,
    )
    return done.stdout if done.returncode == 0 else b""


def is_stored(client, session):
    """Does the store hold the transcript as it is?"""
    path = client.transcript(session)
    return stored(client, path) == path.read_bytes()


def prove(client):
    """One run of the timer, and then everything must be covered;
    how many files were verified."""
    done = client.tool("csb backup --quiet --event=timer")
    assert (done.rc, done.err) == (0, ""), done
    # If hooks were still at work, one of them does it for the timer,
    # which does not wait.
    until(lambda: client.tool("csb-status").rc == 0)
    done = client.tool("csb-status")
    status = json.loads(done.out)
    assert status["covered"] and not status["uncovered_files"] and done.rc == 0, status
    done = client.tool("csb-verify")
    checks = [json.loads(line) for line in done.out.splitlines()]
    assert done.rc == 0 and all(check["ok"] for check in checks), (done.err, checks)
    transcripts = {
        str(path.relative_to(client.config)) for path in client.transcripts()
    }
    assert transcripts and transcripts <= {check["path"] for check in checks}
    count = f"{len(checks)} of {len(checks)}"
    assert count in client.tool("csb-verify | csb-fmt").out
    return count


def told(client, text, **kw):
    """What the client gives to the model for a prompt, in the end:
    text of all messages."""
    client.ask(text, **kw)
    messages = [body for body in client.stub.bodies if body.get("tools")][-1][
        "messages"
    ]
    return "\n".join(
        block
        if isinstance(block, str)
        else str(block.get("text") or block.get("content"))
        for message in messages
        for block in message["content"]
    )


def installed(client):
    """What the client says of our plugin. It may bring others of its own."""
    plugins = json.loads(client.run("plugin", "list", "--json").out)
    [entry] = [plugin for plugin in plugins if plugin["id"] == "csb@csb-tools"]
    return entry


def test_it_is_valid_and_installed_by_two_commands(clients):
    client = clients("c", plugin=None)
    client.run("plugin", "validate", "--strict", ROOT)
    client.run("plugin", "marketplace", "add", ROOT)
    client.run("plugin", "install", "csb@csb-tools")
    assert installed(client)["enabled"]


@pytest.mark.parametrize(
    "leave",
    ["/exit", signal.SIGTERM, signal.SIGKILL, CLOSE],
    ids=["exit", "SIGTERM", "SIGKILL", "terminal closed"],
)
def test_a_conversation_is_covered_however_it_ends(client, leave, tell):
    """With a /compact in the middle. What was said before it is stored before it
    happens; at the end all is, by the hook where there is one, by the timer where the
    client was killed."""
    done = client.talk(
        ["the word is OKAPI", "/compact", "and the other is NUMBAT"], leave
    )
    assert CANCELLED not in done.screen
    text = client.transcript(done.session).read_bytes()
    assert b"OKAPI" in text and b"compact_boundary" in text and b"NUMBAT" in text
    if leave != signal.SIGKILL:
        assert until(lambda: is_stored(client, done.session)), (
            "the hook did not store it"
        )
        assert until(lambda: client.log("SessionEnd")), "the run was not written down"
    history = client.tool(f"csb-history {done.session}")
    versions = [json.loads(line)["commit"] for line in history.out.splitlines()]
    path = client.transcript(done.session).relative_to(client.config)
    before = [client.tool(f"git --git-dir {client.backup}/git show {commit}:{path}").out
              for commit in versions]
    assert any("OKAPI" in text and "compact_boundary" not in text for text in before)
    assert until(lambda: client.log("PreCompact"))
    tell(f"left in {done.after:.2f} s, verified {prove(client)}")


def test_without_a_terminal_too_and_from_the_clients_own_copy(clients, tmp_path, tell):
    """Installed by OWNER/REPO, the plugin runs from the copy that the
    client has made."""
    client, bare = clients("c", plugin=None), str(tmp_path / "csb.git")
    subprocess.run(
        ["git", "clone", "-q", "--bare", ROOT, bare], check=True, env=client.env()
    )
    (client.home / ".gitconfig").write_text(
        f'[url "{bare}"]\n\tinsteadOf = https://github.com/owner/csb.git\n')
    client.run("plugin", "marketplace", "add", "owner/csb")
    client.run("plugin", "install", "csb@csb-tools")
    entry = installed(client)
    copy = entry["installPath"]
    assert copy.startswith(str(client.config)) and not entry.get("readFromFolder")
    assert f"{copy}/.claude-plugin/ask" in told(client, "/csb-search words")
    done = client.ask("the word is OKAPI")
    assert until(lambda: is_stored(client, done.session))
    client.resume(done.session, "/compact")
    client.resume(done.session, "and the other is NUMBAT")
    assert until(lambda: is_stored(client, done.session) and client.log("PreCompact"))
    tell(f"verified {prove(client)}")


def test_a_hook_that_is_too_slow_would_be_seen(clients):
    """So that the next test means something."""
    client = clients("c", plugin=None)
    slow = {"type": "command", "command": "sleep 4"}
    (client.config / "settings.json").write_text(json.dumps(
        {"hooks": {"SessionEnd": [{"hooks": [slow]}]}}))
    done = client.ask("hello")
    assert CANCELLED in done.out + done.err and done.after > 1


def test_an_end_is_never_cancelled_and_not_delayed(clients, tell):
    """In pairs, with the plugin and without any:
    from the last answer to the client's end."""
    ours, none = clients("ours"), clients("none", plugin=None)
    with_hook, without, sessions = [], [], []
    for _ in range(ENDS):
        done = none.ask("hello")
        without.append(done.after)
        done = ours.ask("hello")
        with_hook.append(done.after)
        sessions.append(done.session)
        assert CANCELLED not in done.out + done.err and not done.err, done
    more = statistics.median(a - b for a, b in zip(with_hook, without, strict=True))
    tell(
        f"{ENDS} ends, 0 cancelled: {statistics.median(without):.3f} s without, "
        f"{statistics.median(with_hook):.3f} s with the plugin, in pairs {more:+.3f} s"
    )
    assert until(lambda: all(is_stored(ours, session) for session in sessions))
    prove(ours)
    assert more < 0.5


def test_leaving_a_terminal_is_not_delayed(clients, tell):
    ours, none = clients("ours"), clients("none", plugin=None)
    for leave, name in (("/exit", "/exit"), (signal.SIGTERM, "SIGTERM")):
        pairs = []
        for _ in range(max(3, ENDS // 5)):
            pair = [client.talk(["hello"], leave) for client in (none, ours)]
            assert CANCELLED not in pair[1].screen
            pairs.append([done.after for done in pair])
        without, with_hook = map(statistics.median, zip(*pairs, strict=True))
        more = statistics.median(b - a for a, b in pairs)
        tell(
            f"{name}: {without:.3f} s without, {with_hook:.3f} s with the plugin, "
            f"{more:+.3f} s"
        )
        assert more < 0.5


def test_twenty_that_end_at_once_lose_nothing(client, tell):
    """The stub answers all of them in one moment.
    The hooks alone do it, without the timer.

    With so many at once the client may cancel a hook that it waits for;
    what the hook began goes on, and all is stored.
    """
    text = "the word is OKAPI [[gate:20]]"
    started = [
        client.start(
            "-p", "--session-id", f"{n:08x}-1111-4111-8111-111111111111", "--", text
        )
        for n in range(20)
    ]
    ended = [client.end(process) for process in started]
    assert not [done for done in ended if done.rc]
    cancelled = sum(CANCELLED in done.out + done.err for done in ended)
    sessions = [path.stem for path in client.transcripts()]
    assert len(sessions) == 20
    began = time.monotonic()
    assert until(lambda: all(is_stored(client, session) for session in sessions), 120)
    tell(f"all stored {time.monotonic() - began:.1f} s after the last one's end, "
         f"{cancelled} hooks cancelled, verified {prove(client)}")


def test_the_commands_of_a_conversation(client):
    """No permission is asked for; they work in a subdirectory, too."""
    folder = client.project / "a subdirectory"
    folder.mkdir()
    subprocess.run(
        ["git", "init", "-q", str(client.project)], check=True, env=client.env()
    )
    client.ask("the word is PANGOLIN")
    assert "no memory files" in told(client, "/snapshot")
    memory = client.transcripts()[0].parent / "memory"
    memory.mkdir(exist_ok=True)
    (memory / "MEMORY.md").write_text("- a fact\n")
    text = told(client, "/csb-status", cwd=folder)
    assert "A backup was made just now." in text and "Everything is backed up" in text
    assert "MEMORY.md" in told(client, "/snapshot", cwd=folder)
    [copy] = (client.project / "backup/sessions").iterdir()
    assert copy.read_text() == "- a fact\n"
    call = {
        "command": f'sh "{ROOT}/.claude-plugin/ask" search \'PANGOLIN\'',
        "description": "x",
    }
    text = told(
        client, f"/csb-search the animal's name [[tool:Bash {json.dumps(call)}]]"
    )
    assert "the word is PANGOLIN" in text


def test_a_backup_that_failed_is_said_at_the_next_start(client):
    client.backup.mkdir()
    failed = {
        "kind": "backup",
        "at": "2026-01-01T00:00:00Z",
        "event": "timer",
        "outcome": "failed",
        "reason": "cannot write 'x': No space left on device",
        "seconds": 1,
    }
    (client.backup / "backup.log").write_text(json.dumps(failed) + "\n")
    done = client.talk([], "/exit")
    shown = "".join(done.screen.split())
    assert "csb:thelastbackupfailed" in shown or "thelastbackupfailed" in shown
