"""The file system behind logged_disk: one file, ``disk``, whose every write and flush is logged in its order.

Run as ``python logged_disk_daemon.py IMAGE MOUNTPOINT LOG``. A record is its kind, an offset, a length, and the data.
"""

from __future__ import annotations

import os
import stat
import struct
import sys
from typing import Any, BinaryIO

import mfusepy

__all__ = ["FLUSH", "RECORD", "WRITE"]

RECORD = struct.Struct("<BQI")
WRITE, FLUSH = 0, 1
_NAME = "/disk"


class LoggedDisk(mfusepy.Operations):
    use_ns = True

    def __init__(self, image: str, log: BinaryIO) -> None:
        self._fd = os.open(image, os.O_RDWR)
        self._size = os.fstat(self._fd).st_size
        self._log = log

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        if path == "/":
            return {"st_mode": stat.S_IFDIR | 0o700, "st_nlink": 2}
        if path != _NAME:
            raise mfusepy.FuseOSError(2)
        return {"st_mode": stat.S_IFREG | 0o600, "st_nlink": 1, "st_size": self._size}

    def readdir(self, path: str, fh: int) -> list[str]:
        return [".", "..", _NAME[1:]]

    def open(self, path: str, flags: int) -> int:
        return 0

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return os.pread(self._fd, size, offset)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        os.pwrite(self._fd, data, offset)
        self._log.write(RECORD.pack(WRITE, offset, len(data)) + data)
        self._log.flush()
        return len(data)

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        self._log.write(RECORD.pack(FLUSH, 0, 0))
        self._log.flush()
        return 0


def main(image: str, mountpoint: str, log: str) -> None:
    with open(log, "wb") as file:
        mfusepy.FUSE(LoggedDisk(image, file), mountpoint, foreground=True, nothreads=True, fsname="logged")


if __name__ == "__main__":
    main(*sys.argv[1:])
