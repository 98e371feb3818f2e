"""What all drivers share: the command line, the places files go to, the line that ends a run.

    DRIVER.py TASK ENDPOINT PREFIX OUT CONNECTIONS LISTING

TASK is "copy" or "list". Objects above `PART_BYTES` are fetched in parts of that size, `CONNECTIONS` at a time.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

BUCKET = "bench"
PART_BYTES = 16 << 20


@dataclass
class Plan:
    task: str
    endpoint: str
    prefix: str
    out: str
    connections: int
    listing: str
    _made: set[str] = field(default_factory=set)

    @classmethod
    def from_arguments(cls) -> Plan:
        task, endpoint, prefix, out, connections, listing = sys.argv[1:]
        return cls(task, endpoint, prefix, out, int(connections), listing)

    def given(self) -> Iterator[tuple[str, int]]:
        """Key and size of every object, for libraries that cannot list."""
        with open(self.listing) as lines:
            for line in lines:
                size, key = line.rstrip("\n").split(" ", 1)
                yield self.prefix + key, int(size)

    def path(self, key: str) -> str:
        """Where the object goes; the directory is made when it is first needed."""
        path = os.path.join(self.out, key.removeprefix(self.prefix))
        directory = os.path.dirname(path)
        if directory not in self._made:
            os.makedirs(directory, exist_ok=True)
            self._made.add(directory)
        return path


def parts(size: int) -> list[tuple[int, int]]:
    """(start, end) of each part of an object."""
    return [(start, min(start + PART_BYTES, size)) for start in range(0, size, PART_BYTES)]


def finish(keys: int) -> None:
    print(json.dumps({"keys": keys}), flush=True)
