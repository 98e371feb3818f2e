"""A small S3 of our own for what no packaged server does right: regions, expiry, clocks, errors on order.

It keeps objects in memory, refuses what it does not know, and checks every signature with botocore's signer. Each
rule names the page of AWS's documentation it follows: [API] Amazon S3 API Reference, [SIG] "Authenticating Requests
(AWS Signature Version 4)" in it, [ERR] "Error responses" in it, [GUIDE] Amazon S3 User Guide.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import itertools
import os
import re
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from typing import Any, ClassVar
from xml.sax.saxutils import escape

from awscrt import checksums

from servers.certificates import Certificates
from servers.local_http import local_http
from servers.s3 import Identity
from servers.strict_s3_signing import ScopeError, check_signature
from servers.strict_s3_writes import Upload, WriteRefusedError, write

__all__ = ["ALGORITHMS", "LAST_MODIFIED", "Answer", "Reply", "StrictS3", "of_parts", "strict_s3"]

OWNER = Identity("stager-strict-key", "stager-strict-secret")
LAST_MODIFIED = "2024-05-01T00:00:00.000Z"
"""Of every object."""

_SSE_C = "x-amz-server-side-encryption-customer-"

_ARCHIVES = ("GLACIER", "DEEP_ARCHIVE")
ALGORITHMS: dict[str, Callable[[bytes], bytes]] = {
    "crc32": lambda data: checksums.crc32(data).to_bytes(4, "big"),
    "crc32c": lambda data: checksums.crc32c(data).to_bytes(4, "big"),
    "crc64nvme": lambda data: checksums.crc64nvme(data).to_bytes(8, "big"),
    "sha1": lambda data: hashlib.sha1(data).digest(),
    "sha256": lambda data: hashlib.sha256(data).digest(),
}
"""[GUIDE] "Checking object integrity in Amazon S3"."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """An error on order, for the next ``times`` requests by ``method`` ("": any) whose target contains ``path``."""

    path: str = ""
    method: str = ""
    times: int = 1
    status: int
    code: str
    message: str = "on order"
    headers: Mapping[str, str] = field(default_factory=dict)
    extra: str = ""  # XML inside <Error>


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A good answer to a GET of an object; ``length`` is announced, and when the body is shorter it ends there."""

    target: str
    headers: dict[str, str]
    body: bytes
    length: int


@dataclass
class StrictS3:
    """A running server; everything may be changed while it runs.

    ``buckets`` is name to key to content; ``regions`` is bucket to region where it is not ``region``. ``tokens``:
    the session tokens accepted, any of ``expired_tokens`` is told so; with neither, requests need no token.
    ``token_ends`` is token to the Unix time it ends at, ``token_uses`` to the requests that are left to it.
    ``algorithm``: the one of `ALGORITHMS` that every object was stored with ("": none), of the whole but for the keys
    in ``composites``; those in ``unsummed`` have none. ``parts``: key to the lengths of the parts that it was uploaded
    in. ``encryption``: key to the value of x-amz-server-side-encryption. ``parts_told`` False: it does not know
    partNumber, as some other makes.
    ``metadata``: what is told of a key as x-amz-meta-NAME. Keys that are no UTF-8 are written with surrogates, as
    `os.fsdecode` does. ``customer_keys`` is object key to the SSE-C key it was stored with; ``storage_classes`` is
    object key to class where it is not STANDARD, ``restored`` is object key to whether that has been done (else it is
    under way); an archive tier of INTELLIGENT_TIERING is written INTELLIGENT_TIERING/TIER. ``hosts`` is host name to
    the bucket it stands for, ``listed_only`` are buckets whose objects nobody may read, ``requester_pays`` are buckets,
    ``owners`` is bucket to account. ``versions`` is key to version id to content (None: a delete marker), in any
    bucket, and ``claimed_version`` what every answer calls its version instead. ``on_request`` is called with (method,
    target) before each answer; ``alter`` changes those that bring an object.
    """

    endpoint_url: str = ""
    region: str = "us-east-1"
    identity: Identity = OWNER
    ca_file: str | None = None
    buckets: dict[str, dict[str, bytes]] = field(default_factory=dict)
    regions: dict[str, str] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=set)
    expired_tokens: set[str] = field(default_factory=set)
    token_ends: dict[str, float] = field(default_factory=dict)
    token_uses: dict[str, int] = field(default_factory=dict)
    public: set[str] = field(default_factory=set)
    clock_offset_s: int = 0
    page_size: int = 1000
    algorithm: str = ""
    composites: set[str] = field(default_factory=set)
    unsummed: set[str] = field(default_factory=set)
    parts: dict[str, list[int]] = field(default_factory=dict)
    encryption: dict[str, str] = field(default_factory=dict)
    parts_told: bool = True
    alter: Callable[[Answer], Answer] | None = None
    metadata: dict[str, dict[str, str]] = field(default_factory=dict)
    customer_keys: dict[str, bytes] = field(default_factory=dict)
    storage_classes: dict[str, str] = field(default_factory=dict)
    restored: dict[str, bool] = field(default_factory=dict)
    hosts: dict[str, str] = field(default_factory=dict)
    listed_only: set[str] = field(default_factory=set)
    requester_pays: set[str] = field(default_factory=set)
    owners: dict[str, str] = field(default_factory=dict)
    versions: dict[str, dict[str, bytes | None]] = field(default_factory=dict)
    claimed_version: str = ""
    on_request: Callable[[str, str], None] | None = None
    requests: list[tuple[str, str]] = field(default_factory=list)
    headers_seen: set[str] = field(default_factory=set)  # names, lower case
    uploads: dict[str, Upload] = field(default_factory=dict)  # that have begun, by their ids
    sums: dict[str, dict[str, str]] = field(default_factory=dict)  # key to what is told of one that was written here
    conditions: bool = True  # whether it knows conditional writes
    _replies: list[tuple[Reply, int]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def environment(self, token: str | None = None) -> dict[str, str]:
        """The AWS_* variables with which a child process reaches this server and nothing else."""
        variables = {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": self.identity.access_key,
            "AWS_SECRET_ACCESS_KEY": self.identity.secret_key,
            "AWS_REGION": self.region,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        }
        if token is not None:
            variables["AWS_SESSION_TOKEN"] = token
        return variables if self.ca_file is None else {**variables, "AWS_CA_BUNDLE": self.ca_file}

    def reply(self, *replies: Reply) -> None:
        """Answer requests to come with these; the first that fits is used."""
        with self._lock:
            self._replies += [(reply, reply.times) for reply in replies]

    def take_reply(self, method: str, target: str) -> Reply | None:
        with self._lock:
            for index, (reply, left) in enumerate(self._replies):
                if reply.path in target and reply.method in ("", method):
                    self._replies[index] = (reply, left - 1)
                    if left <= 1:
                        del self._replies[index]
                    return reply
        return None

    def forget_replies(self) -> None:
        """Back to answering as S3 does."""
        with self._lock:
            self._replies.clear()

    def etag(self, key: str, content: bytes) -> str:
        """[API] Object: the MD5 of what came in one piece, in the clear; [GUIDE] "Checking object integrity", of what
        came in parts the MD5 of their MD5s and their number; encrypted with SSE-C or SSE-KMS, neither.
        """
        pieces = self.pieces(key, content)
        if self.encryption.get(key, "AES256") != "AES256" or key in self.customer_keys:
            pieces = [b"encrypted", self.customer_keys.get(key, b""), *pieces]
        elif key not in self.parts:
            return _md5(content)
        value = of_parts(lambda data: hashlib.md5(data).digest(), pieces).hex()
        return f"{value}-{len(self.parts[key])}" if key in self.parts else value

    def pieces(self, key: str, content: bytes) -> list[bytes]:
        """The parts that it was uploaded in."""
        ends = list(itertools.accumulate(self.parts.get(key, [len(content)])))
        return [content[start:end] for start, end in zip([0, *ends], ends, strict=False)]

    def now(self) -> float:
        return time.time() + self.clock_offset_s

    def has_ended(self, token: str) -> bool:
        """Whether a token is told that it has expired; takes note of its use."""
        with self._lock:
            left = self.token_uses.get(token)
            if left is not None:
                self.token_uses[token] = left - 1
            past = time.time() > self.token_ends.get(token, float("inf"))
            return token in self.expired_tokens or past or (left is not None and left <= 0)

class _Refusal(Exception):  # noqa: N818 - an answer, not a failure of ours
    """An S3 error answer."""

    def __init__(
        self, status: int, code: str, message: str, *, extra: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(code)
        self.status, self.code, self.message, self.extra = status, code, message, extra
        self.headers = dict(headers or {})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30
    state: ClassVar[StrictS3]

    def do_GET(self) -> None:
        self._serve()

    def do_HEAD(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def log_message(self, format: str, *args: Any) -> None:
        """The requests are recorded, not printed."""

    def date_time_string(self, timestamp: float | None = None) -> str:
        return formatdate(timestamp or self.state.now(), usegmt=True)

    def _serve(self) -> None:
        if self.path.startswith("http://"):  # as to a proxy (RFC 9112, section 3.2.2): this server is any host then
            self.path = "/" + self.path.split("/", 3)[3]
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.state.requests.append((self.command, self.path))
        self.state.headers_seen.update(name.lower() for name in self.headers)
        if self.state.on_request is not None:
            self.state.on_request(self.command, self.path)
        try:
            self._answer()
        except _Refusal as refusal:
            self._refuse(refusal)

    def _answer(self) -> None:
        if (reply := self.state.take_reply(self.command, self.path)) is not None:
            raise _Refusal(reply.status, reply.code, reply.message, extra=reply.extra, headers=reply.headers)
        path, _, raw_query = self.path.partition("?")
        strictly = bool(raw_query) and not re.match(r"uploads(?:&|$)", raw_query)  # the one that has no value
        query = dict(urllib.parse.parse_qsl(raw_query, keep_blank_values=True, strict_parsing=strictly))
        bucket, _, key = urllib.parse.unquote(path, errors="surrogateescape").removeprefix("/").partition("/")
        if (virtual := self.state.hosts.get(self.headers["Host"])) is not None:  # [GUIDE] "Virtual hosting of buckets"
            bucket, key = virtual, urllib.parse.unquote(path, errors="surrogateescape").removeprefix("/")
        region = self.state.regions.get(bucket, self.state.region)
        self._authorize(bucket, region)
        paid = self._check_conditions(bucket)
        objects = self.state.buckets.get(bucket)
        if objects is None:
            raise _Refusal(404, "NoSuchBucket", "The specified bucket does not exist")
        where = {"x-amz-bucket-region": region}  # [API] HeadBucket
        if key and bucket in self.state.listed_only:
            # [API] GetObject, HeadObject, "Permissions": s3:GetObject; to list takes s3:ListBucket alone.
            raise _Refusal(403, "AccessDenied", "Access Denied")
        if self.command in ("PUT", "POST", "DELETE") or "uploads" in query:
            self._write(bucket, key, query)
        elif key:
            self._get_object(objects, key, query, paid)
        elif any(name.lower().startswith(_SSE_C) for name in self.headers):  # [API] ListObjectsV2 has no such header
            raise _Refusal(501, "NotImplemented", "SSE-C in a request for a bucket")
        elif self.command == "HEAD":
            self._send(200, b"", where)
        elif query.pop("list-type", None) == "2":
            restores = self.headers.get("x-amz-optional-object-attributes") == "RestoreStatus"
            page = _list(self.state, bucket, objects, query, restores=restores)
            self._send(200, page, {"Content-Type": "application/xml"})
        else:
            raise _Refusal(501, "NotImplemented", f"{self.command} {self.path}")

    def _write(self, bucket: str, key: str, query: Mapping[str, str]) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            answer = write(self.state, self.command, bucket, key, query, headers, self.body)
        except WriteRefusedError as error:
            raise _Refusal(error.status, error.code, error.code) from error
        self._send(*answer)

    def _authorize(self, bucket: str, region: str) -> None:
        """[SIG], [ERR]: the codes are those that AWS sends for each of these."""
        headers = {name.lower(): value for name, value in self.headers.items()}
        if "authorization" not in headers:
            if bucket in self.state.public:
                return
            raise _Refusal(403, "AccessDenied", "Access Denied")
        token = headers.get("x-amz-security-token")
        if token is not None and self.state.has_ended(token):
            raise _Refusal(400, "ExpiredToken", "The provided token has expired.")
        known = self.state.tokens | self.state.token_ends.keys()
        if (known or token is not None) and token not in known:
            raise _Refusal(403, "InvalidAccessKeyId", "The access key does not exist in our records.")
        try:
            code = check_signature(self.command, self.path, headers, self.state.identity, region, self.state.now())
        except ScopeError as error:
            # [GUIDE] "Troubleshooting": the region is named, so that the client can sign again.
            raise _Refusal(
                400,
                "AuthorizationHeaderMalformed",
                f"The authorization header is malformed; the region '{error.region}' is wrong; expecting '{region}'",
                extra=f"<Region>{region}</Region>",
                headers={"x-amz-bucket-region": region},
            ) from error
        if code:
            raise _Refusal(403, code, code)

    def _check_conditions(self, bucket: str) -> dict[str, str]:
        """[GUIDE] "Verifying bucket ownership with bucket owner condition" and "Downloading objects from Requester Pays
        buckets": either not met is a 403; who pays is told that it was charged.
        """
        owner = self.headers.get("x-amz-expected-bucket-owner")
        if owner is not None and owner != self.state.owners.get(bucket):
            raise _Refusal(403, "AccessDenied", "Access Denied")
        if bucket not in self.state.requester_pays:
            return {}
        if self.headers.get("x-amz-request-payer") != "requester" or "Authorization" not in self.headers:
            raise _Refusal(403, "AccessDenied", "Access Denied")
        return {"x-amz-request-charged": "requester"}

    def _check_readable(self, key: str) -> dict[str, str]:
        """[API] GetObject, HeadObject, [GUIDE] "Restoring an archived object": a HEAD is answered, a GET is refused."""
        storage_class, _, tier = self.state.storage_classes.get(key, "STANDARD").partition("/")
        told = {} if storage_class == "STANDARD" else {"x-amz-storage-class": storage_class}
        if self.command == "HEAD" or not (storage_class in _ARCHIVES or tier) or self.state.restored.get(key):
            return told
        where = f"<StorageClass>{storage_class}</StorageClass>{f'<AccessTier>{tier}</AccessTier>' if tier else ''}"
        raise _Refusal(
            403, "InvalidObjectState", "The operation is not valid for the object's storage class", extra=where
        )

    def _check_customer_key(self, key: str) -> dict[str, str]:
        """[GUIDE] "Using server-side encryption with customer-provided keys (SSE-C)": HTTPS only; the key and its MD5
        with every GET and HEAD; the answer names algorithm and MD5. [ERR] InvalidRequest, InvalidArgument.
        """
        algorithm, text, md5 = (self.headers.get(_SSE_C + name) for name in ("algorithm", "key", "key-md5"))
        stored = self.state.customer_keys.get(key)
        if algorithm is None and text is None and md5 is None:
            if stored is not None:
                raise _Refusal(
                    400, "InvalidRequest", "The object was stored using a form of Server Side Encryption. "
                    "The correct parameters must be provided to retrieve the object.",
                )  # fmt: skip
            return {}
        if self.state.ca_file is None:
            raise _Refusal(400, "InvalidRequest", "Requests with SSE-C must be made over a secure connection.")
        if algorithm != "AES256":
            raise _Refusal(400, "InvalidEncryptionAlgorithmError", "The valid value is AES256.")
        given = base64.b64decode(text or "", validate=True)
        if len(given) != 32 or base64.b64encode(hashlib.md5(given).digest()).decode() != md5:
            raise _Refusal(400, "InvalidArgument", "The calculated MD5 hash of the key did not match.")
        if stored is None:
            raise _Refusal(400, "InvalidRequest", "The encryption parameters are not applicable to this object.")
        if given != stored:
            raise _Refusal(403, "AccessDenied", "Access Denied")
        return {f"{_SSE_C}algorithm": "AES256", f"{_SSE_C}key-MD5": md5}

    def _get_object(
        self, objects: Mapping[str, bytes], key: str, query: Mapping[str, str], more: Mapping[str, str]
    ) -> None:
        """[API] GetObject; ``more`` are headers of the answer."""
        known = {"versionId", "partNumber"} if self.command == "HEAD" and self.state.parts_told else {"versionId"}
        version, number = query.get("versionId"), query.get("partNumber")
        if query.keys() - known:
            raise _Refusal(501, "NotImplemented", f"query {query}")
        if version is None and key not in objects:
            raise _Refusal(404, "NoSuchKey", "The specified key does not exist.")
        content = objects[key] if version is None else self._version(key, version)
        more = {**more, **self._check_readable(key)}
        headers = {
            **({"x-amz-version-id": self.state.claimed_version or version} if version is not None else {}),
            **more,
            **self._check_customer_key(key),
            "ETag": f'"{self.state.etag(key, content)}"',
            "Accept-Ranges": "bytes",
            "Content-Type": "binary/octet-stream",
            **{f"x-amz-meta-{name}": value for name, value in self.state.metadata.get(key, {}).items()},
        }
        if (wanted := self.headers.get("If-Match")) is not None and wanted not in (headers["ETag"], "*"):
            raise _Refusal(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold")
        if key in self.state.encryption:
            headers["x-amz-server-side-encryption"] = self.state.encryption[key]
        if number is not None:
            self._head_part(key, content, int(number), headers)
            return
        if (wanted := self.headers.get("Range")) is None:
            self._send(200, content, {**headers, **self._checksum(key, content)})
            return
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", wanted)
        if match is None:
            raise _Refusal(501, "NotImplemented", f"Range: {wanted}")
        first, last = int(match[1]), min(int(match[2]), len(content) - 1)
        if first >= len(content):  # an empty object has no range at all
            raise _Refusal(416, "InvalidRange", "The requested range is not satisfiable")
        headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        self._send(206, content[first : last + 1], headers)

    def _version(self, key: str, version: str) -> bytes:
        """[API] GetObject, "versionId"; [GUIDE] "Working with delete markers": one of them is a 405."""
        if version not in self.state.versions.get(key, {}):
            raise _Refusal(404, "NoSuchVersion", "The specified version does not exist.")
        content = self.state.versions[key][version]
        if content is None:
            headers = {"x-amz-delete-marker": "true", "Allow": "DELETE"}
            raise _Refusal(405, "MethodNotAllowed", "The specified method is not allowed", headers=headers)
        return content

    def _checksum(self, key: str, content: bytes) -> dict[str, str]:
        """[API] GetObject, HeadObject: only with x-amz-checksum-mode. [GUIDE] "Checking object integrity": a composite
        is one of the parts' checksums, its value ends in their number. With a Range that is no stored part: nothing.
        """
        asked = self.headers.get("x-amz-checksum-mode") == "ENABLED"
        if asked and key in self.state.sums:
            return self.state.sums[key]
        if not self.state.algorithm or key in self.state.unsummed or not asked:
            return {}
        compute = ALGORITHMS[self.state.algorithm]
        name = f"x-amz-checksum-{self.state.algorithm}"
        if key not in self.state.composites:
            value = base64.b64encode(compute(content)).decode()
            return {name: value, "x-amz-checksum-type": "FULL_OBJECT"}
        pieces = self.state.pieces(key, content)
        value = base64.b64encode(of_parts(compute, pieces)).decode()
        return {name: f"{value}-{len(pieces)}", "x-amz-checksum-type": "COMPOSITE"}

    def _head_part(self, key: str, content: bytes, number: int, headers: dict[str, str]) -> None:
        """[API] HeadObject: with partNumber, effectively a ranged HEAD of that part; x-amz-mp-parts-count only of what
        was uploaded in parts. [ERR] InvalidPartNumber.
        """
        pieces = self.state.pieces(key, content)
        if not 1 <= number <= len(pieces):
            raise _Refusal(416, "InvalidPartNumber", "The requested partnumber is not satisfiable")
        if key in self.state.parts:
            headers["x-amz-mp-parts-count"] = str(len(pieces))
        first = sum(map(len, pieces[: number - 1]))
        headers["Content-Range"] = f"bytes {first}-{first + len(pieces[number - 1]) - 1}/{len(content)}"
        self._send(206, pieces[number - 1], headers)

    def _refuse(self, refusal: _Refusal) -> None:
        body = (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            f"<Error><Code>{refusal.code}</Code><Message>{escape(refusal.message)}</Message>{refusal.extra}"
            f"<RequestId>STRICT0000000001</RequestId><HostId>strict</HostId></Error>"
        )
        self._send(refusal.status, body.encode(), {"Content-Type": "application/xml", **refusal.headers})

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        answer = Answer(target=self.path, headers=dict(headers), body=body, length=len(body))
        if self.state.alter is not None and self.command == "GET" and "ETag" in headers:
            answer = self.state.alter(answer)
        self.send_response(status)
        self.send_header("x-amz-request-id", "STRICT0000000001")
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(answer.length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)
            self.close_connection |= answer.length > len(answer.body)


def of_parts(compute: Callable[[bytes], bytes], pieces: list[bytes]) -> bytes:
    """[GUIDE] "Checking object integrity", composite checksums: that of the parts' checksums, one after the other."""
    return compute(b"".join(map(compute, pieces)))


def _restore_status(state: StrictS3, key: str) -> str:
    """[API] RestoreStatus: there only of what is being restored or has been."""
    if key not in state.restored:
        return ""
    if not state.restored[key]:
        return "<RestoreStatus><IsRestoreInProgress>true</IsRestoreInProgress></RestoreStatus>"
    return (
        "<RestoreStatus><IsRestoreInProgress>false</IsRestoreInProgress>"
        "<RestoreExpiryDate>2999-01-01T00:00:00.000Z</RestoreExpiryDate></RestoreStatus>"
    )


def _list(
    state: StrictS3, bucket: str, objects: Mapping[str, bytes], query: dict[str, str], *, restores: bool
) -> bytes:
    """[API] ListObjectsV2: in UTF-8 binary order; a token is opaque and starts after the page before it."""
    prefix = query.pop("prefix", "")
    token = query.pop("continuation-token", None)
    after = query.pop("start-after", "") if token is None else os.fsdecode(bytes.fromhex(token))
    query.pop("fetch-owner", None)
    encoded = query.pop("encoding-type", None) == "url"
    most = min(int(query.pop("max-keys", "1000")), state.page_size)
    if query:
        raise _Refusal(501, "NotImplemented", f"query {query}")
    keys = sorted((key for key in objects if key.startswith(prefix)), key=os.fsencode)
    rest = [key for key in keys if os.fsencode(key) > os.fsencode(after)]
    page, truncated = rest[:most], len(rest) > most

    def text(value: str) -> str:
        return urllib.parse.quote_plus(os.fsencode(value), safe="/*-._") if encoded else escape(value)

    rows = "".join(
        f"<Contents><Key>{text(key)}</Key><LastModified>{LAST_MODIFIED}</LastModified>"
        f"<ETag>&quot;{state.etag(key, objects[key])}&quot;</ETag><Size>{len(objects[key])}</Size>"
        f"<StorageClass>{state.storage_classes.get(key, 'STANDARD').partition('/')[0]}</StorageClass>"
        f"{_restore_status(state, key) if restores else ''}</Contents>"
        for key in page
    )
    next_token = f"<NextContinuationToken>{os.fsencode(page[-1]).hex()}</NextContinuationToken>" if truncated else ""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>{bucket}</Name><Prefix>{text(prefix)}</Prefix>{next_token}"
        f"<KeyCount>{len(page)}</KeyCount><MaxKeys>{most}</MaxKeys>"
        f"{'<EncodingType>url</EncodingType>' if encoded else ''}"
        f"<IsTruncated>{'true' if truncated else 'false'}</IsTruncated>{rows}</ListBucketResult>"
    ).encode()


@functools.lru_cache(maxsize=4096)
def _md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


@contextmanager
def strict_s3(certificates: Certificates | None = None, host: str = "127.0.0.1") -> Iterator[StrictS3]:
    """A server without buckets at ``host``; with certificates it speaks https."""
    state = StrictS3(ca_file=certificates.ca_file if certificates else None)
    with local_http(type("Handler", (_Handler,), {"state": state}), certificates, host) as state.endpoint_url:
        yield state
