"""What this process may take of the node, whether its clock can be right, and how it reaches others. Nothing is sent.

Sources: getrlimit(2), sched_getaffinity(2), the kernel's documentation of control groups (cpu.max of version 2;
cpu.cfs_quota_us and cpu.cfs_period_us of version 1), resolv.conf(5).
"""

from __future__ import annotations

import math
import os
import resource
import time
from collections.abc import Iterator, Mapping
from typing import Final

from stager.amounts import about_bytes
from stager.config import Limits
from stager.errors import UsageError
from stager.host.cgroups import groups_of
from stager.host.findings import Finding
from stager.host.memory import available_bytes
from stager.host.proxies import proxy_for

__all__ = ["clock", "cpus", "memory", "name_service", "open_files", "proxies"]

_FEW_FILES: Final = 1024
_FEW_BYTES: Final = 4 * Limits().memory_bytes
_DAY_S: Final = 86400.0
_TOO_LATE_S: Final = 4102444800.0  # the year 2100
_MOST_RESOLV_BYTES: Final = 1 << 16


def open_files() -> Finding:
    """How many files this process may open: connections are files."""
    soft, hard = (
        math.inf if limit == resource.RLIM_INFINITY else limit for limit in resource.getrlimit(resource.RLIMIT_NOFILE)
    )
    few = soft < _FEW_FILES
    return Finding(
        what="open files",
        found=f"{_number(soft)} at once ({_number(hard)} after ulimit -n)",
        state="lacking" if few else "ok",
        cost="fewer connections than help" if few else "",
        details={"soft": None if soft == math.inf else soft, "hard": None if hard == math.inf else hard},
    )


def _number(limit: float) -> str:
    return "any number" if limit == math.inf else f"{int(limit):,}"


def memory(proc: str = "/proc", sys_root: str = "") -> Finding:
    """What is left of the node's memory or, where that is less, of the control group's."""
    left = available_bytes(proc, sys_root)
    few = 0 < left < _FEW_BYTES
    return Finding(
        what="memory",
        found=f"{about_bytes(left)} left for stager and its job, control groups heeded" if left else "not known",
        state="lacking" if few else "ok",
        cost=f"ask for less than the {about_bytes(Limits().memory_bytes)} of receive buffers: --memory" if few else "",
        details={"available_bytes": left},
    )


def cpus(proc: str = "/proc", sys_root: str = "") -> Finding:
    """How many processors the affinity mask gives, and how many the control group's quota."""
    allowed = len(os.sched_getaffinity(0))
    quota = min(_cpu_quotas(proc, sys_root), default=math.inf)
    limited = "" if quota >= allowed else f", a control group's quota of {quota:g}"
    return Finding(
        what="processors",
        found=f"{allowed} of {os.cpu_count() or allowed}{limited}",
        details={"allowed": allowed, "quota": None if quota == math.inf else quota},
    )


def _cpu_quotas(proc: str, sys_root: str) -> Iterator[float]:
    top = f"{sys_root}/sys/fs/cgroup"
    for version, group in groups_of("cpu", proc):
        quota = _quota_v2(top + group) if version == 2 else _quota_v1(f"{top}/cpu{group}")
        if quota is not None:
            yield quota


def _quota_v2(group: str) -> float | None:
    try:
        with open(f"{group}/cpu.max", encoding="ascii") as file:
            quota, period = file.read().split()
        return int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):  # "max" is no number
        return None


def _quota_v1(group: str) -> float | None:
    try:
        with open(f"{group}/cpu.cfs_quota_us", encoding="ascii") as file:
            quota = int(file.read())
        with open(f"{group}/cpu.cfs_period_us", encoding="ascii") as file:
            return quota / int(file.read()) if quota > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None


def clock(now_s: float | None = None, *, proc: str = "/proc", own_file: str = __file__) -> Finding:
    """Whether the clock can be right: after this program was installed, and after a boot that was after 1980."""
    now = time.time() if now_s is None else now_s
    earliest = max(_time_of(own_file), _boot(proc))
    wrong = "" if earliest - _DAY_S <= now < _TOO_LATE_S else "it cannot be right: it is " + (
        "later than the year 2099" if now >= _TOO_LATE_S else "earlier than files and boot say"
    )
    shown = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
    return Finding(
        what="clock",
        found=shown + (f"; {wrong}" if wrong else ""),
        state="problem" if wrong else "ok",
        cost="servers refuse what is signed more than 15 minutes off, and certificates look invalid" if wrong else "",
        details={"time": shown},
    )


def _time_of(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0


def _boot(proc: str) -> float:
    try:
        with open(f"{proc}/stat", encoding="ascii") as file:
            return float(next(line.split()[1] for line in file if line.startswith("btime ")))
    except (OSError, ValueError, IndexError, StopIteration):
        return 0.0


def name_service(path: str = "/etc/resolv.conf") -> Finding:
    """Who is asked for the addresses of hosts."""
    servers, search = _resolv_conf(path)
    text = ", ".join(servers) + (f"; searching {' '.join(search)}" if search else "")
    return Finding(
        what="name servers",
        found=text or "none",
        state="ok" if servers else "lacking",
        cost="" if servers else "only hosts of /etc/hosts, and addresses, can be reached",
        details={"servers": servers, "search": search},
    )


def _resolv_conf(path: str) -> tuple[list[str], list[str]]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = [line.split() for line in file.read(_MOST_RESOLV_BYTES).splitlines()]
    except OSError:
        return [], []
    servers = [words[1] for words in lines if len(words) > 1 and words[0] == "nameserver"]
    searches = [words[1:] for words in lines if len(words) > 1 and words[0] in ("search", "domain")]
    return servers, searches[-1] if searches else []


def proxies(environ: Mapping[str, str]) -> Finding:
    """The proxies of the environment, without who one is to them."""
    found: dict[str, str] = {}
    wrong = ""
    for scheme in ("https", "http"):
        try:
            proxy = proxy_for(f"{scheme}://host.invalid/", None, {**environ, "NO_PROXY": "", "no_proxy": ""})
        except UsageError as error:
            wrong = wrong or str(error)
            continue
        if proxy is not None:
            user = ", with a user" if proxy.user is not None else ""
            found[scheme] = f"{proxy.url} ({proxy.setting}{user})"
    exempt = environ.get("no_proxy", environ.get("NO_PROXY", "")).strip()
    text = ", ".join(f"{scheme} by {proxy}" for scheme, proxy in found.items())
    text += f"; not for {exempt}" if found and exempt else ""
    return Finding(
        what="proxies",
        found=wrong or text or "none",
        state="problem" if wrong else "ok",
        cost="https and http cannot be reached" if wrong else "",
        details={**found, "no_proxy": exempt},
    )
