"""The batch API of Git LFS: what is asked, what an answer is worth, and which errors there are."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from servers.lfs_fixture import MEDIA_TYPE, LfsFixture, Reply, Request, lfs_fixture
from stager.errors import (
    AccessDeniedError,
    IntegrityError,
    NoObjectsError,
    NotFoundError,
    SourceError,
    StagerError,
    TransientError,
)
from stager.sources.lfs_pointer import Pointer
from unit.lfs_asking import User, ask, pointer, pointers, repository_of, server


@pytest.fixture
def lfs() -> Iterator[LfsFixture]:
    with lfs_fixture() as running:
        yield running


@pytest.fixture
def user(tmp_path: Path) -> User:
    return User(tmp_path / "user")


def changed(lfs: LfsFixture, change: Callable[[dict[str, Any]], None]) -> None:
    """Let the server answer as it would, with ``change`` made to the JSON."""

    def answer(request: Request) -> Reply:
        reply = lfs.respond(request)
        value = json.loads(reply.body)
        change(value)
        return lfs.reply(value, status=reply.status)

    lfs.answer = answer


def test_request_is_as_the_api_says(lfs: LfsFixture, user: User) -> None:
    """api/batch.md, "Requests"."""
    one, two = pointers(lfs, [b"one", b"second"])
    found = ask(repository_of(lfs), [one, two, one], user, ref="refs/heads/main")
    assert {oid: action.href for oid, action in found.items()} == {
        of.oid: f"{lfs.url}/data/{of.oid}" for of in (one, two)
    }
    assert all(action.expires_at_s == math.inf and action.headers == () for action in found.values())
    (request,) = lfs.requests
    assert request.path == "/repository.git/info/lfs/objects/batch"
    assert request.headers["accept"] == request.headers["content-type"] == MEDIA_TYPE
    assert request.json == {
        "operation": "download",
        "transfers": ["basic"],
        "ref": {"name": "refs/heads/main"},
        "objects": [{"oid": of.oid, "size": of.size} for of in (one, two)],
        "hash_algo": "sha256",
    }


def test_nothing_wanted_asks_nothing(lfs: LfsFixture, user: User) -> None:
    assert ask(repository_of(lfs), [], user) == {}
    assert lfs.requests == []


def test_many_objects_are_asked_for_in_batches_of_a_hundred(lfs: LfsFixture, user: User) -> None:
    wanted = pointers(lfs, [b"%d" % number for number in range(1050)])
    assert ask(repository_of(lfs), wanted, user).keys() == {of.oid for of in wanted}
    asked = [[one["oid"] for one in request.json["objects"]] for request in lfs.batches]
    assert sorted(len(oids) for oids in asked) == [50] + [100] * 10
    assert sorted(oid for oids in asked for oid in oids) == sorted(of.oid for of in wanted)


def test_server_that_wants_fewer_at_once_gets_fewer(lfs: LfsFixture, user: User) -> None:
    wanted = pointers(lfs, [b"%d" % number for number in range(90)])
    lfs.most = 1
    assert len(ask(repository_of(lfs), wanted, user)) == 90
    lfs.most = 0
    with pytest.raises(SourceError, match=r"413.*too many objects"):
        ask(repository_of(lfs), wanted, user)


def test_every_object_that_is_not_there_is_named_at_once(lfs: LfsFixture, user: User) -> None:
    wanted = pointers(lfs, [b"%d" % number for number in range(250)])
    lost = [pointer(b"lost %d" % number) for number in range(150)]
    codes = {of.oid: (404, 409, 410, 422, 507)[number % 5] for number, of in enumerate(lost)}

    def change(value: dict[str, Any]) -> None:
        for entry in value["objects"]:
            if "error" in entry:
                entry["error"] = {"code": codes[entry["oid"]], "message": "gone \x1b[31m token=hunter2"}

    changed(lfs, change)
    mixed = [of for pair in zip(lost, wanted, strict=False) for of in pair] + wanted[150:]
    names = {lost[0].oid: "data/first.bin"}
    with pytest.raises(NoObjectsError) as caught:
        ask(repository_of(lfs), mixed, user, names=names)
    assert len(caught.value.problems) == 150
    text = str(caught.value)
    assert all(of.oid in text for of in lost) and "data/first.bin" in text and "150 objects" in text
    assert "does not exist there (404" in text and "was removed there (410" in text
    assert "hunter2" not in text and "\x1b" not in text


def test_answer_that_is_404_as_a_whole_names_the_objects_and_asks_no_further(lfs: LfsFixture, user: User) -> None:
    """As giftless answers when it has none of them, and as any server without the repository (api/batch.md)."""
    wanted = [pointer(b"lost %d" % number) for number in range(250)]
    lfs.answer = lambda _: lfs.reply({"message": "Not found"}, status=404)
    with pytest.raises(NoObjectsError, match=r"check lfs\.url") as caught:
        ask(repository_of(lfs), wanted, user)
    assert wanted[0].oid in str(caught.value) and "and 150 more" in str(caught.value)
    assert len(lfs.requests) == 1


def test_pointers_that_lead_to_no_file_are_named_before_anything_is_asked(lfs: LfsFixture, user: User) -> None:
    good = pointer(b"x")
    wanted = [good, Pointer(good.oid, 2), Pointer("a" * 64, 3, ("ext-0-foo",)), Pointer("b" * 64, 2**60)]
    with pytest.raises(NoObjectsError, match="ext-0-foo") as caught:
        ask(repository_of(lfs), wanted, user, names={good.oid: "a/x"})
    assert [problem.partition(":")[0] for problem in caught.value.problems] == ["a/x", "a" * 64, "b" * 64]
    assert lfs.requests == []


def test_headers_and_expiry_of_a_link_come_with_it(lfs: LfsFixture, user: User) -> None:
    lfs.action_headers = {"Authorization": "RemoteAuth x", "Transfer-Encoding": "chunked", "Range": "bytes=0-0"}
    lfs.expires_in = 60
    before = time.time()
    (action,) = ask(repository_of(lfs), pointers(lfs, [b"x"]), user).values()
    assert action.headers == (("Authorization", "RemoteAuth x"),)
    assert before + 60 <= action.expires_at_s <= time.time() + 60


def test_time_of_expiry_is_read_by_the_servers_clock(lfs: LfsFixture, user: User) -> None:
    """Its Date says how far it is ahead: here an hour, and the link lives for ten minutes of it."""
    ahead = time.time() + 3600

    def answer(request: Request) -> Reply:
        value = json.loads(lfs.respond(request).body)
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ahead + 600))
        value["objects"][0]["actions"]["download"]["expires_at"] = at
        return lfs.reply(value, headers=[("Date", formatdate(ahead, usegmt=True))])

    lfs.answer = answer
    (action,) = ask(repository_of(lfs), pointers(lfs, [b"x"]), user).values()
    assert abs(action.expires_at_s - (time.time() + 600)) < 10


def test_links_that_have_expired_are_asked_for_again_and_given_up(lfs: LfsFixture, user: User) -> None:
    (wanted,) = pointers(lfs, [b"x"])
    lives = iter((-5, 60))

    def change(value: dict[str, Any]) -> None:
        value["objects"][0]["actions"]["download"]["expires_in"] = next(lives, -5)

    changed(lfs, change)
    assert ask(repository_of(lfs), [wanted], user)[wanted.oid].expires_at_s > time.time()
    with pytest.raises(TransientError, match=r"already expired.*clock"):
        ask(repository_of(lfs), [wanted], user)
    assert len(lfs.requests) == 2 + 3


def test_busy_server_is_asked_again_when_it_says(lfs: LfsFixture, user: User) -> None:
    (wanted,) = pointers(lfs, [b"x"])
    replies = iter([
        lfs.reply({"message": "slow"}, status=429, headers=[("Retry-After", "1")]), Reply(status=503, body=b"<html>"),
    ])  # fmt: skip
    lfs.answer = lambda _: next(replies, None)
    before = time.monotonic()
    assert wanted.oid in ask(repository_of(lfs), [wanted], user)
    assert time.monotonic() - before >= 1.0
    assert len(lfs.requests) == 3
    lfs.answer = lambda _: lfs.reply({"message": "slow"}, status=502)
    with pytest.raises(TransientError, match=r"502: slow"):
        ask(repository_of(lfs), [wanted], user)
    assert len(lfs.requests) == 6


def test_objects_that_failed_for_now_are_asked_for_again_by_themselves(lfs: LfsFixture, user: User) -> None:
    one, two = pointers(lfs, [b"one", b"two"])
    failing = iter([True])

    def change(value: dict[str, Any]) -> None:
        if next(failing, False):
            value["objects"][1] = {"oid": two.oid, "size": two.size, "error": {"code": 503, "message": "busy"}}

    changed(lfs, change)
    assert ask(repository_of(lfs), [one, two], user).keys() == {one.oid, two.oid}
    assert [len(request.json["objects"]) for request in lfs.requests] == [2, 1]


STATUSES = [
    (403, AccessDeniedError, "denies access"), (404, NotFoundError, "no LFS server"),
    (410, NotFoundError, "no LFS server"), (406, SourceError, "refuses"),
    (422, SourceError, "refuses"), (501, SourceError, "no batch API"),
    (507, SourceError, "refuses"), (509, SourceError, "bandwidth"), (204, SourceError, "refuses"),
    (418, SourceError, "refuses"),
]  # fmt: skip


@pytest.mark.parametrize(("status", "kind", "words"), STATUSES)
def test_status_becomes_an_error_at_once(
    status: int, kind: type[StagerError], words: str, lfs: LfsFixture, user: User
) -> None:
    lfs.answer = lambda _: Reply(status=status, headers=[("Content-Type", "text/html")])
    with pytest.raises(kind, match=f"{words}.*{status}"):
        ask(repository_of(lfs), [pointer(b"x")], user)
    assert len(lfs.requests) == 1


def of_first(**fields: object) -> Callable[[dict[str, Any]], None]:
    return lambda value: value["objects"][0].update(fields)


LIES: list[tuple[Callable[[dict[str, Any]], Any], type[StagerError], str]] = [
    (of_first(oid="f" * 64), IntegrityError, "not asked for"),
    (of_first(size=4), IntegrityError, "another size"),
    (lambda value: value["objects"].append(value["objects"][0]), IntegrityError, "twice"),
    (lambda value: value["objects"].append({"oid": "f" * 64, "size": 1}), IntegrityError, "not asked for"),
    (lambda value: value["objects"].clear(), IntegrityError, "answered nothing"),
    (lambda value: value.update(transfer="tus"), SourceError, "transfer tus"),
    (lambda value: value.update(hash_algo="md5"), SourceError, "by md5"),
    (lambda value: value.pop("objects"), SourceError, "no answer to a batch"),
    (of_first(size="3"), SourceError, "no answer to a batch"),
    (of_first(size=-3), IntegrityError, "another size"),
    (of_first(oid=3), SourceError, "no answer to a batch"),
    (of_first(actions={"download": {"href": 3}}), SourceError, "no answer to a batch"),
    (of_first(actions={"download": {"href": "https://h/", "header": {"A": 3}}}), SourceError, "no answer to a batch"),
    (of_first(actions={}), NoObjectsError, "no download is offered"),
    (of_first(actions=None), NoObjectsError, "no download is offered"),
    (of_first(error={"code": 403, "message": "no"}), AccessDeniedError, "denies access"),
]


@pytest.mark.parametrize(("change", "kind", "words"), LIES)
def test_answer_that_is_not_to_what_was_asked_is_refused(
    change: Callable[[dict[str, Any]], Any], kind: type[StagerError], words: str, lfs: LfsFixture, user: User
) -> None:
    changed(lfs, change)
    with pytest.raises(kind, match=words):
        ask(repository_of(lfs), pointers(lfs, [b"abc"]), user)
    assert len(lfs.requests) == 1


def test_sizes_that_are_swapped_between_objects_are_refused(lfs: LfsFixture, user: User) -> None:
    wanted = pointers(lfs, [b"one", b"second"])

    def change(value: dict[str, Any]) -> None:
        first, second = value["objects"]
        first["oid"], second["oid"] = second["oid"], first["oid"]

    changed(lfs, change)
    with pytest.raises(IntegrityError, match="another size"):
        ask(repository_of(lfs), wanted, user)


def test_nulls_unknown_fields_and_plain_json_are_taken(lfs: LfsFixture, user: User) -> None:
    (wanted,) = pointers(lfs, [b"x"])

    def answer(_: Request) -> Reply:
        link = {"href": f"{lfs.url}/x", "header": None, "expires_in": None, "expires_at": None, "more": [1]}
        entry = {"oid": wanted.oid, "authenticated": None, "error": None, "actions": {"download": link, "verify": {}}}
        value = {"transfer": None, "objects": [entry], "hash_algo": None, "x": {"y": []}}
        headers = [("Content-Type", "Application/JSON; charset=utf-8")]
        return Reply(headers=headers, body=json.dumps(value).encode())

    lfs.answer = answer
    assert ask(repository_of(lfs), [wanted], user)[wanted.oid].href == f"{lfs.url}/x"


def test_objects_of_a_repository_of_this_host_are_its_files(tmp_path: Path, user: User) -> None:
    """git-lfs-standalone-file(1), as `git lfs` does for file URLs."""
    contents = [b"one", b"second"]
    for git_dir in (tmp_path / "bare.git", tmp_path / "work" / ".git"):
        (git_dir / "objects").mkdir(parents=True)
        (git_dir / "HEAD").write_text("ref: refs/heads/main\n")
        for content in contents:
            oid = pointer(content).oid
            path = git_dir / "lfs" / "objects" / oid[:2] / oid[2:4] / oid
            path.parent.mkdir(parents=True)
            path.write_bytes(content)
        shown = git_dir.parent if git_dir.name == ".git" else git_dir
        found = ask(f"file://{shown}", [pointer(content) for content in contents], user)
        assert [Path(action.href.removeprefix("file://")).read_bytes() for action in found.values()] == contents
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / ".git").write_text(f"gitdir: {tmp_path}/bare.git\n")
    assert len(ask(f"file://{tmp_path}/linked", [pointer(b"one")], user)) == 1
    lying = Path(found[pointer(b"one").oid].href.removeprefix("file://"))
    lying.write_bytes(b"longer")
    with pytest.raises(NoObjectsError, match="has 6 bytes there, not 3") as caught:
        ask(f"file://{tmp_path}/work", [pointer(b"one"), pointer(b"lost")], user)
    assert len(caught.value.problems) == 2
    lying.unlink()
    lying.mkdir()
    with pytest.raises(NoObjectsError, match="is no file"):
        ask(f"file://{tmp_path}/work", [pointer(b"one")], user)
    with pytest.raises(NotFoundError, match="no repository"):
        ask(f"file://{tmp_path}/elsewhere", [pointer(b"one")], user)


def test_actions_may_be_asked_for_again_and_at_once(lfs: LfsFixture, user: User) -> None:
    wanted = pointers(lfs, [b"%d" % number for number in range(30)])

    async def run() -> None:
        async with server(repository_of(lfs), user) as asked:
            found = await asyncio.gather(*(asked.actions(wanted[at : at + 10]) for at in range(0, 30, 5)))
            assert {oid for one in found for oid in one} == {of.oid for of in wanted}

    asyncio.run(run())
