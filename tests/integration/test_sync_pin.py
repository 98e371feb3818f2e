"""What is copied is what was pinned: a version of a key, a kept listing, and what happens when the source changes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from faults.syncing import receipt, run_here, sync_here, tree
from integration.sync_driver import wait_until
from servers.moto_s3 import MotoS3
from servers.rclone_s3 import RcloneS3
from servers.repositories import commit_files, make_repository
from servers.s3 import object_bytes
from servers.seaweedfs import SeaweedFS
from servers.strict_s3 import StrictS3

LARGE = object_bytes(17 << 20, seed=9)
KEY = "dir/large?x=1"


@pytest.fixture(params=["weed", "moto"])
def versioned(
    request: pytest.FixtureRequest, bucket_name: Callable[[], str]
) -> Iterator[tuple[SeaweedFS | MotoS3, str, Any]]:
    """A server, a bucket of it that keeps versions, and a client."""
    server, bucket = request.getfixturevalue(request.param), bucket_name()
    client = server.client()
    client.create_bucket(Bucket=bucket)
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    yield server, bucket, client
    client.close()


def identities(root: Path) -> list[str]:
    lines = (root / ".stager/manifest.jsonl").read_text().splitlines()[1:-1]
    return [json.loads(line)[2] for line in lines]


def test_older_version_of_a_key_is_copied_and_recorded(
    versioned: tuple[SeaweedFS | MotoS3, str, Any], tmp_path: Path
) -> None:
    server, bucket, client = versioned
    first = client.put_object(Bucket=bucket, Key=KEY, Body=LARGE)
    client.put_object(Bucket=bucket, Key=KEY, Body=b"newer")
    client.delete_object(Bucket=bucket, Key=KEY)
    source = f"s3://{bucket}/{KEY}?versionId={first['VersionId']}"
    done = sync_here(source, tmp_path, server.environment())
    assert done.status == 0, done.err
    assert tree(tmp_path) == {"large?x=1": LARGE}
    assert identities(tmp_path) == [f"{first['ETag'].strip(chr(34))}\0{first['VersionId']}"]
    assert receipt(tmp_path)["pinned"]["version_id"] == first["VersionId"]
    again = sync_here(source, tmp_path, server.environment())
    assert "fetched 0 objects" in again.out
    missing = sync_here(f"s3://{bucket}/{KEY}?versionId=none", tmp_path, server.environment())
    assert missing.status == 3
    assert "in this version" in missing.err


def test_listing_with_versions_is_copied_whole_after_its_objects_were_replaced(
    versioned: tuple[SeaweedFS | MotoS3, str, Any], tmp_path: Path
) -> None:
    server, bucket, client = versioned
    objects = {f"set/{number}": b"content %d" % number for number in range(5)} | {"set/large": LARGE}
    stored = {key: client.put_object(Bucket=bucket, Key=key, Body=body) for key, body in objects.items()}
    file, source, environment = tmp_path / "listing", f"s3://{bucket}/set", server.environment()
    done = sync_here(source, tmp_path / "one", environment, "--versions", "--save-listing", str(file), "--dry-run")
    assert done.status == 0, done.err
    rows = [json.loads(line) for line in file.read_text().splitlines()[1:]]
    assert {f"set/{row['key']}": row["version_id"] for row in rows} == {
        key: answer["VersionId"] for key, answer in stored.items()
    }
    for key in list(objects)[1:]:
        client.put_object(Bucket=bucket, Key=key, Body=b"replaced")
    client.delete_object(Bucket=bucket, Key="set/0")
    done = sync_here(source, tmp_path / "two", environment, "--frozen", str(file))
    assert done.status == 0, done.err
    assert {f"set/{path}": content for path, content in tree(tmp_path / "two").items()} == objects


def test_bucket_without_versions_is_listed_with_its_etags_alone(strict: StrictS3, tmp_path: Path) -> None:
    strict.buckets["b"] = {"a": b"1", "b": b""}
    done = sync_here("s3://b", tmp_path, strict.environment(), "--versions")
    assert done.status == 0, done.err
    assert all("\0" not in identity for identity in identities(tmp_path))
    assert sync_here("file:///data", tmp_path, {}, "--versions").status == 2


def test_object_that_changes_between_listing_and_asking_for_its_version_is_no_listing(
    rclone: RcloneS3, bucket_name: Callable[[], str], strict: StrictS3, tmp_path: Path
) -> None:
    strict.buckets["b"] = {"a": b"1"}

    def change(method: str, _: str) -> None:
        if method == "HEAD":
            strict.buckets["b"]["a"] = b"2"

    strict.on_request = change
    done = sync_here("s3://b", tmp_path, strict.environment(), "--versions")
    assert done.status == 4, done.err
    assert sync_here("s3://b", tmp_path, strict.environment(), "--versions", "--on-change", "retry").status == 0
    bucket = bucket_name()
    rclone.make_bucket(bucket)
    rclone.fill(bucket, {"a": b"1"})
    done = sync_here(f"s3://{bucket}/a?versionId=v", tmp_path / "one", rclone.environment())
    assert (done.status, "does not say that it has this version" in done.err) == (3, True), done.err


def test_every_request_names_the_version_and_its_etag(strict: StrictS3, tmp_path: Path) -> None:
    strict.buckets["b"] = {}
    strict.versions["k"] = {"v 1/+": LARGE, "gone": None}
    done = sync_here("s3://b/k?versionId=v%201/%2B", tmp_path, strict.environment())
    assert done.status == 2, "a version id has no blanks"
    strict.versions["k"]["v1/+"] = LARGE
    done = sync_here("s3://b/k?versionId=v1/%2B", tmp_path, strict.environment())
    assert done.status == 0, done.err
    assert tree(tmp_path) == {"k": LARGE}
    assert [target.partition("?")[2] for _, target in strict.requests] == ["versionId=v1%2F%2B"] * len(strict.requests)
    assert len(strict.requests) >= 4, "a look-up, and a range for each part"
    deleted = sync_here("s3://b/k?versionId=gone", tmp_path, strict.environment())
    assert deleted.status == 3
    assert "is a delete marker" in deleted.err


def test_answer_of_another_version_is_no_answer(strict: StrictS3, tmp_path: Path) -> None:
    strict.buckets["b"] = {"k": b"same"}
    strict.versions["k"] = {"v1": b"same"}

    def change(method: str, _: str) -> None:
        if method == "GET":  # the look-up was still told the truth
            strict.claimed_version = "v2"

    strict.on_request = change
    done = sync_here("s3://b/k?versionId=v1", tmp_path, strict.environment())
    assert done.status == 4
    assert "the version is not the pinned one" in done.err
    assert tree(tmp_path) == {}


@pytest.fixture
def listed(strict: StrictS3, tmp_path: Path) -> tuple[StrictS3, Path]:
    """Three objects, and the file of their listing."""
    strict.buckets["b"] = {"set/one": b"1", "set/two": b"22", "set/café": b"333"}
    file = tmp_path / "listing.jsonl"
    done = sync_here("s3://b/set/", tmp_path / "dst", strict.environment(), "--dry-run", "--save-listing", str(file))
    assert done.status == 0, done.err
    assert not (tmp_path / "dst").exists()
    return strict, file


def test_frozen_listing_is_copied_exactly_and_nothing_is_listed(
    listed: tuple[StrictS3, Path], tmp_path: Path
) -> None:
    strict, file = listed
    header, *rows = map(json.loads, file.read_text().splitlines())
    assert (header["objects"], header["bytes"], header["home"], header["folder"]) == (3, 6, "b", "set/")
    assert [(row["key"], row["size"]) for row in rows] == [("café", 3), ("one", 1), ("two", 2)]
    strict.buckets["b"]["set/new"] = b"later"
    strict.requests.clear()
    done = sync_here("s3://b/set", tmp_path / "dst", strict.environment(), "--frozen", str(file))
    assert done.status == 0, done.err
    assert tree(tmp_path / "dst") == {"one": b"1", "two": b"22", "café": b"333"}
    assert not [target for _, target in strict.requests if "list-type" in target]
    assert receipt(tmp_path / "dst")["pinned"]["listing"] == header["listing"]
    again = sync_here("s3://b/set", tmp_path / "dst", strict.environment(), "--frozen", str(file))
    assert "fetched 0 objects" in again.out


def test_object_that_is_not_what_was_listed_fails_the_run_by_its_name(
    listed: tuple[StrictS3, Path], tmp_path: Path
) -> None:
    strict, file = listed
    strict.buckets["b"]["set/two"] = b"2!"
    changed = sync_here("s3://b/set", tmp_path / "dst", strict.environment(), "--frozen", str(file))
    assert (changed.status, "s3://b/set/two" in changed.err) == (4, True), changed.err
    del strict.buckets["b"]["set/two"]
    gone = sync_here("s3://b/set", tmp_path / "dst", strict.environment(), "--frozen", str(file))
    assert (gone.status, "s3://b/set/two" in gone.err) == (3, True), gone.err
    another = sync_here("s3://b/", tmp_path / "dst", strict.environment(), "--frozen", str(file))
    assert (another.status, "the listing is of s3://b/set/" in another.err) == (2, True), another.err


def test_frozen_listing_with_a_version_fetches_that_version_after_the_object_changed(
    listed: tuple[StrictS3, Path], tmp_path: Path
) -> None:
    strict, file = listed
    strict.versions["set/two"] = {"v7": b"22"}
    strict.buckets["b"]["set/two"] = b"overwritten"
    text = file.read_text().replace('"size":2,', '"size":2,"version_id":"v7",')
    header, _, rows = text.partition("\n")
    file.write_text(json.dumps({**json.loads(header), "listing": ""}) + "\n" + rows)
    done = sync_here("s3://b/set", tmp_path / "dst", strict.environment(), "--frozen", str(file))
    assert done.status == 0, done.err
    assert tree(tmp_path / "dst")["two"] == b"22"


def test_listing_of_a_single_key_is_copied_as_that_key(listed: tuple[StrictS3, Path], tmp_path: Path) -> None:
    strict, file = listed
    source, environment = "s3://b/set/two", strict.environment()
    assert sync_here(source, tmp_path / "one", environment, "--save-listing", str(file)).status == 0
    done = sync_here(source, tmp_path / "two", environment, "--frozen", str(file))
    assert done.status == 0, done.err
    assert tree(tmp_path / "two") == {"two": b"22"}
    assert sync_here("s3://b/set/one", tmp_path / "two", environment, "--frozen", str(file)).status == 2


def test_frozen_bucket_of_another_region_is_reached(listed: tuple[StrictS3, Path], tmp_path: Path) -> None:
    strict, file = listed
    strict.regions["b"] = "eu-central-1"
    done = sync_here("s3://b/set", tmp_path / "dst", strict.environment(), "--frozen", str(file))
    assert done.status == 0, done.err


def test_frozen_git_listing_brings_its_commit_after_the_branch_moved(tmp_path: Path) -> None:
    repository, file = tmp_path / "repository", tmp_path / "listing.jsonl"
    make_repository(repository, {"data": b"v1"})
    source, environment = f"git+file://{repository}/.git", {"STAGER_SCRATCH": str(tmp_path)}
    assert sync_here(source, tmp_path / "one", environment, "--save-listing", str(file)).status == 0
    commit_files(repository, {"data": b"v2", "more": b""}, "second")
    done = sync_here(source, tmp_path / "two", environment, "--frozen", str(file))
    assert done.status == 0, done.err
    assert tree(tmp_path / "two") == {"data": b"v1"}


def test_job_stages_what_its_listings_say(listed: tuple[StrictS3, Path], tmp_path: Path) -> None:
    strict, file = listed
    strict.buckets["b"]["set/new"] = b"later"
    job = tmp_path / "job.toml"
    dataset = f'name = "own/set"\nsource = "s3://b/set/"\nfrozen = "{file.name}"'
    job.write_text(f'version = 1\n[job]\nname = "j"\n[[dataset]]\n{dataset}\n')
    environment = strict.environment() | {"STAGER_SCRATCH": str(tmp_path / "scratch")}
    done = run_here("stage", str(job), environment=environment)
    assert done.status == 0, done.err
    assert sorted(path.name for path in (Path(done.out.strip()) / "data/own/set").iterdir()) == ["café", "one", "two"]
    job.write_text('version = 1\n[job]\nname = "j"\n[[dataset]]\nname = "own/set"\nsource = "s3://b/set/"\n')
    done = run_here("stage", str(job), "--save-listing", str(tmp_path / "kept"), environment=environment)
    assert done.status == 0, done.err
    assert json.loads((tmp_path / "kept/data/own/set.jsonl").read_text().partition("\n")[0])["objects"] == 4


@pytest.mark.parametrize(("options", "status"), [((), 4), (("--on-change", "retry"), 0)])
def test_object_that_changes_while_it_is_copied_fails_or_is_listed_again(
    strict: StrictS3, tmp_path: Path, options: tuple[str, ...], status: int
) -> None:
    strict.buckets["b"] = {"a": b"old", "b": b"same"}

    def change(_: str, target: str) -> None:
        if target == "/b/a":
            wait_until(lambda: (tmp_path / "b").exists())
            strict.buckets["b"]["a"] = b"new"

    strict.on_request = change
    done = sync_here("s3://b", tmp_path, strict.environment(), *options)
    assert done.status == status, done.err
    if status == 0:
        assert "is listed again" in done.err
        assert tree(tmp_path) == {"a": b"new", "b": b"same"}
    assert strict.requests.count(("GET", "/b/b")) == 1
