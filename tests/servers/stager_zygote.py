"""Imports stager once, and forks for each run of it: what a start of Python costs is most of a short command.

Run as ``python stager_zygote.py SOCKET``, the number of a socket; one thread, so that it may fork. A request is one
message: JSON with ``argv``, ``environment``, ``cwd`` and ``umask``, and four descriptors, the standard streams and a
socket of its own. On that goes the process id, a line, and when it has ended its wait status.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import signal
import socket
import sys
from typing import NoReturn

_IMPORTED = (
    "cli.group", "cli.sync", "cli.stage", "cli.run", "cli.plan", "cli.verify", "cli.cache", "cli.collect",
    "cli.teardown", "cli.render", "sources.s3", "sources.git", "sources.local", "sources.bind",
)  # fmt: skip
_MOST_BYTES = 1 << 20


def become_stager(request: bytes, streams: list[int], sockets: list[socket.socket]) -> NoReturn:
    """The forked child. ``sockets`` are its parent's: closed here once, and not again when nobody refers to one."""
    code = 70
    try:
        asked = json.loads(request)
        for number, descriptor in enumerate(streams):
            os.dup2(descriptor, number)
        for one in sockets:
            one.detach()
        os.closerange(3, 1024)
        for number in (signal.SIGCHLD, signal.SIGINT):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        os.environ.clear()
        os.environ.update(asked["environment"])
        os.chdir(asked["cwd"])
        os.umask(asked["umask"])
        code = importlib.import_module("stager.cli").main(asked["argv"])
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def main() -> None:
    for name in _IMPORTED:
        importlib.import_module(f"stager.{name}")
    requests = socket.socket(fileno=int(sys.argv[1]))
    awake, wake = socket.socketpair()
    wake.setblocking(False)
    signal.set_wakeup_fd(wake.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    waiting: dict[int, socket.socket] = {}
    while True:
        ready, _, _ = select.select([requests, awake], [], [])
        if awake in ready:
            awake.recv(4096)
            for pid in list(waiting):
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    with waiting.pop(pid) as told:
                        told.sendall(b"%d\n" % status)
        if requests in ready:
            request, descriptors, _, _ = socket.recv_fds(requests, _MOST_BYTES, 4)
            if not request:
                return
            *streams, told_fd = descriptors
            told = socket.socket(fileno=told_fd)
            child = os.fork()
            if child == 0:
                become_stager(request, streams, [requests, awake, wake, told, *waiting.values()])
            for descriptor in streams:
                os.close(descriptor)
            waiting[child] = told
            told.sendall(b"%d\n" % child)


if __name__ == "__main__":
    main()
