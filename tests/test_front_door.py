"""csb: every tool under one name, its records as text."""
import json
import os
import re
import shutil

import pytest
from conftest import PYTHON, name, on_terminal

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


def one_stored(sh, home):
    """One session, backed up."""
    write(home, 1)
    sh("csb backup").ok()


def names(tools):
    return sorted(filter(re.compile("csb|csb-[a-z-]+|[a-z]+_[a-z]+").fullmatch,
                         os.listdir(tools.bin)))


@pytest.mark.parametrize("line", ["csb", "csb help", "csb --help", "csb -h"])
@pytest.mark.logic
@pytest.mark.few(1)
def test_the_first_screen_has_what_people_use(sh, tools, line):
    """A dozen commands, in groups, all of them there; no stage of a pipe."""
    out = sh(line).ok().out
    assert max(map(len, out.splitlines())) <= 80 and len(out.splitlines()) <= 24
    commands = re.findall(r"^(?:\w[\w ]+)? +csb (\w+) ", out, re.M)
    assert len(commands) == 12 and {f"csb-{command}" for command in commands} <= set(names(tools))


@pytest.fixture
def first_screen(sh):
    """first_screen(): what csb prints. It goes without the state of the backup if that takes
    three seconds, as on a busy machine: then once more."""
    def ask():
        for _ in range(20):
            out = sh("csb").ok().out
            if not out.splitlines()[2].startswith("save "):
                return out
        pytest.fail(f"there is no state in {out}")
    return ask


@pytest.mark.logic
def test_the_first_screen_begins_with_the_state_of_the_backup(sh, home, first_screen):
    state = lambda: first_screen().splitlines()[2]
    write(home, 1, 2)
    (home.claude / "settings.json").write_text("{}")
    assert state().startswith("Nothing is backed up: there is no store at")
    sh("csb backup").ok()
    assert state() == "Everything is backed up. The last backup was just now."
    write(home, 3)
    assert re.fullmatch(r"1 file \(.*\) is not in the store as on disk \(csb backup\)", state())
    sh("csb backup").ok()
    for number in 1, 2, 3:
        (home.claude / "projects" / SLUG / f"{name(number)}.jsonl").unlink()
    write(home, 4)
    sh("csb backup").ok()
    gone = "3 sessions are gone from disk, the backup has them. Get them back: csb restore --deleted"
    assert gone in " ".join(first_screen().split())
    assert f"! {gone}" in " ".join(sh("csb status").out.split()), "fewer are there than went"
    assert sh("csb list").ok().out.endswith("3 deleted ones: csb list --deleted\n")
    assert "deleted ones" not in sh("csb list --oneline; csb list --json; csb list question").ok().out
    assert sh("csb restore --deleted").rc == 0
    sh("csb backup").ok()
    assert state() == "Everything is backed up. The last backup was just now."
    assert "deleted ones" not in sh("csb list").ok().out
    shutil.rmtree(home.claude / "projects")
    assert "csb restore --deleted" in " ".join(first_screen().split()[:60])
    sh("csb backup --accept-deletions").ok()
    assert state() == "Everything is backed up. The last backup was just now.", "that is said already"


@pytest.mark.logic
@pytest.mark.parametrize("code", ["sys.exit(3)", "print('[]')", "print('x')", None])
def test_the_first_screen_does_without_the_state(sh, stages, code):
    stages("csb-status", code)
    out = sh("csb").ok().out
    assert out.splitlines()[2].startswith("save ")


@pytest.mark.long
@pytest.mark.logic
def test_help_has_every_tool(sh, tools):
    out = sh("csb help --all").ok().out
    assert max(map(len, out.splitlines())) <= 80
    flat = " ".join(out.split())
    for tool in set(names(tools)) - {"csb"}:
        first = " ".join(sh(f"{tool} --help").ok().out.split("\n\n")[1].split())
        assert f"{tool.removeprefix('csb-')} {first}" in flat
    assert set(re.findall(r"^  (\w+) ", out, re.M)) <= {
        tool.removeprefix("csb-") for tool in names(tools)}, "tools that are not there"


def test_help_on_statuses(sh):
    out = sh("csb help exit").ok().out
    assert re.findall(r"^  (\d+) ", out, re.M) == ["0", "1", "2", "3", "75", "130", "141"]


@pytest.mark.logic
@pytest.mark.long
def test_help_of_a_tool(sh, tools):
    """That of the tool, under the name that was typed, and how csb shows it."""
    for tool in names(tools):
        if tool == "csb":
            continue
        short = tool.removeprefix("csb-")
        text = sh(f"{tool} --help").ok().out
        usage, _, rest = text.partition(" [")
        shown = sh(f"csb {short} --help").ok().out
        assert usage.split()[-1] == tool and shown.startswith(f"usage: csb {short} [")
        flat = " ".join(shown.split())
        assert " ".join(rest.partition("]")[2].split("\n\n", 1)[1].split()) in flat
        assert sh(f"csb help {short}").ok().out == shown
    assert "\n  --oneline " in sh("csb find -h").ok().out
    assert "--oneline" not in sh("csb log -h").ok().out, "its output is text"
    history = sh("csb history -h").ok().out
    assert "--verbose" in history and "--oneline" not in history, "it lists no sessions"
    number = sh("csb --version").ok().out.removeprefix("csb ")
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", number)
    assert sh("csb -V").ok().out == f"csb {number}"
    assert sh("csb find --version").ok().out == f"csb find {number}"


@pytest.mark.logic
@pytest.mark.parametrize("line, near", [
    ("lst", "'list'"), ("bakcup", "'backup'"), ("csb-lst", "'list'"),
    ("rebuild", "'rebuild-index'"), ("jsonl_snapshots", "'jsonl_snapshot'"), ("git", ""),
    ("sh", ""), ("../bin/csb-list", ""), ("''", ""), ("'l\ni\x1bst'", ""), ("qqqqqqq", ""),
    ("csb", "")])
@pytest.mark.few(6)
def test_an_unknown_name_suggests_the_nearest(sh, line, near):
    done = sh(f"csb {line} --some option")
    assert (done.rc, done.out, done.err.count("\n")) == (2, "", 1), done
    assert near in done.err and ("did you mean" in done.err or not near)


@pytest.mark.logic
@pytest.mark.few(5)
@pytest.mark.parametrize("typed, meant", [
    ("ls", "list"), ("grep question", "search question"), ("undelete", "restore --deleted"),
    (f"undelete {name(1)}", f"restore {name(1)}"), ("undo", "restore --deleted"),
    ("lost", "list --deleted"), ("rebuild-index", "index --rebuild"), ("list --gone", "list --deleted"),
    ("backup --no-gpg-sign", "backup"), ("backup -q", "backup --quiet"),
    ("list -q", "list"), ("list --deleted all", "list --all"),
    ("update rebuild-index", "index --rebuild"), ("commit", "backup"), ("rg x", "search x"),
    ("rebuild-index --claude-dir=/x", "index --claude-dir=/x --rebuild")])
def test_words_that_hands_expect(sh, stages, typed, meant):
    """They run what is meant, in its name."""
    tool, *words = meant.split()
    say = "print('SAID', *sys.argv[1:], os.environ['CSB_TYPED'].split(' ', 1)[1], file=sys.stderr)"
    for one in ("csb-list", "csb-search", "csb-restore", "csb-index", "csb-backup"):
        stages(one, say)
    said = [line for line in sh(f"csb {typed}").err.splitlines() if line.startswith("SAID")]
    said = said[-1].replace(" --end ", " ")     # what csb adds to see how a list ends
    assert said == " ".join(["SAID", *words, "csb", tool])


@pytest.mark.logic
@pytest.mark.parametrize("typed, instead", [
    ("distill x", "csb log --tools none ID"), ("update build-fts5", "csb search"),
    ("rm 3f4a", "csb restore"), ("trash x", "csb restore"), ("diff x y", "csb history"),
    ("uninstall", "csb setup --undo"), ("sync", "csb push"), ("export x", "csb log --html")])
def test_words_of_other_programs(sh, typed, instead):
    """What there is not names what there is."""
    done = sh(f"csb {typed}")
    assert (done.rc, done.out, done.err.count("\n")) == (2, "", 1) and instead in done.err


@pytest.mark.soak
@pytest.mark.logic
def test_whatever_hands_type_after_a_loss(sh, home, once, rounds):
    """It works, or says what to type."""
    some = slice(None, None, rounds(2, 1))
    once(one_stored)
    (path,) = home.claude.glob("projects/*/*.jsonl")
    session_id = path.stem
    (path.parent / "other").write_text("x")
    relative = path.relative_to(home.path)
    for words in ("restore all", "restore --all", "restore deleted", "rescue", "restore all -n",
                  f"restore {path}", f"restore {relative}", f"restore {session_id}.jsonl",
                  f"restore --project {path.parent.name} {session_id}",
                  "restore --deleted --since yesterday", "restore --deleted --since today")[some]:
        path.unlink(missing_ok=True)
        done = sh(f"csb {words}")
        assert done.rc == 0 and path.exists() == ("-n" not in words), (words, done)

    path.unlink(missing_ok=True)
    for words in ("deleted", "gone", "list --lost", "list --gone", "list -a", "ls --missing")[some]:
        assert session_id[:8] in sh(f"csb {words}").out, words
    for words in ("restore parser", "restore it please"):
        done = sh(f"csb {words}")
        assert done.rc == 1 and "csb restore --deleted brings back all that are gone" in done.err


@pytest.mark.logic
def test_records_are_there_for_who_asks(sh, home, once):
    once(one_stored)
    assert sh("csb list --json").ok().out == sh("csb-list").ok().out
    assert sh("csb find --json").ok().out == sh("csb-find").ok().out


@pytest.mark.logic
def test_misuse(sh, home):
    write(home, 1)
    for line in ("csb --nope", "csb -x list", "csb list --top", "csb list --top x", "csb list -n x",
                 "csb list --nope"):
        done = sh(line)
        assert (done.rc, done.out) == (2, ""), (line, done)
        assert done.err.count("\n") == 1, (line, done)
    assert sh("csb list --top").err == (
        "csb list: argument --top: expected one argument (csb list --help lists the options)\n")


def test_a_missing_tool_is_status_3(sh, stages):
    stages("csb-backup", None)
    done = sh("csb backup")
    assert (done.rc, done.err.count("\n")) == (3, 1)


def test_list_just_works(sh, home):
    write(home, 1, 2)
    out = sh("csb list").ok().out
    assert out.index(name(2)) < out.index(name(1)) and "question 2" in out
    assert "1 message \u00b7 /srv/app" in out and not (home.backup / "git").exists()
    write(home, 3)
    assert name(3) in sh("csb list").ok().out, "an index that is never stale"


def of(number):
    return f"projects/{SLUG}/{name(number)}"


def other(home, path, text=None):
    """Write a file of the Claude directory anew; without a text it is gone."""
    path = home.claude / path
    path.parent.mkdir(parents=True, exist_ok=True)
    if text is None:
        path.unlink()
    else:
        path.write_text(text)


# What may become other between two lists, and what the second one shows then.
OTHERS = {
    "new": (lambda home: write(home, 3), "question 3"),
    "changed": (lambda home: write(home, 1, title="answer"), "answer 1"),
    "deleted": (lambda home: other(home, f"{of(1)}.jsonl"), "deleted "),
    "moved": (lambda home: (home.claude / f"{of(1)}.jsonl").rename(
        home.claude / f"projects/elsewhere/{name(1)}.jsonl"), "question 1"),
    "deeper": (lambda home: other(
        home, f"projects/{SLUG}/a/b/{name(4)}.jsonl", "{}\n"), "in a folder"),
    "title": (lambda home: other(
        home, f"{of(1)}/custom-title.json", '{"customTitle":"called so"}'), "called so"),
    "older title": (lambda home: other(
        home, f"session-states/{name(1)}.json", '{"current_name":"or so"}'), "or so"),
    "settings": (lambda home: other(
        home, "settings.json", '{"cleanupPeriodDays":2}'), "expires in"),
    "no index": (lambda home: (home.backup / "session-backup.db").unlink(), "question 1"),
    "bad index": (lambda home: (home.backup / "session-backup.db").write_text("x"),
                  "question 1"),
}


def count_runs(tools, stages, home, end=""):
    """Have csb-index noted whenever it runs: a function that says how often it has."""
    path = os.path.join(tools.bin, "csb-index")
    ran = home.path / "ran"
    stages("csb-index", f"""
open({str(ran)!r}, "a").write(".")
{end}
os.execv(sys.executable, [sys.executable, "-I", {path!r}, *sys.argv[1:]])""")
    return lambda: len(ran.read_text())


@pytest.mark.logic
@pytest.mark.few(5)
@pytest.mark.parametrize("case", OTHERS)
def test_the_index_is_made_up_to_date_if_something_is_other(
        sh, home, tools, stages, case):
    """csb-index runs then, once; the list is the one that it makes in any case."""
    runs = count_runs(tools, stages, home)
    write(home, 1, 2)
    (home.claude / "projects/elsewhere").mkdir()
    sh("csb list").ok()
    assert "question 2" in sh("csb list").ok().out and runs() == 1
    change, shown = OTHERS[case]
    change(home)
    out = sh("csb list --all").out          # that an index was damaged is said, too
    assert shown in out and runs() == 2, out
    assert sh("csb list --all").ok().out == out and runs() == 2
    (home.backup / "indexed").unlink()
    os.mkfifo(home.backup / "indexed")      # nobody writes there
    assert sh("csb list --all").ok().out == out and runs() == 3
    assert sh("csb list --all").ok().out == out and runs() == 3


@pytest.mark.logic
def test_what_cannot_be_told_is_looked_at_each_time(sh, home, tools, stages):
    """An index that failed, links, a directory without sessions."""
    write(home, 1)
    sh("csb list").ok()
    runs = count_runs(tools, stages, home, "sys.exit(1)")
    write(home, 2)
    for count in 1, 2:
        assert "cannot bring the index up to date" in sh("csb list").err
        assert runs() == count
    runs = count_runs(tools, stages, home)
    away = home.path / "away"
    away.mkdir()
    (home.claude / "projects" / "link").symlink_to(away)
    for count in 3, 4:
        sh("csb list").ok()
        assert runs() == count
    (home.claude / "projects" / "link").unlink()
    shutil.rmtree(home.claude / "projects")
    for count in 5, 6:
        assert "csb restore --deleted" in sh("csb list").err and runs() == count


@pytest.mark.logic
def test_list_shows_twenty_and_says_how_many_more(sh, home):
    write(home, *range(1, 24))
    ids = lambda line: re.findall(r"^ *(3f4a9b10[0-9a-f-]{28})", sh(line).ok().out, re.M)
    newest_first = [name(n) for n in range(23, 0, -1)]
    assert ids("csb list") == newest_first[:20]
    assert sh("csb list -n5").ok().out.endswith("5 of 23. All of them: -n 0\n")
    typed = "csb list -n5 --all question --oneline"
    assert sh(typed).ok().out.endswith("5 of 23. All of them: -n 0\n")
    assert ids("csb list -n 5") == newest_first[:5]
    assert ids("csb list -n 0") == newest_first
    assert ids("csb list --oneline") == newest_first, "a menu shows everything"
    assert ids("csb list --sort started -n 3 --oneline --top 1") == newest_first[:3]
    assert ids("csb list --sort oldest -n 2") == newest_first[::-1][:2]
    for line in ("csb list 'question 7'", "csb list -n 9 -- 'question 7'"):
        assert sh(line).ok().out.startswith("question 7\n  3f4a9b10  ")
    assert len(sh("csb-list").ok().records) == 23


@pytest.mark.logic
def test_list_of_deleted_sessions(sh, home):
    folder = write(home, 1, 2)
    sh("csb backup").ok()
    (folder / f"{name(1)}.jsonl").unlink()
    assert "question 1" not in sh("csb list").ok().out
    out = sh("csb list --deleted").ok().out
    assert "question 1" in out and "question 2" not in out
    assert re.search(r"deleted (today|yesterday)$", out, re.M)


@pytest.mark.long
@pytest.mark.logic
def test_backup_as_text(sh, home):
    """A sentence, unless more is asked for."""
    write(home, 1)
    out = sh("csb backup").ok().out
    said = (r"Backed up 1 new session: 1 file \(\d+ bytes\) in \d+\.\d s, read\s+back and "
            r"verified\.\n")
    assert re.fullmatch(said + "To have it happen by itself: csb setup\n", out)
    assert sh("csb backup").ok().out == "Nothing new: everything is backed up.\n"
    write(home, 2)
    assert re.fullmatch(said, on_terminal(sh, home, "csb backup", NO_COLOR="1"))
    write(home, 3)
    assert "sessions and Claude Code's own files\n" in sh("csb backup --verbose").ok().out
    write(home, 4)
    assert sh("csb backup --quiet").ok().out == ""
    assert sh("csb list").ok().out.count("question") == 4
    sh("rm -r ~/.claude").ok()
    for line in ("csb backup", "csb backup --quiet"):
        done = sh(line)
        assert (done.rc, done.out, done.err.count("\n")) == (1, "", 1), done


@pytest.mark.logic
@pytest.mark.long
def test_rebuild_index(sh, home):
    folder = write(home, 1, 2)
    sh("csb backup").ok()
    (folder / f"{name(1)}.jsonl").unlink()
    sh("csb backup").ok()
    before = sh("csb-list --all").ok().records
    sh("rm ~/.claude-backup/session-backup.db*").ok()
    out = sh("csb rebuild-index").ok().out
    assert out == "Read 2 sessions for the index.\n"
    kept = lambda records: [(r["session_id"], r["state"], r["title"]) for r in records]
    assert kept(sh("csb-list --all").ok().records) == kept(before)


@pytest.mark.logic
def test_tools_without_records_are_run_as_they_are(sh, home):
    record = json.dumps({"kind": "session", "session_id": name(1), "title": "x"}).encode() + b"\n"
    assert sh("csb fmt --oneline", record).ok().out == sh("csb-fmt --oneline", record).ok().out


@pytest.mark.logic
def test_records_come_as_text(sh, home):
    write(home, 1)
    write(home, 2)
    assert sh("csb find").ok().out == sh("csb-find | csb-fmt").ok().out != ""
    assert sh("csb changes").ok().out == sh("csb-changes | csb-fmt").ok().out != ""
    assert sh("csb changes | csb gitcommit").rc == 1, "text is no record"
    assert sh("csb-changes | csb gitcommit").ok().out.startswith("Backed up 2 new sessions")


@pytest.mark.long
@pytest.mark.logic
def test_stores_and_directories_of_ones_own(sh, home, tmp_path):
    write(home, 1)
    home.claude.rename(tmp_path / "elsewhere")
    there = f"--claude-dir {tmp_path}/elsewhere --git-dir {tmp_path}/store"
    made = sh(f"csb gitcommit --make {there}").ok().out
    assert made == f"Made the store {tmp_path}/store.\n"
    assert "question 1" in sh(f"csb list {there}").ok().out, "the index is made of it"
    assert name(1) in sh(f"csb changes {there}").ok().out
    sh(f"csb backup {there}").ok()
    assert (tmp_path / "store").is_dir()


@pytest.mark.logic
@pytest.mark.parametrize("code, rc", [("sys.exit(5)", 5), ("sys.exit(2)", 2), ("sys.exit(75)", 75),
                                      ("os.kill(os.getpid(), signal.SIGKILL)", 137), ("", 0)])
@pytest.mark.few(3)
def test_the_status_is_the_tools(sh, stages, code, rc):
    stages("csb-backup", f"print('{{\"a\":1}}', flush=True)\n{code}")
    done = sh("csb backup")
    assert (done.rc, done.out, done.err) == (rc, "record: 1 a\n", "")


@pytest.mark.parametrize("code, words", [
    ("sys.exit('csb list: one')", "one\ncsb list: cannot bring the index up to date: its status is 1"),
    ("os.kill(os.getpid(), signal.SIGKILL)", "up to date: its status is 137"),
    (None, "cannot bring the index up to date: cannot find csb-index beside")])
@pytest.mark.logic
@pytest.mark.few(2)
def test_an_index_that_cannot_be_brought_up_to_date(sh, home, once, stages, code, words):
    once(one_stored)
    write(home, 2)
    stages("csb-index", code)
    done = sh("csb list")
    assert done.rc == 0 and done.err.startswith("csb list: ") and words in done.err
    assert "question 1" in done.out and "question 2" not in done.out


@pytest.mark.logic
def test_where_all_is_gone_one_sentence_says_what_to_type(sh, home, once):
    once(one_stored)
    sh("rm -r ~/.claude/projects/*").ok()
    for line in ("csb list --deleted", "csb search question", "csb tree"):
        done = sh(line)
        assert done.err.count("\n") == 1 and "csb restore --deleted" in done.err, done


@pytest.mark.logic
def test_the_first_screen_says_why_nothing_can_be_told(home, once, first_screen):
    once(one_stored)
    home.backup.chmod(0)
    text = " ".join(first_screen().split())
    home.backup.chmod(0o700)
    assert "back. Cannot " in text and "Permission denied" in text


@pytest.mark.logic
def test_without_anything(sh, home, first_screen):
    """Nobody has to know what an index is, and nothing is made."""
    home.claude.rmdir()
    for line in ("csb list", "csb search x", "csb tree"):
        done = sh(line)
        assert (done.rc, done.out) == (3, "")
        typed = line.removesuffix(" x")
        assert done.err == (f"{typed}: '~/.claude' is not there. Is Claude Code installed? "
                            "Another place: --claude-dir\n")
        assert not home.backup.exists()
    assert "cannot find any file in the Claude directory" in " ".join(first_screen().split())
    done = sh("csb backup")
    assert (done.rc, done.out) == (1, "")
    assert done.err == (f"csb backup: '{home.claude}' is not there. Is Claude Code installed? "
                        "Another place: --claude-dir\n")


@pytest.mark.long
@pytest.mark.logic
def test_broken_pipes_and_full_disks(sh, home):
    write(home, *range(1, 10))
    sh("csb backup").ok()
    for line in ("csb list", "csb"):
        assert sh(f"exec 3> >(:); wait $!; {line} >&3").rc == 141
    for line in ("csb list >/dev/full", "csb >/dev/full", "csb --version >/dev/full"):
        done = sh(line)
        assert (done.rc, done.err.count("\n")) == (1, 1), (line, done)


@pytest.mark.logic
@pytest.mark.parametrize("line, rc", [
    ("csb list 2>&-", 0), ("csb search question 2>&-", 0), ("csb list <&- >&- 2>&-", 1),
    ("csb config <&- >&- 2>&-", 1), ("csb schedule --print <&- >&- 2>&-", 1)])
@pytest.mark.few(3)
def test_streams_that_are_closed(sh, home, once, line, rc):
    """Nobody hears what is said: the answer is the same, and a status of ours."""
    once(one_stored)
    done = sh(line)
    assert done.rc == rc
    assert ("question 1" in done.out) == (rc == 0)


def test_where_the_others_are_found(sh, home, tools, tmp_path):
    write(home, 1)
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "csb").symlink_to(os.path.join(tools.bin, "csb"))
    rest = home.env["PATH"].removeprefix(tools.bin + ":")
    assert "question 1" in sh("csb list", PATH=f"{tmp_path}/linked:{rest}").ok().out
    (tmp_path / "copied").mkdir()
    shutil.copy(os.path.join(tools.bin, "csb"), tmp_path / "copied")
    library = os.path.join(os.path.dirname(tools.bin), "lib")
    if os.path.isdir(library):
        shutil.copytree(library, tmp_path / "copied/lib")
    assert "question 1" in sh("csb list", PATH=f"{tmp_path}/copied:{home.env['PATH']}").ok().out


@pytest.mark.logic
@pytest.mark.long
def test_what_shows_the_records(sh, home):
    """The status takes a page, what was found goes by sessions."""
    write(home, 1, 2)
    done = sh("csb status")
    assert (done.rc, done.err) == (1, "") and done.out.startswith("NOT everything is backed up.\n")
    assert "  sessions     2 on disk\n" in done.out, "the index was brought up to date"
    assert f"projects/{SLUG}/{name(1)}.jsonl" in "".join(done.out.split())
    sh("csb backup --quiet").ok()
    assert sh("csb status").out.startswith("Everything is backed up")
    out = sh("csb search question").ok().out
    assert f"question 1  {name(1)}\n  you, " in out
    assert re.search(r"\n\d places in 2 sessions. More around each: -C 3.", out)
    assert sh("csb search -n 1 question").ok().out.count("3f4a9b10") == 1
    assert sh("csb search -l question --oneline").ok().out.count("/srv/app") == 2
    assert "1 message \u00b7 /srv/app" in sh("csb search -l question").ok().out
    done = sh("csb search nothing_like_it")
    assert (done.rc, done.out, done.err.count("\n")) == (1, "", 1)


@pytest.mark.logic
@pytest.mark.parametrize("tool", ["csb-show", "csb-tree", "csb-scan"])
@pytest.mark.few(1)
def test_what_asks_the_index_finds_new_sessions(sh, home, stages, tool):
    write(home, 1)
    stages(tool, "os.execvp('csb-list', ['csb-list', *sys.argv[1:]])")
    assert "question 1" in sh(tool.replace("-", " ", 1)).ok().out


@pytest.mark.logic
def test_a_missing_index_is_made_for_the_status(sh, home, once):
    once(one_stored)
    sh("rm ~/.claude-backup/session-backup.db*").ok()
    assert "  sessions     1 on disk\n" in sh("csb status").out
    home.claude.rename(home.path / "gone")
    done = sh("csb status")
    assert (done.rc, done.err) == (1, "")
    assert "csb restore --deleted brings back" in " ".join(done.out.split())
    assert done.out.startswith("It cannot be told whether all is backed up.\n! ")


@pytest.mark.logic
def test_what_is_not_there_is_said(sh, home, once):
    """With what to type; never where something failed, and never in a record."""
    once(one_stored)
    for line, said in (
            ("list zzzz", "No session matches 'zzzz'. csb list --deleted zzzz looks among deleted ones,"
             "\ncsb search zzzz in what was said.\n"),
            ("list --deleted", "No session is gone from disk.\n"),
            ("list --expiring 1h", "Claude Code deletes nothing within 1h."),
            ("list zzzz --sort size", "No session matches 'zzzz'. csb list --deleted zzzz looks among "
             "deleted ones, csb search zzzz in what was said."),
            ("list --project=zz", "No session matches 'zz'. csb list --deleted zz looks among "
             "deleted ones, csb search zz in what was said."),
            ("list --deleted zzzz", "No deleted session matches 'zzzz'. csb list zzzz looks among "
             "those on disk.\n"),
            ("tree", "No session was forked. csb tree --all lists those without forks, too.\n")):
        assert " ".join(sh(f"csb {line}").ok().out.split()) == " ".join(said.split())
        assert sh(f"csb-{line}").ok().out == ""
    shutil.rmtree(home.claude / "projects")
    done = sh("csb list --nope")
    assert (done.rc, done.out) == (2, "")


@pytest.mark.logic
@pytest.mark.parametrize("line, name_in_message", [
    ("csb find --nope", "csb find"), ("csb-find --nope", "csb-find"), ("csb ls --nope", "csb list"),
    ("csb history --nope", "csb history"), ("csb verify --nope", "csb verify")])
def test_what_was_typed_speaks(sh, line, name_in_message):
    done = sh(line)
    assert done.rc == 2 and done.err.startswith(f"{name_in_message}: ")


SPEAKER = """import os, subprocess, sys
sys.path.insert(0, {lib!r})
from csb import TOOL
print(TOOL, flush=True)
if sys.argv[1:]:
    subprocess.run([sys.executable, "-I", __file__, *sys.argv[2:]])
"""


@pytest.mark.logic
def test_only_csb_is_believed(sh, home, tmp_path):
    """A name that it has not given, or gave to a program that is no child of it, is none.

    The stages of a tool speak as the tool does; who took the place of csb hands nothing on.
    """
    lib = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "lib")
    tool = home.path / "csb-stage"
    tool.write_text(SPEAKER.format(lib=lib))
    run = f"{PYTHON} -I {tool}"
    for words in ("", "csb list", "1 csb list", "$$ list", "$$ csb l$(printf '\\033')", "$$ csb "):
        assert sh(f'CSB_TYPED="{words}" {run}; :').ok().out == "csb-stage\n", words
    assert sh(f'CSB_TYPED="$$ csb list" {run} stage; :').ok().out == "csb list\ncsb list\n"
    assert sh(f'export CSB_TYPED="$$ csb list"; exec {run} stage').ok().out == (
        "csb list\ncsb-stage\n")


@pytest.mark.logic
def test_long_lists_go_through_the_pager(sh, home):
    """As wide as the terminal, in colour, newest first; a short command line has none."""
    write(home, *range(1, 30))
    pager = "sed s/^/PAGED/"
    out = on_terminal(sh, home, "csb list", PAGER=pager, setup="stty cols 90 rows 24")
    lines = [line for line in out.splitlines() if "reading what is new" not in line]
    assert lines and all(line.startswith("PAGED") for line in lines) and "\x1b[1m" in out
    assert out.index("question 29") < out.index("question 10")
    out = on_terminal(sh, home, "csb list", PAGER=pager, setup="stty cols 90 rows 60")
    assert out.index("question 29") > out.index("question 10"), "all of it fits"
    for none in ("", "cat", "no-such-pager -R"):
        out = on_terminal(sh, home, "csb list", PAGER=none)
        assert "PAGED" not in out and out.index("question 29") > out.index("question 10")
    assert "PAGED" not in sh("csb list", PAGER=pager).ok().out, "no terminal, no pager"
    path = f"{home.path}:{home.env['PATH']}"
    (home.path / "less").write_text("#!/bin/sh\necho PAGED\n")
    (home.path / "less").chmod(0o755)
    for term in ("xterm", "dumb"):      # less itself would have to be told to go on
        out = on_terminal(sh, home, "csb list", TERM=term, PATH=path, PAGER=None)
        assert ("PAGED" in out) == (term == "xterm")
    assert "PAGED" not in on_terminal(sh, home, "csb backup", PAGER=pager)
    out = on_terminal(sh, home, "csb list zzzz", PAGER=pager)
    assert "No session matches" in out and "PAGED" not in out
    status = on_terminal(sh, home, "csb list; echo status $?", PAGER="head -n 1 >/dev/null")
    assert "status 0" in status, "who has read enough leaves"


@pytest.mark.logic
def test_a_text_goes_through_the_pager(sh, home, stages):
    """Its tool learns how large the terminal is; a page or records do not."""
    stages("csb-log", "print('log', os.environ.get('CSB_PAGED'), *sys.argv[1:])\nsys.exit(5)")
    run = lambda line, **more: on_terminal(
        sh, home, f"{line}; echo $?", setup="stty cols 90 rows 24", **more).splitlines()
    pager = "sed s/^/PAGED/"
    assert run("csb log 3f4a", PAGER=pager) == ["PAGEDlog 90x24 3f4a", "5"]
    assert run("csb log 3f4a", PAGER="cat") == ["log None 3f4a", "5"]
    assert run("csb log --html 3f4a", PAGER=pager) == ["log None --html 3f4a", "5"]
    assert sh("csb log 3f4a", PAGER=pager).out == "log None 3f4a\n"


@pytest.mark.logic
def test_a_restore_ends_with_what_it_has_done(sh, home):
    """In both forms of the pipe, for --dry-run, for a second time."""
    folder = write(home, 1, 2)
    (folder / name(1)).mkdir()
    (folder / name(1) / "notes.txt").write_text("notes")
    sh("csb backup --quiet").ok()
    sh("rm -r *", cwd=folder).ok()
    said = lambda words: sh(words).out.splitlines()
    for tool in ("csb restore", "csb-restore"):
        end = " | csb-fmt" if tool == "csb-restore" else ""
        assert re.fullmatch(r"Would restore 1 session: 2 files.*\. Nothing was written\.",
                            said(f"{tool} --dry-run {name(1)}{end}")[-1])
        lines = said(f"{tool} {name(1)}{end}")
        assert re.fullmatch(r"Restored 1 session: 2 files.*, each read back\.", lines[0])
        assert lines[1:] == ([] if end else ["Go on with it: csb resume 3f4a9b10"])
        lines = said(f"{tool} {name(1)} {name(2)}{end}")
        assert lines[0].startswith("Restored 2 sessions: 1 file")
        assert lines[0].endswith("Already there: 2 files.")
        assert lines[1:] == ([] if end else ["Back up what came back: csb backup"])
        sh("rm -r *", cwd=folder).ok()


@pytest.mark.logic
def test_what_a_restore_left_alone_is_named_once(sh, home, once):
    once(one_stored)
    (home.claude / "projects" / SLUG / f"{name(1)}.jsonl").write_text("{}\n")
    done = sh(f"csb restore {name(1)}")
    assert done.rc == 1 and (done.out + done.err).count("another file is there") == 1, done
