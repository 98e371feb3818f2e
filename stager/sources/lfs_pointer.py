"""Git LFS pointers: the small text that stands in a commit for an object kept elsewhere.

The form is that of the Git LFS specification (docs/spec.md, "The Pointer"): under 1,024 bytes, lines of key, one blank
and value, the version first, the others in order. What counts as one is what `git lfs pointer --check` (3.3) takes,
which is a little more than the specification: blank lines, white space around the text, CR before LF, and two older
names of the version. A text that it does not take is a file like any other, for git-lfs too.
"""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct

__all__ = ["POINTER_BYTES", "Pointer", "parse_pointer"]

POINTER_BYTES: Final = 1024
"""A pointer is shorter than this (docs/spec.md)."""

_VERSIONS: Final = frozenset(
    ("https://git-lfs.github.com/spec/v1", "https://hawser.github.com/spec/v1", "http://git-media.io/v/2")
)
_KEYS: Final = ("version", "oid", "size")
_OID: Final = re.compile(r"sha256:([0-9a-f]{64})")
_SIZE: Final = re.compile(r"[+-]?[0-9]+")
_MOST_BYTES: Final = 2**63 - 1
_EXTENSION: Final = re.compile(r"ext-(?P<order>[0-9])-[0-9A-Za-z_]")
_BLANKS: Final = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
"""Unicode's White_Space."""


class Pointer(Struct, frozen=True):
    """An object's SHA-256 in hex, and how many bytes it has.

    ``extensions`` name the programs that would have to turn the object into the file (docs/extensions.md); it is not
    the file's content when there are any, and stager runs none.
    """

    oid: str
    size: int  # 0 .. 2**63 - 1
    extensions: tuple[str, ...] = ()


def parse_pointer(data: bytes) -> Pointer | None:
    """The pointer that a file's whole content is; None when it is none, the empty file among them."""
    if len(data) >= POINTER_BYTES or b"version " not in data:
        return None
    values: list[str] = []
    extensions: dict[str, str] = {}  # by what stands before the value
    for line in data.decode("utf-8", "surrogateescape").strip(_BLANKS).split("\n"):
        line = line.removesuffix("\r")
        if not line:
            continue
        key, blank, value = line.partition(" ")
        if not blank or len(values) == len(_KEYS):
            return None
        if key == _KEYS[len(values)]:
            values.append(value)
        elif _EXTENSION.match(key) and _OID.fullmatch(value):
            extensions[key] = value
        else:
            return None
    if len(values) != len(_KEYS) or len({key[:5] for key in extensions}) != len(extensions):  # ext-N once for each N
        return None
    version, oid, size = values
    found = _OID.fullmatch(oid)
    if version not in _VERSIONS or found is None or not _SIZE.fullmatch(size) or not 0 <= int(size) <= _MOST_BYTES:
        return None
    return Pointer(found[1], int(size), tuple(sorted(extensions)))
