"""What a commit's .gitmodules says of its submodules, read by git itself and judged as its submodule-config.c does."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from stager.errors import BadKeysError, IntegrityError, SourceError
from stager.host.git_reader import FILE, PROGRAM, CommitReader
from stager.sources.git_repository import Repository

__all__ = ["MODULES", "Module", "read_modules"]

MODULES: Final = b".gitmodules"
_MOST_BYTES: Final = 1 << 20
_KEY: Final = re.compile(rb"(?s)submodule\.(?P<name>.+)\.(?P<variable>path|url|update)")
_CLIMBS: Final = re.compile(rb"(?:\A|[/\\])\.\.(?:\Z|[/\\])")


class Module(Struct, frozen=True, kw_only=True):
    """One section: ``url`` as it stands there; ``wanted``: its authors do not say ``update = none``."""

    url: str
    wanted: bool


async def read_modules(repository: Repository, reader: CommitReader, *, where: str) -> Mapping[bytes, Module]:
    """The submodules by their paths. Raises `BadKeysError` (the file is no such configuration), `IntegrityError`."""
    row = (await reader.entries([MODULES])).get(MODULES)
    if row is None:
        return {}
    await repository.bring([row.blob])
    size = (await reader.sizes([row.blob])).get(row.blob, 0)
    if row.mode not in (FILE, PROGRAM) or size > _MOST_BYTES:
        raise BadKeysError("the tree cannot be staged", [".gitmodules: is no file of a usual size"], where=where)
    try:
        pairs = await reader.configuration(row.blob)
    except SourceError as error:
        if isinstance(error, IntegrityError):
            raise
        raise BadKeysError("the tree cannot be staged", [f".gitmodules: {error.what}"], where=where) from None
    sections: dict[bytes, dict[bytes, bytes]] = {}
    for key, value in pairs:
        if (found := _KEY.fullmatch(key)) and value is not None:
            sections.setdefault(found["name"], {})[found["variable"]] = value
    return {
        section[b"path"]: Module(url=os.fsdecode(section[b"url"]), wanted=section.get(b"update") != b"none")
        for name, section in sections.items()
        if b"path" in section and b"url" in section and not _CLIMBS.search(name)
    }
