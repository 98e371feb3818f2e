"""The values that flow through the house, left to right; every one frozen, none knows how it was made.

::

    JobSpec -> Plan -> Placement -> Manifest -> Dataset -> MountView -> ExitInfo -> Receipt
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, Literal

from msgspec import Struct, field

from stager.config import GitOptions, Integrity, Remote
from stager.filters import EVERYTHING, Filter
from stager.tasks import DistributedSpec, Instances
from stager.time_limits import TimeLimit

__all__ = [
    "DATASET_NAME",
    "JOB_ID",
    "JOB_NAME",
    "PUBLIC_NAME",
    "UNVERIFIED",
    "Access",
    "CodeSpec",
    "Command",
    "ContainerSpec",
    "Counts",
    "DatasetReceipt",
    "DatasetSpec",
    "ExitInfo",
    "Grade",
    "JobSpec",
    "JobState",
    "LogsSpec",
    "Mount",
    "MountView",
    "Profile",
    "PublicSpec",
    "RamDisk",
    "ResultsSpec",
    "SourceRef",
    "TmpSpec",
]

JOB_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
"""A job's name; use ``fullmatch``."""

JOB_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,159}")
"""A job's id; use ``fullmatch``."""

DATASET_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}/[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
"""OWNER/NAME: exactly two levels, no leading dot; use ``fullmatch``."""

PUBLIC_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
"""The name of a public dataset; use ``fullmatch``."""

Access = Literal["read-write", "read-only"]
Profile = Literal["host", "strict"]


class Grade(StrEnum):
    """How strongly a file's bytes are known to be the source's (behaviour.md 5.3)."""

    A = "A"  # the source's own full-object digest matched
    B = "B"  # every response showed the pinned ETag, exact range and total; own digest recorded
    C = "C"  # size only


UNVERIFIED: Final = {
    "no-checksum": "the source announces no checksum",
    "parts-unknown": "only a checksum of parts is announced, whose boundaries are not known",
    "etag-of-parts": "only an ETag of parts is announced, which --integrity strict compares",
    "encrypted-etag": "only the ETag of an encrypted object is announced, which is no digest",
    "no-etag": "not even an ETag is announced",
    "earlier-run": "kept from an earlier run, which knew why",
}
"""Why a file's grade is not A, for programs and for people."""


class JobState(StrEnum):
    """A job's record goes through these in order, never back. Only what `stager create` made begins as created."""

    CREATED = "created"
    STAGING = "staging"
    READY = "ready"
    RUNNING = "running"
    ENDED = "ended"
    PERSISTED = "persisted"
    REMOVED = "removed"


class SourceRef(Struct, frozen=True, kw_only=True):
    """A source as the user wrote it, taken apart (see `stager.urls`). Holds no secret: such URLs are refused."""

    scheme: Literal["s3", "git", "file", "bind", "nfs"]
    location: str  # s3: "bucket/prefix"; git: the URL git gets; file, bind: the absolute path; nfs: "host:/export"
    ref: str | None = None  # git: branch, tag or commit
    subdir: str | None = None  # git: only what is below this directory
    version_id: str | None = None  # s3: of the one object that is meant
    pins_versions: bool = False  # s3: objects are pinned to the versions they have when they are listed
    text: str = ""  # for people and receipts

    @property
    def is_mounted(self) -> bool:
        """Whether it is mounted for a job, and not copied."""
        return self.scheme in ("bind", "nfs")


class DatasetSpec(Struct, frozen=True, kw_only=True):
    """One ``[[dataset]]``: appears as /data/OWNER/NAME. ``frozen``: the file of a listing, copied as it says.

    ``place``: what it has to lie on, see `stager.placement.Wanted`.
    """

    name: str
    source: SourceRef
    access: Access = "read-write"
    place: str = "any"
    remote: Remote | None = None
    integrity: Integrity = Integrity()
    filter: Filter = EVERYTHING
    frozen: str | None = None
    on_archived: Literal["fail", "skip"] = "fail"
    git: GitOptions = GitOptions()
    mounted: str | None = None  # bind: the type of file system that has to be mounted there


class PublicSpec(Struct, frozen=True, kw_only=True):
    """One ``[[public]]``: appears as /public/NAME, read-only, submounts included."""

    name: str
    source: str  # absolute path on this host


class CodeSpec(Struct, frozen=True, kw_only=True):
    """``[code]``: appears as /code."""

    source: SourceRef
    git: GitOptions = GitOptions()


class LogsSpec(Struct, frozen=True, kw_only=True):
    """``[logs]``: where /logs goes after the job, and every ``drain_s`` while it runs (0: not). ``remote``: of s3://,
    where it is not the default.
    """

    persist: str | None = None
    remote: Remote | None = None
    drain_s: float = 0.0


class ResultsSpec(Struct, frozen=True, kw_only=True):
    """``[results]``: where what the job writes to TASK_PATH goes after it, and a copy of it every ``snapshot_s`` (0:
    none). Of what ``filter`` wants, paths in which the expression ``whitelist`` is found and ``blacklist`` is not.
    """

    persist: str | None = None
    remote: Remote | None = None
    filter: Filter = EVERYTHING
    whitelist: str = ""
    blacklist: str = ""
    snapshot_s: float = 0.0


class TmpSpec(Struct, frozen=True, kw_only=True):
    """``[tmp]``: how much TMP_RAMFS_PATH holds; None: as is fit for the memory that there is."""

    ramfs_bytes: int | None = None
    ramfs_inodes: int | None = None


class ContainerSpec(Struct, frozen=True, kw_only=True):
    """What a container runtime starts: ``entrypoint`` in place of the image's, in front of the command."""

    image: str | None = None
    entrypoint: tuple[str, ...] = ()


class JobSpec(Struct, frozen=True, kw_only=True):
    """A validated job file."""

    name: str
    command: tuple[str, ...] = ()
    workdir: str | None = None
    code: CodeSpec | None = None
    datasets: tuple[DatasetSpec, ...] = ()
    public: tuple[PublicSpec, ...] = ()
    resources: tuple[DatasetSpec, ...] = ()  # named resource[N]; put together in TASK_PATH, the last one wins
    logs: LogsSpec = field(default_factory=LogsSpec)
    results: ResultsSpec = field(default_factory=ResultsSpec)
    environment: Mapping[str, str] = field(default_factory=dict)
    pass_credentials: bool = False  # whether the command inherits AWS_* and the like
    tmp: TmpSpec = TmpSpec()
    instances: Instances = Instances()
    distributed: DistributedSpec | None = None
    clusterone_shim: bool = False  # whether scripts find get_data_path and get_logs_path as the module clusterone
    container: ContainerSpec = ContainerSpec()
    limit: TimeLimit = TimeLimit()
    profile: Profile = "host"


class Counts(Struct, frozen=True, kw_only=True):
    """Objects and bytes."""

    objects: int = 0
    bytes: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(objects=self.objects + other.objects, bytes=self.bytes + other.bytes)

    def __sub__(self, other: Counts) -> Counts:
        return Counts(objects=self.objects - other.objects, bytes=self.bytes - other.bytes)


class Mount(Struct, frozen=True, kw_only=True):
    """One row of the job's view.

    ``kind`` says what a write does: ``copy`` changes the job's own copy, ``bind`` and ``nfs`` the live source,
    ``public`` fails with EROFS on this mount and everything below it, ``own`` is a directory of the job (/logs),
    ``storage`` one that outlives it. With ``owner`` it must belong to this user, and be open to nobody else, when it is
    mounted. ``pinned`` is (st_dev, st_ino) of the source once it has been checked: no other directory is mounted then.
    With ``lower``, a directory that nobody changes, the source holds ``upper`` and ``work`` of an overlay on it.
    """

    kind: Literal["copy", "bind", "nfs", "public", "own", "storage"]
    source: str  # absolute path on the host; nfs: "host:/export"
    target: str  # absolute path in the view
    read_only: bool = False
    pinned: tuple[int, int] | None = None
    lower: str | None = None
    owner: int | None = None
    mounted: str | None = None  # bind: the type of file system that it has to be on
    address: str | None = None  # nfs: the server's, once it has been asked
    found_on: tuple[str, str] | None = None  # bind, public: type and source of the file system it was checked on


class RamDisk(Struct, frozen=True, kw_only=True):
    """A file system in memory, made for the job; what lies there counts as memory that the job uses."""

    size_bytes: int
    inodes: int


class MountView(Struct, frozen=True, kw_only=True):
    """What the job sees on top of the host; ``masked`` host directories appear empty and read-only. ``uses``:
    descriptors of where it is noted who reads what is mounted (`stager.host.readers`), which is not changed meanwhile.
    ``ramdisk``: what is at TMP_RAMFS_PATH.
    """

    mounts: tuple[Mount, ...]
    masked: tuple[str, ...] = ()
    uses: tuple[int, ...] = ()
    ramdisk: RamDisk | None = None
    profile: Profile = "host"


class Command(Struct, frozen=True, kw_only=True):
    """An argument vector, never a shell line; ``workdir`` is a path in the view."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    workdir: str


class ExitInfo(Struct, frozen=True, kw_only=True):
    """How the command ended: exactly one of ``status`` (0..255) and ``signal`` is set. Times are Unix seconds.

    ``limited``: it was told to end because its time was over.
    """

    status: int | None
    signal: int | None
    started_s: float
    ended_s: float
    limited: bool = False

    @property
    def code(self) -> int:
        """What ``stager run`` exits with: the command's status, or 128 + the signal; 124, as timeout(1), at a limit."""
        if self.limited:
            return 124
        return 128 + self.signal if self.signal is not None else (self.status or 0)


class DatasetReceipt(Struct, frozen=True, kw_only=True):
    """What one sync did: the receipt's body, ready for JSON.

    ``boot`` is the kernel's boot id at that time. Unless ``durable`` nothing was flushed to the disk: after another
    boot a file may lack content that had not reached it, so a tree whose receipt names another boot is whole only once
    synced again.
    ``unverified`` counts the objects whose grade is not A by the keys of `UNVERIFIED`. ``read_back_bytes`` were read
    again from the file for a checksum that has to be taken in order. ``cache``: "how" files came out of this node's
    cache ("clone", "overlay", "read-only", "copy"), "shared_bytes" that take no space of their own, and
    "not_fetched_bytes" that did not come over the network; empty where it was not used.
    """

    source: str
    destination: str
    how: str  # "copy", "bind", "nfs", "public"
    pinned: Mapping[str, Any]  # commit and ref; bucket and listing digest; mount type
    total: Counts
    moved: Counts
    grades: Mapping[str, int]  # grade -> objects
    seconds: float
    unverified: Mapping[str, int] = field(default_factory=dict)
    read_back_bytes: int = 0
    reused: Counts = Counts()  # of `moved`: LFS objects that were on this node already
    continued_bytes: int = 0  # of `moved`: what earlier runs had fetched of objects that they did not complete
    skipped: int = 0  # names left out by request, because they cannot be files
    archived: Counts = field(default_factory=Counts)  # left out by request; what is here of them stayed as it was
    filter: Mapping[str, Any] = field(default_factory=dict)  # what was wanted; empty: everything
    left_out: Counts = Counts()  # by the filter
    deleted: Counts = Counts()
    cache: Mapping[str, Any] = field(default_factory=dict)
    boot: str = ""  # of a copy
    durable: bool = False  # of a copy: every file had reached the disk
