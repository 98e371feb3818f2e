"""A job's record: ``job.json`` in the job's directory, written whole or not at all, and who is at work on it.

The state only moves forward (`JobState`). The owner is a process (`stager.host.holders`), so a record whose owner died
is told from one at work, also after a reboot.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Self

import msgspec

from stager.errors import HostError, InternalError, NotFoundError, UsageError, from_os_error
from stager.host.atomic import open_regular, read_regular, write_file
from stager.host.holders import Holder, Life
from stager.host.names_in import names_in
from stager.host.ranks import forget_ranks
from stager.host.workspace import boot_id
from stager.model import JOB_ID, JobState
from stager.scheduler import JobIdentity

__all__ = ["RECORD", "JobDirectory", "KeptBy", "Record", "find_scratch", "list_jobs", "record_at", "rfc3339"]

RECORD: Final = "job.json"
"""In a job's directory."""

_MAX_BYTES: Final = 16 << 20
_NO_JSON: Final = (msgspec.MsgspecError, ValueError, RecursionError)
"""What decoding raises for bytes that are no JSON, no UTF-8, not of the type, or nested without end."""
_ORDER: Final = tuple(JobState)
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def rfc3339(seconds: float) -> str:
    """Unix seconds as RFC 3339 in UTC, to the millisecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class KeptBy(msgspec.Struct, frozen=True, kw_only=True):
    """Who keeps a job's view (`stager.host.keeper`), and its descriptors of the job's user namespace and of what those
    who join have to know: /proc/PID/fd shows them to the job's principal.
    """

    holder: Holder
    namespace: int
    context: int


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept about a job; ``times`` has a Unix time for every state reached. Holds no secret.

    ``restart`` counts the jobs that ran under this id before; ``claim`` is written into the place of the logs, whose
    last ``own_parts`` directories are the job's. ``parts``: of each copy that lies apart, by its place in the tree, the
    part of the job that it lies in (`stager.host.parts`). ``cluster``: its storage (`stager.host.cluster_storage`).
    ``outside``: others than stager run its command, which nobody here sees; root's `stager umount` says that it has
    ended. ``keeper``: while it runs and its view stands. ``launch``: of which start of several processes at once
    (`stager.launches`) it is; "": of one alone. ``transient``: what failed may succeed later.
    """

    id: str
    name: str
    state: JobState
    owner: Holder
    times: dict[str, Annotated[float, msgspec.Meta(ge=0, lt=253402300800)]]  # until the year 9999
    restart: int = 0
    claim: str = ""
    persist: str | None = None
    own_parts: int = 1
    exit_code: int | None = None
    error: str | None = None
    parts: dict[str, str] = {}
    cluster: str = ""
    outside: bool = False
    keeper: KeptBy | None = None
    launch: str = ""
    transient: bool = False
    schema: int = 1

    def may_start_again(self) -> bool:
        """Whether a job of this id may be staged: the earlier one never ran and failed, or what it left is kept."""
        failed = self.state in (JobState.CREATED, JobState.READY) and self.error is not None
        return failed or self.state in (JobState.STAGING, JobState.PERSISTED, JobState.REMOVED)

    def begun_s(self) -> float:
        """When it was created, or its staging began: Unix seconds; 0.0 where that is not recorded."""
        return min(self.times.values(), default=0.0)

    def identity(self) -> JobIdentity:
        """Which job it is, and which attempt."""
        return JobIdentity(id=self.id, attempt=self.restart)

    def has_run(self) -> bool:
        """Whether its command was ever started."""
        return JobState.RUNNING in self.times

    def is_active(self) -> bool:
        """Whether a stager is staging or running it, or others do, as far as can be seen from here."""
        is_at_work = self.state in (JobState.STAGING, JobState.RUNNING) and self.owner.state() is not Life.DEAD
        return is_at_work or self.runs_outside()

    def runs_outside(self) -> bool:
        """Whether its command is run by others than stager, as far as is known; not after another boot."""
        return self.state is JobState.RUNNING and self.outside and self.owner.boot == boot_id()

    def shown_state(self) -> str:
        """The state, or "crashed" when its owner died in the middle of it."""
        if self.state in (JobState.CREATED, JobState.READY) and self.error:
            return "failed"
        if self.runs_outside():
            return str(self.state)
        if self.state in (JobState.STAGING, JobState.RUNNING) and self.owner.state() is Life.DEAD:
            return "failed" if self.error else "crashed"
        return str(self.state)


class JobDirectory:
    """``SCRATCH/jobs/ID``, open: ``tree/`` is what the job sees, ``state/`` and the records beside it are ours."""

    def __init__(self, path: str, record: Record, fd: int, lock_fd: int) -> None:
        self.path = path
        self.record = record
        self.fd = fd
        self._lock_fd = lock_fd

    @classmethod
    def create(
        cls, scratch: str, job_id: str, name: str, *, restart: int = 0, state: JobState = JobState.STAGING,
        starts_created: bool = False, launch: str = "",
    ) -> JobDirectory:  # fmt: skip
        """A new job, or one in place of another of its id that never ran, or whose logs are kept.

        ``restart``: how often the scheduler says that the job was started before; the record may know of more.
        ``state``: CREATED for one that is started later. ``starts_created``: that is this one. ``launch``: see
        `Record`; who came to an earlier one has not come to this.
        Raises `UsageError`: the id is bad, or taken by another job. `HostError`: another stager is at work on it.
        """
        _check_id(job_id)
        path = os.path.join(scratch, "jobs", job_id)
        try:
            os.makedirs(os.path.join(scratch, "jobs"), mode=0o700, exist_ok=True)
            with suppress(FileExistsError):
                os.mkdir(path, 0o700)
        except OSError as error:
            raise from_os_error(error, doing="make the job's directory", where=path) from error
        with ExitStack() as undo:
            fd = _open_directory(path, undo)
            lock_fd = _lock(fd, path, undo)
            old = _read(fd, path)
            may_start = old is None or old.may_start_again() or (starts_created and old.state is JobState.CREATED)
            if old is not None and not may_start:
                raise UsageError(
                    f"job {job_id} exists ({old.shown_state()})", where=path,
                    hint=f"end it with `stager teardown {job_id}`, or choose another with --job-id",
                )  # fmt: skip
            times: dict[str, float] = {state: time.time()}
            if starts_created and old is not None and JobState.CREATED in old.times:
                times[JobState.CREATED] = old.times[JobState.CREATED]
            claim = f"{job_id} {secrets.token_hex(8)}"
            if old is not None:
                restart = max(restart, old.restart + old.has_run())
                claim = claim if old.has_run() else old.claim
            record = Record(
                id=job_id, name=name, state=state, owner=Holder.of_self(), times=times, restart=restart, claim=claim,
                parts=old.parts if old is not None else {}, launch=launch,
            )  # fmt: skip
            job = cls(path, record, fd, lock_fd)
            forget_ranks(fd)
            job._write(record)
            undo.pop_all()
        return job

    @classmethod
    def open(cls, scratch: str, job_id: str) -> JobDirectory:
        """A job that exists, for work on it. Raises `NotFoundError`, `UsageError`, `HostError` (at work already)."""
        return cls._opened(scratch, job_id, _lock)

    @classmethod
    def look(cls, scratch: str, job_id: str) -> JobDirectory:
        """The same to look at, without the lock. Raises as `open`, but for who is at work."""
        return cls._opened(scratch, job_id, lambda fd, _path, _undo: os.dup(fd))

    @classmethod
    def _opened(cls, scratch: str, job_id: str, lock: Callable[[int, str, ExitStack], int]) -> JobDirectory:
        _check_id(job_id)
        path = os.path.join(scratch, "jobs", job_id)
        if not os.path.lexists(path):
            raise _no_job(job_id, scratch)
        with ExitStack() as undo:
            fd = _open_directory(path, undo)
            lock_fd = lock(fd, path, undo)
            record = _read(fd, path)
            if record is None:
                raise _no_job(job_id, scratch)
            undo.pop_all()
        return cls(path, record, fd, lock_fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self.fd)
        os.close(self._lock_fd)

    @property
    def tree(self) -> str:
        """What the job sees: data/OWNER/NAME, code, logs."""
        return os.path.join(self.path, "tree")

    @property
    def state_dir(self) -> str:
        """Manifests, journals and receipts of the datasets, in the same order as the tree."""
        return os.path.join(self.path, "state")

    def tree_of(self, below: str) -> str:
        """Where a copy lies that the tree has at ``below``."""
        return os.path.join(self.record.parts.get(below, self.path), "tree", below)

    def state_of(self, below: str) -> str:
        """Where its state lies."""
        return os.path.join(self.record.parts.get(below, self.path), "state", below)

    def lie_in(self, parts: dict[str, str]) -> None:
        """Note the parts of the job, durably, before they are made. Raises `HostError`, `NoSpaceError`."""
        self._write(msgspec.structs.replace(self.record, parts=parts))

    def store_in(self, cluster: str) -> None:
        """Note its cluster storage. Raises `HostError`, `NoSpaceError`."""
        self._write(msgspec.structs.replace(self.record, cluster=cluster))

    def advance(self, state: JobState, *, exit_code: int | None = None, outside: bool = False) -> None:
        """Move the record forward, durably; this process becomes its owner. Raises `HostError`, `NoSpaceError`."""
        if _ORDER.index(state) < _ORDER.index(self.record.state):
            raise InternalError(f"a job's state never goes back from {self.record.state} to {state}")
        self._write(
            msgspec.structs.replace(
                self.record, state=state, owner=Holder.of_self(), error=None, keeper=None,
                times={**self.record.times, state: time.time()}, outside=outside,
                exit_code=self.record.exit_code if exit_code is None else exit_code,
            )
        )

    def keep_logs_in(self, place: str | None, *, own_parts: int, restart: int) -> None:
        """Note where the logs go, if anywhere, and the count that made the job's places its own."""
        self._write(msgspec.structs.replace(self.record, persist=place, own_parts=own_parts, restart=restart))

    def keep_view(self, keeper: KeptBy) -> None:
        """Note who keeps the job's view, for those who join it."""
        self._write(msgspec.structs.replace(self.record, keeper=keeper))

    def fail(self, error: str, *, transient: bool = False) -> None:
        """Note why the state was not left as it should have been."""
        self._write(msgspec.structs.replace(self.record, error=error, transient=transient))

    def write_json(self, name: str, value: object) -> None:
        """A JSON file beside the record, durably; whole or not at all. Raises `HostError`, `NoSpaceError`."""
        pieces = [msgspec.json.format(msgspec.json.encode(value), indent=2), b"\n"]
        write_file(self.fd, name, pieces, mode=0o600, durable=True)

    def read_json(self, name: str) -> dict[str, Any]:
        """A JSON object written by `write_json`; empty when it is not there."""
        try:
            return msgspec.json.decode(read_regular(name, dir_fd=self.fd, most=_MAX_BYTES), type=dict[str, Any])
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise from_os_error(error, doing="read the file", where=f"{self.path}/{name}") from error
        except _NO_JSON as error:
            raise HostError(f"is damaged: {error}", where=f"{self.path}/{name}") from error

    def sweep(self) -> None:
        """Remove what stagers that were killed were about to rename. Never raises."""
        with suppress(OSError):
            for name in names_in(self.fd):
                if name.startswith("."):
                    os.unlink(name, dir_fd=self.fd)

    def _write(self, record: Record) -> None:
        body = msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n"
        write_file(self.fd, RECORD, [body], mode=0o600, durable=True)
        self.record = record


def list_jobs(scratch: str) -> list[Record]:
    """Every job's record below a scratch directory, oldest first; one that cannot be read is left out."""
    jobs = os.path.join(scratch, "jobs")
    records: list[Record] = []
    try:
        names = os.listdir(jobs)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise from_os_error(error, doing="list the jobs", where=jobs) from error
    for name in names:
        with suppress(OSError, HostError):
            record = record_at(os.path.join(jobs, name))
            if record is not None:
                records.append(record)
    return sorted(records, key=Record.begun_s)


def record_at(path: str) -> Record | None:
    """The record in a job's directory; None: there is none. Blocks. OSError; `HostError`: it is damaged."""
    try:
        fd = os.open(path, _DIRECTORY)
    except FileNotFoundError:
        return None
    try:
        return _read(fd, path)
    finally:
        os.close(fd)


def find_scratch(scratches: Sequence[str], job_id: str, *, removed: bool = True) -> str | None:
    """Which of several scratch directories has the job; one whose tree is there before one that is ``removed``.

    Raises `UsageError`: the id is bad, or several have such a tree. A record that cannot be read is one, for `open` to
    tell of. Blocks.
    """
    _check_id(job_id)
    there: list[str] = []
    gone: list[str] = []
    for scratch in scratches:
        path = os.path.join(scratch, "jobs", job_id)
        try:
            fd = os.open(path, _DIRECTORY)
        except OSError:
            continue
        try:
            record = _read(fd, path)
        except HostError:
            there.append(scratch)
            continue
        finally:
            os.close(fd)
        if record is not None:
            (gone if record.state is JobState.REMOVED else there).append(scratch)
    if len(there) > 1:
        raise UsageError(f"job {job_id} is in {' and in '.join(there)}", hint="say which with --scratch")
    return next(iter(there + gone if removed else there), None)


def _check_id(job_id: str) -> None:
    if not JOB_ID.fullmatch(job_id):
        raise UsageError(f"{job_id[:80]!a} is no job id", hint="`stager ls` names the jobs of this node")


def _no_job(job_id: str, scratch: str) -> NotFoundError:
    return NotFoundError(f"no job {job_id} on this node", where=scratch, hint="`stager ls` names them")


def _read(fd: int, where: str) -> Record | None:
    try:
        return msgspec.json.decode(read_regular(RECORD, dir_fd=fd, most=_MAX_BYTES), type=Record)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise from_os_error(error, doing="read the job's record", where=f"{where}/{RECORD}") from error
    except _NO_JSON as error:
        raise HostError(f"the job's record is damaged: {error}", where=f"{where}/{RECORD}") from error


def _open_directory(path: str, undo: ExitStack) -> int:
    try:
        fd = os.open(path, _DIRECTORY)
    except OSError as error:
        raise from_os_error(error, doing="open the job's directory", where=path) from error
    undo.callback(os.close, fd)
    return fd


def _lock(fd: int, path: str, undo: ExitStack) -> int:
    """Keeps two stagers from working on one job; what each does is atomic even without it."""
    try:
        lock_fd = open_regular("lock", os.O_RDWR | os.O_CREAT, dir_fd=fd)
        undo.callback(os.close, lock_fd)
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise HostError("another stager is at work on this job", where=path, hint="wait for its end") from None
    except OSError as error:
        raise from_os_error(error, doing="lock the job", where=path) from error
    return lock_fd
