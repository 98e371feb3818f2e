"""How much the node's cache may take, as the site and the user say it, in the files that have ``[placement]`` too::

    [cache]                     # of each user, on each disk
    share = "50%"               # of what is free and what is kept already
    max_bytes = "500G"
    max_inodes = 1000000

The site's values cannot be exceeded: of both files the smaller ones count.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from msgspec import Struct

from stager.amounts import MOST_BYTES, parse_bytes
from stager.host.placement_settings import USERS, user_tables
from stager.host.settings_file import read_table
from stager.keeping import Quota

__all__ = ["CacheSettings", "cache_in", "chosen_quota", "user_cache"]

_PERCENT: Final = re.compile(r"(100|[0-9]{1,2}(?:\.[0-9]{1,3})?)%")


class CacheSettings(Struct, frozen=True, kw_only=True):
    """One file's ``[cache]``; None: it says nothing of that."""

    file: str = ""
    share: float | None = None
    max_bytes: int | None = None
    max_inodes: int | None = None


def user_cache(environ: Mapping[str, str]) -> CacheSettings:
    """What the user's file says of the cache. Raises as `user_tables`. Blocks."""
    path, tables = user_tables(environ)
    return cache_in(tables, path, USERS) if path else CacheSettings()


def chosen_quota(site: CacheSettings, user: CacheSettings) -> Quota:
    """Both files together."""
    shares = [each.share for each in (site, user) if each.share is not None]
    bytes_ = [each.max_bytes for each in (site, user) if each.max_bytes is not None]
    inodes = [each.max_inodes for each in (site, user) if each.max_inodes is not None]
    return Quota(
        share=min(shares, default=Quota().share), bytes=min(bytes_, default=None), inodes=min(inodes, default=None)
    )


def cache_in(tables: Mapping[str, Any], path: str, what: str) -> CacheSettings:
    """The ``[cache]`` of a file's tables. Raises `HostError` naming the first key that is not understood."""
    return CacheSettings(file=path, **read_table(tables, "cache", _READERS, path=path, what=what))


def _share(value: object) -> float:
    found = _PERCENT.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f'a share from "0%" to "100%", not {value!r}')
    return float(found[1]) / 100


def _bytes(value: object) -> int:
    amount = parse_bytes(value) if isinstance(value, str) else value
    if isinstance(amount, bool) or not isinstance(amount, int) or not 0 <= amount <= MOST_BYTES:
        raise ValueError(f'an amount like "500G", not {value!r}')
    return amount


def _inodes(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST_BYTES:
        raise ValueError(f"a whole number, not {value!r}")
    return value


_READERS: Final[dict[str, Callable[[object], Any]]] = {"share": _share, "max_bytes": _bytes, "max_inodes": _inodes}
