"""An origin of small objects and an engine, for benches of single functions."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import building
import lab
import pytest
from workloads import PREFIX, Workload

native = pytest.importorskip("stager._native")

OBJECTS = 1000
MICRO = Workload(name="micro", measures="", objects=OBJECTS, object_bytes=16)


@pytest.fixture(scope="session")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[lab.Origin]:
    building.build_program("origin")
    cores = lab.Cores(origin=tuple(os.sched_getaffinity(0)), client=(), pinned=False)
    content = lab.Content.of(MICRO, OBJECTS, tmp_path_factory.mktemp("origin"))
    with lab.run_origin(content, cores) as running:
        yield running


@pytest.fixture
def engine() -> Iterator[object]:
    engine = native.Engine(workers=1, disk_threads=1, connections=8, memory_bytes=8 << 20, buffer_bytes=256 << 10)
    yield engine
    engine.close()


@pytest.fixture
def signer() -> object:
    return native.Signer(access_key="BENCHACCESSKEY", secret_key="benchsecretkey", token=None, region="us-east-1")


@pytest.fixture
def template(engine: object, signer: object, origin: lab.Origin) -> object:
    address = (socket.AF_INET, socket.inet_aton("127.0.0.1"))
    endpoint = native.Endpoint(engine, host="127.0.0.1", port=origin.port, tls=False, addresses=[address])
    return native.Template(
        endpoint, signer, host_header=f"127.0.0.1:{origin.port}", path_prefix=b"/bench/", key_prefix=PREFIX.encode()
    )


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in lab.environment(tmp_path).items():
        monkeypatch.setenv(name, value)
