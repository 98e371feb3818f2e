"""Make a finished tree official: on the disk where that is asked for, then the manifest, then the receipt, last."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import msgspec

from stager._native import Entries
from stager.errors import HostError, from_os_error
from stager.host.atomic import read_regular, write_file
from stager.host.commit import Commit
from stager.host.journal import JOURNAL_NAME, remove_journal
from stager.host.manifest_file import manifest_pieces
from stager.host.partial import remove_partials
from stager.host.threads import Checkpoint, go_on
from stager.manifest import MANIFEST_NAME, Header
from stager.model import DatasetReceipt
from stager.names import lossless

__all__ = [
    "ASIDE_NAME",
    "RECEIPT_NAME",
    "commit_tree",
    "publish_manifest",
    "publish_receipt",
    "read_receipt",
    "receipt_json",
    "set_aside",
    "withdraw",
]

RECEIPT_NAME: Final = "receipt.json"
ASIDE_NAME: Final = "repair.json"
"""The receipt that a tree had before a repair that has not finished."""
_SCHEMA: Final = 1
_MOST_BYTES: Final = 16 << 20


def withdraw(state_fd: int, *, durable: bool = False) -> None:
    """The tree is about to change: it has no receipt until it is whole again; ``durable``: also not after a crash.

    Raises `HostError`.
    """
    _change(state_fd, durable, lambda: os.unlink(RECEIPT_NAME, dir_fd=state_fd))
    _change(state_fd, durable, lambda: os.unlink(ASIDE_NAME, dir_fd=state_fd))


def set_aside(state_fd: int, *, durable: bool = False) -> None:
    """As `withdraw`, for a repair: what the receipt says of the tree holds again when that has finished."""
    _change(
        state_fd, durable, lambda: os.rename(RECEIPT_NAME, ASIDE_NAME, src_dir_fd=state_fd, dst_dir_fd=state_fd)
    )


def _change(state_fd: int, durable: bool, change: Callable[[], None]) -> None:
    try:
        change()
        if durable:
            os.fsync(state_fd)
    except FileNotFoundError:
        return
    except OSError as error:
        raise from_os_error(error, doing="remove the old receipt", where=RECEIPT_NAME) from error


def commit_tree(checkpoint: Checkpoint, commit: Commit, entries: Entries, state_fd: int) -> None:
    """Have all files that stand on the disk. When that fails the journal goes: what it names may be in memory alone,
    and is fetched again. Blocks. Raises `NoSpaceError`, `HostError`.
    """
    try:
        commit.commit(checkpoint, entries)
    except HostError:
        with suppress(HostError):  # the disk may take nothing any more
            remove_journal(state_fd, JOURNAL_NAME)
        raise


def publish_manifest(
    state_fd: int, header: Header, entries: Entries, *, checkpoint: Checkpoint = go_on
) -> None:
    """Write the manifest of what stands, whole or not at all; where the header says durable, to the disk too.

    Blocks. Raises `NoSpaceError`, `HostError`.
    """
    pieces = manifest_pieces(header, entries, checkpoint=checkpoint)
    write_file(state_fd, MANIFEST_NAME, pieces, durable=header.durable)
    remove_journal(state_fd, JOURNAL_NAME)


def publish_receipt(state_fd: int, receipt: DatasetReceipt | dict[str, Any], *, durable: bool = False) -> None:
    """Write the receipt (as a value, or as `read_receipt` gave it), whole or not at all, last: nothing is unfinished
    any more. ``durable``: to the disk, too. Blocks. Raises `NoSpaceError`, `HostError`.
    """
    remove_partials(state_fd)
    told = receipt_json(receipt) if isinstance(receipt, DatasetReceipt) else receipt
    body = msgspec.json.format(msgspec.json.encode(told), indent=2) + b"\n"
    write_file(state_fd, RECEIPT_NAME, [body], durable=durable)
    _change(state_fd, False, lambda: os.unlink(ASIDE_NAME, dir_fd=state_fd))


def read_receipt(state_fd: int | None, name: str = RECEIPT_NAME) -> dict[str, Any] | None:
    """The receipt as it was written; ``name``: or `ASIDE_NAME`. None when there is none, or what is there is none.

    Raises `HostError`.
    """
    if state_fd is None:
        return None
    try:
        return msgspec.json.decode(read_regular(name, dir_fd=state_fd, most=_MOST_BYTES), type=dict[str, Any])
    except (FileNotFoundError, msgspec.MsgspecError):
        return None
    except OSError as error:
        raise from_os_error(error, doing="read the receipt", where=name) from error


def receipt_json(receipt: DatasetReceipt) -> dict[str, Any]:
    """The receipt in the form that is written and printed; ``schema`` grows when a field changes its meaning.

    A path that is no UTF-8 has the form of `stager.names.to_json`.
    """
    return {"schema": _SCHEMA, **lossless(msgspec.to_builtins(receipt))}
