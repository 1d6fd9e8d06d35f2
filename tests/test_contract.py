"""every command line printed in the two documents that this project
implements, as printed"""
import json
import os
import re
import sys

import pytest
from conftest import OF_THIS_RUN, ROOT, SHARED

ID = OF_THIS_RUN
OLD = "99999999-2222-4333-8444-555555555555"
LATER = ("csb scan", "csb status", "csb show", "csb search", "csb resume", "csb config")
LINE = b'{"type":"user","cwd":"/w/keyword","timestamp":"2026-11-01T00:00:00.000Z",' \
       b'"message":{"role":"user","content":"a prompt"}}\n'


def lines(name, pattern):
    """The lines of one document that match, without their comments."""
    path = os.path.join(SHARED, "contract", name)
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as file:
        found = [line.split("#")[0].strip() for line in file if re.match(pattern, line)]
    return list(dict.fromkeys(found))


CSB = [
    line
    for line in lines("csb-0.2.1.txt", r"csb [a-z]")
    if not line.startswith(LATER)
    and re.match(r"csb (backup|list|restore|rebuild-index)( |$)", line)
    and not re.search(r" preserves | \w+ \w+ \w+ \w+", line)
]
SNAPSHOT = [
    line
    for line in lines("jsonl_snapshot.txt", r"(jsonl_snapshot|python -m) .*--")
    if "|" not in line
]


def spelled(line):
    """The lines that a printed one with [optional] parts and {a|b}
    choices stands for."""
    if choice := re.search(r"\{(.*?)\}", line):
        return [line.replace(choice[0], word) for word in choice[1].split("|")]
    if option := re.search(r" \[(.*?)\]", line):
        return [line.replace(option[0], ""), line.replace(option[0], " " + option[1])]
    return [line]


def live(sh, home):
    """A home with one session that is there and one that was backed up and deleted."""
    folder = home.claude / "projects/-p"
    folder.mkdir(parents=True)
    for name in (ID, OLD):
        (folder / f"{name}.jsonl").write_bytes(LINE)
    (home.claude / "settings.json").write_text("{}\n")
    sh("csb-backup").ok()
    (folder / f"{OLD}.jsonl").unlink()
    (folder / f"{ID}.jsonl").write_bytes(LINE * 2)


@pytest.fixture
def lived_in(home, once):
    """A home with one session that is there and one that was backed up and deleted."""
    once(live)
    return home


def test_the_documents_are_there_or_it_is_said():
    if not os.path.isdir(os.path.join(SHARED, "contract")):
        pytest.skip(f"the contract is not at {SHARED}/contract")
    assert len(CSB) >= 9 and len(SNAPSHOT) >= 5, (CSB, SNAPSHOT)


@pytest.mark.parametrize("line", [one for line in CSB for one in spelled(line)])
@pytest.mark.logic
def test_csb(lived_in, sh, line):
    done = sh(line.replace("<session-id>", OLD)).ok()
    if line.startswith("csb backup"):
        committed = sh(f"git --git-dir={lived_in.backup}/git log --format=%s").out
        grown = "noise: 1 deleted, 1 grew" in committed
        assert grown == ("--no-commit" not in line)
        said = "Backed up " if grown else "Read 2 sessions for the index.\n"
        assert done.out.startswith(said) if "--quiet" not in line else not done.out
    elif line == "csb list --deleted":
        assert OLD[:8] in done.out and ID[:8] not in done.out
    elif line.startswith("csb list"):
        assert ID[:8] in done.out and OLD[:8] not in done.out
        assert ("expires in " in done.out) == ("expiration" in line)
    elif line.startswith("csb restore"):
        assert (lived_in.claude / f"projects/-p/{OLD}.jsonl").read_bytes() == LINE
    else:
        assert OLD in sh("csb-list --deleted").ok().out


def test_the_hooks_and_the_cron_line(lived_in, sh):
    if not os.path.isdir(os.path.join(SHARED, "contract")):
        pytest.skip(f"the contract is not at {SHARED}/contract")
    with open(os.path.join(SHARED, "contract/csb-0.2.1.txt"), encoding="utf-8") as file:
        text = file.read()
    settings = json.loads(re.search(r'^\{\n  "hooks".*?^\}', text, re.S | re.M)[0])
    commands = [hook["command"] for entries in settings["hooks"].values()
                for entry in entries for hook in entry["hooks"]]
    commands.append(re.search(r"^\*/15 \* \* \* \* /usr/local/bin/(.*)", text, re.M)[1])
    assert len(commands) == 3
    event = {
        "session_id": ID,
        "transcript_path": "x",
        "cwd": "/",
        "hook_event_name": "SessionEnd",
        "reason": "other",
    }
    payload = json.dumps(event).encode() + b"\n"
    for command in commands:
        done = sh(command.replace("&", "& wait $!"), payload)
        assert (done.rc, done.out, done.err) == (0, "", "")


@pytest.mark.parametrize("line", SNAPSHOT)
def test_jsonl_snapshot(lived_in, sh, line, tmp_path):
    work, outside = lived_in.path / "work", tmp_path / "recovery"
    work.mkdir()
    outside.mkdir()
    sh("git init -q", cwd=work).ok()
    source = lived_in.claude / f"projects/-p/{ID}.jsonl"
    sh(f"jsonl_snapshot --source {source}", cwd=work)
    backup, = (work / "backup/sessions/raw").glob("*.gz")
    line = re.sub(r"~/\S+\.jsonl(?!\S)|<file>", str(source), line)
    line = re.sub(r"backup/sessions/raw/\S+\.gz|<backup\.gz>", str(backup), line)
    line = line.replace("/Volumes/External/recovery", str(outside))
    line = line.replace("python -m", f"{sys.executable} -m")
    done = sh(
        line, cwd=work, PYTHONPATH=os.path.join(ROOT, "lib"), TMPDIR=str(tmp_path)
    )
    assert done.rc == 0, done
    record, = done.records
    if "--restore" in line:
        assert "archive integrity:" in done.err and "source-match:" in done.err
        assert record["result"] in ("restored", "kept")
        with open(record["path"], "rb") as file:
            assert file.read() == source.read_bytes()
        if record["path"].startswith("/tmp/" + ID):
            os.unlink(record["path"])
    else:
        assert record.get("dry_run", False) == ("--dry-run" in line)
        made = list((work / "backup/sessions/raw").glob("*.gz"))
        assert len(made) == (1 if "--dry" in line else 2)
