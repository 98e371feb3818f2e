"""A job file's sources, asked whether this user could stage them now: in seconds, and without moving anything.

Of S3 one page is listed and one object asked for, of git which commit the ref is at, of directories whether they answer
and can be read. That a whole listing holds names that can be files, or fits anywhere, is for `stager plan`.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from stager.config import Remote
from stager.errors import (
    AccessDeniedError,
    InternalError,
    MountError,
    NotFoundError,
    StagerError,
    TransientError,
)
from stager.host.probe import Probe, probe_directories
from stager.job.copies import Copy, copies_of
from stager.job.creating import live_view
from stager.job.keeps import Keep, ask_place, would_be_kept
from stager.model import JobSpec, Mount, MountView
from stager.opening import open_source
from stager.sources.base import everything
from stager.stages.mount import check_sources
from stager.transfer import Transfer
from stager.view_paths import DATA, PUBLIC

__all__ = ["Checked", "check_job"]

_DIRECTORY_S: Final = 5.0


class Checked(Struct, frozen=True, kw_only=True):
    """One thing that a job file names: "dataset OWNER/NAME", "resource[N]", "code", "public NAME", "logs" or "results".
    ``found``: what was seen of it, for people; ``error``: why the job could not have it.
    """

    name: str
    source: str
    found: str = ""
    error: StagerError | None = None


async def check_job(
    spec: JobSpec, *, transfer: Transfer, remote: Remote | None, environ: Mapping[str, str], limit_s: float
) -> list[Checked]:
    """Ask for everything at once, each within ``limit_s`` seconds. What cannot be had is in the answer, not raised."""
    copies = [copy for copy in copies_of(spec, remote, None) if copy.source.scheme != "file"]
    directories = asyncio.to_thread(_check_directories, spec)
    asked = [_check_copy(copy, transfer, limit_s) for copy in copies]
    live = [asyncio.to_thread(_check_live, mount) for mount in live_view(spec).mounts]
    here, over, mounted = await asyncio.gather(directories, asyncio.gather(*asked), asyncio.gather(*live))
    checked = [*over, *here, *mounted]
    try:
        keeps = would_be_kept(spec, remote, environ)
    except StagerError as error:
        return [*checked, Checked(name="logs", source=error.where, error=error)]
    return [*checked, *await asyncio.gather(*(_check_place(keep, limit_s) for keep in keeps))]


def _called(name: str) -> str:
    return f"dataset {name}" if "/" in name else name  # "code" and "resource[1]" say themselves what they are


async def _check_copy(copy: Copy, transfer: Transfer, limit_s: float) -> Checked:
    name, source = _called(copy.name), copy.source.text
    try:
        async with asyncio.timeout(limit_s):
            return Checked(name=name, source=source, found=await _look(copy, transfer))
    except TimeoutError:
        error: StagerError = TransientError(f"no answer within {limit_s:g} s", where=source, hint="try again")
    except StagerError as told:
        error = told
    except Exception as bug:  # the others are still told
        error = InternalError(f"{type(bug).__name__}: {bug}", where=source)
    return Checked(name=name, source=source, error=error)


async def _look(copy: Copy, transfer: Transfer) -> str:
    source = open_source(
        copy.source, remote=copy.remote, transfer=transfer, integrity=copy.integrity, git=copy.git, look=True
    )
    async with source as opened:
        found = await copy.pinning.snapshot(opened, copy.source, None, everything)
        if len(found.table):
            await opened.prove_access(found)
    if (commit := found.pinned.get("commit")) is not None:
        return f"answers; is at commit {commit}"
    frozen = " as its listing says" if copy.pinning.frozen is not None else ""
    return f"can be listed and read{frozen}" if len(found.table) else "can be listed, and is empty"


def _check_live(mount: Mount) -> Checked:
    """What will be mounted, by the rules of the view itself. Blocks."""
    name = mount.target.removeprefix(f"{DATA}/")
    name = f"public {mount.target.removeprefix(f'{PUBLIC}/')}" if mount.kind == "public" else _called(name)
    try:
        check_sources(MountView(mounts=(mount,)), limit_s=_DIRECTORY_S)
    except StagerError as error:
        return Checked(name=name, source=mount.source, error=error)
    return Checked(name=name, source=mount.source, found="can be mounted")


def _check_directories(spec: JobSpec) -> list[Checked]:
    """What is copied from this host. Blocks."""
    named = [
        (_called(dataset.name), dataset.source.location)
        for dataset in (*spec.datasets, *spec.resources)
        if dataset.source.scheme == "file"
    ]
    if spec.code is not None and spec.code.source.scheme == "file":
        named.append(("code", spec.code.source.location))
    probes = probe_directories([path for _, path in named], limit_s=_DIRECTORY_S) if named else []
    checked = []
    for (name, path), probe in zip(named, probes, strict=True):
        error = _error_of(probe)
        checked.append(Checked(name=name, source=path, found="" if error else "can be read", error=error))
    return checked


def _error_of(probe: Probe) -> StagerError | None:
    if probe.error == -1:
        return MountError("no answer; the server behind this mount may be gone", where=probe.path)
    if probe.error == errno.ENOENT:
        return NotFoundError("no such directory", where=probe.path, hint="check the path")
    if probe.error in (errno.EACCES, errno.EPERM):
        return AccessDeniedError("you may not reach this directory", where=probe.path)
    if probe.error:
        return MountError(os.strerror(probe.error), where=probe.path)
    if not os.access(probe.real, os.R_OK | os.X_OK):
        return AccessDeniedError("you may not read this directory", where=probe.path)
    return None


async def _check_place(keep: Keep, limit_s: float) -> Checked:
    try:
        await asyncio.to_thread(ask_place, keep, limit_s)
    except StagerError as error:
        return Checked(name=keep.what, source=keep.place, error=error)
    return Checked(name=keep.what, source=keep.place, found=f"would go to {keep.place}")
