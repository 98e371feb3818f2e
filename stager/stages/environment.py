"""The environment of a job's command: a pure function of the job file, the job's identity and what stands around it.

What the three platforms promise a job is here, under their names; what they leave open is our choice: the "True if
Master" flag of Clusterone is IS_MASTER ("True" or "False"), its job id CLUSTERONE_JOB_ID, and a job that is no array is
instance 0 of 1. No MPI variables are set (Clusterone announced some, and named none).
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from stager.distributed import cluster_of
from stager.errors import UsageError
from stager.host.cloud_settings import CloudSettings
from stager.instances import instance_of
from stager.model import JobSpec
from stager.scheduler import JobIdentity, SchedulerFacts
from stager.variables import CREDENTIALS, OWN_NAMES, OWN_PREFIXES
from stager.view_paths import MODULES, TASK, TMP, TMP_RAMFS

__all__ = ["Places", "job_environment", "own_environment", "refuse_unknown_task"]


class Places(Struct, frozen=True, kw_only=True):
    """What the variables for directories say: their paths in the view, unless there is none.

    ``modules``: what scripts import that were written for Clusterone.
    """

    task: str = TASK
    tmp: str = TMP
    tmp_ramfs: str = TMP_RAMFS
    modules: str = MODULES


_NO_CLOUD = CloudSettings()
_IN_THE_VIEW = Places()


def job_environment(
    spec: JobSpec,
    identity: JobIdentity,
    facts: SchedulerFacts,
    environ: Mapping[str, str],
    *,
    workdir: str,
    cloud: CloudSettings = _NO_CLOUD,
    places: Places = _IN_THE_VIEW,
) -> dict[str, str]:
    """The user's environment without S3 credentials (unless the job file asks for them), and what stager sets.

    ``workdir``: where the command starts. What is set here cannot be overridden by ``environ`` nor by the job file.
    Raises `UsageError`: the scheduler and the job file disagree about which task this is.
    """
    dropped = OWN_PREFIXES if spec.pass_credentials else OWN_PREFIXES + CREDENTIALS
    kept = {
        name: value
        for name, value in environ.items()
        if not name.startswith(dropped) and name not in OWN_NAMES and name != "OLDPWD"
    }
    own = own_environment(spec, identity, facts, cloud=cloud, places=places)
    if spec.clusterone_shim and "PYTHONPATH" not in spec.environment and kept.get("PYTHONPATH"):
        own["PYTHONPATH"] = f"{places.modules}:{kept['PYTHONPATH']}"
    return {**kept, **own, "PWD": workdir}


def own_environment(
    spec: JobSpec,
    identity: JobIdentity,
    facts: SchedulerFacts,
    *,
    cloud: CloudSettings = _NO_CLOUD,
    places: Places = _IN_THE_VIEW,
) -> dict[str, str]:
    """What stager adds to an environment, the job file's own variables among it; no secret but what those hold.

    What differs from task to task is left out where nobody says which task this is. Raises as `job_environment`.
    """
    return {
        **spec.environment,
        **_of_the_shim(spec, places),
        **_of_anyscale(cloud),
        **_of_qarnot(spec, facts, places),
        **_of_clusterone(spec, identity, facts),
        "STAGER_JOB_ID": identity.id,
        "STAGER_JOB_NAME": spec.name,
        "STAGER_ATTEMPT": str(identity.attempt),
        "STAGER_NODE_RANK": str(facts.node_rank),
        "STAGER_NODE_COUNT": str(facts.node_count),
    }


def refuse_unknown_task(spec: JobSpec, facts: SchedulerFacts) -> None:
    """Raise `UsageError` unless it is known which task of its job this process is, where there are several."""
    if instance_of(spec.instances, facts) is None:
        raise UsageError(
            f"nobody says which of the {len(spec.instances.ids)} instances this is", where="instances",
            hint="name it with --instance, or start an array: SLURM_ARRAY_TASK_ID or JOB_COMPLETION_INDEX",
        )  # fmt: skip
    cluster = cluster_of(spec.distributed, facts)
    if cluster is not None and cluster.role is None:
        raise UsageError(
            "nobody says which task of the distributed job this is", where="[distributed]",
            hint="start it by srun, as an indexed job or by torchrun, or write role and index",
        )  # fmt: skip


def _of_clusterone(spec: JobSpec, identity: JobIdentity, facts: SchedulerFacts) -> dict[str, str]:
    cluster = cluster_of(spec.distributed, facts)
    if cluster is None:
        return {"CLUSTERONE_CLOUD": "1", "CLUSTERONE_JOB_ID": identity.id}
    is_asked_for = bool(facts.job_id) and identity.id != facts.job_id  # on the command line, which all tasks share
    shared_id = identity.id if is_asked_for else facts.group_id or identity.id
    found = {"CLUSTERONE_CLOUD": "1", "CLUSTERONE_JOB_ID": shared_id}
    if cluster.workers:
        found |= {"PS_HOSTS": ",".join(cluster.ps), "WORKER_HOSTS": ",".join(cluster.workers)}
    if cluster.masters:
        found["MASTER_HOSTS"] = ",".join(cluster.masters)
    if cluster.role is not None:
        found |= {"JOB_NAME": cluster.role, "TASK_INDEX": str(cluster.index), "IS_MASTER": str(cluster.is_master)}
    return found


def _of_qarnot(spec: JobSpec, facts: SchedulerFacts, places: Places) -> dict[str, str]:
    found = {"TASK_PATH": places.task, "TMP_PATH": places.tmp, "TMP_RAMFS_PATH": places.tmp_ramfs}
    instance = instance_of(spec.instances, facts)
    if instance is not None:
        found["INSTANCE_ID"] = str(instance.id)
    count = instance.count if instance is not None else len(spec.instances.ids)
    if count is not None:
        found["INSTANCE_COUNT"] = str(count)
    return found


def _of_anyscale(cloud: CloudSettings) -> dict[str, str]:
    if not cloud.bucket:
        return {}
    return {
        "ANYSCALE_CLOUD_STORAGE_BUCKET": cloud.bucket,
        "ANYSCALE_CLOUD_STORAGE_BUCKET_REGION": cloud.region,
        "ANYSCALE_ARTIFACT_STORAGE": cloud.artifact_storage,
    }


def _of_the_shim(spec: JobSpec, places: Places) -> dict[str, str]:
    if not spec.clusterone_shim:
        return {}
    return {"PYTHONPATH": ":".join(filter(None, (places.modules, spec.environment.get("PYTHONPATH"))))}
