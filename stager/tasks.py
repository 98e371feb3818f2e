"""Which tasks and instances a job consists of, as its job file says."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

__all__ = ["DistributedSpec", "Instances", "Role"]

Role = Literal["master", "worker", "ps"]


class Instances(Struct, frozen=True, kw_only=True):
    """``ids`` empty: the job says nothing of instances. ``this``: the one that was asked for."""

    ids: tuple[int, ...] = ()
    this: int | None = None


class DistributedSpec(Struct, frozen=True, kw_only=True):
    """``[distributed]``: the addresses (HOST:PORT) of each role, or the hosts of all ranks, of which the last ``ps``
    are parameter servers and the others workers, each at ``port``, or the next one where a host has several.

    ``role`` and ``index`` are those of this task; None: its rank says which it is, masters first, then the workers,
    then the parameter servers.
    """

    role: Role | None = None
    index: int | None = None
    master_hosts: tuple[str, ...] = ()
    worker_hosts: tuple[str, ...] = ()
    ps_hosts: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    ps: int = 0
    port: int = 2222

    @property
    def says_addresses(self) -> bool:
        """Whether the job file has the addresses themselves."""
        return bool(self.master_hosts or self.worker_hosts or self.ps_hosts)
