"""The one remover of directories: what it takes, what it never takes, and what is left when it is stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stager.errors import HostError, MountError
from stager.host import trash, trees
from stager.host.trash import discard, remove_temporary, remove_tree, sweep_trash

GENERATION = f"cache/2/{'a' * 40}/3.{'b' * 16}"


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    (tmp_path / "scratch").mkdir(mode=0o700)
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/file").touch()
    return tmp_path / "scratch"


@pytest.fixture
def tree(scratch: Path) -> Path:
    """Of a job, with something in it."""
    made = make(scratch, "jobs/1/tree")
    (scratch / "jobs/1/job.json").touch()
    return made


def make(scratch: Path, below: str) -> Path:
    path = scratch / below
    (path / "run1/deep").mkdir(parents=True)
    (path / "out.txt").write_bytes(b"result")
    (path / "run1/deep/events").write_bytes(b"events")
    return path


def make_deep(top: Path, levels: int, mode: int = 0o700) -> None:
    here = os.open(top, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.fchmod(below, 0o700)
        os.close(here)
        here = below
    os.fchmod(here, mode)
    os.close(here)


def is_whole(path: Path) -> bool:
    return (path / "out.txt").exists() and (path / "run1/deep/events").exists()


@pytest.mark.parametrize(
    "below", [GENERATION, f"mirrors/{'c' * 40}", f"mirrors/{'c' * 40}/commits.7", "jobs/1/tree", "parts/1-x"]
)
def test_what_carries_the_mark_goes(scratch: Path, below: str) -> None:
    path = make(scratch, below)
    (scratch / "jobs/1").mkdir(parents=True, exist_ok=True)
    (scratch / "jobs/1/job.json").touch()
    if below.startswith("parts"):
        (path / "part.json").touch()
    discard(str(path))
    assert not path.exists()
    assert list((scratch / "trash").iterdir()) == []
    discard(str(path))


@pytest.mark.parametrize(
    "below",
    ["", "precious", "jobs", "jobs/1", "jobs/1/other", "jobs/../precious/tree", "cache/2", "cache/2/name", "trash",
     "mirrors", "mirrors/x", f"mirrors/{'c' * 40}/packs", "lfs", "parts/1-x", "parts/../x", GENERATION + "/tree"],
)  # fmt: skip
def test_what_carries_no_mark_is_refused_by_its_path(scratch: Path, below: str) -> None:
    path = make(scratch, below)
    with pytest.raises(HostError, match="nothing was removed") as refused:
        discard(str(path))
    assert refused.value.where == str(path)
    assert is_whole(path)


def test_tree_without_a_jobs_record_beside_it_is_refused(tree: Path) -> None:
    (tree.parent / "job.json").unlink()
    with pytest.raises(HostError, match=r"job\.json"):
        remove_tree(str(tree))
    assert is_whole(tree)


@pytest.mark.parametrize("at", ["", "jobs", "jobs/1", "trash"])
def test_directory_on_the_way_that_others_can_write_is_refused(scratch: Path, tree: Path, at: str) -> None:
    (scratch / "trash").mkdir()
    (scratch / at).chmod(0o777)
    with pytest.raises(HostError, match="others can write"):
        remove_tree(str(tree))
    assert is_whole(tree)


@pytest.mark.root
@pytest.mark.parametrize("at", ["jobs", "jobs/1/tree"])
def test_directory_of_another_user_is_refused(scratch: Path, tree: Path, at: str) -> None:
    os.chown(scratch / at, 1234, -1)
    with pytest.raises(HostError, match=r"another user \(uid 1234\)|not your own"):
        remove_tree(str(tree))
    assert is_whole(tree)


@pytest.mark.parametrize("at", ["jobs", "jobs/1", "jobs/1/tree", "trash"])
def test_symlink_on_the_way_is_not_followed(scratch: Path, tree: Path, tmp_path: Path, at: str) -> None:
    (scratch / "trash").mkdir(exist_ok=True)
    (scratch / at).rename(tmp_path / "moved")
    (scratch / at).symlink_to(tmp_path / "moved")
    with pytest.raises(HostError):
        remove_tree(str(tree))
    assert is_whole(tree)


def test_tree_is_removed_whatever_it_holds(scratch: Path, tree: Path, tmp_path: Path) -> None:
    (tree / "link").symlink_to(tmp_path / "precious")
    os.mkfifo(tree / "pipe")
    make_deep(tree, 200)
    (tree / "run1/deep").chmod(0)
    (tree / "run1").chmod(0o500)
    tree.chmod(0)
    before = len(os.listdir("/proc/self/fd"))
    remove_tree(str(tree))
    assert not tree.exists()
    assert list((scratch / "trash").iterdir()) == []
    assert (tmp_path / "precious/file").exists()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.root
def test_ten_thousand_levels_are_removed(scratch: Path) -> None:
    """In memory: ext4 takes 3 ms to remove a directory."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=700", "none", scratch], check=True)
    try:
        path = make(scratch, GENERATION)
        make_deep(path, 10_000)
        discard(str(path))
        assert not path.exists()
        assert os.listdir(scratch / "trash") == []
    finally:
        subprocess.run(["umount", scratch], check=True)


@pytest.mark.root
def test_ordinary_user_removes_what_a_job_closed_however_deep(scratch: Path, tree: Path, tmp_path: Path) -> None:
    """A directory that cannot be written cannot be moved either: rename(2) has to change its ".."."""
    make_deep(tree, 200, 0)
    for level in (64, 65, 66, 130):
        (tree / "/".join(["d"] * level)).chmod(0)
    for path in (tree / "run1/deep", tree / "run1", tree):
        path.chmod(0)
    subprocess.run(["chown", "-R", "65534", scratch], check=True)
    for above in (tmp_path, *tmp_path.parents):
        if above.stat().st_uid == os.geteuid() and not above.stat().st_mode & 0o001:
            above.chmod(0o755)
    os.seteuid(65534)
    try:
        discard(str(tree))
    finally:
        os.seteuid(0)
    assert not tree.exists()
    assert list((scratch / "trash").iterdir()) == []


def test_symlink_that_takes_a_directorys_place_meanwhile_is_not_followed(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at a directory and its opening; and the tree's own name, before it is moved."""
    opened = trees.open_below

    def swap(name: str | bytes, flags: int, dir_fd: int) -> int:
        if name == "run1":
            os.rename(name, "elsewhere", src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
            os.symlink(tmp_path / "precious", name, dir_fd=dir_fd)
        return opened(name, flags, dir_fd)

    with monkeypatch.context() as patch:
        patch.setattr(trees, "open_below", swap)
        with pytest.raises(HostError):
            remove_tree(str(tree))
    assert (tmp_path / "precious/file").exists()
    assert not tree.exists()
    sweep_trash(str(tree.parents[2]))
    assert list((tree.parents[2] / "trash").iterdir()) == []
    assert (tmp_path / "precious/file").exists()


def test_directory_that_takes_the_trees_name_meanwhile_stays(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exchange(_: int) -> bool:
        tree.rename(tree.with_name("moved"))
        (tmp_path / "precious").rename(tree)
        return True

    monkeypatch.setattr(trash, "_lock", exchange)
    with pytest.raises(HostError, match="was exchanged"):
        remove_tree(str(tree))
    assert (tree / "file").exists()
    assert is_whole(tree.with_name("moved"))


@pytest.mark.root
@pytest.mark.parametrize("kind", ["tmpfs", "bind"])
@pytest.mark.parametrize("when", ["before", "after the look", "in the trash"])
def test_what_is_mounted_below_is_not_touched(scratch: Path, tree: Path, tmp_path: Path, kind: str, when: str) -> None:
    """A bind of the same device has the same st_dev; only the mount tells."""
    if when == "in the trash":
        tree = tree.rename(scratch / "trash-to-be")
        (scratch / "trash").mkdir(mode=0o700)
        tree = tree.rename(scratch / "trash" / ("0" * 32))
    point = tree / "run1/deep"
    what = ["-t", "tmpfs", "none"] if kind == "tmpfs" else ["--bind", tmp_path / "precious"]
    subprocess.run(["mount", *what, point], check=True)
    (point / "mine").touch()
    try:
        if when == "in the trash":
            sweep_trash(str(scratch))
        else:
            with pytest.raises(MountError, match="mounted"):
                (remove_tree if when == "before" else discard)(str(tree))
        assert (tree / "out.txt").exists() or when != "before"
        (left,) = [tree / "run1/deep"] if tree.exists() else list((scratch / "trash").glob("*/run1/deep"))
        assert (left / "mine").exists()
        point = left
    finally:
        subprocess.run(["umount", point], check=True)
    sweep_trash(str(scratch))
    assert list((scratch / "trash").iterdir() if (scratch / "trash").exists() else []) == []


@pytest.mark.root
def test_tree_that_a_living_process_has_mounted_is_not_removed(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "point").mkdir()
    script = f"mount --bind {tree}/run1 {tmp_path}/point && echo up && exec cat"
    argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as viewer:
        assert viewer.stdout is not None and viewer.stdout.readline() == b"up\n"
        with pytest.raises(HostError, match=f"process {viewer.pid} of the job is alive"):
            remove_tree(str(tree))
        assert is_whole(tree)
    remove_tree(str(tree))
    assert not tree.exists()


KILLED = """
import os, signal, sys
from stager.host import trash
left = int(sys.argv[2])
def counted(name):
    call = getattr(os, name)
    def counting(*given, **named):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*given, **named)
    setattr(os, name, counting)
for name in ("mkdir", "rename", "unlink", "rmdir", "fchmod"):
    counted(name)
trash.discard(sys.argv[1])
"""


def test_kill_at_any_step_leaves_the_tree_or_trash_that_is_swept(scratch: Path) -> None:
    seen = set()
    for steps in range(40):
        path = make(scratch, GENERATION)
        done = subprocess.run([sys.executable, "-c", KILLED, path, str(steps)], check=False)
        seen.add((is_whole(path), path.exists(), bool(list((scratch / "trash").glob("*")))))
        sweep_trash(str(scratch))
        assert list((scratch / "trash").glob("*")) == []
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL
        if path.exists():
            discard(str(path))
    assert done.returncode == 0
    assert seen == {(True, True, False), (False, False, True), (False, False, False)}


def test_trash_that_somebody_is_at_stays_and_strange_names_too(scratch: Path) -> None:
    for name in ("1" * 32, "2" * 32, "mine"):
        make(scratch, f"trash/{name}")
    (scratch / "trash" / ("3" * 32)).symlink_to(scratch / "trash/mine")
    fd = os.open(scratch / "trash" / ("1" * 32), os.O_RDONLY)
    try:
        assert trash._lock(fd)
        sweep_trash(str(scratch))
        assert sorted(os.listdir(scratch / "trash")) == ["1" * 32, "mine"]
        assert is_whole(scratch / "trash" / ("1" * 32)) and is_whole(scratch / "trash/mine")
    finally:
        os.close(fd)
    sweep_trash(str(scratch))
    assert os.listdir(scratch / "trash") == ["mine"]


@pytest.mark.root
def test_disk_of_its_own_or_without_room_is_emptied_in_place(scratch: Path) -> None:
    """A full disk has no block for the trash, and what is on another cannot be renamed into it."""
    (scratch / "cache").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nr_inodes=60,mode=700", "none", scratch / "cache"], check=True)
    try:
        path = make(scratch, GENERATION)
        with pytest.raises(OSError, match="No space"):
            for number in range(100):
                (path / str(number)).touch()
        discard(str(path))
        assert not path.exists()
    finally:
        subprocess.run(["umount", scratch / "cache"], check=True)


@pytest.mark.parametrize(
    ("name", "goes"),
    [(f"tmp.{'0' * 16}", True), (f"tmp.{'0' * 16}/git-abc", True), ("run-abcd_f12/repository-1.git", True),
     ("git-abcd1234", True), ("doctor-abcd1234", True), ("tmp.x", False), ("data", False), ("", False),
     ("run-", False), ("xrun-abcd1234", False)],
)  # fmt: skip
def test_only_what_a_run_has_named_as_its_own_goes_at_once(tmp_path: Path, name: str, goes: bool) -> None:
    path = make(tmp_path, name)
    if goes:
        remove_temporary(str(path))
        remove_temporary(str(path))
    else:
        with pytest.raises(HostError, match="nothing was removed"):
            remove_temporary(str(path))
    assert path.exists() != goes


def test_two_that_remove_the_same_are_in_nobodys_way(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, unlink = make(scratch, GENERATION), os.unlink

    def gone(name: str, *, dir_fd: int) -> None:
        unlink(name, dir_fd=dir_fd)
        unlink(name, dir_fd=dir_fd)  # as when another one came first

    monkeypatch.setattr(os, "unlink", gone)
    discard(str(path))
    assert not path.exists()
