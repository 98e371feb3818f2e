"""What counts as a Git LFS pointer: git-lfs itself is the reference, on a table of odd ones."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stager.sources.lfs_pointer import POINTER_BYTES, Pointer, parse_pointer

OID = "4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393"
VERSION = "version https://git-lfs.github.com/spec/v1\n"
ID = f"oid sha256:{OID}\n"
GOOD = f"{VERSION}{ID}size 12345\n"
EXT = f"ext-0-foo sha256:{OID}\n"

ODD = [
    GOOD,
    f"{VERSION}{ID}size 0\n",
    GOOD.rstrip("\n"),
    f"\n\n{GOOD}\n \t\n",
    f"\u3000{GOOD}\u00a0\u0085",
    f"{GOOD}\x1c",
    f"{GOOD}\u200b",
    f"\ufeff{GOOD}",
    f"{GOOD}\0",
    GOOD.replace("\n", "\r\n"),
    GOOD.replace("\n", "\r\r\n"),
    GOOD.replace("\n", "\r"),
    f"{VERSION}{ID}\nsize 1\n",
    GOOD.replace("https://git-lfs.github.com/spec/v1", "https://hawser.github.com/spec/v1"),
    GOOD.replace("https://git-lfs.github.com/spec/v1", "http://git-media.io/v/2"),
    GOOD.replace("https://git-lfs.github.com/spec/v1", "http://git-media.io/v/1"),
    GOOD.replace("spec/v1", "spec/v2"),
    GOOD.replace("https:", "http:"),
    GOOD.replace("spec/v1", "spec/v1 "),
    GOOD.replace("git-lfs", "GIT-LFS"),
    GOOD.replace(OID, OID.upper()),
    GOOD.replace(OID, OID[1:]),
    GOOD.replace(OID, OID + "0"),
    GOOD.replace("sha256:", ""),
    GOOD.replace("sha256", "sha512"),
    *(
        f"{VERSION}{ID}size {size}\n"
        for size in ("-1", "-0", "+1", "0012", "1.5", "1_0", "", "1 ", " 1", "\u0661", "0x1")
    ),
    *(f"{VERSION}{ID}size {size}\n" for size in (2**63 - 1, 2**63, 10**200)),
    f"{VERSION}{ID}size 1\nsize 2\n",
    f"{VERSION}{ID}{ID}size 1\n",
    f"{VERSION}{VERSION}{ID}size 1\n",
    f"{VERSION}size 1\n{ID}",
    f"{ID}{VERSION}size 1\n",
    f"{VERSION}size 1\n",
    f"{VERSION}{ID}",
    VERSION,
    f"{GOOD}zzz a\n",
    f"{VERSION}abc x\n{ID}size 1\n",
    f"{VERSION}{ID}pq x\nsize 1\n",
    GOOD.replace("oid ", "oid  "),
    GOOD.replace("oid ", "oid\t"),
    GOOD.replace("oid ", " oid "),
    GOOD.replace(OID, OID + " "),
    f"{VERSION}{EXT}{ID}size 1\n",
    f"{EXT}{VERSION}{ID}size 1\n",
    f"{VERSION}{ID}{EXT}size 1\n",
    f"{GOOD}{EXT}",
    f"{VERSION}{EXT}{EXT}{ID}size 1\n",
    f"{VERSION}{EXT}{EXT.replace('foo', 'bar')}{ID}size 1\n",
    f"{VERSION}{EXT.replace('0', '1', 1)}{EXT.replace('foo', 'bar')}{ID}size 1\n",
    *(
        f"{VERSION}{key} sha256:{OID}\n{ID}size 1\n"
        for key in ("ext-0", "ext-10-foo", "ext-a-foo", "ext-0-foo!", "ext-0-foo.bar", "ext-0-f\u00e9", "ext-0--")
    ),
    f"{VERSION}ext-0-foo sha256:x\n{ID}size 1\n",
    f"{VERSION}ext-0-foo\n{ID}size 1\n",
    f"{GOOD}{' ' * (1023 - len(GOOD))}",
]


def test_pointers_are_those_that_git_lfs_takes(tmp_path: Path) -> None:
    """`git lfs pointer --check`; one process for each would take seconds, so the odd ones share a few shells."""
    texts = [*(text.encode() for text in ODD), GOOD.encode() + b"\xff", b"\xff" + GOOD.encode()]
    for number, text in enumerate(texts):
        (tmp_path / f"{number:03}").write_bytes(text)
    script = 'for file in *; do git lfs pointer --check --file "$file" >&2; echo "$?"; done'
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    theirs = [status == "0" for status in done.stdout.split()]
    assert len(theirs) == len(texts) and theirs.count(True) > 10
    ours = [parse_pointer(text) is not None for text in texts]
    assert [text for text, one, other in zip(texts, ours, theirs, strict=True) if one != other] == []


def test_pointer_says_oid_size_and_extensions() -> None:
    assert parse_pointer(GOOD.encode()) == Pointer(OID, 12345)
    extended = parse_pointer(f"{VERSION}{EXT}{ID}size 1\n".encode())
    assert extended == Pointer(OID, 1, ("ext-0-foo",))


@pytest.mark.parametrize("data", [b"", GOOD.encode() + b" " * (POINTER_BYTES - len(GOOD))])
def test_empty_and_long_files_are_no_pointers(data: bytes) -> None:
    """Where `pointer --check` says otherwise: the empty file is its own content, 1,024 bytes are too many (spec.md)."""
    assert parse_pointer(data) is None


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=1100))
def test_no_bytes_make_the_parser_raise(data: bytes) -> None:
    for text in (data, GOOD.encode()[: len(data)] + data, data[:40] + GOOD.encode()):
        found = parse_pointer(text)
        assert found is None or (len(found.oid) == 64 and 0 <= found.size < 2**63)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_pointer_is_found_again_and_no_changed_byte_gives_another_object(data: st.DataObject) -> None:
    oid = data.draw(st.binary(min_size=32, max_size=32)).hex()
    size = data.draw(st.integers(0, 2**63 - 1))
    text = f"{VERSION}oid sha256:{oid}\nsize {size}\n".encode()
    assert parse_pointer(text) == Pointer(oid, size)
    at = data.draw(st.integers(0, len(text) - 1))
    changed = bytearray(text)
    changed[at] = data.draw(st.integers(0, 255).filter(lambda byte: byte != text[at]))
    found = parse_pointer(bytes(changed))
    if found is not None:  # a digit of the oid or size, or white space around them, and nothing else
        assert text.index(b"sha256:") <= at
        assert found.oid.encode() in changed
