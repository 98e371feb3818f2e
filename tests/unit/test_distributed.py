"""The tasks of a distributed job: from its file, Slurm's, Kubernetes' and torchrun's variables."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from stager.distributed import Cluster, cluster_of
from stager.errors import UsageError
from stager.model import JobSpec
from stager.scheduler import JobIdentity, scheduler_facts
from stager.stages.environment import job_environment, refuse_unknown_task
from stager.tasks import DistributedSpec
from stager.variables import DISTRIBUTED

ADDRESSES = DistributedSpec(worker_hosts=("10.0.0.1:2222", "10.0.0.2:2222"), ps_hosts=("10.0.0.3:2222",))


def srun(rank: int, tasks: int, nodes: str, on_each: str, **more: str) -> dict[str, str]:
    return {
        "SLURM_JOB_ID": "9", "SLURM_PROCID": str(rank), "SLURM_STEP_NUM_TASKS": str(tasks),
        "SLURM_STEP_NODELIST": nodes, "SLURM_STEP_TASKS_PER_NODE": on_each, "SLURM_JOB_NODELIST": "other[1-9]",
        **more,
    }  # fmt: skip


def variables(spec: DistributedSpec | None, environ: Mapping[str, str]) -> dict[str, str]:
    """What a task of the job finds of what distributed jobs have, and the job's id."""
    found = job_environment(
        JobSpec(name="j", distributed=spec), JobIdentity(id=environ.get("POD_UID", "9")),
        scheduler_facts(environ), environ, workdir="/",
    )  # fmt: skip
    return {name: found[name] for name in (*DISTRIBUTED, "CLUSTERONE_JOB_ID") if name in found}


def check_cluster(found: list[dict[str, str]], *, workers: int, ps: int) -> None:
    """What rows C23 to C25 say of all pods together."""
    for name in ("PS_HOSTS", "WORKER_HOSTS", "CLUSTERONE_JOB_ID"):
        assert len({one[name] for one in found}) == 1
    hosts = {"worker": found[0]["WORKER_HOSTS"].split(","), "ps": [*filter(None, found[0]["PS_HOSTS"].split(","))]}
    assert (len(hosts["worker"]), len(hosts["ps"])) == (workers, ps)
    own = [hosts[one["JOB_NAME"]][int(one["TASK_INDEX"])] for one in found]
    assert sorted(own) == sorted(hosts["worker"] + hosts["ps"])
    assert [one["IS_MASTER"] for one in found].count("True") == 1
    assert found[0] == {**found[0], "JOB_NAME": "worker", "TASK_INDEX": "0", "IS_MASTER": "True"}


def test_c23_c24_c25_tasks_of_srun_are_one_cluster() -> None:
    found = [variables(None, srun(rank, 3, "n[1-2]", "2,1")) for rank in range(3)]
    assert found[0]["WORKER_HOSTS"] == "n1:2222,n1:2223,n2:2222"
    check_cluster(found, workers=3, ps=0)
    found = [variables(DistributedSpec(ps=1, port=700), srun(rank, 3, "n[1-3]", "1(x3)")) for rank in range(3)]
    assert (found[2]["WORKER_HOSTS"], found[2]["PS_HOSTS"]) == ("n1:700,n2:700", "n3:700")
    assert (found[2]["JOB_NAME"], found[2]["TASK_INDEX"], found[2]["IS_MASTER"]) == ("ps", "0", "False")
    check_cluster(found, workers=2, ps=1)
    assert {one["CLUSTERONE_JOB_ID"] for one in found} == {"9"}


def test_c23_c24_c25_pods_of_an_indexed_job_are_one_cluster() -> None:
    pods = [{"POD_UID": f"u{n}", "JOB_UID": "whole", "JOB_COMPLETION_INDEX": str(n)} for n in range(4)]
    spec = DistributedSpec(hosts=tuple(f"train-{n}.train" for n in range(4)), ps=1)
    found = [variables(spec, pod) for pod in pods]
    assert found[0]["PS_HOSTS"] == "train-3.train:2222"
    assert {one["CLUSTERONE_JOB_ID"] for one in found} == {"whole"}
    check_cluster(found, workers=3, ps=1)
    check_cluster([variables(ADDRESSES, pod) for pod in pods[:3]], workers=2, ps=1)
    with pytest.raises(UsageError, match="this is task 3, and only 0 to 2 have an address"):
        variables(ADDRESSES, pods[3])


def test_c25_id_that_was_asked_for_is_that_of_all_tasks() -> None:
    spec = JobSpec(name="j", distributed=ADDRESSES)
    pod = {"POD_UID": "u", "JOB_UID": "whole", "JOB_COMPLETION_INDEX": "0"}
    for environ in (pod, srun(0, 2, "n[1-2]", "1,1")):
        asked = job_environment(spec, JobIdentity(id="mine"), scheduler_facts(environ), environ, workdir="/")
        assert (asked["STAGER_JOB_ID"], asked["CLUSTERONE_JOB_ID"]) == ("mine", "mine")


def test_c24_c25_torchrun_says_the_rank() -> None:
    torch = {"WORLD_SIZE": "3", "MASTER_ADDR": "n1", "MASTER_PORT": "29500", "TORCHELASTIC_RUN_ID": "run7"}
    found = [variables(ADDRESSES, {**torch, "RANK": str(rank), "LOCAL_RANK": "0"}) for rank in range(3)]
    assert {one["CLUSTERONE_JOB_ID"] for one in found} == {"run7"}
    check_cluster(found, workers=2, ps=1)
    alone = variables(None, {**torch, "RANK": "2"})
    assert alone == {"JOB_NAME": "worker", "TASK_INDEX": "2", "IS_MASTER": "False", "CLUSTERONE_JOB_ID": "run7"}
    within = variables(None, {**torch, **srun(0, 2, "n[1-2]", "1,1"), "RANK": "2"})
    assert (within["TASK_INDEX"], "WORKER_HOSTS" in within) == ("2", False)
    nodes = [{"LOCAL_WORLD_SIZE": "2", "LOCAL_RANK": str(n % 2), "RANK": str(n), "WORLD_SIZE": "4"} for n in range(4)]
    found = [variables(DistributedSpec(hosts=("n1", "n2")), {**torch, **node}) for node in nodes]
    assert found[0]["WORKER_HOSTS"] == "n1:2222,n1:2223,n2:2222,n2:2223"
    check_cluster(found, workers=4, ps=0)
    assert not set(DISTRIBUTED) & set(variables(None, {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "n1"}))


def test_c24_c25_a_master_beside_the_workers_is_the_only_master() -> None:
    addresses = {"master_hosts": ("m:1",), "worker_hosts": ("w:1",), "ps_hosts": ("p:1",)}
    of = [DistributedSpec(**addresses, role=role, index=0) for role in ("master", "worker", "ps")]  # type: ignore[arg-type]
    found = [variables(spec, {}) for spec in of]
    assert [one["IS_MASTER"] for one in found] == ["True", "False", "False"]
    assert {one["MASTER_HOSTS"] for one in found} == {"m:1"}
    ranks = [cluster_of(DistributedSpec(**addresses), scheduler_facts({"JOB_COMPLETION_INDEX": n})) for n in "012"]  # type: ignore[arg-type]
    assert [one and one.role for one in ranks] == ["master", "worker", "ps"]


@pytest.mark.parametrize(
    ("more", "hosts"),
    [
        ({}, "a a b b b"),
        ({"SLURM_DISTRIBUTION": "block:cyclic"}, "a a b b b"),
        ({"SLURM_DISTRIBUTION": "cyclic,NoPack"}, "a b a b b"),
        ({"SLURM_DISTRIBUTION": "plane", "SLURM_DIST_PLANESIZE": "2"}, "a a b b b"),
        ({"SLURM_DISTRIBUTION": "plane", "SLURM_DIST_PLANESIZE": "2", "SLURM_STEP_TASKS_PER_NODE": "4,1"}, "a a b a a"),
        ({"SLURM_DISTRIBUTION": "plane"}, ""),
        ({"SLURM_DISTRIBUTION": "arbitrary"}, ""),
        ({"SLURM_STEP_TASKS_PER_NODE": "2,2"}, ""),
        ({"SLURM_STEP_TASKS_PER_NODE": "2(x"}, ""),
        ({"SLURM_STEP_NODELIST": "a,b]"}, ""),
    ],
)
def test_ranks_are_on_the_hosts_that_slurm_says(more: dict[str, str], hosts: str) -> None:
    assert " ".join(scheduler_facts({**srun(1, 5, "a,b", "2,3"), **more}).hosts) == hosts


def test_c26_c27_job_of_one_task_has_none_of_the_variables_also_when_they_stand_around_it() -> None:
    around = {**dict.fromkeys(DISTRIBUTED, "x"), "OMPI_COMM_WORLD_SIZE": "2"}
    batch_script = {k: v for k, v in srun(0, 2, "n[1-2]", "1,1").items() if not k.startswith("SLURM_STEP")}
    for environ in ({}, batch_script, srun(0, 1, "n1", "1"), {"JOB_COMPLETION_INDEX": "1"}, {"SLURM_JOB_ID": "9"}):
        found = job_environment(
            JobSpec(name="j"), JobIdentity(id="7"), scheduler_facts(environ), {**around, **environ}, workdir="/"
        )
        assert not set(DISTRIBUTED) & set(found)
        mpi = {name for name in found if name.startswith(("OMPI_", "PMI_", "PMIX_", "MPI"))}
        assert mpi == {"OMPI_COMM_WORLD_SIZE"}  # the user's own; none of ours


def test_task_that_nobody_names_is_refused_before_it_runs() -> None:
    for spec in (ADDRESSES, DistributedSpec(hosts=("a", "b"))):
        cluster = cluster_of(spec, scheduler_facts({}))
        assert cluster is not None and (cluster.role, len(cluster.workers)) == (None, 2)
        with pytest.raises(UsageError, match="nobody says which task"):
            refuse_unknown_task(JobSpec(name="j", distributed=spec), scheduler_facts({}))
    refuse_unknown_task(JobSpec(name="j", distributed=ADDRESSES), scheduler_facts({"JOB_COMPLETION_INDEX": "2"}))
    assert cluster_of(DistributedSpec(role="ps", index=1), scheduler_facts({})) == Cluster(role="ps", index=1)


def test_more_parameter_servers_than_tasks_are_refused() -> None:
    for spec, environ in (
        (DistributedSpec(ps=2), srun(0, 2, "n[1-2]", "1,1")),
        (DistributedSpec(ps=2), {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "n1"}),
        (DistributedSpec(ps=2), {"JOB_COMPLETION_INDEX": "0"}),
    ):
        with pytest.raises(UsageError, match="parameter servers"):
            cluster_of(spec, scheduler_facts(environ))


def test_lists_that_no_program_can_be_told_are_left_out() -> None:
    found = variables(None, srun(7, 20_000, "n[0-19999]", "1(x20000)"))
    assert (found["TASK_INDEX"], "WORKER_HOSTS" in found) == ("7", False)
