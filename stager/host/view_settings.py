"""What a site shows in every job, whoever's and wherever it comes from: ``[view]`` of `stager.host.site`.

::

    [view.public]                     # read-only, at /public/NAME
    imagenet = "/srv/public/imagenet"

    [view.binds]                      # the directory itself, at /data/OWNER/NAME: writes reach it
    "lab/scans" = "/mnt/efs/scans"
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from msgspec import Struct, field

from stager.host.settings_file import read_table
from stager.model import DATASET_NAME, PUBLIC_NAME

__all__ = ["ViewSettings", "view_in"]


class ViewSettings(Struct, frozen=True, kw_only=True):
    """Directories of the node, by name."""

    public: Mapping[str, str] = field(default_factory=dict)
    binds: Mapping[str, str] = field(default_factory=dict)


def view_in(tables: Mapping[str, Any], path: str, what: str) -> ViewSettings:
    """The ``[view]`` of a file's tables. Raises `HostError` naming the first key that is not understood."""
    return ViewSettings(**read_table(tables, "view", _READERS, path=path, what=what))


def _directories(value: object, names: re.Pattern[str], kind: str) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError(f"a table of directories by {kind}")  # noqa: TRY004 (what `read_table` expects)
    found = {}
    for name, path in value.items():
        if not names.fullmatch(name):
            raise ValueError(f"{name!a} is no {kind}")
        plain = "/" + os.path.normpath(path).lstrip("/") if isinstance(path, str) and path.startswith("/") else "/"
        if plain == "/" or "\0" in plain or ".." in path.split("/"):
            raise ValueError(f"{name}: the absolute path of a directory, not {path!a}")
        found[name] = plain
    return found


_READERS: Final[dict[str, Callable[[object], dict[str, str]]]] = {
    "public": partial(_directories, names=PUBLIC_NAME, kind="name"),
    "binds": partial(_directories, names=DATASET_NAME, kind="OWNER/NAME"),
}
