"""What a disk may hold when the power fails during a run, made from a trace of one.

    events = record(box, words, given)      what the run did to the files below the home
    for state in states(top, events, ...):  for each cut and choice of what was lost
        state.make(before, folder)          as files

The model is what POSIX promises, no file system more. The bytes of a file are durable
from its fsync on; what was written after that may be there, cut short, or missing. A
name that was made, moved or removed is durable once its directory was synced; until
then each such change may have reached the disk or not, whatever became of the others.
A rename in one directory happens as a whole.

What git syncs does not count: git before 2.36 syncs nothing here, and a user may have
told it not to. What is durable is so because a tool of ours has synced it.
"""
import hashlib
import itertools
import os
import re
import shutil
import subprocess
from collections import namedtuple

from faults import joined

CALLS = (
    "execve,openat,read,write,pwrite64,lseek,fsync,fdatasync,"
    "?rename,renameat,renameat2,"
    "?link,linkat,?unlink,unlinkat,?rmdir,?mkdir,mkdirat,?symlink,symlinkat,ftruncate,"
    "chdir,fchdir"
)
ON_DESCRIPTORS = (
    "read", "write", "pwrite64", "lseek", "fsync", "fdatasync", "ftruncate")
MOST = 12       # of prefixes, single omissions and single ones each, if there are many
# dir: the directory whose names change; node: what the name stands for.
Event = namedtuple("Event", "what dir name node data")
# Where a path is; node is None if there is nothing of that name.
Place = namedtuple("Place", "dir name node")


class Node:
    """A file (bytes) or a directory (names); base is where it was before the run."""

    def __init__(self, base=None, folder=False):
        self.base = base
        self.folder = folder
        self.names = {}
        self.data = b""
        if base and folder:
            for name in os.listdir(base):
                path = os.path.join(base, name)
                self.names[name] = Node(path, os.path.isdir(path))
        elif base:
            with open(base, "rb") as file:
                self.data = file.read()
        self.start = dict(self.names) if folder else self.data


class OpenFile:
    """A file that a process has open, and where it stands in it."""

    def __init__(self, node):
        self.node = node
        self.at = 0


def quoted(text):
    """The arguments of a call: strings as text, descriptors as (number, path)."""
    found = []
    for string, number, path, rest in re.findall(
            r'"([^"]*)"(?:\.\.\.)?|(AT_FDCWD|\d+)<([^>]*)>|([^,\s][^,]*)', text):
        if number:
            if path.startswith("\\x"):
                path = plain(path)
            found.append((number, path))
        else:
            found.append(rest or plain(string))
    return found


def plain(digits):
    """The text that strace wrote as \\x and digits."""
    return os.fsdecode(bytes.fromhex(digits.replace("\\x", "")))


class Recorder:
    """Turns the lines of a trace into events; keeps what a sound disk would hold."""

    def __init__(self, home):
        self.home = home
        self.top = Node(home, True)
        self.events = []
        self.cwd = {}
        self.open = {}          # {(process, descriptor): OpenFile}
        self.gits = set()       # the processes that are git

    def find(self, path):
        """The Place of a path below the home, None of another."""
        if not (path + "/").startswith(self.home + "/"):
            return None
        *parts, name = path[len(self.home) + 1:].split("/")
        node = self.top
        for part in parts:
            node = node.names.get(part)
            if node is None:
                return None
        return Place(node, name, node.names.get(name) if name else node)

    def note(self, what, folder=None, name=None, node=None, data=None):
        """One more event; what it does to names is done here at once."""
        event = Event(what, folder, name, node, data)
        self.events.append(event)
        if folder:
            apply(event, folder.names)

    def paths(self, process, args):
        """The paths among arguments, each with the directory that it is relative to."""
        found = []
        base = self.cwd.get(process, self.home)
        for arg in args:
            if isinstance(arg, tuple):
                _, base = arg
            else:
                found.append(os.path.normpath(os.path.join(base, arg)))
        return found

    def line(self, process, line):
        """Take in one line of the trace."""
        if line.startswith("read("):        # of what was read only the length is of use
            first, _, rest = line.partition(",")
            line = f"{first}) = {rest.rpartition(' = ')[2]}"
        call = re.match(r"(\w+)\((.*)\) += (\d+)", line)
        if not call:
            return
        name, args, result = call[1], quoted(call[2]), int(call[3])
        if name == "execve":
            self.gits.discard(process)
            if os.path.basename(args[0]) == "git":
                self.gits.add(process)
        elif name == "chdir":
            self.cwd[process] = self.paths(process, args[:1])[0]
        elif name == "fchdir":
            _, self.cwd[process] = args[0]
        elif name == "openat":
            self.opened(process, args, result)
        elif name in ON_DESCRIPTORS:
            self.descriptor(process, name, args, result)
        else:
            args = [arg for arg in args if not is_flag(arg)]
            self.renamed(name, self.paths(process, args))

    def opened(self, process, args, result):
        """A file was opened: perhaps it was made, or made empty."""
        *where, flags = args[:3]
        found = self.find(self.paths(process, where)[0])
        if not found:
            self.open.pop((process, result), None)
            return
        folder, name, node = found
        if node is None and "O_CREAT" in flags:
            node = Node()
            self.note("make", folder, name, node)
        elif node and "O_TRUNC" in flags:
            self.change(node, b"")
        self.open[process, result] = OpenFile(node)

    def change(self, node, data):
        """A file holds other bytes now."""
        node.data = data
        self.note("bytes", node=node, data=data)

    def descriptor(self, process, name, args, result):
        """Something was done to an open file."""
        number, path = args[0]
        if "pipe:" in path:
            return
        found = self.find(path)
        node = found.node if found else None
        if not node:
            return
        if name in ("fsync", "fdatasync"):
            if process not in self.gits:
                self.note("sync", node=node)
            return

        file = self.open.get((process, int(number)))
        if not file or file.node is not node or node.folder:
            return
        if name == "lseek":
            file.at = result
        elif name == "read":
            file.at += result
        elif name == "ftruncate":
            self.change(node, node.data[:int(args[1])])
        else:
            at = file.at
            if name == "pwrite64":
                at = int(args[3])
            else:
                file.at += result
            text = os.fsencode(args[1])[:result]
            before = node.data[:at].ljust(at, b"\0")
            self.change(node, before + text + node.data[at + len(text):])

    def renamed(self, name, paths):
        """A name was made, moved or removed."""
        places = [self.find(path) for path in paths[:2]]
        if not places or not places[-1]:
            return
        source, target = places[0], places[-1]
        if name.startswith("mkdir"):
            self.note("make", target.dir, target.name, Node(folder=True))
        elif name.startswith(("unlink", "rmdir")):
            self.note("remove", target.dir, target.name)
        elif name.startswith("link"):
            self.note("make", target.dir, target.name, source.node)
        elif name.startswith("rename") and source.dir is target.dir:
            self.note("move", target.dir, (source.name, target.name), source.node)
        elif name.startswith("rename"):     # each directory by itself
            self.note("make", target.dir, target.name, source.node)
            self.note("remove", source.dir, source.name)


def is_flag(arg):
    """Is an argument of a call on names neither a path nor a descriptor?"""
    if isinstance(arg, tuple):
        return False
    return not arg or bool(re.fullmatch(r"0\w*|AT_\w+|RENAME\w+", arg))


def apply(event, names):
    """Do to the names of a directory what an event did."""
    if event.what == "make":
        names[event.name] = event.node
    elif event.what == "remove":
        names.pop(event.name, None)
    elif event.what == "move":
        before, after = event.name
        names.pop(before, None)
        names[after] = event.node


def record(box, words, given):
    """(the top Node, the events, what the run said) of a sound run in the box."""
    strace = [
        "strace", "-f", "--seccomp-bpf", "-y", "-xx", "-s", "9999999", "-o", box.log,
        "-e", f"trace={CALLS}"]
    recorder = Recorder(box.home)
    done = box.start([*strace, *box.command(words)], given, box.env)
    with open(box.log) as file:
        for process, line in joined(file):
            recorder.line(process, line)
    return recorder.top, recorder.events, done


class State:
    """What one cut left.

    cut: the number of events before it; names: by directory; data: bytes by file; lost:
    the changes of names that did not reach the disk; torn: the files that lost bytes.
    """

    def __init__(self, cut, top, names, data, lost, torn):
        self.cut = cut
        self.top = top
        self.names = names
        self.data = data
        self.lost = lost
        self.torn = torn

    def story(self):
        """What was lost, for people."""
        story = [f"{event.what} {event.name}" for event in self.lost]
        for path, node in self.walk(self.top):
            if node in self.torn:
                story.append(f"bytes of {path}")
        return story

    def walk(self, node, path=""):
        """(path, node) of all that is not as before the run; None if it is gone."""
        now = self.names.get(node, node.start)
        for name in node.start.keys() - now.keys():
            yield f"{path}{name}", None
        for name, child in now.items():
            moved = node.start.get(name) is not child
            if not child.folder:
                if moved or child in self.data:
                    yield f"{path}{name}", child
                continue
            if moved or child.base is None:
                yield f"{path}{name}", child
            yield from self.walk(child, f"{path}{name}/")

    def key(self, ignored):
        """The same for states that differ in names alone that nobody reads."""
        digest = hashlib.sha256()
        found = dict(self.walk(self.top))
        for path in sorted(found):
            if not ignored.search(path):
                node = found[path]
                is_file = node is not None and not node.folder
                data = self.bytes(node) if is_file else None
                digest.update(repr((path, node is None, data)).encode())
        return digest.digest()

    def bytes(self, node):
        """What a file holds."""
        return self.data.get(node, node.start)

    def make(self, base, folder):
        """The state as files, and as links to what was before: only to be read."""
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run(["cp", "-al", base, folder], check=True)
        for path, node in self.walk(self.top):
            path = os.path.join(folder, path)
            if node and node.folder:
                os.makedirs(path, exist_ok=True)
                continue
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path)
            elif os.path.lexists(path):
                os.unlink(path)
            if node:
                with open(path, "wb") as file:
                    file.write(self.bytes(node))


def choices(items, limit, chance, rest):
    """Subsets of items: the ones that reached the disk.

    All subsets if the items are few, else all and none, every prefix, single omission
    and single one (MOST of each, if there are more), and rest at random.
    """
    if len(items) <= limit:
        for bits in itertools.product((True, False), repeat=len(items)):
            yield list(itertools.compress(items, bits))
        return
    yield items
    yield []
    for number in sorted(chance.sample(range(len(items)), min(MOST, len(items)))):
        yield items[:number]
        yield items[:number] + items[number + 1:]
        yield [items[number]]
    for _ in range(rest):
        yield [item for item in items if chance.random() < 0.5]


def contents(durable, now):
    """What a file that was not synced may hold: all, nothing new, or a part."""
    part = now[:len(durable) + max(0, len(now) - len(durable)) // 2]
    return list(dict.fromkeys((now, durable, part, b"")))


class Disk:
    """What is durable after some of the events, and what is not yet."""

    def __init__(self):
        self.names = {}         # {directory: the names in it that are durable}
        self.synced = {}        # {file: bytes}
        self.now = {}           # {file: bytes}, durable or not
        self.pending = []       # the events on names that are not durable

    def take(self, event):
        """One more event."""
        node = event.node
        if event.what == "bytes":
            self.now[node] = event.data
        elif event.what != "sync":
            self.pending.append(event)
        elif not node.folder:
            self.synced[node] = self.now.get(node, node.start)
        else:
            names = self.names.setdefault(node, dict(node.start))
            left = []
            for one in self.pending:
                if one.dir is node:
                    apply(one, names)
                else:
                    left.append(one)
            self.pending = left

    def soft(self):
        """{file: what it may hold} of the files that were not synced as they are."""
        found = {}
        for node, now in self.now.items():
            durable = self.synced.get(node, node.start)
            if now != durable:
                found[node] = contents(durable, now)
        return found

    def states(self, cut, top, chance, limit, rest):
        """The States of a cut here."""
        soft = self.soft()
        for some in choices(self.pending, limit, chance, rest):
            names = {folder: dict(found) for folder, found in self.names.items()}
            for event in some:
                folder = event.dir
                apply(event, names.setdefault(folder, dict(folder.start)))
            lost = [event for event in self.pending if event not in some]
            for picked in picks(list(soft.values())):
                held = {**self.synced, **dict(zip(soft, picked, strict=True))}
                torn = [node for node in soft if held[node] != self.now[node]]
                yield State(cut, top, names, held, lost, torn)


def picks(ways):
    """What some files hold, one of its ways each: all combinations, if they are few."""
    if len(ways) <= 2:
        yield from itertools.product(*ways)
        return
    for number in range(3):
        yield [way[min(number, len(way) - 1)] for way in ways]
    # And one file alone that has lost what is new.
    for number, way in enumerate(ways):
        picked = [other[0] for other in ways]
        picked[number] = way[min(1, len(way) - 1)]
        yield picked


def states(top, events, chance, ignored, limit=5, rest=12, most=150):
    """Every State that is legal, once; ignored (a pattern) are names that nobody reads.

    Of more than most cuts the last third of most is taken, and of the others so many at
    random.
    """
    count = len(events) + 1
    wanted = set(range(count))
    if count > most:
        last = most // 3
        wanted = set(chance.sample(range(count - last), most - last))
        wanted.update(range(count - last, count))
    disk = Disk()
    seen = set()
    for cut in range(count):
        if cut:
            disk.take(events[cut - 1])
        if cut not in wanted:
            continue
        for state in disk.states(cut, top, chance, limit, rest):
            key = (state.cut == len(events), state.key(ignored))
            if key not in seen:
                seen.add(key)
                yield state
