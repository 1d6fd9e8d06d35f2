#!/usr/bin/env python3
"""make tests/first_design.tar.xz: three homes with stores that the first design wrote

  tests/first_design.py BIN      the tools of commit 47ccca6, which wrote what is there

Beside each home (own: a store of ours; theirs: a person's repository; moved: a home
that had another name once) a list of what its files held, taken from the disk, never
from a store. The words are made up, the same ones each time; the clock and the inodes
are not. Needs Linux, and to be root in a namespace of its own: the homes lie at the
places that their stores note.
"""
import hashlib
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import time

OUT = os.path.join(os.path.dirname(os.path.realpath(__file__)), "first_design.tar.xz")
HOME = "/home/ada"
LARGE, SMALL, GONE = (f"0c5b0001-0000-4000-8000-{number:012d}" for number in (1, 2, 3))
WORDS = """the harbour light is on again and we count the boats that come home before
    noon while somebody writes their names into the book beside the window""".split()
PAUSE = 2.2     # seconds: a file that was written just now is read again, by rule


def message(session, number, chance, words=12):
    """A line of a transcript."""
    text = " ".join(chance.choices(WORDS, k=words))
    minute = number // 60 % 60
    record = {
        "type": "user",
        "sessionId": session,
        "cwd": HOME + "/app",
        "uuid": f"u-{number}",
        "timestamp": f"2026-01-02T03:{minute:02d}:{number % 60:02d}.000Z",
        "message": {"role": "user", "content": text}}
    return json.dumps(record).encode() + b"\n"


def sha256(data):
    return hashlib.sha256(data).hexdigest()


class Life:
    """A home, and what happens in it."""

    def __init__(self, tools, case):
        self.case = case
        self.home = HOME
        self.tools = tools
        self.chance = random.Random(case)
        self.lines = 0          # that were said
        self.versions = {}      # {path: the sha256 of each version}
        self.gone = {}          # {path: its sha256}
        # Lines that are used again and again: a store of them is small.
        self.stock = [message(LARGE, number, self.chance, 60) for number in range(8)]
        os.makedirs(f"{self.home}/.claude")

    @property
    def claude(self):
        return f"{self.home}/.claude"

    def run(self, line):
        env = {
            "HOME": self.home,
            "PATH": f"{self.tools}:/usr/bin:/bin",
            "LC_ALL": "C",
            "TZ": "UTC",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_CONFIG_SYSTEM": "/dev/null",
            "GIT_AUTHOR_NAME": "ada",
            "GIT_AUTHOR_EMAIL": "ada@example.org",
            "GIT_COMMITTER_NAME": "ada",
            "GIT_COMMITTER_EMAIL": "ada@example.org"}
        subprocess.run(
            ["bash", "-o", "pipefail", "-ec", line], env=env, check=True,
            cwd=self.home, stdout=subprocess.DEVNULL)

    def write(self, path, data, mode=0o600, more=False):
        full = f"{self.claude}/{path}"
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "ab" if more else "wb") as file:
            file.write(data)
        os.chmod(full, mode)

    def say(self, session, folder, size, stock=False):
        """Append lines of about so many bytes to a transcript."""
        lines = []
        length = 0
        while length < size:
            self.lines += 1
            if stock and self.chance.random() < .99:
                line = self.chance.choice(self.stock)
            else:
                line = message(session, self.lines, self.chance)
            lines.append(line)
            length += len(line)
        path = f"projects/{folder}/{session}.jsonl"
        self.write(path, b"".join(lines), 0o640, more=True)

    def backup(self, options=""):
        time.sleep(PAUSE)
        self.run(f"csb-backup {options}")
        for path, data in on_disk(self.claude).items():
            versions = self.versions.setdefault(path, [])
            digest = sha256(data)
            if digest not in versions:
                versions.append(digest)

    def live(self, folder="-home-ada-app"):
        """Three backups: a transcript that grows, a session that goes, and the rest."""
        self.say(LARGE, folder, 1_150_000, stock=True)
        self.say(SMALL, folder, 3000)
        self.say(GONE, folder, 2000)
        self.write(
            f"projects/{folder}/{SMALL}/subagents/agent-1.jsonl",
            message(SMALL, 7, self.chance))
        self.write(
            f"projects/{folder}/memory/MEMORY.md", b"# what we know\n\nthe harbour\n")
        self.write(
            f"file-history/{SMALL}/0a@v1",
            b"def count(boats):\n    return len(boats)\n")
        self.write(f"todos/{GONE}.json", b"[]")
        self.write("settings.json", b'{"cleanupPeriodDays": 60}\n')
        self.write("CLAUDE.md", b"count the boats\n", 0o644)
        self.write("skills/count boats/SKILL.md", "gez\u00e4hlt wird \u2713\n".encode())
        self.write("skills/count boats/run", b"#!/bin/sh\necho 3\n", 0o755)
        os.makedirs(f"{self.claude}/agents/empty")
        os.symlink("../CLAUDE.md", f"{self.claude}/skills/link")
        # What the rules of today refuse, and those of then did not.
        self.write("debug/log.txt", b"a log of the client\n")
        self.write("shell-snapshots/one.sh", b"export A=1\n")
        self.backup()
        self.say(LARGE, folder, 10_000)
        self.say(SMALL, folder, 500)
        self.remove(f"projects/{folder}/{GONE}.jsonl")
        self.remove(f"todos/{GONE}.json")
        self.backup()
        self.say(LARGE, folder, 10_000)
        self.write("settings.json", b'{"cleanupPeriodDays": 90}\n')
        self.backup()

    def remove(self, path):
        full = f"{self.claude}/{path}"
        with open(full, "rb") as file:
            self.gone[path] = sha256(file.read())
        os.unlink(full)

    def record(self):
        """What a test needs to know, all of it as it was on the disk."""
        disk = on_disk(self.claude)
        return {
            "claude": self.claude,
            "disk": {path: sha256(data) for path, data in disk.items()},
            "versions": self.versions,
            "gone": self.gone}


def own(life):
    life.live()


def theirs(life):
    """The Claude directory is a repository of ada's own."""
    life.run("git -C .claude init -q -b main")
    life.write(".gitignore", b"projects/\n")
    life.write("CLAUDE.md", b"first words\n")
    life.run("git -C .claude add -A")
    life.run("git -C .claude commit -q -m 'what I wrote'")
    life.live()


def moved(life):
    """ada becomes grace: other names of home and projects, and the store goes on."""
    life.live()
    os.rename("/home/ada", "/home/grace")
    life.home = "/home/grace"
    projects = f"{life.claude}/projects"
    os.rename(f"{projects}/-home-ada-app", f"{projects}/-home-grace-app")
    life.say(LARGE, "-home-grace-app", 10_000)
    life.backup("--adopt")


def on_disk(top):
    """{path: bytes} of the files below a directory, without those of git."""
    found = {}
    for folder, folders, names in os.walk(top):
        folders[:] = [name for name in folders if name != ".git"]
        for name in names:
            full = os.path.join(folder, name)
            if not os.path.islink(full):
                with open(full, "rb") as file:
                    found[os.path.relpath(full, top)] = file.read()
    return found


def plain(info):
    """A tar's entry without what is of the machine that made it."""
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    return info


def main():
    tools = os.path.realpath(sys.argv[1])
    if "--inside" not in sys.argv:
        words = [sys.executable, __file__, tools, "--inside"]
        os.execvp("unshare", ["unshare", "-rm", *words])
    subprocess.run(["mount", "-t", "tmpfs", "none", "/home"], check=True)
    os.umask(0o077)
    with tarfile.open(OUT, "w:xz", format=tarfile.PAX_FORMAT, preset=9) as tar:
        for live in (own, theirs, moved):
            life = Life(tools, live.__name__)
            live(life)
            pack(tar, life)
            shutil.rmtree(life.home)
    print(f"{OUT}: {os.path.getsize(OUT)} bytes")


def pack(tar, life):
    """Add a home and its record."""
    for name in (".claude", ".claude-backup"):
        tar.add(f"{life.home}/{name}", f"{life.case}/{name}", filter=plain)
    text = json.dumps(life.record(), indent=1).encode()
    info = tarfile.TarInfo(f"{life.case}/record.json")
    info.size = len(text)
    tar.addfile(info, io.BytesIO(text))


if __name__ == "__main__":
    main()
