"""what is never stored, and why: the rules that are built in

A path that a built-in rule refuses leaves the store's tree if it is there: csb-changes
lists it as the change "refused", and so does the journal. Who restores leaves it out,
by the rules or, if they are others by now, by the journal.

Paths are relative to the Claude directory. Patterns are the shell's, of which * matches
"/", too; that of a directory ends in "/".
"""
import fnmatch
import re

from csb.files import TEMPORARY


class Patterns:
    """Shell patterns. Most are simple, and to compile them all would take 8 ms."""

    def __init__(self, patterns):
        self._whole = set()
        self._starts = ()
        self._ends = ()
        self._others = []
        for pattern in patterns:
            special = re.sub(r"[^*?[]", "", pattern)
            if not special:
                self._whole.add(pattern)
            elif special == "*" and pattern.endswith("*"):
                self._starts += (pattern[:-1],)
            elif special == "*" and pattern.startswith("*"):
                self._ends += (pattern[1:],)
            else:
                self._others.append(fnmatch.translate(pattern))
        self._compiled = None

    def match(self, text):
        """Does one of the patterns match the whole text?"""
        if text in self._whole:
            return True
        if text.startswith(self._starts) or text.endswith(self._ends):
            return True
        if not self._others:
            return False
        if self._compiled is None:
            self._compiled = re.compile("|".join(self._others))
        return self._compiled.match(text) is not None

    def match_path(self, path, is_file):
        """Does one match a path? The directories above it are not looked at."""
        return self.match(path) or not is_file and self.match(path + "/")


# Whole paths: skills/x/cache/ is stored.
AT_THE_TOP = {
    "may hold secrets": Patterns("""
        .claude*.json* .config*.json* accounts/ backups/ sessions/ channels/*/.env ide/
        daemon/ daemon.* jobs/ secrets/ remote-settings.json policy-limits.json*
        mcp-needs-auth-cache.json shell-snapshots/ session-env/
    """.split()),
    "can be fetched again": Patterns("""
        plugins/cache/ plugins/marketplaces/ statsig/ cache/ local/ downloads/
        telemetry/
    """.split()),
    "is a log of Claude Code's own": Patterns(["debug/"]),
    "is made anew by another tool": Patterns(["session-backup.db*", "csb-fts*"]),
}
# Names, at any depth outside of projects/, in either case.
SECRET_NAMES = Patterns("""
    *credentials.json* .credentials* .claude*.json* .git-credentials* .env .env.*
    *.pem *.key *.p12 *.pfx .netrc id_rsa* id_dsa* id_ed25519* id_ecdsa*
""".split())
NO_SECRET = ".env.example"
# What Claude Code writes before it is renamed: NAME.tmp.<process>.<hex digits>
HALF_WRITTEN = r"(?s).*\.tmp\.[0-9]+\.[0-9a-fA-F]+"


def reason_by_rule(path, name, is_file):
    """Why a built-in rule refuses a path, whose last part is a name; None if none does.

    The directories above it are not looked at.
    """
    if name.lower() == ".git":
        return "belongs to a git repository"
    if path == ".csb" or name.startswith(TEMPORARY):
        return "is ours"
    if path.startswith("projects/"):
        return None
    for reason, patterns in AT_THE_TOP.items():
        if patterns.match_path(path, is_file):
            return reason
    if SECRET_NAMES.match(name.lower()) and name.lower() != NO_SECRET:
        return "may hold secrets"
    if ".tmp." in name and re.fullmatch(HALF_WRITTEN, name):
        return "was never finished"
    return None


def reason_for_stored(path):
    """Why a built-in rule refuses a stored path, or a directory above; else None.

    The path of an empty directory ends in "/".
    """
    if path.startswith("projects/"):
        if TEMPORARY not in path and ".git" not in path.lower():
            return None         # as for nearly all of a store's paths
    start = 0
    while start < len(path):
        end = path.find("/", start)
        is_file = end < 0
        if is_file:
            end = len(path)
        reason = reason_by_rule(path[:end], path[start:end], is_file)
        if reason:
            return reason
        start = end + 1
    return None


class Refused:
    """The stored paths that are left out of a restore."""

    def __init__(self):
        self._changes = {}      # {path: the last change that a journal tells of}

    def note(self, noted):
        """Learn from what a journal says: csb.held's Noted, the newest ones first."""
        self._changes.setdefault(noted.path, noted.change)

    def __contains__(self, path):
        if self._changes.get(path) == "refused":
            return True
        return reason_for_stored(path) is not None
