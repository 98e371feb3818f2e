"""``stager verify``: what it names, what it leaves alone, and what ``--repair`` puts right, on real trees."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from faults.syncing import Synced, receipt, run, run_here, sync_here, tree
from servers.repositories import commit_files, make_repository
from servers.s3 import object_bytes
from servers.seaweedfs import SeaweedFS
from servers.slow_fuse import SlowFuse

LARGE = object_bytes(17 << 20, seed=5)
OBJECTS = {"a": b"first", "b": b"", "sub/c": b"third", "sub/large": LARGE, "x/y/z": b"deep"}


@dataclass(frozen=True, kw_only=True)
class Staged:
    source: str
    root: Path
    weed: SeaweedFS

    def verify(self, *options: str) -> Synced:
        return run_here("verify", str(self.root), *options, environment=self.weed.environment())

    def found(self, *options: str) -> dict[str, str]:
        """Path to what was found of it."""
        return {line.split()[1]: line.split()[0] for line in self.verify(*options).out.splitlines()[:-1]}


@pytest.fixture
def staged(weed: SeaweedFS, bucket_name: Callable[[], str], tmp_path: Path) -> Staged:
    bucket = bucket_name()
    weed.make_bucket(bucket)
    weed.fill(bucket, {f"data/{key}": content for key, content in OBJECTS.items()})
    made = Staged(source=f"s3://{bucket}/data", root=tmp_path / "dst", weed=weed)
    assert sync_here(made.source, made.root, weed.environment()).status == 0
    return made


def damage(root: Path) -> dict[str, str]:
    """One of every kind, and what each is to be called."""
    (root / "a").write_bytes(b"First")
    (root / "b").unlink()
    with (root / "sub/large").open("r+b") as file:
        file.seek(9 << 20)
        file.write(b"\0flip")
    (root / "x/y/z").unlink()
    os.mkfifo(root / "x/y/z")
    return {"a": "differs", "b": "missing", "sub/large": "differs", "x/y/z": "differs"}


def events(text: str, name: str) -> list[dict[str, Any]]:
    return [event for event in map(json.loads, text.splitlines()) if event["event"] == name]


def test_whole_tree_verifies_after_its_times_changed(staged: Staged) -> None:
    os.utime(staged.root / "sub/large", (1, 1))
    done = staged.verify()
    assert (done.status, done.err) == (0, "")
    assert done.out.startswith(f"{staged.root}: 5 files, 17.0 MiB as recorded")


def test_every_difference_is_named_once_and_the_tree_is_left_as_it_is(staged: Staged) -> None:
    expected = damage(staged.root)
    (staged.root / "sub/foreign").write_bytes(b"mine")
    before = sorted(os.lstat(path).st_ctime_ns for path in staged.root.rglob("*"))
    done = staged.verify("--json")
    found = {event["path"]: event["what"] for event in events(done.out, "found")}
    assert found == expected | {"sub/foreign": "foreign"}
    (verified,) = events(done.out, "verified")
    assert [verified[word] for word in ("differs", "missing", "unreadable", "foreign")] == [3, 1, 0, 1]
    assert (done.status, events(done.out, "error")[0]["class"]) == (4, "IntegrityError")
    assert sorted(os.lstat(path).st_ctime_ns for path in staged.root.rglob("*")) == before
    quiet = staged.verify("-q")
    assert (quiet.status, quiet.out, len(quiet.err.splitlines())) == (4, "", 1)


def test_foreign_files_are_told_and_an_error_only_where_that_is_asked_for(staged: Staged) -> None:
    (staged.root / "new\x1bname").write_bytes(b"")
    (staged.root / "link").symlink_to("/etc")
    assert staged.found() == {"new\\x1bname": "foreign", "link": "foreign"}
    assert (staged.verify().status, staged.verify("--strict").status) == (0, 4)


def test_symlink_in_place_of_a_file_or_a_directory_is_a_difference_and_never_followed(
    staged: Staged, tmp_path: Path
) -> None:
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy/c").write_bytes(b"third")
    (tmp_path / "copy/large").write_bytes(LARGE)
    (staged.root / "sub").rename(tmp_path / "gone")
    (staged.root / "sub").symlink_to(tmp_path / "copy")
    (staged.root / "a").unlink()
    (staged.root / "a").symlink_to(tmp_path / "copy/c")
    assert staged.found() == {"a": "differs", "sub/c": "differs", "sub/large": "differs", "sub": "foreign"}


def test_repair_fetches_what_is_wrong_and_touches_nothing_else(staged: Staged) -> None:
    damage(staged.root)
    (staged.root / "foreign").write_bytes(b"mine")
    untouched = os.lstat(staged.root / "sub/c").st_ctime_ns
    done = staged.verify("--repair", "--json")
    assert done.status == 0, done.err
    repaired = {event["path"] for event in events(done.out, "found") if event["what"] == "repaired"}
    assert repaired == {"a", "b", "sub/large", "x/y/z"}
    assert tree(staged.root) == OBJECTS | {"foreign": b"mine"}
    assert os.lstat(staged.root / "sub/c").st_ctime_ns == untouched
    assert receipt(staged.root)["moved"] == {"objects": 4, "bytes": len(LARGE) + 9}
    again = sync_here(staged.source, staged.root, staged.weed.environment())
    assert "fetched 0 objects" in again.out


def test_source_that_moved_on_is_told_and_the_damaged_file_has_no_receipt(staged: Staged) -> None:
    damage(staged.root)
    bucket = staged.source.split("/")[2]
    staged.weed.fill(bucket, {"data/a": b"newer"})
    done = run("verify", str(staged.root), "--repair", environment=staged.weed.environment())
    assert done.status == 4
    assert "the source has moved on" in done.err
    with pytest.raises(FileNotFoundError):
        receipt(staged.root)
    assert sync_here(staged.source, staged.root, staged.weed.environment()).status == 0
    assert tree(staged.root) == OBJECTS | {"a": b"newer"}


def test_repair_by_another_endpoint_than_the_recorded_one_is_refused(staged: Staged) -> None:
    damage(staged.root)
    done = staged.verify("--repair", "--endpoint-url", "http://127.0.0.2:9")
    assert done.status == 2
    assert "--endpoint-url" in done.err


def test_git_tree_is_verified_with_its_modes_and_links_and_repaired_at_its_commit(tmp_path: Path) -> None:
    repository, root = tmp_path / "repository", tmp_path / "dst"
    make_repository(repository, {"run": b"#!/bin/sh\n", "data": b"v1"})
    (repository / "run").chmod(0o755)
    (repository / "latest").symlink_to("data")
    commit_files(repository, {}, "second")
    environment = {"STAGER_SCRATCH": str(tmp_path)}
    assert sync_here(f"git+file://{repository}/.git", root, environment).status == 0
    commit_files(repository, {"data": b"v2"}, "third")
    (root / "run").chmod(0o644)
    (root / "latest").unlink()
    (root / "latest").symlink_to("run")
    done = run_here("verify", str(root), "--json", environment=environment)
    assert {event["path"]: event["why"] for event in events(done.out, "found")} == {
        "run": "who may execute it", "latest": "another size",
    }  # fmt: skip
    done = run_here("verify", str(root), "--repair", environment=environment)
    assert done.status == 0, done.err
    assert (os.readlink(root / "latest"), (root / "data").read_bytes()) == ("data", b"v1")
    assert os.lstat(root / "run").st_mode & stat.S_IXUSR


def test_directory_that_was_never_staged_is_a_wrong_argument(tmp_path: Path) -> None:
    done = run_here("verify", str(tmp_path), environment={})
    assert done.status == 2
    assert "nothing was staged here" in done.err


def test_jobs_tree_and_each_dataset_in_it_are_verified_by_the_state_beside_it(staged: Staged, tmp_path: Path) -> None:
    environment = staged.weed.environment() | {"STAGER_SCRATCH": str(tmp_path / "scratch")}
    data = [f"--data=own/{name}={staged.source}" for name in ("set", "other")]
    made = run_here("stage", "--name", "job", *data, environment=environment)
    assert made.status == 0, made.err
    job = Path(made.out.strip())
    assert len(run_here("verify", str(job), environment=environment).out.splitlines()) == 2
    (job / "data/own/set/a").write_bytes(b"by the job")
    assert run_here("verify", str(job / "data/own/set"), environment=environment).status == 4
    assert run_here("verify", str(job / "data/own/other"), environment=environment).status == 0
    assert run_here("verify", str(job), "--repair", environment=environment).status == 0
    assert (job / "data/own/set/a").read_bytes() == OBJECTS["a"]
    assert run_here("verify", str(job / "logs"), environment=environment).status == 2


@pytest.mark.root
def test_file_that_cannot_be_read_is_told_apart_and_repaired(staged: Staged, slow_disk: SlowFuse) -> None:
    root = slow_disk.mountpoint / "dst"
    assert sync_here(staged.source, root, staged.weed.environment()).status == 0
    slow_disk.fail("read", errno.EIO, path="sub/c")
    done = run_here("verify", str(root), "--json", environment=staged.weed.environment())
    (found,) = events(done.out, "found")
    assert (found["what"], found["path"], found["why"]) == ("unreadable", "sub/c", os.strerror(errno.EIO))
    assert done.status == 6
    assert run_here("verify", str(root), "--repair", environment=staged.weed.environment()).status == 0
    slow_disk.clear("read")
    assert tree(root) == OBJECTS


def test_manifest_that_was_tampered_with_is_no_ground_to_judge_by(staged: Staged) -> None:
    manifest = staged.root / ".stager/manifest.jsonl"
    text = manifest.read_text()
    manifest.write_text(text.replace('"sub/c"', '"sub/d"'))
    done = staged.verify()
    assert (done.status, "the manifest is damaged" in done.err) == (4, True)
    manifest.unlink()
    assert staged.verify().status == 2


def test_tree_whose_sync_did_not_finish_is_judged_by_what_was_recorded_and_that_is_said(staged: Staged) -> None:
    (staged.root / ".stager/receipt.json").unlink()
    done = staged.verify()
    assert (done.status, "the last sync did not finish" in done.err) == (0, True)


def test_tree_where_a_sync_is_at_work_is_busy(staged: Staged) -> None:
    with (staged.root / ".stager/lock").open("r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert staged.verify().status == 7
