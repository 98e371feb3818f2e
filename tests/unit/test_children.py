"""A program as a child of the event loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

import pytest
import uvloop

from stager.host import children
from stager.host.children import Child


@pytest.mark.parametrize("new_loop", [uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
def test_pipes_of_a_child_are_closed_once_whoever_opens_files_meanwhile(
    new_loop: Callable[[], asyncio.AbstractEventLoop], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A descriptor that is closed twice is somebody else's the second time."""
    close, opened = children._PipeEnd.close, list[int]()

    def open_and_close(end: children._PipeEnd) -> None:
        try:
            os.fstat(end.fileno())
        except OSError:  # the loop has closed it, so it is the number of the next file
            null = os.open(os.devnull, os.O_RDONLY)
            opened.append(end.fileno() if null == end.fileno() else os.dup2(null, end.fileno()))
            if null != end.fileno():
                os.close(null)
        close(end)

    monkeypatch.setattr(children._PipeEnd, "close", open_and_close)

    async def have_a_child() -> None:
        async with await Child.start(["true"], {}, cwd="/", stdin=True) as child:
            await child.stdout.read()
            assert await child.wait() == 0

    def count_after_a_run() -> int:
        opened.clear()
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(have_a_child())
        return len(os.listdir("/proc/self/fd")) - len(opened)

    first = count_after_a_run()  # loops keep descriptors of their own from the first one on
    for descriptor in opened:
        os.close(descriptor)
    assert count_after_a_run() == first
    assert len(opened) == (3 if new_loop is uvloop.new_event_loop else 0)
    for descriptor in opened:
        os.close(descriptor)  # OSError: somebody has
