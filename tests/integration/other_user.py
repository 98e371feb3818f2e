"""Running stager as a user without privilege, who need not be able to read the checkout or its Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import msgspec
import pytest
import typing_extensions
import uvloop

import stager

__all__ = ["python_for", "readable_copy"]


def readable_copy(library: Path) -> Path:
    """What a job of local data imports, stager too, where every user can read it: the checkout may lie in /root."""
    for package in (stager, click, msgspec, uvloop):
        directory = Path(package.__file__ or "").parent
        shutil.copytree(directory, library / directory.name)
    shutil.copy(typing_extensions.__file__, library)
    return library


def python_for(user: int, library: Path) -> str:
    """A Python that ``user`` can execute and that can import what is in ``library``."""
    program = f"import sys; sys.path.insert(0, {str(library)!r}); import stager.job.order, uvloop, click"
    for python in (sys.executable, os.path.realpath(sys.executable), "/usr/bin/python3"):
        try:
            done = subprocess.run(
                [python, "-I", "-c", program], user=user, group=user, extra_groups=[], cwd="/", capture_output=True
            )
        except OSError:
            continue
        if done.returncode == 0:
            return python
    pytest.skip(f"no Python with stager's dependencies that uid {user} can execute")
