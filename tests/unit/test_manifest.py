"""A manifest comes back as it was written, or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from entries import decode, encode, in_place, listed
from stager._native import Entries, KeyOrder, KeyTable, Recall
from stager.manifest import DamagedManifestError, Entry, Header
from stager.names import compile_names, to_json

HEADER = Header(source="s3", boot="b")
ENTRY = Entry(b"a/b", 3, b"etag", bytes(16), 1, 2, 0o644, "B")
names = st.lists(
    st.binary(min_size=1, max_size=9).filter(lambda s: not set(s) & {0, 47} and s[:1] != b"."), min_size=1, max_size=3
).map(b"/".join)
entries = st.builds(
    Entry,
    names,
    st.integers(0, 2**58),
    st.binary(max_size=20),
    st.binary(min_size=16, max_size=16),
    st.integers(-(2**62), 2**62),
    st.integers(-(2**62), 2**62),
    st.sampled_from([0o644, 0o755, 0o120777]),
    st.sampled_from("ABC"),
)


def text(*found: Entry, header: Header = HEADER) -> bytes:
    return encode(header, found)


@settings(max_examples=60, deadline=None)
@given(st.lists(entries, max_size=8, unique_by=lambda entry: entry.path))
def test_manifest_comes_back_as_written(found: list[Entry]) -> None:
    assume(not compile_names(in_place(*found).table).bad)
    assert decode(text(*found)) == (HEADER, {entry.path: entry for entry in found})


def test_many_entries_come_back_in_order() -> None:
    found = [Entry(b"f%d" % n, n, b"e", bytes(16), n, n, 0o644, "B") for n in range(10_000)]
    assert list(decode(text(*found))[1].values()) == found


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_torn_or_changed_manifest_is_damaged(data: st.DataObject) -> None:
    whole = text(ENTRY, Entry(b"c", 1, b"x", bytes(16), 0, 0, 0o644, "A"))
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(DamagedManifestError):
        decode(whole[:cut])
    changed = bytearray(whole)
    changed[cut] ^= data.draw(st.integers(1, 255))
    with pytest.raises(DamagedManifestError):
        decode(bytes(changed))


def signed(lines: list[bytes], count: int) -> bytes:
    body = b"".join(line + b"\n" for line in lines)
    checksum = hashlib.blake2b(body, digest_size=16).hexdigest()
    return body + msgspec.json.encode({"entries": count, "blake2b": checksum}) + b"\n"


@pytest.mark.parametrize(
    "line",
    [
        b'["../x",1,"e","00000000000000000000000000000000",0,0,420,"B"]',
        b'["/x",1,"e","00000000000000000000000000000000",0,0,420,"B"]',
        b'[".stager/x",1,"e","00000000000000000000000000000000",0,0,420,"B"]',
        b'["x",-1,"e","00000000000000000000000000000000",0,0,420,"B"]',
        b'["x",1,"e","00",0,0,420,"B"]',
        b'["x",1,"e","00000000000000000000000000000000",0,0,99999999,"B"]',
        b'["x",1,"e","00000000000000000000000000000000",0,0,420,"Z"]',
        b'["x",1]',
        b'{"a":1}',
        b"[" * 5000,
        b'["' + b"x" * 70_000 + b'",1,"e","00000000000000000000000000000000",0,0,420,"B"]',
    ],
    ids=range(11),
)
def test_hostile_entry_with_a_right_checksum_is_damaged(line: bytes) -> None:
    with pytest.raises(DamagedManifestError):
        decode(signed([msgspec.json.encode(HEADER), line], 1))


@pytest.mark.parametrize(
    "change",
    [
        lambda h: msgspec.structs.replace(h, stager_manifest=2),
        lambda h: msgspec.structs.replace(h, block_bytes=1 << 20),
        lambda h: msgspec.structs.replace(h, digest="md5"),
    ],
)
def test_manifest_of_another_version_is_damaged(change: Callable[[Header], Header]) -> None:
    with pytest.raises(DamagedManifestError):
        decode(text(ENTRY, header=change(HEADER)))


def test_wrong_count_or_repeated_entry_is_damaged() -> None:
    lines = text(ENTRY).split(b"\n")[:2]
    with pytest.raises(DamagedManifestError):
        decode(signed(lines, 2))
    with pytest.raises(DamagedManifestError):
        decode(signed([*lines, lines[1]], 2))


def test_grades_are_summed() -> None:
    other = [Entry(b"c", 1, b"x", bytes(16), 0, 0, 0, "A"), Entry(b"d", 1, b"x", bytes(16), 0, 0, 0, "B")]
    assert in_place(ENTRY, *other).grades() == {"A": 1, "B": 2}


@settings(max_examples=100, deadline=None)
@given(entries)
def test_entry_is_the_json_line_that_msgspec_writes(entry: Entry) -> None:
    row = (to_json(entry.path), entry.size, entry.identity.decode("latin-1"), entry.digest.hex(),
           entry.mtime_ns, entry.ctime_ns, entry.mode, entry.grade)  # fmt: skip
    assert text(entry).split(b"\n")[1] == msgspec.json.encode(row)


def recalled(known: Entries, data: bytes) -> list[Entry]:
    """What the entries of another table say after a manifest's lines were read against it."""
    recall = Recall(known, KeyOrder(known.table), trusted=True)
    recall.lines(b"".join(data.splitlines(keepends=True)[1:-1]))
    return listed(known)


@pytest.mark.parametrize("order", [1, -1])
def test_manifest_is_recalled_row_by_row_whatever_the_order_of_the_table(order: int) -> None:
    found = [Entry(b"d/%03d" % n, n, b"e%d" % n, bytes([n]) * 16, n, n, 0o644, "B") for n in range(100)]
    table = KeyTable()
    rows = found[10:90][::order]
    for entry in rows:
        table.append(entry.path, entry.size, entry.identity)
    assert recalled(Entries(table), text(*found)) == rows


def test_entry_of_another_size_or_identity_is_not_recalled() -> None:
    found = [Entry(name, 3, b"e", bytes(16), 1, 2, 0o644, "B") for name in (b"a", b"b", b"c")]
    table = KeyTable()
    for entry, size, identity in zip(found, (3, 4, 3), (b"e", b"e", b"other"), strict=True):
        table.append(entry.path, size, identity)
    assert recalled(Entries(table), text(*found)) == found[:1]


def test_manifest_with_more_entries_than_its_trailer_says_takes_no_more_memory() -> None:
    lines = text(ENTRY, Entry(b"c", 1, b"x", bytes(16), 0, 0, 0, "A")).split(b"\n")[:3]
    with pytest.raises(DamagedManifestError):
        decode(signed(lines, 1))
    with pytest.raises(DamagedManifestError):
        decode(signed(lines, 2**40))


def test_manifest_of_a_file_and_a_directory_of_one_name_is_damaged() -> None:
    with pytest.raises(DamagedManifestError):
        decode(text(ENTRY, Entry(b"a", 1, b"x", bytes(16), 0, 0, 0, "A")))
