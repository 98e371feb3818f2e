"""A real TensorBoard (package tensorboard), asked by the HTTP interface that its own pages use."""

from __future__ import annotations

import http.client
import json
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from servers.process import ServerProcess, free_ports, http_status

__all__ = ["TensorBoard", "tensorboard"]

_READ_WITHIN_S = 60.0


@dataclass(frozen=True, kw_only=True)
class TensorBoard:
    """A running one."""

    port: int

    def scalars(self, run: str, tag: str, *, steps: int) -> list[tuple[int, float]]:
        """Step and value of each point, once there are as many as ``steps``. AssertionError: there never were."""
        query = urllib.parse.urlencode({"run": run, "tag": tag, "format": "json"})
        url = f"http://127.0.0.1:{self.port}/data/plugin/scalars/scalars?{query}"
        until = time.monotonic() + _READ_WITHIN_S
        points: list[tuple[int, float]] = []
        while time.monotonic() < until:
            try:
                with urllib.request.urlopen(url, timeout=10) as answer:
                    points = [(step, value) for _, step, value in json.load(answer)]
            except urllib.error.HTTPError as error:  # it has not read that run yet
                error.close()
            if len(points) >= steps:
                return points
            time.sleep(0.1)
        raise AssertionError(f"{run} has {points}")


@contextmanager
def tensorboard(runs: Mapping[str, str]) -> Iterator[TensorBoard]:
    """One that reads these directories, by the names of runs; they may appear later."""
    (port,) = free_ports(1)
    argv = [
        sys.executable, "-m", "tensorboard.main", "--host", "127.0.0.1", "--port", str(port),
        "--logdir_spec", ",".join(f"{name}:{path}" for name, path in runs.items()),
        "--load_fast", "false", "--reload_interval", "1",
    ]  # fmt: skip
    with ServerProcess(argv) as process:
        address = ("127.0.0.1", port)
        process.wait_ready(lambda: http_status(address, path="/data/environment") == http.client.OK)
        yield TensorBoard(port=port)
