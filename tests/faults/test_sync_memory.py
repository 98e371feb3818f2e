"""What a sync takes of memory does not follow the number of objects or their size, and what a disk does not take waits.

Under a memory cgroup the page cache gives way, so what is left to count is the process itself.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from integration.sync_driver import wait_until
from servers.bench_origin import BenchOrigin, bench_origin, build_bench_program
from servers.memory_group import MemoryGroup, NoMemoryGroupError, memory_group
from servers.process import console_script
from servers.slow_fuse import SlowFuse

pytestmark = [pytest.mark.root, pytest.mark.xdist_group("bench_origin")]

MIB = 1 << 20
BUFFERS = 16 * MIB
PROGRAM = 56 * MIB  # Python, its modules, the engine's threads, the pages of files under way
AN_OBJECT = 160  # bytes; csrc/entries.h counts them
AN_ANSWER = 1024  # bytes; the origin counts these too, when it is asked how much it sent
SOURCE = "s3://bench/p/"


def environment(origin: BenchOrigin) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{origin.port}",
    }  # fmt: skip


@contextmanager
def limited(limit_bytes: int) -> Iterator[MemoryGroup]:
    try:
        with memory_group(limit_bytes) as group:
            yield group
    except NoMemoryGroupError as error:
        pytest.skip(str(error))


def sync_inside(group: MemoryGroup, origin: BenchOrigin, destination: Path, *options: str) -> str:
    """What it says at its end. AssertionError: it did not come to one."""
    argv = [console_script("stager"), "sync", SOURCE, str(destination), f"--memory={BUFFERS // MIB}M", *options]
    done = subprocess.run(group.inside(argv), env=environment(origin), capture_output=True, text=True, check=False)
    assert (done.returncode, group.killed()) == (0, 0), done
    return done.stdout


@pytest.mark.timeout(7200)
def test_many_objects_fit_into_what_is_stated(origin_program: str, tmp_path: Path, soak: int) -> None:
    objects = 1_000_000 if soak > 1 else 10_000
    served = (str(objects), "64", "p/", "--formula")
    with (
        bench_origin(origin_program, *served) as origin,
        limited(PROGRAM + BUFFERS + AN_OBJECT * objects) as group,
    ):
        sync_inside(group, origin, tmp_path / "dst")
        assert "fetched 0 objects" in sync_inside(group, origin, tmp_path / "dst")
    subprocess.run([origin_program, "0", *served, "--verify", str(tmp_path / "dst")], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Makes a file system that looks larger than a size, in a sparse file whose blocks go when they are punched out."""
    place, image = tmp_path / "disk", tmp_path / "image"

    def mount(size: int) -> Path:
        with image.open("wb") as file:
            file.truncate(size + size // 4)
        features = "^extent,^64bit,^has_journal"  # without extents nothing is reserved
        subprocess.run(
            ["mkfs.ext4", "-q", "-O", features, "-E", "lazy_itable_init=1,nodiscard", "-m", "0", str(image)], check=True
        )
        place.mkdir()
        subprocess.run(["mount", "-o", "loop,discard", str(image), str(place)], check=True)
        return place

    yield mount
    if place.exists():
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.timeout(7200)
def test_object_larger_than_memory_fits_into_what_is_stated(
    origin_program: str, tmp_path: Path, disk: Callable[[int], Path], soak: int
) -> None:
    """Every byte is compared by a follower, which punches it out: the disk never holds more than what is under way."""
    size = (100 << 30) if soak > 1 else 256 * MIB
    pace = ["--max-bandwidth=192M"] if soak > 1 else []  # less than the follower compares in a second
    place = disk(size)
    punch = build_bench_program(tmp_path, "punch", "punch.c")
    with (
        bench_origin(origin_program, "1", str(size), "p/", "--formula") as origin,
        limited(PROGRAM + BUFFERS) as group,
        subprocess.Popen([punch, str(place), str(size)], stdout=subprocess.PIPE, text=True) as follower,
    ):
        try:
            sync_inside(group, origin, place / "dst", *pace)
            compared, _ = follower.communicate(timeout=600)
        finally:
            follower.terminate()
    assert int(compared) == size


def buffered_at_most(connections: int) -> int:
    """Bytes that the kernel may hold of so many connections (tcp(7): tcp_rmem, tcp_wmem)."""
    each = (int(Path(f"/proc/sys/net/ipv4/tcp_{way}mem").read_text().split()[2]) for way in "rw")
    return connections * sum(each)


def anonymous_bytes(pid: int) -> int:
    match = re.search(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert match is not None
    return int(match[1]) << 10


def test_disk_that_takes_nothing_holds_the_network_back(origin_program: str, slow_disk: SlowFuse) -> None:
    size, connections = 1 << 30, 2
    argv = [console_script("stager"), "sync", SOURCE, str(slow_disk.mountpoint / "dst"), f"--memory={BUFFERS // MIB}M"]
    with (
        bench_origin(origin_program, "1", str(size), "p/", "--formula") as origin,
        subprocess.Popen(
            [*argv, f"--max-connections={connections}"], env=environment(origin), stderr=subprocess.PIPE, text=True
        ) as stager,
        slow_disk.holding("write", from_byte=MIB),
    ):
        slow_disk.wait_held("write")
        sent: list[int] = []

        def stands_still() -> bool:
            sent.append(json.loads(origin.ask("/-/stats").body)["bytes_sent"])
            return len(sent) > 20 and sent[-1] - sent[-20] < 20 * AN_ANSWER

        wait_until(stands_still)
        assert 0 < sent[-1] <= BUFFERS + buffered_at_most(connections) < size // 8
        assert anonymous_bytes(stager.pid) < PROGRAM + BUFFERS
        stager.send_signal(signal.SIGINT)
        slow_disk.clear("write")
        stager.communicate(timeout=60)
    assert stager.returncode == 128 + signal.SIGINT
