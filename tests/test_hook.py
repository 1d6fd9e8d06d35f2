"""csb-hook: what the client says is backed up,
and the client never waits nor sees a thing."""
import fcntl
import json
import os
import signal
import subprocess
from contextlib import suppress
from select import select

import pytest
from conftest import LONG, POWERLESS, backup_log, held, name, payload

pytestmark = pytest.mark.logic

EVENTS = "SessionStart Stop PreCompact SessionEnd UserPromptSubmit NobodyKnows".split()
# A stage that waits until a word comes, the first time, and says where it is.
WAITS = """
went = os.environ["CSB_HOME"] + "/went"
if not os.path.exists(went):
    with open(os.environ["CSB_HOME"] + "/go") as go:
        go.read()
    with open(went, "w") as file:
        ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        file.write(f"{os.getcwd()} {os.getsid(0)} {ignored}")
"""
NOTES = """
with open(os.environ["CSB_HOME"] + "/ran", "a") as ran:
    ran.write(" ".join(sys.argv[1:]) + "\\n")
"""


@pytest.fixture
def whole_runs(tools, stages):
    """whole_runs(code): the code in the place of a whole run,
    after that of a session."""
    def replace(code):
        real = os.path.join(tools.bin, "csb-backup")
        stages("csb-backup", f"""
import subprocess
first = [word for word in sys.argv if word.startswith("--first=")]
if first:
    session = first[0].replace("first", "session")
    subprocess.run([sys.executable, "-I", {real!r}, "--quiet", session])
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
{code}""")
    return replace


@pytest.fixture
def gate(home, over):
    """A FIFO that holds WAITS up; a function that lets it go on,
    once it has come so far."""
    home.backup.mkdir()
    os.mkfifo(home.backup / "go")

    def open_it():
        writer = None
        while writer is None:
            assert over.running() and not (home.backup / "went").exists()
            with suppress(OSError):     # nobody reads yet
                writer = os.open(home.backup / "go", os.O_WRONLY | os.O_NONBLOCK)
        os.close(writer)
    return open_it


def stored(sh, commit="main"):
    """The sessions that a commit holds."""
    return sorted(
        path[-18:-6]
        for path in held(sh, ref=commit)
        if path.endswith(".jsonl") and path.startswith("projects/")
    )


def ran(home):
    """With what options the csb-backup of NOTES was called."""
    return (home.backup / "ran").read_text().splitlines()


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.few(2)
def test_the_session_first_and_then_the_rest(sh, hook, over, claude, home, event):
    hook(payload(event, number=1, source="startup"))
    over()
    both = [name(number)[-12:] for number in range(2)]
    assert stored(sh) == both
    tree = sh('git --git-dir="$CSB_HOME/git" rev-list --reverse main').ok().out.split()
    assert stored(sh, tree[0]) == (both if event == "SessionStart" else both[1:])
    assert len(sh("csb-list").ok().records) == 2
    (run,) = backup_log(home)
    assert (run["event"], run["outcome"]) == (event, "ok")


@pytest.mark.parametrize(
    "source", ["startup", "resume", "fork", "clear", "else", 3, None]
)
@pytest.mark.few(1)
def test_every_start_of_a_session_is_a_catch_up(hook, over, claude, home, source):
    hook(payload("SessionStart", source=source))
    over()
    assert backup_log(home)[0]["outcome"] == "ok"


def test_after_a_compaction_there_is_nothing_to_do(hook, over, claude, home):
    hook(payload("SessionStart", source="compact"))
    over()
    assert not home.backup.exists()


@pytest.mark.parametrize("event", ["SessionStart", "Stop", "SessionEnd"])
@pytest.mark.parametrize("stage", ["csb-backup", "csb-changes", "csb-gitcommit"])
@pytest.mark.few(3)
def test_the_client_does_not_wait(hook, over, claude, stages, gate, home, event, stage):
    """The hook has returned, its pipes are closed, and a stage is still at work."""
    stages(stage, WAITS)
    hook(payload(event))
    assert over.running()
    gate()
    over()
    folder, session, ignored = (home.backup / "went").read_text().split()
    assert (folder, ignored) == ("/", "True") and int(session) != os.getsid(0)


def test_precompact_waits_for_its_session_alone(
    sh, hook, over, claude, whole_runs, gate
):
    whole_runs(WAITS)
    hook(payload("PreCompact", number=1))
    assert stored(sh) == [name(1)[-12:]], "what the compaction takes away is stored"
    gate()
    over()


@pytest.mark.parametrize("stage", ["csb-gitcommit", "csb-backup"])
def test_precompact_does_not_wait_for_ever(
    hook, over, claude, stages, gate, home, stage
):
    stages(stage, WAITS)
    session_id = name(1) if stage == "csb-gitcommit" else "unknown"
    hook(payload("PreCompact", session_id=session_id), "--wait 0.2")
    gate()
    over()
    assert (home.backup / "went").exists(), "it went on in the background"


def test_precompact_without_a_session_waits_for_all(hook, claude, home, sh):
    hook(payload("PreCompact", session_id="nonsense"))
    assert backup_log(home)[0]["outcome"] == "ok" and len(stored(sh)) == 2


@pytest.mark.parametrize(
    "session", [name(77), "", "..", "*", "--help", name(0)[:8], 3, None, []]
)
@pytest.mark.few(2)
def test_a_session_that_cannot_be_used(sh, hook, over, claude, home, session):
    hook(payload(session_id=session))
    over()
    assert len(stored(sh)) == 2 and backup_log(home)[0]["outcome"] == "ok"


def test_while_a_backup_is_at_work(sh, hook, over, claude, home):
    """The session does not wait for it; the rest does."""
    home.backup.mkdir()
    with open(home.backup / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        hook(payload("PreCompact", number=1))
        assert stored(sh) == [name(1)[-12:]]
    over()
    assert len(stored(sh)) == 2


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGKILL])
def test_it_survives_the_client(home, over, claude, stages, gate, number):
    """The client's process group gets a signal, and its terminal is gone."""
    stages("csb-backup", WAITS)
    client = subprocess.Popen(
        [*POWERLESS, "bash", "-c", "csb-hook; echo ended; read"],
        env=home.env,
        cwd=home.path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # not nohup's
    )
    client.stdin.write(payload())
    client.stdin.flush()
    assert client.stdout.readline() == b"ended\n"
    os.killpg(client.pid, number)
    assert client.wait() == -number
    client.communicate()
    gate()
    over()
    assert (home.backup / "went").exists()


def test_it_gives_way(hook, over, claude, stages, home):
    """To all that a person does, and to the hooks of other sessions that end."""
    home.backup.mkdir()
    note = "open(os.environ['CSB_HOME'] + '/nice', 'a').write(f'{os.nice(0)}\\n')"
    stages("csb-changes", note)
    stages("csb-backup", note)
    hook(payload())
    over()
    nice = set((home.backup / "nice").read_text().split())
    assert nice == {str(min(os.nice(0) + 10, 19))}


def test_it_keeps_nothing_of_the_client_open(home, over, claude, stages, gate):
    """A pipe that the client forgot to close ends with the hook."""
    stages("csb-backup", WAITS)
    reader, writer = os.pipe()
    subprocess.run(
        [*POWERLESS, "csb-hook"],
        env=home.env,
        input=payload(),
        pass_fds=[writer],
        check=True,
        capture_output=True,
    )
    os.close(writer)
    assert select([reader], [], [], LONG)[0]
    assert os.read(reader, 1) == b""
    assert over.running()
    os.close(reader)
    gate()
    over()


SANE = payload()
NASTY = {
    "nothing": b"",
    "blank": b"\n \n",
    "garbage": b"\x00\xff\xfe{",
    "half": SANE[:30],
    "null": b"null",
    "a list": b"[" + SANE + b"]",
    "a number": b"1e999",
    "nan": b'{"a":NaN}',
    "nested": b"[" * 200000,
    "nested objects": b'{"a":' * 200000,
    "bom": b"\xef\xbb\xbf" + SANE,
    "utf-16": SANE.decode().encode("utf-16"),
    "crlf": SANE.strip() + b"\r\n\r\n",
    "two": SANE + SANE,
    "surrogates": b'{"session_id":"\\ud800","hook_event_name":"\\udfff"}',
    "control": b'{"hook_event_name":"a\\nb\\u0000","session_id":"\\u0000"}',
    "an option": b'{"hook_event_name":"--wait=0","session_id":"--help"}',
    "10 MB": payload(prompt="x" * 10**7),
    "10 MB of lists": b'{"a":[' + b"[]," * 3333333,
    **{
        f"{key} {value!r}": json.dumps({**json.loads(SANE), key: value}).encode()
        for key in ("hook_event_name", "session_id", "source", "transcript_path")
        for value in (None, [], "x" * 99999)
    },
}


@pytest.mark.parametrize("what", NASTY)
@pytest.mark.few(5)
def test_whatever_comes_it_is_a_backup(hook, over, claude, stages, home, what):
    """Never a word, never status 2, and the event in backup.log is a word."""
    stages("csb-backup", NOTES)
    home.backup.mkdir()
    hook(NASTY[what])
    over()
    (words,) = ran(home)
    event = words.partition("--quiet --event=")[2].partition(" --first=")[0]
    assert event in ("SessionEnd", "hook"), words
    good = ("bom", "utf-16", "crlf", "session_id ", "source ", "transcript_path ")
    assert (event == "SessionEnd") == what.startswith(good)


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize(
    "code", ["sys.exit(2)", "os.kill(os.getpid(), 9)", "raise Exception"]
)
@pytest.mark.few(3)
def test_no_failure_reaches_the_client(hook, over, claude, stages, event, code):
    stages("csb-changes", code)
    stages("csb-backup", f"print('noise', flush=True)\n{code}")
    hook(payload(event, source="startup"))


@pytest.mark.parametrize(
    "start", [b"", b'{"session_id":"', payload("PreCompact", number=1)]
)
def test_a_stdin_that_never_ends(home, over, claude, sh, start):
    """It is not waited for; what came is used, if it is whole."""
    process = subprocess.Popen(
        [*POWERLESS, "csb-hook"],
        env=home.env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    process.stdin.write(start)
    process.stdin.flush()
    assert process.stdout.read() == b"" and process.wait() == 0
    process.stdin.close()
    over()
    event = "PreCompact" if start.endswith(b"\n") else "hook"
    assert backup_log(home)[0]["event"] == event


@pytest.mark.parametrize(
    "stdin",
    [
        "</dev/zero",
        "< <(yes)",
        "<&-",
        "</dev/null",
        ">&-",
        "2>&-",
        "<&- >&-",
        "<&- >&- 2>&-",
        "3<&- <&-",
    ],
)
@pytest.mark.few(2)
def test_a_strange_stdin(sh, over, claude, home, stdin):
    done = sh(f"csb-hook {stdin}")
    assert (done.rc, done.out, done.err) == (0, "", "")
    over()
    assert backup_log(home)[0]["outcome"] == "ok"


@pytest.mark.parametrize(
    "options, spoil, words",
    [
        ("--nope", "", "--nope"),
        ("word", "", "word"),
        ("--wait x", "", "--wait"),
        ("--wait nan", "", "--wait"),
        ("-- no-such", "", "no-such"),
        ("-- ./no-such", "", "./no-such"),
        ("-- /", "", "find /"),
        ("-- csb-no-such", "", "csb-no-such"),
        ("", "csb-backup", "csb-backup"),
    ],
)
@pytest.mark.few(2)
def test_what_cannot_be_started_is_one_line_and_not_2(
    sh, over, claude, stages, home, options, spoil, words
):
    if spoil:
        stages(spoil, None)
    for event in EVENTS:
        done = sh(f"csb-hook {options}", payload(event, source="startup"))
        assert (done.rc, done.out, done.err.count("\n")) == (1, "", 1), done
        assert done.err.startswith("csb-hook: ") and words in done.err
    over()


def test_a_backup_inside_of_what_it_protects_is_said_at_once(sh, over, claude, home):
    done = sh("csb-hook", payload(), CSB_HOME=f"{home.claude}/backup")
    assert (done.rc, done.out, done.err.count("\n")) == (1, "", 1)


def test_relative_places(sh, hook, over, claude, home):
    """The background works in /, and means the same directories."""
    where = {"CLAUDE_CONFIG_DIR": "app/../.claude", "CSB_HOME": str(home.backup)}
    (home.path / "app").mkdir()
    sh("csb-gitcommit --make --git-dir store.git", **where).ok()
    hook(payload(), "--git-dir store.git", **where)
    over()
    assert backup_log(home)[0]["outcome"] == "ok"
    assert len(sh("git --git-dir store.git log --format=%H main").ok().out.split()) == 3


@pytest.mark.soak
def test_many_sessions_that_end_at_once(sh, over, claude, home, rounds):
    count = rounds(8, 20)
    for number in range(2, count):
        (claude / f"{name(number)}.jsonl").write_text(
            (claude / f"{name(0)}.jsonl")
            .read_text()
            .replace("question 0", f"question {number}")
        )
    for number in range(count):
        (home.path / f"in{number}").write_bytes(payload(number=number))
    done = sh("pids=; for file in in*; do csb-hook <$file & pids+=\" $!\"; done\n"
              "for pid in $pids; do wait $pid || exit 1; done").ok()
    assert done.out == ""
    over()
    assert len(stored(sh)) == len(sh("csb-list").ok().records) == count
    assert {line["outcome"] for line in backup_log(home)} == {"ok"}
    assert all('"recheck"' in line for line in sh("csb-changes").ok().out.splitlines())


@pytest.mark.parametrize("spoil", ["true", "chmod 000 ~/.claude/settings.json"])
@pytest.mark.few(1)
def test_the_environment_is_written_nowhere(sh, hook, over, claude, home, spoil):
    sh(spoil).ok()
    for event in EVENTS:
        hook(payload(event, source="startup"), ANTHROPIC_API_KEY="sk-ant-SECRET",
             CLAUDE_CODE_MESSAGING_TOKEN="tok-SECRET")
        over()
    outcome = "ok" if spoil == "true" else "failed"
    assert {run["outcome"] for run in backup_log(home)} == {outcome}
    found = sh("grep -r SECRET ~").out
    assert found == "", found
    git = "git --git-dir=$CSB_HOME/git"
    objects = sh(f"{git} cat-file --batch-all-objects --batch").ok().out
    assert "question 0" in objects and "SECRET" not in objects


@pytest.mark.parametrize("code, rc", [("", 0), ("sys.exit(2)", 1), ("sys.exit(75)", 1),
                                      ("os.kill(os.getpid(), 9)", 1)])
@pytest.mark.few(2)
def test_in_the_foreground(sh, claude, whole_runs, home, code, rc):
    whole_runs(NOTES + code)
    home.backup.mkdir()
    done = sh("csb-hook --foreground", payload("SessionStart"))
    assert (done.rc, done.out) == (rc, "")
    assert ran(home) == ["--quiet --event=SessionStart"]
    assert sh("csb-hook --foreground", payload(number=1)).rc == rc
    assert ran(home)[1:] == [f"--quiet --event=SessionEnd --first={name(1)}"]
    assert stored(sh) == [name(1)[-12:]]
    assert sh(f"csb-hook --foreground -- sh -c '{'exit 2' if rc else ''}'").rc == rc
