"""What a job of root keeps of root's powers, and why; a job of an ordinary user keeps nothing.

The job of root runs in a user namespace that maps every id to itself, so whatever is kept here reaches files and
processes but not the kernel: each capability that acts on the whole machine is void there anyway. Names and
numbers: capabilities(7), include/uapi/linux/capability.h.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from stager.host import rights_calls, syscalls

__all__ = ["CAPABILITIES", "Capability", "kept_by_root", "restrict"]


class Capability(NamedTuple):
    """A capability, whether a job of root keeps it, and the reason."""

    number: int
    name: str
    kept: bool
    reason: str


CAPABILITIES: Final = (
    Capability(0, "CHOWN", True, "installs and unpacks files of several owners"),
    Capability(1, "DAC_OVERRIDE", True, "root reads and writes whatever is not mounted read-only"),
    Capability(2, "DAC_READ_SEARCH", False, "open_by_handle_at finds a writable way to read-only data"),
    Capability(3, "FOWNER", True, "chmod and utime of files of several owners"),
    Capability(4, "FSETID", True, "keeps set-group-id bits on directories"),
    Capability(5, "KILL", True, "ends its own children that changed their uid"),
    Capability(6, "SETGID", True, "steps down to a service's group"),
    Capability(7, "SETUID", True, "steps down to a service's user"),
    Capability(8, "SETPCAP", False, "changes capability sets and securebits"),
    Capability(9, "LINUX_IMMUTABLE", False, "takes the immutable flag off protected files"),
    Capability(10, "NET_BIND_SERVICE", True, "low ports of a network namespace of its own"),
    Capability(11, "NET_BROADCAST", False, "unused by the kernel"),
    Capability(12, "NET_ADMIN", False, "redirects the traffic of stager and of other jobs"),
    Capability(13, "NET_RAW", False, "reads the traffic of stager and of other jobs"),
    Capability(14, "IPC_LOCK", True, "locks its own memory"),
    Capability(15, "IPC_OWNER", False, "opens other jobs' shared memory"),
    Capability(16, "SYS_MODULE", False, "puts code into the kernel"),
    Capability(17, "SYS_RAWIO", False, "raw memory, ports and disk commands"),
    Capability(18, "SYS_CHROOT", False, "the classic way out of a root directory; setns into a mount namespace"),
    Capability(19, "SYS_PTRACE", False, "/proc/PID/root of a host process leads out of the view"),
    Capability(20, "SYS_PACCT", False, "writes accounting of the whole node"),
    Capability(21, "SYS_ADMIN", False, "mount, umount, remount"),
    Capability(22, "SYS_BOOT", False, "restarts the node or loads another kernel"),
    Capability(23, "SYS_NICE", True, "priority and affinity of its own processes"),
    Capability(24, "SYS_RESOURCE", True, "limits of its own processes"),
    Capability(25, "SYS_TIME", False, "sets the node's clock"),
    Capability(26, "SYS_TTY_CONFIG", False, "hangs up other sessions' terminals"),
    Capability(27, "MKNOD", False, "makes the device of the disk under the view"),
    Capability(28, "LEASE", False, "blocks other processes' opens"),
    Capability(29, "AUDIT_WRITE", False, "forges the audit log"),
    Capability(30, "AUDIT_CONTROL", False, "switches auditing off"),
    Capability(31, "SETFCAP", True, "maps root into a namespace, as bwrap does (Linux 5.12); gives no more than suid"),
    Capability(32, "MAC_OVERRIDE", False, "goes around mandatory access control"),
    Capability(33, "MAC_ADMIN", False, "changes mandatory access control"),
    Capability(34, "SYSLOG", False, "kernel addresses and the kernel's log"),
    Capability(35, "WAKE_ALARM", False, "wakes the node"),
    Capability(36, "BLOCK_SUSPEND", False, "keeps the node awake"),
    Capability(37, "AUDIT_READ", False, "reads the audit log"),
    Capability(38, "PERFMON", False, "watches other processes and the kernel"),
    Capability(39, "BPF", False, "programs that read and change kernel memory"),
    Capability(40, "CHECKPOINT_RESTORE", False, "opens any process's files through map_files"),
)


def kept_by_root() -> int:
    """The bit mask of what a job of root keeps."""
    return sum(1 << capability.number for capability in CAPABILITIES if capability.kept)


def restrict(keep: int) -> None:
    """Leave this process, and whatever it executes, with no more than the capabilities in ``keep``.

    Capabilities that the running kernel has and this table does not know are dropped too. ``OSError`` when the
    process has no right to change its sets.
    """
    for number in range(_last_capability() + 1):
        if not keep >> number & 1:
            syscalls.drop_bounding_capability(number)
    syscalls.clear_ambient_capabilities()
    rights_calls.set_capabilities(effective=keep, permitted=keep)


def _last_capability() -> int:
    with open("/proc/sys/kernel/cap_last_cap", "rb") as file:
        return int(file.read())
