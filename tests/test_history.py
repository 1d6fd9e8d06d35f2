"""csb-history: every version that a store holds, whoever stored it."""
import json
import time

import pytest
from conftest import line, name, problems

pytestmark = pytest.mark.logic

STORE = "csb-changes --accept-deletions | csb-gitcommit >/dev/null"
GIT = "git -c user.name=a -c user.email=a@b -c init.defaultBranch=master"
AT = "2026-01-02T03:04:{:02}Z"


def path(number, project="-w"):
    return f"projects/{project}/{name(number)}.jsonl"


def become(put, where, text):
    """Write a text to a path below the Claude directory, or remove what is there (None)."""
    file = put(where, text or "", mtime=time.time())
    if text is None:
        file.unlink()


@pytest.fixture
def lived(put, sh):
    """lived(*texts, where): a path has each of these texts, stored one after the other."""
    def run(*texts, where=None):
        for text in texts:
            become(put, where or path(1), text)
            sh(STORE).ok()
    return run


def changes(done):
    """[(change, size)] of the versions that were listed."""
    return [(r["change"], r["size"]) for r in done.ok().records]


def test_newest_first_and_how_each_became(sh, lived, put):
    put("settings.json", "{}")
    lived("one\n", "one\ntwo\n", "one\n", "eno\n", None, "eno\n", "eno\nmore\n", None)
    found = sh(f"csb-history {name(1)}")
    assert changes(found) == [("grew", 9), ("revived", 4), ("rewritten", 4), ("shrunk", 4),
                              ("grew", 8), ("new", 4)]
    git = 'git --git-dir="$CSB_HOME/git"'
    newest, *_ = records = found.records
    for record in records:
        assert list(record)[:8] == "kind session_id project path commit oid at size".split()
        assert (record["session_id"], record["project"], record["path"]) == (
            name(1), "-w", path(1))
        shown = sh(f"{git} show {record['commit']}:{record['path']} | wc -c").ok()
        assert int(shown.out) == record["size"]
        when = "--date=format:%Y-%m-%dT%H:%M:%SZ --format=%cd"
        assert sh(f"{git} log -1 {when} {record['commit']}").ok().out.strip() == record["at"]
        assert ("deleted_at" in record) == (record is newest)
    assert newest["deleted_at"] >= newest["at"]
    assert changes(sh("csb-history --path settings.json")) == [("new", 2)]


def test_grew_goes_by_the_size(sh, lived):
    lived("one\ntwo\n", "two\none\nmore\n", "two\none\nmore\nand\n")
    assert changes(sh(f"csb-history {name(1)}")) == [("grew", 17), ("grew", 13), ("new", 8)]


def test_a_line_of_it_is_restored(sh, lived, home):
    """The version before the last, and each other."""
    lived("one\n", "one\ntwo\n", "stub\n")
    main = home.claude / path(1)
    main.unlink()
    typed = sh(f"csb history {name(1)}").ok().out.rpartition("Bring one back: ")[2]
    assert "| csb-restore --target-dir DIR" in " ".join(typed.split())
    sh(f"csb-history {name(1)} | sed -n 2p | csb-restore").ok()
    assert main.read_text() == "one\ntwo\n"
    for number, text in ((1, "stub\n"), (3, "one\n")):
        sh(f"csb-history {name(1)} | sed -n {number}p | csb-restore --target-dir ~/{number}").ok()
        assert (home.path / str(number) / path(1)).read_text() == text


def test_which_sessions(sh, lived, put):
    """Operands, records and paths; of each path once, in the order asked for."""
    put(path(2), "2\n")
    put(path(2, "-x"), "22\n")
    lived("1\n")
    numbers = lambda done: [(r["project"], int(r["session_id"][-12:])) for r in done.ok().records]
    assert numbers(sh(f"csb-history {name(2)} {name(1)} {name(2)}")) == [
        ("-w", 2), ("-x", 2), ("-w", 1)]
    assert numbers(sh("csb-history 000001 0002")) == [("-w", 1), ("-w", 2), ("-x", 2)]
    for record, expected in (
            ({"session_id": name(2), "project": "-x"}, [("-x", 2)]),
            ({"session_id": name(2), "project": "-y"}, [("-w", 2), ("-x", 2)]),
            ({"transcript_path": f"/a/{name(1)}.jsonl", "cwd": "/"}, [("-w", 1)]),
            ({"kind": "version", "session_id": name(2), "path": path(2)}, [("-w", 2)]),
            ({"kind": "change", "path": path(1)}, [("-w", 1)])):
        assert numbers(sh("csb-history", json.dumps(record).encode())) == expected, record
    sh("csb-find | csb-index >/dev/null").ok()
    assert sorted(numbers(sh("csb-list | csb-history"))) == [("-w", 1), ("-w", 2), ("-x", 2)]
    assert numbers(sh(f"csb-history --path $CLAUDE_CONFIG_DIR/{path(1)}")) == [("-w", 1)]
    assert sh("csb-find | csb-history | jq -r .kind").ok().out.split()[0] == "end", "passed on"
    assert sh("csb-history", b"").ok().out == ""


def test_what_cannot_be_found(sh, lived, home):
    done = sh(f"csb-history {name(1)}")
    assert (done.rc, done.out, done.err.count("\n")) == (3, "", 1)
    lived("1\n")
    lived("2\n", where=path(2))
    for words, status in ((name(3), 1), ("3f4a", 2), ("1", 1), ("--path x", 1), ("--no", 2)):
        done = sh(f"csb-history {words}")
        assert (done.rc, done.out, len(problems(done.err))) == (status, "", 1), done
    done = sh("csb-history", f"{name(3)}\n3f4a\nrubbish\n{name(1)}\n".encode())
    assert done.rc == 1 and len(problems(done.err)) == 3 and len(done.records) == 1


def test_a_session_without_a_transcript_and_odd_names(sh, lived, put):
    put(f"projects/-w/{name(1)}/tool-results/a\n\udcff.txt".encode("utf-8", "surrogateescape")
        .decode("utf-8", "surrogateescape"), "a")
    lived("1", "22", where=f"projects/-w/{name(1)}/b")
    assert [(r["path"].rsplit("/", 1)[1], r["change"]) for r in
            sh(f"csb-history {name(1)}").ok().records] == [
        ("b", "changed"), ("b", "new"), ("a\n\udcff.txt", "new")]
    owned = json.dumps({"sessionId": name(3)}) + "\n"
    lived(owned, owned * 2, where="projects/-v/agent-a.jsonl")
    found = sh(f"csb-history {name(3)}")
    assert changes(found) == [("grew", 2 * len(owned)), ("new", len(owned))]
    assert {r["session_id"] for r in found.records} == {name(3)}
    assert changes(sh("csb-history 000003")) == changes(found)
    lived(f'{{"sessionId":"{name(1)}"}}\n', where="projects/-w/agent-b.jsonl")
    lived("{}\n")
    assert changes(sh(f"csb-history {name(1)}")) == [("new", 3)], "now it has one"


@pytest.mark.long
def test_other_stores(sh, lived, put, home):
    """A bare clone, the user's repository with our ref, and what an older tool committed."""
    lived("1\n", "1\n2\n")
    mine = sh(f"csb-history {name(1)}").ok().out
    sh('git clone -q --bare "$CSB_HOME/git" ~/clone').ok()
    assert sh(f"csb-history --git-dir ~/clone {name(1)}").ok().out == mine
    sh("mv $CSB_HOME ~/away; cd ~/.claude && git init -q && cd .git && touch x").ok()
    commit = f"git add -A && {GIT} commit -qm x"
    date = "GIT_COMMITTER_DATE='2026-01-02T03:04:0{}Z' "
    for number, text in ((1, "1\n"), (2, "1\n2\n"), (3, None), (4, "1\n2\n3\n")):
        become(put, path(1), text)
        sh(f"cd ~/.claude && export {date.format(number)} && {commit}").ok()
    found = sh(f"csb-history {name(1)}")
    assert changes(found) == [("revived", 6), ("grew", 4), ("new", 2)]
    assert [r["at"] for r in found.records] == [AT.format(n) for n in (4, 2, 1)]
    put(path(1), "1\n2\n3\n4\n")
    sh(STORE).ok()
    assert sh("git -C ~/.claude rev-parse -q --verify refs/csb/main").rc == 0
    assert changes(sh(f"csb-history {name(1)}")) == [
        ("grew", 8), ("revived", 6), ("grew", 4), ("new", 2)], "one history out of two refs"


def test_a_merge_and_a_clock_that_went_back(sh, put, home):
    """What a merge brings in is no new version; the order of commits beats their times."""
    repo = home.path / "repo"
    repo.mkdir()
    commit = f"git add -A && {GIT} commit -qm x"
    file = repo / path(1)
    file.parent.mkdir(parents=True)
    sh(f"git init -q -b main . && {GIT} commit -q --allow-empty -m x", cwd=repo).ok()
    for second, text in ((30, "1\n"), (10, "1\n2\n"), (20, "1\n2\n3\n")):
        file.write_text(text)
        sh(f"export GIT_COMMITTER_DATE={AT.format(second)} && {commit}", cwd=repo).ok()
    sh(f"git checkout -q -b side HEAD~3 && touch y && {commit} && git checkout -q main && "
       f"{GIT} merge -q --no-edit side", cwd=repo).ok()
    found = sh(f"csb-history --git-dir {repo}/.git {name(1)}")
    assert changes(found) == [("grew", 6), ("grew", 4), ("new", 2)]
    assert [r["at"][-3:-1] for r in found.records] == ["20", "10", "30"]


def test_what_the_store_has_lost_is_said(sh, lived, home):
    lived("1\n", "1\n2\n", "1\n2\n3\n")
    oid = sh(f"csb-history {name(1)} | sed -n 2p | jq -r .oid").ok().out.strip()
    (home.backup / "git/objects" / oid[:2] / oid[2:]).unlink()
    done = sh(f"csb-history {name(1)}")
    assert done.rc == 1 and "has lost 1 version" in done.err
    assert [r["size"] for r in done.records] == [6, 2]


def test_all_files_of_a_session(sh, put, home):
    """Each where it was stored last, flat agents and plans too; nothing of others."""
    slug, owned = '{"slug":"plan-a"}\n', json.dumps({"sessionId": name(1)}) + "\n"
    mine = {path(1): slug, f"projects/-w/{name(1)}/tool-results/x": "x", "plans/plan-a.md": "p",
            "projects/-w/agent-a1.jsonl": owned, f"todos/{name(1)}-agent.json": "[]",
            f"file-history/{name(1)}/a@v1": "h"}
    others = {path(2): "2\n", "plans/plan-b.md": "b", "projects/-w/agent-b.jsonl": "{}\n",
              "projects/-x/agent-a1.jsonl": owned.replace("0001", "0002"), "settings.json": "{}"}
    for where, text in {**mine, **others}.items():
        put(where, text)
    sh(STORE).ok()
    put(path(1), slug * 2)
    sh(STORE).ok()
    put("plans/plan-a.md").unlink()
    sh(STORE).ok()
    found = {r["path"]: r for r in sh(f"csb-history --files {name(1)}").ok().records}
    assert set(found) == set(mine)
    assert {r["session_id"] for r in found.values()} == {name(1)}
    assert found[path(1)]["size"] == 2 * len(slug)
    assert [p for p in found if "deleted_at" in found[p]] == ["plans/plan-a.md"]


def test_two_versions_are_compared_by_diff(sh, lived):
    """The lines of one version beside those of another, as README says it."""
    lines = [line(word, uuid=word) for word in "abc"]
    lived(lines[0], "".join(lines))
    older = f"csb-history {name(1)} | sed -n 2p | csb-cat"
    newer = f"csb-cat {name(1)}"
    done = sh(f"diff <({older}) <({newer}) | grep -v session_id")
    assert (done.rc, done.err) == (1, "")
    assert [text for text in done.out.splitlines(True) if text[0] in "<>"] == [
        f"> {text}" for text in lines[1:]]


@pytest.mark.parametrize("more, changes_of_both", [
    ("", ["moved", "grew", "new"]), ("three\n", ["grew", "grew", "new"])])
@pytest.mark.few(1)
def test_a_session_that_was_moved_has_one_history(sh, lived, put, home, more, changes_of_both):
    """Claude Code moves a transcript when a worktree is left: that is no deletion."""
    lived("one\n", "one\ntwo\n", where=path(1, "-worktree"))
    put(path(1, "-worktree")).unlink()
    lived(f"one\ntwo\n{more}")
    found = sh(f"csb-history {name(1)}").ok().records
    assert [r["change"] for r in found] == changes_of_both
    assert [r["project"] for r in found] == ["-w", "-worktree", "-worktree"]
    assert not any("deleted_at" in r for r in found)
    assert sh("csb-history", json.dumps(found[0]).encode()).ok().records[0]["path"] == path(1)
    only = json.dumps({"session_id": name(1), "project": "-worktree"}).encode()
    assert changes(sh("csb-history", only)) == [("grew", 8), ("new", 4)]
    files = sh(f"csb-history --files {name(1)}").ok().records
    assert [r["path"] for r in files] == [path(1)]
    put(path(1)).unlink()
    sh(STORE).ok()
    first, *others = sh(f"csb-history {name(1)}").ok().records
    assert "deleted_at" in first and not any("deleted_at" in r for r in others)


def test_a_session_that_was_moved_since_the_last_backup(sh, lived, put):
    lived("one\n", where=path(1, "-worktree"))
    put(path(1, "-worktree")).unlink()
    put(path(1), "one\ntwo\n")
    (record,) = sh(f"csb-history {name(1)}").ok().records
    assert (record["path"], record["change"]) == (path(1, "-worktree"), "new")


def test_two_that_differ_have_two_histories(sh, lived, put):
    lived("one\n", where=path(1, "-v"))
    put(path(1, "-v")).unlink()
    lived("two\nthree\n")
    assert changes(sh(f"csb-history {name(1)}")) == [("new", 4), ("new", 10)]


def test_files_have_the_times_that_they_had(sh, put, home):
    """Those that git does not keep, of deleted files, too; no other version's."""
    for where, text, when in ((path(1), "1\n", 981173106), (f"todos/{name(1)}.json", "[]", 981e6)):
        put(where, text, mtime=when)
    sh(STORE).ok()
    for where in (path(1), f"todos/{name(1)}.json"):
        put(where).unlink()
    sh(STORE).ok()
    found = {r["path"]: r for r in sh(f"csb-history --files {name(1)}").ok().records}
    assert found[path(1)]["mtime"] == "2001-02-03T04:05:06.000000000Z"
    assert found[f"todos/{name(1)}.json"]["mtime"].startswith("2001-02-01T")
    assert all("deleted_at" in r and r["at"] > "2002" for r in found.values())
    assert "mtime" not in sh(f"csb-history {name(1)}").out


def test_an_id_in_either_case(sh, lived):
    loud = name(1).upper()
    lived("1\n", "1\n2\n", where=f"projects/-w/{loud}.jsonl")
    for word in (loud, name(1), name(1)[:9]):
        found = sh(f"csb-history {word}")
        assert changes(found) == [("grew", 4), ("new", 2)]
        assert {r["session_id"] for r in found.records} == {loud}
