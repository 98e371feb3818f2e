"""Where a bucket is and as whom to ask, as values."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from stager.config import Secret

__all__ = ["CHECKSUM_MODE", "Credentials", "Prepared", "refresh_pause_s"]

_LEAST_PAUSE_S: Final = 0.5

CHECKSUM_MODE: Final = ("x-amz-checksum-mode", "ENABLED")
"""The header that asks for an object's checksum; left out with response_checksum_validation = when_required (SDKs and
Tools Reference Guide, "Data integrity protections for Amazon S3")."""


class Credentials(Struct, frozen=True, kw_only=True):
    """One generation of credentials."""

    access_key: str
    secret_key: Secret
    token: Secret | None
    expires_s: float | None = None  # Unix time; None: not known, or never

    def same_as(self, other: Credentials) -> bool:
        """Whether both are one generation."""
        mine, theirs = self.token, other.token
        return (self.access_key, self.secret_key.reveal(), mine.reveal() if mine else None) == (
            other.access_key,
            other.secret_key.reveal(),
            theirs.reveal() if theirs else None,
        )


def refresh_pause_s(credentials: Credentials | None, now_s: float, *, most_s: float) -> float:
    """Seconds until credentials should be asked for again: two thirds of their life are then left, at least.

    Those that have ended are the servers' to refuse: this computer's clock may be wrong.
    """
    left_s = 0.0 if credentials is None or credentials.expires_s is None else credentials.expires_s - now_s
    return min(most_s, max(_LEAST_PAUSE_S, left_s / 3)) if left_s > 0 else most_s


class Prepared(Struct, frozen=True, kw_only=True):
    """What a request for a bucket looks like. ``path_prefix`` ends in ``/`` and is percent-encoded."""

    url: str  # scheme://host[:port], for people and receipts
    host: str
    port: int
    tls: bool
    host_header: str
    path_prefix: bytes
    headers: tuple[tuple[str, str], ...]
    region: str
    service: str

    @property
    def asks_for_checksums(self) -> bool:
        """Whether its answers announce what checksum an object has."""
        return CHECKSUM_MODE in self.headers
