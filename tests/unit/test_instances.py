"""Counts and ranges of instances, and which of them a process is."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from stager.errors import UsageError
from stager.instances import MOST_INSTANCES, find_mistakes, instance_of, parse_instances
from stager.scheduler import scheduler_facts
from stager.tasks import Instances

RANGES = "1-6,15,20,25-30"
FOURTEEN = (1, 2, 3, 4, 5, 6, 15, 20, 25, 26, 27, 28, 29, 30)


def ids_and_counts(instances: str, environs: list[Mapping[str, str]]) -> list[tuple[int, int | None]]:
    asked = Instances(ids=parse_instances(instances) if instances else ())
    found = [instance_of(asked, scheduler_facts(environ)) for environ in environs]
    return [(one.id, one.count) for one in found if one is not None]


def slurm(number: int, count: int) -> dict[str, str]:
    return {
        "SLURM_JOB_ID": str(100 + number), "SLURM_ARRAY_JOB_ID": "100", "SLURM_ARRAY_TASK_ID": str(number),
        "SLURM_ARRAY_TASK_COUNT": str(count),
    }  # fmt: skip


def test_q4_q5_array_of_slurm_is_its_own_numbers_and_their_count() -> None:
    assert ids_and_counts("", [slurm(n, 5) for n in range(5)]) == [(n, 5) for n in range(5)]
    assert ids_and_counts(RANGES, [slurm(n, 14) for n in FOURTEEN]) == [(n, 14) for n in FOURTEEN]
    with pytest.raises(UsageError, match="7 is no instance of this job"):
        ids_and_counts(RANGES, [slurm(7, 14)])


def test_q4_q5_indexed_job_of_kubernetes_counts_the_ids_in_their_order() -> None:
    pods = [{"JOB_COMPLETION_INDEX": str(index), "POD_UID": f"u{index}"} for index in range(14)]
    assert ids_and_counts(RANGES, [*pods]) == [(n, 14) for n in FOURTEEN]
    assert ids_and_counts("5", [*pods[:5]]) == [(n, 5) for n in range(5)]
    assert ids_and_counts("", [*pods[:2]]) == [(0, None), (1, None)]
    with pytest.raises(UsageError, match="JOB_COMPLETION_INDEX is 13, and there are 5 instances"):
        ids_and_counts("5", [pods[13]])


def test_q4_q5_without_an_array_it_is_the_one_asked_for_or_the_only_one() -> None:
    facts = scheduler_facts({})
    assert ids_and_counts("", [{}]) == [(0, 1)]
    assert ids_and_counts("7-7", [{}]) == [(7, 1)]
    assert instance_of(Instances(ids=FOURTEEN), facts) is None
    asked = instance_of(Instances(ids=FOURTEEN, this=20), scheduler_facts(slurm(1, 14)))
    assert asked is not None and (asked.id, asked.count) == (20, 14)
    with pytest.raises(UsageError, match="7 is no instance"):
        instance_of(Instances(ids=FOURTEEN, this=7), facts)


@pytest.mark.parametrize(
    ("text", "mistakes"),
    [
        ("5-1", ["5-1 counts down"]),
        ("a", ["'a' is neither"]),
        ("1,,2", ["an id is missing"]),
        ("1,2,1", ["1 is there twice"]),
        ("1-4,3-6", ["3 is there twice"]),
        ("0", ["0 is no number of instances"]),
        ("-1", ["'-1' is neither"]),
        ("", ["an id is missing"]),
        ("1 - 2", ["'1 - 2' is neither"]),
        ("\u0665", ["neither"]),
        ("5-1,a,,2,2", ["5-1 counts down", "'a' is neither", "an id is missing", "2 is there twice"]),
        (str(MOST_INSTANCES + 1), ["no number of instances"]),
        ("9" * 5000, ["no number of instances"]),
        ("1-999999999", ["more than 100,000 instances"]),
        ("0-60000,70000-130000", ["more than 100,000 instances"]),
    ],
)
def test_q4_bad_ranges_are_refused_with_every_mistake(text: str, mistakes: list[str]) -> None:
    found = find_mistakes(text)
    assert len(found) == len(mistakes)
    assert all(part in told for part, told in zip(mistakes, found, strict=True))
    with pytest.raises(ValueError, match=r".+"):
        parse_instances(text)
