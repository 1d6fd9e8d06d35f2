"""csb.git: what is read from git's files, without git, is what git says"""
import os
import subprocess
import sys

import pytest
from conftest import ROOT

sys.path.insert(0, f"{ROOT}/lib")
from csb.git import Info, Objects, backup_ref, commit_of
from csb.seen import last_backup, write_seen

pytestmark = pytest.mark.logic

CONFIGS = {"as csb writes it": "[csb]\n\tstore = true\n", "no word of csb": ""}
REFS = {
    "loose": [],
    "packed": [["pack-refs", "--all"]],
    "packed, and newer beside it": [
        ["pack-refs", "--all"],
        ["update-ref", "refs/heads/main", "refs/heads/a"],
        ["update-ref", "refs/csb/main", "refs/heads/a"],
    ],
    "symbolic": [
        ["symbolic-ref", "refs/heads/main", "refs/heads/a"],
        ["symbolic-ref", "refs/csb/main", "refs/heads/a"],
    ],
    "gone": [
        ["update-ref", "-d", "refs/heads/main"],
        ["update-ref", "-d", "refs/csb/main"],
    ],
    "packed and gone": [
        ["pack-refs", "--all"],
        ["update-ref", "-d", "refs/heads/main"],
        ["update-ref", "-d", "refs/csb/main"],
    ],
}


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A store with four refs to four commits; a function runs git there."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    store = tmp_path / "store"
    subprocess.run(["git", "init", "-q", "--bare", store], check=True)

    def git(*words, stdin=b""):
        command = ["git", "-C", store, "-c", "user.name=a", "-c", "user.email=a@b"]
        done = subprocess.run(
            [*command, *words], input=stdin, stdout=subprocess.PIPE, check=True
        )
        return done.stdout.decode().strip()

    tree = git("mktree")
    for ref in ("refs/heads/a", "refs/heads/main", "refs/csb/main", "refs/csb/z"):
        git("update-ref", ref, git("commit-tree", "-m", ref, tree))
    git.store = str(store)
    return git


@pytest.mark.parametrize("refs", REFS)
@pytest.mark.parametrize("form", ["as csb writes it", "no word of csb"])
def test_the_last_backup_is_what_git_says(repository, refs, form):
    with open(f"{repository.store}/config", "a", encoding="utf-8") as file:
        file.write(CONFIGS[form])
    for words in REFS[refs]:
        repository(*words)
    expected = commit_of(repository.store, backup_ref(repository.store))
    assert last_backup(repository.store) == expected
    write_seen(repository.store, backup_ref(repository.store), "0" * 40, {})
    assert last_backup(repository.store) == expected
    assert bool(expected) == ("gone" not in refs)


def test_many_objects_are_asked_for_at_once(repository):
    """More than a pipe holds the answers of; what is not there is left out."""
    objects = Objects(repository.store)
    there = {}
    for number in range(3):
        oid = repository("hash-object", "-w", "--stdin", stdin=b"x" * number)
        there[oid] = Info(oid, "blob", number)
    lost = [f"{number:040x}" for number in range(2000)]
    assert objects.infos([*lost[:1000], *there, *lost[1000:]]) == there
    assert objects.infos([]) == {}
    objects.teller.kill()
    objects.teller.wait()
    assert objects.infos([*there, lost[0]]) == there, "by another git"
    objects.close()
