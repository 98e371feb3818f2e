"""What ``--delete`` may take away, and how much of it."""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct

__all__ = ["USUAL_MOST", "Delete", "Most", "parse_most"]

_NUMBER: Final = re.compile(r"[0-9]{1,15}")
_PERCENT: Final = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,3})?)%")
_FEW: Final = 10
_WHOLE: Final = 100_000


class Most(Struct, frozen=True, kw_only=True):
    """The most files that a run may delete: a number, or a share of those that are there but at least ``least``. The
    share is in thousandths of a percent.
    """

    number: int | None = None
    share: int = 0
    least: int = 0

    def of(self, there: int) -> int:
        """How many that is, of so many."""
        return self.number if self.number is not None else max(self.least, there * self.share // _WHOLE)

    def __str__(self) -> str:
        if self.number is not None:
            return str(self.number)
        return f"{self.share / 1000:g}%" + (f", at least {self.least}" if self.least else "")


USUAL_MOST: Final = Most(share=_WHOLE // 2, least=_FEW)
"""Half of what is there: a source that suddenly lacks most of its files is more likely broken than meant so."""


class Delete(Struct, frozen=True, kw_only=True):
    """``everything``: also what no sync put there."""

    everything: bool = False
    most: Most = USUAL_MOST


def parse_most(text: str) -> Most:
    """``500`` or ``20%``. ValueError says what is wrong."""
    if _NUMBER.fullmatch(text):
        return Most(number=int(text))
    found = _PERCENT.fullmatch(text)
    share = round(float(found[1]) * 1000) if found else _WHOLE + 1
    if share > _WHOLE:
        raise ValueError(f"{text!r} is neither a number of files like 500 nor a share of them like 20%")
    return Most(share=share)
