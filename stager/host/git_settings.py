"""What the user's and the site's git configuration say, read by git itself; and what a text of that form says.

Never a repository's own configuration: GIT_DIR is no repository here. One run of `git config --list` gives everything;
which of it holds for a URL is found as git finds it (git-config(1), "http.<url>.*").
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import unquote, urlsplit

from msgspec import Struct

from stager.errors import UsageError
from stager.host.git import GitFailure, error_from, local_environment, network_environment, run_git

__all__ = ["GitSettings", "parse_settings", "read_settings"]

_PORTS: Final = {"http": 80, "https": 443, "ssh": 22, "git": 9418}
_TRUE: Final = frozenset(("true", "yes", "on", "1"))
_FALSE: Final = frozenset(("false", "no", "off", "0", ""))
_Fit = tuple[int, int, int]  # how well a section fits a URL: characters of its host and path, and whether a user


class GitSettings(Struct, frozen=True):
    """Names and values in the order in which git reads them, a later one above an earlier one.

    Names are as git lists them: the section and the last part in lower case. The value of a name alone is "true".
    """

    items: tuple[tuple[str, str], ...] = ()

    def get(self, name: str) -> str | None:
        """The value that counts; None when there is none."""
        return next((value for found, value in reversed(self.items) if found == name), None)

    def named(self, section: str, variable: str) -> Iterator[tuple[str, str]]:
        """(what stands between, value) of every ``section.BETWEEN.variable``."""
        for name, value in self.items:
            first, _, rest = name.partition(".")
            between, _, last = rest.rpartition(".")
            if first == section and last == variable and between:
                yield between, value

    def all_for(self, section: str, variable: str, url: str, *, named_only: bool = False) -> list[str]:
        """Every value for ``url`` of a setting that may have several; an empty one clears the list.

        ``named_only``: without those that are for every URL.
        """
        gathered: list[str] = []
        for value in self._fitting(section, variable, url, named_only=named_only):
            gathered = [*gathered, value] if value else []
        return gathered

    def for_url(self, section: str, variable: str, url: str, *, named_only: bool = False) -> str | None:
        """The value for ``url``: of the section that fits best, and of those the last. None: there is none.

        ``named_only``: as of `all_for`.
        """
        found = list(self._fitting(section, variable, url, named_only=named_only))
        return found[-1] if found else None

    def _fitting(self, section: str, variable: str, url: str, *, named_only: bool = False) -> Iterator[str]:
        """The values that git takes for ``url``, one after the other: each that fits no worse than those before it."""
        best: _Fit = (0, 0, 0)
        for name, value in self.items:
            first, _, rest = name.partition(".")
            between, _, last = rest.rpartition(".")
            if first == section and last == variable:
                fit = _fit(url, between) if between else (None if named_only else (0, 0, 0))
                if fit is not None and fit >= best:
                    best = fit
                    yield value

    def flag_for(self, section: str, variable: str, url: str, default: bool) -> bool:
        """The same of a setting that is true or false. Raises `UsageError`: it is neither."""
        value = self.for_url(section, variable, url)
        if value is None:
            return default
        if value.lower() in _TRUE | _FALSE:
            return value.lower() in _TRUE
        raise UsageError("is neither true nor false", where=f"{section}.{variable} of git's configuration")

    def rewritten(self, url: str) -> str:
        """The URL that git uses in place of this one: url.BASE.insteadOf, the longest that fits (git-config(1))."""
        base, instead = "", ""
        for replacing, prefix in self.named("url", "insteadof"):
            if url.startswith(prefix) and len(prefix) > len(instead):
                base, instead = replacing, prefix
        return base + url[len(instead) :] if instead else url


async def read_settings(url: str, environ: Mapping[str, str], proxy: str | None = None) -> GitSettings:
    """What counts for network commands to ``url``; see `stager.host.git.network_environment`.

    Raises `SourceError` when git cannot read its configuration, `HostError` when there is no git.
    """
    environment = network_environment(os.devnull, url, environ, proxy)
    try:
        return _parse(await run_git(["config", "-z", "--list"], environment))
    except GitFailure as failure:
        raise error_from(failure, where="git's configuration") from None


async def parse_settings(text: bytes, environ: Mapping[str, str], *, where: str) -> GitSettings:
    """What a file of that form says by itself; nothing that it names is read. ``where`` names it.

    Raises `SourceError` when it is no such file, `HostError` when there is no git.
    """
    if not text.strip():
        return GitSettings()
    arguments = ["config", "-z", "--no-includes", "--file", "-", "--list"]
    try:
        return _parse(await run_git(arguments, local_environment(os.devnull, environ), stdin=text))
    except GitFailure as failure:
        raise error_from(failure, where=where) from None


def _parse(listing: bytes) -> GitSettings:
    items = []
    for entry in listing.decode("utf-8", "surrogateescape").split("\0")[:-1]:
        name, newline, value = entry.partition("\n")
        items.append((name, value if newline else "true"))
    return GitSettings(tuple(items))


def _fit(url: str, pattern: str) -> _Fit | None:
    """How well ``url`` fits the URL of a section; None: not at all."""
    try:
        mine, theirs = urlsplit(url), urlsplit(pattern)
        ports = mine.port or _PORTS.get(mine.scheme), theirs.port or _PORTS.get(theirs.scheme)
    except ValueError:
        return None
    if mine.scheme != theirs.scheme or ports[0] != ports[1] or not theirs.hostname:
        return None
    if theirs.username is not None and theirs.username != mine.username:
        return None
    host, wanted = (mine.hostname or "").split("."), theirs.hostname.split(".")
    if len(host) != len(wanted) or any(label not in ("*", own) for own, label in zip(host, wanted, strict=True)):
        return None
    path, prefix = (unquote(parts.path).rstrip("/") + "/" for parts in (mine, theirs))
    if not path.startswith(prefix):
        return None
    return len(theirs.hostname), len(prefix), int(theirs.username is not None)
