"""Which device files and kernel controls a view leaves open.

The disk below a read-only mount can be written through its device, and a node can be reconfigured through files of
/proc and /sys that only ask for uid 0. Block devices and the raw ways to a disk or to memory do not open in any
view; character devices (GPUs, /dev/null, /dev/fuse, terminals) do. For a job of root the kernel's controls are
read-only besides; for an ordinary user permissions already say so.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Container, Iterator
from typing import Final

from stager.host import mounts, syscalls
from stager.host.mounts import Row

__all__ = ["confine"]

_RAW_SUBSYSTEMS: Final = frozenset(
    {"bsg", "scsi_generic", "nvme", "nvme-generic", "nvme-subsystem", "mtd", "ubi", "raw", "msr", "mmc_rpmb", "dax"}
)
"""Character devices that take commands for a disk, flash or processor: the name of /sys/dev/char/M:m/subsystem."""

_RAW_MEMORY: Final = frozenset({(1, 1), (1, 2), (1, 4)})
"""/dev/mem, /dev/kmem, /dev/port (Documentation/admin-guide/devices.txt of Linux)."""

_CONTROL_TYPES: Final = frozenset(
    {"sysfs", "cgroup", "cgroup2", "debugfs", "tracefs", "securityfs", "efivarfs", "configfs", "pstore", "bpf"}
    | {"selinuxfs", "smackfs", "binfmt_misc", "resctrl", "nfsd", "rpc_pipefs"}
)
"""File systems that are the kernel's controls."""


def confine() -> None:
    """Close raw devices in the current root, and for uid 0 the kernel's controls. ``OSError`` from the mounts."""
    rows = mounts.read_mountinfo()
    _close_devices([row for row in rows if mounts.lies_within(row.mountpoint, "/dev") and _opens_devices(row)])
    if os.geteuid() == 0:
        _close_controls(rows)


def _opens_devices(row: Row) -> bool:
    """Terminals stay; a mount that is nodev already, as FUSE's are, is not touched: it may not answer."""
    return row.fstype != "devpts" and "nodev" not in row.options


def _close_devices(rows: list[Row]) -> None:
    """Nothing opens in /dev but what was found good and bound over itself: a device that appears later does not."""
    bound = {row.mountpoint: found for row in rows if (found := _file_at(row.mountpoint)) is not None}
    for path in _character_devices("/dev", skip=bound):
        tree = syscalls.clone_tree(path, flags=syscalls.AT_SYMLINK_NOFOLLOW)
        syscalls.attach_tree(tree, path)
        os.close(tree)
    for row in rows:
        if row.mountpoint not in bound or not _is_harmless(bound[row.mountpoint]):
            _set(row, syscalls.MOUNT_ATTR_NODEV)


def _file_at(path: str) -> os.stat_result | None:
    """A container's /dev has single device files mounted: such a file; nothing for a directory or no answer."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return None if stat.S_ISDIR(found.st_mode) else found


def _character_devices(top: str, skip: Container[str]) -> Iterator[str]:
    with os.scandir(top) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in ("pts", "shm", "mqueue", "hugepages"):
                    yield from _character_devices(entry.path, skip)
            elif entry.path not in skip and _is_harmless(entry.stat(follow_symlinks=False)):
                yield entry.path


def _is_harmless(found: os.stat_result) -> bool:
    if not stat.S_ISCHR(found.st_mode):
        return False
    number = (os.major(found.st_rdev), os.minor(found.st_rdev))
    return number not in _RAW_MEMORY and _subsystem(number) not in _RAW_SUBSYSTEMS


def _subsystem(number: tuple[int, int]) -> str:
    try:
        return os.path.basename(os.readlink(f"/sys/dev/char/{number[0]}:{number[1]}/subsystem"))
    except OSError:
        return ""


def _close_controls(rows: list[Row]) -> None:
    for row in rows:
        if row.fstype in _CONTROL_TYPES:
            _set(row, syscalls.MOUNT_ATTR_RDONLY)
        elif row.fstype == "proc" and row.root == "/":
            for path in _kernel_files(row.mountpoint):
                _bind_read_only(path)


def _kernel_files(proc: str) -> Iterator[str]:
    """What stands in a /proc besides the processes: settings and triggers of the whole node."""
    with os.scandir(proc) as entries:
        for entry in entries:
            if entry.name.isdigit() or entry.is_symlink():
                continue
            if entry.is_dir() or entry.stat().st_mode & 0o222:
                yield entry.path


def _bind_read_only(path: str) -> None:
    tree = syscalls.clone_tree(path)
    syscalls.set_mount_attributes(tree, add=syscalls.MOUNT_ATTR_RDONLY, propagation=syscalls.MS_PRIVATE, recursive=True)
    syscalls.attach_tree(tree, path)
    os.close(tree)


def _set(row: Row, flags: int) -> None:
    """Add flags to a mount that its mount point shows; one that cannot be reached here, the job cannot reach either."""
    try:
        descriptor = os.open(row.mountpoint, os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW)
    except (FileNotFoundError, PermissionError):
        return
    try:
        if mounts.mount_id(descriptor) == row.mount_id:
            syscalls.set_mount_attributes(descriptor, add=flags, propagation=syscalls.MS_PRIVATE)
    finally:
        os.close(descriptor)
