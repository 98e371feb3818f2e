"""A job's record: its states, its owner, who may touch it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from stager.errors import HostError, InternalError, NotFoundError, UsageError
from stager.host.record import JobDirectory, list_jobs, rfc3339
from stager.model import JobState


@pytest.fixture
def job(tmp_path: Path) -> Iterator[JobDirectory]:
    with JobDirectory.create(str(tmp_path), "7", "train") as job:
        yield job


def test_record_goes_forward_and_never_back(job: JobDirectory) -> None:
    for state in (JobState.READY, JobState.RUNNING, JobState.ENDED, JobState.PERSISTED, JobState.REMOVED):
        job.advance(state)
        assert job.record.state is state
        with pytest.raises(InternalError):
            job.advance(JobState.STAGING)
    assert list(job.record.times) == [str(state) for state in JobState if state is not JobState.CREATED]


def test_new_job_is_private_and_listed(job: JobDirectory, tmp_path: Path) -> None:
    assert os.stat(job.path).st_mode & 0o777 == 0o700
    (record,) = list_jobs(str(tmp_path))
    assert (record.id, record.name, record.shown_state()) == ("7", "train", "staging")
    assert record.is_active()


def test_second_stager_on_one_job_is_refused(job: JobDirectory, tmp_path: Path) -> None:
    with pytest.raises(HostError, match="another stager is at work"):
        JobDirectory.open(str(tmp_path), "7")
    with pytest.raises(HostError, match="another stager is at work"):
        JobDirectory.create(str(tmp_path), "7", "train")


def test_id_of_a_job_that_is_ready_is_taken(tmp_path: Path) -> None:
    with JobDirectory.create(str(tmp_path), "7", "train") as job:
        job.advance(JobState.READY)
    with pytest.raises(UsageError, match="job 7 exists"):
        JobDirectory.create(str(tmp_path), "7", "train")


def test_interrupted_or_removed_job_may_be_staged_again(tmp_path: Path) -> None:
    with JobDirectory.create(str(tmp_path), "7", "train"):
        pass
    with JobDirectory.create(str(tmp_path), "7", "train") as job:
        job.advance(JobState.REMOVED)
    with JobDirectory.create(str(tmp_path), "7", "other") as job:
        assert job.record.state is JobState.STAGING


@pytest.mark.parametrize("job_id", ["", "..", ".hidden", "a/b", "a\nb", "x" * 161, "-x"])
def test_id_that_is_no_plain_name_is_refused(tmp_path: Path, job_id: str) -> None:
    with pytest.raises(UsageError):
        JobDirectory.create(str(tmp_path), job_id, "n")
    with pytest.raises(UsageError):
        JobDirectory.open(str(tmp_path), job_id)
    assert list(tmp_path.iterdir()) == []


def test_job_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no job 7"):
        JobDirectory.open(str(tmp_path), "7")
    assert list_jobs(str(tmp_path)) == []


def test_crashed_job_is_told_from_one_at_work(job: JobDirectory) -> None:
    dead = msgspec.structs.replace(job.record, owner=msgspec.structs.replace(job.record.owner, start=1))
    assert dead.shown_state() == "crashed"
    assert msgspec.structs.replace(dead, error="no such bucket").shown_state() == "failed"
    assert msgspec.structs.replace(dead, state=JobState.ENDED).shown_state() == "ended"


def test_damaged_record_is_an_error_and_does_not_hide_the_others(tmp_path: Path) -> None:
    for job_id in ("1", "2"):
        JobDirectory.create(str(tmp_path), job_id, "n").__exit__()
    (tmp_path / "jobs" / "1" / "job.json").write_text("{")
    with pytest.raises(HostError, match="damaged"):
        JobDirectory.open(str(tmp_path), "1")
    assert [record.id for record in list_jobs(str(tmp_path))] == ["2"]


def test_times_are_rfc_3339_in_utc() -> None:
    assert rfc3339(0.25) == "1970-01-01T00:00:00.250Z"
