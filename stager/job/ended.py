"""What jobs that have ended left on this node, and its removal when the operator says so; nothing goes by itself.

A job has ended when its command did, when its staging failed, or when its stager is gone. What is running, created, or
staged and waiting for its user is none, however old it is; nor is a tree whose logs are kept nowhere else, unless that
is said.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Literal

from msgspec import Struct

from stager.errors import HostError, StagerError, UsageError
from stager.host.forgetting import forget_job
from stager.host.record import JobDirectory, Record, list_jobs
from stager.host.tree_files import walk_files
from stager.job.end import check_teardown, find_losses, remove_creation, teardown_job
from stager.model import Counts, JobState
from stager.stages.discard import Discarded

__all__ = ["EndedJob", "find_ended", "remove_ended", "size_of"]


class EndedJob(Struct, frozen=True, kw_only=True):
    """One job: ``what`` of it is there, a tree or a record alone, and since when it has been so, in Unix seconds."""

    record: Record
    scratch: str
    what: Literal["tree", "record"]
    since_s: float

    @property
    def directory(self) -> str:
        """SCRATCH/jobs/ID."""
        return os.path.join(self.scratch, "jobs", self.record.id)

    def judge(self, *, discard_uncollected: bool) -> tuple[str, Mapping[str, Discarded]]:
        """Why it may not go, "" when it may; and what is lost with it then. Blocks."""
        try:
            with JobDirectory.open(self.scratch, self.record.id) as job:
                if job.record != self.record:
                    return "it has been started again", {}
                if self.what == "tree":
                    check_teardown(job, discard_uncollected=discard_uncollected)
                    return "", find_losses(job)
        except StagerError as error:
            return error.what, {}
        return "", {}


def find_ended(scratches: Sequence[str], *, before_s: float, records: bool) -> list[EndedJob]:
    """Those that had ended by then, the oldest first; with ``records`` also those whose tree was removed by then.

    Blocks. Raises `HostError`: the jobs cannot be listed.
    """
    found = []
    for scratch in scratches:
        for record in list_jobs(scratch):
            what: Literal["tree", "record"] = "record" if record.state is JobState.REMOVED else "tree"
            since_s = max(record.times.values(), default=0.0)
            if since_s < before_s and (records if what == "record" else _has_ended(record)):
                found.append(EndedJob(record=record, scratch=scratch, what=what, since_s=since_s))
    return sorted(found, key=lambda job: job.since_s)


def _has_ended(record: Record) -> bool:
    """Of whom nothing can be seen from here (of another container) may be at work."""
    if record.state in (JobState.ENDED, JobState.PERSISTED):
        return True
    return record.shown_state() in ("failed", "crashed")


def remove_ended(ended: EndedJob, *, discard_uncollected: bool) -> None:
    """Its tree and what it was created with, or the rest of it. Blocks.

    Raises `UsageError`: it is at work again, or its logs are kept nowhere else; `HostError`, `MountError`.
    """
    with JobDirectory.open(ended.scratch, ended.record.id) as job:
        if job.record != ended.record:
            raise UsageError("it has been started again", where=f"job {ended.record.id}")
        if ended.what == "tree":
            teardown_job(job, discard_uncollected=discard_uncollected)
        remove_creation(job)
        if ended.what == "record":
            try:
                forget_job(job)
            except HostError as error:
                error.where = error.where or job.path
                raise


def size_of(tops: Iterable[str]) -> Counts:
    """Files below these directories, and the bytes that they take on the disk. What cannot be read counts as nothing.
    Blocks.
    """
    files = size = 0
    for top in dict.fromkeys(tops):
        with suppress(OSError):
            for file in walk_files(top):
                files, size = files + 1, size + file.disk_bytes
    return Counts(objects=files, bytes=size)
