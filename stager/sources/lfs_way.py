"""The way to a host of Git LFS: its checked addresses, the proxy in front of it, and the certificates to trust.

As git goes it: git-config(1), http.<url>.proxy, sslCAInfo, sslVerify, sslCert, sslKey; git(1), GIT_SSL_CAINFO and
GIT_SSL_NO_VERIFY; proxies as `stager.host.proxies` says, http.proxy above the environment and below ``--proxy``.

A certificate of the user's is shown to the LFS server alone, where the user or the repository's URL names it, and to
other hosts where the configuration has it for their URLs; never to a proxy.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from stager.errors import UsageError
from stager.host.certificates import system_ca_file
from stager.host.git_settings import GitSettings
from stager.host.proxies import Proxy, proxy_for
from stager.sources.lfs_href import Target
from stager.sources.lfs_reach import Addresses, Reach

__all__ = ["Way", "Ways", "unusable"]

_NO_VERIFY: Final = "GIT_SSL_NO_VERIFY"


class Way(Struct, frozen=True, kw_only=True):
    """What `stager._native.Endpoint` needs; see there. ``addresses`` are the proxy's where there is one."""

    host: str
    port: int
    tls: bool
    addresses: Addresses
    ca_file: str | None  # None: plain http to a plain proxy or none, or nothing is verified
    verify: bool
    proxy: Proxy | None
    certificate: tuple[str, str] | None = None  # the client's, and its key


class Ways:
    """The ways of one run. ``setting`` is ``--proxy``."""

    def __init__(self, settings: GitSettings, environ: Mapping[str, str], setting: str | None, reach: Reach) -> None:
        self._settings = settings
        self._environ = environ
        self._setting = setting
        self._reach = reach

    async def to(self, target: Target, *, where: str, at_home: bool) -> Way:
        """The way to a host; ``where`` says who named it; ``at_home``: it is the LFS server that the user chose.

        Raises `AccessDeniedError`: it may not be reached; `UsageError`: a setting that is wrong or not supported;
        `NotFoundError`, `TransientError`: no addresses.
        """
        proxy = self.proxy_of(target)
        secured = target.tls or (proxy is not None and proxy.tls)
        verify = self._verifies(target.url)
        certificate = self._certificate(target.url, at_home=at_home) if target.tls else None
        if certificate is not None and proxy is not None and proxy.tls:
            raise UsageError("a client certificate is not supported through a proxy over TLS", where="http.sslCert",
                             hint="name the proxy with http://, or go without one")
        return Way(
            host=target.host,
            port=target.port,
            tls=target.tls,
            addresses=await self._reach.addresses(target, proxy, where=where),
            ca_file=self._ca_file(target.url) if secured and verify else None,
            verify=verify,
            proxy=proxy,
            certificate=certificate,
        )

    def proxy_of(self, target: Target) -> Proxy | None:
        """The proxy that serves a URL. Raises `UsageError`: one that is none."""
        named = self._settings.for_url("http", "proxy", target.url) if self._setting is None else None
        if named is None:
            return proxy_for(target.url, self._setting, self._environ)
        if not named.strip():
            return None
        exempt = {name: self._environ[name] for name in ("no_proxy", "NO_PROXY") if name in self._environ}
        return proxy_for(target.url, None, {**exempt, "all_proxy": named})

    def _verifies(self, url: str) -> bool:
        return _NO_VERIFY not in self._environ and self._settings.flag_for("http", "sslverify", url, True)

    def _ca_file(self, url: str) -> str:
        named = self._environ.get("GIT_SSL_CAINFO") or self._settings.for_url("http", "sslcainfo", url)
        by = "http.sslCAInfo, GIT_SSL_CAINFO"
        if not named:
            named, by = self._environ.get("SSL_CERT_FILE"), "SSL_CERT_FILE"
        if not named:
            if self._environ.get("GIT_SSL_CAPATH") or self._settings.for_url("http", "sslcapath", url):
                raise UsageError("a directory of certificates is not supported for LFS", where="http.sslCAPath",
                                 hint="name a file of them: http.sslCAInfo")
            return system_ca_file()
        path = self._expanded(named)
        if not os.path.isfile(path):
            raise UsageError("no such CA bundle", where=path, hint=f"check {by}")
        return path

    def _certificate(self, url: str, *, at_home: bool) -> tuple[str, str] | None:
        shown = self._named("GIT_SSL_CERT", "sslcert", url, at_home=at_home)
        if not shown:
            return None
        paths = shown, self._named("GIT_SSL_KEY", "sslkey", url, at_home=at_home) or shown  # one file may hold both
        for path in paths:
            if not os.path.isfile(path):
                raise UsageError("no such file", where=path, hint="check http.sslCert and http.sslKey")
        return paths

    def _named(self, variable: str, setting: str, url: str, *, at_home: bool) -> str:
        value = self._environ.get(variable) if at_home else None
        return self._expanded(value or self._settings.for_url("http", setting, url, named_only=not at_home) or "")

    def _expanded(self, path: str) -> str:
        """A value of type pathname (git-config(1)): a leading ~/ is the home directory."""
        return os.path.join(self._environ.get("HOME", ""), path[2:]) if path.startswith("~/") else path


def unusable(certificate: tuple[str, str]) -> UsageError:
    """For a client's certificate that TLS does not take."""
    return UsageError(
        "the client certificate or its key cannot be used", where=", ".join(dict.fromkeys(certificate)),
        hint="check http.sslCert and http.sslKey of git's configuration; a key with a password is not supported",
    )  # fmt: skip
