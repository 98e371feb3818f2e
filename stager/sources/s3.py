"""S3 and what speaks like it: a bucket or a prefix, listed and copied by the native engine.

A prefix matches only at ``/``: ``s3://b/mnist`` is what lies under ``mnist/``, or the one object ``mnist``, which
becomes a file of that name; never ``mnist2``. Where both exist the directory is meant.
Source: Amazon S3 API reference, ListObjectsV2 and GetObject.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from array import array
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Final, Self

from msgspec.structs import replace

from stager._native import Batch, Endpoint, KeyTable, Signer, Template
from stager.config import Integrity, Remote
from stager.errors import GradeError, NotFoundError, StagerError, UsageError
from stager.host.listing_file import listing_digest
from stager.host.proxies import proxy_for
from stager.host.threads import blocking, together
from stager.model import SourceRef
from stager.names import show
from stager.sources.base import Capabilities, Earlier, Landing, OnLanded, Snapshot, Wanted, everything
from stager.sources.large import LargeObject, fetch_large, sweep
from stager.sources.s3_access import access_for, headers_of
from stager.sources.s3_announced import ask_all_ends, ask_told, asked_ahead
from stager.sources.s3_connection import Connection, where_it_is
from stager.sources.s3_customer_key import check_way, read_customer_key
from stager.sources.s3_host import addresses_towards, ca_file
from stager.sources.s3_list import Pages, Span
from stager.sources.s3_list_parallel import list_folder
from stager.sources.s3_order import lists_in_byte_order
from stager.sources.s3_silence import Silence
from stager.sources.s3_skipped import raise_skipped, raise_too_low
from stager.sources.s3_values import refresh_pause_s
from stager.sources.s3_version import look_up, prove_readable, with_versions
from stager.sources.verify import Told
from stager.transfer import Lane, Transfer, Work

__all__ = ["S3Source"]

_GRADE_COMPARED: Final = "A"  # with a digest that the server announced
_GRADE: Final = "B"
_GRADE_UNPINNED: Final = "C"  # of an object without an ETag
_LARGE_AT_ONCE: Final = 4
_MULTIPART_AT_ONCE: Final = 32  # of one part each, but for the last the least that S3 lets be uploaded
_FIRST_AT_ONCE: Final = 8  # of these while it is not known whether anything is announced: two are asked for each
_WHOLE_AT_ONCE: Final = 512  # of these, until it is looked whether one came that has to be asked for
_LEAST_PART_BYTES: Final = 5 << 20  # User Guide, "Amazon S3 multipart upload limits"
_FRESHEN_EVERY_S: Final = 60.0


class S3Source:
    """``s3://BUCKET/PREFIX``. An object is pinned by the ETag its listing showed (grade B; C when it showed none), and
    by its version where one is named; and compared with the digest that the server announces of it, if any (grade A).
    """

    capabilities = Capabilities(modes=False, times="listed", grade=_GRADE)

    def __init__(
        self, ref: SourceRef, *, remote: Remote | None, transfer: Transfer, integrity: Integrity | None = None
    ) -> None:
        self._bucket, _, prefix = ref.location.partition("/")
        self._prefix = prefix.encode("utf-8", "surrogateescape")
        self._version_id = (ref.version_id or "").encode()
        self._pins_versions = ref.pins_versions and not ref.version_id
        self._where = f"s3://{self._bucket}/{show(self._prefix)}"
        self._remote = remote or Remote()
        self._transfer = transfer
        self._integrity = integrity or Integrity()
        self._access = access_for(transfer, self._remote)
        self._connection: Connection | None = None
        self._template: Template | None = None

    async def __aenter__(self) -> Self:
        """Nothing is opened before `snapshot` needs it."""
        return self

    async def __aexit__(self, *exc: object) -> None:
        """The engine owns the connections and closes them."""
        self._connection = self._template = None

    async def snapshot(self, earlier: Earlier | None = None, wanted: Wanted = everything) -> Snapshot:
        """List the bucket or prefix, whole; see `stager.sources.base.Source.snapshot`."""
        return await where_it_is(self._snapshot)

    async def adopt(self, listed: Snapshot) -> Snapshot:
        """See `stager.sources.base.Source.adopt`. The bucket is asked for nothing before `fetch`."""
        parent, slash, name = self._prefix.rpartition(b"/")
        single = bool(name) and listed.folder == parent + slash and len(listed.table) == 1
        if listed.folder != self._folder() and not (single and listed.table.key(0) == name):
            shown = f"s3://{self._bucket}/{show(listed.folder)}"
            raise UsageError(f"the listing is of {shown}", where=self._where, hint="name the source that was listed")
        connection = await self._connect(None)
        self._take(connection, listed.folder)
        return replace(listed, pinned={**listed.pinned, **self._pinned(connection, listed.folder)})

    async def prove_access(self, snapshot: Snapshot) -> None:
        """See `stager.sources.base.Source.prove_access`: a HEAD of the first object, which needs s3:GetObject."""
        where = self._name(snapshot.table.key(0))
        await self._ask(snapshot, lambda at, template: prove_readable(at.lane, template, snapshot.table, 0, where))

    async def fetch(self, snapshot: Snapshot, rows: array[int], landing: Landing, done: OnLanded) -> None:
        """Copy the chosen objects; see `stager.sources.base.Source.fetch`.

        Objects that alone are denied or archived do not stop the rest; they are told together when it has ended.
        """
        await self._ask(snapshot, partial(self._fetch, snapshot, rows, landing, done))

    async def _ask(self, snapshot: Snapshot, ask: Callable[[Connection, Template], Awaitable[None]]) -> None:
        """Of a snapshot that was adopted these are the first requests, which tell where the bucket is."""

        async def attempt(region: str | None) -> None:
            if region is not None:
                self._take(await self._connect(region), snapshot.folder)
            if self._connection is None or self._template is None:
                raise ValueError("this needs the snapshot of this source")
            await ask(self._connection, self._template)

        await where_it_is(attempt)

    async def _fetch(
        self, snapshot: Snapshot, rows: array[int], landing: Landing, done: OnLanded, connection: Connection,
        template: Template,
    ) -> None:  # fmt: skip
        table = snapshot.table
        part_bytes = self._transfer.limits.part_bytes
        # What has no ETag comes in one answer: nothing would tell parts of two versions apart.
        small, large = table.part_rows(rows, part_bytes)
        several = array("I")
        if connection.compares:  # a digest of parts can be announced, and takes another way
            least = 0 if self._integrity.require == "A" else _LEAST_PART_BYTES
            small, several = table.multipart_rows(small, least)
        await blocking(sweep, landing, table, large + several)
        fresh = asyncio.create_task(self._stay_fresh(connection))
        try:
            await together(
                self._fetch_small(connection, template, table, small, landing, done),
                *(
                    self._fetch_large(connection, template, table, share, landing, done)
                    for start in range(_LARGE_AT_ONCE)
                    if (share := large[start::_LARGE_AT_ONCE])
                ),
                self._fetch_several(connection, template, snapshot, several, landing, done),
            )
        except GradeError:
            pass  # enough of them: all that were met are told below
        finally:
            fresh.cancel()
            await asyncio.gather(fresh, return_exceptions=True)  # what is in place does not depend on how it ended
        raise_too_low(connection.lane.skipped, self._integrity.require, where=self._where)
        if skipped := connection.lane.skipped:
            stand = frozenset(landing.entries.stands())
            sizes = {self._name(table.key(row)): table.size(row) for row in rows if row not in stand}
            raise_skipped(skipped, sizes, where=self._where)

    async def _connect(self, region: str | None) -> Connection:
        credentials = await self._access.credentials()
        prepared = await self._access.prepare(self._bucket, region)
        key_file = self._remote.sse_c_key_file
        if key_file is not None:
            check_way(prepared, self._remote)
        key = await blocking(read_customer_key, key_file) if key_file is not None else None
        proxy = proxy_for(prepared.url, self._remote.proxy)
        secured = prepared.tls or (proxy is not None and proxy.tls)
        endpoint = Endpoint(
            self._transfer.engine,
            host=prepared.host,
            port=prepared.port,
            tls=prepared.tls,
            addresses=await addresses_towards(prepared, proxy),
            ca_file=ca_file(self._remote) if secured and self._remote.verify_ssl else None,
            verify=self._remote.verify_ssl,
            proxy=proxy.for_endpoint() if proxy else None,
        )
        signer = None
        if credentials is not None:
            signer = Signer(
                access_key=credentials.access_key,
                secret_key=credentials.secret_key.reveal(),
                token=credentials.token.reveal() if credentials.token else None,
                region=prepared.region,
                service=prepared.service,
            )
        lane = Lane(
            transfer=self._transfer, where=self._where, signer=signer, steering=self._transfer.steer(endpoint)
        )
        connection = Connection(
            prepared=prepared,
            proxy=proxy,
            credentials=credentials,
            endpoint=endpoint,
            signer=signer,
            lane=lane,
            headers=prepared.headers + headers_of(self._remote),
            key=key,
            integrity=self._integrity,
        )
        lane.refresh = lambda: self._renew(connection, again=True)
        return connection

    async def _renew(self, connection: Connection, *, again: bool) -> bool:
        """Take the chain's credentials if they are other ones; whether they were."""
        current = await self._access.credentials(refused=connection.credentials if again else None)
        if current is None or connection.credentials is None or connection.signer is None:
            return False
        if current.same_as(connection.credentials):
            return False
        connection.signer.update(
            access_key=current.access_key,
            secret_key=current.secret_key.reveal(),
            token=current.token.reveal() if current.token else None,
        )
        connection.credentials = current
        return True

    async def _stay_fresh(self, connection: Connection) -> None:
        """Renew temporary credentials before they end, and addresses, while a long copy runs."""
        while True:
            await asyncio.sleep(refresh_pause_s(connection.credentials, time.time(), most_s=_FRESHEN_EVERY_S))
            with contextlib.suppress(StagerError):
                await self._renew(connection, again=False)
            with contextlib.suppress(StagerError):
                connection.endpoint.update(await addresses_towards(connection.prepared, connection.proxy))

    async def _snapshot(self, region: str | None) -> Snapshot:
        connection = await self._connect(region)
        folder, table, warnings = await self._listed(connection)
        self._take(connection, folder)
        if self._pins_versions and len(table):
            template = connection.template(folder, objects=True)
            table = await with_versions(connection.lane, template, table, name=self._name)
        listing = {"listing": await asyncio.to_thread(listing_digest, table)}
        pinned = {**self._pinned(connection, folder), **listing}
        # Where a listing does not tell what is restored, the objects' own requests will.
        archived = table.archived_rows() if connection.tells_what_is_restored else array("I")
        return Snapshot(table=table, pinned=pinned, folder=folder, warnings=warnings, archived=archived)

    async def _listed(self, connection: Connection) -> tuple[bytes, KeyTable, tuple[str, ...]]:
        """What the keys are below, the objects, and what the user should know."""
        if self._version_id:
            parent, slash, name = self._prefix.rpartition(b"/")
            folder = parent + slash
            template = connection.template(folder, objects=True)
            where = f"{self._where}?versionId={show(self._version_id)}"
            return folder, await look_up(connection.lane, template, name, self._version_id, where=where), ()
        folder = self._folder()
        listed = await list_folder(self._pages(connection, folder), in_byte_order=self._lists_in_order(connection))
        if not len(listed.table) and self._prefix:
            return *await self._single_key(connection), listed.warnings
        return folder, listed.table, listed.warnings

    def _folder(self) -> bytes:
        return self._prefix if self._prefix.endswith(b"/") or not self._prefix else self._prefix + b"/"

    def _take(self, connection: Connection, folder: bytes) -> None:
        self._connection = connection
        self._template = connection.template(folder, objects=True)

    def _pinned(self, connection: Connection, folder: bytes) -> dict[str, str]:
        return {
            "bucket": self._bucket,
            "prefix": show(folder),
            "endpoint": connection.prepared.url,
            **({"proxy": connection.proxy.url} if connection.proxy else {}),
            **({"version_id": self._version_id.decode()} if self._version_id else {}),
        }

    def _lists_in_order(self, connection: Connection) -> bool:
        return lists_in_byte_order(connection.prepared.host, self._bucket, self._remote.listing_order)

    def _pages(self, connection: Connection, folder: bytes) -> Pages:
        return Pages(
            lane=connection.lane,
            template=connection.template(folder, objects=False),
            folder=folder,
            where=self._where,
        )

    async def _single_key(self, connection: Connection) -> tuple[bytes, KeyTable]:
        """The prefix as the key of one object."""
        table = KeyTable()
        hint = "* and ? stand for themselves: name a prefix" if set(b"*?") & set(self._prefix) else "check the spelling"
        missing = NotFoundError("nothing is stored under this name", where=self._where, hint=hint)
        if self._prefix.endswith(b"/"):
            raise missing
        parent, slash, name = self._prefix.rpartition(b"/")
        folder = parent + slash
        first = Span()
        await self._pages(connection, folder).append(first, key=name)
        listed = first.table
        if not len(listed) or listed.key(0) != name:  # of all keys that begin with a name, it is itself the first
            raise missing
        table.append(name, listed.size(0), listed.identity(0), listed.mtime_ns(0), listed.mode(0))
        return folder, table

    async def _fetch_small(
        self,
        connection: Connection,
        template: Template,
        table: KeyTable,
        rows: array[int],
        landing: Landing,
        done: OnLanded,
        aside: Callable[[int], None] | None = None,
    ) -> None:
        engine = self._transfer.engine

        def landed(batch: Batch, _rows: Sequence[int], finished: array[int]) -> None:
            taken = landing.entries.take(
                batch, finished, verified=_GRADE_COMPARED, pinned=_GRADE, unpinned=_GRADE_UNPINNED
            )
            done(taken)

        await connection.lane.run(
            Work(
                items=rows,
                submit=lambda some: engine.fetch_objects(
                    template, table, some, landing.root_fd, landing.tmp_fd, preserve=landing.preserve
                ),
                landed=landed,
                name=lambda row: self._name(table.key(row)),
                aside=aside,
            )
        )

    async def _fetch_several(
        self,
        connection: Connection,
        template: Template,
        snapshot: Snapshot,
        rows: array[int],
        landing: Landing,
        done: OnLanded,
    ) -> None:
        """Objects of one part at most that were uploaded in several; see `stager.sources.s3_silence`."""
        left, table = deque(rows), snapshot.table
        silence = Silence(must_ask=self._integrity.require == "A")
        whole = connection.template(snapshot.folder, objects=True, refuse_parts=True)
        while left:
            if silence.lasts:
                some = array("I", (left.popleft() for _ in range(min(len(left), _WHOLE_AT_ONCE))))
                aside: list[int] = []
                await self._fetch_small(connection, whole, table, some, landing, done, aside.append)
                if aside:
                    silence.break_it()
                    left.extendleft(aside)
                continue
            at_once = _FIRST_AT_ONCE if silence.unknown else _MULTIPART_AT_ONCE
            await together(
                *(
                    self._fetch_large(connection, template, table, silence.draw(left), landing, done, silence.hear)
                    for _ in range(min(at_once, len(left)))
                )
            )

    async def _fetch_large(
        self,
        connection: Connection,
        template: Template,
        table: KeyTable,
        rows: Iterable[int],
        landing: Landing,
        done: OnLanded,
        hear: Callable[[Told], None] = lambda _: None,
    ) -> None:
        async def ask(row: int) -> Told:
            if not connection.compares and not landing.preserve:
                return Told()
            name, compares = self._name(table.key(row)), connection.compares
            told = await ask_told(connection.lane, template, table, row, name=name, compares=compares)
            hear(told)
            return told

        async with contextlib.aclosing(asked_ahead(rows, ask)) as objects:
            async for row, asked in objects:
                one = self._large(connection, template, table, row)
                if await fetch_large(one, landing, asked=asked, required=self._integrity.require):
                    done(array("I", [row]))

    def _large(self, connection: Connection, template: Template, table: KeyTable, row: int) -> LargeObject:
        lane, name = connection.lane, self._name(table.key(row))
        return LargeObject(
            lane=lane,
            table=table,
            row=row,
            name=name,
            submit=lambda ranges, fd, crc: lane.transfer.engine.fetch_ranges(template, table, row, ranges, fd, crc),
            ask_again=lambda guessed: ask_all_ends(lane, template, table, row, guessed, name=name),
        )

    def _name(self, key: bytes) -> str:
        return f"{self._where.rstrip('/')}/{show(key)}" if key else self._where
