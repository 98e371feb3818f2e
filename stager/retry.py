"""What a failed request means: retried, refreshed, final, and as which error. Tables, not branches.

Looked up by the S3 error code first, because a status says too little (ExpiredToken is a 400, an archived object a
403); then by status; then by the kind of failure. Source: Amazon S3 API reference, "Error responses".
"""

from __future__ import annotations

import errno
import importlib
import os
import re
from collections.abc import Sequence
from datetime import datetime
from enum import Enum, auto
from typing import Final, Protocol

from msgspec import Struct

from stager.config import Retry
from stager.errors import (
    AccessDeniedError,
    ArchivedError,
    ChangedError,
    GoneError,
    GradeError,
    HostError,
    IntegrityError,
    NotFoundError,
    SourceError,
    StagerError,
    TransientError,
    from_os_error,
)

__all__ = [
    "DENIED_IN_A_ROW",
    "TOO_LOW_AT_MOST",
    "Action",
    "RequestFailure",
    "action_for",
    "are_too_many",
    "damaged",
    "error_for",
    "server_time_s",
    "too_low",
    "too_low_error",
    "wait_s",
]

DENIED_IN_A_ROW: Final = 16
"""So many AccessDenied without a success between them stop a transfer."""

TOO_LOW_AT_MOST: Final = 100
"""So many objects that cannot reach the required grade stop a transfer: enough are named."""

CONNECT_ATTEMPTS: Final = 4
"""Attempts while nothing has ever answered: a wrong address should be told soon."""


class Action(Enum):
    """What to do about a failed request."""

    RETRY = auto()
    SLOW_DOWN = auto()  # retry, with fewer requests a second
    REFETCH = auto()  # the bytes are not the announced ones: once more, then final
    REFRESH = auto()  # new credentials once, then resend
    SET_CLOCK = auto()  # take the time from the answer's Date once, then resend
    REGION = auto()  # the bucket is elsewhere: prepare again for the region named
    ASIDE = auto()  # this object is fetched in another way, the others go on
    SKIP = auto()  # this object fails, the others go on
    STOP = auto()  # final for everything


class RequestFailure(Protocol):
    """What is read of `stager._native.Failure`."""

    kind: str
    errno: int
    where: str
    status: int
    code: str
    message: str


class _Rule(Struct, frozen=True):
    action: Action
    error: type[StagerError]
    what: str
    hint: str = ""


_BUSY = _Rule(Action.SLOW_DOWN, TransientError, "the server asks to slow down")
_AGAIN = _Rule(Action.RETRY, TransientError, "the server failed to answer")
_EXPIRED = _Rule(Action.REFRESH, AccessDeniedError, "the credentials have expired", "renew them and run this again")
_WRONG_KEY = _Rule(
    Action.STOP, AccessDeniedError, "the access key is not known to this server", "check the profile and the endpoint"
)
_WRONG_SECRET = _Rule(
    Action.STOP, AccessDeniedError, "the secret key does not match the access key", "check the credentials"
)
_BAD_TOKEN = _Rule(Action.STOP, AccessDeniedError, "the session token is not valid", "check the credentials")
_DENIED = _Rule(
    Action.SKIP,
    AccessDeniedError,
    "access denied",
    "check that these credentials may list and read it, and whether its bucket wants --request-payer",
)
_CHANGED = _Rule(Action.STOP, ChangedError, "changed while it was being copied", "run this again to get the new state")
_GONE = _Rule(Action.STOP, GoneError, "was removed while it was being copied", "run this again")
_DELETED = _Rule(
    Action.STOP, NotFoundError, "is a delete marker in this version, which has no content", "name another version"
)
_NO_BUCKET = _Rule(Action.STOP, NotFoundError, "no such bucket", "check the name and the endpoint")
_ARCHIVED = _Rule(Action.SKIP, ArchivedError, "is archived and cannot be read now", "restore it first")
_ELSEWHERE = _Rule(Action.REGION, SourceError, "the bucket is in another region", "name it with --region")
_ENCODED = _Rule(
    Action.SKIP,
    SourceError,
    "is stored with a Content-Encoding, and what its bytes are is then left to the server",
    "store it again without that metadata, or leave it out",
)
_DAMAGED = _Rule(
    Action.REFETCH,
    IntegrityError,
    "its bytes do not have the checksum that the server announced",
    "the stored object or the way to it is damaged: try another network, and store it again if that changes nothing",
)
_DAMAGED_OR_NO_MD5 = _Rule(
    Action.REFETCH,
    IntegrityError,
    "its bytes do not have the MD5 that its ETag is",
    "the stored object or the way to it is damaged; where a server's ETags are no MD5s, choose --integrity light",
)
_TOO_LOW = _Rule(Action.SKIP, GradeError, "cannot reach the grade that is required")
_IN_PARTS = _Rule(Action.ASIDE, IntegrityError, "only a digest of its parts is announced")
_REFUSED = _Rule(Action.STOP, SourceError, "the server refuses the request")
_NOT_SO = _Rule(
    Action.STOP,
    SourceError,
    "the server refuses the request",
    "an object stored with SSE-C is read with --sse-c-key-file over https, any other one without it",
)

_TIMER_S: Final = 0.05
"""By so much may a timer of the loop be early: it counts whole milliseconds, from the start of the loop's turn."""

_PROXY_HINT: Final = "check HTTPS_PROXY, HTTP_PROXY, NO_PROXY or --proxy"
_PROXY_CREDENTIALS = _Rule(
    Action.STOP,
    AccessDeniedError,
    "the proxy wants other credentials",
    "leave --proxy out and write HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT, or HTTP_PROXY for an http:// endpoint",
)
_PROXY_DENIED = _Rule(Action.STOP, AccessDeniedError, "the proxy does not let this through", _PROXY_HINT)
_PROXY_REFUSED = _Rule(Action.STOP, SourceError, "the proxy refuses to serve", _PROXY_HINT)
_PROXY_AGAIN = _Rule(Action.RETRY, TransientError, "the proxy failed", _PROXY_HINT)
_PROXY_BUSY = _Rule(Action.SLOW_DOWN, TransientError, "the proxy is busy", _PROXY_HINT)

_BY_CODE: Final[dict[str, _Rule]] = {
    "AccessDenied": _DENIED,
    "AccessDeniedException": _DENIED,
    "AccountProblem": _DENIED,
    "AllAccessDisabled": _DENIED,
    "AuthorizationHeaderMalformed": _ELSEWHERE,
    "BandwidthLimitExceeded": _BUSY,
    "ExpiredToken": _EXPIRED,
    "ExpiredTokenException": _EXPIRED,
    "Forbidden": _DENIED,
    "IllegalLocationConstraintException": _ELSEWHERE,
    "InternalError": _AGAIN,
    "InvalidAccessKeyId": _WRONG_KEY,
    "InvalidObjectState": _ARCHIVED,
    "InvalidRange": _CHANGED,
    "InvalidRequest": _NOT_SO,
    "InvalidSecurity": _BAD_TOKEN,
    "InvalidToken": _BAD_TOKEN,
    "KMS.DisabledException": _DENIED,
    "MethodNotAllowed": _DELETED,  # GetObject of a version that is a delete marker
    "NoSuchBucket": _NO_BUCKET,
    "NoSuchKey": _GONE,
    "NoSuchVersion": _GONE,
    "OperationAborted": _AGAIN,
    "PermanentRedirect": _ELSEWHERE,
    "PreconditionFailed": _CHANGED,
    "Redirect": _ELSEWHERE,
    "RequestExpired": _EXPIRED,
    "RequestLimitExceeded": _BUSY,
    "RequestTimeTooSkewed": _Rule(
        Action.SET_CLOCK, AccessDeniedError, "this computer's clock is wrong", "set the clock"
    ),
    "RequestTimeout": _AGAIN,
    "RequestTimeoutException": _AGAIN,
    "ServiceUnavailable": _BUSY,
    "SignatureDoesNotMatch": _WRONG_SECRET,
    "SlowDown": _BUSY,
    "TemporaryRedirect": _ELSEWHERE,
    "Throttling": _BUSY,
    "ThrottlingException": _BUSY,
    "TokenRefreshRequired": _EXPIRED,
    "TooManyRequests": _BUSY,
    "TooManyRequestsException": _BUSY,
}

_BY_STATUS: Final[dict[int, _Rule]] = {
    301: _ELSEWHERE,
    307: _ELSEWHERE,
    308: _ELSEWHERE,
    401: _Rule(Action.STOP, AccessDeniedError, "the server wants other credentials", "check the profile"),
    403: _DENIED,
    404: _GONE,
    407: _PROXY_CREDENTIALS,
    408: _AGAIN,
    412: _CHANGED,
    416: _CHANGED,
    429: _BUSY,
    501: _REFUSED,
    503: _BUSY,
    505: _REFUSED,
}
_UNKNOWN_TRANSIENT: Final = range(500, 600)  # gateways in front of a server have numbers of their own

_TUNNEL_BY_STATUS: Final[dict[int, _Rule]] = {
    401: _PROXY_CREDENTIALS,
    403: _PROXY_DENIED,
    407: _PROXY_CREDENTIALS,
    408: _PROXY_AGAIN,
    429: _PROXY_BUSY,
    501: _PROXY_REFUSED,
    503: _PROXY_BUSY,
    505: _PROXY_REFUSED,
}
"""What a proxy answers when it is asked for a tunnel. Source: RFC 9110, sections 9.3.6, 11.7.1 and 15."""

_ANSWER_BY_STATUS: Final[dict[int, _Rule]] = {
    403: _PROXY_DENIED,
    407: _PROXY_CREDENTIALS,
    502: _PROXY_AGAIN,
    503: _PROXY_BUSY,
    504: _PROXY_AGAIN,
}
"""An answer to a request in the clear that may be the proxy's or the server's: what a proxy has to say itself."""

_BY_KIND: Final[dict[str, _Rule]] = {
    "connect": _Rule(Action.RETRY, TransientError, "cannot connect", "check the endpoint and the network"),
    "proxy": _Rule(Action.RETRY, TransientError, "no way through the proxy", _PROXY_HINT),
    "tls": _Rule(Action.RETRY, TransientError, "the TLS handshake failed"),
    "reset": _Rule(Action.RETRY, TransientError, "the connection was lost"),
    "stall": _Rule(Action.RETRY, TransientError, "no progress"),
    "protocol": _Rule(Action.RETRY, IntegrityError, "the answer is not proper HTTP"),
    "identity": _CHANGED,
    "cancelled": _Rule(Action.STOP, TransientError, "was cancelled"),
    "errno": _Rule(Action.STOP, HostError, "cannot write"),
}

_REPEATED: Final = (  # compiled when something failed
    r"(?i)((?:authorization|security-token|signature|customer-key(?:-md5)?)[\"']?\s*[:=]\s*[\"']?(?:(?:basic|bearer)\s+)?)[^\s\"',;&<]+"
)
_CERTIFICATE: Final = "certificate: "  # how csrc/tls.c begins what OpenSSL found wrong with one
_PROXY_HANDSHAKE = _Rule(
    Action.RETRY,
    TransientError,
    "the TLS handshake with the proxy failed",
    "a proxy that is reached in the clear is named http://HOST:PORT, in HTTPS_PROXY too",
)
_PROXY_UNTRUSTED = _Rule(
    Action.STOP, SourceError, "the proxy's certificate is not trusted", "name the right CA bundle with --ca-bundle"
)
_UNTRUSTED = _Rule(
    Action.STOP,
    SourceError,
    "the server's certificate is not trusted",
    "name the right CA bundle with --ca-bundle, or check the host name",
)


def action_for(failure: RequestFailure) -> Action:
    """What to do about a failure, the first time it is met."""
    return _rule(failure).action


def error_for(failure: RequestFailure, *, where: str, attempts: int = 1) -> StagerError:
    """The error that says what a failure was, after ``attempts`` attempts. ``where`` is shown as it is."""
    if failure.kind == "errno":
        return _host_error(failure, where)
    rule = _rule(failure)
    words = [rule.what]
    if failure.status and failure.kind in ("http", "proxy"):
        said = " ".join(filter(None, (str(failure.status), failure.code, _without_secrets(failure.message))))
        words.append(f"({said})")
    elif detail := failure.message or failure.where:
        reason = f": {os.strerror(failure.errno)}" if failure.kind in ("connect", "proxy") and failure.errno else ""
        words.append(f"({detail}{reason})")
    if attempts > 1:
        words.append(f"after {attempts} attempts")
    return rule.error(" ".join(words), where=where, hint=rule.hint)


def _without_secrets(message: str) -> str:
    """What a server or proxy said, without what it repeats of a request's credentials."""
    return re.sub(_REPEATED, r"\1...", message)


def damaged(detail: str, *, where: str) -> StagerError:
    """The error of an object whose parts together do not have the announced checksum, for good."""
    rule = _damage(detail)
    return rule.error(f"{rule.what} ({detail})", where=where, hint=rule.hint)


def too_low(detail: str, *, where: str) -> StagerError:
    """The error of an object that cannot reach the required grade, known before its bytes are asked for."""
    return _TOO_LOW.error(f"{_TOO_LOW.what} ({detail})", where=where)


def too_low_error(count: int, required: str, first: Sequence[str], *, where: str) -> GradeError:
    """The error of all objects that do not reach the required grade; ``first`` names some of them."""
    objects = "1 object does" if count == 1 else f"{count} objects do"
    return GradeError(
        f"{objects} not reach grade {required}, which is required: none of it counts as staged",
        first,
        where=where,
        hint="require less, or store the objects again with a checksum",
    )


def are_too_many(skipped: Sequence[StagerError], denied_in_a_row: int) -> bool:
    """Whether what was left out ends a transfer."""
    if denied_in_a_row >= DENIED_IN_A_ROW:
        return True
    return isinstance(skipped[-1], GradeError) and sum(map(_is_too_low, skipped)) >= TOO_LOW_AT_MOST


def _is_too_low(error: StagerError) -> bool:
    return isinstance(error, GradeError)


def _damage(detail: str) -> _Rule:
    return _DAMAGED_OR_NO_MD5 if detail.startswith("MD5") else _DAMAGED


def wait_s(retry: Retry, attempt: int, retry_after_s: int, draw: float) -> float:
    """Seconds before attempt ``attempt`` + 1: full jitter, never sooner than the server asked (at most a minute).

    ``draw`` is uniform in 0..1.
    """
    jitter = draw * min(retry.cap_s, retry.base_s * 2.0**attempt)
    return max(jitter, min(retry_after_s, 60) + _TIMER_S) if retry_after_s > 0 else jitter


def server_time_s(date: str) -> float:
    """Unix time of a Date header; only where this computer's clock is wrong is the parser of mail imported for it.

    TypeError, ValueError: it is none.
    """
    parsed: datetime = importlib.import_module("email.utils").parsedate_to_datetime(date)
    return parsed.timestamp()


def _rule(failure: RequestFailure) -> _Rule:
    if failure.kind == "proxy" and failure.status and failure.where == "tunnel":
        unknown = _PROXY_AGAIN if failure.status in _UNKNOWN_TRANSIENT else _PROXY_REFUSED
        return _TUNNEL_BY_STATUS.get(failure.status, unknown)
    if failure.kind == "proxy" and failure.status in _ANSWER_BY_STATUS:
        return _ANSWER_BY_STATUS[failure.status]
    if failure.status and failure.kind in ("http", "proxy"):
        unknown = _AGAIN if failure.status in _UNKNOWN_TRANSIENT else _REFUSED
        return _BY_CODE.get(failure.code) or _BY_STATUS.get(failure.status) or unknown
    if failure.kind == "proxy" and failure.message.startswith(_CERTIFICATE):
        return _PROXY_UNTRUSTED
    if failure.kind == "proxy" and failure.where == "handshake":
        return _PROXY_HANDSHAKE
    if failure.kind == "tls" and failure.message.startswith(_CERTIFICATE):
        return _UNTRUSTED
    if failure.kind == "identity" and failure.where == "content-encoding":
        return _ENCODED
    if failure.kind == "identity" and failure.where == "checksum":
        return _damage(failure.message)
    if failure.kind == "identity" and failure.where == "grade":
        return _TOO_LOW
    if failure.kind == "identity" and failure.where == "parts":
        return _IN_PARTS
    return _BY_KIND[failure.kind]


def _host_error(failure: RequestFailure, where: str) -> StagerError:
    if failure.where == "listing" and failure.errno == errno.EFBIG:
        return IntegrityError("a page of the listing is larger than any answer of 1,000 keys", where=where)
    if failure.errno in (errno.ELOOP, errno.ENOTDIR, errno.EISDIR):
        return HostError(
            "a file, directory or symlink of the destination stands in the way", where=where, hint="move it away"
        )
    return from_os_error(OSError(failure.errno, ""), doing=failure.where or "write", where=where)
