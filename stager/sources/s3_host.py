"""The host that serves a bucket: its addresses, or those of the proxy in front of it, and the certificates to trust."""

from __future__ import annotations

import os
from collections.abc import Mapping

from stager.config import Remote
from stager.errors import NotFoundError, UsageError
from stager.host.addresses import NAME_SHOWN, resolve
from stager.host.certificates import system_ca_file
from stager.host.proxies import Proxy
from stager.sources.s3_values import Prepared

__all__ = ["addresses_towards", "ca_file"]


def ca_file(remote: Remote, environment: Mapping[str, str] = os.environ) -> str:
    """The CA bundle: ``--ca-bundle``, AWS_CA_BUNDLE, SSL_CERT_FILE, the system's known places, certifi's.

    Raises `UsageError` when one that was named is not there.
    """
    named = remote.ca_bundle or environment.get("AWS_CA_BUNDLE") or environment.get("SSL_CERT_FILE")
    if named:
        if not os.path.isfile(named):
            raise UsageError("no such CA bundle", where=named, hint="check --ca-bundle, AWS_CA_BUNDLE, SSL_CERT_FILE")
        return named
    return system_ca_file()


async def addresses_towards(prepared: Prepared, proxy: Proxy | None) -> list[tuple[int, bytes]]:
    """The addresses to connect to: the proxy's where there is one; its server's name is then for the proxy to resolve.

    Raises as `resolve`.
    """
    if proxy is None:
        return await resolve(prepared.host, prepared.port)
    try:
        return await resolve(proxy.host, proxy.port)
    except NotFoundError as error:
        raise NotFoundError("no such proxy", where=proxy.host[:NAME_SHOWN], hint=f"check {proxy.setting}") from error
