"""Which LFS objects are wanted: by the options of the source; without any by lfs.fetchinclude and lfs.fetchexclude.

As git-lfs does (3.3): each of the two is the user's git configuration's, else ``.lfsconfig``'s; lists with commas, of
globs as in gitignore, meant from the root of the repository that they are of; an empty one stands for no list. A slash
or backslash at a glob's end is nothing, and a glob that can match nothing matches nothing.

Sources: git-lfs-config(5), "Fetch settings" and "LFSCONFIG"; git-lfs-fetch(1), "INCLUDE AND EXCLUDE".
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Final

from msgspec import Struct

from stager.config import GitOptions
from stager.globs import compile_glob
from stager.host.git_settings import GitSettings, read_settings
from stager.sources.base import Wanted

__all__ = ["Configured", "LfsChoice", "configured_for", "is_chosen"]

_INCLUDE: Final = "lfs.fetchinclude"
_EXCLUDE: Final = "lfs.fetchexclude"
_NEVER: Final = rb"(?!)"


class Configured(Struct, frozen=True):
    """The two as the user's git configuration has them; None: it says nothing, or is not asked."""

    include: str | None = None
    exclude: str | None = None


class LfsChoice(Struct, frozen=True, kw_only=True):
    """What is wanted of a source's LFS objects. ValueError of `wanted`: an option's glob that is none."""

    options: GitOptions
    configured: Configured

    def wanted(self, committed: GitSettings, at: bytes) -> Wanted:
        """Of a repository's objects, by their paths from its root; ``at``: where it is mounted, as options see it."""
        options = self.options
        if is_chosen(options):
            prefix = at + b"/" if at else b""
            chosen = _chooser(
                _matcher(map(_glob_of_option, options.lfs_include)), _matcher(map(_glob_of_option, options.lfs_exclude))
            )
            return lambda path: chosen(prefix + path)
        lists = (
            (self.configured.include, committed.get(_INCLUDE)), (self.configured.exclude, committed.get(_EXCLUDE)),
        )  # fmt: skip
        include, exclude = (_listed(theirs if mine is None else mine) for mine, theirs in lists)
        return _chooser(include, exclude)


async def configured_for(options: GitOptions, url: str, environ: Mapping[str, str], proxy: str | None) -> Configured:
    """What the user's configuration says, where no option does. Raises as `stager.host.git_settings.read_settings`."""
    if not options.lfs or is_chosen(options):
        return Configured()
    settings = await read_settings(url, environ, proxy)
    return Configured(settings.get(_INCLUDE), settings.get(_EXCLUDE))


def is_chosen(options: GitOptions) -> bool:
    """Whether options say which objects are wanted."""
    return bool(options.lfs_include or options.lfs_exclude)


_Match = Callable[[bytes], object]


def _chooser(include: _Match | None, exclude: _Match | None) -> Wanted:
    return lambda path: (include is None or bool(include(path))) and not (exclude is not None and exclude(path))


def _glob_of_option(pattern: str) -> bytes:
    return compile_glob(os.fsencode(pattern))


def _listed(value: str | None) -> _Match | None:
    if value is None or not value.strip():
        return None
    return _matcher([_NEVER, *filter(None, map(_glob_of_list, value.split(",")))])


def _glob_of_list(entry: str) -> bytes:
    text = entry.strip()
    text = re.sub("/+", "/", text[:-1] if text.endswith(("/", "\\")) else text)
    with suppress(ValueError):
        return compile_glob(os.fsencode(text))
    return b""


def _matcher(globs: Iterable[bytes]) -> _Match | None:
    parts = [b"(?:" + glob + b")" for glob in globs]
    return re.compile(b"|".join(parts)).match if parts else None
