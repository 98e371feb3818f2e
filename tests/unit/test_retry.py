"""The table of failures: every row does what behaviour.md rule 10 says, and tells it in one line."""

from __future__ import annotations

import errno
from dataclasses import dataclass

import pytest

from stager.config import Retry
from stager.errors import (
    AccessDeniedError,
    ArchivedError,
    ChangedError,
    GoneError,
    GradeError,
    HostError,
    IntegrityError,
    NoSpaceError,
    NotFoundError,
    SourceError,
    StagerError,
    TransientError,
)
from stager.retry import TOO_LOW_AT_MOST, Action, action_for, are_too_many, damaged, error_for, too_low, wait_s


@dataclass
class Failure:
    kind: str = "http"
    errno: int = 0
    where: str = ""
    status: int = 0
    code: str = ""
    message: str = ""


@pytest.mark.parametrize(
    ("status", "code", "action", "error"),
    [
        (503, "SlowDown", Action.SLOW_DOWN, TransientError),
        (200, "SlowDown", Action.SLOW_DOWN, TransientError),
        (429, "", Action.SLOW_DOWN, TransientError),
        (500, "InternalError", Action.RETRY, TransientError),
        (400, "RequestTimeout", Action.RETRY, TransientError),
        (502, "", Action.RETRY, TransientError),
        (507, "", Action.RETRY, TransientError),
        (509, "", Action.RETRY, TransientError),
        (522, "", Action.RETRY, TransientError),
        (501, "NotImplemented", Action.STOP, SourceError),
        (400, "ExpiredToken", Action.REFRESH, AccessDeniedError),
        (403, "RequestTimeTooSkewed", Action.SET_CLOCK, AccessDeniedError),
        (403, "InvalidAccessKeyId", Action.STOP, AccessDeniedError),
        (403, "SignatureDoesNotMatch", Action.STOP, AccessDeniedError),
        (400, "InvalidToken", Action.STOP, AccessDeniedError),
        (403, "AccessDenied", Action.SKIP, AccessDeniedError),
        (403, "", Action.SKIP, AccessDeniedError),
        (403, "InvalidObjectState", Action.SKIP, ArchivedError),
        (404, "NoSuchBucket", Action.STOP, NotFoundError),
        (404, "NoSuchKey", Action.STOP, GoneError),
        (405, "MethodNotAllowed", Action.STOP, NotFoundError),
        (412, "PreconditionFailed", Action.STOP, ChangedError),
        (412, "", Action.STOP, ChangedError),
        (416, "InvalidRange", Action.STOP, ChangedError),
        (301, "PermanentRedirect", Action.REGION, SourceError),
        (400, "AuthorizationHeaderMalformed", Action.REGION, SourceError),
        (418, "Teapot", Action.STOP, SourceError),
    ],
)
def test_answer_is_judged_by_its_code_first(
    status: int, code: str, action: Action, error: type[StagerError]
) -> None:
    failure = Failure(status=status, code=code, message="said so")
    assert action_for(failure) is action
    told = error_for(failure, where="s3://b/k", attempts=3)
    assert type(told) is error
    assert str(told).startswith("s3://b/k: ")
    assert "said so" in str(told)
    assert "after 3 attempts" in str(told)
    assert "\n" not in str(told)


@pytest.mark.parametrize(
    ("where", "status", "code", "action", "error"),
    [
        ("tunnel", 407, "", Action.STOP, AccessDeniedError),
        ("tunnel", 401, "", Action.STOP, AccessDeniedError),
        ("tunnel", 403, "", Action.STOP, AccessDeniedError),
        ("tunnel", 302, "", Action.STOP, SourceError),
        ("tunnel", 404, "", Action.STOP, SourceError),
        ("tunnel", 405, "", Action.STOP, SourceError),
        ("tunnel", 501, "", Action.STOP, SourceError),
        ("tunnel", 408, "", Action.RETRY, TransientError),
        ("tunnel", 429, "", Action.SLOW_DOWN, TransientError),
        ("tunnel", 500, "", Action.RETRY, TransientError),
        ("tunnel", 502, "", Action.RETRY, TransientError),
        ("tunnel", 503, "", Action.SLOW_DOWN, TransientError),
        ("tunnel", 504, "", Action.RETRY, TransientError),
        ("tunnel", 522, "", Action.RETRY, TransientError),
        ("answer", 407, "", Action.STOP, AccessDeniedError),
        ("answer", 403, "", Action.STOP, AccessDeniedError),
        ("answer", 502, "", Action.RETRY, TransientError),
        ("answer", 503, "", Action.SLOW_DOWN, TransientError),
        ("answer", 404, "", Action.STOP, GoneError),
        ("answer", 412, "", Action.STOP, ChangedError),
        ("answer", 418, "", Action.STOP, SourceError),
        ("connect", 0, "", Action.RETRY, TransientError),
        ("handshake", 0, "", Action.RETRY, TransientError),
        ("tunnel", 0, "", Action.RETRY, TransientError),
    ],
)
def test_answer_of_a_proxy_is_judged_by_what_it_was_asked(
    where: str, status: int, code: str, action: Action, error: type[StagerError]
) -> None:
    failure = Failure(kind="proxy", where=where, status=status, code=code, message="said so")
    assert action_for(failure) is action
    told = error_for(failure, where="s3://b/k")
    assert type(told) is error
    assert "said so" in str(told)
    blamed = "the proxy" in str(told)
    assert blamed == (where != "answer" or status in (403, 407, 502, 503))


def test_certificate_of_a_proxy_is_final_and_told_as_its() -> None:
    failure = Failure(kind="proxy", where="handshake", message="certificate: self-signed certificate")
    assert action_for(failure) is Action.STOP
    assert "the proxy's certificate is not trusted" in str(error_for(failure, where="s3://b"))


@pytest.mark.parametrize("kind", ["http", "proxy"])
def test_credentials_that_an_answer_repeats_are_not_told(kind: str) -> None:
    repeated = (
        "proxy-authorization: Basic dXNlcjpodW50ZXIy X-Amz-Security-Token=hunter3&x "
        "{\"authorization\": \"Bearer hunter4\"} "
        "authorization: AWS4-HMAC-SHA256 Credential=AKID/20250101/x/s3/aws4_request, Signature=hunter5"
    )
    failure = Failure(kind=kind, status=403, where="tunnel", message=f"no. {repeated} basic rules: signature wrong")
    told = str(error_for(failure, where="s3://b"))
    assert "hunter" not in told
    assert "dXNlcjpodW50ZXIy" not in told
    assert "no. proxy-authorization: Basic ..." in told
    assert "basic rules: signature wrong" in told


def test_reason_of_a_failed_connection_is_told() -> None:
    for kind in ("connect", "proxy"):
        failure = Failure(kind=kind, where="connect", errno=errno.ECONNREFUSED, message="no address took it")
        assert "no address took it: Connection refused" in str(error_for(failure, where="s3://b"))


@pytest.mark.parametrize(
    ("kind", "message", "action", "error"),
    [
        ("connect", "", Action.RETRY, TransientError),
        ("reset", "", Action.RETRY, TransientError),
        ("stall", "", Action.RETRY, TransientError),
        ("tls", "handshake", Action.RETRY, TransientError),
        ("tls", "certificate: expired", Action.STOP, SourceError),
        ("protocol", "head", Action.RETRY, IntegrityError),
        ("identity", "etag", Action.STOP, ChangedError),
    ],
)
def test_failure_without_an_answer_is_judged_by_its_kind(
    kind: str, message: str, action: Action, error: type[StagerError]
) -> None:
    failure = Failure(kind=kind, message=message)
    assert action_for(failure) is action
    assert type(error_for(failure, where="x")) is error


def test_object_stored_with_a_coding_is_left_out_and_told_with_what_to_do() -> None:
    failure = Failure(kind="identity", where="content-encoding", status=200)
    assert action_for(failure) is Action.SKIP
    told = str(error_for(failure, where="s3://b/k"))
    assert told.startswith("s3://b/k: is stored with a Content-Encoding")
    assert "store it again without" in told


def test_bytes_without_the_announced_checksum_are_fetched_once_more_and_told_alike_for_parts_and_whole() -> None:
    detail = "CRC32 is 00000001, and 00000002 was announced"
    failure = Failure(kind="identity", where="checksum", status=200, message=detail)
    assert action_for(failure) is Action.REFETCH
    told = error_for(failure, where="s3://b/k")
    assert isinstance(told, IntegrityError)
    assert str(told) == str(damaged(detail, where="s3://b/k"))
    assert "--integrity" not in str(told)
    assert "--integrity light" in str(damaged("MD5 is 00, and 01 was announced", where="s3://b/k"))


def test_object_below_the_required_grade_is_left_out_until_there_are_enough_to_name() -> None:
    failure = Failure(kind="identity", where="grade", status=200, message="no checksum is announced")
    assert action_for(failure) is Action.SKIP
    error = error_for(failure, where="s3://b/k")
    assert isinstance(error, GradeError)
    assert str(error) == str(too_low("no checksum is announced", where="s3://b/k"))
    assert not are_too_many([error] * (TOO_LOW_AT_MOST - 1), 0)
    assert are_too_many([error] * TOO_LOW_AT_MOST, 0)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (errno.ENOSPC, NoSpaceError), (errno.EDQUOT, NoSpaceError), (errno.EACCES, HostError), (errno.ELOOP, HostError),
        (errno.EIO, HostError),
    ],
)  # fmt: skip
def test_local_failure_is_this_nodes_and_final(code: int, error: type[StagerError]) -> None:
    failure = Failure(kind="errno", errno=code, where="write")
    assert action_for(failure) is Action.STOP
    assert type(error_for(failure, where="x")) is error


def test_wait_is_full_jitter_under_its_cap() -> None:
    retry = Retry(attempts=8, base_s=0.1, cap_s=20.0)
    assert [wait_s(retry, attempt, -1, 1.0) for attempt in (1, 2, 3, 20)] == [0.2, 0.4, 0.8, 20.0]
    assert wait_s(retry, 5, -1, 0.0) == 0.0


def test_wait_is_never_shorter_than_the_server_asked_up_to_a_minute() -> None:
    timer_s = 0.05  # a timer of the loop may be early
    assert wait_s(Retry(), 1, 7, 0.5) == 7.0 + timer_s
    assert wait_s(Retry(), 1, 86_400, 0.5) == 60.0 + timer_s
