"""ids of sessions, which path belongs to which session, and which project to a folder

A session is known by its project and its id, a UUID. Ids are compared without case and
kept as the disk has them: Claude Code takes --session-id in either case and names the
files as it was typed. The key of an id (key_of) is its lower-case form.

Paths are relative to the Claude directory, with "/": what a session consists of is

    projects/<project>/<id>.jsonl              its transcript
    projects/<project>/<id>/...                subagents, outputs of tools
    projects/<project>/agent-*.jsonl           subagents of older versions: their first
                                               record names the session
    file-history/<id>/... todos/<id>-*.json    and any other path with a component that
                                               contains the id
    plans/<slug>.md                            whose slug the transcript names
"""
import json
import os
import re
import time
from collections import namedtuple

from csb import MISUSE, Error, from_utc, warn, why
from csb.files import without_waiting
from csb.places import is_inside, read_json

_HEX = "[0-9a-fA-F]"
ID = re.compile(f"{_HEX}{{8}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{4}}-{_HEX}{{12}}")
# An id within a component: what is beside it is no hex digit.
_ID_WITHIN = re.compile(f"(?<!{_HEX}){ID.pattern}(?!{_HEX})")
_TRANSCRIPT = re.compile(rf"projects/([^/]+)/({ID.pattern})\.jsonl")
# The name of a transcript, or of a copy that a person made of one, or a program which
# keeps folders in step: "Copy of ID", "ID.sync-conflict-...", "ID (1)", "ID.jsonl.bak",
# "ID.jsonl.conflict1", "ID.jsonl.2026-11-02".
_COPY = (
    rf"(?!agent-).*?{_ID_WITHIN.pattern}.*\.jsonl"
    r"(?:~|\.+(?i:backup|bak|broken|conflict|copy|corrupt(?:ed)?|old|orig|path|save)?"
    r"[0-9TZ._:-]*)?"
)
_FLAT_AGENT = re.compile(r"projects/[^/]+/agent-[^/]*\.jsonl")

FIRST_LINE = 1 << 20            # bytes; a subagent's first record is short
SHORTEST = 4                    # digits of an id that may name it
NAMED_AT_MOST = 20              # ids in a message
SHOWN_OF_TITLE = 60             # characters


def is_id(text):
    """Is the text a whole id?"""
    return ID.fullmatch(text) is not None


def key_of(session_id):
    """The form of an id by which sessions are compared."""
    return session_id.lower()


def ids_in(path):
    """The ids of the sessions that a path belongs to by its name, as the path has them.

    A project is no part of a session: its name may hold an id that was in the name of
    a folder.
    """
    if path.startswith("projects/"):
        path = path.partition("/")[2].partition("/")[2]
    return list(dict.fromkeys(_ID_WITHIN.findall(path)))


def project_of(path):
    """The project that a path lies in, None if it lies in none."""
    parts = path.split("/")
    return parts[1] if parts[0] == "projects" and len(parts) > 2 else None


class Spellings:
    """Ids as the names of transcripts spell them, found in either case."""

    def __init__(self, ids):
        self._spelled = {}      # {key: the spellings that there are}
        for session_id in ids:
            self._spelled.setdefault(key_of(session_id), []).append(session_id)

    def of(self, session_id):
        """The spelling of an id: its own if it is one; unknown, it becomes one."""
        known = self._spelled.setdefault(key_of(session_id), [session_id])
        return session_id if session_id in known else known[0]


Transcript = namedtuple("Transcript", "project session_id place")


def transcript_in(path):
    """The Transcript at a path where Claude Code looks, else None. Its place is None.
    """
    match = _TRANSCRIPT.fullmatch(path)
    return match and Transcript(match[1], match[2], None)


def any_transcript_in(path):
    """The Transcript at a path, wherever that is, else None."""
    return transcript_in(path) or odd_transcript_in(path)


def odd_transcript_in(path):
    """The Transcript at a path where Claude Code does not look, else None.

    place: "deeper", below a folder of the project, or "copy", beside the transcript.
    """
    if not path.startswith("projects/") or ".jsonl" not in path:
        return None
    _, *folders, name = path.split("/")
    if not folders or transcript_in(path) or not re.fullmatch(_COPY, name, re.S):
        return None
    project = folders.pop(0)
    session_id = _ID_WITHIN.search(name)[0]
    # What lies in a session's own folder is its own, but for another one's transcript.
    if any(map(is_id, folders[:-1])):
        return None
    if folders and key_of(folders[-1]) == key_of(session_id):
        return None
    return Transcript(project, session_id, "deeper" if folders else "copy")


def is_flat_agent(path):
    """Is it a subagent's transcript beside those of sessions, as older versions had?"""
    return _FLAT_AGENT.fullmatch(path) is not None


def owner_of_agent(first_line):
    """The id of the session that a flat agent file's first record names, else None."""
    try:
        record = json.loads(first_line)
    except (ValueError, RecursionError):
        return None
    session_id = record.get("sessionId") if isinstance(record, dict) else None
    if isinstance(session_id, str) and is_id(session_id):
        return session_id
    return None


def agent_file_owner(path):
    """The id of the session that the flat agent file at a path on disk belongs to.

    None if its first record names none; OSError if it cannot be read.
    """
    with open(path, "rb", opener=without_waiting) as file:
        return owner_of_agent(file.readline(FIRST_LINE))


def owner_of(path):
    """What agent_file_owner() says; None of a file that is gone, or cannot be read,
    which is said."""
    try:
        return agent_file_owner(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        warn(f"cannot read '{path}': {why(error)}")
    return None


def transcripts_on_disk(root):
    """{key of an id: [path below root]} of the transcripts in a Claude directory."""
    found = {}
    for project in _names_in(os.path.join(root, "projects")):
        for name in _names_in(os.path.join(root, "projects", project)):
            path = f"projects/{project}/{name}"
            transcript = transcript_in(path)
            if transcript:
                found.setdefault(key_of(transcript.session_id), []).append(path)
    return found


def _names_in(folder):
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []               # whoever lists the sessions says so


class ProjectLinks:
    """Which links at projects, or below it, lead to directories to be walked, too.

    Those that lead outside of projects/, as if it were on another disk. Each directory
    is walked once, so that loops come to an end.
    """

    def __init__(self, root):
        self.projects = os.path.realpath(os.path.join(root, "projects"))
        self.walked = [self.projects]

    def leads_out(self, path):
        """Does the link at path lead to such a directory? It counts as walked then."""
        real = os.path.realpath(path)
        if not os.path.isdir(real) or is_inside(self.projects, real):
            return False
        if any(is_inside(real, done) for done in self.walked):
            return False
        self.walked.append(real)
        return True


def plans_named(blocks):
    """The slugs of the plans that a transcript (blocks of bytes) names."""
    slug = re.compile(rb'"slug": ?"([\w-]{1,200})"')
    found = set()
    rest = b""
    for block in blocks:
        text = rest + block
        found.update(slug.findall(text))
        rest = text[-220:]      # a name may be cut by the end of a block
    return {word.decode() for word in found}


def names_id(word, session_id):
    """Does a word that a person typed name this id, whole or in part?"""
    word = key_of(word)
    key = key_of(session_id)
    if len(word) < SHORTEST:
        return False
    return key.startswith(word) or key.endswith(word)


def word_in(record):
    """What a record names a session by: session_id, else the id in transcript_path.

    None if it names none.
    """
    word = record.get("session_id")
    path = record.get("transcript_path")
    if not word and isinstance(path, str):
        stem = os.path.basename(path).removesuffix(".jsonl")
        return stem if is_id(stem) else None
    return word if isinstance(word, str) and word else None


def with_project(words):
    """The words of a command line, with --project and its value as one: the names of
    projects begin with a dash."""
    words = list(words)
    if "--project" in words[:-1]:
        at = words.index("--project")
        words[at:at + 2] = [f"--project={words[at + 1]}"]
    return words


def pick(word, ids, about=None):
    """The one id of ids that a word names: whole, or by 4 digits of an end or more.

    Of two that differ in their case alone it may be the one that is spelled so. Error
    if none is meant (status 1) or several are (2). about: a function that tells an id
    from others, as when_and_title() does.
    """
    if word in ids:
        return word
    key = key_of(word)
    found = {one for one in ids if key_of(one) == key}
    if not found and not is_id(word):
        found = {one for one in ids if names_id(word, one)}
    found = sorted(found)
    if len(found) == 1:
        return found[0]
    if found:
        lines = found[:NAMED_AT_MOST]
        if about:
            lines = [f"{one}  {about(one)}".rstrip() for one in lines]
        text = f"'{word}' names {len(found)} sessions, which of them?"
        raise Error(text, MISUSE, lines)
    if len(word) < SHORTEST:
        raise Error(f"'{word}' names no session: {SHORTEST} digits are needed")
    raise Error(
        f"cannot find session '{word}': csb list --all shows them, csb search WORDS "
        "looks in what was said, csb restore --deleted brings back all that are gone"
    )


def when_and_title(last_active, title):
    """What tells a session from others: when it was used last, and what it is called.

    Either may be unknown, None.
    """
    when = "-"
    try:
        seconds = from_utc(last_active) // 10**9
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
    except (ValueError, OverflowError):
        pass
    return f"{when}  {(title or '(untitled)')[:SHOWN_OF_TITLE]}"


# --- folders and their projects -------------------------------------------------------


def nfc(text):
    """A text in the one spelling in which all texts are compared."""
    if text.isascii():
        return text
    from unicodedata import normalize

    return normalize("NFC", text)


# Paths of other systems count, too: a transcript may have come from one.
_WINDOWS = re.compile(r"[A-Za-z]:[\\/]|\\\\")
_WHOLE_PATH = r"((?:/|~(?=[/=]|$)|[A-Za-z]:[\\/]|\\\\).*"
_OLD_AND_NEW = f"{_WHOLE_PATH}?)={_WHOLE_PATH})"

SLUG_LENGTH = 200               # characters; of a longer name the rest becomes a hash
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def slug_of(folder, projects=None):
    """The name that Claude Code gives to a folder's project.

    Each UTF-16 unit of its real path that is no ASCII letter or digit becomes "-". The
    hash of a long name differs between versions of Claude Code: if there is just one
    directory in projects (a path) that begins alike, it is that.
    """
    if not _WINDOWS.match(folder):
        try:
            folder = os.path.realpath(folder)
        except ValueError:      # it holds a NUL, or what is no character
            pass
    data = folder.encode("utf-16-le", "surrogatepass")
    units = [data[at] + 256 * data[at + 1] for at in range(0, len(data), 2)]
    name = re.sub("[^a-zA-Z0-9]", "-", "".join(map(chr, units)))
    if len(name) <= SLUG_LENGTH:
        return name
    there = _names_in(projects) if projects else []
    if name in there:
        return name             # before 2.1 Claude Code did not shorten it
    start = name[:SLUG_LENGTH] + "-"
    alike = [one for one in there if re.fullmatch(re.escape(start) + "[a-z0-9]+", one)]
    if len(alike) == 1:
        return alike[0]
    return start + _hash_of(units)


def slugs_of(folder, projects=None):
    """What a folder's project may be called: Claude Code takes its name in NFC, and a
    version or a system that does not as it is."""
    return {slug_of(folder, projects), slug_of(nfc(folder), projects)}


def _hash_of(units):
    """JavaScript's customary hash of a string, a number of 32 bits, to the base 36."""
    number = 0
    for unit in units:
        number = (number * 31 + unit) & 0xFFFFFFFF
    if number >= 1 << 31:       # Math.abs of a number with a sign
        number = (1 << 32) - number
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = DIGITS[digit] + digits
    return digits or "0"


class FolderMap:
    """What has become of folders: OLD=NEW, two whole paths, of any system.

    OLD means itself and what is below it, never half a name; upper and lower case
    count, two spellings of a letter (NFC, NFD) do not. Of several that match the
    longest is taken, once. ~ is the home directory.
    """

    def __init__(self, words):
        pairs = {}
        for word in words:
            match = re.fullmatch(_OLD_AND_NEW, word, re.S)
            if not match:
                raise Error(
                    f"cannot use '{word}': OLD=NEW takes the whole path of a folder on "
                    "both sides", MISUSE
                )
            old, new = map(os.path.expanduser, match.groups())
            if pairs.setdefault(nfc(_without_end(old)), new) != new:
                raise Error(f"'{old}' is mapped twice", MISUSE)
        self._pairs = sorted(pairs.items(), key=lambda pair: -len(pair[0]))

    def __bool__(self):
        return bool(self._pairs)

    def new_path(self, path):
        """What a path is now, None if it is below no OLD."""
        for old, new in self._pairs:
            rest = _rest_below(old, path)
            if rest is not None:
                return _joined(old, new, rest)
        return None


def _without_end(path):
    """A path without a separator at its end: of / nothing is left, of C:\\ the C:."""
    return path.rstrip("\\/" if _WINDOWS.match(path) else "/")


def _rest_below(old, path):
    """What follows a folder's path, empty or the name of something in it, as it is
    spelled; None if the path is not below it."""
    ends = r"/\\" if is_windows(old) else "/"
    depth = len(re.findall(f"[{ends}]", old))
    start = re.match(f"([^{ends}]*[{ends}]){{{depth}}}[^{ends}]*", path)
    if start and nfc(start[0]) == old:
        return path[start.end():]
    return None


def _joined(old, new, rest):
    """The path NEW + rest, with the separators of NEW's system."""
    if is_windows(old) and not is_windows(new):
        rest = rest.replace("\\", "/")
    elif is_windows(new) and not is_windows(old):
        rest = rest.replace("/", "\\")
    base = _without_end(new)
    if rest.strip("\\/"):
        return base + rest
    if len(base) > 2 or base.startswith("/"):
        return base
    return new                  # / or C:\, of which the separator is a part


def is_windows(path):
    """Is it a whole path of Windows?"""
    return _WINDOWS.match(path + "\\") is not None


# --- open sessions --------------------------------------------------------------------


# key: of the session's id. process: its number. path: of the file that says so.
OpenNote = namedtuple("OpenNote", "key process path")


def open_notes(root):
    """Yield an OpenNote of each session that is open.

    Each running Claude Code notes its session in a file of the Claude directory (root).
    """
    folder = os.path.join(root, "sessions")
    for name in _names_in(folder):
        if not name.endswith(".json"):
            continue
        path = os.path.join(folder, name)
        try:
            note = read_json(path)
            session_id = note["sessionId"]
            process = int(note["pid"])
            if isinstance(session_id, str) and is_alive(process):
                yield OpenNote(key_of(session_id), process, path)
        except (OSError, ValueError, KeyError, TypeError, OverflowError):
            continue            # half written, or of something else


def is_alive(process):
    """Is there a process of that number, whoever it belongs to?"""
    if os.name == "nt":         # where os.kill(process, 0) is Ctrl-C
        from subprocess import getoutput

        words = f'tasklist /NH /FO CSV /FI "PID eq {process}"'
        return f'"{process}"' in getoutput(words)
    if process <= 0:
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:     # somebody else's is alive, too
        pass
    return True
