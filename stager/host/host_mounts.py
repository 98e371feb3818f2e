"""A job's mounts in the node's own mount namespace, for schedulers whose tasks cannot be put into another.

Only one job at a time can have these paths on a node. /data and /public become a small read-only tmpfs that nobody but
the job's user and root can enter, and in it the data sets; what else there is is mounted at its own path. What the node
has at these paths is never covered: the job is refused. Mount points that are missing are made.

What was done is undone from the journal (`stager.host.host_journal`), also after a SIGKILL at any moment: see
`stager.host.host_unmounts`. Needs Linux 5.12.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from stager.errors import BusyError, MountError
from stager.host import syscalls
from stager.host.host_journal import RUN, Begun, Complete, Directory, HostJournal, Mounted
from stager.host.host_unmounts import all_stand, are_elsewhere, undo
from stager.host.mounts import Row, lies_within, mount_id, mount_id_of_path, place_of, read_mountinfo
from stager.host.read_only import prove_read_only
from stager.view_paths import DATA, PUBLIC

__all__ = ["SHELVES", "HostMount", "begun_mounts", "make_mounts", "remove_mounts"]

SHELVES: Final = (DATA, PUBLIC)
"""Directories that hold mounts and nothing else."""

_STAGED: Final = syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NODEV
_LOCKED: Final = _STAGED | syscalls.MOUNT_ATTR_RDONLY


class HostMount(NamedTuple):
    """What is to be mounted: an open directory (``O_PATH``), or a new tmpfs of so many bytes and inodes."""

    target: str
    source: int | None
    locked: bool = False
    tmpfs_options: dict[str, str] | None = None


def make_mounts(job: str, uid: int, gid: int, wanted: Sequence[HostMount], *, directory: str = RUN) -> bool:
    """Make all of them, or none; False: they stand already. Blocks.

    ``uid``, ``gid``: whose job it is. What a stager that was killed has left half made is removed before.
    Raises `BusyError`: another job has the paths. `MountError`: what lies there already, every path at once; what the
    kernel refuses; what cannot be removed. `HostError`, `NoSpaceError`.
    """
    wanted = [mount._replace(target=_canonical(mount.target)) for mount in wanted]
    with HostJournal(directory) as journal:
        begun = journal.begun
        if begun is not None:
            whole = journal.is_complete() and not are_elsewhere(journal)
            if whole and begun.job != job:
                raise BusyError(
                    f"job {begun.job} has these paths on this node", where="the mounts of this node",
                    hint=f"only one job at a time can: stager umount {begun.job} after its end",
                )  # fmt: skip
            if whole and all_stand(journal):
                return False
            if left := undo(journal):
                raise _left_over(begun.job, left)
        wanted = [mount for mount in wanted if not _is_there(mount)]
        _refuse_what_is_there(wanted)
        journal.begin(job, uid)
        umask = os.umask(0o022)
        try:
            _make(journal, uid, gid, wanted)
            journal.note(Complete())
        except BaseException:
            undo(journal)
            raise
        finally:
            os.umask(umask)
    return True


def remove_mounts(job: str, *, directory: str = RUN) -> bool:
    """Remove those of this job; False: it has none. Blocks.

    Raises `MountError`, naming what is mounted on or in them that is not ours: that stays, and with it what carries it.
    """
    with HostJournal(directory) as journal:
        begun = journal.begun
        if begun is None or begun.job != job:
            return False
        if left := undo(journal):
            raise _left_over(job, left)
    return True


def begun_mounts(*, directory: str = RUN) -> Begun | None:
    """Whose mounts there are on this node. Raises as `HostJournal`. Blocks."""
    with HostJournal(directory) as journal:
        return journal.begun


def _canonical(target: str) -> str:
    """The table of mounts knows no symlinks, and on some nodes /mnt is one."""
    above, name = os.path.split(target)
    return target if _is_on_a_shelf(target) else os.path.join(os.path.realpath(above), name)


def _is_there(mount: HostMount) -> bool:
    """Whether the node has just that directory there, as a storage that is mounted at its path on every node."""
    with suppress(FileNotFoundError, NotADirectoryError):
        return mount.source is not None and os.path.samestat(os.stat(mount.target), os.fstat(mount.source))
    return False


def _is_on_a_shelf(target: str) -> bool:
    return any(lies_within(target, shelf) for shelf in SHELVES)


def _left_over(job: str, left: Sequence[str]) -> MountError:
    return MountError(
        "\n  ".join([f"mounts of job {job} stay, for something that is not stager's is mounted there:", *left]),
        hint=f"\n  unmount that, then run stager umount {job}",
    )


def _refuse_what_is_there(wanted: Sequence[HostMount]) -> None:
    problems: list[str] = []
    for target in (*SHELVES, *(mount.target for mount in wanted)):
        if _is_on_a_shelf(target) and target not in SHELVES:
            continue
        with suppress(FileNotFoundError):
            if (problem := _what_is_at(target)) is not None:
                problems.append(f"{target}: {problem}")
    if problems:
        raise MountError(
            "\n  ".join(["the node has something at paths of the job's view, which mounts would hide:", *problems]),
            hint="\n  let jobs run in their own namespace there (stager run), or move that away",
        )


def _what_is_at(target: str) -> str | None:
    try:
        fd = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (NotADirectoryError, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        return "is no directory" if error.errno in (errno.ENOTDIR, errno.ELOOP) else (error.strerror or "")
    try:
        if mount_id(fd) != mount_id_of_path(os.path.dirname(target)):
            return "something is mounted there"
        with os.scandir(fd) as entries:
            return "is not empty" if next(entries, None) is not None else None
    finally:
        os.close(fd)


def _make(journal: HostJournal, uid: int, gid: int, wanted: Sequence[HostMount]) -> None:
    shelf_options = {"mode": "0700", "uid": str(uid), "gid": str(gid), "size": "1m"}
    try:
        for shelf in SHELVES:
            below = [mount.target[len(shelf) + 1 :] for mount in wanted if lies_within(mount.target, shelf)]
            _make_directories(journal, shelf)
            tree = syscalls.make_tmpfs(attributes=_STAGED, **shelf_options)
            try:
                for path in below:
                    os.makedirs(f"/proc/self/fd/{tree}/{path}", mode=0o755, exist_ok=True)
                syscalls.set_mount_attributes(tree, add=_LOCKED, propagation=syscalls.MS_PRIVATE)
                _attach(journal, shelf, tree, device=_device_of(tree), root="/")
            finally:
                os.close(tree)
        rows = read_mountinfo()
        for mount in wanted:
            if not _is_on_a_shelf(mount.target):
                _make_directories(journal, mount.target)
            _mount(journal, mount, rows)
    except OSError as error:
        where = os.fsdecode(error.filename or "")
        raise MountError(f"cannot mount in the node's namespace: {error.strerror}", where=where) from error


def _make_directories(journal: HostJournal, path: str) -> None:
    """What is missing of a mount point."""
    here = ""
    for name in path.strip("/").split("/"):
        here = f"{here}/{name}"
        if os.path.lexists(here):
            continue
        journal.note(Directory(path=here))
        try:
            os.mkdir(here, 0o755)
        except OSError as error:
            hint = "make it once, as an empty directory" if error.errno == errno.EROFS else ""
            raise MountError(f"cannot make the mount point: {error.strerror}", where=here, hint=hint) from error


def _mount(journal: HostJournal, mount: HostMount, rows: Sequence[Row]) -> None:
    if mount.source is None:
        tree = syscalls.make_tmpfs(attributes=_STAGED, **(mount.tmpfs_options or {}))
        device, root, inside = _device_of(tree), "/", list[tuple[Row, str]]()
    else:
        try:
            place = place_of(mount.source, rows)
        except LookupError as error:
            raise MountError("cannot tell which mount its source is on", where=mount.target) from error
        path = os.readlink(f"/proc/self/fd/{mount.source}")
        device, root = place
        inside = [(row, row.mountpoint[len(path) + 1 :]) for row in rows if row.mountpoint.startswith(f"{path}/")]
        tree = syscalls.clone_tree("", at=mount.source, flags=syscalls.AT_RECURSIVE | syscalls.AT_EMPTY_PATH)
    try:
        # Private: what is mounted at the source later does not come along, and nothing that is mounted here goes there.
        add = _LOCKED if mount.locked else _STAGED
        syscalls.set_mount_attributes(tree, add=add, propagation=syscalls.MS_PRIVATE, recursive=True)
        _attach(journal, mount.target, tree, device=device, root=root, below=_below(tree, inside))
    finally:
        os.close(tree)
    if mount.locked:
        _prove(mount.target)


def _below(tree: int, inside: Iterable[tuple[Row, str]]) -> tuple[tuple[int, str, str], ...]:
    """The mounts in a detached tree, which no table lists. One that another covers there cannot be asked."""
    found: dict[int, tuple[int, str, str]] = {}
    for row, path in inside:
        with suppress(FileNotFoundError, NotADirectoryError):
            fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=tree)
            found[mount_id(fd)] = (mount_id(fd), row.device, row.root)
            os.close(fd)
    found.pop(mount_id(tree), None)
    return tuple(found.values())


def _device_of(tree: int) -> str:
    number = os.fstat(tree).st_dev
    return f"{os.major(number)}:{os.minor(number)}"


def _attach(
    journal: HostJournal, target: str, tree: int, *, device: str, root: str,
    below: tuple[tuple[int, str, str], ...] = (),
) -> None:  # fmt: skip
    """The mount has its id before it is attached, so the journal names it before anybody can see it."""
    found = os.fstat(tree)
    journal.note(
        Mounted(
            target=target, mount_id=mount_id(tree), device=device, root=root, below=below,
            identity=(found.st_dev, found.st_ino),
        )
    )  # fmt: skip
    syscalls.attach_tree(tree, target)


def _prove(target: str) -> None:
    """Each mount there is read-only."""
    for row in read_mountinfo():
        if lies_within(row.mountpoint, target):
            prove_read_only(row)
