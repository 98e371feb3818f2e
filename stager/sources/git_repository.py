"""What listing and checking out need of a repository."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

__all__ = ["Repository"]


class Repository(Protocol):
    """Where a tree is read from. ``partial``: its blobs are not here before they are brought."""

    partial: bool

    async def bring(self, blobs: Iterable[bytes]) -> None:
        """Fetch those of these that are not here, in as few requests as it takes."""
        ...
