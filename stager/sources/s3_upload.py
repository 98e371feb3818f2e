"""Objects written below one prefix of a bucket, each whole and proved by what the server says of it afterwards.

A checksum goes with every part (CRC32, which all makes of S3 know; [API] PutObject, UploadPart), so a server that looks
refuses what was damaged on the way. Whether it has, HEAD tells: the checksum of the object, full or of its parts
([GUIDE] "Checking object integrity"). One that tells none is asked for the object, and that is compared.

``If-None-Match: *`` keeps an object that is there already ([GUIDE] "Conditional writes"). A make that does not know it
answers 501, or writes: for those the prefix is marked and listed before.
[API]: Amazon S3 API Reference; [GUIDE]: Amazon S3 User Guide.
"""

from __future__ import annotations

import asyncio
import base64
import zlib
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack, suppress
from typing import Any, Final, Self

from botocore.exceptions import BotoCoreError, ClientError
from msgspec import Struct

from stager._native import crc_combine
from stager.config import Remote
from stager.errors import ChangedError, HostError, IntegrityError, NotFoundError, SourceError, StagerError
from stager.host.threads import blocking, together
from stager.sources.s3_budget import Budget
from stager.sources.s3_endpoint import Session

__all__ = ["OBJECT_BYTES_MAX", "Prefix", "part_bytes"]

OBJECT_BYTES_MAX: Final = 5 << 40
"""[GUIDE] "Amazon S3 multipart upload limits"; newer servers may take more, others take less."""

_PARTS_MAX: Final = 10_000
_PART_BYTES: Final = 8 << 20
_MEMORY_BYTES: Final = 64 << 20
_LEAST_BYTES: Final = 256 << 10  # what an object counts for at least: so many are under way at once
_CONNECTIONS: Final = 32
_TRIES: Final = 3
_ABORT_WITHIN_S: Final = 0.5  # a signal ends stager within a second
_WRITES: Final = ("put_object", "complete_multipart_upload")
_MARK: Final = "stager-job"  # x-amz-meta-stager-job

Read = Callable[[int, int], bytes]
"""Exactly so many bytes from an offset; blocks. Raises `ChangedError`: it is shorter; OSError."""


class _Piece(Struct, frozen=True):
    offset: int
    length: int
    crc: int


def part_bytes(size: int) -> int:
    """How long the parts of an object are: at most 10,000 of them, of whole MiB."""
    least = -(-size // _PARTS_MAX)
    return max(_PART_BYTES, -(-least >> 20) << 20)


class Prefix:
    """``prefix`` of ``bucket``, of the job whose ``token`` stands in what is written. An async context manager."""

    def __init__(self, remote: Remote, bucket: str, prefix: str, token: str) -> None:
        """Raises `UsageError` for an endpoint with a user in it."""
        self._session = Session(remote)
        self._always = _with_each(remote)
        self._bucket = bucket
        self._prefix = prefix
        self._token = token
        self._closing = AsyncExitStack()
        self._budget = Budget(_MEMORY_BYTES, _LEAST_BYTES)
        self._client: Any = None
        self.conditions = True  # until the server says that it knows none

    async def __aenter__(self) -> Self:
        try:
            self._client = await self._closing.enter_async_context(self._session.client(connections=_CONNECTIONS))
        except (BotoCoreError, ClientError, OSError, ValueError) as error:
            raise self._session.explained(error, f"s3://{self._bucket}") from None
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._closing.aclose()

    async def _call(self, name: str, key: str | None = None, **arguments: Any) -> Any:
        where = f"s3://{self._bucket}/{key or self._prefix}"
        if key is not None:
            arguments["Key"] = key
        try:
            return await getattr(self._client, name)(Bucket=self._bucket, **arguments, **self._always)
        except ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            code = error.response.get("Error", {}).get("Code", "")
            if status == 404 and code not in ("NoSuchBucket", "NoSuchUpload"):
                raise NotFoundError("is not there", where=where) from None
            if status == 412:
                raise _IsThereError(where) from None
            if status == 501 and name in _WRITES and arguments.keys() & {"IfNoneMatch", "IfMatch"}:
                raise _NoConditionsError from None
            raise self._session.explained(error, where) from None
        except (BotoCoreError, OSError, ValueError) as error:
            raise self._session.explained(error, where) from None

    async def sizes(self, prefix: str | None = None, *, most: int | None = None) -> dict[str, int]:
        """The objects below a prefix, this one when it is None; not more than ``most``, where that is given."""
        found: dict[str, int] = {}
        more: dict[str, Any] = {} if most is None else {"MaxKeys": most}
        while True:
            page = await self._call("list_objects_v2", Prefix=self._prefix if prefix is None else prefix, **more)
            found.update((one["Key"], one["Size"]) for one in page.get("Contents", ()))
            token = page.get("NextContinuationToken")
            if not page.get("IsTruncated") or most is not None:
                return found
            if not token or token == more.get("ContinuationToken"):
                raise SourceError("the listing does not go on", where=f"s3://{self._bucket}/{self._prefix}")
            more["ContinuationToken"] = token

    async def read(self, key: str, most: int = 1 << 20) -> bytes | None:
        """A small object; None: there is none."""
        try:
            answer = await self._call("get_object", key)
        except NotFoundError:
            return None
        async with answer["Body"] as body:
            return bytes(await body.read(most))

    async def write(self, key: str, body: bytes, *, only_new: bool = False) -> bool:
        """Put a small object, and read it back; False: ``only_new``, and there is one of this name."""
        condition = {"IfNoneMatch": "*"} if only_new and self.conditions else {}
        arguments = {"Body": body, "ChecksumCRC32": _told([_Piece(0, len(body), zlib.crc32(body))])[0]}
        try:
            await self._call("put_object", key, **arguments, **condition)
        except _IsThereError:
            return False
        except _NoConditionsError:
            self.conditions = False
            await self._call("put_object", key, **arguments)
        if (there := await self.read(key, len(body) + 1)) != body and not only_new:
            raise IntegrityError("is not what was written", where=f"s3://{self._bucket}/{key}")
        return there == body

    async def delete(self, key: str) -> None:
        """Remove an object of ours."""
        await self._call("delete_object", key)

    async def abort_uploads(self) -> None:
        """Forget uploads below the prefix that a stager that was killed has begun: their parts are paid for.

        Who may not ask for them, or not forget them, goes on: a bucket may have a rule that does.
        """
        with suppress(SourceError):
            page = await self._call("list_multipart_uploads", Prefix=self._prefix)
            for upload in page.get("Uploads", ()):
                await self._call("abort_multipart_upload", upload["Key"], UploadId=upload["UploadId"])

    async def put(self, name: str, read: Read, size: int, *, there: bool) -> str:
        """Put one object and prove it; what the proof is: "A", the server told its checksum, or "B", it was read back.

        ``there``: the listing has one of this name. One that has these bytes stays; another is replaced when it is this
        job's. Raises `HostError`: it is not; `ChangedError`: of ``read``; `IntegrityError`, `SourceError`, OSError.
        """
        key = self._prefix + name
        condition: dict[str, Any] = {"IfNoneMatch": "*"}
        for _ in range(_TRIES):
            if there:
                head = await self._head(key)
                if head is not None:
                    if head.get("Metadata", {}).get(_MARK) != self._token:
                        raise HostError("an object of somebody else is there", where=f"s3://{self._bucket}/{key}")
                    if head["ContentLength"] == size:
                        with suppress(IntegrityError):
                            return await self._prove(key, size, await self._sums(read, size), head)
                    condition = {"IfMatch": head["ETag"]}
            try:
                pieces = await self._send(key, read, size, condition if self.conditions else {})
            except _IsThereError:
                there = True
                continue
            except _NoConditionsError:
                self.conditions = False
                continue
            return await self._prove(key, size, pieces, await self._head(key))
        raise HostError("somebody else writes there", where=f"s3://{self._bucket}/{key}")

    async def _head(self, key: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = await self._call("head_object", key, ChecksumMode="ENABLED")
        except NotFoundError:
            return None
        return found

    async def _send(self, key: str, read: Read, size: int, condition: dict[str, Any]) -> list[_Piece]:
        if size <= _PART_BYTES:
            taken = await self._budget.take(size)
            try:
                body = await blocking(read, 0, size)
                piece = _Piece(0, size, await asyncio.to_thread(zlib.crc32, body))
                await self._call(
                    "put_object", key, Body=body, ChecksumCRC32=_text(piece.crc), Metadata={_MARK: self._token},
                    **condition,
                )  # fmt: skip
            finally:
                self._budget.give(taken)
            return [piece]
        begun = await self._call(
            "create_multipart_upload", key, ChecksumAlgorithm="CRC32", Metadata={_MARK: self._token}
        )
        upload = begun["UploadId"]
        try:
            return await self._send_parts(key, upload, read, size, condition)
        except BaseException:
            with suppress(TimeoutError, SourceError, _IsThereError):
                async with asyncio.timeout(_ABORT_WITHIN_S):
                    await asyncio.shield(self._call("abort_multipart_upload", key, UploadId=upload))
            raise

    async def _send_parts(
        self, key: str, upload: str, read: Read, size: int, condition: dict[str, Any]
    ) -> list[_Piece]:
        etags: dict[int, str] = {}
        pieces = list(_cut(size))

        async def send(number: int) -> None:
            offset, length = pieces[number].offset, pieces[number].length
            taken = await self._budget.take(length)
            try:
                body = await blocking(read, offset, length)
                pieces[number] = _Piece(offset, length, await asyncio.to_thread(zlib.crc32, body))
                answer = await self._call(
                    "upload_part", key, UploadId=upload, PartNumber=number + 1, Body=body,
                    ChecksumCRC32=_text(pieces[number].crc),
                )  # fmt: skip
                etags[number] = answer["ETag"]
            finally:
                self._budget.give(taken)

        await _all(send, range(len(pieces)))
        parts = [
            {"PartNumber": number + 1, "ETag": etags[number], "ChecksumCRC32": _text(piece.crc)}
            for number, piece in enumerate(pieces)
        ]
        try:
            done = await self._call(
                "complete_multipart_upload", key, UploadId=upload, MultipartUpload={"Parts": parts}, **condition
            )
            if not done.get("ETag"):  # [API] CompleteMultipartUpload: a 200 may hold an error
                raise SourceError("the upload was not completed", where=f"s3://{self._bucket}/{key}")
        except StagerError:
            # An answer may be lost after it was done; then there is no such upload when it is asked again.
            if not await self._has_come(key, size, pieces):
                raise
        return pieces

    async def _has_come(self, key: str, size: int, pieces: list[_Piece]) -> bool:
        try:
            head = await self._head(key)
            if head is None or head.get("Metadata", {}).get(_MARK) != self._token:
                return False
            await self._prove(key, size, pieces, head)
        except StagerError:
            return False
        return True

    async def _sums(self, read: Read, size: int) -> list[_Piece]:
        """What an object of these bytes would be made of."""
        pieces = []
        for piece in _cut(size):
            taken = await self._budget.take(piece.length)
            try:
                body = await blocking(read, piece.offset, piece.length)
                pieces.append(_Piece(piece.offset, piece.length, await asyncio.to_thread(zlib.crc32, body)))
            finally:
                self._budget.give(taken)
        return pieces

    async def _prove(self, key: str, size: int, pieces: list[_Piece], head: dict[str, Any] | None) -> str:
        """Raises `IntegrityError`: the object is not these pieces."""
        where = f"s3://{self._bucket}/{key}"
        if head is None:
            raise IntegrityError("is not there after it was written", where=where)
        if head["ContentLength"] != size:
            raise IntegrityError(f"has {head['ContentLength']} bytes, {size} were written", where=where)
        if head.get("ChecksumCRC32") in _told(pieces):
            return "A"
        # Another one may be of other parts, or, of parts, not say of how many (moto): the bytes tell.

        async def compare(number: int) -> None:
            piece = pieces[number]
            taken = await self._budget.take(piece.length)
            try:
                crc = await self._crc_of(key, piece, str(head["ETag"]))
            finally:
                self._budget.give(taken)
            if crc != piece.crc:
                raise IntegrityError("what comes back is not what was written", where=where)

        await _all(compare, range(len(pieces)))
        return "B"

    async def _crc_of(self, key: str, piece: _Piece, etag: str) -> int | None:
        """Of what the server gives back; None: it is of another length."""
        if not piece.length:
            return 0
        last = piece.offset + piece.length - 1
        try:
            answer = await self._call("get_object", key, Range=f"bytes={piece.offset}-{last}", IfMatch=etag)
        except _IsThereError:
            raise ChangedError("was replaced while it was read back", where=f"s3://{self._bucket}/{key}") from None
        length = crc = 0
        try:
            async with answer["Body"] as body:
                while data := await body.read(1 << 20):
                    length, crc = length + len(data), zlib.crc32(data, crc)
        except (BotoCoreError, OSError) as error:
            raise self._session.explained(error, f"s3://{self._bucket}/{key}") from None
        return crc if length == piece.length else None


class _IsThereError(Exception):
    """412: a condition does not hold. Never leaves this module."""


class _NoConditionsError(Exception):
    """501: the server knows no conditions of writes. Never leaves this module."""


def _with_each(remote: Remote) -> dict[str, str]:
    """What a remote's settings add to each request. [API]: all of those that are made here take both."""
    payer = {"RequestPayer": "requester"} if remote.request_payer else {}
    owner = remote.expected_bucket_owner
    return payer if owner is None else {**payer, "ExpectedBucketOwner": owner}


def _cut(size: int) -> Iterable[_Piece]:
    step = part_bytes(size)
    return [_Piece(offset, min(step, size - offset), 0) for offset in range(0, size, step)] or [_Piece(0, 0, 0)]


def _text(crc: int) -> str:
    return base64.b64encode(crc.to_bytes(4, "big")).decode("ascii")


def _told(pieces: list[_Piece]) -> tuple[str, str]:
    """How a server may tell of the whole: the checksum of all bytes; or that of the parts' checksums, and how many."""
    whole = 0
    for piece in pieces:
        whole = crc_combine("crc32", whole, piece.crc, piece.length)
    of_parts = zlib.crc32(b"".join(piece.crc.to_bytes(4, "big") for piece in pieces))
    return _text(whole), f"{_text(of_parts)}-{len(pieces)}"


async def _all(work: Callable[[int], Any], numbers: Iterable[int]) -> None:
    """Do all, some at once; the first error ends the rest and is raised alone."""
    waiting = iter(numbers)

    async def worker() -> None:
        for number in waiting:
            await work(number)

    await together(*(worker() for _ in range(_CONNECTIONS)))
