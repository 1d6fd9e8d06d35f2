"""what README says is so"""
import ast
import os
import re
import shutil

import pytest
from conftest import ROOT

ID = "3f4a9b2c-2222-4333-8444-555555555555"
OLD = "99999999-2222-4333-8444-555555555555"

with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as file:
    README = file.read()
SECTIONS = {part.split("\n")[0]: part for part in README.split("\n## ")[1:]}
PIPELINES = re.search(r"```sh\n(.*?)```", SECTIONS["Ten pipelines"], re.S)[1].splitlines()
FINDING = re.search(r"```sh\n(.*?)```", SECTIONS["Find it again"], re.S)[1].splitlines()
RESUMING = re.search(r"```sh\n(.*?)```", SECTIONS["Go on with a session"], re.S)[1].splitlines()
# What need not be there, and does here what is asked of it: the first line is picked, the other
# machine is this one, and SQL gets the records.
OTHERS = {"fzf": "head -n 1", "ssh": 'shift && exec "$@"', "sqlite-utils": "cat | tee \"$2\"",
          "claude": 'echo "$*"'}
LINE = b'{"type":"user","cwd":"HOME/code/parser","timestamp":"2026-11-01T00:00:00.000Z",' \
       b'"message":{"role":"user","content":"fix the parser bug"}}\n'


def live(sh, home):
    """A home with a backup, a deleted session and one that has changed since."""
    line = LINE.replace(b"HOME", str(home.path).encode())
    folder = home.claude / "projects" / re.sub("[^a-zA-Z0-9]", "-", f"{home.path}/code/parser")
    folder.mkdir(parents=True)
    (home.path / "code/parser").mkdir(parents=True)
    for name in (ID, OLD):
        (folder / f"{name}.jsonl").write_bytes(line * 101)
    (home.claude / "settings.json").write_text('{"cleanupPeriodDays": 5}\n')
    sh("csb-backup").ok()
    (folder / f"{OLD}.jsonl").unlink()
    (folder / f"{ID}.jsonl").write_bytes(line * 102)
    sh("csb-backup").ok()
    (folder / f"{ID}.jsonl").write_bytes(line * 103)
    (home.claude / "settings.json").write_text('{"cleanupPeriodDays": 5, "a": 1}\n')


@pytest.fixture
def lived_in(home, once):
    """A home with a backup, a deleted session and one that has changed since."""
    once(live)
    return home


def test_there_are_ten():
    assert len(PIPELINES) == 10


@pytest.mark.parametrize("line", PIPELINES + FINDING + RESUMING)
@pytest.mark.logic
def test_every_pipeline_runs_as_printed(lived_in, sh, line, tmp_path):
    (tmp_path / "others").mkdir()
    for name, script in OTHERS.items():
        (tmp_path / "others" / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "others" / name).chmod(0o755)
    lived_in.env["PATH"] = f"{tmp_path}/others:" + lived_in.env["PATH"]
    for program in re.findall(r"(?:^|\| )([\w-]+)", line.split("#")[0]):
        if not program.startswith("csb") and not shutil.which(program, path=lived_in.env["PATH"]):
            pytest.skip(f"{program} is not installed")
    line = line.replace("/tmp/look", str(tmp_path / "look")).replace(
        "/mnt/nas", str(tmp_path / "nas"))
    done = sh(line).ok()
    assert done.out, "it printed nothing"


def test_every_tool_stands_in_the_table(tools):
    names = re.findall(r"^\| `([\w-]+)` \|", SECTIONS["Tools"], re.M)
    assert sorted(names) == sorted(name for name in os.listdir(tools.bin)
                                   if os.path.isfile(os.path.join(tools.bin, name)))
    assert names[:5] == ["session_snapshot", "jsonl_snapshot", "csb-index", "csb-gitcommit",
                         "csb-restore"]


def test_the_set_up_commands_work(sh, home, tools):
    (home.claude / "settings.json").write_text("{}\n")
    commands = re.findall(r"^    (\S.*?)\s+#", SECTIONS["Start"], re.M)
    assert commands == ["bin/csb backup", "make test"]
    sh(f"{tools.bin}/csb backup").ok()
    with open(os.path.join(ROOT, "Makefile"), encoding="utf-8") as file:
        assert re.search(r"^test:", file.read(), re.M)
    with open(os.path.join(ROOT, ".ci/run"), encoding="utf-8") as file:
        assert "make test" in file.read()


def test_the_records_have_the_fields_that_the_table_says(lived_in, sh):
    seen = {}
    sh(f"rm ~/.claude/projects/*/{ID}.jsonl; mkdir ~/.claude/projects/-q")
    for line in ("csb-changes | csb-gitcommit", "csb-changes", "csb-find | csb-index",
                 "csb-list --all", "csb-find --lost",
                 "csb-list --all | csb-restore --target-dir ~/out"):
        for record in sh(line).records:
            seen.setdefault(record["kind"], set()).update(record)
    table = dict(re.findall(r"^\| `(\w+)` \| .*? \| (.*) \|$", SECTIONS["Records"], re.M))
    for kind in ("change", "commit", "session", "end", "file"):
        documented = set(re.findall(r"\w+", table[kind])) | {"kind"}
        extra = {"session": {"oid", "empty"}, "end": {"empty"}}.get(kind, set())
        assert seen[kind] <= documented | extra, kind


PROOF = r"`(test_\w+\.py)::(test_\w+)`"


def marks(file):
    """{name: the marks of that test, as text}, of a file in tests/."""
    with open(os.path.join(ROOT, "tests", file), encoding="utf-8") as code:
        body = ast.parse(code.read()).body
    common = ""
    found = {}
    for part in body:
        if isinstance(part, ast.Assign) and ast.unparse(part.targets[0]) == "pytestmark":
            common = ast.unparse(part.value)
        if isinstance(part, ast.FunctionDef):
            found[part.name] = " ".join(map(ast.unparse, part.decorator_list))
    return {name: f"{common} {own}" for name, own in found.items()}


def test_make_test_proves_every_promise():
    """At least one of its tests is there without the mark long, if only for a few cases."""
    with open(os.path.join(ROOT, "tests/TRUST.md"), encoding="utf-8") as file:
        text = file.read().partition("## Limits")[0]
    for promise in re.split(r"^\*\*(?=\d+\. )", text, flags=re.M)[1:]:
        proofs = re.findall(PROOF, promise)
        quick = [name for file, name in proofs if "mark.long" not in marks(file)[name]]
        assert quick, promise.partition("\n")[0]


def test_every_promise_names_tests_that_are_there():
    """TRUST.md is linked, and what it calls a proof exists."""
    with open(os.path.join(ROOT, "tests/TRUST.md"), encoding="utf-8") as file:
        text = file.read()
    for file, name in re.findall(PROOF, text):
        assert name in marks(file), f"{file} has no {name}"
    promises = re.split(r"^\*\*\d+\. ", text.partition("## Limits")[0], flags=re.M)[1:]
    assert len(promises) == 27 and all("Mechanism:" in one and "::" in one for one in promises)
    with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as file:
        assert "(tests/TRUST.md)" in file.read()
