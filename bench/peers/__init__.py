"""One file per client; each says its version and the command line that does a task.

A peer gets the flags that served it best here, also where they give up safety (rclone's ``--inplace``): the comparison
is with the peer at its best. What a peer checks of the bytes it receives is stated in its file. Peers that are Python
libraries are driven by a script of ours (`drivers`), as a process of its own like all others.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

__all__ = ["STEPS", "GitTarget", "Peer", "Step", "Target", "Task"]

Task = Literal["copy", "resync", "list", "git"]
"""Fetch everything into an empty directory; do so again where everything is there; list every key and fetch nothing;
the steps of a Git dataset.
"""

Step = Literal["cold", "second", "again", "later"]
"""On a node that has nothing of the dataset; then into a second directory; there once more; there, one commit later."""

STEPS: tuple[Step, ...] = ("cold", "second", "again", "later")


@dataclass(frozen=True, kw_only=True)
class Target:
    """What to do, with what, and where."""

    task: Task
    port: int
    objects: int
    object_bytes: int  # 0: they differ, see `listing`
    prefix: str  # ends in "/"
    out: str  # a directory; empty unless the task is "resync"
    connections: int
    listing: Path  # "SIZE KEY" a line, keys without the prefix: for clients that cannot list
    ca_file: Path | None = None  # the origin speaks https, and this is its certificate's issuer

    @property
    def endpoint(self) -> str:
        return f"{'http' if self.ca_file is None else 'https'}://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"s3://bench/{self.prefix}"


@dataclass(frozen=True, kw_only=True)
class GitTarget:
    """One step of a Git dataset. What the client keeps on the node is below the HOME of the environment."""

    url: str
    out: str  # not there yet in the steps "cold" and "second"
    step: Step


class Peer(Protocol):
    """What a module in this package holds."""

    NAME: str
    TASKS: tuple[Task, ...]

    def version(self) -> str:
        """Name and version as the program itself says them. OSError or CalledProcessError: it is not here."""

    def command(self, target: Target | GitTarget) -> list[str]:
        """The argument vector; credentials, region and the CA (AWS_CA_BUNDLE, SSL_CERT_FILE) are in the environment."""

    def keys_listed(self, output: str) -> int:
        """How many keys a run of the task "list" found, read from what it printed. ValueError: it does not say."""
