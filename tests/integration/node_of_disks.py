"""A node with a small disk said to be NVMe, a larger one and a tmpfs, named by the user's settings."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from integration.job_driver import Node, Outcome
from integration.real_disks import disk, mount

__all__ = ["MIB", "Disks", "node_of_disks", "some_id"]

MIB = 1 << 20


class Disks:
    """A node whose settings name a small disk, said to be NVMe, a larger one, and a tmpfs."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.fast, self.large, self.ram = top / "fast", top / "large", top / "ram"
        self.node = Node(top)
        self.settings("discover = false")

    def settings(self, more: str, roots: str | None = None) -> None:
        roots = roots or f'{{ path = "{self.fast}", class = "nvme" }}, "{self.large}", "{self.ram}"'
        path = self.top / "config/stager/stager.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"[placement]\nroots = [{roots}]\n{more}\n")

    def source(self, mib: int) -> str:
        directory = self.top / f"source-{mib}"
        directory.mkdir(exist_ok=True)
        (directory / "f").write_bytes(os.urandom(mib * MIB))
        return f"file://{directory}"

    def stager(self, *argv: str, **more: str) -> Outcome:
        environment = {"STAGER_SCRATCH": "", "XDG_CONFIG_HOME": str(self.top / "config"), **more}
        return self.node.stager(*argv, **environment)

    def job(self, place: str, mib: int) -> str:
        return self.node.write_job(
            f'[[dataset]]\nname = "a/x"\nsource = "{self.source(mib)}"\nplace = "{place}"\n'
        )

    def datasets(self, tree: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.receipt(tree)["datasets"]
        return found

    def receipt(self, tree: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((Path(tree).parent / "receipt.json").read_text())
        return found


@contextmanager
def node_of_disks(tmp_path: Path) -> Iterator[Disks]:
    """Mounted below a directory."""
    with ExitStack() as stack:
        stack.enter_context(disk(tmp_path / "fast", "ext4", size=24 * MIB))
        stack.enter_context(disk(tmp_path / "large", "ext4", size=64 * MIB))
        stack.enter_context(mount(tmp_path / "ram", "tmpfs", "tmpfs", "size=32m"))
        yield Disks(tmp_path)


def some_id() -> str:
    """Known scratch directories are searched for a job: an id of its own, so that no other test's is found."""
    return f"job-{secrets.token_hex(6)}"
