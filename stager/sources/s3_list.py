"""Listing a bucket: pages of ListObjectsV2, scanned natively into a table.

Source: Amazon S3 API reference, ListObjectsV2.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Final
from urllib.parse import quote

from msgspec import Struct, field

from stager._native import Batch, KeyTable, ListPage, Template
from stager.errors import ChangedError, IntegrityError, NotFoundError
from stager.transfer import Lane, Work

__all__ = ["PAGES_WITHOUT_A_KEY", "PAGE_KEYS", "Pages", "Span", "list_serially"]

PAGE_KEYS: Final = 1000  # the most there is
PAGES_WITHOUT_A_KEY: Final = 1000  # in a row; a server may filter pages empty, but not for ever


class Span(Struct, kw_only=True, eq=False):
    """The keys in (after, upto], named below the folder; None: no bound. ``upto`` may be lowered while pages come."""

    after: bytes | None = None
    upto: bytes | None = None
    table: KeyTable = field(default_factory=KeyTable)
    rest: KeyTable = field(default_factory=KeyTable)  # from the first key beyond on, as far as a page showed them


class Pages(Struct, frozen=True, kw_only=True):
    """The pages of what lies below ``folder``; ``template`` has it as its key prefix. Rows are named below it."""

    lane: Lane
    template: Template
    folder: bytes
    where: str

    async def append(self, span: Span, *, token: bytes = b"", key: bytes = b"") -> ListPage:
        """Append one page's objects to the span: its first page, or the one after the page that gave ``token``.

        ``key``: only the first object whose name begins so. Raises `NotFoundError` without such a bucket,
        `IntegrityError` for an answer that is none, and what `Lane.run` raises.
        """
        pages: list[ListPage] = []

        def landed(batch: Batch, _queries: Sequence[bytes], _finished: array[int]) -> None:
            try:
                page = batch.scan_list(
                    span.table, len(self.folder), after=span.after, upto=span.upto, rest=span.rest
                )
                pages.append(page)
            except ValueError as error:
                raise IntegrityError(f"the listing is damaged ({error})", where=self.where) from error

        after = b"" if span.after is None else self.folder + span.after
        query = _query(self.folder + key, token, after, most=1 if key else PAGE_KEYS)
        await self._run(
            Work(
                items=[query],
                submit=lambda queries: self.lane.transfer.engine.list_page(self.template, queries[0]),
                landed=landed,
                name=lambda _: self.where,
                batch_items=1,
            )
        )
        return pages[0]

    async def _run(self, work: Work[bytes]) -> None:
        try:
            await self.lane.run(work)
        except ChangedError as error:  # a bare 404: there is nothing of that name to list
            raise NotFoundError("no such bucket", where=self.where, hint="check the name and the endpoint") from error
        if self.lane.skipped:
            raise self.lane.skipped[0]


async def list_serially(pages: Pages) -> KeyTable:
    """Everything, page after page by token. Raises what `Pages.append` raises, `IntegrityError` for one without end."""
    span = Span()
    table = span.table
    token = b""
    seen: set[bytes] = set()
    idle = 0
    last = None
    while True:
        page = await pages.append(span, token=token)
        if not page.truncated:
            return table
        before, last = last, table.key(len(table) - 1) if len(table) else None
        idle = idle + 1 if last == before else 0
        if idle >= PAGES_WITHOUT_A_KEY:
            raise IntegrityError(f"the listing does not go on: {idle} pages without a new key", where=pages.where)
        token = page.token
        if not token or token in seen:
            raise IntegrityError("the listing does not go on: its token is missing or repeats", where=pages.where)
        seen.add(token)


def _query(prefix: bytes, token: bytes, after: bytes, *, most: int) -> bytes:
    """The canonical query of one page: sorted, percent-encoded as SigV4 wants it."""
    fields = {"encoding-type": b"url", "list-type": b"2", "max-keys": b"%d" % most, "prefix": prefix}
    if token:
        fields["continuation-token"] = token
    elif after:
        fields["start-after"] = after
    return "&".join(f"{name}={quote(value, safe='-._~')}" for name, value in sorted(fields.items())).encode("ascii")
