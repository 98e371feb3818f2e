"""When an object was last changed, which is what ``--preserve`` dates its copy by.

rclone and s3fs keep a file's own time in the metadata ``mtime``, in seconds with or without a fraction; else it is the
object's LastModified, as its listing has it. The one answer of a small object tells it (csrc/batch.h); of one that is
fetched in parts it is asked with a HEAD.
Source: rclone's documentation, "S3: Modification times"; Amazon S3 API reference, HeadObject, x-amz-meta-.
"""

from __future__ import annotations

from stager._native import Batch, KeyTable, Template
from stager.sources.s3_head import ask_head
from stager.transfer import Lane

__all__ = ["ask_mtime"]


async def ask_mtime(lane: Lane, template: Template, table: KeyTable, row: int, *, name: str) -> int | None:
    """The time of change of one object, in ns since 1970; None when nothing says one.

    Raises `TransientError` and `IntegrityError` for what is no answer at all; a refusal tells no time.
    """
    told = await ask_head(lane, template, table, row, Batch.mtime_ns, name=name)
    return told or table.mtime_ns(row) or None
