"""Directories of a destination that were there before a sync put something in them: they stay, even when empty.

``STATE/foreign.json`` lists them, once there are any.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from typing import Final

import msgspec

from stager.errors import from_os_error
from stager.host.atomic import read_regular, write_file
from stager.host.removal import Tree
from stager.names import from_json, to_json, what_is_wrong

__all__ = ["DamagedForeignError", "find_foreign", "read_foreign", "save_foreign"]

_NAME: Final = "foreign.json"
_SCHEMA: Final = 1
_MOST_BYTES: Final = 256 << 20


class _Told(msgspec.Struct, frozen=True, kw_only=True):
    schema: int
    directories: list[str | dict[str, str]]


_decoder: Final = msgspec.json.Decoder(_Told)


class DamagedForeignError(Exception):
    """The bytes are no whole list of this version. Never leaves the pipeline."""


def read_foreign(state_fd: int | None) -> frozenset[bytes]:
    """Those that are known. Blocks. Raises `DamagedForeignError`, `HostError`."""
    if state_fd is None:
        return frozenset()
    try:
        data = read_regular(_NAME, dir_fd=state_fd, most=_MOST_BYTES)
    except FileNotFoundError:
        return frozenset()
    except OSError as error:
        raise from_os_error(error, doing="read the file", where=_NAME) from error
    try:
        told = _decoder.decode(data)
        found = frozenset(map(from_json, told.directories))
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise DamagedForeignError(str(error)) from error
    if told.schema != _SCHEMA or any(map(what_is_wrong, found)):
        raise DamagedForeignError("another version, or a path that is none")
    return found


def save_foreign(state_fd: int, directories: Iterable[bytes], *, durable: bool = False) -> None:
    """Make these the ones that are known; ``durable``: on the disk too. Blocks. Raises `NoSpaceError`, `HostError`."""
    told = _Told(schema=_SCHEMA, directories=[to_json(path) for path in sorted(directories)])
    write_file(state_fd, _NAME, [msgspec.json.encode(told)], durable=durable)


def find_foreign(root_fd: int, unknown: Collection[bytes]) -> frozenset[bytes]:
    """Of directories in which no sync is known to have put anything, those that are there. Blocks. `HostError`."""
    found: set[bytes] = set()
    try:
        with Tree(root_fd) as tree:
            for path in sorted(unknown):  # what lies in a missing one is missing
                above = path.rpartition(b"/")[0]
                if (not above or above in found or above not in unknown) and tree.has_directory(path):
                    found.add(path)
    except OSError as error:
        raise from_os_error(error, doing="look for directories", where=os.fsdecode(error.filename or b"")) from error
    return frozenset(found)
