"""the part of tests/bench that compares: is csb worse beside a peer than it was?

What is compared is csb's share of what the peer needs in the same run, so that another
machine, or a busy one, changes little. What it was stands in MEASURED, a report of
tests/bench.
"""
import os
import re
from collections import namedtuple

from bench_peers import ROOT, ROWS, amount

MEASURED = os.path.join(ROOT, "tests", "measured-2026-11-30.md")
PEERS = ("git", "restic", "borg")
ROWS_SHARED = ("store", "first", "noop", "append", "restore")     # that a peer has, too
WORSE = 1.1             # so many times what it was is worse
JUDGED = {"seconds": "Seconds", "growth": "Growth of the store"}
TEXTS = {"seconds": "{:.3f} s".format, "growth": amount}
UNITS = {"": 1, "B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9}

# was, now: (ours, theirs); of now each is None where there is no figure.
Pair = namedtuple("Pair", "title peer was now")


def tables(path):
    """{title of a table: {title of a row: {name of a tool: figure}}} of a report."""
    found = {}
    title = None
    head = None
    with open(path, encoding="utf-8") as file:
        for line in file:
            if line.startswith("## "):
                title = line[3:].strip()
                head = None
                continue
            if not title or not line.startswith("|") or line.startswith("|---"):
                continue
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
            if head is None:
                head = [cell.split(" ")[0] for cell in cells]
            else:
                found.setdefault(title, {})[cells[0]] = figures(head, cells)
    return found


def figures(head, cells):
    """{name of a tool: figure} of a row's cells."""
    found = {}
    for name, cell in zip(head[1:], cells[1:], strict=True):
        match = re.match(r"([\d.]+)(?: ([KMG]?B))?(?: \(|$)", cell)
        if match and name != "goal":
            found[name] = float(match[1]) * UNITS[match[2] or ""]
    return found


def pairs(then, now, what):
    """Yield a Pair for each row and peer of which there were figures."""
    for row in now:
        for peer in PEERS:
            yield from pair(then, now, what, ROWS[row].title, row, row, peer)
    # Restic and borg have no index: our backup without one, beside all of theirs.
    if what == "seconds" and "store" in now and "first" in now:
        title = f"{ROWS['store'].title} (theirs: with what they note)"
        for peer in ("restic", "borg"):
            yield from pair(then, now, what, title, "store", "first", peer)


def pair(then, now, what, title, row, their_row, peer):
    """Yield the Pair of a row of ours and a peer's, if both were measured then."""
    measured = then[JUDGED[what]]
    ours = measured.get(ROWS[row].title, {}).get("csb")
    theirs = measured.get(ROWS[their_row].title, {}).get(peer)
    if ours is not None and theirs:
        found = figure(now, row, "csb", what), figure(now, their_row, peer, what)
        yield Pair(title, peer, (ours, theirs), found)


def figure(table, row, tool, what):
    """What a run has found, None if nothing."""
    found = table.get(row, {}).get(tool)
    return found[what] if isinstance(found, dict) else None


def check(page, table, versions):
    """Put the comparison into the page; what is worse, or is missing, is a failure.

    table: what a run has found, as in_turn() gives it, by row.
    versions: {tool: its version}.
    """
    then = tables(MEASURED)
    for peer in PEERS:
        if peer not in versions:
            page.failed(f"the check beside {peer}", "it is not here")
    rows = []
    for what in JUDGED:
        for one in pairs(then, table, what):
            rows.append(compared(page, what, one))
    page.table(
        "What csb needs, as a part of what the other needs",
        ["work", "beside", "as measured", "now", ""], rows)


def compared(page, what, pair):
    """The cells of a Pair in the table; the page is told of a failure."""
    was = pair.was[0] / pair.was[1]
    cells = [f"{pair.title}: {what}", pair.peer, f"{was:.3g}"]
    ours, theirs = pair.now
    if ours is None or not theirs:
        page.failed(
            f"the check of {pair.title} beside {pair.peer}", f"no figure of its {what}")
        return [*cells, "missing", ""]

    now = ours / theirs
    text = TEXTS[what]
    cells.append(f"{now:.3g} ({text(ours)} of {text(theirs)})")
    if now <= was * WORSE:
        return [*cells, ""]
    page.failed(
        f"the check of {pair.title}, {what} beside {pair.peer}",
        f"{now:.3g} of what that needs, was {was:.3g}")
    return [*cells, "worse"]
