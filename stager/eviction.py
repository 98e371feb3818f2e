"""Room in the node's cache: the rules of `stager.keeping` carried out, each entry looked at again, and locked."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from stager.errors import StagerError
from stager.host.cache import Cache
from stager.host.cache_items import items_in, remove_item
from stager.host.quota import space_of
from stager.keeping import Amount, Item, Quota, Room, longest_unused, over_quota, too_much_pinned, total

__all__ = ["evict", "keep_to_quota", "make_room"]

_EVERYTHING: Final = Amount(1 << 63, 1 << 63)
_SOME: Final = Amount(1, 0)
_ROOM_WITHIN_S: Final = 2.0
_LOOK_AGAIN_S: Final = 0.02


def evict(items: Iterable[Item]) -> list[Item]:
    """Remove these, but for what came into use or was pinned meanwhile; return what went. Blocks. `HostError`."""
    return [item for item in items if remove_item(item, pinned=False)]


def make_room(cache: Cache, spared: str, missing: Amount | None = None) -> list[Item]:
    """Remove what was used longest ago and nobody uses or wants to stay: so much that ``missing`` comes free, nothing
    where all of it would not do; where nobody knows what is missing, one. Return what went.

    Blocks. Raises `HostError`.
    """
    items = items_in(cache.scratch)
    going = longest_unused(items, missing or _EVERYTHING, spared)
    coming = missing or _SOME
    if missing is not None and not _is_enough(total(going), missing):
        going = [item for item in going if not item.bytes]  # nobody knows how much: never filled to the end
        coming = _SOME
    before = _room(cache).free
    went: list[Item] = []
    for item in going:
        went += [one for one in evict([item]) if one.bytes or not os.path.lexists(one.path)]  # else it would go again
        if went and missing is None:
            break
    if went:
        _await_room(cache, before, coming)
    return went


def keep_to_quota(cache: Cache, quota: Quota, spared: str) -> str:
    """Remove what is too much, as far as nobody uses it; say what is too much for that. Blocks. Never raises."""
    with suppress(StagerError, OSError):
        items, room = items_in(cache.scratch), _room(cache)
        evict(over_quota(items, quota, room, spared))
        return too_much_pinned(items, quota, room)
    return ""


def _room(cache: Cache) -> Room:
    space = space_of(cache.path)
    return Room(Amount(space.free_bytes, space.free_inodes or 0), Amount(space.total_bytes, space.total_inodes or 0))


def _is_enough(came: Amount, missing: Amount) -> bool:
    return came.bytes >= missing.bytes and came.inodes >= missing.inodes


def _await_room(cache: Cache, before: Amount, coming: Amount) -> None:
    """A file system may give the blocks of removed files free in the background (xfs does), and who looks too early
    removes more; of clones it gives none.
    """
    deadline_s = time.monotonic() + _ROOM_WITHIN_S
    while time.monotonic() < deadline_s:
        free = _room(cache).free
        if _is_enough(Amount(free.bytes - before.bytes, free.inodes - before.inodes), coming):
            return
        time.sleep(_LOOK_AGAIN_S)
