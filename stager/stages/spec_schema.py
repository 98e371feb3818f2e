"""The job file's tables as msgspec structs, and the check that finds every mistake of a table, not just the first."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeVar, get_args, get_origin

import msgspec

from stager.model import Profile

__all__ = [
    "TABLES",
    "CodeTable",
    "DatasetTable",
    "GitTable",
    "JobTable",
    "LogsTable",
    "Problems",
    "PublicTable",
    "ResultsTable",
    "S3Table",
    "SourceTable",
    "Table",
    "TmpTable",
    "ViewTable",
    "convert_table",
    "find_unknown",
    "shown",
]

TABLES: Final = (
    "version",
    "job",
    "code",
    "dataset",
    "public",
    "resource",
    "logs",
    "results",
    "tmp",
    "view",
    "s3",
    "distributed",
)

class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the job file; a field is a key."""


class JobTable(Table, frozen=True, kw_only=True):
    """``[job]``."""

    name: str
    command: list[str] | str = ()  # type: ignore[assignment]
    workdir: str | None = None
    environment: dict[str, str] = {}
    pass_credentials: bool = False
    instances: int | str | None = None
    clusterone_shim: bool = False
    image: str | None = None
    entrypoint: list[str] | str = ()  # type: ignore[assignment]
    time_limit: str | None = None
    grace: str | None = None


class GitTable(Table, frozen=True, kw_only=True):
    """What a git source has beside its ref."""

    history: bool = False
    paths: list[str] = []
    submodules: bool = False
    lfs: bool = True
    lfs_include: list[str] = []
    lfs_exclude: list[str] = []


class CodeTable(GitTable, frozen=True, kw_only=True):
    """``[code]``."""

    source: str
    ref: str | None = None


class SourceTable(GitTable, frozen=True, kw_only=True):
    """What is copied from a source, whatever becomes of it: one ``[[resource]]`` has no more."""

    source: str
    ref: str | None = None
    remote: str | None = None
    integrity: Literal["light", "standard", "strict"] | None = None
    require_integrity: Literal["A", "B"] | None = None
    frozen: str | None = None
    include: list[str] = []
    exclude: list[str] = []
    files_from: str | None = None
    min_size: str | None = None
    max_size: str | None = None
    newer: str | None = None
    on_archived: Literal["fail", "skip"] = "fail"


class DatasetTable(SourceTable, frozen=True, kw_only=True):
    """One ``[[dataset]]``."""

    name: str
    access: Literal["read-write", "read-only"] = "read-write"
    place: str = "any"
    mounted: str | None = None


class PublicTable(Table, frozen=True, kw_only=True):
    """One ``[[public]]``."""

    name: str
    source: str


class LogsTable(Table, frozen=True, kw_only=True):
    """``[logs]``."""

    persist: str | None = None
    remote: str | None = None
    drain: str | None = None


class ResultsTable(Table, frozen=True, kw_only=True):
    """``[results]``."""

    persist: str | None = None
    remote: str | None = None
    include: list[str] = []
    exclude: list[str] = []
    whitelist: str = ""
    blacklist: str = ""
    snapshot: str | None = None


class TmpTable(Table, frozen=True, kw_only=True):
    """``[tmp]``."""

    ramfs_size: str | None = None
    ramfs_inodes: int | None = None


class ViewTable(Table, frozen=True, kw_only=True):
    """``[view]``."""

    profile: Profile = "host"


class S3Table(Table, frozen=True, kw_only=True):
    """One ``[s3.NAME]``."""

    endpoint_url: str | None = None
    profile: str | None = None
    region: str | None = None
    ca_bundle: str | None = None
    proxy: str | None = None
    addressing_style: str = "auto"
    listing_order: str = "auto"
    sign_requests: bool = True
    verify_ssl: bool = True
    use_dualstack_endpoint: bool | None = None
    use_fips_endpoint: bool | None = None
    request_payer: bool = False
    expected_bucket_owner: str | None = None
    sse_c_key_file: str | None = None


def shown(text: str) -> str:
    """``text`` for a message: quoted, control characters and line ends escaped, at most 80 characters of it."""
    return ascii(text if len(text) <= 80 else f"{text[:77]}...")


@dataclass
class Problems:
    """The mistakes found so far, each with its place; ``lines`` maps a place to its line when known."""

    lines: Mapping[str, int] = field(default_factory=dict)
    found: list[str] = field(default_factory=list)

    def add(self, place: str, message: str) -> None:
        """Record one mistake at a place such as ``dataset[2].source``."""
        nearest = (place, f"{place}[1]", place.rpartition(".")[0])
        line = next((self.lines[near] for near in nearest if near in self.lines), None)
        self.found.append(f"{place} (line {line}): {message}" if line else f"{place}: {message}")


_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")
Struct = TypeVar("Struct", bound=Table)


def find_unknown(place: str, given: Mapping[str, Any], known: tuple[str, ...], problems: Problems) -> None:
    """Record every key of ``given`` that is not in ``known``, with the one that was probably meant."""
    for key in given:
        if key in known:
            continue
        name = key if _PLAIN_KEY.fullmatch(key) else shown(key)
        near = difflib.get_close_matches(key[:64], known, n=1, cutoff=0.6)
        hint = f"; did you mean {near[0]}?" if near else f"; known: {', '.join(known)}"
        problems.add(f"{place}.{name}" if place else name, f"unknown key{hint}")


def convert_table(place: str, given: object, kind: type[Struct], problems: Problems) -> Struct | None:
    """``given`` as a ``kind``; every unknown, missing or wrong key goes to ``problems`` and makes it None."""
    if not isinstance(given, dict):
        problems.add(place, "must be a table")
        return None
    before = len(problems.found)
    fields = msgspec.structs.fields(kind)
    find_unknown(place, given, tuple(f.name for f in fields), problems)
    values: dict[str, Any] = {}
    for f in fields:
        if f.name in given:
            try:
                values[f.name] = msgspec.convert(given[f.name], f.type)
            except msgspec.ValidationError as error:
                message = _plain(str(error))
                if isinstance(given[f.name], str) and (choices := _choices(f.type)):
                    message = f"is {shown(given[f.name])}; write one of {', '.join(choices)}"
                problems.add(f"{place}.{f.name}", message)
        elif f.required:
            problems.add(f"{place}.{f.name}", "is missing")
    return None if len(problems.found) > before else kind(**values)


def _choices(kind: Any) -> list[str]:
    """The values that a `Literal` allows, also where it is one of a union."""
    if get_origin(kind) is Literal:
        return list(get_args(kind))
    return [choice for each in get_args(kind) for choice in _choices(each)]


def _plain(message: str) -> str:
    """What msgspec says, in the words of a job file."""
    message = message.replace("`", "").replace("object", "table").replace(" | null", "")
    message = re.sub(r" - at \$(\S*)$", r" (at \1)", message.replace("$[...]", "$ its values"))
    return message[:1].lower() + message[1:]
