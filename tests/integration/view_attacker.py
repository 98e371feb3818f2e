"""What a hostile job tries. Runs inside the view; prints, for each attempt, the errno it met or "done".

With ``nested`` as the first argument everything is tried in a user and mount namespace made by the job itself,
where it has every capability. Several attempts follow one another with ``+`` between them.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable

LIBC = ctypes.CDLL(None, use_errno=True)
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_MOVE, MS_PRIVATE = 1, 32, 4096, 16384, 8192, 1 << 18
MNT_DETACH = 2
NEWNS, NEWUSER = 0x20000, 0x10000000
OPEN_TREE, FSCONFIG, FSPICK, PIDFD_OPEN, PIDFD_GETFD, MOUNT_SETATTR = 428, 431, 433, 434, 438, 442
PTRACE_SEIZE = 0x4206
met: dict[str, str] = {}


def attempt(name: str, action: Callable[[], object]) -> None:
    try:
        action()
        met[name] = "done"
    except OSError as error:
        met[name] = errno.errorcode[error.errno or 0]


def check(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def mount(source: str | None, target: str, flags: int, fstype: str | None = None) -> None:
    words = [None if word is None else os.fsencode(word) for word in (source, target, fstype)]
    check(LIBC.mount(*words, ctypes.c_ulong(flags), None))


def unmount(target: str) -> None:
    check(LIBC.umount2(os.fsencode(target), MNT_DETACH))


def clear_read_only(target: str) -> None:
    attributes = (ctypes.c_uint64 * 4)(0, 1, 0, 0)
    check(LIBC.syscall(MOUNT_SETATTR, -100, os.fsencode(target), 0x8000, attributes, 32))


def write(path: str) -> None:
    with open(os.open(path, os.O_WRONLY), "w") as file:
        file.write("stolen")


def nest() -> None:
    """Every capability in a namespace of one's own; they last without a map too, which root's job may not write."""
    uid, gid = os.geteuid(), os.getegid()
    check(LIBC.unshare(NEWUSER | NEWNS))
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with contextlib.suppress(PermissionError), open(f"/proc/self/{name}", "w") as file:
            file.write(text)
    with open("/proc/self/status") as file:
        assert "CapEff:\t0000000000000000" not in file.read()


def change(*directories: str) -> None:
    """Every kind of change to a directory and the file train.txt in it."""
    for top in directories:
        attempt(f"write {top}", lambda top=top: write(f"{top}/train.txt"))
        attempt(f"create {top}", lambda top=top: os.close(os.open(f"{top}/new", os.O_CREAT | os.O_WRONLY)))
        attempt(f"remove {top}", lambda top=top: os.unlink(f"{top}/train.txt"))
        attempt(f"rename {top}", lambda top=top: os.rename(f"{top}/train.txt", f"{top}/other"))
        attempt(f"chmod {top}", lambda top=top: os.chmod(f"{top}/train.txt", 0o700))
        attempt(f"touch {top}", lambda top=top: os.utime(f"{top}/train.txt"))
        attempt(f"truncate {top}", lambda top=top: os.truncate(f"{top}/train.txt", 0))


def undo(public: str, original: str, masked: str) -> None:
    """Mount calls that would take the view apart."""
    for path in (public, original):
        attempt(f"remount {path}", lambda path=path: mount(None, path, MS_REMOUNT | MS_BIND))
        attempt(f"mount_setattr {path}", lambda path=path: clear_read_only(path))
    for path in (public, original, masked, "/dev/null", "/"):
        attempt(f"umount {path}", lambda path=path: unmount(path))
    elsewhere = tempfile.mkdtemp()
    attempt("move public", lambda: mount(public, elsewhere, MS_MOVE))
    attempt("move cover", lambda: mount(original, elsewhere, MS_MOVE))
    attempt("bind below the mask", lambda: mount(os.path.dirname(masked), elsewhere, MS_BIND))
    with contextlib.suppress(OSError):
        os.rmdir(elsewhere)
    attempt("write public", lambda: write(f"{public}/train.txt"))
    attempt("write original", lambda: write(f"{original}/train.txt"))
    attempt("write mask", lambda: write(f"{masked}/job-2/data/secret"))


class Handle(ctypes.Structure):
    _fields_ = [("size", ctypes.c_uint), ("kind", ctypes.c_int), ("data", ctypes.c_ubyte * 128)]


def handle(public: str, *writable: str) -> None:
    """A file handle made on the read-only mount, opened through mounts of the same file system that are not."""
    found, number = Handle(128), ctypes.c_int()
    check(
        LIBC.name_to_handle_at(-100, os.fsencode(f"{public}/train.txt"), ctypes.byref(found), ctypes.byref(number), 0)
    )

    def open_through(path: str) -> None:
        top = os.open(path, os.O_RDONLY)
        file = LIBC.open_by_handle_at(top, ctypes.byref(found), os.O_WRONLY)
        check(file)
        os.write(file, b"stolen")

    for path in writable:
        attempt(f"handle {path}", lambda path=path: open_through(path))


def descriptors() -> None:
    """Whatever descriptor stager left open."""
    for number in range(3, 1024):
        with contextlib.suppress(OSError):
            os.fstat(number)
            met[f"descriptor {number}"] = os.readlink(f"/proc/self/fd/{number}")
            attempt(f"open at {number}", lambda number=number: os.close(os.open(".", os.O_RDONLY, dir_fd=number)))


def stdin() -> None:
    """The file that standard input is, opened again."""
    met["read"] = sys.stdin.readline()
    attempt("write", lambda: write("/proc/self/fd/0"))


def disk(block: str, node: str, device: str) -> None:
    """The disk under a read-only mount."""
    number = os.makedev(*map(int, device.split(":")))
    attempt("open block device", lambda: os.close(os.open(block, os.O_RDWR)))
    attempt("open device file elsewhere", lambda: os.close(os.open(node, os.O_RDWR)))
    for directory in ("/tmp", "/logs", "/dev"):
        path = f"{directory}/stager-view-node"
        attempt(f"mknod {directory}", lambda path=path: os.mknod(path, stat.S_IFBLK | 0o666, number))
        attempt(f"open {directory}", lambda path=path: os.close(os.open(path, os.O_RDWR)))
        with contextlib.suppress(OSError):
            os.unlink(path)


def processes(target: str, *pids: str) -> None:
    """A host process as a door: its root directory, its memory, its namespaces, its control by ptrace."""
    for pid in pids:
        attempt(f"root {pid}", lambda pid=pid: write(f"/proc/{pid}/root{target}"))
        attempt(f"cwd {pid}", lambda pid=pid: os.listdir(f"/proc/{pid}/cwd/"))
        attempt(f"memory {pid}", lambda pid=pid: os.close(os.open(f"/proc/{pid}/mem", os.O_RDWR)))
        attempt(f"namespace {pid}", lambda pid=pid: os.close(os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY)))
        attempt(f"ptrace {pid}", lambda pid=pid: check(LIBC.ptrace(16, int(pid), 0, 0)))


def doors(target: str) -> None:
    """Every process that is not of this job, by every way into it that the kernel has; told by the way alone."""
    own = os.stat("/proc/self/ns/user").st_ino
    tried = 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if os.stat(f"/proc/{pid}/ns/user").st_ino == own:
                continue
        tried += 1
        for name, action in WAYS.items():
            before = met.get(name)
            attempt(name, lambda pid=pid, action=action: action(pid, target))
            if before == "done":
                met[name] = before
    met["tried"] = str(tried)


def take_descriptor(pid: str, _: str) -> None:
    process = LIBC.syscall(PIDFD_OPEN, int(pid), 0)
    check(process)
    try:
        check(LIBC.syscall(PIDFD_GETFD, process, 0, 0))
    finally:
        os.close(process)


def enter_mounts(pid: str, _: str) -> None:
    process = LIBC.syscall(PIDFD_OPEN, int(pid), 0)
    check(process)
    try:
        check(LIBC.setns(process, NEWNS))
    finally:
        os.close(process)


def read_memory(pid: str, _: str) -> None:
    buffer = ctypes.create_string_buffer(8)
    here, there = (ctypes.c_uint64 * 2)(ctypes.addressof(buffer), 8), (ctypes.c_uint64 * 2)(0, 8)
    result = LIBC.process_vm_readv(int(pid), here, 1, there, 1, 0)
    if result < 0 and ctypes.get_errno() != errno.EFAULT:  # the address is none: who gets so far may read
        check(result)


WAYS: dict[str, Callable[[str, str], object]] = {
    "root": lambda pid, target: write(f"/proc/{pid}/root{target}"),
    "cwd": lambda pid, _: os.listdir(f"/proc/{pid}/cwd/"),
    "executable": lambda pid, _: os.close(os.open(f"/proc/{pid}/exe", os.O_RDONLY)),
    "descriptor": lambda pid, _: os.close(os.open(f"/proc/{pid}/fd/0", os.O_RDONLY | os.O_NONBLOCK)),
    "mapped files": lambda pid, _: os.listdir(f"/proc/{pid}/map_files") or refuse(errno.ENOENT),  # a kernel thread's
    "environment": lambda pid, _: os.close(os.open(f"/proc/{pid}/environ", os.O_RDONLY)),
    "memory": lambda pid, _: os.close(os.open(f"/proc/{pid}/mem", os.O_RDWR)),
    "task root": lambda pid, target: write(f"/proc/{pid}/task/{pid}/root{target}"),
    "namespace": lambda pid, _: os.close(os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY)),
    "take descriptor": take_descriptor,
    "enter mounts": enter_mounts,
    "read memory": read_memory,
    "trace": lambda pid, _: check(LIBC.ptrace(PTRACE_SEIZE, int(pid), 0, 0)),
}


def clones(*tops: str) -> None:
    """Copies of mounts by the newer calls, with and without what covers them, their flags taken away."""
    for top in tops:
        for recursive in (0, 0x8000):
            name = f"clone{' all' if recursive else ''} {top}"
            attempt(name, lambda top=top, recursive=recursive: write_in_clone(top, recursive))
        attempt(f"reconfigure {top}", lambda top=top: reconfigure(top))


def write_in_clone(top: str, recursive: int) -> None:
    tree = LIBC.syscall(OPEN_TREE, -100, os.fsencode(top), 1 | recursive)
    check(tree)
    try:
        attributes = (ctypes.c_uint64 * 4)(0, 1, 0, 0)
        with contextlib.suppress(OSError):
            check(LIBC.syscall(MOUNT_SETATTR, tree, b"", 0x1000 | recursive, attributes, 32))
        for path in ("train.txt", "imagenet/train.txt", "job-2/data/secret", "scratch/job-2/data/secret"):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                os.close(os.open(path, os.O_WRONLY, dir_fd=tree))
                return
        raise FileNotFoundError(errno.ENOENT, "nothing there")
    finally:
        os.close(tree)


def reconfigure(top: str) -> None:
    """Of the whole file system: its options, not the mount's."""
    context = LIBC.syscall(FSPICK, -100, os.fsencode(top), 0)
    check(context)
    try:
        check(LIBC.syscall(FSCONFIG, context, 0, b"rw", None, 0))
        check(LIBC.syscall(FSCONFIG, context, 7, None, None, 0))
    finally:
        os.close(context)


def own_mounts(program: str, *tops: str) -> None:
    """The job's own directories: no rights from their files, no devices, no way up from them or below them."""
    for top in tops:
        flags = os.statvfs(top).f_flag
        attempt(f"set-id {top}", lambda flags=flags: None if not flags & os.ST_NOSUID else refuse(errno.EPERM))
        attempt(f"device {top}", lambda flags=flags: None if not flags & os.ST_NODEV else refuse(errno.EPERM))
        attempt(f"mknod {top}", lambda top=top: os.mknod(f"{top}/node", stat.S_IFBLK | 0o666, os.makedev(7, 0)))
        for above in ("state", "job.json", "../job-2", "data/../../job-2"):
            attempt(f"{above} of {top}", lambda top=top, above=above: os.stat(f"{top}/../{above}"))
        attempt(f"umount {top}", lambda top=top: unmount(top))
        attempt(f"move {top}", lambda top=top: mount(top, "/tmp", MS_MOVE))
        attempt(f"link {top}", lambda top=top: os.link(f"{top}/../public/imagenet/train.txt", f"{top}/linked"))
    raised = subprocess.run([program], stdout=subprocess.PIPE, text=True, check=False).stdout.split()
    met["set-id program"] = f"{raised[0] == str(os.getuid())}"


def refuse(number: int) -> None:
    raise OSError(number, os.strerror(number))


def keeper(number: str) -> None:
    """The process between this job and stager."""
    for name in ("SIGSTOP", "SIGTERM", "SIGKILL"):
        attempt(name, lambda name=name: os.kill(int(number), getattr(signal, name)))


def escape(target: str) -> None:
    """The classic way out of a chroot, then a write where the original lies on the host."""
    cell = tempfile.mkdtemp()
    outside = os.open("/", os.O_RDONLY)

    def leave() -> None:
        os.chroot(cell)
        os.fchdir(outside)
        for _ in range(64):
            os.chdir("..")
        os.chroot(".")
        write(target)

    attempt("chroot", leave)
    with contextlib.suppress(OSError):
        os.rmdir(cell)


def controls(*paths: str) -> None:
    """Files of the kernel that change the node."""
    for path in paths:
        attempt(path, lambda path=path: os.close(os.open(path, os.O_WRONLY)))


def later(public: str, original: str) -> None:
    """Wait for the host to mount something below the public data, then write there."""
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    for top in (public, original):
        attempt(f"later {top}", lambda top=top: os.close(os.open(f"{top}/later/new", os.O_CREAT | os.O_WRONLY)))


def main() -> None:
    arguments = sys.argv[1:]
    if arguments[0] == "nested":
        nest()
        arguments.pop(0)
    if arguments[0] == "waiting":
        sys.stdout.write(f"{os.getppid()}\n")
        sys.stdout.flush()
        sys.stdin.readline()
        arguments.pop(0)
    while arguments:
        end = arguments.index("+") if "+" in arguments else len(arguments)
        globals()[arguments[0]](*arguments[1:end])
        arguments = arguments[end + 1 :]
    sys.stdout.write(json.dumps(met) + "\n")


main()
