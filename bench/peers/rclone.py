"""rclone without its checks: of what it receives it compares the length only. Its MD5 check is `rclone_md5`.

--inplace, --no-check-dest and --fast-list with list version 2 halve its CPU here: no look at the destination, no
temporary name, one listing, no HEAD per object. A second run has to look at the destination; it compares size and time,
and times are the listing's (--use-server-modtime), so no HEAD per object either.
"""

from __future__ import annotations

import os

from peers import Target, Task
from peers.places import ENVIRONMENT, first_line

NAME = "rclone"
TASKS: tuple[Task, ...] = ("copy", "resync", "list")
BINARY = str(ENVIRONMENT / "bin" / "rclone")


def version() -> str:
    return first_line(BINARY, "version")


def command(target: Target) -> list[str]:
    source = f":s3:bench/{target.prefix}"
    match target.task:
        case "list":
            return [BINARY, "lsf", "--recursive", "--files-only", source, *remote(target)]
        case "resync":
            return [BINARY, "sync", source, target.out, *remote(target), "--checkers", str(target.connections)]
        case "copy":
            return [BINARY, "copy", source, target.out, *remote(target), *copying(target), "--ignore-checksum"]


def remote(target: Target) -> list[str]:
    """How the origin is reached and listed."""
    return [
        *("--config", os.devnull, "--s3-provider", "Other", "--s3-env-auth", "--s3-endpoint", target.endpoint),
        *("--s3-list-version", "2", "--s3-no-check-bucket", "--s3-no-head-object"),
        *("--use-server-modtime", "--fast-list", "--retries", "1"),
        *(("--ca-cert", str(target.ca_file)) if target.ca_file is not None else ()),
    ]


def copying(target: Target) -> list[str]:
    """How files are made where there are none."""
    return [
        *("--inplace", "--no-check-dest", "--transfers", str(target.connections)),
        *("--multi-thread-streams", str(target.connections), "--multi-thread-chunk-size", "16M"),
    ]


def keys_listed(output: str) -> int:
    return output.count("\n")
