"""What a hostile job tries. Runs inside the view; prints, for each attempt, the errno it met or "done".

With ``nested`` as the first argument everything is tried in a user and mount namespace made by the job itself,
where it has every capability.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import stat
import sys
import tempfile
from collections.abc import Callable

LIBC = ctypes.CDLL(None, use_errno=True)
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_MOVE, MS_PRIVATE = 1, 32, 4096, 16384, 8192, 1 << 18
MNT_DETACH = 2
NEWNS, NEWUSER = 0x20000, 0x10000000
MOUNT_SETATTR = 442
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
    globals()[arguments[0]](*arguments[1:])
    sys.stdout.write(json.dumps(met) + "\n")


main()
