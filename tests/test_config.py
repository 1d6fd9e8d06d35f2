"""csb-config: one setting is changed, all else stays, what is dangerous is refused."""
import json
import os
import stat

import pytest
from conftest import POWERLESS

pytestmark = pytest.mark.logic

DAYS = "settings:cleanupPeriodDays"
BOM = b"\xef\xbb\xbf"
BIG = (b'{\n  "hooks": {\n    "a": "\\u00e9\\ud800"\n  },\n  "cleanupPeriodDays": %s,'
       b'\n  "env": {\n    "cleanupPeriodDays": 7\n  }\n}')


@pytest.fixture
def settings(home):
    """Where Claude Code's settings are."""
    return home.claude / "settings.json"


@pytest.fixture
def config(home):
    """Where ours are; the directory is there."""
    home.backup.mkdir()
    return home.backup / "config.json"


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def refused(done, status, *words):
    """It changed nothing and said why, in one line."""
    assert (done.rc, done.out, done.err.count("\n")) == (status, "", 1), done
    for word in words:
        assert word in done.err, done


def listed(sh, **env):
    """{key: row} of what csb-config lists."""
    return {row["key"]: row for row in sh("csb-config", **env).ok().records}


@pytest.mark.few(4)
@pytest.mark.parametrize("before, after", [
    (None, b'{\n  "cleanupPeriodDays": 365\n}\n'),
    (b"{}", b'{\n  "cleanupPeriodDays": 365\n}'),
    (b"{}\n", b'{\n  "cleanupPeriodDays": 365\n}\n'),
    (b"{\r\n}", b'{\r\n  "cleanupPeriodDays": 365\r\n}'),
    (b'{"a":1}', b'{"a":1,"cleanupPeriodDays":365}'),
    (b'{"a": 1}\n', b'{"a": 1, "cleanupPeriodDays": 365}\n'),
    (b'{ "a" : 1, "b" : "}" }', b'{"a": 1, "b": "}", "cleanupPeriodDays": 365}'),
    (b'{\n    "a": {"b": "x"},\n    "c": []\n}\n',
     b'{\n    "a": {\n        "b": "x"\n    },\n    "c": [],\n'
     b'    "cleanupPeriodDays": 365\n}\n'),
    (b'{\n\t"a": 1\n}', b'{\n\t"a": 1,\n\t"cleanupPeriodDays": 365\n}'),
    (b'{\r\n  "a": 1\r\n}\r\n',
     b'{\r\n  "a": 1,\r\n  "cleanupPeriodDays": 365\r\n}\r\n'),
    (BIG % b"30", BIG % b"365"),
    (BIG % b'"x"' + b"\n\n", BIG % b"365" + b"\n\n"),
    (BIG % b"[]", BIG % b"365"),
    (BOM + BIG % b"0", BOM + BIG % b"365"),
    (b'{"a": "\xc3\xa9\xe2\x80\xa8", "cleanupPeriodDays":1}',
     b'{"a": "\xc3\xa9\xe2\x80\xa8", "cleanupPeriodDays": 365}'),
    (b'{"x\\"}": "{", "cleanup\\u0050eriodDays": 1}',
     b'{"x\\"}": "{", "cleanupPeriodDays": 365}')])
def test_one_number_changes_and_nothing_else(sh, home, settings, before, after):
    """What was there is kept beside, and named."""
    def kept():
        return list(home.backup.glob("settings.json.*"))

    if before is not None:
        settings.write_bytes(before)
        settings.chmod(0o640)
    done = sh(f"csb-config {DAYS} 365")
    assert (done.rc, done.out) == (0, "")
    assert settings.read_bytes() == after
    assert os.listdir(home.claude) == ["settings.json"]
    if before is None:
        assert mode(settings) == 0o600
        assert (kept(), done.err) == ([], "")
    else:
        assert mode(settings) == 0o640
        [copy] = kept()
        assert copy.read_bytes() == before
        assert str(copy) in done.err and done.err.count("\n") == 1

    there = kept()
    sh(f"csb-config {DAYS} 365").ok()
    assert kept() == there, "nothing changed"
    assert sh(f"csb-config {DAYS}").ok().out == "365\n"


@pytest.mark.parametrize("before", [
    b'{"a":1}', b'{"a": 1, "b": 2}\n', b'{\n  "a": 1\n}\n',
    b'{\r\n "a": 1,\r\n "b": []\r\n}'])
@pytest.mark.few(2)
def test_set_and_unset_is_as_before(sh, settings, before):
    settings.write_bytes(before)
    assert sh(f"csb-config {DAYS} 365 && csb-config --unset {DAYS}").rc == 0
    assert settings.read_bytes() == before
    assert sh(f"csb-config {DAYS}").ok().out == "30\n"


@pytest.mark.parametrize("before, after", [
    (b'{"cleanupPeriodDays": 1}', b"{}"),
    (b'{"cleanupPeriodDays": 1, "a": 2}', b'{"a": 2}'),
    (b'{\n  "a": 1,\n  "cleanupPeriodDays": 1,\n  "b": 2\n}',
     b'{\n  "a": 1,\n  "b": 2\n}'),
    (None, None),
    (b'{"a": 1}', b'{"a": 1}')])
def test_unset(sh, settings, before, after):
    if before is not None:
        settings.write_bytes(before)
    assert sh(f"csb-config --unset {DAYS}").rc == 0
    if after is None:
        assert not settings.exists()
    else:
        assert settings.read_bytes() == after


@pytest.mark.parametrize("text, reason", [
    (b'{\n  // days\n  "a": 1\n}', "comments are no JSON"),
    (b'{"a": 1,}', ""),
    (b"", ""),
    (b"\n", ""),
    (b"[]", "not an object"),
    (b"1", "not an object"),
    (b'{"a":1,"a":2}', "'a' stands there twice"),
    (b'{"a": 1} x', "Extra data"),
    (b'{"a"', ""),
    (b'{"a": "\xff"}', "utf-8"),
    ('{"a": 1}'.encode("utf-16"), "utf-8"),
    (b'{"a":' * 100000, ""),
    (BOM, ""),
    (b'{"a": "\n"}', "control character"),
    (b"{}" + b" " * (1 << 20), "larger than 1 MB")])
@pytest.mark.parametrize("name, key, value", [
    ("settings", DAYS, 365), ("config", "interval", 30)])
@pytest.mark.few(3)
def test_a_file_that_is_no_json_is_not_touched(
        sh, settings, config, text, reason, name, key, value):
    path = {"settings": settings, "config": config}[name]
    path.write_bytes(text)
    for line in (f"csb-config {key} {value}", f"csb-config --unset {key}"):
        done = sh(line)
        refused(done, 1, str(path), reason)
        assert "nothing was ch" in done.err or "larger" in done.err
        assert path.read_bytes() == text
        assert len(os.listdir(path.parent)) == 1

    done = sh("csb-config")
    assert done.rc == 1 and done.err.count("\n") == 1
    assert len(done.records) == {"settings": 3, "config": 0}[name]


@pytest.mark.parametrize("there", [True, False])
def test_a_link_is_written_through(sh, home, settings, dotfiles, there):
    real = dotfiles(0o644 if there else None)
    assert sh(f"csb-config {DAYS} 90").rc == 0
    assert os.readlink(settings) == "../step"
    assert os.path.islink(home.path / "step")
    assert json.loads(real.read_text())["cleanupPeriodDays"] == 90
    if there:
        assert mode(real) == 0o644


def test_zero_days_must_be_meant(sh, settings):
    settings.write_text("{}")
    refused(sh(f"csb-config {DAYS} 0"), 2, "--force", "2.1.89")
    assert settings.read_text() == "{}"
    assert sh(f"csb-config --force {DAYS} 0").rc == 0
    assert json.loads(settings.read_text()) == {"cleanupPeriodDays": 0}


@pytest.mark.skipif(
    os.geteuid() == 0 and not POWERLESS, reason="root may write anywhere")
@pytest.mark.parametrize("folder", ["claude", "backup"])
def test_a_directory_that_cannot_be_written(settings, unwritable, folder):
    unwritable(f"csb-config {DAYS} 90", folder)
    assert settings.read_text() == '{"a": 1}'


def test_no_claude_directory(sh, home):
    none = home.path / "none"
    refused(sh(f"csb-config {DAYS} 90", CLAUDE_CONFIG_DIR=str(none)), 1)
    assert not none.exists()


def test_only_what_was_set_is_written(sh, home, config):
    """No default freezes, a newer csb's settings stay, and the file is ours alone."""
    for words, expected in (
            ("interval 30", {"interval": 30}),
            ("refuse tmp/ '*.mp4'", {"interval": 30, "refuse": ["tmp/", "*.mp4"]}),
            ("refuse x", {"interval": 30, "refuse": ["x"]}),
            ("--unset interval", {"refuse": ["x"]}),
            ("--unset interval", {"refuse": ["x"]}),
            ("--unset refuse", {})):
        sh(f"csb-config {words}").ok()
        assert json.loads(config.read_text()) == expected
        assert mode(config) == 0o600

    newer = '{"newer": {"a": [1.5]}, "git_dir": "/x"'
    config.write_text(newer + "}")
    config.chmod(0o644)
    sh("csb-config interval 60").ok()
    assert config.read_text() == newer + ', "interval": 60}'
    assert os.listdir(home.backup) == ["config.json"]
    assert mode(config) == 0o600


def test_the_list(sh, home, settings):
    store = str(home.backup / "git")
    rows = listed(sh)
    shown = {}
    for key, row in rows.items():
        assert set(row) == {"kind", "key", "value", "default", "from", "meaning"}
        shown[key] = row["value"], row["default"], row["from"]
    assert shown == {
        "git_dir": (store, store, "default"),
        "refuse": ([], [], "default"),
        "interval": (15, 15, "default"),
        DAYS: (30, 30, "default")}
    assert not home.backup.exists(), "a reader makes nothing"

    settings.write_text('{"cleanupPeriodDays": 99}')
    sh("csb-config interval 60; csb-config refuse a b").ok()
    sh("csb-config --force git_dir /nowhere").ok()
    rows = listed(sh)
    assert {row["from"] for row in rows.values()} == {"file"}
    assert {key: row["value"] for key, row in rows.items()} == {
        "git_dir": "/nowhere", "refuse": ["a", "b"], "interval": 60, DAYS: 99}
    row = listed(sh, CSB_GIT_DIR="/env")["git_dir"]
    assert (row["value"], row["from"]) == ("/env", "env")
    assert sh("csb-config refuse").ok().out == "a\nb\n"
    assert sh("csb-config git_dir").ok().out == "/nowhere\n"


@pytest.mark.parametrize("words, said", [
    ("intervall 5", "interval"),
    ("cleanupPeriodDays 5", DAYS),
    ("xyz", "git_dir"),
    ("'' 5", ""),
    ("interval 0", "divide"),
    ("interval 7", "divide"),
    ("interval 90", "divide"),
    ("interval 2880", "divide"),
    ("interval -- -15", "divide"),
    ("interval 1.5", "divide"),
    ("interval x", "divide"),
    ("interval ''", "divide"),
    ("interval 15 30", "has one"),
    (f"{DAYS} x", "days"),
    (f"{DAYS} 1e3", "days"),
    (f"{DAYS} -- -1", "days"),
    (f"{DAYS} 1000000", "days"),
    (f"{DAYS} ''", "days"),
    (f"--force {DAYS} -- -1", "days"),
    ("git_dir ''", "directory"),
    ("git_dir /dev/null", "directory"),
    ("git_dir /nowhere", "csb gitcommit --make --git-dir /nowhere makes"),
    ("git_dir .claude", "--make"),
    ("refuse ''", "below"),
    ("refuse /etc", "below"),
    ("refuse '*'", "--force"),
    ("refuse ok 'projects/'", "--force"),
    ("refuse 'projects/*'", "--force"),
    ("refuse '*.jsonl'", "--force"),
    ("refuse '*/'", "--force"),
    ("--unset interval 5", ""),
    ("--unset nothing", "git_dir"),
    ("--unset", "")])
@pytest.mark.few(6)
def test_misuse(sh, home, settings, words, said):
    refused(sh(f"csb-config {words}"), 2, said)
    assert not home.backup.exists() and not settings.exists()


@pytest.mark.parametrize("text, bad, tool", [
    ('{"interval": "x"}', "interval", "csb-schedule --print"),
    ('{"interval": true}', "interval", "csb-schedule --print"),
    ('{"refuse": "x"}', "refuse", "csb-changes"),
    ('{"refuse": [1]}', "refuse", "csb-changes"),
    ('{"git_dir": 5}', "git_dir", "csb-changes")])
@pytest.mark.few(3)
def test_a_bad_value_in_the_file_is_named_by_who_needs_it(
        sh, settings, config, text, bad, tool):
    config.write_text(text)
    settings.write_text("{}")
    done = sh(tool)
    assert done.rc in (1, 3)
    refused(done, done.rc, bad, "config.json")
    assert sh("csb-config").rc == (3 if bad == "git_dir" else 0)
    sh(f"csb-config --unset {bad} && csb-config && {tool}").ok()


def test_null_is_not_set(sh, settings, config):
    """To all tools, as csb-config shows it."""
    config.write_text('{"refuse": null, "interval": null, "git_dir": null}')
    settings.write_text("{}")
    assert {row["from"] for row in listed(sh).values()} == {"default"}
    sh("csb-changes && csb-schedule --print").ok()


def test_the_other_tools_obey(sh, home, settings):
    """refuse and git_dir are what csb-changes and csb-backup go by."""
    (home.claude / "notes").mkdir()
    (home.claude / "notes" / "a").write_text("a")
    (home.claude / "b\udcff.mp4").write_text("b")
    settings.write_text("{}")
    sh("csb-config refuse 'notes/' $'*\\xff.mp4'").ok()
    assert sh("csb-config refuse").ok().out == "notes/\n*\udcff.mp4\n"
    rows = sh("csb-changes").ok().records
    paths = [row["path"] for row in rows if row["kind"] == "refused"]
    assert paths == ["b\udcff.mp4", "notes"]

    sh("csb-gitcommit --make --git-dir 'my store' >/dev/null").ok()
    sh("csb-config git_dir 'my store' && csb-backup --quiet").ok()
    assert sh("csb-config git_dir").ok().out == f"{home.path}/my store\n"
    assert sh("git --git-dir 'my store' show main:settings.json").ok().out == "{}"
    assert not (home.backup / "git").exists()
