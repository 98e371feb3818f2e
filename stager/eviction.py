"""Room in the node's cache: the rules of `stager.keeping` carried out, each entry looked at again, and locked."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from stager.errors import StagerError
from stager.host.cache import Cache, Kept
from stager.host.cache_items import items_at
from stager.keeping import Amount, Item, Quota, longest_unused, over_quota, total

__all__ = ["evict", "free_bytes", "keep_to_quota", "make_room"]

_EVERYTHING: Final = Amount(1 << 63, 1 << 63)
_ROOM_WITHIN_S: Final = 2.0
_LOOK_AGAIN_S: Final = 0.02


def evict(items: Iterable[Item]) -> list[Item]:
    """Remove these, but for what came into use or was pinned meanwhile; return what went. Blocks. `HostError`."""
    return [item for item in items if _goes(Kept(item.path))]


def make_room(cache: Cache, spared: str, missing: Amount | None = None) -> list[Item]:
    """Remove what was used longest ago and nobody uses or wants to stay: so much that ``missing`` comes free, nothing
    where all of it would not do; where nobody knows what is missing, one. Return what went.

    Blocks. Raises `HostError`.
    """
    items = items_at(cache.path)
    going = longest_unused(items, missing or _EVERYTHING, spared)
    if missing is not None and not _is_enough(total(going), missing):
        going = [item for item in going if not item.bytes]  # nobody knows how much: never filled to the end
    free = free_bytes(cache)
    went: list[Item] = []
    for item in going:
        went += [one for one in evict([item]) if one.bytes or not os.path.lexists(one.path)]  # else it would go again
        if went and missing is None:
            break
    if went:
        _await_room(cache, free)
    return went


def keep_to_quota(cache: Cache, quota: Quota, spared: str) -> None:
    """Remove what is too much, as far as nobody uses it. Blocks. Never raises."""
    with suppress(StagerError, OSError):
        evict(over_quota(items_at(cache.path), quota, free_bytes(cache), spared))


def free_bytes(cache: Cache) -> int:
    """What this user can still write beside the cache. OSError."""
    found = os.statvfs(cache.path)
    return found.f_bavail * found.f_frsize


def _is_enough(came: Amount, missing: Amount) -> bool:
    return came.bytes >= missing.bytes and came.inodes >= missing.inodes


def _goes(entry: Kept) -> bool:
    about = entry.about()
    return not (about and about.is_pinned) and entry.remove()


def _await_room(cache: Cache, before: int) -> None:
    """A file system may give the blocks of removed files free in the background (xfs does); of clones it gives none."""
    deadline_s = time.monotonic() + _ROOM_WITHIN_S
    while free_bytes(cache) <= before and time.monotonic() < deadline_s:
        time.sleep(_LOOK_AGAIN_S)
