"""The `git` program as a child: fixed command line, fixed environment, nothing of it shown raw.

Two environments. *Network* commands (ls-remote, fetch) see the user's and the site's git configuration, because that is
where credential helpers, proxies, CA bundles, ssh commands and URL rewrites live; they touch a bare repository only, so
no filter, attribute or checkout setting of that configuration comes into play, and hooks, prompts, maintenance and
every transport but the URL's own are switched off above it. *Local* commands (ls-tree, read-tree, checkout-index) read
neither, so no smudge filter, attributes file or alias of anyone runs.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Final
from urllib.parse import urlsplit

from stager.errors import (
    AccessDeniedError,
    HostError,
    IntegrityError,
    NoSpaceError,
    NotFoundError,
    SourceError,
    StagerError,
    TransientError,
    UsageError,
)
from stager.host.children import Child
from stager.host.git_limits import limited, memory_kib, until_it_stalls
from stager.host.proxies import git_proxy_environment

__all__ = [
    "GitFailure",
    "error_from",
    "local_command",
    "local_environment",
    "network_environment",
    "run_git",
    "run_program",
    "stream_git",
]  # fmt: skip

_KEPT: Final = (
    "HOME", "PATH", "USER", "LOGNAME", "TMPDIR",
    "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "XDG_CACHE_HOME", "DBUS_SESSION_BUS_ADDRESS", "GNUPGHOME", "KRB5CCNAME",
    "SSH_AUTH_SOCK", "GIT_SSH", "GIT_SSH_COMMAND", "GIT_SSH_VARIANT", "GIT_ASKPASS", "GIT_CONFIG_GLOBAL",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO", "GIT_SSL_CAPATH", "GIT_SSL_CERT", "GIT_SSL_KEY",
)  # fmt: skip

_FIXED: Final = (
    "--no-pager", "--no-replace-objects", "--no-optional-locks", "--literal-pathspecs",
    "-c", "core.hooksPath=/dev/null",
    "-c", "core.fsmonitor=false",
    "-c", "core.attributesFile=/dev/null",
    "-c", "core.askPass=",
    "-c", "core.alternateRefsCommand=",
    "-c", "core.bigFileThreshold=32m",  # what is larger goes through git's hands piece by piece
    "-c", "gc.auto=0",
    "-c", "maintenance.auto=false",
    "-c", "submodule.recurse=false",
    "-c", "fetch.recurseSubmodules=false",
    "-c", "protocol.allow=never",
)  # fmt: skip

_NETWORK: Final = (
    "-c", "transfer.fsckObjects=true",
    "-c", "fetch.fsckObjects=true",
    # Harmless old spellings that well-known repositories carry; the dangerous checks stay errors.
    "-c", "fetch.fsck.zeroPaddedFilemode=ignore",
    "-c", "fetch.fsck.badTimezone=ignore",
    "-c", "fetch.fsck.missingSpaceBeforeDate=ignore",
    "-c", "fetch.unpackLimit=1",
    "-c", "fetch.writeCommitGraph=false",
    "-c", "transfer.credentialsInUrl=die",
    "-c", "transfer.bundleURI=false",  # nothing from where a server says, whatever the user allows git elsewhere
    "-c", "fetch.uriProtocols=",
    "-c", "http.lowSpeedLimit=1",
    "-c", "http.lowSpeedTime=60",
)  # fmt: skip

_WATCHED: Final = """
exec 3<&0 </dev/null
input=$1
ulimit -d "$2"
shift 2
"$@" 3<&- <"$input" &
git=$!
{ read -r _ <&3 || kill -KILL 0; } >/dev/null 2>&1 &
watch=$!
wait "$git"
status=$?
kill "$watch"
wait "$watch" 2>/dev/null
exit "$status"
"""
"""Runs git beside a reader of standard input, of which stager holds the other end: a stager that was killed closes it,
and the whole process group goes, helpers and their transfers too. (PDEATHSIG reaches git alone, and a thread's end
sets it off.)"""

_TAIL_BYTES: Final = 16 << 10
_PIECE_BYTES: Final = 1 << 16


class GitFailure(Exception):  # noqa: N818  (never leaves the engine: `error_from` makes it one of ours)
    """Git ended with a status that is no success; ``stderr`` is the end of what it said, raw."""

    def __init__(self, status: int, stderr: str) -> None:
        super().__init__(status)
        self.status = status
        self.stderr = stderr


def network_environment(
    git_dir: str, url: str, environ: Mapping[str, str], proxy: str | None = None
) -> dict[str, str]:
    """For commands that talk to the remote at ``url``; only its own transport may be used.

    ``proxy``: the setting, see `stager.host.proxies`, whose choice is git's too. Raises `UsageError` when it is none.
    """
    kept = {name: environ[name] for name in _KEPT if name in environ}
    return {
        "GIT_ASKPASS": "",  # empty: no program asks; a user's own GIT_ASKPASS is a credential helper and stays
        **kept,
        **git_proxy_environment(url, proxy, environ),
        "GIT_DIR": git_dir,
        "GIT_ALLOW_PROTOCOL": urlsplit(url).scheme,
        "GIT_TERMINAL_PROMPT": "0",
        "SSH_ASKPASS_REQUIRE": "never",
        "GCM_INTERACTIVE": "never",
        "LC_ALL": "C",
    }


def local_environment(git_dir: str, environ: Mapping[str, str], **more: str) -> dict[str, str]:
    """For commands on the private repository; ``more`` adds GIT_INDEX_FILE or GIT_WORK_TREE."""
    return {
        "PATH": environ.get("PATH", os.defpath),
        "HOME": "/nonexistent",
        "GIT_DIR": git_dir,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_ALLOW_PROTOCOL": "none",
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C",
        **more,
    }


def local_command(*arguments: str) -> tuple[str, ...]:
    """The command line of git for an environment of `local_environment`."""
    return ("git", *_FIXED, *arguments)


async def run_git(
    arguments: Sequence[str | bytes],
    environment: Mapping[str, str],
    *,
    stdin: bytes = b"",
    cwd: str = "/",
    most_bytes: int | None = None,
) -> bytes:
    """Run git to its end and return what it wrote. Raises `GitFailure`, also when that is more than ``most_bytes``;
    `HostError` (no git).
    """
    written, size = list[bytes](), 0
    async with aclosing(stream_git(arguments, environment, stdin=stdin, cwd=cwd)) as pieces:
        async for piece in pieces:
            written.append(piece)
            size += len(piece)
            if most_bytes is not None and size > most_bytes:
                raise GitFailure(1, f"git: it wrote more than {most_bytes} bytes")
    return b"".join(written)


async def stream_git(
    arguments: Sequence[str | bytes], environment: Mapping[str, str], *, stdin: bytes = b"", cwd: str = "/"
) -> AsyncGenerator[bytes, None]:
    """Run git and yield what it writes, in pieces of at most 64 KiB; nothing is final before the iteration ends.

    The child has its own session: no terminal to ask on, and leaving early (cancellation included) ends it with
    everything it started; a network command ends with stager however that ends, and takes at most 64 KiB of ``stdin``.
    Raises `GitFailure`, `HostError` (no git).
    """
    network = "GIT_CONFIG_NOSYSTEM" not in environment
    argv = ("git", *_FIXED, *(_NETWORK if network else ()), *arguments)
    async with aclosing(_stream(argv, environment, stdin=stdin, cwd=cwd, watched=network)) as pieces:
        async for piece in pieces:
            yield piece


async def run_program(argv: Sequence[str], environment: Mapping[str, str], *, most_bytes: int) -> bytes:
    """Run a program that is to git's network commands what they are to stager (ssh), and return what it wrote.

    It ends with stager, as they do. Raises `GitFailure`, its status 127 when there is no such program; also when it
    writes more than ``most_bytes``.
    """
    written = b""
    async with aclosing(_stream(argv, environment, stdin=b"", cwd="/", watched=True)) as pieces:
        async for piece in pieces:
            written += piece
            if len(written) > most_bytes:
                raise GitFailure(1, f"{argv[0]}: it wrote more than {most_bytes} bytes")
    return written


async def _stream(
    argv: Sequence[str | bytes], environment: Mapping[str, str], *, stdin: bytes, cwd: str, watched: bool
) -> AsyncGenerator[bytes, None]:
    handed = _pipe_with(stdin) if stdin and watched else None
    source = f"/dev/fd/{handed}" if handed is not None else os.devnull
    try:
        child = await Child.start(
            _watched(source, argv) if watched else limited(argv, environment), environment, cwd=cwd,
            stdin=bool(stdin) or watched, pass_fds=() if handed is None else (handed,),
        )  # fmt: skip
    except FileNotFoundError:
        raise HostError("git is not installed", hint="install git 2.30 or later") from None
    finally:
        if handed is not None:
            os.close(handed)
    async with child:
        patience = asyncio.create_task(_end_when_stalled(child, environment)) if watched else None
        feeder = asyncio.create_task(_feed(None if watched else child.stdin, stdin))
        tail = asyncio.create_task(_tail(child.stderr))
        try:
            while piece := await child.stdout.read(_PIECE_BYTES):
                yield piece
            status = await child.wait()
            await feeder
            said = await tail
        finally:
            feeder.cancel()
            tail.cancel()
            if patience is not None:
                patience.cancel()
    if patience is not None and patience.done() and not patience.cancelled():
        raise GitFailure(status, "fatal: Operation too slow: nothing has come for a long time")
    if status != 0:
        raise GitFailure(status, said)


def _watched(stdin: str, argv: Sequence[str | bytes]) -> tuple[str | bytes, ...]:
    return "sh", "-c", _WATCHED, "sh", stdin, str(memory_kib()), *argv


async def _end_when_stalled(child: Child, environment: Mapping[str, str]) -> None:
    await until_it_stalls(child.pid, os.path.join(environment.get("GIT_DIR", "/nonexistent"), "objects/pack"))
    child.kill()


def _pipe_with(data: bytes) -> int:
    """The end to read of a pipe that holds these bytes and nothing after them. ValueError: more than a pipe holds."""
    if len(data) > _PIECE_BYTES:
        raise ValueError("too much for the standard input of a network command")
    reading, writing = os.pipe()
    os.write(writing, data)
    os.close(writing)
    return reading


async def _feed(pipe: asyncio.StreamWriter | None, data: bytes) -> None:
    if pipe is None:
        return
    with suppress(BrokenPipeError, ConnectionResetError):  # git ended early; its status says why
        for start in range(0, len(data), _PIECE_BYTES):
            pipe.write(data[start : start + _PIECE_BYTES])
            await pipe.drain()
    pipe.close()
    with suppress(BrokenPipeError, ConnectionResetError):
        await pipe.wait_closed()


async def _tail(pipe: asyncio.StreamReader) -> str:
    kept = b""
    while piece := await pipe.read(_PIECE_BYTES):
        kept = (kept + piece)[-_TAIL_BYTES:]
    return kept.decode("utf-8", "replace")


_NO_SPACE = r"No space left on device|Disk quota exceeded"
_DAMAGED = (
    r"fsck error|error in (packed )?object|^error: object \w+: |bad object|object corrupt|inflate: data stream error"
    r"|SHA1 COLLISION|hash mismatch|is corrupt|inconsistent delta|pack is corrupted|in tree entry|too-short tree"
    r"|did not send all necessary objects|unresolved deltas|not a tree object"
)
_DENIED = (
    r"Authentication failed|could not read (Username|Password)|terminal prompts disabled|Permission denied"
    r"|returned error: 40[13]|Access denied|invalid credentials"
)
_BROKEN = (
    r"returned error: (429|5\d\d)|Failed to connect|Couldn't connect|Connection (refused|timed out|reset|closed)"
    r"|Operation timed out|Operation too slow|Network is unreachable|No route to host|early EOF|Empty reply"
    r"|hung up unexpectedly|unexpected disconnect|RPC failed|Recv failure|Temporary failure|Broken pipe"
)
_MISSING = r"returned error: (404|410)|[Nn]ot found|does not appear to be a git repo|does not exist|No such file"

_CHECK_PROXY = "check HTTPS_PROXY, HTTP_PROXY, NO_PROXY, --proxy and git's http.proxy"

_MEANINGS: Final[tuple[tuple[str, type[StagerError], str, str], ...]] = (
    (_NO_SPACE, NoSpaceError, "no space left for the repository", "free some space"),
    (r"[Oo]ut of memory|Cannot allocate memory", HostError,
     "an object of the repository takes more memory than git may have", "a quarter of what is free is for each git"),
    (_DAMAGED, IntegrityError, "the repository sent objects that git refuses", ""),
    (r"dubious ownership", AccessDeniedError, "the repository belongs to another user",
     "allow it with git config --global --add safe.directory PATH"),
    (r"cannot run |: not found$", HostError, "git lacks a program for this URL", "install it (ssh: openssh-client)"),
    (r"transport '[^']*' not allowed", UsageError, "the URL leads to a transport that is not allowed", ""),
    (r"HTTP code 407 from proxy|CONNECT tunnel failed, response 407|returned error: 407", AccessDeniedError,
     "the proxy wants other credentials",
     "leave --proxy out and write HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT, or HTTP_PROXY for an http:// URL"),
    (r"HTTP code 4\d\d from proxy|CONNECT tunnel failed, response 4", AccessDeniedError,
     "the proxy does not let this through", _CHECK_PROXY),
    (r"from proxy after CONNECT|CONNECT tunnel failed|Proxy CONNECT aborted|CONNECT phase", TransientError,
     "no way through the proxy", _CHECK_PROXY),
    (r"Could not resolve proxy", NotFoundError, "no such proxy", _CHECK_PROXY),
    (_DENIED, AccessDeniedError, "access denied, or no password known",
     "set up a git credential helper, netrc or an ssh key for this host"),
    (r"Host key verification failed|REMOTE HOST IDENTIFICATION", AccessDeniedError, "the ssh host key is not known",
     "add the host to known_hosts"),
    (_BROKEN, TransientError, "the server did not answer, or the connection broke", "try again later"),
    (r"certificate|SSL (peer|: )|gnutls_handshake|TLS", AccessDeniedError, "the server's certificate was not accepted",
     "name the site's CA with http.sslCAInfo or SSL_CERT_FILE"),
    (r"Could not resolve host", NotFoundError, "no such host", "check the URL, and that this node can reach the host"),
    (_MISSING, NotFoundError, "no such repository", "check the URL; hosts also say this when access is denied"),
    (r"invalid index-pack output|index-pack died", IntegrityError, "the repository sent what is no pack", ""),
)  # fmt: skip
"""What git, libcurl and ssh say in the C locale (git 2.30 to 2.50), the first that matches."""


def error_from(failure: GitFailure, *, where: str) -> StagerError:
    """One of our errors for a failure of git, with the line that told, escaped, URLs without user info."""
    if re.search(r"not our ref|unadvertised object|remote ref", failure.stderr):
        return NotFoundError("the repository has no such ref or commit", where=where, hint="check ref")
    lines = [line.strip() for line in re.split(r"[\r\n]+", failure.stderr) if line.strip()]
    for pattern, kind, what, hint in _MEANINGS:
        telling = [line for line in lines if re.search(pattern, line)]
        if telling:
            judged = [line for line in telling if line.startswith("error: object ")]  # fsck names what it refuses
            return kind(f"{what} (git: {_clean((judged or telling)[-1])})", where=where, hint=hint)
    said = _clean(lines[-1]) if lines else "it said nothing"
    return SourceError(f"git failed with status {failure.status} ({said})", where=where)


def _clean(line: str) -> str:
    line = re.sub(r"//[^/\s@]*@", "//...@", line)
    line = re.sub(r"(?i)((authorization|token|password|secret)\w*[:= ]+)(basic |bearer )?\S+", r"\1...", line)
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)[:300]
