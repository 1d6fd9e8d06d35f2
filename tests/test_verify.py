"""csb-verify: damage is found, named, and mended from what is still on disk"""
import json
import os
import random
import shutil
import zlib

import pytest
from conftest import backup

pytestmark = pytest.mark.logic

IDS = [f"{number}1111111-2222-4333-8444-555555555555" for number in range(1, 7)]


def back_up_six(sh, home):
    """Six sessions and a setting in the store; the paths of all."""
    paths = ["settings.json"]
    for number, name in enumerate(IDS):
        paths += [f"projects/-p/{name}.jsonl", f"tasks/{name}/1.json"]
        for path in paths[-2:]:
            (home.claude / path).parent.mkdir(parents=True, exist_ok=True)
            (home.claude / path).write_text(f'{{"n":{number},"path":"{path}"}}\n' * 50)
    (home.claude / "settings.json").write_text("{}\n")
    (home.claude / "link").symlink_to("settings.json")
    backup(sh)
    return [*paths, "link"]


@pytest.fixture
def backed_up(once):
    """Six sessions and a setting in the store; the paths of all."""
    return once(back_up_six)


def oid_of(sh, home, path):
    """The id of the blob that a path is stored as."""
    return sh(f"git --git-dir={home.backup}/git rev-parse main:{path}").ok().out.strip()


def loose(sh, home, path):
    """The file of the loose object that a path is stored as."""
    oid = oid_of(sh, home, path)
    file = home.backup / "git/objects" / oid[:2] / oid[2:]
    file.chmod(0o600)
    return file


def test_all_is_well(sh, home, backed_up):
    records = sh("csb-verify").ok().records
    assert sorted(r["path"] for r in records) == sorted(backed_up)
    for record in records:
        assert record["ok"] and record["kind"] == "check"
        assert len(record["commit"]) == 40
    assert {r.get("session_id") for r in records} == {*IDS, None}
    assert sh("csb-verify --deep").ok().records == records
    done = sh(f"csb-verify {IDS[0][:8]}").ok()
    assert [r["path"] for r in done.records] == backed_up[1:3]
    done = sh("csb-verify -", IDS[0].encode()).ok()
    assert [r["path"] for r in done.records] == backed_up[1:3]


def test_what_is_refused_is_not_checked(sh, home, backed_up):
    """Be it by a rule, or by what the newest journal of a path says."""
    paths = [
        f"session-env/{IDS[0]}/a",
        "debug/b",
        f"todos/{IDS[1]}.json",
        f"todos/{IDS[2]}",
    ]
    for path in paths:
        (home.claude / path).parent.mkdir(parents=True, exist_ok=True)
        (home.claude / path).write_text("x")
    for change, some in (("new", paths), ("refused", paths[1:]), ("new", paths[3:])):
        lines = [
            json.dumps({"kind": "change", "path": path, "change": change})
            for path in some
        ]
        sh("csb-gitcommit", "\n".join(lines).encode()).ok()
    checked = [r["path"] for r in sh("csb-verify").ok().records]
    assert sorted(checked) == sorted([*backed_up, paths[3]])
    done = sh(f"csb-verify {IDS[0]}").ok()
    assert [r["path"] for r in done.records] == backed_up[1:3]


def test_parts_make_the_whole(sh, home, backed_up):
    parts = [
        r["path"] for n in (1, 2, 3) for r in sh(f"csb-verify --subset {n}/3").records
    ]
    assert sorted(parts) == sorted(backed_up)
    checked = len(sh("csb-verify --percent 1").ok().records)
    assert checked in (2, len(backed_up) - 2 * len(IDS))
    for wrong in ("0/3", "4/3", "x", "1/"):
        assert sh(f"csb-verify --subset {wrong}").rc == 2


def test_nothing_to_check_is_no_success(sh, home):
    assert sh("csb-verify").rc == 3
    sh("git init -q --bare ~/empty")
    done = sh("csb-verify --git-dir ~/empty")
    assert (done.rc, done.out) == (1, "")
    assert done.err == "csb-verify: there was nothing to check\n"
    assert sh("csb-verify --git-dir ~/empty abcd1234").rc == 1


def rot(data):
    """The bytes with one bit in the middle turned."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 16]) + data[middle + 1:]


def other(data):
    """A sound object of the same size, but not that one:
    git does not look at its id."""
    return zlib.compress(zlib.decompress(data).replace(b"path", b"PATH"))


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-9],
        rot,
        other,
        lambda data: b"rubbish",
        None,
    ],
)
@pytest.mark.few(1)
def test_a_damaged_object_is_named_and_mended(sh, home, backed_up, damage):
    path = backed_up[1]
    file = loose(sh, home, path)
    if damage:
        file.write_bytes(damage(file.read_bytes()))
    else:
        file.unlink()
    done = sh("csb-verify")
    assert done.rc == 1 and done.err.count("\n") == 1 and path in done.err
    assert [r["path"] for r in done.records if not r["ok"]] == [path]
    restored = sh(f"csb-restore --target-dir ~/out {IDS[0]}")
    assert restored.rc == 1 and not (home.path / "out" / path).exists()
    mended = sh("csb-verify --repair")
    assert mended.rc == 0 and "stored anew" in mended.err
    assert sh("csb-verify --deep").ok()
    sh(f"csb-restore --target-dir ~/out {IDS[0]}").ok()
    assert (home.path / "out" / path).read_bytes() == (home.claude / path).read_bytes()


def test_other_bytes_under_an_id_are_found_without_the_disk(sh, home, backed_up):
    """The id is computed anew from the bytes: git gives out what lies under
    a name as it is."""
    file = loose(sh, home, backed_up[1])
    file.write_bytes(other(file.read_bytes()))
    (home.claude / backed_up[1]).unlink()
    done = sh("csb-verify")
    assert done.rc == 1
    reasons = [r["reason"] for r in done.records if not r["ok"]]
    assert reasons == ["its bytes are damaged"]


def test_what_is_lost_on_disk_too_cannot_be_mended(sh, home, backed_up):
    loose(sh, home, backed_up[1]).unlink()
    (home.claude / backed_up[1]).write_text("other\n")
    done = sh("csb-verify --repair")
    assert done.rc == 1 and backed_up[1] in done.err
    reasons = [r["reason"] for r in done.records if not r["ok"]]
    assert reasons == ["the store has lost it"]


@pytest.mark.soak
def test_every_flipped_bit_of_a_pack_is_found_and_mended(
    sh, home, backed_up, rounds, seeded
):
    store = f"{home.backup}/git"
    sh(f"git --git-dir={store} repack -adq").ok()
    pack, = (home.backup / "git/objects/pack").glob("*.pack")
    good = pack.read_bytes()
    pack.chmod(0o600)
    for place in seeded.sample(range(12, len(good) - 20), rounds(6, 40)):
        pack.write_bytes(good[:place] + bytes([good[place] ^ 1 << seeded.randrange(8)])
                         + good[place + 1:])
        done = sh("csb-verify --deep")
        assert done.rc == 1, place
    pack.write_bytes(good)
    sh("csb-verify --deep").ok()


def test_disk_and_store_that_differ_under_one_date_are_said(sh, home, backed_up):
    path = home.claude / backed_up[1]
    st = os.stat(path)
    data = path.read_bytes()
    path.write_bytes(data[:-2] + b"X\n")
    os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns))
    done = sh("csb-verify")
    assert done.rc == 1 and "the disk has other bytes" in done.err
    path.write_bytes(data + b"more\n")
    sh("csb-verify").ok()


def test_deleted_sessions_and_older_tools_are_verified(sh, home):
    (home.path / ".gitconfig").write_text("[user]\nname=u\nemail=u\n")
    (home.claude / "projects/-p").mkdir(parents=True)
    (home.claude / f"projects/-p/{IDS[0]}.jsonl").write_text("{}\n")
    sh(
        "git init -q; git add -A; git commit -qm 1; "
        "git rm -q projects/-p/*; git commit -qm 2",
        cwd=home.claude,
    ).ok()
    (record,) = sh("csb-verify").ok().records
    assert record["path"] == f"projects/-p/{IDS[0]}.jsonl"


def test_a_clone_is_as_good(sh, home, backed_up):
    sh("git clone -q --bare ~/.claude-backup/git ~/clone").ok()
    shutil.rmtree(home.claude)
    records = sh("csb-verify --git-dir ~/clone").ok().records
    assert sorted(r["path"] for r in records) == sorted(backed_up)
    assert sh("csb-verify --git-dir ~/clone | csb-fmt").ok().out.endswith(
        f"{len(backed_up)} of {len(backed_up)} read back: all can be restored.\n")
    assert json.dumps(records)


def test_one_bad_ref_hides_nothing(sh, home, backed_up):
    """A ref that cannot be read is named; what the others hold is
    verified all the same."""
    refs = home.backup / "git/refs/heads"
    (refs / "aaa").write_text("0123456789" * 4 + "\n")
    done = sh("csb-verify")
    assert {r["path"] for r in done.records if r["ok"]} == set(backed_up)
    assert done.rc == 1 and "'refs/heads/aaa'" in done.err


def test_what_changes_while_it_is_compared_is_no_damage(sh, home, backed_up):
    """Only a file of the recorded time and size is compared:
    a live one is simply newer."""
    path = home.claude / "settings.json"
    path.write_text("{ }")
    sh("csb-verify").ok()
    path.unlink()
    os.mkfifo(path)
    sh("csb-verify").ok()


def test_a_lost_link_and_a_large_file_of_a_bad_pack_are_mended(sh, home, backed_up):
    """Whatever was lost, of whatever size: what the disk still has is stored anew."""
    big = home.claude / f"projects/-p/{IDS[0]}/tool-results/big.txt"
    big.parent.mkdir(parents=True)
    big.write_bytes(random.Random(1).randbytes(3 << 20))
    for number in range(120):       # so many that git keeps them in a pack
        (home.claude / f"tasks/{IDS[0]}/{number}").write_text(f"{number}\n" * 99)
    backup(sh)
    loose(sh, home, "link").unlink()
    pack = max(
        home.backup.glob("git/objects/pack/*.pack"),
        key=lambda path: path.stat().st_size,
    )
    pack.chmod(0o600)
    with open(pack, "r+b") as file:
        file.seek(pack.stat().st_size // 2)
        file.write(bytes(64))
    os.utime(pack, (1, 1))      # rot changes no time; git asks the newest pack first
    assert sh("csb-verify").rc == 1
    assert sh("csb-verify --repair").rc == 0
    assert sh("csb-verify").ok()
    big.unlink()
    sh(f"csb-restore {IDS[0]}")
    assert big.read_bytes() == random.Random(1).randbytes(3 << 20)


def test_misuse(sh, home, backed_up):
    for words in (
        "--percent nan",
        "--percent 0",
        "--percent 101",
        f"--percent 1 {IDS[0]}",
        f"--subset 1/2 {IDS[0]}",
    ):
        assert sh(f"csb-verify {words}").rc == 2, words


def test_fsck_says_what_it_found(sh, home, backed_up):
    """--deep passes on git's words about objects that no last version needs."""
    old = oid_of(sh, home, "settings.json")
    (home.claude / "settings.json").write_text('{"new":1}\n')
    backup(sh)
    (home.backup / "git/objects" / old[:2] / old[2:]).unlink()
    assert sh("csb-verify").ok()
    done = sh("csb-verify --deep")
    assert done.rc == 1 and f"missing blob {old}" in done.err


@pytest.mark.parametrize(
    "lost", ["main~1", "main~1^{tree}", "main~1:projects", "main~2"]
)
@pytest.mark.few(1)
def test_a_hole_in_the_history_hides_nothing_that_is_newer(sh, home, backed_up, lost):
    """Past a lost commit or tree nobody can look;
    what the newest tree holds comes back."""
    for number in range(3):
        (home.claude / f"projects/-p/{IDS[number]}.jsonl").write_text(
            f'{{"n":{number}}}\n'
        )
        backup(sh)
    git = f"git --git-dir {home.backup}/git"
    oid = sh(f"{git} rev-parse {lost}").ok().out.strip()
    (home.backup / "git/objects" / oid[:2] / oid[2:]).unlink()
    done = sh("csb-verify")
    assert done.rc == 1 and "cannot read all of 'refs/heads/main'" in done.err
    assert {r["path"] for r in done.records if r["ok"]} == set(backed_up)
    (home.claude / backed_up[1]).unlink()
    done = sh(f"csb-restore {IDS[0]}")
    assert done.rc == 1 and (home.claude / backed_up[1]).read_text() == '{"n":0}\n'
    (home.backup / "git/csb.seen").unlink()
    (home.claude / "settings.json").write_text("new")
    assert sh("csb-changes | csb-gitcommit").records
