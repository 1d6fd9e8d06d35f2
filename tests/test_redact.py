"""csb-redact: what has the shape of a secret does not leave the machine, all else is as it was."""
import hashlib
import json
import os
import random
import string
import subprocess

import pytest
from conftest import line, name

pytestmark = pytest.mark.logic

draw = random.Random(7)
ALNUM, LOWER, HEX = string.ascii_letters + string.digits, string.ascii_lowercase, "0123456789abcdef"


def some(count, chars=ALNUM):
    """So many characters, digits among them."""
    return "".join(draw.choices(chars, k=count - 2)) + "4b"


def key_block(kind="RSA PRIVATE KEY", lines=12):
    body = "\n".join(some(64, ALNUM + "+/") for _ in range(lines))
    return f"-----BEGIN {kind}-----\n{body}\n{some(20)}==\n-----END {kind}-----"


JWT = f"eyJ{some(30)}.eyJ{some(60)}.{some(43, ALNUM + '_-')}"
AWS = some(40, ALNUM + "/+")
# What it is; the secret.
TOKENS = [
    ("anthropic-key", "sk-ant-api03-" + some(95, ALNUM + "_-")),
    ("anthropic-key", "sk-ant-oat01-" + some(95)), ("openai-key", "sk-proj-" + some(150)),
    ("openai-key", "sk-svcacct-" + some(80)), ("api-key", "sk-" + some(48)),
    ("api-key", "sk-or-v1-" + some(64, HEX)), ("api-key", "gsk_" + some(52)),
    ("api-key", "dckr_pat_" + some(27)), ("api-key", "dop_v1_" + some(64, HEX)),
    ("api-key", "SG." + some(22) + "." + some(43)), ("api-key", "hvs." + some(24)),
    ("github-token", "ghp_" + some(36)), ("github-token", "gho_" + some(36)),
    ("github-token", "ghs_" + some(36)), ("github-token", "ghu_" + some(36)),
    ("github-token", "ghr_" + some(76)), ("github-token", f"ghs_123456_{JWT}"),
    ("github-token", "github_pat_" + some(22) + "_" + some(59)),
    ("gitlab-token", "glpat-" + some(20)), ("gitlab-token", f"glpat-{some(27)}.{'01'}.{'0' * 9}"),
    ("gitlab-token", "glrt-" + some(20)), ("aws-key-id", "AKIA" + "Q3EGQ2BCLZ6IUB5X"),
    ("aws-key-id", "ASIA" + "Q3EGQ2BCLZ6IUB5X"), ("google-key", "AIza" + some(35)),
    ("google-key", "GOCSPX-" + some(28)), ("google-key", "ya29." + some(60)),
    ("slack-token", f"xoxb-{some(12, '123')}-{some(12, '123')}-{some(24)}"),
    ("slack-token", f"xoxp-{some(12, '123')}-{some(24)}"),
    ("slack-token", f"xapp-1-A{some(10)}-{some(13, '123')}-{some(64, HEX)}"),
    ("stripe-key", "sk_live_" + some(24)), ("stripe-key", "rk_live_" + some(24)),
    ("stripe-key", "whsec_" + some(32)), ("npm-token", "npm_" + some(36)),
    ("pypi-token", "pypi-AgEIcHlwaS5vcmc" + some(130)), ("huggingface-token", "hf_" + some(34)),
    ("jwt", JWT), ("private-key", key_block()), ("private-key", key_block("PRIVATE KEY")),
    ("private-key", key_block("OPENSSH PRIVATE KEY")), ("private-key", key_block("EC PRIVATE KEY")),
    ("private-key", key_block("PGP PRIVATE KEY BLOCK")),
]
GITHUB = TOKENS[11][1]
# A text; what is to be gone from it, and what the marker is.
PHRASES = [
    (f"Authorization: Bearer {some(24)}", 22, "authorization"),
    (f"curl -H 'authorization: token {some(16)}'", -17, "authorization"),
    (f"Authorization: Basic {some(24)}==", 21, "authorization"),
    (f"sent Bearer {some(40)} to it", 12, "authorization"),
    ("git clone https://anna:Tr0ub4dor@example.org/x.git", "Tr0ub4dor", "password"),
    ("postgres://anna:p%40ss!word$9@db:5432/x", "p%40ss!word$9", "password"),
    ("redis://:s3cr3tpw@localhost", "s3cr3tpw", "password"),
    ("https://user:password@host", "password", "password"),
    ("Authorization: Bearer abcdefghijklmnopqrstuvwxyz", 22, "authorization"),
    (f"aws_secret_access_key = {AWS}", AWS, "aws-secret-key"),
    (f'"SecretAccessKey": "{AWS}"', AWS, "aws-secret-key"),
    (f"export AWS_SECRET_ACCESS_KEY='{AWS}'", AWS, "aws-secret-key"),
    (f"aws_session_token={some(200)}", -200, "aws-session-token"),
    (f"id,secret\nAKIAQ3EGQ2BCLZ6IUB5X,{AWS}\n", AWS, "aws-secret-key"),
]
# What is no secret, though it is long or looks the part.
PLAIN = [
    name(1), "req_011CSHoEeqs5C35K2UUqR7Fy", "toolu_01A09q90qw90lq917835lq9", some(40, HEX),
    some(64, HEX), "sha512-" + some(86) + "==", "sha256:" + some(64, HEX), some(4000, ALNUM + "+/"),
    "task-" + some(20, LOWER), "risk-assessment-of-the-whole-department-2026", "sk-" + "x" * 48,
    "disk-" + some(40), "ghp_" + "x" * 36, "ghp_short", "hf_hub_download", "npm_config_registry",
    "https://root:root@host/", "https://x:${TOKEN}@github.com", "http://u:<token>@h", "a@b.de",
    "https://u:$(cat t)@h", "http://localhost:3000/@scope/x", "docker://alpine:3.18@sha256:abc",
    "git@github.com:a/b.git", "https://host:8080/a@b", "Authorization: Bearer $TOKEN", "AKIA" * 9,
    "Authorization: Bearer YOUR_TOKEN", "the bearer of bad news", "Bearer authentication", "eyJ",
    "-----BEGIN PUBLIC KEY-----\n" + some(64) + "\n-----END PUBLIC KEY-----", "xoxb-your-token",
    "-----BEGIN RSA PRIVATE KEY-----\n...\n-----END RSA PRIVATE KEY-----", "AKIAshort",
    "-----BEGIN PRIVATE KEY-----\n[REDACTED by " + some(40) + "]\n-----END PRIVATE KEY-----",
    "-----BEGIN PRIVATE KEY-----[REDACTED]\nsaid " + some(64),
    "[REDACTED:github-token:1a2b3c4d]", "https://u:[REDACTED:password]@h", "my_live_data",
]


def mark(kind, secret):
    """What is to stand in its place."""
    if kind == "private-key":
        secret = "".join(secret.split("-----")[2].split()).replace("+", "")
    return f"[REDACTED:{kind}:{hashlib.sha256(secret.encode()).hexdigest()[:8]}]"


def masked(kind, secret):
    """The secret as it is to be shown."""
    parts = secret.split("-----")
    return f"-----{parts[1]}-----{mark(kind, secret)}-----{parts[3]}-----" if parts[1:] else mark(
        kind, secret)


TOKEN_MARK = mark("github-token", GITHUB)


def dump(value, **how):
    return json.dumps(value, **how).encode() + b"\n"


def redact(sh, data):
    done = sh("csb-redact <in", cwd=put(sh, data))
    assert (done.rc, done.err) == (0, ""), done
    return done.out.encode("utf-8", "surrogateescape")


def put(sh, data):
    """data in a file called in; its directory."""
    folder = sh("pwd").out.strip()
    with open(os.path.join(folder, "in"), "wb") as file:
        file.write(data)
    return folder


def test_every_shape(sh):
    """In a text, at its start and end, after an escape; nothing else changes, in any style."""
    values = []
    for kind, secret in TOKENS:
        for before, after in (("", ""), ("see ", " there"), ("A=\"", "\"\n"), ("\n", "\\"),
                              ("\x1b[31m", "\x1b[0m"), ("\u00e9\U0001f600\t", "\u20ac"),
                              ("\\n", "\\n"), ("token%3D", "&")):
            values.append((before + secret + after, before + masked(kind, secret) + after))
    for style in ({}, {"ensure_ascii": False}, {"separators": (",", ":")}, {"indent": None}):
        record = lambda at, style=style: dump({"type": "user", "cwd": "/\u00e9", "message": {
            "content": [{"type": "text", "text": value[at]} for value in values]}}, **style)
        assert redact(sh, record(0)) == record(1)
        assert redact(sh, record(1)) == record(1), "twice is once"


def test_phrases(sh):
    """The word before it shows what it is; of what a person may have chosen no hash is given."""
    lines = redact(sh, b"".join(dump({"a": text}) for text, _, _ in PHRASES)).splitlines()
    for (text, what, kind), new in zip(PHRASES, lines, strict=True):
        secret = what if isinstance(what, str) else text[what:].rstrip("'").split(" ")[0]
        out = json.loads(new)["a"]
        assert secret not in out.replace(":password]", "") and f"[REDACTED:{kind}" in out, text
        assert out.split("[REDACTED")[0] == text.split(secret)[0] or "AKIA" in text
        assert (f"[REDACTED:{kind}]" in out) == (kind in ("password", "authorization"))


def test_fields_show_it(sh):
    """What a field is called counts as the word before."""
    record = {"toolUseResult": {"AccessKeyId": "AKIAQ3EGQ2BCLZ6IUB5X", "SecretAccessKey": AWS},
              "headers": {"authorization": "Bearer abcdef123"}}
    out = json.loads(redact(sh, dump(record)))
    assert out["toolUseResult"]["SecretAccessKey"] == mark("aws-secret-key", AWS)
    assert out["toolUseResult"]["AccessKeyId"].startswith("[REDACTED:aws-key-id:")
    assert out["headers"] == {"authorization": "Bearer [REDACTED:authorization]"}


def test_what_is_no_secret_stays(sh):
    data = b"".join(dump({"type": "user", "a": value, "b": [value, f"x {value}\n"]})
                    for value in PLAIN) + b"".join(value.encode() + b"\n" for value in PLAIN)
    assert redact(sh, data) == data
    assert sh("csb-redact --scan <in").ok().out == ""


def test_what_is_left(sh):
    """What looks like a token amid the base64 of a picture or a signature; and all that is
    given to a tool, or called like an id, is looked at."""
    base64 = some(300, ALNUM + "+/") + "/AIza" + some(60)
    data = dump({"message": {"content": [
        {"type": "thinking", "thinking": "x", "signature": base64},
        {"type": "redacted_thinking", "data": base64},
        {"type": "image", "source": {"type": "base64", "data": base64}}]}})
    assert redact(sh, data) == data
    assert sh("csb-redact --scan <in").ok().out == ""
    call = {"type": "tool_use", "id": "toolu_01", "name": "x", "input": {
        "id": GITHUB, "signature": GITHUB, "deep": [{"sessionId": GITHUB}], GITHUB: GITHUB}}
    out = redact(sh, dump({"message": {"content": [call]}})).decode()
    assert GITHUB not in out and out.count(TOKEN_MARK) == 5 and json.loads(out)


@pytest.mark.few(10)
@pytest.mark.parametrize("data", [
    b"", b"\n", b"\n\n", b"{}", b"{}\r\n{}\r\n", b'{"a":"b"}', b"\xef\xbb\xbf{}\n", b"\xff\xfe\n",
    b'{"a":"\xff\xc3"}\n', b'{"a":1.0,"a":1e400,"b":NaN}\n', b'{"a":"\\ud83d"}\n', b"\0\0\n\0",
    b"{no record\n", b'{"torn":"gh', b"[" * 100000 + b"\n", b'"\\u0041"\n', b'{"kind":"session"}\n',
    b'{"a":"\\/ \\u003c \xe2\x82\xac"}\n' * 9, b" \t\n", b"1" * 10000 + b"\n"])
def test_bytes_stay(sh, data):
    """Line ends, no newline at the end, bad UTF-8, BOM, NULs, a field twice, deep nesting."""
    assert redact(sh, data) == data


def test_only_the_secret_changes(sh):
    """Beside it bad UTF-8, odd escapes, fields that stand there twice, spaces and numbers stay."""
    for template in (
            b'{"a" : "\xff %s \\/\\u00e9\\ud83d\\ude00\\"\\\\","a":1.00,  "a":"\xc3(" }\r\n',
            b'\xef\xbb\xbf{"a":["\\ud83d\\ude00\\ud83d\\n%s\\u2028","x\\\\"],"b":-0.0e1}\n',
            b'{"type":"x","k\\"":"\\\\%s","n":{"m":"%s"}}', b'[[["%s"]]]\n', b'"%s"\n',
            b'{"kind":"hit","snippet":"%s"}\n'):
        data = template.replace(b"%s", GITHUB.encode())
        want = template.replace(b"%s", mark("github-token", GITHUB).encode())
        assert redact(sh, b'{"x":1}\n' + data) == b'{"x":1}\n' + want


def test_what_is_no_json(sh):
    """A torn line, and plain text: masked where it stands."""
    torn = f'{{"type":"user","c":"x\\n{GITHUB} y'.encode()
    want = torn.replace(GITHUB.encode(), TOKEN_MARK.encode())
    assert redact(sh, b'{"a":1}\n' + torn) == b'{"a":1}\n' + want
    key = TOKENS[-5][1]
    text = f"\u00e9 {GITHUB}\r\n{key}\nend\n".encode() + b"\xff\n"
    want = text.replace(GITHUB.encode(), TOKEN_MARK.encode()).replace(
        key.encode(), masked("private-key", key).encode())
    assert redact(sh, text) == want
    fill = b"line\n" * ((1 << 20) // 5 - 50)       # the key lies across two blocks that are read
    assert redact(sh, fill + text) == fill + want


def test_escapes_of_json(sh):
    """What a line of JSON writes before, behind and between secrets is no part of them."""
    text = f"http://localhost:3000\nb@c.de\nAKIAQ3EGQ2BCLZ6IUB5X\n{AWS}\nx"
    out = json.loads(redact(sh, dump({"a": text})))["a"].split("\n")
    assert out[:2] + out[3:] == ["http://localhost:3000", "b@c.de", mark("aws-secret-key", AWS), "x"]
    for password in ("p\\w\u00e4", "p\u00e4w"):
        for ascii_only in (True, False):
            data = dump({"a": f"x://anna:{password}@host\n"}, ensure_ascii=ascii_only)
            assert json.loads(redact(sh, data)) == {"a": "x://anna:[REDACTED:password]@host\n"}


def escaped(text):
    return "".join(f"\\u{ord(char):04x}" for char in text)


AWS_MARK = mark("aws-secret-key", AWS)
SLACK = f"T{some(9)}/B{some(9)}/{some(24)}"
# A secret as a line of JSON may write it; what stands there then.
ESCAPED = [
    (escaped("g") + GITHUB[1:], TOKEN_MARK),
    (f"gh\\u0070\\u005F{GITHUB[4:]}", TOKEN_MARK),
    (GITHUB[:-1] + escaped(GITHUB[-1]), TOKEN_MARK),
    (escaped(GITHUB), TOKEN_MARK),
    (f"\\u000a{GITHUB}\\u0009", f"\\u000a{TOKEN_MARK}\\u0009"),
    (f"\\u001B[1m{escaped('ghp_')}\\u001b[m{GITHUB[4:]}", f"\\u001B[1m{TOKEN_MARK}"),
    (f"\\u20ac{escaped('gh')}{GITHUB[2:]}", f"\\u20ac{TOKEN_MARK}"),
    ("aws_secret_access_key=" + AWS.replace("/", escaped("/")), "aws_secret_access_key=" + AWS_MARK),
    ("aws_secret_access_key=" + AWS.replace("/", "\\/"), "aws_secret_access_key=" + AWS_MARK),
    (f"\\u0022Secret\\u0041ccessKey\\u0022:\\u0022{AWS}\\u0022",
     f"\\u0022Secret\\u0041ccessKey\\u0022:\\u0022{AWS_MARK}\\u0022"),
    ("https:\\/\\/hooks.slack.com\\/services\\/" + SLACK.replace("/", "\\/"),
     f"https:\\/\\/hooks.slack.com\\/services\\/{mark('slack-webhook', SLACK)}"),
    ("https:\\/\\u002fanna\\u003aTr0ub4do\\u0072\\u0040example.org\\/x",
     "https:\\/\\u002fanna\\u003a[REDACTED:password]\\u0040example.org\\/x"),
    (f"\\u0042earer\\u0020{some(24)}", "\\u0042earer\\u0020[REDACTED:authorization]"),
]
KEY = key_block()
for text in (KEY.replace("/", "\\/").replace("\n", "\\n"), KEY.replace("\n", "\\u000A"),
             KEY.replace("A", "\\u0041").replace("\n", "\\r\\n")):
    first, last = text.split("-----")[1::2]
    ESCAPED.append((text, f"-----{first}-----{mark('private-key', KEY)}-----{last}-----"))


def test_escaped_letters(sh):
    """A secret is one however JSON writes its letters, and has the same marker; what stands around
    it stays as it was written. So it is in JSON that is a string in JSON."""
    around = '{{"a":"\\u003cb\\u003e \\/ \\\\\\" \\u00e9\\ud83d\\ude00 {} \\u0061\\/","b":["{}"]}}\n'
    data = "".join(around.format(old, old) for old, _ in ESCAPED)
    want = "".join(around.format(new, new) for _, new in ESCAPED)
    assert redact(sh, data.encode()).decode() == want
    assert [json.loads(one)["b"] for one in want.splitlines()]
    found = sh("csb-redact --scan <in").records
    assert [(one["line"], one["pointer"]) for one in found] == [
        (at, place) for at in range(1, len(ESCAPED) + 1) for place in ("/a", "/b/0")]
    for _ in range(3):
        data, want = dump({"t": data}).decode(), dump({"t": want}).decode()
        assert redact(sh, data.encode()).decode() == want


def test_json_stays_json(sh, seeded):
    """Whatever stands before and behind a secret, in strings and in lists of lines."""
    parts = ["-----BEGIN RSA PRIVATE KEY-----", "-----END RSA PRIVATE KEY-----", "\n", '"', "\\",
             some(64, ALNUM + "+/"), AWS, GITHUB, "AKIAQ3EGQ2BCLZ6IUB5X", "see ", "\u00e9", ",", "-",
             "--", "https://a:b1c2@host", f"Authorization: Bearer {some(20)}"]

    def text():
        return "".join(seeded.choices(parts, k=seeded.randrange(9)))
    data = b""
    for _ in range(500):
        rows = [seeded.choice("+- ") + row for row in key_block().split("\n")]
        data += dump({"type": "user", "m": [text(), {"a": text()}], "b": {"lines": rows[:9]},
                      "n": [text() for _ in range(4)]}, ensure_ascii=seeded.random() < 0.5)
    lines = redact(sh, data).splitlines()
    assert len(lines) == 500 and {json.loads(one)["type"] for one in lines} == {"user"}


@pytest.mark.few(2)
@pytest.mark.parametrize("before", ["-", "+", "> ", "--", "\x1b[31m-"])
def test_a_key_in_a_diff(sh, before):
    """With what stands before each line; in plain text, in a string, in a list of lines."""
    rows = [before + row for row in key_block().split("\n")]
    text = "\n".join(["see", *rows, before.strip() + "end", ""])
    for data in (text.encode(), dump({"a": text}), dump({"lines": rows}),
                 json.dumps({"lines": rows}, indent=1).encode()):
        out = redact(sh, data).decode()
        assert not [row for row in rows[1:-1] if row[len(before):] in out], data
        assert "[REDACTED:private-key:" in out and "-----END RSA PRIVATE KEY-----" in out
        assert [one["what"] for one in sh("csb-redact --scan <in").records] == ["private-key"]


def test_a_key_in_a_patch(sh):
    """One string for each line, as Claude Code writes an edit: the list becomes shorter, and the
    key has one marker everywhere; without its end, too."""
    key = key_block("PRIVATE KEY")
    rows = key.split("\n")

    def record(rows_of):
        return dump({"content": "a " + "\n".join(rows_of("")), "structuredPatch": [
            {"oldStart": 1, "lines": [" \u00e9\"\\", *rows_of("-"), *rows_of("+"), f" {GITHUB}"]},
            {"lines": []}], "source": rows_of(""), "z": [GITHUB, 1]})
    want = record(lambda sign: [sign + masked("private-key", key)])
    want = want.replace(GITHUB.encode(), TOKEN_MARK.encode())
    want = want.replace(b'-----", "+-----', b'-----", "+-----')
    assert redact(sh, record(lambda sign: [sign + row for row in rows])) == want
    found = sh("csb-redact --scan <in").records
    assert [one["what"] for one in found] == ["private-key"] * 3 + [
        "github-token", "private-key", "github-token"]
    assert [found[at]["pointer"] for at in (0, -2, -1)] == ["/content", "/source/0", "/z/0"]
    for torn in (dump({"lines": [f"+{row}" for row in rows[:4]]}),
                 dump({"lines": rows[:4]}, separators=(",", ":")), "\n".join(rows[:4]).encode()):
        out = redact(sh, torn).decode()
        assert "[REDACTED:private-key:" in out and not [row for row in rows[1:4] if row in out]


def test_json_in_json(sh):
    """However often a text was made a string of JSON; also if a key's end was cut off."""
    rows = ["-----BEGIN RSA PRIVATE KEY-----", "Proc-Type: 4,ENCRYPTED", "DEK-Info: AES-128-CBC,0A",
            "", some(64, ALNUM + "+/"), some(64, ALNUM + "+/")]
    numbered = "".join(f"{number:6}\u2192{row}\n" for number, row in enumerate(rows, 1))
    for text in (dump({"headers": {"authorization": "Basic b1c2d3e4"}}).decode(), numbered,
                 dump({"SecretAccessKey": AWS, "SessionToken": some(200)}).decode(),
                 dump({"lines": rows[:1] + rows[4:], "z": 1}).decode(), dump({"lines": rows}).decode(),
                 "".join(f"> {row}\n" for row in rows), " +\n".join(f'"{row}\\n"' for row in rows),
                 "Credential=AKIAQ3EGQ2BCLZ6IUB5X/20260414/eu-west-1/s3/aws4_request"):
        for _ in range(4):
            text = dump({"t": text, "u": "tail"}, ensure_ascii="\u2192" not in text).decode()
            out = redact(sh, text.encode()).decode()
            assert json.loads(out)["u"] == "tail" and "[REDACTED:" in out
            for secret in (*rows[4:], AWS, "b1c2d3e4", "AKIAQ3EGQ2BCLZ6IUB5X"):
                assert secret not in out, text


@pytest.mark.few(2)
@pytest.mark.parametrize("colour", ["\x1b[01;31m\x1b[K", "\x1b[H", "\x1b[?25h", "\x1b[38;5;196m"])
def test_colours(sh, colour):
    """A token behind a colour, whatever letter ends that; and one whose first word is coloured."""
    for token in (GITHUB, f"ghp_\x1b[m\x1b[K{GITHUB[4:]}"):
        new = dump({"a": f"x{colour}{mark('github-token', GITHUB)}\x1b[m"})
        assert redact(sh, dump({"a": f"x{colour}{token}\x1b[m"})) == new
        out = sh("csb-redact", f"{colour}{token}\n".encode()).out
        assert out == f"{colour}{mark('github-token', GITHUB)}\n"


def test_findings(sh, home):
    """Whose, where, what, and a preview that does not give it away."""
    path = home.path / f"{name(3)}.jsonl"
    path.write_text(line("nothing") + line([{"type": "text", "text": f"export A={GITHUB} B=1"}])
                    + f"torn {GITHUB}")
    done = sh(f"csb-redact --scan {path}")
    first, second = done.records
    assert done.rc == 1 and done.err == "" and GITHUB[:12] not in done.out
    assert first == {"kind": "finding", "session_id": name(3), "path": str(path), "line": 2,
                     "pointer": "/message/content/0/text", "what": "github-token",
                     "preview": f"export A={mark('github-token', GITHUB)}"}
    assert second["line"] == 3 and "pointer" not in second
    assert sh(f"csb-redact --scan missing {path}").err.startswith(
        "csb-redact: cannot read 'missing': No such file")
    done = sh("csb-redact 9f26")
    assert (done.rc, done.out) == (1, "") and "session: csb-cat ID | csb-redact" in done.err
    data = line(GITHUB, sessionId=name(8)).encode() * 2
    assert [r["session_id"] for r in sh("csb-redact --scan", data).records] == [name(8)] * 2
    secret = dump({GITHUB: [{"a/b~": GITHUB}]})
    assert "pointer" not in sh("csb-redact --scan", secret).records[0]
    assert sh("csb-redact --scan", dump([{"a/b~": GITHUB}])).records[0]["pointer"] == "/0/a~1b~0"


def test_after_csb_cat(sh, claude):
    """The records between the lines say whose they are."""
    (claude / f"{name(1)}.jsonl").write_text(line("x", uuid="1") + line(GITHUB, uuid="2"))
    done = sh(f"csb-cat {name(0)} {name(1)} | csb-redact --scan")
    found, = done.records
    assert done.rc == 1 and (found["session_id"], found["line"]) == (name(1), 2)
    assert found["path"].endswith(f"{name(1)}.jsonl")
    page = sh(f"csb-cat {name(1)} | csb-redact | csb-log").ok().out
    assert GITHUB not in page and mark("github-token", GITHUB) in page


@pytest.mark.long
@pytest.mark.parametrize("size", [1 << 19, (1 << 20) + 5, 3 << 20])
@pytest.mark.few(1)
def test_long_lines(sh, size):
    """Wherever in a long line it stands, and across the blocks in which that is read."""
    fill = "x y\\n\u00e9 " * (size // 8)
    text = "".join(f"{fill[:at]} {GITHUB} " for at in (0, size // 3, size - 40, 10))
    data = f'{{"uuid":"{GITHUB}","c":"{text}"}}\n{{"a":"{GITHUB}"}}\n'.encode()
    assert redact(sh, data) == data.replace(GITHUB.encode(), TOKEN_MARK.encode())
    assert [r["line"] for r in sh("csb-redact --scan <in").records] == [1] * 5 + [2]
    for pad in range(0, 12, 3):     # an escape lies across the blocks
        letters = f'"{" " * pad}{f" {escaped(GITHUB)}," * (size // 242)}"\n'.encode()
        assert redact(sh, letters) == letters.replace(escaped(GITHUB).encode(), TOKEN_MARK.encode())
    for pad in (0, 20):
        dense = f'"{" " * pad}{f" {GITHUB}," * (size // 42)}"\n'.encode()
        assert redact(sh, dense) == dense.replace(
            GITHUB.encode(), mark("github-token", GITHUB).encode())


@pytest.mark.parametrize("what", ["line", "emoji", "many", "lines", "hostile", "escapes"])
@pytest.mark.few(1)
def test_memory(sh, home, tools, what):
    """At most 64 MB, however long a line is and how much is found; and it comes to an end."""
    unit = {"line": b"abc ", "emoji": "\U0001f600 \\n".encode(), "many": GITHUB.encode() + b"\\n ",
            "lines": dump({"a": "word " * 100}), "hostile": b"eyJ-ghp_",
            "escapes": b"\\/"}[what]
    size = {"line": 40 << 20, "lines": 40 << 20, "hostile": 200_000}.get(what, 1 << 20)
    with open(home.path / "in", "wb") as file:
        file.write(b'{"a":"' * (what != "lines"))
        for _ in range(64):
            file.write(unit * (size // len(unit) // 64))
        file.write(f' \U0001f600 {GITHUB}"}}\n'.encode() * (what != "lines"))
    code = ("import resource, subprocess, sys; subprocess.run(sys.argv[1:], stdout=-3, check=True);"
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)")
    done = subprocess.run([tools.python, "-c", code, f"{tools.bin}/csb-redact", "in"],
                          cwd=home.path, env=home.env, capture_output=True, check=True)
    assert int(done.stdout) < 64 << 10


@pytest.mark.long
def test_real_transcripts(sh, real):
    """Few findings among a hundred transcripts; the lines stay JSON of the same structure."""
    def shape(value):
        if isinstance(value, dict):
            return {key: shape(one) for key, one in value.items()}
        return [shape(one) for one in value] if isinstance(value, list) else type(value)
    paths = " ".join(f"'{top}'" for top in real.claude)
    found = sh(f"find {paths} -name '*.jsonl' -exec csb-redact --scan {{}} +").records
    assert 0 < len(found) < 40
    for path in sorted({one["path"] for one in found})[:4]:
        out = sh(f"csb-redact '{path}'").out.encode("utf-8", "surrogateescape")
        with open(path, "rb") as file:
            old = file.read().splitlines(keepends=True)
        new = out.splitlines(keepends=True)
        changed = {one["line"] for one in found if one["path"] == path}
        assert {n for n, two in enumerate(zip(old, new, strict=True), 1)
                if two[0] != two[1]} == changed
        assert all(shape(json.loads(old[n - 1])) == shape(json.loads(new[n - 1])) for n in changed)
        assert sh("csb-redact --scan", out).rc == 0


def test_a_list_of_sessions_is_scanned(sh):
    """Titles and paths may hold secrets, too; and an output that is lost is said."""
    data = dump({"kind": "session", "session_id": name(1), "title": f"use {GITHUB}"},
                separators=(",", ":"))
    assert TOKEN_MARK.encode() in redact(sh, data)
    done = sh("csb-redact --scan <in")
    assert done.rc == 1 and [(row["session_id"], row["pointer"]) for row in done.records] == [
        (name(1), "/title")]
    done = sh("csb-redact --scan <in >/dev/full")
    assert (done.rc, done.err.count("\n")) == (1, 1) and "cannot write the output" in done.err


def test_misuse(sh):
    done = sh("csb-redact <&-")
    assert done.rc == 2 and done.err.startswith("csb-redact: what should it work on?")
    assert "| csb-redact |" in done.err


def test_what_stands_close_together(sh):
    """A secret hides no other: a key behind a word, a token between the two parts of one of AWS,
    whatever is in a value that is a secret as a whole."""
    key = key_block()
    want = dump({"a": f"the end{masked('private-key', key)}"})
    assert redact(sh, dump({"a": f"the end{key}"})) == want
    row = "AKIAQ3EGQ2BCLZ6IUB5X,{},{},end"
    out = redact(sh, dump({"a": row.format(GITHUB, AWS)})).decode()
    assert GITHUB not in out and AWS not in out and out.endswith(',end"}\n')
    out = redact(sh, dump({"a": f"Authorization: Bearer {some(20)}7~{GITHUB} and"})).decode()
    assert out == dump({"a": "Authorization: Bearer [REDACTED:authorization] and"}).decode()
    out = redact(sh, dump({"a": f"Authorization: Bearer {GITHUB} and"})).decode()
    assert mark("github-token", GITHUB) in out


def test_keys_one_after_the_other(sh):
    """A key whose last line has no end hides none behind it; lines count as they came in."""
    keys = [key_block(), key_block("PRIVATE KEY"), key_block("EC PRIVATE KEY")]
    text = f"see {''.join(keys)}\n{GITHUB}\n"
    want = f"see {''.join(masked('private-key', key) for key in keys)}\n{TOKEN_MARK}\n"
    assert redact(sh, text.encode()).decode() == want
    assert [one["line"] for one in sh("csb-redact --scan <in").records] == [1, 15, 29, 44]
