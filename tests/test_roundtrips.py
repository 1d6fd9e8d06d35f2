"""What comes back is what was there: random footprints through a restore, random bytes through git
"""
import os
import shutil
import stat
import subprocess
import time
import uuid

import pytest

pytestmark = [pytest.mark.logic, pytest.mark.soak]
NASTY = [b"a b", b"new\nline", b'"quoted"', b"'single'", b"-dash", b"--", b"\xff\xfe", b"\xc3\xa9",
         b"e\xcc\x81", b"\xf0\x9f\x98\x80", b"back\\slash", b"tab\there", b"$(x)`y`", b"*", b"[a]",
         b":(top)x", b"%s", b".hidden", b"a.lock", b"#c", b"x" * 255, b"HEAD", b" lead", b"trail ",
         b"\x01", b"~", b"a;b", b"con", b"dot.", b"\xed\xa0\x80", b"\xe2\x80\xa8", b"..."]
BYTES = [b"", b"\0", b"\0" * 500, b"a\r\nb\r\n", b"a\rb", b"\xef\xbb\xbf{}\n", b"$Id$ $Id: x $\n",
         b"\xe2\x80\xa8\xe2\x80\xa9\n", b"\xed\xa0\x80\xed\xb0\x80", b"\xff\xfe\0d\0", b"\n",
         b"no newline", b"a\n\n\n", b"\x1a", b"\x1b[0m", b"blob 5\0", b"100644 x\0", b"{}\n{}"]
DAY = 86400 * 10**9


def content(chance):
    """Bytes that filters, encodings and shells like to change."""
    if chance.random() < .4:
        return chance.randbytes(int(3000 ** chance.random()) - 1)
    return b"".join(chance.choice(BYTES) for _ in range(chance.randint(1, 4)))


class Session:
    """A session with a random footprint."""

    def __init__(self, top, chance):
        self.id = str(uuid.UUID(int=chance.getrandbits(128)))
        self.top, self.chance, self.made = os.fsencode(top), chance, []
        name, project = self.id.encode(), b"projects/-" + chance.choice(NASTY)[:40]
        slug = "plan-" + self.id[:8]
        record = b'{"type":"user","sessionId":"%s","slug":"%s"}\n' % (name, slug.encode())
        self.file(project + b"/%s.jsonl" % name, record + content(chance))
        if chance.random() < .5:
            self.file(b"plans/%s.md" % slug.encode(), content(chance))
        if chance.random() < .3:
            self.file(project + b"/agent-" + name[:7] + b".jsonl", record)
        if chance.random() < .3:
            self.file(b"todos/%s-agent-%s.json" % (name, name), content(chance))
        for folder in (project + b"/" + name, project + b"/" + name + b"/subagents",
                       project + b"/" + name + b"/tool-results", b"file-history/" + name,
                       b"tasks/" + name, b"session-data/" + name):
            if chance.random() < .6:
                self.fill(folder, chance.randint(0, 3))
        self.made = [path for path in self.made if not self.is_folder(path) or self.empty(path)]

    def is_folder(self, path):
        return stat.S_ISDIR(os.lstat(os.path.join(self.top, path)).st_mode)

    def empty(self, path):
        return not os.listdir(os.path.join(self.top, path))

    def fill(self, folder, depth):
        """A directory with files, links and directories, or with nothing."""
        os.makedirs(os.path.join(self.top, folder), exist_ok=True)
        for name in self.chance.sample(NASTY, self.chance.choice([0, 1, 1, 2, 3])):
            path, kind = folder + b"/" + name, self.chance.random()
            if os.path.lexists(os.path.join(self.top, path)):
                continue
            if kind < .2 and depth and len(path) < 1500:
                self.fill(path, depth - 1)
            elif kind < .35:
                text = self.chance.choice([b"nowhere", b"../" + name, b"/nowhere/" + name, name])
                os.symlink(text, os.path.join(self.top, path))
                self.made.append(path)
            else:
                self.file(path, content(self.chance))
        if self.empty(folder):
            self.made.append(folder)

    def file(self, path, data):
        full = os.path.join(self.top, path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "wb") as file:
            file.write(data)
        self.made.append(path)

    def dress(self):
        """Odd modes and times, none so old that the client would purge it."""
        for path in self.made:
            full, mode = os.path.join(self.top, path), self.chance.randrange(0o1000)
            if not os.path.islink(full):
                os.chmod(full, mode | (0o500 if os.path.isdir(full) else 0o400))
            stamp = time.time_ns() + self.chance.randrange(-20 * DAY, 400 * DAY)
            os.utime(full, ns=(stamp, stamp), follow_symlinks=False)

    def found(self):
        """{path: what lies there} of all that was made and whatever else is in those places."""
        entries = {}
        for path in self.made:
            full = os.path.join(self.top, path)
            st = os.lstat(full)
            what = b"link " + os.readlink(full) if stat.S_ISLNK(st.st_mode) else b"empty"
            if stat.S_ISREG(st.st_mode):
                with open(full, "rb") as file:
                    what = file.read()
            elif stat.S_ISDIR(st.st_mode):
                assert self.empty(path)
            entries[path] = st.st_mode, st.st_mtime_ns, st.st_size * stat.S_ISREG(st.st_mode), what
        return entries


def every(top):
    """The paths of all files, links and empty directories."""
    found = set()
    for folder, folders, names in os.walk(os.fsencode(top)):
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        found |= {os.path.relpath(os.path.join(folder, n), os.fsencode(top)) for n in names + links}
        if not folders and not names:
            found.add(os.path.relpath(folder, os.fsencode(top)))
    return found


def test_random_footprints_come_back(sh, home, rounds, seeded, figure):
    """Bytes, sizes, modes, times, link texts, empty directories, under any umask."""
    total, batch, files = rounds(30, 2000), rounds(10, 100), 0
    for number in range(total // batch):
        home.claude.mkdir(exist_ok=True)
        sessions = [Session(home.claude, seeded) for _ in range(batch)]
        for session in sessions:
            session.dress()
        before = {session.id: session.found() for session in sessions}
        assert every(home.claude) == {path for session in sessions for path in session.made}
        sh("csb-changes | csb-gitcommit").ok()
        if seeded.random() < .5:        # news of the deletion, or nothing said of it
            home.claude.rename(home.path / "gone")
            home.claude.mkdir()
            (home.claude / "history.jsonl").touch()
            assert sh("csb-backup --accept-deletions --quiet").rc == 0
            (home.claude / "history.jsonl").unlink()
        else:
            home.claude.rename(home.path / "gone")
        umask = ("077", "022", "000")[number % 3]
        ids = "\n".join(session.id for session in sessions).encode()
        done = sh(f"umask {umask}; csb-restore", ids, timeout=300).ok()
        assert {record["result"] for record in done.records} == {"restored"}
        for session in sessions:
            assert session.found() == before[session.id], session.id
            files += len(session.made)
        assert every(home.claude) == {path for session in sessions for path in session.made}
        shutil.rmtree(home.path / "gone")
        home.claude.rename(home.path / "gone")
        shutil.rmtree(home.path / "gone")
        shutil.rmtree(home.backup)
    figure(f"{total} random footprints of {files} files, links and empty directories, umask 000, "
           "022, 077: all the same as before")


HOSTILE = """[core]\n autocrlf = true\n eol = crlf\n attributesFile = {home}/attr
 fileMode = false\n symlinks = false\n bigFileThreshold = 1\n compression = 9
[filter "x"]\n clean = false\n smudge = false\n required = true\n process = false
[diff "x"]\n textconv = false\n[i18n]\n commitEncoding = latin1\n[transfer]
 fsckObjects = true\n"""


@pytest.mark.parametrize("where", ["our own store", "their repository"])
def test_bytes_in_are_bytes_out(sh, home, rounds, seeded, figure, where):
    """Whatever git is told of line ends, encodings and filters: cat-file has what the disk had."""
    (home.path / ".gitconfig").write_text(HOSTILE.replace("{home}", str(home.path)))
    (home.path / "attr").write_text("* text=auto eol=crlf ident filter=x diff=x "
                                    "working-tree-encoding=UTF-16\n")
    ref, store = "main", f"{home.backup}/git"
    if where == "their repository":
        sh("git init -q", cwd=home.claude).ok()
        (home.claude / ".git/info/attributes").write_text("* text eol=crlf filter=x ident\n")
        ref, store = "refs/csb/main", f"{home.claude}/.git"
    data = {".gitattributes": b"* text eol=crlf ident filter=x\n", ".gitignore": b"*\n"}
    folders = ["todos", "skills/x", "projects/-p", "hooks", "file-history/y"]
    for number in range(rounds(150, 5000)):
        data[f"{seeded.choice(folders)}/{number}"] = content(seeded)
    data["todos/big"] = seeded.randbytes(3 << 20) + b"\r\n"
    for path, value in data.items():
        (home.claude / path).parent.mkdir(parents=True, exist_ok=True)
        (home.claude / path).write_bytes(value)
    done = sh("csb-changes | csb-gitcommit >/dev/null", timeout=300).ok()
    assert done.out == ""
    (home.path / ".gitconfig").unlink()
    names = "".join(f"{ref}:{path}\n" for path in data).encode()
    done = subprocess.run(["git", f"--git-dir={store}", "cat-file", "--batch"], input=names,
                          env=home.env, capture_output=True, check=True)
    rest = done.stdout
    for path, value in data.items():
        head, _, rest = rest.partition(b"\n")
        size = int(head.split()[2])
        assert rest[:size] == value, path
        rest = rest[size + 1:]
    assert rest == b""
    figure(f"{len(data)} random files in {where} under a hostile configuration: all bytes as "
           "they were")
