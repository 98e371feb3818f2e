"""rclone. Could check MD5, but the origin's ETags are of the multipart form, so it checks the length only.

--inplace, --no-check-dest and --fast-list with list version 2 halve its CPU here: no look at the destination, no
temporary name, one listing, no HEAD per object.
"""

from __future__ import annotations

import os

from peers import Target
from peers.places import PEERS_ENVIRONMENT, first_line

NAME = "rclone"
_BINARY = str(PEERS_ENVIRONMENT / "bin" / "rclone")


def version() -> str:
    return first_line(_BINARY, "version")


def command(target: Target) -> list[str]:
    return [
        *(_BINARY, "copy", f":s3:bench/{target.prefix}", target.out, "--config", os.devnull),
        *("--s3-provider", "Other", "--s3-env-auth", "--s3-endpoint", target.endpoint, "--s3-list-version", "2"),
        *("--s3-no-check-bucket", "--s3-no-head-object", "--use-server-modtime", "--fast-list"),
        *("--inplace", "--no-check-dest", "--ignore-checksum", "--retries", "1"),
        *("--transfers", str(target.connections), "--multi-thread-streams", str(target.connections)),
        *("--multi-thread-chunk-size", "16M"),
    ]
