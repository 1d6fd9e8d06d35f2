"""the shapes of secrets: where in a text something stands that has to stay secret

Tokens are known by their first letters (ghp_..., sk-ant-...), other secrets by what
stands before them (Authorization: Bearer ...). How long they are, and of which
characters, counts as well: a prefix in a sentence is no secret. A text may be a line of
JSON as it stands: letters that it escapes (\\u0067) are seen through, and its line ends
and quotes are part of the shapes.

A secret is masked by a marker, [REDACTED:github-token:1a2b3c4d], which is the same in
every file and run: the digits begin its SHA-256. What a person may have chosen has no
digits, for it could be guessed by them.
"""
import re
from array import array
from bisect import bisect
from collections import namedtuple
from heapq import merge

# sign: where in the text its first word begins; start and end: the secret itself.
Secret = namedtuple("Secret", "sign start end kind mark")
Sign = namedtuple("Sign", "at shape")

AWS_KEY_ID = "aws-key-id"
AWS_SECRET_KEY = "aws-secret-key"
PRIVATE_KEY = "private-key"
CHOSEN = {"password", "authorization"}      # a person may have chosen these

# What may stand around a value: {"SecretAccessKey": "..."}, secret_access_key = '...'.
# In JSON that is a string in JSON each quote has backslashes before it: 1, 3, 7, ...
AROUND_VALUE = r"""[\\"'\s:=>]{1,80}"""

NO_EXAMPLE = r"(?! [\w-]{0,99} [xX]{8} )"       # as in ghp_xxxxxxxxxxxx

# What colours a terminal. grep --color=always puts it between the first word of a
# token, for which somebody looked, and the rest.
COLOUR_CODE = r"\x1b\[[0-9;?]*[A-Za-z]"

# A token begins after no letter or digit, unless that ends an escape sequence, and not
# amid the base64 of a picture or a signature.
TOKEN_EDGE = r"""(?<! [A-Za-z0-9+/]{200} ) (?:
    (?<! [A-Za-z0-9] )
  | (?<= \\[bfnrt] )                            # \n
  | (?<= \\u[0-9A-Fa-f]{4} )                    # \u20ac
  | (?<= %[0-9A-F][0-9A-F] )                    # %20
  | (?<= [\[;?] [A-Za-z] )                      # ESC [m, and up to three digits:
  | (?<= [\[;?] [0-9] [A-Za-z] )                # ESC [0;1m
  | (?<= [\[;?] [0-9]{2} [A-Za-z] )             # ESC [31m
  | (?<= [\[;?] [0-9]{3} [A-Za-z] )             # ESC [38;5;196m
)"""


class Shape:
    """How a kind of secret looks.

    kind: its name, in markers and findings. words: any of these begins it. rest: what
    follows, a verbose regular expression, in which \\w is ASCII. If the rest has a
    group "secret" just that is the secret, and the words may be the end of longer ones;
    else all is, from the word on.
    """

    def __init__(self, kind, words, rest):
        self.kind = kind
        self.words = words.split()
        self.rest = rest
        self.pattern = None         # compiled when it is first needed: together 60 ms

    def match(self, text, at):
        """A match with a group "secret" if such a secret begins at a place, or None."""
        if self.pattern is None:
            self.pattern = self._compiled()
        return self.pattern.match(text, at)

    def _compiled(self):
        words = "|".join(re.escape(word) for word in self.words)
        whole = f"(?:{words}) (?:{COLOUR_CODE})* (?:{self.rest})"
        if "(?P<secret>" not in self.rest:
            whole = f"{TOKEN_EDGE} (?P<secret> {whole} )"
        return re.compile(whole, re.VERBOSE | re.ASCII)


SHAPES = [
    Shape("anthropic-key", "sk-ant-", NO_EXAMPLE + r"[\w-]{20,}"),
    Shape(
        "openai-key", "sk-proj- sk-svcacct- sk-admin- sk-service- sk-None-",
        NO_EXAMPLE + r"[\w-]{20,}",
    ),
    # OpenAI's older ones and others, Groq, xAI, Linear, Replicate
    Shape(
        "api-key", "sk- gsk_ xai- lin_api_ r8_",
        NO_EXAMPLE + r"[A-Za-z0-9]{32,} (?![\w-])",
    ),
    # OpenRouter, DigitalOcean, Shopify
    Shape(
        "api-key",
        "sk-or-v1- dop_v1_ doo_v1_ dor_v1_ shpat_ shpca_ shppa_ shpss_",
        r"[0-9a-f]{32,}",
    ),
    # Docker, Vault, Atlassian, SendGrid
    Shape(
        "api-key", "dckr_pat_ hvs. ATATT3 SG.",
        r"(?= [\w-]{0,99} [0-9] ) [\w=-]{20,} (?: \. [\w-]{40,} )?",
    ),
    # Some of GitHub's have a JWT behind them.
    Shape(
        "github-token", "ghp_ gho_ ghu_ ghs_ ghr_ github_pat_",
        NO_EXAMPLE + r"[\w-]{36,} (?: \. [\w-]{10,} ){0,2}",
    ),
    Shape(
        "gitlab-token", "glpat- gloas- gldt- glrt- glcbt- glptt- glft- glsoat-",
        r"[\w-]{20,} (?: \. [A-Za-z0-9]{2} \. [A-Za-z0-9]{9} )?",
    ),
    # Behind it a signed request has /20260414/.
    Shape(
        AWS_KEY_ID, "AKIA ASIA",
        r"[A-Z0-9]{16} (?! [A-Za-z0-9+=] | / (?! \d{8} / ) )",
    ),
    Shape(
        AWS_SECRET_KEY, "ecret_access_key ecretAccessKey ECRET_ACCESS_KEY",
        AROUND_VALUE + r"(?P<secret> [A-Za-z0-9/+]{40} ) (?![\w/+=])",
    ),
    Shape(
        "aws-session-token", "ession_token essionToken ESSION_TOKEN",
        AROUND_VALUE + r"(?P<secret> [A-Za-z0-9/+]{100,} ={0,2} )",
    ),
    Shape("google-key", "AIza GOCSPX- ya29.", r"[\w-]{28,}"),
    Shape(
        "slack-token",
        "xoxa- xoxb- xoxc- xoxd- xoxe- xoxo- xoxp- xoxr- xoxs- xoxe. xapp-",
        r"(?= [A-Za-z.%-]{0,99} [0-9] ) [\w.%-]{10,}",
    ),
    Shape(
        "slack-webhook", "hooks.slack.com/services/",
        r"(?P<secret> T[A-Za-z0-9]+ / B[A-Za-z0-9]+ / [A-Za-z0-9]{16,} )",
    ),
    Shape("stripe-key", "sk_live_ rk_live_ whsec_", r"[A-Za-z0-9]{16,}"),
    Shape("npm-token", "npm_", r"[A-Za-z0-9]{36} (?![A-Za-z0-9])"),
    Shape("pypi-token", "pypi-Ag", r"[\w-]{50,}"),
    Shape("huggingface-token", "hf_", r"[A-Za-z0-9]{30,} (?![\w-])"),
    # Three parts, of which the first two are JSON: base64 of {" is eyJ.
    Shape(
        "jwt", "eyJ",
        r"(?<! [_-]eyJ ) [\w-]{10,999} \. eyJ[\w-]{10,} \. [\w-]{10,}",
    ),
    Shape(PRIVATE_KEY, "-----BEGIN", r"""
        [ ] [A-Z0-9 ]{0,30} PRIVATE[ ]KEY (?:[ ]BLOCK)? -----
        (?! [\s\\nr"',]* \[REDACTED )               # it is masked already
        (?= (?s:.){0,400}? [\w+/]{30} )             # it is not just "..."
        (?P<secret>
            # Up to its end. Two dashes are part of it just where a diff has its
            # columns: before the end, and where a line begins (in JSON: after \n or a
            # quote). A quote is, between the lines of a list, or if it is escaped.
            (?: [^-"]
              | (?<= \\ ) "
              | "[\s,+]*"
              | - (?!-)
              | --? (?= -----END[ ] )
              | (?<= [\n"n] ) -- (?!-)
            ){40,16000}
            (?= -----END[ ] )
          |
            # Or as far as lines of base64 go, if the end was cut off: in a text, or in
            # a list of strings.
            (?: [A-Za-z0-9+/=\s]
              | \\+ [nrt\s]
              | (?P<quote> \\*" ) (?: \s | \\+[nrt] )* [,+] (?: \s | \\+[nrt] )*
                (?P=quote) (?! [^"]* " \s* : )
              | (?<= [\s"n] ) [->] (?!-)
              | \xe2\x86\x92 | \\+u2192           # after the number of a line
              | (?: Proc-Type | DEK-Info ): [ ] [A-Z0-9,-]+
            ){40,16000}
        )
        """),
    Shape(
        "authorization", "Bearer bearer BEARER",
        r"(?: \s | \\[nrt] )+ (?= [^\s\"]* [0-9] ) (?P<secret> [\w.~+/-]{20,} =* )",
    ),
    Shape("authorization", "uthorization", r"""
        [\\"']{0,32} \s* [:=,] \s* [\\"'`]{0,32}    # "Authorization": "
        (?i: bearer | token | basic ) \s+
        (?= [^\s"]* [0-9] | [\w.~+/-]{20} )         # no word of a sentence
        (?P<secret> [\w.~+/-]{8,} =* )
        """),
    Shape("password", "://", r"""
        (?P<user> [^\s/?#@:"'<>`\\]{0,100} ) :
        (?! (?P=user) @                             # root:root, as in examples
          | [$({<*]                                 # what stands for one: ${TOKEN}
          | \[REDACTED | %[(s] | \.\.\. )
        (?P<secret> (?: [^\s/?#@"'<>`\\] | \\[^bfnrt"/] ){1,200} ) @
        (?! sha256: )                               # of a container's image
        (?= [\w\[$({<] )                            # a host, or what stands for one
        """),
]

# The other half of an AWS key often stands near its id, with no word before it. Forty
# hex digits are a commit.
LONE_SECRET_KEY = re.compile(
    r"(?:(?<![A-Za-z0-9/+=\\])|(?<=\\[nrt]))(?![0-9a-f]{40})"
    "[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=])"
)
NEAR_KEY_ID = 300                          # characters after the id

NO_PASSWORD = re.compile(r"[A-Z_]+|(.)\1*")         # YOUR_TOKEN, xxxxxxxx


# --- signs: a fast look for the words -------------------------------------------------

# Python's re is slow where a match may begin with any of many characters, and fast
# where it begins with one. So the words are grouped by a character that all of a group
# have in them, and that is rare in transcripts: it is looked for, and only then what
# stands before and after it is compared. In order of preference:
RARE_CHARACTERS = "JKBzTI_.-:b"


class _Group:
    """The words that are looked for by the same rare character, and their Shapes."""

    def __init__(self, char, shape_of):
        self.char = char
        self.shape_of = shape_of
        # Of two words that begin in the same way the longer one is meant.
        self.words = sorted(shape_of, key=len, reverse=True)
        # The rare character, behind one of those that any of the words has there: none,
        # if one begins with it.
        pattern = re.escape(char)
        before = {word[:word.index(char)][-1:] for word in self.words}
        if "" not in before:
            pattern += f"(?<=[{re.escape(''.join(sorted(before)))}]{pattern})"
        parts = []
        for word in self.words:     # each with a group, whose number tells which it is
            head, _, tail = word.partition(char)
            parts.append(f"(?<={re.escape(head + char)}){re.escape(tail)}()")
        self.pattern = re.compile(f"{pattern}(?:{'|'.join(parts)})")

    def signs(self, text, start):
        """Yield the Sign of each of the words in text, from start on."""
        for match in self.pattern.finditer(text, start):
            word = self.words[match.lastindex - 1]
            at = match.start() - word.index(self.char)
            yield Sign(at, self.shape_of[word])


def _grouped():
    """All words, in their groups."""
    shapes = {char: {} for char in RARE_CHARACTERS}
    for shape in SHAPES:
        for word in shape.words:
            char = next(char for char in RARE_CHARACTERS if char in word)
            shapes[char][word] = shape
    return [_Group(char, shape_of) for char, shape_of in shapes.items()]


_GROUPS = _grouped()


def signs_in(text, start=0):
    """Where in a text secrets may begin, as Signs in order, from start on."""
    found = []
    for group in _GROUPS:
        found += group.signs(text, start)
    found.sort(key=lambda sign: sign.at)
    return found


# --- escapes --------------------------------------------------------------------------

ESCAPED = re.compile(r"\\u00([0-7][0-9A-Fa-f])|\\(/)")       # as JSON may write it


class _Plain:
    """A text with the characters themselves where it escapes them.

    start: where in it a place in that text is.
    """

    def __init__(self, text, start):
        self.text = text
        self.start = start
        # Where each of those characters ends in it, and how much shorter it is by then.
        self._ends = array("i")
        self._shorter = array("i")
        parts = []
        done = shorter = 0
        for begin in merge(_places(text, "\\u00"), _places(text, "\\/")):
            match = ESCAPED.match(text, begin)
            if not match:
                continue
            while begin > done and text[begin - 1] == "\\":
                begin -= 1          # JSON that is a string in JSON has more of them
            if begin > done:
                parts.append(text[done:begin])
            parts.append(_unescaped(match))
            done = match.end()
            shorter += done - begin - 1
            self._ends.append(done - shorter)
            self._shorter.append(shorter)
            if begin < start:
                self.start = max(start, done) - shorter
        if parts:
            self.text = "".join([*parts, text[done:]])

    def origin(self, at):
        """Where in the text that was given a place in it is."""
        count = bisect(self._ends, at)
        return at + self._shorter[count - 1] if count else at


def _places(text, word):
    """Yield where a word stands in a text. (To look for a pattern takes longer.)"""
    at = text.find(word)
    while at >= 0:
        yield at
        at = text.find(word, at + 1)


def _unescaped(match):
    char = match[2] or chr(int(match[1], 16))
    return "'" if char == '"' else char     # an escaped quote ends no string


# --- secrets --------------------------------------------------------------------------


def secrets_in(text, start=0):
    """Yield a Secret for each one in a text, in order, from start on."""
    plain = _Plain(text, start)
    for secret in _secrets_in(plain.text, plain.start):
        yield secret._replace(
            sign=plain.origin(secret.sign),
            start=plain.origin(secret.start),
            end=plain.origin(secret.end),
        )


def _secrets_in(text, start):
    end = start                     # of the last secret
    key_id = None                   # the last one of AWS, until its other half comes
    for sign in signs_in(text, start):
        if sign.at < end:
            continue
        secret = _secret_at(text, sign)
        if secret is None:
            continue
        if key_id:
            lone = _lone_key(text, key_id, end, secret.start)
            yield from lone
            if lone:
                key_id = None
        yield secret
        end = secret.end
        if secret.kind == AWS_KEY_ID:
            key_id = secret
    if key_id:
        yield from _lone_key(text, key_id, end, len(text))


def _secret_at(text, sign):
    """The Secret that begins with a sign; None if nothing of its shape follows."""
    match = sign.shape.match(text, sign.at)
    if not match:
        return None
    start, end = match.span("secret")
    kind = sign.shape.kind
    if kind in CHOSEN and _is_something_else(text, start, end):
        return None
    return Secret(sign.at, start, end, kind, marker(kind, text[start:end]))


def _is_something_else(text, start, end):
    """Is a password a placeholder, or a token whose own shape says more?"""
    if NO_PASSWORD.fullmatch(text, start, end):
        return True
    for sign in signs_in(text[start:end]):
        if sign.at == 0 and sign.shape.match(text, start):
            return True
    return False


def _lone_key(text, key_id, start, end):
    """[the secret key] that stands near an AWS key id in a part of a text, or []."""
    end = min(end, key_id.end + NEAR_KEY_ID)
    match = start < end and LONE_SECRET_KEY.search(text, start, end)
    if not match:
        return []
    mark = marker(AWS_SECRET_KEY, match[0])
    return [Secret(key_id.sign, *match.span(), AWS_SECRET_KEY, mark)]


def marker(kind, secret):
    """What stands for a secret."""
    if kind in CHOSEN:
        return f"[REDACTED:{kind}]"
    import hashlib  # 2 to 3 ms

    if kind == PRIVATE_KEY:
        # However its lines begin (a diff's with +) and end.
        secret = re.sub(r"\\[nrt]|[^A-Za-z0-9/=]", "", secret)
    else:
        secret = re.sub(COLOUR_CODE, "", secret)
    digest = hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
    return f"[REDACTED:{kind}:{digest[:8]}]"
