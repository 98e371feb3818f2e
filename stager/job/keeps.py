"""What is kept of a job, and where: claimed before anything is moved, brought there at its end, or while it runs.

``keeps.json`` beside the record says it to whoever comes after a crash, with other credentials perhaps: it holds none.
"""

from __future__ import annotations

import importlib
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from stager.config import Remote
from stager.errors import HostError, UsageError
from stager.filters import EVERYTHING, Filter
from stager.host.expressions import wanted_by
from stager.host.inputs_file import read_inputs
from stager.host.leaves import Identity, Leaf
from stager.host.record import JobDirectory, Record
from stager.job.resources import TASK_BELOW
from stager.model import Counts, JobSpec, JobState
from stager.stages.collect import Collected, Pick, collect_tree, everything, files_only, holds_anything
from stager.stages.collect_changed import ChangedInputs, written
from stager.stages.collect_directory import DirectorySink
from stager.stages.collect_place import count_own_parts, is_store, persist_path, refuse_own_places
from stager.stages.collect_sink import Sink, Tally

__all__ = [
    "KEEPS",
    "Keep",
    "ask_place",
    "claim_keeps",
    "collect_keep",
    "drain_logs",
    "keeps_in",
    "keeps_of",
    "places_of",
    "release_keeps",
    "snapshot_of",
    "snapshot_results",
    "would_be_kept",
    "written_results",
]

KEEPS: Final = "keeps.json"
"""In a job's directory."""

_PLACES_TRIED: Final = 1000
_STORE: Final = "stager.stages.collect_s3"  # with aiobotocore, which takes longer to import than all the rest


class Keep(Struct, frozen=True, kw_only=True):
    """One tree, its place, and what of it is wanted.

    ``every_s``: how often logs are drained, or results copied, while the job runs (0: not).
    """

    what: Literal["logs", "results"]
    place: str
    own_parts: int
    remote: Remote | None = None
    filter: Filter = EVERYTHING
    whitelist: str = ""
    blacklist: str = ""
    every_s: float = 0.0

    @property
    def below(self) -> str:
        """Where in the job's tree."""
        return TASK_BELOW if self.what == "results" else "logs"


class _Keeps(Struct, kw_only=True):
    keeps: list[Keep] = []


def _wanted(spec: JobSpec, remote: Remote | None) -> list[Keep]:
    """What the job file asks for, templates in the place of places."""
    keeps = []
    logs, results = spec.logs, spec.results
    if logs.persist is not None:
        keeps.append(
            Keep(what="logs", place=logs.persist, own_parts=count_own_parts(logs.persist),
                 remote=_kept(logs.remote or remote, logs.persist), every_s=logs.drain_s)
        )  # fmt: skip
    if results.persist is not None:
        keeps.append(
            Keep(what="results", place=results.persist, own_parts=count_own_parts(results.persist),
                 remote=_kept(results.remote or remote, results.persist), filter=results.filter,
                 whitelist=results.whitelist, blacklist=results.blacklist, every_s=results.snapshot_s)
        )  # fmt: skip
    return keeps


def _kept(remote: Remote | None, place: str) -> Remote | None:
    """What may be written down of it: a proxy may have a password in it, and is found in the environment too."""
    if remote is None or not is_store(place):
        return None
    return replace(remote, proxy=None) if "@" in (remote.proxy or "") else remote


def places_of(
    spec: JobSpec, *, job_id: str, environ: Mapping[str, str], tops: Iterable[str]
) -> list[str]:
    """Where this job's things would go. Raises `UsageError`: no place, or it lies in ``tops``, stager's own. Blocks."""
    tops = tuple(tops)
    places = [_place(keep, job_id, spec.name, environ, 0) for keep in _wanted(spec, None)]
    for place in places:
        refuse_own_places(place, tops)
    return places


def would_be_kept(spec: JobSpec, remote: Remote | None, environ: Mapping[str, str]) -> list[Keep]:
    """For a job with the id JOB. Raises `UsageError`: no place."""
    return [
        replace(keep, place=_place(keep, "JOB", spec.name, environ, 0)) for keep in _wanted(spec, remote)
    ]  # fmt: skip


def ask_place(keep: Keep, within_s: float) -> None:
    """Raise why this user could bring nothing there: see `Sink.ask`. Blocks."""
    with closing(_open_sink(keep)) as sink:
        sink.ask(within_s)


def _place(keep: Keep, job_id: str, name: str, environ: Mapping[str, str], restart: int) -> str:
    return persist_path(keep.place, job_id=job_id, job_name=name, environ=environ, restart=restart)


def claim_keeps(job: JobDirectory, spec: JobSpec, remote: Remote | None, environ: Mapping[str, str]) -> None:
    """Make the places this job's own, all with the same count of restarts, and note them.

    ``remote``: how S3 is reached where the job file names no remote. Blocks. Raises `HostError`, `NoSpaceError`,
    `SourceError`.
    """
    wanted, record = _wanted(spec, remote), job.record
    if not wanted:
        return
    for restart in range(record.restart, record.restart + _PLACES_TRIED):
        keeps = [
            replace(keep, place=_place(keep, record.id, record.name, environ, restart)) for keep in wanted
        ]  # fmt: skip
        if _claim_all(keeps, record.claim):
            job.write_json(KEEPS, msgspec.to_builtins(_Keeps(keeps=keeps)))
            logs = next((keep for keep in keeps if keep.what == "logs"), None)
            job.keep_logs_in(
                logs.place if logs else None, own_parts=logs.own_parts if logs else 1, restart=restart
            )  # fmt: skip
            return
    what = " and ".join(keep.what for keep in wanted)
    raise HostError(
        f"every place for the {what} of this job is taken", where=wanted[0].place,
        hint=f"choose another in [{wanted[0].what}]",
    )  # fmt: skip


def _claim_all(keeps: Sequence[Keep], token: str) -> bool:
    claimed: list[Keep] = []
    try:
        for keep in keeps:
            with closing(_open_sink(keep)) as sink:
                if not sink.claim(token):
                    break
            claimed.append(keep)
    except BaseException:
        _release(claimed, token)
        raise
    if len(claimed) < len(keeps):
        _release(claimed, token)
        return False
    return True


def _release(keeps: Iterable[Keep], token: str) -> None:
    for keep in keeps:
        with closing(_open_sink(keep)) as sink:
            sink.release(token)


def release_keeps(job: JobDirectory) -> None:
    """Remove the marks of places that nothing was kept in. Blocks; never raises."""
    with suppress(HostError):
        _release(keeps_of(job), job.record.claim)


def keeps_of(job: JobDirectory) -> tuple[Keep, ...]:
    """What is to be kept of it. Raises `HostError`. Blocks."""
    return keeps_in(job.read_json(KEEPS), job.record, job.path)


def keeps_in(body: Mapping[str, Any], record: Record, path: str) -> tuple[Keep, ...]:
    """The same from the content of `KEEPS` in the job's directory ``path``. Raises `HostError`."""
    try:
        found = msgspec.convert(body, _Keeps)
    except msgspec.ValidationError as error:
        raise HostError(f"is damaged: {error}", where=f"{path}/{KEEPS}") from error
    if not found.keeps and record.persist is not None:  # of a stager that kept only logs
        return (Keep(what="logs", place=record.persist, own_parts=record.own_parts),)
    return tuple(found.keeps)


def _open_sink(keep: Keep) -> Sink:
    if not is_store(keep.place):
        return DirectorySink(keep.place, keep.own_parts)
    store: Any = importlib.import_module(_STORE)
    sink: Sink = store.S3Sink(keep.place, keep.own_parts, keep.remote or Remote())
    return sink


def collect_keep(
    job: JobDirectory,
    keep: Keep,
    *,
    trusted: bool,
    stopped: Callable[[], bool] = lambda: False,
    deadline_s: float | None = None,
) -> Collected:
    """Bring it to its place after the job's end, receipt and all. Idempotent. Blocks. Raises as `collect_tree`.

    ``trusted``: the node was not restarted since the job began, so what is at its place has not lost data.
    ``deadline_s``: when there is no more time, on the monotonic clock.
    """
    record = job.record
    with closing(_open_sink(keep)) as sink:
        tree = os.path.join(job.tree, keep.below)
        if keep.what == "logs" and not holds_anything(tree):
            sink.release(record.claim)
            return Collected(what=keep.what, destination=keep.place, total=Counts())
        tally = Tally(what=keep.what, stopped=stopped, deadline_s=deadline_s, trusted=trusted)
        return _collect(job, keep, sink, record.claim, tally)


def _collect(job: JobDirectory, keep: Keep, sink: Sink, token: str, tally: Tally) -> Collected:
    changes = ChangedInputs()
    pick = everything if keep.what == "logs" else _results(job, keep, changes)
    receipt = _receipt(job, changes)
    tree = os.path.join(job.tree, keep.below)
    found = collect_tree(tree, sink, token=token, tally=tally, pick=pick, receipt=receipt)
    return replace(found, inputs=changes.told())


def _receipt(job: JobDirectory, changes: ChangedInputs) -> Callable[[], dict[str, Any]]:
    def told() -> dict[str, Any]:
        record = job.record
        return {
            "job": record.id, "name": record.name, "restart": record.restart, "exit_code": record.exit_code,
            "inputs": changes.told(),
        }  # fmt: skip

    return told


def _results(job: JobDirectory, keep: Keep, changes: ChangedInputs) -> Pick:
    """What the job wrote or changed, and the job file wants."""

    def pick(leaves: Iterator[Leaf], tally: Tally) -> Iterable[Leaf]:
        wants = keep.filter.wants_name()
        found = []
        for leaf in _written(job, leaves, changes):
            if wants(leaf.path):
                found.append(leaf)
            else:
                tally.unwanted += Counts(objects=1, bytes=leaf.size)
        if not keep.whitelist and not keep.blacklist:
            return found
        verdicts = wanted_by(keep.whitelist, keep.blacklist, [leaf.path for leaf in found])
        for leaf, wanted in zip(found, verdicts, strict=True):
            tally.unwanted += Counts() if wanted else Counts(objects=1, bytes=leaf.size)
        return [leaf for leaf, wanted in zip(found, verdicts, strict=True) if wanted]

    return pick


def _written(job: JobDirectory, leaves: Iterable[Leaf], changes: ChangedInputs) -> Iterator[Leaf]:
    state = os.path.join(job.state_dir, TASK_BELOW)
    try:
        state_fd = os.open(state, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:  # no resources
        yield from files_only(leaves)
        return
    try:
        yield from written(files_only(leaves), read_inputs(state_fd), changes)
    finally:
        os.close(state_fd)


def written_results(job: JobDirectory, leaves: Iterable[Leaf]) -> Iterator[Leaf]:
    """Those of TASK_PATH that the job wrote or changed. Blocks. Raises `HostError`, OSError."""
    return _written(job, leaves, ChangedInputs())


def drain_logs(
    job: JobDirectory, keep: Keep, known: dict[bytes, Identity], *, stopped: Callable[[], bool] = lambda: False
) -> Collected:
    """Bring what there is of the logs of a job that runs; its end brings the rest. Blocks. Raises as `collect_tree`.

    ``known``: what earlier calls have brought and has not changed since is not looked at again; this one adds to it.
    """
    seen: dict[bytes, Identity] = {}

    def pick(leaves: Iterator[Leaf], _tally: Tally) -> Iterator[Leaf]:
        for leaf in leaves:
            if known.get(leaf.path) != leaf.identity:
                seen[leaf.path] = leaf.identity
                yield leaf

    with closing(_open_sink(keep)) as sink:
        tally = Tally(what=keep.what, stopped=stopped, running=True)
        found = collect_tree(
            os.path.join(job.tree, keep.below), sink, token=job.record.claim, tally=tally, pick=pick, receipt=None
        )
    known.update(seen)
    return found


def snapshot_results(job: JobDirectory, keep: Keep, *, stopped: Callable[[], bool] = lambda: False) -> Collected:
    """A copy of the results so far, of a job that runs perhaps, in a place of its own: PLACE.snapshot-N. Blocks.

    It is whole when its receipt is there; nobody sees any of it in the place of the results. A file that the job writes
    to at that moment is as it is found. Raises as `collect_tree`.
    """
    for number in range(1, _PLACES_TRIED):
        token = f"{job.record.claim} snapshot {number} {secrets.token_hex(8)}"
        one = replace(keep, place=f"{keep.place}.snapshot-{number}")
        with closing(_open_sink(one)) as sink:
            if not sink.claim(token):
                continue
            return _collect(job, one, sink, token, Tally(what="results", stopped=stopped, running=True))
    raise UsageError(f"there are {_PLACES_TRIED} snapshots", where=keep.place, hint="remove some")


def snapshot_of(job: JobDirectory, *, stopped: Callable[[], bool] = lambda: False) -> Collected:
    """The same for whoever asks. Raises `UsageError` too: the job names no place for results, or does not run."""
    keep = next((keep for keep in keeps_of(job) if keep.what == "results"), None)
    if keep is None:
        raise UsageError("names no place for results", where=f"job {job.record.id}", hint="write [results] persist")
    if job.record.state is not JobState.RUNNING:
        raise UsageError(f"is {job.record.shown_state()}, it does not run", where=f"job {job.record.id}",
                         hint="`stager collect` without --snapshot brings its results")  # fmt: skip
    return snapshot_results(job, keep, stopped=stopped)
