"""What each S3 server of the tests may be believed on: the differences between them, as data.

`contract.test_s3_servers` shows every line. stager has to be right on all of them, so it may take for granted only what
is the same in each column, and has to find out or to check the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from servers.s3 import Identity, Objects, S3Server
from servers.strict_s3 import StrictS3

__all__ = ["BELIEVED", "Believed", "StrictServer"]

DOTTED = ["a/../b", "a/./b", ".", ".."]


@dataclass(frozen=True, kw_only=True)
class Believed:
    """One server. The defaults are what Amazon's documentation says, but for ``refuses`` (Amazon takes these names).

    ``refuses``: names that it does not take, and the status it says so with. ``changes``: names that it takes and then
    lists as others. ``status_of_range``: of a GET with Range. ``checksum_told``: a CRC32C that an object was stored
    with comes with it. ``keys_a_page``: at most, when nobody says how many.
    """

    in_byte_order: bool = True
    start_after_is_complete: bool = True
    holds_file_and_directory: bool = True
    refuses: Mapping[str, int] = field(default_factory=dict)
    changes: Mapping[str, str] = field(default_factory=dict)
    if_match: bool = True
    status_of_range: int = 206
    parts_show_in_etag: bool = True
    checksum_told: bool = True
    checks_signatures: bool = True
    keys_a_page: int = 1000


BELIEVED: Mapping[str, Believed] = {
    "weed": Believed(
        in_byte_order=False,
        start_after_is_complete=False,
        refuses={**dict.fromkeys(DOTTED, 400), "n" * 256: 400},
        changes={"a//b": "a/b", "/lead": "lead", "back\\slash": "back/slash"},
    ),
    "rclone": Believed(
        holds_file_and_directory=False,
        refuses={
            **dict.fromkeys([*DOTTED, "a//b", "/lead"], 400),
            **dict.fromkeys(["n" * 256, "line\nfeed", "\x01control"], 500),
        },
        if_match=False,
        status_of_range=200,
        parts_show_in_etag=False,
    ),
    "juicefs": Believed(
        holds_file_and_directory=False,
        refuses=dict.fromkeys(DOTTED, 400),
        changes={"a//b": "a/b", "/lead": "lead"},
        checksum_told=False,
        keys_a_page=1 << 20,
    ),
    "moto": Believed(checks_signatures=False, refuses={"line\nfeed": 404}),
    "strict": Believed(),
}


@dataclass(frozen=True, kw_only=True)
class StrictServer(S3Server):
    """Our own fixture in the place of a server: it takes no uploads, it is filled from within."""

    s3: StrictS3

    def make_bucket(self, bucket: str) -> None:
        self.s3.buckets[bucket] = {}

    def fill(self, bucket: str, objects: Objects) -> None:
        self.s3.buckets[bucket] = {**self.s3.buckets[bucket], **dict(objects)}

    @staticmethod
    def of(s3: StrictS3) -> StrictServer:
        identity = Identity(s3.identity.access_key, s3.identity.secret_key)
        process = None
        return StrictServer(
            endpoint_url=s3.endpoint_url, identity=identity, region=s3.region, process=process, s3=s3  # type: ignore[arg-type]
        )
