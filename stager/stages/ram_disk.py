"""How large the RAM disk of a job is, which counts as memory that it uses."""

from __future__ import annotations

from typing import Final

from stager.amounts import about_bytes, show_bytes
from stager.errors import UsageError
from stager.model import RamDisk, TmpSpec

__all__ = ["ram_disk_of"]

_SHARE: Final = 2  # as the kernel has it for a tmpfs of which nothing is said, tmpfs(5)
_LEAST_BYTES: Final = 1 << 20
_BYTES_A_FILE: Final = 16 << 10  # an inode takes about 1 KiB of memory itself, which its size does not count
_LEAST_INODES: Final = 1024


def ram_disk_of(asked: TmpSpec, available_bytes: int) -> RamDisk:
    """As asked for, else half of the memory that is available within the limits of the job's control groups (0: that
    is not known).

    Raises `UsageError`: more than there is would end the job for want of memory, where a full disk is an error.
    """
    size = asked.ramfs_bytes
    if size is None:
        size = max(_LEAST_BYTES, available_bytes // _SHARE)
    elif 0 < available_bytes < size:
        raise UsageError(
            f"{show_bytes(size)} are more than the memory that there is for this job, {about_bytes(available_bytes)}",
            where="[tmp] ramfs_size", hint="ask for less, or give the job more memory",
        )  # fmt: skip
    return RamDisk(size_bytes=size, inodes=asked.ramfs_inodes or max(_LEAST_INODES, size // _BYTES_A_FILE))
