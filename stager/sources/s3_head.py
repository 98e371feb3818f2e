"""One HEAD of one object as it is pinned."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import TypeVar

from stager._native import Batch, KeyTable, Template
from stager.transfer import Lane, Work

__all__ = ["ask_head"]

T = TypeVar("T")


async def ask_head(
    lane: Lane, template: Template, table: KeyTable, row: int, read: Callable[[Batch, int], T], *, name: str
) -> T | None:
    """What ``read`` takes from the answer, by its index in the batch; None when the object was skipped.

    A refusal is an answer that says nothing: one without a body does not say why. Raises `TransientError` and
    `IntegrityError` for what is no answer at all.
    """
    answers: list[T] = []

    def landed(batch: Batch, _rows: Sequence[int], finished: array[int]) -> None:
        answers.extend(read(batch, index) for index in finished)

    await lane.run(
        Work(
            items=[row],
            submit=lambda rows: lane.transfer.engine.fetch_heads(template, table, rows),
            landed=landed,
            name=lambda _: name,
        )
    )
    return answers[0] if answers else None
