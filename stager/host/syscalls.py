"""Linux system calls that Python has no function for, by ctypes; a failure is an `OSError` with its errno.

Calls known to libc go through it. Those it lacks go by number: 424 and above are the same on every architecture
(include/uapi/asm-generic/unistd.h of Linux); the one older call, pivot_root, has its number per architecture below.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Mapping
from typing import Final

__all__ = [
    "AT_EMPTY_PATH",
    "AT_NO_AUTOMOUNT",
    "AT_RECURSIVE",
    "AT_SYMLINK_NOFOLLOW",
    "CLONE_NEWIPC",
    "CLONE_NEWNS",
    "CLONE_NEWPID",
    "CLONE_NEWUSER",
    "MNT_DETACH",
    "MOUNT_ATTR_NODEV",
    "MOUNT_ATTR_NOEXEC",
    "MOUNT_ATTR_NOSUID",
    "MOUNT_ATTR_RDONLY",
    "MS_PRIVATE",
    "MS_REC",
    "MS_SLAVE",
    "NS_GET_PARENT",
    "RESOLVE_NO_SYMLINKS",
    "UMOUNT_NOFOLLOW",
    "ask_quota",
    "attach_tree",
    "become_subreaper",
    "check_access",
    "clear_ambient_capabilities",
    "clone_tree",
    "drop_bounding_capability",
    "enter_namespace",
    "exchange",
    "forbid_new_privileges",
    "make_file_system",
    "make_nfs",
    "make_overlay",
    "make_tmpfs",
    "mount_id_of",
    "open_file_system",
    "open_resolved",
    "pivot_root",
    "set_mount_attributes",
    "set_propagation",
    "signal_at_parents_end",
    "sync_file_system",
    "unmount",
    "unshare",
]

AT_FDCWD: Final = -100
AT_SYMLINK_NOFOLLOW: Final = 0x100
AT_EACCESS: Final = 0x200
AT_NO_AUTOMOUNT: Final = 0x800
AT_EMPTY_PATH: Final = 0x1000
AT_RECURSIVE: Final = 0x8000
CLONE_NEWNS: Final = 0x20000
CLONE_NEWIPC: Final = 0x8000000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWPID: Final = 0x20000000
MNT_DETACH: Final = 2
UMOUNT_NOFOLLOW: Final = 8
MOUNT_ATTR_RDONLY: Final = 1
MOUNT_ATTR_NOSUID: Final = 2
MOUNT_ATTR_NODEV: Final = 4
MOUNT_ATTR_NOEXEC: Final = 8
MS_REC: Final = 1 << 14
MS_PRIVATE: Final = 1 << 18
MS_SLAVE: Final = 1 << 19
NS_GET_PARENT: Final = 0xB702
"""ioctl on a namespace's descriptor: a descriptor of the one above it (ioctl_ns(2))."""
RESOLVE_NO_SYMLINKS: Final = 4

_OPEN_TREE: Final = 428
_MOVE_MOUNT: Final = 429
_FSOPEN: Final = 430
_FSCONFIG: Final = 431
_FSMOUNT: Final = 432
_OPENAT2: Final = 437
_MOUNT_SETATTR: Final = 442
_QUOTACTL_FD: Final = 443
_PIVOT_ROOT: Final = {"x86_64": 155, "aarch64": 41, "riscv64": 41, "ppc64le": 203, "s390x": 217}

_AT_STATX_DONT_SYNC: Final = 0x4000
_STATX_MNT_ID: Final = 0x1000
_STATX_BYTES: Final = 256
_STATX_MNT_ID_AT: Final = 144
_Q_GETQUOTA: Final = 0x800007
_QUOTA_BYTES: Final = 72

_OPEN_TREE_CLONE: Final = 1
_MOVE_MOUNT_F_EMPTY_PATH: Final = 4
_MOVE_MOUNT_T_EMPTY_PATH: Final = 0x40
_FSCONFIG_SET_FLAG: Final = 0
_FSCONFIG_SET_STRING: Final = 1
_FSCONFIG_CMD_CREATE: Final = 6
_RENAME_EXCHANGE: Final = 2
_PR_SET_PDEATHSIG: Final = 1
_PR_CAPBSET_DROP: Final = 24
_PR_SET_CHILD_SUBREAPER: Final = 36
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_CLEAR_ALL: Final = 4

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class _MountAttr(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("attr_set", "attr_clr", "propagation", "userns_fd")]


class _OpenHow(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("flags", "mode", "resolve")]


def _checked(result: int, place: str = "") -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), place or None)
    return int(result)


def _word(value: int | str | ctypes.Structure | None) -> object:
    if value is None:
        return ctypes.c_char_p(None)
    if isinstance(value, str):
        return ctypes.c_char_p(os.fsencode(value))
    if isinstance(value, ctypes.Structure):
        return ctypes.byref(value)
    return ctypes.c_long(value)


def _by_number(number: int, *values: int | str | ctypes.Structure | None, place: str = "") -> int:
    return _checked(_libc.syscall(ctypes.c_long(number), *(_word(value) for value in values)), place)


def unshare(flags: int) -> None:
    """Give this thread its own namespaces (``CLONE_NEW...``); errors as the manual page of the call has them."""
    _checked(_libc.unshare(flags))


def enter_namespace(namespace: int, kind: int) -> None:
    """Move this process, which has one thread, into an open namespace of this ``CLONE_NEW...`` kind (setns(2))."""
    _checked(_libc.setns(namespace, kind))


def sync_file_system(fd: int) -> None:
    """All that was written to the file system of ``fd`` has reached the disk, else the error it met (syncfs(2))."""
    _checked(_libc.syncfs(fd))


def mount_id_of(path: str) -> int | None:
    """The mount that a path is on, without asking a server (statx(2)); None: the kernel is older than Linux 5.8."""
    found = ctypes.create_string_buffer(_STATX_BYTES)
    flags = AT_NO_AUTOMOUNT | _AT_STATX_DONT_SYNC
    _checked(_libc.statx(AT_FDCWD, os.fsencode(path), flags, _STATX_MNT_ID, found), path)
    (mask,) = struct.unpack_from("=I", found)
    (number,) = struct.unpack_from("=Q", found, _STATX_MNT_ID_AT)
    return int(number) if mask & _STATX_MNT_ID else None


def ask_quota(descriptor: int, kind: int, number: int) -> bytes:
    """A ``struct if_dqblk`` of a user (``kind`` 0) or group (1) of an open file's disk (quotactl(2), Linux 5.14).

    ESRCH: none is set, or quotas are off; ENOSYS: the kernel has none.
    """
    found = ctypes.create_string_buffer(_QUOTA_BYTES)
    command = ctypes.c_uint32(_Q_GETQUOTA << 8 | kind).value
    _checked(
        _libc.syscall(
            ctypes.c_long(_QUOTACTL_FD), ctypes.c_long(descriptor), ctypes.c_long(command), ctypes.c_long(number), found
        )
    )  # fmt: skip
    return found.raw


def exchange(one_fd: int, one: str, other_fd: int, other: str) -> None:
    """Give each of two names what the other one had, at once; EINVAL where the file system cannot (renameat2(2))."""
    _checked(_libc.renameat2(one_fd, os.fsencode(one), other_fd, os.fsencode(other), _RENAME_EXCHANGE), other)


def set_propagation(path: str, flags: int) -> None:
    """Change the propagation of the mount at ``path``: ``MS_SLAVE`` or ``MS_PRIVATE``, with ``MS_REC`` below it."""
    _checked(_libc.mount(None, os.fsencode(path), None, ctypes.c_ulong(flags), None), path)


def clone_tree(path: str, *, at: int = AT_FDCWD, flags: int = AT_RECURSIVE) -> int:
    """A descriptor of a detached copy of the mounts at ``path`` (open_tree(2), Linux 5.2)."""
    return _by_number(_OPEN_TREE, at, path, _OPEN_TREE_CLONE | os.O_CLOEXEC | flags, place=path)


def attach_tree(tree: int, path: str, *, at: int = AT_FDCWD) -> None:
    """Attach a detached mount at ``path`` below ``at``; an empty path means ``at`` itself (move_mount(2))."""
    flags = _MOVE_MOUNT_F_EMPTY_PATH | (0 if path else _MOVE_MOUNT_T_EMPTY_PATH)
    _by_number(_MOVE_MOUNT, tree, "", at, path, flags, place=path)


def set_mount_attributes(mount: int, *, add: int = 0, propagation: int = 0, recursive: bool = False) -> None:
    """Add ``MOUNT_ATTR_...`` flags to an open mount, all at once (mount_setattr(2), Linux 5.12)."""
    wanted = _MountAttr(add, 0, propagation, 0)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    _by_number(_MOUNT_SETATTR, mount, "", flags, wanted, ctypes.sizeof(wanted))


def make_tmpfs(*, attributes: int = 0, **options: str) -> int:
    """A descriptor of a new tmpfs, attached nowhere."""
    return make_file_system("tmpfs", attributes, options)


def make_overlay(lower: int, upper: int, work: int, *, attributes: int = 0) -> int:
    """A descriptor of a new overlay of open directories, attached nowhere.

    Notes in the upper directory (which whoever writes there could forge) never lead to other files below. An ordinary
    user's are ``user.`` attributes, with which that is so anyway (overlayfs.rst, "User xattr").
    """
    options: dict[str, str | None] = {
        "lowerdir": f"/proc/self/fd/{lower}",
        "upperdir": f"/proc/self/fd/{upper}",
        "workdir": f"/proc/self/fd/{work}",
        "index": "off",
    }
    options |= {"redirect_dir": "nofollow", "metacopy": "off"} if os.geteuid() == 0 else {"userxattr": None}
    return make_file_system("overlay", attributes, options)


def make_nfs(export: str, address: str, *, attributes: int = 0) -> int:
    """The same of an export, ``HOST:/PATH``, of the NFS server at ``address``: version 4.2 over TCP, hard, as nfs(5).

    OSError as mount(2) of it: ENODEV where the kernel cannot, EPERM without its rights, what the server says.
    """
    options = {"source": export, "addr": address, "vers": "4.2", "proto": "tcp"}
    return make_file_system("nfs4", attributes, options)


def open_file_system(kind: str) -> int:
    """A descriptor to configure a file system of this type with. OSError: ENODEV for a type that is not known."""
    return _by_number(_FSOPEN, kind, 1)


def make_file_system(kind: str, attributes: int, options: Mapping[str, str | None]) -> int:
    """A descriptor of a new one, attached nowhere; an option of None is a flag (fsopen(2), fsmount(2))."""
    context = open_file_system(kind)
    try:
        for key, value in options.items():
            how = _FSCONFIG_SET_FLAG if value is None else _FSCONFIG_SET_STRING
            _by_number(_FSCONFIG, context, how, key, value, 0)
        _by_number(_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0)
        return _by_number(_FSMOUNT, context, 1, attributes)
    finally:
        os.close(context)


def open_resolved(path: str, flags: int, *, resolve: int) -> int:
    """Open with limits on what the path may pass through (openat2(2)); close-on-exec is added."""
    how = _OpenHow(flags | os.O_CLOEXEC, 0, resolve)
    return _by_number(_OPENAT2, AT_FDCWD, path, how, ctypes.sizeof(how), place=path)


def pivot_root(new_root: str, put_old: str) -> None:
    """Exchange the root mount; ENOSYS on an architecture whose number is not in the table."""
    _by_number(_PIVOT_ROOT.get(platform.machine(), -1), new_root, put_old, place=new_root)


def unmount(path: str, flags: int) -> None:
    """Detach what is mounted at ``path`` (see umount2(2))."""
    _checked(_libc.umount2(os.fsencode(path), flags), path)


def check_access(path: str, mode: int) -> None:
    """faccessat(2) with the effective ids: nothing, or the `OSError` a real access of this kind would meet."""
    _checked(_libc.faccessat(AT_FDCWD, os.fsencode(path), mode, AT_EACCESS), path)


def become_subreaper() -> None:
    """Orphaned descendants become children of this process, not of init."""
    _checked(_libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))


def signal_at_parents_end(number: int) -> None:
    """Get this signal when the parent ends, and already when that thread of it ends which forked this process."""
    _checked(_libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0))


def forbid_new_privileges() -> None:
    """No execve from here on gives more rights: set-user-id bits and file capabilities are ignored."""
    _checked(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


def drop_bounding_capability(number: int) -> None:
    """No execve can give this capability any more; EINVAL when the kernel does not know it."""
    _checked(_libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0))


def clear_ambient_capabilities() -> None:
    """Empty the ambient set."""
    _checked(_libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0))
