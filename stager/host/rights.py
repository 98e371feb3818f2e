"""With whose rights a view is made and its command run: the keeper's own, or, of root's keeper, those of a user.

For a user (`PrincipalRights`) nothing that the user's stager asks for is believed. Every path is looked up with the
user's effective ids and groups, and no capability but CAP_SYS_ADMIN is in effect, which mount calls need and no look-up
does; the real and the saved id stay root's, so that no process of the user's can signal or trace the keeper. Where
something may be mounted, and what, is checked here once more, on the opened source.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, NoReturn, Protocol, TypedDict

from stager import view_paths
from stager.errors import MountError
from stager.host import capabilities, landlock, mounts, namespaces, procs, rights_calls, syscalls

__all__ = ["NO_EXPORT", "JoinRequest", "OwnRights", "PrincipalRights", "Rights", "refuse_target", "why_not_allowed"]

_DATA: Final = re.compile(rf"{view_paths.DATA}/[^/]+/[^/]+")
_PUBLIC: Final = re.compile(rf"{view_paths.PUBLIC}/[^/]+")
_OTHERS: Final = (
    view_paths.CODE, view_paths.LOGS, view_paths.TASK, view_paths.TMP, view_paths.TMP_RAMFS,
    view_paths.MODULES, *view_paths.STORAGES,
)  # fmt: skip
_KEYS: Final = {"bind": ("bind mounts", "allowed_binds"), "public": ("public data", "allowed_public")}


NO_EXPORT: Final = "root mounts no NFS export for users; the site mounts it on the node, and allows binds of it"


class JoinRequest(TypedDict):
    """The view of another keeper, by descriptors that this process was started with: its namespaces, named as
    `stager.host.namespaces.KINDS` has them, its job's user namespace (None: it has none), and its
    pidfd.
    """

    namespaces: dict[str, int]
    job: int | None
    keeper: int


class Rights(Protocol):
    """What the keeper asks at the points where rights differ."""

    def enter(self) -> None:
        """Into a mount namespace of its own. `MountError`."""

    def joined(self, asked: JoinRequest | None) -> JoinRequest | None:
        """Which view is to be joined; None: one is to be made."""

    def join(self, opened: Mapping[str, int]) -> None:
        """Into the namespaces of another keeper. `MountError`."""

    def job_namespace(self) -> int | None:
        """A descriptor of the user namespace that holds the job, and nothing else but this process. `MountError`."""

    def admit(self, mount: Any, source: int) -> None:
        """Whether this `stager.host.view.MountRequest` may be made of its opened source, -1 for an export of NFS.
        `MountError`: it may not.
        """

    def confine(self, namespace: int | None) -> None:
        """In the forked child that becomes the job's command: what it may do from here. OSError."""

    def end_job(self, namespace: int | None) -> None:
        """End what is left of the job."""


class OwnRights:
    """The keeper's user is the job's: nothing to be checked, for the user could do it alone."""

    def enter(self) -> None:
        """See `Rights`."""
        namespaces.enter()

    def joined(self, asked: JoinRequest | None) -> JoinRequest | None:
        """See `Rights`."""
        return asked

    def join(self, opened: Mapping[str, int]) -> None:
        """See `Rights`."""
        namespaces.join(opened)

    def job_namespace(self) -> int | None:
        """See `Rights`."""
        return namespaces.make_job_namespace()

    def admit(self, mount: Any, source: int) -> None:
        """See `Rights`."""

    def confine(self, namespace: int | None) -> None:
        """See `Rights`."""
        is_root = os.geteuid() == 0
        if is_root and namespace is not None:
            syscalls.enter_namespace(namespace, syscalls.CLONE_NEWUSER)
        os.setsid()
        syscalls.forbid_new_privileges()
        capabilities.restrict(capabilities.kept_by_root() if is_root else 0)

    def end_job(self, namespace: int | None) -> None:
        """See `Rights`."""
        procs.end_descendants()
        if namespace is not None:
            procs.end_user_namespace(namespace)


class PrincipalRights:
    """Root's keeper for a user, with what the site allows, by the kind of mount: directories, with all below them, but
    of "storage" the shared one itself. ``namespace`` was made by whoever started it.
    """

    def __init__(
        self, uid: int, gid: int, groups: Sequence[int], allowed: Mapping[str, Sequence[str]],
        namespace: int | None, joined: JoinRequest | None,
    ) -> None:  # fmt: skip
        self._uid = uid
        self._gid = gid
        self._groups = list(groups)
        self._namespace = namespace
        self._joined = joined
        self._paths = allowed
        self._allowed: dict[str, list[int]] = {}
        self._targets: list[str] = []

    def enter(self) -> None:
        """See `Rights`."""
        try:
            syscalls.unshare(syscalls.CLONE_NEWNS)
            syscalls.set_propagation("/", syscalls.MS_REC | syscalls.MS_SLAVE)
            self._allowed = {kind: _open_all(paths) for kind, paths in self._paths.items()}
            self._act_as_user()
        except OSError as error:
            raise MountError(
                f"cannot make a mount namespace: {error.strerror}", where="root's part of stager",
                hint="root needs CAP_SYS_ADMIN, CAP_SETUID and CAP_SETGID on the node itself",
            ) from error

    def joined(self, asked: JoinRequest | None) -> JoinRequest | None:
        """See `Rights`: what root says."""
        return self._joined

    def join(self, opened: Mapping[str, int]) -> None:
        """See `Rights`."""
        namespaces.join(opened)
        self._act_as_user()

    def _act_as_user(self) -> None:
        os.setgroups(self._groups)
        os.setresgid(self._gid, self._gid, self._gid)
        os.setresuid(0, self._uid, 0)
        permitted = rights_calls.permitted_capabilities()
        rights_calls.set_capabilities(effective=rights_calls.SYS_ADMIN & permitted, permitted=permitted)

    def job_namespace(self) -> int | None:
        """See `Rights`."""
        return self._namespace

    def admit(self, mount: Any, source: int) -> None:
        """See `Rights`."""
        target, kind = str(mount["target"]), mount["kind"]
        if (why := refuse_target(target, self._targets)) is not None:
            raise MountError(why, where=ascii(target))
        self._targets.append(target)
        if mount["lower"] is not None:
            raise MountError("root mounts no overlay for a user", where=target)
        if mount["address"] is not None or kind == "nfs":
            raise MountError(NO_EXPORT, where=ascii(mount["source"]))
        here = os.readlink(f"/proc/self/fd/{source}")
        tops = [os.readlink(f"/proc/self/fd/{top}") for top in self._allowed.get(kind, ())]
        if kind not in ("bind", "public"):
            shared = target == view_paths.SHARED_STORAGE and here in tops
            if not shared and os.fstat(source).st_uid != self._uid:
                raise MountError("is not a directory of the user's", where=here)
            return
        if (refused := why_not_allowed(kind, here, tops)) is not None:
            raise MountError(refused, where=here)

    def confine(self, namespace: int | None) -> None:
        """See `Rights`."""
        os.setsid()
        rights_calls.leave_keyring()
        if namespace is not None:
            syscalls.enter_namespace(namespace, syscalls.CLONE_NEWUSER)
        else:
            permitted = rights_calls.permitted_capabilities()
            rights_calls.set_capabilities(effective=permitted, permitted=permitted)
        syscalls.forbid_new_privileges()
        if namespace is None:
            landlock.confine()
        rights_calls.lock_securebits()
        capabilities.restrict(0)
        os.setresgid(self._gid, self._gid, self._gid)
        os.setresuid(self._uid, self._uid, self._uid)
        if os.getresuid() != (self._uid,) * 3 or rights_calls.permitted_capabilities():
            _die()

    def end_job(self, namespace: int | None) -> None:
        """See `Rights`."""
        procs.end_descendants()  # with the user's id, which is all they can have
        if namespace is not None:
            os.seteuid(0)  # root alone sees who is in it
            procs.end_user_namespace(namespace)


def refuse_target(target: str, others: Sequence[str]) -> str | None:
    """Why nothing may be mounted there in a view; None: it may. ``others``: what is mounted already."""
    known = _DATA.fullmatch(target) or _PUBLIC.fullmatch(target) or target in _OTHERS
    if not known or os.path.normpath(target) != target or "\0" in target:
        return "is no place of a view's for data"
    if any(mounts.lies_within(target, other) or mounts.lies_within(other, target) for other in others):
        return "is mounted twice"
    return None


def why_not_allowed(kind: str, real: str, tops: Iterable[str]) -> str | None:
    """Why a user's source of a kind, "bind" or "public", may not be mounted; None: it may. No path has symlinks."""
    if any(mounts.lies_within(real, top) for top in tops):
        return None
    what, key = _KEYS[kind]
    return f"this site lets root mount no {what} of it for users; the administrator adds it to [principals] {key}"


def _open_all(paths: Sequence[str]) -> list[int]:
    """Descriptors of those that are there, opened as root; a network mount that is not mounted is not there."""
    found: list[int] = []
    for path in paths:
        with suppress(OSError):
            found.append(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
    return found


def _die() -> NoReturn:
    os._exit(126)
