"""A program as a child of the event loop.

Started by `subprocess`, which uses vfork(2): uvloop forks, and copying the page tables of a process that has a large
listing in memory takes longer than what most of our children do.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import IO, Self

__all__ = ["Child"]


class Child:
    """One in a session of its own. ``stdout`` and ``stderr`` are for reading, ``stdin``, if there is one, for writing.

    Use it in an ``async with``: whoever leaves ends it, with everything that it has started, and waits for that.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._transports: list[asyncio.BaseTransport] = []
        self.stdout = asyncio.StreamReader()
        self.stderr = asyncio.StreamReader()
        self.stdin: asyncio.StreamWriter | None = None

    @classmethod
    async def start(
        cls,
        argv: Sequence[str | bytes],
        environment: Mapping[str, str],
        *,
        cwd: str,
        stdin: bool,
        pass_fds: Sequence[int] = (),
    ) -> Self:
        """``stdin``: a pipe, or nothing. OSError: it cannot be executed, or there are no descriptors."""
        child = cls(_execute(argv, environment, cwd, stdin, pass_fds))
        try:
            await child._connect()
        except BaseException:
            await child._end()
            raise
        return child

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._end()

    @property
    def pid(self) -> int:
        """Of its process, and of its session."""
        return self._process.pid

    def kill(self) -> None:
        """End it, with everything that it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    async def wait(self) -> int:
        """Its status, once it has ended."""
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        pidfd = os.pidfd_open(self._process.pid)
        loop.add_reader(pidfd, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(pidfd)
            os.close(pidfd)
        return self._process.wait()

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        for pipe, reader in ((self._process.stdout, self.stdout), (self._process.stderr, self.stderr)):
            assert pipe is not None
            end = _PipeEnd(pipe, loop)
            transport, _ = await loop.connect_read_pipe(partial(asyncio.StreamReaderProtocol, reader), end)
            self._transports.append(transport)
        if self._process.stdin is not None:
            self.stdin = await self._writer(self._process.stdin)

    async def _writer(self, pipe: IO[bytes]) -> asyncio.StreamWriter:
        loop = asyncio.get_running_loop()
        idle = partial(asyncio.StreamReaderProtocol, asyncio.StreamReader())  # whose other half a writer needs
        transport, protocol = await loop.connect_write_pipe(idle, _PipeEnd(pipe, loop))
        self._transports.append(transport)
        return asyncio.StreamWriter(transport, protocol, None, loop)

    async def _end(self) -> None:
        for transport in self._transports:
            if isinstance(transport, asyncio.WriteTransport) and not transport.is_closing():
                transport.abort()  # without what it has not yet written
            transport.close()
        if self._process.returncode is None:
            self.kill()
            await asyncio.shield(asyncio.ensure_future(self.wait()))


class _PipeEnd:
    """This process's end of a pipe, for a transport of ``loop``, which closes it.

    Once: asyncio's transports leave that to what they were given, uvloop's do it themselves and ask that for it as
    well, by when another thread may have a file of this number.
    """

    def __init__(self, pipe: IO[bytes], loop: asyncio.AbstractEventLoop) -> None:
        """Takes the end over. OSError."""
        with pipe:
            self._fd = os.dup(pipe.fileno())
        self._closes = isinstance(loop, asyncio.BaseEventLoop)

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        if self._closes:
            os.close(self._fd)


def _execute(
    argv: Sequence[str | bytes], environment: Mapping[str, str], cwd: str, stdin: bool, pass_fds: Sequence[int]
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        argv,
        stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        env=dict(environment),
        cwd=cwd,
        start_new_session=True,
        pass_fds=pass_fds,
    )
