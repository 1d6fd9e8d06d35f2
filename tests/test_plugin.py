"""the plugin of Claude Code: what it is made of, and the launcher on machines of all kinds

Nothing here needs the client: tests/real_client does (make test-client).
"""
import json
import os
import re
import shutil
import subprocess

import pytest
from conftest import FORM, PYTHON, ROOT

if FORM == "dist":
    pytest.skip("the plugin runs bin/", allow_module_level=True)

PLUGIN = os.path.join(ROOT, ".claude-plugin")
COMMANDS = ["csb-search", "csb-status", "snapshot"]
SHELLS = [shell for shell in ("dash", "bash", "busybox sh") if shutil.which(shell.split()[0])]
SESSION = "3f4a9b2c-2222-4333-8444-555555555555"
GOOD, OLD = f'#!/bin/sh\nexec {PYTHON} "$@"\n', "#!/bin/sh\nexit 1\n"
STORE = "#!/bin/sh\necho 'Python was not found; run without arguments to install' >&2\nexit 49\n"
LAUNCHER = f'#!/bin/sh\n[ "$1" = -3 ] || exit 2\nshift\nexec {PYTHON} "$@"\n'
RUN = 'sh "${CLAUDE_PLUGIN_ROOT}/.claude-plugin/run" csb-hook'


def read(name):
    """A file of the plugin; text, or what JSON says."""
    with open(os.path.join(PLUGIN, name), encoding="utf-8", newline="") as file:
        return json.load(file) if name.endswith(".json") else file.read()


def files():
    """The names of all files of the plugin."""
    return sorted(os.path.relpath(os.path.join(folder, name), PLUGIN)
                  for folder, _, names in os.walk(PLUGIN) for name in names)


def test_the_manifests_agree_with_the_tools():
    plugin, market = read("plugin.json"), read("marketplace.json")
    assert (plugin["name"], market["name"]) == ("csb", "csb-tools")
    assert market["owner"]["name"] and market["description"]
    assert [(one["name"], one["source"]) for one in market["plugins"]] == [("csb", "./")]
    with open(os.path.join(ROOT, "lib/csb/__init__.py"), encoding="utf-8") as file:
        assert plugin["version"] == re.search('^VERSION = "(.*)"', file.read(), re.M)[1]
    for key in ("hooks", "commands"):
        assert os.path.exists(os.path.join(ROOT, plugin[key]))


def test_the_hooks_do_not_make_the_client_wait():
    """A plugin's hook has 1.5 seconds at the end of a session, unless it is async. The one at the
    start may have something to say, the one before a compaction is to be waited for."""
    hooks = read("hooks.json")["hooks"]
    assert sorted(hooks) == ["PreCompact", "SessionEnd", "SessionStart"]
    for event, [group] in hooks.items():
        [hook] = group["hooks"]
        assert (hook["type"], hook["command"]) == ("command", RUN)
        assert hook.get("async", False) == (event == "SessionEnd")
        assert (group.get("matcher") or "compact") != "compact" or event != "SessionStart"


def test_nothing_is_bound_to_a_machine():
    """No Node, no path of somebody's, no line that Windows would end otherwise."""
    for name in files():
        text = read(name) if not name.endswith(".json") else json.dumps(read(name))
        assert "\r" not in text and "node" not in text and "/home/" not in text, name
    assert read(".gitattributes").endswith("\n* text eol=lf\n")
    assert all(os.access(os.path.join(PLUGIN, name), os.X_OK)
               for name in ("ask", "memory-files", "run"))


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_may_run_what_it_runs(name):
    """Without its line in allowed-tools the client would ask, or refuse."""
    head, text = read(f"commands/{name}.md").split("---\n")[1:]
    fields = dict(line.split(": ", 1) for line in head.splitlines())
    assert fields["name"] == name and fields["description"]
    allowed = re.findall(r"Bash\((.*?)\)", fields["allowed-tools"])
    lines = re.findall(r"^(?:!`|    )(sh .*?)`?$", text, re.M)
    assert lines and {line[:len(line)] for line in lines}
    for line in lines:
        assert any(line == rule or (rule.endswith(":*") and line.startswith(rule[:-2] + " "))
                   for rule in allowed), line
    assert sorted(f"commands/{one}.md" for one in COMMANDS) == [
        one for one in files() if one.startswith("commands/")]


@pytest.fixture
def machine(tmp_path):
    """A function: a copy of the plugin that sees this machine's programs only: {path: script}, a
    path with a / is one of the usual places. -> a function that runs a line of the launcher."""
    top, there = tmp_path / "machine", tmp_path / "a plugin"
    (there / ".claude-plugin").mkdir(parents=True)
    for name in ("bin", "lib"):
        shutil.copytree(os.path.join(ROOT, name), there / name,
                        ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("ask", "memory-files"):
        shutil.copy(os.path.join(PLUGIN, name), there / ".claude-plugin")
    (there / ".claude-plugin/run").write_text(re.sub(
        r"(?<=[ \n])(?=/(usr|opt|c)/)", str(top), read("run")))

    def make(programs, shell="sh"):
        for name, script in programs.items():
            path = top / (name.lstrip("/") if "/" in name else f"path/{name}")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(script)
            path.chmod(0o755)
        env = {"PATH": str(top / "path"), "HOME": str(top / "home"), "LC_ALL": "C",
               "LOCALAPPDATA": str(top / "local data")}

        def run(*words, **more):
            return subprocess.run([*map(shutil.which, shell.split()[:1]), *shell.split()[1:],
                                   str(there / ".claude-plugin/run"), *words], text=True,
                                  env={**env, **more}, capture_output=True, stdin=-3)
        return run
    return make


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("programs", [
    {"/usr/bin/python3": GOOD},
    {"python3": GOOD},
    {"python": GOOD},
    {"python3": STORE, "python": GOOD},
    {"python3": STORE, "python": STORE, "py": LAUNCHER},
    {"/usr/bin/python3": OLD, "python3": OLD, "/usr/local/bin/python3": GOOD},
    {"/usr/bin/python3": OLD, "/opt/homebrew/bin/python3": GOOD},
    {"/usr/bin/python3": OLD, "/usr/bin/python3.11": GOOD},
    {"home/.local/bin/python3.12": GOOD},
    {"home/.pyenv/versions/3.13.1/bin/python3": GOOD},
    {"local data/Programs/Python/Python312/python.exe": GOOD},
    {"/c/Windows/py": LAUNCHER},
], ids=lambda programs: " ".join(programs))
@pytest.mark.few(4)
def test_a_python_is_found(machine, programs, shell):
    done = machine(programs, shell)("csb-hook", "--version")
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("csb-hook ")


def test_apples_python_is_asked_only_with_the_developer_tools(machine):
    """Without them it opens a window."""
    asked = "#!/bin/sh\necho ASKED >&2\nexit 1\n"
    programs = {"/usr/bin/python3": asked, "python": GOOD, "/usr/bin/xcode-select": OLD}
    run = machine(programs)
    assert run("csb-hook", "--version").stdout.startswith("csb-hook ")
    assert 'if [ "$1" = ' in read("run") and "/usr/bin/xcode-select -p" in read("run")
    found = machine({"/usr/bin/python3": GOOD, "/usr/bin/xcode-select": "#!/bin/sh\nexit 0\n"})
    assert found("csb-hook", "--version").returncode == 0


@pytest.mark.parametrize("words, programs, reason", [
    (["csb-hook"], {}, "cannot find a Python 3.10 or later"),
    (["csb-hook"], {"python3": OLD, "python": STORE, "py": STORE}, "cannot find a Python"),
    (["csb-nothing"], {"python3": GOOD}, "cannot find 'csb-nothing'"),
    (["../lib/launch.py"], {"python3": GOOD}, "is no name of a tool"),
    ([""], {"python3": GOOD}, "is no name of a tool"),
    ([], {"python3": GOOD}, "the name of a tool is missing"),
    (["csb-hook", "--wrong"], {"python3": GOOD}, "--wrong"),
])
def test_what_is_missing_is_one_line_and_never_status_2(machine, words, programs, reason):
    done = machine(programs)(*words)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and reason in done.stderr


def test_an_interpreter_can_be_named(machine, tmp_path):
    run = machine({"home/mine": GOOD, "python3": OLD})
    named = {"CSB_PYTHON": str(tmp_path / "machine/home/mine")}
    assert run("csb-hook", "--version", **named).returncode == 0
    assert run("csb-hook", "--version", CSB_PYTHON="/nowhere").returncode == 1


@pytest.mark.parametrize("payload", [
    "", "garbage", "[]", "{}", '{"hook_event_name":"SessionEnd"}',
    f'{{"hook_event_name":"PreCompact","session_id":"{SESSION}"}}'],
    ids=["empty", "garbage", "list", "object", "end", "compact"])
@pytest.mark.few(2)
def test_the_hook_prints_nothing(sh, home, payload):
    (home.claude / "projects/-p").mkdir(parents=True)
    (home.claude / f"projects/-p/{SESSION}.jsonl").write_text('{"type":"user"}\n')
    (home.claude / "settings.json").write_text('{"enabledPlugins": {"csb@csb-tools": true}}')
    line = f"sh '{PLUGIN}/run' csb-hook --foreground"
    done = sh(line, stdin=payload.encode())
    assert (done.rc, done.out) == (0, ""), done
    assert sh("csb-status").rc == 0


def memory(sh, home, cwd, **env):
    """The memory files that are found from a directory, without the Claude directory's path."""
    done = sh(f"sh '{PLUGIN}/run' memory-files", cwd=cwd, **env).ok()
    return [os.path.relpath(path, home.claude / "projects") for path in done.out.splitlines()]


@pytest.mark.parametrize("name", ["plain", "a b.c_d", "\u00e9t\u00e9", "\U0001f600", "[a]*"])
@pytest.mark.few(2)
def test_the_memory_files_of_a_project_are_found(sh, home, name):
    """From its top, from a subdirectory, in a linked worktree; never those of another project."""
    top = home.path / "code" / name
    (top / "sub/deeper").mkdir(parents=True)
    slug = "".join(c if c.isascii() and c.isalnum() else "-" * (1 + (ord(c) > 0xffff))
                   for c in os.path.realpath(top))
    for folder in (slug, slug + "-other"):
        (home.claude / "projects" / folder / "memory").mkdir(parents=True)
        (home.claude / "projects" / folder / "memory/MEMORY.md").write_text("- a fact\n")
    there = [f"{slug}/memory/MEMORY.md"]
    assert memory(sh, home, top) == there
    assert memory(sh, home, top / "sub") == []
    git = "git -c user.name=a -c user.email=a@b"
    sh(f"git init -q . && {git} commit -q --allow-empty -m x && {git} worktree add -q ../tree",
       cwd=top)
    assert memory(sh, home, top / "sub/deeper") == there
    assert memory(sh, home, home.path / "code/tree") == there
    assert memory(sh, home, "/", CLAUDE_PROJECT_DIR=str(top / "sub")) == there


@pytest.mark.parametrize("words, text", [
    ("status", "Everything is backed up"), ("search wombats", "the word is wombats"),
    ("search \"don't\"", "status 1"), ("log 3f4a", "the word is wombats"), ("log ffff", "status 3"),
    ("snapshot", "no memory files"), ("", "ask status, search"), ("rm", "ask status, search"),
])
@pytest.mark.few(3)
def test_what_is_asked_is_answered_on_stdout(sh, home, words, text):
    """The client shows nothing of a command that failed."""
    (home.claude / "projects/-p").mkdir(parents=True)
    (home.claude / f"projects/-p/{SESSION}.jsonl").write_text(json.dumps(
        {"type": "user", "timestamp": "2026-11-01T00:00:00.000Z",
         "message": {"role": "user", "content": "the word is wombats"}}) + "\n")
    done = sh(f"sh '{PLUGIN}/ask' {words}").ok()
    assert text in done.out


def test_a_snapshot_is_verified_or_says_what_is_missing(sh, home):
    folder = home.path / "code"
    folder.mkdir()
    slug = re.sub("[^A-Za-z0-9]", "-", os.path.realpath(folder))
    (home.claude / "projects" / slug / "memory").mkdir(parents=True)
    (home.claude / "projects" / slug / "memory/MEMORY.md").write_text("- a fact\n")
    done = sh(f"sh '{PLUGIN}/ask' snapshot", cwd=folder).ok()
    assert "git repository" in done.out and "verified" not in done.out
    sh("git init -q .", cwd=folder).ok()
    done = sh(f"sh '{PLUGIN}/ask' snapshot", cwd=folder).ok()
    assert "All of it was verified." in done.out
    [copy] = (folder / "backup/sessions").iterdir()
    assert copy.read_text() == "- a fact\n"
