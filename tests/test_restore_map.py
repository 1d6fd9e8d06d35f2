"""csb-restore --map: which folder a session was started in,
however late its transcript tells."""
import itertools
import json
import os

import pytest
from conftest import line, name

pytestmark = pytest.mark.logic


@pytest.fixture
def moved(sh, home):
    """moved(text, project, maps): where below projects a session of that
    transcript is put."""
    def put(text, project, maps="--map /old=/new"):
        folder = home.claude / "projects" / project
        folder.mkdir(parents=True)
        (folder / f"{name(1)}.jsonl").write_text(text)
        sh("csb-backup --quiet").ok()
        done = sh(f"csb-restore --target-dir out {maps} {name(1)}")
        assert done.rc == 0, done
        return done.records[0]["path"].split("/")[-2]
    return put


@pytest.mark.parametrize(
    "text, project, expected",
    [
        (
            "".join(line(cwd=f"/other/{n}") for n in range(30)) + line(cwd="/old/app"),
            "-old-app",
            "-new-app",
        ),
        (line(cwd="/other") * 1500 + line(cwd="/old/app"), "-old-app", "-new-app"),
        (
            "".join(line(cwd=f"/other/{n}") for n in range(30))
            + line(cwd="/old/\U0001f600"),
            "-old---",
            "-new---",
        ),
        (
            line("x" * (1 << 21), cwd="/other") + "{torn\n" + line(cwd="/old/app"),
            "-old-app",
            "-new-app",
        ),
        (
            line(cwd="/other") * 2 + line(tool={"cwd": "/old/app"}, cwd="/x") * 2,
            "-old-app",
            "-old-app",
        ),
        (
            line(tool={"cwd": "/old/app"}, cwd="/x") * 2 + line(cwd="/old/app"),
            "-old-app",
            "-new-app",
        ),
        (
            json.dumps({"a": '"cwd":"/old/app"'}) + "\n" + line(cwd="/x"),
            "-old-app",
            "-old-app",
        ),
        (
            "".join(
                line(cwd=f"/{a}{b}{c}old/{'d' * 240}{n}")
                for n, (c, b, a) in enumerate(itertools.product("-/", repeat=3))
            ),
            "---" + "-old-" + "d" * 192 + "-zzz",
            "---" + "-old-" + "d" * 192 + "-zzz",
        ),
    ],
)
@pytest.mark.few(1)
def test_the_folder_is_found_however_late(moved, text, project, expected):
    assert moved(text, project) == expected


def test_a_link_that_stands_is_followed(home, moved):
    """The client calls a project by the real path; a transcript may name the link."""
    (home.path / "real").mkdir()
    (home.path / "link").symlink_to("real")
    real = str(home.path / "real").translate(dict.fromkeys(map(ord, "/._"), "-"))
    maps = f"--map {home.path}/link=/new"
    assert moved(line(cwd="/a") + line(cwd=f"{home.path}/link"), real, maps) == "-new"


def test_a_name_is_found_in_either_spelling(sh, home, moved):
    """What macOS wrote is in NFD, what is typed in NFC;
    bytes and names stay as they are."""
    told = "/old/u\u0308ber"
    where = "-old--ber"
    assert moved(line(cwd=told), where, "--map '/old/\u00fcber=/new'") == "-new"
    note = home.claude / "skills/cafe\u0301.md"
    note.parent.mkdir()
    note.write_text("x")
    sh("csb-backup --quiet").ok()
    done = sh("csb-restore --target-dir more --path 'skills/caf\u00e9.md'").ok()
    assert done.records[0]["path"].endswith("more/skills/cafe\u0301.md")
    assert sh("csb-history --path 'skills/caf\u00e9.md'").ok().records[0]["size"] == 1


@pytest.mark.long
def test_thousands_of_folders_cost_little(moved):
    """Each is looked at once."""
    text = "".join(line(cwd=f"/other/{n}") for n in range(20000)) + line(cwd="/old/app")
    assert moved(text, "-old-app") == "-new-app"


@pytest.mark.parametrize("damage", ["rm -f", "chmod u+w {0}; truncate -s 100K"])
def test_a_version_that_is_lost_names_no_folder(sh, home, damage):
    """The one before it, which is restored, does: also if its end alone is lost."""
    path = home.claude / f"projects/-old-app/{name(1)}.jsonl"
    path.parent.mkdir(parents=True)
    long = line(os.urandom(200_000).hex(), cwd="/other")
    for text in (long + line(cwd="/old/app"), long + line(cwd="/old/app") * 2):
        path.write_text(text)
        sh("csb-backup --quiet").ok()
    stored = f"main:projects/-old-app/{path.name}"
    oid = sh(f"git --git-dir=$CSB_HOME/git rev-parse {stored}").out
    file = home.backup / f"git/objects/{oid[:2]}/{oid[2:].strip()}"
    sh(f"{damage} {{0}}".format(file)).ok()
    done = sh(f"csb-restore --target-dir out --map /old=/new {name(1)}")
    assert done.rc == 1 and [r["result"] for r in done.records] == ["restored"]
    assert done.records[0]["path"].split("/")[-2] == "-new-app", done


@pytest.mark.parametrize("option", ["--map old=new", "--cwd new/app"])
def test_what_is_said_of_a_folder_that_has_moved_can_be_typed(sh, home, option):
    """The transcript names the folder from before, where nothing can go on."""
    folder = home.claude / "projects/-old"
    folder.mkdir(parents=True)
    path = folder / f"{name(1)}.jsonl"
    path.write_text(line(cwd=f"{home.path}/old/app"))
    sh("csb-backup --quiet; mkdir -p new/app").ok()
    path.unlink()
    option = option.replace("old=new", f"{home.path}/old={home.path}/new")
    for words in "--dry-run ", "":
        said = sh(f"csb restore {words}{option} {name(1)}").ok().out.splitlines()
    advice = said[1].removeprefix("Go on with it: ")
    printed = sh(f"{advice} --print").ok().out
    assert printed == f"cd {home.path}/new/app && claude --resume {name(1)}\n"
