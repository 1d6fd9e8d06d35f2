"""csb.session: ids in either case, and which path belongs to which session."""
import sys
from unicodedata import normalize

import pytest
from conftest import ROOT

sys.path.insert(0, f"{ROOT}/lib")
from csb import Error
from csb.session import (
    FolderMap,
    Spellings,
    ids_in,
    is_id,
    odd_transcript_in,
    pick,
    slug_of,
    slugs_of,
    transcript_in,
)

pytestmark = pytest.mark.logic

ONE = "3f4a9b10-0000-4000-8000-00000000abc1"
TWO = "3f4a9b10-0000-4000-8000-00000000abc2"
LOUD = ONE.upper()


@pytest.mark.parametrize("path, ids", [
    (f"projects/-w/{ONE}.jsonl", [ONE]),
    (f"projects/-w/{LOUD}.jsonl", [LOUD]),
    (f"projects/-w/{ONE}/subagents/agent-a.jsonl", [ONE]),
    (f"projects/{ONE}/notes.txt", []),
    (f"projects/-w-{ONE}/{TWO}.jsonl", [TWO]),
    (f"projects/{ONE}.jsonl", []),
    (f"projects/-w/{ONE}.jsonl.bak", [ONE]),
    (f"projects/-w/deep/er/{ONE}.jsonl", [ONE]),
    (f"todos/{ONE}-agent-{TWO}.json", [ONE, TWO]),
    (f"todos/{ONE}-agent-{ONE}.json", [ONE]),
    (f"file-history/{LOUD}/a@v1", [LOUD]),
    (f"sesslogs/copy_of_{ONE}_2.log", [ONE]),
    (f"todos/a{ONE}.json", []),
    (f"todos/{ONE}0", []),
    (f"todos/x{ONE}z", [ONE]),
    ("settings.json", []),
    ("projects", []),
    ("", []),
    (f"todos/{ONE[:-1]}\N{FULLWIDTH DIGIT ONE}", []),
])
def test_ids_in_a_path(path, ids):
    assert ids_in(path) == ids


@pytest.mark.parametrize("path, found", [
    (f"projects/-w/{LOUD}.jsonl", ("-w", LOUD)),
    (f"projects/-w/x/{ONE}.jsonl", None),
    (f"projects/-w/{ONE}.jsonl.bak", None),
    (f"projects/-w/words-{ONE}.jsonl", None),
    (f"x/projects/-w/{ONE}.jsonl", None),
])
def test_transcripts(path, found):
    assert transcript_in(path) == (found and (*found, None))


@pytest.mark.parametrize("path, found", [
    (f"-w/a/{ONE}.jsonl", (ONE, "deeper")),
    (f"-w/a/b/{LOUD}.jsonl", (LOUD, "deeper")),
    (f"-w/a/{ONE} (1).jsonl", (ONE, "deeper")),
    (f"-w/{TWO}/{ONE}.jsonl", (ONE, "deeper")),
    (f"-w/a/{TWO}/{ONE}.jsonl", (ONE, "deeper")),
    (f"-w/Copy of {ONE}.jsonl", (ONE, "copy")),
    (f"-w/old-{ONE}.jsonl", (ONE, "copy")),
    (f"-w/{ONE}.sync-conflict-2.jsonl", (ONE, "copy")),
    (f"-w/{ONE}.jsonl.bak", (ONE, "copy")),
    (f"-w/{ONE}.jsonl.bak2", (ONE, "copy")),
    (f"-w/{ONE}.jsonl~", (ONE, "copy")),
    *((f"-w/{name}", (ONE, "copy")) for name in (
        f"{ONE} (Ann's conflicted copy 2026-11-02).jsonl", f"{ONE}-LAPTOP.jsonl",
        f"{ONE} 2.jsonl", f"{ONE} - Copy.jsonl", f"{ONE}.Conflict.jsonl",
        f"{ONE} (SFConflict a@b.c 2026-11-02-10-15-00).jsonl", f"{ONE}.jsonl.Conflict",
        f"{ONE}.jsonl.conflict1", f"{ONE}.jsonl..path1", f"{ONE}.jsonl.1",
        f"{ONE}.jsonl.2026-11-02", f"{ONE}.jsonl.bak-20261102T101500Z",
        f"{ONE}.jsonl.broken", f".bak.1.{ONE}.jsonl")),
    (f"-w/{ONE}.jsonl", None),
    (f"{ONE}.jsonl", None),
    (f"-w/{LOUD}/{ONE}.jsonl", None),
    (f"-w/{TWO}/subagents/{ONE}.jsonl", None),
    (f"-w/{TWO}/subagents/agent-{ONE}.jsonl", None),
    (f"-w/{TWO}/tool-results/{ONE}.jsonl", None),
    (f"-w/{TWO}/agent-{ONE}.jsonl", None),
    (f"-w/agent-{ONE}.jsonl.bak", None),
    (f"-w/a{ONE}.jsonl", None),
    (f"-w/{ONE}0.jsonl", None),
    (f"-w/{ONE}.jsonl.gz", None),
    (f"-w/{ONE}.jsonl.sha256", None),
    (f"-w/.{ONE}.jsonl.swp", None),
    (f"-w/{ONE}.jsonl.tmp.4242.a1b2c3", None),
    (f"-w/{ONE}.json", None),
    (f"-w/{ONE}.jsonl/x", None),
])
def test_transcripts_where_claude_code_does_not_look(path, found):
    odd = odd_transcript_in(f"projects/{path}")
    assert odd == (found and ("-w", *found))
    assert odd_transcript_in(f"todos/{path}") is None


def test_is_id():
    assert is_id(ONE) and is_id(LOUD)
    assert not is_id(ONE + "0") and not is_id(ONE[:-1]) and not is_id(f"{ONE}\n")


@pytest.mark.parametrize("word, ids, chosen", [
    (ONE, [ONE, TWO], ONE),
    (LOUD, [ONE, TWO], ONE),
    (ONE, [LOUD, TWO], LOUD),
    ("ABC1", [ONE, TWO], ONE),
    ("abc1", [LOUD, TWO], LOUD),
    ("3F4A", [LOUD], LOUD),
    (LOUD, [ONE, LOUD], LOUD),      # both are there: the one that is spelled so
    (ONE, [ONE, LOUD], ONE),
    (ONE, [ONE, ONE], ONE),
])
def test_pick(word, ids, chosen):
    assert pick(word, ids) == chosen


@pytest.mark.parametrize("word, ids, status", [
    ("3f4a", [ONE, TWO], 2),
    ("abc1", [ONE, LOUD], 2),
    ("ffff", [ONE, TWO], 1),
    ("bc1", [ONE], 1),              # three digits are too few
    ("4a9b", [ONE], 1),             # neither its start nor its end
    ("", [ONE], 1),
    (ONE, [], 1),
])
def test_pick_fails(word, ids, status):
    with pytest.raises(Error) as failure:
        pick(word, ids)
    assert failure.value.status == status


def test_pick_says_that_a_word_is_too_short():
    with pytest.raises(Error, match="4 digits are needed"):
        pick(ONE[:3], [ONE])


def test_spellings():
    spellings = Spellings([LOUD])
    assert spellings.of(ONE) == LOUD
    assert spellings.of(LOUD) == LOUD
    assert spellings.of(TWO) == TWO
    assert spellings.of(TWO.upper()) == TWO, "the first is kept"
    both = Spellings([LOUD, ONE])
    assert (both.of(ONE), both.of(LOUD)) == (ONE, LOUD)


@pytest.mark.parametrize(
    "text", ["Gr\u00f6\u00dfe", "\ud55c\uae00", "\u30c9\u30ac", "\u212b"]
)
def test_a_folder_in_either_spelling_is_one(text):
    """macOS gives names in NFD; what is typed is in NFC.
    What follows stays as it is."""
    one, other = [f"/gone/{normalize(form, text)}" for form in ("NFC", "NFD")]
    assert slug_of(one) in slugs_of(other)
    for old in (one, other):
        folders = FolderMap([f"{old}=/new"])
        assert folders.new_path(one) == folders.new_path(other) == "/new"
        assert folders.new_path(f"{other}/{text}e\u0301/x") == f"/new/{text}e\u0301/x"
        assert folders.new_path(f"{one}x/y") is None
        assert folders.new_path(f"{one}\u0301/y") is None


@pytest.mark.parametrize("path, name", [
    ("/a/" + "b" * 197, "-a-" + "b" * 197),
    ("/tmp/csb-long/" + "x" * 200, "-tmp-csb-long-" + "x" * 186 + "-uv8zpt"),
    ("/tmp/csb-long/" + "/".join(["\u00e9\U0001f600" * 35] * 2),
     "-tmp-csb-long-" + "-" * 186 + "-7swotk"),
])
def test_a_long_path_is_named_as_claude_code_names_it(path, name):
    """Two that begin alike are two projects. Claude Code itself gave these names."""
    assert slug_of(path) == name
