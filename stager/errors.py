"""Every error stager raises, by who has to act.

::

    StagerError
    ├── UserError            the request is wrong
    │   ├── UsageError           2   options or arguments
    │   ├── SpecError            2   the job file; carries every problem found
    │   ├── FilterError          2   what chooses files; carries every problem found
    │   ├── BadKeysError         2   names the destination cannot hold; carries every one
    │   └── BadListingError      2   a kept listing that is damaged or another source's
    ├── SourceError          the source, or the way to it
    │   ├── NotFoundError        3   no such bucket, key, repository, ref, directory
    │   │   └── NoObjectsError       3   objects that the source names and does not have; carries every one
    │   ├── ArchivedError        3   objects that have to be restored first; counts them and names the first
    │   ├── AccessDeniedError    3   credentials missing, wrong, or not allowed
    │   ├── IntegrityError       4   what arrived is not what the source promised
    │   ├── ChangedError         4   the object changed while it was copied
    │   │   └── GoneError            4   or was removed
    │   ├── GradeError           4   less is known of the bytes than was required; carries the first objects
    │   └── TransientError       7   gave up after retries; worth another try later
    ├── HostError            this node
    │   ├── NoRootError          6   no place for data that may be used; says why of each
    │   ├── NoSpaceError         5   bytes or inodes
    │   │   └── NoRoomError          5   on none of the places that may be used; says why of each
    │   ├── MountError           6   a mount or a permission of this host
    │   └── BusyError            7   another stager is at work there; worth another try later
    ├── CommandError       126/127   the job's command could not be started
    └── InternalError            1   our own bug

An error is one sentence in three parts: what happened, where, and what to do. Errors of the libraries below
(``OSError``, botocore, git's exit codes) are mapped at the border where they appear, never passed on.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import ClassVar, Self

__all__ = [
    "AccessDeniedError",
    "ArchivedError",
    "BadKeysError",
    "BadListingError",
    "BusyError",
    "ChangedError",
    "CommandError",
    "FilterError",
    "GoneError",
    "GradeError",
    "HostError",
    "IntegrityError",
    "InternalError",
    "MountError",
    "NoObjectsError",
    "NoRoomError",
    "NoRootError",
    "NoSpaceError",
    "NotFoundError",
    "SourceError",
    "SpecError",
    "StagerError",
    "TransientError",
    "UsageError",
    "UserError",
    "from_os_error",
    "told_of",
]


class StagerError(Exception):
    """Root of the tree.

    ``what`` happened, ``where`` (a path, URL or option; never a secret), and ``hint``: what to do about it.
    """

    exit_code: ClassVar[int] = 1
    retryable: ClassVar[bool] = False

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}; {self.hint}" if self.hint else text


class UserError(StagerError):
    """The request is wrong."""

    exit_code = 2


class UsageError(UserError):
    """An option or argument is wrong."""


class _ManyProblemsError(UserError):
    """Several problems of one kind, all found before anything is moved."""

    def __init__(self, what: str, problems: Sequence[str], *, where: str = "", hint: str = "") -> None:
        super().__init__(what, where=where, hint=hint)
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "\n".join([super().__str__(), *(f"  {problem}" for problem in self.problems)])


class SpecError(_ManyProblemsError):
    """The job file is wrong; ``problems`` holds every mistake with its place."""


class FilterError(_ManyProblemsError):
    """What chooses files is wrong; ``problems`` holds every mistake, escaped."""


class BadKeysError(_ManyProblemsError):
    """Keys of the source that are no safe file names; ``problems`` holds every one, escaped."""


class BadListingError(_ManyProblemsError):
    """A kept listing that is damaged, or another source's; ``problems`` holds the first ones with their lines."""


class SourceError(StagerError):
    """The source, or the way to it."""

    exit_code = 3


class NotFoundError(SourceError):
    """No such bucket, key, repository, ref or directory."""


class NoObjectsError(NotFoundError):
    """Objects that the source names and its store does not give; ``problems`` holds every one, escaped."""

    def __init__(self, what: str, problems: Sequence[str], *, where: str = "", hint: str = "") -> None:
        super().__init__(what, where=where, hint=hint)
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "\n".join([super().__str__(), *(f"  {problem}" for problem in self.problems)])


class ArchivedError(SourceError):
    """What is archived and has to be restored first; ``problems`` names the first of ``objects`` of ``size`` bytes."""

    def __init__(
        self,
        what: str,
        *,
        where: str = "",
        hint: str = "",
        problems: Sequence[str] = (),
        objects: int = 1,
        size: int = 0,
    ) -> None:
        super().__init__(what, where=where, hint=hint)
        self.problems = tuple(problems)
        self.objects = objects
        self.size = size

    @classmethod
    def of(cls, names: Sequence[str], *, objects: int, size: int, where: str) -> Self:
        """One error for so many objects, of so many bytes together; ``names`` are those of the first."""
        return cls(
            f"{objects} object{' is' if objects == 1 else 's are'} archived and cannot be read now ({size} bytes)",
            where=where,
            hint="restore what is wanted, or leave it out: --on-archived skip, or on_archived in a job file",
            problems=names,
            objects=objects,
            size=size,
        )

    def __str__(self) -> str:
        return "\n".join([super().__str__(), *(f"  {problem}" for problem in self.problems)])


class AccessDeniedError(SourceError):
    """Credentials are missing, wrong, expired beyond refresh, or not allowed."""


class IntegrityError(SourceError):
    """What arrived is not what the source promised."""

    exit_code = 4


class ChangedError(IntegrityError):
    """The object changed while it was being copied."""


class GoneError(ChangedError):
    """The object was removed while it was being copied."""


class GradeError(IntegrityError):
    """The source does not announce what the required grade needs; ``problems`` names the first objects."""

    def __init__(self, what: str, problems: Sequence[str] = (), *, where: str = "", hint: str = "") -> None:
        super().__init__(what, where=where, hint=hint)
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "\n".join([super().__str__(), *(f"  {problem}" for problem in self.problems)])


class TransientError(SourceError):
    """Gave up after retries; the same command may succeed later."""

    exit_code = 7
    retryable = True


class HostError(StagerError):
    """This node."""

    exit_code = 6


class NoSpaceError(HostError):
    """Bytes, inodes or quota of a file system are not enough. ``missing_bytes`` and ``missing_inodes``: so many more
    would do, where that is known before anything is written; else both are 0.
    """

    exit_code = 5
    missing_bytes = 0
    missing_inodes = 0


class _ManyReasonsError(HostError):
    """For each of several places why it is not the one; ``problems`` holds all of them, escaped."""

    def __init__(self, what: str, problems: Sequence[str], *, where: str = "", hint: str = "") -> None:
        super().__init__(what, where=where, hint=hint)
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "\n".join([super().__str__(), *(f"  {problem}" for problem in self.problems)])


class NoRootError(_ManyReasonsError):
    """No place on this node may be used for the data, or none is of the kind that was asked for."""


class NoRoomError(_ManyReasonsError, NoSpaceError):
    """What has to be placed fits on none of the places that may be used."""

    exit_code = 5


class MountError(HostError):
    """A mount or a permission of this host."""


class BusyError(HostError):
    """Another stager is at work in the same place; the same command may succeed later."""

    exit_code = 7
    retryable = True


class CommandError(StagerError):
    """The job's command could not be started: 127 when it was not found, else 126 (as env(1) does)."""

    def __init__(self, what: str, *, status: int, where: str = "", hint: str = "") -> None:
        super().__init__(what, where=where, hint=hint)
        self.status = status


class InternalError(StagerError):
    """Our own bug."""


_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def told_of(error: BaseException) -> tuple[str, bool]:
    """What is kept of an error for who finds it noted later: its text, and whether another try may help."""
    if isinstance(error, StagerError):
        return str(error), error.retryable
    return type(error).__name__, False


def from_os_error(error: OSError, *, doing: str, where: str | bytes = "") -> HostError:
    """The ``HostError`` for an ``OSError`` met on this node.

    ``doing`` is a verb phrase ("write the manifest"). ENOSPC, EDQUOT and EFBIG become `NoSpaceError`;
    the rest, permissions included, `HostError`.
    """
    named = where or error.filename
    place = os.fsdecode(named) if isinstance(named, (str, bytes)) else ""  # a descriptor names nothing
    reason = os.strerror(error.errno) if error.errno else str(error)
    if error.errno in _NO_SPACE:
        return NoSpaceError(f"cannot {doing}: {reason}", where=place, hint="free some space or choose another disk")
    return HostError(f"cannot {doing}: {reason}", where=place)
