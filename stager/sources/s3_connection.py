"""A bucket that has been reached: what every request to it carries, and what its answers are compared with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from stager._native import Endpoint, Signer, Template
from stager.config import Integrity
from stager.host.proxies import Proxy
from stager.sources.s3_customer_key import CustomerKey
from stager.sources.s3_order import tells_what_is_restored
from stager.sources.s3_values import Credentials, Prepared
from stager.transfer import Lane, RegionMovedError

__all__ = ["Connection", "where_it_is"]

T = TypeVar("T")

_ETAGS: Final = {"light": "none", "standard": "plain", "strict": "parts"}


@dataclass(kw_only=True)
class Connection:
    """A bucket reached: what every request to it shares."""

    prepared: Prepared
    proxy: Proxy | None
    credentials: Credentials | None
    endpoint: Endpoint
    signer: Signer | None
    lane: Lane
    integrity: Integrity
    headers: tuple[tuple[str, str], ...]
    key: CustomerKey | None

    def template(self, key_prefix: bytes, *, objects: bool, refuse_parts: bool = False) -> Template:
        """Of requests for the bucket's objects, or for its listing; see `Template` for ``refuse_parts``."""
        return Template(
            self.endpoint,
            self.signer,
            host_header=self.prepared.host_header,
            path_prefix=self.prepared.path_prefix,
            headers=self.headers + (self._of_objects() if objects else self._of_listings()),
            key_prefix=key_prefix,
            etags=self.etags,
            required=self.integrity.require,
            refuse_parts=refuse_parts,
        )

    @property
    def etags(self) -> str:
        """Which ETags are compared. Who wants no checksums wants none of these either, unless they are asked for."""
        asked = self.prepared.asks_for_checksums or self.integrity.level == "strict"
        return _ETAGS[self.integrity.level] if asked else "none"

    @property
    def compares(self) -> bool:
        """Whether what an object's HEAD announces is of any use."""
        return self.prepared.asks_for_checksums or self.etags != "none"

    @property
    def tells_what_is_restored(self) -> bool:
        """Whether a listing says which archived objects have been restored."""
        return tells_what_is_restored(self.prepared.host)

    def _of_objects(self) -> tuple[tuple[str, str], ...]:
        return self.key.headers() if self.key else ()

    def _of_listings(self) -> tuple[tuple[str, str], ...]:
        return (("x-amz-optional-object-attributes", "RestoreStatus"),) if self.tells_what_is_restored else ()


async def where_it_is(attempt: Callable[[str | None], Awaitable[T]]) -> T:
    """In the region that is known, else in the one that the bucket says it is in."""
    try:
        return await attempt(None)
    except RegionMovedError as moved:
        try:
            return await attempt(moved.region)
        except RegionMovedError as again:
            raise again.error from None
