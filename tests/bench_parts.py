"""the parts of tests/bench that ask more: what a no-op consists of, many versions, growth"""
import os
import re
import shutil
import statistics
import subprocess
import tempfile
import time

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

LOOP, TIMES = 5, 3      # a start is too short to be measured alone
# hashlib is imported late: the memory of this program is a floor for what it can measure.


def traced(env, line):
    """What a shell line does, by strace: ([argv of each program], stat calls on the corpus)."""
    if not shutil.which("strace"):
        raise Failed("strace is not on PATH")
    folder = os.path.join(env["TOP"], "strace")
    shutil.rmtree(folder, ignore_errors=True)
    os.mkdir(folder)
    measure(env, f"strace -ff -s 300 -e trace='/^(execve|.*stat.*)$' -o '{folder}/of' {line}")
    programs, stats = [], 0
    for name in os.listdir(folder):
        with open(os.path.join(folder, name), errors="replace") as file:
            for call in file:
                if call.startswith("execve(") and call.endswith(" = 0\n"):
                    programs.append(re.findall(r'"((?:[^"\\]|\\.)*)"', call.split("], ")[0])[1:])
                stats += "stat" in call[:12] and env["CLAUDE_CONFIG_DIR"] + "/" in call
    return programs, stats


def starts(env, command):
    """CPU seconds of one start of a command, without those of the shell that starts it."""
    loop = "for i in {}; do {}; done"
    turns = " ".join("x" * LOOP)
    one, none = (statistics.median(measure(env, loop.format(turns, text)).cpu
                                   for _ in range(TIMES)) for text in (command, ":"))
    return (one - none) / LOOP


def imports(env, path):
    """The modules that a tool imports at its start, in that order."""
    def of(*words):
        said = subprocess.run(["python3", "-I", "-X", "importtime", *words], env=env, text=True,
                              capture_output=True, stdin=subprocess.DEVNULL).stderr
        return re.findall(r"^import time: .*\| +([\w.]+)$", said, re.M)
    left_out = {*of("-c", ""), "msvcrt", "_winapi"}     # these two only Windows has
    return [name for name in of(path, "--help") if name not in left_out]


def profile(page, tool):
    """The table of what a no-op backup consists of: starts, imports, git calls, all else."""
    line, env = tool.lines["quiet"], tool.env | {"STORE": tool.store}
    time.sleep(FRESH)
    measure(env, line)
    programs, stats = traced(env, line)
    entries = sum(1 + len(names) for _, _, names in os.walk(tool.claude))
    pythons = [next(word for word in argv[1:] if not word.startswith("-"))
               for argv in programs if os.path.basename(argv[0]).startswith("python")]
    gits = [argv[1:] for argv in programs if os.path.basename(argv[0]) == "git"]
    verbs = [next(word for last, word in zip(["", *words], words, strict=False)
                  if not word.startswith("-") and last not in ("-c", "-C")) for words in gits]
    bare, lib = starts(env, "python3 -I -c ''"), os.path.join(ROOT, "lib")
    modules, loads = 0, 0.0
    for names in (imports(env, path) for path in pythons):
        code = f"import sys; sys.path.append('{lib}'); import {', '.join(names)}"
        modules, loads = modules + len(names), loads + starts(env, f'python3 -I -c "{code}"') - bare
    python, git = len(pythons) * bare, len(gits) * starts(
        env, 'git --git-dir="$STORE" rev-parse -q HEAD')
    whole = starts(env, line)
    text = lambda names: ", ".join(f"{name} {names.count(name)}" for name in sorted(set(names)))
    page.table("What a no-op consists of", ["work", "how many", "CPU seconds"], [
        [f"starts of Python: {text([os.path.basename(path) for path in pythons])}",
         str(len(pythons)), f"{python:.3f}"],
        ["modules that these import at their start", str(modules), f"{loads:.3f}"],
        [f"calls of git: {text(verbs)}", str(len(gits)), f"{git:.3f}"],
        [f"stat calls on the {entries} files and directories, and all else", str(stats),
         f"{whole - python - loads - git:.3f}"],
        [f"`{line}`: programs in all", str(len(programs)), f"{whole:.3f}"]])
    page.notes.append("What a no-op consists of: starts, imports and a call of git are measured "
                      f"apart, {LOOP} at a time, median of {TIMES}; all else is what is left.")


def read_back(tool, big):
    """The sha256 of every stored version of a transcript, oldest first."""
    from hashlib import sha256
    git = ["git", f"--git-dir={tool.store}"]
    commits = subprocess.run([*git, "rev-list", "--reverse", "main", "--", big], env=tool.env,
                             check=True, capture_output=True, text=True).stdout.split()
    with tempfile.TemporaryFile(dir=tool.env["TOP"]) as names:
        names.write("".join(f"{commit}:{big}\n" for commit in commits).encode())
        names.seek(0)
        with subprocess.Popen([*git, "cat-file", "--batch"], env=tool.env, stdin=names,
                              stdout=subprocess.PIPE) as process:
            for _ in commits:
                left, digest = int(process.stdout.readline().split()[2]), sha256()
                while left and (block := process.stdout.read(min(left, 1 << 20))):
                    digest.update(block)
                    left -= len(block)
                process.stdout.read(1)
                yield digest.hexdigest()


def versions(page, tool, big, count, gc):
    """{work: figure} for a fresh store after count appends of 10 KB, one backup each."""
    from hashlib import sha256
    append, digest, shown = Appender(big, [tool.claude]), sha256(), {}
    with open(append.paths[0], "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    once(tool, "first")
    expected, results, store = [digest.hexdigest()], [], '--git-dir="$CSB_HOME/git"'
    for number in range(1, count + 1):
        digest.update(append())
        results.append(once(tool, "append"))
        expected.append(digest.hexdigest())
        if gc and number == count // 2:
            tidied = measure(tool.env, f"git {store} gc -q")
            shown["git gc, seconds"] = f"{tidied.seconds:.1f} ({tidied.cpu:.1f})"
    found = medians(results[count // 2:])
    shown["a backup in the second half, seconds"] = f"{found['seconds']:.3f} ({found['cpu']:.3f})"
    shown["growth by one append"] = amount(found["growth"])
    shown["growth by one append, the most"] = amount(max(one.growth for one in results))
    shown["store at the end"] = amount(size(tool.store))
    clone = os.path.join(tool.env["TOP"], "clone")
    for what, line in (
            ("git clone --bare, seconds", f'git clone -q --bare "file://$CSB_HOME/git" "{clone}"'),
            ("git fsck --full --strict, seconds", f"git {store} fsck --full --strict")):
        try:
            result = measure(tool.env, line)
            said = " ".join(result.said).strip()
            if said and "fsck" in line:
                raise Failed(said)
            shown[what] = f"{result.seconds:.1f} ({result.cpu:.1f})"
        except Failed as error:
            shown[what] = page.failed(what, error)
    shutil.rmtree(clone, ignore_errors=True)
    start = time.perf_counter()
    equal = list(read_back(tool, big)) == expected
    shown["every version read back, seconds"] = (
        f"{time.perf_counter() - start:.1f}" if equal else
        page.failed("reading every version back", f"not the {len(expected)} that were backed up"))
    return shown


def all_versions(page, tool, big, count):
    """The table of many versions, as they were stored and with a git gc in the middle."""
    columns = []
    for gc in (False, True):
        try:
            columns.append(versions(page, tool, big, count, gc))
        except (Failed, OSError, LookupError, ValueError, subprocess.SubprocessError) as error:
            columns.append({})
            page.failed(f"{count} versions, {'with' if gc else 'without'} git gc", error)
    page.table(f"{count} appends of 10 KB to the largest transcript, one backup each",
               ["work", "as stored", f"`git gc` after {count // 2}"],
               [[work, columns[0].get(work, "" if columns[0] else "failed"),
                 columns[1].get(work, "failed")] for work in columns[1] or columns[0]])
    page.put("", "In brackets: CPU seconds, which say more where the machine was busy.")


def grown(page, env, runs, args):
    """A row of the growth table: a no-op and an append, csb alone, on a corpus of its own."""
    top = tempfile.mkdtemp(dir=env["TOP"])
    env = env | {"TOP": top, "HOME": top, "CLAUDE_CONFIG_DIR": os.path.join(top, "claude"),
                 "CSB_HOME": os.path.join(top, "csb")}
    try:
        big, files = corpus(env["CLAUDE_CONFIG_DIR"], args)
        tool = csb(env)
        row = [f"{args['sessions']:,}", f"{files:,}",
               f"{os.path.getsize(os.path.join(tool.claude, big)) / 1e6:.0f}"]
        time.sleep(FRESH)
        once(tool, "first")
        found = [in_turn(page, [tool], name, runs, Appender(big, [tool.claude]))["csb"]
                 for name in ("noop", "append")]
        try:
            time.sleep(FRESH)
            measure(env, tool.lines["quiet"])
            stats = f"{traced(env, tool.lines['quiet'])[1]:,}"
        except Failed as error:
            stats = ""
            page.notes.append(f"stat calls were not counted: {error}")
        for one in found:
            row += (["failed"] * 4 if one == "failed" else [
                f"{one['seconds']:.3f}", f"{one['cpu']:.3f}", f"{one['peak']:.0f}",
                amount(one["read"])])
        return [*row[:7], stats, *row[7:], *(["failed"] * 2 if found[1] == "failed" else [
            amount(found[1]["wrote"]), amount(found[1]["growth"])])]
    finally:
        shutil.rmtree(top, ignore_errors=True)


def growth(page, env, args):
    """The growth table: by sessions, then by the size of one transcript."""
    part = args.growth
    shapes = [{"sessions": max(2, int(count * part)), "total_mb": max(1, count * part * .03),
               "big_mb": .5} for count in (100, 1000, 10000)]
    shapes += [{"sessions": 10, "total_mb": mb * part * 1.2, "big_mb": mb * part}
               for mb in (60, 250, 1000)]
    rows = []
    for shape in shapes:
        try:
            rows.append(grown(page, env, args.runs, shape | {"seed": args.seed}))
        except (Failed, OSError, subprocess.SubprocessError) as error:
            rows.append([f"{shape['sessions']:,}", page.failed(f"growth, {shape}", error)])
    page.table("Growth with the number of sessions, and with one transcript", [
        "sessions", "files", "largest, MB",
        "no-op, s", "CPU s", "peak MB", "read", "stat calls",
        "10 KB more, s", "CPU s", "peak MB", "read", "written", "store grows by"], rows)
