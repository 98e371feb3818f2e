"""The process between stager and a job without a view: runs the command as it is, and leaves no process behind.

It is started afresh, as `stager.host.keeper` is, and speaks as that does: one line of JSON with the request, ``ended``
or ``failed`` back, numbers of signals a line each. Nothing is mounted and no namespace made, so the job could kill this
process, and a process that outlives both is then found by nobody; what orphans there are become this one's children
and end with the command.
"""

from __future__ import annotations

import json
import os
import sys
import time

from stager.errors import StagerError
from stager.host import procs, syscalls
from stager.host.command_start import CommandRequest, as_end, send, send_failure, start_command, take_over
from stager.host.watch import Watch

__all__ = ["main"]


def main() -> None:
    """Entry point: ``argv`` ends with the numbers of the socket and of stager's pidfd."""
    descriptors = list(map(int, sys.argv[-2:]))
    channel, umask = take_over(descriptors)
    request: CommandRequest | None = json.loads(channel.makefile("rb", buffering=0).readline() or b"null")
    if request is None:
        return
    syscalls.become_subreaper()
    started_s = time.time()
    try:
        command = start_command(request, umask, _confine)
    except StagerError as error:
        send_failure(channel, error)
        return
    try:
        with Watch(command, channel, descriptors[-1:], None) as watch:
            status = watch.wait()
        ended_s = time.time()
    finally:
        procs.end_descendants()
    if status is not None:
        send(channel, as_end(status, started_s, ended_s))


def _confine() -> None:
    os.setsid()
    syscalls.forbid_new_privileges()

