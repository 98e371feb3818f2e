"""What keeps a tree from being staged, told all at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from stager.errors import BadKeysError
from stager.names import show

__all__ = ["Problems", "first_of"]

_SHOWN: Final = 20


class Problems:
    """The first ones are kept, all are counted."""

    def __init__(self, at: bytes = b"") -> None:
        """``at``: what the paths lie in, a submodule's."""
        self._above = at + b"/" if at else b""
        self._texts: list[str] = []
        self._count = 0

    def add(self, path: bytes, why: str) -> None:
        """``why`` the entry at ``path`` cannot be had; it is read behind the path."""
        self._count += 1
        if len(self._texts) < _SHOWN:
            self._texts.append(f"{show(self._above + path)}: {why}")

    def refuse(self, where: str) -> None:
        """Raises `BadKeysError` when there are any."""
        if self._count:
            many = "entries" if self._count > 1 else "entry"
            texts = first_of(self._texts, self._count)
            raise BadKeysError(f"{self._count} {many} of the tree cannot be staged", texts, where=where)


def first_of(texts: Sequence[str], count: int | None = None) -> list[str]:
    """As many of the ``texts`` as are shown, and how many more there are of the ``count`` (None: so many as texts)."""
    more = (len(texts) if count is None else count) - _SHOWN
    return [*texts[:_SHOWN], *([f"and {more} more"] if more > 0 else [])]
