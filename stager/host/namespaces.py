"""The namespaces a view is made in, and what forbids them on a node that does."""

from __future__ import annotations

import os

from stager.errors import MountError
from stager.host import syscalls

__all__ = ["enter", "hint", "map_every_id"]


def enter() -> None:
    """Move this process into mount (and, without privilege, user) namespaces of its own.

    `MountError` when the node does not allow it, naming the switch that forbids it.
    """
    uid, gid = os.geteuid(), os.getegid()
    try:
        if not (uid == 0 and _try_privileged()):
            syscalls.unshare(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS)
            _write("/proc/self/setgroups", "deny")
            _write("/proc/self/uid_map", f"{uid} {uid} 1")
            _write("/proc/self/gid_map", f"{gid} {gid} 1")
        syscalls.set_propagation("/", syscalls.MS_REC | syscalls.MS_SLAVE)
    except OSError as error:
        raise MountError(
            f"cannot make a mount namespace: {error.strerror}", where="user namespaces", hint=hint()
        ) from error


def _try_privileged() -> bool:
    try:
        syscalls.unshare(syscalls.CLONE_NEWNS)
    except PermissionError:
        return False
    return True


def hint() -> str:
    """Which of the known switches forbids user namespaces here."""
    switches = (
        ("/proc/sys/kernel/unprivileged_userns_clone", "0", "1"),
        ("/proc/sys/user/max_user_namespaces", "0", "at least 1000"),
        ("/proc/sys/user/max_mnt_namespaces", "0", "at least 1000"),
        ("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1", "0, or give stager an AppArmor profile"),
    )
    found = [f"set {path} to {wanted}" for path, bad, wanted in switches if _read_setting(path) == bad]
    return "; ".join(found) or "the administrator of this node has to allow unprivileged user namespaces"


def _read_setting(path: str) -> str | None:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return None


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def map_every_id(child: int) -> None:
    """Every id that exists here exists in the child's user namespace under the same number."""
    for kind in ("uid_map", "gid_map"):
        with open(f"/proc/self/{kind}", encoding="ascii") as file:
            extents = [line.split() for line in file]
        same = "".join(f"{first} {first} {count}\n" for first, _, count in extents)
        with open(f"/proc/{child}/{kind}", "w", encoding="ascii") as file:
            file.write(same)
