"""moto's S3 in its own process (package moto): AWS's odd corners and its listing order.

Not believed on secrets (it checks none, so any identity may do everything), SSE-C (ignored), regions (a bucket of
another region answers without a redirect; only HEAD of the bucket tells) and kept connections (it closes each).
"""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from servers.certificates import Certificates
from servers.process import ServerFailedError, ServerProcess, console_script, free_ports, http_status
from servers.s3 import Identity, Objects, S3Server, put_over_http

__all__ = ["MotoS3", "moto_s3"]

ANYBODY = Identity("stager-moto-key", "stager-moto-secret")
_UNCHECKED_SIGNATURE = (
    "AWS4-HMAC-SHA256 Credential={key}/20200101/{region}/s3/aws4_request, SignedHeaders=host, Signature=0"
)


@dataclass(frozen=True, kw_only=True)
class MotoS3(S3Server):
    """`make_bucket` takes the region it is to live in."""

    def make_bucket(self, bucket: str, region: str | None = None) -> None:
        client = self.client(region=region)
        where = {"LocationConstraint": region} if region not in (None, "us-east-1") else None
        client.create_bucket(Bucket=bucket, **({"CreateBucketConfiguration": where} if where else {}))
        client.close()

    def fill(self, bucket: str, objects: Objects) -> None:
        if self.ca_file is not None:
            super().fill(bucket, objects)
            return
        signature = _UNCHECKED_SIGNATURE.format(key=self.identity.access_key, region=self.region)
        put_over_http(self.address, f"/{bucket}/", objects, method="PUT", headers={"Authorization": signature})

    def reset(self) -> None:
        """Forget every bucket."""
        status = http_status(self.address, "POST", "/moto-api/reset")
        if status != http.client.OK:
            raise ServerFailedError(f"moto did not reset: {status}\n{self.process.log()}")


@contextmanager
def moto_s3(certificates: Certificates | None = None) -> Iterator[MotoS3]:
    """An empty server; with certificates it speaks https only (and `reset` is not for it)."""
    (port,) = free_ports(1)
    argv = [console_script("moto_server"), "-H", "127.0.0.1", "-p", str(port)]
    if certificates is not None:
        argv += ["-c", certificates.chain_file, "-k", certificates.key_file]
    with ServerProcess(argv) as process:
        address = ("127.0.0.1", port)
        if certificates is None:
            process.wait_ready(lambda: http_status(address, path="/moto-api/data.json") == http.client.OK)
        else:
            process.wait_ready(lambda: certificates.handshakes(address))
        yield MotoS3(
            endpoint_url=f"https://localhost:{port}" if certificates else f"http://127.0.0.1:{port}",
            identity=ANYBODY,
            region="us-east-1",
            process=process,
            ca_file=certificates.ca_file if certificates else None,
        )
