#!/usr/bin/env python3
"""make a synthetic Claude directory, the same bytes for the same seed

examples:
  corpus.py --sessions 300 --total-mb 300 --seed 1 --out DIR
  corpus.py --append DIR/projects/SLUG/UUID.jsonl 10000

Writes projects/<slug>/<uuid>.jsonl (sizes log-normal, one of --big-mb), below <uuid>/ subagents
and tool-results, memory, file-history, tasks, session-env, history.jsonl, settings, skills and
the like, and a credentials file that holds no secret. The mtime of a transcript is the time of
its last event. --append FILE BYTES adds about BYTES of events to one transcript, chained to its
last one. Prints a JSON summary.
"""
import argparse
import base64
import itertools
import json
import math
import os
import random
from datetime import datetime, timedelta, timezone

NOW = datetime(2026, 8, 1, tzinfo=timezone.utc)
TOOLS = "Bash Read Edit Write Grep Glob TodoWrite Task WebFetch".split()
PROJECTS = """api web-ui infra docs mobile ml-pipeline billing auth search notes dotfiles blog
    parser bench game etl cli site sdk proxy scraper vault planner monitor compiler""".split()
CODE = "/home/dev/code/"


def line(record, **how):
    """A record as one JSON line."""
    return json.dumps(record, separators=(",", ":"), **how) + "\n"


def stamp(time):
    """A time as the client writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S.") + f"{time.microsecond // 1000:03d}Z"


class Words:
    """A source of random text that compresses and repeats as real transcripts do."""

    def __init__(self, seed):
        self.r = r = random.Random(seed)
        syllables = ["".join(pair) for pair in itertools.product("bcdfglmnprstvz", "aeiou")]
        words = set()
        while len(words) < 9000:
            words.add("".join(r.choice(syllables) for _ in range(r.choice((1, 2, 2, 3, 3, 4)))))
        self.vocab = sorted(words)
        r.shuffle(self.vocab)
        self.weights = list(itertools.accumulate(
            1.0 / (i + 2.7) ** 1.05 for i in range(len(self.vocab))))
        self.prose = [self.words(260) for _ in range(500)]
        self.code = [self.block() for _ in range(400)]

    def hex(self, digits):
        return f"{self.r.getrandbits(4 * digits):0{digits}x}"

    def uuid(self):
        h = self.hex(32)
        return f"{h[:8]}-{h[8:12]}-4{h[13:16]}-a{h[17:20]}-{h[20:32]}"

    def words(self, count):
        return " ".join(self.r.choices(self.vocab, cum_weights=self.weights, k=count))

    def text(self, size):
        """Fresh prose of about size bytes."""
        return self.words(max(3, size // 6))

    def block(self):
        """Forty lines of code."""
        r, out = self.r, []
        for _ in range(40):
            indent = "    " * r.choice((0, 1, 1, 2, 3))
            a, b, c = r.choices(self.vocab, cum_weights=self.weights, k=3)
            out.append(indent + r.choice((
                f"def {a}_{b}(self, {c}):", f"return {a}.{b}({c})", f"if {a} is not None:",
                f"{a} = {b}[{r.randint(0, 99)}]  # {c}", f"for {a} in {b}.{c}():",
                f'raise {a.title()}Error("{b} {c}")')))
        return "\n".join(out)

    def log(self):
        """One line of a log."""
        r = self.r
        return (f"2026-07-{r.randint(1, 31):02d} {r.randint(0, 23):02d}:{r.randint(0, 59):02d} "
                f"[{self.hex(8)}] {self.words(8)}")

    def output(self, size):
        """size characters of what a tool prints: code seen before, prose, fresh log lines."""
        r, out, length, number = self.r, [], 0, 1
        while length < size:
            kind = r.random()
            if kind < .45:
                rows = enumerate(r.choice(self.code).split("\n"), number)
                part = "\n".join(f"{i:6d}\t{row}" for i, row in rows)
                number += 40
            elif kind < .75:
                part = r.choice(self.prose)[:r.randint(200, 1500)]
            else:
                part = "\n".join(self.log() for _ in range(12))
            out.append(part)
            length += len(part)
        return "\n".join(out)[:size]

    def tool_input(self, tool, path, base):
        """What the client hands to a tool."""
        r = self.r
        inputs = {
            "Bash": {"command": f"cd {os.path.dirname(path)} && pytest -q {r.choice(self.vocab)}",
                     "description": self.text(40)},
            "Read": {"file_path": path},
            "Edit": {"file_path": path, "old_string": r.choice(self.code)[:r.randint(80, 600)],
                     "new_string": r.choice(self.code)[:r.randint(80, 900)]},
            "Write": {"file_path": path, "content": self.output(r.randint(200, 4000))},
            "Grep": {"pattern": r.choice(self.vocab), "path": base},
            "Glob": {"pattern": "**/*.py", "path": base},
            "TodoWrite": {"todos": [{"content": self.text(50), "status": "pending",
                                     "activeForm": self.text(50)} for _ in range(4)]},
            "Task": {"description": self.text(30), "prompt": self.text(800),
                     "subagent_type": "Explore"},
            "WebFetch": {"url": "https://example.org/" + r.choice(self.vocab),
                         "prompt": self.text(60)}}
        return inputs[tool]


class Transcript:
    """One transcript while it is written."""

    def __init__(self, words, path, session_id, cwd, start, **common):
        self.w, self.path, self.session_id, self.cwd = words, path, session_id, cwd
        self.time, self.common = start, {"isSidechain": False, "version": "2.1.63", **common}
        self.parent, self.size, self.head = None, 0, []
        self.file = open(path, "w", encoding="utf-8", newline="\n")

    def put(self, record):
        """One record; its line."""
        text = line(record, ensure_ascii=False)
        self.file.write(text)
        self.size += len(text.encode())
        return text

    def event(self, kind, message, **more):
        """A message in the chain of messages; its uuid."""
        r = self.w.r
        pause = r.expovariate(1 / 20.0) + (r.random() < .01) * r.randint(3600, 90000)
        self.time += timedelta(seconds=pause)
        uuid = self.w.uuid()
        text = self.put({
            "parentUuid": self.parent, "isSidechain": self.common["isSidechain"],
            "userType": "external", "cwd": self.cwd, "sessionId": self.session_id,
            "version": self.common["version"], "gitBranch": "main", "type": kind,
            "message": message, "uuid": uuid, "timestamp": stamp(self.time), **more})
        self.parent = uuid
        self.head += [text] if len(self.head) < 60 else []
        return uuid

    def assistant(self, block):
        """What the model said, one block a message."""
        r = self.w.r
        usage = lambda: {
            "input_tokens": r.randint(3, 20), "cache_creation_input_tokens": r.randint(100, 9000),
            "cache_read_input_tokens": r.randint(10000, 150000),
            "output_tokens": r.randint(5, 900), "service_tier": "standard"}
        return self.event("assistant", {
            "id": "msg_01" + self.padded(), "type": "message", "role": "assistant",
            "model": "claude-sonnet-4-5-20250929", "content": [block], "stop_reason": None,
            "stop_sequence": None, "usage": usage()}, requestId="req_011" + self.padded())

    def padded(self):
        return self.w.hex(20)

    def fork(self, lines, session_id):
        """Begin as a fork of another session does: with a copy of its first messages."""
        for record in map(json.loads, lines):
            record["sessionId"] = self.session_id
            record["forkedFrom"] = {"sessionId": session_id, "messageUuid": record["uuid"]}
            self.put(record)
            self.parent = record["uuid"]
            then = datetime.fromisoformat(record["timestamp"].replace("Z", "+00:00"))
            self.time = max(self.time, then)

    def think(self):
        """Now and then some thinking and some text."""
        w, r = self.w, self.w.r
        if r.random() < .25:
            self.assistant({
                "type": "thinking", "thinking": w.text(int(min(6000, r.lognormvariate(6, .8)))),
                "signature": base64.b64encode(r.randbytes(r.randint(150, 500))).decode()})
        if r.random() < .5:
            size = int(min(9000, r.lognormvariate(5.8, 1.0)))
            self.assistant({"type": "text", "text": w.text(size)})

    def use_tool(self):
        """The call of a tool and what it answers."""
        w, r = self.w, self.w.r
        tool, call = r.choice(TOOLS), "toolu_01" + self.padded()
        base = self.cwd if r.random() < .8 else CODE + r.choice(PROJECTS)
        folders = ("src", "lib", "tests", "pkg", "cmd", "internal")
        path = "/".join([base, *r.choices(folders, k=r.randint(1, 3)), r.choice(w.vocab[:300])])
        asked = self.assistant({"type": "tool_use", "id": call, "name": tool,
                                "input": w.tool_input(tool, path + ".py", base)})
        result = w.output(int(min(40000, r.lognormvariate(7.3, 1.2))))
        answer = {"tool_use_id": call, "type": "tool_result", "content": result, "is_error": False}
        self.event("user", {"role": "user", "content": [answer]},
                   toolUseResult={"stdout": result[:2000], "stderr": "", "interrupted": False,
                                  "isImage": False}, sourceToolAssistantUUID=asked)

    def fill(self, target):
        """Messages until the transcript has target bytes."""
        w, r = self.w, self.w.r
        while self.size < target:
            size = int(min(8000, r.lognormvariate(5.2, 1.0)))
            self.event("user", {"role": "user", "content": w.text(size)})
            if r.random() < .1:
                self.put({"type": "file-history-snapshot", "messageId": self.parent, "snapshot": {
                    "messageId": self.parent, "trackedFileBackups": {},
                    "timestamp": self.time.isoformat()}, "isSnapshotUpdate": False})
            for _ in range(r.randint(1, 8)):
                if self.size < target:
                    self.think()
                    self.use_tool()

    def end(self, **records):
        """Write the last records, close the file and give it the time of its last event."""
        for kind, fields in records.items():
            self.put({"type": kind.replace("_", "-"), **fields, "sessionId": self.session_id})
        self.file.close()
        os.utime(self.path, (self.time.timestamp(), self.time.timestamp()))


class Corpus:
    """A Claude directory while it is made."""

    def __init__(self, out, sessions, total, big, seed):
        self.out, self.w = out, Words(seed)
        r = self.r = self.w.r
        self.side = total * .12
        self.counts = dict.fromkeys("sessions jsonl_bytes side_bytes subagents tool_results "
                                    "forks".split(), 0) | {"big": None}
        self.heads, self.history = [], []
        shares = [r.lognormvariate(0, 1.5) for _ in range(sessions - bool(big))]
        factor = (total * .88 - big) / sum(shares)
        self.sizes = [max(1500, share * factor) for share in shares] + ([big] if big else [])
        self.count, self.big = sessions, big

    def write(self, path, text):
        path = os.path.join(self.out, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)

    def transcript(self, session_id, size, project, start):
        """The transcript itself; its path relative to the directory."""
        r, w, title = self.r, self.w, None
        if r.random() < .5:
            title = (f"{project.upper()}__{start.year}-{start.month}-{start.day}__"
                     f"{'-'.join(r.choices(w.vocab[:400], k=3))}")
        fork = None
        if self.heads and size < 5e6 and r.random() < .08:
            parent, head = r.choice(self.heads)
            fork = head[:r.randint(1, len(head))]
            self.counts["forks"] += 1
        cwd = CODE + project
        path = f"projects/{cwd.replace('/', '-')}/{session_id}.jsonl"
        os.makedirs(os.path.join(self.out, os.path.dirname(path)), exist_ok=True)
        session = Transcript(w, os.path.join(self.out, path), session_id, cwd, start,
                             version=f"2.1.{r.randint(20, 90)}")
        session.put({"type": "permission-mode", "permissionMode": "default",
                     "sessionId": session_id})
        if fork:
            session.fork(fork, parent)
        session.fill(size)
        named = ({"custom_title": {"customTitle": title}} if title else
                 {"ai_title": {"aiTitle": w.text(40)}})
        session.end(**named, last_prompt={"lastPrompt": w.text(60)})
        if len(session.head) > 5 and len(self.heads) < 50:
            self.heads.append((session_id, session.head))
        self.counts["sessions"] += 1
        self.counts["jsonl_bytes"] += session.size
        return path

    def subagents(self, folder, session_id, cwd, start):
        r, w = self.r, self.w
        middle = math.log(max(2000, self.side * .5 / max(1, self.count * .45)))
        os.makedirs(os.path.join(self.out, folder), exist_ok=True)
        for _ in range(r.randint(1, 5)):
            name = f"{folder}/agent-a{w.hex(16)}"
            agent = Transcript(w, os.path.join(self.out, name + ".jsonl"), session_id, cwd, start,
                               isSidechain=True)
            agent.fill(r.lognormvariate(middle, .8))
            agent.end()
            self.write(name + ".meta.json",
                       json.dumps({"agentType": "Explore", "description": w.text(30)}))
            self.counts["subagents"] += 1
            self.counts["side_bytes"] += agent.size

    def tool_results(self, folder):
        r, w = self.r, self.w
        middle = math.log(max(2000, self.side * .4 / max(1, self.count * .5)))
        for _ in range(r.randint(1, 4)):
            text = w.output(int(r.lognormvariate(middle, .7)))
            self.write(f"{folder}/toolu_{w.hex(20)}.txt", text)
            self.counts["tool_results"] += 1
            self.counts["side_bytes"] += len(text)

    def session(self, size, is_big):
        """One session with all that belongs to it."""
        r, w = self.r, self.w
        project = PROJECTS[min(len(PROJECTS) - 1, int(r.expovariate(1 / 6.0)))]
        cwd, session_id = CODE + project, w.uuid()
        start = NOW - timedelta(days=r.uniform(1, 120))
        path = self.transcript(session_id, size, project, start)
        folder, base = os.path.dirname(path), path.removesuffix(".jsonl")
        if is_big:
            self.counts["big"] = path
        self.history.append({"display": w.text(60), "pastedContents": {},
                             "timestamp": int(start.timestamp() * 1000), "project": cwd,
                             "sessionId": session_id})
        if r.random() < .15 or is_big:
            self.subagents(base + "/subagents", session_id, cwd, start)
        if r.random() < .2:
            self.tool_results(base + "/tool-results")
        if r.random() < .2:
            for version in range(1, r.randint(2, 4)):
                self.write(f"file-history/{session_id}/{w.hex(16)}@v{version}",
                           w.output(r.randint(500, 20000)))
        if r.random() < .1:
            self.write(f"tasks/{session_id}/1.json",
                       json.dumps({"id": "1", "subject": w.text(30), "status": "pending"}))
            self.write(f"session-env/{session_id}/hook-0.sh", "export A=1\n")
        if r.random() < .2:
            notes = "\n".join("- " + w.text(80) for _ in range(12))
            self.write(folder + "/memory/MEMORY.md", f"# Memory\n\n{notes}\n")
            self.write(f"{folder}/memory/{r.choice(w.vocab[:200])}.md", w.text(1500) + "\n")

    def rest(self):
        """What lies beside the sessions."""
        w = self.w
        settings = {"cleanupPeriodDays": 30, "permissions": {"allow": ["Bash(ls:*)"]}, "hooks": {}}
        self.write("history.jsonl", "".join(map(line, self.history)))
        self.write("settings.json", json.dumps(settings, indent=2) + "\n")
        self.write(".credentials.json",
                   json.dumps({"claudeAiOauth": {"accessToken": "FAKE-not-a-secret"}}))
        self.write("CLAUDE.md", f"# Me\n\n{w.text(600)}\n")
        for path, size in (("skills/one/SKILL.md", 900), ("agents/rev.md", 500),
                           ("commands/go.md", 200)):
            self.write(path, w.text(size))
        for path, text in (("plugins/known_marketplaces.json", "{}"), ("todos/x.json", "[]"),
                           ("shell-snapshots/snapshot-bash-1.sh", w.output(4000)),
                           ("statsig/cache.json", "{}")):
            self.write(path, text)

    def make(self):
        """Everything; a summary."""
        for number, size in enumerate(self.sizes, 1):
            self.session(size, bool(self.big) and number == len(self.sizes))
        self.rest()
        return self.counts


def make(out, sessions=300, total_mb=300, big_mb=60, seed=1):
    """A synthetic Claude directory at out; its summary (a dict, sizes in bytes)."""
    total, big = total_mb * 1e6, big_mb * 1e6 if big_mb < total_mb else 0
    return Corpus(out, sessions, total, big, seed).make()


def append(path, size, seed=1):
    """Add about size bytes of messages to the transcript at path; a summary."""
    w = Words(seed)
    with open(path, "rb") as file:
        file.seek(max(0, os.path.getsize(path) - 400000))
        tail = file.read().decode("utf-8", "replace").splitlines()
    last = next(record for record in map(json.loads, reversed(tail)) if record.get("uuid"))
    now, parent, out = datetime.now(timezone.utc), last["uuid"], []
    while sum(map(len, out)) < size:
        kind, uuid = ("assistant" if len(out) % 2 else "user"), w.uuid()
        text = w.text(700)
        out.append(line({
            "parentUuid": parent, "isSidechain": False, "userType": "external",
            "cwd": last["cwd"], "sessionId": last["sessionId"], "version": last["version"],
            "gitBranch": "main", "type": kind,
            "message": {"role": kind,
                        "content": text if kind == "user" else [{"type": "text", "text": text}]},
            "uuid": uuid, "timestamp": now.strftime("%Y-%m-%dT%H:%M:%S.000Z")}))
        parent = uuid
    with open(path, "a", encoding="utf-8", newline="\n") as file:
        file.writelines(out)
    return {"appended": sum(map(len, out)), "events": len(out)}


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
        summary = append(args.append[0], int(args.append[1]), args.seed)
    elif args.out:
        summary = make(args.out, args.sessions, args.total_mb, args.big_mb, args.seed)
    else:
        parser.error("--out or --append is needed")
    print(json.dumps(summary, indent=1))


if __name__ == "__main__":
    main()
