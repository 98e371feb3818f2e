"""Listing a bucket in parallel: stretches of the key space at once, each from a start-after to where the next begins.

Only for endpoints that list in byte order, and never on their word alone. Every page must ascend and lie above where
its stretch starts. Where a stretch ends, its lister has seen the next key (or the end of the listing), and this must
be the very key that the next stretch begins with: what one start-after loses, the page before it shows. The first
stretch starts without a start-after and all go on by token, which makes the whole what a serial listing gives. A key
that comes or goes at such a border meanwhile looks the same as a lie.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import Final

from msgspec import Struct, field

from stager._native import KeyTable, ListPage
from stager.errors import IntegrityError
from stager.sources.s3_list import PAGES_WITHOUT_A_KEY, Pages, Span, list_serially
from stager.sources.s3_split import KeySpace

__all__ = ["Listed", "list_folder"]

_MOST_AT_ONCE: Final = 32  # pages; each answer takes some 400 KB while it is read
_MORE_A_PAGE: Final = 7  # listers, for each page that took its time: 1, 8, 32
_SLOW_PAGE_S: Final = 0.01  # a page takes a third of a millisecond here: below this another lister saves little
_KEYS_SEEN: Final = 16  # of a page, to learn what keys look like
_KNOWN: Final = 1024.0  # pages; a guess beyond this says only that the scale is not known
_CUTS_A_PAGE: Final = 15  # at most: what a page tells of all that follows is little
_PAGES_A_CUT: Final = 1.5
_MOST_BYTES: Final = 2**63 - 1  # in one table


_DISORDER: Final = (
    "the listing contradicts itself: keys changed meanwhile, or this server does not list in byte order; listed again, "
    "one page after the other (if it says so each time: listing_order unordered)"
)


class Listed(Struct, frozen=True, kw_only=True):
    """A whole listing, and what the user should know of it."""

    table: KeyTable
    warnings: tuple[str, ...] = ()


class _DisorderError(Exception):
    """The server does not list in the order it is said to."""


class _Stretch(Span, kw_only=True, eq=False):
    """One lister's part: what it has listed, and what may be to come up to ``upto``."""

    pages: int = 0  # with keys
    page_from: int = 0  # the row the last of them began with
    open: bool = False  # it may be cut: once for each page, while more follow
    complete: bool = False
    spread: bool = False  # keys were found close behind its end as well: so they may lie anywhere before it
    to_come: float = 0.0  # pages like the last one, by guess
    width: float = 0.0  # of what is to come, as a part of all texts
    tokens: set[bytes] = field(default_factory=set)

    def first(self) -> bytes | None:
        """The first key listed."""
        return self.table.key(0) if len(self.table) else None

    def following(self) -> bytes | None:
        """The first key beyond, as its last page showed it; None: the listing ended."""
        return self.rest.key(0) if len(self.rest) else None


async def list_folder(pages: Pages, *, in_byte_order: bool) -> Listed:
    """Everything: in parallel where the endpoint lists in byte order, page after page otherwise.

    What turns out not to be in order is forgotten and listed page after page. Raises what `list_serially` raises.
    """
    if in_byte_order:
        try:
            return Listed(table=await _Parallel(pages).run())
        except _DisorderError:
            return Listed(table=await list_serially(pages), warnings=(_DISORDER,))
    return Listed(table=await list_serially(pages))


class _Parallel:
    """One listing. ``stretches`` covers the whole key space, in order."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._space = KeySpace()
        self._stretches = [_Stretch()]
        self._listers = 1
        self._most = 1
        self._group = asyncio.TaskGroup()

    async def run(self) -> KeyTable:
        try:
            async with self._group:
                self._group.create_task(self._list(self._stretches[0]))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return self._joined()

    async def _list(self, stretch: _Stretch) -> None:
        token = b""
        idle = 0
        while not stretch.complete:
            rows = len(stretch.table)
            started = time.monotonic()
            page = await self._pages.append(stretch, token=token)
            if time.monotonic() - started >= _SLOW_PAGE_S:
                self._most = min(_MOST_AT_ONCE, self._most + _MORE_A_PAGE)
            self._check(stretch, page)
            idle = 0 if page.count else idle + 1
            if idle >= PAGES_WITHOUT_A_KEY:
                raise IntegrityError(
                    f"the listing does not go on: {idle} pages without a key", where=self._pages.where
                )
            token = page.token
            self._listers -= stretch.complete
            self._learn(stretch, rows)
            self._share()

    def _check(self, stretch: _Stretch, page: ListPage) -> None:
        stretch.complete = not page.truncated or len(stretch.rest) > 0
        if not page.in_order or (not stretch.complete and page.token in stretch.tokens):
            raise _DisorderError
        stretch.tokens.add(page.token)

    def _learn(self, stretch: _Stretch, page_from: int) -> None:
        """From a page of a stretch: what keys look like, how much it has to come, and how its neighbour goes on."""
        count = len(stretch.table) - page_from
        rows = {page_from + count * part // _KEYS_SEEN for part in range(1, _KEYS_SEEN)} if count else set()
        self._space.see(stretch.table.key(row) for row in rows)
        stretch.open = not stretch.complete and count > 0
        number = self._stretches.index(stretch)
        if stretch.open:
            stretch.pages += 1
            stretch.page_from = page_from
            self._guess(number)
        if page_from == 0 and number and self._stretches[number - 1].open:
            self._guess(number - 1)

    def _guess(self, number: int) -> None:
        stretch, table = self._stretches[number], self._stretches[number].table
        last = table.key(len(table) - 1)
        behind = self._stretches[number + 1] if number + 1 < len(self._stretches) else None
        if behind is None or behind.complete or len(behind.table):  # else it has not answered yet
            key = None if behind is None else behind.first() or behind.following()
            stretch.spread = key is not None and self._space.to_come(last, stretch.upto or key, key, alike=True) <= 1
        page_first = table.key(stretch.page_from)
        stretch.to_come = self._space.to_come(page_first, last, stretch.upto, alike=stretch.spread)
        stretch.width = self._space.width(last, stretch.upto)

    def _share(self) -> None:
        """Give idle listers parts of what others have before them, by how much it may be."""
        steering = self._pages.lane.steering
        most = min(self._most, steering.pace.connections if steering else self._most)
        idle = most - self._listers
        cut = [stretch for stretch in self._stretches if stretch.open] if idle > 0 else []
        widest = max((stretch.width for stretch in cut if stretch.spread), default=0.0)
        weights = [_weight(stretch, widest) for stretch in cut]
        total = sum(weights) or 1.0
        for weight, stretch in sorted(zip(weights, cut, strict=True), key=lambda pair: pair[0], reverse=True):
            share = math.ceil(idle * weight / total)
            worth = int(weight / _PAGES_A_CUT)
            self._cut(stretch, min(share, worth, _CUTS_A_PAGE, most - self._listers))

    def _cut(self, stretch: _Stretch, count: int) -> None:
        """Leave a stretch the lowest of ``count + 1`` parts, and start a lister for each of the others."""
        if count < 1:
            return
        cuts = self._cuts(stretch, count)
        ends = [*cuts[1:], stretch.upto]
        parts = [_Stretch(after=cut, upto=end, spread=stretch.spread) for cut, end in zip(cuts, ends, strict=False)]
        number = self._stretches.index(stretch) + 1
        self._stretches[number:number] = parts
        stretch.open = False
        if cuts:
            stretch.upto = cuts[0]
        self._listers += len(parts)
        for part in parts:
            self._group.create_task(self._list(part))

    def _cuts(self, stretch: _Stretch, count: int) -> list[bytes]:
        table = stretch.table
        last = table.key(len(table) - 1)
        if stretch.spread or stretch.to_come <= _KNOWN:
            return self._space.even_cuts(last, stretch.upto, count, alike=stretch.spread)
        # From steps like its last page, or like all it has listed: folders of folders, or one much larger than others.
        first = table.key(stretch.page_from if stretch.pages % 2 else 0)
        return self._space.searching_cuts(first, last, stretch.upto, count)

    def _joined(self) -> KeyTable:
        following = None
        for stretch in reversed(self._stretches):
            if stretch.following() != following:
                raise _DisorderError
            if len(stretch.table):
                following = stretch.first()
        if sum(stretch.table.total_bytes for stretch in self._stretches) > _MOST_BYTES:
            raise IntegrityError(
                "the listing is damaged (sizes that add up to more than 2^63-1 bytes)", where=self._pages.where
            )
        table = KeyTable()
        for stretch in self._stretches:
            table.move(stretch.table)
        return table


def _weight(stretch: _Stretch, widest: float) -> float:
    """Pages to come, or what stands for them where nobody can know."""
    if stretch.to_come <= _KNOWN:
        return stretch.to_come
    if stretch.spread:
        return _KNOWN * stretch.width / widest if widest else 0.0
    return _KNOWN if stretch.after is None or stretch.pages > 1 else 0.0  # most that a search found end in their page
