"""csb-html: a page that anybody can read, and that does nothing but be read."""
import base64
import contextlib
import hashlib
import html.parser
import re
import shutil
import struct
import subprocess
import tempfile
import threading
import zlib

import pytest
from conftest import LONG, lines

pytestmark = pytest.mark.logic

ID = "3f4a9b10-0000-4000-8000-00000000c0de"
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which(
    "google-chrome")
browser = pytest.mark.skipif(not BROWSER, reason="no chromium on this machine")
VOID = {"meta", "br", "img", "hr"}
HARMLESS = {"html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "h3", "p",
            "article", "header", "b", "time", "a", "details", "summary", "code", "span", "div",
            "pre", "ul", "li", "ol", "table", "tr", "td", "blockquote", "strong", "img", "br",
            "hr", "nav", "section", "script", "em", "del", "ins"}
ATTRIBUTES = {"lang", "charset", "http-equiv", "content", "name", "class", "id", "datetime", "href",
              "aria-label", "alt", "src", "value"}


class Page(html.parser.HTMLParser):
    """What a browser would see; it fails on anything that could act or is not closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.words, self.tags, self.ids = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        assert tag in HARMLESS and {name for name, _ in attrs} <= ATTRIBUTES, (tag, attrs)
        found = dict(attrs)
        assert re.match("#", found.get("href", "#")), found
        assert re.match("data:image/(png|jpeg|gif|webp);base64,", found.get(
            "src", "data:image/png;base64,")), found
        self.tags.append((tag, found))
        self.ids += [found["id"]] if "id" in found else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.words.append(data)

    def text(self):
        return "".join(self.words)

    def count(self, tag, kind=None):
        return sum(name == tag and (kind is None or kind in attrs.get("class", "").split())
                   for name, attrs in self.tags)


def turn(text="", role="user", **fields):
    return {"kind": "turn", "session_id": ID, "role": role, "at": "2026-01-02T03:04:05.000Z",
            "text": text, "tools": [], **fields}


def page(sh, *turns):
    return Page(sh("csb-html", lines(*turns)).ok().out)


def png(width=40, height=20):
    """A red picture."""
    def chunk(kind, data):
        whole = kind + data
        return struct.pack(">I", len(data)) + whole + struct.pack(">I", zlib.crc32(whole))
    rows = (b"\0" + b"\xff\0\0" * width) * height
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(
        rows)) + chunk(b"IEND", b"")


PICTURE = {"media_type": "image/png", "data": base64.b64encode(png()).decode()}


def tool(**fields):
    return {"id": "t", "name": "Bash", "brief": "make", "input": {"command": "make"},
            "result": "a\nb\n", "is_error": False, **fields}


def test_a_page_has_it_all(sh):
    found = page(
        sh, turn("Hello", title="The title", project="-p", uuid=ID, images=[PICTURE]),
        turn("Well", "assistant", thinking="deep thought", tools=[
            tool(), tool(result="no", is_error=True), tool(images=[PICTURE], result=""),
            {"id": "x", "name": "Open", "brief": "", "input": [1]}]),
        turn("note", "system"), turn("client", "meta"), turn("s" * 300, "summary"),
        turn("", "tool", tools=[tool()]))
    text = found.text()
    for words in ("The title", ID, "-p", "Hello", "Well", "deep thought", "2 lines", "failed",
                  "no result", "picture", "note", "client", "2026-01-02 03:04"):
        assert words in text, words
    assert found.count("img") == 2 and found.count("article") == 6
    assert found.count("details", "tool") == 5
    anchors = [attrs["id"] for tag, attrs in found.tags if tag == "article"]
    assert anchors[0] == f"t-{ID}" and len(set(found.ids)) == len(found.ids) == 7
    hrefs = [attrs["href"][1:] for tag, attrs in found.tags if tag == "a"]
    assert hrefs == anchors


def test_titles_and_the_list_of_prompts_have_no_marks(sh):
    text = "Do this: # The `parser` ## Why **not**?"
    found = page(sh, *[turn(text)] * 3)
    assert found.text().count("Do this: The parser Why not?") == 5, "title, head, list"


def test_prompts_are_listed(sh):
    found = page(sh, *(turn(f"prompt {n}") for n in range(5)))
    assert found.count("nav") == 1 and found.text().count("prompt 3") == 2
    assert found.text().count("prompt 0") == 4, "in head and title, listed, said; not above the list"
    assert page(sh, turn("a")).count("nav") == 0


def test_subagents_stand_inside(sh):
    found = page(
        sh, turn("go", "assistant"), turn("A", subagent="a", depth=1),
        turn("C", subagent="c", depth=2), turn("A2", subagent="a", depth=1),
        turn("B", subagent="b", depth=1), turn("main", "assistant"),
        turn("side", is_sidechain=True))
    order = [tag if tag == "article" else attrs["class"] for tag, attrs in found.tags
             if tag == "article" or attrs.get("class") == "agent"]
    inside = ["agent", "article"]
    assert order == ["article", *inside * 4, "article", *inside]


MARKDOWN = [
    ("a\nb\n\n\nc", "<p>a\nb</p>\n<p>c</p>\n"),
    ("# H\n### K", "<h2>H</h2>\n<h3>K</h3>\n"),
    ("```py\nx < 1\n\n  y\n```\nz", "<pre>x &lt; 1\n\n  y</pre>\n<p>z</p>\n"),
    ("```\nopen", "<pre>open</pre>\n"), ("````\n```\n````", "<pre>```</pre>\n"),
    ("**b `c`** `**e**`", "<p><strong>b </strong><strong><code>c</code></strong> "
                          "<code>**e**</code></p>\n"),
    ("- a\n  2. b", "<p class=i0>\u2022 a</p>\n<p class=i1>2. b</p>\n"),
    ("|a|b|\n|---|:-:|\n|c|`d`|", "<table><tr><td>a</td><td>b</td></tr>\n"
                                  "<tr><td>c</td><td><code>d</code></td></tr>\n</table>\n"),
    ("> q\n> r", "<blockquote>q\nr</blockquote>\n"),
    ("*a* **c *d* e** e_f_g 2*3*4", "<p><em>a</em> <strong>c </strong><strong><em>d</em>"
                                    "</strong><strong> e</strong> e_f_g 2*3*4</p>\n"),
    ("- a\n\n  ```\n  b\n  ```\n- c", "<p class=i0>\u2022 a</p>\n<pre>  b</pre>\n"
                                     "<p class=i0>\u2022 c</p>\n"),
    ("[x](javascript:alert(1)) <b>", "<p>[x](javascript:alert(1)) &lt;b&gt;</p>\n")]


def test_a_little_markdown(sh):
    out = sh("csb-html", lines(*(turn(text) for text, _ in MARKDOWN))).ok().out
    Page(out)
    found = re.findall("</header>\n(.*?)</article>", out, re.DOTALL)
    assert found == [wanted for _, wanted in MARKDOWN]


ATTACKS = ["</script><script>alert(1)</script>", "<img src=x onerror=alert(1)>", "\" onload=\"x",
           "' onclick='x", "</pre></details></article><h1>forged</h1>", "javascript:alert(1)",
           "</title><script>1</script>", "</style><style>*{display:none}", "<!--", "]]>",
           "&lt;b&gt;", "<svg/onload=alert(1)>", "\x1b[2J\x1b]0;x\x07", "\u202egnp.exe", "\ud800",
           "\x00", "`<b>`", "**<i>**", "|<b>|", "- <b>", "# <b>", "```<b>\n<b>",
           "{style} {0} %s \\1 \\g<0>"]


@pytest.mark.parametrize("words", ATTACKS)
@pytest.mark.few(5)
def test_hostile_words_are_words(sh, words):
    """In every place of a turn: no tag, no attribute and no address comes from a transcript."""
    call = {"id": words, "name": words, "brief": words, "input": {words: words}, "result": words,
            "is_error": True, "images": [{"media_type": words, "data": words},
                                         {"media_type": "image/png", "data": words}]}
    turns = [turn(words, role, uuid=words, title=words, project=words, cwd=words, thinking=words,
                  model=words, images=call["images"], tools=[call], subagent=agent, depth=1,
                  session_id=words, at=at)
             for role in ("user", "assistant", "summary", "meta", "system", "tool", words)
             for agent, at in ((words, words), (None, "2026-01-02T03:04:05Z" + words))]
    done = sh("csb-html", lines(*turns)).ok()
    found = Page(done.out)
    assert found.count("article") == 14
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]", done.out)
    assert done.out.count("<style>") == done.out.count("</style>") == 1


def test_nothing_but_its_own_style_and_script_is_allowed(sh):
    """Each by its hash: nothing else of a page runs, or is fetched."""
    out = sh("csb-html", lines(turn("x"))).ok().out
    policy = re.search(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', out)[1]
    assert "default-src 'none'" in policy and "img-src data:" in policy
    for tag in ("style", "script"):
        text, = re.findall(f"<{tag}>(.*?)</{tag}>", out, re.S)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"; {tag}-src 'sha256-{digest}';" in policy
    assert "unsafe" not in policy and "connect-src" not in policy
    assert out.index("Content-Security-Policy") < out.index("<style>")
    assert not re.search(r"https?:|<link|url\(|@import|fetch|innerHTML|eval", out)


def test_a_page_says_what_its_session_was(sh):
    """Where, when, with which model, how much: on top of the page by its style."""
    found = page(
        sh, turn("Mend it, please", cwd="/home/me/app", git_branch="main"),
        turn("Yes", "assistant", model="the-model", tools=[tool()], tokens={
            "input": 5, "output": 1500, "cache_read": 2_000_000, "cache_write": True}),
        turn("A subagent's", "assistant", subagent="a", model="small",
             tokens={"input": 10**400, "output": -1},
             at="2026-01-02T05:06:00.000Z"))
    text = found.text()
    for words in ("/home/me/app \u00b7 main\n2026-01-02 03:04\n", "Mend it",
                  "1 prompt \u00b7 1 tool call \u00b7 the-model \u00b7 small \u00b7 "
                  "2.0M tokens read, 1.5k written \u00b7 until 2026-01-02 05:06"):
        assert words in text, words
    assert [attrs for tag, attrs in found.tags if tag == "h1"] == [{"id": "s1"}]


def test_several_sessions_have_contents(sh):
    """Each title and its prompts, to jump to."""
    found = page(sh, turn("one"), turn("two", session_id=ID[::-1], title="Second"))
    hrefs = [attrs["href"][1:] for tag, attrs in found.tags if tag == "a"]
    assert hrefs == ["n1", "n2", "s1", "n1", "s2", "n2"]
    assert found.count("section") == found.count("h1") == 2 and found.count("nav") == 1


def test_edits_are_lines_that_changed_and_todos_are_lists(sh):
    edit = tool(name="Edit", input={"file_path": "/w/a.py", "old_string": "a\nb\nc",
                                    "new_string": "a\nB & <b>\nc", "replace_all": False})
    several = [tool(name="Edit", input={"file_path": "/w/b.py", "old_string": old,
                                        "new_string": new})
               for old, new in (("", "new"), ("old", ""))]
    todos = tool(name="TodoWrite", input={"todos": [
        {"content": "look", "status": "completed"}, {"content": "mend <it>", "status": "pending"}]})
    out = sh("csb-html", lines(turn("", "assistant", tools=[edit, *several, todos]))).ok().out
    Page(out)
    assert "<pre> a\n<del>-b</del>\n<ins>+B &amp; &lt;b&gt;</ins>\n c</pre>" in out
    assert "<pre><ins>+new</ins></pre>" in out and "<pre><del>-old</del></pre>" in out
    assert "+1 \u22121" in out and "/w/a.py</pre>" in out
    assert "old_string" not in out
    assert "<li>\u2611 look</li>\n<li>\u2610 mend &lt;it&gt;</li>\n</ul>" in out


@pytest.mark.parametrize("record", [
    {"kind": "turn"}, {"kind": "turn", "text": 7, "tools": 3}, {"kind": "turn", "tools": [3]},
    turn("x", tools=[{"name": 3, "input": 3, "result": 3, "images": 3}]),
    turn("x", images=[3]), turn("x", images={"a": 1}), turn("x", depth="x", subagent=[]),
    turn("x", ["role"]), {"kind": "other"}, {}])
@pytest.mark.few(5)
def test_odd_records(sh, record):
    done = sh("csb-html", lines(record, turn("fine")))
    assert "fine" in Page(done.out).text() and (done.rc, done.err) == (0, "")


def test_no_turns_are_a_page_too(sh):
    assert "There are no turns." in page(sh).text()


def test_the_page_comes_as_turns_come(home):
    """What a turn says is there before the input ends."""
    process = subprocess.Popen(["csb-html"], env=home.env, stdin=-1, stdout=-1)

    def say():
        with contextlib.suppress(BrokenPipeError):      # it is killed when enough has come
            process.stdin.write(lines(*(turn("words " * 2000) for _ in range(100))))
    saying = threading.Thread(target=say)
    saying.start()
    limit = threading.Timer(LONG, process.kill)
    limit.start()
    came = process.stdout.read(100_000)
    limit.cancel()
    process.kill()
    saying.join()
    process.communicate()
    assert len(came) == 100_000


def in_a_browser(home, page, *words):
    """What a browser prints that opens a page."""
    file = home.path / "page.html"
    file.write_text(page)
    short = tempfile.mkdtemp(dir="/tmp")        # a socket in it needs a short name
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
               f"--user-data-dir={short}", *words, f"file://{file}"]
    try:
        done = subprocess.run(command, env={**home.env, "TMPDIR": short}, check=True,
                              capture_output=True, timeout=LONG)
    finally:
        shutil.rmtree(short, ignore_errors=True)
    return done.stdout.decode()


def picture_of(sh, home, *turns, width=800, height=600, dark=False):
    """The picture that a browser makes of a page, as pixels()."""
    picture = home.path / "page.png"
    in_a_browser(home, sh("csb-html", lines(*turns)).ok().out, f"--screenshot={picture}",
                 f"--window-size={width},{height}",
                 f"--blink-settings=preferredColorScheme={0 if dark else 1}")
    return pixels(picture.read_bytes())


def pixels(data):
    """(width, height, function: the colour at x, y) of a PNG as browsers write it: 8 bits."""
    width, height, _, kind = struct.unpack(">IIBB", data[16:26])
    size, at, packed = {2: 3, 6: 4}[kind], 8, b""
    while at < len(data):
        length, name = struct.unpack(">I4s", data[at:at + 8])
        packed += data[at + 8:at + 8 + length] if name == b"IDAT" else b""
        at += 12 + length
    raw, rows, stride = zlib.decompress(packed), [bytearray(width * size)], width * size
    for y in range(height):
        start, row, above = y * (stride + 1), bytearray(), rows[-1]
        how = raw[start]
        for x, byte in enumerate(raw[start + 1:start + 1 + stride]):
            left = row[x - size] if x >= size else 0
            corner = above[x - size] if x >= size else 0
            guess = left + above[x] - corner
            paeth = min((left, above[x], corner), key=lambda one, g=guess: abs(g - one))
            row.append((byte + (0, left, above[x], (left + above[x]) // 2, paeth)[how]) & 255)
        rows.append(row)
    return width, height, lambda x, y: tuple(rows[y + 1][x * size:x * size + 3])


@browser
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.few(1)
def test_a_browser_shows_it(sh, home, dark):
    """Paper light or dark, prompts on another ground, the picture red: the style is let in."""
    _, _, colour = picture_of(sh, home, turn("Hello", images=[PICTURE]), dark=dark,
                              width=500, height=400)
    paper = colour(2, 2)
    assert paper == ((21, 24, 28) if dark else (255, 255, 255))
    seen = {colour(x, y) for x in range(0, 500, 3) for y in range(0, 400, 3)}
    assert (255, 0, 0) in seen and ((27, 39, 51) if dark else (238, 244, 251)) in seen


@pytest.mark.long
@browser
@pytest.mark.parametrize("width", [500, 1200])
def test_nothing_sticks_out(sh, home, width):
    """Whatever is long is wrapped: the right edge of the page stays paper."""
    long = "x" * 3000
    turns = [turn(long), turn("- " + long, "assistant"), turn(f"```\n{long}\n```", "assistant"),
             turn("|" + "|".join(["wide cell"] * 40) + "|", "assistant"), turn(long, title=long),
             turn("", "assistant", tools=[tool(brief=long, name=long)])]
    _, height, colour = picture_of(sh, home, *turns, width=width, height=1500)
    assert {colour(width - 3, y) for y in range(height)} == {(255, 255, 255)}


@browser
def test_a_script_in_the_page_does_not_run(sh, home):
    """Even one that got in: the policy forbids it."""
    evil = "<script>document.body.setAttribute('data-run', '1')</script><img src=x onerror=\"1\">"
    page = sh("csb-html", lines(turn("Hello"))).ok().out
    dom = in_a_browser(home, page + evil, "--dump-dom")
    assert "Hello" in dom and "data-run=" not in dom


@pytest.mark.long
def test_real_transcripts_make_good_pages(sh, real):
    for claude in real.claude:
        done = sh("csb-find | csb-log --html", CLAUDE_CONFIG_DIR=str(claude), timeout=300)
        assert done.rc == 0
        found = Page(done.out)
        turns = sh("csb-find | csb-log --json", CLAUDE_CONFIG_DIR=str(claude), timeout=300).records
        assert found.count("article") == len(turns)
        assert found.count("details", "tool") == sum(len(t["tools"]) for t in turns)
        sessions = sum("project" in t for t in turns)
        assert found.count("h1") == sessions
