"""Two regular expressions asked about many names, in a process of its own that is given up when it takes too long.

Python's expressions go back as often as they like: a few harmless looking words and a name made for them take longer
than the universe has. Names come from a job, so nobody waits for that; nor is there anything to wait for it in.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from typing import Final

from stager.errors import UsageError
from stager.host.launch import give_up, start_module

__all__ = ["check_expression", "main", "wanted_by"]

_LIMIT_S: Final = 30.0


def check_expression(text: str) -> str:
    """What is wrong with an expression; empty: nothing."""
    if "\0" in text:
        return "holds a NUL"
    try:
        re.compile(os.fsencode(text))
    except (re.error, RecursionError, OverflowError) as error:
        return f"is no regular expression: {error}"
    return ""


def wanted_by(whitelist: str, blacklist: str, paths: Sequence[bytes], *, limit_s: float = _LIMIT_S) -> list[bool]:
    """Of each path whether the first is found anywhere in it ("": always) and the second is not ("": never). Blocks.

    Raises `UsageError`: it takes more than ``limit_s`` for all of them.
    """
    if not paths:
        return []
    process = start_module(
        "stager.host.expressions", whitelist, blacklist, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:
        try:
            answer, _ = process.communicate(b"\0".join(paths), timeout=limit_s)
        except subprocess.TimeoutExpired:
            give_up(process)
            raise UsageError(
                f"the expressions take more than {limit_s:.0f} s for {len(paths)} names", where="[results]",
                hint="write include and exclude, which never do, or simpler expressions",
            ) from None  # fmt: skip
    if len(answer) != len(paths):
        raise UsageError("the expressions could not be applied", where="[results]", hint="see the message above")
    return [verdict == ord("1") for verdict in answer]


def main() -> None:
    """The process: names, each ended by a NUL but the last, in; a ``1`` or ``0`` of each out."""
    whitelist, blacklist = (re.compile(os.fsencode(text)) if text else None for text in sys.argv[-2:])
    names = sys.stdin.buffer.read().split(b"\0")
    verdicts = (
        b"1" if (whitelist is None or whitelist.search(name)) and not (blacklist and blacklist.search(name)) else b"0"
        for name in names
    )
    sys.stdout.buffer.write(b"".join(verdicts))
