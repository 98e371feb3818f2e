"""The environment of a job on this node: for its command, and as files beside its tree for whoever else starts it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from stager.errors import from_os_error
from stager.host.atomic import write_file
from stager.host.record import JobDirectory
from stager.host.site import site_cloud
from stager.job.view import MODULES_BELOW, OWN
from stager.model import JobSpec
from stager.scheduler import scheduler_facts
from stager.shim import DIRECTORY
from stager.stages.environment import Places, job_environment, own_environment
from stager.stages.environment_file import for_docker, for_shell
from stager.view_paths import TASK, TMP

__all__ = [
    "DOCKER_FILE",
    "SHELL_FILE",
    "command_environment",
    "own_variables",
    "places_in",
    "remove_environment",
    "without_view",
    "write_environment",
]

SHELL_FILE: Final = "job.env"
DOCKER_FILE: Final = "job.docker.env"
"""In the job's directory, for its owner alone. They hold what stager sets, and nothing that it found around itself."""

_IN_THE_VIEW: Final = Places()


def command_environment(
    spec: JobSpec, job: JobDirectory, environ: Mapping[str, str], *, workdir: str, places: Places = _IN_THE_VIEW
) -> dict[str, str]:
    """What the job's command gets. Blocks. Raises `UsageError` as `job_environment`, `HostError`: the site's file."""
    return job_environment(
        spec, job.record.identity(), scheduler_facts(environ), environ,
        workdir=workdir, cloud=site_cloud(), places=places,
    )  # fmt: skip


def own_variables(
    spec: JobSpec, job: JobDirectory, environ: Mapping[str, str], *, places: Places = _IN_THE_VIEW
) -> dict[str, str]:
    """What stager adds to the environment of the job's command. Blocks. Raises as `command_environment`."""
    return own_environment(spec, job.record.identity(), scheduler_facts(environ), cloud=site_cloud(), places=places)


def write_environment(
    spec: JobSpec, job: JobDirectory, environ: Mapping[str, str], *, places: Places = _IN_THE_VIEW
) -> None:
    """Write both files, and the modules that the job asks for into its tree. Blocks.

    Raises as `command_environment`, and `NoSpaceError`.
    """
    own = own_variables(spec, job, environ, places=places)
    for name, body in ((SHELL_FILE, for_shell(own)), (DOCKER_FILE, for_docker(own))):
        write_file(job.fd, name, [body], mode=0o600)
    if spec.clusterone_shim:
        place = os.path.join(job.tree, MODULES_BELOW)
        try:
            os.makedirs(place, mode=0o755, exist_ok=True)
            shutil.copyfile(f"{DIRECTORY}/clusterone.py", f"{place}/clusterone.py")
        except OSError as error:
            raise from_os_error(error, doing="write the job's modules", where=place) from error


def places_in(tree: str) -> Places:
    """Where the directories are that variables name, for who uses a job's tree without a view of it."""
    below = {target: f"{tree}/{name}" for name, target in OWN.items()}
    temporary = below[TMP]  # nothing can be mounted, no memory either
    return Places(task=below[TASK], tmp=temporary, tmp_ramfs=temporary, modules=f"{tree}/{MODULES_BELOW}")


def without_view(variables: Mapping[str, str], tree: str) -> dict[str, str]:
    """What such a user gets beside those paths: the top of the tree, and nothing that says that data is at /data."""
    return {**{name: value for name, value in variables.items() if name != "CLUSTERONE_CLOUD"}, "STAGER_TREE": tree}


def remove_environment(job: JobDirectory) -> None:
    """The job file's own variables go with the job's data. Blocks. Raises `HostError`."""
    for name in (SHELL_FILE, DOCKER_FILE):
        try:
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=job.fd)
        except OSError as error:
            raise from_os_error(error, doing="remove the file", where=f"{job.path}/{name}") from error

