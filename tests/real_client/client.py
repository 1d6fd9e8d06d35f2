"""A real client in a home of its own, that knows no other host than the stub.

Its environment is built from nothing, so that no setting and no key of the caller
reaches it. All that it writes lies below one directory.
"""
import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
import uuid
from types import SimpleNamespace

from stub_api import Stub

KEY = "sk-ant-stub-" + "0" * 24
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
CLOSE = "close the terminal"


class Client:
    """The client `binary` below the directory `top`:
    .home .config .backup .project .stub"""

    def __init__(self, binary, top):
        self.binary, self.top = str(binary), top
        self.home, self.project, self.tmp = top / "home", top / "a project", top / "tmp"
        self.config, self.backup = self.home / ".claude", self.home / ".claude-backup"
        for folder in (self.config, self.project, self.tmp):
            folder.mkdir(parents=True)
        self.stub = Stub()
        # What it asks at its first start is answered here.
        trust = {"hasTrustDialogAccepted": True, "hasCompletedProjectOnboarding": True,
                 "allowedTools": [], "mcpServers": {}}
        (self.config / ".claude.json").write_text(json.dumps({
            "hasCompletedOnboarding": True, "theme": "dark",
            "customApiKeyResponses": {"approved": [KEY[-20:]], "rejected": []},
            "projects": {str(self.project): trust}}))

    def __enter__(self):
        self.stub.__enter__()
        return self

    def __exit__(self, *_):
        self.stub.__exit__()

    def env(self):
        """The whole environment of the client, and of what is run beside it."""
        proxy = f"http://127.0.0.1:{self.stub.port}"
        return {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "TERM": "xterm-256color",
            "HOME": str(self.home),
            "CLAUDE_CONFIG_DIR": str(self.config),
            "CSB_HOME": str(self.backup),
            "TMPDIR": str(self.tmp),
            "GIT_CONFIG_GLOBAL": str(self.home / ".gitconfig"),
            "GIT_CONFIG_SYSTEM": os.devnull,
            "CLAUDE_CODE_TMPDIR": str(self.tmp),
            "ANTHROPIC_BASE_URL": proxy,
            "ANTHROPIC_API_KEY": KEY,
            "HTTPS_PROXY": proxy,
            "HTTP_PROXY": proxy,
            "NO_PROXY": "127.0.0.1,localhost",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
            "DISABLE_TELEMETRY": "1",
            "DISABLE_ERROR_REPORTING": "1",
            "CLAUDE_CODE_DISABLE_OFFICIAL_MARKETPLACE_AUTOINSTALL": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def start(self, *words, cwd=None):
        """The client with these arguments, running."""
        return subprocess.Popen(
            [self.binary, *map(str, words)],
            cwd=cwd or self.project,
            env=self.env(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )

    def end(self, process, session=None):
        """What a client did that was started: rc, out, err, session, after:
        seconds from the last answer of the stub to its end."""
        out, err = process.communicate(timeout=120)
        after = time.monotonic() - self.stub.answered
        return SimpleNamespace(rc=process.returncode, out=out, err=err, session=session,
                               after=after)

    def run(self, *words, cwd=None):
        """The client with these arguments, to its end, which must be a good one."""
        done = self.end(self.start(*words, cwd=cwd))
        assert done.rc == 0, done
        return done

    def ask(self, text, *words, cwd=None):
        """A conversation of one prompt without a terminal; its id is .session."""
        session = str(uuid.uuid4())
        done = self.run("-p", "--session-id", session, *words, "--", text, cwd=cwd)
        done.session = session
        return done

    def resume(self, session, text, *words, cwd=None):
        """One more prompt to a conversation."""
        return self.run("-p", "--resume", session, *words, "--", text, cwd=cwd)

    def known(self):
        """What the client gave to the model with the last prompt:
        all messages, as JSON."""
        prompts = [body for body in self.stub.bodies if body.get("tools")]
        return json.dumps(prompts[-1]["messages"])

    def talk(self, lines, leave, resume=None):
        """A conversation in a terminal, or more of one: type each line and wait
        until the screen is still, then leave: a line, a signal, or CLOSE.
        /rename is not waited for, as nobody answers it. -> session, rc, screen,
        seconds from then to the end."""
        session = resume or str(uuid.uuid4())
        option = "--resume" if resume else "--session-id"
        pid, fd = pty.fork()
        if pid == 0:
            try:
                os.chdir(self.project)
                os.execve(self.binary, [self.binary, option, session], self.env())
            finally:
                os._exit(127)
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 150, 0, 0))
        screen = bytearray()
        try:
            select.select([fd], [], [], 30)
            read_until_still(fd, screen, 3.0)
            for line in lines:
                before = len(self.stub.bodies)
                enter(fd, screen, line)
                deadline = time.monotonic() + (0 if line.startswith("/rename") else 30)
                while len(self.stub.bodies) == before and time.monotonic() < deadline:
                    read_until_still(fd, screen, 0.2)
                read_until_still(fd, screen, 2.0)
            if isinstance(leave, int):
                os.kill(pid, leave)
            elif leave == CLOSE:
                os.close(fd)
                fd = -1
            else:
                enter(fd, screen, leave)
            left = time.monotonic()
            status = wait(pid, fd, screen)
        finally:
            if fd >= 0:
                os.close(fd)
        return SimpleNamespace(session=session, rc=os.waitstatus_to_exitcode(status),
                               screen=screen.decode("utf-8", "replace"),
                               after=time.monotonic() - left)

    def transcripts(self):
        """The paths of all transcripts."""
        return sorted((self.config / "projects").glob("*/*.jsonl"))

    def transcript(self, session):
        """The path of a session's transcript; it must be there."""
        return next(path for path in self.transcripts() if path.stem == session)

    def tool(self, line):
        """A shell line with the tools on PATH, in the home of this
        client: rc, out, err."""
        env = self.env()
        env["PATH"] = os.path.join(ROOT, "bin") + ":" + env["PATH"]
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", line],
            env=env,
            cwd=self.project,
            capture_output=True,
            text=True,
            timeout=300,
        )
        return SimpleNamespace(rc=done.returncode, out=done.stdout, err=done.stderr)

    def log(self, event):
        """The lines of backup.log of an event."""
        path = self.backup / "backup.log"
        lines = path.read_text().splitlines() if path.exists() else []
        return [run for run in map(json.loads, lines) if run.get("event") == event]


def enter(fd, screen, line):
    """Type a line, and the key at its end when the screen has shown it."""
    os.write(fd, line.encode())
    read_until_still(fd, screen, 0.7)
    os.write(fd, b"\r")


def read_until_still(fd, screen, quiet, limit=30):
    """Add what comes to screen, until nothing has come for so many seconds;
    False at its end."""
    end = time.monotonic() + limit
    while time.monotonic() < end and select.select([fd], [], [], quiet)[0]:
        try:
            data = os.read(fd, 1 << 16)
        except OSError:
            return False
        if not data:
            return False
        screen += data
    return True


def wait(pid, fd, screen, limit=60):
    """The status of a process that is about to end; its terminal is read meanwhile."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            if fd >= 0:
                read_until_still(fd, screen, 0.1, 1)
            return status
        if fd < 0 or not read_until_still(fd, screen, 0.02, 0.02):
            time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise AssertionError(f"the client did not end in {limit} seconds")


def until(condition, limit=60):
    """Wait for what happens in the background; False if it does not."""
    end = time.monotonic() + limit
    while not (met := condition()) and time.monotonic() < end:
        time.sleep(0.05)
    return met
