"""A look at S3 instead of a listing: one page, and one object asked for. Whoever may do both may copy the rest."""

from __future__ import annotations

from stager._native import KeyTable
from stager.sources.s3 import S3Source
from stager.sources.s3_connection import Connection
from stager.sources.s3_list import Span

__all__ = ["S3First"]


class S3First(S3Source):
    """Its `snapshot` has the first page of what is there, and raises as that of `S3Source`."""

    async def _listed(self, connection: Connection) -> tuple[bytes, KeyTable, tuple[str, ...]]:
        if self._version_id:
            return await super()._listed(connection)
        folder, span = self._folder(), Span()
        await self._pages(connection, folder).append(span)
        if not len(span.table) and self._prefix:
            return *await self._single_key(connection), ()
        return folder, span.table, ()
