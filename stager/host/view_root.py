"""The root of a view: a small tmpfs with the host's top-level entries as they are, and on it what stager mounts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from stager import view_paths
from stager.host import strict_root, syscalls, view_mnt
from stager.host.view_mnt import MNT, STAGED, HostMnt, carry_over

__all__ = ["enter_root"]

_OWN_TOPS: Final = tuple(
    path.lstrip("/")
    for path in (
        view_paths.DATA, view_paths.PUBLIC, view_paths.CODE, view_paths.LOGS,
        view_paths.TASK, view_paths.TMP, view_paths.TMP_RAMFS,
    )
)  # fmt: skip
"""There in every view, whether something is mounted there or not."""


def enter_root(trees: Sequence[tuple[str, int]], *, proc: int | None = None) -> HostMnt | None:
    """Put a new root together from the host's entries and detached mounts, each with its target, and pivot into it.

    Takes the descriptors of the ``trees`` over. With ``proc``, a detached /proc, it is that of
    `stager.host.strict_root`. Returns what `stager.host.view_mnt.follow` keeps up with. OSError;
    `MountError`: the host has too much in /mnt.
    """
    root = syscalls.make_tmpfs(attributes=STAGED, mode="0755", size="1m")
    host = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    beside = view_mnt.look(view_paths.STORAGES) if proc is None else None
    syscalls.attach_tree(root, "/")
    if proc is None:
        _show_host(host, root)
    else:
        strict_root.furnish(root, host, proc)
    for name in (*_OWN_TOPS, MNT):
        os.mkdir(name, dir_fd=root)
    mnt = view_mnt.show(beside, root)
    for target in view_paths.STORAGES:
        _make_directories(target.lstrip("/"), root)
    for target, tree in trees:
        path = target.lstrip("/")
        _make_directories(path, root)
        syscalls.attach_tree(tree, path, at=root)
        os.close(tree)
    os.fchdir(root)
    os.close(host)
    os.close(root)
    syscalls.pivot_root(".", ".")
    syscalls.unmount(".", syscalls.MNT_DETACH)
    os.chdir("/")
    return mnt


def _show_host(host: int, root: int) -> None:
    fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=host)
    with os.scandir(fd) as entries:
        tops = [entry for entry in entries if entry.name not in (*_OWN_TOPS, MNT)]
    for entry in tops:
        if entry.is_symlink():
            os.symlink(os.readlink(entry.name, dir_fd=host), entry.name, dir_fd=root)
        else:  # its kind comes from the directory: a dead network mount answers no stat and is carried over too
            is_directory = entry.is_dir(follow_symlinks=False)
            carry_over(entry.name, host, root, is_directory=is_directory, devices=entry.name == "dev")
    os.close(fd)


def _make_directories(path: str, root: int) -> None:
    parts = path.split("/")
    for depth in range(1, len(parts) + 1):
        try:
            os.mkdir("/".join(parts[:depth]), dir_fd=root)
        except FileExistsError:
            continue
