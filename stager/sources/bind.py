"""``bind:/path``: a directory of this host that the job works in directly; nothing is copied.

Whether the directory is there and answers is checked with all other mounts of the view (`stager.stages.mount`).
Here: what the receipt says about it.
"""

from __future__ import annotations

from typing import Any

from stager.host.mounts import mount_of_path, read_mountinfo

__all__ = ["describe_bind"]


def describe_bind(path: str) -> dict[str, Any]:
    """What a checked directory is: its canonical path, file system type, and where and from what that is mounted.

    Reads the table of mounts only, so a server that is gone does not hang it.
    """
    row = mount_of_path(path, read_mountinfo())
    if row is None:
        return {"path": path}
    return {"path": path, "file_system": row.fstype, "mounted_at": row.mountpoint, "mounted_from": row.source}
