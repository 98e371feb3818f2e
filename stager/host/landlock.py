"""Landlock, for one thing: a process that cannot look into or trace processes outside what it has started.

Where user namespaces keep a job from other processes of its own user, that is not needed; where nobody may make any,
not even root, it is. A process that has restricted itself can trace only those that are restricted at least as much
(landlock(7), "Ptrace restrictions"), and looking into /proc/PID/root, fd, mem and the like counts as tracing. The right
taken away for that is one that no ordinary user has: making block devices. Mount calls are refused as well then.

Numbers: include/uapi/asm-generic/unistd.h and include/uapi/linux/landlock.h of Linux.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from typing import Final

__all__ = ["confine"]

_CREATE_RULESET: Final = 444
_ADD_RULE: Final = 445
_RESTRICT_SELF: Final = 446
_VERSION: Final = 1
_PATH_BENEATH: Final = 1
_MAKE_BLOCK: Final = 1 << 11
_REFER: Final = 1 << 13
"""Renaming from one directory to another: always taken away unless it is given; known from version 2 on, Linux 5.19."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def confine() -> None:
    """Restrict this process, which may gain no privileges any more, and whatever it starts.

    OSError: ENOSYS, EOPNOTSUPP: the kernel has no Landlock, or only its first version.
    """
    if _call(_CREATE_RULESET, None, 0, _VERSION) < 2:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
    rules = _call(_CREATE_RULESET, struct.pack("=Q", _MAKE_BLOCK | _REFER), 8, 0)
    try:
        root = os.open("/", os.O_PATH | os.O_CLOEXEC)
        try:
            _call(_ADD_RULE, rules, _PATH_BENEATH, struct.pack("=Qi", _REFER, root), 0)
        finally:
            os.close(root)
        _call(_RESTRICT_SELF, rules, 0)
    finally:
        os.close(rules)


def _call(number: int, *values: int | bytes | None) -> int:
    words = [ctypes.c_long(value) if isinstance(value, int) else ctypes.c_char_p(value) for value in values]
    result = _libc.syscall(ctypes.c_long(number), *words)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(result)
