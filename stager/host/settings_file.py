"""A file of settings that nobody but those who may write it can have written."""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, TypeVar

from stager.amounts import MOST_BYTES, parse_bytes, show_bytes
from stager.errors import HostError, from_os_error

__all__ = ["as_bytes", "as_count", "as_rate", "read_settings", "read_table", "refuse"]

Value = TypeVar("Value")

_MOST_BYTES: Final = 1 << 16


def read_settings(path: str, *, what: str, whose: str, owners: Collection[int]) -> dict[str, Any] | None:
    """The tables of a TOML file; None where there is none. Blocks.

    ``what`` it is called in errors, and ``whose`` it should be: "root" or "you".

    Raises `HostError`: the file could be somebody else's than these ``owners``', cannot be read, or is no TOML.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise from_os_error(error, doing=f"read {what}", where=path) from error
    try:
        _check_owner(fd, path, what, whose, owners)
        data = os.read(fd, _MOST_BYTES + 1)
    except OSError as error:
        raise from_os_error(error, doing=f"read {what}", where=path) from error
    finally:
        os.close(fd)
    return _decode(data, path, what)


def refuse(path: str, what: str, key: str, why: str) -> HostError:
    """The error for a key of such a file."""
    hint = "the administrator corrects it" if what.startswith("the site") else "correct the file"
    return HostError(f"{what}: {key}: {why}", where=path, hint=hint)


def read_table(
    tables: Mapping[str, Any], name: str, readers: Mapping[str, Callable[[object], Value]], *, path: str, what: str
) -> dict[str, Value]:
    """What a table says, each key by its own reader, whose ValueError says what is wrong with it.

    Raises `HostError` naming the first key that is not understood.
    """
    table = tables.get(name, {})
    if not isinstance(table, dict):
        raise refuse(path, what, name, f"is a table: [{name}]")
    found: dict[str, Value] = {}
    for key, value in table.items():
        if key not in readers:
            raise refuse(path, what, f"{name}.{key}", f"no such key; known are {', '.join(readers)}")
        try:
            found[key] = readers[key](value)
        except ValueError as error:
            raise refuse(path, what, f"{name}.{key}", str(error)) from None
    return found


def as_count(value: object, most: int) -> int:
    """A whole number from 1 to ``most``. ValueError says what is wrong."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise ValueError(f"a whole number from 1 to {most}, not {value!r}")
    return value


def as_rate(value: object) -> float:
    """So many a second. ValueError says what is wrong."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.1 <= value <= 1e6:
        raise ValueError(f"a number from 0.1 to 1000000, not {value!r}")
    return float(value)


def as_bytes(value: object, least: int) -> int:
    """An amount, with its unit. ValueError says what is wrong."""
    amount = parse_bytes(value) if isinstance(value, str) else value
    if isinstance(amount, bool) or not isinstance(amount, int) or amount < least:
        raise ValueError(f"at least {show_bytes(least)}, written like \"64M\", not {value!r}")
    if amount > MOST_BYTES:
        raise ValueError(f"at most {show_bytes(MOST_BYTES)}")
    return amount


def _check_owner(fd: int, path: str, what: str, whose: str, owners: Collection[int]) -> None:
    status = os.fstat(fd)
    administrator = "the administrator " if whose == "root" else ""
    if not stat.S_ISREG(status.st_mode):
        raise HostError(f"{what} is not a regular file", where=path)
    if status.st_uid not in owners:
        raise HostError(
            f"{what} belongs to user {status.st_uid}, not to {whose}", where=path,
            hint=f"{administrator}gives it to root or removes it" if administrator else "remove it",
        )  # fmt: skip
    if status.st_mode & 0o022:
        raise HostError(
            f"others than {whose} may write {what}", where=path,
            hint=f"{administrator}takes that right away (chmod go-w)" if administrator else "chmod go-w",
        )  # fmt: skip


def _decode(data: bytes, path: str, what: str) -> dict[str, Any]:
    if len(data) > _MOST_BYTES:
        raise HostError(f"{what} is over 64 KiB", where=path)
    try:
        return tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:  # not UTF-8, not TOML, numbers beyond what Python holds
        raise HostError(f"{what} is not TOML: {str(error)[:200]!r}", where=path) from None
