"""A real sshfs without an sshd: it speaks to OpenSSH's sftp-server over a socket pair."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Sshfs", "sshfs"]

_SFTP_SERVER = "/usr/lib/openssh/sftp-server"
_WITHIN_S = 30.0


@dataclass(frozen=True, kw_only=True)
class Sshfs:
    """``mountpoint`` shows ``backing``."""

    mountpoint: Path
    server: subprocess.Popen[bytes]
    client: subprocess.Popen[bytes]

    def lose_server(self) -> None:
        """End the server; sshfs then unmounts itself, and the path is an empty directory of the disk below."""
        self.server.kill()
        self.server.wait()
        self.client.wait(_WITHIN_S)
        _wait_until(lambda: not os.path.ismount(self.mountpoint))

    def kill(self) -> None:
        """Kill sshfs itself: the mount stays, and is dead."""
        self.client.kill()
        self.client.wait()


@contextmanager
def sshfs(backing: Path, mountpoint: Path) -> Iterator[Sshfs]:
    """Needs root, or an open /dev/fuse. Unmounted and ended whatever happens inside."""
    mountpoint.mkdir()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        server = subprocess.Popen([_SFTP_SERVER], stdin=theirs, stdout=theirs, cwd="/")
        client = subprocess.Popen(
            ["sshfs", "-f", "-o", "passive", f"nobody:{backing}", str(mountpoint)], stdin=ours, stdout=ours
        )
    try:
        _wait_until(lambda: os.path.ismount(mountpoint))
        yield Sshfs(mountpoint=mountpoint, server=server, client=client)
    finally:
        subprocess.run(["umount", "--lazy", str(mountpoint)], check=False, stderr=subprocess.DEVNULL)
        for process in (client, server):
            process.send_signal(signal.SIGKILL)
            process.wait()


def _wait_until(holds: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + _WITHIN_S
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.005)
