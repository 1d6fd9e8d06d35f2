"""csb-place and csb-put: many files at a time, in their order, and what a stream may hold"""
import json
import os

import pytest
from conftest import line, name

pytestmark = pytest.mark.logic

STAMP = "2026-11-20T01:02:03.000000004Z"


def put(path, data=b"x\n", end=b"0\n{}\n", **more):
    """A file in the stream that csb-put reads."""
    record = {"kind": "file", "path": path, "mode": "0640", "mtime": STAMP,
              "put": {"type": "100644", "oid": "", **more}}
    return json.dumps(record).encode() + b"\n%d\n%s%s" % (len(data), data, end)


def results(done):
    """[(path below out, result)] in the order in which they were told."""
    return [(r["path"].split("/out/")[1], r["result"]) for r in done.records]


@pytest.mark.parametrize("paths, expected", [
    (["a/b", "a/b"], [("a/b", "restored"), ("a/b", "refused")]),
    (["a/b", "A/B", "a/c"], [("a/b", "restored"), ("A/B", "restored"), ("a/c", "restored")]),
    (["a", "a/b"], [("a", "restored"), ("a/b", "refused")]),
    (["a/b", "a"], [("a/b", "restored"), ("a", "refused")])])
@pytest.mark.few(2)
def test_what_is_in_its_own_way(sh, home, paths, expected):
    """Two of one name in a batch, or a file where another needs a directory: the first stays."""
    done = sh("csb-put --target-dir out", b"".join(map(put, paths)))
    assert results(done) == expected and done.rc == (expected[-1][1] == "refused")
    assert len([path for path in (home.path / "out").rglob("*") if path.is_file()]) == len(
        [one for one in expected if one[1] == "restored"])


def test_many_at_a_time(sh, home):
    """All of several batches, told in their order, a large file among them; the time of a directory
    is its own although its files came later."""
    folder = json.dumps({"kind": "file", "path": "d/", "mode": "0750", "mtime": STAMP,
                         "put": {"type": "040000", "oid": "-"}}).encode() + b"\n"
    paths = [f"{'de'[n % 2]}/{n % 7}/{n}" for n in range(150)]
    big = b"".join(b"%d\n%s" % (1 << 20, bytes([n]) * (1 << 20)) for n in range(5))
    stream = b"".join(map(put, paths)) + put("d/large", b"", b"0\n{}\n").replace(
        b"\n0\n0\n", b"\n%s0\n" % big) + folder + put("d/0/last")
    done = sh("csb-put --target-dir out", stream).ok()
    assert [path for path, _ in results(done)] == [*paths, "d/large", "d/", "d/0/last"]
    assert {result for _, result in results(done)} == {"restored"}
    out = home.path / "out"
    assert (out / "d/large").stat().st_size == 5 << 20 and (out / "d").stat().st_mtime_ns % 10 == 4
    assert {oct(os.stat(out / path).st_mode & 0o777) for path in paths} == {"0o640"}
    assert not [path for path in out.rglob(".csb-tmp-*")]


@pytest.mark.parametrize("bad", [
    put("b", end=b""), put("b", end=b"7\nxx"), put("b")[:-5], put("b", end=b"x\n"),
    put("b", end=b"0\n"), put("b", end=b"99999999\n"), put("b", end=b"0\n5\n"),
    b'{"path":"b"}\n', b'{"put":{}}\n',
    put("b").replace(b"0640", b"rwx"), put("b").replace(STAMP.encode(), b"now"), put(5), b"[]\n",
    put("b", end=b"2\ny\n" * 3 + b"1\n"), put("b", data=b"y" * 99, end=b"-2\n")])
@pytest.mark.few(5)
def test_a_stream_that_is_cut(sh, home, bad):
    """What came whole is there and told; of the rest nothing; one line, status 1."""
    done = sh("csb-put --target-dir out", put("a") + bad)
    assert (done.rc, done.err.count("\n")) == (1, 1), done
    assert results(done) == [("a", "restored")] and os.listdir(home.path / "out") == ["a"]


def test_a_file_that_turns_out_to_be_lost(sh, home):
    """A version of which the end is not to be had leaves nothing; the next one takes its place."""
    lost = put("a", b"", end=b"").replace(b"\n0\n", b"\n" + b"1\nx" * 5 + b"-1\n")
    done = sh("csb-put --target-dir out", lost + put("a", b"older\n") + put("b", end=b"-1\n")).ok()
    assert results(done) == [("a", "restored")]
    assert (home.path / "out/a").read_text() == "older\n" and os.listdir(home.path / "out") == ["a"]


def test_plans_that_two_transcripts_name(sh, home):
    """A plan comes back with the first session that names it, and is there for the second."""
    (home.claude / "projects/-w").mkdir(parents=True)
    (home.claude / "plans").mkdir()
    for number in (1, 2):
        (home.claude / f"projects/-w/{name(number)}.jsonl").write_text(line(slug="one-plan"))
    for plan in ("one-plan", "other"):
        (home.claude / f"plans/{plan}.md").write_text(plan)
    sh("csb-backup --quiet; rm -r ~/.claude/projects ~/.claude/plans")
    done = sh(f"csb-restore {name(1)} {name(2)}").ok()
    assert sorted(r["result"] for r in done.records if "/plans/" in r["path"]) == [
        "kept", "restored"]
    assert os.listdir(home.claude / "plans") == ["one-plan.md"]


@pytest.mark.parametrize("words, results", [
    ("", "restored kept kept"), ("--force", "restored kept restored"),
    ("--dry-run", "restored kept kept"), ("--dry-run --force", "restored kept restored")])
@pytest.mark.few(2)
def test_a_path_that_is_asked_for_again(sh, home, words, results):
    """The same version is there, another one is another file: as if the first had been awaited."""
    path = home.claude / f"projects/-w/{name(1)}.jsonl"
    path.parent.mkdir(parents=True)
    commits = []
    for text in (line("a"), line("a") + line("b")):
        path.write_text(text)
        commits += [r["commit"] for r in sh("csb-backup").ok().records if r["kind"] == "commit"][:1]
    path.unlink()
    asked = "".join(json.dumps({"session_id": name(1), "commit": commit}) + "\n"
                    for commit in (commits[0], commits[0], commits[1]))
    records = "".join(sh("csb-restore --records", part.encode() + b"\n").ok().out
                      for part in asked.splitlines())
    done = sh(f"csb-place {words} --target-dir out", records.encode())
    assert [r["result"] for r in done.records] == results.split(), done
    assert done.rc == ("--force" not in words)


def test_a_plan_that_was_refused_is_not_there_for_the_second(sh, home):
    """csb-place counts on what it has sent; csb-put knows better."""
    (home.claude / "projects/-w").mkdir(parents=True)
    (home.claude / "plans").mkdir()
    for number in (1, 2):
        (home.claude / f"projects/-w/{name(number)}.jsonl").write_text(line(slug="one-plan"))
    (home.claude / "plans/one-plan.md").write_text("plan")
    sh("csb-backup --quiet").ok()
    sh("mkdir -p out else; ln -s ../else out/plans").ok()
    for words in ("--dry-run", ""):
        done = sh(f"csb-restore {words} --target-dir out {name(1)} {name(2)}")
        assert [r["result"] for r in done.records if "/plans/" in r["path"]] == ["refused"] * 2
        assert done.rc == 1 and not os.listdir(home.path / "else")


def test_few_descriptors(sh, home):
    """As many folders are open as the system allows."""
    paths = [f"{n}/a/b/c" for n in range(60)]
    stream = b"".join(map(put, paths))
    done = sh("ulimit -n 64; csb-put --target-dir out", stream).ok()
    assert results(done) == [(path, "restored") for path in paths]
