"""a store goes to another machine: git copies what is there,
and a copy is gone on with"""
import os
import random

import pytest
from conftest import line, name

pytestmark = pytest.mark.logic

OWN = {"core.bigfilethreshold": "1m", "csb.store": "true", "gc.auto": "0"}
COST = 20 << 10


def back_up_two_alike(sh, home):
    """Two large transcripts that begin alike, the first stored twice; their paths."""
    text = "".join(line(random.Random(n).randbytes(4000).hex()) for n in range(150))
    folder = home.claude / "projects/-p"
    folder.mkdir(parents=True)
    paths = [folder / f"{name(number)}.jsonl" for number in range(2)]
    for path in paths:
        path.write_text(text + line(path.name))
    sh("csb-backup --quiet").ok()
    with open(paths[0], "a") as file:
        file.write(line("more"))
    sh("csb-backup --quiet").ok()
    return paths


@pytest.fixture
def alike(once):
    """The paths of two large transcripts that begin alike, the first stored twice."""
    return once(back_up_two_alike)


@pytest.fixture
def large(sh):
    """large(store): of the large objects,
    {id: the id of what it is a difference of, or zeros}."""
    def ask(store):
        form = "%(objectsize) %(objectname) %(deltabase)"
        lines = sh(f"git --git-dir={store} cat-file --batch-all-objects "
                   f"--batch-check='{form}'").ok().out.splitlines()
        found = {}
        for size, oid, base in map(str.split, lines):
            if int(size) > 1 << 20:
                found[oid] = base
        return found
    return ask


def settings(sh, store):
    """What the configuration of a repository says."""
    lines = sh(f"git --git-dir={store} config --local --list").ok().out.splitlines()
    return dict(line.split("=", 1) for line in lines)


def size(folder):
    """The sum of the sizes of the files below a directory."""
    return sum(
        os.path.getsize(os.path.join(top, name))
        for top, _, names in os.walk(folder)
        for name in names
    )


@pytest.mark.long
def test_a_clone_looks_for_no_differences_between_large_files(sh, home, alike, large):
    """Versions of one file are differences already:
    git sends these as they are, and no other."""
    before = large(home.backup / "git")
    assert len(before) == 3
    assert sum(base.strip("0") != "" for base in before.values()) == 1
    sh("git clone -q --bare file://$CSB_HOME/git copy").ok()
    assert large(home.path / "copy") == before
    sh("git clone -q --bare -u 'git -c core.bigFileThreshold=9m upload-pack' "
       "file://$CSB_HOME/git other").ok()
    assert large(home.path / "other") != before, "there was one to be found"


@pytest.mark.long
def test_a_cloned_store_is_made_one_of_ours(sh, home, alike):
    """At its first backup git is told the same in it as in one that
    csb-gitcommit has made."""
    assert settings(sh, home.backup / "git").items() >= OWN.items()
    sh("git clone -q --bare .claude-backup/git copy && rm -r .claude-backup && "
       "mkdir .claude-backup && mv copy .claude-backup/git").ok()
    assert not settings(sh, home.backup / "git").keys() & OWN.keys()
    sh("csb-backup --quiet && csb-verify >/dev/null").ok()
    assert settings(sh, home.backup / "git").items() >= OWN.items()
    sh("git --git-dir=.claude-backup/git config core.bigFileThreshold 8m").ok()
    sh("csb-gitcommit --make").ok()
    now = settings(sh, home.backup / "git")
    assert now["core.bigfilethreshold"] == "8m", "somebody's wish"


@pytest.mark.long
def test_a_repository_of_another_keeps_its_configuration(sh, home, alike):
    """Nothing is written there but the Claude directory."""
    sh("rm -r .claude-backup && git init -q .claude").ok()
    before = settings(sh, home.claude / ".git")
    sh("csb-backup --quiet").ok()
    after = settings(sh, home.claude / ".git")
    assert after == before | {"csb.claudedir": str(home.claude)}


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.few(1)
def test_a_copied_store_is_gone_on_with(sh, home, alike, large, moved):
    """Copied with other tools than git it is whole,
    and what is appended costs what it costs."""
    sh(
        "cp -r .claude-backup copy && rm -r .claude-backup && mv copy .claude-backup"
    ).ok()
    if moved:       # to a home that has another name
        home.env["CLAUDE_CONFIG_DIR"] = str(home.path / "new")
        home.claude.rename(home.path / "new")
        alike = [home.path / "new" / path.relative_to(home.claude) for path in alike]
        done = sh("csb-backup --quiet")
        assert done.rc == 3 and "--adopt" in done.err, done
        sh("csb-gitcommit --adopt >/dev/null").ok()
    sh("csb-verify --deep >/dev/null").ok()
    sh("csb-backup --quiet").ok()
    before, packs = size(home.backup / "git"), large(home.backup / "git")
    with open(alike[0], "a") as file:
        file.write(line("still more"))
    sh("csb-backup --quiet").ok()
    assert size(home.backup / "git") - before < COST
    after = large(home.backup / "git")
    whole = [oid for oid, base in after.items() if not base.strip("0")]
    assert packs.keys() < after.keys() and len(whole) == 2
    sh("csb-verify --deep >/dev/null").ok()
