"""What is told of a job while it runs and after: its state, its logs; and what may go when it has ended."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from integration.job_driver import Node
from servers.strict_s3 import StrictS3
from stager.errors import HostError
from stager.host.record import JobDirectory
from stager.job.ended import find_ended, remove_ended
from stager.model import JobState


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


_WRITES = """
mkdir -p /logs/sub/deep
printf 'first\\n' > /logs/out; : > /logs/sub/empty; head -c 300000 /dev/urandom > /logs/sub/deep/data
ln -s out /logs/link; ln -s /etc/passwd /logs/away; mkfifo /logs/pipe; sha256sum /logs/sub/deep/data
echo up
read go < /logs/pipe
printf 'last\\n' >> /logs/out
printf 'another\\n' > /logs/late
"""


def test_c21_logs_of_a_job_are_listed_followed_and_copied_while_it_runs_and_after(node: Node, tmp_path: Path) -> None:
    (tmp_path / "write").write_text(_WRITES)
    job = node.write_job(
        f'command = ["sh", "/data/a/b/write"]\n[[dataset]]\nname = "a/b"\nsource = "file://{tmp_path}/in"\n'
        f'[logs]\npersist = "{tmp_path}/kept"\n'
    )
    (tmp_path / "in").mkdir()
    (tmp_path / "write").rename(tmp_path / "in" / "write")
    with node.start("run", "--job-id", "7", job) as running:
        assert running.stdout is not None
        digest = running.stdout.readline().split()[0]
        assert running.stdout.readline() == "up\n"
        listed = [json.loads(line) for line in node.ask("logs", "--json", "7").out.splitlines()]
        status = node.ask("status", "--json", "7").event("job")
        assert (status["state"], status["logs"]) == ("running", f"{node.tree('7')}/logs")
        with node.start("logs", "--follow", "7") as following:
            assert following.stdout is not None
            assert [following.stdout.readline() for _ in range(2)] == ["==> out <==\n", "first\n"]
            (node.tree("7") / "logs" / "pipe").write_text("go\n")
            assert running.wait(60) == 0
            rest = following.stdout.read()
            assert following.wait(60) == 0
        assert "last\n" in rest and "==> late <==\nanother\n" in rest
    sizes = {file["path"]: (file["kind"], file["bytes"]) for file in listed}
    assert sizes == {
        "out": ("file", 6), "sub/empty": ("file", 0), "sub/deep/data": ("file", 300000),
        "link": ("link", 0), "away": ("link", 0), "pipe": ("other", 0),
    }  # fmt: skip
    copied = node.stager("logs", "--to", "copy", "-v", "7")
    assert copied.code == 0, copied.err
    copy = tmp_path / "copy"
    assert {str(path.relative_to(copy)) for path in copy.rglob("*") if not path.is_dir()} == {
        "out", "late", "link", "sub/empty", "sub/deep/data",
    }  # fmt: skip
    assert hashlib.sha256((copy / "sub" / "deep" / "data").read_bytes()).hexdigest() == digest
    assert f"{digest}  sub/deep/data\n" in copied.out
    assert (copy / "sub" / "empty").read_bytes() == b""
    both = node.ask("logs", "7", "out", "late")
    assert both.out == "first\nlast\nanother\n"
    ended = node.ask("status", "7")
    assert f"/mnt/cluster_storage: {node.scratch}/storage" in ended.out and f"logs: {tmp_path}/kept/7/0" in ended.out
    assert "job 7 (job): removed since" in ended.out and "/data/a/b: file://" in ended.out and "exit: 0" in ended.out


def test_status_and_logs_of_what_is_not_there_say_so(node: Node) -> None:
    unknown = node.ask("status", "nobody")
    assert unknown.code == 3 and "no job nobody on this node" in unknown.err
    node.stager("run", "--job-id", "7", "--", "sh", "-c", "echo x > /logs/o; exit 1")
    missing = node.ask("logs", "7", "o", "none")
    assert missing.code == 3 and "none: no such file in the logs" in missing.err
    shutil.rmtree(node.tree("7"))
    none = node.ask("logs", "--path", "7")
    assert none.code == 3 and "no logs of this job: its tree has gone" in none.err


_LEAVES = """
ls -A /mnt/cluster_storage
for kind in cluster user shared; do echo x > /mnt/${kind}_storage/left; done; echo x > /logs/o
"""


def test_a7_a8_a17_what_a_job_leaves_stays_until_it_is_removed_on_request_and_is_not_cloned(
    node: Node, tmp_path: Path
) -> None:
    command = json.dumps(["sh", "-c", _LEAVES])
    job = node.write_job(f'command = {command}\n[logs]\npersist = "{tmp_path}/kept"\n')
    old = node.stager("run", "--keep", "--job-id", "old", job)
    assert (old.code, old.out) == (0, "")
    assert "stager: 1 file, 2 B left in /mnt/cluster_storage" in old.err and "/mnt/user_storage" in old.err
    own = node.stager("run", "--job-id", "own", "--", "sh", "-c", "echo x > /logs/o; exit 1")
    assert own.code == 1 and "left in /mnt/cluster_storage" not in own.err
    storage = node.scratch / "storage"
    with node.start("run", "--job-id", "runs", "--", "sh", "-c", f"{_LEAVES} echo up; exec sleep 600") as running:
        assert running.stdout is not None and running.stdout.readline() == "up\n"
        dry = node.ask("gc", "--dry-run")
        assert "would remove the tree of job old (persisted since" in dry.out
        assert "would remove the cluster storage of job old (" in dry.out
        assert "keeps the tree of job own (ended since" in dry.out and "logs are kept nowhere else" in dry.out
        assert "runs" not in dry.out and node.tree("old").exists()
        since = json.loads((node.scratch / "jobs" / "own" / "job.json").read_text())["times"]["staging"]
        done = node.ask("gc", "--json", "--older-than", datetime.fromtimestamp(since, UTC).isoformat())
        told = [(line["event"], line["what"], line["job"]) for line in map(json.loads, done.out.splitlines())]
        ours = [one for one in told if one[2] in ("old", "own", "runs")]  # other tests' jobs ran on this node too
        assert ours == [("removed", "tree", "old"), ("removed", "cluster storage", "old")]
        assert not node.tree("old").exists() and node.tree("own").exists() and node.tree("runs").exists()
        assert (tmp_path / "kept" / "old" / "0" / "o").read_text() == "x\n"
        assert node.stager("create", "--from", "old", "--job-id", "like").code == 0
        clone = node.stager("run", "like")  # empty, while the settings are those of the other
        assert (clone.code, clone.out) == (0, "") and (tmp_path / "kept" / "like" / "0" / "o").exists()
        assert node.ask("gc", "--older-than", "0s", "--discard-uncollected").code == 0
        assert not node.tree("own").exists() and node.tree("runs").exists()
        assert [name.partition("-")[2] for name in os.listdir(storage / "cluster")] == ["runs"]
        assert (storage / "user" / str(os.geteuid()) / "left").exists() and (storage / "shared" / "left").exists()
        running.terminate()
        running.wait(60)


def test_what_waits_or_works_is_nothing_that_has_ended(tmp_path: Path) -> None:
    scratch = str(tmp_path)
    for job_id, states in {
        "created": [JobState.CREATED], "ready": [JobState.READY], "ended": [JobState.ENDED],
        "persisted": [JobState.PERSISTED], "removed": [JobState.REMOVED],
    }.items():  # fmt: skip
        with JobDirectory.create(scratch, job_id, "job") as job:
            for state in states:
                job._write(msgspec.structs.replace(job.record, state=state))
    with JobDirectory.create(scratch, "failed", "job") as job:
        job.advance(JobState.READY)
        job.fail("a source went")
    with JobDirectory.create(scratch, "staging", "job"):
        found = find_ended([scratch], before_s=time.time() + 1, records=True)
        assert {ended.record.id: ended.what for ended in found} == {
            "ended": "tree", "persisted": "tree", "failed": "tree", "removed": "record",
        }  # fmt: skip
        assert find_ended([scratch], before_s=0.0, records=True) == []
        assert {ended.record.id for ended in find_ended([scratch], before_s=time.time() + 1, records=False)} == {
            "ended", "persisted", "failed",
        }  # fmt: skip
    (ended,) = [ended for ended in found if ended.record.id == "removed"]
    (tmp_path / "jobs" / "removed" / "notes").write_text("mine")
    with pytest.raises(HostError, match="'notes' is nothing that stager has made"):
        remove_ended(ended, discard_uncollected=True)
    (tmp_path / "jobs" / "removed" / "notes").unlink()
    remove_ended(ended, discard_uncollected=False)
    assert "removed" not in os.listdir(tmp_path / "jobs")


def test_logs_in_an_object_store_are_listed_shown_and_copied(tmp_path: Path, strict: StrictS3) -> None:
    strict.buckets["bucket"] = {}
    node = Node(tmp_path, strict.environment())
    write = "mkdir /logs/sub; : > /logs/sub/empty; echo one > /logs/o"
    done = node.stager("run", "--job-id", "7", "--logs", "s3://bucket/logs", "--", "sh", "-c", write)
    assert done.code == 0, done.err
    listed = [json.loads(line) for line in node.stager("logs", "--json", "7").out.splitlines()]
    assert [(file["path"], file["bytes"]) for file in listed] == [("o", 4), ("sub/empty", 0)]
    assert node.stager("logs", "7", "o").out == "one\n"
    copied = node.stager("logs", "--to", "copy", "7")
    assert copied.code == 0 and "2 files, 4 B of the logs of job 7 copied to copy" in copied.out, copied.err
    copy = {str(path.relative_to(tmp_path / "copy")): path for path in (tmp_path / "copy").rglob("*")}
    assert sorted(copy) == ["o", "sub", "sub/empty"] and copy["o"].read_bytes() == b"one\n"
