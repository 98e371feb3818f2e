"""What jobs left in cluster storage: listed with who uses it, and removed only when nobody does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stager.errors import HostError, MountError, StagerError, UsageError
from stager.host.cluster_storage import (
    join_cluster_storage,
    leave_cluster_storage,
    list_cluster_storage,
    remove_cluster_storage,
)
from stager.host.record import JobDirectory
from stager.host.site import site_storage
from stager.host.storage_settings import StorageSettings
from stager.host.survey_storage import storage
from stager.model import JobState

ME = os.geteuid()


@pytest.fixture
def top(tmp_path: Path) -> str:
    (tmp_path / "nfs").mkdir(mode=0o700)
    return str(tmp_path / "nfs")


def test_storage_is_in_use_from_staging_to_the_end_on_each_node(top: str, tmp_path: Path) -> None:
    jobs = [JobDirectory.create(str(tmp_path / node), "7", "train") for node in ("a", "b")]
    data = {join_cluster_storage(top, "7", job.path) for job in jobs}
    assert data == {f"{top}/{ME}-7/data"}
    Path(*data, "checkpoint").touch()
    for left, job in zip((2, 1), jobs, strict=True):
        with job:
            (found,) = list_cluster_storage(top)
            assert (found.job_id, len(found.used_by)) == ("7", left)
            with pytest.raises(UsageError, match="is in use on"):
                remove_cluster_storage(found)
            job.advance(JobState.RUNNING)
            job.advance(JobState.ENDED)  # a stager that is killed now says no more than that
    leave_cluster_storage(*data, jobs[0].path)
    (found,) = list_cluster_storage(top)
    assert found.used_by == () and os.path.exists(f"{top}/{ME}-7/data/checkpoint")
    remove_cluster_storage(found)
    remove_cluster_storage(found)
    assert os.listdir(top) == []


def test_storage_of_a_node_that_is_gone_goes_only_on_demand(top: str, monkeypatch: pytest.MonkeyPatch) -> None:
    here = os.uname()
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(os, "uname", lambda: os.uname_result((here.sysname, "gone", *here[2:])))
        join_cluster_storage(top, "7", "/scratch/jobs/7")
    (found,) = list_cluster_storage(top)
    assert found.used_by == ("gone",)
    remove_cluster_storage(found, unused_only=False)
    assert os.listdir(top) == []


def test_storage_that_a_job_left_empty_goes_at_its_end_from_a_place_of_ones_own_alone(top: str) -> None:
    for mode, left in ((0o700, []), (0o1777, [f"{ME}-7"])):
        os.chmod(top, mode)
        leave_cluster_storage(join_cluster_storage(top, "7", "/scratch/jobs/7"), "/scratch/jobs/7")
        assert os.listdir(top) == left


def test_place_where_others_could_exchange_a_directory_is_refused(top: str) -> None:
    os.chmod(top, 0o777)
    with pytest.raises(HostError, match="could exchange what lies in it"):
        join_cluster_storage(top, "7", "/scratch/jobs/7")


def test_link_in_the_place_of_a_storage_is_refused(top: str, tmp_path: Path) -> None:
    os.symlink(tmp_path, f"{top}/{ME}-7")
    with pytest.raises(StagerError, match="stands in its place"):
        join_cluster_storage(top, "7", "/scratch/jobs/7")
    assert list_cluster_storage(top) == []


@pytest.mark.root
def test_mount_in_a_storage_keeps_it(top: str) -> None:
    data = join_cluster_storage(top, "7", "/scratch/jobs/7")
    (found,) = list_cluster_storage(top)
    os.system(f"mount -t tmpfs below {data}")
    try:
        with pytest.raises(MountError):
            remove_cluster_storage(found, unused_only=False)
    finally:
        os.system(f"umount {data}")


def test_doctor_tells_where_the_storages_lie_and_what_keeps_a_user_from_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stager.host.site.SITE_FILE", str(tmp_path / "site.toml"))
    monkeypatch.setattr("stager.host.site._OWNER", ME)
    assert storage().state == "lacking" and "no place in [storage]" in storage().found
    (tmp_path / "site.toml").write_text(f'[storage]\nuser = "{tmp_path}/users"\ncluster = "{tmp_path}"\n')
    found = storage()
    assert (found.state, found.found) == ("problem", f"user storage {tmp_path}/users: No such file or directory")
    (tmp_path / "users").mkdir()
    (tmp_path / "users").chmod(0o777)
    assert "could exchange what lies in it" in storage().found
    (tmp_path / "users").chmod(0o1777)
    assert (storage().state, f"user in {tmp_path}/users" in storage().found) == ("lacking", True)


def test_settings_of_the_site_name_places_and_a_cloud(tmp_path: Path) -> None:
    path = str(tmp_path / "site.toml")
    Path(path).write_text('[storage]\ncluster = "/nfs/c/"\nshared = "/nfs/s"\ncloud = "lab"\n')
    assert site_storage(path, owner=ME) == StorageSettings(
        file=path, cluster="/nfs/c/lab", shared="/nfs/s/lab", cloud="lab"
    )
    for wrong in ('user = "nfs"', 'user = "/"', 'cloud = "../lab"', 'bucket = "b"'):
        Path(path).write_text(f"[storage]\n{wrong}\n")
        with pytest.raises(HostError, match=f"storage.{wrong.split()[0]}"):
            site_storage(path, owner=ME)
