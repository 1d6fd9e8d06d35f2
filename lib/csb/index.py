"""the table of sessions: its schema, how it is read, and what is there, gone or moved

csb-index writes it, CSB_HOME/session-backup.db, an SQLite database. It is disposable:
csb-index --rebuild makes it anew, from disk and git. A reader:

    for session in sessions(require_index(args), words=["parser"]):
        if session.state == "deleted":
            sys.stdout.write(session.text + "\\n")      # the record as a line
            print(session.record["title"])              # the same as a dict

What the index noted may be out of date, so each row is compared with the disk when it
is read (Disk), and the record says what is true now. The rows are copied, and the
database is closed, before the first session is given: whoever pipes into a pager keeps
nobody waiting.
"""
import json
import os
import re
import stat
import sys
from collections import namedtuple
from itertools import chain

from csb import ABSENT, RETRY, Error, before_dashes, encode, say, utc_ns
from csb.files import (
    has_nothing,
    is_file_or_link,
    move_over,
    read_blocks,
    remove_file,
    without_waiting,
)
from csb.places import INDEX_NAME, claude_dir, csb_home, link_away
from csb.session import key_of, nfc, transcript_in, transcripts_on_disk, with_project

# States of a session. missing: all of projects/ is, which nobody does on purpose.
PRESENT = "present"
HUSK = "husk"                   # its transcript is gone, other files of it are there
DELETED = "deleted"
MISSING = "missing"
GONE_STATES = (DELETED, MISSING)

# path: the transcript's, which is what a session is known by. It, root, project and
# session_id are JSON, for a name may be no UTF-8. seen: "SIZE MTIME" of the transcript
# when csb-index parsed it, and the title in a file beside it; "gone", or NULL if it
# never did. words: what csb-list looks in. record: the session's record. The others are
# what csb-index wants to know next time: parsed and prefix, how many bytes it has
# parsed, and their SHA-1; facts, what they said; counted, hashes of the ids of the
# messages that were counted.
SESSION_COLUMNS = """
    path root project session_id seen state size messages started last_active purge_at
    words record parsed prefix facts counted
""".split()
SESSION_TABLE = (
    f"CREATE TABLE session ({', '.join(SESSION_COLUMNS)}, PRIMARY KEY (path))"
)
# The commit of the store up to which all of its sessions are known.
HEARD_TABLE = "CREATE TABLE heard (commit_id)"
INDEX_TABLES = [SESSION_TABLE, HEARD_TABLE]
INDEX_VERSION = 0x63736208      # the last byte counts

# csb starts a reader before the index is up to date, for to start takes a while: this
# names a pipe that ends when it is.
INDEX_READY = "CSB_WAIT"
INDEX_WAIT = 10                 # seconds for whoever writes
_JOURNAL_END = "-journal"       # of the name of what SQLite keeps beside a database
SEEN_GONE = "gone"


def index_path(args):
    """Where the index lies, or would lie, once csb has brought it up to date."""
    pipe = os.environ.pop(INDEX_READY, "")
    if pipe.isdecimal():
        with open(int(pipe), "rb") as end:
            end.read()
    return os.path.join(csb_home(args), INDEX_NAME)


def require_index(args):
    """The path of the index; Error with status 3 if there is none."""
    path = index_path(args)
    if os.path.exists(path) and os.path.getsize(path):
        return path
    text = f"cannot find an index at '{path}'"
    projects = os.path.join(claude_dir(args), "projects")
    if has_nothing(projects):
        text += f", nor anything in '{projects}' (is Claude Code installed?)"
        raise Error(f"{text}: {link_away(projects) or WHAT_IF_AWAY}", ABSENT)
    raise Error(f"{text}: csb-index --rebuild makes one", ABSENT)


# --- the command line of who lists sessions -------------------------------------------


def parse_words(options, name):
    """The options of the command line, with words in any place; name: of their list."""
    words, behind = before_dashes(sys.argv[1:])
    # It stops at the first words: those behind the next option are the rest.
    args, rest = options.parse_known_args(with_project(words))
    for word in rest:
        if word.startswith("-"):
            options.error(f"unrecognized arguments: {word}")
    getattr(args, name).extend(rest + behind)
    return args


# --- reading --------------------------------------------------------------------------


class IndexedSession(namedtuple("IndexedSession", "state text")):
    """A session of the index, as it is on disk now. text: its record as JSON."""

    @property
    def record(self):
        return json.loads(self.text)


def sessions(path, words=(), project=None, session_id=None, order="-last_active"):
    """Yield the IndexedSession of each row of the index at a path that is asked for.

    words: all of them stand in title, project or folders, or one is a part of the id.
    project: of this folder below projects. session_id: a whole id, in either case.
    order: by last_active, purge_at, started, messages or size; "-" before it puts the
    largest first. Those without such a value come last.

    Error at the call, in one sentence with what to type, if the index is busy (status
    75), damaged, or of another version.
    """
    import sqlite3

    where, values = _condition(words, project, session_id)
    column = order.lstrip("-")
    direction = "DESC" if order.startswith("-") else "ASC"
    copy = scratch()
    try:
        copy.execute("ATTACH ? AS source", [database_uri(path)])
        copy.execute("BEGIN")
        check_version(copy, "source")
        copy.execute(
            "CREATE TABLE found AS SELECT root, record, path, trim(session_id, '\"'), "
            f"state, seen, parsed, prefix FROM session WHERE {where} ORDER BY "
            f"{column} IS NULL, {column} {direction}, session_id, project, root, path",
            values,
        )
        copy.execute("CREATE TABLE known AS SELECT path FROM session")
        copy.execute("COMMIT")
        copy.execute("DETACH source")
    except sqlite3.DatabaseError as error:
        raise unusable_index(path, error) from None
    return _as_they_are(copy)


def _condition(words, project, session_id):
    """The SQL condition for the rows that are asked for, and its values."""
    tests = ["1"]
    values = []
    if project is not None:
        tests.append("project = ?")
        values.append(encode(project))
    if session_id is not None:
        tests.append("lower(session_id) = ?")
        values.append(encode(key_of(session_id)))
    for word in words:
        word = folded(word)
        test = "instr(words, ?)"
        values.append(word)
        if re.fullmatch("[0-9a-f-]{4,36}", word):
            # In either case; the id stands between quotes.
            test += " OR session_id LIKE ? OR session_id LIKE ?"
            values += [f'"{word}%', f'%{word}"']
        tests.append(f"({test})")
    return " AND ".join(tests), values


def folded(text):
    """A text in the form in which words are looked for: no case, one spelling."""
    return nfc(text).casefold().encode("utf-8", "replace").decode()


def _as_they_are(copy):
    """Yield the IndexedSessions of the rows found, compared with the disk."""
    disks = {}
    rows = copy.execute("SELECT * FROM found ORDER BY rowid")
    for root, text, path, *noted in rows:
        if root not in disks:
            disks[root] = Disk(json.loads(root))
            if disks[root].is_missing:
                say_missing(disks[root])
        disk = disks[root]
        row = SessionRow(json.loads(path), *noted)

        state = disk.state_of(row)
        moved_to = disk.moved_to(row) if state == DELETED else None
        if moved_to is not None:
            key = [encode(moved_to)]
            if not copy.execute("SELECT 1 FROM known WHERE path = ?", key).fetchone():
                yield IndexedSession(PRESENT, _as_it_is(text, PRESENT, moved_to))
            continue
        if state != row.state:
            text = _as_it_is(text, state)
        yield IndexedSession(state, text)


def _as_it_is(text, state, moved_to=None):
    """The record (as JSON) of a session of which the index does not know the state, or
    that it goes on at another path."""
    record = json.loads(text)
    record["state"] = state
    record.pop("purge_at" if state in GONE_STATES else "deleted_at", None)
    if moved_to:
        inner = os.path.relpath(moved_to, record["root"])
        record["project"], record["session_id"], _ = transcript_in(inner)
        record["transcript_path"] = moved_to
    return encode(record)


# --- databases, this one and that of csb-search ---------------------------------------


def scratch(*tables):
    """A connection to a database for what memory may not hold, with these tables.

    It is nobody else's, and gone with the connection: SQLite's own temporary file.
    """
    import sqlite3

    database = sqlite3.connect("", INDEX_WAIT, isolation_level=None, uri=True)
    database.execute("PRAGMA journal_mode = OFF")
    for table in tables:
        database.execute(f"CREATE TABLE {table}")
    return database


def check_version(database, name="main"):
    """DatabaseError if a database has not exactly our tables in it.

    name: that of the database in a connection.
    """
    (version,) = database.execute(f"PRAGMA {name}.user_version").fetchone()
    rows = database.execute(f"SELECT sql FROM {name}.sqlite_master WHERE type='table'")
    if version != INDEX_VERSION or [sql for (sql,) in rows] != INDEX_TABLES:
        raise database.DatabaseError("not an index of this version")


def database_uri(path):
    """A file's name as SQLite opens it without making it."""
    # Not read-only: what a killed writer left has to be rolled back first.
    name = ""
    for byte in os.fsencode(path):
        is_odd = byte > 127 or byte in b"%?#"
        name += f"%{byte:02x}" if is_odd else chr(byte)
    return f"file:{name}?mode=rw"


def is_busy(error):
    """Does an error of SQLite's mean that another run is at the database?"""
    return "locked" in str(error)


def is_damage(error):
    """Does an error of SQLite's mean that the database has to be made anew?"""
    import sqlite3

    if not isinstance(error, sqlite3.OperationalError):
        return True
    text = str(error)
    return "no such" in text or "decode" in text


def unusable(name, error, remedy=""):
    """The Error for a database that is busy, or that cannot be used.

    name: what people are to read for it. remedy: what helps if it is damaged.
    """
    if is_busy(error):
        return Error(f"cannot use {name}: another run is at it", RETRY)
    reason, _, _ = str(error).partition(": file:")     # its name as SQLite has it
    if is_damage(error):
        reason += remedy
    elif "is full" in reason:
        reason += " (its own, or that of temporary files: SQLITE_TMPDIR, TMPDIR)"
    return Error(f"cannot use {name}: {reason}")


def unusable_index(path, error):
    remedy = ": csb-index --rebuild makes it anew"
    return unusable(f"the index '{path}'", error, remedy)


def keep_aside(path):
    """Give a damaged database another name (.bad), so that a new one can be made."""
    for end in (_JOURNAL_END, ""):      # a journal alone would spoil the new one
        if os.path.lexists(path + end):
            move_over(path + end, path + ".bad" + end)


def remove_database(path):
    for end in (_JOURNAL_END, ""):
        remove_file(path + end)


# --- what is there --------------------------------------------------------------------

WHAT_IF_AWAY = (
    "is a disk not mounted? If all is gone, csb restore --deleted brings it back"
)

_said_missing = set()           # Claude directories

# What the index says of a session that may be gone; see SESSION_COLUMNS.
SessionRow = namedtuple("SessionRow", "path session_id state seen parsed prefix")


def say_missing(disk):
    """Ask, once, whether a disk is away: nobody deletes all sessions on purpose."""
    if disk.root not in _said_missing:
        _said_missing.add(disk.root)
        gone = f"cannot find anything in '{disk.projects}': {WHAT_IF_AWAY}"
        say(link_away(disk.projects) or gone)


def note_said(root):
    """Somebody has said that nothing is in the projects of a Claude directory."""
    _said_missing.add(root)


class Disk:
    """What is there of the sessions of one Claude directory.

    Gone is only what is not there while the folder above it can be listed. Whatever
    else goes wrong (no permission, a network that is down) leaves the index's word.

    is_missing: is projects/ missing, or nothing in it?
    """

    def __init__(self, root):
        self.root = root
        self.projects = os.path.join(root, "projects")
        self.is_missing = has_nothing(self.projects)
        self._listed = {}       # {folder: can it be listed?}
        self._transcripts = None    # {key of an id: paths}, once it is needed

    def state_of(self, row):
        """The state of a SessionRow's session, as it is now.

        What else a husk has only csb-index knows.
        """
        if self.is_missing:
            return DELETED if row.state == DELETED else MISSING
        if row.state in (HUSK, DELETED):
            return PRESENT if has_come(row) else row.state
        return DELETED if self.is_gone(row.path) else PRESENT

    def is_gone(self, path):
        """Is nothing at the path of a transcript, for sure?

        A directory or FIFO that has the name of a transcript is none.
        """
        try:
            return not is_file_or_link(os.lstat(path))
        except (FileNotFoundError, NotADirectoryError):
            return self._is_listed(os.path.dirname(path))
        except (OSError, ValueError):
            return False

    def _is_listed(self, folder):
        """Can a folder be listed, or is it gone while the one above can be listed?"""
        if folder not in self._listed:
            may_be_away = os.path.islink(folder) or folder == self.projects
            try:
                is_listed = os.listdir(folder) != [] or not may_be_away
            except (FileNotFoundError, NotADirectoryError):
                above = os.path.dirname(folder)
                is_listed = not may_be_away and self._is_listed(above)
            except OSError:
                is_listed = False
            self._listed[folder] = is_listed
        return self._listed[folder]

    def moved_to(self, row):
        """Where a SessionRow's session, which is gone, goes on: a path, or None.

        That is a transcript of the same id, in another project, that begins with the
        bytes that were parsed.
        """
        if row.parsed:
            for path in self.others(row):
                if begins_with_parsed(path, row.parsed, row.prefix):
                    return path
        return None

    def others(self, row):
        """The paths of the transcripts of the same id in other projects."""
        if self._transcripts is None:
            self._transcripts = transcripts_on_disk(self.root)
        found = self._transcripts.get(key_of(row.session_id), ())
        paths = [os.path.join(self.root, name) for name in found]
        return [path for path in paths if path != row.path]


def has_come(row):
    """Is there a transcript at the path of a SessionRow, which had none?

    Claude Code leaves stubs where one was deleted: csb-index saw this one and found no
    good line in it, or it is shorter than what was deleted.
    """
    try:
        found = os.stat(row.path)
    except (OSError, ValueError):
        return False
    if not stat.S_ISREG(found.st_mode) or found.st_size < (row.parsed or 1):
        return False
    stamp = f"{found.st_size} {utc_ns(found.st_mtime_ns)}"
    return row.seen is None or not row.seen.startswith(stamp)


def begins_with_parsed(path, parsed, prefix):
    """Have the first bytes of a file, so many, this SHA-1?"""
    try:
        with open(path, "rb", opener=without_waiting) as file:
            blocks = read_blocks(file, parsed)
            return ParsedPrefix().after(blocks, parsed, prefix) is not None
    except OSError:
        return False


def rest_of(open_blocks, parsed, sha1):
    """(ParsedPrefix, the blocks after it) of a transcript whose start was read before.

    The prefix is empty if the transcript does not begin so any more. open_blocks: a
    function that gives the blocks of it. parsed, sha1: of the start; 0: none.
    """
    if parsed:
        prefix = ParsedPrefix()
        blocks = prefix.after(open_blocks(), parsed, sha1)
        if blocks is not None:
            return prefix, blocks
    return ParsedPrefix(), open_blocks()


class ParsedPrefix:
    """The SHA-1 of a transcript up to its last newline, while it is read.

        prefix, blocks = rest_of(open_blocks, parsed, sha1)
        for block in prefix.watched(blocks): ...

    length: how many bytes that are. digest: the hash of them.
    """

    def __init__(self):
        import hashlib

        self.length = 0
        self.digest = hashlib.sha1()

    def after(self, blocks, length, sha1):
        """The blocks after the first bytes, so many; None if these have another SHA-1.
        """
        for block in blocks:
            start = block[:length - self.length]
            self.digest.update(start)
            self.length += len(start)
            if self.length == length:
                if self.digest.hexdigest() != sha1:
                    return None
                return chain([block[len(start):]], blocks)
        return None

    def watched(self, blocks):
        """Yield blocks as they come."""
        ahead = self.digest.copy()
        size = self.length
        for block in blocks:
            cut = block.rfind(b"\n") + 1
            if cut:
                ahead.update(block[:cut])
                self.digest = ahead.copy()
                self.length = size + cut
            ahead.update(block[cut:])
            size += len(block)
            yield block
