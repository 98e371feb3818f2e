"""What a batch request says, and what its answer may say: the rules of the Git LFS batch API, and no request.

Source: Git LFS docs/api/batch.md; docs/api/basic-transfers.md.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import Struct

from stager.errors import AccessDeniedError, IntegrityError, NotFoundError, SourceError, StagerError, TransientError
from stager.names import show
from stager.sources.lfs_pointer import Pointer

__all__ = [
    "MEDIA_TYPE", "Link", "Reply", "Trouble", "error_of", "is_json", "message_in", "read_reply", "said", "written",
]  # fmt: skip

MEDIA_TYPE: Final = "application/vnd.git-lfs+json"
_JSON: Final = re.compile(r"\s*application/(vnd\.git-lfs\+)?json\s*(;.*)?", re.IGNORECASE | re.DOTALL)
_SAID: Final = 200  # characters of a server's message that are shown
_SECRET: Final = re.compile(
    r"(?i)((?:authorization|token|password|secret|signature|credential)[\w-]*[\"']?\s*[:=]\s*[\"']?)"
    r"(?:(?:basic|bearer)\s+)?[^\s\"',;&<]+|(//)[^/\s@]*@|\b(basic|bearer) [a-z0-9+/=._~-]{6,}"
)
_AGAIN: Final = frozenset((408, 429, 500, 502, 503, 504))  # batch.md: "may trigger the client to retry"


class Link(Struct):
    """One action of an object."""

    href: str
    header: dict[str, str] | None = None
    expires_in: int | None = None
    expires_at: str | None = None


class Trouble(Struct):
    """Why there is no action."""

    code: int = 0
    message: str | None = None


class _Actions(Struct):
    download: Link | None = None


class _Object(Struct):
    oid: str
    size: int | None = None
    authenticated: bool | None = None
    actions: _Actions | None = None
    error: Trouble | None = None


class _Answer(Struct):
    objects: list[_Object]
    transfer: str | None = None
    hash_algo: str | None = None


class _Failure(Struct):
    message: str | None = None
    request_id: str | None = None


class Reply(Struct, frozen=True):
    """By oid: the links with whether they need no other credentials, and what went wrong."""

    links: dict[str, tuple[Link, bool]]
    troubles: dict[str, Trouble]


_ANSWERS: Final = msgspec.json.Decoder(_Answer)
_FAILURES: Final = msgspec.json.Decoder(_Failure)


def written(wanted: Sequence[Pointer], ref: str | None) -> bytes:
    """The body of a request for downloads."""
    asked: dict[str, object] = {
        "operation": "download",
        "transfers": ["basic"],
        **({"ref": {"name": ref}} if ref else {}),
        "objects": [{"oid": pointer.oid, "size": pointer.size} for pointer in wanted],
        "hash_algo": "sha256",
    }
    return msgspec.json.encode(asked)


def is_json(content_type: str) -> bool:
    """Whether a Content-Type is one in which answers come; `application/json` is what some servers send."""
    return _JSON.fullmatch(content_type) is not None


def read_reply(body: bytes, wanted: Sequence[Pointer], *, where: str) -> Reply:
    """What a server answered with status 200. Each object that was asked for is in it once, and no other.

    Raises `SourceError`: no such answer, or of a transfer or hash that was not offered; `IntegrityError`: other
    objects, or other sizes, than were asked for.
    """
    try:
        answer = _ANSWERS.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        reason = str(error) if isinstance(error, msgspec.ValidationError) else "it is damaged"
        what = f"what the LFS server answered is no answer to a batch ({said(reason)})"
        raise SourceError(what, where=where) from None
    if answer.transfer not in (None, "", "basic"):
        raise SourceError(f"the LFS server answered with transfer {said(answer.transfer)}, which was not offered",
                          where=where, hint="only basic is supported")
    if answer.hash_algo not in (None, "", "sha256"):
        raise SourceError(f"the LFS server names objects by {said(answer.hash_algo)}", where=where,
                          hint="only sha256 is supported")
    sizes = {pointer.oid: pointer.size for pointer in wanted}
    links: dict[str, tuple[Link, bool]] = {}
    troubles: dict[str, Trouble] = {}
    for answered in answer.objects:
        oid = answered.oid
        if oid not in sizes:
            what = f"the LFS server answered with an object that was not asked for ({said(oid)})"
            raise IntegrityError(what, where=where)
        if oid in links or oid in troubles:
            raise IntegrityError(f"the LFS server answered twice for object {oid}", where=where)
        link = answered.actions.download if answered.actions else None
        if answered.error is not None:
            troubles[oid] = answered.error
        elif answered.size is not None and answered.size != sizes[oid]:
            raise IntegrityError(f"the LFS server says another size of object {oid} than its pointer"
                                 f" ({answered.size}, not {sizes[oid]})", where=where)
        elif link is not None:
            links[oid] = (link, bool(answered.authenticated))
        else:
            troubles[oid] = Trouble(404, "no download is offered")
    if missing := next((oid for oid in sizes if oid not in links and oid not in troubles), None):
        raise IntegrityError(f"the LFS server answered nothing for object {missing}", where=where)
    return Reply(links, troubles)


def error_of(status: int, message: str, *, where: str) -> StagerError:
    """The error for an answer to a batch that is no success; one that is worth another try is a `TransientError`."""
    words = f" ({status}{': ' if message else ''}{said(message)})"
    if status in _AGAIN:
        return TransientError(f"the LFS server failed to answer{words}", where=where, hint="try again later")
    if status in (401, 407):
        who = "proxy" if status == 407 else "LFS server"
        return AccessDeniedError(f"the {who} wants other credentials{words}", where=where)
    if status == 403:
        return AccessDeniedError(f"the LFS server denies access{words}", where=where,
                                 hint="check that this user may read the repository")
    if status in (404, 410):
        return NotFoundError(f"no LFS server, or no such repository for this user{words}", where=where,
                             hint="check lfs.url and the credentials: servers also say this of what is private")
    if status == 501:
        return SourceError(f"the server has no batch API of Git LFS{words}", where=where, hint="check lfs.url")
    if status == 509:
        return SourceError(f"the bandwidth that the LFS server grants is used up{words}", where=where,
                           hint="ask its operator")
    return SourceError(f"the LFS server refuses the request{words}", where=where)


def message_in(body: bytes) -> str:
    """The message of an error response; empty where there is none."""
    try:
        failure = _FAILURES.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return ""
    request = f", request {failure.request_id}" if failure.request_id else ""
    return f"{failure.message or ''}{request}"


def said(text: str, secrets: Sequence[str] = ()) -> str:
    """What a server said, for people: escaped, cut, without what looks like a secret or is one of these."""
    for secret in secrets:
        text = text.replace(secret, "...")
    text = _SECRET.sub(lambda match: f"{match[1] or match[2] or match[3] or ''}...", text[: 4 * _SAID])
    shown = show(text.encode("utf-8", "surrogatepass"))
    return shown if len(shown) <= _SAID else f"{shown[:_SAID]}..."
