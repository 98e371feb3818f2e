"""What may be mounted on this node, tried in a process of its own whose mounts end with it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Final

from stager.errors import MountError
from stager.host import namespaces, syscalls
from stager.host.launch import give_up, start_module

__all__ = ["main", "try_mounts"]

_LIMIT_S: Final = 20.0
_PLACE: Final = "/tmp"  # noqa: S108  (it is covered with a tmpfs first, where only this process sees it)


def try_mounts() -> dict[str, str]:
    """Each ability by its name, "" when it is there, else why not. Blocks, at most 20 s. OSError: no process started.

    The names: "user namespace", "mount namespace", "tmpfs", "bind", "read-only bind", "overlay", "fuse".
    """
    child = start_module(__name__, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        output, _ = child.communicate(timeout=_LIMIT_S)
    except subprocess.TimeoutExpired:
        output = b""
        give_up(child)
    found = dict(json.loads(line) for line in output.splitlines() if line)
    return {name: found.get(name, "not tried: an earlier one failed") for name, _ in _TRIES}


def main() -> None:
    """Entry point of the child: one JSON line for each ability; what needs the mount namespace ends where it failed."""
    for name, attempt in _TRIES:
        try:
            why = attempt() or ""
        except MountError as error:
            why = str(error)
        except OSError as error:
            why = (error.strerror or str(error)).lower()
        sys.stdout.write(json.dumps([name, why]) + "\n")
        sys.stdout.flush()
        if why and name in ("mount namespace", "tmpfs"):
            return


def _try_user_namespace() -> str | None:
    """In a child: whoever makes one is in it."""
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        why = ""
        try:
            syscalls.unshare(syscalls.CLONE_NEWUSER)
        except OSError as error:
            why = f"{(error.strerror or str(error)).lower()}: {namespaces.hint()}{_profile()}"
        os.write(tell, why.encode("utf-8", "replace"))
        os._exit(0)
    os.close(tell)
    with open(told, encoding="utf-8") as answer:
        why = answer.read()
    _, status = os.waitpid(child, 0)
    return why or (f"killed by {signal.Signals(status & 127).name}" if status & 127 else None)


def _profile() -> str:
    """The AppArmor profile or SELinux context that this process runs under, when it is confined."""
    try:
        with open("/proc/self/attr/current", encoding="utf-8", errors="replace") as file:
            profile = file.read().strip("\0\n ")
    except OSError:
        return ""
    return "" if profile in ("", "unconfined") else f" (confined as {profile})"


def _enter() -> None:
    namespaces.enter()


def _tmpfs() -> None:
    tree = syscalls.make_tmpfs(mode="0700")
    syscalls.attach_tree(tree, _PLACE)
    os.close(tree)
    for name in ("a", "b", "c", "lower", "upper", "work", "merged"):
        os.mkdir(f"{_PLACE}/{name}")


def _bind() -> None:
    tree = syscalls.clone_tree(f"{_PLACE}/a")
    syscalls.attach_tree(tree, f"{_PLACE}/b")
    os.close(tree)


def _read_only() -> str | None:
    tree = syscalls.clone_tree(f"{_PLACE}/a")
    syscalls.set_mount_attributes(
        tree, add=syscalls.MOUNT_ATTR_RDONLY, propagation=syscalls.MS_PRIVATE, recursive=True
    )  # fmt: skip
    syscalls.attach_tree(tree, f"{_PLACE}/c")
    os.close(tree)
    try:
        os.mkdir(f"{_PLACE}/c/x")
    except OSError:
        return None
    return "it can be written"


def _overlay() -> None:
    layers = [os.open(f"{_PLACE}/{name}", os.O_PATH | os.O_DIRECTORY) for name in ("lower", "upper", "work")]
    tree = syscalls.make_overlay(*layers)
    syscalls.attach_tree(tree, f"{_PLACE}/merged")
    for descriptor in (tree, *layers):
        os.close(descriptor)


def _fuse() -> None:
    os.close(os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC))


_TRIES: Final[tuple[tuple[str, Callable[[], str | None]], ...]] = (
    ("user namespace", _try_user_namespace),
    ("fuse", _fuse),
    ("mount namespace", _enter),
    ("tmpfs", _tmpfs),
    ("bind", _bind),
    ("read-only bind", _read_only),
    ("overlay", _overlay),
)
