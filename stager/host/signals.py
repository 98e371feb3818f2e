"""Who is told of a signal while an event loop runs: the innermost receiver, and at its end the one around it again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

__all__ = ["receive"]

_Handlers = Mapping[int, Callable[[], object]]
_NOBODY: Final[_Handlers] = {}
_receiving: ContextVar[_Handlers] = ContextVar("receiving", default=_NOBODY)


@contextmanager
def receive(handlers: _Handlers) -> Iterator[None]:
    """Call a signal's handler on the running loop when it comes; on the main thread, and in tasks made inside."""
    loop = asyncio.get_running_loop()
    outer = _receiving.get()
    for number, handler in handlers.items():
        loop.add_signal_handler(number, handler)
    before = _receiving.set({**outer, **handlers})
    try:
        yield
    finally:
        _receiving.reset(before)
        for number in handlers:
            if number in outer:
                loop.add_signal_handler(number, outer[number])
            else:
                loop.remove_signal_handler(number)
