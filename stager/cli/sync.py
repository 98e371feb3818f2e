"""``stager sync SRC DST``."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import click
from msgspec.structs import replace

from stager.cli.filters import (
    FilteringCommand,
    chosen_deletion,
    chosen_filter,
    delete_options,
    filter_options,
)
from stager.cli.git import git_of, git_options
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
from stager.errors import UsageError
from stager.events import Sink
from stager.model import SourceRef
from stager.pipeline import SyncOptions, sync
from stager.stages.pin import Pinning
from stager.transfer import Transfer
from stager.urls import parse_source

__all__ = ["command", "request_options", "run_request"]

Command = Callable[..., Any]


def request_options(command: Command) -> Command:
    """Add all that says what is synced; `run_request` takes it."""
    for option in (
        click.option("--state-dir", metavar="DIR", type=click.Path(),
                     help="Keep the state here and not in DST/.stager."),
        click.option("--frozen", metavar="FILE", type=click.Path(),
                     help="Copy exactly what FILE says was listed, and list nothing: every node gets the same."),
        click.option("--versions", is_flag=True,
                     help="S3: ask of each object which version it is, so that it can be had after it was replaced."),
        click.option("--save-listing", metavar="FILE", type=click.Path(),
                     help="Keep what was listed in FILE, for --frozen."),
        click.option("--on-archived", type=click.Choice(["fail", "skip"]), default="fail", show_default=True,
                     help="What to do with objects in Glacier and the like that have to be restored first."),
        click.option("--on-bad-key", type=click.Choice(["fail", "skip"]), default="fail", show_default=True,
                     help="What to do when the source has names that cannot be files."),
        click.option("--verify", is_flag=True,
                     help="Hash the files that are there again instead of believing their times."),
        click.option("--ref", metavar="REF", help="Branch, tag or commit of a git source."),
    ):
        command = option(command)
    return git_options(integrity_options(delete_options(filter_options(speed_options(remote_options(command))))))


@click.command("sync", cls=FilteringCommand)
@click.argument("source", metavar="SRC")
@click.argument("destination", metavar="DST", type=click.Path())
@click.option("--dry-run", is_flag=True, help="Say what would move and go, with -v each name, and change nothing.")
@click.option("--preserve", is_flag=True, help="Give what is fetched the time of change that the source says.")
@click.option("--on-change", type=click.Choice(["fail", "retry"]), default="fail", show_default=True,
              help="When something changes while it is copied: fail, or list again and copy its new state.")
@click.option("--fsync", is_flag=True, help="Done only when all has reached the disk: it is then whole after a crash.")
@request_options
@common
@click.pass_context
def command(ctx: click.Context, /, source: str, destination: str, ref: str | None, **options: Any) -> None:
    """Bring the contents of SRC into the directory DST.

    SRC is s3://BUCKET/PREFIX, s3://BUCKET/KEY?versionId=ID, git+https://HOST/REPO[@REF][#subdir=DIR], git+ssh://,
    git+file:// or file:///DIR.
    A prefix matches only at a slash; a single key becomes a file. What DST holds besides stays, unless --delete.

    A run that was stopped is continued by running it again: what is finished is not fetched again.

    Example: stager sync s3://datasets/mnist/ /scratch/mnist --endpoint-url http://ceph.example:7480
    """
    run_request(ctx, source, destination, ref, options)


def run_request(ctx: click.Context, source: str, destination: str, ref: str | None, options: dict[str, Any]) -> None:
    """Sync as ``options`` say, those of `SyncOptions` among them."""
    if re.match(r"[A-Za-z0-9+]+://", destination):
        raise UsageError("the destination is a directory of this node", where="DST", hint="stager does not upload")
    state: State = ctx.obj
    reference = _with_versions(parse_source(source, ref=ref), options.pop("versions"), frozen=options["frozen"])
    limits, timeouts, retry = limits_of(options)
    chosen = SyncOptions(
        remote=remote_of(options),
        integrity=integrity_of(options),
        git=git_of(options, source=reference),
        pinning=Pinning(frozen=options.pop("frozen"), save_listing=options.pop("save_listing")),
        filter=chosen_filter(ctx, options),
        delete=chosen_deletion(options),
        names=state.json or state.verbosity > 0,
        **options,
    )
    transfer = Transfer(limits=limits, timeouts=timeouts, retry=retry)
    with Renderer(state) as sink:
        run_async(
            _sync(reference, destination, transfer, chosen, sink),
            how_to_continue="run the same command again to continue: finished files are not fetched again",
        )


def _with_versions(ref: SourceRef, wanted: bool, *, frozen: str | None) -> SourceRef:
    if not wanted:
        return ref
    if ref.scheme != "s3" or frozen is not None:
        raise UsageError("is for listing an S3 source", where="--versions", hint="leave it out")
    return replace(ref, pins_versions=True)


async def _sync(ref: SourceRef, destination: str, transfer: Transfer, options: SyncOptions, sink: Sink) -> None:
    async with transfer:
        await sync(ref, destination, transfer=transfer, options=options, sink=sink)
