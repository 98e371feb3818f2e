"""Volumes that are mounted already, as a pod has them: what is brought there appears child by child, each whole.

::

    VOLUME/.stager/           0755; belongs to whoever stages
        staging/              0700: trees and state, until they are published; what a killed run left is thrown away
        published.json        the names in the volume that stager put there, written before the first of them appears
        receipt.json          written last, gone while anything is exchanged
    VOLUME/OWNER/NAME         moved here from staging by one rename (exchanged with what an earlier run put there)

Everything is reached by descriptor and no symlink is followed, for a job may have had the volume before. What it can
write is never believed: a run that comes again fetches again, and replaces only what `published.json` names.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any, Final, Self

import msgspec

from stager.errors import BusyError, HostError, MountError, UsageError, from_os_error
from stager.host.atomic import open_regular, read_regular, write_file
from stager.host.names_in import names_in
from stager.host.syscalls import exchange
from stager.host.trees import remove_at
from stager.host.workspace import STATE_NAME

__all__ = ["Volume"]

_STAGING: Final = "staging"
_PUBLISHED: Final = "published.json"
_RECEIPT: Final = "receipt.json"
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_BELOW: Final = _DIRECTORY | os.O_NOFOLLOW
_MOST_BYTES: Final = 16 << 20
_CANNOT_EXCHANGE: Final = frozenset(
    {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP}
    | {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EISDIR}  # FUSE that takes it for a plain rename
)


class Volume:
    """One, open for a run of its own."""

    def __init__(self, path: str) -> None:
        """Blocks. Raises `UsageError` (not there, no directory), `HostError` (not to be written to; another user's
        .stager, or a symlink in its place), `BusyError`.
        """
        self.path = path
        with ExitStack() as undo:
            try:
                self._fd = _opened(path, None, undo)
                with suppress(FileExistsError):
                    os.mkdir(STATE_NAME, 0o755, dir_fd=self._fd)
                self._own_fd = _opened(STATE_NAME, self._fd, undo)
                if os.fstat(self._own_fd).st_uid != os.geteuid():
                    raise HostError("belongs to another user", where=f"{path}/{STATE_NAME}", hint="remove it")
                self._lock_fd = open_regular("lock", os.O_RDWR | os.O_CREAT, dir_fd=self._own_fd)
                undo.callback(os.close, self._lock_fd)
                fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._published = self._read_published()
                self._throw_away()
                os.mkdir(_STAGING, 0o700, dir_fd=self._own_fd)
                self._staging_fd = _opened(_STAGING, self._own_fd, undo)
            except BlockingIOError:
                raise BusyError("another stager is at work in it", where=path, hint="wait for its end") from None
            except (FileNotFoundError, NotADirectoryError) as error:
                what = f"cannot be staged into: {error.strerror}"
                raise UsageError(what, where=path, hint="name the volume that is mounted there") from error
            except OSError as error:
                raise from_os_error(error, doing="open the volume", where=path) from error
            self._undo = undo.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        with self._undo, suppress(OSError, MountError):
            self._throw_away()

    def staging(self, below: str) -> str:
        """Where something is put together before it is published; what is above it is made. Raises `HostError`."""
        path = os.path.join(self.path, STATE_NAME, _STAGING, below)
        try:
            os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        except OSError as error:
            raise from_os_error(error, doing="make a directory", where=path) from error
        return path

    def scratch(self) -> str:
        """A directory for whatever else is needed meanwhile. Raises `HostError`."""
        path = self.staging("scratch")
        try:
            os.mkdir(path, 0o700)
        except OSError as error:
            raise from_os_error(error, doing="make a directory", where=path) from error
        return path

    def staged_names(self, below: str) -> list[str]:
        """What a directory of staging holds, sorted. Raises `HostError`."""
        try:
            with ExitStack() as undo:
                return sorted(names_in(self._below(self._staging_fd, below.split("/"), undo)))
        except OSError as error:
            raise from_os_error(error, doing="read what was staged", where=self.path) from error

    def foreign(self, targets: Sequence[str]) -> list[str]:
        """Those of the names, relative to the volume, that something has which no stager put there; sorted.

        Also those below something that is no directory. Raises `HostError`.
        """
        return sorted(target for target in targets if target not in self._published and self._is_taken(target))

    def publish(self, children: Mapping[str, str], receipt: Any) -> None:
        """Let each of ``children`` appear: by its name in the volume, where it lies in staging. What earlier runs
        published and this one has not goes. The receipt is written last.

        A name that exists is exchanged in one step where the file system can; elsewhere (NFS) it is gone for a moment.
        Raises `HostError`, `NoSpaceError`, `MountError`: something is mounted at a name.
        """
        try:
            with suppress(FileNotFoundError):
                os.unlink(_RECEIPT, dir_fd=self._own_fd)
            self._note({*children, *self._published})
            os.mkdir("old", 0o700, dir_fd=self._staging_fd)
            for number, target in enumerate(sorted(self._published - children.keys())):
                self._put_aside(target, f"gone.{number}")
            for number, (target, source) in enumerate(children.items()):
                self._move_in(source, target, f"old.{number}")
            self._note(set(children))
            text = msgspec.json.format(msgspec.json.encode(receipt), indent=2) + b"\n"
            write_file(self._own_fd, _RECEIPT, [text], durable=True)
        except OSError as error:
            if error.errno == errno.EBUSY:
                raise MountError("something is mounted in it where data belongs", where=self.path) from error
            raise from_os_error(error, doing="publish in the volume", where=self.path) from error

    def _move_in(self, source: str, target: str, old: str) -> None:
        with ExitStack() as undo:
            *above, name = source.split("/")
            *owner, goal = target.split("/")
            source_fd = self._below(self._staging_fd, above, undo)
            target_fd = self._below(self._fd, owner, undo, make=True)
            if _lies_there(goal, target_fd):
                if _exchanged(source_fd, name, target_fd, goal):
                    return
                self._put_aside(target, old)
            os.rename(name, goal, src_dir_fd=source_fd, dst_dir_fd=target_fd)

    def _put_aside(self, target: str, old: str) -> None:
        with ExitStack() as undo, suppress(FileNotFoundError):
            *owner, name = target.split("/")
            old_fd = self._below(self._staging_fd, ["old"], undo)
            os.rename(name, old, src_dir_fd=self._below(self._fd, owner, undo), dst_dir_fd=old_fd)

    def _is_taken(self, target: str) -> bool:
        *owner, name = target.split("/")
        with ExitStack() as undo:
            try:
                return _lies_there(name, self._below(self._fd, owner, undo))
            except FileNotFoundError:
                return False
            except NotADirectoryError:
                return True
            except OSError as error:
                if error.errno == errno.ELOOP:
                    return True
                raise from_os_error(error, doing="look into the volume", where=self.path) from error

    def _below(self, fd: int, parts: Sequence[str], undo: ExitStack, *, make: bool = False) -> int:
        for part in parts:
            if make:
                with suppress(FileExistsError):
                    os.mkdir(part, 0o755, dir_fd=fd)
            fd = _opened(part, fd, undo)
        return fd

    def _read_published(self) -> set[str]:
        """Names that may be replaced: a job that could write here could have removed each of them itself."""
        try:
            data = read_regular(_PUBLISHED, dir_fd=self._own_fd, most=_MOST_BYTES)
            names = msgspec.json.decode(data, type=set[str])
        except FileNotFoundError:
            return set()
        except (msgspec.MsgspecError, ValueError) as error:
            raise HostError("is damaged", where=f"{self.path}/{STATE_NAME}/{_PUBLISHED}", hint="remove it") from error
        return {name for name in names if not {"", ".", "..", STATE_NAME} & set(name.split("/"))}

    def _note(self, names: set[str]) -> None:
        write_file(self._own_fd, _PUBLISHED, [msgspec.json.encode(sorted(names)), b"\n"], durable=True)

    def _throw_away(self) -> None:
        try:
            found = os.lstat(_STAGING, dir_fd=self._own_fd)
        except FileNotFoundError:
            return
        if stat.S_ISDIR(found.st_mode):
            remove_at(_STAGING, self._own_fd)
        else:
            os.unlink(_STAGING, dir_fd=self._own_fd)


def _opened(path: str, dir_fd: int | None, undo: ExitStack) -> int:
    fd = os.open(path, _DIRECTORY if dir_fd is None else _BELOW, dir_fd=dir_fd)
    undo.callback(os.close, fd)
    return fd


def _exchanged(one_fd: int, one: str, other_fd: int, other: str) -> bool:
    try:
        exchange(one_fd, one, other_fd, other)
    except OSError as error:
        if error.errno not in _CANNOT_EXCHANGE:
            raise
        return False
    return True


def _lies_there(name: str, dir_fd: int) -> bool:
    try:
        os.lstat(name, dir_fd=dir_fd)
    except FileNotFoundError:
        return False
    return True
