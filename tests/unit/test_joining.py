"""Who may join a job, and that nobody else's process is ever taken for the keeper of its view."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from msgspec.structs import replace

from stager.errors import AccessDeniedError, BusyError, HostError, NotFoundError, StagerError, UsageError
from stager.host.holders import Holder
from stager.host.launch_notes import leave_note
from stager.host.ranks import Presence, note_rank, rank_presence
from stager.host.record import JobDirectory, KeptBy
from stager.job import joining
from stager.job.joining import exec_in_job, join_launch
from stager.job.rank_wait import wait_for_ranks
from stager.launches import Launch, launch_of
from stager.model import Command, JobState
from stager.time_limits import TimeLimit

ME = Holder.of_self()


@pytest.fixture
def job(tmp_path: Path) -> Iterator[JobDirectory]:
    tmp_path.chmod(0o700)
    with JobDirectory.create(str(tmp_path), "7", "train", launch="slurm 7.0.0") as job:
        yield job


def refusal(scratch: Path, job_id: str = "7") -> StagerError:
    with pytest.raises(StagerError) as caught:
        asyncio.run(exec_in_job(job_id, ["true"], str(scratch), {}))
    return caught.value


@pytest.mark.parametrize(
    ("holder", "kind", "words"),
    [
        (replace(ME, start=ME.start + 1), UsageError, "its view has ended"),  # the number is another's now
        (replace(ME, boot="another"), UsageError, "its view has ended"),
        (replace(ME, pid=1 << 30), UsageError, "its view has ended"),
        (replace(ME, start=0), UsageError, "another container"),
        (replace(ME, uid=ME.uid + 1), AccessDeniedError, f"is of user {ME.uid + 1}"),
    ],
)
def test_keeper_that_is_not_the_one_is_refused(
    job: JobDirectory, tmp_path: Path, holder: Holder, kind: type[StagerError], words: str
) -> None:
    job.advance(JobState.RUNNING)
    job.keep_view(KeptBy(holder=holder, namespace=0, context=0))
    error = refusal(tmp_path)
    assert type(error) is kind and words in str(error)


def test_job_without_a_view_is_refused(job: JobDirectory, tmp_path: Path) -> None:
    assert isinstance(refusal(tmp_path, "8"), NotFoundError)
    assert "it is staging" in str(refusal(tmp_path))
    job.advance(JobState.ENDED)
    assert "it is ended" in str(refusal(tmp_path))


def test_rank_of_a_launch_that_has_ended_is_refused(
    job: JobDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joining, "_COMES_AGAIN_WITHIN_S", 0.0)

    def join() -> None:
        launch = Launch(token="slurm 7.0.0", rank=1, ranks=2)
        command = Command(argv=("true",), environment={}, workdir="/")
        asyncio.run(join_launch("7", launch, lambda _: command, TimeLimit(), str(tmp_path), {}))

    job.fail("no such bucket")
    with pytest.raises(HostError, match="rank 0 of this launch: failed: no such bucket"):
        join()
    job.fail("the server is busy", transient=True)
    with pytest.raises(BusyError):
        join()
    job.advance(JobState.ENDED)
    with pytest.raises(HostError, match="has ended already"):
        join()


def test_view_stays_until_the_last_rank_has_gone(job: JobDirectory) -> None:
    async def wait() -> None:
        waiting = asyncio.ensure_future(wait_for_ranks(job.path, 3))
        for rank in (2, 1):
            note_rank(job.path, rank, ended=False)
        note_rank(job.path, 1, ended=True)
        assert rank_presence(job.path, range(4)) == {
            0: Presence.ABSENT, 1: Presence.GONE, 2: Presence.HERE, 3: Presence.ABSENT
        }  # fmt: skip
        done, _ = await asyncio.wait([waiting], timeout=0.15)
        assert not done
        note_rank(job.path, 2, ended=True)
        await waiting

    asyncio.run(wait())
    asyncio.run(wait_for_ranks(job.path, 4, come_within_s=0))  # one that never came is not waited for

    async def wait_with_signal() -> None:
        note_rank(job.path, 1, ended=False)
        waiting = asyncio.ensure_future(wait_for_ranks(job.path, 4))
        await asyncio.sleep(0)
        os.kill(os.getpid(), signal.SIGHUP)
        done, _ = await asyncio.wait([waiting], timeout=0.15)
        assert not done  # rank 1 has got its own
        note_rank(job.path, 1, ended=True)
        await waiting  # and rank 3 does not come

    asyncio.run(wait_with_signal())


def test_new_job_of_the_same_id_knows_no_ranks(job: JobDirectory, tmp_path: Path) -> None:
    note_rank(job.path, 1, ended=True)
    os.close(os.dup(job.fd))
    job.__exit__()
    with JobDirectory.create(str(tmp_path), "7", "train") as again:
        assert rank_presence(again.path, [1]) == {1: Presence.ABSENT}
        job.fd, job._lock_fd = os.dup(again.fd), os.dup(again.fd)


STEP = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "3", "SLURM_NODEID": "2", "SLURM_LOCALID": "1"}


@pytest.mark.parametrize(
    ("environ", "launch"),
    [
        ({}, None),
        ({**STEP, "SLURM_STEP_TASKS_PER_NODE": "8(x2),4"}, Launch(token="slurm 7.3.0", rank=1, ranks=4)),
        ({**STEP, "SLURM_STEP_TASKS_PER_NODE": "2(x3)", "SLURM_RESTART_COUNT": "1"},
         Launch(token="slurm 7.3.1", rank=1, ranks=2)),
        ({**STEP, "SLURM_STEP_TASKS_PER_NODE": "8(x2)"}, None),
        ({**STEP, "SLURM_STEP_TASKS_PER_NODE": "1,1,1", "SLURM_LOCALID": "0"}, None),
        ({**STEP, "SLURM_STEP_TASKS_PER_NODE": "8(x3)", "SLURM_LOCALID": "8"}, None),
        ({**STEP, "SLURM_STEP_TASKS_PER_NODE": "8(x3)", "SLURM_LOCALID": "-1"}, None),
        ({**STEP, "SLURM_STEP_TASKS_PER_NODE": "8(x99999999999)"}, None),
        ({"SLURM_JOB_ID": "7", "SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_TASKS_PER_NODE": "8"}, None),
        ({**STEP, "SLURM_STEP_TASKS_PER_NODE": "1(x3)", "OMPI_COMM_WORLD_LOCAL_RANK": "3",
          "OMPI_COMM_WORLD_LOCAL_SIZE": "4", "PMIX_NAMESPACE": "x.1"}, Launch(token="mpi x.1", rank=3, ranks=4)),
        ({"MPI_LOCALRANKID": "0", "MPI_LOCALNRANKS": "2"}, Launch(token="mpi ", rank=0, ranks=2)),
    ],
)  # fmt: skip
def test_launch_is_what_the_launcher_says(environ: dict[str, str], launch: Launch | None) -> None:
    assert launch_of(environ) == launch


def test_failure_before_a_rank_came_counts_when_rank_0_does_not_come_again(tmp_path: Path) -> None:
    launch, came_s = Launch(token="slurm 7.0.0", rank=1, ranks=2), time.time()
    look = partial(joining._why_hopeless, "job-of-notes", launch, None)
    leave_note("job-of-notes", "slurm 7.0.0", error="no such bucket", transient=True)
    before, after = look(came_s), look(came_s + 60)
    assert before is not None and after is not None
    assert isinstance(before[0], BusyError) and "no such bucket" in str(before[0])
    assert came_s <= before[1] < came_s + 10
    assert after[1] == came_s + 70
    leave_note("job-of-notes", "slurm 7.0.0")
    assert look(came_s + 60) is None  # it has come again
    leave_note("job-of-notes", "slurm 7.1.0", error="of another launch")
    other = look(came_s)
    assert other is not None and "has not come" in str(other[0]) and other[1] == came_s + 600
