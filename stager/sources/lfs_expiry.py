"""When what a Git LFS server gives out ends.

Source: Git LFS docs/api/batch.md ("expires_in", "expires_at").
"""

from __future__ import annotations

import math
import re
from datetime import datetime
from typing import Final

__all__ = ["expiry_s"]

_MOST_S: Final = 2147483647
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
_NO_TIME: Final = "0001-01-01T00:00:00"  # how a Go server writes that there is none


def expiry_s(expires_in: int | None, expires_at: str | None, *, now_s: float, ahead_s: float = 0.0) -> float:
    """Unix time on this clock, inf when it never ends. ``expires_in`` counts first; 0 is none, as for git-lfs.

    ``now_s`` is when it was asked for; the server's clock, of which ``expires_at`` is, is ``ahead_s`` ahead of this
    one. ValueError: neither form.
    """
    if expires_in:
        if abs(expires_in) > _MOST_S:
            raise ValueError("says expires_in beyond all bounds")
        return now_s + expires_in
    if not expires_at or expires_at.startswith(_NO_TIME):
        return math.inf
    if not _TIME.fullmatch(expires_at):
        raise ValueError("says an expires_at that is no time of RFC 3339")
    try:
        return datetime.fromisoformat(expires_at.upper()).timestamp() - ahead_s
    except (ValueError, OverflowError):
        raise ValueError("says an expires_at that is no time of RFC 3339") from None
