"""From the cache into a tree that is used without a view, on each kind of file system: clones, or copies of bytes."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.clone_disk import used_bytes
from integration.job_driver import Node
from integration.other_user import python_for, readable_copy
from integration.real_disks import disk
from integration.test_cache import (
    CHANGES,
    JOB,
    MIB,
    OBJECTS,
    contents,
    dataset,
    fetched,
    kept_tree,
    node_on,
    stage,
)
from servers.repositories import make_repository
from servers.s3 import object_bytes
from servers.strict_s3 import StrictS3

pytestmark = pytest.mark.root

USER = 12_345
LARGE = {"large": object_bytes(34 * MIB, 3)}
"""A file that several threads copy together."""
WAYS = {"xfs": "clone", "btrfs": "clone", "ext4": "copy", "xfs without clones": "copy"}


@pytest.fixture
def place(kind: str) -> Iterator[Path]:
    """A disk of this kind, where every user can reach it."""
    top = Path(tempfile.mkdtemp(prefix="stager-disk-"))
    top.chmod(0o755)
    with disk(top / "disk", kind, size=384 * MIB):
        yield top / "disk"
    shutil.rmtree(top)


@pytest.fixture
def node(place: Path, strict: StrictS3) -> Iterator[Node]:
    with node_on(place, strict) as node:
        yield node


@pytest.mark.parametrize("kind", ["btrfs", "ext4", "xfs without clones"])
def test_second_job_fetches_nothing_and_has_a_tree_of_its_own(
    node: Node, place: Path, kind: str, strict: StrictS3
) -> None:
    objects = OBJECTS | LARGE | {change.__name__: object_bytes(70_000, at) for at, change in enumerate(CHANGES)}
    strict.buckets["bucket"] = dict(objects)
    first = stage(node, "one")
    assert contents(first) == objects
    fetched(strict)
    before = used_bytes(place)
    second = stage(node, "two")
    assert contents(second) == objects
    assert fetched(strict) == []
    size = sum(map(len, objects.values()))
    receipt, is_clone = dataset(node, "two"), WAYS[kind] == "clone"
    saved = {"shared_bytes": size if is_clone else 0, "not_fetched_bytes": size}
    assert receipt["cache"] == {"how": WAYS[kind], **saved}
    assert receipt["moved"] == {"objects": 0, "bytes": 0}
    assert used_bytes(place) - before < 4 * MIB if is_clone else used_bytes(place) - before >= size
    for change in CHANGES:  # C10
        change(second / change.__name__)
        assert (second / change.__name__).read_bytes() != objects[change.__name__]
    assert contents(first) == contents(kept_tree(node)) == objects


@pytest.mark.parametrize("kind", ["ext4"])
def test_disk_without_room_for_two_has_the_jobs_copy_alone(node: Node, place: Path, strict: StrictS3) -> None:
    strict.buckets["bucket"] = dict(LARGE)
    found = os.statvfs(place)
    others = place / "others"
    with others.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, found.f_bavail * found.f_frsize - 60 * MIB)
    done = node.stager("stage", "--job-id", "one", "JOB.toml")
    assert done.code == 0 and "no room to keep it" in done.err
    assert contents(node.tree("one") / "data/o/n") == LARGE
    assert dataset(node, "one")["cache"] == {}
    assert list((node.scratch / "cache/2").iterdir()) == []
    targets = [target for method, target in strict.requests if method == "GET" and "list-type" not in target]
    assert len(targets) == 3  # ranges of 16 MiB, each once
    os.truncate(others, others.stat().st_size - 60 * MIB)
    stage(node, "two")
    assert node.stager("teardown", "--discard-uncollected", "one").code == 0
    found = os.statvfs(place)
    with (place / "more").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, found.f_bavail * found.f_frsize - 10 * MIB)
    done = node.stager("stage", "--job-id", "three", "JOB.toml")
    assert done.code == 0, done.err
    assert contents(node.tree("three") / "data/o/n") == LARGE  # in the room of the tree that was kept
    assert list((node.scratch / "cache/2").iterdir()) == []


@pytest.mark.parametrize("kind", ["ext4"])
def test_tree_of_run_that_keeps_it_comes_out_of_the_cache(node: Node, strict: StrictS3) -> None:
    assert node.stager("run", "--job-id", "one", "JOB.toml", "--", "cat", "/data/o/n/d/b").out == "text\n"
    fetched(strict)
    done = node.stager("run", "--keep", "--job-id", "two", "JOB.toml", "--", "sh", "-c", "echo x > /data/o/n/e")
    assert done.code == 0, done.err
    assert fetched(strict) == []
    assert dataset(node, "two")["cache"]["how"] == "copy"  # type: ignore[index]
    assert contents(node.tree("two") / "data/o/n") == OBJECTS | {"e": b"x\n"}
    assert contents(kept_tree(node)) == OBJECTS


@pytest.mark.parametrize("kind", ["ext4"])
def test_read_only_dataset_without_a_view_is_said_to_be_a_copy(node: Node) -> None:
    node.write_job(JOB + 'access = "read-only"\n')
    done = node.stager("stage", "--job-id", "one", "JOB.toml")
    assert done.code == 0 and "o/n: access = \"read-only\" holds in the view" in done.err
    assert contents(node.tree("one") / "data/o/n") == OBJECTS


@pytest.mark.parametrize("kind", ["ext4"])
def test_who_may_list_and_not_read_gets_nothing_out_of_the_cache(node: Node, strict: StrictS3) -> None:
    stage(node, "one")
    fetched(strict)
    strict.listed_only.add("bucket")
    for job, command in (("two", ["stage"]), ("three", ["run"])):
        strict.requests.clear()
        end = ["--", "true"] if command == ["run"] else []
        done = node.stager(*command, "--job-id", job, "JOB.toml", *end)
        assert done.code == (125 if end else 3) and "s3://bucket/a" in done.err and "denie" in done.err, done.err
        assert not (node.tree(job) / "data/o/n/a").exists()
        assert [method for method, target in strict.requests if "list-type" not in target] == ["HEAD", "GET"]
    strict.listed_only.clear()
    strict.requests.clear()
    assert contents(stage(node, "four")) == OBJECTS
    assert [method for method, target in strict.requests if "list-type" not in target] == ["HEAD"]


@pytest.mark.parametrize("kind", ["ext4"])
def test_what_a_kept_listing_names_is_proved_too(node: Node, strict: StrictS3) -> None:
    """Nothing is listed then, and the bucket is not asked where it is before."""
    assert contents(stage(node, "one", "--save-listing", str(node.root / "listings"))) == OBJECTS
    node.write_job(JOB + 'frozen = "listings/data/o/n.jsonl"\n')
    stage(node, "two")
    strict.regions["bucket"] = "eu-central-1"
    strict.requests.clear()
    assert contents(stage(node, "three")) == OBJECTS
    assert [method for method, _ in strict.requests] == ["HEAD", "GET", "HEAD"]  # where it is not, and where it is
    strict.listed_only.add("bucket")
    assert node.stager("stage", "--job-id", "four", "JOB.toml").code == 3


@pytest.mark.parametrize("kind", ["btrfs", "ext4"])
def test_ordinary_user_has_it_everywhere(kind: str, node: Node) -> None:
    (node.root / "library").mkdir()
    python = python_for(USER, readable_copy(node.root / "library"))
    make_repository(node.root / "r", {"d/b": b"text\n", "a": b"1", "large": LARGE["large"]})
    subprocess.run(["chown", "-R", f"{USER}:{USER}", str(node.root)], check=True)
    node.write_job(f'[[dataset]]\nname = "o/n"\nsource = "git+file://{node.root}/r"\n')
    program = f"import sys; sys.path.insert(0, '{node.root}/library'); from stager.cli import main; sys.exit(main())"
    for job in ("one", "two"):
        done = subprocess.run(
            [python, "-I", "-c", program, "stage", "--job-id", job, "JOB.toml"],
            user=USER, group=USER, extra_groups=[], cwd=node.root, capture_output=True, text=True,
            env={"PATH": os.environ["PATH"], "HOME": str(node.root), "STAGER_SCRATCH": str(node.scratch)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        tree = node.tree(job) / "data/o/n"
        assert contents(tree) == {"d/b": b"text\n", "a": b"1", "large": LARGE["large"]}
        assert tree.stat().st_uid == USER
    receipt = dataset(node, "two")
    assert receipt["cache"]["how"] == WAYS[kind]  # type: ignore[index]
    assert receipt["moved"] == {"objects": 0, "bytes": 0}
