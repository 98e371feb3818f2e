"""Objects that could not be read while the others were: one error for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from stager.errors import AccessDeniedError, ArchivedError, GradeError, StagerError
from stager.retry import too_low_error

__all__ = ["raise_skipped", "raise_too_low"]

_NAMED: Final = 20


def raise_skipped(skipped: Sequence[StagerError], sizes: Mapping[str, int], *, where: str) -> None:
    """Raise what ``skipped`` amounts to, if anything; parts of one object count once. ``sizes`` is by name.

    `ArchivedError` when all are archived. Else the error of the one object, or one that counts them and names the
    first; `AccessDeniedError` when that is among the reasons.
    """
    by_name = {error.where: error for error in reversed(skipped)}
    archived = [name for name, error in by_name.items() if isinstance(error, ArchivedError)]
    if not by_name:
        return
    if len(archived) == len(by_name):
        names = sorted(archived)
        size = sum(sizes.get(name, 0) for name in names)
        raise ArchivedError.of(names[:_NAMED], objects=len(names), size=size, where=where)
    first = next(error for error in skipped if not isinstance(error, ArchivedError))
    if len(by_name) == 1:
        raise first
    kind = AccessDeniedError if any(isinstance(error, AccessDeniedError) for error in skipped) else type(first)
    some = f" ({len(archived)} of them are archived)" if archived else ""
    raise kind(f"{len(by_name)} objects could not be read{some}; the first is {first.where}: {first.what}", where=where)


def raise_too_low(skipped: Sequence[StagerError], required: str | None, *, where: str) -> None:
    """Raise `GradeError` naming all that cannot reach the required grade, if any."""
    weak = {error.where: error.what for error in skipped if isinstance(error, GradeError)}
    if weak and required:
        raise too_low_error(len(weak), required, [f"{name}: {what}" for name, what in weak.items()], where=where)
