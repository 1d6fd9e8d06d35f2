"""the table of sessions: its schema, how it is read, and what is there, gone or moved

csb-index writes it, CSB_HOME/session-backup.db, an SQLite database. It is disposable:
csb-index --rebuild makes it anew, from disk and git. A reader:

    for session in sessions(index_path(args), words=["parser"]):
        if session.state == "deleted":
            sys.stdout.write(session.text + "\\n")      # the record as a line
            print(session.record["title"])              # the same as a dict

What the index noted may be out of date, so each row is compared with the disk when it
is read (Disk), and the record says what is true now. The database is closed before the
first session is given: whoever pipes into a pager keeps nobody waiting.
"""
import json
import os
import re
import stat
import sys
from collections import namedtuple
from itertools import chain

from csb import ABSENT, FAILED, RETRY, Error, encode, say, utc_ns
from csb.files import (
    has_nothing,
    is_file_or_link,
    move_over,
    read_blocks,
    remove_file,
)
from csb.places import claude_dir, config_path, csb_home, link_away
from csb.session import (
    key_of,
    nfc,
    transcript_in,
    transcripts_on_disk,
    with_project,
)

# States of a session. missing: all of projects/ is, which nobody does on purpose.
PRESENT = "present"
HUSK = "husk"                   # its transcript is gone, other files of it are there
DELETED = "deleted"
MISSING = "missing"
GONE_STATES = (DELETED, MISSING)

# path: the transcript's, which is what a session is known by. It, root, project and
# session_id are JSON, for a name may be no UTF-8. seen: "SIZE MTIME" of the transcript
# when csb-index parsed it, and the title in a file beside it; "gone", or NULL if it
# never did. words: what csb-list looks
# in. record: the session's record. The others are what csb-index wants to know next
# time: parsed and prefix, how many bytes it has parsed, and their SHA-1; facts, what
# they said; counted, hashes of the ids of the messages that were counted.
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
INDEX_NAME = "session-backup.db"        # in CSB_HOME
INDEX_VERSION = 0x63736207      # the last byte counts
OTHER_VERSION = "not an index of this version"

INDEX_WAIT = 10                 # seconds for whoever writes
_JOURNAL_END = "-journal"       # of the name of what SQLite keeps beside a database
SEEN_GONE = "gone"


def wait_for_csb():
    """Wait until csb, which started us, has brought the index up to date.

    It started us before, because to start takes a while: CSB_WAIT is a pipe that ends.
    """
    pipe = os.environ.pop("CSB_WAIT", "")
    if pipe.isdecimal():
        with open(int(pipe), "rb") as end:
            end.read()


def index_path(args):
    """Where the index lies, or would lie."""
    wait_for_csb()
    return os.path.join(csb_home(args), INDEX_NAME)


# --- the command line of who lists sessions -------------------------------------------

PERIODS = {"h": 3600, "d": 86400, "w": 604800}      # seconds


def period(text):
    """Seconds of a time such as 12h, 7d or 2w; ValueError if it is none."""
    if not re.fullmatch("[0-9]{1,6}[hdw]", text):
        raise ValueError("it is no time")
    return int(text[:-1]) * PERIODS[text[-1]]


def parse_words(options, name):
    """The options of the command line, with words in any place; name: of their list.

    What follows --project may begin with a dash, as the names of projects do.
    """
    words = sys.argv[1:]
    behind = []
    if "--" in words:
        at = words.index("--")
        behind = words[at + 1:]
        words = words[:at]
    args = options.parse_intermixed_args(with_project(words))
    getattr(args, name).extend(behind)
    return args


# --- reading --------------------------------------------------------------------------


class IndexedSession:
    """A session of the index, as it is on disk now.

    state: present, husk, deleted or missing. text: its record as JSON. record: the same
    as a dict.
    """

    def __init__(self, state, text):
        self.state = state
        self.text = text

    @property
    def record(self):
        return json.loads(self.text)


def sessions(path, words=(), project=None, session_id=None, order="-last_active"):
    """Yield the IndexedSession of each row of the index at a path that is asked for.

    words: all of them stand in title, project or folders, or one is a part of the id.
    project: of this folder below projects. session_id: a whole id, in either case.
    order: by last_active, purge_at, started, messages or size; "-" before it puts the
    largest first. Those without such a value come last.

    Error at the call, in one sentence with what to type, if there is no index, or if it
    is damaged or of another version; its status is 3, 1 or 75 (busy).
    """
    where, values = _condition(words, project, session_id)
    column = order.lstrip("-")
    direction = "DESC" if order.startswith("-") else "ASC"
    copy = _copy(
        path,
        "SELECT path, root, session_id, state, seen, parsed, prefix, record "
        f"FROM filed.session WHERE {where} ORDER BY {column} IS NULL, "
        f"{column} {direction}, session_id, project, root, path",
        values,
    )
    return _as_they_are(copy)


def folded(text):
    """A text in the form in which words are looked for: no case, one spelling."""
    return nfc(text).casefold().encode("utf-8", "replace").decode()


def require_index(args):
    """The path of the index; Error with status 3 if there is none."""
    path = index_path(args)
    if os.path.exists(path) and os.path.getsize(path):
        return path
    text = f"cannot find an index at '{path}'"
    claude = claude_dir(args)
    projects = os.path.join(claude, "projects")
    is_away = has_nothing(projects)
    if is_away and has_backup(args):
        text += f", nor a session in '{claude}': {what_if_away(projects)}"
    elif is_away:
        text += f", nor a session in '{claude}': is Claude Code installed?"
    else:
        text += ": csb-index --rebuild makes one"
    raise Error(text, ABSENT)


def has_backup(args):
    """May there be a store, from which an index can be made, also if it is away?

    The places alone are looked at: git is not asked whether one of them is sound.
    """
    if args.git_dir or os.environ.get("CSB_GIT_DIR"):
        return True
    usual = os.path.join(csb_home(args), "git")
    places = (usual, config_path(args), os.path.join(claude_dir(args), ".git"))
    return any(map(os.path.lexists, places))


def check_version(database, schema):
    """DatabaseError if a database has not exactly our tables in it."""
    (version,) = database.execute(f"PRAGMA {schema}.user_version").fetchone()
    master = f"{schema}.sqlite_master"
    rows = database.execute(f"SELECT sql FROM {master} WHERE type = 'table'")
    if version != INDEX_VERSION or [sql for (sql,) in rows] != INDEX_TABLES:
        raise database.DatabaseError(OTHER_VERSION)


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
            # The id stands between quotes.
            test += (
                " OR substr(lower(session_id), 2, ?) = ?"
                " OR substr(lower(session_id), -1 - ?, ?) = ?"
            )
            length = len(word)
            values += [length, word, length, length, word]
        tests.append(f"({test})")
    return " AND ".join(tests), values


def _copy(path, select, values):
    """A temporary database with the rows that a SELECT finds: the index is closed.

    Its tables: found, and known, the paths of all rows.
    """
    import sqlite3

    if not os.path.exists(path):
        text = f"cannot find an index at '{path}': csb-index --rebuild makes one"
        raise Error(text, ABSENT)
    # In a file of SQLite's: all rows at once may be too much for memory.
    database = sqlite3.connect("", timeout=INDEX_WAIT, uri=True, isolation_level=None)
    try:
        database.execute("ATTACH ? AS filed", [database_uri(path)])
        check_version(database, "filed")
        database.execute(f"CREATE TABLE found AS {select}", values)
        database.execute("CREATE TABLE known AS SELECT path FROM filed.session")
        database.execute("DETACH filed")
    except sqlite3.DatabaseError as error:
        raise _unreadable(path, error) from None
    return database


def _unreadable(path, error):
    """The Error for an index that SQLite cannot read."""
    if is_busy(error):
        return Error(f"cannot read the index '{path}': another run is at it", RETRY)
    text = f"cannot read the index '{path}': {error}"
    if is_damage(error):
        text += ": csb-index --rebuild makes it anew"
    return Error(text, FAILED)


# --- databases, this one and that of csb-search ---------------------------------------


def database_uri(path):
    """A file's name as SQLite opens it without making it."""
    # Not read-only: what a killed writer left has to be rolled back first.
    name = re.sub(rb"[^\w/.-]", _percent, os.fsencode(path)).decode()
    return f"file:{name}?mode=rw"


def _percent(match):
    return b"%%%02x" % match[0][0]


def is_busy(error):
    """Does an error of SQLite's mean that another run is at the database?"""
    return "locked" in str(error)


def is_damage(error):
    """Does an error of SQLite's mean that the database has to be made anew?"""
    import sqlite3

    text = str(error)
    if isinstance(error, sqlite3.OperationalError):
        return "no such" in text or "decode" in text
    return True


def unusable(name, error):
    """The Error for a database that is busy, or that cannot be used.

    name: what people are to read for it.
    """
    status = RETRY if is_busy(error) else FAILED
    return Error(f"cannot use {name}: {error}", status)


def keep_aside(path):
    """Give a damaged database another name (.bad), so that a new one can be made."""
    for end in (_JOURNAL_END, ""):      # a journal alone would spoil the new one
        if os.path.lexists(path + end):
            move_over(path + end, path + ".bad" + end)


def remove_database(path):
    """Remove a database if it is there."""
    for end in (_JOURNAL_END, ""):
        remove_file(path + end)


# --- what is there --------------------------------------------------------------------

_said_missing = set()           # Claude directories

# What the index says of a session that may be gone; see SESSION_COLUMNS.
SessionRow = namedtuple("SessionRow", "path session_id state seen parsed prefix")


def _as_they_are(copy):
    """Yield the IndexedSessions of the rows that were found, compared with the disk."""
    disks = {}
    for path, root, session_id, *noted, text in copy.execute(
        "SELECT * FROM found ORDER BY rowid"
    ):
        if root not in disks:
            disks[root] = Disk(json.loads(root))
            if disks[root].is_missing:
                say_missing(disks[root])
        disk = disks[root]
        row = SessionRow(json.loads(path), json.loads(session_id), *noted)

        state = disk.state_of(row)
        moved_to = None
        if state == DELETED:
            moved_to = disk.moved_to(row)
        if moved_to is None:
            if state != row.state:
                text = _changed(text, state)
            yield IndexedSession(state, text)
        elif not _is_known(copy, moved_to):
            yield IndexedSession(PRESENT, _moved(text, disk.root, moved_to))


def _is_known(copy, path):
    """Has the index a row for a path?"""
    query = "SELECT 1 FROM known WHERE path = ?"
    return copy.execute(query, [encode(path)]).fetchone() is not None


def _changed(text, state):
    """The record of a session whose state is another one than the index says."""
    record = json.loads(text)
    record["state"] = state
    if state in GONE_STATES:
        record.pop("purge_at", None)
    else:
        record.pop("deleted_at", None)
    return encode(record)


def _moved(text, root, path):
    """The record of a session that goes on at another path."""
    record = json.loads(_changed(text, PRESENT))
    project, session_id = transcript_in(os.path.relpath(path, root))
    record["session_id"] = session_id
    record["project"] = project
    record["transcript_path"] = path
    return encode(record)


def say_missing(disk):
    """Ask, once, whether a disk is away: nobody deletes all sessions on purpose."""
    if disk.root not in _said_missing:
        _said_missing.add(disk.root)
        what = what_if_away(disk.projects)
        say(f"cannot find anything in '{disk.projects}': {what}")


def what_if_away(projects):
    """What to do where projects is missing or empty."""
    gone = "is a disk not mounted? If all is gone, csb restore --deleted brings it back"
    return link_away(projects) or gone


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
        """The state of a SessionRow's session, as it is now."""
        if self.is_missing:
            return DELETED if row.state == DELETED else MISSING
        try:
            found = os.stat(row.path)
        except (FileNotFoundError, NotADirectoryError):
            return self._state_of_absent(row)
        except (OSError, ValueError):
            return row.state
        if not stat.S_ISREG(found.st_mode):
            return self._state_of_absent(row)
        if row.state == DELETED and is_stub(row, found):
            return DELETED
        return PRESENT

    def moved_to(self, row):
        """Where a SessionRow's session, which is gone, goes on: a path, or None.

        That is a transcript of the same id, in another project, that begins with the
        bytes that were parsed.
        """
        if not row.parsed:
            return None
        for path in self.others(row):
            if begins_with_parsed(path, row.parsed, row.prefix):
                return path
        return None

    def others(self, row):
        """The paths of the transcripts of the same id in other projects."""
        if self._transcripts is None:
            self._transcripts = transcripts_on_disk(self.root)
        found = []
        for name in self._transcripts.get(key_of(row.session_id), ()):
            path = os.path.join(self.root, name)
            if path != row.path:
                found.append(path)
        return found

    def is_gone(self, path, is_folder=False):
        """Is nothing at the path of a transcript, or folder, for sure?

        A directory or FIFO that has the name of a transcript is none.
        """
        try:
            found = os.lstat(path)
            return not (is_folder or is_file_or_link(found))
        except (FileNotFoundError, NotADirectoryError):
            return self._is_listed(os.path.dirname(path))
        except (OSError, ValueError):
            return False

    def _state_of_absent(self, row):
        """The state of a session without a transcript, or with a link to nowhere."""
        if row.state == HUSK:               # what else it has only csb-index knows
            is_gone = self.is_gone(os.path.dirname(row.path), is_folder=True)
        else:
            is_gone = self.is_gone(row.path)
        return DELETED if is_gone else row.state

    def _is_listed(self, folder):
        """Can a folder be listed, or is it gone while the one above can be listed?"""
        if folder not in self._listed:
            self._listed[folder] = self._can_list(folder)
        return self._listed[folder]

    def _can_list(self, folder):
        try:
            names = os.listdir(folder)
        except (FileNotFoundError, NotADirectoryError):
            if os.path.islink(folder) or folder == self.projects:
                return False            # the disk behind it may be away
            return self._is_listed(os.path.dirname(folder))
        except OSError:
            return False
        return bool(names) or not os.path.islink(folder)


def is_stub(row, status):
    """Is the file at a deleted session's path none that brings it back?

    Claude Code leaves stubs. csb-index saw this one and found no good line in it, or it
    is shorter than what was deleted.
    """
    stamp = f"{status.st_size} {utc_ns(status.st_mtime_ns)}"
    if row.seen is not None and row.seen.startswith(stamp):
        return True
    return status.st_size < (row.parsed or 1)


def begins_with_parsed(path, parsed, prefix):
    """Have the first bytes of a file, so many, this SHA-1?"""
    import hashlib

    digest = hashlib.sha1()
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):     # to open a FIFO may take long
            return False
        with open(path, "rb") as file:
            for block in read_blocks(file, parsed):
                digest.update(block)
    except OSError:
        return False
    return digest.hexdigest() == prefix


def rest_of(open_blocks, parsed, sha1):
    """(ParsedPrefix, the blocks after it) of a transcript whose start was read before.

    The prefix is empty if the transcript does not begin so any more. open_blocks: a
    function that gives the blocks of it. parsed, sha1: of the start; 0: none.
    """
    prefix = ParsedPrefix()
    blocks = open_blocks()
    if parsed:
        blocks = prefix.after(blocks, parsed, sha1)
    if blocks is None:
        return ParsedPrefix(), open_blocks()
    return prefix, blocks


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
        """The blocks after the first bytes, so many, if their SHA-1 is the one given.

        None if they are others.
        """
        for block in blocks:
            rest = length - self.length
            self.digest.update(block[:rest])
            self.length += min(rest, len(block))
            if self.length == length:
                if self.digest.hexdigest() != sha1:
                    return None
                return chain([block[rest:]], blocks)
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
