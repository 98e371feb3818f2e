"""What every copied source owes, on real servers: `stager.sources.base.Source`, clause by clause."""

from __future__ import annotations

import asyncio
import os
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import xxhash
from msgspec.structs import replace

from contract.places import Place, S3Place
from contract.trees import GitPlace, LocalPlace
from entries import listed
from servers.s3 import object_bytes
from stager._native import Entries, KeyTable
from stager.config import BLOCK_BYTES, Limits, Retry
from stager.errors import ChangedError, HostError, NotFoundError, StagerError, UsageError
from stager.host.partial import Partials
from stager.manifest import Entry
from stager.model import SourceRef
from stager.opening import open_source
from stager.sources.base import Landing, Snapshot, Source
from stager.transfer import Transfer

FILES = {
    "a.txt": b"alpha",
    "empty": b"",
    "deep/er/file.bin": object_bytes(100_000, 1),
    "deep/er.txt": b"beside a directory",
    "deep-er": b"sorts between",
    "with space & plus+percent%41=~.txt": b"odd",
    "ünï/codé \u4e2d": b"unicode",
    "q?u#e;r:y,'\"!*()": b"punctuation",
}
S3_SERVERS = ["weed", "rclone", "juicefs", "moto", "rclone_tls"]


@pytest.fixture(params=[*S3_SERVERS, "git-http", "git-file", "local"])
def place(
    request: pytest.FixtureRequest,
    bucket_name: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> Place:
    if request.param == "git-http":
        server = request.getfixturevalue("git_server")
        return GitPlace(server.root, server.url)
    if request.param == "git-file":
        root = tmp_path_factory.mktemp("repositories")
        return GitPlace(root, lambda name: f"file://{root}/{name}")
    if request.param == "local":
        return LocalPlace(tmp_path_factory.mktemp("directories"))
    server = request.getfixturevalue(request.param)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.identity.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.identity.secret_key)
    return S3Place(server, bucket_name)


@contextmanager
def landing(root: Path, table: KeyTable) -> Iterator[Landing]:
    (root / "tree").mkdir(exist_ok=True)
    (root / "tmp").mkdir(exist_ok=True)
    root_fd = os.open(root / "tree", os.O_RDONLY | os.O_DIRECTORY)
    tmp_fd = os.open(root / "tmp", os.O_RDONLY | os.O_DIRECTORY)
    try:
        with Partials(tmp_fd, "test") as partials:
            yield Landing(
                root_fd=root_fd, tmp_fd=tmp_fd, entries=Entries(table), partials=partials, root=str(root / "tree")
            )
    finally:
        os.close(root_fd)
        os.close(tmp_fd)


def use(
    place: Place,
    ref: SourceRef,
    root: Path,
    *,
    choose: Callable[[Snapshot], array[int]] = lambda snapshot: array("I", range(len(snapshot.table))),
    between: Callable[[], None] = lambda: None,
    limits: Limits | None = None,
    adopt: Snapshot | None = None,
) -> tuple[Snapshot, list[Entry]]:
    """Snapshot, or adopt one, then ``between``, then fetch."""

    async def run() -> tuple[Snapshot, list[Entry]]:
        told = array("I")
        async with Transfer(limits=limits, retry=Retry(attempts=3, base_s=0.01)) as transfer:
            source: Source = open_source(ref, remote=place.remote, transfer=transfer)
            async with source:
                snapshot = await source.snapshot() if adopt is None else await source.adopt(adopt)
                await asyncio.to_thread(between)
                with landing(root, snapshot.table) as where:
                    await source.fetch(snapshot, choose(snapshot), where, told.extend)
                assert sorted(told) == list(where.entries.stands())
                return snapshot, listed(where.entries)

    return asyncio.run(run())


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def digest(content: bytes) -> bytes:
    blocks = [
        xxhash.xxh3_128_digest(content[start : start + BLOCK_BYTES])
        for start in range(0, max(1, len(content)), BLOCK_BYTES)
    ]
    return blocks[0] if len(blocks) == 1 else xxhash.xxh3_128_digest(b"".join(blocks))




def test_snapshot_lists_every_file_once_and_the_neighbour_not(place: Place, tmp_path: Path) -> None:
    snapshot, _ = use(place, place.fill(FILES), tmp_path, choose=lambda _: array("I"))
    found = {key.decode(): size for key, size, *_ in snapshot.table.rows()}
    assert found == {path: len(content) for path, content in FILES.items()}
    assert len(snapshot.table) == len(FILES)


def test_rows_carry_times_as_the_source_promises(place: Place, tmp_path: Path) -> None:
    began_s = time.time()
    ref = place.fill({"a": b"one", "d/b": b""})
    snapshot, _ = use(place, ref, tmp_path, choose=lambda _: array("I"))
    times_s = [mtime_ns / 1e9 for _, _, _, mtime_ns, _ in snapshot.table.rows()]
    promised = open_source(ref, remote=place.remote, transfer=Transfer()).capabilities.times
    if promised == "never":
        assert times_s == [0, 0]
    else:
        assert all(began_s - 2 <= time_s <= time.time() + 2 for time_s in times_s)


def test_identity_is_stable_until_the_content_changes(place: Place, tmp_path: Path) -> None:
    def identities() -> dict[bytes, bytes]:
        snapshot, _ = use(place, ref, tmp_path, choose=lambda _: array("I"))
        return {key: identity for key, _, identity, *_ in snapshot.table.rows()}

    ref = place.fill({"a": b"one", "b": b"two"})
    first = identities()
    assert identities() == first
    place.put("a", b"new")
    second = identities()
    assert second[b"b"] == first[b"b"]
    assert second[b"a"] != first[b"a"]


def test_every_file_arrives_with_its_content_and_entry(place: Place, tmp_path: Path) -> None:
    _, entries = use(place, place.fill(FILES), tmp_path)
    assert tree(tmp_path / "tree") == FILES
    assert list((tmp_path / "tmp").iterdir()) == []
    by_path = {entry.path.decode(): entry for entry in entries}
    assert len(entries) == len(FILES)
    for path, content in FILES.items():
        entry, status = by_path[path], (tmp_path / "tree" / path).stat()
        assert entry.digest == digest(content)
        assert (entry.size, entry.mtime_ns, entry.ctime_ns) == (len(content), status.st_mtime_ns, status.st_ctime_ns)
        assert entry.mode & 0o777 == status.st_mode & 0o777


def test_only_the_chosen_rows_are_fetched(place: Place, tmp_path: Path) -> None:
    def choose(snapshot: Snapshot) -> array[int]:
        return array("I", [row for row in range(len(snapshot.table)) if snapshot.table.key(row) == b"a.txt"])

    use(place, place.fill(FILES), tmp_path, choose=choose)
    assert tree(tmp_path / "tree") == {"a.txt": b"alpha"}


def test_large_file_arrives_whole_beside_small_ones(place: Place, tmp_path: Path) -> None:
    large = object_bytes(2 * BLOCK_BYTES + 12_345, 7)
    files = {"large.bin": large, "exact.bin": large[: 2 * BLOCK_BYTES], "small": b"small"}
    _, entries = use(place, place.fill(files), tmp_path, limits=Limits(part_bytes=BLOCK_BYTES))
    assert tree(tmp_path / "tree") == files
    assert {entry.path.decode(): entry.digest for entry in entries} == {
        path: digest(content) for path, content in files.items()
    }


def test_file_that_is_there_is_replaced_whole(place: Place, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a.txt").write_bytes(b"something much longer than before")
    held = (tmp_path / "tree" / "a.txt").open("rb")
    use(place, place.fill({"a.txt": b"alpha"}), tmp_path)
    assert tree(tmp_path / "tree") == {"a.txt": b"alpha"}
    with held:
        assert held.read() == b"something much longer than before"


def test_content_changed_after_the_snapshot_is_an_error_and_not_a_file(place: Place, tmp_path: Path) -> None:
    ref = place.fill({"a": b"old content", "sub/b": b"old content"})
    if place.pins_content:
        use(place, ref, tmp_path, between=lambda: place.put("sub/b", b"new content"))
        assert tree(tmp_path / "tree") == {"a": b"old content", "sub/b": b"old content"}
        return
    with pytest.raises(ChangedError, match="b"):
        use(place, ref, tmp_path, between=lambda: place.put("sub/b", b"new content"))
    assert not (tmp_path / "tree" / "sub" / "b").exists()
    assert list((tmp_path / "tmp").iterdir()) == []


def test_file_removed_after_the_snapshot_is_an_error(place: Place, tmp_path: Path) -> None:
    if place.pins_content:
        pytest.skip("what was pinned cannot be removed")
    ref = place.fill({"a": b"stays", "b": b"goes"})
    with pytest.raises(ChangedError, match="b"):
        use(place, ref, tmp_path, between=lambda: place.remove("b"))
    assert not (tmp_path / "tree" / "b").exists()


def test_listing_of_an_earlier_run_is_adopted_and_nothing_newer_is_fetched(place: Place, tmp_path: Path) -> None:
    ref = place.fill({"a": b"first", "sub/b": b"stays", "c": b""})
    earlier, _ = use(place, ref, tmp_path, choose=lambda _: array("I"))
    place.put("new", b"not listed")
    if isinstance(place, LocalPlace):
        with pytest.raises(UsageError):
            use(place, ref, tmp_path, adopt=earlier)
        return
    snapshot, entries = use(place, ref, tmp_path, adopt=earlier)
    assert tree(tmp_path / "tree") == {"a": b"first", "sub/b": b"stays", "c": b""}
    assert (snapshot.version, len(entries)) == (earlier.version, 3)
    place.put("a", b"other")
    if not place.pins_content:
        with pytest.raises(ChangedError, match="a"):
            use(place, ref, tmp_path, adopt=earlier)
    with pytest.raises(UsageError):
        use(place, ref, tmp_path, adopt=replace(earlier, version="other", folder=b"other/"))


def test_symlink_in_the_destination_is_never_written_through(place: Place, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "tree" / "sub").symlink_to("../outside")
    (tmp_path / "outside" / "victim").write_bytes(b"precious")
    (tmp_path / "tree" / "file").symlink_to("../outside/victim")
    ref = place.fill({"file": b"replaces the link itself"})
    use(place, ref, tmp_path)
    assert not (tmp_path / "tree" / "file").is_symlink()
    with pytest.raises(HostError):
        use(place, place.fill({"sub/x": b"must not get out"}), tmp_path)
    assert tree(tmp_path / "outside") == {"victim": b"precious"}
    assert list((tmp_path / "tmp").iterdir()) == []


def test_source_that_is_not_there_is_not_found(place: Place, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError) as caught:
        use(place, place.missing(), tmp_path)
    assert caught.value.exit_code == 3
    assert "\n" not in str(caught.value)


def test_cancelled_fetch_leaves_no_temporary_and_no_partial_file(place: Place, tmp_path: Path) -> None:
    files = {f"d/{n}": object_bytes(200_000, n) for n in range(40)}
    ref = place.fill(files)

    async def run() -> None:
        async with Transfer() as transfer:
            source = open_source(ref, remote=place.remote, transfer=transfer)
            async with source:
                snapshot = await source.snapshot()
                first = asyncio.Event()
                with landing(tmp_path, snapshot.table) as where:
                    rows = array("I", range(len(snapshot.table)))
                    work = asyncio.create_task(source.fetch(snapshot, rows, where, lambda _: first.set()))
                    waiter = asyncio.create_task(first.wait())
                    await asyncio.wait({work, waiter}, return_when=asyncio.FIRST_COMPLETED)
                    work.cancel()
                    waiter.cancel()
                    await asyncio.wait({work, waiter})

    asyncio.run(run())
    assert list((tmp_path / "tmp").iterdir()) == []
    for path, content in tree(tmp_path / "tree").items():
        assert content == files[path]


def test_error_of_a_source_is_one_of_ours(place: Place, tmp_path: Path) -> None:
    with pytest.raises(StagerError):
        use(place, place.missing(), tmp_path, choose=lambda _: array("I"))
