"""What csb-setup does to settings.json, as functions:
hooks go in and out, the rest stays.

The files of all kinds are tried in process; that the tool does the same is shown by the
last ones here and in test_setup.py.
"""
import json
import os
import re
import runpy
import sys
from types import SimpleNamespace

import pytest
from conftest import POWERLESS, ROOT

pytestmark = pytest.mark.logic

EVENTS = ["SessionStart", "PreCompact", "SessionEnd"]
BOM = b"\xef\xbb\xbf"
OTHERS = b"""{
    "model" : "x",   "days": 1.50,
    "hooks": {
        "SessionEnd": [
            {
                "matcher": "",
                "hooks": [ {"type": "command", "command": "mine --end"} ]
            }
        ],
        "Stop": [{"hooks": [{"type": "command", "command": "csb-hook -- mine"}]}],
        "PreCompact": []
    },

    "env": {"A": "\\u00e9\\ud800 // no comment", "B": "\xc3\xa9\xe2\x80\xa8"}
}"""
# Files as a program writes them: they lose not even a space when only a
# part of them goes.
PLAIN = {
    "empty object": b"{}\n",
    "mark": BOM + b'{\n  "a": 1\n}\n',
    "crlf": b'{\r\n  "a": 1,\r\n  "b": [\r\n    1\r\n  ]\r\n}\r\n',
    "tabs": b'{\n\t"a": {\n\t\t"b": 2\n\t}\n}\n',
    "no newline": b'{\n    "a": 1\n}',
    "tight": b'{"a":1,"b":{"c":[]}}',
    "one line": b'{"z": 1, "a": "}"}\n',
    "no indent": b'{\n"a": 1,\n"hooks": {\n"Stop": []\n}\n}\n',
    "letters": '{\n  "\u00e9": "\u20ac \U0001f600"\n}\n'.encode(),
    "escapes": b'{\n  "a": "\\u00e9 \\ud800"\n}\n',
    "numbers": (
        b'{\n  "a": 1.5,\n  "b": 123456789012345678901234567890,\n  "c": -0.0\n}\n'
    ),
    "others": (
        b'{\n  "hooks": {\n    "SessionEnd": [\n      {\n        "hooks": []\n'
        b'      }\n'
        b'    ]\n  },\n  "z": 0\n}\n'
    ),
    "large": b'{\n  "a": {},\n  "b": "' + b"x" * (1 << 18) + b'"\n}\n',
}
FORMS = {
    **PLAIN,
    "empty": b"{}",
    "on two lines": b"{\n}\n",
    "spaced": b"{ }",
    "mark alone": BOM + b"{}",
    "blank lines": b'\n\n{"a": 1}\n\n\n',
    "crlf empty": b"{\r\n}\r\n",
    "by hand": OTHERS,
    "empty hooks": b'{\n  "hooks": {},\n  "z": 0\n}\n',
    "empty list": b'{"hooks":{"PreCompact":[]}}',
    "odd groups": (
        b'{"hooks": {"SessionEnd": [1, null, {}, {"hooks": 5}, {"hooks": '
        b'[7, {}, '
        b'{"command": ["csb-hook"]}, {"command": "\'csb-hook -IS"}]}], '
        b'"Odd": {"a": []}}}'
    ),
    "a brace in a name": b'{"{\\"hooks\\": [": "}", "h\\u006foks": {"Stop": [] }}',
    "deep": b'{"a": ' + b"[" * 400 + b"]" * 400 + b', "b": 1}',
}


@pytest.fixture(scope="module")
def setup():
    """csb-setup as a module: its names."""
    before = list(sys.path)
    yield SimpleNamespace(**runpy.run_path(os.path.join(ROOT, "bin", "csb-setup")))
    sys.path[:] = before


@pytest.fixture
def wiring(home, setup, monkeypatch):
    """wiring(git_dir): a Wiring, fresh from the disk,
    as each run of csb-setup has one."""
    for name in ("CSB_GIT_DIR", "CLAUDE_CONFIG_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HOME", "CSB_HOME", "PATH"):
        monkeypatch.setenv(name, home.env[name])
    monkeypatch.setattr(
        sys.modules["__main__"], "__file__", os.path.join(ROOT, "bin", "csb-setup")
    )

    def make(git_dir=None, claude_dir=None):
        return setup.Wiring(
            SimpleNamespace(git_dir=git_dir, claude_dir=claude_dir)
        ).read()
    return make


@pytest.fixture
def path(home):
    return home.claude / "settings.json"


def is_complete(wired):
    """Would nothing be put in, nor be replaced?"""
    return wired.wired() == wired.values


def kept(home):
    """The texts of the file before each install that was noted, None for no file."""
    notes = sorted(home.backup.glob("settings-*"))
    return [json.loads(note.read_text())["before"] for note in notes]


def commands(data):
    """{event: [commands]} of settings, as Claude Code reads them."""
    return {event: [entry["command"] for group in groups if isinstance(group, dict)
                    for entry in group["hooks"]]
            for event, groups in data.get("hooks", {}).items()}


def mine(wired):
    """The hooks that were put in, by event."""
    return {event: [wired.command] for event in EVENTS}


@pytest.mark.parametrize("form", FORMS)
def test_in_and_out_again_leaves_every_byte(home, path, wiring, form):
    """What it holds keeps its order and its manner;
    taken out, the very file is there."""
    before = FORMS[form]
    path.write_bytes(before)
    path.chmod(0o640)
    old = json.loads(before.decode("utf-8-sig"))
    wired = wiring()
    wired.install(999)
    assert is_complete(wired) and wired.days == 999
    after = path.read_bytes()
    new = json.loads(after.decode("utf-8-sig"))
    assert after.startswith(BOM) == before.startswith(BOM)
    assert after.count(b"\r\n") == (after.count(b"\n") if b"\r\n" in before else 0)
    for event in EVENTS:
        group, was = new["hooks"].pop(event), old.get("hooks", {}).get(event)
        assert group == (was or []) + [
            {"hooks": [{"type": "command", "command": wired.command}]}]
    assert new.pop("cleanupPeriodDays") == 999
    assert {**new, "hooks": 0} == {**old, "hooks": 0}
    assert [name for name in new if name in old] == list(old), "the order of the keys"
    assert new["hooks"] == {
        k: v for k, v in old.get("hooks", {}).items() if k not in EVENTS
    }
    assert kept(home) == [before.decode()]
    assert path.stat().st_mode & 0o777 == 0o640
    assert os.listdir(home.claude) == [path.name]
    wiring().install(999)
    assert path.read_bytes() == after and kept(home) == [before.decode()]
    wiring().remove()
    assert path.read_bytes() == before and path.stat().st_mode & 0o777 == 0o640
    wiring().remove()
    assert path.read_bytes() == before and not kept(home)


@pytest.mark.parametrize("form", FORMS)
def test_without_what_was_noted(home, path, wiring, form):
    """What is ours goes and nothing else does."""
    path.write_bytes(FORMS[form])
    wiring().install(None)
    for copy in home.backup.glob("settings-*"):
        copy.unlink()
    wiring().remove()
    left = json.loads(path.read_bytes().decode("utf-8-sig"))
    old = json.loads(FORMS[form].decode("utf-8-sig"))
    if form in PLAIN:
        assert path.read_bytes() == FORMS[form]
    for event in EVENTS:    # what was empty before cannot be told from what was made
        if old.get("hooks", {}).get(event) == []:
            del old["hooks"][event]
    if old.get("hooks") == {}:
        del old["hooks"]
    assert left == old and list(left) == list(old)


@pytest.mark.parametrize(
    "form", ["mark", "crlf", "tabs", "tight", "others", "one line"]
)
def test_what_the_user_changed_since_stays(path, wiring, form):
    def change(text):
        return re.sub(rb'"a":( ?)1|"b":( )2|"z":( )[01]', rb'"q":\1\2\3"7"', text)

    path.write_bytes(PLAIN[form])
    wiring().install(999)
    assert change(PLAIN[form]) != PLAIN[form]
    path.write_bytes(change(path.read_bytes()))
    wiring().remove()
    assert path.read_bytes() == change(PLAIN[form])


def test_what_another_program_wrote_anew(path, wiring):
    """Claude Code writes the file in its own manner;
    the user takes one hook out, adds one."""
    path.write_bytes(OTHERS)
    wired = wiring()
    wired.install(999)
    new = json.loads(path.read_text())
    new["hooks"]["SessionStart"].append(
        {"hooks": [{"type": "command", "command": "new"}]}
    )
    new["hooks"]["SessionEnd"][1]["hooks"].append(
        {"type": "command", "command": "second"}
    )
    del new["hooks"]["PreCompact"]
    new["cleanupPeriodDays"] = 77
    path.write_text(json.dumps(new, indent=1))
    assert not is_complete(wiring())
    wiring().remove()
    left = json.loads(path.read_text())
    assert wired.command not in path.read_text() and left["cleanupPeriodDays"] == 77
    assert commands(left) == {
        "SessionEnd": ["mine --end", "second"],
        "Stop": ["csb-hook -- mine"],
        "SessionStart": ["new"],
    }


def test_no_file_before_none_afterwards(home, path, wiring):
    wiring().install(None)
    assert path.stat().st_mode & 0o777 == 0o600
    assert commands(json.loads(path.read_text())) == mine(wiring())
    wiring().remove()
    assert os.listdir(home.claude) == []
    wiring().remove()
    assert os.listdir(home.claude) == []
    wiring().install(999)
    path.write_text(path.read_text().replace("{", '{"a": 1,', 1))
    wiring().remove()
    assert json.loads(path.read_text()) == {"a": 1}
    wiring().install(999)
    path.unlink()
    wiring().remove()
    assert os.listdir(home.claude) == []


@pytest.mark.parametrize(
    "text, reason",
    [
        (b'{\n  // mine\n  "a": 1\n}', "comments are no JSON"),
        (b'{/* x */}', ""),
        (b'{"a": 1,}', ""),
        (b"[]", "not an object"),
        (b"null", "not an object"),
        (b"", ""),
        (b'{"a": NaN}', "anew"),
        (b'{"a": "\xff"}', "utf-8"),
        ('{"a": 1}'.encode("utf-16"), "utf-8"),
        (b'{"a"', ""),
        (b'{"a":' * 99999, ""),
        (b"\n" * (1 << 19) + b"{x", ""),
        (b'{"a": 1e999}', "anew"),
        (b'{"a": 1, "b": {"c": 1, "c": 1}}', "'c' stands there twice"),
        (b"{}" + b" " * (1 << 20), "larger than 1 MB"),
        (b'{"hooks": []}', "shape"),
        (b'{"hooks": null}', "shape"),
        (b'{"hooks": {"SessionStart": [], "SessionEnd": {}}}', "shape"),
        (b'{"hooks": {"PreCompact": "csb-hook"}}', "shape"),
    ],
)
def test_what_has_another_shape_is_not_touched(home, path, setup, wiring, text, reason):
    path.write_bytes(text)
    with pytest.raises(setup.Error) as error:
        wiring().install(90)
    assert path.name in str(error.value) and reason in str(error.value)
    assert path.read_bytes() == text and os.listdir(home.claude) == ["settings.json"]
    assert not kept(home)
    try:
        wiring().remove()
    except setup.Error as error:
        assert str(path) in str(error)
    assert path.read_bytes() == text


@pytest.mark.parametrize("there", [True, False])
def test_a_link_is_written_through(home, path, wiring, dotfiles, there):
    real = dotfiles(0o444 if there else None)
    wiring().install(None)
    assert real.stat().st_mode & 0o777 == (0o444 if there else 0o600)
    assert commands(json.loads(real.read_text())) == mine(wiring())
    wiring().remove()
    assert os.readlink(path) == "../step" and os.path.islink(home.path / "step")
    assert real.read_text() == '{"a": 1}\n' if there else not real.exists()


# --- hooks that are there already -----------------------------------------------------


BY_HAND = [
    "csb backup --quiet",
    "csb backup --quiet &",
    "/usr/local/bin/csb backup --quiet 2>/dev/null",
    "csb backup -q",
    "csb backup",
    '"/opt/my tools/csb" backup --quiet >/dev/null 2>&1 &',
    "nohup csb backup --quiet >/dev/null 2>&1 &",
    "csb backup --quiet || true",
    "csb-hook",
    "/home/me/.local/bin/csb-hook",
    "csb hook",
    "csb.exe backup --quiet",
]
NOT_BY_HAND = [
    "csb backup --quiet --claude-dir /other",
    "csb list",
    "csb-hook -- session_snapshot",
    "csb backup --quiet; mine",
    "mine && csb backup --quiet",
    "csb backup --no-commit",
    "mycsb backup --quiet",
    "csb-hook --foreground",
    "csb backup --quiet | mine",
    "csb-hooks",
]


def group(command):
    return {"hooks": [{"type": "command", "command": command}]}


@pytest.mark.parametrize("command", BY_HAND)
def test_hooks_that_were_put_there_by_hand_are_replaced(path, wiring, command):
    """Those of the manual of csb 0.2.1, and ours:
    one hook an event, and they come back."""
    theirs = {"PreCompact": [group(command)],
              "SessionEnd": [{"matcher": "", "hooks": [
                  {"type": "command", "command": command},
                  {"type": "command", "command": "mine"}]}]}
    before = json.dumps({"hooks": theirs, "z": 0})
    path.write_text(before)
    wired = wiring()
    assert not is_complete(wired) and len(wired.by_hand(wired.values)) == 2
    wired.install(None)
    assert commands(json.loads(path.read_text())) == {
        **mine(wired), "SessionEnd": ["mine", wired.command]}
    wiring().remove()
    assert path.read_text() == before
    wiring().install(None)
    path.write_text(path.read_text().replace('"z": 0', '"z": 1'))
    wiring().remove()
    assert commands(json.loads(path.read_text())) == {
        "PreCompact": [command], "SessionEnd": ["mine", command]}


def test_what_was_never_written_is_not_put_back(path, home, setup, wiring, monkeypatch):
    """A run that dies between its note and the file has replaced nothing."""
    text = json.dumps({"hooks": {"PreCompact": [group("csb backup --quiet")]}})
    path.write_text(text)

    names = setup.Wiring.install.__globals__
    replace = names["replace_settings"]

    def die(name, *more):
        if name == str(path):
            raise KeyboardInterrupt
        replace(name, *more)

    with monkeypatch.context() as context:
        context.setitem(names, "replace_settings", die)
        with pytest.raises(KeyboardInterrupt):
            wiring().install(90)
    assert path.read_text() == text and kept(home)
    wiring().remove()
    assert path.read_text() == text and not kept(home)
    wiring().install(90)
    wiring().remove()
    assert path.read_text() == text


@pytest.mark.parametrize("command", NOT_BY_HAND)
def test_what_else_a_person_runs_stays(path, wiring, command):
    path.write_text(json.dumps({"hooks": {"PreCompact": [group(command)]}}))
    assert not wiring().by_hand(json.loads(path.read_text()))
    wiring().install(None)
    found = commands(json.loads(path.read_text()))["PreCompact"]
    assert found == [command, wiring().command]


def test_a_hook_that_a_person_adds_afterwards_stays(path, wiring):
    path.write_text("{}")
    wiring().install(None)
    values = json.loads(path.read_text())
    values["hooks"]["PreCompact"].append(group("csb backup --quiet"))
    path.write_text(json.dumps(values))
    wiring().remove()
    left = commands(json.loads(path.read_text()))
    assert left == {"PreCompact": ["csb backup --quiet"]}


def test_what_others_wrote_between_two_runs_stays(path, wiring):
    path.write_text('{ "a": 1.50 }')
    wiring().install(None)
    path.write_text(path.read_text().replace("{", '{ "mine": 2.50,', 1))
    for days in (3650, 4000):
        wiring().install(days)
    wiring().remove()
    assert json.loads(path.read_text()) == {"mine": 2.5, "a": 1.5}


def test_a_hook_for_the_usual_store_stays_beside_another_one(path, wiring):
    path.write_text(
        json.dumps({"hooks": {"PreCompact": [group("csb backup --quiet")]}})
    )
    other = wiring(git_dir="/media/disk/csb.git")
    other.install(None)
    assert commands(json.loads(path.read_text()))["PreCompact"] == [
        "csb backup --quiet", other.command]


def test_the_plugin_brings_the_hooks(path, home, wiring):
    """None are put in where it is on, and those that are there go:
    they would run twice. It knows of no places: what is not usual
    stands in the environment of its sessions."""
    on = {"enabledPlugins": {"csb@csb-tools": True}}
    for off in (False, None, "true"):
        path.write_text(json.dumps({"enabledPlugins": {"csb@csb-tools": off}}))
        wiring().install(None)
        assert is_complete(wiring())
    path.write_text(json.dumps(json.loads(path.read_text()) | on))
    wiring().install(None)
    assert json.loads(path.read_text()) == {**on, "env": {"CSB_HOME": str(home.backup)}}


def test_the_plugin_is_told_of_the_store(path, home, wiring, monkeypatch):
    on = {"enabledPlugins": {"csb@csb-tools": True},
          "hooks": {"SessionEnd": [group("csb backup --quiet &")]},
          "env": {"CSB_GIT_DIR": "/old", "A": "b"}}
    text = json.dumps(on)
    path.write_text(text)
    monkeypatch.setenv("CSB_GIT_DIR", "/media/disk/csb.git")
    wired = wiring()
    wired.install(None)
    places = {"CSB_GIT_DIR": "/media/disk/csb.git", "CSB_HOME": str(home.backup)}
    assert json.loads(path.read_text()) == {
        "enabledPlugins": on["enabledPlugins"], "env": {**places, "A": "b"}}
    wiring().install(None)
    path.write_text(path.read_text().replace('"A": "b"', '"A": "c"'))
    wiring().remove()
    left = json.loads(path.read_text())
    assert left["env"] == {"CSB_GIT_DIR": "/old", "A": "c"}
    assert left["hooks"] == on["hooks"]
    path.write_text(text)
    wiring().install(None)
    wiring().remove()
    assert path.read_text() == text


@pytest.mark.parametrize(
    "text",
    [
        '{"cleanupPeriodDays": 4000}',
        '{"cleanupPeriodDays": 0}',
        '{"cleanupPeriodDays": "x"}',
        "{}",
    ],
)
def test_the_clean_up_age_is_only_raised(path, wiring, text):
    path.write_text(text)
    old = json.loads(text)
    wiring().install(90)
    wiring().install(365)
    new = json.loads(path.read_text())["cleanupPeriodDays"]
    if "x" in text:
        assert new == 365
    else:
        assert new == max(365, old.get("cleanupPeriodDays", 0))
    path.write_text(path.read_text().replace("{", '{"new": 1,', 1))
    wiring().remove()
    assert json.loads(path.read_text()) == {"new": 1, **old}


def test_places(sh, home, path, wiring, monkeypatch, tmp_path):
    """A command names what is not usual, for any directory; an older one of the same
    places is replaced, that of another store stays."""
    path.write_text("{}")
    monkeypatch.delenv("CSB_HOME")
    first = wiring()
    first.install(None)
    assert first.command.endswith("/csb-hook") and " -IS " in first.command
    assert "CSB_HOME" not in first.command
    path.write_text(path.read_text().replace(" -IS ", " -IS /old"))
    assert not is_complete(wiring())
    wiring().install(None)
    assert commands(json.loads(path.read_text())) == mine(first)
    odd = tmp_path / "it's $HOME \u00e9"
    odd.mkdir()
    one = path.read_bytes()
    monkeypatch.setenv("CSB_HOME", str(odd))
    second = wiring(f"{odd}/x", str(home.claude))
    second.install(None)
    assert commands(json.loads(path.read_text())) == {
        event: [first.command, second.command] for event in EVENTS}
    line = second.command.replace("CSB_HOME=", "", 1)
    words = sh(f"for i in {line}; do echo \"$i\"; done").ok().out
    assert words.split("\n")[0] == str(odd) and words.split("\n")[-3:] == [
        f"--claude-dir={home.claude}", f"--git-dir={odd}/x", ""]
    wiring(f"{odd}/x", str(home.claude)).remove()
    assert path.read_bytes() == one


def test_hooks_from_before_the_first_backup_are_not_doubled(sh, home, path, wiring):
    """Then there is no store that they could name."""
    wiring().install(None)
    assert "CSB_GIT_DIR=" not in path.read_text()
    sh("git init -q --bare $CSB_HOME/git").ok()
    assert not is_complete(wiring())
    wiring().install(None)
    text = path.read_text()
    assert text.count("csb-hook") == 3
    assert text.count(f"CSB_GIT_DIR={home.backup}/git ") == 3
    wiring().remove()
    assert not path.exists()


@pytest.mark.parametrize("text", ["{", "[]", '{"before": 1, "after": null}'])
def test_a_note_that_is_damaged(sh, home, path, wiring, text):
    """It is named, nothing is changed; without it what is ours goes,
    and nothing else does."""
    path.write_bytes(OTHERS)
    wiring().install(None)
    (note,) = home.backup.glob("settings-*")
    note.write_text(text)
    before = path.read_bytes()
    done = sh("csb-setup --undo")
    assert done.rc == 1 and str(note) in done.err and path.read_bytes() == before
    assert "Remove that file: then csb setup --undo takes out" in done.err
    note.unlink()
    sh("csb-setup --undo").ok()
    assert commands(json.loads(path.read_text())) == {
        "SessionEnd": ["mine --end"], "Stop": ["csb-hook -- mine"]}


# --- the tool -------------------------------------------------------------------------


@pytest.mark.skipif(
    os.geteuid() == 0 and not POWERLESS, reason="root may write anywhere"
)
@pytest.mark.parametrize("folder", ["claude", "backup"])
def test_a_directory_that_cannot_be_written(sh, home, path, wiring, folder):
    path.write_text('{"a": 1}')
    wiring().install(None)
    before = path.read_bytes()
    getattr(home, folder).chmod(0o500)
    done = sh("csb-setup --undo")
    getattr(home, folder).chmod(0o700)
    assert done.rc == 1 and "cannot " in done.err, done
    assert os.listdir(home.claude) == ["settings.json"]
    assert (path.read_bytes() == before) == (folder == "claude")


@pytest.mark.skipif(
    os.geteuid() == 0 and not POWERLESS, reason="root may read anything"
)
@pytest.mark.parametrize(
    "spoil", ["chmod 0", "truncate -s 2M", "mv -t ~", "ln -sf settings.json"]
)
def test_an_undo_that_cannot_look_does_not_say_that_nothing_is_there(
    sh, home, path, wiring, spoil
):
    path.write_text('{"a": 1}')
    wiring().install(None)
    copies = kept(home)
    done = sh(f"{spoil} {path}; csb-setup --undo; chmod -f 600 {path}")
    if spoil == "mv -t ~":
        assert f"No hooks of csb setup are in {path}" in done.out and not kept(home)
        return
    assert f"cannot read '{path}" in done.err and "No hooks" not in done.out
    assert kept(home) == copies


@pytest.mark.parametrize(
    "text, said, left",
    [
        (
            '{"z": 0}',
            ["Removed 3 hooks (SessionStart, PreCompact, SessionEnd) from "],
            {},
        ),
        (
            '{"z": 0, "hooks": {"PreCompact": [{"hooks": [{"command": "csb backup '
            '--quiet"}]}]}}',
            [
                "Removed 3 hooks",
                "This hook was there before, and stays: PreCompact: csb backup --quiet",
            ],
            {"PreCompact": ["csb backup --quiet"]},
        ),
    ],
)
def test_undo_says_what_it_removed(sh, path, wiring, text, said, left):
    path.write_text(text)
    wiring().install(None)
    done = sh("csb-setup --undo").ok()
    for words in said:
        assert words in done.out, done
    assert "There is no timer of this store." in done.out
    assert path.read_text() == text and commands(json.loads(text)) == left
    done = sh("csb-setup --undo").ok()
    assert f"No hooks of csb setup are in {path}." in done.out
    assert ("stays: PreCompact" in done.out) == bool(left)
