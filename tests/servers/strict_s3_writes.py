"""What the strict S3 fixture does when it is written to: objects, uploads in parts, conditions, checksums.

[API] Amazon S3 API Reference, [GUIDE] Amazon S3 User Guide, as in `servers.strict_s3`.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from xml.etree import ElementTree
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from servers.strict_s3 import StrictS3

__all__ = ["Upload", "WriteRefusedError", "write"]

_CHECKSUM = "x-amz-checksum-crc32"
_META = "x-amz-meta-"
_LEAST_PART = 5 << 20
_XML = "{http://s3.amazonaws.com/doc/2006-03-01/}"
_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'


class WriteRefusedError(Exception):
    """An S3 error answer."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status, self.code = status, code


@dataclass
class Upload:
    """One upload in parts that has begun; ``parts`` by number."""

    bucket: str
    key: str
    metadata: dict[str, str]
    algorithm: str
    parts: dict[int, bytes] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class _Request:
    state: StrictS3
    bucket: str
    key: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def objects(self) -> dict[str, bytes]:
        return self.state.buckets[self.bucket]


Result = tuple[int, bytes, dict[str, str]]


def write(
    state: StrictS3, method: str, bucket: str, key: str, query: Mapping[str, str], headers: Mapping[str, str],
    body: bytes,
) -> Result:  # fmt: skip
    """Status, body and headers of the answer. Raises `WriteRefusedError`."""
    request = _Request(state=state, bucket=bucket, key=key, query=query, headers=headers, body=body)
    match method, sorted(query):
        case "GET", ["prefix", "uploads"] | ["encoding-type", "prefix", "uploads"]:
            return _list_uploads(request)
        case "PUT", []:
            return _put_object(request)
        case "DELETE", []:
            request.objects.pop(key, None)
            return 204, b"", {}
        case "POST", ["uploads"]:
            return _begin(request)
        case "PUT", ["partNumber", "uploadId"]:
            return _put_part(request)
        case "POST", ["uploadId"]:
            return _complete(request)
        case "DELETE", ["uploadId"]:
            _upload_of(request)
            del state.uploads[query["uploadId"]]
            return 204, b"", {}
    raise WriteRefusedError(501, "NotImplemented")


def _check_body(request: _Request) -> None:
    """[API] PutObject: "x-amz-checksum-crc32"; [SIG]: the hash that was signed is that of the body."""
    told = request.headers.get(_CHECKSUM)
    if told is not None and told != _crc(request.body):
        raise WriteRefusedError(400, "BadDigest")
    hashed = request.headers.get("x-amz-content-sha256", "UNSIGNED-PAYLOAD")
    if hashed not in ("UNSIGNED-PAYLOAD", hashlib.sha256(request.body).hexdigest()):
        raise WriteRefusedError(400, "XAmzContentSHA256Mismatch")


def _check_conditions(request: _Request) -> None:
    """[GUIDE] "How to prevent object overwrites with conditional writes"."""
    if not request.state.conditions:
        if "if-none-match" in request.headers or "if-match" in request.headers:
            raise WriteRefusedError(501, "NotImplemented")
        return
    there = request.objects.get(request.key)
    if request.headers.get("if-none-match") == "*" and there is not None:
        raise WriteRefusedError(412, "PreconditionFailed")
    wanted = request.headers.get("if-match")
    if wanted is not None and (there is None or wanted != f'"{request.state.etag(request.key, there)}"'):
        raise WriteRefusedError(412 if there is not None else 404, "PreconditionFailed")


def _metadata(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.removeprefix(_META): value for name, value in headers.items() if name.startswith(_META)}


def _put_object(request: _Request) -> Result:
    _check_body(request)
    _check_conditions(request)
    state, key = request.state, request.key
    request.objects[key] = request.body
    state.parts.pop(key, None)
    state.metadata[key] = _metadata(request.headers)
    state.sums[key] = {_CHECKSUM: _crc(request.body), "x-amz-checksum-type": "FULL_OBJECT"}
    return 200, b"", {"ETag": f'"{state.etag(key, request.body)}"'}


def _begin(request: _Request) -> Result:
    upload = secrets.token_hex(8)
    request.state.uploads[upload] = Upload(
        bucket=request.bucket, key=request.key, metadata=_metadata(request.headers),
        algorithm=request.headers.get("x-amz-checksum-algorithm", ""),
    )  # fmt: skip
    return 200, _xml("InitiateMultipartUploadResult", Bucket=request.bucket, Key=request.key, UploadId=upload), {}


def _upload_of(request: _Request) -> Upload:
    found = request.state.uploads.get(request.query["uploadId"])
    if found is None or (found.bucket, found.key) != (request.bucket, request.key):
        raise WriteRefusedError(404, "NoSuchUpload")
    return found


def _put_part(request: _Request) -> Result:
    upload = _upload_of(request)
    _check_body(request)
    if upload.algorithm == "CRC32" and _CHECKSUM not in request.headers:  # [GUIDE] "Checking object integrity"
        raise WriteRefusedError(400, "InvalidRequest")
    upload.parts[int(request.query["partNumber"])] = request.body
    return 200, b"", {"ETag": f'"{hashlib.md5(request.body).hexdigest()}"'}


def _complete(request: _Request) -> Result:
    """[API] CompleteMultipartUpload: parts in order, each as it was put, all but the last of 5 MiB at least."""
    upload, state = _upload_of(request), request.state
    rows = [
        (int(row.findtext(f"{_XML}PartNumber", "")), row.findtext(f"{_XML}ETag"), row.findtext(f"{_XML}ChecksumCRC32"))
        for row in ElementTree.fromstring(request.body)
    ]
    numbers = [number for number, _, _ in rows]
    if numbers != sorted(set(numbers)) or not numbers:
        raise WriteRefusedError(400, "InvalidPartOrder")
    for number, etag, crc in rows:
        body = upload.parts.get(number)
        if body is None or etag != f'"{hashlib.md5(body).hexdigest()}"' or (upload.algorithm and crc != _crc(body)):
            raise WriteRefusedError(400, "InvalidPart")
    pieces = [upload.parts[number] for number in numbers]
    if any(len(piece) < _LEAST_PART for piece in pieces[:-1]):
        raise WriteRefusedError(400, "EntityTooSmall")
    _check_conditions(request)
    content = b"".join(pieces)
    request.objects[request.key] = content
    state.parts[request.key] = [len(piece) for piece in pieces]
    state.metadata[request.key] = upload.metadata
    of_parts = zlib.crc32(b"".join(zlib.crc32(piece).to_bytes(4, "big") for piece in pieces)).to_bytes(4, "big")
    told = f"{base64.b64encode(of_parts).decode()}-{len(pieces)}"
    state.sums[request.key] = {_CHECKSUM: told, "x-amz-checksum-type": "COMPOSITE"}
    del state.uploads[request.query["uploadId"]]
    etag = f'"{state.etag(request.key, content)}"'
    return 200, _xml("CompleteMultipartUploadResult", Bucket=request.bucket, Key=request.key, ETag=etag), {}


def _list_uploads(request: _Request) -> Result:
    rows = "".join(
        f"<Upload><Key>{escape(upload.key)}</Key><UploadId>{upload_id}</UploadId></Upload>"
        for upload_id, upload in request.state.uploads.items()
        if upload.bucket == request.bucket and upload.key.startswith(request.query["prefix"])
    )
    name = "ListMultipartUploadsResult"
    body = f'{_HEAD}<{name} xmlns="{_XML[1:-1]}"><IsTruncated>false</IsTruncated>{rows}</{name}>'
    return 200, body.encode(), {"Content-Type": "application/xml"}


def _xml(name: str, **values: str) -> bytes:
    inner = "".join(f"<{tag}>{escape(value)}</{tag}>" for tag, value in values.items())
    return f'{_HEAD}<{name} xmlns="{_XML[1:-1]}">{inner}</{name}>'.encode()


def _crc(body: bytes) -> str:
    return base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()
