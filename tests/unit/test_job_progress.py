"""How far the staging of a job is, as others see it."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from stager.events import Planned, Progress, Sink
from stager.host.record import JobDirectory, record_at
from stager.job import progress as job_progress
from stager.job.look import JobLook
from stager.job.progress import Noted, StagingProgress, noting_progress
from stager.model import Counts, JobState


def look(job: JobDirectory) -> JobLook:
    record = record_at(job.path)
    assert record is not None
    return JobLook(record=record, scratch="", directory=job.path)


def test_progress_is_seen_while_a_job_is_staging_and_not_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_progress, "_EVERY_S", 0.01)
    whole, half = Counts(objects=4, bytes=400), Counts(objects=2, bytes=200)
    passed: list[object] = []
    write, written = job_progress._write, threading.Event()

    def write_and_tell(job: JobDirectory, noted: tuple[Noted, ...]) -> None:
        write(job, noted)
        written.set()

    monkeypatch.setattr(job_progress, "_write", write_and_tell)

    async def stage(job: JobDirectory, sink: Sink) -> StagingProgress:
        async with noting_progress(job, sink) as note:
            note(Planned(source="s3://b/", destination="/data/a/b", move=whole, keep=Counts(), skipped=0))
            note(Progress(source="s3://b/", done=half, move=whole, received_bytes=250, seconds=1.0))
            await asyncio.to_thread(written.wait, 60)
            seen = look(job).progress()
            assert seen is not None
            return seen

    with JobDirectory.create(str(tmp_path), "7", "job") as job:
        assert look(job).progress() is None
        seen = asyncio.run(stage(job, passed.append))
        assert seen.sources == (
            Noted(source="s3://b/", destination="/data/a/b", move=whole, done=half, received_bytes=250),
        )
        assert len(passed) == 2
        job.advance(JobState.READY)
        assert look(job).progress() is None
    with JobDirectory.open(str(tmp_path), "7") as job:
        job.advance(JobState.REMOVED)
    with JobDirectory.create(str(tmp_path), "7", "job") as job:  # what an earlier job of the id noted is not this one's
        assert look(job).progress() is None
