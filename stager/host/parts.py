"""Parts of a job that lie on other disks than the job itself: datasets that were placed apart.

::

    SCRATCH/parts/             0700, in the scratch directory of the other disk
        ID-CHANCE/             one for each job that has data there
            part.json          the mark: whose part it is
            tree/ state/       as beside a job's record: data/OWNER/NAME below either

The job's record names its parts before they are made, so that none is ever without one that knows of it.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

import msgspec
from msgspec import Struct

from stager.errors import HostError, StagerError, from_os_error
from stager.host.atomic import read_regular, write_file
from stager.host.record import record_at
from stager.host.scratch import PARTS, open_own
from stager.host.trash import remove_tree

__all__ = ["MARK", "make_part", "part_path", "remove_part", "sweep_parts"]

MARK: Final = "part.json"
_MARK_TO_BE: Final = re.compile(r"\.part\.json\.[0-9a-f]{16}")
_MOST_BYTES: Final = 1 << 16
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class _Mark(Struct, frozen=True):
    """``job``: the directory of the job."""

    job: str


_decoder: Final = msgspec.json.Decoder(_Mark)


def part_path(scratch: str, job_id: str) -> str:
    """Where a part of a job will lie in a scratch directory; another one with each call."""
    return os.path.join(scratch, PARTS, f"{job_id}-{secrets.token_hex(8)}")


def make_part(path: str, job: str, below: Iterable[str]) -> None:
    """Make the part ``path`` (of `part_path`) of the job in the directory ``job``, with these directories in its tree
    and beside it. Blocks.

    Raises `HostError`: it cannot be made, or is not one's own. `NoSpaceError`.
    """
    try:
        for directory in (os.path.dirname(path), path):
            fd = open_own(directory)
            try:
                if directory == path:
                    write_file(fd, MARK, [msgspec.json.encode(_Mark(job=job))], mode=0o600)
            finally:
                os.close(fd)
        for one in below:
            os.makedirs(os.path.join(path, "tree", one), mode=0o755, exist_ok=True)
            os.makedirs(os.path.join(path, "state", one), mode=0o700, exist_ok=True)
    except OSError as error:
        raise from_os_error(error, doing="make a part of the job", where=error.filename or path) from error


def remove_part(path: str) -> None:
    """Remove a part; one that is not there is no error. Blocks.

    Raises `HostError`: what lies there carries no mark, or is another's, and nothing was removed; `MountError`, and
    what else `stager.host.trash.remove_tree` raises.
    """
    try:
        if _mark_of(path) is None:
            _remove_unmarked(path)
            return
    except FileNotFoundError:
        return
    except OSError as error:
        raise from_os_error(error, doing="remove a part of the job", where=path) from error
    remove_tree(path)


def _remove_unmarked(path: str) -> None:
    """Whoever made it may have been killed before it was marked: then it holds nothing but the mark that was to be.

    OSError; `HostError`: it holds more.
    """
    names = os.listdir(path)
    if not all(_MARK_TO_BE.fullmatch(name) for name in names):
        raise HostError("is no part of a job; nothing was removed", where=path, hint="look at it, and remove it")
    for name in names:
        os.unlink(os.path.join(path, name))
    os.rmdir(path)


def sweep_parts(scratch: str) -> None:
    """Remove parts of jobs that know nothing of them any more, as when somebody removed a job's directory.

    Blocks. Never raises.
    """
    top = os.path.join(scratch, PARTS)
    with suppress(OSError):
        for name in os.listdir(top):
            with suppress(StagerError, OSError):
                path = os.path.join(top, name)
                mark = _mark_of(path)
                if mark is not None and _is_lost(path, mark.job):
                    remove_tree(path)


def _mark_of(path: str) -> _Mark | None:
    """OSError; `HostError`: it is no directory of one's own alone."""
    if os.path.islink(path):
        raise HostError("is a symlink, not a part of a job; nothing was removed", where=path, hint="remove it")
    os.stat(path)
    fd = open_own(path)
    try:
        return _decoder.decode(read_regular(MARK, dir_fd=fd, most=_MOST_BYTES))
    except (FileNotFoundError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
    finally:
        os.close(fd)


def _is_lost(path: str, job: str) -> bool:
    """Whether the job says nothing of this part, or is gone; not where its scratch cannot be seen, as from within a
    container. OSError, `HostError`: nobody knows.
    """
    record = record_at(job)
    if record is None:
        return os.path.isdir(os.path.dirname(job))
    return path not in record.parts.values()
