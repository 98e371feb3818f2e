"""What a Git snapshot is a version of: the commit, and all that makes a table of it. As text in manifests and listings.

``COMMIT?JSON``; of earlier runs also ``COMMIT:SUBDIR``, where nothing but a subdirectory was asked for.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Any, Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from stager.config import GitOptions
from stager.names import from_json, show, to_json
from stager.sources.lfs_choice import Configured, is_chosen
from stager.sources.lfs_rows import LfsLeft, lfs_warnings

__all__ = ["GitVersion", "LfsSeen", "Submodule"]

LfsConfig = tuple[tuple[str, str], ...] | None
"""Of a commit's .lfsconfig what leads to objects; None: not known, and not needed unless some are in the tree."""

_SHOWN: Final = 10
_TEXT: Final = re.compile(r"(?s)(?P<commit>[0-9a-f]{40}|[0-9a-f]{64})(?P<kind>[:?])(?P<rest>.*)")


class Submodule(Struct, frozen=True, kw_only=True):
    """One that is part of the tree, at its pinned commit.

    ``mount``: what stands in front of the keys of its files; ``root``: what stands in front of their paths in it, where
    the snapshot lies in a directory of the submodule. Both are empty, or end with a slash.
    """

    mount: bytes
    commit: str
    url: str
    root: bytes = b""
    lfsconfig: LfsConfig = None


class LfsSeen(Struct, frozen=True, kw_only=True):
    """What there was of Git LFS in a tree: what the user's configuration said of what is wanted, the pointers that
    stay, and what the superproject's .lfsconfig says.
    """

    configured: Configured = Configured()
    excluded: int = 0
    undeclared: int = 0
    lfsconfig: LfsConfig = None


class GitVersion(Struct, frozen=True, kw_only=True):
    """``tree``: the id of the commit's tree, once it is known. ``options``: those that shape a table. ``submodules``:
    what came of them, when they are wanted; ``left_out``: the paths of those that are not; ``lfs``: None where there is
    nothing of it.
    """

    commit: str
    tree: str = ""
    subdir: str = ""
    options: GitOptions = GitOptions()
    submodules: tuple[Submodule, ...] = ()
    left_out: tuple[bytes, ...] = ()
    lfs: LfsSeen | None = None

    @classmethod
    def of(cls, commit: str, subdir: str | None, options: GitOptions) -> GitVersion:
        """What is asked for."""
        paths = tuple(sorted({path.strip("/") for path in options.paths}))
        return cls(commit=commit, subdir=subdir or "", options=replace(options, paths=paths, history=False))

    @classmethod
    def parse(cls, text: str) -> GitVersion | None:
        """Of `text`; None: it is none."""
        found = _TEXT.fullmatch(text)
        if found is None:
            return None
        if found["kind"] == ":":
            return cls(commit=found["commit"], subdir=found["rest"])
        try:
            more = _decoder.decode(found["rest"])
            return cls(
                commit=found["commit"],
                tree=more.tree,
                subdir=os.fsdecode(from_json(more.subdir)),
                options=GitOptions(
                    paths=_texts(more.paths), submodules=more.submodules is not None,
                    lfs=more.lfs, lfs_include=_texts(more.lfs_include), lfs_exclude=_texts(more.lfs_exclude),
                ),
                submodules=tuple(
                    Submodule(
                        mount=from_json(one.mount), root=from_json(one.root), commit=one.commit, url=one.url,
                        lfsconfig=_config_of(one.lfsconfig),
                    )
                    for one in more.submodules or ()
                ),
                left_out=tuple(map(from_json, more.left_out)),
                lfs=_seen_of(more.lfs_seen),
            )  # fmt: skip
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return None

    @property
    def text(self) -> str:
        """For manifests and listings; equal ones are of equal tables."""
        if self.options == GitOptions() and not self.left_out and not self.tree and self.lfs is None:
            return f"{self.commit}:{self.subdir}"
        options = self.options
        more = _More(
            tree=self.tree, subdir=_forms([self.subdir])[0], paths=_forms(options.paths), lfs=options.lfs,
            lfs_include=_forms(options.lfs_include), lfs_exclude=_forms(options.lfs_exclude),
            submodules=tuple(
                _Submodule(
                    mount=to_json(one.mount), root=to_json(one.root), commit=one.commit, url=one.url,
                    lfsconfig=_config_form(one.lfsconfig),
                )
                for one in self.submodules
            ) if options.submodules else None,
            left_out=tuple(map(to_json, self.left_out)),
            lfs_seen=_seen_form(self.lfs),
        )  # fmt: skip
        return f"{self.commit}?{msgspec.json.encode(more).decode()}"

    def is_of(self, asked: GitVersion) -> bool:
        """Whether it is what came of this."""
        return replace(self, tree="", submodules=(), left_out=(), lfs=None) == asked

    def warnings(self) -> tuple[str, ...]:
        """What the user should know."""
        of_lfs = lfs_warnings(self.lfs_left, by_option=is_chosen(self.options))
        if not self.left_out:
            return of_lfs
        shown = ", ".join(map(show, self.left_out[:_SHOWN]))
        more = f" and {len(self.left_out) - _SHOWN} more" if len(self.left_out) > _SHOWN else ""
        hint = "" if self.options.submodules else "; --submodules brings them"
        return (f"submodules are left out: {shown}{more}{hint}", *of_lfs)

    @property
    def lfs_left(self) -> LfsLeft:
        """Pointers that stay."""
        return LfsLeft() if self.lfs is None else LfsLeft(excluded=self.lfs.excluded, undeclared=self.lfs.undeclared)

    def pinned(self) -> dict[str, Any]:
        """For receipts: the tree, submodules with their commits, and those that were left out."""
        told: dict[str, Any] = {}
        if self.tree:
            told["tree"] = self.tree
        if self.options.paths:
            told["paths"] = _forms(self.options.paths)
        if self.submodules:
            told["submodules"] = [
                {"path": to_json(one.mount.removesuffix(b"/")), "commit": one.commit, "url": one.url}
                for one in self.submodules
            ]
        if self.left_out:
            told["submodules_left_out"] = [to_json(path) for path in self.left_out]
        return told


Path = str | dict[str, str]
_Config = tuple[tuple[Path, Path], ...] | None


class _Submodule(Struct, frozen=True, kw_only=True, omit_defaults=True):
    mount: Path
    commit: str
    url: str
    root: Path = ""
    lfsconfig: _Config = None


class _Seen(Struct, frozen=True, kw_only=True, omit_defaults=True):
    include: Path | None = None
    exclude: Path | None = None
    excluded: int = 0
    undeclared: int = 0
    lfsconfig: _Config = None


class _More(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The JSON. Its defaults are what is not asked for."""

    tree: str = ""
    subdir: Path = ""
    paths: tuple[Path, ...] = ()
    lfs: bool = True
    lfs_include: tuple[Path, ...] = ()
    lfs_exclude: tuple[Path, ...] = ()
    submodules: tuple[_Submodule, ...] | None = None
    left_out: tuple[Path, ...] = ()
    lfs_seen: _Seen | None = None


_decoder: Final = msgspec.json.Decoder(_More)


def _form(text: str) -> Path:
    return to_json(os.fsencode(text))


def _text(form: Path) -> str:
    return os.fsdecode(from_json(form))


def _forms(texts: Iterable[str]) -> tuple[Path, ...]:
    return tuple(map(_form, texts))


def _texts(forms: Iterable[Path]) -> tuple[str, ...]:
    return tuple(map(_text, forms))


def _config_form(config: LfsConfig) -> _Config:
    return None if config is None else tuple((_form(name), _form(value)) for name, value in config)


def _config_of(form: _Config) -> LfsConfig:
    return None if form is None else tuple((_text(name), _text(value)) for name, value in form)


def _seen_form(seen: LfsSeen | None) -> _Seen | None:
    if seen is None:
        return None
    configured = seen.configured
    include, exclude = (None if text is None else _form(text) for text in (configured.include, configured.exclude))
    return _Seen(
        include=include, exclude=exclude, excluded=seen.excluded, undeclared=seen.undeclared,
        lfsconfig=_config_form(seen.lfsconfig),
    )  # fmt: skip


def _seen_of(form: _Seen | None) -> LfsSeen | None:
    if form is None:
        return None
    include, exclude = (None if text is None else _text(text) for text in (form.include, form.exclude))
    return LfsSeen(
        configured=Configured(include, exclude), excluded=form.excluded, undeclared=form.undeclared,
        lfsconfig=_config_of(form.lfsconfig),
    )  # fmt: skip
