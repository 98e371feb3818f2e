"""LFS objects on a file system that can clone: a second tree on the node shares their blocks until it writes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.clone_disk import clone_disk, used_bytes
from integration.sync_driver import SyncHere, tree
from servers.git_http import GitHttp
from servers.lfs_fixture import LfsFixture, lfs_fixture
from servers.repositories import lfs_pointer, make_repository
from servers.s3 import object_bytes

pytestmark = pytest.mark.root

MIB = 1 << 20
OBJECTS = {f"{number}.bin": object_bytes(4 * MIB + number, number) for number in range(5)}


@pytest.fixture
def lfs() -> Iterator[LfsFixture]:
    with lfs_fixture() as server:
        yield server


def test_second_tree_shares_the_blocks_of_objects_and_writes_to_its_own(
    git_server: GitHttp, lfs: LfsFixture, tmp_path: Path
) -> None:
    for content in OBJECTS.values():
        lfs.add(content)
    pointers = {name: lfs_pointer(content) for name, content in OBJECTS.items()}
    config = f"[lfs]\n\turl = {lfs.url}\n".encode()
    plain = {".gitattributes": b"*.bin filter=lfs -text\n", ".lfsconfig": config}
    make_repository(git_server.root / "words", {**plain, **pointers})
    expected = {**plain, **OBJECTS}
    with clone_disk(tmp_path / "disk", tmp_path / "image") as disk:
        (disk / "scratch").mkdir(mode=0o700)

        def sync(name: str) -> dict[str, bytes]:
            source = f"git+{git_server.url('words')}/.git"
            one = SyncHere(source, disk / name, {"STAGER_SCRATCH": str(disk / "scratch")})
            done = one.run("-q")
            assert (done.code, done.err) == (0, "")
            return tree(one.destination)

        assert sync("first") == expected
        lfs.requests.clear()
        before = used_bytes(disk)
        assert sync("second") == expected
        assert lfs.requests == []
        assert used_bytes(disk) - before < MIB
        for path in (disk / "first").glob("*.bin"):
            path.write_bytes(b"changed")
        assert tree(disk / "second") == sync("third") == expected
        assert lfs.requests == []
