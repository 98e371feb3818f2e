"""Versions of objects, looked up before they are copied: the one that is named, or what the listed ones have.

Source: Amazon S3 API reference, HeadObject and GetObject with versionId: the answer names the version in
x-amz-version-id; a version that is a delete marker is a 405, one that is not there a 404, what can be none a 400.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Sequence
from typing import Any, Final

from stager._native import Batch, KeyTable, Template
from stager.errors import ChangedError, GoneError, NotFoundError, SourceError, StagerError, TransientError
from stager.transfer import Lane, Work

__all__ = ["look_up", "prove_readable", "with_versions"]

_SEPARATOR: Final = b"\0"  # csrc/identity.h
_NULL: Final = b"null"  # the version of what was stored before its bucket had any; an answer need not name it


async def look_up(lane: Lane, template: Template, key: bytes, version_id: bytes, *, where: str) -> KeyTable:
    """A table of one row: the object at this version. ``key`` is below the template's key prefix.

    Raises `NotFoundError` (no such object or version, or it is a delete marker), `SourceError` for a server that does
    not say which version it has, and what `Lane.run` raises.
    """
    asked = KeyTable()
    asked.append(key, 1, _SEPARATOR + version_id)
    answers: list[tuple[int, bytes, bytes]] = []
    engine = lane.transfer.engine

    def landed(batch: Batch, _rows: Sequence[int], _finished: array[int]) -> None:
        answers.append(batch.told(0))

    look = Work(items=[0], submit=lambda rows: engine.look_up(template, asked, rows), landed=landed,
                name=lambda _: where)  # fmt: skip
    try:
        await _run(lane, look)
    except TransientError:
        raise
    except StagerError:
        lane.skipped.clear()
        await _ask_why(lane, template, asked, where)
        await _run(lane, look)  # it can be read now: what was wrong, such as credentials that had ended, is corrected
    size, etag, told = answers[0]
    if told != version_id and (told or version_id != _NULL):
        raise SourceError("the server does not say that it has this version", where=where,
                          hint="it may keep no versions: leave ?versionId= out")
    found = KeyTable()
    pinned = etag + _SEPARATOR + version_id if etag or version_id != _NULL else b""
    found.append(key, size, pinned)
    return found


async def prove_readable(lane: Lane, template: Template, table: KeyTable, row: int, where: str) -> None:
    """One HEAD of one object as it is pinned, which takes the permission that a GET takes; a GET when it is refused.

    Raises what a fetch of the object would.
    """
    asked = KeyTable()
    asked.append(table.key(row), 1, table.identity(row))
    look = Work(items=[0], submit=lambda rows: lane.transfer.engine.look_up(template, asked, rows),
                landed=lambda *_: None, name=lambda _: where)  # fmt: skip
    try:
        await _run(lane, look)
    except (TransientError, ChangedError):
        raise
    except StagerError:
        lane.skipped.clear()
        await _ask_why(lane, template, asked, where)
        await _run(lane, look)


async def with_versions(lane: Lane, template: Template, table: KeyTable, *, name: Callable[[bytes], str]) -> KeyTable:
    """The same objects, each pinned to the version too that it had when it was listed: a HEAD each, with its ETag.

    What has none, in a bucket that keeps none or from before it did, stays as it is. ``name`` shows a key in errors.
    Raises `ChangedError` and what `Lane.run` raises.
    """
    versions = [b""] * len(table)
    engine = lane.transfer.engine

    def landed(batch: Batch, rows: Sequence[int], finished: array[int]) -> None:
        for index in finished:
            row = rows[index]
            size, etag, version_id = batch.told(index)
            if (size, etag) != (table.size(row), table.identity(row)):
                where = name(table.key(row))
                raise ChangedError("changed while it was being listed", where=where, hint="list it again")
            versions[row] = b"" if version_id == _NULL else version_id

    await _run(
        lane,
        Work(items=array("I", range(len(table))), submit=lambda rows: engine.look_up(template, table, rows),
             landed=landed, name=lambda row: name(table.key(row))),
    )  # fmt: skip
    pinned = KeyTable()
    for (key, size, identity, mtime_ns, mode), version_id in zip(table.rows(), versions, strict=True):
        pinned.append(key, size, identity + _SEPARATOR + version_id if version_id else identity, mtime_ns, mode)
    return pinned


async def _ask_why(lane: Lane, template: Template, asked: KeyTable, where: str) -> None:
    """Raise what is wrong: an answer to a HEAD has no body that would say so, one to a GET has. Else it can be read."""
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    engine = lane.transfer.engine

    def landed(_batch: Batch, _ranges: Sequence[tuple[int, int]], _finished: array[int]) -> None:
        return

    why = Work(items=[(0, 1)], submit=lambda ranges: engine.fetch_ranges(template, asked, 0, ranges, nowhere),
               landed=landed, name=lambda _: where)  # fmt: skip
    try:
        await _run(lane, why)
    except GoneError as error:
        hint = "check name and version"
        raise NotFoundError("nothing is stored there in this version", where=where, hint=hint) from error
    except ChangedError:
        return  # it came, and is not of the length that was made up for it
    finally:
        os.close(nowhere)


async def _run(lane: Lane, work: Work[Any]) -> None:
    await lane.run(work)
    if lane.skipped:
        raise lane.skipped[0]
