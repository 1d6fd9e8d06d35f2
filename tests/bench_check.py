"""the part of tests/bench that compares: is csb worse beside a peer than it was?

What is compared is csb's share of what the peer needs in the same run, so that another machine,
or a busy one, changes little. What it was stands in MEASURED, a report of tests/bench.
"""
import os
import re

from bench_peers import ROOT, ROWS, amount

MEASURED = os.path.join(ROOT, "tests", "measured-2026-11-30.md")
PEERS = ("git", "restic", "borg")
ROWS_SHARED = ("store", "first", "noop", "append", "restore")     # that a peer has, too
WORSE = 1.1             # so many times what it was is worse
JUDGED = {"seconds": "Seconds", "growth": "Growth of the store"}
TEXTS = {"seconds": "{:.3f} s".format, "growth": amount}
UNITS = {"": 1, "B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9}
# What has no row in common: our first backup without the index, beside their first backup.
STORE_ALONE = ("store", "first")


def tables(path):
    """{title of a table: {title of a row: {name of a tool: figure}}} of a report."""
    found, title, head = {}, None, None
    with open(path, encoding="utf-8") as file:
        for line in file:
            if line.startswith("## "):
                title, head = line[3:].strip(), None
            elif line.startswith("|") and title:
                cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
                if head is None:
                    head = [cell.split(" ")[0] for cell in cells]
                elif not line.startswith("|---"):
                    found.setdefault(title, {})[cells[0]] = dict(figures(head, cells))
    return found


def figures(head, cells):
    """Yield (name of a tool, figure) of a row's cells."""
    for name, cell in zip(head[1:], cells[1:], strict=True):
        match = re.match(r"([\d.]+)(?: ([KMG]?B))?(?: \(|$)", cell)
        if match and name != "goal":
            yield name, float(match[1]) * UNITS[match[2] or ""]


def pairs(then, now, what):
    """Yield (row of ours, row of theirs, peer, ours then, theirs then, ours now, theirs now);
    what is now is None where there is no figure."""
    measured = then[JUDGED[what]]
    for row, their_row in [*((row, row) for row in now), STORE_ALONE]:
        ours = measured.get(ROWS[row][0], {}).get("csb")
        theirs = measured.get(ROWS[their_row][0], {})
        for peer in PEERS:
            if their_row != row and (peer == "git" or what == "growth"):
                continue
            if ours is None or not theirs.get(peer):
                continue
            yield (row, their_row, peer, ours, theirs[peer], figure(now, row, "csb", what),
                   figure(now, their_row, peer, what))


def figure(table, row, tool, what):
    """What a run has found, None if nothing."""
    found = table.get(row, {}).get(tool)
    return found[what] if isinstance(found, dict) else None


def check(page, table, versions):
    """Put the comparison into the page; each ratio that is worse, or is missing, is a failure.

    table: what a run has found, as in_turn() gives it, by row. versions: {tool: its version}.
    """
    then = tables(MEASURED)
    for peer in PEERS:
        if peer not in versions:
            page.failed(f"the check beside {peer}", "it is not here")
    rows = []
    for what in JUDGED:
        for row, their_row, peer, ours, theirs, ours_now, theirs_now in pairs(then, table, what):
            title = ROWS[row][0] + (" (theirs: with what they note)" * (row != their_row))
            was = ours / theirs
            line = [f"{title}: {what}", peer, f"{was:.3g}"]
            if ours_now is None or not theirs_now:
                page.failed(f"the check of {title} beside {peer}", f"no figure of its {what}")
                rows.append([*line, "missing", ""])
                continue
            now = ours_now / theirs_now
            is_worse = now > was * WORSE
            text = f"{now:.3g} ({TEXTS[what](ours_now)} of {TEXTS[what](theirs_now)})"
            rows.append([*line, text, "worse" if is_worse else ""])
            if is_worse:
                page.failed(f"the check of {title}, {what} beside {peer}",
                            f"{now:.3g} of what that needs, was {was:.3g}")
    page.table("What csb needs, as a part of what the other needs",
               ["work", "beside", "as measured", "now", ""], rows)
