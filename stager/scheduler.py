"""What the scheduler that started this process says of the job, from its variables alone.

- Slurm: SLURM_JOB_ID; of an array SLURM_ARRAY_JOB_ID and SLURM_ARRAY_TASK_ID; of a step's task SLURM_PROCID and
  SLURM_STEP_* (sbatch(1) and srun(1), "OUTPUT ENVIRONMENT VARIABLES").
- Kubernetes: JOB_COMPLETION_INDEX of an indexed job; and what the pod's manifest takes by the downward API: POD_UID
  from ``metadata.uid`` and, for jobs of several pods, JOB_UID from
  ``metadata.labels['batch.kubernetes.io/controller-uid']``.
- torchrun: RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR, TORCHELASTIC_RUN_ID.

Variables are input like any other: one that is not what it should be counts as not there.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping
from typing import Final, Literal

from msgspec import Struct
from msgspec.structs import replace

from stager.errors import UsageError
from stager.hostlist import MOST_HOSTS, expand_counts, expand_hosts
from stager.model import JOB_ID

__all__ = ["JobIdentity", "SchedulerFacts", "choose_job_id", "identity_of", "scheduler_facts"]

_MOST_DIGITS: Final = 9
_BLOCK: Final = frozenset({"", "*", "block", "pack", "nopack"})


class SchedulerFacts(Struct, frozen=True, kw_only=True):
    """``job_id`` "": no scheduler names this job. ``attempt``: how often it has started the job before.

    ``group_id``: equal in all tasks of a distributed job, where job ids are not. ``rank`` of ``world_size``: this task;
    ``hosts``: the host of each rank; ``ranks_each``: how many ranks in a row every host has. ``array_index`` of
    ``array_count``: this member of an array. None, or no hosts: nobody says.
    """

    kind: Literal["", "slurm", "kubernetes"] = ""
    job_id: str = ""
    attempt: int = 0
    group_id: str = ""
    node_rank: int = 0
    node_count: int = 1
    rank: int | None = None
    world_size: int | None = None
    hosts: tuple[str, ...] = ()
    ranks_each: int = 1
    array_index: int | None = None
    array_count: int | None = None


class JobIdentity(Struct, frozen=True, kw_only=True):
    """Which job this is, and how often it has been started before."""

    id: str
    attempt: int = 0


def scheduler_facts(environ: Mapping[str, str]) -> SchedulerFacts:
    """What ``environ`` says; an id that is no plain name is kept, for `choose_job_id` to refuse."""
    if environ.get("SLURM_JOB_ID"):
        facts = _of_slurm(environ)
    elif environ.get("POD_UID") or _number(environ, "JOB_COMPLETION_INDEX") is not None:
        index = _number(environ, "JOB_COMPLETION_INDEX")
        facts = SchedulerFacts(
            kind="kubernetes", job_id=environ.get("POD_UID", ""), group_id=environ.get("JOB_UID", ""),
            rank=index, array_index=index,
        )  # fmt: skip
    else:
        facts = SchedulerFacts()
    return _with_torchrun(facts, environ)


def _of_slurm(environ: Mapping[str, str]) -> SchedulerFacts:
    array, task = environ.get("SLURM_ARRAY_JOB_ID"), _number(environ, "SLURM_ARRAY_TASK_ID")
    job_id = f"{array}_{task}" if array and task is not None else environ["SLURM_JOB_ID"]
    facts = SchedulerFacts(
        kind="slurm",
        job_id=job_id,
        attempt=_number(environ, "SLURM_RESTART_COUNT") or 0,
        group_id=job_id,
        node_rank=_number(environ, "SLURM_NODEID") or 0,
        node_count=_number(environ, "SLURM_STEP_NUM_NODES") or _number(environ, "SLURM_JOB_NUM_NODES") or 1,
        array_index=task,
        array_count=_number(environ, "SLURM_ARRAY_TASK_COUNT") if task is not None else None,
    )
    rank, size = _number(environ, "SLURM_PROCID"), _number(environ, "SLURM_STEP_NUM_TASKS")
    if rank is None or size is None or rank >= size:  # a batch script is no task, whatever runs beside it
        return facts
    return replace(facts, rank=rank, world_size=size, hosts=_hosts_of_ranks(environ, size))


def _hosts_of_ranks(environ: Mapping[str, str], size: int) -> tuple[str, ...]:
    """The host of each rank, in ranks' order; none where the distribution is one that variables do not tell."""
    try:
        nodes = expand_hosts(environ.get("SLURM_STEP_NODELIST") or environ.get("SLURM_JOB_NODELIST", ""))
        counts = expand_counts(environ.get("SLURM_STEP_TASKS_PER_NODE", ""))
    except ValueError:
        return ()
    if not counts and len(nodes) == size:
        counts = (1,) * size
    if size > MOST_HOSTS or len(counts) != len(nodes) or sum(counts) != size:
        return ()
    at_once = _in_a_row(environ, max(counts))
    return tuple(
        node
        for first in range(0, max(counts) if at_once else 0, at_once or 1)
        for node, count in zip(nodes, counts, strict=True)
        for _ in range(first, min(first + at_once, count))
    )


def _in_a_row(environ: Mapping[str, str], most: int) -> int:
    """How many ranks in a row a node gets before the next node has its turn; 0: nobody says."""
    how = environ.get("SLURM_DISTRIBUTION", "block").partition(":")[0].partition(",")[0].lower()
    if how in _BLOCK or most == 1:
        return most
    if how.startswith("plane"):
        return _number(environ, "SLURM_DIST_PLANESIZE") or 0
    return 1 if how == "cyclic" else 0


def _with_torchrun(facts: SchedulerFacts, environ: Mapping[str, str]) -> SchedulerFacts:
    """Torchrun's own variables, also of those who set them for it (Kubeflow): they are the innermost. They name no host
    but the master's, and their ranks need not be in the scheduler's order.
    """
    rank, size = _number(environ, "RANK"), _number(environ, "WORLD_SIZE")
    if rank is None or size is None or rank >= size or not environ.get("MASTER_ADDR"):
        return facts
    hosts = facts.hosts if (facts.rank, facts.world_size) == (rank, size) else ()
    run = environ.get("TORCHELASTIC_RUN_ID", "")
    each = _number(environ, "LOCAL_WORLD_SIZE") or 1
    if size % each or _number(environ, "LOCAL_RANK") != rank % each:  # its nodes have not all as many
        each = 1
    return replace(
        facts, rank=rank, world_size=size, hosts=hosts, ranks_each=each,
        group_id=facts.group_id or (run if run != "none" else ""),
    )  # fmt: skip


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
