"""Lets the power of a disk fail while ``stager sync`` fills it, and looks at what is found after each failure.

Run by the tests in a mount namespace of its own: takes a line with a JSON object, says "synced" after each sync and
goes on at the next line, and prints a JSON object at the end.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

from faults.syncing import run, run_sync, tree
from servers.logged_disk import Log, LoggedDisk, logged_disk, mounted

_DISK_BYTES = 48 << 20
_BOOT_ID = "/proc/sys/kernel/random/boot_id"


def main() -> None:
    asked = json.loads(sys.stdin.readline())
    work = Path(asked["work"])
    base, where = work / "base", work / "mnt"
    where.mkdir()
    with base.open("wb") as file:
        file.truncate(_DISK_BYTES)
    subprocess.run(["mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", base], check=True)
    with logged_disk(base, work) as disk:
        log, done_at = fill(disk, where, asked)
    boot_again(work)
    draw = random.Random(asked["seed"])
    points = _choose(len(log.epochs), done_at, asked["points"], draw)
    found = [look(log, base, work, where, epoch, drawn, asked) | {"after": epoch >= done_at} for epoch, drawn in points]
    json.dump({"flushes": len(log.epochs) - 1, "done_at": done_at, "found": found}, sys.stdout)


def fill(disk: LoggedDisk, where: Path, asked: dict[str, Any]) -> tuple[Log, int]:
    """Sync onto the disk; its log, and how many flushes there were when stager said that it was done."""
    with mounted(disk.device, where, f",commit=1,noinit_itable{asked['mount']}"):
        for _ in range(2):
            done = run_sync(asked["source"], where / "dst", asked["environment"], *asked["options"])
            if done.status:
                raise RuntimeError(done.err)
            print("synced", flush=True)
            sys.stdin.readline()
        done_at = disk.flushes()
    return disk.read(), done_at


def _choose(
    epochs: int, done_at: int, count: int, draw: random.Random
) -> list[tuple[int, random.Random | None]]:
    """The moment when stager was done, with nothing that came later; and moments all over, with parts of it."""
    some = sorted(draw.sample(range(epochs), min(count, epochs)))
    return [(done_at, None), *((epoch, random.Random(draw.random())) for epoch in some)]


def look(
    log: Log, base: Path, work: Path, where: Path, epoch: int, drawn: random.Random | None, asked: dict[str, Any]
) -> dict[str, Any]:
    """One crash: what is there, what verify says of it, and what the next sync makes of it."""
    image = work / "crashed"
    log.crash(base, image, epoch, drawn)
    with mounted(image, where):
        root = where / "dst"
        receipt = _receipt(root)
        verified = run("verify", str(root), "-q", environment=asked["environment"])
        again = run_sync(asked["source"], root, asked["environment"], "--json")
        last = json.loads(again.out.splitlines()[-1])
        return {
            "epoch": epoch,
            "receipt": receipt is not None,
            "verify": verified.status,
            "verify_says": verified.err,
            "sync": again.status,
            "sync_says": again.err,
            "moved": last["receipt"]["moved"]["objects"] if again.status == 0 else None,
            "right": tree(root) == {name: Path(path).read_bytes() for name, path in asked["contents"].items()},
        }


def _receipt(root: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads((root / ".stager/receipt.json").read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return found


def boot_again(work: Path) -> None:
    """Another boot id, as after the crash."""
    fresh = work / "boot_id"
    fresh.write_text(f"{uuid.uuid4()}\n")
    subprocess.run(["mount", "--bind", fresh, _BOOT_ID], check=True)
    if Path(_BOOT_ID).read_text() != fresh.read_text():
        raise RuntimeError("the boot id is what it was")


if __name__ == "__main__":
    os.umask(0o022)
    main()
