"""the hooks of csb in the settings of Claude Code: which there are, and whose"""
import os
import re
from collections import namedtuple

# When Claude Code runs a backup. There is none for Stop: what it sees is one message
# behind, and it would start a backup for each answer; the timer does as much.
EVENTS = ("SessionStart", "PreCompact", "SessionEnd")

PLUGIN = "csb@csb-tools"

# A hook of settings; group and entry are the objects that hold it there.
Hook = namedtuple("Hook", "event command group entry")

# What a person puts there by hand, as the manual of csb 0.2.1 or our own says:
# csb backup --quiet &, /usr/local/bin/csb-hook 2>/dev/null, ...
BY_HAND = re.compile(
    r"""(nohup\s+)? ("[^"]*/)? ([^\s"';&|]*/)?
    ((csb|csb\.exe)"? \s+ backup (\s+(--quiet|-q))* | csb[- ]hook"?)
    (\s* (&?\d?>+\s*[^\s&|;]+ | \d>&\d | & | \|\|\s*true | ;\s*exit\s+0))* \s*
    """,
    re.X,
)


def member_of(value, name, kind):
    """A member of an object, if both are of the kind that they should be; else an empty
    one."""
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, kind) else kind()


def hooks_in(values):
    """Yield each Hook of the settings, a dict; what has another shape is left out."""
    for event, groups in member_of(values, "hooks", dict).items():
        if not isinstance(groups, list):
            continue
        for group in groups:
            for entry in member_of(group, "hooks", list):
                command = member_of(entry, "command", str)
                if command:
                    yield Hook(event, command, group, entry)


def places_of(command):
    """The places that a command of csb setup names, CSB_HOME and options; else None.

    The interpreter, the path of the tool, and a store that was found there (and not
    named) make it no other one.
    """
    import shlex

    if "csb-hook" not in command[:9999]:
        return None
    try:
        words = shlex.split(command)
    except ValueError:
        return None
    places = []
    while words and re.match("CSB_(HOME|GIT_DIR)=", words[0]):
        setting = words.pop(0)
        if setting.startswith("CSB_HOME="):
            places.append(setting)
    if len(words) < 3 or words[1] != "-IS" or os.path.basename(words[2]) != "csb-hook":
        return None
    options = words[3:]
    if not all(re.match("--(claude|git)-dir=", option) for option in options):
        return None
    return places + options


def is_by_hand(command):
    """Is it a backup to the usual store that a person put there?"""
    return BY_HAND.fullmatch(command.strip()) is not None


def is_plugin_on(values):
    return member_of(values, "enabledPlugins", dict).get(PLUGIN) is True
