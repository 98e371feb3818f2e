"""The native engine without the rest of stager, for tests of what it does when disks and servers misbehave."""

from __future__ import annotations

import hashlib
import os
import select
import socket
from array import array
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from servers.s3 import S3Server
from servers.strict_s3 import StrictS3
from stager._native import Batch, Endpoint, Engine, Failure, KeyTable, Signer, Template

__all__ = ["NativeClient"]

_WITHIN_S = 60.0


class NativeClient:
    """One engine with its completions sorted by batch. Use: ``with NativeClient(server, address) as client``.

    ``address`` is where to connect: the server's own, or a proxy's in front of it.
    """

    def __init__(self, server: S3Server | StrictS3, address: tuple[str, int], **limits: int) -> None:
        self.engine = Engine(**limits)
        host, port = address
        self._endpoint = Endpoint(
            self.engine, host=host, port=port, tls=False, addresses=[(socket.AF_INET, socket.inet_aton(host))]
        )
        self._signer = Signer(
            access_key=server.identity.access_key,
            secret_key=server.identity.secret_key,
            token=None,
            region=server.region,
        )
        self._host_header = f"{host}:{port}"
        self._left: dict[Batch, int] = {}
        self._failures: dict[Batch, list[Failure]] = {}
        self._tables: dict[Batch, KeyTable] = {}

    def fetch_objects(
        self, bucket: str, objects: Mapping[str, bytes], root: Path, *, checksums: bool = False, etags: str = "none"
    ) -> Batch:
        """Fetch whole objects into ``root``, whose temporaries lie in ``root/.tmp``."""
        table = KeyTable()
        for key, content in objects.items():
            table.append(key.encode(), len(content), hashlib.md5(content).hexdigest().encode())
        (root / ".tmp").mkdir(exist_ok=True)
        with _Opened(root) as root_fd, _Opened(root / ".tmp") as tmp_fd:
            rows = array("q", range(len(table)))
            template = self._template(bucket, checksums=checksums, etags=etags)
            batch = self._started(self.engine.fetch_objects(template, table, rows, root_fd, tmp_fd))
        self._tables[batch] = table
        return batch

    def table(self, batch: Batch) -> KeyTable:
        """The objects of a batch."""
        return self._tables[batch]

    def fetch_ranges(self, bucket: str, key: str, content: bytes, part_bytes: int, file: Path) -> Batch:
        """Fetch one object in parts of ``part_bytes`` into ``file``."""
        table = KeyTable()
        table.append(key.encode(), len(content), hashlib.md5(content).hexdigest().encode())
        parts = [(start, min(part_bytes, len(content) - start)) for start in range(0, len(content), part_bytes)]
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            return self._started(self.engine.fetch_ranges(self._template(bucket), table, 0, parts, descriptor))
        finally:
            os.close(descriptor)

    def wait(self, batch: Batch) -> list[Failure]:
        """The batch's failures once it is complete. TimeoutError: it was not within a minute."""
        poll = select.poll()
        poll.register(self.engine.fileno(), select.POLLIN)
        while self._left[batch]:
            if not poll.poll(_WITHIN_S * 1000):
                raise TimeoutError(f"{self._left[batch]} requests have not completed: {self.engine.stats()}")
            self._drain()
        return self._failures[batch]

    def is_complete(self, batch: Batch) -> bool:
        """Whether every request of the batch has completed by now."""
        self._drain()
        return self._left[batch] == 0

    def _drain(self) -> None:
        for batch, finished, failures in self.engine.drain():
            self._left[batch] -= len(finished) + len(failures)
            self._failures[batch] += failures

    def _started(self, batch: Batch) -> Batch:
        self._left[batch] = len(batch)
        self._failures[batch] = []
        return batch

    def _template(self, bucket: str, *, checksums: bool = False, etags: str = "none") -> Template:
        return Template(
            self._endpoint,
            self._signer,
            host_header=self._host_header,
            path_prefix=f"/{bucket}/".encode(),
            headers=(("x-amz-checksum-mode", "ENABLED"),) if checksums else (),
            etags=etags,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.engine.close()


class _Opened:
    """A directory, open for as long as the block lasts."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> int:
        self._descriptor = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return self._descriptor

    def __exit__(self, *exc: object) -> None:
        os.close(self._descriptor)
