"""A git source's use of Git LFS: the server of its repository, as a commit has it, and the node's store of objects."""

from __future__ import annotations

from array import array
from collections.abc import Mapping

from msgspec import Struct

from stager._native import KeyTable
from stager.config import Retry
from stager.host.git_settings import GitSettings
from stager.host.threads import blocking
from stager.sources.base import Landing, OnLanded
from stager.sources.lfs import fetch_lfs, open_store
from stager.sources.lfs_batch import LfsServer
from stager.transfer import Transfer

__all__ = ["GitLfs"]

class GitLfs(Struct, frozen=True, kw_only=True):
    """``url`` is the repository's, ``ref`` the name that led to the commit, ``where`` for errors; ``scratch`` as in
    `stager.sources.lfs.open_store`.
    """

    url: str
    ref: str | None
    environ: Mapping[str, str]
    proxy: str | None
    retry: Retry
    transfer: Transfer
    where: str
    scratch: str | None = None

    async def fetch(
        self, committed: GitSettings, table: KeyTable, rows: array[int], landing: Landing, done: OnLanded
    ) -> None:
        """Put LFS rows in place; see `stager.sources.lfs`. ``committed``: of the commit's .lfsconfig."""
        store = await blocking(open_store, self.environ, self.scratch)
        try:
            async with LfsServer(
                self.url, environ=self.environ, committed=committed, ref=self.ref, proxy=self.proxy, retry=self.retry,
            ) as server:  # fmt: skip
                await fetch_lfs(
                    server, self.transfer, table, rows, landing, done, where=self.where, store=store
                )
        finally:
            if store is not None:
                await blocking(store.close)
