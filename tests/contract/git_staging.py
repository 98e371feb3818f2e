"""What the tests of git sources stand on: one staged without a pipeline, and the tree as git itself writes it."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
from array import array
from contextlib import ExitStack
from pathlib import Path

from entries import listed
from servers.repositories import GIT_ENVIRONMENT
from stager._native import Entries
from stager.config import Retry
from stager.host.partial import Partials
from stager.manifest import Entry
from stager.model import SourceRef
from stager.sources.base import Landing, Snapshot
from stager.sources.git import GitSource
from stager.urls import parse_source

__all__ = ["archived", "described", "make_tree", "stage"]

FEW = Retry(attempts=3, base_s=0.01, cap_s=0.05)


def stage(ref: SourceRef | str, root: Path, **options: object) -> tuple[Snapshot, dict[str, Entry]]:
    """Snapshot and fetch everything to ``root / "tree"``; nothing may stay in the state directory."""
    if isinstance(ref, str):
        ref = parse_source(ref)

    async def run() -> tuple[Snapshot, dict[str, Entry]]:
        told = array("I")
        with ExitStack() as stack:
            fds = []
            for name in ("tree", "tmp", "state"):
                (root / name).mkdir(exist_ok=True, parents=True)
                fds.append(os.open(root / name, os.O_RDONLY))
                stack.callback(os.close, fds[-1])
            source = GitSource(ref, state_dir=str(root / "state"), retry=FEW, **options)  # type: ignore[arg-type]
            try:
                async with source:
                    snapshot = await source.snapshot()
                    entries = Entries(snapshot.table)
                    with Partials(fds[1], "test") as partials:
                        where = Landing(
                            root_fd=fds[0], tmp_fd=fds[1], entries=entries, partials=partials, root=str(root / "tree")
                        )
                        await source.fetch(snapshot, array("I", range(len(snapshot.table))), where, told.extend)
            finally:
                assert os.listdir(root / "state") == []
                assert os.listdir(root / "tmp") == []
        assert sorted(told) == list(entries.stands())
        return snapshot, {os.fsdecode(entry.path): entry for entry in listed(entries)}

    return asyncio.run(run())


def described(root: Path) -> dict[str, tuple[str, bytes]]:
    """Every file and link below ``root``: path to (kind, content)."""
    found = {}
    for path in root.rglob("*"):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = ("link", os.fsencode(os.readlink(path)))
        elif path.is_file():
            found[name] = ("program" if path.stat().st_mode & stat.S_IXUSR else "file", path.read_bytes())
    return found


def archived(repository: Path, commit: str, root: Path) -> dict[str, tuple[str, bytes]]:
    root.mkdir()
    out = subprocess.run(
        ["git", "-C", str(repository), "archive", "--format=tar", commit],
        env={**os.environ, **GIT_ENVIRONMENT}, capture_output=True, check=True,
    )  # fmt: skip
    subprocess.run(["tar", "-x", "-C", str(root)], input=out.stdout, check=True)
    return described(root)


def make_tree(repository: Path, *rows: tuple[str, str, bytes, str]) -> str:
    """A tree object with raw rows (mode, kind, name, id), which git's own commands would refuse to make."""
    body = b"".join(mode.encode() + b" " + name + b"\0" + bytes.fromhex(identity) for mode, _, name, identity in rows)
    return subprocess.run(
        ["git", "-C", str(repository), "hash-object", "-t", "tree", "-w", "--stdin", "--literally"],
        env={**os.environ, **GIT_ENVIRONMENT}, input=body, capture_output=True, check=True,
    ).stdout.decode().strip()  # fmt: skip
