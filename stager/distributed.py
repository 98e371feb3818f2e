"""Who is who in a distributed job: the address of every task by its role, and which of them this one is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from stager.errors import UsageError
from stager.scheduler import SchedulerFacts
from stager.tasks import DistributedSpec, Role

__all__ = ["MOST_LIST_BYTES", "Cluster", "addresses_of", "cluster_of"]

MOST_LIST_BYTES: Final = 100_000
"""A variable of 128 KiB cannot be passed to a program (execve(2), MAX_ARG_STRLEN)."""

_MOST_PORT: Final = 65535


class Cluster(Struct, frozen=True, kw_only=True):
    """The addresses of each role, empty where nobody knows them; ``role`` and ``index`` None: nobody says which task
    this is.
    """

    masters: tuple[str, ...] = ()
    workers: tuple[str, ...] = ()
    ps: tuple[str, ...] = ()
    role: Role | None = None
    index: int | None = None

    @property
    def is_master(self) -> bool:
        """True of exactly one task: the master, or the first worker where there is none."""
        return self.index == 0 and self.role == ("master" if self.masters else "worker")


def cluster_of(spec: DistributedSpec | None, facts: SchedulerFacts) -> Cluster | None:
    """The cluster that the job file describes, else the one of a scheduler that started several tasks; None: the job is
    not distributed. Ranks are masters first, then workers, then parameter servers.

    Raises `UsageError`: the rank is none of the cluster's.
    """
    if spec is None and (facts.rank is None or (facts.world_size or 1) < 2):
        return None
    spec = spec or DistributedSpec()
    if spec.says_addresses:
        return _placed(spec, facts, spec.master_hosts, spec.worker_hosts, spec.ps_hosts)
    addresses = addresses_of(_hosts_of_ranks(spec, facts), spec.port)
    if not addresses:
        return _without_addresses(spec, facts)
    if len(addresses) <= spec.ps:
        raise UsageError(
            f"{spec.ps} parameter servers leave no worker of {len(addresses)} tasks", where="distributed.ps",
            hint="start more tasks",
        )  # fmt: skip
    workers = len(addresses) - spec.ps
    return _placed(spec, facts, (), addresses[:workers], addresses[workers:])


def _hosts_of_ranks(spec: DistributedSpec, facts: SchedulerFacts) -> tuple[str, ...]:
    """Hosts that are written are those of all ranks, or of all nodes where each has as many ranks."""
    if not spec.hosts:
        return facts.hosts
    each = facts.ranks_each if len(spec.hosts) * facts.ranks_each == facts.world_size else 1
    return tuple(host for host in spec.hosts for _ in range(each))


def addresses_of(hosts: Sequence[str], port: int) -> tuple[str, ...]:
    """HOST:PORT of each, the next port for each more on a host; none where that is more than can be told a program."""
    taken: dict[str, int] = {}
    addresses: list[str] = []
    for host in hosts:
        addresses.append(f"{host}:{port + taken.get(host, 0)}")
        taken[host] = taken.get(host, 0) + 1
    if port + max(taken.values(), default=0) - 1 > _MOST_PORT or len(",".join(addresses)) > MOST_LIST_BYTES:
        return ()
    return tuple(addresses)


def _placed(
    spec: DistributedSpec,
    facts: SchedulerFacts,
    masters: tuple[str, ...],
    workers: tuple[str, ...],
    ps: tuple[str, ...],
) -> Cluster:
    cluster = Cluster(masters=masters, workers=workers, ps=ps, role=spec.role, index=spec.index)
    if spec.role is not None or facts.rank is None:
        return cluster
    tasks: list[tuple[Role, int]] = [("master", number) for number in range(len(masters))]
    tasks += [("worker", number) for number in range(len(workers))]
    tasks += [("ps", number) for number in range(len(ps))]
    if facts.rank >= len(tasks):
        raise UsageError(
            f"this is task {facts.rank}, and only 0 to {len(tasks) - 1} have an address", where="[distributed]",
            hint="start as many tasks as the job file has addresses",
        )  # fmt: skip
    role, index = tasks[facts.rank]
    return Cluster(masters=masters, workers=workers, ps=ps, role=role, index=index)


def _without_addresses(spec: DistributedSpec, facts: SchedulerFacts) -> Cluster:
    if spec.role is not None or facts.rank is None:
        return Cluster(role=spec.role, index=spec.index)
    if not spec.ps:
        return Cluster(role="worker", index=facts.rank)
    workers = (facts.world_size or 0) - spec.ps
    if workers < 1:
        raise UsageError(
            f"nobody says which tasks the {spec.ps} parameter servers are", where="distributed.ps",
            hint="write hosts in [distributed], or start them by one that says how many tasks there are",
        )  # fmt: skip
    is_ps = facts.rank >= workers
    return Cluster(role="ps" if is_ps else "worker", index=facts.rank - workers * is_ps)
