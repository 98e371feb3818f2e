"""The names of a whole table, judged by the rules of `stager.names`: the plain ones natively, the rest one by one."""

from __future__ import annotations

from typing import Final

from stager._native import (
    NAME_DIRECTORY,
    NAME_DOUBTFUL,
    NAME_GOOD,
    NAME_TWICE,
    KeyOrder,
    KeyTable,
    clash_keys,
    judge_keys,
    rows_judged,
)
from stager.host.threads import Checkpoint, go_on
from stager.names import DIRECTORY_TOO, PATH_MAX, TWICE, BadKey, Names, compile_names, what_is_wrong

__all__ = ["judge"]

_ROWS_A_CALL: Final = 64 << 10
_CLASHES: Final = ((NAME_DIRECTORY, DIRECTORY_TOO), (NAME_TWICE, TWICE))


def judge(
    table: KeyTable, order: KeyOrder, *, margin: int = 0, fold: bool = False, checkpoint: Checkpoint = go_on
) -> Names:
    """What `compile_names` says of the table; ``order`` is the table's. Blocks."""
    if fold:
        return compile_names(table, margin=margin, fold=True)
    limit = PATH_MAX - margin
    verdicts = bytearray(len(table))
    for start in range(0, len(verdicts), _ROWS_A_CALL):
        checkpoint()
        judge_keys(table, verdicts, start, min(_ROWS_A_CALL, len(verdicts) - start), limit)
    markers, bad = _judge_doubtful(table, verdicts, limit, checkpoint)
    if clash_keys(order, verdicts):
        for verdict, why in _CLASHES:
            bad += [BadKey(row, table.key(row), why) for row in rows_judged(verdicts, verdict)]
        bad.sort(key=lambda problem: problem.row)
    return Names(good=rows_judged(verdicts, NAME_GOOD), markers=markers, bad=tuple(bad))


def _judge_doubtful(
    table: KeyTable, verdicts: bytearray, limit: int, checkpoint: Checkpoint
) -> tuple[int, list[BadKey]]:
    """Directory markers, and what is bad; what turns out to be good is marked so."""
    markers = 0
    bad = []
    for row in rows_judged(verdicts, NAME_DOUBTFUL):
        if row % _ROWS_A_CALL == 0:
            checkpoint()
        key = table.key(row)
        if table.size(row) == 0 and (key.endswith(b"/") or not key):
            markers += 1
        elif why := what_is_wrong(key, limit):
            bad.append(BadKey(row, key, why))
        else:
            verdicts[row] = NAME_GOOD
    return markers, bad
