"""What a site lets users bind into jobs that its root starts for them: ``[principals]`` of `stager.host.site`.

::

    [principals]
    allowed_binds = ["/mnt/efs"]           # sources of bind: datasets, with all that lies below
    allowed_public = ["/srv/public"]       # sources of [[public]]

Both are empty where the file says nothing. They hold for jobs of other users than root that root starts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Final

from msgspec import Struct

from stager.host.settings_file import read_table

__all__ = ["PrincipalSettings", "principals_in"]


class PrincipalSettings(Struct, frozen=True, kw_only=True):
    """Absolute, normal paths."""

    file: str = ""
    allowed_binds: tuple[str, ...] = ()
    allowed_public: tuple[str, ...] = ()


def principals_in(tables: Mapping[str, Any], path: str, what: str) -> PrincipalSettings:
    """The ``[principals]`` of a file's tables. Raises `HostError` naming the first key that is not understood."""
    found = read_table(tables, "principals", _READERS, path=path, what=what)
    return PrincipalSettings(file=path if found else "", **found)


def _paths(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(path, str) and _is_plain(path) for path in value):
        raise ValueError("a list of absolute paths without . and .., none of them /")
    return tuple(value)


def _is_plain(path: str) -> bool:
    single = path.startswith("/") and not path.startswith("//")  # which normpath leaves as it is
    return single and path != "/" and "\0" not in path and os.path.normpath(path) == path


_READERS: Final[dict[str, Callable[[object], tuple[str, ...]]]] = {
    "allowed_binds": _paths,
    "allowed_public": _paths,
}
