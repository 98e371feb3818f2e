"""When the command ends, or stager does, nothing of the job is left: no process, no mount; and no source is lost."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Iterator

import pytest

from integration.view_sandbox import Run, Sandbox, sandbox

pytestmark = pytest.mark.root

DAEMON = """
import os, signal, sys
done, ready = os.pipe()
if os.fork():
    os.close(ready)
    os.read(done, 1)
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
for number in (1, 2, 15):
    signal.signal(number, signal.SIG_IGN)
print(os.getpid(), flush=True)
open(sys.argv[1], "w").write("kept")
os.close(ready)
signal.pause()
"""

RUNNER = """
import os
print(os.getpid(), flush=True)
while True:
    if os.fork():
        os._exit(0)
    os.setsid()
"""

HEADLESS = """
import ctypes, os, signal, threading
if os.fork():
    os._exit(0)
os.setsid()
threading.Thread(target=signal.pause).start()
print(os.getpid(), flush=True)
os.close(1)
ctypes.CDLL(None).pthread_exit(None)
"""


@pytest.fixture(params=["root", "user"])
def box(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    with sandbox(request.param) as here:
        yield here


def wait_for_end(descriptors: list[int]) -> None:
    """Return when every process behind these pidfds has ended; the test's time limit is the limit."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    left = set(descriptors)
    while left:
        for descriptor, _ in poll.poll():
            poll.unregister(descriptor)
            os.close(descriptor)
            left.discard(descriptor)


@contextlib.contextmanager
def namespace_left_empty(pid: int) -> Iterator[list[int]]:
    """Yields the processes in the mount namespace of ``pid``; in the end there are none.

    The namespace is held open meanwhile: its number could be another's otherwise.
    """
    held = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY)
    try:
        yield members(held)
        assert members(held) == []
    finally:
        os.close(held)


def members(namespace: int) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if name.isdigit() and os.path.samestat(os.stat(f"/proc/{name}/ns/mnt"), os.fstat(namespace)):
                found.append(int(name))
    return found


def start_with_daemon(box: Sandbox) -> tuple[Run, int, int]:
    """A running job with a daemon of its own; the daemon's and the keeper's process ids."""
    script = f'{box.python} -I -S -c "$0" /data/lab/scans/daemon ; echo $PPID; exec cat'
    run = box.start("sh", "-c", script, DAEMON)
    return run, int(run.line()), int(run.line())


def test_daemon_of_the_job_ends_with_the_command(box: Sandbox) -> None:
    run, daemon, _ = start_with_daemon(box)
    with namespace_left_empty(daemon) as running:
        ends = [os.pidfd_open(pid) for pid in running]
        assert len(ends) >= 3
        assert run.finish().info["status"] == 0
        wait_for_end(ends)
    assert box.host("cat", f"{box.live}/daemon") == "kept"


def test_sigkill_of_stager_leaves_no_process_and_no_mount(box: Sandbox) -> None:
    before = box.host("cat", "/proc/self/mountinfo")
    run, daemon, _ = start_with_daemon(box)
    with namespace_left_empty(daemon) as running:
        ends = [os.pidfd_open(pid) for pid in running]
        assert len(ends) >= 3
        run.driver.kill()
        wait_for_end(ends)
    run.driver.communicate()
    assert box.host("cat", "/proc/self/mountinfo") == before
    assert box.host("cat", f"{box.live}/daemon") == "kept"


def test_process_that_forks_away_all_the_time_is_caught(box: Sandbox) -> None:
    run = box.start("sh", "-c", f'{box.python} -I -S -c "$0" & read line', RUNNER)
    run.line()
    with namespace_left_empty(keeper_of(run)):
        run.say()
        assert run.finish().info["status"] == 0


def keeper_of(run: Run) -> int:
    """The only child of the driver."""
    (keeper,) = (int(name) for name in os.listdir("/proc") if name.isdigit() and parent_of(name) == run.driver.pid)
    return keeper


def parent_of(pid: str) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except OSError:
        return 0


def test_cancelled_run_ends_the_job(box: Sandbox) -> None:
    box.host("mkfifo", "-m", "666", f"{box.live}/now")
    script = f'{box.python} -I -S -c "$0" /data/lab/scans/daemon; read line; exec sleep 600 > /data/lab/scans/now'
    run = box.start("sh", "-c", script, DAEMON, cancel_fifo=f"{box.live}/now")
    ends = [os.pidfd_open(int(run.line()))]
    run.say()
    assert run.finish().info == {"cancelled": True}
    wait_for_end(ends)


def test_job_that_kills_its_keeper_ends_with_it(box: Sandbox) -> None:
    script = f'{box.python} -I -S -c "$0" /data/lab/scans/daemon ; read line; kill -KILL $PPID; exec cat'
    run = box.start("sh", "-c", script, DAEMON)
    daemon = int(run.line())
    with namespace_left_empty(daemon):
        run.say()
        assert run.finish().info["error"] == "MountError"


def test_daemon_in_namespaces_of_its_own_ends_although_its_keeper_was_killed(box: Sandbox) -> None:
    inner = f'unshare -Um {box.python} -I -S -c "$0" /data/lab/scans/daemon'
    run = box.start("sh", "-c", f"{inner}; read line; kill -KILL $PPID; exec cat", DAEMON)
    end = os.pidfd_open(int(run.line()))
    run.say()
    assert run.finish().info["error"] == "MountError"
    wait_for_end([end])


def test_process_whose_first_thread_has_ended_ends_although_its_keeper_was_killed(box: Sandbox) -> None:
    run = box.start("sh", "-c", f'{box.python} -I -S -c "$0"; read line; kill -KILL $PPID; exec cat', HEADLESS)
    end = os.pidfd_open(int(run.line()))
    run.say()
    assert run.finish().info["error"] == "MountError"
    wait_for_end([end])


def test_keeper_that_its_job_has_stopped_goes_on(box: Sandbox) -> None:
    assert box.run("sh", "-c", "kill -STOP $PPID; exit 3").info["status"] == 3


def test_signal_reaches_a_job_that_has_stopped_its_keeper(box: Sandbox) -> None:
    run = box.start("sh", "-c", "trap 'exit 5' TERM; kill -STOP $PPID; echo here; while :; do read line; done")
    assert run.line() == "here"
    run.driver.send_signal(signal.SIGTERM)
    run.drain()
    assert run.finish().info["status"] == 5


def test_stopped_keeper_ends_its_job_when_stager_is_killed(box: Sandbox) -> None:
    script = f'{box.python} -I -S -c "$0" /data/lab/scans/daemon; echo $PPID; kill -STOP $PPID; kill -KILL $1; exec cat'
    run = box.start("sh", "-c", script.replace("$1", "$(cut -d' ' -f4 /proc/$PPID/stat)"), DAEMON)
    for _ in ("daemon", "keeper"):
        with contextlib.suppress(ProcessLookupError):  # it has ended already
            wait_for_end([os.pidfd_open(int(run.line()))])
    run.driver.communicate()


def test_signals_to_the_keeper_do_not_stop_it(box: Sandbox) -> None:
    numbers = sorted({1, 2, 3, 10, 12, 14, 15} | {signal.SIGPIPE, signal.SIGCHLD})
    script = "; ".join(f"kill -{int(number)} $PPID" for number in numbers)
    assert box.run("sh", "-c", script).info["status"] == 0


def test_end_of_output_comes_with_the_end_of_the_job(box: Sandbox) -> None:
    run = box.start("sh", "-c", "echo last; exec >/dev/null 2>&1; exec cat")
    assert run.line() == "last"
    run.say()
    assert run.finish().info["status"] == 0
