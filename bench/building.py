"""What a run needs that is not there yet: the C programs, the benches' own Python environment, a certificate."""

from __future__ import annotations

import subprocess
import venv
from dataclasses import dataclass
from pathlib import Path

import trustme
from peers.places import BUILD, ENVIRONMENT, native

__all__ = ["Certificate", "build_program", "build_programs", "make_certificate", "prepare_environment"]

HERE = Path(__file__).parent
COMPILER = ["cc", "-O2", "-g", "-std=gnu11", "-Wall", "-Wextra", "-Wshadow"]
PROGRAMS: dict[str, tuple[str, list[str]]] = {  # name: sources, flags after them
    "origin": ("origin*.c", ["-lssl", "-lcrypto", "-lpthread"]),
    "ceiling": ("ceiling.c", ["-march=native", "-lssl", "-lcrypto"]),
    "multi": ("multi.c", ["-march=native", "-lcurl", "-lcrypto"]),
    "measure": ("measure*.c", ["-lpthread"]),
    "punch": ("punch.c", []),
}


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """The origin's, for 127.0.0.1, and its issuer's."""

    ca: Path
    chain: Path
    key: Path


def build_programs() -> list[str]:
    """Compile what is older than its source; returns the programs that could not be built.

    CalledProcessError: a program other than multi (it needs libcurl's header) failed.
    """
    missing = []
    for name in PROGRAMS:
        try:
            build_program(name)
        except subprocess.CalledProcessError:
            if name != "multi":
                raise
            missing.append(name)
    return missing


def build_program(name: str) -> None:
    """Compile a program that is older than its sources. CalledProcessError: the compiler has said why."""
    BUILD.mkdir(exist_ok=True)
    pattern, flags = PROGRAMS[name]
    sources, binary = sorted(HERE.glob(pattern)), Path(native(name))
    newest = max(path.stat().st_mtime for path in (*sources, *HERE.glob("*.h")))
    if not binary.exists() or binary.stat().st_mtime <= newest:
        subprocess.run([*COMPILER, "-o", binary, *sources, *flags], check=True)


def prepare_environment() -> None:
    """The peers and matplotlib, pinned, in a virtual environment of their own. CalledProcessError: pip's."""
    files = [HERE / "requirements.txt", HERE / "peers" / "requirements.txt"]
    wanted = "".join(file.read_text() for file in files)
    stamp = ENVIRONMENT / "installed"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    venv.create(ENVIRONMENT, with_pip=True)
    pip = [str(ENVIRONMENT / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "-r", str(files[0])], check=True)
    stamp.write_text(wanted)


def make_certificate(directory: Path) -> Certificate:
    """A fresh authority and what it issues for the loopback address."""
    made = Certificate(ca=directory / "ca.pem", chain=directory / "chain.pem", key=directory / "key.pem")
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(made.ca)
    issued.private_key_pem.write_to_path(made.key)
    for part in issued.cert_chain_pems:
        part.write_to_path(made.chain, append=True)
    return made
