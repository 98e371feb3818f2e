"""Where datasets go: the policy on one page, and the pure function that follows it.

1. A root that cannot be used (not writable, unsafe, silent) is never chosen.
2. ``place = "/path"`` means that directory, ``"nvme"`` a root of NVMe disks, ``"ram"`` one of memory. What was asked
   for is had or refused; nothing else is taken instead.
3. Without that, in this order: a cloud's NVMe disk inside the host, NVMe, SSD, disks of a kind that is not known
   (virtual ones), rotating disks. The first class with room wins; within one, the disk of the system comes last, and so
   does a root that was measured to write less than half as fast as the best of its class.
4. Of equals first the one whose cache has most of what is wanted; then one where nothing has to go from the cache;
   then the one with most room for each who uses it: room / (1 + datasets placed there now + how busy it is).
5. Network file systems only when there is no disk that can be used at all; memory, unasked, only when there is neither.
6. Room is what is free less the floor: the larger of two settings, a number of bytes and a share of the file system; of
   inodes only the share. Of memory there is no more room than a share of what the memory limit leaves. Roots on one
   file system share one room.
7. What its cache could do without (`stager.keeping`) counts with a root's room, and goes where that is needed, or where
   the cache would exceed its quota with the data. What the cache has of the data itself stays, and takes no room again
   where it can be shared.
8. The data of a job lies together, but for what insists on another place. Where places are mounted for the job anyhow,
   its datasets share several equal disks, by rule 4.
9. The largest datasets are placed first, those that may lie only in one place before those that may lie anywhere.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Final, NamedTuple

from msgspec.structs import replace as changed

from stager.amounts import about_bytes
from stager.errors import HostError, NoRoomError, NoRootError
from stager.keeping import Amount, Item, Quota, Room, longest_unused, over_quota, total
from stager.names import show
from stager.placement import ANYWHERE, DeviceClass, Placed, Root, Rules, Wanted

__all__ = [
    "ORDER", "are_equal", "best_for_all", "choose", "choose_places", "in_order", "to_reserve", "usable_for",
    "within_quota",
]  # fmt: skip

ORDER: Final = (
    DeviceClass.INSTANCE, DeviceClass.NVME, DeviceClass.SSD, DeviceClass.VIRTUAL, DeviceClass.HDD,
    DeviceClass.NETWORK, DeviceClass.RAM,
)  # fmt: skip
"""From the best to the last resort."""

_NVME: Final = frozenset({DeviceClass.INSTANCE, DeviceClass.NVME})
_ASKED: Final = {"option": "--scratch", "environment": "STAGER_SCRATCH"}  # by where a root comes from
_SLOW: Final = 0.5  # of the best measured rate of its class: less is another league


def choose(roots: Sequence[Root], wanted: Iterable[Wanted], rules: Rules) -> list[Placed]:
    """A place for each dataset, in the order of ``wanted``.

    Raises `NoRoomError` when one fits nowhere that it may lie, `NoRootError` when there is no such place; either names
    for every dataset that has none every root and why not.
    """
    wanted = list(wanted)
    taken = _Taken(rules, spared=frozenset(name for want in wanted for name in want.kept_as))
    placed: dict[int, Placed] = {}
    problems: list[str] = []
    full = False
    for number in sorted(range(len(wanted)), key=lambda number: _urgency(wanted[number])):
        want = wanted[number]
        found = _place(want, roots, taken)
        if isinstance(found, Placed):
            placed[number] = found
            taken.add(found)
            continue
        full = full or found.full
        problems += [f"{show(os.fsencode(want.name))}: {reason}" for reason in found.reasons]
    if problems:
        raise _refusal(problems, full=full)
    return [placed[number] for number in range(len(wanted))]


def choose_places(
    roots: Sequence[Root], wanted: Sequence[Wanted], rules: Rules, *, spread: bool = False
) -> list[Placed]:
    """The places for a job: one for all that does not insist on another; with ``spread`` each dataset has its own.

    Raises as `choose`.
    """
    groups: dict[str, list[Wanted]] = {}
    for want in wanted:
        groups.setdefault(want.name if spread else want.place, []).append(want)
    if spread:
        roots = _one_a_file_system(roots, {want.place for want in wanted})
    parts = list(groups.values())
    placed = choose(roots, [_together(part) for part in parts], rules)
    return [changed(one, names=tuple(want.name for want in part)) for one, part in zip(placed, parts, strict=True)]


def are_equal(roots: Sequence[Root]) -> bool:
    """Whether datasets that may lie anywhere could share several roots that are as good as each other."""
    usable = _one_a_file_system(usable_for(ANYWHERE, roots))
    best = min((_rank(root, usable) for root in usable), default=None)
    return sum(_rank(root, usable) == best for root in usable) > 1


def in_order(roots: Sequence[Root]) -> list[Root]:
    """As rule 3 prefers them, whatever has to fit; those that cannot be used at the end."""
    return sorted(roots, key=lambda root: (bool(root.problem), *_rank(root, roots), -root.free_bytes, root.path))


def usable_for(place: str, roots: Sequence[Root]) -> list[Root]:
    """The roots that data may lie in that asks for ``place``, whatever fits: rules 1, 2 and 5."""
    usable = [root for root in roots if not root.problem]
    if place.startswith("/"):
        return [root for root in usable if root.path == place]
    if place == "nvme":
        return [root for root in usable if root.device_class in _NVME]
    if place == "ram":
        return [root for root in usable if root.device_class is DeviceClass.RAM]
    disks = [root for root in usable if root.device_class not in (DeviceClass.NETWORK, DeviceClass.RAM)]
    network = [root for root in usable if root.device_class is DeviceClass.NETWORK]
    return disks or network or usable


def best_for_all(roots: Sequence[Root], rules: Rules, kept_as: Sequence[str] = ()) -> Root | None:
    """The root that data goes to, however much it is, when it asks for no place and fits anywhere: the best one that
    has at least as much room as each other, above the floor and in all. None: that depends on how much it is.

    ``kept_as``: the names under which a cache would have it.
    """
    usable = usable_for(ANYWHERE, roots)
    if not usable:
        return None
    rooms = [_Taken(rules), _Taken(changed(rules, floor_bytes=0, floor_share=0.0))]
    best = min(usable, key=lambda root: (_rank(root, usable), -_held(root, kept_as), -rooms[0].share(root), root.path))
    for taken in rooms:
        room, files = taken.room(best)
        others = [taken.room(root) for root in usable]
        if any(other_room > room or other_files > files for other_room, other_files in others):
            return None
    return best


def within_quota(placed: Sequence[Placed], wanted: Sequence[Wanted], quota: Quota) -> list[Placed]:
    """The same, with what goes besides so that each cache keeps to its quota once it has all of ``wanted``."""
    found: list[Placed] = []
    for one in placed:
        beside = [other for other in placed if _file_system(other.root) == _file_system(one.root)]
        here = [other for other in beside if other.root.path == one.root.path]
        if one is here[0]:
            gone = {item.name for other in here for item in other.evicted}
            coming = [_as_kept(want) for other in here for want in wanted if want.name in other.names and want.kept_as]
            stays = [item for item in one.root.kept if item.name not in gone | {item.name for item in coming}]
            going = over_quota([*stays, *coming], quota, _room_after(one.root, beside))
            one = changed(one, evicted=(*one.evicted, *going))
        found.append(one)
    return found


def _as_kept(want: Wanted) -> Item:
    return Item(
        name=want.kept_as[0], path="", source="", bytes=want.bytes, inodes=want.files, last_use_s=math.inf,
        is_pinned=False, in_use=True,
    )  # fmt: skip


def _room_after(root: Root, placed: Sequence[Placed]) -> Room:
    came = total(item for one in placed for item in one.evicted)
    written = [_needed(one.wanted, one.root) for one in placed]
    free = Amount(
        max(0, root.free_bytes + came.bytes - sum(needed.bytes for needed in written)),
        max(0, (root.free_inodes or 0) + came.inodes - sum(needed.inodes for needed in written)),
    )
    return Room(free, Amount(root.total_bytes, root.total_inodes or 0))


class _Nowhere(NamedTuple):
    """``full``: there is a place, but not the room."""

    full: bool
    reasons: list[str]


class _Taken:
    """What has been given away so far, by file system. ``spared``: names of what no cache gives up."""

    def __init__(self, rules: Rules, spared: frozenset[str] = frozenset()) -> None:
        self.rules = rules
        self._spared = spared
        self._bytes: Counter[str] = Counter()
        self._files: Counter[str] = Counter()
        self._datasets: Counter[str] = Counter()
        self._gone: set[tuple[str, str]] = set()
        self._memory = 0

    def add(self, placed: Placed) -> None:
        where, needed = _file_system(placed.root), _needed(placed.wanted, placed.root)
        came = total(placed.evicted)
        self._bytes[where] += needed.bytes - came.bytes
        self._files[where] += needed.inodes - came.inodes
        self._datasets[where] += 1
        self._gone |= {(placed.root.path, item.name) for item in placed.evicted}
        if placed.root.device_class is DeviceClass.RAM:
            self._memory += placed.wanted.bytes

    def room(self, root: Root) -> tuple[int, float]:
        """Bytes and inodes that may still be used."""
        room, files = self._above_floor(root)
        return max(0, room), max(0, files)

    def _above_floor(self, root: Root) -> tuple[int, float]:
        """The same; below 0: so much has to come free before."""
        rules, where = self.rules, _file_system(root)
        floor = max(rules.floor_bytes, int(rules.floor_share * root.total_bytes))
        files: float = math.inf
        if root.free_inodes is not None:
            kept = int(rules.floor_share * (root.total_inodes or 0))
            files = root.free_inodes - self._files[where] - kept
        if root.device_class is DeviceClass.RAM:
            floor = int(rules.floor_share * root.total_bytes)
            memory = int(rules.memory_bytes * rules.ram_share) - self._memory
            return min(root.free_bytes - self._bytes[where] - floor, memory), files
        return root.free_bytes - self._bytes[where] - floor, files

    def could_go(self, root: Root) -> list[Item]:
        """What its cache could still do without."""
        return [
            item
            for item in root.kept
            if item.may_go and item.name not in self._spared and (root.path, item.name) not in self._gone
        ]

    def missing(self, want: Wanted, root: Root) -> Amount:
        """What has to come free before it fits."""
        (room, files), needed = self._above_floor(root), _needed(want, root)
        return Amount(
            max(0, needed.bytes - room) if needed.bytes else 0,
            int(max(0, needed.inodes - files)) if needed.inodes else 0,
        )

    def share(self, root: Root) -> float:
        """Rule 4."""
        room, _ = self.room(root)
        return room / (1 + self._datasets[_file_system(root)] + root.busy)


def _together(part: Sequence[Wanted]) -> Wanted:
    """As one dataset; all of them want one place."""
    if len(part) == 1:
        return part[0]
    return Wanted(
        name=f"all {len(part)} datasets",
        bytes=sum(want.bytes for want in part),
        files=sum(want.files for want in part),
        place=part[0].place,
        kept_as=tuple(name for want in part for name in want.kept_as),
    )


def _one_a_file_system(roots: Sequence[Root], asked: Collection[str] = ()) -> list[Root]:
    """Two directories of one file system have nothing to share; of these the first in name, and what is asked for."""
    found: dict[str, Root] = {}
    for root in sorted(roots, key=lambda root: (bool(root.problem), root.path)):
        found.setdefault(_file_system(root), root)
    return [root for root in roots if found[_file_system(root)] is root or root.path in asked]


def _file_system(root: Root) -> str:
    return root.device or root.path


def _urgency(want: Wanted) -> tuple[bool, int, str]:
    return want.place == ANYWHERE, -want.bytes, want.name


def _place(want: Wanted, roots: Sequence[Root], taken: _Taken) -> Placed | _Nowhere:
    usable = [root for root in roots if not root.problem]
    allowed = usable_for(want.place, roots)
    fitting = [root for root in allowed if _fits(want, root, taken)]
    if fitting:
        best = min(
            fitting,
            key=lambda root: (
                _rank(root, usable), -_held(root, want.kept_as), any(taken.missing(want, root)),
                -taken.share(root), root.path,
            ),
        )  # fmt: skip
        evicted = longest_unused(taken.could_go(best), taken.missing(want, best))
        why = _why(want, best, allowed, usable, taken)
        return Placed(wanted=want, root=best, why=why, evicted=tuple(evicted))
    reasons = [f"{show(os.fsencode(root.path))}: {_why_not(want, root, allowed, taken)}" for root in in_order(roots)]
    return _Nowhere(bool(allowed), reasons or ["there is no place at all"])


def _rank(root: Root, others: Sequence[Root]) -> tuple[int, bool, bool]:
    """Rule 3."""
    best = max((other.rate or 0.0 for other in others if other.device_class is root.device_class), default=0.0)
    slow = root.rate is not None and root.rate < _SLOW * best
    return ORDER.index(root.device_class), root.root_disk, slow


def _fits(want: Wanted, root: Root, taken: _Taken) -> bool:
    missing, came = taken.missing(want, root), total(taken.could_go(root))
    return missing.bytes <= came.bytes and missing.inodes <= came.inodes


def _needed(want: Wanted, root: Root) -> Amount:
    """What has to be written there."""
    has = total(item for item in root.kept if item.name in want.kept_as) if root.shares else Amount(0, 0)
    return Amount(max(0, want.bytes - has.bytes), max(0, want.files - has.inodes))


def to_reserve(placed: Placed) -> Amount:
    """What has to be free there: what is written, less what goes from the cache before."""
    needed, gone = _needed(placed.wanted, placed.root), total(placed.evicted)
    return Amount(max(0, needed.bytes - gone.bytes), max(0, needed.inodes - gone.inodes))


def _held(root: Root, kept_as: Sequence[str]) -> int:
    """How much of it the root's cache has, in bytes."""
    return total(item for item in root.kept if item.name in kept_as).bytes


def _why(want: Wanted, best: Root, allowed: Sequence[Root], usable: Sequence[Root], taken: _Taken) -> str:
    if want.place != ANYWHERE:
        why = f'asked for by place = "{show(os.fsencode(want.place))}"'
    elif best.origin in _ASKED:
        why = f"asked for by {_ASKED[best.origin]}"
    elif len(allowed) == 1:
        why = "the only place there is"
    else:
        why = f"the best class with room ({best.device_class})"
        equals = [root for root in allowed if _rank(root, usable) == _rank(best, usable) and root is not best]
        if equals:
            most = "data in its cache" if _held(best, want.kept_as) else "room for each"
            why += f", and of {len(equals) + 1} such the one with most {most}"
    better = [root for root in allowed if _rank(root, usable) < _rank(best, usable)]
    if better:
        first = in_order(better)[0]
        why += f"; {show(os.fsencode(first.path))} ({first.device_class}) {_too_small(want, first, taken)}"
    if want.place == ANYWHERE and best.device_class is DeviceClass.NETWORK:
        why += "; this node has no disk that can be used, the data lies on the network"
    elif want.place == ANYWHERE and best.device_class is DeviceClass.RAM:
        why += "; this node has no disk that can be used, the data lies in memory"
    elif best.root_disk:
        why += "; it is the root disk"
    return why


def _why_not(want: Wanted, root: Root, allowed: Sequence[Root], taken: _Taken) -> str:
    if root.problem:
        return root.problem
    if root not in allowed:
        if want.place.startswith("/"):
            return f"is not {show(os.fsencode(want.place))}"
        if want.place != ANYWHERE:
            return f"is {root.device_class}, not {want.place}"
        return f"is {root.device_class}: only where there is no disk"
    return _too_small(want, root, taken)


def _too_small(want: Wanted, root: Root, taken: _Taken) -> str:
    room, files = taken.room(root)
    has = about_bytes(room) + ("" if files == math.inf else f" and {_inodes(int(files))}")
    if root.reserved_bytes:
        has += f" ({about_bytes(root.reserved_bytes)} more are reserved by stagers)"
    needed, came = _needed(want, root), total(taken.could_go(root))
    needs = f"{about_bytes(needed.bytes)} and {_inodes(needed.inodes)}"
    if any(came):
        has += f", and {about_bytes(came.bytes)} that its cache could do without,"
    if root.device_class is DeviceClass.RAM:
        return f"needs {needs}, has {has} within the memory limit and above the floor"
    return f"needs {needs}, has {has} above the floor"


def _inodes(number: int) -> str:
    return f"{number:,} inode{'' if number == 1 else 's'}"


def _refusal(problems: Sequence[str], *, full: bool) -> HostError:
    if full:
        return NoRoomError(
            "the data fits on no place that may be used", problems,
            hint="free some space, lower the floor in [placement], or name a directory with --scratch",
        )  # fmt: skip
    return NoRootError(
        "there is no place that the data may lie in", problems,
        hint="ask for another place, or name one under [placement] or with --scratch",
    )  # fmt: skip
