"""What a hostile tree, a clock and a hostile name cannot do to whoever keeps its files; what counts as changed."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stager.errors import BadKeysError, HostError, UsageError
from stager.host import syscalls
from stager.host.expressions import check_expression, wanted_by
from stager.host.inputs_file import INPUTS, read_inputs, write_inputs
from stager.host.leaves import Leaf, Left, Lister, Steps, in_order, open_file
from stager.host.record import JobDirectory
from stager.job.end import collect_job
from stager.job.keeps import drain_logs, keeps_of
from stager.model import JobState
from stager.stages.collect import collect_tree
from stager.stages.collect_changed import ChangedInputs, written
from stager.stages.collect_directory import RECEIPT, DirectorySink
from stager.stages.collect_sink import Tally
from stager.stages.unite import unite


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


def leaf(path: str | bytes, size: int = 1) -> Leaf:
    return Leaf(os.fsencode(path), size, 0o100644, 1, 1)


def test_order_is_that_of_a_walk_whatever_stands_beside_a_slash(tmp_path: Path, directory: int) -> None:
    for name in ("a/b", "a-b", "a.b/c", "a0", "b"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    paths = [found.path for found in Lister(directory, left=lambda _: None).leaves()]
    assert paths == sorted(paths, key=in_order) == [b"a", b"a/b", b"a-b", b"a.b", b"a.b/c", b"a0", b"b"]


def test_what_was_kept_while_the_job_ran_is_another_kind_of_file_at_its_end(tmp_path: Path) -> None:
    logs, kept = tmp_path / "logs", tmp_path / "kept"
    logs.mkdir()
    os.symlink("run1", logs / "latest")
    for name in ("was", "dir"):
        (logs / name).write_text(name)

    def keep(*, running: bool) -> list[str]:
        found = collect_tree(
            str(logs), DirectorySink(str(kept), 1), token="7", tally=Tally(running=running),
            receipt=None if running else dict,
        )  # fmt: skip
        return list(found.missing)

    assert keep(running=True) == []
    for name in ("latest", "was", "dir"):
        (logs / name).unlink()
    os.symlink("run2", logs / "latest")
    os.symlink("other", logs / "was")
    (logs / "dir").mkdir()
    (logs / "dir/in").write_text("in")
    (logs / "more").write_text("more")
    (said,) = keep(running=False)
    assert said == "dir/in: an earlier copy has a file of another kind in its place"
    assert (os.readlink(kept / "latest"), os.readlink(kept / "was")) == ("run2", "other")
    assert (kept / "more").read_text() == "more"


def test_q7_written_is_what_is_no_input_or_not_as_it_was(directory: int, tmp_path: Path) -> None:
    inputs = [leaf("a/b"), leaf("a/c"), leaf("a-b"), leaf(b"\xff"), leaf("z")]
    inputs.sort(key=lambda one: in_order(one.path))
    assert write_inputs(directory, inputs) == 5
    now = [leaf("a"), leaf("a/b"), leaf("a/c", 2), leaf("a/new"), leaf(b"\xff"), leaf("new")]
    changes = ChangedInputs()
    now.sort(key=lambda one: in_order(one.path))
    found = [one.path for one in written(now, read_inputs(directory), changes)]
    assert found == [b"a", b"a/c", b"a/new", b"new"]
    assert changes.told() == {"changed": 1, "removed": 2, "first": ["a/c", "a-b", "z"]}
    whole = (tmp_path / INPUTS).read_bytes().splitlines(keepends=True)
    for damaged in (whole[:-1], [*whole[:2], *whole[3:]], [*whole, whole[0]], [b"[1]\n"]):
        (tmp_path / INPUTS).write_bytes(b"".join(damaged))
        with pytest.raises(HostError, match="damaged"):
            list(read_inputs(directory))


def test_expressions_search_anywhere_and_take_no_longer_than_they_may() -> None:
    paths = [b"out/a.h5", b"tmp/b.h5", b"c.txt", b"\xff.h5"]
    assert wanted_by(r"\.h5", "^tmp/", paths) == [True, False, False, True]
    assert wanted_by("", "", paths) == [True] * 4
    assert check_expression("(") and check_expression("a\0") and not check_expression("(a+)+$")
    started = time.monotonic()
    with pytest.raises(UsageError, match="take more than"):
        wanted_by("(a+)+$", "", [b"a" * 100 + b"b"], limit_s=0.3)
    assert time.monotonic() - started < 30


def test_c20_with_a_deadline_small_and_new_files_come_first_and_the_rest_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs, kept = tmp_path / "logs", tmp_path / "kept"
    logs.mkdir()
    for name, size, when in (("large", 9000, 9), ("old", 10, 1), ("new", 10, 2), ("small", 1, 1)):
        (logs / name).write_bytes(bytes(size))
        os.utime(logs / name, (when, when))
    clock = itertools.count()
    monkeypatch.setattr("stager.stages.collect_sink.time.monotonic", lambda: next(clock))
    found = collect_tree(str(logs), DirectorySink(str(kept), 1), token="7", tally=Tally(deadline_s=3.5))
    assert {path.name for path in kept.iterdir()} == {"small", "new", ".stager-job", RECEIPT}
    assert [text.split(":")[0] for text in found.missing] == ["old", "large"] and not found.is_whole
    assert '"partial"' in (kept / RECEIPT).read_text()
    assert collect_tree(str(logs), DirectorySink(str(kept), 1), token="7", tally=Tally()).is_whole
    assert '"done"' in (kept / RECEIPT).read_text() and (kept / "large").stat().st_size == 9000


def test_what_became_a_link_or_a_pipe_after_it_was_listed_is_not_opened(tmp_path: Path, directory: int) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "file").touch()
    with Steps(directory) as steps:
        below, name = steps.directory_of(b"dir/file")
        fd = open_file(name, below)
        assert fd is not None
        os.close(fd)
    (tmp_path / "dir" / "file").unlink()
    os.mkfifo(tmp_path / "dir" / "file")
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "way").symlink_to("dir")
    with Steps(directory) as steps:
        assert open_file(b"file", steps.directory_of(b"dir/file")[0]) is None
        assert open_file(b"link", directory) is None
        with pytest.raises(OSError):
            steps.directory_of(b"way/file")


@pytest.mark.root
def test_another_file_system_in_the_tree_is_not_entered(tmp_path: Path, directory: int) -> None:
    (tmp_path / "bind").mkdir()
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").touch()
    tree = syscalls.clone_tree(str(tmp_path / "secret"))
    syscalls.attach_tree(tree, str(tmp_path / "bind"))
    os.close(tree)
    left: list[Left] = []
    try:
        paths = [found.path for found in Lister(directory, left=left.append).leaves()]
    finally:
        syscalls.unmount(str(tmp_path / "bind"), syscalls.MNT_DETACH)
    assert paths == [b"bind", b"secret", b"secret/key"]
    assert left == [Left(b"bind", "another file system is mounted here")]


def test_q6_sources_that_changed_meanwhile_are_not_mixed(tmp_path: Path) -> None:
    for name in ("one/a/b", "two/a", "into/x"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    with pytest.raises(BadKeysError, match="a: is a file in one and a directory in another"):
        unite([str(tmp_path / "one"), str(tmp_path / "two")], str(tmp_path / "into"))


@pytest.mark.parametrize("restarted", [False, True])
def test_what_was_kept_before_the_node_was_restarted_is_brought_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restarted: bool
) -> None:
    kept = tmp_path / "kept"
    with JobDirectory.create(str(tmp_path / "scratch"), "7", "train") as job:
        os.makedirs(f"{job.tree}/logs")
        Path(f"{job.tree}/logs/out").write_bytes(b"result")
        os.utime(f"{job.tree}/logs/out", (1, 1))
        job.keep_logs_in(str(kept), own_parts=1, restart=0)
        job.advance(JobState.READY)
        job.advance(JobState.RUNNING)
        (keep,) = keeps_of(job)
        known: dict[bytes, tuple[int, int, int, int]] = {}
        assert drain_logs(job, keep, known).total.objects == 1
        assert drain_logs(job, keep, known).total.objects == 0
        (kept / "out").write_bytes(bytes(6))
        os.utime(kept / "out", (1, 1))
        if restarted:
            monkeypatch.setattr(time, "clock_gettime", lambda _: 0.0)
        (found,) = collect_job(job)
        assert found.is_whole and job.record.state is JobState.PERSISTED
    assert (kept / "out").read_bytes() == (b"result" if restarted else bytes(6))
