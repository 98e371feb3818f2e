"""Which hosts a Git LFS server, or a commit, may send stager to, and the addresses that are connected to.

A URL from outside could name this node itself, its links or its cloud's metadata service. Such addresses are refused
unless what the user named is of that kind too: the repository, or an endpoint in the user's own git configuration. It
is the resolved addresses that are judged, all of them, and those very ones that are handed to who connects: a name that
resolves to something else a moment later leads nowhere. Through a proxy only the proxy resolves names; then what stands
in the URL is judged alone.

Sources: the IANA registries of special-purpose addresses (RFC 6890); RFC 4291, 2.5.5.2 (IPv4 in IPv6); RFC 6052, 2.1
(64:ff9b::/96); RFC 3056 (2002::/16); RFC 6761, 6.3 (localhost); the clouds' documentation of their metadata services.
"""

from __future__ import annotations

import ipaddress
import socket
from contextlib import suppress
from typing import Final

from stager.errors import AccessDeniedError, StagerError
from stager.host.addresses import resolve
from stager.host.proxies import Proxy
from stager.sources.lfs_href import Target

__all__ = ["Addresses", "Reach", "kind_of"]

Addresses = tuple[tuple[int, bytes], ...]

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_ORDINARY: Final = ""
_LOOPBACK: Final = "loopback"
_METADATA: Final = frozenset(
    map(
        ipaddress.ip_address,
        (
            "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254",  # EC2, EKS and Google, outside of fe80::/10
            "168.63.129.16",  # Azure
            "100.100.100.200",  # Alibaba
            "192.0.0.192",  # Oracle
        ),
    )
)  # fmt: skip
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


def kind_of(address: _Address) -> str:
    """Why an address is no ordinary one: "loopback", "link-local", ...; empty: it is."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is None and int(address) >> 32 == 0 and int(address) > 1:  # IPv4-compatible, long deprecated
            inner = ipaddress.IPv4Address(int(address))
        if inner is not None:
            return kind_of(inner)
    if address in _METADATA:
        return "metadata-service"
    if address.is_loopback:
        return _LOOPBACK
    if address.is_link_local:
        return "link-local"
    if address.is_unspecified or (address.version == 4 and int(address) >> 24 == 0):
        return "unspecified"
    return "multicast or reserved" if address.is_multicast or address.is_reserved else _ORDINARY


class Reach:
    """What may be reached. ``allow`` adds the kinds of a host that the user named."""

    def __init__(self) -> None:
        self._allowed = {_ORDINARY}

    async def allow(self, host: str, port: int) -> None:
        """Hosts of the same kind as this one may be reached. A name that cannot be resolved here allows nothing."""
        self._allowed.add(_kind_of_name(host))
        with suppress(StagerError):
            self._allowed.update(kind_of(address) for _, address in await _resolved(host, port))

    async def addresses(self, target: Target, proxy: Proxy | None, *, where: str) -> Addresses:
        """What to connect to: the host's addresses, or its proxy's.

        Raises `AccessDeniedError`: a kind that is not allowed; `NotFoundError`, `TransientError`: no such name.
        ``where`` says who named the host.
        """
        self._check(_kind_of_name(target.host), target, where)
        if proxy is not None:
            return tuple(await resolve(proxy.host, proxy.port))
        found = await _resolved(target.host, target.port)
        for _, address in found:
            self._check(kind_of(address), target, where)
        return tuple(packed for packed, _ in found)

    def _check(self, kind: str, target: Target, where: str) -> None:
        if kind not in self._allowed:
            raise AccessDeniedError(
                f"leads to a {kind} address ({target.host}), and the repository is not at one", where=where,
                hint="if that is meant, name the endpoint in your own git configuration: lfs.url",
            )  # fmt: skip

    @staticmethod
    def is_here(addresses: Addresses) -> bool:
        """Whether all of them are this host's own."""
        return all(kind_of(ipaddress.ip_address(packed)) == _LOOPBACK for _, packed in addresses)


async def _resolved(host: str, port: int) -> list[tuple[tuple[int, bytes], _Address]]:
    return [((family, packed), ipaddress.ip_address(packed)) for family, packed in await resolve(host, port)]


def _kind_of_name(host: str) -> str:
    """What can be told of a host without asking: an address in any spelling that resolvers take, or localhost."""
    name = host.rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return _LOOPBACK
    try:
        return kind_of(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return kind_of(ipaddress.IPv4Address(socket.inet_aton(name)))  # "127.1", "0x7f000001"
    except OSError:
        return _ORDINARY
