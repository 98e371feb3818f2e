"""The mounts of a job's view, checked before anything is moved or run; `stager.host.view` makes them."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from stager import view_paths
from stager.errors import AccessDeniedError, MountError, NotFoundError, StagerError
from stager.host.allowed_sources import refused_to_users
from stager.host.mounts import Row, fstab_points, is_network, lies_within, read_fstab, read_mountinfo
from stager.host.nfs import ask_exports
from stager.host.probe import Probe, probe_directories
from stager.model import Mount, MountView

__all__ = ["check_sources", "missing_network_mounts"]

_LIMIT_S: Final = 10.0
_TARGET_TOPS: Final = (f"{view_paths.DATA}/", f"{view_paths.PUBLIC}/")
_TARGETS: Final = (
    view_paths.CODE, view_paths.LOGS, view_paths.TASK, view_paths.TMP, view_paths.MODULES,
    *view_paths.STORAGES,
)  # fmt: skip

_Problem = tuple[type[StagerError], str]


def check_sources(view: MountView, *, limit_s: float = _LIMIT_S) -> MountView:
    """The same view with every source resolved and pinned to the directory found; every problem at once.

    Each source is resolved and read in a child process that is given up after ``limit_s`` seconds without an answer,
    because a network mount whose server is gone would sleep for ever. Blocks: call it off the event loop.

    A source that was checked before has to be on the same file system still: one that has been unmounted is an empty
    directory of the disk below, which would be mounted as well as another.

    `NotFoundError` when all that is wrong is missing directories, `AccessDeniedError` when it is permissions,
    `MountError` for anything else (no answer, a network mount of /etc/fstab that is not mounted, not a directory,
    a target outside the view's own directories, a writable source inside a public one, a live or public source in a
    masked directory).
    """
    view, problems = _with_addresses(view, limit_s)
    here = [mount for mount in view.mounts if mount.kind != "nfs"]
    probes = probe_directories([mount.source for mount in here], limit_s=limit_s)
    rows = read_mountinfo()
    mounts: list[Mount] = []
    for mount, probe in zip(here, probes, strict=True):
        problems += _problems_of(mount, probe)
        found_on = _found_on(probe, rows) if mount.kind in ("bind", "public") else None
        problems += _unmounted(mount, found_on)
        mounts.append(replace(mount, source=probe.real, pinned=probe.pinned, found_on=found_on))
    for mount in mounts:
        for point in missing_network_mounts(mount.source, read_fstab(), rows):
            problems.append((MountError, f"{mount.source}: {point} stands in /etc/fstab but is not mounted"))
    exports = [mount for mount in view.mounts if mount.kind == "nfs"]
    problems += [(MountError, told) for told in refused_to_users([*mounts, *exports])]
    problems += _overlaps(mounts, [os.path.realpath(path) for path in view.masked])
    if problems:
        raise _error(problems)
    return replace(view, mounts=(*mounts, *exports))


def _with_addresses(view: MountView, limit_s: float) -> tuple[MountView, list[_Problem]]:
    """With the address of the server of each export, and what keeps one from being mounted."""
    exports = [mount.source for mount in view.mounts if mount.kind == "nfs"]
    answers = dict(zip(exports, ask_exports(exports, limit_s=limit_s), strict=True))
    asked = [
        replace(mount, address=answers[mount.source].address) if mount.kind == "nfs" else mount for mount in view.mounts
    ]
    problems: list[_Problem] = [
        (MountError, f"{mount.source} (for {mount.target}): {answers[mount.source].problem}")
        for mount in view.mounts
        if mount.kind == "nfs" and answers[mount.source].problem
    ]
    return replace(view, mounts=tuple(asked)), problems


def _problems_of(mount: Mount, probe: Probe) -> list[_Problem]:
    problems: list[_Problem] = []
    if not mount.target.startswith(_TARGET_TOPS) and mount.target not in _TARGETS:
        problems.append((MountError, f"{mount.target}: only what a job has of stager can be mounted"))
    if os.path.normpath(mount.target) != mount.target:
        problems.append((MountError, f"{mount.target}: not a plain absolute path"))
    if probe.real == "/":
        problems.append((MountError, f"{mount.source}: the root directory of the node is no data set"))
    where = f"{mount.source} (for {mount.target})"
    if probe.error == -1:
        problems.append((MountError, f"{where}: no answer; the server behind this mount may be gone"))
    elif probe.error == errno.ENOENT:
        problems.append((NotFoundError, f"{where}: no such directory"))
    elif probe.error in (errno.EACCES, errno.EPERM):
        problems.append((AccessDeniedError, f"{where}: you may not reach this directory"))
    elif probe.error:
        problems.append((MountError, f"{where}: {os.strerror(probe.error)}"))
    return problems


def _found_on(probe: Probe, rows: Sequence[Row]) -> tuple[str, str] | None:
    """By the mount's number, which the probe has from the directory itself: a path may be covered meanwhile."""
    return next(((row.fstype, row.source) for row in rows if row.mount_id == probe.mount_id), None)


def _unmounted(mount: Mount, found_on: tuple[str, str] | None) -> list[_Problem]:
    if found_on is None:
        return []
    where = f"{mount.source} (for {mount.target})"
    if mount.found_on is not None and found_on != mount.found_on:
        (was, origin), (now, _) = mount.found_on, found_on
        return [(MountError, f"{where}: was on {was} of {origin}, which is mounted no longer; it is on {now} now")]
    if mount.mounted is not None and found_on[0] != mount.mounted:
        return [(MountError, f"{where}: is on {found_on[0]}, and no {mount.mounted} is mounted there")]
    return []


def missing_network_mounts(path: str, fstab: bytes, rows: Sequence[Row]) -> list[str]:
    """Mount points at or above ``path`` that ``fstab`` gives a network file system and that are not mounted.

    Such a directory is there and empty: a job would read nothing, or fill the disk below.
    """
    mounted = {row.mountpoint for row in rows}
    return [
        point for point, kind in fstab_points(fstab)
        if is_network(kind) and lies_within(path, point) and point not in mounted
    ]  # fmt: skip


def _overlaps(mounts: Sequence[Mount], masked: Sequence[str]) -> list[_Problem]:
    targets = [mount.target for mount in mounts]
    twice = sorted({target for target in targets if targets.count(target) > 1})
    problems: list[_Problem] = [(MountError, f"{target}: mounted twice") for target in twice]
    problems += [
        (MountError, f"{mount.source} (for {mount.target}): lies in stager's own directories")
        for mount in mounts
        if mount.kind in ("bind", "public") and any(lies_within(mount.source, top) for top in masked)
    ]
    for public in mounts:
        for other in mounts:
            if public.kind == "public" != other.kind and lies_within(other.source, public.source):
                where = f"{other.source} (for {other.target})"
                problems.append((MountError, f"{where}: lies inside {public.target}, which is read-only"))
    return problems


def _error(problems: Sequence[_Problem]) -> StagerError:
    kinds = {kind for kind, _ in problems}
    kind = kinds.pop() if len(kinds) == 1 else MountError
    if len(problems) == 1:
        return kind(problems[0][1])
    return kind("\n  ".join([f"{len(problems)} sources cannot be mounted:", *(text for _, text in problems)]))
