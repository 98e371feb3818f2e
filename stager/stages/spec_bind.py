"""What a job file says of a dataset that is mounted and not copied."""

from __future__ import annotations

import re
from typing import Final

from stager.model import SourceRef
from stager.stages.spec_schema import DatasetTable, Problems, shown

__all__ = ["mounted_of"]

_TYPE: Final = re.compile(r"[a-z0-9][a-z0-9._+-]{0,63}")


def mounted_of(place: str, table: DatasetTable, source: SourceRef, problems: Problems) -> str | None:
    """``mounted``: the type of file system that a bind source has to be on. Mistakes go to ``problems``."""
    if table.mounted is not None:
        if source.scheme != "bind":
            problems.add(f"{place}.mounted", "is for bind: sources")
        elif not _TYPE.fullmatch(table.mounted):
            problems.add(f"{place}.mounted", f'{shown(table.mounted)} is no type of file system, such as "nfs4"')
    return table.mounted
