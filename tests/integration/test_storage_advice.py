"""What a job is told about network file systems, for which a FUSE mount stands here, and when it may have one."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from integration.job_driver import Node
from integration.shared_node import Site
from servers.slow_fuse import SlowFuse
from stager.host.board import Board
from stager.host.connection_settings import ConnectionSettings, connections_in
from stager.host.connections import Connections, Export
from stager.host.mounts import mount_of_path, read_mountinfo
from stager.job.advice import find_large_files
from stager.model import Mount, MountView

_MOST = 10_000_000_000


def make_sparse(path: Path, size: int) -> None:
    path.touch()
    os.truncate(path, size)


def test_a16_files_over_10_gb_on_a_network_file_system_are_named_at_the_start_and_at_the_end(
    slow_disk: SlowFuse, tmp_path: Path
) -> None:
    node = Node(tmp_path)
    here = tmp_path / "here"
    (slow_disk.backing / "deep").mkdir()
    here.mkdir()
    make_sparse(slow_disk.backing / "deep" / "just", _MOST)
    make_sparse(slow_disk.backing / "deep" / "over", _MOST + 1)
    make_sparse(here / "over", _MOST + 1)
    (slow_disk.backing / "link").symlink_to("/dev/zero")
    argv = ["--data", f"lab/scans=bind:{slow_disk.mountpoint}", "--data", f"lab/here=bind:{here}"]
    done = node.stager("run", *argv, "--", "truncate", "-s", str(_MOST + 2), "/data/lab/scans/new")
    assert done.code == 0, done.err
    told = [line for line in done.err.splitlines() if "object storage" in line]
    assert sorted(line.split(" ")[1] for line in told) == ["/data/lab/scans/deep/over", "/data/lab/scans/new"]
    assert "(9.3 GiB) lies on a network file system (fuse" in told[0]
    # The threshold is a setting of the site's, or of the user's.
    settings = Path(os.environ["HOME"]) / ".config" / "stager" / "stager.toml"
    settings.parent.mkdir(parents=True)
    settings.write_text('[advice]\nlarge_file = "20G"\n')
    try:
        view = MountView(mounts=(Mount(kind="bind", source=str(slow_disk.mountpoint), target="/data/lab/scans"),))
        assert find_large_files(view, os.environ) == []
        settings.write_text('[advice]\nlarge_file = "1K"\n')
        assert [Path(file.path).name for file in find_large_files(view, os.environ)] == ["new", "over", "just"]
        with slow_disk.holding("getattr", path="deep"):  # its server does not answer any more
            started = time.monotonic()
            find_large_files(view, os.environ, limit_s=0.2)
            assert time.monotonic() - started < 10
    finally:
        settings.unlink()


def test_a18_no_more_jobs_of_a_node_have_an_export_than_the_site_allows(slow_disk: SlowFuse, tmp_path: Path) -> None:
    row = mount_of_path(str(slow_disk.mountpoint), read_mountinfo())
    assert row is not None
    site = Site(tmp_path, f'[connections]\nlimits = {{ "{row.source}" = 2, "elsewhere:*" = 1 }}\n')
    scratch = tmp_path / "scratch"
    scratch.mkdir(mode=0o700)
    run = ["run", "--scratch", str(scratch), "--data", f"lab/scans=bind:{slow_disk.mountpoint}", "--", "sh", "-c"]
    first, second = (site.start(*run, "echo up; exec sleep 600") for _ in range(2))
    try:
        for job in (first, second):
            assert job.stdout is not None and job.stdout.readline() == "up\n"
        third = site.stager(*run, "echo up")
        assert third.code == 75 and third.out == ""
        assert f"{row.source}: 2 jobs of this node have it" in third.err and "the site allows 2" in third.err
        site.says(f'[connections]\nlimits = {{ "{row.source}" = 2 }}\nwait = "1m"\n')
        waiting = site.start(*run, "echo up")
        assert waiting.stderr is not None and "stager: waits for " in waiting.stderr.readline()
        first.terminate()
        assert waiting.stdout is not None and waiting.stdout.readline() == "up\n"
        assert site.end(waiting).code == 0
        second.terminate()
        assert (site.end(first).code, site.end(second).code) == (143, 143)
    finally:
        site.end_all()


def test_so_many_at_once_have_an_export_as_there_are_connections_and_each_gets_its_turn(
    tmp_path: Path, soak: int
) -> None:
    most, has, seen = 3, [0], []
    counting = threading.Lock()

    def work() -> None:
        board = Board(str(tmp_path))
        for _ in range(2 * soak):
            with Connections(board, [Export("nfs:/a", most), Export("nfs:/b", 100)]) as mine:
                while mine.waits_for() is not None:
                    time.sleep(0.005)
                with counting:
                    has[0] += 1
                    seen.append(has[0])
                with counting:
                    has[0] -= 1
        board.close()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 6 * 2 * soak and max(seen) <= most
    assert Board(str(tmp_path)).look() == []


def test_limits_are_found_by_export_and_by_server() -> None:
    table = {"limits": {"10.0.0.2:/vol1": 2, "fs-*.efs.*.amazonaws.com": 7, "10.*": 9}, "wait": "2m"}
    settings = connections_in({"connections": table}, "site.toml", "the site's configuration")
    assert isinstance(settings, ConnectionSettings) and settings.wait_s == 120
    assert [settings.limit_of(export) for export in (
        "10.0.0.2:/vol1", "10.0.0.2:/vol2", "fs-1.efs.eu-west-1.amazonaws.com:/", "nas:/x",
    )] == [2, 9, 7, None]  # fmt: skip


def test_what_is_no_limit_is_refused_by_its_key() -> None:
    for table, told in ({"limits": {"a": 0}}, "connections.limits: a whole number from 1"), (
        {"wait": 5}, 'connections.wait: a time like "30s"'
    ):  # fmt: skip
        with pytest.raises(Exception, match=told):
            connections_in({"connections": table}, "site.toml", "the site's configuration")


