"""a page of turns, one file of HTML that needs nothing else

    page = Page(sys.stdout.buffer)
    for turn in turns: page.take(turn)
    page.end()

It is written as turns come. What is known only at the end, the index of the prompts and
what a session amounts to, stands at the end of the file, and the style puts it on top.
All that a turn holds is text: no tag, attribute or address comes from it. The policy in
the head allows nothing but the page's own style and script, by their hashes.
"""
import re

from csb.markdown import (
    Code,
    Heading,
    Listing,
    Paragraph,
    Quote,
    Rule,
    Table,
    blocks_in,
    spans_in,
)
from csb.session import is_id
from csb.terminal import counted, short_count
from csb.transcript import tasks_in
from csb.turns import (
    BOXES,
    CHANGE,
    ROLES,
    TO_DO,
    brief_of,
    calls_of,
    given_and_got,
    harmless,
    line_of,
    local_time,
    name_of_call,
    outcome,
    place_of,
    title_of,
    unmarked_line,
)

MOST_PROMPTS = 5000             # in the index
DEEPEST_AGENT = 50              # subagents within each other
MOST_TOKENS = 10**12            # of a turn; more is no count
LONG_NOTE = 200                 # characters; a longer one is folded

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
h2, h3, p, ul, ol, blockquote, pre, table { margin: .6rem 0 }
p { white-space: pre-wrap }
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
ul, ol { padding-left: 1.6em }
li > p { margin: .15rem 0 }
ul.tasks { padding: 0; list-style: none }
blockquote { padding-left: .8rem; border-left: 3px solid var(--line);
  color: var(--dim) }
hr { width: 100%; border: 0; border-top: 1px solid var(--line) }
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
nav a { color: inherit } nav ol { margin: .2rem 0 }
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
PICTURES = ("image/png", "image/jpeg", "image/gif", "image/webp")

_BASE64 = re.compile("[A-Za-z0-9+/]+=*")


# --- texts ----------------------------------------------------------------------------


def escaped(text):
    """A harmless text as HTML shows it."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text.replace('"', "&quot;").replace("'", "&#39;")


def safe(text):
    """Any text as HTML shows it."""
    return escaped(harmless(text))


def safe_line(text, width=160):
    """The start of a text on one line, as HTML."""
    return safe(line_of(text, width))


_TAGS = {"b": "strong", "i": "em", "c": "code"}


def marked_up(text):
    """A paragraph, heading or cell of Markdown, which is harmless."""
    html = ""
    style = ""                  # letters of the tags that are open, the outermost first
    for span in [*spans_in(text), None]:
        wanted = span.style if span else ""
        while not wanted.startswith(style):
            html += f"</{_TAGS[style[-1]]}>"
            style = style[:-1]
        for letter in wanted[len(style):]:
            html += f"<{_TAGS[letter]}>"
        style = wanted
        if span:
            html += escaped(span.text)
    return html


def prose(text):
    """A text that is more or less Markdown, as HTML."""
    return html_of(blocks_in(harmless(text).strip("\n")))


def html_of(blocks):
    return "\n".join(map(_block_html, blocks))


def _block_html(block):
    if isinstance(block, Paragraph):
        return f"<p>{marked_up(chr(10).join(block.lines))}</p>"
    if isinstance(block, Heading):
        tag = "h2" if block.level < 3 else "h3"
        return f"<{tag}>{marked_up(block.text)}</{tag}>"
    if isinstance(block, Code):
        return f"<pre>{escaped(chr(10).join(block.lines))}</pre>"
    if isinstance(block, Quote):
        return f"<blockquote>{html_of(block.blocks)}</blockquote>"
    if isinstance(block, Listing):
        return _list_html(block)
    if isinstance(block, Table):
        rows = ["</td><td>".join(map(marked_up, row)) for row in block.rows]
        cells = "</td></tr>\n<tr><td>".join(rows)
        return f"<table><tr><td>{cells}</td></tr></table>"
    if isinstance(block, Rule):
        return "<hr>"
    raise TypeError(block)


def _list_html(listing):
    tag = "ul"
    html = ""
    for item in listing.items:
        value = ""
        if item.mark not in "-*+":
            tag = "ol"
            value = f" value={item.mark[:-1]}"
        html += f"<li{value}>{html_of(item.blocks)}</li>"
    return f"<{tag}>{html}</{tag}>"


# --- parts of a turn ------------------------------------------------------------------


def article(turn, anchor):
    """Yield a turn, in pieces."""
    role = turn.get("role")
    kind = "other"
    if role in ROLES:
        kind = role
    name = ROLES.get(role) or safe_line(role, 40) or "?"
    when = local_time(turn)
    if when:
        when = f'<time datetime="{safe(turn["at"])}">{when}</time>'
    yield (
        f'<article class={kind} id="{anchor}"><header><b>{name}</b> {when}'
        f'<a href="#{anchor}" aria-label="link to this turn">#</a></header>\n'
    )
    thoughts = turn.get("thinking")
    if thoughts:
        yield fold_away("Thinking", prose(thoughts))
    text = prose(turn.get("text"))
    is_note = role in ("summary", "system") and len(text) > LONG_NOTE
    if is_note or role == "meta":
        text = fold_away(safe_line(turn.get("text"), 100), text)
    yield text
    yield from pictures(turn.get("images"))
    for call in turn.get("tools") or ():
        yield from call_html(call)
    yield "</article>\n"


def fold_away(label, html):
    """What opens on a click."""
    return f"<details><summary>{label}</summary>\n{html}</details>\n"


def pictures(images):
    """Yield pictures as part of the page, in pieces."""
    for image in images if isinstance(images, list) else ():
        kind = image.get("media_type")
        data = image.get("data")
        is_good = kind in PICTURES and isinstance(data, str)
        if is_good and _BASE64.fullmatch(data):
            yield f'<img alt="picture" src="data:{kind};base64,'
            yield data
            yield '">\n'
        else:
            what = safe_line(kind, 40) or "unknown"
            yield f"<p class=count>(a picture of type {what})</p>\n"


def call_html(call):
    """Yield a tool call, folded: what it got and what it gave, in pieces."""
    kind = "tool"
    if call.get("is_error") is True:
        kind = "tool bad"
    yield (
        f'<details class="{kind}"><summary><b>{safe(name_of_call(call))}</b> '
        f"<code>{safe(brief_of(call))}</code> "
        f"<span class=count>{safe(outcome(call))}</span></summary><div>\n"
    )
    tasks = tasks_in(call.get("input"))
    if tasks:
        items = ""
        for task in tasks:
            box = BOXES.get(task.state, TO_DO)
            items += f"<li>{box} {safe_line(task.text, 300)}</li>\n"
        yield f"<ul class=tasks>{items}</ul>\n"
    for label, words in given_and_got(call):
        words = safe(words)
        if label == CHANGE:
            words = "\n".join(map(line_of_change, words.split("\n")))
        yield f"<p class=label>{safe(label)}</p><pre>{words}</pre>\n"
    yield from pictures(call.get("images"))
    yield "</div></details>\n"


def line_of_change(line):
    tag = {"-": "del", "+": "ins"}.get(line[:1])
    return f"<{tag}>{line}</{tag}>" if tag else line


# --- the page -------------------------------------------------------------------------


class Page:
    """The page, written as turns come."""

    def __init__(self, out):
        self.out = out
        self.session = None     # the id of the present session
        self.agents = []        # the subagents whose folds are open
        self.count = 0          # turns so far
        self.uuid = None        # of the last turn
        self.contents = []      # what the index says, in pieces
        self.prompts = 0        # how many there are
        self.sessions = 0
        # Of the present session:
        self.own_prompts = 0
        self.calls = 0
        self.models = {}        # their names, in the order in which they came
        self.last_time = ""
        self.read = self.written = 0        # tokens

    def put(self, *parts):
        for part in parts:
            self.out.write(part.encode("utf-8", "replace"))

    def take(self, turn):
        """Write a turn. TypeError and its like if it is none: nothing is written."""
        uuid = turn.get("uuid")
        anchor = f"n{self.count + 1}"
        if isinstance(uuid, str) and is_id(uuid) and uuid != self.uuid:
            anchor = f"t-{uuid}"
        parts = list(article(turn, anchor))
        is_new = turn.get("session_id") != self.session or "project" in turn
        if not self.count or is_new:
            self._end_session()
            self._head(turn)
        self.session = turn.get("session_id")
        self.uuid = uuid
        self.count += 1
        self._nest(turn)
        self.calls += len(calls_of(turn))
        self.models[safe_line(turn.get("model"), 60)] = None
        self.last_time = local_time(turn) or self.last_time
        self._add_tokens(turn.get("tokens"))
        if turn.get("role") == "user" and not self.agents:
            self._add_prompt(turn, anchor)
        self.put(*parts)

    def end(self):
        """What closes the page: the index of the prompts."""
        if not self.count:
            self._head({})
            self.put("<p>There are no turns.</p>\n")
        self._end_session()
        if self.sessions == 1:
            del self.contents[0]        # it stands above
        if self.prompts > 2 or self.sessions > 1:
            self.put("<nav>\n", *self.contents, "</ol></nav>\n")
        self.put(f"</main>\n<script>{SCRIPT}</script></body></html>\n")

    def _head(self, turn):
        """The head of a session, and of the page."""
        title = safe(title_of(turn))
        if not self.count:
            self.put(head_of_page(title))
        self.sessions += 1
        anchor = f"s{self.sessions}"
        self.put(f"<section><h1 id={anchor}>{title}</h1>\n")
        for fact in (place_of(turn), local_time(turn), line_of(turn.get("session_id"))):
            self.put(f"<p class=facts>{safe(fact)}</p>\n")
        if self.contents:
            self.contents.append("</ol>\n")
        self.contents.append(f'<b><a href="#{anchor}">{title}</a></b>')
        self.contents.append("<ol>\n")
        self.own_prompts = self.calls = 0
        self.models = {}
        self.last_time = ""
        self.read = self.written = 0

    def _end_session(self):
        """Close the folds, and say what a session amounts to."""
        if not self.sessions:
            return
        self._nest({})
        facts = [counted(self.own_prompts, "prompt"), counted(self.calls, "tool call")]
        facts += filter(None, self.models)
        if self.read or self.written:
            read = short_count(self.read)
            facts.append(f"{read} tokens read, {short_count(self.written)} written")
        if self.last_time:
            facts.append(f"until {self.last_time}")
        text = " \u00b7 ".join(facts)
        self.put(f'<p class="facts sum">{text}</p></section>\n')

    def _nest(self, turn):
        """Open and close the folds of subagents, so that this turn stands in its own.
        """
        agent = turn.get("subagent")
        if not agent and turn.get("is_sidechain") is True:
            agent = "side chain"
        depth = turn.get("depth")
        if type(depth) is not int or not 0 < depth < DEEPEST_AGENT:
            depth = 1
        wanted = []
        if isinstance(agent, str):
            wanted = [*self.agents[:depth - 1], agent]
        while wanted[:len(self.agents)] != self.agents:
            self.put("</details>\n")
            self.agents.pop()
        for name in wanted[len(self.agents):]:
            words = f"Subagent <b>{safe_line(name, 60)}</b>"
            start = safe_line(turn.get("text"), 100)
            self.put(f"<details class=agent><summary>{words} {start}</summary>\n")
        self.agents = wanted

    def _add_tokens(self, tokens):
        if not isinstance(tokens, dict):
            return
        for name, count in tokens.items():
            if type(count) is not int or not 0 <= count < MOST_TOKENS:
                continue
            if name == "output":
                self.written += count
            else:
                self.read += count

    def _add_prompt(self, turn, anchor):
        self.own_prompts += 1
        self.prompts += 1
        if self.prompts <= MOST_PROMPTS:
            words = safe(unmarked_line(turn.get("text"), 90)) or "(a picture)"
            self.contents.append(f'<li><a href="#{anchor}">{words}</a></li>\n')


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
