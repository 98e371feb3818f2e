"""What a failed request for an LFS object means. The objects are named by their content: they never change, and one
that arrives otherwise is damaged, whatever is wrong with it.
"""

from __future__ import annotations

from typing import Final

from stager.errors import AccessDeniedError, IntegrityError, NotFoundError, SourceError, StagerError
from stager.retry import Action, Policy, RequestFailure, action_for, error_for
from stager.sources.lfs_answer import said

__all__ = ["LFS", "is_redirect", "is_without_ranges"]

_DENIED: Final = frozenset((401, 403))
_GONE: Final = frozenset((404, 410))
_REDIRECTS: Final = range(300, 400)


def is_redirect(failure: RequestFailure) -> bool:
    """Whether the answer was one; where to, the failure's ``location`` says."""
    return failure.kind == "http" and failure.status in _REDIRECTS


def is_without_ranges(failure: RequestFailure) -> bool:
    """Whether the server sent all of an object although a range was asked for, as any may (RFC 9110, 14.2)."""
    return failure.kind == "identity" and failure.where == "status"


def _wants_certificate(failure: RequestFailure) -> bool:
    return failure.kind == "tls" and "certificate required" in failure.message  # RFC 8446, section 6.2, by OpenSSL


def _action_for(failure: RequestFailure) -> Action:
    if _wants_certificate(failure):
        return Action.STOP
    if failure.kind == "http" and failure.status in _DENIED:
        return Action.REFRESH  # what the link was good for may be over: it is asked for again
    if failure.kind == "http" and (failure.status in _GONE or failure.status in _REDIRECTS):
        return Action.STOP
    if failure.kind == "identity":
        return Action.STOP if failure.where == "content-encoding" else Action.REFETCH
    action = action_for(failure)
    return Action.STOP if action in (Action.SKIP, Action.REGION, Action.SET_CLOCK) else action


def _error_for(failure: RequestFailure, where: str, attempts: int) -> StagerError:
    if failure.kind == "identity":
        if failure.where == "content-encoding":
            return SourceError("is sent with a Content-Encoding, which nobody asked for", where=where)
        return IntegrityError(
            f"what arrived is not the LFS object ({failure.message})", where=where,
            hint="the stored object or the way to it is damaged: try another network, or push the object again",
        )  # fmt: skip
    if _wants_certificate(failure):
        return SourceError(
            "the server wants a client certificate", where=where,
            hint="name it for the server of the objects, with http.<url>.sslCert and sslKey in git's configuration",
        )  # fmt: skip
    words = f"({failure.status} {said(failure.message)})" if failure.kind == "http" else ""
    if words and failure.status in _DENIED:
        hint = "check that this user may read the repository, and that this computer's clock is right"
        return AccessDeniedError(f"the server denies access to the LFS object {words}", where=where, hint=hint)
    if words and failure.status in _GONE:
        hint = "push it again: git lfs push --all"
        return NotFoundError(f"the server does not have the LFS object {words}", where=where, hint=hint)
    if words and failure.status in _REDIRECTS:
        return SourceError(f"the server redirects to nowhere {words}", where=where)
    return error_for(failure, where=where, attempts=attempts)


LFS: Final = Policy(_action_for, _error_for)
