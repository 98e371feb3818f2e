"""One candidate for a scratch directory: what it lies on, what fits, and whether it can be used at all."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from stager.errors import StagerError, from_os_error
from stager.host import syscalls
from stager.host.clones import clones_in
from stager.host.disks import Behind, Sysfs, disks_behind
from stager.host.mounts import Row, fstab_points, is_network, lies_within, mount_id_of_path
from stager.host.quota import Space, space_of
from stager.host.safe_path import safe_part
from stager.host.scratch import is_private
from stager.placement import DeviceClass, Origin, Root

__all__ = ["Node", "examine", "problem_of"]

_IN_MEMORY: Final = frozenset({"tmpfs", "ramfs", "rootfs"})
_UPPER: Final = re.compile(r"(?:^|,)upperdir=((?:\\.|[^,\\])*)")
_NOEXEC: Final = "is mounted noexec: programs of a job's code would not run from there"
_BELOW: Final = 4  # an overlay on an overlay on ...


def problem_of(path: str) -> str:
    """Why this user cannot have a scratch at ``path``, as `stager.host.scratch.open_scratch` would say; else "".

    Nothing is made. Blocks. Never raises.
    """
    try:
        there = safe_part(path)
        complete = os.path.realpath(path) == there
        if complete and not is_private(os.stat(there)):
            below = os.path.join(there, f"stager-{os.geteuid()}")
            if os.path.lexists(below):
                found = os.lstat(below)
                own = stat.S_ISDIR(found.st_mode) and is_private(found)
                there = below
                if not own:
                    return f"{below} is not a directory that only you can write"
        syscalls.check_access(there, os.W_OK | os.X_OK)
    except StagerError as error:
        return f"{error.where} {error.what}" if error.where not in ("", path) else error.what
    except OSError as error:
        return "you cannot write there" if error.errno == errno.EACCES else (error.strerror or str(error)).lower()
    return ""


@dataclass(frozen=True)
class Node:
    """The kernel's mounts and disks as they are seen from here; each part can be another's, for tests."""

    rows: Sequence[Row]
    sysfs: Sysfs = field(default_factory=Sysfs)
    mount_id: Callable[[str], int] = mount_id_of_path
    space: Callable[[str], Space] = space_of
    problem: Callable[[str], str] = problem_of
    exists: Callable[[str], bool] = os.path.isdir
    fstab: bytes = b""

    def unmounted(self, path: str) -> str:
        """The mount point at or above ``path`` that stands in fstab(5) and is not mounted; "" when there is none."""
        mounted = {row.mountpoint for row in self.rows}
        for point, kind in fstab_points(self.fstab):
            if kind in ("swap", "none") or point in ("/", "none"):
                continue
            if lies_within(path, point) and point not in mounted:
                return point
        return ""

    def row_of(self, path: str) -> Row | None:
        """The mount a path is on; None: it is not there, or the table does not have it."""
        try:
            number = self.mount_id(path)
        except OSError:
            return None
        return next((row for row in self.rows if row.mount_id == number), None)

    @cached_property
    def root_disks(self) -> tuple[str, frozenset[str]]:
        """The device of ``/``, and the names of its disks."""
        row = self.row_of("/")
        return ("", frozenset()) if row is None else (row.device, frozenset(d.name for d in self.behind(row).disks))

    def is_on_root_disk(self, row: Row, behind: Behind) -> bool:
        """Whether a mount shares a disk with ``/``, also by a file there that is mounted as a disk."""
        device, names = self.root_disks
        files = [self.row_of(disk.backing) for disk in behind.disks if disk.backing]
        return (
            row.device == device
            or any(disk.name in names for disk in behind.disks)
            or any(file is not None and file.device == device for file in files)
        )

    def behind(self, row: Row) -> Behind:
        """The disks of a mount; of an overlay, those its upper directory lies on, where that can be seen."""
        lower = self._below(row)
        return disks_behind(lower, self.sysfs) if lower is not None else Behind()

    def classify(self, row: Row) -> tuple[DeviceClass, str, Behind]:
        """Which class a mount is of, why, and what is behind it."""
        lower = self._below(row)
        if lower is None:
            return DeviceClass.VIRTUAL, "a container's layer, whose disk cannot be seen from here", Behind()
        if is_network(lower.fstype):
            return DeviceClass.NETWORK, f"{lower.fstype} from {lower.source}", Behind()
        if lower.fstype in _IN_MEMORY:
            return DeviceClass.RAM, f"{lower.fstype}, in memory", Behind()
        behind = disks_behind(lower, self.sysfs)
        if not behind.disks:
            return DeviceClass.VIRTUAL, f"{lower.fstype} on {lower.source}, whose disk is not known", behind
        return behind.device_class, behind.told, behind

    def _below(self, row: Row) -> Row | None:
        for _ in range(_BELOW):
            if row.fstype != "overlay":
                return row
            found = _UPPER.search(row.super_options)
            upper = re.sub(r"\\(.)", r"\1", found[1]) if found else ""
            below = self.row_of(upper) if upper.startswith("/") and self.exists(upper) else None
            if below is None:
                return None
            row = below
        return None


def examine(
    path: str, node: Node, *, origin: Origin, device_class: DeviceClass | None = None, clone: bool = False
) -> Root:
    """What is to be known of ``path``, absolute; what of it is missing would be made. ``device_class``: what it is said
    to be. ``clone``: reflinks are tried. Never raises. Blocks: for ever where a network file system does not answer.
    """
    there = path
    while not node.exists(there) and there != "/":
        there = os.path.dirname(there)
    problem, row = node.problem(path), node.row_of(there)
    if row is None:
        return Root(path=path, origin=origin, device_class=device_class or DeviceClass.VIRTUAL, told="not known",
                    problem=problem or "its mount is not known")  # fmt: skip
    found_class, told, behind = node.classify(row)
    if device_class is not None and device_class is not found_class:
        told = f"by configuration; found was {found_class} ({told})"
    try:
        space = node.space(there)
    except OSError as error:
        space = Space(total_bytes=0, free_bytes=0, total_inodes=None, free_inodes=None)
        problem = problem or str(from_os_error(error, doing="ask for free space", where=there))
    if point := node.unmounted(path):
        problem = problem or f"{point} stands in /etc/fstab but is not mounted"
    if "ro" in row.options or "ro" in row.super_options.split(","):
        problem = "is mounted read-only"
    if origin == "found" and "noexec" in row.options:
        problem = problem or _NOEXEC
    return Root(
        path=path,
        origin=origin,
        device_class=device_class or found_class,
        told=told,
        file_system=row.fstype,
        mountpoint=row.mountpoint,
        device=row.device,
        disks=behind.disks,
        layers=behind.layers,
        total_bytes=space.total_bytes,
        free_bytes=space.free_bytes,
        total_inodes=space.total_inodes,
        free_inodes=space.free_inodes,
        reflink=clones_in(there) if clone and not problem else None,
        root_disk=node.is_on_root_disk(row, behind),
        busy=behind.busy,
        notes=_notes(row, space),
        problem=problem,
    )


def _notes(row: Row, space: Space) -> tuple[str, ...]:
    notes = []
    if "noexec" in row.options:
        notes.append(_NOEXEC)
    if space.by_quota:
        notes.append("a quota leaves no more")
    return tuple(notes)
