"""The host that serves a bucket: certificates, addresses, and those of a proxy in front of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from stager.config import Remote
from stager.errors import NotFoundError, UsageError
from stager.host import addresses, certificates
from stager.host.addresses import resolve
from stager.host.proxies import Proxy
from stager.sources import s3_host
from stager.sources.s3_host import addresses_towards, ca_file
from stager.sources.s3_values import Prepared


def test_ca_bundle_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {name: str(tmp_path / name) for name in ("option", "aws", "ssl", "system")}
    for path in files.values():
        Path(path).touch()
    monkeypatch.setattr(certificates, "_SYSTEM_BUNDLES", ("/no/such", files["system"]))
    environment = {"AWS_CA_BUNDLE": files["aws"], "SSL_CERT_FILE": files["ssl"]}
    assert ca_file(Remote(ca_bundle=files["option"]), environment) == files["option"]
    assert ca_file(Remote(), environment) == files["aws"]
    assert ca_file(Remote(), {"SSL_CERT_FILE": files["ssl"]}) == files["ssl"]
    assert ca_file(Remote(), {}) == files["system"]
    monkeypatch.setattr(certificates, "_SYSTEM_BUNDLES", ())
    assert ca_file(Remote(), {}).endswith(".pem")
    with pytest.raises(UsageError, match="no such CA bundle"):
        ca_file(Remote(ca_bundle=str(tmp_path / "missing")), environment)


def test_host_resolves_to_packed_addresses() -> None:
    assert b"\x7f\x00\x00\x01" in [packed for _, packed in asyncio.run(resolve("127.0.0.1", 80))]


def test_host_that_does_not_exist_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()

        async def fail(*_: object, **__: object) -> None:
            raise addresses.socket.gaierror(addresses.socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(loop, "getaddrinfo", fail)
        await resolve("nowhere.example", 80)

    with pytest.raises(NotFoundError, match=r"nowhere\.example"):
        asyncio.run(run())


@pytest.mark.parametrize("name", ["h" * 64, "a..b", "h\udcff"])
def test_host_that_is_no_name_is_not_found(name: str) -> None:
    with pytest.raises(NotFoundError, match="no such host"):
        asyncio.run(resolve(name, 80))


def test_proxys_name_is_resolved_and_not_the_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    async def find(host: str, port: int) -> list[tuple[int, bytes]]:
        asked.append((host, port))
        if host == "gone.example":
            raise NotFoundError("no such host", where=host)
        return [(2, b"\x7f\x00\x00\x01")]

    monkeypatch.setattr(s3_host, "resolve", find)
    server = Prepared(
        url="https://s3.example", host="s3.example", port=443, tls=True, host_header="s3.example", path_prefix=b"/b/",
        headers=(), region="", service="s3",
    )  # fmt: skip
    proxy = Proxy(scheme="http", host="proxy.example", port=3128, user=None, setting="HTTPS_PROXY")
    for through, expected in ((None, ("s3.example", 443)), (proxy, ("proxy.example", 3128))):
        assert asyncio.run(addresses_towards(server, through)) == [(2, b"\x7f\x00\x00\x01")]
        assert asked[-1] == expected
    gone = Proxy(scheme="http", host="gone.example", port=3128, user=None, setting="HTTPS_PROXY")
    with pytest.raises(NotFoundError, match=r"no such proxy.*HTTPS_PROXY"):
        asyncio.run(addresses_towards(server, gone))
