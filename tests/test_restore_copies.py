"""csb-restore of a session that lies in several projects:
moved, left a stub, or two of them"""
import json
import os
import time

import pytest
from conftest import line, name, put_into

pytestmark = pytest.mark.logic

ID = name(1)
A, B, C = line("a"), line("b"), line("c")
STUB = json.dumps(
    {"type": "worktree-state", "worktreeSession": None, "sessionId": ID}) + "\n"


def said(number, **more):
    """A message with a uuid, as newer versions of Claude Code write it."""
    return line(
        f"message {number}", uuid=f"00000000-0000-4000-8000-{number:012d}", **more
    )


def live(sh, home, states):
    """A backup of each state, {project: transcript}; then the disk is empty."""
    for state in states:
        sh("rm -rf .claude/projects; mkdir -p .claude/projects/-other").ok()
        put_into(home, 9, line(), "-other", mtime=time.time())
        for project, text in state.items():
            put_into(home, 1, text, project, mtime=time.time())
        sh("csb-backup --quiet").ok()
    sh("rm -rf .claude/projects").ok()


@pytest.fixture
def lives(once):
    """lives([{project: transcript}, ...]): a backup of each state;
    then the disk is empty."""
    return lambda states: once(live, states)


def transcripts(folder):
    """The projects below a Claude directory that have the session."""
    return sorted(path.parent.name for path in folder.glob(f"projects/*/{ID}.jsonl"))


@pytest.mark.parametrize("option", ["", "--dry-run", "--force"])
def test_two_of_them_into_one_folder(sh, lives, option):
    """There is room for one; the other can be chosen."""
    lives([{"-a": A, "-b": B}, {}])
    done = sh(f"csb-restore --target-dir T --cwd /c {option}", f"{ID}\n".encode())
    assert done.rc == 1 and "has taken its place" in done.err
    assert [record["result"] for record in done.records] == ["restored"]
    assert sh(f"csb-restore --target-dir U --cwd /c --project=-b {ID}").rc == 0


# What the projects held, backup after backup; where the session comes back, () if a
# person has to say it.
LIVES = [
    ([{"-a": A}, {}], ["-a"]),
    # It was moved: all that one says stands in the other.
    ([{"-a": A}, {"-b": A}], ["-b"]),
    ([{"-a": A}, {"-b": A + B}], ["-b"]),
    ([{"-a": A}, {"-b": A}, {"-b": A + B}, {}], ["-b"]),
    ([{"-a": A}, {"-b": A + B}, {"-c": A + B + C}, {}], ["-c"]),
    ([{"-a": A}, {"-b": A + B}, {"-a": A + B + C}], ["-a"]),
    ([{"-a": A, "-b": A + B}, {"-b": A + B}], ["-b"]),
    # In another order, or between other lines.
    ([{"-a": A}, {"-b": B + A}, {}], ["-b"]),
    ([{"-a": said(1) + said(2)}, {"-b": said(2) + "{}\n" + said(1, cwd="/x")}], ["-b"]),
    # What went last is no better than what says more.
    ([{"-a": A + B}, {"-b": A}], ["-a"]),
    ([{"-a": A, "-b": A}, {}], ["-a"]),
    ([{"-a": A}, {"-b": A, "-c": A}], ["-b"]),
    # A stub has no messages, whatever else it has, and however it is called.
    ([{"-a": A + B, "-b": STUB}], ["-a"]),
    ([{"-b": A, "-a": STUB * 9}, {}], ["-b"]),
    ([{"-b": A}, {"-a": STUB}], ["-b"]),
    ([{"-a": STUB + "{torn"}, {"-b": A, "-a": STUB}, {"-a": STUB}, {}], ["-b"]),
    ([{"-a": STUB}, {"-b": STUB + "{}\n"}, {}], ["-b"]),
    # Two conversations: both, if they vanished together.
    ([{"-a": A, "-b": B}, {}], ["-a", "-b"]),
    ([{"-a": A + B, "-b": A + C, "-c": A}], ["-a", "-b"]),
    ([{"-a": A, "-b": B, "-c": STUB}, {}], ["-a", "-b"]),
    ([{"-a": A}, {"-b": B}], []),
    ([{"-a": A, "-b": B}, {"-b": B}, {}], []),
    ([{"-a": A + C}, {"-a": A}, {"-b": A + B}, {}], []),
]


@pytest.mark.parametrize("states, projects", LIVES)
@pytest.mark.few(3)
def test_where_it_comes_back(sh, home, lives, states, projects):
    """Its bytes are those of the copy that says most;
    of what differs none is chosen."""
    lives(states)
    done = sh(f"csb-restore {ID[-6:]}")
    assert transcripts(home.claude) == projects, done
    assert done.rc == 2 * (not projects)
    if not projects:
        assert done.err.count("\n") == 1 and "several projects" in done.err
        assert "--project=" in done.err
    for project in projects:
        held = [state[project] for state in states if project in state]
        there = (home.claude / f"projects/{project}/{ID}.jsonl").read_text()
        assert there == max(held, key=len)

    again = sh(f"csb-restore {ID}")
    assert {r["result"] for r in again.records} == ({"kept"} if projects else set())


@pytest.mark.parametrize("states, projects", [
    ([{"-a": A, "-b": B}, {}], ["-a", "-b"]),
    ([{"-a": A, "-b": B}, {"-b": B}, {}], []),
    ([{"-a": A}, {"-b": B}], []),
    ([{"-a": A, "-b": A + B}, {"-a": A}, {}], ["-b"]),
])
@pytest.mark.few(2)
def test_all_that_is_gone_guesses_no_more(sh, home, lives, states, projects):
    """The same comes back as of its id; what is left to a person is
    said, as no refusal."""
    lives(states)
    done = sh("csb-restore --deleted --yes")
    assert transcripts(home.claude) == projects, done
    assert {r["result"] for r in done.records} == {"restored"}
    again = sh("csb-restore --deleted --yes")
    assert done.rc == again.rc == (0 if projects else 1)
    if projects:
        assert "nothing to restore" in again.err
        return
    for one in (done, again):
        assert "several projects" in one.err and "one): -a -b\n" in one.err
        assert "has it already" not in one.err and "nothing to restore" not in one.err
    assert sh("csb-restore --deleted --project=-b").rc == 0
    assert transcripts(home.claude) == ["-b"]


@pytest.mark.parametrize("words", ["--deleted --yes", ID])
def test_what_was_deleted_in_two_places_was_not_moved(sh, home, lives, words):
    """The fuller copy, which went first, comes back."""
    lives([{"-a": A, "-b": A + B}, {"-a": A}, {}])
    lost = [
        r["project"] for r in sh("csb-find --lost").records if r.get("session_id") == ID
    ]
    assert lost == ["-a", "-b"]
    sh("csb-index --rebuild")
    listed = [
        r["project"] for r in sh("csb-list --all").records if r["session_id"] == ID
    ]
    assert sorted(listed) == ["-a", "-b"]
    done = sh(f"csb-restore {words}")
    assert done.rc == 0, done
    assert transcripts(home.claude) == ["-b"]


@pytest.mark.parametrize(
    "words, project", [("--project=-a", "-a"), ("--project=-b", "-b")]
)
def test_a_person_chooses(sh, home, lives, words, project):
    """Of two conversations, and also if the other one is there already."""
    lives([{"-a": A}, {"-b": B}])
    sh(f"csb-restore {ID} {words}").ok()
    assert transcripts(home.claude) == [project]
    other = {"-a": "-b", "-b": "-a"}[project]
    sh(f"csb-restore {ID} --project={other}").ok()
    assert transcripts(home.claude) == ["-a", "-b"]
    done = sh(f"csb-restore {ID} --project=-nope")
    assert done.rc == 1 and "in project '-nope'" in done.err


def test_a_record_chooses_but_makes_no_second_one(sh, home, lives):
    """csb-list lists both; the second is refused, with what to type."""
    lives([{"-a": A}, {"-b": B}])
    records = [{"session_id": ID, "project": project} for project in ("-b", "-a")]
    stdin = "".join(json.dumps(record) + "\n" for record in records).encode()
    for options in ("--dry-run", ""):
        done = sh(f"csb-restore {options}", stdin)
        assert done.rc == 1 and "project '-b' has it already" in done.err
        assert "--project=-a" in done.err
        assert [(r["path"].split("/")[-2], r["result"]) for r in done.records] == [
            ("-b", "restored")]
    assert transcripts(home.claude) == ["-b"]
    done = sh("csb-restore", stdin.splitlines(True)[1])
    assert done.rc == 1 and transcripts(home.claude) == ["-b"]


def test_a_stub_that_stands_hides_nothing(sh, home, lives):
    """Claude Code opens a session beside one, and so the restore is no second copy."""
    lives([{"-a": A + B, "-b": STUB}])
    put_into(home, 1, STUB, "-b")
    sh(f"csb-restore {ID}").ok()
    assert transcripts(home.claude) == ["-a", "-b"]
    assert (home.claude / f"projects/-a/{ID}.jsonl").read_text() == A + B


def test_the_list_of_a_stub_and_its_session(sh, home, lives):
    """Both are asked for: the session comes back once, and again nothing is to do."""
    lives([{"-a": STUB, "-b": A + B}, {}])
    records = [{"session_id": ID, "project": project} for project in ("-a", "-b")]
    stdin = "".join(json.dumps(record) + "\n" for record in records).encode()
    for result in ("restored", "kept"):
        done = sh("csb-restore", stdin)
        assert done.rc == 0 and [r["result"] for r in done.records] == [result]
    assert transcripts(home.claude) == ["-b"]


@pytest.mark.parametrize("text", [A + B, B + A, A + B + C])
def test_what_goes_on_elsewhere_is_no_loss(sh, home, lives, text):
    """It was moved since the last backup, by Claude Code or by hand."""
    lives([{"-a": A + B}])
    put_into(home, 1, text, "-new")
    done = sh(f"csb-restore {ID}")
    assert done.rc == 0 and "is in project -new" in done.err
    assert done.out == ""
    assert transcripts(home.claude) == ["-new"]


def test_a_conversation_of_that_id_that_stands_is_no_stub(sh, home, lives):
    """One that was never stored, and says something else."""
    lives([{"-a": A}])
    put_into(home, 1, B, "-new")
    done = sh(f"csb-restore {ID}")
    assert done.rc == 1 and "'-new' has it already" in done.err
    assert transcripts(home.claude) == ["-new"]
    sh(f"csb-restore {ID} --project=-a").ok()
    assert transcripts(home.claude) == ["-a", "-new"]


@pytest.mark.parametrize("left", [True, False])
@pytest.mark.few(1)
def test_what_lies_beside_it(sh, home, left):
    """Subagents that stayed in the old project come back there,
    others with their session."""
    for project in ("-a", "-b"):
        sh("rm -rf .claude/projects").ok()
        path = put_into(home, 1, A + B if project == "-b" else A, project)
        if project == "-a" or not left:
            agent = path.parent / ID / "subagents/agent-1.jsonl"
            agent.parent.mkdir(parents=True)
            agent.write_text("{}\n")
        sh("csb-backup --quiet").ok()
    sh("rm -r .claude/projects").ok()
    assert sh(f"csb-restore {ID}").rc == 0
    agents = [
        path.parts[-4] for path in (home.claude / "projects").rglob("agent-1.jsonl")
    ]
    assert transcripts(home.claude) == ["-b"]
    assert agents == ["-a" if left else "-b"]
    assert sh("csb-find --lost").ok().records == []


def test_what_stayed_behind_makes_no_second_conversation(sh, home, lives):
    """Files beside a transcript that was moved may still be where it was."""
    lives([{"-a": A}, {"-b": A + B}])
    side = home.claude / f"projects/-a/{ID}/tool-results/1.txt"
    side.parent.mkdir(parents=True)
    side.write_text("x")
    sh("csb-backup --quiet --accept-deletions").ok()
    done = sh(f"csb-restore {ID} --target-dir out")
    assert done.rc == 0
    assert f"/projects/-b/{ID}.jsonl" in done.out
    assert "1.txt" not in done.out


@pytest.mark.long
def test_what_the_store_has_lost_is_no_reason_to_guess(sh, home, lives):
    lives([{"-a": A}, {"-b": A + B}])
    versions = sh(f"csb-history {ID}").ok().records
    (oid,) = [record["oid"] for record in versions if record["project"] == "-a"]
    (home.backup / f"git/objects/{oid[:2]}/{oid[2:]}").unlink()
    done = sh(f"csb-restore {ID} --target-dir out")
    assert done.rc == 2 and "several projects" in done.err and done.out == ""


@pytest.mark.long
def test_at_a_time_it_is_where_it_was_then(sh, home, lives):
    lives([{"-a": A}, {"-b": A + B}, {"-a": A + B + C}])
    commits = sh("git --git-dir=$CSB_HOME/git rev-list main").ok().out.split()
    done = sh(f"csb-restore --at {commits[1]} {ID} --target-dir out")
    assert done.rc == 0 and transcripts(home.path / "out") == ["-b"]


@pytest.mark.long
def test_a_line_that_cannot_be_compared_gives_no_way(sh, home, lives):
    """It may hold what no other copy has."""
    many = f'"{"x" * 30}",' * 300000
    long = '{"type":"user","message":{"content":[' + many + '""]}}\n'
    lives([{"-a": A + long * 3}, {"-b": A + B}])
    done = sh(f"csb-restore {ID} --target-dir out")
    assert done.rc == 2 and "several projects" in done.err


def test_a_session_without_a_transcript(sh, home):
    """What is left of one comes back from each project."""
    for project in ("-a", "-b"):
        path = home.claude / f"projects/{project}/{ID}/tool-results/{project}.txt"
        path.parent.mkdir(parents=True)
        path.write_text(project)
    sh("csb-backup --quiet; rm -r ~/.claude/projects")
    sh(f"csb-restore {ID}").ok()
    assert sorted(path.name for path in home.claude.rglob("*.txt")) == [
        "-a.txt", "-b.txt"]


def test_ids_of_either_case_are_one_session(sh, home, lives):
    lives([{"-a": A}])
    path = home.claude / f"projects/-b/{ID.upper()}.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text(A + B)
    done = sh(f"csb-restore {ID}")
    assert done.rc == 0 and "is in project -b" in done.err
    assert os.listdir(home.claude / "projects") == ["-b"]


OTHER = name(2)
ODD = (f"a/b/{ID}.jsonl", f"a/{ID} (1).jsonl", f"Copy of {ID}.jsonl", f"old-{ID}.jsonl",
       f"{ID}.jsonl.bak", f"{ID}.sync-conflict-2.jsonl", f"{OTHER}/{ID}.jsonl")


@pytest.mark.parametrize("own", ["-p", "-q", None])
@pytest.mark.few(1)
def test_transcripts_where_claude_code_does_not_look(sh, home, own):
    """Listed, searched and read, there and gone; each comes back where it was.

    Their session has its own transcript beside them, in another project, or none.
    """
    texts = {}
    for number, odd in enumerate(ODD):
        texts[f"projects/-p/{odd}"] = line(f"zebra word{number}", uuid=f"u{number}")
    main = {f"projects/-p/{OTHER}.jsonl": line("other", sessionId=OTHER)}
    if own:
        main[f"projects/{own}/{ID}.jsonl"] = line("own", uuid="own")
    for path, text in {**texts, **main}.items():
        put_into(home, path, text.encode(), mtime=time.time())

    def listed(options=""):
        return {os.path.relpath(record["transcript_path"], record["root"]): (
            record["session_id"], record.get("place"))
            for record in sh(f"csb-list {options}").ok().records}

    def check():
        hits = [record for record in sh("csb-search zebra").ok().records
                if record.get("role") == "user"]
        found = {os.path.relpath(hit["transcript_path"], hit["root"]) for hit in hits}
        assert found == set(texts)
        for tool, records in (("csb-cat", known), ("csb-log --json", hits)):
            done = sh(tool, "\n".join(map(json.dumps, records)).encode()).ok()
            said = [
                record for record in done.records if record.get("kind") != "session"
            ]
            for number in range(len(ODD)):
                assert f"zebra word{number}" in json.dumps(said), (tool, number)
            heads = [r["session_id"] for r in done.records if r not in said]
            assert heads == [ID] * len(heads)

    places = {path: (ID, "deeper" if path.count("/") > 2 else "copy") for path in texts}
    every = {**places, **{path: (path[-42:-6], None) for path in main}}
    sh("csb-backup").ok()
    known = [record for record in sh("csb-list").ok().records if "place" in record]
    assert listed() == every
    check()

    for path in texts:
        (home.claude / path).unlink()
    sh("csb-backup").ok()
    assert listed("--deleted") == places
    assert listed() == {path: every[path] for path in main}
    check()
    live = sh("csb-list --all").ok().out
    sh("csb-index --rebuild").ok()
    assert sh("csb-list --all").ok().out == live

    for command in ("csb-restore --deleted --yes", f"csb-restore --yes {ID}",
                    "csb-find --lost | csb-restore"):
        assert sh(command).rc == 0
        for path, text in texts.items():
            assert (home.claude / path).read_text() == text, (command, path)
            (home.claude / path).unlink()
