"""stager sync and the addresses of its host: IPv6 by literal, several by name, and other ones while it runs."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from integration.sync_driver import Sync, tree
from servers.certificates import make_certificates
from servers.strict_s3 import StrictS3, strict_s3
from stager.config import Limits, Remote
from stager.pipeline import SyncOptions, sync
from stager.sources import s3, s3_host
from stager.transfer import Transfer
from stager.urls import parse_source
from unit.scripted_http import WAIT_S, Request, loopback, response
from unit.test_native_addresses import needs_ipv6, on_one_port

FILES = {f"d/{i}": b"%d" % i * 100 for i in range(60)}


@needs_ipv6
@pytest.mark.parametrize("tls", [False, True])
def test_ipv6_literal_is_endpoint_host_header_and_signed(
    tls: bool, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    certificates = make_certificates(tmp_path_factory.mktemp("v6"), "::1") if tls else None
    with strict_s3(certificates, host="::1") as server:
        assert "://[::1]:" in server.endpoint_url
        server.buckets["data"] = {**FILES, "large": bytes(17 << 20)}
        synced = Sync("s3://data", tmp_path / "dst", server.environment())
        outcome = synced.run()
        assert (outcome.code, outcome.err) == (0, "")
        assert tree(synced.destination) == server.buckets["data"]


Resolver = Callable[[str, int], Awaitable[list[tuple[int, bytes]]]]


def sync_from(url: str, destination: Path, environment: dict[str, str], resolver: Resolver) -> None:
    """Sync s3://data in this process, where names are resolved by ``resolver``."""
    with pytest.MonkeyPatch.context() as patched:
        for name, value in environment.items():
            patched.setenv(name, value)
        patched.setattr(s3_host, "resolve", resolver)

        async def main() -> None:
            async with Transfer(limits=Limits(max_connections=4)) as transfer:
                options = SyncOptions(remote=Remote(endpoint_url=url))
                await sync(parse_source("s3://data"), str(destination), transfer=transfer, options=options)

        asyncio.run(main())


@pytest.mark.parametrize(
    "hosts", [["127.0.0.7", "127.0.0.1"], pytest.param(["::1", "127.0.0.1"], marks=needs_ipv6)]
)
def test_name_with_an_address_where_nobody_listens_is_served_by_the_other(
    strict: StrictS3, tmp_path: Path, hosts: list[str]
) -> None:
    async def resolver(host: str, port: int) -> list[tuple[int, bytes]]:
        assert host == "several.example"
        return loopback(*hosts)

    strict.buckets["data"] = dict(FILES)
    port = strict.endpoint_url.rpartition(":")[2]
    sync_from(f"http://several.example:{port}", tmp_path / "dst", strict.environment(), resolver)
    assert tree(tmp_path / "dst") == FILES


def test_addresses_are_resolved_again_while_a_copy_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = threading.Event()
    rows = "".join(
        f"<Contents><Key>{key}</Key><LastModified>2024-05-01T00:00:00.000Z</LastModified>"
        f"<ETag>&quot;{hashlib.md5(content).hexdigest()}&quot;</ETag><Size>{len(content)}</Size></Contents>"
        for key, content in sorted(FILES.items())
    )
    listing = f"<ListBucketResult><IsTruncated>false</IsTruncated>{rows}</ListBucketResult>".encode()

    def answer(request: Request, connection: socket.socket) -> str:
        key = request.path.removeprefix("/data/")
        if key not in FILES:
            connection.sendall(response(listing, etag=None))
            return "close"
        moved.wait(WAIT_S)
        connection.sendall(response(FILES[key], etag=f'"{hashlib.md5(FILES[key]).hexdigest()}"'))
        return "close"

    async def resolver(host: str, port: int) -> list[tuple[int, bytes]]:
        if old.accepted < 2:  # the listing, and the first object
            return loopback("127.0.0.1")
        asyncio.get_running_loop().call_soon(moved.set)  # runs when the caller has taken the new address
        return loopback("127.0.0.2")

    monkeypatch.setattr(s3, "_FRESHEN_EVERY_S", 0.01)
    with on_one_port("127.0.0.1", "127.0.0.2") as (old, new):
        old.answer = new.answer = answer
        sync_from(f"http://several.example:{old.port}", tmp_path / "dst", StrictS3().environment(), resolver)
        assert tree(tmp_path / "dst") == FILES
        assert old.accepted <= 1 + 4
        assert new.accepted >= len(FILES) - 4
