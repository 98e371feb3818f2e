"""What is kept in a node's cache, how much of it may be, and what of it goes: values, and pure functions of them.

1. What is in use or pinned stays, however little room there is.
2. Of the rest goes first what was not used for the longest time.
3. No more goes than is needed: for data that comes, and so that the quota is kept to and the floor of the disk free.
   What is pinned or in use counts in the quota like everything else; when it exceeds it alone, all the rest goes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from msgspec import Struct

from stager.amounts import about_bytes

__all__ = ["Amount", "Item", "Quota", "Room", "longest_unused", "over_quota", "too_much_pinned", "total"]


class Amount(NamedTuple):
    """Of a disk."""

    bytes: int
    inodes: int


class Room(NamedTuple):
    """Of a disk: what its user can still take, and all there is. No inodes at all: they are not counted."""

    free: Amount
    whole: Amount


class Item(Struct, frozen=True, kw_only=True):
    """What is kept under one name, at ``path``. ``last_use_s``: since the epoch; 0: never. ``kind``: a tree, the mirror
    of a Git repository, or the LFS objects that were last used on one day.
    """

    name: str
    path: str
    kind: Literal["tree", "mirror", "lfs"] = "tree"
    source: str
    bytes: int
    files: int = 0
    inodes: int
    last_use_s: float
    is_pinned: bool
    in_use: bool

    @property
    def may_go(self) -> bool:
        """Whether anybody could do without it."""
        return not (self.is_pinned or self.in_use)


class Quota(Struct, frozen=True, kw_only=True):
    """How much of a disk may be kept, what is pinned counted: ``share`` of what is free and what is kept already, and
    no more than ``bytes`` and ``inodes`` (None: no such limit), and nothing before the larger of ``floor_bytes`` and
    ``floor_share`` of the disk is free; of inodes only the share counts.
    """

    share: float = 0.5
    bytes: int | None = None
    inodes: int | None = None
    floor_bytes: int = 0
    floor_share: float = 0.0

    def most(self, kept: Amount, room: Room) -> tuple[float, float]:
        """Bytes and inodes that may be kept where so much is kept and free."""
        most_bytes, most_inodes = (math.inf if limit is None else limit for limit in (self.bytes, self.inodes))
        theirs = kept.bytes + room.free.bytes
        floor = max(self.floor_bytes, int(self.floor_share * room.whole.bytes))
        if room.whole.inodes:
            above = kept.inodes + room.free.inodes - int(self.floor_share * room.whole.inodes)
            most_inodes = min(most_inodes, max(0, above))
        return min(most_bytes, self.share * theirs, max(0, theirs - floor)), most_inodes


def longest_unused(items: Iterable[Item], needed: Amount, spared: str = "") -> list[Item]:
    """What goes so that ``needed`` comes free, in that order; all that may go when it is not enough. ``spared``: the
    name of what stays besides.
    """
    going: list[Item] = []
    came = Amount(0, 0)
    for item in sorted(items, key=lambda item: (item.last_use_s, item.name)):
        if came.bytes >= needed.bytes and came.inodes >= needed.inodes:
            break
        if item.may_go and item.name != spared:
            going.append(item)
            came = Amount(came.bytes + item.bytes, came.inodes + item.inodes)
    return going


def over_quota(items: Sequence[Item], quota: Quota, room: Room, spared: str = "") -> list[Item]:
    """What goes so that the quota is kept to, as far as that can be; ``spared`` as above."""
    kept = total(items)
    most_bytes, most_inodes = quota.most(kept, room)
    over = Amount(math.ceil(max(0, kept.bytes - most_bytes)), math.ceil(max(0, kept.inodes - most_inodes)))
    return longest_unused(items, over, spared)


def too_much_pinned(items: Sequence[Item], quota: Quota, room: Room) -> str:
    """That what is pinned exceeds the quota alone; "": it does not."""
    pinned = total(item for item in items if item.is_pinned)
    most_bytes, most_inodes = quota.most(total(items), room)
    if pinned.bytes > most_bytes:
        much = f"{about_bytes(pinned.bytes)} of the {about_bytes(int(most_bytes))}"
    elif pinned.inodes > most_inodes:
        much = f"{pinned.inodes:,} inodes of the {int(most_inodes):,}"
    else:
        return ""
    return f"what is pinned in the cache takes {much} it may have"


def total(items: Iterable[Item]) -> Amount:
    """All together."""
    amounts = [(item.bytes, item.inodes) for item in items]
    return Amount(sum(number for number, _ in amounts), sum(number for _, number in amounts))
