"""A source by its reference: the only place that knows which kinds there are."""

from __future__ import annotations

import importlib
import ipaddress
import json
import os
from collections.abc import Callable
from typing import Final, cast
from urllib.parse import urlsplit

from stager.config import GitOptions, Integrity, Remote
from stager.errors import UsageError
from stager.model import SourceRef
from stager.sources.base import Snapshot, Source
from stager.transfer import Transfer

__all__ = ["open_source", "travels_in_the_open", "what_identities_mean"]

# A scheme's module is imported when a source of it is opened.
# Each class is made with (ref, *, remote: Remote | None, transfer: Transfer) and is a `sources.base.Source`; those of
# _WORKING also with state_dir, a private directory on the destination's disk that is there when they are entered, with
# scratch and with git; those of _CHECKING with integrity.
_SOURCES: Final = {
    "s3": ("stager.sources.s3", "S3Source"),
    "git": ("stager.sources.git", "GitSource"),
    "file": ("stager.sources.local", "LocalSource"),
}
# Of those that are listed over the network, what looks at the source instead; the same in every other way.
_LOOKS: Final = {
    "s3": ("stager.sources.s3_first", "S3First"),
    "git": ("stager.sources.git_first", "GitFirst"),
}
_WORKING: Final = frozenset({"git"})
_CHECKING: Final = frozenset({"s3"})


def open_source(
    ref: SourceRef,
    *,
    remote: Remote | None,
    transfer: Transfer,
    state_dir: str | None = None,
    integrity: Integrity | None = None,
    git: GitOptions | None = None,
    scratch: str | None = None,
    look: bool = False,
) -> Source:
    """The source of a reference that is copied. Raises `UsageError` for one that is not (``bind:``).

    ``state_dir``: where a source may work that needs disk space of its own; None: in the user's scratch. ``scratch``:
    where it keeps what it fetched for others; None: as a sync does. ``look``: what it lists is only as much as proves
    that it can be listed.
    """
    if ref.scheme not in _SOURCES:
        raise UsageError("this kind of source is not copied", where=ref.text, hint="use it in a job, as a bind")
    module, name = _LOOKS.get(ref.scheme, _SOURCES[ref.scheme]) if look else _SOURCES[ref.scheme]
    make = cast("Callable[..., Source]", getattr(importlib.import_module(module), name))
    if ref.scheme in _WORKING:
        return make(
            ref, remote=remote, transfer=transfer, state_dir=state_dir, scratch=scratch, git=git or GitOptions()
        )
    if ref.scheme in _CHECKING:
        return make(ref, remote=remote, transfer=transfer, integrity=integrity or Integrity())
    return make(ref, remote=remote, transfer=transfer)


def what_identities_mean(ref: SourceRef, snapshot: Snapshot) -> str:
    """Recorded identities say something only under the same text. The commit is not in it: blob ids are its own."""
    location, prefix = ref.location, os.fsencode(ref.location.partition("/")[2])
    if ref.scheme == "s3" and prefix and snapshot.folder == prefix + b"/":  # s3://b/p is s3://b/p/ where it is no key
        location += "/"
    return json.dumps([ref.scheme, location, ref.subdir or "", snapshot.pinned.get("endpoint", "")])


def travels_in_the_open(endpoint: str) -> bool:
    """Whether data of an endpoint crosses a network as plain http, where anyone on the way may change it."""
    parts = urlsplit(endpoint)
    if parts.scheme != "http" or parts.hostname is None or parts.hostname == "localhost":
        return False
    try:
        return not ipaddress.ip_address(parts.hostname).is_loopback
    except ValueError:
        return True
