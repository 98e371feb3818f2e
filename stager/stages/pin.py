"""Decide once what is copied: the source as it is listed now, or as a kept listing says it was."""

from __future__ import annotations

from msgspec import Struct

from stager.errors import ChangedError, GoneError, NotFoundError, StagerError, UsageError
from stager.host.listing_file import LISTED, read_listing, save_listing
from stager.host.threads import stoppable
from stager.model import SourceRef
from stager.sources.base import Earlier, Snapshot, Source, Wanted, everything

__all__ = ["LISTED", "Pinning"]


class Pinning(Struct, frozen=True, kw_only=True):
    """``frozen``: the file of a kept listing; ``save_listing``: a file that gets what is listed."""

    frozen: str | None = None
    save_listing: str | None = None

    def check(self, *, list_again: bool) -> None:
        """Raises `UsageError` for options that exclude each other."""
        if self.frozen is None:
            return
        if self.save_listing is not None:
            raise UsageError("nothing is listed with --frozen", where="--save-listing", hint="copy the file")
        if list_again:
            raise UsageError("what --frozen names never changes", where="--on-change retry", hint="leave one out")

    async def snapshot(
        self, source: Source, ref: SourceRef, earlier: Earlier | None, wanted: Wanted
    ) -> Snapshot:
        """What to copy; a listing that is kept has all there is.

        Raises what `Source.snapshot`, `Source.adopt`, `read_listing` and `save_listing` raise.
        """
        if self.frozen is not None:
            listed = await stoppable(read_listing, self.frozen, ref)
            pinned = {"listing": listed.digest, "listed": listed.time}
            return await source.adopt(
                Snapshot(table=listed.table, pinned=pinned, version=listed.version, folder=listed.folder)
            )
        found = await source.snapshot(earlier, wanted if self.save_listing is None else everything)
        if self.save_listing is not None:
            await stoppable(
                save_listing, self.save_listing, ref, found.table,
                folder=found.folder, version=found.version, pinned=found.pinned,
            )  # fmt: skip
        return found

    def explained(self, error: ChangedError) -> StagerError:
        """The error for an object that is not what was pinned."""
        if self.frozen is None:
            return error
        if isinstance(error, GoneError):
            hint = "the listing names what the source no longer has"
            return NotFoundError("is gone since it was listed", where=error.where, hint=hint)
        hint = "it is not what was listed: list the source again, or put the object back"
        return ChangedError(error.what, where=error.where, hint=hint)
