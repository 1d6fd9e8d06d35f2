"""csb-show: one session in full, live or deleted, with an index or without."""
import json
import os
import sqlite3
import time

import pytest
from conftest import INDEX, line, name, problems, put_into

pytestmark = pytest.mark.logic

BACKUP = f"csb-changes --accept-deletions | csb-gitcommit && {INDEX}"
NOW = int(time.time()) - 60


def said(number=1, **fields):
    """A line of the transcript of a session."""
    return line(sessionId=name(number), **fields)


MAIN = f"projects/-w/{name(1)}.jsonl"
SIDE = f"projects/-w/{name(1)}"
FILES = {
    MAIN: said(slug="plan-a"), f"{SIDE}/tool-results/x": "x", f"{SIDE}/custom-title.json": "{}",
    f"{SIDE}/subagents/agent-a1.jsonl": "{}\n",
    f"{SIDE}/subagents/agent-a1.meta.json":
        '{"agentType":"Explore","description":"look \\u001b","spawnDepth":1}',
    f"{SIDE}/subagents/workflows/w/agent-a2.jsonl": "{}\n{}\n",
    f"{SIDE}/subagents/workflows/w/agent-a2.meta.json": '{"agentType":7,"description":["x"]}',
    f"{SIDE}/subagents/workflows/w/journal.jsonl": "{}\n",
    "projects/-w/agent-old.jsonl": said(), "plans/plan-a.md": "plan",
    f"todos/{name(1)}-agent-{name(1)}.json": "[]", f"file-history/{name(1)}/a@v1": "old",
    f"tasks/{name(1)}/1.json": "{}",
    f"todos/{name(2)}-agent-{name(1)}.json": "[]",      # of both
}
OTHERS = {
    f"projects/-w/{name(2)}.jsonl": said(2), "projects/-w/agent-x.jsonl": said(2),
    f"projects/-w/{name(2)}/tool-results/x": "y", "plans/plan-b.md": "plan", "settings.json": "{}",
    "projects/-x/agent-old.jsonl": said(2),
}


def make_sessions(sh, home, then):
    """A session with every part, FILES, and others; then a pipeline."""
    for where, text in {**FILES, **OTHERS}.items():
        put_into(home, where, text, mtime=NOW)
    sh(then).ok()


@pytest.fixture
def session(sh, home):
    """The sessions of make_sessions(), which nobody knows yet."""
    make_sessions(sh, home, "true")


@pytest.fixture
def indexed(once):
    """The same in an index alone."""
    once(make_sessions, INDEX)


@pytest.fixture
def stored(once):
    """The same in the store and in the index."""
    once(make_sessions, BACKUP)


def agents(record):
    return [{key: agent[key] for key in agent if key != "path"} for agent in record["subagents"]]


AGENTS = [{"subagent": "a1", "agent_type": "Explore", "description": "look \x1b", "size": 3},
          {"subagent": "a2", "size": 6}, {"subagent": "old", "size": len(said())}]


def show(sh, words=""):
    """The one record of csb-show."""
    (record,) = sh(f"csb-show {words or name(1)}").ok().records
    return record


def test_a_live_session(sh, stored, home):
    record = show(sh)
    (listed,) = sh(f"csb-list {name(1)}").ok().records
    assert {**record, "files": listed["files"]}.items() >= listed.items()
    assert {f["path"]: f["size"] for f in record["files"]} == {p: len(FILES[p]) for p in FILES}
    assert {f["mtime"] for f in record["files"]} == {
        time.strftime("%Y-%m-%dT%H:%M:%S.000000000Z", time.gmtime(NOW))}
    assert agents(record) == AGENTS
    assert {a["path"] for a in record["subagents"]} == {p for p in FILES if "/agent-" in p
                                                        and p.endswith(".jsonl")}
    assert (record["forks"], record["versions_total"]) == ([], 1)
    assert record["versions"] == sh(f"csb-history {name(1)}").ok().records


def test_a_deleted_session(sh, stored, home):
    """The files as csb-restore would bring them back, told from the store."""
    for where in FILES:
        (home.claude / where).unlink()
    sh(BACKUP).ok()
    record = show(sh)
    assert record["state"] == "deleted" and record["versions"][0]["deleted_at"]
    assert {f["path"]: f["size"] for f in record["files"]} == {p: len(FILES[p]) for p in FILES}
    assert all(set(f) == {"path", "size", "at", "mtime"} for f in record["files"])
    assert {f["mtime"] for f in record["files"]} == {
        time.strftime("%Y-%m-%dT%H:%M:%S.000000000Z", time.gmtime(NOW))}
    assert agents(record) == AGENTS
    restored = sh(f"csb-restore {name(1)} --target-dir ~/out | jq -r .path").ok().out
    assert sorted(f"{home.path}/out/{f['path']}" for f in record["files"]) == sorted(
        filter(os.path.isfile, restored.split()))
    sh(f"csb-restore {name(1)} >/dev/null").ok()
    assert "mtime" in show(sh)["files"][0], "it is back, whatever the index knows"


@pytest.mark.long
def test_versions_and_a_pipe_into_restore(sh, session, put, home):
    for count in range(1, 24):
        put(MAIN, said() * count, mtime=NOW)
        sh("csb-changes | csb-gitcommit >/dev/null").ok()
    sh(INDEX).ok()
    record = show(sh)
    assert (len(record["versions"]), record["versions_total"]) == (20, 23)
    assert record["versions"][0]["size"] == 23 * len(said())
    sh(f"csb-show {name(1)} | jq -c '.versions[1]' | csb-restore --target-dir ~/out").ok()
    assert (home.path / "out" / MAIN).read_text() == said() * 22


def test_forks(sh, indexed, home):
    """Those that name it as their parent, oldest first; deleted ones too."""
    db = sqlite3.connect(home.backup / "session-backup.db")
    (text,) = db.execute("SELECT record FROM session WHERE session_id = ?",
                         (json.dumps(name(2)),)).fetchone()
    for number, started in ((3, "2026-03"), (4, "2026-01"), (5, None), (1, "2026-02")):
        record = {**json.loads(text), "session_id": name(number), "parent_session_id": name(1),
                  "started": started, "state": "deleted" if number == 4 else "present"}
        record["transcript_path"] = f"{home.claude}/projects/-w/{name(number)}.jsonl"
        keys = ("transcript_path", "root", "project", "session_id")
        db.execute(
            "REPLACE INTO session (path, root, project, session_id, state, words, record) "
            "VALUES (?, ?, ?, ?, ?, '', ?)",
            (*(json.dumps(record[key]) for key in keys), record["state"], json.dumps(record)))
    db.commit()
    assert show(sh)["forks"] == [name(4), name(3), name(5)]
    assert show(sh, "0003")["parent_session_id"] == name(1)
    found = sh(f"csb-list --all | csb-show | jq -c 'select(.session_id==\"{name(1)}\") | .forks'")
    assert json.loads(found.ok().out) == [name(4), name(3), name(5)]


def test_without_a_store_and_without_an_index(sh, indexed, home):
    """What is on disk is shown all the same; an index is needed."""
    record = show(sh)
    assert (record["versions"], record["versions_total"], len(record["files"])) == ([], 0, 14)
    (home.backup / "session-backup.db").unlink()
    done = sh(f"csb-show {name(1)}")
    assert (done.rc, done.out, done.err.count("\n")) == (3, "", 1)
    assert "csb-index --rebuild" in done.err
    assert sh(f"csb show {name(1)}").rc == 0, "csb makes it first"


def test_ids_and_other_records(sh, stored):
    for words, status in (("abcd", 1), ("3f4a", 2), ("--no", 2)):
        done = sh(f"csb-show {words}")
        assert (done.rc, done.out, len(problems(done.err))) == (status, "", 1), done
    given = f'abcd\n3f4a\n{name(1)}\n{{"kind":"end"}}\n0002\n{name(1)[-6:]}\n'.encode()
    done = sh("csb-show", given)
    assert done.rc == 1 and len(problems(done.err)) == 2, done
    assert [(r["kind"], r.get("session_id"), r.get("project")) for r in done.records] == [
        ("end", None, None), ("session", name(1), "-w"), ("session", name(2), "-w"),
        ("session", name(2), "-x")]
    hook = json.dumps({"session_id": name(1), "transcript_path": "x", "cwd": "/"}).encode()
    assert sh("csb-show", hook).ok().records[0]["session_id"] == name(1)
    only = json.dumps({"transcript_path": f"/x/{name(2)}.jsonl"}).encode()
    assert sh("csb-show", only).ok().records[0]["session_id"] == name(2)


@pytest.mark.long
def test_ids_in_either_case(sh, put):
    loud = name(1).upper()
    put(f"projects/-w/{loud}.jsonl", said())
    put(f"todos/{name(1)}.json", "[]")
    sh(BACKUP).ok()
    for word in (loud, name(1), loud[:9], name(1)[:9], loud[-5:]):
        record = show(sh, word)
        assert record["session_id"] == loud, word
        assert [file["path"] for file in record["files"]] == [
            f"projects/-w/{loud}.jsonl", f"todos/{name(1)}.json"]
        assert record["versions_total"] == 1
    given = json.dumps({"transcript_path": f"/elsewhere/{name(1)}.jsonl"}).encode()
    assert sh("csb-show", given).ok().records[0]["session_id"] == loud


def test_every_name_on_the_path_counts(sh, session, put, home):
    """Whoever wrote a file; but no longer digits, and no name of a project."""
    deep = f"new-kind/deep/x-{name(1)}.d/y"
    put(deep, "")
    put(f"new-kind/0{name(1)}", "")
    put(f"projects/-tmp-{name(1)}/{name(3)}.jsonl", said(3))
    (home.claude / "new-kind/loop").symlink_to(home.claude)
    sh(INDEX).ok()
    assert {file["path"] for file in show(sh)["files"]} == {*FILES, deep}


def test_a_session_that_was_moved(sh, put, home):
    """Its versions are those of the place that it came from, too, at any moment."""
    old, new = (f"projects/{project}/{name(1)}.jsonl" for project in ("-worktree", "-w"))
    put(old, said())
    sh(BACKUP).ok()
    put(new, said())
    (home.claude / old).unlink()
    record = show(sh)
    assert record["project"] == "-w" and record["files"][0]["path"] == new
    assert [(one["change"], one["path"]) for one in record["versions"]] == [("new", old)]
    put(new, said() * 2)
    sh(BACKUP).ok()
    for _ in "there", "gone":
        record = show(sh)
        assert [one["path"] for one in record["versions"]] == [new, old]
        assert record["versions_total"] == 2
        assert [file["path"] for file in record["files"]] == [new]
        put(new).unlink()
        put("projects/-w/x")
        sh(BACKUP).ok()


@pytest.mark.long
def test_a_copy_that_a_synced_folder_made(sh, put):
    """It is a session of its own kind, with one file and the versions of that."""
    copy = f"projects/-w/{name(1)}.sync-conflict-1.jsonl"
    put(MAIN, said())
    put(copy, said() * 2)
    put(f"todos/{name(1)}.json", "[]")
    sh(BACKUP).ok()
    put(copy, said() * 3)
    sh(BACKUP).ok()
    found = {record.get("place"): record for record in sh(f"csb-show {name(1)}").ok().records}
    assert [file["path"] for file in found["copy"]["files"]] == [copy]
    assert [one["path"] for one in found["copy"]["versions"]] == [copy, copy]
    assert [one["path"] for one in found[None]["versions"]] == [MAIN]
    (listed,) = sh("csb-list | jq -c 'select(.place == \"copy\")' | csb-show").ok().records
    assert listed == found["copy"]


def test_what_it_was_continued_in_is_a_fork(sh, indexed, home):
    db = sqlite3.connect(home.backup / "session-backup.db")
    for number, more in ((1, {"continued_in": name(2).upper()}), (2, {"started": "2026-02"}),
                         (3, {"parent_session_id": name(1), "started": "2026-01"})):
        text, path = db.execute("SELECT record, path FROM session WHERE session_id = ?",
                                (json.dumps(name(min(number, 2))),)).fetchone()
        record = {**json.loads(text), "session_id": name(number), **more}
        path = path if number < 3 else json.dumps(f"{home.claude}/projects/-w/{name(3)}.jsonl")
        db.execute("REPLACE INTO session (path, root, project, session_id, state, words, record) "
                   "VALUES (?, ?, '\"-w\"', ?, 'present', '', ?)",
                   (path, json.dumps(record["root"]), json.dumps(name(number)),
                    json.dumps(record)))
    db.commit()
    assert show(sh)["forks"] == [name(3), name(2)]


def test_a_store_that_is_away_is_said(sh, stored):
    done = sh(f"csb-show --git-dir ~/away {name(1)}")
    assert (done.rc, done.err.count("\n")) == (0, 1) and "Is its disk mounted?" in done.err
    assert len(done.records[0]["files"]) == len(FILES)
    assert done.records[0]["versions"] == []


def test_a_damaged_index(sh, stored, home):
    (home.backup / "session-backup.db").write_bytes(b"x" * 8192)
    done = sh(f"csb-show {name(1)}")
    assert (done.rc, done.err.count("\n")) == (1, 1) and "csb-index --rebuild" in done.err
    done = sh(f"csb show {name(1)}")
    assert done.rc == 0 and name(1) in done.out, "csb makes it anew"


def test_projects_that_are_away(sh, stored, home):
    """What the store holds is shown: it may be all that there is."""
    sh("rm -r ~/.claude/projects").ok()
    done = sh(f"csb-show {name(1)}")
    assert done.rc == 0 and "is a disk not mounted?" in done.err
    assert done.records[0]["state"] == "missing"
    assert {file["path"] for file in done.records[0]["files"]} == set(FILES)


@pytest.mark.long
def test_one_id_in_two_projects_and_a_husk(sh, session, put, home):
    put(f"projects/-v/{name(1)}.jsonl", said(slug="plan-b"))
    put(f"projects/-v/{name(9)}/tool-results/x", "husk")
    sh(BACKUP).ok()
    found = {r["project"]: r for r in sh(f"csb-show {name(1)}").ok().records}
    assert set(found) == {"-v", "-w"} and len(found["-w"]["files"]) == 14
    assert {f["path"].split("/")[0] for f in found["-v"]["files"]} == {
        "plans", "projects", "todos", "file-history", "tasks"}
    assert [f["path"] for f in found["-v"]["files"] if f["path"].startswith("projects/")] == [
        f"projects/-v/{name(1)}.jsonl"]
    record = json.dumps({"session_id": name(1), "project": "-v"}).encode()
    assert [r["project"] for r in sh("csb-show", record).ok().records] == ["-v"]
    for project in ("-v", "-w"):
        (home.claude / f"projects/{project}/{name(1)}.jsonl").unlink()
    sh(BACKUP).ok()
    for record in sh(f"csb-show {name(1)}").ok().records:
        assert {f["path"].split("/")[1] for f in record["files"]
                if f["path"].startswith("projects/")} == {record["project"]}
    husk = show(sh, name(9))
    assert (husk["state"], len(husk["files"]), husk["versions_total"]) == ("husk", 1, 1)


def test_many_sessions(sh, put):
    """More than are looked up at a time, in the order asked for."""
    for number in range(250):
        put(f"projects/-w/{name(number)}.jsonl", said(number))
    sh(BACKUP).ok()
    found = sh("csb-list | csb-show").ok().records
    assert [r["session_id"] for r in found] == [
        r["session_id"] for r in sh("csb-list").ok().records]
    assert {(len(r["files"]), r["versions_total"]) for r in found} == {(1, 1)}


@pytest.mark.parametrize("meta", ["", "{", "[]", "7", "\xff", "[" * 50000,
                                  '{"agentType":"x"}' + " " * 70000])
@pytest.mark.few(1)
def test_a_bad_meta_file(sh, put, meta, home):
    """It costs what it would have said, of a live session and of a deleted one."""
    put(f"{SIDE}/subagents/agent-a1.jsonl", "{}\n")
    put(f"{SIDE}/subagents/agent-a1.meta.json", meta)
    put(MAIN, said())
    sh(BACKUP).ok()
    for where in ("disk", "store"):
        done = sh(f"csb-show {name(1)}")
        assert done.rc == bool(done.err) and done.err.count("\n") <= 1, (where, done)
        assert agents(done.records[0]) == [{"subagent": "a1", "size": 3}]
        sh(f"rm -r ~/.claude/{SIDE}* && touch ~/.claude/projects/x && {BACKUP}")


def test_what_cannot_be_read_is_named(sh, session, home):
    sh(INDEX).ok()
    (home.claude / "tasks").chmod(0)
    (home.claude / "projects/-w/agent-x.jsonl").chmod(0)
    try:
        done = sh(f"csb-show {name(1)}")
        assert done.rc == 1 and done.err.count("\n") == 2 and "Permission denied" in done.err
        assert len(done.records[0]["files"]) == 13
    finally:
        (home.claude / "tasks").chmod(0o700)
