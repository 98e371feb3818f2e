"""bench/origin as a server of the tests: compiled from its sources with ASan and UBSan, on a port of its own."""

from __future__ import annotations

import http.client
import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from servers.process import ServerProcess

__all__ = ["Answer", "BenchOrigin", "bench_origin", "build_bench_program", "build_origin"]

SOURCES = Path(__file__).parents[2] / "bench"
COMPILER = ("cc", "-O1", "-g", "-std=gnu11", "-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Werror")
SANITIZERS = ("-fno-omit-frame-pointer", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


@dataclass(frozen=True, kw_only=True)
class Answer:
    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes


@dataclass(frozen=True, kw_only=True)
class BenchOrigin:
    port: int
    process: ServerProcess

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    def ask(self, path: str, method: str = "GET", **headers: str) -> Answer:
        """One request on a connection of its own; ``If_Match="x"`` is sent as ``If-Match: x``."""
        connection = http.client.HTTPConnection(*self.address, timeout=30)
        try:
            connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        return Answer(status=answer.status, headers={n.lower(): v for n, v in answer.getheaders()}, body=body)

    def stats(self) -> Any:
        return json.loads(self.ask("/-/stats").body)


def build_bench_program(directory: Path, name: str, pattern: str, *libraries: str) -> str:
    """Compile one; its path. CalledProcessError: it does not compile without a warning."""
    program = str(directory / name)
    sources = sorted(map(str, SOURCES.glob(pattern)))
    subprocess.run([*COMPILER, *SANITIZERS, "-o", program, *sources, *libraries], check=True)
    return program


def build_origin(directory: Path) -> str:
    """The origin, as `build_bench_program` does."""
    return build_bench_program(directory, "origin", "origin*.c", "-lssl", "-lcrypto", "-lpthread")


@contextmanager
def bench_origin(program: str, *arguments: str, descriptors: int | None = None) -> Iterator[BenchOrigin]:
    """Run it with ``arguments`` after the port. ``descriptors``: as many may be open.

    ServerFailedError: it did not start. AssertionError: it did not end as it should, a leak or another report of the
    sanitizers among the reasons.
    """
    limit = [] if descriptors is None else ["prlimit", f"--nofile={descriptors}:{descriptors}"]
    with ServerProcess([*limit, program, "0", *arguments]) as process:
        process.wait_ready(lambda: process.log().endswith("\n"))
        yield BenchOrigin(port=int(process.log()), process=process)
        status, log = process.terminate()
        assert status == 0, log
