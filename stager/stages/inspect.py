"""Look at a staged tree: its manifest, and which of its files are not what was recorded."""

from __future__ import annotations

import os
import stat
from array import array
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import Final

from stager.errors import IntegrityError, UsageError
from stager.events import Found
from stager.host.foreign_files import ForeignFiles
from stager.host.manifest_file import Manifest, load_manifest
from stager.host.recheck import Odd, check_piece, pieces_of, threads_here
from stager.host.threads import Checkpoint, in_threads, stoppable
from stager.host.workspace import STATE_NAME
from stager.manifest import DamagedManifestError

__all__ = ["found_foreign", "found_odd", "inspect_files", "read_whole_manifest", "state_of"]

_FOREIGN_AT_ONCE: Final = 1000
_JOB_RECORD: Final = "job.json"
_WHY: Final = {
    "kind": "it is no longer the file that was staged, or a symlink stands above it",
    "size": "another size",
    "content": "other content",
    "executable": "who may execute it",
}


def state_of(directory: str, state_dir: str | None) -> str | None:
    """Where the state of a staged tree is: as asked; None for DIR/.stager; a job's dataset has it beside its tree.

    Blocks. Raises `UsageError`: there is none.
    """
    if state_dir is not None:
        return state_dir
    own = os.path.join(directory, STATE_NAME)
    if os.path.lexists(own) and stat.S_ISDIR(os.lstat(own).st_mode):
        return None
    top, below = os.path.realpath(directory), ""
    while top != os.path.dirname(top):
        top, name = os.path.split(top)
        if name == "tree" and os.path.isfile(os.path.join(top, _JOB_RECORD)):
            state = os.path.join(top, "state", below)
            if os.path.isdir(state):
                return state
        below = os.path.join(name, below) if below else name
    raise UsageError("nothing was staged here", where=directory,
                     hint="name a directory that `stager sync` filled, or its state with --state-dir")


def read_whole_manifest(checkpoint: Checkpoint, state_fd: int | None, where: str) -> Manifest:
    """The manifest with all of its entries. Blocks. Raises `UsageError` (none), `IntegrityError` (damaged)."""
    hint = "`stager sync` it again"
    if state_fd is None:
        raise UsageError("nothing was staged here", where=where, hint=hint)
    try:
        return load_manifest(state_fd, checkpoint=checkpoint)
    except FileNotFoundError:
        raise UsageError("has no manifest: no sync has finished here", where=where, hint=hint) from None
    except DamagedManifestError as error:
        raise IntegrityError(f"the manifest is damaged ({error})", where=where, hint=hint) from error


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


async def found_foreign(manifest: Manifest, root_fd: int, tree: str) -> AsyncGenerator[Found, None]:
    """Every file below the tree that the manifest does not have. Raises `HostError`."""
    walk = ForeignFiles(root_fd, manifest.order)
    while some := await stoppable(walk.some, _FOREIGN_AT_ONCE):
        for path in sorted(some):
            yield Found(source=tree, path=os.fsdecode(path), what="foreign")


def found_odd(manifest: Manifest, odd: Odd, tree: str) -> Found:
    """What there is to tell of a file."""
    path = os.fsdecode(manifest.table.key(odd.row))
    if odd.what == "unreadable":
        return Found(source=tree, path=path, what=odd.what, why=os.strerror(odd.errno))
    if odd.what == "missing":
        return Found(source=tree, path=path, what=odd.what)
    return Found(source=tree, path=path, what="differs", why=_WHY[odd.what])
