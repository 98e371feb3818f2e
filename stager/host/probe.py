"""Directories asked whether they are alive, in a process that can be given up.

A network mount whose server is gone lets ``stat`` and ``open`` sleep without end, but the sleeper can be killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from stager.host.launch import give_up, start_module
from stager.host.mounts import mount_id_of_path

__all__ = ["Probe", "main", "probe_directories"]


class Probe(NamedTuple):
    """A directory that answered: its path without symlinks, (st_dev, st_ino), and the number of the mount that it is
    on. Else ``error``, an errno.

    ``error`` is -1 when there was no answer in time.
    """

    path: str
    real: str
    pinned: tuple[int, int]
    error: int
    mount_id: int = 0


def probe_directories(paths: Sequence[str], *, limit_s: float) -> list[Probe]:
    """Resolve, stat and read every directory, each within ``limit_s`` seconds; in the order of ``paths``.

    Read means: one entry is listed, or listing is refused while passing through is allowed.
    """
    found: list[Probe] = []
    while len(found) < len(paths):
        found += _probe_until_silence(paths[len(found) :], limit_s)
    return found


def _probe_until_silence(paths: Sequence[str], limit_s: float) -> Iterator[Probe]:
    # One that sleeps in a dead mount may outlive stager: it must not keep open what the caller reads to the end.
    child = start_module(__name__, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert child.stdin is not None and child.stdout is not None
    lines = _Lines(child.stdout.fileno())
    try:
        with contextlib.suppress(BrokenPipeError), child.stdin as request:
            request.write(json.dumps(paths).encode())
        for path in paths:
            line = lines.next(limit_s)
            if not line:
                yield Probe(path, path, (0, 0), -1)
                return
            yield Probe(path, *_from_line(line))
    finally:
        child.stdout.close()
        give_up(child)


class _Lines:
    """Lines of a pipe, waited for; what has come is never waited for again (a buffered file would hide it)."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._waiting = b""
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)

    def next(self, limit_s: float) -> bytes:
        """The next line; empty at the end, or after ``limit_s`` seconds in which nothing came."""
        while b"\n" not in self._waiting:
            if not self._poll.poll(limit_s * 1000):
                return b""
            more = os.read(self._fd, 1 << 16)
            if not more:
                return b""
            self._waiting += more
        line, _, self._waiting = self._waiting.partition(b"\n")
        return line


def _from_line(line: bytes) -> tuple[str, tuple[int, int], int, int]:
    real, device, inode, error, mount = json.loads(line)
    return real, (device, inode), error, mount


def main() -> None:
    """Entry point of the child: a JSON list of paths on standard input, one JSON line for each on standard output."""
    for path in json.load(sys.stdin):
        try:
            real = os.path.realpath(path, strict=True)
            found = os.stat(real)
            _read_one(real)
            answer = (real, found.st_dev, found.st_ino, 0, mount_id_of_path(real))
        except OSError as error:
            answer = (path, 0, 0, error.errno or -1, 0)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _read_one(path: str) -> None:
    try:
        with os.scandir(path) as entries:
            next(entries, None)
    except PermissionError:
        if not os.access(path, os.X_OK, effective_ids=True):
            raise
