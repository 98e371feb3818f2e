"""``stager init``."""

from __future__ import annotations

import os
import re
from typing import Final

import click

from stager.cli.options import common
from stager.cli.state import State
from stager.cli.tell import tell
from stager.errors import UsageError, from_os_error

__all__ = ["TEMPLATE", "command"]

TEMPLATE: Final = """\
# A job of stager. `stager check FILE` says what is wrong with it, `stager run FILE` runs it, `stager create FILE` makes
# it now for later. What is optional begins with "#" and a key or a table: take that away where it is wanted.
version = 1

[job]
name = "NAME"
command = ["python", "train.py"]        # argument for argument; a string is split into words, never run by a shell
#workdir = "/code"                      # where it starts
#pass_credentials = false               # true: the command inherits AWS_*
#environment = { OMP_NUM_THREADS = "4" }
#time_limit = "12h"                     # then SIGTERM, and SIGKILL after the grace
#grace = "30s"
#instances = "1-6,15"                   # INSTANCE_ID is one of them, INSTANCE_COUNT their number
#clusterone_shim = true                 # `import clusterone` finds get_data_path and get_logs_path
#image = "registry.example/train:4"     # for `stager plan --emit` alone

[code]                                  # copied to /code; `stager create` takes it as it is then
source = "."                            # a directory, meant from this file, or git+https://..., git+ssh://...
#ref = "v1.4"                           # of git: a branch, a tag or a commit

[logs]                                  # what the command writes to /logs is kept there, below the job's id
persist = "logs"                        # a directory, or s3://bucket/prefix
#drain = "5m"                           # so often while it runs, too

#[results]                              # what it writes or changes in TASK_PATH comes back there, at its end
#persist = "s3://results/"
#include = ["*.h5"]                     # and exclude; whitelist and blacklist are regular expressions
#snapshot = "1h"                        # a copy so often while it runs

#[[dataset]]                            # the job's own copy at /data/vision/mnist
#name = "vision/mnist"
#source = "s3://datasets/mnist/"        # or git+https://..., git+ssh://..., file:///dir
#remote = "ceph"                        # see [s3.ceph]; left out: as the AWS tools find it
#include = ["*.gz"]                     # and exclude, files_from, min_size, max_size, newer
#require_integrity = "A"                # nothing without a checksum of the source's own
#access = "read-only"                   # no copy: what this node keeps, mounted read-only

#[[dataset]]                            # one of git, with what only git has
#name = "speech/words"
#source = "git+https://git.example/speech/words"
#ref = "main"
#paths = ["train"]                      # and history, submodules, lfs, lfs_include, lfs_exclude

#[[dataset]]                            # the directory itself, as of NFS: what the job writes reaches it
#name = "lab/scans"
#source = "bind:/mnt/efs/scans"

#[[public]]                             # /public/imagenet, read-only
#name = "imagenet"
#source = "/srv/public/imagenet"

#[[resource]]                           # united in TASK_PATH, where the command starts then; the last one wins
#source = "s3://inputs/case-7/"         # with the same choices as a dataset

#[tmp]                                  # TMP_RAMFS_PATH, in memory
#ramfs_size = "4G"

#[distributed]                          # for several tasks; left out: as Slurm, Kubernetes or torchrun say
#role = "worker"
#index = 0
#worker_hosts = ["10.0.0.1:2222", "10.0.0.2:2222"]
#ps_hosts = ["10.0.0.3:2222"]

#[view]
#profile = "strict"                     # a small root of its own, its own processes, a clean environment

#[s3.ceph]
#endpoint_url = "https://ceph.example:7480"
#profile = "ceph"                       # of the AWS configuration: credentials never stand here
#ca_bundle = "/etc/ssl/site.pem"
"""
"""With NAME in the place of the job's name. Every line that begins with "#" and no space is one of a job file."""


@click.command("init")
@click.argument("file", metavar="[FILE]", required=False, type=click.Path())
@common
@click.pass_obj
def command(state: State, /, file: str | None) -> None:
    """Print a job file with everything that can stand in one, most of it commented out; or write it to FILE, if new.

    It is accepted by `stager check` as it is: it runs the code of its directory.

    Example: stager init train.toml
    """
    directory = os.path.dirname(os.path.abspath(file or "job.toml"))
    text = TEMPLATE.replace("NAME", _name_of(directory))
    if file is None:
        tell(state, "template", {"text": text}, text.rstrip("\n"))
        return
    try:
        fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        with open(fd, "w", encoding="utf-8") as out:
            out.write(text)
    except FileExistsError:
        raise UsageError("is there already", where=file, hint="name another, or remove it") from None
    except OSError as error:
        raise from_os_error(error, doing="write the job file", where=file) from error
    tell(state, "written", {"jobfile": file}, f"{file}: written; `stager check {file}` checks it")


def _name_of(directory: str) -> str:
    """A job is called by where its code is."""
    name = re.sub(r"[^A-Za-z0-9._-]", "-", os.path.basename(directory)).lstrip("._-")[:64]
    return name or "job"
