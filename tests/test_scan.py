"""csb-scan: the sessions of a folder, whoever names it and whether it
is still there."""
import pytest
from conftest import INDEX, line, name

pytestmark = pytest.mark.logic



@pytest.fixture
def put(put):
    """put(number, *cwds, day): a transcript with a record for each
    working directory."""
    def write(number, *cwds, day=1):
        when = f"2026-01-{day:02}T03:04:05.678Z"
        return put(number, "".join(line("x", cwd=cwd, timestamp=when) for cwd in cwds))
    return write


def numbers(done):
    return [int(r["session_id"][-12:]) for r in done.records]


def scan(sh, words="", **more):
    """The sessions that a scan finds, in order."""
    done = sh(f"csb-scan {words}", **more)
    assert done.rc == 0 and done.err.count("\n") <= 2, done
    return numbers(done)


@pytest.fixture
def folders(home, sh, put):
    """Sessions that worked in /x/app, below it,
    beside it and elsewhere; 6 is deleted."""
    put(1, "/x/app", "/x/app")
    put(2, "/x/app/src", "/x/app/src", "/x/app/src")
    put(3, "/x", "/x/app/src")
    put(4, "/x/application", "/x/app.old", "/x/APP", "/y/x/app")
    put(5, "/y", "/x/app")
    put(6, "/x/app")
    sh(INDEX).ok()
    put(6).unlink()
    sh(INDEX).ok()


@pytest.mark.parametrize(
    "words, expected",
    [
        ("/x/app", [2, 1, 3, 5]),
        ("/x/app/", [2, 1, 3, 5]),
        ("/x//app/./src/..", [2, 1, 3, 5]),
        ("-D /x/app", [1, 5]),
        ("/x/app -D", [1, 5]),
        ("/x/app/src", [2, 3]),
        ("-D /x", [3]),
        ("-s /x/app", [2, 1]),
        ("/x/app -NU", [2, 1]),
        ("-NU /x/app", [2, 1]),
        ("--not-used /x/app", [2, 1]),
        ("-s -D /x/app", [1]),
        ("-NU /x", [2, 4, 1, 3]),
        ("/x/app --all", [2, 1, 3, 5, 6]),
        ("--deleted /x/app", [6]),
        ("--deleted -D /x/app", [6]),
        ("--deleted -NU /y", []),
        ("/", [4, 2, 1, 3, 5]),
        ("-D /", []),
        ("/x/ap", []),
        ("/x/APP", [4]),
        ("/x/app*", []),
        ("/x/_pp", []),
        ("app", []),
        ("'/x/app\n'", []),
        ("-- /y/x/app", [4]),
    ],
)
@pytest.mark.few(2)
def test_below_exactly_and_started(sh, folders, words, expected):
    assert scan(sh, words) == expected


def test_the_work_in_it_decides_the_order(sh, put):
    """Then what was used last, then the id; the work elsewhere does not count."""
    put(1, "/a", "/a/b", *["/z"] * 9, day=1)
    put(2, "/a", "/a", "/a", day=1)
    put(3, "/a/b/c", "/a", day=3)
    put(4, "/a/b", "/a/b", day=1)
    put(5, "/a", "/a", day=2)
    sh(INDEX).ok()
    done = sh("csb-scan /a")
    assert numbers(done) == [2, 3, 5, 1, 4]
    assert [r["work"] for r in done.records] == [3, 2, 2, 2, 2]
    done = sh("csb-scan -D /a")
    assert numbers(done) == [2, 5, 3, 1]
    assert [record["work"] for record in done.records] == [3, 2, 1, 1]


def test_a_record_is_the_one_of_csb_list_and_its_work(sh, put):
    put(1, "/\u00e9\u2028", "/\u00e9\u2028/\ud800")
    sh(INDEX).ok()
    listed, found = sh("csb-list").ok().records, sh("csb-scan /\u00e9\u2028").records
    assert found == [{**listed[0], "work": 2}] and list(found[0])[0] == "kind"


def test_here(sh, put, home):
    """The working directory, by the name of the link that led to it and
    by its real one."""
    real, link = home.path / "real", home.path / "link"
    (real / "sub").mkdir(parents=True)
    link.symlink_to("real")
    put(1, str(real))
    put(2, str(link / "sub"))
    put(3, "/elsewhere")
    sh(INDEX).ok()
    found = sh("cd ~/link && csb-scan | jq -r .session_id").ok().out
    assert found.split() == [name(1), name(2)]
    for text in ("cd link && csb-scan -NU", "csb-scan link", "cd link && csb-scan ./"):
        assert numbers(sh(text).ok()) == [1, 2], text
    assert numbers(sh("cd ~/link && csb-scan sub").ok()) == [2]
    assert scan(sh, f"{real}") == [1], "who says the real name need not know of a link"
    assert numbers(sh("PWD=/elsewhere csb-scan; PWD=. csb-scan", cwd=real)) == [1, 1]
    assert scan(sh, "-D", cwd=home.path) == []


def test_a_folder_that_is_gone_is_searched_for(sh, put, home):
    put(1, "/gone/app")
    put(2, str(home.path / "here"))
    sh(INDEX).ok()
    done = sh("csb-scan /gone")
    assert (done.rc, numbers(done), done.err.count("\n")) == (0, [1], 1)
    assert "'/gone' does not exist" in done.err
    done = sh("mkdir here && cd here && rmdir ../here && csb-scan; csb-scan sub")
    assert (done.rc, numbers(done)) == (0, [2]) and "does not exist" in done.err
    done = sh("mkdir here && cd here && rmdir ../here && unset PWD && csb-scan")
    assert (done.rc, done.out, done.err.count("\n")) == (1, "", 1)


def test_nothing_found_is_no_error_and_says_how_to_widen(sh, put, home):
    put(1, "/a")
    sh(INDEX).ok()
    for words, hints in (
        ("", ["--all", "csb search"]), ("-D", ["--all", "-D and -s", "csb search"]),
        ("--all", ["csb search"]), ("-NU --all", ["-D and -s", "csb search"]),
    ):
        done = sh(f"csb-scan {words}")
        assert (done.rc, done.out, done.err.count("\n")) == (0, "", 1)
        said = [
            hint for hint in ("--all", "-D and -s", "csb search") if hint in done.err
        ]
        assert said == hints, "nothing that was typed, or would change nothing"


@pytest.mark.parametrize(
    "path, expected",
    [
        ("C:\\Work\\App", [1, 2, 3]),
        ("c:/work/app", [1, 2, 3]),
        ("C:/work\\APP\\", [1, 2, 3]),
        ("C:\\", [1, 2, 3, 4]),
        ("c:", [1, 2, 3, 4]),
        ("C:\\work\\app\\src", [3]),
        ("D:\\work", []),
        ("\\\\Server\\Share", [5]),
        ("//server/share", []),
    ],
)
@pytest.mark.few(2)
def test_windows_paths(sh, put, path, expected):
    """Either slash, any case; only paths that are Windows paths."""
    put(1, "C:\\Work\\App", "C:\\Work\\App", "C:\\Work\\App")
    put(2, "c:/work/app", "c:/work/app")
    put(3, "C:\\work/app\\SRC")
    put(4, "C:\\Work\\Application")
    put(5, "\\\\server\\share\\x")
    put(6, "/C:/work/app")
    sh(INDEX).ok()
    assert scan(sh, f"'{path}'") == expected


def test_misuse_and_no_index(sh, home):
    for words in ("--deleted --all", "a b", "--no-such"):
        done = sh(f"csb-scan {words}")
        assert (done.rc, done.out, done.err.count("\n")) == (2, "", 1)
    done = sh("csb-scan")
    assert (done.rc, done.out, done.err.count("\n")) == (3, "", 1)
    assert not home.backup.exists()
