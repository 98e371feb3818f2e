"""One thing that was looked at on this node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Struct

__all__ = ["Finding"]


class Finding(Struct, frozen=True, kw_only=True):
    """``found`` is for people, ``details`` for programs. ``cost``: what it costs that something is lacking.

    A ``problem`` keeps jobs from running here; what is ``lacking`` makes them slower, or only some of them impossible.
    """

    what: str
    found: str
    state: Literal["ok", "lacking", "problem"] = "ok"
    cost: str = ""
    details: Mapping[str, Any] = {}
