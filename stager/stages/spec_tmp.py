"""``[tmp]`` of a job file: the size of its RAM disk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from stager.amounts import parse_bytes, show_bytes
from stager.model import TmpSpec
from stager.stages.spec_schema import Problems, TmpTable, convert_table, shown

__all__ = ["tmp_of"]

_LEAST: Final = 1 << 20
_LEAST_INODES: Final = 16
_MOST_INODES: Final = 1 << 31


def tmp_of(table: Mapping[str, Any], problems: Problems) -> TmpSpec:
    """What the file's tables say of it. Mistakes go to ``problems``."""
    found = convert_table("tmp", table["tmp"], TmpTable, problems) if "tmp" in table else None
    if found is None:
        return TmpSpec()
    size = None
    if found.ramfs_size is not None:
        try:
            size = parse_bytes(found.ramfs_size)
        except ValueError as error:
            problems.add("tmp.ramfs_size", f"{shown(found.ramfs_size)}: {error}")
        else:
            if size < _LEAST:
                problems.add("tmp.ramfs_size", f"at least {show_bytes(_LEAST)}")
    if found.ramfs_inodes is not None and not _LEAST_INODES <= found.ramfs_inodes <= _MOST_INODES:
        problems.add("tmp.ramfs_inodes", f"from {_LEAST_INODES} to {_MOST_INODES}")
    return TmpSpec(ramfs_bytes=size, ramfs_inodes=found.ramfs_inodes)
