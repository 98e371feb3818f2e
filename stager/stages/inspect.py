"""Look at a staged tree: its manifest, and which of its files are not what was recorded."""

from __future__ import annotations

import os
import stat
from array import array
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import Final

from msgspec import Struct

from stager.errors import UsageError
from stager.events import Found
from stager.host.foreign_files import ForeignFiles
from stager.host.git_look import GIT_NAME
from stager.host.manifest_file import Manifest, load_manifest
from stager.host.mounts import lies_within
from stager.host.parts import MARK
from stager.host.recheck import Odd, check_piece, pieces_of, threads_here
from stager.host.record import RECORD, record_at
from stager.host.threads import Checkpoint, in_threads, stoppable
from stager.host.workspace import STATE_NAME
from stager.manifest import FORMER_NAME, MANIFEST_NAME, DamagedManifestError

__all__ = ["Staged", "found_foreign", "found_odd", "inspect_files", "staged_below"]

_FOREIGN_AT_ONCE: Final = 1000
_TREE, _STATE = "tree", "state"
_MARKS: Final = (RECORD, MARK)
_LEFT: Final = "an earlier sync put it there; the dataset does not hold it now"
_WHY: Final = {
    "kind": "it is no longer the file that was staged, or a symlink stands above it",
    "size": "another size",
    "content": "other content",
    "executable": "who may execute it",
}


class Staged(Struct, frozen=True):
    """A staged tree and where its state is; None: in its own .stager. ``of_job``: it is a copy in a job's tree."""

    tree: str
    state: str | None
    of_job: bool = False


def staged_below(directory: str, state_dir: str | None) -> tuple[Staged, ...]:
    """The trees that ``directory`` stands for: what a sync filled, one copy of a job, or all copies of a job when it is
    the job's tree, whose state lies beside it. Blocks. Raises `UsageError`: nothing was staged there.
    """
    own = os.path.join(directory, STATE_NAME)
    if state_dir is not None or (os.path.lexists(own) and stat.S_ISDIR(os.lstat(own).st_mode)):
        return (Staged(directory, state_dir),)
    real = os.path.realpath(directory)
    job = _job_of(real)
    found = tuple(one for where, one in _copies_of(job) if lies_within(where, real)) if job is not None else ()
    if not found:
        hint = "name a directory that `stager sync` filled, or its state with --state-dir"
        raise UsageError("nothing was staged here", where=directory, hint=hint)
    return found


def _job_of(path: str) -> str | None:
    """The directory of the job in whose tree ``path`` lies."""
    while path != (above := os.path.dirname(path)):
        if os.path.basename(path) == _TREE and any(os.path.isfile(os.path.join(above, name)) for name in _MARKS):
            return above
        path = above
    return None


def _copies_of(job: str) -> list[tuple[str, Staged]]:
    """What was copied for a job, in the order of its names, and where its tree shows it; parts of it may lie apart."""
    record = record_at(job)
    places = {job, *(record.parts.values() if record is not None else ())}
    found = []
    for place in places:
        top = os.path.join(place, _STATE)
        for path, _, files in os.walk(top):
            if MANIFEST_NAME in files:
                below = os.path.relpath(path, top)
                staged = Staged(os.path.join(place, _TREE, below), path, of_job=True)
                found.append((os.path.join(job, _TREE, below), staged))
    return sorted(found, key=lambda one: one[0])


async def inspect_files(manifest: Manifest, root_fd: int) -> AsyncGenerator[tuple[array[int], list[Odd]], None]:
    """Every file hashed again, over the usable cores: rows that have been looked at, and those of them that are not
    what was recorded. The entries of the others stand. Use it inside `contextlib.aclosing`.
    """
    rows = array("I", range(len(manifest.table)))
    check = partial(_check_and_name, partial(check_piece, manifest.entries, root_fd, True, False))
    pieces = pieces_of(manifest.table, rows)
    async with aclosing(in_threads(check, pieces, threads=threads_here())) as results:
        async for result in results:
            yield result


def _check_and_name(check: partial[list[Odd]], rows: array[int]) -> tuple[array[int], list[Odd]]:
    return rows, check(rows)


async def found_foreign(
    manifest: Manifest, state_fd: int | None, root_fd: int, tree: str
) -> AsyncGenerator[Found, None]:
    """Every file below the tree that the manifest does not have. Raises `HostError`."""
    former = await stoppable(_read_former, state_fd)
    besides = (GIT_NAME,) if manifest.header.history else ()
    walk = ForeignFiles(root_fd, manifest.order, besides=besides)
    while some := await stoppable(walk.some, _FOREIGN_AT_ONCE):
        for path in sorted(some):
            left = former is not None and former.order.find(path) >= 0
            yield Found(source=tree, path=os.fsdecode(path), what="foreign", why=_LEFT if left else "")


def _read_former(checkpoint: Checkpoint, state_fd: int | None) -> Manifest | None:
    """What earlier syncs left beside the tree; None: nothing, or nothing that can be believed."""
    if state_fd is None:
        return None
    try:
        return load_manifest(state_fd, FORMER_NAME, one_tree=False, checkpoint=checkpoint)
    except (FileNotFoundError, DamagedManifestError):
        return None


def found_odd(manifest: Manifest, odd: Odd, tree: str) -> Found:
    """What there is to tell of a file."""
    path = os.fsdecode(manifest.table.key(odd.row))
    if odd.what == "unreadable":
        return Found(source=tree, path=path, what=odd.what, why=os.strerror(odd.errno))
    if odd.what == "missing":
        return Found(source=tree, path=path, what=odd.what)
    return Found(source=tree, path=path, what="differs", why=_WHY[odd.what])
