"""What a process may still fill, from a kernel's files as they look on real nodes."""

from __future__ import annotations

from pathlib import Path

import pytest

from stager.host.memory import available_bytes

GIB = 1 << 30


def node(root: Path, *, available: str = f"{16 << 20} kB", cgroup: str = "") -> str:
    proc = root / "proc"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text(f"MemTotal:  33554432 kB\nMemFree:  1024 kB\nMemAvailable:  {available}\n")
    (proc / "self" / "cgroup").write_text(cgroup)
    return str(proc)


def group(root: Path, path: str, **files: str) -> None:
    directory = root / "sys/fs/cgroup" / path
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (directory / f"memory.{name}").write_text(text)


def test_without_a_limit_it_is_what_the_node_has(tmp_path: Path) -> None:
    group(tmp_path, "job", max="max\n", current="4096\n", stat="inactive_file 0\n")
    assert available_bytes(node(tmp_path, cgroup="0::/job\n"), str(tmp_path)) == 16 * GIB


@pytest.mark.parametrize("inactive", [0, GIB])
def test_limit_of_a_group_above_ours_counts_less_what_is_used_and_cannot_be_taken_back(
    tmp_path: Path, inactive: int
) -> None:
    group(tmp_path, "slurm", max=f"{8 * GIB}\n", current=f"{3 * GIB}\n", stat=f"anon 1\ninactive_file {inactive}\n")
    group(tmp_path, "slurm/job7", max="max\n", current="1\n", stat="inactive_file 0\n")
    proc = node(tmp_path, cgroup="0::/slurm/job7\n")
    assert available_bytes(proc, str(tmp_path)) == 5 * GIB + inactive


def test_first_version_of_control_groups_is_read_too(tmp_path: Path) -> None:
    group(
        tmp_path, "memory/job", limit_in_bytes=f"{2 * GIB}\n", usage_in_bytes=f"{GIB}\n", stat="total_inactive_file 0\n"
    )
    proc = node(tmp_path, cgroup="9:cpu,cpuacct:/x\n4:memory:/job\n0::/\n")
    assert available_bytes(proc, str(tmp_path)) == GIB


@pytest.mark.parametrize("seen", ["0::/\n", "0::/\n9:cpu,cpuacct:/x\n", "0::/of/the/host\n", "0::/../..\n"])
def test_limit_of_a_container_stands_in_the_root_that_it_sees(tmp_path: Path, seen: str) -> None:
    group(tmp_path, "", max=f"{2 * GIB}\n", current=f"{GIB}\n", stat="inactive_file 0\n")
    assert available_bytes(node(tmp_path, cgroup=seen), str(tmp_path)) == GIB


def test_group_over_its_limit_leaves_nothing(tmp_path: Path) -> None:
    group(tmp_path, "job", max="100\n", current="200\n", stat="inactive_file 0\n")
    assert available_bytes(node(tmp_path, cgroup="0::/job\n"), str(tmp_path)) == 0


def test_kernel_that_says_nothing_gives_0(tmp_path: Path) -> None:
    assert available_bytes(str(tmp_path / "nowhere"), str(tmp_path)) == 0
    assert available_bytes(node(tmp_path, available="what"), str(tmp_path)) == 0


def test_this_node_has_some() -> None:
    assert available_bytes() > 0
