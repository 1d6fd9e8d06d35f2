"""What csb-index learns from transcripts, for tests that write them as bytes."""
import json
import os
import sqlite3

from conftest import name

# Of a record, what csb-find says and not the transcript.
FOUND = ("kind", "session_id", "project", "root", "transcript_path", "size", "mtime",
         "files", "bytes", "state", "rewritten_at")


class Learning:
    """Runs csb-index on transcripts in a folder of a test's, in an index of theirs."""

    def __init__(self, sh, folder):
        self.sh = sh
        self.folder = folder
        self.home = folder / "learning"
        self.database = self.home / "session-backup.db"
        self.columns = []

    def __call__(self, texts, ids=None, rc=0, **fields):
        """What is known of transcripts, in their order, each a dict.

        texts: bytes, or (bytes, what was known of it when it was shorter). It has what
        the next run is to find (facts parsed prefix), shown, and rewritten.
        """
        lines = []
        rows = []
        names = []
        for number, text in enumerate(texts):
            before = None
            if isinstance(text, tuple):
                text, before = text
            session_id = ids[number] if ids else name(number)
            path = self.folder / "learned" / f"{session_id}.jsonl"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(text)
            names.append(session_id)
            lines.append(json.dumps({**self.found(path), **fields}))
            if before:
                rows.append(before["row"])
        self.prepare(rows)

        given = "\n".join(lines).encode()
        done = self.sh("csb-index", given, CSB_HOME=str(self.home))
        assert (done.rc, done.err) == (rc, ""), done
        assert [record["session_id"] for record in done.records] == names
        return [self.known(record) for record in done.records]

    def found(self, path):
        """A record as csb-find makes it."""
        status = path.stat()
        # A time that no other version of the file has.
        drawn = os.urandom(3)[0]
        part = f"{drawn:03d}{status.st_mtime_ns % 10**6:06d}"
        return {
            "kind": "session",
            "session_id": path.stem,
            "project": "-w",
            "root": str(self.folder),
            "transcript_path": str(path),
            "files": 1 + path.with_suffix("").exists(),
            "size": status.st_size,
            "mtime": f"2026-01-02T03:04:05.{part}Z",
            "bytes": status.st_size}

    def prepare(self, rows):
        """Make the index one that holds these rows."""
        self.database.unlink(missing_ok=True)
        if not rows:
            return
        tables, version, _ = rows[0]
        db = sqlite3.connect(self.database)
        db.executescript(tables)
        db.execute(f"PRAGMA user_version = {version}")
        for _, _, values in rows:
            marks = ", ".join("?" * len(values))
            db.execute(f"INSERT INTO session VALUES ({marks})", values)
        db.commit()
        db.close()

    def keep(self, known):
        """Have the next run find the facts as they were changed."""
        tables, version, row = known["row"]
        row = list(row)
        row[self.columns.index("facts")] = json.dumps(known["facts"])
        known["row"] = tables, version, row

    def known(self, said):
        """What the index holds now of a session."""
        db = sqlite3.connect(self.database)
        key = json.dumps(said["transcript_path"])
        row = db.execute("SELECT * FROM session WHERE path = ?", [key]).fetchone()
        columns = db.execute("PRAGMA table_info(session)")
        self.columns = [column[1] for column in columns]
        made = db.execute("SELECT sql FROM sqlite_master WHERE type = 'table'")
        tables = ";".join(sql for (sql,) in made)
        (version,) = db.execute("PRAGMA user_version").fetchone()
        db.close()

        values = dict(zip(self.columns, row, strict=True))
        shown = json.loads(values["record"])
        for field in FOUND:
            shown.pop(field, None)
        return {
            "session_id": said["session_id"],
            "parsed": values["parsed"],
            "prefix": values["prefix"],
            "facts": json.loads(values["facts"]),
            "shown": shown,
            "change": said["change"],
            "rewritten": "rewritten_at" in said,
            "row": (tables, version, row)}
