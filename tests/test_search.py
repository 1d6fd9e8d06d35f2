"""csb-search: what it finds, what it does not, and what it never says"""
import json
import os
import re
import signal
import sqlite3
import subprocess
import time

import pytest
from conftest import POWERLESS

pytestmark = pytest.mark.logic

IDS = [f"{number}1111111-2222-4333-8444-555555555555" for number in range(1, 9)]
ONE, TWO, THREE = IDS[:3]


def said(text, kind="user", number=1, day=1, **more):
    """A line of a transcript."""
    content = text if kind == "user" else [{"type": "text", "text": text}]
    return json.dumps({"type": kind, "uuid": f"u-{kind}-{number}-{text[:40]}", "cwd": "/w/parser",
                       "timestamp": f"2026-01-{day:02}T03:04:05.000Z",
                       "message": {"role": kind, "content": content}, **more}) + "\n"


@pytest.fixture
def put(put, home):
    """A function: write lines as a transcript, or with more=True at its end; its path."""
    def write(name, *lines, project="-w-parser", more=False):
        path = home.claude / "projects" / project / f"{name}.jsonl"
        data = b"".join(line if isinstance(line, bytes) else line.encode() for line in lines)
        if more and path.exists():
            data = path.read_bytes() + data
        return put(path.relative_to(home.claude), data, mtime=time.time())
    return write


def hits(sh, words, meta=False, **more):
    """The hits as (the first digit of the session, role, snippet); meta: of titles and such too."""
    done = sh(f"csb-search -n 0 {words}", **more)
    assert done.rc in (0, 1) and (done.rc == 1) == (not done.records), done
    return [(hit["session_id"][0], hit["role"], hit.get("snippet")) for hit in done.records
            if meta or hit["role"] != "meta"]


@pytest.fixture
def talk(put):
    """Two sessions: words, phrases, accents, punctuation, and Chinese, Japanese and Korean."""
    put(ONE, said("Fix the parser bug, please"),
        said("The bug in the parser is fixed", "assistant"),
        said("run foo.py with claude-code and café"), said("parsers are fun", "assistant"),
        said("我想搜索中文文本。"), said("データベースを検索する", "assistant"),
        said("한국어 검색기"), '{"type":"custom-title","customTitle":"Ordinary"}\n')
    put(TWO, said("nothing about that", cwd="/w/other"),
        said("bug only", "assistant", day=9, cwd="/w/other"),
        '{"type":"custom-title","customTitle":"The zebra title"}\n', project="-w-other")


FOUND = [
    ("the bug", "1user 1assistant"), ("THE BUG", "1user 1assistant"),
    ('"the parser bug"', "1user"), ('"bug the parser"', ""), ("parser", "1user 1assistant 1meta"),
    ("pars*", "1user 1assistant 1assistant 1meta"), ("bug NOT parser", "2assistant"),
    ("fun OR nothing", "1assistant 2user"), ("(fun OR fix) AND parser", "1user"),
    ("foo.py", "1user"), ("claude-code", "1user"), ("code-claude", ""), ("cafe", "1user"),
    ("café", "1user"), ("zebra", "2meta"), ("搜索", "1user"), ("中文", "1user"), ("搜中", ""),
    ("文", "1user"), ("搜索中文", "1user"), ("検索", "1assistant"), ("データ", "1assistant"),
    ("검색", "1user"), ('"中文文本"', "1user"), ("absent", ""),
    ("fix parser NOT (bug OR fun)", "")]


@pytest.mark.parametrize("scope", ["", "--tools"])
@pytest.mark.few(1)
def test_words(sh, talk, scope):
    """With the index, and by reading everything: the same."""
    for query, found in FOUND:
        got = hits(sh, f"{scope} '{query}'", True)
        assert sorted(a + b for a, b, _ in got) == sorted(found.split()), query


def test_without_fts5_words_say_what_to_do_instead(sh, talk):
    """-F and -E find what they find elsewhere, also in an index that was made without it."""
    for words in ("parser", "--tools parser", "-l parser"):
        done = sh(f"csb-search {words}", CSB_NO_FTS5="1")
        assert (done.rc, done.out, done.err.count("\n")) == (2, "", 1), done
        assert "no FTS5" in done.err and "-F or -E" in done.err
    for words in ("-F 'the parser'", "-E 'pars.r'", "-F -C 2 foo.py"):
        without = sh(f"csb-search {words}", CSB_NO_FTS5="1").ok()
        assert without.out and without.out == sh(f"csb-search {words}").ok().out
    assert len(hits(sh, "parser")) == 2, "the index is made whole where there is FTS5"


def test_a_bad_query_is_2_and_one_line(sh, talk):
    for query in ("a AND", "OR a", "NOT a", "(a", "a)", '"a', "a NEAR b", "!!!", "a AND AND b",
                  "()", "a ( )"):
        done = sh(f"csb-search '{query}'")
        assert (done.rc, done.out, done.err.count("\n")) == (2, "", 1), done


@pytest.mark.logic
@pytest.mark.long
def test_the_index_gives_what_reading_gives(sh, home, real):
    """Every kind of query on real transcripts, in the index and by reading all texts."""
    home.env["CLAUDE_CONFIG_DIR"] = str(max(real.claude, key=lambda path: len(list(
        path.glob("projects/*/*.jsonl")))))
    name = lambda hit: (hit["session_id"], hit["project"], hit["role"], hit.get("offset"))
    for query in ("test", "error NOT test", '"the file"', "comm*", "git push OR commit", "don't",
                  "src/main", "é", "v1.2", "naïve OR naive", "x86_64"):
        roles = "--role user --role assistant --role summary --role meta"
        one = sh(f'csb-search -n 0 {roles} "{query}"')
        two = sh(f'csb-search -n 0 --tools {roles} "{query}"')
        assert sorted(map(name, one.records)) == sorted(map(name, two.records)), query


def text_of(path):
    """Counted on its own: [(uuid, text)] that user and assistant said in a transcript."""
    found = []
    for line in path.read_bytes().split(b"\n"):
        try:
            record = json.loads(line)
            kind, content = record["type"], record.get("message", {}).get("content")
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
        if kind == "attachment" and record["attachment"].get("type") == "queued_command":
            kind, content = "user", record["attachment"].get("prompt")
        if kind not in ("user", "assistant") or record.get("isMeta") or record.get("isSidechain"):
            continue
        texts = [content] if isinstance(content, str) else [
            part["text"] for part in content or () if part.get("type") == "text"]
        if any(texts):
            found.append((record.get("uuid"), "\n".join(filter(None, texts))))
    return found


@pytest.mark.long
@pytest.mark.logic
def test_fixed_equals_grep(sh, home, real, tmp_path):
    """Every hit of -F is a hit of grep -F over the same text, and the other way round."""
    for claude in real.claude:
        home.env.update(CLAUDE_CONFIG_DIR=str(claude), CSB_HOME=str(tmp_path / claude.name))
        once, alone = {}, []
        for path in sorted(claude.glob("projects/*/*.jsonl")):
            if re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", path.stem):
                for uuid, text in text_of(path):
                    (once.__setitem__(uuid, text) if uuid else alone.append(text))
        lines = [text.encode("utf-8", "replace").replace(b"\n", b" ") for text in
                 [*once.values(), *alone]]
        (tmp_path / "text").write_bytes(b"".join(line + b"\n" for line in lines))
        words = ("the", '"', "->", "—", "\\", "<command", "é", "a/", "`", "✓", "&&")
        for word in words if len(lines) > 500 else words[:3]:
            quoted = "'" + word + "'"
            grep = sh(f"grep -acF -e {quoted} {tmp_path}/text", LC_ALL="C.UTF-8").out.strip()
            got = sh(f"csb-search -n 0 -F --role user --role assistant --role summary -- {quoted}")
            assert len(got.records) == int(grep), (claude.name, word)


@pytest.mark.long
def test_fixed_and_regex(sh, talk, put):
    put(THREE, said('a "quoted" if (a < b) && x\\y\tz'), said("Ünïcode \ud83d torn \U0001f600"))
    assert hits(sh, "-F 'if (a < b) &&'")[0][:2] == ("3", "user")
    assert hits(sh, "-F '\"quoted\"'") and hits(sh, "-F 'x\\y'") and not hits(sh, "-F 'IF (a'")
    assert hits(sh, "-F -i 'IF (A'") and hits(sh, "-F -i 'ÜNÏ'") and hits(sh, "-F '\U0001f600'")
    assert [hit[:2] for hit in hits(sh, "-E 'pars(er|ers) (bug|are)'")] == [("1", "user"),
                                                                           ("1", "assistant")]
    assert sh("csb-search -E '(a'").rc == 2
    assert hits(sh, "-F 'zebra title'", True) == [
        ("2", "meta", "The zebra title -w-other /w/other /w/other")]


@pytest.mark.parametrize("words, marked", [
    ("parser bug", ["parser", "bug"]), ("fun", ["fun"]), ("-F 'Fix the'", ["Fix the"]),
    ("-E 'b.g, p'", ["bug, p"]), ("-F -i FIX", ["Fix"]), ("\u641c\u7d22", ["\u641c\u7d22"]),
    ("-E '(a+)+ ?b|Fix'", ["Fix"])])
@pytest.mark.few(3)
def test_a_hit_says_where_it_is_in_the_snippet(sh, talk, put, words, marked):
    put(THREE, said("Fix " + "a" * 60))
    for hit in sh(f"csb-search -n 0 {words}").records:
        found = [hit["snippet"][start:end] for start, end in hit["match"]]
        if hit["session_id"] == ONE and hit["role"] == "user":
            assert found == marked and hit["title"] == "Ordinary"


def test_a_regex_that_never_ends_is_stopped(sh, put):
    put(ONE, said("a" * 60 + "b"))
    start = time.monotonic()
    done = sh("csb-search -E '(a+)+$'")
    assert (done.rc, done.out, done.err.count("\n")) == (2, "", 1) and "longer than" in done.err
    assert time.monotonic() - start < 30


@pytest.mark.long
def test_roles_and_scopes(sh, put, home):
    tool = {"type": "tool_use", "name": "Bash", "input": {"command": "make needle", "n": [1]}}
    result = {"type": "tool_result", "content": [{"type": "text", "text": "needle done"}]}
    thought = {"type": "thinking", "thinking": "a needle, perhaps"}
    for name, part in (("1", tool), ("2", result), ("3", thought)):
        put(ONE, said("", kind="assistant" if name != "2" else "user", number=name,
                      message={"content": [part]}), more=True)
    put(ONE, said("needle summary", isCompactSummary=True), said("needle caveat", isMeta=True),
        json.dumps({"type": "attachment", "attachment": {"type": "queued_command", "prompt":
                    "needle queued"}}) + "\n", more=True)
    agents = home.claude / "projects/-w-parser" / ONE / "subagents"
    agents.mkdir(parents=True)
    (agents / "agent-1.jsonl").write_text(said("needle of an agent", isSidechain=True))
    roles = lambda words: sorted(role for _, role, _ in hits(sh, words))
    assert roles("needle") == ["summary", "user"]
    assert roles("--tools needle") == ["result", "summary", "tool", "user"]
    assert roles("--all needle") == ["result", "summary", "thinking", "tool", *["user"] * 3]
    assert roles("--all --role tool --role result -F needle") == ["result", "tool"]
    assert roles("--role summary needle") == ["summary"]
    agent = [hit for hit in sh("csb-search --all agent").records if "agent" in hit]
    assert [hit["agent"] for hit in agent] == [f"{ONE}/subagents/agent-1.jsonl"]


@pytest.mark.long
def test_filters(sh, talk):
    only = lambda words: {number for number, _, _ in hits(sh, words)}
    assert only("bug") == {"1", "2"} and only("bug --project -w-other") == {"2"}
    assert only("bug --folder /w/other") == only("bug --folder /w/other/") == {"2"}
    assert only("bug --folder /w") == {"1", "2"} and only("bug --folder /w/oth") == set()
    assert only(f"--session {ONE[:8]} bug") == {"1"} and only("bug --deleted") == set()
    assert only("bug --since 2026-01-05") == {"2"} and only("bug --until 2026-01-05") == {"1"}
    assert only("bug --since 1d") == set()
    assert only("-F bug --since 2026-01-05") == {"2"} and only("-F bug --until 2026-01-05") == {"1"}
    assert sh("csb-search bug --session 2222").rc == 1 and sh("csb-search bug --since x").rc == 2
    assert len(sh("csb-search bug -n 1").records) == 1


def test_sessions_and_context(sh, talk):
    done = sh("csb-search -l bug").ok()
    assert sorted(done.out) == sorted(sh("csb-search -l -F bug").ok().out)
    assert sorted(record["session_id"] for record in done.records) == [ONE, TWO]
    assert sorted(done.out.splitlines()) == sorted(sh("csb-list").ok().out.splitlines())
    for how in ("foo.py", "-F foo.py"):
        (hit,) = sh(f"csb-search -C 2 {how}").ok().records
        assert [turn["snippet"] for turn in hit["before"]] == [
            "Fix the parser bug, please", "The bug in the parser is fixed"]
        assert [turn["role"] for turn in hit["after"]] == ["assistant", "user"]


def test_nothing_found_is_1_and_one_line(sh, talk):
    done = sh("csb-search absent")
    assert (done.rc, done.out, done.err.count("\n")) == (1, "", 1) and "word*" in done.err


def test_copies_of_forks_are_one_hit(sh, put):
    """The original is preferred, also when the fork is newer, and came first by its name."""
    first = said("the ancestor said so")
    put(TWO, first)
    more = {"sessionId": TWO, "messageUuid": json.loads(first)["uuid"]}
    fork = json.loads(first) | {"uuid": "x", "forkedFrom": more}
    put(ONE, json.dumps(fork) + "\n", said("own words"))
    put(THREE, json.dumps(json.loads(first) | {"sessionId": TWO}) + "\n")
    for how in ("ancestor --role user", "-F ancestor --role user", "--tools ancestor --role user"):
        assert [hit[0] for hit in hits(sh, how)] == ["2"], how
    assert [hit[0] for hit in hits(sh, f"ancestor --role user --session {ONE[:8]}")] == ["1"]


def state(home):
    """(texts that are indexed, bytes of each session that were read)."""
    with sqlite3.connect(home.backup / "search.db") as db:
        return (db.execute("SELECT count(*) FROM row").fetchone()[0],
                [parsed for (parsed,) in db.execute("SELECT parsed FROM file ORDER BY key")])


@pytest.mark.long
def test_it_is_never_stale(sh, put, home):
    """Appended, new, rewritten, renamed, deleted: the next call knows."""
    put(ONE, said("alpha"))
    assert hits(sh, "alpha") and not hits(sh, "beta")
    put(ONE, said("beta"), more=True)
    assert hits(sh, "beta") and hits(sh, "alpha")
    put(TWO, said("gamma"))
    assert hits(sh, "gamma")
    put(ONE, said("delta"))
    assert hits(sh, "delta") and not hits(sh, "beta")
    put(ONE, b'{"type":"custom-title","customTitle":"epsilon"}\n', more=True)
    assert [hit[1] for hit in hits(sh, "epsilon", True)] == ["meta"]


def test_only_the_tail_is_parsed(sh, put, stages):
    """What was read before is not read again: a csb-text that counts what it gives."""
    put(ONE, *(said(f"word{n}") for n in range(500)))
    assert hits(sh, "word1")
    put(ONE, said("tail"), more=True)
    done = sh("csb-textindex").ok()
    assert [record["texts"] for record in done.records] == [1]


def test_a_line_without_its_end(sh, put):
    """A torn line waits for the rest; a whole one without a newline is found, once."""
    torn = said("complete sentence")
    path = put(ONE, said("first"), torn[:40])
    assert hits(sh, "first") and not hits(sh, "sentence")
    path.write_text(said("first") + torn.rstrip("\n"))
    assert len(hits(sh, "sentence")) == 1
    put(ONE, "\n" + said("third"), more=True)
    assert len(hits(sh, "sentence")) == 1 and hits(sh, "third")


@pytest.mark.long
def test_hostile_lines(sh, put):
    big = "x " * (3 << 19) + "endword \u2713"
    put(ONE, said("good start"), b"\0" * 5000 + b"\n", b"\xff\xfe bad\n", b"[1,2]\n", b"null\n",
        b'{"type":"user","message":3}\n', b'{"type":"user","message":{"content":[7,{"type":"text",'
        b'"text":{}}]}}\n', b"[" * 100000 + b"\n", b'{"type":"user"}{"type":"user"}\n',
        b'{"a":"' + b"y" * (9 << 20) + b'"}\n', said("lone \ud83d surrogate"),
        said("nul \0 inside"), said(big), said("raw \u2028 separator"), said("esc \x1b[31m red"),
        said("wrong time", timestamp="2026-99-99T99:99:99Z"), said("good end"))
    for word in ("start", "surrogate", "inside", "endword", "separator", "red", "time", "end"):
        assert len(hits(sh, word)) == 1, word
        assert len(hits(sh, f"-F {word}")) >= 1, word
    assert "\x1b" not in sh("csb search red").out


def test_a_deleted_session_is_found_in_the_store(sh, put, home):
    """Deleted after it was indexed, and before: the snippet comes from git."""
    path = put(ONE, said("remember alpha"), said("and more", "assistant"))
    other = put(TWO, said("remember beta"))
    put(THREE, said("stays"))
    sh("csb-backup").ok()
    other.unlink()
    sh("csb-find | csb-index").ok()
    assert hits(sh, "remember") and hits(sh, "beta") == [("2", "user", "remember beta")]
    path.unlink()
    for how in ("", "-F "):
        assert hits(sh, how + "alpha") == [("1", "user", "remember alpha")]
        assert {hit[0] for hit in hits(sh, how + "--deleted remember")} == {"1", "2"}
    (home.backup / "search.db").unlink()
    assert {hit[0] for hit in hits(sh, "remember")} == {"1", "2"}
    sh(f"csb-restore {ONE}")
    assert hits(sh, "alpha") == [("1", "user", "remember alpha")]
    assert {hit[0] for hit in hits(sh, "--deleted remember")} == {"2"}


@pytest.mark.parametrize("damage", [b"not a database at all" * 500, b"", "truncate", "middle"])
@pytest.mark.few(1)
def test_a_damaged_index_is_made_anew(sh, put, home, damage):
    put(ONE, *(said(f"alpha {n} " + "word " * 50) for n in range(300)))
    assert len(hits(sh, "alpha")) == 300
    path = home.backup / "search.db"
    data = path.read_bytes()
    if damage == "truncate":
        damage = data[:len(data) // 2]
    elif damage == "middle":
        damage = data[:4096] + b"\xa5" * (len(data) - 8192) + data[-4096:]
    path.write_bytes(damage)
    assert len(hits(sh, "alpha")) == 300
    assert len(hits(sh, "alpha")) == 300 and path.stat().st_mode & 0o777 == 0o600


def test_killed_while_it_builds(sh, put, home, tools):
    """Whenever it is killed, the next one finds everything, once."""
    for number, name in enumerate(IDS):
        put(name, *(said(f"w{number}x{n} alpha " + "filler " * 60, number=n) for n in range(400)))
    for delay in (0.1, 0.3, 0.5, 0.8):
        process = subprocess.Popen([*POWERLESS, "csb-textindex"], env=home.env,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                   start_new_session=True)
        time.sleep(delay)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert len(hits(sh, "alpha")) == 400 * len(IDS)
    assert state(home)[0] == 400 * len(IDS) + len(IDS)


def test_it_goes_on_where_it_stopped(sh, put, home, stages):
    """What a run committed is not read again by the next one."""
    for name in IDS[:3]:
        put(name, said(f"alpha {name}"), project="-w")
    (home.path / "count").touch()
    bin_dir = home.env["PATH"].split(":")[0]
    with open(os.path.join(bin_dir, "csb-text"), encoding="utf-8") as file:
        code = file.read()
    line = "        failed = {'failed': True}\n".replace("'", '"')
    assert line in code
    slow = code.replace(line, line + "        import time\n        time.sleep(1.2)\n"
                        f"        open('{home.path}/count', 'a').write('x')\n")
    with open(os.path.join(bin_dir, "csb-text"), "w", encoding="utf-8") as file:
        file.write(slow)
    os.chmod(os.path.join(bin_dir, "csb-text"), 0o755)
    sh("timeout -s KILL 3.4 csb-textindex")
    sh("csb-textindex").ok()
    assert (home.path / "count").stat().st_size <= 5
    assert len(hits(sh, "alpha")) == 3


def test_two_at_once(sh, put):
    for name in IDS[:4]:
        put(name, *(said(f"{name[0]} alpha {n} " + "filler " * 40, number=n) for n in range(200)))
    done = sh("for i in 1 2 3 4; do csb-search --role user -n 0 alpha >out$i & done; wait; "
              "wc -l out?").ok()
    assert re.findall(r"(\d+) out", done.out) == ["800"] * 4
    assert len(hits(sh, "alpha")) == 800


@pytest.mark.long
def test_the_index_is_thrown_away_when_a_tenth_is_dead(sh, put, home):
    put(TWO, said("stays"))
    for number in range(3):
        put(ONE, *(said(f"alpha{number} {n}", number=n) for n in range(1200)))
        assert len(hits(sh, f"alpha{number}")) == 1200
    assert not hits(sh, "alpha0") and not hits(sh, "alpha1") and hits(sh, "stays")
    with sqlite3.connect(home.backup / "search.db") as db:
        assert dict(db.execute("SELECT name, value FROM state"))["dead"] <= 1300


def test_it_is_small_and_reads_within_bounds(sh, put, home):
    """8 % of transcripts of which a twentieth is text, the resident memory of every stage too."""
    lines = []
    for n in range(3000):
        lines.append(said(" ".join(f"word{(n * k) % 997}" for k in range(1, 40)), number=n))
        lines.append(json.dumps({"type": "user", "message": {"role": "user", "content": [
            {"type": "tool_result", "content": "z" * 6000}]}}) + "\n")
    path = put(ONE, *lines)
    assert hits(sh, "word996")
    assert (home.backup / "search.db").stat().st_size < path.stat().st_size * 0.08
    done = sh("/usr/bin/time -f %M csb-search --all -n 5 -F z")
    if done.rc == 0:
        assert int(done.err.split()[-1]) < 64 * 1024, done.err


def test_people_see_hits(sh, talk):
    done = sh("csb search zebra").ok()
    assert TWO[:8] in done.out and "The zebra title" in done.out
