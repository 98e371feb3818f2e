"""Who holds something: told from every other process, and dead only when that is certain."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import msgspec
import pytest

from stager.host.holders import Holder, Life
from stager.host.record import Record

USER = 12_345
LOOK = """
import os, sys
from stager.host.holders import Holder
import msgspec
Holder.of_self().state()  # what an ordinary user may not import
if len(sys.argv) > 2:
    os.setgroups([])
    os.setresgid(*3 * [int(sys.argv[2])])
    os.setresuid(*3 * [int(sys.argv[2])])
print(msgspec.json.decode(sys.argv[1], type=Holder).state())
"""
TELL = """
import msgspec, sys
from stager.host.holders import Holder
print(msgspec.json.encode(Holder.of_self()).decode(), flush=True)
sys.stdin.read()
"""
IN_A_NAMESPACE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as child:
        yield child
        child.kill()


def look(holder: Holder, *before: str, uid: int | None = None) -> str:
    """What another process, started by ``before``, says of it."""
    argv = [*before, sys.executable, "-c", LOOK, msgspec.json.encode(holder).decode(), *([str(uid)] if uid else [])]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()


def await_end(holder: Holder) -> None:
    """The kernel ends a namespace with its first process, a little later."""
    deadline_s = time.monotonic() + 10
    while holder.state() is Life.ALIVE and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert holder.state() is Life.DEAD


def test_process_lives_until_it_ends_or_its_number_is_anothers(sleeper: subprocess.Popen[bytes]) -> None:
    assert Holder.of_self().state() is Life.ALIVE
    holder = Holder.of(sleeper.pid)
    assert holder.state() is Life.ALIVE
    assert msgspec.structs.replace(holder, start=holder.start + 1).state() is Life.DEAD
    assert msgspec.structs.replace(holder, boot="another").state() is Life.DEAD
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert holder.state() is Life.DEAD  # a zombie has ended
    sleeper.wait()
    assert holder.state() is Life.DEAD


def test_what_nobody_can_have_written_is_no_error() -> None:
    me = Holder.of_self()
    for pid in (0, -1, 1 << 30, 1 << 62):
        assert msgspec.structs.replace(me, pid=pid).state() is Life.DEAD
    for strange in ({"pid_ns": 1 << 63}, {"boot": ""}, {"start": 0}, {"time_ns": 7}):
        assert msgspec.structs.replace(me, **strange).state() in (Life.UNKNOWN, Life.DEAD)
    assert msgspec.structs.replace(me, start=0).state() is Life.UNKNOWN


def test_record_from_before_namespaces_were_noted_is_read() -> None:
    me = json.loads(msgspec.json.encode(Holder.of_self()))
    owner = {name: me[name] for name in ("boot", "pid", "start", "uid")}
    text = json.dumps({"id": "7", "name": "n", "state": "running", "owner": owner, "times": {}})
    record = msgspec.json.decode(text, type=Record)
    assert record.is_active()
    owner["start"] = 1
    assert not msgspec.structs.replace(record, owner=msgspec.convert(owner, Holder)).is_active()


@pytest.mark.root
def test_other_pid_namespace_is_unknown_unless_it_is_seen(sleeper: subprocess.Popen[bytes]) -> None:
    """From inside one sees nothing of the outside; the outside sees it all, unless it is hidden."""
    holder = Holder.of(sleeper.pid)
    assert look(holder) == "alive"
    assert look(holder, *IN_A_NAMESPACE) == "unknown"
    assert look(holder, "unshare", "--pid", "--fork") == "alive"  # with the /proc of the namespace above
    argv = [*IN_A_NAMESPACE, sys.executable, "-c", TELL]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as inner:
        assert inner.stdout is not None
        inside = msgspec.json.decode(inner.stdout.readline(), type=Holder)
        assert inside.pid == 1
        assert inside.state() is Life.ALIVE
        assert look(inside, *IN_A_NAMESPACE) == "unknown"
        assert msgspec.structs.replace(inside, pid=2).state() is Life.DEAD
        inner.kill()
        await_end(inside)
    assert look(inside, *IN_A_NAMESPACE) == "unknown"


@pytest.mark.root
def test_hidden_processes_are_unknown_and_ended_ones_dead(sleeper: subprocess.Popen[bytes]) -> None:
    hidden = ("unshare", "--mount", "sh", "-c", 'mount -t proc -o hidepid=2 proc /proc && exec "$0" "$@"')
    holder = Holder.of(sleeper.pid)
    elsewhere = msgspec.structs.replace(holder, pid_ns=1, start=holder.start + 1)
    assert look(holder, uid=USER) == "alive"
    assert look(elsewhere, uid=USER) == "dead"
    assert look(holder, *hidden, uid=USER) == "unknown"
    assert look(elsewhere, *hidden, uid=USER) == "unknown"
    sleeper.kill()
    sleeper.wait()
    assert look(holder, *hidden, uid=USER) == "dead"
