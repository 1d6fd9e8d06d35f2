"""csb-remap: working directories are mapped, and not a byte of anything else."""
import json
import os
import pty
import re
import subprocess

import pytest
from conftest import POWERLESS

pytestmark = pytest.mark.logic

LONG = "/" + "l" * 120 + "/\U0001f600" + "m" * 120
MB = 1 << 20


def as_bytes(text):
    """What sh() gave as text."""
    return text.encode("utf-8", "surrogateescape")


@pytest.mark.few(18)
@pytest.mark.parametrize("maps, before, after", [
    ("/home/a=/home/bob", "/home/a", "/home/bob"),
    ("/home/a=/home/bob", "/home/a/x y/\u00e9\U0001f600",
     "/home/bob/x y/\u00e9\U0001f600"),
    ("/home/a=/home/bob", "/home/a/", "/home/bob"),
    ("/home/a/=/home/bob/", "/home/a/x", "/home/bob/x"),
    ("/home/a/=/home/bob/", "/home/a", "/home/bob"),
    ("/home/a=/home/bob", "/home/ab", None),
    ("/home/a=/home/bob", "/home/ab/home/a", None),
    ("/home/a=/home/bob", "/home/A", None),
    ("/home/a=/home/bob", "x/home/a", None),
    ("/home/a=/home/bob", "/home/a\\x", None),
    ("/home/a=/home/bob", "", None),
    ("/a=/x /a/b=/y", "/a/b/c", "/y/c"),
    ("/a/b=/y /a=/x", "/a/b/c", "/y/c"),
    ("/a=/x /a/b=/y", "/a/bc", "/x/bc"),
    ("/a=/b /b=/c", "/a/1", "/b/1"),        # once, not on and on
    ("/a=/b /a=/b", "/a", "/b"),
    ("/=/mnt", "/a/b", "/mnt/a/b"),
    ("/=/mnt", "/", "/mnt"),
    ("/=/mnt", "C:\\x", None),
    ("/mnt=/", "/mnt/a", "/a"),
    ("/mnt=/", "/mnt", "/"),
    ("/a=/x=/y", "/a/b", "/x=/y/b"),
    ("/a=b=/c", "/a=b/d", "/c/d"),
    ("/a=/'q\"uo\\te'", "/a/n\nl\x01", "/q\"uo\\te/n\nl\x01"),
    ("~=/x", "HOME/p", "/x/p"),
    ("~/p=/x", "HOME/p/q", "/x/q"),
    ("/a=~", "/a/b", "HOME/b"),
    ("/a=~/new", "/a/b", "HOME/new/b"),
    (r"'C:\Users\ann=C:\Users\bob'", r"C:\Users\ann\p", r"C:\Users\bob\p"),
    (r"'C:\Users\ann=C:\Users\bob'", r"C:\Users\anne\p", None),
    (r"'C:\Users\ann=C:\Users\bob'", r"c:\users\ann\p", None),
    (r"'C:\Users\ann=/home/ann'", r"C:\Users\ann\p\q", "/home/ann/p/q"),
    (r"'C:\Users\ann=/home/ann'", r"C:\Users\ann", "/home/ann"),
    (r"'/home/ann=D:\u'", "/home/ann/p/q", r"D:\u\p\q"),
    (r"'C:\=/mnt/c'", "C:\\", "/mnt/c"),
    (r"'C:\=/mnt/c'", r"C:\x", "/mnt/c/x"),
    (r"'/mnt/c=C:\'", "/mnt/c", "C:\\"),
    (r"'/mnt/c=C:\'", "/mnt/c/x", r"C:\x"),
    (r"'C:/w=C:/v'", "C:/w/p", "C:/v/p"),
    (r"'\\nas\share=/mnt/nas'", r"\\nas\share\p", "/mnt/nas/p"),
])
def test_paths(sh, home, maps, before, after):
    """By components, the longest OLD, once; what no map matches stays, and is said."""
    def transcript(path):
        path = path.replace("HOME", str(home.path))
        value = json.dumps(path, ensure_ascii=False)
        return f'{{"type":"user","cwd":{value},"n":1.50}}\n'

    done = sh(f"csb-remap {maps}", transcript(before).encode())
    assert done.rc == 0
    if after is None:
        assert done.out == transcript(before)
        assert done.err
    else:
        assert done.out == transcript(after)
        assert not done.err


# Lines in which @ stands for a directory that is to be mapped, % for one that is not.
LINES = [
    '{"cwd":"@"}',
    ' { "a" : 1.0e5 , "cwd" : "@" , "z" : [ ] } \r',
    '{"a":{"cwd":"%"},"cwd":"@"}',
    '{"cwd":"@","cwd":"@"}',
    '{"cwd":"%","x":NULL}',
    '{"cwd":"%"',
    '{"cwd":"%"}{"cwd":"%"}',
    '{"prNu{"cwd":"%"}',
    '{"cwd":"%"}x',
    '["cwd","%"]',
    '"cwd"',
    '{"cwd":["%"]}',
    '{"cwd":null}',
    '{"cwd":{"cwd":"%"}}',
    '{}',
    '',
    '{"cwd":"%",}',
    '{"cwd":"%" "a":1}',
    '{,"cwd":"%"}',
    '{"message":{"content":[{"type":"tool_use","input":{"cwd":"%","path":"%"}}]},'
    '"cwd":"@"}',
    '{"toolUseResult":{"cwd":"%","worktreePath":"%","stdout":"\\"cwd\\":\\"%\\""},'
    '"cwd":"@"}',
    '{"type":"assistant","cwd":"@","message":'
    '{"content":[{"thinking":"%","signature":"%cwd=="}]}}',
    '{"type":"user","message":{"content":"in % \\"cwd\\":\\"%\\" {"},"cwd":"@",'
    '"gitBranch":"%"}',
    '{"type":"relocated","relocatedCwd":"@","sessionId":"%"}',
    '{"worktreeSession":{"originalCwd":"@","preEnterOriginalCwd":"@",'
    '"worktreePath":"@","worktreeName":"%","cwd":"%"},"cwd":"@"}',
    '{"worktreeSession":null,"cwd":"@"}',
    '{"worktreeSession":"%"}',
    '{"originalCwd":"%"}',
    '{"worktreeSession":[{"originalCwd":"%"}]}',
    '{"agentType":"x","worktreePath":"@"}',
    '{"cwd":"%","n":"\x01"}',
    '{"cwd":"\udcff%"}',
    '{"x":"\udcff","cwd":"@"}',
    '\0\0\0',
    '\udcff',
    '{"n":' + "9" * 5000 + ',"cwd":"@"}',
    '{"d":' + "[" * 3000 + "]" * 3000 + ',"cwd":"DEEP"}',
    '{"snapshot":{"trackedFileBackups":{"%":{"backupFileName":"%"}}},"cwd":"@"}',
    '{"x":"\u2028\u0085\U0001f600","cwd":"@"}',
    '{"\\"cwd":"%","cwd\\\\":"%","c\\"wd":"%"}',
    '{"cwd":"@","lone":"\\ud83d","esc":"\\/\\u0041"}',
    '{"a":1{"cwd":"%"}',
    ',"cwd":"%"}',
    '{"cwd":"@","originalCwd":"%"}',
    '{"cwd":"%/\udcff"}',
]


@pytest.mark.parametrize("end", ["\n", ""])
def test_not_a_byte_of_anything_else(sh, end):
    """Key order, spaces, escapes, numbers, bad lines and the torn end stay."""
    def filled(folder):
        text = "\n".join(LINES) + end
        return text.replace("@", folder).replace("%", "/home/a/p")

    given, wanted = filled("/home/a/p"), filled("/home/bob/p")
    assert sh("csb-remap /home/a=/home/bob", as_bytes(given)).ok().out == wanted
    assert sh("csb-remap /home/bob=/home/a", as_bytes(wanted)).ok().out == given


@pytest.mark.few(3)
@pytest.mark.parametrize("before, after", [
    (r"\/home\/a\/p", "/home/bob/p"),
    (r"\u002fhome/a/p\u00e9", "/home/bob/p\u00e9"),
    (r"/home/a/\ud83d", r"/home/bob/\ud83d"),
    (r"/home/a/\ud83d\ude00", "/home/bob/\U0001f600"),
    (r"/home/a/\udcff\u0000", r"/home/bob/\udcff\u0000"),
    (r"\/home\/b\u0062", None),
])
def test_escapes(sh, before, after):
    """However the value is written; one that stays stays as it is written."""
    done = sh("csb-remap /home/a=/home/bob", f'{{"cwd":"{before}"}}'.encode())
    assert (done.rc, done.out) == (0, f'{{"cwd":"{after or before}"}}')


@pytest.mark.long
def test_real_transcripts_there_and_back(sh, real):
    """What differs are the cwds alone, and the way back gives the very bytes."""
    small = []
    for claude in real.claude:
        for path in sorted(claude.glob("projects/*/*.jsonl")):
            if path.stat().st_size < 300000:
                small.append(path)
    paths = small[::3]
    assert len(paths) > 10
    given = b"".join(path.read_bytes().rstrip(b"\n") + b"\n" for path in paths)
    there = as_bytes(sh("csb-remap /=/there/now 'C:\\=D:\\there'", given).ok().out)

    changed = 0
    for old, new in zip(given.split(b"\n"), there.split(b"\n"), strict=True):
        if old == new:
            continue
        changed += 1
        before, after = json.loads(old), json.loads(new)
        assert before.pop("cwd") != after.pop("cwd")
        assert list(before.items()) == list(after.items())
    assert changed > 500

    back = sh("csb-remap /there/now=/ 'D:\\there=C:\\'", there).ok().out
    assert as_bytes(back) == given


def test_files(sh, home):
    """Operands one after the other; lines stay apart; what cannot be read is said."""
    (home.path / "one").write_text('{"cwd":"/a"}\n{"cwd":"/a')
    (home.path / "two").write_text('{"cwd":"/a/b"}')
    (home.path / "a=b").write_text('{"cwd":"/a/c"}\n')
    (home.path / "empty").write_text("")
    done = sh("csb-remap one /a=/x empty two -- a=b").ok()
    assert done.out == '{"cwd":"/x"}\n{"cwd":"/a\n{"cwd":"/x/b"}\n{"cwd":"/x/c"}\n'
    done = sh("csb-remap /a=/x missing two .")
    assert (done.rc, done.out) == (1, '{"cwd":"/x/b"}')
    assert done.err == (
        "csb-remap: cannot read 'missing': No such file or directory\n"
        "csb-remap: cannot read '.': Is a directory\n")


def test_a_map_that_matches_nothing_is_said(sh):
    text = b'{"cwd":"/b"}\n{"cwd":"/c\\u001b"}\n{"cwd":"/b"}\n'
    done = sh("csb-remap /a=/x", text)
    assert (done.rc, done.err.count("\n")) == (0, 1)
    assert done.err.endswith("the working directories are '/b, /c\\x1b'\n")
    assert sh("csb-remap /a=/x", b'{"type":"mode"}\n').ok().out
    assert sh("csb-remap /a=/x", b'{"cwd":"/b"}\n{"cwd":"/a"}\n').ok().out


@pytest.mark.few(6)
@pytest.mark.parametrize("words", [
    "", "FILE", "a=/b", "/a=b", "/a=", "=/a", "=", "/a", "/a=/b /a=/c", "/a=/b /a/=/c",
    "~x=/b", "--slug", "--slug ''", "--slug / /a=/b", "--slug / FILE", "C:=/b",
    "/a=/b --claude-dir"])
def test_misuse(sh, words):
    done = sh(f"csb-remap {words}", b'{"cwd":"/a"}')
    assert (done.rc, done.out, done.err.count("\n")) == (2, "", 1), done


def test_a_terminal_is_no_transcript(home):
    end, terminal = pty.openpty()
    done = subprocess.run(
        [*POWERLESS, "csb-remap", "/a=/b"], env=home.env, stdin=terminal,
        capture_output=True, text=True, cwd=home.path)
    os.close(end)
    os.close(terminal)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


CWD = '{"cwd":"/a","d":'
VALUES = "[" + "{}," * (700 << 10) + "{}]}"
TEXT = '"' + "A" * (8 * MB) + '"}'
HUGE = {        # a line, and what it ends with
    "8 MB": (CWD + TEXT, 1),
    "8 MB, none": ('{"d":' + TEXT, 1),
    "values, none": ('{"d":' + VALUES, 0),
    "values": (CWD + VALUES, 1),
    "7 MB": (CWD + '"' + "\U0001f600,\\\"" * MB + '"}', 0),
}


@pytest.mark.few(1)
@pytest.mark.parametrize("kind", HUGE)
def test_memory(sh, kind):
    """100 MB in one line or a hostile one: 64 MB at most, and what is not looked into
    is said."""
    text, status = HUGE[kind]
    spaces = 92 * MB if kind == "8 MB" else 0
    given = (f"cat; head -c {spaces} /dev/zero | tr '\\0' ' '; "
             """echo; echo '{"cwd":"/a"}'""")
    remap = "/usr/bin/time -f %M $(command -v csb-remap) /a=/b"
    done = sh(f"({given}) | {remap} | cut -c1-20 | head -n 1", text.encode())
    *said, peak = done.err.splitlines()
    assert int(peak) < 64 << 10
    assert done.rc == status
    assert len(said) == 2 * status, "time speaks of a failure, too"
    if said:
        assert "line 1 of the input: it is too large" in said[0]
    start = text[:len(CWD)]
    if kind == "7 MB":
        start = start.replace("/a", "/b")
    assert done.out.startswith(start)


@pytest.mark.parametrize("folder, name", [
    ("/home/u/.x_y", "-home-u--x-y"),
    ("/", "-"),
    (r"C:\Users\Ann", "C--Users-Ann"),
    ("/e\U0001f600ji \u00e9", "-e--ji--"),
    ("/cafe\u0301", "-cafe-"),
    ("/a//b/../c/", "-a-c"),
    ("/" + "x" * 199, "-" + "x" * 199),
    # Measured with Claude Code 2.1.329.
    ("/dev/shm/remap/exp/c1/" + "L" * 120 + "/" + "m" * 120,
     "-dev-shm-remap-exp-c1-" + "L" * 120 + "-" + "m" * 57 + "-8huc4a"),
])
def test_slug(sh, folder, name):
    assert sh(f"csb-remap --slug '{folder}'").ok().out == name + "\n"


def test_slug_of_a_real_folder(sh, home):
    """Links are followed; of a long path a directory that is there already is named."""
    def slug(options=""):
        return sh(f"csb-remap {options} --slug '{LONG}'").ok().out.strip()

    (home.path / "real.d").mkdir()
    (home.path / "link").symlink_to("real.d")
    assert sh("csb-remap --slug link").ok().out.endswith("-real-d\n")

    projects = home.claude / "projects"
    own = slug()
    assert re.match("-l{120}---m{76}-.", own)
    (projects / ("-" + own[1:200])).mkdir(parents=True)
    assert slug() == own
    other = projects / (own[:201] + "0abc")
    other.mkdir()
    assert slug() == other.name
    assert slug("--claude-dir /nowhere") == own
    for word in ("--claude-dir ''", "--claude-dir="):
        done = sh(f"csb-remap {word} --slug /x")
        assert (done.rc, done.out) == (2, "")
        assert "--claude-dir" in done.err
    (projects / own).mkdir()
    assert slug() == own
