"""Commands of stager's own, run as a user by root, with an end to how long they take and to what they may say.

They have no part of root beside them, as those of ``stager --as-user`` do: they make no views.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from stager.errors import HostError
from stager.host.launch import PACKAGE_PARENT
from stager.host.principal import Principal, become, environment_of

__all__ = ["Ran", "run_stager"]

_BOOT: Final = (
    "import json, sys; sys.path.insert(0, sys.argv[1]); from stager.cli import main; "
    "sys.exit(next((code for code in map(main, json.loads(sys.argv[2])) if code), 0))"
)
_SAID_MOST: Final = 8 << 10
_END_WITHIN_S: Final = 20.0
_LOOK_EVERY_S: Final = 1.0


class Ran(NamedTuple):
    """``code`` as the shell has it, None when the time was over; ``said``: the end of its standard error."""

    code: int | None
    said: str


def run_stager(
    commands: Sequence[Sequence[str]], user: Principal, environ: Mapping[str, str], *, limit_s: float | None = None
) -> Ran:
    """Run one ``stager`` after the other, to the first that fails, as the user, in / and with what `environment_of`
    leaves of ``environ``. This process has one thread. Blocks.

    Raises `HostError`: it cannot become the user, or this interpreter cannot be executed by that one.
    """

    def be_the_user() -> None:
        os.chdir("/")
        if user.uid != os.geteuid():
            become(user)

    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-c", _BOOT, PACKAGE_PARENT, json.dumps(commands)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            env=environment_of(user, environ), preexec_fn=be_the_user,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        raise HostError(
            f"cannot be started as user {user.name}: {error}", where=sys.executable,
            hint="stager and its Python have to be installed for all users; root needs all rights of root",
        ) from error
    assert process.stderr is not None
    deadline_s = None if limit_s is None else time.monotonic() + limit_s
    with process.stderr as stream:
        said, in_time = _read(stream.fileno(), process, deadline_s)
    if not in_time:
        _end(process)
        return Ran(None, said)
    code = process.wait()
    return Ran(code if code >= 0 else 128 - code, said)


def _read(stream: int, process: subprocess.Popen[bytes], deadline_s: float | None) -> tuple[str, bool]:
    """To the end of the process, or of the time; who has the stream after that is not waited for."""
    said = b""
    while True:
        left_s = _LOOK_EVERY_S if deadline_s is None else min(_LOOK_EVERY_S, deadline_s - time.monotonic())
        if left_s <= 0:
            return said.decode(errors="replace"), False
        if select.select([stream], [], [], left_s)[0]:
            more = os.read(stream, 1 << 16)
            said = (said + more)[-_SAID_MOST:]
            if not more:
                return said.decode(errors="replace"), True
        elif process.poll() is not None:
            return said.decode(errors="replace"), True


def _end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, as that leaves nothing half done; then what cannot be refused."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_END_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
