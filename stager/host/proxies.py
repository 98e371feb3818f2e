"""Which HTTP proxy serves a URL, as a setting or this host's environment says. Nothing is sent from here.

A setting (``--proxy``, ``proxy =`` of a job file) stands above the environment, NO_PROXY included; ``none`` or nothing
in it means no proxy. In the environment ``https_proxy`` is for https, ``http_proxy`` for http, ``all_proxy`` for what
has none of its own; the lower-case name wins over the upper-case one, as in curl and requests, and one that is set but
empty means none, as in requests. ``HTTP_PROXY`` is ignored under CGI (REQUEST_METHOD is set), where a client's
``Proxy:`` header sets it (CVE-2016-5385); ``http_proxy`` is not.

NO_PROXY is a list with commas or blanks: ``*``; a name, which covers what lies below it too, with or without a leading
dot or ``*.``; an address; a network (10.0.0.0/8, fd00::/8), for endpoints that are addresses. ``:PORT`` behind a name
or an address narrows it to that port. The metadata services of clouds, which are of this host, never have a proxy.
"""

from __future__ import annotations

import base64
import ipaddress
import os
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote, unquote_to_bytes, urlsplit

from msgspec import Struct

from stager.config import Secret
from stager.errors import UsageError

__all__ = ["Proxy", "check_proxy_setting", "git_proxy_environment", "proxy_for"]

_METADATA: Final = frozenset(
    ipaddress.ip_address(text)
    for text in (
        "169.254.169.254", "fd00:ec2::254",  # EC2 instance metadata
        "169.254.170.2",  # ECS task credentials
        "169.254.170.23", "fd00:ec2::23",  # EKS pod identity
    )
)  # fmt: skip
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_HOW: Final = "write http[s]://[USER:PASSWORD@]HOST[:PORT], what is special in a password as %XX"
_HOST: Final = re.compile(r"[^\s/?#@:\[\]%\\]+")
_MOST_USER_BYTES: Final = 3000  # with the password; in base64 just under STG_PROXY_MAX_AUTHORIZATION
_UNSEEN: Final = re.compile(r"[\x00-\x20\x7f]")
_NO_PROXY_PORT: Final = re.compile(r"(?P<host>\[[^\]]*\]|[^:]*):(?P<port>[0-9]{1,5})")


class Proxy(Struct, frozen=True, kw_only=True):
    """Where a proxy is and who one is to it. ``user``: ``USER:PASSWORD``, each percent-encoded."""

    scheme: str  # "https": reached over TLS itself
    host: str  # an IPv6 address without brackets
    port: int
    user: Secret | None
    setting: str  # what named it

    @property
    def url(self) -> str:
        """For people: without the user."""
        return f"{self.scheme}://{self._authority}"

    @property
    def tls(self) -> bool:
        """Whether the proxy itself is reached over TLS."""
        return self.scheme == "https"

    def authorization(self) -> str:
        """The value of Proxy-Authorization (RFC 7617), "" without a user. A secret."""
        if self.user is None:
            return ""
        name, _, password = self.user.reveal().partition(":")
        pair = unquote_to_bytes(name) + b":" + unquote_to_bytes(password)
        return f"Basic {base64.b64encode(pair).decode('ascii')}"

    def for_endpoint(self) -> tuple[int, str, str | None]:
        """As `stager._native.Endpoint` takes it. Holds the secret of `authorization`."""
        return self.port, self.authorization(), self.host if self.tls else None

    def url_with_user(self) -> str:
        """For those who are told a proxy by its URL. A secret where there is a user."""
        return f"{self.scheme}://{self.user.reveal()}@{self._authority}" if self.user else self.url

    @property
    def _authority(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def proxy_for(url: str, setting: str | None = None, environment: Mapping[str, str] = os.environ) -> Proxy | None:
    """The proxy that serves ``url``, None when it is reached directly.

    Raises `UsageError` for a proxy's URL that is none or of a kind that is not supported; it never repeats the URL.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)
    if _address(host) in _METADATA:
        return None
    if setting is not None:
        check_proxy_setting(setting, where="--proxy")
        return None if _is_none(setting) else _parse(setting, "--proxy")
    name = _variable(parts.scheme, environment)
    if name is None or _is_exempt(host, port, _no_proxy(environment)):
        return None
    return _parse(environment[name], name)


def check_proxy_setting(setting: str, *, where: str) -> None:
    """Refuse a setting that is no proxy's URL, or carries a user: `UsageError`, which never repeats it."""
    if "@" in setting:
        raise UsageError("a proxy with a user in it is refused here: others can read this", where=where,
                         hint="name user and password in the environment: HTTPS_PROXY, HTTP_PROXY")
    if not _is_none(setting):
        _parse(setting, where)


def git_proxy_environment(
    url: str, setting: str | None = None, environment: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """The variables by which git and its libcurl reach ``url`` as we would; what git's own configuration says of
    proxies stands above those of the environment, as for git by itself.

    What the environment names is handed on as it is: libcurl knows more kinds of proxies. libcurl does not read
    HTTP_PROXY, so the names are put in lower case; and where its NO_PROXY may not cover what ours does, the host is
    added to it. Raises `UsageError` for a ``setting`` that is no proxy.
    """
    if setting is not None:
        proxy = proxy_for(url, setting, environment)
        return {
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "http.proxy",
            "GIT_CONFIG_VALUE_0": proxy.url if proxy else "",  # empty: none, whatever the environment says
        }
    named = {scheme: _variable(scheme, environment) for scheme in ("http", "https")}
    found = {f"{scheme}_proxy": environment[name] for scheme, name in named.items() if name}
    exempt = _no_proxy(environment)
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)
    if host and (_address(host) in _METADATA or _is_exempt(host, port, exempt)):
        exempt = f"{exempt},{host}" if exempt != "*" else exempt
    return {**found, "no_proxy": exempt} if exempt else found


def _variable(scheme: str, environment: Mapping[str, str]) -> str | None:
    """The name of the variable that counts for a scheme; None when none does, or an empty one."""
    cgi = "REQUEST_METHOD" in environment
    for lower in (f"{scheme}_proxy", "all_proxy"):
        for name in (lower, lower.upper()):
            if name in environment and not (cgi and name == "HTTP_PROXY"):
                if environment[name].strip():
                    return name
                break  # empty: this pair names none
    return None


def _no_proxy(environment: Mapping[str, str]) -> str:
    return environment.get("no_proxy", environment.get("NO_PROXY", "")).strip()


def _is_exempt(host: str, port: int, exempt: str) -> bool:
    """Whether NO_PROXY covers a host."""
    host = host.rstrip(".").lower()
    address = _address(host)
    for entry in re.split(r"[\s,]+", exempt.lower()):
        if entry == "*":
            return True
        only = _NO_PROXY_PORT.fullmatch(entry)
        if only is not None and int(only["port"]) != port:
            continue
        name = (only["host"] if only is not None else entry).removeprefix("[").removesuffix("]")
        if address is not None:
            if _covers(name, address):
                return True
            continue
        name = name.removeprefix("*").strip(".")
        if name and (host == name or host.endswith(f".{name}")):
            return True
    return False


def _covers(network: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    try:
        return address in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_none(setting: str) -> bool:
    return setting.strip().lower() in ("", "none")


def _parse(text: str, setting: str) -> Proxy:
    """A proxy's URL taken apart; without a scheme it is http. `UsageError` names the setting and never the URL."""
    wrong = UsageError("names no proxy", where=setting, hint=_HOW)
    text = text.strip()
    if _UNSEEN.search(text):
        raise wrong
    scheme, separator, rest = text.partition("://")
    scheme, rest = (scheme.lower(), rest) if separator else ("http", text)
    if scheme.startswith("socks"):
        raise UsageError("names a SOCKS proxy, which is not supported", where=setting,
                         hint="name an HTTP proxy, or add the host to NO_PROXY")
    if scheme not in _DEFAULT_PORTS:
        raise wrong
    try:
        parts = urlsplit(f"http://{rest}")
        port = parts.port
    except ValueError:
        raise wrong from None
    host = parts.hostname or ""
    bracketed = parts.netloc.rpartition("@")[2].startswith("[")
    if bracketed != isinstance(_address(host), ipaddress.IPv6Address) or not (bracketed or _HOST.fullmatch(host)):
        raise wrong
    if "%" in host:  # a zone: of this host's links alone
        raise wrong
    if port == 0 or parts.path not in ("", "/") or parts.query or parts.fragment or "?" in rest or "#" in rest:
        raise wrong
    user = _user(parts.username, parts.password, wrong)
    return Proxy(scheme=scheme, host=host, port=port or _DEFAULT_PORTS[scheme], user=user, setting=setting)


def _user(name: str | None, password: str | None, wrong: UsageError) -> Secret | None:
    if name is None:
        return None
    raw_name, raw_password = unquote_to_bytes(name), unquote_to_bytes(password or "")
    if len(raw_name + raw_password) > _MOST_USER_BYTES:
        raise wrong
    if b":" in raw_name or re.search(rb"[\x00-\x1f\x7f]", raw_name + raw_password):
        raise wrong
    return Secret(f"{quote(raw_name, safe='')}:{quote(raw_password, safe='')}")
