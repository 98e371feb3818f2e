"""The logs of a job: where they are now, and a copy of them for whoever asks."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from typing import Final

from msgspec import Struct

from stager.errors import HostError, NotFoundError, UsageError, from_os_error
from stager.host.atomic import write_all
from stager.host.tree_files import TreeFile, open_in_tree, walk_files
from stager.job.look import JobLook
from stager.model import JobState
from stager.stages.collect_directory import OWN_FILES, leads_out
from stager.stages.collect_place import is_store

__all__ = ["Downloaded", "download_log", "kept_logs", "list_logs", "logs_now", "open_target", "place_of_logs"]

_MOST_FILES: Final = 1_000_000
_PIECE_BYTES: Final = 1 << 20
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_IS_KEPT: Final = (JobState.PERSISTED, JobState.REMOVED)


class Downloaded(Struct, frozen=True, kw_only=True):
    """A file that was copied: the bytes that were read, and their SHA-256."""

    path: bytes
    bytes: int
    sha256: str


def kept_logs(look: JobLook) -> str | None:
    """The directory with a job's logs: what it writes to until they are kept elsewhere. None: there is none."""
    place = place_of_logs(look)
    if place is None or not is_store(place):
        return place
    return _in_tree(look)


def place_of_logs(look: JobLook) -> str | None:
    """The same, or the s3:// prefix that they are kept at."""
    record = look.record
    if record.state in _IS_KEPT and record.persist is not None:
        return record.persist
    return _in_tree(look)


def _in_tree(look: JobLook) -> str | None:
    logs = os.path.join(look.tree, "logs")
    return logs if os.path.isdir(logs) else None


def logs_now(look: JobLook) -> str:
    """The same. Raises `NotFoundError`: there are none, and why."""
    where = place_of_logs(look)
    if where is not None:
        return where
    record = look.record
    why = {
        JobState.CREATED: "it has not been started",
        JobState.STAGING: "it is not staged yet",
        JobState.PERSISTED: "it left none",
        JobState.REMOVED: "its tree was removed, and none were kept",
    }.get(record.state, "its tree has gone")
    raise NotFoundError(f"no logs of this job: {why}", where=f"job {record.id}", hint="--logs DIR keeps them")


def list_logs(where: str) -> list[TreeFile]:
    """Every file in them by its path, but for stager's own; none where they are not there. Blocks.

    Raises `HostError`: they cannot be read, or have more than a million files.
    """
    try:
        found = list(islice((file for file in walk_files(where) if file.path not in OWN_FILES), _MOST_FILES + 1))
    except OSError as error:
        raise from_os_error(error, doing="look into the logs", where=where) from error
    if len(found) > _MOST_FILES:
        raise HostError(f"has more than {_MOST_FILES:,} files", where=where, hint="look at it yourself")
    return sorted(found, key=lambda file: file.path)


def open_target(directory: str) -> int:
    """The directory for a copy, made when missing. Raises `UsageError`: it is no directory; `HostError`."""
    try:
        os.makedirs(directory, exist_ok=True)
        return os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileExistsError, NotADirectoryError):
        raise UsageError("is no directory", where=directory, hint="name another with --to") from None
    except OSError as error:
        raise from_os_error(error, doing="make the directory", where=directory) from error


def download_log(
    where: str, file: TreeFile, target_fd: int, target: str, *, stopped: Callable[[], bool] = lambda: False
) -> Downloaded | None:
    """Copy one of `list_logs` below the open directory ``target``, whole or not at all, in place of what has its name
    there. None: it is no file, or a link that could lead out of the copy, or has gone meanwhile.

    What a job appends meanwhile is not in it. Blocks. Raises `NoSpaceError`, `HostError`.
    """
    *above, name = file.path.split(b"/")
    if file.kind == "other" or (file.kind == "link" and leads_out(file.target)):
        return None
    fd = os.dup(target_fd)
    try:
        for part in above:
            with suppress(FileExistsError):
                os.mkdir(part, dir_fd=fd)
            below = os.open(part, _DIRECTORY, dir_fd=fd)
            os.close(fd)
            fd = below
        if file.kind == "link":
            return _copy_link(file, name, fd)
        source = open_in_tree(where, file.path)
        try:
            return _copy(source, file, name, fd, stopped)
        finally:
            os.close(source)
    except FileNotFoundError:
        return None
    except OSError as error:
        place = os.path.join(target, os.fsdecode(file.path))
        raise from_os_error(error, doing="copy a log", where=place) from error
    finally:
        os.close(fd)


def _copy_link(file: TreeFile, name: bytes, fd: int) -> Downloaded:
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=fd)
    os.symlink(file.target, name, dir_fd=fd)
    return Downloaded(path=file.path, bytes=0, sha256="")


def _copy(source: int, file: TreeFile, name: bytes, fd: int, stopped: Callable[[], bool]) -> Downloaded:
    temporary = f".stager-{secrets.token_hex(8)}"
    out = os.open(temporary, _NEW_FILE, 0o600, dir_fd=fd)
    digest, at, status = hashlib.sha256(), 0, os.fstat(source)
    try:
        try:
            while at < status.st_size and (piece := os.pread(source, min(_PIECE_BYTES, status.st_size - at), at)):
                if stopped():
                    raise HostError("stopped before all logs were copied", hint="run the same command again")
                digest.update(piece)
                at += write_all(out, piece)
            os.fchmod(out, status.st_mode & 0o777 | 0o600)
            os.utime(out, ns=(status.st_atime_ns, status.st_mtime_ns))
        finally:
            os.close(out)
        os.rename(temporary, name, src_dir_fd=fd, dst_dir_fd=fd)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=fd)
        raise
    return Downloaded(path=file.path, bytes=at, sha256=digest.hexdigest())
