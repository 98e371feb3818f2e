"""Names of refs as git allows them, and refs as files keep them: packed, and one in a file of its own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

__all__ = ["REMOTE_REFS", "format_of", "is_ref_name", "packed_refs", "parse_packed"]

REMOTE_REFS: Final = b"refs/remotes/origin/"
"""Where the remote's branches are, as git-clone(1) has it."""

_FORBIDDEN: Final = re.compile(rb"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/\.|\.lock(?:/|\Z)|[/.]\Z")
_SHA1_DIGITS: Final = 40
_PACKED: Final = re.compile(rb"([0-9a-f]{40}|[0-9a-f]{64}) (refs/[^\n]+)")


def format_of(identity: str) -> str:
    """The object format that ids of this length are of (git-init(1))."""
    return "sha1" if len(identity) == _SHA1_DIGITS else "sha256"


def is_ref_name(name: bytes) -> bool:
    """Whether a full name ("refs/heads/main") may be one: git-check-ref-format(1)."""
    return name.startswith(b"refs/") and not _FORBIDDEN.search(name)


def packed_refs(refs: Iterable[tuple[str, bytes]]) -> bytes:
    """The file of these (id, name): gitrepository-layout(5). What tags point to, git finds out when it is asked."""
    rows = sorted((name, identity) for identity, name in refs)
    return b"# pack-refs with: sorted \n" + b"".join(b"%b %b\n" % (identity.encode(), name) for name, identity in rows)


def parse_packed(text: bytes) -> Mapping[bytes, bytes]:
    """Names to ids of such a file. ValueError: it is none."""
    found: dict[bytes, bytes] = {}
    for line in text.split(b"\n"):
        if not line or line.startswith((b"#", b"^")):
            continue
        row = _PACKED.fullmatch(line)
        if row is None:
            raise ValueError("a line that is no ref")
        found[row[2]] = row[1]
    return found
