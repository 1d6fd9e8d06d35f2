"""what is never stored, and why: rules that are built in, and those of config.json

A path that a built-in rule refuses leaves the store's tree if it is there: csb-changes
lists it as the change "refused", and so does the journal. Who restores leaves it out,
by the rules or, if they are others by now, by the journal:

    refused = Refused()
    for noted in notes(objects, journals):      newest first
        refused.note(noted)
    path in refused

Paths are relative to the Claude directory. Patterns are the shell's, of which * matches
"/", too; that of a directory ends in "/".
"""
import fnmatch
import re

from csb import Error
from csb.files import TEMPORARY

# Whole paths: skills/x/cache/ is stored.
AT_THE_TOP = {
    "may hold secrets": """
        .claude*.json* .config*.json* accounts/ backups/ sessions/ channels/*/.env ide/
        daemon/ daemon.* jobs/ secrets/ remote-settings.json policy-limits.json*
        mcp-needs-auth-cache.json shell-snapshots/ session-env/
    """,
    "can be fetched again": """
        plugins/cache/ plugins/marketplaces/ statsig/ cache/ local/ downloads/
        telemetry/
    """,
    "is a log of Claude Code's own": "debug/",
    "is made anew by another tool": "session-backup.db* csb-fts*",
}
# Names, at any depth outside of projects/, in either case.
NAMES = {
    "may hold secrets": """
        *credentials.json* .credentials* .claude*.json* .git-credentials* .env .env.*
        *.pem *.key *.p12 *.pfx .netrc id_rsa* id_dsa* id_ed25519* id_ecdsa*
    """
}
NO_SECRETS = [".env.example"]
# What Claude Code writes before it is renamed: NAME.tmp.<process>.<hex digits>
HALF_WRITTEN = r"(?s).*\.tmp\.[0-9]+\.[0-9a-fA-F]+"


class Patterns:
    """Shell patterns. Most are simple, and to compile them all would take 8 ms."""

    def __init__(self, patterns):
        self.whole = set()
        starts = []
        ends = []
        others = []
        for pattern in patterns:
            star = pattern.find("*")
            if not re.search(r"[*?[]", pattern):
                self.whole.add(pattern)
            elif re.search(r"[?[]", pattern) or pattern.count("*") > 1:
                others.append(fnmatch.translate(pattern))
            elif star == len(pattern) - 1:
                starts.append(pattern[:-1])
            elif star == 0:
                ends.append(pattern[1:])
            else:
                others.append(fnmatch.translate(pattern))
        self.starts = tuple(starts)
        self.ends = tuple(ends)
        self._others = "|".join(others)
        self._compiled = None

    def match(self, text):
        """Does one of the patterns match the whole text?"""
        if text in self.whole:
            return True
        if text.startswith(self.starts) or text.endswith(self.ends):
            return True
        if not self._others:
            return False
        if self._compiled is None:
            self._compiled = re.compile(self._others)
        return self._compiled.match(text) is not None


class _Rules:
    """Lists of patterns, and for each why it refuses what it matches."""

    def __init__(self, lists):
        self._all = Patterns(" ".join(lists.values()).split())
        self._lists = lists

    def reason(self, text):
        """Why a text is refused, None if it is not, as nearly all are."""
        if not self._all.match(text):
            return None
        for reason, words in self._lists.items():
            if Patterns(words.split()).match(text):
                return reason
        return None


_AT_THE_TOP = _Rules(AT_THE_TOP)
_NAMES = _Rules(NAMES)


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
    reason = _AT_THE_TOP.reason(path)
    if not reason and not is_file:
        reason = _AT_THE_TOP.reason(path + "/")
    if not reason and name.lower() not in NO_SECRETS:
        reason = _NAMES.reason(name.lower())
    if reason:
        return reason
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


class OwnRules:
    """The patterns that the user has put into config.json."""

    def __init__(self, added):
        is_list = isinstance(added, list)
        if not is_list or not all(isinstance(pattern, str) for pattern in added):
            raise Error("cannot use 'refuse' of config.json: it is no list of patterns")
        self.has_any = bool(added)
        self._patterns = Patterns(added)

    def refuse(self, path, is_file):
        """Is the path refused? The directories above it are not looked at."""
        match = self._patterns.match
        return match(path) or not is_file and match(path + "/")


class Refused:
    """The stored paths that are left out of a restore."""

    def __init__(self):
        self._named = set()
        self._refused = set()

    def note(self, noted):
        """Learn from what a journal says: csb.held's Noted, the newest ones first."""
        if noted.path in self._named:
            return
        self._named.add(noted.path)
        if noted.change == "refused":
            self._refused.add(noted.path)

    def __contains__(self, path):
        return path in self._refused or reason_for_stored(path) is not None
