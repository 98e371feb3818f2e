"""Files of a destination hashed again, over the usable cores, against what was recorded of them (csrc/recheck.h)."""

from __future__ import annotations

import os
from array import array
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import Final

from msgspec import Struct

from stager import _native
from stager._native import Entries, KeyTable
from stager.host.threads import Checkpoint, go_on

__all__ = ["WHAT", "Odd", "pieces_of", "recheck", "threads_here"]

_THREADS_MAX: Final = 16
_ROWS_A_CALL: Final = 256
_BYTES_A_CALL: Final = 64 << 20

WHAT: Final = {
    _native.FOUND_MISSING: "missing",
    _native.FOUND_KIND: "kind",
    _native.FOUND_SIZE: "size",
    _native.FOUND_CONTENT: "content",
    _native.FOUND_EXECUTABLE: "executable",
    _native.FOUND_UNREADABLE: "unreadable",
}


class Odd(Struct, frozen=True):
    """A file that is not what was recorded: its row, a word of `WHAT`, and for "unreadable" the errno."""

    row: int
    what: str
    errno: int


def threads_here() -> int:
    """How many files are hashed at a time."""
    return min(_THREADS_MAX, len(os.sched_getaffinity(0)))


def pieces_of(table: KeyTable, rows: array[int]) -> Iterator[array[int]]:
    """The rows in their order, in pieces that are hashed in about the tenth of a second, but for large files."""
    start = size = 0
    for at, row in enumerate(rows):
        size += table.size(row)
        if at + 1 - start >= _ROWS_A_CALL or size >= _BYTES_A_CALL:
            yield rows[start : at + 1]
            start, size = at + 1, 0
    if start < len(rows):
        yield rows[start:]


def recheck(
    entries: Entries,
    rows: array[int],
    root_fd: int,
    *,
    stands: bool,
    from_disk: bool = False,
    checkpoint: Checkpoint = go_on,
) -> Iterator[Odd]:
    """Hash the files of these rows, of each of which something is recorded, and tell which are not the same.

    The entries of the others stand, or are trusted without ``stands``. ``from_disk``: what the page cache holds of a
    file is dropped before, as far as it has been written. Blocks; leaving early waits for the files that are read.
    """
    hash_piece = partial(check_piece, entries, root_fd, stands, from_disk)
    if len(rows) == 1:
        yield from hash_piece(rows)
        return
    threads = threads_here()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="recheck")
    running: deque[Future[list[Odd]]] = deque()
    pieces = pieces_of(entries.table, rows)
    try:
        while True:
            running.extend(pool.submit(hash_piece, piece) for piece in islice(pieces, 2 * threads - len(running)))
            if not running:
                return
            checkpoint()
            yield from running.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def check_piece(entries: Entries, root_fd: int, stands: bool, from_disk: bool, rows: array[int]) -> list[Odd]:
    """`recheck` of some rows, in this thread."""
    found = _native.recheck(entries, rows, root_fd, stands=stands, from_disk=from_disk)
    return [Odd(row, WHAT[what], errno) for row, what, errno in found]
