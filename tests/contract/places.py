"""Where the contract suite finds its sources: a `Place` is one source on a real server, filled and changed at will."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from servers.s3 import S3Server
from stager.config import Remote
from stager.model import SourceRef
from stager.urls import parse_source

__all__ = ["Place", "S3Place"]


class Place(Protocol):
    """One source.

    ``pins_content``: what is fetched is what the snapshot showed although the source has changed since (git).
    """

    pins_content: bool

    def fill(self, files: Mapping[str, bytes]) -> SourceRef:
        """Make a new source that holds exactly these files."""
        ...

    def put(self, path: str, content: bytes) -> None:
        """Add or change one file of it."""
        ...

    def remove(self, path: str) -> None:
        """Take one file out of it."""
        ...

    def missing(self) -> SourceRef:
        """A source that is not there."""
        ...

    @property
    def remote(self) -> Remote | None:
        """How it is reached."""
        ...


@dataclass
class S3Place:
    """A fresh bucket on a server, below a prefix that a neighbour's prefix begins with."""

    server: S3Server
    new_bucket: Callable[[], str]
    pins_content: bool = False
    bucket: str = ""

    @property
    def remote(self) -> Remote:
        return Remote(
            endpoint_url=self.server.endpoint_url, region=self.server.region, ca_bundle=self.server.ca_file,
            addressing_style="path",
        )  # fmt: skip

    def fill(self, files: Mapping[str, bytes]) -> SourceRef:
        self.bucket = self.new_bucket()
        self.server.make_bucket(self.bucket)
        self.server.fill(self.bucket, {f"set/{path}": content for path, content in files.items()})
        self.server.fill(self.bucket, {"set2/neighbour": b"not yours"})
        return parse_source(f"s3://{self.bucket}/set")

    def put(self, path: str, content: bytes) -> None:
        self.server.fill(self.bucket, {f"set/{path}": content})

    def remove(self, path: str) -> None:
        client = self.server.client()
        client.delete_object(Bucket=self.bucket, Key=f"set/{path}")
        client.close()

    def missing(self) -> SourceRef:
        return parse_source("s3://there-is-no-such-bucket/set")
