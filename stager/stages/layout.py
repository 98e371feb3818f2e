"""``--layout data=/data,code=/code,logs=/logs``: volumes that are mounted already, in the place of a job's tree."""

from __future__ import annotations

import difflib
import os
from typing import Final

from msgspec import Struct

from stager.errors import SpecError
from stager.host.mounts import lies_within
from stager.model import JobSpec

__all__ = ["Layout", "check_layout", "parse_layout"]

_NAMES: Final = ("data", "code", "logs")


class Layout(Struct, frozen=True, kw_only=True):
    """Where datasets, code and logs belong: canonical paths; None: nowhere."""

    data: str | None = None
    code: str | None = None
    logs: str | None = None



def parse_layout(text: str | None) -> Layout:
    """``NAME=DIR`` pairs. Raises `SpecError` with every mistake. Blocks: symlinks in the paths are resolved."""
    problems: list[str] = []
    found: dict[str, str] = {}
    for pair in text.split(",") if text is not None else ():
        name, separator, path = pair.partition("=")
        if name not in _NAMES:
            near = difflib.get_close_matches(name, _NAMES, n=1)
            meant = f"did you mean {near[0]}?" if near else f"known: {', '.join(_NAMES)}"
            problems.append(f"{name[:80]!a} is not known; {meant}")
        elif not separator or not path.startswith("/"):
            problems.append(f"{name}={path[:200]!a} is no absolute path")
        elif name in found:
            problems.append(f"{name} is there twice")
        else:
            found[name] = os.path.realpath(path)
    problems += [
        f"{one} and {other} lie in one another"
        for one, path in found.items()
        for other, above in found.items()
        if one != other and lies_within(path, above) and (path != above or one < other)
    ]
    if "/" in found.values():
        problems.append("the root directory is no volume")
    if problems:
        raise SpecError(f"{len(problems)} mistake{'s' if len(problems) > 1 else ''}", problems, where="--layout")
    return Layout(**found)


def check_layout(layout: Layout, spec: JobSpec) -> None:
    """Whether the job can be staged so. Raises `SpecError` with everything that has no place."""
    mounted = [dataset.name for dataset in spec.datasets if dataset.source.is_mounted]
    mounted += [f"/public/{public.name}" for public in spec.public]
    problems = [f"{name}: what is not copied has to be mounted by whoever mounts the volumes" for name in mounted]
    if spec.resources:
        problems.append("the job has resources, and TASK_PATH is no volume of the layout")
    if layout.data is None and any(not dataset.source.is_mounted for dataset in spec.datasets):
        problems.append("the job has datasets, the layout no data=DIR")
    if layout.code is None and spec.code is not None:
        problems.append("the job has code, the layout no code=DIR")
    if layout.logs is not None and not os.access(layout.logs, os.W_OK | os.X_OK, effective_ids=True):
        problems.append(f"logs: {layout.logs} is no directory that you may write to")
    if problems:
        raise SpecError(f"{len(problems)} mistake{'s' if len(problems) > 1 else ''}", problems, where="--layout")
