"""the pages that make man makes, and the completion for bash and zsh"""
import ast
import os
import pty
import re
import select
import shutil
import subprocess
import time

import pytest
from conftest import LONG, PYTHON, ROOT, name

pytestmark = pytest.mark.logic      # both are made of bin/
TOOLS = sorted(tool for tool in os.listdir(os.path.join(ROOT, "bin")) if "~" not in tool)
LIB = os.path.join(ROOT, "lib/build")
SIGNS = {r"\-": "-", r"\(rs": "\\", r"\(aq": "'", r"\(dq": '"', r"\(ga": "`", r"\(ha": "^",
         r"\(ti": "~", r"\&": "", r"\fB": "", r"\fR": ""}


def made(*words):
    """What a generator writes."""
    done = subprocess.run([PYTHON, "-B", os.path.join(LIB, words[0]), *words[1:]], cwd=ROOT,
                          capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The directory of all pages, made by one process."""
    folder = tmp_path_factory.mktemp("pages")
    code = ("import os, runpy, sys\n"
            "page_of_tool = runpy.run_path('lib/build/manual')['page_of_tool']\n"
            "folder, *paths = sys.argv[1:]\n"
            "for path in paths:\n"
            "    text = page_of_tool(path)\n"
            "    open(f'{folder}/{os.path.basename(path)}.1', 'w').write(text)")
    subprocess.run([PYTHON, "-B", "-c", code, folder, *(f"bin/{tool}" for tool in TOOLS)],
                   cwd=ROOT, check=True)
    assert (folder / "csb-gc.1").read_text() == made("manual", "bin/csb-gc")
    (folder / "csb-records.7").write_text(
        made("manual", "--records", *(f"bin/{tool}" for tool in TOOLS)))
    return folder


@pytest.fixture(scope="module")
def shells(tmp_path_factory):
    """The directory of the completions."""
    folder = tmp_path_factory.mktemp("shells")
    for shell, file in ("bash", "csb"), ("zsh", "_csb"):
        (folder / file).write_text(made("completion", shell, *(f"bin/{tool}" for tool in TOOLS)))
    return folder


def needs(program):
    """Skip where a program is missing."""
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed")


def plain(page):
    """The text of a page, without what roff is told."""
    return re.sub(r"\\(-|\(..|&|f.)", lambda sign: SIGNS[sign[0]],
                  re.sub(r"(?m)^\..*\n", "", page))


def help_of(sh, tool):
    """{option: does it take a value} of what --help lists."""
    text = sh(f"{tool} --help").ok().out.partition("\noptions:\n")[2].partition("\n\n")[0]
    found = {}
    for names in re.findall(r"(?m)^  (-.*?)(?:  |$)", text):
        for one in names.split(", "):
            option, _, value = one.partition(" ")
            found[option] = bool(value)
    return found


def test_no_page_has_what_a_reader_of_pages_warns_of(pages):
    """But the date: the same tools shall give the same page on every day."""
    needs("mandoc")
    done = subprocess.run(["mandoc", "-Tlint", "-Wwarning", *sorted(pages.iterdir())],
                          capture_output=True, text=True)
    said = [line for line in (done.stdout + done.stderr).splitlines()
            if "missing date" not in line]
    assert not said and "missing date" in done.stdout + done.stderr


def test_every_dash_is_one_that_a_shell_takes(pages):
    """A bare - is a hyphen to roff, and may be shown as another character."""
    for page in pages.iterdir():
        assert not re.search(r"(?<!\\)-", page.read_text().partition("\n")[2]), page


def test_no_page_has_what_groff_warns_of(pages):
    needs("groff")
    done = subprocess.run(["groff", "-man", "-Tutf8", "-ww", "-z", *sorted(pages.iterdir())],
                          capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.few(4)
def test_a_page_says_what_help_says(sh, pages, tool):
    """Every line of the manual, and every option."""
    text = plain((pages / f"{tool}.1").read_text())
    shown = sh(f"{tool} --help").ok().out
    words = shown.partition("\noptions:\n")[2].partition("\n\n")[2] if tool != "csb" else ""
    for line in words.splitlines():
        assert line.removeprefix("examples:") in text, line
    options = text.partition("\nstandard")[0]
    for value in re.findall(r"(?m)^  -.*? ([A-Z/]+|\{.*\})(?:  |$)", shown):
        assert f" {value}\n" in text, value
    for option in help_of(sh, tool):
        assert re.search(rf"(?m)^(-.*, )?{re.escape(option)}(,| |$)", options), option


def test_csb_1_lists_every_program(pages):
    """With what it does in one line, in groups; and each status, file and variable."""
    page = (pages / "csb.1").read_text()
    text = plain(page)
    for tool in TOOLS[1:]:
        about = made_of(tool).partition("\n\n")[0]
        assert "\n" not in about
        assert f"\n{tool}\n{about}\n" in text
    groups = re.findall(r"(?m)^\.SS (.*)", page)
    assert groups == ["every day", "set up", "in pipes", "plain files, no store"]
    for number in 0, 1, 2, 3, 75, 130, 141:
        assert re.search(rf"(?m)^  {number} +\w", text)
    variables = re.findall(r"(?m)^([A-Z_, ]{5,})$", text.partition("~/.claude\n")[2])
    code = "".join(text_of(f"bin/{tool}") for tool in TOOLS) + text_of(".claude-plugin/run")
    code += "".join(text_of(f"lib/csb/{name}") for name in os.listdir(
        os.path.join(ROOT, "lib/csb")) if name.endswith(".py"))
    names = re.findall("[A-Z_]+", " ".join(variables))
    assert "CSB_HOME" in names and len(names) == 7
    for variable in names:
        is_asked = rf'environ[^)]*{variable}|"{variable}" in os.environ|{{{variable}:-'
        assert re.search(is_asked, code), variable


def made_of(tool):
    """The docstring of a tool."""
    return ast.get_docstring(ast.parse(text_of(f"bin/{tool}")), clean=False).strip()


def text_of(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        return file.read()


def test_the_page_of_records_has_every_record_line(pages):
    """Each kind once, and under it whoever makes or takes it, in its words."""
    page = (pages / "csb-records.7").read_text()
    kinds = re.findall(r"(?m)^\.SS (.*)", page)
    assert kinds == sorted(set(kinds)) and {"session", "hit", "change"} < set(kinds)
    text = " ".join(plain(page).split())
    for tool in TOOLS:
        blocks = re.findall(r"(?ms)^record: .*?(?=\n\n|\Z)", made_of(tool))
        assert blocks or tool == "csb"
        for said in re.split(r"(?m)^record: *", "\n".join(blocks))[1:]:
            way, words = re.fullmatch(r"(in|out|none)\b[ ;]*(.*)", said, re.S).groups()
            words = " ".join(re.sub(r"^\w+(, \w+)* {2,}(?=\S)", "", words).split())
            verb = {"in": "takes", "out": "makes"}.get(way)
            assert f"{tool} {verb} {words}" in text or f"{tool} {way}: {words}" in text, (
                tool, words)


NASTY = """try what roff would obey

examples:
  csb-try '.*' | sed "s/\\\\/x/g" ~/a^b `c` -- \\\\fB\\\\(aq
  .SH not a section
.br is text
'br too, and a line that ends in a backslash \\\\

.TH also: --not-an-option \u2713 caf\u00e9 \\\\n[.x]
.\\\\" no comment

record: none
"""
TRY = '''#!/usr/bin/env -S python3 -I
"""{}"""
from csb import Options, run


def main():
    options = Options(__doc__)
    options.add_argument("--that's", metavar="\\\\fI", help="100 %% of 'it': [a] \\\\ .x")
    options.parse_args()


run(main)
'''


@pytest.mark.parametrize("reader", ["mandoc -Tutf8", "man -l"])
def test_what_roff_would_obey_is_text(sh, tmp_path, reader):
    needs(reader.split()[0])
    (tmp_path / "csb-try").write_text(TRY.format(NASTY))
    page = sh(f"'{LIB}/manual' '{tmp_path}/csb-try'").ok().out
    (tmp_path / "csb-try.1").write_text(page)
    done = sh(f"{reader} '{tmp_path}/csb-try.1' | col -b", LC_ALL="C.UTF-8", MANWIDTH="200").ok()
    text = re.sub("\\s+", " ", done.out)
    for words in ("""csb-try '.*' | sed "s/\\/x/g" ~/a^b `c` -- \\fB\\(aq .SH not a section """
                  ".br is text 'br too, and a line that ends in a backslash \\",
                  ".TH also: --not-an-option \u2713 caf\u00e9 \\n[.x] .\\\" no comment",
                  "--that's \\fI 100 % of 'it': [a] \\ .x"):
        assert words in text, text


def test_a_generator_names_what_it_cannot_read(sh, home, tmp_path):
    (tmp_path / "broken").write_text('"""x"""\ndef broken(:\n')
    (tmp_path / "other").write_text('"""x\n\ny\n"""\n')
    (tmp_path / "eager").write_text('"""x"""\nimport os\nos.mkdir(os.path.expanduser("~/made"))\n')
    for file in ("missing", "broken", "other", "eager"):
        for line in (f"{LIB}/manual", f"{LIB}/completion bash"):
            done = sh(f"{line} {file}", cwd=tmp_path)
            assert (done.rc, done.out, done.err.count("\n")) == (1, "", 1), done
    assert not (home.path / "made").exists()
    assert sh(f"{LIB}/manual").rc == sh(f"{LIB}/completion fish x").rc == 2


# What a line is completed to.
LINES = [
    ("csb li", "list"), ("csb help ver", "verify"), ("csb session", "session_snapshot"),
    ("csb list --exp", "--expiring"), ("csb list --onel", "--oneline"), ("csb-list --onel", ""),
    ("csb csb-list --exp", "--expiring"), ("csb log --onel", ""), ("csb scan -n", "-n"),
    ("csb-log --tools ", "none brief full"), ("csb-log --tools = b", "brief"),
    ("csb-log --tools =", "none brief full"), ("csb log --tools f", "full"),
    ("csb-list --expiring ", ""), ("csb-list par", ""), ("csb-list --no-such", ""),
    ("csb-gc --dr", "--dry-run"), ("csb nothing -", ""), ("csb-log --last --t", ""),
    ("/opt/bin/csb-gc --dr", "--dry-run"), ("csb-redact a", "a b ab"), ("csb-find a", "a b"),
    ("csb-restore --target-dir a", "a b"), ("csb-schedule $(touch${IFS}bad)", ""),
]


@pytest.mark.parametrize("line, words", LINES)
@pytest.mark.few(3)
def test_bash_completes(sh, shells, tmp_path, line, words):
    (tmp_path / "work" / "a b").mkdir(parents=True)
    (tmp_path / "work" / "ab").touch()
    typed = " ".join(f"'{word}'" for word in line.split(" "))
    done = sh(f". '{shells}/csb'; COMP_WORDS=({typed}); COMP_CWORD={line.count(' ')}; _csb_words; "
              "printf '%s\\n' \"${COMPREPLY[@]}\"", cwd=tmp_path / "work").ok()
    expected = {"a b ab": ["a b", "ab"], "a b": ["a b"]}.get(words, words.split() or [""])
    assert sorted(done.out.splitlines()) == sorted(expected)
    assert sorted(os.listdir(tmp_path / "work")) == ["a b", "ab"]


@pytest.mark.long
def test_bash_knows_every_option_of_every_tool(sh, shells):
    """Those of --help, no others; and a value is asked for where there is one."""
    done = sh(f". '{shells}/csb'; for tool in {' '.join(TOOLS[1:])}; do COMP_WORDS=($tool -); "
              'COMP_CWORD=1; _csb_words; echo "$tool ${COMPREPLY[@]}"; done; complete -p').ok()
    found = dict(line.split(" ", 1) for line in done.out.splitlines()[:len(TOOLS) - 1])
    for tool in TOOLS[1:]:
        assert sorted(found[tool].split()) == sorted(help_of(sh, tool)), tool
    assert set(re.findall("complete -F _csb_words (.*)", done.out)) == set(TOOLS)


def test_bash_asks_for_ids_and_for_nothing_else(sh, home, shells, claude, tmp_path):
    """The ids of the index, deleted ones too; without an index nothing, and not a word."""
    complete = (f". '{shells}/csb'; c() {{ COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); _csb_words; "
                'echo ${COMPREPLY[@]}; }; ')
    assert sh(complete + "c csb show ''").ok().out == "\n"
    sh("csb-backup --quiet").ok()
    (claude / f"{name(1)}.jsonl").unlink()
    sh("csb-backup --quiet").ok()
    for line in ("csb show ''", "csb-restore 3f4", "csb log 3f4a9b10", "csb-search --session 3f4a"):
        assert sorted(sh(complete + f"c {line}").ok().out.split()) == [name(0), name(1)], line
    assert sh(complete + f"c csb-show {name(1)}").ok().out.split() == [name(1)]
    assert sh(complete + "c csb show 3f4ax; c csb show 3f4b").ok().out == "\n\n"
    for tool in TOOLS:
        (tmp_path / tool).write_text(f"#!/bin/sh\necho $0 >>'{tmp_path}/ran'\n")
        (tmp_path / tool).chmod(0o755)
    lines = "; ".join("c " + line for line in (
        "csb ''", "csb list -", "csb-list ''", "csb log --tools ''", "csb-restore --"))
    sh(complete + lines, PATH=f"{tmp_path}:/usr/bin:/bin").ok()
    assert not (tmp_path / "ran").exists()


def test_bash_offers_the_settings(sh, home, shells):
    complete = (f". '{shells}/csb'; c() {{ COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); _csb_words; "
                'echo ${COMPREPLY[@]}; }; ')
    keys = [record["key"] for record in sh("csb-config").ok().records]
    for line in ("csb config ''", "csb-config ''", "csb-config --unset ''"):
        assert sorted(sh(complete + f"c {line}").ok().out.split()) == sorted(keys), line
    assert sh(complete + "c csb config inter").ok().out == "interval\n"


def typed(line, shells, home, until):
    """What zsh has written by the time that it has completed a line."""
    pid, fd = pty.fork()
    if not pid:
        os.execve(shutil.which("zsh"), ["zsh", "-f", "-i"], {**home.env, "TERM": "dumb"})
    try:
        seen, deadline = "", time.monotonic() + LONG
        start = (f"PS1='> '; fpath=('{shells}' $fpath); autoload -Uz compinit; compinit -D -u; "
                 "echo rea''dy\n")
        for text, end in (start, "ready\r\n"), (line + "\t", until):
            os.write(fd, text.encode())
            seen = ""
            while end not in seen:
                assert select.select([fd], [], [], max(0, deadline - time.monotonic()))[0], seen
                seen += os.read(fd, 1 << 16).decode(errors="replace")
        return seen
    finally:
        os.close(fd)
        os.waitpid(pid, 0)


@pytest.mark.parametrize("line, until", [
    ("csb-list --exp", "csb-list --expiring "), ("csb help ver", "verify "),
    ("csb list --to", "list --top "), ("csb-log --tools b", "--tools brief "),
    ("csb li", "csb list "), ("csb gc --", "--wait"), ("csb config int", "interval "),
    ("csb show 3f4a9b10-0000-4000-8000-000000000000", "000000000000 ")])
@pytest.mark.few(4)
def test_zsh_completes(sh, shells, home, backed_up, line, until):
    needs("zsh")
    sh(f"zsh -n '{shells}/_csb'").ok()
    assert until in typed(line, shells, home, until)


def test_make_installs_and_takes_out_again(sh, tmp_path):
    """Where man, bash and zsh look; nothing is made twice, and nothing lies about in the clone."""
    house, there = tmp_path / "house", tmp_path / "a place"
    (house / "bin").mkdir(parents=True)
    shutil.copytree(os.path.join(ROOT, "lib"), house / "lib",
                    ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("bin/csb", "bin/csb-gc", "bin/session_snapshot", "Makefile", "README.md"):
        shutil.copy(os.path.join(ROOT, file), house / file)
    make = f"make -s PY='{PYTHON}' DESTDIR='{there}' PREFIX=/opt/c "
    said = sh(make + "install", cwd=house).ok().out
    assert said.splitlines() == [
        "Making 3 programs of one file each, and their manual pages.",
        f"Installed 3 programs in {there}/opt/c/bin, their manual pages and completion in "
        f"{there}/opt/c/share."]
    files = {os.path.relpath(os.path.join(folder, file), there / "opt/c")
             for folder, _, names in os.walk(there) for file in names}
    tools = ("csb", "csb-gc", "session_snapshot")
    assert files == {
        *(f"bin/{tool}" for tool in tools), *(f"share/man/man1/{tool}.1" for tool in tools),
        *(f"share/bash-completion/completions/{tool}" for tool in tools),
        "share/man/man7/csb-records.7",
        "share/zsh/site-functions/_csb"}
    line = f"env -i PATH=/usr/bin:/bin '{there}/opt/c/bin/csb-gc' --version"
    assert sh(line, cwd="/").ok().out.startswith("csb-gc ")
    share = there / "opt/c/share"
    assert (share / "man/man1/csb-gc.1").stat().st_mode & 0o777 == 0o644
    assert os.readlink(share / "bash-completion/completions/csb-gc") == "csb"
    assert sorted(os.listdir(house)) == ["Makefile", "README.md", "bin", "build", "dist", "lib"]
    assert sorted(os.listdir(house / "dist")) == sorted(tools)
    page = house / "build/share/man/man1/csb-gc.1"
    before = page.stat().st_mtime_ns
    sh(make + "man", cwd=house).ok()
    assert page.stat().st_mtime_ns == before
    os.utime(house / "bin/csb-gc")
    sh(make + "man", cwd=house).ok()
    assert page.stat().st_mtime_ns > before
    if shutil.which("man"):
        done = sh("man -w csb-gc csb-records", MANPATH=str(share / "man"))
        pages = "man1/csb-gc.1", "man7/csb-records.7"
        assert done.out.splitlines() == [str(share / "man" / page) for page in pages]
    plain_make = f"make -s PY='{PYTHON}' PREFIX='{there}/here' "
    path = sh("echo $PATH", cwd=house).out.strip()
    for before, after, expected in (
            ("", "", "is not on your PATH"),
            (f"{there}/here/bin:", "", "It is on your PATH. Next: csb setup"),
            ("", f":{there}/here/bin", "But another csb comes first on your PATH: ")):
        said = sh(plain_make + "install", cwd=house, PATH=f"{before}{path}{after}").ok().out
        assert expected in said.splitlines()[2], said
    sh(plain_make + "uninstall", cwd=house).ok()
    (share / "man/man1/other.1").touch()
    (there / "opt/c/bin/other").touch()
    sh(make + "uninstall", cwd=house).ok()
    left = [file for _, _, names in os.walk(there) for file in names]
    assert sorted(left) == ["other", "other.1"]
