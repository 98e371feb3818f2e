"""Git takes no memory and no time without end, whatever it is sent."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Mapping
from pathlib import Path

import pytest

from servers.repositories import git
from stager.errors import HostError, TransientError
from stager.host import git_limits
from stager.host.git import GitFailure, error_from, local_environment, network_environment, run_git, run_program
from stager.host.git_pipe import GitPipe

_MIB = 1 << 20


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q", "--bare")
    return tmp_path


@pytest.fixture
def environments(repository: Path) -> list[Mapping[str, str]]:
    """One of a network command, one of a local one."""
    return [network_environment(str(repository), "https://h/r", {"HOME": "/nonexistent", "PATH": "/usr/bin:/bin"}),
            local_environment(str(repository), {})]  # fmt: skip


def big(repository: Path, kind: str) -> bytes:
    """Put an object of 40 MiB, which takes 40 KB packed, into it; its id."""
    path = repository / "big"
    with path.open("wb") as file:
        file.truncate(40 * _MIB)
    identity = git(repository, "hash-object", "-w", "--literally", "-t", kind, str(path))
    assert zlib.decompress((repository / "objects" / identity[:2] / identity[2:]).read_bytes())[:4] == kind[:4].encode()
    return identity.encode()


def test_object_that_takes_more_memory_than_git_may_have_is_refused(
    repository: Path, environments: list[Mapping[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git_limits, "_ALWAYS_BYTES", 30 * _MIB)
    monkeypatch.setattr(git_limits, "available_bytes", lambda: 0)
    tree = big(repository, "tree")
    for environment in environments:
        with pytest.raises(GitFailure) as caught:
            asyncio.run(run_git(["cat-file", "--batch"], environment, stdin=tree + b"\n"))
        assert isinstance(error_from(caught.value, where="r"), HostError)
    with (
        pytest.raises(GitFailure, match="128"),
        GitPipe("cat-file", "--batch", environment=environments[1], stdin=tree + b"\n") as pipe,
        open(pipe.fileno(), "rb", closefd=False) as written,
    ):
        written.read()


def test_large_blob_takes_no_memory(
    repository: Path, environments: list[Mapping[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git_limits, "_ALWAYS_BYTES", 30 * _MIB)
    monkeypatch.setattr(git_limits, "available_bytes", lambda: 0)
    blob = big(repository, "blob")
    for environment in environments:
        written = asyncio.run(run_git(["cat-file", "--batch"], environment, stdin=blob + b"\n"))
        assert len(written) > 40 * _MIB


def test_program_that_gets_nowhere_is_ended_and_one_that_computes_is_not(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git_limits, "_LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(git_limits, "_STALLED_LOOKS", 5)
    environment = {"PATH": "/usr/bin:/bin", "GIT_DIR": str(repository)}
    with pytest.raises(GitFailure) as caught:
        asyncio.run(run_program(["sleep", "600"], environment, most_bytes=100))
    assert isinstance(error_from(caught.value, where="r"), TransientError)
    busy = ["sh", "-c", "i=0; while [ $i -lt 1000000 ]; do i=$((i+1)); done; echo done"]
    assert asyncio.run(run_program(busy, environment, most_bytes=100)) == b"done\n"


def test_servers_lead_git_nowhere_else(repository: Path, tmp_path: Path) -> None:
    """Not to other URIs either, though the user's own configuration lets git follow them."""
    (tmp_path / ".gitconfig").write_text("[fetch]\n\turiProtocols = https\n[transfer]\n\tbundleURI = true\n")
    environment = network_environment(str(repository), "https://h/r", {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"})
    for name, told in (("fetch.uriProtocols", b"\n"), ("transfer.bundleURI", b"false\n")):
        assert asyncio.run(run_git(["config", name], environment)) == told
