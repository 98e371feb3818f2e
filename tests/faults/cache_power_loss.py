"""Lets the power of a disk fail while stagers fill, change and empty the cache on it, and looks at what the next jobs
get after each failure.

Run by the tests in a mount namespace of its own: takes a line with a JSON object; says "next" after each step of the
filling and goes on at the next line; then prints a JSON object for each failure, and goes on at the next line as well.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from faults.power_loss import boot_again
from integration.job_driver import Node
from servers.logged_disk import Log, LoggedDisk, logged_disk, mounted

_MAKERS = {
    "ext4": (96 << 20, ["mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0"], ",commit=1,noinit_itable"),
    "xfs": (320 << 20, ["mkfs.xfs", "-q", "-m", "reflink=1"], ""),
}
_FLUSH_EVERY_S = 0.02
_STEPS = (
    ("stage", "--job-id", "one", "JOB.toml"), ("stage", "--job-id", "two", "JOB.toml"),
    ("teardown", "--discard-uncollected", "one"), ("cache", "rm", "--all"),
)  # fmt: skip
_SHOW = "cd /data/o/n && find . -type f -exec sha256sum {} +"


def main() -> None:
    asked = json.loads(sys.stdin.readline())
    work, kind = Path(asked["work"]), asked["kind"]
    base, where = work / "base", work / "mnt"
    where.mkdir()
    size, maker, options = _MAKERS[kind]
    with base.open("wb") as file:
        file.truncate(size)
    subprocess.run([*maker, base], check=True)
    with mounted(base, where, kind=kind):
        (where / "scratch").mkdir(mode=0o700)
        (where / "JOB.toml").write_text(asked["job"])
    with logged_disk(base, work) as disk:
        log, ends = _fill(disk, where, kind, options + asked["mount"], asked["environment"])
    boot_again(work)
    draw = random.Random(asked["seed"])
    epochs = draw.sample(range(len(log.epochs)), min(asked["points"], len(log.epochs)))
    moments = [*((ends[step], None) for step in asked["ends"]), *((at, random.Random(draw.random())) for at in epochs)]
    for epoch, drawn in moments:
        log.crash(base, work / "crashed", epoch, drawn)
        with mounted(work / "crashed", where, kind=kind):
            _tell({"epoch": epoch, **_look(Node(where, asked["environment"]))})


def _fill(
    disk: LoggedDisk, where: Path, kind: str, options: str, environment: dict[str, str]
) -> tuple[Log, list[int]]:
    """Do all steps on the disk; its log, and how often it had been flushed at the end of each."""
    ends = []
    with mounted(disk.device, where, options, kind=kind), _flushing(where / "flushed"):
        for step in _STEPS:
            done = Node(where, environment).stager(*step)
            if done.code:
                raise RuntimeError(done.err)
            ends.append(disk.flushes())
            _tell("next")
    return disk.read(), ends


@contextmanager
def _flushing(path: Path) -> Iterator[None]:
    """Somebody else's fsync, all the time: it brings to the disk what was renamed, and not what is in the files."""
    ended = threading.Event()

    def flush() -> None:
        with path.open("wb", buffering=0) as file:
            while not ended.wait(_FLUSH_EVERY_S):
                file.write(b"x")
                os.fsync(file)

    thread = threading.Thread(target=flush)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _look(node: Node) -> dict[str, Any]:
    """One failure: what was kept, what two jobs get now, and what is left when all that is known has been removed."""
    kept = [_digests(tree) for tree in node.scratch.glob("cache/*/*/*/tree")]
    ends = [node.stager("stage", "--job-id", "after", "JOB.toml")]
    staged = _digests(node.tree("after") / "data/o/n")
    moved = node.receipt("after")["datasets"][0]["moved"]["objects"] if ends[0].code == 0 else None
    ends.append(node.stager("run", "--job-id", "shown", "JOB.toml", "--", "sh", "-c", _SHOW))
    shown = dict(reversed(line.split("  ./")) for line in ends[1].out.splitlines())
    jobs = [json.loads(line)["id"] for line in node.stager("ls", "--json").out.splitlines()]
    ends += [node.stager("teardown", "--discard-uncollected", job) for job in jobs]
    ends.append(node.stager("cache", "rm", "--all"))
    small = [*node.scratch.glob("jobs/*/*"), *node.scratch.glob("cache/*/.*")]  # records, and what was to become one
    left = [str(path) for path in node.scratch.rglob("*") if path not in small]
    return {
        "kept": kept, "staged": staged, "moved": moved, "shown": shown, "ends": [one.code for one in ends],
        "says": [one.err for one in ends], "left": [path for path in left if Path(path).is_file()],
    }  # fmt: skip


def _digests(tree: Path) -> dict[str, str]:
    files = [path for path in tree.rglob("*") if path.is_file()]
    return {str(path.relative_to(tree)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _tell(what: object) -> None:
    print(json.dumps(what), flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    os.umask(0o022)
    main()
