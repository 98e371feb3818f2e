"""What the administrator of this node allows at most: ``/etc/stager/site.toml``, which only root may have written.

::

    [limits]                          # each process; a user can ask for less, never for more
    max_connections = 64
    max_bandwidth = "500M"            # a second; B, K, M, G, T are powers of 1024
    max_requests_per_second = 2000
    memory = "256M"                   # receive buffers
"""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from stager.amounts import MOST_BYTES, parse_bytes, show_bytes
from stager.config import LEAST_MEMORY_BYTES, SiteLimits
from stager.errors import HostError, from_os_error

__all__ = ["SITE_FILE", "site_limits"]

SITE_FILE: Final = "/etc/stager/site.toml"
"""Fixed: an option or a variable that names another file would let a user choose the limits."""

_MOST_BYTES: Final = 1 << 16
_OWNER: Final = 0
_MOST_CONNECTIONS: Final = 4096


def site_limits(path: str | None = None, *, owner: int | None = None) -> SiteLimits:
    """The limits in force; none where there is no such file.

    ``path`` and ``owner`` (left out: `SITE_FILE`, root) are for tests. Raises `HostError`: the file could be somebody
    else's than root's, cannot be read, or says what is not understood; half a limit is none.
    """
    path = SITE_FILE if path is None else path
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except FileNotFoundError:
        return SiteLimits()
    except OSError as error:
        raise from_os_error(error, doing="read the site's configuration", where=path) from error
    try:
        _check_owner(fd, path, _OWNER if owner is None else owner)
        data = os.read(fd, _MOST_BYTES + 1)
    except OSError as error:
        raise from_os_error(error, doing="read the site's configuration", where=path) from error
    finally:
        os.close(fd)
    return _limits_in(_decode(data, path), path)


def _check_owner(fd: int, path: str, owner: int) -> None:
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise HostError("the site's configuration is not a regular file", where=path)
    if status.st_uid != owner:
        raise HostError(
            f"the site's configuration belongs to user {status.st_uid}, not to root", where=path,
            hint="the administrator gives it to root or removes it",
        )  # fmt: skip
    if status.st_mode & 0o022:
        raise HostError(
            "others than root may write the site's configuration", where=path,
            hint="the administrator takes that right away (chmod go-w)",
        )  # fmt: skip


def _decode(data: bytes, path: str) -> dict[str, Any]:
    if len(data) > _MOST_BYTES:
        raise HostError("the site's configuration is over 64 KiB", where=path)
    try:
        return tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:  # not UTF-8, not TOML, numbers beyond what Python holds
        raise HostError(f"the site's configuration is not TOML: {str(error)[:200]!r}", where=path) from None


def _limits_in(tables: dict[str, Any], path: str) -> SiteLimits:
    for name in tables:
        if name != "limits":
            raise _refuse(path, name, "no such key; known is [limits]")
    limits = tables.get("limits", {})
    if not isinstance(limits, dict):
        raise _refuse(path, "limits", "is a table: [limits]")
    found: dict[str, Any] = {}
    for name, value in limits.items():
        if name not in _READERS:
            raise _refuse(path, f"limits.{name}", f"no such key; known are {', '.join(_READERS)}")
        try:
            found["memory_bytes" if name == "memory" else name] = _READERS[name](value)
        except ValueError as error:
            raise _refuse(path, f"limits.{name}", str(error)) from None
    return SiteLimits(**found)


def _refuse(path: str, key: str, why: str) -> HostError:
    return HostError(f"the site's configuration: {key}: {why}", where=path, hint="the administrator corrects it")


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MOST_CONNECTIONS:
        raise ValueError(f"a whole number from 1 to {_MOST_CONNECTIONS}, not {value!r}")
    return value


def _rate(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.1 <= value <= 1e6:
        raise ValueError(f"a number from 0.1 to 1000000, not {value!r}")
    return float(value)


def _bytes(value: object, least: int) -> int:
    amount = parse_bytes(value) if isinstance(value, str) else value
    if isinstance(amount, bool) or not isinstance(amount, int) or amount < least:
        raise ValueError(f"at least {show_bytes(least)}, written like \"64M\", not {value!r}")
    if amount > MOST_BYTES:
        raise ValueError(f"at most {show_bytes(MOST_BYTES)}")
    return amount


_READERS: Final[dict[str, Callable[[object], float]]] = {
    "max_connections": _count,
    "max_bandwidth": partial(_bytes, least=1 << 10),
    "max_requests_per_second": _rate,
    "memory": partial(_bytes, least=LEAST_MEMORY_BYTES),
}
