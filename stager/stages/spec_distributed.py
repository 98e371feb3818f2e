"""``[distributed]``, and ``instances`` of ``[job]``."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from stager.distributed import MOST_LIST_BYTES, addresses_of
from stager.hostlist import expand_hosts
from stager.instances import find_mistakes, parse_instances
from stager.stages.spec_schema import Problems, Table, convert_table, shown
from stager.tasks import DistributedSpec, Instances, Role

__all__ = ["DistributedTable", "distributed_of", "instances_of"]

_MOST_PORT: Final = 65535
_ADDRESS: Final = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]):([0-9]{1,5})")
_ROLES: Final = ("master", "worker", "ps")


class DistributedTable(Table, frozen=True, kw_only=True):
    """``[distributed]``."""

    role: Role | None = None
    index: int | None = None
    master_hosts: tuple[str, ...] = ()
    worker_hosts: tuple[str, ...] = ()
    ps_hosts: tuple[str, ...] = ()
    hosts: str | tuple[str, ...] = ""
    ps: int = 0
    port: int = 2222


def distributed_of(table: Mapping[str, Any], problems: Problems) -> DistributedSpec | None:
    """What the job file says of its tasks; None: nothing, or mistakes, which go to ``problems``."""
    if "distributed" not in table:
        return None
    found = convert_table("distributed", table["distributed"], DistributedTable, problems)
    if found is None:
        return None
    hosts = _hosts(found.hosts, problems)
    for role in _ROLES:
        _check_addresses(f"distributed.{role}_hosts", getattr(found, f"{role}_hosts"), problems)
    spec = DistributedSpec(
        role=found.role,
        index=0 if found.role == "master" and found.index is None else found.index,
        master_hosts=found.master_hosts,
        worker_hosts=found.worker_hosts,
        ps_hosts=found.ps_hosts,
        hosts=hosts,
        ps=found.ps,
        port=found.port,
    )
    _check_together(spec, "hosts" in table["distributed"] or "ps" in table["distributed"], problems)
    return spec


def instances_of(given: int | str | None, problems: Problems, place: str = "job.instances") -> Instances:
    """A count, or ids and ranges; mistakes go to ``problems``."""
    if given is None:
        return Instances()
    mistakes = find_mistakes(str(given))
    for mistake in mistakes:
        problems.add(place, mistake)
    return Instances() if mistakes else Instances(ids=parse_instances(str(given)))


def _hosts(given: str | Sequence[str], problems: Problems) -> tuple[str, ...]:
    try:
        return expand_hosts(given if isinstance(given, str) else ",".join(given))
    except ValueError as error:
        problems.add("distributed.hosts", str(error))
        return ()


def _check_addresses(place: str, addresses: Sequence[str], problems: Problems) -> None:
    for address in addresses:
        found = _ADDRESS.fullmatch(address)
        if found is None or not 0 < int(found[1]) <= _MOST_PORT:
            problems.add(place, f"{shown(address)} is not HOST:PORT")
    if len(",".join(addresses)) > MOST_LIST_BYTES:
        problems.add(place, "is longer than what a program can be told in a variable")


def _check_together(spec: DistributedSpec, says_hosts: bool, problems: Problems) -> None:
    own = {"master": spec.master_hosts, "worker": spec.worker_hosts, "ps": spec.ps_hosts}
    every = [address for addresses in own.values() for address in addresses]
    for address, times in Counter(every).items():
        if times > 1:
            problems.add("distributed", f"{shown(address)} is the address of two tasks")
    if spec.says_addresses and says_hosts:
        problems.add("distributed", "write the addresses of each role, or hosts and ps; not both")
    if spec.says_addresses and not spec.worker_hosts:
        problems.add("distributed.worker_hosts", "is missing")
    if len(spec.master_hosts) > 1:
        problems.add("distributed.master_hosts", "there is one master")
    if spec.role is None and spec.index is not None:
        problems.add("distributed.role", "is missing beside index")
    if spec.role is not None and spec.index is None:
        problems.add("distributed.index", "is missing beside role")
    if spec.role == "master" and not spec.master_hosts:
        problems.add("distributed.master_hosts", "is missing: no task could find the master")
    elif spec.role is not None and spec.index is not None:
        count = len(own[spec.role]) if spec.says_addresses else None
        if spec.index < 0 or (count is not None and spec.index >= count):
            problems.add("distributed.index", f"{spec.index} is no {spec.role} of this job")
    if not 0 < spec.port <= _MOST_PORT:
        problems.add("distributed.port", f"{spec.port} is no port")
    elif spec.hosts and not addresses_of(spec.hosts, spec.port):
        problems.add("distributed.hosts", "is longer than what a program can be told, or needs ports beyond 65535")
    if spec.ps < 0 or (spec.hosts and spec.ps >= len(spec.hosts)):
        problems.add("distributed.ps", f"{spec.ps} parameter servers leave no worker")
