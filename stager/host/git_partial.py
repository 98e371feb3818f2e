"""A repository of one run that receives a commit and its trees, and of the blobs only those that are asked for.

Where a server knows no filters (``uploadpack.allowFilter``) or gives no objects by their ids, everything is fetched.
A commit that the user's mirror has comes from there. What is fetched here is this run's alone: in a mirror, a commit is
whole or not there. Git is told of no promisor remote, so a local command never fetches, blob by blob, what is missing:
it is an error.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from itertools import islice
from typing import Final

from stager.errors import IntegrityError, NotFoundError
from stager.host.gitrepo import FULL_ID, PINNED, Pin, PinnedRepository
from stager.host.threads import blocking
from stager.host.trash import remove_temporary

__all__ = ["PartialRepository"]

_IDS_AT_ONCE: Final = 8_192  # on a command line, which may have 2 MiB (execve(2)), 64 digits each
_FETCH: Final = ("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--update-shallow")


class PartialRepository(PinnedRepository):
    """See the module."""

    async def bring(self, blobs: Iterable[bytes]) -> None:
        """Fetch those of these blobs that are not here, thousands in a request. Raises as `fetch`."""
        if not self.partial or self._fetched is None:
            return
        wanted = list(dict.fromkeys(blobs))
        here = await self.reader(self._fetched.commit).sizes(wanted)
        missing = iter([blob.decode() for blob in wanted if blob not in here])
        while some := list(islice(missing, _IDS_AT_ONCE)):
            try:
                await self._network("-c", "fetch.negotiationAlgorithm=noop", *_FETCH, "--", self._url, *some)
            except NotFoundError:  # this server gives no objects by their ids
                await self._bring_all(self._fetched)
                return

    async def _obtain(self, wanted: Pin) -> Pin:
        self.partial = False
        if not FULL_ID.fullmatch(wanted.commit):
            return await super()._obtain(wanted)
        if found := await self._borrow(wanted):
            return found
        await self._begin(wanted.commit)
        path = os.path.join(self._git_dir, "config")
        configuration = await blocking(_read, path)
        for name in filter(None, (wanted.commit, wanted.ref)):
            try:
                await self._network(*_FETCH, "--depth=1", "--filter=blob:none", "--", self._url, f"+{name}:{PINNED}")
                commit = await self._commit_of(PINNED)
            except NotFoundError:
                continue
            except IntegrityError:  # git judges a part with all severity, whatever it was told to pass
                break
            finally:
                await blocking(_write, path, configuration)  # the filter has made a promisor remote of the URL
            if wanted.ref is None or commit == wanted.commit:
                self.partial = True
                return Pin(commit=commit, ref=wanted.ref)
        return await super()._obtain(wanted)

    async def _bring_all(self, wanted: Pin) -> None:
        """In the place of the same repository, which its readers know."""
        await blocking(remove_temporary, self._git_dir)
        await blocking(self._make, wanted.commit)
        await self._fetch(wanted.commit, wanted.ref)
        self.partial = False


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _write(path: str, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
