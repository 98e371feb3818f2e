"""The job file: JOB.toml, or the same from command-line options, to a `JobSpec`.

All mistakes are found at once, each with its place. The file is hostile input: it is opened without waiting (a FIFO
does not hang), must be a regular file of at most 1 MiB, and nothing in it is expanded or run.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from msgspec.structs import replace

from stager.config import Remote
from stager.errors import SpecError, UsageError
from stager.model import (
    DATASET_NAME,
    JOB_NAME,
    PUBLIC_NAME,
    CodeSpec,
    DatasetSpec,
    JobSpec,
    Profile,
    PublicSpec,
    SourceRef,
)
from stager.stages.spec_bind import mounted_of
from stager.stages.spec_choices import Choices, check_choices
from stager.stages.spec_copied import check_remote, chosen_dataset, copied_of
from stager.stages.spec_distributed import distributed_of, instances_of
from stager.stages.spec_file import decode, lines_of, one_line, read_file
from stager.stages.spec_git import git_of
from stager.stages.spec_image import container_of
from stager.stages.spec_kept import logs_of, persist_of, refuse_same_place, results_of
from stager.stages.spec_limit import limit_of
from stager.stages.spec_place import place_of
from stager.stages.spec_remotes import read_remotes
from stager.stages.spec_schema import (
    TABLES,
    CodeTable,
    DatasetTable,
    JobTable,
    Problems,
    PublicTable,
    SourceTable,
    ViewTable,
    convert_table,
    find_unknown,
    shown,
)
from stager.stages.spec_tmp import tmp_of
from stager.urls import parse_source
from stager.variables import is_own

__all__ = ["load_spec", "parse_spec", "read_spec", "with_options"]

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LATER = "not available in this version"
_NO_CHOICES: Final = Choices()


def load_spec(path: str) -> JobSpec:
    """Read and check a job file.

    Raises `SpecError` with every problem; `HostError` when the file cannot be read.
    """
    data = read_file(path)
    return parse_spec(data, where=path, base=os.path.dirname(os.path.abspath(path)))


def parse_spec(data: bytes, *, where: str, base: str) -> JobSpec:
    """Check a job file's bytes. ``base``: the directory that relative paths in it are meant from.

    Raises `SpecError` with every problem.
    """
    spec, mistakes = read_spec(data, where=where, base=base)
    if mistakes is not None or spec is None:
        raise mistakes or SpecError("says nothing", [], where=where)
    return spec


def read_spec(data: bytes, *, where: str, base: str) -> tuple[JobSpec | None, SpecError | None]:
    """What of a job file's bytes can be understood, and every problem with the rest. Raises `SpecError`: no TOML."""
    table = decode(data, where)
    problems = Problems(lines=lines_of(data.decode()))
    spec = _build(table, base, problems)
    return spec, _mistakes(problems, where) if problems.found else None


def with_options(
    spec: JobSpec,
    *,
    data: Sequence[str] = (),
    public: Sequence[str] = (),
    code: str | None = None,
    logs: str | None = None,
    choices: Choices = _NO_CHOICES,
    mistakes: Sequence[str] = (),
    base: str,
) -> JobSpec:
    """``spec`` with what the command line adds: ``--data OWNER/NAME=SRC``, ``--public NAME=PATH``, ``--code SRC``,
    ``--logs DIR``; relative paths are meant from ``base``. ``choices`` are for all ``data``; ``mistakes``: what is
    known to be wrong already. Raises `SpecError` with every problem.
    """
    problems = Problems(found=list(mistakes))
    if not JOB_NAME.fullmatch(spec.name):
        problems.add("--name", f"{shown(spec.name)} is no job name: letters, digits, '.', '_' and '-', at most 128")
    datasets = list(spec.datasets)
    for text in data:
        name, source = _pair("--data", text, problems)
        ref = _source("--data", source, None, problems) if source else None
        if name and not DATASET_NAME.fullmatch(name):
            problems.add("--data", f"{shown(name)} is not OWNER/NAME")
        elif ref is not None:
            datasets.append(chosen_dataset(name, ref, choices, base))
            check_choices(choices, ref, partial(_option_of, name), problems)
    publics = list(spec.public)
    for text in public:
        name, path = _pair("--public", text, problems)
        found = _public("--public", name, path, problems) if path else None
        if found is not None:
            publics.append(found)
    code_spec = spec.code
    if code is not None:
        if code_spec is not None:
            problems.add("--code", "the job file has [code] already")
        code_ref = _code_source("--code", code, None, base, problems)
        code_spec = CodeSpec(source=code_ref) if code_ref else None
    logs_spec = spec.logs if logs is None else replace(spec.logs, persist=persist_of("--logs", logs, base, problems))
    refuse_same_place(logs_spec, spec.results, problems)
    _find_duplicates("--data", [d.name for d in datasets], problems)
    _find_duplicates("--public", [p.name for p in publics], problems)
    if problems.found:
        raise _mistakes(problems, "")
    return replace(spec, datasets=tuple(datasets), public=tuple(publics), code=code_spec, logs=logs_spec)


def _mistakes(problems: Problems, where: str) -> SpecError:
    count = len(problems.found)
    return SpecError(
        f"{count} mistake{'s' if count > 1 else ''} in the job {'file' if where else 'options'}",
        problems.found,
        where=where,
    )


def _build(table: dict[str, Any], base: str, problems: Problems) -> JobSpec | None:
    find_unknown("", table, TABLES, problems)
    _check_version(table, problems)
    remotes = read_remotes(table.get("s3", {}), problems)
    datasets = _datasets(table.get("dataset", []), remotes, base, problems)
    public = _publics(table.get("public", []), problems)
    resources = _resources(table.get("resource", []), remotes, base, problems)
    code = _code(table, base, problems)
    logs = logs_of(table, base, remotes, problems)
    results = results_of(table, base, remotes, problems)
    refuse_same_place(logs, results, problems)
    distributed = distributed_of(table, problems)
    profile = _profile(table, problems)
    tmp = tmp_of(table, problems)
    if "job" not in table:
        problems.add("job", "is missing; write [job] with a name")
        return None
    job = convert_table("job", table["job"], JobTable, problems)
    if job is None:
        return None
    if not JOB_NAME.fullmatch(job.name):
        problems.add("job.name", f"{shown(job.name)}: letters, digits, '.', '_' and '-', at most 128")
    return JobSpec(
        name=job.name,
        command=_command(job.command, problems),
        workdir=_workdir(job.workdir, problems),
        code=code,
        datasets=datasets,
        public=public,
        resources=resources,
        logs=logs,
        results=results,
        environment=_environment(job.environment, problems),
        pass_credentials=job.pass_credentials,
        tmp=tmp,
        instances=instances_of(job.instances, problems),
        distributed=distributed,
        clusterone_shim=job.clusterone_shim,
        container=container_of(job.image, job.entrypoint, problems),
        limit=limit_of(job.time_limit, job.grace, problems),
        profile=profile,
    )


def _check_version(table: Mapping[str, Any], problems: Problems) -> None:
    version = table.get("version")
    if version is None:
        problems.add("version", "is missing; write version = 1")
    elif type(version) is not int or version != 1:
        problems.add("version", f"{shown(str(version))} is not known; this stager reads version 1")


def _profile(table: Mapping[str, Any], problems: Problems) -> Profile:
    view = convert_table("view", table["view"], ViewTable, problems) if "view" in table else None
    return view.profile if view is not None else "host"


def _tables(place: str, given: object, problems: Problems) -> list[tuple[str, object]]:
    if not isinstance(given, list):
        problems.add(place, f"must be a list of tables; write [[{place}]]")
        return []
    return [(f"{place}[{number}]", table) for number, table in enumerate(given, 1)]


def _datasets(
    given: object, remotes: Mapping[str, Remote], base: str, problems: Problems
) -> tuple[DatasetSpec, ...]:
    names: list[str] = []
    specs: list[DatasetSpec] = []
    for place, table in _tables("dataset", given, problems):
        found = convert_table(place, table, DatasetTable, problems)
        if found is None:
            continue
        if not DATASET_NAME.fullmatch(found.name):
            problems.add(f"{place}.name", f"{shown(found.name)} is not OWNER/NAME (letters, digits, '.', '_', '-')")
        names.append(found.name)
        check_remote(place, found.remote, remotes, problems)
        source = _source(f"{place}.source", found.source, found.ref, problems)
        if source is None:
            continue
        dataset = copied_of(place, found.name, found, source, remotes=remotes, base=base, problems=problems)
        dataset = replace(dataset, mounted=mounted_of(place, found, source, problems))
        specs.append(replace(dataset, access=found.access, place=place_of(place, found, source, problems)))
    _find_duplicates("dataset", names, problems)
    return tuple(specs)


def _resources(
    given: object, remotes: Mapping[str, Remote], base: str, problems: Problems
) -> tuple[DatasetSpec, ...]:
    specs: list[DatasetSpec] = []
    for place, table in _tables("resource", given, problems):
        found = convert_table(place, table, SourceTable, problems)
        if found is None:
            continue
        check_remote(place, found.remote, remotes, problems)
        source = _source(f"{place}.source", found.source, found.ref, problems)
        if source is None:
            continue
        if source.is_mounted:
            problems.add(f"{place}.source", "a resource is copied: write file:// for a directory of this host")
        if found.history:
            what = "is for [code] and [[dataset]]: resources are put together in one directory"
            problems.add(f"{place}.history", what)
        specs.append(copied_of(place, place, found, source, remotes=remotes, base=base, problems=problems))
    return tuple(specs)


def _option_of(dataset: str, choice: str) -> str:
    return f"--{choice.replace('_', '-')} for {dataset}" if choice else f"--data {dataset}"


def _publics(given: object, problems: Problems) -> tuple[PublicSpec, ...]:
    names: list[str] = []
    specs: list[PublicSpec] = []
    for place, table in _tables("public", given, problems):
        found = convert_table(place, table, PublicTable, problems)
        if found is None:
            continue
        names.append(found.name)
        spec = _public(place, found.name, found.source, problems)
        if spec is not None:
            specs.append(spec)
    _find_duplicates("public", names, problems)
    return tuple(specs)


def _public(place: str, name: str, path: str, problems: Problems) -> PublicSpec | None:
    before = len(problems.found)
    plain = "/" + os.path.normpath(path).lstrip("/")
    if not PUBLIC_NAME.fullmatch(name):
        problems.add(f"{place}.name", f"{shown(name)}: letters, digits, '.', '_' and '-', not starting with '.'")
    if not path.startswith("/") or "\0" in path or plain == "/":
        problems.add(f"{place}.source", f"{shown(path)} is not the absolute path of a directory on this host")
    return PublicSpec(name=name, source=plain) if len(problems.found) == before else None


def _code(table: Mapping[str, Any], base: str, problems: Problems) -> CodeSpec | None:
    if "code" not in table:
        return None
    found = convert_table("code", table["code"], CodeTable, problems)
    source = _code_source("code.source", found.source, found.ref, base, problems) if found else None
    return CodeSpec(source=source, git=git_of("code", found, source, problems)) if found and source else None


def _code_source(place: str, text: str, ref: str | None, base: str, problems: Problems) -> SourceRef | None:
    """Code comes from git or a directory; a plain path is a directory, relative to the job file."""
    if re.match(r"[a-z0-9+]+:", text):
        source = _source(place, text, ref, problems)
        if source is not None and source.scheme not in ("git", "file"):
            problems.add(place, "code comes from git or a directory")
            return None
        return source
    if ref is not None:
        problems.add(place, "ref is for git sources")
    if not _is_path(text):
        problems.add(place, f"{shown(text)} is no path")
        return None
    path = os.path.normpath(os.path.join(base, text))
    return SourceRef(scheme="file", location=path, text=f"file://{path}")


def _source(place: str, text: str, ref: str | None, problems: Problems) -> SourceRef | None:
    if text.startswith(("gs:", "http:", "https:")):
        problems.add(place, f"{text.partition(':')[0]}:// sources are {_LATER}")
        return None
    try:
        return parse_source(text, ref=ref)
    except UsageError as error:
        problems.add(place, one_line(str(error)))
        return None


def _command(given: Sequence[str] | str, problems: Problems) -> tuple[str, ...]:
    try:
        words = tuple(shlex.split(given) if isinstance(given, str) else given)
    except ValueError as error:
        problems.add("job.command", f"cannot be split into words: {str(error).lower()}")
        return ()
    if given and (not words or not words[0]):
        problems.add("job.command", "names no program")
    if any("\0" in word for word in words):
        problems.add("job.command", "holds a NUL")
    return words


def _workdir(given: str | None, problems: Problems) -> str | None:
    if given is not None and (not given.startswith("/") or "\0" in given or ".." in given.split("/")):
        problems.add("job.workdir", f"{shown(given)} is not an absolute path in the job's view")
    return given


def _environment(given: Mapping[str, str], problems: Problems) -> dict[str, str]:
    for name, value in given.items():
        place = f"job.environment.{name}" if _VARIABLE.fullmatch(name) else "job.environment"
        if not _VARIABLE.fullmatch(name):
            problems.add(place, f"{shown(name)} is no variable's name")
        elif is_own(name):
            problems.add(place, "is set by stager")
        if "\0" in value:
            problems.add(place, "holds a NUL")
    return dict(given)


def _is_path(text: str) -> bool:
    return bool(text) and "\0" not in text


def _pair(option: str, text: str, problems: Problems) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name or not value:
        problems.add(option, f"{shown(text)} is not NAME=SOURCE")
        return "", ""
    return name, value


def _find_duplicates(place: str, names: Iterable[str], problems: Problems) -> None:
    seen: set[str] = set()
    for number, name in enumerate(names, 1):
        if name in seen:
            here = place if place.startswith("--") else f"{place}[{number}].name"
            problems.add(here, f"{shown(name)} is there twice")
        seen.add(name)
