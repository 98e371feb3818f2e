"""Settings as small frozen values; each says its unit.

Values only: nothing here reads a file or the environment.
"""

from __future__ import annotations

import re
from typing import Final, Literal, final

from msgspec import Struct

__all__ = [
    "ACCOUNT",
    "BLOCK_BYTES",
    "LEAST_MEMORY_BYTES",
    "GitOptions",
    "Integrity",
    "Limits",
    "Remote",
    "Retry",
    "Secret",
    "SiteLimits",
    "Timeouts",
    "buffer_bytes_for",
]

ACCOUNT: Final = re.compile(r"[0-9]{12}")
"""An AWS account's id; use ``fullmatch``."""

BLOCK_BYTES: Final = 8 << 20
"""The fixed grid of digests and ranges: every range starts on a multiple of it."""

LEAST_MEMORY_BYTES: Final = 1 << 20
"""Receive memory below which nothing useful is left to the connections: a dozen of the smallest buffers."""

_LARGE_BUFFERS_FROM: Final = 16 << 20


def buffer_bytes_for(memory_bytes: int) -> int:
    """The size of receive buffers: with little memory rather more of them."""
    return 256 << 10 if memory_bytes >= _LARGE_BUFFERS_FROM else 64 << 10


@final
class Secret:
    """A string that cannot print, pickle or compare itself into the open."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The secret itself; for the one place that signs or sends it."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(...)"

    __str__ = __repr__

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a Secret is not serialised")


class Limits(Struct, frozen=True, kw_only=True):
    """What the engine may use, over all endpoints together; 0 is no limit where a rate may be left open.

    Receive memory is ``memory_bytes``, cut into buffers of ``buffer_bytes``; a connection holds one buffer while
    it receives, so the pool, not the object sizes, bounds memory. Of what is written, at most ``keep_cached_bytes``
    stay in the page cache; None: half of the memory that is available at the start.
    """

    memory_bytes: int = 64 << 20
    buffer_bytes: int = 256 << 10
    max_connections: int = 256  # how many are used is measured: stager.pacing
    max_bandwidth: int = 0  # bytes a second, as received
    max_requests_per_second: float = 0.0
    workers: int = 0  # 0: as many as cores in the affinity mask, at most 16
    disk_threads: int = 2  # for each disk
    keep_cached_bytes: int | None = None  # 0: all
    part_bytes: int = 2 * BLOCK_BYTES  # a multiple of BLOCK_BYTES


class SiteLimits(Struct, frozen=True, kw_only=True):
    """What the node's administrator allows each process at most; None: as much as it likes. Units as in `Limits`."""

    max_connections: int | None = None
    max_bandwidth: int | None = None
    max_requests_per_second: float | None = None
    memory_bytes: int | None = None


class Timeouts(Struct, frozen=True, kw_only=True):
    """Seconds. ``stall_s`` counts time without progress; no limit is set on a transfer as a whole."""

    connect_s: float = 10.0
    stall_s: float = 60.0


class Retry(Struct, frozen=True, kw_only=True):
    """Attempts per part, with full jitter: the n-th wait is uniform in 0..min(cap_s, base_s * 2**n)."""

    attempts: int = 8
    base_s: float = 0.1
    cap_s: float = 20.0


class Integrity(Struct, frozen=True, kw_only=True):
    """What is compared of a source's own digests, and which grade every file must reach (None: any).

    ``light``: the checksums that a server announces as such. ``standard``: where it announces none, an ETag that is an
    MD5 too (1.3 ns of CPU a byte). ``strict``: one of parts as well.
    """

    level: Literal["light", "standard", "strict"] = "standard"
    require: Literal["A", "B"] | None = None


class GitOptions(Struct, frozen=True, kw_only=True):
    """What is wanted of a git source beside its files at one commit.

    ``history``: a ``.git`` directory with all of it. ``paths``: only what lies at or below these (none: everything).
    ``submodules``: theirs too, each at its pinned commit. ``lfs``: the objects that Git LFS pointers stand for, of the
    paths that ``lfs_include`` matches (none: all) and ``lfs_exclude`` does not; what is left out stays a pointer.
    """

    history: bool = False
    paths: tuple[str, ...] = ()
    submodules: bool = False
    lfs: bool = True
    lfs_include: tuple[str, ...] = ()
    lfs_exclude: tuple[str, ...] = ()


class Remote(Struct, frozen=True, kw_only=True):
    """How to reach an S3 endpoint; ``None`` leaves the choice to the AWS chain (environment, profile, IMDS)."""

    endpoint_url: str | None = None
    profile: str | None = None
    region: str | None = None
    ca_bundle: str | None = None
    proxy: str | None = None  # None: as the environment says; "" or "none": no proxy
    addressing_style: str = "auto"  # auto | path | virtual
    listing_order: str = "auto"  # auto | byte-order | unordered: what the endpoint lists in
    sign_requests: bool = True
    verify_ssl: bool = True
    use_dualstack_endpoint: bool | None = None  # Amazon's, over IPv6 too; None: as environment and profile say
    use_fips_endpoint: bool | None = None
    request_payer: bool = False  # whoever asks pays for requests and transfer
    expected_bucket_owner: str | None = None  # an account, 12 digits
    sse_c_key_file: str | None = None  # see `stager.sources.s3_customer_key`
