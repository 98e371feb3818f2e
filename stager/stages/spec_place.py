"""What a job file's dataset wants to lie on."""

from __future__ import annotations

import os
from typing import Final

from stager.model import SourceRef
from stager.placement import ANYWHERE
from stager.stages.spec_schema import DatasetTable, Problems, shown

__all__ = ["place_of"]

_KINDS: Final = (ANYWHERE, "nvme", "ram")


def place_of(place: str, table: DatasetTable, source: SourceRef, problems: Problems) -> str:
    """The ``place`` of one ``[[dataset]]``, as `stager.placement.Wanted` has it. Mistakes go to ``problems``."""
    wanted = table.place
    if wanted in _KINDS:
        if wanted != ANYWHERE and source.is_mounted:
            problems.add(f"{place}.place", "is for what is copied")
        return wanted
    if not wanted.startswith("/") or "\0" in wanted or ".." in wanted.split("/"):
        kinds = ", ".join(f'"{kind}"' for kind in _KINDS)
        problems.add(f"{place}.place", f"{shown(wanted)} is none of {kinds}, and no absolute path")
    elif source.is_mounted:
        problems.add(f"{place}.place", "is for what is copied")
    return "/" + os.path.normpath(wanted).lstrip("/")
