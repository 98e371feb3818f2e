"""Where a submodule lies: what its .gitmodules says, as git reads it, within our own rules for URLs.

Relative ones (``./`` and ``../`` in front) are resolved against the superproject's as git does (remote.c,
relative_url), but never above the root of its server. Others are https or ssh, ``USER@HOST:PATH`` too; plain http and
a path of this host are for superprojects that were reached in the same way, loopback and link-local hosts for those on
such a host. No user but ssh's and no password stands in one, nothing that a program would take for an option, and no
remote helper (``ext::``).
"""

from __future__ import annotations

import ipaddress
import re
from contextlib import suppress
from typing import Final
from urllib.parse import SplitResult, urlsplit

__all__ = ["is_loopback", "submodule_url"]

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]|%(?:0[0-9a-f]|1[0-9a-f]|7f)", re.IGNORECASE)
_HELPER: Final = re.compile(r"[A-Za-z0-9+.-]*::")
_SCP: Final = re.compile(r"(?P<host>(?:[^@:/\[\]]+@)?(?:[^@:/\[\]]+|\[[0-9A-Fa-f:.]+\])):(?!/?/)?(?P<path>.+)")


def is_loopback(host: str) -> bool:
    """Whether the name or address says that it is this host."""
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def submodule_url(parent: str, text: str, *, allow_plain_http: bool = False) -> str:
    """The URL that ``text`` means in a superproject from ``parent``. ValueError says why it is none that is fetched."""
    if _CONTROL.search(text):
        raise ValueError("holds control characters")
    if text.startswith("-"):
        raise ValueError("begins with '-', as an option would")
    if _HELPER.match(text):
        raise ValueError("is for a remote helper")
    if text.startswith(("./", "../")):
        return _relative(parent, text)
    if "://" not in text:
        text = _with_scheme(text)
    _check(urlsplit(parent), text, allow_plain_http=allow_plain_http)
    return text


def _relative(parent: str, text: str) -> str:
    parts = urlsplit(parent)
    path = parts.path.removesuffix("/")
    while text.startswith(("./", "../")):
        if text.startswith("../"):
            if not path:
                raise ValueError("leads above the root of the superproject's server")
            path = path.rpartition("/")[0]
        text = text.partition("/")[2]
    text = text.removesuffix("/")
    if any(part in ("", ".", "..") for part in text.split("/")):
        raise ValueError("is no plain relative path")
    return f"{parts.scheme}://{parts.netloc}{path}/{text}"


def _with_scheme(text: str) -> str:
    """A path of this host, and ssh's short form; what stands behind its colon is meant from the root, as forges do."""
    if text.startswith("/"):
        return f"file://{text}"
    if found := _SCP.fullmatch(text):
        return f"ssh://{found['host']}/{found['path'].lstrip('/')}"
    raise ValueError("is neither a URL nor begins with ./ or ../")


def _check(parent: SplitResult, text: str, *, allow_plain_http: bool) -> None:
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise ValueError("has no valid host and port") from None
    if parts.scheme not in ("https", "ssh", *({"http", "file"} & {parent.scheme})):
        raise ValueError(f"is of a kind ({parts.scheme}) that is not fetched from {parent.scheme}")
    if parts.scheme == "file":
        if parts.netloc or ".." in parts.path.split("/"):
            raise ValueError("is no plain path of this host")
        return
    if parts.password is not None or (parts.username is not None and parts.scheme != "ssh"):
        raise ValueError("has a user or a password in it")
    if not host or host.startswith("-") or (parts.username or "").startswith("-"):
        raise ValueError("has no host, or one that begins with '-'")
    if parts.scheme == "http" and not is_loopback(host) and not allow_plain_http:
        raise ValueError("is plain http")
    if _is_near(host) and not _is_near(parent.hostname or ""):
        raise ValueError("is this host, or one that only it reaches")


def _is_near(host: str) -> bool:
    """Loopback, link-local (instance metadata is there) and unspecified addresses; a superproject of this disk too."""
    with suppress(ValueError):
        address = ipaddress.ip_address(host)
        return address.is_loopback or address.is_link_local or address.is_unspecified
    return host in ("", "localhost") or host.endswith(".localhost")
