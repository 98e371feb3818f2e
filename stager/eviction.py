"""Room in the node's cache: `stager.stages.evict_policy` carried out, each entry looked at again under its own lock."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from stager.errors import StagerError
from stager.host.cache import About, Cache, Kept
from stager.keeping import Amount, Item, Quota
from stager.stages.evict_policy import longest_unused, over_quota

__all__ = ["evict", "free_bytes", "items_of", "keep_to_quota", "make_room"]

_EVERYTHING: Final = Amount(1 << 63, 1 << 63)
_ROOM_WITHIN_S: Final = 2.0
_LOOK_AGAIN_S: Final = 0.02
_UNKNOWN: Final = About(source="?")


def items_of(cache: Cache) -> list[Item]:
    """What is kept now. Blocks. Raises `HostError`."""
    return [_item(entry) for entry in cache.entries()]


def evict(cache: Cache, items: Iterable[Item]) -> list[Item]:
    """Remove these, but for what came into use or was pinned meanwhile; return what went. Blocks. `HostError`."""
    return [item for item in items if _goes(Kept(os.path.join(cache.path, item.name)))]


def make_room(cache: Cache, spared: str) -> bool:
    """Remove what was used longest ago, if there is something that nobody uses and nobody wants to stay.

    Blocks. Raises `HostError`.
    """
    for item in longest_unused(items_of(cache), _EVERYTHING, spared):
        free = free_bytes(cache)
        if evict(cache, [item]):
            _await_room(cache, free)
            return True
    return False


def keep_to_quota(cache: Cache, quota: Quota, spared: str) -> None:
    """Remove what is too much, as far as nobody uses it. Blocks. Never raises."""
    with suppress(StagerError, OSError):
        evict(cache, over_quota(items_of(cache), quota, free_bytes(cache), spared))


def free_bytes(cache: Cache) -> int:
    """What this user can still write beside the cache. OSError."""
    found = os.statvfs(cache.path)
    return found.f_bavail * found.f_frsize


def _item(entry: Kept) -> Item:
    about = entry.about() or _UNKNOWN
    return Item(
        name=entry.name, source=about.source, bytes=about.bytes, inodes=about.inodes or about.files,
        last_use_s=entry.last_use_s(), is_pinned=about.is_pinned, in_use=entry.is_in_use(),
    )  # fmt: skip


def _goes(entry: Kept) -> bool:
    about = entry.about()
    return not (about and about.is_pinned) and entry.remove()


def _await_room(cache: Cache, before: int) -> None:
    """A file system may give the blocks of removed files free in the background (xfs does); of clones it gives none."""
    deadline_s = time.monotonic() + _ROOM_WITHIN_S
    while free_bytes(cache) <= before and time.monotonic() < deadline_s:
        time.sleep(_LOOK_AGAIN_S)
