"""csb-restore: what comes back is what was there"""
import json
import os
import random
import time

import faults
import pytest
from conftest import backup

pytestmark = pytest.mark.logic

ID = "11111111-2222-4333-8444-555555555555"
OTHER = "99999999-2222-4333-8444-555555555556"
FOOTPRINT = f"""
    projects/-p/{ID}.jsonl projects/-p/{ID}/subagents/agent-1.jsonl
    projects/-p/{ID}/subagents/workflows/w/agent-2.jsonl
    projects/-p/{ID}/tool-results/x.txt projects/-p/{ID}/custom-title.json
    projects/-p/agent-a{ID[-3:]}.jsonl file-history/{ID}/abc@v1 tasks/{ID}/1.json
    tasks/{ID}/.lock todos/{ID}-agent-{ID}.json session-data/{ID}/hook-0.sh
    session-states/{ID}.json image-cache/{ID}/1.png plans/my-fine-plan.md
""".split()


def named(name, session_id):
    """A path of FOOTPRINT as it is for another session."""
    name = name.replace(ID, session_id)
    return name.replace(f"agent-a{ID[-3:]}", f"agent-a{session_id[-3:]}")


def make_session(home, session_id=ID, days=3):
    """A session with every part that a footprint can have,
    dated days ago; its paths."""
    for number, name in enumerate(FOOTPRINT):
        path = home.claude / named(name, session_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        record = {"sessionId": session_id, "slug": "my-fine-plan", "n": name}
        path.write_text(json.dumps(record) + "\n")
        path.chmod((0o600, 0o644, 0o755, 0o400)[number % 4])
        stamp = time.time_ns() - days * 86400 * 10**9 + number
        os.utime(path, ns=(stamp, stamp))
    (home.claude / f"projects/-p/{session_id}/link").symlink_to("../elsewhere")
    (home.claude / f"session-data/{session_id}/empty").mkdir()


def backed_up_sessions(sh, home, *ids):
    """Sessions with every part, backed up."""
    for session_id in ids:
        make_session(home, session_id)
    backup(sh)


@pytest.fixture
def stored(once):
    """A session with every part, backed up."""
    once(backed_up_sessions, ID)


def lose(home, session_id=ID):
    """Delete all that make_session() made."""
    for name in FOOTPRINT:
        (home.claude / named(name, session_id)).unlink()
    for name in (f"projects/-p/{session_id}/link",):
        (home.claude / name).unlink()
    for name in (
        f"projects/-p/{session_id}",
        f"session-data/{session_id}",
        f"tasks/{session_id}",
        f"file-history/{session_id}",
        f"image-cache/{session_id}",
    ):
        for folder, _, _ in os.walk(home.claude / name, topdown=False):
            os.rmdir(folder)


def files_only(found):
    """A listing without what is no file, link or empty directory."""
    return {
        path: entry
        for path, entry in found.items()
        if entry[2] != "dir" or not any(other.startswith(path + "/") for other in found)
    }


def test_the_whole_footprint_comes_back(sh, home, listing):
    make_session(home)
    before = files_only(listing(home.claude))
    backup(sh)
    lose(home)
    backup(sh)
    found = sh(f"csb-restore {ID[:8]}").ok().records
    assert files_only(listing(home.claude)) == before
    assert {record["result"] for record in found} == {"restored"}
    assert {record["source_match"] for record in found} == {"ok"}
    assert {os.path.relpath(r["path"], home.claude) for r in found} == set(before)
    for name in (f"projects/-p/{ID}", f"projects/-p/{ID}/subagents", f"tasks/{ID}"):
        assert (home.claude / name).stat().st_mode & 0o777 == 0o700


def test_again_writes_nothing(sh, home, listing, stored):
    lose(home)
    sh(f"csb-restore {ID}").ok()
    before = listing(home.claude)
    done = sh(f"csb-restore {ID}").ok()
    assert {r["result"] for r in done.records} == {"kept"}
    assert listing(home.claude) == before


def test_dry_run_and_target_dir(sh, home, listing, stored):
    wanted = files_only(listing(home.claude))
    lose(home)
    before = listing(home.path)
    dry = sh(f"csb-restore --dry-run {ID}").ok().records
    assert {r["dry_run"] for r in dry} == {True}
    assert listing(home.path) == before
    sh(f"csb-restore {ID} --target-dir ~/look").ok()
    assert files_only(listing(home.path / "look")) == wanted


def test_another_file_is_kept_unless_forced(sh, home, stored):
    main = home.claude / FOOTPRINT[0]
    old = main.read_bytes()
    main.write_bytes(b"newer\n")
    done = sh(f"csb-restore {ID}")
    assert done.rc == 1 and "another file is there" in done.err
    assert main.read_bytes() == b"newer\n"
    sh(f"csb-restore {ID} --force").ok()
    assert main.read_bytes() == old
    kept = [p for p in main.parent.iterdir() if p.name.endswith(".replaced")]
    assert [p.read_bytes() for p in kept] == [b"newer\n"]


@pytest.mark.parametrize("fault", ["error=EPERM", "signal=KILL"])
def test_what_is_replaced_is_there_at_any_moment(
    sh, home, tools, stored, tmp_path, fault
):
    """As a whole, where no second name can be given and where it is killed, too."""
    if reason := faults.missing(tmp_path):
        pytest.skip(reason)
    main = home.claude / FOOTPRINT[0]
    old = main.read_bytes()
    main.write_bytes(b"newer\n")
    for call in ("link", "rename"):
        sh(
            f"strace -qq -o ~/log -e 'trace=/^{call}' "
            f"-e 'inject=/^{call}:{fault}:when=1' "
            f"{tools.python} -IB {tools.bin}/csb-restore {ID} --force"
        )
        log = (home.path / "log").read_text()
        assert "INJECTED" in log or "killed by SIGKILL" in log, log
        assert main.read_bytes() in (old, b"newer\n")
        kept = [p.read_bytes() for p in main.parent.glob(f"{main.name}*")]
        assert b"newer\n" in kept


@pytest.mark.parametrize("settings, days, renewed", [
    (None, 20, False), (None, 24, True), ('{"cleanupPeriodDays": 365}', 300, False),
    ('{"cleanupPeriodDays": 365}', 359, True), ('{"cleanupPeriodDays": 8}', 5, False),
    ('{"cleanupPeriodDays": 8}', 7, True), ("not json", 2, True), ("[]", 2, True),
    ('{"cleanupPeriodDays": "x"}', 2, True), ("\ufeff{}", 20, False)])
@pytest.mark.few(2)
def test_a_time_that_the_client_would_purge_is_now(sh, home, settings, days, renewed):
    make_session(home, days=days)
    if settings is not None:
        (home.claude / "settings.json").write_text(settings)
    backup(sh)
    old = os.stat(home.claude / FOOTPRINT[0]).st_mtime_ns
    lose(home)
    done = sh(f"csb-restore {ID}")
    new = os.stat(home.claude / FOOTPRINT[0]).st_mtime_ns
    assert done.rc == 0
    if renewed:
        assert new > old + 10**9 and "their time is now" in done.err
    else:
        assert new == old and done.err == ""


def test_a_session_open_in_a_client_is_refused(sh, home, stored):
    lose(home)
    (home.claude / "sessions").mkdir()
    live = home.claude / "sessions/1.json"
    live.write_text(json.dumps({"pid": os.getpid(), "sessionId": ID}))
    done = sh(f"csb-restore {ID}")
    assert done.rc == 1 and "open in Claude Code" in done.err
    assert done.out == "" and done.err.count("\n") == 1
    assert not (home.claude / FOOTPRINT[0]).exists()
    for text in (
        json.dumps({"pid": 4194399, "sessionId": ID}),
        "rubbish",
        "[]",
        '{"sessionId": 5}',
        json.dumps({"pid": os.getpid(), "sessionId": OTHER}),
    ):
        live.write_text(text)
        lose_again = (home.claude / FOOTPRINT[0]).exists()
        sh(f"csb-restore {ID}").ok()
        assert not lose_again or (home.claude / FOOTPRINT[0]).exists()


def test_a_second_copy_under_another_project_is_refused(sh, home, stored):
    lose(home)
    (home.claude / "projects/-moved").mkdir(parents=True)
    (home.claude / f"projects/-moved/{ID}.jsonl").write_text("{}\n")
    done = sh(f"csb-restore {ID}")
    assert done.rc == 1 and "'-moved' has it already" in done.err
    assert not (home.claude / FOOTPRINT[0]).exists()


@pytest.mark.long
def test_one_id_in_two_projects_is_never_guessed(sh, home):
    for project in ("-a", "-b"):
        (home.claude / f"projects/{project}").mkdir(parents=True)
        (home.claude / f"projects/{project}/{ID}.jsonl").write_text(f'"{project}"\n')
    backup(sh)
    done = sh(f"csb-restore {ID} --target-dir ~/t")
    assert (done.rc, done.out) == (2, "") and "-a -b" in done.err
    record = json.dumps({"kind": "session", "session_id": ID, "project": "-b"}).encode()
    sh("csb-restore --target-dir ~/t", record).ok()
    (path,) = (home.path / "t").rglob("*.jsonl")
    assert path == home.path / f"t/projects/-b/{ID}.jsonl"


def test_what_had_shrunk_comes_back_at_its_fullest_and_a_commit_is_obeyed(sh, home):
    main = home.claude / f"projects/-p/{ID}.jsonl"
    main.parent.mkdir(parents=True)
    commits = []
    for text in ("one\n", "one\ntwo\n", "stub\n"):
        main.write_text(text)
        commits.append(backup(sh)[0]["commit"])
    main.unlink()
    backup(sh)
    done = sh(f"csb-restore {ID}")
    assert done.rc == 0 and "had shrunk from 8 to 5 bytes" in done.err
    assert main.read_text() == "one\ntwo\n"
    for commit, text in zip(commits, ("one\n", "one\ntwo\n", "stub\n"), strict=True):
        main.unlink()
        record = json.dumps({"session_id": ID, "commit": commit}).encode()
        sh("csb-restore", record).ok()
        assert main.read_text() == text


def test_parts_purged_earlier_come_from_the_commit_that_held_them(sh, home, listing):
    make_session(home)
    before = files_only(listing(home.claude))
    backup(sh)
    for name in FOOTPRINT[1:]:
        (home.claude / name).unlink()
    backup(sh)
    sh("rm -r ~/.claude/*")
    sh("mkdir ~/.claude/todos; touch ~/.claude/todos/x")
    sh("csb-changes --accept-deletions | csb-gitcommit").ok()
    sh(f"csb-restore {ID}").ok()
    (home.claude / "todos/x").unlink()
    assert files_only(listing(home.claude)) == before


@pytest.mark.long
def test_deleted_twice_the_newest_comes_back(sh, home):
    main = home.claude / f"projects/-p/{ID}.jsonl"
    main.parent.mkdir(parents=True)
    (main.parent / "stay").touch()
    for text in ("one\n", "one\ntwo\n"):
        main.write_text(text)
        backup(sh)
        main.unlink()
        backup(sh)
    sh(f"csb-restore {ID}").ok()
    assert main.read_text() == "one\ntwo\n"


def test_ids_by_prefix_suffix_and_pipe(sh, home, once):
    once(backed_up_sessions, ID, OTHER)
    for word in (ID[:8], ID[-4:], ID):
        done = sh(f"csb-restore --dry-run {word}").ok()
        assert len(done.records) == len(FOOTPRINT) + 2
        done = sh("csb-restore --dry-run", word.encode()).ok()
        assert len(done.records) == len(FOOTPRINT) + 2
    common = ID[8:20]
    for word, status in ((common[1:10], 1), ("abcd1234", 1), ("111", 1)):
        assert sh(f"csb-restore {word}").rc == status
    hook = json.dumps({"session_id": ID, "transcript_path": "x", "cwd": "/"}).encode()
    assert len(sh("csb-restore --dry-run", hook).ok().records) == len(FOOTPRINT) + 2
    only = json.dumps({"transcript_path": f"/x/{OTHER}.jsonl"}).encode()
    records = sh("csb-restore --dry-run", only).ok().records
    assert {r["session_id"] for r in records} == {OTHER}
    two = f"abcd1234\nrubbish\n[]\n{{}}\n{ID}\n{OTHER}\n{ID}\n".encode()
    done = sh("csb-restore --dry-run", two)
    assert done.rc == 1 and done.err.count("\n") == 4
    assert len(done.records) == 2 * (len(FOOTPRINT) + 2) - 1, "one plan is of both"


def test_a_file_of_two_sessions_is_placed_once(sh, home, once):
    once(backed_up_sessions, ID, OTHER)
    for session_id in (ID, OTHER):
        (home.claude / "plans/my-fine-plan.md").touch()
        lose(home, session_id)
    found = sh(f"csb-restore {ID} {OTHER}").ok().records
    plans = [record["result"] for record in found if "/plans/" in record["path"]]
    assert plans == ["restored"]


def test_an_ambiguous_id_is_misuse_as_operand_and_a_failure_in_a_pipe(sh, home):
    make_session(home, ID)
    make_session(home, ID[:-1] + "6")
    backup(sh)
    done = sh(f"csb-restore {ID[:8]}")
    assert done.rc == 2 and ID in done.err and done.out == ""
    assert sh("csb-restore", ID[:8].encode()).rc == 1


def test_nothing_is_written_through_a_link_or_outside(sh, home, listing, stored):
    lose(home)
    away = home.path / "away"
    away.mkdir()
    for name in ("file-history", "plans"):
        sh(f"rm -rf ~/.claude/{name}; ln -s {away} ~/.claude/{name}")
    (home.claude / FOOTPRINT[0]).symlink_to(away / "victim")
    done = sh(f"csb-restore {ID}")
    assert done.rc == 1
    assert list(away.iterdir()) == []
    assert (home.claude / FOOTPRINT[0]).is_symlink()
    sh(f"csb-restore {ID} --force")
    assert list(away.iterdir()) == [] and not (home.claude / FOOTPRINT[0]).is_symlink()


def test_a_standing_link_at_the_project_is_followed(sh, home):
    (home.path / "disk/-p").mkdir(parents=True)
    (home.claude / "projects").symlink_to(home.path / "disk")
    main = home.claude / f"projects/-p/{ID}.jsonl"
    main.write_text("{}\n")
    (main.parent / "stay").touch()
    backup(sh)
    main.unlink()
    sh(f"csb-restore {ID}").ok()
    assert (home.path / f"disk/-p/{ID}.jsonl").read_text() == "{}\n"


def crafted(sh, store, entries):
    """A store made by somebody else: raw trees, which git itself would not write."""
    sh(f"git init -q --bare {store}").ok()

    def tree(items):
        data = b""
        for name, value in sorted(items.items()):
            if isinstance(value, dict):
                mode, oid = "40000", tree(value)
            else:
                mode, text = value
                write = f"git --git-dir={store} hash-object -w --stdin"
                oid = sh(write, text).out.strip()
            data += mode.encode() + b" " + name + b"\0" + bytes.fromhex(oid)
        return sh(f"git --git-dir={store} hash-object -w -t tree --literally --stdin",
                  data).out.strip()
    git = f"git -c user.name=x -c user.email=x --git-dir={store}"
    commit = sh(f"{git} commit-tree -m x {tree(entries)}").out.strip()
    sh(f"git --git-dir={store} update-ref refs/heads/main {commit}").ok()


@pytest.mark.parametrize("entries", [
    {b"projects": {b"-p": {ID.encode(): {b"..": {b"evil": ("100644", b"x")}}}}},
    {b"projects": {b"-p": {ID.encode(): {b".git": {b"hooks": ("100755", b"x")}}}}},
    {b"projects": {b"..": {ID.encode() + b".jsonl": ("100644", b"x")}}},
    {b"projects": {b"-p": {ID.encode(): ("120000", b"/etc")}}},
    {b"..": {ID.encode(): {b"evil": ("100644", b"x")}}},
    {b"projects": {b"-p": {ID.encode() + b".jsonl": ("100644", b"x"),
                           ID.encode(): {b"a": ("120000", b"../../../../away"), b"b": (
                               "160000", b"x"), b"x" * 300: ("100644", b"x")}}}}])
@pytest.mark.few(3)
def test_a_crafted_store_writes_nothing_outside(sh, home, listing, entries):
    (home.path / "away").mkdir()
    crafted(sh, home.path / "evil", entries)
    before = listing(home.path / "away"), set(os.listdir(home.path))
    done = sh(f"csb-restore --git-dir ~/evil --target-dir ~/out {ID}")
    assert done.err.count("Traceback") == 0 and "\x1b" not in done.err
    assert (listing(home.path / "away"), set(os.listdir(home.path)) - {"out"}) == before
    for folder, _, names in os.walk(home.path / "out"):
        assert ".git" not in folder.split("/") and "evil" not in names
        assert all(len(name) < 256 for name in names)


@pytest.mark.parametrize("line, status", [
    (f"csb-restore {ID}", 3), (f"csb-restore --git-dir ~/nowhere {ID}", 3),
    (f"csb-restore --git-dir /etc {ID}", 3), ("csb-restore --bogus", 2),
    ("csb-restore --target-dir", 2)])
def test_without_a_store(sh, home, line, status):
    done = sh(line)
    assert (done.rc, done.out, done.err.count("\n")) == (status, "", 1)


def test_forced_twice_in_one_second_keeps_both(sh, home):
    main = home.claude / f"projects/-p/{ID}.jsonl"
    main.parent.mkdir(parents=True)
    records = ""
    for text in ("one\n", "one\ntwo\n"):
        main.write_text(text)
        commit = backup(sh)[0]["commit"]
        records += json.dumps({"session_id": ID, "commit": commit}) + "\n"
    main.write_text("unsaved\n")
    sh("csb-restore --force", records.encode()).ok()
    kept = {path.read_text() for path in main.parent.iterdir() if path != main}
    assert kept == {"unsaved\n", "one\n"} and main.read_text() == "one\ntwo\n"


def test_a_full_disk_takes_nothing_away(sh, home):
    main = home.claude / f"projects/-p/{ID}.jsonl"
    main.parent.mkdir(parents=True)
    main.write_bytes(random.randbytes(3 << 20))
    backup(sh)
    main.write_text("unsaved\n")
    done = sh(f"ulimit -f 1024; csb-restore --force {ID}")
    assert done.rc == 1 and main.read_text() == "unsaved\n"


def test_a_transcript_behind_a_lost_link_comes_back_as_a_file(sh, home):
    away = home.path / "disk"
    away.mkdir()
    (away / "t.jsonl").write_text("far\n" * 9)
    main = home.claude / f"projects/-p/{ID}.jsonl"
    main.parent.mkdir(parents=True)
    (main.parent / "stay").touch()
    main.symlink_to(away / "t.jsonl")
    backup(sh)
    away.rename(home.path / "off")
    done = sh("csb-changes | csb-gitcommit")
    assert done.rc == 1 and "cannot follow" in done.err
    main.unlink()
    backup(sh)
    sh(f"csb-restore {ID}").ok()
    assert main.read_text() == "far\n" * 9 and not main.is_symlink()


def test_one_bad_ref_blocks_no_restore(sh, home):
    sh("git init -q", cwd=home.claude).ok()
    make_session(home)
    backup(sh)
    (home.claude / ".git/refs/heads/brk").write_text("0123456789" * 4 + "\n")
    lose(home)
    done = sh(f"csb-restore {ID}")
    assert (home.claude / FOOTPRINT[0]).exists() and done.err.count("\n") <= 2


@pytest.mark.parametrize(
    "more",
    [
        '"commit":"nonsense"',
        '"commit":["x"]',
        '"project":["x"]',
        '"commit":5',
        '"session_id":7',
    ],
)
@pytest.mark.few(2)
def test_a_bad_record_costs_itself(sh, home, more, once):
    once(backed_up_sessions, ID, OTHER)
    done = sh(
        "csb-restore --dry-run", f'{{"session_id":"{ID}",{more}}}\n{OTHER}\n'.encode()
    )
    assert {r["session_id"] for r in done.records} >= {OTHER}
    assert done.err.count("\n") <= 2


def test_what_a_killed_restore_left_is_swept_after_a_day(sh, home, stored):
    """The next restore into the same folder removes it, if its process is dead."""
    folder = home.claude / os.path.dirname(FOOTPRINT[0])
    lose(home)
    folder.mkdir(parents=True, exist_ok=True)
    names = [
        ".csb-tmp-4194305-00ff",
        f".csb-tmp-{os.getpid()}-00ff",
        ".csb-tmp-4194305-00fe",
    ]
    for name, age in zip(names, (90000, 90000, 10), strict=True):
        (folder / name).write_bytes(b"half")
        os.utime(folder / name, (time.time() - age,) * 2)
    sh(f"csb-restore {ID}").ok()
    assert [name for name in names if (folder / name).exists()] == names[1:]


@pytest.mark.parametrize("name", ["settings.json", "sessions/1.json"])
@pytest.mark.few(1)
def test_a_fifo_where_a_setting_should_be_hangs_nothing(sh, home, name, stored):
    """No reader waits for somebody to write into what lies under a known name."""
    lose(home)
    (home.claude / name).parent.mkdir(exist_ok=True)
    (home.claude / name).unlink(missing_ok=True)
    os.mkfifo(home.claude / name)
    sh(f"csb-restore {ID}")
    assert (home.claude / FOOTPRINT[0]).exists()
    assert sh("csb-find | csb-index").rc == 0
