"""Logs of a job that were kept in an object store: listed and copied as any data is, every byte hashed on the way."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Collection

from stager.config import Remote
from stager.errors import NotFoundError, from_os_error
from stager.filters import EVERYTHING, Filter
from stager.host.threads import blocking
from stager.host.tree_files import TreeFile
from stager.model import DatasetReceipt
from stager.opening import open_source
from stager.pipeline import SyncOptions, sync
from stager.transfer import Transfer
from stager.urls import parse_source

__all__ = ["copy_store_logs", "list_store_logs"]


async def list_store_logs(place: str, remote: Remote | None, *, transfer: Transfer) -> list[TreeFile]:
    """Every file kept at ``place``, by its path; none where nothing is. Raises what `Source.snapshot` raises."""
    source = open_source(parse_source(f"{place}/"), remote=remote, transfer=transfer)
    try:
        async with source as opened:
            table = (await opened.snapshot()).table
    except NotFoundError:
        return []
    rows = [TreeFile(path=key, kind="file", size=size, mtime_ns=time) for key, size, _, time, _ in table.rows()]
    return sorted(rows, key=lambda file: file.path)


async def copy_store_logs(
    place: str, remote: Remote | None, target: str, *, paths: Collection[bytes] = (), transfer: Transfer
) -> DatasetReceipt:
    """Copy them below ``target``, or only those at ``paths``; nothing else stays there. Raises as `sync`."""
    wanted = Filter(paths=frozenset(paths)) if paths else EVERYTHING
    try:
        await blocking(lambda: os.makedirs(target, exist_ok=True))
        state = await blocking(lambda: tempfile.mkdtemp(prefix=".stager-", dir=target))
    except OSError as error:
        raise from_os_error(error, doing="make the directory", where=target) from error
    try:
        options = SyncOptions(remote=remote, state_dir=state, filter=wanted, preserve=True)
        return await sync(parse_source(f"{place}/"), target, transfer=transfer, options=options)
    finally:
        await blocking(lambda: shutil.rmtree(state, ignore_errors=True))
