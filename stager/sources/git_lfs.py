"""A git source's use of Git LFS: the server of its repository, as a commit has it, and the node's store of objects."""

from __future__ import annotations

from array import array
from collections.abc import Mapping

from msgspec import Struct

from stager._native import KeyTable
from stager.config import Retry
from stager.errors import SourceError
from stager.host.git_reader import CommitReader
from stager.host.threads import blocking
from stager.sources.base import Landing, OnLanded
from stager.sources.git_tree import Repository
from stager.sources.lfs import fetch_lfs, open_store
from stager.sources.lfs_batch import MOST_CONFIG_BYTES, LfsServer
from stager.transfer import Transfer

__all__ = ["GitLfs"]

_CONFIG = b".lfsconfig"


class GitLfs(Struct, frozen=True, kw_only=True):
    """``url`` is the repository's, ``ref`` the name that led to the commit, ``where`` for errors."""

    url: str
    ref: str | None
    environ: Mapping[str, str]
    proxy: str | None
    retry: Retry
    transfer: Transfer
    where: str

    async def fetch(
        self,
        repository: Repository,
        reader: CommitReader,
        table: KeyTable,
        rows: array[int],
        landing: Landing,
        done: OnLanded,
    ) -> None:
        """Put LFS rows in place; see `stager.sources.lfs`."""
        store = await blocking(open_store, self.environ)
        try:
            async with LfsServer(
                self.url, environ=self.environ, lfsconfig=await self._config(repository, reader), ref=self.ref,
                proxy=self.proxy, retry=self.retry,
            ) as server:  # fmt: skip
                await fetch_lfs(
                    server, self.transfer, table, rows, landing, done, where=self.where, store=store
                )
        finally:
            if store is not None:
                await blocking(store.close)

    async def _config(self, repository: Repository, reader: CommitReader) -> bytes | None:
        """The commit's ``.lfsconfig``, None without one. Raises `SourceError`: it is none."""
        entry = (await reader.entries([_CONFIG])).get(_CONFIG)
        if entry is None:
            return None
        if repository.partial:
            await repository.bring([entry.blob])
        if (await reader.sizes([entry.blob])).get(entry.blob, 0) > MOST_CONFIG_BYTES:
            raise SourceError(f".lfsconfig has more than {MOST_CONFIG_BYTES >> 10} KiB", where=self.where)
        return b"".join([content async for _, content in reader.read_blobs([entry.blob])])
