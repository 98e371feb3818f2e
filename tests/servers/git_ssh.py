"""A git server over ssh: the real sshd on loopback with keys of its own, in front of what a forge lets one do.

It runs as whoever runs the tests, root too, and lets that user in by one key alone. Paths are those below its root, as
a forge's are: ``ssh://USER@127.0.0.1:PORT/lab/words``.
"""

from __future__ import annotations

import getpass
import json
import os
import shlex
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from servers.process import ServerFailedError, ServerProcess, free_ports

__all__ = ["GitSsh", "git_ssh"]

_FORGE = Path(__file__).with_name("git_ssh_forge.py")
_SEPARATION = Path("/run/sshd")  # compiled into Debian's sshd, which wants it there when it runs as root
_HOST_CHECKED = "-oUserKnownHostsFile={hosts} -oGlobalKnownHostsFile=/dev/null -oStrictHostKeyChecking=yes"


@dataclass(frozen=True, kw_only=True)
class GitSsh:
    """A running server. ``root`` holds the repositories."""

    root: Path
    home: Path
    port: int
    user: str
    process: ServerProcess

    def url(self, name: str) -> str:
        """URL of the repository ``root / name``."""
        return f"ssh://{self.user}@127.0.0.1:{self.port}/{name}"

    def environment(self, *, key: str = "client", hosts: str = "known_hosts") -> dict[str, str]:
        """With it a child's git enters. Not with ``key="stranger"``; with ``hosts="strangers"`` it does not want to."""
        options = _HOST_CHECKED.format(hosts=self.home / hosts)
        return {
            "GIT_SSH_COMMAND": f"ssh -F /dev/null -i {self.home / key} -oIdentitiesOnly=yes -oBatchMode=yes {options}"
        }

    def answer_lfs(self, answers: dict[str, dict[str, Any]] | None) -> None:
        """What `git-lfs-authenticate` says by repository; None: there is no such command.

        An answer has ``href``, and as it likes ``header`` and ``expires_in``.
        """
        settings = {"root": str(self.root), "log": str(self.home / "commands"), "lfs": answers}
        temporary = self.home / "settings.new"
        temporary.write_text(json.dumps(settings))
        temporary.rename(self.home / "settings.json")

    def commands(self) -> list[str]:
        """Each command that a client asked for, as it did."""
        log = self.home / "commands"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


@contextmanager
def git_ssh(root: Path) -> Iterator[GitSsh]:
    """Serve the repositories below ``root``. ServerFailedError: sshd does not start."""
    with tempfile.TemporaryDirectory(prefix="stager-sshd-") as directory:
        home = Path(directory)
        for name in ("host", "client", "stranger"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(home / name)], check=True
            )
        (home / "authorized_keys").write_text((home / "client.pub").read_text())
        if os.geteuid() == 0:
            _SEPARATION.mkdir(mode=0o755, exist_ok=True)
        (port,) = free_ports(1)
        kind, host_key, _ = (home / "host.pub").read_text().split(maxsplit=2)
        (home / "known_hosts").write_text(f"[127.0.0.1]:{port} {kind} {host_key}\n")
        _, strange_key, _ = (home / "stranger.pub").read_text().split(maxsplit=2)
        (home / "strangers").write_text(f"[127.0.0.1]:{port} {kind} {strange_key}\n")
        (home / "sshd_config").write_text(_config(home, port))
        with ServerProcess([_program(), "-D", "-e", "-f", str(home / "sshd_config")]) as process:
            process.wait_ready(lambda: _greets(port))
            server = GitSsh(root=root, home=home, port=port, user=getpass.getuser(), process=process)
            server.answer_lfs(None)
            yield server


def _program() -> str:
    """The program's absolute path: sshd runs itself again for each connection."""
    for directory in (*os.environ["PATH"].split(":"), "/usr/sbin", "/sbin"):
        if os.access(path := f"{directory}/sshd", os.X_OK):
            return path
    raise ServerFailedError("there is no sshd: install openssh-server")


def _config(home: Path, port: int) -> str:
    """sshd_config(5). No PAM, and StrictModes off: /tmp is everybody's, the directory of the keys is not."""
    forced = shlex.join([sys.executable, "-S", "-E", str(_FORGE), str(home / "settings.json")])
    return f"""
ListenAddress 127.0.0.1
Port {port}
HostKey {home}/host
PidFile none
AuthorizedKeysFile {home}/authorized_keys
AuthenticationMethods publickey
PermitRootLogin prohibit-password
UsePAM no
StrictModes no
AcceptEnv GIT_PROTOCOL
ForceCommand {forced}
LogLevel VERBOSE
"""


def _greets(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        return connection.recv(4) == b"SSH-"
