"""csb-resume: the right session, restored if it is gone, in its folder,
with a terminal."""
import json
import os
import re
import shlex
import shutil
import signal
import subprocess

import pytest
from conftest import INDEX, line, name, typed, width

pytestmark = pytest.mark.logic

CLIENT = """#!/bin/sh
{ pwd -P; umask; echo "$(test -t 0 && echo a terminal || cat)"
  echo "$CLAUDE_CONFIG_DIR"
  grep SigIgn /proc/self/status | cut -f2; printf '<%s>' "$@"; } >~/ran
exit ${RC:-0}
"""


@pytest.fixture
def app(home, tmp_path):
    """A home with a stand-in for the client, which writes down how it was started, and
    a function: app(number, title, folder): a session of that folder, which is made;
    its transcript."""
    (tmp_path / "client").mkdir()
    (tmp_path / "client/claude").write_text(CLIENT)
    (tmp_path / "client/claude").chmod(0o755)
    home.env["PATH"] += f":{tmp_path}/client"

    def make(number, title="fix the parser", folder="code/app", project=None, **fields):
        folder = home.path / folder
        folder.mkdir(parents=True, exist_ok=True)
        slug = re.sub("[^a-zA-Z0-9]", "-", str(folder.resolve()))
        project = project or slug[:200] + "-x" * (len(slug) > 200)
        path = home.claude / "projects" / project / f"{name(number)}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(line(title, **{"cwd": str(folder), **fields}))
        return path
    return make


@pytest.fixture
def ran(home):
    """A function: how the client was started since the last time,
    None if it was not."""
    def look():
        path = home.path / "ran"
        if not path.exists():
            return None
        *found, args = path.read_text().split("\n")
        path.unlink()
        names = ("cwd", "umask", "stdin", "config", "ignored")
        said = dict(zip(names, found, strict=True))
        said["args"] = args[1:-1].split("><")
        return said
    return look


@pytest.mark.long
def test_how_it_is_found(sh, app, ran, home):
    """Id, prefix, suffix, a title as a whole, words of it; by a pipe ids alone."""
    for number, title in (
        (1, "Fix the PARSER bug"),
        (2, "parser"),
        (3, "Stra\u00dfe 100%"),
        (8879, "dead beef"),
        (5, "of 8879"),
        (6, "parser folder"),
    ):
        app(number, title, "code/beef" if number == 6 else "code/app")
    sh(INDEX).ok()
    for words, expected in (
            (name(1), 1), ("-000000000002", 2), ("BUG parser", 1), ("parser", 2),
            ("STRASSE", 3), ("8879", 8879), ("8879 of", 5), ("-- 0001", None)):
        done = sh(f"csb-resume {words}", b"in")
        if expected is None:
            assert (done.rc, ran()) == (1, None), "what follows -- is not ours"
            continue
        assert done.ok().out == "", words
        assert ran()["args"][:2] == ["--resume", name(expected)], words
    for source in ("echo 0002", f"csb-list {name(2)}",
                   "csb list --oneline | grep '  parser  '",
                   f"printf '\\n  {name(2)}  2026-01-02 parser \\r\\n'",
                   f"echo {name(2)}; echo {name(2)}"):
        sh(f"({source}) | csb-resume -- --model x").ok()
        assert ran()["args"] == ["--resume", name(2), "--model", "x"], source
    for source, said in (("echo parser", "as a record"), ("true", "nothing was picked"),
                         ("echo '{}'", "nothing was picked"),
                         ("echo '{\"session_id\":[1]}'", "cannot find a session with"),
                         ("echo 0009", "cannot find a session with '0009'"),
                         ("printf '0001\\n0002\\n'", "cannot resume 2 sessions"),
                         ("csb-list", "cannot resume 6 sessions")):
        done = sh(f"{source} | csb-resume")
        assert (done.rc, ran()) == (1, None) and said in done.err, done


def test_several_are_named(sh, app, ran, home):
    """Never a guess: candidates on stderr; 2, by a pipe 1."""
    for number in range(1, 24):
        app(number, f"parser \x1b[31m {number}", project="-p")
    done = sh("csb-resume parser")
    assert (done.rc, ran(), done.err.count("\n")) == (2, None, 21)
    assert name(1) in done.err
    assert "\x1b" not in done.err
    assert "means 23 sessions" in done.err
    done = sh("csb-resume 3f4a")
    assert (done.rc, ran(), done.err.count("\n")) == (2, None, 21)
    assert sh("echo 3f4a | csb-resume").rc == 1 and ran() is None
    done = sh("csb-resume nothing")
    assert (done.rc, ran(), done.err.count("\n")) == (1, None, 1)


def test_one_id_in_two_projects(sh, app, ran, home):
    """A record says which; moved by the client it is where it is now."""
    first, second = app(1, folder="one"), app(1, folder="two")
    done = sh(f"csb-resume {name(1)}")
    assert (done.rc, ran()) == (2, None) and first.parent.name in done.err
    advice = done.err.splitlines()[0].partition("sessions: ")[2]
    sh(advice.replace("NAME", second.parent.name)).ok()
    assert ran()["cwd"] == str(home.path / "two")
    kept = second.read_bytes()
    second.unlink()             # while it is gone it is found, too
    advice = advice.replace("NAME", second.parent.name)
    assert name(1) in sh(advice + " --print").ok().out
    second.write_bytes(kept)
    first.unlink()
    sh(f"csb-resume {name(1)}").ok()
    assert ran()["cwd"] == str(home.path / "two")


@pytest.mark.parametrize("command", ["csb-resume", "csb resume"])
def test_the_client_is_as_if_you_had_started_it(sh, app, ran, home, command):
    """stdin, umask, signals, folder, status."""
    app(1, folder="a b/'c\u00e9")
    done = sh(
        f"umask 027; RC=7 {command} 0001 -- -p --model 'x y' -- z", b"the question"
    )
    found = ran()
    assert (done.rc, done.out, done.err) == (7, "", "")
    assert found["cwd"] == str(home.path / "a b/'c\u00e9") and found["umask"] == "0027"
    assert found["stdin"] == "the question"
    assert not int(found["ignored"], 16) & 1 << signal.SIGPIPE - 1
    assert found["args"] == ["--resume", name(1), "-p", "--model", "x y", "--", "z"]
    (home.path / "killed").write_text("#!/bin/sh\nkill -9 $$\n")
    (home.path / "killed").chmod(0o755)
    done = sh(f"{command} 0001", CSB_CLIENT="./killed")
    assert done.rc in (137, -9)


def test_a_terminal_after_a_pipe(app, ran, home, sh):
    """What picked the line had stdin; the client gets the terminal, or nothing."""
    app(1)
    sh(INDEX).ok()
    assert typed(home, "csb-resume 0001") == (0, "") and ran()["stdin"] == "a terminal"
    for source in (
        "csb list --oneline | head -n 1 | csb-resume",
        "csb-list | csb resume",
    ):
        assert typed(home, source) == (0, "") and ran()["stdin"] == "a terminal"
        assert sh(f"setsid -w bash -o pipefail -c '{source}'").ok()
        assert ran()["stdin"] == ""
    assert typed(home, "echo question | csb-resume 0001")[0] == 0
    assert ran()["stdin"] == "question"


def test_a_session_that_is_gone(sh, app, ran, home):
    """A question on a terminal, --yes elsewhere; without either nothing is done."""
    path = app(1, '"quoted" \x1b[31m')
    data = path.read_bytes()
    sh("csb-backup").ok()
    one, piped = f"csb-resume {name(1)}", f"echo {name(1)} | csb-resume"
    for line_, keys, rc in ((one, b"n\n", 1), (one, b"\x04", 1), (one, b"\n", 0),
                            (piped, b"yes\n", 0), (piped, b"nay\n", 1)):
        path.unlink(missing_ok=True)
        done, screen = typed(home, line_, keys)
        assert done == rc and "is gone from disk. Restore it? [Y/n]" in screen
        assert path.exists() == (not rc) and "\x1b" not in screen
        assert (ran() or {}).get("stdin") == (None if rc else "a terminal")
    path.unlink(missing_ok=True)
    for words, stdin in ((name(1), b""), ("", name(1).encode())):
        done = sh(f"setsid -w csb-resume {words}", stdin)
        assert (done.rc, done.err.count("\n"), ran()) == (1, 1, None)
        assert "--yes" in done.err
    assert not path.exists()
    done = sh("csb-resume --yes quoted -- -p", b"hello")
    assert done.rc == 0
    assert done.err.splitlines()[1] == f"csb-resume: restored session {name(1)}, 1 file"
    assert path.read_bytes() == data and ran()["stdin"] == "hello"
    assert sh("csb-resume --yes quoted").ok()


@pytest.mark.long
def test_what_cannot_be_restored(sh, app, ran, home):
    """Its own words and csb-restore's, status 1 or 3, no client."""
    path = app(1)
    sh(INDEX).ok()
    path.unlink()
    done = sh("csb-resume --yes 0001")
    assert (done.rc, ran()) == (3, None)
    assert "csb-restore: cannot find a store" in done.err
    path = app(1)
    sh("csb-backup").ok()
    path.unlink()
    shutil.rmtree(path.parent)
    path.parent.write_text("in the way")
    done = sh("csb-resume --yes 0001")
    assert (done.rc, ran()) == (1, None)
    assert "its transcript could not be restored" in done.err


@pytest.mark.long
def test_the_index_may_be_stale(sh, app, ran, home):
    """What is new, has moved or was purged since it was made is known."""
    first = app(1, folder="one")
    sh("csb-backup").ok()
    app(2, "newer")
    assert sh("csb-resume newer").ok() and ran()["args"][1] == name(2)
    app(3)
    assert sh(f"csb-resume {name(3)}").ok() and ran()["args"][1] == name(3)
    app(1, folder="two")
    first.unlink()
    assert sh(f"csb-resume {name(1)}").ok() and ran()["cwd"] == str(home.path / "two")
    shutil.rmtree(home.backup)
    assert sh("csb-resume newer").ok() and ran()["args"][1] == name(2)
    app(4, "newer")
    assert sh("csb-resume newer").rc == 2 and ran() is None, "the index knew of one"


def test_the_folder(sh, app, ran, home):
    """Where the session was, and of its project; where you are, if that is; --cwd."""
    def where(number, words="", cwd=None):
        done = sh(f"csb-resume {name(number)} {words}", cwd=cwd)
        found = ran()
        return done.rc, found and os.path.relpath(found["cwd"], home.path), done.err

    project, deep = app(1).parent.name, "d" * 120 + "/" + "e" * 120
    (home.path / "link").symlink_to("code")
    app(2, project=project).write_text(
        line(cwd="/gone") + line(cwd=str(home.path / "link/app"))
    )
    app(3, project=project, cwd="/gone")
    app(4, project=project, folder="other")
    app(5, project=project, cwd=str(home.path / "code.app"))
    app(6, folder=deep)
    sh(INDEX).ok()
    assert where(1) == (0, "code/app", "")
    assert where(2) == (0, "code/app", ""), (
        "not the first cwd, but the one of the project"
    )
    rc, cwd, err = where(3)
    assert (rc, cwd) == (1, None) and "in '/gone': that folder is gone" in err
    assert where(3, cwd=home.path / "code/app") == (0, "code/app", ""), (
        "restored for that folder"
    )
    assert where(3, "--cwd ~/code") == (0, "code", "")
    rc, cwd, err = where(1, "--cwd missing")
    assert (rc, cwd) == (1, None) and "missing': that folder is gone" in err
    assert where(4) == (0, "other", ""), "no folder of its project is there"
    rc, cwd, err = where(5)
    assert (rc, cwd) == (1, None) and "code.app': that folder is gone" in err
    assert where(6) == (0, deep, "")


@pytest.mark.long
def test_a_cwd_that_is_no_folder(sh, app, ran, home):
    cwds = None, "", "relative", "../x", "/\0", "/\ud800", "-x", "/w\udcff"
    for number, cwd in enumerate(cwds):
        app(number, cwd=cwd, project="-p")
    sh(INDEX).ok()
    for number, cwd in enumerate(cwds):
        done = sh(f"csb-resume {name(number)}")
        assert (done.rc, done.err.count("\n"), ran()) == (1, 1, None), cwd
    assert sh(f"csb-resume {name(0)} --cwd .").ok() and ran()["cwd"] == str(home.path)


def test_open_in_another_window(sh, app, ran, home):
    """Refused while that process lives; a file that a killed client left
    does not matter."""
    app(1)
    sh(INDEX).ok()
    (home.claude / "sessions").mkdir()
    dead = subprocess.Popen(["true"])
    dead.wait()
    for number, (text, rc) in enumerate(
        (
            ({"pid": os.getpid(), "sessionId": name(1)}, 1),
            ({"pid": dead.pid, "sessionId": name(1)}, 0),
            ({"pid": os.getpid(), "sessionId": name(2)}, 0),
            ({"pid": 0, "sessionId": name(1)}, 0),
            ({"pid": -1, "sessionId": name(1)}, 0),
            ({"pid": "x", "sessionId": name(1)}, 0),
            ({"pid": 10**30, "sessionId": name(1)}, 0),
            ([], 0),
            ({}, 0),
            ("x", 0),
        )
    ):
        file = home.claude / "sessions" / f"{number}.json"
        file.write_text(json.dumps(text))
        for words in ("", "--print")[:1 + rc]:
            done = sh(f"csb-resume {words} {name(1)}")
            assert done.rc == rc and bool(ran()) == (not rc), text
            if rc:
                assert "it is open in another window" in done.err
                assert str(file) in done.err
        file.unlink()


def test_print(sh, app, ran, home):
    """A line for the shell that does the same; nothing is run, nothing is restored."""
    path = app(1, folder="a b/$(touch x)'\"")
    sh("csb-backup").ok()
    done = sh("csb-resume --print 0001 -- -p 'a b'").ok()
    assert done.out == (
        f"cd {shlex.quote(str(home.path / 'a b'))[:-1]}/$(touch x)'\"'\"'\"' && "
        f"claude --resume {name(1)} -p 'a b'\n"
    )
    assert ran() is None and path.exists()
    for gone in (False, True):
        if gone:
            path.unlink()
            printed = sh("csb-resume --print 0001").ok().out
            assert printed.startswith(f"csb-restore {name(1)} && cd ")
            assert not path.exists()
        done = sh('eval "$(csb-resume --print 0001 -- -p "a b")"')
        assert done.rc == 0 and path.exists() and not (home.path / "x").exists()
        found = ran()
        cwd = found["cwd"]
        assert cwd == str(path.parent) or cwd.endswith("$(touch x)'\"")
        assert found["args"] == ["--resume", name(1), "-p", "a b"]


@pytest.mark.long
def test_which_client(sh, app, ran, home, tmp_path):
    """On PATH, where its installers put it, or as CSB_CLIENT says."""
    app(1)
    sh(INDEX).ok()
    line_ = f"csb-resume {name(1)}"
    bare = home.env["PATH"].removesuffix(f":{tmp_path}/client")
    done = sh(line_, PATH=bare)
    assert (done.rc, done.err.count("\n")) == (3, 1) and "CSB_CLIENT" in done.err
    shutil.copytree(tmp_path / "client", home.path / "rel")
    assert sh(line_, PATH=bare + ":rel").ok() and ran()
    assert sh(line_, PATH=bare, CSB_CLIENT="~/rel/claude").ok() and ran()
    assert sh(line_, CSB_CLIENT="missing").rc == 3 and ran() is None
    assert "my' c' --resume" not in sh(line_ + " --print").out
    assert "'my c' --resume" in sh(line_ + " --print", CSB_CLIENT="my c").ok().out
    shutil.copytree(home.path / "rel", home.claude / "local")
    assert sh(line_, PATH=bare).ok() and ran()
    (home.path / "broken").write_text("#!/nowhere\n")
    (home.path / "broken").chmod(0o755)
    done = sh(line_, CSB_CLIENT="./broken")
    assert (done.rc, done.err.count("\n")) == (1, 1) and "cannot start" in done.err


@pytest.mark.long
def test_another_claude_directory(sh, app, ran, home):
    """Its sessions are not taken for ours; with --claude-dir the
    client is told of it."""
    app(1, "parser")
    other = home.path / "other"
    shutil.copytree(home.claude, other / ".claude")
    sh(f"csb-find ~/.claude {other}/.claude | csb-index >/dev/null").ok()
    sh("csb-resume parser").ok()
    assert ran()["config"] == f"{home.claude}"
    sh("csb-resume --claude-dir other/.claude parser").ok()
    assert ran()["config"] == f"{other}/.claude"
    printed = sh("csb-resume --claude-dir other/.claude --print parser").ok().out
    assert f"&& CLAUDE_CONFIG_DIR={other}/.claude claude" in printed


@pytest.mark.few(2)
@pytest.mark.parametrize("words", ["''", "'' ''", "--cwd", "0001 --no", "--session 1"])
def test_misuse(sh, words):
    done = sh(f"csb-resume {words}")
    assert (done.rc, done.out, done.err.count("\n")) == (2, "", 1), done


# --- one that goes on elsewhere, or nowhere -------------------------------------------


def record_of(kind, number, **fields):
    """A record that Claude Code writes at the end of a transcript, as a line."""
    return json.dumps({"type": kind, "sessionId": name(number), **fields}) + "\n"


def continued(path, number, later):
    """Have a session end in the way in which Claude Code goes on under another id."""
    with open(path, "a") as file:
        file.write(record_of("continued-in", number, continuedInSessionId=name(later)))


def test_one_that_was_continued(sh, app, ran, home):
    """It is said, and the continuation offered: never the copy that was left."""
    continued(app(1, "plan the harbour"), 1, 2)
    continued(app(2, "build the wall"), 2, 3)
    last = app(3, "paint the wall")
    sh(INDEX).ok()
    for words in (name(1), f"--print {name(1)}"):
        done = sh(f"csb-resume {words}")
        assert (done.rc, done.out, done.err.count("\n"), ran()) == (1, "", 1, None)
        said = f"was continued as {name(2)} 'build the wall': --yes goes on with that"
        assert said in done.err
    done = sh(f"csb-resume --yes {name(1)}")
    assert (done.rc, done.err.count("\n")) == (0, 2)
    assert ran()["args"] == ["--resume", name(3)]
    assert sh(f"csb-resume {name(3)}").ok() and ran()["args"] == ["--resume", name(3)]

    rc, screen = typed(home, f"csb-resume {name(1)}", [b"\n", b"y\n"])
    assert rc == 0 and screen.count("Go on with that one? [Y/n]") == 2
    assert ran()["args"] == ["--resume", name(3)]
    rc, screen = typed(home, f"csb-resume {name(1)}", [b"\n", b"n\n"])
    assert (rc, ran()) == (1, None) and "Claude Code is not started" in screen

    sh("csb-backup").ok()
    last.unlink()
    done = sh(f"csb-resume --yes {name(2)}")
    assert done.rc == 0 and last.exists() and ran()["args"] == ["--resume", name(3)]


def test_a_continuation_that_nobody_has(sh, app, ran):
    """Then the session itself is all there is; a circle comes to an end."""
    continued(app(1), 1, 9)
    continued(app(2), 2, 3)
    continued(app(3), 3, 2)
    sh(INDEX).ok()
    done = sh(f"csb-resume {name(1)}")
    assert done.rc == 0 and ran()["args"] == ["--resume", name(1)]
    assert done.err.count("\n") == 1 and "is not known here" in done.err
    assert sh(f"csb-resume --yes {name(2)}").rc == 0 and ran()["args"][1] == name(3)


def test_one_that_went_on_itself_after_it_was_continued(sh, app, ran):
    """The person came back to it: it is not the copy that was left."""
    path = app(1, timestamp="2026-01-01T03:04:05.000Z")
    app(2, timestamp="2026-01-02T03:04:05.000Z")
    continued(path, 1, 2)
    with open(path, "a") as file:
        file.write(
            line("back again", cwd=str(path), timestamp="2026-01-03T03:04:05.000Z")
        )
    sh(INDEX).ok()
    done = sh(f"csb-resume {name(1)}")
    assert done.rc == 0
    assert "this one goes on" in done.err
    assert ran()["args"][1] == name(1)


def test_one_that_claude_ended_and_that_was_continued(sh, app, ran):
    path = app(1)
    app(2)
    with open(path, "a") as file:
        file.write(record_of("ended-by-model", 1))
    continued(path, 1, 2)
    sh(INDEX).ok()
    assert sh(f"csb-resume --yes {name(1)}").rc == 0 and ran()["args"][1] == name(2)


@pytest.mark.long
def test_a_stub_in_another_project_is_not_meant(sh, app, ran):
    """A work tree leaves one; also where the conversation itself is gone."""
    path = app(1)
    stub = app(1, folder="code/tree")
    stub.write_text(record_of("worktree-state", 1, worktreeSession=None))
    sh("csb-backup").ok()
    assert sh(f"csb-resume {name(1)}").rc == 0 and ran()["cwd"].endswith("code/app")
    path.unlink()
    sh("csb-backup").ok()
    done = sh(f"csb-resume --yes {name(1)}")
    assert done.rc == 0 and path.exists() and ran()["cwd"].endswith("code/app"), done


def test_it_was_continued_a_moment_ago(sh, app, ran):
    """What the index knows of a whole id is not believed once the file has grown."""
    path = app(1)
    app(2)
    sh(INDEX).ok()
    continued(path, 1, 2)
    assert sh(f"csb-resume {name(1)}").rc == 1 and ran() is None


def test_one_that_claude_ended(sh, app, ran):
    """Claude Code would not go on with it: that is said before it is started."""
    path = app(1)
    with open(path, "a") as file:
        file.write(record_of("ended-by-model", 1))
    sh(INDEX).ok()
    for words in ("0001", "--print 0001", "--yes 0001"):
        done = sh(f"csb-resume {words}")
        assert (done.rc, done.out, done.err.count("\n"), ran()) == (1, "", 1, None)
        assert "Claude ended it" in done.err and "csb log 3f4a9b10" in done.err


def test_a_work_tree_that_was_left(sh, app, ran, home):
    """It goes on where Claude Code says, although the folder that it was in is gone."""
    path = app(1, cwd=str(home.path / "code/app/.claude/worktrees/x"))
    with open(path, "a") as file:
        file.write(record_of("relocated", 1, relocatedCwd=str(home.path / "code/app")))
    sh(INDEX).ok()
    assert sh(f"csb-resume {name(1)}").ok()
    assert ran()["cwd"] == str(home.path / "code/app")
    other = app(2, project="-p", cwd="/gone")
    with open(other, "a") as file:
        file.write(record_of("relocated", 2, relocatedCwd=str(home.path / "code")))
    done = sh(f"csb-resume {name(2)}")
    assert done.rc == 0 and ran()["cwd"] == str(home.path / "code")


def test_an_id_of_upper_case(sh, app, ran):
    """Claude Code names the file as --session-id was typed, and wants it so again."""
    path = app(1)
    given = "0122B4C2-C01E-41C6-98EC-C309D2B8EB5A"
    path.rename(path.with_name(f"{given}.jsonl"))
    sh(INDEX).ok()
    for word in (given, given.lower(), "0122b4", "EB5A"):
        assert sh(f"csb-resume {word}").ok() and ran()["args"] == ["--resume", given]


def test_a_transcript_where_claude_code_does_not_look(sh, app, ran):
    path = app(1)
    (path.parent / "deeper").mkdir()
    path.rename(path.parent / "deeper" / path.name)
    sh(INDEX).ok()
    done = sh(f"csb-resume {name(1)}")
    assert (done.rc, done.err.count("\n"), ran()) == (1, 1, None)
    assert "does not look for it" in done.err


# --- picked from a list ---------------------------------------------------------------


PICK = b"Enter to end] "


def pick(home, keys, words=""):
    """What csb-resume does on a terminal, with what is typed at its list."""
    return typed(home, f"csb-resume {words}", keys, asked=PICK)


def make_some(app):
    """Thirteen sessions, of which the 13th was used last;
    12 goes on in 13, 11 ended."""
    for number in range(1, 14):
        path = app(
            number, f"talk {number}", timestamp=f"2026-01-{number:02d}T03:04:05Z"
        )
        if number == 12:
            continued(path, 12, 13)
        if number == 11:
            with open(path, "a") as file:
                file.write(record_of("ended-by-model", 11))


def test_one_is_picked_from_the_last(sh, app, ran, home):
    make_some(app)
    rc, screen = pick(home, [b"2\n"])
    assert rc == 0 and ran()["args"] == ["--resume", name(10)]
    titles = re.findall(r"^ ?(\d+)  .{16}  (talk \d+) ", screen, re.M)
    numbers = [13, *range(10, 1, -1)]
    expected = [(str(at), f"talk {number}") for at, number in enumerate(numbers, 1)]
    assert titles == expected and "~/code/app" in screen
    assert all(width(row) <= 80 for row in screen.splitlines())

    assert pick(home, [b"\n"])[0] == 1 and ran() is None
    rc, screen = pick(home, [b"0\n", b"11\n", b"10\n"])
    assert rc == 0
    assert "there is no session of '11'" in screen
    assert ran()["args"][1] == name(2)
    rc, screen = pick(home, [b"\x04"])
    assert (rc, ran()) == (1, None) and "nothing was picked" in screen


def test_one_is_picked_by_words(sh, app, ran, home):
    """Words of a title or a folder, and digits of an id, of all sessions,
    not just the last."""
    make_some(app)
    app(1001, "the lexer", "code/parser", timestamp="2025-01-01T03:04:05Z")
    for keys, number in (
        (b"LEXER the\n", 1001),
        (b"talk 1\n", 1),
        (b"code parser\n", 1001),
        (b"1001\n", 1001),
    ):
        assert pick(home, [keys])[0] == 0 and ran()["args"][1] == name(number)
    rc, screen = pick(home, [b"nothing\n", b"talk\n", b"1\n"])
    assert rc == 0 and "there is no session of 'nothing'" in screen
    assert "1-13, or words" in screen and ran()["args"][1] == name(13)
    sh("csb-resume code parser").ok()
    assert ran()["args"][1] == name(1001)
    done = sh("csb-resume code app")
    assert done.rc == 2, "no guess by a folder either"
    assert "means 13 sessions" in done.err


def test_of_several_one_is_picked(sh, app, ran, home):
    """On a terminal words that mean several are no dead end."""
    for number in range(1, 4):
        app(number, f"parser {number}")
    rc, screen = pick(home, [b"2\n"], "parser")
    assert rc == 0 and "1-3, or words" in screen and ran()["args"][1] == name(2)
    assert sh("csb-resume parser").rc == 2 and ran() is None


def test_if_all_are_gone_they_are_listed(sh, app, ran, home):
    path = app(1)
    app(2, folder="else")
    sh("csb-backup").ok()
    shutil.rmtree(home.claude / "projects")
    text = "csb-resume"
    rc, screen = typed(home, text, [b"1\n", b"y\n"], asked=b"]")
    assert screen.count("mounted?") == 1 and "gone" in screen and "[Y/n]" in screen
    assert (rc, ran() and "args") == (0, "args") and path.exists()


def test_without_a_terminal_there_is_none_to_pick(sh, app, ran):
    app(1)
    done = sh("csb-resume </dev/null")
    assert (done.rc, done.err.count("\n"), ran()) == (1, 1, None)


def test_all_tools_that_are_missing_are_named(app, sh, stages):
    app(1)
    for tool in ("csb-index",):
        stages(tool, None)
    done = sh("csb-resume 0001")
    assert (done.rc, done.err.count("\n")) == (3, 1)
    assert "csb-index" in done.err
