"""Archived objects: known from Amazon's listing before anything moves, else from their own answers; one report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from faults.syncing import run
from integration.job_driver import Node
from integration.sync_driver import Sync, tree
from servers.moto_s3 import MotoS3
from servers.strict_s3 import StrictS3

FILES = {f"d/f{n:02d}": b"x" * (n + 1) for n in range(30)}
FROZEN = {f"d/f{n:02d}": "GLACIER" for n in range(2, 30)}
AMAZON = ("--endpoint-url", "http://s3.us-east-1.amazonaws.com", "--addressing-style", "path")


@pytest.fixture
def server(strict: StrictS3) -> StrictS3:
    strict.buckets["data"] = dict(FILES)
    return strict


@pytest.fixture
def sync(server: StrictS3, tmp_path: Path) -> Sync:
    """The server stands as a proxy in front of what is called Amazon's."""
    environment = {**server.environment(), "http_proxy": server.endpoint_url}
    del environment["AWS_ENDPOINT_URL"]
    return Sync("s3://data", tmp_path / "dst", environment)


def elsewhere(server: StrictS3, tmp_path: Path) -> Sync:
    """The same server at its own address: no Amazon."""
    return Sync("s3://data", tmp_path / "dst", server.environment())


def gets(server: StrictS3) -> list[str]:
    return [path for _, path in server.requests if "list-type" not in path]


def receipt(sync: Sync) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = json.loads((sync.destination / ".stager" / "receipt.json").read_text())
    return found


def test_archived_objects_are_one_report_before_anything_moves(sync: Sync, server: StrictS3) -> None:
    server.storage_classes = dict(FROZEN) | {"d/f03": "DEEP_ARCHIVE", "d/f00": "GLACIER_IR", "d/f01": "STANDARD_IA"}
    size = sum(len(FILES[key]) for key in FROZEN)
    failed = sync.run(*AMAZON)
    assert failed.code == 3
    told = failed.err.splitlines()[-21:]
    assert f"s3://data: 28 objects are archived and cannot be read now ({size} bytes); restore" in told[0]
    assert told[1:] == [f"  d/f{n:02d}" for n in range(2, 22)]
    assert gets(server) == []
    assert sync.run(*AMAZON, "--dry-run").code == 3


def test_archived_objects_are_left_out_by_request_and_counted(sync: Sync, server: StrictS3) -> None:
    server.storage_classes = dict(FROZEN)
    done = sync.run(*AMAZON, "--on-archived", "skip")
    assert done.code == 0, done.err
    assert "28 archived and left out" in done.out
    assert tree(sync.destination) == {key: FILES[key] for key in ("d/f00", "d/f01")}
    assert receipt(sync)["archived"] == {"objects": 28, "bytes": sum(len(FILES[key]) for key in FROZEN)}
    assert receipt(sync)["total"] == receipt(sync)["moved"] == {"objects": 2, "bytes": 3}
    again = sync.run(*AMAZON, "--on-archived", "skip")
    assert "2 unchanged; 28 archived and left out" in again.out
    assert len(gets(server)) == 2


def test_restored_copies_are_read_and_those_under_way_are_not(sync: Sync, server: StrictS3) -> None:
    server.storage_classes = dict(FROZEN)
    server.restored = dict.fromkeys(FROZEN, True)
    assert sync.run(*AMAZON).code == 0
    assert tree(sync.destination) == FILES
    server.buckets["data"]["d/f05"] = b"new"
    server.restored["d/f05"] = False
    failed = sync.run(*AMAZON)
    assert (failed.code, failed.err.splitlines()[-1]) == (3, "  d/f05")
    assert "1 object is archived" in failed.err


def test_files_that_are_here_stay_when_their_objects_are_archived(sync: Sync, server: StrictS3) -> None:
    assert sync.run(*AMAZON).code == 0
    server.storage_classes = dict(FROZEN)
    before = len(gets(server))
    assert sync.run(*AMAZON).code == 0
    server.buckets["data"]["d/f05"] = b"new"
    assert sync.run(*AMAZON, "--on-archived", "skip").code == 0
    assert tree(sync.destination) == FILES
    assert len(gets(server)) == before
    assert receipt(sync)["archived"] == {"objects": 1, "bytes": 3}


@pytest.mark.parametrize("told_by", ["listing", "answer"])
def test_older_copy_of_what_is_archived_is_remembered_as_an_earlier_syncs(
    sync: Sync, server: StrictS3, tmp_path: Path, told_by: str
) -> None:
    options = AMAZON if told_by == "listing" else ()
    if told_by == "answer":
        sync = elsewhere(server, tmp_path)
    assert sync.run(*options).code == 0
    (sync.destination / "mine").write_bytes(b"mine")
    server.storage_classes = {"d/f05": "GLACIER", "d/f06": "GLACIER"}
    server.buckets["data"] |= {"d/f05": b"new", "d/f06": b"new too"}
    for _ in range(2):
        assert sync.run(*options, "--on-archived", "skip", "--delete").code == 0
        assert tree(sync.destination) == {**FILES, "mine": b"mine"}, "the source has objects of these names"
    verified = run("verify", str(sync.destination), "--json", environment={})
    found = [json.loads(line) for line in verified.out.splitlines()]
    assert verified.status == 0
    why = "an earlier sync put it there; the dataset does not hold it now"
    assert {event["path"]: (event["what"], event["why"]) for event in found if event["event"] == "found"} == {
        "d/f05": ("foreign", why), "d/f06": ("foreign", why), "mine": ("foreign", ""),
    }  # fmt: skip
    del server.buckets["data"]["d/f05"]
    server.restored = {"d/f06": True}
    assert "deleted 1 file" in sync.run(*options, "--delete").out
    expected = {**FILES, "d/f06": b"new too", "mine": b"mine"}
    del expected["d/f05"]
    assert tree(sync.destination) == expected
    assert not (sync.destination / ".stager/former.jsonl").exists()


def test_single_key_that_is_archived_is_told(sync: Sync, server: StrictS3) -> None:
    server.storage_classes = dict(FROZEN)
    failed = sync.run(*AMAZON, source="s3://data/d/f07")
    assert (failed.code, gets(server)) == (3, [])


@pytest.mark.parametrize("storage_class", ["GLACIER", "INTELLIGENT_TIERING/ARCHIVE_ACCESS"])
def test_what_the_listing_does_not_show_is_one_report_after_the_others(
    server: StrictS3, tmp_path: Path, storage_class: str
) -> None:
    """Another endpoint does not tell what is restored: only the object's own answer says that it is not."""
    sync = elsewhere(server, tmp_path)
    server.storage_classes = dict.fromkeys(FROZEN, storage_class)
    server.restored = {"d/f03": True}
    failed = sync.run()
    assert failed.code == 3
    assert "27 objects are archived and cannot be read now (458 bytes)" in failed.err
    assert len(failed.err.splitlines()) == 21
    assert tree(sync.destination) == {key: FILES[key] for key in ("d/f00", "d/f01", "d/f03")}
    assert not (sync.destination / ".stager" / "receipt.json").exists()
    done = sync.run("--on-archived", "skip")
    assert done.code == 0
    assert receipt(sync)["archived"] == {"objects": 27, "bytes": 458}
    assert receipt(sync)["total"] == {"objects": 3, "bytes": 7}
    assert receipt(sync)["moved"] == {"objects": 0, "bytes": 0}


def test_dataset_of_a_job_may_leave_archived_objects_out(server: StrictS3, tmp_path: Path) -> None:
    server.storage_classes = dict(FROZEN)
    node = Node(tmp_path, server.environment())
    dataset = '[[dataset]]\nname = "a/b"\nsource = "s3://data/d"\n'
    node.write_job(dataset)
    failed = node.stager("stage", "JOB.toml", "--job-id", "j1")
    assert (failed.code, "or on_archived in a job file" in failed.err) == (3, True)
    node.write_job(dataset + 'on_archived = "skip"\n')
    assert node.stager("stage", "JOB.toml", "--job-id", "j2").code == 0
    assert node.receipt("j2")["datasets"][0]["archived"]["objects"] == len(FROZEN)


def test_archive_of_moto_is_told_and_a_restored_copy_arrives(
    moto: MotoS3, bucket_name: Callable[[], str], tmp_path: Path
) -> None:
    bucket = bucket_name()
    moto.make_bucket(bucket)
    client = moto.client()
    for key in ("large", "small", "thawed"):
        content = b"y" * (17 << 20 if key == "large" else 5)
        client.put_object(Bucket=bucket, Key=key, Body=content, StorageClass="GLACIER")
    client.restore_object(Bucket=bucket, Key="thawed", RestoreRequest={"Days": 1})
    client.close()
    sync = Sync(f"s3://{bucket}", tmp_path / "dst", moto.environment())
    failed = sync.run()
    assert failed.code == 3
    assert failed.err.splitlines()[1:] == [f"  s3://{bucket}/large", f"  s3://{bucket}/small"]
    assert sync.run("--on-archived", "skip").code == 0
    assert tree(sync.destination) == {"thawed": b"yyyyy"}
