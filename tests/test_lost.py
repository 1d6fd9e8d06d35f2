"""csb-lost: what git knows and the disk does not, whoever committed it, on whatever branch."""
import json
import os
import shutil

import pytest
from conftest import line, name

pytestmark = pytest.mark.logic

STORE = "csb-changes | csb-gitcommit >/dev/null"
GIT = "git -c user.name=a -c user.email=a@b -c init.defaultBranch=master"
ADD = f"git add -A && {GIT} commit -qm x"


@pytest.fixture
def put(home):
    """put(path below projects, text): a file with an mtime of its own; its path."""
    def write(path, text="x", mtime=1767323045):
        path = home.claude / "projects" / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        os.utime(path, (mtime, mtime))
        return path
    return write


def found(done):
    """{(project, number): record} of what was said."""
    return {(r["project"], int(r["session_id"][-12:])): r for r in done.ok().records}


def test_nothing_is_lost(sh, put, home):
    assert sh("csb-lost").ok().out == "", "no store"
    put(f"-w/{name(1)}.jsonl", line())
    sh(STORE).ok()
    assert sh("csb-lost").ok().out == ""
    sh("git init -q --bare empty").ok()
    assert sh("csb-lost --git-dir empty").ok().out == ""
    (home.path / "no-store").mkdir()
    assert sh("csb-lost --git-dir no-store").rc == 3


def test_what_was_deleted(sh, put, home):
    """Last version, last mtime, all that was below <uuid>/, when it went."""
    path = put(f"-w/{name(1)}.jsonl", line("one"))
    put(f"-w/{name(2)}.jsonl", line("stays"))
    put(f"-w/{name(1)}/tool-results/a", "123")
    early = put(f"-w/{name(1)}/early", "1234")
    sh(STORE).ok()
    early.unlink()
    put(f"-w/{name(1)}.jsonl", line("one") * 2, 1767323046)
    sh(STORE).ok()
    os.utime(path, (1767323047,) * 2)
    os.chmod(path, 0o640)
    sh(STORE).ok()
    path.unlink()
    sh(STORE).ok()
    when = sh('git --git-dir="$CSB_HOME/git" log -1 --format=%cd --date=format:%Y-%m-%dT%H:%M:%SZ '
              "main").ok().out.strip()
    put(f"-w/{name(3)}.jsonl", "later")
    sh(STORE).ok()
    root = os.path.realpath(home.claude)
    size = 2 * len(line("one"))
    record = found(sh("csb-lost"))["-w", 1]
    assert len(record.pop("oid")) == 40
    assert record == {
        "kind": "session", "session_id": name(1), "project": "-w", "root": root,
        "transcript_path": f"{root}/projects/-w/{name(1)}.jsonl", "size": size,
        "mtime": "2026-01-02T03:04:07.000000000Z", "files": 3, "bytes": size + 7,
        "state": "deleted", "deleted_at": when}


def test_what_the_store_has_not_noticed_yet(sh, put):
    put(f"-w/{name(1)}.jsonl", line())
    put(f"-w/{name(2)}/x", "x")
    sh(STORE).ok()
    put(f"-w/{name(1)}.jsonl").unlink()
    put(f"-w/{name(2)}/x").unlink()
    assert {k: (r["state"], "deleted_at" in r) for k, r in found(sh("csb-lost")).items()} == {
        ("-w", 1): ("present", False), ("-w", 2): ("husk", False)}


def test_deleted_come_back_deleted_again(sh, put):
    """The newest version counts, and the last deletion."""
    for text in ("first", "second", "third"):
        path = put(f"-w/{name(1)}.jsonl", line(text))
        sh(STORE).ok()
        path.unlink()
        sh(STORE).ok()
    assert sh("csb-index --rebuild").ok().records[0]["title"] == "third"


def test_husks(sh, put):
    """Of <uuid>/ files, and of flat agent files that name their owner."""
    owned = lambda number: json.dumps({"sessionId": name(number)}) + "\nx\n"
    put(f"-w/{name(1)}/sub/x", "12")
    put("-w/agent-2.jsonl", owned(2))
    put("-w/agent-3.jsonl", owned(3))
    put("-w/agent-4.jsonl", "garbage")
    put("-w/agent-5.jsonl", owned(5))
    put(f"-w/{name(5)}.jsonl", line())
    put(f"-w/{name(6)}/sub/x", "stays")
    put(f"-w/{name(6)}/sub/y", "goes").unlink()
    sh(STORE).ok()
    for path in (f"-w/{name(1)}/sub/x", "-w/agent-2.jsonl", "-w/agent-4.jsonl", "-w/agent-5.jsonl"):
        put(path).unlink()
    sh(STORE).ok()
    records = found(sh("csb-lost"))
    assert set(records) == {("-w", 1), ("-w", 2)}
    assert all(r["state"] == "deleted" and "oid" not in r and r["size"] == 0
               for r in records.values())
    assert [(r["files"], r["bytes"]) for r in records.values()] == [(1, 2), (0, 0)]


def test_an_older_tool_on_a_branch_of_the_user(sh, put, home):
    """Sessions in commits that are not ours, also on a branch that was left behind."""
    put(f"-w/{name(1)}.jsonl", line("old tool"))
    put(f"-w/{name(2)}.jsonl", line("still there"))
    put(f"-w/{name(3)}.jsonl", line("never deleted in git"))
    sh(f"{GIT} init -q . && {ADD}", cwd=home.claude).ok()
    sh("git checkout -qb side", cwd=home.claude).ok()
    put(f"-w/{name(4)}.jsonl", line("on a branch"))
    sh(f"{ADD} && git tag kept && git checkout -q master && git branch -qD side",
       cwd=home.claude).ok()
    put(f"-w/{name(1)}.jsonl").unlink()
    sh(ADD, cwd=home.claude).ok()
    put(f"-w/{name(3)}.jsonl").unlink()
    sh("git tag blob $(git rev-parse HEAD:projects) && git update-ref refs/notes/x HEAD",
       cwd=home.claude).ok()
    for before in ("true", STORE):
        sh(before).ok()
        records = found(sh("csb-lost"))
        assert {k: r["state"] for k, r in records.items()} == {
            ("-w", 1): "deleted", ("-w", 3): "present", ("-w", 4): "present"}
        assert all(len(r["mtime"]) == 30 for r in records.values())
    done = sh("csb-index --rebuild").ok()
    assert {int(r["session_id"][-12:]) for r in done.records if r["kind"] == "session"
            and r["change"] == "deleted"} == {1, 3, 4}
    listed = sh("csb-list --deleted").ok().records
    assert {r["title"] for r in listed} == {"old tool", "never deleted in git", "on a branch"}


def test_without_a_journal_the_mtime_is_when_it_was_stored(sh, put, home):
    """And not when it first was."""
    sh(f"{GIT} init -q .", cwd=home.claude).ok()
    for year in (2020, 2021, 2022):
        path = put(f"-w/{name(1)}.jsonl", line() * year)
        if year == 2022:
            path.unlink()
        sh(ADD, cwd=home.claude, GIT_COMMITTER_DATE=f"{year}-02-03T04:05:06Z").ok()
    record = found(sh("csb-lost"))["-w", 1]
    assert record["mtime"] == "2021-02-03T04:05:06.000000000Z"
    assert (record["deleted_at"], record["size"]) == ("2022-02-03T04:05:06Z", 2021 * len(line()))


def test_merges(sh, put, home):
    """Deleted on one side, changed on none: deleted. Only on the side that was merged: there."""
    put(f"-w/{name(1)}.jsonl", line("1"))
    sh(f"{GIT} init -q . && {ADD} && git checkout -qb side", cwd=home.claude).ok()
    put(f"-w/{name(1)}.jsonl").unlink()
    put(f"-w/{name(2)}.jsonl", line("2"))
    sh(f"{ADD} && git checkout -q master", cwd=home.claude).ok()
    put(f"-w/{name(3)}.jsonl", line("3"))
    sh(f"{ADD} && {GIT} merge -q --no-edit side", cwd=home.claude).ok()
    assert {k: r["state"] for k, r in found(sh("csb-lost")).items()} == {("-w", 1): "deleted"}
    shutil.rmtree(home.claude / "projects")
    assert {k: r["state"] for k, r in found(sh("csb-lost")).items()} == {
        ("-w", 1): "deleted", ("-w", 2): "present", ("-w", 3): "present"}


def test_links_are_no_transcripts(sh, put, home):
    """As an older tool stores them: the text of a link is not what it led to."""
    path = put(f"-w/{name(1)}.jsonl", line("1"))
    link = path.with_name(f"{name(2)}.jsonl")
    link.symlink_to("nowhere")
    sh(f"{GIT} init -q . && {ADD}", cwd=home.claude).ok()
    path.unlink()
    link.unlink()
    assert set(found(sh("csb-lost"))) == {("-w", 1)}
    sh(ADD, cwd=home.claude).ok()
    assert set(found(sh("csb-lost"))) == {("-w", 1)}


def test_a_title_in_a_file_beside_it(sh, put):
    path = put(f"-w/{name(1)}.jsonl", line("prompt"))
    side = put(f"-w/{name(1)}/custom-title.json", '{"customTitle":"given  name"}')
    sh(STORE).ok()
    path.unlink()
    side.unlink()
    sh(STORE).ok()
    done = sh("csb-index --rebuild").ok()
    assert [r["title"] for r in done.records if r["kind"] == "session"] == ["given name"]


def test_names_that_are_hard(sh, put):
    projects = [b"-a\nb", b"-\xff\xfe", b'-"q\'"', "-\u00fc".encode()]
    for project in projects:
        put(f"{os.fsdecode(project)}/{name(1)}.jsonl", line())
    sh(STORE).ok()
    for project in projects:
        put(f"{os.fsdecode(project)}/{name(1)}.jsonl").unlink()
    sh(STORE).ok()
    records = found(sh("csb-lost"))
    assert sorted(os.fsencode(project) for project, _ in records) == sorted(projects)
    assert {r["state"] for r in records.values()} == {"deleted"}
    assert [r["title"] for r in sh("csb-index --rebuild").ok().records[:4]] == ["hello"] * 4


def test_a_clone_is_enough(sh, put, home):
    put(f"-w/{name(1)}.jsonl", line("1"))
    sh(STORE).ok()
    put(f"-w/{name(1)}.jsonl").unlink()
    sh(STORE).ok()
    direct = sh("csb-lost").ok().out
    sh('git clone -q --bare "$CSB_HOME/git" clone').ok()
    assert sh("csb-lost --git-dir clone").ok().out == direct and direct
    sh('git clone -q "$CSB_HOME/git" work').ok()
    assert sh("csb-lost --git-dir work").ok().out == direct


def test_it_can_be_told_to_an_index_that_is_there(sh, put):
    """A session that the index does not know is added, one that it knows stays as it is."""
    path = put(f"-w/{name(1)}.jsonl", line("old"))
    sh(STORE).ok()
    path.unlink()
    sh(STORE).ok()
    put(f"-w/{name(2)}.jsonl", line("new"))
    sh("csb-find | csb-index --git-dir none").ok()
    assert [r["title"] for r in sh("csb-list --all").ok().records] == ["new"]
    for change in ("deleted", "same"):
        records = sh("csb-lost | csb-index").ok().records
        assert [(r["title"], r["change"], r["state"]) for r in records] == [
            ("old", change, "deleted")]
    assert len(sh("csb-list --all").ok().records) == 2
