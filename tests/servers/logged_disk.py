"""A disk that can lose its power at any moment: what was written to it, in which order, and what was flushed.

The kernel's dm-log-writes as a FUSE file below a loop device. A crash keeps all that was written before the last flush,
and any part of what came after it, for a disk may do what it likes with what nobody asked it to keep. Needs root and a
mount namespace of one's own.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from servers.logged_disk_daemon import RECORD, WRITE
from servers.slow_fuse import FUSE3

__all__ = ["Log", "LoggedDisk", "logged_disk", "mounted"]

_READY_WITHIN_S = 30.0


@dataclass(frozen=True)
class Log:
    """``writes`` between flushes: a list for each flush, and one of what no flush followed."""

    epochs: list[list[tuple[int, bytes]]]

    def crash(self, base: Path, image: Path, epoch: int, draw: random.Random | None) -> None:
        """Make the disk of a crash before the flush that ends ``epoch``: any of that epoch's writes (None: none)."""
        subprocess.run(["cp", "--sparse=always", base, image], check=True)
        with image.open("r+b") as disk:
            for writes in self.epochs[:epoch]:
                _apply(disk.fileno(), writes)
            if draw is not None:
                _apply(disk.fileno(), [write for write in self.epochs[epoch] if draw.random() < 0.5])


def _apply(fd: int, writes: list[tuple[int, bytes]]) -> None:
    for offset, data in writes:
        os.pwrite(fd, data, offset)


@dataclass(frozen=True, kw_only=True)
class LoggedDisk:
    """``device`` is the file to mount; ``base`` the disk as it was before anything was logged."""

    device: Path
    base: Path
    log_file: Path

    def flushes(self) -> int:
        """How often it has been flushed so far."""
        return len(self.read().epochs) - 1

    def read(self) -> Log:
        """What was logged so far."""
        log = self.log_file.read_bytes()
        epochs: list[list[tuple[int, bytes]]] = [[]]
        at = 0
        while at + RECORD.size <= len(log):
            kind, offset, length = RECORD.unpack_from(log, at)
            at += RECORD.size
            if kind == WRITE:
                epochs[-1].append((offset, log[at : at + length]))
                at += length
            else:
                epochs.append([])
        return Log(epochs)


@contextmanager
def logged_disk(base: Path, work: Path) -> Iterator[LoggedDisk]:
    """A disk that begins as ``base``, in an empty directory."""
    image, mountpoint, log = work / "image", work / "fuse", work / "log"
    subprocess.run(["cp", "--sparse=always", base, image], check=True)
    mountpoint.mkdir()
    daemon = str(Path(__file__).with_name("logged_disk_daemon.py"))
    environment = {**os.environ, **FUSE3, "PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen([sys.executable, daemon, image, mountpoint, log], env=environment) as process:
        try:
            deadline = time.monotonic() + _READY_WITHIN_S
            while not (mountpoint / "disk").exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise TimeoutError("the logged disk does not come up")
                time.sleep(0.01)
            yield LoggedDisk(device=mountpoint / "disk", base=base, log_file=log)
        finally:
            subprocess.run(["umount", "--lazy", mountpoint], check=False)
            process.wait()


@contextmanager
def mounted(device: Path, where: Path, options: str = "", *, kind: str = "ext4") -> Iterator[Path]:
    """A file system by a loop device that goes with it."""
    subprocess.run(["mount", "-t", kind, "-o", f"loop{options}", device, where], check=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", where], check=True)
