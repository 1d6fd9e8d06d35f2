"""tests/bench --check says when csb has become worse beside a peer,
or a peer is missing"""
import subprocess
import sys

import bench_check
import pytest
from bench_check import JUDGED, MEASURED, PEERS, ROWS_SHARED
from bench_peers import ROWS
from conftest import FORM, ROOT

if FORM == "dist":
    pytest.skip("the same for both forms", allow_module_level=True)

VERSIONS = {"csb": "1", "git": "2", "restic": "3", "borg": "4"}


class Page:
    """What check() needs of a page."""

    def __init__(self):
        self.said, self.rows = [], []

    def failed(self, what, error):
        self.said.append(what)

    def table(self, title, head, rows):
        self.rows = rows


@pytest.fixture
def as_measured():
    """A run that has found what was measured: {row: {tool: {what: figure}}}."""
    then = bench_check.tables(MEASURED)
    found = {}
    for row in ROWS_SHARED:
        for what, title in JUDGED.items():
            for tool, figure in then[title].get(ROWS[row][0], {}).items():
                found.setdefault(row, {}).setdefault(tool, {})[what] = figure
    return found


def said(table, versions=None):
    page = Page()
    bench_check.check(page, table, versions or VERSIONS)
    return page


def test_what_was_measured_is_read(as_measured):
    assert as_measured["first"]["csb"] == {"seconds": 5.186, "growth": 92.4e6}
    assert as_measured["append"]["borg"] == {"seconds": 0.449, "growth": 265000}
    assert as_measured["noop"]["csb"]["growth"] == 0


def test_the_same_is_no_failure(as_measured):
    page = said(as_measured)
    assert page.said == []
    beside = [row[1] for row in page.rows]
    assert set(beside) == set(PEERS) and len(beside) > 20


@pytest.mark.parametrize("row, what", [
    (row, what) for row in ROWS_SHARED for what in JUDGED
    if (row, what) != ("restore", "growth")])
def test_a_tenth_more_is_one(as_measured, row, what):
    """Of ours, as a part of theirs."""
    ours = as_measured[row]["csb"]
    ours[what] = ours[what] * 1.09
    assert said(as_measured).said == []
    ours[what] = ours[what] * 1.03 + 1
    words = said(as_measured).said
    assert words and all(what in text for text in words)


def test_all_slower_is_none(as_measured):
    for found in as_measured.values():
        for one in found.values():
            one["seconds"] *= 3
    assert said(as_measured).said == []


@pytest.mark.parametrize("peer", PEERS)
def test_a_peer_that_is_missing_is_one(as_measured, peer):
    for found in as_measured.values():
        found.pop(peer, None)
    versions = {name: one for name, one in VERSIONS.items() if name != peer}
    assert f"the check beside {peer}" in said(as_measured, versions).said


def test_a_step_that_failed_is_one(as_measured):
    as_measured["append"]["restic"] = "failed"
    what = "the check of backup after 10 KB more in the largest beside restic"
    assert said(as_measured).said == 2 * [what]


@pytest.mark.long
def test_the_status(tmp_path):
    """Without restic and borg it is 1, and the words say so."""
    done = subprocess.run(
        [
            *(sys.executable, f"{ROOT}/tests/bench", "--check"),
            *("--sessions", "5", "--total-mb", "1", "--big-mb", "0.2"),
            *("--runs", "1", "--peers", "git", "--only", "noop"),
        ],
        env={"PATH": "/usr/bin:/bin", "CSB_BIN": "bin", "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "the check beside restic failed: it is not here" in done.stdout
    assert "| no-op backup: seconds | git |" in done.stdout
