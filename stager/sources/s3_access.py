"""Where a bucket is and as whom to ask: the plain cases at once, everything else from aiobotocore, imported then."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from stager.config import Remote
from stager.sources import s3_quick
from stager.sources.s3_values import Credentials, Prepared
from stager.urls import check_endpoint

if TYPE_CHECKING:
    from stager.sources.s3_endpoint import Session

__all__ = ["Access", "headers_of"]

_CHAIN = "stager.sources.s3_endpoint"


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

    async def credentials(self, *, again: bool = False) -> Credentials | None:
        """The chain's credentials (``again``: read from the start), None when requests are not signed.

        Raises as `Session.credentials`.
        """
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
