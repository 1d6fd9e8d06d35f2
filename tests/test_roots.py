"""csb-roots, csb-find --codex: sessions of other programs, kept and brought back like one's own."""
import json
import os
import shutil

import pytest
from conftest import line, name

pytestmark = pytest.mark.logic

ONE, TWO, THREE = (f"0199aaaa-0000-7000-8000-{number:012d}" for number in (1, 2, 3))


@pytest.fixture
def codex(home):
    """A directory as Codex has it, {id: path} of its sessions, and a session of Claude Code."""
    top = home.path / ".codex"
    paths = {ONE: top / f"sessions/2026/11/20/rollout-2026-11-20T18-00-00-{ONE}.jsonl",
             TWO: top / f"sessions/2026/11/21/rollout-2026-11-21T18-00-00-{TWO}.jsonl",
             THREE: top / f"archived_sessions/rollout-2026-10-20T18-00-00-{THREE}.jsonl"}
    for session, path in paths.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"type": "session_meta", "payload": {"id": session}}) + "\n")
        os.utime(path, (1767323045, 1767323045))
    (top / "auth.json").write_text('{"OPENAI_API_KEY": "secret"}')
    (top / "history.jsonl").write_text("{}\n")
    mine = home.claude / f"projects/-w/{name(1)}.jsonl"
    mine.parent.mkdir(parents=True)
    mine.write_text(line())
    return paths


def ids(done):
    return sorted(record["session_id"] for record in done.records if record["kind"] == "session")


def test_find(sh, home, codex):
    """Those of Codex, wherever it has them; the name of the file tells the id."""
    done = sh("csb-find --codex").ok()
    assert ids(done) == [ONE, TWO, THREE] and done.records[-1]["count"] == 3
    assert {r["transcript_path"] for r in done.records[:-1]} == set(map(str, codex.values()))
    assert {r["project"] for r in done.records[:-1]} == {"sessions", "archived_sessions"}
    assert not any("purge_at" in record for record in done.records), "nobody purges there"
    assert ids(sh(f"csb-find --codex --session {TWO[-6:]}").ok()) == [TWO]
    (home.path / ".codex").rename(home.path / "other")
    assert ids(sh("csb-find --codex ~/other").ok()) == [ONE, TWO, THREE]
    assert ids(sh("csb-find --codex", CODEX_HOME=str(home.path / "other")).ok())
    assert sh("csb-find --codex").rc == 1
    done = sh("csb-find --codex ~/other | jsonl_snapshot --dest-dir out").ok()
    assert len(done.records) >= 3 and len(list((home.path / "out").rglob("*.gz"))) == 3


def test_backed_up_and_brought_back(sh, home, codex):
    """What one program lost comes back to where it was; what it keeps to itself is not taken."""
    sh("csb-config roots ~/.codex").ok()
    sh("csb-backup --quiet").ok()
    root, = sh("csb-roots").ok().records
    assert (root["name"], root["path"]) == ("codex", str(home.path / ".codex"))
    assert ids(sh("csb-list").ok()) == [name(1)]
    held = sh(f"git --git-dir={root['csb_home']}/git ls-tree -r --name-only main").ok().out
    assert held.count("rollout-") == 3 and "auth.json" not in held and "history" not in held
    assert sh("csb --root codex list --oneline").ok().out.count("0199aaaa") == 3
    assert sh("csb --root codex status").rc == 0
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in codex.values()}
    codex[ONE].unlink()
    shutil.rmtree(codex[TWO].parent)
    sh("csb-backup --quiet").ok()
    done = sh("csb --root codex list --deleted --oneline").ok().out
    assert ONE in done and TWO in done and THREE not in done
    line = "csb --root codex list --deleted --oneline | cut -c1-36 | csb --root codex restore"
    assert sh(line).rc == 0
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in before} == before
    sh("csb --root codex verify").ok()
    os.unlink(f"{root['csb_home']}/session-backup.db")
    codex[ONE].unlink()
    assert ONE in sh("csb --root codex list --deleted").out, "from the store alone"


def test_the_fullest_version(sh, home, codex):
    """A session that was cut off at the end comes back whole."""
    whole = codex[ONE].read_bytes() + b'{"type":"event"}\n' * 99
    codex[ONE].write_bytes(whole)
    sh("csb-config roots ~/.codex && csb-backup --quiet").ok()
    codex[ONE].write_bytes(whole[:300])
    sh("csb-backup --quiet").ok()
    codex[ONE].unlink()
    done = sh(f"csb --root codex restore {ONE}")
    assert done.rc == 0 and "had shrunk" in done.err and codex[ONE].read_bytes() == whole


def test_any_directory(sh, home, codex):
    """One that has no such folders is taken as it is; two of one name are two."""
    for parent in ("a", "b"):
        (home.path / parent / "logs/deep").mkdir(parents=True)
        (home.path / parent / f"logs/deep/run-{ONE}.jsonl").write_text(parent * 9 + "\n")
        (home.path / parent / "logs/notes.txt").write_text(parent)
    sh("csb-config roots ~/a/logs ~/b/logs && csb-backup --quiet").ok()
    names = [root["name"] for root in sh("csb-roots").ok().records]
    assert names[0] == "logs" and len(set(names)) == 2
    for root, parent in zip(names, "ab", strict=True):
        path = home.path / parent / f"logs/deep/run-{ONE}.jsonl"
        path.unlink()
        (home.path / parent / "logs/notes.txt").unlink()
        sh(f"csb --root {root} restore {ONE}").ok()
        assert path.read_text() == parent * 9 + "\n"
        sh(f"csb --root {root} restore --in-place --path '**/notes.txt'").ok()
        assert (home.path / parent / "logs/notes.txt").read_text() == parent


def test_one_that_is_gone_stops_no_other(sh, home, codex):
    """It is said, at each run; nothing counts as deleted, and one's own sessions are stored."""
    (home.path / "logs").mkdir()
    (home.path / f"logs/run-{ONE}.jsonl").write_text("x\n")
    sh("csb-config roots ~/logs ~/.codex && csb-backup --quiet").ok()
    (home.path / "logs").rename(home.path / "away")
    (home.claude / f"projects/-w/{name(2)}.jsonl").write_text(line())
    done = sh("csb-backup --quiet")
    assert done.rc == 1 and f"cannot find the directory '{home.path}/logs'" in done.err
    assert ids(sh("csb-list").ok()) == [name(1), name(2)]
    (home.path / "logs").mkdir()
    assert sh("csb-backup --quiet").rc == 1
    assert sh("csb --root logs list --deleted").out.count(ONE) == 0, "an empty place is no news"
    assert sh(f"csb --root logs restore {ONE}").rc == 0
    assert (home.path / f"logs/run-{ONE}.jsonl").read_text() == "x\n"


@pytest.mark.parametrize("line, rc, words", [
    ("csb-config roots ~/nowhere", 2, "it is no directory"),
    ("csb-roots nope", 2, "there are codex"), ("csb --root nope list", 2, "there are codex"),
    ("echo '{\"roots\": 3}' >$CSB_HOME/config.json; csb-roots", 1, "no list of directories"),
    ("echo '{\"roots\": [\"\"]}' >$CSB_HOME/config.json; csb-backup", 1, "no list of directories"),
    ("mkdir -p $CSB_HOME/roots/codex/claude/projects/sessions; csb-roots", 1, "leads to another"),
    ("csb-config roots $HOME; csb-roots", 1, "the backups are in it"),
    ("mkdir -p $CSB_HOME/x; csb-config roots $CSB_HOME/x; csb-roots", 1, "or it in them"),
    ("mkdir -p $CSB_HOME && touch $CSB_HOME/roots; csb-roots", 1, "cannot make")])
@pytest.mark.few(3)
def test_bad_roots(sh, home, codex, line, rc, words):
    sh("csb-config roots ~/.codex").ok()
    done = sh(line)
    assert done.rc == rc and words in done.err, done


def test_the_login_is_not_taken(sh, home, codex):
    """Not before the first session either, and not when the sessions were away for a while."""
    for folder in ("sessions", "archived_sessions"):
        (home.path / ".codex" / folder).rename(home.path / folder)
    sh("csb-config roots ~/.codex && csb-backup --quiet")
    for folder in ("sessions", "archived_sessions"):
        (home.path / folder).rename(home.path / ".codex" / folder)
    sh("csb-backup --quiet").ok()
    root, = sh("csb-roots").ok().records
    held = sh(f"git --git-dir={root['csb_home']}/git log --name-only --format= main").ok().out
    assert held.count("rollout-") == 3 and "auth.json" not in held


def test_a_root_keeps_its_name(sh, home, codex):
    """Whatever becomes of others: its backups go on in the same store."""
    tops = [home.path / top for top in ("a/logs", "b/logs", "c/logs-backup")]
    for number, top in enumerate(tops):
        top.mkdir(parents=True)
        (top / f"run-{name(number)}.jsonl").write_text("x\n")
    sh("csb-config roots ~/a/logs ~/b/logs ~/c/logs-backup && csb-backup --quiet").ok()
    before = {root["path"]: root["csb_home"] for root in sh("csb-roots").ok().records}
    assert len(set(before.values())) == 3
    for words in ("~/b/logs", "~/c/logs-backup ~/b/logs ~/a/logs"):
        sh(f"csb-config roots {words} && csb-backup --quiet").ok()
        after = {root["path"]: root["csb_home"] for root in sh("csb-roots").ok().records}
        assert after == {path: before[path] for path in after}
    for number, home_of in enumerate(before.values()):
        assert name(number) in sh(f"git --git-dir={home_of}/git ls-tree -r main").ok().out
