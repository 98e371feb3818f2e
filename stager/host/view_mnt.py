"""The host's /mnt in a view: what it holds as it is, and the storages of the job beside it.

Nothing can be mounted at a name that a directory does not have, and the host's /mnt is not to be touched. So the view's
/mnt is a small tmpfs with every entry of the host's mounted at its name. Below it, where no path leads, lies the host's
own: mounts that the host makes or ends in /mnt reach that one, and `follow` does the same above.

Where the host has a directory for each storage itself, its /mnt is shown as it is, and may be written to.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from stager.errors import MountError
from stager.host import mounts, syscalls
from stager.host.mounts import Row

__all__ = ["MNT", "STAGED", "HostMnt", "carry_over", "follow", "look", "show"]

MNT: Final = "mnt"
_PATH: Final = f"/{MNT}"
STAGED: Final = syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NODEV
"""What holds for every mount of stager's."""

_MOST: Final = 2000
"""Entries, a mount each: the kernel's table is read as a whole whenever it changes."""

_DIRECTORY: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


@dataclass
class HostMnt:
    """``below``: the host's directory, open; ``behind``: the one above it, as it could be written to. ``own``: names
    that are not the host's there. ``mounted``: entries that are shown as a mount of the host's, with the number that it
    has below.
    """

    below: int
    behind: int
    own: frozenset[str]
    mounted: dict[str, int] = field(default_factory=dict)


def look(storages: Sequence[str]) -> tuple[int, frozenset[str]] | None:
    """The host's /mnt, open, and the names of the ``storages`` there, unless it has a directory for each of them; None:
    there is no /mnt.
    """
    try:
        host = os.open(_PATH, _DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        return None
    there, names = _entries(host), frozenset(map(os.path.basename, storages))
    return host, frozenset() if all(there.get(name) for name in names) else names


def show(host: tuple[int, frozenset[str]] | None, root: int) -> HostMnt | None:
    """Put what `look` has found below the directory of this name of a new ``root``, and above it what the job sees.

    None: there is nothing to keep up with. OSError, `MountError`.
    """
    if host is None:
        return None
    tree = _copy_of("", host[0])
    os.close(host[0])
    syscalls.attach_tree(tree, MNT, at=root)
    os.close(tree)
    if not host[1]:
        return None
    below = os.open(MNT, _DIRECTORY, dir_fd=root)
    shown = syscalls.make_tmpfs(attributes=STAGED, mode="0755", size="1m")
    syscalls.attach_tree(shown, MNT, at=root)
    mnt = HostMnt(below, syscalls.clone_tree("", at=shown, flags=syscalls.AT_EMPTY_PATH), host[1])
    mnt.mounted = _mounted_on(mnt, mounts.read_mountinfo())
    entries = _entries(below) or dict.fromkeys(mnt.mounted, True)
    if len(entries) > _MOST:
        raise MountError(
            f"holds {len(entries)} entries, and no directories for the storages of a job", where=_PATH,
            hint="make local_storage, cluster_storage, user_storage and shared_storage there, once",
        )  # fmt: skip
    for name, is_directory in entries.items():
        if name in mnt.own:
            continue
        with suppress(FileNotFoundError):
            if is_directory is None:
                os.symlink(os.readlink(name, dir_fd=below), name, dir_fd=shown)
            else:
                carry_over(name, below, shown, is_directory=is_directory)
    os.close(shown)
    return mnt


def carry_over(name: str, host: int, root: int, *, is_directory: bool, devices: bool = False) -> None:
    """Show an entry of the host's open directory at the same name of ``root``; its ``devices`` work there. OSError."""
    tree = _copy_of(name, host, devices=devices)
    try:
        _make(name, root, is_directory=is_directory)
        syscalls.attach_tree(tree, name, at=root)
    finally:
        os.close(tree)


def follow(mnt: HostMnt, rows: Sequence[Row]) -> None:
    """Show what the host has mounted in /mnt since, and no more what it has unmounted, as far as that can be.

    Below entries that were shown already the kernel does so by itself. OSError: the kernel's table is not to be had.
    """
    now = _mounted_on(mnt, rows)
    for name in [name for name, number in mnt.mounted.items() if now.get(name) != number]:
        del mnt.mounted[name]
        with suppress(OSError):  # whatever it is, no job ends for that
            syscalls.unmount(f"{_PATH}/{name}", syscalls.MNT_DETACH | syscalls.UMOUNT_NOFOLLOW)
            if name in _entries(mnt.below):
                _attach(mnt, name, now)
            else:
                os.rmdir(name, dir_fd=mnt.behind)
    new = now.keys() - mnt.mounted.keys()
    shown = _entries(mnt.behind) if new else {}
    for name in new - shown.keys():
        with suppress(OSError):
            _make(name, mnt.behind, is_directory=_entries(mnt.below).get(name, True) is True)
            _attach(mnt, name, now)


def _attach(mnt: HostMnt, name: str, now: Mapping[str, int]) -> None:
    tree = _copy_of(name, mnt.below)
    try:
        syscalls.attach_tree(tree, f"{_PATH}/{name}")
    finally:
        os.close(tree)
    if name in now:
        mnt.mounted[name] = now[name]


def _make(name: str, where: int, *, is_directory: bool) -> None:
    if is_directory:
        os.mkdir(name, dir_fd=where)
    else:
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444, dir_fd=where))


def _copy_of(name: str, host: int, *, devices: bool = False) -> int:
    """A detached copy of what is mounted at the name; "" is the open directory itself."""
    flags = syscalls.AT_RECURSIVE | syscalls.AT_NO_AUTOMOUNT
    flags |= syscalls.AT_SYMLINK_NOFOLLOW if name else syscalls.AT_EMPTY_PATH
    tree = syscalls.clone_tree(name, at=host, flags=flags)
    if not devices:
        # A device file is a way to a disk under the view; outside /dev no job has use for one.
        syscalls.set_mount_attributes(tree, add=syscalls.MOUNT_ATTR_NODEV, recursive=True)
    return tree


def _mounted_on(mnt: HostMnt, rows: Sequence[Row]) -> dict[str, int]:
    """What is mounted on entries of the host's directory, by name."""
    number = mounts.mount_id(mnt.below)
    found = {row.mountpoint.removeprefix(f"{_PATH}/"): row.mount_id for row in rows if row.parent_id == number}
    return {name: mount for name, mount in found.items() if "/" not in name and name not in mnt.own}


def _entries(directory: int) -> dict[str, bool | None]:
    """Names in an open directory, and whether each is a directory; None: a symlink. Empty where it may not be read.

    Their kind comes from the directory, not from a stat: a dead network mount answers none.
    """
    try:
        fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
    except PermissionError:
        return {}
    with os.scandir(fd) as entries:
        found = {entry.name: None if entry.is_symlink() else entry.is_dir(follow_symlinks=False) for entry in entries}
    os.close(fd)
    return found
