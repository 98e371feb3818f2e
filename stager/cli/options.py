"""Options that several commands share, and the running of their asynchronous work."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final, TypeVar

import click
import uvloop

from stager._native import hide_memory
from stager.cli.figure import Figure
from stager.cli.limits import chosen_limits, limit_options
from stager.cli.render import write
from stager.cli.state import State
from stager.config import ACCOUNT, Integrity, Limits, Remote, Retry, Timeouts
from stager.errors import UsageError
from stager.host.proxies import check_proxy_setting
from stager.host.signals import receive

__all__ = [
    "InterruptedBySignal",
    "common",
    "integrity_of",
    "integrity_options",
    "limits_of",
    "remote_of",
    "remote_options",
    "run_async",
    "speed_options",
]

T = TypeVar("T")
Command = Callable[..., Any]

_END_WITHIN_S: Final = 0.9


class InterruptedBySignal(SystemExit):
    """Ended by SIGINT or SIGTERM; the exit code is 128 + the signal's number."""


def common(command: Command) -> Command:
    """Add ``--json``, ``-q`` and ``-v``; their values are in the context's `State`."""

    def put(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
        def store(ctx: click.Context, _: click.Parameter, value: Any) -> None:
            setattr(ctx.ensure_object(State), name, value)

        return store

    for option in (
        click.option("-v", "--verbose", count=True, expose_value=False, callback=put("verbosity"),
                     help="Say more; -vv adds a traceback to errors."),
        click.option("-q", "--quiet", is_flag=True, expose_value=False, callback=put("quiet"),
                     help="Say nothing but errors."),
        click.option("--json", is_flag=True, expose_value=False, callback=put("json"),
                     help="One JSON object a line on stdout."),
    ):
        command = option(command)
    return command


def remote_options(command: Command) -> Command:
    """Add how an S3 endpoint is reached; `remote_of` makes a `Remote` of them."""
    for option in (
        click.option("--use-fips-endpoint", is_flag=True, help="Amazon's endpoints with FIPS 140 cryptography."),
        click.option("--use-dualstack-endpoint", is_flag=True, help="Amazon's endpoints for IPv6 and IPv4."),
        click.option("--sse-c-key-file", metavar="FILE", type=click.Path(),
                     help="The key of objects stored with SSE-C: 32 bytes, or base64 of them; private to you."),
        click.option("--expected-bucket-owner", metavar="ACCOUNT",
                     help="Fail when the bucket is not of this account, 12 digits."),
        click.option("--request-payer", is_flag=True, help="Pay for requests and transfer yourself."),
        click.option("--no-verify-ssl", is_flag=True, help="Accept any certificate. Unsafe."),
        click.option("--proxy", metavar="URL",
                     help='The HTTP proxy for S3 and git, or "none". [HTTPS_PROXY, HTTP_PROXY, NO_PROXY]'),
        click.option("--ca-bundle", metavar="FILE", help="Certificates to trust."),
        click.option("--addressing-style", type=click.Choice(["auto", "path", "virtual"]), default="auto",
                     show_default=True, help="Where an S3 URL names the bucket."),
        click.option("--listing-order", type=click.Choice(["auto", "byte-order", "unordered"]), default="auto",
                     show_default=True, help="What the S3 endpoint lists in; in byte order it is listed in parallel."),
        click.option("--no-sign-request", is_flag=True, help="Ask without credentials."),
        click.option("--region", metavar="NAME", help="The bucket's region."),
        click.option("--profile", metavar="NAME", help="The profile of the AWS configuration."),
        click.option("--endpoint-url", metavar="URL", help="The S3 endpoint, when it is not AWS."),
    ):
        command = option(command)
    return command


def remote_of(options: dict[str, Any]) -> Remote:
    """Take `remote_options` out of a command's arguments. Raises `UsageError`: no proxy, no account."""
    proxy = options.pop("proxy")
    if proxy is not None:
        check_proxy_setting(proxy, where="--proxy")
    owner = options.pop("expected_bucket_owner")
    if owner is not None and not ACCOUNT.fullmatch(owner):
        raise UsageError("is no account", where="--expected-bucket-owner", hint="write its 12 digits")
    return Remote(
        proxy=proxy,
        endpoint_url=options.pop("endpoint_url"),
        profile=options.pop("profile"),
        region=options.pop("region"),
        ca_bundle=options.pop("ca_bundle"),
        addressing_style=options.pop("addressing_style"),
        listing_order=options.pop("listing_order"),
        sign_requests=not options.pop("no_sign_request"),
        verify_ssl=not options.pop("no_verify_ssl"),
        use_dualstack_endpoint=options.pop("use_dualstack_endpoint") or None,
        use_fips_endpoint=options.pop("use_fips_endpoint") or None,
        request_payer=options.pop("request_payer"),
        expected_bucket_owner=owner,
        sse_c_key_file=options.pop("sse_c_key_file"),
    )


def integrity_options(command: Command) -> Command:
    """Add what is compared and required of a source's digests; `integrity_of` makes an `Integrity` of them."""
    for option in (
        click.option("--integrity", type=click.Choice(["light", "standard", "strict"]), default="standard",
                     show_default=True, help="What is compared: checksums that a server announces (light), and ETags "
                                             "that are an MD5 (standard), and those of parts (strict)."),
        click.option("--require-integrity", type=click.Choice(["A", "B"]), help="Stage nothing of a lower grade."),
    ):
        command = option(command)
    return command


def integrity_of(options: dict[str, Any]) -> Integrity:
    """Take `integrity_options` out of a command's arguments."""
    return Integrity(level=options.pop("integrity"), require=options.pop("require_integrity"))


def speed_options(command: Command) -> Command:
    """Add how hard to try, and `limit_options`; `limits_of` makes values of them."""
    for option in (
        click.option("--stall-timeout", type=Figure(0.1, 86400.0), default=Timeouts().stall_s, metavar="SECONDS",
                     show_default=True, help="Give a connection up after this long without progress."),
        click.option("--retries", type=click.IntRange(min=1), default=Retry().attempts, metavar="N",
                     show_default=True, help="Attempts for each part of the data."),
    ):
        command = option(command)
    return limit_options(command)


def limits_of(options: dict[str, Any]) -> tuple[Limits, Timeouts, Retry]:
    """Take `speed_options` out of a command's arguments. Raises what `chosen_limits` raises."""
    return (
        chosen_limits(options),
        Timeouts(stall_s=options.pop("stall_timeout")),
        Retry(attempts=options.pop("retries")),
    )


def run_async(
    work: Coroutine[Any, Any, T],
    *,
    how_to_continue: str | Callable[[], str],
    at_end: Callable[[int], None] = lambda _: None,
) -> T:
    """Run on a new loop. SIGINT and SIGTERM cancel ``work`` and end the process within a second;
    a second one changes nothing.

    Raises what ``work`` raises, and `InterruptedBySignal` after saying ``how_to_continue``. ``at_end`` is called with
    the exit code before a process whose work does not stop in time is ended.
    """
    hide_memory()  # credentials are in the environment already; a job has this process's user
    received: list[int] = []
    deadlines: list[threading.Timer] = []

    def end_now() -> None:
        _say_interrupted(received[0], how_to_continue)
        at_end(128 + received[0])
        os._exit(128 + received[0])

    async def guarded() -> T:
        def stop(number: int) -> None:
            if received:  # timeout(1) sends it twice; to end sooner would leave temporary files behind
                return
            received.append(number)
            deadline = threading.Timer(_END_WITHIN_S, end_now)  # a thread may be inside a call that does not return
            deadline.daemon = True
            deadline.start()
            deadlines.append(deadline)
            task.cancel()

        with receive({number: partial(stop, number) for number in (signal.SIGINT, signal.SIGTERM)}):
            task = asyncio.ensure_future(work)
            return await task

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(guarded())
    except asyncio.CancelledError:
        if not received:
            raise
        _say_interrupted(received[0], how_to_continue)
        raise InterruptedBySignal(128 + received[0]) from None
    finally:
        for deadline in deadlines:
            deadline.cancel()


def _say_interrupted(number: int, how_to_continue: str | Callable[[], str]) -> None:
    if sys.stderr.isatty():
        sys.stderr.write("\x1b[?25h")  # shows the cursor that a bar has hidden
    what = how_to_continue if isinstance(how_to_continue, str) else how_to_continue()
    write(sys.stderr, f"stager: ended by {signal.Signals(number).name}; {what}")
