"""What a user may still take of a file system: free space, less what is reserved, and quotas.

statvfs(3) knows of reserved blocks and of project quotas; of quotas on users and groups only quotactl(2) does. Quotas
of a network's server are known to that server alone.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable
from typing import Final

from msgspec import Struct

from stager.host import syscalls

__all__ = ["Space", "parse_quota", "space_of"]

_BLOCK: Final = 1024
"""Limits are counted in this many bytes (QIF_DQBLKSIZE of linux/quota.h)."""

_USER, _GROUP = 0, 1
_FIELDS: Final = struct.Struct("=QQQQQQQQI")
_NO_LIMIT: Final = 0

Ask = Callable[[int, int, int], bytes]


class Space(Struct, frozen=True, kw_only=True):
    """Of a file system; inodes are None where it does not count them."""

    total_bytes: int
    free_bytes: int
    total_inodes: int | None
    free_inodes: int | None
    by_quota: bool = False  # whether it is a quota that leaves no more


def space_of(path: str, *, ask: Ask = syscalls.ask_quota) -> Space:
    """What this user can still take where ``path`` is. Blocks. OSError."""
    descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = os.fstatvfs(descriptor)
        space = Space(
            total_bytes=found.f_blocks * found.f_frsize,
            free_bytes=found.f_bavail * found.f_frsize,
            total_inodes=found.f_files or None,
            free_inodes=found.f_favail if found.f_files else None,
        )
        return _within(space, [left for who in _principals() if (left := _left(descriptor, who, ask)) is not None])
    finally:
        os.close(descriptor)


def parse_quota(data: bytes) -> tuple[int | None, int | None]:
    """Bytes and inodes left of a ``struct if_dqblk``; None: no limit. A soft limit counts: it ends a job later."""
    hard, soft, used, inode_hard, inode_soft, inodes, _, _, _ = _FIELDS.unpack_from(data)
    return _least_left([hard * _BLOCK, soft * _BLOCK], used), _least_left([inode_hard, inode_soft], inodes)


def _least_left(limits: Iterable[int], used: int) -> int | None:
    return min((max(0, limit - used) for limit in limits if limit != _NO_LIMIT), default=None)


def _principals() -> list[tuple[int, int]]:
    """Root has no quota."""
    return [] if os.geteuid() == 0 else [(_USER, os.geteuid()), (_GROUP, os.getegid())]


def _left(descriptor: int, who: tuple[int, int], ask: Ask) -> tuple[int | None, int | None] | None:
    try:
        return parse_quota(ask(descriptor, *who))
    except OSError:  # none is set, or the file system or the kernel has none
        return None


def _within(space: Space, left: Iterable[tuple[int | None, int | None]]) -> Space:
    free_bytes, free_inodes = space.free_bytes, space.free_inodes
    for quota_bytes, quota_inodes in left:
        free_bytes = free_bytes if quota_bytes is None else min(free_bytes, quota_bytes)
        if quota_inodes is not None:
            free_inodes = quota_inodes if free_inodes is None else min(free_inodes, quota_inodes)
    limited = (free_bytes, free_inodes) != (space.free_bytes, space.free_inodes)
    return Space(
        total_bytes=space.total_bytes, free_bytes=free_bytes, total_inodes=space.total_inodes,
        free_inodes=free_inodes, by_quota=limited,
    )  # fmt: skip
