"""``stager doctor``."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile

import click

from stager.cli.job_options import scratch_option
from stager.cli.limits import show_limits
from stager.cli.options import common, run_async
from stager.cli.state import State
from stager.cli.tell import tell
from stager.cli.text import size
from stager.errors import StagerError
from stager.host.site import site_limits
from stager.host.survey import find_credentials, git_version, kernel, openssl_version
from stager.model import Command, Mount, MountView
from stager.stages.mount import check_sources
from stager.stages.place import Placement, place
from stager.stages.run import run_command

__all__ = ["command"]


@click.command("doctor")
@scratch_option
@common
@click.pass_obj
def command(state: State, /, scratch: str | None) -> int:
    """Say what this node offers a job and what it lacks. Exit status 0: the main job can run here.

    Example: stager doctor
    """
    return run_async(_examine(state, scratch), how_to_continue="nothing was changed")


async def _examine(state: State, scratch: str | None) -> int:
    problems: list[StagerError] = []
    _say(state, "kernel", kernel())
    _say(state, "openssl", openssl_version())
    version = await git_version(os.environ)
    _say(state, "git", version or "not found: git sources cannot be staged")
    try:
        _say(state, "site limits", show_limits(site_limits()))
    except StagerError as error:
        problems.append(error)
        _say(state, "site limits", f"PROBLEM: {error}")
    found = find_credentials(os.environ)
    _say(state, "credentials", ", ".join(found) or "none found: only public sources, or those an instance role opens")
    try:
        placement = await asyncio.to_thread(place, scratch, os.environ)
        _say(state, "scratch", _describe(placement))
        await _try_view(placement)
        _say(state, "view", "a job's view can be built and a command runs in it")
    except StagerError as error:
        problems.append(error)
        _say(state, "scratch or view", f"PROBLEM: {error}")
    ready = not problems and version is not None
    tell(state, "verdict", {"ready": ready}, "ready" if ready else "NOT READY: see above")
    return problems[0].exit_code if problems else (0 if ready else 6)


def _say(state: State, what: str, found: str) -> None:
    tell(state, "found", {"what": what, "found": found}, f"{what + ':':13} {found}")


def _describe(placement: Placement) -> str:
    inodes = "" if placement.free_inodes is None else f", {placement.free_inodes} inodes"
    return f"{placement.scratch} ({placement.file_system}, {size(placement.free_bytes)}{inodes} free)"


async def _try_view(placement: Placement) -> None:
    """Build the smallest view and run `true` in it: no table of kernel settings tells as surely."""
    top = await asyncio.to_thread(tempfile.mkdtemp, prefix="doctor-", dir=placement.scratch)
    try:
        for name in ("code", "logs"):
            os.mkdir(os.path.join(top, name))
        mounts = tuple(Mount(kind="own", source=f"{top}/{name}", target=f"/{name}") for name in ("code", "logs"))
        view = await asyncio.to_thread(check_sources, MountView(mounts=mounts, masked=(placement.scratch,)))
        argv = Command(argv=("true",), environment=_environment(), workdir="/logs")
        await run_command(view, argv, stdin=subprocess.DEVNULL)
    finally:
        await asyncio.to_thread(shutil.rmtree, top, ignore_errors=True)


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath)}
