"""Slurm's lists of hosts and of tasks on them, and what would like to be one."""

from __future__ import annotations

import re

import pytest

from stager.hostlist import MOST_HOSTS, expand_counts, expand_hosts


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("", ""),
        ("tux", "tux"),
        ("tux1,tux7,login-2.site", "tux1 tux7 login-2.site"),
        ("tux[1-3,5]", "tux1 tux2 tux3 tux5"),
        ("tux[8-11]", "tux8 tux9 tux10 tux11"),
        ("tux[08-11]", "tux08 tux09 tux10 tux11"),
        ("tux[098-101,7]", "tux098 tux099 tux100 tux101 tux7"),
        ("rack[0-1]n[1-2]", "rack0n1 rack0n2 rack1n1 rack1n2"),
        ("a[1-2]b[3][4-5]c", "a1b34c a1b35c a2b34c a2b35c"),
        ("train-[0-1].train-svc,x", "train-0.train-svc train-1.train-svc x"),
        ("n1,n1", "n1 n1"),
    ],
)
def test_list_is_expanded_in_its_order(text: str, hosts: str) -> None:
    assert " ".join(expand_hosts(text)) == hosts


def test_as_many_hosts_as_slurm_knows_are_expanded() -> None:
    hosts = expand_hosts(f"n[00000-{MOST_HOSTS - 1}]")
    assert (len(hosts), hosts[0], hosts[-1]) == (MOST_HOSTS, "n00000", f"n{MOST_HOSTS - 1}")


HOSTILE = [
    ",", "a,", ",a", "a,,b", "[", "]", "a[", "a]", "a[]", "a[1", "a1]", "a[1-]", "a[-1]", "a[1--2]", "a[2-1]", "a[1,]",
    "a[1-2-3]", "a[[1]]", "a[x]", "a[1 - 2]", "a b", "a\n", "a\0", "a;b", "$(x)", "bgp[000x133]", "a[\u0661-\u0663]",
    "hôte", f"n[0-{MOST_HOSTS}]", f"n[0-{MOST_HOSTS - 1}],m", "n[0-999999999999999999]", "n[0-9]" * 5,
    "[0-9]" * 100_000, "n[" + "1," * 70_000 + "1]", "n" * 254, "[" * 400_000, "n" * (1 << 21),
]  # fmt: skip


@pytest.mark.timeout(10)
@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_what_is_no_list_or_grows_without_bound_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=re.compile("host|range")):
        expand_hosts(text)


def test_numbers_of_tasks_are_expanded() -> None:
    assert expand_counts("") == ()
    assert expand_counts("2(x3),1") == (2, 2, 2, 1)
    for bad in ("2(x3", "x", "2,", "1(x99999999)", "-1", "2(x3)1", "1(x40000),1(x40000)"):
        with pytest.raises(ValueError, match="no number of tasks"):
            expand_counts(bad)
