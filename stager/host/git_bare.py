"""A bare repository written file by file: nothing in it comes from a template, an earlier run or a job."""

from __future__ import annotations

import os
from collections.abc import Iterable

__all__ = ["make_bare_repository", "read_shallow"]


def make_bare_repository(
    git_dir: str, *, object_format: str, known: Iterable[str] = (), shallow: Iterable[str] = ()
) -> str:
    """Make one that is not there yet, and return where its packs go. Blocks; raises OSError.

    ``known``: ids that get a ref each, so that a fetch does not ask for what they lead to. ``shallow``: commits whose
    parents are not to be looked for (gitrepository-layout(5)).
    """
    packs = os.path.join(git_dir, "objects", "pack")
    os.makedirs(packs, mode=0o700)
    os.mkdir(os.path.join(git_dir, "refs"), 0o700)
    version, extension = ("1", "[extensions]\n\tobjectformat = sha256\n") if object_format == "sha256" else ("0", "")
    files = {
        "HEAD": "ref: refs/heads/none\n",
        "config": f"[core]\n\trepositoryformatversion = {version}\n\tbare = true\n{extension}",
        "packed-refs": "".join(f"{commit} refs/stager/known/{commit}\n" for commit in sorted(known)),
        "shallow": "".join(f"{commit}\n" for commit in sorted(shallow)),
    }
    for name, text in files.items():
        if text:
            with open(os.path.join(git_dir, name), "x", encoding="ascii") as file:
                file.write(text)
    return packs


def read_shallow(git_dir: str) -> frozenset[str]:
    """Commits whose parents a fetch left out. Blocks; raises OSError."""
    try:
        with open(os.path.join(git_dir, "shallow"), encoding="ascii") as file:
            return frozenset(file.read().split())
    except FileNotFoundError:
        return frozenset()
