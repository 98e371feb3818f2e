"""Variables as files: for a shell (``. job.env``), and for ``docker run --env-file``."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from typing import Final

__all__ = ["beyond_docker", "for_docker", "for_shell"]

_MOST_LINE_BYTES: Final = 65_000  # bufio.MaxScanTokenSize is 65,536, with the end of the line


def for_shell(variables: Mapping[str, str]) -> bytes:
    """Lines that any POSIX shell takes back byte for byte, whatever is in the values. Names are plain."""
    return b"".join(os.fsencode(f"export {name}={shlex.quote(value)}\n") for name, value in sorted(variables.items()))


def for_docker(variables: Mapping[str, str]) -> bytes:
    """Lines as docker reads them: NAME=VALUE, the value as it stands. A comment tells what `beyond_docker` tells."""
    left_out = beyond_docker(variables)
    lines = [f"# {name} is left out: {why}\n" for name, why in sorted(left_out.items())]
    lines += [f"{name}={value}\n" for name, value in sorted(variables.items()) if name not in left_out]
    return os.fsencode("".join(lines))


def beyond_docker(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables whose values no such file can hold, and why: docker/cli, pkg/kvfile. It takes lines of valid UTF-8,
    has no escapes, and some versions take quotes away that stand at both ends.
    """
    found = {name: _why_not(name, value) for name, value in variables.items()}
    return {name: why for name, why in found.items() if why}


def _why_not(name: str, value: str) -> str:
    if "\n" in value:
        return "docker's syntax has no way to write a line end"
    if value.endswith("\r"):
        return "docker takes a carriage return at the end for a part of the line end"
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        return "some versions of docker take away quotes that stand at both ends"
    try:
        line = f"{name}={value}".encode()
    except UnicodeEncodeError:
        return "docker takes UTF-8 alone"
    return "docker takes no longer lines than 64 KiB" if len(line) > _MOST_LINE_BYTES else ""
