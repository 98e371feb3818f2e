"""Which job this is, from the scheduler's variables."""

from __future__ import annotations

import re

import pytest

from stager.errors import UsageError
from stager.scheduler import JobIdentity, SchedulerFacts, choose_job_id, identity_of, scheduler_facts


@pytest.mark.parametrize(
    ("environ", "job_id", "attempt"),
    [
        ({}, "", 0),
        ({"SLURM_JOB_ID": "9"}, "9", 0),
        ({"SLURM_JOB_ID": "9", "SLURM_RESTART_COUNT": "2", "POD_UID": "u"}, "9", 2),
        ({"SLURM_JOB_ID": "9", "SLURM_RESTART_COUNT": "many"}, "9", 0),
        ({"SLURM_JOB_ID": "12", "SLURM_ARRAY_JOB_ID": "9", "SLURM_ARRAY_TASK_ID": "3"}, "9_3", 0),
        ({"SLURM_JOB_ID": "12", "SLURM_ARRAY_JOB_ID": "9", "SLURM_ARRAY_TASK_ID": "../3"}, "12", 0),
        ({"POD_UID": "0c2e8b1a-0f6c-4c6e-9f4e-4f0a5c0d2b11"}, "0c2e8b1a-0f6c-4c6e-9f4e-4f0a5c0d2b11", 0),
    ],
)
def test_id_and_attempt_are_the_schedulers(environ: dict[str, str], job_id: str, attempt: int) -> None:
    facts = scheduler_facts(environ)
    assert (facts.job_id, facts.attempt) == (job_id, attempt)
    if job_id:
        assert choose_job_id(None, "n", facts) == job_id
        assert identity_of(job_id, facts) == JobIdentity(id=job_id, attempt=attempt)
    assert choose_job_id("other", "n", facts) == "other"
    assert identity_of("other", facts).attempt == 0


def test_id_is_made_where_nobody_gives_one() -> None:
    made = [choose_job_id(None, "a b", SchedulerFacts()) for _ in range(2)]
    assert made[0] != made[1]
    assert all(re.fullmatch(r"a-b-[0-9]{8}T[0-9]{6}-[0-9a-f]{8}", one) for one in made)


@pytest.mark.parametrize("bad", ["../x", "a/b", ".hidden", "a\nb"])
def test_id_that_is_no_plain_name_is_refused_whoever_gives_it(bad: str) -> None:
    for asked, facts in ((bad, SchedulerFacts()), (None, scheduler_facts({"SLURM_JOB_ID": bad}))):
        with pytest.raises(UsageError, match="is no job id"):
            choose_job_id(asked, "n", facts)
