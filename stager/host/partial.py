"""Large files that are not finished yet, kept from run to run, and which of their blocks have arrived.

``STATE/partial/`` holds two files for each: NAME, as long as the object and with holes where blocks are missing, and
NAME.blocks, append-only: 24 bytes that say whose blocks these are, then 32 for each block that has been written.
NAME is the digest of source, key, size and ETag (or version, where there is none), so bytes of one content never
continue another one's.

No record is believed: a block counts once it has been read again and has the recorded digest. Within one boot that is
not needed against crashes, for what was written before the record is in the page cache. But it costs less than a tenth
of fetching over a fast network, the CRC to be combined needs the bytes anyhow, and with it neither a reboot, a network
file system, nor a record that lies can make a wrong file.
"""

from __future__ import annotations

import contextlib
import os
import stat
import struct
from collections.abc import Container, Iterator
from io import FileIO
from typing import Final, Self

from msgspec import Struct

from stager._native import BLOCK_BYTES, digest_bytes, publish, read_back, reserve
from stager.errors import HostError, from_os_error
from stager.host.atomic import write_all
from stager.host.threads import Checkpoint

__all__ = ["Block", "Partial", "Partials", "open_partials", "partial_bytes", "remove_partials"]

PARTIAL_NAME: Final = "partial"
_BLOCKS: Final = ".blocks"
_MAGIC: Final = b"stgpart1"
_HEADER: Final = struct.Struct("<8s16s")  # magic, the object's id
_RECORD: Final = struct.Struct("<8sQ16s")  # check, number of the block, its digest
_CHECK_BYTES: Final = 8
_RECORDS_AT_ONCE: Final = 4096
_UNIT_BYTES: Final = 512  # of st_blocks, whatever the file system's is
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN: Final = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_CREATE: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


class Block(Struct, frozen=True):
    """One block that stands in the file; ``crc`` is 0 where no kind was asked for."""

    number: int
    digest: bytes
    crc: int


class Partials:
    """The unfinished files of one destination. Its methods block, and raise OSError unless they say more."""

    def __init__(self, state_fd: int, source: str, *, from_disk: bool = False, keep_all: bool = False) -> None:
        """``source``: under which text identities mean something. ``from_disk``: what is cached does not count.
        ``keep_all``: another run continues what this one does not.
        """
        self._keep_all = keep_all
        self._source = os.fsencode(source)
        self._from_disk = from_disk
        with contextlib.suppress(FileExistsError):
            os.mkdir(PARTIAL_NAME, 0o700, dir_fd=state_fd)
        self._state_fd = state_fd
        self._fd = os.open(PARTIAL_NAME, _DIRECTORY, dir_fd=state_fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def name_of(self, key: bytes, size: int, identity: bytes) -> str:
        """The name of an object's files here."""
        return self._id_of(key, size, identity).hex()

    def keep_only(self, names: Container[str]) -> None:
        """Remove what is of no use any more, to have its space before something is fetched."""
        for name in os.listdir(self._fd) if not self._keep_all else ():
            if name.removesuffix(_BLOCKS) not in names:
                _remove(self._fd, name)

    def of(self, key: bytes, size: int, identity: bytes) -> Partial:
        """The object's unfinished file, to be opened."""
        return Partial(self._fd, self._id_of(key, size, identity), size, from_disk=self._from_disk)

    def close(self) -> None:
        """Nothing is removed but the directory, when it is empty. Idempotent."""
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        os.close(fd)
        with contextlib.suppress(OSError):
            os.rmdir(PARTIAL_NAME, dir_fd=self._state_fd)

    def _id_of(self, key: bytes, size: int, identity: bytes) -> bytes:
        etag, _, version = identity.partition(b"\0")  # csrc/identity.h
        content = etag or version
        head = b"%d %d %d\n" % (len(self._source), len(content), size)
        return digest_bytes(head + self._source + content + key)


class Partial:
    """One unfinished file. What blocks says so; all but `close` raise OSError."""

    def __init__(self, dir_fd: int, object_id: bytes, size: int, *, from_disk: bool) -> None:
        self._dir_fd = dir_fd
        self._from_disk = from_disk
        self._name = object_id.hex()
        self._id = object_id
        self._size = size
        self._pending = bytearray()
        self._recorded: dict[int, bytes] = {}
        self._worth_keeping = True  # until it has been looked at
        self._held = contextlib.ExitStack()

    def open(self) -> None:
        """Open it, made with all of its space where there is none that can be continued. Blocks.

        `close` is due whatever becomes of this, also where nobody has waited for its end.
        """
        self._file = self._held.enter_context(self._open_file())
        self._journal = self._held.enter_context(self._open_journal())
        self._worth_keeping = bool(self._recorded)

    @property
    def fd(self) -> int:
        """The open file's descriptor."""
        return self._file.fileno()

    @property
    def recorded(self) -> frozenset[int]:
        """Numbers of the blocks that an earlier run recorded; whether they stand, `recall` says."""
        return frozenset(self._recorded)

    def recall(self, checkpoint: Checkpoint, crc_kind: str | None) -> list[Block]:
        """The recorded blocks that stand, ascending: read again now. Blocks."""
        found = []
        if self._from_disk:  # what the disk did not take may still be cached, and its error told to somebody else
            os.fsync(self.fd)
            os.posix_fadvise(self.fd, 0, 0, os.POSIX_FADV_DONTNEED)
        for number in sorted(self._recorded):
            checkpoint()
            offset = number * BLOCK_BYTES
            digest, crc = read_back(self.fd, offset, min(BLOCK_BYTES, self._size - offset), crc_kind)
            if digest == self._recorded[number]:
                found.append(Block(number, digest, crc))
        return found

    def note(self, first: int, digests: bytes) -> None:
        """Blocks from ``first`` on have been written, with these digests of 16 bytes each; recorded by `append`."""
        for index in range(0, len(digests), 16):
            self._pending += self._record(first + index // 16, digests[index : index + 16])

    def take_notes(self) -> bytes:
        """What has been noted and is to be appended."""
        notes, self._pending = bytes(self._pending), bytearray()
        return notes

    def append(self, notes: bytes) -> None:
        """Record; on return they survive the end of this process. Blocks."""
        self._worth_keeping |= bool(write_all(self._journal.fileno(), notes))

    def forget(self) -> None:
        """What has been written is not the object: record nothing of it. Blocks."""
        self._pending.clear()
        self._worth_keeping = False
        os.ftruncate(self._journal.fileno(), _HEADER.size)
        os.lseek(self._journal.fileno(), _HEADER.size, os.SEEK_SET)

    def publish(self, root_fd: int, key: bytes, set_mtime_ns: int | None = None) -> tuple[int, int, int]:
        """Put the finished file in place, with that mtime if one is given: (mode, mtime_ns, ctime_ns).

        Blocks. `HostError`: its length is not the object's.
        """
        status = os.fstat(self.fd)
        self._file.close()  # before it is visible: over a network this may be what says that bytes were not written
        if status.st_size != self._size:
            raise HostError("is not as long as the object; something else wrote to it", where=self._name)
        mtime_ns, ctime_ns = publish(
            self._dir_fd, self._name.encode(), root_fd, key, mtime_ns=set_mtime_ns
        )
        self._worth_keeping = False
        return status.st_mode & 0o7777, mtime_ns, ctime_ns

    def close(self) -> None:
        """Keep what a later run can continue, remove what it can not. Blocks; idempotent; raises nothing."""
        with contextlib.suppress(OSError):  # what it says of a file that is given up changes nothing
            self._held.close()
        if not self._worth_keeping:
            for name in (self._name, self._name + _BLOCKS):
                with contextlib.suppress(OSError):
                    _remove(self._dir_fd, name)

    def _open_file(self) -> FileIO:
        if (fd := _open_own(self._dir_fd, self._name, self._size)) is not None:
            return FileIO(fd, "r+")
        _remove(self._dir_fd, self._name + _BLOCKS)
        file = FileIO(os.open(self._name, _CREATE, 0o666, dir_fd=self._dir_fd), "r+")
        try:
            reserve(file.fileno(), self._size)
        except BaseException:
            file.close()
            _remove(self._dir_fd, self._name)
            raise
        return file

    def _open_journal(self) -> FileIO:
        """Read what is recorded, up to the first record that is damaged or torn, and cut there."""
        name, head = self._name + _BLOCKS, _HEADER.pack(_MAGIC, self._id)
        fd = _open_own(self._dir_fd, name)
        if fd is None:
            fd = os.open(name, _CREATE, 0o600, dir_fd=self._dir_fd)
        file = FileIO(fd, "r+")
        try:
            end = _HEADER.size
            if os.pread(fd, _HEADER.size, 0) == head:
                for number, digest in self._read_records(fd):
                    self._recorded[number] = digest  # a later one counts: the block was fetched again
                    end += _RECORD.size
            else:
                os.ftruncate(fd, 0)
                write_all(fd, head)
            os.ftruncate(fd, end)
            os.lseek(fd, end, os.SEEK_SET)
        except BaseException:
            file.close()
            raise
        return file

    def _read_records(self, fd: int) -> Iterator[tuple[int, bytes]]:
        count, at = -(-self._size // BLOCK_BYTES), _HEADER.size
        while piece := os.pread(fd, _RECORDS_AT_ONCE * _RECORD.size, at):
            whole = len(piece) - len(piece) % _RECORD.size
            for check, number, digest in _RECORD.iter_unpack(piece[:whole]):
                if number >= count or self._record(number, digest)[:_CHECK_BYTES] != check:
                    return
                yield number, digest
            if whole < len(piece):
                return
            at += whole

    def _record(self, number: int, digest: bytes) -> bytes:
        """Its check is of the object too: a record of another object's is damaged here."""
        body = _RECORD.pack(b"", number, digest)[_CHECK_BYTES:]
        return digest_bytes(self._id + body)[:_CHECK_BYTES] + body


def open_partials(state_fd: int, source: str, *, from_disk: bool = False, keep_all: bool = False) -> Partials:
    """The unfinished files of a destination; see `Partials`. Blocks. Raises `NoSpaceError`, `HostError`."""
    try:
        return Partials(state_fd, source, from_disk=from_disk, keep_all=keep_all)
    except OSError as error:
        raise from_os_error(error, doing="open the directory of unfinished files", where=PARTIAL_NAME) from error


def partial_bytes(state_fd: int) -> int:
    """Bytes on disk of what earlier runs left unfinished: they are free, for a run continues or removes it.

    Blocks. Raises `HostError`.
    """
    try:
        with _opened(state_fd) as fd:
            sizes = (os.stat(name, dir_fd=fd, follow_symlinks=False).st_blocks for name in os.listdir(fd))
            return _UNIT_BYTES * sum(sizes)
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise from_os_error(error, doing="look at unfinished files", where=PARTIAL_NAME) from error


def remove_partials(state_fd: int) -> None:
    """Everything is in place: nothing is unfinished any more. Blocks. Raises `HostError`."""
    try:
        with _opened(state_fd) as fd:
            for name in os.listdir(fd):
                _remove(fd, name)
        os.rmdir(PARTIAL_NAME, dir_fd=state_fd)
    except FileNotFoundError:
        return
    except OSError as error:
        raise from_os_error(error, doing="remove unfinished files", where=PARTIAL_NAME) from error


@contextlib.contextmanager
def _opened(state_fd: int) -> Iterator[int]:
    fd = os.open(PARTIAL_NAME, _DIRECTORY, dir_fd=state_fd)
    try:
        yield fd
    finally:
        os.close(fd)


def _open_own(dir_fd: int, name: str, size: int | None = None) -> int | None:
    """A file of ours that no other name leads to, of this size if one is given; what stands there else is removed."""
    try:
        fd = os.open(name, _OPEN, dir_fd=dir_fd)
    except FileNotFoundError:
        return None
    except OSError:
        _remove(dir_fd, name)
        return None
    status = os.fstat(fd)
    own = stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and status.st_uid == os.geteuid()
    if own and size in (None, status.st_size):
        return fd
    os.close(fd)
    _remove(dir_fd, name)
    return None


def _remove(dir_fd: int, name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=dir_fd)
