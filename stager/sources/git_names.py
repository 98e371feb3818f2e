r"""Paths in trees that would be, or look like, git's own directory somewhere.

Git refuses such trees when they arrive (fsck's hasDotgit), and so do we, whatever git was told to pass: a tree is
copied on to other file systems, and below ``.git`` lie programs that git runs. The spellings are those of git's path.c
and utf8.c: in any case; ``git~1`` is what FAT and NTFS call it; there dots, blanks and a stream's name at the end say
nothing and ``\`` is a slash; HFS+ drops some characters.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["what_git_refuses"]

_DOTGIT: Final = re.compile(rb"(?:\A|[/\\])(?:\.git|git~1)[ .]*(?:\Z|[/\\:])", re.IGNORECASE)
_DROPPED: Final = re.compile("[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]")  # utf8.c, next_hfs_char


def what_git_refuses(path: bytes) -> str:
    """Why no tree may hold this path; empty when it may."""
    if path.isascii():
        if b"git" not in path.lower():
            return ""
    else:
        path = _DROPPED.sub("", path.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
    return "is, or is somewhere taken for, git's own directory" if _DOTGIT.search(path) else ""
