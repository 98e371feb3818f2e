"""A Slurm of one node on loopback: slurmctld and slurmd on free ports, without munge (auth/none), ended by their ids.

What the daemons and jobs see of the file system is that of the mount namespace they are started in. Everybody may
submit, and is believed to be who they are.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

from servers.process import ServerFailedError, ServerProcess, free_ports

__all__ = ["Job", "Slurm", "slurm"]

T = TypeVar("T")
_KNOW_THE_NODE = 'cat /etc/hosts > "$1"; echo "127.0.0.1 $2" >> "$1"; mount --bind "$1" /etc/hosts'
"""Tasks call srun back by the node's name."""

NODE = socket.gethostname().partition(".")[0]
CPUS = 8
"""More than the machine has, as far as Slurm is concerned: that many tasks run at once."""
_LOOK_EVERY_S = 0.05
_ENDS_WITHIN_S = 110.0
_RUNS = frozenset({"PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "REQUEUED"})


class Job(NamedTuple):
    """What `scontrol show job` says of it."""

    state: str
    exit_code: str


class Slurm:
    """``enter`` makes of a command one that runs where the daemons do."""

    def __init__(self, home: Path, enter: Callable[..., list[str]], daemons: list[ServerProcess]) -> None:
        self.home = home
        self._enter = enter
        self._environment = {**os.environ, **_environment(home)}
        self._daemons = daemons

    def run(self, *argv: str, user: int = 0, cwd: str = "/") -> str:
        """A command of Slurm's; what it prints."""
        become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
        done = subprocess.run(
            self._enter(*become, "env", f"--chdir={cwd}", *argv), env=self._environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def submit(self, script: str, *options: str, user: int, cwd: str) -> str:
        """The number of a new batch job; it runs ``script`` in bash."""
        return self.run("sbatch", "--parsable", *options, f"--wrap={script}", user=user, cwd=cwd).strip()

    def job(self, number: str) -> Job:
        """How far it is."""
        lines = self.run("scontrol", "show", "job", "--oneliner", number).splitlines()  # of all tasks of an array
        line = next((line for line in lines if line.startswith(f"JobId={number} ")), lines[0])
        words = dict(word.partition("=")[::2] for word in line.split())
        return Job(words["JobState"], words["ExitCode"])

    def wait(self, *numbers: str) -> list[Job]:
        """The jobs, once they and their epilogs have ended."""
        return [self.wait_for(number, lambda job: job.state not in _RUNS) for number in numbers]

    def wait_for(self, number: str, reached: Callable[[Job], bool]) -> Job:
        """The job, once it is so far."""
        return self._wait(lambda: self.job(number), reached)

    def numbers_of(self, array: str, tasks: int) -> list[str]:
        """The numbers that the tasks of an array have as jobs, once each has one."""

        def numbers() -> list[str]:
            lines = self.run("scontrol", "show", "job", "--oneliner", array).splitlines()
            return [line.partition(" ")[0].removeprefix("JobId=") for line in lines]

        return self._wait(numbers, lambda found: len(found) == tasks)

    def resume(self) -> None:
        """Let the node take jobs again."""
        self.run("scontrol", "update", f"NodeName={NODE}", "State=RESUME")
        self.wait_for_node("idle")

    def wait_for_node(self, state: str) -> str:
        """Its state, which begins with this one, and the reason."""
        return self._wait(self.node_state, lambda found: found.startswith(state))

    def node_state(self) -> str:
        """As `sinfo` has it, and why."""
        return self.run("sinfo", "--noheader", "--format=%T %E").splitlines()[0]

    def log(self) -> str:
        """What the daemons have said."""
        return "".join(daemon.log() for daemon in self._daemons)

    def _wait(self, ask: Callable[[], T], reached: Callable[[T], bool]) -> T:
        deadline_s = time.monotonic() + _ENDS_WITHIN_S
        while not reached(found := ask()):
            if time.monotonic() > deadline_s:
                raise ServerFailedError(f"still {found}\n{self.log()}")
            time.sleep(_LOOK_EVERY_S)
        return found


@contextmanager
def slurm(home: Path, enter: Callable[..., list[str]], scripts: Mapping[str, Path]) -> Iterator[Slurm]:
    """``scripts``: Prolog, TaskProlog and Epilog of slurm.conf. ``home`` can be read by everybody.

    Partitions: "whole", where a job has the node alone, and "shared". ServerFailedError: it does not start.
    """
    for name in ("state", "spool"):
        (home / name).mkdir()
    (home / "slurm.conf").write_text(_config(home, scripts))
    environment = _environment(home)
    subprocess.run(enter("sh", "-ec", _KNOW_THE_NODE, "sh", str(home / "hosts"), NODE), check=True)
    commands = [[name, "-D", "-f", str(home / "slurm.conf")] for name in ("slurmctld", "slurmd")]
    try:
        with (
            ServerProcess(enter(*commands[0]), env=environment) as controller,
            ServerProcess(enter(*commands[1]), env=environment) as daemon,
        ):
            here = Slurm(home, enter, [controller, daemon])

            def answers() -> bool:
                try:
                    return here.node_state().startswith("idle")
                except AssertionError:
                    return False

            daemon.wait_ready(answers)
            yield here
    finally:
        _end_steps(environment["SLURM_CONF"])


def _end_steps(conf: str) -> None:
    """What jobs of this Slurm have left: a step outlives its daemons for minutes, to tell them of its end."""
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with suppress(OSError):
                if f"SLURM_CONF={conf}".encode() in (process / "environ").read_bytes().split(b"\0"):
                    os.kill(int(process.name), signal.SIGKILL)


def _environment(home: Path) -> dict[str, str]:
    return {"SLURM_CONF": str(home / "slurm.conf"), "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}


def _config(home: Path, scripts: Mapping[str, Path]) -> str:
    """slurm.conf(5). A credential is old at once, for a job that is requeued waits for that."""
    controller, daemon = free_ports(2)
    named = "".join(f"{name}={path}\n" for name, path in scripts.items())
    return f"""
ClusterName=tests
SlurmctldHost={NODE}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={daemon}
SlurmUser=root
SlurmdUser=root
AuthType=auth/none
CredType=cred/none
AuthInfo=cred_expire=5
StateSaveLocation={home}/state
SlurmdSpoolDir={home}/spool
SlurmctldPidFile={home}/slurmctld.pid
SlurmdPidFile={home}/slurmd.pid
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=1
PrologFlags=Alloc
KillWait=1
ReturnToService=1
SlurmdDebug=info
{named}
NodeName={NODE} NodeAddr=127.0.0.1 CPUs={CPUS} State=UNKNOWN
PartitionName=shared Nodes={NODE} Default=YES State=UP
PartitionName=whole Nodes={NODE} OverSubscribe=EXCLUSIVE State=UP
"""
