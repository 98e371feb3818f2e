"""Make a finished tree official: manifest, then the receipt, last; then the journal has served."""

from __future__ import annotations

import os
from typing import Any, Final

import msgspec

from stager._native import Entries
from stager.errors import from_os_error
from stager.host.atomic import write_file
from stager.host.journal import JOURNAL_NAME, remove_journal
from stager.host.manifest_file import manifest_pieces
from stager.host.threads import Checkpoint, go_on
from stager.manifest import MANIFEST_NAME, Header
from stager.model import DatasetReceipt
from stager.names import lossless

__all__ = ["RECEIPT_NAME", "publish_manifest", "publish_receipt", "receipt_json", "withdraw"]

RECEIPT_NAME: Final = "receipt.json"
_SCHEMA: Final = 1


def withdraw(state_fd: int) -> None:
    """The tree is about to change: it has no receipt until it is whole again. Raises `HostError`."""
    try:
        os.unlink(RECEIPT_NAME, dir_fd=state_fd)
    except FileNotFoundError:
        return
    except OSError as error:
        raise from_os_error(error, doing="remove the old receipt", where=RECEIPT_NAME) from error


def publish_manifest(
    state_fd: int, header: Header, entries: Entries, *, checkpoint: Checkpoint = go_on
) -> None:
    """Write the manifest of what stands, whole or not at all. Blocks. Raises `NoSpaceError`, `HostError`."""
    write_file(state_fd, MANIFEST_NAME, manifest_pieces(header, entries, checkpoint=checkpoint))
    remove_journal(state_fd, JOURNAL_NAME)


def publish_receipt(state_fd: int, receipt: DatasetReceipt) -> None:
    """Write the receipt, whole or not at all, last. Blocks. Raises `NoSpaceError`, `HostError`."""
    body = msgspec.json.format(msgspec.json.encode(receipt_json(receipt)), indent=2) + b"\n"
    write_file(state_fd, RECEIPT_NAME, [body])


def receipt_json(receipt: DatasetReceipt) -> dict[str, Any]:
    """The receipt in the form that is written and printed; ``schema`` grows when a field changes its meaning.

    A path that is no UTF-8 has the form of `stager.names.to_json`.
    """
    return {"schema": _SCHEMA, **lossless(msgspec.to_builtins(receipt))}
