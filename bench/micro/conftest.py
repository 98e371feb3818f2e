"""An origin of 1,000 small objects and an engine, for benches of single native functions."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

native = pytest.importorskip("stager._native")
sys.path.insert(0, str(Path(__file__).parent.parent))

import lab  # noqa: E402 - found through the line above

OBJECTS = 1000


@pytest.fixture(scope="session")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[lab.Origin]:
    lab.build_program("origin")
    workload = lab.Workload(name="micro", measures="", objects=OBJECTS, object_bytes=16, connections=1)
    cores = lab.Cores(origin=lab.choose_cores().origin, client=(), pinned=False)
    with lab.run_origin(workload, OBJECTS, tmp_path_factory.mktemp("origin") / "data", cores) as running:
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
        endpoint, signer, host_header=f"127.0.0.1:{origin.port}", path_prefix=b"/bench/", key_prefix=lab.PREFIX.encode()
    )
