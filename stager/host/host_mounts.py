"""A job's mounts in the node's own mount namespace, for schedulers whose tasks cannot be put into another.

Only one job at a time can have these paths on a node. /data and /public become a small read-only tmpfs that nobody but
the job's user and root can enter, and in it the data sets; what else there is is mounted at its own path. What the node
has at these paths is never covered: the job is refused. Mount points that are missing are made.

What was done is undone from the journal (`stager.host.host_journal`), backwards, also after a SIGKILL at any moment: a
mount is taken away when its id, device, root and place are those of the journal and nothing that is not ours is mounted
on or in it, a directory when it is empty. Needs Linux 5.12.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from stager.errors import BusyError, HostError, MountError, from_os_error
from stager.host import syscalls
from stager.host.host_journal import RUN, Begun, Complete, Directory, HostJournal, Mounted, Undoing, own_namespace
from stager.host.mounts import Row, lies_within, mount_id, mount_id_of_path, place_of, read_mountinfo
from stager.host.procs import list_processes
from stager.host.workspace import boot_id
from stager.names import show
from stager.view_paths import DATA, PUBLIC

__all__ = ["SHELVES", "HostMount", "begun_mounts", "make_mounts", "remove_mounts"]

SHELVES: Final = (DATA, PUBLIC)
"""Directories that hold mounts and nothing else."""

_STAGED: Final = syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NODEV
_LOCKED: Final = _STAGED | syscalls.MOUNT_ATTR_RDONLY
_HANDLE: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


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
            whole = journal.is_complete() and not _are_elsewhere(journal)
            if whole and begun.job != job:
                raise BusyError(
                    f"job {begun.job} has these paths on this node", where="the mounts of this node",
                    hint=f"only one job at a time can: stager umount {begun.job} after its end",
                )  # fmt: skip
            if whole and _all_stand(journal):
                return False
            if left := _undo(journal):
                raise _left_over(begun.job, left)
        wanted = [mount for mount in wanted if not _is_there(mount)]
        _refuse_what_is_there(wanted)
        journal.begin(job, uid)
        umask = os.umask(0o022)
        try:
            _make(journal, uid, gid, wanted)
            journal.note(Complete())
        except BaseException:
            _undo(journal)
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
        if left := _undo(journal):
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
    """Read-only by the flags of each mount there, and by the kernel's own answer; nothing is created in the attempt."""
    for row in read_mountinfo():
        if not lies_within(row.mountpoint, target):
            continue
        if "ro" not in row.options:
            raise MountError("is not read-only", where=row.mountpoint, hint="please report this: it is a bug")
        try:
            syscalls.check_access(row.mountpoint, os.W_OK)
        except OSError as error:
            if error.errno not in (errno.EROFS, errno.EACCES):
                raise
        else:
            raise MountError("can be written to", where=row.mountpoint, hint="please report this: it is a bug")


def _are_elsewhere(journal: HostJournal) -> bool:
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


def _all_stand(journal: HostJournal) -> bool:
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


def _undo(journal: HostJournal) -> list[str]:
    """Backwards; the journal goes when nothing of it stands. What is in the way of the rest, named."""
    if not _are_elsewhere(journal):
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
