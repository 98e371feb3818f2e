"""Mounts in the node's own namespace found again, and removed, by the journal of their making: ours, and no other.

Backwards, so that what carries another goes after it. A mount goes when its id, device, root and place are those of the
journal and nothing that is not ours is mounted on or in it; a directory when it is empty.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Final

from stager.errors import HostError, MountError, from_os_error
from stager.host import syscalls
from stager.host.host_journal import Directory, HostJournal, Mounted, Undoing, own_namespace
from stager.host.mounts import Row, lies_within, mount_id, read_mountinfo
from stager.host.procs import list_processes
from stager.host.workspace import boot_id
from stager.names import show

__all__ = ["all_stand", "are_elsewhere", "undo"]

_HANDLE: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def are_elsewhere(journal: HostJournal) -> bool:
    """Whether the mounts are gone with their boot or namespace. `HostError`: they stand in one that is not this."""
    begun = journal.begun
    if begun is None or begun.boot != boot_id():
        return True
    if begun.namespace == own_namespace():
        return False
    for process in list_processes():
        with suppress(OSError):
            if os.stat(f"/proc/{process.pid}/ns/mnt").st_ino != begun.namespace:
                continue
            rows = {row.mount_id: row for row in read_mountinfo(process.pid)}
            # A namespace's number is given to another as soon as it is free: only our mounts say that it is that one.
            if not any(_is_same(step, rows.get(step.mount_id)) for step in _mounts_of(journal)):
                return True
            raise HostError(
                f"the mounts of job {begun.job} were made in another mount namespace, that of process {process.pid}",
                where=journal.path, hint=f"run this in that one: nsenter --target {process.pid} --mount",
            )  # fmt: skip
    return True


def _is_same(step: Mounted, row: Row | None) -> bool:
    return row is not None and (row.device, row.root, row.mountpoint) == (step.device, step.root, step.target)


def _mounts_of(journal: HostJournal) -> Iterator[Mounted]:
    return (step for step in journal.steps if isinstance(step, Mounted))


def all_stand(journal: HostJournal) -> bool:
    """Whether none of them has been removed. Blocks."""
    rows = {row.mount_id: row for row in read_mountinfo()}
    return all(_find(step, rows) is not None for step in _mounts_of(journal))


def _find(step: Mounted, rows: dict[int, Row]) -> Row | None:
    """Our mount, if it stands still. A source that its user has renamed has another root and the same inode."""
    row = rows.get(step.mount_id)
    if row is None or row.mountpoint != step.target or row.device != step.device:
        return None
    if row.root == step.root:
        return row
    try:
        fd = os.open(step.target, _HANDLE)
    except OSError:
        return None
    try:
        found = os.fstat(fd)
        return row if mount_id(fd) == step.mount_id and (found.st_dev, found.st_ino) == step.identity else None
    finally:
        os.close(fd)


def undo(journal: HostJournal) -> list[str]:
    """Remove all of it that can be; the journal goes when nothing of it stands. What is in the way, named. Blocks.

    Raises `MountError`: the kernel refuses it. `HostError`: as `are_elsewhere`.
    """
    if not are_elsewhere(journal):
        if not isinstance(journal.steps[-1], Undoing):
            journal.note(Undoing())
        left = _unmount_all(journal)
        if left:
            return left
    for step in reversed(journal.steps):
        if isinstance(step, Directory):
            _remove_directory(step.path)
    journal.remove()
    return []


def _unmount_all(journal: HostJournal) -> list[str]:
    foreign: dict[int, str] = {}
    for step in reversed(list(_mounts_of(journal))):
        rows = {row.mount_id: row for row in read_mountinfo()}
        if (row := _find(step, rows)) is None:
            continue
        ours = _ours(journal, rows)
        inside = list(_inside(row, rows.values()))
        foreign |= {one.mount_id: _told(one) for one in inside if one.mount_id not in ours}
        if any((one.mount_id, one.device, one.root) not in step.below for one in inside):
            continue
        if not _is_on_top(step):
            foreign |= {one.mount_id: _told(one) for one in rows.values() if _covers(one, step.target, ours)}
            continue
        # With all that came with it, and also while a process holds it: what it holds, it keeps, nobody else sees it.
        try:
            syscalls.unmount(step.target, syscalls.MNT_DETACH | syscalls.UMOUNT_NOFOLLOW)
        except OSError as error:
            raise MountError(f"cannot unmount: {error.strerror}", where=step.target) from error
    return list(foreign.values())


def _ours(journal: HostJournal, rows: dict[int, Row]) -> set[int]:
    """The mounts of the journal that stand, each with what came with it."""
    stand = [step for step in _mounts_of(journal) if _find(step, rows) is not None]
    came = {below for step in stand for below in step.below}
    return {step.mount_id for step in stand} | {
        row.mount_id for row in rows.values() if (row.mount_id, row.device, row.root) in came
    }


def _inside(top: Row, rows: Iterable[Row]) -> Iterator[Row]:
    """What is mounted on or in a mount, however deep."""
    above = {top.mount_id}
    waiting = list(rows)
    while found := [row for row in waiting if row.parent_id in above and row.mount_id not in above]:
        above |= {row.mount_id for row in found}
        yield from found


def _is_on_top(step: Mounted) -> bool:
    try:
        fd = syscalls.open_resolved(step.target, os.O_PATH, resolve=syscalls.RESOLVE_NO_SYMLINKS)
    except OSError:
        return False
    try:
        return mount_id(fd) == step.mount_id
    finally:
        os.close(fd)


def _covers(row: Row, target: str, ours: set[int]) -> bool:
    return row.mount_id not in ours and row.mountpoint != "/" and lies_within(target, row.mountpoint)


def _told(row: Row) -> str:
    path, source = show(os.fsencode(row.mountpoint)), show(os.fsencode(row.source))
    return f"{path}: {row.fstype} from {source} (mount {row.mount_id})"


def _remove_directory(path: str) -> None:
    """One that somebody has put something into stays, and so does one that cannot be removed now."""
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EBUSY, errno.ENOTDIR, errno.EROFS):
            raise from_os_error(error, doing="remove the mount point", where=path) from error
