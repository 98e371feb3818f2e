"""What a git source owes beyond the common contract, on git http-backend and on repositories of this disk."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from contextlib import suppress
from pathlib import Path

import pytest

from contract.git_staging import archived, described, stage
from servers.git_http import GitHttp
from servers.repositories import commit_files, git, make_repository
from stager.errors import (
    AccessDeniedError,
    BadKeysError,
    NotFoundError,
    SourceError,
    StagerError,
    TransientError,
    UsageError,
)
from stager.sources.git import GitSource
from stager.urls import parse_source


def children() -> list[str]:
    """Names of this process's children (proc(5): stat's second and fourth field), but for those of a git server, which
    lives here too and may still be writing to a client that is gone.
    """
    names = []
    for stat_file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            name, _, rest = stat_file.read_text().partition("(")[2].rpartition(")")
            served = b"GIT_PROJECT_ROOT=" in (stat_file.parent / "environ").read_bytes()
            if int(rest.split()[1]) == os.getpid() and not served:
                names.append(name)
    return names


def fingerprint(repository: Path) -> str:
    """Refs, objects, configuration and hooks of a repository, byte for byte."""
    total = hashlib.sha256()
    for path in sorted((repository / ".git").rglob("*")):
        if path.is_file() and path.name != "index":
            total.update(str(path).encode() + path.read_bytes())
    return total.hexdigest()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Two commits, a branch beside main, an annotated and a plain tag, links, a program, eol attributes."""
    root = tmp_path / "origin"
    make_repository(root, {"a": b"one\n", "dir/b": b"b\n", "run.sh": b"#!/bin/sh\n", "dos.bat": b"x\ny\n"})
    (root / "run.sh").chmod(0o755)
    (root / "link").symlink_to("dir/b")
    (root / "out").symlink_to("/etc/passwd")
    commit_files(root, {".gitattributes": b"*.bat text eol=crlf\nid ident\n", "id": b"$Id$\n"}, "more")
    git(root, "tag", "-a", "-m", "annotated", "v1")
    git(root, "tag", "plain")
    git(root, "branch", "side", "HEAD~1")
    commit_files(root, {"a": b"two\n", "ünï code": b"u"}, "third")
    return root


def url(repository: Path) -> str:
    return f"git+file://{repository}"


def test_tree_equals_git_archive(repository: Path, tmp_path: Path) -> None:
    snapshot, entries = stage(url(repository), tmp_path / "out")
    found = described(tmp_path / "out" / "tree")
    assert found == archived(repository, snapshot.pinned["commit"], tmp_path / "archive")
    assert found["dos.bat"] == ("file", b"x\r\ny\r\n")
    assert found["run.sh"][0] == "program"
    assert found["out"] == ("link", b"/etc/passwd")
    assert {entry.grade for entry in entries.values()} == {"A"}
    assert entries["dos.bat"].size == 6
    assert stat.S_ISLNK(entries["link"].mode)


@pytest.mark.parametrize("ref", [None, "HEAD", "main", "side", "v1", "plain", "refs/heads/side", "refs/tags/v1"])
def test_ref_is_resolved_to_its_commit(repository: Path, tmp_path: Path, ref: str | None) -> None:
    snapshot, _ = stage(parse_source(url(repository), ref=ref), tmp_path / "out")
    assert snapshot.pinned["commit"] == git(repository, "rev-parse", f"{ref or 'HEAD'}^{{commit}}")
    assert snapshot.pinned["ref"].startswith("refs/")


@pytest.mark.parametrize("length", [40, 12])
def test_old_commit_is_found_by_its_id(git_server: GitHttp, tmp_path: Path, length: int) -> None:
    origin = git_server.root / "r"
    first = make_repository(origin, {"a": b"old"})
    commit_files(origin, {"a": b"new"}, "second")
    stage(parse_source(f"git+{git_server.url('r')}", ref=first[:length]), tmp_path / "out")
    assert (tmp_path / "out" / "tree" / "a").read_bytes() == b"old"


def test_tag_object_given_by_id_leads_to_its_commit(repository: Path, tmp_path: Path) -> None:
    tag = git(repository, "rev-parse", "v1")
    snapshot, _ = stage(parse_source(url(repository), ref=tag), tmp_path / "out")
    assert snapshot.pinned["commit"] == git(repository, "rev-parse", "v1^{commit}")


def test_name_of_a_branch_and_a_tag_is_refused_unless_said_which(repository: Path, tmp_path: Path) -> None:
    git(repository, "branch", "v1", "HEAD~2")
    with pytest.raises(UsageError, match="a branch and a tag"):
        stage(parse_source(url(repository), ref="v1"), tmp_path / "out")
    stage(parse_source(url(repository), ref="refs/tags/v1"), tmp_path / "out")


def test_repository_with_sha256_ids_works(tmp_path: Path) -> None:
    origin = tmp_path / "origin"
    origin.mkdir()
    git(origin, "init", "-q", "-b", "main", "--object-format=sha256")
    commit = commit_files(origin, {"a": b"x"}, "first")
    for number, ref in enumerate((None, commit)):
        snapshot, _ = stage(parse_source(url(origin), ref=ref), tmp_path / f"out{number}")
        assert snapshot.pinned["commit"] == commit


def test_subdir_is_the_root_and_attributes_above_it_count(repository: Path, tmp_path: Path) -> None:
    commit_files(repository, {"dir/deep/x.bat": b"a\n", "dirty": b"no"}, "deep")
    stage(f"{url(repository)}#subdir=dir", tmp_path / "out")
    assert described(tmp_path / "out" / "tree") == {"b": ("file", b"b\n"), "deep/x.bat": ("file", b"a\r\n")}


@pytest.mark.parametrize("subdir", ["none", "a"])
def test_missing_subdir_is_not_found(repository: Path, tmp_path: Path, subdir: str) -> None:
    with pytest.raises(NotFoundError, match="no directory"):
        stage(f"{url(repository)}#subdir={subdir}", tmp_path / "out")


@pytest.mark.parametrize("ref", ["nope", "deadbee", "d" * 40])
def test_missing_ref_is_not_found(git_server: GitHttp, tmp_path: Path, ref: str) -> None:
    make_repository(git_server.root / "r", {"a": b"x"})
    with pytest.raises(NotFoundError, match="check ref") as caught:
        stage(parse_source(f"git+{git_server.url('r')}", ref=ref), tmp_path / "out")
    assert caught.value.exit_code == 3


def test_empty_repository_has_no_default_branch(tmp_path: Path) -> None:
    (tmp_path / "origin").mkdir()
    git(tmp_path / "origin", "init", "-q")
    with pytest.raises(NotFoundError, match="no default branch"):
        stage(url(tmp_path / "origin"), tmp_path / "out")


def test_remote_is_never_changed_and_no_hook_runs(repository: Path, tmp_path: Path) -> None:
    for hook in ("pre-receive", "update", "post-checkout", "reference-transaction", "post-index-change"):
        path = repository / ".git" / "hooks" / hook
        path.write_text(f"#!/bin/sh\ntouch {tmp_path}/canary\n")
        path.chmod(0o755)
    before = fingerprint(repository)
    stage(url(repository), tmp_path / "out")
    stage(parse_source(url(repository), ref=git(repository, "rev-parse", "HEAD~1")), tmp_path / "out2")
    assert fingerprint(repository) == before
    assert not (tmp_path / "canary").exists()


def test_nothing_is_pushed_over_http(git_server: GitHttp, tmp_path: Path) -> None:
    make_repository(git_server.root / "r", {"a": b"x"})
    stage(f"git+{git_server.url('r')}", tmp_path / "out")
    assert git_server.requests
    assert not [path for _, path in git_server.requests if "receive-pack" in path]


def test_programs_of_the_users_configuration_are_not_run(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Filters, hooks, fsmonitor and attributes of the user's git do not touch what is staged."""
    canary = tmp_path / "canary"
    attributes = tmp_path / "attributes"
    attributes.write_text("* filter=evil\n*.bat -text\n")
    config = tmp_path / "gitconfig"
    config.write_text(
        f"""[core]
    hooksPath = {tmp_path}/hooks
    fsmonitor = touch {canary}
    attributesFile = {attributes}
    autocrlf = true
[filter "evil"]
    smudge = touch {canary}; cat
    process = touch {canary}
    required = true
[protocol "ext"]
    allow = always
"""
    )
    (tmp_path / "hooks").mkdir()
    for hook in ("post-checkout", "reference-transaction", "post-index-change"):
        (tmp_path / "hooks" / hook).write_text(f"#!/bin/sh\ntouch {canary}\n")
        (tmp_path / "hooks" / hook).chmod(0o755)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    snapshot, _ = stage(url(repository), tmp_path / "out")
    monkeypatch.delenv("GIT_CONFIG_GLOBAL")
    assert described(tmp_path / "out" / "tree") == archived(repository, snapshot.pinned["commit"], tmp_path / "archive")
    assert not canary.exists()


def test_url_that_is_rewritten_to_a_command_is_refused(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "gitconfig"
    config.write_text(
        f'[url "ext::sh -c touch% {tmp_path}/canary "]\n insteadOf = file:\n[protocol "ext"]\n allow = always\n'
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    with pytest.raises(StagerError, match="not allowed"):
        stage(url(repository), tmp_path / "out")
    assert not (tmp_path / "canary").exists()


def test_credential_helper_of_the_user_is_asked_and_its_secret_not_shown(
    git_server: GitHttp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_repository(git_server.root / "r", {"a": b"x"})
    git_server.credentials = ("alice", "hunter2")
    source = f"git+{git_server.url('r')}"
    config = tmp_path / "gitconfig"
    config.write_text('[credential]\n helper = "!f() { echo username=alice; echo password=hunter2; }; f"\n')
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    stage(source, tmp_path / "out")
    config.write_text('[credential]\n helper = "!f() { echo username=alice; echo password=hunter3; }; f"\n')
    with pytest.raises(AccessDeniedError) as caught:
        stage(source, tmp_path / "out2")
    assert "hunter" not in str(caught.value)


def test_no_password_is_access_denied_and_nobody_is_asked(git_server: GitHttp, tmp_path: Path) -> None:
    make_repository(git_server.root / "r", {"a": b"x"})
    git_server.credentials = ("alice", "hunter2")
    with pytest.raises(AccessDeniedError, match="credential helper") as caught:
        stage(f"git+{git_server.url('r')}", tmp_path / "out")
    assert caught.value.exit_code == 3


def test_unknown_certificate_is_refused_and_known_one_accepted(
    git_tls_server: GitHttp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_repository(git_tls_server.root / "r", {"a": b"x"})
    with pytest.raises(SourceError, match="certificate") as caught:
        stage(f"git+{git_tls_server.url('r')}", tmp_path / "out")
    assert caught.value.exit_code == 3
    assert git_tls_server.ca_file is not None
    monkeypatch.setenv("GIT_SSL_CAINFO", git_tls_server.ca_file)
    stage(f"git+{git_tls_server.url('r')}", tmp_path / "out2")


def test_connection_cut_in_a_pack_is_tried_again(git_server: GitHttp, tmp_path: Path) -> None:
    make_repository(git_server.root / "r", {"a": os.urandom(400_000)})
    git_server.cut_pack_after_bytes, git_server.cuts_left = 50_000, 1
    stage(f"git+{git_server.url('r')}/.git", tmp_path / "out")
    commit_files(git_server.root / "r", {"b": os.urandom(400_000)}, "second")
    git_server.cuts_left = 100
    with pytest.raises(TransientError) as caught:
        stage(f"git+{git_server.url('r')}/.git", tmp_path / "out2")
    assert (caught.value.exit_code, caught.value.retryable) == (7, True)


def test_dead_server_is_transient(tmp_path: Path) -> None:
    for transport in ("https", "ssh"):
        with pytest.raises(TransientError) as caught:
            stage(f"git+{transport}://localhost:1/r", tmp_path / transport)
        assert caught.value.exit_code == 7


def test_plain_http_is_for_loopback_only(git_server: GitHttp, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="plain http"):
        GitSource(parse_source("git+http://git.example/r"), state_dir=str(tmp_path))
    make_repository(git_server.root / "r", {"a": b"x"})
    stage(f"git+{git_server.url('r')}", tmp_path / "out")


def test_file_that_lfs_would_track_but_does_not_is_staged(tmp_path: Path) -> None:
    make_repository(tmp_path / "origin", {"model.bin": b"small", ".gitattributes": b"*.bin filter=lfs -text\n"})
    stage(url(tmp_path / "origin"), tmp_path / "out")
    assert (tmp_path / "out" / "tree" / "model.bin").read_bytes() == b"small"


def test_other_filters_are_refused_by_name(tmp_path: Path) -> None:
    make_repository(tmp_path / "origin", {"x.enc": b"secret", ".gitattributes": b"*.enc filter=crypt\n"})
    with pytest.raises(BadKeysError, match=r"(?s)x\.enc: needs a git filter, which is never run \(filter=crypt\)"):
        stage(url(tmp_path / "origin"), tmp_path / "out")


def test_damaged_object_at_the_remote_is_an_error(tmp_path: Path) -> None:
    origin = tmp_path / "origin"
    make_repository(origin, {"a": os.urandom(2000)})
    blob = git(origin, "rev-parse", "HEAD:a")
    path = origin / ".git" / "objects" / blob[:2] / blob[2:]
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(SourceError):
        stage(url(origin), tmp_path / "out")
    assert described(tmp_path / "out" / "tree") == {}


def test_cancelled_fetch_ends_git_and_leaves_nothing(git_server: GitHttp, tmp_path: Path) -> None:
    make_repository(git_server.root / "r", {f"f{n}": os.urandom(1000) for n in range(50)})
    (tmp_path / "state").mkdir()

    async def run() -> None:
        asked, loop = asyncio.Event(), asyncio.get_running_loop()

        class Requests(list[tuple[str, str]]):
            def append(self, request: tuple[str, str]) -> None:
                super().append(request)
                loop.call_soon_threadsafe(asked.set)

        git_server.requests = Requests()
        async with GitSource(parse_source(f"git+{git_server.url('r')}"), state_dir=str(tmp_path / "state")) as source:
            work = asyncio.create_task(source.snapshot())
            await asked.wait()
            work.cancel()
            with pytest.raises(asyncio.CancelledError):
                await work

    asyncio.run(run())
    assert os.listdir(tmp_path / "state") == []
    assert "git" not in children()
