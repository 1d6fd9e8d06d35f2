"""csb-hook beside a first backup that takes long: a session that is about to be
compacted does not wait for all the others."""
import json
import random
import subprocess

import pytest
from conftest import line, name, payload

pytestmark = [pytest.mark.logic, pytest.mark.soak, pytest.mark.long]

FILE = 8 << 20          # bytes of each transcript that the first backup has to store


def fill(put, count):
    """Sessions of text that compresses to a half, as a long history is."""
    source = random.Random(count)
    for number in range(count):
        text = source.randbytes(FILE // 2).hex()
        put(1000 + number, line(text), project="-big")


def test_ten_compactions_while_the_first_backup_runs(
        sh, home, put, hook, over, tools, rounds, figure):
    fill(put, rounds(40, 256))
    first = subprocess.Popen([tools.python, "-I", f"{tools.bin}/csb-backup", "--quiet"],
                             env=home.env, cwd=home.path)
    under_way = 0
    for number in range(10):
        text = line(f"what compaction {number} takes away", sessionId=name(number))
        path = put(number, text, project="-small")
        hook(payload("PreCompact", number))
        stored = sh(
            f"git --git-dir=$CSB_HOME/git show main:{path.relative_to(home.claude)}"
        )
        assert stored.out == text, "the hook returned before its session was stored"
        under_way += first.poll() is None
    assert first.wait(timeout=600) == 0
    over()
    assert under_way == 10 or rounds(1, 0), "it was over too early to prove anything"
    outcomes = [json.loads(run)["outcome"] for run in
                (home.backup / "backup.log").read_text().splitlines()]
    assert set(outcomes) <= {"ok", "busy"}      # of whole runs that wait for the first
    figure(f"a first backup of {rounds(40, 256) * FILE >> 20} MB under way: 10 of 10 "
           f"sessions stored before their compaction, {under_way} while it ran")
