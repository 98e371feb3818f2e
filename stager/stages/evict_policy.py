"""What of the cache goes: the policy, as pure functions of what is kept.

1. What is in use or pinned stays, however little room there is.
2. Of the rest, first what was not used for the longest time.
3. No more goes than is needed: for data that comes, and so that the quota is kept to. What is pinned or in use counts
   in the quota like everything else; when it exceeds it alone, all the rest goes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from stager.keeping import Amount, Item, Quota

__all__ = ["longest_unused", "over_quota", "total"]


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
