"""What a job was asked for, kept beside its record, so that another like it can be made (`stager create --from`).

JSON of `JobSpec` and of how S3 is reached, mode 0600 as it may hold what the user put into ``[job] environment``; read
back by its types, so that a damaged file is an error and nothing in it is believed to be more than data.
"""

from __future__ import annotations

import json
import os
from typing import Final

import msgspec
from msgspec import Struct

from stager.config import Remote
from stager.errors import HostError, NotFoundError, from_os_error
from stager.host.atomic import read_regular, write_file
from stager.host.record import JobDirectory
from stager.model import JobSpec

__all__ = ["SETTINGS", "Settings", "keep_settings", "read_settings"]

SETTINGS: Final = "settings.json"
"""In a job's directory: as it was asked for."""

_SCHEMA: Final = 1
_MOST_BYTES: Final = 16 << 20
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Settings(Struct, frozen=True, kw_only=True):
    """A job, and how S3 is reached where it names no remote."""

    spec: JobSpec
    remote: Remote | None = None
    schema: int = _SCHEMA


def keep_settings(job: JobDirectory, settings: Settings, name: str = SETTINGS) -> None:
    """Write them into a job's directory, or one below. Blocks. Raises `HostError`, `NoSpaceError`.

    Not flushed: what a power cut leaves of them is told as damaged by whoever wants them.
    """
    # The standard library's: a path of the command line may be no UTF-8, which it keeps as lone surrogates.
    text = json.dumps(msgspec.to_builtins(settings), indent=2)
    below, _, name = name.rpartition("/")
    fd = os.open(os.path.join(job.path, below), _DIRECTORY)
    try:
        write_file(fd, name, [text.encode("ascii"), b"\n"], mode=0o600)
    finally:
        os.close(fd)


def read_settings(directory: str, name: str = SETTINGS) -> Settings:
    """Those of the job in ``directory``. Blocks. Raises `NotFoundError`: none are kept; `HostError`: damaged."""
    where = os.path.join(directory, name)
    try:
        fd = os.open(os.path.dirname(where), _DIRECTORY)
        try:
            data = read_regular(os.path.basename(where), dir_fd=fd, most=_MOST_BYTES)
        finally:
            os.close(fd)
    except FileNotFoundError:
        hint = "it failed before they were written, or an earlier version of stager made it: name its job file"
        raise NotFoundError("the settings of this job are not kept", where=where, hint=hint) from None
    except OSError as error:
        raise from_os_error(error, doing="read the job's settings", where=where) from error
    try:
        return msgspec.convert(json.loads(data), Settings)
    except (ValueError, RecursionError) as error:
        hint = "name the job file"
        raise HostError(f"the job's settings are damaged: {error}", where=where, hint=hint) from None
