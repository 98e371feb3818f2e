"""The host that serves a bucket: its addresses, or those of the proxy in front of it, and the certificates to trust."""

from __future__ import annotations

import asyncio
import importlib
import os
import socket
from collections.abc import Mapping
from typing import Final

from stager.config import Remote
from stager.errors import NotFoundError, TransientError, UsageError
from stager.host.proxies import Proxy
from stager.sources.s3_values import Prepared

__all__ = ["addresses_towards", "ca_file", "resolve"]

_SYSTEM_BUNDLES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
_NAME_SHOWN: Final = 255  # characters; no name is longer
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
        except UnicodeError as error:  # a label of over 63 characters, or of none, or what is no text
            raise _no_such_host(host) from error
        except socket.gaierror as error:
            if error.errno in (socket.EAI_NONAME, socket.EAI_NODATA):
                raise _no_such_host(host) from error
            reason = error
            await asyncio.sleep(0.2 * 2**attempt)
        else:
            addresses = [(int(family), socket.inet_pton(family, str(address[0]))) for family, _, _, _, address in found]
            return list(dict.fromkeys(addresses))
    raise TransientError(f"the host's name cannot be resolved ({reason.strerror})", where=host)


def _no_such_host(host: str) -> NotFoundError:
    return NotFoundError("no such host", where=host[:_NAME_SHOWN], hint="check the endpoint's name")


async def addresses_towards(prepared: Prepared, proxy: Proxy | None) -> list[tuple[int, bytes]]:
    """The addresses to connect to: the proxy's where there is one; its server's name is then for the proxy to resolve.

    Raises as `resolve`.
    """
    if proxy is None:
        return await resolve(prepared.host, prepared.port)
    try:
        return await resolve(proxy.host, proxy.port)
    except NotFoundError as error:
        raise NotFoundError("no such proxy", where=proxy.host[:_NAME_SHOWN], hint=f"check {proxy.setting}") from error
