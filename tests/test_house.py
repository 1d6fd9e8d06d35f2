"""The house around the tools: the one-file form, make install, and what pip makes of it all.

Nothing here differs between the two forms, so it runs once.
"""
import glob
import os
import re
import shutil
import subprocess
import sys
import tarfile

import pytest
from conftest import FORM, ROOT

if FORM == "dist":
    pytest.skip("the same for both forms", allow_module_level=True)

TOOLS = sorted(name for name in os.listdir(os.path.join(ROOT, "bin"))
               if not name.startswith((".", "__")))
HEAD = '''#!/usr/bin/env -S python3 -I
"""try things

examples:
  csb-try
"""
import os
import sys

here = os.path.dirname(os.path.realpath(__file__))
sys.path[:] = [p for p in sys.path if os.path.realpath(p) != here] + [here + "/../lib", here]
import stat

try:
    from old import Error, Options, emit, run, warn
except ImportError as error:
    sys.exit(f"csb-try: cannot find the helper old.py ({error}): lib/squash bin/csb-try > csb-try")

TEXT = """
from old import everything  # text, not code
sys.path[:] = []
"""
'''
TAIL = '''

def main():
    # a comment that stays \u2713
    args = Options(__doc__)
    args.add_argument("--fail", action="store_true")
    if args.parse_args().fail:
        warn("cannot do 'x': no reason")
    emit({"kind": "try", "text": TEXT, "mode": stat.S_IFREG})


if __name__ == "__main__":
    run(main)
'''
IMPORT = "    from csb import Error, Options, emit, run, warn\n"


@pytest.fixture
def house(tmp_path):
    """A copy of what is built from, with one small tool in bin/ and nothing else there."""
    top = tmp_path / "house"
    (top / "bin").mkdir(parents=True)
    shutil.copytree(os.path.join(ROOT, "lib"), top / "lib",
                    ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("Makefile", "README.md"):
        shutil.copy(os.path.join(ROOT, name), top)
    put(top, HEAD + TAIL)
    return top


def put(top, text):
    """Make text the tool csb-try."""
    path = top / "bin" / "csb-try"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)


def test_squash_makes_one_file(sh, house):
    """It runs alone, does the same, says what it is, and is the same text every time."""
    done = sh("lib/squash bin/csb-try", cwd=house).ok()
    assert sh("lib/squash bin/csb-try", cwd=house).ok().out == done.out
    lines = done.out.split("\n")
    assert lines[0] == "#!/usr/bin/env -S python3 -I" and lines[1] == '"""try things'
    assert lines[6] == ("# Do not edit: made by lib/squash from bin/csb-try and lib/old.py.")
    assert "    # a comment that stays \u2713" in lines and "import stat" in lines
    assert "../lib" not in done.out and "except ImportError" not in done.out
    sh("mkdir away && cp csb-try away", cwd=house)
    sh("lib/squash bin/csb-try >away/csb-try && chmod 755 away/csb-try", cwd=house).ok()
    for words in ("", "--help", "--version", "--fail", "--wrong", ">/dev/full"):
        one, two = sh(f"away/csb-try {words}", cwd=house), sh(f"bin/csb-try {words}", cwd=house)
        assert (one.rc, one.out, one.err) == (two.rc, two.out, two.err)
    assert sh("away/csb-try --fail", cwd=house).rc == 1
    done = sh("PYTHON='/usr/bin/python3 -IS' lib/squash bin/csb-try | head -n 1", cwd=house)
    assert done.ok().out == "#!/usr/bin/python3 -IS\n"


@pytest.mark.parametrize("text, reason", [
    (HEAD + "\ndef emit(x):\n    pass\n" + TAIL, "both define emit"),
    (HEAD + "\nworst, VERSION = 1, 2\n" + TAIL, "both define VERSION, worst"),
    (HEAD + "\nclass Blobs:\n    pass\n" + TAIL, "both define Blobs"),
    (HEAD + "\nif TEXT:\n    TMP = 1\n" + TAIL, "both define TMP"),
    (HEAD + "\nfor BLOCK in ():\n    pass\n" + TAIL, "both define BLOCK"),
    (HEAD + "\nfrom time import time\n" + TAIL, "both define time"),
    (HEAD + "\nimport gzip as json\n" + TAIL, "both define json"),
    (HEAD + TAIL.replace("def main():", "def main():\n    global worst\n    worst = 1"), "worst"),
    (HEAD.replace(IMPORT, "    from csb import emit, nothing_like_it\n") + TAIL,
     "has no nothing_like_it"),
    (HEAD.replace(IMPORT, "    from csb import Options as O\n") + TAIL, "another name"),
    (HEAD.replace(IMPORT, "    from csb import *\n") + TAIL, "everything"),
    (HEAD.replace(IMPORT, "    import csb\n") + TAIL, "another way"),
    (HEAD.replace(IMPORT, "    pass\n") + TAIL, "0 times"),
    (HEAD + TAIL.replace("def main():", "def main():\n    from csb import say"), "another way"),
    (HEAD.replace("import stat", "from __future__ import annotations") + TAIL, "__future__"),
    (HEAD.replace("sys.path[:] =", "x =") + TAIL, "0 times 'sys.path"),
    (re.sub('(?s)""".*?"""', "", HEAD, count=1) + TAIL, "docstring"),
    (HEAD.partition("\n")[2] + TAIL, "#!"),
    (HEAD + "def broken(:\n", "syntax"),
    (HEAD + "\nreturn 1\n", "outside function"),
    ("", "docstring"),
])
def test_squash_refuses_what_would_change_its_meaning(sh, house, text, reason):
    put(house, text)
    done = sh("lib/squash bin/csb-try", cwd=house)
    assert (done.rc, done.out, done.err.count("\n")) == (1, "", 1), done
    assert done.err.startswith("squash: cannot make one file of 'bin/csb-try'")
    assert reason in done.err


def test_squash_allows_what_cannot_clash(sh, house):
    """The same import in both, and names of functions, comprehensions and arguments."""
    put(house, HEAD + "import json\nimport os.path\n\ndef own(emit):\n    worst = [run for run in"
        " emit]\n    return worst, json, os\n\nPAIRS = [lock for lock in 'ab']\n" + TAIL)
    assert sh("lib/squash bin/csb-try | python3 - | jq -r .kind", cwd=house).ok().out == "try\n"


def test_squash_misuse(sh, house):
    assert sh("lib/squash", cwd=house).rc == 2
    assert sh("lib/squash a b", cwd=house).rc == 2
    assert sh("lib/squash bin/missing", cwd=house).err.endswith("No such file or directory\n")
    done = sh("lib/squash bin/csb-try >/dev/full", cwd=house)
    assert done.rc == 1 and done.err.count("\n") == 1
    assert "record: none" in sh("lib/squash --help", cwd=house).ok().out


def made(top):
    """{name: when it was made} of the files in dist/."""
    return {name: os.stat(top / "dist" / name).st_mtime_ns for name in os.listdir(top / "dist")}


def test_make_dist_makes_what_is_needed(sh, house):
    """Again when the tool, the helper, squash or PYTHON changed; else not; nothing half made."""
    make = f"make -s dist PY='{sys.executable}' "
    sh(make, cwd=house).ok()
    first = made(house)
    assert set(first) == {"csb-try"}
    assert os.stat(house / "dist" / "csb-try").st_mode & 0o777 == 0o755
    sh(make, cwd=house).ok()
    assert made(house) == first
    for name in ("bin/csb-try", "lib/old.py", "lib/squash"):
        before = made(house)["csb-try"]
        os.utime(house / name)
        sh(make, cwd=house).ok()
        assert made(house)["csb-try"] > before
    sh(make + "PYTHON=/usr/bin/python3", cwd=house).ok()
    assert (house / "dist" / "csb-try").read_text().startswith("#!/usr/bin/python3\n")
    good = (house / "dist" / "csb-try").read_bytes()
    put(house, HEAD + "def broken(:\n")
    (house / "dist" / "stale").touch()
    assert sh(make, cwd=house).rc != 0
    assert (house / "dist" / "csb-try").read_bytes() == good
    put(house, HEAD + TAIL)
    sh(make, cwd=house).ok()
    assert set(made(house)) == {"csb-try"}


def test_make_install_and_uninstall(sh, house):
    """What is installed runs on the system's PATH alone; uninstall takes away just that."""
    put(house, HEAD + TAIL)
    there = house / "a place"
    make = (f"make -s PY='{sys.executable}' PYTHON='{sys.executable} -I' DESTDIR='{there}' "
            "PREFIX=/opt/c ")
    sh(make + "install", cwd=house).ok()
    assert os.listdir(there / "opt/c/bin") == ["csb-try"]
    line = f"env -i PATH=/usr/bin:/bin '{there}/opt/c/bin/csb-try' --version"
    assert sh(line, cwd="/").ok().out.startswith("csb-try ")
    shutil.rmtree(house / "dist")
    (there / "opt/c/bin/other").touch()
    sh(make + "install", cwd=house).ok()
    sh(make + "uninstall", cwd=house).ok()
    assert os.listdir(there / "opt/c/bin") == ["other"]


def section(name):
    """The lines of a section of pyproject.toml (no tomllib in 3.10)."""
    with open(os.path.join(ROOT, "pyproject.toml"), encoding="utf-8") as file:
        return file.read().partition(f"\n[{name}]\n")[2].partition("\n[")[0].splitlines()


def test_every_tool_is_an_entry_point():
    found = [line.split(" = ") for line in section("project.scripts") if " = " in line]
    assert found == [[tool, f'"csb_tools.lib.launch:{tool.replace("-", "_")}"'] for tool in TOOLS]


def test_what_the_tests_need_is_said_once():
    extra = re.findall('"(.+?)"', section("project.optional-dependencies")[0])
    with open(os.path.join(ROOT, "Makefile"), encoding="utf-8") as file:
        assert re.search("^DEV = (.*)$", file.read(), re.M)[1].split() == extra


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the repository to build from, so that nothing is written here."""
    setuptools = pytest.importorskip("setuptools", "77", reason="setuptools 77 is not here")
    pytest.importorskip("pip", "22.3", reason="pip 22.3 is not here")
    top = tmp_path_factory.mktemp("tree") / "csb"
    shutil.copytree(ROOT, top, symlinks=True, ignore=shutil.ignore_patterns(
        ".git", ".venv", "dist", "build", "*.egg-info", "__pycache__", ".ruff_cache"))
    top.with_name("setuptools.pth").write_text(os.path.dirname(setuptools.__path__[0]) + "\n")
    return top


def pip(*words):
    """Run the pip of the tests, without a registry."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("PIP_")}
    env |= {"PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_CONFIG_FILE": os.devnull, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-m", "pip", *words], env=env, capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def machine(top, name):
    """An empty environment to install into; its bin/ directory."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(top / name)], check=True)
    return top / name / "bin"


def installed(sh, home, where):
    """Does all of it work, with nothing but these commands on PATH?"""
    path = f"{where}:/usr/bin:/bin"
    for tool in TOOLS:
        done = sh(f"{tool} --version", PATH=path, cwd="/").ok()
        assert done.out.startswith(f"{tool} ")
        assert sh(f"command -v {tool}", PATH=path).out == f"{where}/{tool}\n"
    for module in ("session_snapshot", "jsonl_snapshot"):
        assert sh(f"python -m {module} --version", PATH=path).ok().out.startswith(module + " ")
        done = sh(f"python -m {module} --wrong", PATH=path)
        assert done.rc == 2 and done.err.startswith(f"{module}: "), done
    session = home.claude / "projects/-w/11111111-2222-4333-8444-000000000001.jsonl"
    session.parent.mkdir(parents=True, exist_ok=True)
    session.write_text('{"type":"user","uuid":"1","message":{"role":"user","content":"hello"}}\n')
    assert '"change":"new"' in sh("csb-backup", PATH=path, cwd="/").ok().out
    assert "hello" in sh("csb list", PATH=path, cwd="/").ok().out


def wheel_of(source, folder):
    """The wheel that pip makes of a source."""
    pip("wheel", "--no-build-isolation", "--no-deps", "-w", str(folder), str(source))
    return glob.glob(str(folder / "*.whl"))[0]


@pytest.mark.long
def test_pip_install(sh, home, tree, tmp_path):
    """pip install . puts every tool on PATH, needs nothing else, and knows its version."""
    where = machine(tmp_path, "venv")
    wheel = wheel_of(tree, tmp_path)
    version = sh("csb-find --version").ok().out.split()[1]
    assert os.path.basename(wheel) == f"csb_tools-{version}-py3-none-any.whl"
    pip("--python", str(where / "python"), "install", wheel)
    names = {name for name in os.listdir(where) if "csb" in name or "snapshot" in name}
    assert names == set(TOOLS)
    assert [line for line in pip("--python", str(where / "python"), "show", "csb-tools").split("\n")
            if line.startswith("Requires:")] == ["Requires: "]
    installed(sh, home, where)


@pytest.mark.long
def test_pip_install_editable(sh, home, tree, tmp_path):
    """pip install -e . runs what stands in the tree."""
    where = machine(tmp_path, "venv")
    packages, = glob.glob(str(tmp_path / "venv/lib/python*/site-packages"))
    shutil.copy(tree.with_name("setuptools.pth"), packages)
    pip("--python", str(where / "python"), "install", "--no-build-isolation", "--no-deps", "-e",
        str(tree))
    installed(sh, home, where)
    helper = tree / "lib" / "old.py"
    text = helper.read_text()
    helper.write_text(re.sub('VERSION = ".*"', 'VERSION = "9.8.7"', text, count=1))
    try:
        assert sh(f"{where}/csb-find --version").ok().out == "csb-find 9.8.7\n"
    finally:
        helper.write_text(text)


@pytest.mark.long
def test_sdist(sh, home, tree, tmp_path):
    """The source archive holds what is needed to install from it."""
    subprocess.run([sys.executable, "-c", "import sys; from setuptools import build_meta; "
                    "build_meta.build_sdist(sys.argv[1])", str(tmp_path)], cwd=tree, check=True,
                   capture_output=True)
    archive, = glob.glob(str(tmp_path / "*.tar.gz"))
    with tarfile.open(archive) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    assert {f"bin/{tool}" for tool in TOOLS} <= names
    assert {"lib/old.py", "lib/squash", "README.md", "LICENSE", "pyproject.toml"} <= names
    where = machine(tmp_path, "venv")
    pip("--python", str(where / "python"), "install", wheel_of(archive, tmp_path))
    installed(sh, home, where)


def test_demo(sh):
    """make demo goes through and says that the bytes are the same."""
    done = sh(f"'{sys.executable}' '{ROOT}/tests/demo'", cwd="/").ok()
    assert done.out.count("\n$ ") >= 9 and done.out.count("\nthe same bytes\n") == 2


@pytest.mark.long
def test_bench(sh):
    """tests/bench prints its tables, on a small corpus, and every step succeeds."""
    done = sh(f"'{sys.executable}' '{ROOT}/tests/bench' --sessions 5 --total-mb 1 --big-mb 0.2 "
              "--runs 1 --versions 2 --peers git", cwd="/", timeout=300).ok()
    assert done.out.count("\n## ") == (6 if shutil.which("strace") else 5)
    assert "failed" not in done.out


def test_the_corpus_is_the_same_for_the_same_seed(sh):
    """Bytes and the mtimes of transcripts."""
    line = "{} {}/tests/corpus.py --sessions 4 --total-mb 0.2 --big-mb 0.1 --seed 5 --out {}"
    for name in ("one", "two"):
        sh(line.format(f"'{sys.executable}'", ROOT, name)).ok()
    sh("diff -r one two").ok()
    times = "cd {} && find . -name '*.jsonl' ! -name history.jsonl -printf '%p %T@\n' | sort"
    assert sh(times.format("one")).ok().out == sh(times.format("two")).ok().out
