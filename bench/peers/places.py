"""Where the clients' programs are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

__all__ = ["BUILD", "PEERS_ENVIRONMENT", "first_line", "native", "peer_package"]

BUILD = Path(__file__).parent.parent / "build"
PEERS_ENVIRONMENT = BUILD / "peers"


def native(name: str) -> str:
    """A program compiled from bench/*.c."""
    return str(BUILD / name)


def peer_package(path: str) -> str:
    """A file below the site-packages of the peers' own virtual environment."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return str(PEERS_ENVIRONMENT / "lib" / version / "site-packages" / path)


def first_line(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.splitlines()[0]
