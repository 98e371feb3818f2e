"""``stager doctor``."""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
from collections.abc import Mapping

import click

from stager.cli.doctor_places import measured, tell_places, tell_uncollected
from stager.cli.job_options import scratch_option
from stager.cli.limits import show_limits
from stager.cli.options import common, run_async
from stager.cli.state import State
from stager.cli.tell import tell
from stager.cli.text import size
from stager.errors import StagerError
from stager.host.findings import Finding
from stager.host.site import site_limits
from stager.host.survey import find_credentials, kernel
from stager.host.survey_abilities import abilities
from stager.host.survey_libraries import libraries, programs
from stager.host.survey_limits import clock, cpus, memory, name_service, open_files, proxies
from stager.host.survey_mounts import try_mounts
from stager.host.survey_node import shared
from stager.host.survey_storage import storage
from stager.host.trash import remove_temporary
from stager.job.placing import job_scratches, place_sized
from stager.model import Command, Mount, MountView
from stager.placement import Wanted
from stager.stages.mount import check_sources
from stager.stages.place import Placement, place
from stager.stages.place_candidates import candidates, scratch_in
from stager.stages.run import run_command

__all__ = ["command"]

_UNABLE = 6


@click.command("doctor")
@scratch_option
@click.option("--measure", is_flag=True,
              help="Write to each place for 2 s, at most 512 MiB and an eighth of what is free, and keep the rate.")
@common
@click.pass_obj
def command(state: State, /, scratch: str | None, measure: bool) -> int:
    """Say what this node offers a job and what it lacks. Exit status 0: the main job can run here.

    Places for data come in the order in which jobs get them. Nothing is sent to any other host.

    Example: stager doctor
    """
    return run_async(_Doctor(state, scratch).examine(measure), how_to_continue="nothing was changed")


class _Doctor:
    """One examination; ``_code`` is the exit status so far."""

    def __init__(self, state: State, scratch: str | None) -> None:
        self._state = state
        self._scratch = scratch
        self._code = 0

    async def examine(self, measure: bool) -> int:
        self._tell(Finding(what="kernel", found=kernel()))
        for finding in (cpus(), memory(), open_files(), clock(), libraries(), *await programs(os.environ)):
            self._tell(finding)
        for finding in (name_service(), proxies(os.environ), _credentials(os.environ)):
            self._tell(finding)
        for finding in abilities(await asyncio.to_thread(try_mounts)):
            self._tell(finding)
        try:
            self._tell(Finding(what="site limits", found=show_limits(site_limits())))
        except StagerError as error:
            self._problem("site limits", error)
        for what, look in (("shared", shared), ("storage", storage)):
            try:
                self._tell(await asyncio.to_thread(look))
            except StagerError as error:
                self._problem(what, error)
        await self._examine_places(measure)
        return self._verdict()

    async def _examine_places(self, measure: bool) -> None:
        try:
            found = await asyncio.to_thread(candidates, self._scratch, os.environ, clone=True)
            if measure:
                found = await asyncio.to_thread(measured, self._state, found)
            self._say("places for data, the best first:")
            tell_places(self._state, found)
            placed = place_sized(found, [Wanted(name="a job", bytes=0, files=0)], sure=False)
            where = scratch_in(placed[0].root) if placed else self._scratch
            placement = await asyncio.to_thread(place, where, os.environ)
            why = f"; {placed[0].why}" if placed else ""
            self._tell(Finding(what="scratch", found=_describe(placement) + why))
            await asyncio.to_thread(tell_uncollected, self._state, job_scratches(self._scratch, os.environ))
            await _try_view(placement)
            self._tell(Finding(what="view", found="a job's view can be built and a command runs in it"))
        except StagerError as error:
            self._problem("scratch or view", error)

    def _problem(self, what: str, error: StagerError) -> None:
        self._code = self._code or error.exit_code
        self._tell(Finding(what=what, found=str(error), state="problem"))

    def _tell(self, finding: Finding) -> None:
        if finding.state == "problem":
            self._code = self._code or _UNABLE
        body = {"what": finding.what, "found": finding.found, "state": finding.state, "cost": finding.cost,
                "details": dict(finding.details)}  # fmt: skip
        mark = {"ok": "", "lacking": "LACKING: ", "problem": "PROBLEM: "}[finding.state]
        cost = f"; it costs: {finding.cost}" if finding.cost else ""
        tell(self._state, "found", body, f"{finding.what + ':':16} {mark}{finding.found}{cost}")

    def _say(self, text: str) -> None:
        if not self._state.json:
            tell(self._state, "", {}, text)

    def _verdict(self) -> int:
        ready = self._code == 0
        tell(self._state, "verdict", {"ready": ready}, "ready" if ready else "NOT READY: see PROBLEM above")
        return self._code


def _credentials(environ: Mapping[str, str]) -> Finding:
    """By the names of their places."""
    found = find_credentials(environ)
    none = "none found: only public sources, or those an instance role opens"
    return Finding(what="credentials", found=", ".join(found) or none, details={"places": found})


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
        await asyncio.to_thread(remove_temporary, top)


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath)}
