"""where things are: the Claude directory, CSB_HOME, the store, our configuration

Each place has an option, an environment variable and a default. Nothing is made here,
but what a copy of a store lacks.
"""
import json
import os
import re
from collections import namedtuple

from csb import ABSENT, Error, say, why
from csb.files import absolute, without_waiting

SETTINGS_LIMIT = 1 << 20        # bytes; no file of settings is larger
CLEANUP_DAYS = 30               # Claude Code's own, where settings.json says nothing
INTERVAL = 15                   # minutes between two backups of the timer
INTERVALS = "minutes that divide an hour, or whole hours that divide a day"

INDEX_NAME = "session-backup.db"        # in CSB_HOME

# A file in CSB_HOME that csb-gitcommit leaves there when it makes a store where there
# was one, until csb-status --seen.
MADE_ANEW = "made-anew"

NamedStore = namedtuple("NamedStore", "path origin")    # origin: what names it


def add_place_options(options):
    """The options of every tool that knows the Claude directory and the store."""
    options.add_argument(
        "--claude-dir", metavar="DIR", type=directory, help="instead of ~/.claude"
    )
    options.add_argument(
        "--git-dir", metavar="DIR", type=directory,
        help="the store, if not the usual one"
    )


def directory(text):
    """The name of a directory, as an option gives it; an empty one, of a variable that
    is not set, must not mean the usual place."""
    if not text:
        raise ValueError("it is no name of a directory")
    return text


def claude_dir(args):
    """The Claude directory: --claude-dir, CLAUDE_CONFIG_DIR or ~/.claude."""
    named = args.claude_dir or os.environ.get("CLAUDE_CONFIG_DIR")
    return absolute(named or "~/.claude")


def no_claude_dir(path, status):
    """The Error for a Claude directory that is not there."""
    text = f"'{path}' is not there. Is Claude Code installed?"
    return Error(f"{text} Another place: --claude-dir", status)


def csb_home(args):
    """Where we keep things: CSB_HOME, else the Claude directory's path + "-backup".

    Error if that is inside the Claude directory: a loss there would take it along.
    """
    claude = claude_dir(args)
    home = absolute(os.environ.get("CSB_HOME") or claude + "-backup")
    if is_inside(home, claude):
        text = "cannot keep a backup inside what it protects: CSB_HOME is"
        raise Error(f"{text} '{home}'")
    return home


def is_inside(path, folder):
    """Is the path the folder, or below it, wherever links lead?"""
    path = os.path.realpath(path)
    folder = os.path.realpath(folder)
    return path == folder or path.startswith(os.path.join(folder, ""))


def link_away(path, elsewhere="csb restore --deleted --target-dir DIR"):
    """What to do if a path is, or is below, a link to what is not there; else None.

    elsewhere: what restores to another place.
    """
    while path != os.path.dirname(path):
        if os.path.islink(path) and not os.path.exists(path):
            return (
                f"'{path}' is a link to '{os.readlink(path)}', which is not there. Is "
                f"its disk not mounted? {elsewhere} restores elsewhere; if that disk "
                "is gone for good, remove the link first"
            )
        path = os.path.dirname(path)
    return None


# --- the store ------------------------------------------------------------------------


def store_path(args):
    """The git directory that is the store, or that a first backup would make.

    A store that is named and is away is Error, never a reason to use another one: its
    disk may just not be mounted.
    """
    named = named_store(args)
    if named and not is_repository(named.path):
        text = _why_away(named)
        if named.origin == "config.json" and _has_moved_along(named.path, args):
            text += ". If your home has moved: csb gitcommit --adopt"
        raise Error(text, ABSENT)
    store = git_directory(named.path if named else _default_place(args))
    # A tool that copies may have left out what is empty: without refs, where git has
    # packed them, git takes it for no repository.
    refs = os.path.join(store, "refs")
    if os.path.isfile(os.path.join(store, "HEAD")) and not os.path.lexists(refs):
        try:
            os.mkdir(refs)
        except OSError:
            pass                # it is another's: git says so
    return store


def _default_place(args):
    """Where the store is, or would be made, if nothing names one."""
    default = os.path.join(csb_home(args), "git")
    claude = os.path.realpath(claude_dir(args))
    if not os.path.lexists(default) and is_work_tree(claude):
        return claude
    return default


def existing_store(args):
    """The store, which is there; else Error with status 3."""
    path = store_path(args)
    if not is_repository(path):
        check_absent(path)
        text = f"cannot find a store at '{path}': csb backup makes one"
        raise Error(f"{text}, --git-dir DIR names another place", ABSENT)
    return path


def store_if_any(args):
    """The store, None if there is none. One that is named and away is said."""
    try:
        path = store_path(args)
    except Error as error:
        say(f"{error}. What only the store has is left out")
        return None
    return path if is_repository(path) else None


def check_absent(path):
    """Error if a store may be at a path, but cannot be looked at: it may be root's."""
    head = os.path.join(path, "HEAD")
    try:
        os.stat(head)
    except (FileNotFoundError, NotADirectoryError):
        if os.path.isdir(os.path.join(path, "objects")):
            from shlex import quote

            raise Error(
                f"cannot use the store '{path}': its HEAD is gone, echo ref: "
                f"refs/heads/main >{quote(head)} brings it back", ABSENT
            ) from None
    except OSError as error:
        raise Error(f"cannot read the store '{path}': {why(error)}", ABSENT) from None


def named_store(args):
    """The NamedStore of an option, CSB_GIT_DIR or config.json; None if none does."""
    if args.git_dir:
        return NamedStore(absolute(args.git_dir), "--git-dir")
    from_environment = os.environ.get("CSB_GIT_DIR")
    if from_environment:
        return NamedStore(absolute(from_environment), "CSB_GIT_DIR")
    home = csb_home(args)
    saved = read_config(args).get("git_dir")
    if saved is None or saved == "":
        return None
    if not isinstance(saved, str):
        text = f"cannot tell where the store is: git_dir in '{config_path(args)}'"
        raise Error(f"{text} is no text", ABSENT)
    if saved == os.path.join(home, "git"):
        return None         # earlier versions noted the usual place when they made it
    # Noted relative to CSB_HOME where it lies in there, so that a home that is moved
    # or copied takes its own store along.
    path = absolute(os.path.join(home, os.path.expanduser(saved)))
    if getattr(args, "adopt", False) and _has_moved_along(path, args):
        return None
    return NamedStore(path, "config.json")


def _has_moved_along(path, args):
    """May the store that config.json names be the one that is in our home now? Earlier
    versions noted the usual place whole: a home that was moved has it wrong."""
    return not os.path.lexists(path) and is_repository(_default_place(args))


def _why_away(named):
    """What to say of a store that is named and away."""
    reason = "no git repository is there"
    try:
        os.listdir(named.path)
    except OSError as error:
        reason = why(error)
    option = ""
    if named.origin == "--git-dir":
        from shlex import quote

        option = f" --git-dir {quote(named.path)}"
    return (
        f"cannot find the store '{named.path}' that {named.origin} names: {reason}. Is "
        f"its disk mounted? (csb gitcommit --make{option} makes a new one there)"
    )


def is_repository(path):
    """Does a git repository lie at the path, bare or with a work tree?"""
    return os.path.isfile(os.path.join(path, "HEAD")) or is_work_tree(path)


def is_work_tree(path):
    """Is the path the top of a work tree of git's?"""
    inner = os.path.join(path, ".git")
    return os.path.isfile(inner) or os.path.isfile(os.path.join(inner, "HEAD"))


def git_directory(path):
    """The git directory of a repository, which may be a work tree or a linked one."""
    inner = os.path.join(path, ".git")
    if not os.path.lexists(inner):
        return path
    if os.path.isdir(inner) and not os.path.exists(os.path.join(inner, "commondir")):
        if os.name == "nt" or os.stat(inner).st_uid == os.geteuid():
            return inner
    from csb.git import git

    # A ".git" file, as submodules have it; or somebody else's, of which git has a say.
    words = ["rev-parse", "--path-format=absolute", "--git-common-dir"]
    return os.fsdecode(git(None, "-C", path, *words)).removesuffix("\n")


# --- configuration --------------------------------------------------------------------


def config_path(args):
    return os.path.join(csb_home(args), "config.json")


def read_config(args):
    """config.json as a dict, {} where there is none. What is null there is not set."""
    path = config_path(args)
    try:
        values = read_json(path)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise Error(f"cannot read '{path}': {why(error)}") from None
    return {key: value for key, value in values.items() if value is not None}


def interval_in(text):
    """The minutes between two backups, as an option gives them; ValueError if not every
    timer that we install can keep them."""
    if re.fullmatch("[1-9][0-9]{0,3}", text):
        minutes = int(text)
        if 60 % minutes == 0 or minutes % 60 == 0 and 24 * 60 % minutes == 0:
            return minutes
    raise ValueError(f"it takes {INTERVALS}: 15, 30, 60, 120, 1440")


def cleanup_days(claude):
    """days_in() the settings of a Claude directory; None if they cannot be read."""
    try:
        settings = read_json(os.path.join(claude, "settings.json"))
    except FileNotFoundError:
        return CLEANUP_DAYS
    except (OSError, ValueError):
        return None
    return days_in(settings)


def days_in(settings):
    """After how many days Claude Code deletes a session, by its settings, a dict; None
    if they say what it would not take."""
    days = settings.get("cleanupPeriodDays", CLEANUP_DAYS)
    if type(days) is int and 1 <= days < 10**6:
        return days
    return None


def read_json(path):
    """The object in a small JSON file; OSError or ValueError if there is none."""
    with open(path, "rb", opener=without_waiting) as file:
        text = file.read(SETTINGS_LIMIT + 1) or b""      # None: of an idle FIFO
    if len(text) > SETTINGS_LIMIT:
        raise ValueError(f"it is larger than {SETTINGS_LIMIT >> 20} MB")
    try:
        value = json.loads(text.decode("utf-8-sig"))
    except RecursionError as error:
        raise ValueError(str(error)) from None
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")
    return value
