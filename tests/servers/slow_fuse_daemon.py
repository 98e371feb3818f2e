"""The file system behind slow_fuse: passes everything to a directory, after asking the rules of its control directory.

Run as ``python slow_fuse_daemon.py BACKING MOUNTPOINT CONTROL``. A rule is a file ``CONTROL/OPERATION.json``; one that
holds makes the operation wait until the file is gone, and says so by a file ``CONTROL/OPERATION.held``.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import mfusepy

_POLL_S = 0.005


class PassThrough(mfusepy.Operations):
    """Every operation on ``backing``, subject to the rules."""

    use_ns = True

    def __init__(self, backing: str, control: str) -> None:
        self._backing = backing
        self._control = Path(control)

    def _obey(self, operation: str, path: str, end_byte: int = 0) -> None:
        rule = self._rule(operation, path, end_byte)
        if rule is None:
            return
        time.sleep(rule["sleep_s"])
        if rule["hold"]:
            (self._control / f"{operation}.held").touch()
            while self._rule(operation, path, end_byte) is not None:
                time.sleep(_POLL_S)
        if rule["errno"]:
            raise mfusepy.FuseOSError(rule["errno"])

    def _rule(self, operation: str, path: str, end_byte: int) -> dict[str, Any] | None:
        try:
            rule: dict[str, Any] = json.loads((self._control / f"{operation}.json").read_bytes())
        except FileNotFoundError:
            return None
        return rule if rule["path"] in path and end_byte >= rule["from_byte"] else None

    def _under(self, path: str) -> str:
        return self._backing + (path.casefold() if (self._control / "folds").exists() else path)

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        self._obey("getattr", path)
        found = os.lstat(self._under(path)) if fh is None else os.fstat(fh)
        times = {f"st_{name}time": getattr(found, f"st_{name}time_ns") for name in "amc"}
        rest = ("st_mode", "st_ino", "st_nlink", "st_uid", "st_gid", "st_size", "st_blocks", "st_blksize")
        return {name: getattr(found, name) for name in rest} | times

    def readdir(self, path: str, fh: int) -> list[str]:
        self._obey("readdir", path)
        return [".", "..", *os.listdir(self._under(path))]

    def readlink(self, path: str) -> str:
        return os.readlink(self._under(path))

    def statfs(self, path: str) -> dict[str, int]:
        self._obey("statfs", path)
        found = os.statvfs(self._under(path))
        names = (
            "f_bavail",
            "f_bfree",
            "f_blocks",
            "f_bsize",
            "f_favail",
            "f_ffree",
            "f_files",
            "f_frsize",
            "f_namemax",
        )
        return {name: getattr(found, name) for name in names}

    def mkdir(self, path: str, mode: int) -> int:
        self._obey("mkdir", path)
        os.mkdir(self._under(path), mode)
        return 0

    def rmdir(self, path: str) -> int:
        os.rmdir(self._under(path))
        return 0

    def unlink(self, path: str) -> int:
        self._obey("unlink", path)
        os.unlink(self._under(path))
        return 0

    def rename(self, old: str, new: str) -> int:
        self._obey("rename", new)
        os.rename(self._under(old), self._under(new))
        return 0

    def link(self, target: str, source: str) -> int:
        self._obey("link", target)
        os.link(self._under(source), self._under(target))
        return 0

    def symlink(self, target: str, source: str) -> int:
        self._obey("symlink", target)
        os.symlink(source, self._under(target))
        return 0

    def chmod(self, path: str, mode: int) -> int:
        os.chmod(self._under(path), mode)
        return 0

    def chown(self, path: str, uid: int, gid: int) -> int:
        os.lchown(self._under(path), uid, gid)
        return 0

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> int:
        self._obey("utimens", path)
        os.utime(self._under(path), ns=times or (time.time_ns(),) * 2, follow_symlinks=False)
        return 0

    def create(self, path: str, mode: int, flags: int) -> int:
        self._obey("create", path)
        return os.open(self._under(path), flags | os.O_CREAT, mode)

    def open(self, path: str, flags: int) -> int:
        self._obey("open", path)
        return os.open(self._under(path), flags)

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        self._obey("read", path, offset + size)
        return os.pread(fh, size, offset)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        self._obey("write", path, offset + len(data))
        return os.pwrite(fh, data, offset)

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        self._obey("truncate", path, length)
        os.truncate(self._under(path) if fh is None else fh, length)
        return 0

    def flush(self, path: str, fh: int) -> int:
        self._obey("flush", path)
        return 0

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        self._obey("fsync", path)
        os.fsync(fh)
        return 0

    def release(self, path: str, fh: int) -> int:
        os.close(fh)
        return 0


def main(backing: str, mountpoint: str, control: str) -> None:
    if not os.path.isdir(backing):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), backing)
    # Without caching, what the kernel shows is what the directory holds.
    mfusepy.FUSE(
        PassThrough(backing, control),
        mountpoint,
        foreground=True,
        fsname="slow",
        attr_timeout=0,
        entry_timeout=0,
        hard_remove=True,
        auto_unmount=True,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
