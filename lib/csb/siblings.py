"""the other tools of ours: where they lie, and the command that a hook or a timer runs

What is installed knows nothing of the shell that installed it: its paths are whole, and
the places that are not the usual ones stand in it.
"""
import os
import re
import sys
from collections import namedtuple

from csb import ABSENT, TOOL, Error
from csb.files import absolute, has_nothing
from csb.places import claude_dir, csb_home, is_repository, named_store, store_path


class Installed(namedtuple("Installed", "settings words")):
    """What is to be set, {variable: value}, and the words that are run."""

    @property
    def line(self):
        """As a line for a shell."""
        import shlex

        words = [f"{name}={shlex.quote(self.settings[name])}" for name in self.settings]
        return " ".join([*words, shlex.join(self.words)])


def find_tools(*names):
    """The paths of other tools: beside this one, else on PATH.

    Error that names all that are missing.
    """
    here = os.path.dirname(os.path.realpath(sys.modules["__main__"].__file__))
    found = []
    missing = []
    for name in names:
        path = os.path.join(here, name)
        if not os.path.isfile(path):
            import shutil  # slow, and seldom needed

            path = shutil.which(name)
        if path:
            found.append(os.path.abspath(path))
        else:
            missing.append(name)
    if missing:
        text = f"cannot find {', '.join(missing)} beside {TOOL} or on PATH"
        raise Error(text, ABSENT)
    return found


def command_of(path):
    """The words that run a tool with this Python."""
    if not sys.executable:
        raise Error("cannot say which Python runs this: it has no path")
    return [sys.executable, "-IS", path]


def tool_words(name, args=None):
    """The words that run another tool, on our places if there are args of them."""
    (path,) = find_tools(name)
    return command_of(path) + (place_words(args) if args else [])


def complaint(name, status, said):
    """What a tool that has ended complained of, in one line and without its name; ""
    if it did not."""
    if not said.strip():
        return f"{name} ended with status {status}" if status else ""
    first, *others = said.strip().split("\n")
    text = re.sub("^csb[ -][a-z]+: ", "", first)    # it may speak as what was typed
    if others:
        noun = "line" if len(others) == 1 else "lines"
        text += f" (and {len(others)} {noun} more)"
    return text


# lines: what it has printed. said: what it complained of, as complaint() says it.
Ran = namedtuple("Ran", "status lines said")


def run_tool(args, name, *options):
    """Run a tool of ours on our places, to its end: Ran."""
    from subprocess import DEVNULL, run

    words = [*tool_words(name, args), *options]
    done = run(words, stdin=DEVNULL, capture_output=True)
    said = complaint(name, done.returncode, os.fsdecode(done.stderr))
    return Ran(done.returncode, done.stdout.splitlines(), said)


def start_indexing(args, env):
    """Start csb-index, which brings the index up to date: a process.

    Where no session is on disk it says nothing: who reads the index does.
    """
    from subprocess import DEVNULL, Popen

    words = [*tool_words("csb-index", args), "--on-disk"]
    is_away = has_nothing(os.path.join(claude_dir(args), "projects"))
    errors = DEVNULL if is_away else None
    return Popen(words, stdin=DEVNULL, stdout=DEVNULL, stderr=errors, env=env)


def place_words(args):
    """The options that hand our places on to another tool."""
    words = []
    if args.claude_dir:
        words.append("--claude-dir=" + absolute(args.claude_dir))
    if args.git_dir:
        words.append("--git-dir=" + absolute(args.git_dir))
    return words


def installed_command(name, args):
    """What a hook or a timer has to set, and the words that it runs, of a tool."""
    command = Installed({}, tool_words(name, args))
    home = os.environ.get("CSB_HOME")
    own = csb_home(args)
    if home:
        command.settings["CSB_HOME"] = absolute(home)
    if args.git_dir:
        return command
    if os.environ.get("CSB_GIT_DIR"):
        command.words.append("--git-dir=" + absolute(os.environ["CSB_GIT_DIR"]))
    elif home or os.path.islink(own) or os.path.ismount(own):
        # Whatever names the store, config.json too, may be away with CSB_HOME: then the
        # bare mount point must not be taken for a first run.
        named = named_store(args)
        store = named.path if named else store_path(args)
        if named or is_repository(store):
            command.settings["CSB_GIT_DIR"] = store
    return command


def places_key(args):
    """Eight digits for the Claude directory, CSB_HOME and the store that is named.

    Each store has its own hooks and timer, beside those of others.
    """
    from binascii import crc32

    named = args.git_dir or os.environ.get("CSB_GIT_DIR")
    paths = [os.path.realpath(csb_home(args)), os.path.realpath(claude_dir(args)), ""]
    if named:
        paths[2] = os.path.realpath(os.path.expanduser(named))
    return f"{crc32(os.fsencode(chr(0).join(paths))):08x}"
