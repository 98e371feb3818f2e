"""A bucket in memory that lists by the rules of ListObjectsV2, or breaks one of them, over real HTTP.

Source: Amazon S3 API reference, ListObjectsV2; keys are listed "in UTF-8 binary order" (Amazon S3 User Guide, "Listing
object keys programmatically").
"""

from __future__ import annotations

import socket
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote_from_bytes

from unit.scripted_http import Request, ScriptedServer, response, scripted

__all__ = ["Bucket", "Page", "listed_by", "tree_order"]

Order = Callable[[bytes], object]


@dataclass
class Page:
    """An answer before it is written down."""

    keys: list[bytes]
    truncated: bool
    token: bytes


@dataclass
class Bucket:
    """``keys`` may change while it is listed. ``order``: what keys are sorted by. ``lie``: changes an answer.

    ``skip``: whether start-after leaves out the key itself (S3 does), ``heed``: whether it is heeded at all.
    ``size``: of a key's object.
    """

    keys: set[bytes]
    page_keys: int = 1000
    echo: bool = True
    order: Order = bytes
    size: Callable[[bytes], int] = len
    skip: bool = True
    heed: bool = True
    lie: Callable[[Page], None] | None = None
    before: Callable[[], None] | None = None
    refuse_after: int = 1 << 30  # pages; then access is denied
    queries: list[dict[str, bytes]] = field(default_factory=list)

    def page(self, query: dict[str, bytes]) -> Page:
        self.queries.append(query)
        if self.before is not None:
            self.before()
        prefix = query.get("prefix", b"")
        keys = sorted((key for key in tuple(self.keys) if key.startswith(prefix)), key=self.order)
        places = [self.order(key) for key in keys]
        start = 0
        if "continuation-token" in query:
            start = bisect_right(places, self.order(bytes.fromhex(query["continuation-token"].decode())))
        elif self.heed and "start-after" in query:
            start = bisect_right(places, self.order(query["start-after"]))
            start -= not self.skip and start > 0 and keys[start - 1] == query["start-after"]
        count = min(int(query["max-keys"]), self.page_keys)
        shown = keys[start : start + count]
        truncated = start + count < len(keys)
        page = Page(shown, truncated, shown[-1].hex().encode() if truncated else b"")
        if self.lie is not None:
            self.lie(page)
        return page

    def answer(self, request: Request, connection: socket.socket) -> None:
        raw = request.path.partition("?")[2]
        query = dict(parse_qsl(raw, keep_blank_values=True, strict_parsing=True, encoding="latin-1"))
        if len(self.queries) >= self.refuse_after:
            connection.sendall(response(b"<Error><Code>AccessDenied</Code></Error>", "403 Forbidden"))
            return
        page = self.page({name: value.encode("latin-1") for name, value in query.items()})
        rows = "".join(
            f"<Contents><Key>{self._written(key)}</Key><Size>{self.size(key)}</Size><ETag>{key.hex()[:64]}</ETag></Contents>"
            for key in page.keys
        )
        token = f"<NextContinuationToken>{page.token.decode()}</NextContinuationToken>" if page.token else ""
        echoed = "<EncodingType>url</EncodingType>" if self.echo else ""
        connection.sendall(
            response(
                f"<ListBucketResult>{echoed}<IsTruncated>{str(page.truncated).lower()}</IsTruncated>{token}{rows}"
                "</ListBucketResult>".encode()
            )
        )

    def _written(self, key: bytes) -> str:
        if self.echo:
            return quote_from_bytes(key, safe="/*-._ ").replace(" ", "+")
        return "".join(
            f"&#x{ord(character):x};" if character < " " or character in "&<>\x7f" else character
            for character in key.decode()
        )


def tree_order(key: bytes) -> object:
    """By folder and name: puts ``a/b`` before ``a-b``, as file systems behind S3 do."""
    return key.split(b"/")


@contextmanager
def listed_by(bucket: Bucket) -> Iterator[ScriptedServer]:
    """The bucket, served."""
    with scripted(bucket.answer) as server:
        yield server
