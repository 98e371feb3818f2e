"""As whom the Git LFS server is asked: what git-lfs-authenticate granted, extra headers, a password.

In this order, as for git and git-lfs: headers of http.<url>.extraHeader; where the repository is reached over ssh, what
git-lfs-authenticate gives; after a 401, or at once where lfs.<url>.access says so, ~/.netrc and then git's credential
helpers, which are told whether it was good.

A secret is for one origin (scheme, host, port). Others get what their own answers say, and of http.extraHeader what is
set for their URL: an unnamed http.extraHeader goes to the endpoint alone, and not even there where only a commit chose
it and it is elsewhere than the repository.

Source: Git LFS docs/api/authentication.md; git-lfs-config(5), "lfs.<url>.access"; git-config(1), "http.extraHeader".
"""

from __future__ import annotations

import asyncio
import base64
import math
import re
import time
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from msgspec import Struct

from stager.errors import AccessDeniedError, UsageError
from stager.host.git_credential import Login, approve, fill, from_netrc, reject
from stager.host.git_settings import GitSettings
from stager.sources.lfs_endpoint import LfsEndpoint
from stager.sources.lfs_href import Headers, Target, parse_target, sendable
from stager.sources.lfs_ssh import ssh_grant

__all__ = ["Access", "Opened"]

_RENEW_S: Final = 30.0  # before a grant's end
_SIGNED: Final = re.compile(r"(?i)[?&][^=]*(signature|sig)=")


class Opened(Struct, frozen=True):
    """The endpoint as it is now, and what a request there carries. ``said_by`` in words."""

    base: Target
    headers: Headers
    chosen: str
    expires_at_s: float = math.inf

    def __repr__(self) -> str:
        return f"Opened({self.base!r})"


class Access:
    """See the module. ``committed``: of the commit's .lfsconfig."""

    def __init__(
        self,
        git_url: str,
        endpoint: LfsEndpoint,
        settings: GitSettings,
        committed: GitSettings,
        environ: Mapping[str, str],
        proxy: str | None,
    ) -> None:
        self._git_url = git_url
        self._endpoint = endpoint
        self._settings = settings
        self._committed = committed
        self._environ = environ
        self._proxy = proxy
        self._has_extra = any(name.endswith(".extraheader") for name, _ in settings.items)
        self._lock = asyncio.Lock()
        self._opened: Opened | None = None
        self._login: Login | None = None
        self._refused: list[Login] = []
        self._told = False
        self._granted_again = False

    async def opened(self) -> Opened:
        """Raises `AccessDeniedError`, `UsageError`, and what `ssh_grant` raises."""
        async with self._lock:
            if self._opened is None or self._opened.expires_at_s - _RENEW_S < time.time():
                self._opened = await self._open()
            return self._opened

    async def refused(self, opened: Opened, challenge: str) -> None:
        """The server answered 401 to this. Raises `AccessDeniedError`: nothing else is known to show it."""
        async with self._lock:
            if self._opened is not opened:
                return  # another request has met the same, and found something
            if self._endpoint.ssh is not None and not self._granted_again:
                self._granted_again = True
                self._opened = await self._open()
                return
            if challenge and not re.search(r"(?i)\bbasic\b", challenge):
                kinds = ", ".join(sorted(set(re.findall(r"\b(Negotiate|NTLM|Bearer|Digest|Kerberos)\b", challenge))))
                raise AccessDeniedError(f"the LFS server wants to know the user by {kinds or 'other means'}, and only"
                                        " Basic is supported", where=opened.base.shown)
            if self._login is not None:
                await self._forget(opened.base.url, self._login)
            self._login = await self._next_login(opened.base)
            self._opened = self._with(opened.base, opened.chosen, math.inf, ())

    async def accepted(self) -> None:
        """The server took what was shown."""
        if self._login is not None and not self._told and self._opened is not None:
            self._told = True
            if self._login.source != _NETRC:
                await approve(self._opened.base.url, self._login, self._environ)

    def secrets(self) -> list[str]:
        """What must not be repeated."""
        values = [value for _, value in self._opened.headers] if self._opened is not None else []
        found = [word for value in values for word in value.split() if len(word) > _SHORT]
        return [*found, self._login.password.reveal()] if self._login is not None else found

    def is_home(self, target: Target) -> bool:
        """Whether this is the LFS server, where it is no commit that chose it."""
        at_home = self._opened is not None and target.origin == self._opened.base.origin
        return at_home and not self._chosen_elsewhere(target)

    def headers_for(self, target: Target, *, needs_none: bool, own: Headers) -> Headers:
        """What a request for an object carries besides its link's ``own`` headers."""
        opened = self._opened
        at_home = opened is not None and target.origin == opened.base.origin
        taken = {name.lower() for name, _ in own}
        extra = self._extra(target.url, named_only=not self.is_home(target))
        if opened is not None and at_home and not needs_none and not _SIGNED.search(target.path):
            extra = _merged(opened.headers, extra)
        return tuple(pair for pair in extra if pair[0].lower() not in taken)

    async def _open(self) -> Opened:
        endpoint = self._endpoint
        url, chosen, expires_at_s = endpoint.url, _SAID_BY[endpoint.said_by], math.inf
        headers: Headers = ()
        if endpoint.ssh is not None:
            grant = await ssh_grant(endpoint.ssh, self._settings, self._environ, now_s=time.time())
            if grant is not None:
                url, headers, expires_at_s = grant.href or url, grant.headers, grant.expires_at_s
                chosen = "the answer of git-lfs-authenticate" if grant.href else chosen
        try:
            base = parse_target(url.rstrip("/"))
        except ValueError as error:
            raise AccessDeniedError(f"the place of the LFS server {error}", where=chosen) from None
        if self._login is None and not headers and self._wants_login(base):
            self._login = await self._next_login(base)
        return self._with(base, chosen, expires_at_s, headers)

    def _with(self, base: Target, chosen: str, expires_at_s: float, granted: Headers) -> Opened:
        extra = self._extra(base.url, named_only=self._chosen_elsewhere(base))
        shown: Headers = () if self._login is None else (("Authorization", _basic(self._login)),)
        return Opened(base, _merged(shown, _merged(granted, extra)), chosen, expires_at_s)

    def _extra(self, url: str, *, named_only: bool) -> Headers:
        if not self._has_extra:
            return ()
        lines = self._settings.all_for("http", "extraheader", url, named_only=named_only)
        pairs = [(name.strip(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        try:
            return sendable(pair for pair in pairs if pair[1])
        except ValueError as error:
            raise UsageError(str(error), where="http.extraHeader of the git configuration") from None

    def _chosen_elsewhere(self, target: Target) -> bool:
        """Whether a host is one that neither the user nor the repository's URL named."""
        return self._endpoint.said_by == "commit" and target.host != (urlsplit(self._git_url).hostname or "")

    def _wants_login(self, base: Target) -> bool:
        values = (of.for_url("lfs", "access", base.url) for of in (self._settings, self._committed))
        return next((value for value in values if value), "") == "basic"

    async def _next_login(self, base: Target) -> Login:
        user = self._endpoint.user
        found = await asyncio.to_thread(from_netrc, base.host, user, self._environ)
        if found is None or self._is_refused(found):
            found = await fill(base.url, user, self._environ, self._proxy)
        if found is None or self._is_refused(found):
            what = "refuses the password that is known" if self._refused else "wants a password"
            raise AccessDeniedError(f"the LFS server {what}", where=base.shown,
                                    hint="set up a git credential helper or ~/.netrc for this host")
        self._told = False
        return found

    def _is_refused(self, login: Login) -> bool:
        return any(login.same_as(other) for other in self._refused)

    async def _forget(self, url: str, login: Login) -> None:
        self._refused.append(login)
        if login.source != _NETRC:
            await reject(url, login, self._environ)


_NETRC: Final = "~/.netrc"
_SHORT: Final = 5  # characters; a shorter word of a header is no secret
_SAID_BY: Final = {
    "user": "lfs.url of the git configuration",
    "commit": ".lfsconfig of the commit",
    "repository": "the repository's URL",
}


def _basic(login: Login) -> str:
    """RFC 7617, in UTF-8."""
    pair = f"{login.user}:{login.password.reveal()}".encode("utf-8", "surrogateescape")
    return f"Basic {base64.b64encode(pair).decode('ascii')}"


def _merged(above: Headers, below: Headers) -> Headers:
    """Both; of one name the first."""
    taken = {name.lower() for name, _ in above}
    return (*above, *(pair for pair in below if pair[0].lower() not in taken))
