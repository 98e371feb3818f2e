"""What a local directory owes as a source beyond the common contract."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from array import array
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from entries import listed
from stager._native import Entries
from stager.errors import AccessDeniedError, BadKeysError, ChangedError, NotFoundError, UsageError
from stager.host.partial import Partials
from stager.manifest import Entry
from stager.sources.base import Landing
from stager.sources.local import LocalSource
from stager.urls import parse_source


def copy(
    source: Path, root: Path, *, tree: Path | None = None, between: Callable[[], None] = lambda: None
) -> dict[str, Entry]:
    """Snapshot, then ``between``, then fetch everything to ``tree`` (``root / "tree"``)."""
    tree = tree or root / "tree"

    async def run() -> dict[str, Entry]:
        told = array("I")
        with ExitStack() as stack:
            fds = []
            for path in (tree, root / "tmp"):
                path.mkdir(exist_ok=True, parents=True)
                fds.append(os.open(path, os.O_RDONLY))
                stack.callback(os.close, fds[-1])
            async with LocalSource(parse_source(f"file://{source}")) as local:
                snapshot = await local.snapshot()
                between()
                entries = Entries(snapshot.table)
                partials = stack.enter_context(Partials(fds[1], "test"))
                where = Landing(
                    root_fd=fds[0], tmp_fd=fds[1], entries=entries, partials=partials, root=str(tree)
                )
                rows = array("I", range(len(snapshot.table)))
                await local.fetch(snapshot, rows, where, told.extend)
        assert os.listdir(root / "tmp") == []
        assert sorted(told) == list(entries.stands())
        return {os.fsdecode(entry.path): entry for entry in listed(entries)}

    before = set(os.listdir("/proc/self/fd"))
    try:
        return asyncio.run(run())
    finally:
        assert len(os.listdir("/proc/self/fd")) <= len(before), "descriptors leak"  # an earlier test's may go meanwhile


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    (path / "sub" / "deep").mkdir(parents=True)
    (path / "a").write_bytes(b"alpha")
    (path / "sub" / "deep" / "b").write_bytes(b"beta")
    return path


def test_modes_and_links_are_kept_and_special_bits_are_not(source: Path, tmp_path: Path) -> None:
    (source / "run").write_bytes(b"#!")
    (source / "run").chmod(0o4755)
    (source / "private").write_bytes(b"x")
    (source / "private").chmod(0o600)
    (source / "inside").symlink_to("sub/deep/b")
    (source / "outside").symlink_to("/etc/passwd")
    (source / "dangling").symlink_to("nowhere")
    (source / "directory").symlink_to("sub")
    os.link(source / "a", source / "hard")
    entries = copy(source, tmp_path)
    tree = tmp_path / "tree"
    assert stat.S_IMODE((tree / "run").stat().st_mode) == 0o755
    assert stat.S_IMODE((tree / "private").stat().st_mode) == 0o600
    for name in ("inside", "outside", "dangling", "directory"):
        assert os.readlink(tree / name) == os.readlink(source / name)
        assert stat.S_ISLNK(entries[name].mode)
    assert "directory/deep/b" not in entries
    assert (tree / "hard").stat().st_nlink == 1
    assert {entry.grade for entry in entries.values()} == {"B"}


def test_names_of_any_bytes_are_copied(source: Path, tmp_path: Path) -> None:
    name = b"\xff\xfe new\nline"
    (Path(os.fsdecode(os.fsencode(source) + b"/" + name))).write_bytes(b"odd")
    copy(source, tmp_path)
    with open(os.fsencode(tmp_path / "tree") + b"/" + name, "rb") as file:
        assert file.read() == b"odd"


def test_special_files_are_refused_by_name(source: Path, tmp_path: Path) -> None:
    os.mkfifo(source / "sub" / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(source / "sock"))
        with pytest.raises(BadKeysError) as caught:
            copy(source, tmp_path)
    assert set(caught.value.problems) == {"sub/pipe: a FIFO", "sock: a socket"}
    assert list((tmp_path / "tree").iterdir()) == []


def test_file_changed_after_the_scan_is_an_error(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ChangedError, match="sub/deep/b"):
        copy(source, tmp_path, between=lambda: (source / "sub" / "deep" / "b").write_bytes(b"BETA") and None)


def test_directory_moved_after_the_scan_is_an_error(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ChangedError):
        copy(source, tmp_path, between=lambda: (source / "sub").rename(source / "moved") and None)


def test_directory_swapped_for_a_symlink_is_not_followed(source: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    (tmp_path / "elsewhere" / "deep" / "b").write_bytes(b"beta")

    def swap() -> None:
        (source / "sub").rename(source / "moved")
        (source / "sub").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(ChangedError):
        copy(source, tmp_path, between=swap)
    assert not (tmp_path / "tree" / "sub" / "deep" / "b").exists()


def test_file_swapped_for_a_symlink_is_not_followed(source: Path, tmp_path: Path) -> None:
    def swap() -> None:
        (source / "a").unlink()
        (source / "a").symlink_to("/etc/passwd")

    with pytest.raises(ChangedError):
        copy(source, tmp_path, between=swap)
    assert not (tmp_path / "tree" / "a").exists()


@pytest.mark.parametrize("where", ["source", "source/sub/into", "."])
def test_destination_and_source_in_one_another_are_refused(source: Path, tmp_path: Path, where: str) -> None:
    with pytest.raises(UsageError, match="in one another"):
        copy(source, tmp_path, tree=tmp_path / where)
    assert (source / "a").read_bytes() == b"alpha"


def test_missing_directory_is_not_found_and_a_file_is_no_directory(source: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        copy(tmp_path / "none", tmp_path)
    with pytest.raises(UsageError, match="not a directory"):
        copy(source / "a", tmp_path)


def test_nesting_without_end_is_refused(source: Path, tmp_path: Path) -> None:
    here = os.open(source, os.O_RDONLY)
    for _ in range(300):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    with pytest.raises(BadKeysError, match="nested"):
        copy(source, tmp_path)


@pytest.mark.root
def test_unreadable_file_or_directory_is_access_denied(source: Path, tmp_path: Path) -> None:
    (source / "sub").chmod(0)
    tmp_path.chmod(0o777)
    # The directories above are root's alone: another user gets in through descriptors.
    there, here = os.open(source, os.O_RDONLY), os.open(tmp_path, os.O_RDONLY)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgid(4711)
            os.setuid(4711)
            with pytest.raises(AccessDeniedError, match="sub"):
                copy(Path(f"/proc/self/fd/{there}"), Path(f"/proc/self/fd/{here}"))
            status = 0
        finally:
            os._exit(status)
    os.close(there)
    os.close(here)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
