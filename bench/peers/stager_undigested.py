"""stager built with csrc/digest.c replaced by bench/no_digest.c, its origin announcing no checksum.

No user can have this build: it says what digests cost, and nothing else.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
from pathlib import Path

from peers import Target, Task
from peers import stager as complete
from peers.places import BUILD

NAME = "stager_undigested"
TASKS: tuple[Task, ...] = ("copy",)
_TREE = BUILD / "undigested"
_REPOSITORY = Path(__file__).parents[2]
_START = f"import sys; sys.path.insert(0, {str(_TREE)!r}); from stager.cli import main; sys.exit(main())"


@functools.cache
def build() -> None:
    """Copy the package, exchange the digests, compile. CalledProcessError: the compiler has said why."""
    shutil.rmtree(_TREE, ignore_errors=True)
    without = shutil.ignore_patterns("*.so", "*.o", "build", "__pycache__", "digest*.c", "_native.c")
    for name in ("stager", "csrc"):
        shutil.copytree(_REPOSITORY / name, _TREE / name, ignore=without)
    shutil.copy(_REPOSITORY / "setup.py", _TREE)
    shutil.copy(_REPOSITORY / "bench" / "no_digest.c", _TREE / "csrc")
    argv = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    subprocess.run(argv, cwd=_TREE, check=True, stdout=subprocess.DEVNULL)


def version() -> str:
    build()
    return complete.version() + " without digests"


def command(target: Target) -> list[str]:
    return [sys.executable, "-c", _START, *complete.arguments(target)]


def keys_listed(output: str) -> int:
    return complete.keys_listed(output)
