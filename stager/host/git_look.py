"""What lies where a ``.git`` directory of ours belongs, judged by our own code: git is never run there.

Whoever owns the tree may have put anything in it, so no symlink is followed, nothing but regular files is read, and
all is bounded. What git leaves behind that only looked (an index with newer times, what a fetch brought, packs in
another form) is no change; all else is somebody's work, or could be.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import suppress
from typing import Final, Literal

import msgspec
from msgspec import Struct

from stager.errors import HostError, from_os_error
from stager.host.atomic import read_regular
from stager.host.git_directory import MARK_NAME, Mark, file_digest, refs_digest
from stager.host.git_index import INDEX_MAX_BYTES, index_summary
from stager.host.git_refs import parse_packed
from stager.names import show

__all__ = ["GIT_NAME", "Found", "look_at", "what_changed"]

GIT_NAME: Final = ".git"

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_SMALL_BYTES: Final = 1 << 20
_REFS_BYTES: Final = 64 << 20
_ENTRIES_MAX: Final = 200_000
_DEPTH_MAX: Final = 64
_SHOWN: Final = 3
_HARMLESS: Final = frozenset(
    {"objects", "lfs", "FETCH_HEAD", "COMMIT_EDITMSG", "gc.log", "gc.pid", "description", "branches", MARK_NAME}
)
_JUDGED: Final = frozenset({"HEAD", "config", "packed-refs", "index", "info", "refs", "logs", "hooks", "ORIG_HEAD"})
_DIRECTORIES: Final = frozenset({"objects", "info", "refs", "logs", "lfs", "hooks"})
_LFS_HOOK: Final = r"""#!/bin/sh\ncommand -v git-lfs >/dev/null [^\n]*\ngit lfs {} "\$@"\n?"""
_INFO: Final = frozenset({"exclude", "refs"})
_REMOTES: Final = b"refs/remotes/"
_TAGS: Final = b"refs/tags/"
_NOBODY: Final = re.compile(rb"0+")

_decoder: Final = msgspec.json.Decoder(Mark)


class Found(Struct, frozen=True, kw_only=True):
    """``what``: nothing is there; a directory with our ``mark``; or something else."""

    what: Literal["absent", "ours", "foreign"]
    mark: Mark | None = None


def look_at(directory: int, name: str = GIT_NAME) -> Found:
    """What is there. Blocks. Raises `HostError`."""
    try:
        if not stat.S_ISDIR(os.lstat(name, dir_fd=directory).st_mode):
            return Found(what="foreign")
        fd = os.open(name, _DIRECTORY, dir_fd=directory)
    except FileNotFoundError:
        return Found(what="absent")
    except OSError as error:
        raise from_os_error(error, doing="look at the directory", where=name) from error
    try:
        return Found(what="ours", mark=_decoder.decode(read_regular(MARK_NAME, dir_fd=fd, most=_SMALL_BYTES)))
    except (OSError, HostError, msgspec.MsgspecError, RecursionError, ValueError):
        return Found(what="foreign")
    finally:
        os.close(fd)


def what_changed(
    directory: int, mark: Mark, name: str = GIT_NAME, *, theirs: AbstractSet[tuple[str, bytes]] = frozenset()
) -> list[str]:
    """How it differs from what was made with this mark, for people; empty when nobody has worked in it. ``theirs``: ids
    and names of refs that the remote has now, which a fetch may have brought.

    Blocks. Raises `HostError`.
    """
    try:
        fd = os.open(name, _DIRECTORY, dir_fd=directory)
        try:
            return list(_changes(fd, mark, theirs))
        finally:
            os.close(fd)
    except OSError as error:
        raise from_os_error(error, doing="look at the directory", where=name) from error


def _changes(fd: int, mark: Mark, theirs: AbstractSet[tuple[str, bytes]]) -> Iterator[str]:
    names = os.listdir(fd)
    for name in sorted(names):
        if name not in _HARMLESS | _JUDGED:
            yield f"{show(os.fsencode(name))} is new in it"
        elif name in _DIRECTORIES and not stat.S_ISDIR(os.lstat(name, dir_fd=fd).st_mode):
            yield f"{name} is no directory"
    if _read("HEAD", fd) != mark.head.encode():
        yield "HEAD is at something else"
    if file_digest(_read("config", fd)) != mark.config:
        yield "its config is another"
    yield from _info_changes(fd, mark)
    yield from _hook_changes(fd)
    yield from _ref_changes(fd, mark, theirs)
    yield from _log_changes(fd, mark)
    if "ORIG_HEAD" in names and _read("ORIG_HEAD", fd).strip() != mark.commit.encode():
        yield "ORIG_HEAD names another commit"
    try:
        same = index_summary(_read("index", fd, INDEX_MAX_BYTES), len(mark.commit) // 2) == mark.index
    except ValueError:
        same = False
    if not same:
        yield "something is staged in its index"


def _info_changes(fd: int, mark: Mark) -> Iterator[str]:
    below = _open(fd, "info")
    if below is None:
        return
    try:
        for name in os.listdir(below):
            if name not in _INFO:
                yield f"info/{show(os.fsencode(name))} is new in it"
        if file_digest(_read("exclude", below)) != mark.exclude:
            yield "info/exclude is another"
    finally:
        os.close(below)


def _hook_changes(fd: int) -> Iterator[str]:
    """Those that git-lfs puts there when it is first used are nobody's work."""
    below = _open(fd, "hooks")
    if below is None:
        return
    try:
        for name in os.listdir(below):
            content = _read(name, below).decode("utf-8", "replace")
            if not re.fullmatch(_LFS_HOOK.format(re.escape(name)), content):
                yield f"hooks/{show(os.fsencode(name))} is new in it"
    finally:
        os.close(below)


def _ref_changes(fd: int, mark: Mark, theirs: AbstractSet[tuple[str, bytes]]) -> Iterator[str]:
    refs: dict[bytes, bytes] = {}
    try:
        refs.update(parse_packed(_read("packed-refs", fd, _REFS_BYTES)))
        for name, content in _loose(fd, b"refs"):
            refs[name] = content.strip()
    except ValueError:
        yield "its refs are damaged"
        return
    branch = mark.head.removeprefix("ref: ").strip().encode() if mark.head.startswith("ref: ") else None
    own = {name: value for name, value in refs.items() if not name.startswith((_REMOTES, _TAGS))}
    value = own.pop(branch, b"") if branch is not None else mark.commit.encode()
    if value != mark.commit.encode():
        yield f"{show(branch or b'HEAD')} is at another commit"
    if own:
        more = f" and {len(own) - _SHOWN} more" if len(own) > _SHOWN else ""
        yield f"{', '.join(show(name) for name in sorted(own)[:_SHOWN])}{more} are new in it"
    tags = [(value.decode("latin-1"), name) for name, value in refs.items() if name.startswith(_TAGS)]
    if refs_digest(tags) != mark.tags and not theirs >= frozenset(tags):
        yield "its tags are others"


def _log_changes(fd: int, mark: Mark) -> Iterator[str]:
    """Of work that no ref leads to any more; a log of our commit alone is none."""
    known = mark.commit.encode()
    try:
        for name, content in _loose(fd, b"logs"):
            ids = [one for line in content.splitlines() for one in line.split(b" ", 2)[:2]]
            if any(one != known and not _NOBODY.fullmatch(one) for one in ids):
                yield f"{show(name)} tells of other commits"
    except ValueError:
        yield "its logs are more than are looked at"


def _loose(fd: int, top: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Files below a directory: path and content. ValueError: more of them, or deeper, than are looked at."""
    count, pending = 0, [top]
    while pending:
        path = pending.pop()
        below = _open(fd, path)
        if below is None:
            continue
        try:
            for name in os.listdir(below):
                count += 1
                if count > _ENTRIES_MAX or path.count(b"/") > _DEPTH_MAX:
                    raise ValueError("too many entries")
                whole = path + b"/" + os.fsencode(name)
                if stat.S_ISDIR(os.lstat(name, dir_fd=below).st_mode):
                    pending.append(whole)
                elif not whole.startswith((_REMOTES, b"logs/" + _REMOTES)):
                    yield whole, _read(name, below)
        finally:
            os.close(below)


def _open(fd: int, path: str | bytes) -> int | None:
    """A directory below, by a path without symlinks; None: there is none."""
    here = os.open(".", _DIRECTORY, dir_fd=fd)
    for name in os.fsencode(path).split(b"/"):
        try:
            inner = os.open(name, _DIRECTORY, dir_fd=here)
        except (FileNotFoundError, NotADirectoryError):
            return None
        finally:
            os.close(here)
        here = inner
    return here


def _read(name: str, fd: int, most: int = _SMALL_BYTES) -> bytes:
    """Empty when there is no such file, or it is none that is read."""
    with suppress(FileNotFoundError, HostError):
        return read_regular(name, dir_fd=fd, most=most)
    return b""

