"""The house around the tools: make dist, make install, and what pip makes of it all.

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
from conftest import FORM, ROOT, SAMPLE, put_tool

if FORM == "dist":
    pytest.skip("the same for both forms", allow_module_level=True)

TOOLS = sorted(name for name in os.listdir(os.path.join(ROOT, "bin"))
               if not name.startswith((".", "__")))


def made(top):
    """{name: when it was made} of the files in dist/."""
    return {
        name: os.stat(top / "dist" / name).st_mtime_ns
        for name in os.listdir(top / "dist")
    }


def test_make_dist_makes_what_is_needed(sh, house):
    """Again when the tool, the helper, squash or PYTHON changed; else not;
    nothing half made."""
    make = f"make -s dist PY='{sys.executable}' "
    sh(make, cwd=house).ok()
    first = made(house)
    assert set(first) == {"csb-try"}
    assert os.stat(house / "dist" / "csb-try").st_mode & 0o777 == 0o755
    sh(make, cwd=house).ok()
    assert made(house) == first
    for name in ("bin/csb-try", "lib/csb/__init__.py", "lib/csb/session.py",
                 "lib/build/squash"):
        before = made(house)["csb-try"]
        os.utime(house / name)
        sh(make, cwd=house).ok()
        assert made(house)["csb-try"] > before
    sh(make + "PYTHON=/usr/bin/python3", cwd=house).ok()
    assert (house / "dist" / "csb-try").read_text().startswith("#!/usr/bin/python3\n")
    good = (house / "dist" / "csb-try").read_bytes()
    put_tool(house, SAMPLE + "def broken(:\n")
    (house / "dist" / "stale").touch()
    assert sh(make, cwd=house).rc != 0
    assert (house / "dist" / "csb-try").read_bytes() == good
    put_tool(house, SAMPLE)
    sh(make, cwd=house).ok()
    assert set(made(house)) == {"csb-try"}


def section(name):
    """The lines of a section of pyproject.toml (no tomllib in 3.10)."""
    with open(os.path.join(ROOT, "pyproject.toml"), encoding="utf-8") as file:
        _, _, rest = file.read().partition(f"\n[{name}]\n")
        return rest.partition("\n[")[0].splitlines()


def test_every_tool_is_an_entry_point():
    found = [line.split(" = ") for line in section("project.scripts") if " = " in line]
    assert found == [
        [tool, f'"csb_tools.lib.launch:{tool.replace("-", "_")}"'] for tool in TOOLS
    ]


def test_what_the_tests_need_is_said_once():
    extra = re.findall('"(.+?)"', section("project.optional-dependencies")[0])
    with open(os.path.join(ROOT, "Makefile"), encoding="utf-8") as file:
        assert re.search("^DEV = (.*)$", file.read(), re.M)[1].split() == extra


def not_of_the_source(folder, names):
    """What shutil.copytree() leaves out: what was made there, and git's."""
    found = {".git", ".venv", "__pycache__", ".ruff_cache"}
    if folder == ROOT:          # lib/build is source
        found |= {"dist", "build"}
    return found.union(name for name in names if name.endswith(".egg-info"))


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the repository to build from, so that nothing is written here."""
    pytest.importorskip("pip", "22.3", reason="pip 22.3 is not here")
    top = tmp_path_factory.mktemp("tree") / "csb"
    shutil.copytree(ROOT, top, symlinks=True, ignore=not_of_the_source)
    return top


@pytest.fixture(scope="module")
def pip(tmp_path_factory):
    """pip(words): run the pip of the tests. It finds what builds the package (the
    setuptools that pyproject.toml asks for, fetched once), and no registry."""
    folder = tmp_path_factory.mktemp("wheels")
    with open(os.path.join(ROOT, "pyproject.toml"), encoding="utf-8") as file:
        wanted = re.search(r'^requires = \["(.+)"\]$', file.read(), re.M)[1]
    command = [sys.executable, "-m", "pip"]
    done = subprocess.run(
        [*command, "download", "-q", "--no-deps", "-d", str(folder), wanted],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        pytest.skip(f"pip cannot fetch {wanted}")
    env = {k: v for k, v in os.environ.items() if not k.startswith("PIP_")}
    env |= {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(folder),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }

    def run(*words):
        done = subprocess.run(
            [*command, *words], env=env, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout
    run.wanted = wanted
    return run


def machine(top, name):
    """An empty environment to install into; its bin/ directory."""
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", str(top / name)], check=True
    )
    return top / name / "bin"


def installed(sh, home, where):
    """Does all of it work, with nothing but these commands on PATH?"""
    path = f"{where}:/usr/bin:/bin"
    for tool in TOOLS:
        done = sh(f"{tool} --version", PATH=path, cwd="/").ok()
        assert done.out.startswith(f"{tool} ")
        assert sh(f"command -v {tool}", PATH=path).out == f"{where}/{tool}\n"
    for module in ("session_snapshot", "jsonl_snapshot"):
        done = sh(f"python -m {module} --version", PATH=path).ok()
        assert done.out.startswith(module + " ")
        done = sh(f"python -m {module} --wrong", PATH=path)
        assert done.rc == 2 and done.err.startswith(f"{module}: "), done
    session = home.claude / "projects/-w/11111111-2222-4333-8444-000000000001.jsonl"
    session.parent.mkdir(parents=True, exist_ok=True)
    session.write_text(
        '{"type":"user","uuid":"1","message":{"role":"user","content":"hello"}}\n'
    )
    assert '"change":"new"' in sh("csb-backup", PATH=path, cwd="/").ok().out
    assert "hello" in sh("csb list", PATH=path, cwd="/").ok().out


def wheel_of(pip, source, folder):
    """The wheel that pip makes of a source."""
    pip("wheel", "--no-deps", "-w", str(folder), str(source))
    return glob.glob(str(folder / "*.whl"))[0]


@pytest.mark.long
def test_pip_install(sh, home, pip, tree, tmp_path):
    """pip install . puts every tool on PATH, needs nothing else,
    and knows its version."""
    where = machine(tmp_path, "venv")
    wheel = wheel_of(pip, tree, tmp_path)
    version = sh("csb-find --version").ok().out.split()[1]
    assert os.path.basename(wheel) == f"csb_tools-{version}-py3-none-any.whl"
    pip("--python", str(where / "python"), "install", wheel)
    names = {name for name in os.listdir(where) if "csb" in name or "snapshot" in name}
    assert names == set(TOOLS)
    shown = pip("--python", str(where / "python"), "show", "csb-tools")
    needs = [line for line in shown.split("\n") if line.startswith("Requires:")]
    assert needs == ["Requires: "]
    installed(sh, home, where)
    share = where.parent / "share"
    pages = {path.name for path in (share / "man").glob("man?/*")}
    assert pages == {f"{tool}.1" for tool in TOOLS} | {"csb-records.7"}
    completions = share / "bash-completion/completions"
    assert set(os.listdir(completions)) == set(TOOLS)
    done = sh(f". '{completions}/csb-list'; complete -p csb-list")
    assert "csb-list" in done.ok().out and (share / "zsh/site-functions/_csb").exists()


@pytest.mark.long
def test_pip_install_editable(sh, home, pip, tree, tmp_path):
    """pip install -e . runs what stands in the tree."""
    where = machine(tmp_path, "venv")
    pip("--python", str(where / "python"), "install", "--no-deps", "-e", str(tree))
    installed(sh, home, where)
    helper = tree / "lib/csb/__init__.py"
    text = helper.read_text()
    helper.write_text(re.sub('VERSION = ".*"', 'VERSION = "9.8.7"', text, count=1))
    try:
        assert sh(f"{where}/csb-find --version").ok().out == "csb-find 9.8.7\n"
    finally:
        helper.write_text(text)


@pytest.mark.long
def test_sdist(sh, home, pip, tree, tmp_path):
    """The source archive holds what is needed to install from it."""
    pip("install", "--target", str(tmp_path / "builder"), pip.wanted)
    build = "import sys; from setuptools import build_meta; "
    build += "build_meta.build_sdist(sys.argv[1])"
    subprocess.run(
        [sys.executable, "-c", build, str(tmp_path)],
        cwd=tree,
        check=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "builder")},
        capture_output=True,
    )
    archive, = glob.glob(str(tmp_path / "*.tar.gz"))
    with tarfile.open(archive) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    assert {f"bin/{tool}" for tool in TOOLS} <= names
    assert {
        "lib/csb/__init__.py",
        "lib/csb/git.py",
        "lib/build/squash",
        "lib/build/manual",
        "lib/build/completion",
        "lib/build/described.py",
        "README.md",
        "LICENSE",
        "pyproject.toml",
        "setup.py",
    } <= names
    where = machine(tmp_path, "venv")
    pip("--python", str(where / "python"), "install", wheel_of(pip, archive, tmp_path))
    installed(sh, home, where)


@pytest.mark.long
def test_demo(sh):
    """make demo goes through and says that the bytes are the same."""
    done = sh(f"'{sys.executable}' '{ROOT}/tests/demo'", cwd="/").ok()
    assert done.out.count("\n$ ") >= 9 and done.out.count("\nthe same bytes\n") == 2


@pytest.mark.long
def test_bench(sh):
    """tests/bench prints its tables, on a small corpus, and every step succeeds."""
    done = sh(
        f"'{sys.executable}' '{ROOT}/tests/bench' --sessions 5 --total-mb 1 "
        "--big-mb 0.2 --runs 1 --versions 2 --peers git",
        cwd="/",
        timeout=300,
    ).ok()
    assert done.out.count("\n## ") == (6 if shutil.which("strace") else 5)
    assert "failed" not in done.out


def test_the_corpus_is_the_same_for_the_same_seed(sh):
    """Bytes and the mtimes of transcripts."""
    make = f"'{sys.executable}' {ROOT}/tests/corpus.py --seed 5"
    sizes = "--sessions 4 --total-mb 0.2 --big-mb 0.1"
    transcripts = "-name '*.jsonl' ! -name history.jsonl"
    times = []
    for name in ("one", "two"):
        sh(f"{make} {sizes} --out {name}").ok()
        found = sh(f"cd {name} && find . {transcripts} -printf '%p %T@\n' | sort")
        times.append(found.ok().out)
    sh("diff -r one two").ok()
    assert times[0] == times[1]
