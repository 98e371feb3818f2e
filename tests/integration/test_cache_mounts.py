"""Kept trees that are mounted into a job's view: read-only as they are, or below what the job writes."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.job_driver import Node, Outcome
from integration.other_user import python_for, readable_copy
from integration.sync_driver import wait_until
from integration.test_cache import JOB as READ_WRITE
from integration.test_cache import OBJECTS, contents, dataset, fetched, kept_tree, node_on, stage
from servers.repositories import make_repository
from servers.strict_s3 import StrictS3
from stager.host.procs import descendants, list_processes, read_process

pytestmark = pytest.mark.root

USER = 12_345
READ_ONLY = READ_WRITE + 'access = "read-only"\n'


@pytest.fixture(scope="module")
def disk() -> Iterator[Path]:
    """An ext4, which has no clones, where every user can reach it."""
    top = Path(tempfile.mkdtemp(prefix="stager-disk-"))
    top.chmod(0o755)
    with (top / "image").open("wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", str(top / "image")], check=True)
    (top / "disk").mkdir()
    subprocess.run(["mount", "-o", "loop", str(top / "image"), str(top / "disk")], check=True)
    yield top / "disk"
    subprocess.run(["umount", str(top / "disk")], check=True)
    shutil.rmtree(top)


@pytest.fixture
def node(disk: Path, strict: StrictS3) -> Iterator[Node]:
    with node_on(disk, strict) as node:
        yield node


def run(node: Node, job: str, script: str) -> Outcome:
    return node.stager("run", "--job-id", job, "JOB.toml", "--", "sh", "-c", f"cd /data/o/n\n{script}")


def test_second_job_reads_what_the_first_has_fetched_and_each_writes_for_itself(node: Node, strict: StrictS3) -> None:
    changes = "cat d/b; echo mine > d/b; rm e; chmod 700 a; truncate -s 5 d/deep/c; echo new > new; echo $(ls); cat d/b"
    first = run(node, "one", changes)
    assert (first.code, first.out) == (0, "text\na d new\nmine\n")
    assert "4 files" in first.err and "written or changed in /data/o/n" in first.err
    assert fetched(strict) == sorted(OBJECTS)
    second = run(node, "two", changes)
    assert (second.code, second.out) == (0, first.out)
    assert fetched(strict) == []
    assert contents(kept_tree(node)) == OBJECTS
    assert not os.access(kept_tree(node) / "a", os.X_OK)
    total = {"objects": len(OBJECTS), "bytes": sum(map(len, OBJECTS.values()))}
    receipt = dataset(node, "two")
    assert receipt["reused"] == total
    assert receipt["cache"] == {"how": "overlay", "shared_bytes": total["bytes"], "not_fetched_bytes": total["bytes"]}
    assert not node.tree("two").exists()


def test_read_only_dataset_is_the_kept_tree_itself(node: Node, strict: StrictS3) -> None:
    node.write_job(READ_ONLY)
    attempts = "for f in new a d/b; do ! echo x > $f || exit; done; ! rm e && ! chmod 700 a && ! mount -o remount,rw ."
    for job in ("one", "two"):
        done = run(node, job, f"cat d/b; {attempts}")
        assert (done.code, done.out) == (0, "text\n"), done.err
    assert dataset(node, "two")["cache"]["how"] == "read-only"  # type: ignore[index]
    assert fetched(strict) == sorted(OBJECTS)
    assert contents(kept_tree(node)) == OBJECTS


@pytest.mark.parametrize("job", [READ_ONLY, READ_WRITE])
def test_what_a_job_uses_is_neither_changed_nor_removed_until_it_ends(node: Node, strict: StrictS3, job: str) -> None:
    node.write_job(job)
    script = "mkfifo /logs/go; echo here; read line < /logs/go; cat /data/o/n/d/b"
    with node.start("run", "--job-id", "one", "JOB.toml", "--", "sh", "-c", script) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "here\n"
        used = kept_tree(node)
        assert node.stager("cache", "rm", "--all").code == 7
        strict.buckets["bucket"]["d/b"] = b"newer\n"
        assert run(node, "two", "cat d/b").out == "newer\n"
        assert contents(used) == OBJECTS
        (node.tree("one") / "logs/go").write_text("go\n")
        assert running.stdout.readline() == "text\n"
        running.communicate()
    assert run(node, "three", "cat d/b").out == "newer\n"
    assert not used.exists()
    assert list((kept_tree(node).parent / "uses").iterdir()) == []


@pytest.mark.parametrize("job", [READ_ONLY, READ_WRITE])
def test_mounted_tree_stays_while_a_process_of_the_job_lives(node: Node, job: str) -> None:
    """Though stager and the keeper of the view were killed, and locks went with them."""
    node.write_job(job)
    script = "echo $$; exec > /logs/read 2>&1; sleep 60; cat /data/o/n/d/b"
    with node.start("run", "--job-id", "one", "JOB.toml", "--", "sh", "-c", script) as stager:
        assert stager.stdout is not None
        command = int(stager.stdout.readline())
        keeper = read_process(str(command)).parent  # type: ignore[union-attr]
        records = [json.loads(path.read_bytes()) for path in (kept_tree(node).parent / "uses").iterdir()]
        assert sorted(record["holder"]["pid"] for record in records) == sorted([stager.pid, keeper])
        os.kill(keeper, signal.SIGSTOP)  # who sees stager's end ends the job
        stager.kill()
        os.kill(keeper, signal.SIGKILL)
        stager.communicate()
    ended = os.pidfd_open(command)
    assert node.stager("cache", "rm", "--all").code == 7
    assert contents(kept_tree(node)) == OBJECTS
    for child in descendants(command, list_processes()):
        os.kill(child.pid, signal.SIGKILL)
    select.select([ended], [], [], 60)
    os.close(ended)
    assert (node.tree("one") / "logs/read").read_text().endswith("text\n")
    wait_until(lambda: node.stager("cache", "rm", "--all").code == 0)  # who ends is seen for a moment longer
    assert list((node.scratch / "cache/2").iterdir()) == []


def test_job_cannot_reach_the_cache(node: Node) -> None:
    stage(node, "before")
    looks = f"ls -AR {node.scratch}; cat /proc/self/mountinfo; ls -l /proc/*/fd"
    done = run(node, "one", f"({looks}) 2>/dev/null")
    assert "cache/2" not in done.out
    assert str(kept_tree(node)) not in done.out


def test_planted_file_is_removed_before_a_tree_is_mounted(node: Node) -> None:
    run(node, "one", "true")
    (kept_tree(node) / "d/planted").write_bytes(b"planted")
    assert run(node, "two", "ls d").out == "b\ndeep\n"


def test_tree_that_is_kept_after_the_job_is_whole(node: Node) -> None:
    assert node.stager("run", "--keep", "--job-id", "one", "JOB.toml", "--", "true").code == 0
    assert contents(node.tree("one") / "data/o/n") == OBJECTS


def test_ordinary_user_has_both(node: Node) -> None:
    (node.root / "library").mkdir()
    python = python_for(USER, readable_copy(node.root / "library"))
    make_repository(node.root / "r", {"d/b": b"text\n", "a": b"1"})
    subprocess.run(["chown", "-R", f"{USER}:{USER}", str(node.root)], check=True)
    program = f"import sys; sys.path.insert(0, '{node.root}/library'); from stager.cli import main; sys.exit(main())"
    script = "cd /data/o/n; cat d/b; rm -r d 2>/dev/null; echo more >> a 2>/dev/null; test -e d && echo stays; true"
    source = f'[[dataset]]\nname = "o/n"\nsource = "git+file://{node.root}/r"\n'
    for access, how in (("", "overlay"), ('access = "read-only"', "read-only")):
        node.write_job(source + access)
        done = subprocess.run(
            [python, "-I", "-c", program, "run", "--job-id", how, "JOB.toml", "--", "sh", "-c", script],
            user=USER, group=USER, extra_groups=[], cwd=node.root, capture_output=True, text=True,
            env={"PATH": os.environ["PATH"], "HOME": str(node.root), "STAGER_SCRATCH": str(node.scratch)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout == ("text\n" if how == "overlay" else "text\nstays\n")
        assert dataset(node, how)["cache"]["how"] == how  # type: ignore[index]
        assert not node.tree(how).exists()
    assert contents(kept_tree(node)) == {"d/b": b"text\n", "a": b"1"}
