"""the hooks of csb in the settings of Claude Code: which there are, and whose"""
import os
import re
from collections import namedtuple

# When Claude Code runs a backup. There is none for Stop: what it sees is one message
# behind, and it would start a backup for each answer; the timer does as much.
EVENTS = ("SessionStart", "PreCompact", "SessionEnd")

PLUGIN = "csb@csb-tools"
OLDER_PLUGIN = "claude-session-backup@"     # of csb 0.2.1; what follows is its market

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


def hooks_in(values):
    """Yield each Hook of the settings, a dict; what has another shape is left out."""
    events = values.get("hooks")
    if not isinstance(events, dict):
        return
    for event, groups in events.items():
        if not isinstance(groups, list):
            continue
        for group in groups:
            for entry in entries_of(group):
                command = entry.get("command")
                if isinstance(command, str):
                    yield Hook(event, command, group, entry)


def entries_of(group):
    """The hooks, as objects, of a group: those that have a matcher in common."""
    if not isinstance(group, dict) or not isinstance(group.get("hooks"), list):
        return []
    return [entry for entry in group["hooks"] if isinstance(entry, dict)]


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
    for option in words[3:]:
        if not re.match("--(claude|git)-dir=", option):
            return None
        places.append(option)
    return places


def is_by_hand(command):
    """Is it a backup to the usual store that a person put there?"""
    return BY_HAND.fullmatch(command.strip()) is not None


def is_plugin_on(values):
    return switched_on(values).get(PLUGIN) is True


def older_plugin_in(values):
    """The name of csb 0.2.1's plugin if it is switched on, else ""."""
    for name, state in switched_on(values).items():
        if name.startswith(OLDER_PLUGIN) and state is True:
            return name
    return ""


def switched_on(values):
    """What the settings say of plugins: {name: state}."""
    plugins = values.get("enabledPlugins")
    if isinstance(plugins, dict):
        return plugins
    return {}
