"""One Git repository behind each of the ways that users reach theirs, for stager and for git alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from servers.certificates import Certificates
from servers.giftless_lfs import Giftless
from servers.git_http import git_http
from servers.git_ssh import git_ssh

__all__ = ["NAME", "WAYS", "GitWorld", "Way", "git_world"]

Way = Literal["http", "https", "ssh", "file"]
WAYS: tuple[Way, ...] = ("http", "https", "ssh", "file")
NAME = "lab/words"
_ALICE = ("alice", "hunter2")


@dataclass(frozen=True, kw_only=True)
class GitWorld:
    """``url`` is git's; ``environment`` lets one in: by a password where ``way`` is https, by a key where it is ssh."""

    way: Way
    url: str
    environment: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def git_world(way: Way, root: Path, certificates: Certificates, lfs: Giftless | None = None) -> Iterator[GitWorld]:
    """Serve ``root / NAME``, its objects from ``lfs``; over "file" they have to lie in the repository."""
    home = root.parent / f"{way}-home"
    home.mkdir()
    config = home / "gitconfig"
    match way:
        case "http":
            with git_http(root, lfs=lfs) as forge:
                yield GitWorld(way=way, url=forge.url(NAME))
        case "https":
            config.write_text(
                "[credential]\n helper = "
                f'"!f() {{ echo username={_ALICE[0]}; echo password={_ALICE[1]}; }}; f"\n'
                f"[http]\n sslCAInfo = {certificates.ca_file}\n"
            )
            with git_http(root, certificates, lfs=lfs) as forge:
                forge.credentials = _ALICE
                yield GitWorld(way=way, url=forge.url(NAME), environment={"GIT_CONFIG_GLOBAL": str(config)})
        case "ssh":
            with git_ssh(root) as server:
                if lfs is not None:
                    token = {"Authorization": f"Bearer {lfs.token(NAME)}"}
                    server.answer_lfs({NAME: {"href": lfs.url(NAME), "header": token, "expires_in": 600}})
                yield GitWorld(way=way, url=server.url(NAME), environment=server.environment())
        case "file":
            yield GitWorld(way=way, url=f"file://{root / NAME}")
