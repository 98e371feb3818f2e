"""Where a bucket is and as whom to ask: the plain cases at once, everything else from aiobotocore, imported then.

All sources of one transfer that name the same remote share its credentials, so the chain is asked once for all of them:
a program or a token service behind it may be slow, or count its callers.
"""

from __future__ import annotations

import asyncio
import importlib
import os
from collections.abc import Mapping
from copy import copy
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from stager.config import Remote
from stager.errors import StagerError
from stager.sources import s3_quick
from stager.sources.s3_values import Credentials, Prepared
from stager.transfer import Transfer
from stager.urls import check_endpoint

if TYPE_CHECKING:
    from stager.sources.s3_endpoint import Session

__all__ = ["Access", "access_for", "headers_of"]

_CHAIN: Final = "stager.sources.s3_endpoint"


def headers_of(remote: Remote) -> tuple[tuple[str, str], ...]:
    """What a remote's settings add to each request for a bucket or its objects.

    Source: Amazon S3 API reference, ListObjectsV2, HeadObject and GetObject.
    """
    payer = (("x-amz-request-payer", "requester"),) if remote.request_payer else ()
    owner = remote.expected_bucket_owner
    return payer if owner is None else (*payer, ("x-amz-expected-bucket-owner", owner))


class Access:
    """One remote's credentials and what requests to its buckets look like; see `stager.sources.s3_endpoint.Session`."""

    def __init__(self, remote: Remote, environment: Mapping[str, str] = os.environ) -> None:
        """Raises `UsageError` for an endpoint with a user in it."""
        for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
            check_endpoint(environment.get(name, ""), where=name)
        check_endpoint(remote.endpoint_url or "", where="endpoint_url")
        self._remote = remote
        self._environment = environment
        self._settings = s3_quick.read_settings(remote, environment)
        self._session: Session | None = None
        self._current: Credentials | None = None
        self._loading: asyncio.Task[Credentials | None] | None = None

    async def credentials(self, *, refused: Credentials | None = None) -> Credentials | None:
        """The chain's credentials, renewed where it says when they end; None when requests are not signed.

        ``refused``: the chain is read from its start, unless it has given others since. Many may ask at once, for one
        reading. Raises as `Session.credentials`.
        """
        while True:
            if refused is not None and self._current is not None and not self._current.same_as(refused):
                return self._current
            again = refused is not None
            if self._loading is None:
                self._loading = asyncio.ensure_future(self._load(again=again))
                self._loading.add_done_callback(_take_note)
            elif again:  # what is being loaded may be what was refused
                await asyncio.wait({self._loading})
                continue
            try:
                return await asyncio.shield(self._loading)
            except StagerError as error:
                raise copy(error) from None  # whoever gets it may write where it was met into its own

    async def _load(self, *, again: bool) -> Credentials | None:
        try:
            self._current = await self._read(again=again)
            return self._current
        finally:
            self._loading = None

    async def _read(self, *, again: bool) -> Credentials | None:
        if again:
            self._settings = s3_quick.read_settings(self._remote, self._environment)
        if self._settings is not None:
            return self._settings.credentials
        return await self._chain().credentials(again=again)

    async def prepare(self, bucket: str, region: str | None = None) -> Prepared:
        """What a GetObject of ``bucket`` would look like; for ``region`` when the bucket turned out to be there.

        Raises as `Session.prepare`.
        """
        prepared = s3_quick.prepare(self._settings, bucket, region) if self._settings is not None else None
        return prepared or await self._chain().prepare(bucket, region)

    def _chain(self) -> Session:
        if self._session is None:
            chain: Any = importlib.import_module(_CHAIN)
            self._session = chain.Session(self._remote, self._environment)
        return self._session


_SHARED: Final[WeakKeyDictionary[Transfer, dict[Remote, Access]]] = WeakKeyDictionary()


def access_for(transfer: Transfer, remote: Remote) -> Access:
    """The `Access` to a remote that all sources of a transfer share. Raises as `Access`."""
    shared = _SHARED.setdefault(transfer, {})
    if remote not in shared:
        shared[remote] = Access(remote)
    return shared[remote]


def _take_note(loading: asyncio.Task[Credentials | None]) -> None:
    """Whoever waited may be gone; an error that nobody fetched would be told at exit."""
    if not loading.cancelled():
        loading.exception()
