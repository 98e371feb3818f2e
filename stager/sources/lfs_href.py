"""Where a Git LFS server sends its clients, and with which headers: taken apart strictly, before anything is sent.

What a server says is hostile input. A URL is ASCII afterwards, its host a plain name or address, and whoever connects,
compares origins or writes the request line works on these parts and never on the text again. A header is one that can
stand in a request as it is, and none that would change what is asked for or where its end is.

Sources: Git LFS docs/api/batch.md ("href", "header"); RFC 3986, sections 3 and 6.2.2; RFC 9110, sections 5.1 and 5.5.
"""

from __future__ import annotations

import functools
import ipaddress
import math
import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote, urlsplit

from msgspec import Struct

__all__ = ["Action", "Headers", "Target", "parse_target", "sendable"]

Headers = tuple[tuple[str, str], ...]

_PORTS: Final = {"http": 80, "https": 443}
_MOST_URL: Final = 8192  # characters; signed ones of object stores have some 2,000
_LABEL: Final = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME: Final = re.compile(rf"(?=.{{1,253}}\.?\Z){_LABEL}(\.{_LABEL})*\.?")
_UNSEEN: Final = re.compile(r"[\x00-\x1f\x7f\\]")
_KEPT: Final = "!#$%&'()*+,-./:;=?@[]_~"  # of a path and query; what else stands there is percent-encoded

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_VALUE: Final = re.compile(r"[\t -~]*")
_MOST_HEADERS: Final = 20
_MOST_HEADER_BYTES: Final = 8192  # all together
_OURS: Final = frozenset(
    (
        "accept-encoding", "connection", "content-length", "cookie2", "expect", "host", "http2-settings", "if-match",
        "if-modified-since", "if-none-match", "if-range", "if-unmodified-since", "keep-alive", "proxy-authorization",
        "proxy-connection", "range", "te", "trailer", "transfer-encoding", "upgrade", "user-agent", "via",
    )
)  # fmt: skip
"""Of the request itself and its connection. Servers do send some (Transfer-Encoding is there for uploads); git-lfs
leaves to Go's net/http to drop or to replace them, and they are left out here."""


class Target(Struct, frozen=True):
    """An http or https URL taken apart; ``path`` is what a request asks for, with the query, in ASCII."""

    scheme: str
    host: str  # lower case; an IPv6 address without brackets
    port: int
    path: str

    @property
    def tls(self) -> bool:
        """Whether it is reached over TLS."""
        return self.scheme == "https"

    @property
    def host_header(self) -> str:
        """The value of Host (RFC 9110, section 7.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """Scheme, host and port (RFC 6454): what a credential is for. Without the default port."""
        return f"{self.scheme}://{self.host_header}"

    @property
    def url(self) -> str:
        """All of it. May hold a signature: not for people."""
        return f"{self.origin}{self.path}"

    @property
    def shown(self) -> str:
        """For people: without the query, where signatures stand."""
        return f"{self.origin}{self.path.partition('?')[0]}"

    def __repr__(self) -> str:
        return f"Target({self.shown!r})"


class Action(Struct, frozen=True):
    """How to get one object: a GET of ``place`` with these headers, until ``expires_at_s`` (Unix time; inf: no end).

    ``place`` has been checked, or is the path of a file of this host's. It may hold secrets, as headers may.
    """

    place: Target | str
    headers: Headers = ()
    expires_at_s: float = math.inf

    @property
    def href(self) -> str:
        """The place as a URL."""
        return f"file://{self.place}" if isinstance(self.place, str) else self.place.url

    def __repr__(self) -> str:
        names = ", ".join(name for name, _ in self.headers)
        return f"Action({self.href.partition('?')[0]!r}, headers: {names or 'none'})"


def parse_target(url: str) -> Target:
    """Take an http or https URL apart. ValueError says what is wrong with it and never repeats it."""
    if len(url) > _MOST_URL:
        raise ValueError(f"is a URL of more than {_MOST_URL} characters")
    if _UNSEEN.search(url):
        raise ValueError("is a URL with a control character or a backslash in it")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("is no URL") from None
    scheme = parts.scheme.lower()
    if scheme not in _PORTS:
        raise ValueError("is no http or https URL")
    if parts.username is not None or parts.password is not None or "@" in parts.netloc:
        raise ValueError("is a URL with a user in it")
    host = _host(parts.hostname or "", bracketed=parts.netloc.startswith("["))
    if port == 0:
        raise ValueError("is a URL with port 0")
    query = url.partition("#")[0].partition("?")
    path = quote(parts.path or "/", safe=_KEPT) + (query[1] + quote(query[2], safe=_KEPT))
    return Target(scheme, host, port or _PORTS[scheme], path)


@functools.lru_cache(maxsize=64)  # most links lead to one or two
def _host(host: str, *, bracketed: bool) -> str:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        if not bracketed and _NAME.fullmatch(host):
            return host
        raise ValueError("is a URL without a valid host") from None
    if "%" in host or bracketed != (address.version == 6):  # a zone is of this host's links alone
        raise ValueError("is a URL without a valid host")
    return str(address)


def sendable(headers: Iterable[tuple[str, str]]) -> Headers:
    """The headers that may be sent, those that are stager's own left out. ValueError: one that cannot stand in a
    request, one that is there twice, or too many; the message holds no value.
    """
    kept: dict[str, tuple[str, str]] = {}
    for name, value in headers:
        if not _TOKEN.fullmatch(name):
            raise ValueError("holds a header whose name is none")
        value = value.strip(" \t")
        if not _VALUE.fullmatch(value):
            raise ValueError(f"holds a header ({name}) whose value cannot be sent")
        if name.lower() in kept:
            raise ValueError(f"holds a header ({name}) twice")
        if name.lower() not in _OURS:
            kept[name.lower()] = (name, value)
    if len(kept) > _MOST_HEADERS or sum(len(name) + len(value) for name, value in kept.values()) > _MOST_HEADER_BYTES:
        raise ValueError("holds too many headers, or too long ones")
    return tuple(kept.values())
