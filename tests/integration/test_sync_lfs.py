"""stager sync of Git repositories whose files Git LFS keeps: from servers that follow its rules, and from others."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import ssl
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from integration.sync_driver import Sync, SyncHere, tree, wait_until
from servers.certificates import Certificates
from servers.git_http import GitHttp
from servers.lfs_fixture import LfsFixture, lfs_fixture
from servers.lfs_fixture import Reply as Answered
from servers.lfs_fixture import Request as Asked
from servers.repositories import commit_files, git, lfs_pointer, make_repository
from unit.scripted_http import Request, ScriptedServer, response, scripted

MIB = 1 << 20
PLAIN = {"readme": b"read me\n", ".gitattributes": b"*.bin filter=lfs diff=lfs merge=lfs -text\n"}
SMALL = {f"d{i % 3}/{i}.bin": os.urandom(1 + i * 997) for i in range(40)}
LARGE = {"large.bin": os.urandom(37 * MIB + 5)}


@pytest.fixture
def lfs() -> Iterator[LfsFixture]:
    with lfs_fixture() as server:
        yield server


@pytest.fixture
def sync(git_server: GitHttp, lfs: LfsFixture, tmp_path: Path) -> Sync:
    source = f"git+{git_server.url('words')}/.git"
    return SyncHere(source, tmp_path / "dst", {"STAGER_SCRATCH": str(tmp_path / "scratch")})


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path) -> Path:
    (tmp_path / "scratch").mkdir(mode=0o700)
    return tmp_path / "scratch"


@pytest.fixture
def commit(git_server: GitHttp, lfs: LfsFixture) -> Callable[..., dict[str, bytes]]:
    """Commits objects, and plain files; what a work tree has then."""

    def make(objects: dict[str, bytes], **plain: bytes) -> dict[str, bytes]:
        config = {".lfsconfig": f"[lfs]\n\turl = {lfs.url}\n".encode()}
        for content in objects.values():
            lfs.add(content)
        files = {**PLAIN, **config, **plain}
        pointers = {name: lfs_pointer(content) for name, content in objects.items()}
        directory = git_server.root / "words"
        make = commit_files if directory.exists() else make_repository
        make(directory, {**files, **pointers}, *(["more"] if make is commit_files else []))
        return {**files, **objects}

    return make


def receipt(sync: Sync) -> Any:
    return json.loads((sync.destination / ".stager" / "receipt.json").read_bytes())


def test_pointers_become_their_objects(sync: Sync, commit: Callable[..., dict[str, bytes]], lfs: LfsFixture) -> None:
    expected = commit({**SMALL, **LARGE, "empty.bin": b""})  # an empty file is its own pointer, and none is needed
    done = sync.run()
    assert done.code == 0, done.err
    assert tree(sync.destination) == expected
    told = receipt(sync)
    assert told["grades"] == {"A": len(expected)}
    counts = {"objects": 41, "bytes": sum(map(len, (*SMALL.values(), *LARGE.values())))}
    assert told["pinned"]["lfs"] == counts


def test_second_run_asks_for_no_object_and_a_new_commit_for_its_own(
    sync: Sync, commit: Callable[..., dict[str, bytes]], lfs: LfsFixture
) -> None:
    expected = commit(SMALL)
    assert sync.run().code == 0
    lfs.requests.clear()
    assert "fetched 0 objects" in sync.run().out
    assert lfs.requests == []
    new = {"d0/0.bin": b"another", "new.bin": b"new"}
    expected = {**expected, **commit(new)}
    assert "fetched 2 objects" in sync.run().out
    assert tree(sync.destination) == expected
    asked = [one["oid"] for batch in lfs.batches for one in batch.json["objects"]]
    assert sorted(asked) == sorted(hashlib.sha256(content).hexdigest() for content in new.values())


def test_same_object_at_several_paths_is_fetched_once_and_modes_are_kept(
    sync: Sync, commit: Callable[..., dict[str, bytes]], lfs: LfsFixture, git_server: GitHttp
) -> None:
    commit({"a.bin": b"same" * 999, "b/c.bin": b"same" * 999})
    directory = git_server.root / "words"
    (directory / "run.bin").write_bytes(lfs_pointer(b"same" * 999))
    (directory / "run.bin").chmod(0o755)
    commit_files(directory, {}, "a program")
    assert sync.run().code == 0
    assert [request.method for request in lfs.requests if request.method == "GET"] == ["GET"]
    found = {name: (sync.destination / name).stat() for name in ("a.bin", "b/c.bin", "run.bin")}
    assert len({status.st_ino for status in found.values()}) == 3
    assert [bool(status.st_mode & stat.S_IXUSR) for status in found.values()] == [False, False, True]


@pytest.mark.parametrize(
    ("options", "left"),
    [
        (["--no-lfs"], {"a.bin", "keep/b.bin"}),
        (["--lfs-exclude", "keep/"], {"keep/b.bin"}),
        (["--lfs-include", "keep/*"], {"a.bin"}),
    ],
)
def test_what_is_not_wanted_of_lfs_stays_a_pointer(
    sync: Sync, commit: Callable[..., dict[str, bytes]], options: list[str], left: set[str]
) -> None:
    objects = {"a.bin": b"aaa", "keep/b.bin": b"bbbb"}
    expected = commit(objects)
    done = sync.run(*options)
    assert done.code == 0, done.err
    assert tree(sync.destination) == {**expected, **{name: lfs_pointer(objects[name]) for name in left}}
    if "--no-lfs" not in options:
        assert receipt(sync)["pinned"]["lfs"]["excluded"] == len(left)
    assert sync.run().code == 0
    assert tree(sync.destination) == expected


def test_pointer_at_a_path_without_the_filter_is_a_file_and_the_user_is_told(
    sync: Sync, commit: Callable[..., dict[str, bytes]]
) -> None:
    expected = commit({"a.bin": b"aaa"}, **{"notes.txt": lfs_pointer(b"something")})
    done = sync.run()
    assert done.code == 0
    assert "without filter=lfs" in done.err
    assert tree(sync.destination) == expected


def test_object_of_a_known_commit_is_fetched_without_the_commit(
    sync: Sync, commit: Callable[..., dict[str, bytes]], lfs: LfsFixture, git_server: GitHttp, scratch: Path
) -> None:
    """That of .lfsconfig which leads to objects is recorded; the refs are asked for, and nothing else."""
    expected = commit({"a.bin": b"aaa", "keep/b.bin": b"bbbb"}, **{"notes.txt": lfs_pointer(b"something")})
    options = ("--lfs-exclude", "keep/")
    assert sync.run(*options).code == 0
    told = receipt(sync)["pinned"]["lfs"]
    assert told == {"objects": 1, "bytes": 3, "excluded": 1, "undeclared": 1}
    (sync.destination / "a.bin").unlink()
    shutil.rmtree(scratch)
    scratch.mkdir(mode=0o700)
    git_server.forget()
    done = sync.run(*options)
    assert done.code == 0 and "without filter=lfs" in done.err
    assert tree(sync.destination) == {**expected, "keep/b.bin": lfs_pointer(b"bbbb")}
    asked = [path.rpartition("/")[2] for _, path in git_server.requests]
    assert asked == ["refs?service=git-upload-pack", "git-upload-pack"]
    assert receipt(sync)["pinned"]["lfs"] == told


@pytest.mark.parametrize(
    ("options", "damaged"),
    [
        (["--no-lfs"], ["a.bin"]),
        (["--lfs-exclude", "keep/"], ["a.bin", "keep/b.bin"]),
        (["--lfs-include", "keep/", "--path", "keep", "--path", "a.bin"], ["a.bin", "keep/b.bin"]),
        (["--path", "keep"], ["keep/b.bin"]),
    ],
)
def test_repaired_tree_is_the_one_that_was_staged_with_its_options(
    sync: SyncHere, commit: Callable[..., dict[str, bytes]], git_server: GitHttp, scratch: Path,
    options: list[str], damaged: list[str],
) -> None:  # fmt: skip
    commit({"a.bin": b"aaa", "keep/b.bin": b"bbbb"}, unwanted=os.urandom(MIB))
    git(git_server.root / "words", "config", "uploadpack.allowFilter", "true")
    assert sync.run(*options).code == 0
    staged, told = tree(sync.destination), receipt(sync)
    commit({"a.bin": b"a later commit"})
    shutil.rmtree(scratch)
    scratch.mkdir(mode=0o700)
    for name in damaged:
        (sync.destination / name).write_bytes(b"damaged")
    git_server.forget()
    done = sync.command("verify", str(sync.destination), "--repair")
    assert done.code == 0, done.err
    assert tree(sync.destination) == staged
    assert (git_server.bytes_sent < MIB) == ("--path" in options)  # nothing else is fetched then either
    assert receipt(sync)["pinned"] == told["pinned"]
    assert "fetched 0 objects" in sync.run(*options, "--ref", told["pinned"]["commit"]).out


def test_objects_that_the_server_has_not_are_all_named(
    sync: Sync, commit: Callable[..., dict[str, bytes]], lfs: LfsFixture
) -> None:
    commit({"a.bin": b"aaa", "b.bin": b"bbb", "c.bin": b"ccc"})
    for content in (b"aaa", b"ccc"):
        del lfs.objects[hashlib.sha256(content).hexdigest()]
    done = sync.run()
    assert done.code == 3
    assert "a.bin" in done.err and "c.bin" in done.err


def test_second_tree_on_the_node_asks_for_no_object(
    sync: Sync,
    commit: Callable[..., dict[str, bytes]],
    lfs: LfsFixture,
    scratch: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stager.sources.lfs.is_worth_a_copy", lambda *_: True)
    monkeypatch.setattr("stager.host.lfs_store._AMPLE", 0.0)
    expected = commit({**SMALL, **LARGE})
    assert sync.run().code == 0
    assert receipt(sync)["reused"] == {"objects": 0, "bytes": 0}
    damaged = hashlib.sha256(SMALL["d0/0.bin"]).hexdigest()
    (scratch / "lfs" / damaged[:2] / damaged).chmod(0o600)
    (scratch / "lfs" / damaged[:2] / damaged).write_bytes(bytes(byte ^ 1 for byte in SMALL["d0/0.bin"]))
    lfs.requests.clear()
    sync.destination = tmp_path / "second"
    assert sync.run().code == 0
    assert tree(sync.destination) == expected
    asked = [one["oid"] for batch in lfs.batches for one in batch.json["objects"]]
    assert asked == [damaged]
    reused = {**SMALL, **LARGE}
    del reused["d0/0.bin"]
    assert receipt(sync)["reused"] == {"objects": len(reused), "bytes": sum(map(len, reused.values()))}


# ---- where objects come from servers of another kind ----


class Store:
    """Serves objects at /OID; with ranges or without; and each departure that a test asks for."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.has_ranges = True
        self.before: Callable[[Request, socket.socket], bytes | None] = lambda *_: None

    def __call__(self, request: Request, connection: socket.socket) -> None:
        said = self.before(request, connection)
        if said is not None:
            connection.sendall(said)
            return
        content = self.objects[request.path.partition("?")[0].rpartition("/")[2]]
        if "range" in request.headers and self.has_ranges:
            first, last = map(int, request.headers["range"].removeprefix("bytes=").split("-"))
            fields = {"content_range": f"bytes {first}-{last}/{len(content)}"}
            connection.sendall(response(content[first : last + 1], "206 Partial Content", etag=None, **fields))
        else:
            connection.sendall(response(content, etag=None))


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def elsewhere(store: Store, lfs: LfsFixture) -> Iterator[ScriptedServer]:
    """The store as a server of its own, to which the batch API points; a link's query says how many there were."""
    links = iter(range(10**6))
    with scripted(store) as server:

        def answer(request: Asked) -> Answered:
            objects = []
            for one in request.json["objects"]:
                href = f"http://127.0.0.1:{server.port}/{one['oid']}?link={next(links)}"
                objects.append({**one, "actions": {"download": {"href": href, "header": {"X-Link": "yes"}}}})
            return lfs.reply({"transfer": "basic", "objects": objects})

        lfs.answer = answer
        store.objects = lfs.objects
        yield server


@pytest.mark.parametrize("has_ranges", [True, False])
def test_large_object_comes_in_ranges_or_whole_where_there_are_none(
    sync: Sync, commit: Callable[..., dict[str, bytes]], store: Store, elsewhere: ScriptedServer, has_ranges: bool
) -> None:
    store.has_ranges = has_ranges
    expected = commit({**LARGE, "second.bin": LARGE["large.bin"][::-1]})
    done = sync.run()
    assert done.code == 0, done.err
    assert tree(sync.destination) == expected
    assert receipt(sync)["grades"] == {"A": len(expected)}
    whole = [request for request in elsewhere.requests if "range" not in request.headers]
    assert len(whole) == (0 if has_ranges else 2)
    assert {request.headers["x-link"] for request in elsewhere.requests} == {"yes"}


@pytest.mark.parametrize("objects", [SMALL, LARGE])
def test_wrong_object_is_fetched_once_more_and_then_an_error(
    sync: Sync,
    commit: Callable[..., dict[str, bytes]],
    store: Store,
    elsewhere: ScriptedServer,
    lfs: LfsFixture,
    objects: dict[str, bytes],
) -> None:
    commit(objects)
    name, content = max(objects.items(), key=lambda item: len(item[1]))
    oid = hashlib.sha256(content).hexdigest()
    store.objects = {**lfs.objects, oid: content[:-1] + bytes([content[-1] ^ 1])}
    done = sync.run()
    assert done.code == 4
    assert name in done.err and oid in done.err
    assert not (sync.destination / name).exists()
    ends = f"-{len(content) - 1}"  # the part that is wrong, or the object
    asked = [one for one in elsewhere.requests if oid in one.path and one.headers.get("range", ends).endswith(ends)]
    assert len(asked) == 2
    store.objects = lfs.objects
    assert sync.run().code == 0


@pytest.mark.parametrize("objects", [SMALL, LARGE])
def test_link_that_is_refused_is_asked_for_anew(
    sync: Sync,
    commit: Callable[..., dict[str, bytes]],
    store: Store,
    elsewhere: ScriptedServer,
    objects: dict[str, bytes],
) -> None:
    expected = commit(objects)
    count = 0

    def expire(request: Request, connection: socket.socket) -> bytes | None:
        nonlocal count
        count += 1
        link = int(request.path.partition("=")[2])
        return response(b"Request has expired", "403 Forbidden") if link < len(objects) and count > 1 else None

    store.before = expire
    done = sync.run()
    assert done.code == 0, done.err
    assert tree(sync.destination) == expected


@pytest.mark.parametrize("objects", [{"a.bin": b"aaa"}, LARGE])
def test_link_that_is_refused_for_good_ends_in_an_error(
    sync: Sync,
    commit: Callable[..., dict[str, bytes]],
    store: Store,
    elsewhere: ScriptedServer,
    objects: dict[str, bytes],
) -> None:
    commit(objects)
    store.before = lambda *_: response(b"no", "403 Forbidden")
    done = sync.run()
    assert done.code == 3
    assert "denies access" in done.err
    assert len(elsewhere.requests) < 200


@pytest.mark.parametrize("objects", [SMALL, LARGE])
def test_redirect_is_followed_without_the_links_headers(
    sync: Sync,
    commit: Callable[..., dict[str, bytes]],
    store: Store,
    elsewhere: ScriptedServer,
    lfs: LfsFixture,
    objects: dict[str, bytes],
) -> None:
    expected = commit(objects)
    other = Store()
    other.objects = lfs.objects
    with scripted(other) as behind:

        def send_on(request: Request, connection: socket.socket) -> bytes:
            return response(b"", "302 Found", location=f"http://127.0.0.1:{behind.port}{request.path}&signed=1")

        store.before = send_on
        done = sync.run()
        assert done.code == 0, done.err
        assert tree(sync.destination) == expected
        assert not any("x-link" in request.headers for request in behind.requests)
        assert len(elsewhere.requests) == len(objects)


def test_redirects_without_end_are_an_error(
    sync: Sync, commit: Callable[..., dict[str, bytes]], store: Store, elsewhere: ScriptedServer
) -> None:
    commit({"a.bin": b"aaa"})
    store.before = lambda request, _: response(b"", "307 Temporary Redirect", location=request.path)
    done = sync.run()
    assert done.code == 3
    assert "redirects without end" in done.err


def test_large_object_goes_on_where_it_was_killed(
    sync: Sync, commit: Callable[..., dict[str, bytes]], store: Store, elsewhere: ScriptedServer
) -> None:
    expected = commit(LARGE)

    def hold(request: Request, connection: socket.socket) -> bytes | None:
        if not request.headers["range"].startswith("bytes=0-"):
            connection.recv(1)  # until the client is gone
        return None

    store.before = hold
    partial = sync.destination / ".stager" / "partial"
    with sync.start() as process:
        wait_until(lambda: any(path.stat().st_size > 24 for path in partial.glob("*.blocks")))
        process.kill()
    elsewhere.requests.clear()
    store.before = lambda *_: None
    done = sync.run()
    assert done.code == 0, done.err
    assert tree(sync.destination) == expected
    assert not any(one.headers.get("range", "").startswith("bytes=0-") for one in elsewhere.requests)
    assert receipt(sync)["continued_bytes"] == 16 * MIB


def test_certificate_of_the_user_is_shown_to_the_lfs_server_and_elsewhere_only_where_it_is_named(
    sync: Sync, git_server: GitHttp, certificates: Certificates, tmp_path: Path
) -> None:
    """git-config(1), http.<url>.sslCert. Small objects and parts of large ones come from both servers."""
    contents = {"here.bin": b"here", "there.bin": b"there", "large.bin": os.urandom(17 * MIB)}
    pointers = {name: lfs_pointer(content) for name, content in contents.items()}
    config, ask, need = tmp_path / "gitconfig", ssl.CERT_OPTIONAL, ssl.CERT_REQUIRED
    shown = f"sslCert = {certificates.client_file}\n\tsslKey = {certificates.client_key_file}\n"
    with (
        lfs_fixture(certificates, clients=need) as lfs,
        lfs_fixture(certificates, clients=ask) as other,
        lfs_fixture(certificates, clients=need) as strict,
    ):
        for server in (lfs, other, strict):
            for content in contents.values():
                server.add(content)
        make_repository(git_server.root / "words", {**PLAIN, **pointers})

        def links_to(server: LfsFixture) -> None:
            def answer(asked: Asked) -> Answered:
                entries = [lfs.entry(one) for one in asked.json["objects"]]
                for entry in entries:
                    if entry["oid"] != hashlib.sha256(b"here").hexdigest():
                        entry["actions"]["download"]["href"] = f"{server.url}/data/{entry['oid']}"
                return lfs.reply({"objects": entries})

            lfs.answer = answer

        def run(text: str) -> Any:
            config.write_text(f"[http]\n\tsslCAInfo = {certificates.ca_file}\n{text}[lfs]\n\turl = {lfs.url}\n")
            shutil.rmtree(sync.destination, ignore_errors=True)
            shutil.rmtree(tmp_path / "scratch")
            (tmp_path / "scratch").mkdir(mode=0o700)
            return sync.run("-q", environment={"GIT_CONFIG_GLOBAL": str(config)})

        links_to(other)
        done = run(f"\t{shown}")
        assert done.code == 0, done.err
        assert tree(sync.destination) == {**PLAIN, **contents}
        assert {one.certificate for one in lfs.requests} == {"client.example"}
        assert {one.method for one in lfs.requests} == {"POST", "GET"}
        assert other.requests and {one.certificate for one in other.requests} == {""}

        links_to(strict)
        done = run(f"\t{shown}")
        assert done.code != 0 and "wants a client certificate" in done.err and "http.<url>.sslCert" in done.err
        assert strict.requests == []
        origin = strict.url.partition("/repository")[0]
        done = run(f'\t{shown}[http "{origin}/"]\n\tsslCert = {certificates.client_both_file}\n')
        assert done.code == 0, done.err
        assert {one.certificate for one in strict.requests} == {"client.example"}
        named = f'[http "{origin}/"]\n\tsslCert = {certificates.client_file}\n\tsslKey = '
        done = run(f"\t{shown}{named}{certificates.client_locked_file}\n")
        assert done.code == 2 and "a key with a password is not supported" in done.err

        strict.requests.clear()
        done = run("")
        assert done.code != 0 and "the LFS server wants a client certificate" in done.err
        done = run(f"\tsslCert = {tmp_path}/none.pem\n")
        assert done.code == 2 and "none.pem" in done.err and "http.sslCert" in done.err
        done = run(f"\tsslCert = {certificates.client_file}\n\tsslKey = {certificates.key_file}\n")
        assert done.code == 2 and "cannot be used" in done.err
        lfs.requests.clear()
        config_of_commit = f"[lfs]\n\turl = {lfs.url}\n".encode()
        commit_files(git_server.root / "words", {".lfsconfig": config_of_commit}, "chosen by a commit")
        config.write_text(f"[http]\n\tsslCAInfo = {certificates.ca_file}\n\t{shown}")
        done = sync.run("-q", environment={"GIT_CONFIG_GLOBAL": str(config)})
        assert done.code != 0 and "the LFS server wants a client certificate" in done.err
        assert lfs.requests == strict.requests == []
