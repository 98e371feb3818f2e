"""A ``.git`` directory as git-clone(1) makes it, written file by file: no hooks, nothing of a template.

It bears a mark of ours, ``stager.json``, which comes and goes with it: what it was made of, and by what it is known
that nobody has worked in it since (`stager.host.git_look`).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
from msgspec import Struct

from stager.errors import from_os_error
from stager.host.git_index import index_summary
from stager.host.git_refs import REMOTE_REFS, format_of, packed_refs
from stager.host.workspace import STATE_NAME

__all__ = ["MARK_NAME", "Layout", "Mark", "file_digest", "make_directory", "refs_digest", "write_directory"]

MARK_NAME: Final = "stager.json"
_SCHEMA: Final = 1
_HEADS: Final = "refs/heads/"
_EXCLUDE: Final = f"/{STATE_NAME}/\n".encode()


class Layout(Struct, frozen=True, kw_only=True):
    """``ref``: the name that led to the commit, None where a commit was asked for; ``refs``: ids and names, branches as
    those of the remote "origin"; ``default``: the branch that the remote's HEAD is; ``lfs``: the tree has objects of
    Git LFS; ``folds``: the file system takes several names for one.
    """

    url: str
    commit: str
    ref: str | None
    refs: Sequence[tuple[str, bytes]]
    default: str | None = None
    lfs: bool = False
    folds: bool = False

    @property
    def branch(self) -> str | None:
        """The branch that HEAD is, in full; None: it is the commit itself."""
        return self.ref if self.ref is not None and self.ref.startswith(_HEADS) else None

    @property
    def head(self) -> str:
        """The text of HEAD."""
        return f"ref: {self.branch}\n" if self.branch else f"{self.commit}\n"


class Mark(Struct, frozen=True, kw_only=True):
    """``head``: the text of HEAD; ``refs``: how many there are; the rest are digests: of ``config`` and
    ``info/exclude``, of the tags, and of what is staged in the index.
    """

    schema: int = _SCHEMA
    url: str
    commit: str
    head: str
    refs: int
    config: str
    exclude: str
    tags: str
    index: str

    def is_of(self, url: str, commit: str) -> bool:
        """Whether it was made of this commit of this repository."""
        return (self.schema, self.url, self.commit) == (_SCHEMA, url, commit)


def make_directory(path: str) -> str:
    """Its directories, where packs go among them: that one's path. Blocks. Raises `NoSpaceError`, `HostError`."""
    packs = os.path.join(path, "objects", "pack")
    try:
        for below in ("objects/pack", "refs/heads", "refs/tags", "info"):
            os.makedirs(os.path.join(path, below))
    except OSError as error:
        raise from_os_error(error, doing="make the directory", where=path) from error
    return packs


def write_directory(path: str, layout: Layout, index: bytes) -> None:
    """All but the packs and the index. Blocks. Raises `NoSpaceError`, `HostError`."""
    branch = [(layout.commit, layout.branch.encode())] if layout.branch else []
    config = _config(layout)
    mark = Mark(
        url=layout.url, commit=layout.commit, head=layout.head, refs=len(layout.refs), config=file_digest(config),
        exclude=file_digest(_EXCLUDE), tags=refs_digest(layout.refs),
        index=index_summary(index, len(layout.commit) // 2),
    )  # fmt: skip
    files = {
        "HEAD": layout.head.encode(),
        "config": config,
        "packed-refs": packed_refs([*branch, *layout.refs]),
        "info/exclude": _EXCLUDE,
        MARK_NAME: msgspec.json.encode(mark),
    }
    remote_head = REMOTE_REFS + b"HEAD"
    if layout.default and layout.default.startswith(_HEADS) and all(name != remote_head for _, name in layout.refs):
        target = REMOTE_REFS + layout.default.removeprefix(_HEADS).encode()
        if any(name == target for _, name in layout.refs):
            files[remote_head.decode()] = b"ref: %b\n" % target
    try:
        for name, content in files.items():
            where = os.path.join(path, name)
            os.makedirs(os.path.dirname(where), exist_ok=True)
            with open(where, "xb") as file:
                file.write(content)
    except OSError as error:
        raise from_os_error(error, doing="write the directory", where=path) from error


def file_digest(content: bytes) -> str:
    """Of a small file."""
    return hashlib.sha256(content).hexdigest()


def refs_digest(refs: Iterable[tuple[str, bytes]]) -> str:
    """Of the tags among these."""
    return file_digest(packed_refs(one for one in refs if one[1].startswith(b"refs/tags/")))


def _config(layout: Layout) -> bytes:
    """git-config(1), "Syntax"; what git-clone(1) and, where there are LFS objects, git-lfs put into it."""
    is_sha1 = format_of(layout.commit) == "sha1"
    lines = [
        "[core]", f"\trepositoryformatversion = {0 if is_sha1 else 1}", "\tfilemode = true", "\tbare = false",
        "\tlogallrefupdates = true",
    ]  # fmt: skip
    if layout.folds:
        lines.append("\tignorecase = true")
    if not is_sha1:
        lines += ["[extensions]", "\tobjectformat = sha256"]
    lines += ['[remote "origin"]', f"\turl = {_quoted(layout.url)}"]
    lines.append(f"\tfetch = +{_HEADS}*:{REMOTE_REFS.decode()}*")
    if layout.branch:
        name = layout.branch.removeprefix(_HEADS)
        lines += [f"[branch {_quoted(name)}]", "\tremote = origin", f"\tmerge = {_quoted(layout.branch)}"]
    if layout.lfs:
        lines += ["[lfs]", "\trepositoryformatversion = 0"]
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
