"""Play a week of a person: sessions, hooks and a timer, with a full disk on the third
day and a disk that is away on the fifth.

    unshare -rm python3 tests/week.py RUNS-A-DAY SEED LIBRARY

For test_week.py, which says in which home. The clock of each run is that of the week:
LIBRARY is made of shifted.c. What is wrong ends it with a traceback; else it prints one
JSON object of figures.
"""
import hashlib
import json
import os
import random
import subprocess
import sys
import time
import uuid

DAYS = 7
DAY = 86400                     # seconds
FULL_DAY = 2
AWAY_DAY = 4
DISK_SIZE = "64m"
PER_DAY = int(sys.argv[1])
RANDOM = random.Random(int(sys.argv[2]))
LIBRARY = sys.argv[3]

CLAUDE = os.environ["CLAUDE_CONFIG_DIR"]
HOME = os.environ["CSB_HOME"]
TOP = os.environ["HOME"]
DISK = f"{TOP}/disk"            # where the store lies
WHOLE = f"{TOP}/whole"          # the same, always there
STORE = f"{DISK}/git"
BEGAN = time.time()


def mount(*words):
    subprocess.run(["mount", *words], check=True)


def plug_in():
    mount("--bind", WHOLE, DISK)


def pull_out():
    subprocess.run(["umount", DISK], check=True)


def fill(folder):
    """Leave no byte free."""
    with open(f"{folder}/filler", "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 16))
        except OSError:
            pass


class Week:
    """The sessions, and what was seen of the backups."""

    def __init__(self):
        self.seconds = 0            # since the week began
        self.paths = []             # of the transcripts that are there
        self.stored = set()  # ids of the versions that a good run must have stored
        self.good = 0               # runs that said that all is stored
        self.failed = 0
        self.hooks = 0

    def run(self, words, data=b""):
        """A tool, at its time of the week: (status, what it said)."""
        clock = {"LD_PRELOAD": LIBRARY, "CSB_SHIFT": str(int(self.seconds)),
                 "CSB_SHIFT_FILES": "0"}
        done = subprocess.run(words, input=data, env={**os.environ, **clock},
                              capture_output=True, timeout=120)
        said = done.stderr.decode()
        assert "Traceback" not in said, said
        return done.returncode, said

    def write(self, path, data, mode):
        with open(path, mode) as file:
            file.write(data)
        now = BEGAN + self.seconds
        os.utime(path, (now, now))

    def say(self, path, words):
        """One more record of a session."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(BEGAN + self.seconds))
        record = {
            "type": "user",
            "sessionId": os.path.basename(path)[:-6],
            "uuid": str(uuid.UUID(int=RANDOM.getrandbits(128))),
            "cwd": "/srv/app",
            "timestamp": stamp,
            "message": {"role": "user", "content": words},
        }
        self.write(path, json.dumps(record).encode() + b"\n", "ab")

    def work(self):
        """What a person does in the time of one run."""
        if not self.paths or RANDOM.random() < 0.1:
            folder = f"{CLAUDE}/projects/-srv-{RANDOM.choice('abc')}"
            os.makedirs(folder, exist_ok=True)
            name = str(uuid.UUID(int=RANDOM.getrandbits(128), version=4))
            self.paths.append(f"{folder}/{name}.jsonl")
            self.say(self.paths[-1], "a new session")
        count = min(len(self.paths), RANDOM.randrange(3))
        for path in RANDOM.sample(self.paths, count):
            self.say(path, "words " * RANDOM.randrange(1, 2000))

        chance = RANDOM.random()
        if chance < 0.02 and len(self.paths) > 3:
            path = self.paths.pop(RANDOM.randrange(len(self.paths)))
            os.unlink(path)
        elif chance < 0.05:
            self.rewrite(RANDOM.choice(self.paths))
        elif chance < 0.08:
            self.write(f"{CLAUDE}/CLAUDE.md", b"- a rule\n", "ab")
        elif chance < 0.25:
            self.tell_hook(RANDOM.choice(self.paths))

    def rewrite(self, path):
        with open(path, "rb") as file:
            lines = file.readlines()
        self.write(path, b"".join(lines[len(lines) // 2:]), "wb")

    def tell_hook(self, path):
        event = RANDOM.choice(["SessionStart", "PreCompact", "SessionEnd"])
        payload = {"hook_event_name": event, "session_id": os.path.basename(path)[:-6],
                   "transcript_path": path, "source": "startup", "cwd": "/"}
        status, said = self.run(["csb-hook"], json.dumps(payload).encode())
        assert status in (0, 1), (status, said)
        self.hooks += 1
        wait_for_background()

    def back_up(self, day):
        """A run of the timer; what it says must be true."""
        status, said = self.run(["csb-backup", "--quiet", "--event=timer"])
        if day == AWAY_DAY:
            assert status == 3 and said, (status, said)
        if status != 0:
            assert day in (FULL_DAY, AWAY_DAY), (day, status, said)
            assert said, "it failed and did not say why"
            self.failed += 1
            return
        self.good += 1
        held = stored_ids()
        for path in [*self.paths, f"{CLAUDE}/CLAUDE.md"]:
            if os.path.exists(path):
                oid = blob_id(path)
                name = os.path.relpath(path, CLAUDE)
                assert held.get(name) == oid, f"day {day}: {name} is not stored: {said}"
                self.stored.add(oid)


def wait_for_background():
    """Until what a hook has left behind has ended."""
    mark = f"CSB_HOME={HOME}\0".encode()
    deadline = time.monotonic() + 60
    while True:
        running = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/environ", "rb") as file:
                    if mark in file.read() and pid not in OURS:
                        running.append(pid)
            except OSError:
                pass
        if not running:
            return
        assert time.monotonic() < deadline, "what a hook started does not end"
        time.sleep(0.02)


OURS = {str(os.getpid()), str(os.getppid())}


def blob_id(path):
    with open(path, "rb") as file:
        data = file.read()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def git(*words, data=b""):
    done = subprocess.run(["git", f"--git-dir={STORE}", *words], input=data, check=True,
                          capture_output=True)
    return done.stdout


def stored_ids():
    """{path: id of its bytes} in the newest commit."""
    found = {}
    for entry in git("ls-tree", "-r", "-z", "main").split(b"\0")[:-1]:
        head, path = entry.split(b"\t", 1)
        found[path.decode()] = head.split()[2].decode()
    return found


def log_outcomes():
    with open(f"{HOME}/backup.log", encoding="utf-8") as file:
        records = [json.loads(line) for line in file]
    outcomes = [record for record in records if record["kind"] == "backup"]
    for record in outcomes:
        assert record["outcome"] != "failed" or record.get("reason")
    return outcomes


def main():
    for folder in (DISK, WHOLE, f"{CLAUDE}/projects"):
        os.makedirs(folder)
    mount("-t", "tmpfs", "-o", f"size={DISK_SIZE}", "none", WHOLE)
    plug_in()
    week = Week()
    status, said = week.run(["csb-gitcommit", "--make", f"--git-dir={STORE}"])
    assert status == 0, said
    status, said = week.run(["csb-config", "git_dir", STORE])
    assert status == 0, said

    week.work()
    for number in range(DAYS * PER_DAY):
        day, part = divmod(number, PER_DAY)
        week.seconds = number * DAY / PER_DAY
        if part == 0:
            begin(day)
        if 9 <= part * 24 / PER_DAY < 19:
            week.work()
        week.back_up(day)

    kept = git("rev-list", "--objects", "main").split(b"\n")
    kept = {line.split(b" ")[0].decode() for line in kept}
    assert week.stored <= kept, "a version is gone"
    status, said = week.run(["csb-verify"])
    assert status == 0, said
    loose = sum(len(names) for top, _, names in os.walk(f"{STORE}/objects")
                if len(os.path.basename(top)) == 2)
    assert loose <= 1000, loose
    outcomes = log_outcomes()
    print(json.dumps({
        "runs": DAYS * PER_DAY, "good": week.good, "failed": week.failed,
        "hooks": week.hooks, "versions": len(week.stored), "loose": loose,
        "failed in the log": sum(run["outcome"] == "failed" for run in outcomes)}))


def begin(day):
    """What happens to the disk at the beginning of a day."""
    if day == FULL_DAY:
        fill(WHOLE)
    if day == FULL_DAY + 1:
        os.unlink(f"{WHOLE}/filler")
    if day == AWAY_DAY:
        pull_out()
    if day == AWAY_DAY + 1:
        plug_in()


main()
