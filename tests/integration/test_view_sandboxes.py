"""Sandboxes that jobs bring along start inside the `host` view, and the node's character devices open in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from integration.view_sandbox import Sandbox, sandbox


@pytest.fixture(scope="module", params=["root", "user"])
def here(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    with sandbox(request.param) as made:
        yield made


INSIDE = """
test "$(id -u)" = "$0"
head -c 1 /dev/zero | od -An -c
echo job > /data/alice/mnist/new
echo job > /public/imagenet/new || echo closed
umount /public/imagenet || echo locked
"""


def test_bwrap_starts_in_the_view_and_devices_open(here: Sandbox) -> None:
    """A job of root cannot have a new /proc: controls of the kernel would be writable in it."""
    own_pids = ["--unshare-pid", "--proc", "/proc"] if here.uid else []
    bwrap = ["bwrap", "--unshare-user", *own_pids, "--bind", "/", "/", "--dev-bind", "/dev", "/dev"]
    done = here.run(*bwrap, "sh", "-c", INSIDE, str(here.uid))
    assert done.info.get("status") == 0, done.err
    assert done.out.split() == ["\\0", "closed", "locked"]
    assert here.host("cat", f"{here.job}/data/mnist/new") == "job\n"
    here.assert_untouched()
