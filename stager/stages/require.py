"""A required grade: refused before anything is moved where it cannot be had, and nothing below it counts as staged."""

from __future__ import annotations

from typing import Final

from stager._native import Entries
from stager.errors import GradeError
from stager.names import show
from stager.retry import too_low_error

__all__ = ["refuse_too_low", "require_grade"]

_NAMED_AT_MOST: Final = 100


def refuse_too_low(best: str, required: str | None, *, where: str) -> None:
    """Raise `GradeError` for a source of which no file reaches the required grade (None: any will do)."""
    if required is not None and best > required:
        raise GradeError(
            f"a source of this kind reaches grade {best}, and {required} is required",
            where=where,
            hint="require less, or stage it from a source that announces digests",
        )


def require_grade(entries: Entries, required: str | None, *, where: str) -> None:
    """Raise `GradeError` when a file that stands does not reach the required grade, whatever its source made of it."""
    if required is None:
        return
    count, rows = entries.below(required, _NAMED_AT_MOST)
    if count:
        raise too_low_error(count, required, [show(entries.table.key(row)) for row in rows], where=where)
