"""Places in which nothing is deleted, whoever asks for it."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator, Mapping
from contextlib import suppress

from stager.errors import UsageError
from stager.host.mounts import lies_within, read_mountinfo

__all__ = ["refuse_to_delete_in"]


def refuse_to_delete_in(path: str, environ: Mapping[str, str]) -> None:
    """Raise `UsageError` when a directory is ``/``, a home directory, above one, or a mount point. Blocks. OSError."""
    real = os.path.realpath(path)
    if real == "/":
        raise _refusal("is the root directory", path)
    for home in _homes(real, environ):
        if lies_within(home, real):
            raise _refusal("is a home directory" if home == real else f"holds the home directory {home}", path)
    if any(row.mountpoint == real for row in read_mountinfo()):
        raise _refusal("is a mount point", path)


def _homes(path: str, environ: Mapping[str, str]) -> Iterator[str]:
    """The user's own, by environment and by the system's users, and that of whoever owns the directory."""
    if home := environ.get("HOME"):
        yield os.path.realpath(home)
    uids = {os.geteuid(), os.getuid()}
    with suppress(FileNotFoundError):
        uids.add(os.stat(path).st_uid)
    for uid in uids:
        with suppress(KeyError):
            yield os.path.realpath(pwd.getpwuid(uid).pw_dir)


def _refusal(what: str, where: str) -> UsageError:
    return UsageError(f"{what}: nothing is deleted in it", where=where, hint="sync into a directory of its own")
