"""stager sync of a commit with many small LFS objects: 2,000, and 100,000 with --soak."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from servers.git_http import GitHttp
from servers.lfs_fixture import lfs_fixture
from servers.repositories import lfs_pointer, make_repository

A_BATCH = 100  # as git-lfs asks
MOST_KIB = 96 << 10  # of the program with its libraries and 64 MiB of receive memory, of which little is touched
KIB_AN_OBJECT = 1
PROGRAM = """
import sys
from stager.cli import main
code = main()
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM:")))
sys.exit(code)
"""


def test_many_objects_take_a_request_a_hundred_and_little_memory(
    git_server: GitHttp, tmp_path: Path, soak: int
) -> None:
    count = 2_000 if soak == 1 else 100_000
    contents = {f"d{number % 100}/{number}.bin": b"%d" % number for number in range(count)}
    destination = tmp_path / "dst"
    (tmp_path / "scratch").mkdir(mode=0o700)
    argv = [sys.executable, "-c", PROGRAM, "sync", "-q", f"git+{git_server.url('many')}/.git", str(destination)]
    with lfs_fixture() as lfs:
        oids = {lfs.add(content) for content in contents.values()}
        pointers = {name: lfs_pointer(content) for name, content in contents.items()}
        config = f"[lfs]\n\turl = {lfs.url}\n".encode()
        make_repository(
            git_server.root / "many", {".gitattributes": b"*.bin filter=lfs\n", ".lfsconfig": config, **pointers}
        )
        for turn in ("cold", "again"):
            began = time.monotonic()
            environment = {**os.environ, "STAGER_SCRATCH": str(tmp_path / "scratch")}
            done = subprocess.run(argv, capture_output=True, text=True, env=environment, check=False)
            assert done.returncode == 0, done.stderr
            peak_kib = int(done.stdout)
            print(f"{turn}: {count} objects in {time.monotonic() - began:.1f} s, {peak_kib >> 10} MiB at most")
            assert peak_kib < MOST_KIB + KIB_AN_OBJECT * count
            asked = [one["oid"] for batch in lfs.batches for one in batch.json["objects"]]
            assert (len(lfs.batches), len(asked), set(asked)) == (count // A_BATCH, count, oids)
            assert len(lfs.requests) == len(lfs.batches) + count  # and again none
    told = json.loads((destination / ".stager" / "receipt.json").read_bytes())
    assert told["pinned"]["lfs"]["objects"] == count and told["moved"]["objects"] == 0
    assert all((destination / name).read_bytes() == content for name, content in contents.items())
