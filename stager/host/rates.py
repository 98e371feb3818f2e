"""How fast this node's disks were last seen to write: a file in the user's default scratch, which is the node's own.

A measurement belongs to disks, not to a path: it is kept under their identities and the kind of file system, and says
nothing of another disk that is mounted in the same place.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

import msgspec

from stager.errors import HostError
from stager.host.atomic import read_regular, write_file
from stager.host.scratch import DEFAULT_TOP, open_scratch
from stager.placement import Root

__all__ = ["Rate", "keep_rate", "key_of", "rate_of", "read_rates"]

_FILE: Final = "rates.json"
_MOST_BYTES: Final = 1 << 20
_MOST_RATES: Final = 64  # disks come and go
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """``measured_s`` is a Unix time. ``how``: "direct" past the page cache, or "fsync"."""

    bytes_per_s: float
    measured_s: float
    how: str


def key_of(root: Root) -> str | None:
    """What a measurement is kept under; None: nothing tells these disks from others."""
    if not root.disks:
        return None
    return " ".join([root.file_system, *root.layers, *sorted(disk.identity for disk in root.disks)])


def rate_of(root: Root, rates: Mapping[str, Rate]) -> float | None:
    """Bytes a second, when it was measured."""
    key = key_of(root)
    return rates[key].bytes_per_s if key is not None and key in rates else None


def read_rates() -> dict[str, Rate]:
    """All that was measured on this node; nothing where that cannot be read, or could be another user's. Blocks."""
    with suppress(OSError, HostError, msgspec.MsgspecError, ValueError):
        own = os.open(os.path.join(DEFAULT_TOP, f"stager-{os.geteuid()}"), _DIRECTORY)
        try:
            found = os.fstat(own)
            if found.st_uid == os.geteuid() and not found.st_mode & 0o022:
                return msgspec.json.decode(read_regular(_FILE, dir_fd=own, most=_MOST_BYTES), type=dict[str, Rate])
        finally:
            os.close(own)
    return {}


def keep_rate(root: Root, rate: Rate) -> bool:
    """Keep it for the next jobs; False: nothing tells these disks from others. Blocks. `HostError`, `NoSpaceError`."""
    key = key_of(root)
    if key is None:
        return False
    own = os.open(open_scratch(DEFAULT_TOP, {}), _DIRECTORY)
    try:
        latest = sorted({**read_rates(), key: rate}.items(), key=lambda kept: kept[1].measured_s)[-_MOST_RATES:]
        write_file(own, _FILE, [msgspec.json.encode(dict(latest))], mode=0o600)
    finally:
        os.close(own)
    return True
