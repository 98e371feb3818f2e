"""What S3's errors lead to: refresh, another region, the server's clock, waiting, or one clear end."""

from __future__ import annotations

import asyncio
import os
from array import array
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from integration.sync_driver import Sync, tree
from servers.s3 import object_bytes
from servers.strict_s3 import Reply, StrictS3, strict_s3
from stager._native import Entries
from stager.host.partial import Partials
from stager.sources import s3
from stager.sources.base import Landing
from stager.sources.s3 import S3Source
from stager.transfer import Transfer
from stager.urls import parse_source

FILES = {f"d{n % 3}/f{n:02d}": object_bytes(500 + n, n) for n in range(40)}


@pytest.fixture
def server() -> Iterator[StrictS3]:
    with strict_s3() as running:
        running.buckets["data"] = dict(FILES)
        yield running


@pytest.fixture
def sync(server: StrictS3, tmp_path: Path) -> Sync:
    return Sync("s3://data", tmp_path / "dst", server.environment())


def gets(server: StrictS3) -> list[str]:
    return [path for method, path in server.requests if method == "GET" and "list-type" not in path]


def test_listing_of_many_pages_is_whole(sync: Sync, server: StrictS3) -> None:
    server.page_size = 7
    server.buckets["data"]["plus+and space/%41"] = b"odd"
    assert sync.run().code == 0
    assert tree(sync.destination) == server.buckets["data"]


def test_bucket_of_another_region_is_followed(sync: Sync, server: StrictS3) -> None:
    server.regions["data"] = "eu-central-1"
    assert sync.run().code == 0
    assert tree(sync.destination) == FILES


def test_public_bucket_is_read_without_credentials(sync: Sync, server: StrictS3) -> None:
    server.public.add("data")
    nobody = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    assert sync.run("--no-sign-request", environment=nobody).code == 0
    assert tree(sync.destination) == FILES


@pytest.mark.parametrize("offset_s", [-3600, 7200])
def test_wrong_clock_is_corrected_from_the_answer(sync: Sync, server: StrictS3, offset_s: int) -> None:
    server.clock_offset_s = offset_s
    assert sync.run().code == 0
    assert tree(sync.destination) == FILES
    assert len(gets(server)) == len(FILES)


def test_clock_that_cannot_be_corrected_ends_in_one_line(sync: Sync, server: StrictS3) -> None:
    server.reply(Reply(status=403, code="RequestTimeTooSkewed", times=50))
    failed = sync.run()
    assert failed.code == 3
    assert "this computer's clock is wrong" in failed.err
    assert len(server.requests) <= 3


def credentials_file(path: Path, server: StrictS3, token: str) -> None:
    key, secret = server.identity.access_key, server.identity.secret_key
    path.write_text(
        f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\naws_session_token = {token}\n"
    )


def with_token_file(sync: Sync, path: Path) -> Sync:
    environment = {**sync.environment, "AWS_SHARED_CREDENTIALS_FILE": str(path)}
    environment.pop("AWS_ACCESS_KEY_ID")
    environment.pop("AWS_SECRET_ACCESS_KEY")
    return Sync(sync.source, sync.destination, environment)


def test_token_that_expires_in_the_middle_is_refreshed(sync: Sync, server: StrictS3, tmp_path: Path) -> None:
    path = tmp_path / "credentials"
    credentials_file(path, server, "old")
    server.tokens.add("old")

    def expire(method: str, target: str) -> None:
        if "f05" in target and "old" in server.tokens:
            credentials_file(path, server, "new")
            server.tokens.add("new")
            server.tokens.discard("old")
            server.expired_tokens.add("old")

    server.on_request = expire
    assert with_token_file(sync, path).run().code == 0
    assert tree(sync.destination) == FILES


def test_token_that_expired_for_good_ends_in_one_line(sync: Sync, server: StrictS3, tmp_path: Path) -> None:
    path = tmp_path / "credentials"
    credentials_file(path, server, "old")
    server.expired_tokens.add("old")
    failed = with_token_file(sync, path).run()
    assert failed.code == 3
    assert "the credentials have expired" in failed.err
    assert len(failed.err.splitlines()) == 1
    assert len(server.requests) == 1


def with_helper(sync: Sync, server: StrictS3, path: Path, *, answers: int) -> Sync:
    """Credentials of a program that answers so many times, and then with what is no JSON."""
    key, secret = server.identity.access_key, server.identity.secret_key
    said = f'{{"Version": 1, "AccessKeyId": "{key}", "SecretAccessKey": "{secret}", "SessionToken": "old"}}'
    (path / "said").write_text(said)
    (path / "helper").write_text(
        f"echo >> {path}/calls\n[ $(wc -l < {path}/calls) -le {answers} ] || exec echo garbage\ncat {path}/said\n"
    )
    (path / "config").write_text(f"[default]\ncredential_process = sh {path}/helper\n")
    nobody = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_CONFIG_FILE": str(path / "config")}
    return Sync(sync.source, sync.destination, {**sync.environment, **nobody})


@pytest.mark.parametrize("answers", [0, 1])
def test_credential_helper_that_fails_ends_in_one_line(
    sync: Sync, server: StrictS3, tmp_path: Path, answers: int
) -> None:
    server.expired_tokens.add("old")
    failed = with_helper(sync, server, tmp_path, answers=answers).run()
    assert failed.code == 3
    assert "credentials: the chain gives none that can be used" in failed.err
    assert len(failed.err.splitlines()) == 1


def test_refresh_that_fails_beside_a_copy_does_not_fail_the_copy(
    server: StrictS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    failed = asyncio.Event()

    async def refresh(*_: object, **__: object) -> bool:
        failed.set()
        raise LookupError("what no chain should raise")

    async def fetch(connection: object, *arguments: object) -> None:
        await failed.wait()

    async def main() -> None:
        async with Transfer() as transfer:
            source = S3Source(parse_source("s3://data"), remote=None, transfer=transfer)
            snapshot = await source.snapshot()
            monkeypatch.setattr(source, "_fetch_small", fetch)
            monkeypatch.setattr(source, "_renew", refresh)
            monkeypatch.setattr(s3, "_FRESHEN_EVERY_S", 0.0)
            with ExitStack() as stack:
                directory = os.open(tmp_path, os.O_RDONLY)
                stack.callback(os.close, directory)
                partials = stack.enter_context(Partials(directory, "test"))
                landing = Landing(
                    root_fd=-1, tmp_fd=-1, entries=Entries(snapshot.table), partials=partials, root=str(tmp_path)
                )
                await source.fetch(snapshot, array("I", [0]), landing, lambda _: None)

    asyncio.run(main())
    assert failed.is_set()


def test_busy_server_is_waited_for_when_one_key_is_asked_for(sync: Sync, server: StrictS3) -> None:
    server.reply(*(Reply(path="d1%2Ff04&", status=503, code="") for _ in range(5)))
    assert sync.run(source="s3://data/d1/f04").code == 0
    assert tree(sync.destination) == {"f04": FILES["d1/f04"]}


@pytest.mark.parametrize("status", [500, 503, 429])
def test_server_that_stays_busy_when_one_key_is_asked_for_is_exit_7(
    sync: Sync, server: StrictS3, status: int
) -> None:
    server.on_request = lambda method, target: server.reply(Reply(path="prefix=d1%2Ff04", status=status, code=""))
    failed = sync.run("--retries", "2", source="s3://data/d1/f04")
    assert (failed.code, len(failed.err.splitlines())) == (7, 1)


def test_key_that_only_begins_like_the_one_asked_for_is_not_found(sync: Sync) -> None:
    assert sync.run(source="s3://data/d1/f0").code == 3


def test_busy_server_is_waited_for(sync: Sync, server: StrictS3) -> None:
    server.reply(
        Reply(path="list-type", status=503, code="SlowDown"),
        Reply(path="/d0/", status=503, code="SlowDown", times=20),
        Reply(path="/d1/", status=500, code="InternalError", times=3),
        Reply(path="/d2/f02", status=429, code="", headers={"Retry-After": "1"}),
        Reply(path="/d2/f05", status=400, code="RequestTimeout"),
    )
    assert sync.run().code == 0
    assert tree(sync.destination) == FILES


def test_one_denied_object_does_not_stop_the_others(sync: Sync, server: StrictS3) -> None:
    server.reply(Reply(path="/d0/f06", status=403, code="AccessDenied", times=5))
    failed = sync.run()
    assert failed.code == 3
    assert "d0/f06: access denied" in failed.err
    assert tree(sync.destination) == {path: content for path, content in FILES.items() if path != "d0/f06"}
    assert not (sync.destination / ".stager" / "receipt.json").exists()


def test_many_denied_in_a_row_stop_early(sync: Sync, server: StrictS3) -> None:
    server.buckets["data"] = {f"f{n:04d}": b"x" for n in range(3000)}
    server.reply(Reply(path="/f", status=403, code="AccessDenied", times=5000))
    failed = sync.run()
    assert failed.code == 3
    assert len(failed.err.splitlines()) == 1
    assert len(gets(server)) < 1000
    assert tree(sync.destination) == {}


def test_archived_object_is_named_and_the_others_come(sync: Sync, server: StrictS3) -> None:
    server.reply(Reply(path="/d1/f04", status=403, code="InvalidObjectState", times=5))
    failed = sync.run()
    assert failed.code == 3
    assert "1 object is archived" in failed.err
    assert failed.err.splitlines()[1:] == ["  s3://data/d1/f04"]
    assert len(tree(sync.destination)) == len(FILES) - 1


def test_listing_denied_is_told_once(sync: Sync, server: StrictS3) -> None:
    server.reply(Reply(path="list-type", status=403, code="AccessDenied", times=5))
    failed = sync.run()
    assert failed.code == 3
    assert "access denied" in failed.err
    assert gets(server) == []


def test_object_gone_since_the_listing_is_exit_4(sync: Sync, server: StrictS3) -> None:
    def remove(method: str, target: str) -> None:
        if "list-type" not in target:
            server.buckets["data"].pop("d1/f01", None)

    server.on_request = remove
    failed = sync.run()
    assert failed.code == 4
    assert "d1/f01: was removed while it was being copied" in failed.err


def test_single_key_becomes_a_file(sync: Sync, server: StrictS3) -> None:
    assert sync.run(source="s3://data/d1/f04").code == 0
    assert tree(sync.destination) == {"f04": FILES["d1/f04"]}


def test_prefix_never_takes_its_longer_neighbour(sync: Sync, server: StrictS3) -> None:
    server.buckets["data"] = {"mnist/a": b"a", "mnist2/b": b"b", "mnist.txt": b"c"}
    assert sync.run(source="s3://data/mnist").code == 0
    assert tree(sync.destination) == {"a": b"a"}


def test_empty_bucket_is_an_empty_tree_and_an_empty_prefix_is_not_found(sync: Sync, server: StrictS3) -> None:
    server.buckets["data"] = {}
    assert sync.run().code == 0
    assert tree(sync.destination) == {}
    assert sync.run(source="s3://data/nothing/").code == 3
