"""How an endpoint lists, as data: what is not known to list in byte order does not.

Amazon's general purpose buckets do ("in UTF-8 binary order", Amazon S3 User Guide, "Listing object keys
programmatically"); its directory buckets do not (API reference, ListObjectsV2), and what lies behind access points
and Object Lambda is not known. SeaweedFS does not: it puts ``a/b`` before ``a-b``.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["lists_in_byte_order", "tells_what_is_restored"]

_AMAZON: Final = re.compile(
    r"(?:.+\.)?s3(?:-accelerate|-fips)?(?:\.dualstack)?(?:[.-][a-z]{2}(?:-[a-z]+)+-\d+)?\.amazonaws\.com(?:\.cn)?"
    r"|(?:.+\.)?bucket\.vpce-[0-9a-z-]+\.s3\.[a-z0-9-]+\.vpce\.amazonaws\.com"
)
_NO_PLAIN_BUCKET: Final = ("--x-s3", "-s3alias", "--ol-s3", "--op-s3")
"""Ends of names reserved for directory buckets and for aliases of access points: Amazon S3 User Guide, "General
purpose bucket naming rules"."""


def lists_in_byte_order(host: str, bucket: str, setting: str) -> bool:
    """Whether pages may be asked for by start-after. ``setting``: auto, or what the user knows of the endpoint."""
    if setting != "auto":
        return setting == "byte-order"
    return _AMAZON.fullmatch(host) is not None and not bucket.endswith(_NO_PLAIN_BUCKET)


def tells_what_is_restored(host: str) -> bool:
    """Whether a listing tells of archived objects which are restored, when asked for RestoreStatus.

    Only of Amazon it is known (API reference, ListObjectsV2); others refuse requests with headers they do not know.
    """
    return host.endswith((".amazonaws.com", ".amazonaws.com.cn"))
