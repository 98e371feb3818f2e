"""Where a job's data goes on this node, decided before anything is moved."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from stager.errors import from_os_error
from stager.host.mounts import mount_of_path, read_mountinfo
from stager.host.scratch import open_scratch

__all__ = ["Placement", "place"]


@dataclass(frozen=True, kw_only=True)
class Placement:
    """A scratch directory and what it offers now. ``free_inodes`` is None where the file system counts none.

    ``why`` it was chosen among others, "" where there was no choice; ``device_class`` is known then. ``apart``: where
    those copies of the job go, by name, that do not lie there with the others.
    """

    scratch: str
    file_system: str
    free_bytes: int
    free_inodes: int | None
    device_class: str = ""
    why: str = ""
    apart: Mapping[str, Placement] = field(default_factory=dict)

    def told(self) -> dict[str, str]:
        """For receipts: what is known of where the data lies."""
        known = {"file_system": self.file_system, "class": self.device_class, "why": self.why}
        return {name: text for name, text in known.items() if text}


def place(asked: str | None, environ: Mapping[str, str]) -> Placement:
    """Choose and open the scratch directory. Raises what `open_scratch` raises. Blocks."""
    scratch = os.path.realpath(open_scratch(asked, environ))
    try:
        found = os.statvfs(scratch)
    except OSError as error:
        raise from_os_error(error, doing="ask for free space", where=scratch) from error
    row = mount_of_path(scratch, read_mountinfo())
    return Placement(
        scratch=scratch,
        file_system=row.fstype if row else "unknown",
        free_bytes=found.f_bavail * found.f_frsize,
        free_inodes=found.f_favail if found.f_files else None,
    )
