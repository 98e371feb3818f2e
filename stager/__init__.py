"""stager: the data a compute job needs is on the node, verified, before the job starts.

The layers; imports point down only::

    cli         arguments, printing, errors to exit codes
    pipeline    the only places that know the order (pipeline and its decision, verify, jobs; leftovers, telling)
    stages      one verb a module: spec pin choose plan place fetch publish delete inspect mount run collect
    sources     s3 git local bind
    transfer    asyncio face of the native engine
    host        this node: atomic files, mounts, processes, records, git
    _native     thin border to the C engine in csrc/
    values      errors config model events manifest names urls globs filters deletion

A job's script uses two functions, which import nothing of the above: `get_data_path`, `get_logs_path`.
"""

from __future__ import annotations

import importlib

from stager.paths import get_data_path, get_logs_path
from stager.version import __version__

TYPE_CHECKING = False  # type checkers take it for true, and `typing` takes as long to import as Python to start
if TYPE_CHECKING:
    from typing import Any

    from stager.errors import StagerError
    from stager.model import JobSpec
    from stager.stages.spec import load_spec
    from stager.urls import parse_source

__all__ = [
    "JobSpec",
    "StagerError",
    "__version__",
    "get_data_path",
    "get_logs_path",
    "load_spec",
    "parse_source",
]

_LAZY = {
    "JobSpec": "stager.model",
    "StagerError": "stager.errors",
    "load_spec": "stager.stages.spec",
    "parse_source": "stager.urls",
}


def __getattr__(name: str) -> Any:
    """The rest of the public API, imported on first use: a job script that wants two paths pays for no more."""
    if name not in _LAZY:
        raise AttributeError(f"module 'stager' has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return __all__
