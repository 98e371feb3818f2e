"""What a job writes in memory counts as its memory, what it writes beside does not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.job_driver import PROGRAM, Node, Outcome
from servers.memory_group import MemoryGroup, NoMemoryGroupError, memory_group

pytestmark = pytest.mark.root

MIB = 1 << 20
LIMIT = 256 * MIB
RAMFS, COMMAND = 100 * MIB, 130 * MIB  # each fits, with what stager takes itself; both do not
JOB = f"""
[tmp]
ramfs_size = "{RAMFS // MIB}M"
ramfs_inodes = 20
[results]
persist = "{{0}}/results"
"""
SCRIPT = """
ls -A /task_tmp /task_ramfs
stat -f -c %T /task_ramfs
for n in $(seq 30); do touch /task_ramfs/$n 2> /dev/null || break; done; echo inodes $((n < 30)); rm /task_ramfs/*
dd if=/dev/zero of=/task_ramfs/full bs=1M 2>&1 | grep -o 'No space left on device'
"$1" -c "len(b'x' * $2)"; echo beside $?
rm /task_ramfs/full
"$1" -c "len(b'x' * $2)"; echo alone $?
dd if=/dev/zero of=/task_tmp/large bs=1M count=$3 conv=fsync 2> /dev/null; echo disk $?
stat -f -c %T /task_tmp | grep -c tmpfs
echo 1 > /task_ramfs/left; echo 1 > /task_tmp/left; echo 1 > /logs/kept; echo 1 > /task/kept
"""


@pytest.fixture
def group() -> Iterator[MemoryGroup]:
    try:
        with memory_group(LIMIT) as group:
            yield group
    except NoMemoryGroupError as error:
        pytest.skip(str(error))


def run_within(group: MemoryGroup, node: Node, *argv: str) -> Outcome:
    """A job whose stager lives in the group with it."""
    done = subprocess.run(
        group.inside([sys.executable, "-c", PROGRAM, "run", *argv]), cwd=node.root, capture_output=True, text=True,
        env={**os.environ, "STAGER_SCRATCH": str(node.scratch)}, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    return Outcome(done.returncode, done.stdout, done.stderr)


def test_q9_q10_q11_q12_ram_disk_is_memory_of_the_job_and_the_disk_is_not(group: MemoryGroup, tmp_path: Path) -> None:
    node = Node(tmp_path)
    job = node.write_job(JOB.format(tmp_path))
    command = ["sh", "-c", SCRIPT, "sh", sys.executable, str(COMMAND), str(2 * LIMIT // MIB)]
    done = run_within(group, node, "--job-id", "7", "--logs", f"{tmp_path}/kept", job, "--", *command)
    assert done.out.splitlines() == [
        "/task_ramfs:", "", "/task_tmp:", "tmpfs", "inodes 1", "No space left on device", "beside 137", "alone 0",
        "disk 0", "0",
    ], done  # fmt: skip
    assert (done.code, group.killed()) == (0, 1)
    found = [path for path in tmp_path.rglob("*") if path.is_file() and path.name in ("left", "kept", "large")]
    assert sorted(path.relative_to(tmp_path).parts[0] for path in found) == ["kept", "results"]


def test_ram_disk_of_no_size_is_half_of_what_the_limit_leaves_and_more_than_there_is_is_refused(
    group: MemoryGroup, tmp_path: Path
) -> None:
    node = Node(tmp_path)
    told = run_within(group, node, "--", "df", "-B1", "--output=size,itotal", "/task_ramfs")
    size, inodes = map(int, told.out.split()[-2:])
    assert LIMIT // 8 < size < LIMIT // 2 and abs(inodes - size // (16 << 10)) <= 1, told
    job = node.write_job(f'[tmp]\nramfs_size = "{2 * LIMIT // MIB}M"\n')
    refused = run_within(group, node, job, "--", "true")
    assert (refused.code, "512M are more than the memory that there is" in refused.err) == (125, True), refused


def test_staging_of_a_job_that_asks_for_more_memory_than_there_is_is_given_up_before_it_moves_anything(
    tmp_path: Path,
) -> None:
    node = Node(tmp_path)
    (tmp_path / "source").mkdir()
    job = node.write_job(
        f'[tmp]\nramfs_size = "900T"\n[[dataset]]\nname = "a/b"\nsource = "file://{tmp_path}/source"\n'
    )
    staged = node.stager("stage", "--job-id", "7", job)
    assert (staged.code, "900T are more than the memory that there is" in staged.err) == (2, True), staged
    assert node.state("7") == "failed"
    assert not node.tree("7").exists()
