"""What is kept in a node's cache, how much of it may be, and what of it goes: values, and pure functions of them.

1. What is in use or pinned stays, however little room there is.
2. Of the rest goes first what was not used for the longest time.
3. No more goes than is needed: for data that comes, and so that the quota is kept to. What is pinned or in use counts
   in the quota like everything else; when it exceeds it alone, all the rest goes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from msgspec import Struct

__all__ = ["Amount", "Item", "Quota", "longest_unused", "over_quota", "total"]


class Amount(NamedTuple):
    """Of a disk."""

    bytes: int
    inodes: int


class Item(Struct, frozen=True, kw_only=True):
    """What is kept under one name, at ``path``. ``last_use_s``: since the epoch; 0: never."""

    name: str
    path: str
    source: str
    bytes: int
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
    no more than ``bytes`` and ``inodes`` (None: no such limit).
    """

    share: float = 0.5
    bytes: int | None = None
    inodes: int | None = None

    def most(self, kept: Amount, free_bytes: int) -> tuple[float, float]:
        """Bytes and inodes that may be kept where so much is kept and free."""
        most_bytes, most_inodes = (math.inf if limit is None else limit for limit in (self.bytes, self.inodes))
        return min(most_bytes, self.share * (kept.bytes + free_bytes)), most_inodes


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


def over_quota(items: Sequence[Item], quota: Quota, free_bytes: int, spared: str = "") -> list[Item]:
    """What goes so that the quota is kept to, as far as that can be; ``spared`` as above."""
    kept = total(items)
    most_bytes, most_inodes = quota.most(kept, free_bytes)
    over = Amount(math.ceil(max(0, kept.bytes - most_bytes)), math.ceil(max(0, kept.inodes - most_inodes)))
    return longest_unused(items, over, spared)


def total(items: Iterable[Item]) -> Amount:
    """All together."""
    amounts = [(item.bytes, item.inodes) for item in items]
    return Amount(sum(number for number, _ in amounts), sum(number for _, number in amounts))
