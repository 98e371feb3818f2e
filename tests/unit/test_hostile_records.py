"""Records on the disk as whoever may write to them would have them: each is refused as such, at once, or right.

What is behind a checksum is tried with the right one. csrc's own parsers are fuzzed by tests/c/fuzz_record.c.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import struct
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from entries import in_place, listed
from stager._native import Entries, KeyOrder
from stager.errors import BusyError, HostError
from stager.host.journal import JOURNAL_NAME, Journal, recall_journal
from stager.host.record import JobDirectory, list_jobs
from stager.host.workspace import Workspace
from stager.job.end import find_losses, read_receipt
from stager.manifest import MANIFEST_NAME, Entry, Header
from stager.stages.recall import read_manifest, whole_manifest

SOURCE, BOOT = "s", "b"
KNOWN = [Entry(b"d/%d" % n, n, b"etag", bytes(16), n, n, 0o644, "B") for n in range(4)]
DEEP = 100_000
fuzz = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

scalars = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=20)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


# ---- the manifest


def put_manifest(root: Path, head: bytes, lines: bytes, count: object) -> None:
    body = head + b"\n" + lines
    trailer = {"entries": count, "blake2b": hashlib.blake2b(body, digest_size=16).hexdigest()}
    (root / MANIFEST_NAME).write_bytes(body + json.dumps(trailer).encode() + b"\n")


def header_with(changes: dict[str, Any]) -> bytes:
    return json.dumps({**msgspec.to_builtins(Header(source=SOURCE, boot=BOOT)), **changes}).encode()


def is_no_manifest(state_fd: int) -> bool:
    """Whether both who read it say so, and neither raises anything else."""
    recorded = read_manifest(state_fd)
    whole = whole_manifest(state_fd)
    assert (recorded.header is None) <= (whole is None)
    return whole is None


@fuzz
@given(st.dictionaries(st.sampled_from([*msgspec.to_builtins(Header(source="", boot="")), "more"]), values), values)
def test_header_and_count_of_any_kind_are_read_or_damaged(
    directory: int, tmp_path: Path, changes: dict[str, Any], count: Any
) -> None:
    put_manifest(tmp_path, header_with(changes), b"", count)
    sound = count == 0 and not isinstance(count, bool)
    if not is_no_manifest(directory):
        assert sound


@fuzz
@given(st.binary(max_size=300), st.binary(max_size=300), st.integers(0, 3))
def test_bytes_of_any_kind_are_no_manifest(
    directory: int, tmp_path: Path, head: bytes, lines: bytes, count: int
) -> None:
    put_manifest(tmp_path, head.replace(b"\n", b""), lines, count)
    assert is_no_manifest(directory)
    (tmp_path / MANIFEST_NAME).write_bytes(head)
    assert is_no_manifest(directory)


@pytest.mark.parametrize(
    "head",
    [b"[" * DEEP, b'{"source":' * DEEP, header_with({})[:-1] + b',"more":' + b"[" * DEEP + b"]" * DEEP + b"}",
     header_with({"source": 7}), header_with({"boot": None}), header_with({"stager_manifest": 10**400}),
     b'{"source":"\xff","boot":"b"}', header_with({"source": "\ud800"}), b"\xef\xbb\xbf" + header_with({})],
    ids=["deep", "deep objects", "deep unknown", "number", "none", "huge", "no utf-8", "surrogate", "bom"],
)  # fmt: skip
def test_header_that_is_none_is_damage(directory: int, tmp_path: Path, head: bytes) -> None:
    put_manifest(tmp_path, head, b"", 0)
    assert is_no_manifest(directory)


@pytest.mark.parametrize("count", [-1, 2**31, 2**63 - 1, 2**64, 10**30, 1.5, "7", None, True])
def test_count_that_the_file_has_no_room_for_takes_no_memory(directory: int, tmp_path: Path, count: Any) -> None:
    put_manifest(tmp_path, header_with({}), b"", count)
    tracemalloc.start()
    try:
        assert is_no_manifest(directory)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


# ---- the journal


def put_journal(root: Path, body: bytes, records: bytes = b"", *, length: int | None = None) -> None:
    frame = struct.pack("<II", len(body) if length is None else length, zlib.crc32(body))
    (root / JOURNAL_NAME).write_bytes(frame + body + records)


def read_and_continue(directory: int) -> tuple[int, list[Entry]]:
    """How many records are believed and which; then a run continues the journal or begins another."""
    entries = in_place(*KNOWN)
    order = KeyOrder(entries.table)
    found = Entries(entries.table)
    count = recall_journal(directory, JOURNAL_NAME, found, order, source=SOURCE, trusted_boot=BOOT)
    Journal(directory, JOURNAL_NAME, entries, order, source=SOURCE, boot=BOOT).close()
    return count, listed(found)


def journal_header() -> bytes:
    """The right one, as a run writes it."""
    return msgspec.msgpack.encode(("stager-journal-2", SOURCE, BOOT))


def good_records() -> bytes:
    entries = in_place(*KNOWN)
    return entries.journal(entries.stands())


@fuzz
@given(values, st.binary(max_size=200))
def test_journal_header_of_any_kind_begins_another_journal(
    directory: int, tmp_path: Path, header: Any, records: bytes
) -> None:
    put_journal(tmp_path, json_as_msgpack(header), good_records() + records)
    assert read_and_continue(directory) == (0, [])


def json_as_msgpack(value: Any) -> bytes:
    """MessagePack has no integers beyond 64 bits."""
    try:
        return msgspec.msgpack.encode(value)
    except (OverflowError, UnicodeEncodeError):
        return b"\xc0"


@pytest.mark.parametrize(
    "body",
    [b"\x91" * 60_000, b"\xdd\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff" + b"\xa0" * 100,
     b"\xc6\xff\xff\xff\xff", b"\xc9\xff\xff\xff\xff\x00", b"\x93" + b"\xd9\xff" * 3, b"", b"\xc1",
     b"\x93\xa1\xff\xa1\xff\xa1\xff"],
    ids=["deep", "long array", "long text", "long map", "long bytes", "long extension", "cut texts", "empty", "unused",
         "no utf-8"],
)  # fmt: skip
def test_bomb_in_a_journal_header_takes_neither_time_nor_memory(directory: int, tmp_path: Path, body: bytes) -> None:
    tracemalloc.start()
    try:
        for length in (None, 0, 1, 2**32 - 1):
            put_journal(tmp_path, body, good_records(), length=length)
            assert read_and_continue(directory) == (0, [])
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@fuzz
@given(st.data())
def test_records_are_believed_up_to_the_first_that_was_changed(
    directory: int, tmp_path: Path, data: st.DataObject
) -> None:
    records = bytearray(good_records())
    at = data.draw(st.integers(0, len(records) - 1))
    records[at] ^= data.draw(st.integers(1, 255))
    put_journal(tmp_path, journal_header(), bytes(records))
    count, found = read_and_continue(directory)
    whole = at // (len(records) // len(KNOWN))
    assert (count, found) == (whole, KNOWN[:whole])


# ---- the record and the receipt of a job


@pytest.fixture
def job(tmp_path: Path) -> Iterator[JobDirectory]:
    with JobDirectory.create(str(tmp_path), "7", "train") as job:
        os.makedirs(f"{job.tree}/code")
        yield job


@fuzz
@given(values)
def test_job_record_of_any_kind_is_damaged_and_hides_no_other(job: JobDirectory, tmp_path: Path, value: Any) -> None:
    whole = Path(job.path, "job.json").read_bytes()
    other = tmp_path / "jobs" / "8"
    other.mkdir(exist_ok=True)
    told = json.loads(whole)
    broken = {**told, **value} if isinstance(value, dict) else value
    for content in (json.dumps(value).encode(), json.dumps(broken).encode(), whole[: len(whole) // 2]):
        (other / "job.json").write_bytes(content)
        assert "7" in [record.id for record in list_jobs(str(tmp_path))]


@pytest.mark.parametrize(
    "content",
    [b"[" * DEEP, b'{"more":' + b"[" * DEEP + b"]" * DEEP + b"}", b'{"id":"\xff"}', b"\x00" * 100, b"1e999999", b""],
    ids=["deep", "deep unknown", "no utf-8", "zeros", "huge number", "empty"],
)
def test_job_record_and_receipt_that_are_none_are_host_errors(
    job: JobDirectory, tmp_path: Path, content: bytes
) -> None:
    other = tmp_path / "jobs" / "8"
    other.mkdir()
    (other / "job.json").write_bytes(content)
    with pytest.raises(HostError):
        JobDirectory.open(str(tmp_path), "8")
    assert [record.id for record in list_jobs(str(tmp_path))] == ["7"]
    Path(job.path, "receipt.json").write_bytes(content)
    with pytest.raises(HostError):
        read_receipt(job)
    with pytest.raises(HostError):
        find_losses(job)


@fuzz
@given(values)
def test_receipt_of_any_kind_names_no_losses_or_is_damaged(job: JobDirectory, value: Any) -> None:
    Path(job.path, "receipt.json").write_text(json.dumps({"datasets": value}))
    try:
        assert find_losses(job) == {}
    except HostError as error:
        assert "receipt.json" in str(error)


def test_copies_that_a_receipt_names_are_looked_at(job: JobDirectory) -> None:
    copies = [("copy", "/data/o/n"), ("copy", "/code"), ("bind", "/data/x/y"), ("public", "/public/p")]
    told = {"datasets": [{"how": how, "destination": target, "more": 1} for how, target in copies]}
    Path(job.path, "receipt.json").write_text(json.dumps(told))
    (Path(job.tree) / "data/o/n").mkdir(parents=True)
    (Path(job.tree) / "data/o/n/written").write_bytes(b"by the job")
    assert set(find_losses(job)) == {"/data/o/n"}


@pytest.mark.parametrize(
    "target",
    ["/../../..", "/data/../../x", "relative", "", "/data/o", "/data/o/n\0", "/data/o/n/x", "x/data/o/n", "/etc", 7,
     None],
)  # fmt: skip
def test_receipt_that_names_what_is_no_dataset_is_damaged(job: JobDirectory, target: object) -> None:
    Path(job.path, "receipt.json").write_text(json.dumps({"datasets": [{"how": "copy", "destination": target}]}))
    with pytest.raises(HostError, match=r"receipt\.json"):
        find_losses(job)


# ---- what is told of them


def test_lock_that_holds_more_than_a_number_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / ".stager").mkdir(mode=0o700)
    lock = tmp_path / ".stager" / "lock"
    lock.write_bytes(b"\x1b]0;owned\x07\xff")
    with lock.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(BusyError) as caught:
            Workspace(str(tmp_path), None, read_only=False)
    assert str(caught.value).isprintable()
    assert "process unknown" in str(caught.value)


@pytest.mark.parametrize("part", ["header", "trailer"])
def test_damage_is_told_without_what_a_terminal_acts_on(directory: int, tmp_path: Path, part: str) -> None:
    nasty = "\x1b[2J\u202e"
    put_manifest(tmp_path, header_with({nasty: 1, "source": 1} if part == "header" else {}), b"", 0)
    if part == "trailer":
        whole = (tmp_path / MANIFEST_NAME).read_bytes()
        (tmp_path / MANIFEST_NAME).write_bytes(whole[: whole.rindex(b"{")] + json.dumps({nasty: 1}).encode() + b"\n")
    damage = read_manifest(directory).damage
    assert damage.isprintable(), damage
