"""Boots User Mode Linux, in which `guest.py` tries stager on a real NFS mount; `make test-nfs` runs it.

The kernel of a test machine may have no NFS; that of Debian's user-mode-linux has a server and a client. The guest's
root is the host's, read-only.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
BUILD = HERE.parents[1] / "build/nfs"


def test_stager_on_a_real_nfs_client(tmp_path: Path) -> None:
    environment = {
        "PATH": os.environ["PATH"], "TMPDIR": "/dev/shm", "HOME": str(tmp_path), "LD_PRELOAD": str(BUILD / "xstate.so"),
    }  # fmt: skip
    given = {
        "NFS_TOOLS": f"{BUILD}/server", "NFS_MODULES": f"{BUILD}/modules", "NFS_PYTHON": sys.executable,
        "NFS_TESTS": f"{HERE}/guest.py", "PYTHONPATH": f"{HERE.parents[1]}:{HERE.parent}",
        "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    done = subprocess.run(
        ["linux.uml", "mem=1024M", "root=/dev/root", "rootfstype=hostfs", "ro", f"init={HERE}/init.sh",
         "con0=null,fd:1", "con=null", "quiet", f"umid=stager-{os.getpid()}", *map("=".join, given.items())],
        env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=500, check=False,
    )  # fmt: skip
    print(done.stdout)
    assert "nfs tests ended with 0" in done.stdout
