"""The Git LFS server of one repository: which objects can be had, where, and with which headers.

The batch API, downloads by the basic transfer. Everything that the server says is checked here, before anybody connects
to where it leads: that it answers for the objects that were asked for and for no other, that its URLs may be reached
(`stager.sources.lfs_reach`) and are no plain http where it is itself reached by https, that its headers can be sent.
What is wrong with objects is told of all of them at once, before one is moved.

Sources: Git LFS docs/api/batch.md; docs/api/basic-transfers.md.
"""

from __future__ import annotations

import asyncio
import importlib
import random
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urljoin, urlsplit

from stager.config import Retry, Timeouts
from stager.errors import AccessDeniedError, NoObjectsError, SourceError, StagerError, TransientError
from stager.host.git_settings import GitSettings, read_settings
from stager.host.threads import together
from stager.retry import wait_s
from stager.sources.lfs_access import Access, Opened
from stager.sources.lfs_answer import (
    MEDIA_TYPE,
    Link,
    Trouble,
    error_of,
    is_json,
    message_in,
    read_reply,
    said,
    written,
)
from stager.sources.lfs_endpoint import discover
from stager.sources.lfs_expiry import expiry_s
from stager.sources.lfs_files import file_actions, object_directory
from stager.sources.lfs_href import Action, Target, parse_target, sendable
from stager.sources.lfs_pointer import Pointer
from stager.sources.lfs_reach import Reach
from stager.sources.lfs_way import Way, Ways
from stager.version import __version__

if TYPE_CHECKING:
    from stager.sources.lfs_http import Client, Response

__all__ = ["LfsServer"]

_HTTP: Final = "stager.sources.lfs_http"  # imports aiohttp
_BATCH_OBJECTS: Final = 100  # as git-lfs asks
_BATCHES_AT_ONCE: Final = 4
_MOST_OBJECT_BYTES: Final = 2**53 - 1  # what every JSON reader takes exactly (RFC 8259, section 6)
_REDIRECTS: Final = 3
_MOVED: Final = frozenset((301, 302, 303, 307, 308))
_LOST: Final = {404: "does not exist there", 409: "is of another hash there", 410: "was removed there",
                422: "is refused there"}  # fmt: skip


class LfsServer:
    """See the module. ``git_url`` holds no password; ``committed``: what the commit's ``.lfsconfig`` says.

    ``ref``: the full name that led to the commit, which some servers judge by; ``proxy``: the setting, as for
    `stager.host.proxies`.
    """

    def __init__(
        self,
        git_url: str,
        *,
        environ: Mapping[str, str],
        committed: GitSettings = GitSettings(),  # noqa: B008  (frozen)
        ref: str | None = None,
        proxy: str | None = None,
        retry: Retry = Retry(attempts=4, base_s=0.5),  # noqa: B008  (frozen)
        timeouts: Timeouts = Timeouts(),  # noqa: B008  (frozen)
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._git_url = git_url
        self._environ = environ
        self._committed = committed
        self._ref = ref
        self._proxy = proxy
        self._retry = retry
        self._timeouts = timeouts
        self._draw = draw
        self._most = _BATCH_OBJECTS
        self._client: Client | None = None
        self._seen: set[str] = set()  # origins of links

    async def __aenter__(self) -> Self:
        """Find the endpoint. Nothing is asked of it yet.

        Raises `UsageError`: a setting that is wrong; `AccessDeniedError`: .lfsconfig leads where a commit may not;
        `HostError`: no git.
        """
        settings, committed = await read_settings(self._git_url, self._environ, self._proxy), self._committed
        self._endpoint = discover(self._git_url, settings, committed)
        self._reach = Reach()
        named = (self._git_url, self._endpoint.url if self._endpoint.said_by != "commit" else "")
        for parts in map(urlsplit, named):
            if parts.hostname:
                await self._reach.allow(parts.hostname, parts.port or 443)
        self._ways = Ways(settings, self._environ, self._proxy, self._reach)
        self._access = Access(self._git_url, self._endpoint, settings, committed, self._environ, self._proxy)
        self._stack = AsyncExitStack()
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Close the connections."""
        self._client = None
        await self._stack.aclose()

    @property
    def shown(self) -> str:
        """The endpoint, for people and receipts."""
        return self._endpoint.url

    async def actions(
        self, wanted: Sequence[Pointer], names: Mapping[str, str] | None = None
    ) -> dict[str, Action]:
        """How to get each object, by its oid; one that is asked for twice is in it once. To be called again for what
        has expired.

        ``names`` tells errors an object's path by its oid, escaped. Raises `NoObjectsError`, which names every object
        that cannot be had; `AccessDeniedError`; `TransientError` after retries; `IntegrityError`: another answer than
        to what was asked; `SourceError`: an answer that is none, or leads where it may not.
        """
        pending = deque(self._checked(wanted, names or {}))
        found: dict[str, Action] = {}
        troubles: dict[str, Trouble] = {}
        if self._endpoint.url.startswith("file://"):
            directory = await asyncio.to_thread(object_directory, self._endpoint.url.removeprefix("file://"))
            found, troubles = await asyncio.to_thread(file_actions, directory, list(pending))
        elif pending:
            await self._next_batch(pending, found, troubles)  # alone: what it learns of access serves the others
            if not found and pending and troubles:
                raise self._lost(troubles, names or {}, any_found=False, unasked=len(pending))
            await together(*(self._batches(pending, found, troubles) for _ in range(_BATCHES_AT_ONCE)))
        if troubles:
            raise self._lost(troubles, names or {}, any_found=bool(found))
        return found

    async def way_to(self, link: Target) -> Way:
        """The way to where an action leads, its addresses resolved and checked anew. Raises as `actions`."""
        return await self._way(link, self._from_server)

    async def redirected(self, action: Action, location: str) -> Action:
        """Where an action leads when its URL answers with a redirect. To another origin none of its headers go along.

        Raises as `actions`.
        """
        before = action.place
        assert isinstance(before, Target)
        target = self._parsed(urljoin(before.url, location))
        if before.tls and not target.tls:
            raise AccessDeniedError("a redirect leads from https to plain http", where=self._from_server)
        await self._known(target)
        headers = action.headers if target.origin == before.origin else ()
        return Action(target, headers, action.expires_at_s)

    @property
    def _from_server(self) -> str:
        return f"a link of the LFS server {self.shown}"

    def _parsed(self, href: str) -> Target:
        try:
            return parse_target(href)
        except ValueError as error:
            raise SourceError(str(error), where=self._from_server) from None

    def _checked(self, wanted: Sequence[Pointer], names: Mapping[str, str]) -> list[Pointer]:
        once: dict[str, Pointer] = {}
        problems = []
        for pointer in wanted:
            name = names.get(pointer.oid, pointer.oid)
            if pointer.extensions:
                made_by = ", ".join(pointer.extensions)
                problems.append(f"{name}: is made by a Git LFS extension ({made_by}), and none is run")
            elif pointer.size > _MOST_OBJECT_BYTES:
                problems.append(f"{name}: has {pointer.size} bytes, says its pointer")
            elif once.setdefault(pointer.oid, pointer).size != pointer.size:
                problems.append(f"{name}: has two sizes, say its pointers")
        if problems:
            what = "the commit holds Git LFS pointers that lead to no file"
            raise NoObjectsError(what, problems, where=self._git_url)
        return list(once.values())

    def _lost(
        self, troubles: Mapping[str, Trouble], names: Mapping[str, str], *, any_found: bool, unasked: int = 0
    ) -> NoObjectsError:
        problems = [f"and {unasked} more, which were not asked for then"] if unasked else []
        for oid, trouble in troubles.items():
            name = f"{names[oid]} ({oid})" if oid in names else oid
            words = _LOST.get(trouble.code, "cannot be had")
            problems.append(f"{name}: {words} ({trouble.code}: {self._told(trouble.message)})")
        count = "1 object" if len(troubles) == 1 else f"{len(troubles)} objects"
        hint = "push them again with git lfs push --all, or leave the files out"
        if not any_found:
            hint = "check lfs.url and the credentials, for servers also say this of what is private; else " + hint
        what = f"the LFS server does not give {count} of the commit"
        return NoObjectsError(what, sorted(problems), where=self.shown, hint=hint)

    def _told(self, message: str | None) -> str:
        """What the server said, for people."""
        return said(message or "", self._access.secrets())

    async def _batches(self, pending: deque[Pointer], found: dict[str, Action], troubles: dict[str, Trouble]) -> None:
        while pending:
            await self._next_batch(pending, found, troubles)

    async def _next_batch(
        self, pending: deque[Pointer], found: dict[str, Action], troubles: dict[str, Trouble]
    ) -> None:
        """Take objects from ``pending`` and ask for them until each is in ``found`` or ``troubles``, or pending again
        because the server wants fewer at once.
        """
        batch = [pending.popleft() for _ in range(min(self._most, len(pending)))]
        attempt = refusals = 0
        while batch:
            failed: StagerError | None = None
            retry_after_s = 0
            try:
                opened, response = await self._post(written(batch, self._ref))
            except TransientError as error:
                failed = error
            else:
                retry_after_s = response.retry_after_s
                if response.status == 200:
                    await self._access.accepted()
                    batch, failed = await self._take(batch, opened, response, found, troubles)
                elif response.status == 401 and refusals < _REDIRECTS:
                    refusals += 1
                    await self._access.refused(opened, _challenge(response))
                    continue
                elif response.status in _LOST and is_json(response.headers.get("content-type", "")):
                    trouble = Trouble(response.status, message_in(response.body))
                    troubles.update({pointer.oid: trouble for pointer in batch})
                    return
                elif response.status == 413 and len(batch) > 1:
                    self._most = min(self._most, len(batch) // 2)
                    pending.extendleft(reversed(batch))
                    return
                else:
                    failed = self._judge(response, opened)
            if failed is not None:
                attempt += 1
                if attempt >= self._retry.attempts:
                    raise failed
                await asyncio.sleep(wait_s(self._retry, attempt, retry_after_s, self._draw()))

    def _judge(self, response: Response, opened: Opened) -> TransientError:
        """The error after which to try again; others are raised."""
        kind = response.headers.get("content-type", "")
        message = message_in(response.body) if is_json(kind) else ""
        error = error_of(response.status, self._told(message), where=opened.base.shown)
        if isinstance(error, TransientError):
            return error
        raise error

    async def _take(
        self,
        batch: Sequence[Pointer],
        opened: Opened,
        response: Response,
        found: dict[str, Action],
        troubles: dict[str, Trouble],
    ) -> tuple[list[Pointer], StagerError | None]:
        """Sort an answer; what to ask for again, and why."""
        where = opened.base.shown
        kind = response.headers.get("content-type", "")
        if not is_json(kind):
            what = f"the server answered with {said(kind) or 'no content type'}, which is no answer of Git LFS"
            raise SourceError(what, where=where, hint="check lfs.url")
        reply = read_reply(response.body, batch, where=where)
        again: set[str] = set()
        reason: StagerError | None = None
        ahead_s = response.ahead_s
        for oid, (link, authenticated) in reply.links.items():
            action = await self._action(link, authenticated, opened, ahead_s)
            if action.expires_at_s > time.time():
                found[oid] = action
            else:
                again.add(oid)
                reason = TransientError("the LFS server gives links that have already expired", where=where,
                                        hint="check this computer's clock and the server's")
        for oid, trouble in reply.troubles.items():
            error = error_of(trouble.code, self._told(trouble.message), where=where)
            if isinstance(error, TransientError):
                again.add(oid)
                reason = error
            elif trouble.code in (401, 403):
                raise error
            else:
                troubles[oid] = trouble
        return [pointer for pointer in batch if pointer.oid in again], reason

    async def _action(self, link: Link, authenticated: bool, opened: Opened, ahead_s: float) -> Action:
        target = self._parsed(link.href)
        if opened.base.tls and not target.tls:
            raise AccessDeniedError("leads to plain http, and the server itself is reached by https",
                                    where=self._from_server)
        try:
            own = sendable((link.header or {}).items())
            expires_at_s = expiry_s(link.expires_in, link.expires_at, now_s=time.time(), ahead_s=ahead_s)
        except ValueError as error:
            raise SourceError(str(error), where=self._from_server) from None
        await self._known(target)
        headers = own + self._access.headers_for(target, needs_none=authenticated, own=own)
        return Action(target, headers, expires_at_s)

    async def _way(self, target: Target, where: str) -> Way:
        return await self._ways.to(target, where=where, at_home=self._access.is_home(target))

    async def _known(self, target: Target) -> None:
        """Refuse a host that may not be reached; each is looked up once for all links."""
        if target.origin not in self._seen:
            await self._way(target, self._from_server)
            self._seen.add(target.origin)

    async def _post(self, body: bytes) -> tuple[Opened, Response]:
        opened = await self._access.opened()
        target = parse_target(f"{opened.base.url.rstrip('/')}/objects/batch")
        headers = opened.headers
        client = await self._connected()
        for _ in range(_REDIRECTS):
            way = await self._way(target, opened.chosen)
            self._check_plain(target, way, opened)
            fixed = (("Accept", MEDIA_TYPE), ("Content-Type", MEDIA_TYPE), ("User-Agent", f"stager/{__version__}"))
            named = {name.lower() for name, _ in fixed}
            sent = (*fixed, *(pair for pair in headers if pair[0].lower() not in named))
            response = await client.post(target, way, sent, body)
            if response.status not in _MOVED:
                return opened, response
            target = self._moved(target, response.headers.get("location", ""))
        raise SourceError("the LFS server redirects without end", where=opened.base.shown)

    def _moved(self, target: Target, location: str) -> Target:
        """Where a redirect of the API leads: to the same origin alone, or from http to https of the same host."""
        try:
            moved = parse_target(urljoin(target.url, location))
        except ValueError as error:
            raise SourceError(f"a redirect of the LFS server {error}", where=target.shown) from None
        upgraded = not target.tls and moved.tls and moved.host == target.host
        if moved.origin != target.origin and not upgraded:
            raise AccessDeniedError(f"the LFS server redirects to another place ({moved.origin})", where=target.shown,
                                    hint="if it has moved there, set lfs.url in your git configuration")
        return moved

    def _check_plain(self, target: Target, way: Way, opened: Opened) -> None:
        """Plain http is for a repository that is there itself, for what the user's configuration says, and for this
        very host.
        """
        if target.tls or urlsplit(self._git_url).scheme == "http" or self._endpoint.said_by == "user":
            return
        if way.proxy is not None or not self._reach.is_here(way.addresses):
            raise AccessDeniedError("leads to plain http, and the repository does not", where=opened.chosen)

    async def _connected(self) -> Client:
        if self._client is None:
            http: Any = importlib.import_module(_HTTP)
            client: Client = await self._stack.enter_async_context(http.Client(self._timeouts))
            self._client = client
        return self._client


def _challenge(response: Response) -> str:
    """How the server wants to know the user: docs/api/batch.md, "LFS-Authenticate"."""
    return response.headers.get("lfs-authenticate") or response.headers.get("www-authenticate") or ""
