"""Kills a stager that makes or removes mounts in this namespace, at each of its steps, and looks what the next leaves.

Prints the number of steps of both, and every fault.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from stager.errors import BusyError
from stager.host import syscalls
from stager.host.host_mounts import HostMount, make_mounts, remove_mounts
from stager.host.mounts import read_mountinfo

RUN, PUBLIC, ROUNDS = sys.argv[1], sys.argv[2], int(sys.argv[3])
"""A round tries one of three ways to go on after each step, the next round another."""
TOUCHED = ("/", "/mnt", RUN)


def wanted() -> list[HostMount]:
    source = os.open(f"{PUBLIC}/../source", os.O_PATH)
    return [
        HostMount("/data/a/b", source),
        HostMount("/public/p", os.open(PUBLIC, os.O_PATH), locked=True),
        HostMount("/code", source),
        HostMount("/mnt/local_storage", source),
    ]


def make(job: str = "1") -> bool:
    mounts = wanted()
    try:
        return make_mounts(job, 0, 0, mounts, directory=RUN)
    finally:
        for fd in {mount.source for mount in mounts}:
            assert fd is not None
            os.close(fd)


def remove() -> bool:
    return remove_mounts("1", directory=RUN)


def state() -> tuple[list[tuple[str, str, str]], list[list[str]]]:
    mounts = [(row.mountpoint, row.fstype, row.root) for row in read_mountinfo()]
    return sorted(mounts), [sorted(os.listdir(path)) for path in TOUCHED]


class Killer:
    """Kills this process before its ``at``-th step; of a write half is done then."""

    def __init__(self, at: int) -> None:
        self.left = at

    def wrap(self, module: Any, name: str) -> None:
        real = getattr(module, name)

        def step(*arguments: Any, **options: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                if name == "write":
                    real(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)

        setattr(module, name, step)


def killed_at(number: int, work: Callable[[], object]) -> bool:
    """False: it has not that many steps."""
    child = os.fork()
    if child == 0:
        killer = Killer(number)
        for name in ("mkdir", "rmdir", "unlink", "write", "fsync", "truncate"):
            killer.wrap(os, name)
        for name in ("make_tmpfs", "set_mount_attributes", "attach_tree", "unmount"):
            killer.wrap(syscalls, name)
        work()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == -signal.SIGKILL


def main() -> None:
    faults: list[str] = []
    steps = {"make": 0, "remove": 0}
    make()
    remove()
    before = state()
    make()
    standing = state()
    remove()

    def expect(what: str, wanted: object, found: object) -> None:
        if found != wanted:
            faults.append(f"{what}: {found} instead of {wanted}")

    recoveries = ("remove", "make", "another job")
    for action, work in (("make", make), ("remove", remove)):
        for offset in range(ROUNDS):
            number = 0
            while True:
                number += 1
                recovery = recoveries[(number + offset) % len(recoveries)]
                if action == "remove":
                    make()
                if not killed_at(number, work):
                    break
                where = f"{action} killed at step {number}, then {recovery}"
                if recovery == "another job":
                    with suppress(BusyError):  # the mounts of the one that was killed stand, all of them
                        make("2")
                elif recovery == "make":
                    make()
                if recovery != "remove":
                    expect(where, standing, state())
                    remove_mounts("2", directory=RUN)
                remove()
                expect(where, before, state())
            steps[action] = number - 1
            remove()
    print(json.dumps({"steps": steps, "faults": faults}))


main()
