"""An evil store, made by hand out of objects that git itself would refuse to write."""
import hashlib
import json
import os
import re
import zlib

GOOD = "aaaaaaaa-2222-4333-8444-555555555555"
EVIL = "eeeeeeee-2222-4333-8444-555555555555"
LIVE = "bbbbbbbb-2222-4333-8444-555555555555"
FILE, LINK, RUN, FOLDER = "100644", "120000", "100755", "40000"
WHEN = 1767323045
# What no tool may write, wherever it goes: a terminal would obey it.
OBEYED = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069"
    "\udc80-\udcff]")
TITLE = json.dumps({
    "type": "user", "message": {"role": "user", "content": "a fine prompt"}})
SAID = TITLE.encode() + b"\n"


def uuid(number):
    """A session id of the attacker's."""
    return f"eeeeeee{number:x}-2222-4333-8444-555555555555"


class Forge:
    """A bare repository made by hand: git itself would not write its objects."""

    def __init__(self, path):
        self.path = path
        self.tip = None
        for folder in ("objects/info", "objects/pack", "refs/heads", "info"):
            (path / folder).mkdir(parents=True)
        (path / "HEAD").write_text("ref: refs/heads/main\n")
        (path / "config").write_text(
            "[core]\n repositoryformatversion = 0\n bare = true\n")

    def put(self, kind, data, size=None):
        """Store an object, loose; its id.

        With a size data is a function that gives its blocks.
        """
        if size is None:
            blocks = [data]
            size = len(data)
        else:
            blocks = data()
        head = f"{kind} {size}\0".encode()
        digest = hashlib.sha1(head)
        packer = zlib.compressobj(1)
        parts = [packer.compress(head)]
        for block in blocks:
            digest.update(block)
            parts.append(packer.compress(block))
        parts.append(packer.flush())

        oid = digest.hexdigest()
        folder = self.path / "objects" / oid[:2]
        folder.mkdir(exist_ok=True)
        (folder / oid[2:]).write_bytes(b"".join(parts))
        return oid

    def tree(self, files):
        """A tree of [(names, mode, bytes or id)]; its id.

        A name may be a file and a directory at once.
        """
        entries = []
        folders = {}
        for (name, *rest), mode, value in files:
            name = os.fsencode(name)
            if rest:
                folders.setdefault(name, []).append((rest, mode, value))
                continue
            if isinstance(value, bytes):
                value = self.put("blob", value)
            entries.append((name, mode, value))
        for name, inner in folders.items():
            entries.append((name, FOLDER, self.tree(inner)))

        def place(entry):
            name, mode, _ = entry
            return name + b"/" if mode == FOLDER else name
        data = b""
        for name, mode, oid in sorted(entries, key=place):
            data += mode.encode() + b" " + name + b"\0" + bytes.fromhex(oid)
        return self.put("tree", data)

    def commit(self, files, ref="refs/heads/main", who=f"x <x> {WHEN} +0000", head="",
               more="", parent=True):
        """A commit of these files on top of the last one, on a ref; its id."""
        text = f"tree {self.tree(files)}\n"
        if self.tip and parent:
            text += f"parent {self.tip}\n"
        text += f"{more}author {who}\ncommitter {who}\n{head}\nx\n"
        self.tip = self.put("commit", text.encode())
        path = self.path / ref
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.tip + "\n")
        return self.tip


def transcript(session, mode=FILE, data=SAID, project="-p"):
    """The entry of a transcript."""
    return ("projects", project, f"{session}.jsonl"), mode, data


def journal(*lines):
    """The entry of a journal; its lines as text, or as what they say."""
    texts = []
    for line in lines:
        if not isinstance(line, str):
            line = json.dumps(line)
        texts.append(line + "\n")
    # An empty journal has a line, too.
    return (".csb", "changes.jsonl"), FILE, os.fsencode("".join(texts) or "\n")


def evil_store(home):
    """An evil store with one good session, a live session on disk, and a place away."""
    away = home.path / "away"
    away.mkdir()
    (away / "mine").write_text("mine\n")
    live = home.claude / "projects/-live"
    live.mkdir(parents=True)
    (live / f"{LIVE}.jsonl").write_text("{}\n")
    made = Forge(home.path / "evil")
    made.commit([transcript(GOOD)], ref="refs/heads/good")
    return made


EVERY_ID = "; echo ".join([GOOD, EVIL, *map(uuid, range(1, 6))])
TO = "--git-dir ~/evil --target-dir ~/out"
LINES = (
    "csb-verify --git-dir ~/evil",
    "csb-find --lost --git-dir ~/evil",
    f"(csb-find --lost --git-dir ~/evil; echo {EVERY_ID}) | csb-restore {TO}",
    "csb-index --rebuild --git-dir ~/evil | csb-fmt --oneline",
    "csb-list --all",
    "csb list --all --git-dir ~/evil",
    "csb verify --git-dir ~/evil --deep",
    f"csb restore --dry-run --force {TO} {GOOD}")


def survivor(sh, home, listing):
    """A function that runs every tool on the evil store; {line: its Result}.

    Nothing outside of the target and of csb's own home changes, nobody fails in a way
    that was not thought of, no terminal is fooled, and the good session is there
    afterwards.
    """
    def around():
        found = listing(home.path.parent, skip=("out", ".claude-backup"))
        del found["home"]       # its time changes
        return found

    def run(count=None, may=()):
        (home.path / "out").mkdir(exist_ok=True)
        before = around()
        done = {}
        for line in LINES[:count]:
            done[line] = result = sh(line)
            changed = differing(before, around()).difference(may)
            assert not changed, (line, sorted(changed)[:9])
            assert not OBEYED.search(result.out), line
            assert not OBEYED.search(result.err), line
            assert "cannot go on with" not in result.err, (line, result.err)
            assert result.rc in (0, 1), (line, result)
        good = home.path / f"out/projects/-p/{GOOD}.jsonl"
        assert good.exists() and good.read_text() == TITLE + "\n", done
        return done
    return run


def differing(before, now):
    """The paths that are not as they were, in two listings."""
    paths = before.keys() | now.keys()
    return {path for path in paths if before.get(path) != now.get(path)}


def below(top):
    """The paths of all files and links below a directory, as bytes."""
    top = os.fsencode(top)
    found = set()
    for folder, folders, names in os.walk(top):
        for name in names + folders:
            path = os.path.join(folder, name)
            if name in names or os.path.islink(path):
                found.add(os.path.relpath(path, top))
    return found
