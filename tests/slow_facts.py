"""what a transcript says, as simply and as slowly as can be: all records in memory, character by
character; nothing is shared with the tools

examples:
  python3 tests/slow_facts.py ~/.claude/projects/*/*.jsonl | jq .folders
"""
import json
import os
import re
import sys


def windows(path):
    drive = path[:1].isalpha() and path[1:2] == ":" and path[2:3] in ("/", "\\")
    return drive or path[:2] == "\\\\"


def parts_of(path):
    """The names in a path, . and .. worked off."""
    done = []
    for name in (path.replace("\\", "/") if windows(path) else path).split("/"):
        if name == ".." and done:
            done.pop()
        elif name not in ("", ".", ".."):
            done.append(name)
    return done


def whole(names, like):
    if windows(like):
        return names[0] + "\\" + "\\".join(names[1:])
    return "/" + "/".join(names)


def folder(path, cwd, up):
    """The folder of a path: a list of none or one."""
    if not path or any(c in '<>|*?"`' or c < " " or c == "\x7f" for c in path) or len(path) > 1024:
        return []
    if path[0] in "-$~" or "://" in path or path.count(":/") > (path[0] != "/"):
        return []
    if path[1:2] == ":" and path[2:3] not in ("/", "\\"):
        return []
    if any(name.strip(".") == "" and len(name) > 2 for name in re.split(r"[/\\]", path)):
        return []
    if path[0] != "/" and not windows(path):
        if not cwd:
            return []
        path = cwd + ("\\" if windows(cwd) else "/") + path
    names = parts_of(path)
    if up and path[-1] not in ("/\\" if windows(path) else "/"):
        names = names[:-1]
    if not windows(path) and (not names or names[0] in ("dev", "proc", "sys")):
        return []
    return [whole(names, path)]


def is_file(path):
    name = re.split(r"[/\\]", path)[-1]
    stem, dot, end = name.rpartition(".")
    return dot and stem[-1:] not in ("", ".") and re.fullmatch(r"\w{1,10}", end)


MACHINES = """task-notification teammate-message agent-message cross-session-message
    ci-monitor-event""".split()
INSERTED = """system-reminder ide_opened_file ide_selection new-diagnostics session-start-hook
    user-prompt-submit-hook tick goal local-command-stdout local-command-stderr
    local-command-caveat bash-stdout bash-stderr""".split()
WORDS = ("[Request interrupted by user", "Caveat: The ", "Stop hook feedback:",
         "This session is being continued from a previous conversation", "[Subagent hand-back]",
         "Base directory for this skill:", "Another Claude session sent a message:")


def words_of_person(text):
    """What is left of a text without what Claude Code puts in; slowly, piece by piece."""
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


def typed(record):
    """Did a person type this?"""
    content = record["message"].get("content", "")
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if any(isinstance(b, dict) and b.get("type") == "tool_result" for b in blocks):
        return False
    texts = [b["text"] for b in blocks if isinstance(b, dict) and b.get("type") == "text"]
    if not any(text.strip() for text in texts):     # a picture may be all that was sent
        return any(isinstance(b, dict) and b.get("type") == "image" for b in blocks)
    return any(words_of_person(text) for text in texts)


def records_in(line):
    """(the records in a line, is something wrong in it): also after one that was cut."""
    try:
        return [{**json.loads(line.decode())}], False
    except (ValueError, TypeError):
        pass
    text = line.decode("utf-8", "replace")
    found, at = [], 0
    while at < len(text):
        try:
            value, end = json.JSONDecoder().raw_decode(text, at) if text[at] == "{" else (0, 0)
        except ValueError:
            end = 0
        if end and isinstance(value.get("type"), str) and (
                "sessionId" in value or "leafUuid" in value
                or end == len(text) and "parentToolUseID" not in value):
            found.append(value)
            at = end
        else:
            at += 1
    return found, True


def facts(path):
    """What csb-index should show of a transcript."""
    with open(path, "rb") as file:
        lines = [line for line in file.read().split(b"\n") if line.strip()]
    records, bad, known = [], 0, set()
    for line in lines:
        found, wrong = records_in(line)
        bad += wrong
        for record in found:
            if record.get("uuid") not in known:
                records.append(record)
                known.update({record.get("uuid")} - {None})
    own = os.path.basename(path)[:-6]
    times = [r["timestamp"] for r in records if r.get("timestamp")]
    chats = [r for r in records if r.get("type") in ("user", "assistant")]
    main = [r for r in chats if not r.get("isMeta") and not r.get("isSidechain")]
    prompts = [r for r in main
               if r["type"] == "user" and not r.get("isCompactSummary") and typed(r)]
    answers = [r for r in chats if r["type"] == "assistant"]
    cost = {}
    for number, r in enumerate(answers):
        if r["message"].get("usage"):
            cost[r["message"].get("id", number)] = r["message"]["usage"]
    fields = {"input": "input_tokens", "output": "output_tokens",
              "cache_read": "cache_read_input_tokens", "cache_write": "cache_creation_input_tokens"}
    work, calls = {r["cwd"]: 0 for r in records if r.get("cwd")}, 0
    for r in prompts:
        if r.get("cwd"):
            work[r["cwd"]] += 1
    for r in answers:
        content = r["message"].get("content")
        for block in content if isinstance(content, list) else []:
            if not isinstance(block, dict) or block.get("type") != "tool_use":
                continue
            calls, given, cwd, found = calls + 1, block.get("input") or {}, r.get("cwd"), set()
            for key in ("file_path", "notebook_path"):
                if isinstance(given.get(key), str):
                    found.update(folder(given[key], cwd, True))
            if block["name"] in ("Grep", "Glob", "LS") and isinstance(given.get("path"), str):
                up = block["name"] == "Grep" and is_file(given["path"])
                found.update(folder(given["path"], cwd, up))
            for one in found or ({cwd} if cwd else ()):
                work[one] = work.get(one, 0) + 1
    last = lambda values: [value for value in values if value][-1:]
    chain, foreign = [r for r in records if r.get("uuid") and r.get("sessionId")], []
    for r in chain:
        if r["sessionId"] == own:
            break
        foreign.append(r["sessionId"])
    forks = [r["forkedFrom"]["sessionId"] for r in records if r.get("forkedFrom")]
    one = {"started": times and [min(times)], "last_active": times and [max(times)],
           "cwd": [r["cwd"] for r in records if r.get("cwd")][:1],
           "last_user_at": last([max([r["timestamp"] for r in prompts], default=None)]),
           "model": last(r["message"].get("model", "").replace("<synthetic>", "") for r in main
                         if r["type"] == "assistant"),
           "version": last(r.get("version") for r in records),
           "git_branch": last(r.get("gitBranch") for r in records if r.get("gitBranch") != "HEAD"),
           "parent_session_id": last(foreign[-1:] + forks),
           "first_uuid": [r["uuid"] for r in chats if r.get("uuid")][:1],
           "tokens": [{name: sum(usage.get(field, 0) for usage in cost.values())
                       for name, field in fields.items()}] if cost else []}
    links = [r["prUrl"] for r in records if r.get("type") == "pr-link"]
    links = list(dict.fromkeys(reversed(links)))
    return {**{name: values[0] for name, values in one.items() if values},
            **({"pr_links": links[:20][::-1]} if links else {}),
            "messages": len(main), "user_messages": len(prompts), "tool_calls": calls,
            "bad_lines": bad, "folders": work}


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(json.dumps(facts(name)))
