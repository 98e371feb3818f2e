"""The main job, shown: real servers on this machine, a job file one can read, and the job run from it.

``make demo`` runs the job once and prints what it found and a table of how its data got there. It leaves the job file
in demo/. ``.venv/bin/python tests/demo.py --serve`` keeps the servers up instead, to run the job by hand.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from servers.git_http import GitHttp, git_http
from servers.repositories import make_repository
from servers.seaweedfs import SeaweedFS, seaweedfs
from stager.cli.text import size

HERE = Path(__file__).resolve().parent.parent
DEMO = HERE / "demo"
STAGER = Path(sys.executable).with_name("stager")

LOOK = '''\
"""What the job finds: every path it was promised, with files and bytes, and what it may write."""

import glob
import os

for top in sorted(glob.glob("/data/*/*") + glob.glob("/public/*")) + ["/code", "/logs"]:
    sizes = [os.lstat(os.path.join(folder, name)).st_size for folder, _, names in os.walk(top) for name in names]
    print(f"{top:32} {len(sizes):6} files {sum(sizes):13,} bytes")

for path in ("/data/vision/shapes/new", "/data/lab/scans/from-the-job", "/public/words/new", "/logs/result.txt"):
    try:
        with open(path, "w") as file:
            file.write(f"written by job {os.environ['STAGER_JOB_ID']}\\n")
        print(f"{path:32} written")
    except OSError as error:
        print(f"{path:32} {error.strerror}")
'''

JOB = """\
# Written by `make demo`; every kind of source in one job.
version = 1

[job]
name = "demo"
command = ["python3", "/code/look.py"]

[code]                          # -> /code
source = "git+{git}/look.git"

[[dataset]]                     # -> /data/vision/shapes, a copy: {objects:,} objects of mixed sizes from S3
name = "vision/shapes"
source = "s3://datasets/shapes/"
remote = "demo"

[[dataset]]                     # -> /data/vision/labels, a copy: a tag of a git repository
name = "vision/labels"
source = "git+{git}/labels.git"
ref = "v1"

[[dataset]]                     # -> /data/lab/scans, the directory itself: what the job writes is there at once
name = "lab/scans"
source = "bind:{demo}/scans"

[[public]]                      # -> /public/words, read-only whatever the job tries
name = "words"
source = "{demo}/words"

[logs]                          # /logs is kept here after the job, below its id
persist = "{demo}/logs"

[s3.demo]
endpoint_url = "{s3}"
"""


@dataclass(frozen=True)
class Demo:
    """The running servers and the environment in which the job file works."""

    job_file: Path
    environment: dict[str, str]


def shapes(seed: int = 1) -> Iterator[tuple[str, bytes]]:
    """Some thousand objects: many small, some of a megabyte, a few of several parts."""
    draw = random.Random(seed)
    text = draw.randbytes(40 << 20)
    sizes = [draw.randrange(0, 64 << 10) for _ in range(3000)] + [1 << 20] * 60 + [20 << 20, 24 << 20, 33 << 20]
    for index, length in enumerate(sizes):
        start = draw.randrange(0, len(text) - length)
        yield f"shapes/{index // 500:02d}/{index:05d}.bin", text[start : start + length]


@contextmanager
def servers(home: Path) -> Iterator[tuple[SeaweedFS, GitHttp]]:
    """SeaweedFS with the bucket filled, and a git server with two repositories."""
    root = home / "repositories"
    make_repository(root / "look.git", {"look.py": LOOK.encode()})
    make_repository(root / "labels.git", {f"{n:04d}.txt": f"label {n}\n".encode() for n in range(500)})
    subprocess.run(["git", "-C", str(root / "labels.git"), "tag", "v1"], check=True)
    with seaweedfs() as weed, git_http(root) as git:
        weed.make_bucket("datasets")
        weed.fill("datasets", shapes())
        yield weed, git


@contextmanager
def demo() -> Iterator[Demo]:
    """Everything up, the job file written."""
    for name in ("scans", "words"):
        shutil.rmtree(DEMO / name, ignore_errors=True)
        (DEMO / name).mkdir(parents=True)
        (DEMO / name / "readme").write_text(f"these are the {name}\n")
    with tempfile.TemporaryDirectory(prefix="stager-demo-") as home, servers(Path(home)) as (weed, git):
        job_file = DEMO / "JOB.toml"
        count = sum(1 for _ in shapes())
        job_file.write_text(JOB.format(s3=weed.endpoint_url, git=git.base_url, demo=DEMO, objects=count))
        ours = {
            "AWS_ACCESS_KEY_ID": weed.identity.access_key,
            "AWS_SECRET_ACCESS_KEY": weed.identity.secret_key,
            "AWS_REGION": weed.region,
            "STAGER_SCRATCH": str(DEMO / "scratch"),
        }
        (DEMO / "environment").write_text("".join(f"export {name}={value}\n" for name, value in ours.items()))
        yield Demo(job_file, {**os.environ, **ours})


def show_receipt(path: Path) -> None:
    """The table at the end, from what the job's receipt says."""
    table = Table("dataset", "source", "how", "objects", "bytes", "rate", "grade", title="What the job got, and how")
    for dataset in json.loads(path.read_bytes())["datasets"]:
        objects, total_bytes, seconds = dataset["total"]["objects"], dataset["total"]["bytes"], dataset["seconds"]
        copied = dataset["how"] == "copy"
        rate = f"{size(dataset['moved']['bytes'] / seconds)}/s" if copied else "-"
        table.add_row(
            dataset["destination"],
            dataset["source"],
            {"copy": "copied", "bind": "bound, read-write", "public": "bound, read-only"}[dataset["how"]],
            f"{objects:,}" if copied else "-",
            f"{total_bytes:,}" if copied else "-",
            rate,
            " ".join(dataset["grades"]) or "-",
        )
    Console(width=max(120, shutil.get_terminal_size().columns)).print(table)


def main() -> int:
    """Run the job, or keep the servers up; the job's status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--serve", action="store_true", help="keep the servers up until Ctrl-C")
    parser.add_argument("command", nargs="*", help="run this in the job's view instead of its own command")
    options = parser.parse_args()
    print("Starting SeaweedFS and git http-backend, and filling them ...", flush=True)
    with demo() as ready:
        if options.serve:
            print("\nThe servers are up until Ctrl-C. In another terminal:\n")
            print(f"  . {DEMO}/environment\n  {STAGER} run {ready.job_file} -- ls -R /data/vision/labels", flush=True)
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            with suppress(KeyboardInterrupt):
                signal.pause()
            return 0
        argv = [str(STAGER), "run", str(ready.job_file), *(["--", *options.command] if options.command else [])]
        print(f"\n$ {shlex.join(argv)}", flush=True)
        status = subprocess.run(argv, env=ready.environment, check=False).returncode
        show_receipt(max(DEMO.glob("scratch/jobs/*/receipt.json"), key=os.path.getmtime))
    print(f"\nThe job file is {DEMO}/JOB.toml, the job's logs are below {DEMO}/logs. To run it again:")
    print("  make demo")
    print("  .venv/bin/python tests/demo.py -- COMMAND ...      with a command of your own")
    print("  .venv/bin/python tests/demo.py --serve             keep the servers, run it by hand")
    return status


if __name__ == "__main__":
    sys.exit(main())
