"""What the scheduler that started this process says of the job, from its variables alone.

Slurm: SLURM_JOB_ID; of an array SLURM_ARRAY_JOB_ID and SLURM_ARRAY_TASK_ID (sbatch(1), "OUTPUT ENVIRONMENT VARIABLES").
Kubernetes: POD_UID, which the pod's manifest takes from ``metadata.uid`` by the downward API.
Variables are input like any other: one that is not what it should be counts as not there.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping
from typing import Final, Literal

from msgspec import Struct

from stager.errors import UsageError
from stager.model import JOB_ID

__all__ = ["JobIdentity", "SchedulerFacts", "choose_job_id", "identity_of", "scheduler_facts"]

_MOST_DIGITS: Final = 9


class SchedulerFacts(Struct, frozen=True, kw_only=True):
    """``job_id`` "": no scheduler names this job. ``attempt``: how often it has started the job before."""

    kind: Literal["", "slurm", "kubernetes"] = ""
    job_id: str = ""
    attempt: int = 0


class JobIdentity(Struct, frozen=True, kw_only=True):
    """Which job this is, and how often it has been started before."""

    id: str
    attempt: int = 0


def scheduler_facts(environ: Mapping[str, str]) -> SchedulerFacts:
    """What ``environ`` says; an id that is no plain name is kept, for `choose_job_id` to refuse."""
    if environ.get("SLURM_JOB_ID"):
        array, task = environ.get("SLURM_ARRAY_JOB_ID"), _number(environ, "SLURM_ARRAY_TASK_ID")
        job_id = f"{array}_{task}" if array and task is not None else environ["SLURM_JOB_ID"]
        return SchedulerFacts(kind="slurm", job_id=job_id, attempt=_number(environ, "SLURM_RESTART_COUNT") or 0)
    if environ.get("POD_UID"):
        return SchedulerFacts(kind="kubernetes", job_id=environ["POD_UID"])
    return SchedulerFacts()


def choose_job_id(asked: str | None, name: str, facts: SchedulerFacts) -> str:
    """``asked``, else the scheduler's, else one made of name, time and chance.

    Raises `UsageError` for an id that is no plain name.
    """
    chosen = asked or facts.job_id
    if not chosen:
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        return f"{re.sub('[^A-Za-z0-9._-]', '-', name)[:100]}-{stamp}-{secrets.token_hex(4)}"
    if not JOB_ID.fullmatch(chosen):
        raise UsageError(f"{chosen[:80]!a} is no job id", hint="letters, digits, '.', '_' and '-', at most 160")
    return chosen


def identity_of(job_id: str, facts: SchedulerFacts) -> JobIdentity:
    """The job of that id; how often it was started is known of the scheduler's own id alone."""
    return JobIdentity(id=job_id, attempt=facts.attempt if facts.job_id == job_id else 0)


def _number(environ: Mapping[str, str], name: str) -> int | None:
    """A whole number of at most nine digits; anything else is None."""
    text = environ.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS else None
