"""A stand-in for the API that the client talks to, on loopback,
so that no test needs a network.

It answers enough for the client to finish its turns: a few words by default, a fixed
summary when it compacts a conversation, and what these cues in a prompt ask for:

    [[tool:NAME {"json": "input"}]]   call that tool
    [[say:TEXT]]                      answer with exactly TEXT
    [[gate:N]]                        answer when N prompts wait at this gate
    [[hold:]]                         answer when .go is set

It is the client's proxy as well: whatever other host is tried gets a
refusal and is noted.
"""
import json
import re
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SUMMARY = (
    "<analysis>of the stub</analysis>\n<summary>\n"
    "1. Primary Request and Intent: none.\n"
    "2. Current Work: none.\n</summary>"
)
CUE = re.compile(r"\[\[(tool|say|gate|hold):")
WANTS_SUMMARY = re.compile(r"create a detailed summary", re.I)
REMINDER = re.compile(r"<system-reminder>.*?</system-reminder>", re.S)
PATIENCE = 120      # seconds that a gate stays shut
HELD = -1


def text_of(content):
    """All plain text of a message's content."""
    if isinstance(content, str):
        return content
    return "\n".join(block.get("text", "") for block in content or []
                     if isinstance(block, dict) and block.get("type") == "text")


def cues_in(text):
    """[(kind, value)] in order; the value of a tool is (name, input)."""
    found, at = [], 0
    while match := CUE.search(text, at):
        kind, at = match[1], match.end()
        if kind == "tool":
            name = text[at:].partition(" ")[0]
            try:
                value, at = json.JSONDecoder().raw_decode(text, at + len(name) + 1)
            except ValueError:
                continue
            found.append((kind, (name, value)))
        elif (end := text.find("]]", at)) >= 0:
            found.append((kind, text[at:end]))
    return found


def prompt_of(messages):
    """(the text of the last prompt, how many results of tools were given since)"""
    done = 0
    for message in reversed(messages):
        content = message.get("content")
        if message.get("role") != "user":
            continue
        results = [block for block in content if block.get("type") == "tool_result"
                   ] if isinstance(content, list) else []
        done += len(results)
        text = REMINDER.sub("", text_of(content)).strip()
        if text and (not results or WANTS_SUMMARY.search(text)):
            return text, done
    return "", done


def answer(body):
    """What to answer: (how many must wait at the gate, the blocks of the message)"""
    prompt, done = prompt_of(body.get("messages") or [])
    if WANTS_SUMMARY.search(prompt):
        return 0, [{"type": "text", "text": SUMMARY}]
    cues = cues_in(prompt) if body.get("tools") else []
    calls = [value for kind, value in cues if kind == "tool"]
    if done < len(calls):
        name, given = calls[done]
        return 0, [
            {"type": "text", "text": f"The stub calls {name}."},
            {
                "type": "tool_use",
                "id": "toolu_" + uuid.uuid4().hex[:24],
                "name": name,
                "input": given,
            },
        ]
    say = [value for kind, value in cues if kind == "say"] or ["An answer of the stub."]
    gate = [HELD if kind == "hold" else int(value) for kind, value in cues
            if kind in ("gate", "hold")] or [0]
    return gate[0], [{"type": "text", "text": say[0]}]


def message_of(body, blocks):
    """A message as the API gives it."""
    last = "tool_use" if blocks[-1]["type"] == "tool_use" else "end_turn"
    return {
        "id": "msg_" + uuid.uuid4().hex[:24],
        "type": "message",
        "role": "assistant",
        "model": body.get("model", "stub"),
        "content": blocks,
        "stop_reason": last,
        "stop_sequence": None,
        "usage": {
            "input_tokens": 100,
            "output_tokens": 20,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
        },
    }


def events(message):
    """The same as a stream."""
    yield {
        "type": "message_start",
        "message": {**message, "content": [], "stop_reason": None},
    }
    for index, block in enumerate(message["content"]):
        if block["type"] == "text":
            empty, delta = {"text": ""}, {"type": "text_delta", "text": block["text"]}
        else:
            empty = {"input": {}}
            delta = {
                "type": "input_json_delta",
                "partial_json": json.dumps(block["input"]),
            }
        yield {
            "type": "content_block_start",
            "index": index,
            "content_block": {**block, **empty},
        }
        yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    yield {"type": "message_delta", "usage": {"output_tokens": 20},
           "delta": {"stop_reason": message["stop_reason"], "stop_sequence": None}}
    yield {"type": "message_stop"}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        """Silence."""

    def give(self, status, data=b"", kind="application/json"):
        """One response."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def refuse(self):
        """To whoever looks for something else than messages."""
        self.server.refused.add(self.path)
        self.close_connection = True
        self.give(403 if self.command == "CONNECT" else 404)

    do_CONNECT = do_GET = do_PUT = do_DELETE = do_PATCH = refuse

    def do_HEAD(self):
        self.give(200)

    def do_POST(self):
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        route = self.path.partition("?")[0]
        if route.endswith("/count_tokens"):
            return self.give(200, b'{"input_tokens": 100}')
        if not route.startswith("/v1/messages"):
            return self.refuse()
        body = json.loads(raw or b"{}")
        self.server.bodies.append(body)
        gate, blocks = answer(body)
        self.server.wait(gate)
        message = message_of(body, blocks)
        self.server.answered = time.monotonic()
        if not body.get("stream"):
            return self.give(200, json.dumps(message).encode())
        stream = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"
                         for event in events(message))
        return self.give(200, stream.encode(), "text/event-stream; charset=utf-8")


class Stub(ThreadingHTTPServer):
    """The server, while it is entered: .port, .bodies (requests),
    .refused (hosts and paths), .answered (when it gave the last answer),
    .go (what held prompts wait for)."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.port = self.server_address[1]
        self.bodies, self.refused, self.answered = [], set(), 0.0
        self.waiting, self.gate, self.go = 0, threading.Condition(), threading.Event()

    def handle_error(self, request, client_address):
        """A client that hangs up is no news."""

    def wait(self, count):
        """Until so many wait here."""
        if count == HELD:
            self.go.wait(PATIENCE)
        elif count:
            with self.gate:
                self.waiting += 1
                self.gate.notify_all()
                self.gate.wait_for(lambda: self.waiting >= count, PATIENCE)

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()
