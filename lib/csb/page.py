"""a page of turns, one file of HTML that needs nothing else

It is written as turns come. What is known only at the end, the index of the prompts and
what a session amounts to, stands at the end of the file, and the style puts it on top.
All that a turn holds is text: no tag, attribute or address comes from it. The policy in
the head allows nothing but the page's own style and script, by their hashes.
"""
import re
from itertools import groupby

from csb.markdown import lines_in, spans_in
from csb.session import is_id
from csb.terminal import capital, counted, short_count
from csb.turns import BULLET, CHANGE, ROLES, Writer, line_of, unmarked_line

MOST_PROMPTS = 5000             # in the index
MOST_TOKENS = 10**12            # of a turn; more is no count

STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1f2328; --dim: #656d76;
  --line: #d8dee4; --soft: #f6f8fa; --user: #eef4fb; --edge: #4a7fb5; --bad: #b3261e;
  --went: #ffebe9; --came: #e6f6e9 }
@media (prefers-color-scheme: dark) { :root { --paper: #15181c; --ink: #d5d9de;
  --dim: #8b949e; --line: #30363d; --soft: #1f2429; --user: #1b2733; --edge: #5b93cc;
  --bad: #f08c84; --went: #3c1f1e; --came: #17301f } }
* { box-sizing: border-box }
body { margin: 0 auto; padding: 1rem 1rem 4rem; max-width: 46rem;
  background: var(--paper); color: var(--ink); font: 1rem/1.55 system-ui, sans-serif;
  overflow-wrap: anywhere }
main, section { display: flex; flex-direction: column; min-width: 0 }
section:only-of-type { display: contents }
h1 { font-size: 1.5rem; margin: 1rem 0 .25rem; order: -4 }
h2, h3 { font-size: 1rem }
h2, h3, p, ul, blockquote, pre, table { margin: .6rem 0 }
p, blockquote { white-space: pre-wrap }
.facts, time, header a, .count, .label { color: var(--dim); font-size: .8125rem }
.facts { margin: .1rem 0; order: -3 }
.sum { order: -2; padding-bottom: 1rem; border-bottom: 1px solid var(--line) }
article { margin: 1.5rem 0 0; min-width: 0 }
header { display: flex; gap: .6rem; align-items: baseline; font-size: .8125rem }
header a { margin-left: auto; text-decoration: none }
.assistant + .assistant { margin-top: .25rem }
.assistant + .assistant > header { display: none }
:target { outline: 2px solid var(--edge); outline-offset: .5rem }
.user { background: var(--user); border-left: 4px solid var(--edge);
  padding: .75rem 1rem .25rem; margin-top: 2.5rem }
ul { padding: 0; list-style: none }
.i0, .i1, .i2, .i3 { margin: .15rem 0 .15rem 1.2em; text-indent: -1.2em }
.i1 { margin-left: 2.6em } .i2 { margin-left: 4em } .i3 { margin-left: 5.4em }
blockquote { padding-left: .8rem; border-left: 3px solid var(--line);
  color: var(--dim) }
code, pre { font: .8125rem/1.45 ui-monospace, Menlo, Consolas, monospace; tab-size: 4 }
code { background: var(--soft); border-radius: 4px; padding: .1em .3em }
pre { background: var(--soft); border: 1px solid var(--line); border-radius: 6px;
  padding: .6rem .75rem; white-space: pre-wrap }
del, ins { text-decoration: none; display: inline-block; width: 100% }
del { background: var(--went) } ins { background: var(--came) }
table { display: block; overflow-x: auto; border-collapse: collapse;
  font-size: .875rem; overflow-wrap: normal }
td { border: 1px solid var(--line); padding: .25rem .5rem; vertical-align: top }
tr:first-child { background: var(--soft); font-weight: 600 }
img { display: block; max-width: 100%; margin: .5rem 0 }
details { margin: .25rem 0; font-size: .875rem; min-width: 0 }
summary { cursor: pointer; color: var(--dim) }
.tool > div { margin-left: 1rem }
.tool pre { max-height: 28rem; overflow-y: auto; margin-top: 0 }
.label { margin: 0 } .bad > summary .count { color: var(--bad) }
.agent { border-left: 2px solid var(--line); padding-left: 1rem; font-size: 1rem }
nav { order: -1; border: 1px solid var(--line); border-radius: 6px; font-size: .8125rem;
  padding: .6rem .9rem; max-height: 14rem; overflow-y: auto }
nav a { color: inherit } nav p { margin: .2rem 0 }
button { order: -2; align-self: end; margin: .5rem 0 }
@media print { body { max-width: none; padding: 0; font-size: 10pt }
  main, section { display: block } nav, button, header a { display: none }
  .tool pre { max-height: none } }
"""
SCRIPT = """
const folds = document.querySelectorAll("details");
const button = document.createElement("button");
let open = false;
button.textContent = "Expand all";
button.onclick = () => {
  open = !open;
  button.textContent = open ? "Collapse all" : "Expand all";
  for (const one of folds) one.open = open;
};
if (folds.length) document.querySelector("main").append(button);
"""
HEAD_OF_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; \
style-src '{style_hash}'; script-src '{script_hash}'; base-uri 'none'; \
form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style></head><body><main>
"""
# What stands before the tasks of a list.
BOXES = {"completed": "\u2611", "in_progress": "\u25b8"}
TO_DO = "\u2610"
PICTURES = ("image/png", "image/jpeg", "image/gif", "image/webp")

_BASE64 = re.compile("[A-Za-z0-9+/]+=*")


# --- texts ----------------------------------------------------------------------------


def escaped(text):
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text.replace('"', "&quot;").replace("'", "&#39;")


_TAGS = {"b": "strong", "i": "em", "c": "code"}


def marked_up(text):
    """A paragraph, heading or cell of Markdown."""
    html = ""
    for span in spans_in(text):
        part = escaped(span.text)
        for letter in reversed(span.style):
            part = f"<{_TAGS[letter]}>{part}</{_TAGS[letter]}>"
        html += part
    return html


_DELIMITERS = re.compile(r"[\s|:-]*-[\s|:-]*")
_BAR = re.compile(r"(?<!\\)\|")


def prose(text):
    """Yield a text that is more or less Markdown as HTML, in pieces."""
    for kind, lines in groupby(lines_in(text), key=block_of):
        if kind == "row":
            yield f"<table>{''.join(map(row_html, lines))}</table>\n"
        elif kind in ("heading", "item"):
            yield from map(line_html, lines)
        elif kind in BLOCKS:
            words = "\n".join(line.words for line in lines)
            html = escaped(words) if kind == "code" else marked_up(words)
            yield f"<{BLOCKS[kind]}>{html}</{BLOCKS[kind]}>\n"


BLOCKS = {"code": "pre", "quote": "blockquote", "text": "p"}


def block_of(line):
    """The kind of a line; "" of one that parts paragraphs."""
    if line.kind == "text" and not line.words.strip():
        return ""
    return line.kind


def line_html(line):
    """A heading, or an item of a list, which is indented by its class."""
    if line.kind == "heading":
        tag = "h2" if line.start.count("#") < 3 else "h3"
        return f"<{tag}>{marked_up(line.words)}</{tag}>\n"
    mark = line.start.strip()
    level = len(line.start.expandtabs(4).partition(mark)[0]) // 2
    if mark in "-*+":
        mark = BULLET
    return f"<p class=i{min(level, 3)}>{mark} {marked_up(line.words)}</p>\n"


def row_html(line):
    if _DELIMITERS.fullmatch(line.words):
        return ""
    cells = [cell.strip() for cell in _BAR.split(line.words.strip().strip("|"))]
    return f"<tr><td>{'</td><td>'.join(map(marked_up, cells))}</td></tr>\n"


# --- parts of a turn ------------------------------------------------------------------


def article(turn, anchor):
    """Yield a Turn, in pieces."""
    kind = turn.role if turn.role in ROLES else "other"
    yield (
        f'<article class={kind} id="{anchor}"><header><b>{escaped(turn.name)}</b> '
        f"<time>{turn.time()}</time>"
        f'<a href="#{anchor}" aria-label="link to this turn">#</a></header>\n'
    )
    if turn.thinking:
        yield from folded_away("Thinking", turn.thinking)
    if kind in ("summary", "system", "meta"):
        yield from folded_away(escaped(line_of(turn.text)), turn.text)
    else:
        yield from prose(turn.text)
    yield from pictures(turn.images)
    for call in turn.calls:
        yield from call_html(call)
    yield "</article>\n"


def folded_away(label, text):
    """Yield a text that opens on a click."""
    yield f"<details><summary>{label}</summary>\n"
    yield from prose(text)
    yield "</details>\n"


def pictures(images):
    """Yield pictures as part of the page, in pieces."""
    for image in images:
        kind = image.get("media_type")
        data = image.get("data")
        is_good = kind in PICTURES and isinstance(data, str)
        if is_good and _BASE64.fullmatch(data):
            yield f'<img alt="picture" src="data:{kind};base64,'
            yield data
            yield '">\n'
        else:
            what = escaped(line_of(kind, 40)) or "unknown"
            yield f"<p class=count>(a picture of type {what})</p>\n"


def call_html(call):
    """Yield a ToolCall, folded: what it got and what it gave, in pieces."""
    kind = "tool bad" if call.failed else "tool"
    yield (
        f'<details class="{kind}"><summary><b>{escaped(call.name)}</b> '
        f"<code>{escaped(call.brief)}</code> "
        f"<span class=count>{escaped(call.outcome)}</span></summary><div>\n"
    )
    if call.tasks:
        items = ""
        for task in call.tasks:
            box = BOXES.get(task.state, TO_DO)
            items += f"<li>{box} {escaped(line_of(task.text, 300))}</li>\n"
        yield f"<ul>{items}</ul>\n"
    for label, words in call.parts():
        words = escaped(words)
        if label == CHANGE:
            words = "\n".join(map(line_of_change, words.split("\n")))
        yield f"<p class=label>{escaped(label)}</p><pre>{words}</pre>\n"
    yield from pictures(call.images)
    yield "</div></details>\n"


def line_of_change(line):
    tag = {"-": "del", "+": "ins"}.get(line[:1])
    return f"<{tag}>{line}</{tag}>" if tag else line


# --- the page -------------------------------------------------------------------------


class Sums:
    """What a session amounts to."""

    def __init__(self):
        self.prompts = 0
        self.calls = 0
        self.models = {}        # their names, in the order in which they came
        self.read = 0           # tokens
        self.written = 0
        self.until = ""

    def add(self, turn):
        self.prompts += turn.role == "user" and not turn.agent
        self.calls += len(turn.calls)
        self.models[line_of(turn.record.get("model"), 60)] = None
        self.until = turn.time() or self.until
        tokens = turn.record.get("tokens")
        for name, count in tokens.items() if isinstance(tokens, dict) else ():
            if type(count) is not int or not 0 <= count < MOST_TOKENS:
                continue
            if name == "output":
                self.written += count
            else:
                self.read += count

    def words(self):
        facts = [counted(self.prompts, "prompt"), counted(self.calls, "tool call")]
        facts += filter(None, self.models)
        if self.read or self.written:
            read = short_count(self.read)
            facts.append(f"{read} tokens read, {short_count(self.written)} written")
        if self.until:
            facts.append(f"until {self.until}")
        return escaped(" \u00b7 ".join(facts))


class Page(Writer):
    def __init__(self, out):
        super().__init__()
        self.out = out
        self.count = 0          # turns so far
        self.uuid = None        # of the last turn
        self.sessions = 0
        self.sums = Sums()      # of the present one
        self.contents = []      # what the index says: titles, prompts

    def put(self, *parts):
        for part in parts:
            self.out.write(part.encode("utf-8", "replace"))

    def head(self, turn):
        """The head of a session, and of the page."""
        title = escaped(turn.title)
        if self.sessions:
            self._end_session()
        else:
            self.put(head_of_page(title))
        self.sessions += 1
        self.sums = Sums()
        anchor = f"s{self.sessions}"
        self.put(f"<section><h1 id={anchor}>{title}</h1>\n")
        for fact in (turn.place, turn.time(), turn.session_id):
            self.put(f"<p class=facts>{escaped(fact)}</p>\n")
        self.contents.append(f'<p><b><a href="#{anchor}">{title}</a></b></p>\n')

    def enter_agent(self, turn):
        name = escaped(capital(turn.agent))
        start = escaped(line_of(turn.text))
        self.put(f"<details class=agent><summary><b>{name}</b> {start}</summary>\n")

    def leave_agent(self):
        self.put("</details>\n")

    def show(self, turn):
        self.count += 1
        self.sums.add(turn)
        uuid = turn.record.get("uuid")
        anchor = f"n{self.count}"
        if isinstance(uuid, str) and is_id(uuid) and uuid != self.uuid:
            anchor = f"t-{uuid}"
        self.uuid = uuid
        is_prompt = turn.role == "user" and not turn.agent
        if is_prompt and len(self.contents) < MOST_PROMPTS:
            words = escaped(unmarked_line(turn.text, 90)) or "(a picture)"
            self.contents.append(f'<p><a href="#{anchor}">{words}</a></p>\n')
        for part in article(turn, anchor):
            self.put(part)

    def end(self):
        """What closes the page: the index."""
        super().end()
        if self.sessions:
            self._end_session()
        else:
            self.put(head_of_page("No session"), "<p>There are no turns.</p>\n")
        if self.sessions > 1:
            self.put("<nav>\n", *self.contents, "</nav>\n")
        elif len(self.contents) > 3:        # the title stands above
            self.put("<nav>\n", *self.contents[1:], "</nav>\n")
        self.put(f"</main>\n<script>{SCRIPT}</script></body></html>\n")

    def _end_session(self):
        self.put(f'<p class="facts sum">{self.sums.words()}</p></section>\n')


def head_of_page(title):
    return HEAD_OF_PAGE.format(
        title=title,
        style=STYLE,
        style_hash=hash_of(STYLE),
        script_hash=hash_of(SCRIPT),
    )


def hash_of(text):
    """The hash by which a policy allows a style or script."""
    import hashlib
    from base64 import b64encode

    digest = hashlib.sha256(text.encode()).digest()
    return "sha256-" + b64encode(digest).decode()
