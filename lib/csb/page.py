"""a page of turns, one file of HTML that needs nothing else

    page = Page(sys.stdout.buffer)
    for turn in turns: page.take(turn)
    page.end()

It is written as turns come. What is known only at the end, the index of the prompts and
what a session amounts to, stands at the end of the file, and the style puts it on top.
All that a turn holds is text: no tag, attribute or address comes from it. The policy in
the head allows nothing but the page's own style and script, by their hashes.
"""
import json
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
from csb.terminal import counted, with_tilde
from csb.transcript import edits_in, tasks_in
from csb.turns import (
    calls_of,
    count_of_lines,
    diff_of,
    harmless,
    line_of,
    lines_changed,
    local_time,
    tasks_done,
    title_of,
)

MOST_PROMPTS = 5000             # in the index
DEEPEST_AGENT = 50              # subagents within each other
DEEPEST_ITEM = 5                # lists within each other that are indented
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
h1 { font-size: 1.5rem; line-height: 1.25; margin: 1rem 0 .25rem; order: -4 }
section + section h1 { margin-top: 3rem; padding-top: 2rem;
  border-top: 3px solid var(--line) }
h2, h3 { font-size: 1rem; line-height: 1.35; margin: 1.2rem 0 .6rem }
h2 { font-size: 1.125rem }
p, ul, blockquote, pre, table { margin: .6rem 0 }
p, li { white-space: pre-wrap }
.facts, time, header a, .count, .label { color: var(--dim); font-size: .8125rem }
.facts { margin: .1rem 0; order: -3 }
.sum { order: -2; padding-bottom: 1rem; border-bottom: 1px solid var(--line) }
article { margin: 1.5rem 0 0; min-width: 0; position: relative }
.assistant + .assistant { margin-top: .25rem }
.assistant + .assistant > header { position: absolute; right: -.7rem; top: 0 }
.assistant + .assistant > header > :not(a) { display: none }
header { display: flex; gap: .6rem; align-items: baseline; margin-bottom: .25rem }
header b { font-size: .8125rem }
header a { margin-left: auto; text-decoration: none }
:target { outline: 2px solid var(--edge); outline-offset: .5rem }
.user { background: var(--user); border-left: 4px solid var(--edge);
  border-radius: 0 6px 6px 0; padding: .75rem 1rem .25rem; margin-top: 2.5rem }
.user > header b { color: var(--edge) }
ul { padding: 0; list-style: none }
li { padding-left: 1.4em; text-indent: -1.4em; margin: .15rem 0 }
li > span { display: inline-block; width: 1.4em; text-indent: 0; color: var(--dim) }
li > * { text-indent: 0 }
.in1 { margin-left: 1.4em } .in2 { margin-left: 2.8em } .in3 { margin-left: 4.2em }
.in4 { margin-left: 5.6em } .in5 { margin-left: 7em }
blockquote { padding-left: .8rem; border-left: 3px solid var(--line);
  color: var(--dim) }
hr { border: 0; border-top: 1px solid var(--line); margin: 1rem 0 }
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
img { display: block; max-width: 100%; border: 1px solid var(--line); margin: .5rem 0 }
details { margin: .25rem 0; font-size: .875rem; min-width: 0 }
summary { cursor: pointer; color: var(--dim); padding: .1rem 0 }
summary code { display: inline-block; max-width: calc(100% - 11rem); overflow: hidden;
  padding: 0; text-overflow: ellipsis; white-space: nowrap; vertical-align: bottom;
  background: none }
.tool[open] > summary code { display: none }
.tool > div { margin: .25rem 0 .75rem 1rem }
.tool pre { max-height: 28rem; overflow-y: auto; margin: .1rem 0 .5rem }
.label { margin: .4rem 0 0 } .bad > summary .count { color: var(--bad) }
.agent { border-left: 2px solid var(--line); padding-left: 1rem; font-size: 1rem;
  margin-top: 1rem }
.agent .user { background: none; border-left-width: 2px; margin-top: 1rem }
nav { order: -1; border: 1px solid var(--line); border-radius: 6px; font-size: .8125rem;
  padding: .6rem .9rem; max-height: 14rem; overflow-y: auto }
nav ol { padding-left: 2em; margin: .3rem 0 }
nav li { white-space: normal; padding: 0; text-indent: 0; margin: .3rem 0;
  color: var(--dim) }
nav a { color: inherit; text-decoration: none } nav a:hover { color: var(--ink) }
nav > b { display: block; margin-top: .5rem } nav > b:first-child { margin-top: 0 }
.bar { order: -2; display: flex; gap: .5rem; justify-content: flex-end }
button { font: inherit; font-size: .8125rem; color: inherit; background: var(--soft);
  border: 1px solid var(--line); border-radius: 6px; padding: .25rem .6rem;
  cursor: pointer }
@media (min-width: 78rem) { nav { position: fixed; top: 0; bottom: 0; width: 14rem;
  border: 0; left: calc(50vw - 39rem); max-height: none; padding: 1.5rem 0 } }
@media print { body { max-width: none; padding: 0; font-size: 10pt }
  main, section { display: block } nav, .bar, header a { display: none }
  .tool pre { max-height: none } header, summary { break-after: avoid }
  .user { border: 1px solid var(--line); border-left: 4px solid var(--edge) } }
"""
SCRIPT = """
const bar = document.createElement("p");
bar.className = "bar";
for (const [words, open] of [["Expand all", true], ["Collapse all", false]]) {
  const button = document.createElement("button");
  button.textContent = words;
  button.onclick = () => {
    for (const one of document.querySelectorAll("details")) one.open = open;
  };
  bar.append(button);
}
if (document.querySelector("details")) document.querySelector("main").append(bar);
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
ROLES = {
    "user": "User",
    "assistant": "Assistant",
    "tool": "Tool",
    "summary": "Summary",
    "meta": "Claude Code",
    "system": "System",
}
PICTURES = ("image/png", "image/jpeg", "image/gif", "image/webp")
MARKS = {"completed": "\u2611", "in_progress": "\u25b8"}
NOT_DONE = "\u2610"

_BASE64 = re.compile("[A-Za-z0-9+/]+=*")


# --- texts ----------------------------------------------------------------------------


def safe(text):
    """A text as HTML shows it."""
    text = harmless(text).replace("&", "&amp;").replace("<", "&lt;")
    return text.replace(">", "&gt;").replace('"', "&quot;").replace("'", "&#39;")


def safe_line(text, width=160):
    """The start of a text on one line, as HTML."""
    return safe(line_of(text, width))


def marked_up(text):
    """A paragraph, heading or cell of Markdown."""
    html = ""
    style = ""
    for span in spans_in(text):
        letters = span.style.replace("c", "")
        if letters != style:
            html += _change(style, letters)
            style = letters
        words = safe(span.text)
        if "c" in span.style:
            words = f"<code>{words}</code>"
        html += words
    return html + _change(style, "")


_TAGS = {"b": "strong", "i": "em"}


def _change(before, after):
    """The tags between a text of one style and one of another."""
    same = 0
    while same < min(len(before), len(after)) and before[same] == after[same]:
        same += 1
    closing = [f"</{_TAGS[letter]}>" for letter in reversed(before[same:])]
    opening = [f"<{_TAGS[letter]}>" for letter in after[same:]]
    return "".join(closing + opening)


def prose(text):
    """A text that is more or less Markdown, as HTML."""
    return "\n".join(map(_block_html, blocks_in(harmless(text).strip("\n"))))


def _block_html(block):
    if isinstance(block, Heading):
        tag = "h2" if block.level < 3 else "h3"
        return f"<{tag}>{marked_up(block.text)}</{tag}>"
    if isinstance(block, Code):
        return f"<pre>{safe(chr(10).join(block.lines))}</pre>"
    if isinstance(block, Quote):
        inner = "\n".join(map(_block_html, block.blocks))
        return f"<blockquote>{inner}</blockquote>"
    if isinstance(block, Listing):
        items = "\n".join(_items_html(block, 0))
        return f"<ul>{items}</ul>"
    if isinstance(block, Table):
        return _table_html(block)
    if isinstance(block, Rule):
        return "<hr>"
    return f"<p>{marked_up(chr(10).join(block.lines))}</p>"


def _items_html(listing, level):
    """Yield the items of a list, and of those within it, one after the other."""
    kind = f"in{min(level, DEEPEST_ITEM)}"
    for item in listing.items:
        mark = item.mark if item.mark[0].isdigit() else "\u2022"
        inside = ""
        for block in item.blocks:
            if isinstance(block, Listing):
                yield f"<li class={kind}><span>{mark}</span>{inside}</li>"
                yield from _items_html(block, level + 1)
                mark = inside = ""
            elif isinstance(block, Paragraph) and not inside:
                inside = marked_up("\n".join(block.lines))
            else:
                inside += _block_html(block)
        if inside or mark:
            yield f"<li class={kind}><span>{mark}</span>{inside}</li>"


def _table_html(table):
    rows = []
    for row in table.rows:
        cells = "</td><td>".join(map(marked_up, row))
        rows.append(f"<tr><td>{cells}</td></tr>")
    return "<table>" + "\n".join(rows) + "</table>"


# --- parts of a turn ------------------------------------------------------------------


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


def fold_away(label, html):
    """What opens on a click."""
    return f"<details><summary>{label}</summary>\n{html}</details>\n"


def call_html(call):
    """Yield a tool call, folded: what it got and what it gave, in pieces."""
    kind = "tool"
    label_of_result = "result"
    if call.get("is_error") is True:
        kind = "tool bad"
        label_of_result = "error"
    name = safe_line(call.get("name"), 60)
    brief = safe_line(call.get("brief"))
    given = call.get("input")
    edits = edits_in(given)
    tasks = tasks_in(given)
    if tasks:
        brief = tasks_done(tasks)
    yield (
        f'<details class="{kind}"><summary><b>{name}</b> <code>{brief}</code> '
        f"<span class=count>{note_on(call, edits)}</span></summary><div>\n"
    )
    if not isinstance(given, dict):
        given = {"input": given}
    for label, value in given.items():
        if not (edits or tasks) or is_beside(value, edits):
            yield labelled(label, value)
    for edit in edits:
        yield diff_html(edit)
    if tasks:
        yield tasks_html(tasks)
    yield labelled(label_of_result, call.get("result") or None)
    yield from pictures(call.get("images") or [])
    yield "</div></details>\n"


def note_on(call, edits):
    """What came of a tool call, in a word or two."""
    result = call.get("result")
    if not isinstance(result, str):
        return "no result"
    if call.get("is_error") is True:
        return "failed"
    if edits:
        went, came = lines_changed(edits)
        return f"+{came} \u2212{went}"
    count = count_of_lines(result)
    if count:
        return counted(count, "line")
    if call.get("images"):
        return "picture"
    return "no output"


def is_beside(value, edits):
    """Is a value of a call's input none of those that are shown as edits or tasks?"""
    if not isinstance(value, str):
        return False
    return not any(value in edit for edit in edits)


def labelled(label, value):
    if value is None:
        return ""
    if not isinstance(value, str):
        value = json.dumps(value, ensure_ascii=False)
    return f"<p class=label>{safe_line(label, 60)}</p><pre>{safe(value)}</pre>\n"


def diff_html(edit):
    """An Edit: the lines that went, those that came, and those between."""
    lines = []
    for line in diff_of(edit):
        words = safe(line)
        tag = {"-": "del", "+": "ins"}.get(line[:1])
        if tag:
            words = f"<{tag}>{words}</{tag}>"
        lines.append(words)
    return "<pre>" + "\n".join(lines) + "</pre>\n"


def tasks_html(tasks):
    items = []
    for task in tasks:
        mark = MARKS.get(task.state, NOT_DONE)
        words = safe_line(task.text, 300)
        items.append(f"<li class=in0><span>{mark}</span>{words}</li>")
    return "<ul>" + "\n".join(items) + "</ul>\n"


# --- the page -------------------------------------------------------------------------


class Page:
    """The page, written as turns come."""

    def __init__(self, out):
        self.out = out
        self.session = None     # the id of the present session
        self.agents = []        # the subagents whose folds are open
        self.count = 0          # turns so far
        self.uuid = None        # of the last turn
        self.sums = None        # the Sums of the present session
        self.contents = []      # what the index says, in pieces
        self.prompts = 0        # how many of them are in it
        self.sessions = 0

    def put(self, *parts):
        for part in parts:
            self.out.write(part.encode("utf-8", "replace"))

    def take(self, turn):
        """Write a turn. TypeError and its like if it is none: nothing is written."""
        uuid = turn.get("uuid")
        anchor = f"n{self.count + 1}"
        if isinstance(uuid, str) and is_id(uuid) and uuid != self.uuid:
            anchor = f"t-{uuid}"
        parts = [part.encode("utf-8", "replace") for part in article(turn, anchor)]
        is_new = turn.get("session_id") != self.session or "project" in turn
        if not self.count or is_new:
            self._end_session()
            self._head(turn)
        self.session = turn.get("session_id")
        self.uuid = uuid
        self.count += 1
        self._nest(turn)
        self.sums.add(turn)
        if turn.get("role") == "user" and not self.agents:
            self._add_prompt(turn, anchor)
        self.out.writelines(parts)

    def end(self):
        """What closes the page: the index of the prompts."""
        if not self.count:
            self._head({})
            self.put("<p>There are no turns.</p>\n")
        self._end_session()
        if self.prompts > 2 or self.sessions > 1:
            name = "Sessions and prompts"
            if self.sessions == 1:
                name = "Prompts"
                self.contents[0] = "<ol>\n"    # its title stands above
            self.put(f"<nav aria-label=prompts><b>{name}</b>\n", *self.contents)
            self.put("</ol></nav>\n")
        self.put(f"</main>\n<script>{SCRIPT}</script></body></html>\n")

    def _head(self, turn):
        """The head of a session, and of the page."""
        session_id = safe_line(turn.get("session_id"))
        about = turn.get("about")
        if not isinstance(about, dict):
            about = {}
        title = safe(title_of(turn, about.get("prompt")))
        if not self.count:
            self.put(head_of_page(title))
        self.sessions += 1
        anchor = f"s{self.sessions}"
        self.put(f"<section><h1 id={anchor}>{title}</h1>\n")
        for fact in facts_of_session(turn, about, session_id):
            self.put(f"<p class=facts>{fact}</p>\n")
        self.sums = Sums()
        if self.contents:
            self.contents.append("</ol>\n")
        self.contents.append(f'<b><a href="#{anchor}">{title}</a></b><ol>\n')

    def _end_session(self):
        if self.sums is None:
            return
        self._nest({})
        self.put(f'<p class="facts sum">{self.sums.text()}</p></section>\n')
        self.sums = None

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
        same = 0
        while same < min(len(wanted), len(self.agents)):
            if wanted[same] != self.agents[same]:
                break
            same += 1
        self.put("</details>\n" * (len(self.agents) - same))
        for name in wanted[same:]:
            words = f"Subagent <b>{safe_line(name, 60)}</b>"
            start = safe_line(turn.get("text"), 100)
            self.put(f"<details class=agent><summary>{words} {start}</summary>\n")
        self.agents = wanted

    def _add_prompt(self, turn, anchor):
        self.prompts += 1
        if self.prompts <= MOST_PROMPTS:
            words = safe_line(turn.get("text"), 90) or "(a picture)"
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


def facts_of_session(turn, about, session_id):
    """Where and when a session was, in lines of HTML."""
    where = turn.get("cwd") or about.get("cwd") or turn.get("project")
    where = safe(with_tilde(line_of(where, 300)))
    branch = safe_line(about.get("git_branch"), 60)
    first = local_time({"at": about.get("started")}) or local_time(turn)
    last = local_time({"at": about.get("last_active")})
    when = first
    if first and last and last != first:
        when = f"{first} to {last}"
    lines = [" \u00b7 ".join(filter(None, (where, branch))), when, session_id]
    return list(filter(None, lines))


class Sums:
    """What a session amounts to."""

    def __init__(self):
        self.prompts = 0
        self.calls = 0
        self.models = {}        # their names, in the order in which they came
        self.read = 0           # tokens
        self.written = 0

    def add(self, turn):
        is_own = not turn.get("subagent") and turn.get("is_sidechain") is not True
        if turn.get("role") == "user" and is_own:
            self.prompts += 1
        self.calls += len(calls_of(turn))
        model = line_of(turn.get("model"), 60)
        if model:
            self.models[model] = None
        tokens = turn.get("tokens")
        if isinstance(tokens, dict):
            for name in ("input", "cache_read", "cache_write"):
                self.read += whole_number(tokens.get(name))
            self.written += whole_number(tokens.get("output"))

    def text(self):
        """All of it in a line of HTML."""
        parts = [counted(self.prompts, "prompt"), counted(self.calls, "tool call")]
        parts += [safe(model) for model in self.models]
        if self.read or self.written:
            read = amount(self.read)
            written = amount(self.written)
            parts.append(f"{read} tokens read, {written} written")
        return " \u00b7 ".join(parts)


def whole_number(value):
    return value if type(value) is int and value > 0 else 0


def amount(count):
    """A number for people: 812, 34 K, 1.2 M."""
    if count < 1000:
        return str(count)
    if count < 1_000_000:
        return f"{count / 1000:.0f} K"
    return f"{count / 1_000_000:.1f} M"


def article(turn, anchor):
    """Yield a turn, in pieces."""
    role = turn.get("role")
    kind = "other"
    name = safe_line(role, 40) or "?"
    if isinstance(role, str) and role in ROLES:
        kind = role
        name = ROLES[role]
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
    is_note = role == "meta"
    if role in ("summary", "system") and len(text) > LONG_NOTE:
        is_note = True
    if is_note:
        text = fold_away(safe_line(turn.get("text"), 100), text)
    yield text
    yield from pictures(turn.get("images"))
    for call in turn.get("tools") or ():
        yield from call_html(call)
    yield "</article>\n"
