"""`git-lfs-authenticate` over ssh: how a Git server lets those who have a key there use its LFS server.

The program is the one that git would start (git(1), GIT_SSH_COMMAND and GIT_SSH; git-config(1), core.sshCommand and
ssh.variant), its keys, agent and known hosts are the user's, and it asks nothing on a terminal. A server without that
command says so with a status of its own; one that could not be reached makes ssh end with 255 (ssh(1)).

Source: Git LFS docs/api/server-discovery.md, "SSH"; docs/api/authentication.md.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import Struct

from stager.errors import SourceError
from stager.host.git import GitFailure, error_from, network_environment, run_program
from stager.host.git_settings import GitSettings
from stager.sources.lfs_endpoint import SshPlace
from stager.sources.lfs_expiry import expiry_s
from stager.sources.lfs_href import Headers, sendable

__all__ = ["SshGrant", "ssh_grant"]

_MOST_BYTES: Final = 64 << 10
_COMMAND: Final = "git-lfs-authenticate"
_SSH_FAILED: Final = 255
_NO_PROGRAM: Final = 127  # of a shell, here or at the server
_PUTTY: Final = ("plink", "putty", "tortoiseplink")


class SshGrant(Struct, frozen=True):
    """What a server answered: where its LFS server is ("": where it was thought to be), and headers for it."""

    href: str
    headers: Headers
    expires_at_s: float

    def __repr__(self) -> str:
        return f"SshGrant({self.href.partition('?')[0]!r})"


class _Answer(Struct):
    href: str | None = None
    header: dict[str, str] | None = None
    expires_in: int | None = None
    expires_at: str | None = None


_DECODER: Final = msgspec.json.Decoder(_Answer)


async def ssh_grant(
    place: SshPlace, settings: GitSettings, environ: Mapping[str, str], *, now_s: float
) -> SshGrant | None:
    """Ask for downloads; None when the server knows no such command, or does not want to.

    Raises what `stager.host.git.error_from` makes of a failing ssh; `SourceError`: an answer that is none.
    """
    where = f"ssh://{place.host}"
    argv = _argv(place, settings, environ)
    environment = network_environment(os.devnull, f"ssh://{place.host}/", environ)
    try:
        written = await run_program(argv, environment, most_bytes=_MOST_BYTES)
    except GitFailure as failure:
        not_there = failure.status == _NO_PROGRAM and _COMMAND not in failure.stderr  # the program, not its server's
        if failure.status == _SSH_FAILED or not_there:
            raise error_from(failure, where=where) from None
        return None
    try:
        answer = _DECODER.decode(written)
        headers = sendable((answer.header or {}).items())
        expires_at_s = expiry_s(answer.expires_in, answer.expires_at, now_s=now_s)
    except (msgspec.DecodeError, RecursionError):
        raise SourceError("what git-lfs-authenticate answered is not what it should be", where=where) from None
    except ValueError as error:
        raise SourceError(f"what git-lfs-authenticate answered {error}", where=where) from None
    return SshGrant(answer.href or "", headers, expires_at_s)


def _argv(place: SshPlace, settings: GitSettings, environ: Mapping[str, str]) -> list[str]:
    command = environ.get("GIT_SSH_COMMAND") or settings.get("core.sshcommand")
    program = environ.get("GIT_SSH") or "ssh"
    words = shlex.split(command) if command else [program]
    variant = environ.get("GIT_SSH_VARIANT") or settings.get("ssh.variant") or os.path.basename(words[0]).lower()
    flag = "-P" if variant.removesuffix(".exe") in _PUTTY else "-p"
    port = [flag, str(place.port)] if place.port is not None else []
    host = f"{place.user}@{place.host}" if place.user else place.host
    asked = f"{_COMMAND} {shlex.quote(place.path)} download"
    start = ["sh", "-c", f'{command} "$@"', "sh"] if command else [program]
    return [*start, *port, host, asked]
