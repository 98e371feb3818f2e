"""Checks a SigV4 request by signing it again with botocore ("Authenticating Requests", Amazon S3 API Reference)."""

from __future__ import annotations

import calendar
import re
import time
from collections.abc import Mapping

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from servers.s3 import Identity

__all__ = ["ScopeError", "check_signature"]

_MOST_SKEW_S = 15 * 60
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/s3/aws4_request, ?"
    r"SignedHeaders=([a-z0-9;-]+), ?Signature=([0-9a-f]{64})"
)
_MUST_BE_SIGNED = re.compile(r"host|x-amz-.*|range|if-match")


class ScopeError(Exception):
    """The request is signed for another region."""

    def __init__(self, region: str) -> None:
        super().__init__(region)
        self.region = region


class _Signer(S3SigV4Auth):
    """botocore's signer with the time and the payload hash that the request itself names."""

    def payload(self, request: AWSRequest) -> str:
        return str(request.headers["X-Amz-Content-SHA256"])


def check_signature(
    method: str, target: str, headers: Mapping[str, str], identity: Identity, region: str, now_s: float
) -> str:
    """The S3 error code for a request that must be refused, "" for a good one. ``headers`` have lower-case names.

    Stricter than S3: every x-amz-* header, Range and If-Match have to be signed. Raises `ScopeError`.
    """
    match = _AUTHORIZATION.fullmatch(headers["authorization"])
    if match is None:
        return "AuthorizationHeaderMalformed"
    access_key, day, scope_region, names, signature = match.groups()
    if access_key != identity.access_key:
        return "InvalidAccessKeyId"
    if scope_region != region:
        raise ScopeError(scope_region)
    stamp = headers.get("x-amz-date", "")
    if not re.fullmatch(r"\d{8}T\d{6}Z", stamp) or not stamp.startswith(day):
        return "AccessDenied"
    if abs(calendar.timegm(time.strptime(stamp, "%Y%m%dT%H%M%SZ")) - now_s) > _MOST_SKEW_S:
        return "RequestTimeTooSkewed"
    signed = names.split(";")
    if signed != sorted(signed) or not {name for name in headers if _MUST_BE_SIGNED.fullmatch(name)} <= set(signed):
        return "AccessDenied"
    request = AWSRequest(
        method=method, url=f"http://{headers['host']}{target}", headers={name: headers[name] for name in signed}
    )
    request.context["timestamp"] = stamp
    signer = _Signer(Credentials(identity.access_key, identity.secret_key), "s3", region)
    expected = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
    return "" if expected == signature else "SignatureDoesNotMatch"
