"""What a job's user is told about storage: large files on network file systems, and what is left where nobody will look
for it. Nothing of this stops the job, and it is found in a process that can be given up: these are network mounts.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from msgspec import Struct

from stager.host.advice_settings import chosen_large_file, user_advice
from stager.host.large_files import survey_directories
from stager.host.mounts import is_network, mount_of_path, read_mountinfo
from stager.host.site import site_advice
from stager.model import Counts, MountView
from stager.view_paths import CLUSTER_STORAGE

__all__ = ["LargeFile", "LeftBehind", "find_large_files", "left_in_cluster_storage"]

_AT_SUBMISSION_S = 3.0


class LargeFile(Struct, frozen=True, kw_only=True):
    """One that is larger than it should be on a file system of this type; ``path`` in the job's view."""

    path: str
    size: int
    file_system: str


class LeftBehind(Struct, frozen=True, kw_only=True):
    """What lies in cluster storage: at ``path`` in the view, ``source`` on this node. ``whole``: all of it was seen."""

    path: str
    source: str
    total: Counts
    whole: bool


def find_large_files(
    view: MountView, environ: Mapping[str, str], *, limit_s: float = _AT_SUBMISSION_S
) -> list[LargeFile]:
    """The largest files of what the job has live on network file systems, FUSE counted as such, as far as that can be
    walked in ``limit_s`` seconds. Blocks. Raises `HostError`: the configuration is not understood.
    """
    above_bytes = chosen_large_file(site_advice(), user_advice(environ))
    rows = read_mountinfo()
    live = []
    for mount in view.mounts:
        row = mount_of_path(mount.source, rows) if mount.kind in ("bind", "storage") else None
        if row is not None and is_network(row.fstype):
            live.append((mount, row.fstype))
    contents = survey_directories([mount.source for mount, _ in live], above_bytes=above_bytes, limit_s=limit_s)
    return [
        LargeFile(path=os.path.join(mount.target, path), size=size, file_system=fstype)
        for (mount, fstype), content in zip(live, contents, strict=True)
        for path, size in content.large
    ]


def left_in_cluster_storage(view: MountView, *, limit_s: float = _AT_SUBMISSION_S) -> Sequence[LeftBehind]:
    """What a job that has ended leaves there; nothing where it has none. Blocks."""
    sources = [mount.source for mount in view.mounts if mount.target == CLUSTER_STORAGE]
    contents = survey_directories(sources, above_bytes=1 << 62, limit_s=limit_s)
    return [
        LeftBehind(
            path=CLUSTER_STORAGE, source=source, total=Counts(objects=content.files, bytes=content.bytes),
            whole=content.whole,
        )
        for source, content in zip(sources, contents, strict=True)
        if content.files
    ]  # fmt: skip
