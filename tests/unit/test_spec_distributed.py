"""``[distributed]``, instances and the shim in a job file: what is taken, and every mistake at once."""

from __future__ import annotations

import pytest

from stager.errors import SpecError
from stager.model import JobSpec
from stager.stages.spec import parse_spec
from stager.tasks import DistributedSpec, Instances
from stager.variables import OWN_NAMES

HEAD = 'version = 1\n[job]\nname = "j"\n'


def parse(text: str) -> JobSpec:
    return parse_spec((HEAD + text).encode(), where="JOB.toml", base="/base")


def problems(text: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        parse(text)
    return list(caught.value.problems)


def test_tasks_are_addresses_or_hosts() -> None:
    spec = parse('[distributed]\nworker_hosts = ["10.0.0.1:2222", "[fe80::1]:2222"]\nps_hosts = ["p.x:1"]\n')
    assert spec.distributed == DistributedSpec(worker_hosts=("10.0.0.1:2222", "[fe80::1]:2222"), ps_hosts=("p.x:1",))
    spec = parse('[distributed]\nhosts = "train-[0-2].train"\nps = 1\nport = 2300\nrole = "ps"\nindex = 0\n')
    assert spec.distributed == DistributedSpec(
        hosts=("train-0.train", "train-1.train", "train-2.train"), ps=1, port=2300, role="ps", index=0
    )
    assert parse('[distributed]\nhosts = ["a", "b[1-2]"]\n').distributed == DistributedSpec(hosts=("a", "b1", "b2"))
    assert parse("[distributed]\n").distributed == DistributedSpec()
    assert parse("").distributed is None


def test_instances_and_the_shim_are_the_jobs() -> None:
    assert parse("instances = 3\n").instances == Instances(ids=(0, 1, 2))
    assert parse('instances = "1-2,9"\nclusterone_shim = true\n').instances == Instances(ids=(1, 2, 9))
    assert parse("clusterone_shim = true\n").clusterone_shim


def test_every_mistake_is_told_at_once() -> None:
    found = problems(
        """instances = "5-1,a"
[distributed]
role = "ps"
index = 4
worker_hosts = ["a:1", "a", "b:0", "b:70000", "x y:1", "a,b:1"]
ps_hosts = ["a:1"]
hosts = "n[3-1]"
port = 0
ps = -1
"""
    )
    for said in (
        "job.instances (line 4): 5-1 counts down", "job.instances (line 4): 'a' is neither",
        "distributed.worker_hosts (line 8): 'a' is not HOST:PORT", "'b:0' is not", "'b:70000' is not", "'x y:1' is not",
        "'a,b:1' is not", "'a:1' is the address of two tasks", "no range of numbers", "not both", "4 is no ps",
        "0 is no port", "-1 parameter servers",
    ):  # fmt: skip
        assert any(said in line for line in found), said
    assert len(found) == 13


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('role = "chief"\n', "write one of master, worker, ps"),
        ('role = "worker"\n', "distributed.index"),
        ("index = 0\n", "distributed.role"),
        ('role = "master"\nworker_hosts = ["a:1"]\n', "no task could find the master"),
        ('ps_hosts = ["a:1"]\n', "distributed.worker_hosts"),
        ('master_hosts = ["a:1", "b:1"]\nworker_hosts = ["c:1"]\n', "there is one master"),
        ('hosts = "n[1-2]"\nps = 2\n', "leave no worker"),
        ('hosts = "n[1-20000]"\n', "longer than what a program can be told"),
        ('hosts = ["n", "n"]\nport = 65535\n', "ports beyond 65535"),
        ('host = "n"\n', "did you mean hosts?"),
        ('role = "worker"\nindex = -1\nhosts = "n"\n', "-1 is no worker"),
    ],
)
def test_mistake_is_told_with_what_is_right(text: str, said: str) -> None:
    assert any(said in line for line in problems(f"[distributed]\n{text}"))


@pytest.mark.parametrize("name", [*OWN_NAMES, "STAGER_X", "CLUSTERONE_CLOUD"])
def test_variables_that_stager_sets_are_nobody_elses(name: str) -> None:
    assert any("is set by stager" in line for line in problems(f'environment = {{ {name} = "x" }}\n'))
