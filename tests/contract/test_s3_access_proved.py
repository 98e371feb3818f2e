"""That who lists a bucket may read it too is shown by one object, on SeaweedFS: not on what a fixture believes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from servers.seaweedfs import SeaweedFS
from stager.errors import AccessDeniedError
from stager.sources.s3 import S3Source
from stager.transfer import Transfer
from stager.urls import parse_source


async def prove(location: str) -> None:
    async with Transfer() as transfer, S3Source(parse_source(location), remote=None, transfer=transfer) as source:
        snapshot = await source.snapshot()
        assert len(snapshot.table) == 2
        await source.prove_access(snapshot)


def test_listing_alone_proves_nothing(
    weed: SeaweedFS, bucket_name: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = bucket_name()
    weed.make_bucket(bucket)
    weed.fill(bucket, {"p/empty": b"", "p/x": b"text"})
    reader, lister, *_ = weed.others
    for name, value in weed.environment(reader).items():
        monkeypatch.setenv(name, value)
    asyncio.run(prove(f"s3://{bucket}/p/"))
    for name, value in weed.environment(lister).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(AccessDeniedError, match="p/empty"):
        asyncio.run(prove(f"s3://{bucket}/p/"))
