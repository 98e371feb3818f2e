"""The mirror of a Git repository on the node: what the next job is spared, and what damage does to it: nothing."""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest

from git_packs import cat, generations, poison, repository_mirror
from integration.sync_driver import Sync, SyncHere, tree
from servers.fault_proxy import Fault, FaultProxy, fault_proxy
from servers.git_http import GitHttp
from servers.repositories import commit_files, git, make_repository
from stager.host import git_mirror

FILES = {
    ".gitattributes": b"*.bat text eol=crlf\n",
    "readme": b"read me\n",
    "run.bat": b"a\nb\n",
    "data/a.txt": b"a\n",
    "data/deep/b.bin": random.Random(5).randbytes(300_000),
}
STAGED = {**FILES, "run.bat": b"a\r\nb\r\n"}


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    (tmp_path / "scratch").mkdir(mode=0o700)
    return tmp_path / "scratch"


@pytest.fixture
def proxy(git_server: GitHttp) -> Iterator[FaultProxy]:
    make_repository(git_server.root / "words", FILES)
    address = urlsplit(git_server.base_url)
    with fault_proxy((str(address.hostname), int(address.port or 0))) as running:
        yield running


@pytest.fixture
def sync(proxy: FaultProxy, tmp_path: Path, scratch: Path) -> SyncHere:
    return SyncHere(f"git+{proxy.url}/words/.git", tmp_path / "dst", {"STAGER_SCRATCH": str(scratch)})


@pytest.fixture
def origin(git_server: GitHttp) -> Path:
    return git_server.root / "words"


PROGRAM = "import sys; from stager.cli import main; sys.exit(main())"


def head(origin: Path) -> str:
    return git(origin, "rev-parse", "HEAD")


def again(sync: SyncHere, *options: str) -> dict[str, bytes]:
    """What the next job finds: a new destination, filled."""
    shutil.rmtree(sync.destination, ignore_errors=True)
    done = sync.run(*options)
    assert (done.code, done.err) == (0, "")
    return tree(sync.destination)


def test_second_job_asks_where_the_branch_is_and_of_a_commit_nothing(
    sync: SyncHere, proxy: FaultProxy, origin: Path
) -> None:
    assert again(sync) == STAGED
    before = len(proxy.counts.targets)
    assert again(sync) == STAGED
    refs = ["/words/.git/info/refs?service=git-upload-pack", "/words/.git/git-upload-pack"]
    assert proxy.counts.targets[before:] == refs
    asked = len(proxy.counts.targets)
    assert again(sync, "--ref", head(origin)) == STAGED
    assert len(proxy.counts.targets) == asked


def test_new_commit_moves_only_the_difference(sync: SyncHere, proxy: FaultProxy, origin: Path) -> None:
    again(sync)
    before = proxy.counts.bytes_down
    commit_files(origin, {"data/a.txt": b"another\n"}, "second")
    assert again(sync) == {**STAGED, "data/a.txt": b"another\n"}
    assert proxy.counts.bytes_down - before < 10_000
    git(origin, "checkout", "-q", "--detach", "HEAD~1")  # and the earlier commit is there still
    before = len(proxy.counts.targets)
    assert again(sync, "--ref", head(origin)) == STAGED
    assert len(proxy.counts.targets) == before


def test_two_at_once_fetch_once(tmp_path: Path, proxy: FaultProxy, scratch: Path, origin: Path) -> None:
    syncs = [
        Sync(f"git+{proxy.url}/words/.git@{head(origin)}", tmp_path / f"dst{n}", {"STAGER_SCRATCH": str(scratch)})
        for n in range(2)
    ]
    proxy.add(Fault(path="git-upload-pack", method="POST", stall_at=100))
    first = syncs[0].start()
    proxy.wait_stalled()
    second = syncs[1].start()
    asked = len(proxy.counts.targets)
    proxy.release()
    for process, one in ((first, syncs[0]), (second, syncs[1])):
        _, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, "")
        assert tree(one.destination) == STAGED
    assert len(proxy.counts.targets) == asked


def test_two_without_a_lock_are_both_whole(
    sync: SyncHere, origin: Path, monkeypatch: pytest.MonkeyPatch, scratch: Path
) -> None:
    """On a file system without locks each fetches for itself; what one does is no harm to the other."""

    def no_lock(_fd: int, _how: int) -> None:
        raise OSError(38, "no locks")

    again(sync)
    monkeypatch.setattr(git_mirror, "fcntl", SimpleNamespace(**{**vars(fcntl), "flock": no_lock}))
    commit_files(origin, {"data/a.txt": b"another\n"}, "second")
    assert again(sync)["data/a.txt"] == b"another\n"
    assert len(generations(scratch)) == 1


def damage_truncated(pack: Path) -> None:
    os.truncate(pack, pack.stat().st_size - 1)


def damage_flipped(pack: Path) -> None:
    data = bytearray(pack.read_bytes())
    for at in range(20, len(data) - 20, 50):
        data[at] ^= 0xFF
    _replace(pack, bytes(data))


def damage_zeroed(pack: Path) -> None:
    _replace(pack, bytes(pack.stat().st_size))


def damage_index(pack: Path) -> None:
    _replace(pack.with_suffix(".idx"), bytes(pack.with_suffix(".idx").stat().st_size))


def damage_removed(pack: Path) -> None:
    pack.unlink()


def _replace(path: Path, data: bytes) -> None:
    path.unlink()
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [damage_truncated, damage_flipped, damage_zeroed, damage_index, damage_removed])
def test_damaged_pack_is_thrown_away_and_fetched_anew(
    sync: SyncHere, scratch: Path, origin: Path, proxy: FaultProxy, damage: object
) -> None:
    again(sync)
    for pack in generations(scratch)[-1].glob("*.pack"):
        damage(pack)  # type: ignore[operator]
    assert again(sync) == STAGED
    asked = len(proxy.counts.targets)
    assert again(sync, "--ref", head(origin)) == STAGED  # what replaced it is whole
    assert len(proxy.counts.targets) == asked


@pytest.mark.parametrize("damage", [damage_flipped, damage_zeroed])
def test_new_commit_on_a_damaged_mirror_is_whole(
    sync: SyncHere, scratch: Path, origin: Path, damage: object
) -> None:
    again(sync)
    for pack in generations(scratch)[-1].glob("*.pack"):
        damage(pack)  # type: ignore[operator]
    commit_files(origin, {"data/a.txt": b"another\n"}, "second")
    assert again(sync) == {**STAGED, "data/a.txt": b"another\n"}


@pytest.mark.parametrize(
    ("what", "kind"),
    [("HEAD", "commit"), ("HEAD^{tree}", "tree"), ("HEAD:data", "tree"), ("HEAD:readme", "blob"),
     ("HEAD:run.bat", "blob"), ("HEAD:.gitattributes", "blob")],
)  # fmt: skip
def test_poisoned_object_is_found_out_and_fetched_anew(
    sync: SyncHere, scratch: Path, origin: Path, tmp_path: Path, what: str, kind: str
) -> None:
    """Git believes an index; whoever could write to the mirror could make it say anything."""
    again(sync)
    git(origin, "checkout", "-q", "-b", "evil")
    (origin / "data" / "a.txt").write_bytes(b"evil")
    files = {"readme": b"evil me\n", "run.bat": b"evil\n", ".gitattributes": b"* -text\n"}
    commit = commit_files(origin, files, "evil")
    evil, identity = git(origin, "rev-parse", what.replace("HEAD", commit)), git(origin, "rev-parse", f"main{what[4:]}")
    git(origin, "checkout", "-q", "main")
    poison(generations(scratch)[-1], origin, head(origin), identity, evil)
    git(tmp_path, "init", "-q", "--bare", "reader")
    shutil.copytree(generations(scratch)[-1], tmp_path / "reader/objects/pack", dirs_exist_ok=True)
    assert cat(tmp_path / "reader", kind, identity) == cat(origin / ".git", kind, evil)  # git believes it
    assert again(sync) == STAGED
    assert not list(generations(scratch)[-1].glob("pack-eee*"))


def test_packs_do_not_pile_up_and_packing_anew_moves_nothing_else(
    sync: SyncHere, scratch: Path, origin: Path, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git_mirror, "_PACKS_MAX", 3)
    again(sync)
    for number in range(8):
        before = proxy.counts.bytes_down
        commit_files(origin, {"data/a.txt": b"%d" % number}, f"number {number}")
        assert again(sync)["data/a.txt"] == b"%d" % number
        assert proxy.counts.bytes_down - before < 10_000
        (only,) = generations(scratch)
        assert len(list(only.glob("*.pack"))) <= 3
    assert int(only.name.partition(".")[2]) > 2
    assert [path.name for path in repository_mirror(scratch).glob("run-*")] == []


def test_kill_at_any_moment_leaves_a_mirror_that_serves(
    tmp_path: Path, proxy: FaultProxy, scratch: Path, origin: Path, pytestconfig: pytest.Config
) -> None:
    soaks = pytestconfig.getoption("--soak")
    drawn = random.Random(pytestconfig.getoption("--soak-seed") or 7)
    sync = SyncHere(f"git+{proxy.url}/words/.git", tmp_path / "dst", {"STAGER_SCRATCH": str(scratch)})
    content = b""
    for number in range(2000 if soaks else 6):
        content = b"%d\n" % number
        commit_files(origin, {"data/a.txt": content, "more": drawn.randbytes(100_000)}, f"number {number}")
        process = Sync(sync.source, tmp_path / "killed", sync.environment).start()
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=drawn.uniform(0.1, 0.6))  # any moment
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if number % 3 == 2 or soaks:
            assert again(sync)["data/a.txt"] == content
    assert again(sync)["data/a.txt"] == content
