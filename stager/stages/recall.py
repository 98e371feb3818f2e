"""What earlier runs recorded about a destination: its manifest, and the journal of a run that was killed."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Final

from stager.errors import from_os_error
from stager.host.atomic import open_regular
from stager.host.journal import JOURNAL_NAME, read_journal
from stager.manifest import MANIFEST_MAX_BYTES, MANIFEST_NAME, DamagedManifestError, Entry, Header, decode

__all__ = ["NOTHING_RECORDED", "Recalled", "Recorded", "read_manifest", "recall"]


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """A manifest as it was read; without a header when there is none. ``damage``: why it is not believed."""

    header: Header | None = None
    entries: dict[bytes, Entry] = field(default_factory=dict)
    damage: str = ""


NOTHING_RECORDED: Final = Recorded()


@dataclass(frozen=True, kw_only=True)
class Recalled:
    """Entries by path, told apart by whether they were recorded in this boot.

    ``manifest_entries``: how many a manifest of this source and boot holds when nothing is recorded beside it, so
    that it need not be written again if all of them stand; else None. ``warnings``: for people.
    """

    this_boot: dict[bytes, Entry]
    other_boot: dict[bytes, Entry]
    manifest_entries: int | None
    warnings: tuple[str, ...]


def read_manifest(state_fd: int | None) -> Recorded:
    """The manifest there (``state_fd`` None: nothing is). A damaged one is as good as none. Blocks. `HostError`."""
    if state_fd is None:
        return NOTHING_RECORDED
    try:
        with open(open_regular(MANIFEST_NAME, os.O_RDONLY, dir_fd=state_fd), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > MANIFEST_MAX_BYTES:
                return Recorded(damage="larger than any manifest")
            if size and os.pread(file.fileno(), 1, size - 1) != b"\n":  # the rest of it may be gigabytes
                return Recorded(damage="the last line is cut")
            data = file.read(size)
    except FileNotFoundError:
        return NOTHING_RECORDED
    except OSError as error:
        raise from_os_error(error, doing="read the manifest", where=MANIFEST_NAME) from error
    try:
        header, entries = decode(data)
    except DamagedManifestError as error:
        return Recorded(damage=str(error))
    return Recorded(header=header, entries=entries)


def recall(state_fd: int | None, manifest: Recorded, *, source: str, boot: str) -> Recalled:
    """What of the manifest and the journal counts for ``source``; records of another one mean nothing here. Blocks.

    Raises `HostError`.
    """
    if state_fd is None:
        return Recalled(this_boot={}, other_boot={}, manifest_entries=None, warnings=())
    recorded, recorded_in, warnings = _as_of(manifest, source)
    journaled_in, journaled = read_journal(state_fd, JOURNAL_NAME, source=source)
    this_boot: dict[bytes, Entry] = {}
    other_boot: dict[bytes, Entry] = {}
    for entries, written_in in ((recorded, recorded_in), (journaled, journaled_in)):
        mine, other = (this_boot, other_boot) if boot and written_in == boot else (other_boot, this_boot)
        for path in entries.keys() & other.keys():
            del other[path]
        mine.update(entries)
    holds = bool(boot) and recorded_in == boot and not journaled
    return Recalled(
        this_boot=this_boot,
        other_boot=other_boot,
        manifest_entries=len(recorded) if holds else None,
        warnings=warnings,
    )


def _as_of(manifest: Recorded, source: str) -> tuple[dict[bytes, Entry], str, tuple[str, ...]]:
    if manifest.damage:
        return {}, "", (f"the manifest is damaged ({manifest.damage}): everything is fetched and compared again",)
    if manifest.header is None:
        return {}, "", ()
    if manifest.header.source != source:
        return {}, "", ("the destination was filled from another source: everything is fetched again",)
    return manifest.entries, manifest.header.boot, ()
