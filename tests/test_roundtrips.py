"""What comes back is what was there: random sessions through a restore, random bytes
through git
"""
import os
import shutil
import stat
import time
import uuid

import pytest
from conftest import DAY, held

pytestmark = [pytest.mark.logic, pytest.mark.soak]

NASTY = [
    b"a b", b"new\nline", b'"quoted"', b"'single'", b"-dash", b"--", b"\xff\xfe",
    b"\xc3\xa9", b"e\xcc\x81", b"\xf0\x9f\x98\x80", b"back\\slash", b"tab\there",
    b"$(x)`y`", b"*", b"[a]", b":(top)x", b"%s", b".hidden", b"a.lock", b"#c",
    b"x" * 255, b"HEAD", b" lead", b"trail ", b"\x01", b"~", b"a;b", b"con", b"dot.",
    b"\xed\xa0\x80", b"\xe2\x80\xa8", b"..."]
BYTES = [
    b"", b"\0", b"\0" * 500, b"a\r\nb\r\n", b"a\rb", b"\xef\xbb\xbf{}\n",
    b"$Id$ $Id: x $\n", b"\xe2\x80\xa8\xe2\x80\xa9\n", b"\xed\xa0\x80\xed\xb0\x80",
    b"\xff\xfe\0d\0", b"\n", b"no newline", b"a\n\n\n", b"\x1a", b"\x1b[0m",
    b"blob 5\0", b"100644 x\0", b"{}\n{}"]


def content(chance):
    """Bytes that filters, encodings and shells like to change."""
    if chance.random() < .4:
        size = int(3000 ** chance.random()) - 1
        return chance.randbytes(size)
    return b"".join(chance.choices(BYTES, k=chance.randint(1, 4)))


class Session:
    """A session with random files, links, empty directories: .made are their paths."""

    def __init__(self, top, chance):
        self.top = os.fsencode(top)
        self.chance = chance
        self.made = []
        self.id = str(uuid.UUID(int=chance.getrandbits(128)))
        name = self.id.encode()
        slug = b"plan-" + name[:8]
        project = b"projects/-" + chance.choice(NASTY)[:40]
        record = b'{"type":"user","sessionId":"%s","slug":"%s"}\n' % (name, slug)

        self.file(b"%s/%s.jsonl" % (project, name), record + content(chance))
        if chance.random() < .5:
            self.file(b"plans/%s.md" % slug, content(chance))
        if chance.random() < .3:
            self.file(b"%s/agent-%s.jsonl" % (project, name[:7]), record)
        if chance.random() < .3:
            self.file(b"todos/%s-agent-%s.json" % (name, name), content(chance))
        for folder in (
                project + b"/" + name,
                project + b"/" + name + b"/subagents",
                project + b"/" + name + b"/tool-results",
                b"file-history/" + name,
                b"tasks/" + name,
                b"session-data/" + name):
            if chance.random() < .6:
                self.fill(folder, chance.randint(0, 3))

        # A directory that was empty for a while is none of its own.
        self.made = [path for path in self.made if not self.has_entries(path)]

    def full(self, path):
        return os.path.join(self.top, path)

    def has_entries(self, path):
        full = self.full(path)
        return stat.S_ISDIR(os.lstat(full).st_mode) and bool(os.listdir(full))

    def fill(self, folder, depth):
        """A directory with files, links and directories, or with nothing."""
        os.makedirs(self.full(folder), exist_ok=True)
        for name in self.chance.sample(NASTY, self.chance.choice([0, 1, 1, 2, 3])):
            path = folder + b"/" + name
            kind = self.chance.random()
            if os.path.lexists(self.full(path)):
                continue
            if kind < .2 and depth and len(path) < 1500:
                self.fill(path, depth - 1)
            elif kind < .35:
                targets = [b"nowhere", b"../" + name, b"/nowhere/" + name, name]
                os.symlink(self.chance.choice(targets), self.full(path))
                self.made.append(path)
            else:
                self.file(path, content(self.chance))
        if not self.has_entries(folder):
            self.made.append(folder)

    def file(self, path, data):
        full = self.full(path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "wb") as file:
            file.write(data)
        self.made.append(path)

    def dress(self):
        """Odd modes and times, none so old that Claude Code would purge it."""
        for path in self.made:
            full = self.full(path)
            mode = self.chance.randrange(0o1000)
            if os.path.isdir(full):
                mode |= 0o500
            else:
                mode |= 0o400
            if not os.path.islink(full):
                os.chmod(full, mode)
            age = self.chance.randrange(-400 * DAY * 10**9, 20 * DAY * 10**9)
            stamp = time.time_ns() - age
            os.utime(full, ns=(stamp, stamp), follow_symlinks=False)

    def found(self):
        """{path: what lies there now} of all that was made."""
        entries = {}
        for path in self.made:
            full = self.full(path)
            st = os.lstat(full)
            if stat.S_ISLNK(st.st_mode):
                what = "link", os.readlink(full)
            elif stat.S_ISDIR(st.st_mode):
                what = "directory", os.listdir(full)
            else:
                with open(full, "rb") as file:
                    what = "file", file.read()
            entries[path] = st.st_mode, st.st_mtime_ns, what
        return entries


def every(top):
    """The paths of all files, links and empty directories."""
    top = os.fsencode(top)
    found = set()
    for folder, folders, names in os.walk(top):
        for name in folders:
            if os.path.islink(os.path.join(folder, name)):
                names.append(name)
        if not folders and not names:
            found.add(folder)
        found.update(os.path.join(folder, name) for name in names)
    return {os.path.relpath(path, top) for path in found}


def test_random_footprints_come_back(sh, home, rounds, seeded, figure):
    """Bytes, sizes, modes, times, link texts, empty directories, under any umask."""
    total = rounds(30, 2000)
    batch = rounds(10, 100)
    files = 0
    gone = home.path / "gone"
    history = home.claude / "history.jsonl"
    for number in range(total // batch):
        home.claude.mkdir(exist_ok=True)
        sessions = [Session(home.claude, seeded) for _ in range(batch)]
        for session in sessions:
            session.dress()
        before = [session.found() for session in sessions]
        made = set().union(*before)
        assert every(home.claude) == made
        sh("csb-changes | csb-gitcommit").ok()

        home.claude.rename(gone)
        if seeded.random() < .5:        # news of the deletion, or nothing said of it
            home.claude.mkdir()
            history.touch()
            assert sh("csb-backup --accept-deletions --quiet").rc == 0
            history.unlink()

        umask = ("077", "022", "000")[number % 3]
        ids = "\n".join(session.id for session in sessions)
        done = sh(f"umask {umask}; csb-restore", ids.encode(), timeout=300).ok()
        assert {record["result"] for record in done.records} == {"restored"}
        for session, entries in zip(sessions, before, strict=True):
            assert session.found() == entries, session.id
        assert every(home.claude) == made
        files += len(made)
        for folder in (gone, home.claude, home.backup):
            shutil.rmtree(folder)
    figure(f"{total} random footprints of {files} files, links and empty directories, "
           "umask 000, 022, 077: all the same as before")


HOSTILE = """
[core]
 autocrlf = true
 eol = crlf
 attributesFile = ~/attr
 fileMode = false
 symlinks = false
 bigFileThreshold = 1
 compression = 9
[filter "x"]
 clean = false
 smudge = false
 required = true
 process = false
[diff "x"]
 textconv = false
[i18n]
 commitEncoding = latin1
[transfer]
 fsckObjects = true
"""
CRLF = "* text eol=crlf ident filter=x\n"


@pytest.mark.parametrize("where", ["our own store", "their repository"])
def test_bytes_in_are_bytes_out(sh, home, rounds, seeded, figure, where):
    """Whatever git is told of line ends and filters: it has the disk's bytes."""
    (home.path / ".gitconfig").write_text(HOSTILE)
    (home.path / "attr").write_text(
        "* text=auto eol=crlf ident filter=x diff=x working-tree-encoding=UTF-16\n")
    ref, store = "main", home.backup / "git"
    if where == "their repository":
        ref, store = "refs/csb/main", home.claude / ".git"
        sh("git init -q", cwd=home.claude).ok()
        (store / "info/attributes").write_text(CRLF)

    data = {".gitattributes": CRLF.encode(), ".gitignore": b"*\n"}
    folders = ["todos", "skills/x", "projects/-p", "hooks", "file-history/y"]
    for number in range(rounds(150, 5000)):
        data[f"{seeded.choice(folders)}/{number}"] = content(seeded)
    data["todos/big"] = seeded.randbytes(3 << 20) + b"\r\n"
    for path, value in data.items():
        (home.claude / path).parent.mkdir(parents=True, exist_ok=True)
        (home.claude / path).write_bytes(value)
    sh("csb-changes | csb-gitcommit >/dev/null", timeout=300).ok()

    (home.path / ".gitconfig").unlink()
    found = held(sh, f"'{store}'", ref)
    assert found.keys() == data.keys()
    for path, value in data.items():
        assert found[path] == value, path
    figure(f"{len(data)} random files in {where} under a hostile configuration: all "
           "bytes as they were")
