"""``stager sync --fsync``: what the disk did not take is an error and not believed, what it took survives a boot."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from faults.syncing import receipt, run_sync, tree
from servers.process import console_script
from servers.s3 import object_bytes, small_objects
from servers.seaweedfs import SeaweedFS
from servers.slow_fuse import SlowFuse

pytestmark = pytest.mark.root

OBJECTS = dict(small_objects(12)) | {"large": object_bytes(17 << 20, seed=3)}


@pytest.fixture(scope="module")
def source(weed: SeaweedFS, bucket_name: Callable[[], str]) -> str:
    bucket = bucket_name()
    weed.make_bucket(bucket)
    weed.fill(bucket, OBJECTS)
    return f"s3://{bucket}/"


@pytest.mark.parametrize(
    ("error", "path", "status"),
    [(errno.EIO, "large", 6), (errno.ENOSPC, "0000/", 5), (errno.EIO, "manifest", 6), (errno.EIO, "receipt", 6)],
)
def test_disk_that_does_not_take_a_file_is_told_and_the_file_is_not_believed(
    weed: SeaweedFS, source: str, slow_disk: SlowFuse, error: int, path: str, status: int
) -> None:
    destination = slow_disk.mountpoint / "dst"
    slow_disk.fail("fsync", error, path=path)
    done = run_sync(source, destination, weed.environment(), "--fsync")
    assert done.status == status, done.err
    assert len(done.err.splitlines()) == 1
    with pytest.raises(FileNotFoundError):
        receipt(destination)
    slow_disk.clear("fsync")
    again = run_sync(source, destination, weed.environment(), "--fsync", "--json")
    assert again.status == 0, again.err
    moved = json.loads(again.out.splitlines()[-1])["receipt"]["moved"]["objects"]
    assert moved == (len(OBJECTS) if path in ("large", "0000/") else 0)
    assert tree(destination) == OBJECTS
    assert receipt(destination)["durable"] is True


def test_record_of_what_is_left_reaches_the_disk_before_the_manifest_that_lacks_it(
    weed: SeaweedFS, bucket_name: Callable[[], str], slow_disk: SlowFuse
) -> None:
    bucket, files = bucket_name(), dict(small_objects(4))
    lost = next(iter(files))
    weed.make_bucket(bucket)
    weed.fill(bucket, files)
    source, destination = f"s3://{bucket}/", slow_disk.mountpoint / "dst"
    assert run_sync(source, destination, weed.environment(), "--fsync").status == 0
    weed.client().delete_object(Bucket=bucket, Key=lost)
    manifest = (destination / ".stager/manifest.jsonl").read_bytes()
    slow_disk.fail("fsync", errno.EIO, path="former")
    assert run_sync(source, destination, weed.environment(), "--fsync").status == 6
    assert (destination / ".stager/manifest.jsonl").read_bytes() == manifest
    slow_disk.clear("fsync")
    assert run_sync(source, destination, weed.environment(), "--fsync").status == 0
    assert "deleted 1 file" in run_sync(source, destination, weed.environment(), "--fsync", "--delete").out
    assert tree(destination) == {name: content for name, content in files.items() if name != lost}


DISK_WITHOUT_ROOM = """
set -e
mkdir room disk
mount -t tmpfs -o size=12m tmpfs room
truncate -s 64M room/image
mkfs.ext4 -q -E lazy_itable_init=0,lazy_journal_init=0 room/image
mount -o loop room/image disk
"$@" || case $? in 5|6) echo "refused";; *) echo "status $?";; esac # the kernel says ENOSPC or EIO, as it comes
cat disk/dst/.stager/receipt.json || echo "no receipt"
"""


@pytest.mark.parametrize(("options", "says"), [((), ["durable"]), (("--fsync",), ["refused", "no receipt"])])
def test_disk_that_takes_every_write_and_keeps_none_is_found_out(
    weed: SeaweedFS, source: str, tmp_path: Path, options: tuple[str, ...], says: list[str]
) -> None:
    """A thin disk whose pool is full: every write succeeds, and only writing back fails."""
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", DISK_WITHOUT_ROOM, "sh",
         console_script("stager"), "sync", source, "disk/dst", "-q", *options],
        env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], **weed.environment()},
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert all(text in done.stdout for text in says), done
    assert ("cannot bring the data to the disk" in done.stderr) is bool(options)


def booted_again(tmp_path: Path, weed: SeaweedFS, *arguments: str) -> str:
    """The output of stager where the boot has another id."""
    (tmp_path / "boot_id").write_text(f"{uuid.uuid4()}\n")
    script = 'mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@"'
    return subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, str(tmp_path / "boot_id"),
         console_script("stager"), *arguments],
        env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], **weed.environment()},
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip


def lose_content(destination: Path, name: str) -> None:
    """Let a file have other content under the size and times that its manifest records."""
    path, manifest = destination / name, destination / ".stager/manifest.jsonl"
    with path.open("r+b") as file:
        file.write(b"\0\0\0\0")
    header, *entries, _ = manifest.read_bytes().splitlines(keepends=True)
    for at, line in enumerate(entries):
        entry = json.loads(line)
        if entry[0] == name:
            found = path.stat()
            entry[4:6] = found.st_mtime_ns, found.st_ctime_ns
            entries[at] = json.dumps(entry, separators=(",", ":")).encode() + b"\n"
    body = header + b"".join(entries)
    trailer = {"entries": len(entries), "blake2b": hashlib.blake2b(body, digest_size=16).hexdigest()}
    manifest.write_bytes(body + json.dumps(trailer).encode() + b"\n")


@pytest.mark.parametrize(("options", "fetched"), [((), 1), (("--fsync",), 0)])
def test_after_another_boot_only_what_was_durable_is_believed_without_hashing_it(
    weed: SeaweedFS, source: str, tmp_path: Path, options: tuple[str, ...], fetched: int
) -> None:
    destination = tmp_path / "dst"
    assert run_sync(source, destination, weed.environment(), *options).status == 0
    assert receipt(destination)["durable"] is bool(options)
    lose_content(destination, "large")
    believed = run_sync(source, destination, weed.environment())
    assert "fetched 0 objects" in believed.out, "in the same boot it is"
    out = booted_again(tmp_path, weed, "sync", source, str(destination))
    assert f"fetched {fetched} object" in out
    assert receipt(destination)["durable"] is bool(options)


def test_tree_of_an_earlier_run_is_made_durable_only_after_it_was_read_again(
    weed: SeaweedFS, source: str, tmp_path: Path
) -> None:
    assert run_sync(source, tmp_path, weed.environment()).status == 0
    lose_content(tmp_path, "large")
    done = run_sync(source, tmp_path, weed.environment(), "--fsync")
    assert "fetched 1 object" in done.out
    assert tree(tmp_path) == OBJECTS
    assert receipt(tmp_path)["durable"] is True
    again = run_sync(source, tmp_path, weed.environment(), "--fsync")
    assert "fetched 0 objects" in again.out
