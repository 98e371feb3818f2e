"""What can be wanted of a git source, checked: the same for job files and the command line."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import structs

from stager.config import GitOptions
from stager.globs import compile_glob
from stager.names import show

__all__ = ["check_git_options"]


def check_git_options(options: GitOptions, *, scheme: str, subdir: str | None, add: Callable[[str, str], None]) -> None:
    """Tell ``add`` of every mistake: the field of `GitOptions`, and what is wrong with it. ``scheme`` and ``subdir``:
    the source's.
    """
    if scheme != "git":
        for field in structs.fields(GitOptions):
            if getattr(options, field.name) != field.default:
                add(field.name, "is for git sources")
        return
    if options.history:
        for name, is_given in (("paths", options.paths), ("submodules", options.submodules), ("a #subdir", subdir)):
            if is_given:
                add("history", f"is of a whole repository, and is not available with {name}")
    for path in options.paths:
        if not path.strip("/") or "\0" in path or any(part in ("", ".", "..") for part in path.strip("/").split("/")):
            add("paths", f"{show(path.encode('utf-8', 'surrogateescape'))} is no plain path below the source's root")
    for name in ("lfs_include", "lfs_exclude"):
        patterns = getattr(options, name)
        if any(not pattern or "\0" in pattern for pattern in patterns):
            add(name, "holds an empty pattern, or one with a NUL")
        for pattern in patterns:
            try:
                compile_glob(pattern.encode("utf-8", "surrogateescape"))
            except ValueError as error:
                if pattern:
                    add(name, f"the pattern {show(pattern.encode('utf-8', 'surrogateescape'))} {error}")
        if patterns and not options.lfs:
            add(name, "says which LFS objects are wanted, but lfs is off")
