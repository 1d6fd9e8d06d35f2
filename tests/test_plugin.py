"""the plugin of Claude Code: what it is made of, and its launcher on any machine

Nothing here needs Claude Code: tests/real_client does (make test-client).
"""
import json
import os
import re
import shutil
import subprocess

import pytest
from conftest import FORM, PYTHON, ROOT, line

if FORM == "dist":
    pytest.skip("the plugin runs bin/", allow_module_level=True)

PLUGIN = os.path.join(ROOT, ".claude-plugin")
COMMANDS = ["csb-search", "csb-status", "snapshot"]
SHELLS = [shell for shell in ("dash", "bash", "busybox sh")
          if shutil.which(shell.split()[0])]
SESSION = "3f4a9b2c-2222-4333-8444-555555555555"
GOOD = f'#!/bin/sh\nexec {PYTHON} "$@"\n'
OLD = "#!/bin/sh\nexit 1\n"
# What Windows has where Python is not installed, and its launcher where it is.
STORE = """#!/bin/sh
echo 'Python was not found; run without arguments to install' >&2
exit 49
"""
LAUNCHER = f'#!/bin/sh\n[ "$1" = -3 ] || exit 2\nshift\nexec {PYTHON} "$@"\n'
RUN = 'sh "${CLAUDE_PLUGIN_ROOT}/.claude-plugin/run" csb-hook'


def read(name):
    """A file of the plugin as text."""
    with open(os.path.join(PLUGIN, name), encoding="utf-8", newline="") as file:
        return file.read()


def files():
    """The names of all files of the plugin."""
    found = []
    for folder, _, names in os.walk(PLUGIN):
        for name in names:
            found.append(os.path.relpath(os.path.join(folder, name), PLUGIN))
    return sorted(found)


def slug(folder):
    """The name of its project: Claude Code counts in UTF-16."""
    path = re.sub("[\U00010000-\U0010ffff]", "--", os.path.realpath(folder))
    return re.sub("[^A-Za-z0-9]", "-", path)


def test_the_manifests_agree_with_the_tools():
    plugin = json.loads(read("plugin.json"))
    market = json.loads(read("marketplace.json"))
    assert (plugin["name"], market["name"]) == ("csb", "csb-tools")
    assert market["owner"]["name"] and market["description"]
    [listed] = market["plugins"]
    assert (listed["name"], listed["source"]) == ("csb", "./")
    with open(os.path.join(ROOT, "lib/csb/__init__.py"), encoding="utf-8") as file:
        version = re.search('^VERSION = "(.*)"', file.read(), re.M)[1]
    assert plugin["version"] == version
    for key in ("hooks", "commands"):
        assert os.path.exists(os.path.join(ROOT, plugin[key]))


def test_the_hooks_do_not_make_the_client_wait():
    """A plugin's hook has 1.5 seconds at the end of a session, unless it is async. The
    one at the start may have something to say, the one before a compaction is to be
    waited for."""
    hooks = json.loads(read("hooks.json"))["hooks"]
    assert sorted(hooks) == ["PreCompact", "SessionEnd", "SessionStart"]
    for event, [group] in hooks.items():
        [hook] = group["hooks"]
        assert (hook["type"], hook["command"]) == ("command", RUN)
        assert hook.get("async", False) == (event == "SessionEnd")
    [start] = hooks["SessionStart"]
    assert start.get("matcher") not in (None, "", "compact")


def test_nothing_is_bound_to_a_machine():
    """No Node, no path of somebody's, no line that Windows would end otherwise."""
    for name in files():
        text = read(name)
        if name.endswith(".json"):
            text = json.dumps(json.loads(text))
        for word in ("\r", "node", "/home/"):
            assert word not in text, name
    assert read(".gitattributes").endswith("\n* text eol=lf\n")
    for name in ("ask", "memory-files", "run"):
        assert os.access(os.path.join(PLUGIN, name), os.X_OK)


def allows(rule, command):
    """Does a rule of allowed-tools cover a command?"""
    if rule.endswith(":*"):
        return command.startswith(rule[:-2] + " ")
    return command == rule


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_may_run_what_it_runs(name):
    """Without its line in allowed-tools Claude Code would ask, or refuse."""
    _, head, text = read(f"commands/{name}.md").split("---\n")
    fields = dict(field.split(": ", 1) for field in head.splitlines())
    assert fields["name"] == name and fields["description"]
    rules = re.findall(r"Bash\((.*?)\)", fields["allowed-tools"])
    commands = re.findall(r"^(?:!`|    )(sh .*?)`?$", text, re.M)
    assert commands
    for command in commands:
        assert any(allows(rule, command) for rule in rules), command
    there = [one for one in files() if one.startswith("commands/")]
    assert there == [f"commands/{one}.md" for one in COMMANDS]


@pytest.fixture
def machine(tmp_path):
    """A function: a copy of the plugin that sees this machine's programs only: {path:
    script}, a path with a / is one of the usual places. -> a function that runs a line
    of the launcher."""
    top = tmp_path / "machine"
    copy = tmp_path / "a plugin"
    launcher = copy / ".claude-plugin/run"
    launcher.parent.mkdir(parents=True)
    leave_out = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("bin", "lib"):
        shutil.copytree(os.path.join(ROOT, name), copy / name, ignore=leave_out)
    for name in ("ask", "memory-files"):
        shutil.copy(os.path.join(PLUGIN, name), launcher.parent)
    usual = r"(?<=[ \n])(?=/(usr|opt|c)/)"
    launcher.write_text(re.sub(usual, str(top), read("run")))

    def make(programs, shell="sh"):
        for name, script in programs.items():
            path = top / "path" / name
            if "/" in name:
                path = top / name.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(script)
            path.chmod(0o755)
        env = {"PATH": str(top / "path"), "HOME": str(top / "home"), "LC_ALL": "C",
               "LOCALAPPDATA": str(top / "local data")}
        program, *options = shell.split()
        start = [shutil.which(program), *options, str(launcher)]

        def run(*words, **more):
            return subprocess.run(
                [*start, *words], env={**env, **more}, text=True, capture_output=True,
                stdin=subprocess.DEVNULL)
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
], ids=" ".join)
@pytest.mark.few(4)
def test_a_python_is_found(machine, programs, shell):
    done = machine(programs, shell)("csb-hook", "--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("csb-hook ")


def test_apples_python_is_asked_only_with_the_developer_tools(machine):
    """Without them it opens a window."""
    asked = "#!/bin/sh\necho ASKED >&2\nexit 1\n"
    run = machine({
        "/usr/bin/python3": asked, "python": GOOD, "/usr/bin/xcode-select": OLD})
    assert run("csb-hook", "--version").stdout.startswith("csb-hook ")
    assert 'if [ "$1" = ' in read("run")
    assert "/usr/bin/xcode-select -p" in read("run")
    there = "#!/bin/sh\nexit 0\n"
    run = machine({"/usr/bin/python3": GOOD, "/usr/bin/xcode-select": there})
    assert run("csb-hook", "--version").returncode == 0


@pytest.mark.parametrize("words, programs, reason", [
    (["csb-hook"], {}, "cannot find a Python 3.10 or later"),
    (["csb-hook"], {"python3": OLD, "python": STORE, "py": STORE},
     "cannot find a Python"),
    (["csb-nothing"], {"python3": GOOD}, "cannot find 'csb-nothing'"),
    (["../lib/launch.py"], {"python3": GOOD}, "is no name of a tool"),
    ([""], {"python3": GOOD}, "is no name of a tool"),
    ([], {"python3": GOOD}, "the name of a tool is missing"),
    (["csb-hook", "--wrong"], {"python3": GOOD}, "--wrong"),
])
def test_what_is_missing_is_one_line_and_never_status_2(
        machine, words, programs, reason):
    done = machine(programs)(*words)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert reason in done.stderr


def test_an_interpreter_can_be_named(machine, tmp_path):
    run = machine({"home/mine": GOOD, "python3": OLD})
    mine = str(tmp_path / "machine/home/mine")
    assert run("csb-hook", "--version", CSB_PYTHON=mine).returncode == 0
    assert run("csb-hook", "--version", CSB_PYTHON="/nowhere").returncode == 1


@pytest.mark.parametrize("payload", [
    "", "garbage", "[]", "{}", '{"hook_event_name":"SessionEnd"}',
    f'{{"hook_event_name":"PreCompact","session_id":"{SESSION}"}}'],
    ids=["empty", "garbage", "list", "object", "end", "compact"])
@pytest.mark.few(2)
def test_the_hook_prints_nothing(sh, put, payload):
    put(f"projects/-p/{SESSION}.jsonl", '{"type":"user"}\n')
    put("settings.json", '{"enabledPlugins": {"csb@csb-tools": true}}')
    done = sh(f"sh '{PLUGIN}/run' csb-hook --foreground", payload.encode())
    assert (done.rc, done.out) == (0, ""), done
    assert sh("csb-status").rc == 0


@pytest.mark.parametrize("name", [
    "plain", "a b.c_d", "\u00e9t\u00e9", "\U0001f600", "[a]*"])
@pytest.mark.few(2)
def test_the_memory_files_of_a_project_are_found(sh, home, put, name):
    """From its top, a subdirectory, a linked worktree; never another project's."""
    def found(folder, **env):
        done = sh(f"sh '{PLUGIN}/run' memory-files", cwd=folder, **env).ok()
        return done.out.splitlines()

    top = home.path / "code" / name
    (top / "sub/deeper").mkdir(parents=True)
    there = [str(put(f"projects/{slug(top)}/memory/MEMORY.md", "- a fact\n"))]
    put(f"projects/{slug(top)}-other/memory/MEMORY.md", "- a fact\n")
    assert found(top) == there
    assert found(top / "sub") == []
    commit = "git -c user.name=a -c user.email=a@b commit -q --allow-empty -m x"
    sh(f"git init -q . && {commit} && git worktree add -q ../tree", cwd=top)
    assert found(top / "sub/deeper") == there
    assert found(home.path / "code/tree") == there
    assert found("/", CLAUDE_PROJECT_DIR=str(top / "sub")) == there


@pytest.mark.parametrize("words, text", [
    ("status", "Everything is backed up"),
    ("search wombats", "the word is wombats"),
    ("search \"don't\"", "status 1"),
    ("log 3f4a", "the word is wombats"),
    ("log ffff", "status 3"),
    ("snapshot", "no memory files"),
    ("", "ask status, search"),
    ("rm", "ask status, search"),
])
@pytest.mark.few(3)
def test_what_is_asked_is_answered_on_stdout(sh, put, words, text):
    """Claude Code shows nothing of a command that failed."""
    put(f"projects/-p/{SESSION}.jsonl", line("the word is wombats"))
    assert text in sh(f"sh '{PLUGIN}/ask' {words}").ok().out


def test_a_snapshot_is_verified_or_says_what_is_missing(sh, home, put):
    def ask():
        return sh(f"sh '{PLUGIN}/ask' snapshot", cwd=folder).ok().out

    folder = home.path / "code"
    folder.mkdir()
    put(f"projects/{slug(folder)}/memory/MEMORY.md", "- a fact\n")
    out = ask()
    assert "git repository" in out and "verified" not in out
    sh("git init -q .", cwd=folder).ok()
    assert "All of it was verified." in ask()
    [copy] = (folder / "backup/sessions").iterdir()
    assert copy.read_text() == "- a fact\n"
