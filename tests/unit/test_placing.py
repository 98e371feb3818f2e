"""When a job has to be sized before it is placed, and what a floor that nobody asked for may do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from stager.errors import NoRoomError
from stager.host import scratch
from stager.host.placement_settings import PlacementSettings, chosen_placement
from stager.host.record import JobDirectory
from stager.job.order import open_job
from stager.job.placing import must_be_sized, open_known_job, place_sized
from stager.model import JobSpec
from stager.placement import DeviceClass, Root, Rules, Wanted
from stager.stages.place import place
from stager.stages.place_candidates import Candidates, scratch_in

GIB = 1 << 30
FLOOR = PlacementSettings(file="/f", floor_bytes=GIB)


def root(path: str, kind: str, free: int, **more: Any) -> Root:
    more = {"origin": "configuration", **more}
    return Root(path=path, device_class=DeviceClass(kind), told="", device=path, free_bytes=free * GIB,
                total_bytes=1000 * GIB, **more)  # fmt: skip


def found(*roots: Root, user: PlacementSettings | None = None) -> Candidates:
    chosen = chosen_placement(PlacementSettings(), user or PlacementSettings())
    return Candidates(roots=roots, rules=replace(chosen.rules, memory_bytes=GIB), chosen=chosen, asked=False)


def want(gib: float) -> list[Wanted]:
    return [Wanted(name="a/x", bytes=int(gib * GIB), files=1)]


def test_sources_are_not_listed_for_a_place_that_is_the_same_whatever_they_hold() -> None:
    nvme, disk = root("/nvme", "nvme", 900), root("/disk", "hdd", 100)
    assert not must_be_sized(found(nvme, disk), [])
    assert must_be_sized(found(replace(nvme, free_bytes=50 * GIB), disk), [])
    assert must_be_sized(found(nvme, disk), ["ram"])
    assert must_be_sized(found(nvme, user=FLOOR), [])
    assert not must_be_sized(found(), [])
    placed = place_sized(found(nvme, disk), want(0), sure=False)
    assert [one.root for one in placed] == [nvme]


def test_floor_that_nobody_configured_decides_between_places_and_refuses_none() -> None:
    assert Rules().floor_share == 0.02
    nvme, disk = root("/nvme", "nvme", 40), root("/disk", "hdd", 100)
    near = place_sized(found(nvme, disk), want(30), sure=True)
    assert [one.root for one in near] == [disk]
    only = place_sized(found(nvme), want(30), sure=True)
    assert [one.root for one in only] == [nvme]
    with pytest.raises(NoRoomError, match=r"has 39\.0 GiB"):
        place_sized(found(nvme, user=FLOOR), want(39.5), sure=True)


def test_default_that_cannot_be_used_says_itself_why() -> None:
    default = root("/var/tmp", "virtual", 1, origin="default", problem="is not a directory that only you can write")
    assert place_sized(found(default), want(0), sure=False) == []


@pytest.mark.parametrize(("origin", "own"), [("found", True), ("job", True), ("configuration", False)])
def test_place_that_nobody_gave_to_stager_is_entered_by_a_directory_of_our_own(origin: str, own: bool) -> None:
    assert scratch_in(root("/mnt", "nvme", 1, origin=origin)).startswith("/mnt/stager-") == own


def test_scratch_that_is_not_to_be_seen_from_here_is_known_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = tmp_path / "default"
    top.mkdir()
    top.chmod(0o1777)
    monkeypatch.setattr(scratch, "DEFAULT_TOP", str(top))
    hidden = tmp_path / "hidden"
    (hidden / "jobs").mkdir(parents=True, mode=0o700)
    scratch.remember_scratch(str(hidden))
    hidden.rename(tmp_path / "away")
    scratch.remember_scratch(str(tmp_path / "other"))
    (tmp_path / "away").rename(hidden)
    assert str(hidden / "jobs") in scratch.known_scratches({})


def test_scratch_of_a_job_is_not_forgotten_when_another_is_remembered_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One without jobs in it yet is dropped from a long list by whoever adds to it."""
    monkeypatch.setattr(scratch, "_KNOWN_MOST", 1)
    top = tmp_path / "default"
    top.mkdir()
    top.chmod(0o1777)
    monkeypatch.setattr(scratch, "DEFAULT_TOP", str(top))
    for name in ("mine", "other"):
        (tmp_path / name).mkdir(mode=0o700)
    create = JobDirectory.create

    def meanwhile(*arguments: Any, **more: Any) -> JobDirectory:
        scratch.remember_scratch(str(tmp_path / "other"))
        return create(*arguments, **more)

    monkeypatch.setattr(JobDirectory, "create", meanwhile)
    placement = place(str(tmp_path / "mine"), {})
    open_job(JobSpec(name="j"), "j-1", placement, {}).__exit__()
    assert str(tmp_path / "mine") in scratch.used_scratches()
    with open_known_job("j-1", None, {}) as job:
        assert job.path == f"{tmp_path}/mine/jobs/j-1"
