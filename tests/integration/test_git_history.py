"""``--history``: the .git directory beside a staged tree, and what becomes of it and of the work done in it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from git_packs import generations, poison
from git_plant import plant
from integration.sync_driver import KilledError, Outcome, SyncHere, tree
from integration.sync_driver import Sync as Process
from servers.fault_proxy import Fault, FaultProxy, fault_proxy
from servers.git_http import GitHttp
from servers.repositories import GIT_ENVIRONMENT, commit_files, git, make_repository
from stager import history
from stager.host.git_look import look_at, what_changed

FILES = {".gitattributes": b"*.bat text eol=crlf\n", "readme": b"read me\n", "run.bat": b"a\nb\n", "data/a.txt": b"a\n"}


def make_words(directory: Path) -> None:
    make_repository(directory, FILES)
    git(directory, "branch", "side")
    git(directory, "tag", "v1")
    git(directory, "tag", "-a", "-m", "second", "v2")
    commit_files(directory, {"readme": b"read me again\n"}, "second")


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    (tmp_path / "scratch").mkdir(mode=0o700)
    return tmp_path / "scratch"


@pytest.fixture
def proxy(git_server: GitHttp) -> Iterator[FaultProxy]:
    make_words(git_server.root / "words")
    address = urlsplit(git_server.base_url)
    with fault_proxy((str(address.hostname), int(address.port or 0))) as running:
        yield running


@pytest.fixture
def origin(git_server: GitHttp) -> Path:
    return git_server.root / "words"


class Sync(SyncHere):
    """With its history."""

    def run(self, *options: str, **named: object) -> Outcome:
        return super().run("--history", *options, **named)  # type: ignore[arg-type]

    def brought(self, *options: str) -> Outcome:
        """A run without a word of complaint."""
        done = self.run(*options)
        assert (done.code, done.err) == (0, "")
        return done


@pytest.fixture
def sync(proxy: FaultProxy, tmp_path: Path, scratch: Path) -> Sync:
    return Sync(f"git+{proxy.url}/words/.git@main", tmp_path / "dst", {"STAGER_SCRATCH": str(scratch)})


def files(root: Path) -> dict[str, bytes]:
    return {name: data for name, data in tree(root).items() if not name.startswith(".git/")}


def tree_of(origin: Path, commit: str = "main") -> dict[str, bytes]:
    """As git checks it out; of `FILES` and what was added to them."""
    names = git(origin, "ls-tree", "-r", "--name-only", commit).splitlines()
    found = {name: git(origin, "show", f"{commit}:{name}").encode() + b"\n" for name in names}
    return {name: data.replace(b"\n", b"\r\n") if name.endswith(".bat") else data for name, data in found.items()}


def is_whole(destination: Path) -> None:
    """That git has nothing to say against it."""
    assert git(destination, "status", "--porcelain") == ""
    assert git(destination, "fsck", "--full", "--strict", "--no-dangling") == ""


def test_repository_is_the_one_that_git_clone_makes(
    sync: Sync, origin: Path, proxy: FaultProxy, tmp_path: Path
) -> None:
    receipt = sync.brought("--json").event("finished")["receipt"]
    commit = git(origin, "rev-parse", "main")
    pinned = {"commit": commit, "ref": "refs/heads/main", "asked": "main", "history": True, "refs": 4}
    assert receipt["pinned"] == {**pinned, "tree": git(origin, "rev-parse", "main^{tree}")}
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", f"{proxy.url}/words/.git", str(clone))
    ours = sync.destination
    for question in (
        ["log", "--all", "--decorate=full", "--format=%H%d%n%B"], ["for-each-ref"], ["branch", "-avv"], ["status"],
        ["config", "--local", "--list"], ["symbolic-ref", "HEAD"], ["ls-files", "--stage"], ["remote", "-v"],
        ["rev-list", "--objects", "--all"], ["symbolic-ref", "refs/remotes/origin/HEAD"], ["rev-parse", "--is-shallow"],
    ):  # fmt: skip
        assert git(ours, *question) == git(clone, *question)
    is_whole(ours)
    assert not (ours / ".git/hooks").exists()
    assert files(ours) == tree_of(origin)


def test_user_can_commit_and_push_with_credentials_of_their_own(
    git_tls_server: GitHttp, tmp_path: Path, scratch: Path
) -> None:
    """No password of the run that staged it stands anywhere in the directory."""
    git_tls_server.credentials = ("alice", "hunter2")
    commit_here = make_repository(git_tls_server.root / "seed", FILES)
    git(tmp_path, "clone", "-q", "--bare", str(git_tls_server.root / "seed"), str(git_tls_server.root / "words.git"))
    git(git_tls_server.root / "words.git", "config", "http.receivepack", "true")
    config = tmp_path / "gitconfig"
    helper = '"!f() { echo username=alice; echo password=hunter2; }; f"'
    config.write_text(f"[credential]\n helper = {helper}\n[http]\n sslCAInfo = {git_tls_server.ca_file}\n")
    environment = {"STAGER_SCRATCH": str(scratch), "GIT_CONFIG_GLOBAL": str(config)}
    sync = Sync(f"git+{git_tls_server.url('words.git')}", tmp_path / "dst", environment)
    sync.brought()
    for path in (sync.destination / ".git").rglob("*"):
        assert not path.is_file() or b"hunter2" not in path.read_bytes()
    commit = commit_files(sync.destination, {"readme": b"mine\n", "new": b"new\n"}, "mine")
    assert git(sync.destination, "log", "-2", "--format=%H").split() == [commit, commit_here]
    git_as_user = ["git", "-C", str(sync.destination)]
    refused = subprocess.run([*git_as_user, "push", "-q"], env={**os.environ, **GIT_ENVIRONMENT}, check=False)
    assert refused.returncode != 0
    with_own = {**os.environ, **GIT_ENVIRONMENT, "GIT_CONFIG_GLOBAL": str(config)}
    subprocess.run([*git_as_user, "push", "-q"], env=with_own, check=True)
    assert git(git_tls_server.root / "words.git", "rev-parse", "main") == commit


def test_head_is_the_branch_that_was_asked_for_or_the_commit_itself(sync: Sync, origin: Path) -> None:
    """Another name of the commit that is there moves HEAD, while nobody has worked in it."""
    commit = git(origin, "rev-parse", "main~1")
    base = sync.source.removesuffix("main")
    for ref, branch in (("v2", None), ("side", "side"), (commit, None)):
        sync.source = base + ref
        sync.brought()
        assert git(sync.destination, "rev-parse", "HEAD") == commit
        assert git(sync.destination, "rev-parse", "--abbrev-ref", "HEAD") == (branch or "HEAD")
        assert git(sync.destination, "rev-parse", "origin/main") == git(origin, "rev-parse", "main")
        is_whole(sync.destination)


def test_commit_that_no_branch_leads_to_has_its_history_too(sync: Sync, origin: Path) -> None:
    git(origin, "checkout", "-q", "--detach")
    commit = commit_files(origin, {"readme": b"proposed\n"}, "proposed")
    git(origin, "update-ref", "refs/pull/7/head", commit)
    git(origin, "checkout", "-q", "main")
    sync.source = sync.source.removesuffix("main") + "refs/pull/7/head"
    sync.brought()
    assert git(sync.destination, "log", "--format=%s").split() == ["proposed", "second", "first"]
    is_whole(sync.destination)


def test_repository_of_sha256_is_whole(git_server: GitHttp, sync: Sync, tmp_path: Path) -> None:
    origin = git_server.root / "wide"
    origin.mkdir()
    git(origin, "init", "-q", "-b", "main", "--object-format=sha256")
    commit = commit_files(origin, FILES, "first")
    sync.source = f"git+{git_server.url('wide')}/.git@{commit}"
    for _ in range(2):
        shutil.rmtree(sync.destination, ignore_errors=True)
        sync.brought()
        assert git(sync.destination, "rev-parse", "HEAD") == commit
        is_whole(sync.destination)


def test_submodules_that_are_not_brought_are_empty_directories_as_after_git_clone(
    sync: Sync, origin: Path, git_server: GitHttp
) -> None:
    make_repository(git_server.root / "inner", {"x": b"x\n"})
    url = str(git_server.root / "inner")
    git(origin, "-c", "protocol.file.allow=always", "submodule", "add", "-q", url, "deep/inner")
    git(origin, "commit", "-q", "-m", "submodule")
    done = sync.run()
    assert (done.code, "submodules are left out" in done.err) == (0, True)
    assert os.listdir(sync.destination / "deep/inner") == []
    is_whole(sync.destination)


# On the node


def scribble(directory: Path) -> None:
    for path in directory.rglob("*"):
        if path.is_file():
            path.chmod(0o600)
            path.write_bytes(bytes(path.stat().st_size))


def test_second_job_moves_no_object_and_gets_what_no_other_job_wrote(
    sync: Sync, proxy: FaultProxy, scratch: Path, origin: Path
) -> None:
    sync.brought()
    before = {path: path.read_bytes() for path in generations(scratch)[-1].iterdir()}
    mirrored = {path.stat().st_ino for path in before}
    packs = list((sync.destination / ".git/objects/pack").iterdir())
    assert packs and mirrored.isdisjoint(path.stat().st_ino for path in packs)
    scribble(sync.destination)
    assert {path: path.read_bytes() for path in generations(scratch)[-1].iterdir()} == before
    shutil.rmtree(sync.destination)
    down = proxy.counts.bytes_down
    sync.brought()
    assert proxy.counts.bytes_down - down < 8_000
    assert files(sync.destination) == tree_of(origin)
    is_whole(sync.destination)
    assert {path: path.read_bytes() for path in generations(scratch)[-1].iterdir()} == before


def test_new_commit_moves_the_difference_for_the_next_job(sync: Sync, proxy: FaultProxy, origin: Path) -> None:
    commit_files(origin, {"large": os.urandom(300_000)}, "large")
    sync.brought()
    shutil.rmtree(sync.destination)
    commit = commit_files(origin, {"data/a.txt": b"another\n"}, "another")
    before = proxy.counts.bytes_down
    sync.brought()
    assert proxy.counts.bytes_down - before < 10_000
    assert git(sync.destination, "rev-parse", "HEAD", "origin/main").split() == [commit, commit]
    is_whole(sync.destination)


@pytest.mark.parametrize("how", ["flipped", "swapped", "lying"])
def test_damaged_mirror_is_thrown_away_and_never_given_on(
    sync: Sync, scratch: Path, origin: Path, tmp_path: Path, how: str
) -> None:
    sync.brought()
    shutil.rmtree(sync.destination)
    if how == "lying":  # of a file that only the first commit has; no file that is staged shows it
        identity, other = git(origin, "rev-parse", "v1:readme"), git(origin, "hash-object", "-w", "run.bat")
        poison(generations(scratch)[-1], origin, git(origin, "rev-parse", "main"), identity, other, history=True)
    for pack in () if how == "lying" else generations(scratch)[-1].glob("*.pack"):
        pack.chmod(0o600)
        data = pack.read_bytes()
        if how == "swapped":  # another pack, whole in itself
            other = tmp_path / "other"
            make_repository(other, {"evil": b"evil\n" * 50})
            git(other, "repack", "-q", "-a", "-d")
            data = next((other / ".git/objects/pack").glob("*.pack")).read_bytes().ljust(len(data), b"\0")[: len(data)]
        else:
            data = data[:20] + bytes(byte ^ 255 for byte in data[20:40]) + data[40:]
        pack.write_bytes(data)
    sync.brought()
    assert files(sync.destination) == tree_of(origin)
    assert git(sync.destination, "show", "v1:readme") == "read me"
    is_whole(sync.destination)


def test_two_at_once_fetch_once(tmp_path: Path, proxy: FaultProxy, scratch: Path, origin: Path) -> None:
    commit_files(origin, {"large": os.urandom(300_000)}, "large")
    syncs = [
        Process(f"git+{proxy.url}/words/.git@main", tmp_path / f"dst{n}", {"STAGER_SCRATCH": str(scratch)})
        for n in range(2)
    ]
    proxy.add(Fault(path="git-upload-pack", method="POST", stall_at=100_000, times=20))
    first = syncs[0].start("--history")
    proxy.wait_stalled()
    second = syncs[1].start("--history")
    proxy.release()
    for process, one in ((first, syncs[0]), (second, syncs[1])):
        _, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, "")
        is_whole(one.destination)
    assert 300_000 < proxy.counts.bytes_down < 400_000


@pytest.mark.parametrize("point", ["before", "after"])
def test_run_killed_about_the_rename_leaves_no_half_directory_and_the_next_completes(
    sync: Sync, monkeypatch: pytest.MonkeyPatch, origin: Path, point: str
) -> None:
    """At the first and, where it is an exchange, at a later commit."""

    def killing(change: Callable[..., None]) -> Callable[..., None]:
        def wrapped(one: object, *rest: object, **named: object) -> None:
            is_ours = ".git" in (rest[0], rest[-1])
            if point == "after" or not is_ours:
                change(one, *rest, **named)
            if is_ours:
                raise KilledError

        return wrapped

    for message in ("first", "later"):
        if message == "later":
            commit_files(origin, {"readme": b"later\n"}, "later")
        with monkeypatch.context() as patch, pytest.raises(KilledError):
            patch.setattr(os, "rename", killing(os.rename))
            patch.setattr("stager.history.exchange", killing(history.exchange))
            patch.setattr("shutil.rmtree", lambda *_, **__: None)
            sync.run()
        assert not (sync.destination / ".stager/receipt.json").exists()
        if (sync.destination / ".git").exists():
            assert git(sync.destination, "fsck", "--full", "--strict") == ""
        sync.brought()
        assert files(sync.destination) == tree_of(origin)
        is_whole(sync.destination)
        assert git(sync.destination, "rev-parse", "HEAD") == git(origin, "rev-parse", "main")


# What somebody did in it


def test_same_commit_again_leaves_it_as_it_is(sync: Sync, origin: Path) -> None:
    sync.brought()
    before = (sync.destination / ".git").stat().st_ino
    git(sync.destination, "checkout", "-q", "-b", "mine")
    commit = commit_files(sync.destination, {"mine": b"mine\n"}, "mine")
    git(sync.destination, "config", "user.name", "me")
    done = sync.brought("--json").event("finished")["receipt"]
    assert (done["moved"]["objects"], done["pinned"]["history"], done["pinned"]["refs"]) == (0, True, 4)
    assert git(sync.destination, "rev-parse", "mine") == commit
    assert (sync.destination / ".git").stat().st_ino == before
    assert git(sync.destination, "status", "--porcelain") == ""


def test_work_about_files_that_would_change_is_refused_and_nothing_moves(sync: Sync) -> None:
    sync.brought()
    commit_files(sync.destination, {"readme": b"mine\n"}, "mine")
    refused = sync.run()
    assert (refused.code, "refs/heads/main is at another commit" in refused.err) == (2, True)
    assert files(sync.destination)["readme"] == b"mine\n"


LOOKED: dict[str, Callable[[Path], object]] = {
    "status": lambda d: git(d, "status"),
    "touched": lambda d: (os.utime(d / "readme"), git(d, "status")),
    "fetched": lambda d: git(d, "fetch", "-q", "origin"),
    "collected": lambda d: git(d, "gc", "-q"),
    "reset": lambda d: git(d, "reset", "-q", "--hard"),
    "staged and not": lambda d: (
        (d / "new").write_bytes(b""), git(d, "add", "new"), git(d, "rm", "-q", "-f", "--cached", "new"),
        (d / "new").unlink(),
    ),
    "index of another version": lambda d: git(d, "update-index", "--index-version", "4"),
}  # fmt: skip


@pytest.fixture(scope="module")
def brought(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that was brought, to be copied."""
    root = tmp_path_factory.mktemp("brought")
    make_words(root / "words")
    scratch = root / "scratch"
    scratch.mkdir(mode=0o700)
    Sync(f"git+file://{root}/words", root / "dst", {"STAGER_SCRATCH": str(scratch)}).brought()
    return root / "dst"


def told_of(tree: Path) -> list[str]:
    fd = os.open(tree, os.O_RDONLY)
    try:
        mark = look_at(fd).mark
        assert mark is not None
        return what_changed(fd, mark)
    finally:
        os.close(fd)


@pytest.mark.parametrize("what", LOOKED)
def test_who_only_looked_has_changed_nothing(brought: Path, tmp_path: Path, what: str) -> None:
    shutil.copytree(brought, tmp_path / "dst", symlinks=True)
    LOOKED[what](tmp_path / "dst")
    assert told_of(tmp_path / "dst") == []


def test_new_commit_comes_where_somebody_only_looked(sync: Sync, origin: Path) -> None:
    sync.brought()
    commit = commit_files(origin, {"data/b.txt": b"b\n"}, "third")
    git(origin, "tag", "v3")
    git(origin, "branch", "more")
    for look in LOOKED.values():
        look(sync.destination)
    assert git(sync.destination, "rev-parse", "v3", "origin/more").split() == [commit] * 2  # they were fetched
    sync.brought()
    assert git(sync.destination, "rev-parse", "HEAD", "main", "origin/main").split() == [commit] * 3
    assert files(sync.destination) == tree_of(origin)
    is_whole(sync.destination)


WORKED: dict[str, tuple[Callable[[Path], object], str]] = {
    "commit": (lambda d: commit_files(d, {"mine": b"m"}, "mine"), "refs/heads/main is at another commit"),
    "commit taken back": (
        lambda d: (commit_files(d, {"mine": b"m"}, "mine"), git(d, "reset", "-q", "--hard", "HEAD~1")),
        "tells of other commits",
    ),
    "branch": (lambda d: git(d, "branch", "mine"), "refs/heads/mine are new"),
    "branch checked out": (lambda d: git(d, "checkout", "-q", "side"), "HEAD is at something else"),
    "stash": (
        lambda d: ((d / "readme").write_bytes(b"mine\n"), git(d, "stash", "-q")),
        "refs/stash are new",
    ),
    "staged": (lambda d: ((d / "mine").write_bytes(b"m"), git(d, "add", "mine")), "something is staged"),
    "tag": (lambda d: git(d, "tag", "mine"), "its tags are others"),
    "note": (lambda d: git(d, "notes", "add", "-m", "mine"), "refs/notes/commits are new"),
    "configured": (lambda d: git(d, "remote", "add", "mine", "/mine"), "its config is another"),
    "hook": (
        lambda d: ((d / ".git/hooks").mkdir(), (d / ".git/hooks/pre-commit").write_bytes(b"#!/bin/sh\n")),
        "hooks/pre-commit is new in it",
    ),
    "merging": (lambda d: (d / ".git/MERGE_HEAD").write_text("0" * 40), "MERGE_HEAD is new in it"),
    "locked": (lambda d: (d / ".git/index.lock").write_bytes(b""), "index.lock is new in it"),
    "worktree": (lambda d: git(d, "worktree", "add", "-q", str(d.parent / "more"), "v1"), "worktrees is new in it"),
    "attributes": (lambda d: (d / ".git/info/attributes").write_bytes(b"* text\n"), "info/attributes is new"),
    "FIFO": (lambda d: ((d / ".git/HEAD").unlink(), os.mkfifo(d / ".git/HEAD")), "HEAD is at something else"),
    "refs elsewhere": (
        lambda d: ((d / ".git/refs").rename(d.parent / "refs"), (d / ".git/refs").symlink_to("../../refs")),
        "refs is no directory",
    ),
    "refs without end": (
        lambda d: os.makedirs(d / ".git/refs/heads" / "/".join("d" * 100)), "its refs are damaged",
    ),
    "huge": (lambda d: os.truncate(d / ".git/config", 1 << 40), "its config is another"),
    "index link": (
        lambda d: ((d / ".git/index").rename(d / "i"), (d / ".git/index").symlink_to("../i")), "something is staged"
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", WORKED)
def test_what_somebody_did_is_told(brought: Path, tmp_path: Path, what: str) -> None:
    work, told = WORKED[what]
    shutil.copytree(brought, tmp_path / "dst", symlinks=True)
    work(tmp_path / "dst")
    assert told in "; ".join(told_of(tmp_path / "dst"))


def test_new_commit_is_refused_where_somebody_has_worked_and_nothing_moves(sync: Sync, origin: Path) -> None:
    sync.brought()
    commit_files(origin, {"data/b.txt": b"b\n"}, "third")
    git(sync.destination, "branch", "mine")
    before = tree(sync.destination)
    for options in ((), ("--dry-run",), ("--delete=all", "--max-delete=100%")):
        refused = sync.run(*options)
        assert refused.code == 2
        assert "somebody has worked in it since it was made: refs/heads/mine are new in it; push or" in refused.err
    assert tree(sync.destination) == before


def test_directory_that_changes_while_it_is_exchanged_is_put_back(
    sync: Sync, origin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync.brought()
    commit_files(origin, {"data/b.txt": b"b\n"}, "third")
    real = history.exchange

    def late(*where: object) -> None:
        if not git(sync.destination, "branch", "--list", "late"):
            git(sync.destination, "branch", "late")
        real(*where)  # type: ignore[arg-type]

    monkeypatch.setattr(history, "exchange", late)
    refused = sync.run()
    assert (refused.code, "somebody works in it" in refused.err) == (2, True)
    assert git(sync.destination, "branch", "--format=%(refname:short)").split() == ["late", "main"]


def test_file_system_without_an_exchange_gets_the_new_one_too(
    sync: Sync, origin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot(*_: object) -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr("stager.history.exchange", cannot)
    sync.brought()
    commit = commit_files(origin, {"data/b.txt": b"b\n"}, "third")
    sync.brought()
    assert git(sync.destination, "rev-parse", "HEAD") == commit
    is_whole(sync.destination)


# What else is there


def test_directory_is_nobodys_file_to_verify_and_to_delete_all(sync: Sync, origin: Path) -> None:
    sync.brought()
    before = {path: data for path, data in tree(sync.destination).items() if path.startswith(".git/")}
    assert sync.command("verify", "--strict", str(sync.destination)).code == 0
    (sync.destination / "foreign").write_bytes(b"x")
    (sync.destination / "readme").unlink()
    sync.brought("--delete=all", "--max-delete=100%")
    assert files(sync.destination) == tree_of(origin)
    is_whole(sync.destination)
    (sync.destination / "readme").write_bytes(b"damaged\n")
    repaired = sync.command("verify", "--strict", "--repair", str(sync.destination))
    assert (repaired.code, repaired.err) == (0, "")
    is_whole(sync.destination)
    after = {path: data for path, data in tree(sync.destination).items() if path.startswith(".git/")}
    assert after.pop(".git/index") != before.pop(".git/index")
    assert after == before


def test_directory_that_is_none_of_ours_is_refused(sync: Sync, tmp_path: Path) -> None:
    for kind in ("directory", "file", "link"):
        place = sync.destination / ".git"
        place.parent.mkdir(exist_ok=True)
        if kind == "directory":
            git(sync.destination, "init", "-q")
        elif kind == "file":
            place.write_bytes(b"gitdir: /elsewhere\n")
        else:
            place.symlink_to(tmp_path)
        refused = sync.run()
        assert (refused.code, "is none that a sync made" in refused.err) == (2, True)
        assert [name for name in os.listdir(sync.destination) if name != ".stager"] == [".git"]
        shutil.rmtree(place) if kind == "directory" else place.unlink()


def test_without_history_a_directory_of_the_users_is_a_file_like_any_other(sync: Sync) -> None:
    plain = SyncHere(sync.source, sync.destination, sync.environment)
    assert plain.run().code == 0
    git(sync.destination, "init", "-q")
    assert plain.run().code == 0
    told = plain.command("verify", str(sync.destination))
    assert ".git/HEAD" in told.out
    assert plain.run("--delete=all", "--max-delete=100%").code == 0
    assert not (sync.destination / ".git/HEAD").exists()


@pytest.mark.parametrize(
    ("source", "options", "told"),
    [("", ("--path", "data"), "paths"), ("", ("--submodules",), "submodules"), ("#subdir=data", (), "#subdir"),
     ("", ("--include", "*.txt"), "chooses files")],
)  # fmt: skip
def test_history_of_a_part_is_refused_by_name(sync: Sync, source: str, options: tuple[str, ...], told: str) -> None:
    refused = sync.run(*options, source=sync.source + source)
    assert (refused.code, "history" in refused.err, told in refused.err) == (2, True, True)
    assert not sync.destination.exists()


def test_history_comes_to_a_tree_that_was_staged_without(sync: Sync, origin: Path) -> None:
    assert SyncHere(sync.source, sync.destination, sync.environment).run().code == 0
    assert not (sync.destination / ".git").exists()
    done = sync.brought("--json", "--fsync").event("finished")["receipt"]
    assert (done["moved"]["objects"], done["durable"]) == (0, True)
    is_whole(sync.destination)
    told = SyncHere(sync.source, sync.destination, sync.environment).run()
    assert (told.code, ".git is of an earlier run and stays as it is" in told.err) == (0, True)


def test_nothing_that_is_planted_in_it_runs(sync: Sync, origin: Path, tmp_path: Path) -> None:
    sync.brought()
    canary = tmp_path / "canary"
    mark = json.loads((sync.destination / ".git/stager.json").read_bytes())
    plant(sync.destination / ".git", canary)
    assert sync.run().code == 0  # the same commit: it stays as it is
    (sync.destination / "readme").unlink()
    assert sync.run().code == 2
    commit_files(origin, {"data/b.txt": b"b\n"}, "third")
    for options in ((), ("--dry-run",), ("--verify",), ("--delete=all", "--max-delete=100%")):
        assert sync.run(*options).code == 2
    assert sync.command("plan", "--history", sync.source, str(sync.destination)).code == 2
    assert sync.command("verify", str(sync.destination)).code == 4
    assert sync.command("verify", "--repair", str(sync.destination)).code == 0
    assert json.loads((sync.destination / ".git/stager.json").read_bytes()) == mark
    assert not canary.exists()
    subprocess.run(["git", "-C", str(sync.destination), "status"], check=False, capture_output=True)
    assert canary.exists()  # that it could have


def test_history_that_does_not_fit_is_refused_before_anything_is_moved(
    sync: Sync, origin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit_files(origin, {"large": os.urandom(300_000)}, "large")
    git(origin, "rm", "-q", "large")
    git(origin, "commit", "-q", "-m", "gone")
    monkeypatch.setattr("stager.host.workspace.Workspace.free", lambda _: (200_000, None, 4096))
    refused = sync.run()
    assert (refused.code, "bytes are needed, 200000 are free" in refused.err) == (5, True)
    assert not sync.destination.exists()


def test_plan_fetches_no_history_and_makes_nothing(sync: Sync, proxy: FaultProxy, origin: Path) -> None:
    commit_files(origin, {"large": os.urandom(300_000)}, "large")
    git(origin, "rm", "-q", "large")
    git(origin, "commit", "-q", "-m", "gone")
    told = sync.command("plan", "--history", sync.source, str(sync.destination))
    assert (told.code, told.err) == (0, "")
    assert proxy.counts.bytes_down < 100_000
    assert not sync.destination.exists()
