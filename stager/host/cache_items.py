"""What is kept in a scratch: trees, mirrors of Git repositories, LFS objects. One face for all (`stager.keeping.Item`);
to look makes and changes nothing.
"""

from __future__ import annotations

import os
from typing import Final

from msgspec.structs import replace

from stager.host.cache import FORMAT, About, Kept, entries_at
from stager.host.lfs_items import lfs_in, pin_lfs, remove_lfs
from stager.host.mirrors import is_pinned_mirror, mirrors_in, pin_mirror, remove_mirror
from stager.host.scratch import CACHE, LFS, MIRRORS, is_private
from stager.keeping import Item

__all__ = ["items_in", "pin_item", "remove_item"]

_UNKNOWN: Final = About(source="?")


def items_in(scratch: str) -> list[Item]:
    """What is kept in a scratch, as far as it lies in directories of one's own. Blocks. Raises `HostError`."""
    items: list[Item] = []
    path = os.path.join(scratch, CACHE, FORMAT)
    if _is_own(os.path.dirname(path)) and _is_own(path):
        items += [_item(entry) for entry in entries_at(path)]
    if _is_own(os.path.join(scratch, MIRRORS)):
        items += mirrors_in(scratch)
    if _is_own(os.path.join(scratch, LFS)):
        items += lfs_in(scratch)
    return items


def remove_item(item: Item, *, pinned: bool = True) -> bool:
    """Remove it; False: somebody uses it, and it stays. Without ``pinned`` also when it was pinned meanwhile.

    Blocks. Raises `HostError`.
    """
    if item.kind == "mirror":
        return (pinned or not is_pinned_mirror(item.path)) and remove_mirror(item.path)
    if item.kind == "lfs":
        return remove_lfs(item.path, item.name, pinned=pinned)
    entry = Kept(item.path)
    return (pinned or not (entry.about() or _UNKNOWN).is_pinned) and entry.remove()


def pin_item(item: Item, *, is_pinned: bool) -> None:
    """Whether it stays until it is removed by name; of LFS objects all in its scratch. Raises `HostError`,
    `NoSpaceError`.
    """
    if item.kind == "mirror":
        pin_mirror(item.path, is_pinned=is_pinned)
    elif item.kind == "lfs":
        pin_lfs(item.path, stays=is_pinned)
    else:
        entry = Kept(item.path)
        entry.tell(replace(entry.about() or _UNKNOWN, is_pinned=is_pinned))


def _item(entry: Kept) -> Item:
    about = entry.about() or _UNKNOWN
    return Item(
        name=entry.name, path=entry.path, source=about.source, bytes=about.bytes, files=about.files,
        inodes=about.inodes or about.files, last_use_s=entry.last_use_s(), is_pinned=about.is_pinned,
        in_use=entry.is_in_use(),
    )  # fmt: skip


def _is_own(path: str) -> bool:
    try:
        return is_private(os.lstat(path)) and os.path.isdir(path)
    except OSError:
        return False
