"""What `stager doctor` reads of limits, clock, names and proxies, from files as other nodes have them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stager.host import namespaces
from stager.host.measure import measure
from stager.host.rates import Rate, keep_rate, rate_of, read_rates
from stager.host.survey_abilities import abilities
from stager.host.survey_limits import clock, cpus, memory, name_service, open_files, proxies
from stager.placement import DeviceClass, Disk, Root


def group(root: Path, path: str, **files: str) -> None:
    directory = root / "sys/fs/cgroup" / path
    directory.mkdir(parents=True)
    for name, text in files.items():
        (directory / name.replace("__", ".")).write_text(text)


@pytest.mark.parametrize(
    ("cgroup", "place", "files", "quota"),
    [
        ("0::/slurm/job\n", "slurm", {"cpu__max": "150000 100000\n"}, 1.5),
        ("4:cpu,cpuacct:/job\n0::/\n", "cpu/job", {"cpu__cfs_quota_us": "50000", "cpu__cfs_period_us": "100000"}, 0.5),
        ("0::/job\n", "job", {"cpu__max": "max 100000\n"}, None),
        ("4:cpu:/job\n", "cpu/job", {"cpu__cfs_quota_us": "-1", "cpu__cfs_period_us": "100000"}, None),
    ],
)
def test_quota_of_processors_is_read_of_both_versions_of_control_groups(
    tmp_path: Path, cgroup: str, place: str, files: dict[str, str], quota: float | None
) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(cgroup)
    group(tmp_path, place, **files)
    found = cpus(str(tmp_path / "proc"), str(tmp_path))
    assert found.details["quota"] == quota
    assert ("quota" in found.found) == (quota is not None)


def test_few_open_files_and_little_memory_are_lacking_and_say_what_they_cost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (256, -1))
    few = open_files()
    assert (few.state, few.found) == ("lacking", "256 at once (any number after ulimit -n)")
    (tmp_path / "meminfo").write_text("MemAvailable:  102400 kB\n")
    little = memory(str(tmp_path), str(tmp_path))
    assert (little.state, little.cost) == ("lacking", "ask for less than the 64.0 MiB of receive buffers: --memory")


@pytest.mark.parametrize(("now", "right"), [(1.8e9, True), (1.6e9, False), (4.2e9, False), (1.7e9 - 1000, True)])
def test_clock_is_compared_with_files_and_boot(tmp_path: Path, now: float, right: bool) -> None:
    (tmp_path / "stat").write_text("cpu 1\nbtime 1650000000\n")
    own = tmp_path / "module.py"
    own.touch()
    os.utime(own, (1.7e9, 1.7e9))
    assert (clock(now, proc=str(tmp_path), own_file=str(own)).state == "ok") == right
    assert clock().state == "ok"


def test_name_servers_are_those_of_resolv_conf(tmp_path: Path) -> None:
    conf = tmp_path / "resolv.conf"
    conf.write_text("# x\nsearch a.example\nnameserver 10.0.0.1\nnameserver ::1\nsearch b.example c.example\n")
    assert name_service(str(conf)).found == "10.0.0.1, ::1; searching b.example c.example"
    assert name_service(str(tmp_path / "none")).state == "lacking"


def test_proxies_are_shown_without_who_one_is_to_them() -> None:
    found = proxies({"HTTPS_PROXY": "http://user:hunter2@proxy:3128", "no_proxy": "10.0.0.0/8,*"})
    assert found.found == "https by http://proxy:3128 (HTTPS_PROXY, with a user); not for 10.0.0.0/8,*"
    assert "hunter2" not in repr(found)
    wrong = proxies({"HTTPS_PROXY": "socks5://user:hunter2@proxy"})
    assert (wrong.state, "SOCKS" in wrong.found, "hunter2" in repr(wrong)) == ("problem", True, False)


def test_what_cannot_be_mounted_is_told_with_its_cost() -> None:
    tried = {"user namespace": "set /proc/x to 1", "tmpfs": "", "overlay": "no such device"}
    works, missing, lacking = abilities(tried)
    assert works.found == "tmpfs"
    assert (missing.state, missing.found) == ("problem", "set /proc/x to 1")
    assert "no job can be run in a view" in missing.cost
    assert (lacking.what, lacking.state) == ("overlay", "lacking")


def test_measuring_is_bounded_and_leaves_nothing(tmp_path: Path) -> None:
    rate = measure(str(tmp_path), most_bytes=8 << 20)
    assert rate.bytes_per_s > 1 << 20
    assert rate.how in ("direct", "fsync")
    assert list(tmp_path.iterdir()) == []


def test_rate_is_kept_for_the_disk_and_not_for_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stager.host.rates.DEFAULT_TOP", str(tmp_path))
    tmp_path.chmod(0o1777)

    def root(path: str, *identities: str) -> Root:
        disks = tuple(Disk(name="x", device_class=DeviceClass.SSD, told="", identity=each) for each in identities)
        return Root(path=path, origin="found", device_class=DeviceClass.SSD, told="", file_system="xfs", disks=disks)

    assert keep_rate(root("/a", "wwn-2", "wwn-1"), Rate(bytes_per_s=1e9, measured_s=5.0, how="direct"))
    assert keep_rate(root("/b", "wwn-3"), Rate(bytes_per_s=2e9, measured_s=6.0, how="fsync"))
    assert not keep_rate(root("/c"), Rate(bytes_per_s=3e9, measured_s=7.0, how="fsync"))
    rates = read_rates()
    assert rate_of(root("/elsewhere", "wwn-1", "wwn-2"), rates) == 1e9
    assert rate_of(root("/a", "wwn-9"), rates) is None
    assert len(rates) == 2
    (tmp_path / f"stager-{os.geteuid()}" / "rates.json").write_text("{")
    assert read_rates() == {}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("apparmor_restrict_unprivileged_userns", "1", "or give stager an AppArmor profile"),
        ("unprivileged_userns_clone", "0", "set /proc/sys/kernel/unprivileged_userns_clone to 1"),
        ("max_user_namespaces", "0", "set /proc/sys/user/max_user_namespaces to at least 1000"),
        ("", "", "the administrator of this node has to allow unprivileged user namespaces"),
    ],
)
def test_setting_that_forbids_user_namespaces_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setattr(namespaces, "_read_setting", lambda path: value if name and path.endswith(name) else None)
    assert said in namespaces.hint()
