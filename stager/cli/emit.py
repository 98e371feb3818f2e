"""``stager plan --emit FORMAT JOB``: a staged job for a container runtime."""

from __future__ import annotations

import os
import sys

from stager.cli.render import write
from stager.cli.state import State
from stager.cli.tell import tell, warn
from stager.errors import UsageError, from_os_error
from stager.job.launching import launch_of_job
from stager.job.placing import open_known_job
from stager.model import JOB_ID
from stager.stages.emit import FORMATS, emit
from stager.stages.emit_launch import ImageConfig, credential_names, read_image_config

__all__ = ["FORMATS", "emit_job"]

_LONGEST_CONFIG = 4 << 20


def emit_job(state: State, form: str, job_id: str, scratch: str | None, image_config: str | None) -> None:
    """Print it: with ``--json`` as one event, else as it is, for a file or a shell.

    Raises `UsageError`, `HostError`, `NotFoundError`.
    """
    if not JOB_ID.fullmatch(job_id) or os.path.isfile(job_id):
        raise UsageError("--emit is of a staged job, by its id", where=job_id[:200],
                         hint="`stager stage JOB.toml` stages one, `stager ls` names them")
    image = _read_image(image_config) if image_config is not None else None
    with open_known_job(job_id, scratch, os.environ) as job:
        launch = launch_of_job(job)
    text = emit(form, launch, os.environ, image)
    names = credential_names(launch, os.environ)
    if names and form == "oci":
        warn(state, f"the bundle has none of the job's credentials: add {', '.join(names)} to process.env")
    if form != "k8s" and launch.limit.seconds is not None:
        warn(state, f"{form} knows no time limit: whoever starts the job ends it after {launch.limit.seconds} s")
    if state.json:
        tell(state, "emitted", {"job": job_id, "format": form, "text": text}, text)
    else:
        write(sys.stdout, text.rstrip("\n"))


def _read_image(path: str) -> ImageConfig:
    try:
        with open(path, "rb") as file:
            data = file.read(_LONGEST_CONFIG + 1)
    except OSError as error:
        raise from_os_error(error, doing="read the image's configuration", where=path) from error
    if len(data) > _LONGEST_CONFIG:
        raise UsageError("is too large for an image's configuration", where=path)
    return read_image_config(data, where=path)
