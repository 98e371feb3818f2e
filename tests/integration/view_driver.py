"""Runs one command in a view, as the pipeline does: configuration from a file, the outcome to another."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any


def wait_for_writer(fifo: str) -> None:
    os.close(os.open(fifo, os.O_RDONLY))


def main() -> None:
    with open(sys.argv[1], encoding="utf-8") as file:
        asked = json.load(file)
    sys.path.insert(0, asked["package"])
    from stager.errors import StagerError
    from stager.model import Command, Mount, MountView, RamDisk
    from stager.stages.mount import check_sources
    from stager.stages.run import run_command

    async def run(view: MountView, command: Command) -> dict[str, Any]:
        task = asyncio.ensure_future(run_command(view, command, stdin=stdin))
        if "cancel_fifo" in asked:
            await asyncio.to_thread(wait_for_writer, asked["cancel_fifo"])
            task.cancel()
        try:
            info = await task
        except asyncio.CancelledError:
            return {"cancelled": True}
        return {"status": info.status, "signal": info.signal, "code": info.code}

    stdin = os.open(asked["stdin_path"], os.O_RDONLY) if "stdin_path" in asked else None
    for path in asked["inherit"]:
        os.set_inheritable(os.open(path, os.O_RDONLY), True)
    try:
        view = MountView(
            mounts=tuple(Mount(**row) for row in asked["mounts"]), masked=tuple(asked["masked"]),
            profile=asked.get("profile", "host"),
            ramdisk=RamDisk(size_bytes=1 << 20, inodes=100) if asked.get("ramdisk") else None,
        )  # fmt: skip
        view = check_sources(view)
        for old, new in asked["rename"]:
            os.rename(old, new)
        for target, path in asked["symlink"]:
            os.symlink(target, path)
        for path in asked["mkdir"]:
            os.mkdir(path)
        command = Command(argv=tuple(asked["argv"]), environment=asked["environment"], workdir=asked["workdir"])
        outcome = asyncio.run(run(view, command))
    except StagerError as error:
        outcome = {
            "error": type(error).__name__,
            "text": str(error),
            "hint": error.hint,
            "status": getattr(error, "status", None),
        }
    with open(sys.argv[2], "w", encoding="utf-8") as file:
        json.dump(outcome, file)


main()
