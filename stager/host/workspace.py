"""A destination and its state directory, opened once and held by descriptor.

``STATE/`` holds ``manifest.jsonl``, ``journal``, ``receipt.json``, ``lock``, one ``tmp.*`` directory per run, and where
there is need ``former.jsonl`` and ``foreign.json``.
Correctness does not rest on the lock: temporaries have a directory of their own and renames are atomic.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
from typing import Final, Self

from stager.errors import BusyError, HostError, UsageError, from_os_error
from stager.host.atomic import open_regular
from stager.host.folding import folds_when_written, seems_to_fold
from stager.host.names_in import names_in
from stager.host.trash import remove_temporary

__all__ = ["STATE_NAME", "Workspace", "boot_id"]

STATE_NAME: Final = ".stager"
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_LOCK_NAME: Final = "lock"
_TMP: Final = "tmp."
_FOREIGN_WRITE: Final = 0o022
_STALE: Final = re.compile(
    r"tmp\.[0-9a-f]{16}|\.(manifest\.jsonl|former\.jsonl|foreign\.json|receipt\.json|journal)\.[0-9a-f]{16}"
)


class Workspace:
    """An open destination. ``root_fd`` is None only for a dry run into a directory that is not there yet."""

    def __init__(self, root: str, state: str | None, *, read_only: bool) -> None:
        """Open, making what is missing and taking the lease unless ``read_only``. Blocks.

        Raises `UsageError` (no directory; the state directory is on another file system), `HostError` (not
        allowed, a symlink in place of the state directory), `BusyError`, `NoSpaceError`.
        """
        self.root = os.path.abspath(root)
        self.root_fd: int | None = None
        self.state_fd: int | None = None
        self.tmp_fd: int | None = None
        self.fresh = True
        self.folds_names = False
        self._lock_fd: int | None = None
        self._tmp = ""
        self._state = os.path.join(self.root, STATE_NAME) if state is None else os.path.abspath(state)
        self._made: list[str] = []  # directories, the deepest first
        try:
            self._open(state, read_only)
        except OSError as error:
            self.close()
            named = isinstance(error.filename, (str, bytes)) and error.filename  # or a descriptor, or nothing
            raise from_os_error(error, doing="open the destination", where=named or self.root) from error
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def descriptors(self) -> tuple[int, int, int]:
        """(root, state, tmp) of a workspace that is not read-only."""
        if self.root_fd is None or self.state_fd is None or self.tmp_fd is None:
            raise ValueError("the workspace is read-only")
        return self.root_fd, self.state_fd, self.tmp_fd

    def free(self) -> tuple[int, int | None, int]:
        """Bytes and inodes (None: the file system does not count them) this user may still use, and its block size.

        Raises `HostError`.
        """
        root_fd, _, _ = self.descriptors()
        try:
            found = os.fstatvfs(root_fd)
        except OSError as error:
            raise from_os_error(error, doing="ask for free space", where=self.root) from error
        return found.f_bavail * found.f_frsize, found.f_favail if found.f_files else None, found.f_frsize

    def share(self) -> None:
        """Keep others from working here while a read-only workspace is read. Raises `BusyError`, `HostError`."""
        if self.state_fd is None:
            return
        try:
            self._lock_fd = open_regular(_LOCK_NAME, os.O_RDONLY, dir_fd=self.state_fd)
            self._lock(fcntl.LOCK_SH)
        except (FileNotFoundError, PermissionError):
            return
        except OSError as error:
            raise from_os_error(error, doing="take the lock", where=self.root) from error

    def close(self) -> None:
        """Remove this run's temporaries, and what it made if nothing came into it; give the lease back. Idempotent."""
        try:
            if self._tmp:
                remove_temporary(self._tmp, dir_fd=self.state_fd)
                self._tmp = ""
            if self._made:
                self._remove_if_empty()
        finally:
            self._close_all()

    def _close_all(self) -> None:
        for name in ("tmp_fd", "_lock_fd", "state_fd", "root_fd"):
            fd = getattr(self, name)
            if fd is not None:
                setattr(self, name, None)
                with contextlib.suppress(OSError):  # nothing of a dataset was written through it
                    os.close(fd)

    def _remove_if_empty(self) -> None:
        made, self._made = self._made, []
        with contextlib.suppress(OSError):
            alone = self._lock_fd is not None and self._state in made
            if alone and self.state_fd is not None and names_in(self.state_fd) == [_LOCK_NAME]:
                os.unlink(_LOCK_NAME, dir_fd=self.state_fd)
            for path in made:
                os.rmdir(path)

    def _open(self, state: str | None, read_only: bool) -> None:
        try:
            if read_only:
                self.folds_names = seems_to_fold(self.root)
            else:
                self._make(self.root, 0o777)
            self.root_fd = os.open(self.root, _DIRECTORY)
        except FileNotFoundError:
            if read_only:
                return
            raise
        except (NotADirectoryError, FileExistsError) as error:
            raise UsageError("is not a directory", where=self.root, hint="DST is a directory") from error
        with os.scandir(self.root_fd) as entries:
            self.fresh = all(entry.name == STATE_NAME for entry in entries)
        try:
            self.state_fd = self._open_state(state, make=not read_only)
        except FileNotFoundError:
            if read_only:
                return
            raise
        if read_only:
            return
        if os.fstat(self.state_fd).st_dev != os.fstat(self.root_fd).st_dev:
            raise UsageError(
                "the state directory is on another file system than the destination", where=state or "",
                hint="finished files are renamed out of it: choose one on the same file system",
            )
        self._take_lease()
        self._make_tmp(self.root_fd)
        if state is None:
            self._refuse_what_others_change()

    def _open_state(self, state: str | None, *, make: bool) -> int:
        if state is not None:
            if make:
                self._make(self._state, 0o700)
            return os.open(state, _DIRECTORY)
        if make:
            with contextlib.suppress(FileExistsError):
                os.mkdir(STATE_NAME, 0o700, dir_fd=self.root_fd)
                self._made.insert(0, self._state)
        try:
            return os.open(STATE_NAME, _DIRECTORY | os.O_NOFOLLOW, dir_fd=self.root_fd)
        except (NotADirectoryError, OSError) as error:
            if isinstance(error, FileNotFoundError):
                raise
            raise HostError(
                f"{STATE_NAME} is not a directory that can be used", where=self.root, hint="move it away"
            ) from error

    def _refuse_what_others_change(self) -> None:
        """What is recorded here is believed, and git is told to write here by a path. The directory of this run says
        what is ours: over NFS that may be another user, and where there are no modes it is open as well.
        """
        if self.state_fd is None or self.tmp_fd is None:
            raise ValueError("no state directory")
        found, ours = os.fstat(self.state_fd), os.fstat(self.tmp_fd)
        if found.st_uid != ours.st_uid or found.st_mode & ~ours.st_mode & _FOREIGN_WRITE:
            raise HostError(
                f"somebody else can change {STATE_NAME}", where=self.root, hint="look what is there, and move it away"
            )

    def _make(self, path: str, mode: int) -> None:
        missing = []
        above = path
        while not os.path.lexists(above):
            missing.append(above)
            above = os.path.dirname(above)
        os.makedirs(path, mode=mode, exist_ok=True)
        self._made[:0] = missing

    def _take_lease(self) -> None:
        if self.state_fd is None:
            raise ValueError("no state directory")
        self._lock_fd = open_regular(_LOCK_NAME, os.O_RDWR | os.O_CREAT, dir_fd=self.state_fd)
        if os.fstat(self._lock_fd).st_nlink > 1:  # what is written here would be written to another file too
            os.close(self._lock_fd)
            self._lock_fd = None
            os.unlink(_LOCK_NAME, dir_fd=self.state_fd)
            self._lock_fd = open_regular(_LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_EXCL, dir_fd=self.state_fd)
        self._lock(fcntl.LOCK_EX)
        os.ftruncate(self._lock_fd, 0)
        os.pwrite(self._lock_fd, b"%d\n" % os.getpid(), 0)

    def _lock(self, kind: int) -> None:
        if self._lock_fd is None:
            raise ValueError("no lock")
        try:
            fcntl.flock(self._lock_fd, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            told = os.read(self._lock_fd, 32).strip()
            holder = told.decode() if told.isdigit() else "unknown"
            raise BusyError(
                f"another stager (process {holder}) is working here", where=self.root,
                hint="wait for it to end",
            ) from None

    def _make_tmp(self, root_fd: int) -> None:
        """Sweep what dead runs left and make this run's directory."""
        if self.state_fd is None:
            raise ValueError("no state directory")
        with os.scandir(self.state_fd) as entries:
            stale = [entry for entry in entries if _STALE.fullmatch(entry.name)]
        for entry in stale:
            if entry.is_dir(follow_symlinks=False):
                remove_temporary(entry.name, dir_fd=self.state_fd)
            else:
                os.unlink(entry.name, dir_fd=self.state_fd)
        self._tmp = _TMP + secrets.token_hex(8)
        os.mkdir(self._tmp, 0o700, dir_fd=self.state_fd)
        self.tmp_fd = os.open(self._tmp, _DIRECTORY | os.O_NOFOLLOW, dir_fd=self.state_fd)
        self.folds_names = folds_when_written(self.tmp_fd, root_fd)


def boot_id() -> str:
    """The kernel's id of this boot; empty where it cannot be read, which matches no boot."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""
