"""What is bound has to be mounted and alive: when it is checked, when the job starts, and where the job sees it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
import yaml

from integration.job_driver import Node
from servers.slow_fuse import SlowFuse
from servers.sshfs import sshfs
from stager.errors import MountError, UsageError
from stager.host.alive import confirm_alive
from stager.model import Command, Mount, MountView
from stager.stages.emit import emit
from stager.stages.emit_launch import Launch, LaunchMount
from stager.stages.mount import check_sources
from stager.stages.run import run_command


def view_of(source: Path, mounted: str | None = None) -> MountView:
    return MountView(mounts=(Mount(kind="bind", source=str(source), target="/data/lab/scans", mounted=mounted),))


def test_job_works_on_sshfs_and_a_path_from_which_that_has_gone_is_refused(tmp_path: Path) -> None:
    """Else the job would be given the empty directory below, and its results would lie there."""
    if os.geteuid() != 0:
        pytest.skip("mounting takes root, where /dev/fuse is closed")
    (tmp_path / "backing").mkdir()
    node = Node(tmp_path)
    job = node.write_job(
        f"command = 'touch /data/lab/scans/new'\n[[dataset]]\nname = 'lab/scans'\nsource = 'bind:{tmp_path}/mnt'\n"
        "mounted = 'fuse.sshfs'\n"
    )
    with sshfs(tmp_path / "backing", tmp_path / "mnt") as mounted:
        ran = node.stager("run", job)
        assert ran.code == 0 and os.listdir(tmp_path / "backing") == ["new"], ran.err
        (tmp_path / "backing/new").unlink()
        checked = check_sources(view_of(mounted.mountpoint, "fuse.sshfs"))
        assert checked.mounts[0].found_on == ("fuse.sshfs", f"nobody:{tmp_path}/backing")
        with pytest.raises(MountError, match=r"is on fuse.sshfs, and no nfs4 is mounted there"):
            check_sources(view_of(mounted.mountpoint, "nfs4"))
        mounted.lose_server()
        assert os.listdir(mounted.mountpoint) == []
        with pytest.raises(MountError, match=r"was on fuse.sshfs of nobody:/.*, which is mounted no longer"):
            check_sources(checked)
        with pytest.raises(MountError, match=r"no fuse.sshfs is mounted there"):
            check_sources(view_of(mounted.mountpoint, "fuse.sshfs"))
    refused = node.stager("stage", job)
    assert refused.code == 6 and "no fuse.sshfs is mounted there" in refused.err


def test_mount_that_dies_after_the_check_starts_no_job(tmp_path: Path) -> None:
    """The bind of a directory of a dead file system succeeds."""
    if os.geteuid() != 0:
        pytest.skip("mounting takes root, where /dev/fuse is closed")
    (tmp_path / "backing/sub").mkdir(parents=True)
    with sshfs(tmp_path / "backing", tmp_path / "mnt") as mounted:
        checked = check_sources(view_of(mounted.mountpoint / "sub"))
        mounted.kill()
        command = Command(argv=("touch", f"{tmp_path}/ran"), environment={"PATH": os.environ["PATH"]}, workdir="/")
        with pytest.raises(MountError, match=r"/data/lab/scans.*Transport endpoint is not connected"):
            asyncio.run(run_command(checked, command))
        assert not (tmp_path / "ran").exists()
        with pytest.raises(MountError, match="Transport endpoint is not connected"):
            check_sources(checked)


def test_mount_that_does_not_answer_where_it_was_bound_is_given_up(slow_disk: SlowFuse, tmp_path: Path) -> None:
    with slow_disk.holding("readdir"), pytest.raises(MountError, match="no answer where it was mounted"):
        confirm_alive([str(tmp_path), str(slow_disk.mountpoint)], limit_s=0.2)
    confirm_alive([str(tmp_path), str(slow_disk.mountpoint)])


def test_nfs_export_is_mounted_where_the_kernel_can_and_else_the_reason_is_said(tmp_path: Path) -> None:
    """That it is mounted where the kernel has NFS is for `make test-nfs`; no server answers here."""
    node = Node(tmp_path)
    job = node.write_job(
        "command = 'true'\n[[dataset]]\nname = 'lab/scans'\nsource = 'nfs://127.0.0.1/export'\n"
        f"[[dataset]]\nname = 'lab/other'\nsource = 'bind:{tmp_path}/missing'\n"
    )
    done = node.stager("run", job)
    assert done.code == 125
    expected = "takes root" if os.geteuid() else "has no nfs4 (modprobe nfsv4)"
    if "nfs4" in Path("/proc/filesystems").read_text().split() and not os.geteuid():
        expected = "does not answer at port 2049"
    assert "127.0.0.1:/export (for /data/lab/scans): " in done.err and expected in done.err
    assert f"{tmp_path}/missing (for /data/lab/other): no such directory" in done.err


def test_nfs_export_is_told_to_runtimes_that_mount_it() -> None:
    mounts = (LaunchMount(kind="nfs", source="[fd00::1]:/lab/sc,ans", target="/data/lab/scans"),)
    launch = Launch(
        job="1", name="job", node="n", uid=1, gid=1, image="train", entrypoint=(), command=(), workdir="/",
        environment={}, pass_credentials=False, mounts=mounts,
    )  # fmt: skip
    (volume,) = yaml.safe_load(emit("k8s", launch, {}))["spec"]["template"]["spec"]["volumes"]
    assert volume["nfs"] == {"server": "fd00::1", "path": "/lab/sc,ans"}
    assert '"volume-opt=device=:/lab/sc,ans","volume-opt=o=addr=fd00::1,vers=4.2,rw"' in emit("docker", launch, {})
    with pytest.raises(UsageError, match="mounts no NFS"):
        emit("oci", launch, {})
