"""Where the Git LFS server of a repository is: as git-lfs finds it, less what a commit could do to its reader.

In this order, of each pair the user's git configuration above the commit's ``.lfsconfig``: lfs.url; remote.NAME.lfsurl
of origin and of the remotes that the user has named this repository; else the repository's URL with ``.git/info/lfs``.
Of an ``.lfsconfig`` no other key than these, lfs.<url>.access and what `stager.sources.lfs_choice` reads has a meaning
here, and git-lfs honours few more (git-lfs-config(5), "LFSCONFIG").

What only a commit says may lead to another https server, and never down: not to http unless the repository is there
itself, not to files unless it is one, not over ssh to another host.

Sources: Git LFS docs/api/server-discovery.md; git-lfs-config(5); git-lfs-standalone-file(1); `git lfs env` (3.3).
"""

from __future__ import annotations

import os
import re
from typing import Final, Literal
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from msgspec import Struct

from stager.errors import AccessDeniedError, UsageError
from stager.host.git_settings import GitSettings
from stager.urls import redacted

__all__ = ["LfsEndpoint", "SshPlace", "discover"]

_SaidBy = Literal["user", "commit", "repository"]

_SSH: Final = frozenset(("ssh", "git+ssh", "ssh+git"))
_SHORT_SSH: Final = re.compile(r"(?:(?P<user>[^/:@\s]+)@)?(?P<host>[^/:@\s\[\]]+):(?P<path>(?!//|:).+)")
_SET_IT: Final = "if it is meant, set lfs.url in your own git configuration"


class SshPlace(Struct, frozen=True):
    """Where git-lfs-authenticate is asked for, and the path that it is told."""

    user: str | None
    host: str
    port: int | None
    path: str


class LfsEndpoint(Struct, frozen=True):
    """``url``: of http, https or file, to which the API's paths are added; with ``ssh`` only where that names none."""

    url: str
    said_by: _SaidBy
    ssh: SshPlace | None = None
    user: str | None = None  # to ask a password for


def discover(git_url: str, settings: GitSettings, committed: GitSettings) -> LfsEndpoint:
    """The endpoint for downloads. ``settings`` are the user's, ``committed`` what the commit's .lfsconfig says.

    Raises `UsageError`: a URL that is none; `AccessDeniedError`: one that a commit may not choose.
    """
    for name in ("lfs.url", *(f"remote.{remote}.lfsurl" for remote in _remotes(git_url, settings))):
        choices: tuple[tuple[_SaidBy, GitSettings], ...] = (("user", settings), ("commit", committed))
        for said_by, values in choices:
            if url := values.get(name):
                where = f"{name} of {'.lfsconfig' if said_by == 'commit' else 'the git configuration'}"
                found = _endpoint(settings.rewritten(url), said_by, where=where)
                if said_by == "commit":
                    _check_what_a_commit_chose(found, git_url, where=where)
                return found
    return _derived(settings.rewritten(git_url))


def _remotes(git_url: str, settings: GitSettings) -> list[str]:
    plain = git_url.rstrip("/")
    return ["origin", *(name for name, url in settings.named("remote", "url") if url.rstrip("/") == plain)]


def _derived(git_url: str) -> LfsEndpoint:
    found = _endpoint(git_url, "repository", where=redacted(git_url))
    if found.url.startswith("file:"):
        return found
    parts = urlsplit(found.url)
    path = parts.path.removesuffix("/")
    path += "/info/lfs" if path.endswith(".git") else ".git/info/lfs" if path else "/.git/info/lfs"
    return LfsEndpoint(f"{parts.scheme}://{parts.netloc}{path}", "repository", found.ssh, found.user)


def _endpoint(url: str, said_by: _SaidBy, *, where: str) -> LfsEndpoint:
    wrong = UsageError("names no LFS server", where=where, hint="write an https, ssh or file URL")
    if url.startswith("/"):
        return LfsEndpoint(f"file://{url}", said_by)
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise wrong from None
    if parts.password is not None:
        raise UsageError("names an LFS server with a password in the URL", where=where,
                         hint="leave it out, and let git's credential helper or ~/.netrc know it")
    if parts.scheme == "file" and not host:
        return LfsEndpoint(f"file://{os.fsdecode(unquote_to_bytes(os.fsencode(parts.path)))}", said_by)
    if parts.scheme in ("http", "https") and host and not parts.query and not parts.fragment:
        netloc = parts.netloc.rpartition("@")[2]
        return LfsEndpoint(f"{parts.scheme}://{netloc}{parts.path}", said_by, None, parts.username)
    ssh = SshPlace(parts.username, host, port, unquote(parts.path)) if parts.scheme in _SSH else None
    if ssh is None and "://" not in url and (short := _SHORT_SSH.fullmatch(url)):
        ssh = SshPlace(short["user"], short["host"], None, short["path"])
    if ssh is None or not ssh.host or ssh.host.startswith("-") or (ssh.user or "").startswith("-"):
        raise wrong
    shown = f"[{ssh.host}]" if ":" in ssh.host else ssh.host
    path = parts.path if parts.scheme in _SSH else f"/{ssh.path}"
    return LfsEndpoint(f"https://{shown}{path}", said_by, ssh)


def _check_what_a_commit_chose(found: LfsEndpoint, git_url: str, *, where: str) -> None:
    origin = urlsplit(git_url)
    if found.ssh is not None:
        same = (found.ssh.user, found.ssh.host, found.ssh.port) == (origin.username, origin.hostname, origin.port)
        if origin.scheme not in _SSH or not same:
            raise AccessDeniedError("leads over ssh to another place than the repository's", where=where, hint=_SET_IT)
        return
    scheme = urlsplit(found.url).scheme
    if scheme not in ("https", origin.scheme):
        what = "to plain http" if scheme == "http" else "to files of this host"
        raise AccessDeniedError(f"leads {what}, and the repository does not", where=where, hint=_SET_IT)
