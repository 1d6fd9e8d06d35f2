"""csb-gitcommit killed between any two steps of a portion:
the next run loses nothing"""
import json
import os
import random
import shutil
import subprocess
import time

import pytest
from conftest import files_below, held, name

pytestmark = pytest.mark.logic

LINE = b'{"type":"user","uuid":"u%d","message":{"content":"%s"}}\n'
PORTION = 1000      # bytes; each portion then has two or three of the files
# A git that notes what it is asked to do. When it is asked for one thing for the Nth
# time it kills the csb-gitcommit that asks, before or after it has done that.
SHIM = """#!/bin/bash
echo "$*" >>'{log}'
case " $* " in *" {command} "*)
    number=$(($(cat '{folder}/count' 2>/dev/null || echo 0) + 1))
    echo $number >'{folder}/count'
    if [ $number = {number} ]; then
        {act}
    fi
esac
exec {git} "$@"
"""
BEFORE = "kill -9 $PPID; exit 1"
AFTER = '{git} "$@"; kill -9 $PPID; exit 1'
# As a power cut, or a kill of all processes, leaves them: git's own lock on our ref.
LOCKED = "touch '{ref}.lock'; kill -9 $PPID; exit 1"

STEPS = {
    "after the objects": ("fast-import", BEFORE),
    "after trees and commits": ("fast-import", AFTER),
    "before the proof": ("rev-list", BEFORE),
    "before the ref": ("update-ref", BEFORE),
    "in the ref": ("update-ref", LOCKED),
    "after the ref, before csb.seen": ("update-ref", AFTER),
}


@pytest.fixture
def killed(sh, home):
    """killed(command, act, number, line, ref): run a line, of which csb-gitcommit is
    killed; the words of each git that it started."""
    def run(command, act, number, line, ref=f"{home.backup}/git/refs/heads/main"):
        folder, log = home.path / "shim", home.path / "gits"
        folder.mkdir()
        text = SHIM.replace("{act}", act).format(
            command=command, number=number, folder=folder, log=log,
            git=shutil.which("git"), ref=ref)
        (folder / "git").write_text(text)
        (folder / "git").chmod(0o755)
        done = sh(line, PATH=f"{folder}:{home.env['PATH']}")
        shutil.rmtree(folder)
        gits = log.read_text().splitlines()
        log.unlink()
        assert done.rc == 137, done
        return gits
    return run


def write(home, number, text=b"", project="-p"):
    """A transcript of some hundred bytes; its path in the tree."""
    path = f"projects/{project}/{name(number)}.jsonl"
    full = home.claude / path
    full.parent.mkdir(parents=True, exist_ok=True)
    with open(full, "ab") as file:
        file.write(LINE % (number, text or b"x" * 400))
    return path


def age(home):
    """Make what killed runs left under temporary names two days old: then it may go."""
    for folder, _, names in os.walk(home.backup):
        for one in names:
            if one.startswith(".csb-tmp-"):
                os.utime(os.path.join(folder, one), (time.time() - 2 * 86400,) * 2)


def left_over(home):
    """Names in the store that no run should leave."""
    return [one for _, _, names in os.walk(home.backup / "git") for one in names
            if one.startswith((".csb-tmp-", "fast_import_crash"))
            or (one.endswith(".lock") and one != "csb.lock")]


def news(sh):
    """What csb-changes lists, apart from what it cannot be sure of yet."""
    return [record for record in sh("csb-changes").ok().records
            if record.get("change", "refused") not in ("recheck", "refused")]


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.few(3)
def test_a_kill_between_two_steps_loses_nothing(sh, home, killed, step, number):
    """Portions that were acknowledged stay, the others are stored by the next run."""
    for one in range(6):
        write(home, one)
    (home.claude / "settings.json").write_text("{}\n")
    (home.claude / "todos").mkdir()
    (home.claude / "todos/1.json").write_text("[]")
    sh("csb-changes | csb-gitcommit").ok()
    old = sh("git --git-dir ~/.claude-backup/git rev-parse main").ok().out.strip()
    before = held(sh)

    for one in range(3, 9):
        write(home, one, b"more " * 70)
    (home.claude / "settings.json").write_text('{"a": 1}\n')
    (home.claude / "todos/1.json").unlink()
    line = f"csb-changes | csb-gitcommit --portion {PORTION} >~/said"
    command, act = STEPS[step]
    killed(command, act, number, line)

    said = [json.loads(line) for line in (home.path / "said").read_text().splitlines()]
    acknowledged = said[-1]["commit"] if said else old
    assert bool(said) == (number == 2), "the portion before was not acknowledged"
    git = "git --git-dir ~/.claude-backup/git"
    sh(f"{git} merge-base --is-ancestor {acknowledged} main").ok()
    assert sh(f"{git} fsck --full --strict --no-dangling --no-progress").rc == 0

    sh(line).ok()
    assert held(sh) == files_below(home.claude)
    sh(f"{git} merge-base --is-ancestor {acknowledged} main").ok()
    assert sh(f"{git} fsck --full --strict --no-dangling --no-progress").rc == 0
    # What the last backup had, and was not there any more, is in history.
    todo = sh(f"{git} show {old}:todos/1.json").ok().out
    assert todo.encode() == before["todos/1.json"]
    assert left_over(home) == []
    assert news(sh) == []
    journals = sh(
        f"for c in $({git} rev-list main); do {git} show $c:.csb/changes.jsonl; done"
    )
    gone = [record for record in journals.ok().records if record["change"] == "deleted"]
    assert [record["path"] for record in gone] == ["todos/1.json"]


@pytest.mark.long
@pytest.mark.parametrize("step", STEPS)
def test_a_kill_between_two_steps_of_many_portions(sh, home, killed, seeded, step):
    """The same in the fifth of ten portions of 1 MB, 200 files in all, one of which
    grows in a pack: what was acknowledged is not stored once more."""
    large = write(home, 500)
    (home.claude / large).write_bytes(
        LINE % (0, seeded.randbytes(600_000).hex().encode())
    )
    sh("csb-changes | csb-gitcommit >/dev/null").ok()
    for one in range(200):
        write(home, one, seeded.randbytes(25_000).hex().encode())
    write(home, 500, b"one more line")
    line = "csb-changes | csb-gitcommit --portion 1000000 >~/said"
    command, act = STEPS[step]
    time.sleep(2.1)         # the stat of a younger file proves nothing
    killed(command, act, 5, line)

    def stored():
        """How many of the files were stored, as the records say."""
        text = (home.path / "said").read_text().splitlines()
        return sum(json.loads(line)["files"] for line in text)
    first, git = stored(), "git --git-dir ~/.claude-backup/git"
    assert 20 < first < 130
    assert sh(f"{git} fsck --full --strict --no-dangling --no-progress").rc == 0
    sh(line).ok()
    in_the_ref = 25 if step == "after the ref, before csb.seen" else 0
    assert 201 - first - in_the_ref <= stored() <= 201 - first
    assert held(sh) == files_below(home.claude)
    assert left_over(home) == [] and news(sh) == []
    assert sh(f"{git} fsck --full --strict --no-dangling --no-progress").rc == 0
    raw = "log --raw --no-abbrev --no-renames --format="
    oids = sh(f"{git} {raw} main -- projects").ok().out
    oids = [text.split()[3] for text in oids.splitlines()]
    assert len(oids) == len(set(oids)) == 202


@pytest.mark.long
@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("step", STEPS)
def test_a_kill_in_their_repository_and_their_prune(
    sh, home, killed, seeded, step, number
):
    """What a killed run has left there their gc takes, all that no ref reaches:
    the next run stores it anew, and nothing of theirs changes."""
    git = f"git --git-dir={home.claude}/.git"
    sh(
        "git init -q -b main && "
        "git -c user.name=u -c user.email=u@x commit -q --allow-empty -m theirs",
        cwd=home.claude,
    ).ok()
    mine = f"{git} for-each-ref refs/heads; cat .claude/.git/HEAD; {git} ls-files -s"
    for one in range(6):
        write(home, one)
    sh("csb-changes | csb-gitcommit").ok()
    old = sh(f"{git} rev-parse refs/csb/main").ok().out.strip()
    before = sh(mine).ok().out
    for one in range(80):       # so many that they are packed
        write(home, one, b"more " * 70)
    large = write(home, 90)
    (home.claude / large).write_bytes(
        LINE % (0, seeded.randbytes(600_000).hex().encode())
    )
    line = "csb-changes | csb-gitcommit --portion 60000 >/dev/null"
    command, act = STEPS[step]
    killed(command, act, number, line, home.claude / ".git/refs/csb/main")

    assert sh("git gc -q --prune=now", cwd=home.claude).rc == 0
    sh(f"{git} merge-base --is-ancestor {old} refs/csb/main").ok()
    sh(line).ok()
    there = {
        path: data
        for path, data in files_below(home.claude).items()
        if not path.startswith(".git/")
    }
    assert held(sh, home.claude / ".git", "refs/csb/main") == there
    assert sh("git gc -q --prune=now", cwd=home.claude).rc == 0
    assert sh(f"{git} fsck --full --strict --no-dangling --no-progress").rc == 0
    sh(f"{git} rev-list --objects --quiet refs/csb/main").ok()
    assert sh(mine).ok().out == before
    assert news(sh) == []


def test_the_run_after_a_kill_reads_what_is_new(sh, home, killed):
    """A kill came before csb.seen: what that does not know is read again,
    no history walked."""
    for one in range(6):
        write(home, one)
    time.sleep(2.1)     # what is younger when it is read is read again in any case
    line = f"csb-changes | csb-gitcommit --portion {PORTION} >/dev/null"
    killed("update-ref", AFTER, 2, line)
    seen = (home.backup / "git/csb.seen").read_bytes()
    assert seen.count(b".jsonl") == 2, "one portion is in csb.seen, two are in the tree"

    left = [record["change"] for record in sh("csb-changes").ok().records]
    assert left.count("new") == 2 and left.count("recheck") == 2
    (home.path / "log").mkdir()
    shim, git = home.path / "log/git", shutil.which("git")
    shim.write_text(f"""#!/bin/sh
echo "$*" >>~/gits
exec {git} "$@"
""")
    shim.chmod(0o755)
    sh(line, PATH=f"{home.path}/log:{home.env['PATH']}").ok()
    gits = (home.path / "gits").read_text().splitlines()
    for text in gits:
        assert " rev-list " not in text or " --not " in text
    assert [text for text in gits if " log " in text] == []
    assert news(sh) == []


def test_what_a_killed_run_packed_is_made_durable_by_the_next(sh, home, tools, killed):
    """git packs trees when there are many, and syncs nothing:
    the run that uses them has to."""
    if not shutil.which("strace") or subprocess.run(
            ["strace", "-o", "/dev/null", "true"], stderr=-3).returncode:
        pytest.skip("strace may not trace here, or there is none")
    for one in range(120):
        write(home, one, project=f"-p{one}")
    killed("rev-list", BEFORE, 1, "csb-changes | csb-gitcommit >/dev/null")
    packs = set((home.backup / "git/objects/pack").glob("pack-*.pack"))
    assert len(packs) == 2, "the files and the trees"
    sh("csb-changes >~/changes").ok()
    command = ["strace", "-y", "-e", "trace=fsync", "-o", home.path / "synced"]
    command += [tools.python, "-I", f"{tools.bin}/csb-gitcommit"]
    with open(home.path / "changes", "rb") as changes:
        subprocess.run(command, stdin=changes, env=home.env, check=True, stdout=-3)
    synced = (home.path / "synced").read_text()
    assert [str(pack) for pack in packs if str(pack) not in synced] == []
    assert held(sh) == files_below(home.claude)


@pytest.mark.long
def test_a_kill_at_each_rename(sh, home, tools, tmp_path):
    """The same where no git is started: at the renames of objects,
    packs and csb.seen."""
    words = ["strace", "-o", "/dev/null", "-e", "trace=rename", "-e"]
    if not shutil.which("strace") or subprocess.run(
            [*words, "inject=rename:signal=KILL:when=9", "true"], stderr=-3).returncode:
        pytest.skip("strace may not trace here, or there is none")
    for one in range(6):
        write(home, one)
    (home.claude / f"projects/-p/{name(9)}.jsonl").write_bytes(
        LINE % (9, random.randbytes(600_000).hex().encode()))
    sh("csb-changes >~/changes").ok()
    met = 0
    for number in range(1, 40):
        shutil.rmtree(home.backup, ignore_errors=True)
        command = [
            *words,
            f"inject=rename:signal=KILL:when={number}",
            tools.python,
            "-I",
            f"{tools.bin}/csb-gitcommit",
            f"--portion={PORTION}",
        ]
        with open(home.path / "changes", "rb") as changes:
            done = subprocess.run(
                command, stdin=changes, env=home.env, capture_output=True
            )
        if done.returncode == 0:
            break
        met += 1
        lines = done.stdout.splitlines()
        if lines:
            tip = json.loads(lines[-1])["commit"]
            ancestor = f"merge-base --is-ancestor {tip} main"
            sh(f"git --git-dir ~/.claude-backup/git {ancestor}").ok()
        age(home)
        sh(f"csb-changes | csb-gitcommit --portion {PORTION} >/dev/null").ok()
        assert held(sh) == files_below(home.claude), number
        assert left_over(home) == [], number
        assert news(sh) == []
    assert met > 10
