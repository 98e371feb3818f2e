"""``stager logs JOB``."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import Final

import click

from stager.cli.follow import follow_logs
from stager.cli.job_options import scratch_option
from stager.cli.options import common, run_async
from stager.cli.state import State
from stager.cli.stopping import stoppable
from stager.cli.tell import tell, warn
from stager.cli.text import count, size
from stager.config import Remote
from stager.errors import NotFoundError, UsageError
from stager.host.record import rfc3339
from stager.host.tree_files import TreeFile, open_in_tree
from stager.job.logs import Downloaded, download_log, list_logs, logs_now, open_target
from stager.job.look import look_at_job
from stager.job.store_logs import copy_store_logs, list_store_logs
from stager.model import Counts, DatasetReceipt
from stager.names import show, to_json
from stager.stages.collect_place import is_store
from stager.transfer import Transfer

__all__ = ["command"]

_PIECE_BYTES: Final = 1 << 20


@click.command("logs")
@click.argument("job_id", metavar="JOB")
@click.argument("names", metavar="[FILE]...", nargs=-1)
@click.option("-f", "--follow", is_flag=True, help="Show what is written to them, as tail -f, until the job has ended.")
@click.option("--to", metavar="DIR", type=click.Path(), help="Copy them there, with empty files and sub-folders.")
@click.option("--path", is_flag=True, help="Print the directory that they are in now, as for tensorboard --logdir.")
@scratch_option
@common
@click.pass_obj
def command(
    state: State, /, job_id: str, names: tuple[str, ...], follow: bool, to: str | None, path: bool, scratch: str | None
) -> None:
    """List the files of a job's /logs with their sizes; with FILE (a name below /logs) show what is in it.

    While the job runs, and until its logs are kept elsewhere, they are those in its tree; then those that were kept.
    --follow, --to and FILE are for the named files, or for all.

    Example: stager logs --to ./logs 4711
    """
    if sum((follow, to is not None, path)) > 1:
        raise UsageError("exclude each other", where="--follow, --to, --path", hint="name one of them")
    look = look_at_job(job_id, scratch, os.environ)
    where = logs_now(look)
    if path:
        tell(state, "logs", {"job": job_id, "path": to_json(os.fsencode(where))}, where)
    elif follow:
        follow_logs(state, look, [os.fsencode(name) for name in names])
    elif is_store(where):
        remote = next((keep.remote for keep in look.keeps() if keep.what == "logs"), None)
        _from_store(state, job_id, where, remote, names, to)
    else:
        files = _chosen(list_logs(where), names, job_id)
        if to is not None:
            _download(state, job_id, where, files, to)
        elif names and not state.json:
            for file in files:
                _print(where, file)
        else:
            _list(state, job_id, where, files)


def _chosen(files: Sequence[TreeFile], names: Sequence[str], job_id: str) -> list[TreeFile]:
    """Raises `NotFoundError` with every name that is none of them."""
    if not names:
        return list(files)
    known = {file.path: file for file in files}
    asked = [os.fsencode(name) for name in names]
    if missing := [show(name) for name in asked if name not in known]:
        hint = f"`stager logs {job_id}` lists them"
        raise NotFoundError("no such file in the logs", where=", ".join(missing), hint=hint)
    return [known[name] for name in asked]


def _list(state: State, job_id: str, where: str, files: Sequence[TreeFile]) -> None:
    for file in files:
        body = {"job": job_id, "path": to_json(file.path), "kind": file.kind, "bytes": file.size,
                "mtime": rfc3339(file.mtime_ns / 1e9)}  # fmt: skip
        what = {"file": size(file.size), "link": "link", "other": "not a file"}[file.kind]
        target = f" -> {show(file.target)}" if file.kind == "link" else ""
        tell(state, "log", body, f"{what:>10}  {rfc3339(file.mtime_ns / 1e9)}  {show(file.path)}{target}")
    if not files and not state.json:
        tell(state, "logs", {}, f"nothing in {where}", err=True)


def _print(where: str, file: TreeFile) -> None:
    """As it is: a terminal gets what the job wrote for it."""
    fd = open_in_tree(where, file.path)
    try:
        while piece := os.read(fd, _PIECE_BYTES):
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    finally:
        os.close(fd)


def _from_store(
    state: State, job_id: str, place: str, remote: Remote | None, names: tuple[str, ...], to: str | None
) -> None:
    async def work() -> tuple[list[TreeFile], DatasetReceipt | None]:
        async with Transfer() as transfer:
            files = _chosen(await list_store_logs(place, remote, transfer=transfer), names, job_id)
            if to is None or not files:
                return files, None
            paths = [file.path for file in files] if names else []
            return files, await copy_store_logs(place, remote, to, paths=paths, transfer=transfer)

    if to is None and names and not state.json:
        with tempfile.TemporaryDirectory(prefix="stager-logs-") as directory:
            _from_store(State(quiet=True), job_id, place, remote, names, directory)
            for name in names:
                _print(directory, TreeFile(path=os.fsencode(name), kind="file"))
        return
    files, receipt = run_async(work(), how_to_continue="run the same command again")
    if to is None:
        _list(state, job_id, place, files)
        return
    for file in files if state.json else ():
        tell(state, "copied", {"job": job_id, "path": to_json(file.path), "bytes": file.size}, "")
    if not state.json:
        total = receipt.total if receipt is not None else Counts()
        amount = f"{count(total.objects, 'file')}, {size(total.bytes)}"
        tell(state, "copied", {}, f"{amount} of the logs of job {job_id} copied to {to}")


def _download(state: State, job_id: str, where: str, files: Sequence[TreeFile], to: str) -> None:
    def download(stopped: Callable[[], bool]) -> list[tuple[TreeFile, Downloaded | None]]:
        target_fd = open_target(to)
        try:
            return [(file, download_log(where, file, target_fd, to, stopped=stopped)) for file in files]
        finally:
            os.close(target_fd)

    copied = run_async(stoppable(download), how_to_continue="run the same command again")
    done = [one for _, one in copied if one is not None]
    for one in done:
        body = {"job": job_id, "path": to_json(one.path), "bytes": one.bytes, "sha256": one.sha256 or None}
        if state.json or state.verbosity:
            tell(state, "copied", body, f"{one.sha256 or 'link':64}  {show(one.path)}")
    for file, result in copied:
        if result is None:
            warn(state, f"not copied: {show(file.path)}: neither a file nor a link that stays within the copy")
    if not state.json:
        amount = f"{count(len(done), 'file')}, {size(sum(one.bytes for one in done))}"
        tell(state, "copied", {}, f"{amount} of the logs of job {job_id} copied to {to}")
