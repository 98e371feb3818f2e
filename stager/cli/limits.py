"""How much a command may take of the node, of the network and of the server, within what the site allows."""

from __future__ import annotations

import resource
from collections.abc import Callable
from typing import Any, Final

import click

from stager.amounts import parse_bytes, show_bytes
from stager.cli.figure import Figure
from stager.cli.text import size
from stager.config import LEAST_MEMORY_BYTES, Limits, SiteLimits, buffer_bytes_for
from stager.errors import HostError, UsageError
from stager.host import site
from stager.host.memory import available_bytes

__all__ = ["chosen_limits", "limit_options", "show_limits"]

Command = Callable[..., Any]

_LEAST_BANDWIDTH: Final = 1 << 10
_OTHER_DESCRIPTORS: Final = 512  # csrc/engine.h says for what, beside the connections; half where less may be open
_LEAST_DESCRIPTORS: Final = 64
_FEW: Final = 8
_OPTIONS: Final = {
    "max_connections": "--max-connections",
    "max_bandwidth": "--max-bandwidth",
    "max_requests_per_second": "--max-requests-per-second",
    "memory_bytes": "--memory",
}


def _amount(least: int) -> Callable[[click.Context, click.Parameter, str | None], int | None]:
    def read(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int | None:
        if value is None:
            return None
        try:
            amount = parse_bytes(value)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None
        if amount < least:
            raise click.BadParameter(f"{value} is too little: the least that works is {show_bytes(least)}")
        return amount

    return read


def limit_options(command: Command) -> Command:
    """Add the limits; `chosen_limits` makes a value of them."""
    for option in (
        click.option("--memory", "memory_bytes", callback=_amount(LEAST_MEMORY_BYTES), metavar="SIZE",
                     help=f"Memory for what is being received, at least {show_bytes(LEAST_MEMORY_BYTES)}. "
                     f"[default: {show_bytes(Limits().memory_bytes)}]"),
        click.option("--max-requests-per-second", type=Figure(0.1, 1e6), metavar="N",
                     help="Requests for data and listings, over all sources. [default: what the server takes]"),
        click.option("--max-bandwidth", callback=_amount(_LEAST_BANDWIDTH), metavar="RATE",
                     help="Bytes a second, over all sources: 500K, 80M, 1.5G (powers of 1024). [default: no limit]"),
        click.option("--max-connections", "--connections", type=click.IntRange(1, 1024), metavar="N",
                     help=f"Connections at once, over all sources. [default: as many as help, at most "
                     f"{Limits().max_connections}]"),
    ):
        command = option(command)
    return command


def chosen_limits(options: dict[str, Any]) -> Limits:
    """Take `limit_options` out of a command's arguments.

    What is asked for is had exactly or refused: raises `UsageError` for what the site or this node does not allow, and
    `HostError` for a site's configuration that cannot be believed, or a process that may open too few files.
    """
    allowed, usual = site.site_limits(), Limits()
    asked = {name: options.pop(name) for name in _OPTIONS}
    for name, value in asked.items():
        most = getattr(allowed, name)
        if value is not None and most is not None and value > most:
            raise UsageError(
                f"{_show(name, value)} is more than this site allows, {_show(name, most)}", where=_OPTIONS[name],
                hint=f"ask for less; the limit stands in {site.SITE_FILE}",
            )  # fmt: skip
    memory = asked["memory_bytes"] or _lower(usual.memory_bytes, allowed.memory_bytes)
    _check_memory(asked["memory_bytes"])
    return Limits(
        max_connections=_connections(asked["max_connections"], allowed),
        max_bandwidth=asked["max_bandwidth"] or allowed.max_bandwidth or 0,
        max_requests_per_second=asked["max_requests_per_second"] or allowed.max_requests_per_second or 0.0,
        memory_bytes=memory,
        buffer_bytes=buffer_bytes_for(memory),
    )


def show_limits(limits: SiteLimits) -> str:
    """What the site allows, for people."""
    named = [(option, name, getattr(limits, name)) for name, option in _OPTIONS.items()]
    return ", ".join(f"{option} {_show(name, most)}" for option, name, most in named if most is not None) or "none"


def _show(name: str, value: float) -> str:
    return show_bytes(int(value)) if name in ("max_bandwidth", "memory_bytes") else f"{value:g}"


def _lower(usual: int, most: int | None) -> int:
    return usual if most is None else min(usual, most)


def _connections(asked: int | None, allowed: SiteLimits) -> int:
    """Descriptors bound them too: one that cannot be opened would end the transfer."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < _LEAST_DESCRIPTORS:
        raise HostError(
            f"this process may open {soft} files, and {_LEAST_DESCRIPTORS} are the least that works",
            hint="raise the limit with ulimit -n",
        )
    room = 1024 if soft == resource.RLIM_INFINITY else soft - min(_OTHER_DESCRIPTORS, soft // 2)
    if asked is None:
        return _lower(max(min(Limits().max_connections, room // 2), _FEW), allowed.max_connections)
    if asked > max(room, _FEW):
        raise UsageError(
            f"{asked} connections are more than this process may open: {soft} files in all",
            where="--max-connections", hint=f"ask for at most {max(room, _FEW)}, or raise the limit with ulimit -n",
        )  # fmt: skip
    return asked


def _check_memory(asked: int | None) -> None:
    there = available_bytes()
    if asked is not None and there and asked > there:
        raise UsageError(
            f"{show_bytes(asked)} is more memory than this node has left for stager, {size(there)}",
            where="--memory", hint="ask for less",
        )  # fmt: skip
