"""The key of objects that are stored with SSE-C: read from a file that is private to its user, sent with every request.

Whoever has the key and the stored bytes has the data, so it never stands on a command line or in a job file, is sent
to no server but one whose certificate was checked, and never in the clear. An ETag of such an object is no MD5 of it.
Source: Amazon S3 User Guide, "Using server-side encryption with customer-provided keys (SSE-C)".
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import stat
from typing import Final

from msgspec import Struct

from stager.config import Remote, Secret
from stager.errors import UsageError
from stager.sources.s3_values import Prepared

__all__ = ["CustomerKey", "check_way", "read_customer_key"]

_KEY_BYTES: Final = 32
_MOST_BYTES: Final = 64  # of a file: base64 of 32 bytes is 44, and a line's end
_HINT: Final = "32 bytes, or base64 of them in one line"
_PREFIX: Final = "x-amz-server-side-encryption-customer-"


class CustomerKey(Struct, frozen=True, kw_only=True):
    """A key and its MD5, both in base64."""

    key: Secret
    md5: Secret

    def headers(self) -> tuple[tuple[str, str], ...]:
        """What a request for an object carries; one for a listing has no use for it."""
        return (
            (f"{_PREFIX}algorithm", "AES256"),
            (f"{_PREFIX}key", self.key.reveal()),
            (f"{_PREFIX}key-md5", self.md5.reveal()),
        )


def read_customer_key(path: str) -> CustomerKey:
    """The key in a file. Blocks.

    Raises `UsageError`: it cannot be read, is no regular file, belongs to another user, is open to others, holds no
    key. What it holds is never told.
    """
    key = _decoded(_read_private(path))
    if key is None:
        raise UsageError("holds no SSE-C key", where=path, hint=_HINT)
    return CustomerKey(
        key=Secret(base64.b64encode(key).decode()),
        md5=Secret(base64.b64encode(hashlib.md5(key, usedforsecurity=False).digest()).decode()),
    )


def check_way(prepared: Prepared, remote: Remote) -> None:
    """Refuse to send a key in the clear, or to a server that nobody has vouched for: `UsageError`."""
    if not prepared.tls:
        raise UsageError("an SSE-C key is not sent in the clear", where=prepared.url, hint="name an https:// endpoint")
    if not remote.verify_ssl:
        raise UsageError(
            "an SSE-C key is sent only where the certificate is checked", where=prepared.url,
            hint="name the server's CA with --ca-bundle",
        )  # fmt: skip


def _read_private(path: str) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "its name holds a NUL"
        raise UsageError(f"the SSE-C key cannot be read: {reason}", where=path, hint="check --sse-c-key-file") from None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise UsageError("the SSE-C key is not a regular file", where=path)
        if status.st_uid not in (0, os.geteuid()):
            raise UsageError(f"the SSE-C key belongs to user {status.st_uid}", where=path, hint="use a file of yours")
        if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise UsageError("the SSE-C key is open to other users", where=path, hint="chmod 600 it")
        return os.read(fd, _MOST_BYTES + 1)
    except OSError as error:
        raise UsageError(f"the SSE-C key cannot be read: {error.strerror}", where=path) from None
    finally:
        os.close(fd)


def _decoded(data: bytes) -> bytes | None:
    if len(data) == _KEY_BYTES:
        return data
    try:
        key = base64.b64decode(data.strip(), validate=True)
    except (binascii.Error, ValueError):
        return None
    return key if len(key) == _KEY_BYTES and len(data) <= _MOST_BYTES else None
