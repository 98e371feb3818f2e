"""Which libraries and programs stager uses here, by their versions."""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
import shutil
import ssl
import subprocess
from collections.abc import Mapping
from typing import Final

import xxhash

from stager import _native
from stager.host.findings import Finding
from stager.host.survey import git_version
from stager.version import __version__

__all__ = ["libraries", "programs"]

_LIMIT_S: Final = 10.0
_PROGRAMS: Final = (
    ("git-lfs", ["git-lfs", "version"], "nothing: stager fetches LFS objects itself"),
    ("fusermount3", ["fusermount3", "-V"], "nothing, unless a job mounts FUSE file systems"),
    ("ssh", ["ssh", "-V"], "git+ssh:// sources cannot be staged"),
)


def libraries() -> Finding:
    """What the engine and this Python are linked with."""
    versions = {
        "stager": __version__,
        "openssl": _loaded_openssl() or ssl.OPENSSL_VERSION,
        "python_openssl": ssl.OPENSSL_VERSION,
        "xxhash": xxhash.XXHASH_VERSION,
    }
    text = f"stager {__version__}, {versions['openssl']}, xxHash {versions['xxhash']}"
    if versions["openssl"] != versions["python_openssl"]:
        text += f"; Python's own: {versions['python_openssl']}"
    return Finding(what="libraries", found=text, details=versions)


def _loaded_openssl() -> str:
    """The version of the library that the native engine has loaded, asked of that library."""
    assert _native.__file__
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
            found = re.search(r"(/\S*libcrypto\S*\.so\S*)", file.read())
        if found is None:
            return ""
        version = ctypes.CDLL(found[1]).OpenSSL_version
        version.restype = ctypes.c_char_p
        return (version(0) or b"").decode("ascii", "replace")
    except (OSError, AttributeError):
        return ""


async def programs(environ: Mapping[str, str]) -> list[Finding]:
    """Those that are run for some sources, and those that users look for."""
    git = await git_version(environ)
    found = [
        Finding(
            what="git", found=git or "not found", state="ok" if git else "problem",
            cost="" if git else "git sources cannot be staged, nor the code of jobs that comes from one",
        )
    ]  # fmt: skip
    for name, argv, cost in _PROGRAMS:
        version = await asyncio.to_thread(_version, argv)
        known = Finding(what=name, found=version)
        found.append(known if version else Finding(what=name, found="not found", state="lacking", cost=cost))
    return found


def _version(argv: list[str]) -> str:
    program = shutil.which(argv[0])
    if program is None:
        return ""
    try:
        done = subprocess.run(
            [program, *argv[1:]], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            timeout=_LIMIT_S, env={"PATH": os.defpath, "LC_ALL": "C.UTF-8"}, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = done.stdout.decode("utf-8", "replace").splitlines()
    if done.returncode or not lines:
        return "there, its version is not told"
    return re.sub(r"^(git-lfs/|fusermount3 version: )", "", lines[0].strip())[:100]
