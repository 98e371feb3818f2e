"""The host that serves a bucket: certificates, addresses, and the proxy that is warned about."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from stager.config import Remote
from stager.errors import NotFoundError, UsageError
from stager.sources import s3_host
from stager.sources.s3_host import ca_file, resolve, warn_of_proxy


def test_ca_bundle_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {name: str(tmp_path / name) for name in ("option", "aws", "ssl", "system")}
    for path in files.values():
        Path(path).touch()
    monkeypatch.setattr(s3_host, "_SYSTEM_BUNDLES", ("/no/such", files["system"]))
    environment = {"AWS_CA_BUNDLE": files["aws"], "SSL_CERT_FILE": files["ssl"]}
    assert ca_file(Remote(ca_bundle=files["option"]), environment) == files["option"]
    assert ca_file(Remote(), environment) == files["aws"]
    assert ca_file(Remote(), {"SSL_CERT_FILE": files["ssl"]}) == files["ssl"]
    assert ca_file(Remote(), {}) == files["system"]
    monkeypatch.setattr(s3_host, "_SYSTEM_BUNDLES", ())
    assert ca_file(Remote(), {}).endswith(".pem")
    with pytest.raises(UsageError, match="no such CA bundle"):
        ca_file(Remote(ca_bundle=str(tmp_path / "missing")), environment)


def test_host_resolves_to_packed_addresses() -> None:
    assert b"\x7f\x00\x00\x01" in [packed for _, packed in asyncio.run(resolve("127.0.0.1", 80))]


def test_host_that_does_not_exist_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()

        async def fail(*_: object, **__: object) -> None:
            raise s3_host.socket.gaierror(s3_host.socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(loop, "getaddrinfo", fail)
        await resolve("nowhere.example", 80)

    with pytest.raises(NotFoundError, match=r"nowhere\.example"):
        asyncio.run(run())


@pytest.mark.parametrize(
    ("endpoint", "environment", "warned"),
    [
        ("https://s3.example", {"HTTPS_PROXY": "http://user:hunter2@proxy:1"}, "HTTPS_PROXY"),
        ("https://s3.example", {"https_proxy": "http://proxy:1"}, "https_proxy"),
        ("http://s3.example:9000", {"HTTP_PROXY": "http://proxy:1"}, "HTTP_PROXY"),
        ("https://s3.example", {"HTTP_PROXY": "http://proxy:1"}, ""),
        ("https://s3.example", {"HTTPS_PROXY": "http://proxy:1", "NO_PROXY": "other,.example"}, ""),
        ("https://s3.example", {"HTTPS_PROXY": "http://proxy:1", "no_proxy": "*"}, ""),
        ("https://127.0.0.1:9000", {"HTTPS_PROXY": "http://proxy:1"}, ""),
        ("https://[::1]:9000", {"HTTPS_PROXY": "http://proxy:1"}, ""),
        ("https://s3.example", {}, ""),
    ],
)
def test_proxy_that_data_does_not_use_is_warned_about_by_name(
    endpoint: str, environment: dict[str, str], warned: str
) -> None:
    texts = warn_of_proxy(endpoint, environment)
    assert len(texts) == bool(warned)
    assert all(text.startswith(f"{warned} is set") and "hunter2" not in text for text in texts)
