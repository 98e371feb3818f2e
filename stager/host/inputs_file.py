"""What was put into TASK_PATH before the command, file by file, where the job cannot reach it: in the job's state.

JSON lines ``[path, size, mode, mtime_ns, ctime_ns]`` in the order of `stager.host.leaves`, and a last line with their
count. Written and read piece by piece: no file is as large as a list of Python objects of a million files would be.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from stager.errors import HostError
from stager.host.atomic import open_regular, write_file
from stager.host.leaves import Leaf
from stager.names import from_json, to_json

__all__ = ["INPUTS", "read_inputs", "write_inputs"]

INPUTS: Final = "inputs.jsonl"
_LINES: Final = 1000
_LINE_MAX: Final = 32 << 10  # a path of 4,095 bytes, each escaped


def write_inputs(state_fd: int, leaves: Iterable[Leaf]) -> int:
    """Keep what ``leaves`` says, durably; how many there were. Blocks. Raises `HostError`, `NoSpaceError`, OSError."""
    count = 0

    def pieces() -> Iterator[bytes]:
        nonlocal count
        lines: list[bytes] = []
        for leaf in leaves:
            row = [to_json(leaf.path), leaf.size, leaf.mode, leaf.mtime_ns, leaf.ctime_ns]
            lines.append(msgspec.json.encode(row) + b"\n")
            count += 1
            if len(lines) == _LINES:
                yield b"".join(lines)
                lines.clear()
        yield b"".join(lines) + msgspec.json.encode({"files": count}) + b"\n"

    write_file(state_fd, INPUTS, pieces(), mode=0o600, durable=True)
    return count


def read_inputs(state_fd: int) -> Iterator[Leaf]:
    """What was kept; nothing when there is none. Blocks. Raises `HostError`: damaged; OSError."""
    try:
        fd = open_regular(INPUTS, os.O_RDONLY, dir_fd=state_fd)
    except FileNotFoundError:
        return
    with open(fd, "rb") as file:
        for count, leaf in enumerate(map(_leaf, iter(lambda: file.readline(_LINE_MAX), b""))):
            if isinstance(leaf, Leaf):
                yield leaf
            elif leaf == count and not file.read(1):
                return
            else:
                break
    raise HostError("is damaged: lines are missing", where=INPUTS)


def _leaf(line: bytes) -> Leaf | int:
    """What a line says; the count of them. Raises `HostError`."""
    try:
        found = msgspec.json.decode(line)
        if isinstance(found, dict):
            return int(found["files"])
        path, size, mode, mtime_ns, ctime_ns = found
        return Leaf(from_json(path), int(size), int(mode), int(mtime_ns), int(ctime_ns))
    except (msgspec.MsgspecError, ValueError, TypeError, KeyError) as error:
        raise HostError(f"is damaged: {error}", where=INPUTS) from error
