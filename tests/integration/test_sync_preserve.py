"""``--preserve``: files have the time of change that their source says, and nothing else of a sync changes."""

from __future__ import annotations

import calendar
import errno
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from integration.sync_driver import Sync, tree
from servers.moto_s3 import MotoS3
from servers.process import console_script
from servers.s3 import object_bytes
from servers.seaweedfs import SeaweedFS
from servers.slow_fuse import SlowFuse
from servers.strict_s3 import LAST_MODIFIED, StrictS3

LISTED_NS = calendar.timegm(time.strptime(LAST_MODIFIED, "%Y-%m-%dT%H:%M:%S.000Z")) * 10**9
BUCKET = "dated"
LARGE = object_bytes((16 << 20) + 5, 1)  # two parts
STREAMED = object_bytes(3 << 20, 2)


def times(root: Path) -> dict[str, int]:
    return {path: (root / path).stat(follow_symlinks=False).st_mtime_ns for path in tree(root)}


def test_files_have_the_time_of_their_metadata_else_of_their_listing(strict: StrictS3, tmp_path: Path) -> None:
    strict.buckets[BUCKET] = {
        "rclone": b"x", "s3fs": b"y", "plain": b"z", "empty": b"", "d/streamed": STREAMED, "large": LARGE,
        "large-plain": LARGE, "nonsense": b"n", "negative": b"n", "future": b"n",
    }  # fmt: skip
    told = {
        "rclone": "1600000000.123456789", "s3fs": "1500000000", "empty": "1400000000.5", "d/streamed": "1300000000.25",
        "large": "1200000000.000000001", "nonsense": "yesterday", "negative": "-5", "future": "99999999999999",
    }  # fmt: skip
    strict.metadata = {key: {"mtime": value, "mode": "33188"} for key, value in told.items()}
    sync = Sync(f"s3://{BUCKET}", tmp_path / "dst", strict.environment())
    assert sync.run("--preserve").code == 0
    heads = sorted(target for method, target in strict.requests if method == "HEAD")
    assert heads == [f"/{BUCKET}/large", f"/{BUCKET}/large-plain"]
    assert tree(tmp_path / "dst") == strict.buckets[BUCKET]
    assert times(tmp_path / "dst") == {
        "rclone": 1600000000_123456789, "s3fs": 1500000000 * 10**9, "empty": 1400000000_500000000,
        "d/streamed": 1300000000_250000000, "large": 1200000000_000000001,
        **dict.fromkeys(["plain", "large-plain", "nonsense", "negative", "future"], LISTED_NS),
    }  # fmt: skip
    for options in (["--preserve"], [], ["--verify"]):
        assert "fetched 0 objects" in sync.run(*options).out


def test_without_it_files_have_the_time_at_which_they_were_written(strict: StrictS3, tmp_path: Path) -> None:
    strict.buckets[BUCKET] = {"small": b"x", "large": LARGE}
    strict.metadata = {"small": {"mtime": "1500000000"}}
    before = time.time_ns() - 10**9  # a file's clock is coarser
    assert Sync(f"s3://{BUCKET}", tmp_path / "dst", strict.environment()).run().code == 0
    assert all(found > before for found in times(tmp_path / "dst").values())
    assert [target for method, target in strict.requests if method == "HEAD"] == [f"/{BUCKET}/large"]


def test_time_that_rclone_wrote_comes_back(weed: SeaweedFS, bucket_name: Callable[[], str], tmp_path: Path) -> None:
    bucket, source = bucket_name(), tmp_path / "src"
    weed.make_bucket(bucket)
    (source / "d").mkdir(parents=True)
    for name, mtime_ns in (("a", 1234567890_123456789), ("d/b", 1000000000_000000001)):
        (source / name).write_bytes(name.encode())
        os.utime(source / name, ns=(0, mtime_ns))
    remote = f":s3,provider=Other,env_auth=true,endpoint='{weed.endpoint_url}':{bucket}"
    subprocess.run(
        [console_script("rclone"), "copy", str(source), remote, "--config=", "--s3-no-check-bucket"],
        env={**os.environ, **weed.environment()}, check=True, capture_output=True,
    )  # fmt: skip
    assert Sync(f"s3://{bucket}", tmp_path / "dst", weed.environment()).run("--preserve").code == 0
    assert times(tmp_path / "dst") == times(source)


def test_time_of_the_listing_is_that_of_the_upload(
    moto: MotoS3, bucket_name: Callable[[], str], tmp_path: Path
) -> None:
    bucket = bucket_name()
    moto.make_bucket(bucket)
    moto.fill(bucket, {"a": b"x"})
    client = moto.client()
    modified = client.list_objects_v2(Bucket=bucket)["Contents"][0]["LastModified"]
    client.close()
    assert Sync(f"s3://{bucket}", tmp_path / "dst", moto.environment()).run("--preserve").code == 0
    assert times(tmp_path / "dst") == {"a": round(modified.timestamp() * 1000) * 10**6}


def test_copy_of_a_directory_has_its_times_links_included(tmp_path: Path) -> None:
    source = tmp_path / "src"
    source.mkdir()
    (source / "file").write_bytes(b"x")
    (source / "link").symlink_to("file")
    os.utime(source / "file", ns=(0, -1_500_000_001))
    os.utime(source / "link", ns=(0, 987654321_012345678), follow_symlinks=False)
    sync = Sync(f"file://{source}", tmp_path / "dst", {})
    assert sync.run("--preserve").code == 0
    assert times(tmp_path / "dst") == times(source)
    assert "fetched 0 objects" in sync.run("--preserve").out


@pytest.mark.root
def test_disk_that_sets_no_times_is_an_error_and_nothing_is_half_dated(strict: StrictS3, slow_disk: SlowFuse) -> None:
    strict.buckets[BUCKET] = {"small": b"x", "streamed": STREAMED, "large": LARGE}
    slow_disk.fail("utimens", errno.EPERM)
    sync = Sync(f"s3://{BUCKET}", slow_disk.mountpoint / "dst", strict.environment())
    failed = sync.run("--preserve")
    assert failed.code == 6
    assert "set the time of" in failed.err
    assert tree(sync.destination) == {}
    slow_disk.clear("utimens")
    assert sync.run("--preserve").code == 0
    assert tree(sync.destination) == strict.buckets[BUCKET]
    assert times(sync.destination) == dict.fromkeys(strict.buckets[BUCKET], LISTED_NS)
