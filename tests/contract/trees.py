"""Git remotes and local directories as places of the contract suite."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from servers.repositories import commit_files, git, make_repository
from stager.model import SourceRef
from stager.urls import parse_source

__all__ = ["GitPlace", "LocalPlace"]


@dataclass
class GitPlace:
    """Repositories below ``root``, reached at ``url(name)``."""

    root: Path
    url: Callable[[str], str]
    pins_content: bool = True
    remote: None = None
    numbers: itertools.count[int] = field(default_factory=itertools.count)
    repository: Path = Path()

    def fill(self, files: Mapping[str, bytes]) -> SourceRef:
        self.repository = self.root / f"set{next(self.numbers)}"
        make_repository(self.repository, files)
        return parse_source(f"git+{self.url(self.repository.name)}", ref="main")

    def put(self, path: str, content: bytes) -> None:
        commit_files(self.repository, {path: content}, "put")

    def remove(self, path: str) -> None:
        git(self.repository, "rm", "-q", path)
        git(self.repository, "commit", "-q", "-m", "remove")

    def missing(self) -> SourceRef:
        return parse_source(f"git+{self.url('nothing-here')}")


@dataclass
class LocalPlace:
    """Directories below ``root``."""

    root: Path
    pins_content: bool = False
    remote: None = None
    numbers: itertools.count[int] = field(default_factory=itertools.count)
    directory: Path = Path()

    def fill(self, files: Mapping[str, bytes]) -> SourceRef:
        self.directory = self.root / f"set{next(self.numbers)}"
        self.directory.mkdir(parents=True)
        for path, content in files.items():
            self.put(path, content)
        return parse_source(f"file://{self.directory}")

    def put(self, path: str, content: bytes) -> None:
        file = self.directory / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)

    def remove(self, path: str) -> None:
        (self.directory / path).unlink()

    def missing(self) -> SourceRef:
        return parse_source(f"file://{self.root}/nothing-here")
