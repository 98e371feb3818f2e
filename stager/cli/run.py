"""``stager run JOB.toml [-- CMD ...]``."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import click
import msgspec

from stager.cli.advise import Told, advise_at_end, advising, tell_waiting
from stager.cli.figure import Figure
from stager.cli.job_options import JobArguments, job_options, take_job
from stager.cli.options import common, remote_options, run_async, speed_options
from stager.cli.render import Renderer, report_error, write
from stager.cli.state import State
from stager.cli.stopping import stoppable
from stager.cli.tell import (
    refuse_partial,
    tell_collected,
    tell_placement,
    tell_storage,
    warn,
    warn_of_losses,
    warn_of_uncollected,
)
from stager.cli.with_command import COMMAND, WithCommand, own_failure
from stager.errors import InternalError, StagerError, UsageError
from stager.host.atomic import write_file
from stager.host.record import JobDirectory, Record, rfc3339
from stager.host.signals import heard_s
from stager.instances import instance_of
from stager.job.command import command_of
from stager.job.connecting import connected, live_paths
from stager.job.copies import caches_for
from stager.job.end import collect_job, teardown_job
from stager.job.joining import join_launch
from stager.job.keeping_up import keeping_up
from stager.job.node_turn import node_turn
from stager.job.order import open_job, run_job, stage_job
from stager.job.placing import place_job
from stager.job.rank_wait import leading
from stager.launches import Launch, launch_of
from stager.model import Command, ExitInfo, JobState
from stager.scheduler import choose_job_id, scheduler_facts
from stager.stages.environment import refuse_unknown_task
from stager.stages.spec_limit import limit_of
from stager.stages.spec_schema import Problems

__all__ = ["command"]


@dataclass(frozen=True, kw_only=True)
class _How:
    """What becomes of the tree, whether there is a view of it, and who else is to be in that."""

    keep: bool
    plain: bool
    profile: str | None
    time_limit: str | None
    grace: str | None
    keep_within_s: float | None
    launch: Launch | None = None

    @property
    def for_view(self) -> bool:
        """Whether nothing but a view will use the tree."""
        return not (self.keep or self.plain)


@dataclass
class _Outcome:
    """What is known for ``--status-file``, while it happens."""

    job_id: str | None = None
    ended: ExitInfo | None = None

    def how_to_continue(self) -> str:
        """What to do after a signal has ended stager."""
        if self.ended is None:
            return "run the same command again"
        return f"the job itself has ended: `stager collect {self.job_id}` keeps what is missing of its logs and results"


@click.command("run", cls=WithCommand)
@click.argument("jobfile", metavar="[JOB.toml|ID]", required=False, type=click.Path())
@job_options
@click.option("--status-file", metavar="FILE", type=click.Path(), help="Write there how it ended, as JSON.")
@click.option("--view", type=click.Choice(["host", "strict", "none"]),
              help="host: the node, with the job's paths. strict: a system, processes and an environment of its own. "
              "none: the tree and its environment only, where mounts are forbidden. [the job file's, else host]")
@click.option("--time-limit", metavar="DURATION",
              help="End the command after so long, like 90s or 2h30m: exit code 124.")
@click.option("--grace", metavar="DURATION", help="Between SIGTERM and SIGKILL then. [30s]")
@click.option("--keep", is_flag=True, help="Keep the job's tree after the end.")
@click.option("--keep-within", type=Figure(0.0, 86400.0), metavar="SECONDS",
              help="After a SIGTERM while the command ran: so long for logs and results, small and new files first.")
@speed_options
@remote_options
@common
@click.pass_context
def command(
    ctx: click.Context, /, jobfile: str | None, status_file: str | None, view: str | None, keep: bool,
    time_limit: str | None, grace: str | None, **options: Any,
) -> int:  # fmt: skip
    """Stage a job's data, run its command, keep its logs, remove its tree.

    The command sees its data at /data/OWNER/NAME and /public/NAME, its code at /code, and writes to /logs. It is run
    without a shell. Its exit status is passed on; 125 and 75 are stager's own failures (75: worth another try), 126
    and 127 say that the command could not be started.

    What chooses files, and how sure they have to be, is for every --data of the command line, and written before or
    behind all of them; each dataset of a job file says its own.

    Of several --instances that no array tells apart each is run, one after another, as a job ID_INSTANCE.

    Example: stager run --data vision/mnist=s3://datasets/mnist/ -- python train.py
    """
    state: State = ctx.obj
    outcome = _Outcome()
    try:
        how = _How(keep=keep, plain=view == "none", profile=view, time_limit=time_limit, grace=grace,
                   keep_within_s=options.pop("keep_within"))  # fmt: skip
        code = _run(ctx, jobfile, how, status_file, options, outcome)
    except SystemExit as ended:  # by a signal, or by a wrong option
        _write_status(status_file, outcome, None, int(ended.code or 0))
        raise
    except Exception as error:
        code = _exit_code(error, outcome)
        _write_status(status_file, outcome, error, code)
        report_error(error, json=state.json)
        return code
    _write_status(status_file, outcome, None, code)
    return code


def _run(
    ctx: click.Context, jobfile: str | None, how: _How, status_file: str | None, options: dict[str, Any],
    outcome: _Outcome,
) -> int:  # fmt: skip
    argv: tuple[str, ...] = ctx.meta[COMMAND]
    arguments = _adjusted(take_job(ctx, jobfile, dict(options), argv=argv), how)
    argv = argv or arguments.spec.command
    container = arguments.spec.container
    if container.image is not None:
        warn(ctx.obj, f"{container.image} is for `stager plan --emit`: the command runs on this node as it is")
    argv = (*container.entrypoint, *argv)
    if not argv:
        raise UsageError("no command", where="stager run", hint="name one after --, or in the job file")
    facts = scheduler_facts(os.environ)
    outcome.job_id = choose_job_id(arguments.job_id, arguments.spec.name, facts)
    if instance_of(arguments.spec.instances, facts) is None:
        return _run_each(ctx, jobfile, how, status_file, options, outcome, arguments.spec.instances.ids)
    refuse_unknown_task(arguments.spec, facts)
    if arguments.job_id or facts.job_id:  # with an id that each makes for itself, each is a job of its own
        how = replace(how, launch=launch_of(os.environ))
    if how.launch is not None and how.plain:
        raise UsageError(
            "several ranks of a node share a view, and there is none", where="--view none",
            hint="start one on each node, as with `srun --ntasks-per-node=1`",
        )  # fmt: skip
    is_led = how.launch is not None and how.launch.rank > 0
    start = _join if is_led else _connect_and_run
    return run_async(
        start(ctx.obj, arguments, argv, how, outcome),
        how_to_continue=outcome.how_to_continue,
        at_end=lambda code: _write_status(status_file, outcome, None, code),
    )


def _adjusted(arguments: JobArguments, how: _How) -> JobArguments:
    problems = Problems()
    limit = limit_of(how.time_limit, how.grace, problems, known=arguments.spec.limit, prefix="--")
    if problems.found:
        raise UsageError("; ".join(problems.found), where="stager run")
    profile = arguments.spec.profile
    if how.plain and profile == "strict":
        raise UsageError("the job file wants the strict profile", where="--view none", hint="leave one of them out")
    if how.profile in ("host", "strict"):
        profile = "strict" if how.profile == "strict" else "host"
    return replace(arguments, spec=msgspec.structs.replace(arguments.spec, limit=limit, profile=profile))


def _run_each(
    ctx: click.Context, jobfile: str | None, how: _How, status_file: str | None, options: dict[str, Any],
    outcome: _Outcome, ids: Sequence[int],
) -> int:  # fmt: skip
    """All instances, one after another, each a job of its own; one that fails does not keep the others from running.
    The first failure is what is told in the end.
    """
    base, told, code = outcome.job_id, _Outcome(), 0
    for number in ids:
        outcome.ended = None
        one = {**options, "instance": number, "job_id": f"{base}_{number}"}
        status = _run(ctx, jobfile, how, status_file, one, outcome)
        if number == ids[0] or (status and not code):
            told, code = replace(outcome), status
    outcome.job_id, outcome.ended = told.job_id, told.ended
    return code


async def _connect_and_run(
    state: State, arguments: JobArguments, argv: tuple[str, ...], how: _How, outcome: _Outcome
) -> int:
    """Not before its turn has come, where the site counts the jobs of a node, or who has an export."""
    waits = partial(tell_waiting, state)
    async with (
        leading(outcome.job_id or "", how.launch),
        node_turn(waits=waits),
        connected(live_paths(arguments.spec), waits=waits),
    ):
        return await _stage_and_run(state, arguments, argv, how, outcome)


async def _join(
    _: State, arguments: JobArguments, argv: tuple[str, ...], how: _How, outcome: _Outcome
) -> int:
    """As a rank that rank 0 stages for."""
    if how.launch is None or outcome.job_id is None:
        raise InternalError("a rank of no launch")

    def command(record: Record) -> Command:
        return command_of(arguments.spec, record, argv, os.environ)

    outcome.ended = await join_launch(
        outcome.job_id, how.launch, command, arguments.spec.limit, arguments.scratch, os.environ
    )
    return outcome.ended.code


async def _stage_and_run(
    state: State, arguments: JobArguments, argv: tuple[str, ...], how: _How, outcome: _Outcome
) -> int:
    spec, told = arguments.spec, Told()
    if outcome.job_id is None:
        raise InternalError("a job without an id")
    # The command owns stdout; what stager says of the data goes to stderr, and its bar is gone before the command.
    with Renderer(state, out=None if state.json else sys.stderr) as sink, ExitStack() as opened:
        async with arguments.transfer as transfer:
            placement = await place_job(
                spec, outcome.job_id, arguments.scratch, os.environ, transfer=transfer, remote=arguments.remote,
                for_view=how.for_view, cache=arguments.cache,
            )  # fmt: skip
            tell_placement(state, placement)
            job = opened.enter_context(
                await asyncio.to_thread(
                    open_job, spec, outcome.job_id, placement, os.environ, arguments.remote,
                    created=arguments.created,
                    launch=how.launch.token if how.launch else "",
                )
            )
            caches = {}
            if arguments.cache:
                caches = await asyncio.to_thread(caches_for, spec, placement, os.environ, for_view=how.for_view)
            view = await stage_job(
                spec, job, placement, transfer=transfer, remote=arguments.remote,
                save_listing=arguments.save_listing, caches=caches, for_view=how.for_view, sink=sink,
            )  # fmt: skip
            tell_storage(state, job)
        staged = opened.pop_all()
    with staged:
        try:
            async with keeping_up(job, partial(warn, state)), advising(state, view, told):
                outcome.ended = ended = await run_job(spec, job, view, argv, plain=how.plain, launch=how.launch)
            if ended.limited:
                warn(state, f"its time limit of {spec.limit.seconds} s has ended the command")
        finally:
            if job.record.state is JobState.ENDED:
                await stoppable(partial(_finish, state, job, how))
                await asyncio.to_thread(advise_at_end, state, view, told)
    return outcome.ended.code


def _finish(state: State, job: JobDirectory, how: _How, stopped: Callable[[], bool]) -> None:
    """Keep logs and results; then the copies have served. A tree with what is kept nowhere else stays, and is named.

    Whoever sent SIGTERM sends SIGKILL soon: what is most, and what is likeliest to be missed, is safe by then.
    """
    told_s = heard_s(signal.SIGTERM)
    within_s = math.inf if how.keep_within_s is None else how.keep_within_s
    found = collect_job(job, stopped=stopped, deadline_s=None if told_s is None else told_s + within_s)
    for collected in found:
        tell_collected(state, job.record.id, collected, err=True)
    refuse_partial(job.record.id, found)
    if job.record.state is not JobState.PERSISTED:
        warn_of_uncollected(state, job)
    elif not how.keep:
        warn_of_losses(state, job)
        teardown_job(job, discard_uncollected=False)


def _exit_code(error: Exception, outcome: _Outcome) -> int:
    if outcome.ended is not None and outcome.ended.code != 0:
        return outcome.ended.code
    return own_failure(error)


def _write_status(path: str | None, outcome: _Outcome, error: Exception | None, code: int) -> None:
    if path is None:
        return
    body: dict[str, Any] = {"schema": 1, "time": rfc3339(time.time()), "job": outcome.job_id, "exit_code": code}
    if outcome.ended is not None:
        body["command"] = {"status": outcome.ended.status, "signal": outcome.ended.signal}
        if outcome.ended.limited:
            body["command"]["reason"] = "time limit"
    if error is not None:
        told = error if isinstance(error, StagerError) else InternalError(type(error).__name__)
        body["error"] = {
            "class": type(told).__name__, "exit_code": told.exit_code, "retryable": told.retryable, "message": str(told)
        }  # fmt: skip
    directory, name = os.path.split(os.path.abspath(path))
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as problem:
        write(sys.stderr, f"stager: {directory}: no status file written: {problem.strerror}")
        return
    try:
        write_file(fd, name, [msgspec.json.encode(body), b"\n"])
    except StagerError as problem:
        write(sys.stderr, f"stager: no status file written: {problem}")
    finally:
        os.close(fd)
