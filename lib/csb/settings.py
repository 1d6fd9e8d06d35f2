"""a settings file of JSON that others write, too: read as it is, and replaced whole

Its members keep their order, the file its indentation and its line ends.
"""
import json
import os
import re

from csb import FAILED, Error, why
from csb.files import StableFile, remove_file, replace_file
from csb.places import SETTINGS_LIMIT, claude_dir, no_claude_dir

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def settings_path(args):
    """settings.json of the Claude directory, or what a link there leads to; Error if
    there is no such directory."""
    folder = claude_dir(args)
    if not os.path.isdir(folder):
        raise no_claude_dir(folder, FAILED)
    return os.path.realpath(os.path.join(folder, "settings.json"))


def read_settings(path):
    """The bytes of a settings file, None if there is none."""
    try:
        with StableFile(path) as file:
            if file.stat.st_size > SETTINGS_LIMIT:
                size = SETTINGS_LIMIT >> 20
                raise Error(f"cannot read '{path}': it is larger than {size} MB")
            return b"".join(file.blocks())
    except FileNotFoundError:
        return None
    except OSError as error:
        text = f"cannot read '{path}': {why(error)}: nothing was changed"
        raise Error(text) from None


def parse_settings(data, path):
    """The object in the bytes of a settings file, {} if there is no file."""
    if data is None:
        return {}
    text = ""
    try:
        text = data.decode("utf-8-sig")
        values = json.loads(text, object_pairs_hook=_object)
        if isinstance(values, dict):
            return values
        reason = "it is not an object"
    except (ValueError, RecursionError) as error:
        reason = str(error)
        if re.search(r"^[ \t]*(//|/\*)", text, re.M):
            reason += " (comments are no JSON)"
    raise Error(f"cannot read '{path}': {reason}: nothing was changed")


def _object(pairs):
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"'{twice}' stands there twice")
    return values


def settings_bytes(values, before, path):
    """The object as a settings file, in the manner of one; of Claude Code's if None."""
    before = before or b"{}\n"
    old = before.decode("utf-8-sig")
    indent = 2
    separators = None
    first = re.search(r"[{\[]\s*?\n([ \t]*)[^\s}\]]", old)
    if first:
        indent = first[1]
    elif old.strip() != "{}" and "\n" not in old.strip():
        indent = None                   # on one line
        if not re.search(r'"\s*:\s', old):
            separators = (",", ":")
    try:
        text = json.dumps(
            values, indent=indent, separators=separators, allow_nan=False,
            ensure_ascii=old.isascii()
        )
    except ValueError as error:
        text = f"cannot write '{path}' anew: {error}: nothing was changed"
        raise Error(text) from None
    if "\r\n" in old:
        text = text.replace("\n", "\r\n")
    text += old[len(old.rstrip()):]
    mark = BYTE_ORDER_MARK if before.startswith(BYTE_ORDER_MARK) else b""
    # Half of a surrogate pair, which UTF-8 has not, stands there as JSON writes it.
    return mark + text.encode("utf-8", "backslashreplace")


def replace_settings(path, before, after, mode=None):
    """Put new bytes in place of a settings file that holds the old ones still.

    None instead of bytes: there is no file. mode: if not the one that the file has.
    """
    try:
        if mode is None and before is not None:
            mode = os.stat(path).st_mode & 0o7777
        if read_settings(path) != before:
            raise Error(f"cannot change '{path}': another program writes it: try again")
        if after is None:
            remove_file(path)
        else:
            replace_file(path, [after], mode or 0o600)
    except OSError as error:
        name = error.filename or path
        text = f"cannot write '{name}': {why(error)}: nothing was changed"
        raise Error(text) from None
