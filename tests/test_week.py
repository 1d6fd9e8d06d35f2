"""A week of a person, played in minutes: what csb-backup says of itself is
true each time."""
import json
import os
import shutil

import pytest
import shifted
from conftest import ROOT

pytestmark = [pytest.mark.logic, pytest.mark.soak, pytest.mark.long]


def test_a_week_with_a_full_disk_and_one_that_is_away(sh, home, rounds, seeded, figure):
    """No false success, no version lost, and the store is kept in order by itself."""
    if not shutil.which("cc"):
        pytest.skip("the clock is shifted by a library: that needs a C compiler")
    if sh("unshare -rm mount -t tmpfs -o size=1m none /mnt").rc:
        pytest.skip("this machine lets nobody mount a tmpfs in a namespace of his own")
    shifted.build()
    per_day = rounds(8, 96)
    week = os.path.join(ROOT, "tests", "week.py")
    seed = seeded.randrange(10**9)
    done = sh(f"unshare -rm python3 {week} {per_day} {seed} {shifted.LIBRARY}",
              timeout=3600)
    assert (done.rc, done.err) == (0, "")
    figures = json.loads(done.out)
    assert figures["failed"] > 0 and figures["good"] > 4 * per_day
    figure("a week: " + ", ".join(f"{count} {what}" for what, count in figures.items()))
