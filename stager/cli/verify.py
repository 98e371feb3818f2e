"""``stager verify DIR``."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import click

from stager.cli.options import (
    common,
    integrity_of,
    integrity_options,
    limits_of,
    remote_of,
    remote_options,
    run_async,
    speed_options,
)
from stager.cli.render import Renderer
from stager.cli.state import State
from stager.errors import HostError, IntegrityError, StagerError
from stager.events import Sink
from stager.stages.inspect import Staged, staged_below
from stager.transfer import Transfer
from stager.verify import Repair, verify

__all__ = ["command", "verify_all"]


@click.command("verify")
@click.argument("directory", metavar="DIR", type=click.Path())
@click.option("--repair", is_flag=True, help="Fetch again what differs, is missing or cannot be read.")
@click.option("--strict", is_flag=True, help="Files that are none of the dataset's are an error too.")
@click.option("--state-dir", metavar="DIR", type=click.Path(), help="Where the state is when it is not in DIR/.stager.")
@integrity_options
@speed_options
@remote_options
@common
@click.pass_obj
def command(
    state: State, /, directory: str, state_dir: str | None, repair: bool, strict: bool, **options: Any
) -> None:
    """Hash every file of a staged tree again, and name each that differs, is missing, cannot be read, or is foreign.

    DIR is what `stager sync` filled, a dataset in a job's tree, or that tree. The exit code is 4 when a file differs or
    is missing, 6 when one cannot be read. Times and permissions are not compared, but for who may execute a file.

    --repair fetches such files again from where they came, with the bytes they had, each as a whole; nothing else
    is touched, foreign files stay. When the source has moved on it says so: then `stager sync` brings the new state.

    Example: stager verify /scratch/mnist
    """
    limits, timeouts, retry = limits_of(options)
    remote = remote_of(options)
    transfer = Transfer(limits=limits, timeouts=timeouts, retry=retry)
    with Renderer(state) as sink:
        integrity = integrity_of(options)
        wanted = Repair(transfer=transfer, remote=remote, integrity=integrity) if repair else None
        run_async(
            verify_all(staged_below(directory, state_dir), strict, wanted, sink),
            how_to_continue="run the same command again",
        )


async def verify_all(trees: Sequence[Staged], strict: bool, repair: Repair | None, sink: Sink) -> None:
    """All of them, also when one is not as it should be."""
    failed: list[StagerError] = []
    async with repair.transfer if repair is not None else contextlib.nullcontext():
        for staged in trees:
            try:
                await verify(staged, strict=strict, repair=repair, sink=sink)
            except (IntegrityError, HostError) as error:
                failed.append(error)
    if len(failed) == 1:
        raise failed[0]
    if failed:
        first = min(failed, key=lambda error: error.exit_code)
        raise type(first)(f"{len(failed)} of {len(trees)} trees are not as they were staged", where=first.where,
                          hint="fetch what is wrong again with --repair")
