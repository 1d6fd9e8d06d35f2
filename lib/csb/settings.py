"""a settings file of JSON that others write, too: read as it is, and replaced whole"""
import json
import os
import re

from csb import Error, why
from csb.files import StableFile, make_dirs, remove_file, replace_file, write_new
from csb.places import SETTINGS_LIMIT

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Unfit(Error):
    """The file is no JSON object, or has another shape than Claude Code gives it."""


def read_settings(path):
    """The bytes of a settings file, None if there is none."""
    try:
        with StableFile(path) as file:
            if file.stat.st_size > SETTINGS_LIMIT:
                size = SETTINGS_LIMIT >> 20
                raise Unfit(f"cannot read '{path}': it is larger than {size} MB")
            return b"".join(file.blocks())
    except FileNotFoundError:
        return None
    except OSError as error:
        text = f"cannot read '{path}': {why(error)}: nothing was changed"
        raise Error(text) from None


def settings_text(data, path):
    """The text of a settings file, without its byte order mark."""
    try:
        return data.removeprefix(BYTE_ORDER_MARK).decode()
    except UnicodeDecodeError as error:
        text = f"cannot read '{path}': {error}: nothing was changed"
        raise Unfit(text) from None


def parse_settings(text, path, pairs=dict):
    """The object in the text of a settings file; Unfit if there is none.

    pairs makes the object of a list of (name, value); its ValueError is Unfit, too.
    """
    reason = "it is empty"
    try:
        if text.strip():
            values = json.loads(
                text, parse_constant=_refuse_constant, object_pairs_hook=pairs
            )
            if isinstance(values, dict):
                return values
            reason = "it is not an object"
    except (ValueError, RecursionError) as error:
        reason = str(error)
        if re.search(r"^[ \t]*(//|/\*)", text, re.M):
            reason += " (comments are no JSON)"
    raise Unfit(f"cannot read '{path}': {reason}: nothing was changed")


def _refuse_constant(word):
    raise ValueError(f"'{word}' is no JSON")


def replace_settings(path, before, after, copy=None, mode=None):
    """Put new bytes in place of a settings file that holds the old ones still.

    None instead of bytes: there is no file. copy: where the old bytes are kept first.
    mode: of the file, if not the one that it has.
    """
    try:
        if mode is None and before is not None:
            mode = os.stat(path).st_mode & 0o7777
        if before and copy:
            _keep_copy(copy, before)
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


def _keep_copy(path, data):
    """Keep a copy of a file. Of two of one second the older is the better."""
    make_dirs(os.path.dirname(path))
    try:
        write_new(path, [data])
    except FileExistsError:
        pass
