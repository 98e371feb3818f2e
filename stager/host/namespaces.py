"""The namespaces a view is made in, and what forbids them on a node that does."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from stager.errors import MountError
from stager.host import syscalls

__all__ = ["KINDS", "children_are_apart", "enter", "hint", "join", "make_job_namespace", "part"]

KINDS: Final = {
    "user": syscalls.CLONE_NEWUSER,
    "ipc": syscalls.CLONE_NEWIPC,
    "pid_for_children": syscalls.CLONE_NEWPID,
    "mnt": syscalls.CLONE_NEWNS,
}
"""What a view consists of, by its name in /proc/PID/ns, in the order in which it is joined: the user namespace gives
the right to the others, and in the new mounts /proc may be another's.
"""


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


def part() -> None:
    """Leave the node's IPC namespace; the children of this process get a PID namespace of their own. `MountError`."""
    try:
        syscalls.unshare(syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWPID)
    except OSError as error:
        raise MountError(
            f"cannot make namespaces for processes: {error.strerror}", where="profile strict", hint=hint()
        ) from error


def children_are_apart() -> bool:
    """Whether this process's children are in another PID namespace than itself."""
    try:
        return not os.path.samestat(os.stat("/proc/self/ns/pid"), os.stat("/proc/self/ns/pid_for_children"))
    except FileNotFoundError:  # nobody is in it yet
        return True


def join(namespaces: Mapping[str, int]) -> None:
    """Move this process into open namespaces, named as `KINDS` has them, which are another process's.

    Its next child is the first one in their PID namespace. `MountError` when the kernel refuses.
    """
    for name, kind in KINDS.items():
        try:
            if not os.path.samestat(os.fstat(namespaces[name]), os.stat(f"/proc/self/ns/{name}")):
                syscalls.enter_namespace(namespaces[name], kind)
        except OSError as error:
            raise MountError(
                f"cannot join the job's view: {error.strerror}", where=f"{name} namespace", hint="is it your job?"
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


def make_job_namespace() -> int:
    """A descriptor of the job's user namespace: the one entered, or for root one below it with every id of it.

    `MountError` when the node does not allow it.
    """
    try:
        if os.geteuid() != 0:
            return os.open("/proc/self/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        return _make_below()
    except OSError as error:
        raise MountError(
            f"cannot confine the job: {error.strerror}", where="user namespaces", hint=hint()
        ) from error


def _make_below() -> int:
    """Made by a child, because whoever makes a user namespace is in it."""
    told, tell = os.pipe()
    held, hold = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(hold)
        try:
            syscalls.unshare(syscalls.CLONE_NEWUSER)
            # In a control group namespace of its own, a job of root could set its own limits; in 0 of them it cannot.
            with suppress(OSError):
                _write("/proc/sys/user/max_cgroup_namespaces", "0")
            os.write(tell, b"0")
            os.read(held, 1)
        except OSError as error:
            os.write(tell, b"%d" % (error.errno or 0))
        finally:
            os._exit(0)
    os.close(tell)
    os.close(held)
    try:
        if number := int(os.read(told, 16) or b"1"):
            raise OSError(number, os.strerror(number))
        _map_every_id(child)
        return os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(told)
        os.close(hold)
        os.waitpid(child, 0)


def _map_every_id(child: int) -> None:
    """Every id that exists here exists in the child's user namespace under the same number."""
    for kind in ("uid_map", "gid_map"):
        with open(f"/proc/self/{kind}", encoding="ascii") as file:
            extents = [line.split() for line in file]
        same = "".join(f"{first} {first} {count}\n" for first, _, count in extents)
        with open(f"/proc/{child}/{kind}", "w", encoding="ascii") as file:
            file.write(same)
