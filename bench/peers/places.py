"""Where the clients' programs are, and how one of them is asked."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from peers import Target

__all__ = ["BUILD", "ENVIRONMENT", "driver", "figures", "first_line", "native", "package_file", "package_version"]

BUILD = Path(__file__).parent.parent / "build"
ENVIRONMENT = BUILD / "env"
_PYTHON = str(ENVIRONMENT / "bin" / "python")
_DRIVERS = Path(__file__).parent / "drivers"


def native(name: str) -> str:
    """A program compiled from bench/*.c."""
    return str(BUILD / name)


def package_file(path: str) -> str:
    """A file below the site-packages of the benches' own virtual environment."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return str(ENVIRONMENT / "lib" / version / "site-packages" / path)


def package_version(*packages: str) -> str:
    """Names and versions of what is installed there. CalledProcessError: something is not."""
    script = "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]), sep='\\n')"
    done = subprocess.run([_PYTHON, "-c", script, *packages], check=True, capture_output=True, text=True)
    return ", ".join(map(" ".join, zip(packages, done.stdout.split(), strict=True)))


def driver(name: str, target: Target) -> list[str]:
    """The command that runs one of our scripts on a library; see `drivers.plan`."""
    return [
        *(_PYTHON, str(_DRIVERS / f"{name}.py"), target.task, target.endpoint, target.prefix, target.out),
        *(str(target.connections), str(target.listing)),
    ]


def figures(output: str) -> dict[str, Any]:
    """The JSON object that our own programs print as their first line; empty when there is none."""
    line = output.partition("\n")[0]
    return dict(json.loads(line)) if line.startswith("{") else {}


def first_line(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.splitlines()[0]
