"""where things are, and when nobody knows where one is"""
import pytest
from conftest import line, name

ID = name(1)


@pytest.fixture
def session(home):
    """A Claude directory with one session; its transcript."""
    path = home.claude / "projects" / "-w" / f"{ID}.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text(line("a question"))
    return path


GONE = 'mkdir gone && cd gone && rmdir ../gone && {{ {}; }}'


@pytest.mark.parametrize("words", [
    "csb-backup", "csb-changes", "csb-list", "csb-status", "csb-search question",
    f"csb-restore --dry-run {ID}", f"csb-verify {ID}", f"csb-log {ID}", f"csb-history {ID}",
    f"csb-show {ID}", "csb-gc", "csb-config", "csb-find | csb-index", "csb-index --rebuild",
    "csb-hook --foreground", "csb-hook --foreground -- csb-list", "csb-wire", "csb backup",
    "csb list", "csb status",
    f"jsonl_snapshot --dest-dir ~/shots ~/.claude/projects/-w/{ID}.jsonl"])
def test_the_working_directory_was_removed(sh, home, session, words):
    """git refuses to start there; what has absolute names needs no such directory."""
    sh("csb-backup --quiet").ok()
    (home.claude / "new.md").write_text("new")
    sh(GONE.format("csb-backup --quiet")).ok()
    (home.claude / "newer.md").write_text("newer")
    done = sh(GONE.format(words))
    if "csb-status" in words or "csb status" in words:
        assert done.rc == 1 and "1 file" in done.out and done.err == "", done
    elif "csb-history" in words or "csb-hook" in words:
        assert (done.rc, done.err) == (0, ""), done
    else:
        assert done.ok().out or "csb-index" in words or words == "csb-gc", done
    if words in ("csb-backup", "csb backup", "csb-hook --foreground"):
        sh("csb-status").ok()


@pytest.mark.parametrize("words", [
    "csb-backup --git-dir x", "csb-list --claude-dir x", "csb-changes --git-dir ./x",
    "CSB_GIT_DIR=x csb-status", "CSB_HOME=x csb-list", "CLAUDE_CONFIG_DIR=x csb-search hi",
    "csb-search --folder x hi", "jsonl_snapshot --dest-dir x ~/a",
    "jsonl_snapshot --dest-dir ~/b x", "session_snapshot --dest-dir ~/b x",
    "csb-hook --git-dir x"])
def test_a_relative_name_needs_the_working_directory(sh, home, session, words):
    """One line that says so."""
    sh("csb-backup --quiet && csb-search question").ok()
    done = sh(GONE.format(words))
    assert done.rc in (1, 2, 3) and done.out == "" and done.err.count("\n") == 1, done
    assert "working directory" in done.err and "'the output'" not in done.err, done
