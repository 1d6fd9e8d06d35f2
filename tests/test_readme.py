"""what README says is so"""
import ast
import functools
import json
import os
import re
import shutil
import time

import pytest
from conftest import ROOT, on_terminal

with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as file:
    README = file.read()
SECTIONS = {part.split("\n")[0]: part for part in README.split("\n## ")[1:]}
SAMPLES = re.findall(r"(?ms)^```console\n(.*?)^```", README)
SCRIPTS = [text.splitlines() for text in re.findall(r"(?ms)^```sh\n(.*?)^```", README)]
ENCRYPTED = [lines for lines in SCRIPTS if " age " in lines[0]]
LINES = sum((lines for lines in SCRIPTS if lines not in ENCRYPTED), [])

# The sessions of README's samples: id, title, folder, hours ago, hours,
# prompts, what was said.
UPLOADER = "9f26971d-3c1e-4b52-9a77-0d5f1c6e8a21"
REPORT = "545b45d4-9e8d-4c7b-a6f5-4e3d2c1b0a99"
TALKS = [
    (
        UPLOADER,
        "Fix the flaky retry test in the uploader",
        "uploader",
        1.4,
        2.1,
        73,
        [
            "The uploader's retry test fails one time in ten. Why?",
            "The test waits for the wall clock.",
        ],
    ),
    (
        "3ae3ab59-1d2c-4e8b-b6a4-7c9d0e1f2a33",
        "Plan the harbour",
        "harbour",
        75.5,
        0.9,
        116,
        [
            "How shall the harbour tell that a container has died?",
            "A health check every ten seconds; a retry here would hide the real fault.",
        ],
    ),
    (
        REPORT,
        "Add a --json option to the report",
        "report",
        12 * 24,
        1.1,
        44,
        ["Add a --json option to the report.", "Added, with a test for each field."],
    ),
]
HOOK = [{"hooks": [{"type": "command", "command": "csb-hook"}]}]

# What need not be there, and does here what is asked of it:
# the first line is picked, and the other machine is this one.
OTHERS = {"fzf": "sed -n 1p", "ssh": 'shift && exec "$@"', "claude": 'echo "$*"'}


def talk(session_id, title, cwd, start, hours, prompts, said):
    """The lines of a session's transcript: what was said,
    and small talk up to its length."""
    lines = [{"type": "custom-title", "customTitle": title, "sessionId": session_id}]
    count = 2 * prompts
    for number in range(count):
        role = ("user", "assistant")[number % 2]
        text = (said + ["Go on.", "Done."] * prompts)[number]
        at = start + hours * 3600 * number / (count - 1)
        lines.append(
            {
                "type": role,
                "sessionId": session_id,
                "cwd": cwd,
                "uuid": f"{session_id}-{number}",
                "timestamp": time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(at)),
                "message": {"role": role, "content": text},
            }
        )
    return "".join(json.dumps(line) + "\n" for line in lines)


def live(sh, home):
    """A home with the sessions of the samples, backed up and with hooks."""
    for session_id, title, name, ago, hours, prompts, said in TALKS:
        cwd = home.path / "code" / name
        cwd.mkdir(parents=True)
        project = home.claude / "projects" / re.sub("[^a-zA-Z0-9]", "-", str(cwd))
        project.mkdir(parents=True)
        end = time.time() - ago * 3600
        path = project / f"{session_id}.jsonl"
        path.write_text(
            talk(session_id, title, str(cwd), end - hours * 3600, hours, prompts, said)
        )
        os.utime(path, (end, end))
    (home.claude / "settings.json").write_text(json.dumps(
        {"hooks": {"SessionStart": HOOK, "PreCompact": HOOK, "SessionEnd": HOOK}}))
    skill = home.claude / "skills/review/SKILL.md"
    skill.parent.mkdir(parents=True)
    skill.write_text("Read it twice.\n")
    sh("csb-backup").ok()


def live_on(sh, home):
    """The same later: one session has gone on, one is gone, CLAUDE.md is new."""
    live(sh, home)
    transcript, = home.claude.glob(f"projects/*/{UPLOADER}.jsonl")
    with open(transcript, "a") as file:
        file.write('{"type":"user","message":{"role":"user","content":"And now?"}}\n')
    report, = home.claude.glob(f"projects/*/{REPORT}.jsonl")
    report.unlink()
    sh("csb-backup").ok()
    (home.claude / "CLAUDE.md").write_text("Be brief.\n")


def in_the_usual_places(home):
    """The home, as for people who have set no variables."""
    for variable in "CSB_HOME", "CLAUDE_CONFIG_DIR":
        del home.env[variable]
    return home


@pytest.fixture
def lived_in(home, once):
    once(live)
    return in_the_usual_places(home)


@pytest.fixture
def lived_on(home, once):
    once(live_on)
    return in_the_usual_places(home)


# What differs from day to day, and what stands for it.
CHANGING = [
    (r"^csb \w+: reading what is new \.\.\.\n", ""),  # where a second has passed
    (r"\b(today|yesterday|\d+ [A-Z][a-z]{2})( \d+:\d+| \d{4})?(?= |,|\.|$)", "DAY"),
    (r"\b\d+:\d+\b", "DAY"),
    (r"\bin \d+\.\d s\b", "in N s"),
    (r"\d+(\.\d+)? (bytes|KB|MB)", "N KB"),
    ("[\u2581-\u2588\u00b7]{9,}", "GRAPH"),
    (" +", " "),
]


def lasting(text):
    """A screen without what is another one tomorrow."""
    for pattern, word in CHANGING:
        text = re.sub(pattern, word, text, flags=re.M)
    return text.strip()


def test_the_samples_are_what_the_tools_print(sh, lived_in):
    """On a terminal of 80 columns; times and sizes may differ."""
    assert len(SAMPLES) == 2
    samples = re.findall(r"(?ms)^\$ (.*?)\n(.*?)(?=^\$ |\Z)", "".join(SAMPLES))
    for command, shown in samples:
        out = on_terminal(
            sh,
            lived_in,
            command,
            setup="stty cols 80 rows 45",
            PAGER="cat",
            LC_ALL="C.UTF-8",
            NO_COLOR="1",
        )
        if os.environ.get("CSB_SHOW"):
            print(f"$ {command}\n{out}")
            continue
        assert lasting(out) == lasting(shown), out


@pytest.mark.logic
def test_there_are_lines_to_run():
    assert len(LINES) > 25


@pytest.mark.parametrize("line", LINES)
@pytest.mark.logic
def test_every_line_runs_as_printed(lived_on, sh, line, tmp_path):
    home = lived_on
    (tmp_path / "others").mkdir()
    for name, script in OTHERS.items():
        (tmp_path / "others" / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "others" / name).chmod(0o755)
    home.env["PATH"] = f"{tmp_path}/others:" + home.env["PATH"]
    for program in re.findall(r"(?:^|\| )([\w-]+)", line.split("#")[0]):
        if "csb" not in program and not shutil.which(program, path=home.env["PATH"]):
            pytest.skip(f"{program} is not installed")
    if "/media/disk" in line:
        sh("git init -q --bare disk.git; csb-push --allow-secrets disk.git").ok()
    for place, here in (
        ("/tmp/look", "look"),
        ("/mnt/nas", "nas"),
        ("/media/disk/csb.git", "disk.git"),
    ):
        line = line.replace(place, str(home.path / here))
    line = line.replace("2026-11-20T18:00", time.strftime("%Y-%m-%dT%H:%M", time.gmtime(
        time.time() + 3600)))
    done = sh(line)
    # status: no timer is there, and CLAUDE.md is new. diff: there is a difference.
    looks = line.startswith(("csb status", "csb-status", "diff"))
    assert done.rc == (1 if looks else 0), done
    assert done.out or re.search(">page.html|^csb config", line), "it printed nothing"


@pytest.mark.long
@pytest.mark.parametrize("program", ["age", "git-remote-gcrypt"])
def test_encrypted_copies_come_back(lived_in, sh, program, tmp_path):
    """Its two lines, the second with nothing at hand but the key and what the
    first has made."""
    if not all(map(shutil.which, (program, "ssh-keygen", "gpg"))):
        pytest.skip(f"{program}, ssh-keygen or gpg is not installed")
    path = os.environ["PATH"].replace(ROOT, "")
    lived_in.env["PATH"] = f"{path}:{lived_in.env['PATH']}"
    (lines,) = ENCRYPTED
    there, back = lines[:2] if program == "age" else [
        line.replace("/media/disk", str(tmp_path)) for line in lines[2:]]
    lived_in.env["GNUPGHOME"] = str(tmp_path / "g")
    (tmp_path / "g").mkdir(mode=0o700)
    try:
        sh(f"mkdir .ssh; ssh-keygen -q -t ed25519 -N '' -f .ssh/id_ed25519; "
           f"gpg --batch --quiet --passphrase '' --quick-gen-key ann@example.org; "
           f"git init -q --bare {tmp_path}/crypt.git").ok()
        assert sh(there).rc == 0
        sent = sh("cat csb.age" if program == "age" else
                  f"git --git-dir {tmp_path}/crypt.git log -p --all --text").ok().out
        assert len(sent) > 2000 and "projects" not in sent and "git bundle" not in sent
        sh("rm -r .claude .claude-backup").ok()
        assert sh(back).rc == 0
        assert sh("csb restore --deleted --yes").rc == 0
        assert len(list(lived_in.claude.glob("projects/*/*.jsonl"))) == len(TALKS)
    finally:
        sh("gpgconf --kill gpg-agent")


def test_the_start_is_as_printed(sh, home, tools):
    """From the clone; make test and make install are targets,
    and .ci/run does the first."""
    (home.claude / "settings.json").write_text("{}\n")
    commands = [line.split("#")[0].strip() for line in
                re.findall(r"(?m)^    (\S.*)", SECTIONS["Start"])]
    assert commands == [
        "git clone ADDRESS-OF-THIS-REPOSITORY csb && cd csb", "bin/csb backup",
        "make install PREFIX=$HOME/.local", "csb setup"]
    sh(f"{tools.bin}/csb backup").ok()
    sh(f"{tools.bin}/csb setup --dry-run").ok()
    with open(os.path.join(ROOT, "Makefile"), encoding="utf-8") as file:
        targets = re.findall(r"(?m)^([a-z-]+):", file.read())
    assert {"test", "install", "demo", "soak", "bench", "dist"} <= set(targets)
    with open(os.path.join(ROOT, ".ci/run"), encoding="utf-8") as file:
        assert "make test" in file.read()


@pytest.mark.logic
def test_every_option_and_word_is_there(sh, tools):
    """What README writes as code and begins with csb names a program,
    and its own options."""
    help_of = {}
    ours = r"`((?:csb|session_snapshot|jsonl_snapshot)[ -]?[^`]*)`"
    for code in re.findall(ours, README):
        words = code.replace("\n", " ").split()
        tool = words[0]
        if tool == "csb" and len(words) > 1 and words[1] not in ("help", "NAME"):
            tool = words[1] if "_" in words[1] else f"csb-{words[1]}"
        if tool in ("csb", "csb-NAME", "csb@csb-tools", "csb/HOSTNAME", "csb/main"):
            continue
        if "." in tool:
            continue
        assert os.path.exists(os.path.join(tools.bin, tool)), code
        if tool not in help_of:
            help_of[tool] = sh(f"{tool} --help").ok().out
        told = help_of[tool]
        own = " ".join(words).split(" -- ")[0]
        for option in re.findall(r"(?<=\s)--?[a-zA-Z][\w-]*", own):
            if option not in ("--oneline", "--verbose", "--json", "-V"):
                assert option in told, code


@pytest.mark.logic
def test_it_can_be_read_in_five_minutes():
    lines = README.splitlines()
    assert 150 <= len(lines) <= 200
    assert max(map(len, lines)) <= 120
    assert not re.search("noise|husk|footprint|operand|the client", README)


PROOF = r"`(test_\w+\.py)::(test_\w+)`"


@functools.cache
def marks(file):
    """{name: the marks of that test, as text}, of a file in tests/."""
    with open(os.path.join(ROOT, "tests", file), encoding="utf-8") as code:
        body = ast.parse(code.read()).body
    common = ""
    found = {}
    for part in body:
        if isinstance(part, ast.Assign):
            if ast.unparse(part.targets[0]) == "pytestmark":
                common = ast.unparse(part.value)
        if isinstance(part, ast.FunctionDef):
            found[part.name] = " ".join(map(ast.unparse, part.decorator_list))
    return {name: f"{common} {own}" for name, own in found.items()}


@pytest.mark.logic
def test_make_test_proves_every_promise():
    """At least one of its tests is there without the mark long,
    if only for a few cases."""
    with open(os.path.join(ROOT, "tests/TRUST.md"), encoding="utf-8") as file:
        text = file.read().partition("## Limits")[0]
    for promise in re.split(r"^\*\*(?=\d+\. )", text, flags=re.M)[1:]:
        proofs = re.findall(PROOF, promise)
        quick = [name for file, name in proofs if "mark.long" not in marks(file)[name]]
        assert quick, promise.partition("\n")[0]


@pytest.mark.logic
def test_every_promise_names_tests_that_are_there():
    """TRUST.md is linked, and what it calls a proof exists."""
    with open(os.path.join(ROOT, "tests/TRUST.md"), encoding="utf-8") as file:
        text = file.read()
    for file, name in re.findall(PROOF, text):
        assert name in marks(file), f"{file} has no {name}"
    promises = re.split(r"^\*\*\d+\. ", text.partition("## Limits")[0], flags=re.M)[1:]
    assert len(promises) == 27
    assert all("Mechanism:" in one and "::" in one for one in promises)
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as file:
        assert "(tests/TRUST.md)" in file.read()
