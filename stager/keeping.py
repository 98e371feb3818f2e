"""What is kept in a node's cache, in amounts, and how much of it may be: values only."""

from __future__ import annotations

import math
from typing import NamedTuple

from msgspec import Struct

__all__ = ["Amount", "Item", "Quota"]


class Amount(NamedTuple):
    """Of a disk."""

    bytes: int
    inodes: int


class Item(Struct, frozen=True, kw_only=True):
    """What is kept under one name. ``last_use_s``: since the epoch; 0: never."""

    name: str
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
