"""What a job wrote or changed in TASK_PATH: what lies there now, compared with what was put in.

Two lists in one order, side by side; what was put in is read from the job's state line by line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from msgspec import Struct, field

from stager.host.leaves import Leaf, in_order
from stager.names import show

__all__ = ["ChangedInputs", "written"]

_NAMED = 100


class ChangedInputs(Struct):
    """Inputs that are not as they were put there; the first of them by name."""

    changed: int = 0
    removed: int = 0
    first: list[str] = field(default_factory=list)

    def told(self) -> dict[str, Any]:
        """For receipts; empty when nothing was done to any."""
        if not self.changed + self.removed:
            return {}
        return {"changed": self.changed, "removed": self.removed, "first": self.first}

    def note(self, path: bytes, *, removed: bool) -> None:
        """One more."""
        self.changed += not removed
        self.removed += removed
        if len(self.first) < _NAMED:
            self.first.append(show(path))


def written(leaves: Iterable[Leaf], inputs: Iterator[Leaf], changes: ChangedInputs) -> Iterator[Leaf]:
    """Those of ``leaves``, files and symlinks, that are no input or not as it was; ``changes`` takes note of inputs.

    Raises what ``inputs`` raises.
    """
    known = next(inputs, None)
    for leaf in leaves:
        place = in_order(leaf.path)
        while known is not None and in_order(known.path) < place:
            changes.note(known.path, removed=True)
            known = next(inputs, None)
        if known is None or known.path != leaf.path:
            yield leaf
            continue
        if known.identity != leaf.identity:
            changes.note(leaf.path, removed=False)
            yield leaf
        known = next(inputs, None)
    while known is not None:
        changes.note(known.path, removed=True)
        known = next(inputs, None)
