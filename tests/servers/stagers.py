"""Runs of `stager` to their end, each a process of its own, for less than what starting Python costs."""

from __future__ import annotations

import functools
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

__all__ = ["Ended", "run_stager"]

_WITHIN_S = 60.0


class Ended(NamedTuple):
    """``code`` is the exit status, or the number of the signal below 0."""

    code: int
    out: str
    err: str


def run_stager(
    argv: Sequence[str], environment: Mapping[str, str], *, cwd: str | None = None, within_s: float = _WITHIN_S
) -> Ended:
    """Run a command with nothing on standard input. TimeoutExpired: it hung, and was killed. From any thread."""
    ours, theirs = socket.socketpair()
    out, err = os.memfd_create("out"), os.memfd_create("err")
    null = os.open(os.devnull, os.O_RDONLY)
    request = {"argv": list(argv), "environment": dict(environment), "cwd": cwd or os.getcwd(), "umask": _umask()}
    try:
        with ours:
            with theirs:
                sent = json.dumps(request).encode()
                socket.send_fds(_zygote()[0], [sent], [null, out, err, theirs.fileno()])
            ours.settimeout(within_s)
            lines = ours.makefile("r")
            pid = int(lines.readline())
            try:
                status = int(lines.readline())
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                raise subprocess.TimeoutExpired(list(argv), within_s) from None
            except BaseException:
                os.kill(pid, signal.SIGKILL)
                raise
        return Ended(os.waitstatus_to_exitcode(status), _text(out), _text(err))
    finally:
        for descriptor in (out, err, null):
            os.close(descriptor)


@functools.cache
def _zygote() -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """Of this process; it ends when this one does, which closes the socket."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    program = str(Path(__file__).with_name("stager_zygote.py"))
    with theirs:
        argv = ["setpriv", "--pdeathsig", "KILL", sys.executable, "-P", program, str(theirs.fileno())]
        process = subprocess.Popen(argv, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
    return ours, process


def _umask() -> int:
    text = Path("/proc/self/status").read_text()
    return int(next(line for line in text.splitlines() if line.startswith("Umask:")).split()[1], 8)


def _text(memory: int) -> str:
    size = os.fstat(memory).st_size
    return os.pread(memory, size, 0).decode().replace("\r\n", "\n")
