"""NFS exports that are mounted for a job alone: asked before whether that can be done, without mounting them.

Version 4.2 over TCP at port 2049 (RFC 7862, RFC 8881): one connection, and nothing of the node's (rpcbind, statd) is
needed. The kernel is told the server's address, as mount.nfs(8) does. Mounting takes CAP_SYS_ADMIN of the node: a user
namespace is not enough.
"""

from __future__ import annotations

import errno
import json
import os
import select
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from stager.host import syscalls
from stager.host.launch import give_up, start_module

__all__ = ["NfsAnswer", "ask_exports", "main", "split_export"]

_PORT: Final = 2049


class NfsAnswer(NamedTuple):
    """The address of a server that takes connections, or what is in the way."""

    address: str
    problem: str


def split_export(export: str) -> tuple[str, str]:
    """HOST and PATH of ``HOST:/PATH``; an IPv6 address is in brackets there and not here."""
    host, _, path = export.rpartition(":/")
    return host.strip("[]"), f"/{path}"


def ask_exports(exports: Sequence[str], *, limit_s: float) -> list[NfsAnswer]:
    """Of each ``HOST:/PATH``; asked in a child that is given up after ``limit_s`` seconds for all of them. Blocks."""
    if not exports:
        return []
    child = start_module(__name__, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert child.stdin is not None and child.stdout is not None
    text = b""
    try:
        with suppress(BrokenPipeError), child.stdin as request:
            request.write(json.dumps([exports, limit_s / (len(exports) + 1)]).encode())
        while select.select([child.stdout], [], [], limit_s)[0] and (more := os.read(child.stdout.fileno(), 1 << 16)):
            text += more
    finally:
        child.stdout.close()
        give_up(child)
    answers = [NfsAnswer(*json.loads(line)) for line in text.splitlines()]
    silent = NfsAnswer("", f"no answer within {limit_s:.0f} s: its name may not be found")
    return answers + [silent] * (len(exports) - len(answers))


def main() -> None:
    """Entry point of the child: exports and a limit in seconds as JSON, a line of JSON back for each."""
    exports, limit_s = json.load(sys.stdin)
    here = _what_is_missing_here()
    for export in exports:
        sys.stdout.write(json.dumps(["", here] if here else _ask(export, limit_s)) + "\n")
        sys.stdout.flush()


def _what_is_missing_here() -> str:
    """A file system of this type is opened, not made: that loads the kernel's module, or tells that there is none."""
    try:
        os.close(syscalls.open_file_system("nfs4"))
    except OSError as error:
        if error.errno == errno.ENODEV:
            return "this kernel cannot mount NFS: it has no nfs4 (modprobe nfsv4); or mount it elsewhere, and say bind:"
        if error.errno == errno.EPERM:
            return "mounting NFS takes root: have it mounted (mount.nfs, fstab, autofs), and say bind:/WHERE"
        return f"cannot mount NFS: {error.strerror}"
    return ""


def _ask(export: str, limit_s: float) -> tuple[str, str]:
    host, _ = split_export(export)
    try:
        found = socket.getaddrinfo(host, _PORT, type=socket.SOCK_STREAM)
    except OSError as error:
        return "", f"its server is not known: {error.strerror}"
    problem = ""
    for family, kind, protocol, _, address in found:
        with socket.socket(family, kind, protocol) as attempt:
            attempt.settimeout(limit_s)
            try:
                attempt.connect(address)
            except OSError as error:
                problem = f"its server does not answer at port {_PORT}: {error.strerror or error}"
            else:
                return str(address[0]), ""
    return "", problem
