"""Where the storages of jobs lie here, and whether this user can have them."""

from __future__ import annotations

import os
from contextlib import suppress

from stager.errors import HostError, StagerError
from stager.host import syscalls
from stager.host.findings import Finding
from stager.host.probe import probe_directories
from stager.host.site import site_storage
from stager.host.storage import open_top

__all__ = ["storage"]

_ANSWER_WITHIN_S = 10.0
_COST = "what jobs keep in /mnt/user_storage and its kind is not there on other nodes, nor for other users"


def storage() -> Finding:
    """Nothing is made. Blocks. Raises `HostError`: the site's configuration cannot be believed."""
    settings = site_storage()
    tops = {name: path for name in ("cluster", "user", "shared") if (path := getattr(settings, name))}
    alone = [name for name in ("cluster", "user", "shared") if name not in tops]
    probes = probe_directories(list(tops.values()), limit_s=_ANSWER_WITHIN_S) if tops else []
    problems = []
    for (name, path), probe in zip(tops.items(), probes, strict=True):
        why = "does not answer" if probe.error == -1 else os.strerror(probe.error) if probe.error else ""
        if why := why or _why_not(name, path):
            problems.append(f"{name} storage {path}: {why}")
    if problems:
        return Finding(what="storage", found="; ".join(problems), state="problem", details=tops)
    told = [f"{name} in {path}" for name, path in tops.items()]
    if not alone:
        return Finding(what="storage", found=", ".join(told), details=tops)
    told.append(f"{', '.join(alone)} in the scratch of each user: no place in [storage]")
    return Finding(what="storage", found=", ".join(told), state="lacking", cost=_COST, details=tops)


def _why_not(name: str, path: str) -> str:
    """Why this user's jobs cannot use a place that answers; "": they can."""
    try:
        if name != "shared":
            os.close(open_top(path))
        if name == "user":
            with suppress(FileNotFoundError):
                if os.lstat(os.path.join(path, str(os.geteuid()))).st_uid != os.geteuid():
                    raise HostError("your directory in it belongs to another user", where=path)
                return ""
        syscalls.check_access(path, os.W_OK | os.X_OK)
    except StagerError as error:
        return error.what
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return ""
