"""One version of one object, looked up before it is copied.

Source: Amazon S3 API reference, HeadObject and GetObject with versionId: the answer names the version in
x-amz-version-id; a version that is a delete marker is a 405, one that is not there a 404, what can be none a 400.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Sequence
from typing import Any, Final

from stager._native import Batch, KeyTable, Template
from stager.errors import ChangedError, GoneError, NotFoundError, SourceError, StagerError, TransientError
from stager.transfer import Lane, Work

__all__ = ["look_up"]

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
        answers.append(batch.told())

    look = Work(items=[0], submit=lambda rows: engine.look_up(template, asked, rows[0]), landed=landed,
                name=lambda _: where)  # fmt: skip
    try:
        await _run(lane, look)
    except TransientError:
        raise
    except StagerError:
        await _ask_why(lane, template, asked, where)
        await _run(lane, look)  # it can be read now: what was wrong, such as credentials that had ended, is corrected
    size, etag, told = answers[0]
    if told != version_id and (told or version_id != _NULL):
        raise SourceError("the server does not say that it has this version", where=where,
                          hint="it may keep no versions: leave ?versionId= out")
    found = KeyTable()
    found.append(key, size, etag + _SEPARATOR + version_id)
    return found


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
