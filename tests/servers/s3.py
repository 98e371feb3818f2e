"""What the S3 servers of the tests have in common: where they are, who may enter, and quick ways to fill them."""

from __future__ import annotations

import functools
import http.client
import random
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import botocore.config
import botocore.session

from servers.process import ServerProcess

__all__ = ["Identity", "Objects", "S3Server", "object_bytes", "put_over_http", "small_objects"]

Objects = Mapping[str, bytes] | Iterable[tuple[str, bytes]]
"""Key and content; an iterable is consumed as it is uploaded, so it may be larger than memory."""

_FILL_THREADS = 4
_FILL_CHUNK = 64


@dataclass(frozen=True)
class Identity:
    """One pair of credentials."""

    access_key: str
    secret_key: str


@dataclass(frozen=True, kw_only=True)
class S3Server:
    """A running S3 server. ``identity`` may do everything; ``others`` are described by each server."""

    endpoint_url: str
    identity: Identity
    region: str
    process: ServerProcess
    others: tuple[Identity, ...] = field(default=())
    ca_file: str | None = None

    @property
    def address(self) -> tuple[str, int]:
        """(host, port) of the endpoint."""
        url = urllib.parse.urlsplit(self.endpoint_url)
        assert url.hostname is not None
        assert url.port is not None
        return url.hostname, url.port

    def environment(self, identity: Identity | None = None) -> dict[str, str]:
        """The AWS_* variables with which a child process reaches this server and nothing else."""
        identity = identity or self.identity
        variables = {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": identity.access_key,
            "AWS_SECRET_ACCESS_KEY": identity.secret_key,
            "AWS_REGION": self.region,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        }
        return variables if self.ca_file is None else {**variables, "AWS_CA_BUNDLE": self.ca_file}

    def client(self, *, identity: Identity | None = None, region: str | None = None, attempts: int = 3) -> Any:
        """A botocore client. The caller closes it."""
        identity = identity or self.identity
        return _session().create_client(
            "s3",
            endpoint_url=self.endpoint_url,
            region_name=region or self.region,
            aws_access_key_id=identity.access_key,
            aws_secret_access_key=identity.secret_key,
            verify=self.ca_file or True,
            config=botocore.config.Config(
                s3={"addressing_style": "path"},
                retries={"total_max_attempts": attempts},
                proxies={},
                request_checksum_calculation="when_required",
            ),
        )

    def make_bucket(self, bucket: str) -> None:
        client = self.client()
        client.create_bucket(Bucket=bucket)
        client.close()

    def fill(self, bucket: str, objects: Objects) -> None:
        """Upload objects into a bucket that exists."""
        client = self.client()
        with ThreadPoolExecutor(_FILL_THREADS) as pool:
            for chunk in _chunks(_pairs(objects)):
                list(pool.map(lambda pair: client.put_object(Bucket=bucket, Key=pair[0], Body=pair[1]), chunk))
        client.close()


def put_over_http(
    address: tuple[str, int], path_prefix: str, objects: Objects, *, method: str, headers: Mapping[str, str]
) -> None:
    """Upload with bare HTTP on kept connections, several times quicker than botocore.

    A key becomes ``path_prefix`` plus the key, percent-encoded.
    """

    def put_chunk(chunk: list[tuple[str, bytes]]) -> None:
        connection = http.client.HTTPConnection(*address, timeout=60)
        try:
            for key, content in chunk:
                path = urllib.parse.quote(path_prefix + key, safe="/")
                connection.request(method, path, body=content, headers=dict(headers))
                answer = connection.getresponse()
                text = answer.read()
                if answer.status not in (200, 201):
                    raise RuntimeError(f"{method} {path}: {answer.status} {text[:500]!r}")
        finally:
            connection.close()

    with ThreadPoolExecutor(_FILL_THREADS) as pool:
        chunks = _chunks(_pairs(objects))
        while some := list(islice(chunks, _FILL_THREADS)):
            list(pool.map(put_chunk, some))


def object_bytes(size: int, seed: int) -> bytes:
    """``size`` bytes that do not compress and differ for every seed."""
    return random.Random(seed).randbytes(size)


def small_objects(
    count: int, size: int = 16 << 10, *, prefix: str = "", per_folder: int = 100
) -> Iterator[tuple[str, bytes]]:
    """``count`` objects as ``prefix`` + "0003/000345.bin", each different, cut from one random text."""
    text = object_bytes(size, seed=count)
    for index in range(count):
        head = b"%016x" % index
        yield f"{prefix}{index // per_folder:04d}/{index:06d}.bin", (head + text)[:size]


@functools.cache
def _session() -> botocore.session.Session:
    """One for all: each would read the description of S3 again, a quarter of a second of CPU."""
    return botocore.session.Session()


def _pairs(objects: Objects) -> Iterator[tuple[str, bytes]]:
    return iter(objects.items() if isinstance(objects, Mapping) else objects)


def _chunks(pairs: Iterator[tuple[str, bytes]]) -> Iterator[list[tuple[str, bytes]]]:
    while chunk := list(islice(pairs, _FILL_CHUNK)):
        yield chunk
