"""csb-search: what it finds, what it does not, and what it never says"""
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
import unicodedata

import pytest
from conftest import INDEX, POWERLESS, ROOT

sys.path.insert(0, os.path.join(ROOT, "lib"))
from csb.transcript import Record

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
    for query in ("a AND", "OR a", "NOT a", "(a", "a)", '"a', "!!!", "a AND AND b",
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
    """Counted on its own: [(uuid, role, text)] of what is said in a transcript."""
    found = []
    queued = []
    for line in path.read_bytes().split(b"\n"):
        try:
            record = Record(json.loads(line))
        except ValueError:
            continue
        if record.is_meta or record.is_sidechain or record.type == "system":
            continue
        queued += [voice.text for voice in record.queued]
        texts = {}
        for result in record.said.results if record.said else ():
            if result.persons_words:
                texts.setdefault("user", []).append(result.persons_words)
        for role, text in record.voices():
            role = "user" if role == "command" else role
            if role != "meta" and text.strip():
                texts.setdefault(role, []).append(text)
        for role, parts in texts.items():
            found.append((record.original_uuid, role, "\n".join(parts)))
    said = {text for _, _, text in found}
    return found + [("", "user", text) for text in queued if text not in said]


@pytest.mark.long
@pytest.mark.logic
def test_fixed_equals_grep(sh, home, real, tmp_path):
    """Every hit of -F is a hit of grep -F over the same text, and the other way round."""
    for claude in real.claude:
        home.env.update(CLAUDE_CONFIG_DIR=str(claude), CSB_HOME=str(tmp_path / claude.name))
        once, alone = set(), []
        for path in sorted(claude.glob("projects/*/*.jsonl")):
            if re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", path.stem):
                for uuid, role, text in text_of(path):
                    if uuid:
                        once.add((uuid, role, text))
                    else:
                        alone.append(text)
        lines = []
        for text in [*(text for _, _, text in once), *alone]:
            text = unicodedata.normalize("NFC", text).replace("\n", " ")
            lines.append(text.encode("utf-8", "replace"))
        (tmp_path / "text").write_bytes(b"".join(line + b"\n" for line in lines))
        words = ("the", '"', "->", "—", "\\", "</", "é", "a/", "`", "✓", "&&")
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


def test_a_title_is_as_new_as_its_session(sh, put):
    put(ONE, said("zebra", day=1))
    for day in 2, 3:        # with the same title and folders
        sh(f"{INDEX} && csb-search zebra").ok()
        put(ONE, said("more", number=day, day=day), more=True)
    sh(INDEX).ok()
    (hit,) = sh("csb-search --role meta zebra --since 2026-01-03").ok().records
    assert hit["at"] == "2026-01-03T03:04:05Z"


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
    assert roles("--all needle") == ["result", "summary", "system", "thinking", "tool", *["user"] * 2]
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
    sh("csb-find | csb-index").ok()
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
    limited = "no session within these limits says 'parser'"
    for limits in ("--until 2001-01-01", "--project x", "--role summary"):
        assert limited in sh(f"csb-search parser {limits}").err


def test_a_uuid_that_several_sessions_have_hides_none(sh, put):
    """Not every program makes uuids: some number the records of each session."""
    for name in (ONE, TWO, THREE):
        put(name, said(f"alpha of {name[0]}", uuid="u1"),
            said(f"alpha back to {name[0]}", "assistant", uuid="u1"))
    for words in ("alpha", "-F alpha", "--all alpha"):
        found = {number for number, _, _ in hits(sh, words)}
        assert found == {"1", "2", "3"}, words
        assert len(hits(sh, words)) == 6


def test_a_typed_command_is_found_as_it_is_shown(sh, put):
    """Claude Code writes its parts in elements of their own, and in another order."""
    put(ONE, said("first"),
        said("<command-message>deploy</command-message>\n<command-name>/deploy</command-name>\n"
             "<command-args>prod eu</command-args>"),
        said("<bash-input>ls -la harbour</bash-input>"),
        said('see <pasted_content id="1">the mast</pasted_content> there'))
    for query in ("/deploy prod eu", "! ls -la harbour", "see the mast there"):
        for scope in ("", "--tools", "--all", "-i"):
            assert len(hits(sh, f"{scope} -F '{query}'")) == 1, (scope, query)


@pytest.mark.parametrize("opening, closing, inner", [
    ('{"k":[', "]}", '"deep needle"'), ("[", "]", '"deep needle"')])
@pytest.mark.few(1)
def test_what_is_nested_deeply_stops_no_search(sh, put, opening, closing, inner):
    """In what a tool was given, and in its result."""
    call = json.dumps({"type": "tool_use", "id": "t", "name": "Open", "input": "@"})
    call = call.replace('"@"', opening * 450 + inner + closing * 450)
    result = '{"type":"tool_result","tool_use_id":"t","content":['
    result = result * 400 + '{"type":"text","text":"x"}' + "]}" * 400
    put(ONE, said("first"), said("a call", "assistant", message={"content": "@"}).replace(
        '"@"', f'[{{"type":"text","text":"before it"}},{call}]'),
        said("", message={"content": "@"}).replace('"@"', f"[{result}]"), said("last"))
    assert hits(sh, "--tools -F 'deep needle'") and hits(sh, "-F 'before it'")
    assert hits(sh, "--all -F last") and hits(sh, "last")
    for tool in ("csb-log --html", "csb-log --tools full", "csb-cat"):
        assert "last" in sh(f"{tool} {ONE}").ok().out


def test_numbers_that_a_tool_was_given_are_found(sh, put):
    call = {"type": "tool_use", "id": "t", "name": "Open", "input": {"to": [{"port": 47110}]}}
    put(ONE, said("x"), said("", "assistant", message={"content": [call]}))
    for words in ("-F 47110", "47110"):
        assert [role for _, role, _ in hits(sh, f"--tools {words}")] == ["tool"]


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
                [parsed for (parsed,) in db.execute("SELECT parsed FROM file ORDER BY name")])


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


def row_ids(home):
    """The numbers of the texts that are indexed, without those of titles and such."""
    with sqlite3.connect(home.backup / "search.db") as db:
        rows = db.execute("SELECT id FROM row WHERE offset >= 0").fetchall()
    return {number for (number,) in rows}


def test_only_the_tail_is_read(sh, put, home):
    """What was indexed before stays as it is."""
    put(ONE, *(said(f"word{n}") for n in range(500)))
    assert hits(sh, "word1")
    before = row_ids(home)
    put(ONE, said("tail"), more=True)
    assert hits(sh, "tail")
    assert len(row_ids(home) - before) == 1 and before < row_ids(home)


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


@pytest.mark.long
def test_killed_while_it_builds(sh, put, home, tools):
    """Whenever it is killed, the next one finds everything, once."""
    for number, name in enumerate(IDS):
        put(name, *(said(f"w{number}x{n} alpha " + "filler " * 60, number=n) for n in range(400)))
    for delay in (0.1, 0.2, 0.3, 0.5, 0.8):
        process = subprocess.Popen([*POWERLESS, "csb-search", "alpha"], env=home.env,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                   start_new_session=True)
        time.sleep(delay)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert len(hits(sh, "alpha")) == 400 * len(IDS)
    assert state(home)[0] == 400 * len(IDS) + len(IDS)


@pytest.mark.long
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
        made, alive = db.execute("SELECT max(seq), (SELECT count(*) FROM row) FROM "
                                 "sqlite_sequence").fetchone()
        assert made - alive <= 1300


@pytest.mark.long
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


@pytest.mark.long
@pytest.mark.skipif(not os.path.exists("/usr/bin/time"), reason="GNU time is not installed")
@pytest.mark.parametrize("unit", ["word ", "\u6f22\u5b57 ", "\u6f22", "e\u0301 ", "\U0001f600 "])
def test_long_lines_are_searched_within_bounds(sh, put, unit):
    """A line of 8 MB in any script; its words are found."""
    put(ONE, said(unit * ((8 << 20) // len(unit.encode()) - 1000)), said("the end"))
    for words in ("end", "-F end", "--all end"):
        done = sh(f"/usr/bin/time -f %M csb-search {words}")
        assert done.rc == 0 and len(done.records) == 1, words
        assert int(done.err.split()[-1]) < 64 * 1024, (words, done.err)


@pytest.mark.skipif(not os.path.exists("/usr/bin/time"), reason="GNU time is not installed")
@pytest.mark.parametrize("unit", ["word ", "a \\ \"b\"\n", "\u6f22\u5b57 ", "\u00e9", "abcd"])
@pytest.mark.few(1)
def test_a_text_is_found_anywhere_in_a_long_line(sh, put, unit):
    """Once, shown with its match, in little memory; what a machine said stays a machine's."""
    def line(*texts):
        content = [{"type": "text", "text": text} for text in texts]
        record = {"type": "user", "uuid": "u1", "message": {"role": "user", "content": content}}
        return json.dumps(record, ensure_ascii=False) + "\n"

    many = unit * ((3 << 19) // len(unit.encode()))
    machines = "<task-notification>" + many + " a machine's persimmon "
    put(ONE, line("first", many + " quince " + many, "last medlar", machines),
        said("run it", "assistant"))
    for words in ("quince", "-F quince", "--all -E 'quinc. '", "medlar"):
        done = sh(f"/usr/bin/time -f %M csb-search --role user {words}")
        (hit,) = done.records
        (start, end), *_ = hit["match"]
        assert hit["snippet"][start:end].strip() in ("quince", "medlar")
        assert hit["total"] == 1 and len(hit["snippet"]) < 250
        assert int(done.err.split()[-1]) < 64 * 1024, (words, done.err)
    assert not hits(sh, "persimmon") and hits(sh, "--all persimmon")[0][1] == "system"


def test_people_see_hits(sh, talk):
    done = sh("csb search zebra").ok()
    assert TWO[:8] in done.out and "The zebra title" in done.out


# --- what is found, and what once was not ---------------------------------------------


def versions_of(texts, kind):
    """A transcript before and after it was rewritten, as lines."""
    before = [said(text, number=number) for number, text in enumerate(texts)]
    after = {
        "pruned": before[2:],
        "cut off, and grown": [*before[:2], said("longer " * 200, number=99)],
        "another": [said("nothing of that " * 50, number=98)],
        "edited in place": [before[0].replace("aqueduct", "xxxxxxxx"), *before[1:]],
    }[kind]
    return before, after


@pytest.mark.parametrize("kind", [
    "pruned", "cut off, and grown", "another", "edited in place"])
@pytest.mark.parametrize("is_indexed", [True, False])
@pytest.mark.few(1)
def test_what_only_older_versions_hold_is_found(sh, put, home, kind, is_indexed):
    """Whether it was searched before the rewrite, or the index was made afterwards."""
    texts = ["the aqueduct prompt", "the sluice", "the third", "the fourth"]
    before, after = versions_of(texts, kind)
    path = put(ONE, *before)
    sh("csb-backup").ok()
    if is_indexed:
        assert hits(sh, "aqueduct")
    put(ONE, *after)
    assert sh("csb-backup").rc == 0
    lost = [text for text in texts if not any(text in line for line in after)]
    for how in ("", "-F ", "--tools ", "--all -F "):
        for text in lost if how else texts:
            assert hits(sh, f"{how}'{text}'") == [("1", "user", text)], (how, text)
    for text in lost:
        (hit,) = sh(f"csb-search '{text}' --role user").ok().records
        name = path.relative_to(home.claude)
        there = sh(f"git --git-dir={home.backup}/git show {hit['commit']}:{name}").ok().out
        assert text in there.encode()[hit["offset"]:].splitlines()[0].decode()
    (home.backup / "search.db").unlink()
    for text in {*lost, texts[0]}:
        assert hits(sh, text) == [("1", "user", text)], text


@pytest.mark.parametrize("is_indexed", [True, False])
@pytest.mark.few(1)
def test_what_was_said_before_a_rewrite_and_a_move_is_found(sh, put, home, is_indexed):
    """Only the project that it was in then has that version."""
    put(ONE, said("the aqueduct"), said("the sluice"))
    sh("csb-backup").ok()
    path = put(ONE, said("another talk " * 50))
    assert sh("csb-backup").rc == 0
    if is_indexed:
        assert hits(sh, "aqueduct")
    (home.claude / "projects/-w-other").mkdir()
    path.rename(home.claude / f"projects/-w-other/{ONE}.jsonl")
    assert sh("csb-backup").rc == 0
    for how in ("", "-F ", "--all "):
        assert hits(sh, f"{how}aqueduct") == [("1", "user", "the aqueduct")], how


def backed_up_and_rewritten(sh, put):
    """A session that lost its first message, which is found."""
    put(ONE, said("the aqueduct"), said("stays"))
    sh("csb-backup").ok()
    put(ONE, said("stays"))
    assert sh("csb-backup").rc == 0
    assert hits(sh, "aqueduct")


def test_seen_reads_nothing_again(sh, put, home):
    """Nor does what only an older version holds go away."""
    backed_up_and_rewritten(sh, put)
    before = row_ids(home)
    sh(f"csb-index --seen {ONE}").ok()
    assert hits(sh, "aqueduct") and hits(sh, "stays") and row_ids(home) == before


def spilled(put, text, name="b1x2.txt"):
    """A session with an output that lies in a file beside it; the path of that."""
    folder = f"projects/-w-parser/{ONE}/tool-results"
    note = ("<persisted-output>\nOutput too large (120KB). Full output saved to: "
            f"/x/{folder}/{name}\n\nPreview (first 2KB):\ncc a.c\n</persisted-output>")
    result = {"type": "tool_result", "tool_use_id": "t", "content": note}
    path = put(ONE, said("run it"), said("", message={"content": [result]}))
    output = path.parent / ONE / "tool-results" / name
    output.parent.mkdir(parents=True)
    output.write_bytes(text)
    return output


def test_outputs_beside_the_transcript_are_searched(sh, put):
    """On disk, in the store when they are gone from disk, and when all of it is."""
    text = b"x" * ((1 << 20) - 5) + b" hydrangea_init\n" + b"y\n" * 100000 + b"peony\n"
    output = spilled(put, text)
    sh("csb-backup").ok()

    def found(how, word):
        done = sh(f"csb-search --tools {how}{word}")
        return [(hit["role"], hit["output"], word in hit["snippet"]) for hit in done.records]

    expected = [("result", f"{ONE}/tool-results/b1x2.txt", True)]
    for how in ("", "-F ", "-E "):
        assert not hits(sh, f"{how}hydrangea_init")
    for _ in range(3):
        for how in ("", "-F ", "-E "):
            assert found(how, "hydrangea_init") == found(how, "peony") == expected
        if output.exists():
            output.unlink()
        else:
            (output.parent.parent.parent / f"{ONE}.jsonl").unlink(missing_ok=True)
    for how in ("", "-F ", "-E "):
        assert len(hits(sh, f"--all {how}peony")) == 1


def test_an_output_that_is_no_text_is_not_searched(sh, put):
    spilled(put, b"hydrangea\0" * 100, "picture.bin")
    assert not hits(sh, "--tools hydrangea")


def queue(text, operation="enqueue"):
    return json.dumps({"type": "queue-operation", "operation": operation, "content": text,
                       "timestamp": "2026-01-02T03:04:05.000Z"}) + "\n"


def test_what_was_cut_off_is_found_when_nothing_else_knows_of_it(sh, put):
    """It has grown on since then, and both indexes are made anew."""
    for texts in (["the aqueduct"] * 2, ["the sluice"], ["the sluice", *["the wall"] * 3]):
        put(ONE, *(said(text, number=n) for n, text in enumerate(texts)))
        assert sh("csb-backup").rc == 0
    sh("rm $CSB_HOME/*.db").ok()
    assert hits(sh, "aqueduct") == [("1", "user", "the aqueduct")] * 2
    assert len(hits(sh, "sluice")) == 1 and len(hits(sh, "wall")) == 3


@pytest.mark.parametrize("is_indexed", [False, True])
def test_a_transcript_that_is_gone_and_left_its_folder(sh, put, home, is_indexed):
    """It is found in the store, as any other that is gone."""
    output = spilled(put, b"the hydrangea\n")
    put(TWO, said("run another"))
    sh(f"csb-backup; {'csb-search run' if is_indexed else 'rm $CSB_HOME/*.db'}")
    (output.parent.parent.parent / f"{ONE}.jsonl").unlink()
    for _ in range(2):
        sh("csb-index --on-disk")
        for how in ("", "-F "):
            found = hits(sh, f"{how}run")
            assert sorted(found) == [("1", "user", "run it"), ("2", "user", "run another")]
            assert [hit[0] for hit in hits(sh, f"--deleted {how}run")] == ["1"]
        assert hits(sh, "--tools hydrangea") == [("1", "result", "the hydrangea")]


@pytest.mark.parametrize("how", ["", "-F ", "--tools "])
def test_what_was_typed_and_never_said_is_found(sh, put, how):
    """And what was said is found once, whenever the text index was brought up to date."""
    put(ONE, said("hello"), queue("look at the toffee"), queue("", "dequeue"))
    toffee = [("1", "user", "look at the toffee")]
    assert hits(sh, f"{how}toffee") == toffee
    put(ONE, said("another"), more=True)
    assert hits(sh, f"{how}toffee") == toffee
    put(ONE, said("look at the toffee"), queue("the fudge"), said("the fudge"), more=True)
    assert hits(sh, f"{how}toffee") == toffee
    assert hits(sh, f"{how}fudge") == [("1", "user", "the fudge")]
    sh("rm $CSB_HOME/search.db")
    assert hits(sh, f"{how}toffee") == toffee
    put(TWO, queue("<task-notification>nougat</task-notification>"), queue('{"a": "nougat"}'))
    assert not hits(sh, f"{how}nougat")


def test_what_a_person_told_a_tool_is_found(sh, put):
    refused = ("The user doesn't want to proceed with this tool use. To tell you how to proceed, "
               "the user said:\nuse the gooseberry")
    result = {"type": "tool_result", "tool_use_id": "t", "is_error": True, "content": refused}
    put(ONE, said("", message={"content": [result]}))
    for how in ("", "-F ", "-E "):
        assert hits(sh, f"{how}gooseberry") == [("1", "user", "use the gooseberry")]
    assert ("1", "user", "use the gooseberry") in hits(sh, "--tools gooseberry")


def test_an_output_that_is_called_a_text_is_one(sh, put):
    """What a command wrote may hold NULs, as that of find -print0."""
    spilled(put, b"a\0b\0hydrangea\0", "b1x2y3z4w.txt")
    assert hits(sh, "--tools hydrangea") and hits(sh, "--tools -F hydrangea")


@pytest.mark.parametrize("how", ["", "-F ", "-E ", "--tools "])
@pytest.mark.few(1)
def test_a_line_above_8_mb_is_searched(sh, put, how):
    """Three large pictures with a question."""
    picture = {"type": "image", "source": {"type": "base64", "data": "iVBORw0K" * 400000}}
    parts = [{"type": "text", "text": "compare the chrysanthemum dialogs"}, *[picture] * 3]
    put(ONE, said("", message={"role": "user", "content": parts}), said("the second"))
    assert hits(sh, f"{how}chrysanthemum") == [("1", "user", "compare the chrysanthemum dialogs")]
    assert hits(sh, f"{how}second")


SPELLED = ["\ud55c\uae00", "\u30c9\u30e9\u30a4\u30d6", "caf\u00e9", "\u0439\u043e\u0434",
           "\u1ec7", "\u1e69", "\u2126hm", "\u212b"]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("asked", ["NFC", "NFD"])
@pytest.mark.few(1)
def test_two_spellings_of_a_letter_are_one(sh, put, form, asked):
    """In ranked search, in -F, -E, and where all is read; written raw and as escapes."""
    spell = unicodedata.normalize
    put(ONE, *(json.dumps({"type": "user", "uuid": f"u{n}", "message": {
        "content": "sort " + spell(form, word)}}, ensure_ascii=False) + "\n"
        for n, word in enumerate(SPELLED)))
    put(TWO, *(said("sort " + spell(form, word), number=n) for n, word in enumerate(SPELLED)))
    words = [spell(asked, word) for word in SPELLED]
    texts = {word: "sort " + spell("NFC", word) for word in words}
    everything = sorted((one, "user", text) for one in "12" for text in texts.values())
    any_of_them = " OR ".join(words)
    for query in (f"'{any_of_them}'", f"--tools '{any_of_them}'", f"-E '{'|'.join(words)}'"):
        assert sorted(hits(sh, f"-n 0 --role user {query}")) == everything, query
    for how, some in (("-F ", words), ("-F -i ", words[:2])):
        for word in some:
            found = hits(sh, f"{how}--role user '{word}'")
            assert sorted(found) == [(one, "user", texts[word]) for one in "12"], (how, word)


def test_rows_that_come_again_are_one_hit(sh, put, home):
    """Claude Code appends earlier rows once more when it compacts."""
    rows = [said(f"point {n}", number=n, uuid=f"{n:08x}-0000-4000-8000-000000000000")
            for n in range(20)]
    put(ONE, *rows, *rows)
    assert len(hits(sh, "point")) == len(hits(sh, "-F point")) == 20
    put(ONE, *rows, more=True)
    for how in ("", "-F ", "--tools "):
        assert len(hits(sh, how + "point")) == 20
        assert len(hits(sh, how + "'point 7'")) == 1


def test_an_id_in_capitals(sh, put):
    name = "0122B4C2-C01E-41C6-98EC-C309D2B8EB5A"
    put(name, said("the carambola"))
    for words in ("carambola", "-F carambola", "carambola --session 0122b4c2",
                  f"carambola --session {name}"):
        assert [hit["session_id"] for hit in sh(f"csb-search {words} --role user").ok().records
                ] == [name]


def test_many_turns_around_many_hits(sh, put):
    """More of them than a pipe holds."""
    for number in range(30):
        put(f"{number:08x}-2222-4333-8444-555555555555",
            *(said(f"turn {n} " + "filler " * 50, number=n) for n in range(120)),
            said(f"the needle {number}"), said("the end", number=7))
    done = sh("csb-search -n 0 -C 100 --role user needle").ok()
    assert len(done.records) == 30
    for hit in done.records:
        assert len(hit["before"]) == 100 and len(hit["after"]) == 1
        assert hit["before"][-1]["snippet"].startswith("turn 119 filler")


def test_the_end_of_a_deleted_session_is_found(sh, put, home):
    """Stored between the last search and the deletion."""
    path = put(ONE, said("the beginning"))
    assert hits(sh, "beginning")
    put(ONE, said("the very end"), more=True)
    sh("csb-backup").ok()
    path.unlink()
    before = row_ids(home)
    for how in ("", "-F ", "--deleted ", "--tools "):
        assert hits(sh, how + "'very end'") == [("1", "user", "the very end")], how
        assert hits(sh, how + "beginning") == [("1", "user", "the beginning")], how
    assert before < row_ids(home)


@pytest.mark.parametrize("query, text, marked", [
    ("'\"exit status\"'", "an exit\nstatus of 1", ["exit status"]),
    ("'\"exit status\"'", "an exit -\n  status of 1", ["exit - status"]),
    ("cafe", "the caf\u00e9 and the cafes", ["caf\u00e9"]),
    ("caf\u00e9", "the cafe", ["cafe"]), ("ECOLE", "une \u00e9cole", ["\u00e9cole"]),
    ("naive", "x" * 5000 + " na\u00efve " + "y" * 5000, ["na\u00efve"]),
    ("er*", "an error, an ERA", ["error", "ERA"]), ("err", "terror, err.", ["err"]),
    ("a_b", "is a_b it", ["a_b"]), ("'\"\u6587\u672c\"'", "\u4e2d\u6587\u6587\u672c", ["\u6587\u672c"]),
    ("foo", "\u4e2dfoo\u6587", ["foo"]), ("\u0430\u0434", "\u0410\u0434!", ["\u0410\u0434"]),
    ("-F 'a  b'", "x a  b", ["a b"]), ("-E 'b.*z'", "a b" + "c" * 900 + "z", ["b" + "c" * 239]),
    ("-F '\n  two'", "one\n  two", [" two"])])
@pytest.mark.few(2)
def test_the_snippet_shows_its_match(sh, put, query, text, marked):
    put(ONE, said(text))
    for scope in ("", "--tools "):
        (hit,) = sh(f"csb-search --role user {scope}{query}").ok().records
        assert [hit["snippet"][start:end] for start, end in hit["match"]] == marked


def test_a_folder_that_cannot_be_read(sh, put, home):
    """It is said, what is known of it is found, and nothing is read again."""
    path = put(ONE, said("alpha one"), project="-w-closed")
    put(TWO, said("alpha two"))
    assert len(hits(sh, "alpha")) == 2
    before = row_ids(home)
    path.parent.chmod(0)
    put(THREE, said("alpha three"))
    for _ in range(2):
        done = sh("csb-search alpha --role user")
        assert done.rc == 1 and len(done.records) == 3 and done.err.count("\n") <= 2, done
        assert "cannot list" in done.err and "-w-closed" in done.err
        assert not sh("csb-search alpha --deleted").records, "it counts as deleted"
    path.parent.chmod(0o700)
    assert before < row_ids(home) and len(row_ids(home)) == 3
    assert len(sh("csb-search alpha --role user").ok().records) == 3


@pytest.mark.long
def test_a_deleted_session_whose_end_nobody_stored(sh, put, home):
    """What the store has of it is found and shown, with the commit that has it, and no more."""
    path = put(ONE, said("the beginning"))
    sh("csb-backup").ok()
    put(ONE, said("the very end"), more=True)
    assert hits(sh, "end") == [("1", "user", "the very end")]
    path.unlink()
    for how in ("", "-F ", "--tools "):
        (hit,) = sh(f"csb-search {how}beginning --role user").ok().records
        assert hit["snippet"] == "the beginning"
        name = path.relative_to(home.claude)
        there = sh(f"git --git-dir={home.backup}/git show {hit['commit']}:{name}").ok().out
        assert "the beginning" in there
        assert not hits(sh, f"{how}'very end'")


def test_killed_before_older_versions_were_read(sh, put, home):
    """What a run that was killed did not come to, the next one looks for."""
    backed_up_and_rewritten(sh, put)
    with sqlite3.connect(home.backup / "search.db") as db:
        db.execute("DELETE FROM row WHERE file <> session")
        db.execute("DELETE FROM file WHERE id <> session")
        db.execute("UPDATE state SET seen = NULL")
    assert hits(sh, "aqueduct") == [("1", "user", "the aqueduct")]


def test_a_session_that_moved_is_found_once(sh, put, home):
    path = put(ONE, said("alpha"), project="-w-tree")
    assert hits(sh, "alpha")
    before = row_ids(home)
    other = home.claude / "projects/-w/" / path.name
    other.parent.mkdir()
    path.rename(other)
    for how in ("", "-F "):
        (hit,) = sh(f"csb-search {how}alpha --role user").ok().records
        assert hit["project"] == "-w"
    assert not hits(sh, "alpha --deleted") and row_ids(home) == before


def test_transcripts_where_claude_code_does_not_look(sh, put, home):
    """One folder deeper, and a conflict copy, which counts less than the original."""
    put(ONE, said("alpha original"))
    deeper = home.claude / f"projects/-w-parser/old/{TWO}.jsonl"
    deeper.parent.mkdir()
    deeper.write_text(said("alpha deeper"))
    copy = home.claude / f"projects/-w-parser/{ONE} (conflicted copy).jsonl"
    copy.write_text(said("alpha original") + said("alpha in the copy alone"))
    sh("csb-find | csb-index").ok()
    for how in ("", "-F ", "--tools "):
        found = sorted(hit[2] for hit in hits(sh, how + "alpha"))
        assert found == ["alpha deeper", "alpha in the copy alone", "alpha original"]
    paths = {record["transcript_path"] for record in sh("csb-search -l alpha").ok().records}
    assert paths == {str(deeper), str(copy), str(home.claude / f"projects/-w-parser/{ONE}.jsonl")}


def test_what_a_machine_says_is_no_users_word(sh, put):
    reminder = "<system-reminder>\nneedle of a machine\n</system-reminder>"
    put(ONE, said("<task-notification>needle of a task</task-notification>"),
        said(f"a person's needle\n{reminder}"), said("needle", origin={"kind": "task"}))
    assert hits(sh, "needle") == [("1", "user", "a person's needle")]
    roles = sorted(role for _, role, _ in hits(sh, "--all needle"))
    assert roles == ["system", "system", "system", "user"]


def test_hits_say_how_many_there_are(sh, put):
    for name in IDS[:3]:
        put(name, *(said(f"needle {name} {n}", number=n) for n in range(10)))
    put(IDS[3], said("nothing"))
    for how in ("", "-F ", "--tools "):
        done = sh(f"csb-search {how}-n 4 --role user needle").ok()
        assert [(hit["total"], hit["sessions"], hit["searched"]) for hit in done.records] == [
            (30, 3, 4)] * 4
        assert {hit["cwd"] for hit in done.records} == {"/w/parser"}


def test_many_hits_are_counted_though_not_ranked(sh, put):
    put(ONE, *(said(f"needle {n}", number=n) for n in range(6000)))
    (hit,) = sh("csb-search -n 1 needle --role user").ok().records
    assert hit["total"] == 6000


def test_a_reader_that_waits_keeps_nobody_out(sh, put, home):
    """The index is written while somebody still looks at hits."""
    put(ONE, *(said(f"needle {n} " + "filler " * 30, number=n) for n in range(1000)))
    put(TWO, said("other"))
    assert hits(sh, "other")
    for how in ("", "-F ", "-C 2 "):
        slow = subprocess.Popen(f"csb-search -n 0 --role user {how}needle", shell=True, env=home.env,
                                stdout=subprocess.PIPE)
        assert slow.stdout.read(1)
        put(TWO, said("newer"), more=True)
        assert sh("csb-search newer").ok().records
        assert slow.stdout.read().count(b"\n") == 1000 and slow.wait() == 0


def test_a_home_that_cannot_be_written(sh, put, home):
    """Everything is found, and it is said that nothing is kept."""
    put(ONE, said("alpha"))
    home.backup.mkdir(exist_ok=True)
    for prepare in (None, "csb-search alpha"):
        if prepare:
            sh(prepare).ok()
            put(ONE, said("alpha again"), more=True)
        home.backup.chmod(0o500)
        for path in home.backup.iterdir():
            path.chmod(0o400)
        for how in ("", "-F "):
            done = sh(f"csb-search --role user {how}alpha")
            assert done.rc == 0 and len(done.records) == 1 + bool(prepare), done
            assert done.err.count("\n") == 1 and "cannot keep the text index" in done.err
        for path in home.backup.iterdir():
            path.chmod(0o600)
        home.backup.chmod(0o700)


def test_a_disk_that_is_full(sh, put, home):
    """The same: a limit on the size of files stands for it."""
    put(ONE, *(said(f"alpha {n} " + "filler " * 50, number=n) for n in range(900)))
    done = sh("ulimit -f 100; csb-search -n 0 --role user alpha | cat")
    assert done.rc == 0 and len(done.records) == 900, done.err
    assert done.err.count("\n") == 1 and "cannot keep the text index" in done.err
    assert len(hits(sh, "alpha")) == 900


def test_an_index_of_another_version_is_made_anew(sh, put, home):
    put(ONE, said("alpha"))
    assert hits(sh, "alpha")
    with sqlite3.connect(home.backup / "search.db") as db:
        db.execute(f"PRAGMA user_version = {0x63737401}")
    assert sh("csb-search alpha --role user").ok().records
    assert not (home.backup / "search.db.bad").exists()


def test_without_an_index_of_sessions(sh, put, home):
    """Also of one that is damaged: what is on disk is found, and so is what the store has."""
    put(ONE, said("alpha"), '{"type":"custom-title","customTitle":"Ordinary"}\n')
    path = put(TWO, said("alpha, too"))
    sh("csb-backup").ok()
    path.unlink()
    index = home.backup / "session-backup.db"
    for damage in (None, b"no database"):
        index.unlink(missing_ok=True)
        if damage:
            index.write_bytes(damage)
        for _ in range(2):
            found = sh("csb-search --role user alpha")
            assert found.rc == 0 and len(found.records) == 2, found
            assert found.err.count("\n") <= bool(damage)
            assert {hit.get("title") for hit in found.records} == {"Ordinary", "alpha, too"}
            assert {record["state"] for record in sh("csb-search -l alpha").records} == {
                "present", "deleted"}
        (home.backup / "search.db").unlink()


def test_nothing_is_made_where_there_is_nothing(sh, home):
    done = sh("csb-search hello")
    assert (done.rc, done.out, done.err.count("\n")) == (1, "", 1)
    assert not home.backup.exists()
    home.claude.rmdir()
    done = sh("csb-search hello")
    assert (done.rc, done.out, done.err.count("\n")) == (3, "", 1)
    assert "Is Claude Code installed?" in done.err and not home.backup.exists()


def test_it_starts_nothing_but_git(sh, put, home, stages):
    """No other tool of ours is there."""
    put(ONE, said("alpha"))
    sh("csb-backup").ok()
    bin_dir = home.env["PATH"].split(":")[0]
    for name in os.listdir(bin_dir):
        if name.startswith("csb") and name != "csb-search":
            os.unlink(os.path.join(bin_dir, name))
    for how in ("", "-F ", "--tools ", "--all ", "-l "):
        assert sh(f"csb-search {how}alpha").ok().records
