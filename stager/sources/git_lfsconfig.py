"""``.lfsconfig`` at the root of a commit: what its authors say of Git LFS, as far as git-lfs takes it from there.

Source: git-lfs-config(5), "LFSCONFIG".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from stager.errors import SourceError
from stager.host.git_reader import CommitReader
from stager.host.git_settings import GitSettings, parse_settings
from stager.sources.git_repository import Repository
from stager.urls import redacted

__all__ = ["LFSCONFIG", "read_lfsconfig", "to_record"]

LFSCONFIG: Final = b".lfsconfig"
_MOST_BYTES: Final = 64 << 10
_LEADS: Final = re.compile(r"(?s)lfs\.url|remote\..+\.lfsurl|lfs\..+\.access")


async def read_lfsconfig(
    repository: Repository, reader: CommitReader, environ: Mapping[str, str], *, where: str
) -> GitSettings:
    """What it says; nothing, where there is none. Raises `SourceError`: it is no configuration, or a large one."""
    entry = (await reader.entries([LFSCONFIG])).get(LFSCONFIG)
    if entry is None:
        return GitSettings()
    if repository.partial:
        await repository.bring([entry.blob])
    if (await reader.sizes([entry.blob])).get(entry.blob, 0) > _MOST_BYTES:
        raise SourceError(f".lfsconfig has more than {_MOST_BYTES >> 10} KiB", where=where)
    text = b"".join([content async for _, content in reader.read_blobs([entry.blob])])
    return await parse_settings(text, environ, where=".lfsconfig of the commit")


def to_record(config: GitSettings | None) -> tuple[tuple[str, str], ...] | None:
    """What of it leads to objects, so that the commit is not needed to fetch some again. None: not read, or nothing to
    be written down, for there is a user in a URL, and perhaps a password.
    """
    if config is None:
        return None
    items = tuple((name, value) for name, value in config.items if _LEADS.fullmatch(name))
    return items if all(redacted(text) == text for item in items for text in item) else None
