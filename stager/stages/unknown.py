"""Names that mean nothing here, or nothing that this user may read, found before a job has a directory.

What another machine has to answer for is asked when it is copied, or mounted.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from stager.errors import AccessDeniedError, NotFoundError
from stager.model import JobSpec, SourceRef
from stager.names import show

__all__ = ["refuse_unknown"]


def refuse_unknown(spec: JobSpec) -> None:
    """Look at every directory that the job's data or code is copied from. Blocks.

    Raises `NotFoundError` or `AccessDeniedError` with all of them that cannot be had; the first when some are missing.
    """
    missing: list[str] = []
    denied: list[str] = []
    for name, source in _copied(spec):
        where = f"{name}: {show(os.fsencode(source.location))}"
        try:
            is_directory = stat.S_ISDIR(os.stat(source.location).st_mode)
        except PermissionError:
            denied.append(where)
        except OSError:
            missing.append(where)
        else:
            if not is_directory:
                continue  # the source says so itself, and what to do
            if not os.access(source.location, os.R_OK | os.X_OK, effective_ids=True):
                denied.append(where)
    every = ", ".join(missing + denied)
    if missing:
        raise NotFoundError("no such directory" if len(missing) == 1 else "no such directories", where=every)
    if denied:
        raise AccessDeniedError("you may not read it", where=every, hint="ask its owner for a share")


def _copied(spec: JobSpec) -> Iterator[tuple[str, SourceRef]]:
    for dataset in spec.datasets:
        if dataset.source.scheme == "file":
            yield dataset.name, dataset.source
    if spec.code is not None and spec.code.source.scheme == "file":
        yield "code", spec.code.source
