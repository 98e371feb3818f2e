"""rclone with its MD5 check of every object, where the origin's ETags are MD5 sums; else as `rclone`."""

from __future__ import annotations

from peers import Target, Task
from peers import rclone as plain

NAME = "rclone_md5"
TASKS: tuple[Task, ...] = ("copy",)


def version() -> str:
    return plain.version()


def command(target: Target) -> list[str]:
    source = f":s3:bench/{target.prefix}"
    return [plain.BINARY, "copy", source, target.out, *plain.remote(target), *plain.copying(target)]


def keys_listed(output: str) -> int:
    return plain.keys_listed(output)
