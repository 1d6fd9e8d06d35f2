"""csb-fmt: what people see of the status, of one session, of what was found."""
import re

import pytest
from conftest import DAY, at, line, lines, on_terminal, width

pytestmark = pytest.mark.logic

ID = "3f4a9b10-0000-4000-8000-00000000c0de"
OTHER = ID.replace("c0de", "beef")
LONG_AGO = "2001-02-03T04:05:06.000000007Z"     # 3 Feb 2001 on any day from 2002 on
JAPANESE = "\u65e5\u672c"
NASTY = [
    None, True, False, 0, -1, 1.5, 10**400, float("inf"),
    "", "x", "\x00\x1b]0;x\x07", "\ud800", "\u202e" * 9, "\r\n", JAPANESE * 90,
    "e\u0301" * 200, "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "Z",
    [], {}, [[]], [[0, 2]], ["\x1b", "y" * 300], [None, {"path": 1, "work": ""}],
    [{"path": "\x1b[2J", "change": "new", "size": 3, "at": "2026-01-02T03:04:05Z"}],
    [{"day": "x", "commits": 4, "messages": 10**9}, {"commits": -1}],
    [{"role": "\x9b"}], {"a": {"b": []}}, {"present": 3, "deleted": "\x1b"},
    {"input": 12345, "x\x1b": 5}]


def fmt(sh, *records, options="", **env):
    """What csb-fmt prints of records."""
    return sh(f"csb-fmt {options}", lines(*records), **env).ok().out


def colourless(text):
    return re.sub(r"\x1b\[[\d;]*m", "", text)


def one_space(text):
    return re.sub(" +", " ", text)


def widest(text):
    """The columns of its longest line."""
    return max(map(width, text.split("\n")))


def day(messages):
    return {"day": "x", "commits": 0, "sessions": 0, "messages": messages}


STATUS = {
    "kind": "status", "covered": True, "store": "/backup/git", "ref": "refs/heads/main",
    "files": 1234, "commits": 7, "store_bytes": 13_000_000, "uncovered_files": 0,
    "uncovered": [], "recheck": 2, "gone": 1, "refused": 3, "cleanup_days": 30,
    "purge_soon": 0, "warnings": [], "notes": ["1 link out of the Claude directory"],
    "sessions": {"present": 102, "deleted": 2, "husk": 0, "rewritten": 1},
    "days": [day(0), day(1), day(40), day(80)]}


def test_without_a_backup_nothing_is_called_kept(sh):
    out = sh("csb-fmt", lines({**STATUS, "covered": False, "commits": 0})).ok().out
    assert "102 on disk, 2 deleted, 1 rewritten" in out


def test_a_good_status(sh):
    commit = at(-3 * 3600 - 60)
    record = {**STATUS, "last_commit_at": commit, "last_success_at": at(-5 * 60 - 1)}
    out = fmt(sh, record)
    out = re.sub(r"(ago, )(\S+) \d\d:\d\d", r"\1\2 12:34", out)
    out = out.replace("yesterday", "today")
    assert out == """\
Everything is backed up.

  sessions     102 on disk, 2 deleted but kept, 1 rewritten
  last backup  5 minutes ago, today 12:34
  last change  3 hours ago, today 12:34
  files        1,234 stored, 1 deleted since, 3 never stored (by rule)
  store        /backup/git, 13.0 MB, 7 commits
  last month   \u00b7\u2581\u2584\u2588  121 messages

  Claude Code deletes sessions after 30 days.

- 1 link out of the Claude directory
"""


def test_a_bad_status(sh):
    grew = {"path": f"projects/-w/{'x' * 90}END", "change": "grew", "size": 12_345}
    new = {"path": "a\x1b[2J", "change": "new"}
    out = fmt(sh, {
        **STATUS, "covered": False, "warnings": ["2 w", "b " * 60],
        "uncovered_files": 12, "uncovered": [grew, new],
        "purge_soon": 3, "purge_next_at": at(2 * DAY + 60), "last_outcome": "failed",
        "last_run_at": at(-3600 - 5), "last_reason": "the disk is full"})

    head, first, second, third, *rest = out.splitlines()
    assert head == "NOT everything is backed up."
    assert first == "! 2 w"
    assert second.startswith("! B b b") and third.startswith("  b b")
    assert rest[:2] == ["", "  not backed up"]
    assert rest[2].startswith("    grew  12.3 KB  \u2026xx")
    assert rest[2].endswith("xxEND")
    assert rest[3] == "    new  a\\x1b[2J"
    assert rest[4] == "    and 10 more (csb changes lists them)"
    assert "after 30 days. Next: 3 of them, " in out
    assert "csb config settings:cleanupPeriodDays 365\n" in out
    assert re.search("last backup  FAILED 1 hour ago, .*: the disk is full\n", out)
    assert widest(out) <= 80


@pytest.mark.parametrize("fields, head", [
    ({"covered": None}, "It cannot be told"),
    ({"covered": "yes"}, "It cannot be told"),
    ({"covered": 1}, "It cannot be told"),
    ({}, "Everything is backed up.\n"),
    ({"warnings": ["no backup for 3 days"]},
     "Everything is backed up, but:\n! No backup")])
@pytest.mark.few(3)
def test_a_status_is_good_only_if_it_says_so(sh, fields, head):
    assert fmt(sh, {**STATUS, **fields}).startswith(head)
    assert fmt(sh, {"kind": "status"}).startswith("It cannot be told")


def test_a_session_in_full(sh, home):
    path = f"projects/-w/{ID}.jsonl"
    version = {
        "kind": "version", "session_id": ID, "project": "-w", "path": path, "size": 5,
        "commit": "a1b2c3d4e5f6" + "0" * 28, "oid": "0" * 40, "change": "new",
        "at": LONG_AGO, "deleted_at": LONG_AGO}
    record = {
        "kind": "session", "session_id": ID, "title": "Mend the parser",
        "project": "-w", "root": f"{home.path}/.claude",
        "transcript_path": f"{home.path}/.claude/{path}", "cwd": f"{home.path}/code",
        "last_active": at(-3 * DAY - 60), "messages": 3, "user_messages": 1,
        "tool_calls": 2, "bytes": 2048, "model": "claude-x", "version": "2.1",
        "git_branch": "main", "tokens": {"input": 1_234_567, "cache_read": 900},
        "parent_session_id": OTHER, "state": "deleted", "deleted_at": LONG_AGO,
        "bad_lines": 0,
        "folders": [{"path": f"{home.path}/code", "work": 41}, {"path": "/srv"}],
        "files": [{"path": path, "size": 2000, "mtime": LONG_AGO}],
        "subagents": [{"agent": "a1", "title": "look"}], "forks": [OTHER],
        "pr_links": [], "versions": [version]}
    out = fmt(sh, record)
    assert out.startswith(f"Mend the parser\n{ID}\n\n  project ")
    for part in (
            " last active ",
            " state deleted\n",
            " deleted at ",
            " messages 3\n",
            " user messages 1\n",
            " tokens 1,234,567 input, 900 cache_read\n",
            " cwd ~/code\n",
            f" parent session id {OTHER}\n",
            f" transcript path ~/.claude/{path}\n",
            f"\n files (1)\n 2.0 KB 3 Feb 2001 {path}\n",
            "\n folders (2)\n 41 work ~/code\n /srv\n",
            "\n subagents (1)\n a1 look\n",
            f"\n forks (1)\n {OTHER}\n",
            "\n versions (1)\n 5 bytes new 3 Feb 2001 deleted 3 Feb 2001 "):
        assert part in one_space(out), part
    assert "pr links" not in out and "bad lines" not in out
    assert fmt(sh, record, record) == f"{out}\n{out}"

    record["state"] = "husk"
    assert " state no transcript\n" in one_space(fmt(sh, record))
    del record["files"]
    assert fmt(sh, record).count("\n") == 2, "one of csb-list"


HIT = {
    "kind": "hit", "session_id": ID, "project": "-w", "role": "user", "agent": "a1",
    "at": LONG_AGO, "offset": 9, "rank": 1.5, "snippet": "mend the parser now"}
BARE = {**HIT, "agent": None}


def test_hits_by_session(sh):
    """In the order of the best of each; the last line counts them."""
    titled = {**HIT, "title": "T"}
    answer = {**BARE, "session_id": OTHER, "role": "assistant", "at": 7}
    again = {**HIT, "snippet": "again"}
    assert fmt(sh, titled, answer, again) == f"""\
T  {ID}
  you (agent), 3 Feb 2001
                      mend the parser now
  you (agent), 3 Feb 2001
                      again

(untitled)  {OTHER}
  Claude              mend the parser now

3 places in 2 sessions.
"""
    again["total"] = 40
    out = fmt(sh, titled, answer, again)
    assert "\n3 of 40 places in 2 sessions.\n" in out


def test_titles_without_the_marks_of_markdown(sh):
    title = "Do this: # The `parser` ## Why **not**?"
    for record in (HIT, {"kind": "session", "session_id": ID}):
        out = fmt(sh, {**record, "title": title})
        assert out.startswith("Do this: The parser Why not?")


def test_where_a_session_was_found_by_its_title_or_folder(sh):
    found = {**BARE, "role": "meta", "title": "Mend the parser",
             "snippet": "Mend the parser -srv-x /srv/x"}
    by_title = {**found, "match": [[9, 15]]}
    by_folder = {**found, "match": [[23, 28]]}
    folder = "in a folder, 3 Feb 2001\n" + " " * 22 + "/srv/x\n"
    for hit, where in ((found, "in the title or a folder, 3 Feb 2001"),
                       (by_title, "in the title, "), (by_folder, folder)):
        out = fmt(sh, hit)
        assert where in out
        assert "-srv-x" not in out

    out = fmt(sh, HIT, {**by_title, "total": 2})
    assert "in the title" not in out, "it stands above"
    assert out.endswith("\n\n1 place in 1 session.\n")


def test_where_to_look_for_more(sh, put):
    """In tool output, unless that was looked at."""
    result = {"type": "tool_result", "tool_use_id": "t", "content": "it retries"}
    message = {"role": "user", "content": [result]}
    put(1, line("retry it") + line(message=message, uuid="b"))
    more = "More around each: -C 3."
    out = sh("csb search it").ok().out
    assert out.endswith(f"{more} In tool output too: --tools\n")
    assert sh("csb search --tools it").ok().out.endswith(f"{more}\n")


def test_a_hit_takes_three_lines(sh):
    """Without the marks of Markdown; with --verbose it takes what it needs."""
    hit = {**BARE, "at": None, "snippet": "**bold** `x` " + "word " * 100}
    shown = fmt(sh, hit).split("\n\n")[0].splitlines()
    assert len(shown) == 4
    assert shown[1].startswith("  you                 bold x word")
    assert fmt(sh, hit, options="--verbose").count("word") == 100


def test_the_turns_around_a_hit(sh):
    before = [{"role": "user", "offset": 1, "snippet": "why?"}]
    after = [{"role": "assistant", "snippet": "so"}, 7]
    out = fmt(sh, {**BARE, "before": before, "after": after})
    shown = [" ".join(text.split()) for text in out.splitlines()]
    assert shown[1:4] == [
        "you why?", "you, 3 Feb 2001 mend the parser now", "Claude so"]


@pytest.mark.parametrize("snippet, match, marked", [
    ("mend the parser", [[9, 15]], ["parser"]),
    ("a b a", [[4, 5], [0, 1]], ["a", "a"]),
    ("\u65e5\u672c\u8a9e", [[1, 3]], ["\u672c\u8a9e"]),
    ("a\x1b[2Jb", [[5, 6]], ["b"]),
    ("abc", [[2, 9]], []),
    ("abc", [[1, 1], [-1, 2], ["0", 1], [True, 2], 5, [0]], []),
    ("abcdef", [[0, 3], [2, 5]], ["abc"]),
    ("abc", {"0": 1}, []),
    ("abc", None, []),
    ("x " * 60 + "needle", [[120, 126]], ["needle"])])
@pytest.mark.few(3)
def test_what_was_looked_for_is_highlighted(sh, home, snippet, match, marked):
    hit = {**HIT, "snippet": snippet, "match": match}
    shown = on_terminal(sh, home, "csb-fmt", hit)
    assert re.findall(r"\x1b\[1;31m(.*?)\x1b\[0m", shown) == marked
    plain = colourless(shown)
    assert plain == fmt(sh, hit)
    assert "\x1b" not in plain


def test_hits_among_other_records(sh):
    session = {"kind": "session", "session_id": OTHER, "title": "t"}
    out = fmt(sh, HIT, session, {"kind": "refused", "path": "x"}, HIT)
    assert out.index("mend") < out.index("\nt\n") < out.index("refused")
    assert out.count("mend") == 2


def test_many_hits(sh):
    numbers = [str(number) for number in range(450)]
    out = fmt(sh, *[{**HIT, "snippet": number} for number in numbers])
    assert re.findall(r"^ +(\d+)$", out, re.M) == numbers
    assert out.count("3f4a9b10") == 3, "two hundred at a time"


@pytest.mark.parametrize("snippet", [
    "x" * 300, "word " * 60, "\u65e5\u672c\u8a9e" * 40, "e\u0301" * 200,
    "\U0001f600" * 90, "a" + "\u0301" * 500, "a " + "b" * 200 + " c", " ", "",
    "x" * 75 + "\u65e5", "\u65e5 " * 100])
@pytest.mark.few(3)
def test_texts_are_folded_to_fit(sh, snippet):
    def squeezed(text):
        return "".join(text.split())

    hit = {**HIT, "snippet": snippet}
    out = fmt(sh, hit, options="--verbose")
    assert widest(out) <= 80
    text = out.split("2001")[1].split("\n\n1 place")[0]
    assert squeezed(text) == squeezed(snippet), "nothing is lost"
    for columns in (50, 80):
        out = fmt(sh, hit, CSB_PAGED=f"{columns}x9")
        assert widest(colourless(out)) <= columns

    out = fmt(sh, {**STATUS, "warnings": [snippet], "covered": False})
    assert widest(out) <= 80
    head = out.split("\n\n")[0]
    assert squeezed(snippet).lower() in squeezed(head).lower()


@pytest.mark.parametrize("kinds", [
    ["hit"], ["status", "session"], ["version", "setting"]])
@pytest.mark.few(1)
def test_hostile_records_never_break_it(sh, home, kinds, seeded):
    keys = [*STATUS, *HIT, "title", "last_active", "purge_at", "deleted_at", "state",
            "tokens", "folders", "versions", "transcript_path", "root", "cwd", "match",
            "before", "after", "x\x1b", "messages", "bytes", "size", "last_run_at",
            "purge_next_at"]
    file = {"path": "\x1b[2J", "size": 3, "mtime": LONG_AGO}
    many = []
    for number in range(600):
        some = {key: seeded.choice(NASTY) for key in seeded.sample(keys, 15)}
        some["kind"] = seeded.choice(kinds)
        if number % 2 == 0:
            some["files"] = seeded.choice([[], [file]])
        many.append(some)
    out = fmt(sh, *many)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]", out)

    # An id is never cut.
    uncut = ("  transcript", "  parent session id")
    few = [{**record, "session_id": ID} for record in many[:60]]
    for columns in (50, 97):
        setup = f"stty cols {columns}"
        out = on_terminal(sh, home, "csb-fmt", *few, setup=setup, NO_COLOR="1")
        for text in out.split("\n"):
            assert width(text) <= columns or text.startswith(uncut), text


@pytest.mark.parametrize("record", [STATUS, HIT])
def test_terminals(sh, home, record):
    """Colour on a terminal only, as wide as it is; any locale."""
    record = {**record, "snippet": "word " * 100, "notes": ["word " * 100]}
    verbose = "csb-fmt --verbose"
    assert "\x1b[" in on_terminal(sh, home, verbose, record)
    for env in ({"NO_COLOR": ""}, {"TERM": "dumb"}):
        assert "\x1b" not in on_terminal(sh, home, verbose, record, **env)
    for columns in (50, 132):
        setup = f"stty cols {columns}"
        out = on_terminal(sh, home, verbose, record, setup=setup, NO_COLOR="1")
        assert columns - 6 < widest(out) <= columns
    record = {**record, "title": JAPANESE, "notes": [JAPANESE]}
    assert JAPANESE in fmt(sh, record, PYTHONIOENCODING="cp1252")


@pytest.mark.parametrize("good, text", [
    (STATUS, "Everything"), (HIT, "mend the parser now")])
@pytest.mark.parametrize("line", [
    b"garbage", b"[1]", b"\xff\xfe", b'{"kind":', b"[" * 200000])
@pytest.mark.few(4)
def test_a_bad_line_is_reported_and_the_rest_is_shown(sh, good, text, line):
    done = sh("csb-fmt", lines(good) + line + b"\n" + lines(good))
    assert (done.rc, done.err.count("\n")) == (1, 1)
    assert "line 2" in done.err
    assert done.out.count(text) == 2
