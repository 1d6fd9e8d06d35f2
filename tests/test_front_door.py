"""csb: every tool under one name, its records as text."""
import json
import os
import re
import shutil

import pytest
from conftest import name

SLUG = "-srv-app"


def write(home, *numbers, title="question"):
    """Sessions in the Claude directory."""
    folder = home.claude / "projects" / SLUG
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        record = {"type": "user", "sessionId": name(number), "cwd": "/srv/app", "uuid": "u",
                  "timestamp": f"2026-01-02T03:{number:02}:05.678Z",
                  "message": {"role": "user", "content": f"{title} {number}"}}
        (folder / f"{name(number)}.jsonl").write_text(json.dumps(record) + "\n")
    return folder


def names(tools):
    return sorted(filter(re.compile("csb|csb-[a-z-]+|[a-z]+_[a-z]+").fullmatch,
                         os.listdir(tools.bin)))


@pytest.mark.long
@pytest.mark.parametrize("line", ["csb", "csb help", "csb --help", "csb -h"])
@pytest.mark.logic
@pytest.mark.few(1)
def test_help_has_every_tool(sh, tools, line):
    out = sh(line).ok().out
    assert max(map(len, out.splitlines())) <= 100
    flat = " ".join(out.split())
    for tool in set(names(tools)) - {"csb"}:
        first = " ".join(sh(f"{tool} --help").ok().out.split("\n\n")[1].split())
        assert f"{tool.removeprefix('csb-')} {first}" in flat
    assert set(re.findall(r"^  (\w+) ", out, re.M)) - {"csb"} <= {
        tool.removeprefix("csb-") for tool in names(tools)}, "tools that are not there"


@pytest.mark.logic
@pytest.mark.long
def test_help_of_a_tool(sh, tools):
    for tool in names(tools):
        if tool != "csb":
            short = tool.removeprefix("csb-")
            text = sh(f"{tool} --help").ok().out
            assert sh(f"csb {short} --help").ok().out == text
    for line in ("csb help find", "csb csb-find -h"):
        assert sh(line).ok().out == sh("csb-find --help").ok().out
    number = sh("csb --version").ok().out.removeprefix("csb ")
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", number)
    assert sh("csb list --version").ok().out == f"csb-list {number}"


@pytest.mark.parametrize("line, near", [
    ("lst", "'list'"), ("bakcup", "'backup'"), ("csb-lst", "'list'"),
    ("rebuild", "'rebuild-index'"), ("jsonl_snapshots", "'jsonl_snapshot'"), ("git", ""),
    ("sh", ""), ("../bin/csb-list", ""), ("''", ""), ("'l\ni\x1bst'", ""), ("qqqqqqq", ""),
    ("csb", "")])
def test_an_unknown_name_suggests_the_nearest(sh, line, near):
    done = sh(f"csb {line} --some option")
    assert (done.rc, done.out, done.err.count("\n")) == (2, "", 1), done
    assert near in done.err and ("did you mean" in done.err or not near)


def test_misuse(sh, home):
    write(home, 1)
    for line in ("csb --nope", "csb -x list", "csb list --top", "csb list --top x", "csb list -n x",
                 "csb list --nope"):
        done = sh(line)
        assert (done.rc, done.out) == (2, ""), (line, done)
        assert done.err.count("\n") == 1, (line, done)


def test_a_missing_tool_is_status_3(sh, stages):
    stages("csb-backup", None)
    done = sh("csb backup")
    assert (done.rc, done.err.count("\n")) == (3, 1)


def test_list_just_works(sh, home):
    write(home, 1, 2)
    out = sh("csb list").ok().out
    assert out.index(name(2)) < out.index(name(1)) and "question 2" in out
    assert "start /srv/app" in out and not (home.backup / "git").exists()
    write(home, 3)
    assert name(3) in sh("csb list").ok().out, "an index that is never stale"


def test_list_shows_twenty_and_says_how_many_more(sh, home):
    write(home, *range(1, 24))
    ids = lambda line: re.findall(r"3f4a9b10[0-9a-f-]{28}", sh(line).ok().out)
    newest_first = [name(n) for n in range(23, 0, -1)]
    assert ids("csb list") == newest_first[:20]
    assert sh("csb list").ok().out.endswith("20 shown, 3 more (-n 0 shows all)\n")
    assert ids("csb list -n 5") == ids("csb list -n5") == newest_first[:5]
    assert sh("csb list -n 5").ok().out.endswith("5 shown, 18 more (-n 0 shows all)\n")
    assert ids("csb list -n 0") == ids("csb list -n 23") == newest_first
    assert ids("csb list --oneline") == newest_first, "a menu shows everything"
    assert ids("csb list --sort started -n 3 --oneline --top 1") == newest_first[:3]
    assert ids("csb list --sort oldest -n 2") == newest_first[::-1][:2]
    assert ids("csb list 'question 7'") == ids("csb list -n 9 -- 'question 7'") == [name(7)]
    assert len(sh("csb-list").ok().records) == 23


def test_list_of_deleted_sessions(sh, home):
    folder = write(home, 1, 2)
    sh("csb backup").ok()
    (folder / f"{name(1)}.jsonl").unlink()
    assert name(1) not in sh("csb list").ok().out
    out = sh("csb list --deleted").ok().out
    assert name(1) in out and name(2) not in out and "DELETED 20" in out


def test_backup_as_text(sh, home):
    write(home, 1)
    out = sh("csb backup").ok().out
    assert "commit  " in out and f"{name(1)}  2026-01-02 03:01  question 1  /srv/app  [new" in out
    assert sh("csb backup").ok().out == ""
    write(home, 2)
    assert sh("csb backup --quiet").ok().out == ""
    assert sh("csb list").ok().out.count("question") == 2
    sh("rm -r ~/.claude").ok()
    for line in ("csb backup", "csb backup --quiet"):
        done = sh(line)
        assert (done.rc, done.out, done.err.count("\n")) == (1, "", 1), done


@pytest.mark.long
def test_rebuild_index(sh, home):
    folder = write(home, 1, 2)
    sh("csb backup").ok()
    (folder / f"{name(1)}.jsonl").unlink()
    sh("csb backup").ok()
    before = sh("csb-list --all").ok().records
    sh("rm ~/.claude-backup/session-backup.db*").ok()
    out = sh("csb rebuild-index").ok().out
    assert name(1) in out and name(2) in out
    kept = lambda records: [(r["session_id"], r["state"], r["title"]) for r in records]
    assert kept(sh("csb-list --all").ok().records) == kept(before)


def test_tools_without_records_are_run_as_they_are(sh, home):
    record = json.dumps({"kind": "session", "session_id": name(1), "title": "x"}).encode() + b"\n"
    assert sh("csb fmt --oneline", record).ok().out == sh("csb-fmt --oneline", record).ok().out


def test_records_come_as_text(sh, home):
    write(home, 1)
    assert sh("csb find").ok().out == sh("csb-find | csb-fmt").ok().out != ""
    assert sh("csb changes").ok().out == sh("csb-changes | csb-fmt").ok().out != ""
    assert sh("csb changes | csb gitcommit").rc == 1, "text is no record"
    assert sh("csb-changes | csb gitcommit").ok().out.startswith("commit  ")


def test_stores_and_directories_of_ones_own(sh, home, tmp_path):
    write(home, 1)
    home.claude.rename(tmp_path / "elsewhere")
    there = f"--claude-dir {tmp_path}/elsewhere --git-dir {tmp_path}/store"
    sh(f"csb gitcommit --make {there}").ok()
    assert name(1) in sh(f"csb list {there}").ok().out, "the index is made of that directory"
    assert name(1) in sh(f"csb changes {there}").ok().out
    sh(f"csb backup {there}").ok()
    assert (tmp_path / "store").is_dir()


@pytest.mark.parametrize("code, rc", [("sys.exit(5)", 5), ("sys.exit(2)", 2), ("sys.exit(75)", 75),
                                      ("os.kill(os.getpid(), signal.SIGKILL)", 137), ("", 0)])
def test_the_status_is_the_tools(sh, stages, code, rc):
    stages("csb-backup", f"print('{{\"a\":1}}', flush=True)\n{code}")
    done = sh("csb backup")
    assert (done.rc, done.out, done.err) == (rc, '{"a":1}\n', "")


@pytest.mark.parametrize("stage, code, words", [
    ("csb-find", "sys.exit('csb-find: one\\ntwo\\nthree')", "csb-find: one (and 2 lines more)"),
    ("csb-index", "sys.stdin.read()\nsys.exit(1)", "status 1"),
    ("csb-index", "os.kill(os.getpid(), signal.SIGKILL)", "status 137"),
    ("csb-index", None, "cannot find 'csb-index'"),
    ("csb-find", None, "cannot find 'csb-find'")])
@pytest.mark.logic
@pytest.mark.few(2)
def test_an_index_that_cannot_be_brought_up_to_date(sh, home, stages, stage, code, words):
    write(home, 1)
    sh("csb backup").ok()
    write(home, 2)
    stages(stage, code)
    done = sh("csb list")
    assert (done.rc, done.err.count("\n")) == (0, 1), done
    assert f"csb: cannot bring the index up to date: {words}" in done.err
    assert name(1) in done.out and name(2) not in done.out


def test_without_anything(sh, home):
    home.claude.rmdir()
    done = sh("csb list")
    assert (done.out, done.err.count("\n")) == ("", 1) and str(home.claude) in done.err


def test_broken_pipes_and_full_disks(sh, home):
    write(home, *range(1, 10))
    sh("csb backup").ok()
    assert sh("{ sleep 0.3; csb list; } | true").rc == 141
    assert sh("{ sleep 0.3; csb; } | true").rc == 141
    for line in ("csb list >/dev/full", "csb >/dev/full", "csb --version >/dev/full"):
        done = sh(line)
        assert (done.rc, done.err.count("\n")) == (1, 1), (line, done)


def test_where_the_others_are_found(sh, home, tools, tmp_path):
    write(home, 1)
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "csb").symlink_to(os.path.join(tools.bin, "csb"))
    rest = home.env["PATH"].removeprefix(tools.bin + ":")
    assert name(1) in sh("csb list", PATH=f"{tmp_path}/linked:{rest}").ok().out
    (tmp_path / "copied").mkdir()
    shutil.copy(os.path.join(tools.bin, "csb"), tmp_path / "copied")
    library = os.path.join(os.path.dirname(tools.bin), "lib")
    if os.path.isdir(library):
        shutil.copytree(library, tmp_path / "copied/lib")
        shutil.copy(os.path.join(library, "old.py"), tmp_path / "copied")
    assert name(1) in sh("csb list", PATH=f"{tmp_path}/copied:{home.env['PATH']}").ok().out


@pytest.mark.long
def test_what_shows_the_records(sh, home):
    """The status takes a page, what was found goes by sessions; options ask for lines."""
    write(home, 1, 2)
    done = sh("csb status")
    assert (done.rc, done.err) == (1, "") and done.out.startswith("NOT everything is backed up\n")
    assert "  sessions     2 on disk\n" in done.out, "the index was brought up to date"
    assert f"projects/{SLUG}/{name(1)}.jsonl" in done.out
    sh("csb backup --quiet").ok()
    assert sh("csb status").ok().out.startswith("Everything is backed up\n")
    assert sh("csb status --oneline").ok().out.startswith("status  covered  2 files")
    out = sh("csb search question").ok().out
    assert out == sh("csb-search question | csb-hits").ok().out and f"\n{name(1)}\n  2026" in out
    assert sh("csb search -n 1 question").ok().out.count("3f4a9b10") == 1
    assert sh("csb search --oneline question").ok().out.splitlines()[0].startswith("3f4a9b10")
    assert sh("csb search -l question --oneline").ok().out.count("/srv/app") == 2
    assert "start /srv/app" in sh("csb search -l question").ok().out
    done = sh("csb search nothing_like_it")
    assert (done.rc, done.out, done.err.count("\n")) == (1, "", 1)


@pytest.mark.parametrize("tool", ["csb-show", "csb-tree", "csb-scan"])
def test_what_asks_the_index_finds_new_sessions(sh, home, stages, tool):
    write(home, 1)
    stages(tool, "os.execvp('csb-list', ['csb-list', *sys.argv[1:]])")
    assert name(1) in sh(tool.replace("-", " ", 1)).ok().out


def test_a_missing_index_is_made_for_the_status(sh, home):
    write(home, 1)
    sh("csb backup --quiet").ok()
    sh("rm ~/.claude-backup/session-backup.db*").ok()
    assert "  sessions     1 on disk\n" in sh("csb status").ok().out
    home.claude.rename(home.path / "gone")
    done = sh("csb status")
    assert (done.rc, done.err.count("\n")) == (1, 1)
    assert done.out.startswith("It cannot be told whether all is backed up\n! ")
