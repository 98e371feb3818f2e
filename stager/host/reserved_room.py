"""What of the free space of a place is not free to be planned with, because stagers have reserved it."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from msgspec.structs import replace

from stager.host.board import Claimed, Record
from stager.host.node import Node
from stager.host.reservations import Need, count_taken, most_of_one
from stager.placement import Root

__all__ = ["less_reserved"]


def less_reserved(roots: Iterable[Root], node: Node) -> tuple[Root, ...]:
    """The roots, with what is reserved on their file systems taken off what is free. Blocks. Never raises."""
    board = node.board
    claims: list[Record] = []
    if board is not None:
        with suppress(OSError):
            claims = [record for record in board.look() if isinstance(record.says, Claimed)]
    if board is None or not claims:
        return tuple(roots)

    def less(root: Root) -> Root:
        there = [each for each in claims if isinstance(each.says, Claimed) and each.says.device == root.device]
        total = Need(root.total_bytes, root.total_inodes or 0)
        taken = count_taken(there, board.uid, most_of_one(node.settings, total)).total
        return replace(
            root,
            free_bytes=max(0, root.free_bytes - taken.bytes),
            free_inodes=None if root.free_inodes is None else max(0, root.free_inodes - taken.inodes),
            reserved_bytes=min(taken.bytes, root.free_bytes),
        )

    return tuple(less(root) if root.device else root for root in roots)
