"""csb-restore and the real client: what it writes is deleted, comes back,
and is gone on with

On each release that releases.py names. What the client gives to the model is what the
stub was asked: a conversation is back when that is the same as it was before.
"""
import json
import os
import re
import shlex
import shutil
import subprocess
import time
from types import SimpleNamespace

import pytest
from client import Client, until
from releases import CLIENT, RELEASES, client_of

if not CLIENT:
    pytest.skip("the real client: make test-client", allow_module_level=True)

OLD = 10            # days
# Releases before 2.1 look for these whatever they are told; the stub refuses them.
BEFORE = {"api.anthropic.com:443", "registry.npmjs.org:443", "github.com:443"}
LOST = "No conversation found"
ALLOWED = "Bash Edit Read Write Agent Task TaskCreate TodoWrite".split()


@pytest.fixture(params=RELEASES)
def clients(request, tmp_path):
    """A function that makes a client of a release;
    .before says that it is older than 2.1."""
    made, path = [], client_of(request.param)

    def make(name):
        client = Client(path, tmp_path / name)
        made.append(client.__enter__())
        number = client.run("--version").out.split()[0]
        client.before = tuple(map(int, number.split(".")[:2])) < (2, 1)
        configure(client)
        return client
    yield make
    for client in made:
        client.stub.go.set()
        client.__exit__()
        assert client.stub.refused <= (BEFORE if client.before else set())


def configure(client, **settings):
    """Its settings.json; tools are used unasked."""
    (client.config / "settings.json").write_text(json.dumps({
        "permissions": {"allow": ALLOWED, "defaultMode": "acceptEdits"}, **settings}))


def use(name, **given):
    """The cue for the stub to call a tool."""
    return f"[[tool:{name} {json.dumps(given)}]]"


def tool(client, line):
    """A shell line that must end well; its stdout."""
    done = client.tool(line)
    assert done.rc == 0, done
    return done.out


def restore(client, words):
    """[record] of csb-restore, and what it said, which must end well."""
    done = client.tool(f"csb-restore {words}")
    files = [json.loads(line) for line in done.out.splitlines()]
    assert done.rc == 0 and files, done
    assert all(
        file["result"] == "kept" or file["source_match"] == "ok" for file in files
    ), files
    return files, done.err


def footprint(client, session):
    """{path: (bytes, mode, mtime)} of all files of a session, by what the client is
    known to do: files named by it or in a folder that is, and flat files of agents that
    begin with it."""
    found = {}
    for path in client.config.rglob("*"):
        flat = path.name.startswith("agent-") and path.parent.parent.name == "projects"
        if path.is_file() and (session in str(path) or flat and session.encode()
                               in path.read_bytes().partition(b"\n")[0]):
            st = path.stat()
            found[str(path.relative_to(client.config))] = (
                path.read_bytes(), st.st_mode, st.st_mtime_ns)
    return found


def remove(client, files):
    """rm; and of folders what is empty then."""
    for path in files:
        (client.config / path).unlink()
    subprocess.run(
        ["find", client.config / "projects", "-empty", "-type", "d", "-delete"]
    )


def age(client, files, days=OLD):
    """Let files be that old."""
    then = time.time() - days * 86400
    for path in files:
        os.utime(client.config / path, (then, then))


def sweep(client):
    """The client's own purge, at its next start, of what is older than a day.
    It is over when it has found what it must: a session in the first and in the
    last of the projects."""
    witnesses = []
    for project in "-", "zzz":
        folder = client.config / "projects" / project
        folder.mkdir(exist_ok=True)
        witnesses.append(folder / "3f4a9b10-0000-4000-8000-000000000001.jsonl")
        witnesses[-1].write_text("{}\n")
    age(client, witnesses)
    configure(client, cleanupPeriodDays=1)
    (client.config / ".last-cleanup").unlink(missing_ok=True)       # at most one a day
    client.stub.go.clear()
    running = client.start("-p", "--", "stay [[hold:]]")
    assert until(lambda: not any(path.exists() for path in witnesses)), (
        "it did not purge"
    )
    client.stub.go.set()
    assert client.end(running).rc == 0
    configure(client)


def at_head(client, path, commit="main"):
    """The bytes of a path in the store."""
    name = shlex.quote(f"{commit}:{path}")
    done = subprocess.run(
        ["bash", "-c", f"git --git-dir {client.backup}/git show {name}"],
        env=client.env(),
        capture_output=True,
    )
    assert done.returncode == 0, done
    return done.stdout


def backup(client):
    """The commit of a backup made now."""
    tool(client, "csb-backup --quiet")
    return tool(client, f"git --git-dir {client.backup}/git rev-parse main").strip()


def gone(client, session):
    """Is the client unable to find it?"""
    done = client.end(client.start("-p", "--resume", session, "--", "are you there"))
    return done.rc == 1 and LOST in done.out + done.err


def forked(client, session, cwd=None):
    """What the client gives to the model when a conversation goes on in a copy."""
    client.resume(session, "go on", "--fork-session", cwd=cwd)
    return client.known()


def proof(client, session, path, before, cwd=None):
    """Go on with a restored session: the client appends to the file that was restored,
    and the next backup extends the version of the commit before by prefix. What the
    model was told."""
    old = at_head(client, path, before)
    client.resume(session, "and here it goes on: QUOKKA", cwd=cwd)
    known = client.known()
    here = str(client.transcript(session).relative_to(client.config))
    new = at_head(client, here, backup(client))
    assert new == client.transcript(session).read_bytes()
    assert b"QUOKKA" in new and len(new) > len(old) and new.startswith(old)
    return known


def kinds(files, session):
    """The kinds of files in a footprint."""
    return {re.sub(r"agent-[0-9a-f]+|[0-9a-f]{16}@v\d+|[^/]+\.txt$", "*", re.sub(
        r"^projects/[^/]+/", "", path).replace(session, "ID")) for path in files}


@pytest.mark.parametrize("how", ["rm", "purge"])
def test_a_whole_session_is_deleted_and_comes_back(client, how, tell):
    """Text, tools, large output, a subagent, tasks, edited files, a title, memory, a
    fork, a compaction. What is left of it by the deletion stays; what is not comes
    back, bytes, modes and times equal; the model is told the same as before."""
    file, before = client.project / "a.txt", client.before
    file.write_text("line one\nline two\n")
    slug = re.sub("[^A-Za-z0-9]", "-", str(client.project))
    memory = client.config / "projects" / slug / "memory/MEMORY.md"
    task = {"subject": "a", "description": "b", "activeForm": "c"}
    if before:
        task = {"todos": [{"content": "a", "status": "pending", "activeForm": "b"}]}
    session = client.ask("the word is OKAPI" + "".join([
        use("Bash", command="seq 1 40000", description="much"),
        use("Task" if before else "Agent", description="look", prompt="[[say:found]]",
            subagent_type="general-purpose", run_in_background=False),
        use("TodoWrite" if before else "TaskCreate", **task),
        use("Write", file_path=str(memory), content="- a fact\n")]),
        "--allowedTools", ",".join(ALLOWED)).session
    client.talk(
        [
            "read "
            + use("Read", file_path=str(file))
            + use("Edit", file_path=str(file), old_string="two", new_string="2"),
            "/rename A title",
        ],
        "/exit",
        resume=session,
    )
    known = forked(client, session)
    [fork] = [path.stem for path in client.transcripts() if path.stem != session
              and b"OKAPI" in path.read_bytes()]
    assert "OKAPI" in known
    assert file.read_text() == "line one\nline 2\n"
    assert memory.exists()
    client.resume(session, "/compact")
    client.resume(session, "and the other is NUMBAT")
    after = forked(client, session)
    assert "NUMBAT" in after and "Primary Request" in after

    main = str(client.transcript(session).relative_to(client.config))
    text = (client.config / main).read_bytes()
    assert b"compact_boundary" in text and b'"customTitle":"A title"' in text
    files = footprint(client, session)
    have = kinds(files, session)
    assert have >= (
        {"ID.jsonl", "*.jsonl", "file-history/ID/*", "todos/ID-agent-ID.json"}
        if before
        else {
            "ID.jsonl",
            "ID/subagents/*.jsonl",
            "ID/subagents/*.meta.json",
            "ID/tool-results/*",
            "ID/custom-title.json",
            "file-history/ID/*",
            "tasks/ID/1.json",
        }
    ), have
    commit, other = backup(client), footprint(client, fork)
    if how == "rm":
        remove(
            client,
            [path for path in {**files, **other} if not path.startswith("debug/")],
        )
    else:
        age(client, {**files, **other})
        sweep(client)
    left = footprint(client, session)
    assert main not in left and memory.exists()
    assert gone(client, session) and gone(client, fork)

    restored, _ = restore(client, f"{session} {fork}")
    back = footprint(client, session)
    missed = {path for path in files if back.get(path) != files[path]} - {
        # These are as the purge has left them.
        path for path in left if path in files}
    for path in missed:
        assert path.startswith(("debug/", "session-env/")) or path.endswith(".lock")
    assert {path: back[path] for path in other if path in back} == {
        path: other[path] for path in other if path in back}
    assert forked(client, session) == after
    assert "NUMBAT" in proof(client, session, main, commit)
    told = proof(client, fork, main.replace(session, fork), commit)
    assert "OKAPI" in told and ("Task" if before else "Agent") in told
    line = tool(client, f"csb-history {session} | head -n 1")
    assert json.loads(line)["change"] in ("grew", "revived"), line
    tell(f"{len(restored)} files restored, {len(left)} were left; not stored: "
         f"{sorted(kinds(missed, session))}")


NAMES = {"plain": "new place", "not ASCII": "Ünï 😀 日本.d", "decomposed": "cafe\u0301",
         "long": "/a long name", "twins": "/a long name"}


@pytest.mark.parametrize("name", NAMES)
def test_in_another_folder(client, name):
    """The client finds it there, and finds there what it had said. A release before 2.1
    looks only into the project of the folder, so the project must be called as the
    client calls it; with --map a folder below moves as well. Long: its path has more
    than 200 characters; twins: the first 200 are those of another one."""
    new = client.top / NAMES[name].removeprefix("/")
    while NAMES[name][0] == "/" and len(str(new)) < 205:
        if len(new.name) < 40:
            new = new.with_name(new.name + "x")
        else:
            new = new / "a long name"
    new.parent.mkdir(parents=True, exist_ok=True)
    below = client.project / "a_b"
    below.mkdir()
    folders = [(client.ask("the word is OKAPI").session, new)]
    if name != "long":
        moved = client.ask("the word is PANGOLIN", cwd=below).session
        folders.append((moved, new / "a_b"))
    paths = {}
    for one, _ in folders:
        paths[one] = str(client.transcript(one).relative_to(client.config))
    commit, files = backup(client), {path: file for one, _ in folders
                                     for path, file in footprint(client, one).items()}
    remove(client, files)
    client.project.rename(new)
    client.project.mkdir()
    fresh = {folder: client.transcript(client.ask("hello", cwd=folder).session).parent
             for _, folder in folders}
    pair = shlex.quote(f"{client.project}={new}")
    restored, _ = restore(client, f"--map {pair} {' '.join(paths)}")
    assert {file["result"] for file in restored} == {"restored"}
    for (one, folder), word in zip(folders, ("OKAPI", "PANGOLIN"), strict=False):
        assert client.transcript(one).parent == fresh[folder]
        assert client.transcript(one).read_bytes() == files[paths[one]][0]
        assert word in proof(client, one, paths[one], commit, cwd=folder)
        assert [path.stem for path in client.transcripts()].count(one) == 1


def test_where_it_was_it_is_not_found_from_another_folder(client):
    """So that the test before means something: a release before 2.1 needs --map."""
    session, new = client.ask("the word is OKAPI").session, client.top / "new place"
    backup(client)
    remove(client, footprint(client, session))
    new.mkdir()
    restore(client, session)
    done = client.end(client.start("-p", "--resume", session, "--", "go on", cwd=new))
    assert (done.rc == 1 and LOST in done.out + done.err) if client.before else (
        "OKAPI" in client.known()), done


def test_what_was_old_survives_the_purge(client, tell):
    """As it was, it would be deleted again at the next start;
    so its time is now, which is said."""
    session = client.ask("the word is OKAPI").session
    main = str(client.transcript(session).relative_to(client.config))
    age(client, footprint(client, session), days=100)
    commit, old = backup(client), client.transcript(session).stat().st_mtime_ns
    sweep(client)
    assert gone(client, session)
    _, said = restore(client, session)
    assert "Claude Code would soon delete" in said
    path = client.transcript(session)
    assert path.stat().st_mtime_ns > old + 99 * 86400 * 10**9
    sweep(client)
    assert path.exists()
    os.utime(path, ns=(old, old))
    kept = path.read_bytes()
    sweep(client)
    assert not path.exists(), (
        "the purge takes what has its old time: else this shows nothing"
    )
    restore(client, session)
    assert path.read_bytes() == kept
    assert "OKAPI" in proof(client, session, main, commit)
    tell(said.strip())


@pytest.mark.parametrize("cut", [1, 20], ids=["no newline", "half a record"])
@pytest.mark.parametrize("words", ["", "--repair"], ids=["as it was", "repaired"])
def test_a_torn_last_line(client, cut, words, tell):
    """What a crash has left is restored as it was, or with a newline. 2.1 ends
    the line before it appends. Releases before append to the line itself, and if
    it is a whole record they lose it and all before it at the second prompt:
    --repair prevents that."""
    session = client.ask("the word is OKAPI").session
    path = client.transcript(session)
    torn = path.read_bytes()[:-cut]
    path.write_bytes(torn)
    backup(client)
    remove(client, footprint(client, session))
    files, said = restore(client, f"{words} {session}")
    [file] = [file for file in files if file["path"].endswith(f"{session}.jsonl")]
    assert file.get("repaired", False) == bool(words)
    assert file.get("torn", False) == (not words and cut > 1), (
        "a whole record is not torn"
    )
    assert path.read_bytes() == torn + b"\n" * bool(words) and bool(words) == bool(said)
    client.resume(session, "and the other is NUMBAT")
    assert cut > 1 and client.before or "OKAPI" in client.known()
    client.resume(session, "and the third is QUOKKA")
    assert path.read_bytes().startswith(torn)
    lost = []
    for line in path.read_bytes().splitlines():
        try:
            json.loads(line or b"{}")
        except ValueError:
            lost.append(line)
    fused = client.before and not words
    assert len(lost) == (1 if cut > 1 or fused else 0)
    assert all(torn.endswith(line) for line in lost) != fused or not lost
    assert "NUMBAT" in client.known()
    found = "OKAPI" in client.known()
    assert found == (not fused) or cut > 1, (
        "what the model was told of the old conversation"
    )
    tell(f"{len(lost)} lines lost, the conversation {'found' if found else 'LOST'}")


def test_on_a_new_machine_from_a_clone(clients):
    """Two commands: clone the store, restore from it.
    The client there knows nothing of it."""
    here, there = clients("here"), clients("there")
    session = here.ask("the word is OKAPI").session
    path = here.transcript(session)
    main, text = str(path.relative_to(here.config)), path.read_bytes()
    backup(here)
    copy = there.top / "from here.git"
    tool(there, f"git clone -q --bare {here.backup}/git {shlex.quote(str(copy))}")
    pair = shlex.quote(f"{here.project}={there.project}")
    restore(there, f"--git-dir {shlex.quote(str(copy))} --map {pair} {session}")
    shutil.rmtree(here.top)
    assert there.transcript(session).read_bytes() == text
    there.resume(session, "go on")
    assert "OKAPI" in there.known()
    assert there.transcript(session).read_bytes().startswith(text)
    new = str(there.transcript(session).relative_to(there.config))
    assert new != main and at_head(there, new, backup(there)).startswith(text)


def test_a_session_that_is_open_is_refused(client):
    """It is known by the sessions/PID.json that the client writes from 2.1 on."""
    session = client.ask("the word is OKAPI").session
    backup(client)
    client.stub.go.clear()
    running = client.start("-p", "--resume", session, "--", "stay [[hold:]]")
    assert until(lambda: any("hold" in json.dumps(body.get("messages"))
                             for body in client.stub.bodies))

    def notes():
        """The files that name it: one that is there may not do so yet."""
        paths = (client.config / "sessions").glob("*.json")
        return [path for path in paths if session in path.read_text()]

    open_ones = until(notes, 2 if client.before else 20)
    if open_ones:
        client.transcript(session).unlink()
        done = client.tool(f"csb-restore {session}")
    client.stub.go.set()
    client.end(running)     # without its transcript it may end badly
    if client.before and not open_ones:
        pytest.skip("a release before 2.1 does not say which sessions are open")
    assert open_ones and done.rc == 1 and "it is open in Claude Code" in done.err, done


def test_no_second_copy_is_made_because_the_client_opens_neither_of_two(client):
    """From a third folder; from the folder of one it opens that one."""
    session = client.ask("the word is OKAPI").session
    path = client.transcript(session)
    backup(client)
    other = path.parent.with_name("-other")
    path.parent.rename(other)
    done = client.tool(f"csb-restore {session}")
    assert done.rc == 0 and "is in project -other" in done.err, done
    assert not path.exists()
    path.parent.mkdir()
    shutil.copy(other / path.name, path)
    third = SimpleNamespace(folder=client.top / "third", size=path.stat().st_size)
    third.folder.mkdir()
    done = client.end(
        client.start("-p", "--resume", session, "--", "go on", cwd=third.folder)
    )
    assert done.rc == 1 and LOST in done.out + done.err
    client.resume(session, "go on")
    assert path.stat().st_size > third.size == (other / path.name).stat().st_size
