"""Runs of `stager`, each a process of its own that can be killed, for less than what starting Python costs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Condition

__all__ = ["Launcher", "Run", "launcher"]


@dataclass(frozen=True)
class Run:
    """How one ended: ``code`` is the exit status, or the number of the signal below 0."""

    code: int
    out: str
    err: str


class Launcher:
    """One run at a time. `signal` may be called from any thread."""

    def __init__(self, zygote: subprocess.Popen[str], directory: Path) -> None:
        self._zygote = zygote
        self._directory = directory
        self._changed = Condition()
        self._pid = 0

    def run(self, argv: Sequence[str], environment: Mapping[str, str], *, die_at_step: int = 0) -> Run:
        """To its end. ``die_at_step``: see `zygote.die_at_step`."""
        out, err = self._directory / "out", self._directory / "err"
        request = {
            "argv": list(argv),
            "environment": {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], **environment},
            "out": str(out),
            "err": str(err),
            "die_at_step": die_at_step,
        }
        assert self._zygote.stdin is not None
        self._zygote.stdin.write(json.dumps(request) + "\n")
        self._zygote.stdin.flush()
        self._become(self._line())
        status = self._line()
        self._become(0)
        return Run(os.waitstatus_to_exitcode(status), out.read_text(), err.read_text())

    def signal(self, number: signal.Signals) -> None:
        """Send it to the run under way; waits until there is one."""
        with self._changed:
            self._changed.wait_for(lambda: self._pid != 0, timeout=10)
            if self._pid:
                os.kill(self._pid, number)

    def _line(self) -> int:
        assert self._zygote.stdout is not None
        return int(self._zygote.stdout.readline())

    def _become(self, pid: int) -> None:
        with self._changed:
            self._pid = pid
            self._changed.notify_all()


@contextmanager
def launcher(directory: Path) -> Iterator[Launcher]:
    """A launcher whose runs write what they print below ``directory``."""
    argv = ["setpriv", "--pdeathsig", "KILL", sys.executable, str(Path(__file__).with_name("zygote.py"))]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as zygote:
        yield Launcher(zygote, directory)
        assert zygote.stdin is not None
        zygote.stdin.close()
