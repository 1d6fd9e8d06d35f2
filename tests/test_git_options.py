"""what the tools ask git for is in git 2.34, the oldest one that they work with"""
import ast
import glob
import os

import pytest
from conftest import ROOT, TOOLS

pytestmark = pytest.mark.logic

# What came after 2.34: (subcommand or "" for any, option or
# setting, the version that it came with).
LATER = [
    ("cat-file", "--batch-command", "2.36"),
    ("cat-file", "-Z", "2.42"),
    ("cat-file", "--filter", "2.50"),
    ("ls-tree", "--object-only", "2.36"),
    ("ls-tree", "--format", "2.36"),
    ("ls-files", "--format", "2.38"),
    ("log", "--remerge-diff", "2.36"),
    ("log", "--diff-merges=remerge", "2.36"),
    ("log", "--since-as-filter", "2.37"),
    ("rev-list", "--since-as-filter", "2.37"),
    ("rev-list", "--disk-usage=human", "2.38"),
    ("rev-list", "--exclude-hidden", "2.39"),
    ("rev-list", "--missing=print-info", "2.50"),
    ("rev-list", "-z", "2.50"),
    ("for-each-ref", "--stdin", "2.41"),
    ("for-each-ref", "--omit-empty", "2.41"),
    ("for-each-ref", "--exclude", "2.42"),
    ("for-each-ref", "--include-root-refs", "2.45"),
    ("for-each-ref", "--start-after", "2.51"),
    ("show-ref", "--exists", "2.43"),
    ("show-ref", "--branches", "2.46"),
    ("rev-parse", "--show-ref-format", "2.45"),
    ("init", "--ref-format", "2.45"),
    ("clone", "--ref-format", "2.45"),
    ("clone", "--bundle-uri", "2.38"),
    ("clone", "--revision", "2.49"),
    ("fetch", "--porcelain", "2.41"),
    ("config", "--comment", "2.45"),
    ("config", "get", "2.46"),
    ("config", "set", "2.46"),
    ("config", "list", "2.46"),
    ("config", "unset", "2.46"),
    ("update-ref", "--batch-updates", "2.50"),
    ("merge-tree", "--write-tree", "2.38"),
    ("pack-objects", "--cruft", "2.37"),
    ("pack-objects", "--path-walk", "2.49"),
    ("pack-objects", "--name-hash-version", "2.49"),
    ("repack", "--cruft", "2.37"),
    ("repack", "--expire-to", "2.39"),
    ("repack", "--filter", "2.43"),
    ("repack", "--path-walk", "2.49"),
    ("repack", "--name-hash-version", "2.49"),
    ("gc", "--cruft", "2.37"),
    ("gc", "--max-cruft-size", "2.43"),
    ("fsck", "--references", "2.48"),
    ("fsck", "--no-references", "2.48"),
    ("stash", "--staged", "2.35"),
    ("", "--no-lazy-fetch", "2.45"),
    ("", "--no-advice", "2.46"),
    ("", "--attr-source", "2.41"),
    ("", "core.fsync", "2.36"),
    ("", "core.fsyncMethod", "2.36"),
    ("", "safe.bareRepository", "2.38"),
]
# An older git passes over a setting that it does not know.
# This one makes a newer git do once more what we do ourselves,
# or spares it that: tests/powercut.py takes git's syncs away.
ALLOWED = {("lib/csb/git.py", "core.fsync"), ("bin/csb-gitcommit", "core.fsync")}


def asked_too_much(text):
    """(line, option, version) of what a program says to git that 2.34 does not know.

    The words of one statement are looked at together: a subcommand, and its options.
    """
    found = set()
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.stmt) or hasattr(node, "body"):
            continue
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue                # a docstring
        words = set()
        for part in ast.walk(node):
            if isinstance(part, ast.Constant) and isinstance(part.value, str):
                words.update(part.value.split())
        for command, option, version in LATER:
            if command and command not in words:
                continue
            if any(word == option or word.startswith(option + "=") for word in words):
                found.add((node.lineno, option, version))
    return sorted(found)


def sources():
    """The paths of the tools that ask git, and of the modules, below the top."""
    found = []
    for name in TOOLS:
        with open(os.path.join(ROOT, "bin", name), encoding="utf-8") as file:
            if "from csb.git import " in file.read():
                found.append(f"bin/{name}")
    modules = glob.glob(os.path.join(ROOT, "lib/csb/*.py"))
    return found + [os.path.relpath(path, ROOT) for path in sorted(modules)]


@pytest.mark.parametrize("path", sources())
def test_git_is_asked_for_nothing_that_2_34_does_not_know(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        found = asked_too_much(file.read())
    said = [
        f"{path}:{line}: {option} came with git {version}"
        for line, option, version in found
        if (path, option) not in ALLOWED
    ]
    assert said == []


@pytest.mark.parametrize("text, option", [
    ('git(store, "cat-file", "--batch-command")', "--batch-command"),
    ('git(store, "cat-file", "--batch-command=%(objectname)")', "--batch-command"),
    ('words = "ls-tree -r --format=x".split()', "--format"),
    ('words = ["for-each-ref", *more, "--exclude=refs/x"]', "--exclude"),
    ('SETTINGS = {"core.fsyncMethod": "batch"}', "core.fsyncMethod"),
    ('git(None, f"-c core.fsync={what}")', "core.fsync"),
])
def test_what_is_too_new_is_found(text, option):
    assert [found[1] for found in asked_too_much(text)] == [option]


@pytest.mark.parametrize("text", [
    'git(store, "cat-file", "--batch", "--unordered")',
    'words = ["log", "--format=%H"]',
    '"""cat-file --batch-command"""',
    'git(store, "config", name, value)',
])
def test_what_is_old_enough_is_not(text):
    assert asked_too_much(text) == []
