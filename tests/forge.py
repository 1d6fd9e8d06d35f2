"""An evil store, made by hand out of objects that git itself would refuse to write."""
import hashlib
import json
import os
import re
import zlib

GOOD = "aaaaaaaa-2222-4333-8444-555555555555"
EVIL = "eeeeeeee-2222-4333-8444-555555555555"
FILE, LINK, RUN = "100644", "120000", "100755"
WHEN = 1767323045
# What no tool may write, wherever it goes: a terminal would obey it.
OBEYED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069"
                    "\udc80-\udcff]")
TITLE = json.dumps({"type": "user", "message": {"role": "user", "content": "a fine prompt"}})
SAID = TITLE.encode() + b"\n"


def uuid(number):
    """A session id of the attacker's."""
    return f"eeeeeee{number:x}-2222-4333-8444-555555555555"


class Forge:
    """A bare repository made by hand, out of objects that git itself would refuse to write."""

    def __init__(self, path):
        self.path, self.tip = path, None
        for folder in ("objects/info", "objects/pack", "refs/heads", "info"):
            (path / folder).mkdir(parents=True)
        (path / "HEAD").write_text("ref: refs/heads/main\n")
        (path / "config").write_text("[core]\n repositoryformatversion = 0\n bare = true\n")

    def put(self, kind, data, size=None):
        """Store an object, loose; its id. With a size data is a function that gives its blocks."""
        head = f"{kind} {len(data) if size is None else size}".encode() + b"\0"
        digest, pack, parts = hashlib.sha1(head), zlib.compressobj(1), []
        parts.append(pack.compress(head))
        for block in [data] if size is None else data():
            digest.update(block)
            parts.append(pack.compress(block))
        oid = digest.hexdigest()
        (self.path / "objects" / oid[:2]).mkdir(exist_ok=True)
        (self.path / "objects" / oid[:2] / oid[2:]).write_bytes(b"".join([*parts, pack.flush()]))
        return oid

    def tree(self, files):
        """A tree of [(names, mode, bytes or id)]; a name may be a file and a directory at once."""
        entries, folders = [], {}
        for (name, *rest), mode, value in files:
            name = os.fsencode(name)
            if rest:
                folders.setdefault(name, []).append((rest, mode, value))
            else:
                oid = self.put("blob", value) if isinstance(value, bytes) else value
                entries.append((name, mode.encode(), oid))
        entries += [(name, b"40000", self.tree(inner)) for name, inner in folders.items()]
        entries.sort(key=lambda entry: entry[0] + b"/" * (entry[1] == b"40000"))
        return self.put("tree", b"".join(mode + b" " + name + b"\0" + bytes.fromhex(oid)
                                         for name, mode, oid in entries))

    def commit(self, files, ref="refs/heads/main", who=f"x <x> {WHEN} +0000", head="",
               more="", parent=True):
        """A commit of these files on top of the last one, on a ref; its id."""
        top = f"parent {self.tip}\n" if self.tip and parent else ""
        text = (f"tree {self.tree(files)}\n{top}{more}author {who}\ncommitter {who}\n"
                f"{head}\nx\n")
        self.tip = self.put("commit", text.encode())
        (self.path / ref).parent.mkdir(parents=True, exist_ok=True)
        (self.path / ref).write_text(self.tip + "\n")
        return self.tip


def transcript(session, mode=FILE, data=SAID, project="-p"):
    """The entry of a transcript."""
    return ("projects", project, f"{session}.jsonl"), mode, data


def journal(*lines):
    """The entry of a journal."""
    lines = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    return (".csb", "changes.jsonl"), FILE, os.fsencode("\n".join(lines) + "\n")


def evil_store(home):
    """An evil store with one good session in it, a live session on disk, and a place away."""
    (home.path / "away").mkdir()
    (home.path / "away/mine").write_text("mine\n")
    (home.claude / "projects/-live").mkdir(parents=True)
    (home.claude / "projects/-live/bbbbbbbb-2222-4333-8444-555555555555.jsonl").write_text("{}\n")
    made = Forge(home.path / "evil")
    made.commit([transcript(GOOD)], ref="refs/heads/good")
    return made


LINES = """csb-verify --git-dir ~/evil
csb-find --lost --git-dir ~/evil
(csb-find --lost --git-dir ~/evil; echo {}) | csb-restore --git-dir ~/evil --target-dir ~/out
csb-index --rebuild --git-dir ~/evil | csb-fmt --oneline
csb-list --all
csb list --all --git-dir ~/evil
csb verify --git-dir ~/evil --deep
csb restore --dry-run --force --git-dir ~/evil --target-dir ~/out {}""".format(
    "; echo ".join([GOOD, EVIL, *map(uuid, range(1, 6))]), GOOD)


def survivor(sh, home, listing):
    """A function: run every tool on the evil store, in a terminal's eyes; {line: its Result}.

    Nothing outside of the target and of csb's own home changes, nobody fails in a way that was not
    thought of, and the good session is there afterwards.
    """
    def around():
        found = listing(home.path.parent, skip=("out", ".claude-backup"))
        return {path: entry for path, entry in found.items() if path != "home"}

    def run(count=8, may=()):
        (home.path / "out").mkdir(exist_ok=True)
        before, done = around(), {}
        for line in LINES.split("\n")[:count]:
            done[line] = result = sh(line)
            now = around()
            changed = sorted(path for path in before.keys() | now.keys()
                             if before.get(path) != now.get(path) and path not in may)
            assert not changed, (line, changed[:9])
            assert not OBEYED.search(result.out) and not OBEYED.search(result.err), line
            assert "cannot go on with" not in result.err, (line, result.err)
            assert result.rc in (0, 1), (line, result)
        good = home.path / f"out/projects/-p/{GOOD}.jsonl"
        assert good.exists() and good.read_text() == TITLE + "\n", done
        return done
    return run


def below(top):
    """The paths of all files and links below a directory, as bytes."""
    top = os.fsencode(top)
    return {os.path.relpath(os.path.join(folder, name), top)
            for folder, folders, names in os.walk(top)
            for name in names + [one for one in folders
                                 if os.path.islink(os.path.join(folder, one))]}
