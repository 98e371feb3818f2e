"""The host that serves a bucket: its addresses, the certificates to trust, the proxy that is not used yet."""

from __future__ import annotations

import asyncio
import importlib
import ipaddress
import os
import socket
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]  # typeshed leaves it out

from stager.config import Remote
from stager.errors import NotFoundError, TransientError, UsageError

__all__ = ["ca_file", "resolve", "warn_of_proxy"]

_SYSTEM_BUNDLES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
_RESOLVE_ATTEMPTS: Final = 3


def ca_file(remote: Remote, environment: Mapping[str, str] = os.environ) -> str:
    """The CA bundle: ``--ca-bundle``, AWS_CA_BUNDLE, SSL_CERT_FILE, the system's known places, certifi's.

    Raises `UsageError` when one that was named is not there.
    """
    named = remote.ca_bundle or environment.get("AWS_CA_BUNDLE") or environment.get("SSL_CERT_FILE")
    if named:
        if not os.path.isfile(named):
            raise UsageError("no such CA bundle", where=named, hint="check --ca-bundle, AWS_CA_BUNDLE, SSL_CERT_FILE")
        return named
    return next((path for path in _SYSTEM_BUNDLES if os.path.isfile(path)), None) or _botocores_bundle()


def _botocores_bundle() -> str:
    """certifi's, or botocore's own; botocore is imported only where the system has none of its own."""
    return str(importlib.import_module("botocore.httpsession").get_cert_path(True))


async def resolve(host: str, port: int) -> list[tuple[int, bytes]]:
    """Every address of a host, as (family, packed).

    Raises `NotFoundError` when the name does not exist, `TransientError` when the resolver gave no answer.
    """
    loop = asyncio.get_running_loop()
    for attempt in range(_RESOLVE_ATTEMPTS):
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            if error.errno in (socket.EAI_NONAME, socket.EAI_NODATA):
                raise NotFoundError("no such host", where=host, hint="check the endpoint's name") from error
            reason = error
            await asyncio.sleep(0.2 * 2**attempt)
        else:
            addresses = [(int(family), socket.inet_pton(family, str(address[0]))) for family, _, _, _, address in found]
            return list(dict.fromkeys(addresses))
    raise TransientError(f"the host's name cannot be resolved ({reason.strerror})", where=host)


def warn_of_proxy(endpoint: str, environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """What to know when the environment names a proxy for this endpoint: nothing of ours goes through it."""
    parts = urlsplit(endpoint)
    host = parts.hostname or ""
    names = (f"{parts.scheme}_proxy", f"{parts.scheme}_proxy".upper())
    name = next((name for name in names if environment.get(name)), None)
    bypassed = {"no": environment.get("no_proxy") or environment.get("NO_PROXY") or ""}
    if name is None or _is_loopback(host) or proxy_bypass_environment(host, bypassed):
        return ()
    return (f"{name} is set, but data does not go through a proxy yet: {host} is reached directly",)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
