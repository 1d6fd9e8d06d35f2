"""csb-count, and the line that csb-fmt and csb restore end with: what was done, in numbers."""
import json

import pytest
from conftest import line, name

pytestmark = pytest.mark.logic


def file(result, number=1, path="/h/x", **more):
    """A file record of session number; of none, if that is None."""
    mine = {} if number is None else {"session_id": name(number)}
    return {"kind": "file", **mine, "result": result, "path": path, **more}


SAME, OTHER, DRY = ({"reason": "it is there"}, {"reason": "another file is there"},
                    {"dry_run": True})


@pytest.mark.parametrize("records, said", [
    ([], ""), ([{"kind": "session", "session_id": name(1)}], ""),
    ([file("restored")], "1 session: 1 file restored\n"),
    ([file("restored"), file("restored"), file("kept", 2, **OTHER), file("refused", 3)] * 2,
     "3 sessions: 4 files restored, 2 kept (different), 2 refused\n"),
    ([file("kept", **SAME)] * 3, "1 session: 3 files already there\n"),
    ([file("kept")], "1 session: 1 file already there\n"),     # as the snapshot tools say it
    ([file("restored", **DRY)] * 2 + [file("kept", **DRY, **SAME), file("kept", **DRY, **OTHER),
                                      file("refused", **DRY)],
     "1 session: 2 files would be restored, 1 already there, 1 would be kept (different), "
     "1 would be refused\n"),
    ([file("restored"), file("restored", path="/h/tasks/"), file("refused", path="/h/y/")],
     "1 session: 1 file restored, 1 folder restored, 1 refused\n"),
    ([file("restored", None)] * 2, "2 files restored\n"),
    ([file("restored"), file("refused", None)],
     "1 session and other files: 1 file restored, 1 refused\n"),
    ([{"kind": "check", "ok": True}, {"kind": "check", "ok": 1}], "1 of 2\n"),
    ([file("exploded"), file(None), file(["restored"]), file({}), {"kind": ["file"]}, {}], ""),
    ([file("restored", session_id=number, path=number) for number in (7, [], None)],
     "3 files restored\n")])
def test_what_is_said(sh, records, said):
    text = "".join(json.dumps(record) + "\n" for record in records).encode()
    assert sh("csb-count", text).ok().out == said


@pytest.fixture
def lost(sh, home):
    """Two sessions of two files each, and settings: backed up, the sessions then deleted."""
    folder = home.claude / "projects/-w"
    for number in (1, 2):
        (folder / name(number)).mkdir(parents=True)
        (folder / f"{name(number)}.jsonl").write_text(line(str(number)))
        (folder / name(number) / "notes.txt").write_text("notes")
    (home.claude / "settings.json").write_text("{}\n")
    sh("csb-backup --quiet").ok()
    sh("rm -r *", cwd=folder).ok()
    return folder


@pytest.mark.long
def test_a_restore_ends_with_what_it_has_done(sh, home, lost):
    """In both forms of the pipe, for one session and many, for --dry-run."""
    said = lambda words: sh(words).out.splitlines()[-1]
    (home.path / "ids").write_text(f"{name(1)}\n{name(2)}\n")
    for tool in ("csb restore", "csb-restore"):
        end = " | csb-fmt" * (tool == "csb-restore")
        assert said(f"{tool} --dry-run <ids{end}") == "2 sessions: 4 files would be restored"
        assert said(f"{tool} {name(1)}{end}") == "1 session: 2 files restored"
        (lost / f"{name(1)}.jsonl").write_text("another\n")
        assert said(f"{tool} --dry-run <ids{end}") == (
            "2 sessions: 2 files would be restored, 1 already there, 1 would be kept (different)")
        assert said(f"{tool} <ids{end}") == (
            "2 sessions: 2 files restored, 1 already there, 1 kept (different)")
        assert said(f"{tool} --target-dir out --path '*.json' {name(1)} {name(2)}{end}") == (
            "2 sessions and other files: 5 files restored")
        assert said(f"{tool} --target-dir out --path '*.json'{end}") == "1 file already there"
        sh("rm -r .claude/projects/-w/* out").ok()


def test_a_session_that_is_refused(sh, home, lost):
    copy = home.claude / "projects/-other"
    copy.mkdir()
    (copy / f"{name(1)}.jsonl").write_text(line())
    done = sh(f"csb restore {name(1)} {name(2)}")
    assert done.rc == 1
    assert done.out.splitlines()[-1] == "2 sessions: 2 files restored, 2 refused"


def test_without_csb_count_the_files_are_shown(sh, stages):
    """It is said once that it is missing, and nobody who writes into the pipe is stopped."""
    stages("csb-count", None)
    text = json.dumps(file("restored")).encode() + b"\n"
    done = sh("csb-fmt", text * 3)
    assert (done.rc, done.out.count("restored")) == (3, 3)
    assert done.err == "csb-fmt: cannot find 'csb-count' beside csb-fmt or on PATH\n"
    stages("csb-count", "sys.exit(1)")
    done = sh("csb-fmt", text * 9000)
    assert (done.rc, done.out.count("restored"), done.err) == (1, 9000, "")
