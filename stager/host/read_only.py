"""The proof that a mount is read-only: by its flags, and by the kernel's own answer."""

from __future__ import annotations

import errno
import os

from stager.errors import MountError
from stager.host import syscalls
from stager.host.mounts import Row

__all__ = ["prove_read_only"]


def prove_read_only(row: Row) -> None:
    """Raises `MountError`: nobody must write there. Nothing is created in the attempt.

    Where the directory's own permissions already forbid writing, the kernel says EACCES before it looks at the mount;
    the flag alone is the proof there.
    """
    if "ro" not in row.options:
        raise MountError("is not read-only", where=row.mountpoint, hint="please report this: it is a bug")
    try:
        syscalls.check_access(row.mountpoint, os.W_OK)
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES):
            raise
    else:
        raise MountError("can be written to", where=row.mountpoint, hint="please report this: it is a bug")
