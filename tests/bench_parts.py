"""the parts of tests/bench that ask more: a no-op's parts, many versions, growth"""
import os
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from collections import namedtuple

from bench_peers import (
    FRESH,
    ROOT,
    Appender,
    Failed,
    amount,
    corpus,
    csb,
    in_turn,
    measure,
    medians,
    once,
    size,
)

LOOP = 5        # a start is too short to be measured alone
TIMES = 3       # ... and this is how many loops there are
BLOCK = 1 << 20
GITS = {
    "git clone --bare, seconds":
        'git clone -q --bare "file://$CSB_HOME/git" "$TOP/clone"',
    "git fsck --full --strict, seconds":
        'git --git-dir="$CSB_HOME/git" fsck --full --strict',
}
# hashlib is imported late: our own memory is a floor for what we can measure.

Started = namedtuple("Started", "programs pythons gits stats")
GROWTH = (
    "sessions", "files", "largest, MB",
    "no-op, s", "CPU s", "peak MB", "read", "stat calls",
    "10 KB more, s", "CPU s", "peak MB", "read", "written", "store grows by")


def traced(env, line):
    """What a shell line does, by strace: Started.

    programs: how many were started; pythons: the path of each tool among them;
    gits: the verb of each git; stats: how many stat calls there were on the corpus.
    """
    if not shutil.which("strace"):
        raise Failed("strace is not on PATH")
    folder = os.path.join(env["TOP"], "strace")
    shutil.rmtree(folder, ignore_errors=True)
    os.mkdir(folder)
    calls = "-e trace='/^(execve|.*stat.*)$'"
    measure(env, f"strace -ff -s 300 {calls} -o '{folder}/of' {line}")

    programs = []
    stats = 0
    for name in os.listdir(folder):
        with open(os.path.join(folder, name), errors="replace") as file:
            for call in file:
                if call.startswith("execve(") and call.endswith(" = 0\n"):
                    programs.append(arguments(call))
                elif "stat" in call[:12] and env["CLAUDE_CONFIG_DIR"] + "/" in call:
                    stats += 1

    pythons = []
    gits = []
    for program, *words in programs:
        program = os.path.basename(program)
        if program.startswith("python"):
            pythons.append(first_word(words))
        elif program == "git":
            gits.append(first_word(words, with_value=("-c", "-C")))
    return Started(len(programs), pythons, gits, stats)


def arguments(call):
    """The words of a program that was started, the program first."""
    words = re.findall(r'"((?:[^"\\]|\\.)*)"', call.split("], ")[0])
    return words[1:]


def first_word(words, with_value=()):
    """The first of the words that is neither an option nor an option's value."""
    words = iter(words)
    for word in words:
        if word in with_value:
            next(words)
        elif not word.startswith("-"):
            return word
    return ""


def starts(env, command):
    """CPU seconds of one start of a command, without those of the shell around it."""
    return (in_a_loop(env, command) - in_a_loop(env, ":")) / LOOP


def in_a_loop(env, command):
    turns = " ".join(["x"] * LOOP)
    line = f"for turn in {turns}; do {command}; done"
    return statistics.median(measure(env, line).cpu for _ in range(TIMES))


def imports(env, path):
    """The modules that a tool imports at its start, in that order."""
    left_out = {"msvcrt", "_winapi"}        # that only Windows has
    left_out.update(imported(env, "-c", ""))
    names = imported(env, path, "--help")
    return [name for name in names if name not in left_out]


def imported(env, *words):
    """All modules that Python imports."""
    done = subprocess.run(
        ["python3", "-I", "-X", "importtime", *words], env=env, text=True,
        capture_output=True, stdin=subprocess.DEVNULL)
    return re.findall(r"^import time: .*\| +([\w.]+)$", done.stderr, re.M)


def profile(page, tool):
    """The table of what a no-op consists of, or a note why there is none."""
    try:
        put_profile(page, tool)
    except Failed as error:
        page.notes.append(f"what a no-op consists of was left out: {error}")


def put_profile(page, tool):
    """Starts, imports, git calls, all else."""
    line = tool.lines["quiet"]
    env = tool.env | {"STORE": tool.store}
    time.sleep(FRESH)
    measure(env, line)
    found = traced(env, line)
    entries = sum(1 + len(names) for _, _, names in os.walk(tool.claude))

    bare = starts(env, "python3 -I -c ''")
    lib = os.path.join(ROOT, "lib")
    modules = 0
    loads = 0.0
    for path in found.pythons:
        names = imports(env, path)
        code = f"import sys; sys.path.append('{lib}'); import {', '.join(names)}"
        modules += len(names)
        loads += starts(env, f'python3 -I -c "{code}"') - bare

    python = len(found.pythons) * bare
    one_git = starts(env, 'git --git-dir="$STORE" rev-parse -q HEAD')
    git = len(found.gits) * one_git
    whole = starts(env, line)
    rest = whole - python - loads - git
    tools = [os.path.basename(path) for path in found.pythons]
    rows = [
        (f"starts of Python: {counted(tools)}", len(tools), python),
        ("modules that these import at their start", modules, loads),
        (f"calls of git: {counted(found.gits)}", len(found.gits), git),
        (f"stat calls on the {entries} files and directories, and all else",
         found.stats, rest),
        (f"`{line}`: programs in all", found.programs, whole)]
    page.table(
        "What a no-op consists of", ["work", "how many", "CPU seconds"],
        [[work, str(count), f"{seconds:.3f}"] for work, count, seconds in rows])
    page.notes.append(
        "What a no-op consists of: starts, imports and a call of git are measured "
        f"apart, {LOOP} at a time, median of {TIMES}; all else is what is left.")


def counted(names):
    """The different ones of some names, each with how often it is there."""
    return ", ".join(f"{name} {names.count(name)}" for name in sorted(set(names)))


def all_versions(page, tool, big, count):
    """The table of many versions, as stored and with a git gc in the middle."""
    columns = []
    for gc in (False, True):
        try:
            columns.append(versions(page, tool, big, count, gc))
        except (Failed, OSError, LookupError, ValueError,
                subprocess.SubprocessError) as error:
            with_or_without = "with" if gc else "without"
            page.failed(f"{count} versions, {with_or_without} git gc", error)
            columns.append({})

    as_stored, tidied = columns
    rows = []
    for work in tidied or as_stored:
        # One that failed has no figures at all; else what is missing was not done.
        rows.append([
            work, as_stored.get(work, "" if as_stored else "failed"),
            tidied.get(work, "failed")])
    page.table(
        f"{count} appends of 10 KB to the largest transcript, one backup each",
        ["work", "as stored", f"`git gc` after {count // 2}"], rows)
    page.put("", "In brackets: CPU seconds, which say more where the machine was busy.")


def versions(page, tool, big, count, gc):
    """{work: figure} for a fresh store after count appends, one backup each."""
    from hashlib import sha256
    append = Appender(big, [tool.claude])
    digest = sha256()
    with open(append.paths[0], "rb") as file:
        for block in iter(lambda: file.read(BLOCK), b""):
            digest.update(block)
    once(tool, "first")

    shown = {}
    expected = [digest.hexdigest()]
    results = []
    half = count // 2
    for number in range(1, count + 1):
        digest.update(append())
        results.append(once(tool, "append"))
        expected.append(digest.hexdigest())
        if gc and number == half:
            tidied = measure(tool.env, 'git --git-dir="$CSB_HOME/git" gc -q')
            shown["git gc, seconds"] = f"{tidied.seconds:.1f} ({tidied.cpu:.1f})"

    usual = medians(results[half:])
    most = max(result.growth for result in results)
    shown["a backup in the second half, seconds"] = (
        f"{usual['seconds']:.3f} ({usual['cpu']:.3f})")
    shown["growth by one append"] = amount(usual["growth"])
    shown["growth by one append, the most"] = amount(most)
    shown["store at the end"] = amount(size(tool.store))
    for work, line in GITS.items():
        shown[work] = timed(page, tool, work, line)
    shutil.rmtree(os.path.join(tool.env["TOP"], "clone"), ignore_errors=True)

    start = time.perf_counter()
    if list(read_back(tool, big)) == expected:
        text = f"{time.perf_counter() - start:.1f}"
    else:
        reason = f"not the {len(expected)} that were backed up"
        text = page.failed("reading every version back", reason)
    shown["every version read back, seconds"] = text
    return shown


def timed(page, tool, work, line):
    """What a git that has nothing to say takes, or the word failed."""
    try:
        result = measure(tool.env, line)
        said = " ".join(result.said).strip()
        if said:
            raise Failed(said)
        return f"{result.seconds:.1f} ({result.cpu:.1f})"
    except Failed as error:
        return page.failed(work, error)


def read_back(tool, big):
    """The sha256 of every stored version of a transcript, oldest first."""
    from hashlib import sha256
    git = ["git", f"--git-dir={tool.store}"]
    done = subprocess.run(
        [*git, "rev-list", "--reverse", "main", "--", big],
        env=tool.env, check=True, capture_output=True, text=True)
    commits = done.stdout.split()

    with tempfile.TemporaryFile(dir=tool.env["TOP"]) as names:
        for commit in commits:
            names.write(f"{commit}:{big}\n".encode())
        names.seek(0)
        with subprocess.Popen(
                [*git, "cat-file", "--batch"], env=tool.env,
                stdin=names, stdout=subprocess.PIPE) as process:
            for _ in commits:
                digest = sha256()
                left = int(process.stdout.readline().split()[2])
                while left:
                    block = process.stdout.read(min(left, BLOCK))
                    if not block:
                        break
                    digest.update(block)
                    left -= len(block)
                process.stdout.read(1)      # the end of the line
                yield digest.hexdigest()


def growth(page, env, args):
    """The growth table: by sessions, then by the size of one transcript."""
    part = args.growth
    shapes = []
    for count in (100, 1000, 10000):
        shapes.append({
            "sessions": max(2, int(count * part)),
            "total_mb": max(1, count * part * .03),
            "big_mb": .5})
    for mb in (60, 250, 1000):
        shapes.append({
            "sessions": 10, "total_mb": mb * part * 1.2, "big_mb": mb * part})

    rows = []
    for shape in shapes:
        try:
            rows.append(grown(page, env, args.runs, shape | {"seed": args.seed}))
        except (Failed, OSError, subprocess.SubprocessError) as error:
            failed = page.failed(f"growth, {shape}", error)
            rows.append([f"{shape['sessions']:,}", failed])
    page.table(
        "Growth with the number of sessions, and with one transcript", GROWTH, rows)


def grown(page, env, runs, shape):
    """A row of that table: a no-op and an append, csb alone, on a corpus of its own."""
    top = tempfile.mkdtemp(dir=env["TOP"])
    env = env | {
        "TOP": top,
        "HOME": top,
        "CLAUDE_CONFIG_DIR": os.path.join(top, "claude"),
        "CSB_HOME": os.path.join(top, "csb"),
    }
    try:
        big, files = corpus(env["CLAUDE_CONFIG_DIR"], shape)
        tool = csb(env)
        append = Appender(big, [tool.claude])
        largest = os.path.getsize(append.paths[0])
        time.sleep(FRESH)
        once(tool, "first")
        noop = in_turn(page, [tool], "noop", runs, append)["csb"]
        more = in_turn(page, [tool], "append", runs, append)["csb"]
        return [
            f"{shape['sessions']:,}", f"{files:,}", f"{largest / 1e6:.0f}",
            *figures(noop, "seconds", "cpu", "peak", "read"),
            stat_calls(page, tool),
            *figures(more, "seconds", "cpu", "peak", "read", "wrote", "growth")]
    finally:
        shutil.rmtree(top, ignore_errors=True)


def figures(found, *measures):
    """The cells of some measures."""
    if found == "failed":
        return ["failed"] * len(measures)
    cells = []
    for what in measures:
        if what in ("seconds", "cpu"):
            cells.append(f"{found[what]:.3f}")
        elif what == "peak":
            cells.append(f"{found[what]:.0f}")
        else:
            cells.append(amount(found[what]))
    return cells


def stat_calls(page, tool):
    """How many stat calls a no-op makes; nothing where they cannot be counted."""
    line = tool.lines["quiet"]
    try:
        time.sleep(FRESH)
        measure(tool.env, line)
        return f"{traced(tool.env, line).stats:,}"
    except Failed as error:
        page.notes.append(f"stat calls were not counted: {error}")
        return ""
