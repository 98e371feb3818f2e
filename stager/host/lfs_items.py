"""The LFS objects of a scratch, for who counts and removes them: by the day on which they were last used."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import Final

from stager.errors import StagerError, from_os_error
from stager.host.lfs_store import PINNED, USES, drop, is_pinned, objects_in
from stager.host.readers import is_used
from stager.host.scratch import LFS, open_own
from stager.keeping import Item

__all__ = ["lfs_in", "pin_lfs", "remove_lfs"]

_SOURCE: Final = "Git LFS objects"
_PREFIX: Final = "lfs-"
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


def lfs_in(scratch: str) -> list[Item]:
    """Those of each day. Blocks. Never raises."""
    path = os.path.join(scratch, LFS)
    if not os.path.isdir(path):
        return []
    with suppress(OSError, StagerError):
        fd = open_own(path)
        try:
            days: dict[str, tuple[int, int, int]] = {}
            for one in objects_in(fd):
                last_ns, count, size = days.get(day := _day(one.last_use_ns), (0, 0, 0))
                days[day] = (max(last_ns, one.last_use_ns), count + 1, size + one.bytes)
            stays, used = is_pinned(fd), is_used(os.path.join(path, USES))
        finally:
            os.close(fd)
        return [
            Item(
                name=f"{_PREFIX}{day}", path=path, kind="lfs", source=_SOURCE, bytes=size, files=count, inodes=count,
                last_use_s=last_ns / 1e9, is_pinned=stays, in_use=used,
            )
            for day, (last_ns, count, size) in days.items()
        ]  # fmt: skip
    return []


def remove_lfs(path: str, name: str, *, pinned: bool = True) -> bool:
    """Remove the objects of a day that were not used since; False: somebody is at work there, and they stay; without
    ``pinned`` also when they are pinned.

    Blocks. Raises `HostError`.
    """
    if is_used(os.path.join(path, USES)):
        return False
    try:
        fd = open_own(path)
    except FileNotFoundError:
        return True
    except OSError as error:
        raise from_os_error(error, doing="open the store of LFS objects", where=path) from error
    try:
        if not pinned and is_pinned(fd):
            return False
        for one in list(objects_in(fd)):
            if f"{_PREFIX}{_day(one.last_use_ns)}" == name:
                drop(fd, one.path)
    finally:
        os.close(fd)
    return True


def pin_lfs(path: str, *, stays: bool) -> None:
    """Whether all of a store's stay until they are removed by name. Raises `HostError`, `NoSpaceError`."""
    try:
        fd = open_own(path)
        try:
            if stays:
                os.close(os.open(PINNED, _CREATE, 0o600, dir_fd=fd))
            else:
                with suppress(FileNotFoundError):
                    os.unlink(PINNED, dir_fd=fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise from_os_error(error, doing="write to the store of LFS objects", where=path) from error


def _day(ns: int) -> str:
    """In UTC."""
    return time.strftime("%Y-%m-%d", time.gmtime(max(0, ns // 1_000_000_000)))
