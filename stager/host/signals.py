"""Who is told of a signal while an event loop runs: the innermost receiver, and at its end the one around it again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

__all__ = ["heard_s", "receive"]

_Handlers = Mapping[int, Callable[[], object]]
_NOBODY: Final[_Handlers] = {}
_heard: dict[int, float] = {}
_receiving: ContextVar[_Handlers] = ContextVar("receiving", default=_NOBODY)


@contextmanager
def receive(handlers: _Handlers) -> Iterator[None]:
    """Call a signal's handler on the running loop when it comes; on the main thread, and in tasks made inside."""
    loop = asyncio.get_running_loop()
    outer = _receiving.get()
    for number, handler in handlers.items():
        loop.add_signal_handler(number, _hear, number, handler)
    before = _receiving.set({**outer, **handlers})
    try:
        yield
    finally:
        _receiving.reset(before)
        for number in handlers:
            if number in outer:
                loop.add_signal_handler(number, _hear, number, outer[number])
            else:
                loop.remove_signal_handler(number)


def _hear(number: int, handler: Callable[[], object]) -> None:
    _heard.setdefault(number, time.monotonic())
    handler()


def heard_s(number: int) -> float | None:
    """When this signal came for the first time to whoever received it, on the monotonic clock; None: never."""
    return _heard.get(number)
