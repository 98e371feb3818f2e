"""Lists of hosts as Slurm writes them: ``node[01-03,7],rack[0-1]n[1-2]``; see scontrol(1), "show hostnames".

A number keeps the width of the range's lower end, so ``[08-11]`` is 08, 09, 10, 11 and ``[8-11]`` is 8, 9, 10, 11; of
several brackets the last one counts fastest; text may follow a bracket. The list may come from anywhere, so what it
can grow to is bounded.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Final

__all__ = ["MOST_HOSTS", "expand_counts", "expand_hosts"]

MOST_HOSTS: Final = 1 << 16
"""More are refused; Slurm's own default limit is as large."""

_MOST_CHARACTERS: Final = 1 << 20
_MOST_NAME: Final = 253  # of a host's name in DNS
_PIECE: Final = re.compile(r"([A-Za-z0-9._-]+)|\[([0-9,-]+)\]")
_RANGE: Final = re.compile(r"([0-9]{1,18})(?:-([0-9]{1,18}))?")
_COUNT: Final = re.compile(r"([0-9]{1,9})(?:\(x([0-9]{1,9})\))?")


def expand_hosts(text: str) -> tuple[str, ...]:
    """The hosts of a list, in its order; the same one may stand there twice. "" is none.

    ValueError: it is no such list, or names more than `MOST_HOSTS`.
    """
    if len(text) > _MOST_CHARACTERS:
        raise ValueError("is longer than any list of hosts")
    hosts: list[str] = []
    for item in _items(text) if text else ():
        hosts += _hosts_of(item, MOST_HOSTS - len(hosts))
    return tuple(hosts)


def expand_counts(text: str) -> tuple[int, ...]:
    """Slurm's numbers of tasks on each node: ``2(x3),1`` is 2, 2, 2, 1. ValueError as `expand_hosts`."""
    counts: list[int] = []
    for item in text.split(",") if text else ():
        found = _COUNT.fullmatch(item)
        if found is None or len(counts) + int(found[2] or 1) > MOST_HOSTS:
            raise ValueError(f"{item[:80]!a} is no number of tasks on so many nodes")
        counts += [int(found[1])] * int(found[2] or 1)
    return tuple(counts)


def _items(text: str) -> Iterator[str]:
    """What stands between the commas that are in no bracket."""
    start = depth = 0
    for at, character in enumerate(text):
        if character == "," and depth == 0:
            yield text[start:at]
            start = at + 1
        else:
            depth += {"[": 1, "]": -1}.get(character, 0)
    yield text[start:]


def _hosts_of(item: str, most: int) -> list[str]:
    pieces: list[tuple[str, ...]] = []
    at, count = 0, 1
    while at < len(item):
        found = _PIECE.match(item, at)
        if found is None:
            raise ValueError(f"{item[:80]!a} is no list of hosts")
        pieces.append((found[1],) if found[1] else _numbers(found[2], item, most))
        count *= len(pieces[-1])
        at = found.end()
        if count > most:
            raise ValueError(f"names more than {MOST_HOSTS:,} hosts")
    if not pieces or len(item) > _MOST_CHARACTERS or not count:
        raise ValueError("names a host without a name")
    if sum(max(map(len, piece)) for piece in pieces) > _MOST_NAME:
        raise ValueError("names a host by more than 253 characters")
    return ["".join(name) for name in itertools.product(*pieces)]


def _numbers(text: str, item: str, most: int) -> tuple[str, ...]:
    numbers: list[str] = []
    for piece in text.split(","):
        found = _RANGE.fullmatch(piece)
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
        if found is None or last < first:
            raise ValueError(f"{piece[:80]!a} in {item[:80]!a} is no range of numbers")
        if len(numbers) + last - first >= most:
            raise ValueError(f"names more than {MOST_HOSTS:,} hosts")
        numbers += [str(number).zfill(len(found[1])) for number in range(first, last + 1)]
    return tuple(numbers)
