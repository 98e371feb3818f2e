"""The user on whose behalf root's stager acts: found once, before anything is read, and become for good.

Who that is says whoever starts stager (``--as-user``) or the scheduler (SLURM_JOB_UID); never a job file. What the
user's own login would give, the process gets: ids, all groups, home, a clean environment. Nothing of root's goes along:
no variable, descriptor, capability, kernel key, terminal or scheduling right.
"""

from __future__ import annotations

import os
import pwd
import re
import resource
from collections.abc import Mapping
from contextlib import suppress
from typing import Final, NamedTuple

from stager.errors import HostError, UsageError
from stager.host import rights_calls, syscalls

__all__ = ["SLURM", "Principal", "be_ordinary", "become", "environment_of", "find_principal", "slurm_principal"]

SLURM: Final = "slurm"
"""In the place of a user: whose the Slurm job is that this runs for. The user of that name goes by number."""

_JOB_UID: Final = "SLURM_JOB_UID"
_UID: Final = re.compile(r"[0-9]{1,10}")
_KEPT: Final = re.compile(
    r"LANG|LANGUAGE|LC_[A-Z]+|TZ|TERM|COLUMNS|LINES|NO_COLOR|STAGER_SCRATCH"
    r"|SLURM_(?!.*(?:JWT|TOKEN|KEY|SECRET|PASS))[A-Z0-9_]+"  # SLURM_JWT is who one is to Slurm
)
_PROXY: Final = re.compile(r"(?:HTTPS?|ALL|NO)_PROXY", re.IGNORECASE)
_PATH: Final = "/usr/local/bin:/usr/bin:/bin"
_OTHERS_WRITE: Final = 0o022
_CAPABILITIES: Final = (b"CapInh", b"CapPrm", b"CapEff", b"CapAmb")


class Principal(NamedTuple):
    """A user as the node's user database has it; ``groups`` holds ``gid`` too."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    name: str
    home: str
    shell: str


def find_principal(asked: str, environ: Mapping[str, str]) -> Principal:
    """The user of this name or number; `SLURM`: as `slurm_principal`.

    Raises `UsageError`: there is none of that name. Blocks: the database may be a server.
    """
    if asked == SLURM:
        return slurm_principal(environ)
    try:
        entry = pwd.getpwuid(int(asked)) if _UID.fullmatch(asked) else pwd.getpwnam(asked)
    except (KeyError, ValueError, OverflowError):
        raise UsageError(f"there is no user {asked[:80]!a}", where="--as-user", hint="a name or a number") from None
    return _principal_of(entry)


def slurm_principal(environ: Mapping[str, str]) -> Principal:
    """Whose the Slurm job is: SLURM_JOB_UID, which root has from slurmd. Raises `UsageError`: it is not set. Blocks."""
    number = environ.get(_JOB_UID, "")
    if not _UID.fullmatch(number):
        raise UsageError(
            f"{_JOB_UID} is no number: Slurm sets it for its prolog and epilog", where="--as-user",
            hint="say the user, or call it from there",
        )  # fmt: skip
    try:
        return _principal_of(pwd.getpwuid(int(number)))
    except (KeyError, OverflowError):
        raise UsageError(f"this node knows no user {number}", where=_JOB_UID, hint="look at getent passwd") from None


def _principal_of(entry: pwd.struct_passwd) -> Principal:
    groups = tuple(dict.fromkeys((entry.pw_gid, *os.getgrouplist(entry.pw_name, entry.pw_gid))))
    return Principal(entry.pw_uid, entry.pw_gid, groups, entry.pw_name, entry.pw_dir, entry.pw_shell)


def environment_of(principal: Principal, environ: Mapping[str, str]) -> dict[str, str]:
    """What the user's stager is started with: of root's own only how to speak, which job of Slurm's it is, where
    scratch is, and proxies without a password.
    """
    kept = {name: value for name, value in environ.items() if _KEPT.fullmatch(name)}
    proxies = {name: value for name, value in environ.items() if _PROXY.fullmatch(name) and "@" not in value}
    own = {
        "HOME": principal.home or "/",
        "USER": principal.name,
        "LOGNAME": principal.name,
        "SHELL": principal.shell or "/bin/sh",
        "PATH": _PATH,
    }
    return {**kept, **proxies, **own}


def become(principal: Principal) -> None:
    """Make this process, which has one thread and is root's, the user's for good; execute something afterwards.

    Until then nobody may look into it: the kernel sees to that when ids change, and it is said before as well.
    Raises `HostError`: this process may not, or something of root's would stay.
    """
    here = os.getcwd()
    rights_calls.hide_process()
    os.setsid()  # a terminal of root's takes no input from the user's processes
    be_ordinary()
    try:
        os.setgroups(principal.groups)
        os.setresgid(principal.gid, principal.gid, principal.gid)
        os.setresuid(principal.uid, principal.uid, principal.uid)
        rights_calls.set_capabilities(effective=0, permitted=0)
        syscalls.clear_ambient_capabilities()
    except OSError as error:
        raise HostError(
            f"cannot become {principal.name}: {error.strerror}", where=f"user {principal.uid}",
            hint="this takes root's rights on the node itself",
        ) from error
    _prove(principal)
    try:
        os.chdir(here)  # by its path, as the user
    except OSError as error:
        raise HostError(
            f"{principal.name} may not enter it: {error.strerror}", where=here, hint="start stager elsewhere: cd /"
        ) from error


def be_ordinary() -> None:
    """Of this process and all that it starts: kernel keys of its own, no priority before others, no protection when
    memory is short, and no files that everybody may write.
    """
    rights_calls.leave_keyring()
    os.umask(os.umask(_OTHERS_WRITE) | _OTHERS_WRITE)
    for limit in (resource.RLIMIT_RTPRIO, resource.RLIMIT_NICE):
        resource.setrlimit(limit, (0, 0))
    with suppress(OSError):
        if os.sched_getscheduler(0) in (os.SCHED_FIFO, os.SCHED_RR):
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        if os.getpriority(os.PRIO_PROCESS, 0) < 0:
            os.setpriority(os.PRIO_PROCESS, 0, 0)
    with suppress(OSError, ValueError), open("/proc/self/oom_score_adj", "r+", encoding="ascii") as file:
        if int(file.read()) < 0:
            file.seek(0)
            file.write("0")


def _prove(principal: Principal) -> None:
    with open("/proc/self/status", "rb") as file:
        fields = dict(line.split(b":", 1) for line in file if b":" in line)
    ids = os.getresuid() == (principal.uid,) * 3 and os.getresgid() == (principal.gid,) * 3
    groups = set(os.getgroups()) == set(principal.groups)
    if not (ids and groups and all(int(fields.get(name, b"0"), 16) == 0 for name in _CAPABILITIES)):
        raise HostError("something of root's stays", where=f"user {principal.uid}", hint="please report this: a bug")
