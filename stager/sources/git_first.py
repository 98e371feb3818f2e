"""A look at a git remote instead of a copy: it answers this user, and has the ref. Nothing is fetched."""

from __future__ import annotations

from stager._native import KeyTable
from stager.host.gitrepo import FULL_ID
from stager.sources.base import Earlier, Snapshot, Wanted, everything
from stager.sources.git import GitSource

__all__ = ["GitFirst"]


class GitFirst(GitSource):
    """Its `snapshot` has no files, but for what is pinned."""

    async def snapshot(self, earlier: Earlier | None = None, wanted: Wanted = everything) -> Snapshot:
        """Which commit the ref is at. Of a commit's id only that the remote answers: it says nothing of what has no
        ref. Raises as `GitSource.snapshot`.
        """
        ref = None if self._ref.ref == "HEAD" or FULL_ID.fullmatch(self._ref.ref or "") else self._ref.ref
        pin = await self._repository.find(ref)
        commit = self._ref.ref if FULL_ID.fullmatch(self._ref.ref or "") else pin.commit
        return Snapshot(table=KeyTable(), pinned={"commit": commit})
