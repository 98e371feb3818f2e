"""s3transfer with the CRT, what boto3 uses when told ``preferred_transfer_client="crt"``; botocore lists for it."""

from __future__ import annotations

from peers import Target, Task
from peers.places import driver, package_version

NAME = "s3transfer"
TASKS: tuple[Task, ...] = ("copy",)


def version() -> str:
    return package_version("s3transfer", "boto3", "awscrt")


def command(target: Target) -> list[str]:
    return driver("s3transfer_driver", target)


def keys_listed(output: str) -> int:
    raise ValueError("lists through boto3, which is not measured by itself")
