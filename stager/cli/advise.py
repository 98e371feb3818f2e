"""What a job's user is told about storage, at the start and at the end, also with ``-q``."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress

import msgspec

from stager.cli.state import State
from stager.cli.tell import tell, warn
from stager.cli.text import count, size
from stager.errors import StagerError
from stager.host.connections import Export
from stager.host.site import site_cloud
from stager.job.advice import LargeFile, find_large_files, left_in_cluster_storage
from stager.model import MountView
from stager.names import lossless, show
from stager.view_paths import SHARED_STORAGE, USER_STORAGE

__all__ = ["Told", "advise_at_end", "advising", "tell_waiting"]

Told = set[tuple[str, int]]
"""Large files that were named already."""


@asynccontextmanager
async def advising(state: State, view: MountView, told: Told) -> AsyncIterator[None]:
    """Look for what is too large for a network file system while the block is entered, and name it when it is found."""
    looking = asyncio.create_task(_look(state, view, told))
    yield  # whoever is stopped in there does not wait for this
    await looking


async def _look(state: State, view: MountView, told: Told) -> None:
    with suppress(StagerError):  # it is advice; what is wrong with the configuration is told by who needs it
        _tell_large(state, await asyncio.to_thread(find_large_files, view, dict(os.environ)), told)


def advise_at_end(state: State, view: MountView, told: Told) -> None:
    """Name what has become too large meanwhile, and what is left in cluster storage. Blocks."""
    with suppress(StagerError):
        _tell_large(state, find_large_files(view, os.environ), told)
    for left in left_in_cluster_storage(view):
        amount = f"{count(left.total.objects, 'file')}, {size(left.total.bytes)}"
        where = show(os.fsencode(left.source))
        text = (
            f"{'' if left.whole else 'at least '}{amount} left in {left.path}, which is this job's alone ({where}): "
            f"what is wanted later belongs in {USER_STORAGE} or {SHARED_STORAGE}; `stager gc` removes it"
        )
        _say(state, "left_behind", msgspec.to_builtins(left), text)


def tell_waiting(state: State, export: Export, before: int) -> None:
    """A job waits for its turn."""
    name = show(os.fsencode(export.name))
    text = f"stager: waits for {name}: {before} jobs of this node have it, and the site allows {export.most}"
    tell(state, "waiting", {"export": export.name, "jobs": before, "limit": export.most}, text, err=True)


def _tell_large(state: State, files: Iterable[LargeFile], told: Told) -> None:
    cloud = site_cloud().artifact_storage
    bucket = f", here {cloud}" if cloud else ""
    for file in files:
        if (file.path, file.size) in told:
            continue
        told.add((file.path, file.size))
        text = (
            f"{show(os.fsencode(file.path))} ({size(file.size)}) lies on a network file system ({file.file_system}): "
            f"files of its size belong in object storage{bucket}"
        )
        _say(state, "large_file", {**msgspec.to_builtins(file), "object_storage": cloud or None}, text)


def _say(state: State, event: str, body: dict[str, object], text: str) -> None:
    if state.json:
        tell(state, event, {name: lossless(value) for name, value in body.items()}, text)
    else:
        warn(state, text)
