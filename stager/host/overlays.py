"""Whether an overlay can be mounted over files of a directory, found out by mounting one.

Kernels, file systems and security modules have too many reasons against it to be asked one by one. The attempt is made
in a process of its own, in namespaces of its own: nothing of it is seen by anybody, and it goes with the process.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from typing import Final

from stager.errors import StagerError
from stager.host import brokered, namespaces, syscalls
from stager.host.launch import give_up, start_module
from stager.host.trash import remove_temporary

__all__ = ["can_overlay", "main"]

_WITHIN_S: Final = 10.0
_NAMES: Final = ("lower", "upper", "work")


def can_overlay(directory: str) -> bool:
    """Whether what lies in this directory of the user's own can be seen with changes over it. Blocks.

    Root mounts none for a user: what it does there it would do with rights that the user has not.
    """
    if brokered.is_brokered():
        return False
    with suppress(OSError, subprocess.TimeoutExpired):
        place = tempfile.mkdtemp(prefix=".overlay-", dir=directory)
        try:
            for name in _NAMES:
                os.mkdir(os.path.join(place, name))
            process = start_module("stager.host.overlays", place)
            try:
                return process.wait(_WITHIN_S) == 0
            except BaseException:
                give_up(process)
                raise
        finally:
            remove_temporary(place)
    return False


def main() -> None:
    """Entry point: ``argv`` ends with the directory that holds what is to be mounted. Exits with 0 when it can be."""
    place = sys.argv[-1]
    try:
        namespaces.enter()
        lower, upper, work = (os.open(f"{place}/{name}", os.O_PATH | os.O_DIRECTORY) for name in _NAMES)
        tree = syscalls.make_overlay(lower, upper, work)
        made = os.open("file", os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=tree)
        os.unlink("file", dir_fd=tree)
        os.close(made)
    except (OSError, StagerError):
        sys.exit(1)
