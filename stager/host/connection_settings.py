"""How many jobs of this node may have one export of a network file system at once: ``[connections]`` of
`stager.host.site`. Its server counts the connections of all nodes: a site gives each node its share.

::

    [connections]
    limits = { "fs-*.efs.*.amazonaws.com" = 100, "10.0.0.2:/vol1" = 20 }
    wait = "10m"                      # how long a job waits for its turn; left out: it is refused at once

A name is a glob, matched against an export as mountinfo writes it ("SERVER:/PATH") and against its server alone. The
first that matches counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any, Final

from msgspec import Struct

from stager.host.settings_file import as_count, read_table

__all__ = ["ConnectionSettings", "connections_in"]

_MOST: Final = 1_000_000
_MOST_LIMITS: Final = 256
_TIME: Final = re.compile(r"([0-9]{1,6})([smh])")
_UNITS_S: Final = {"s": 1, "m": 60, "h": 3600}


class ConnectionSettings(Struct, frozen=True, kw_only=True):
    """``limits``: glob and number, in order. ``wait_s``: seconds, 0 where a job does not wait."""

    file: str = ""
    limits: tuple[tuple[str, int], ...] = ()
    wait_s: int = 0

    def limit_of(self, export: str) -> int | None:
        """How many jobs may have it; None: as many as like."""
        server = export.partition(":/")[0]
        return next(
            (most for glob, most in self.limits if fnmatchcase(export, glob) or fnmatchcase(server, glob)), None
        )


def connections_in(tables: Mapping[str, Any], path: str, what: str) -> ConnectionSettings:
    """The ``[connections]`` of a file's tables. Raises `HostError` naming the first key that is not understood."""
    found = read_table(tables, "connections", _READERS, path=path, what=what)
    return ConnectionSettings(file=path, limits=found.get("limits", ()), wait_s=found.get("wait", 0))


def _limits(value: object) -> tuple[tuple[str, int], ...]:
    if not isinstance(value, dict) or len(value) > _MOST_LIMITS:
        raise ValueError(f'a table of at most {_MOST_LIMITS} limits, like {{ "10.0.0.2:/vol1" = 20 }}')
    if any(not glob for glob in value):
        raise ValueError("an export has a name")
    return tuple((glob, as_count(most, most=_MOST)) for glob, most in value.items())


def _seconds(value: object) -> int:
    found = _TIME.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f'a time like "30s" or "10m", not {value!r}')
    return int(found[1]) * _UNITS_S[found[2]]


_READERS: Final[dict[str, Callable[[object], Any]]] = {"limits": _limits, "wait": _seconds}
