"""What a disk may hold when the power fails during a run, made from a trace of one real run.

    events = record(box, words, given)          what the run did to the files below the home
    for state in states(top, events, ...):      for each cut and choice of what was lost
        state.make(before, folder)              as files

The model is what POSIX promises, no file system more. The bytes of a file are durable from its
fsync on; what was written after that may be there, cut short, or missing. A name that was made,
moved or removed is durable once its directory was synced; until then each such change may have
reached the disk or not, whatever became of the others. A rename in one directory happens as a
whole.

What git syncs does not count: git before 2.36 syncs nothing here, and a user may have told it not
to. What is durable is so because a tool of ours has synced it.
"""
import hashlib
import itertools
import os
import re
import shutil
import subprocess
from collections import namedtuple

from faults import joined

CALLS = ("execve,openat,read,write,pwrite64,lseek,fsync,fdatasync,?rename,renameat,renameat2,?link,linkat,"
         "?unlink,unlinkat,?rmdir,?mkdir,mkdirat,?symlink,symlinkat,ftruncate,chdir,fchdir")
MOST = 12        # of prefixes, single omissions and single ones each, where there are many
# dir: the directory whose names change; node: what the name stands for.
Event = namedtuple("Event", "what dir name node data")


class Node:
    """A file (bytes) or a directory (names); base is where it was before the run, or None."""

    def __init__(self, base=None, folder=False):
        self.base, self.folder, self.names, self.data = base, folder, {}, b""
        if base and folder:
            for name in os.listdir(base):
                path = os.path.join(base, name)
                self.names[name] = Node(path, os.path.isdir(path))
        elif base:
            with open(base, "rb") as file:
                self.data = file.read()
        self.start = dict(self.names) if folder else self.data


def quoted(text):
    """The arguments of a call: strings as text, descriptors as (number, path), others as they are.
    """
    plain = lambda match: os.fsdecode(bytes.fromhex(match.replace("\\x", "")))
    found = []
    for string, number, path, rest in re.findall(
            r'"([^"]*)"(?:\.\.\.)?|(AT_FDCWD|\d+)<([^>]*)>|([^,\s][^,]*)', text):
        if number:
            found.append((number, plain(path) if re.match(r"\\x", path) else path))
        else:
            found.append(rest or plain(string))
    return found


class Recorder:
    """Turns the lines of a trace into events, and keeps what a sound disk would hold."""

    def __init__(self, home):
        self.home, self.top, self.events = home, Node(home, True), []
        self.cwd, self.open = {}, {}
        self.gits = set()       # the processes that are git

    def find(self, path):
        """(directory, name, node or None) of a path below the home, None of another."""
        if not (path + "/").startswith(self.home + "/"):
            return None
        node, parts = self.top, path[len(self.home) + 1:].split("/")
        for part in parts[:-1]:
            node = node.names.get(part)
            if node is None:
                return None
        return node, parts[-1], node.names.get(parts[-1]) if parts[-1] else node

    def note(self, what, folder=None, name=None, node=None, data=None):
        """One more event; what it does to names is done here at once."""
        self.events.append(Event(what, folder, name, node, data))
        apply(self.events[-1], folder.names if folder else None)

    def path(self, process, args):
        """The paths among a call's arguments, each with the directory it is relative to."""
        found, base = [], self.cwd.get(process, self.home)
        for arg in args:
            if isinstance(arg, tuple):
                base = arg[1]
            elif arg.startswith("/") or found is not None:
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
            self.cwd[process] = self.path(process, args[:1])[0]
        elif name == "fchdir":
            self.cwd[process] = args[0][1]
        elif name == "openat":
            self.opened(process, args, result)
        elif name in ("read", "write", "pwrite64", "lseek", "fsync", "fdatasync", "ftruncate"):
            self.descriptor(process, name, args, result)
        else:
            self.renamed(name, self.path(process, [a for a in args if a and (
                isinstance(a, tuple) or not re.fullmatch(r"0\w*|AT_\w+|RENAME\w+", a))]))

    def opened(self, process, args, result):
        """A file was opened: perhaps it was made, or made empty."""
        path, flags = self.path(process, args[:2])[0], args[2]
        found = self.find(path)
        if not found:
            self.open.pop((process, result), None)
            return
        folder, name, node = found
        if node is None and "O_CREAT" in flags:
            node = Node()
            self.note("make", folder, name, node)
        elif node and "O_TRUNC" in flags:
            self.note("bytes", node=node, data=b"")
            node.data = b""
        self.open[process, result] = [node, 0]

    def descriptor(self, process, name, args, result):
        """Something was done to an open file."""
        number, path = args[0]
        entry = self.open.get((process, int(number)))
        found = self.find(path)
        if not found or not found[2] or "pipe:" in path:
            return
        node = found[2]
        if name in ("fsync", "fdatasync"):
            if process not in self.gits:
                self.note("sync", node=node)
        elif entry and entry[0] is node and not node.folder:
            if name == "lseek":
                entry[1] = result
                return
            if name == "read":
                entry[1] += result
                return
            if name == "ftruncate":
                data = node.data[:int(args[1])]
            else:
                at = int(args[3]) if name == "pwrite64" else entry[1]
                text = os.fsencode(args[1])[:result]
                data = node.data[:at].ljust(at, b"\0") + text + node.data[at + len(text):]
                entry[1] += result if name == "write" else 0
            node.data = data
            self.note("bytes", node=node, data=data)

    def renamed(self, name, paths):
        """A name was made, moved or removed."""
        places = [self.find(path) for path in paths[:2]]
        if not places or not places[-1]:
            return
        folder, last, node = places[-1]
        if name.startswith("mkdir"):
            self.note("make", folder, last, Node(folder=True))
        elif name.startswith(("unlink", "rmdir")):
            self.note("remove", folder, last)
        elif name.startswith("link"):
            self.note("make", folder, last, places[0][2])
        elif name.startswith("rename"):
            if places[0][0] is folder:
                self.note("move", folder, (places[0][1], last), places[0][2])
            else:       # each directory by itself
                self.note("make", folder, last, places[0][2])
                self.note("remove", *places[0][:2])


def apply(event, names):
    """Do to the names of a directory what an event did."""
    if event.what == "make":
        names[event.name] = event.node
    elif event.what == "remove":
        names.pop(event.name, None)
    elif event.what == "move":
        names.pop(event.name[0], None)
        names[event.name[1]] = event.node


def record(box, words, given):
    """(the top Node, the events, what the run said) of one sound run below the box's home."""
    words = ["strace", "-f", "--seccomp-bpf", "-y", "-xx", "-s", "9999999", "-o", box.log, "-e",
             f"trace={CALLS}", *box.command(words)]
    recorder = Recorder(box.home)
    done = box.start(words, given, box.env)
    with open(box.log) as file:
        for process, line in joined(file):
            recorder.line(process, line)
    return recorder.top, recorder.events, done


class State:
    """What one cut left: the number of events before it, names by directory, bytes by file.

    lost are the changes of names that did not reach the disk, torn the files that lost bytes.
    """

    def __init__(self, cut, top, names, data, lost, torn):
        self.cut, self.top, self.names, self.data = cut, top, names, data
        self.lost, self.torn = lost, torn

    def story(self):
        """What was lost, for people."""
        return ([f"{event.what} {event.name}" for event in self.lost]
                + [f"bytes of {path}" for path, node in self.walk(self.top) if node in self.torn])

    def walk(self, node, path=""):
        """(path, node) of all that differs from what was before the run, and what is gone."""
        now = self.names.get(node, node.start)
        for name in node.start.keys() - now.keys():
            yield f"{path}{name}", None
        for name, child in now.items():
            if child.folder:
                if child.base is None or node.start.get(name) is not child:
                    yield f"{path}{name}", child
                yield from self.walk(child, f"{path}{name}/")
            elif node.start.get(name) is not child or child in self.data:
                yield f"{path}{name}", child

    def key(self, ignored):
        """The same for states that do not differ but in names that nobody reads."""
        digest = hashlib.sha256()
        for path, node in sorted(self.walk(self.top), key=lambda pair: pair[0]):
            if not ignored.search(path):
                data = None if node is None or node.folder else self.bytes(node)
                digest.update(repr((path, node is None, data)).encode())
        return digest.digest()

    def bytes(self, node):
        """What a file holds."""
        return self.data.get(node, node.start)

    def make(self, base, folder):
        """The state as files, beside links to what was before the run: to read, not to write."""
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run(["cp", "-al", base, folder], check=True)
        for path, node in self.walk(self.top):
            path = os.path.join(folder, path)
            if os.path.isdir(path) and not os.path.islink(path) and not (node and node.folder):
                shutil.rmtree(path)
            elif os.path.lexists(path) and not (node and node.folder):
                os.unlink(path)
            if node and node.folder:
                os.makedirs(path, exist_ok=True)
            elif node:
                with open(path, "wb") as file:
                    file.write(self.bytes(node))


def choices(items, limit, chance, rest):
    """Subsets of items (the ones that reached the disk): all if they are few, else all and none,
    every prefix, single omission and single one (MOST of each, if there are more), and rest at
    random."""
    if len(items) <= limit:
        for bits in itertools.product((True, False), repeat=len(items)):
            yield [item for item, bit in zip(items, bits, strict=True) if bit]
        return
    yield from (items, [])
    for number in sorted(chance.sample(range(len(items)), min(MOST, len(items)))):
        yield items[:number]
        yield items[:number] + items[number + 1:]
        yield [items[number]]
    for _ in range(rest):
        yield [item for item in items if chance.random() < 0.5]


def contents(node, durable, now):
    """What a file that was not synced may hold: all, nothing new, or a part."""
    part = now[:len(durable) + max(0, len(now) - len(durable)) // 2]
    return list(dict.fromkeys((now, durable, part, b"")))


def states(top, events, chance, ignored, limit=5, rest=12, most=150):
    """Every State that is legal, once; ignored (a pattern) are names that nobody reads.

    Of more than most cuts the last third of most is taken, and of the others so many at random.
    """
    durable, synced, now, pending, seen = {}, {}, {}, [], set()
    wanted, last = set(range(len(events) + 1)), most // 3
    if len(wanted) > most:
        wanted = {*chance.sample(range(len(events) + 1 - last), most - last),
                  *range(len(events) + 1 - last, len(events) + 1)}
    for cut in range(len(events) + 1):
        if cut:
            event = events[cut - 1]
            if event.what == "bytes":
                now[event.node] = event.data
            elif event.what == "sync" and not event.node.folder:
                synced[event.node] = now.get(event.node, event.node.start)
            elif event.what == "sync":
                names = durable.setdefault(event.node, dict(event.node.start))
                for one in [one for one in pending if one.dir is event.node]:
                    apply(one, names)
                pending = [one for one in pending if one.dir is not event.node]
            else:
                pending.append(event)
        if cut not in wanted:
            continue
        for state in cut_states(cut, top, durable, synced, now, pending, chance, limit, rest):
            key = (state.cut == len(events), state.key(ignored))
            if key not in seen:
                seen.add(key)
                yield state


def cut_states(cut, top, durable, synced, now, pending, chance, limit, rest):
    """The States of one cut."""
    soft = [node for node in now if now[node] != synced.get(node, node.start)]
    ways = [contents(node, synced.get(node, node.start), now[node]) for node in soft]
    for some in choices(pending, limit, chance, rest):
        names = {folder: dict(found) for folder, found in durable.items()}
        for event in some:
            apply(event, names.setdefault(event.dir, dict(event.dir.start)))
        lost = [event for event in pending if event not in some]
        if len(soft) <= 2:
            picked = itertools.product(*ways)
        else:
            picked = [[way[min(n, len(way) - 1)] for way in ways] for n in range(3)]
            picked += [[way[min(1, len(way) - 1) * (n == m)] for m, way in enumerate(ways)]
                       for n in range(len(ways))]
        for data in picked:
            held = {**synced, **dict(zip(soft, data, strict=True))}
            torn = [node for node in soft if held[node] != now[node]]
            yield State(cut, top, names, held, lost, torn)
