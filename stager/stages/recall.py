"""What earlier runs recorded about a destination: its manifest, and the journal of a run that was killed."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from stager._native import Entries, KeyOrder, KeyTable, Recall
from stager.host.journal import JOURNAL_NAME, recall_journal
from stager.host.manifest_file import Manifest, ManifestFile, load_manifest
from stager.host.threads import Checkpoint, go_on
from stager.manifest import DamagedManifestError, Header

__all__ = ["NOTHING_RECORDED", "Recalled", "Recorded", "read_manifest", "read_table", "recall", "whole_manifest"]


class Recorded(Struct, frozen=True, kw_only=True):
    """What a manifest says of itself, and how many files it names; without a header when there is none. ``damage``: why
    it is not believed.
    """

    header: Header | None = None
    entries: int = 0
    damage: str = ""


NOTHING_RECORDED: Final = Recorded()


class Recalled(Struct, frozen=True, kw_only=True):
    """``manifest_entries``: how many a manifest of this source holds that is of this boot or durable, when nothing is
    recorded beside it, so that it need not be written again if all of them stand; else None. ``others``: the manifest
    has records of files that the table does not have. ``damaged``: there is a manifest that is not believed.
    ``warnings``: for people.
    """

    manifest_entries: int | None
    others: bool = False
    damaged: bool = False
    warnings: tuple[str, ...]


def read_manifest(state_fd: int | None) -> Recorded:
    """The manifest there (``state_fd`` None: nothing is), its entries not yet. A damaged one is as good as none.

    Blocks. `HostError`.
    """
    if state_fd is None:
        return NOTHING_RECORDED
    try:
        with ManifestFile(state_fd) as file:
            return Recorded(header=file.header, entries=file.count)
    except FileNotFoundError:
        return NOTHING_RECORDED
    except DamagedManifestError as error:
        return Recorded(damage=str(error))


def whole_manifest(state_fd: int) -> Manifest | None:
    """The manifest with all of its entries; None when there is none or it is damaged. Blocks. `HostError`."""
    try:
        return load_manifest(state_fd)
    except (FileNotFoundError, DamagedManifestError):
        return None


def read_table(state_fd: int | None) -> KeyTable | None:
    """Every file of the manifest there as a row; None when there is none or it is damaged. Blocks. `HostError`."""
    manifest = whole_manifest(state_fd) if state_fd is not None else None
    return manifest.table if manifest is not None else None


def recall(
    state_fd: int | None,
    manifest: Recorded,
    entries: Entries,
    order: KeyOrder,
    *,
    source: str,
    boot: str,
    verify: bool = False,
    only_durable: bool = False,
    checkpoint: Checkpoint = go_on,
) -> Recalled:
    """Note in ``entries`` what the manifest and the journal say of them, where they were written for ``source``.

    What was recorded in another boot than ``boot`` or, with ``only_durable``, in this one, is doubtful unless it was
    durable then; with ``verify`` all of it is. Blocks. `HostError`.
    """
    if state_fd is None:
        return Recalled(manifest_entries=None, warnings=())
    trusted_boot = "" if verify or only_durable else boot
    count, passed, warnings, damaged = 0, 0, _why_not(manifest, source), bool(manifest.damage)
    header = manifest.header
    if header is not None and not warnings:
        trusted = (header.durable and not verify) or (bool(trusted_boot) and header.boot == trusted_boot)
        try:
            count, passed = _recall_manifest(state_fd, header, Recall(entries, order, trusted=trusted), checkpoint)
        except DamagedManifestError as error:
            entries.forget()
            header, warnings, damaged = None, _damaged(str(error)), True
    journaled = recall_journal(
        state_fd, JOURNAL_NAME, entries, order, source=source, trusted_boot=trusted_boot, checkpoint=checkpoint
    )
    holds = header is not None and not warnings and not journaled and not passed
    if header is not None and not header.durable:
        holds = holds and bool(boot) and header.boot == boot and not only_durable
    return Recalled(
        manifest_entries=count if holds else None, others=passed > 0, damaged=damaged, warnings=warnings
    )


def _recall_manifest(state_fd: int, header: Header, recall: Recall, checkpoint: Checkpoint) -> tuple[int, int]:
    try:
        with ManifestFile(state_fd) as file:
            if file.header != header:
                raise DamagedManifestError("it changed meanwhile")
            file.recall(recall, checkpoint=checkpoint)
            return file.count, recall.passed
    except FileNotFoundError as error:
        raise DamagedManifestError("it is gone") from error


def _why_not(manifest: Recorded, source: str) -> tuple[str, ...]:
    if manifest.damage:
        return _damaged(manifest.damage)
    if manifest.header is not None and manifest.header.source != source:
        return ("the destination was filled from another source: everything is fetched again",)
    return ()


def _damaged(why: str) -> tuple[str, ...]:
    return (f"the manifest is damaged ({why}): everything is fetched and compared again",)
