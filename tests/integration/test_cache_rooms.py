"""What goes from the cache for want of room or inodes, or by its quota: just what the plan said, and nothing in use."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from integration.job_driver import Node, Outcome
from integration.real_disks import loop, mount
from servers.s3 import object_bytes
from servers.strict_s3 import StrictS3
from stager.host.cache_items import items_in
from stager.keeping import total

pytestmark = pytest.mark.root

MIB = 1 << 20
INODES = 640
NO_LIMITS = '[placement]\nfloor = "0%"\n[cache]\nshare = "100%"\n'


@pytest.fixture
def node(strict: StrictS3) -> Iterator[Node]:
    """Its scratch on an ext4 with few inodes, below a directory that is no disk of its own."""
    top = Path(tempfile.mkdtemp(prefix="stager-disk-"))
    with loop(top / "image", 96 * MIB) as device:
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-N", str(INODES), device], check=True)
        with mount(top / "disk", "ext4", device):
            (top / "disk/scratch").mkdir(mode=0o700)
            yield Node(top / "disk", {**strict.environment(), "XDG_CONFIG_HOME": str(top / "disk/config")})
    shutil.rmtree(top)


def settings(node: Node, text: str) -> None:
    path = node.root / "config/stager/stager.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def wants(node: Node, *buckets: str) -> None:
    node.write_job("".join(f'[[dataset]]\nname = "o/{name}"\nsource = "s3://{name}/"\n' for name in buckets))


def run(node: Node, job: str, *command: str) -> Outcome:
    return node.stager("run", "--job-id", job, "JOB.toml", "--", *(command or ("true",)))


def kept(node: Node) -> list[str]:
    """The buckets whose trees are kept, the longest unused first."""
    items = sorted(items_in(str(node.scratch)), key=lambda item: item.last_use_s)
    return [item.source.removeprefix("s3://").rstrip("/") for item in items]


def keep(node: Node, strict: StrictS3, **objects: dict[str, bytes]) -> None:
    """Have a tree of each kept, in this order of use."""
    for name, content in objects.items():
        strict.buckets[name] = content
        wants(node, name)
        assert run(node, f"first-{name}").code == 0


def fill(node: Node, left: int) -> None:
    """All but so many bytes of the disk."""
    free = os.statvfs(node.root)
    with (node.root / f"others-{left}").open("ab") as file:
        os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize - left)


def of(mib: int, seed: int) -> dict[str, bytes]:
    return {"x": object_bytes(mib * MIB, seed)}


def many(number: int) -> dict[str, bytes]:
    return {f"{name}": b"x" for name in range(number)}


def planned(node: Node) -> list[str]:
    done = node.stager("plan", "JOB.toml", "--json")
    assert done.code == 0, done.err
    return [item["source"].removeprefix("s3://").rstrip("/") for item in done.event("placed")["evicted"]]


def test_just_what_the_plan_names_goes_for_bytes_inodes_quota_and_floor(node: Node, strict: StrictS3) -> None:
    settings(node, NO_LIMITS)
    keep(node, strict, a=of(8, 1), b=many(120), c=of(8, 2), d=many(60), e=of(8, 3))
    fill(node, 5 * MIB)
    free = os.statvfs(node.root).f_favail
    strict.buckets |= {"bytes": of(9, 4), "inodes": many(free + 50), "quota": of(2, 5)}
    strict.buckets |= {"number": many(20), "floor": of(1, 6)}
    for wanted, said, goes in (
        ("bytes", NO_LIMITS, "a"),
        ("inodes", NO_LIMITS, "b"),
        ("quota", NO_LIMITS + 'max_bytes = "20M"\n', "c"),
        ("number", NO_LIMITS + "max_inodes = KEPT\n", "d"),
        ("floor", NO_LIMITS.replace('"0%"', '"14M"'), "e"),
    ):
        inodes = total(items_in(str(node.scratch))).inodes
        settings(node, said.replace("KEPT", str(inodes)))
        wants(node, wanted)
        before = kept(node)
        assert planned(node) == [goes]
        assert kept(node) == before
        done = run(node, wanted)
        assert done.code == 0, done.err
        assert kept(node) == [name for name in before if name != goes] + [wanted]


def test_tree_of_a_running_job_stays_and_the_next_goes_or_the_job_that_wants_room_is_refused(
    node: Node, strict: StrictS3
) -> None:
    settings(node, NO_LIMITS)
    keep(node, strict, used=of(8, 1), next=of(8, 2))
    strict.buckets |= {"large": of(12, 3), "larger": of(20, 4), "job": of(1, 5)}
    wants(node, "used")
    go = ["sh", "-c", "mkfifo /logs/go; echo here; read line < /logs/go; wc -c < /data/o/used/x"]
    with node.start("run", "--job-id", "running", "JOB.toml", "--", *go) as running, ExitStack() as undo:
        undo.callback(running.kill)
        assert running.stdout is not None
        assert running.stdout.readline() == "here\n"
        (path,) = [item.path for item in items_in(str(node.scratch)) if item.source == "s3://used/"]
        for uses in Path(path).glob("*/uses"):
            os.utime(uses, (1, 1))  # as if for long
        assert kept(node) == ["used", "next"]
        fill(node, 6 * MIB)
        wants(node, "larger")
        refused = run(node, "larger")
        assert (refused.code, "20971520 bytes are needed" in refused.err) == (125, True), refused.err
        assert kept(node)[:2] == ["used", "next"]
        wants(node, "large")
        assert planned(node) == ["next"]
        done = run(node, "large")
        assert done.code == 0, done.err
        assert "for want of room the cache has no longer s3://next/ (8.0 MiB)" in done.err
        assert "next" not in kept(node) and "used" in kept(node)
        (node.tree("running") / "logs/go").write_text("go\n")
        assert running.stdout.readline() == f"{8 * MIB}\n"
        running.communicate()


def test_pinned_trees_that_exceed_the_quota_stay_and_are_said_to(node: Node, strict: StrictS3) -> None:
    settings(node, NO_LIMITS)
    keep(node, strict, pinned=of(8, 1), other=of(1, 2))
    (name,) = [item.name for item in items_in(str(node.scratch)) if "pinned" in item.source]
    assert node.stager("cache", "pin", name).code == 0
    settings(node, NO_LIMITS + 'max_bytes = "7M"\n')
    wants(node, "pinned")
    assert planned(node) == ["other"]
    done = run(node, "again")
    assert "what is pinned in the cache takes 8.0 MiB of the 7.0 MiB it may have; stager cache unpin" in done.err
    assert (done.code, kept(node)) == (0, ["pinned"])
