"""Trees that jobs on a node share: fetched once, each job's own, and nobody's to change."""

from __future__ import annotations

import contextlib
import fcntl
import json
import mmap
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.clone_disk import clone_disk, used_bytes
from integration.job_driver import Node
from servers.repositories import commit_files, make_repository
from servers.s3 import object_bytes
from servers.strict_s3 import StrictS3
from stager.host.cache import Kept

pytestmark = pytest.mark.root

MIB = 1 << 20
OBJECTS = {"a": object_bytes(3 * MIB, 1), "d/b": b"text\n", "d/deep/c": b"", "e": object_bytes(70_000, 2)}
JOB = '[[dataset]]\nname = "o/n"\nsource = "s3://bucket/"\n'


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    top = tmp_path_factory.mktemp("disk")
    with clone_disk(top / "disk", top / "image") as place:
        yield place


@pytest.fixture
def node(disk: Path, strict: StrictS3) -> Iterator[Node]:
    with node_on(disk, strict) as node:
        yield node


@contextlib.contextmanager
def node_on(disk: Path, strict: StrictS3) -> Iterator[Node]:
    """Its scratch on this disk, its job of the one bucket."""
    strict.buckets["bucket"] = dict(OBJECTS)
    root = disk / "node"
    root.mkdir()
    (root / "scratch").mkdir(mode=0o700)
    node = Node(root, strict.environment())
    node.write_job(JOB)
    yield node
    shutil.rmtree(root)


def stage(node: Node, job: str, *options: str) -> Path:
    """The job's dataset, staged."""
    done = node.stager("stage", "--job-id", job, *options, "JOB.toml")
    assert done.code == 0, done.err
    return node.tree(job) / "data/o/n"


def contents(tree: Path) -> dict[str, bytes]:
    return {str(path.relative_to(tree)): path.read_bytes() for path in tree.rglob("*") if path.is_file()}


def fetched(strict: StrictS3) -> list[str]:
    """The objects that were asked for, since this was last called."""
    targets = [target for method, target in strict.requests if method == "GET" and "list-type" not in target]
    strict.requests.clear()
    return sorted({target.partition("?")[0].removeprefix("/bucket/") for target in targets})


def dataset(node: Node, job: str) -> dict[str, object]:
    (found,) = node.receipt(job)["datasets"]
    return dict(found)


def kept_tree(node: Node) -> Path:
    """The newest generation of the only tree that is kept."""
    (entry,) = (node.scratch / "cache/2").iterdir()
    newest = Kept(str(entry)).newest()
    assert newest is not None
    return Path(newest.tree)


def test_second_job_fetches_nothing_and_takes_no_space(node: Node, disk: Path, strict: StrictS3) -> None:
    assert contents(stage(node, "one")) == OBJECTS
    assert fetched(strict) == sorted(OBJECTS)
    before = used_bytes(disk)
    assert contents(stage(node, "two")) == OBJECTS
    assert fetched(strict) == []
    assert used_bytes(disk) - before < MIB
    receipt = dataset(node, "two")
    total = {"objects": len(OBJECTS), "bytes": sum(map(len, OBJECTS.values()))}
    assert receipt["total"] == receipt["reused"] == total
    assert receipt["moved"] == {"objects": 0, "bytes": 0}
    saved = {"shared_bytes": total["bytes"], "not_fetched_bytes": total["bytes"]}
    assert receipt["cache"] == {"how": "clone", **saved}
    assert receipt["grades"] == dataset(node, "one")["grades"]
    assert receipt["destination"] == "/data/o/n" and receipt["source"] == "s3://bucket/"


def test_staged_tree_is_verified_and_repaired_from_its_own_source(node: Node, strict: StrictS3) -> None:
    stage(node, "one")
    tree = stage(node, "two")
    fetched(strict)
    (tree / "e").write_bytes(b"changed")
    state = str(node.scratch / "jobs/two/state/data/o/n")
    assert node.stager("verify", "--state-dir", state, str(tree)).code == 4
    assert node.stager("verify", "--repair", "--state-dir", state, str(tree)).code == 0
    assert fetched(strict) == ["e"]
    assert contents(tree) == OBJECTS


def overwrite(path: Path) -> None:
    path.write_bytes(b"other")


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def write_inside(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"other")


def truncate(path: Path) -> None:
    os.truncate(path, 10)


def write_to_memory(path: Path) -> None:
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        mapped[8192:8197] = b"other"
        mapped.flush()


def punch_hole(path: Path) -> None:
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, 4 * MIB)
        file.truncate(4 * MIB)


def link_and_write(path: Path) -> None:
    os.link(path, path.with_name("linked"))
    overwrite(path.with_name("linked"))


def rename_over(path: Path) -> None:
    path.with_name("new").write_bytes(b"other")
    path.with_name("new").rename(path)


CHANGES = (overwrite, append, write_inside, truncate, write_to_memory, punch_hole, link_and_write, rename_over)


def test_c10_whatever_a_job_does_to_its_copy_reaches_nobody(node: Node, strict: StrictS3) -> None:
    objects = {change.__name__: object_bytes(70_000, number) for number, change in enumerate(CHANGES)}
    objects |= {"removed": b"1", "mode": b"2"}
    strict.buckets["bucket"] = dict(objects)
    first, neighbour = stage(node, "one"), stage(node, "two")
    fetched(strict)
    for change in CHANGES:
        change(first / change.__name__)
    (first / "removed").unlink()
    (first / "mode").chmod(0o700)
    assert not any(contents(first).get(name) == text for name, text in objects.items() if name != "mode")
    assert contents(neighbour) == objects
    third = stage(node, "three")
    assert contents(third) == objects
    assert not os.access(third / "mode", os.X_OK)
    assert fetched(strict) == []
    assert strict.buckets["bucket"] == objects


def swap(path: Path) -> None:
    """Other bytes with the same size and mtime: only the kernel's own ctime tells."""
    before = path.stat()
    while path.stat().st_ctime_ns == before.st_ctime_ns:
        path.write_bytes(bytes(before.st_size))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace_with_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


def replace_with_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGES = (swap, overwrite, Path.unlink, replace_with_link, replace_with_fifo)


def test_what_was_changed_in_the_cache_itself_is_fetched_again(node: Node, strict: StrictS3) -> None:
    damaged = {f"bad/{damage.__name__}": object_bytes(9_000, number) for number, damage in enumerate(DAMAGES)}
    strict.buckets["bucket"] |= damaged
    stage(node, "one")
    fetched(strict)
    for damage in DAMAGES:
        damage(kept_tree(node) / "bad" / damage.__name__)
    (kept_tree(node) / "d/planted").write_bytes(b"planted")
    assert contents(stage(node, "two")) == OBJECTS | damaged
    assert fetched(strict) == sorted(damaged)


def test_damaged_manifest_is_none(node: Node, strict: StrictS3) -> None:
    stage(node, "one")
    manifest = kept_tree(node).parent / "state/manifest.jsonl"
    text = manifest.read_bytes()
    manifest.write_bytes(text.replace(b'"d/b"', b'"d/x"'))
    assert contents(stage(node, "two")) == OBJECTS
    assert not (node.tree("two") / "data/o/n/d/x").exists()


def test_changed_source_costs_what_has_changed(node: Node, strict: StrictS3) -> None:
    stage(node, "one")
    fetched(strict)
    bucket = strict.buckets["bucket"]
    bucket["e"] = b"new"
    bucket["f"] = b"more"
    del bucket["d/b"]
    assert contents(stage(node, "two")) == bucket
    assert fetched(strict) == ["e", "f"]
    assert contents(stage(node, "three")) == bucket
    assert contents(node.tree("one") / "data/o/n") == OBJECTS
    assert not (kept_tree(node) / "d/b").exists()


def test_tree_that_is_read_is_not_changed(node: Node, strict: StrictS3) -> None:
    stage(node, "one")
    used = kept_tree(node)
    use = os.open(used.parent / "uses", os.O_RDONLY)
    try:
        fcntl.flock(use, fcntl.LOCK_SH)
        stage(node, "same")
        assert kept_tree(node) == used
        fetched(strict)
        strict.buckets["bucket"]["e"] = b"new"
        assert contents(stage(node, "two")) == {**OBJECTS, "e": b"new"}
        assert fetched(strict) == ["e"]
        assert contents(used) == OBJECTS
        assert kept_tree(node) != used
    finally:
        os.close(use)
    stage(node, "three")
    assert not used.exists()


def test_of_many_jobs_one_fetches(node: Node, strict: StrictS3) -> None:
    jobs = [f"job{number}" for number in range(6)]
    running = [node.start("stage", "--job-id", job, "JOB.toml") for job in jobs]
    ends = [process.communicate(timeout=60) for process in running]
    assert [process.returncode for process in running] == [0] * len(jobs), ends
    gets = [target for method, target in strict.requests if method == "GET" and "list-type" not in target]
    assert len(gets) == len(set(gets))
    assert all(contents(node.tree(job) / "data/o/n") == OBJECTS for job in jobs)


def test_without_the_cache_everything_is_fetched_and_nothing_kept(node: Node, strict: StrictS3) -> None:
    for job in ("one", "two"):
        assert contents(stage(node, job, "--no-cache")) == OBJECTS
        assert fetched(strict) == sorted(OBJECTS)
        assert dataset(node, job)["cache"] == {}
    assert not (node.scratch / "cache").exists()


def test_nothing_is_kept_in_memory(tmp_path: Path, strict: StrictS3) -> None:
    strict.buckets["bucket"] = dict(OBJECTS)
    place = tmp_path / "memory"
    place.mkdir()
    (place / "scratch").mkdir(mode=0o700)
    node = Node(place, strict.environment())
    node.write_job(JOB)
    with contextlib.ExitStack() as undo:
        subprocess.run(["mount", "-t", "tmpfs", "none", str(place / "scratch")], check=True)
        undo.callback(subprocess.run, ["umount", str(place / "scratch")], check=True)
        (place / "scratch").chmod(0o700)
        assert contents(stage(node, "one")) == OBJECTS
        assert dataset(node, "one")["cache"] == {}
        assert not (node.scratch / "cache").exists()


def test_nobody_else_can_look_into_it(node: Node) -> None:
    stage(node, "one")
    for path in (node.scratch / "cache", node.scratch / "cache/2", *(node.scratch / "cache/2").iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    (node.scratch / "cache").chmod(0o750)
    strange = stage(node, "two")
    assert contents(strange) == OBJECTS
    assert dataset(node, "two")["cache"] == {}


def test_kept_tree_below_the_required_grade_is_none_for_who_requires_it(node: Node, strict: StrictS3) -> None:
    strict.parts = {"e": [1]}
    strict.parts_told = False
    stage(node, "one")
    assert dataset(node, "one")["grades"] == {"A": 3, "B": 1}
    node.write_job(JOB + 'require_integrity = "A"\n')
    refused = node.stager("stage", "--job-id", "two", "JOB.toml")
    assert (refused.code, "1 object does not reach grade A" in refused.err) == (4, True), refused.err
    assert not (node.tree("two") / "data/o/n/e").exists()


def test_filters_and_options_have_trees_of_their_own(node: Node, strict: StrictS3) -> None:
    stage(node, "one")
    node.write_job(JOB + 'include = ["d/"]\n')
    assert contents(stage(node, "some")) == {name: text for name, text in OBJECTS.items() if name.startswith("d/")}
    assert len(list((node.scratch / "cache/2").iterdir())) == 2
    fetched(strict)
    assert contents(stage(node, "again")).keys() == {"d/b", "d/deep/c"}
    assert fetched(strict) == []


def test_repository_is_kept_too(node: Node, tmp_path: Path) -> None:
    make_repository(tmp_path / "r", {"w": b"words", "run": b"#!/bin/sh\n"})
    (tmp_path / "r/run").chmod(0o755)
    (tmp_path / "r/link").symlink_to("w")
    commit = commit_files(tmp_path / "r", {}, "with a link and a program")
    node.write_job(f'[[dataset]]\nname = "o/n"\nsource = "git+file://{tmp_path}/r"\n')
    stage(node, "one")
    tree = stage(node, "two")
    assert dataset(node, "two")["moved"] == {"objects": 0, "bytes": 0}
    assert dataset(node, "two")["pinned"]["commit"] == commit  # type: ignore[index]
    assert os.readlink(tree / "link") == "w"
    assert os.access(tree / "run", os.X_OK) and not os.access(tree / "w", os.X_OK)


def test_full_disk_makes_room_by_what_was_not_used_for_longest(tmp_path: Path, strict: StrictS3) -> None:
    names = ("old", "used", "new")
    strict.buckets.update({name: {"x": object_bytes(40 * MIB, number)} for number, name in enumerate(names)})
    with clone_disk(tmp_path / "disk", tmp_path / "image", size=400 * MIB) as place:
        (place / "scratch").mkdir(mode=0o700)
        node = Node(place, strict.environment())
        for name in names:
            node.write_job(f'[[dataset]]\nname = "o/n"\nsource = "s3://{name}/"\n')
            if name == "new":
                found = os.statvfs(place)
                with (place / "others").open("wb") as file:
                    os.posix_fallocate(file.fileno(), 0, found.f_bavail * found.f_frsize - 20 * MIB)
            assert contents(stage(node, name)) == strict.buckets[name]
            assert node.stager("teardown", "--discard-uncollected", name).code == 0
            abouts = (place / "scratch/cache/2").glob("*/about.json")
            sources = [json.loads(path.read_text())["source"] for path in abouts]
            assert "s3://old/" in sources or name == "new"
        assert sources == ["s3://new/"]  # and no more is kept than is free


@pytest.fixture
def full(tmp_path: Path, strict: StrictS3) -> Iterator[Node]:
    """A disk with three kept trees of 40 MiB, the one used first pinned, and 20 MiB free; a job that wants 50."""
    names = ("pinned", "old", "new")
    strict.buckets.update({name: {"x": object_bytes(40 * MIB, number)} for number, name in enumerate(names)})
    strict.buckets["wanted"] = {"x": object_bytes(50 * MIB, 9)}
    with clone_disk(tmp_path / "disk", tmp_path / "image", size=400 * MIB) as place:
        (place / "scratch").mkdir(mode=0o700)
        node = Node(place, strict.environment())
        for name in names:
            node.write_job(f'[[dataset]]\nname = "o/n"\nsource = "s3://{name}/"\n')
            stage(node, name)
            assert node.stager("teardown", "--discard-uncollected", name).code == 0
        (pinned,) = (json.loads(line) for line in node.stager("cache", "ls", "--json").out.splitlines()[:1])
        assert node.stager("cache", "pin", pinned["name"]).code == 0
        found = os.statvfs(place)
        with (place / "others").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, found.f_bavail * found.f_frsize - 20 * MIB)
        node.write_job('[[dataset]]\nname = "o/n"\nsource = "s3://wanted/"\n')
        yield node


def test_plan_names_what_goes_and_just_that_goes(full: Node, strict: StrictS3) -> None:
    planned = full.stager("plan", "JOB.toml", "--json")
    (placed,) = (event for event in map(json.loads, planned.out.splitlines()) if event["event"] == "placed")
    assert [item["source"] for item in placed["evicted"]] == ["s3://old/", "s3://new/"]  # that by the cache's share
    assert names(full, "ls") == ["s3://pinned/", "s3://old/", "s3://new/"]
    done = full.stager("stage", "--job-id", "j", "JOB.toml")
    assert done.code == 0, done.err
    assert "for want of room the cache has no longer s3://old/ (40.0 MiB)" in done.err
    assert contents(full.tree("j") / "data/o/n") == strict.buckets["wanted"]
    assert names(full, "ls") == ["s3://pinned/", "s3://wanted/"]


def test_nothing_goes_for_what_cannot_go_ahead(full: Node, strict: StrictS3) -> None:
    kept = names(full, "ls")
    full.write_job(
        '[[dataset]]\nname = "o/n"\nsource = "s3://wanted/"\n[[dataset]]\nname = "o/m"\nsource = "s3://missing/"\n'
    )
    refused = full.stager("stage", "--job-id", "refused", "JOB.toml")
    assert (refused.code, "o/m: s3://missing" in refused.err) == (3, True), refused.err
    strict.buckets["huge"] = {"x": object_bytes(120 * MIB, 9)}
    full.write_job('[[dataset]]\nname = "o/n"\nsource = "s3://huge/"\n')
    refused = full.stager("stage", "--job-id", "huge", "JOB.toml")
    assert (refused.code, "125829120 bytes are needed" in refused.err) == (5, True), refused.err
    assert [name for name in names(full, "ls") if name != "?"] == kept  # and room for what was not fetched


def names(node: Node, *command: str) -> list[str]:
    """The sources that a command of `stager cache` tells of, in its order."""
    done = node.stager("cache", *command, "--json")
    assert done.code == 0, done.err
    return [json.loads(line)["source"] for line in done.out.splitlines()]


@pytest.fixture
def three(node: Node, strict: StrictS3) -> Node:
    """Kept trees of three buckets, used in their order."""
    for name in ("old", "used", "new"):
        strict.buckets[name] = {"x": name.encode()}
        node.write_job(f'[[dataset]]\nname = "o/n"\nsource = "s3://{name}/"\n')
        stage(node, name)
    return node


def test_trees_are_listed_by_their_last_use(three: Node) -> None:
    found = [json.loads(line) for line in three.stager("cache", "ls", "--json").out.splitlines()]
    assert [tree["source"] for tree in found] == ["s3://old/", "s3://used/", "s3://new/"]
    assert [found[0][name] for name in ("files", "bytes", "in_use", "pinned")] == [1, 3, False, False]
    assert Path(found[2]["tree"], "x").read_bytes() == b"new"
    lines = three.stager("cache", "ls").out.splitlines()
    assert "inodes" in lines[0] and "s3://old/" in lines[0]


def test_gc_takes_what_was_not_used_for_longest_and_says_so_before(three: Node) -> None:
    assert names(three, "gc", "--keep", "7B", "--dry-run") == ["s3://old/"]
    assert names(three, "ls") == ["s3://old/", "s3://used/", "s3://new/"]
    assert names(three, "gc", "--older-than", "1h") == []
    assert names(three, "gc", "--keep", "7B") == ["s3://old/"]
    assert names(three, "gc", "--older-than", "0s") == ["s3://used/", "s3://new/"]
    assert names(three, "ls") == []
    assert three.stager("cache", "gc").code == 2


def test_pinned_tree_stays_until_it_is_removed_by_name(three: Node) -> None:
    (name,) = [json.loads(line)["name"] for line in three.stager("cache", "ls", "--json").out.splitlines()][:1]
    assert names(three, "pin", name[:8]) == ["s3://old/"]
    assert names(three, "gc", "--keep", "0") == ["s3://used/", "s3://new/"]
    stage(three, "again")
    assert names(three, "ls") == ["s3://old/", "s3://new/"]
    three.write_job('[[dataset]]\nname = "o/n"\nsource = "s3://old/"\n')
    stage(three, "later")
    assert names(three, "gc", "--keep", "0") == ["s3://new/"]
    assert names(three, "unpin", name) == ["s3://old/"]
    assert names(three, "gc", "--keep", "0") == ["s3://old/"]
    assert three.stager("cache", "rm", name).code == 3


def test_tree_in_use_is_not_removed(node: Node) -> None:
    stage(node, "one")
    use = os.open(kept_tree(node).parent / "uses", os.O_RDONLY)
    try:
        fcntl.flock(use, fcntl.LOCK_SH)
        assert names(node, "gc", "--keep", "0") == []
        refused = node.stager("cache", "rm", "--all")
        assert refused.code == 7 and "a job uses" in refused.err
        assert contents(kept_tree(node)) == OBJECTS
    finally:
        os.close(use)
    assert names(node, "rm", "--all") == ["s3://bucket/"]
    assert list((node.scratch / "cache/2").iterdir()) == []


def test_verify_names_what_was_changed(node: Node) -> None:
    stage(node, "one")
    assert node.stager("cache", "verify").code == 0
    (kept_tree(node) / "e").write_bytes(b"other")
    done = node.stager("cache", "verify")
    assert done.code == 4 and "e" in done.out + done.err
