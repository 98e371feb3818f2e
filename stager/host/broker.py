"""Root's part of a stager that acts for a user: it starts that stager as the user, and keepers of views for it.

``run_as`` forks at once. The child becomes the user for good and executes the ordinary command; this process keeps
root's rights and does three things: it passes signals on, it starts `stager.host.principal_keeper` when its child asks,
and it ends what it started when its child ends. The child is the user's, and so is whatever it sends: of a question
only its kind, the descriptors beside it and the number of a keeper of its own are taken. Who the user is and what the
site allows, the keeper has from here.

A keeper lives as long as this process: it holds one end of a pipe whose other end is nowhere but here.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any, Final, NamedTuple, NoReturn

from stager.errors import HostError, MountError, StagerError
from stager.host import namespaces, procs, syscalls
from stager.host.broker_register import Noted, find_keeper, forget_keeper, note_keeper
from stager.host.brokered import MOST_BYTES, MOST_DESCRIPTORS
from stager.host.launch import PACKAGE_PARENT, give_up, start_module
from stager.host.namespaces import KINDS
from stager.host.principal import Principal, be_ordinary, become, environment_of
from stager.host.principal_keeper import Terms
from stager.host.rights import JoinRequest
from stager.host.site import site_principals, site_storage

__all__ = ["run_as"]

_PASSED_ON: Final = (
    signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2,
)  # fmt: skip
_BOOT: Final = (
    "import sys; sys.path.insert(0, sys.argv[1]); from stager.host import brokered; "
    "brokered.connect(int(sys.argv[2])); from stager.cli import main; sys.exit(main(sys.argv[3:]))"
)
_STREAMS: Final = 4  # a keeper's socket, then its standard streams
_MOST_KEEPERS: Final = 8
_CONTEXT: Final = "/memfd:context"  # as stager.host.keeper makes it
_END_WITHIN_S: Final = 15.0  # a keeper allows its job 10


def run_as(principal: Principal, arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run ``stager ARGUMENTS`` as the user, and return its exit code, 128 + n when signal n ended it.

    This process has one thread, and is root. Raises `HostError`. Blocks until the command and its job have ended.
    """
    site, shared = site_principals(), site_storage().shared
    environment = environment_of(principal, environ)
    be_ordinary()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    failed, report = os.pipe()
    signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)
    parent, child = os.getpid(), os.fork()
    if child == 0:
        _become_stager(principal, arguments, environment, theirs.fileno(), report, parent)
    theirs.close()
    os.close(report)
    with os.fdopen(failed, "rb") as reports:
        if problem := reports.read():
            os.waitpid(child, 0)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)
            what, where, hint = json.loads(problem)
            raise HostError(what, where=where, hint=hint)
    terms: Terms = {
        "uid": principal.uid, "gid": principal.gid, "groups": list(principal.groups),
        "binds": list(site.allowed_binds), "public": list(site.allowed_public),
        "shared": [shared] if shared else [], "namespace": None, "joined": None,
    }  # fmt: skip
    return _Broker(child, ours, terms).serve()


def _become_stager(
    principal: Principal, arguments: Sequence[str], environment: dict[str, str], channel: int, report: int, parent: int
) -> NoReturn:
    """The forked child. It only returns by ending."""
    try:
        try:
            _close_all_but(channel, report)
            os.set_inheritable(channel, True)
            become(principal)
            os.stat(os.path.join(PACKAGE_PARENT, "stager", "cli", "__init__.py"))
            syscalls.signal_at_parents_end(signal.SIGTERM)
            if os.getppid() != parent:
                os._exit(HostError.exit_code)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)
            argv = [sys.executable, "-I", "-c", _BOOT, PACKAGE_PARENT, str(channel), *arguments]
            os.execve(sys.executable, argv, environment)  # noqa: S606  (no shell: that is the point)
        except OSError as error:
            raise HostError(
                f"{principal.name} cannot execute it: {error.strerror}", where=str(error.filename or sys.executable),
                hint="install stager where every user can read it",
            ) from error
    except StagerError as error:
        os.write(report, json.dumps([error.what, error.where, error.hint]).encode())
    finally:
        os._exit(HostError.exit_code)


def _close_all_but(*kept: int) -> None:
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) not in kept:
            with suppress(OSError):  # the listing's own
                os.close(int(name))


class _Kept(NamedTuple):
    """A keeper: what ends it when closed, and the user namespace of its job."""

    process: subprocess.Popen[bytes]
    leash: int
    namespace: int | None


class _Broker:
    def __init__(self, child: int, channel: socket.socket, terms: Terms) -> None:
        self._child = child
        self._channel: socket.socket | None = channel
        self._terms = terms
        self._keepers: dict[int, _Kept] = {}

    def serve(self) -> int:
        """Until the child has ended; then no keeper and no job is left. Its exit code."""
        awake, wake = socket.socketpair()
        wake.setblocking(False)
        pending: list[int] = []
        before = signal.set_wakeup_fd(wake.fileno())
        old = {number: signal.signal(number, lambda n, _: pending.append(n)) for number in _PASSED_ON}
        old[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)
        try:
            return self._serve(awake, pending)
        finally:
            self._end_all()
            for number, handler in old.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)
            signal.set_wakeup_fd(before)
            awake.close()
            wake.close()

    def _serve(self, awake: socket.socket, pending: list[int]) -> int:
        while True:
            pid, status = os.waitpid(self._child, os.WNOHANG)
            if pid:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
            while pending:
                os.kill(self._child, pending.pop(0))  # not yet waited for: the number is still the child's
            for number, kept in list(self._keepers.items()):
                if kept.process.poll() is not None:
                    self._end(number)
            self._wait(awake)

    def _wait(self, awake: socket.socket) -> None:
        poll = select.poll()
        poll.register(awake, select.POLLIN)
        if self._channel is not None:
            poll.register(self._channel, select.POLLIN)
        for descriptor, _ in poll.poll():
            if descriptor == awake.fileno():
                awake.recv(4096)
            else:
                self._answer()

    def _answer(self) -> None:
        assert self._channel is not None
        descriptors: list[int] = []
        try:
            data, descriptors, flags, _ = socket.recv_fds(
                self._channel, MOST_BYTES, MOST_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
            )
            if not data or flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                self._hang_up()
                return
            self._do(json.loads(data), descriptors)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            self._hang_up()  # nothing of ours sends that
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _hang_up(self) -> None:
        """The end of the child's questions, not of the child."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def _do(self, question: dict[str, Any], descriptors: Sequence[int]) -> None:
        try:
            if question["do"] == "end":
                if question["keeper"] in self._keepers:
                    self._end(question["keeper"])
                self._say({"done": True}, [])
            elif question["do"] == "context":
                self._tell_context(int(question["keeper"]), int(question["descriptor"]))
            elif question["do"] in ("keep", "join") and len(descriptors) >= _STREAMS:
                self._keep(descriptors, int(question["keeper"]) if question["do"] == "join" else None)
            else:
                raise ValueError
        except (OSError, StagerError) as error:
            self._say({"failed": (str(error), "root's part of stager", "look at the node")}, [])

    def _keep(self, descriptors: Sequence[int], joins: int | None) -> None:
        if len(self._keepers) >= _MOST_KEEPERS:
            raise MountError("too many views at once")
        with ExitStack() as opened:
            joined = None if joins is None else self._open_keeper(joins, opened)
            kept = self._start(descriptors, joined)
            self._keepers[kept.process.pid] = kept
            pidfd = os.pidfd_open(kept.process.pid)
            opened.callback(os.close, pidfd)
            self._say({"pid": kept.process.pid}, [pidfd])

    def _noted(self, keeper: int) -> Noted:
        noted = find_keeper(keeper, uid=self._terms["uid"])
        if noted is None:
            raise MountError("root keeps no such view for this user")
        return noted

    def _open_keeper(self, number: int, opened: ExitStack) -> JoinRequest:
        """The view of a keeper that root has started for the same user. OSError; `MountError`: it is none, or gone.

        Opened first, then known to live still: so all of it is its.
        """

        def hold(descriptor: int) -> int:
            opened.callback(os.close, descriptor)
            return descriptor

        noted = self._noted(number)
        process = hold(os.pidfd_open(number))
        found = {kind: hold(os.open(f"/proc/{number}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)) for kind in KINDS}
        job = None
        if noted.namespace is not None:
            job = hold(os.open(f"/proc/{number}/fd/{noted.namespace}", os.O_RDONLY | os.O_CLOEXEC))
        if self._noted(number) != noted or select.select([process], [], [], 0)[0]:
            raise MountError("the view has ended")
        return {"namespaces": found, "job": job, "keeper": process}

    def _tell_context(self, keeper: int, number: int) -> None:
        """What the user's own stager left there for those who join: memory of that name, nothing else of a keeper's.

        OSError; `MountError`.
        """
        self._noted(keeper)
        descriptor = os.open(f"/proc/{keeper}/fd/{number}", os.O_PATH | os.O_CLOEXEC)
        try:
            if not os.readlink(f"/proc/self/fd/{descriptor}").startswith(_CONTEXT):
                raise MountError("that is not what a keeper tells")
            context = os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            os.close(descriptor)
        try:
            self._say({"done": True}, [context])
        finally:
            os.close(context)

    def _say(self, answer: dict[str, Any], descriptors: list[int]) -> None:
        if self._channel is not None:
            socket.send_fds(self._channel, [json.dumps(answer).encode()], descriptors, socket.MSG_DONTWAIT)

    def _start(self, descriptors: Sequence[int], joined: JoinRequest | None) -> _Kept:
        channel, stdin, stdout, stderr, *uses = descriptors
        namespace = _job_namespace() if joined is None else None
        also = [] if namespace is None else [namespace]
        if joined is not None:
            of_job = [] if joined["job"] is None else [joined["job"]]
            also = [*joined["namespaces"].values(), joined["keeper"], *of_job]
        held, leash = os.pipe()
        try:
            numbers = (*uses, channel, held)
            terms: Terms = {**self._terms, "namespace": namespace, "joined": joined}
            process = start_module(
                "stager.host.principal_keeper", json.dumps(terms), *map(str, numbers),
                pass_fds=(*numbers, *also),
                stdin=stdin, stdout=stdout, stderr=stderr,
            )  # fmt: skip
        except BaseException:
            os.close(leash)
            if namespace is not None:
                os.close(namespace)
            raise
        finally:
            os.close(held)
        if joined is None:
            note_keeper(process.pid, uid=self._terms["uid"], namespace=namespace)
        return _Kept(process, leash, namespace)

    def _end(self, number: int) -> None:
        """Of a keeper: it ends its job first; what is left then is killed. Never raises."""
        process, leash, namespace = self._keepers.pop(number)
        forget_keeper(number)
        os.close(leash)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_END_WITHIN_S)
        if process.returncode is None:
            give_up(process)
        if namespace is not None:
            procs.end_user_namespace(namespace)
            os.close(namespace)

    def _end_all(self) -> None:
        self._hang_up()
        for number in list(self._keepers):
            self._end(number)


def _job_namespace() -> int | None:
    """For the job of a user: every id as it is, and nothing outside that its processes could trace or enter.

    None where even root may make none: the job is confined by `stager.host.landlock` then.
    """
    try:
        return namespaces.make_job_namespace()
    except MountError:
        return None
