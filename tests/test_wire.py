"""csb-wire, csb-splice: hooks go into settings.json and out of it, and no other byte changes."""
import json
import os
import re

import pytest
from conftest import POWERLESS

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
FORMS = {
    "empty object": b"{}", "with a newline": b"{}\n", "on two lines": b"{\n}\n", "spaced": b"{ }",
    "mark": BOM + b'{\n  "a": 1\n}\n', "mark alone": BOM + b"{}",
    "crlf": b'{\r\n  "a": 1,\r\n  "b": [\r\n  ]\r\n}\r\n', "crlf empty": b"{\r\n}\r\n",
    "tabs": b'{\n\t"a": {\n\t\t"b": 2\n\t}\n}\n', "no newline": b'{\n  "a": 1\n}',
    "tight": b'{"a":1,"b":{"c":[]}}', "one line": b'{ "a" : 1, "b" : "}" }',
    "no indent": b'{\n"a": 1,\n"hooks": {\n"Stop": []\n}\n}\n',
    "blank lines": b'\n\n{"a": 1}\n\n\n',
    "others": OTHERS, "others first": b'{"hooks": {"SessionEnd": [{"hooks": []}]}, "z": 0}',
    "empty hooks": b'{\n  "hooks": {},\n  "z": 0\n}\n', "empty, two lines": b'{"hooks": {\n}}',
    "duplicates": b'{"hooks": {"SessionEnd": []}, "a": 1, "a": 2, "hooks": {"SessionEnd": [], '
                  b'"SessionEnd": [ ]}}',
    "odd groups": b'{"hooks": {"SessionEnd": [1, null, {}, {"hooks": 5}, {"hooks": [7, {}, '
                  b'{"command": ["csb-hook"]}, {"command": "\'csb-hook -IS"}]}], '
                  b'"Odd": {"a": []}}}',
    "a brace in a name": b'{"{\\"hooks\\": [": "}", "h\\u006foks": {"Stop": [] }}',
    "large": b'{"a": {}, "b": "' + b"x" * (1 << 21) + b'"}\n',
    "deep": b'{"a": ' + b"[" * 400 + b"]" * 400 + b', "b": 1}',
}


def settings(home):
    return home.claude / "settings.json"


def note(home):
    """The file in which --install noted what there was."""
    path, = home.backup.glob("wired-*.json")
    return path


def commands(data):
    """{event: [commands]} of settings, as the client reads them."""
    return {event: [entry["command"] for group in groups if isinstance(group, dict)
                    for entry in group["hooks"]]
            for event, groups in data.get("hooks", {}).items()}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.few(4)
def test_in_and_out_again_leaves_every_byte(sh, home, form):
    """Twice, in both the ways in which they are taken out: with what was noted, and without."""
    path, before = settings(home), FORMS[form]
    path.write_bytes(before)
    path.chmod(0o640)
    old = json.loads(before.decode("utf-8-sig"))
    record, = sh("csb-wire --install --keep-days 999").ok().records
    assert (record["installed"], record["events"]) == (True, record["events"])
    assert sorted(record["events"]) == sorted(EVENTS) and record["keep_days"] == 999
    after = path.read_bytes()
    new = json.loads(after.decode("utf-8-sig"))
    assert after.startswith(BOM) == before.startswith(BOM)
    assert after.count(b"\r\n") == (after.count(b"\n") if b"\r\n" in before else 0)
    for event in EVENTS:
        group, was = new["hooks"].pop(event), old.get("hooks", {}).get(event)
        assert group == (was or []) + [
            {"hooks": [{"type": "command", "command": record["command"]}]}]
    assert new.pop("cleanupPeriodDays") == 999
    assert {**new, "hooks": 0} == {**old, "hooks": 0}
    assert new["hooks"] == {k: v for k, v in old.get("hooks", {}).items() if k not in EVENTS}
    kept = list(home.backup.glob("settings.json.*"))
    assert [copy.read_bytes() for copy in kept] == [before]
    assert path.stat().st_mode & 0o777 == 0o640 and os.listdir(home.claude) == [path.name]
    sh("csb-wire --install --keep-days 999").ok()
    assert path.read_bytes() == after and len(list(home.backup.glob("settings.json.*"))) == 1
    sh("csb-wire --remove").ok()
    assert path.read_bytes() == before and path.stat().st_mode & 0o777 == 0o640
    assert sh("csb-wire --remove").ok().records[0]["installed"] is False
    sh("csb-wire --install").ok()
    note(home).unlink()
    sh("csb-wire --remove").ok()
    # What was empty before cannot be told from what was made.
    if not re.search(rb'\{\s+\}|\[ \]|\{"SessionEnd": \[\]|"PreCompact": \[\]|"hooks": \{\}',
                     before):
        assert path.read_bytes() == before
    assert path.read_bytes().count(b"csb-hook") == before.count(b"csb-hook")


@pytest.mark.parametrize("form", ["mark", "crlf", "tabs", "tight", "others", "others first",
                                  "empty hooks"])
def test_what_the_user_changed_since_stays(sh, home, form):
    path, before = settings(home), FORMS[form]
    path.write_bytes(before)
    sh("csb-wire --install --keep-days 999").ok()
    change = lambda text: re.sub(rb'"a": ?1|"b": 2|"model" : "x"|"z": 0', b'"q": {"new": [1]}',
                                 text)
    assert change(before) != before
    path.write_bytes(change(path.read_bytes()))
    sh("csb-wire --remove").ok()
    assert path.read_bytes() == change(before)


def test_what_another_program_wrote_anew(sh, home):
    """The client writes settings.json in its own manner; the user takes one hook out, adds one."""
    path = settings(home)
    path.write_bytes(OTHERS)
    command = sh("csb-wire --install --keep-days 999").ok().records[0]["command"]
    new = json.loads(path.read_text())
    new["hooks"]["SessionStart"].append({"hooks": [{"type": "command", "command": "new"}]})
    new["hooks"]["SessionEnd"][1]["hooks"].append({"type": "command", "command": "second"})
    del new["hooks"]["PreCompact"]
    new["cleanupPeriodDays"] = 77
    path.write_text(json.dumps(new, indent=1))
    assert sh("csb-wire").ok().records[0]["installed"] is False
    sh("csb-wire --remove").ok()
    left = json.loads(path.read_text())
    assert command not in path.read_text() and left["cleanupPeriodDays"] == 77
    assert commands(left) == {"SessionEnd": ["mine --end", "second"], "Stop": ["csb-hook -- mine"],
                              "SessionStart": ["new"]}


def test_no_file_before_none_afterwards(sh, home):
    sh("csb-wire --install").ok()
    assert settings(home).stat().st_mode & 0o777 == 0o600
    assert set(commands(json.loads(settings(home).read_text()))) == set(EVENTS)
    sh("csb-wire --remove").ok()
    assert os.listdir(home.claude) == []
    sh("csb-wire --remove").ok()
    assert os.listdir(home.claude) == []


@pytest.mark.parametrize("text, reason", [
    (b'{\n  // mine\n  "a": 1\n}', "comments are no JSON"), (b'{/* x */}', ""), (b'{"a": 1,}', ""),
    (b"[]", "not an object"), (b"null", "not an object"), (b"", "empty"), (b'{"a": NaN}', "NaN"),
    (b'{"a": "\xff"}', "utf-8"), ('{"a": 1}'.encode("utf-16"), "utf-8"), (b'{"a"', ""),
    (b'{"a":' * 99999, ""), (b"\n" * (1 << 21) + b"{x", ""),
    (b"{}" + b" " * (1 << 22), "larger than 4 MB"),
    (b'{"hooks": []}', "no object"), (b'{"hooks": null}', "no object"),
    (b'{"hooks": {"SessionStart": [], "SessionEnd": {}}}', "no list"),
    (b'{"hooks": {"PreCompact": "csb-hook"}}', "no list")])
@pytest.mark.few(6)
def test_what_has_another_shape_is_not_touched(sh, home, text, reason):
    settings(home).write_bytes(text)
    done = sh("csb-wire --install --keep-days 90")
    assert (done.rc, done.out, done.err.count("\n")) == (1, "", 1), done
    assert str(settings(home)) in done.err and reason in done.err
    assert settings(home).read_bytes() == text and os.listdir(home.claude) == ["settings.json"]
    assert not home.backup.exists()
    assert sh("csb-wire --remove").rc in (0, 1) and settings(home).read_bytes() == text


@pytest.mark.parametrize("there", [True, False])
def test_a_link_is_written_through(sh, home, dotfiles, there):
    real = dotfiles(0o444 if there else None)
    sh("csb-wire --install").ok()
    assert real.stat().st_mode & 0o777 == (0o444 if there else 0o600)
    assert set(commands(json.loads(real.read_text()))) == set(EVENTS)
    sh("csb-wire --remove").ok()
    assert os.readlink(settings(home)) == "../step" and os.path.islink(home.path / "step")
    assert real.read_text() == '{"a": 1}\n' if there else not real.exists()


@pytest.mark.skipif(os.geteuid() == 0 and not POWERLESS, reason="root may write anywhere")
@pytest.mark.parametrize("folder", ["claude", "backup"])
def test_a_directory_that_cannot_be_written(home, unwritable, folder):
    done = unwritable("csb-wire --install", folder)
    assert "settings.json was not changed" in done.err
    assert settings(home).read_text() == '{"a": 1}' and os.listdir(home.claude) == ["settings.json"]


def test_the_plugin_brings_the_hooks(sh, home):
    """None are put in where it is on, and ours are taken out: they would run twice."""
    path, on = settings(home), {"enabledPlugins": {"csb@csb-tools": True}}
    path.write_text(json.dumps(on))
    record, = sh("csb-wire --install").ok().records
    assert (record["plugin"], record["installed"]) == (True, False)
    assert json.loads(path.read_text()) == on and not home.backup.exists()
    for off in (False, None, "true"):
        path.write_text(json.dumps({"enabledPlugins": {"csb@csb-tools": off}}))
        assert sh("csb-wire --install").ok().records[0]["installed"] is True
    path.write_text(json.dumps(json.loads(path.read_text()) | on))
    assert sh("csb-wire --install").ok().records[0]["events"] == []
    assert json.loads(path.read_text()) == on


@pytest.mark.long
def test_the_clean_up_age_is_only_raised(sh, home):
    path = settings(home)
    for text in ('{"cleanupPeriodDays": 4000}', '{"cleanupPeriodDays": 365.5}'):
        path.write_text(text)
        sh("csb-wire --install --keep-days 365").ok()
        assert json.loads(path.read_text())["cleanupPeriodDays"] == json.loads(text)[
            "cleanupPeriodDays"]
    for text in ('{"cleanupPeriodDays": 0}', '{"cleanupPeriodDays": "x"}', "{}"):
        path.write_text(text)
        sh("csb-wire --install && csb-wire --install --keep-days 90").ok()
        assert sh("csb-wire --install --keep-days 365").ok().records[0]["keep_days"] == 365
        path.write_text(path.read_text().replace("{", '{"new": 1,', 1))
        sh("csb-wire --remove").ok()
        assert json.loads(path.read_text()) == {"new": 1, **json.loads(text)}


def test_places(sh, home, tools, tmp_path):
    """A command names what is not usual, for any directory; an older one of the same places is
    replaced, that of another store stays."""
    path = settings(home)
    path.write_text("{}")
    first = sh("csb-wire --install", CSB_HOME=None).ok().records[0]["command"]
    assert first.endswith("/csb-hook") and "-IS" in first and "CSB_HOME" not in first
    path.write_text(path.read_text().replace(" -IS ", " -IS /old"))
    assert sh("csb-wire", CSB_HOME=None).ok().records[0]["events"] == []
    sh("csb-wire --install", CSB_HOME=None).ok()
    assert commands(json.loads(path.read_text())) == {event: [first] for event in EVENTS}
    odd = tmp_path / "it's $HOME \u00e9"
    odd.mkdir()
    one = path.read_bytes()
    second = sh('csb-wire --install --git-dir "$CSB_HOME/x" --claude-dir .claude',
                CSB_HOME=str(odd)).ok().records[0]["command"]
    assert commands(json.loads(path.read_text())) == {event: [first, second] for event in EVENTS}
    words = sh(f"for i in {second.replace('CSB_HOME=', '', 1)}; do echo \"$i\"; done").ok().out
    assert words.split("\n")[0] == str(odd) and words.split("\n")[-3:] == [
        f"--claude-dir={home.claude}", f"--git-dir={odd}/x", ""]
    sh('csb-wire --remove --git-dir "$CSB_HOME/x" --claude-dir .claude', CSB_HOME=str(odd)).ok()
    assert path.read_bytes() == one
    done = sh("csb-wire --install --git-dir $'/\\xff'")
    assert (done.rc, done.err.count("\n")) == (1, 1) and "UTF-8" in done.err
    assert path.read_bytes() == one


@pytest.mark.parametrize("text", ["{", "[]", '{"path": 5}', '{"path": "PATH", "made": 5}',
                                  '{"path": "PATH", "made": [], "days": [1], "after": null}',
                                  '{"path": "PATH", "made": [5], "days": null, "copy": "../x"}'])
def test_a_note_that_is_damaged(sh, home, text):
    """What is ours goes all the same, and nothing else does."""
    settings(home).write_bytes(OTHERS)
    sh("csb-wire --install").ok()
    note(home).write_text(text.replace("PATH", str(settings(home))))
    assert sh("csb-wire --remove").ok().records[0]["events"] == []
    assert commands(json.loads(settings(home).read_text())).keys() <= {
        *EVENTS, "Stop"}


def test_a_copy_that_was_changed_is_not_put_back(sh, home):
    settings(home).write_bytes(OTHERS)
    sh("csb-wire --install").ok()
    copy, = home.backup.glob("settings.json.*")
    copy.write_text("{}")
    sh("csb-wire --remove").ok()
    assert settings(home).read_bytes() == OTHERS


@pytest.mark.parametrize("words", ["--keep-days 5", "--install --keep-days 0", "--print --remove",
                                   "--install --keep-days -- -5", "--install --keep-days x", "x"])
def test_misuse(sh, home, words):
    done = sh(f"csb-wire {words}")
    assert (done.rc, done.out, done.err.count("\n")) == (2, "", 1), done
    assert os.listdir(home.claude) == [] and not home.backup.exists()


def test_edits_that_are_none(sh):
    """csb-splice names each, and goes on with the next."""
    bad = [{}, {"text": 5, "do": "look", "command": "x"}, {"text": "{}", "do": "look"},
           {"text": "{}", "do": "remove", "command": "csb-hook", "days": 5},
           {"text": "[", "do": "look", "command": "x"}]
    done = sh("csb-splice", "".join(json.dumps(one) + "\n" for one in [
        *bad, {"text": "{}", "do": "look", "command": "x"}]).encode())
    assert (done.rc, done.err.count("\n"), len(done.records)) == (1, len(bad), 1), done
