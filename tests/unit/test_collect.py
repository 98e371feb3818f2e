"""Logs of a job that means harm, kept; trees removed without reaching outside; scratch that is one's own."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from stager.errors import HostError, NoSpaceError, UsageError
from stager.host.scratch import open_scratch
from stager.host.trash import remove_tree
from stager.stages.collect import Collected, collect_tree, holds_anything
from stager.stages.collect_directory import DirectorySink
from stager.stages.collect_place import claim_place, count_own_parts, persist_path, release_place
from stager.stages.collect_sink import Tally
from stager.stages.place import place


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    path = tmp_path / "logs"
    (path / "run1" / "deep").mkdir(parents=True)
    (path / "out.txt").write_bytes(b"result")
    (path / "empty").touch()
    (path / "run1" / "deep" / "events").write_bytes(b"events")
    return path


def collect_logs(
    logs: str, destination: str, *, token: str, own_parts: int = 1, same_boot: bool = True
) -> Collected:
    return collect_tree(logs, DirectorySink(destination, own_parts), token=token, tally=Tally(trusted=same_boot))


def names(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}


def test_tree_is_kept_with_empty_files_and_times(logs: Path, tmp_path: Path) -> None:
    (logs / "out.txt").chmod(0o600)
    os.utime(logs / "out.txt", ns=(1, 2))
    found = collect_logs(str(logs), str(tmp_path / "kept"), token="7")
    kept = tmp_path / "kept"
    assert names(kept) == names(logs) | {".stager-job", ".stager-receipt.json"}
    assert (kept / "out.txt").read_bytes() == b"result"
    assert (kept / "out.txt").stat().st_mtime_ns == 2
    assert stat.S_IMODE((kept / "out.txt").stat().st_mode) == 0o600
    assert (found.total.objects, found.total.bytes, found.left_out) == (3, 12, ())


def test_collecting_again_copies_only_what_is_missing(logs: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    collect_logs(str(logs), str(kept), token="7")
    inode = (kept / "out.txt").stat().st_ino
    (kept / "empty").unlink()
    (logs / "late").write_bytes(b"late")
    collect_logs(str(logs), str(kept), token="7")
    assert (kept / "out.txt").stat().st_ino == inode
    assert (kept / "empty").exists() and (kept / "late").read_bytes() == b"late"


def test_links_that_could_lead_outside_and_special_files_are_left_out_by_name(logs: Path, tmp_path: Path) -> None:
    (logs / "latest").symlink_to("run1/deep")
    (logs / "passwd").symlink_to("/etc/passwd")
    (logs / "up").symlink_to("../../secret")
    os.mkfifo(logs / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(logs / "sock"))
        found = collect_logs(str(logs), str(tmp_path / "kept"), token="7")
    kept = tmp_path / "kept"
    assert os.readlink(kept / "latest") == "run1/deep"
    assert {text.split(":")[0] for text in found.left_out} == {"passwd", "up", "pipe", "sock"}
    assert not any(os.path.lexists(kept / name) for name in ("passwd", "up", "pipe", "sock"))


def test_place_of_another_job_is_never_written(logs: Path, tmp_path: Path) -> None:
    collect_logs(str(logs), str(tmp_path / "kept"), token="7")
    with pytest.raises(HostError, match="another job"):
        collect_logs(str(logs), str(tmp_path / "kept"), token="8")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis").touch()
    with pytest.raises(HostError, match="not this job's"):
        collect_logs(str(logs), str(tmp_path / "full"), token="7")
    assert os.listdir(tmp_path / "full") == ["thesis"]


def test_symlink_planted_in_the_copy_is_not_followed(logs: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    collect_logs(str(logs), str(kept), token="7")
    (tmp_path / "victim").write_bytes(b"precious")
    (kept / "out.txt").unlink()
    (kept / "out.txt").symlink_to(tmp_path / "victim")
    collect_logs(str(logs), str(kept), token="7")
    assert (tmp_path / "victim").read_bytes() == b"precious"
    assert (kept / "out.txt").read_bytes() == b"result"


def test_holes_are_neither_read_nor_written(logs: Path, tmp_path: Path) -> None:
    with open(logs / "sparse", "wb") as file:
        file.seek(1 << 30)
        file.write(b"middle")
        file.truncate(1 << 42)
    found = collect_logs(str(logs), str(tmp_path / "kept"), token="7")
    copy = tmp_path / "kept" / "sparse"
    assert copy.stat().st_size == 1 << 42 and found.total.bytes == 12 + (1 << 42)
    assert copy.stat().st_blocks * 512 < 1 << 20
    with open(copy, "rb") as file:
        file.seek((1 << 30) - 1)
        assert file.read(8) == b"\0middle\0"


def test_want_of_space_is_told_before_anything_is_copied(
    logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (logs / "large").write_bytes(bytes(100_000))
    real = os.fstatvfs

    def nearly_full(fd: int) -> SimpleNamespace:
        return SimpleNamespace(f_bavail=10, f_frsize=real(fd).f_frsize)

    monkeypatch.setattr(os, "fstatvfs", nearly_full)
    with pytest.raises(NoSpaceError, match="are free"):
        collect_logs(str(logs), str(tmp_path / "kept"), token="7")
    assert os.listdir(tmp_path / "kept") == [".stager-job"]
    (logs / "large").write_bytes(b"small")
    collect_logs(str(logs), str(tmp_path / "kept"), token="7")
    monkeypatch.setattr(os, "fstatvfs", lambda _: SimpleNamespace(f_bavail=0, f_frsize=4096))
    collect_logs(str(logs), str(tmp_path / "kept"), token="7")


def test_copy_made_before_the_node_was_restarted_is_made_again(logs: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept" / "out.txt"
    collect_logs(str(logs), str(tmp_path / "kept"), token="7")
    kept.write_bytes(bytes(6))
    os.utime(kept, ns=(1, (logs / "out.txt").stat().st_mtime_ns))
    collect_logs(str(logs), str(tmp_path / "kept"), token="7")
    assert kept.read_bytes() == bytes(6)
    collect_logs(str(logs), str(tmp_path / "kept"), token="7", same_boot=False)
    assert kept.read_bytes() == b"result"


def test_files_are_made_durable_all_at_once(logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    collect_logs(str(logs), str(tmp_path / "kept"), token="7")
    (logs / "late").write_bytes(b"late")
    monkeypatch.setattr(os, "fsync", synced.append)
    monkeypatch.setattr("stager.stages.collect_directory.sync_file_system", lambda fd: synced.append(-1))
    collect_logs(str(logs), str(tmp_path / "kept"), token="7")
    assert synced[0] == -1 and len(synced) == 3  # then the receipt, and its name


@pytest.mark.parametrize("planted", ["8", "8/0"])
def test_symlink_in_place_of_a_jobs_own_directory_is_refused(tmp_path: Path, planted: str) -> None:
    (tmp_path / "thief").mkdir()
    (tmp_path / "share" / planted).parent.mkdir(parents=True)
    (tmp_path / "share" / planted).symlink_to(tmp_path / "thief")
    with pytest.raises(HostError, match=f"share/{planted}: a symlink"):
        claim_place(f"{tmp_path}/share/8/0", "8 x", own_parts=2)
    assert os.listdir(tmp_path / "thief") == []


@pytest.mark.root
@pytest.mark.parametrize("planted", ["8", "8/0"])
def test_another_users_directory_in_place_of_a_jobs_own_is_refused(logs: Path, tmp_path: Path, planted: str) -> None:
    (tmp_path / planted).mkdir(parents=True)
    os.chown(tmp_path / planted, 4712, 4712)
    with pytest.raises(HostError, match="belongs to another user"):
        claim_place(f"{tmp_path}/8/0", "8 x", own_parts=2)
    with pytest.raises(HostError, match="belongs to another user"):
        collect_logs(str(logs), f"{tmp_path}/8/0", token="8 x", own_parts=2)


def test_symlink_that_the_user_names_is_followed(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "share").symlink_to("disk")
    assert claim_place(f"{tmp_path}/share/8/0", "8 x", own_parts=2)
    assert os.listdir(tmp_path / "disk" / "8" / "0") == [".stager-job"]
    release_place(f"{tmp_path}/share/8/0", "8 x", own_parts=2)
    assert os.listdir(tmp_path / "disk" / "8") == []


@pytest.mark.parametrize(
    ("template", "parts"), [("/a", 2), ("/a/{job.id}", 1), ("/a//x{job.id}/./logs/{job.id}/", 3), ("/a/{job.name}", 2)]
)
def test_own_parts_of_a_place_begin_with_the_jobs_id(template: str, parts: int) -> None:
    assert count_own_parts(template) == parts


def test_logs_cannot_forge_the_mark(logs: Path, tmp_path: Path) -> None:
    (logs / ".stager-job").write_bytes(b"8")
    collect_logs(str(logs), str(tmp_path / "kept"), token="7")
    assert (tmp_path / "kept" / ".stager-job").read_bytes() == b"7\n"


def test_unreadable_logs_of_ones_own_are_kept_too(logs: Path, tmp_path: Path) -> None:
    (logs / "run1" / "deep" / "events").chmod(0)
    (logs / "run1").chmod(0)
    collect_logs(str(logs), str(tmp_path / "kept"), token="7")
    assert (tmp_path / "kept" / "run1" / "deep" / "events").read_bytes() == b"events"


@pytest.mark.root
def test_logs_that_an_ordinary_users_job_closed_are_kept_and_removed() -> None:
    base = Path(tempfile.mkdtemp(prefix="stager-user-"))
    os.chown(base, 65534, -1)
    os.seteuid(65534)
    try:
        logs = base / "jobs" / "1" / "tree" / "logs"
        logs.mkdir(parents=True)
        (base / "jobs/1/job.json").touch()
        (logs / "o").write_bytes(b"x")
        logs.chmod(0)
        assert holds_anything(str(logs))
        logs.chmod(0)
        assert collect_logs(str(logs), str(base / "kept"), token="7").total.objects == 1
        logs.parent.chmod(0)
        remove_tree(str(logs.parent))
        assert os.listdir(base / "jobs/1") == ["job.json"]
        assert os.listdir(base / "trash") == []
    finally:
        os.seteuid(0)
        shutil.rmtree(base)


def test_nesting_without_end_is_left_out_by_name(logs: Path, tmp_path: Path) -> None:
    make_deep(logs, 400)
    found = collect_logs(str(logs), str(tmp_path / "kept"), token="7")
    assert len(found.left_out) == 1 and "nested too deep" in found.left_out[0]


def make_deep(top: Path, levels: int) -> None:
    here = os.open(top, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)


def test_holds_anything_tells_an_empty_directory(logs: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    assert holds_anything(str(logs))
    assert not holds_anything(str(tmp_path / "none"))
    assert not holds_anything(str(tmp_path / "missing"))


@pytest.mark.parametrize(
    ("template", "environ", "path"),
    [
        ("/r", {}, "/r/7/0"),
        ("/r", {"SLURM_NODEID": "3"}, "/r/7/3"),
        ("/r/{job.id}", {"SLURM_NODEID": "3"}, "/r/7"),
        ("/r/{job.name}", {}, "/r/train/7/0"),
        ("/r/{job.name}-{job.id}/{node.rank}", {"SLURM_NODEID": "../x"}, "/r/train-7/0"),
    ],
)
def test_place_of_logs_names_job_and_node(template: str, environ: dict[str, str], path: str) -> None:
    assert persist_path(template, job_id="7", job_name="train", environ=environ) == path


def test_place_of_logs_that_leads_upwards_is_refused() -> None:
    for template in ("/r/../x", "relative"):
        with pytest.raises(UsageError):
            persist_path(template, job_id="7", job_name="train", environ={})


def test_scratch_of_ones_own_is_used_as_it_is(tmp_path: Path) -> None:
    assert open_scratch(str(tmp_path / "mine"), {}) == str(tmp_path / "mine")
    assert (tmp_path / "mine").stat().st_mode & 0o777 == 0o700
    assert open_scratch(None, {"STAGER_SCRATCH": str(tmp_path / "mine")}) == str(tmp_path / "mine")


def test_directory_others_may_write_gets_a_private_one_inside(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    scratch = open_scratch(str(tmp_path), {})
    assert scratch == str(tmp_path / f"stager-{os.geteuid()}")
    assert os.stat(scratch).st_mode & 0o777 == 0o700
    assert open_scratch(str(tmp_path), {}) == scratch


def test_what_somebody_put_in_place_of_scratch_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    planted = tmp_path / f"stager-{os.geteuid()}"
    (tmp_path / "elsewhere").mkdir()
    planted.symlink_to("elsewhere")
    with pytest.raises(HostError, match="only you can write"):
        open_scratch(str(tmp_path), {})
    planted.unlink()
    planted.mkdir()
    planted.chmod(0o777)
    with pytest.raises(HostError, match="only you can write"):
        open_scratch(str(tmp_path), {})
    if os.geteuid() == 0:
        planted.chmod(0o700)
        os.chown(planted, 4711, -1)
        with pytest.raises(HostError, match="only you can write"):
            open_scratch(str(tmp_path), {})


def test_relative_scratch_is_refused() -> None:
    with pytest.raises(UsageError, match="absolute"):
        open_scratch("here", {})


def test_placement_says_what_is_free(tmp_path: Path) -> None:
    found = place(str(tmp_path / "s"), {})
    assert found.scratch == str(tmp_path / "s")
    assert found.free_bytes > 0
    assert found.file_system != "unknown"
