"""giftless, an LFS server (package giftless), in its own process: objects on its disk, or signed URLs of an S3 server.

What was found out about 0.6.2, and what tests of clients may rest on:

- Streaming from its own disk it ignores Range: a 200 with the whole object. From S3 the ranges are the S3 server's.
- An object that it has not is an error of that object (404, a wrong size 422); when all of them are missing, the whole
  answer has that status.
- Links to its own disk end in ``?jwt=``, good for ``token_lifetime_s``, whatever ``expires_in`` says; without a valid
  one it answers 401. It takes a token as Bearer, or as the password of the user ``_jwt``.
- Repositories have an owner: ``lab/words`` at ``/lab/words.git/info/lfs``.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt

from servers.certificates import Certificates
from servers.process import ServerProcess, free_ports, http_status
from servers.s3 import S3Server

__all__ = ["Giftless", "LfsRequest", "giftless"]

_SIGNING_KEY = "the key that the tests and their giftless share"
_KEY_ID = "giftless-internal-jwt-key"
_LOGGED = re.compile(r'"(?:\x1b\[[0-9;]*m)*(\S+) (\S+) HTTP/1\.1(?:\x1b\[[0-9;]*m)*" (\d+)')


@dataclass(frozen=True)
class LfsRequest:
    """One line of its log."""

    method: str
    path: str
    status: int


@dataclass(frozen=True, kw_only=True)
class Giftless:
    """A running server. ``bucket`` of ``s3`` holds the objects, or ``directory`` where there is none."""

    base_url: str
    process: ServerProcess
    directory: Path
    s3: S3Server | None = None
    bucket: str = ""
    ca_file: str | None = None

    @property
    def address(self) -> tuple[str, int]:
        url = urllib.parse.urlsplit(self.base_url)
        assert url.port is not None
        return "127.0.0.1", url.port

    def url(self, repository: str) -> str:
        """The LFS endpoint of ``OWNER/NAME``."""
        return f"{self.base_url}/{repository}.git/info/lfs"

    def put(self, repository: str, contents: Iterable[bytes]) -> None:
        """Store objects, past the API."""
        objects = {hashlib.sha256(content).hexdigest(): content for content in contents}
        if self.s3 is not None:
            self.s3.fill(self.bucket, {f"{repository}/{oid}": content for oid, content in objects.items()})
            return
        (self.directory / repository).mkdir(parents=True, exist_ok=True)
        for oid, content in objects.items():
            (self.directory / repository / oid).write_bytes(content)

    def token(self, repository: str, *, actions: str = "read", lifetime_s: float = 600.0) -> str:
        """A token for one repository; ``actions`` of read, write and verify, with commas."""
        claims = {"sub": "tests", "exp": time.time() + lifetime_s, "scopes": f"obj:{repository}/*:{actions}"}
        return jwt.encode(claims, _SIGNING_KEY, algorithm="HS256", headers={"kid": _KEY_ID})

    def requests(self) -> list[LfsRequest]:
        """What was asked of it, from its log's last 64 KiB."""
        return [LfsRequest(method, path, int(status)) for method, path, status in _LOGGED.findall(self.process.log())]


@contextmanager
def giftless(
    certificates: Certificates | None = None,
    *,
    s3: tuple[S3Server, str] | None = None,
    anonymous: bool = False,
    action_lifetime_s: int = 900,
    token_lifetime_s: int = 900,
) -> Iterator[Giftless]:
    """An empty server; with certificates over https; with ``s3`` (a server, a bucket there) it signs that one's URLs.

    Who has no token is refused, unless ``anonymous``: then anybody may read. ServerFailedError: it does not start.
    """
    with tempfile.TemporaryDirectory(prefix="stager-giftless-") as directory:
        home = Path(directory)
        config = _config(home / "objects", s3[1] if s3 else None, s3[0] if s3 else None, anonymous=anonymous,
                         action_lifetime_s=action_lifetime_s, token_lifetime_s=token_lifetime_s)  # fmt: skip
        (home / "giftless.json").write_text(json.dumps(config))  # JSON is YAML
        (home / "aws").write_text("[default]\ns3 =\n  signature_version = s3v4\n  addressing_style = path\n")
        (port,) = free_ports(1)
        argv = [sys.executable, "-m", "flask", "--app", "giftless.wsgi_entrypoint", "run", "--port", str(port)]
        if certificates is not None:
            argv += ["--cert", certificates.chain_file, "--key", certificates.key_file]
        environment = {
            "HOME": directory,
            "GIFTLESS_CONFIG_FILE": str(home / "giftless.json"),
            "PYTHONWARNINGS": "ignore",
        }
        if s3 is not None:
            environment |= {**s3[0].environment(), "AWS_CONFIG_FILE": str(home / "aws")}
        with ServerProcess(argv, env=environment, cwd=directory) as process:
            address = ("127.0.0.1", port)
            if certificates is None:
                process.wait_ready(lambda: http_status(address, path="/") == 404)
            else:
                process.wait_ready(lambda: certificates.handshakes(address))
            yield Giftless(
                base_url=f"https://localhost:{port}" if certificates else f"http://127.0.0.1:{port}",
                process=process,
                directory=home / "objects",
                s3=s3[0] if s3 else None,
                bucket=s3[1] if s3 else "",
                ca_file=certificates.ca_file if certificates else None,
            )


def _config(
    directory: Path,
    bucket: str | None,
    s3: S3Server | None,
    *,
    anonymous: bool,
    action_lifetime_s: int,
    token_lifetime_s: int,
) -> Mapping[str, Any]:
    """Its configuration file: giftless's documentation, "Configuration", "Transfer adapters", "Using a proxy"."""
    storage: dict[str, Any] = {
        "factory": "giftless.transfer.basic_streaming:factory",
        "options": {
            "storage_class": "giftless.storage.local_storage:LocalStorage",
            "storage_options": {"path": str(directory)},
            "action_lifetime": action_lifetime_s,
        },
    }
    if s3 is not None:
        storage = {
            "factory": "giftless.transfer.basic_external:factory",
            "options": {
                "storage_class": "giftless.storage.amazon_s3:AmazonS3Storage",
                "storage_options": {"bucket_name": bucket, "endpoint": s3.endpoint_url},
                "action_lifetime": action_lifetime_s,
            },
        }
    tokens = {
        "algorithm": "HS256",
        "private_key": _SIGNING_KEY,
        "key_id": _KEY_ID,
        "default_lifetime": token_lifetime_s,
    }
    return {
        "LEGACY_ENDPOINTS": False,
        "TRANSFER_ADAPTERS": {"basic": storage},
        "AUTH_PROVIDERS": ["giftless.auth.allow_anon:read_only"] if anonymous else [],
        "PRE_AUTHORIZED_ACTION_PROVIDER": {"factory": "giftless.auth.jwt:factory", "options": tokens},
        "MIDDLEWARE": [{"class": "werkzeug.middleware.proxy_fix:ProxyFix", "kwargs": {"x_host": 1, "x_proto": 1}}],
    }
