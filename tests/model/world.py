"""What the machine plays in: one strict S3 behind a proxy that misbehaves, one launcher, a directory for each game."""

from __future__ import annotations

import itertools
import signal
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from model.launcher import Launcher, Run, launcher
from servers.fault_proxy import FaultProxy, fault_proxy
from servers.strict_s3 import StrictS3

__all__ = ["Source", "World", "world_in"]


@dataclass
class World:
    """Shared by every game of a test."""

    s3: StrictS3
    proxy: FaultProxy
    launcher: Launcher
    root: Path
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def sync(self, source: Source, destination: Path, *options: str, die_at_step: int = 0) -> Run:
        """One `stager sync`."""
        environment = {**self.s3.environment(), "AWS_ENDPOINT_URL": self.proxy.url}
        argv = ["sync", source.url, str(destination), *options]
        return self.launcher.run(argv, environment, die_at_step=die_at_step)

    @contextmanager
    def at_request(self, number: int, act: Callable[[], None]) -> Iterator[None]:
        """Call ``act`` when the server has got so many more requests, before it answers that one."""
        left = itertools.count(number, -1)

        def on_request(_method: str, _target: str) -> None:
            if next(left) == 1:
                act()

        self.s3.on_request = on_request
        try:
            yield
        finally:
            self.s3.on_request = None

    def kill_at_request(self, number: int, how: signal.Signals) -> object:
        """A context in which the run that sends so many requests gets the signal."""
        return self.at_request(number, lambda: self.launcher.signal(how))


@dataclass
class Source:
    """A prefix of a bucket, "" or one that ends in a slash, with neighbours that begin alike."""

    s3: StrictS3
    bucket: str
    prefix: str

    def __post_init__(self) -> None:
        neighbours = {"set2/x": b"neighbour", "set-x": b"neighbour", "set": b"neighbour"} if self.prefix else {}
        self.s3.buckets[self.bucket] = dict[str, bytes](neighbours)

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"

    @property
    def objects(self) -> dict[str, bytes]:
        """By their names below the prefix."""
        found = self.s3.buckets[self.bucket]
        return {key[len(self.prefix) :]: found[key] for key in found if key.startswith(self.prefix)}

    def put(self, objects: Mapping[str, bytes | None]) -> None:
        """Store them at once; None removes one. Never changes a dictionary that a listing may be reading."""
        found = dict(self.s3.buckets[self.bucket])
        for name, content in objects.items():
            if content is None:
                found.pop(self.prefix + name, None)
            else:
                found[self.prefix + name] = content
        self.s3.buckets[self.bucket] = found

    def target(self, name: str) -> str:
        """How a request for it ends."""
        return urllib.parse.quote(f"{self.bucket}/{self.prefix}{name}", safe="/~-_.")


@contextmanager
def world_in(s3: StrictS3, root: Path) -> Iterator[World]:
    """A world over ``s3`` whose games are played below ``root``."""
    address = urllib.parse.urlsplit(s3.endpoint_url)
    assert address.hostname is not None
    assert address.port is not None
    (root / "runs").mkdir()
    with fault_proxy((address.hostname, address.port)) as proxy, launcher(root / "runs") as starter:
        yield World(s3=s3, proxy=proxy, launcher=starter, root=root)
