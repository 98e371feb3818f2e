"""Which unfinished large files are still of use: this run continues them, or a later one may that leaves less out."""

from __future__ import annotations

from array import array
from typing import Final

from msgspec import Struct

from stager._native import BLOCK_BYTES, KeyOrder, KeyTable
from stager.host.partial import partial_name, partial_names
from stager.host.threads import Checkpoint, go_on

__all__ = ["Unfinished", "find_unfinished"]

_ROWS_A_STEP: Final = 4096
_LARGEST: Final = 2**63 - 1
_EARLIEST_NS: Final = -(2**63)


class Unfinished(Struct, frozen=True, kw_only=True):
    """``names`` of the files, of them ``idle``: this run does not continue them."""

    names: frozenset[str] = frozenset()
    idle: frozenset[str] = frozenset()


def find_unfinished(
    state_fd: int,
    source: str,
    whole: KeyTable,
    order: KeyOrder,
    good: array[int],
    fetch: array[int],
    *,
    checkpoint: Checkpoint = go_on,
) -> Unfinished:
    """Of the unfinished files there those whose object the ``whole`` listing has as it was, unless its file stands.

    ``good`` and ``fetch`` are rows of the table of ``order``, of what is wanted: what is good and not fetched stands.
    Blocks. Raises `HostError`.
    """
    there = partial_names(state_fd)
    if not there:
        return Unfinished()
    fetched, stands = frozenset(fetch), frozenset(good).difference(fetch)
    names, idle = set(), set()
    large, _ = whole.files(BLOCK_BYTES + 1, _LARGEST, _EARLIEST_NS)
    for number, row in enumerate(large):
        if number % _ROWS_A_STEP == 0:
            checkpoint()
        key = whole.key(row)
        name, wanted = partial_name(source, key, whole.size(row), whole.identity(row)), order.find(key)
        if name in there and wanted not in stands:
            names.add(name)
            if wanted not in fetched:
                idle.add(name)
    return Unfinished(names=frozenset(names), idle=frozenset(idle))
