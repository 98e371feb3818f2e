"""Where the storages below /mnt lie that outlive a job or are not one node's: ``[storage]`` of `stager.host.site`.

::

    [storage]                         # directories that all nodes share, as of NFS; each may be left out
    cluster = "/nfs/stager/cluster"   # of mode 1777: a directory for each job
    user = "/nfs/stager/users"        # of mode 1777, or with a directory for each user id, 0700
    shared = "/nfs/stager/shared"     # as its users may write
    cloud = "research"                # the directory of this name in each of them, apart from what other clouds have
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Final

from msgspec import Struct

from stager.host.settings_file import read_table
from stager.model import JOB_NAME

__all__ = ["StorageSettings", "storage_in"]


class StorageSettings(Struct, frozen=True, kw_only=True):
    """The directories, that of the cloud included; "": none is configured."""

    file: str = ""
    cluster: str = ""
    user: str = ""
    shared: str = ""
    cloud: str = ""


def storage_in(tables: Mapping[str, Any], path: str, what: str) -> StorageSettings:
    """The ``[storage]`` of a file's tables. Raises `HostError` naming the first key that is not understood."""
    found = read_table(tables, "storage", _READERS, path=path, what=what)
    cloud = found.pop("cloud", "")
    tops = {name: os.path.join(top, cloud) if cloud else top for name, top in found.items()}
    return StorageSettings(file=path if found else "", cloud=cloud, **tops)


def _directory(value: object) -> str:
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value or ".." in value.split("/"):
        raise ValueError(f"an absolute path, not {value!a}")
    plain = "/" + os.path.normpath(value).lstrip("/")
    if plain == "/":
        raise ValueError("the root directory of the node is no storage")
    return plain


def _cloud(value: object) -> str:
    if not isinstance(value, str) or not JOB_NAME.fullmatch(value):
        raise ValueError(f"letters, digits, '.', '_' and '-', at most 128, not {value!a}")
    return value


_READERS: Final[dict[str, Callable[[object], str]]] = {
    "cluster": _directory,
    "user": _directory,
    "shared": _directory,
    "cloud": _cloud,
}
