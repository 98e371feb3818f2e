"""Which instances a task has, and which one this is: ``5`` is 0 to 4, ``1-6,15,20,25-30`` exactly these fourteen."""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct

from stager.errors import UsageError
from stager.scheduler import SchedulerFacts
from stager.tasks import Instances

__all__ = ["MOST_INSTANCES", "Instance", "find_mistakes", "instance_of", "parse_instances"]

MOST_INSTANCES: Final = 100_000
_PART: Final = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")


class Instance(Struct, frozen=True, kw_only=True):
    """One instance; ``count`` is None where nobody says how many there are."""

    id: int
    count: int | None


def find_mistakes(text: str) -> list[str]:
    """What is wrong with the text for `parse_instances`, all of it; nothing: it can be taken."""
    return _read(text)[1]


def parse_instances(text: str) -> tuple[int, ...]:
    """The ids of a count or of a list of ranges, in their order. ValueError: the first of `find_mistakes`."""
    ids, mistakes = _read(text)
    if mistakes:
        raise ValueError(mistakes[0])
    return tuple(ids)


def instance_of(instances: Instances, facts: SchedulerFacts) -> Instance | None:
    """Which instance this is: the one asked for; else the scheduler's, which is the id itself in an array of Slurm, and
    counts the ids in their order in an indexed job of Kubernetes. A job of neither is 0 of 1.

    None: nobody says which of several it is. Raises `UsageError`: it is none of them.
    """
    ids, count = instances.ids, len(instances.ids) or facts.array_count
    if instances.this is not None:
        return Instance(id=_known(instances.this, ids, "--instance"), count=count)
    if facts.array_index is None:
        return None if len(ids) > 1 else Instance(id=ids[0] if ids else 0, count=1)
    if facts.kind == "slurm" or not ids:
        return Instance(id=_known(facts.array_index, ids, "SLURM_ARRAY_TASK_ID"), count=count)
    if facts.array_index >= len(ids):
        raise UsageError(
            f"JOB_COMPLETION_INDEX is {facts.array_index}, and there are {len(ids)} instances", where="instances",
            hint=f"completions: {len(ids)} belongs in the manifest",
        )  # fmt: skip
    return Instance(id=ids[facts.array_index], count=count)


def _known(number: int, ids: tuple[int, ...], by: str) -> int:
    if ids and number not in ids:
        raise UsageError(f"{number} is no instance of this job", where=by, hint="the array and the instances disagree")
    return number


def _read(text: str) -> tuple[list[int], list[str]]:
    if text.isascii() and text.isdigit():
        if len(text) > len(str(MOST_INSTANCES)) or not 1 <= int(text) <= MOST_INSTANCES:
            return [], [f"{text[:20]} is no number of instances: from 1 to {MOST_INSTANCES:,}"]
        return list(range(int(text))), []
    ids: dict[int, None] = {}
    mistakes: list[str] = []
    total = 0
    for part in text[: 16 * MOST_INSTANCES].split(","):
        found = _PART.fullmatch(part)
        if found is None:
            mistakes.append(f"{part[:40]!a} is neither an id nor a range like 1-6" if part else "an id is missing")
            continue
        first, last = int(found[1]), int(found[2] or found[1])
        if last < first:
            mistakes.append(f"{part} counts down")
            continue
        total += last - first + 1
        if total > MOST_INSTANCES:
            return [], [*mistakes, f"more than {MOST_INSTANCES:,} instances"]
        twice = [number for number in range(first, last + 1) if number in ids]
        if twice:
            mistakes.append(f"{twice[0]} is there twice")
        ids.update(dict.fromkeys(range(first, last + 1)))
    return list(ids), mistakes
