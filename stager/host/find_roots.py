"""Where on this node data could lie: the roots that are named, and the file systems that are found.

Found are local file systems mounted where this user may write, one directory each: the mount point, or ``scratch`` or
``tmp`` in it. What is the system's own, removable, a home or an image in a file is no candidate, and what is mounted
without the right to execute is one that cannot be used.
File systems of memory are for those who ask for them. Network file systems are only looked for on a node that has
nothing else, and are asked first whether they answer, in a process that can be given up.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from stager.host.mounts import Row, is_network, lies_within, mount_of_path, read_fstab, read_mountinfo
from stager.host.probe import Probe, probe_directories
from stager.host.roots import Node, examine
from stager.host.scratch import DEFAULT_TOP
from stager.placement import DeviceClass, Origin, Root

__all__ = ["Named", "find_roots", "this_node"]

_ANSWER_WITHIN_S: Final = 5.0
_SYSTEM: Final = (
    "/boot", "/dev", "/efi", "/etc", "/export", "/home", "/media", "/opt", "/proc", "/root", "/run", "/snap", "/srv",
    "/sys", "/usr", "/var",
)  # fmt: skip
"""What has another purpose (hier(7)): root may write all of it."""

_FOR_ALL: Final = ("/dev/shm", "/var/scratch", "/var/tmp")  # noqa: S108  (of these the ones for everybody's files)
_DISK_TYPES: Final = frozenset(
    "bcachefs btrfs ext2 ext3 ext4 f2fs jfs nilfs2 overlay reiserfs xfs zfs".split()  # noqa: SIM905 (a table)
)
"""Local file systems with owners and modes; not those of media and of boot loaders."""

_IN_MEMORY: Final = frozenset({"tmpfs", "ramfs"})
_BELOW: Final = ("", "scratch", "tmp")

Ask = Callable[[Sequence[str]], list[Probe]]


class Named(NamedTuple):
    """A root that somebody named, and the class it is said to be of, if any."""

    path: str
    origin: Origin
    device_class: DeviceClass | None = None


def this_node() -> Node:
    """The node we run on, as it is now. OSError: there is no /proc."""
    return Node(rows=read_mountinfo(), fstab=read_fstab())


def _ask(paths: Sequence[str]) -> list[Probe]:
    return probe_directories(paths, limit_s=_ANSWER_WITHIN_S)


def find_roots(
    node: Node,
    named: Sequence[Named],
    environ: Mapping[str, str],
    *,
    discover: bool = True,
    clone: bool = False,
    ask: Ask = _ask,
) -> list[Root]:
    """Every candidate, also those that cannot be used, with why: the named ones first, one for each path.

    ``discover``: others are looked for, and the default is among them. ``clone``: reflinks are tried. Blocks. Never
    raises but OSError where a process cannot be started.
    """
    roots = _named_roots(node, named, clone, ask)
    if not discover:
        return roots
    known = {root.device for root in roots if not root.problem and root.device}
    for origin, places in _places(node, environ):
        root = _first_usable(node, places, origin, clone)
        if root is None or (root.origin == "found" and (root.device in known or _is_a_file(root))):
            continue
        roots.append(root)
        if not root.problem:
            known.add(root.device)
    if not any(_is_disk(root) for root in roots):
        roots += _network_roots(node, {root.path for root in roots}, clone, ask)
    return roots


def _is_a_file(root: Root) -> bool:
    """A mounted image is no disk of its own, and somebody's."""
    return any(disk.backing for disk in root.disks)


def _is_disk(root: Root) -> bool:
    return not root.problem and root.device_class not in (DeviceClass.RAM, DeviceClass.NETWORK)


def _named_roots(node: Node, named: Sequence[Named], clone: bool, ask: Ask) -> list[Root]:
    """With a network file system about, a path may lead to it: then each is asked first."""
    wanted = list({entry.path: entry for entry in reversed(named)}.values())[::-1]
    silent = _silent([entry.path for entry in wanted], node, ask)
    return [
        _silent_root(entry.path, entry.origin)
        if entry.path in silent
        else examine(entry.path, node, origin=entry.origin, device_class=entry.device_class, clone=clone)
        for entry in wanted
    ]


def _silent(paths: Sequence[str], node: Node, ask: Ask) -> frozenset[str]:
    if not paths or not any(is_network(row.fstype) for row in node.rows):
        return frozenset()
    return frozenset(probe.path for probe in ask(paths) if probe.error == -1)


def _silent_root(path: str, origin: Origin) -> Root:
    return Root(path=path, origin=origin, device_class=DeviceClass.NETWORK, told="it does not answer",
                problem="does not answer")  # fmt: skip


def _places(node: Node, environ: Mapping[str, str]) -> Iterator[tuple[Origin, list[str]]]:
    """Directories to try, of one file system each; the default first."""
    yield "default", [DEFAULT_TOP]
    home = os.path.normpath(environ.get("HOME", "")) if environ.get("HOME", "").startswith("/") else ""
    for row in node.rows:
        if row.mountpoint == "/" or "ro" in row.options or _is_system(row.mountpoint):
            continue
        if row.fstype not in _IN_MEMORY and row.fstype not in _DISK_TYPES:
            continue
        if home and lies_within(row.mountpoint, home) and home != "/":
            continue
        if node.exists(row.mountpoint) and node.row_of(row.mountpoint) == row:  # it is not mounted over
            yield "found", _below(row)


def _is_system(mountpoint: str) -> bool:
    return mountpoint not in _FOR_ALL and any(lies_within(mountpoint, top) for top in _SYSTEM)


def _below(row: Row) -> list[str]:
    return [os.path.join(row.mountpoint, name) if name else row.mountpoint for name in _BELOW]


def _first_usable(node: Node, places: Sequence[str], origin: Origin, clone: bool) -> Root | None:
    """The first that can be used; else the first, with why it cannot. None: nothing of a found one is this user's."""
    roots = []
    for place in places:
        if place is not places[0] and not node.exists(place):
            continue
        root = examine(place, node, origin=origin, clone=clone)
        if not root.problem:
            return root
        roots.append(root)
    return roots[0] if roots else None


def _network_roots(node: Node, known: set[str], clone: bool, ask: Ask) -> list[Root]:
    rows = [
        row for row in node.rows
        if is_network(row.fstype) and "ro" not in row.options and row.mountpoint not in known
        and mount_of_path(row.mountpoint, node.rows) == row
    ]  # fmt: skip
    silent = _silent([row.mountpoint for row in rows], node, ask)
    roots = []
    for row in rows:
        if row.mountpoint in silent:
            roots.append(_silent_root(row.mountpoint, "found"))
        elif (root := _first_usable(node, _below(row), "found", clone)) is not None:
            roots.append(root)
    return roots
