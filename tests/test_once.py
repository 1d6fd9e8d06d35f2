"""once(): a home that is copied to a test is as good as the one that was made."""
import shutil

import pytest
from conftest import back_up_two_sessions, held, line, name

pytestmark = pytest.mark.logic


@pytest.fixture
def again(home):
    """again(): the home is empty once more."""
    def clear():
        shutil.rmtree(home.path)
        home.claude.mkdir(parents=True)
    return clear


def test_a_copy_is_the_same(sh, home, listing, once, backed_up, again):
    """Bytes, modes and times; there is nothing new to back up,
    and nothing is damaged."""
    made = listing(home.path)
    again()
    assert once(back_up_two_sessions) == backed_up
    assert listing(home.path) == made

    assert sh("csb-backup").ok().out == ""
    assert {record["ok"] for record in sh("csb-verify").ok().records} == {True}
    states = [record["state"] for record in sh("csb-list").ok().records]
    assert states == ["present", "present"]


def test_a_copy_is_worked_with(sh, home, backed_up):
    """It grows, what is deleted in it comes back,
    and the next test sees nothing of that."""
    first, second = (backed_up / f"{name(number)}.jsonl" for number in range(2))
    old = second.read_bytes()
    with open(first, "a") as file:
        file.write(line("more"))
    second.unlink()
    said = sh("csb-backup").ok().records
    changes = [one["change"] for one in said if one["kind"] == "session"]
    assert sorted(changes) == ["deleted", "grew"]

    assert held(sh)[f"projects/-srv-app/{first.name}"] == first.read_bytes()
    sh(f"csb-restore {name(1)}").ok()
    assert second.read_bytes() == old


def test_other_words_are_another_home(sh, home, once, again):
    assert once(remember, "a") == (home.path / "said", "a")
    for word, said in (("b", "b"), ("a", "a")):
        again()
        once(remember, word)
        assert (home.path / "said").read_text() == said


def remember(sh, home, word):
    """Write a word down; where, and the word."""
    (home.path / "said").write_text(word)
    return home.path / "said", word
