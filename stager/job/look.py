"""A job as whoever asks for it sees it: its record and what lies beside, read without being at work on it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct

from stager.errors import HostError, NotFoundError, from_os_error
from stager.host.atomic import read_regular
from stager.host.record import Record, find_scratch, record_at
from stager.job.end import RECEIPT
from stager.job.keeps import KEEPS, Keep, keeps_in
from stager.job.placing import job_scratches
from stager.job.progress import PROGRESS, StagingProgress
from stager.model import JobState

__all__ = ["JobLook", "look_at_job"]

_MOST_BYTES: Final = 16 << 20
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class JobLook(Struct, frozen=True, kw_only=True):
    """``directory``: SCRATCH/jobs/ID. Methods block."""

    record: Record
    scratch: str
    directory: str

    @property
    def tree(self) -> str:
        """What the job sees; it need not be there."""
        return os.path.join(self.directory, "tree")

    def receipt(self) -> dict[str, Any]:
        """Empty before it was staged whole, and of an earlier job of the id. Raises `HostError`: damaged."""
        return self._read_json(RECEIPT)

    def keeps(self) -> tuple[Keep, ...]:
        """What is to be kept of it, and where. Raises `HostError`: damaged."""
        return keeps_in(self._read_json(KEEPS), self.record, self.directory)

    def progress(self) -> StagingProgress | None:
        """How far its staging is; None: it is not staging, or nothing is known yet."""
        if self.record.state is not JobState.STAGING:
            return None
        try:
            noted = msgspec.json.decode(self._read(PROGRESS), type=StagingProgress)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return None
        return noted if noted.time_s >= self.record.times.get(JobState.STAGING, 0.0) else None

    def _read_json(self, name: str) -> dict[str, Any]:
        data = self._read(name)
        try:
            return msgspec.json.decode(data, type=dict[str, Any]) if data else {}
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise HostError(f"is damaged: {error}", where=os.path.join(self.directory, name)) from error

    def _read(self, name: str) -> bytes:
        try:
            fd = os.open(self.directory, _DIRECTORY)
            try:
                return read_regular(name, dir_fd=fd, most=_MOST_BYTES)
            finally:
                os.close(fd)
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise from_os_error(error, doing="read the file", where=os.path.join(self.directory, name)) from error


def look_at_job(job_id: str, asked: str | None, environ: Mapping[str, str]) -> JobLook:
    """The job of this id, in the scratch that was asked for, else wherever it lies. Blocks.

    Raises `NotFoundError`: there is none; `UsageError`: the id is none, or several scratches have it; `HostError`: its
    record is damaged.
    """
    scratch = find_scratch(job_scratches(asked, environ), job_id)
    directory = os.path.join(scratch, "jobs", job_id) if scratch is not None else ""
    record = record_at(directory) if directory else None
    if scratch is None or record is None:
        raise NotFoundError(f"no job {job_id} on this node", hint="`stager ls --all` names them")
    return JobLook(record=record, scratch=scratch, directory=directory)
