"""csb-redact: a secret does not leave the machine, all else is as it was."""
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
ALNUM = string.ascii_letters + string.digits
LOWER = string.ascii_lowercase
HEX = "0123456789abcdef"


def some(count, chars=ALNUM):
    """So many characters, digits among them."""
    return "".join(draw.choices(chars, k=count - 2)) + "4b"


def key_block(kind="RSA PRIVATE KEY", lines=12):
    body = "\n".join(some(64, ALNUM + "+/") for _ in range(lines))
    return f"-----BEGIN {kind}-----\n{body}\n{some(20)}==\n-----END {kind}-----"


JWT = f"eyJ{some(30)}.eyJ{some(60)}.{some(43, ALNUM + '_-')}"
AWS_ID = "AKIA" + "Q3EGQ2BCLZ6IUB5X"
AWS = some(40, ALNUM + "/+")
GITHUB = "ghp_" + some(36)
KEY = key_block()

# What it is; the secret.
TOKENS = [
    ("anthropic-key", "sk-ant-api03-" + some(95, ALNUM + "_-")),
    ("anthropic-key", "sk-ant-oat01-" + some(95)),
    ("openai-key", "sk-proj-" + some(150)),
    ("openai-key", "sk-svcacct-" + some(80)),
    ("api-key", "sk-" + some(48)),
    ("api-key", "sk-or-v1-" + some(64, HEX)),
    ("api-key", "gsk_" + some(52)),
    ("api-key", "dckr_pat_" + some(27)),
    ("api-key", "dop_v1_" + some(64, HEX)),
    ("api-key", "SG." + some(22) + "." + some(43)),
    ("api-key", "hvs." + some(24)),
    ("github-token", GITHUB),
    ("github-token", "gho_" + some(36)),
    ("github-token", "ghs_" + some(36)),
    ("github-token", "ghu_" + some(36)),
    ("github-token", "ghr_" + some(76)),
    ("github-token", f"ghs_123456_{JWT}"),
    ("github-token", "github_pat_" + some(22) + "_" + some(59)),
    ("gitlab-token", "glpat-" + some(20)),
    ("gitlab-token", f"glpat-{some(27)}.01.{'0' * 9}"),
    ("gitlab-token", "glrt-" + some(20)),
    ("aws-key-id", AWS_ID),
    ("aws-key-id", "ASIA" + "Q3EGQ2BCLZ6IUB5X"),
    ("google-key", "AIza" + some(35)),
    ("google-key", "GOCSPX-" + some(28)),
    ("google-key", "ya29." + some(60)),
    ("slack-token", f"xoxb-{some(12, '123')}-{some(12, '123')}-{some(24)}"),
    ("slack-token", f"xoxp-{some(12, '123')}-{some(24)}"),
    ("slack-token", f"xapp-1-A{some(10)}-{some(13, '123')}-{some(64, HEX)}"),
    ("stripe-key", "sk_live_" + some(24)),
    ("stripe-key", "rk_live_" + some(24)),
    ("stripe-key", "whsec_" + some(32)),
    ("npm-token", "npm_" + some(36)),
    ("pypi-token", "pypi-AgEIcHlwaS5vcmc" + some(130)),
    ("huggingface-token", "hf_" + some(34)),
    ("jwt", JWT),
    ("private-key", KEY),
    ("private-key", key_block("PRIVATE KEY")),
    ("private-key", key_block("OPENSSH PRIVATE KEY")),
    ("private-key", key_block("EC PRIVATE KEY")),
    ("private-key", key_block("PGP PRIVATE KEY BLOCK")),
]

WORD = some(24)
SESSION_TOKEN = some(200)
# A text; what is to be gone from it; what the marker says.
PHRASES = [
    (f"Authorization: Bearer {WORD}", WORD, "authorization"),
    (f"curl -H 'authorization: token {WORD[8:]}'", WORD[8:], "authorization"),
    (f"Authorization: Basic {WORD}==", f"{WORD}==", "authorization"),
    (f"sent Bearer {AWS_ID}{WORD} to it", f"{AWS_ID}{WORD}", "authorization"),
    ("git clone https://anna:Tr0ub4dor@example.org/x.git", "Tr0ub4dor", "password"),
    ("postgres://anna:p%40ss!word$9@db:5432/x", "p%40ss!word$9", "password"),
    ("redis://:s3cr3tpw@localhost", "s3cr3tpw", "password"),
    ("https://user:password@host", "password", "password"),
    (f"Authorization: Bearer {LOWER}", LOWER, "authorization"),
    (f"aws_secret_access_key = {AWS}", AWS, "aws-secret-key"),
    (f'"SecretAccessKey": "{AWS}"', AWS, "aws-secret-key"),
    (f"export AWS_SECRET_ACCESS_KEY='{AWS}'", AWS, "aws-secret-key"),
    (f"aws_session_token={SESSION_TOKEN}", SESSION_TOKEN, "aws-session-token"),
    (f"id,secret\n{AWS_ID},{AWS}\n", AWS, "aws-secret-key"),
]

# What is no secret, though it is long or looks the part.
PLAIN = [
    name(1),
    "req_011CSHoEeqs5C35K2UUqR7Fy",
    "toolu_01A09q90qw90lq917835lq9",
    some(40, HEX),
    some(64, HEX),
    "sha512-" + some(86) + "==",
    "sha256:" + some(64, HEX),
    some(4000, ALNUM + "+/"),
    "task-" + some(20, LOWER),
    "risk-assessment-of-the-whole-department-2026",
    "sk-" + "x" * 48,
    "disk-" + some(40),
    "ghp_" + "x" * 36,
    "ghp_short",
    "hf_hub_download",
    "npm_config_registry",
    "https://root:root@host/",
    "https://x:${TOKEN}@github.com",
    "http://u:<token>@h",
    "a@b.de",
    "https://u:$(cat t)@h",
    "http://localhost:3000/@scope/x",
    "docker://alpine:3.18@sha256:abc",
    "git@github.com:a/b.git",
    "https://host:8080/a@b",
    "Authorization: Bearer $TOKEN",
    "AKIA" * 9,
    "Authorization: Bearer YOUR_TOKEN",
    "the bearer of bad news",
    "Bearer authentication",
    "eyJ",
    "-----BEGIN PUBLIC KEY-----\n" + some(64) + "\n-----END PUBLIC KEY-----",
    "xoxb-your-token",
    "-----BEGIN RSA PRIVATE KEY-----\n...\n-----END RSA PRIVATE KEY-----",
    "AKIAshort",
    f"-----BEGIN PRIVATE KEY-----\n[REDACTED by {some(40)}]\n-----END PRIVATE KEY-----",
    "-----BEGIN PRIVATE KEY-----[REDACTED]\nsaid " + some(64),
    "[REDACTED:github-token:1a2b3c4d]",
    "https://u:[REDACTED:password]@h",
    "my_live_data",
]


def mark(kind, secret):
    """What is to stand in its place."""
    if kind == "private-key":
        body = secret.split("-----")[2]
        secret = "".join(body.split()).replace("+", "")
    digest = hashlib.sha256(secret.encode()).hexdigest()
    return f"[REDACTED:{kind}:{digest[:8]}]"


def masked(kind, secret):
    """The secret as it is to be shown: of a key the first and the last line stay."""
    if kind != "private-key":
        return mark(kind, secret)
    _, first, _, last, _ = secret.split("-----")
    return f"-----{first}-----{mark(kind, secret)}-----{last}-----"


TOKEN_MARK = mark("github-token", GITHUB)
AWS_MARK = mark("aws-secret-key", AWS)


def dump(value, **how):
    return json.dumps(value, **how).encode() + b"\n"


def put(sh, data):
    """data in a file called in; its directory."""
    folder = sh("pwd").out.strip()
    with open(os.path.join(folder, "in"), "wb") as file:
        file.write(data)
    return folder


def redact(sh, data):
    done = sh("csb-redact <in", cwd=put(sh, data))
    assert (done.rc, done.err) == (0, ""), done
    return done.out.encode("utf-8", "surrogateescape")


def findings(sh):
    """What csb-redact --scan finds in the file that redact() wrote last."""
    return sh("csb-redact --scan <in").records


AROUND = [
    ("", ""),
    ("see ", " there"),
    ('A="', '"\n'),
    ("\n", "\\"),
    ("\x1b[31m", "\x1b[0m"),
    ("\u00e9\U0001f600\t", "\u20ac"),
    ("\\n", "\\n"),
    ("token%3D", "&"),
]


def test_every_shape(sh):
    """In a text, at its start and end, after an escape; nothing else changes."""
    old, new = [], []
    for kind, secret in TOKENS:
        for before, after in AROUND:
            old.append(before + secret + after)
            new.append(before + masked(kind, secret) + after)

    def record(texts, style):
        content = [{"type": "text", "text": text} for text in texts]
        value = {"type": "user", "cwd": "/\u00e9", "message": {"content": content}}
        return dump(value, **style)

    styles = [{}, {"ensure_ascii": False}, {"separators": (",", ":")}, {"indent": None}]
    for style in styles:
        want = record(new, style)
        assert redact(sh, record(old, style)) == want
        assert redact(sh, want) == want, "twice is once"


def test_phrases(sh):
    """The word before it shows what it is.

    Of what a person may have chosen no hash is given.
    """
    data = b"".join(dump({"a": text}) for text, _, _ in PHRASES)
    lines = redact(sh, data).splitlines()
    for (text, secret, kind), new in zip(PHRASES, lines, strict=True):
        out = json.loads(new)["a"]
        assert secret not in out.replace(":password]", ""), text
        assert f"[REDACTED:{kind}" in out, text
        if AWS_ID not in text:
            assert out.split("[REDACTED")[0] == text.split(secret)[0]
        without_hash = f"[REDACTED:{kind}]" in out
        assert without_hash == (kind in ("password", "authorization"))


def test_fields_show_it(sh):
    """What a field is called counts as the word before."""
    record = {
        "toolUseResult": {"AccessKeyId": AWS_ID, "SecretAccessKey": AWS},
        "headers": {"authorization": "Bearer abcdef123"},
    }
    out = json.loads(redact(sh, dump(record)))
    assert out["toolUseResult"]["SecretAccessKey"] == AWS_MARK
    assert out["toolUseResult"]["AccessKeyId"].startswith("[REDACTED:aws-key-id:")
    assert out["headers"] == {"authorization": "Bearer [REDACTED:authorization]"}


def test_what_is_no_secret_stays(sh):
    data = b""
    for text in PLAIN:
        data += dump({"type": "user", "a": text, "b": [text, f"x {text}\n"]})
    for text in PLAIN:
        data += text.encode() + b"\n"
    assert redact(sh, data) == data
    assert sh("csb-redact --scan <in").ok().out == ""


def test_what_is_left(sh):
    """What looks like a token amid the base64 of a picture or a signature stays.

    All that is given to a tool is looked at, also if it is called like an id.
    """
    base64 = some(300, ALNUM + "+/") + "/AIza" + some(60)
    picture = {"type": "base64", "data": base64}
    content = [
        {"type": "thinking", "thinking": "x", "signature": base64},
        {"type": "redacted_thinking", "data": base64},
        {"type": "image", "source": picture},
    ]
    data = dump({"message": {"content": content}})
    assert redact(sh, data) == data
    assert sh("csb-redact --scan <in").ok().out == ""

    given = {
        "id": GITHUB,
        "signature": GITHUB,
        "deep": [{"sessionId": GITHUB}],
        GITHUB: GITHUB,
    }
    call = {"type": "tool_use", "id": "toolu_01", "name": "x", "input": given}
    out = redact(sh, dump({"message": {"content": [call]}})).decode()
    assert GITHUB not in out
    assert out.count(TOKEN_MARK) == 5
    assert json.loads(out)


@pytest.mark.few(10)
@pytest.mark.parametrize("data", [
    b"",
    b"\n",
    b"\n\n",
    b"{}",
    b"{}\r\n{}\r\n",
    b'{"a":"b"}',
    b"\xef\xbb\xbf{}\n",
    b"\xff\xfe\n",
    b'{"a":"\xff\xc3"}\n',
    b'{"a":1.0,"a":1e400,"b":NaN}\n',
    b'{"a":"\\ud83d"}\n',
    b"\0\0\n\0",
    b"{no record\n",
    b'{"torn":"gh',
    b"[" * 100000 + b"\n",
    b'"\\u0041"\n',
    b'{"kind":"session"}\n',
    b'{"a":"\\/ \\u003c \xe2\x82\xac"}\n' * 9,
    b" \t\n",
    b"1" * 10000 + b"\n",
])
def test_bytes_stay(sh, data):
    """Line ends, bad UTF-8, a byte order mark, NULs, a field twice, deep nesting."""
    assert redact(sh, data) == data


# Bad UTF-8, odd escapes, fields that stand there twice, spaces and numbers.
TEMPLATES = [
    b'{"a" : "\xff %s \\/\\u00e9\\ud83d\\ude00\\"\\\\","a":1.00,  "a":"\xc3(" }\r\n',
    b'\xef\xbb\xbf{"a":["\\ud83d\\ude00\\ud83d\\n%s\\u2028","x\\\\"],"b":-0.0e1}\n',
    b'{"type":"x","k\\"":"\\\\%s","n":{"m":"%s"}}',
    b'[[["%s"]]]\n',
    b'"%s"\n',
    b'{"kind":"hit","snippet":"%s"}\n',
]


def test_only_the_secret_changes(sh):
    for template in TEMPLATES:
        data = template.replace(b"%s", GITHUB.encode())
        want = template.replace(b"%s", TOKEN_MARK.encode())
        assert redact(sh, b'{"x":1}\n' + data) == b'{"x":1}\n' + want


def test_what_is_no_json(sh):
    """A torn line, and plain text: masked where it stands."""
    torn = f'{{"type":"user","c":"x\\n{GITHUB} y'.encode()
    want = torn.replace(GITHUB.encode(), TOKEN_MARK.encode())
    assert redact(sh, b'{"a":1}\n' + torn) == b'{"a":1}\n' + want

    template = "\u00e9 {}\r\n{}\nend\n"
    text = template.format(GITHUB, KEY).encode() + b"\xff\n"
    want = template.format(TOKEN_MARK, masked("private-key", KEY)).encode() + b"\xff\n"
    assert redact(sh, text) == want

    # Here the key lies across two blocks that are read.
    fill = b"line\n" * ((1 << 20) // 5 - 50)
    assert redact(sh, fill + text) == fill + want


def test_escapes_of_json(sh):
    """What JSON writes before, behind and between secrets is no part of them."""
    text = f"http://localhost:3000\nb@c.de\n{AWS_ID}\n{AWS}\nx"
    out = json.loads(redact(sh, dump({"a": text})))["a"]
    address, mail, _, secret, end = out.split("\n")
    assert (address, mail) == ("http://localhost:3000", "b@c.de")
    assert (secret, end) == (AWS_MARK, "x")

    want = {"a": "x://anna:[REDACTED:password]@host\n"}
    for password in ("p\\w\u00e4", "p\u00e4w"):
        for ascii_only in (True, False):
            record = {"a": f"x://anna:{password}@host\n"}
            data = dump(record, ensure_ascii=ascii_only)
            assert json.loads(redact(sh, data)) == want


def escaped(text):
    return "".join(f"\\u{ord(char):04x}" for char in text)


HOOK = f"T{some(9)}/B{some(9)}/{some(24)}"
HOOKS = "https:\\/\\/hooks.slack.com\\/services\\/"
# A secret as a line of JSON may write it; what stands there then.
ESCAPED = [
    (escaped("g") + GITHUB[1:], TOKEN_MARK),
    (f"gh\\u0070\\u005F{GITHUB[4:]}", TOKEN_MARK),
    (GITHUB[:-1] + escaped(GITHUB[-1]), TOKEN_MARK),
    (escaped(GITHUB), TOKEN_MARK),
    (f"\\u000a{GITHUB}\\u0009", f"\\u000a{TOKEN_MARK}\\u0009"),
    (f"\\u001B[1m{escaped('ghp_')}\\u001b[m{GITHUB[4:]}", f"\\u001B[1m{TOKEN_MARK}"),
    (f"\\u20ac{escaped('gh')}{GITHUB[2:]}", f"\\u20ac{TOKEN_MARK}"),
    (f"aws_secret_access_key={AWS.replace('/', escaped('/'))}",
     f"aws_secret_access_key={AWS_MARK}"),
    ("aws_secret_access_key=" + AWS.replace("/", "\\/"),
     f"aws_secret_access_key={AWS_MARK}"),
    (f"\\u0022Secret\\u0041ccessKey\\u0022:\\u0022{AWS}\\u0022",
     f"\\u0022Secret\\u0041ccessKey\\u0022:\\u0022{AWS_MARK}\\u0022"),
    (HOOKS + HOOK.replace("/", "\\/"), HOOKS + mark("slack-webhook", HOOK)),
    ("https:\\/\\u002fanna\\u003aTr0ub4do\\u0072\\u0040example.org\\/x",
     "https:\\/\\u002fanna\\u003a[REDACTED:password]\\u0040example.org\\/x"),
    (f"\\u0042earer\\u0020{WORD}", "\\u0042earer\\u0020[REDACTED:authorization]"),
]
for text in (
    KEY.replace("/", "\\/").replace("\n", "\\n"),
    KEY.replace("\n", "\\u000A"),
    KEY.replace("A", "\\u0041").replace("\n", "\\r\\n"),
):
    _, first, _, last, _ = text.split("-----")
    new = f"-----{first}-----{mark('private-key', KEY)}-----{last}-----"
    ESCAPED.append((text, new))
ESCAPED_LINE = (
    '{"a":"\\u003cb\\u003e \\/ \\\\\\" \\u00e9\\ud83d\\ude00 %s \\u0061\\/",'
    '"b":["%s"]}\n'
)


def test_escaped_letters(sh):
    """A secret is one however JSON writes its letters, and has the same marker.

    What stands around it stays as it was written. So it is in JSON that is a
    string in JSON.
    """
    data = "".join(ESCAPED_LINE % (old, old) for old, _ in ESCAPED)
    want = "".join(ESCAPED_LINE % (new, new) for _, new in ESCAPED)
    assert redact(sh, data.encode()).decode() == want
    for one in want.splitlines():
        assert json.loads(one)["b"]

    places = []
    for number in range(1, len(ESCAPED) + 1):
        places += [(number, "/a"), (number, "/b/0")]
    assert [(one["line"], one["pointer"]) for one in findings(sh)] == places

    for _ in range(3):
        data = dump({"t": data}).decode()
        want = dump({"t": want}).decode()
        assert redact(sh, data.encode()).decode() == want


def test_json_stays_json(sh, seeded):
    """Whatever stands before and behind a secret, in strings and in lists of lines."""
    parts = ["-----BEGIN RSA PRIVATE KEY-----", "-----END RSA PRIVATE KEY-----"]
    parts += ["\n", '"', "\\", "see ", "\u00e9", ",", "-", "--"]
    parts += [some(64, ALNUM + "+/"), AWS, GITHUB, AWS_ID]
    parts += ["https://a:b1c2@host", f"Authorization: Bearer {some(20)}"]

    def text():
        return "".join(seeded.choices(parts, k=seeded.randrange(9)))

    data = b""
    for _ in range(500):
        rows = [seeded.choice("+- ") + row for row in key_block().split("\n")]
        record = {
            "type": "user",
            "m": [text(), {"a": text()}],
            "b": {"lines": rows[:9]},
            "n": [text() for _ in range(4)],
        }
        data += dump(record, ensure_ascii=seeded.random() < 0.5)
    lines = redact(sh, data).splitlines()
    assert len(lines) == 500
    assert {json.loads(one)["type"] for one in lines} == {"user"}


@pytest.mark.few(2)
@pytest.mark.parametrize("before", ["-", "+", "> ", "--", "\x1b[31m-"])
def test_a_key_in_a_diff(sh, before):
    """With what stands before each line: in plain text, a string, a list of lines."""
    rows = [before + row for row in key_block().split("\n")]
    text = "\n".join(["see", *rows, before.strip() + "end", ""])
    for data in (
        text.encode(),
        dump({"a": text}),
        dump({"lines": rows}),
        json.dumps({"lines": rows}, indent=1).encode(),
    ):
        out = redact(sh, data).decode()
        for row in rows[1:-1]:
            assert row.removeprefix(before) not in out, data
        assert "[REDACTED:private-key:" in out
        assert "-----END RSA PRIVATE KEY-----" in out
        assert [one["what"] for one in findings(sh)] == ["private-key"]


def test_a_key_in_a_patch(sh):
    """One string for each line, as Claude Code writes an edit.

    The list becomes shorter, and the key has one marker everywhere; without its
    end, too.
    """
    key = key_block("PRIVATE KEY")
    rows = key.split("\n")

    def record(rows, token):
        lines = [' \u00e9"\\']
        lines += ["-" + row for row in rows]
        lines += ["+" + row for row in rows]
        lines += [f" {token}"]
        return dump({
            "content": "a " + "\n".join(rows),
            "structuredPatch": [{"oldStart": 1, "lines": lines}, {"lines": []}],
            "source": rows,
            "z": [token, 1],
        })

    want = record([masked("private-key", key)], TOKEN_MARK)
    assert redact(sh, record(rows, GITHUB)) == want
    found = findings(sh)
    assert [one["what"] for one in found] == [
        "private-key", "private-key", "private-key", "github-token",
        "private-key", "github-token",
    ]
    pointers = [one["pointer"] for one in found]
    assert (pointers[0], *pointers[-2:]) == ("/content", "/source/0", "/z/0")

    torn = rows[:4]
    for data in (
        dump({"lines": [f"+{row}" for row in torn]}),
        dump({"lines": torn}, separators=(",", ":")),
        "\n".join(torn).encode(),
    ):
        out = redact(sh, data).decode()
        assert "[REDACTED:private-key:" in out
        for row in torn[1:]:
            assert row not in out


def test_json_in_json(sh):
    """However often a text was made a string of JSON; also if a key's end is gone."""
    begin = "-----BEGIN RSA PRIVATE KEY-----"
    body = [some(64, ALNUM + "+/"), some(64, ALNUM + "+/")]
    rows = [begin, "Proc-Type: 4,ENCRYPTED", "DEK-Info: AES-128-CBC,0A", "", *body]
    numbered = "".join(f"{number:6}\u2192{row}\n" for number, row in enumerate(rows, 1))
    keys = {"SecretAccessKey": AWS, "SessionToken": some(200)}
    for text in (
        dump({"headers": {"authorization": "Basic b1c2d3e4"}}).decode(),
        numbered,
        dump(keys).decode(),
        dump({"lines": [begin, *body], "z": 1}).decode(),
        dump({"lines": rows}).decode(),
        "".join(f"> {row}\n" for row in rows),
        " +\n".join(f'"{row}\\n"' for row in rows),
        f"Credential={AWS_ID}/20260414/eu-west-1/s3/aws4_request",
    ):
        ascii_only = text != numbered
        for _ in range(4):
            record = {"t": text, "u": "tail"}
            text = dump(record, ensure_ascii=ascii_only).decode()
            out = redact(sh, text.encode()).decode()
            assert json.loads(out)["u"] == "tail"
            assert "[REDACTED:" in out
            for secret in (*body, AWS, "b1c2d3e4", AWS_ID):
                assert secret not in out, text


@pytest.mark.few(2)
@pytest.mark.parametrize(
    "colour", ["\x1b[01;31m\x1b[K", "\x1b[H", "\x1b[?25h", "\x1b[38;5;196m"])
def test_colours(sh, colour):
    """A token behind a colour, whatever letter ends that; or coloured in part."""
    for token in (GITHUB, f"ghp_\x1b[m\x1b[K{GITHUB[4:]}"):
        want = dump({"a": f"x{colour}{TOKEN_MARK}\x1b[m"})
        assert redact(sh, dump({"a": f"x{colour}{token}\x1b[m"})) == want
        out = sh("csb-redact", f"{colour}{token}\n".encode()).out
        assert out == f"{colour}{TOKEN_MARK}\n"


def test_findings(sh, home):
    """Whose, where, what, and a preview that does not give it away."""
    path = home.path / f"{name(3)}.jsonl"
    export = {"type": "text", "text": f"export A={GITHUB} B=1"}
    path.write_text(line("nothing") + line([export]) + f"torn {GITHUB}")
    done = sh(f"csb-redact --scan {path}")
    assert (done.rc, done.err) == (1, "")
    assert GITHUB[:12] not in done.out
    first, second = done.records
    assert first == {
        "kind": "finding",
        "session_id": name(3),
        "path": str(path),
        "line": 2,
        "pointer": "/message/content/0/text",
        "what": "github-token",
        "preview": f"export A={TOKEN_MARK}",
    }
    assert second["line"] == 3
    assert "pointer" not in second

    done = sh(f"csb-redact --scan missing {path}")
    assert done.err.startswith("csb-redact: cannot read 'missing': No such file")
    done = sh("csb-redact 9f26")
    assert (done.rc, done.out) == (1, "")
    assert "session: csb-cat ID | csb-redact" in done.err

    # Without a file the line says whose it is.
    data = line(GITHUB, sessionId=name(8)).encode() * 2
    found = sh("csb-redact --scan", data).records
    assert [one["session_id"] for one in found] == [name(8), name(8)]

    # A pointer that holds a secret is not given.
    secret = dump({GITHUB: [{"a/b~": GITHUB}]})
    assert "pointer" not in sh("csb-redact --scan", secret).records[0]
    found = sh("csb-redact --scan", dump([{"a/b~": GITHUB}])).records
    assert found[0]["pointer"] == "/0/a~1b~0"


def test_after_csb_cat(sh, claude):
    """The records between the lines say whose they are."""
    path = claude / f"{name(1)}.jsonl"
    path.write_text(line("x", uuid="1") + line(GITHUB, uuid="2"))
    done = sh(f"csb-cat {name(0)} {name(1)} | csb-redact --scan")
    found, = done.records
    assert done.rc == 1
    assert (found["session_id"], found["line"]) == (name(1), 2)
    assert found["path"].endswith(f"{name(1)}.jsonl")
    page = sh(f"csb-cat {name(1)} | csb-redact | csb-log").ok().out
    assert GITHUB not in page
    assert TOKEN_MARK in page


@pytest.mark.long
@pytest.mark.parametrize("size", [1 << 19, (1 << 20) + 5, 3 << 20])
@pytest.mark.few(1)
def test_long_lines(sh, size):
    """Wherever in a long line it stands, and across the blocks that are read."""
    fill = "x y\\n\u00e9 " * (size // 8)
    text = "".join(f"{fill[:at]} {GITHUB} " for at in (0, size // 3, size - 40, 10))
    data = f'{{"uuid":"{GITHUB}","c":"{text}"}}\n{{"a":"{GITHUB}"}}\n'.encode()
    assert redact(sh, data) == data.replace(GITHUB.encode(), TOKEN_MARK.encode())
    assert [one["line"] for one in findings(sh)] == [1, 1, 1, 1, 1, 2]

    def dense(pad, secret, count):
        secrets = f" {secret}," * count
        return f'"{" " * pad}{secrets}"\n'.encode()

    # An escape lies across the blocks.
    count = size // 242
    for pad in range(0, 12, 3):
        out = redact(sh, dense(pad, escaped(GITHUB), count))
        assert out == dense(pad, TOKEN_MARK, count)

    count = size // 42
    for pad in (0, 20):
        out = redact(sh, dense(pad, GITHUB, count))
        assert out == dense(pad, TOKEN_MARK, count)


# What a long input consists of, and about how many bytes it has.
LONG = {
    "line": (b"abc ", 40 << 20),
    "emoji": ("\U0001f600 \\n".encode(), 1 << 20),
    "many": (GITHUB.encode() + b"\\n ", 1 << 20),
    "lines": (dump({"a": "word " * 100}), 40 << 20),
    "hostile": (b"eyJ-ghp_", 200_000),
    "escapes": (b"\\/", 1 << 20),
}
PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


@pytest.mark.parametrize("what", list(LONG))
@pytest.mark.few(1)
def test_memory(sh, home, tools, what):
    """At most 64 MB, however long a line is and how much is found; and it ends."""
    unit, size = LONG[what]
    with open(home.path / "in", "wb") as file:
        if what != "lines":
            file.write(b'{"a":"')
        for _ in range(64):
            file.write(unit * (size // len(unit) // 64))
        if what != "lines":
            file.write(f' \U0001f600 {GITHUB}"}}\n'.encode())
    command = [tools.python, "-c", PEAK, f"{tools.bin}/csb-redact", "in"]
    done = subprocess.run(
        command, cwd=home.path, env=home.env, capture_output=True, check=True)
    assert int(done.stdout) < 64 << 10


def shape(value):
    """A value of JSON with types in the place of texts and numbers."""
    if isinstance(value, dict):
        return {key: shape(one) for key, one in value.items()}
    if isinstance(value, list):
        return [shape(one) for one in value]
    return type(value)


@pytest.mark.long
def test_real_transcripts(sh, real):
    """Few findings among a hundred transcripts; the lines keep their structure."""
    paths = " ".join(f"'{top}'" for top in real.claude)
    found = sh(f"find {paths} -name '*.jsonl' -exec csb-redact --scan {{}} +").records
    assert 0 < len(found) < 40
    for path in sorted({one["path"] for one in found})[:4]:
        out = sh(f"csb-redact '{path}'").out.encode("utf-8", "surrogateescape")
        with open(path, "rb") as file:
            old = file.read().splitlines(keepends=True)
        new = out.splitlines(keepends=True)
        changed = set()
        for number, (before, after) in enumerate(zip(old, new, strict=True), 1):
            if before != after:
                changed.add(number)
                assert shape(json.loads(before)) == shape(json.loads(after))
        assert changed == {one["line"] for one in found if one["path"] == path}
        assert sh("csb-redact --scan", out).rc == 0


def test_a_list_of_sessions_is_scanned(sh):
    """Titles and paths may hold secrets, too; and an output that is lost is said."""
    record = {"kind": "session", "session_id": name(1), "title": f"use {GITHUB}"}
    data = dump(record, separators=(",", ":"))
    assert TOKEN_MARK.encode() in redact(sh, data)
    done = sh("csb-redact --scan <in")
    assert done.rc == 1
    row, = done.records
    assert (row["session_id"], row["pointer"]) == (name(1), "/title")

    done = sh("csb-redact --scan <in >/dev/full")
    assert (done.rc, done.err.count("\n")) == (1, 1)
    assert "cannot write the output" in done.err


def test_misuse(sh):
    done = sh("csb-redact <&-")
    assert done.rc == 2
    assert done.err.startswith("csb-redact: what should it work on?")
    assert "| csb-redact |" in done.err


def test_what_stands_close_together(sh):
    """A secret hides no other.

    A key behind a word, a token between the two parts of one of AWS, whatever is
    in a value that is a secret as a whole.
    """
    want = dump({"a": f"the end{masked('private-key', KEY)}"})
    assert redact(sh, dump({"a": f"the end{KEY}"})) == want

    out = redact(sh, dump({"a": f"{AWS_ID},{GITHUB},{AWS},end"})).decode()
    assert GITHUB not in out
    assert AWS not in out
    assert out.endswith(',end"}\n')

    bearer = "Authorization: Bearer"
    out = redact(sh, dump({"a": f"{bearer} {some(20)}7~{GITHUB} and"}))
    assert out == dump({"a": f"{bearer} [REDACTED:authorization] and"})
    out = redact(sh, dump({"a": f"{bearer} {GITHUB} and"})).decode()
    assert TOKEN_MARK in out


def test_keys_one_after_the_other(sh):
    """A key whose last line has no end hides none behind it; lines count as before."""
    keys = [KEY, key_block("PRIVATE KEY"), key_block("EC PRIVATE KEY")]
    marked = [masked("private-key", key) for key in keys]
    data = f"see {''.join(keys)}\n{GITHUB}\n"
    want = f"see {''.join(marked)}\n{TOKEN_MARK}\n"
    assert redact(sh, data.encode()).decode() == want
    assert [one["line"] for one in findings(sh)] == [1, 15, 29, 44]
