"""One kept tree given to a job, as stager does it once the cache is up to date; its own cost as a line of JSON.

    materialise.py give KEPT OUT         by clones or copies, with manifest and receipt: a sync from the kept tree
    materialise.py overlay KEPT OUT      an overlay mounted, in namespaces of its own; then read through, and written to
    materialise.py read-only KEPT OUT    a read-only bind mounted likewise, and read through

KEPT is a generation of the cache, with tree/ and state/; OUT a directory beside it, empty. What starting Python and
importing stager take is not in the figures: a job's `stager stage` has them in any case, and is measured whole.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from stager.host import namespaces, syscalls
from stager.pipeline import SyncOptions, sync
from stager.sources.kept import KeptTree
from stager.transfer import Transfer
from stager.urls import parse_source

READ_BYTES = 1 << 20


def main() -> None:
    way, kept, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    if way == "give":
        told = {"give": _cost(lambda: asyncio.run(_give(kept, out)))}
    else:
        told = _mounted(way, kept / "tree", out)
    print(json.dumps(told), flush=True)


def _cost(work: Callable[[], object]) -> dict[str, float]:
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    work()
    wall_s, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall_s": wall_s, "cpu_s": cpu_s}


async def _give(kept: Path, out: Path) -> None:
    """What `stager.caching` does with a tree that is up to date; what the source is called does not count here."""
    (out / "tree").mkdir()
    (out / "state").mkdir()
    source = KeptTree(str(kept / "tree"), str(kept / "state"), pinned={}, shares_blocks=False)
    options = SyncOptions(state_dir=str(out / "state"))
    ref = parse_source("s3://bench/set/")
    async with Transfer() as transfer:
        await sync(ref, str(out / "tree"), transfer=transfer, options=options, source=source)


def _mounted(way: str, tree: Path, out: Path) -> dict[str, dict[str, float]]:
    namespaces.enter()
    for name in ("upper", "work", "place"):
        (out / name).mkdir()
    told = {way: _cost(lambda: _mount(way, tree, out))}
    _read(tree)  # warm
    place = out / "place"
    for name, top in (("direct", tree), ("through", place), ("through again", place), ("direct again", tree)):
        told[name] = _cost(partial(_read, top))
    if way == "overlay":
        largest = max((path for path in place.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
        told["first write"] = _cost(lambda: _write_a_byte(largest))
    return told


def _mount(way: str, tree: Path, out: Path) -> None:
    """As `stager.host.view`."""
    if way == "overlay":
        lower, upper, work = (os.open(path, os.O_PATH | os.O_DIRECTORY) for path in (tree, out / "upper", out / "work"))
        mount = syscalls.make_overlay(lower, upper, work)
    else:
        mount = syscalls.clone_tree(str(tree))
        syscalls.set_mount_attributes(mount, add=syscalls.MOUNT_ATTR_RDONLY)
    syscalls.attach_tree(mount, str(out / "place"))


def _read(top: Path) -> None:
    buffer = bytearray(READ_BYTES)
    for directory, _, names in os.walk(top):
        for name in names:
            fd = os.open(f"{directory}/{name}", os.O_RDONLY)
            while os.readv(fd, [buffer]):
                pass
            os.close(fd)


def _write_a_byte(path: Path) -> None:
    with path.open("r+b", buffering=0) as file:
        file.write(b"x")


if __name__ == "__main__":
    main()
