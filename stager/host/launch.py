"""Starting a fresh Python process of our own that nothing from outside can steer.

``-I``: no environment variable, no user site, not the current directory; ``-S``: no site packages, the standard
library is enough. Working directory ``/``, a fixed environment, a session of its own, no descriptor but those named.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import IO, Final, Protocol

__all__ = ["PACKAGE_PARENT", "give_up", "start_module"]

PACKAGE_PARENT: Final = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
"""The directory that stager's package lies in."""

_BOOT: Final = "import importlib, sys; sys.path.insert(0, sys.argv[1]); importlib.import_module(sys.argv[2]).main()"
_KILLED_WITHIN_S: Final = 1.0
_ENVIRONMENT: Final = {"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"}


def start_module(
    name: str,
    *arguments: str,
    pass_fds: Sequence[int] = (),
    stdin: int | IO[bytes] | None = None,
    stdout: int | IO[bytes] | None = None,
    stderr: int | IO[bytes] | None = None,
) -> subprocess.Popen[bytes]:
    """Run ``name.main()`` in a new process; ``arguments`` end its ``sys.argv``. Blocks until it is executed.

    A stream left None is inherited. ``OSError`` when the interpreter cannot be executed.
    """
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _BOOT, PACKAGE_PARENT, name, *arguments],
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        pass_fds=pass_fds,
        cwd="/",
        env=_ENVIRONMENT,
        start_new_session=True,
    )


class _Process(Protocol):
    def kill(self) -> None: ...
    def wait(self, timeout: float | None = None) -> int: ...


def give_up(process: _Process) -> None:
    """Kill a process without waiting long: one that sleeps in a dead mount may not die before the mount answers."""
    process.kill()
    try:
        process.wait(_KILLED_WITHIN_S)
    except subprocess.TimeoutExpired:
        threading.Thread(target=process.wait, daemon=True).start()
