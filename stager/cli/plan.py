"""``stager plan``: the dry run as a command of its own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Any, Final

import click
from click.core import ParameterSource

from stager.cli.emit import FORMATS, emit_job
from stager.cli.filters import FilteringCommand
from stager.cli.job_options import scratch_option
from stager.cli.options import common, limits_of, remote_of, remote_options, run_async, speed_options
from stager.cli.render import Renderer
from stager.cli.state import State
from stager.cli.sync import request_options, run_request
from stager.cli.tell import tell
from stager.cli.text import count, escaped, size
from stager.config import Remote
from stager.errors import UsageError
from stager.events import Sink, nowhere
from stager.host.cache import Generation
from stager.host.record import rfc3339
from stager.job.copies import copies_of
from stager.job.placing import (
    find_candidates,
    kept_in,
    must_be_sized,
    must_be_spread,
    names_in_cache,
    place_sized,
    size_job,
    wishes,
    with_kept,
)
from stager.job.planning import plan_job
from stager.job.resources import refuse_clashes
from stager.keeping import Item
from stager.model import JobSpec
from stager.names import show, to_json
from stager.placement import Placed
from stager.stages.place_candidates import quota_in_force
from stager.stages.place_policy import within_quota
from stager.stages.spec import load_spec
from stager.transfer import Transfer

__all__ = ["command"]

_HOW: Final = "run the same command again"


@click.command("plan", cls=FilteringCommand)
@click.argument("source", metavar="SRC|JOB.toml|JOB")
@click.argument("destination", metavar="[DST]", required=False, type=click.Path())
@click.option("--emit", "form", metavar="FORMAT", type=click.Choice(FORMATS),
              help="Print a staged job for a container runtime: oci (a config.json), docker, k8s (a Job), bwrap.")
@click.option("--image-config", metavar="FILE", type=click.Path(),
              help="What the image says of its command, for --emit oci and bwrap: see `skopeo inspect --config`.")
@scratch_option
@request_options
@common
@click.pass_context
def command(
    ctx: click.Context, /, source: str, destination: str | None, form: str | None, image_config: str | None,
    ref: str | None, scratch: str | None, **options: Any,
) -> None:  # fmt: skip
    """Say what `stager sync SRC DST`, or `stager stage JOB.toml`, would fetch, and change nothing.

    How many objects and bytes, and to which commit a branch is pinned now; with -v or --json each file by its name. Of
    a job also where its data would go, and why there.

    With --emit, of a job that `stager stage` has staged: its mounts, environment, working directory and command as a
    container runtime takes them.

    Example: stager plan git+https://git.example/vision/labels@main /scratch/labels
    """
    if form is not None:
        if destination is not None:
            raise UsageError("is of one staged job", where="--emit", hint="write stager plan --emit FORMAT JOB")
        _refuse_what_the_job_file_says(ctx)
        emit_job(ctx.obj, form, source, scratch, image_config)
        return
    if image_config is not None:
        raise UsageError("is for --emit", where="--image-config")
    if destination is not None:
        if scratch is not None:
            raise UsageError("is for a job file", where="--scratch", hint="DST is where the data goes")
        run_request(ctx, source, destination, ref, {**options, "dry_run": True})
        return
    if "://" in source:
        raise UsageError("a source needs a destination too", where=source, hint="write stager plan SRC DST")
    _refuse_what_the_job_file_says(ctx)
    state: State = ctx.obj
    limits, timeouts, retry = limits_of(options)
    transfer = Transfer(limits=limits, timeouts=timeouts, retry=retry)
    with Renderer(state) as sink:
        run_async(_plan(state, load_spec(source), scratch, transfer, remote_of(options), sink), how_to_continue=_HOW)


def _refuse_what_the_job_file_says(ctx: click.Context) -> None:
    """What is for one source. Raises `UsageError`."""

    @speed_options
    @remote_options
    @scratch_option
    @common
    def allowed() -> None: ...

    known = {option.name for option in getattr(allowed, "__click_params__", ())}
    known |= {"source", "destination", "form", "image_config"}
    for option in ctx.command.params:
        given = ctx.get_parameter_source(option.name or "") is ParameterSource.COMMANDLINE
        if given and option.name not in known:
            raise UsageError("is for SRC DST: a job file says it of each dataset", where=option.opts[0])


async def _plan(
    state: State, spec: JobSpec, scratch: str | None, transfer: Transfer, remote: Remote, sink: Sink
) -> None:
    names = state.json or state.verbosity > 0
    kept_as = names_in_cache(spec, remote)
    quota = await asyncio.to_thread(quota_in_force, os.environ)
    found = await asyncio.to_thread(find_candidates, spec, scratch, os.environ)
    found = await asyncio.to_thread(with_kept, found, kept_as, for_view=True)
    has_some = any(item.name in kept_as for root in found.roots for item in root.kept)
    async with transfer:
        resources = [copy for copy in copies_of(spec, remote, None) if copy.resource]
        await refuse_clashes(resources, transfer=transfer, scratch=None)
        wanted = await size_job(
            spec, transfer=transfer, remote=remote, names=names, sink=nowhere if has_some else sink
        )
        spread = must_be_spread(spec, found)
        sure = spread or must_be_sized(found, wishes(spec), kept_as)
        placed = place_sized(found, wanted, sure=sure, spread=spread)
        placed = within_quota(placed, wanted, quota)
        if has_some:
            kept = await asyncio.to_thread(_kept_in, placed, spec, remote)
            await plan_job(spec, transfer=transfer, remote=remote, names=names, kept=kept, sink=sink)
    for one in placed:
        _tell(state, one, alone=len(placed) == 1)


def _kept_in(placed: Sequence[Placed], spec: JobSpec, remote: Remote) -> dict[str, Generation]:
    targets = {copy.name: copy.target for copy in copies_of(spec, remote, None)}
    return {
        target: generation
        for one in placed
        for target, generation in kept_in(one.root, spec, remote).items()
        if target in {targets[name] for name in one.names if name in targets}
    }


def _tell(state: State, placed: Placed, *, alone: bool) -> None:
    root, wanted = placed.root, placed.wanted
    path = os.fsencode(root.path)
    has = [item for item in root.kept if item.name in wanted.kept_as]
    body = {
        "names": list(placed.names), "root": to_json(path), "class": root.device_class, "why": placed.why,
        "bytes": wanted.bytes, "inodes": wanted.files, "free_bytes": root.free_bytes, "free_inodes": root.free_inodes,
        "cache": [_body(item) for item in has], "shared": root.shares,
        "evicted": [_body(item) for item in placed.evicted],
    }  # fmt: skip
    inodes = "" if root.free_inodes is None else f" and {root.free_inodes:,} inodes"
    names = "" if alone else f"{', '.join(escaped(name) for name in placed.names)} "
    where = f"{names}would go to {show(path)} ({root.device_class}, {size(root.free_bytes)}{inodes} free)"
    lines = [f"{where}: {size(wanted.bytes)}, {count(wanted.files, 'inode')}; {placed.why}"]
    given = "nothing of it is written again" if root.shares else "copied from there"
    lines += [f"the cache there has {escaped(item.source)}: {_amount(item)}; {given}" for item in has]
    lines += [
        f"the cache there would lose {escaped(item.source)}: {_amount(item)}, last used {rfc3339(item.last_use_s)}"
        for item in placed.evicted
    ]
    tell(state, "placed", body, "\n".join(lines))


def _amount(item: Item) -> str:
    return f"{size(item.bytes)}, {count(item.inodes, 'inode')}"


def _body(item: Item) -> dict[str, Any]:
    return {
        "name": item.name, "source": item.source, "bytes": item.bytes, "inodes": item.inodes,
        "last_use": rfc3339(item.last_use_s),
    }  # fmt: skip
