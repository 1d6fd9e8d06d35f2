"""what a transcript says, as simply and as slowly as can be

All records in memory, character by character; nothing is shared with the tools.

examples:
  python3 tests/slow_facts.py ~/.claude/projects/*/*.jsonl | jq .folders
"""
import json
import os
import re
import sys

MACHINES = """task-notification teammate-message agent-message cross-session-message
    ci-monitor-event""".split()
INSERTED = """system-reminder ide_opened_file ide_selection new-diagnostics
    session-start-hook user-prompt-submit-hook tick goal local-command-stdout
    local-command-stderr local-command-caveat bash-stdout bash-stderr""".split()
WORDS = (
    "[Request interrupted by user", "Caveat: The ", "Stop hook feedback:",
    "This session is being continued from a previous conversation",
    "[Subagent hand-back]", "Base directory for this skill:",
    "Another Claude session sent a message:")
TOKENS = {
    "input": "input_tokens", "output": "output_tokens",
    "cache_read": "cache_read_input_tokens",
    "cache_write": "cache_creation_input_tokens"}


def windows(path):
    """Is a path one of Windows: with a drive, or of a share?"""
    if path[:2] == "\\\\":
        return True
    return path[:1].isalpha() and path[1:2] == ":" and path[2:3] in ("/", "\\")


def parts_of(path):
    """The names in a path, . and .. worked off."""
    if windows(path):
        path = path.replace("\\", "/")
    done = []
    for name in path.split("/"):
        if name == ".." and done:
            done.pop()
        elif name not in ("", ".", ".."):
            done.append(name)
    return done


def is_odd(path):
    """Is it no path of a file?"""
    if not path or len(path) > 1024:
        return True
    for c in path:
        if c in '<>|*?"`' or c < " " or c == "\x7f":
            return True
    colons = path.count(":/")
    if path[0] != "/":
        colons -= 1     # a drive may stand there
    if path[0] in "-$~" or "://" in path or colons > 0:
        return True
    if path[1:2] == ":" and path[2:3] not in ("/", "\\"):
        return True
    for name in re.split(r"[/\\]", path):
        if len(name) > 2 and name.strip(".") == "":
            return True
    return False


def folder(path, cwd, up):
    """The folder of a path, or None; up: the path is a file's."""
    if is_odd(path):
        return None
    if path[0] != "/" and not windows(path):
        if not cwd:
            return None
        path = cwd + ("\\" if windows(cwd) else "/") + path
    names = parts_of(path)
    ends = "/\\" if windows(path) else "/"
    if up and path[-1] not in ends:
        names = names[:-1]
    if windows(path):
        return names[0] + "\\" + "\\".join(names[1:])
    if not names or names[0] in ("dev", "proc", "sys"):
        return None
    return "/" + "/".join(names)


def is_file(path):
    name = re.split(r"[/\\]", path)[-1]
    stem, dot, end = name.rpartition(".")
    return dot and stem[-1:] not in ("", ".") and re.fullmatch(r"\w{1,10}", end)


def words_of_person(text):
    """What is left of a text without what Claude Code puts in."""
    text = text.strip()
    if text.startswith(WORDS):
        return ""
    for name in MACHINES:
        if text.startswith("<" + name):
            return ""
    for name in INSERTED:
        while text.startswith("<" + name):
            end = text.find(f"</{name}>")
            if end < 0:
                return ""
            text = text[end + len(name) + 3:].strip()
            if text.startswith(WORDS):
                return ""
    if text.startswith(("<command-", "<bash-", "<local-command-")):
        return ""
    if re.match(r"/[a-z][a-z-]*(\s|$)", text):
        return ""
    return text


def blocks_of(record):
    """The blocks of a message."""
    content = record["message"].get("content", "")
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    return [block for block in content if isinstance(block, dict)]


def typed(record):
    """Did a person type this?"""
    blocks = blocks_of(record)
    kinds = [block.get("type") for block in blocks]
    if "tool_result" in kinds:
        return False
    texts = [block["text"] for block in blocks if block.get("type") == "text"]
    if not any(text.strip() for text in texts):
        return "image" in kinds     # a picture may be all that was sent
    return any(words_of_person(text) for text in texts)


def records_in(line):
    """(the records in a line, also after one that was cut; is something wrong?)"""
    try:
        return [{**json.loads(line.decode())}], False
    except (ValueError, TypeError):
        pass
    text = line.decode("utf-8", "replace")
    found = []
    at = 0
    while at < len(text):
        value, end = record_at(text, at)
        if value is None:
            at += 1
        else:
            found.append(value)
            at = end
    return found, True


def record_at(text, at):
    """(the whole record that begins there, its end), (None, None) if none does."""
    if text[at] != "{":
        return None, None
    try:
        value, end = json.JSONDecoder().raw_decode(text, at)
    except ValueError:
        return None, None
    if isinstance(value.get("type"), str):
        if "sessionId" in value or "leafUuid" in value:
            return value, end
        if end == len(text) and "parentToolUseID" not in value:
            return value, end
    return None, None


def read(path):
    """(the records of a transcript, each once, the number of lines with a fault)."""
    with open(path, "rb") as file:
        lines = file.read().split(b"\n")
    records = []
    bad = 0
    known = set()
    for line in lines:
        if not line.strip():
            continue
        found, wrong = records_in(line)
        bad += wrong
        for record in found:
            uuid = record.get("uuid")
            if uuid not in known:
                records.append(record)
            if uuid is not None:
                known.add(uuid)
    return records, bad


def facts(path):
    """What csb-index should show of a transcript."""
    records, bad = read(path)
    chats = [r for r in records if r.get("type") in ("user", "assistant")]
    answers = [r for r in chats if r["type"] == "assistant"]
    main = [r for r in chats if not r.get("isMeta") and not r.get("isSidechain")]
    prompts = []
    for r in main:
        if r["type"] == "user" and not r.get("isCompactSummary") and typed(r):
            prompts.append(r)
    calls = []      # (the answer, the call of a tool in it)
    for r in answers:
        for block in blocks_of(r):
            if block.get("type") == "tool_use":
                calls.append((r, block))

    times = values(records, "timestamp")
    models = [r["message"].get("model") for r in main if r["type"] == "assistant"]
    models = [name for name in models if name != "<synthetic>"]
    branches = [name for name in values(records, "gitBranch") if name != "HEAD"]
    shown = {
        "started": min(times, default=None),
        "last_active": max(times, default=None),
        "last_user_at": max((r["timestamp"] for r in prompts), default=None),
        "cwd": first(values(records, "cwd")),
        "model": last(models),
        "version": last(values(records, "version")),
        "git_branch": last(branches),
        "parent_session_id": parent(records, os.path.basename(path)[:-6]),
        "first_uuid": first(values(chats, "uuid")),
        "tokens": tokens(answers),
        "pr_links": links(records),
    }
    # What is not known is not shown; a count of nothing is.
    shown = {name: value for name, value in shown.items() if value}
    return shown | {
        "messages": len(main), "user_messages": len(prompts),
        "tool_calls": len(calls), "bad_lines": bad,
        "folders": folders(records, prompts, calls)}


def values(records, field):
    """The values of a field, where there is one."""
    return [r[field] for r in records if r.get(field)]


def first(found):
    return found[0] if found else None


def last(found):
    """The last one that is not empty."""
    found = [value for value in found if value]
    return found[-1] if found else None


def parent(records, own):
    """The session that this one goes on from."""
    found = []
    for r in records:
        if r.get("uuid") and r.get("sessionId"):
            if r["sessionId"] == own:
                break
            found.append(r["sessionId"])
    found = found[-1:]
    for fork in values(records, "forkedFrom"):
        found.append(fork["sessionId"])
    return last(found)


def tokens(answers):
    """The sums of what was used; an answer may come in several records."""
    used = {}
    for number, r in enumerate(answers):
        message = r["message"]
        if message.get("usage"):
            used[message.get("id", number)] = message["usage"]
    if not used:
        return None
    return {name: sum(usage.get(field, 0) for usage in used.values())
            for name, field in TOKENS.items()}


def links(records):
    """The last twenty pull requests, each where it was last named."""
    found = [r["prUrl"] for r in records if r.get("type") == "pr-link"]
    newest_first = list(dict.fromkeys(reversed(found)))
    return newest_first[:20][::-1]


def folders(records, prompts, calls):
    """{folder: how often it was worked in}."""
    work = dict.fromkeys(values(records, "cwd"), 0)
    for cwd in values(prompts, "cwd"):
        work[cwd] += 1
    for r, block in calls:
        cwd = r.get("cwd")
        found = folders_of_call(block, cwd)
        if not found and cwd:
            found = {cwd}
        for one in found:
            work[one] = work.get(one, 0) + 1
    return work


def folders_of_call(block, cwd):
    """The folders of the files that a tool touched."""
    given = block.get("input") or {}
    found = set()
    for key in ("file_path", "notebook_path"):
        if isinstance(given.get(key), str):
            found.add(folder(given[key], cwd, up=True))
    path = given.get("path")
    if block["name"] in ("Grep", "Glob", "LS") and isinstance(path, str):
        up = block["name"] == "Grep" and is_file(path)
        found.add(folder(path, cwd, up))
    return found - {None}


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(json.dumps(facts(name)))
