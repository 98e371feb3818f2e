"""A /var/tmp for one test process: what stager keeps there of its user, no other one sees or uses meanwhile."""

from __future__ import annotations

import ctypes
import os
import shutil
import tempfile
from collections.abc import Callable

__all__ = ["make_own_var_tmp"]

_VAR_TMP = "/var/tmp"
_CLONE_NEWNS, _MS_BIND, _MS_REC, _MS_PRIVATE, _MNT_DETACH = 0x20000, 0x1000, 0x4000, 1 << 18, 2


def make_own_var_tmp() -> Callable[[], None] | None:
    """In a mount namespace of this thread and all that comes of it, so that a killed process leaves no mounts behind
    either. Returns what removes it; None for an ordinary user, who has what there is.
    """
    libc = ctypes.CDLL(None, use_errno=True)

    def call(name: str, *arguments: object) -> None:
        if getattr(libc, name)(*arguments):
            raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")

    if os.geteuid() != 0:
        return None
    call("unshare", _CLONE_NEWNS)
    call("mount", b"none", b"/", None, _MS_REC | _MS_PRIVATE, None)
    outer = tempfile.mkdtemp(prefix="stager-tests-", dir=_VAR_TMP)
    inner = os.path.join(outer, "tmp")
    os.mkdir(inner)
    os.chmod(inner, 0o1777)
    call("mount", inner.encode(), _VAR_TMP.encode(), None, _MS_BIND, None)

    def remove() -> None:
        call("umount2", _VAR_TMP.encode(), _MNT_DETACH)
        shutil.rmtree(outer, ignore_errors=True)

    return remove
