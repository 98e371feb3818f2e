"""A git remote as a source: one commit, pinned, fetched without history by the `git` program.

What a tree looks like here: exactly what `git archive COMMIT` holds, export-ignore and export-subst aside (those
describe releases, not data). That is: blobs as committed, with `eol`, `ident` and `working-tree-encoding` of
.gitattributes applied by git itself; executable bits; symlinks as links. Refused by name, because the tree would not be
what its authors mean: submodules, Git LFS pointers, other filters.

Grade A: git computes every object's id from the bytes it received (index-pack with fsck), up to the commit's; and
each file that lies there afterwards is hashed here and compared with its blob's id, where git converts nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import os
import re
import shutil
import stat
import tempfile
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Final, Self
from urllib.parse import urlsplit

from msgspec.structs import replace

from stager import _native
from stager.config import Remote, Retry
from stager.errors import BadKeysError, ChangedError, IntegrityError, UsageError, from_os_error
from stager.host.gitrepo import FILE, LINK, PROGRAM, SUBMODULE, Pin, PinnedRepository, TreeRow
from stager.host.scratch import PrivateDirectory, open_scratch
from stager.host.threads import blocking, in_threads
from stager.model import Grade, SourceRef
from stager.names import show
from stager.sources.base import Capabilities, Earlier, Landing, OnLanded, Snapshot, Wanted, everything

__all__ = ["GitSource"]

_MODES: Final = {FILE: 0o644, PROGRAM: 0o755, LINK: stat.S_IFLNK | 0o777, b"100664": 0o644}
_LINK_MAX: Final = 4095
_POINTER = re.compile(rb"version https://git-lfs\.github\.com/spec/v1\n(?:.*\n)*oid sha256:[0-9a-f]{64}\nsize \d+\n")
_POINTER_SIZES: Final = range(100, 1025)  # git-lfs: a pointer file is under 1,024 bytes
_SHOWN: Final = 20
_FILES_A_CALL: Final = 128
_PIECE_BYTES: Final = 1 << 20
_SHA1_DIGITS: Final = 40
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


class GitSource:
    """See the module.

    The repository lives in a fresh private directory below ``state_dir`` (None: the user's scratch), which is there
    when the source is entered, and is gone at exit. Plain http is for loopback, or when ``allow_plain_http`` says so.
    """

    capabilities = Capabilities(modes=True, times="never", grade=Grade.A)

    def __init__(
        self,
        ref: SourceRef,
        *,
        remote: Remote | None = None,
        transfer: object = None,
        state_dir: str | None = None,
        environ: Mapping[str, str] | None = None,
        retry: Retry = Retry(attempts=4, base_s=0.5),  # noqa: B008  (frozen)
        allow_plain_http: bool = False,
    ) -> None:
        """``remote`` and ``transfer`` are what every source is made with; of them this one needs only the proxy."""
        if urlsplit(ref.location).scheme == "http" and not allow_plain_http and not _is_loopback(ref.location):
            raise UsageError("git over plain http is refused", where=ref.text, hint="use git+https:// or git+ssh://")
        self._ref = ref
        self._state_dir = state_dir
        self._environ = dict(os.environ if environ is None else environ)
        self._retry = retry
        self._proxy = remote.proxy if remote is not None else None
        self._pin: Pin | None = None
        self._prefix = f"{ref.subdir}/".encode() if ref.subdir else b""

    async def __aenter__(self) -> Self:
        """Make the private directory. Raises `NoSpaceError`, `HostError`."""
        self._private = await asyncio.to_thread(self._make_private)
        self._repository = PinnedRepository(
            self._private.path, self._ref.location, environ=self._environ, retry=self._retry, proxy=self._proxy
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Remove the private directory."""
        await asyncio.to_thread(self._private.close)

    async def snapshot(self, earlier: Earlier | None = None, wanted: Wanted = everything) -> Snapshot:
        """Pin a commit and list its tree. Identity: the blob id, and what git changes in it on the way.

        The commit is fetched, unless ``earlier`` is the same one: then not before a file of it is wanted.
        Raises what `Source.snapshot` names; `BadKeysError`: submodules, LFS pointers, filters, damaged links.
        """
        ref = None if self._ref.ref == "HEAD" else self._ref.ref
        pin = await self._repository.find(ref)
        if earlier is not None and earlier.version == self._version(pin):
            table = await blocking(earlier.read_table)
            if table is not None:
                self._pin = pin
                return self._snapshot(pin, table)
        self._pin = pin = await self._repository.fetch(pin)
        table, whole = await self._list(pin, wanted)
        snapshot = self._snapshot(pin, table)
        return snapshot if whole else replace(snapshot, version="", part_of=snapshot.version)

    async def adopt(self, listed: Snapshot) -> Snapshot:
        """The commit that was listed, whatever its ref is at now; it is fetched when a file of it is wanted."""
        commit, _, subdir = listed.version.partition(":")
        if not _COMMIT.fullmatch(commit) or subdir != (self._ref.subdir or ""):
            raise UsageError("the listing is of something else", where=self._ref.text, hint="name what was listed")
        self._pin = pin = await self._repository.find(commit)
        return self._snapshot(pin, listed.table)

    def _version(self, pin: Pin) -> str:
        return f"{pin.commit}:{self._ref.subdir or ''}"

    def _snapshot(self, pin: Pin, table: _native.KeyTable) -> Snapshot:
        pinned = {"commit": pin.commit, "ref": pin.ref, "asked": self._ref.ref, "subdir": self._ref.subdir}
        return Snapshot(
            table=table, pinned={k: v for k, v in pinned.items() if v is not None}, version=self._version(pin)
        )

    async def _list(self, pin: Pin, wanted: Wanted) -> tuple[_native.KeyTable, bool]:
        """Every file, and whether all of them are as they would be if all were wanted."""
        rows = [row async for row in self._repository.list_tree(pin.commit, self._ref.subdir)]
        chosen = [row for row in rows if wanted(row.path)]
        await self._refuse_what_is_not_whole(chosen)
        converted = await self._converted(pin.commit, rows, chosen)
        table = _native.KeyTable()
        for row in rows:
            if row.mode in _MODES:
                size, identity = converted.get(row.path, (row.size, row.blob))
                table.append(row.path, size, identity, 0, _MODES[row.mode])
        return table, len(chosen) == len(rows)

    async def fetch(self, snapshot: Snapshot, rows: array[int], landing: Landing, done: OnLanded) -> None:
        """See `Source.fetch`. Git writes into a private directory below ``tmp_fd``; each file is hashed there, then
        renamed into place. Cancelling ends git at once and waits for the renames in flight.
        """
        if not rows or self._pin is None:
            return
        await self._repository.fetch(self._pin)
        where = os.readlink(f"/proc/self/fd/{landing.tmp_fd}")
        try:
            checkout = await asyncio.to_thread(tempfile.mkdtemp, prefix="git-", dir=where)
        except OSError as error:
            raise from_os_error(error, doing="make a directory", where=landing.root) from error
        try:
            keys = [snapshot.table.key(row) for row in rows]
            await self._repository.check_out(self._pin.commit, [self._prefix + key for key in keys], checkout)
            name = os.fsencode(os.path.basename(checkout))
            pieces = [rows[at : at + _FILES_A_CALL] for at in range(0, len(rows), _FILES_A_CALL)]

            def publish(piece: array[int]) -> array[int]:
                for row in piece:
                    self._publish(snapshot, row, name, landing)
                return piece

            async with aclosing(in_threads(publish, pieces)) as finished:
                async for landed in finished:
                    done(landed)
        finally:
            await asyncio.to_thread(shutil.rmtree, checkout, ignore_errors=True)

    def _make_private(self) -> PrivateDirectory:
        return PrivateDirectory(self._state_dir or open_scratch(None, self._environ), "git-")

    def _publish(self, snapshot: Snapshot, row: int, checkout: bytes, landing: Landing) -> None:
        key, identity = snapshot.table.key(row), snapshot.table.identity(row)
        written = checkout + b"/" + self._prefix + key
        try:
            status = os.lstat(written, dir_fd=landing.tmp_fd)
            if stat.S_ISLNK(status.st_mode):
                target = os.readlink(written, dir_fd=landing.tmp_fd)
                size, digest = len(target), _native.digest_bytes(target)
                _check_blob(key, identity, size, [target])
            else:
                fd = os.open(written, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=landing.tmp_fd)
                try:
                    size, digest = _native.digest_fd(fd)
                    _check_blob(key, identity, size, _pieces_of(fd))
                finally:
                    os.close(fd)
            if size != snapshot.table.size(row):
                raise ChangedError("git wrote another length than the tree says", where=show(key))
            mtime_ns, ctime_ns = _native.publish(landing.tmp_fd, written, landing.root_fd, key)
        except OSError as error:
            raise from_os_error(error, doing="put a file in place", where=f"{landing.root}/{show(key)}") from error
        mode = status.st_mode if stat.S_ISLNK(status.st_mode) else stat.S_IMODE(status.st_mode)
        landing.entries.put(row, digest, mtime_ns, ctime_ns, mode, Grade.A)

    async def _refuse_what_is_not_whole(self, rows: Sequence[TreeRow]) -> None:
        submodules = [show(row.path) for row in rows if row.mode == SUBMODULE]
        if submodules:
            raise self._refusal(
                "submodules are not available in this version", submodules,
                "stage each submodule's repository as a dataset of its own",
            )
        strange = [show(row.path) for row in rows if row.mode not in _MODES]
        if strange:
            raise self._refusal("the tree holds entries of an unknown mode", strange, "")
        links = [row for row in rows if row.mode == LINK]
        long = [show(row.path) for row in links if not 0 < row.size <= _LINK_MAX]
        small = [row for row in rows if row.mode != LINK and row.size in _POINTER_SIZES]
        contents: dict[bytes, bytes] = {}
        if not long:
            contents = await self._repository.read_blobs(row.blob for row in (*links, *small))
        bad = long or [show(row.path) for row in links if b"\0" in contents[row.blob]]
        if bad:
            raise self._refusal("the tree holds symlinks without a usable target", bad, "")
        pointers = [show(row.path) for row in small if _POINTER.fullmatch(contents[row.blob])]
        if pointers:
            raise self._refusal(
                "the tree holds Git LFS pointers, and LFS is not available in this version", pointers,
                "stage the objects from S3, or clone with git lfs and stage the directory",
            )

    async def _converted(
        self, commit: str, rows: Sequence[TreeRow], chosen: Sequence[TreeRow]
    ) -> dict[bytes, tuple[int, bytes]]:
        """Chosen files whose bytes git changes on the way out: path to (size then, identity that says how)."""
        if not self._prefix and not any(row.path.split(b"/")[-1] == b".gitattributes" for row in rows):
            return {}
        files = {self._prefix + row.path: row for row in chosen if row.mode != LINK}
        attributes = await self._repository.attributes(commit, list(files))
        filtered = [f"{show(path)} (filter={show(found[b'filter'])})" for path, found in attributes.items()
                    if found.get(b"filter", b"lfs") != b"lfs"]
        if filtered:
            raise self._refusal("the tree needs git filters, which are never run", filtered, "")
        changing = {
            path: found for path, found in attributes.items()
            if found.get(b"eol") == b"crlf" or b"ident" in found or b"working-tree-encoding" in found
        }  # fmt: skip
        if not changing:
            return {}
        scratch = await asyncio.to_thread(tempfile.mkdtemp, dir=self._private.path)
        await self._repository.check_out(commit, list(changing), scratch)
        below = os.fsencode(scratch)

        def measure() -> dict[bytes, tuple[int, bytes]]:
            sizes: dict[bytes, tuple[int, bytes]] = {}
            for path, found in changing.items():
                how = b",".join(b"%s=%s" % item for item in sorted(found.items()) if item[0] != b"filter")
                size = os.lstat(os.path.join(below, path)).st_size
                sizes[files[path].path] = (size, files[path].blob + b" " + how)
            shutil.rmtree(scratch, ignore_errors=True)
            return sizes

        return await asyncio.to_thread(measure)

    def _refusal(self, what: str, names: Iterable[str], hint: str) -> BadKeysError:
        names = list(names)
        rest = [f"and {len(names) - _SHOWN} more"] if len(names) > _SHOWN else []
        return BadKeysError(what, [*names[:_SHOWN], *rest], where=self._ref.text, hint=hint)


def _check_blob(key: bytes, identity: bytes, size: int, pieces: Iterable[bytes]) -> None:
    """`IntegrityError` unless these are the bytes of the blob; what git converts has an identity that says so.

    A blob's id is the hash of "blob SIZE", a NUL and its bytes: gitformat-pack(5), hash-function-transition of git.
    """
    if b" " in identity:
        return
    digest = hashlib.new("sha1" if len(identity) == _SHA1_DIGITS else "sha256", usedforsecurity=False)
    digest.update(b"blob %d\0" % size)
    for piece in pieces:
        digest.update(piece)
    if digest.hexdigest().encode() != identity:
        raise IntegrityError("what git wrote is not what the commit holds", where=show(key), hint="run this again")


def _pieces_of(fd: int) -> Iterator[bytes]:
    at = 0
    while piece := os.pread(fd, _PIECE_BYTES, at):
        yield piece
        at += len(piece)


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"
