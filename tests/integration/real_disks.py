"""Real file systems on loop devices (root), for tests of where data is placed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

__all__ = ["MAKERS", "disk", "loop", "mount"]

MIB = 1 << 20
MAKERS = {
    "ext4": (64 * MIB, ["mkfs.ext4", "-q", "-m", "0"]),
    "xfs": (320 * MIB, ["mkfs.xfs", "-q", "-m", "reflink=1"]),
    "xfs without clones": (320 * MIB, ["mkfs.xfs", "-q", "-m", "reflink=0"]),
    "btrfs": (128 * MIB, ["mkfs.btrfs", "-q"]),
}
"""The least that each kind can be made on, and how."""


def _run(*argv: str | Path) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()


@contextmanager
def loop(image: Path, size: int) -> Iterator[str]:
    """A loop device over a new sparse file."""
    with image.open("wb") as file:
        file.truncate(size)
    device = _run("losetup", "--find", "--show", image)
    _forget_claims(device)
    try:
        yield device
    finally:
        _run("losetup", "--detach", device)


def _forget_claims(device: str) -> None:
    """What this user's stagers have reserved on a disk that had this device's number before: one that a test has
    stopped, or the tests' own process where it was "killed", may live on.
    """
    number = os.stat(device).st_rdev
    claimed = f'"device":"{os.major(number)}:{os.minor(number)}"'
    for record in Path(f"/var/tmp/stager-{os.geteuid()}/node").glob("*"):
        with suppress(OSError):
            if claimed in str(record.readlink()):
                record.unlink()


@contextmanager
def mount(where: Path, kind: str, source: str, options: str = "defaults") -> Iterator[Path]:
    where.mkdir(exist_ok=True)
    _run("mount", "-t", kind, "-o", options, source, where)
    try:
        yield where
    finally:
        _run("umount", where)


@contextmanager
def disk(where: Path, kind: str, *, size: int | None = None, devices: int = 1) -> Iterator[list[str]]:
    """A file system of this kind mounted at ``where``; the names of its loop devices."""
    least, maker = MAKERS[kind]
    with ExitStack() as stack:
        images = [where.with_name(f"{where.name}.{number}") for number in range(devices)]
        loops = [stack.enter_context(loop(image, size or least)) for image in images]
        _run(*maker, *loops)
        stack.enter_context(mount(where, kind.partition(" ")[0], loops[0]))
        yield [Path(device).name for device in loops]
