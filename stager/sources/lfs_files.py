"""LFS objects of a repository in a directory of this host: files below its ``lfs/objects``.

As git-lfs's own transfer for file URLs has them (git-lfs-standalone-file(1); docs/spec.md, "{OID-PATH}"). Which
directory is the repository is found as git's file transport finds it (git-upload-pack(1), "--strict"): PATH/.git, PATH,
PATH.git. Its configuration is somebody else's and is not read, so ``lfs.storage`` there is not known here.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from typing import Final

from stager.errors import NotFoundError
from stager.sources.lfs_answer import Trouble
from stager.sources.lfs_href import Action
from stager.sources.lfs_pointer import Pointer

__all__ = ["file_actions", "object_directory"]

_SUFFIXES: Final = ("/.git", "", ".git/.git", ".git")
_MOST_LINK_BYTES: Final = 4096


def object_directory(path: str) -> str:
    """Where the LFS objects of the repository at ``path`` are. Blocks. Raises `NotFoundError`: no repository there."""
    for suffix in _SUFFIXES:
        found = path + suffix
        if os.path.isfile(found) and suffix.endswith(".git"):
            found = _linked(found)
        if os.path.isdir(os.path.join(found, "objects")) and os.path.isfile(os.path.join(found, "HEAD")):
            return os.path.join(found, "lfs", "objects")
    raise NotFoundError("no repository with LFS objects is there", where=path, hint="check the path")


def _linked(file: str) -> str:
    """What a ``.git`` file names (gitrepository-layout(5)); of a further work tree the repository that it is of."""
    named = _first_line(file).removeprefix("gitdir: ")
    found = os.path.join(os.path.dirname(file), named)
    common = os.path.join(found, "commondir")
    return os.path.join(found, _first_line(common)) if os.path.isfile(common) else found


def _first_line(file: str) -> str:
    try:
        with open(file, "rb") as opened:
            return os.fsdecode(opened.read(_MOST_LINK_BYTES).partition(b"\n")[0])
    except OSError:
        return ""


def file_actions(directory: str, wanted: Sequence[Pointer]) -> tuple[dict[str, Action], dict[str, Trouble]]:
    """By oid: the file of each object that is there, and why others cannot be had. Blocks."""
    actions: dict[str, Action] = {}
    troubles: dict[str, Trouble] = {}
    for pointer in wanted:
        path = os.path.join(directory, pointer.oid[:2], pointer.oid[2:4], pointer.oid)
        try:
            status = os.stat(path)
        except OSError as error:
            troubles[pointer.oid] = Trouble(404, os.strerror(error.errno or 0))
            continue
        if not stat.S_ISREG(status.st_mode):
            troubles[pointer.oid] = Trouble(422, "is no file")
        elif status.st_size != pointer.size:
            troubles[pointer.oid] = Trouble(422, f"has {status.st_size} bytes there, not {pointer.size}")
        else:
            actions[pointer.oid] = Action(path)
    return actions, troubles
