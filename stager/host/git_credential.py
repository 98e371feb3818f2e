"""Users and passwords as git finds them: its credential helpers, and ~/.netrc.

A secret goes through pipes alone: never into an argument, a variable or a file. Sources: git-credential(1);
gitcredentials(7); the netrc of GNU inetutils, which libcurl reads for git.
"""

from __future__ import annotations

import asyncio
import netrc
import os
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from msgspec import Struct

from stager.config import Secret
from stager.errors import AccessDeniedError, UsageError
from stager.host.git import GitFailure, error_from, network_environment, run_git

__all__ = ["Login", "approve", "fill", "from_netrc", "reject"]

_HELPERS_S: Final = 120.0  # a helper may ask a token service, and nobody on a terminal
_MOST_NETRC_BYTES: Final = 1 << 20
_UNSEEN: Final = re.compile(r"[\x00\r\n]")


class Login(Struct, frozen=True):
    """A user and the password; ``source`` says for people where they come from."""

    user: str
    password: Secret
    source: str
    path: str | None = None  # as the helpers know it

    def same_as(self, other: Login) -> bool:
        """Whether both are one user with one password."""
        return (self.user, self.password.reveal()) == (other.user, other.password.reveal())


async def fill(url: str, user: str | None, environ: Mapping[str, str], proxy: str | None = None) -> Login | None:
    """What the credential helpers know for ``url``; None when they know nothing. Nobody is asked on a terminal.

    Raises `AccessDeniedError`: a helper fails, gives none on purpose, or does not answer. `HostError`: no git.
    """
    try:
        async with asyncio.timeout(_HELPERS_S):
            answer = await run_git(
                ["credential", "fill"], network_environment(os.devnull, url, environ, proxy), stdin=_asking(url, user)
            )
    except GitFailure as failure:
        if re.search(r"could not read (Username|Password)|terminal prompts disabled", failure.stderr):
            return None
        error = error_from(failure, where=url)
        raise AccessDeniedError(f"git's credential helper failed: {error.what}", where=url) from None
    except TimeoutError:
        raise AccessDeniedError(
            f"git's credential helper did not answer within {_HELPERS_S:.0f} s", where=url
        ) from None
    found = dict(_pairs(answer))
    if "username" not in found or not found.get("password"):
        return None
    return Login(found["username"], Secret(found["password"]), "git's credential helper", found.get("path"))


async def approve(url: str, login: Login, environ: Mapping[str, str]) -> None:
    """Tell the helpers that a login of theirs was good; they may keep it. What they say to that changes nothing."""
    await _tell("approve", url, login, environ)


async def reject(url: str, login: Login, environ: Mapping[str, str]) -> None:
    """Tell the helpers that a login of theirs was refused; they may forget it."""
    await _tell("reject", url, login, environ)


async def _tell(verb: str, url: str, login: Login, environ: Mapping[str, str]) -> None:
    said = _asking(url, login.user, login.password)
    try:
        async with asyncio.timeout(_HELPERS_S):
            await run_git(["credential", verb], network_environment(os.devnull, url, environ), stdin=said)
    except (GitFailure, TimeoutError):
        pass


def _asking(url: str, user: str | None, password: Secret | None = None) -> bytes:
    """Protocol, host and path of ``url``, as git itself would ask (git-credential(1), "INPUT/OUTPUT FORMAT").

    Raises `UsageError`: something of it cannot be written so.
    """
    parts = urlsplit(url)
    pairs = {"protocol": parts.scheme, "host": parts.netloc, "path": parts.path.lstrip("/")}
    if user is not None:
        pairs["username"] = user
    if password is not None:
        pairs["password"] = password.reveal()
    if any(_UNSEEN.search(value) for value in pairs.values()):
        raise UsageError("holds a line break, which git's credential helpers do not take", where="a user or password")
    return "".join(f"{name}={value}\n" for name, value in pairs.items()).encode("utf-8", "surrogateescape") + b"\n"


def _pairs(answer: bytes) -> list[tuple[str, str]]:
    lines = answer.decode("utf-8", "surrogateescape").split("\n")
    return [(name, value) for name, equals, value in (line.partition("=") for line in lines) if equals]


def from_netrc(host: str, user: str | None, environ: Mapping[str, str]) -> Login | None:
    """What ~/.netrc says of a host; of one user if one is named. Blocks. An entry "default" is for no host here:
    a commit may name hosts.

    Raises `UsageError`: the file is damaged; the message repeats nothing of it.
    """
    path = os.path.join(environ.get("HOME", ""), ".netrc")
    try:
        if not os.path.isfile(path) or os.path.getsize(path) > _MOST_NETRC_BYTES:
            return None
        entries = netrc.netrc(path).hosts
    except (netrc.NetrcParseError, UnicodeDecodeError):
        raise UsageError("is damaged", where=path, hint="write machine HOST login USER password PASSWORD") from None
    except OSError:
        return None
    if host not in entries:
        return None
    name, _, password = entries[host]
    if not name or not password or (user is not None and name != user):
        return None
    return Login(name, Secret(password), "~/.netrc")
