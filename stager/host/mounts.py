"""The kernel's table of mounts: read, and asked where a directory of a file system can be reached.

Format: proc_pid_mountinfo(5). Paths in it are octal-escaped, and are bytes to the kernel: here they are text with
surrogate escapes, as `os.fsdecode` makes it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from stager.host import syscalls

__all__ = [
    "NETWORK_TYPES",
    "Place",
    "Row",
    "fstab_points",
    "is_network",
    "lies_within",
    "mount_id",
    "mount_id_of_path",
    "mount_of_path",
    "parse_mountinfo",
    "place_of",
    "places_below",
    "read_fstab",
    "read_mountinfo",
    "unescape",
]

_OCTAL: Final = re.compile(rb"\\([0-7]{3})")

NETWORK_TYPES: Final = frozenset(
    "nfs nfs4 cifs smb3 smbfs ceph lustre gpfs afs 9p beegfs glusterfs efs davfs".split()  # noqa: SIM905 (a table)
)
"""File system types whose data comes over a network; every ``fuse.`` type may, see `is_network`."""


class Row(NamedTuple):
    """One mount: ``root`` is the directory of the file system ``device`` that is seen at ``mountpoint``."""

    mount_id: int
    parent_id: int
    device: str  # "MAJOR:MINOR", as the kernel names the file system; not always st_dev (btrfs)
    root: str
    mountpoint: str
    options: frozenset[str]  # of this mount: "ro", "nosuid", ...
    fstype: str
    source: str
    super_options: str = ""  # of the file system: "rw,upperdir=/a", escaped where the kernel does
    propagates: bool = False  # it is shared, or a slave


class Place(NamedTuple):
    """A directory by its file system and the path from that file system's root, however it is mounted."""

    device: str
    root: str


def unescape(text: bytes) -> str:
    r"""``\040`` and its kind become the character they stand for."""
    return os.fsdecode(_OCTAL.sub(lambda match: bytes([int(match[1], 8)]), text))


def parse_mountinfo(text: bytes) -> list[Row]:
    """Every row, in the kernel's order. ``ValueError`` when the text is no mountinfo."""
    return [_parse_row(line) for line in text.splitlines() if line]


def _parse_row(line: bytes) -> Row:
    own, _, file_system = line.partition(b" - ")
    fields = own.split(b" ")
    fstype, source, *more = file_system.split(b" ")
    return Row(
        mount_id=int(fields[0]),
        parent_id=int(fields[1]),
        device=fields[2].decode(),
        root=unescape(fields[3]),
        mountpoint=unescape(fields[4]),
        options=frozenset(fields[5].decode().split(",")),
        fstype=unescape(fstype),
        source=unescape(source),
        super_options=unescape(more[0]) if more else "",
        propagates=any(field.startswith((b"shared:", b"master:")) for field in fields[6:]),
    )


def read_fstab() -> bytes:
    """The table of what is to be mounted; empty when there is none. Blocks."""
    try:
        with open("/etc/fstab", "rb") as file:
            return file.read()
    except OSError:
        return b""


def fstab_points(fstab: bytes) -> Iterator[tuple[str, str]]:
    """Mount points and types of its rows: fstab(5)."""
    for line in fstab.splitlines():
        fields = line.split()
        if len(fields) >= 3 and not fields[0].startswith(b"#"):
            yield unescape(fields[1]), os.fsdecode(fields[2])


def read_mountinfo(pid: int | None = None) -> list[Row]:
    """The mounts of this (or another) process's namespace that its root directory can reach. OSError."""
    with open(f"/proc/{pid or 'self'}/mountinfo", "rb") as file:
        return parse_mountinfo(file.read())


def mount_id(descriptor: int) -> int:
    """The mount an open descriptor (``O_PATH`` too) was reached through."""
    with open(f"/proc/self/fdinfo/{descriptor}", "rb") as file:
        for line in file:
            if line.startswith(b"mnt_id:"):
                return int(line[7:])
    raise ValueError("no mnt_id in fdinfo")


def mount_id_of_path(path: str) -> int:
    """The mount that a path is on. OSError."""
    number = syscalls.mount_id_of(path)
    if number is not None:
        return number
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        return mount_id(descriptor)
    finally:
        os.close(descriptor)


def lies_within(path: str, top: str) -> bool:
    """Whether ``path`` is ``top`` or below it; both absolute and normal."""
    return path == top or path.startswith(top.rstrip("/") + "/")


def is_network(fstype: str) -> bool:
    """Whether the data of this type of file system may come from elsewhere (every FUSE type may)."""
    return fstype in NETWORK_TYPES or fstype == "fuse" or fstype.startswith("fuse.")


def mount_of_path(path: str, rows: Iterable[Row]) -> Row | None:
    """The mount that a canonical path is on: the longest mount point above it, the last of its equals."""
    best: Row | None = None
    for row in rows:
        if lies_within(path, row.mountpoint) and (best is None or len(row.mountpoint) >= len(best.mountpoint)):
            best = row
    return best


def place_of(descriptor: int, rows: Iterable[Row]) -> Place:
    """Where an open directory really is. ``LookupError`` when its mount is not in ``rows``."""
    number = mount_id(descriptor)
    path = os.readlink(f"/proc/self/fd/{descriptor}")
    for row in rows:
        if row.mount_id == number and lies_within(path, row.mountpoint):
            return Place(row.device, _join(row.root, path[len(row.mountpoint.rstrip("/")) :]))
    raise LookupError(f"mount {number} of {path} is not in the table")


def places_below(path: str, rows: Iterable[Row]) -> Iterator[Place]:
    """The file systems mounted below a canonical path."""
    for row in rows:
        if row.mountpoint != path and lies_within(row.mountpoint, path):
            yield Place(row.device, row.root)


def _join(root: str, rest: str) -> str:
    return (root.rstrip("/") + rest) or "/"
