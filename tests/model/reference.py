"""What a sync owes, as plain functions of the source's objects and of what the destination held before.

It shares nothing with the code that it judges.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Expected", "Tree", "check_deletion", "expect", "looks", "obstacles", "parents", "source_files", "without"]

Thing = tuple[str, bytes]
"""("file", content), ("link", target), ("directory", b"") or ("other", b"")."""
Tree = dict[str, Thing]

_NAME_MAX = 255
STATE = ".stager"
DONE, WRONG_NAMES, NOTHING_THERE = 0, 2, 3


@dataclass(frozen=True)
class Expected:
    """``code``: of an undisturbed run; ``tree``: what the destination holds after it. ``files``: what is copied."""

    code: int
    tree: Tree
    files: Mapping[str, bytes]
    skipped: int = 0


def looks(root: Path) -> Tree:
    """Everything below ``root`` but stager's state."""
    found: Tree = {}
    pending = [""]
    while pending:
        above = pending.pop()
        with os.scandir(root / above) as entries:
            for entry in entries:
                path = os.path.join(above, entry.name)
                if path == STATE:
                    continue
                mode = entry.stat(follow_symlinks=False).st_mode
                if stat.S_ISDIR(mode):
                    found[path] = ("directory", b"")
                    pending.append(path)
                elif stat.S_ISREG(mode):
                    found[path] = ("file", (root / path).read_bytes())
                elif stat.S_ISLNK(mode):
                    found[path] = ("link", os.fsencode(os.readlink(root / path)))
                else:
                    found[path] = ("other", b"")
    return found


def parents(path: str) -> list[str]:
    """Every directory above it, the outermost first."""
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def source_files(objects: Mapping[str, bytes]) -> tuple[dict[str, bytes], int]:
    """The objects that can be files, and how many cannot. Directory markers are neither."""
    plain = {key: content for key, content in objects.items() if content or (key and not key.endswith("/"))}
    named = {key: content for key, content in plain.items() if _is_name(key)}
    above = {directory for key in named for directory in parents(key)}
    files = {key: content for key, content in named.items() if key not in above}
    return files, len(plain) - len(files)


def expect(
    objects: Mapping[str, bytes],
    before: Tree,
    *,
    may_be_empty: bool,
    skip_bad: bool = False,
    chosen: Callable[[str, int], bool] = lambda path, size: True,
) -> Expected:
    """What a sync does that nothing disturbs. ``may_be_empty``: a source without objects is a source. ``chosen``: of
    which names and sizes the source consists for it.
    """
    if not objects and not may_be_empty:
        return Expected(NOTHING_THERE, before, {})
    files, bad = source_files({key: content for key, content in objects.items() if chosen(key, len(content))})
    if (bad and not skip_bad) or any(_is_in_the_way(before, path) for path in files):
        return Expected(WRONG_NAMES, before, {})
    after = dict(before)
    for path, content in files.items():
        after.update(dict.fromkeys(parents(path), ("directory", b"")))
        after[path] = ("file", content)
    return Expected(DONE, after, files, bad)


def check_deletion(before: Tree, after: Tree, files: Mapping[str, bytes], goes: set[str], may_go: set[str]) -> None:
    """What stands ``before`` and is none of ``files``: that ``goes`` and what ``may_go`` may, all else stays as it was.

    Directories that became empty by it may go too.
    """
    for path, thing in before.items():
        if path in files or thing[0] == "directory":
            continue
        if after.get(path, thing)[0] == "directory":  # it made room for one
            assert path in goes | may_go, path
        elif path in after:
            assert after[path] == thing, path
            assert path not in goes, path
        else:
            assert path in goes | may_go, path
    for path, thing in after.items():
        assert path in before or thing == ("file", files.get(path)) or thing[0] == "directory", path


def obstacles(before: Tree, files: Mapping[str, bytes]) -> set[str]:
    """What stands where a directory or a file must go."""
    found = {path for path in files if before.get(path, ("", b""))[0] == "directory"}
    above = {step for path in files for step in parents(path)}
    return found | {path for path in above if before.get(path, ("directory", b""))[0] != "directory"}


def without(before: Tree, gone: set[str]) -> Tree:
    """The tree without these, and without directories that hold nothing else."""
    left = {path: thing for path, thing in before.items() if path not in gone and thing[0] != "directory"}
    emptied = {step for path in gone for step in parents(path)} - {step for path in left for step in parents(path)}
    return {path: thing for path, thing in before.items() if path not in gone and path not in emptied}


def _is_in_the_way(before: Tree, path: str) -> bool:
    if before.get(path, ("", b""))[0] == "directory":
        return True
    return any(before.get(above, ("directory", b""))[0] != "directory" for above in parents(path))


def _is_name(key: str) -> bool:
    segments = key.split("/")
    return (
        all(segment not in ("", ".", "..") and len(segment.encode()) <= _NAME_MAX for segment in segments)
        and "\0" not in key
        and segments[0].lower() != STATE
    )
