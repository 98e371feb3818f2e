"""One file per client; each says its version and the command line that does the workload.

A peer gets the flags that served it best here, also where they give up safety (rclone's ``--inplace``): the comparison
is with the peer at its best. What a peer checks of the bytes it receives is stated in its file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

__all__ = ["Peer", "Target"]


@dataclass(frozen=True, kw_only=True)
class Target:
    """What to fetch, and where to."""

    port: int
    objects: int
    object_bytes: int
    prefix: str  # ends in "/"
    out: str  # an empty directory
    connections: int

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"s3://bench/{self.prefix}"


class Peer(Protocol):
    """What a module in this package holds."""

    NAME: str

    def version(self) -> str:
        """Name and version as the program itself says them. OSError or CalledProcessError: it is not here."""

    def command(self, target: Target) -> list[str]:
        """The argument vector; credentials and region are in the environment."""
