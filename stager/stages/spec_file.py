"""A job file's bytes and text: read without waiting or trusting, decoded, and where in it each key stands."""

from __future__ import annotations

import os
import re
import stat
import tomllib
from typing import Any, Final

from stager.errors import SpecError, from_os_error

__all__ = ["MAX_FILE_BYTES", "decode", "lines_of", "one_line", "read_file"]

MAX_FILE_BYTES: Final = 1 << 20


def read_file(path: str) -> bytes:
    """The bytes of a job file. Raises `SpecError`: not a regular file, too large; `HostError`: not readable."""
    try:
        # O_NONBLOCK: opening a FIFO must not wait for its writer.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except ValueError:
        raise SpecError("the job file's name holds a NUL", [], where=ascii(path)) from None
    except (FileNotFoundError, NotADirectoryError):
        raise SpecError("no such job file", [], where=path, hint="check the path") from None
    except OSError as error:
        raise from_os_error(error, doing="open the job file", where=path) from error
    try:
        return _read_regular(fd, path)
    finally:
        os.close(fd)


def _read_regular(fd: int, path: str) -> bytes:
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise SpecError("the job file is not a regular file", [], where=path)
    # Root acts on a job file with root's rights, so only root may have written it.
    if os.geteuid() == 0 and status.st_uid != 0:
        raise SpecError(
            f"the job file belongs to user {status.st_uid}, and root would run it", [], where=path,
            hint=f"run stager as that user: stager --as-user {status.st_uid} ...",
        )
    data = b""
    while len(data) <= MAX_FILE_BYTES and (piece := os.read(fd, MAX_FILE_BYTES + 1 - len(data))):
        data += piece
    if len(data) > MAX_FILE_BYTES:
        raise SpecError("the job file is over 1 MiB", [], where=path)
    return data


def decode(data: bytes, where: str) -> dict[str, Any]:
    """The file's tables. Raises `SpecError`: not UTF-8, not TOML."""
    try:
        return tomllib.loads(data.decode())
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SpecError(f"the job file is not UTF-8 (line {line})", [], where=where) from None
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"not TOML: {one_line(str(error))}", [], where=where) from None
    except RecursionError:
        raise SpecError("not a job file: nested too deep", [], where=where) from None
    except ValueError as error:  # an integer or a date beyond what Python holds
        raise SpecError(f"not TOML: {one_line(str(error))}", [], where=where) from None


def one_line(text: str) -> str:
    """``text`` without control characters, at most 300 characters of it."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)[:300]


_HEADER = re.compile(r"\s*(\[\[?)\s*([A-Za-z0-9_.\"'-]+)\s*\]\]?")
_KEY = re.compile(r"\s*([A-Za-z0-9_-]+)\s*[=.]")


def lines_of(text: str) -> dict[str, int]:
    """Place to line number, by a look at the text; only for messages, so a multi-line string may mislead it."""
    lines: dict[str, int] = {}
    counts: dict[str, int] = {}
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            table = header[2]
            if header[1] == "[[":
                counts[table] = counts.get(table, 0) + 1
                table = f"{table}[{counts[table]}]"
            lines.setdefault(table, number)
        elif key := _KEY.match(line):
            lines.setdefault(f"{table}.{key[1]}" if table else key[1], number)
    return lines
