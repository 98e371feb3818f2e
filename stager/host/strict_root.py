"""What a view of profile ``strict`` has of the node: a list of what it may see, and everything else is not there.

/usr, /bin, /sbin, /lib* and /etc, read-only; a /dev of a few devices that every program expects; /proc of the job's own
processes; and empty in memory /tmp, /run and /dev/shm. Not /home, /var, /opt, /srv or /sys: what a job needs of them it
names as public data.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from typing import Final

from stager.host import syscalls

__all__ = ["furnish", "make_proc"]

_SHOWN: Final = re.compile(r"usr|bin|sbin|lib[a-z0-9]*|etc")
_DEVICES: Final = ("null", "zero", "full", "random", "urandom", "tty")
_LINKS: Final = {
    "fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
    "ptmx": "pts/ptmx",
}  # fmt: skip
_NAME_SERVERS: Final = "/etc/resolv.conf"
_STAGED: Final = syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NODEV
_LOCKED: Final = _STAGED | syscalls.MOUNT_ATTR_RDONLY
_HIDDEN_LINKS: Final = syscalls.AT_RECURSIVE | syscalls.AT_SYMLINK_NOFOLLOW | syscalls.AT_NO_AUTOMOUNT


def make_proc() -> int:
    """A detached /proc of this process's PID namespace. To be made while the node's own is in sight: without privilege
    the kernel shows nobody more of it than there is already (mount_namespaces(7)). OSError.
    """
    return syscalls.make_file_system("proc", _STAGED | syscalls.MOUNT_ATTR_NOEXEC, {})


def furnish(root: int, host: int, proc: int) -> None:
    """Fill the open ``root`` with what is shown of the open ``host``; takes over the descriptor ``proc``. OSError."""
    fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=host)
    with os.scandir(fd) as entries:
        tops = [entry for entry in entries if _SHOWN.fullmatch(entry.name)]
    for entry in tops:
        if entry.is_symlink():
            os.symlink(os.readlink(entry.name, dir_fd=host), entry.name, dir_fd=root)
        elif entry.is_dir(follow_symlinks=False):
            os.mkdir(entry.name, dir_fd=root)
            _show(entry.name, host, root)
    os.close(fd)
    for name in ("proc", "dev", "run", "tmp"):
        os.mkdir(name, dir_fd=root)
    _attach(proc, "proc", root)
    for name, mode in (("run", "0755"), ("tmp", "1777")):
        _attach(syscalls.make_tmpfs(attributes=_STAGED, mode=mode), name, root)
    os.mkdir("var", dir_fd=root)
    for name in ("tmp", "run"):
        os.symlink(f"../{name}", f"var/{name}", dir_fd=root)
    _show_name_servers(host, root)
    _make_devices(host, root)


def _attach(tree: int, path: str, root: int) -> None:
    try:
        syscalls.attach_tree(tree, path, at=root)
    finally:
        os.close(tree)


def _show(path: str, host: int, root: int) -> None:
    """Read-only with all below it; what the node mounts there later does not come."""
    tree = syscalls.clone_tree(path, at=host, flags=_HIDDEN_LINKS)
    syscalls.set_mount_attributes(tree, add=_LOCKED, propagation=syscalls.MS_PRIVATE, recursive=True)
    _attach(tree, path, root)


def _show_name_servers(host: int, root: int) -> None:
    """Where a service keeps the file, /etc has a link into /run, which is empty here."""
    real = os.path.realpath(_NAME_SERVERS).lstrip("/")
    if not real.startswith("run/"):
        return
    with suppress(OSError):  # a job without names: better than no job
        for depth in range(2, real.count("/") + 1):
            os.mkdir("/".join(real.split("/")[:depth]), dir_fd=root)
        os.close(os.open(real, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444, dir_fd=root))
        _show(real, host, root)


def _make_devices(host: int, root: int) -> None:
    attributes = _STAGED | syscalls.MOUNT_ATTR_NOEXEC
    _attach(syscalls.make_tmpfs(attributes=attributes, mode="0755", size="64k"), "dev", root)
    for name in _DEVICES:
        with suppress(FileNotFoundError):
            tree = syscalls.clone_tree(f"dev/{name}", at=host, flags=syscalls.AT_SYMLINK_NOFOLLOW)
            os.close(os.open(f"dev/{name}", os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444, dir_fd=root))
            _attach(tree, f"dev/{name}", root)
    for name, target in _LINKS.items():
        os.symlink(target, f"dev/{name}", dir_fd=root)
    for name in ("shm", "pts"):
        os.mkdir(f"dev/{name}", dir_fd=root)
    _attach(syscalls.make_tmpfs(attributes=_STAGED, mode="1777"), "dev/shm", root)
    terminals = syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NOEXEC
    _attach(syscalls.make_file_system("devpts", terminals, {"ptmxmode": "0666", "mode": "0620"}), "dev/pts", root)
    dev = os.open("dev", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root)
    syscalls.set_mount_attributes(dev, add=syscalls.MOUNT_ATTR_RDONLY)
    os.close(dev)
