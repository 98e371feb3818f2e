"""Credentials are bound to scheme, host and port: two recording servers, and what the second is never told."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import socket
import ssl
from pathlib import Path

import pytest

from integration.sync_driver import Sync, tree
from servers.certificates import Certificates
from stager.config import Remote
from stager.errors import StagerError
from stager.sources.s3_access import Access
from unit.scripted_http import Request, ScriptedServer, response, scripted

KEY = bytes(range(200, 232))
PASSWORD = "hunter2"
SECRETS = {
    "x-amz-security-token": "session/token==",
    "x-amz-server-side-encryption-customer-key": base64.b64encode(KEY).decode(),
    "x-amz-server-side-encryption-customer-key-md5": base64.b64encode(hashlib.md5(KEY).digest()).decode(),
}
PROXY_AUTHORIZATION = "Basic " + base64.b64encode(f"lab:{PASSWORD}".encode()).decode()
REDIRECTS = [
    ("https", "301 Moved Permanently"),
    ("http", "302 Found"),
    ("https", "303 See Other"),
    ("http", "307 Temporary Redirect"),
    ("https", "308 Permanent Redirect"),
]
LISTING = response(
    b"<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>a</Key><Size>3</Size><ETag>e</ETag></Contents>"
    b"</ListBucketResult>"
)


@pytest.fixture
def tls(certificates: Certificates) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.chain_file, certificates.key_file)
    return context


@pytest.fixture
def sync(certificates: Certificates, tmp_path: Path) -> Sync:
    environment = {
        "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_SESSION_TOKEN": SECRETS["x-amz-security-token"],
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_CA_BUNDLE": certificates.ca_file,
    }
    return Sync("s3://data", tmp_path / "dst", environment)


def key_file(tmp_path: Path) -> str:
    path = tmp_path / "key"
    path.touch(0o600)
    path.write_bytes(KEY)
    return str(path)


def moved(status: str, where: str) -> bytes:
    """What S3 says of a bucket that is elsewhere, and what any web server does."""
    host = where.partition("//")[2]
    code = "TemporaryRedirect" if "307" in status else "PermanentRedirect"
    body = f"<Error><Code>{code}</Code><Endpoint>{host}</Endpoint><Bucket>data</Bucket></Error>"
    return response(body.encode(), status, etag=None, location=f"{where}/data/a", x_amz_bucket_region="eu-west-1")


def heard(server: ScriptedServer) -> dict[str, str]:
    return {name.lower(): value for request in server.requests for name, value in request.headers.items()}


@pytest.mark.parametrize(("scheme", "status"), REDIRECTS)
def test_object_that_is_said_to_be_elsewhere_takes_no_secret_there(
    sync: Sync, tls: ssl.SSLContext, tmp_path: Path, status: str, scheme: str
) -> None:
    def ignore(request: Request, connection: socket.socket) -> None:
        connection.sendall(response(b"abc", etag="e"))

    with scripted(ignore, tls if scheme == "https" else None) as victim:
        away = moved(status, f"{scheme}://localhost:{victim.port}")

        def answer(request: Request, connection: socket.socket) -> None:
            connection.sendall(LISTING if "list-type" in request.path else away)

        with scripted(answer, tls) as bucket:
            options = ("--endpoint-url", f"https://localhost:{bucket.port}", "--sse-c-key-file", key_file(tmp_path))
            failed = sync.run(*options)
            assert (failed.code, len(failed.err.splitlines())) == (3, 1)
            told = heard(bucket)
            assert {name: told[name] for name in SECRETS} == SECRETS
            assert told["authorization"].startswith("AWS4-HMAC-SHA256 ")
        assert victim.accepted == 0
    assert tree(sync.destination) == {}


def test_region_that_a_redirect_names_is_signed_for_at_the_same_server_alone(
    sync: Sync, tls: ssl.SSLContext, tmp_path: Path
) -> None:
    with scripted(lambda request, connection: None, tls) as victim:
        away = moved("301 Moved Permanently", f"https://localhost:{victim.port}")

        def answer(request: Request, connection: socket.socket) -> None:
            if "/eu-west-1/s3/" not in request.headers["authorization"]:
                connection.sendall(away)
            else:
                connection.sendall(LISTING if "list-type" in request.path else response(b"abc", etag="e"))

        with scripted(answer, tls) as bucket:
            options = ("--endpoint-url", f"https://localhost:{bucket.port}", "--sse-c-key-file", key_file(tmp_path))
            assert sync.run(*options).code == 0
        assert victim.accepted == 0
    assert tree(sync.destination) == {"a": b"abc"}


@pytest.mark.parametrize("status", ["302 Found", "307 Temporary Redirect"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_proxy_that_points_elsewhere_takes_no_password_there(sync: Sync, status: str, scheme: str) -> None:
    """A tunnel is asked for with https, a whole URL with http."""
    with scripted(lambda request, connection: None) as victim:
        away = response(b"", status, etag=None, location=f"http://localhost:{victim.port}/")
        with scripted(lambda request, connection: connection.sendall(away)) as proxy:
            url = f"http://lab:{PASSWORD}@localhost:{proxy.port}"
            environment = {"http_proxy": url, "https_proxy": url}
            failed = sync.run("--endpoint-url", f"{scheme}://s3.example", environment=environment)
            assert failed.code in (3, 7)
            assert heard(proxy)["proxy-authorization"] == PROXY_AUTHORIZATION
            assert ("x-amz-security-token" in heard(proxy)) is (scheme == "http")
        assert victim.accepted == 0


@pytest.mark.parametrize(
    "region",
    [
        "evil.example/",
        "evil.example#",
        "x@evil.example",
        "eu-west-1.evil.example",
        "eu-west-1.amazonaws.com.evil.example/",
        "\\evil.example",
        "eu-west-1:80",
        "eu west",
        "",
        "a" * 64,
    ],
)
@pytest.mark.parametrize("bucket", ["data", "dotted.bucket"])
def test_region_of_an_answer_leads_to_no_host_but_amazons(
    region: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    try:
        found = asyncio.run(Access(Remote()).prepare(bucket, region))
    except StagerError:
        return
    assert found.host.endswith((".amazonaws.com", ".amazonaws.com.cn"))
    assert "evil" not in found.host
