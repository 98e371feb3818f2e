"""System calls about what a process may do that neither Python nor `stager.host.syscalls` has; `OSError` as there."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
from typing import Final

__all__ = [
    "SYS_ADMIN",
    "hide_process",
    "leave_keyring",
    "lock_securebits",
    "permitted_capabilities",
    "set_capabilities",
]

SYS_ADMIN: Final = 1 << 21
"""CAP_SYS_ADMIN in a bit mask of capabilities."""

_CAPABILITY_VERSION_3: Final = 0x20080522
_PR_SET_DUMPABLE: Final = 4
_PR_SET_SECUREBITS: Final = 28
_SECUREBITS: Final = 0b11101011
"""No rights for uid 0 as such, no capabilities kept over a change of uid, none ambient; each of them locked, and the
change of ids takes capabilities away as ever (include/uapi/linux/securebits.h).
"""
_KEYCTL: Final = {"x86_64": 250, "aarch64": 219, "riscv64": 219, "ppc64le": 271, "s390x": 280}
_JOIN_SESSION_KEYRING: Final = 1

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class _Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _Data(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in ("effective", "permitted", "inheritable")]


def _checked(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def set_capabilities(*, effective: int, permitted: int) -> None:
    """Bit masks of at most 64 capabilities; the inheritable set becomes empty (capset(2))."""
    header = _Header(_CAPABILITY_VERSION_3, 0)
    halves = (_Data * 2)(
        *(_Data(effective >> shift & 0xFFFFFFFF, permitted >> shift & 0xFFFFFFFF, 0) for shift in (0, 32))
    )
    _checked(_libc.capset(ctypes.byref(header), halves))


def permitted_capabilities() -> int:
    """This process's permitted set as a bit mask (capget(2)); /proc may be another PID namespace's, and not know it."""
    header, halves = _Header(_CAPABILITY_VERSION_3, 0), (_Data * 2)()
    _checked(_libc.capget(ctypes.byref(header), halves))
    return int(halves[0].permitted) | int(halves[1].permitted) << 32


def lock_securebits() -> None:
    """Being uid 0 gives nothing any more, in this user namespace and whatever is executed; needs CAP_SETPCAP."""
    _checked(_libc.prctl(_PR_SET_SECUREBITS, _SECUREBITS, 0, 0, 0))


def hide_process() -> None:
    """No other process of the same user may look into this one, until it executes something (prctl(2))."""
    _checked(_libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0))


def leave_keyring() -> None:
    """A new, empty session keyring: keys of the old one (tickets, disk keys) are found no more (keyctl(2)).

    Nothing where the kernel has no keys.
    """
    number = _KEYCTL.get(platform.machine())
    if number is None:
        return
    result = _libc.syscall(ctypes.c_long(number), ctypes.c_long(_JOIN_SESSION_KEYRING), ctypes.c_char_p(None))
    if result < 0 and ctypes.get_errno() not in (errno.ENOSYS, errno.EPERM):
        _checked(-1)
