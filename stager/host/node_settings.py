"""What a site lays down for all stagers of a node together, whoever runs them: ``[node]`` of `stager.host.site`.

::

    [node]
    directory = "/run/stager"         # where they see one another: of root, mode 1777, on a local file system
    max_bandwidth = "2G"              # a second, of all of them: shared equally among users, then a user's stagers
    max_requests_per_second = 10000   # likewise
    reserved_per_user = "50%"         # of each disk, or "2T": more of it one user's stagers cannot reserve
    trees_per_user = 20               # trees of jobs that are not removed yet
    jobs_per_node = 1                 # that `stager run` runs at once: further ones wait
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from msgspec import Struct

from stager.amounts import show_bytes
from stager.host.settings_file import as_bytes, as_count, as_rate, read_table, refuse

__all__ = ["NodeSettings", "node_in"]

_MOST_TREES: Final = 1_000_000
_MOST_JOBS: Final = 10_000
_PERCENT: Final = re.compile(r"([0-9]{1,2}(?:\.[0-9]{1,3})?|100)%")


class NodeSettings(Struct, frozen=True, kw_only=True):
    """``directory`` "": stagers of one user see one another and no others. None: no limit.

    At most one of ``reserved_bytes`` and ``reserved_share`` is set.
    """

    file: str = ""
    directory: str = ""
    max_bandwidth: int | None = None
    max_requests_per_second: float | None = None
    reserved_bytes: int | None = None
    reserved_share: float | None = None
    trees_per_user: int | None = None
    jobs_per_node: int | None = None

    @property
    def is_limited(self) -> bool:
        """Whether the stagers share a limit of what they move."""
        return self.max_bandwidth is not None or self.max_requests_per_second is not None

    @property
    def needs_directory(self) -> bool:
        """Whether anything counts for all stagers of the node together."""
        return self.is_limited or self.jobs_per_node is not None

    def told(self) -> dict[str, str]:
        """What is set beside the directory, as it is written."""
        told: dict[str, str] = {}
        if self.max_bandwidth is not None:
            told["max_bandwidth"] = show_bytes(self.max_bandwidth)
        if self.max_requests_per_second is not None:
            told["max_requests_per_second"] = f"{self.max_requests_per_second:g}"
        if self.reserved_bytes is not None:
            told["reserved_per_user"] = show_bytes(self.reserved_bytes)
        if self.reserved_share is not None:
            told["reserved_per_user"] = f"{self.reserved_share * 100:g}%"
        if self.trees_per_user is not None:
            told["trees_per_user"] = str(self.trees_per_user)
        if self.jobs_per_node is not None:
            told["jobs_per_node"] = str(self.jobs_per_node)
        return told


def node_in(tables: Mapping[str, Any], path: str, what: str) -> NodeSettings:
    """The ``[node]`` of a file's tables. Raises `HostError` naming the first key that is not understood."""
    found: dict[str, Any] = {}
    for said in read_table(tables, "node", _READERS, path=path, what=what).values():
        found |= said
    settings = NodeSettings(file=path if found else "", **found)
    if settings.needs_directory and not settings.directory:
        raise refuse(path, what, "node.directory", "is needed for limits that all stagers of the node share")
    return settings


def _directory(value: object) -> dict[str, Any]:
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value or ".." in value.split("/"):
        raise ValueError(f"an absolute path, not {value!a}")
    return {"directory": "/" + os.path.normpath(value).lstrip("/")}


def _reserved(value: object) -> dict[str, Any]:
    if isinstance(value, str) and (found := _PERCENT.fullmatch(value)):
        return {"reserved_share": float(found[1]) / 100}
    try:
        return {"reserved_bytes": as_bytes(value, 1 << 20)}
    except ValueError as error:
        raise ValueError(f'{error}; or a share like "50%"') from None


def _as(name: str, read: Callable[[object], Any]) -> Callable[[object], dict[str, Any]]:
    return lambda value: {name: read(value)}


_READERS: Final[dict[str, Callable[[object], dict[str, Any]]]] = {
    "directory": _directory,
    "max_bandwidth": _as("max_bandwidth", partial(as_bytes, least=1 << 10)),
    "max_requests_per_second": _as("max_requests_per_second", as_rate),
    "reserved_per_user": _reserved,
    "trees_per_user": _as("trees_per_user", partial(as_count, most=_MOST_TREES)),
    "jobs_per_node": _as("jobs_per_node", partial(as_count, most=_MOST_JOBS)),
}
