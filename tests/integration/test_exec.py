"""Further processes in the view of a running job: ``stager exec``, and the ranks that a launcher starts at once."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.job_driver import Node
from integration.slurm_step import step
from integration.user_node import USER, user_node

pytestmark = pytest.mark.root

LOOK = """readlink /proc/self/ns/mnt /proc/self/ns/user; pwd; ls /data/me/d; echo $COLOR ${AWS_SECRET_ACCESS_KEY-none}
grep -E "Cap|NoNewPrivs|Uid|Gid" /proc/self/status | cksum; ls /proc/self/fd | wc -l"""


@pytest.fixture(params=["root", "user"])
def node(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Node]:
    if request.param == "root":
        yield Node(tmp_path)
        return
    with user_node() as node:
        yield node


@contextlib.contextmanager
def running_job(node: Node) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """A job that runs until it is sent SIGTERM, and what `LOOK` says in it."""
    source = node.root / "source"
    source.mkdir()
    (source / "file").touch()
    source.chmod(0o755)
    job = node.write_job(
        f"""command = ["sh", "-c", '''{LOOK}; exec sleep 600''']
environment = {{ COLOR = "blue" }}
[[dataset]]
name = "me/d"
source = "file://{source}"
"""
    )
    with node.start("run", "--job-id", "7", job) as process:
        try:
            assert process.stdout is not None
            yield process, [process.stdout.readline() for _ in range(7)]
        finally:
            process.terminate()


def test_exec_is_in_the_view_of_the_job_and_ends_with_it(node: Node) -> None:
    with running_job(node) as (process, seen):
        assert seen[2:5] == ["/task\n", "file\n", "blue none\n"]
        assert seen[6] == "4\n"  # no descriptor but the standard streams, and that of the directory
        keeper = json.loads((node.scratch / "jobs" / "7" / "job.json").read_text())["keeper"]
        pid, context = keeper["holder"]["pid"], keeper["context"]
        door = f"cat /proc/{pid}/fd/{context} || ls /proc/{pid}/cwd/. || nsenter -t {pid} -m true"
        script = f"{LOOK}; ({door}) 2>&- && exit 9; exit 3"
        done = node.stager("exec", "7", "--", "sh", "-c", script, AWS_SECRET_ACCESS_KEY="hunter2")
        assert (done.code, done.out) == (3, "".join(seen)), done.err
        foreign = subprocess.run(["sh", "-c", door], user=USER + 1, group=USER + 1, extra_groups=[], cwd="/")
        assert foreign.returncode != 0
        with start_daemon(node) as one:
            process.send_signal(signal.SIGTERM)
            assert process.wait() == 143
            assert one.stdout is not None and one.stdout.read() == ""  # the daemon has gone too
        assert one.returncode == 137
    gone = node.stager("exec", "7", "--", "true")
    assert gone.code == 125 and "does not run, it is " in gone.err


def start_daemon(node: Node) -> subprocess.Popen[str]:
    """An exec whose command hears SIGTERM alone, and has a child that does not."""
    script = "trap 'exit 41' TERM; (trap '' TERM; echo up; exec sleep 600) & wait"
    process = node.start("exec", "7", "--", "sh", "-c", script)
    assert process.stdout is not None and process.stdout.readline() == "up\n"
    return process


def test_end_of_exec_ends_what_it_started_and_not_the_job(tmp_path: Path) -> None:
    node = Node(tmp_path)
    with running_job(node) as (process, _):
        assert node.stager("exec", "7", "--", "no-such-program").code == 127
        for number, code in ((signal.SIGTERM, 41), (signal.SIGKILL, -9)):
            with start_daemon(node) as one:
                one.send_signal(number)
                assert one.stdout is not None and one.stdout.read() == ""
            assert one.returncode == code
        assert process.poll() is None


def test_ranks_of_one_launch_share_one_view_and_each_has_its_status(node: Node, soak: int) -> None:
    ranks = 8 if soak > 1 else 3
    source = node.root / "source"
    source.mkdir()
    (source / "file").touch()
    source.chmod(0o755)
    script = """
    readlink /proc/self/ns/mnt /proc/self/ns/ipc; stat -c %i /data/me/d/file; stat -c %d:%i /dev/shm
    mkdir /logs/$SLURM_LOCALID; exit $SLURM_LOCALID
    """
    argv = ["run", "--data", f"me/d=file://{source}", "--logs", str(node.root / "kept"), "--", "sh", "-c", script]
    started = [node.start(*argv, **step(rank, ranks)) for rank in reversed(range(ranks))]
    told = []
    for rank, process in zip(reversed(range(ranks)), started, strict=True):
        out, err = process.communicate(timeout=60)
        assert process.returncode == rank, err
        told.append((out, err))
    assert len({out for out, _ in told}) == 1
    assert [err == "" for _, err in told] == [True] * (ranks - 1) + [False]  # rank 0 alone stages, collects, removes
    (kept,) = (node.root / "kept" / "9").iterdir()
    assert sorted(path.name for path in kept.glob("[0-9]")) == [str(rank) for rank in range(ranks)]
    assert node.state("9") == "removed"


def test_ranks_end_with_the_failure_of_rank_0(tmp_path: Path) -> None:
    node = Node(tmp_path)
    argv = ["run", "--data", "a/b=file:///no/such/directory", "--", "touch", str(tmp_path / "ran")]
    with node.start(*argv, **step(1, 2)) as other:
        first = node.stager(*argv, **step(0, 2))
        _, err = other.communicate(timeout=60)
    assert (first.code, other.returncode) == (125, 125)
    assert "rank 0" in err and "a/b" in err
    assert not (tmp_path / "ran").exists()
