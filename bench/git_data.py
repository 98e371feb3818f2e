"""Git repositories for benches: two commits, the trees that they have to become, and the LFS objects apart."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from workloads import Workload

__all__ = ["GitData", "make_git_data"]

NAME = "bench/set"
CHANGED = 100  # of so many files, one changes in the second commit
BLOCK_BYTES = 16 << 20
ENVIRONMENT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    **{f"GIT_{who}_{what}": text for who in ("AUTHOR", "COMMITTER") for what, text in
       (("NAME", "bench"), ("EMAIL", "bench@example.org"), ("DATE", "1700000000 +0000"))},
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class GitData:
    """``root / NAME`` is the repository; ``trees`` are what its two commits are on disk, links to one another."""

    root: Path
    store: Path  # LFS objects by their ids
    commits: tuple[str, str]
    trees: tuple[Path, Path]

    def show(self, which: int) -> None:
        """Make one of the two commits the branch's."""
        _git(self.root / NAME, "update-ref", "refs/heads/main", self.commits[which])


def make_git_data(workload: Workload, scratch: Path) -> GitData:
    """Made below ``scratch``, packed as a forge has it. CalledProcessError: git has said why."""
    root, store, work = scratch / "root", scratch / "store", scratch / "work"
    trees = (scratch / "tree-0", scratch / "tree-1")
    for directory in (store, work, *trees):
        directory.mkdir()
    _git(work, "init", "-q", "-b", "main")
    commits = []
    for version, tree in enumerate(trees):
        for path, content, is_new in _files(workload, version):
            kept = trees[0] / path if not is_new else _write(tree / path, content)
            if not is_new:
                (tree / path).parent.mkdir(parents=True, exist_ok=True)
                os.link(kept, tree / path)
                continue
            if workload.lfs and path != ".gitattributes":
                oid = hashlib.sha256(content).hexdigest()
                os.link(kept, store / oid)
                content = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %d\n" % (
                    oid.encode(),
                    len(content),
                )
            _write(work / path, content)
        _git(work, "add", "-A")
        _git(work, "commit", "-q", "-m", f"version {version}")
        commits.append(_git(work, "rev-parse", "HEAD"))
    (root / NAME).parent.mkdir(parents=True)
    _git(work, "clone", "-q", "--bare", str(work), str(root / NAME))
    _git(root / NAME, "repack", "-adq")
    shutil.rmtree(work)
    return GitData(root=root, store=store, commits=(commits[0], commits[1]), trees=trees)


def _files(workload: Workload, version: int) -> Iterator[tuple[str, bytes, bool]]:
    """Path, content, and whether it is new in this version. Plain files are text, half as large when packed."""
    if workload.lfs:
        yield ".gitattributes", b"*.bin filter=lfs diff=lfs merge=lfs -text\n", version == 0
    block = random.Random(workload.name).randbytes(BLOCK_BYTES)
    ends = "bin" if workload.lfs else "txt"
    for number, (key, size) in enumerate(workload.objects_of(workload.objects)):
        is_new = version == 0 or number % CHANGED == 0
        head = b"%d of version %d\n" % (number, version if is_new else 0)
        at = number * 4099 % (BLOCK_BYTES // 2)
        body = block[at : at + size] if workload.lfs else block[at : at + size // 2].hex().encode()
        yield f"{key}.{ends}", (head + body)[:size], is_new


def _write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    return path


def _git(directory: Path, *arguments: str) -> str:
    environment = {"PATH": os.environ["PATH"], "HOME": os.devnull, **ENVIRONMENT}
    done = subprocess.run(
        ["git", "-C", str(directory), *arguments], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout.strip()
