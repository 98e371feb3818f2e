"""What lies in a scratch's cache, looked at without making or changing anything."""

from __future__ import annotations

import os
from typing import Final

from stager.host.cache import FORMAT, About, Kept, entries_at
from stager.host.scratch import CACHE, is_private
from stager.keeping import Item

__all__ = ["items_at", "items_in"]

_UNKNOWN: Final = About(source="?")


def items_in(scratch: str) -> list[Item]:
    """What is kept in a scratch directory; nothing where there is no cache of one's own. Blocks. Raises `HostError`."""
    path = os.path.join(scratch, CACHE, FORMAT)
    try:
        if not all(is_private(os.stat(each)) for each in (os.path.dirname(path), path)):
            return []
    except OSError:
        return []
    return items_at(path)


def items_at(path: str) -> list[Item]:
    """What is kept in the directory of a cache. Blocks. Raises `HostError`."""
    return [_item(entry) for entry in entries_at(path)]


def _item(entry: Kept) -> Item:
    about = entry.about() or _UNKNOWN
    return Item(
        name=entry.name, path=entry.path, source=about.source, bytes=about.bytes, inodes=about.inodes or about.files,
        last_use_s=entry.last_use_s(), is_pinned=about.is_pinned, in_use=entry.is_in_use(),
    )  # fmt: skip
