"""Which root a dataset goes to, and what is said where it cannot go anywhere."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from stager.errors import HostError, NoRoomError, NoRootError
from stager.keeping import Item, Quota
from stager.placement import DeviceClass, Root, Rules, Wanted
from stager.stages.place_policy import are_equal, best_for_all, choose, choose_places, in_order, within_quota

GIB = 1 << 30
NO_FLOOR = Rules(floor_bytes=0, floor_share=0.0, memory_bytes=8 * GIB)


def root(path: str, kind: str, *, free: int = 100 * GIB, **more: Any) -> Root:
    more = {"device": path, "total_bytes": 1000 * GIB, "free_inodes": 10_000, "total_inodes": 10_000, **more}
    return Root(path=path, origin="found", device_class=DeviceClass(kind), told="", free_bytes=free, **more)


def want(name: str = "a/x", gib: float = 1, files: int = 10, place: str = "any") -> Wanted:
    return Wanted(name=name, bytes=int(gib * GIB), files=files, place=place)


AWS = [root("/var/tmp", "virtual", root_disk=True), root("/data", "virtual"), root("/nvme", "instance-nvme", free=GIB),
       root("/dev/shm", "ram"), root("/efs", "network", free=1 << 60)]  # fmt: skip


def test_fastest_class_that_has_room_wins_and_why_is_said() -> None:
    small, large = choose(AWS, [want(gib=1), want("a/y", gib=2)], NO_FLOOR)
    assert (small.root.path, large.root.path) == ("/nvme", "/data")
    assert small.why == "the best class with room (instance-nvme)"
    assert "/nvme (instance-nvme) needs 2.0 GiB and 10 inodes, has 1.0 GiB and 10,000 inodes" in large.why


def test_root_disk_comes_last_of_its_class_and_is_named() -> None:
    only_root = [replace(root, free_bytes=0) if root.path in ("/data", "/nvme") else root for root in AWS]
    (placed,) = choose(only_root, [want()], NO_FLOOR)
    assert placed.root.path == "/var/tmp"
    assert placed.why.endswith("; it is the root disk")


def test_full_disks_are_an_error_with_every_root_and_never_a_reason_for_the_network() -> None:
    with pytest.raises(NoRoomError) as caught:
        choose(AWS, [want(gib=200, files=20_000)], NO_FLOOR)
    assert caught.value.exit_code == 5
    reasons = "\n".join(caught.value.problems)
    assert "a/x: /nvme: needs 200.0 GiB and 20,000 inodes, has 1.0 GiB and 10,000 inodes above the floor" in reasons
    assert "a/x: /efs: is network: only where there is no disk" in reasons
    assert len(caught.value.problems) == len(AWS)


def test_network_is_taken_when_it_is_the_only_one_and_memory_when_there_is_not_even_that() -> None:
    diskless = [root("/dev/shm", "ram"), root("/scratch", "network"), root("/nvme", "nvme", problem="is read-only")]
    (placed,) = choose(diskless, [want()], NO_FLOOR)
    assert (placed.root.path, "on the network" in placed.why) == ("/scratch", True)
    (placed,) = choose(diskless[:1], [want()], NO_FLOOR)
    assert (placed.root.path, "in memory" in placed.why) == ("/dev/shm", True)


def test_memory_is_taken_when_asked_for_and_only_within_the_memory_limit() -> None:
    (placed,) = choose(AWS, [want(gib=4, place="ram")], NO_FLOOR)
    assert placed.root.path == "/dev/shm"
    with pytest.raises(NoRoomError, match=r"has 1\.0 GiB and 9,990 inodes within the memory limit"):
        choose(AWS, [want(gib=3, place="ram"), want("a/y", gib=2, place="ram")], NO_FLOOR)


@pytest.mark.parametrize(("place", "said"), [("nvme", "is virtual, not nvme"), ("/elsewhere", "is not /elsewhere")])
def test_place_that_there_is_not_is_an_error_that_names_all_there_are(place: str, said: str) -> None:
    roots = [root("/var/tmp", "virtual", root_disk=True), root("/old", "nvme", problem="you cannot write there")]
    with pytest.raises(NoRootError) as caught:
        choose(roots, [want(place=place)], NO_FLOOR)
    assert caught.value.exit_code == 6
    assert caught.value.problems == (f"a/x: /var/tmp: {said}", "a/x: /old: you cannot write there")


def test_path_that_was_asked_for_is_taken_whatever_it_is() -> None:
    (placed,) = choose(AWS, [want(place="/efs")], NO_FLOOR)
    assert placed.root.path == "/efs"


def test_equal_devices_share_datasets_by_room_and_load() -> None:
    four = [root(f"/nvme{number}", "nvme") for number in range(4)]
    placed = choose(four, [want(f"a/{number}") for number in range(8)], NO_FLOOR)
    assert Counter(each.root.path for each in placed) == {f"/nvme{number}": 2 for number in range(4)}
    busy = [replace(four[0], busy=1.0), four[1]]
    assert choose(busy, [want()], NO_FLOOR)[0].root.path == "/nvme1"
    roomy = [replace(four[0], free_bytes=300 * GIB, busy=1.0), four[1]]
    assert choose(roomy, [want()], NO_FLOOR)[0].root.path == "/nvme0"


def test_root_measured_to_be_slow_comes_after_the_others_of_its_class() -> None:
    roots = [root("/a", "nvme", free=500 * GIB, rate=0.4e9), root("/b", "nvme", rate=1e9), root("/c", "nvme")]
    assert [each.path for each in in_order(roots)] == ["/b", "/c", "/a"]
    assert choose(roots, [want()], NO_FLOOR)[0].root.path == "/b"
    assert choose(roots, [want(gib=200)], NO_FLOOR)[0].root.path == "/a"


def test_floor_is_the_larger_of_bytes_and_share() -> None:
    one = [root("/a", "ssd", free=100 * GIB)]
    for rules in (Rules(floor_bytes=50 * GIB, floor_share=0.0), Rules(floor_bytes=0, floor_share=0.05)):
        assert choose(one, [want(gib=50)], rules)[0].why == "the only place there is"
        with pytest.raises(NoRoomError, match=r"has 50\.0 GiB"):
            choose(one, [want(gib=50.1)], rules)


@pytest.mark.parametrize(("origin", "why"), [("option", "--scratch"), ("environment", "STAGER_SCRATCH")])
def test_scratch_that_was_asked_for_is_said_to_be(origin: str, why: str) -> None:
    asked = replace(root("/a", "ssd"), origin=origin)
    assert choose([asked], [want()], NO_FLOOR)[0].why == f"asked for by {why}"


def test_roots_of_one_file_system_share_its_room() -> None:
    both = [root("/a", "ssd", free=3 * GIB, device="8:1"), root("/a/b", "ssd", free=3 * GIB, device="8:1")]
    with pytest.raises(NoRoomError):
        choose(both, [want(gib=2), want("a/y", gib=2)], NO_FLOOR)


def test_job_lies_together_where_all_of_it_fits_but_for_what_insists_on_another_place() -> None:
    (placed,) = choose_places(AWS, [want(gib=0.6), want("a/y", gib=0.6)], NO_FLOOR)
    assert (placed.root.path, placed.wanted.bytes, placed.names) == ("/data", 2 * int(0.6 * GIB), ("a/x", "a/y"))
    apart = choose_places(AWS, [want(), want("a/y", place="ram"), want("a/z", 0)], NO_FLOOR)
    assert {one.names: one.root.path for one in apart} == {("a/x", "a/z"): "/nvme", ("a/y",): "/dev/shm"}
    with pytest.raises(NoRoomError) as caught:
        choose_places(AWS, [want(gib=5, place="nvme"), want("a/y", gib=9, place="ram")], NO_FLOOR)
    assert {problem[:4] for problem in caught.value.problems} == {"a/x:", "a/y:"}


def test_datasets_share_equal_disks_by_their_room_and_two_directories_of_one_disk_are_one() -> None:
    equal = [root("/a", "nvme"), root("/b", "nvme"), root("/b/c", "nvme", device="/b"), root("/hdd", "hdd")]
    wanted = [want(f"a/{name}", gib) for name, gib in (("v", 40), ("w", 30), ("x", 20), ("y", 10))]
    shared = choose_places(equal, wanted, NO_FLOOR, spread=True)
    assert {one.names[0]: one.root.path for one in shared} == {
        "a/v": "/a", "a/w": "/b", "a/x": "/b", "a/y": "/a"
    }  # fmt: skip
    assert are_equal(equal)
    assert not are_equal(equal[1:])
    assert not are_equal([equal[0], replace(equal[1], root_disk=True)])
    asked = choose_places(equal, [replace(wanted[0], place="/b/c"), wanted[1]], NO_FLOOR, spread=True)
    assert [one.root.path for one in asked] == ["/b/c", "/a"]


ROOTS = st.lists(
    st.builds(
        root,
        st.sampled_from("abcdef").map(lambda letter: f"/{letter}"),
        st.sampled_from(list(DeviceClass)),
        free=st.integers(0, 20).map(lambda gib: gib * GIB),
        device=st.sampled_from(["1:1", "1:2", "1:3", "1:4"]),
        free_inodes=st.none() | st.integers(0, 60),
        total_inodes=st.just(100),
        total_bytes=st.just(100 * GIB),
        root_disk=st.booleans(),
        busy=st.floats(0, 1),
        rate=st.none() | st.floats(1, 1e9),
        problem=st.sampled_from(["", "", "is read-only"]),
    ),
    max_size=6,
    unique_by=lambda root: root.path,
).map(lambda roots: list({root.device: root for root in roots}.values()))
WANTED = st.lists(
    st.builds(
        want, st.sampled_from("pqrstu"), st.integers(0, 12), st.integers(0, 30),
        st.sampled_from(["any", "any", "any", "nvme", "ram", "/a"]),
    ),
    max_size=6,
)  # fmt: skip
RULES = st.builds(
    Rules, floor_bytes=st.integers(0, 2).map(lambda gib: gib * GIB), floor_share=st.sampled_from([0.0, 0.03]),
    memory_bytes=st.integers(0, 10).map(lambda gib: gib * GIB),
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(ROOTS, WANTED, RULES)
def test_whatever_is_placed_fits_and_is_allowed_there_and_whatever_is_refused_is_explained(
    roots: list[Root], wanted: list[Wanted], rules: Rules
) -> None:
    try:
        placed = choose(roots, wanted, rules)
    except HostError as error:
        problems = list(getattr(error, "problems", ()))
        assert len(problems) >= max(1, len(roots))
        if len(wanted) == 1:
            check_refused(roots, wanted[0], rules)
        return
    assert [each.wanted for each in placed] == wanted
    assert choose(list(reversed(roots)), wanted, rules) == placed
    disks = [root for root in roots if not root.problem and root.device_class not in ("ram", "network")]
    for used in roots:
        here = [each for each in placed if each.root == used]
        if not here:
            continue
        floor = max(rules.floor_bytes if used.device_class != "ram" else 0, int(rules.floor_share * used.total_bytes))
        assert not used.problem
        assert sum(each.wanted.bytes for each in here) <= max(0, used.free_bytes - floor)
        if used.free_inodes is not None:
            assert sum(each.wanted.files for each in here) <= max(0, used.free_inodes - int(rules.floor_share * 100))
        for each in here:
            asked = each.wanted.place
            assert asked != "nvme" or used.device_class in ("nvme", "instance-nvme")
            assert asked != "ram" or used.device_class == "ram"
            assert not asked.startswith("/") or used.path == asked
            assert asked != "any" or not disks or used in disks
    memory = sum(each.wanted.bytes for each in placed if each.root.device_class == "ram")
    assert memory <= rules.memory_bytes * rules.ram_share


@settings(max_examples=150, deadline=None)
@given(ROOTS, st.integers(0, 25).map(lambda gib: want(gib=gib)), st.integers(0, 80), RULES)
def test_root_that_is_best_for_all_is_what_any_amount_gets_that_fits_anywhere(
    roots: list[Root], wanted: Wanted, files: int, rules: Rules
) -> None:
    best = best_for_all(roots, rules)
    if best is None:
        return
    wanted = replace(wanted, files=files)
    for each in (rules, replace(rules, floor_bytes=0, floor_share=0.0)):
        try:
            (placed,) = choose(roots, [wanted], each)
        except HostError:
            continue
        assert placed.root == best


def test_it_depends_on_the_amount_when_a_slower_disk_has_more_room() -> None:
    assert best_for_all(AWS, NO_FLOOR) is None
    fast = [replace(each, free_bytes=200 * GIB) if each.path == "/nvme" else each for each in AWS]
    chosen = best_for_all(fast, NO_FLOOR)
    assert chosen is not None and chosen.path == "/nvme"


def check_refused(roots: list[Root], wanted: Wanted, rules: Rules) -> None:
    """One dataset that was refused fits on no disk that can be used."""
    for each in roots:
        if each.problem or wanted.place != "any" or each.device_class in ("ram", "network"):
            continue
        floor = max(rules.floor_bytes, int(rules.floor_share * each.total_bytes))
        inodes = each.free_inodes is None or wanted.files <= each.free_inodes - int(rules.floor_share * 100)
        assert not (wanted.bytes <= each.free_bytes - floor and inodes)


def kept(name: str, gib: float, used: int, *, inodes: int = 10, **more: bool) -> Item:
    return Item(
        name=name, path=f"/c/{name}", source=f"s3://b/{name}", bytes=int(gib * GIB), inodes=inodes, last_use_s=used,
        is_pinned=more.get("pinned", False), in_use=more.get("in_use", False),
    )  # fmt: skip


OLD, NEW = kept("old", 2, 1), kept("new", 2, 2)
PINNED, USED = kept("p", 9, 0, pinned=True), kept("u", 9, 0, in_use=True)


def test_what_a_cache_could_do_without_is_room_and_no_more_goes_than_is_needed() -> None:
    roots = [root("/nvme", "nvme", free=GIB, kept=(NEW, PINNED, OLD, USED)), root("/hdd", "hdd")]
    fitting, evicting, more, too_much = (choose(roots, [want(gib=gib)], NO_FLOOR)[0] for gib in (1, 2, 4, 6))
    assert [placed.root.path for placed in (fitting, evicting, more, too_much)] == ["/nvme", "/nvme", "/nvme", "/hdd"]
    assert [placed.evicted for placed in (fitting, evicting, more)] == [(), (OLD,), (OLD, NEW)]
    assert "has 1.0 GiB and 10,000 inodes, and 4.0 GiB that its cache could do without, above" in too_much.why


def test_what_goes_makes_up_for_a_floor_that_is_not_free_already() -> None:
    roots = [root("/nvme", "nvme", free=GIB, kept=(OLD, NEW)), root("/hdd", "hdd")]
    floor = replace(NO_FLOOR, floor_bytes=3 * GIB)
    assert choose(roots, [want(gib=2)], floor)[0].evicted == (OLD, NEW)
    assert choose(roots, [want(gib=2.1)], floor)[0].root.path == "/hdd"
    assert choose(roots, [want(gib=0, files=1)], floor)[0].evicted == ()


def test_what_a_cache_exceeds_its_quota_by_once_it_has_the_data_goes_too() -> None:
    mine = kept("mine", 1, 0)
    roots = [root("/nvme", "nvme", free=2 * GIB, kept=(OLD, mine, NEW, PINNED))]
    wanted = [replace(want(gib=3), kept_as=("mine",)), want("a/y", gib=0.5)]  # 14 GiB kept of 16.5
    placed = choose_places(roots, wanted, NO_FLOOR)
    assert placed[0].evicted == (OLD,)  # 0.5 GiB are left then, and 14 kept
    for quota, more in (
        (Quota(share=1.0), ()),
        (Quota(share=1.0, bytes=14 * GIB), ()),
        (Quota(share=1.0, bytes=14 * GIB - 1), (NEW,)),
        (Quota(share=1.0, bytes=1), (NEW,)),  # neither what is pinned, nor the data itself
        (Quota(share=1.0, inodes=30), ()),
        (Quota(share=1.0, inodes=29), (NEW,)),
        (Quota(share=1.0, floor_bytes=GIB // 2), ()),
        (Quota(share=1.0, floor_bytes=GIB), (NEW,)),
        (Quota(share=0.9), (NEW,)),
    ):
        assert within_quota(placed, wanted, quota)[0].evicted == (OLD, *more), quota


def test_inodes_come_free_as_bytes_do() -> None:
    roots = [root("/nvme", "nvme", free_inodes=5, kept=(OLD, NEW))]
    assert choose(roots, [want(files=25)], NO_FLOOR)[0].evicted == (OLD, NEW)
    with pytest.raises(NoRoomError):
        choose(roots, [want(files=26)], NO_FLOOR)


def test_of_equals_the_one_that_has_the_data_is_first_then_one_where_nothing_has_to_go() -> None:
    full = root("/a", "nvme", free=GIB, kept=(OLD, NEW))
    empty = root("/b", "nvme", free=3 * GIB)
    has = root("/c", "nvme", free=2 * GIB, kept=(kept("mine", 2, 1),))
    two = replace(want(gib=2), kept_as=("mine",))
    assert choose([full, empty], [two], NO_FLOOR)[0].root is empty
    found = choose([full, empty, has], [two], NO_FLOOR)[0]
    assert (found.root, found.evicted) == (has, ())
    assert found.why.endswith("and of 3 such the one with most data in its cache")
    faster = root("/d", "instance-nvme")
    assert choose([has, faster], [two], NO_FLOOR)[0].root is faster


def test_data_that_is_there_takes_no_room_again_where_it_is_shared_and_never_goes() -> None:
    mine = kept("mine", 5, 0)
    full = root("/a", "nvme", free=GIB, kept=(mine, OLD), shares=True)
    five = replace(want(gib=5), kept_as=("mine",))
    assert choose([full], [five], NO_FLOOR)[0].evicted == ()
    with pytest.raises(NoRoomError, match=r"needs 5\.0 GiB"):
        choose([replace(full, shares=False)], [five], NO_FLOOR)
    other = want("a/y", gib=3)
    placed = choose([full], [five, other], NO_FLOOR)
    assert [item for one in placed for item in one.evicted] == [OLD]
    with pytest.raises(NoRoomError):
        choose([full], [five, other, want("a/z", gib=1)], NO_FLOOR)


def test_place_for_any_amount_is_that_of_the_data_only_where_it_has_the_most_room() -> None:
    has = root("/c", "nvme", free=200 * GIB, kept=(kept("mine", 2, 1),))
    other = root("/b", "nvme", free=100 * GIB)
    assert best_for_all([has, other], NO_FLOOR, ["mine"]) is has
    assert best_for_all([replace(has, free_bytes=GIB), other], NO_FLOOR, ["mine"]) is None
