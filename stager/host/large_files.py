"""Files of directories that are larger than they should be there, found in a process that can be given up.

A network mount whose server goes away lets a walk sleep without end, but the sleeper can be killed.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from stager.host.launch import give_up, start_module
from stager.host.tree_files import walk_files

__all__ = ["Content", "main", "survey_directories"]

_NAMED: Final = 5
_MOST_FILES: Final = 200_000
_ANSWER_BYTES: Final = 1 << 20


class Content(NamedTuple):
    """What a directory holds, as far as it was looked at: ``large`` are the largest of the files that are larger than
    was asked for, by their paths below it, each with its size.
    """

    files: int = 0
    bytes: int = 0
    large: tuple[tuple[str, int], ...] = ()
    whole: bool = False


def survey_directories(tops: Sequence[str], *, above_bytes: int, limit_s: float) -> list[Content]:
    """All of them, in ``limit_s`` seconds together; a file's size is what it says, holes and all. Blocks.

    What is not whole then says what was seen until it ended, or nothing where the file system does not answer.
    """
    if not tops:
        return []
    child = start_module(__name__, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None and child.stdout is not None
    try:
        with child.stdin as request:
            request.write(json.dumps([list(tops), above_bytes, limit_s]).encode())
        answers = _read_until(child.stdout.fileno(), time.monotonic() + limit_s + 1.0)
    except BrokenPipeError:
        answers = b""
    finally:
        child.stdout.close()
        give_up(child)
    found = [_content(*json.loads(line)) for line in answers.splitlines(keepends=True) if line.endswith(b"\n")]
    return [*found, *(Content() for _ in tops)][: len(tops)]


def _content(files: int, size: int, large: list[tuple[str, int]], whole: bool) -> Content:
    return Content(files, size, tuple((path, each) for path, each in large), whole)


def _read_until(fd: int, until: float) -> bytes:
    data = b""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    while len(data) < _ANSWER_BYTES and (left := until - time.monotonic()) > 0 and poll.poll(left * 1000):
        piece = os.read(fd, 1 << 16)
        if not piece:
            break
        data += piece
    return data


def main() -> None:
    """Entry point of the child: directories, size and seconds on standard input, a JSON line for each directory on
    standard output.
    """
    tops, above_bytes, limit_s = json.load(sys.stdin)
    until = time.monotonic() + limit_s
    for top in tops:
        sys.stdout.write(json.dumps(_survey(top, above_bytes, until)) + "\n")
        sys.stdout.flush()


def _survey(top: str, above_bytes: int, until: float) -> Content:
    files = size = 0
    large: list[tuple[str, int]] = []
    try:
        for path, each in _files(top):
            if files >= _MOST_FILES or time.monotonic() > until:
                return Content(files, size, tuple(large))
            files, size = files + 1, size + each
            if each > above_bytes:
                large = sorted([*large, (path, each)], key=lambda found: -found[1])[:_NAMED]
    except OSError:
        return Content(files, size, tuple(large))
    return Content(files, size, tuple(large), True)


def _files(top: str) -> Iterator[tuple[str, int]]:
    return ((os.fsdecode(file.path), file.size) for file in walk_files(top) if file.kind == "file")
