"""csb-restore: any time, any file, any folder."""
import json
import os
import re
import subprocess
import time

import pytest
from conftest import days_ago, line, name

pytestmark = pytest.mark.logic

GIT = "git --git-dir=$CSB_HOME/git"
LONG = "/" + "d" * 250
NOW = time.strftime("%Y-%m-%dT%H:%M:%S.000000001Z", time.gmtime())
# The versions of grown() are of DAYS[1], [2] and [3]. All are recent:
# what is old is restored with another time, and a message.
DAYS = [days_ago(5 - number, "%Y-%m-%d") for number in range(5)]


def back_up_three_days(sh, home):
    """A session and settings, each of three versions a day apart, the last is that both
    are gone: (path of the transcript, its versions, the commits, oldest first)."""
    path = home.claude / f"projects/-w/{name(1)}.jsonl"
    path.parent.mkdir(parents=True)
    (home.claude / "skills/deep/er").mkdir(parents=True)
    versions = [line("a"), line("a") + line("b")]
    for number, text in enumerate([*versions, None], 1):
        path.write_text(text) if text else path.unlink()
        skill = home.claude / "skills/deep/er/SKILL.md"
        skill.write_text(f"{text}") if text else skill.unlink()
        (home.claude / "settings.json").write_text(json.dumps({"number": number}))
        when = f"{DAYS[number]}T12:00:00Z"
        sh("csb-backup --quiet").ok()
        # The same commits with a date of their own:
        # what git fast-import writes is what was.
        sh(f"""{GIT} fast-export --no-data --show-original-ids main | cat >/dev/null
            export GIT_COMMITTER_DATE={when} GIT_AUTHOR_DATE={when}
            tree=$({GIT} rev-parse main^{{tree}})
            commit=$({GIT} -c user.name=a -c user.email=a@b commit-tree $tree \
                $(test -f dated && echo -p $(cat dated)) -m x)
            echo $commit >dated; {GIT} update-ref refs/dated $commit""")
    sh(
        f"{GIT} update-ref refs/heads/main refs/dated && {GIT} update-ref -d refs/dated"
    ).ok()
    commits = sh(f"{GIT} rev-list --reverse main").ok().out.split()
    return path, versions, commits


@pytest.fixture
def grown(once):
    """(path of the transcript, its versions, the commits,
    oldest first) of three days."""
    return once(back_up_three_days)


def placed(done):
    """{path below the target: text} of what was restored."""
    return {record["path"].split("/out/")[-1]: open(record["path"]).read()
            for record in done.records if record["result"] == "restored"
            and not record["path"].endswith("/")}


@pytest.mark.parametrize("at, expected", [
    ("{1}", 0), ("{1}T12:00:00Z", 0), ("{2}T11:59:59Z", 0),
    ("{2}T14:00:00+02:00", 1), ("{2}", 1), ("{4}", 1), (0, 0), (1, 1)])
@pytest.mark.few(1)
def test_at(sh, grown, at, expected):
    """By a time, a date (its end) or a commit; what had been deleted by then comes back
    as well. {1} is the day of the first version."""
    path, versions, commits = grown
    at = commits[at] if isinstance(at, int) else at.format(*DAYS)
    for where in (name(1), f"--path projects/-w/{path.name}"):
        done = sh(
            f"csb-restore --at {at} --target-dir out {where}; rm -r out", TZ="UTC"
        )
        assert done.rc == 0
    done = sh(f"csb-restore --at {at} --target-dir out {name(1)}").ok()
    assert placed(done)[f"projects/-w/{path.name}"] == versions[expected]


@pytest.mark.parametrize(
    "at, rc",
    [
        ("{0}", 1),
        ("tomorrow", 2),
        ("ffffff", 2),
        ("", 2),
        ("1970-01-01", 1),
        ("1960-02-03", 1),
        ("--output=x", 2),
        ("main:projects", 2),
    ],
)
@pytest.mark.few(1)
def test_at_no_time(sh, grown, at, rc):
    done = sh(f"csb-restore --target-dir out --at={at.format(*DAYS)} {name(1)}")
    assert done.rc == rc and done.err.count("\n") == bool(rc), done
    assert (rc == 0) == bool(done.out)


@pytest.mark.parametrize(
    "pattern, found",
    [
        ("settings.json", ["settings.json"]),
        ("skills", ["skills/deep/er/SKILL.md"]),
        ("skills/", ["skills/deep/er/SKILL.md"]),
        ("skills/**", ["skills/deep/er/SKILL.md"]),
        ("**/SKILL.md", ["skills/deep/er/SKILL.md"]),
        ("*.json", ["settings.json"]),
        ("skills/*/er", ["skills/deep/er/SKILL.md"]),
        ("skills/*.md", None),
        ("nope", None),
        ("SETTINGS.json", None),
        ("/settings.json", None),
        ("../settings.json", None),
        ("", None),
        ("[s]ettings.json", None),
    ],
)
@pytest.mark.few(3)
def test_patterns(sh, home, grown, pattern, found):
    done = sh(f"csb-restore --target-dir out --path '{pattern}'")
    assert sorted(placed(done)) == (found or []), done
    assert (done.rc, done.err.count("\n")) == ((0, 0) if found else (1, 1)), done


def test_a_folder_where_nothing_is_put_is_not_named(sh, home, grown):
    done = sh("csb-restore --path nosuch")
    assert done.rc == 1
    assert done.err == "csb-restore: cannot find 'nosuch' in the store\n"


def test_files_of_no_session_go_where_nobody_misses_them(sh, home, grown):
    """Into a new directory; in place only if asked for, and over nothing."""
    (home.claude / "settings.json").write_text("mine")
    done = sh("csb-restore --path settings.json --path 'skills/**'")
    names = os.listdir(home.path)
    (folder,) = [name for name in names if name.startswith("csb-restored-")]
    assert done.rc == 0 and f"into {folder} " in done.err
    assert (home.path / folder / "settings.json").read_text() == '{"number": 3}'
    assert (home.path / folder / "skills/deep/er/SKILL.md").read_text() == grown[1][1]
    assert not (home.claude / "skills/deep/er/SKILL.md").exists()
    done = sh("csb-restore --in-place --path settings.json --path 'skills/**'")
    assert done.rc == 1 and "another file is there" in done.err
    assert (home.claude / "settings.json").read_text() == "mine"
    assert (home.claude / "skills/deep/er/SKILL.md").read_text() == grown[1][1]
    assert sh("csb-restore --in-place --force --path settings.json").rc == 0
    kept, = [path for path in os.listdir(home.claude) if path.endswith(".replaced")]
    assert (home.claude / kept).read_text() == "mine"


def test_an_open_session_is_not_restored_by_its_path_either(sh, home, grown):
    (home.claude / "sessions").mkdir()
    (home.claude / "sessions/1.json").write_text(json.dumps(
        {"pid": os.getpid(), "sessionId": name(1)}))
    done = sh("csb-restore --in-place --path 'projects/**'")
    assert done.rc == 1 and "open in Claude Code" in done.err and not grown[0].exists()


@pytest.mark.parametrize("torn", ['{"type":"user","mess', line("x")[:-1], "\0" * 9])
@pytest.mark.few(1)
def test_a_torn_last_line(sh, home, torn):
    """The bytes as they were; with --repair a newline more, twice the same,
    and it is said."""
    path = home.claude / f"projects/-w/{name(1)}.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text(line() + torn)
    sh("csb-backup --quiet").ok()
    path.unlink()
    done = sh(f"csb-restore {name(1)}")
    told = done.ok().records[0].get("torn", False)
    assert told == (torn != line("x")[:-1]), "whole but for \\n"
    assert path.read_text() == line() + torn
    sh(f"csb-restore {name(1)}").ok()
    path.unlink()
    done = sh(f"csb-restore --repair {name(1)}")
    assert "is torn: a newline was added" in done.err
    assert done.records[0]["repaired"] is True
    assert path.read_text() == line() + torn + "\n"
    done = sh(f"csb-restore --repair {name(1)}").ok()
    assert done.records[0]["result"] == "kept"
    assert sh(f"csb-restore {name(1)}").rc == 1, "without --repair it is another file"
    path.write_text(line() + torn)
    done = sh(f"csb-restore --repair {name(1)}")
    assert done.rc == 1, "it is torn as it stands"
    assert "another file is there" in done.err
    done = sh(f"csb-restore --repair --force {name(1)}")
    assert done.rc == 0 and path.read_text() == line() + torn + "\n"
    path.write_text(line() + torn + "\n\n")
    assert sh(f"csb-restore --repair {name(1)}").rc == 1
    path.write_text(line() + "\n")
    assert sh(f"csb-restore --repair {name(1)}").rc == 1


def live(sh, home, cwd, project, number=1):
    """A session with a side file, backed up and gone; its id."""
    top = home.claude / "projects" / project
    (top / name(number) / "subagents").mkdir(parents=True)
    (top / f"{name(number)}.jsonl").write_text(
        json.dumps({"type": "summary"})
        + "\n{\n"
        + line("a", cwd=cwd)
        + line("b", cwd="/else")
    )
    (top / name(number) / "subagents/agent-1.jsonl").write_text(line("sub", cwd=cwd))
    (home.claude / "tasks" / name(number)).mkdir(parents=True)
    (home.claude / "tasks" / name(number) / "1.json").write_text("{}")
    sh("csb-backup --quiet").ok()
    sh(
        "rm -r ~/.claude/projects ~/.claude/tasks && mkdir -p ~/.claude/projects/-x"
    ).ok()
    (home.claude / "projects/-x" / f"{name(99)}.jsonl").write_text(line())
    return name(number)


@pytest.fixture
def lived(once):
    """lived(cwd, project, number): the id of a session that was backed
    up and is gone."""
    return lambda *words: once(live, *words)


@pytest.mark.parametrize(
    "cwd, project, words, expected",
    [
        ("/home/old/a", "-home-old-a", "--map /home/old=/home/new", "-home-new-a"),
        ("/home/old/a", "-home-old-a", "--map /home/old/=/home/new/", "-home-new-a"),
        ("/home/old", "-home-old", "--map /home/old=/n", "-n"),
        ("/home/older", "-home-older", "--map /home/old=/n", "-home-older"),
        ("/a/b", "-a-b", "--map /a=/x --map /a/b=/y", "-y"),
        ("/a/b", "-a-b", "--map /=/x", "-x-a-b"),
        (
            "C:\\Users\\u\\p",
            "C--Users-u-p",
            "--map 'C:\\Users\\u=/home/u'",
            "-home-u-p",
        ),
        ("/w/a_b.c", "-w-a-b-c", "--map /w=/v", "-v-a-b-c"),
        ("/w/\U0001f600", "-w---", "--map /w=/\u00e9", "---" + "--"),
        ("/other", "-w", "--map /other=/n", "-n"),
        ("/other", "-w", "--map /w=/n", "-w"),
        ("/w", "-w", "--cwd /srv/app", "-srv-app"),
        (None, "-w", "--cwd /srv", "-srv"),
        (None, "-w", "--map /w=/n", "-w"),
    ],
)
@pytest.mark.few(1)
def test_another_folder(sh, home, lived, cwd, project, words, expected):
    """The whole footprint under the new project; not a byte is another."""
    session = lived(cwd, project)
    done = sh(f"csb-restore {session} --target-dir out {words}")
    moved = expected != project
    assert (done.rc, done.err.count("\n")) == (0, 0 if moved else 1), done
    there = sorted(placed(done))
    assert there == [f"projects/{expected}/{session}.jsonl",
                     f"projects/{expected}/{session}/subagents/agent-1.jsonl",
                     f"tasks/{session}/1.json"]
    kept = sh(f"""{GIT} rev-list main | while read commit; do
        {GIT} show $commit:projects/{project}/{session}.jsonl 2>/dev/null && break
        done""").ok().out
    assert placed(done)[there[0]] == kept != ""
    assert sh(f"csb-restore {session} {words}").rc == 0
    done = sh(f"csb-restore {session}")
    assert done.rc == 0 and ("all of it" in done.err) == moved
    assert len(list(home.claude.rglob(f"{session}.jsonl"))) == 1, "no second copy"


def test_a_folder_with_a_long_path(sh, home, lived):
    """The client makes a hash of it, not always the same:
    a name that is there is taken."""
    session = lived("/w", "-w")
    done = sh(f"csb-restore --target-dir out --cwd {LONG} {session}").ok()
    assert any(path.startswith("projects/-" + "d" * 199 + "-") for path in placed(done))
    long = "-" + "d" * 199 + "-1ohkni"
    (home.claude / "projects" / long).mkdir()
    sh(f"csb-restore --cwd {LONG} {session}").ok()
    assert (home.claude / "projects" / long / f"{session}.jsonl").exists()


@pytest.mark.parametrize(
    "words",
    ["--map x", "--map =x", "--map x=", "--rewrite-cwd", "--at", "--map", "--cwd ''"],
)
@pytest.mark.few(1)
def test_misuse(sh, grown, words):
    done = sh(f"csb-restore {name(1)} {words}")
    assert (done.rc, done.out) == (2, "") and "Traceback" not in done.err


@pytest.mark.long
def test_the_cwd_fields_of_the_copy(sh, home, lived):
    """With --rewrite-cwd they name the new folder,
    as csb-remap writes them; twice is once."""
    session = lived("/home/old/a", "-home-old-a")
    options = "--target-dir out --map /home/old=/home/new --rewrite-cwd"
    words = f"csb-restore {session} {options}"
    found = placed(sh(words).ok())
    path = f"projects/-home-new-a/{session}"
    assert found[f"{path}.jsonl"] == (
        json.dumps({"type": "summary"}) + "\n{\n" + line("a", cwd="/home/new/a")
        + line("b", cwd="/else"))
    assert found[f"{path}/subagents/agent-1.jsonl"] == line("sub", cwd="/home/new/a")
    again = sh(words)
    assert again.rc == 0 and {record["result"] for record in again.records} == {"kept"}
    (home.path / "out" / f"{path}.jsonl").write_text(line("other"))
    assert sh(words).rc == 1 and sh(f"{words} --project=-home-old-a --force").rc == 0
    done = sh(f"csb-restore {session} --target-dir out2").ok()
    assert placed(done), "the store has the old one"


@pytest.mark.parametrize(
    "bad", ["/home/old/a\0b", "/home/old/a\ud83d", "/home/old/" + "x/" * 2100]
)
@pytest.mark.few(1)
def test_an_odd_folder_stops_no_other(sh, home, lived, bad):
    """A cwd that no system could have costs its session at most."""
    lived(bad, "-odd", 2)
    (home.claude / "projects/-x" / f"{name(99)}.jsonl").unlink()
    session = lived("/home/old/a", "-home-old-a")
    done = sh("csb-restore --target-dir out --map /home/old=/home/new",
              f"{name(2)}\n{session}\n".encode())
    assert f"projects/-home-new-a/{session}.jsonl" in placed(done), done


def test_a_path_that_is_asked_for_stays_where_it_was(sh, home, lived):
    """--map is about sessions; the two go together."""
    session = lived("/home/old/a", "-home-old-a")
    done = sh(
        f"csb-restore --target-dir out --map /home/old=/new --path 'projects/**' "
        f"{session}"
    )
    assert done.rc == 0
    assert {path.split("/")[1] for path in placed(done) if session in path} == {
        "-home-old-a", "-new-a", session}


def test_a_home_is_a_home(sh, home, lived):
    """The shell expands no ~ after a =."""
    session = lived("/home/old/a", "-home-old-a")
    slug = re.sub("[^a-zA-Z0-9]", "-", str(home.path))
    done = sh(f"csb-restore --target-dir out --map /home/old=~/new {session}").ok()
    assert f"projects/{slug}-new-a/{session}.jsonl" in placed(done)
    done = sh(f"csb-restore --target-dir out2 --map /home/old=new {session}")
    assert (done.rc, done.out) == (2, "") and "the whole path" in done.err


@pytest.mark.parametrize("path", ["CLAUDE.md", "skills", "agents/a.md"])
@pytest.mark.few(1)
def test_links_of_a_person_come_back(sh, home, path):
    """A link into dotfiles is restored as the link that it was;
    nothing is written through it."""
    (home.path / "dot").mkdir()
    (home.path / "dot/a").write_text("mine")
    link = home.claude / path
    link.parent.mkdir(exist_ok=True)
    link.symlink_to("../dot")
    (home.claude / "projects/-w").mkdir(parents=True)
    (home.claude / f"projects/-w/{name(1)}.jsonl").write_text(line())
    sh("csb-backup --quiet").ok()
    link.unlink()
    sh(f"csb-restore --in-place --path {path}").ok()
    assert os.readlink(link) == "../dot"
    link.unlink()
    if path == "skills":
        link.mkdir()
        (link / "x").write_text("inside")
        sh("csb-backup --quiet").ok()
        (link / "x").unlink()
        link.rmdir()
        link.symlink_to("../dot")
        assert sh("csb-restore --in-place --path 'skills/**'").rc == 1
        assert os.listdir(home.path / "dot") == ["a"]


@pytest.mark.parametrize("days", ["1e999", "NaN", "9" * 331, "-1e308", '"x"', "null"])
@pytest.mark.few(2)
def test_settings_of_any_kind(sh, home, grown, days):
    (home.claude / "settings.json").write_text(f'{{"cleanupPeriodDays": {days}}}')
    assert sh(f"csb-restore {name(1)}").rc == 0 and grown[0].read_text() == grown[1][1]


def test_what_came_meanwhile_is_not_lost(sh, home, stages):
    """A client that writes as soon as the file is there:
    its line stays, and so does the rest."""
    path = home.claude / f"projects/-w/{name(1)}.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text(line("x" * 1000) * 20000)
    sh("csb-backup --quiet").ok()
    before = path.read_bytes()
    path.unlink()
    done = sh(
        f"(until [ -f {path} ]; do :; done; echo new >>{path}) & csb-restore "
        f"{name(1)}; wait"
    )
    assert done.rc == 0 and path.read_bytes() == before + b"new\n"


@pytest.mark.long
def test_a_client_of_another_person_is_alive(sh, home, grown):
    """A process that one may not signal is one."""
    if os.geteuid():
        pytest.skip("only root can start what is somebody else's")
    (home.claude / "sessions").mkdir()
    other = subprocess.Popen(
        ["setpriv", "--reuid=65534", "--clear-groups", "sleep", "60"]
    )
    weak = "setpriv --bounding-set=-kill --inh-caps=-kill"
    for pid, rc in ((other.pid, 1), (0, 0), (-1, 0), (1 << 40, 0)):
        (home.claude / "sessions/1.json").write_text(json.dumps(
            {"pid": pid, "sessionId": name(1)}))
        done = sh(f"{weak} csb-restore --dry-run {name(1)}")
        assert done.rc == rc, (pid, done)
        assert ("open in Claude Code" in done.err) == bool(rc), (pid, done)
    other.kill()
    other.wait()


@pytest.mark.parametrize("words", ["", "--repair"])
def test_a_link_is_no_torn_transcript(sh, home, words):
    """Of a repository that holds a transcript as a link: it leads where it did."""
    link = f"projects/-w/{name(1)}.jsonl"
    sh(f"""git init -q own && cd own && mkdir -p projects/-w &&
        ln -s /else/where {link} && git add . &&
        git -c user.name=a -c user.email=a@b commit -qm x""").ok()
    for result in ("restored", "kept"):
        done = sh(
            f"csb-restore --git-dir own/.git --target-dir out {words} {name(1)}"
        ).ok()
        assert [r["result"] for r in done.records] == [result] and not done.err
        assert not {"torn", "repaired"} & {*done.records[0]}
        assert os.readlink(home.path / "out" / link) == "/else/where"


@pytest.mark.parametrize("first, last", [
    ("echo old >skills/g", "mkdir skills/g; echo new >skills/g/h"),
    ("mkdir -p skills/g/h; echo old >skills/g/h/i", "echo new >skills/g"),
    ("ln -s old skills/g", "mkdir skills/g; echo new >skills/g/h"),
])
@pytest.mark.few(2)
def test_what_came_last_has_its_place(sh, home, first, last):
    """A file has become a folder, or the reverse:
    what is restored is what was there last."""
    (home.claude / "skills").mkdir()
    for how in (first, last):
        sh(f"cd ~/.claude; rm -rf skills/g; {how}; csb-changes | csb-gitcommit").ok()
    for force in ("", "--force"):
        done = sh(f"csb-restore {force} --path skills --target-dir ~/back")
        assert done.rc == 1
        assert "has taken its place" in done.err
        assert done.err.count("\n") == 1
        sh("diff -r ~/.claude/skills ~/back/skills").ok()
