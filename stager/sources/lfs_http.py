"""POST requests of the Git LFS API by aiohttp, which is imported with this module: load it only when one is made.

What comes back is bounded: the header by aiohttp, the body by its bytes, which are never unpacked (nothing packed was
asked for), the whole by its time. Connections go to the addresses that were checked, with no lookup of their own. No
cookie is kept, no redirect followed, nothing read from the environment.
"""

from __future__ import annotations

import math
import os
import socket
import ssl
import time
from collections.abc import Mapping
from typing import Any, Final, Self

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from msgspec import Struct
from yarl import URL

from stager.config import Timeouts
from stager.errors import AccessDeniedError, SourceError, TransientError, UsageError
from stager.host.proxies import Proxy
from stager.retry import server_time_s
from stager.sources.lfs_href import Headers, Target
from stager.sources.lfs_way import Way, unusable

__all__ = ["Client", "Response"]

_MOST_BYTES: Final = 16 << 20
_STALLS: Final = 5  # a whole answer takes no longer than so many stalls: 300 s
_PIECE_BYTES: Final = 1 << 16


class Response(Struct, frozen=True):
    """Names of headers in lower case; of several with one name the first."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def retry_after_s(self) -> int:
        """Seconds that the server asks to wait; 0: it does not (RFC 9110, section 10.2.3)."""
        value = self.headers.get("retry-after", "").strip()
        if value.isascii() and value.isdigit():
            return int(value[:9])
        at_s = _time_of(value)
        return max(0, math.ceil(at_s - time.time())) if at_s is not None else 0

    @property
    def ahead_s(self) -> float:
        """By how much the server's clock is ahead of this one, as far as it says what its clock is."""
        at_s = _time_of(self.headers.get("date", ""))
        return at_s - time.time() if at_s is not None else 0.0


class _Addresses(AbstractResolver):
    """Gives what was checked for a name, and nothing else."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, int], Way] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        way = self.known.get((host, port))
        if way is None:
            raise OSError(f"no address was checked for {host}:{port}")
        return [
            ResolveResult(
                hostname=host,
                host=socket.inet_ntop(own, packed),
                port=port,
                family=own,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for own, packed in way.addresses
        ]

    async def close(self) -> None:
        """Nothing is held."""


class Client:
    """Connections to one or two hosts, closed at exit."""

    def __init__(self, timeouts: Timeouts) -> None:
        self._timeouts = timeouts
        self._contexts: dict[tuple[str | None, bool, tuple[str, str] | None], ssl.SSLContext] = {}

    async def __aenter__(self) -> Self:
        self._resolver = _Addresses()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(resolver=self._resolver, use_dns_cache=False),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(
                total=_STALLS * self._timeouts.stall_s,
                sock_connect=self._timeouts.connect_s,
                sock_read=self._timeouts.stall_s,
            ),
            auto_decompress=False,
            trust_env=False,
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._session.close()

    async def post(self, target: Target, way: Way, headers: Headers, body: bytes) -> Response:
        """One request and its whole answer.

        Raises `TransientError`: no connection, or it broke, or stood still; `SourceError`: a certificate that is not
        trusted, an answer that is no HTTP, or larger than any, or packed; `AccessDeniedError`: the proxy refuses.
        """
        where = target.shown
        reached = way.proxy or way
        shown = _shown_to_proxy(way.proxy)  # with the request for a tunnel, or where there is none with the request
        self._resolver.known[reached.host, reached.port] = way
        try:
            async with self._session.post(
                URL(target.url, encoded=True),
                data=body,
                headers=[*headers, ("Accept-Encoding", "identity"), *(() if target.tls else shown)],
                allow_redirects=False,
                ssl=self._context(way),
                proxy=way.proxy.url if way.proxy is not None else None,
                proxy_headers=dict(shown) if target.tls else None,
            ) as answer:
                return Response(answer.status, _first(answer.headers), await self._body(answer, where))
        except aiohttp.ClientHttpProxyError as error:
            raise _proxy_error(error.status, way.proxy, where) from None
        except aiohttp.ClientProxyConnectionError as error:
            raise TransientError(f"no way through the proxy ({_reason(error)})", where=where,
                                 hint="check HTTPS_PROXY, HTTP_PROXY, NO_PROXY, --proxy and git's http.proxy") from None
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError) as error:
            raise SourceError(f"the server's certificate is not trusted, or TLS failed ({_tls_reason(error)})",
                              where=where, hint="name the site's CA with http.sslCAInfo or SSL_CERT_FILE") from None
        except aiohttp.ClientConnectorError as error:
            raise TransientError(f"cannot connect to the LFS server ({_reason(error)})", where=where,
                                 hint="check lfs.url and the network") from None
        except TimeoutError:
            raise TransientError("the LFS server did not answer in time", where=where, hint="try again later") from None
        except aiohttp.ClientResponseError:
            raise SourceError("what the LFS server answered is not proper HTTP", where=where) from None
        except (aiohttp.ClientError, OSError) as error:
            if "CERTIFICATE_REQUIRED" in str(error):  # as TLS 1.3 tells it, after the handshake
                raise SourceError("the LFS server wants a client certificate", where=where,
                                  hint="name it with http.sslCert and http.sslKey in git's configuration") from None
            raise TransientError("the connection to the LFS server was lost", where=where) from None

    async def _body(self, answer: aiohttp.ClientResponse, where: str) -> bytes:
        if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise SourceError("the LFS server answered packed, which was not asked for", where=where)
        pieces = []
        left = _MOST_BYTES
        async for piece in answer.content.iter_chunked(_PIECE_BYTES):
            left -= len(piece)
            if left < 0:
                raise SourceError(f"the LFS server's answer has more than {_MOST_BYTES >> 20} MiB", where=where)
            pieces.append(piece)
        return b"".join(pieces)

    def _context(self, way: Way) -> ssl.SSLContext:
        settings = way.ca_file, way.verify, way.certificate
        if settings not in self._contexts:
            self._contexts[settings] = _make_context(*settings)
        return self._contexts[settings]


def _time_of(text: str) -> float | None:
    """Unix time of an HTTP-date (RFC 9110, section 5.6.7); None: it is none."""
    try:
        return server_time_s(text) if text else None
    except (TypeError, ValueError, OverflowError):
        return None


def _make_context(ca_file: str | None, verify: bool, certificate: tuple[str, str] | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    try:
        if verify and ca_file is not None:
            context.load_verify_locations(ca_file)
    except (OSError, ValueError) as error:
        reason = error.strerror or "" if isinstance(error, OSError) else str(error)
        raise UsageError(f"a certificate cannot be used ({reason})", where="http.sslCAInfo") from None
    if certificate is not None:
        try:
            context.load_cert_chain(*certificate, password=lambda: b"")
        except (OSError, ValueError):
            raise unusable(certificate) from None
    return context


def _shown_to_proxy(proxy: Proxy | None) -> Headers:
    value = proxy.authorization() if proxy is not None else ""
    return (("Proxy-Authorization", value),) if value else ()


def _proxy_error(status: int, proxy: Proxy | None, where: str) -> AccessDeniedError | TransientError:
    setting = proxy.setting if proxy else "the proxy"
    if status == 407:
        return AccessDeniedError("the proxy wants other credentials (407)", where=where, hint=f"check {setting}")
    if status >= 500:
        return TransientError(f"the proxy failed ({status})", where=where, hint=f"check {setting}")
    return AccessDeniedError(f"the proxy does not let this through ({status})", where=where, hint=f"check {setting}")


def _first(headers: Any) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in headers.items():
        found.setdefault(name.lower(), value)
    return found


def _reason(error: aiohttp.ClientConnectorError) -> str:
    number = error.os_error.errno or 0  # asyncio's own text is an address of Python
    return os.strerror(number) if number > 0 else error.os_error.strerror or "no answer"


def _tls_reason(error: aiohttp.ClientConnectorError) -> str:
    inner = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    return str(getattr(inner, "verify_message", "") or getattr(inner, "reason", "") or "handshake")
