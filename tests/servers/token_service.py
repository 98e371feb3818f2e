"""Gives temporary credentials that our strict S3 takes: a token service, SSO, a container's and an instance's metadata.

Each token is of a generation; what asks for one, with what, is recorded. Sources: AWS STS API reference, AssumeRole and
AssumeRoleWithWebIdentity; SSO Portal API reference, GetRoleCredentials; SDKs and Tools Reference Guide, "Container
credential provider"; EC2 User Guide, "Retrieve instance metadata" (IMDSv2).
"""

from __future__ import annotations

import json
import threading
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any, ClassVar

from servers.local_http import local_http
from servers.strict_s3 import StrictS3

__all__ = ["TokenService", "token_service"]

IDENTITY_TOKEN = "web-identity-token"
CONTAINER_TOKEN = "container-token"
SSO_TOKEN = "sso-access-token"
_METADATA_TOKEN = "metadata-token"
_METADATA = "/latest/meta-data/iam/security-credentials/"


@dataclass
class TokenService:
    """A running service. ``life_s`` is what it says of each token's life; S3 holds itself to it, and to ``uses``."""

    s3: StrictS3
    url: str = ""
    life_s: float = 3600.0
    uses: int = 0  # requests that a token is good for; 0: any number
    refuse: bool = False
    calls: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def issue(self, call: str) -> tuple[str, float]:
        """A new token and when it ends, in Unix time."""
        with self._lock:
            self.calls.append(call)
            token = f"token-{len(self.tokens)}=="
            self.tokens.append(token)
            ends = time.time() + self.life_s
            self.s3.token_ends[token] = ends
            if self.uses:
                self.s3.token_uses[token] = self.uses
            return token, ends


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30
    state: ClassVar[TokenService]

    def log_message(self, format: str, *args: Any) -> None:
        """Calls are recorded, not printed."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        fields = dict(urllib.parse.parse_qsl(body))
        action = fields.get("Action", "")
        known = {"AssumeRole": "Authorization" in self.headers,
                 "AssumeRoleWithWebIdentity": fields.get("WebIdentityToken") == IDENTITY_TOKEN}  # fmt: skip
        if self.state.refuse or not known.get(action):
            self.state.calls.append(f"refused {action}")
            code = "<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>"
            self._say(403, code.encode(), "text/xml")
            return
        token, ends = self.state.issue(action)
        identity = self.state.s3.identity
        answer = (
            f"<{action}Response xmlns='https://sts.amazonaws.com/doc/2011-06-15/'><{action}Result><Credentials>"
            f"<AccessKeyId>{identity.access_key}</AccessKeyId><SecretAccessKey>{identity.secret_key}</SecretAccessKey>"
            f"<SessionToken>{token}</SessionToken><Expiration>{_rfc3339(ends)}</Expiration></Credentials>"
            f"<AssumedRoleUser><Arn>{fields['RoleArn']}</Arn><AssumedRoleId>A:s</AssumedRoleId></AssumedRoleUser>"
            f"</{action}Result></{action}Response>"
        )
        self._say(200, answer.encode(), "text/xml")

    def do_PUT(self) -> None:
        if self.path != "/latest/api/token" or "x-aws-ec2-metadata-token-ttl-seconds" not in self.headers:
            self._say(400)
            return
        self.send_response(200)
        self.send_header("x-aws-ec2-metadata-token-ttl-seconds", "21600")
        self.send_header("Content-Length", str(len(_METADATA_TOKEN)))
        self.end_headers()
        self.wfile.write(_METADATA_TOKEN.encode())

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        if path == "/container" and self.headers.get("Authorization") == CONTAINER_TOKEN:
            self._say(200, self._metadata("container"))
        elif path.startswith(_METADATA) and self.headers.get("x-aws-ec2-metadata-token") == _METADATA_TOKEN:
            self._say(200, self._metadata("instance") if path != _METADATA else b"a-role", "text/plain")
        elif path == "/federation/credentials" and self.headers.get("x-amz-sso_bearer_token") == SSO_TOKEN and query:
            token, ends = self.state.issue("sso")
            identity = self.state.s3.identity
            given = {"accessKeyId": identity.access_key, "secretAccessKey": identity.secret_key, "sessionToken": token,
                     "expiration": int(ends * 1000)}  # fmt: skip
            self._say(200, json.dumps({"roleCredentials": given}).encode())
        else:
            self._say(403)

    def _metadata(self, call: str) -> bytes:
        token, ends = self.state.issue(call)
        identity = self.state.s3.identity
        return json.dumps({
            "Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": identity.access_key, "Token": token,
            "SecretAccessKey": identity.secret_key, "Expiration": _rfc3339(ends),
        }).encode()  # fmt: skip

    def _say(self, status: int, body: bytes = b"", kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _rfc3339(unix_s: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(unix_s)) + f".{int(unix_s % 1 * 1000):03d}Z"


@contextmanager
def token_service(s3: StrictS3) -> Iterator[TokenService]:
    """A service whose tokens are the only ones that ``s3`` takes."""
    state = TokenService(s3)
    s3.tokens.add("")  # none but those that are issued
    with local_http(type("Handler", (_Handler,), {"state": state})) as state.url:
        yield state
