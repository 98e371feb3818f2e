"""The cloud that a site's jobs belong to, and its bucket: ``[cloud]`` of `stager.host.site`.

::

    [cloud]                           # all four, for the variables that jobs written for Anyscale read
    bucket = "acme-training"
    region = "eu-west-1"
    org_id = "org_7abc"
    cloud_id = "cld_x1y2"
    scheme = "s3"                     # or "gs", of a bucket of Google's
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, Literal

from msgspec import Struct

from stager.host.settings_file import read_table, refuse

__all__ = ["CloudSettings", "cloud_in"]

_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")  # those of Google's may have dots and be long
_REGION: Final = re.compile(r"[a-z0-9-]{1,64}")
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_NEEDED: Final = ("bucket", "region", "org_id", "cloud_id")


class CloudSettings(Struct, frozen=True, kw_only=True):
    """``bucket`` "": the site says nothing of a cloud."""

    bucket: str = ""
    region: str = ""
    org_id: str = ""
    cloud_id: str = ""
    scheme: Literal["s3", "gs"] = "s3"

    @property
    def artifact_storage(self) -> str:
        """Where jobs put files of their own; the rest of the bucket is the platform's. "" without a bucket."""
        return f"{self.scheme}://{self.bucket}/{self.org_id}/{self.cloud_id}/artifact_storage/" if self.bucket else ""


def cloud_in(tables: Mapping[str, Any], path: str, what: str) -> CloudSettings:
    """The ``[cloud]`` of a file's tables. Raises `HostError` naming the first key that is missing or not understood."""
    found = read_table(tables, "cloud", _READERS, path=path, what=what)
    for name in _NEEDED if found else ():
        if name not in found:
            raise refuse(path, what, f"cloud.{name}", "is missing")
    return CloudSettings(**found)


def _plain(value: object, pattern: re.Pattern[str], kind: str) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ValueError(f"{kind}, not {value!a}")
    return value


def _scheme(value: object) -> str:
    if value not in ("s3", "gs"):
        raise ValueError(f'"s3" or "gs", not {value!a}')
    return str(value)


_READERS: Final[dict[str, Callable[[object], Any]]] = {
    "bucket": partial(_plain, pattern=_BUCKET, kind="a bucket's name"),
    "region": partial(_plain, pattern=_REGION, kind="a region's name"),
    "org_id": partial(_plain, pattern=_ID, kind="an id of letters, digits, '_' and '-'"),
    "cloud_id": partial(_plain, pattern=_ID, kind="an id of letters, digits, '_' and '-'"),
    "scheme": _scheme,
}
