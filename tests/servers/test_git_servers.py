"""The git and LFS servers of the tests do what the other tests believe of them; git and git-lfs are the clients."""

from __future__ import annotations

import hashlib
import http.client
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from servers.certificates import Certificates
from servers.giftless_lfs import Giftless, LfsRequest
from servers.git_http import git_http
from servers.git_ssh import GitSsh
from servers.repositories import clone_with_lfs, lfs_pointer, make_lfs_repository, make_repository
from servers.s3 import object_bytes

NAME = "lab/words"
OBJECTS = {"data/large.bin": object_bytes(300_000, 1), "sp ace.bin": b"small"}
LARGE = hashlib.sha256(OBJECTS["data/large.bin"]).hexdigest()


@dataclass(frozen=True)
class Said:
    status: int
    headers: http.client.HTTPMessage
    body: bytes


def ask(url: str, body: Any = None, **headers: str) -> Said:
    """One request; ``Content_Type="x"`` is sent as ``Content-Type: x``. A body makes it a POST of JSON."""
    host, _, path = url.partition("://")[2].partition("/")
    connection = http.client.HTTPConnection(host, timeout=30)
    try:
        connection.request(
            "GET" if body is None else "POST", f"/{path}", body=None if body is None else json.dumps(body),
            headers={"Content-Type": "application/vnd.git-lfs+json", "Accept": "application/vnd.git-lfs+json"}
            | {name.replace("_", "-"): value for name, value in headers.items()},
        )  # fmt: skip
        answer = connection.getresponse()
        return Said(answer.status, answer.headers, answer.read())
    finally:
        connection.close()


def batch(lfs: Giftless, *objects: tuple[str, int], token: str | None = None) -> Said:
    rows = [{"oid": oid, "size": size} for oid, size in objects]
    said = {"Authorization": f"Bearer {token or lfs.token(NAME)}"}
    return ask(lfs.url(NAME) + "/objects/batch", {"operation": "download", "objects": rows}, **said)


def link(said: Said) -> str:
    (row,) = json.loads(said.body)["objects"]
    return str(row["actions"]["download"]["href"])


def has_the_objects(directory: Path) -> bool:
    return {path: (directory / path).read_bytes() for path in OBJECTS} == OBJECTS


@pytest.fixture
def served(tmp_path: Path, lfs_streaming: Giftless, lfs_in_s3: Giftless) -> Path:
    """Repositories' root, one of them with objects that both giftless have."""
    make_lfs_repository(tmp_path / "repositories" / NAME, {"a": b"a"}, OBJECTS)
    for lfs in (lfs_streaming, lfs_in_s3):
        lfs.put(NAME, OBJECTS.values())
    return tmp_path / "repositories"


@pytest.fixture
def alice(tmp_path: Path) -> dict[str, str]:
    """An environment in which git and git-lfs are alice's."""
    config = tmp_path / "gitconfig"
    config.write_text('[credential]\n helper = "!f() { echo username=alice; echo password=hunter2; }; f"\n')
    return {"GIT_CONFIG_GLOBAL": str(config)}


def test_streamed_objects_have_neither_ranges_nor_a_length(served: Path, lfs_streaming: Giftless) -> None:
    """What its module says of it, so that a later giftless is noticed."""
    where = link(batch(lfs_streaming, (LARGE, 300_000)))
    said = ask(where, Range="bytes=0-9")
    assert (said.status, len(said.body)) == (200, 300_000)
    assert said.headers["Content-Length"] is None
    assert ask(where.partition("?")[0]).status == 401


def test_objects_in_s3_come_in_ranges_from_another_origin(served: Path, lfs_in_s3: Giftless) -> None:
    where = link(batch(lfs_in_s3, (LARGE, 300_000)))
    assert lfs_in_s3.s3 is not None
    assert where.startswith(lfs_in_s3.s3.endpoint_url)
    said = ask(where, Range="bytes=10-19")
    assert (said.status, said.body) == (206, OBJECTS["data/large.bin"][10:20])
    assert ask(where.replace(LARGE, "0" * 64)).status == 403


def test_giftless_names_objects_it_has_not_and_refuses_others_tokens(served: Path, lfs_streaming: Giftless) -> None:
    some = json.loads(batch(lfs_streaming, (LARGE, 300_000), ("0" * 64, 1)).body)["objects"]
    assert [row.get("error", {}).get("code") for row in some] == [None, 404]
    assert batch(lfs_streaming, ("0" * 64, 1)).status == 404
    assert batch(lfs_streaming, (LARGE, 1)).status == 422
    assert batch(lfs_streaming, (LARGE, 300_000), token=lfs_streaming.token("lab/other")).status == 403
    assert batch(lfs_streaming, (LARGE, 300_000), token=lfs_streaming.token(NAME, lifetime_s=-60)).status == 401
    assert LfsRequest("POST", f"/{NAME}.git/info/lfs/objects/batch", 403) in lfs_streaming.requests()


@pytest.mark.parametrize("kind", ["lfs_streaming", "lfs_in_s3"])
def test_forge_over_https_with_a_password_serves_git_lfs_and_counts(
    served: Path, certificates: Certificates, tmp_path: Path, alice: dict[str, str], kind: str,
    request: pytest.FixtureRequest,
) -> None:  # fmt: skip
    with git_http(served, certificates, lfs=request.getfixturevalue(kind)) as forge:
        forge.credentials = ("alice", "hunter2")
        environment = {**alice, "GIT_SSL_CAINFO": certificates.ca_file}
        clone_with_lfs(forge.url(NAME), tmp_path / "clone", environment)
        assert has_the_objects(tmp_path / "clone")
        from_here = 300_000 if kind == "lfs_streaming" else 0
        assert from_here < forge.bytes_sent < from_here + 10_000
        forge.forget()
        forge.credentials = ("alice", "another")
        with pytest.raises(subprocess.CalledProcessError):
            clone_with_lfs(forge.url(NAME), tmp_path / "clone2", environment)
        assert forge.requests
        assert forge.bytes_sent == 0


def test_ssh_forge_lets_in_one_key_and_says_where_lfs_is(
    served: Path, git_ssh_server: GitSsh, lfs_streaming: Giftless, tmp_path: Path
) -> None:
    where = {"href": lfs_streaming.url(NAME), "header": {"Authorization": f"Bearer {lfs_streaming.token(NAME)}"}}
    git_ssh_server.answer_lfs({NAME: {**where, "expires_in": 600}})
    clone_with_lfs(git_ssh_server.url(NAME), tmp_path / "clone", git_ssh_server.environment())
    assert has_the_objects(tmp_path / "clone")
    assert git_ssh_server.commands()[0] == f"git-upload-pack '/{NAME}'"
    assert f"git-lfs-authenticate /{NAME} download" in git_ssh_server.commands()
    for strange in (git_ssh_server.environment(key="stranger"), git_ssh_server.environment(hosts="strangers")):
        with pytest.raises(subprocess.CalledProcessError) as caught:
            clone_with_lfs(git_ssh_server.url(NAME), tmp_path / "none", strange)
        assert "Permission denied" in caught.value.stderr or "verification failed" in caught.value.stderr


def test_ssh_forge_runs_nothing_else(git_ssh_server: GitSsh) -> None:
    ssh = [*git_ssh_server.environment()["GIT_SSH_COMMAND"].split(), "-p", str(git_ssh_server.port)]
    for command in ("id", "git-receive-pack 'r'", "git-lfs-authenticate r download", ""):
        done = subprocess.run(
            [*ssh, f"{git_ssh_server.user}@127.0.0.1", command], capture_output=True, stdin=subprocess.DEVNULL
        )
        assert (done.returncode, done.stdout) == (127, b"")


def test_pointers_made_by_hand_are_git_lfs_own(tmp_path: Path) -> None:
    content = OBJECTS["data/large.bin"]
    make_repository(tmp_path / "r", {"a": b"x"})
    made = subprocess.run(
        ["git", "-C", str(tmp_path / "r"), "lfs", "clean"], input=content, capture_output=True, check=True
    )
    assert made.stdout == lfs_pointer(content)
