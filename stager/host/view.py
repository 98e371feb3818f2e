"""A job's view of the node, built in the calling process, which must be single-threaded and the job's principal.

The view is a small read-only tmpfs as root, on it the host's top-level directories as they are, and stager's own of
`stager.view_paths` (`stager.host.view_root`). As root it is made in a mount namespace; an ordinary user also gets a
user namespace that maps the user to itself. Needs Linux 5.12 (mount_setattr): older kernels cannot make a tree of
mounts read-only in one step.

What is read-only stays so because of how it is made: flags and private propagation in one call before the mount can
be seen, every other way to the same directory covered as well (`_lock_places`), and proof at the end (`_prove`).

What a view does not stop: FIFOs and sockets on a read-only mount still take data; a file that has a second hard link
outside the public directory can be written through that one by whoever may; a job of root can change the node's own
files (cron, units) and be run again outside by them; services that run commands for the user answer inside too.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple, TypedDict

from stager.errors import MountError
from stager.host import devices, mounts, namespaces, syscalls
from stager.host.alive import confirm_alive
from stager.host.mounts import Place, Row
from stager.host.read_only import prove_read_only
from stager.host.strict_root import make_proc
from stager.host.view_mnt import STAGED, HostMnt, follow
from stager.host.view_root import enter_root
from stager.view_paths import TMP_RAMFS

__all__ = ["Guarded", "MountRequest", "RamDiskRequest", "ViewRequest", "build", "close_later_mounts"]

_LIVE: Final = ("bind", "nfs", "public")
_LOCKED: Final = STAGED | syscalls.MOUNT_ATTR_RDONLY
_SEALED: Final = _LOCKED | syscalls.MOUNT_ATTR_NOEXEC


class MountRequest(TypedDict):
    """`stager.model.Mount` as it crosses the pipe; ``pinned`` is (st_dev, st_ino) of the checked source, ``address``
    the NFS server's of one that is an export. With ``lower`` the source holds ``upper`` and ``work`` of an overlay.
    With ``owner`` it is this user's, and nobody else's.
    """

    kind: str
    source: str
    target: str
    read_only: bool
    pinned: tuple[int, int]
    address: str | None
    lower: str | None
    owner: int | None


class RamDiskRequest(TypedDict):
    """`stager.model.RamDisk` as it crosses the pipe."""

    size_bytes: int
    inodes: int


class ViewRequest(TypedDict):
    """`stager.model.MountView` as it crosses the pipe."""

    mounts: list[MountRequest]
    masked: list[str]
    ramdisk: RamDiskRequest | None
    strict: bool


class Guarded(NamedTuple):
    """What stays closed in a view: ``public`` is read-only, ``hidden`` is empty but for the mounts in ``own``.

    ``mnt``: the host's /mnt, where it is not shown as it is.
    """

    public: tuple[Place, ...]
    hidden: tuple[Place, ...]
    own: frozenset[int]
    mnt: HostMnt | None


def build(request: ViewRequest, admit: Callable[[MountRequest, int], None]) -> Guarded:
    """Make the view and make it this process's root; `stager.host.rights.Rights.enter` comes first, and ``admit`` is
    asked about each source that was opened.

    `MountError` names the mount that could not be made, moved away or could not be proved read-only.
    """
    with _reporting("build the job's view"):
        return _build(request, admit)


def close_later_mounts(guarded: Guarded) -> None:
    """Do to mounts that the host has made since what `build` did to those before; `MountError` when that fails.

    New mounts of the host reach the view, as automounted directories must; for a moment they are as the host made
    them. What lies below public data never arrives at all.
    """
    with _reporting("close a mount that the host has made"):
        rows = mounts.read_mountinfo()
        if guarded.mnt is not None:
            follow(guarded.mnt, rows)
        for row in rows:
            if "nodev" not in row.options and not mounts.lies_within(row.mountpoint, "/dev"):
                _at_row(row, row.mountpoint, _forbid_devices)
        _lock_places(guarded.public)
        _hide_places(guarded.hidden, guarded.own)


@contextlib.contextmanager
def _reporting(doing: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = os.fsdecode(error.filename or "")
        raise MountError(f"cannot {doing}: {error.strerror}", where=where, hint=_hint(error)) from error


def _hint(error: OSError) -> str:
    if error.errno == errno.ENOSYS:
        return f"Linux 5.12 or later is needed, this is {os.uname().release}"
    if error.errno == errno.EPERM:
        return namespaces.hint()
    if error.errno == errno.EINVAL:
        return "pivot_root cannot leave an initial ramfs: if that is this node's root, switch_root to a tmpfs at boot"
    return "look at the mounts of this node"


def _build(request: ViewRequest, admit: Callable[[MountRequest, int], None]) -> Guarded:
    rows = mounts.read_mountinfo()
    trees: list[tuple[str, int]] = []
    public: list[Place] = []
    for mount in request["mounts"]:
        if mount["address"] is not None:
            admit(mount, -1)
            trees.append((mount["target"], _mount_export(mount["source"], mount["address"])))
            continue
        source = _open_pinned(mount)
        admit(mount, source)
        if mount["kind"] == "public":
            public += _places(source, rows)
        trees.append((mount["target"], _copy_of(source, mount)))
        os.close(source)
    hidden = _places_to_hide(request["masked"], rows)

    if (disk := request["ramdisk"]) is not None:
        trees.append((TMP_RAMFS, _make_ramdisk(disk)))

    mnt = enter_root(trees, proc=make_proc() if request["strict"] else None)

    own = _mounts_at(mount["target"] for mount in request["mounts"])
    _lock_places(public)
    _hide_places(hidden, own)
    devices.confine()
    for top in ("/", "/mnt") if mnt is not None else ("/",):
        _lock(top)
    _prove(request, public)
    confirm_alive([mount["target"] for mount in request["mounts"] if mount["kind"] in _LIVE])
    return Guarded(tuple(public), tuple(hidden), own, mnt)


def _open_pinned(mount: MountRequest) -> int:
    """The source, opened once: everything after goes through this descriptor, so a later rename changes nothing."""
    path = mount["source"]
    try:
        source = syscalls.open_resolved(path, os.O_PATH | os.O_DIRECTORY, resolve=syscalls.RESOLVE_NO_SYMLINKS)
        found = os.fstat(source)
    except OSError as error:
        raise MountError(
            f"cannot open the source of {mount['target']}: {error.strerror}", where=path, hint="it was there before"
        ) from error
    if [found.st_dev, found.st_ino] != list(mount["pinned"]):
        os.close(source)
        raise MountError("another directory than the one that was checked", where=path, hint="run again")
    if mount["owner"] is not None and (found.st_uid != mount["owner"] or found.st_mode & 0o077):
        os.close(source)
        raise MountError(
            f"is not a directory of user {mount['owner']} alone", where=path, hint="close it to others (chmod 700)"
        )
    return source


def _mount_export(export: str, address: str) -> int:
    try:
        return syscalls.make_nfs(export, address, attributes=STAGED)
    except OSError as error:
        hint = "is it exported to this node? `showmount -e` of the server says so"
        raise MountError(f"cannot mount the export: {error.strerror}", where=export, hint=hint) from error


def _copy_of(source: int, mount: MountRequest) -> int:
    """A detached copy of the mounts at an open source, with the flags its kind demands."""
    if mount["lower"] is not None:
        return _overlay_of(source, mount["lower"])
    tree = syscalls.clone_tree("", at=source, flags=syscalls.AT_RECURSIVE | syscalls.AT_EMPTY_PATH)
    if mount["kind"] == "public" or mount["read_only"]:
        syscalls.set_mount_attributes(tree, add=_LOCKED, propagation=syscalls.MS_PRIVATE, recursive=True)
    else:
        syscalls.set_mount_attributes(tree, add=STAGED, recursive=True)
    return tree


def _overlay_of(source: int, lower: str) -> int:
    """What is kept, with the job's own changes over it."""
    flags = os.O_PATH | os.O_DIRECTORY
    with contextlib.ExitStack() as held:
        fds = [syscalls.open_resolved(lower, flags, resolve=syscalls.RESOLVE_NO_SYMLINKS)]
        held.callback(os.close, fds[0])
        for name in ("upper", "work"):
            fds.append(os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source))
            held.callback(os.close, fds[-1])
        return syscalls.make_overlay(*fds, attributes=STAGED)


def _make_ramdisk(disk: RamDiskRequest) -> int:
    """Empty, in memory that counts for the control group of whoever writes there; like /tmp, of a namespace where
    there is nobody but the job.
    """
    size, inodes = str(disk["size_bytes"]), str(disk["inodes"])
    return syscalls.make_tmpfs(attributes=STAGED, mode="1777", size=size, nr_inodes=inodes)


def _places(source: int, rows: Sequence[Row]) -> list[Place]:
    try:
        top = mounts.place_of(source, rows)
    except LookupError as error:
        raise MountError("cannot tell which mount it is on", where=os.readlink(f"/proc/self/fd/{source}")) from error
    return [top, *mounts.places_below(os.readlink(f"/proc/self/fd/{source}"), rows)]


def _places_to_hide(paths: Iterable[str], rows: Sequence[Row]) -> list[Place]:
    """Directories to hide, as far as they exist and the principal can reach them at all."""
    places: list[Place] = []
    for path in paths:
        try:
            descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except (FileNotFoundError, PermissionError):
            continue
        places += _places(descriptor, rows)
        os.close(descriptor)
    return places


def _lock(path: str) -> None:
    directory = os.open(path, os.O_PATH | os.O_CLOEXEC)
    syscalls.set_mount_attributes(directory, add=_LOCKED)
    os.close(directory)


def _mounts_at(targets: Iterable[str]) -> frozenset[int]:
    """The mounts of the staged trees: they lie in hidden directories and are shown nevertheless."""
    tops = tuple(targets)
    return frozenset(
        row.mount_id for row in mounts.read_mountinfo() if any(mounts.lies_within(row.mountpoint, top) for top in tops)
    )


def _lock_places(places: Sequence[Place]) -> None:
    """Every way to these directories becomes read-only: whole mounts by flag, directories inside one by a cover.

    Nothing is done to one that is so already: every change of a mount wakes the keeper, which does all this again.
    """
    for row in mounts.read_mountinfo():
        for place in places:
            if row.device != place.device:
                continue
            if mounts.lies_within(row.root, place.root):
                if row.propagates or "ro" not in row.options:
                    _at_row(row, row.mountpoint, _lock_mount)
            elif mounts.lies_within(place.root, row.root):
                _at_row(row, _path_in(row, place), _cover_with_itself)


def _hide_places(places: Sequence[Place], own: frozenset[int]) -> None:
    """Every way to these directories ends in an empty one, except through the staged trees themselves.

    The table is read once, for there may be hundreds of places: what covers one of them is no way to another.
    """
    rows = mounts.read_mountinfo()
    for place in places:
        for row in rows:
            if row.device != place.device:
                continue
            if mounts.lies_within(place.root, row.root):
                path = _path_in(row, place)
                if row.mount_id not in own or place.root != row.root:
                    _at_row(row, path, _cover_with_nothing)
            elif mounts.lies_within(row.root, place.root) and row.mount_id not in own:
                _at_row(row, row.mountpoint, _cover_with_nothing)


def _path_in(row: Row, place: Place) -> str:
    """Where the view shows ``place`` through the mount ``row``."""
    return (row.mountpoint.rstrip("/") + place.root[len(row.root.rstrip("/")) :]) or "/"


def _at_row(row: Row, path: str, change: Callable[[int], None]) -> None:
    """Apply ``change`` to ``path``, if it is that mount which the path reaches.

    A path that another mount covers, that is gone, or that the principal cannot reach, the job cannot reach either.
    """
    try:
        descriptor = syscalls.open_resolved(path, os.O_PATH, resolve=syscalls.RESOLVE_NO_SYMLINKS)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
    try:
        if mounts.mount_id(descriptor) == row.mount_id:
            change(descriptor)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not os.fstat(descriptor).st_nlink:  # removed meanwhile
            return
        raise OSError(error.errno, error.strerror, path) from error
    finally:
        os.close(descriptor)


def _lock_mount(top: int) -> None:
    syscalls.set_mount_attributes(top, add=syscalls.MOUNT_ATTR_RDONLY, propagation=syscalls.MS_PRIVATE)


def _forbid_devices(top: int) -> None:
    syscalls.set_mount_attributes(top, add=syscalls.MOUNT_ATTR_NODEV)


def _cover_with_itself(directory: int) -> None:
    tree = syscalls.clone_tree("", at=directory, flags=syscalls.AT_RECURSIVE | syscalls.AT_EMPTY_PATH)
    syscalls.set_mount_attributes(tree, add=_LOCKED, propagation=syscalls.MS_PRIVATE, recursive=True)
    syscalls.attach_tree(tree, "", at=directory)
    os.close(tree)


def _cover_with_nothing(directory: int) -> None:
    if not stat.S_ISDIR(os.fstat(directory).st_mode):
        return
    empty = syscalls.make_tmpfs(attributes=_SEALED, mode="0555", size="4k")
    syscalls.attach_tree(empty, "", at=directory)
    os.close(empty)


def _prove(request: ViewRequest, public: Sequence[Place]) -> None:
    """Public data is read-only on every mount that shows it."""
    targets = [mount["target"] for mount in request["mounts"] if mount["kind"] == "public" or mount["read_only"]]
    for row in _showing(targets, public):
        prove_read_only(row)


def _showing(targets: Sequence[str], public: Sequence[Place]) -> Iterator[Row]:
    """The mounts at and below ``targets``, and every other visible mount of a public directory."""
    for row in mounts.read_mountinfo():
        at_target = any(mounts.lies_within(row.mountpoint, target) for target in targets)
        is_public = any(row.device == place.device and mounts.lies_within(row.root, place.root) for place in public)
        if (at_target or is_public) and _is_visible(row):
            yield row


def _is_visible(row: Row) -> bool:
    try:
        descriptor = os.open(row.mountpoint, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return mounts.mount_id(descriptor) == row.mount_id
    finally:
        os.close(descriptor)
