"""A tool that was copied: the one-file form, a tool with lib/ beside it, and one alone

Also what the forms rest on: which module imports which.
"""
import ast
import os
import re
import shutil
import subprocess
import sys

import pytest
import shifted
from conftest import FORM, PYTHON, ROOT, SAMPLE, START, TOOLS, name

# Those that may start other tools of ours: what they do alone is not their whole job.
STARTERS = {
    "csb",
    "csb-backup",
    "csb-hook",
    "csb-resume",
    "csb-schedule",
    "csb-setup",
    "csb-status",
}

TRANSCRIPT = f"projects/-srv-app/{name(0)}.jsonl"
IN_CLAUDE = f"$HOME/.claude/{TRANSCRIPT}"
STORED = "csb-backup >/dev/null"
KEY = "sk-ant-api03-" + 8 * "AbCdEfGhIjKl" + "-xYzAA"

# The main job of a tool: what runs before, with all tools on PATH; its command; what it
# prints, as fields of one of its records or as a part of its output.
JOBS = {
    "csb-try": ("", "csb-try", {"kind": "try", "git": "git version"}),
    "csb-cat": ("", f"csb-cat {name(0)}", '"type"'),
    "csb-changes": ("", "csb-changes", {
        "kind": "change", "change": "new", "path": TRANSCRIPT}),
    "csb-find": ("", "csb-find", {"kind": "session", "session_id": name(0)}),
    "csb-fmt": ("csb-find >~/in", "csb-fmt <$HOME/in", f"  {name(0)}  "),
    "csb-gc": (STORED, "csb-gc --now", {"kind": "gc", "packs": 0}),
    "csb-gitcommit": ("csb-changes >~/in", "csb-gitcommit <$HOME/in", {
        "kind": "commit", "class": "noise", "ref": "refs/heads/main"}),
    "csb-history": (STORED, f"csb-history {name(0)}", {
        "kind": "version", "path": TRANSCRIPT, "change": "new"}),
    "csb-index": ("csb-find >~/in", "csb-index <$HOME/in", {
        "kind": "session", "session_id": name(0), "change": "new", "messages": 1}),
    "csb-config": ("", "csb-config", {"kind": "setting", "key": "interval"}),
    "csb-redact": (
        f"echo '{{\"key\":\"{KEY}\"}}' >>{IN_CLAUDE}", f"csb-redact {IN_CLAUDE}",
        '{"key":"[REDACTED:anthropic-key:'),
    "csb-remap": (
        """echo "{\\"cwd\\":\\"/a/b\\"}" >~/in""", "csb-remap /a=/c $HOME/in",
        '{"cwd":"/c/b"}'),
    "csb-html": (
        f"csb-log --json {name(0)} >~/in", "csb-html <$HOME/in", "<!DOCTYPE html>"),
    "csb-log": ("", f"csb-log {name(0)}", "question 0"),
    "csb-push": (f"{STORED} && git init -q --bare ~/remote", "csb-push ~/remote", {
        "kind": "push", "branch": "main"}),
    "csb-restore": (STORED, f"csb-restore --target-dir ~/there {name(0)}", {
        "kind": "file", "session_id": name(0), "result": "restored"}),
    "csb-list": (STORED, "csb-list", {"kind": "session", "session_id": name(0)}),
    "csb-scan": (STORED, "csb-scan /", {
        "kind": "session", "session_id": name(0)}),
    "csb-show": (STORED, f"csb-show {name(0)}", {
        "kind": "session", "session_id": name(0), "versions_total": 1}),
    "csb-tree": (STORED, "csb-tree --all", {
        "kind": "session", "session_id": name(0), "depth": 0}),
    "csb-search": ("", "csb-search -F question", {
        "kind": "hit", "session_id": name(0), "snippet": "question 0"}),
    "csb-verify": (STORED, "csb-verify", {
        "kind": "check", "path": TRANSCRIPT, "ok": True}),
    "session_snapshot": (
        "mkdir ~/kept",
        f"session_snapshot --source {IN_CLAUDE} --dest-dir ~/kept", {
            "kind": "snapshot"}),
    "jsonl_snapshot": (
        "mkdir ~/kept",
        f"jsonl_snapshot --source {IN_CLAUDE} --dest-dir ~/kept", {
            "kind": "snapshot"}),
}

# What git starts for a tool.
BY_GIT = {
    "csb-push": {"sh", "dash", "bash", "git-receive-pack", "git-upload-pack"},
}

each = pytest.mark.parametrize("tool", ["csb-try", *TOOLS])
each_job = pytest.mark.parametrize(
    "tool", ["csb-try", *(tool for tool in TOOLS if tool in JOBS)])
each_form = pytest.mark.parametrize("form", ["dist", "bin"])
logic = pytest.mark.logic
of_the_form = pytest.mark.skipif(FORM == "bin", reason="tried on dist/, as it was made")


@logic
def test_every_tool_is_tried():
    assert set(TOOLS) - STARTERS <= set(JOBS)


@pytest.fixture
def copied(house, tmp_path, tools):
    """copied(tool, form): copy a tool to a directory where nothing else is; that one.

    dist: its one-file form. bin: its file in bin/, with lib/ beside it. alone: just
    that file. A link to the tool lies there, too, and PATH has no other tool of ours.
    """
    def make(tool, form):
        there = tmp_path / "there"
        there.mkdir()
        source = house / "bin" / tool
        if tool != "csb-try":
            shutil.copy(os.path.join(ROOT, "bin", tool), source)
        if form == FORM == "dist" and tool != "csb-try":
            shutil.copy(os.path.join(tools.bin, tool), there)
        elif form == "dist":
            with open(there / tool, "wb") as file:
                command = [PYTHON, "-B", "lib/build/squash", f"bin/{tool}"]
                subprocess.run(command, cwd=house, stdout=file, check=True)
        else:
            shutil.copy(source, there)
        if form == "bin":
            shutil.copytree(house / "lib", there / "lib")
        (there / tool).chmod(0o755)
        (there / "link").symlink_to(there / tool)
        return there
    return make


@pytest.fixture
def alone(sh, tools, home):
    """alone(line, there): run a line in an environment that has next to nothing."""
    path = home.env["PATH"].removeprefix(tools.bin + ":")

    def run(line, there, **more):
        clean = {"PATH": path, "HOME": home.path, "GIT_CONFIG_SYSTEM": os.devnull,
                 **shifted.environment()}
        words = " ".join(f"'{key}={value}'" for key, value in {**clean, **more}.items())
        return sh(f"exec env -i {words} bash -c '{line}'", cwd=there)
    return run


def has_printed(done, expected):
    """Did it succeed, and print what is in JOBS?"""
    done.ok()
    if isinstance(expected, str):
        return expected in done.out
    for record in done.records:
        if expected.items() <= record.items():
            return True
    return False


TRAPS = """
abc argparse ast binascii collections contextlib copy csb datetime errno fcntl
fnmatch functools gettext git glob gzip hashlib heapq html json locale old operator
queue random re secrets selectors shutil signal sqlite3 stat string struct
subprocess tempfile textwrap threading time traceback types unicodedata warnings
zlib
""".split()


def set_traps(folder, names):
    """Modules in a folder that end whoever imports them."""
    folder.mkdir(exist_ok=True)
    for module in names:
        text = f"raise SystemExit('{module}.py was imported')\n"
        (folder / f"{module}.py").write_text(text)
    (folder / "csb").mkdir()
    shutil.move(folder / "csb.py", folder / "csb/__init__.py")


@pytest.fixture
def among_traps(copied, alone, tmp_path):
    """among_traps(tool, form): as copied(), with a json.py or csb/ of somebody's beside
    the tool, and packages on PYTHONPATH that are called as ours; and that path."""
    def make(tool, form):
        there = copied(tool, form)
        set_traps(there, TRAPS)
        modules = [file.removesuffix(".py") for file in os.listdir(f"{ROOT}/lib/csb")]
        strangers = set(modules) - {"__init__", "__pycache__"}
        strangers |= {"csb", "git", "secrets"}
        set_traps(tmp_path / "site", strangers)
        return there, str(tmp_path / "site")
    return make


@logic
def test_the_traps_are_ones(among_traps, alone):
    there, path = among_traps("csb-try", "bin")
    line = 'python3 -c "import json"; cd /; python3 -c "import csb"'
    done = alone(line, there, PYTHONPATH=path)
    assert done.err == "json.py was imported\ncsb.py was imported\n"


@logic
@each_job
@pytest.mark.few(8)
def test_a_copy_beside_its_library_does_its_job(sh, claude, among_traps, alone, tool):
    """Alone in a directory, with lib/, git and Python and nothing else of ours.

    "python3 TOOL" is the start that looks for modules beside the tool.
    """
    before, line, expected = JOBS[tool]
    there, path = among_traps(tool, "bin")
    sh(before or "true").ok()
    done = alone(line.replace(tool, f"python3 {tool}", 1), there, PYTHONPATH=path)
    assert has_printed(done, expected), done


@of_the_form
@each_job
def test_one_file_does_its_job_and_starts_nothing_but_git(
        sh, claude, among_traps, alone, tmp_path, tool):
    strace = shutil.which("strace")
    if strace and subprocess.run([strace, "-o", os.devnull, "true"]).returncode != 0:
        strace = None
    before, line, expected = JOBS[tool]
    there, path = among_traps(tool, "dist")
    sh(before or "true").ok()
    log = tmp_path / "log"
    words = f"exec {strace} -f -qq -e trace=execve -o {log} " if strace else ""
    line = words + line.replace(tool, f"python3 {tool}", 1)
    done = alone(line, there, PYTHONPATH=path)
    assert has_printed(done, expected), done

    if not strace:
        pytest.skip("its job is done; no strace can tell what it started")
    text = log.read_text(errors="replace")
    started = re.findall(r'execve\("([^"]+)".*(?:\) = 0|<unfinished)', text)
    names = {os.path.basename(path) for path in started}
    assert "python3" in names
    assert names <= {"python3", "git"} | BY_GIT.get(tool, set()), names


@logic
@pytest.mark.parametrize("tool", ["csb-try", "csb-list"])
@each_form
def test_a_copy_can_be_started_in_any_way(among_traps, alone, tool, form):
    """The lines that every tool begins with decide it: see below."""
    starts = ["./{}", "python3 {}", "python3 ./{}", "python3 $PWD/{}", "$PWD/link"]
    there, path = among_traps(tool, form)
    line = "; ".join(f"{start.format(tool)} --version" for start in starts)
    said = alone(line, there, PYTHONPATH=path).ok().out.splitlines()
    assert [text.split()[0] for text in said] == [tool] * 4 + ["link"]


@logic
@pytest.mark.parametrize("tool", ["csb-try", "csb"])
def test_a_tool_without_its_library(copied, alone, tool):
    """Copied out of bin/ it says how to make the form that can be."""
    there = copied(tool, "alone")
    done = alone(f"./{tool} --version", there)
    assert (done.rc, done.out) == (1, "")
    assert done.err == (f"{tool}: cannot find lib/csb: lib/build/squash bin/{tool} "
                        "makes one file of both\n")
    if tool != "csb":           # a package cannot lie where the tool itself does
        set_traps(there, ["csb"])
    assert alone(f"python3 {tool} --version", there).err == done.err


# --- which module imports which -------------------------------------------------------


def imports_of(path):
    """The modules that a Python file imports, inside of functions, too."""
    found = set()
    with open(path, encoding="utf-8") as file:
        tree = ast.parse(file.read())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            found.add("." * node.level + (node.module or ""))
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
    return found


def is_ours(module):
    return module.split(".")[0] == "csb"


MODULES = {}
for file_name in sorted(os.listdir(os.path.join(ROOT, "lib/csb"))):
    if file_name.endswith(".py"):
        stem = file_name.removesuffix(".py")
        module_name = "csb" if stem == "__init__" else f"csb.{stem}"
        MODULES[module_name] = imports_of(os.path.join(ROOT, "lib/csb", file_name))
USERS = {tool: imports_of(os.path.join(ROOT, "bin", tool)) for tool in TOOLS}


@logic
def test_imports_go_down():
    """csb imports none of ours, nothing imports a tool, and there is no circle."""
    assert not any(map(is_ours, MODULES["csb"]))
    below = {}
    rest = dict(MODULES)
    while rest:
        free = [module for module, wanted in rest.items()
                if set(filter(is_ours, wanted)) <= set(below)]
        assert free, f"these import each other: {sorted(rest)}"
        for module in free:
            below[module] = rest.pop(module)


@logic
def test_nothing_but_python_and_the_package_is_imported():
    for user, wanted in {**MODULES, **USERS}.items():
        for module in wanted:
            known = module.split(".")[0] in sys.stdlib_module_names
            assert known or module in MODULES, (user, module)


@logic
def test_every_tool_is_written_with_the_helper():
    for tool in TOOLS:
        assert "csb" in USERS[tool], tool


@logic
@pytest.mark.parametrize("module", sorted(set(MODULES) - {"csb"}))
def test_every_module_has_two_users(module):
    """What one tool needs stays in that tool."""
    users = {user for user, wanted in {**MODULES, **USERS}.items() if module in wanted}
    assert len(users) >= 2, (module, users)


@logic
@each
def test_every_tool_begins_in_the_same_way(tool):
    """A line for the system, the manual, and how the package is found."""
    text = SAMPLE
    if tool != "csb-try":
        with open(os.path.join(ROOT, "bin", tool), encoding="utf-8") as file:
            text = file.read()
    assert text.startswith('#!/usr/bin/env -S python3 -IS\n"""')
    wanted = [ast.dump(node) for node in ast.parse(START.replace("TOOL", tool)).body]
    found = [ast.dump(node) for node in ast.parse(text).body[1:]]
    assert found[:len(wanted)] == wanted


@logic
@each
def test_every_tool_keeps_to_the_width(tool):
    if tool == "csb-try":
        pytest.skip("it is a sample of the tests' own")
    with open(os.path.join(ROOT, "bin", tool), encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            assert len(line.rstrip("\n")) <= 88, f"bin/{tool}:{number}"
