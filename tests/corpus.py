#!/usr/bin/env python3
"""make a synthetic Claude directory, the same bytes for the same seed

examples:
  corpus.py --sessions 300 --total-mb 300 --seed 1 --out DIR
  corpus.py --append DIR/projects/SLUG/UUID.jsonl 10000

Writes projects/<slug>/<uuid>.jsonl (sizes log-normal, one of --big-mb), below <uuid>/
subagents and tool-results, memory, file-history, tasks, session-env, history.jsonl,
settings, skills and the like, and a credentials file that holds no secret. The mtime of
a transcript is the time of its last event. --append FILE BYTES adds about BYTES of
events to one transcript, chained to its last one. Prints a JSON summary.
"""
import argparse
import base64
import itertools
import json
import math
import os
import random
from datetime import datetime, timedelta, timezone

# The order in which chance is asked decides every byte: who changes it makes another
# corpus, and what was measured on this one cannot be compared any more.
NOW = datetime(2026, 8, 1, tzinfo=timezone.utc)
TOOLS = "Bash Read Edit Write Grep Glob TodoWrite Task WebFetch".split()
PROJECTS = """api web-ui infra docs mobile ml-pipeline billing auth search notes
    dotfiles blog parser bench game etl cli site sdk proxy scraper vault planner monitor
    compiler""".split()
FOLDERS = ("src", "lib", "tests", "pkg", "cmd", "internal")
CODE = "/home/dev/code/"
SIDE = .12              # this part of the bytes is not in the transcripts
TAIL = 400_000          # bytes that hold the last event


def line(record, **how):
    """A record as one JSON line."""
    return json.dumps(record, separators=(",", ":"), **how) + "\n"


def stamp(time):
    """A time as Claude Code writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S.") + f"{time.microsecond // 1000:03d}Z"


class Words:
    """A source of random text that compresses and repeats as real transcripts do."""

    def __init__(self, seed):
        self.chance = random.Random(seed)
        self.vocabulary = self.invented(9000)
        # Few words are frequent and most are rare, as in a language.
        self.weights = []
        total = 0.0
        for rank in range(len(self.vocabulary)):
            total += 1.0 / (rank + 2.7) ** 1.05
            self.weights.append(total)
        self.prose = [self.words(260) for _ in range(500)]
        self.code = [self.block() for _ in range(400)]

    def invented(self, count):
        """So many different words of one to four syllables, in no order."""
        chance = self.chance
        syllables = []
        for consonant, vowel in itertools.product("bcdfglmnprstvz", "aeiou"):
            syllables.append(consonant + vowel)
        words = set()
        while len(words) < count:
            length = chance.choice((1, 2, 2, 3, 3, 4))
            words.add("".join(chance.choice(syllables) for _ in range(length)))
        vocabulary = sorted(words)
        chance.shuffle(vocabulary)
        return vocabulary

    def hex(self, digits):
        return f"{self.chance.getrandbits(4 * digits):0{digits}x}"

    def uuid(self):
        digits = self.hex(32)
        start = f"{digits[:8]}-{digits[8:12]}"
        return f"{start}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"

    def drawn(self, count):
        """A list of words."""
        return self.chance.choices(
            self.vocabulary, cum_weights=self.weights, k=count)

    def words(self, count):
        return " ".join(self.drawn(count))

    def text(self, size):
        """Fresh prose of about size bytes."""
        return self.words(max(3, size // 6))

    def block(self):
        """Forty lines of code."""
        chance = self.chance
        rows = []
        for _ in range(40):
            indent = "    " * chance.choice((0, 1, 1, 2, 3))
            a, b, c = self.drawn(3)
            number = chance.randint(0, 99)
            rows.append(indent + chance.choice((
                f"def {a}_{b}(self, {c}):",
                f"return {a}.{b}({c})",
                f"if {a} is not None:",
                f"{a} = {b}[{number}]  # {c}",
                f"for {a} in {b}.{c}():",
                f'raise {a.title()}Error("{b} {c}")')))
        return "\n".join(rows)

    def log(self):
        """One line of a log."""
        chance = self.chance
        day = chance.randint(1, 31)
        hour = chance.randint(0, 23)
        minute = chance.randint(0, 59)
        time = f"2026-07-{day:02d} {hour:02d}:{minute:02d}"
        return f"{time} [{self.hex(8)}] {self.words(8)}"

    def output(self, size):
        """size characters of what a tool prints: known code, prose, fresh logs."""
        chance = self.chance
        parts = []
        length = 0
        number = 1      # of the line of code that is shown next
        while length < size:
            kind = chance.random()
            if kind < .45:
                rows = chance.choice(self.code).split("\n")
                part = "\n".join(
                    f"{at:6d}\t{row}" for at, row in enumerate(rows, number))
                number += 40
            elif kind < .75:
                part = chance.choice(self.prose)[:chance.randint(200, 1500)]
            else:
                part = "\n".join(self.log() for _ in range(12))
            parts.append(part)
            length += len(part)
        return "\n".join(parts)[:size]

    def tool_input(self, tool, path, base):
        """What Claude Code hands to a tool."""
        chance = self.chance
        word = chance.choice
        # All of them are drawn, though one is used: see the note at the top.
        inputs = {
            "Bash": {
                "command": f"cd {os.path.dirname(path)} && "
                           f"pytest -q {word(self.vocabulary)}",
                "description": self.text(40)},
            "Read": {"file_path": path},
            "Edit": {
                "file_path": path,
                "old_string": chance.choice(self.code)[:chance.randint(80, 600)],
                "new_string": chance.choice(self.code)[:chance.randint(80, 900)]},
            "Write": {
                "file_path": path, "content": self.output(chance.randint(200, 4000))},
            "Grep": {"pattern": word(self.vocabulary), "path": base},
            "Glob": {"pattern": "**/*.py", "path": base},
            "TodoWrite": {"todos": [self.todo() for _ in range(4)]},
            "Task": {
                "description": self.text(30),
                "prompt": self.text(800),
                "subagent_type": "Explore"},
            "WebFetch": {
                "url": "https://example.org/" + word(self.vocabulary),
                "prompt": self.text(60)},
        }
        return inputs[tool]

    def todo(self):
        text = self.text
        return {"content": text(50), "status": "pending", "activeForm": text(50)}


class Transcript:
    """One transcript while it is written."""

    def __init__(self, words, path, session_id, cwd, start,
                 version="2.1.63", is_sidechain=False):
        self.words = words
        self.chance = words.chance
        self.path = path
        self.session_id = session_id
        self.cwd = cwd
        self.time = start
        self.version = version
        self.is_sidechain = is_sidechain
        self.parent = None
        self.size = 0       # bytes
        self.head = []      # the first lines, for a fork to begin with
        self.file = open(path, "w", encoding="utf-8", newline="\n")

    def put(self, record):
        """One record; its line."""
        text = line(record, ensure_ascii=False)
        self.file.write(text)
        self.size += len(text.encode())
        return text

    def event(self, kind, message, **more):
        """A message in the chain of messages; its uuid."""
        pause = self.chance.expovariate(1 / 20.0)
        is_long = self.chance.random() < .01
        long = self.chance.randint(3600, 90000)
        if is_long:
            pause += long
        self.time += timedelta(seconds=pause)
        uuid = self.words.uuid()
        text = self.put({
            "parentUuid": self.parent,
            "isSidechain": self.is_sidechain, "userType": "external",
            "cwd": self.cwd, "sessionId": self.session_id,
            "version": self.version,
            "gitBranch": "main", "type": kind,
            "message": message,
            "uuid": uuid, "timestamp": stamp(self.time),
            **more})
        self.parent = uuid
        if len(self.head) < 60:
            self.head.append(text)
        return uuid

    def user(self, content, **more):
        """What a person said, or a tool answered; the message's uuid."""
        return self.event("user", {"role": "user", "content": content}, **more)

    def assistant(self, block):
        """What the model said, one block a message; the message's uuid."""
        message = {
            "id": "msg_01" + self.words.hex(20),
            "type": "message",
            "role": "assistant",
            "model": "claude-sonnet-4-5-20250929",
            "content": [block],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": self.usage()}
        return self.event(
            "assistant", message, requestId="req_011" + self.words.hex(20))

    def usage(self):
        chance = self.chance
        return {
            "input_tokens": chance.randint(3, 20),
            "cache_creation_input_tokens": chance.randint(100, 9000),
            "cache_read_input_tokens": chance.randint(10000, 150000),
            "output_tokens": chance.randint(5, 900),
            "service_tier": "standard"}

    def length(self, middle, width, most):
        """A length by chance, log-normal, of at most so many bytes."""
        return int(min(most, self.chance.lognormvariate(middle, width)))

    def fork(self, lines, session_id):
        """Begin as a fork of a session does: with a copy of its first messages."""
        for text in lines:
            record = json.loads(text)
            uuid = record["uuid"]
            record["sessionId"] = self.session_id
            record["forkedFrom"] = {"sessionId": session_id, "messageUuid": uuid}
            self.put(record)
            self.parent = uuid
            then = record["timestamp"].replace("Z", "+00:00")
            self.time = max(self.time, datetime.fromisoformat(then))

    def think(self):
        """Now and then some thinking and some text."""
        chance = self.chance
        if chance.random() < .25:
            thinking = self.words.text(self.length(6, .8, 6000))
            signature = chance.randbytes(chance.randint(150, 500))
            self.assistant({
                "type": "thinking",
                "thinking": thinking,
                "signature": base64.b64encode(signature).decode()})
        if chance.random() < .5:
            text = self.words.text(self.length(5.8, 1.0, 9000))
            self.assistant({"type": "text", "text": text})

    def use_tool(self):
        """The call of a tool and what it answers."""
        words, chance = self.words, self.chance
        tool = chance.choice(TOOLS)
        call = "toolu_01" + words.hex(20)
        base = self.cwd
        if chance.random() >= .8:
            base = CODE + chance.choice(PROJECTS)
        folders = chance.choices(FOLDERS, k=chance.randint(1, 3))
        name = chance.choice(words.vocabulary[:300]) + ".py"
        path = "/".join([base, *folders, name])
        asked = self.assistant({
            "type": "tool_use",
            "id": call,
            "name": tool,
            "input": words.tool_input(tool, path, base)})
        result = words.output(self.length(7.3, 1.2, 40000))
        answer = {
            "tool_use_id": call, "type": "tool_result",
            "content": result, "is_error": False}
        shown = {
            "stdout": result[:2000], "stderr": "",
            "interrupted": False, "isImage": False}
        self.user([answer], toolUseResult=shown, sourceToolAssistantUUID=asked)

    def fill(self, target):
        """Messages until the transcript has target bytes."""
        chance = self.chance
        while self.size < target:
            self.user(self.words.text(self.length(5.2, 1.0, 8000)))
            if chance.random() < .1:
                self.snapshot()
            for _ in range(chance.randint(1, 8)):
                if self.size < target:
                    self.think()
                    self.use_tool()

    def snapshot(self):
        """The record of files that would be saved here."""
        self.put({
            "type": "file-history-snapshot",
            "messageId": self.parent,
            "snapshot": {
                "messageId": self.parent,
                "trackedFileBackups": {},
                "timestamp": self.time.isoformat()},
            "isSnapshotUpdate": False})

    def note(self, kind, **fields):
        """A record beside the chain, of the session itself."""
        self.put({"type": kind, **fields, "sessionId": self.session_id})

    def close(self):
        """Give the file the time of its last event."""
        self.file.close()
        time = self.time.timestamp()
        os.utime(self.path, (time, time))


class Corpus:
    """A Claude directory while it is made; sizes in bytes."""

    def __init__(self, out, sessions, total, big, seed):
        self.out = out
        self.words = Words(seed)
        self.chance = self.words.chance
        self.side = total * SIDE
        self.heads = []     # (session id, first lines) of what can be forked
        self.history = []
        self.counts = {
            "sessions": 0, "jsonl_bytes": 0, "side_bytes": 0,
            "subagents": 0, "tool_results": 0, "forks": 0, "big": None}
        self.count = sessions
        self.big = big
        self.sizes = self.drawn_sizes(sessions, total * (1 - SIDE), big)

    def drawn_sizes(self, sessions, total, big):
        """How large each transcript is to be; the large one, if any, comes last."""
        count = sessions - 1 if big else sessions
        shares = [self.chance.lognormvariate(0, 1.5) for _ in range(count)]
        factor = (total - big) / sum(shares)
        sizes = [max(1500, share * factor) for share in shares]
        if big:
            sizes.append(big)
        return sizes

    def write(self, path, text):
        path = os.path.join(self.out, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)

    def make(self):
        """Everything; a summary."""
        for number, size in enumerate(self.sizes, 1):
            is_big = bool(self.big) and number == len(self.sizes)
            self.session(size, is_big)
        self.rest()
        return self.counts

    def session(self, size, is_big):
        """One session with all that belongs to it."""
        words, chance = self.words, self.chance
        number = int(chance.expovariate(1 / 6.0))
        project = PROJECTS[min(len(PROJECTS) - 1, number)]
        cwd = CODE + project
        session_id = words.uuid()
        start = NOW - timedelta(days=chance.uniform(1, 120))
        path = self.transcript(session_id, size, project, start)
        if is_big:
            self.counts["big"] = path
        self.history.append({
            "display": words.text(60), "pastedContents": {},
            "timestamp": int(start.timestamp() * 1000),
            "project": cwd, "sessionId": session_id})

        base = path.removesuffix(".jsonl")
        if chance.random() < .15 or is_big:
            self.subagents(base + "/subagents", session_id, cwd, start)
        if chance.random() < .2:
            self.tool_results(base + "/tool-results")
        if chance.random() < .2:
            self.file_history(session_id)
        if chance.random() < .1:
            self.task(session_id)
        if chance.random() < .2:
            self.memory(os.path.dirname(path) + "/memory")

    def transcript(self, session_id, size, project, start):
        """The transcript itself; its path relative to the directory."""
        words, chance = self.words, self.chance
        title = None
        if chance.random() < .5:
            name = "-".join(chance.choices(words.vocabulary[:400], k=3))
            day = f"{start.year}-{start.month}-{start.day}"
            title = f"{project.upper()}__{day}__{name}"
        fork = None
        if self.heads and size < 5e6 and chance.random() < .08:
            parent, head = chance.choice(self.heads)
            fork = head[:chance.randint(1, len(head))]
            self.counts["forks"] += 1

        cwd = CODE + project
        path = f"projects/{cwd.replace('/', '-')}/{session_id}.jsonl"
        full = os.path.join(self.out, path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        version = f"2.1.{chance.randint(20, 90)}"
        session = Transcript(words, full, session_id, cwd, start, version)
        session.note("permission-mode", permissionMode="default")
        if fork:
            session.fork(fork, parent)
        session.fill(size)
        if title:
            session.note("custom-title", customTitle=title)
        else:
            session.note("ai-title", aiTitle=words.text(40))
        session.note("last-prompt", lastPrompt=words.text(60))
        session.close()

        if len(session.head) > 5 and len(self.heads) < 50:
            self.heads.append((session_id, session.head))
        self.counts["sessions"] += 1
        self.counts["jsonl_bytes"] += session.size
        return path

    def subagents(self, folder, session_id, cwd, start):
        middle = math.log(max(2000, self.side * .5 / max(1, self.count * .45)))
        os.makedirs(os.path.join(self.out, folder), exist_ok=True)
        for _ in range(self.chance.randint(1, 5)):
            name = f"{folder}/agent-a{self.words.hex(16)}"
            path = os.path.join(self.out, name + ".jsonl")
            agent = Transcript(
                self.words, path, session_id, cwd, start, is_sidechain=True)
            agent.fill(self.chance.lognormvariate(middle, .8))
            agent.close()
            about = {"agentType": "Explore", "description": self.words.text(30)}
            self.write(name + ".meta.json", json.dumps(about))
            self.counts["subagents"] += 1
            self.counts["side_bytes"] += agent.size

    def tool_results(self, folder):
        middle = math.log(max(2000, self.side * .4 / max(1, self.count * .5)))
        for _ in range(self.chance.randint(1, 4)):
            text = self.words.output(int(self.chance.lognormvariate(middle, .7)))
            self.write(f"{folder}/toolu_{self.words.hex(20)}.txt", text)
            self.counts["tool_results"] += 1
            self.counts["side_bytes"] += len(text)

    def file_history(self, session_id):
        for version in range(1, self.chance.randint(2, 4)):
            path = f"file-history/{session_id}/{self.words.hex(16)}@v{version}"
            self.write(path, self.words.output(self.chance.randint(500, 20000)))

    def task(self, session_id):
        task = {"id": "1", "subject": self.words.text(30), "status": "pending"}
        self.write(f"tasks/{session_id}/1.json", json.dumps(task))
        self.write(f"session-env/{session_id}/hook-0.sh", "export A=1\n")

    def memory(self, folder):
        words = self.words
        notes = "\n".join("- " + words.text(80) for _ in range(12))
        self.write(f"{folder}/MEMORY.md", f"# Memory\n\n{notes}\n")
        name = self.chance.choice(words.vocabulary[:200])
        self.write(f"{folder}/{name}.md", words.text(1500) + "\n")

    def rest(self):
        """What lies beside the sessions."""
        text = self.words.text
        settings = {
            "cleanupPeriodDays": 30,
            "permissions": {"allow": ["Bash(ls:*)"]},
            "hooks": {}}
        login = {"claudeAiOauth": {"accessToken": "FAKE-not-a-secret"}}
        self.write("history.jsonl", "".join(map(line, self.history)))
        self.write("settings.json", json.dumps(settings, indent=2) + "\n")
        self.write(".credentials.json", json.dumps(login))
        self.write("CLAUDE.md", f"# Me\n\n{text(600)}\n")
        self.write("skills/one/SKILL.md", text(900))
        self.write("agents/rev.md", text(500))
        self.write("commands/go.md", text(200))
        self.write("plugins/known_marketplaces.json", "{}")
        self.write("todos/x.json", "[]")
        self.write("shell-snapshots/snapshot-bash-1.sh", self.words.output(4000))
        self.write("statsig/cache.json", "{}")


def make(out, sessions=300, total_mb=300, big_mb=60, seed=1):
    """A synthetic Claude directory at out; its summary (a dict, sizes in bytes)."""
    big = big_mb * 1e6 if big_mb < total_mb else 0
    return Corpus(out, sessions, total_mb * 1e6, big, seed).make()


def last_event(path):
    """The last message in the chain of a transcript."""
    with open(path, "rb") as file:
        file.seek(max(0, os.path.getsize(path) - TAIL))
        tail = file.read().decode("utf-8", "replace").splitlines()
    for text in reversed(tail):
        record = json.loads(text)
        if record.get("uuid"):
            return record
    raise ValueError(f"no message at the end of {path}")


def append(path, size, seed=1):
    """Add about size bytes of messages to the transcript at path; a summary."""
    words = Words(seed)
    last = last_event(path)
    parent = last["uuid"]
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    lines = []
    length = 0
    while length < size:
        uuid = words.uuid()
        text = words.text(700)
        if len(lines) % 2:
            message = {
                "role": "assistant", "content": [{"type": "text", "text": text}]}
        else:
            message = {"role": "user", "content": text}
        lines.append(line({
            "parentUuid": parent,
            "isSidechain": False, "userType": "external",
            "cwd": last["cwd"], "sessionId": last["sessionId"],
            "version": last["version"],
            "gitBranch": "main", "type": message["role"],
            "message": message,
            "uuid": uuid, "timestamp": now}))
        length += len(lines[-1])
        parent = uuid
    with open(path, "a", encoding="utf-8", newline="\n") as file:
        file.writelines(lines)
    return {"appended": length, "events": len(lines)}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=300)
    parser.add_argument("--total-mb", type=float, default=300)
    parser.add_argument("--big-mb", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out")
    parser.add_argument("--append", nargs=2, metavar=("FILE", "BYTES"))
    args = parser.parse_args()
    if args.append:
        path, size = args.append
        summary = append(path, int(size), args.seed)
    elif args.out:
        summary = make(
            args.out, args.sessions, args.total_mb, args.big_mb, args.seed)
    else:
        parser.error("--out or --append is needed")
    print(json.dumps(summary, indent=1))


if __name__ == "__main__":
    main()
