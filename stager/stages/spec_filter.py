"""What a dataset's table says of the files that are wanted: the language of the command line, in TOML.

``include`` and ``exclude`` are lists of patterns; those of ``include`` come first, so what ``exclude`` names is out. A
``!`` in front turns a pattern round: ``exclude`` alone can say what a .gitignore can.
"""

from __future__ import annotations

import os
import stat
import time
from typing import Final

from stager.filters import Filter, build_filter, parse_paths
from stager.names import show
from stager.stages.spec_schema import Problems, SourceTable, shown

__all__ = ["filter_of"]

_MOST_BYTES: Final = 64 << 20


def filter_of(place: str, table: SourceTable, base: str, problems: Problems) -> Filter:
    """The filter of one source; ``base``: what ``files_from`` is meant from. Mistakes go to ``problems``."""
    rules = [
        (f"{place}.{name}", name == "include", text)
        for name in ("include", "exclude")
        for text in getattr(table, name)
    ]

    def written(name: str) -> tuple[str, str] | None:
        text = getattr(table, name)
        return None if text is None else (f"{place}.{name}", text)

    paths = None
    if table.files_from is not None:
        paths = _paths(f"{place}.files_from", os.path.join(base, table.files_from), problems)
    return build_filter(
        rules,
        paths=paths,
        min_size=written("min_size"),
        max_size=written("max_size"),
        newer=written("newer"),
        now_s=time.time(),
        add=problems.add,
    )


def _paths(place: str, path: str, problems: Problems) -> frozenset[bytes]:
    try:
        data = _read(path)
    except (OSError, ValueError) as error:
        why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        problems.add(place, f"{shown(path)} cannot be read: {why}")
        return frozenset()
    paths, directories = parse_paths(data, nul=b"\0" in data)
    for directory in directories:
        problems.add(place, f"{show(directory)} is a directory: name its files, or use include")
    return paths


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ValueError("it is not a regular file")
        data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise ValueError(f"it is longer than {_MOST_BYTES} bytes")
    return data
